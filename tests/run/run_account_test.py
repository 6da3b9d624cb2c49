#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""The family's account: arriving pages are charged, leaving pages are given back, and each counter counts what its name says.

    run_account_test.py QUIRE HELPER [NAME ...]
"""

import json
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import limited
import stacks
import tidy

QUIRE, HELPER = (os.path.abspath(p) for p in sys.argv[1:3])
PAGE, MIB = 4096, 1 << 20
# More than the pool takes before frames make room for it: two processes may each be at a batch of 32 pages and 64 more of
# a compaction (160 pages, less the headroom). Without host_balance the tests below take between 2.5 and 18 MiB.
STEP = MIB


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(str(w) for w in what))


def run(options, argv, group=None):
    """(the report, standard output) of a run that must end well."""
    with tempfile.NamedTemporaryFile() as f:
        p = stacks.run([QUIRE, "run"] + options + ["--report", "json:" + f.name] + argv, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=120, check=False, preexec_fn=group.join if group else None)
        check(p.returncode == 0, argv, p.returncode, p.stdout, p.stderr)
        return json.load(f), p.stdout


def peaks(memory, *argv):
    r, _ = run(["-m", memory], [HELPER] + list(argv))
    check(r["beyond_bytes"] < STEP, argv, "in", memory, "took more than given:", r["beyond_bytes"])
    return r["charged_peak_bytes"] - r["beyond_bytes"], r["need_peak_bytes"]


def unmapped_memory_is_given_back():
    """Whatever the program does, while it fits and while it is paged: many more rounds take no more pages.

    In 64 MiB, of which 36 MiB are in use, the first rounds leave room: if pages were not given back, later rounds
    would take more.

    The need is sampled now and then, so a short run can end between two samples: the largest of three runs counts.
    """
    for kind in ("munmap", "fixed", "mremap", "part", "brk"):
        for memory, rounds in (("20M", "20"), ("64M", "3")):
            few = [max(each) for each in zip(*(peaks(memory, "churn", kind, rounds) for _ in range(3)))]
            many = peaks(memory, "churn", kind, "80")
            check(all(m <= f for m, f in zip(many, few)), kind, "in", memory, many, "at most after 80 rounds,", few, "after", rounds)


def dead_processes_frames_are_given_back():
    """Each process holds at least one MiB. Forked and executed, ended and killed."""
    script = "i=0; while [ $i -lt 200 ]; do (:); sh -c 'kill -9 $$' 2>&1 | cat; i=$((i+1)); done"
    r, _ = run(["-m", "128M"], ["sh", "-c", script])
    check(r["forks"] >= 200 and r["charged_peak_bytes"] < 64 * MIB, r["forks"], "processes took", r["charged_peak_bytes"])
    check(r["beyond_bytes"] == 0 and r["adopted"] == 0, "they did not find room:", r)


def what_an_exec_leaves_is_given_back():
    """The program lets the exec keep all descriptors that it finds. The connection to the family was once kept with them, so
    all that the program before had stayed charged and promised."""
    script = ("import fcntl, os, sys\nmemory = bytearray(b'x') * (10 << 20)\n"
              "for name in os.listdir('/proc/self/fd'):\n  try: fcntl.fcntl(int(name), fcntl.F_SETFD, 0)\n  except OSError: pass\n"
              "os.execv(sys.argv[1], sys.argv[1:])\n")
    r, _ = run(["-m", "24M"], [sys.executable, "-c", script, HELPER, "touch", "4000", "1"])
    check(r["need_peak_bytes"] < 24 * MIB, "what was before the exec stays promised:", r["need_peak_bytes"])


def forked_child_is_charged():
    """Parent and child write all of 100 MiB, which the fork shares. Uncharged, the kernel's copies burst the group."""
    group = limited.Cgroup.create((128 + 40) * MIB)
    if group is None:
        return "no cgroup can be made here"
    try:
        _, out = run(["-m", "128M"], [HELPER, "cow", str(100 * MIB // PAGE)], group)
        check(out == "child 0, 0 wrong pages\n", out)
        check(group.oom_kills() == 0, "killed by the group's limit")
    finally:
        group.remove()
    return None


def the_pool_does_not_overdraw_the_budget():
    """The pool grows while many pages leave in one call without a later fault: at a fork, by advice, as other pages are loaded."""
    for memory, argv in (("64M", ["cow", str(50 * MIB // PAGE)]), ("8M", ["hold", "pipe", "1"]), ("8M", ["populate"]),
                         ("24M", ["lock"])):
        r, _ = run(["-m", memory], [HELPER] + argv)
        check(r["pool_peak_bytes"] > MIB, argv, "stored nothing:", r["pool_peak_bytes"])
        check(r["beyond_bytes"] < STEP, argv, "took more than", memory, "by", r["beyond_bytes"])


def held(kind, rounds):
    """(the report, [MiB of the group at each word]) of a program whose memory the kernel holds and releases; None:
    this kernel cannot.

    The pool is memory of a file, so it is not in these sizes.
    """
    group = limited.Cgroup.create(256 * MIB)
    if group is None:
        return None
    try:
        with tempfile.NamedTemporaryFile() as f:
            p = subprocess.Popen([QUIRE, "run", "-m", "8M", "--report", "json:" + f.name, HELPER, "hold", kind, str(rounds)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=group.join)
            sizes = []
            for word in ["held", "free"] * rounds:
                said = p.stdout.readline().strip()
                if said != word:
                    check(p.wait() == 5, "said", repr(said), "for", word)
                    return None
                for _ in range(20 if word == "free" else 0):    # fault by fault
                    if group.held() < min(8, sizes[-1] - 4) * MIB:
                        break
                    p.stdin.write("more\n")
                    p.stdin.flush()
                    check(p.stdout.readline() == "free\n", "free no more")
                sizes.append(group.held() / MIB)
                p.stdin.write("\n")
                p.stdin.flush()
            check(p.wait() == 0, kind, "ends with", p.returncode)
            return json.load(f), sizes
    finally:
        group.remove()


def pages_move():
    """Where pages do not move, a page that a pipe holds stays, like a pinned page (machine/linux/out.c)."""
    if "move" in os.environ.get("QUIRE_WITHOUT", "").split(","):
        return False
    return "pages move:" in subprocess.run([QUIRE, "check"], capture_output=True, text=True, check=False).stdout


def what_the_kernel_held_comes_back():
    """Pages that left while a pipe held them are the kernel's until the pipe releases them; pages that stay are in
    use beyond the budget for that time."""
    skipped = []
    for kind in ("pipe", "ring"):
        few, many = held(kind, 1), held(kind, 3)
        if few is None or many is None:
            skipped.append(kind)
            continue
        for report, sizes in (few, many):
            for used, free in zip(sizes[::2], sizes[1::2]):
                check(used > free + 4, kind, "holds nothing:", sizes)
                check(free < 8, kind, "has not come back:", sizes)
            beyond = report["beyond_bytes"]
            check((beyond > STEP) == (kind == "ring" or not pages_move()), kind, "beyond the budget:", beyond)
            check(report["charged_peak_bytes"] == 8 * MIB + beyond, kind, report["charged_peak_bytes"], beyond)
        check(many[0]["beyond_bytes"] < 9 * MIB, kind, "is summed, as 8 MiB are held:", few[0]["beyond_bytes"], many[0]["beyond_bytes"])
    return "no " + ", no ".join(skipped) if skipped else None


def what_is_only_read_is_kept():
    """A page that is loaded may take its copy out of the pool. The page leaves again without having been written."""
    for options, pages in (["-m", "8M"], "4000"), (["-m", "16M", "--pool", "1M"], "6000"):
        r, out = run(options, [HELPER, "reread", pages, "3"])
        check(out == "0 wrong pages\n", options, out)
        check(r["pages_in"] > int(pages) and r["lost_pages"] == 0, options, "came back:", r["pages_in"], r["lost_pages"])


def counters():
    """Pages are written and never read, then read twice: all counters differ, so that exchanged counters are noticed."""
    n = 30000
    r, _ = run(["-m", "36M", "--pool", "2M"], [HELPER, "once", str(n)])
    check(n <= r["faults_zero"] <= n + 500 and n / 20 < r["faults"] < n, "first touches, several a fault:", r)
    for key in ("faults_swap", "faults_cow", "faults_rescue", "pages_in", "clean_drop", "refaults", "prefetched", "prefetch_used",
                "prefetch_wasted", "io_errors", "lost_pages", "forks", "file_read_bytes", "write_errors"):
        check(r[key] == 0, key, "of a program that only writes:", r[key])
    check(n / 2 < r["pages_out"] < n and r["file_written_bytes"] > 20 * MIB, "out:", r["pages_out"], r["file_written_bytes"])
    r, _ = run(["-m", "36M"], [HELPER, "touch", str(n), "3"])
    check(n <= r["faults_zero"] <= n + 500 and n * 1.2 < r["faults_swap"] < n * 2.2, "first touches and from the store:", r)
    check(r["pages_in"] >= r["faults_swap"] and r["pages_out"] > r["pages_in"], "in and out:", r["pages_in"], r["pages_out"])
    check(r["prefetched"] > n and n < r["prefetch_used"] <= r["prefetched"] and r["prefetch_wasted"] < n / 4, "ahead:", r)
    check(r["faults_cow"] == 0 and r["clean_drop"] < n / 4, "copies:", r["faults_cow"], r["clean_drop"])
    text = subprocess.run([QUIRE, "run", "-m", "36M", "--pool", "2M", HELPER, "once", str(n)], capture_output=True, text=True, check=True).stderr
    for words in (" first touched, 0 from the store", "paged       0.0 MB in, ", " 0.0 MB read"):
        check(words in text, repr(words), "is not in", text)


CASES = [the_pool_does_not_overdraw_the_budget, unmapped_memory_is_given_back, dead_processes_frames_are_given_back, what_an_exec_leaves_is_given_back, forked_child_is_charged,
         what_the_kernel_held_comes_back, what_is_only_read_is_kept, counters]


def main():
    cases = [c for c in CASES if c.__name__ in sys.argv[3:]] or CASES
    limited.die_on_signals()
    failed = 0
    for case in cases:
        try:
            why = case()
            print("%-5s %s%s" % ("skip" if why else "ok", case.__name__, ": " + why if why else ""), flush=True)
        except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as e:
            failed += 1
            print("FAIL  %s: %s" % (case.__name__, str(e)[:2000]), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    tidy.leave_nothing()
    sys.exit(main())
