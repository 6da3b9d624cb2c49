# SPDX-License-Identifier: BSD-2-Clause
"""race_shrink_test.py RACE_TEST: a machine that is broken on purpose fails, its run shrinks to a short script, the script fails
again, in the same way, each time; and does not on a machine that waits."""

import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from bound import bound  # noqa: E402

RACE = sys.argv[1]


def run(*args):
    p = subprocess.run([RACE, *args], capture_output=True, text=True, timeout=bound(280))
    return p.returncode, p.stderr


def message(err):
    return [line for line in err.splitlines() if line.startswith(("race_test:", "panic:", "killed"))]


code, err = run("--seeds", "1", "--seed", "2", "--no-wait")
found = re.search(r"shrunk to (\d+) operations .*--script FILE\):\n((?:[0-9a-f]{16} program \d\n)+)", err)
assert code == 1 and found, (code, err[-2000:])
n, script = int(found.group(1)), found.group(2)
assert n == len(script.splitlines()) and n <= 120, n
with tempfile.NamedTemporaryFile("w", suffix=".script", delete=False) as f:
    f.write(script)
try:
    again = [run("--seed", "2", "--no-wait", "--script", f.name) for _ in range(2)]
    assert again[0] == again[1] and again[0][0] == 1, again
    assert message(again[0][1]) == message(err)[-len(message(again[0][1])):], (again[0][1], err[-1000:])
    code, text = run("--seed", "2", "--script", f.name)
    assert code == 0, text
finally:
    os.unlink(f.name)
print("race_shrink: 2400 operations of six programs shrink to %d that fail: %s" % (n, message(err)[0]))
