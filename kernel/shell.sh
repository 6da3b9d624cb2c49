#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# shell.sh KERNEL.elf DIR: a busybox shell on the kernel, in this terminal. MEMORY (32), CPUS (1). ^A x ends QEMU.
set -eu
kernel=$1 dir=$2
mkdir -p "$dir"
[ -f "$dir/root.img" ] || SIZE=256 sh "$(dirname "$0")/image.sh" "$dir" sort sqlite3
exec qemu-system-x86_64 -M microvm,acpi=off,pic=off,pit=off,rtc=on -cpu max -m "${MEMORY:-32}" -smp "${CPUS:-1}" \
	-nographic -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=4 -global virtio-mmio.force-legacy=false \
	-kernel "$kernel" -drive file="$dir/root.img",format=raw,if=none,id=d0 -device virtio-blk-device,drive=d0 \
	-drive file="$dir/swap.img",format=raw,if=none,id=d1 -device virtio-blk-device,drive=d1 \
	-append "root=0 swap=1 init=/bin/sh"
