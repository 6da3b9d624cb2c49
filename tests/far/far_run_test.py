# SPDX-License-Identifier: BSD-2-Clause
"""far_run_test.py QUIRE [name…]: hosted programs over far swap: output equal to a native run, nothing left behind.

Ends with "N passed, N failed, N skipped"."""
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from far_servers import Nbdkit, Redis, needs, run_tests, wait_until  # noqa: E402

QUIRE = sys.argv[1]
PAGES = 5000
# Touches pages that do not compress, in no order, twice; prints a sum. It says on standard error when it is half-way.
PROGRAM = r"""
import random, sys
n = %d
r = random.Random(1)
a = [r.randbytes(4000) for _ in range(n)]
s = 0
for k in range(2):
    for i in range(n):
        s = (s * 31 + sum(a[i * 7919 %% n][:16])) %% 1000003
    print("round", file=sys.stderr, flush=True)
print(s)
""" % PAGES


def native():
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout


def start(*options, env=None):
    return subprocess.Popen([QUIRE, "run", "-m", "16M", *options, "--report", "none", "--", sys.executable, "-c", PROGRAM],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def hosted(*options, env=None):
    p = start(*options, env=env)
    out, err = p.communicate(timeout=250)
    return p.returncode, out, err


def equal(*options, env=None):
    rc, out, err = hosted(*options, env=env)
    assert rc == 0 and out == native(), "status %d, %r: %s" % (rc, out, err)
    return err


@needs("redis-server", "redis-cli")
def redis_is_swap():
    with Redis() as r:
        equal("--swap", "redis://127.0.0.1:%d?size=64M" % r.port)
        assert r.keys() == 0, "keys are left"


@needs("redis-server", "redis-cli")
def a_password_comes_from_the_environment():
    with Redis(password="se/cret") as r:
        env = dict(os.environ, QUIRE_SWAP_PASSWORD="se/cret")
        equal("--swap", "redis://127.0.0.1:%d?size=64M" % r.port, env=env)
        rc, _, err = hosted("--swap", "redis://127.0.0.1:%d?size=64M" % r.port)
        assert rc == 125 and "NOAUTH" in err, err


@needs("redis-server", "redis-cli")
def the_list_of_processes_shows_no_password():
    with Redis(password="sesame") as r:
        p = start("--swap", "redis://:sesame@127.0.0.1:%d?size=64M" % r.port)
        p.stderr.readline()
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        for pid in (p.pid,):
            with open("/proc/%d/environ" % pid) as f:
                assert "sesame" not in f.read()
        assert not [line for line in shown.splitlines() if "sesame" in line and "redis-server" not in line], shown
        assert p.communicate(timeout=250)[0] == native()


@needs("nbdkit")
def nbd_is_swap():
    with Nbdkit("memory", "64M") as n:
        equal("--swap", n.url())


@needs("redis-server", "redis-cli")
def pages_sink_from_the_file_to_the_far_place():
    with Redis() as r:
        equal("--swap", "/var/tmp:4M", "--swap", "redis://127.0.0.1:%d?size=64M" % r.port)
        assert r.keys() == 0, "keys are left"


@needs()
def an_encrypted_file_is_swap():
    equal("--swap", "/var/tmp:64M", "--encrypt")


@needs("nbdkit")
def what_leaves_the_machine_cannot_be_read():
    # The program's memory holds a word among what does not compress. On the server it is found only without encryption.
    # It is looked for while the program waits: at the end everything is trimmed.
    program = "import os\nw = b'quire-' + b'plain-text'\na = [os.urandom(2000) + w + os.urandom(2000) for _ in range(6000)]\n" \
              "print('full', flush=True)\ninput()\n"
    for encrypt, seen in (("far", False), ("none", True)):
        with tempfile.NamedTemporaryFile(dir="/var/tmp") as f:
            f.truncate(64 << 20)
            with Nbdkit("file", f.name) as n:
                p = subprocess.Popen([QUIRE, "run", "-m", "8M", "--encrypt=" + encrypt, "--swap", n.url(), "--report", "none",
                                      "--", sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                assert p.stdout.readline() == "full\n"
                with open(f.name, "rb") as disk:
                    found = b"quire-plain-text" in disk.read()
                p.communicate("\n", timeout=100)
                assert p.returncode == 0
            assert found == seen, "encrypt=%s" % encrypt


@needs("nbdkit")
def a_server_that_comes_back_in_time_is_waited_for():
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as f:
        f.truncate(64 << 20)
        with Nbdkit("file", f.name) as n:
            p = start("--swap", n.url())
            while p.stderr.readline() != "round\n":
                assert p.poll() is None
            n.kill()
            time.sleep(1)
            n.start()
            out, err = p.communicate(timeout=250)
            assert p.returncode == 0 and out == native(), err
            assert "is away" in err and "is back" in err, err


@needs("redis-server", "redis-cli")
def a_server_that_loses_pages_ends_the_access_and_says_so():
    with Redis() as r:
        p = start("--swap", "redis://127.0.0.1:%d?size=64M" % r.port)
        while p.stderr.readline() != "round\n":
            assert p.poll() is None
        r.cli("flushall")
        err = p.communicate(timeout=250)[1]
        assert p.returncode == -signal.SIGBUS and "SIGBUS" in err, "%d %s" % (p.returncode, err)


@needs("redis-server", "redis-cli")
def a_killed_run_leaves_no_key_and_no_process():
    with Redis() as r:
        url = "redis://127.0.0.1:%d?size=64M" % r.port
        for moment in range(6):
            p = start("--swap", url, env=dict(os.environ, QUIRE_FAR_TEST=str(r.port)))
            time.sleep(0.15 * moment)  # wherever it is by then
            p.kill()
            p.communicate()
            assert wait_until(lambda: r.keys() == 0 and not far_of(r.port), 20), "something is left after moment %d" % moment


def far_of(port):
    """quire-far processes of the runs that were started for that server: other tests have theirs."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/comm" % pid) as f, open("/proc/%s/environ" % pid, "rb") as g:
                if f.read() == "quire-far\n" and b"QUIRE_FAR_TEST=%d" % port in g.read().split(b"\0"):
                    found.append(pid)
        except OSError:
            pass
    return found


@needs()
def mistakes_are_named():
    for url, word in (("redis://127.0.0.1:1?size=64M", "Connection refused"), ("gopher://x", "known are"),
                      ("redis://h?size=64", "size=4G"), ("nbd://", "no host")):
        rc, _, err = hosted("--far-timeout", "300ms", "--swap", url)
        assert rc == 125 and word in err, "%s: %s" % (url, err)


sys.exit(run_tests(sys.argv[2:]))
