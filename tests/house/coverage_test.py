# SPDX-License-Identifier: BSD-2-Clause
"""tools/coverage.py names each failed test and fails with it, whatever the figures: coverage_test.py SOURCE"""
import json
import os
import subprocess
import sys
import tempfile

TOOL = os.path.join(sys.argv[1], "tools", "coverage.py")
FIGURES = {"files": [{"filename": "vm/as/as.c", "line_covered": 3, "line_total": 4, "branch_covered": 1, "branch_total": 2},
                     {"filename": "vm/as/as_map.c", "line_covered": 1, "line_total": 4, "branch_covered": 0, "branch_total": 0}]}


def coverage(*results):
    """(status, lines) of the tool for a log of tests with these results."""
    with tempfile.TemporaryDirectory() as folder:
        summary, log = os.path.join(folder, "coverage.json"), os.path.join(folder, "testlog.json")
        with open(summary, "w") as f:
            json.dump(FIGURES, f)
        with open(log, "w") as f:
            for i, result in enumerate(results):
                f.write(json.dumps({"name": "quire / test%d" % i, "result": result}) + "\n")
        p = subprocess.run([sys.executable, TOOL, summary, log], capture_output=True, text=True, check=False)
        return p.returncode, p.stdout.splitlines()


status, lines = coverage("OK", "SKIP", "OK")
assert status == 0 and lines[-1] == "coverage: 2 tests ran, 0 failed", lines
assert lines[1].split() == ["vm/as", "8", "50.0", "2", "50.0"] and lines[2].split()[0] == "total", lines
for bad in ("FAIL", "TIMEOUT", "ERROR"):
    status, lines = coverage("OK", bad)
    assert status == 1 and "test1: " + bad in lines[-2] and lines[-1] == "coverage: 2 tests ran, 1 failed", lines
    assert any(line.startswith("total ") for line in lines), lines
status, lines = coverage("SKIP")
assert status == 2, lines
