# SPDX-License-Identifier: BSD-2-Clause
"""What a killed test or benchmark would leave behind is taken away by a process of its own that outlives it."""

import atexit
import errno
import os
import shutil
import signal
import subprocess
import sys
import time


def after_kill(clean):
    """Calls clean() in another process as soon as this one is no more. Answers a function that calls it off."""
    wait, hold = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()         # what kills this one's process group shall not find it
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            os.write(tell, b"x")
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            os.closerange(3, wait)
            os.closerange(wait + 1, os.sysconf("SC_OPEN_MAX"))
            if os.read(wait, 1) == b"":
                clean()
        finally:
            os._exit(0)
    os.close(wait)
    os.close(tell)
    os.read(told, 1)            # before, it could be killed with this one's group
    os.close(told)

    def call_off():
        os.write(hold, b"x")
        os.close(hold)
        os.waitpid(pid, 0)
    return call_off


def leave_nothing(then=lambda: None):
    """
    What this program starts from now on ends with it, and what that starts: also in sessions of their own, and if this program is
    interrupted or killed. When all of that has ended, then() takes away what it had.
    """
    name, value = "QUIRE_STARTED_BY_%d" % os.getpid(), os.urandom(8).hex()
    os.environ[name] = value
    mark = ("%s=%s" % (name, value)).encode()

    def clean():
        end_marked(mark)
        then()
    call_off = after_kill(clean)

    def at_end():
        clean()
        call_off()
    atexit.register(at_end)


def processes_where(holds):
    """Processes of whose folder in /proc that holds; one that ends meanwhile is passed over."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if holds("/proc/" + pid):
                found.append(int(pid))
        except OSError:
            pass
    return found


def bytes_of(process, name):
    """What a file of such a folder has."""
    with open(os.path.join(process, name), "rb") as f:
        return f.read()


def processes_marked(mark):
    """Processes that have it in their environment; no corpses."""
    return processes_where(lambda p: mark in bytes_of(p, "environ").split(b"\0"))


def end_marked(mark):
    """Ends all processes that have it in their environment, and those that come from them."""
    while True:
        parents, doomed = {}, set()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
                    state, parents[pid] = f.read().rsplit(")", 1)[1].split()[:2]
                with open("/proc/%d/environ" % pid, "rb") as f:
                    if mark in f.read().split(b"\0") and state not in "ZX":
                        doomed.add(pid)
            except OSError:
                pass
        before = 0
        while len(doomed) > before:
            before = len(doomed)
            doomed |= {pid for pid, parent in parents.items() if int(parent) in doomed}
        if not doomed:
            return
        for pid in doomed:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def remove_cgroup(path):
    """With those below it and the processes in them, which it ends."""
    limit = time.monotonic() + 10
    for folder, _, _ in os.walk(path, topdown=False):
        while os.path.isdir(folder):
            try:
                with open(os.path.join(folder, "cgroup.procs"), encoding="utf-8") as f:
                    for pid in f.read().split():
                        os.kill(int(pid), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass
            try:
                os.rmdir(folder)
            except OSError as e:
                # A killed process leaves its cgroup a moment after it is reaped.
                if e.errno != errno.EBUSY or time.monotonic() > limit:
                    raise
                time.sleep(0.02)


def remove_folder(folder):
    """With what is mounted below it."""
    with open("/proc/self/mounts") as mounts:
        for line in mounts.read().splitlines():
            if line.split()[1].startswith(folder + "/"):
                subprocess.run(["umount", line.split()[1]], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def own_mounts():
    """Begins again in a mount name space of this program's own, if that can be had: mounts end with it however it ends."""
    if os.geteuid() == 0 and "QUIRE_OWN_MOUNTS" not in os.environ and \
            subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        os.environ["QUIRE_OWN_MOUNTS"] = "1"
        os.execvp("unshare", ["unshare", "-m", sys.executable] + sys.argv)
