#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Full means refused, not killed: programs that allocate all that `--memory` and `--swap` have room for.

    run_full_test.py QUIRE FULL [CASE ...]

The programs write incompressible bytes (full.c).
"""

import json
import os
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import cases
import tidy

QUIRE, FULL = (os.path.abspath(p) for p in sys.argv[1:3])
REFUSED = "quire: a request for memory was refused: all that --memory and --swap have room for is promised; give more with --swap PATH:SIZE\n"
TABLES = "quire: a request for memory was refused: no memory for tables, or too many mappings; give more with --memory\n"
SIGBUS = "quire: SIGBUS for a touch of memory that is not reserved in full"


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(str(w) for w in what))


def run(memory, swap, *args, report=True):
    """Returns (status, standard output, standard error, the report)."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as d:
        where = ["--report", "json:" + d + "/report"] if report else ["--report", "none"]
        p = subprocess.run([QUIRE, "run", "--memory", memory, "--swap", d + swap] + where + ["--", FULL] + list(args),
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=200, check=False)
        r = {}
        if report:
            with open(d + "/report", encoding="ascii") as f:
                r = json.load(f)
        return p.returncode, p.stdout.decode(), p.stderr.decode(), r


def refused(got):
    """The program ended normally and got the error; its user got a line."""
    status, _, err, report = got
    check(status == 0 and err == REFUSED, got)
    check(report["refused"] >= 1 and report["full"] == 0 and report["lost_pages"] == 0, report)


def everything_is_written_and_read():
    """malloc returns NULL, and all memory that it returned keeps its contents: once the result was SIGBUS, as twice
    the pool was promised in addition to the file."""
    for memory, swap, rounds in (("8M", ":32M", "2"), ("16M", ":16M", "2"), ("64M", ":1M", "1")):
        refused(run(memory, swap, "fill", rounds))


def said_without_a_report():
    status, out, err, _ = run("16M", ":16M", "fill", "0", report=False)
    check((status, out, err) == (0, "", REFUSED), status, out, err)


def closed_memory_is_refused_when_it_is_opened():
    """Memory mapped without access and not reserved, as arenas of threads are, once became writable without a
    promise, and a touch raised SIGBUS."""
    refused(run("16M", ":32M", "arena"))


def unreserved_memory_is_refused_when_it_is_mapped():
    refused(run("16M", ":32M", "unreserved"))


def stacks_do_not_count():
    """Each stack of 8 MiB was once reserved in full: the 2,101st thread was refused, and the report did not mention it."""
    status, out, err, report = run("256M", "", "stacks", "3000")
    check((status, out, err) == (0, "3000 threads\n", ""), status, out, err)
    check(report["refused"] == 0, report)


def a_refused_stack_is_said():
    """8M have no tables for so many stacks: the call that makes a stack writable failed, and no line gave the reason."""
    status, out, err, report = run("8M", "", "stacks", "3000")
    check(status == 5 and out.endswith("is refused\n") and err == TABLES, status, out, err)
    check(report["refused_tables"] >= 1, report)


def stacks_are_there_when_all_is_reserved():
    refused(run("32M", ":64M", "stacks-full", "20"))


def touches_end_where_the_promises_begin():
    """An unreserved mapping larger than all memory is served while there is room; then a touch raises SIGBUS, and one
    line gives the reason."""
    status, _, err, report = run("16M", ":16M", "sparse")
    check(status == -signal.SIGBUS and err.startswith(SIGBUS) and err.count("\n") == 1, status, err)
    check(report["full"] >= 1 and report["signal"] == signal.SIGBUS and report["refused"] == 0, report)


def forked_children_are_promised_the_same():
    got = run("64M", ":32M", "fork", "20")
    check(got[:3] == (0, "forked\n", ""), got)
    got = run("32M", ":32M", "fork", "30")
    check(got[1] == "fork: Cannot allocate memory\n", got)
    refused(got)


def ended_processes_give_back():
    """The promises to a process are free after its end."""
    for how, n, out in (("children", "12", "children: 12\n"), ("again", "12", "again\n")):
        got = run("32M", ":32M", how, n)
        check(got[:3] == (0, out, ""), got)


CASES = [everything_is_written_and_read, said_without_a_report, closed_memory_is_refused_when_it_is_opened,
         unreserved_memory_is_refused_when_it_is_mapped, stacks_do_not_count, a_refused_stack_is_said, stacks_are_there_when_all_is_reserved,
         touches_end_where_the_promises_begin, forked_children_are_promised_the_same, ended_processes_give_back]


if __name__ == "__main__":
    tidy.leave_nothing()
    sys.exit(cases.run(CASES, sys.argv[3:]))
