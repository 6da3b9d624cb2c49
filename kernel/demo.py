#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The kernel runs Debian's unmodified programs in a machine with less memory than they need.

demo.py ARCH KERNEL.elf DIR [--memory MIB] [--only NAME ...] [--small] [--timeout S]

DIR gets an image made of Debian's programs (kernel/image.sh: the programs installed here, or riscv64's packages) and
the inputs. Each program runs natively first, which gives its peak of memory and the sum of its output. Then a machine
is booted for the program; the output must be equal, and vm_check, which the kernel runs before it switches off, must
find no error. On riscv64, gcc's native output is made by the image's own compiler under qemu-riscv64, as this
system's gcc generates other code; the peak includes qemu's memory.
"""
import argparse
import hashlib
import os
import pathlib
import random
import re
import resource
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import machine  # noqa: E402


def sort_input(path, lines):
    rng = random.Random(7)
    with open(path, 'w') as f:
        for i in range(lines):
            f.write('%016x %d some text that makes the line longer\n' % (rng.getrandbits(64), i))


def gcc_input(path, functions):
    rng = random.Random(11)
    with open(path, 'w') as f:
        for i in range(functions):
            f.write('int f%d(int a, int b) {\n\tint c = a * %d + b;\n' % (i, rng.randrange(1, 999)))
            for j in range(12):
                f.write('\tif (c > %d)\n\t\tc = (c ^ %d) + b * %d;\n\telse\n\t\tc -= a + %d;\n'
                        % (rng.randrange(9999), rng.randrange(9999), rng.randrange(99), rng.randrange(99)))
            f.write('\treturn c;\n}\n')


# its two numbers: how many values, and how often each value's text repeats
PYTHON = '''import hashlib
table = {}
for i in range(%d):
    table["key%%d" %% i] = [i, str(i) * %d, float(i)]
h = hashlib.md5()
for k in sorted(table):
    h.update(repr(table[k]).encode())
print(len(table), h.hexdigest())
'''
SQL = '''pragma cache_size = -200000;
create table t(a integer primary key, b text, c text);
with recursive n(x) as (select 1 union all select x + 1 from n where x < %d)
  insert into t select x, printf('%%08x', (x * 2654435761) & 4294967295), hex(x * x) from n;
create index i on t(b);
create index j on t(c);
select count(*), min(b), max(b), sum(length(c)) from t;
select a, b from t order by b limit 3;
select count(*) from t x join t y on x.b = y.b where x.a %% 7 = 0;
'''


def programs(small):
    """name: (command in the image's and this system's terms, how to make its inputs in a directory)"""
    k = 6 if small else 1
    return {
        'sort': ('LC_ALL=C sort -S 120M /in/sort.txt | md5sum', lambda d: sort_input(d / 'sort.txt', 850000 // k)),
        'sqlite3': ('sqlite3 :memory: < /in/sql.txt', lambda d: (d / 'sql.txt').write_text(SQL % (660000 // k))),
        'python3': ('/usr/bin/python3 -I -S /in/py.py', lambda d: (d / 'py.py').write_text(PYTHON % (270000 // k, 3))),
        'gcc': ('gcc -O1 -S -o - /in/gcc.c | md5sum', lambda d: gcc_input(d / 'gcc.c', 420 // k)),
    }


def compiler_under_qemu(command, root):
    """The command with the image's riscv64 compiler instead of this system's. qemu-riscv64 starts no other programs,
    so the compiler driver prints how it would start the compiler, and that command is run."""
    gcc, rest = re.match(r'(gcc) ([^|]*)', command).groups()
    qemu = 'qemu-riscv64 -L %s ' % root
    told = subprocess.run('%s%s/usr/bin/%s -### %s' % (qemu, root, gcc, rest), shell=True, stderr=subprocess.PIPE, check=True)
    compiler = next(line for line in told.stderr.decode().splitlines() if re.match(r' \S*/cc1 ', line))
    return qemu + compiler + ' ' + command[command.index('|'):]


def here(command, inputs):
    """The command with this system's names of the inputs."""
    return command.replace('/in/', '%s/' % inputs)


def native(command):
    """Output and peak of memory (KiB) of the largest process, and seconds."""
    # a child of its own, so that ru_maxrss is this command's alone
    code = ('import resource, subprocess, sys\n'
            'out = subprocess.run(["sh", "-c", sys.argv[1]], stdout=subprocess.PIPE, check=True).stdout\n'
            'sys.stdout.buffer.write(out)\n'
            'print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n')
    start = time.monotonic()
    r = subprocess.run([sys.executable, '-c', code, command], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, check=True)
    return r.stdout, int(r.stderr.split()[-1]), time.monotonic() - start


def boot(arch, kernel, directory, memory, name, cpus, timeout):
    drives = ['file=%s,format=raw' % (directory / image) for image in ('root.img', 'swap.img')]
    command = machine.command(arch, kernel, memory, cpus, 'root=0 swap=1 init=/bin/sh arg0=/in/%s.sh' % name, drives)
    start = time.monotonic()
    code, text = machine.run(command, timeout)
    return machine.status(code), text.encode(), time.monotonic() - start


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('arch', choices=machine.MACHINES)
    ap.add_argument('kernel', type=pathlib.Path)
    ap.add_argument('directory', type=pathlib.Path)
    ap.add_argument('--memory', type=int, default=32, help='of the machine, MiB')
    ap.add_argument('--cpus', type=int, default=1)
    ap.add_argument('--only', nargs='+')
    ap.add_argument('--small', action='store_true', help='inputs of a sixth')
    ap.add_argument('--timeout', type=int, default=3600, help='seconds without output, of each of two processors, after which a machine is given up')
    a = ap.parse_args()
    os.environ.update(LANG='C.UTF-8', LC_ALL='C.UTF-8')
    todo = {n: p for n, p in programs(a.small).items() if not a.only or n in a.only}
    inputs = a.directory / 'extra' / 'in'
    inputs.mkdir(parents=True, exist_ok=True)
    for name, (command, make) in todo.items():
        make(inputs)
        (inputs / (name + '.sh')).write_text('echo BEGIN\n%s\necho "END $?"\ncat /proc/quire\n' % command)
    print('making an image of the programs', flush=True)
    subprocess.run(['sh', str(HERE / 'image.sh'), str(a.directory), 'sort', *todo], check=True,
                   env=dict(os.environ, ARCH=a.arch, DEBIAN=str(a.kernel.parent / 'debian')))
    print('%-8s %10s %8s %10s %10s %10s %9s %8s  %s' % ('', 'needs MiB', 'has MiB', 'faults', 'swap in', 'swap out',
                                                        'machine s', 'native s', ''))
    bad = 0
    for name, (command, make) in todo.items():
        command = here(command, inputs)
        if a.arch != 'x86_64' and name == 'gcc':
            command = compiler_under_qemu(command, a.directory / 'root')
        want, peak, seconds = native(command)
        status, text, took = boot(a.arch, a.kernel, a.directory, a.memory, name, a.cpus, a.timeout)
        got = re.search(rb'BEGIN\n(.*)END 0\n', text, re.S)
        counters = dict(re.findall(rb'^(\w+) (\d+)$', text, re.M))
        clean = b'vm_check: 0 violations' in text and status == 0
        same = got is not None and got.group(1) == want
        ok = clean and same
        bad += not ok
        print('%-8s %10.1f %8d %10d %10d %10d %9.1f %8.1f  %s' % (
            name, peak / 1024, a.memory, int(counters.get(b'fault', 0)), int(counters.get(b'swapin', 0)),
            int(counters.get(b'swapout', 0)), took, seconds,
            'output equal, vm_check clean' if ok else 'FAILED'), flush=True)
        if not ok:
            sys.stdout.write(text[-3000:].decode(errors='replace') + '\n')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
