#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Programs that have functions of the C library's names, natively and under `quire run`: output and exit status are equal.

    run_own_test.py QUIRE OWN [KIND:PROGRAM ...]

OWN has them by itself (own_functions.c).  Each PROGRAM is own_sanitized.c, built with the sanitizer KIND.
"""

import os
import subprocess
import sys

QUIRE, OWN = (os.path.abspath(p) for p in sys.argv[1:3])
SANITIZED = [a.split(":", 1) for a in sys.argv[3:]]
failed = 0


def run(argv, env=None):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False,
                       env=dict(os.environ, **(env or {})))
    return p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")


def case(name, argv, memory, env=None, said=""):
    """The same natively and hosted, but for what the runtime said."""
    global failed
    status, out, err = run(argv, env)
    want = status, out, said + err
    got = run([QUIRE, "run", "--memory", memory, "--report", "none", "--"] + argv, env)
    ok = want == got and want[0] == 0
    print("%-4s %s %s" % ("ok" if ok else "FAIL", name, memory), flush=True)
    if not ok:
        failed += 1
        print("  natively", want, "\n  hosted  ", got)


for size in ("8M", "64M"):
    case("own functions", [OWN], size)
for kind, program in SANITIZED:
    options = kind.upper() + "_OPTIONS"
    said = "quire: AddressSanitizer's leak check is off: it stops the thread that serves faults\n" if kind == "asan" else ""
    for size in ("16M", "256M"):
        case(kind, [program], size, said=said)
    # The program's own options hold.
    case(kind + " with options of its own", [program, "show", options], "64M", {options: "detect_leaks=0:exitcode=7"})
    case(kind + " by a shell", ["sh", "-c", '"$0" && "$0" | cat', program], "64M", said=2 * said)
    case(kind + " by itself", [program, "execute"], "64M", said=said)
sys.exit(1 if failed else 0)
