#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Each system call of a start fails once: no process hangs or ends without a message, and no program runs unhosted
without a line.

    run_start_test.py QUIRE FAIL_NTH STRIDE [FIRST]

Fails call FIRST, FIRST + STRIDE, ... of `quire run`, of the loader, of the runtime and of the program, until there
are no more calls. The error differs from call to call.
"""

import concurrent.futures
import errno
import os
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import tidy

QUIRE, FAIL_NTH = (os.path.abspath(p) for p in sys.argv[1:3])
STRIDE, FIRST = int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 1
ERRORS = (errno.ENOSPC, errno.ENOMEM, errno.EPERM)
MOST = 2000     # calls that a start may make
MMAP = "9"  # without memory the loader dies of a signal
TIMEOUT = 180


def start(n):
    """Fails the nth call. Returns (n, the call's number or "", status or "hangs", output, errors)."""
    r, w = os.pipe()
    argv = [FAIL_NTH, str(n), str(ERRORS[n % len(ERRORS)]), QUIRE, "run", "--memory", "64M", "--report", "none", "--", "/bin/echo", "ran"]
    with subprocess.Popen(["/bin/sh", "-c", 'exec "$@" 3<&0 0</dev/null', "sh"] + argv, stdin=w, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, start_new_session=True) as p:
        os.close(w)
        try:
            out, err = p.communicate(timeout=TIMEOUT)
            status = p.returncode
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            out, err = p.communicate()
            status = "hangs"
    with os.fdopen(r) as f:
        return n, f.read().strip(), status, out, err


def is_right(call, status, out, err):
    if status == 0:
        return out == "ran\n" and (err == "" or "was not hosted" in err)
    if status == 1:     # the program's own call
        return "ran" in out or err != ""
    if status in (125, 126, 127):
        return out == "" and err.endswith("\n")
    return status == 128 + signal.SIGSEGV and call == MMAP


def main():
    bad = tried = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for base in range(FIRST, MOST, STRIDE * 16):
            ended = False
            for n, call, status, out, err in pool.map(start, range(base, base + STRIDE * 16, STRIDE)):
                ended |= call == ""
                if call == "":
                    continue
                tried += 1
                if not is_right(call, status, out, err):
                    bad += 1
                    print("FAIL call %d (number %s, %s): status %s\n  %r\n  %r" % (
                        n, call, errno.errorcode[ERRORS[n % len(ERRORS)]], status, out, err), flush=True)
            if ended:
                break
    print("%d calls failed, %d times wrongly answered" % (tried, bad))
    return 1 if bad or tried < 200 // STRIDE else 0


if __name__ == "__main__":
    tidy.leave_nothing()
    sys.exit(main())
