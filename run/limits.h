/* SPDX-License-Identifier: BSD-2-Clause */
/* Limits of address space and data: see limits.c. Answers are those of the system calls. */
#ifndef QUIRE_RUN_LIMITS_H
#define QUIRE_RUN_LIMITS_H

struct rlimit;

void limits_begin(void); /* before the runtime maps anything */
void limits_end(void);   /* after the runtime has mapped what it needs */
/* Around a fork, in the forking thread: before it; in the parent after it; in the child. */
void limits_fork_begin(void);
void limits_fork_end(void);
void limits_forked(void);
/*
 * setrlimit and getrlimit are prlimit64 of the process itself with one of the two. pid 0: itself.
 */
long limits_call(int pid, int resource, const struct rlimit *set, struct rlimit *get);
#endif
