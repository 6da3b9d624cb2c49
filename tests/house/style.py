# SPDX-License-Identifier: BSD-2-Clause
"""The rules of STYLE for C sources that a program can check: check(source) returns one line for each violation.

A static function's name says what it does to what, so it has two words at least. A conditional expression has no
other inside it. A function has at most 60 lines, a file at most 1,000. A function named _locked asserts that its
caller holds the lock. A test's name is a sentence.
"""

import os
import re
import subprocess

FUNCTION_LINES, FILE_LINES = 60, 1000
# Functions of one CPU instruction each, named after it.
INSTRUCTIONS = {"outb", "outl", "outw", "inb", "rdmsr", "wrmsr", "rdtsc", "cpuid", "invlpg"}
# A test, an example and a benchmark are read from top to bottom: only lengths are checked there.
TESTS = ("tests/", "examples/", "bench/", "kernel/test/")
NOT_CODE = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
STATIC = re.compile(r"^static\b[^;{}=()#]*?\b(?:__attribute__\(\(.*?\)\)\s*)?(\w+)\([^;{}]*\)\s*\{", re.M)

LOCKED = re.compile(r"^(?:static )?(?:inline )?[\w *]*?\b(\w+_locked)\([^;{}]*?\)\s*\{", re.M)
HELD = re.compile(r"\b(?:\w*ASSERT|assert)\([^;]*_held\(")


def blank(text):
    """The text with comments and literals replaced by blanks; lines stay lines."""
    return NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def short_names(path, code):
    for m in STATIC.finditer(code):
        name = m.group(1)
        if "_" not in name and name not in INSTRUCTIONS:
            yield "%s:%d: %s() does not say what it does to what" % (path, line_of(code, m.start(1)), name)


def nested_conditionals(path, code):
    inside, line = [False], 1       # for each open bracket: is there a ? before this place?
    for c in code:
        if c == "\n":
            line += 1
        elif c in "([{":
            inside.append(False)
        elif c in ")]}" and len(inside) > 1:
            inside.pop()
            inside[-1] &= c != "}"
        elif c in ",;":
            inside[-1] = False
        elif c == "?":
            if any(inside):
                yield "%s:%d: a conditional expression inside another" % (path, line)
            inside[-1] = True


def long_parts(path, code):
    lines = code.split("\n")
    if len(lines) - 1 > FILE_LINES:
        yield "%s: %d lines; a file has at most %d" % (path, len(lines) - 1, FILE_LINES)
    began = None
    for i, line in enumerate(lines):
        if line == "{":
            began = i
        elif line == "}" and began is not None:
            if i - began + 1 > FUNCTION_LINES:
                yield "%s:%d: a function of %d lines; at most %d" % (path, began + 1, i - began + 1, FUNCTION_LINES)
            began = None


def test_names(path, code):
    """A test is named by a sentence that says what holds: three words at least, and not that it is a test."""
    for m in re.finditer(r"\bcmocka_unit_test\w*\(\s*(\w+)", code):
        if m.group(1).startswith("test_") or m.group(1).count("_") < 2:
            yield "%s:%d: %s is no sentence that says what holds" % (path, line_of(code, m.start(1)), m.group(1))


def unasserted_locks(path, code):
    for m in LOCKED.finditer(code):
        if m.group(1).startswith("is_"):
            continue                # functions that ask whether an object is locked
        end = code.find("\n}", m.end()) if code[m.end()] == "\n" else code.find("\n", m.end())
        if not HELD.search(code, m.end(), end):
            yield "%s:%d: %s() does not assert that the lock is held" % (path, line_of(code, m.start(1)), m.group(1))


def sources(source):
    """The tracked C files; all C files if git cannot list them."""
    listed = subprocess.run(["git", "-C", source, "ls-files", "*.c", "*.h"], capture_output=True, text=True).stdout.split()
    for folder, folders, names in os.walk(source) if not listed else ():
        folders[:] = [d for d in folders if not d.startswith((".", "build"))]
        listed += [os.path.relpath(os.path.join(folder, name), source) for name in names if name.endswith((".c", ".h"))]
    return sorted(listed)


def check(source):
    bad, seen, asserted = [], 0, 0
    for path in sources(source):
        full = os.path.join(source, path)
        if not os.path.exists(full):
            continue
        with open(full, errors="replace") as f:
            code = blank(f.read())
        seen += 1
        if not path.startswith(TESTS):
            bad += short_names(path, code)
            bad += nested_conditionals(path, code)
            asserted += len(LOCKED.findall(code))
            bad += unasserted_locks(path, code)
        bad += test_names(path, code)
        bad += long_parts(path, code)
    if seen < 300:
        bad.append("only %d C files were read" % seen)
    if asserted < 100:
        bad.append("only %d functions named _locked were found" % asserted)
    return bad


if __name__ == "__main__":
    import sys
    print("\n".join(check(sys.argv[1])))
