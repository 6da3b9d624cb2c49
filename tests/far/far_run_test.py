# SPDX-License-Identifier: BSD-2-Clause
"""far_run_test.py QUIRE [name…]: hosted programs over far swap: output equal to a native run, nothing left behind.

Ends with "N passed, N failed, N skipped"."""
import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(1, os.path.join(sys.path[0], "..", "..", "tools"))
from reach import reachable  # noqa: E402
from far_hosted import Host, bytes_of, marked, name_of, processes_of, processes_where, program  # noqa: E402
from far_servers import Cluster, Nbdkit, Redis, nbd_file, needs, run_tests, small_disk, wait_until  # noqa: E402

QUIRE = sys.argv[1]
HOST = Host(QUIRE, memory="8M", pages=3000)
native, start, hosted, equal, half = HOST.native, HOST.start, HOST.hosted, HOST.equal, HOST.half


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
    # The program's memory has a known word among incompressible bytes. The word is found on the server only without
    # encryption. The search is done while the program waits, as all units are trimmed at the end.
    program = "import os\nw = b'quire-' + b'plain-text'\na = [os.urandom(2000) + w + os.urandom(2000) for _ in range(6000)]\n" \
              "print('full', flush=True)\ninput()\n"
    for encrypt, seen in (("far", False), ("none", True)):
        with nbd_file() as (n, path):
            p = subprocess.Popen([QUIRE, "run", "-m", "8M", "--encrypt=" + encrypt, "--swap", n.url(), "--report", "none",
                                  "--", sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert p.stdout.readline() == "full\n"
            with open(path, "rb") as disk:
                found = b"quire-plain-text" in disk.read()
            p.communicate("\n", timeout=100)
            assert p.returncode == 0
            assert found == seen, "encrypt=%s" % encrypt


# Fills its pages; waits; fills them anew; waits; reads them all.
TWO_GENERATIONS = r"""
import os
a = [bytearray(os.urandom(4000)) for _ in range(5000)]
print("first", flush=True); input()
for b in a:
    b[:] = os.urandom(4000)
print("second", flush=True); input()
print(sum(b[100] for b in a), flush=True)
"""


@needs("nbdkit")
def an_old_page_that_the_server_gives_back_is_noticed():
    # The old bytes were encrypted with the same key for the same place: only the sum, which stays in memory, tells old
    # from new bytes.
    for encrypt in ("far", "none"):
        with nbd_file() as (n, path):
            p = subprocess.Popen([QUIRE, "run", "-m", "8M", "--encrypt=" + encrypt, "--swap", n.url(), "--report", "none", "--",
                                  sys.executable, "-c", TWO_GENERATIONS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
            assert p.stdout.readline() == "first\n"
            with open(path, "rb") as disk:
                old = disk.read()
            p.stdin.write("\n")
            p.stdin.flush()
            assert p.stdout.readline() == "second\n"
            with open(path, "r+b") as disk:
                assert disk.read() != old
                disk.seek(0)
                disk.write(old)
            out, err = p.communicate("\n", timeout=100)
            assert p.returncode == -signal.SIGBUS and out == "" and "SIGBUS" in err, "%d %r %s" % (p.returncode, out, err)


@needs("nbdkit")
def a_server_that_comes_back_in_time_is_waited_for():
    with nbd_file() as (n, _):
        p = half("--swap", n.url())
        n.kill()
        line = p.stderr.readline()
        while line != "" and "is away" not in line:
            line = p.stderr.readline()
        assert line != "", "nothing said that the server is away"
        n.start()
        out, err = p.communicate(timeout=250)
        assert p.returncode == 0 and out == native(), err
        assert "is back" in err, err


@needs("redis-server", "redis-cli")
def a_server_that_loses_pages_ends_the_access_and_says_so():
    with Redis() as r:
        p = half("--swap", "redis://127.0.0.1:%d?size=64M" % r.port)
        r.cli("flushall")
        err = p.communicate(timeout=250)[1]
        assert p.returncode == -signal.SIGBUS and "SIGBUS" in err, "%d %s" % (p.returncode, err)


@needs("redis-server", "redis-cli")
def a_killed_run_leaves_no_key_and_no_process():
    with Redis() as r:
        url = "redis://127.0.0.1:%d?size=64M" % r.port
        for moment in range(6):
            p = start("--swap", url, env=marked(r.port))
            time.sleep(0.15 * moment)  # wherever it is by then
            p.kill()
            p.communicate()
            assert wait_until(lambda: r.keys() == 0 and not processes_of(r.port), 20), "something is left after moment %d" % moment


@needs("redis-server", "redis-cli")
def a_password_comes_from_a_file():
    with Redis(password="se/cret") as r, tempfile.NamedTemporaryFile("w") as f:
        f.write("se/cret\nwhat follows is not read\n")
        f.flush()
        equal("--swap", "redis://127.0.0.1:%d?size=64M" % r.port, "--swap-password", f.name)
        p = subprocess.run([QUIRE, "check", "--swap-password", f.name, "redis://127.0.0.1:%d" % r.port], capture_output=True, text=True)
        assert p.returncode == 0 and "a page comes back in" in p.stdout, p.stderr
    rc, _, err = hosted("--swap", "redis://127.0.0.1:1?size=64M", "--swap-password", "/nowhere")
    assert rc == 125 and "/nowhere" in err, err


def shown_of(word):
    """The lines of the list of processes with that word, without the server's."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if word in line and "redis-server" not in line]


def has(name, word):
    """Processes that have the word in that file, without the server."""
    return processes_where(lambda p: word in bytes_of(p, name) and name_of(p) != "redis-server")


@needs("redis-server", "redis-cli")
def a_password_on_the_command_line_is_taken_and_overwritten():
    with Redis(password="ses@me") as r:
        url = "redis://%%s@127.0.0.1:%d?size=64M" % r.port
        for words in (["--swap", url % ":ses@me"], ["--swap=" + url % "default:ses%40me"], ["--swap", url % ":ses@me", "--live"]):
            p = start(*words, env=marked(r.port))
            said = ""
            while "round\n" not in said:  # it is half-way
                line = p.stderr.readline()
                assert line != "", said
                said += line
            for secret in ("ses@me", "ses%40me"):
                assert not shown_of(secret), shown_of(secret)
                for name in ("cmdline", "environ"):
                    assert not has(name, secret.encode()), "%s of %s" % (name, has(name, secret.encode()))
            out, err = p.communicate(timeout=250)
            assert out == native() and "ses" not in (said + err).replace("processes", ""), err
            assert said.count("command line") == 1 and "@FILE" in said and "QUIRE_SWAP_PASSWORD" in said, said
        p = subprocess.run([QUIRE, "run", "-m", "8M", "--swap", url % ":ses@me", "--report", "json", "--", "true"], capture_output=True, text=True)
        assert p.returncode == 0 and "ses@" not in p.stderr, p.stderr


@needs("redis-server", "redis-cli")
def check_takes_a_password_on_the_command_line_and_overwrites_it():
    with Redis(password="ses@me") as r:
        r.proc.send_signal(signal.SIGSTOP)
        p = subprocess.Popen([QUIRE, "check", "redis://:ses@me@127.0.0.1:%d" % r.port], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             text=True, env=marked(r.port))
        assert wait_until(lambda: processes_of(r.port, "quire-far")), "quire-far is not there"
        assert not has("cmdline", b"ses@me") and not has("environ", b"ses@me")
        r.proc.send_signal(signal.SIGCONT)
        out, err = p.communicate(timeout=60)
        assert p.returncode == 0 and "a page comes back" in out and "ses@" not in out + err, out + err
        assert err.count("\n") == 1 and "command line" in err and "@FILE" in err, err


@needs("redis-server", "redis-cli")
def no_error_line_has_a_password():
    for words in (["--swap", "redis://:sesame@127.0.0.1:1?size=64M"], ["--swap", "redis://:ses?size=ame@127.0.0.1:1?size=1K"],
                  ["--swap", "redis://:ses/ame@127.0.0.1:1"], ["--swpa=redis://:sesame@127.0.0.1:1"], ["--swap", "gopher://:sesame@h"],
                  ["--swap", "redis://:sesame@127.0.0.1:x"], ["--swap", "redis://:sesame@127.0.0.1:64", "M"],
                  ["--swap", "nbds://u:sesame@127.0.0.1:1"], ["--swap", "redis://:sesame@" + "h" * 300]):
        rc, _, err = hosted("--far-timeout", "300ms", *words)
        assert rc in (125, 127) and "ame" not in err.replace("name", ""), "%s: %s" % (words, err)
    with Redis(password="sesame") as r:  # a user's name alone is no secret
        rc, _, err = hosted("--swap", "redis://default@127.0.0.1:%d?size=64M" % r.port, env=dict(os.environ, QUIRE_SWAP_PASSWORD="sesame"))
        assert rc == 0 and "command line" not in err, err


@needs("redis-server", "redis-cli", "nbdkit")
def a_file_names_the_places_and_no_process_shows_the_password():
    with Redis(password="se:s@me") as r, Nbdkit("memory", "64M") as n, tempfile.NamedTemporaryFile("w") as f:
        f.write("redis://default:se:s%%40me@127.0.0.1:%d?size=64M\n\n%s\n" % (r.port, n.url()))
        f.flush()
        p = half("--swap", "@" + f.name)
        assert not shown_of("s@me") and not shown_of("s%40me")
        with open("/proc/%d/environ" % p.pid) as environ:
            assert "s%40me" not in environ.read()
        assert r.keys() > 0, "the place is not used"
        assert p.communicate(timeout=250)[0] == native()
        p = subprocess.run([QUIRE, "check", "@" + f.name], capture_output=True, text=True)
        assert p.returncode == 0 and p.stdout.startswith("redis://127.0.0.1:%d: a page comes back in" % r.port), p.stdout + p.stderr
    for text, word in (("", "no line"), ("gopher://x\n", "known are"), ("/var/tmp\n/tmp\n", "two places")):
        with tempfile.NamedTemporaryFile("w") as f:
            f.write(text)
            f.flush()
            rc, _, err = hosted("--swap", "@" + f.name)
            assert rc == 125 and word in err, err
    rc, _, err = hosted("--swap", "@/nowhere")
    assert rc == 125 and "/nowhere" in err, err


@needs()
def a_swap_file_leaves_room_to_others():
    for size in ("", ":64M"):
        rc, _, err = hosted("--swap", "/var/tmp" + size, "--swap-keep-free", "1000T")
        assert rc == 125 and "--swap-keep-free" in err, err
    equal("--swap", "/var/tmp", "--swap-keep-free", "64M")


def told_to_go(*options):
    """Starts the program; sends the line for which it waits after the caller has acted."""
    p = subprocess.Popen([QUIRE, "run", "-m", HOST.memory, *options, "--report", "json", "--", sys.executable, "-c", "print('ready', flush=True)\ninput()\n" +
                          program(HOST.pages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    yield p
    out, err = p.communicate("\n", timeout=250)
    assert p.returncode == 0 and out == native(), err
    yield json.loads(err.splitlines()[-1])


def free_on(disk):
    return os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize


@needs("nbdkit", "mkfs.ext4")
def a_file_that_may_not_grow_sends_pages_on():
    for encrypt in ("far", "all"):
        with small_disk(256) as d, Nbdkit("memory", "64M") as n:
            run = told_to_go("--swap", d, "--swap-keep-free", "100M", "--swap", n.url(), "--encrypt=" + encrypt)
            next(run)
            with open(os.path.join(d, "others"), "wb") as f:  # takes the space that the file might have used
                os.posix_fallocate(f.fileno(), 0, free_on(d) - (103 << 20))
            report = next(run)
            assert report["far_bytes"] > 2 << 20, report
            assert report["write_errors"] < 100, report


# Maps that many MiB, keeps them while a process of another user does the same, then touches them; prints both results.
TWO_USERS = r"""
import mmap, os, subprocess, sys
mine, theirs = int(sys.argv[1]), int(sys.argv[2])
def take(mib):
    try:
        m = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None
    for at in range(0, mib << 20, 4096):
        m[at:at + 8] = os.urandom(8) if at % 65536 else b"12345678"
    return m
m = take(mine) if mine else b""
got = "had" if m is not None else "refused"
if theirs:
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", sys.argv[3], str(theirs), "0", ""]
    got += " " + subprocess.run(argv, capture_output=True, text=True).stdout.strip()
print(got)
"""


def two_users(mine, theirs, *options):
    with tempfile.TemporaryDirectory(prefix="quire-two-") as d:
        p = subprocess.run([reachable(d, QUIRE), "run", "-m", "16M", *options, "--report", "none", "--", sys.executable, "-c",
                            TWO_USERS, str(mine), str(theirs), TWO_USERS], capture_output=True, text=True, timeout=250)
    assert p.returncode == 0, p.stderr
    return p.stdout.strip()


def expect(what, *words):
    got = two_users(*words)
    assert got == what, "%s: %s" % (words, got)


@needs("setpriv", "mkfs.ext4")
def what_is_promised_counts_the_places_of_each_store():
    # Two users have two stores, each with its own 64M: together they hold more than one store could.
    expect("had had", 45, 45, "--swap", "/var/tmp:64M")
    # There is room for a small second file only. Room in the first store is not promised to processes of the second
    # store.
    with small_disk(100) as d:
        expect("had refused", 45, 45, "--swap", d + ":64M")
        expect("had had", 0, 8, "--swap", d + ":64M")
        expect("refused", 90, 0, "--swap", d + ":64M")


@needs("nbdkit")
def what_is_promised_counts_every_place_of_a_store():
    with Nbdkit("memory", "64M") as n:
        expect("had", 80, 0, "--swap", "/var/tmp:64M", "--swap", n.url())
        expect("refused", 80, 0, "--swap", "/var/tmp:64M")


@needs("nbdkit", "setpriv", "redis-server", "redis-cli")
def an_nbd_export_is_for_one_store():
    """The stores of two users wrote over each other's pages."""
    with Nbdkit("memory", "64M") as n, Redis() as r:
        expect("had refused", 30, 30, "--swap", n.url())
        expect("had had", 30, 30, "--swap", n.url(), "--swap", "redis://127.0.0.1:%d?size=64M" % r.port)


@needs()
def swap_is_slowed_down_to_the_rate():
    t = time.monotonic()
    run = told_to_go("--swap", "/var/tmp:64M", "--swap-rate", "10M")
    next(run)
    report = next(run)
    least = (report["file_written_bytes"] + report["file_read_bytes"]) / (10 << 20) - 0.1
    assert least > 1 and time.monotonic() - t >= least, report


@needs("redis-server", "redis-cli", "nbdkit")
def a_full_far_place_is_passed_over():
    with Redis("--maxmemory", "64mb", "--maxmemory-policy", "noeviction") as r, Nbdkit("memory", "64M") as n:
        run = told_to_go("--swap", "redis://127.0.0.1:%d?size=64M" % r.port, "--swap", n.url())
        next(run)
        r.cli("config", "set", "maxmemory", "3mb")  # other processes take the remaining space
        report = next(run)
        assert report["far_bytes"] > 3 << 20, report
        assert r.keys() == 0


def shrunk(program, *words):
    """The program is started, has said that it is ready, and waits; then its Redis is given less room. (status, output, what was said.)"""
    with Redis("--maxmemory", "64mb", "--maxmemory-policy", "noeviction") as r:
        p = subprocess.Popen([QUIRE, "run", "-m", HOST.memory, "--swap", "redis://127.0.0.1:%d?size=64M" % r.port, "--report", "none", "--",
                              sys.executable, "-c", program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert p.stdout.readline() == "ready\n"
        r.cli("config", "set", "maxmemory", "3mb")
        out, err = p.communicate("\n", timeout=250)
        assert err.count("takes no more: OOM") == 1, err
        assert r.keys() == 0, "keys are left"
    return p.returncode, out, err


# Has so many MiB, and fills them when it is told to; then reads all.
HAD_BEFORE = r"""
import mmap, os, sys
m, word = mmap.mmap(-1, int(sys.argv[1]) << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), os.urandom(64)
print("ready", flush=True); input()
for at in range(0, len(m), 4096):
    m[at:at + 4096] = word + os.urandom(4032)
print(all(m[at:at + 64] == word for at in range(0, len(m), 4096)))
"""


# Fills so many MiB and says so; SIGTERM does not end it. Then reads all.
TERM_IS_HANDLED = r"""
import mmap, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: None)
m, word = mmap.mmap(-1, 24 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), os.urandom(64)
for at in range(0, len(m), 4096):
    m[at:at + 4096] = word + os.urandom(4032)
print("ready", flush=True); input()
print(all(m[at:at + 64] == word for at in range(0, len(m), 4096)))
"""


@needs("redis-server", "redis-cli")
def a_program_that_handles_sigterm_keeps_its_pages():
    """Who stops a service signals all of its processes, quire-far among them."""
    with Redis() as r:
        p = subprocess.Popen([QUIRE, "run", "-m", "8M", "--swap", "redis://127.0.0.1:%d?size=64M" % r.port, "--report", "none", "--",
                              sys.executable, "-c", TERM_IS_HANDLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, start_new_session=True)
        assert p.stdout.readline() == "ready\n"
        os.killpg(p.pid, signal.SIGTERM)
        out, err = p.communicate("\n", timeout=250)
        assert p.returncode == 0 and out == "True\n", "%d %r %s" % (p.returncode, out, err)
        assert r.keys() == 0, "keys are left"


@needs("redis-server", "redis-cli")
def memory_that_was_had_before_a_redis_shrank_stays_in_memory_while_there_is_room():
    status, out, err = shrunk(HAD_BEFORE, "10")
    assert status == 0 and out == "True\n" and "SIGBUS" not in err, "%d %s" % (status, err)
    status, out, err = shrunk(HAD_BEFORE, "32")
    assert status == -signal.SIGBUS and err.count("for which there was no room") == 1, "%d %s" % (status, err)


# Takes memory in pieces that do not compress, until that is refused; then reads all. Says which error refused it.
GROW = r"""
import mmap, os
print("ready", flush=True); input()
pieces, error, size = [], 0, 1 << 18
try:
    while len(pieces) < 160:
        word, m = os.urandom(64), mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, size, 4096):
            m[at:at + 4096] = word + os.urandom(4032)
        pieces.append((word, m))
except OSError as e:
    error = e.errno
assert all(m[at:at + 64] == word for word, m in pieces for at in range(0, size, 4096))
print(error)
"""


@needs("redis-server", "redis-cli")
def new_memory_is_refused_when_a_redis_has_shrunk():
    """It was had, and touching it was SIGBUS: what was promised counted on the room that the server had at the start."""
    status, out, err = shrunk(GROW)
    assert status == 0 and int(out) == errno.ENOMEM and "SIGBUS" not in err, "%d %s %s" % (status, out, err)
    assert err.count("a request for memory was refused") == 1, err
    status, out, err = shrunk("print('ready', flush=True)\ninput()\n" + program(3 * HOST.pages))
    assert status == 1 and "MemoryError" in err and "SIGBUS" not in err, "%d %s" % (status, err)


@needs("nbdkit")
def an_nbd_export_is_for_one_run_at_a_time():
    """A second run wrote over the first's pages, which then were SIGBUS."""
    with nbd_file() as (n, path):
        run = told_to_go("--swap", n.url())
        first = next(run)
        for words in (["run", "-m", "8M", "--swap", n.url(), "true"], ["check", n.url()]):
            p = subprocess.run([QUIRE, *words], capture_output=True, text=True, timeout=60)
            assert p.returncode == 125 and "is in use by process " in p.stderr and p.stderr.count("\n") == 1, p.stderr
        next(run)
        assert first.returncode == 0
        equal("--swap", n.url())  # the stamp went with the run
        p = half("--swap", n.url(), env=marked(n.port))
        os.kill(processes_of(n.port, "quire-far")[0], signal.SIGKILL)  # first: it takes its stamp away when quire has ended
        p.kill()
        p.communicate()
        with open(path, "rb") as disk:
            disk.seek(-65536, os.SEEK_END)
            assert disk.read(10) == b"quire swap"
        equal("--swap", n.url())  # a killed run's stamp stands still


@needs("nbdkit")
def new_memory_is_refused_when_a_server_did_not_come_back():
    with Nbdkit("memory", "64M") as n:
        p = subprocess.Popen([QUIRE, "run", "-m", HOST.memory, "--swap", n.url(), "--far-timeout", "300ms", "--report", "none", "--",
                              sys.executable, "-c", "import mmap\nprint('ready', flush=True)\ninput()\nmmap.mmap(-1, 32 << 20, flags=34)"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert p.stdout.readline() == "ready\n"
        n.kill()
        said = ""
        while "did not come back" not in said:
            line = p.stderr.readline()
            assert line != "", said
            said += line
        err = p.communicate("\n", timeout=250)[1]
        assert p.returncode == 1 and "Cannot allocate memory" in err and "a request for memory was refused" in err, err


@needs()
def a_tmpfs_is_taken_by_force_only():
    rc, _, err = hosted("--swap", "/dev/shm:64M")
    assert rc == 125 and "--force" in err, err
    equal("--swap", "/dev/shm:64M", "--force")


@needs("redis-server", "redis-cli")
def what_is_promised_is_what_the_server_has_room_for():
    with Redis("--maxmemory", "48mb", "--maxmemory-policy", "noeviction") as r:
        url = "redis://127.0.0.1:%d?size=1G" % r.port
        expect("refused", 60, 0, "--swap", url)
        expect("had", 20, 0, "--swap", url)
        r.cli("config", "set", "maxmemory", "100")
        rc, _, err = hosted("--swap", url)
        assert rc == 125 and "it is full" in err and err.count("\n") == 1, err


@needs("redis-server", "redis-cli")
def a_cluster_one_of_whose_masters_evicts_is_refused():
    with Cluster() as c:
        c.roles("master")[-1].cli("config", "set", "maxmemory", "64mb")
        c.roles("master")[-1].cli("config", "set", "maxmemory-policy", "allkeys-lru")
        rc, _, err = hosted("--swap", c.url() + "?size=64M")
        assert rc == 125 and "evicts keys" in err and "port %d" % c.roles("master")[-1].port in err, err


@needs("redis-server", "redis-cli")
def a_cluster_some_of_whose_slots_have_no_master_is_refused():
    """It was taken, and pages of such slots were kept in memory, each after the time-out."""
    with Cluster() as c:
        for n in c.nodes:
            n.cli("cluster", "delslotsrange", "100", "199")
        rc, _, err = hosted("--swap", c.url() + "?size=64M", "--far-timeout", "1s")
        assert rc == 125 and "100 of the cluster's slots have no master" in err and err.count("\n") == 1, err


@needs("redis-server", "redis-cli", "nbdkit")
def check_says_in_one_line_what_is_wrong():
    with Redis("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as evicts, Redis(password="sesame") as r, \
            Nbdkit("memory", "2048") as small, Nbdkit("memory", "64M", options=["-r"]) as fixed, \
            Nbdkit("--filter=exportname", "memory", "64M", "exportname=other", "exportname-strict=true") as named, \
            Nbdkit("memory", "64M", psk=True) as closed:
        redis = "redis://127.0.0.1:%d"
        for url, word in ((redis % evicts.port, "set noeviction"), (redis % r.port, "NOAUTH"), (redis % r.port, "--swap-password FILE"),
                          (redis % 1, "Connection refused"), (redis % fixed.port, "is it Redis?"), ("redis://nowhere.invalid", "not known"),
                          ("rediss://127.0.0.1:%d" % r.port, "is it a TLS port?"), (small.url(), "too small"), (fixed.url(), "read-only"),
                          ("nbd://127.0.0.1:1", "refused"),
                          (named.url() + "/mine", "no export of that name"), (closed.url(), "use nbds://"), ("nbd://nowhere.invalid", "not known"), ("nbd://127.0.0.1:%d" % r.port, "does not answer"),
                          ("nbd+unix:///?socket=/nowhere", "No such file"), ("gopher://x", "known are"), ("GOPHER://x", "known are")):
            p = subprocess.run([QUIRE, "check", "--far-timeout", "1s", url], capture_output=True, text=True, timeout=60)
            assert p.returncode == 125 and p.stdout == "" and p.stderr.count("\n") == 1 and word in p.stderr, "%s: %s" % (url, p.stderr)
        p = subprocess.run([QUIRE, "check", "nbd://127.0.0.1:1", "--far-timeout", "300ms"], capture_output=True, text=True, timeout=60)
        assert p.returncode == 125 and "refused" in p.stderr and p.stderr.count("\n") == 1, p.stderr  # the URL may stand before options
        env = dict(os.environ, QUIRE_SWAP_PASSWORD="wrong")
        p = subprocess.run([QUIRE, "check", redis % r.port], capture_output=True, text=True, timeout=60, env=env)
        assert p.returncode == 125 and "WRONGPASS" in p.stderr and p.stderr.count("\n") == 1, p.stderr


@contextlib.contextmanager
def says(answer):
    """Starts a server that answers every request by the same bytes; returns its port."""
    def serve(s):
        with s, contextlib.suppress(OSError):
            while s.recv(65536):
                s.sendall(answer)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@needs()
def what_is_no_redis_is_refused_in_one_line():
    for answer, word in ((b"+OK\r\n", "is it Redis?"), (b"$10\r\nused_memor\r\n", "is it Redis?"), (b"*-5\r\n", "is it Redis?"),
                         (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is it Redis?"), (b"-ERR \x1b[2J\x07\xff\r\n", "ERR ?[2J??")):
        with says(answer) as port:
            p = subprocess.run([QUIRE, "check", "--far-timeout", "300ms", "redis://127.0.0.1:%d" % port], capture_output=True, text=True, timeout=60)
            assert p.returncode == 125 and p.stdout == "" and p.stderr.count("\n") == 1 and word in p.stderr, "%s: %s" % (answer, p.stderr)


@needs("redis-server", "redis-cli")
def a_redis_that_lacks_a_command_is_refused():
    for command in ("GET", "GETRANGE", "EXPIRE", "DEL"):
        with Redis("--rename-command", command, "") as r:
            rc, _, err = hosted("--swap", "redis://127.0.0.1:%d?size=64M" % r.port)
            assert rc == 125 and "unknown command '%s'" % command in err and "a run needs it" in err and err.count("\n") == 1, err
            assert r.keys() == 0, "keys are left"
    with Redis() as r:
        r.cli("acl", "setuser", "default", "-set")
        rc, _, err = hosted("--swap", "redis://127.0.0.1:%d?size=64M" % r.port)
        assert rc == 125 and "NOPERM" in err and "a run needs it" in err and err.count("\n") == 1, err


@needs()
def mistakes_are_named():
    for url, word in (("redis://127.0.0.1:1?size=64M", "Connection refused"), ("gopher://x", "known are"),
                      ("redis://h?size=64", "size=4G"), ("nbd://", "no host")):
        rc, _, err = hosted("--far-timeout", "300ms", "--swap", url)
        assert rc == 125 and word in err, "%s: %s" % (url, err)


sys.exit(run_tests(sys.argv[2:]))
