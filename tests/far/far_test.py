# SPDX-License-Identifier: BSD-2-Clause
"""far_test.py QUIRE-FAR FAR-DRIVE [name…]: far swap over real servers, compared byte by byte with a model.

Ends with "N passed, N failed, N skipped"; a test whose server is not installed is skipped, by name."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from bound import bound  # noqa: E402
from far_fake_redis import BAD, FakeRedis  # noqa: E402
from far_servers import Cluster, Nbdkit, Redis, certificates, nbd_certificates, nbd_file, needs, run_tests, wait_until  # noqa: E402

FAR, DRIVE = sys.argv[1:3]
SIZE = ["--size", str(64 << 20)]


def drive(url, *options, ops=600, clients=2, far=(), during=None, then=None):
    """Runs the driver; during: called half-way; then: called when quire-far has reported that the engine is away.
    Returns the driver's status, its output and quire-far's."""
    argv = [DRIVE, FAR, url, "--ops", str(ops), "--clients", str(clients), *options]
    if during is not None:
        argv.append("--pause")
    p = subprocess.Popen(argv + ["--", *SIZE, *far], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    out = ""
    watchdog = threading.Timer(bound(120), p.kill)
    watchdog.start()
    for line in p.stdout:
        out += line
        if line == "half\n":
            during()
            with contextlib.suppress(BrokenPipeError):
                p.stdin.write("\n")
                p.stdin.flush()
        elif "is away" in line and then is not None:
            then()
            then = None
    p.wait()
    watchdog.cancel()
    return p.returncode, out


def all_right(url, *options, errors=0, **more):
    rc, out = drive(url, *options, **more)
    assert rc == 0, "status %d: %s" % (rc, out)
    last = out.strip().splitlines()[-1]
    assert last.startswith("ok: ") and (errors is None or last.endswith(" %d errors" % errors)), out
    return out


def refused(url, *words, far=()):
    rc, out = drive(url, ops=1, far=far)
    assert rc == 3 or "quire: far swap:" in out, "not refused: %d %s" % (rc, out)
    for w in words:
        assert w in out, "%r is not in: %s" % (w, out)


# ---- Redis ----
@needs("redis-server", "redis-cli")
def redis_single():
    with Redis() as r:
        all_right("redis://127.0.0.1:%d" % r.port)
        assert r.keys() == 0, "keys are left"
        all_right("redis://127.0.0.1:%d/3" % r.port, far=["--encrypt"])
        assert "db3" not in r.cli("info", "keyspace"), "keys are left"


@needs("redis-server", "redis-cli")
def redis_with_password():
    with Redis(password="s3 cret/%") as r:
        url = "redis://:s3%%20cret%%2f%%25@127.0.0.1:%d" % r.port
        all_right(url)
        rc, out = drive(url.replace("s3", "x"), ops=1)
        assert rc == 3 and "WRONGPASS" in out and "cret" not in out, out
        refused("redis://127.0.0.1:%d" % r.port, "NOAUTH")


@needs("redis-server", "redis-cli", "openssl")
def redis_with_tls():
    with Redis(tls=True) as r:
        ca = os.path.join(r.dir, "ca.crt")
        all_right("rediss://localhost:%d" % r.port, far=["--ca", ca])
        refused("rediss://localhost:%d" % r.port, "certificate")  # at once: the time-out is 30 s
        refused("redis://localhost:%d" % r.port, far=["--timeout", "300"])


@needs("redis-server", "redis-cli")
def redis_that_evicts_is_refused():
    with Redis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as r:
        refused("redis://127.0.0.1:%d" % r.port, "evicts keys", "allkeys-lru")


@needs("redis-server", "redis-cli")
def redis_that_is_full_answers_and_keeps_what_it_has():
    with Redis("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as r:
        out = all_right("redis://127.0.0.1:%d" % r.port, errors=None)
        assert not out.strip().endswith(" 0 errors"), out
        assert r.keys() == 0


@needs("redis-server", "redis-cli")
def redis_restarted_in_the_middle_loses_what_it_held_and_no_byte_is_wrong():
    with Redis() as r:
        def restart():
            r.kill()
            r.start()
        out = all_right("redis://127.0.0.1:%d" % r.port, during=restart, errors=None)
        assert "is away" in out and "is back" in out, out


@needs("redis-server", "redis-cli")
def redis_stopped_until_it_is_said_to_be_away_is_waited_for():
    with Redis() as r:
        out = all_right("redis://127.0.0.1:%d" % r.port, during=lambda: r.proc.send_signal(signal.SIGSTOP),
                        then=lambda: r.proc.send_signal(signal.SIGCONT))
        assert "is away: it does not answer" in out and "is back" in out, out


@needs("redis-server", "redis-cli")
def redis_gone_for_good_is_given_up():
    with Redis() as r:
        out = all_right("redis://127.0.0.1:%d" % r.port, during=r.kill, errors=None, far=["--timeout", "500"])
        assert "did not come back" in out, out


def drive_half(server, *far):
    """The driver, which waits half-way; its quire-far; and the quire-far's guard."""
    p = subprocess.Popen([DRIVE, FAR, server, "--ops", "400", "--clients", "1", "--pause", "--", *SIZE, *far],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "half\n"
    return p, *far_and_guard(p)


def far_and_guard(p):
    """The driver's quire-far and its guard."""
    (far,) = children(p.pid, "quire-far")
    (guard,) = children(far, "quire-far-guard")
    return far, guard


def drive_on(server, seed):
    """The driver, which writes without end and has stored a unit."""
    p = subprocess.Popen([DRIVE, FAR, "redis://127.0.0.1:%d" % server.port, "--ops", "1000000", "--clients", "8", "--seed", str(seed),
                          "--", *SIZE], stdout=subprocess.DEVNULL)
    assert wait_until(lambda: server.keys() > 0, 10), "nothing is written"
    return p


@contextlib.contextmanager
def standing_still(server):
    os.kill(server.proc.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.proc.pid, signal.SIGCONT)


def children(pid, name):
    return [int(c) for c in subprocess.run(["pgrep", "-P", str(pid), "-x", name], capture_output=True, text=True).stdout.split()]


def is_gone(pid):
    """Ended, though perhaps not reaped."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def is_touched(server, key):
    """Waits until the key has more time left than it had before."""
    left = int(server.cli("pttl", key))

    def grew():
        nonlocal left
        was, left = left, int(server.cli("pttl", key))
        return left > was
    return wait_until(grew, 10)


@needs("redis-server", "redis-cli")
def keys_of_a_killed_run_expire():
    with Redis() as r:
        p, far, guard = drive_half("redis://127.0.0.1:%d" % r.port, "--expire", "2")
        # While a run lives, a unit that the program does not touch is kept longer than its expiry. Each touch of the
        # device extends a key's remaining time.
        before, key = r.keys(), r.cli("randomkey")
        for _ in range(3):
            assert is_touched(r, key), "a key of a living run is not touched"
        assert r.keys() == before > 0, "keys of a living run expired"
        for pid in (guard, far, p.pid):
            os.kill(pid, signal.SIGKILL)
        p.wait()
        assert wait_until(lambda: r.keys() == 0, 6), "keys of a killed run are left"


@needs("redis-server", "redis-cli")
def keys_of_a_killed_quire_far_are_removed_by_its_guard():
    with Redis() as r, Cluster() as c:
        for server, url in ((r, "redis://127.0.0.1:%d" % r.port), (c, c.url())):
            for parent_too in (False, True):
                p, far, guard = drive_half(url)
                assert server.keys() > 0
                for pid in (p.pid, far) if parent_too else (far,):
                    os.kill(pid, signal.SIGKILL)
                assert wait_until(lambda: server.keys() == 0 and is_gone(guard)), "keys or the guard are left"
                p.kill()
                p.wait()


@needs("redis-server", "redis-cli")
def keys_of_writes_under_way_go_when_quire_far_is_killed():
    """The server is stopped while quire-far dies: it stores the requests in its sockets when the guard is removing keys already."""
    with Redis() as r:
        for seed in range(3):
            p = drive_on(r, seed)
            far, guard = far_and_guard(p)
            with standing_still(r):
                os.kill(far, signal.SIGKILL)
            assert wait_until(lambda: r.keys() == 0 and is_gone(guard), 10), "keys or the guard are left"
            p.kill()
            p.wait()


@needs("redis-server", "redis-cli")
def a_guard_ends_with_its_quire_far_and_holds_nothing_open():
    with Redis() as r:
        p, far, guard = drive_half("redis://127.0.0.1:%d" % r.port)
        held = {os.readlink("/proc/%d/fd/%s" % (guard, fd)) for fd in os.listdir("/proc/%d/fd" % guard)}
        assert {h.split(":")[0] for h in held} == {"/dev/null", "pipe"} and len(held) == 2, held
        out = p.communicate("\n", timeout=bound(100))[0]
        assert p.returncode == 0 and wait_until(lambda: is_gone(guard)), out
        assert r.keys() == 0


@needs("redis-server", "redis-cli")
def keys_go_when_the_parent_is_killed():
    with Redis() as r:
        p, _, _ = drive_half("redis://127.0.0.1:%d" % r.port)
        assert r.keys() > 0
        p.kill()
        p.wait()
        assert wait_until(lambda: r.keys() == 0, 10), "keys are left"


@needs("redis-server", "redis-cli")
def keys_of_writes_under_way_go_when_the_parent_is_killed():
    """The server is stopped while the parent dies, so the last writes are answered after the end has begun."""
    for seed in range(3):
        with Redis() as r:
            p = drive_on(r, seed)
            with standing_still(r):
                p.kill()
                p.wait()
            assert wait_until(lambda: r.keys() == 0, 10), "keys are left"


@needs("redis-server", "redis-cli")
def redis_cluster():
    with Cluster() as c:
        all_right(c.url())
        assert c.keys() == 0, "keys are left"
        refused("redis://127.0.0.1:%d" % c.nodes[0].port, "redis+cluster://")


@needs("redis-server", "redis-cli")
def a_killed_master_of_a_cluster_loses_nothing_that_its_replica_had():
    with Cluster() as c:
        def fail_over():
            victim = c.roles("master")[0]
            victim.kill()
            assert wait_until(lambda: len(c.roles("master")) == 3), "no replica took over"
            victim.start()  # as the replica of the new master: without a replica no write could reach one
        all_right(c.url(), during=fail_over, far=["--replicas", "1", "--timeout", "20000"])
        assert wait_until(lambda: c.keys() == 0), "keys are left"


@needs("redis-server", "redis-cli")
def a_write_that_no_replica_can_have_fails_and_no_byte_is_wrong():
    with Cluster() as c:
        out = all_right(c.url(), during=lambda: c.roles("slave")[0].kill(), errors=None, ops=200,
                        far=["--replicas", "1", "--timeout", "2000"])
        assert not out.strip().endswith(" 0 errors"), out


@needs("redis-server", "redis-cli")
def a_slot_that_moves_is_followed():
    with Cluster() as c:
        def move():
            a, b = c.roles("master")[:2]
            ids = {n.port: n.cli("cluster", "myid") for n in (a, b)}
            rc = subprocess.run(["redis-cli", "--cluster", "reshard", "127.0.0.1:%d" % a.port, "--cluster-from", ids[a.port],
                                 "--cluster-to", ids[b.port], "--cluster-slots", "5461", "--cluster-yes"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
            assert rc == 0
        all_right(c.url(), during=move)


@needs()
def redis_that_answers_badly_ends_nothing():
    """The requests that got such answers fail, or are asked again; what is read is right, but where the server has changed it."""
    for how in BAD:
        if "bit" not in how:  # only the store has sums
            with FakeRedis(how) as r:
                all_right("redis://127.0.0.1:%d" % r.port, ops=150, errors=None, far=["--timeout", "600"])


# ---- NBD ----
@needs("nbdkit")
def nbd_memory():
    with Nbdkit("memory", "64M") as n:
        all_right(n.url())
        all_right(n.url() + "/", far=["--encrypt"])


@needs("nbdkit")
def nbd_filters():
    for filters in (["--filter=delay", "memory", "64M", "rdelay=1ms", "wdelay=1ms"], ["--filter=cow", "memory", "64M"],
                    ["--filter=rate", "memory", "64M", "rate=400M"]):
        with Nbdkit(*filters) as n:
            all_right(n.url(), ops=200)


@needs("nbdkit")
def nbd_errors_are_the_requests_own():
    with Nbdkit("--filter=error", "memory", "64M", "error-rate=5%", "error=EIO") as n:
        out = all_right(n.url(), errors=None)
        assert not out.strip().endswith(" 0 errors"), out


@needs("nbdkit")
def nbd_with_tls():
    with Nbdkit("memory", "64M", psk=True) as n:
        all_right(n.url("nbds"), far=["--psk", os.path.join(n.dir, "psk")])
        refused(n.url(), far=["--timeout", "300"])


@needs("nbdkit")
def nbd_too_small_or_read_only_is_refused():
    with Nbdkit("memory", "4096") as n:
        refused(n.url(), "too small")
    with Nbdkit("memory", "64M", options=["-r"]) as n:
        refused(n.url(), "read-only")


@needs("nbdkit")
def nbd_server_killed_and_back_answers_what_was_under_way():
    with nbd_file() as (n, _):
        def restart():
            n.kill()
            n.start()
        all_right(n.url(), during=restart)


# ---- servers that change in the middle of a run ----
def wrong_after(url, change, *words, timeout=3000, far=(), **more):
    """Units on the server are lost or refused after the change, and reported so; no byte is wrong."""
    out = all_right(url, during=change, errors=None, far=["--timeout", str(timeout), *far], **more)
    assert not out.strip().endswith(" 0 errors"), out
    for w in words:
        assert out.count(w) == 1, "%r: %s" % (w, out)


@needs("redis-server", "redis-cli")
def redis_whose_maxmemory_shrinks_is_full_and_loses_nothing():
    with Redis() as r:
        wrong_after("redis://127.0.0.1:%d" % r.port, lambda: r.cli("config", "set", "maxmemory", "1mb"), "takes no more: OOM")
        assert r.keys() == 0


@needs("redis-server", "redis-cli")
def redis_that_begins_to_evict_loses_pages_and_says_so():
    with Redis() as r:
        def evict():
            r.cli("config", "set", "maxmemory-policy", "allkeys-random")
            r.cli("config", "set", "maxmemory", "2mb")
        wrong_after("redis://127.0.0.1:%d" % r.port, evict, "cannot give back a page: the server does not have a page any more")


@needs("redis-server", "redis-cli")
def redis_that_forbids_commands_for_a_moment_is_waited_for():
    with Redis() as r:
        def forbid():
            r.cli("acl", "setuser", "default", "-set", "-get", "-getrange", "-del")
        out = all_right("redis://127.0.0.1:%d" % r.port, during=forbid, then=lambda: r.cli("acl", "setuser", "default", "+@all"))
        assert "is away: NOPERM" in out and "is back" in out, out


@needs("redis-server", "redis-cli")
def redis_whose_password_changes_serves_who_is_there_and_refuses_who_comes():
    with Redis() as r:
        url = "redis://127.0.0.1:%d" % r.port
        all_right(url, during=lambda: r.cli("config", "set", "requirepass", "sesame"))
        r.password = "sesame"
        r.cli("config", "set", "requirepass", "")
        r.password = None

        def change():
            r.cli("config", "set", "requirepass", "sesame")
            r.password = "sesame"
            r.cli("client", "kill", "type", "normal")
        wrong_after(url, change, "is away: ", "did not come back: NOAUTH")


@needs("redis-server", "redis-cli")
def redis_that_becomes_a_replica_refuses_writes_and_no_byte_is_wrong():
    with Redis() as r:
        wrong_after("redis://127.0.0.1:%d" % r.port, lambda: r.cli("replicaof", "127.0.0.1", "1"), "cannot store a page: READONLY",
                    timeout=300, ops=60)


@needs("redis-server", "redis-cli", "openssl")
def redis_that_comes_back_with_another_certificate_is_given_up():
    with Redis(tls=True) as r, tempfile.TemporaryDirectory() as d:
        ca = shutil.copy(os.path.join(r.dir, "ca.crt"), os.path.join(d, "first"))
        certificates(d)

        def change():
            r.kill()
            for name in ("ca.crt", "server.crt", "server.key"):
                shutil.copy(os.path.join(d, name), r.dir)
            r.start()
        wrong_after("rediss://localhost:%d" % r.port, change, "is away: ", "did not come back: TLS: the certificate", far=["--ca", ca])


@needs("nbdkit")
def nbd_that_comes_back_as_another_export_is_given_up():
    for words, options, why in ((["memory", "32M"], [], "smaller than it was"), (["memory", "64M"], ["-r"], "read-only")):
        with Nbdkit("memory", "64M") as n:
            def change():
                n.kill()
                n.words, n.options = words, options
                n.start()
            wrong_after(n.url(), change, "is away: ", why)


@needs("nbdkit")
def nbd_that_fails_says_so_once():
    with tempfile.TemporaryDirectory() as d:
        switch = os.path.join(d, "fail")
        for what, word in (("pread", "cannot give back a page: "), ("pwrite", "cannot store a page: ")):
            with Nbdkit("--filter=error", "memory", "64M", "error-%s-rate=50%%" % what, "error-%s=EIO" % what,
                        "error-%s-file=%s" % (what, switch)) as n:
                wrong_after(n.url(), lambda: open(switch, "w").close(), word)
            os.unlink(switch)
        with Nbdkit("--filter=error", "memory", "64M", "error-pwrite-rate=50%", "error-pwrite=ENOSPC", "error-pwrite-file=" + switch) as n:
            wrong_after(n.url(), lambda: open(switch, "w").close(), "takes no more: No space left")


@contextlib.contextmanager
def nbd_with_certificate(**certificate):
    """An nbdkit with TLS, and the folder of its certificate."""
    with tempfile.TemporaryDirectory() as d:
        nbd_certificates(d, **certificate)
        with Nbdkit("memory", "64M", options=["--tls=require", "--tls-certificates=" + d]) as n:
            yield n, d


@needs("nbdkit", "openssl")
def nbd_with_a_wrong_certificate_is_refused_at_once():
    with nbd_with_certificate() as (n, right), tempfile.TemporaryDirectory() as wrong:
        nbd_certificates(wrong)
        all_right(n.url("nbds"), far=["--ca", right], ops=100)
        refused(n.url("nbds"), "certificate", far=["--ca", wrong])  # at once: the time-out is 30 s
    for certificate in ({"days": -1}, {"names": "DNS:other.test"}):
        with nbd_with_certificate(**certificate) as (n, ca):
            refused(n.url("nbds"), "certificate", far=["--ca", ca])


@needs("nbdkit", "openssl")
def nbd_whose_certificate_libnbd_would_not_verify_is_refused():
    """Without a certificate to trust, and over a Unix socket, libnbd takes any server for the right one."""
    with nbd_with_certificate() as (n, right), tempfile.TemporaryDirectory() as empty:
        refused(n.url("nbds"), "--far-ca")
        refused(n.url("nbds"), "ca-cert.pem", far=["--ca", empty])
        refused("nbds+unix:///?socket=/nowhere", "--far-psk", far=["--ca", right])
        refused(n.url("nbds"), "/nowhere: No such file", far=["--psk", "/nowhere"])


@needs("redis-server", "redis-cli", "openssl")
def redis_whose_certificate_is_expired_or_of_another_name_is_refused_at_once():
    for certificate, word in (({"days": -1}, "expired"), ({"names": "DNS:other.test"}, "ostname mismatch")):
        with Redis(tls=True, **certificate) as r:
            refused("rediss://localhost:%d" % r.port, "the certificate of localhost", word, far=["--ca", os.path.join(r.dir, "ca.crt")])


# ---- words ----
@needs()
def mistakes_are_named():
    for url, word in (("ftp://x", "known are"), ("nbd://", "no host"), ("NBD://", "no host"), ("redis://h:99999", "port"), ("redis://h/x", "number"),
                      ("redis+cluster://a,b/1", "database 0"), ("nbd+unix:///x", "socket=PATH"), ("nbd://u@h", "user name"),
                      ("redis://a,b", "redis+cluster"), ("redis://%zz@h", "%XX"), ("nbd://" + "h" * 300, "too long")):
        refused(url, word)


@needs()
def nobody_listens():
    refused("redis://127.0.0.1:1", "Connection refused", far=["--timeout", "300"])
    refused("nbd://127.0.0.1:1", "onnection refused", far=["--timeout", "300"])


@needs("redis-server", "redis-cli")
def check_measures_and_leaves_nothing():
    with Redis() as r:
        read, write = os.pipe()
        os.write(write, b"redis://127.0.0.1:%d\n" % r.port)
        os.close(write)
        p = subprocess.run([FAR, "--check", "--url-fd", str(read), "--mib", "4"], pass_fds=[read], capture_output=True, text=True)
        os.close(read)
        assert p.returncode == 0 and "a page comes back in" in p.stdout, p.stdout + p.stderr
        assert r.keys() == 0


sys.exit(run_tests(sys.argv[3:]))
