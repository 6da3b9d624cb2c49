# SPDX-License-Identifier: BSD-2-Clause
"""How a program slows down as its memory shrinks, under Quire and under the kernel's zram.

    knee.py [--quick] [--rounds N] [--bound 30] [--svg FILE] [--json FILE] [PROGRAM ...]
    knee.py --draw FILE.json --svg FILE

Each program runs natively, then in 110, 95, 90, 75, 60, 50, 40 and 25 percent of its peak (the largest
resident set of the native run). Every figure is made of two times of one round, and is the median of
--rounds rounds; outputs are compared with the native run's.

  quire    `quire run --memory SHARE`, the default pool and swap file; no cgroup
  kernel   the same program in a memory cgroup with limit B = SHARE, the kernel swapping to zram with lz4. The
           cgroup is not charged for zram: the most that zram took, Z, is memory in addition. So the kernel's cell
           stands at (B + Z) / peak, and Quire runs once more with that memory (the column `same memory`)
  waited   part of the run's time that Quire took to serve faults
  faults   pages brought in from the store, those read ahead among them; rescues: pages given back that had
           only been tested

A run is killed after --bound times the native time, and its cell says so. If the kernel's OOM
killer kills the program, the cell says killed.

The second table is about the number of faults. A smaller size of the program is run under qemu-user
(quire-lab trace), and exact LRU counts how often it would bring a page in again, with as many
frames as Quire had for the same size: its memory less the most that the pool took, which is more
than the pool took most of the time; and with all of its memory. Pages that Quire does not manage
(text, data of libraries) are in memory on both sides.

--threads: sort and java with one thread and with two, each in the same share of its own peak; the times beside each
other. A program that pages must not become slower with more threads.

--quick: three programs, four sizes, one round. Programs that cannot run here are named and left
out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import types

sys.dont_write_bytecode = True

import knee_plot
import knee_programs

programs = knee_programs.programs
limited = programs.limited
swaparea = programs.swaparea

TOP = knee_programs.TOP
MIB = 1 << 20
PAGE = 4096
SHARES = (110, 95, 90, 75, 60, 50, 40, 25)
QUICK_SHARES = (110, 90, 75, 50)
TRACE_SHARES = (95, 90, 75, 60)
LEAST = 8 * MIB  # what quire run takes at least


class Measure:
    def __init__(self, args):
        self.args = args
        self.build = os.path.join(TOP, os.environ.get("BUILD", "build"))
        self.binary = os.path.abspath(os.environ.get("QUIRE", os.path.join(self.build, "quire")))
        self.harness = programs.Harness(types.SimpleNamespace(work=args.work))
        self.harness.inputs = os.path.join(self.harness.work, "inputs")
        os.makedirs(self.harness.inputs, exist_ok=True)

    def execute(self, program, name, prefix=(), limit=None, timeout=3600):
        """One run: the outcome, its outputs' digests, its folder's path (removed by the next run)."""
        cwd = os.path.join(self.harness.work, "knee-" + name)
        out = self.harness.execute(program, cwd, list(prefix), limit, timeout)
        return out, program.output_digests(cwd), cwd

    def native(self, program):
        out, digests, cwd = self.execute(program, "native")
        if out.status != 0:
            with open(os.path.join(cwd, "stderr"), errors="replace") as f:
                raise RuntimeError("ends with status %s natively: %s" % (out.status, f.read()[-300:]))
        return out, digests

    def quire(self, program, memory, native, want):
        report = os.path.join(self.harness.work, "knee-report.json")
        if os.path.exists(report):
            os.unlink(report)
        prefix = [self.binary, "run", "--memory", str(max(memory, LEAST) // PAGE * PAGE),
                  *self.args.options.split(), "--report", "json:" + report, "--"]
        bound = self.args.bound * native.wall + 5
        out, got, _ = self.execute(program, "quire", prefix, timeout=bound)
        cell = {"memory": memory, "wall": out.wall, "native": native.wall, "times": out.wall / native.wall}
        if out.timed_out:
            cell["why"] = "over %d" % self.args.bound
        elif out.status != 0:
            cell["why"] = "status %s" % out.status
        elif got != want:
            cell["why"] = "output differs"
        try:
            with open(report) as f:
                r = json.load(f)
            cell.update(faults=r["faults_swap"], rescues=r["faults_rescue"], waited=r["wait_ns"] / 1e9 / out.wall,
                        pool=r["pool_peak_bytes"], file=r["file_bytes"], ratio=r["pool_ratio"], need=r["need_peak_bytes"])
        except (OSError, ValueError, KeyError):
            cell.setdefault("why", "no report")
        return cell

    def kernel(self, program, limit, native, want):
        """In a cgroup of that limit, over zram. The most that zram took is in the cell."""
        area = swaparea.SwapArea("zram", self.harness.work, 4096 * MIB)
        try:
            out, got, _ = self.execute(program, "kernel", limit=limit, timeout=self.args.bound * native.wall + 5)
            with open("/sys/block/zram%d/mm_stat" % area.zram) as f:
                zram = int(f.read().split()[4])
        finally:
            area.remove()
        cell = {"limit": limit, "zram": zram, "wall": out.wall, "native": native.wall, "times": out.wall / native.wall,
                "major": out.major}
        if out.killed_by_oom:
            cell["why"] = "killed"
        elif out.timed_out:
            cell["why"] = "over %d" % self.args.bound
        elif out.status != 0:
            cell["why"] = "killed" if out.status >= 128 else "status %s" % out.status
        elif got != want:
            cell["why"] = "output differs"
        return cell

    def lru(self, program):
        """ The pages that exact LRU brings in again, by number of frames, over a trace that is kept
from run to run; and the number of pages."""
        trace = os.path.join(self.harness.work, "%s-%s.trace" % (program.name, program.scale))
        lab = os.path.join(self.build, "quire-lab")
        if not os.path.exists(trace):
            part = trace + ".part"
            out, _, cwd = self.execute(program, "trace", [lab, "trace", "--output", part], timeout=self.args.trace_bound)
            if out.status != 0:
                with open(os.path.join(cwd, "stderr"), errors="replace") as f:
                    raise RuntimeError("not traced within %d s: %s" % (self.args.trace_bound, f.read()[-200:].strip())
                                       if out.timed_out else "not traced: %s" % f.read()[-200:].strip())
            os.rename(part, trace)

        def ask(frames):
            text = subprocess.run([lab, "policies", "--policy", "lru", "--frames", frames, trace], check=True,
                                  capture_output=True, text=True).stdout
            words = text.split()
            return int(words[words.index("pages;") - 1]), int(text.splitlines()[-1].split()[-1])
        pages = ask("50%")[0]
        return pages, lambda frames: max(0, ask(str(max(1, min(frames, pages))))[1] - pages)


def median_of(cells):
    """ One cell of several rounds: the round with the median time, unless most have failed."""
    good = [c for c in cells if "why" not in c]
    if len(good) * 2 < len(cells) or not good:
        return next(c for c in cells if "why" in c)
    times = statistics.median_low([c["times"] for c in good])
    return next(c for c in good if c["times"] == times)


def measure_program(m, cls, shares, zram):
    program = cls("small")
    program.inputs(m.harness.inputs)
    m.execute(program, "native")  # warms the page cache
    first, want = m.native(program)
    peak = first.peak
    row = {"program": program.name, "peak": peak, "native": first.wall, "cells": []}
    print("\n### %s: peak %.0f MiB, natively %.2f s" % (program.name, peak / MIB, first.wall))
    print("| memory | times native | store faults | rescues | waited | pool | file |  kernel: limit + zram | times native | Quire, same memory | Quire / kernel |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for share in shares:
        memory = peak * share // 100
        ours, kernel, same = [], [], []
        for _ in range(m.args.rounds):
            native, _ = m.native(program)
            ours.append(m.quire(program, memory, native, want))
            if zram and share < 100:
                kernel.append(m.kernel(program, memory, native, want))
                if "why" not in kernel[-1]:
                    same.append(m.quire(program, memory + kernel[-1]["zram"], native, want))
        cell = {"share": share, "quire": median_of(ours), "kernel": median_of(kernel) if kernel else None,
                "same": median_of(same) if same else None}
        if cell["kernel"]:
            cell["kernel"]["share"] = 100 * (cell["kernel"]["limit"] + cell["kernel"]["zram"]) / peak
        if cell["same"]:
            cell["same"]["ratio_kernel"] = statistics.median(
                s["wall"] / k["wall"] for s, k in zip(same, [k for k in kernel if "why" not in k]))
        row["cells"].append(cell)
        print(row_of(cell), flush=True)
    return row


def times_of(cell):
    return cell.get("why", "%.2f" % cell["times"])


def row_of(cell):
    q, k, s = cell["quire"], cell["kernel"], cell["same"]
    text = "| %d%% | %s | %s | %s | %s | %s | %s |" % (
        cell["share"], times_of(q), q.get("faults", "-"), q.get("rescues", "-"),
        "%.0f%%" % (100 * q["waited"]) if "waited" in q else "-",
        "%.1f MiB" % (q["pool"] / MIB) if "pool" in q else "-", "%.1f MiB" % (q["file"] / MIB) if "file" in q else "-")
    if not k:
        return text + " | | | |"
    text += " %.0f + %.1f MiB = %.0f%% | %s |" % (k["limit"] / MIB, k["zram"] / MIB, k["share"], times_of(k))
    return text + (" %s | %.2f |" % (times_of(s), s["ratio_kernel"]) if s else " | |")


def measure_faults(m, cls):
    """ Store faults compared with exact LRU's, at the size that can be traced."""
    if "trace" not in cls.sizes:
        return {"program": cls.name, "why": cls.untraced}
    program = cls("trace")
    program.inputs(m.harness.inputs)
    try:
        pages, misses = m.lru(program)
        native, want = m.native(program)
    except RuntimeError as e:
        return {"program": cls.name, "why": str(e)}
    native.wall = max(native.wall, 1.0)  # these are short: the bound shall not be
    # A program that fits is counted by its mappings, touched or not.
    need = min(m.quire(program, 2 * pages * PAGE + 64 * MIB, native, want).get("need", 0), pages * PAGE)
    row = {"program": cls.name, "scale": program.scale, "pages": pages, "managed": need // PAGE, "cells": []}
    for share in TRACE_SHARES:
        memory = need * share // 100
        if memory < LEAST:
            continue
        q = m.quire(program, memory, native, want)
        if "faults" not in q:
            continue
        frames = pages - need // PAGE + (memory - q["pool"]) // PAGE
        row["cells"].append({"share": share, "quire": q, "frames": frames, "lru": misses(frames), "lru_all": misses(
            pages - need // PAGE + memory // PAGE)})
    return row


def print_faults(rows):
    print("\n### Store faults against exact LRU, at sizes that can be traced")
    print("| program | pages (managed) | memory | store faults | rescues | LRU, the frames that were left | LRU, all of the memory | Quire / LRU |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for r in rows:
        if "why" in r:
            print("| %s | not traced: %s | | | | | | |" % (r["program"], r["why"]))
            continue
        for c in r["cells"]:
            print("| %s, %s | %d (%d) | %d%% | %d | %d | %d | %d | %s |" % (
                r["program"], r["scale"], r["pages"], r["managed"], c["share"], c["quire"]["faults"], c["quire"]["rescues"],
                c["lru"], c["lru_all"], "%.2f" % (c["quire"]["faults"] / c["lru"]) if c["lru"] else "-"))
    sys.stdout.flush()


def measure_threads(m, pair, shares):
    """A program with one thread and with two, each in that share of its own peak, in turn."""
    programs_of = [cls("small") for cls in pair]
    natives = []
    for program in programs_of:
        program.inputs(m.harness.inputs)
        m.execute(program, "native")
        natives.append(m.native(program))
    row = {"program": pair[0].name, "native": [n.wall for n, _ in natives], "cells": []}
    print("\n### %s: natively %.2f s with one thread, %.2f with two" % (pair[0].name, *row["native"]))
    print("| memory | one thread, s | store faults | two threads, s | store faults | two / one (spread) |")
    print("|---:|---:|---:|---:|---:|---:|", flush=True)
    for share in shares:
        runs = [[m.quire(program, n.peak * share // 100, n, want) for program, (n, want) in zip(programs_of, natives)]
                for _ in range(m.args.rounds)]
        cells = [median_of([r[i] for r in runs]) for i in range(2)]
        ratios = [two["wall"] / one["wall"] for one, two in runs if "why" not in one and "why" not in two]
        row["cells"].append({"share": share, "one": cells[0], "two": cells[1], "ratios": ratios})
        print("| %d%% | %s | %s |" % (share, " | ".join(
            "%s | %s" % (c.get("why", "%.2f" % c["wall"]), c.get("faults", "-")) for c in cells),
            "%.2f (%.2f-%.2f)" % (statistics.median(ratios), min(ratios), max(ratios)) if ratios else "-"), flush=True)
    return row


def print_summary(rows):
    """ Compares with the kernel at the same memory, over all cells where the program survives."""
    ratios = [c["same"]["ratio_kernel"] for r in rows for c in r["cells"] if c["same"] and "why" not in c["same"]]
    lost = sum(1 for r in rows for c in r["cells"] if c["kernel"] and c["kernel"].get("why") == "killed")
    if ratios:
        print("\nQuire / kernel with the same memory: geometric mean %.2f, largest %.2f, %d cells; the kernel killed the program in %d more"
              % (statistics.geometric_mean(ratios), max(ratios), len(ratios), lost))


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("names", nargs="*", metavar="PROGRAM", help="of: " + " ".join(c.name for c in knee_programs.PROGRAMS))
    p.add_argument("--quick", action="store_true", help="three programs, four sizes, one round")
    p.add_argument("--rounds", type=int, default=0, help="default 3")
    p.add_argument("--shares", type=lambda t: tuple(int(n) for n in t.split(",")), help="percent of the peak, with commas")
    p.add_argument("--bound", type=int, default=30, help="times native after which a run is ended")
    p.add_argument("--trace-bound", type=int, default=1200, help="seconds a trace may take")
    p.add_argument("--no-kernel", action="store_true", help="Quire alone")
    p.add_argument("--no-lru", action="store_true", help="without the second table")
    p.add_argument("--only-lru", action="store_true", help="the second table alone")
    p.add_argument("--threads", action="store_true", help="sort and java with one thread and with two, and nothing else")
    p.add_argument("--options", default="", help="passed on to quire run, in one word")
    p.add_argument("--work", default=os.path.join(TOP, os.environ.get("BUILD", "build"), "knee"))
    p.add_argument("--svg", metavar="FILE", help="draw it there (default: WORK/knee.svg)")
    p.add_argument("--json", metavar="FILE", help="write every figure there (default: WORK/knee.json)")
    p.add_argument("--draw", metavar="FILE", help="draw what --json wrote, and measure nothing")
    args = p.parse_args()
    known = [c.name for c in knee_programs.PROGRAMS]
    for name in args.names:
        if name not in known:
            p.error("no program %r; there are: %s" % (name, " ".join(known)))
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.shares = args.shares or (QUICK_SHARES if args.quick else SHARES)
    args.names = args.names or (knee_programs.QUICK if args.quick else known)
    args.svg = args.svg or os.path.join(args.work, "knee.svg")
    args.json = args.json or os.path.join(args.work, "knee.json")
    return args


def zram_works(args):
    """ One sentence that says why the program cannot run, or None."""
    if args.no_kernel:
        return "left out"
    try:
        swaparea.SwapArea("zram", args.work, 64 * MIB).remove()
    except (SystemExit, OSError, RuntimeError) as e:
        return str(e)
    group = limited.Cgroup.create(64 * MIB)
    if group is None:
        return "no memory cgroup may be made here"
    group.remove()
    return None


def main():
    args = arguments()
    if args.draw:
        with open(args.draw) as f:
            knee_plot.draw(json.load(f), args.svg)
        return 0
    limited.die_on_signals()
    m = Measure(args)
    if not os.access(m.binary, os.X_OK):
        sys.exit("knee: no %s: build first" % m.binary)
    if args.threads:
        print("# %d rounds, a run is ended after %d times the native time" % (args.rounds, args.bound), flush=True)
        for pair in knee_programs.THREADED:
            measure_threads(m, pair, args.shares)
        return 0
    why = zram_works(args)
    print("# %d rounds, a run is ended after %d times the native time; the kernel's zram: %s" % (
        args.rounds, args.bound, why or "lz4, page-cluster 0"), flush=True)
    result = {"rounds": args.rounds, "bound": args.bound, "rows": [], "faults": []}
    for cls in knee_programs.PROGRAMS:
        if cls.name not in args.names:
            continue
        missing = [tool for tool in cls.needs if not programs.which(tool)]
        if missing:
            print("\n### %s: missing: %s: left out" % (cls.name, " ".join(missing)))
            continue
        if not args.only_lru:
            result["rows"].append(measure_program(m, cls, args.shares, why is None))
        if not args.no_lru and (not args.quick or args.only_lru):
            result["faults"].append(measure_faults(m, cls))
    if result["faults"]:
        print_faults(result["faults"])
    print_summary(result["rows"])
    with open(args.json, "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    if result["rows"]:
        knee_plot.draw(result, args.svg)
        print("drawn: %s" % args.svg)
    return 1 if any("differs" in c["quire"].get("why", "") for r in result["rows"] for c in r["cells"]) else 0


if __name__ == "__main__":
    sys.exit(main())
