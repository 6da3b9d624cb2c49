#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Public test suites on the kernel, beside Debian's kernel.

suites.py ARCH KERNEL.elf DIR [SUITE ...] [--memory MIB] [--jobs N] [--only WORD ...] [--show]

busybox: the suite in the source of the busybox that is installed (riscv64: Debian 13's). posix: Debian's package posixtestsuite (the
Open POSIX Test Suite). selftests: some of Linux's own, of the package linux-source-6.1. Sources are Debian's and are fetched by apt
with lists of its own in DIR; nothing is installed. What does not compile is named. All programs of a suite are in one image, and
suite.c runs them one by one in a machine of --memory MiB, first on Debian's kernel (x86-64; for both architectures; kept in DIR), then
on this one. Time is a count of instructions (QEMU's -icount), and sleeping takes none. If the machine stops or says nothing for long,
the test that ran is at fault, and another machine goes on after it. Printed are the tests whose results differ, and how many ended
how; --show prints the output of those that differ, too. Exit status 1: some that pass on Debian's kernel did not here.
"""
import argparse
import collections
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import re
import selectors
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
import machine  # noqa: E402

spec = importlib.util.spec_from_file_location('beside', TOP / 'bench/kernel.py')
beside = importlib.util.module_from_spec(spec)
spec.loader.exec_module(beside)

CC = {'x86_64': 'gcc', 'riscv64': 'riscv64-linux-gnu-gcc'}
RELEASE = {'x86_64': 'bookworm', 'riscv64': 'trixie'}
SHARES = 8  # into which the tests are divided for Debian's kernel
SILENT = 900  # seconds of this computer's time without a word, after which a machine is given up
SELFTESTS = '''
vm/map_fixed_noreplace vm/map_populate vm/mlock-random-test vm/mlock2-tests vm/mremap_test vm/mremap_dontunmap vm/mrelease_test
vm/on-fault-limit vm/madv_populate vm/virtual_address_range vm/write_to_hugetlbfs vm/transhuge-stress vm/memfd_secret
mincore/mincore_selftest mqueue/mq_open_tests memfd/memfd_test membarrier/membarrier_test_single_thread
membarrier/membarrier_test_multi_thread
futex/functional/futex_requeue futex/functional/futex_requeue_pi futex/functional/futex_requeue_pi_mismatched_ops
futex/functional/futex_requeue_pi_signal_restart futex/functional/futex_wait futex/functional/futex_wait_private_mapped_file
futex/functional/futex_wait_timeout futex/functional/futex_wait_uninitialized_heap futex/functional/futex_wait_wouldblock
futex/functional/futex_waitv
exec/execveat exec/non-regular exec/recursion-depth
timers/nanosleep timers/nsleep-lat timers/posix_timers timers/mqueue-lat timers/set-timer-lat timers/inconsistency-check
timers/raw_skew timers/threadtest timers/rtcpie timers/valid-adjtimex
splice/default_file_splice_read splice/splice_read sigaltstack/sas kcmp/kcmp_test clone3/clone3 clone3/clone3_set_tid
clone3/clone3_clear_sighand clone3/clone3_cap_checkpoint_restore core/close_range_test openat2/openat2_test openat2/resolve_test
openat2/rename_attack_test pidfd/pidfd_test pidfd/pidfd_wait pidfd/pidfd_poll_test pidfd/pidfd_open_test pidfd/pidfd_fdinfo_test
pidfd/pidfd_getfd_test pidfd/pidfd_setns_test proc/fd-001-lookup proc/fd-002-posix-eq proc/fd-003-kthread proc/proc-fsconfig-hidepid
proc/proc-loadavg-001 proc/proc-multiple-procfs proc/proc-empty-vm proc/proc-pid-vm proc/proc-self-map-files-001
proc/proc-self-map-files-002 proc/proc-self-syscall proc/proc-self-wchan proc/proc-subset-pid proc/proc-tid0 proc/proc-uptime-001
proc/proc-uptime-002 proc/read proc/self proc/setns-dcache proc/setns-sysvipc proc/thread-self rlimits/rlimits-per-userns
filesystems/epoll/epoll_wakeup_test filesystems/devpts_pts filesystems/dnotify_test filesystems/eventfd/eventfd_test
ipc/msgque sync/sync_test tmpfs/bug-link-o-tmpfile size/get_size prctl/set-anon-vma-name-test prctl/set-process-name
syscall_user_dispatch/sud_test ptrace/peeksiginfo ptrace/get_syscall_info ptrace/vmaccess arm64/none user/none vDSO/vdso_test_gettimeofday
vDSO/vdso_test_getcpu vDSO/vdso_test_abi vDSO/vdso_test_clock_getres vDSO/vdso_test_correctness
'''.split()


def run(*command, **more):
    return subprocess.run([str(c) for c in command], check=True, **more)


class Sources:
    """Of Debian's packages, unpacked."""

    def __init__(self, directory, release):
        self.dir = directory / ('sources-' + release)
        run('sh', TOP / 'kernel/apt_lists.sh', self.dir, release, '', 'deb-src')
        self.env = dict(os.environ, APT_CONFIG=str(self.dir / 'apt.conf'))
        if not list((self.dir / 'state/lists').glob('*Sources*')):
            run('apt-get', '-qq', 'update', env=self.env)

    def source(self, package):
        """(upstream's files, Debian's files)"""
        at = self.dir / package
        if not (at / 'unpacked').exists():
            shutil.rmtree(at, ignore_errors=True)
            at.mkdir()
            print('fetching the source of %s' % package, flush=True)
            run('apt-get', '-qq', '--download-only', 'source', package, cwd=at, env=self.env)
            for name in ('up', 'debian'):
                (at / name).mkdir()
            run('tar', 'xf', next(at.glob('*.orig.tar.*[!c]')), '-C', at / 'up', '--strip-components=1')
            run('tar', 'xf', next(at.glob('*.debian.tar.*')), '-C', at / 'debian', '--strip-components=1')
            (at / 'unpacked').touch()
        return at / 'up', at / 'debian'

    def selftests(self):
        """Linux's tools/, of the package that has the kernel's source as an archive."""
        at = self.dir / 'linux'
        if not (at / 'unpacked').exists():
            shutil.rmtree(at, ignore_errors=True)
            at.mkdir()
            print('fetching linux-source-6.1', flush=True)
            run('apt-get', '-qq', 'download', 'linux-source-6.1', cwd=at, env=self.env)
            run('dpkg', '-x', next(at.glob('*.deb')), at)
            run('tar', 'xf', at / 'usr/src/linux-source-6.1.tar.xz', '-C', at, '--strip-components=1', '--wildcards', '*/tools/include',
                '*/tools/testing/selftests', '*/tools/arch/*/include')
            (at / 'unpacked').touch()
        return at / 'tools'


def compile_all(arch, directory, suite, todo, flags, extra):
    """todo: {program: source}. They are compiled once, and copied to the image. Names of those that do not compile."""
    out = directory / ('built-' + suite)
    out.mkdir(parents=True, exist_ok=True)

    def compile_one(program):
        if not (out / program).exists():
            subprocess.run([CC[arch], '-w', *flags, '-o', str(out / program), str(todo[program]), '-pthread', '-Wl,--as-needed', '-lrt',
                            '-lm'], cwd=todo[program].parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(compile_one, todo))
    good = [program for program in todo if (out / program).exists()]
    for program in good:
        shutil.copy(out / program, extra / 'suite')
    bad = sorted(set(todo) - set(good))
    print('%s: %d programs; %d do not compile: %s' % (suite, len(good), len(bad), ' '.join(bad)), flush=True)
    return bad


def make_busybox(arch, directory, extra):
    sources = Sources(directory, RELEASE[arch])
    up, debian = sources.source('busybox')
    at = extra / 'suite'
    shutil.copytree(up / 'testsuite', at / 'testsuite', symlinks=True)
    shutil.copy(debian / 'config/pkg/static', at / '.config')
    (at / 'busybox').symlink_to('/bin/busybox')
    tests = sorted({t.name.replace('.tests', '') for t in (up / 'testsuite').iterdir() if t.suffix == '.tests' or t.is_dir()})
    return [(t, 300, 'all', 'cd /suite/testsuite && SKIP_KNOWN_BUGS=y SKIP_INTERNET_TESTS=y bindir=/suite ./runtest ' + t) for t in tests]


def make_posix(arch, directory, extra):
    up, _ = Sources(directory, 'bookworm').source('posixtestsuite')
    tests = {}
    for top in ('conformance', 'functional'):
        for f in sorted((up / top).rglob('*.c')):
            name = '%s_%s' % (f.parent.name, f.stem)
            # those that only have to compile, and headers' tests, ask nothing of a kernel; tests of one helper program have no main
            if 'definitions' not in f.parts and 'buildonly' not in name and 'main' in f.read_text(errors='replace'):
                tests[name] = f
    bad = compile_all(arch, directory, 'posix', tests, ['-D_GNU_SOURCE', '-I%s' % (up / 'include')], extra)
    return [(t, 60, 'fail', '/suite/' + t) for t in tests if t not in bad]


def make_selftests(arch, directory, extra):
    tools = Sources(directory, 'bookworm').selftests()
    top = tools / 'testing/selftests'
    flags = ['-D_GNU_SOURCE', '-I%s' % top, '-I%s' % (top / 'futex/include'), '-I%s' % (top / 'pidfd'), '-I%s' % (top / 'clone3')]
    tests = {t.replace('/', '_'): top / (t + '.c') for t in SELFTESTS if (top / (t + '.c')).exists()}
    bad = compile_all(arch, directory, 'selftests', tests, flags, extra)
    return [(t, 120, 'fail', 'cp -r /suite selftests; cd selftests; ./' + t) for t in tests if t not in bad]


SUITES = {'busybox': make_busybox, 'posix': make_posix, 'selftests': make_selftests}


def prepare(arch, directory, suite, debian):
    """Makes the image of a suite, once. The names of its tests, in their order."""
    at, made = directory / suite, directory / suite / 'made.json'
    if made.exists() and made.stat().st_mtime > max(f.stat().st_mtime for f in (HERE / 'suites.py', HERE / 'suite.c')):
        return json.loads(made.read_text())
    extra = at / 'extra'
    shutil.rmtree(at, ignore_errors=True)
    (extra / 'bin').mkdir(parents=True)
    (extra / 'in').mkdir()
    (extra / 'suite').mkdir()
    tests = SUITES[suite](arch, directory, extra)
    run(CC[arch], '-O2', '-static', '-o', extra / 'bin/suite', HERE / 'suite.c')
    (extra / 'in/list').write_text(''.join('%s\t%d\t%s\t%s\n' % t for t in tests))
    for share in range(SHARES):
        (extra / ('in/%d.sh' % share)).write_text('exec /bin/suite /in/list %d %d\n' % (share, SHARES))
    # the C library loads libgcc when a thread is cancelled
    libgcc = pathlib.Path(run(CC[arch], '-print-file-name=libgcc_s.so.1', stdout=subprocess.PIPE).stdout.decode().strip())
    libraries = extra / 'usr/lib' / (arch + '-linux-gnu')
    libraries.mkdir(parents=True)
    shutil.copy(libgcc, libraries)
    env = dict(os.environ, ARCH=arch, DEBIAN=str(debian), SIZE='512')
    run('sh', HERE.parent / 'image.sh', at, 'sort', env=env)
    busybox = ['/bin/busybox'] if arch == 'x86_64' else ['qemu-riscv64', at / 'root/bin/busybox']
    for applet in run(*busybox, '--list', stdout=subprocess.PIPE).stdout.decode().split():
        if applet != 'busybox' and not (at / 'root/bin' / applet).is_symlink():
            (extra / 'bin' / applet).symlink_to('busybox')
    run('sh', HERE.parent / 'image.sh', at, 'sort', env=env)
    made.write_text(json.dumps([t[0] for t in tests]))
    return [t[0] for t in tests]


class Console:
    """What a machine says, line by line."""

    def __init__(self, process):
        self.process = process
        self.rest = b''
        self.ready = selectors.DefaultSelector()
        self.ready.register(process.stdout, selectors.EVENT_READ)

    def line(self):
        """None: the machine has ended, or was silent for too long."""
        while b'\n' not in self.rest:
            if not self.ready.select(SILENT):
                return None
            more = os.read(self.process.stdout.fileno(), 65536)
            if not more:
                return None
            self.rest += more
        line, self.rest = self.rest.split(b'\n', 1)
        return line.decode(errors='replace').rstrip('\r')


def listen(console, results, verbose):
    """Takes results, {name: (how, output)}, from a machine. The number of the test at fault if the machine has not ended well."""
    running, output = None, []
    while (line := console.line()) is not None:
        if verbose:
            print(line, flush=True)
        if m := re.match(r'START (\d+) (\S+)$', line):
            running, output = m, []
        elif m := re.match(r'RESULT (\d+) (\S+) (.*)$', line):
            results[m.group(2)] = (m.group(3), '\n'.join(output[-60:] if m.group(3) != '0' else output))
            running = None
        elif line == 'SUITE ENDED':
            return None
        else:
            output.append(line)
    if running is None:
        raise SystemExit('the machine ended before a test began:\n' + '\n'.join(output[-20:]))
    results[running.group(2)] = ('stopped the machine', '\n'.join(output[-30:]))
    return int(running.group(1))


def on_debian(a, directory, suite):
    kept = directory / suite / 'linux.json'
    if kept.exists():
        return json.loads(kept.read_text())
    results, debian = {}, beside.linux(directory)

    def run_share(share):
        at = directory / suite / ('linux-%d' % share)
        at.mkdir(exist_ok=True)
        (at / 'root.img').unlink(missing_ok=True)
        (at / 'root.img').symlink_to('../root.img')
        m = beside.Machine('linux', debian, at, a.memory, str(share), True, '')
        try:
            if listen(Console(m.process), results, a.verbose) is not None:
                print('Debian\'s kernel stopped')
        finally:
            m.end()

    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        list(pool.map(run_share, range(SHARES)))
    kept.write_text(json.dumps(results, indent=1))
    return results


def run_machine(a, images, first):
    """(results, the number of the test that stopped the machine or None) of every a.jobs-th test from the first."""
    results = {}
    words = ''.join(' arg%d=%s' % (i + 3, w) for i, w in enumerate(a.only))
    command = machine.command(a.arch, a.kernel, a.memory, a.cpus, 'root=0 swap=1 seed=1 init=/bin/suite arg0=/in/list arg1=%d arg2=%d%s'
                              % (first, a.jobs, words), ['file=%s,format=raw,snapshot=on' % i for i in images])
    qemu = ['-icount', 'shift=0,sleep=off'] if a.cpus == 1 else []
    process = subprocess.Popen(command + qemu, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        at = listen(Console(process), results, a.verbose)
        if at is None:
            rest = process.communicate(timeout=SILENT)[0].decode(errors='replace')
            for line in rest.splitlines():
                if 'vm_check' in line or 'ENOSYS' in line:
                    print(line, flush=True)
        return results, at
    finally:
        process.kill()
        process.wait()


def on_quire(a, directory, suite, tests):
    """Several machines at a time share the tests; one that stopped is followed by another that goes on."""
    results = {}

    def share(first):
        while first is not None and first < len(tests):
            got, at = run_machine(a, [directory / suite / i for i in ('root.img', 'swap.img')], first)
            results.update(got)
            first = at if at is None else at + a.jobs

    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        list(pool.map(share, range(a.jobs)))
    return results


def split(suite, results):
    """busybox: one result for each line that its tests print."""
    if suite != 'busybox':
        return {n: (r[0], r[1]) for n, r in results.items()}
    found = {}
    for applet, (how, output) in results.items():
        count = collections.Counter()
        for m in re.finditer(r'^(PASS|FAIL|SKIPPED|UNTESTED): (.*)$', output, re.M):
            count[m.group(2)] += 1
            found['%s: %s%s' % (applet, m.group(2), ' (%d)' % count[m.group(2)] if count[m.group(2)] > 1 else '')] = (m.group(1), '')
        if not count or how not in ('0', '1'):
            found[applet] = ('as a whole: ' + how, output)
    return found


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument('arch', choices=machine.MACHINES)
    ap.add_argument('kernel', type=pathlib.Path)
    ap.add_argument('directory', type=pathlib.Path)
    ap.add_argument('suites', nargs='*', default=list(SUITES), metavar='SUITE')
    ap.add_argument('--memory', type=int, default=128, help='of the machines, MiB')
    ap.add_argument('--cpus', type=int, default=1, help='more than one: without -icount')
    ap.add_argument('--jobs', type=int, default=os.cpu_count(), help='machines at a time')
    ap.add_argument('--only', nargs='+', default=[], help='tests that have one of these in their names')
    ap.add_argument('--debian', action='store_true', help='only the runs on Debian\'s kernel')
    ap.add_argument('--show', action='store_true', help='the output of tests that differ')
    ap.add_argument('--verbose', action='store_true', help='the consoles')
    a = ap.parse_args()
    directory = a.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    worse = 0
    for suite in a.suites:
        tests = prepare(a.arch, directory, suite, a.kernel.parent.resolve() / 'debian')
        if a.debian:
            on_debian(a, directory, suite)
            continue
        here = on_quire(a, directory, suite, tests)
        if not a.only:
            (directory / suite / 'quire.json').write_text(json.dumps(here, indent=1))
        want, got = split(suite, on_debian(a, directory, suite)), split(suite, here)
        print('%s: Debian\'s kernel %s; this one %s' % (suite, *(', '.join('%s %d' % c for c in sorted(collections.Counter(
            r[0] for r in rs.values()).items())) for rs in (want, got))))
        for name in sorted(got.keys() if a.only else want.keys() | got.keys()):
            w, g = want.get(name, ('no result', '')), got.get(name, ('no result', ''))
            if w[0] != g[0]:
                print('  %-60s %s; here %s' % (name, w[0], g[0]))
                worse += w[0] in ('0', 'PASS')
                if a.show:
                    print(''.join('      ' + line + '\n' for line in g[1].splitlines()[-12:]), end='')
    print('%d that pass on Debian\'s kernel do not here' % worse)
    return 1 if worse else 0


if __name__ == '__main__':
    sys.exit(main())
