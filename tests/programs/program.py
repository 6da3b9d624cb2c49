# SPDX-License-Identifier: BSD-2-Clause
"""The description of a program to run in too little memory, shared by run.py and runtimes.py."""

import hashlib
import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
MIB = 1 << 20
HASH_BLOCK = 1 << 16


def python():
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(HASH_BLOCK), b""):
            h.update(block)
    return h.hexdigest()


def which(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def stream(seed):
    """Repeatable 32-bit numbers, independent of the Python version."""
    x = seed
    while True:
        x ^= (x << 13) & 0xFFFFFFFFFFFFFFFF
        x ^= x >> 7
        x ^= (x << 17) & 0xFFFFFFFFFFFFFFFF
        yield x >> 32


def write_once(path, writer):
    """Makes an input file completely or not at all."""
    if not os.path.exists(path):
        with open(path + ".part", "w", encoding="ascii") as f:
            writer(f)
        os.rename(path + ".part", path)
    return path


class Program:
    """A program to run: argv, and the files that are its output.

    stdout is always an output; `outputs` names further files, relative to the
    run's own directory.  `sizes` gives the scale of each size class.
    """
    name = ""
    needs = ()
    sizes = {}
    outputs = ()
    shares = (4,)       # the program runs in its peak memory divided by each of these numbers
    slack = 0           # bytes of the cgroup in addition to the budget and the common slack: memory that Quire leaves to the kernel
    processes = 1       # number of processes as large as the largest, at a time

    def __init__(self, size):
        self.size = size
        self.scale = self.sizes[size]

    def key(self):
        """The inputs on which a kept native run depends, in addition to this file."""
        facts = [self.name, str(self.scale)]
        for tool in self.needs:
            path = os.path.realpath(which(tool))
            facts.append("%s:%d" % (path, os.stat(path).st_mtime_ns))
        return facts

    def inputs(self, folder):
        """Creates the program's input files under folder."""

    def argv(self, folder):
        raise NotImplementedError

    def stdin(self, folder):
        return "/dev/null"

    def prepare(self, cwd):
        """Called just before the start: makes the files that the program needs in its own directory, or elsewhere."""

    def clean(self):
        """Removes the files that prepare() made elsewhere."""

    def drive(self, process, cwd):
        """Talks to a running server; other programs do not override this."""

    def output_digests(self, cwd):
        return {name: digest(os.path.join(cwd, name)) for name in ("stdout",) + tuple(self.outputs)
                if os.path.exists(os.path.join(cwd, name))}
