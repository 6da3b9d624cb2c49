#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""`quire run` and libquire with the rights of a container's default profile.

    run_container_test.py QUIRE HELPER SANDBOX LIBTEST [CASE ...]

SANDBOX (sandbox.c) takes Docker's default capabilities and denies userfaultfd, io_uring, process_madvise and pidfd_getfd,
once with EPERM and once with ENOSYS. The same programs print the same natively and in each sandbox. If podman and
runc are installed, the recipe of `man quire` runs in their container.
"""

import contextlib
import glob
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import cases
import stacks
import tidy

QUIRE, HELPER, SANDBOX, LIBTEST = (os.path.abspath(p) for p in sys.argv[1:5])
FOLDER = tempfile.mkdtemp(prefix="quire-container-")
CGROUP = "/" + os.path.basename(FOLDER)
LOCKS = "/dev/shm/libpod_lock"
OTHERS = os.path.exists(LOCKS)      # the program also serves containers of other users
MODES = ("none", "eperm", "enosys")
IO_URING = ["-425", "-426", "-427"]
OBJECTS = """
import hashlib, random
r = random.Random(7)
words = ["%d:%s" % (i, r.random()) for i in range(20000)]
table = {w: [i, w[::-1]] for i, w in enumerate(words)}
r.shuffle(words)
print(hashlib.sha256("".join(table[w][1] for w in words).encode()).hexdigest())
"""
PROGRAMS = [[HELPER, "touch", "6000", "3"], [HELPER, "children", "3", "3000"], [sys.executable, "-c", OBJECTS],
            ["sh", "-c", "seq 300000 | shuf --random-source=\"$0\" | sort -S 12M | cksum", "/bin/sh"]]


def run(argv, **kw):
    p = stacks.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120, **kw)
    return p.returncode, p.stdout, p.stderr


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(str(w) for w in what))


def report():
    with open(os.path.join(FOLDER, "report")) as f:
        return json.load(f)


def programs():
    """The output is equal, and pages are swapped: natively, with the capabilities alone, and with each filter."""
    wanted = [run(argv) for argv in PROGRAMS]
    for mode in MODES:
        for argv, want in zip(PROGRAMS, wanted):
            got = run([SANDBOX, mode, QUIRE, "run", "-m", "8M", "--report", "json:" + FOLDER + "/report"] + argv)
            check(got == want, mode, argv, got, want)
            check(report()["pages_out"] > 0, mode, argv, "was not hosted")


def library():
    """libquire's own tests pass with each filter."""
    for mode in MODES[1:]:
        status, out, err = run([SANDBOX, mode, LIBTEST])
        check(status == 0, mode, out[-500:], err[-2000:])


def says():
    """`quire check` names what is missing and what it costs; without the device both commands give the recipe in one line."""
    for mode in MODES:
        status, out, err = run([SANDBOX, mode, QUIRE, "check"])
        check(status == 0 and err == "" and "by /dev/userfaultfd" in out, mode, status, out, err)
        for cost in ("not allowed here: each write of the swap file is waited for", "process_madvise is missing or not allowed here"):
            check((cost in out) == (mode != "none"), mode, cost, out)
    hide = ["unshare", "-m", "sh", "-c", 'mount --bind /dev/null /dev/userfaultfd && exec "$@"', "sh"]
    for mode in MODES[1:]:
        for argv in (["check"], ["run", "true"]):
            status, out, err = run(hide + [SANDBOX, mode, QUIRE] + argv)
            check(status == 125 and out == "" and err.count("\n") == 1 and "--device /dev/userfaultfd" in err, mode, argv, status, out, err)


def cost():
    """The benefit of the calls if all pages go through the swap file. Printed, not asserted."""
    for what, calls in (("io_uring", IO_URING), ("process_madvise", ["-440"])):
        took = {True: [], False: []}
        for _ in range(3):
            for there in (True, False):
                began = time.monotonic()
                status, out, err = run([SANDBOX, "none"] + ([] if there else calls) +
                                       [QUIRE, "run", "-m", "8M", "--pool", "1M", "--swap", ":60M", "--report", "none", HELPER, "fill"])
                took[there].append(time.monotonic() - began)
                check(status == 0 and "\n0 wrong pages\n" in out, what, there, status, out, err)
        print("      without %s %.2f times the time with it (medians of 3: %.2f s, %.2f s)" % (
            what, sorted(took[False])[1] / sorted(took[True])[1], sorted(took[False])[1], sorted(took[True])[1]))


def keeper_ends_without_close_range():
    """If close_range is forbidden, the keeper once held the other end of its own life line, and outlived a killed supervisor."""
    def keepers():
        listed = run(["ps", "-eo", "pid,comm"])[1].splitlines()
        return {int(line.split()[0]) for line in listed if line.split()[1] == "quire-keeper"}

    others = keepers()
    p = subprocess.Popen([SANDBOX, "enosys", "-436", QUIRE, "run", "-m", "8M", "--report", "none", HELPER, "loop", "4000"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    check(p.stdout.readline() == b"ready\n")
    ours = [k for k in keepers() - others if parent(k) == p.pid]
    check(len(ours) == 1, "no keeper", ours)
    end = os.pidfd_open(ours[0])
    p.kill()
    try:
        check(select.select([end], [], [], 60)[0], "the keeper goes on")
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(end, signal.SIGKILL)       # and the program ends with it
        os.close(end)
    p.communicate()


def parent(pid):
    with open("/proc/%d/stat" % pid) as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])


def podman():
    """The recipe, in a container with the profile that Podman ships."""
    if not shutil.which("podman") or not shutil.which("runc"):
        raise cases.Skip("no podman and runc here")
    root, quire = os.path.join(FOLDER, "root"), "/quire/" + os.path.basename(QUIRE)
    for name in ("proc", "sys", "dev", "tmp", "var/tmp", "quire", "etc"):
        os.makedirs(os.path.join(root, name))
    runtime = os.path.join(os.path.dirname(QUIRE), "libquire-run.so")
    for path, where in [(w, w) for w in run(["ldd", HELPER])[1].split() if w.startswith("/")] + \
            [(QUIRE, quire), (runtime, "/quire/libquire-run.so"), (HELPER, "/helper")]:
        os.makedirs(root + os.path.dirname(where), exist_ok=True)
        shutil.copy(path, root + where)
    limit = ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096"]     # podman needs a higher limit than is permitted
    # All processes of a container and its monitor end with podman: they are in a separate PID namespace.
    argv = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] + \
        ["podman", "--root", FOLDER + "/pod", "--runroot", FOLDER + "/podrun", "--tmpdir", FOLDER + "/podtmp", "--cgroup-manager", "cgroupfs",
         "run", "--rm", "--cgroup-parent", CGROUP, "--network", "none", "--runtime", "runc"] + limit
    status, out, err = run(argv + ["--rootfs", root, "/helper", "touch", "10", "1"])
    if status != 0:
        raise cases.Skip("podman cannot run a container here: " + err.strip()[-200:])
    status, out, err = run(argv + ["--rootfs", root, quire, "check"])
    check(status == 125 and "--device /dev/userfaultfd" in err, status, out, err)
    for how in (["--device", "/dev/userfaultfd"], ["--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined"]):
        got = run(argv + how + ["--rootfs", root, quire, "run", "-m", "8M", "--report", "json", "/helper", "touch", "6000", "2"])
        check(got[:2] == (0, "touched 6000 pages\n") and json.loads(got[2])["pages_out"] > 1000, how, got)
    status, out, err = run(argv + ["--memory", "64m", "--device", "/dev/userfaultfd", "--rootfs", root, quire, "check"])
    check(status == 0 and "64 MiB in this machine or container" in out, status, out, err)


def clean():
    """Removes podman's leftovers and the folder."""
    for path in glob.glob("/sys/fs/cgroup" + CGROUP) + glob.glob("/sys/fs/cgroup/*" + CGROUP):      # version 2, version 1
        tidy.remove_cgroup(path)
    if not OTHERS and os.path.exists(LOCKS):
        os.unlink(LOCKS)
    tidy.remove_folder(FOLDER)


CASES = [programs, library, says, keeper_ends_without_close_range, cost, podman]


def main():
    if os.geteuid() != 0 or not os.path.exists("/dev/userfaultfd"):
        print("needs root and /dev/userfaultfd")
        return 77
    if run([SANDBOX, "eperm", "true"])[0] != 0:
        print("no filter can be installed here")
        return 77
    return cases.run(CASES, sys.argv[5:])


if __name__ == "__main__":
    tidy.leave_nothing(clean)
    sys.exit(main())
