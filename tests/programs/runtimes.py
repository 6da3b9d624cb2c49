# SPDX-License-Identifier: BSD-2-Clause
"""Runtimes that collect garbage or have workers, a database server, and a build, each in half and in a quarter of their memory.

A runtime that sizes its heap by the machine is given the size, the same natively and under Quire (`man quire`, TELL
THE PROGRAM, TOO). `slack` is memory that Quire leaves to the kernel, beyond that of small programs: code generated in
the program, its large text, and shared memory.
"""

import glob
import os
import shutil
import signal
import subprocess
import tempfile
import time

from program import HERE, MIB, Program, digest, stream, write_once


def script(name):
    return os.path.join(HERE, "scripts", name)


class Scripted(Program):
    """An interpreter, its options, a script of scripts/, and a count."""
    shares = (2, 4)
    interpreter = ()
    source = ""

    def key(self):
        return super().key() + [digest(script(self.source))]

    def argv(self, folder):
        return list(self.interpreter) + [script(self.source), str(self.scale)]


class Ruby(Scripted):
    name = "ruby"
    needs = interpreter = ("ruby",)
    source = "compact.rb"
    sizes = {"small": 40000, "full": 150000}


class Php(Scripted):
    name = "php"
    needs = ("php",)
    interpreter = ("php", "-d", "memory_limit=-1")
    source = "arrays.php"
    sizes = {"small": 60000, "full": 300000}


class Perl(Scripted):
    name = "perl"
    needs = interpreter = ("perl",)
    source = "words.pl"
    sizes = {"small": 40000, "full": 150000}
    processes = 2   # it forks, and both processes write all their memory


class Node(Scripted):
    name = "node"
    needs = ("node",)
    interpreter = ("node", "--max-old-space-size=512")
    source = "workers.js"
    sizes = {"small": 15000, "full": 60000}
    slack = 96 * MIB


class Java(Program):
    name = "java"
    needs = ("java", "javac")
    shares = (2, 4)
    sizes = {"small": 100000, "full": 400000}
    heap = {"small": "-Xmx160m", "full": "-Xmx512m"}
    slack = 96 * MIB

    def key(self):
        return super().key() + [digest(script("Collect.java"))]

    def inputs(self, folder):
        subprocess.run(["javac", "-d", folder, script("Collect.java")], check=True)

    def argv(self, folder):
        return ["java", self.heap[self.size], "-cp", folder, "Collect", str(self.scale)]


class Make(Program):
    """Two compilers at a time under make, their objects compared."""
    name = "make"
    needs = ("make", "g++")
    shares = (2, 4)
    sizes = {"small": 2, "full": 8}
    processes = 2
    outputs = ("objects",)

    def inputs(self, folder):
        for i in range(self.scale):
            n = stream(1000 + i)
            write_once(os.path.join(folder, "part-%d.cc" % i), lambda f, n=n, i=i: f.write(
                "#include <algorithm>\n#include <map>\n#include <regex>\n#include <string>\n#include <vector>\n" + "".join(
                    "template <int N> struct t{k} {{ std::map<std::string, std::vector<int>> m; int f(int x) {{\n"
                    "\tstd::vector<int> v; for (int i = 0; i < x % {a} + N; i++) v.push_back(i * {b} % {c});\n"
                    "\tstd::sort(v.begin(), v.end()); m[std::to_string(x)] = v;\n"
                    "\treturn v.empty() ? N : v[v.size() / 2] + (int)m.size(); }} }};\n"
                    "int part{i}_{k}(int x) {{ return t{k}<{d}>().f(x); }}\n".format(
                        k=k, i=i, a=3 + next(n) % 50, b=next(n) % 9999, c=7 + next(n) % 997, d=next(n) % 9) for k in range(60))))
        write_once(os.path.join(folder, "Makefile-%d" % self.scale), lambda f: f.write(
            "objects:" + "".join(" part-%d.o" % i for i in range(self.scale)) + "\n\tcat $^ > $@\n"
            "%.o: " + folder + "/%.cc\n\tg++ -O2 -c -o $@ $<\n"))

    def argv(self, folder):
        return ["make", "-s", "-j2", "-f", os.path.join(folder, "Makefile-%d" % self.scale)]


class Postgres(Program):
    """A server: pgbench fills it and runs its transactions, then two sessions sort and digest all rows at once."""
    name = "postgres"
    needs = ("pg_lsclusters", "pgbench", "psql", "setpriv")
    shares = (2, 4)
    sizes = {"small": 2, "full": 8}
    processes = 2
    slack = 64 * MIB    # its shared buffers
    outputs = ("values",)
    QUERY = ("SET work_mem='48MB'; SELECT count(*), sum(abalance), md5(string_agg(aid || ':' || abalance || filler, ',' "
             "ORDER BY md5(aid::text || '{me}'))) FROM pgbench_accounts; SELECT sum(bbalance) FROM pgbench_branches; "
             "SELECT sum(tbalance) FROM pgbench_tellers; SELECT count(*), sum(delta) FROM pgbench_history")

    def __init__(self, size):
        super().__init__(size)
        self.home = None
        self.bin = (sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [""])[-1]
        # the server refuses to be root
        self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []

    def output_digests(self, cwd):
        return {name: digest(os.path.join(cwd, name)) for name in self.outputs if os.path.exists(os.path.join(cwd, name))}

    def prepare(self, cwd):
        self.home = tempfile.mkdtemp(prefix="quire-postgres-", dir="/var/tmp")
        if self.user:
            shutil.chown(self.home, "postgres", "postgres")
        subprocess.run(self.user + [self.bin + "/initdb", "-D", self.home + "/data", "-A", "trust", "-U", "quire", "--no-sync",
                                    "--locale=C"], cwd=self.home, check=True, stdout=subprocess.DEVNULL)

    def clean(self):
        if self.home:
            shutil.rmtree(self.home, ignore_errors=True)

    def argv(self, folder):
        options = ["listen_addresses=", "shared_buffers=16MB", "fsync=off", "autovacuum=off", "jit=off",
                   "max_parallel_workers_per_gather=0", "unix_socket_directories=" + self.home]
        return self.user + [self.bin + "/postgres", "-D", self.home + "/data"] + [w for o in options for w in ("-c", o)]

    def client(self, argv, **kw):
        return subprocess.Popen(argv[:1] + ["-h", self.home, "-U", "quire"] + argv[1:] + ["postgres"], stdin=subprocess.DEVNULL,
                                stdout=kw.pop("stdout", subprocess.DEVNULL), stderr=subprocess.DEVNULL, **kw)

    def drive(self, process, cwd):
        deadline = time.monotonic() + 60
        while process.alive() and time.monotonic() < deadline:
            if self.client(["psql", "-qc", "SELECT 1"]).wait() == 0:
                break
            time.sleep(0.05)    # between two tries to connect
        said = []
        try:
            for argv in (["pgbench", "-iq", "-s", str(self.scale)],
                         ["pgbench", "-n", "-c", "2", "-t", str(500 * self.scale), "--random-seed=7"]):
                if self.client(argv).wait(1200) != 0:
                    said.append("%s failed\n" % " ".join(argv))
            sessions = [self.client(["psql", "-Atc", self.QUERY.format(me=me)], stdout=subprocess.PIPE, text=True) for me in range(2)]
            said += [s.communicate(timeout=1200)[0] for s in sessions]
        except subprocess.TimeoutExpired as e:
            said.append(str(e))
        with open(os.path.join(cwd, "values"), "w") as f:
            f.write("".join(said))
        try:
            with open(self.home + "/data/postmaster.pid") as f:
                os.kill(int(f.readline()), signal.SIGINT)   # the server ends its sessions, then itself
        except (OSError, ValueError):
            process.kill()


PROGRAMS = (Ruby, Java, Node, Php, Perl, Postgres, Make)
