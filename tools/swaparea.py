# SPDX-License-Identifier: BSD-2-Clause
"""A swap area of the kernel's, made for a measurement and always taken away.

    swaparea.py zram|file DIRECTORY MIB -- COMMAND [ARGUMENT ...]

runs COMMAND while the area is on.  Root only.  Other swap areas of the machine
are left on; the new one has the highest priority, and `what` says so.
"""

import atexit
import os
import subprocess
import sys

sys.dont_write_bytecode = True

import tidy

TOOLS = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}


def tool(*argv):
    done = subprocess.run(argv, env=TOOLS, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError("%s: %s" % (" ".join(argv), done.stderr.strip()))


def put(path, text):
    with open(path, "w") as f:
        f.write(text)


def get(path):
    with open(path) as f:
        return f.read().strip()


class SwapArea:
    CLUSTER = "/proc/sys/vm/page-cluster"

    def __init__(self, kind, folder, size):
        if os.geteuid() != 0:
            raise SystemExit("kernel swap needs root")
        self.device = self.path = self.cluster = None
        self.zram = None
        self.on = False
        self.call_off = None
        atexit.register(self.remove)
        others = len(get("/proc/swaps").splitlines()) - 1
        self.what = "zram lz4, page-cluster 0" if kind == "zram" else "a swap file"
        if others:
            self.what += " (beside %d other swap areas)" % others
        if kind == "zram":
            self.make_zram(size)
        else:
            self.make_file(folder, size)
        tool("mkswap", self.device)
        tool("swapon", "-p", "100", self.device)
        self.on = True
        self.call_off = tidy.after_kill(self.take_away)

    def make_zram(self, size):
        control = "/sys/class/zram-control/hot_add"
        if not os.path.exists(control):
            subprocess.run(["modprobe", "zram"], env=TOOLS, stderr=subprocess.DEVNULL, check=False)
        if not os.path.exists(control):
            raise SystemExit("this kernel has no zram")
        self.zram = int(get(control))
        node = "/sys/block/zram%d/" % self.zram
        put(node + "comp_algorithm", "lz4")
        put(node + "disksize", str(size))
        self.device = "/dev/zram%d" % self.zram
        if not os.path.exists(self.device):
            major, minor = (int(n) for n in get(node + "dev").split(":"))
            os.mknod(self.device, 0o600 | 0o060000, os.makedev(major, minor))
        # Read-ahead costs a compressed store more than it gives.
        self.cluster = get(self.CLUSTER)
        put(self.CLUSTER, "0")

    def make_file(self, folder, size):
        self.path = self.device = os.path.join(folder, "swap-%d" % os.getpid())
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Written, not fallocated: an unwritten extent reads slower.
            block = bytes(1 << 20)
            for _ in range(size >> 20):
                os.write(fd, block)
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self):
        self.take_away()
        if self.call_off:
            self.call_off()
            self.call_off = None

    def take_away(self):
        if self.on:
            tool("swapoff", self.device)
            self.on = False
        if self.zram is not None:
            put("/sys/block/zram%d/reset" % self.zram, "1")
            put("/sys/class/zram-control/hot_remove", str(self.zram))
            self.zram = None
        if self.cluster is not None:
            put(self.CLUSTER, self.cluster)
            self.cluster = None
        if self.path and os.path.exists(self.path):
            os.unlink(self.path)


def main():
    import limited
    if len(sys.argv) < 6 or sys.argv[1] not in ("zram", "file") or sys.argv[4] != "--":
        sys.exit(__doc__)
    limited.die_on_signals()
    area = SwapArea(sys.argv[1], sys.argv[2], int(sys.argv[3]) << 20)
    try:
        return subprocess.run(sys.argv[5:], check=False).returncode
    finally:
        area.remove()


if __name__ == "__main__":
    sys.exit(main())
