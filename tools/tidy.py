# SPDX-License-Identifier: BSD-2-Clause
"""What a killed test or benchmark would leave behind is taken away by a process of its own that outlives it."""

import os
import shutil
import signal
import subprocess
import sys


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
