#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Quire's kernel beside Debian's kernel in the same QEMU.

kernel.py KERNEL.elf DIR [--memory MIB ...] [--need MIB] [--only NAME ...] [--rounds N] [--icount] [--again] [--table] [--least]

Both machines have one CPU, the same memory, the same file system image, the same empty swap disk and the same program of the
distribution. The programs touch much memory with little arithmetic, because QEMU translates every
instruction: long lines are sorted, long rows selected, long strings hashed, tables of constants
compiled. --need prints how much memory each of them needs (a column of the output: its peak on this
computer); without it, 16 MiB more than the machine has. Debian's kernel is the package
linux-image-cloud-amd64, unpacked and not
installed, with a small first program (kernel_init.c). Quire runs on the machine "microvm", Debian's kernel on "pc": it finds
no clock on microvm. Counted between the lines BEGIN and END of the program's script: QEMU's reads
from and writes to the swap disk (QEMU's own statistics, the same yardstick for both), page faults
(/proc/vmstat of each kernel), host time, the CPU time of the QEMU process, and the time from QEMU's
start to the shell. "busy s" is the guest's time without its idling (/proc/stat of each kernel). With
--icount each instruction takes one nanosecond of the guest's clock, so busy time is a count of
instructions, which the computer's load does not change. It has no waits for disks. "guest s" then
means nothing: while a machine waits for a disk, its clock runs ahead. --least prints the least
memory in which Debian's kernel ends each program.

Each run's figures are kept in DIR/results.json at once, by program, memory, options, and the sums of the kernel (Debian's with its first
program) and of all files of the image. A run whose figures are there is not made again, so a table
can be made in pieces, by several calls, one after the other; --again repeats runs, and another
build of Quire's kernel, another of Debian's, or another image have no figures yet. --table prints
the figures of these kernels and this image, names those that are missing, and runs nothing.
"""
import argparse
import functools
import hashlib
import json
import os
import pathlib
import random
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent
sys.path.insert(0, str(TOP / 'kernel'))
import demo  # noqa: E402

MODULES = ('drivers/virtio/virtio_ring', 'drivers/virtio/virtio', 'drivers/virtio/virtio_pci_modern_dev',
           'drivers/virtio/virtio_pci_legacy_dev', 'drivers/virtio/virtio_pci', 'drivers/block/virtio_blk')
SCRIPT = '''grep -E '^(pgfault|pgmajfault) ' /proc/vmstat; cat /proc/uptime; grep '^cpu ' /proc/stat; echo BEGIN; read x
%s
echo "END $?"; read x
cat /proc/uptime; grep '^cpu ' /proc/stat; grep -E '^(pgfault|pgmajfault) ' /proc/vmstat
'''


SQL = '''pragma cache_size = -800000;
create table t(a integer primary key, b text, c text);
with recursive n(x) as (select 1 union all select x + 1 from n where x < %d)
  insert into t select x, printf('%%08x', (x * 2654435761) & 4294967295), hex(zeroblob(400)) || x from n;
create index i on t(b);
select count(*), min(b), max(b), sum(length(c)) from t;
select count(*) from t x join t y on x.b = y.b where x.a %% 7 = 0 and length(y.c) > 5;
'''


def sort_input(path, lines):
    rng = random.Random(3)
    with open(path, 'w') as f:
        for i in range(lines):
            f.write('%016x %d %s\n' % (rng.getrandbits(64), i, 'some text that makes the line longer ' * 5))


def gcc_input(path, constants):
    rng = random.Random(3)
    with open(path, 'w') as f:
        for table in range(20):
            f.write('struct { int a; const char *s; double d; } t%d[] = {\n' % table)
            for i in range(constants // 20):
                f.write('\t{ %d, "text %d", %d.5 },\n' % (rng.getrandbits(30), rng.getrandbits(30), i))
            f.write('};\n')


def programs(need):
    """name: (command, how to make its inputs in a directory). The size of a line, a row, an object,
a constant was measured."""
    return {
        'sqlite3': ('sqlite3 :memory: < /in/sql.txt', lambda d: (d / 'sql.txt').write_text(SQL % ((need - 5) * 926))),
        'sort': ('LC_ALL=C sort -S %dM /in/sort.txt | md5sum' % (2 * need), lambda d: sort_input(d / 'sort.txt', (need - 3) * 4000)),
        'python3': ('/usr/bin/python3 -I -S /in/py.py', lambda d: (d / 'py.py').write_text(demo.PYTHON % ((need - 8) * 454, 400))),
        'gcc': ('gcc -O0 -S -o - /in/gcc.c | md5sum', lambda d: gcc_input(d / 'gcc.c', (need - 30) * 1064)),
    }


def cpio(entries):
    """An initial file system: (name, mode, device, contents) each."""
    out = bytearray()
    for i, (name, mode, rdev, data) in enumerate(entries + [('TRAILER!!!', 0, 0, b'')]):
        fields = (i + 1, mode, 0, 0, 1, 0, len(data), 0, 0, rdev >> 8, rdev & 255, len(name) + 1, 0)
        out += b'070701' + b''.join(b'%08X' % f for f in fields) + name.encode() + b'\0'
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def linux(directory):
    """(kernel, initial file system), made once."""
    at = directory / 'linux'
    if not at.exists():
        depends = subprocess.run(['apt-cache', 'depends', 'linux-image-cloud-amd64'], stdout=subprocess.PIPE, check=True)
        package = re.search(r'Depends: (linux-image-\S+)', depends.stdout.decode()).group(1)
        print('fetching %s' % package, flush=True)
        subprocess.run(['apt-get', '-qq', 'download', package], cwd=directory, check=True, stderr=subprocess.DEVNULL)
        new = directory / 'linux.new'
        subprocess.run(['dpkg', '-x', next(directory.glob(package + '_*.deb')), new], check=True)
        new.rename(at)  # only a whole one has the name
    modules = next((at / 'lib/modules').iterdir()) / 'kernel'
    init = directory / 'init'
    subprocess.run(['musl-gcc', '-O2', '-static', '-o', init, HERE / 'kernel_init.c'], check=True)
    entries = [('init', 0o100755, 0, init.read_bytes()), ('dev', 0o40755, 0, b''), ('dev/console', 0o20600, 5 << 8 | 1, b'')]
    entries += [('%d.ko' % (i + 1), 0o100644, 0, (modules / (m + '.ko')).read_bytes()) for i, m in enumerate(MODULES)]
    (directory / 'init.cpio').write_bytes(cpio(entries))
    return next((at / 'boot').glob('vmlinuz-*')), directory / 'init.cpio'


class Machine:
    """ One boot of one of the two kernels, with its console and QEMU's own statistics."""

    def __init__(self, which, kernel, directory, memory, name, icount, append):
        swap = directory / 'swap.img'
        swap.unlink(missing_ok=True)
        with open(swap, 'wb') as f:
            f.truncate(512 << 20)
        if which == 'quire':
            command = ['-M', 'microvm,acpi=off,pic=off,pit=off,rtc=on', '-global', 'virtio-mmio.force-legacy=false',
                       '-kernel', str(kernel), '-append', 'root=0 swap=1 seed=1 init=/bin/sh arg0=/in/%s.sh %s' % (name, append)]
            disk = 'virtio-blk-device'
        else:
            subprocess.run(['mkswap', '-q', swap], check=True, stderr=subprocess.DEVNULL)
            command = ['-M', 'pc', '-vga', 'none', '-kernel', str(kernel[0]), '-initrd', str(kernel[1]),
                       '-append', 'console=ttyS0 quiet panic=-1 rdinit=/init -- /in/%s.sh' % name]
            disk = 'virtio-blk-pci'
        for i, image in enumerate(('root.img,snapshot=on', 'swap.img')):
            command += ['-drive', 'format=raw,if=none,id=d%d,file=%s' % (i, directory / image), '-device', '%s,drive=d%d' % (disk, i)]
        if icount:
            command += ['-icount', 'shift=0,sleep=off']
        self.monitor = directory / 'monitor'
        self.monitor.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            ['qemu-system-x86_64', '-cpu', 'max,-avx', '-m', str(memory), '-nodefaults', '-display', 'none', '-serial', 'stdio',
             '-no-reboot', '-device', 'isa-debug-exit,iobase=0xf4,iosize=4',
             '-qmp', 'unix:%s,server=on,wait=off' % self.monitor] + command,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.started = time.monotonic()
        self.text = b''
        self.wait_for = selectors.DefaultSelector()
        self.wait_for.register(self.process.stdout, selectors.EVENT_READ)
        self.qmp = None

    def read_until(self, line, deadline):
        """Reads the console until the regular expression matches a line; None: the machine ended or was too slow."""
        while not (m := re.search(line, self.text, re.M)):
            left = deadline - time.monotonic()
            if left <= 0 or not self.wait_for.select(left):
                return None
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                return None
            self.text = (self.text + more).replace(b'\r\n', b'\n')
        return m

    def ask(self, command):
        if self.qmp is None:
            s = socket.socket(socket.AF_UNIX)
            s.connect(str(self.monitor))
            self.qmp = s.makefile('rw')
            self.qmp.readline()
            self.ask('qmp_capabilities')
        self.qmp.write(json.dumps({'execute': command}) + '\n')
        self.qmp.flush()
        while 'return' not in (answer := json.loads(self.qmp.readline())):
            pass
        return answer['return']

    def figures(self):
        swap = next(b for b in self.ask('query-blockstats') if b.get('device') == 'd1')['stats']
        fields = pathlib.Path('/proc/%d/stat' % self.process.pid).read_text().rsplit(')', 1)[1].split()
        return {'in': swap['rd_bytes'] // 4096, 'out': swap['wr_bytes'] // 4096, 'reads': swap['rd_operations'],
                'writes': swap['wr_operations'], 'cpu': (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK'),
                'host': time.monotonic()}

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def run(which, kernel, directory, memory, name, icount, timeout, append=''):
    """The figures of one program on one kernel, with 'output'; None: it did not end."""
    m = Machine(which, kernel, directory, memory, name, icount, append)
    deadline = time.monotonic() + timeout
    try:
        if m.read_until(rb'^BEGIN\n', deadline) is None:
            return None
        before = m.figures()
        boot = before['host'] - m.started
        m.process.stdin.write(b'\n')
        m.process.stdin.flush()
        if m.read_until(rb'^END 0\n', deadline) is None:
            return None
        after = m.figures()
        m.process.stdin.write(b'\n')
        m.process.stdin.flush()
        m.read_until(rb'(?!)', deadline)  # to its end
        got = {k: after[k] - before[k] for k in after}
        text = m.text.decode(errors='replace')
        for k in ('pgfault', 'pgmajfault'):
            values = [int(v) for v in re.findall('^%s (\\d+)$' % k, text, re.M)]
            got[k] = values[-1] - values[0]
        up = [float(v) for v in re.findall(r'^(\d+\.\d+) \d+\.\d+$', text, re.M)]
        got['guest'] = up[-1] - up[0]
        # idling and waiting for disks, in hundredths of a second. Debian's kernel measures these two; its times of work are sampled
        idle = [sum(int(v) for v in line.split()[3:5]) / 100 for line in re.findall(r'^cpu +([\d ]+)$', text, re.M)]
        got['busy'] = got['guest'] - (idle[-1] - idle[0])
        got['boot'] = boot
        got['output'] = re.search(r'^BEGIN\n+(.*)^END 0$', text, re.M | re.S).group(1)
        if which == 'quire' and 'vm_check: 0 violations' not in text:
            return None
        return got
    except OSError as e:  # the machine ended too early
        print('%s: %s' % (which, e), flush=True)
        return None
    finally:
        if '--verbose' in sys.argv:
            sys.stdout.write(m.text.decode(errors='replace'))
        m.end()


def tree_sum(top):
    """ A sum over names, kinds and contents of all files below a directory, but not their times."""
    h = hashlib.sha1()
    for f in sorted(top.rglob('*')):
        h.update(b'%s %o\0' % (os.fsencode(f.relative_to(top)), f.lstat().st_mode))
        if f.is_symlink():
            h.update(os.fsencode(os.readlink(f)))
        elif f.is_file():
            h.update(hashlib.sha1(f.read_bytes()).digest())
    return h.hexdigest()[:12]


def files_sum(files):
    return hashlib.sha1(b''.join(f.read_bytes() for f in files)).hexdigest()[:12]


def prepared(directory):
    """ The result of prepare() for the image in the directory; None: there is no image."""
    made = directory / 'made.json'
    return tuple(json.loads(made.read_text())) if made.exists() else None


def prepare(directory, need):
    """Makes directory: the image with the programs and their inputs. Made once. Returns the MiB
that each program needs here, and the sum of the image."""
    made = directory / 'made.json'
    sources = (HERE / 'kernel.py', TOP / 'kernel/demo.py', TOP / 'kernel/image.sh')
    if made.exists() and made.stat().st_mtime > max(f.stat().st_mtime for f in sources):
        return prepared(directory)
    made.unlink(missing_ok=True)
    inputs = directory / 'extra' / 'in'
    inputs.mkdir(parents=True, exist_ok=True)
    for name, (command, make) in programs(need).items():
        make(inputs)
        (inputs / (name + '.sh')).write_text(SCRIPT % command)
    subprocess.run(['sh', str(TOP / 'kernel/image.sh'), str(directory), 'sort', *programs(need)], check=True)
    found = {n: demo.native(demo.here(command, inputs))[1] / 1024 for n, (command, _) in programs(need).items()}
    made.write_text(json.dumps((found, tree_sum(directory / 'root'))))
    return prepared(directory)


def least(a, kernels):
    """Prints the least memory, in steps of 8 MiB, in which Debian's kernel ends each program."""
    need = a.need or 112
    prepare(a.directory / str(need), need)
    for name in a.only:
        memory = 128
        while run('linux', kernels['linux'], a.directory / str(need), memory - 8, name, a.icount, a.timeout) is not None:
            memory -= 8
        print('%-8s ends on Debian\'s kernel in %d MiB, not in %d' % (name, memory, memory - 8), flush=True)


class Results:
    """ The measured figures, in a file."""

    def __init__(self, path):
        self.path = path
        self.rows = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key):
        return self.rows.get(json.dumps(key), [])

    def put(self, key, rounds):
        self.rows[json.dumps(key)] = rounds
        new = self.path.with_suffix('.new')
        new.write_text(json.dumps(self.rows, indent=1))
        new.replace(self.path)


def measure(a, name, memory, kernels, results):
    """ Both kernels' medians, for one program and one size, from results or by runs; None: one did
not end, or their outputs differ, or there are no figures and nothing is to be run."""
    need = a.need or memory + 16
    directory = a.directory / str(need)
    needs, image = (prepared(directory) if a.table else prepare(directory, need)) or ({}, '')
    rounds = {}
    for which, (kernel, build) in kernels.items():
        key = [name, memory, need, which, build(), image, a.icount, a.append if which == 'quire' else '']
        rounds[which] = [] if a.again and not a.table else results.get(key)
        while len(rounds[which]) < a.rounds and not a.table:
            got = run(which, kernel(), directory, memory, name, a.icount, a.timeout, a.append)
            if got is None:
                print('%-8s %4d %-6s DID NOT END in %d s' % (name, memory, which, a.timeout), flush=True)
                return None
            rounds[which].append(dict(got, needs=needs[name]))
            results.put(key, rounds[which])
        if not rounds[which]:
            print('%s in %d MiB: no figures of %s' % (name, memory, 'this build of Quire\'s kernel with this image' if which == 'quire' else
                                                     'Debian\'s kernel with this image'), file=sys.stderr, flush=True)
            return None
    if len({r['output'] for rs in rounds.values() for r in rs}) != 1:
        print('%-8s %4d OUTPUTS DIFFER' % (name, memory), flush=True)
        return None
    return {k: {f: statistics.median(r[f] for r in rs) for f in rs[0] if f != 'output'} for k, rs in rounds.items()}


COLUMNS = (('needs', 'needs', '%d'), ('pages in', 'in', '%d'), ('out', 'out', '%d'), ('reads', 'reads', '%d'), ('writes', 'writes', '%d'),
           ('faults', 'pgfault', '%d'), ('major', 'pgmajfault', '%d'), ('host s', 'host', '%.2f'), ('CPU s', 'cpu', '%.2f'),
           ('guest s', 'guest', '%.2f'), ('busy s', 'busy', '%.2f'), ('boot s', 'boot', '%.2f'))


def show(name, memory, row):
    """Prints a line for each kernel of the table, and the ratios of both."""
    for which, r in row.items():
        print('| %s | %d | %s | %s |' % (name, memory, {'linux': "Debian's", 'quire': 'Quire'}[which],
                                         ' | '.join(f % r[k] for _, k, f in COLUMNS)), flush=True)
    if len(row) == 2:
        q, l = row['quire'], row['linux']
        swapped = [r['in'] + r['out'] for r in (q, l)]
        ratio = '%.2fx' % (swapped[0] / swapped[1]) if swapped[1] else '-' if not swapped[0] else 'more than none'
        print('| %s | %d | ratio | pages swapped %s, time %s |' % (name, memory, ratio, ', '.join(
            '%s %.2fx' % (k, q[k] / l[k]) for k in ('host', 'cpu', 'guest', 'busy'))), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('kernel', type=pathlib.Path)
    ap.add_argument('directory', type=pathlib.Path)
    ap.add_argument('--memory', type=int, nargs='+', default=[96, 192], help='of the machines, MiB')
    ap.add_argument('--only', nargs='+', metavar='NAME', default=list(programs(0)), choices=list(programs(0)))
    ap.add_argument('--kernels', nargs='+', default=['linux', 'quire'], choices=['linux', 'quire'])
    ap.add_argument('--rounds', type=int, default=1, help='the median of so many')
    ap.add_argument('--icount', action='store_true', help='time is the number of instructions')
    ap.add_argument('--need', type=int, help='of each program, MiB; without it, 16 more than the machine has')
    ap.add_argument('--append', default='', help='words for the command line of Quire\'s kernel: policy=clockpro')
    ap.add_argument('--again', action='store_true', help='also what was measured before')
    ap.add_argument('--table', action='store_true', help='only print what was measured before')
    ap.add_argument('--least', action='store_true')
    ap.add_argument('--verbose', action='store_true', help='the consoles')
    ap.add_argument('--timeout', type=int, default=3600, help='seconds for one run')
    a = ap.parse_args()
    a.directory.mkdir(parents=True, exist_ok=True)
    debian = functools.cache(lambda: linux(a.directory))
    kernels = {'linux': (debian, functools.cache(lambda: files_sum(debian()) if (a.directory / 'linux').exists() or not a.table else '')),
               'quire': (lambda: a.kernel, functools.cache(lambda: files_sum([a.kernel])))}
    kernels = {k: kernels[k] for k in a.kernels}
    if a.least:
        return least(a, {'linux': linux(a.directory)})
    results = Results(a.directory / 'results.json')
    print('| | MiB | kernel | %s |' % ' | '.join(c[0] for c in COLUMNS), flush=True)
    print('|---|---:|---|%s' % ('---:|' * len(COLUMNS)), flush=True)
    bad = 0
    for memory in a.memory:
        for name in a.only:
            row = measure(a, name, memory, kernels, results)
            bad += row is None
            if row is not None:
                show(name, memory, row)
    return 1 if bad and not a.table else 0


if __name__ == '__main__':
    sys.exit(main())
