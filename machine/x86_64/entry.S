/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entering and leaving the kernel, and switching threads.
 *
 * Every way in builds a struct trapframe (cpu.h) on the thread's kernel stack. GS is the CPU's own
 * (struct cpu) in the kernel; the user's GS base waits in the other MSR. A system call by SYSCALL
 * enters with interrupts off, on the user's stack: cpu_scratch holds the user's stack pointer until
 * the kernel's is loaded.
 */
#include "cpu_asm.h"

	.text
	.macro SAVE
	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	.endm
	.macro RESTORE
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	.endm

trap_common:
	SAVE
	cld
	testb $3, TF_CS(%rsp)
	jz 1f
	swapgs
	push $2 /* the program's AC, with which the kernel could read its pages (SMAP), ends here; CLAC is not on every CPU */
	popfq
1:	mov %rsp, %rdi
	call trap
	.globl trap_return
trap_return:
	cli
	testb $3, TF_CS(%rsp)
	jz 2f
	mov %rsp, %rdi
	call trap_leave /* signals, preemption; interrupts are off when it returns */
	swapgs
2:	RESTORE
	add $16, %rsp
	iretq

	.globl syscall_entry
syscall_entry:
	swapgs
	mov %rsp, %gs:CPU_SCRATCH
	mov %gs:CPU_KSTACK, %rsp
	push $USER_SS
	push %gs:CPU_SCRATCH
	push %r11
	push $USER_CS
	push %rcx
	push $0
	push $TRAP_SYSCALL
	SAVE
	cld
	sti
	mov %rsp, %rdi
	call syscall
	jmp trap_return

/* A fresh thread: switch_to returns here with its function and argument in saved registers. */
	.globl thread_start
thread_start:
	call thread_begin
	mov %r12, %rdi
	call *%rbx
	call thread_exit
	ud2

/* A fresh user thread: its trapframe is at the top of its stack. */
	.globl user_start
user_start:
	call thread_begin
	jmp trap_return

/* switch_to(uint64_t *save_sp, uint64_t sp) */
	.globl switch_to
switch_to:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, (%rdi)
	mov %rsi, %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret

	.altmacro
	.macro STUB n
	.align 16
trap_\n:
	.if (\n == 8) || (\n >= 10 && \n <= 14) || (\n == 17) || (\n == 21)
	.else
	push $0
	.endif
	push $\n
	jmp trap_common
	.endm
	.macro ENTRY n
	.quad trap_\n
	.endm

	.set i, 0
	.rept 256
	STUB %i
	.set i, i + 1
	.endr
	.section .rodata
	.globl trap_stubs
trap_stubs:
	.set i, 0
	.rept 256
	ENTRY %i
	.set i, i + 1
	.endr
	.section .note.GNU-stack, "", @progbits
