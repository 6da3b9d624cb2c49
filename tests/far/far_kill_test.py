# SPDX-License-Identifier: BSD-2-Clause
"""far_kill_test.py QUIRE [--moments N] [--seed N]: SIGKILL of one end of far swap at random moments leaves no key,
file or process.

Each moment has an engine (Redis, NBD, an encrypted file), a victim (quire, quire-far, both, the program, the server)
and a time after the start of the run, drawn by the seed. The run must end, by itself or with the victim. Afterwards
the run has left nothing: no process of the run, no file in the directory of the swap file or in /dev/shm, no key on a
living server."""
import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from far_hosted import Host, marked, processes_of  # noqa: E402
from far_servers import Nbdkit, Redis, have, one_folder, wait_until  # noqa: E402


def redis(d):
    r = Redis()
    return r, ["--swap", "redis://127.0.0.1:%d?size=64M" % r.port]


def nbd(d):
    n = Nbdkit("memory", "64M")
    return n, ["--swap", n.url()]


def tiers(d):
    r = Redis()
    return r, ["--swap", d + ":2M", "--swap", "redis://127.0.0.1:%d?size=64M" % r.port]


class NoServer:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def encrypted_file(d):
    return NoServer(), ["--swap", d + ":64M", "--encrypt"]


def strike(victim, p, server, mark):
    """Kills the victim if it exists."""
    if victim == "server":
        server.kill()
    else:
        if victim in ("quire", "both"):
            p.kill()
        for pid in processes_of(mark, "quire-far" if victim == "both" else victim) if victim != "quire" else ():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def ours_in_shm():
    return {name for name in os.listdir("/dev/shm") if "quire" in name}


def what_is_left(server, victim, mark, where, shm):
    left = []
    if processes_of(mark):
        left.append("processes %s" % processes_of(mark))
    if os.listdir(where):
        left.append("files %s" % os.listdir(where))
    if ours_in_shm() - shm:
        left.append("/dev/shm: %s" % (ours_in_shm() - shm))
    if isinstance(server, Redis) and victim != "server" and server.keys() != 0:
        left.append("%d keys" % server.keys())
    return left


def one_moment(host, rnd, number, most):
    make, victim = rnd.choice((redis, nbd, tiers, encrypted_file)), rnd.choice(("quire", "quire-far", "both", os.path.basename(sys.executable), "server"))
    delay, mark = rnd.random() * most, "%d.%d" % (os.getpid(), number)
    with tempfile.TemporaryDirectory() as where:
        server, options = make(where)
        if victim == "server" and isinstance(server, NoServer):
            victim = "quire"
        shm = ours_in_shm()
        with server:
            p = host.start(*options, "--far-timeout", "1s", env=marked(mark), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            strike(victim, p, server, mark)
            try:
                # Without its swap the program may still barely fit; then it is slow.
                p.communicate(timeout=max(300, 20 * most))
            except subprocess.TimeoutExpired:
                p.kill()
                p.communicate()
                return ["it hangs: %s, %s killed after %.3f s" % (make.__name__, victim, delay)]
            wait_until(lambda: not what_is_left(server, victim, mark, where, shm), 20)
            return ["%s, %s killed after %.3f s: %s" % (make.__name__, victim, delay, x)
                    for x in what_is_left(server, victim, mark, where, shm)]


def main():
    a = argparse.ArgumentParser()
    a.add_argument("quire")
    a.add_argument("--moments", type=int, default=200)
    a.add_argument("--seed", type=int, default=1)
    o = a.parse_args()
    missing = have("redis-server", "redis-cli", "nbdkit")
    if missing:
        print("skipped: %s is not installed" % ", ".join(missing))
        return 77
    one_folder()
    host, rnd = Host(os.path.abspath(o.quire), memory="8M", pages=3000), random.Random(o.seed)
    t = time.monotonic()
    subprocess.run(host.start("--swap", "/var/tmp:64M").args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    most, bad = time.monotonic() - t, 0
    for number in range(o.moments):
        for line in one_moment(host, rnd, number, most):
            print("moment %d: %s" % (number, line), flush=True)
            bad += 1
    print("%d moments of %.1f s, seed %d: %d with something left" % (o.moments, most, o.seed, bad))
    return 1 if bad else 0


sys.exit(main())
