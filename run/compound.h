/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls made of several calls of the engine: see compound.c. a: r9, r8, r10, rdx, rsi, rdi, as in
 * intercept.c.
 */
#ifndef QUIRE_RUN_COMPOUND_H
#define QUIRE_RUN_COMPOUND_H

long compound_process_madvise(const long *a);
long compound_pkey_mprotect(const long *a);
long compound_shmat(const long *a);
long compound_prctl_mm(const long *a);            /* prctl(PR_SET_MM) */
long compound_one_thread(long nr, const long *a); /* unshare, setns */
/*
 * Bits of the operations in which the kernel changes the word: WAKE_OP, and all but one of the
 * seven of priority inheritance.
 */
#define FUTEX_WRITES 0x39e0u
long compound_futex(const long *a); /* a futex call whose operation is in FUTEX_WRITES */
#endif
