#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Only processes of a family can access the memory that the family shares (docs/security.md).

    run_guard_test.py QUIRE HELPER STATIC_HELPER|- HOSTILE [CASE ...]

Intruders of another user and of the same user, invalid greetings, and programs that must stay in the family whatever
they change. Cases that need rights that this user lacks are skipped by name.
"""

import ctypes
import json
import os
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import cases
import reach
import tidy

TIMEOUT = 180
FOLDER = tempfile.mkdtemp(prefix="quire-guard-")
QUIRE, HELPER, STATIC, HOSTILE = (reach.reachable(FOLDER, p) if p != "-" else p for p in sys.argv[1:5])
ROOT = os.geteuid() == 0
USER, OTHER = 65533, 65534
MARK = ("QUIRE_GUARD_MARK", FOLDER)


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(str(w) for w in what))


def start(argv, **kw):
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                            env=dict(os.environ, **dict([MARK])), **kw)


def end(p):
    try:
        os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    p.communicate()


def finish(p):
    try:
        out, err = p.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        end(p)
        raise AssertionError("hangs: %s" % " ".join(p.args))
    return p.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def run(argv, **kw):
    return finish(start(argv, **kw))


def report_of(*argv, memory="8M", **kw):
    """(status, stdout, stderr, the report) of a program under quire run."""
    fd, where = tempfile.mkstemp(dir=FOLDER)
    os.close(fd)
    os.chmod(where, 0o666)
    status, out, err = run([QUIRE, "run", "--memory", memory, "--report", "json:" + where, "--"] + list(argv), **kw)
    with open(where) as f:
        text = f.read()
    return status, out, err, json.loads(text) if text else None


def ready(p):
    got = b""
    while b"ready" not in got:
        check(select.select([p.stdout], [], [], TIMEOUT)[0], "never says ready")
        piece = os.read(p.stdout.fileno(), 4096)
        if not piece:
            raise AssertionError("ends: %s" % (p.communicate(),))
        got += piece


def child_of(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return int(f.read().split()[0])


def as_user(uid):
    """For preexec_fn: drops all rights."""
    def change():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    return change


def device_for_all():
    """argv of a command in a namespace where every user may open the device."""
    node = os.path.join(FOLDER, "device")
    if not os.path.exists("/dev/userfaultfd"):
        raise cases.Skip("no /dev/userfaultfd")
    dev = os.stat("/dev/userfaultfd").st_rdev
    script = 'mknod %s c %d %d 2> /dev/null; chmod 666 %s && mount --bind %s /dev/userfaultfd && exec "$@"' % (
        node, os.major(dev), os.minor(dev), node, node)
    argv = ["unshare", "-m", "sh", "-c", script, "sh"]
    if run(argv + ["true"])[0] != 0:
        raise cases.Skip("no mount space of our own")
    return argv


# ---- intruders ----
def sockets_of(pid):
    found = set()
    for fd in os.listdir("/proc/%d/fd" % pid):
        m = re.match(r"socket:\[(\d+)\]", os.readlink("/proc/%d/fd/%s" % (pid, fd)))
        if m:
            found.add(m.group(1))
    return found


def no_name():
    """User nobody once found the family's socket in /proc/net/unix, connected, and received the family's memory."""
    p = start([QUIRE, "run", "--memory", "8M", HELPER, "loop", "100"])
    try:
        ready(p)
        inodes = sockets_of(p.pid) | sockets_of(child_of(p.pid))
        check(len(inodes) >= 3, "the door, the gate and a connection", inodes)
        seen = 0
        with open("/proc/net/unix") as f:
            for line in f.read().splitlines()[1:]:
                words = line.split()
                if words[6] in inodes:
                    seen += 1
                    check(len(words) == 7, "has a name:", line)
        check(seen >= 3, seen, inodes)
        check(not [n for n in os.listdir("/dev/shm") if "quire" in n], os.listdir("/dev/shm"))
    finally:
        end(p)


INTRUDER = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
got = []
for pid in map(int, sys.argv[1:]):
    for what in ("environ", "fd", "maps", "mem"):
        try:
            path = "/proc/%d/%s" % (pid, what)
            if what == "fd":
                os.listdir(path)
            else:
                open(path, "rb").read(1)
            got.append(path)
        except OSError:
            pass
    for fd in list(range(40)) + list(range(1000, 1040)) + list(range(4090, 4120)):
        try:
            os.close(os.open("/proc/%d/fd/%d" % (pid, fd), os.O_RDWR))
            got.append("open %d of %d" % (fd, pid))
        except OSError:
            pass
        pidfd = libc.syscall(434, pid, 0)
        if pidfd >= 0:
            if libc.syscall(438, pidfd, fd, 0) >= 0:
                got.append("pidfd_getfd %d of %d" % (fd, pid))
            os.close(pidfd)
print(got)
"""


def another_user():
    """Another user gets no object from the supervisor or the program."""
    if not ROOT:
        raise cases.Skip("becoming another user needs root")
    for prefix, kw in (([], {}), (device_for_all(), None)):
        argv = prefix + (["setpriv", "--reuid=%d" % USER, "--regid=%d" % USER, "--clear-groups"] if prefix else [])
        p = start(argv + [QUIRE, "run", "--memory", "8M", HELPER, "loop", "100"])
        try:
            ready(p)
            pids = [str(p.pid), str(child_of(p.pid))]
            got = run([sys.executable, "-c", INTRUDER] + pids, preexec_fn=as_user(OTHER))
            check(got == (0, "[]\n", ""), got)
        finally:
            end(p)


def same_user():
    """An intruder of the same user that is no descendant cannot access the supervisor, which holds the memory shared
    by all processes of the family."""
    if not ROOT:
        raise cases.Skip("becoming another user needs root")
    p = start(device_for_all() + ["setpriv", "--reuid=%d" % USER, "--regid=%d" % USER, "--clear-groups",
                                  QUIRE, "run", "--memory", "8M", HELPER, "loop", "100"])
    try:
        ready(p)
        got = run([sys.executable, "-c", INTRUDER, str(p.pid)], preexec_fn=as_user(USER))
        check(got == (0, "[]\n", ""), got)
    finally:
        end(p)


GREETING = r"""
import array, os, random, socket, struct, sys
gate, cookie, token, pid = os.environ["QUIRE_FAMILY"].split(":")
gate = socket.socket(fileno=os.dup(int(gate)))
words = [int(token[:16], 16), int(token[16:], 16)]
MAGIC = 0x717569726566616d
HELLO = "QQQiIQQ"

def greet(message, *fds):
    gate.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])

def hello(magic=MAGIC, token=words, slot=-1, flags=0, store=0, tag=512):
    return struct.pack(HELLO, magic, token[0], token[1], slot, flags, store, tag)

def pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

def answer(message, mine, other):
    "The first bytes of the answer to a greeting, b'' if turned away, and how many descriptors."
    greet(message, other.fileno())
    other.close()
    try:
        data, fds, _, _ = socket.recv_fds(mine, 65536, 8)
    except ConnectionResetError:
        return b"", 0
    for fd in fds:
        os.close(fd)
    return data[:16], len(fds)
"""


def inside(script):
    return report_of(sys.executable, "-c", GREETING + script, memory="64M")


def greetings():
    """Invalid greetings have no effect and are counted; a valid greeting is answered, whatever came before it."""
    status, out, err, report = inside(r"""
wrong = [hello(magic=MAGIC + 1), hello(token=[words[0], words[1] ^ 1]), hello(token=[words[0] ^ 1, words[1]]),
         hello(token=[0, 0]), hello(flags=8), hello(flags=3, slot=7), hello(flags=4, slot=7), hello(flags=1, slot=-1),
         hello(flags=1, slot=512), hello(flags=1, slot=1 << 30), hello(flags=1, slot=0), hello()[:-1], hello() + b"x", b"x", hello() * 100]
for message in wrong:
    a, b = pair()
    print(answer(message, a, b))
    a.close()
null = os.open("/dev/null", os.O_RDWR)
stream = socket.socketpair()
greet(hello(), null)
greet(hello(), stream[0].fileno())
greet(hello(), *[null] * 8)
greet(b"")
greet(hello())
a, b = pair()
data, n = answer(hello(), a, b)
print(struct.unpack("Qii", data)[0] == MAGIC, n)
""")
    check(status == 0 and err == "", status, out, err)
    lines = out.splitlines()
    check(lines[:-1] == ["(b'', 0)"] * 15, lines)
    check(lines[-1] in ("True 4", "True 5"), lines)
    check(report["turned_away"] == 20, report)


def flood():
    """None of ten thousand greetings without the token gets a slot, and the family keeps working."""
    status, out, err, report = inside(r"""
if os.fork() == 0:
    a, b = pair()
    for i in range(10000):
        greet(random.Random(i).randbytes(i % 64), *([b.fileno()] if i % 3 == 0 else []))
    os._exit(0)
for i in range(20):
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/true", ["true"])
    print(os.waitpid(pid, 0)[1])
print(os.wait()[1])
""")
    check((status, out, err) == (0, "0\n" * 21, ""), status, out, err)
    check(report["turned_away"] == 10000, report)


def gate_of(pid):
    """The gate of a hosted process, and its environment."""
    with open("/proc/%d/environ" % pid, "rb") as f:
        env = dict(v.split("=", 1) for v in f.read().decode().split("\0") if "=" in v)
    cookie, libc = int(env["QUIRE_FAMILY"].split(":")[1], 16), ctypes.CDLL(None)
    process = os.pidfd_open(pid)
    try:
        for number in map(int, os.listdir("/proc/%d/fd" % pid)):
            fd = libc.syscall(438, process, number, 0)  # pidfd_getfd
            if fd >= 0 and stat.S_ISSOCK(os.fstat(fd).st_mode):
                held = socket.socket(fileno=fd)
                if cookie_of(held) == cookie:
                    return held, env
                held.close()
            elif fd >= 0:
                os.close(fd)
    finally:
        os.close(process)
    raise AssertionError("no gate in %d" % pid)


def cookie_of(held):
    return struct.unpack("Q", held.getsockopt(socket.SOL_SOCKET, 57, 8))[0]  # SO_COOKIE


def late_wake_up():
    """
    The kernel wakes the receiver of a message, by a signal, too, after the message can be received. When the welcome
    came through the connection whose signal ends the process, the signal of the welcome ended processes that were
    fast. Here this test is in between, and causes an event on the welcome's socket long after the process has
    continued.
    """
    if not ROOT:
        raise cases.Skip("taking another process's gate needs root")
    p = start([QUIRE, "run", "--memory", "8M", HELPER, "loop", "100"])
    q = None
    try:
        ready(p)
        gate, env = gate_of(child_of(p.pid))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        env["QUIRE_FAMILY"] = "%d:%x:%s:" % (theirs.fileno(), cookie_of(theirs), env["QUIRE_FAMILY"].split(":")[2])
        q = subprocess.Popen(["sh", "-c", "echo ready; read line; exit 7"], env=env, pass_fds=[theirs.fileno()], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, start_new_session=True)
        hello, fds, _, _ = socket.recv_fds(ours, 65536, 1)
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(gate, [hello], [other.fileno()])
        welcome, brought, _, _ = socket.recv_fds(mine, 65536, 8)
        answered = socket.socket(fileno=fds[0])
        socket.send_fds(answered, [welcome], brought)
        for fd in brought:
            os.close(fd)
        ready(q)
        try:
            answered.send(b"x")
        except (BrokenPipeError, ConnectionResetError):
            pass  # a closed socket has no events
        q.communicate(timeout=TIMEOUT)
        check(q.returncode == 7, q.returncode)
    finally:
        end(p)
        if q is not None:
            end(q)


def silent():
    """Silent connections do not delay other processes; each connection belongs to one process and ends with it."""
    status, out, err, _ = inside(r"""
held = []
for i in range(100):
    a, b = pair()
    greet(hello(), b.fileno())
    b.close()
    held.append(a)      # the answer is never read
pid = os.fork()
if pid == 0:
    os.execv("/bin/echo", ["echo", "works"])
print(os.waitpid(pid, 0)[1])
""")
    check((status, out, err) == (0, "works\n0\n", ""), status, out, err)


# ---- programs that must stay in the family ----
def stays(argv, what=("touch", "6000", "2"), times=1, **kw):
    status, out, err, report = report_of(*argv, HELPER, *what, **kw)
    check(status == 0 and err == "" and out.count("touched") == times, argv, status, out, err)
    check(report["pages_out"] > 1000 * times, argv, "was not hosted:", report["pages_out"])


def stay_in():
    """Programs that change any attribute that a process can change of itself stay hosted."""
    ways = [["env", "-i"], ["setsid", "-w"], ["sh", "-c", 'exec "$@" 3>&- 4>&-', "sh"], ["nice"], ["bash", "-c", '(exec -c "$@")', "bash"]]
    spaces = [["unshare", "-n"], ["unshare", "-p", "-f"], ["unshare", "-m"], ["unshare", "-i", "-u"], ["unshare", "-U"], ["unshare", "-r", "-n"],
              ["unshare", "-n", "-p", "-f", "env", "-i"], ["unshare", "-p", "-f", "--mount-proc"]]
    for argv in ways:
        stays(argv)
    for argv in spaces:
        if run(argv + ["true"])[0] == 0:
            stays(argv)
    stays([], ("children", "3", "3000"), 3)
    stays(["unshare", "-n"] if ROOT else [], ("children", "3", "3000"), 3)


def stay_in_through_unhosted():
    """A program that is not hosted, as it is statically linked, is in between."""
    if STATIC == "-":
        raise cases.Skip("no static programs")
    stays(["env", STATIC, "execute"])
    stays(["sh", "-c", '"$0" "$@"; exit $?', STATIC, "execute", "env", "-i"])
    stays(["setsid", "-w", STATIC, "execute", STATIC, "execute"])


def static_program_closes_all():
    """
    The program also closes the gate: the program that it executes is ended. A program that it starts is not hosted,
    and counts as unhosted (run_unhosted). A hosted program cannot close the gate.
    """
    if STATIC == "-":
        raise cases.Skip("no static programs")
    stays([HELPER, "closing"])
    stays([HELPER, "become"])
    status, out, err, report = report_of("env", STATIC, "become", HELPER, "touch", "6000", "2")
    check(status == 125 and out == "" and "quire: quire run has ended, so this program ends" in err, status, out, err)


def stay_in_as_another():
    """Another user, fewer rights, another root directory."""
    if not ROOT:
        raise cases.Skip("becoming another user needs root")
    for argv in (["setpriv", "--reuid=%d" % OTHER, "--regid=%d" % OTHER, "--clear-groups"],
                 ["setpriv", "--bounding-set=-all", "--inh-caps=-all"], ["setpriv", "--no-new-privs"], ["chroot", "/"],
                 ["chroot", "--userspec=%d:%d" % (OTHER, OTHER), "/", "env", "-i"]):
        if run(argv + ["true"])[0] == 0:
            stays(argv)
            stays(argv, ("children", "2", "3000"), 2)


DAEMON = r"""
import os, sys
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(r)
        os.set_inheritable(w, True)
        os.execv(sys.argv[1], [sys.argv[1]] + sys.argv[2:])
    os._exit(0)
os.wait()
os.close(w)
os.read(r, 1)
"""


def stay_in_as_daemon():
    """A process whose parent has ended still belongs to the family; so does a program that it executes after the
    family's program has ended."""
    stays([sys.executable, "-c", DAEMON])
    where = os.path.join(FOLDER, "late")
    script = ('(while kill -0 $1; do sleep 0.05; done; (setsid "$2" touch 6000 2 & wait) > "$0.out" 2> "$0.err"; cat /proc/$$/status > /dev/null; '
              'echo $? > "$0") > /dev/null 2>&1 & exit 0')
    p = start([QUIRE, "run", "--memory", "8M", "--report", "none", "sh", "-c", 'sh -c "$3" "$0" $$ "$2"', where, "-", HELPER, script])
    status, _, err = finish(p)
    check(status == 0, status, err)
    limit = time.monotonic() + TIMEOUT
    while not os.path.exists(where) and time.monotonic() < limit:
        time.sleep(0.02)
    with open(where + ".out") as out, open(where + ".err") as err:
        check((out.read(), err.read()) == ("touched 6000 pages\n", ""), "the late one")


# ---- rights within a family ----
STORES = r"""
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)

def store():
    "What this process has of a family: the inodes of the store's mapping, of its descriptor, and of the swap file."
    maps = [line.split()[4] for line in open("/proc/self/maps") if "memfd:quire-store" in line]
    found = sorted(set(maps))
    for fd in sorted(int(f) for f in os.listdir("/proc/self/fd")):
        try:
            name, inode = os.readlink("/proc/self/fd/%d" % fd), os.fstat(fd).st_ino
        except OSError:
            continue
        if "quire-store" in name or (fd > 900 and name.endswith(" (deleted)") and "memfd" not in name):
            found.append(str(inode))
    return found

def users():
    "The users of all threads of this process that stay. A thread that ends is listed a moment longer, with what it was."
    limit = time.monotonic() + 20
    while True:
        found = set()
        for task in os.listdir("/proc/self/task"):
            try:
                with open("/proc/self/task/%s/status" % task) as f:
                    found |= {int(line.split()[1]) for line in f if line.startswith("Uid:")}
            except (FileNotFoundError, ProcessLookupError):
                pass
        if len(found) == 1 or time.monotonic() > limit:
            return sorted(found)
        os.sched_yield()

def child(work):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            if filled() != memory:
                raise ValueError("memory is not what it was")
            os.write(w, repr((store(), users())).encode())
        except BaseException as e:
            os.write(w, repr((str(e), 0)).encode())
        os._exit(0)
    os.close(w)
    got = b""
    while piece := os.read(r, 65536):
        got += piece
    os.close(r)
    os.waitpid(pid, 0)
    return eval(got)

def filled():
    return [bytes([i % 251]) * 4096 for i in range(%PAGES%)]

def drop():
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)

memory = filled()
mine = store()
print(len(mine) == 3 and mine[0] == mine[1])

def tell(what, got):
    print(what, got[0] if isinstance(got[0], str) else "none" if not got[0] else "same" if got[0] == mine else
          "other" if len(got[0]) == 3 and got[0][0] == got[0][1] and not set(got[0]) & set(mine) else got, got[1])
"""


def rights(script, memory, pages):
    return report_of(sys.executable, "-c", STORES.replace("%PAGES%", str(pages)) + script, memory=memory)


def gives_up_rights():
    """A child that gave up root could once go on reading all pages that root's processes stored; its service thread
    was still root."""
    if not ROOT:
        raise cases.Skip("giving up root needs it")
    for memory, pages in (("64M", 100), ("12M", 1500)):    # the pages twice, and the interpreter: more than the memory
        status, out, err, report = rights(r"""
def stop():
    wait.set()

wait = threading.Event()
def threads():
    wait.clear()
    t = threading.Thread(target=wait.wait)
    t.start()
    drop()
    wait.set()
    t.join()

CAPS = (ctypes.c_uint32 * 6)()
HEAD = (ctypes.c_uint32 * 2)(0x20080522, 0)
def fewer():
    assert libc.capget(HEAD, CAPS) == 0
    for i in (0, 1, 3, 4):
        CAPS[i] = 0
    assert libc.capset(HEAD, CAPS) == 0

def again():
    drop()
    global mine
    was = store()
    assert os.fork() or (print("forked", "same" if store() == was else store(), flush=True), os._exit(0))
    os.wait()

tell("nothing", child(lambda: None))
tell("for a moment", child(lambda: (os.seteuid(65534), os.seteuid(0))))
tell("user", child(drop))
tell("threads", child(threads))
tell("capabilities", child(fewer))
tell("hides", child(lambda: libc.prctl(4, 0, 0, 0, 0)))
tell("syscall", child(lambda: libc.syscall(117, 65534, 65534, 65534)))
tell("again", child(again))
print(filled() == memory, store() == mine)
""", memory, pages)
        check((status, err) == (0, ""), status, out, err)
        want = ["True", "nothing same [0]", "for a moment same [0]", "user other [65534]", "threads other [65534]", "capabilities other [0]",
                "hides other [0]", "syscall other [65534]", "forked same", "again other [65534]", "True True"]
        check(out.splitlines() == want, memory, out)
        check((report["pages_out"] > 1000) == (memory == "12M"), memory, report["pages_out"])


def executed_as_another():
    """The store of a program depends on its credentials, not on the process that executed it; programs with equal
    credentials share a store."""
    if not ROOT:
        raise cases.Skip("becoming another user needs root")
    script = r"""
import subprocess
def of(*argv):
    return subprocess.run(list(argv) + [sys.executable, "-c", EXEC], stdout=subprocess.PIPE, check=True).stdout.decode().strip()

EXEC = 'import os; print(sorted(set(line.split()[4] for line in open("/proc/self/maps") if "memfd:quire-store" in line)))'
own = str([mine[0]])
other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
print(of("env") == own, of("setsid", "-w") == own)
for argv in (other, ["setpriv", "--reuid=65533"], ["unshare", "-U"], ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]):
    if subprocess.run(argv + ["true"], stderr=subprocess.DEVNULL).returncode == 0:
        got = of(*argv)
        print(got != own, len(got) > 4)
two = subprocess.run(other + ["sh", "-c", '"$0" -c "$1"; "$0" -c "$1"', sys.executable, EXEC], stdout=subprocess.PIPE, check=True).stdout.split(b"\n")
print(two[0] == two[1] and two[0] != own.encode())
"""
    status, out, err, _ = rights(script, "64M", 10)
    check((status, err) == (0, "") and set(" ".join(out.split()).split()) == {"True"} and out.count("True") >= 6, status, out, err)


def sandboxed():
    """A process with filtered system calls was once no longer hosted, but still had all of the family's store mapped."""
    status, out, err, _ = rights(r"""
import struct
ALLOW = (6, 0, 0, 0x7fff0000)
def filter(*before):
    code = b"".join(struct.pack("HBBI", *one) for one in before + (ALLOW,))
    kept = (ctypes.c_char * len(code)).from_buffer_copy(code)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(before) + 1, ctypes.addressof(kept)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0

def executes(*before):
    filter(*before)
    r, w = os.pipe()
    if os.fork() == 0:
        os.dup2(w, 1)
        os.execv(sys.executable, [sys.executable, "-c", 'print([line.split()[4] for line in open("/proc/self/maps") if "memfd:quire-store" in line])'])
    os.close(w)
    got = b""
    while piece := os.read(r, 4096):
        got += piece
    os.wait()
    got = got.decode().strip()
    assert len(got) > 4 and mine[0] not in got, got

# userfaultfd, 323, gives EPERM: the device of that name serves
def executes_without_userfaultfd():
    executes((0x20, 0, 0, 0), (0x15, 0, 1, 323), (6, 0, 0, 0x50001))

tell("filter", child(filter))
tell("executes", child(executes))
tell("executes", child(executes_without_userfaultfd))
print(store() == mine)
""", "64M", 10)
    check((status, out, err) == (0, "True\nfilter none [0]\nexecutes none [0]\nexecutes none [0]\nTrue\n".replace("[0]", "[%d]" % os.getuid()), ""), status, out, err)


def stores_end():
    """A store ends with its last process: hundreds of changes, a few at a time."""
    if not ROOT:
        raise cases.Skip("giving up root needs it")
    status, out, err, _ = rights(r"""
for i in range(60):
    pids = []
    for j in range(5):
        pid = os.fork()
        if pid == 0:
            os.setuid(1000 + j)
            os._exit(0 if filled() == memory and store() != mine else 1)
        pids.append(pid)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
supervisor = os.getppid()
def link(fd):
    try:
        return os.readlink("/proc/%d/fd/%s" % (supervisor, fd))
    except FileNotFoundError: # closed since the list was read
        return ""
print(sum("quire-store" in link(fd) for fd in os.listdir("/proc/%d/fd" % supervisor) if fd != "0") < 20)
""", "64M", 10)
    check((status, out, err) == (0, "True\nTrue\n", ""), status, out, err)


def keeper_is_lost():
    """Writes of processes to the store can end its keeper: the supervisor reports it and ends the processes; it
    neither crashes nor waits."""
    if not ROOT:
        raise cases.Skip("ending the keeper needs root")
    p = start([QUIRE, "run", "--memory", "8M", HELPER, "loop", "4000"])
    try:
        ready(p)
        keepers = keepers_of(p.pid)
        check(len(keepers) == 1, keepers)
        names = [os.readlink("/proc/%s/fd/%s" % (keepers[0], fd)) for fd in os.listdir("/proc/%s/fd" % keepers[0])]
        check(len([n for n in names if n.startswith("socket:")]) == 1 and names.count("/dev/null") == 3, "the keeper has", names)
        os.kill(keepers[0], signal.SIGKILL)
        status, _, err = finish(p)
        check(status == -signal.SIGKILL and "quire-keeper has ended: it was killed, or the memory that processes of this run share was damaged" in err, status, err)
    finally:
        end(p)


def keepers_of(pid):
    """The process numbers of the keepers that the supervisor pid has."""
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [int(k) for k in f.read().split() if open("/proc/%s/comm" % k).read() == "quire-keeper\n"]


def keepers_have_no_rights():
    """
    A keeper reads what the processes of its store write. The keeper of processes that had given up root was root, with
    all capabilities: a fault of the keeper, such as an unbounded list on its stack, would have given them root again.
    """
    if not ROOT:
        raise cases.Skip("giving up root needs it")
    script = '"$0" loop 3000 & exec setpriv --reuid=%d --regid=%d --clear-groups "$0" loop 3000' % (OTHER, OTHER)
    p = start([QUIRE, "run", "--memory", "8M", "sh", "-c", script, HELPER])
    try:
        ready(p)
        limit, found = time.monotonic() + TIMEOUT, set()
        while len(found) < 2 and time.monotonic() < limit:
            for keeper in keepers_of(p.pid):
                with open("/proc/%d/status" % keeper) as f:
                    said = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
                if int(said["NoNewPrivs"]) == 1:   # otherwise it has just begun
                    found.add((said["Uid"], said["Gid"], said["Groups"].strip(), int(said["CapPrm"], 16), int(said["CapEff"], 16)))
        check(found == {(("%d\t" % u * 4).strip(), ("%d\t" % u * 4).strip(), "", 0, 0) for u in (0, OTHER)}, found)
    finally:
        end(p)


def supervisor_sees_no_store():
    """The supervisor maps no store: no write to a store can harm it."""
    p = start([QUIRE, "run", "--memory", "8M", HELPER, "loop", "4000"])
    try:
        ready(p)
        with open("/proc/%d/maps" % p.pid) as f:
            maps = f.read()
        check("memfd:quire-family" in maps and "memfd:quire-store" not in maps, maps)
    finally:
        end(p)


def both_ends():
    """A process once gave both ends of a connection, or the gate, to the supervisor, which then never noticed the end
    of all processes."""
    status, out, err, report = inside(r"""
a, b = pair()
greet(hello(), a.fileno())
greet(hello(), b.fileno())
greet(hello(), gate.fileno())
if os.fork() == 0:
    os.setsid()
    os._exit(0)
""")
    check((status, out, err) == (0, "", "") and report["turned_away"] == 1, status, out, err, report)
    limit = time.monotonic() + 10
    while time.monotonic() < limit and [1 for pid in os.listdir("/proc") if pid.isdigit() and parent_and_name(pid) == ("1", QUIRE)]:
        time.sleep(0.05)
    check(time.monotonic() < limit, "a supervisor stays for ever")


def parent_and_name(pid):
    try:
        with open("/proc/%s/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[1], os.readlink("/proc/%s/exe" % pid)
    except OSError:
        return None


def slots_are_accounts_alone():
    """
    A process that had given up root once marked the slot of a process of root as free, in the family's state. The next
    fork of any process of root took the slot, and with it for dead, in the store, the process that lived: its pages
    were freed. What a process holds is given back by its tag in the store, which processes without the store cannot
    change; and a child whose slot is another process's goes on.
    """
    status, out, err, _ = report_of(HOSTILE, "slots", "5000")
    check((status, out, err) == (0, "0 0 0 0 0 0 0\n", ""), status, out, err)


def memory_cannot_shrink():
    """A process that shortened the family's memory would end the supervisor at its next access."""
    status, out, err, _ = report_of(sys.executable, "-c", r"""
import os
for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
    try:
        name = os.readlink("/proc/self/fd/%d" % fd)
    except OSError:
        continue
    if name.startswith("/memfd:quire-"):
        for size in (0, 1 << 40):
            try:
                os.ftruncate(fd, size)
                print("changed", name)
            except PermissionError:
                print("kept", name.split()[0])
""", memory="64M")
    check(status == 0 and sorted(out.splitlines()) == ["kept /memfd:quire-family"] * 2 + ["kept /memfd:quire-store"] * 2, status, out, err)


def core_files():
    """A core file has the process's own memory, and no memory shared by the family. The supervisor makes none."""
    p = start([QUIRE, "run", "--memory", "8M", HELPER, "loop", "100"])
    try:
        ready(p)
        with open("/proc/%d/smaps" % child_of(p.pid)) as f:
            areas = re.findall(r"^[0-9a-f]+-[0-9a-f]+ .*(memfd:quire-\w+).*\n(?:[A-Z].*\n)*?VmFlags:(.*)$", f.read(), re.M)
        check(sorted(a for a, _ in areas) == ["memfd:quire-family", "memfd:quire-store"] and all(" dd" in flags for _, flags in areas), areas)
        check(os.stat("/proc/%d/fd" % p.pid).st_uid == 0, "can be dumped")
    finally:
        end(p)


CASES = [no_name, another_user, same_user, greetings, flood, late_wake_up, silent, stay_in, stay_in_through_unhosted, static_program_closes_all, stay_in_as_another, stay_in_as_daemon,
         gives_up_rights, executed_as_another, sandboxed, stores_end, keeper_is_lost, keepers_have_no_rights, supervisor_sees_no_store, both_ends,
         slots_are_accounts_alone,
         memory_cannot_shrink, core_files]


def clean():
    """Ends the processes that this test has started, also if it was killed."""
    tidy.end_marked("=".join(MARK).encode())
    tidy.remove_folder(FOLDER)


if __name__ == "__main__":
    tidy.leave_nothing(clean)
    os.chmod(FOLDER, 0o711)
    sys.exit(cases.run(CASES, sys.argv[5:]))
