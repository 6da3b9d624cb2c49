/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The registers that a trap leaves on the kernel's stack, and how the kernel reads and changes
 * them.
 */
#ifndef QUIRE_ARCH_TRAP_H
#define QUIRE_ARCH_TRAP_H

#include "arch_abi.h"

#include <quire/types.h>

struct trapframe {
	uint64_t tf_r15, tf_r14, tf_r13, tf_r12, tf_r11, tf_r10, tf_r9, tf_r8;
	uint64_t tf_rdi, tf_rsi, tf_rbp, tf_rbx, tf_rdx, tf_rcx, tf_rax;
	uint64_t tf_trap, tf_err;
	uint64_t tf_rip, tf_cs, tf_rflags, tf_rsp, tf_ss;
};

#define FPU_BYTES 832u /* x87, SSE, the header of XSAVE, the upper halves of AVX */
#define FPU_ALIGN 64u

/* A thread's registers that are not on its stack. */
struct arch_thread {
	uint8_t
	    at_fpu[FPU_BYTES + FPU_ALIGN - 1]; /* fpu.c: an area, at the first aligned address */
	uint64_t at_fsbase, at_gsbase;
};

void arch_set_thread_pointer(uint64_t); /* of the running thread */
uint64_t arch_thread_pointer(void);

static inline uint64_t tf_sysno(const struct trapframe *tf) { return tf->tf_rax; }
static inline void tf_args(const struct trapframe *tf, uint64_t a[6])
{
	a[0] = tf->tf_rdi;
	a[1] = tf->tf_rsi;
	a[2] = tf->tf_rdx;
	a[3] = tf->tf_r10;
	a[4] = tf->tf_r8;
	a[5] = tf->tf_r9;
}
static inline void tf_set_result(struct trapframe *tf, int64_t v) { tf->tf_rax = (uint64_t)v; }
/* The system call will be made again with these registers: SYSCALL has two bytes. */
static inline void tf_restart(struct trapframe *tf, uint64_t nr)
{
	tf->tf_rax = nr;
	tf->tf_rip -= 2;
}
static inline uint64_t tf_ip(const struct trapframe *tf) { return tf->tf_rip; }
static inline uint64_t tf_sp(const struct trapframe *tf) { return tf->tf_rsp; }
static inline void tf_set_sp(struct trapframe *tf, uint64_t sp) { tf->tf_rsp = sp; }
static inline bool tf_is_user(const struct trapframe *tf) { return (tf->tf_cs & 3) != 0; }
/* Sets the thread pointer of a thread that is being made. */
static inline void tf_set_tls(struct trapframe *tf, struct arch_thread *a, uint64_t tls)
{
	(void)tf;
	a->at_fsbase = tls;
}
/* A program begins. */
static inline void tf_user_init(struct trapframe *tf, uint64_t ip, uint64_t sp)
{
	*tf = (struct trapframe){
		.tf_rip = ip, .tf_cs = 0x23, .tf_rflags = 0x202, .tf_rsp = sp, .tf_ss = 0x1b
	};
}
#endif
