/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entering and leaving the kernel, switching threads, floating point registers.
 *
 * Every way in builds a struct trapframe (arch_trap.h) on the thread's kernel stack. In the kernel
 * tp is the CPU's own struct cpu and sscratch is 0; in user mode sscratch is the struct cpu. tp
 * belongs to the CPU, not to the thread: a switch and a return into the kernel leave it alone, as
 * the thread may go on on another CPU.
 *
 * A trap in the kernel checks that the stack has room: storing a frame below the stack's end would
 * trap forever.
 */
#include "cpu_asm.h"

	.text
	.align 2
	.globl trap_entry
trap_entry:
	csrrw tp, sscratch, tp
	bnez tp, from_user
	csrrw tp, sscratch, zero
	sd sp, CPU_SP(tp)
	sd t0, CPU_T0(tp)
	addi sp, sp, -TF_BYTES
	ld t0, CPU_KSTACK(tp) /* 0: the CPU's first stack, whose end is not known */
	beqz t0, 1f
	sub t0, t0, sp
	srli t0, t0, LOG_STACK_BYTES
	beqz t0, 1f
	ld sp, CPU_OVERFLOW(tp)
	addi sp, sp, -TF_BYTES
	la t0, trap_overflow
	sd t0, TF_CAUSE(sp)
	j 2f
from_user:
	sd sp, CPU_SP(tp)
	sd t0, CPU_T0(tp)
	ld sp, CPU_KSTACK(tp)
	addi sp, sp, -TF_BYTES
1:	la t0, trap
	sd t0, TF_CAUSE(sp)
2:	sd ra, 1 * 8(sp)
	sd gp, 3 * 8(sp)
	sd t1, 6 * 8(sp)
	sd t2, 7 * 8(sp)
	sd s0, 8 * 8(sp)
	sd s1, 9 * 8(sp)
	sd a0, 10 * 8(sp)
	sd a1, 11 * 8(sp)
	sd a2, 12 * 8(sp)
	sd a3, 13 * 8(sp)
	sd a4, 14 * 8(sp)
	sd a5, 15 * 8(sp)
	sd a6, 16 * 8(sp)
	sd a7, 17 * 8(sp)
	sd s2, 18 * 8(sp)
	sd s3, 19 * 8(sp)
	sd s4, 20 * 8(sp)
	sd s5, 21 * 8(sp)
	sd s6, 22 * 8(sp)
	sd s7, 23 * 8(sp)
	sd s8, 24 * 8(sp)
	sd s9, 25 * 8(sp)
	sd s10, 26 * 8(sp)
	sd s11, 27 * 8(sp)
	sd t3, 28 * 8(sp)
	sd t4, 29 * 8(sp)
	sd t5, 30 * 8(sp)
	sd t6, 31 * 8(sp)
	ld t0, CPU_SP(tp)
	sd t0, 2 * 8(sp)
	ld t0, CPU_T0(tp)
	sd t0, 5 * 8(sp)
	csrrw t0, sscratch, zero
	sd t0, 4 * 8(sp)
	ld t1, TF_CAUSE(sp)
	csrr t0, sepc
	sd t0, TF_PC(sp)
	csrr t0, sstatus
	sd t0, TF_STATUS(sp)
	csrr t0, scause
	sd t0, TF_CAUSE(sp)
	csrr t0, stval
	sd t0, TF_ADDR(sp)
	li s0, 0 /* a list of callers ends here */
	mv a0, sp
	jalr t1
	.globl trap_return
trap_return:
	csrci sstatus, STATUS_SIE
	ld t0, TF_STATUS(sp)
	andi t1, t0, STATUS_SPP
	bnez t1, 1f
	mv a0, sp
	call trap_leave /* signals, preemption; interrupts are off when it returns */
	ld t0, TF_STATUS(sp)
	csrw sscratch, tp
	ld tp, 4 * 8(sp)
1:	csrw sstatus, t0
	ld t0, TF_PC(sp)
	csrw sepc, t0
	addi t1, sp, TF_PC
	sc.d zero, t0, (t1) /* no reservation outlives the trap */
	ld ra, 1 * 8(sp)
	ld gp, 3 * 8(sp)
	ld t0, 5 * 8(sp)
	ld t1, 6 * 8(sp)
	ld t2, 7 * 8(sp)
	ld s0, 8 * 8(sp)
	ld s1, 9 * 8(sp)
	ld a0, 10 * 8(sp)
	ld a1, 11 * 8(sp)
	ld a2, 12 * 8(sp)
	ld a3, 13 * 8(sp)
	ld a4, 14 * 8(sp)
	ld a5, 15 * 8(sp)
	ld a6, 16 * 8(sp)
	ld a7, 17 * 8(sp)
	ld s2, 18 * 8(sp)
	ld s3, 19 * 8(sp)
	ld s4, 20 * 8(sp)
	ld s5, 21 * 8(sp)
	ld s6, 22 * 8(sp)
	ld s7, 23 * 8(sp)
	ld s8, 24 * 8(sp)
	ld s9, 25 * 8(sp)
	ld s10, 26 * 8(sp)
	ld s11, 27 * 8(sp)
	ld t3, 28 * 8(sp)
	ld t4, 29 * 8(sp)
	ld t5, 30 * 8(sp)
	ld t6, 31 * 8(sp)
	ld sp, 2 * 8(sp)
	sret

/* A fresh thread: switch_to returns here with its function and argument in saved registers. */
	.globl thread_start
thread_start:
	call thread_begin
	mv a0, s2
	jalr s1
	call thread_exit
	unimp

/* A fresh user thread: its trapframe is at the top of its stack. */
	.globl user_start
user_start:
	call thread_begin
	j trap_return

/* switch_to(uint64_t *save_sp, uint64_t sp) */
	.globl switch_to
switch_to:
	addi sp, sp, -112
	sd ra, 0(sp)
	sd s0, 8(sp)
	sd s1, 16(sp)
	sd s2, 24(sp)
	sd s3, 32(sp)
	sd s4, 40(sp)
	sd s5, 48(sp)
	sd s6, 56(sp)
	sd s7, 64(sp)
	sd s8, 72(sp)
	sd s9, 80(sp)
	sd s10, 88(sp)
	sd s11, 96(sp)
	sd sp, (a0)
	mv sp, a1
	ld ra, 0(sp)
	ld s0, 8(sp)
	ld s1, 16(sp)
	ld s2, 24(sp)
	ld s3, 32(sp)
	ld s4, 40(sp)
	ld s5, 48(sp)
	ld s6, 56(sp)
	ld s7, 64(sp)
	ld s8, 72(sp)
	ld s9, 80(sp)
	ld s10, 88(sp)
	ld s11, 96(sp)
	addi sp, sp, 112
	ret

/* fp_save(struct fp_state *), fp_load(const struct fp_state *): 32 registers, then fcsr */
	.altmacro
	.macro FP op, n
	\op f\n, \n * 8(a0)
	.endm
	.globl fp_save, fp_load
fp_save:
	.set i, 0
	.rept 32
	FP fsd, %i
	.set i, i + 1
	.endr
	frcsr t0
	sw t0, 256(a0)
	ret
fp_load:
	.set i, 0
	.rept 32
	FP fld, %i
	.set i, i + 1
	.endr
	lw t0, 256(a0)
	fscsr t0
	ret

/* What a signal handler returns to; every space has this page for user mode (boot.c). */
	.section .user_code, "a"
	.align 2
	.globl sigreturn_code
sigreturn_code:
	li a7, 139
	ecall
	.section .note.GNU-stack, "", @progbits
