/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A clone that copies memory, made while the world stands still (h_lock W): see clone.c.
 */
#ifndef QUIRE_RUN_CLONE_H
#define QUIRE_RUN_CLONE_H

#include <linux/sched.h>

#include "run/host.h"

#define CLONE_ROOM 256u /* bytes: more than the structure of arguments of any present kernel */

struct clone_call {
	long c_nr;
	const long *c_a; /* r9, r8, r10, rdx, rsi, rdi, as in intercept.c */
	long c_size;     /* of clone3's arguments */
	union {
		struct clone_args c_args; /* clone: its arguments, in these fields */
		char c_room[CLONE_ROOM];
	};
	struct fork_words c_words;
};

/* 0, or -errno as the kernel would answer. nr: SYS_fork, SYS_clone or SYS_clone3. */
long clone_take(struct clone_call *, long nr, const long *a);
long clone_make(const struct clone_call *); /* the result of the call, in each process */
#endif
