/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that are several of the engine's: see compound.c. a: r9, r8, r10, rdx, rsi, rdi, as in
 * intercept.c.
 */
#ifndef QUIRE_RUN_COMPOUND_H
#define QUIRE_RUN_COMPOUND_H

long compound_process_madvise(const long *a);
long compound_pkey_mprotect(const long *a);
long compound_shmat(const long *a);
long compound_prctl_mm(const long *a);            /* prctl(PR_SET_MM) */
long compound_one_thread(long nr, const long *a); /* unshare, setns */
/* The operations, as bits, in which the kernel changes the word: WAKE_OP, the seven of priority inheritance but one. */
#define FUTEX_WRITES 0x39e0u
long compound_futex(const long *a); /* a futex call whose operation is in FUTEX_WRITES */
#endif
