# SPDX-License-Identifier: BSD-2-Clause
"""What Quire costs a program that fits: libquire's mappings, then whole programs under `quire run`.

    hits.py [--rounds 7] [--only NAME ...]

First build/hit: the same work on a mapping of libquire's and on plain mmap. Then each program natively and under
`quire run --memory 512M` in turns, the order changing from round to round. A ratio is made of the two times of one
round: of the clock, and of the CPUs (user and system, helpers included), which a busy machine disturbs less. Prints
minimum, median and maximum; then what starting costs, in milliseconds: /bin/true hosted less /bin/true alone, which
is within the ratios. Exit status 1 if an output differs or build/hit fails.
"""

import argparse
import hashlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, os.environ.get("BUILD", "build"))

PYTHON = "d = {i: str(i * 7919 % 1000003) for i in range(1500000)}; print(sum(map(len, sorted(d.values()))))"
SQL = ("create table t(a integer, b text); with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000) "
       "insert into t select i, printf('%x', i * 7919 % 1000003) from n; create index x on t(b); "
       "select count(*), min(b), max(b) from t where b > '8';")


def functions(n):
    return "".join("int f%d(int a, int b) { for (int i = 0; i < b; i++) a = a * %d + (a >> %d) + i; return a; }\n"
                   % (i, i * 2 + 3, i % 7 + 1) for i in range(n))


def programs(folder):
    """Name, argv; each prints what must be the same."""
    with open(os.path.join(folder, "lines"), "w") as f:
        f.writelines("%07d\n" % (i * 7919 % 1000003) for i in range(2500000))
    with open(os.path.join(folder, "many.c"), "w") as f:
        f.write(functions(1500))
    found = [("python3", [sys.executable, "-c", PYTHON]),
             ("sort", ["sort", "-S", "200M", "--parallel=1", "lines"]),
             ("sqlite3", ["sqlite3", ":memory:", SQL]),
             ("gcc", ["gcc", "-O2", "-S", "-o", "-", "many.c"])]
    return [(name, argv) for name, argv in found if shutil.which(argv[0])]


def run(argv, folder):
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        sys.exit("hits: %s: status %d: %s" % (argv, done.returncode, done.stderr.decode(errors="replace")[-300:]))
    return wall, cpu, hashlib.sha256(done.stdout).digest()


def compare(name, argv, hosted, folder, rounds):
    ratios = ([], [])
    for n in range(-1, rounds):  # the first warms up
        pair = {}
        for mine in (False, True) if n % 2 else (True, False):
            pair[mine] = run(hosted + argv if mine else argv, folder)
        if pair[True][2] != pair[False][2]:
            sys.exit("hits: %s: another output under quire run" % name)
        if n >= 0:
            for i in (0, 1):
                ratios[i].append(pair[True][i] / pair[False][i])
    for what, r in zip(("clock", "CPU"), ratios):
        print("%-8s run/native %-6s %5.3f %8.3f %8.3f" % (name, what, min(r), statistics.median(r), max(r)), flush=True)


def main():
    p = argparse.ArgumentParser(description="What Quire costs a program that fits.")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--only", nargs="+", help="of: hit python3 sort sqlite3 gcc")
    args = p.parse_args()
    status = 0
    if not args.only or "hit" in args.only:
        status = subprocess.run([os.path.join(BUILD, "hit")], check=False).returncode
    folder = tempfile.mkdtemp(prefix="quire-hits-")
    try:
        hosted = [os.path.join(BUILD, "quire"), "run", "--memory", "512M", "--report", "none", "--"]
        print("# programs that fit, %d rounds       min   median      max" % args.rounds, flush=True)
        for name, argv in programs(folder):
            if not args.only or name in args.only:
                compare(name, argv, hosted, folder, args.rounds)
        start = sorted((run(hosted + ["/bin/true"], folder)[0] - run(["/bin/true"], folder)[0]) * 1e3 for _ in range(9))
        print("%-8s milliseconds  %8.1f %8.1f %8.1f" % ("start", start[0], start[4], start[8]))
    finally:
        shutil.rmtree(folder)
    return 1 if status not in (0, 77) else 0


if __name__ == "__main__":
    sys.exit(main())
