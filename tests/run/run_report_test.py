#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Each figure of the report of `quire run` against the known behaviour of the program.

    run_report_test.py QUIRE HELPER
"""

import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import stacks
import tidy

tidy.leave_nothing()

QUIRE, HELPER = (os.path.abspath(p) for p in sys.argv[1:3])
PAGE, MIB = 4096, 1 << 20
STATICS = 32 * MIB      # static data of the helper, touched or not
failed = []


def check(ok, *what):
    if not ok:
        failed.append(" ".join(str(w) for w in what))


def run(memory, *args):
    """Returns (the report, standard output)."""
    with tempfile.NamedTemporaryFile() as f:
        p = stacks.run([QUIRE, "run", "--memory", memory, "--report", "json:" + f.name, HELPER] + list(args),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120, check=False)
        check(p.returncode == 0, args, p.returncode, p.stderr)
        return json.load(f), p.stdout.decode()


def near(name, got, low, high):
    check(low <= got <= high, name, "is", got, "and not between", low, "and", high)


def fits():
    r, _ = run("64M", "touch", "4000", "2")
    check(r["faults"] == 0 and r["adopted"] == 0 and r["pages_in"] == 0 and r["pages_out"] == 0, "fits, but pages:", r)
    near("need of a program that fits", r["need_peak_bytes"], STATICS + 4000 * PAGE, STATICS + 4000 * PAGE + 2 * MIB)
    near("exit status", r["exit_status"], 0, 0)


def pages():
    pages = 5000
    r, _ = run("8M", "touch", str(pages), "1")
    near("first touches", r["faults_zero"], pages, pages + 200)
    near("need", r["need_peak_bytes"], pages * PAGE, (pages + 200) * PAGE)
    near("most in use", r["charged_peak_bytes"], 7 * MIB, 8 * MIB)
    near("pages out", r["pages_out"], pages - 8 * MIB // PAGE, pages)
    near("budget", r["budget_bytes"], 8 * MIB, 8 * MIB)
    near("waited", r["wait_ns"], 1, r["wall_s"] * 1e9)
    again, _ = run("8M", "touch", str(pages), "3")
    near("pages in, twice over", again["pages_in"], 2 * (pages - 8 * MIB // PAGE), 3 * 16 * pages)
    check(again["faults_zero"] <= pages + 200, "pages came as new twice:", again["faults_zero"])
    # one word a page: a page shrinks to nothing
    check(again["pool_ratio"] > 20, "ratio of nearly empty pages:", again["pool_ratio"])
    check(again["io_errors"] == 0 and again["lost_pages"] == 0 and again["refused"] == 0, "errors:", again)


def counted_to_the_end():
    """Faults served just before a program's end were once left out, if more faults had been coming."""
    def one(_):
        r, _ = run("8M", "touch", "2500", "1")
        near("first touches", r["faults_zero"], 2500, 2700)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(40)))


def family():
    r, out = run("16M", "children", "3", "3000")
    check(out.count("touched 3000 pages") == 3, out)
    near("forks", r["forks"], 3, 3)
    near("first touches of three", r["faults_zero"], 1, 3 * 3000 + 1000)
    # Each process may store a batch of pages before frames make room for it (run/family.h); the report tells how many.
    near("beyond the budget", r["beyond_bytes"], 0, MIB)
    near("most in use", r["charged_peak_bytes"], 8 * MIB, 16 * MIB + r["beyond_bytes"])


def the_first_to_go_are_not_in_use():
    """When no use of pages was known at the first eviction, the oldest pages were once evicted although in use."""
    hot, pages = 2000, 9000
    r, _ = run("32M", "busy", str(hot), str(pages))
    near("pages out", r["pages_out"], pages - 32 * MIB // PAGE, pages)
    if {"scan", "move"} & set(os.environ.get("QUIRE_WITHOUT", "").split(",")):
        return      # this kernel does not tell of writes
    near("pages in use that went, or were asked about", r["faults_swap"] + r["faults_rescue"], 0, hot // 20)


def statics():
    """Zeroed static data counts like any other memory."""
    r, out = run("12M", "statics")
    near("first touches of 32 MiB", r["faults_zero"], 8192, 8192 + 200)
    near("most resident, KiB", int(out), 1, 24 * 1024)


for case in (fits, pages, counted_to_the_end, family, the_first_to_go_are_not_in_use, statics):
    before = len(failed)
    case()
    print("%-4s %s" % ("ok" if len(failed) == before else "FAIL", case.__name__), flush=True)
for f in failed:
    print("  " + f)
sys.exit(1 if failed else 0)
