#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""QEMU for the kernel, on each architecture.

machine.py ARCH KERNEL.elf MEMORY CPUS APPEND [IMAGE ...] runs a machine in this terminal; images are its disks, in order. Exit
status: the kernel's own, 99 if it did not switch the machine off. QUIRE_QEMU_ARGS in the environment: more arguments for QEMU.
"""
import os
import resource
import signal
import subprocess
import sys

MACHINES = {
    'x86_64': ['qemu-system-x86_64', '-M', 'microvm,acpi=off,pic=off,pit=off,rtc=on', '-cpu', 'max,-avx',
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


def run(qemu, seconds, typed=b''):
    """Runs QEMU's command line to its end; returns its return code and its output as text. QEMU may use this many
    seconds of processor time for each of two CPUs, however busy this computer is, and four times as many seconds of
    the clock. Code None: QEMU did not end, and the text says so."""
    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (2 * seconds, 2 * seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    try:
        r = subprocess.run(qemu, input=typed, stdout=subprocess.PIPE, timeout=4 * seconds, preexec_fn=limit)
        code, out = r.returncode, r.stdout
    except subprocess.TimeoutExpired as e:
        code, out = None, e.stdout or b''
    text = out.decode(errors='replace').replace('\r\n', '\n')
    if code is None or code in (-signal.SIGXCPU, -signal.SIGKILL):
        return None, text + '\n(it did not end in %d s)' % seconds
    return code, text


def status(returncode):
    """The status with which the kernel switched the machine off, or None if it did not. QEMU ends with 2 * status + 1."""
    return returncode >> 1 if returncode is not None and returncode & 1 else None


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
