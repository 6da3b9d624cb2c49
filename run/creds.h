/* SPDX-License-Identifier: BSD-2-Clause */
/* What the program may do: see creds.c. */
#ifndef QUIRE_RUN_CREDS_H
#define QUIRE_RUN_CREDS_H

#include <stdbool.h>
#include <stdint.h>

#define NR_landlock_restrict_self 446

struct rights {
	uint32_t uid[3], gid[3];
	uint64_t permitted;
}; /* real, effective, saved; capabilities */

bool creds_find(void);   /* constructor: the C library's functions. False: it lacks one */
void creds_joined(void); /* the process has a store now */
bool creds_hidden(
    void); /* the process cannot be dumped: others of its user cannot read its memory */
/* A call may have changed them. lost: something has been lost in any case. Returns in another store if so. No lock held. */
void creds_changed(bool lost);
/* A call that may change them, made through syscall(). a: r9, r8, r10, rdx, rsi, rdi. */
long creds_call(long nr, const long *a);
#endif
