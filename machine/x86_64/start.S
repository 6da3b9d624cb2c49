/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The first instructions, on the boot CPU and on the others.
 *
 * PVH (the note below; QEMU's -kernel finds it) enters in 32-bit protected mode without paging, EBX = the start information.
 * The boot tables map the first GiB twice by 2 MiB pages: where it is, and at the direct map; the image's part also where
 * it is linked. boot.c replaces them by tables that are writable or executable, never both.
 *
 * Another CPU begins in real mode at the copy of ap_start below 1 MiB, and takes the final tables and its stack from there.
 */
#include "machine/x86_64/cpu_asm.h"

#define KERNEL 0xffffffff80000000

	.section .note.pvh, "a", @note
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start32 - KERNEL

	.section .boot, "ax"
	.code32
	.globl start32
start32:
	cld
	mov %ebx, %ebp
	/* tables: zero in bss, which the loader has cleared */
	mov $(boot_pdpt - KERNEL + 3), %eax
	mov %eax, boot_pml4 - KERNEL
	mov %eax, boot_pml4 - KERNEL + 256 * 8
	mov $(boot_pdpt_high - KERNEL + 3), %eax
	mov %eax, boot_pml4 - KERNEL + 511 * 8
	mov $(boot_pd - KERNEL + 3), %eax
	mov %eax, boot_pdpt - KERNEL
	mov %eax, boot_pdpt_high - KERNEL + 510 * 8
	mov $(boot_pd - KERNEL), %edi
	mov $0x83, %eax
	mov $512, %ecx
1:	mov %eax, (%edi)
	movl $0, 4(%edi)
	add $0x200000, %eax
	add $8, %edi
	loop 1b
	mov $(boot_pml4 - KERNEL), %eax
	mov %eax, %cr3
	mov $0x6a0, %eax /* PAE, PGE, OSFXSR, OSXMMEXCPT */
	mov %eax, %cr4
	mov $0xc0000080, %ecx
	mov $0x901, %eax /* SCE, LME, NXE */
	xor %edx, %edx
	wrmsr
	mov $0x80010033, %eax /* PG, WP, NE, ET, MP, PE */
	mov %eax, %cr0
	lgdt boot_gdtr - KERNEL
	ljmp $8, $(start64 - KERNEL)

	.code64
start64:
	mov $start_high, %rax
	jmp *%rax

	.align 8
boot_gdt:
	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
boot_gdtr:
	.word . - boot_gdt - 1
	.long boot_gdt - KERNEL

	.text
start_high:
	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	xor %eax, %eax
	mov %eax, %fs
	mov %eax, %gs
	mov $boot_stack_end, %rsp
	mov %ebp, %edi
	xor %ebp, %ebp
	call boot_main
	ud2

/* ---- another CPU: copied to AP_BASE, page aligned, below 1 MiB ---- */
	.section .rodata
	.globl ap_start, ap_end
	.code16
ap_start:
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl ap_gdtr - ap_start + AP_BASE
	mov $0x11, %eax
	mov %eax, %cr0
	ljmpl $24, $(ap32 - ap_start + AP_BASE)
	.code32
ap32:
	mov $16, %eax
	mov %eax, %ds
	mov %eax, %ss
	mov $0x6a0, %eax
	mov %eax, %cr4
	mov ap_root - ap_start + AP_BASE, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	mov $0x901, %eax
	xor %edx, %edx
	wrmsr
	mov $0x80010033, %eax
	mov %eax, %cr0
	ljmp $8, $(ap64 - ap_start + AP_BASE)
	.code64
ap64:
	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov ap_stack - ap_start + AP_BASE, %rsp
	mov ap_cpu - ap_start + AP_BASE, %rdi
	mov $ap_main, %rax
	xor %ebp, %ebp
	call *%rax
	ud2
	.align 8
ap_gdt:
	.quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff
ap_gdtr:
	.word . - ap_gdt - 1
	.long ap_gdt - ap_start + AP_BASE
	.align 8
	.globl ap_root, ap_stack, ap_cpu
ap_root:  .quad 0
ap_stack: .quad 0
ap_cpu:	  .quad 0
ap_end:

	.bss
	.align 4096
boot_pml4:	.skip 4096
boot_pdpt:	.skip 4096
boot_pdpt_high:	.skip 4096
boot_pd:	.skip 4096
boot_stack:	.skip 16384
	.globl boot_stack_end
boot_stack_end:
	.section .note.GNU-stack, "", @progbits
