# SPDX-License-Identifier: BSD-2-Clause
"""The main program of a test whose cases are functions: one line a case, status 1 if a case failed."""

import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import tidy


def run(cases, names):
    """Runs the cases of those names, all of them if there are none, and ends the program."""
    tidy.leave_nothing()
    failed = 0
    for case in cases:
        if names and case.__name__ not in names:
            continue
        try:
            case()
            print("ok   %s" % case.__name__, flush=True)
        except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as e:
            failed += 1
            print("FAIL %s: %s" % (case.__name__, e), flush=True)
    sys.exit(1 if failed else 0)
