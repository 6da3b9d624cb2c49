/* SPDX-License-Identifier: BSD-2-Clause */
/* The end of a thread in a process whose memory is served: see thread_end.c. */
#ifndef QUIRE_RUN_THREAD_END_H
#define QUIRE_RUN_THREAD_END_H

#include <stdbool.h>

/*
 * Ends the calling thread, on its own stack. alone: the kernel no longer writes to the thread's
 * block (rseq); else the kernel clears the word that a join waits for. The caller holds no lock.
 * Does not return.
 */
void thread_end(long status, bool alone) __attribute__((noreturn));
#endif
