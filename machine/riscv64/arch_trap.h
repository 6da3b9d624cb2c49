/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The registers that a trap leaves on the kernel's stack, and how the kernel reads and changes
 * them.
 */
#ifndef QUIRE_ARCH_TRAP_H
#define QUIRE_ARCH_TRAP_H

#include "arch_abi.h"

#include <quire/types.h>

#define STATUS_SPIE 0x20ull
#define STATUS_FS                                                                                  \
	0x6000ull /* floating point: off, 0x2000 as at the start, 0x4000 clean, 0x6000 dirty */
#define STATUS_FS_INITIAL 0x2000ull
#define STATUS_FS_CLEAN 0x4000ull

struct trapframe {
	uint64_t tf_x[32]; /* by number; [0] is not used */
	uint64_t tf_pc, tf_status, tf_cause, tf_addr;
};
enum { X_RA = 1, X_SP = 2, X_TP = 4, X_A0 = 10, X_A1 = 11, X_A2 = 12, X_A7 = 17 };

struct fp_state {
	uint64_t fp_f[32];
	uint32_t fp_csr, fp_pad;
};

/* A thread's registers that are not on its stack. */
struct arch_thread {
	struct fp_state
	    at_fp; /* valid while the thread does not run, and while it runs with clean registers */
};

static inline uint64_t tf_sysno(const struct trapframe *tf) { return tf->tf_x[X_A7]; }
static inline void tf_args(const struct trapframe *tf, uint64_t a[6])
{
	for (unsigned i = 0; i < 6; i++)
		a[i] = tf->tf_x[X_A0 + i];
}
static inline void tf_set_result(struct trapframe *tf, int64_t v) { tf->tf_x[X_A0] = (uint64_t)v; }
/* The system call will be made again with these registers: ECALL has four bytes. */
static inline void tf_restart(struct trapframe *tf, uint64_t nr)
{
	tf->tf_x[X_A7] = nr;
	tf->tf_pc -= 4;
}
static inline uint64_t tf_ip(const struct trapframe *tf) { return tf->tf_pc; }
static inline uint64_t tf_sp(const struct trapframe *tf) { return tf->tf_x[X_SP]; }
static inline void tf_set_sp(struct trapframe *tf, uint64_t sp) { tf->tf_x[X_SP] = sp; }
static inline bool tf_is_user(const struct trapframe *tf) { return (tf->tf_status & 0x100) == 0; }
/* Sets the thread pointer of a thread that is being made. */
static inline void tf_set_tls(struct trapframe *tf, struct arch_thread *a, uint64_t tls)
{
	(void)a;
	tf->tf_x[X_TP] = tls;
}
/* A program begins. */
static inline void tf_user_init(struct trapframe *tf, uint64_t ip, uint64_t sp)
{
	*tf = (struct trapframe){
		.tf_pc = ip, .tf_status = STATUS_SPIE | STATUS_FS_INITIAL, .tf_x = { [X_SP] = sp }
	};
}
#endif
