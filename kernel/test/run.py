#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Tests of the kernel on a bare machine in QEMU: run.py ARCH DIR [NAME ...], DIR with quire.elf and conform.elf.

Each boots a machine with a fresh image; the kernel runs vm_check before it switches off, e2fsck looks at the image after.
The last line is "N passed, N failed".
"""
import contextlib
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

SOAK_SECONDS = int(os.environ.get('SOAK_SECONDS', 10))  # seconds of the test under memory pressure
FUZZ_SEEDS = int(os.environ.get('FUZZ_SEEDS', 2))  # seeds of the test of random calls
HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
import machine  # noqa: E402  kernel/machine.py
said = machine.said
# how programs are linked without shared libraries
CC = {'x86_64': ('gcc', 'musl-gcc'), 'riscv64': ('riscv64-linux-gnu-gcc', 'riscv64-linux-gnu-gcc')}

SHELL = '''echo start; ls /dev | head -3
echo hello > /tmp/x; cat /tmp/x; mkdir /tmp/d; cp /bin/busybox /tmp/d/bb; cmp /bin/busybox /tmp/d/bb && echo same
mv /tmp/d/bb /tmp/d/cc; ls /tmp/d; rm -r /tmp/d; ls /tmp
busybox seq 1 5000 | busybox sort -n -r | busybox head -2; busybox seq 1 20000 | busybox md5sum
for i in 1 2 3; do (echo sub $i); done; echo $((6 * 7)) | busybox sed s/4/four/
busybox ln -s x /tmp/link; cat /tmp/link; busybox readlink /tmp/link; rm /tmp/link /tmp/x
busybox dd if=/dev/zero bs=4096 count=300 2>/dev/null | busybox wc -c; busybox expr 5 + 6; false || echo no
grep -c . /proc/self/maps > /dev/null && echo maps; grep -q '^fault ' /proc/quire && echo counters; echo done
'''
SHELL_SAYS = '''start
console
fd
full
hello
same
cc
x
5000
4999
e071f707df7bbeee2a6a1eb48011ddd0  -
sub 1
sub 2
sub 3
four2
hello
x
1228800
11
no
maps
counters
done
'''


# tests of `programs` that need reference and modification bits of many kinds of memory
BITS = ('files_end_with_sigbus', 'fork_gives_each_its_own', 'private_files_stay_as_they_are', 'the_stack_grows', 'memfd_is_shared',
        'a_hot_thread_reads_right', 'random_writes_and_forks', 'sleepers_are_swapped_out_and_come_back')


class Machine:
    def __init__(self, arch, directory):
        self.arch = arch
        self.dir = directory
        self.kernel = directory / 'quire.elf'
        self.img = directory / 'test'
        self.img.mkdir(exist_ok=True)

    def build(self):
        """Made once: the files of every image."""
        extra = self.img / 'extra'
        shutil.rmtree(extra, ignore_errors=True)
        (extra / 'bin').mkdir(parents=True)
        (extra / 'test').mkdir()
        for name, compiler in (('programs', 0), ('soak', 0), ('hello', 1), ('synced', 1), ('errors', 1), ('fuzz', 1)):
            sources = [HERE / (name + '.c'), *(HERE.glob('programs_*.c') if name == 'programs' else ())]
            subprocess.run([CC[self.arch][compiler], '-O2', '-static', '-pthread', '-o', extra / 'bin' / name, *sources, '-lm'], check=True)
        (extra / 'test/shell.sh').write_text(SHELL)
        if self.arch == 'x86_64':
            shutil.copy('/lib64/ld-linux-x86-64.so.2', extra / 'bin/loader')

    def image(self):
        """Makes a new image for each test."""
        subprocess.run(['sh', TOP / 'kernel/image.sh', self.img], check=True, env={
            'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'ARCH': self.arch, 'DEBIAN': str(self.dir / 'debian'),
            'SIZE': '128', 'SWAP': '512'})

    def command(self, memory, append, cpus=1, swap=''):
        """QEMU's options for the disks. swap: text before the name of the swap disk's file."""
        drives = ['file=%s%s,format=raw,rerror=report,werror=report' % (swap if name == 'swap.img' else '', self.img / name)
                  for name in ('root.img', 'swap.img')]
        return machine.command(self.arch, self.kernel, memory, cpus, 'root=0 swap=1 seed=1 ' + append, drives)

    def boot(self, memory, append, cpus=1, silence=300, swap='', typed=None):
        """Returns the kernel's status (None: it did not switch off) and its output. silence: seconds without a line of output
        after which the machine is given up (machine.run)."""
        code, text = machine.run(self.command(memory, append, cpus, swap), silence, typed or b'')
        if machine.status(code) is None or 'vm_check: 0 violations' not in text:
            return None, text + machine.how_it_ended(code)
        fsck = subprocess.run(['e2fsck', '-fn', str(self.img / 'root.img')], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if fsck.returncode != 0:
            return None, text + fsck.stdout.decode(errors='replace')
        return machine.status(code), text


def tests_of(table):
    """The names of the tests in a table of `programs`, which is in the file of its name."""
    text = (HERE / ('programs_%s.c' % table)).read_text()
    return re.findall(r'^\tT\((\w+), \d\),$', text.split('%s_tests[] = {\n' % table)[1].split('\n};')[0], re.M)


def programs_pass(m, memory, names, words='', **how):
    """Do those tests of `programs` pass, on a machine with these words on its command line? And the output."""
    status, text = m.boot(memory, ' '.join([words, 'init=/bin/programs', *('arg%d=%s' % a for a in enumerate(names))]), **how)
    return status == 0 and all('ok %s\n' % name in text for name in names), text


@contextlib.contextmanager
def newer_qemu(m, options=''):
    """Meanwhile machines are those of the QEMU that kernel/newer_qemu.sh gets, with these options."""
    at = m.dir.parent / 'newer-qemu'
    subprocess.run(['sh', TOP / 'kernel/newer_qemu.sh', at], check=True)
    before = dict(os.environ)
    os.environ.update(PATH='%s:%s' % (at / 'bin', before['PATH']), QUIRE_QEMU_ARGS=options)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def conformance_passes(m, *words):
    r = subprocess.run(['sh', TOP / 'tests/machine/port_metal.sh', TOP, m.dir, m.arch, *words], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    return r.returncode == 0, r.stdout.decode(errors='replace')


def test_conformance(m):
    return conformance_passes(m)


def test_bits_set_by_trap(m):
    # the CPU faults where a reference or modification bit is to be set. Kernel stacks, whose bits no trap can set, have theirs always
    with newer_qemu(m, '-cpu rv64,svade=on,svadu=off'):
        right, text = conformance_passes(m, 'trap')
        if not right:
            return False, text
        for words, cpus in (('', 1), ('mmu=sv48 asids=7', 4)):
            right, text = programs_pass(m, 24, BITS, words, cpus=cpus)
            if not right:
                return False, text
        status, text = m.boot(16, 'init=/bin/sh arg0=-c arg1=cat^/proc/quire;exit^7')
        return status == 7 and re.search(r'^tlb_bits_by_trap [1-9]', text, re.M) is not None, text


def test_every_feature_of_a_newer_cpu(m):
    # registers that the kernel does not save stay disabled. QEMU once took the firmware's status for the kernel's
    with newer_qemu(m, '-cpu max'):
        right, text = programs_pass(m, 24, [*tests_of('cpu'), 'a_hot_thread_reads_right', 'random_writes_and_forks'], cpus=4)
        if not right:
            return False, text
        status, text = m.boot(16, 'init=/bin/sh arg0=-c arg1=exit^7', cpus=4)
        return status == 7, text


def test_static(m):
    status, text = m.boot(16, 'init=/bin/hello arg0=there')
    return status == 0 and said(text) == 'hello, there\n', text


def test_the_tables_of_the_vm_take_two_percent(m):
    # and the tests that do not depend on the amount of memory; the time is printed, not judged
    for memory in (16, 64, 256):
        started = time.monotonic()
        status, text = m.boot(memory, 'init=/bin/sh arg0=-c arg1=exit^0')
        tables, start = re.search(r'KiB of memory, (\d+) for', text), re.search(r'(\d+) ms since start', text)
        if status != 0 or tables is None or start is None:
            return False, text
        most = memory * 1024 // 50 + 160
        print('%d MiB: %s KiB for the vm\'s tables, %d at most; a shell has ended %s ms after the start, QEMU %.1f s after its own' % (
            memory, tables.group(1), most, start.group(1), time.monotonic() - started), flush=True)
        if int(tables.group(1)) > most:
            return False, text
    return True, ''


def test_status_of_init(m):
    status, text = m.boot(16, 'init=/bin/sh arg0=-c arg1=exit^7')
    return status == 7, text


def test_shell_in_16_mib(m):
    status, text = m.boot(16, 'init=/bin/sh arg0=/test/shell.sh')
    return status == 0 and said(text) == SHELL_SAYS, text


def test_the_shell_reads_the_terminal(m):
    # The firmware may consume the first typed byte. The erase character removes the x.
    status, text = m.boot(16, 'init=/bin/sh', typed=b'\necho $((6 * 7))x\x7f\nsleep 0 &\nwait; exit 5\n')
    return status == 5 and '\n42\n' in text, text


def test_programs_in_24_mib(m):
    status, text = m.boot(24, 'init=/bin/programs')
    swapped = re.search(r'written by swap (\d+)', text)
    return status == 0 and 'FAILED' not in text and swapped is not None and int(swapped.group(1)) > 10000, text


def test_programs_on_4_cpus(m):
    status, text = m.boot(24, 'mmu=sv48 init=/bin/programs', cpus=4)
    return status == 0 and 'FAILED' not in text, text


def test_programs_that_try_to_break_the_kernel(m):
    names = [n for n in tests_of('stress') if n != 'fills_memory_and_execs']
    for cpus in (1, 4):
        right, text = programs_pass(m, 24, names, cpus=cpus)
        if not right:
            return False, text
    return True, ''


def test_want_of_memory_inside_a_call(m):
    return programs_pass(m, 32, tests_of('deny'), 'inject=1')


def test_the_loader_finds_avx2(m):
    # glibc's loader asks the CPU and XCR0; then its string functions are those of AVX2
    status, text = m.boot(24, 'init=/bin/sh arg0=-c arg1=/bin/loader^--help;exit^3')
    return status == 3 and re.search(r'x86-64-v3 \(supported, searched\)', text) is not None, text


def test_a_cpu_that_starts_late_is_counted(m):
    # such a CPU once ran threads and got no shootdowns, or started on the next CPU's stack
    status, text = m.boot(16, 'cpus.slow=6000 init=/bin/busybox arg0=nproc', cpus=3)
    return status == 0 and said(text) == '3\n', text


def test_a_cpu_that_enters_where_the_first_did_is_counted(m):
    # such a CPU once booted the machine a second time, on the stack of the first
    status, text = m.boot(16, 'cpus.astray=1 init=/bin/busybox arg0=nproc', cpus=4)
    return status == 0 and said(text) == '4\n', text


def test_a_woken_thread_runs_at_once(m):
    # a thread that ended had told so before it left the space: the thread that executed a program freed the space first
    return programs_pass(m, 24, tests_of('race'), 'sched.eager=1', silence=60)


def test_a_late_request_to_leave_a_space_is_harmless(m):
    return programs_pass(m, 24, ['the_end_of_a_space_disturbs_no_other'], 'mmu.lateleave=1', cpus=2)


def test_a_root_is_freed_when_no_cpu_has_it(m):
    return programs_pass(m, 24, ['a_root_is_freed_when_no_cpu_has_it'], 'mmu.slowload=1', cpus=4)


def test_no_shootdown_is_found_out(m):
    spin = 'init=/bin/programs arg0=a_spinning_thread_sees_pages_change'
    right, text = m.boot(24, spin, cpus=4)
    if right != 0 or 'spinning thread: 0 wrong' not in text:
        return False, text
    # The machine is broken on purpose: other CPUs do not flush.
    wrong, text = m.boot(24, 'mmu.noshoot=1 quiet=1 ' + spin, cpus=4)
    return wrong != 0 and 'FAILED a_spinning_thread_sees_pages_change' in text, text


def test_a_disk_that_cannot_be_read_is_sigbus(m):
    conf = m.img / 'blkdebug.conf'
    conf.write_text('[inject-error]\nevent = "read_aio"\niotype = "read"\nerrno = "5"\nonce = "off"\n')
    status, text = m.boot(24, 'init=/bin/programs arg0=random_writes_and_forks', swap='blkdebug:%s:' % conf)
    return status == 7 and 'signal 7 code 3' in text, text


def test_a_disk_that_cannot_be_written_is_sigbus(m):
    conf = m.img / 'blkdebug.conf'
    conf.write_text('[inject-error]\nevent = "write_aio"\niotype = "write"\nerrno = "28"\nonce = "off"\n')
    status, text = m.boot(24, 'init=/bin/programs arg0=random_writes_and_forks', swap='blkdebug:%s:' % conf)
    return status == 7 and 'signal 7 code 3' in text, text


def boot_with_one_error(m, kind, errno):
    """(signals that the program took, errors that the kernel saw, what it said), for a swap disk that fails once, at
    its page 100."""
    conf = m.img / 'blkdebug.conf'
    conf.write_text('[inject-error]\nevent = "%s_aio"\niotype = "%s"\nerrno = "%d"\nonce = "on"\nsector = "800"\n'
                    % (kind, kind, errno))
    status, text = m.boot(24, 'init=/bin/errors arg0=once', swap='blkdebug:%s:' % conf)
    said_so = re.search(r'^errors: (\d+) signals, 0 wrong, disk errors (\d+)$', text, re.M)
    return (int(said_so.group(1)), int(said_so.group(2)), text) if status == 0 and said_so else (None, None, text)


def test_a_write_that_fails_once_costs_nothing(m):
    for errno in (5, 28):
        signals, errors, text = boot_with_one_error(m, 'write', errno)
        if (signals, errors) != (0, 1):
            return False, text
    return True, ''


def test_a_read_that_fails_once_costs_a_signal_at_most(m):
    signals, errors, text = boot_with_one_error(m, 'read', 5)
    return errors == 1 and signals <= 1, text


def test_a_kernel_stack_that_cannot_be_read_stops_the_machine(m):
    # the swapper once tried again forever
    conf = m.img / 'blkdebug.conf'
    conf.write_text('[inject-error]\nevent = "read_aio"\niotype = "read"\nerrno = "5"\nonce = "off"\n')
    code, text = machine.run(m.command(24, 'maxslp=1 init=/bin/errors arg0=stack', swap='blkdebug:%s:' % conf), 300)
    return machine.status(code) == 0x7f and re.search(
        r'\npanic: a kernel stack of process \d+ cannot be read back from swap: I/O error\n$', text) is not None, text


def test_what_was_synced_outlives_power_cuts(m):
    rng = random.Random(3)
    for cut in range(3):
        p = subprocess.Popen(m.command(16, 'init=/bin/synced arg0=write'), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        last, want = 0, rng.randrange(4, 24)
        for line in p.stdout:
            if line.startswith(b'synced '):
                last = int(line.split()[1])
                if last == want:
                    break
        p.kill()
        p.wait()
        if last != want:
            return False, 'the program ended after %d of %d files' % (last, want)
        fsck = subprocess.run(['e2fsck', '-fy', str(m.img / 'root.img')], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if fsck.returncode > 1:
            return False, fsck.stdout.decode(errors='replace')
        status, text = m.boot(16, 'init=/bin/synced arg0=check arg1=%d' % want)
        if status != 0:
            return False, 'power cut %d after file %d\n%s' % (cut, want, text)
    return True, ''


def test_four_cpus_under_pressure(m):
    status, text = m.boot(24, 'init=/bin/soak arg0=4 arg1=%d' % SOAK_SECONDS, cpus=4, silence=SOAK_SECONDS + 300)
    print(''.join(line + '\n' for line in text.splitlines() if line.startswith(('soak', 'quire: faults'))), end='')
    return status == 0 and ' 0 wrong' in text, text


def test_the_end_waits_for_every_process(m):
    # vm_check once ran while programs and threads of the kernel continued; the references that it counts changed
    # meanwhile
    status, text = m.boot(24, 'init=/bin/sh arg0=-c arg1=/bin/soak^4^600^&^/bin/sleep^2;exit^5', cpus=4)
    return status == 5, text


def test_pipes_whose_ring_cannot_grow(m):
    # the writer of a record larger than the remaining room once polled without end
    names = ('pipes_carry_everything', 'small_writes_stay_whole', 'splice_carries_files')
    return programs_pass(m, 24, names, 'pipe.nogrow=1')


def test_the_first_process_cannot_be_killed(m):
    status, text = m.boot(16, 'init=/bin/sh arg0=-c arg1=kill^-9^1;kill^-TERM^1;kill^-9^0;echo^lives;exit^3')
    return status == 3 and said(text) == 'lives\n', text


def test_power_is_switched_off_by_a_call(m):
    # poweroff did nothing once: the shell went on, and QEMU with it
    status, text = m.boot(16, 'init=/bin/sh arg0=-c arg1=(exec^/bin/busybox^poweroff^-f);while^sleep^1000;do^:;done;exit^3')
    return status == 0 and said(text) == '' and 'vm_check: 0 violations' in text, text


def test_a_long_command_line(m):
    # words of the command line behind byte 511, and bytes of a word behind its 127th, were once ignored
    status, text = m.boot(16, 'init=/bin/sh arg0=-c arg1=test^${#0}^=^1500 arg2=' + 1500 * 'x')
    if status != 0:
        return False, text
    # more words than 15 were once ignored
    words = ''.join(' arg%d=x' % i for i in range(2, 33))
    status, text = m.boot(16, 'init=/bin/sh arg0=-c arg1=test^$#^=^30' + words)
    if status != 0:
        return False, text
    code, text = machine.run(m.command(16, 'init=/bin/hello arg0=' + 5000 * 'x'), 300)
    return machine.status(code) == 0x7f and 'panic: the command line is longer than 4095 bytes' in text, text


def test_a_file_deleted_in_1970_leaves_no_orphan(m):
    # the time of deletion is also the link of ext2's list of orphans, if it is as small as a number of an inode
    status, text = m.boot(16, 'clock=5 init=/bin/sh arg0=-c arg1=echo^a^>/tmp/x&&rm^/tmp/x&&echo^deleted')
    return status == 0 and said(text) == 'deleted\n', text


def test_random_calls(m):
    for k in range(FUZZ_SEEDS):
        # on riscv64 some seeds run in Sv48, some with so few address space numbers that they run out
        words = 'mmu=sv48 ' * (k // 2 % 2) + 'asids=7 ' * (k // 4 % 2)
        status, text = m.boot(32, words + 'quiet=1 init=/bin/fuzz arg0=%d arg1=40 arg2=300' % (1000 * k or 1), cpus=(1, 4, 2, 4)[k % 4])
        if status != 0 or re.search(r'^fuzz: 40 children, \d{4,} calls', text, re.M) is None:
            return False, 'seed %d\n' % (1000 * k or 1) + text
    return True, ''


def test_unknown_calls_are_counted(m):
    status, text = m.boot(16, 'init=/bin/hello arg0=unknown')
    return status == 0 and 'system call 500 is unknown: 3 times ENOSYS' in text, text


def test_debian_programs(m):
    r = subprocess.run([sys.executable, TOP / 'kernel/demo.py', m.arch, m.kernel, m.img / 'demo', '--small'], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    return r.returncode == 0, r.stdout.decode(errors='replace')


def test_more_debian_programs(m):
    r = subprocess.run([sys.executable, HERE / 'debian_set.py', m.arch, m.kernel, m.img / 'set'], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
    return r.returncode == 0, r.stdout.decode(errors='replace')


# the native programs are of the same release; the registers of one architecture; a CPU of one architecture
ONLY = {'more_debian_programs': 'x86_64', 'the_loader_finds_avx2': 'x86_64', 'bits_set_by_trap': 'riscv64',
        'a_cpu_that_enters_where_the_first_did_is_counted': 'riscv64'}


def main():
    arch, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    tests = {n[5:]: f for n, f in globals().items() if n.startswith('test_')}
    tests = {n: f for n, f in tests.items() if ONLY.get(n, arch) == arch}
    m = Machine(arch, directory)
    m.build()
    passed = failed = 0
    for name, fn in tests.items():
        if len(sys.argv) > 3 and name not in sys.argv[3:]:
            continue
        started = time.monotonic()
        m.image()
        ok, text = fn(m)
        print('%s %s (%.0f s)' % ('ok' if ok else 'FAILED', name, time.monotonic() - started), flush=True)
        passed += ok
        failed += not ok
        if not ok:
            # a program's own words on what failed may stand far before the end
            print(''.join(re.findall(r'^(?:FAILED|programs: ).*\n', text[:-4000], re.M)) + text[-4000:])
    print('%d passed, %d failed' % (passed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
