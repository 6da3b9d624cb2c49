/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that change what the program may do: see creds.c. */
#ifndef QUIRE_RUN_CREDS_H
#define QUIRE_RUN_CREDS_H

#include <stdbool.h>

#define NR_landlock_restrict_self 446

bool creds_find(void); /* constructor: the C library's functions. False: it lacks one */
/* A call may have changed them. lost: something has been lost in any case. Returns in another store if so. No lock held. */
void creds_changed(bool lost);
/* A call that may change them, made through syscall(). a: r9, r8, r10, rdx, rsi, rdi. */
long creds_call(long nr, const long *a);
#endif
