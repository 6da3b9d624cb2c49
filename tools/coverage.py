# SPDX-License-Identifier: BSD-2-Clause
"""coverage.py SUMMARY.json: one line for each folder of gcovr's summary, with its lines and branches; the total last."""

import json
import os
import sys


def percent(covered, total):
    return "%6.1f" % (100 * covered / total) if total else "     -"


def main():
    with open(sys.argv[1]) as f:
        summary = json.load(f)
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


main()
