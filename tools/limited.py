# SPDX-License-Identifier: BSD-2-Clause
"""Run a program, optionally under a hard memory limit, and say what happened.

Used by the program tests and by the demonstration.  Standard library only.

Vocabulary
  limit     a memory cgroup made for one run and removed after it (also if the
            caller is killed: tidy.py), version 1 or 2 of the kernel's interface.
  peak      the largest resident set of any one process of the run, in bytes,
            as wait4() tells it.
  outcome   one run: exit status as a shell would give it (128 + n for signal
            n), wall and CPU time, peak, faults that needed I/O, OOM kills.

The caller's own process must stay small: the kernel counts what a process held
before exec() into its peak.
"""

import atexit
import os
import resource
import select
import signal
import time

import tidy

_live = []


class Cgroup:
    """A memory cgroup.  Cgroup.create() answers None where none may be made."""

    counter = 0

    def __init__(self, path, version):
        self.path = path
        self.version = version
        self._call_off = None
        _live.append(self)

    @staticmethod
    def _parents():
        """Directories in which a memory cgroup might be made, best first."""
        v1 = v2 = None
        try:
            with open("/proc/self/mounts") as mounts:
                for line in mounts:
                    _, where, kind, opts = line.split()[:4]
                    if kind == "cgroup" and "memory" in opts.split(","):
                        v1 = where
                    elif kind == "cgroup2":
                        v2 = where
            own = {}
            with open("/proc/self/cgroup") as groups:
                for line in groups:
                    _, names, path = line.rstrip("\n").split(":", 2)
                    own[names] = path
        except OSError:
            return
        if v1:
            yield v1, 1
            mine = own.get("memory")
            if mine and mine != "/":
                yield v1 + mine, 1
        if v2:
            yield v2, 2
            mine = own.get("")
            if mine and mine != "/":
                yield v2 + mine, 2
                yield os.path.dirname(v2 + mine), 2

    @classmethod
    def create(cls, limit):
        """A new cgroup with a hard limit of `limit` bytes, or None."""
        for parent, version in cls._parents():
            if version == 2:
                try:
                    with open(parent + "/cgroup.subtree_control") as f:
                        on = "memory" in f.read().split()
                    if not on:
                        with open(parent + "/cgroup.subtree_control", "w") as f:
                            f.write("+memory")
                except OSError:
                    continue
            cls.counter += 1
            path = "%s/quire-%d-%d" % (parent, os.getpid(), cls.counter)
            try:
                os.mkdir(path)
            except OSError:
                continue
            group = cls(path, version)
            try:
                name = "memory.limit_in_bytes" if version == 1 else "memory.max"
                group._write(name, str(limit))
                group._call_off = tidy.after_kill(group._end)
                return group
            except OSError:
                group.remove()
        return None

    def _write(self, name, text):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(text)

    def _fields(self, name):
        try:
            with open(os.path.join(self.path, name)) as f:
                return {k: int(v) for k, v in (line.split() for line in f) if v.isdigit()}
        except OSError:
            return {}

    def join(self):
        """Move the calling process into this cgroup."""
        self._write("cgroup.procs", str(os.getpid()))

    def oom_kills(self):
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        return self._fields(name).get("oom_kill", 0)

    def major_faults(self):
        return self._fields("memory.stat").get("pgmajfault", 0)

    def peak(self):
        """Most memory the group held at once, page cache included; 0 if unknown."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        try:
            with open(os.path.join(self.path, name)) as f:
                return int(f.read())
        except OSError:
            return 0

    def held(self):
        """Memory that the group has now, but for the page cache of files; None if unknown."""
        v1 = self.version == 1
        try:
            with open(os.path.join(self.path, "memory.usage_in_bytes" if v1 else "memory.current")) as f:
                return int(f.read()) - self._fields("memory.stat").get("cache" if v1 else "file", 0)
        except OSError:
            return None

    def members(self):
        try:
            with open(os.path.join(self.path, "cgroup.procs")) as f:
                return [int(pid) for pid in f.read().split()]
        except OSError:
            return []

    def remove(self):
        """Kill what is left inside (only this run's processes are) and remove."""
        self._end()
        if self in _live:
            _live.remove(self)
        if self._call_off:
            self._call_off()
            self._call_off = None

    def _end(self):
        tidy.remove_cgroup(self.path)


@atexit.register
def _remove_all():
    for group in list(_live):
        group.remove()


def die_on_signals():
    """Turn fatal signals into exit(), so that clean-up runs."""
    def handler(number, _frame):
        raise SystemExit(128 + number)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


class Outcome:
    def __init__(self):
        self.status = None      # as a shell gives it
        self.timed_out = False
        self.oom_kills = 0
        self.wall = 0.0         # seconds
        self.cpu = 0.0          # seconds, user and system
        self.peak = 0           # bytes
        self.group_peak = 0     # bytes, page cache included
        self.major = 0          # faults that needed I/O

    @property
    def killed_by_oom(self):
        return self.oom_kills > 0


class Process:
    """A started program in its own session; finish() waits and measures."""

    def __init__(self, argv, cwd, stdout, stderr, env=None, stdin="/dev/null", group=None):
        self.group = group
        self.began = time.monotonic()
        go_r, go_w = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(go_w)
                os.setsid()
                for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
                    signal.signal(number, signal.SIG_DFL)
                if group:
                    group.join()
                fds = [os.open(stdin, os.O_RDONLY),
                       os.open(stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
                       os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)]
                for i, fd in enumerate(fds):
                    os.dup2(fd, i)
                for fd in fds:
                    if fd > 2:
                        os.close(fd)
                os.chdir(cwd)
                # Not inherited: a core file of a large program helps nobody here.
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                os.execvpe(argv[0], argv, env if env is not None else os.environ)
            except BaseException as e:
                os.write(2, ("cannot start %s: %s\n" % (argv[0], e)).encode())
            os._exit(127)
        os.close(go_r)
        os.close(go_w)
        self.pidfd = os.pidfd_open(self.pid)
        self.reaped = False

    def alive(self):
        return not self.reaped and not select.select([self.pidfd], [], [], 0)[0]

    def kill(self):
        """Kill the session that this object started."""
        if not self.reaped:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def finish(self, timeout):
        """Wait at most `timeout` seconds, then kill.  Returns an Outcome."""
        out = Outcome()
        try:
            left = max(0.0, timeout - (time.monotonic() - self.began))
            if not select.select([self.pidfd], [], [], left)[0]:
                out.timed_out = True
                self.kill()
            _, status, usage = os.wait4(self.pid, 0)
        except BaseException:
            self.kill()
            os.wait4(self.pid, 0)
            self.reaped = True
            os.close(self.pidfd)
            raise
        self.reaped = True
        os.close(self.pidfd)
        out.wall = time.monotonic() - self.began
        out.cpu = usage.ru_utime + usage.ru_stime
        out.peak = usage.ru_maxrss * 1024
        out.major = usage.ru_majflt
        if os.WIFSIGNALED(status):
            out.status = 128 + os.WTERMSIG(status)
        else:
            out.status = os.WEXITSTATUS(status)
        if self.group:
            out.oom_kills = self.group.oom_kills()
            out.group_peak = self.group.peak()
            out.major = max(out.major, self.group.major_faults())
        return out


def run(argv, cwd, stdout, stderr, timeout, env=None, stdin="/dev/null", limit=None):
    """Run argv to its end.  `limit` in bytes puts it into a cgroup of that size
    where that is permitted; Outcome.group_peak is 0 where it was not."""
    group = Cgroup.create(limit) if limit else None
    try:
        return Process(argv, cwd, stdout, stderr, env, stdin, group).finish(timeout)
    finally:
        if group:
            group.remove()
