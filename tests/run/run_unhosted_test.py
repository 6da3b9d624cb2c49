#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Memory that is not hosted is counted and shown: in the report, in the JSON report, in the live line.

    run_unhosted_test.py QUIRE PROGRAM STATIC STATIC_HELPER

PROGRAM is unhosted.c, STATIC the same statically linked, STATIC_HELPER run_helper.c statically linked; or - and -.
"""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import cases
import tidy

QUIRE, PROGRAM = (os.path.abspath(p) for p in sys.argv[1:3])
STATIC, STATIC_HELPER = (os.path.abspath(p) if p != "-" else None for p in sys.argv[3:5])
PAGE, MIB = 4096, 1 << 20
FIT, HOSTED_FIT = "none: the program fit", "none: all that is hosted fit"


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(str(w) for w in what))


def reports(memory, argv):
    """The report as JSON and as text."""
    with tempfile.NamedTemporaryFile() as f:
        p = subprocess.run([QUIRE, "run", "--memory", memory, "--report", "json:" + f.name, "--"] + argv, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)
        check((p.returncode, p.stderr) == (0, b""), argv, p.returncode, p.stderr)
        got = json.load(f)
    p = subprocess.run([QUIRE, "run", "--memory", memory, "--"] + argv, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)
    return got, p.stderr.decode()


def what_is_hosted_is_not_counted():
    for memory, pages in (("64M", "10000"), ("16M", "10000")):
        got, text = reports(memory, [PROGRAM, "none", pages])
        check(got["unhosted_peak_bytes"] < MIB and "not hosted" not in text, memory, got, text)
    check(FIT in reports("64M", [PROGRAM, "none", "5000"])[1])


def each_kind_is_counted():
    """The count equals the written memory, while the kernel serves the program and while other memory is paged."""
    for how in ("inline", "file", "shared", "executable"):
        for memory, argv in (("64M", [PROGRAM, how, "10000"]), ("8M", [PROGRAM, how, "10000"])):
            got, text = reports(memory, argv)
            check(10000 * PAGE <= got["unhosted_peak_bytes"] <= 10000 * PAGE + 2 * MIB, how, memory, got)
            check("  not hosted  39" in text or "  not hosted  4" in text, how, memory, text)
            check(FIT not in text and (HOSTED_FIT in text or "first touch" in text), how, memory, text)


def terminal_until(argv, word):
    """Runs the program on a terminal until the word appears, then ends its input. Returns the output."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    out, end, told = b"", time.monotonic() + 60, False
    while time.monotonic() < end:
        if not select.select([fd], [], [], 1)[0]:
            continue
        try:
            got = os.read(fd, 4096)
        except OSError:
            got = b""
        if not got:
            break
        out += got
        if not told and word in out:
            told = os.write(fd, b"\x04") > 0    # the end of input
    if not told:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    os.close(fd)
    check(told and status == 0, argv, status, out)
    return out.decode(errors="replace")


def seen_while_it_runs():
    """
    In the live line, and in the report: a static program started by a hosted program; and a program started by a
    static program that has closed all its descriptors, the family's gate included.
    """
    if STATIC is None:
        return
    # a process with the runtime might be about to join: one megabyte of it is not counted
    for argv, shown, least in (([STATIC, "hold", "10000"], b"not hosted 39", 10000),
                               (["env", STATIC_HELPER, "closing", PROGRAM, "hold", "10000"], b"not hosted 38", 10000 - 256)):
        with tempfile.NamedTemporaryFile() as f:
            terminal_until([QUIRE, "run", "--memory", "64M", "--live", "--report", "json:" + f.name, "--", "sh", "-c", '"$@"; exit 0',
                            "sh"] + argv, shown)
            got = json.load(f)
            check(least * PAGE <= got["unhosted_peak_bytes"] <= 10000 * PAGE + 2 * MIB, got)


def a_hosted_child_is_not_counted():
    """Memory that a forked child shares with its parent for a moment is not counted either."""
    got, text = reports("64M", ["sh", "-c", 'for i in 1 2 3; do "$0" none 5000 & done; wait', PROGRAM])
    check(got["unhosted_peak_bytes"] < 2 * MIB, got, text)


def what_is_stored_is_said():
    """The pool's line said "6.5 MiB for 2.2 MiB of pages (3.77x)": amounts of one moment beside the ratio of the whole run."""
    got, text = reports("8M", [PROGRAM, "none", "10000"])
    check(got["pool_pages"] > 7000, got)
    line = [l for l in text.splitlines() if l.startswith("  stored ")]
    check(len(line) == 1 and " of pages at most, in " in line[0] and "over the run" in line[0], text)


CASES = [what_is_hosted_is_not_counted, each_kind_is_counted, seen_while_it_runs, a_hosted_child_is_not_counted, what_is_stored_is_said]


if __name__ == "__main__":
    tidy.leave_nothing()
    sys.exit(cases.run(CASES, sys.argv[5:]))
