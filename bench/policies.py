#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
""" Compares policies on real programs: pages brought in, by replacement policy and by prefetcher.

    policies.py [--size small|full] [--timeout S] [PROGRAM ...]

Runs the programs of tests/programs/run.py, each in a quarter of its memory, once with every replacement policy (and
the default prefetcher) and once with every prefetcher (and the default policy), and prints two tables: pages that
were read from the store (fewer is better), then faults served and, of the pages read ahead, how many were used.
Seconds are printed last; each is of a single run, so small differences mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, os.environ.get("BUILD", "build"))


def names(kind):
    """ The names that quire-lab list prints."""
    found, on = [], False
    text = subprocess.run([os.path.join(BUILD, "quire-lab"), "list"], check=True, capture_output=True, text=True).stdout
    for line in text.splitlines():
        if not line.startswith(" "):
            on = line == kind + ":"
        elif on and line.split()[0] != "min":
            found.append(line.split()[0])
    return found


def run(args, option, name):
    with tempfile.NamedTemporaryFile(suffix=".json") as f:
        subprocess.run([sys.executable, os.path.join(TOP, "tests/programs/run.py"), "--size", args.size, "--timeout",
                        str(args.timeout), option, name, "--json", f.name, *args.names], stdout=subprocess.DEVNULL, check=False)
        try:
            return {r["program"]: r for r in json.load(f)["rows"]}
        except ValueError:
            sys.exit("policies.py: run.py %s %s gave no result" % (option, name))


def cell(row, what):
    if not row.get("passed"):
        return "-"
    r = row.get("report", {})
    if what == "seconds":
        return "%.2f" % row["wall"]
    if what == "used":
        return "%d/%d" % (r.get("prefetch_used", 0), r.get("prefetched", 0))
    return "%d" % r.get(what, 0)


def table(title, got, what):
    programs = list(next(iter(got.values())))
    print("\n%s" % title)
    print("| |" + "|".join(programs) + "|")
    print("|---|" + "---:|" * len(programs))
    for name, rows in got.items():
        print("| %s |" % name + "|".join(cell(rows[p], what) for p in programs) + "|", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("names", nargs="*")
    p.add_argument("--size", choices=("small", "full"), default="small")
    p.add_argument("--timeout", type=float, default=120)
    args = p.parse_args()
    got = {n: run(args, "--policy", n) for n in names("policies")}
    table("Pages read from the store, by replacement policy", got, "pages_in")
    table("Faults served", got, "faults")
    table("Seconds", got, "seconds")
    got = {n: run(args, "--prefetch", n) for n in names("prefetchers")}
    table("Pages read from the store, by prefetcher", got, "pages_in")
    table("Faults served", got, "faults")
    table("Read ahead and used / read ahead", got, "used")
    table("Seconds", got, "seconds")


if __name__ == "__main__":
    main()
