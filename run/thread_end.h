/* SPDX-License-Identifier: BSD-2-Clause */
/* The end of a thread in a process whose memory is served: see thread_end.c. */
#ifndef QUIRE_RUN_THREAD_END_H
#define QUIRE_RUN_THREAD_END_H

/* Ends the calling thread, on its own stack. No lock is held. Does not return. */
void thread_end(long status) __attribute__((noreturn));
#endif
