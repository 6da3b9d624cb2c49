# SPDX-License-Identifier: BSD-2-Clause
"""Quire, the kernel's swap and the floor, on the same work in one run.

    peers.py [--mib 256] [--limit 64] [--accesses 100000] [--repeats 5] [--only NAME ...]

The work is bench/fault_kernel.c: random 4 KiB read-modify-write over --mib of
anonymous memory, each access checked, in --limit of memory.  The same binary,
unmodified, runs

  zram    in a cgroup of --limit, the kernel swapping to zram with lz4
  file    in a cgroup of --limit, the kernel swapping to a file on disk
  quire   under `quire run --memory LIMIT`, in a cgroup of --limit + --slack
  floor   is bench/floor.c: the kernel's part of an in-thread fault alone

What cannot run here (no root, no zram, no cgroup, Quire not built) is said and
left out.  Prints key-value lines, then the ratios.  What is charged to whom:
zram's compressed pages are in no cgroup, so the kernel has that memory on top
of the limit; Quire's pool is within its budget.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tools"))
sys.dont_write_bytecode = True

import limited  # noqa: E402
import swaparea  # noqa: E402

MIB = 1 << 20
NAMES = ("floor", "zram", "file", "quire")


def compile_program(name, folder):
    out = os.path.join(folder, name)
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-o", out,
                    os.path.join(TOP, "bench", name + ".c")], check=True)
    return out


def lines_of(path):
    """Key-value lines as a dictionary of numbers; other lines are left out."""
    found = {}
    with open(path) as f:
        for line in f:
            words = line.split()
            if len(words) == 2:
                try:
                    found[words[0]] = float(words[1])
                except ValueError:
                    pass
    return found


class Bench:
    def __init__(self, args, folder):
        self.args = args
        self.folder = folder
        self.kernel = compile_program("fault_kernel", folder)
        self.work = [self.kernel, "-m", str(args.mib), "-n", str(args.accesses), "-r", str(args.repeats)]

    def measure(self, name, argv, limit):
        """Run argv and print its figures under `name`.  None if it failed."""
        out, err = os.path.join(self.folder, name + ".out"), os.path.join(self.folder, name + ".err")
        got = limited.run(argv, self.folder, out, err, self.args.timeout, limit=limit)
        if limit and not got.group_peak:
            print("# %s: no memory cgroup may be made here: left out" % name)
            return None
        if got.status or got.timed_out:
            why = ("killed by the cgroup's OOM killer" if got.killed_by_oom
                   else "timed out" if got.timed_out else "status %d" % got.status)
            with open(err, errors="replace") as f:
                print("# %s: %s %s" % (name, why, f.read()[-500:].strip()), flush=True)
            return None
        figures = lines_of(out)
        for key, value in figures.items():
            print("%s %g" % (key if key.startswith(name + ".") else name + "." + key, value))
        sys.stdout.flush()
        return figures

    def floor(self):
        return self.measure("floor", [compile_program("floor", self.folder), "-r", str(self.args.repeats)], None)

    def swap(self, kind):
        if os.geteuid() != 0:
            print("# %s: needs root: left out" % kind)
            return None
        try:
            area = swaparea.SwapArea(kind, self.args.work, 2 * self.args.mib * MIB)
        except (SystemExit, OSError, RuntimeError) as e:
            print("# %s: %s: left out" % (kind, e))
            return None
        try:
            print("# %s: %s" % (kind, area.what))
            return self.measure(kind, self.work, self.args.limit * MIB)
        finally:
            area.remove()

    def zram(self):
        return self.swap("zram")

    def file(self):
        return self.swap("file")

    def quire(self):
        binary = os.path.abspath(os.environ.get("QUIRE", os.path.join(TOP, os.environ.get("BUILD", "build"), "quire")))
        if not os.access(binary, os.X_OK):
            print("# quire: no %s: left out" % binary)
            return None
        return self.measure("quire", [binary, "run", "--memory", "%dM" % self.args.limit, "--report", "text", "--"]
                            + self.work, (self.args.limit + self.args.slack) * MIB)


def arguments():
    p = argparse.ArgumentParser(description="Quire, the kernel's swap and the floor on the same work.")
    p.add_argument("--mib", type=int, default=256, help="size of the region")
    p.add_argument("--limit", type=int, default=64, help="MiB it may use")
    p.add_argument("--slack", type=int, default=48, help="MiB beside the limit in Quire's cgroup")
    p.add_argument("--accesses", type=int, default=100000)
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--timeout", type=float, default=600)
    p.add_argument("--work", default="/var/tmp", help="where the swap file is made: a disk")
    p.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    return p.parse_args()


def main():
    args = arguments()
    limited.die_on_signals()
    folder = tempfile.mkdtemp(prefix="quire-bench-")
    try:
        bench = Bench(args, folder)
        print("# random 4 KiB read-modify-write, %d MiB in %d MiB, %d accesses, %d repeats; microseconds"
              % (args.mib, args.limit, args.accesses, args.repeats), flush=True)
        got = {name: getattr(bench, name)() for name in NAMES if name in args.only}
    finally:
        shutil.rmtree(folder)
    print("# microseconds per access, median, and times the best")
    key = "us_per_access.median"
    ranked = sorted((f[key], name) for name, f in got.items() if f and key in f)
    for value, name in ranked:
        print("# %-6s %8.2f %6.2fx" % (name, value, value / ranked[0][0]))
    return 1 if any(f and f.get("content_errors") for f in got.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
