#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The stacks of all threads of a hanging hosted scenario are printed before it is killed.

    stacks_test.py QUIRE HELPER
"""

import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import tidy

tidy.leave_nothing()

QUIRE, HELPER = (os.path.abspath(p) for p in sys.argv[1:3])
TEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "run_intercept_test.py")
# The helper pages, so that it has a service thread, and then waits for a signal that never arrives.
SCENARIO = """#!/bin/sh
[ "$1" = list ] && { echo waits; exit; }
"%s" touch 1000 1
exec "%s" signal
"""


def check(ok, *what):
    if not ok:
        raise SystemExit(" ".join(str(w) for w in what))


with tempfile.TemporaryDirectory() as folder:
    scenarios = os.path.join(folder, "scenarios")
    with open(scenarios, "w") as f:
        f.write(SCENARIO % (HELPER, HELPER))
    os.chmod(scenarios, 0o755)
    p = subprocess.run([sys.executable, TEST, QUIRE, scenarios, "waits"], capture_output=True, text=True, timeout=300, check=False,
                       env=dict(os.environ, QUIRE_TEST_TIMEOUT="2"))
out = p.stdout
check(p.returncode == 1, "status", p.returncode, out, p.stderr)
hosted = [part for part in re.split(r"^HANGS after 2 s: ", out, flags=re.M)[1:] if part.startswith(QUIRE)]
check(len(hosted) == 2 and all(" -b " in part.splitlines()[0] and part.splitlines()[0].endswith(" waits") for part in hosted), "which scenario?", out)
for part in hosted:
    processes = re.findall(r"^process (\d+): (.*)$", part, re.M)
    check(any(name.startswith(QUIRE) for _, name in processes), "no supervisor among", processes)
    program = [pid for pid, name in processes if name.startswith(HELPER)]
    check(len(program) == 1, "not the program itself:", processes)
    threads = re.findall(r"^  thread (\d+) (\S+): state (\S), call (\S+), sleeps in (\S+)", part, re.M)
    check(any(tid == program[0] and call == "130" for tid, _, _, call, _ in threads), "it waits in rt_sigsuspend:", threads)
    check(len(threads) >= 3, "threads of the supervisor and the service thread:", threads)
