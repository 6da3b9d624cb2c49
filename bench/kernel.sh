#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# kernel.sh [--memory MIB ...] [--need MIB] [--only NAME ...] [--rounds N] [--icount] [--again] [--table] [--least]: Quire's kernel
# beside Debian's in the same QEMU.
set -eu
cd "$(dirname "$0")/.."
make -s kernel
exec "$(sh tools/python.sh)" bench/kernel.py build/kernel-x86_64/quire.elf build/kernel-x86_64/bench "$@"
