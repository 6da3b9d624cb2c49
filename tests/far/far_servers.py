# SPDX-License-Identifier: BSD-2-Clause
"""Real servers for the tests of far swap: Redis (plain, password, TLS, cluster) and nbdkit, on the loopback only.

Each server is a context: it runs when the context is entered, and is removed, with its files, when the context is left."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

for folder in (("..",), ("..", "..", "tools")):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), *folder))
from bound import bound  # noqa: E402
import tidy  # noqa: E402


TESTS = []


class Skipped(Exception):
    """The test cannot run here; has the reason."""


def needs(*programs):
    """Marks a test, and names the programs without which it is skipped."""
    def mark(f):
        TESTS.append((f, programs))
        return f
    return mark


def one_folder():
    """All files of this program lie in one folder on a disk, which is removed, with all started processes, however
    the program ends."""
    tempfile.tempdir = tempfile.mkdtemp(prefix="quire-far-", dir=os.environ.get("TMPDIR", "/var/tmp"))
    os.chmod(tempfile.tempdir, 0o711)  # a program that becomes another user must be able to enter
    tidy.leave_nothing(lambda: tidy.remove_folder(tempfile.tempdir))


def long(f):
    """Marks a test that runs only if it is named: `make test-far` names it."""
    f.is_long = True
    return f


def run_tests(names):
    """Runs the marked tests that are not long, or the named tests; prints a line for each, and the counts. Returns
    the exit status."""
    passed = failed = skipped = 0
    one_folder()
    for test, programs in TESTS:
        if test.__name__ not in names if names else hasattr(test, "is_long"):
            continue
        missing = have(*programs)
        if missing:
            print("skip %s: %s is not installed" % (test.__name__, ", ".join(missing)))
            skipped += 1
            continue
        try:
            test()
            passed += 1
            print("ok   %s" % test.__name__, flush=True)
        except Skipped as e:
            print("skip %s: %s" % (test.__name__, e), flush=True)
            skipped += 1
        except (AssertionError, RuntimeError, subprocess.TimeoutExpired) as e:
            failed += 1
            print("FAIL %s: %s" % (test.__name__, e), flush=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


@contextlib.contextmanager
def small_disk(mib):
    """A mounted file system of that many MiB; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="quire-far-") as d:
        image, where = os.path.join(d, "image"), os.path.join(d, "disk")
        os.mkdir(where)
        with open(image, "wb") as f:
            f.truncate(mib << 20)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", "-N", "64", image], **quiet).returncode != 0 or \
                subprocess.run(["mount", "-o", "loop", image, where], **quiet).returncode != 0:
            raise Skipped("no file system can be made and mounted here")
        try:
            yield where
        finally:
            subprocess.run(["umount", where], check=True)


def free_port():
    """A port that nobody has, nor the port 10000 above it: there a Redis that is part of a cluster listens for the others."""
    while True:
        with socket.socket() as s, socket.socket() as bus:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
            try:
                bus.bind(("127.0.0.1", port + 10000))
                return port
            except (OSError, OverflowError):
                pass        # taken, or no port


def have(*programs):
    return [p for p in programs if shutil.which(p) is None]


def wait_until(what, seconds=20):
    """Polls a condition; True once it holds."""
    end = time.monotonic() + bound(seconds)
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return False


def with_the_test():
    """The start of the command line of a process that ends with this one, also if this one ends before the kernel has
    been told of that wish: the shell looks whose child it is afterwards."""
    return ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid())]


class Server:
    """A process that can be killed and started again at the same place."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="quire-far-")
        self.proc = None

    def argv(self):
        raise NotImplementedError

    def ready(self):
        raise NotImplementedError

    def start(self):
        log = open(os.path.join(self.dir, "log"), "ab")
        self.proc = subprocess.Popen(with_the_test() + self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir)
        log.close()
        if not wait_until(self.ready):
            with open(os.path.join(self.dir, "log")) as f:
                raise RuntimeError("server did not start: %s\n%s" % (self.argv(), f.read()[-2000:]))
        return self

    def kill(self, sig=signal.SIGKILL):
        if self.proc is not None:
            self.proc.send_signal(sig)
            self.proc.wait()
            self.proc = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def certificates(where, names="DNS:localhost,IP:127.0.0.1", days=2):
    """A CA and a certificate for those names, made by openssl. It has expired if days is negative."""
    def run(*argv):
        subprocess.run(argv, cwd=where, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2",
        "-subj", "/CN=quire test CA")
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr",
        "-subj", "/CN=localhost")
    with open(os.path.join(where, "ext"), "w") as f:
        f.write("subjectAltName=%s\n" % names)
    run("openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days),
        "-out", "server.crt", "-extfile", "ext")


def nbd_certificates(where, **more):
    """The same, also under the names that nbdkit and libnbd look for."""
    certificates(where, **more)
    for ours, theirs in (("ca.crt", "ca-cert.pem"), ("server.crt", "server-cert.pem"), ("server.key", "server-key.pem")):
        shutil.copy(os.path.join(where, ours), os.path.join(where, theirs))


@contextlib.contextmanager
def nbd_file():
    """An nbdkit that serves a file of 64 MiB, and the file's path."""
    with tempfile.NamedTemporaryFile() as f:
        f.truncate(64 << 20)
        with Nbdkit("file", f.name) as n:
            yield n, f.name


class Redis(Server):
    def __init__(self, *options, tls=False, password=None, **certificate):
        super().__init__()
        self.port = free_port()
        self.options, self.tls, self.password = list(options), tls, password
        if tls:
            certificates(self.dir, **certificate)

    def argv(self):
        port = ["--tls-port", str(self.port), "--port", "0", "--tls-cert-file", "server.crt", "--tls-key-file", "server.key",
                "--tls-ca-cert-file", "ca.crt", "--tls-auth-clients", "no"] if self.tls else ["--port", str(self.port)]
        secret = ["--requirepass", self.password] if self.password else []
        return ["redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.dir, *port,
                *secret, *self.options]

    def cli(self, *words, check=True):
        argv = ["redis-cli", "-h", "127.0.0.1", "-p", str(self.port)]
        if self.tls:
            argv += ["--tls", "--insecure"]  # what is wrong with a certificate is for others to find
        env = dict(os.environ)
        if self.password:
            env["REDISCLI_AUTH"] = self.password
        r = subprocess.run(argv + list(words), env=env, capture_output=True, text=True, check=False)
        return r.stdout.strip() if r.returncode == 0 or not check else ""

    def ready(self):
        return self.cli("ping") == "PONG"

    def keys(self):
        return int(self.cli("dbsize") or -1)


class Cluster:
    """Six Redis processes: three masters, each with a replica."""

    def __enter__(self):
        self.nodes = [Redis("--cluster-enabled", "yes", "--cluster-node-timeout", "1000") for _ in range(6)]
        for n in self.nodes:
            # The port of the cluster's bus is the port + 10000, which must be a valid port.
            while n.port > 55000:
                n.port = free_port()
            n.start()
        places = ["127.0.0.1:%d" % n.port for n in self.nodes]
        subprocess.run(["redis-cli", "--cluster", "create", *places, "--cluster-replicas", "1", "--cluster-yes"], check=True,
                       stdout=subprocess.DEVNULL)
        if not wait_until(lambda: all("cluster_state:ok" in n.cli("cluster", "info") for n in self.nodes)
                          and len(self.roles("slave")) == 3):
            raise RuntimeError("the cluster did not come up")
        if not wait_until(lambda: all("master_link_status:up" in n.cli("info", "replication") for n in self.roles("slave"))):
            raise RuntimeError("the replicas do not follow")
        return self

    def roles(self, role):
        return [n for n in self.nodes if n.proc is not None and "role:" + role in n.cli("info", "replication")]

    def url(self):
        return "redis+cluster://" + ",".join("127.0.0.1:%d" % n.port for n in self.nodes[:3])

    def keys(self):
        return sum(n.keys() for n in self.roles("master"))

    def __exit__(self, *_):
        for n in self.nodes:
            n.__exit__()


class Nbdkit(Server):
    def __init__(self, *words, options=(), psk=False):
        super().__init__()
        self.port = free_port()
        self.words, self.options = list(words), list(options)
        if psk:
            with open(os.path.join(self.dir, "psk"), "w") as f:
                f.write("quire:%s\n" % ("5a" * 16))
            self.options += ["--tls=require", "--tls-psk=" + os.path.join(self.dir, "psk")]

    def argv(self):
        return ["nbdkit", "-f", "-t", "4", "-i", "127.0.0.1", "-p", str(self.port), *self.options, *self.words]

    def ready(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return self.proc.poll() is not None

    def url(self, scheme="nbd"):
        return "%s://127.0.0.1:%d" % (scheme, self.port)
