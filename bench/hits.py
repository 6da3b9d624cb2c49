# SPDX-License-Identifier: BSD-2-Clause
""" What Quire costs a program that fits: libquire's mappings, then whole programs under `quire
run`.

    hits.py [--rounds 10] [--only NAME ...]

First build/hit: the same work on a mapping of libquire's and on plain mmap. Then each program natively and under
`quire run --memory 512M` in turns, the order changing from round to round. A ratio is made of the
two times of one round: of the clock, and of the CPUs (user and system, helpers included), which
other work on the machine disturbs less. Prints minimum, median and maximum, and the median time
natively: gcc-small, one file of some hundred lines, and python3-start show the share of the start
in a short run. Then the cost of a start, in milliseconds: /bin/true hosted less /bin/true alone,
and the same for each of 50 that a hosted shell starts. Exit status 1 if an output differs or
build/hit fails.
"""

import argparse
import hashlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, os.environ.get("BUILD", "build"))

PYTHON = "d = {i: str(i * 7919 % 1000003) for i in range(1500000)}; print(sum(map(len, sorted(d.values()))))"
SQL = ("create table t(a integer, b text); with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000) "
       "insert into t select i, printf('%x', i * 7919 % 1000003) from n; create index x on t(b); "
       "select count(*), min(b), max(b) from t where b > '8';")
REDIS = ("rm -f s; redis-server --port 0 --unixsocket s --save '' --enable-debug-command local > /dev/null & "
         "until redis-cli -s s ping > /dev/null 2>&1; do :; done; "
         "redis-cli -s s debug populate 500000; redis-cli -s s debug digest; redis-cli -s s shutdown nosave; wait")


def functions(n):
    return "".join("int f%d(int a, int b) { for (int i = 0; i < b; i++) a = a * %d + (a >> %d) + i; return a; }\n"
                   % (i, i * 2 + 3, i % 7 + 1) for i in range(n))


def programs(folder):
    """ Name, argv; the output of each must be the same in every run."""
    with open(os.path.join(folder, "lines"), "w") as f:
        f.writelines("%07d\n" % (i * 7919 % 1000003) for i in range(2500000))
    with open(os.path.join(folder, "many.c"), "w") as f:
        f.write(functions(1500))
    with open(os.path.join(folder, "few.c"), "w") as f:
        f.write("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n" + functions(60))
    found = [("python3", [sys.executable, "-c", PYTHON]),
             ("sort", ["sort", "-S", "200M", "--parallel=1", "lines"]),
             ("sqlite3", ["sqlite3", ":memory:", SQL]),
             ("redis", ["sh", "-c", REDIS]),
             ("zstd", ["zstd", "-q", "-T2", "-12", "-c", "lines"]),
             ("gcc", ["gcc", "-O2", "-S", "-o", "-", "many.c"]),
             ("gcc-small", ["gcc", "-O2", "-S", "-o", "-", "few.c"]),
             ("python3-start", [sys.executable, "-c", "print(1)"])]
    return [(name, argv) for name, argv in found
            if shutil.which(argv[0]) and (name != "redis" or shutil.which("redis-server"))]


def run(argv, folder):
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        sys.exit("hits: %s: status %d: %s" % (argv, done.returncode, done.stderr.decode(errors="replace")[-300:]))
    return wall, cpu, hashlib.sha256(done.stdout).digest()


def compare(name, argv, hosted, folder, rounds):
    ratios, native = ([], []), []
    for n in range(-1, rounds):  # the first warms up
        pair = {}
        for mine in (False, True) if n % 2 else (True, False):
            pair[mine] = run(hosted + argv if mine else argv, folder)
        if pair[True][2] != pair[False][2]:
            sys.exit("hits: %s: another output under quire run" % name)
        if n >= 0:
            native.append(pair[False][0])
            for i in (0, 1):
                ratios[i].append(pair[True][i] / pair[False][i])
    for what, r in zip(("clock", "CPU"), ratios):
        print("%-13s run/native %-6s %5.3f %8.3f %8.3f %8.3f s" %
              (name, what, min(r), statistics.median(r), max(r), statistics.median(native)), flush=True)


def started(hosted, folder, argv, n):
    """ Extra milliseconds for each of n starts: minimum, median, maximum of nine."""
    times = sorted((run(hosted + argv, folder)[0] - run(argv, folder)[0]) * 1e3 / n for _ in range(9))
    return times[0], times[4], times[8]


def main():
    p = argparse.ArgumentParser(description="What Quire costs a program that fits.")
    p.add_argument("--rounds", type=int, default=10)
    p.add_argument("--only", nargs="+", help="of: hit python3 sort sqlite3 redis zstd gcc gcc-small python3-start")
    args = p.parse_args()
    status = 0
    if not args.only or "hit" in args.only:
        status = subprocess.run([os.path.join(BUILD, "hit")], check=False).returncode
    folder = tempfile.mkdtemp(prefix="quire-hits-")
    try:
        hosted = [os.path.join(BUILD, "quire"), "run", "--memory", "512M", "--report", "none", "--"]
        print("# programs that fit, %d rounds   min   median      max   native" % args.rounds, flush=True)
        for name, argv in programs(folder):
            if not args.only or name in args.only:
                compare(name, argv, hosted, folder, args.rounds)
        print("%-13s milliseconds      %5.2f %8.2f %8.2f" % (("start",) + started(hosted, folder, ["/bin/true"], 1)))
        fifty = ["sh", "-c", "i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i+1)); done"]
        print("%-13s milliseconds      %5.2f %8.2f %8.2f" % (("each of 50",) + started(hosted, folder, fifty, 50)))
    finally:
        shutil.rmtree(folder)
    return 1 if status not in (0, 77) else 0


if __name__ == "__main__":
    sys.exit(main())
