# SPDX-License-Identifier: BSD-2-Clause
"""far.py [--mib N] [--rounds N] [--seconds N]: far swap beside the engines' own clients, and a program that pages to each place.

Starts redis-server and nbdkit on the loopback for its own use. First table: units of 64 KiB, 16
under way, through quire-far and through the raw client (redis-benchmark; nbdcopy), in turn, MiB/s,
median of the rounds, and the ratio: writes to new places, writes to used places, reads. Second:
seconds of a python program in half of the memory that it needs, its swap in a file, in an encrypted
file, on NBD, on Redis, in turn, and the ratio to the file's of the same round, also of CPU seconds
(where the ratio of seconds is larger, the rest is waiting). Beside it the time for one page to come
back from each place, which shows whether the engine is slower than the disk. --seconds bounds the
whole: rounds that would not fit are left out, and the number of rounds made is printed."""
import argparse
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("BUILD", "build")
DEPTH = 16
PASSES = 8  # of the raw clients over what exists
WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"]  # a server ends with us, also when we are killed
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
PROGRAM = """
import random
n = 12000
r = random.Random(1)
a = [r.randbytes(3000) + b'x' * 1000 for _ in range(n)]
s = 0
for k in range(3):
    for i in range(n):
        s = (s * 31 + sum(a[i * 7919 % n][:16])) % 1000003
print(s)
"""


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(number):
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", number), 1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False


def ours(url, mib):
    """ MiB/s of writes to new places, writes to used places, and reads, and microseconds of one
page alone, through quire-far."""
    r, w = os.pipe()
    os.write(w, url.encode() + b"\n")
    os.close(w)
    p = subprocess.run([os.path.join(BUILD, "quire-far"), "--check", "--json", "--url-fd", str(r), "--mib", str(mib), "--depth", str(DEPTH)],
                       pass_fds=[r], capture_output=True, text=True, check=True)
    os.close(r)
    j = json.loads(p.stdout)
    return j["write_mib_s"], j["rewrite_mib_s"], j["read_mib_s"], j["page_us"]


def raw_redis(number, mib):
    """ redis-benchmark: new keys (random of 10^9, after FLUSHALL), then as many keys as Quire uses,
which all exist. It prints times in milliseconds, so short steps are repeated; quire-far repeats
them, too."""
    def benchmark(test, keys, passes=1):
        p = subprocess.run(["redis-benchmark", "-p", str(number), "-d", "65536", "-n", str(passes * mib * 16), "-c", "1", "-P", str(DEPTH),
                            "-r", str(keys), "-t", test, "--csv"], capture_output=True, text=True, check=True)
        return float(p.stdout.splitlines()[1].split(",")[1].strip('"')) / 16
    flush = ["redis-cli", "-p", str(number), "flushall"]
    subprocess.run(flush, check=True, stdout=subprocess.DEVNULL)
    new = benchmark("set", 10 ** 9)
    subprocess.run(flush, check=True, stdout=subprocess.DEVNULL)
    with socket.create_connection(("127.0.0.1", number)) as s, s.makefile("rb") as replies:
        for i in range(mib * 16):
            s.sendall(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$65536\r\n" % i + bytes(65536) + b"\r\n")
            assert replies.readline() == b"+OK\r\n"
    speed = new, benchmark("set", mib * 16, PASSES), benchmark("get", mib * 16, PASSES)
    subprocess.run(flush, check=True, stdout=subprocess.DEVNULL)
    return speed


def raw_nbd(mib):
    """ nbdcopy, with as many requests under way in all, to a server of its own, as new as Quire's,
which trims what it wrote."""
    number, speed = port(), []
    server = subprocess.Popen(WITH_US + ["nbdkit", "-f", "-t", "4", "-i", "127.0.0.1", "-p", str(number), "memory", "%dM" % mib], **QUIET)
    try:
        assert listens(number), "nbdkit does not start"
        url = "nbd://127.0.0.1:%d" % number
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as f:
            f.write(os.urandom(1 << 20) * mib)
            f.flush()
            for places in ([f.name, url], [f.name, url], [url, "null:"]):
                t = time.monotonic()
                subprocess.run(["nbdcopy", "--connections=4", "--requests=%d" % (DEPTH // 4), "--request-size=65536", *places], check=True)
                speed.append(mib / (time.monotonic() - t))
    finally:
        server.kill()
        server.wait()
    return speed


def rounds_of(what, rounds, until):
    """ So many results, or as many as the time allows, but at least one."""
    rows = []
    while not rows or (len(rows) < rounds and time.monotonic() + took < until):
        t = time.monotonic()
        rows.append(what())
        took = time.monotonic() - t
    return rows


def table(name, mine, theirs, rounds, until):
    mine(), theirs()  # the servers' memory is touched for the first time, which neither client shall pay for
    rows = rounds_of(lambda: (mine(), theirs()), rounds, until)
    for i, what in enumerate(("written", "written over", "read")):
        a, b = [r[0][i] for r in rows], [r[1][i] for r in rows]
        ratio = [x / y for x, y in zip(a, b)]
        print("%-8s %-13s %8.0f %8.0f   %.2f (%.2f-%.2f), %d rounds" % (name, what, statistics.median(a), statistics.median(b),
                                                                    statistics.median(ratio), min(ratio), max(ratio), len(rows)), flush=True)
    return statistics.median(r[0][3] for r in rows)


def children_cpu():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def program(options):
    """ Seconds, and CPU seconds of the program and of the supervisor's helpers."""
    t, cpu = time.monotonic(), children_cpu()
    p = subprocess.run([os.path.join(BUILD, "quire"), "run", "-m", "28M", "--report", "none", *options, "--", "/usr/bin/python3", "-c", PROGRAM],
                       capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    return time.monotonic() - t, children_cpu() - cpu


def disk_page():
    """Microseconds of one page alone from a file of /var/tmp, through quire-far."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as f:
        f.truncate(64 << 20)
        return ours("file:" + f.name, 64)[3]


def table_of_programs(places, pages, rounds, until):
    """places: name and options, the file first; pages: microseconds of a page of each."""
    rows = rounds_of(lambda: [program(options) for _, options in places], rounds, until)
    print("\npython in half of its memory      seconds   to the file's (spread)   CPU to the file's   a page alone, us")
    for i, (name, _) in enumerate(places):
        ratio, cpu = [r[i][0] / r[0][0] for r in rows], [r[i][1] / r[0][1] for r in rows]
        print("%-32s %8.2f   %.2f (%.2f-%.2f), %d rounds   %.2f   %.0f" % (
            name, statistics.median(r[i][0] for r in rows), statistics.median(ratio), min(ratio), max(ratio), len(rows),
            statistics.median(cpu), pages[i]))


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--mib", type=int, default=64)
    a.add_argument("--rounds", type=int, default=9)
    a.add_argument("--seconds", type=float, default=400)
    o = a.parse_args()
    began = time.monotonic()
    missing = [p for p in ("redis-server", "redis-benchmark", "nbdkit", "nbdcopy") if shutil.which(p) is None]
    if missing:
        sys.exit("far.py: not installed: %s (apt-get install redis-server redis-tools nbdkit libnbd-bin)" % ", ".join(missing))
    redis, nbd = port(), port()
    servers = [subprocess.Popen(WITH_US + ["redis-server", "--bind", "127.0.0.1", "--port", str(redis), "--save", ""], **QUIET),
               subprocess.Popen(WITH_US + ["nbdkit", "-f", "-t", "4", "-i", "127.0.0.1", "-p", str(nbd), "memory", "256M"], **QUIET)]
    try:
        assert all(listens(p) for p in (redis, nbd)), "a server does not start"
        print("MiB/s, 64 KiB, %d under way   ours      raw   ours/raw (spread)" % DEPTH)
        redis_page = table("redis", lambda: ours("redis://127.0.0.1:%d" % redis, o.mib), lambda: raw_redis(redis, o.mib), o.rounds,
                           began + o.seconds / 4)
        nbd_page = table("nbd", lambda: ours("nbd://127.0.0.1:%d" % nbd, o.mib), lambda: raw_nbd(o.mib), o.rounds, began + o.seconds / 2)
        disk = statistics.median(disk_page() for _ in range(3))
        table_of_programs((("file", ["--swap", "/var/tmp:200M"]), ("nbd", ["--swap", "nbd://127.0.0.1:%d" % nbd]),
                           ("redis", ["--swap", "redis://127.0.0.1:%d?size=200M" % redis]),
                           ("file, encrypted", ["--swap", "/var/tmp:200M", "--encrypt"])), (disk, nbd_page, redis_page, disk), o.rounds,
                          began + o.seconds)
    finally:
        for s in servers:
            s.kill()
            s.wait()


main()
