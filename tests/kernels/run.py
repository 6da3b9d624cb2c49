#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Small hosting tests on other kernels of Debian, in QEMU: run.py BUILD DIR [NAME ...].

BUILD has been built; packages, images and the machines' output stay in DIR. Names: bookworm (Debian 12's kernel),
backports (the newest kernel in its backports), bullseye (Debian 11's, 5.10). Default: the first two.

Each kernel boots without acceleration with an initramfs that holds the build, its libraries and a few programs, and a disk
for the swap file. apt fetches the packages with separate lists in DIR; this machine's lists are not changed. A line
names each kernel that cannot be run. The last line is "N passed, N failed".
"""
import concurrent.futures
import lzma
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
MIRROR = 'http://deb.debian.org/debian'
SUITES = {'bookworm': 'bookworm', 'backports': 'bookworm-backports', 'bullseye': 'bullseye'}
MODULES = ['virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4']
PROGRAMS = ['dash', 'sort', 'sqlite3', 'cat', 'head', 'true', 'false', 'sed', 'env', 'seq', 'tail']
TESTS = ['run/run_scenarios', 'machine/linux_test', 'machine/adopt_test', 'machine/hat_conform_linux', 'machine/mach_conform_linux',
         'store/store_test']
# A busy host makes no test fail: a test is bounded by the machine's own clock, which counts instructions, and a machine
# by the CPU seconds that it gets. WALL bounds a machine that waits without using a CPU.
TEST_SECONDS, CPU_SECONDS, WALL_SECONDS = 150, 900, 7200
PATTERNS = {'store/store_test': ['*ring_in_a_room_writes*']}      # the tests of a program, if not all are run
# Only a few of each kind, as instructions are interpreted.
SCENARIOS = """heap mremap madvise munmap brk mprotect read-only map-fixed io process-vm shared-while-writing populated locked
held-pipe held-splice held-socket held-fixed held-read held-direct held-others held-futex
fork not-forked madvise-fork key-over-fork futex-over-fork only-read-then-forked close-all own-signals""".split()
SCRIPTS = {
    'sort': 'seq 1 60000 | sort -rn -S 20M | tail -3\n',
    'sqlite': "sqlite3 :memory: 'create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 from n where i < 30000) "
              "insert into t select i, hex(i * 7919 % 30011) || printf(\"%200d\", i) from n; create index x on t(b); "
              "select count(*), sum(a) from t where b > \"5\"; select count(distinct b) from t;'\n",
}


def apt(directory, suite):
    """Options of apt for separate lists with this suite only."""
    home = directory / 'apt' / suite
    for d in ('lists/partial', 'cache/archives/partial'):
        (home / d).mkdir(parents=True, exist_ok=True)
    (home / 'list').write_text('deb [signed-by=%s] %s %s main\n' % (KEYRING, MIRROR, suite))
    return ['-o', 'Dir::Etc::sourcelist=%s' % (home / 'list'), '-o', 'Dir::Etc::sourceparts=/dev/null',
            '-o', 'Dir::State::lists=%s' % (home / 'lists'), '-o', 'Dir::Cache=%s' % (home / 'cache'),
            '-o', 'Acquire::Languages=none', '-o', 'Acquire::http::Timeout=30', '-o', 'APT::Sandbox::User=root']


def fetch(directory, suite):
    """The unpacked package of the suite's kernel. Raises RuntimeError with a line that says why not."""
    options = apt(directory, suite)
    got = directory / suite
    got.mkdir(exist_ok=True)
    r = subprocess.run(['apt-get', *options, 'update', '-qq'], capture_output=True, text=True, timeout=600)
    known = subprocess.run(['apt-cache', *options, 'depends', 'linux-image-amd64'], capture_output=True, text=True).stdout
    m = re.search(r'Depends: (linux-image-\S+)', known)
    if not m:
        raise RuntimeError('%s is not reachable: %s' % (suite, (r.stderr.strip().splitlines() or ['no such package'])[-1]))
    root = got / m[1]
    if not root.exists():
        r = subprocess.run(['apt-get', *options, 'download', '-qq', m[1]], cwd=got, capture_output=True, text=True, timeout=900)
        packages = sorted(got.glob(m[1] + '_*.deb'))
        if r.returncode or not packages:
            raise RuntimeError('%s cannot be downloaded: %s' % (m[1], (r.stderr.strip().splitlines() or ['?'])[-1]))
        shutil.rmtree(got / 'new', ignore_errors=True)
        subprocess.run(['dpkg-deb', '-x', packages[-1], got / 'new'], check=True)
        packages[-1].unlink()
        (got / 'new').rename(root)
    return root


def modules(root, into):
    """Copies MODULES and their dependencies, unpacked, and lists them in loading order."""
    there = {re.sub(r'\.ko(\.xz)?$', '', p.name).replace('-', '_'): p for p in root.glob('lib/modules/*/kernel/**/*.ko*')}
    done = []

    def take(name):
        if name in done or name not in there:       # no such file: the module is built into the kernel
            return
        data = there[name].read_bytes()
        data = lzma.decompress(data) if there[name].suffix == '.xz' else data
        for depends in re.findall(rb'\0depends=([^\0]*)\0', data):
            for d in filter(None, depends.decode().split(',')):
                take(d.replace('-', '_'))
        (into / name).write_bytes(data)
        done.append(name)

    into.mkdir(parents=True)
    for name in MODULES:
        take(name)
    (into / 'list').write_text(''.join(n + '\n' for n in done))


def put(tree, program, at):
    """A program and the libraries that it loads."""
    (tree / at).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, tree / at)
    libraries = subprocess.run(['ldd', program], capture_output=True, text=True).stdout
    for lib in re.findall(r'(/\S+) \(0x', libraries):
        to = tree / lib[1:]
        to.parent.mkdir(parents=True, exist_ok=True)
        if not to.exists():
            shutil.copy(lib, to)


def make_tree(build, root, tree):
    shutil.rmtree(tree, ignore_errors=True)
    for d in ('bin', 'dev', 'proc', 'sys', 'tmp', 'var/tmp', 'etc', 'tests', 'usr/bin', 'root'):
        (tree / d).mkdir(parents=True)
    (tree / 'tmp').chmod(0o1777)
    put(tree, shutil.which('busybox'), 'bin/busybox')
    for p in PROGRAMS:
        put(tree, shutil.which(p), 'bin/' + p)
    (tree / 'bin/sh').symlink_to('dash')
    for name in ('quire', 'libquire-run.so'):
        put(tree, build / name, 'bin/' + name)
    for t in TESTS:
        put(tree, build / 'tests' / t, 'bin/' + pathlib.Path(t).name)
    (tree / 'etc/passwd').write_text('root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n')
    (tree / 'etc/group').write_text('root:x:0:\nnogroup:x:65534:\n')
    shutil.copy(HERE / 'init.sh', tree / 'init')
    (tree / 'init').chmod(0o755)
    modules(root, tree / 'modules')
    for name, text in SCRIPTS.items():
        (tree / 'tests' / name).write_text(text)
    lines = ['script ' + s for s in SCRIPTS]
    lines += ['alone %s %s' % (pathlib.Path(t).name, ' '.join(PATTERNS.get(t, []))) for t in TESTS[1:]]
    lines += ['hosted %s 8M run_scenarios -b 10 %s' % (n, n) for n in SCENARIOS]
    (tree / 'tests/seconds').write_text('%d\n' % TEST_SECONDS)
    (tree / 'tests/list').write_text(''.join(line + '\n' for line in lines))


def used(pid):
    """CPU seconds that a process has used."""
    times = pathlib.Path('/proc/%d/stat' % pid).read_text().rsplit(')', 1)[1].split()
    return (int(times[11]) + int(times[12])) / os.sysconf('SC_CLK_TCK')


def boot(directory, root, tree, heard):
    """Returns the machine's output. heard: called with each line for this script, when it arrives, and with the CPU
    seconds so far."""
    image, disk = directory / 'initramfs', directory / 'disk'
    with open(image, 'wb') as f:
        find = subprocess.Popen(['find', '.', '-print0'], cwd=tree, stdout=subprocess.PIPE)
        subprocess.run(['cpio', '--null', '-o', '-H', 'newc', '--quiet', '-R', '0:0'], cwd=tree, stdin=find.stdout, stdout=f, check=True)
        find.wait()
    disk.unlink(missing_ok=True)
    with open(disk, 'wb') as f:
        f.truncate(512 << 20)
    subprocess.run(['mke2fs', '-q', '-t', 'ext4', '-F', disk], check=True)
    kernel = next(root.glob('boot/vmlinuz-*'))
    # While the machine works its clock counts instructions, so that a busy host makes nothing time out there. While it
    # waits for its disk, its clock is the host's: otherwise the clock would leap to the next timer, such as the end of
    # a test's time.
    command = ['qemu-system-x86_64', '-accel', 'tcg', '-icount', 'shift=1,sleep=on', '-cpu', 'max', '-m', '1G', '-nographic',
               '-no-reboot', '-net', 'none', '-kernel', kernel, '-initrd', image,
               '-append', 'console=ttyS0 quiet panic=-1 no_timer_check',
               '-drive', 'file=%s,format=raw,if=virtio,cache=unsafe' % disk]
    log = directory / (root.name + '.log')
    with open(log, 'w') as f:
        p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
        resource.prlimit(p.pid, resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        clock = threading.Timer(WALL_SECONDS, p.kill)
        clock.start()
        for line in p.stdout:
            line = line.replace('\r', '')
            f.write(line)
            f.flush()
            said = re.search('(?:^|\x1b[^@]*)@ (.*)', line)       # the firmware clears the screen before the first
            if said:
                heard(said[1], used(p.pid))
        p.wait()
        clock.cancel()
    disk.unlink()
    return log.read_text()


class Listener:
    """Prints a machine's results, a line for each test with its CPU seconds, and counts them."""
    def __init__(self, name):
        self.name, self.passed, self.failed, self.at, self.ended = name, 0, 0, 'the start of the kernel', False
        self.seconds = self.next = 0

    def say(self, text):
        print('%-10s %s' % (self.name, text), flush=True)

    def __call__(self, line, seconds):
        word, _, rest = line.partition(' ')
        self.seconds = seconds
        if word == 'next':
            self.at, self.next = rest, seconds
            return
        self.ended |= word == 'end'
        self.passed += word == 'ok'
        self.failed += word == 'FAIL'
        if word != 'end':
            self.say(line + ('  %.0f s' % (seconds - self.next) if word in ('ok', 'FAIL') else ''))


def test(build, directory, name):
    """(passed, failed)"""
    listener = Listener(name)
    try:
        root = fetch(directory, SUITES[name])
    except (RuntimeError, subprocess.SubprocessError, OSError) as e:
        listener.say('not run: %s' % e)
        return 0, 0
    own = directory / name
    make_tree(build, root, own / 'tree')
    listener.say('%s boots; every test has %d s of the machine\'s own time, all of them %d s of a CPU' % (root.name, TEST_SECONDS, CPU_SECONDS))
    said = boot(own, root, own / 'tree', listener)
    if not listener.ended:
        listener.failed += 1
        listener.say('FAIL: it did not come to the end in %d s of a CPU; it was at %s' % (CPU_SECONDS, listener.at))
    if listener.failed:
        listener.say('the last that it said:\n' + said[-6000:])
    listener.say('%d passed, %d failed, %.0f s' % (listener.passed, listener.failed, listener.seconds))
    return listener.passed, listener.failed


def main():
    build, directory = (pathlib.Path(a).resolve() for a in sys.argv[1:3])
    directory.mkdir(parents=True, exist_ok=True)
    names = sys.argv[3:] or ['bookworm', 'backports']
    if not set(names) <= set(SUITES):
        sys.exit('kernels: %s' % ' '.join(SUITES))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:      # a machine keeps one CPU busy
        results = list(pool.map(lambda n: test(build, directory, n), names))
    passed, failed = (sum(r[i] for r in results) for i in (0, 1))
    print('%d passed, %d failed' % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == '__main__':
    sys.exit(main())
