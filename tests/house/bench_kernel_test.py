#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Which figures bench/kernel.py attributes to a kernel and an image: bench_kernel_test.py SOURCE. No machine is
booted: the functions that boot one, make an image and unpack Debian's kernel are replaced."""
import contextlib
import io
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(sys.argv[1]) / 'bench'))
import kernel  # noqa: E402  bench/kernel.py


class Bench:
    """bench/kernel.py in a directory of its own. Counts the boots."""

    def __init__(self, directory):
        self.dir = directory
        self.boots = 0
        self.image = 'first'
        (directory / 'quire.elf').write_bytes(b'a kernel')
        (directory / 'vmlinuz').write_bytes(b'a kernel of Debian')
        (directory / 'linux').mkdir()
        kernel.linux = lambda d: (directory / 'vmlinuz', directory / 'vmlinuz')
        kernel.prepare = lambda d, need: ({'sort': 112.0}, self.image)
        kernel.prepared = lambda d: ({'sort': 112.0}, self.image)
        kernel.run = self.run

    def run(self, which, *_):
        self.boots += 1
        got = {k: self.boots for _, k, _ in kernel.COLUMNS if k != 'needs'}
        return dict(got, output='sorted')

    def call(self, *words):
        """(status, boots, rows of the table, complaints)"""
        out, err, before = io.StringIO(), io.StringIO(), self.boots
        sys.argv = ['kernel.py', str(self.dir / 'quire.elf'), str(self.dir), '--only', 'sort', '--memory', '96', *words]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = kernel.main()
        rows = [line for line in out.getvalue().splitlines() if line.startswith('| sort')]
        return status, self.boots - before, len(rows), err.getvalue()


def test_figures_are_kept(b):
    assert b.call()[:3] == (0, 2, 3)
    assert b.call()[:3] == (0, 0, 3)
    assert b.call('--again')[:3] == (0, 2, 3)


def test_a_table_is_printed_with_again(b):
    b.call()
    assert b.call('--table') == (0, 0, 3, '')
    assert b.call('--again', '--table') == (0, 0, 3, '')


def test_figures_of_another_image_are_not_taken(b):
    b.call()
    b.image = 'second'
    status, boots, rows, complaint = b.call('--table')
    assert (status, boots, rows) == (0, 0, 0) and 'no figures' in complaint
    assert b.call()[:3] == (0, 2, 3)
    b.image = 'first'
    assert b.call()[:3] == (0, 0, 3)


def test_figures_of_another_kernel_are_not_taken(b):
    b.call()
    (b.dir / 'quire.elf').write_bytes(b'another kernel')
    assert b.call()[:3] == (0, 1, 3)
    (b.dir / 'vmlinuz').write_bytes(b'another kernel of Debian')
    assert b.call()[:3] == (0, 1, 3)


def test_the_sum_of_an_image_is_of_its_contents(b):
    top = b.dir / 'root'
    (top / 'bin').mkdir(parents=True)
    (top / 'bin/program').write_bytes(b'x')
    (top / 'bin/link').symlink_to('program')
    sums = [kernel.tree_sum(top)]
    for change in (lambda: (top / 'bin/program').write_bytes(b'y'), lambda: (top / 'bin/program').chmod(0o755),
                   lambda: (top / 'bin/program').rename(top / 'bin/other')):
        change()
        sums.append(kernel.tree_sum(top))
    assert len(set(sums)) == 4
    (top / 'bin/other').touch()
    assert kernel.tree_sum(top) == sums[-1]


for name, test in [(n, f) for n, f in globals().items() if n.startswith('test_')]:
    with tempfile.TemporaryDirectory() as d:
        test(Bench(pathlib.Path(d)))
    print('ok', name)
