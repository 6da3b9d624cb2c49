# SPDX-License-Identifier: BSD-2-Clause
"""Commands, options and paths of the man pages and documents are those of the programs: man_test.py SOURCE QUIRE LAB

Options of quire run: the code, `quire run --help` and man/quire.1 have the same. Options of quire-lab: its help and
man/quire-lab.1 have the same. In examples of man pages and documents each command is one that the programs know, each
of its options, too, and each file of the repository that it names exists. Absolute paths of the man pages exist, or
the code names them; variables of the environment are read by the code. The test only runs --help and list, so it is
short.

Each kind of finding is counted. The test fails if a kind was found too seldom, as then the pages have changed and the
test checked nothing.
"""

import os
import re
import shlex
import subprocess
import sys

source, quire, lab = (os.path.abspath(a) for a in sys.argv[1:4])
bad = []
seen = {}
PAGES = ("man/quire.1", "man/quire-lab.1", "man/libquire.3")
DOCUMENTS = ["README.md", "HACKING.md"] + sorted("docs/" + n for n in os.listdir(os.path.join(source, "docs")) if n.endswith(".md"))
TOPS = {n for n in os.listdir(source) if os.path.isdir(os.path.join(source, n)) and not n.startswith((".", "build"))}
LEAST = {"option of quire run": 17, "option of quire-lab": 16, "command in an example": 30, "option in an example": 40,
         "path in an example": 12, "path in a man page": 10, "variable": 8, "name": 60}


def count(kind):
    seen[kind] = seen.get(kind, 0) + 1


def read(path):
    with open(os.path.join(source, path), errors="replace") as f:
        return f.read()


def told(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def plain(roff):
    """The text of a line as a reader sees it, without macros and escapes."""
    roff = roff.replace(r"\&", "").replace(r"\-", "-").replace(r"\e", "\\")
    return re.sub(r"^\.(Dl|Li|Sy|It) ", "", roff)


def marked(page):
    """Options marked up as such in a page: .Fl -name, also inside other macros."""
    return set(re.findall(r"\bFl -([a-z][a-z-]+)", page))


def same(kind, sets):
    """Checks that all named sets equal the first."""
    (first, want), *others = sets
    for name in want:
        count(kind)
    for where, have in others:
        for name in sorted(want - have):
            bad.append("%s does not have %s, an %s that %s has" % (where, name, kind, first))
        for name in sorted(have - want):
            bad.append("%s has %s, an %s that %s does not have" % (where, name, kind, first))


def check_options():
    code = set(re.findall(r'^\t\{ "([a-z-]+)", \w+_argument', read("cli/options.c"), re.M)) - {"help"}
    page = read("man/quire.1")
    body = page[page.index(".Sh OPTIONS"):page.index(".Sh ENVIRONMENT")]
    items = set(re.findall(r"Fl -([a-z-]+)", "\n".join(re.findall(r"^\.It .*", body, re.M))))
    helps = set(re.findall(r"(?<![\w-])--([a-z-]+)", told(quire, "run", "--help"))) - {"help"}
    same("option of quire run", [("cli/options.c", code), ("man/quire.1, OPTIONS,", items), ("quire run --help", helps)])
    helps = set(re.findall(r"(?<![\w-])--([a-z-]+)", told(lab, "--help"))) - {"help"}
    same("option of quire-lab", [("quire-lab --help", helps), ("man/quire-lab.1", marked(read("man/quire-lab.1")))])
    return code | {"help", "version"}, helps | {"help"}


def examples(path):
    """Lines of commands: in a man page .Dl and literal blocks, in a document fenced blocks; continued lines are one."""
    text = read(path)
    if path.endswith(".md"):
        blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
        if any("$ " in b for b in blocks):      # in a block with prompts, other lines are output
            blocks = ["\n".join(line for line in b.splitlines() if line.startswith("$ ")) if "\n$ " in "\n" + b else b for b in blocks]
    else:
        blocks = re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed", text, re.M | re.S) + re.findall(r"^(\.Dl .*)", text, re.M)
    for block in blocks:
        for line in re.sub(r"\\(?:e)?\n\s*", " ", block).splitlines():
            yield plain(line).strip().removeprefix("$ ")


def words_of(line):
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def check_command(where, words, run_options, lab_options):
    """The words from one of Quire's programs on: its command, and its options up to the program that it starts."""
    name = os.path.basename(words[0])
    verbs = {"quire": ("run", "check"), "quire-lab": ("policies", "prefetch", "generate", "trace", "stat", "list")}[name]
    options = run_options if name == "quire" else lab_options
    count("command in an example")
    if len(words) > 1 and words[1].rstrip(":") not in verbs and words[1] not in ("--help", "--version"):
        bad.append("%s: %s has no command %s" % (where, name, words[1]))
    for word in words[2:]:
        if word == "--" or word in ("|", ">", "<", ";"):
            return
        if word.startswith("--"):
            count("option in an example")
            if word[2:].split("=")[0] not in options:
                bad.append("%s: %s has no option %s" % (where, name, word))


def check_examples(run_options, lab_options):
    for path in (*PAGES, *DOCUMENTS):
        for line in examples(path):
            words = words_of(line)
            for i, word in enumerate(words):
                word = word.strip(",;()")
                if os.path.basename(word) in ("quire", "quire-lab") and (i == 0 or words[i - 1] in ("|", "image", "&&", "--args")):
                    check_command(path, [word, *words[i + 1:]], run_options, lab_options)
                if re.fullmatch(r"(?:[\w.-]+/)+[\w.-]*", word) and word.split("/")[0] in TOPS and "..." not in word:
                    count("path in an example")
                    if not any(os.path.exists(os.path.join(source, word + end)) for end in ("", ".c")):     # ninja builds NAME of NAME.c
                        bad.append("%s: an example names %s, which is not there" % (path, word))
        for line in read(path).splitlines():      # in running text: `quire run --option`
            for said in re.findall(r"`((?:build/)?quire(?:-lab)? [^`]*)`", line):
                words = words_of(said.rstrip(":"))
                if words:
                    check_command(path, words, run_options, lab_options)


def check_paths():
    code = ""
    for folder, folders, names in os.walk(source):
        folders[:] = [d for d in folders if not d.startswith((".", "build"))]
        code += "".join(read(os.path.join(folder, n)) for n in names if n.endswith((".c", ".h", ".build")))
    for page in PAGES:
        text = read(page)
        for path in sorted(set(re.findall(r"\bPa ([^\s,;]+)", text))):
            count("path in a man page")
            if path.startswith("./"):
                continue      # an example of a name
            known = path.split("/")[-1] if path.startswith("/proc/PID/") else path
            if not (os.path.exists(path) or known in code or os.path.exists("/proc/self/" + known)):
                bad.append("%s names %s, which is neither here nor in the code" % (page, path))
        for name in sorted(set(re.findall(r"\bEv (\w+)", text))):
            if name in ("GOMEMLIMIT", "DOTNET_GCHeapHardLimit", "ASAN_OPTIONS"):
                continue      # other programs'
            count("variable")
            if '"%s' % name not in code:
                bad.append("%s names the variable %s, which no code reads" % (page, name))
    header = read("lib/include/quire/quire.h")
    page = read("man/libquire.3")
    names = set(re.findall(r"\b(quire_\w+)\s*\(", re.sub(r"/\*.*?\*/", "", header, flags=re.S)))
    fields = set(re.findall(r"\w+", " ".join(re.findall(r"\bVa (.*)", page)))) - {"Va", "errno"}
    for name in sorted(names):
        count("name")
        if not re.search(r"\bFn %s\b" % name, page):
            bad.append("man/libquire.3 has no %s" % name)
    for name in sorted(set(re.findall(r"\b(?:Fn|Vt|Dv) (quire_\w+|QUIRE_\w+)", page)) | fields):
        count("name")
        if not re.search(r"\b%s\b" % name, header):
            bad.append("man/libquire.3 names %s, which quire.h does not have" % name)
    for name in sorted(set(re.findall(r"\bE[A-Z]{3,}\b", re.sub(r"\n \* QUIRE_\w+", "", header)))):
        count("name")
        if not re.search(r"\bEr %s\b" % name, page):
            bad.append("man/libquire.3 does not have %s, which quire.h promises" % name)


def check_status():
    """Exit statuses: the page and each help name the same."""
    page = read("man/quire.1")
    want = set(re.findall(r"\b12[5-7]\b", page[page.index(".Sh EXIT STATUS"):page.index(".Sh TELL THE PROGRAM")]))
    for command in ((quire, "--help"), (quire, "run", "--help"), (quire, "check", "--help")):
        if set(re.findall(r"\b12[5-7]\b", told(*command))) != want or len(want) != 3:
            bad.append("%s and man/quire.1, EXIT STATUS, do not name the same exit statuses" % " ".join(("quire", *command[1:])))


check_examples(*check_options())
check_paths()
check_status()
for kind, least in LEAST.items():
    if seen.get(kind, 0) < least:
        bad.append("only %d times was a %s read, not %d times: does the test still read the pages?" % (seen.get(kind, 0), kind, least))
for line in bad:
    print(line)
print("man: %s; %d wrong" % (", ".join("%d %s" % (n, kind) for kind, n in sorted(seen.items())), len(bad)))
sys.exit(1 if bad else 0)
