# SPDX-License-Identifier: BSD-2-Clause
"""Quire, the kernel's swap and the floor, on the same work in one run.

    peers.py [--mib 256] [--limit 64] [--accesses 50000] [--repeats 3] [--rounds 5] [--only NAME ...]
             [--pattern random|sequential|runs] [--writes 100] [--others CPUS]

The work is that of bench/workload.h: 4 KiB read-modify-writes over --mib of
anonymous memory, each access checked, in --limit of memory, one thread. Without --pattern the
accesses are in random order; --writes is how many of a hundred write.

  floor   bench/floor.c: the kernel's part of an in-thread fault alone
  none    libquire (bench/fault.c), budget --limit, a store that keeps two words of a page: no page is copied
  null    the same with a store that copies a page
  pool    libquire, budget --limit, the LZ4 pool
  file    libquire, budget --limit, a 2 MiB pool in passing, a swap file
  kzram   plain mmap (bench/fault_kernel.c) in a cgroup of --limit, the kernel swapping to zram with lz4
  kfile   the same with a swap file of the kernel's on the same disk
  disk    bench/disk.c: reads of 4 KiB past the page cache, one at a time, while as much is written behind
  run     the program of kzram, unmodified, under `quire run --memory LIMIT`; at most 10000 accesses

Each round runs all of them once, in this order; a figure is the median of --repeats within its
process, a ratio is made of two figures of one round, and the table has minimum, median and maximum
over the rounds. The last table has the ratios of the time of an access, hits included: the program
sees this time, whatever each side counts as a fault. Before it: the faults, and the KiB read
and written, of an access, and the MiB resident at the end; medians. In brackets, for each round:
how many CPUs other work used meanwhile. Times from a machine that is not idle otherwise mean
little: the kernel's own threads use about 0.1 of a CPU. With
--others a round that was disturbed more is run again.

Parts that cannot run here (no root, no zram, no cgroup, Quire not built) are named and left out.
What each cgroup is charged for: zram's compressed pages are in no cgroup, so the kernel has that
memory on top of the limit; libquire's pool is besides its budget, too.
Under `quire run` the pool is within the budget.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tools"))
sys.dont_write_bytecode = True

import limited  # noqa: E402
import swaparea  # noqa: E402

MIB = 1 << 20
NAMES = ("floor", "none", "null", "pool", "file", "kzram", "kfile", "disk", "run")
RATIOS = (("none", "floor"), ("null", "floor"), ("pool", "floor"), ("pool", "kzram"), ("file", "kfile"), ("file", "disk"), ("run", "kzram"))
ACCESS = " an access"  # after a name: that other figure of it
OTHERS = " others"  # after a name: how many CPUs were busy with something else while it ran, the kernel's own threads included
KEY = {"floor": "floor.cycle_us.median", "disk": "disk.mixed_us.median"}
TRIES = 20  # rounds that do not count, for each that does
TRAFFIC = ("faults_per_access", "read_kib_per_access", "written_kib_per_access", "resident_mib")


def compile_program(name, folder):
    out = os.path.join(folder, name)
    subprocess.run([os.environ.get("CC", "cc"), "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-I", TOP, "-o", out,
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


def cpu_seconds():
    """ CPU time of all CPUs since the machine started, and of the children that have ended."""
    with open("/proc/stat") as f:
        ticks = [int(n) for n in f.readline().split()[1:9]]
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), own.ru_utime + own.ru_stime


class Bench:
    def __init__(self, args, folder):
        self.args = args
        self.folder = folder
        self.build = os.path.join(TOP, os.environ.get("BUILD", "build"))
        self.compiled = {name: compile_program(name, folder) for name in ("fault_kernel", "floor", "disk")}
        self.size = ["-m", str(args.mib), "-n", str(args.accesses), "-r", str(args.repeats), "-a", args.pattern,
                     "-w", str(args.writes)]
        self.work = [self.compiled["fault_kernel"]] + self.size
        self.gone = set()
        self.killed = {}
        self.failed = False

    def leave_out(self, name, why):
        print("# %s: %s: left out" % (name, why), flush=True)
        self.gone.add(name)

    def measure(self, name, argv, limit, must=True, again=0):
        """ Runs argv: returns its figures, or None. must: if a cgroup of that limit cannot be made,
there is no figure. again: further attempts if the OOM killer kills the program, which it does with
plenty of swap free when every page of a small cgroup was just used."""
        out, err = os.path.join(self.folder, name + ".out"), os.path.join(self.folder, name + ".err")
        began, (busy, own) = time.monotonic(), cpu_seconds()
        got = limited.run(argv, self.folder, out, err, self.args.timeout, limit=limit)
        if limit and must and not got.group_peak:
            self.leave_out(name, "no memory cgroup may be made here")
            return None
        if got.killed_by_oom and again > 0:
            self.killed[name] = self.killed.get(name, 0) + 1
            return self.measure(name, argv, limit, must, again - 1)
        if got.status == 77:
            self.leave_out(name, "this kernel lacks what it needs")
            return None
        if got.status or got.timed_out:
            why = ("killed by the cgroup's OOM killer" if got.killed_by_oom
                   else "timed out" if got.timed_out else "status %d" % got.status)
            with open(err, errors="replace") as f:
                self.leave_out(name, "%s %s" % (why, f.read()[-500:].strip()))
            self.failed = True
            return None
        figures = lines_of(out)
        now, (busy_now, own_now) = time.monotonic(), cpu_seconds()
        figures[OTHERS] = max(0, (busy_now - busy) - (own_now - own)) / (now - began)
        self.failed |= bool(figures.get("content_errors") or figures.get("floor.errors"))
        return figures

    def floor(self):
        return self.measure("floor", [self.compiled["floor"], "-n", "20000", "-r", str(self.args.repeats)], None)

    def swap(self, name, kind):
        if os.geteuid() != 0:
            return self.leave_out(name, "needs root")
        try:
            area = swaparea.SwapArea(kind, self.args.work, 2 * self.args.mib * MIB)
        except (SystemExit, OSError, RuntimeError) as e:
            return self.leave_out(name, e)
        try:
            return self.measure(name, self.work, self.args.limit * MIB, again=20)
        finally:
            area.remove()

    def kzram(self):
        return self.swap("kzram", "zram")

    def kfile(self):
        return self.swap("kfile", "file")

    def disk(self):
        return self.measure("disk", [self.compiled["disk"], "-m", str(self.args.mib), "-n", "4000", "-r",
                                     str(self.args.repeats), "-d", self.args.work], None)

    def library(self, kind, besides):
        binary = os.path.join(self.build, "fault")
        if not os.access(binary, os.X_OK):
            return self.leave_out(kind, "no " + binary)
        return self.measure(kind, [binary, "-k", kind, "-b", str(self.args.limit), "-p",
                                     str(self.args.mib // 2), "-d", self.args.work] + self.size,
                            (self.args.limit + besides + self.args.slack) * MIB, must=False)

    def none(self):
        return self.library("none", 16)

    def null(self):
        return self.library("null", self.args.mib + 16)

    def pool(self):
        return self.library("pool", self.args.mib // 2)

    def file(self):
        return self.library("file", 2)

    def run(self):
        binary = os.path.abspath(os.environ.get("QUIRE", os.path.join(self.build, "quire")))
        if not os.access(binary, os.X_OK):
            return self.leave_out("run", "no " + binary)
        return self.measure("run", [binary, "run", "--memory", "%dM" % self.args.limit, "--report", "none", "--"]
                            + self.work[:1] + ["-m", str(self.args.mib), "-n", str(min(self.args.accesses, 10000)), "-r", "1"],
                            (self.args.limit + self.args.slack) * MIB, must=False)


def spread(values):
    return "%8.2f %8.2f %8.2f" % (min(values), statistics.median(values), max(values))


def report(rounds):
    """Figures and ratios: minimum, median, maximum over the rounds."""
    print("# microseconds a fault           min   median      max")
    for name in NAMES:
        values = [r[name] for r in rounds if name in r]
        if values:
            print("%-24s %s" % (name, spread(values)))
    print("# an access: faults, KiB read, KiB written; MiB resident")
    for name in NAMES:
        found = [r[name + TRAFFIC[0]] for r in rounds if name + TRAFFIC[0] in r]
        if found:
            print("%-24s %8.3f %8.2f %8.2f %8.1f" % ((name,) + tuple(
                statistics.median(v) for v in zip(*found))))
    for what, suffix in (("times, a fault   ", ""), ("times, an access ", ACCESS)):
        print("# %s              min   median      max" % what)
        for ours, theirs in RATIOS:
            values = [r[ours + suffix] / r[theirs + suffix] for r in rounds
                      if ours + suffix in r and theirs + suffix in r]
            if values:
                print("%-24s %s" % (ours + "/" + theirs, spread(values)))


def arguments():
    p = argparse.ArgumentParser(description="Quire, the kernel's swap and the floor on the same work.")
    p.add_argument("--mib", type=int, default=256, help="size of the region")
    p.add_argument("--limit", type=int, default=64, help="MiB it may use")
    p.add_argument("--slack", type=int, default=48, help="MiB beside the limit in Quire's cgroup")
    p.add_argument("--accesses", type=int, default=50000)
    p.add_argument("--repeats", type=int, default=3, help="in a process; their median is its figure")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--others", type=float, default=float("inf"),
                   help="CPUs busy with something else from which on a round does not count and another one is run")
    p.add_argument("--timeout", type=float, default=600)
    p.add_argument("--work", default="/var/tmp", help="where swap files are made: a disk")
    p.add_argument("--pattern", choices=("random", "sequential", "runs"), default="random")
    p.add_argument("--writes", type=int, default=100, help="of a hundred accesses")
    p.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    return p.parse_args()


def main():
    args = arguments()
    limited.die_on_signals()
    folder = tempfile.mkdtemp(prefix="quire-bench-")
    rounds = []
    try:
        bench = Bench(args, folder)
        print("# %s 4 KiB accesses, %d%% writes, %d MiB in %d MiB, %d accesses, %d repeats, %d rounds"
              % (args.pattern, args.writes, args.mib, args.limit, args.accesses, args.repeats, args.rounds), flush=True)
        tries = 0
        while len(rounds) < args.rounds and tries < args.rounds * TRIES:
            tries += 1
            rounds.append({})
            for name in NAMES:
                got = getattr(bench, name)() if name in args.only and name not in bench.gone else None
                key = KEY.get(name, "us_per_fault.median")
                if got and key in got:
                    rounds[-1][name] = got[key]
                    rounds[-1][name + OTHERS] = got[OTHERS]
                if got and TRAFFIC[0] in got:
                    rounds[-1][name + TRAFFIC[0]] = [got[key] for key in TRAFFIC]
                if got and "us_per_access.median" in got:
                    rounds[-1][name + ACCESS] = got["us_per_access.median"]
            busy = max([v for key, v in rounds[-1].items() if key.endswith(OTHERS)], default=0) > args.others
            print("# round %d%s: %s" % (len(rounds), ", not counted" if busy else "", "  ".join("%s %.2f (%.2f)" % (key, us, rounds[-1][key + OTHERS])
                                                       for key, us in rounds[-1].items() if key in NAMES)), flush=True)
            if busy:
                rounds.pop()
    finally:
        shutil.rmtree(folder)
    report(rounds)
    for name, times in bench.killed.items():
        print("# %s: killed by the kernel's OOM killer %d times and run again" % (name, times))
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
