# SPDX-License-Identifier: BSD-2-Clause
"""Short lists of files stay short: lists_test.py SOURCE QUIRE

A policy and a prefetcher are named in their own file, policy/table.c and policy/meson.build, their tests and
docs/policies.md, and nowhere else; `quire run --policy help` has them all. The C sources are as style.py says. The
files that HACKING.md and the documents of how the code works name exist, and so do the functions; so do those that
comments name.
"""

import os
import re
import subprocess
import sys

import style

source, quire = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
bad = style.check(source)
# Code that chooses a default must name it; the lab's reports compare with lru.
DEFAULTS = {
    "policy_clock2": {"include/quire/policy.h", "vm/frame/page.c", "vm/system/vm.c"},
    "policy_generations": {"include/quire/policy.h", "cli/options.c"},
    "prefetch_streams": {"include/quire/policy.h", "vm/system/vm.c"},
}
WORDS = {"s3fifo", "clockpro", "clock2"}     # names that are not ordinary words: no other file may mention them
MENTIONS = ("docs/", "README.md", "CHANGELOG.md", "HACKING.md", "man/", "tests/", "bench/", "models/")

# A file that a reader makes; and a fraction. Functions of the kernel and of PHP; tests of each architecture.
NO_PATHS = {"machine/NAME/", "tests/machine/port_NAME.c", "1/n"}
# System calls that the runtime makes in the place of the program alone; the last is libquire's.
FOR_THE_PROGRAM = {"dup2", "dup3", "execve", "mlockall", "mseal", "munlockall", "pkey_mprotect", "seccomp", "setns", "shmat", "shmctl", "shmdt",
                   "unshare", "rt_tgsigqueueinfo"}
NO_WORDS = {"gc_disable", "handle_userfault", "port_x86_64", "port_riscv64"}


def read(path):
    with open(os.path.join(source, path), errors="replace") as f:
        return f.read()


def listed(text, name):
    return re.findall(r"'(\w+)'", re.search(r"^%s = \[(.*?)\]" % name, text, re.M | re.S).group(1))


def told(option):
    out = subprocess.run([quire, "run", option, "help"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in out.splitlines()]


def files():
    for folder, folders, names in os.walk(source):
        folders[:] = [d for d in folders if not d.startswith((".", "build"))]
        for name in names:
            if name.endswith((".c", ".h", ".py", ".sh", ".build", ".1", ".3")) or name == "Makefile":
                yield os.path.relpath(os.path.join(folder, name), source)


def check_policies():
    build = read("policy/meson.build")
    table = read("policy/table.c")
    for kind, names, option, define in (("policy", listed(build, "policies"), "--policy", "POLICIES"),
                                        ("prefetch", listed(build, "prefetchers") + ["none"], "--prefetch", "PREFETCHERS")):
        if len(names) < 6:
            bad.append("only %d names were read of policy/meson.build" % len(names))
        in_table = re.findall(r"X\((\w+)\)", re.search(r"#define %s\(X\).*" % define, table).group(0))
        for where, have in (("policy/table.c", in_table), ("quire run %s help" % option, told(option))):
            if sorted(have) != sorted(names):
                bad.append("%s has %s, policy/meson.build %s" % (where, have, names))
        for path in files():
            text = read(path)
            for name in names:
                symbol = "%s_%s" % (kind, name)
                own = path.startswith(("policy/", "tests/", "machine/stub/")) or path in DEFAULTS.get(symbol, ())
                if not own and re.search(r"\b%s\b" % symbol, text):
                    bad.append("%s names %s: take it from the table" % (path, symbol))
                if name in WORDS and not own and not path.startswith(MENTIONS) and symbol not in DEFAULTS and \
                        re.search(r"\b%s\b" % name, text):
                    bad.append("%s names %s: take it from the table" % (path, name))
        row = r"^\| `?%s`?[ |]" if kind == "policy" else r"\b%s\b"
        for name in names:
            if not re.search(row % name, read("docs/policies.md"), re.M):
                bad.append("docs/policies.md has no row of %s" % name)


def check_report():
    """The man page explains each member of the JSON report."""
    code = read("cli/report.c")
    members = re.findall(r'[{,]\\"(\w+)\\":', code)
    members += re.findall(r"X\((\w+)\)", re.search(r"#define FAMILY_COUNTERS\(X\)(?:.*\\\n)*.*", read("run/family.h")).group(0))
    told_of = set(re.findall(r"\w+", " ".join(re.findall(r"^\.It Sy (.*)", read("man/quire.1"), re.M))))
    if len(members) < 40:
        bad.append("only %d members of the report were read of cli/report.c" % len(members))
    for name in members:
        if name not in told_of:
            bad.append("man/quire.1, REPORT, does not explain %s" % name)


def check_documents():
    """Files, functions, targets of make and programs that the documents name exist; in documents that draw the code,
    each word must be a name of the code."""
    drawn = ("docs/porting.md", "docs/life-of-a-fault.md", "docs/life-of-a-page.md")
    documents = ["README.md", "HACKING.md"] + ["docs/" + n for n in sorted(os.listdir(os.path.join(source, "docs"))) if n.endswith(".md")]
    code = "\n".join(read(path) for path in files() if path.endswith((".c", ".h")))
    known = set(re.findall(r"\b[a-z]+_[a-z_0-9]+\b", code))
    builds = " ".join(read(path) for path in files() if path.endswith((".build", ".py", ".sh", ".1", "Makefile")))
    targets = set(" ".join(re.findall(r"^([a-z][a-z-]*(?: [a-z-]+)*):(?!=)", read("Makefile"), re.M)).split())
    paths = words = 0
    for name in documents:
        text = read(name)
        for path in sorted(set(re.findall(r"`((?:[a-z_0-9-]+/)+[A-Za-z_0-9.-]*)`", text))):
            paths += 1
            if any(os.path.exists(os.path.join(source, place, path)) for place in ("", "vm", "include")) or path in NO_PATHS:
                continue
            if not (path.startswith("build/") and re.search(r"\b%s\b" % re.escape(os.path.basename(path.rstrip("/"))), builds)):
                bad.append("%s names %s, which is not there" % (name, path))
        for target in sorted(set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.M)) - targets):
            bad.append("%s names make %s, which is no target" % (name, target))
        for program in sorted(set(re.findall(r"\bbuild/(?:[a-z]+/)*([a-z][\w-]*)", text))):
            if not re.search(r"\b%s\b" % re.escape(program.removeprefix("bench_")), builds):
                bad.append("%s names %s, which is not built" % (name, program))
        marked = r"(?<![/\w])[a-z]+_[a-z_0-9]+\b(?!\.)" if name in drawn else r"`([a-z]+_[a-z_0-9]+)(?:\(\))?`"
        marked = set(re.findall(marked, text))
        words += len(marked)
        for word in sorted(marked - known - NO_WORDS):
            if name in drawn or not re.search(r"\b%s\b" % word, builds):
                bad.append("%s names %s, which no code has" % (name, word))
    if paths < 200 or words < 100 or len(targets) < 20:
        bad.append("only %d paths, %d words, %d targets were read in the documents" % (paths, words, len(targets)))


def check_porting():
    """docs/porting.md has every function of machine.h and hat.h; the size that documents give the smallest port is its size."""
    page = read("docs/porting.md")
    for header, prefix in (("machine", "mach"), ("hat", "hat")):
        text = re.sub(r"/\*.*?\*/", "", read("include/quire/%s.h" % header), flags=re.S)
        functions = set(re.findall(r"\b(%s_\w+)\s*\(" % prefix, text))
        if len(functions) < 20:
            bad.append("only %d functions were read of %s.h" % (len(functions), header))
        for name in sorted(functions):
            if not re.search(r"\b%s\b" % name, page):
                bad.append("docs/porting.md does not say what %s is wanted for" % name)
        asked = len(functions - set(re.findall(r"\bstatic inline \w+ (\w+)", text)))
        if not re.search(r"`include/quire/%s\.h`,\s+which\s+asks\s+(?:a\s+port\s+)?for\s+%d\b" % (header, asked), page):
            bad.append("docs/porting.md does not say that %s.h asks for %d functions" % (header, asked))
    reused = set(re.findall(r"\b(mmu_\w+)\s*\(", re.sub(r"/\*.*?\*/", "", read("hat/mmu.h"), flags=re.S)))
    for name in sorted(reused):
        if not re.search(r"`%s`" % name, page):
            bad.append("docs/porting.md does not name %s" % name)
    if not re.search(r"leaves %d functions to the port" % len(reused), page):
        bad.append("docs/porting.md does not say that hat/ leaves %d functions to the port" % len(reused))
    lines = read("examples/embed/port.c").count("\n")
    said = [(name, int(n)) for name in ("README.md", "HACKING.md", "docs/porting.md")
            for n in re.findall(r"examples/embed[^;]*?(\d+) lines", read(name), re.S)]
    if len(said) < 3:
        bad.append("only %d documents say how long the smallest port is" % len(said))
    for name, n in said:
        if abs(n - lines) > lines // 10:
            bad.append("%s says that the smallest port has %d lines; it has %d" % (name, n, lines))


def check_changes():
    """Each row of HACKING.md's list of changes names files, one of them for tests or documents."""
    text = read("HACKING.md")
    rows = [row for row in re.findall(r"^\| (an? [^|]+) \| ([^|]+) \|$", text, re.M) if "/" in row[1]]
    kinds = {row[0] for row in rows}
    for kind in ("a policy", "a prefetcher", "a segment driver", "a store", "a system call of the runtime", "a page-table format",
                 "a statistic of the core", "a test"):
        if kind not in kinds:
            bad.append("HACKING.md has no list for %s" % kind)


# Names in comments that belong to other programs: kernels, libraries, a server. And names that code prints in pieces.
OTHERS = {"as_add_callback", "get_user_pages_fast", "i_nextr", "linux_dirent64", "d_reclen", "po_share", "ptrace_may_access", "sem_open",
          "used_memory", "user_addr", "ahead_per_fault"}


def check_comments():
    """Files, functions and fields that comments of C sources name exist."""
    comment = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
    paths, code, comments = set(), [], []
    for folder, folders, names in os.walk(source):
        folders[:] = [d for d in folders if not d.startswith((".", "build"))]
        paths |= {os.path.relpath(os.path.join(folder, name), source) for name in names}
    for path in sorted(paths):
        if path.endswith((".c", ".h", ".S")):
            comments += [(path, c) for c in comment.findall(read(path))]
            code.append(comment.sub(" ", read(path)))
        elif path.endswith((".py", ".sh", ".build", "Makefile", ".txt")):
            code.append(read(path))
    last = {os.path.basename(p) for p in paths}
    known = set(re.findall(r"\w+", "\n".join(code))) | {name.split(".")[0] for name in last}     # a program has the name of its file
    seen = 0
    for path, text in comments:
        for name in re.findall(r"(?<![\w/.])((?:[\w-]+/)*[\w-]+\.(?:c|h|py|sh|S|md))\b", text):
            seen += 1
            if not (name in last or any(("/" + p).endswith("/" + name) for p in paths) or name.startswith(("linux/", "sys/"))):
                bad.append("%s: a comment names %s, which is nowhere" % (path, name))
        for word in re.findall(r"(?<![\w/.-])([a-z]+(?:_[a-z0-9]+)+)\b(?![\w/.*])", text):
            seen += 1
            if word not in known and word not in OTHERS and word.removesuffix("s") not in known:
                bad.append("%s: a comment names %s, which no code has" % (path, word))
    if seen < 1000:
        bad.append("only %d names were read in comments" % seen)


def check_runtime_calls():
    """run/filter.c has every system call that the runtime makes on its own account."""
    listed = set(re.findall(r"\bM(?:UST|AY)(?:_WITH)?\((\w+)", read("run/filter.c")))
    listed |= set(re.findall(r"{ NR_(\w+), true", read("run/filter.c")))
    made = {}
    for path in files():
        if path.startswith(("run/", "machine/linux/", "store/", "sys/linux/")) and path.endswith((".c", ".h")):
            for name in re.findall(r"\bsys_call\d\(\s*(?:SYS|NR)_(\w+)", read(path)):
                made.setdefault(name, path)
    if len(made) < 60:
        bad.append("only %d system calls of the runtime were read" % len(made))
    for name in sorted(made.keys() - listed - FOR_THE_PROGRAM):
        bad.append("%s makes %s: run/filter.c does not list it" % (made[name], name))
    for name in sorted(FOR_THE_PROGRAM - made.keys() | FOR_THE_PROGRAM & listed):
        bad.append("lists_test.py names %s as made for the program alone" % name)


def check_help():
    """make help names every target."""
    text = read("Makefile")
    said = " ".join(re.findall(r"^#   (make.*)", text, re.M))
    for target in re.findall(r"^([a-z][a-z-]*(?: [a-z-]+)*):(?!=)", text, re.M):
        for name in target.split():
            if name != "all" and not re.search(r"(?<![\w-])%s(?![\w-])" % name, said):
                bad.append("make help does not name %s" % name)


check_policies()
check_report()
check_help()
check_runtime_calls()
check_comments()
check_documents()
check_porting()
check_changes()
for line in bad:
    print(line)
print("lists: %d wrong" % len(bad))
sys.exit(1 if bad else 0)
