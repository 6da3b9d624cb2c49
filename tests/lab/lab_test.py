#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""quire-lab as docs/lab.md and its manual say: the examples print what they show, wrong arguments get one line and status 2,
manual and usage have the same options, and a program can be traced where qemu-user is installed."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from bound import bound  # noqa: E402

source, lab = sys.argv[1], os.path.abspath(sys.argv[2])
bad = 0


def check(ok, what):
    global bad
    if not ok:
        bad += 1
        print("FAILED:", what)


def sh(command, cwd):
    return subprocess.run(["sh", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=bound(100))


def examples(directory):
    text = open(os.path.join(source, "docs", "lab.md")).read()
    blocks = re.findall(r"^```\n\$ (.*?)\n(.*?)^```", text, re.S | re.M)
    check(len(blocks) >= 4, "docs/lab.md has examples")
    for command, shown in blocks:
        got = sh(command, directory)
        check(got.returncode == 0 and got.stdout == shown, "docs/lab.md: %s\nprints:\n%s%s" % (command, got.stdout, got.stderr))
    if shutil.which("qemu-x86_64") is None:
        print("no qemu-x86_64: programs are not traced")
        return
    for script in re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M):
        got = sh("set -e\n" + script, directory)
        rows = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+)$", got.stdout, re.M)
        misses = {r[0]: [int(n) for n in r[1:]] for r in rows}
        check(got.returncode == 0 and {"lru", "clockpro", "min"} <= set(misses), "docs/lab.md: %s\n%s%s" % (script, got.stdout, got.stderr))
        for name in misses:
            check(name == "frames" or all(m <= p for m, p in zip(misses["min"], misses[name])), name + " beats MIN")
        numbers = open(os.path.join(directory, "sorted")).read().split()
        check(numbers == [str(i) for i in range(1, 100001)], "the traced program did its work")


def wrong_arguments(directory):
    open(os.path.join(directory, "text"), "w").write("1\n2\nthree\n")
    open(os.path.join(directory, "cut"), "wb").write(b"QTRACE1\n1234567")
    for arguments, says in [
            ("nonsense", "no command 'nonsense'"), ("policies", "needs a trace"), ("policies nofile", "nofile: No such file"),
            ("policies --frames 0 scan", "not a number"), ("policies --frames 101% scan", "not a number"),
            ("policies --frames , scan", "no size given"), ("policies --frames", "needs a value"),
            ("policies --policy fifo scan", "no policy 'fifo'"), ("policies --prefetch none scan", "no option"),
            ("prefetch --policy lru scan", "no option"), ("prefetch --prefetch lru scan", "no prefetcher 'lru'"),
            ("policies scan zipf", "one trace at a time"), ("policies scan:0", "not a number"),
            ("policies scan:10:20:1:5", "pages, length and seed"), ("policies text", "text"), ("policies cut", "cut"),
            ("policies .", "."), ("policies --frames %s scan" % ",".join(["1"] * 40), "more than"),
            ("generate", "needs a pattern"), ("generate zip", "needs a pattern"), ("generate --pages -1 zipf", "not a number"),
            ("generate --output /nonexistent/x zipf", "No such file"), ("trace ls", "needs --output"),
            ("trace --output x", "and a program"), ("trace --recent 65 --output x ls", "not a number"),
            ("trace --output x nonexistent-program", "was not found"), ("stat --spaces 65", "from 1 to 64"), ("stat --text", "needs a value"),
            ("stat --heap 0", "not a number"), ("stat --heap 262144", "altogether"), ("stat zipf", "does not know 'zipf'")]:
        got = sh("%s %s" % (lab, arguments), directory)
        check(got.returncode == 2 and got.stdout == "" and says in got.stderr and got.stderr.count("\n") == 1,
              "quire-lab %s: status %d, %r" % (arguments, got.returncode, got.stderr))


def full_standard_output():
    """A run whose result could not be written fails."""
    for arguments in "list", "stat --spaces 1", "policies --frames 10 zipf:100:1000", "prefetch --frames 10 zipf:100:1000", "--help":
        got = sh("%s %s >/dev/full" % (lab, arguments), ".")
        check(got.returncode == 2 and got.stderr.startswith("quire-lab: standard output: ") and got.stderr.count("\n") == 1,
              "quire-lab %s >/dev/full: status %d, %r" % (arguments, got.returncode, got.stderr))


def manual_examples(directory):
    """The examples of the manual, in their order; programs are traced where qemu-user is installed."""
    page = open(os.path.join(source, "man", "quire-lab.1")).read()
    commands = [line.replace("quire-lab", lab) for line in re.findall(r"^\.Dl (.*)", page, re.M)]
    check(len(commands) >= 4, "the manual has examples")
    open(os.path.join(directory, "numbers"), "w").write("3\n1\n2\n")
    can_trace = shutil.which("qemu-x86_64") is not None
    for command in commands:
        if can_trace or "sort" not in command:
            got = sh(command, directory)
            check(got.returncode == 0 and got.stderr == "", "%s: status %d, %s" % (command, got.returncode, got.stderr))


def defaults():
    """The manual names the defaults that the usage names."""
    page = re.sub(r"\n\.[A-Z][a-z] |\n", " ", open(os.path.join(source, "man", "quire-lab.1")).read())
    for option, default in ("pages", "4096"), ("length", "1000000"), ("seed", "1"), ("recent", "16"), ("spaces", "4"), ("text", "256"), \
            ("data", "64"), ("heap", "128"), ("shared", "32"), ("frames", "5%,10%,25%,50%,75%"):
        check(re.search(r"(?<!\S)-%s\b(?: Ar list)? (?:\([^)]*?|Memory sizes .*?Default )%s\b" % (option, re.escape(default.rstrip("%"))), page) is not None,
              "the manual does not say that --%s is %s by default" % (option, default))


def shared_memory():
    """PSS is the memory of all pages together; RSS counts a shared page once for each space. The expected pages of
    each space, by hand."""
    for spaces, text, data, heap, shared in (1, 7, 1, 1, 1), (2, 100, 40, 12, 5), (3, 1, 3, 50, 1), (7, 300, 64, 31, 9), (64, 50, 8, 4, 2):
        got = sh("%s stat --csv --spaces %d --text %d --data %d --heap %d --shared %d" % (lab, spaces, text, data, heap, shared), ".")
        rows = [r.split(",") for r in got.stdout.split()]
        check(got.returncode == 0 and len(rows) == spaces + 2 and rows[0] == ["space", "mapped", "rss", "pss"], "stat --csv: " + got.stdout)
        size = (text + data + heap + shared) * 4096
        check(all(int(r[1]) == int(r[2]) == size for r in rows[1:-1]), "mapped and in memory: " + got.stdout)
        own = spaces - 1 if spaces > 1 else 1  # the fork shares the first space's pages, except a quarter of the heap
        frames = text + data - data // 4 + shared + own * (data // 4 + heap) + (heap // 4 if spaces > 1 else 0)
        pss = [int(r[3]) for r in rows[1:-1]]
        check(int(rows[-1][3]) == 4096 * frames, "frames: %d, not %s" % (frames, got.stdout))
        check(abs(sum(pss) - int(rows[-1][3])) <= spaces, "PSS adds up: " + got.stdout)


def unseen_reads(directory):
    """A policy that is not told of reads evicts the page that was written longest ago, although it was read since."""
    open(os.path.join(directory, "reads"), "w").write("1 w\n2 w\n1\n3 w\n1\n")
    for option, misses in ("", 3), ("--unseen-reads", 4):
        got = sh("%s policies --csv --policy lru --frames 2 %s reads" % (lab, option), directory)
        check(got.stdout.split() == ["frames,2", "lru,%d" % misses], "policies %s: %s%s" % (option, got.stdout, got.stderr))


def manual():
    usage = sh(lab + " --help", ".").stdout
    for command in ("policies", "prefetch", "generate", "trace", "stat", "list"):
        said = sh(lab + " " + command + " --help", ".")
        check((said.returncode, said.stdout, said.stderr) == (0, usage, ""), command + " --help is the usage")
    page = open(os.path.join(source, "man", "quire-lab.1")).read()
    used = set(re.findall(r"--([a-z]+)", usage)) - {"help"}
    told = set(re.findall(r"Fl -([a-z]+)", page))
    check(used == told, "options of usage and manual: %s" % sorted(used ^ told))
    for command in re.findall(r"^(?:usage:|      ) quire-lab ([a-z]+)", usage, re.M):
        check(".Cm " + command in page, "the manual has the command " + command)


with tempfile.TemporaryDirectory() as d:
    os.mkdir(os.path.join(d, "build"))
    os.symlink(lab, os.path.join(d, "build", "quire-lab"))
    examples(d)
    unseen_reads(d)
    wrong_arguments(d)
    manual_examples(d)
shared_memory()
full_standard_output()
manual()
defaults()
print("lab: %d failed" % bad)
sys.exit(bad != 0)
