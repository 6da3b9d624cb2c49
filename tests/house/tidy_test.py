#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Processes that a test has started end with it (tools/tidy.py): when the test is done, interrupted, or killed with
its process group."""

import os
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
TIMEOUT = 60
# A process in a new session, a process that also has an empty environment, and a folder. All three outlive their test.
TEST = """
import subprocess, sys, tempfile
sys.path.insert(0, %r)
import tidy
folder = tempfile.mkdtemp()
tidy.leave_nothing(lambda: tidy.remove_folder(folder))
p = subprocess.Popen(["sleep", "1000"], start_new_session=True)
q = subprocess.Popen(["sh", "-c", "env -i sleep 1000 & echo $!; wait"], start_new_session=True, stdout=subprocess.PIPE)
print(p.pid, q.pid, int(q.stdout.readline()), folder, flush=True)
sys.stdin.readline()
""" % TOOLS


def lives(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def main():
    failed = 0
    for how in ("done", signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        p = subprocess.Popen([sys.executable, "-c", TEST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             start_new_session=True)
        *started, folder = p.stdout.readline().decode().split() or [""]
        started = list(map(int, started))
        if len(started) != 3 or not all(map(lives, started)) or not os.path.isdir(folder):
            print("FAIL %s: it has not started: %s" % (how, started))
            failed += 1
        if how == "done":
            p.stdin.write(b"\n")
        else:
            os.killpg(p.pid, how)
        p.communicate()
        limit = time.monotonic() + TIMEOUT
        while (any(map(lives, started)) or os.path.exists(folder)) and time.monotonic() < limit:
            time.sleep(0.02)
        if os.path.exists(folder):
            print("FAIL %s: %s is left" % (how, folder))
            failed += 1
            os.rmdir(folder)
        for pid in filter(lives, started):
            print("FAIL %s: %d is left" % (how, pid))
            failed += 1
            os.kill(pid, signal.SIGKILL)
    print("%d failed" % failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
