#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The conformance programs on a bare machine in QEMU. Usage: port_metal.sh SOURCE BUILD ARCH
# Builds conform.elf, then: both programs pass; with TLB flushes left out (mmu.noflush) hat_conform must fail.
set -eu
top=$1 dir=$2 arch=$3
qemu=qemu-system-$arch
if ! command -v "$qemu" >/dev/null 2>&1; then
	echo "skipped: $qemu is not installed (make test-kernel installs it)"
	exit 77
fi
make -s -C "$top/kernel" ARCH="$arch" BUILD="$dir" "$dir/conform.elf"
run()
{
	timeout 200 $qemu -M microvm,acpi=off,pic=off,pit=off,rtc=on -cpu max -m 64 -nographic -no-reboot \
		-device isa-debug-exit,iobase=0xf4,iosize=4 -kernel "$dir/conform.elf" -append "$1"
}
status()
{
	set +e
	run "$1"
	rc=$?
	set -e
}
for what in mach hat; do
	status "conform=$what"
	# the exit device makes it status * 2 + 1
	[ $rc -eq 1 ] || { echo "conform=$what ended with $rc"; exit 1; }
done
status "conform=hat mmu.noflush=1" >/dev/null
[ $rc -eq 3 ] || { echo "hat_conform does not notice that no TLB is flushed: it ended with $rc"; exit 1; }
echo "hat_conform fails as it must where flushes are left out"
