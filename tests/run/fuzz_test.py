#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Feeds the supervisor of `quire run` from inside: its door, its connections, and the memory that it shares with its processes.

    fuzz_test.py QUIRE FUZZ_FAMILY [--seconds N] [--runs N] [--seed N]

Each run is a family with processes that send every kind of greeting (socket), and overwrite what is shared (area).
Whatever they do, the supervisor ends normally, soon after its program, leaves no process or file behind, and does not
signal processes outside the family. A failed run is named by its seed, which repeats the run.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import tidy

MARK = "QUIRE_FUZZ_MARK"
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP)
AREA_S = 6.0        # a program whose memory was damaged need not end
END_S = 20.0        # the supervisor must end after its program


def kill_marked(mark, spare=()):
    for pid in tidy.processes_marked(mark):    # this run's own
        if pid not in spare:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def one_run(quire, fuzzer, kind, seed, rounds):
    """Returns None, or the error."""
    mark = "%d-%s-%d" % (os.getpid(), kind, seed)
    env = dict(os.environ, **{MARK: mark})
    mark = ("%s=%s" % (MARK, mark)).encode()
    # the shell, which has no page in the store, ends normally; the end of the other process does not matter
    script = '"$0" "$@"; exit 3' if kind == "area" else 'exec "$0" "$@"'
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        p = subprocess.Popen([quire, "run", "--memory", "8M", "--report", "text", "--", "sh", "-c", script, fuzzer, kind, str(seed), str(rounds)],
                             stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, start_new_session=True)
        try:
            try:
                p.wait(AREA_S if kind == "area" else 60)
            except subprocess.TimeoutExpired:
                if kind != "area":
                    return "the program hangs"
                with open("/proc/%d/task/%d/children" % (p.pid, p.pid)) as f:
                    keep = [int(c) for c in f.read().split()[1:]] + [p.pid]
                kill_marked(mark, keep)
                try:
                    p.wait(END_S)
                except subprocess.TimeoutExpired:
                    return "the supervisor does not end"
            end = time.monotonic() + END_S
            while tidy.processes_marked(mark) and time.monotonic() < end:
                if kind == "area":      # processes that continue after the program may wait forever in damaged memory
                    kill_marked(mark, [q for q in tidy.processes_marked(mark) if comm(q) in ("quire", "quire-keeper")])
                time.sleep(0.02)
            if tidy.processes_marked(mark):
                return "left behind: %s" % [(q, comm(q)) for q in tidy.processes_marked(mark)]
            out.seek(0)
            err.seek(0)
            said, text = out.read().decode(errors="replace"), err.read().decode(errors="replace")
            if -p.returncode in CRASHES:
                return "the supervisor crashed: %s %s" % (signal.Signals(-p.returncode).name, text)
            if kind == "socket" and (p.returncode != 0 or said != "kept\n"):
                return "status %d, %r %s" % (p.returncode, said, text)
            if "quire:" not in text:
                return "no report: status %d, %r" % (p.returncode, text)
        finally:
            kill_marked(mark)
            p.wait()
    return None


def comm(pid):
    try:
        with open("/proc/%d/comm" % pid) as f:
            return f.read().strip()
    except OSError:
        return ""


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("quire")
    ap.add_argument("fuzzer")
    ap.add_argument("--seconds", type=float, default=0)
    ap.add_argument("--runs", type=int, default=6)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--rounds", type=int, default=60)
    a = ap.parse_args()
    quire, fuzzer = os.path.abspath(a.quire), os.path.abspath(a.fuzzer)
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD})
    began, n, bad = time.monotonic(), 0, 0
    while time.monotonic() - began < a.seconds if a.seconds else n < a.runs:
        kind, seed = ("socket", "area", "area")[n % 3], a.seed + n
        why = one_run(quire, fuzzer, kind, seed, a.rounds)
        n += 1
        if why is not None:
            bad += 1
            print("FAIL  %s --seed %d: %s" % (kind, seed, why[:1500]), flush=True)
    strays = set(signal.sigpending()) - {signal.SIGCHLD}
    if strays:
        bad += 1
        print("FAIL  signals came to a process that is not of the family: %s" % strays)
    print("%d runs from seed %d, %d failed" % (n, a.seed, bad))
    return 1 if bad else 0


if __name__ == "__main__":
    tidy.leave_nothing()
    sys.exit(main())
