#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""QEMU for the kernel, on each architecture.

machine.py ARCH KERNEL.elf MEMORY CPUS APPEND [IMAGE ...] runs a machine in this terminal; images are its disks, in order. Exit
status: the kernel's own, 99 if it did not switch the machine off. QUIRE_QEMU_ARGS in the environment: more arguments for QEMU.
"""
import os
import resource
import selectors
import subprocess
import sys
import time

MOST_OUTPUT = 64 << 20  # bytes of a machine's console
MACHINES = {
    'x86_64': ['qemu-system-x86_64', '-M', 'microvm,acpi=off,pic=off,pit=off,rtc=on', '-cpu', 'max',
               '-device', 'isa-debug-exit,iobase=0xf4,iosize=4'],
    'riscv64': ['qemu-system-riscv64', '-M', 'virt'],
}


def command(arch, kernel, memory, cpus, append, drives=()):
    """The command line of QEMU. drives: QEMU's descriptions of the disks, 'file=...,format=raw'."""
    c = MACHINES[arch] + os.environ.get('QUIRE_QEMU_ARGS', '').split() + ['-m', str(memory), '-smp', str(cpus), '-nographic', '-no-reboot',
                          '-global', 'virtio-mmio.force-legacy=false', '-kernel', str(kernel), '-append', append]
    for i, drive in enumerate(drives):
        c += ['-drive', '%s,if=none,id=d%d' % (drive, i), '-device', 'virtio-blk-device,drive=d%d' % i]
    return c


def no_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def processor_seconds(process):
    """Seconds of processor time that all threads of the child have used."""
    with open('/proc/%d/stat' % process.pid) as f:
        fields = f.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def read_to_the_end(process, seconds):
    """The child's output, and why it was given up (None: it ended)."""
    out, ready = b'', selectors.DefaultSelector()
    ready.register(process.stdout, selectors.EVENT_READ)
    while True:
        clock, used = time.monotonic(), processor_seconds(process)
        while not ready.select(1):
            if processor_seconds(process) - used > 2 * seconds or time.monotonic() - clock > 4 * seconds:
                return out, 'it printed nothing for %d s of two processors, or for %d s' % (seconds, 4 * seconds)
        more = os.read(process.stdout.fileno(), 65536)
        if not more:
            return out, None
        out += more
        if len(out) > MOST_OUTPUT:
            return out[-65536:], 'it printed more than %d MiB' % (MOST_OUTPUT >> 20)


def run(qemu, seconds, typed=b''):
    """Runs QEMU's command line to its end; returns its return code and its output as text. How long it may take is a
    matter of progress: QEMU is given up if it prints nothing while it uses so many seconds of processor time on each of two
    processors, however busy this computer is, or for four times as many seconds of the clock. Code None: QEMU was given
    up, and the text says why."""
    process = subprocess.Popen(qemu, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=no_core)
    try:
        try:
            process.stdin.write(typed)
            process.stdin.close()
        except BrokenPipeError:
            pass
        out, why = read_to_the_end(process, seconds)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if why is not None:
        process.kill()
    code = process.wait()
    text = out.decode(errors='replace').replace('\r\n', '\n')
    return (code, text) if why is None else (None, text + '\n(%s)' % why)


def status(returncode):
    """The status with which the kernel switched the machine off, or None if it did not. QEMU ends with 2 * status + 1."""
    return returncode >> 1 if returncode is not None and returncode & 1 else None


def how_it_ended(returncode):
    """A line on the end of a machine that did not switch itself off as it should."""
    if returncode is None:
        return ''
    if returncode < 0:
        return '\n(QEMU was ended by signal %d)\n' % -returncode
    if returncode == 0:
        return '\n(QEMU ended by itself: a CPU was reset, as after a triple fault, or the console was left)\n'
    if status(returncode) is None:
        return '\n(QEMU ended with %d)\n' % returncode
    return '\n(the kernel switched the machine off with %d)\n' % status(returncode)


def said(text):
    """The output of programs: without the firmware's first lines, and without the kernel's own lines."""
    lines = text.splitlines(keepends=True)
    first = next((i for i, line in enumerate(lines) if line.startswith('quire: ')), 0)
    return ''.join(line for line in lines[first:] if not line.startswith('quire: '))


if __name__ == '__main__':
    a = sys.argv
    try:
        s = status(subprocess.call(command(a[1], a[2], a[3], a[4], a[5], ['file=%s,format=raw' % i for i in a[6:]])))
    except KeyboardInterrupt:
        s = None
    sys.exit(99 if s is None else s)
