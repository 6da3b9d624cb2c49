# SPDX-License-Identifier: BSD-2-Clause
"""tools/gdb/quire.py shows a running system as it is: gdb_test.py SOURCE CHECK_TEST STORE_TEST. Skipped if gdb is not
installed."""

import os
import re
import shutil
import subprocess
import sys

source, check_test, store_test = sys.argv[1:4]
bad = 0


def gdb(program, stop, *commands):
    words = ["gdb", "-q", "-nx", "-batch", "-x", os.path.join(source, "tools", "gdb", "quire.py"), "-ex", "set confirm off",
             "-ex", "break " + stop, "-ex", "run"]
    for command in commands:
        words += ["-ex", command]
    return subprocess.run(words + ["-ex", "kill", program], capture_output=True, text=True, timeout=100, check=False).stdout


def want(what, pattern, out):
    global bad
    found = re.search(pattern, out, re.M)
    if not found:
        bad += 1
        print("not shown: %s (%s)" % (what, pattern))
    return found


if shutil.which("gdb") is None:
    print("no gdb")
    sys.exit(77)
if subprocess.run(["gdb", "-q", "-nx", "-batch", "-ex", "run", "/bin/true"], capture_output=True, check=False).returncode != 0:
    print("gdb cannot run a program here")
    sys.exit(77)
# The scene of check_test: 256 frames, 64 pages of swap; 16 and 8 anonymous pages and 8 of a file; one page wired.
out = gdb(check_test, "vm_check", "quire vm", "quire spaces", "quire space vm->vm_aslist", "quire queues",
          "echo frame of the locked page:\\n", "quire page vm->vm_nframes", "quire nonsense")
frames = want("the frames", r"^frames: (.*)$", out)
if frames:
    parts = {name: int(n) for n, name in re.findall(r"(\d+) ([a-z ]+)", frames.group(1))}
    total = sum(parts.values())
    if total != 256:
        bad += 1
        print("%d frames, not 256: %s" % (total, frames.group(0)))
    queues = want("the cache list", r"^cache list: (\d+)$", out)
    if queues and int(queues.group(1)) != parts.get("cached", 0):
        bad += 1
        print("the cache list has %s pages, %d are cached" % (queues.group(1), parts.get("cached", 0)))
want("swap", r"wired 1, kernel \d+; reserved \d+ of \d+; swap \d+ of 64$", out)
want("the space", r"^as 0x[0-9a-f]+: 3 segments, 131072 bytes, \d+ pages reserved, 1 locked$", out)
want("anonymous memory", r"0x10000000-0x10010000 segvn +flags 0x0 rw- private anonymous$", out)
want("a file", r"0x10100000-0x10108000 segvn +flags 0x0 rw- shared vnode 0x[0-9a-f]+\+0x0$", out)
want("the segments", r"^3 segments$", out)
want("the policy's queues", r"^policy clock2: 1 \d+", out)
# With the scene's 25 pages touched, some page is anonymous, and the locked one is wired.
pages = gdb(check_test, "vm_check", *["quire page %d" % n for n in range(256)])
want("an anonymous page", r"^  anonymous memory: anon \d+$", pages)
want("a wired page", r"^  wired 1, ", pages)
want("a page of a file", r"^  vnode 0x[0-9a-f]+ \(sim disk\), offset 0x", pages)
want("a mapped page", r"mapping list: 0x[0-9a-f]*[1-9a-f]", pages)
out = gdb(store_test, "pool_stats", "quire pool")
want("the pool", r"^ps_nslots +[1-9]\d*$", out)
if bad:
    print(out)
print("gdb: %d wrong" % bad)
sys.exit(1 if bad else 0)
