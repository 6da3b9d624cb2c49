/* SPDX-License-Identifier: BSD-2-Clause */
/* See affinity.c. */
#ifndef QUIRE_RUN_AFFINITY_H
#define QUIRE_RUN_AFFINITY_H

/*
 * service thread, after a fault of thread tid: binds a thread that faults several times in a row,
 * and the service thread, to one CPU
 */
void affinity_follow(int tid);
void affinity_release(void); /* service thread: no thread has faulted for a while */
void affinity_own(
    void); /* in a new thread of the program, and before exec: the thread's own affinity */
void affinity_forked(void); /* in the child */
void affinity_leave(void);  /* no more service */
/* results as the system calls' */
long affinity_get(int tid, unsigned long len, unsigned long *out);
long affinity_set(int tid, unsigned long len, const unsigned long *in);
#endif
