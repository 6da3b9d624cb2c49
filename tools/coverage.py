# SPDX-License-Identifier: BSD-2-Clause
"""coverage.py SUMMARY.json TESTLOG.json: one line for each folder of gcovr's summary, with its lines and branches; the total last.

Then one line for each test of Meson's log that failed, with the result. Status 1 if a test failed, 2 if no test has run."""

import json
import os
import sys

BAD = ("FAIL", "TIMEOUT", "ERROR", "INTERRUPT", "UNEXPECTEDPASS")


def percent(covered, total):
    return "%6.1f" % (100 * covered / total) if total else "     -"


def print_figures(summary):
    keys = ("line_covered", "line_total", "branch_covered", "branch_total")
    folders = {}
    for file in summary["files"]:
        row = folders.setdefault(os.path.dirname(file["filename"]), [0] * len(keys))
        for i, key in enumerate(keys):
            row[i] += file[key]
    print("%-20s %7s %6s %9s %6s" % ("folder", "lines", "%", "branches", "%"))
    rows = sorted(folders.items()) + [("total", [sum(column) for column in zip(*folders.values())])]
    for name, (lines, all_lines, branches, all_branches) in rows:
        print("%-20s %7d %s %9d %s" % (name, all_lines, percent(lines, all_lines), all_branches, percent(branches, all_branches)))


def status_of(results):
    """Prints the failed tests; returns the exit status. results: (name, result) of each test."""
    failed = [(name, result) for name, result in results if result in BAD]
    for name, result in failed:
        print("coverage: test %s: %s; its lines count as far as it came" % (name, result))
    print("coverage: %d tests ran, %d failed" % (len(results), len(failed)))
    if not results:
        return 2
    return 1 if failed else 0


def main():
    with open(sys.argv[1]) as f:
        print_figures(json.load(f))
    with open(sys.argv[2]) as f:
        results = [(test["name"], test["result"]) for test in map(json.loads, f)]
    sys.exit(status_of([(name, result) for name, result in results if result != "SKIP"]))


if __name__ == "__main__":
    main()
