#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Small hosting tests on other kernels of Debian's, in QEMU: run.py BUILD DIR [NAME ...].

BUILD has been built; packages, images and what the machines say are left in DIR. Names: bookworm (Debian 12's kernel),
backports (the newest one in its backports), bullseye (Debian 11's, 5.10). Default: the first two.

Each kernel boots without acceleration with an initramfs that holds the build, its libraries and a few programs, and a disk
for the swap file. The packages come by apt with lists of its own in DIR: the machine's are not changed. What cannot be run is
said in a line. The last line is "N passed, N failed".
"""
import lzma
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
MIRROR = 'http://deb.debian.org/debian'
SUITES = {'bookworm': 'bookworm', 'backports': 'bookworm-backports', 'bullseye': 'bullseye'}
MODULES = ['virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4']
PROGRAMS = ['dash', 'sort', 'sqlite3', 'cat', 'head', 'true', 'false', 'sed', 'env', 'seq', 'tail']
TESTS = ['run/run_scenarios', 'machine/linux_test', 'machine/adopt_test', 'machine/hat_conform_linux', 'machine/mach_conform_linux']
SECONDS = 1500          # for one kernel: without acceleration, on a busy machine
# Of each kind a few, as instructions are interpreted.
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
    """Options of apt for lists of its own that know this suite only."""
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
    """Copies MODULES and what they need, unpacked, and lists them in the order in which they can be loaded."""
    there = {re.sub(r'\.ko(\.xz)?$', '', p.name).replace('-', '_'): p for p in root.glob('lib/modules/*/kernel/**/*.ko*')}
    done = []

    def take(name):
        if name in done or name not in there:       # not there: it is in the kernel
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
    lines += ['hosted %s 8M run_scenarios -b 10 %s' % (n, n) for n in SCENARIOS]
    lines += ['alone ' + pathlib.Path(t).name for t in TESTS[1:]]
    (tree / 'tests/list').write_text(''.join(line + '\n' for line in lines))


def boot(directory, root, tree):
    """What the machine said, and whether it came to its end in time."""
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
    # The clock counts instructions, so that a busy host makes nothing time out in the machine; who sleeps there does not sleep here.
    command = ['qemu-system-x86_64', '-accel', 'tcg', '-icount', 'shift=1,sleep=off', '-cpu', 'max', '-m', '1G', '-nographic',
               '-no-reboot', '-net', 'none', '-kernel', kernel, '-initrd', image,
               '-append', 'console=ttyS0 quiet panic=-1 no_timer_check',
               '-drive', 'file=%s,format=raw,if=virtio,cache=unsafe' % disk]
    log = directory / (root.name + '.log')
    with open(log, 'wb') as f:
        p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT)
        try:
            p.wait(SECONDS)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
    disk.unlink()
    return log.read_text(errors='replace').replace('\r', '')


def test(build, directory, name):
    """(passed, failed)"""
    suite = SUITES[name]
    try:
        root = fetch(directory, suite)
    except (RuntimeError, subprocess.SubprocessError, OSError) as e:
        print('%-10s not run: %s' % (name, e), flush=True)
        return 0, 0
    began = time.monotonic()
    make_tree(build, root, directory / 'tree')
    said = boot(directory, root, directory / 'tree')
    lines = [line[2:] for line in said.splitlines() if line.startswith('@ ')]
    passed, failed = (sum(line.startswith(w) for line in lines) for w in ('ok ', 'FAIL '))
    if 'end' not in lines:
        failed += 1
        last = ([line for line in lines if line.startswith('next ')] or ['next nothing'])[-1]
        print('%-10s FAIL: it did not come to the end in %d s; it was at %s' % (name, SECONDS, last[5:]))
    for line in lines:
        if line.split()[0] in ('kernel', 'check', 'FAIL', 'skip'):
            print('%-10s %s' % (name, line))
    if failed:
        print(said[-6000:])
    print('%-10s %d passed, %d failed, %.0f s' % (name, passed, failed, time.monotonic() - began), flush=True)
    return passed, failed


def main():
    build, directory = (pathlib.Path(a).resolve() for a in sys.argv[1:3])
    directory.mkdir(parents=True, exist_ok=True)
    names = sys.argv[3:] or ['bookworm', 'backports']
    if not set(names) <= set(SUITES):
        sys.exit('kernels: %s' % ' '.join(SUITES))
    results = [test(build, directory, n) for n in names]
    passed, failed = (sum(r[i] for r in results) for i in (0, 1))
    print('%d passed, %d failed' % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == '__main__':
    sys.exit(main())
