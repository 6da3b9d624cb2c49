/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls that change the program's rights: see creds.c. */
#ifndef QUIRE_RUN_CREDS_H
#define QUIRE_RUN_CREDS_H

#include <stdbool.h>

#define NR_landlock_restrict_self 446

/* constructor: finds the C library's functions. False: the library lacks a function */
bool creds_find(void);
/*
 * Called after a call that may have changed the rights; if rights are lost, the process has another
 * store on return. lost: rights are lost in any case. No lock held.
 */
void creds_changed(bool lost);
/*
 * Makes a call that may change the rights and that came through syscall(). a: r9, r8, r10, rdx,
 * rsi, rdi.
 */
long creds_call(long nr, const long *a);
#endif
