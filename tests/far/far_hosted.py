# SPDX-License-Identifier: BSD-2-Clause
"""Hosted programs for the tests of far swap: a program whose memory does not fit, and checks for leftovers of a run."""
import functools
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from tidy import bytes_of, processes_where  # noqa: E402


def program(pages):
    """Touches incompressible pages twice, in random order; prints a sum. Prints on standard error when it is half-way, and
    then reads a line if it has an argument."""
    return r"""
import random, sys
n = %d
r = random.Random(1)
a = [r.randbytes(4000) for _ in range(n)]
s = 0
for k in range(2):
    for i in range(n):
        s = (s * 31 + sum(a[i * 7919 %% n][:16])) %% 1000003
    print("round", file=sys.stderr, flush=True)
    if k == 0 and len(sys.argv) > 1:
        sys.stdin.readline()
print(s)
""" % pages


@functools.lru_cache
def output_of(pages):
    return subprocess.run([sys.executable, "-c", program(pages)], capture_output=True, text=True, check=True).stdout


class Host:
    """Runs the program under `quire run` of that path."""

    def __init__(self, quire, memory="16M", pages=5000):
        self.quire, self.memory, self.pages = quire, memory, pages

    def native(self):
        return output_of(self.pages)

    def start(self, *options, env=None, arguments=(), **more):
        return subprocess.Popen([self.quire, "run", "-m", self.memory, *options, "--report", "none", "--", sys.executable, "-c",
                                 program(self.pages), *arguments],
                                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env, **more})

    def hosted(self, *options, env=None):
        p = self.start(*options, env=env)
        out, err = p.communicate(timeout=250)
        return p.returncode, out, err

    def equal(self, *options, env=None):
        """Checks that the output equals a native run's; returns the text of standard error."""
        rc, out, err = self.hosted(*options, env=env)
        assert rc == 0 and out == self.native(), "status %d, %r: %s" % (rc, out, err)
        return err

    def half(self, *options, env=None):
        """Started, and half-way, where it waits for a line."""
        p = self.start(*options, env=env, arguments=["wait"], stdin=subprocess.PIPE)
        line = p.stderr.readline()
        while line != "round\n":
            assert line != "", "it ended before it was half-way"
            line = p.stderr.readline()
        return p


def goes_on(p):
    """The program of half() goes on."""
    p.stdin.close()
    p.stdin = None


def marked(mark):
    """An environment by which the processes of a run are found."""
    return dict(os.environ, QUIRE_FAR_TEST=str(mark))


def name_of(process):
    with open(process + "/comm") as f:
        return f.read().strip()


def processes_of(mark, name=None):
    """Processes with that mark, or of that name; no zombies."""
    word = b"QUIRE_FAR_TEST=%s" % str(mark).encode()
    return processes_where(lambda p: name in (None, name_of(p)) and word in bytes_of(p, "environ").split(b"\0"))
