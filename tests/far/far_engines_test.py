# SPDX-License-Identifier: BSD-2-Clause
"""far_engines_test.py QUIRE MAN-PAGE README [name…]: a hosted program over every engine and filter: its output is
that of a native run; a lost or wrong page gives SIGBUS and one line; the recipe of the man page and of the README
works as printed; delay and loss on the net.

Ends with "N passed, N failed, N skipped"."""
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from far_bad_net import BadNet  # noqa: E402
from far_fake_redis import FakeRedis  # noqa: E402
from far_hosted import Host, goes_on, marked, processes_of, processes_where  # noqa: E402
from far_servers import Cluster, Nbdkit, Redis, Skipped, long, nbd_certificates, nbd_file, needs, run_tests, wait_until, with_the_test  # noqa: E402

QUIRE, MAN, README = os.path.abspath(sys.argv[1]), sys.argv[2], sys.argv[3]
HOST = Host(QUIRE, memory="8M", pages=3000)
SMALL = Host(QUIRE, memory="8M", pages=2200)  # all data that it reads passes through this test's threads
native, start, equal, half = HOST.native, HOST.start, HOST.equal, HOST.half


@needs("redis-server", "redis-cli")
def redis_on_this_net():
    with Redis() as r:
        SMALL.equal("--swap", "redis://127.0.0.1:%d?size=64M" % r.port)
        assert wait_until(lambda: r.keys() == 0), "keys are left"


@needs("redis-server", "redis-cli", "openssl")
def redis_with_tls():
    with Redis(tls=True) as r:
        equal("--swap", "rediss://localhost:%d?size=64M" % r.port, "--far-ca", os.path.join(r.dir, "ca.crt"))
        assert r.keys() == 0, "keys are left"


@needs("redis-server", "redis-cli")
def a_cluster_one_of_whose_masters_is_killed():
    with Cluster() as c:
        p = half("--swap", c.url() + "?size=64M", "--far-replicas", "1")
        victim = c.roles("master")[0]
        goes_on(p)
        victim.kill()
        assert wait_until(lambda: len(c.roles("master")) == 3), "no replica took over"
        victim.start()  # as a replica: without a replica no write could reach enough replicas
        out, err = p.communicate(timeout=250)
        assert p.returncode == 0 and out == native(), "status %d: %s" % (p.returncode, err)
        assert wait_until(lambda: c.keys() == 0), "keys are left"


def over_nbd(*words, **more):
    with Nbdkit(*words, **more) as n:
        equal("--swap", n.url())


@needs("nbdkit")
def nbd_file_and_what_is_stored_is_trimmed():
    with nbd_file() as (n, path):
        p = half("--swap", n.url())
        most = os.stat(path).st_blocks * 512
        out, err = p.communicate(timeout=250)
        assert p.returncode == 0 and out == native(), err
        assert most > 2 << 20 and os.stat(path).st_blocks * 512 < most / 4, "%d, then %d" % (most, os.stat(path).st_blocks * 512)


@needs("nbdkit")
def nbd_memory_over_four_connections():
    with Nbdkit("memory", "64M") as n:
        p = half("--swap", n.url())
        with open("/proc/net/tcp") as f:
            ours = [line for line in f if re.search(r" 0100007F:%04X 01 " % n.port, line)]
        assert len(ours) == 4, ours
        out, err = p.communicate(timeout=250)
        assert p.returncode == 0 and out == native(), err


@needs("nbdkit")
def nbd_with_delay():
    over_nbd("--filter=delay", "memory", "64M", "rdelay=1ms", "wdelay=1ms")


@needs("nbdkit")
def nbd_copy_on_write():
    over_nbd("--filter=cow", "memory", "64M")


@needs("nbdkit")
def nbd_at_a_rate():
    over_nbd("--filter=rate", "memory", "64M", "rate=400M")


@needs("nbdkit")
def nbd_whose_writes_fail_now_and_then():
    over_nbd("--filter=error", "memory", "64M", "error-pwrite-rate=2%", "error-pwrite=EIO")


@needs("nbdkit")
def nbd_with_tls():
    with Nbdkit("memory", "64M", psk=True) as n:
        equal("--swap", n.url("nbds"), "--far-psk", os.path.join(n.dir, "psk"))


# ---- lost and wrong pages ----
def ends_in_sigbus(p):
    out, err = p.communicate(timeout=250)
    said = [line for line in err.splitlines() if "SIGBUS" in line]
    assert p.returncode == -signal.SIGBUS and out == "" and len(said) == 1, "status %d: %s" % (p.returncode, err)


@needs("nbdkit")
def a_page_that_nbd_cannot_read_is_sigbus():
    with tempfile.TemporaryDirectory() as d:
        switch = os.path.join(d, "fail")
        with Nbdkit("--filter=error", "memory", "64M", "error-pread-rate=100%", "error-pread=EIO", "error-pread-file=" + switch) as n:
            p = half("--swap", n.url())
            with open(switch, "w"):
                pass
            ends_in_sigbus(p)


@needs("nbdkit")
def a_page_that_somebody_changed_on_the_disk_is_sigbus():
    with nbd_file() as (n, path):
        p = half("--swap", n.url())
        with open(path, "r+b") as disk:
            disk.write(os.urandom(1 << 20) * 64)
        ends_in_sigbus(p)


@needs("redis-server", "redis-cli")
def a_page_that_a_cluster_lost_is_sigbus():
    with Cluster() as c:
        p = half("--swap", c.url() + "?size=64M")
        for n in c.roles("master"):
            n.cli("flushall")
        ends_in_sigbus(p)


@needs("redis-server", "redis-cli")
def quire_far_that_is_killed_is_sigbus():
    with Redis() as r:
        p = half("--swap", "redis://127.0.0.1:%d?size=64M" % r.port, env=marked(r.port))
        for pid in processes_of(r.port, "quire-far"):
            os.kill(pid, signal.SIGKILL)
        out, err = p.communicate(timeout=250)
        assert p.returncode == -signal.SIGBUS and "quire-far has ended" in err, "status %d: %s" % (p.returncode, err)
        assert wait_until(lambda: r.keys() == 0 and not processes_of(r.port)), "keys are left"


@needs()
def a_page_of_which_redis_turns_a_bit_is_sigbus():
    with FakeRedis("a page with a bit turned", rate=1.0, after=100) as r:
        ends_in_sigbus(start("--swap", "redis://127.0.0.1:%d?size=64M" % r.port))


# ---- waiting ----
@needs("nbdkit")
def the_live_line_says_that_the_program_waits():
    ours, theirs = pty.openpty()
    said = b""

    def hear():
        nonlocal said
        while select.select([ours], [], [], 0)[0]:
            said += os.read(ours, 4096)
        return said
    with nbd_file() as (n, _):
        p = start("--swap", n.url(), "--live", stderr=theirs)
        assert wait_until(lambda: b"round" in hear(), 120), "it is not half-way: %r" % said
        n.kill()
        assert wait_until(lambda: b" away for " in hear(), 20), "nothing is said: %r" % said
        n.start()
        rest = []
        assert wait_until(lambda: hear() and p.poll() is not None, 120), "it does not end"
        rest.append(p.stdout.read())
        assert p.returncode == 0 and rest[0] == native(), said
    os.close(ours)
    os.close(theirs)


# ---- secrets ----
def mappings(pid):
    """(from, to, writable, flags) of each mapping."""
    found = []
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ", line)
            if m:
                found.append([int(m.group(1), 16), int(m.group(2), 16), "w" in m.group(3), set()])
            elif line.startswith("VmFlags:"):
                found[-1][3] = set(line.split()[1:])
    return found


@needs()
def the_key_lies_in_locked_memory_that_is_in_no_core_file():
    mark = "key-%d" % os.getpid()
    with tempfile.TemporaryDirectory() as d:
        p = half("--swap", d + ":64M", "--encrypt", env=marked(mark))
        (pid,) = processes_of(mark, "quire-far")
        maps = mappings(pid)
        locked = [m for m in maps if {"lo", "dd", "wf"} <= m[3]]
        assert len(locked) == 1, locked
        with open("/proc/%d/mem" % pid, "rb") as mem:
            mem.seek(locked[0][0] + 16)  # after the length of the piece
            key = mem.read(64)
            assert len(set(key)) > 16
            for at, to, writable, flags in maps:
                if not writable or "io" in flags:
                    continue
                mem.seek(at)
                text = mem.read(to - at)
                for part in (key[:16], key[16:32], key[32:48], key[48:]):
                    assert (text.find(part) >= 0) == (at == locked[0][0]) or at == locked[0][0], "the key lies at %x, too" % at
        with open("/proc/%d/limits" % pid) as f:
            assert re.search(r"Max core file size\s+0\s+0", f.read())
        out, err = p.communicate(timeout=250)
        assert p.returncode == 0 and out == native(), err
        assert not processes_of(mark) and os.listdir(d) == []


# ---- the recipe, and a bad net ----
def recipe():
    """The block of the man page behind the comment that names this test."""
    with open(MAN) as f:
        text = f.read()
    block = re.search(r"cluster_recipe runs the block.*?\n\.Bd[^\n]*\n(.*?)\.Ed\n", text, re.S).group(1)
    block = block.replace("\\e", "\\").replace("\\(dq", '"')
    with open(README) as f:
        assert "```\n" + block + "```\n" in f.read(), "README.md has another recipe"
    return block


def own_net(*argv):
    return [*with_the_test(), "unshare", "-n", "-p", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
            "ip link set lo up && \"$@\"", "sh", *argv]


def on_a_net_of_its_own(*argv, **more):
    """Runs a command in new namespaces: a network with only a loopback, and processes, all of which end with the command."""
    return subprocess.run(own_net(*argv), capture_output=True, text=True, timeout=280, **more)


@needs("redis-server", "redis-cli", "unshare", "ip", "setpriv")
def cluster_recipe():
    if on_a_net_of_its_own("true").returncode != 0:
        raise Skipped("no network name space can be made here")
    with tempfile.TemporaryDirectory() as d:
        env = dict(os.environ, PATH=os.path.dirname(QUIRE) + ":" + os.environ["PATH"])
        p = on_a_net_of_its_own("sh", "-e", "-c", recipe(), cwd=d, env=env)
        assert p.returncode == 0, p.stdout[-2000:] + p.stderr[-2000:]
        with open(os.path.join(d, "sorted")) as f:
            assert f.read() == "".join("%d\n" % i for i in range(400000, 0, -1))


def working_in(where):
    """Processes whose directory that is."""
    return processes_where(lambda p: os.path.samefile(p + "/cwd", where))


@needs("redis-server", "redis-cli", "unshare", "ip", "setpriv")
def servers_of_a_recipe_end_when_the_test_is_killed():
    if on_a_net_of_its_own("true").returncode != 0:
        raise Skipped("no network name space can be made here")
    daemon = "redis-server --port 7001 --daemonize yes --save ''; until redis-cli -p 7001 ping; do sleep 0.1; done; "
    with tempfile.TemporaryDirectory() as d:
        # The run fails: no process shuts the server down.
        assert on_a_net_of_its_own("sh", "-c", daemon + "exit 1", cwd=d).returncode == 1 and not working_in(d), "a server is left"
        # The process that starts the server is killed, as a test may be.
        test = "import os, subprocess, sys; subprocess.run([str(os.getpid()) if a == sys.argv[1] else a for a in sys.argv[2:]])"
        p = subprocess.Popen([sys.executable, "-c", test, str(os.getpid()), *own_net("sh", "-c", daemon + "echo up; exec sleep 1000")], cwd=d,
                             stdout=subprocess.PIPE, text=True)
        while p.stdout.readline() != "up\n":
            assert p.poll() is None, "the server does not start"
        p.kill()
        p.wait()
        assert wait_until(lambda: not working_in(d)), "processes %s are left" % working_in(d)


BAD = ({"delay": 0.0002, "pieces": 16000}, {"cut": 1 << 19, "cuts": 3, "how": "reset", "pieces": 3000},
       {"cut": 1 << 19, "cuts": 2, "how": "close"}, {"cut": 1 << 19, "cuts": 1, "how": "half"})


def over_bad_nets(port, url, nets):
    """url: of a port. The run's output is the same over each bad net, and every cut has been made."""
    for bad in nets:
        with BadNet(port, **bad) as net:
            said = SMALL.equal("--swap", url(net.port), "--far-timeout", "3s")
            assert net.has_cut == bad.get("cuts", 0), "%s: %d cuts" % (bad, net.has_cut)
            assert ("is away" in said and "is back" in said) == ("cut" in bad), "%s: %s" % (bad, said)


@needs("redis-server", "redis-cli")
def redis_over_nets_that_delay_and_cut():
    with Redis() as r:
        over_bad_nets(r.port, lambda port: "redis://127.0.0.1:%d?size=64M" % port, BAD)
        assert wait_until(lambda: r.keys() == 0), "keys are left"


@needs("redis-server", "redis-cli", "openssl")
def redis_with_tls_over_a_net_that_cuts():
    with Redis(tls=True) as r, BadNet(r.port, cut=1 << 19, cuts=3) as net:
        SMALL.equal("--swap", "rediss://localhost:%d?size=64M" % net.port, "--far-ca", os.path.join(r.dir, "ca.crt"))
        assert net.has_cut == 3 and r.keys() == 0


@needs("nbdkit")
def nbd_over_nets_that_delay_and_cut():
    with Nbdkit("memory", "64M") as n:
        over_bad_nets(n.port, lambda port: "nbd://127.0.0.1:%d" % port, BAD[1:])  # a filter of nbdkit delays


@needs("redis-server", "redis-cli", "nbdkit", "unshare", "ip", "tc")
def delay_and_loss_on_the_net():
    if on_a_net_of_its_own("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms").returncode != 0:
        raise Skipped("this kernel has no netem, or no network name space")
    p = on_a_net_of_its_own("sh", "-c", 'tc qdisc add dev lo root netem delay 500us 200us loss 1% && exec "$@"', "sh", sys.executable,
                            os.path.abspath(__file__), QUIRE, MAN, README, "nbd_with_tls", "nbd_with_delay", "redis_with_tls")
    assert p.returncode == 0 and "3 passed" in p.stdout, p.stdout + p.stderr


@needs("redis-server", "redis-cli")
@long
def redis_on_a_net_that_delays():
    with Redis() as r, BadNet(r.port, delay=0.005) as net:
        SMALL.equal("--swap", "redis://127.0.0.1:%d?size=64M" % net.port)
        assert wait_until(lambda: r.keys() == 0), "keys are left"


@needs("redis-server", "redis-cli", "unshare", "ip", "iptables")
@long
def redis_over_a_link_of_5_ms_that_loses_a_packet_in_100():
    # Packets of Ethernet's size: packets after a lost packet make TCP send it again at once, not after 200 ms.
    link = "ip link set lo mtu 1500 && iptables -A INPUT -i lo -p tcp -m statistic --mode random --probability 0.01 -j DROP && "
    if on_a_net_of_its_own("sh", "-c", link + "true").returncode != 0:
        raise Skipped("this kernel drops no packets by rule, or has no network name space")
    p = on_a_net_of_its_own("sh", "-c", link + '"$@"; iptables -nvxL INPUT', "sh", sys.executable, os.path.abspath(__file__), QUIRE, MAN,
                            README, "redis_on_a_net_that_delays")
    assert "1 passed, 0 failed" in p.stdout, p.stdout + p.stderr
    assert int(re.search(r"^ *(\d+) +\d+ +DROP", p.stdout, re.M).group(1)) > 100, p.stdout


@needs("redis-server", "redis-cli", "openssl", "nbdkit", "unshare", "ip", "iptables")
def packets_are_lost_on_the_net():
    drop = "iptables -A INPUT -i lo -p tcp -m statistic --mode nth --every 300 --packet 0 -j DROP && "
    if on_a_net_of_its_own("sh", "-c", drop + "true").returncode != 0:
        raise Skipped("this kernel drops no packets by rule, or has no network name space")
    tests = ["redis_on_this_net", "nbd_with_tls"]
    p = on_a_net_of_its_own("sh", "-c", drop + '"$@"; iptables -nvxL INPUT', "sh", sys.executable, os.path.abspath(__file__), QUIRE, MAN,
                            README, *tests)
    assert "%d passed, 0 failed" % len(tests) in p.stdout, p.stdout + p.stderr
    assert int(re.search(r"^ *(\d+) +\d+ +DROP", p.stdout, re.M).group(1)) > 5, p.stdout


TWO = "two.quire.test"


@needs("redis-server", "redis-cli", "openssl", "nbdkit")
@long
def a_name_of_two_addresses_on_this_net():
    with Redis("--bind", "0.0.0.0", "--protected-mode", "no", tls=True, names="DNS:localhost,IP:127.0.0.1,DNS:" + TWO) as r, \
            Nbdkit("memory", "64M", options=["-i", "0.0.0.0"]) as n:
        SMALL.equal("--swap", "rediss://%s:%d?size=64M" % (TWO, r.port), "--far-ca", os.path.join(r.dir, "ca.crt"))
        SMALL.equal("--swap", "nbd://%s:%d" % (TWO, n.port))
    with tempfile.TemporaryDirectory() as d:
        nbd_certificates(d, names="DNS:localhost,IP:127.0.0.1,DNS:" + TWO)
        with Nbdkit("memory", "64M", options=["-i", "0.0.0.0", "--tls=require", "--tls-certificates=" + d]) as n:
            SMALL.equal("--swap", "nbds://%s:%d" % (TWO, n.port), "--far-ca", d)


@needs("redis-server", "redis-cli", "openssl", "nbdkit", "unshare", "ip", "iptables", "setpriv")
def a_name_one_of_whose_addresses_does_not_answer():
    """The first address had all the time that there was for connecting, and of NBD no other was tried."""
    with tempfile.NamedTemporaryFile("w") as hosts:
        hosts.write("127.0.0.1 localhost\n192.0.2.1 %s\n192.0.2.2 %s\n" % (TWO, TWO))
        hosts.flush()
        net = 'mount --bind "$1" /etc/hosts && shift && ip addr add 192.0.2.1/32 dev lo && ip addr add 192.0.2.2/32 dev lo && ' \
              "iptables -A INPUT -d 192.0.2.1 -j DROP && "
        there = ["unshare", "-m", "sh", "-c", net + '"$@"', "sh", hosts.name]
        if on_a_net_of_its_own(*there, "true").returncode != 0:
            raise Skipped("this kernel drops no packets by rule, or has no name spaces")
        p = on_a_net_of_its_own(*there, sys.executable, os.path.abspath(__file__), QUIRE, MAN, README, a_name_of_two_addresses_on_this_net.__name__)
    assert "1 passed, 0 failed" in p.stdout, p.stdout + p.stderr


LATE = "late.quire.test"


@needs("redis-server", "redis-cli")
@long
def a_server_whose_name_cannot_be_looked_up_any_more_on_this_net():
    """In a name space of its own: /etc/hosts has the name at first, and this name server never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, Redis() as r:
        silent.bind(("127.0.0.1", 53))
        p = SMALL.half("--swap", "redis://%s:%d?size=64M" % (LATE, r.port), "--far-timeout", "8s")
        with open("/etc/hosts", "w") as f:
            f.write("127.0.0.1 localhost\n")
        r.cli("client", "kill", "type", "normal")
        out, err = p.communicate(timeout=250)
        assert p.returncode == 0 and out == SMALL.native(), "status %d: %s" % (p.returncode, err)
        assert LATE.encode() in silent.recv(512).replace(b"\x04", b".").replace(b"\x05", b"."), "the name server was not asked"


@needs("redis-server", "redis-cli", "unshare", "ip", "setpriv")
def a_server_whose_name_cannot_be_looked_up_any_more():
    """The look-up kept quire-far for as long as the name server was silent, and then the pages were lost."""
    with tempfile.NamedTemporaryFile("w") as hosts, tempfile.NamedTemporaryFile("w") as servers:
        hosts.write("127.0.0.1 localhost %s\n" % LATE)
        hosts.flush()
        servers.write("nameserver 127.0.0.1\n")
        servers.flush()
        there = ["unshare", "-m", "sh", "-c", 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && "$@"', "sh",
                 hosts.name, servers.name]
        if on_a_net_of_its_own(*there, "true").returncode != 0:
            raise Skipped("no name spaces can be made here")
        p = on_a_net_of_its_own(*there, sys.executable, os.path.abspath(__file__), QUIRE, MAN, README,
                                a_server_whose_name_cannot_be_looked_up_any_more_on_this_net.__name__)
    assert "1 passed, 0 failed" in p.stdout, p.stdout + p.stderr


sys.exit(run_tests(sys.argv[4:]))
