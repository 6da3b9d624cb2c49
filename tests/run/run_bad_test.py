#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Bad days of `quire run`: wrong arguments, programs that cannot be hosted, missing
rights, full disks, damaged swap, killed programs and supervisors, terminals.

    run_bad_test.py QUIRE HELPER STATIC_HELPER|- [CASE ...]

Without names, all of them, AT_ONCE at a time, each in a process of its own.
A case fails if it takes longer than its time limit, or leaves a process or a file behind. Cases that need rights that
this user lacks are skipped by name.
"""

import ctypes
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import cases
import reach
import stacks
import tidy

if __name__ == "__main__":
    tidy.own_mounts()

TIMEOUT = 180
FOLDER = tempfile.mkdtemp(prefix="quire-bad-")
QUIRE, HELPER, STATIC = (reach.reachable(FOLDER, p) if p != "-" else p for p in sys.argv[1:4])
MARK = b"QUIRE_TEST_MARK=" + FOLDER.encode()      # in the environment of all processes that this test starts
ENV = dict(os.environ, QUIRE_TEST_MARK=FOLDER)
ROOT = os.geteuid() == 0
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def clean():
    tidy.end_marked(MARK)
    tidy.remove_folder(FOLDER)


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(str(w) for w in what))


def start(argv, **kw):
    return subprocess.Popen(argv, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


def finish(p, timeout=TIMEOUT):
    """Returns (status as Popen gives it, stdout, stderr)."""
    try:
        out, err = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        print("HANGS after %d s: %s\n%s" % (timeout, " ".join(p.args), stacks.of(marked())), flush=True)
        tidy.end_marked(MARK)       # a program whose supervisor has died holds the pipes, too
        p.communicate()
        raise AssertionError("hangs: %s" % " ".join(p.args))
    return p.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def run(argv, timeout=TIMEOUT, **kw):
    return finish(start(argv, **kw), timeout)


def quire(*args, **kw):
    return run([QUIRE, "run"] + list(args), **kw)


def refused(status, words, *args, **kw):
    got, out, err = quire(*args, **kw)
    check(got == status, args, "status", got, "wanted", status, err)
    lines = err.splitlines()
    check(len(lines) == 1 and lines[0].startswith("quire: "), args, "not one line:", err)
    for w in words:
        check(w in err, args, "does not say", repr(w), ":", err)


def marked():
    """Living processes of this test's runs, without the tools of this process's children."""
    return tidy.processes_marked(MARK)


def gone(pids=None, timeout=10):
    """Waits until no process of this test lives (or none of the given processes)."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        left = [p for p in marked() if pids is None or p in pids]
        if not left:
            return
        select.select([], [], [], 0.02)
    raise AssertionError("left behind: %s" % left)


def ready(p, word=b"ready", fd=None):
    """Reads the program's output up to that word."""
    fd = fd if fd is not None else p.stdout.fileno()
    got, end = b"", time.monotonic() + TIMEOUT
    while word not in got:
        check(time.monotonic() < end, "never says", word, got)
        if select.select([fd], [], [], 1)[0]:
            piece = os.read(fd, 4096)
            if not piece:
                raise AssertionError("ended before it said %s: %s %s" % (word, got, p.communicate() if p else ""))
            got += piece
    return got


def state(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def within(seconds, true):
    """Does the condition become true within that time?"""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() >= end:
            return False
        select.select([], [], [], 0.02)
    return True


def until(true, what):
    check(within(TIMEOUT, true), "never:", what)


def is_keeper(pid):
    """The process that keeps a store has its own session, so that no terminal stops it."""
    with open("/proc/%d/comm" % pid) as f:
        return f.read() == "quire-keeper\n"


def child_of(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return int(f.read().split()[0])


def tmpfs(size):
    if not ROOT:
        raise cases.Skip("mounting a small file system needs root")
    where = tempfile.mkdtemp(dir=FOLDER)
    if run(["mount", "-t", "tmpfs", "-o", "size=" + size, "quire-test", where])[0] != 0:
        raise cases.Skip("no file system can be mounted here")
    return where


def disk(size):
    """A small file system on a separate disk."""
    if not ROOT:
        raise cases.Skip("mounting a small file system needs root")
    where, image = tempfile.mkdtemp(dir=FOLDER), tempfile.mktemp(dir=FOLDER)
    if run(["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", "-N", "64", image, size])[0] != 0:
        raise cases.Skip("no file system can be made here")
    if run(["mount", "-o", "loop", image, where])[0] != 0:
        raise cases.Skip("no file system can be mounted here")
    os.unlink(image)
    return where


# ---- arguments ----
def sizes():
    for bad in ["12Q", "", "-5M", "+5M", "1e30", "nan", "inf", "0x10M", "64M64", "25%%", "101%", "-1%", "M", "9223372036854775808",
                "18446744073709551616", "99999999999999999999999T", "64mb!", "1..5G"]:
        refused(125, ["--memory"], "--memory", bad, "true")
    for little in ["0", "1", "7.9M", "4K", "0%"]:
        refused(125, ["--memory", "8 MiB"], "--memory", little, "true")
    refused(125, ["--memory", "more than"], "--memory", "100T", "true")
    for good in ["8M", "8m", "0.1G", "25%", "64MiB", "64MB", "67108864", "64 M", "64 MiB", "64 m"]:
        check(quire("--memory", good, "--report", "none", "true") == (0, "", ""), good)
    for good in (["-m", "64M"], ["-m64M"], ["-m", "64", "M"], ["--memory", "64", "M"], ["--memory", "64", "mb"], ["--memory=0.5", "GiB"],
                 ["-m", "64M", "--pool", "8", "M"], ["-m", "64", "M", "--swap", "/var/tmp:64", "M"]):
        where = os.path.join(FOLDER, "sizes")
        check(quire(*good, "--report", "json:" + where, "true") == (0, "", ""), good)
        with open(where) as f:
            check(json.load(f)["budget_bytes"] == (512 if "=0.5" in good[0] else 64) << 20, good)
    # a number of bytes is followed by the program, whatever its name
    refused(127, ["'M' was not found"], "--memory", "67108864", "M")
    for bare in (["--memory", "64"], ["-m", "64", "true"], ["--memory", "64", "--", "M"], ["--memory", "512", "x"]):
        refused(125, ["--memory " + bare[1], "unit", "write %sM" % bare[1]], *bare, "true")
    refused(125, ["--pool", "unit", "25M"], "--pool", "25", "true")
    refused(125, ["--pool"], "--memory", "64M", "--pool", "63M", "true")
    refused(125, ["--pool"], "--memory", "64M", "--pool", "x", "true")
    refused(125, ["--report"], "--report", "xml", "true")
    refused(125, ["--memory"], "--memory")
    refused(125, ["--nonsense"], "--nonsense", "true")
    refused(125, ["-x"], "-x", "true")
    refused(125, ["program"])
    refused(125, ["program"], "--memory", "64M", "--")
    for args, like in ((["frob"], None), (["rnu"], "run"), (["--vesion"], "--version"), (["run", "--memroy", "8M", "true"], "--memory"),
                       (["run", "--memroy=8M", "true"], "--memory"), (["run", "--swp", "x", "true"], "--swap"),
                       (["run", "--zzz", "true"], None), (["check", "--froce", "redis://host"], "--force"), (["check", "-x"], None),
                       (["run", "--" + "memory" * 20, "true"], None)):
        status, out, err = run([QUIRE] + args)
        check((status, out, err.count("\n")) == (125, "", 1), args, status, out, err)
        check(("did you mean %s?" % like if like else "see quire --help") in err, args, err)
    for args in ([], ["--help"], ["help"], ["-h"]):
        status, out, err = run([QUIRE] + args)
        check(status == 0 and "--memory" in out and err == "", args, status, err)
        check(out.count("\n") <= 24 and max(map(len, out.splitlines())) <= 80, "does not fit a screen", out)
    check(run([QUIRE, "help", "check"]) == run([QUIRE, "check", "--help"]))
    status, out, err = run([QUIRE, "check", HELPER, HELPER])
    check((status, out) == (125, "") and "quire check --help" in err and err.count("\n") == 1, status, out, err)
    for args in (["run", "--help"], ["run", "-h"], ["help", "run"]):
        status, out, err = run([QUIRE] + args)
        check(status == 0 and "--swap-keep-free" in out and err == "", args, status, err)
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "man", "quire.1")
    options = re.search(r"^.Sh OPTIONS$(.*?)^.Sh ", open(page).read(), re.M | re.S).group(1)
    told = set(re.findall(r"Fl -([a-z-]+)", options))
    used = set(re.findall(r"(?<![\w-])--([a-z]+[a-z-]*)", out))
    check(used == told, "options of help and manual", used ^ told)
    check(run([QUIRE, "--version"])[1].startswith("quire "))


def check_command():
    status, out, err = run([QUIRE, "check"])
    check((status == 0) == (ROOT or "quire: " not in err), status, out, err)
    check("userfaultfd" in out + err and err.count("\n") <= 1, out, err)
    status, out, err = run([QUIRE, "check", HELPER])
    check("userfaultfd" in out + err, out, err)
    again = run([QUIRE, "check", "--", HELPER])
    words = [re.sub(r"[0-9.]+ us", "# us", o) for o in (out, again[1])]    # what is measured differs
    check((again[0], words[1], again[2]) == (status, words[0], err), out, again)
    check(not ROOT or status != 0 or all(re.search("^%s  .*" % w, out, re.M) for w in ("move", "scan", "io_uring", "madvise")), out)
    check(run([QUIRE, "check", "--help"])[::2] == (0, "") and run([QUIRE, "check", "-x"])[:2] == (125, ""))
    if STATIC[-1] != "-":
        status, out, err = run([QUIRE, "check", STATIC])
        check(status == 126 and "statically" in err, status, out, err)


def report_paths():
    where = os.path.join(FOLDER, "report")
    check(quire("--memory", "64M", "--report", "json:" + where, "true")[0] == 0 and os.path.getsize(where) > 0)
    for bad in ("/nonexistent/x", "/", ""):     # the error was reported only after the program had ended
        refused(125, ["--report", bad], "--memory", "64M", "--report", "text:" + bad, "sh", "-c", "echo ran >&2")
    refused(125, ["--report", "no file is named", "json:FILE"], "--memory", "64M", "--report", "json:", "true")
    status, out, err = quire("--memory", "64M", "--report", "text:/dev/full", "sh", "-c", "exit 3")
    check(status == 3 and "--report" in err and err.count("\n") == 1, status, err)


def json_endings():
    """Whatever the program's end, the report is one line of JSON, with all values of the text. Processes that were
    left and pages beyond the budget were once missing."""
    daemon = '("$0" signal > /dev/null 2>&1 & echo $!)'
    for argv, key, value in (([HELPER, "touch", "10", "1"], "exit_status", 0), (["sh", "-c", "exit 126"], "exit_status", 126),
                             (["sh", "-c", "kill -9 $$"], "signal", 9), (["sh", "-c", "kill -TERM $$"], "signal", 15),
                             ([HELPER, "fill"], "exit_status", 0), (["sh", "-c", daemon, HELPER], "left", 1)):
        status, out, err = quire("--memory", "8M", "--swap", "/var/tmp:8M", "--report", "json", *argv)
        said, err = err.splitlines(keepends=True)[:-1], err.splitlines(keepends=True)[-1]
        check([line for line in said if "memory was refused" not in line] == [] and len(said) == (argv[-1] == "fill"), argv, said)
        got = json.loads(err, parse_constant=lambda word: check(False, word))
        check((got[key] >= 1 if key == "left" else got[key] == value) and {"refused", "io_errors", "write_errors", "lost_pages", "beyond_bytes", "left"} <= got.keys(), argv, err)
        check(got.get("exit_status", -got.get("signal", 0)) == status, argv, status, err)
        if key == "left":
            os.kill(int(out), signal.SIGKILL)
    check(quire("--report", "json", "/nonexistent/program")[::2] == (127, "quire: '/nonexistent/program' was not found: give a path, or a name that is in PATH\n"))


# ---- swap ----
def swap_places():
    refused(125, ["--swap", "/nonexistent"], "--swap", "/nonexistent/dir/x", "true")
    refused(125, ["--swap", "no such directory"], "--swap", "/nonexistent/", "true")
    for nowhere in ("", ":", "--", "-m"):    # a forgotten place: the next word was the name of the file
        refused(125, ["--swap", "no place is named"], "--swap", nowhere, "true")
    # a size without a place means the default place
    for size in (["1G"], ["1", "G"], [":1G"], ["1 GiB"]):
        check(quire("--memory", "8M", "--swap", *size, "--report", "none", HELPER, "touch", "4000", "2") == (0, "touched 4000 pages\n", ""), size)
    check(not os.path.exists("1G"))
    refused(125, ["512", "unit", "512M"], "--swap", "512", "true")
    refused(125, ["3x", "not a size", "./"], "--swap", "3x", "true")
    os.mkdir(os.path.join(FOLDER, "1G"))
    refused(125, ["/var/tmp:1G", "./1G"], "--swap", "1G", "true", cwd=FOLDER)
    check(quire("--memory", "8M", "--swap", "./1G", "--report", "none", "true", cwd=FOLDER) == (0, "", ""))
    check(quire("--memory", "8M", "--swap", "./3x", "--report", "none", "true", cwd=FOLDER) == (0, "", ""))
    refused(125, ["no such directory", "/nonexistent"], "--swap", "/nonexistent/name", "true")
    refused(125, ["--swap", "/proc", "no file can be made"], "--swap", "/proc", "true")
    refused(125, ["--swap", "exists"], "--swap", HELPER, "true")
    refused(125, ["--swap", "12Q"], "--swap", "/var/tmp:12Q", "true")
    refused(125, ["--swap", "free"], "--swap", "/var/tmp:900T", "true")
    refused(125, ["--swap", "at least"], "--swap", "/var/tmp:1K", "true")
    removed = tempfile.mkdtemp(dir=FOLDER)
    status, _, err = run(["sh", "-c", 'cd "$1" && rmdir "$1" && exec "$0" run --swap . true', QUIRE, removed])
    check(status == 125 and "'.'" in err and "has been removed" in err and err.count("\n") == 1, status, err)
    if ROOT:
        where = tempfile.mkdtemp(dir=FOLDER)
        os.chmod(where, 0o500)
        os.chmod(FOLDER, 0o755)
        status, _, err = run(NOBODY + [QUIRE, "run", "--swap", where, "true"])
        check(status == 125 and err.count("\n") == 1, status, err)


def options_without_a_far_place():
    """These options were once ignored: a user believed that the server's certificate was checked."""
    for option in "--far-ca", "--far-psk":
        for places in ([], ["--swap", "/var/tmp"], ["--swap", "redis://127.0.0.1:1"], ["--swap", "nbd://127.0.0.1:1"]):
            refused(125, [option, "rediss://"], option, "/dev/null", *places, "true")
    where = os.path.join(FOLDER, "password")
    with open(where, "w") as f:
        f.write("sesame\n")
    status, _, err = run([QUIRE, "run", "-m", "8M", "--report", "none", "--swap-password", where, "true"])
    check(status == 0 and err.count("\n") == 1 and "--swap-password is not used" in err, status, err)


def small_stack():
    """The supervisor died by SIGSEGV. 16 KiB are enough for the C library's own programs."""
    for kib in (16, 20, 28, 32):
        status, out, err = run(["sh", "-c", 'ulimit -s %d; exec "$0" run -m 8M true' % kib, QUIRE])
        check((status, out) == (125, "") and "ulimit -s" in err and "64 KiB" in err and err.count("\n") == 1, kib, status, out, err)
    check(run(["sh", "-c", 'ulimit -s 64; exec "$0" run -m 8M --report none "$1" touch 4000 2', QUIRE, HELPER]) == (0, "touched 4000 pages\n", ""))


def swap_file_is_unnamed():
    where = tempfile.mkdtemp(dir=FOLDER)
    p = start([QUIRE, "run", "--memory", "8M", "--report", "none", "--swap", where, HELPER, "loop", "2500"])
    ready(p)
    check(os.listdir(where) == [], os.listdir(where))
    p.terminate()
    check(finish(p)[0] == -signal.SIGTERM)
    named = os.path.join(where, "name")
    check(quire("--memory", "8M", "--report", "none", "--swap", named, HELPER, "touch", "4000", "2")[0] == 0)
    check(os.listdir(where) == [])


def swap_small_file_system():
    where = disk("8m")
    there = os.listdir(where)
    refused(125, ["--swap", "64 MiB", "free"], "--swap", where, "true")
    refused(125, ["--swap", "free"], "--swap", where + ":9M", "true")
    # the place was refused, as if no size had been given
    check(quire("--memory", "8M", "--report", "none", "--swap", where + ":7M", HELPER, "touch", "2600", "2") == (0, "touched 2600 pages\n", ""))
    check(os.listdir(where) == there)


def swap_in_memory():
    """A swap file on a tmpfs took as much memory as it gave back."""
    where = tmpfs("64m")
    for path in (where, where + ":16M", where + "/name:16M"):
        refused(125, ["--swap", "tmpfs", "memory", "--swap PATH"], "--swap", path, "true")
    check(os.listdir(where) == [])
    # as the default place, such a TMPDIR is skipped
    got = run(["env", "TMPDIR=" + where, QUIRE, "run", "--memory", "8M", "--report", "none", HELPER, "touch", "4000", "2"])
    check(got == (0, "touched 4000 pages\n", ""), got)


def disk_fills_at_start():
    """Another process fills the disk between two steps of the supervisor's start: one line each time, and no program
    runs without its swap."""
    where = disk("80m")
    filler = start([sys.executable, "-c", """
import os, sys
while True:
    fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
    try:
        os.posix_fallocate(fd, 0, os.fstatvfs(fd).f_bavail * 4096)
    except OSError:
        pass
    os.ftruncate(fd, 0)
    os.close(fd)
""", os.path.join(where, "other")])
    refusals = 0
    for i in range(100):
        status, out, err = quire("--memory", "8M", "--report", "none", "--swap", where + ("", ":60M", "/name", ":2M")[i % 4], "echo", "ran")
        check((status, out, err) == (0, "ran\n", "") or (status, out) == (125, "") and err.startswith("quire: --swap") and err.count("\n") == 1,
              status, out, err)
        refusals += status == 125
    filler.kill()
    filler.communicate()
    print("%d of 100 starts found it full" % refusals)


def full_standard_error():
    """If standard error is a file on the full disk, the line was lost: status 125 without a message."""
    with open("/dev/full", "w") as full:
        p = subprocess.Popen([QUIRE, "run", "--memory", "64", "true"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=full,
                             env=ENV, start_new_session=True)
        out = p.communicate()[0].decode()
    check(p.returncode == 125 and out.startswith("quire: --memory 64") and out.count("\n") == 1, p.returncode, out)


def full_standard_output():
    """Requested output that cannot be written is a failure: on a full disk the status was once 0, and that of help
    was 125 without a message."""
    for words in (["--help"], ["--version"], ["check"], ["run", "--help"], ["run", "--policy", "help"]):
        with open("/dev/full", "w") as full:
            p = subprocess.run([QUIRE] + words, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, env=ENV, check=False)
        check((p.returncode, p.stderr) == (125, b"quire: cannot write to standard output\n"), words, p.returncode, p.stderr)


def address_space():
    """Too little memory (ulimit -v, -d): one line that names the limit, at whatever step of the start memory is short."""
    ran = 0
    for kib in list(range(20000, 700000, 40000)) + [4000000]:
        for inside in (False, True):
            words = ['ulimit -v %d; exec "$0" run -m 64M --report none echo ran', 'exec "$0" run -m 64M --report none sh -c "ulimit -v %d; exec /bin/echo ran"'][inside]
            status, out, err = run(["sh", "-c", words % kib, QUIRE])
            loader = inside and status == 127 and "error while loading shared libraries" in err      # natively, too
            check((status, out, err) == (0, "ran\n", "") or loader or status == 125 and out == "" and err.startswith("quire: ") and
                  "ulimit -v" in err and err.count("\n") == 1, kib, inside, status, out, err)
            ran += status == 0
    check(ran >= 2, "nothing ran")
    status, out, err = run(["sh", "-c", 'ulimit -d 10000; exec "$0" run -m 64M echo ran', QUIRE])
    check(status == 125 and "-d" in err and err.count("\n") == 1, status, err)


def no_proc():
    """The line once said that Quire was not installed completely, and check reported no error."""
    if not ROOT:
        raise cases.Skip("unmounting /proc needs root")
    for command in (["run", "true"], ["check"]):
        status, out, err = run(["unshare", "-m", "sh", "-c", 'umount -l /proc && exec "$@"', "sh", QUIRE] + command)
        check((status, out, err.count("\n")) == (125, "", 1) and "mount -t proc" in err, command, status, out, err)


def left_over_temporary_place():
    """A TMPDIR that is a file, or does not exist, was once refused as if --swap had named it."""
    for where in ("/etc/passwd", "/nonexistent", ""):
        status, out, err = run(["env", "TMPDIR=" + where, QUIRE, "run", "-m", "8M", "--report", "none", HELPER, "touch", "4000", "2"])
        check((status, out, err) == (0, "touched 4000 pages\n", ""), where, status, out, err)


def other_root():
    """A program executed after a chroot is hosted if the runtime is found there; else a line says that the program is
    not hosted."""
    if not ROOT:
        raise cases.Skip("chroot needs root")
    root = tempfile.mkdtemp(dir=FOLDER)
    libraries = [w for w in run(["ldd", HELPER])[1].split() if w.startswith("/")]
    for path in libraries + [HELPER]:
        os.makedirs(root + os.path.dirname(path), exist_ok=True)
        shutil.copy(path, root + path)
    argv = ["--memory", "8M", "--report", "json:" + os.path.join(FOLDER, "report"), "chroot", root, HELPER, "touch", "4000", "2"]
    runtime = os.path.join(os.path.dirname(QUIRE), "libquire-run.so")
    for there in (False, True):
        if there:
            os.makedirs(root + os.path.dirname(runtime), exist_ok=True)
            shutil.copy(runtime, root + runtime)
        status, out, err = quire(*argv)
        check((status, out) == (0, "touched 4000 pages\n"), there, status, out, err)
        check(err == "" if there else err.startswith("quire: ") and err.count("\n") == 1 and runtime in err, there, err)
        with open(os.path.join(FOLDER, "report")) as f:
            check((json.load(f)["pages_out"] > 1000) == there, there)


def swap_full():
    status, out, err = quire("--memory", "8M", "--swap", "/var/tmp:16M", HELPER, "fill")
    check(status == 0 and "Cannot allocate" in out and "\n0 wrong pages\nand again\n" in out, status, out, err)
    check(16 <= int(out.split()[0]) < 64, out)
    check("refused" in err, err)


def disk_fills_midway():
    where = disk("80m")
    # Without a size no disk space is reserved; with a size it is reserved before the program starts (store_test, swap_full).
    p = start([QUIRE, "run", "--memory", "8M", "--swap", where, HELPER, "fill"])
    until(lambda: os.statvfs(where).f_blocks - os.statvfs(where).f_bfree > 1024 or p.poll() is not None, "the swap file grows")
    with open(os.path.join(where, "other"), "wb", buffering=0) as f:  # bytes left in a buffer would fail at the end
        try:
            while True:
                f.write(b"x" * 65536)
        except OSError:
            pass
    status, out, err = finish(p)
    # A promise of memory cannot be kept: the access concerned gets SIGBUS, or all memory happens to fit. No byte is ever wrong.
    check(status in (0, -signal.SIGBUS), status, out, err)
    check("wrong pages" not in out or "\n0 wrong pages" in out, out)
    if status != 0:
        check("error" in err, err)


def damaged_swap():
    """The file returns other bytes than were written: the result is SIGBUS, not a wrong byte."""
    where = tempfile.mkdtemp(dir=FOLDER)
    p = start([QUIRE, "run", "--memory", "8M", "--pool", "1M", "--swap", where, HELPER, "loop", "3500"])
    ready(p)
    path = None
    for fd in os.listdir("/proc/%d/fd" % p.pid):
        name = os.readlink("/proc/%d/fd/%s" % (p.pid, fd))
        if name.startswith(where):
            path = "/proc/%d/fd/%s" % (p.pid, fd)
    check(path, "the supervisor holds no swap file")
    end = time.monotonic() + TIMEOUT
    while p.poll() is None:
        check(time.monotonic() < end, "the damage is never seen")
        try:
            f = os.open(path, os.O_RDWR)
        except OSError:             # it is ending
            continue
        try:
            for at in range(0, min(os.fstat(f).st_blocks * 512, 64 << 20), 4096):
                os.pwrite(f, b"damage", at + 512)
            os.fsync(f)
        except OSError:
            pass
        finally:
            os.close(f)
    status, out, err = finish(p)
    check(status == -signal.SIGBUS and "wrong" not in out, status, out, err)


# ---- programs ----
def programs():
    refused(127, ["nonexistent-program"], "nonexistent-program")
    refused(127, ["/nonexistent/program"], "/nonexistent/program")
    plain = os.path.join(FOLDER, "plain")
    with open(plain, "w") as f:
        f.write("#!/bin/sh\nexit 0\n")
    refused(126, [plain, "chmod"], plain)
    os.chmod(plain, 0o755)
    check(quire("--report", "none", plain) == (0, "", ""))
    with open(plain, "w") as f:
        f.write("#!/nonexistent/interpreter\n")
    refused(126, ["/nonexistent/interpreter"], plain)
    with open(plain, "w") as f:
        f.write("echo no first line\n")
    refused(126, ["#!"], plain)
    refused(126, [FOLDER, "directory"], FOLDER)
    if ROOT:    # root can enter every folder
        closed = os.path.join(FOLDER, "closed")
        os.mkdir(closed, 0o700)
        os.chmod(FOLDER, 0o755)
        status, _, err = run(NOBODY + [QUIRE, "run", os.path.join(closed, "true")])
        check(status == 126 and "cannot be reached" in err and err.count("\n") == 1, status, err)
    status, _, err = run(["sh", "-c", 'ulimit -n 3; exec "$0" run "$1"', QUIRE, HELPER])    # the user was told to make the file executable
    check(status == 126 and "open files" in err and err.count("\n") == 1, status, err)
    with open(plain, "wb") as f:
        f.write(b"\x7fELF" + bytes(10))
    refused(126, ["ELF"], plain)
    # errors that only the kernel finds: a missing loader, as for a shell; a program that is being written
    with open(HELPER, "rb") as f:
        image = f.read()
    with open(plain, "wb") as f:
        f.write(image.replace(b"/lib64/ld-linux-x86-64", b"/lib65/ld-linux-x86-64"))
    refused(127, ["cannot execute", plain, "No such file"], plain, "touch", "1", "1")
    with open(plain, "r+b"):
        refused(126, ["cannot execute", plain, "busy"], plain, "touch", "1", "1")
    if STATIC[-1] != "-":
        refused(126, ["statically", "dynamic"], STATIC, "touch", "1", "1")


def program_sees_the_machine():
    """A program that sizes itself gets the same values as natively: the manual says so, and names the flags to give."""
    argv = ["sh", "-c", "getconf _PHYS_PAGES; grep MemTotal /proc/meminfo; cat /proc/self/cgroup; ulimit -a"]
    check(quire("--memory", "64M", "--report", "none", *argv) == run(argv), run(argv))


def set_uid():
    if not ROOT:
        raise cases.Skip("making a set-uid program needs root")
    copy = os.path.join(FOLDER, "setuid")
    shutil.copy(HELPER, copy)
    os.chmod(copy, 0o4755)
    os.chmod(FOLDER, 0o755)
    status, _, err = run(NOBODY + [QUIRE, "run", copy, "touch", "1", "1"])
    check(status == 126 and "set-uid" in err and err.count("\n") == 1, status, err)
    os.chmod(copy, 0o755)
    try:
        os.setxattr(copy, "security.capability", struct.pack("<5I", 0x02000000, 1 << 13, 0, 0, 0))
    except OSError:
        return
    status, _, err = run(NOBODY + [QUIRE, "run", copy, "touch", "1", "1"])
    check(status == 126 and "capabilities" in err and err.count("\n") == 1, status, err)


def no_permission():
    if not ROOT:
        raise cases.Skip("becoming somebody without rights needs root")
    with open("/proc/sys/vm/unprivileged_userfaultfd") as f:
        if f.read().strip() != "0":
            raise cases.Skip("everybody may use userfaultfd here")
    if os.path.exists("/dev/userfaultfd") and os.stat("/dev/userfaultfd").st_mode & 0o006:
        raise cases.Skip("everybody may open /dev/userfaultfd here")
    status, out, err = run(NOBODY + [QUIRE, "run", "--memory", "64M", "true"])
    check(status == 125 and err.count("\n") == 1, status, err)
    for word in ("vm.unprivileged_userfaultfd", "/dev/userfaultfd"):
        check(word in err, err)
    status, out, err = run(NOBODY + [QUIRE, "check"])
    check(status == 125 and "vm.unprivileged_userfaultfd" in err, status, out, err)


def device_permission():
    """An ordinary user with access to /dev/userfaultfd: a node of the same device is mounted over it in a separate
    mount namespace."""
    if not ROOT:
        raise cases.Skip("making a device node needs root")
    if not os.path.exists("/dev/userfaultfd"):
        raise cases.Skip("no /dev/userfaultfd")
    node, dev = os.path.join(FOLDER, "device"), os.stat("/dev/userfaultfd").st_rdev
    os.chmod(FOLDER, 0o755)
    script = ("mknod %s c %d %d && chmod 666 %s && mount --bind %s /dev/userfaultfd && exec \"$@\""
              % (node, os.major(dev), os.minor(dev), node, node))
    argv = ["unshare", "-m", "sh", "-c", script, "sh"]
    if run(argv + ["sh", "-c", "test -c /dev/userfaultfd"])[0] != 0:
        raise cases.Skip("no mount space of our own")
    os.unlink(node)
    status, out, err = run(argv + NOBODY + [QUIRE, "run", "--memory", "8M", "--report", "json", HELPER, "children", "3", "3000"])
    check(status == 0 and out.count("touched 3000 pages") == 3, status, out, err)
    check('"pages_out":0,' not in err, err)


def nested():
    status, _, err = quire("--memory", "64M", "--report", "none", QUIRE, "run", "true")
    check(status == 125 and err.count("\n") == 1 and "inside" in err, status, err)


# ---- ends ----
def exit_status():
    for n in (0, 1, 3, 127, 255):
        check(quire("--report", "none", "sh", "-c", "exit %d" % n)[0] == n)
    for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGPIPE, signal.SIGRTMIN):
        status, _, _ = quire("--report", "none", "sh", "-c", "ulimit -c 0; kill -%d $$" % s)
        check(status == -s, s, status)
    shell = run(["sh", "-c", '"$0" run --report none sh -c "kill -9 \\$\\$"; exit $?', QUIRE])
    check(shell[0] == 137, shell)


def file_size_limit_inside():
    """ulimit -f in the program once limited the swap file, too: pages were lost (SIGBUS), or a storing thread got SIGXFSZ."""
    for limit in ("0", "100", "20000"):
        status, out, err = quire("--memory", "8M", "--pool", "1M", "--swap", "/var/tmp:40M", "sh", "-c", 'ulimit -f %s; exec "$0" fill | cat' % limit,
                                 HELPER)
        check(status == 0 and "\n0 wrong pages\nand again\n" in out and "I/O error" not in err, limit, status, out, err)
        status, out, err = quire("--memory", "8M", "--pool", "1M", "sh", "-c", 'ulimit -f %s; exec "$0" children 3 4000' % limit, HELPER)
        check(status == 0 and out.count("touched 4000 pages") == 3 and "I/O error" not in err, limit, status, out, err)
    small = ["sh", "-c", "ulimit -f 8; head -c 100000 /dev/zero > '%s'; echo $?; wc -c < '%s'" % ((os.path.join(FOLDER, "small"),) * 2)]
    check(run(small)[:2] == quire("--memory", "8M", "--report", "none", *small)[:2], "the program's own limit")


def file_size_limit_moves():
    """A thread of the program lowers the limit during a write: the swap file once failed, or the program got SIGXFSZ."""
    program = """
import os, resource, threading
ended, unlimited = [], resource.RLIM_INFINITY
def limits():
    while not ended:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited))
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
t = threading.Thread(target=limits)
t.start()
try:
    blocks = [os.urandom(1 << 16) for _ in range(300)]
    sums = [sum(b[::997]) for b in blocks]
    bad = sum(sum(b[::997]) != s for b, s in zip(blocks, sums))
finally:
    ended.append(1)
t.join()
print(bad)
"""
    where = os.path.join(FOLDER, "limits")
    status, out, err = quire("--memory", "12M", "--pool", "1M", "--swap", "/var/tmp:100M", "--report", "json:" + where, sys.executable, "-c", program)
    with open(where) as f:
        errors = json.load(f)["io_errors"]
    check((status, out, err, errors) == (0, "0\n", "", 0), status, out, err, errors)


def no_number_for_a_child():
    """The hard limit is used up, so there is no descriptor for a child's connection: the child once ended by SIGABRT."""
    program = """
import os, resource
memory = [bytearray(os.urandom(4096) * 256) for _ in range(16)]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True: os.dup(1)
except OSError: pass
try:
    pid = os.fork()
    if pid == 0: os._exit(0)
    print(os.waitpid(pid, 0)[1])
except BlockingIOError as e: print(e)
"""
    got, out, err = quire("-m", "8M", "--report", "none", "--", "python3", "-c", program)
    check((got, out) == (0, "[Errno 11] Resource temporarily unavailable\n"), got, out, err)
    check(err.startswith("quire: a fork was refused: no descriptor is left for it") and err.count("\n") == 1, err)


def no_process_vm_readv():
    """Some sandboxes forbid the call. Pages shared with a child were then read through a file, whose descriptor was
    one of the program's numbers. For a moment before a fork, the child's connection has such numbers (man quire): no number
    is taken here while a thread forks."""
    program = """
import ctypes, mmap, os, threading
libc = ctypes.CDLL(None)
memory, ended = [bytearray(os.urandom(4096) * 256) for _ in range(10)], []
asked, paused, forked = [threading.Event() for _ in range(3)]
memory += [mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(4)]
def numbers():
    seen = set()
    while not ended:
        if asked.is_set():
            asked.clear()
            paused.set()
            forked.wait()
            forked.clear()
        fd = os.open('/dev/null', os.O_RDONLY)
        seen.add(fd)
        os.close(fd)
    print(len(seen))
r, w = os.pipe()
t = threading.Thread(target=numbers)
t.start()
pids = []
for i in range(8):
    for x in memory: x[::4096] = bytes([i]) * len(x[::4096])
    asked.set()
    paused.wait()
    paused.clear()
    pids.append(os.fork())
    if pids[-1] == 0:
        os.close(w)
        os.read(r, 1)
        os._exit(sum(x[::4096] == bytes([i]) * len(x[::4096]) for x in memory))
    forked.set()
    for x in memory[10:]:   # MADV_PAGEOUT, by a call that lets the other thread run
        libc.madvise(ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(x))), 1 << 20, 21)
ended.append(1)
t.join()
os.close(w)
print([os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids])
"""

    def forbid():
        libc = ctypes.CDLL(None, use_errno=True)
        code = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 310, 6, 0, 0, 0x00050001, 6, 0, 0, 0x7fff0000)
        held = ctypes.create_string_buffer(code, len(code))
        libc.prctl(38, 1, 0, 0, 0)
        if libc.prctl(22, 2, struct.pack("HxxxxxxP", 4, ctypes.addressof(held)), 0, 0) != 0:
            os._exit(9)
    for memory in ("24M", "64M"):
        got = run([QUIRE, "run", "--memory", memory, "--report", "none", sys.executable, "-c", program], preexec_fn=forbid)
        check(got == (0, "1\n%s\n" % ([14] * 8), ""), memory, got)


def killed_program():
    p = start([QUIRE, "run", "--memory", "8M", HELPER, "loop", "2500"])
    ready(p)
    os.kill(child_of(p.pid), signal.SIGKILL)
    status, _, err = finish(p)
    check(status == -signal.SIGKILL and "needed" in err, status, err)


def empty_environment():
    """execve() was once not found among the system-call sites: a program started with an empty environment ran without limits."""
    for how in ('env -i "$0" touch 4000 3', "exec env -i sh -c 'exec \"$0\" touch 4000 3' \"$0\""):
        where = os.path.join(FOLDER, "report")
        status, out, err = quire("--memory", "8M", "--report", "json:" + where, "sh", "-c", how, HELPER)
        check(status == 0 and out == "touched 4000 pages\n" and err == "", how, status, out, err)
        with open(where) as f:
            check(json.load(f)["pages_out"] > 1000, how, "was not hosted")


def large_environment():
    """Ten thousand variables are assembled on the stack of the calling thread: posix_spawn's stack is small."""
    env = {"VARIABLE_%d" % i: str(i) for i in range(10000)}
    script = "import os, sys; pid = os.posix_spawn(sys.argv[1], ['env'], os.environ); sys.exit(os.waitpid(pid, 0)[1])"
    p = subprocess.run([QUIRE, "run", "--memory", "64M", "--report", "none", sys.executable, "-c", script, shutil.which("env")],
                       env=dict(ENV, **env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
    lines = p.stdout.decode().splitlines()
    check(p.returncode == 0 and p.stderr == b"", p.returncode, p.stderr)
    check(all("%s=%s" % v in lines for v in env.items()) and sum(x.startswith("QUIRE_FAMILY=") for x in lines) == 1, len(lines))


def killed_before_joining():
    """The supervisor is killed while the loader of its program runs: the program once continued without a limit."""
    pipe = os.path.join(FOLDER, "pipe")
    os.mkfifo(pipe)

    def let_go():
        """The loader waits at the second library that it shall preload: for us to open it."""
        until(lambda: opens(pipe), "the loader comes")

    def opens(path):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            return True
        except OSError:
            return False
    p = subprocess.Popen([QUIRE, "run", "--memory", "8M", HELPER, "signal"], env=dict(ENV, LD_PRELOAD=pipe), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: [c for c in marked() if c != p.pid and os.readlink("/proc/%d/exe" % c) == HELPER], "the program is executed")
    p.kill()
    p.wait()
    let_go()
    out, err = p.communicate(timeout=TIMEOUT)
    check(out == b"" and b"quire: quire run has ended" in err, out, err)
    gone()


def killed_while_starting():
    """A service thread that received the end, or a request for memory, just after its start once took it for its own
    end, and faults were no longer served."""
    for i in range(80):
        p = start([QUIRE, "run", "--memory", "8M", "--report", "none", HELPER, "signal"])
        end = time.monotonic() + i * 0.0001
        while time.monotonic() < end:
            pass
        p.kill()
        finish(p, 10)
    gone()


def left_over_variable():
    """A process keeps the environment of a family that no longer exists: no reason to refuse a call. If the family is
    its own, it is refused."""
    env = "LD_PRELOAD=%s/libquire-run.so QUIRE_FAMILY=" % os.path.dirname(QUIRE)
    touch = ' exec "$0" touch 10 1'
    token = "0123456789abcdef" * 2
    for value in ("9:f00d:%s:1" % token, "0:0:%s:1" % token, "0:f00d::1", "9:f00d:%s:" % token, "quire-1-00000000:0:1", "9", "", ":::", "x" * 300):
        got = run(["sh", "-c", env + value + touch, HELPER])
        check(got == (0, "touched 10 pages\n", ""), value, got)
    for value in ("9:f00d:%s:$$" % token, "0:0:%s:$$" % token):
        status, out, err = run(["sh", "-c", env + value + touch, HELPER])
        check(status == 125 and out == "" and "has ended" in err and err.count("\n") == 1, value, status, out, err)
    got = run(["sh", "-c", env + '9:f00d:%s:1 exec "$0" run --memory 8M --report none "$1" touch 10 1' % token, QUIRE, HELPER])
    check(got == (0, "touched 10 pages\n", ""), got)


def killed_supervisor():
    for argv in ([HELPER, "loop", "2500"], [HELPER, "signal"], ["sh", "-c", '"$0" loop 2500 & "$0" loop 2500; wait', HELPER]):
        where = tempfile.mkdtemp(dir=FOLDER)
        p = start([QUIRE, "run", "--memory", "16M", "--swap", where] + argv)
        ready(p)
        p.kill()
        p.wait()
        gone()
        check(os.listdir(where) == [])
        p.communicate()


def network_space():
    """A program in another network namespace once did not find the family's socket, and ran without a limit."""
    if run(["unshare", "-n", "true"])[0] != 0:
        raise cases.Skip("no network name space of our own")
    where = os.path.join(FOLDER, "report")
    for argv in (["touch", "6000", "2"], ["children", "3", "3000"]):
        status, out, err = quire("--memory", "8M", "--report", "json:" + where, "unshare", "-n", HELPER, *argv)
        check(status == 0 and err == "" and out.count("touched") == (1 if argv[0] == "touch" else 3), argv, status, out, err)
        with open(where) as f:
            check(json.load(f)["pages_out"] > 1000, argv, "was not hosted")
    p = start([QUIRE, "run", "--memory", "16M", "unshare", "-n", HELPER, "loop", "2500"])
    ready(p)
    p.kill()
    finish(p)


def killed_over_a_space_of_numbers():
    """The first process of a PID namespace is not killed by signals from within: it once continued without a limit,
    its service thread spinning."""
    if run(["unshare", "-p", "-f", "true"])[0] != 0:
        raise cases.Skip("no space of process numbers of our own")
    for argv in ([HELPER, "loop", "2500"], [HELPER, "signal"]):
        p = start([QUIRE, "run", "--memory", "16M", "unshare", "-p", "-f"] + argv)
        ready(p)
        p.kill()
        finish(p)
        gone()


def stopped_supervisor():
    """Without a packer, the program packs its pages itself and continues. (A packer stopped while it holds the
    store's lock makes all processes wait.)"""
    def ticks(pid):
        with open("/proc/%d/stat" % pid) as f:
            return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
    p = start([QUIRE, "run", "--memory", "8M", "--report", "none", HELPER, "loop", "4000"])
    ready(p)
    child = child_of(p.pid)
    for _ in range(6):
        p.send_signal(signal.SIGSTOP)
        until(lambda: state(p.pid) == "T", "stops")
        now = began = ticks(child)
        worked = False
        while not worked and within(5, lambda: ticks(child) > now):     # on a busy machine a second of work takes long
            now = ticks(child)
            worked = now > began + os.sysconf("SC_CLK_TCK")
        p.send_signal(signal.SIGCONT)
        if worked:
            break
    check(worked, "it waits for the supervisor")
    p.send_signal(signal.SIGTERM)
    status, out, _ = finish(p)
    check(status == -signal.SIGTERM and "wrong" not in out, status, out)


def few_descriptors():
    """The supervisor once ran out of descriptors, and spun while the program waited for its answer."""
    for n in range(4, 10):
        status, out, err = run(["sh", "-c", 'ulimit -n %d; exec "$0" run --report none sh -c "echo hi"' % n, QUIRE])
        check((status, out) in ((125, ""), (0, "hi\n")) and (status == 0) == (err == ""), n, status, out, err)
        check(status == 0 or err.count("\n") == 1 and "ulimit -Hn" in err, n, err)
    status, out, err = run(["sh", "-c", 'ulimit -Sn 8; exec "$0" run --report none sh -c "ulimit -n"', QUIRE])
    check(status == 0 and out == "8\n" and err == "", status, out, err)


def fewer_descriptors_than_stores():
    """poll() refuses more entries than the limit of open files, even entries without a file: the supervisor once
    polled in vain forever."""
    for n in (16, 20, 64, 128):
        status, out, err = run(["sh", "-c", 'ulimit -n %d; exec "$0" run -m 8M --report none "$1" touch 4000 2' % n, QUIRE, HELPER])
        check((status, out) in ((125, ""), (0, "touched 4000 pages\n")) and (status == 0) == (err == ""), n, status, out, err)
        check(status == 0 or (n == 16 and "ulimit -Hn" in err), n, err)


def fewer_descriptors_than_users():
    """Further stores took the descriptors that were set aside for processes: forked children were killed without a
    line, and the line for a program that was executed named the number of users."""
    if not ROOT:
        raise cases.Skip("only root may change users")
    program = """
import os, subprocess, sys
r, w = os.pipe()
ready, said = os.pipe()
pids = []
for i in range(24):
    pids.append(os.fork())
    if pids[-1] == 0:
        os.close(w)
        os.setresgid(2000 + i, 2000 + i, 2000 + i)
        os.setresuid(2000 + i, 2000 + i, 2000 + i)
        os.write(said, b"x")
        os.read(r, 1)
        os._exit(0)
for i in pids: os.read(ready, 1)
p = subprocess.run(["setpriv", "--reuid", "3000", "--regid", "3000", "--clear-groups", "echo", "hi"], stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE)
os.close(w)
print([os.waitpid(p, 0)[1] for p in pids] == [0] * 24, p.returncode, p.stdout, p.stderr.decode(), end="")
"""
    for n, few in ((60, True), (600, False)):
        status, out, err = run(["sh", "-c", 'ulimit -n %d; exec "$0" run -m 64M --report none "$1" -c "$2"' % n, QUIRE, sys.executable, program])
        refused = "True 125 b'' quire: quire run has no descriptor left for one more process"
        check(status == 0 and out.startswith(refused if few else "True 0 b'hi\\n' ") and out.count("\n") == few, n, status, out)
        check(err.count("\n") == few and err.startswith("quire: a process that gave up rights is not hosted any more: quire run has no "
                                                        "descriptor left" if few else ""), n, err)


def valgrind():
    """Its memcheck first reported some 250 lines on the runtime's start. Valgrind names its libraries in the environment of a program."""
    folder = os.path.join(FOLDER, "valgrind")
    os.mkdir(folder)
    library = os.path.join(folder, "vgpreload_core-amd64-linux.so")
    shutil.copy("/lib/x86_64-linux-gnu/libm.so.6", library)
    status, out, err = run(["env", "LD_PRELOAD=" + library, QUIRE, "run", "--report", "none", HELPER, "touch", "1"])
    check((status, out) == (125, "") and err.startswith("quire: valgrind has no userfaultfd") and "without quire" in err and err.count("\n") == 1,
          status, out, err)
    if shutil.which("valgrind") is not None:
        status, out, err = quire("--report", "none", "valgrind", HELPER, "touch", "1")
        said = [i for i, line in enumerate(err.splitlines()) if line.startswith("quire: valgrind")]
        check((status, out, len(said)) == (125, "", 1) and said[0] < 10 and "Invalid" not in err, status, out, err)


def few_processes():
    """If no thread can be made, the line once named a lack of tables, or the child ended by a panic."""
    pids, touched = "/sys/fs/cgroup/pids/quire-test-%d" % os.getpid(), "touched 2500 pages\n"
    try:
        os.mkdir(pids)
    except OSError as e:
        raise cases.Skip("no group of processes can be made here: %s" % e)
    try:
        for most in range(1, 8):
            with open(pids + "/pids.max", "w") as f:
                f.write(str(most))
            inside = ["sh", "-c", 'echo $$ > %s/cgroup.procs; exec "$@"' % pids, "sh", QUIRE, "run", "-m", "8M", "--report", "none", HELPER]
            status, out, err = run(inside + ["touch", "2500", "2"])
            check((status, out, err) == (0, touched, "") or (status != 0 and err.count("\n") == 1 and "ulimit -u" in err), most, status, out, err)
            encrypted = inside[:-1] + ["--encrypt", HELPER, "touch", "2500", "2"]     # by another process
            status, out, err = run(encrypted)
            check((status, out, err) == (0, touched, "") or (status != 0 and err.count("\n") == 1 and "ulimit -u" in err), most, status, out, err)
            status, out, err = run(inside + ["children", "2", "2500"])      # that a fork fails is the program's to say
            check(out in ("", touched, touched * 2) and all("ulimit -u" in line for line in err.splitlines()), most, status, out, err)
            gone()
    finally:
        tidy.remove_cgroup(pids)


def full_family():
    """A program could once not be executed in a full family, as the room of the executing process was given back too late."""
    script = ("i=0; while [ $i -lt 505 ]; do sleep 1000 & i=$((i+1)); done; i=0; "
              "while [ $i -lt 100 ]; do (exec true) || echo no; i=$((i+1)); done; kill $(jobs -p); wait; echo done")
    status, out, err = quire("--memory", "64M", "--report", "none", "bash", "-c", script)
    check((status, out, err) == (0, "done\n", ""), status, out[-300:], err[-300:])


def killed_test():
    """A killed run of this test leaves no mounts, folders or processes."""
    if "QUIRE_KILLED" in os.environ:
        if ROOT:
            tmpfs("1m")
        start([QUIRE, "run", "--memory", "8M", HELPER, "signal"])
        p = start(["sleep", "1000"], start_new_session=True)
        print(FOLDER, p.pid, flush=True)
        p.wait()
    env = dict(ENV, QUIRE_KILLED="1")
    p = subprocess.Popen([sys.executable] + sys.argv[:4] + ["killed_test"], env=env, stdout=subprocess.PIPE, start_new_session=True)
    folder, pid = p.stdout.readline().split()
    os.killpg(p.pid, signal.SIGKILL)
    p.communicate()
    until(lambda: not os.path.exists(folder) and not os.path.exists(b"/proc/" + pid), "what it left is taken away")
    with open("/proc/self/mounts", "rb") as mounts:
        check(folder not in mounts.read(), "mounted")


def killed_by_group():
    p = start([QUIRE, "run", "--memory", "8M", HELPER, "loop", "2500"], start_new_session=True)
    ready(p)
    os.killpg(p.pid, signal.SIGKILL)
    finish(p)


def forwarded_signals():
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        p = start([QUIRE, "run", "--memory", "8M", "--report", "none", HELPER, "signal"])
        ready(p)
        p.send_signal(s)
        status, _, _ = finish(p)
        check(status == 40 + s, s, status)
    # a group that has a parent in its session: processes of an orphaned group do not stop
    p = start([QUIRE, "run", "--memory", "8M", "--report", "none", HELPER, "loop", "2500"], preexec_fn=lambda: os.setpgid(0, 0))
    ready(p)
    child = child_of(p.pid)
    p.send_signal(signal.SIGTSTP)
    until(lambda: state(p.pid) == "T" and state(child) == "T", "both stop")
    p.send_signal(signal.SIGCONT)
    until(lambda: state(p.pid) != "T" and state(child) != "T", "both go on")
    p.send_signal(signal.SIGTERM)
    check(finish(p)[0] == -signal.SIGTERM)


def job_control():
    """^Z, fg and ^C of an interactive shell."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(ENV, PS1="$ ", ENV="", HISTFILE="")
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])

    def write(text):
        os.write(fd, text.encode())
    try:
        write("%s run --memory 8M --report none %s loop 2500; echo status=$?\n" % (QUIRE, HELPER))
        ready(None, b"ready\r\n", fd)
        write("\x1a")
        ready(None, b"Stopped", fd)
        quires = [p for p in marked() if os.readlink("/proc/%d/exe" % p) in (QUIRE, HELPER) and not is_keeper(p)]
        check(len(quires) == 2 and all(state(p) == "T" for p in quires), quires)
        write("fg; echo status=$?\n")
        until(lambda: all(state(p) != "T" for p in quires), "both go on")
        write("\x03")
        ready(None, b"$ ", fd)      # the shell drops the rest of the line, as for any program
        write("echo now=$?\n")
        ready(None, b"now=130", fd)
        write("%s run --memory 8M --report none %s signal; echo status=$?\n" % (QUIRE, HELPER))
        ready(None, b"ready\r\n", fd)
        write("\x03")
        ready(None, b"status=42", fd)
        write("exit\n")
    finally:
        os.close(fd)
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError:
            pass
        os.waitpid(pid, 0)


def daemons():
    """The program ends and its child continues: the limit stays in force, and no process is left when the child ends."""
    for number in range(10):
        one_daemon(os.path.join(FOLDER, "daemon-out%d" % number))


def one_daemon(where):
    script = ('("$0" touch 5000 3 > "$1" 2>&1 < /dev/null; "$0" children 2 2000 >> "$1"; echo done >> "$1") > /dev/null 2>&1 & exit 7')
    status, out, err = quire("--memory", "8M", "--report", "none", "sh", "-c", script, HELPER, where)
    check(status == 7, status, err)
    until(lambda: os.path.exists(where) and "done" in open(where).read(), "the child ends")
    check(open(where).read() == "touched 5000 pages\ntouched 2000 pages\ntouched 2000 pages\ndone\n", open(where).read())


def rest_of(pid, fd):
    """(status, all output to its terminal from now on)"""
    out, end = b"", time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            piece = os.read(fd, 4096)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.close(fd)
    return os.waitpid(pid, 0)[1], out


def on_terminal(columns, *argv):
    """(status, all output to a terminal of that width)"""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(ENV)
        while os.get_terminal_size(2).columns != columns:
            pass
        os.execv(QUIRE, [QUIRE, "run"] + list(argv))
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return rest_of(pid, fd)


def live_narrow():
    """A line longer than the terminal's width once continued in the next line, and each refresh left a line behind."""
    for columns, shown in ((20, rb"quire: [0-9.]+ MiB of"), (40, rb"quire: [0-9.]+ MiB of 8 MiB( \| [0-9]+ faults/s)?"),
                           (60, rb"quire: [0-9.]+ MiB of 8 MiB \| [0-9]+ faults/s"), (200, rb"quire: .* \| swapped [0-9.]+ [KMG]?i?B")):
        status, out = on_terminal(columns, "--memory", "8M", "--live", "--report", "none", "sh", "-c", '"$0" touch 8000 10 > /dev/null', HELPER)
        lines = re.findall(rb"\r\x1b\[K([^\r]+)", out)
        check(status == 0 and out.endswith(b"\r\x1b[K") and lines, columns, status, out)
        for line in lines:
            check(len(line) < columns and re.match(shown, line), columns, line)


def live_line():
    """A terminal gets the live line, refreshed in place and erased at the end; a pipe gets none."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(ENV)
        os.execv(QUIRE, [QUIRE, "run", "--memory", "8M", "--live", "--report", "none", HELPER, "touch", "8000", "12"])
    status, out = rest_of(pid, fd)
    check(status == 0, out)
    check(re.search(rb"\r\x1b\[Kquire: [0-9.]+ MiB of 8 MiB \| [0-9]+ faults/s", out), out)
    check(out.endswith(b"\r\x1b[K"), out[-80:])
    status, _, err = quire("--memory", "8M", "--live", "--report", "none", HELPER, "touch", "4000", "2")
    check(status == 0 and err == "", err)


CASES = [sizes, check_command, report_paths, json_endings, swap_places, options_without_a_far_place, small_stack, swap_in_memory, disk_fills_at_start, full_standard_error, full_standard_output, address_space, no_proc, left_over_temporary_place, other_root,
         swap_file_is_unnamed, swap_small_file_system, swap_full, disk_fills_midway,
         damaged_swap, programs, program_sees_the_machine, set_uid, no_permission, device_permission, nested, exit_status, killed_program, no_number_for_a_child, no_process_vm_readv, empty_environment, file_size_limit_inside,
         file_size_limit_moves,
         large_environment, killed_before_joining, killed_while_starting, left_over_variable, killed_supervisor, network_space,
         killed_over_a_space_of_numbers,
         stopped_supervisor, few_descriptors, fewer_descriptors_than_stores, fewer_descriptors_than_users, few_processes, valgrind, full_family, killed_test, killed_by_group, forwarded_signals, job_control, daemons, live_line, live_narrow]


AT_ONCE = 3     # the cases wait most of the time
SLOW = [daemons, live_narrow, no_process_vm_readv, file_size_limit_inside, json_endings]      # long cases start first, so that none of them ends last


def all_cases():
    """Runs each case as if it had been named, and prints their outputs one after another."""
    left, at_work, counts = SLOW + [c for c in CASES if c not in SLOW], [], [0, 0]
    while left or at_work:
        while left and len(at_work) < AT_ONCE:
            at_work.append(subprocess.Popen([sys.executable] + sys.argv + [left.pop(0).__name__], stdout=subprocess.PIPE, env=ENV))
        for p in select.select([p.stdout for p in at_work], [], [])[0]:
            p = next(q for q in at_work if q.stdout is p)
            out = p.communicate()[0].decode()
            at_work.remove(p)
            print(out[:out.rfind("\n", 0, -1) + 1], end="", flush=True)
            summary = re.search(r"^([0-9]+) failed, ([0-9]+) skipped\n\Z", out, re.M)
            if summary is None:
                print("FAIL  %s: ends with status %s and %s" % (p.args[-1], p.returncode, out))
            counts = [a + int(b) for a, b in zip(counts, summary.groups() if summary else (1, 0))]
    print("%d failed, %d skipped" % tuple(counts))
    return 1 if counts[0] else 0


if __name__ == "__main__":
    tidy.leave_nothing(clean)
    sys.exit(cases.run(CASES, sys.argv[4:], after=gone, mark=MARK) if sys.argv[4:] else all_cases())
