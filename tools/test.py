# SPDX-License-Identifier: BSD-2-Clause
"""Run every test of a build directory, or those named, count, and say the sum.

A test that Meson skipped is named, and counted neither as passed nor as failed.
No test at all is a failure: a broken build must not look like a good one.
"""

import json
import os
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD", "build")
# The programs that finish in a minute each on two cores; `make test-programs` runs all of them.
SMALL = ["redis", "gcc", "xz"]
GOOD = ("OK", "EXPECTEDFAIL")


def meson_tests(names):
    """Returns (passed, failed, skipped) of the build directory's own tests, of those named if any are."""
    env = dict(os.environ, PATH="/usr/bin:" + os.environ.get("PATH", ""))
    log = os.path.join(TOP, BUILD, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)      # an old one must not speak for this run
    # One more than there are processors: many tests wait, for a server or for another process.
    at_once = (os.cpu_count() or 1) + 1
    status = subprocess.run(["meson", "test", "-C", BUILD, "--print-errorlogs", "--no-rebuild", "--num-processes", str(at_once), *names],
                            cwd=TOP, env=env, check=False).returncode
    passed = failed = skipped = 0
    try:
        with open(log) as f:
            for line in f:
                result = json.loads(line)["result"]
                if result in GOOD:
                    passed += 1
                elif result == "SKIP":
                    skipped += 1
                else:
                    failed += 1
    except (OSError, ValueError, KeyError) as e:
        print("test: cannot read %s: %s" % (log, e))
        failed += 1
    if status and not failed:
        failed += 1         # Meson saw something that its log does not tell
    return passed, failed, skipped


def program_tests():
    """Returns (passed, failed) of the small set of programs."""
    print("\nprograms in a quarter of their memory:", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "rows.json")
        status = subprocess.run([sys.executable, os.path.join(TOP, "tests", "programs", "run.py"),
                                 "--size", "small", "--timeout", "900", "--json", result] + SMALL, cwd=TOP, check=False).returncode
        try:
            with open(result) as f:
                rows = json.load(f)["rows"]
        except (OSError, ValueError, KeyError):
            return 0, 1
    passed = sum(1 for row in rows if row["passed"])
    failed = len(rows) - passed
    if status and not failed:
        failed += 1
    return passed, failed


def main():
    names = [a for a in sys.argv[1:] if not a.startswith("--")]
    passed, failed, skipped = meson_tests(names)
    if "--no-programs" not in sys.argv[1:]:
        good, bad = program_tests()
        passed += good
        failed += bad
    if not passed and not failed:
        failed = 1
        print("test: nothing was tested")
    if skipped:
        print("%d skipped" % skipped)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
