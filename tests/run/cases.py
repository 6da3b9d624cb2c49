# SPDX-License-Identifier: BSD-2-Clause
"""The main loop of a test program whose cases are functions."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import tidy


class Skip(Exception):
    """The case cannot run here; has the reason."""


def run(cases, names, after=lambda: None, mark=None):
    """
    Runs the cases of those names, all of them if there are none. Prints a line for each case, then the counts. Returns the
    program's status, 1 if a case has failed.

    after() is called when a case has ended well, and can fail the case. After a failed case, processes that have the mark in
    their environment are ended.
    """
    failed = skipped = 0
    for case in cases:
        if names and case.__name__ not in names:
            continue
        began, word, why = time.monotonic(), "ok", ""
        try:
            case()
            after()
        except Skip as e:
            word, why, skipped = "skip", str(e), skipped + 1
        except (AssertionError, OSError, ValueError, TypeError, subprocess.SubprocessError) as e:
            word, why, failed = "FAIL", str(e), failed + 1
            if mark is not None:
                tidy.end_marked(mark)
        print("%-5s %-46s %5.1f s  %s" % (word, case.__name__, time.monotonic() - began, why[:3000]), flush=True)
    print("%d failed, %d skipped" % (failed, skipped))
    return 1 if failed else 0
