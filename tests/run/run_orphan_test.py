#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""run_orphan_test.py QUIRE [CASE ...]: a hosted process ends when its supervisor, or its store's keeper, has been killed, whatever the
process waits for.

The supervisor alone finds a lock's dead owner, and it keeps quire-far alive. So after its death a lock may stay taken
for ever, and a request unanswered. In each case the program's service thread waits for another process when the
supervisor is killed: the thread does not read the connection then. Once such a program stayed for ever."""
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import cases
import reach
import tidy

TIMEOUT = 180
FOLDER = tempfile.mkdtemp(prefix="quire-orphan-")
SWAP = os.path.join(FOLDER, "swap")
QUIRE = reach.reachable(FOLDER, sys.argv[1])
MARK = b"QUIRE_TEST_MARK=" + FOLDER.encode()
WAITERS = 0x80000000        # store/pool_lock.c
KEEPER = 1024 + 1           # the keeper's tag (TAGS in cli/run.h), as the lock's word has it
LOCK_AT = 8                 # of ps_lock in the store's memory
# Its memory does not fit. It waits for a line before it reads all of it again.
PROGRAM = """
import os, sys
pages = [os.urandom(4000) for _ in range(8000)]
print("ready", flush=True)
sys.stdin.readline()
print(sum(p[0] for p in pages), flush=True)
"""


def until(true, what):
    end = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < end, "never: " + what
        select.select([], [], [], 0.02)


def name_of(pid):
    return tidy.bytes_of("/proc/%d" % pid, "comm").decode().strip()


def of_run(name):
    def is_it(process):
        return name_of(int(process[6:])) == name and MARK in tidy.bytes_of(process, "environ").split(b"\0")
    return tidy.processes_where(is_it)


def the(name):
    until(lambda: of_run(name), "a process %s" % name)
    return of_run(name)[0]


def call_of(pid, tid):
    """The system call in which the thread sleeps, with its arguments; empty while the thread runs."""
    with open("/proc/%d/task/%d/syscall" % (pid, tid)) as f:
        words = f.read().split()
    return [] if words == ["running"] or int(words[0]) < 0 else [int(words[0])] + [int(w, 16) for w in words[1:7]]


def threads_of(pid):
    return [int(tid) for tid in os.listdir("/proc/%d/task" % pid)]


POLL, FUTEX = 7, 202


def is_idle(pid):
    """The service thread waits for a fault without an end in time: it does not come back by itself."""
    return any(call[:1] == [POLL] and call[3] & 0xffffffff == 0xffffffff for call in (call_of(pid, tid) for tid in threads_of(pid) if tid != pid))


def waits_in_store(pid):
    """The service thread waits for a word of the store's memory."""
    with open("/proc/%d/maps" % pid) as f:
        spans = [tuple(int(x, 16) for x in line.split()[0].split("-")) for line in f if "quire-store" in line]
    calls = [call_of(pid, tid) for tid in threads_of(pid) if tid != pid]
    return any(call[:1] == [FUTEX] and any(a <= call[1] < b for a, b in spans) for call in calls)


def store_of(pid):
    for fd in os.listdir("/proc/%d/fd" % pid):
        if "quire-store" in os.readlink("/proc/%d/fd/%s" % (pid, fd)):
            with open("/proc/%d/fd/%s" % (pid, fd), "r+b") as f:
                return mmap.mmap(f.fileno(), 4096)
    raise AssertionError("process %d has no store" % pid)


def start(*options, before=()):
    """The program when it has printed its line, waits for one, and its service thread is idle."""
    p = subprocess.Popen([QUIRE, "run", "--memory", "8M", "--report", "none", *options, "--", *before, sys.executable, "-c", PROGRAM],
                         env=dict(os.environ, QUIRE_TEST_MARK=FOLDER), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"ready\n", "the program ended"
    pid = the(os.path.basename(sys.executable))
    until(lambda: is_idle(pid), "the service thread is idle")
    return p, pid


def go_on(p):
    p.stdin.write(b"\n")
    p.stdin.flush()


def kill_supervisor(p):
    p.kill()
    p.wait()
    p.stdin.close()
    p.stdout.close()


def all_end():
    until(lambda: not tidy.processes_marked(MARK), "the end of %s" % tidy.processes_marked(MARK))


def lock_by_keeper(kill, *before):
    """The store's lock is the keeper's: the test writes the lock's word as the keeper would, while the keeper is stopped.
    kill(run, keeper) is called when a thread waits for the lock; then all must end."""
    p, pid = start("--swap", SWAP + ":64M", before=before)
    keeper = the("quire-keeper")
    os.kill(keeper, signal.SIGSTOP)
    with store_of(pid) as store:
        assert struct.unpack_from("<Q", store, 0)[0] == 0x71706f6f6c303032, "this is no store"
        assert struct.unpack_from("<I", store, LOCK_AT)[0] == 0, "the store's lock is taken"
        struct.pack_into("<I", store, LOCK_AT, KEEPER)
        go_on(p)
        until(lambda: struct.unpack_from("<I", store, LOCK_AT)[0] == KEEPER | WAITERS, "a thread waits for the lock")
        kill(p, keeper)
    all_end()
    p.wait()


def the_lock_of_a_dead_keeper():
    """The keeper is killed with the supervisor."""
    lock_by_keeper(lambda p, keeper: kill_supervisor(p))


def the_lock_of_a_keeper_that_is_killed_alone():
    """The supervisor ends the connections of the processes that had the keeper's store."""
    lock_by_keeper(lambda p, keeper: os.kill(keeper, signal.SIGKILL))


def the_lock_of_a_dead_keeper_in_a_pid_namespace():
    """The kernel does not signal the first process of a PID namespace."""
    space = ["unshare", "--pid", "--fork"]
    if subprocess.run(space + ["true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        raise cases.Skip("no PID namespace can be made here")
    lock_by_keeper(lambda p, keeper: kill_supervisor(p), *space)


def the_answer_of_a_stopped_quire_far():
    """quire-far neither answers nor ends while it is stopped."""
    p, pid = start("--swap", SWAP + ":64M", "--encrypt")
    far = the("quire-far")
    os.kill(far, signal.SIGSTOP)
    try:
        go_on(p)
        until(lambda: waits_in_store(pid), "a thread waits for quire-far")
        kill_supervisor(p)
        until(lambda: set(tidy.processes_marked(MARK)) <= {far}, "the end of all but quire-far")
    finally:
        os.kill(far, signal.SIGCONT)
    all_end()


CASES = [the_lock_of_a_dead_keeper, the_lock_of_a_keeper_that_is_killed_alone, the_lock_of_a_dead_keeper_in_a_pid_namespace, the_answer_of_a_stopped_quire_far]


def nothing_is_left():
    assert os.listdir(SWAP) == [], "files are left"


def main():
    if os.geteuid() != 0:
        print("skipped: other processes' system calls are read by root only")
        return 77
    os.mkdir(SWAP)
    return cases.run(CASES, sys.argv[2:], after=nothing_is_left, mark=MARK)


def clean():
    tidy.end_marked(MARK)
    tidy.remove_folder(FOLDER)


if __name__ == "__main__":
    tidy.leave_nothing(clean)
    sys.exit(main())
