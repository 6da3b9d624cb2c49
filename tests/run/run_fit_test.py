#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Programs that fit under `quire run`: the cost of starting them, and budgets from small to all memory.

    run_fit_test.py QUIRE HELPER [CASE ...]

Counts page faults, which a busy machine does not change, and not seconds.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import cases
import stacks
import tidy

QUIRE, HELPER = (os.path.abspath(p) for p in sys.argv[1:3])


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(str(w) for w in what))


def run(argv, **kw):
    p = stacks.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False, **kw)
    return p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")


def hosted(memory, *argv, **kw):
    return run([QUIRE, "run", "--memory", memory, "--report", "none", "--"] + list(argv), **kw)


def until(true):
    end = time.monotonic() + 60
    while not true():
        check(time.monotonic() < end, "never")
        select.select([], [], [], 0.02)


def children(pid):
    """Page faults of a process that has executed its program by now."""
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [c for c in map(int, f.read().split()) if os.readlink("/proc/%d/exe" % c) == HELPER]


def first_touches(memory):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    check(hosted(memory, "true") == (0, "", ""), memory)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before


def start_does_not_grow_with_the_budget():
    """The structure of every possible frame was once written at the start: 12 GiB took 130 ms."""
    small, large = first_touches("16M"), first_touches("100%")
    check(large < small + 100, "first touches of pages at the start:", small, "with 16M,", large, "with everything")


def budgets():
    for memory in ("2G", "4G", "25%", "100%"):
        status, out, err = hosted(memory, HELPER, "touch", "20000", "2")
        if status == 125 and "is more than the" in err:
            continue
        check((status, out, err) == (0, "touched 20000 pages\n", ""), memory, status, out, err)


def limited(limits, *argv, memory="64M"):
    return run(["sh", "-c", limits + ' && exec "$0" run --memory "$@"', QUIRE, memory, "--report", "none", "--"] + list(argv))


def refused(got, words):
    status, out, err = got
    check(status == 125 and out == "" and err.startswith("quire: ") and err.count("\n") == 1 and words in err, got)


def limits_of_the_shell():
    """Each of these once hung, was killed, or blamed userfaultfd."""
    touch = ("sh", "-c", "exec \"$0\" touch 3000 2", HELPER)
    refused(limited("ulimit -f 1000", *touch), "ulimit -f")
    refused(limited("ulimit -f 1000000", *touch), "ulimit -f")
    refused(limited("ulimit -d 100000", *touch, memory="512M"), "address space")
    refused(limited("ulimit -v 1000000", *touch, memory="512M"), "emory")
    check(limited("ulimit -S -f 1000", *touch)[0] == 0)


def not_forked_was_not_hosted():
    """node once had no limit: V8 asks that its memory not be copied to children, and such memory was left to the kernel."""
    program = ("import mmap\nm = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\nm.madvise(mmap.MADV_DONTFORK)\n"
               "for i in range(0, len(m), 4096): m[i:i + 4] = i.to_bytes(4, 'little')\n"
               "print(all(m[i:i + 4] == i.to_bytes(4, 'little') for i in range(0, len(m), 4096)))")
    with tempfile.NamedTemporaryFile() as f:
        got = run([QUIRE, "run", "--memory", "24M", "--report", "json:" + f.name, "--", sys.executable, "-c", program])
        check(got == (0, "True\n", "") and json.load(f)["pages_out"] > 8000, got)


def resident(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("RssAnon:"))


def read_only_was_not_hosted():
    """A collector makes all its memory read-only, which was once left to the kernel for good: 96 MiB in a budget of 24."""
    program = ("import ctypes, mmap, sys\nn = 48 << 20\nm = mmap.mmap(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
               "at = ctypes.addressof(ctypes.c_char.from_buffer(m))\nlibc = ctypes.CDLL(None)\n"
               "protect = lambda prot: libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(n), prot)\n"
               "for i in range(0, n, 4096): m[i:i + 4] = i.to_bytes(4, 'little')\n"
               "good = protect(1) == 0\n"
               "good &= all(m[i:i + 4] == i.to_bytes(4, 'little') for i in range(0, n, 4096))\n"
               "good &= protect(3) == 0\nm[0:4] = b'abcd'\ngood &= protect(1) == 0\n"
               "good &= all(m[i:i + 4] == i.to_bytes(4, 'little') for i in range(4096, n, 4096))\n"
               "print(good, flush=True)\nsys.stdin.read()")
    p = subprocess.Popen([QUIRE, "run", "--memory", "24M", "--report", "none", "--", sys.executable, "-c", program],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    watch = threading.Timer(60, p.kill)
    watch.start()
    try:
        check(p.stdout.readline() == b"True\n")
        with open("/proc/%d/task/%d/children" % (p.pid, p.pid)) as f:
            program = int(f.read().split()[0])      # the other child is the store's keeper
        check(resident(program) < 32 << 20, "resident:", resident(program) >> 20, "MiB of 24")
    finally:
        watch.cancel()
        out, err = p.communicate(b"")
    check((p.returncode, out, err) == (0, b"", b""), p.returncode, out, err)


def faults(memory, *argv):
    with tempfile.NamedTemporaryFile() as f:
        got = run([QUIRE, "run", "--memory", memory, "--report", "json:" + f.name, "--"] + list(argv))
        check(got == (0, "", ""), memory, argv, got)
        return json.load(f)["faults"]


def what_comes_and_goes_fits():
    """The helper has 32 MiB of static data. Unmapped memory makes room for later memory."""
    for kind in ("munmap", "fixed", "mremap", "part", "brk"):
        served = faults("64M", HELPER, "churn", kind, "20")
        check(served == 0, kind, "of 4 MiB, 20 times in 64 MiB:", served, "faults")


def who_follows_a_process_that_ended_has_its_room():
    """The second of each two programs is in a separate PID namespace if possible: process numbers of the others have
    no meaning there."""
    apart = "unshare -p -f" if run(["unshare", "-p", "-f", "true"])[0] == 0 else ""
    script = 'i=0; while [ $i -lt 4 ]; do "$0" touch 5000 1 >/dev/null && %s "$0" touch 5000 1 >/dev/null || exit 9; i=$((i+1)); done' % apart
    served = faults("80M", "sh", "-c", script, HELPER)
    check(served == 0, "eight of 52 MiB, one after another in 80 MiB:", served, "faults")


def many_in_little():
    """Twelve programs stay in a budget for eight: each gets the minimum; the last programs were once refused."""
    script = 'i=0; while [ $i -lt 12 ]; do "$0" loop 700 & i=$((i+1)); done; wait'
    p = subprocess.Popen([QUIRE, "run", "--memory", "8M", "--report", "none", "--", "sh", "-c", script, HELPER], start_new_session=True,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    watch = threading.Timer(60, os.killpg, (p.pid, signal.SIGKILL))
    watch.start()
    try:
        got = [p.stdout.readline() for _ in range(12)]
    finally:
        watch.cancel()
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()
    check(got == [b"ready\n"] * 12, got)


def closed_standard_error():
    """The supervisor's own file once got descriptor 2, and its messages were written into the swap file.

    Killing the supervisor ends its program, also while the program is still starting."""
    for closed in ("2>&-", "<&- 2>&-", "<&- >&- 2>&-"):
        p = subprocess.Popen(["sh", "-c", 'exec "$0" run --memory 8M --report none -- "$1" signal ' + closed, QUIRE, HELPER],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            until(lambda: len(children(p.pid)) == 1)
            for fd in (0, 1, 2):
                where = os.readlink("/proc/%d/fd/%d" % (p.pid, fd))
                check("deleted" not in where and "socket" not in where, closed, fd, where)
            # While a program starts, the loader has files open, with the first free number.
            until(lambda: not os.path.exists("/proc/%d/fd/2" % children(p.pid)[0]))
        finally:
            left = children(p.pid)
            p.kill()
            p.wait()
            until(lambda: not any(os.path.exists("/proc/%d" % c) for c in left))


CASES = [what_comes_and_goes_fits, who_follows_a_process_that_ended_has_its_room, not_forked_was_not_hosted, read_only_was_not_hosted, many_in_little, closed_standard_error, start_does_not_grow_with_the_budget, budgets, limits_of_the_shell]


if __name__ == "__main__":
    tidy.leave_nothing()
    sys.exit(cases.run(CASES, sys.argv[3:]))
