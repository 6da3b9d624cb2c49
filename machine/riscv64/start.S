/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first instructions, on the boot CPU and on the others.
 *
 * The firmware (SBI) enters start in S-mode without paging: a0 is the hart's number, a1 the physical address of the device
 * tree. The boot table maps, by 1 GiB pages, memory where it is, the image where it is linked, and the first 4 GiB of physical
 * addresses at the direct map. boot.c replaces the table by one that is writable or executable, never both.
 *
 * Another CPU enters ap_entry the same way (SBI HSM), or start: OpenSBI before 1.3 marks the hart as to be started before it
 * notes where, so a hart that looks in between enters where the boot CPU did, with its a1. So what it needs is not in a
 * register: its struct cpu is in ap_cpu, and the final root in ap_satp. One CPU is started at a time.
 */
#define LEAF_X 0xcf /* D A X W R V */
#define LEAF 0xc7
#define PPN_GIB (0x40000000 >> 12 << 10)

	.section .boot, "ax"
	.globl start
start:
	csrw sie, zero
	fence
	la t0, ap_cpu
	ld t0, (t0)
	bnez t0, ap_entry
	la sp, boot_root
	li t0, LEAF_X | (0x80000000 >> 12 << 10)
	sd t0, 2 * 8(sp)
	li t1, 510 * 8
	add t1, t1, sp
	sd t0, (t1)
	li t1, 320 * 8
	add t1, t1, sp
	li t0, LEAF
	li t2, PPN_GIB
	li t3, 4
1:	sd t0, (t1)
	add t0, t0, t2
	addi t1, t1, 8
	addi t3, t3, -1
	bnez t3, 1b
	la t0, start_high_address
	ld t0, (t0)
	j paging_on

	.globl ap_entry
ap_entry:
	csrw sie, zero
	la sp, boot_root
	la t0, ap_high_address
	ld t0, (t0)
paging_on: /* sp: the boot table, t0: where to go on */
	srli t1, sp, 12
	li t2, 8 << 60
	or t1, t1, t2
	sfence.vma
	csrw satp, t1
	jr t0
	.align 3
start_high_address: .dword start_high
ap_high_address:    .dword ap_high

	.text
start_high:
	la sp, boot_stack_end
	la tp, cpus
	li s0, 0
	li ra, 0
	call boot_main
	unimp

ap_high:
	la tp, ap_cpu
	ld tp, (tp)
	la t0, ap_satp
	ld t0, (t0)
	csrw satp, t0
	sfence.vma
	ld sp, 0(tp) /* CPU_KSTACK */
	li s0, 0
	li ra, 0
	mv a0, tp
	call ap_main
	unimp

/* Does the CPU have this register? An access that traps comes back at 1. */
	.globl probe_stimecmp
probe_stimecmp:
	la t0, 1f
	csrrw t1, stvec, t0
	li a0, 0
	li t2, -1
	csrw 0x14d, t2
	li a0, 1
	.align 2
1:	csrw stvec, t1
	ret

	.bss
	.align 12
boot_root:	.skip 4096
boot_stack:	.skip 16384
	.globl boot_stack_end
boot_stack_end:
	.section .note.GNU-stack, "", @progbits
