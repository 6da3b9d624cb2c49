#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Store faults of programs that nearly fit, beside exact LRU's misses on a trace of the same program.

    refaults.py [--share 60,75,90] [--policy NAME,...] [PROGRAM ...]        programs: objects sort

Each program is traced once (quire-lab trace, needs Debian's qemu-user; kept in build/traces), then run under `quire run` with
a share of the pages that the trace names, 4% of it for the pool. LRU gets the other 96%. First
touches are left out on both sides, because the store serves none of them. A rescue is a page found
in memory by a test (docs/policies.md).
"""

import argparse
import json
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, os.environ.get("BUILD", "build"))
WORK = os.path.join(BUILD, "traces")
PAGE, POOL = 4096, 4


def lines():
    """A file for sort, the same on every machine: 400,000 lines of 32 digits."""
    path, x = os.path.join(WORK, "refaults.lines"), 1
    if not os.path.exists(path):
        with open(path + ".new", "w", encoding="ascii") as f:
            for _ in range(400000):
                x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
                f.write(f"{x * x % 16**32:032x}\n")
        os.rename(path + ".new", path)
    return path


def argv(name):
    if name == "objects":
        return ["/usr/bin/python3", os.path.join(TOP, "examples/objects.py"), "60000"]
    return ["/usr/bin/sort", "-S", "1G", "--parallel=1", "-o", "/dev/null", lines()]


def trace(name):
    path = os.path.join(WORK, f"refaults.{name}.trace")
    if not os.path.exists(path):
        subprocess.run([os.path.join(BUILD, "quire-lab"), "trace", "--output", path + ".new", "--", *argv(name)], check=True,
                       stdout=subprocess.DEVNULL)
        os.rename(path + ".new", path)
    return path


def lru(path, frames):
    """(pages that the trace names, misses of LRU beyond their first touches) for each number of frames."""
    out = subprocess.run([os.path.join(BUILD, "quire-lab"), "policies", "--frames", ",".join(map(str, frames)), "--policy", "lru",
                          path], check=True, capture_output=True, text=True).stdout
    pages = int(re.search(r"(\d+) pages", out).group(1))
    return pages, [int(n) - pages for n in out.splitlines()[-1].split()[1:]]


def hosted(name, memory, policy):
    report = os.path.join(WORK, "refaults.json")
    subprocess.run([os.path.join(BUILD, "quire"), "run", "--memory", f"{memory}K", "--pool", f"{POOL}%", "--policy", policy,
                    "--report", "json:" + report, "--", *argv(name)], check=True, stdout=subprocess.DEVNULL)
    with open(report, encoding="ascii") as f:
        found = json.dumps(json.load(f))
    return [int(re.search(rf'"{key}": (\d+)', found).group(1)) for key in ("faults_swap", "faults_rescue")]


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--share", default="60,75,90")
    args.add_argument("--policy", default="generations,clockpro,lru")
    args.add_argument("programs", nargs="*", default=["objects", "sort"])
    args = args.parse_args()
    os.makedirs(WORK, exist_ok=True)
    shares = [int(s) for s in args.share.split(",")]
    print(f"{'program':<9}{'share':>6} {'policy':<12}{'LRU':>8}{'store':>8}{'ratio':>7}{'rescues':>9}")
    for name in args.programs:
        path = trace(name)
        pages, _ = lru(path, [1000])
        memory = [pages * s // 100 * PAGE // 1024 for s in shares]
        _, best = lru(path, [m * 1024 * (100 - POOL) // 100 // PAGE for m in memory])
        for share, kib, misses in zip(shares, memory, best):
            for policy in args.policy.split(","):
                store, rescues = hosted(name, kib, policy)
                print(f"{name:<9}{share:>5}% {policy:<12}{misses:>8}{store:>8}{store / max(misses, 1):>7.2f}{rescues:>9}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
