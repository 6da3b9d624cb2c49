#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Scenario programs natively and under `quire run`: output and exit status must be equal.

    run_intercept_test.py QUIRE SCENARIOS [--without LIST] [NAME ...]

Each runs natively, hosted while it fits (64M), and hosted in less than it
needs (8M with 12 MiB of ballast).  Names: scenarios, or a group: programs.
--without: paged only, as on a kernel that lacks what the list names.
"""

import concurrent.futures
import os
import pty
import select
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import stacks
import tidy

TIMEOUT = float(os.environ.get("QUIRE_TEST_TIMEOUT", 150))
WAYS = [("fits", "64M", "0"), ("paged", "8M", "12")]
# The line of quire itself: 8M have no tables for so many mappings.
SAID = {("many-maps", "paged"): b"quire: a request for memory was refused: no memory for tables, or too many mappings; "
                                b"give more with --memory\n"}
PROGRAMS = {
    "python-multiprocessing": ["python3", "-c", """
import multiprocessing as m, os
def f(x):
    b = bytearray(x * 100000)
    b[::4096] = bytes(len(b[::4096]))
    return len(b)
if __name__ == '__main__':
    for how in ('fork', 'spawn', 'forkserver'):
        m.set_start_method(how, force=True)
        with m.Pool(3) as p:
            print(how, p.map(abs, [-1, 2, -3]) if how != 'fork' else p.map(f, range(1, 9)))
"""],
    "python-subprocess": ["python3", "-c", """
import subprocess, threading
d = b'x' * 3000000
print(subprocess.run(['cat'], input=d, stdout=subprocess.PIPE).stdout == d)
print(subprocess.run(['sh', '-c', 'exit 3']).returncode, subprocess.run(['sh', '-c', 'kill -9 $$']).returncode)
print(subprocess.check_output(['sh', '-c', 'echo $0 $#', 'a', 'b'], env={}, close_fds=True))
def work(out, i): out[i] = sum(len(str(x)) for x in range(20000 * (i + 1)))
out = [0] * 4
t = [threading.Thread(target=work, args=(out, i)) for i in range(4)]
[x.start() for x in t]; [x.join() for x in t]
print(out)
"""],
    # a thread's stack and static storage are managed memory: they were once paged out when a fork stopped the serving of faults
    "python-forks-in-threads": ["python3", "-c", """
import os, threading
memory, bad = [bytearray(os.urandom(4096) * 256) for _ in range(20)], []
def touch():
    for x in memory: x[::4096] = b'x' * len(x[::4096])
def work():
    for i in range(10):
        touch()
        pid = os.fork()
        if pid == 0: os._exit(memory[i % len(memory)][0])
        if os.waitpid(pid, 0)[1] != ord('x') << 8: bad.append(i)
for n in (1, 3):
    t = [threading.Thread(target=work) for _ in range(n)]
    [x.start() for x in t]; [x.join() for x in t]
print(bad)
"""],
    # the end of a binding (affinity.c) once gave a thread the affinity back that it had before it set one
    "an-affinity-that-is-set-stays-set": ["python3", "-c", """
import os, random, threading
cpus, memory, kept = sorted(os.sched_getaffinity(0)), bytearray(50 << 20), []
def fault():
    for i in range(3000): memory[random.randrange(len(memory))] = 1
def look(): kept.append(os.sched_getaffinity(0) == {cpu})
fault()
for cpu in cpus:
    os.sched_setaffinity(0, {cpu})
    fault()
    look()
    t = threading.Thread(target=look)
    t.start(); t.join()
print(all(kept))
"""],
    # asked while its thread is bound to the CPU of the service thread, a program once saw one CPU
    "a-bound-thread-sees-its-own-affinity": ["python3", "-c", """
import os, random
cpus, memory, wrong = os.sched_getaffinity(0), bytearray(50 << 20), 0
for i in range(3000):
    memory[random.randrange(len(memory))] = 1
    wrong += os.sched_getaffinity(0) != cpus
print(wrong)
"""],
    "shell": ["sh", "-c", "x=$(seq 1 20000 | sort -rn | head -3 | tr '\\n' ' '); echo $x; (exit 5); echo $?; "
              "(sleep 0 & wait); trap 'echo term' TERM; kill -TERM $$; exit 42"],
    # BGSAVE: a child writes the data of the time of its fork, while its parent changes it
    "redis-saves": ["sh", "-c", """
d=$(mktemp -d /tmp/quire-redis-XXXXXX); cd "$d"; trap 'rm -rf "$d"' EXIT
start() {
    redis-server --port 0 --unixsocket s --dir . --save '' --rdbcompression no --enable-debug-command local > /dev/null &
    until redis-cli -s s ping 2> /dev/null | grep -q PONG; do sleep 0.02; done
}
start
for what in "debug populate 100000 key 60" "debug digest" bgsave; do redis-cli -s s $what; done
until redis-cli -s s info persistence | grep -q rdb_bgsave_in_progress:0; do
    redis-cli -s s set now "$(date)" > /dev/null; redis-cli -s s set key:7 changed > /dev/null; sleep 0.02
done
redis-cli -s s info persistence | grep last_bgsave_status
redis-cli -s s get key:7; redis-cli -s s shutdown nosave; wait
start
for what in "get now" dbsize "debug digest" "shutdown nosave"; do redis-cli -s s $what; done; wait
"""],
    "status-255": ["sh", "-c", "exit 255"],
    "signal-kill": ["sh", "-c", "kill -KILL $$"],
    "signal-term": ["sh", "-c", "kill -TERM $$"],
    "signal-abort": ["python3", "-c", "import os; os.abort()"],
}


def run(argv, terminal=False):
    """Returns (output, status): status as Popen gives it, or 'hangs'."""
    if terminal:
        return run_on_terminal(argv)
    p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, err = p.communicate(b"a line\n", timeout=TIMEOUT)
        return out + b"--\n" + err, p.returncode
    except subprocess.TimeoutExpired:
        say_stacks(argv, p.pid)
        os.killpg(p.pid, signal.SIGKILL)
        out, err = p.communicate()
        return out + b"--\n" + err, "hangs"


def say_stacks(argv, pid):
    """Prints the hanging scenario and the stacks of all its threads, before it is killed."""
    print("HANGS after %.0f s: %s\n%s" % (TIMEOUT, " ".join(argv), stacks.of_group(pid)), flush=True)


def run_on_terminal(argv):
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    out, end, told = b"", time.monotonic() + TIMEOUT, False
    while time.monotonic() < end:
        if not select.select([fd], [], [], 1)[0]:
            continue
        try:
            got = os.read(fd, 4096)
        except OSError:
            got = b""
        if not got:
            status = os.waitpid(pid, 0)[1]
            os.close(fd)
            return out, os.waitstatus_to_exitcode(status)
        out += got
        if not told and b"2 terminal" in out:   # before that, the echo could appear at any place
            told = os.write(fd, b"a line\n") > 0
    say_stacks(argv, pid)
    os.kill(pid, signal.SIGKILL)
    return out, "hangs"


def main():
    quire, scenarios = (os.path.abspath(p) for p in sys.argv[1:3])
    names, ways, without = sys.argv[3:], WAYS, []
    if names[:1] == ["--without"]:
        without, names, ways = names[:2], names[2:], WAYS[1:]
    everything = subprocess.check_output([scenarios, "list"]).decode().split()
    jobs = []
    for name in everything + list(PROGRAMS):
        group = "programs" if name in PROGRAMS else "scenarios"
        if names and name not in names and group not in names:
            continue
        for way, memory, ballast in ways:
            argv = PROGRAMS.get(name) or [scenarios, "-b", ballast, name]
            if name in PROGRAMS and way == "paged":
                memory = "24M"     # each of a family's processes wants a little for itself
            jobs.append((name, way, argv, memory, False))
            if name == "terminal":
                jobs.append((name + " on a terminal", way, argv, memory, True))
    if not jobs:
        print("no such scenario")
        return 1

    def one(job):
        name, way, argv, memory, terminal = job
        began = time.monotonic()
        want = run(argv, terminal)
        mid = time.monotonic()
        out, status = run([quire, "run", "--memory", memory, "--report", "none"] + without + ["--"] + argv, terminal)
        got = out.replace(SAID.get((name, way), b"\0"), b""), status
        return job, want, got, mid - began, time.monotonic() - mid

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for (name, way, _, _, _), want, got, native, hosted in pool.map(one, jobs):
            ok = want == got and b"not so:" not in want[0] and got[1] != "hangs"
            print("%-4s %-28s %-6s %6.2f s native %6.2f s hosted" % ("ok" if ok else "FAIL", name, way, native, hosted), flush=True)
            if not ok:
                failed += 1
                for label, (out, status) in (("native", want), ("hosted", got)):
                    print("  %s: status %s" % (label, status))
                    for line in out.decode(errors="replace").splitlines()[:30]:
                        print("    | " + line)
    print("%d of %d differ" % (failed, len(jobs)))
    return 1 if failed else 0


if __name__ == "__main__":
    tidy.leave_nothing()
    sys.exit(main())
