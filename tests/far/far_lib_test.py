# SPDX-License-Identifier: BSD-2-Clause
"""far_lib_test.py QUIRE-FAR FAR-LIB EXAMPLE [name…]: memory of libquire over real servers, byte by byte.

Ends with "N passed, N failed, N skipped"."""
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from bound import bound  # noqa: E402
from far_hosted import marked, processes_of  # noqa: E402
from far_servers import Cluster, Nbdkit, Redis, nbd_file, needs, run_tests, wait_until  # noqa: E402

FAR, LIB, EXAMPLE = sys.argv[1:4]
SIZE = ",%d" % (64 << 20)


def start(*words, env=None):
    return subprocess.Popen([LIB, FAR, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def right(*words, env=None):
    """Runs FAR-LIB and returns its counts."""
    p = start(*words, env=env)
    out, err = p.communicate(timeout=bound(250))
    assert p.returncode == 0, "status %d: %s%s" % (p.returncode, out, err)
    count = {k: int(v) for k, v in re.findall(r"(\w+) (\d+)", out)}
    assert count["io_errors"] == 0, out
    return count


def right_with_few(*words, env=None):
    """The same where the way in is what is tested."""
    return right("--pages", "2000", *words, env=env)


def refused(*words):
    p = start(*words)
    out, err = p.communicate(timeout=bound(60))
    assert p.returncode == 3, "status %d: %s%s" % (p.returncode, out, err)
    return out


@needs("redis-server", "redis-cli")
def redis_is_swap():
    with Redis() as r:
        assert right("redis://127.0.0.1:%d" % r.port + SIZE)["far_moved"] > 10 << 20
        assert r.keys() == 0, "keys are left"


@needs("redis-server", "redis-cli")
def the_password_comes_from_a_file_or_the_environment():
    with Redis(password="se/cret") as r, tempfile.NamedTemporaryFile("w") as f:
        url = "redis://127.0.0.1:%d" % r.port + SIZE
        f.write("se/cret\n")
        f.flush()
        right_with_few("--password-file", f.name, url)
        right_with_few(url, env=dict(os.environ, QUIRE_SWAP_PASSWORD="se/cret"))
        assert "NOAUTH" in refused(url)
        assert "WRONGPASS" in refused("--password-file", "/etc/hostname", url)


@needs("nbdkit")
def nbd_is_swap():
    with Nbdkit("memory", "64M") as n:
        assert right(n.url())["far_moved"] > 10 << 20


@needs("redis-server", "redis-cli")
def a_cluster_is_swap_and_a_killed_master_loses_nothing():
    with Cluster() as c:
        p = start("--pause", "--timeout", "20000", c.url() + SIZE)
        while p.stdout.readline() != "half\n":
            assert p.poll() is None
        # No write may still be on its way to a replica, as the last writes would be lost.
        assert wait_until(lambda: all(in_step(n) for n in c.roles("master")))
        c.roles("master")[0].kill()
        out, err = p.communicate("\n", timeout=bound(250))
        assert p.returncode == 0, out + err
        assert wait_until(lambda: c.keys() == 0), "keys are left"


def in_step(master):
    info = master.cli("info", "replication")
    sent = re.search(r"master_repl_offset:(\d+)", info).group(1)
    return all(offset == sent for offset in re.findall(r"slave\d+:.*offset=(\d+)", info))


@needs("redis-server", "redis-cli", "nbdkit")
def places_are_tiers():
    with Redis() as r, Nbdkit("memory", "64M") as n:
        count = right("--pages", "6000", "/var/tmp,%d" % (4 << 20), "redis://127.0.0.1:%d,%d" % (r.port, 8 << 20), n.url())
        assert count["swap_used"] > 0 and count["far_used"] > 8 << 20, count
        assert r.keys() == 0


@needs()
def an_encrypted_file_is_swap():
    assert right("--encrypt", "1", "/var/tmp" + SIZE)["far_moved"] > 10 << 20


@needs("nbdkit")
def a_server_that_comes_back_in_time_is_waited_for():
    with nbd_file() as (n, _):
        p = start("--pause", n.url())
        while p.stdout.readline() != "half\n":
            assert p.poll() is None
        n.kill()
        p.stdin.write("\n")
        p.stdin.flush()
        assert "is away" in p.stderr.readline()
        n.start()
        out, err = p.communicate(timeout=bound(250))
        assert p.returncode == 0 and "is back" in err, out + err


@needs("redis-server", "redis-cli", "openssl")
def redis_by_tls_and_a_database_are_swap():
    with Redis(tls=True) as r:
        url = "rediss://localhost:%d/3" % r.port + SIZE
        assert right("--ca", os.path.join(r.dir, "ca.crt"), url)["far_moved"] > 10 << 20
        assert "certificate" in refused(url)


@needs("redis-server", "redis-cli")
def the_password_comes_from_the_url_or_the_configuration():
    with Redis(password="se/cret") as r:
        right_with_few("redis://default:se%%2fcret@127.0.0.1:%d" % r.port + SIZE)
        right_with_few("--password", "se/cret", "redis://127.0.0.1:%d" % r.port + SIZE)
        assert "cret" not in refused("redis://:other-se%%2fcret@127.0.0.1:%d" % r.port + SIZE)


class OnASocket(Nbdkit):
    """Nbdkit on a Unix socket."""

    def argv(self):
        return ["nbdkit", "-f", "-t", "4", "-U", os.path.join(self.dir, "socket"), *self.words]

    def ready(self):
        return os.path.exists(os.path.join(self.dir, "socket"))


@needs("nbdkit")
def nbd_by_tls_and_by_a_socket_is_swap():
    with Nbdkit("memory", "64M", psk=True) as n:
        assert right("--psk", os.path.join(n.dir, "psk"), n.url("nbds"))["far_moved"] > 10 << 20
    with OnASocket("memory", "64M") as n:
        assert right_with_few("nbd+unix:///?socket=" + os.path.join(n.dir, "socket"))["far_moved"] > 10 << 20


@needs()
def swap_is_slowed_down_to_the_rate():
    began, rate = time.monotonic(), 15 << 20
    least = right("--encrypt", "1", "--rate", str(rate), "/var/tmp" + SIZE)["far_moved"] / rate - 0.1
    assert least > 1 and time.monotonic() - began >= least, least


@needs()
def a_tmpfs_is_taken_by_force_only():
    assert "tmpfs" in refused("/dev/shm" + SIZE)
    right_with_few("--force", "1", "/dev/shm" + SIZE)


@needs()
def a_file_leaves_room_to_others():
    assert "swap_keep_free" in refused("--keep-free", str(1 << 50), "/var/tmp" + SIZE)
    assert right("--keep-free", str(1 << 20), "/var/tmp" + SIZE)["swap_used"] > 4 << 20


@needs("redis-server", "redis-cli")
def a_lost_page_is_sigbus():
    with Redis() as r:
        p = start("--pause", "redis://127.0.0.1:%d" % r.port + SIZE)
        while p.stdout.readline() != "half\n":
            assert p.poll() is None
        r.cli("flushall")
        p.communicate("\n", timeout=bound(250))
        assert p.returncode == -signal.SIGBUS, p.returncode


@needs("redis-server", "redis-cli")
def a_killed_quire_far_is_sigbus_and_no_hang():
    with Redis() as r:
        p = start("--pause", "redis://127.0.0.1:%d" % r.port + SIZE, env=marked(r.port))
        while p.stdout.readline() != "half\n":
            assert p.poll() is None
        for pid in processes_of(r.port, "quire-far"):
            os.kill(pid, signal.SIGKILL)
        p.communicate("\n", timeout=bound(60))
        assert p.returncode == -signal.SIGBUS, p.returncode


@needs("nbdkit")
def memory_is_refused_when_a_server_did_not_come_back():
    """It was promised, and touching it was SIGBUS."""
    with Nbdkit("memory", "64M") as n:
        p = start("--more", "--timeout", "300", n.url())
        assert p.stdout.readline() == "half\n"
        n.kill()
        while "did not come back" not in p.stderr.readline():
            assert p.poll() is None
        out, _ = p.communicate("\n", timeout=bound(60))
        assert p.returncode == 0 and out == "refused\n", out


@needs("redis-server", "redis-cli")
def a_killed_program_leaves_no_key_and_no_process():
    with Redis() as r:
        for moment in range(4):
            p = start("redis://127.0.0.1:%d" % r.port + SIZE, env=marked(r.port))
            time.sleep(0.1 * moment)  # at whatever point the run is by then
            p.kill()
            p.communicate()
            assert wait_until(lambda: r.keys() == 0 and not processes_of(r.port, "quire-far"), 20), "something is left after moment %d" % moment


@needs("redis-server", "redis-cli")
def redis_without_maxmemory_needs_a_size():
    with Redis() as r:
        url = "redis://127.0.0.1:%d" % r.port
        r.cli("config", "set", "maxmemory", "0")
        assert "no size of its own" in refused(url)
        right(url + SIZE)
        r.cli("config", "set", "maxmemory", "128mb")
        right(url)


@needs()
def mistakes_are_named():
    for word, places in (("Connection refused", ["--timeout", "300", "redis://127.0.0.1:1" + SIZE]), ("known are", ["gopher://x" + SIZE]),
                         ("two places", ["/var/tmp" + SIZE] * 2),
                         ("needs a size", ["/var/tmp"])):
        out = refused(*places)
        assert word in out, "%s: %s" % (places, out)


def example(url, **env):
    p = subprocess.run([EXAMPLE, url], capture_output=True, text=True, timeout=bound(250), env=dict(os.environ, **env))
    return p.returncode, p.stdout, p.stderr


@needs("redis-server", "redis-cli", "nbdkit")
def the_example_keeps_its_table_on_a_server():
    with Redis(password="sesame") as r, Nbdkit("memory", "128M") as n:
        url = "redis://127.0.0.1:%d" % r.port
        for status, out, err in (example(url, QUIRE_SWAP_PASSWORD="sesame"), example(n.url())):
            far = re.search(r"^64 MiB in 8 MiB: 0 wrong; (\d+) MiB are far, ", out)
            assert status == 0 and err == "" and far and int(far.group(1)) > 32, out + err
        assert r.keys() == 0, "keys are left"
        assert example(url)[0] == 1 and "NOAUTH" in example(url)[2]


sys.exit(run_tests(sys.argv[4:]))
