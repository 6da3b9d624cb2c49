#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Unmodified programs in a quarter of the memory they need, some in half of it, too.

Each program runs on the same input natively, which gives the reference
output and the peak of its resident set, and then under a runner with a budget
of a quarter (or half) of that peak, inside a memory cgroup that enforces it.  A program
passes when each such run ends with the same exit status and the same output,
byte for byte, and no process was killed for lack of memory. If no cgroup may be made, the resident set is measured
and must stay below the same limit.

    run.py [--size small|full] [--runner quire|native|kernel-swap] [NAME ...]

runners
  quire        build/quire run --memory BUDGET --report json:FILE -- PROGRAM
  native       the program alone, limit above its peak: checks this harness
               and that each program's output is repeatable
  kernel-swap  the program alone in the same cgroup, the kernel swapping to
               --swap zram or file (root): the figures to compare with

Native runs are repeated only when the program, its size or its binary changed:
what they gave is kept in --work (default: a quire-programs folder in the
build directory).
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tools")]
sys.dont_write_bytecode = True

import limited  # noqa: E402
import runtimes  # noqa: E402
import swaparea  # noqa: E402
from program import MIB, TOP, Program, digest, python, stream, which, write_once  # noqa: E402

# Memory that a run may hold in addition to its budget: program text, page tables, stacks, the
# runtime's own tables, and the page cache of what it reads and writes.
SLACK = 48 * MIB
REPORT = "report.json"


# --- the programs ----------------------------------------------------------

class Objects(Program):
    name = "python"
    sizes = {"small": 300000, "full": 3000000}

    def key(self):
        objects = os.path.join(TOP, "examples", "objects.py")
        return super().key() + [digest(objects), str(os.stat(os.path.realpath(python())).st_mtime_ns)]

    def argv(self, folder):
        return [python(), os.path.join(TOP, "examples", "objects.py"), str(self.scale)]


class Sort(Program):
    name = "sort"
    needs = ("sort",)
    sizes = {"small": 64 * MIB, "full": 300 * MIB}
    threads = 1

    def inputs(self, folder):
        def lines(f):
            n = stream(7)
            size = 0
            while size < self.scale:
                text = "%08x%08x %010d the quick brown fox jumps over the lazy dog %08x %08x\n" % (
                    next(n), next(n), size, next(n), next(n))
                f.write(text)
                size += len(text)
        write_once(os.path.join(folder, "lines-%d" % self.scale), lines)

    def argv(self, folder):
        return ["sort", "-S", "1G", "--parallel=%d" % self.threads, "-T", folder, "-o", "sorted",
                os.path.join(folder, "lines-%d" % self.scale)]

    outputs = ("sorted",)


class SortParallel(Sort):
    name = "sort-2"
    threads = 2


class Sqlite(Program):
    name = "sqlite"
    needs = ("sqlite3",)
    sizes = {"small": 700000, "full": 3000000}

    SCRIPT = """PRAGMA journal_mode=OFF;
PRAGMA temp_store=MEMORY;
CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, town INTEGER, wage INTEGER);
CREATE TABLE sale(id INTEGER PRIMARY KEY, person INTEGER, amount INTEGER, note TEXT);
WITH RECURSIVE n(i, x) AS (SELECT 1, 12345 UNION ALL
    SELECT i + 1, (x * 1103515245 + 12345) & 2147483647 FROM n WHERE i < {rows})
  INSERT INTO person SELECT i, printf('person %08x of the town', x), (x >> 8) % 997, (x >> 4) % 100000 FROM n;
WITH RECURSIVE n(i, x) AS (SELECT 1, 54321 UNION ALL
    SELECT i + 1, (x * 1103515245 + 12345) & 2147483647 FROM n WHERE i < {rows})
  INSERT INTO sale SELECT i, 1 + (x >> 3) % {rows}, (x >> 5) % 1000, printf('sale number %d, %x', i, x) FROM n;
CREATE INDEX by_town ON person(town, wage);
CREATE INDEX by_person ON sale(person);
SELECT count(*), sum(wage), sum(length(name)) FROM person;
SELECT count(*), sum(s.amount), sum(p.wage) FROM person p JOIN sale s ON s.person = p.id WHERE p.town < {towns};
SELECT town, count(*), sum(wage) FROM person GROUP BY town ORDER BY 3 DESC, 1 LIMIT 20;
UPDATE person SET wage = wage + 1 WHERE id % 7 = 3;
SELECT sum(wage) FROM person;
SELECT note FROM sale ORDER BY amount DESC, id LIMIT 10;
SELECT sum(length(note)) FROM sale;
"""

    def inputs(self, folder):
        script = self.SCRIPT.format(rows=self.scale, towns=100)
        write_once(os.path.join(folder, "script-%d.sql" % self.scale), lambda f: f.write(script))

    def argv(self, folder):
        return ["sqlite3", "-batch", "-init", "/dev/null", ":memory:"]

    def stdin(self, folder):
        return os.path.join(folder, "script-%d.sql" % self.scale)


class Gcc(Program):
    name = "gcc"
    needs = ("gcc",)
    sizes = {"small": 200, "full": 1200}
    outputs = ("big.o",)

    def inputs(self, folder):
        def functions(f):
            n = stream(99)
            f.write("struct node { struct node *next; long a[8]; double d; };\n")
            for i in range(self.scale):
                f.write("static inline long h%d(long x, const struct node *p) {\n"
                        "\tswitch (x & 7) {\n" % i)
                for case in range(7):
                    f.write("\tcase %d: return p->a[%d] * %dL + (x >> %d);\n"
                            % (case, next(n) % 8, next(n), next(n) % 31))
                f.write("\tdefault: return p->next ? p->next->a[%d] : x ^ %dL;\n\t}\n}\n"
                        % (next(n) % 8, next(n)))
                f.write("long f%d(struct node *p, int k) {\n\tlong s = %dL;\n" % (i, next(n)))
                f.write("\tfor (int i = 0; i < k; i++) {\n"
                        "\t\tfor (struct node *q = p; q; q = q->next) {\n")
                for _ in range(4):
                    f.write("\t\t\tq->a[i & 7] += h%d(s, q) %% %d;\n\t\t\ts += q->a[%d] * i;\n"
                            "\t\t\tif (s > %dL) q->d *= %d.5; else q->d += s;\n"
                            % (max(0, i - next(n) % 8), 3 + next(n) % 1000, next(n) % 8,
                               next(n), next(n) % 9))
                f.write("\t\t}\n\t}\n\treturn s%s;\n}\n" % (" + f%d(p, k - 1)" % (next(n) % i) if i else ""))
        write_once(os.path.join(folder, "big-%d.c" % self.scale), functions)

    def argv(self, folder):
        return ["gcc", "-O2", "-c", "-o", "big.o", os.path.join(folder, "big-%d.c" % self.scale)]


class Xz(Program):
    """The image of a disk of which a fifth is in use: extents of text, and nothing between them."""
    name = "xz"
    needs = ("xz",)
    sizes = {"small": 8 * MIB, "full": 96 * MIB}
    EXTENT = 1 << 16
    USED = 20   # percent

    def inputs(self, folder):
        def text(n, words):
            size, lines = 0, []
            while size < self.EXTENT:
                # Few frequent and many rare words, as in a language.
                lines.append(" ".join(words[next(n) % (1 + next(n) % len(words))] for _ in range(12)) + ".\n")
                size += len(lines[-1])
            return "".join(lines)[:self.EXTENT]

        def image(f):
            n = stream(4242)
            words = ["%s%s" % ("bdfgklmnprst"[next(n) % 12], "".join("aeioulnrst"[next(n) % 10]
                     for _ in range(1 + next(n) % 7))) for _ in range(5000)]
            for _ in range(self.scale // self.EXTENT):
                f.write(text(n, words) if next(n) % 100 < self.USED else "\0" * self.EXTENT)
        write_once(os.path.join(folder, "image-%d" % self.scale), image)

    def argv(self, folder):
        return ["xz", "-9", "-T1", "-c", os.path.join(folder, "image-%d" % self.scale)]


class Redis(Program):
    """A server filled by redis-benchmark, read back and emptied; then filled with values that differ and read in another order.

    Each value is compared with what was stored as it arrives; the output has a
    digest over every value of the second kind.
    """
    name = "redis"
    needs = ("redis-server", "redis-benchmark")
    sizes = {"small": 90 * MIB, "full": 300 * MIB}
    outputs = ("values",)
    VALUE = 1000
    BATCH = 256

    def argv(self, folder):
        return ["redis-server", "--port", "0", "--unixsocket", "s", "--save", "", "--appendonly", "no",
                "--daemonize", "no", "--logfile", "log", "--dir", "."]

    @staticmethod
    def value(i):
        head = ("%016x" % (i * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)) * 20
        return (head + "value of key %d; " % i * 60)[:Redis.VALUE].encode()

    def output_digests(self, cwd):
        return {name: digest(os.path.join(cwd, name)) for name in self.outputs
                if os.path.exists(os.path.join(cwd, name))}

    def connect(self, process, cwd):
        """Connects as soon as the server listens; None if the server ended first."""
        deadline = time.monotonic() + 60
        old = os.getcwd()
        while process.alive() and time.monotonic() < deadline:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(120)
            # A socket's path may have 107 characters only, so name it from inside.
            os.chdir(cwd)
            try:
                s.connect("s")
                return s
            except OSError:
                s.close()
                select_sleep(0.02)
            finally:
                os.chdir(old)
        return None

    def drive(self, process, cwd):
        s = self.connect(process, cwd)
        if s is None:
            return
        count = self.scale // self.VALUE
        try:
            with s, s.makefile("rb", buffering=1 << 18) as replies:
                bench, differ = self.benchmark_and_check(s, replies, count, cwd)
                h, wrong = self.fill_and_check(s, replies, count)
                s.sendall(b"INFO server\r\n")
                size = int(replies.readline()[1:])
                info = dict(line.split(b":", 1) for line in replies.read(size + 2).split(b"\r\n") if b":" in line)
                pid = int(info[b"process_id"])
            with open(os.path.join(cwd, "values"), "w") as f:
                f.write("%d values of redis-benchmark, %d wrong; %d values, %d wrong, %s\n" % (
                    bench, differ, count, wrong, h))
            os.kill(pid, signal.SIGTERM)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as e:
            with open(os.path.join(cwd, "values"), "w") as f:
                f.write("lost the server: %s\n" % e)
            process.kill()

    def benchmark_and_check(self, s, replies, count, cwd):
        """The number of values, and the number of values that differ from those of redis-benchmark, which stores the same each time."""
        subprocess.run(["redis-benchmark", "-s", "s", "-q", "-t", "rpush", "-n", str(count), "-d", str(self.VALUE), "-P", "16"],
                       cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=600)
        there = differ = 0
        want = None
        while True:
            s.sendall(b"LRANGE mylist %d %d\r\n" % (there, there + self.BATCH - 1))
            n = int(replies.readline()[1:])
            if n == 0:
                break
            for _ in range(n):
                size = int(replies.readline()[1:])
                got = replies.read(size + 2)[:-2]
                want = want or got
                differ += got != want or size != self.VALUE
            there += n
        s.sendall(b"DEL mylist\r\n")
        if there < count or replies.readline() != b":1\r\n":
            raise ValueError("%d of %d values are there" % (there, count))
        return count, differ

    def fill_and_check(self, s, replies, count):
        value = self.value
        for first in range(0, count, self.BATCH):
            some = range(first, min(first + self.BATCH, count))
            s.sendall(b"".join(b"*3\r\n$3\r\nSET\r\n$11\r\nkey%08d\r\n$%d\r\n%s\r\n" % (i, self.VALUE, value(i))
                      for i in some))
            for _ in some:
                reply = replies.readline()
                if reply != b"+OK\r\n":
                    raise ValueError("SET answered %r" % reply)
        h = hashlib.sha256()
        wrong = 0
        # A stride without a common divisor visits every key once, far apart.
        stride = count * 5 // 8 | 1
        while gcd(stride, count) != 1:
            stride += 2
        for first in range(0, count, self.BATCH):
            some = [i * stride % count for i in range(first, min(first + self.BATCH, count))]
            s.sendall(b"".join(b"*2\r\n$3\r\nGET\r\n$11\r\nkey%08d\r\n" % i for i in some))
            for i in some:
                reply = replies.readline()
                if reply != b"$%d\r\n" % self.VALUE:
                    raise ValueError("GET answered %r" % reply)
                got = replies.read(self.VALUE + 2)[:-2]
                wrong += got != value(i)
                h.update(got)
        return h.hexdigest(), wrong


def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


def select_sleep(seconds):
    """Wait between two tries to connect; never used to order events."""
    time.sleep(seconds)


PROGRAMS = (Objects, Sort, SortParallel, Sqlite, Redis, Gcc, Xz) + runtimes.PROGRAMS


# --- running one -----------------------------------------------------------

class Harness:
    def __init__(self, args):
        self.args = args
        self.work = os.path.abspath(args.work)
        os.makedirs(self.work, exist_ok=True)
        self.env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "HOME": self.work,
                    "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "SOURCE_DATE_EPOCH": "0"}
        for name, text in os.environ.items():
            if name.startswith("QUIRE_"):
                self.env[name] = text

    def execute(self, program, cwd, prefix, limit, timeout):
        shutil.rmtree(cwd, ignore_errors=True)
        os.makedirs(cwd)
        env = dict(self.env, TMPDIR=cwd)
        group = limited.Cgroup.create(limit) if limit else None
        if limit and not group:
            self.unlimited = True
        try:
            program.prepare(cwd)
            p = limited.Process(prefix + program.argv(self.inputs), cwd, cwd + "/stdout", cwd + "/stderr",
                                env, program.stdin(self.inputs), group)
            try:
                program.drive(p, cwd)
            except BaseException:
                p.kill()
                p.finish(0)
                raise
            return p.finish(timeout)
        finally:
            if group:
                group.remove()
            program.clean()

    def native(self, program):
        """The reference run; kept results are used if nothing changed."""
        here = "".join(digest(os.path.join(HERE, name)) for name in ("run.py", "program.py", "runtimes.py"))
        key = hashlib.sha256(json.dumps([here] + program.key()).encode()).hexdigest()
        kept = os.path.join(self.work, "native-%s-%s.json" % (program.name, program.size))
        try:
            with open(kept) as f:
                record = json.load(f)
            if record["key"] == key:
                return record
        except (OSError, ValueError, KeyError):
            pass
        cwd = os.path.join(self.work, "run-native-" + program.name)
        out = self.execute(program, cwd, [], None, self.args.timeout)
        record = {"key": key, "status": out.status, "timed_out": out.timed_out, "wall": out.wall,
                  "cpu": out.cpu, "peak": out.peak * program.processes, "outputs": program.output_digests(cwd)}
        if out.status == 0:
            shutil.rmtree(cwd)
            with open(kept, "w") as f:
                json.dump(record, f)
        return record

    def prefix(self, budget, cwd):
        if self.args.runner != "quire":
            return []
        chosen = [w for name in ("policy", "prefetch") if getattr(self.args, name)
                  for w in ("--" + name, getattr(self.args, name))]
        return [os.path.abspath(self.args.quire), "run", "--memory", str(budget), *chosen,
                "--report", "json:" + os.path.join(cwd, REPORT), "--"]

    def limit(self, program, native_peak, budget):
        if self.args.runner == "native":
            return native_peak + 1024 * MIB
        return budget + self.args.slack * MIB + program.slack

    def check(self, program, share):
        """Run one program both ways.  Returns (passed, row of the table)."""
        self.inputs = os.path.join(self.work, "inputs")
        os.makedirs(self.inputs, exist_ok=True)
        program.inputs(self.inputs)
        # The pages of the inputs shall not be charged to the cgroup of their first reader.
        os.sync()
        native = self.native(program)
        row = {"program": program.name if len(program.shares) == 1 else "%s/%d" % (program.name, share), "size": program.size, "peak": native["peak"],
               "native_wall": native["wall"]}
        if native["status"] != 0:
            row["why"] = "native run ended with status %s" % native["status"]
            return False, row
        budget = native["peak"] // share // 4096 * 4096
        limit = self.limit(program, native["peak"], budget)
        row["budget"] = budget
        row["limit"] = limit
        cwd = os.path.join(self.work, "run-%s-%s" % (self.args.runner, program.name))
        self.unlimited = False
        out = self.execute(program, cwd, self.prefix(budget, cwd), limit, self.args.timeout)
        row.update(wall=out.wall, ratio=out.wall / native["wall"], status=out.status, major=out.major,
                   group_peak=out.group_peak, limited=not self.unlimited)
        report = self.report(cwd)
        if report:
            row["report"] = report
        elif self.args.runner == "quire":
            row["report"] = {}
        why = []
        if self.args.runner == "quire" and not report:
            why.append("no report")
        if self.unlimited and self.args.runner == "quire" and out.peak > limit:
            why.append("%d MiB resident at the peak" % (out.peak // MIB))
        if out.killed_by_oom:
            why.append("killed by the cgroup's OOM killer")
        if out.timed_out:
            why.append("still running after %d s" % self.args.timeout)
        elif out.status != native["status"]:
            why.append("exit status %d, natively %d" % (out.status, native["status"]))
        else:
            got = program.output_digests(cwd)
            for name, want in native["outputs"].items():
                if got.get(name) != want:
                    why.append("%s differs" % name)
        if why:
            row["why"] = "; ".join(why)
            row["kept"] = cwd
            return False, row
        shutil.rmtree(cwd)
        return True, row

    @staticmethod
    def report(cwd):
        """The runtime's report of the run, if there is one."""
        try:
            with open(os.path.join(cwd, REPORT)) as f:
                return json.load(f)
        except (OSError, ValueError):
            return None


def faults_of(row):
    """Faults served: the runtime's own count, else the kernel's major faults."""
    return row.get("report", {}).get("faults", row.get("major", 0))


def show(passed, row):
    text = "%-4s %-10s %-6s %7.1f" % ("ok" if passed else "FAIL", row["program"], row["size"], row["peak"] / MIB)
    if "budget" in row:
        text += " %7.1f" % (row["budget"] / MIB)
    if "wall" in row:
        text += " %8.2f %8.2f %6.2fx %10d" % (row["native_wall"], row["wall"], row["ratio"], faults_of(row))
        if not row["limited"]:
            text += "  (no cgroup here: the peak was measured instead)"
    if "why" in row:
        text += "  " + row["why"]
    if "kept" in row:
        text += "; see " + row["kept"]
    print(text, flush=True)


HEADER = "%-4s %-10s %-6s %7s %7s %8s %8s %7s %10s" % (
    "", "program", "size", "peak", "budget", "native", "run", "ratio", "faults")
UNITS = "%-4s %-10s %-6s %7s %7s %8s %8s" % ("", "", "", "MiB", "MiB", "s", "s")


def arguments():
    p = argparse.ArgumentParser(description="Run programs in a quarter of their memory.")
    p.add_argument("names", nargs="*", metavar="NAME", help="programs to run (default: all)")
    p.add_argument("--size", choices=("small", "full"), default="small")
    p.add_argument("--runner", choices=("quire", "native", "kernel-swap"), default="quire")
    p.add_argument("--swap", choices=("zram", "file"), default="zram", help="for kernel-swap")
    p.add_argument("--quire", default=os.environ.get("QUIRE", os.path.join(
        TOP, os.environ.get("BUILD", "build"), "quire")), help="the quire binary")
    p.add_argument("--work", default=os.path.join(TOP, os.environ.get("BUILD", "build"), "quire-programs"))
    p.add_argument("--timeout", type=float, default=0, help="seconds a run may take")
    p.add_argument("--slack", type=int, default=SLACK // MIB, help="MiB beside the budget in the cgroup")
    p.add_argument("--policy", help="passed on to quire run")
    p.add_argument("--prefetch", help="passed on to quire run")
    p.add_argument("--json", metavar="FILE", help="write every figure there")
    args = p.parse_args()
    if not args.timeout:
        args.timeout = 180 if args.size == "small" else 3600
    known = [c.name for c in PROGRAMS]
    for name in args.names:
        if name not in known:
            p.error("no program %r; there are: %s" % (name, " ".join(known)))
    if args.runner == "quire" and not os.access(args.quire, os.X_OK):
        p.error("no %s: build first" % args.quire)
    return args


def main():
    args = arguments()
    limited.die_on_signals()
    harness = Harness(args)
    passed = failed = 0
    rows = []
    swap = None
    if args.runner == "kernel-swap":
        swap = swaparea.SwapArea(args.swap, os.path.abspath(args.work), 4096 * MIB)
    try:
        print("runner %s%s, budget a quarter of the native peak or what the name says, cgroup limit %s" % (
            args.runner, " on " + swap.what if swap else "",
            "above the peak" if args.runner == "native" else "budget + %d MiB" % args.slack))
        print(HEADER)
        print(UNITS, flush=True)
        for cls in PROGRAMS:
            if args.names and cls.name not in args.names:
                continue
            missing = [tool for tool in cls.needs if not which(tool)]
            for share in cls.shares:
                if missing:
                    ok, row = False, {"program": cls.name, "size": args.size, "peak": 0,
                                      "why": "missing: " + " ".join(missing)}
                else:
                    ok, row = harness.check(cls(args.size), share)
                row["passed"] = ok
                rows.append(row)
                passed += ok
                failed += not ok
                show(ok, row)
    finally:
        if swap:
            swap.remove()
    if args.json:
        with open(args.json, "w") as f:
            json.dump({"runner": args.runner, "swap": args.swap if swap else None, "rows": rows}, f, indent=1)
            f.write("\n")
    print("programs: %d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
