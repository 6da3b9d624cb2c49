# SPDX-License-Identifier: BSD-2-Clause
"""What the threads of a test that hangs are doing: text for people, before the test is killed.

    stacks.of_group(pid)    every process of that process group and what descends from pid
    stacks.of(pids)
    stacks.run(argv, ...)   subprocess.run, in a session of its own, that prints them on a timeout

For each thread: its name, state, the system call it is in, where it sleeps in the kernel and the kernel's stack, as
/proc tells them; for each process what gdb says of its own stacks, where gdb is installed. Memory of a hosted program that
is paged out cannot be read by gdb, so it gets a time limit.
"""

import os
import shutil
import signal
import subprocess

GDB_SECONDS = 20


def read(path):
    try:
        with open(path, errors="replace") as f:
            return f.read().strip().replace("\0", " ")
    except OSError as e:
        return "(%s)" % e.strerror


def stat(pid):
    """(parent, group) of a process; None if it has gone."""
    fields = read("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return (int(fields[1]), int(fields[2])) if len(fields) > 2 else None


def of_group(leader):
    table = {int(p): stat(int(p)) for p in os.listdir("/proc") if p.isdigit()}
    found = {p for p, s in table.items() if p == leader or (s and s[1] == leader)}
    while True:
        more = {p for p, s in table.items() if s and s[0] in found} - found
        if not more:
            return of(sorted(found))
        found |= more


def run(argv, timeout, check=False, capture_output=False, **kw):
    if capture_output:
        kw.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p = subprocess.Popen(argv, start_new_session=True, **kw)
    try:
        out, err = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        print("HANGS after %.0f s: %s\n%s" % (timeout, " ".join(argv), of_group(p.pid)), flush=True)
        os.killpg(p.pid, signal.SIGKILL)
        p.communicate()
        raise
    if check and p.returncode:
        raise subprocess.CalledProcessError(p.returncode, argv, out, err)
    return subprocess.CompletedProcess(argv, p.returncode, out, err)


def of(pids):
    return "\n".join(process(pid) for pid in pids if os.path.exists("/proc/%d/task" % pid))


def process(pid):
    lines = ["process %d: %s" % (pid, read("/proc/%d/cmdline" % pid)[:200])]
    try:
        tids = sorted(map(int, os.listdir("/proc/%d/task" % pid)))
    except OSError:
        return lines[0] + " (gone)"
    for tid in tids:
        base = "/proc/%d/task/%d/" % (pid, tid)
        state = read(base + "stat").rpartition(")")[2].split()[:1]
        lines.append("  thread %d %s: state %s, call %s, sleeps in %s" % (
            tid, read(base + "comm"), "".join(state), read(base + "syscall").split(" ")[0], read(base + "wchan")))
        lines += ["    " + line for line in read(base + "stack").splitlines()]
    return "\n".join(lines + ["  gdb: " + line for line in user_stacks(pid)])


def user_stacks(pid):
    if not shutil.which("gdb"):
        return []
    argv = ["gdb", "-nx", "-batch", "-p", str(pid), "-ex", "set pagination off", "-ex", "thread apply all backtrace 15"]
    try:
        out = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=GDB_SECONDS, check=False).stdout
    except subprocess.TimeoutExpired:
        return ["does not answer"]
    return [line for line in out.splitlines() if line.startswith(("Thread ", "#"))]
