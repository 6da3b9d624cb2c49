/* SPDX-License-Identifier: BSD-2-Clause */
/* The block that a thread has while it is in the engine: see stack.c. */
#ifndef QUIRE_RUN_STACK_H
#define QUIRE_RUN_STACK_H

#include "run/host_quire.h"

#define NSTACKS 64u
#define STACKSIZE (64u * 1024u)
#define ENTER_BYTES 256u
#define TLSROOM 1024u /* room below a thread pointer, which no code here uses */
struct block {
	long b_arg[6];
	enum op b_op;
	/* the thread's area was registered with the kernel and is unregistered now */
	bool b_registered;
	uint64_t b_tp;                      /* the thread's thread pointer */
	unsigned char b_bytes[ENTER_BYTES]; /* OP_MINCORE: the vector being corrected */
	_Alignas(64) unsigned char b_stack[STACKSIZE - 128 - ENTER_BYTES - TLSROOM - 64];
	_Alignas(64) unsigned char b_below[TLSROOM];
	void *b_tcb[8];
};

struct block *stack_take(void); /* waits until a block is free */
void stack_give(const struct block *);
void stack_forked(void); /* in a forked child: no other thread has a block */

uint64_t thread_pointer(void);
void thread_set_pointer(uint64_t);
/*
 * Registers or unregisters the C library's rseq area of the thread with that thread pointer. 0 or
 * -errno.
 */
long thread_rseq(uint64_t tp, int flags);
#endif
