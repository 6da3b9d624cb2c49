#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Programs that have functions of the C library's names, natively and under `quire run`: output and exit status are equal.

    run_own_test.py QUIRE OWN [KIND:PROGRAM ...]

OWN has such functions itself (own_functions.c). Preloaded allocators and a preloaded clock have them, too.  Each
PROGRAM is own_sanitized.c, built with the sanitizer KIND.
"""

import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import tidy

tidy.leave_nothing()

QUIRE, OWN = (os.path.abspath(p) for p in sys.argv[1:3])
PRELOADED = ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "faketime/libfaketime.so.1", "faketime/libfaketimeMT.so.1"]
# Memory that does not fit, in threads and in a forked child.
WORK = """
import hashlib, os, threading, time
b = [bytes([i % 251]) * 5000 for i in range(4000)]
def work(out, i): out[i] = hashlib.sha1(b''.join(b[i::4])).hexdigest()
out = [0] * 4
t = [threading.Thread(target=work, args=(out, i)) for i in range(4)]
[x.start() for x in t]; [x.join() for x in t]
print(out, len({time.monotonic() > 0 for x in b}), flush=True)
pid = os.fork()
if pid == 0:
    work(out, 2)
    os._exit(out[2][0] == '0')
print(os.waitpid(pid, 0)[1] in (0, 256))
"""
SANITIZED = [a.split(":", 1) for a in sys.argv[3:]]
failed = 0


def run(argv, env=None):
    p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False,
                       env=dict(os.environ, **(env or {})))
    return p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")


def case(name, argv, memory, env=None, said=""):
    """Output is the same natively and hosted, except for the runtime's messages."""
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
for library in PRELOADED:
    path = "/usr/lib/x86_64-linux-gnu/" + library
    if os.path.exists(path):
        case(library, ["env", "LD_PRELOAD=" + path, "FAKETIME=-10d", "/usr/bin/python3", "-c", WORK], "12M")
    else:
        print("skip %s: it is not here" % library)
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
