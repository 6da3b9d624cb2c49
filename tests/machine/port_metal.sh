#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The conformance programs on a bare machine in QEMU. Usage: port_metal.sh SOURCE BUILD ARCH [trap]
# trap: nothing but hat_conform on a riscv64 that leaves reference and modification bits to the kernel.
# Builds conform.elf, then: both programs pass, in every paging mode, on one CPU (the first mode only) and on four; with TLB
# flushes left out (mmu.noflush) hat_conform must fail. Forbidden accesses trap (protect), and do not trap with mmu.noguard.
set -eu
top=$1 dir=$2 arch=$3
qemu=qemu-system-$arch cc=gcc modes=default
[ "$arch" = riscv64 ] && cc=riscv64-linux-gnu-gcc modes='sv39 sv48'
for program in $qemu $cc; do
	if ! command -v "$program" >/dev/null 2>&1; then
		echo "skipped: $program is not installed (make test-kernel ARCH=$arch installs it)"
		exit 77
	fi
done
make -s -C "$top/kernel" ARCH="$arch" BUILD="$dir" "$dir/conform.elf"
# The machine's exit status: 0 passed, 1 failed; others: the program did not end. A busy computer gives a machine little of its
# time, so the limit is one of processor time; the other is for a machine that sleeps.
run()
{
	cpus=$1
	shift
	set +e
	timeout 3000 prlimit --cpu=400 python3 "$top/kernel/machine.py" "$arch" "$dir/conform.elf" 64 "$cpus" "$*" </dev/null
	rc=$?
	set -e
}
# A CPU that leaves reference and modification bits to the kernel's trap; QEMU 7.2 has none.
trapping='-cpu rv64,svade=on,svadu=off'
bits_by_trap()
{
	export QUIRE_QEMU_ARGS="$trapping"
	for mode in $modes; do
		for cpus in 1 4; do
			run $cpus "conform=hat mmu=$mode" >"$dir/trap.out"
			cat "$dir/trap.out"
			[ $rc -eq 0 ] || { echo "conform=hat mmu=$mode on $cpus CPUs with bits set by trap ended with $rc"; exit 1; }
			grep -q 'set by trap: yes' "$dir/trap.out" || { echo "mmu=$mode: no bit was set by trap"; exit 1; }
		done
	done
	unset QUIRE_QEMU_ARGS
}
if [ "${4:-}" = trap ]; then
	bits_by_trap
	exit 0
fi
counts='1 4'
for mode in $modes; do
	for cpus in $counts; do
		for what in mach hat; do
			run $cpus "conform=$what mmu=$mode"
			[ $rc -eq 0 ] || { echo "conform=$what mmu=$mode on $cpus CPUs ended with $rc"; exit 1; }
		done
	done
	counts=4
	run 1 "conform=hat mmu=$mode mmu.noflush=1" >/dev/null
	[ $rc -eq 1 ] || { echo "hat_conform does not notice that no TLB is flushed: it ended with $rc"; exit 1; }
	echo "mmu=$mode: hat_conform fails as it must where flushes are left out"
	run 1 "conform=protect mmu=$mode"
	[ $rc -eq 0 ] || { echo "conform=protect mmu=$mode ended with $rc"; exit 1; }
	run 1 "conform=protect mmu=$mode mmu.noguard=1" >/dev/null
	[ $rc -eq 1 ] || { echo "protect does not notice that the kernel can read a program's pages: it ended with $rc"; exit 1; }
	echo "mmu=$mode: protect fails as it must where the CPU's protections are left out"
done
if [ "$arch" = riscv64 ] && echo quit | timeout 20 $qemu -M virt $trapping -S -display none -serial none -monitor stdio \
	>/dev/null 2>&1; then
	bits_by_trap
elif [ "$arch" = riscv64 ]; then
	echo "not tested here: bits set by trap; no CPU of this QEMU leaves them to the kernel (make test-kernel gets a QEMU that has one)"
fi
if [ "$arch" = riscv64 ]; then # few numbers of spaces, so that they run out; none at all
	for asids in 7 0; do
		run 4 "conform=hat asids=$asids"
		[ $rc -eq 0 ] || { echo "conform=hat asids=$asids ended with $rc"; exit 1; }
	done
fi
