# SPDX-License-Identifier: BSD-2-Clause
"""Show an unmodified program finish in a quarter of the memory it needs.

    demo.py             gcc compiles a C file of 200 functions (a minute or less)
    demo.py objects N   python3 walks N objects in no order: what is hardest, and slow

Three runs on the same work:
  1. natively, without a limit: its result, its peak, its time;
  2. natively inside a memory cgroup: what the kernel does to it there;
  3. under `quire run --memory` with a quarter of the peak, in the same cgroup.
The result of the third is compared with that of the first, byte by byte.
Where no memory cgroup may be made, the second run is left out and the third
relies on Quire's own budget; the text says so.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tools"))
sys.path.insert(0, os.path.join(TOP, "tests", "programs"))
sys.dont_write_bytecode = True

import limited  # noqa: E402
import run as programs  # noqa: E402

MIB = 1 << 20
SHARE = 4
SLACK = 48 * MIB    # the program's text, page tables, stacks, Quire's tables
TIMEOUT = 1200          # seconds; of the later runs at least TIMES times what the native run took
TIMES = 20


def read(path, mode="rb"):
    with open(path, mode) as f:
        return f.read()


def say(text=""):
    print(text, flush=True)


class Clock:
    """Seconds on the terminal while a run lasts; nothing where there is none."""

    def __init__(self, what):
        self.what = what
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.tick)

    def tick(self):
        began = time.monotonic()
        while not self.done.wait(0.5):
            sys.stdout.write("\r   %s: %.0f s " % (self.what, time.monotonic() - began))
            sys.stdout.flush()
        sys.stdout.write("\r\033[K")

    def __enter__(self):
        if sys.stdout.isatty():
            self.thread.start()

    def __exit__(self, *_):
        self.done.set()
        if self.thread.ident:
            self.thread.join()


class Work:
    """What the demonstration runs: the command, how it is shown, and its result as bytes."""

    def __init__(self, folder, args):
        self.made = os.path.join(folder, "big.o")
        self.object_file = not args
        if self.object_file:
            gcc = programs.Gcc("small")
            gcc.inputs(folder)
            self.argv = ["gcc", "-O2", "-c", "-o", self.made, os.path.join(folder, "big-%d.c" % gcc.scale)]
            self.shown = "gcc -O2 -c big-%d.c" % gcc.scale
        else:
            self.argv = [programs.python(), os.path.join(TOP, "examples", "objects.py")] + args[1:]
            self.shown = " ".join(["python3", "examples/objects.py"] + args[1:])

    def result(self, out):
        """What a run left behind, taken away; None if nothing."""
        if not self.object_file:
            return read(out)
        if not os.path.exists(self.made):
            return None
        data = read(self.made)
        os.remove(self.made)
        return data

    def describe(self, data):
        if self.object_file:
            return ["big.o: %d bytes, sha256 %s" % (len(data), hashlib.sha256(data).hexdigest()[:32])]
        return data.decode(errors="replace").splitlines()[:20]


def swap_is_on():
    return len(read("/proc/swaps", "r").splitlines()) > 1


def explain(out):
    if out.killed_by_oom:
        return "killed by the kernel's OOM killer after %.1f s" % out.wall
    if out.timed_out:
        return "not finished after %d s; load of this machine: %.1f on %d CPUs" % (
            out.wall, os.getloadavg()[0], os.cpu_count())
    if out.status:
        return "ended with status %d after %.1f s" % (out.status, out.wall)
    return "finished in %.1f s" % out.wall


def demo(folder, args):
    quire = os.path.join(TOP, os.environ.get("BUILD", "build"), "quire")
    work = Work(folder, args)
    env = dict(os.environ, PYTHONHASHSEED="0")

    def run(name, prefix, limit, timeout=TIMEOUT):
        out, err = (os.path.join(folder, name + s) for s in (".out", ".err"))
        with Clock("running"):
            got = limited.run(prefix + work.argv, folder, out, err, timeout, env, limit=limit)
        return got, work.result(out), err

    def show(data):
        for line in work.describe(data):
            say("   | " + line)

    say("An ordinary program, natively:")
    say("   $ " + work.shown)
    native, want, err = run("native", [], None)
    if native.status or want is None:
        say(read(err).decode(errors="replace")[-2000:])
        return "the program fails natively with status %d" % native.status
    show(want)
    say("   peak %.0f MiB, %.1f s" % (native.peak / MIB, native.wall))

    patience = max(TIMEOUT, int(TIMES * native.wall))
    budget = native.peak // SHARE // MIB
    limit = budget * MIB + SLACK
    probe = limited.Cgroup.create(limit)
    if probe:
        probe.remove()
        say("\nThe same inside a memory cgroup of %d MiB%s:" % (
            limit // MIB, " (this machine has kernel swap on)" if swap_is_on() else ""))
        out, _, _ = run("limited", [], limit, patience)
        say("   " + explain(out))
    else:
        limit = None
        say("\n(No memory cgroup may be made here: the limit below is Quire's own.)")

    say("\nThe same%s, under Quire:" % (" cgroup" if limit else ""))
    say("   $ quire run --memory %dM -- %s" % (budget, work.shown))
    report = os.path.join(folder, "report")
    out, got, err = run("quire", [quire, "run", "--memory", "%dM" % budget, "--report", "text:" + report, "--"],
                        limit, patience)
    if got is not None:
        show(got)
    say("   " + explain(out) + ("" if out.status else ": %.1f times the native time, with %.0f %% of its peak" % (
        out.wall / native.wall, 100.0 * budget * MIB / native.peak)))
    if os.path.exists(report):
        for line in read(report, "r").splitlines():
            say("   | " + line)
    if out.status:
        say(read(err).decode(errors="replace")[-2000:])
    if out.timed_out:
        return "the program was too slow under Quire: is this machine idle?"
    if out.status or out.killed_by_oom:
        return "the program did not finish under Quire"
    if got != want:
        return "the result differs"
    say("\nThe result is the same, byte for byte.")
    return None


def main():
    args = sys.argv[1:]
    if args and not (args[0] == "objects" and len(args) == 2 and args[1].isdigit()):
        sys.exit("usage: demo.sh [objects COUNT]")
    limited.die_on_signals()
    folder = tempfile.mkdtemp(prefix="quire-demo-")
    try:
        wrong = demo(folder, args)
    finally:
        shutil.rmtree(folder)
    if wrong:
        say("\ndemo: FAILED: " + wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
