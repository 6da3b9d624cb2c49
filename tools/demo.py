# SPDX-License-Identifier: BSD-2-Clause
"""Show an unmodified program finish in a quarter of the memory it needs.

Three runs of examples/objects.py on the same work:
  1. natively, without a limit: its output, its peak, its time;
  2. natively inside a memory cgroup: what the kernel does to it there;
  3. under `quire run --memory` with a quarter of the peak, in the same cgroup.
The output of the third is compared with that of the first, byte by byte.
Where no memory cgroup may be made, the second run is left out and the third
relies on Quire's own budget; the text says so.
"""

import os
import shutil
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tools"))
sys.dont_write_bytecode = True

import limited  # noqa: E402

MIB = 1 << 20
SHARE = 4
SLACK = 48 * MIB    # the program's text, page tables, stacks, Quire's tables
TIMEOUT = 1200


def read(path, mode="rb"):
    with open(path, mode) as f:
        return f.read()


def say(text=""):
    print(text, flush=True)


def swap_is_on():
    return len(read("/proc/swaps", "r").splitlines()) > 1


def explain(out):
    if out.killed_by_oom:
        return "killed by the kernel's OOM killer after %.1f s" % out.wall
    if out.timed_out:
        return "not finished after %d s" % TIMEOUT
    if out.status:
        return "ended with status %d after %.1f s" % (out.status, out.wall)
    return "finished in %.1f s" % out.wall


def demo(folder):
    quire = os.path.join(TOP, os.environ.get("BUILD", "build"), "quire")
    count = os.environ.get("DEMO_COUNT", "1000000")
    program = [sys.executable, "examples/objects.py", count]
    env = dict(os.environ, PYTHONHASHSEED="0")

    def run(name, prefix, limit):
        out, err = (os.path.join(folder, name + s) for s in (".out", ".err"))
        return limited.run(prefix + program, TOP, out, err, TIMEOUT, env, limit=limit), out, err

    say("An ordinary program, natively:")
    say("   $ python3 examples/objects.py %s" % count)
    native, want, err = run("native", [], None)
    if native.status:
        say(read(err, "r"))
        return "the program fails natively with status %d" % native.status
    for line in read(want, "r").splitlines():
        say("   | " + line)
    say("   peak %.0f MiB, %.1f s" % (native.peak / MIB, native.wall))

    budget = native.peak // SHARE // MIB
    limit = budget * MIB + SLACK
    probe = limited.Cgroup.create(limit)
    if probe:
        probe.remove()
        say("\nThe same inside a memory cgroup of %d MiB%s:" % (
            limit // MIB, " (this machine has kernel swap on)" if swap_is_on() else ""))
        out, _, _ = run("limited", [], limit)
        say("   " + explain(out))
    else:
        limit = None
        say("\n(No memory cgroup may be made here: the limit below is Quire's own.)")

    say("\nThe same%s, under Quire:" % (" cgroup" if limit else ""))
    say("   $ quire run --memory %dM -- python3 examples/objects.py %s" % (budget, count))
    report = os.path.join(folder, "report")
    out, got, err = run("quire", [quire, "run", "--memory", "%dM" % budget, "--report", "text:" + report, "--"],
                        limit)
    say("   " + explain(out) + ("" if out.status else ": %.1f times the native time, with %.0f %% of its peak" % (
        out.wall / native.wall, 100.0 * budget * MIB / native.peak)))
    if os.path.exists(report):
        for line in read(report, "r").splitlines():
            say("   | " + line)
    if out.status:
        say(read(err).decode(errors="replace")[-2000:])
    if out.status or out.killed_by_oom:
        return "the program did not finish under Quire"
    if read(got) != read(want):
        for line in read(got).decode(errors="replace").splitlines()[:20]:
            say("   | " + line)
        return "the output differs"
    say("\nThe output is the same, byte for byte.")
    return None


def main():
    limited.die_on_signals()
    folder = tempfile.mkdtemp(prefix="quire-demo-")
    try:
        wrong = demo(folder)
    finally:
        shutil.rmtree(folder)
    if wrong:
        say("\ndemo: FAILED: " + wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
