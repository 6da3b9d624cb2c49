/* SPDX-License-Identifier: BSD-2-Clause */
/* Limits of address space and data: see limits.c. Answers are those of the system calls. */
#ifndef QUIRE_RUN_LIMITS_H
#define QUIRE_RUN_LIMITS_H

struct rlimit;

void limits_begin(void); /* called before the runtime maps memory */
void limits_end(void);   /* called after the runtime has mapped its memory */
/* Around a fork, in the forking thread: before it; in the parent after it; in the child. */
void limits_fork_begin(void);
void limits_fork_end(void);
void limits_forked(void);
/*
 * setrlimit and getrlimit are prlimit64 of the calling process with only a new or only an old
 * limit. pid 0: the calling process.
 */
long limits_call(int pid, int resource, const struct rlimit *set, struct rlimit *get);
#endif
