# SPDX-License-Identifier: BSD-2-Clause
"""Put a fault into the code, run the tests that must notice it, say which faults nobody noticed.

    mutants.py [--sample N] [--seed S] [--all] [--check | --list] [NAME ...]

A fault (a mutant) is an edit from tests/mutants/*.txt:

    [name]
    breaks: what a user would see, in one line
    file: the base name of the source file
    tests: names of `meson test`, in the order in which they are asked; NAME/CASE: that case of the test alone
    - lines that are searched for
    + lines that take their place

Lines are searched for without regard to white space, so neither a moved line nor a moved file makes an entry stale; the
text must be there exactly once. A `>` line begins another place in the same file. --check only looks whether all entries
apply. The others are applied, one at a time, in a copy of the tracked files under BUILD/mutants, which has a build
directory of its own; a test that fails, crashes or hangs has noticed the fault, if it
passes without it. The first that notices it is enough; with --all each of the entry's tests must. Ends with "N noticed,
N unnoticed, N stale".
"""

import argparse
import glob
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.path.join(TOP, os.environ.get("BUILD", "build"), "mutants")
HANGS = 300     # seconds after which a test hangs


class Stale(Exception):
    """The entry does not fit the code, or its tests do not exist or do not pass."""


class Mutant:
    def __init__(self, name):
        self.name, self.breaks, self.file, self.tests = name, "", "", []
        self.edits = [([], [])]

    def take(self, line):
        if line.startswith(("- ", "+ ")) or line in ("-", "+"):
            self.edits[-1]["-+".index(line[0])].append(line[2:])
        elif line == ">":
            self.edits.append(([], []))
        else:
            key, _, value = line.partition(":")
            if key not in ("breaks", "file", "tests") or not value:
                raise Stale("%s: cannot read %r" % (self.name, line))
            setattr(self, key, value.split() if key == "tests" else value.strip())

    def source(self, files):
        """The file in which the edit fits: of those of that name, or of any name if there is none."""
        known = [f for f in files if f.endswith((".c", ".h", ".py", ".sh")) and not f.startswith("tests/")]
        named = [f for f in known if os.path.basename(f) == self.file] or known
        fits, why = [], "no file"
        for path in named:
            try:
                with open(os.path.join(TOP, path), encoding="utf-8") as f:
                    self.apply(f.read())
                fits.append(path)
            except Stale as e:
                why = str(e)
        if len(fits) != 1:
            raise Stale(why if not fits else "%s: fits %s" % (self.name, " and ".join(fits)))
        return fits[0]

    def apply(self, text):
        for old, new in self.edits:
            words = " ".join(old).split()
            places = list(re.finditer(r"\s+".join(map(re.escape, words)), text)) if words else []
            if len(places) != 1:
                raise Stale("%s: %s has the text %d times: %s" % (self.name, self.file, len(places), " ".join(words)[:100]))
            text = text[:places[0].start()] + "\n".join(new) + text[places[0].end():]
        return text


def read_list():
    mutants = []
    for path in sorted(glob.glob(os.path.join(TOP, "tests", "mutants", "*.txt"))):
        with open(path) as f:
            for line in map(str.rstrip, f):
                if line.startswith("["):
                    mutants.append(Mutant(line.strip("[]")))
                elif line and not line.startswith("#"):
                    mutants[-1].take(line)
    return mutants


def tracked():
    """The project's files: those that git knows, or, in a copy without git, all but what was built."""
    p = subprocess.run(["git", "ls-files"], cwd=TOP, check=False, capture_output=True, text=True)
    if p.returncode == 0:
        return p.stdout.splitlines()
    found = []
    for folder, names, files in os.walk(TOP):
        names[:] = [n for n in names if not n.startswith((".", "build"))]
        found += [os.path.relpath(os.path.join(folder, f), TOP) for f in files]
    return found


def write_if_changed(path, data):
    try:
        with open(path, "rb") as f:
            if f.read() == data:
                return
    except OSError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


class Copy:
    """The tracked files as they are now, and their build."""

    def __init__(self, files):
        self.source, self.build = os.path.join(WORK, "source"), os.path.join(WORK, "build")
        self.env = dict(os.environ, PATH="/usr/bin:" + os.environ.get("PATH", ""), BUILD=self.build)
        for name in files:
            if os.path.isfile(os.path.join(TOP, name)):
                with open(os.path.join(TOP, name), "rb") as f:
                    write_if_changed(os.path.join(self.source, name), f.read())
                os.chmod(os.path.join(self.source, name), os.stat(os.path.join(TOP, name)).st_mode & 0o777)
        if not os.path.exists(os.path.join(self.build, "build.ninja")):
            subprocess.run(["meson", "setup", self.build, self.source], env=self.env, check=True, stdout=subprocess.DEVNULL)
        else:   # names of tests are asked before the first build
            subprocess.run(["ninja", "-C", self.build, "build.ninja"], env=self.env, check=True, stdout=subprocess.DEVNULL)
        self.tests = {t["name"]: t for t in self.introspect("tests")}
        self.sound = {}     # does the test pass on the code as it is?
        self.targets = {t["id"]: t["filename"] for t in self.introspect("targets")}

    def introspect(self, what):
        out = subprocess.run(["meson", "introspect", self.build, "--" + what], env=self.env, check=True, capture_output=True)
        return json.loads(out.stdout)

    def make(self, test):
        """Builds what the test runs. False: it does not compile."""
        wanted = [f for i in self.tests[test.partition("/")[0]]["depends"] for f in self.targets[i]]
        argv = ["ninja", "-C", self.build] + [os.path.relpath(f, self.build) for f in wanted]
        return subprocess.run(argv, env=self.env, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def passes(self, test):
        name, _, case = test.partition("/")
        argv = ["meson", "test", "-C", self.build, "--no-rebuild", "--logbase", "mutant", name] + (["--test-args", case] if case else [])
        p = subprocess.Popen(argv, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            return p.wait(HANGS) == 0
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGTERM)    # Meson ends its test before it ends
            p.wait()
            return False

    def expect_sound(self, test):
        """A test that fails anyway notices nothing."""
        if test.partition("/")[0] not in self.tests:
            raise Stale("there is no test %s" % test)
        if test not in self.sound:
            self.sound[test] = self.make(test) and self.passes(test)
        if not self.sound[test]:
            raise Stale("%s fails without a fault" % test)

    def noticed_by(self, mutant, path, ask_all):
        """Those of the mutant's tests that do not pass: the first, or all."""
        for test in mutant.tests:
            self.expect_sound(test)
        whole = os.path.join(self.source, path)
        with open(whole, encoding="utf-8") as f:
            text = f.read()
        try:
            write_if_changed(whole, mutant.apply(text).encode())
            by = []
            for test in mutant.tests:
                if not self.make(test):
                    raise Stale("%s: does not compile" % mutant.name)
                if not self.passes(test):
                    by.append(test)
                    if not ask_all:
                        break
            return by
        finally:
            write_if_changed(whole, text.encode())


def check(mutants, files):
    stale = 0
    names = [m.name for m in mutants]
    for m in mutants:
        try:
            if not m.breaks or not m.tests or names.count(m.name) > 1:
                raise Stale("%s: lacks what it breaks or its tests, or is there twice" % m.name)
            m.source(files)
        except Stale as e:
            print("stale: %s" % e)
            stale += 1
    print("%d mutants, %d stale" % (len(mutants), stale))
    return 1 if stale or not mutants else 0


def main():
    p = argparse.ArgumentParser(description="Faults that the tests must notice.")
    p.add_argument("names", nargs="*", metavar="NAME")
    p.add_argument("--sample", type=int, default=0, help="so many, chosen at random")
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--all", action="store_true", help="each of an entry's tests must notice it, not only one")
    p.add_argument("--check", action="store_true", help="only look whether all of them still apply")
    p.add_argument("--list", action="store_true", help="only say what each breaks")
    args = p.parse_args()
    files, mutants = tracked(), read_list()
    if args.check:
        return check(mutants, files)
    if args.names:
        mutants = [m for m in mutants if m.name in args.names]
    if args.sample:
        mutants = random.Random(args.seed).sample(mutants, min(args.sample, len(mutants)))
    if args.list:
        for m in mutants:
            print("%-32s %s [%s]" % (m.name, m.breaks, " ".join(m.tests)))
        return 0
    copy = Copy(files)
    noticed, unnoticed, stale = 0, [], []
    for m in mutants:
        began = time.monotonic()
        try:
            by = copy.noticed_by(m, m.source(files), args.all)
        except Stale as e:
            stale.append(m)
            print("stale      %-32s %s" % (m.name, e), flush=True)
            continue
        passed = [t for t in m.tests if t not in by] if args.all or not by else []
        if passed:
            unnoticed.append(m)
        noticed += not passed
        print("%s %-32s %5.0f s  %s" % ("UNNOTICED " if passed else "noticed   ", m.name, time.monotonic() - began,
                                       "%s: %s" % (" ".join(passed), m.breaks) if passed else "by " + " ".join(by)), flush=True)
    print("%d noticed, %d unnoticed, %d stale" % (noticed, len(unnoticed), len(stale)))
    return 1 if unnoticed or stale or not noticed else 0


if __name__ == "__main__":
    sys.exit(main())
