#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Programs that fit under `quire run`: what starting them takes, and budgets from small to all there is.

    run_fit_test.py QUIRE HELPER [CASE ...]

Counts what a busy machine does not change: page faults, not seconds.
"""

import os
import resource
import subprocess
import sys

QUIRE, HELPER = (os.path.abspath(p) for p in sys.argv[1:3])


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(str(w) for w in what))


def run(argv, **kw):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False, **kw)
    return p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")


def hosted(memory, *argv, **kw):
    return run([QUIRE, "run", "--memory", memory, "--report", "none", "--"] + list(argv), **kw)


def first_touches(memory):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    check(hosted(memory, "true") == (0, "", ""), memory)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before


def start_does_not_grow_with_the_budget():
    """Every frame there could ever be had its structure written at the start: 12 GiB took 130 ms."""
    small, large = first_touches("16M"), first_touches("100%")
    check(large < small + 100, "first touches of pages at the start:", small, "with 16M,", large, "with everything")


def budgets():
    for memory in ("2G", "4G", "25%", "100%"):
        status, out, err = hosted(memory, HELPER, "touch", "20000", "2")
        if status == 125 and "is more than the" in err:
            continue
        check((status, out, err) == (0, "touched 20000 pages\n", ""), memory, status, out, err)


CASES = [start_does_not_grow_with_the_budget, budgets]


def main():
    names, failed = sys.argv[3:], 0
    for case in CASES:
        if names and case.__name__ not in names:
            continue
        try:
            case()
            print("ok   %s" % case.__name__, flush=True)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as e:
            failed += 1
            print("FAIL %s: %s" % (case.__name__, e), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
