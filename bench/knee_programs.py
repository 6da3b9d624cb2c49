# SPDX-License-Identifier: BSD-2-Clause
"""The programs of knee.py: those of tests/programs/run.py, and two runtimes that collect garbage.

Each has a size "small", which is measured, and most have a size "trace", which is small enough to be
run instruction by instruction under qemu-user, so that exact LRU can be asked about the same program.
"""

import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "programs"))
sys.path.insert(0, os.path.join(TOP, "tools"))
sys.dont_write_bytecode = True

import run as programs  # noqa: E402

MIB = 1 << 20


class Python(programs.Objects):
    sizes = dict(programs.Objects.sizes, trace=50000)


class Sort(programs.Sort):
    sizes = dict(programs.Sort.sizes, trace=16 * MIB)


class Sqlite(programs.Sqlite):
    sizes = dict(programs.Sqlite.sizes, trace=100000)


class Redis(programs.Redis):
    sizes = dict(programs.Redis.sizes, trace=16 * MIB)


class Xz(programs.Xz):
    sizes = dict(programs.Xz.sizes, trace=2 * MIB)


class Gcc(programs.Gcc):
    """ The compiler proper: its driver needs little memory, and the tracer follows no exec."""
    sizes = dict(programs.Gcc.sizes, trace=40)
    outputs = ("big.s",)

    def argv(self, folder):
        cc1 = subprocess.run(["gcc", "-print-prog-name=cc1"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        return [cc1, "-quiet", "-O2", "-o", "big.s", os.path.join(folder, "big-%d.c" % self.scale)]


NODE = """'use strict';
const count = Number(process.argv[2]);
const map = new Map();
let x = 2026;
const next = () => (x = (Math.imul(x, 1664525) + 1013904223) >>> 0);
for (let i = 0; i < count; i++) map.set(next(), { id: i, name: 'object ' + i, next: null });
let total = 0, last = null;
x = 2026;
for (let i = 0; i < count; i++) {
  const o = map.get(next());
  total = (total + o.id * 7 + o.name.length) % 1000000007;
  if (last !== null) last.next = o;
  last = o;
}
for (let round = 0; round < 2; round++)
  for (const [key, o] of map) total = (total + key % 1000 + (o.next === null ? 0 : o.next.id)) % 1000000007;
console.log(map.size, total);
"""

JAVA = """import java.util.HashMap;

public class Strings {
    private static long state = 2026;

    private static int next() {
        state = state * 6364136223846793005L + 1442695040888963407L;
        return (int) (state >>> 33);
    }

    public static void main(String[] args) {
        int count = Integer.parseInt(args[0]);
        HashMap<String, String> map = new HashMap<>();
        for (int i = 0; i < count; i++)
            map.put("key " + next(), "the value of entry number " + i);
        long total = 0;
        for (int round = 0; round < 3; round++) {
            state = 2026;
            for (int i = 0; i < count; i++)
                total = total * 31 + map.get("key " + next()).length();
        }
        for (String s : map.values())
            total = total * 31 + s.hashCode();
        System.out.println(map.size() + " " + total);
    }
}
"""


LOOKUPS = """import java.util.HashMap;

public class Lookups {
    private static long state = 2026;

    private static int next() {
        state = state * 6364136223846793005L + 1442695040888963407L;
        return (int) (state >>> 33);
    }

    public static void main(String[] args) throws InterruptedException {
        int count = Integer.parseInt(args[0]), threads = Integer.parseInt(args[1]);
        HashMap<String, String> map = new HashMap<>();
        int[] keys = new int[count];
        for (int i = 0; i < count; i++) {
            keys[i] = next();
            map.put("key " + keys[i], "the value of entry number " + i);
        }
        long[] sums = new long[threads];
        Thread[] all = new Thread[threads];
        for (int t = 0; t < threads; t++) {
            int me = t;
            all[t] = new Thread(() -> {
                for (int round = 0; round < 6; round++)
                    for (int i = me; i < count; i += threads)
                        sums[me] += map.get("key " + keys[i]).hashCode() % 1000;
            });
            all[t].start();
        }
        long total = 0;
        for (int t = 0; t < threads; t++) {
            all[t].join();
            total += sums[t];
        }
        System.out.println(map.size() + " " + total);
    }
}
"""


class Node(programs.Program):
    """A map of a million objects."""
    name = "node"
    needs = ("node",)
    sizes = {"small": 1000000}
    untraced = "V8 makes code at run time and keeps several threads"

    def inputs(self, folder):
        programs.write_once(os.path.join(folder, "map.js"), lambda f: f.write(NODE))

    def argv(self, folder):
        return ["node", "--max-old-space-size=2048", "--max-semi-space-size=16", os.path.join(folder, "map.js"), str(self.scale)]


class Java(programs.Program):
    """A HashMap of strings, in a heap that a collector of one thread keeps."""
    name = "java"
    needs = ("java", "javac")
    sizes = {"small": 500000}
    untraced = "the JVM makes code at run time and keeps many threads"
    main, text = "Strings", JAVA

    def inputs(self, folder):
        source = programs.write_once(os.path.join(folder, self.main + ".java"), lambda f: f.write(self.text))
        if not os.path.exists(os.path.join(folder, self.main + ".class")):
            subprocess.run(["javac", "-d", folder, source], check=True)

    def argv(self, folder):
        return ["java", "-XX:-UseContainerSupport", "-XX:+UseSerialGC", "-Xmx1g", "-cp", folder, self.main, str(self.scale)]


class Lookups(Java):
    """The same map, read by a number of threads that share the lookups."""
    name = "java-1"
    threads = 1
    main, text = "Lookups", LOOKUPS

    def argv(self, folder):
        return super().argv(folder) + [str(self.threads)]


class LookupsParallel(Lookups):
    name = "java-2"
    threads = 2


PROGRAMS = (Python, Sort, Sqlite, Gcc, Redis, Node, Java, Xz)
THREADED = ((Sort, programs.SortParallel), (Lookups, LookupsParallel))  # each with one thread and with two
QUICK = ("python", "sort", "sqlite")
