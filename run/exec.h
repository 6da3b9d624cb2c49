/* SPDX-License-Identifier: BSD-2-Clause */
/* The environment of the programs that a hosted program executes: see exec.c. */
#ifndef QUIRE_RUN_EXEC_H
#define QUIRE_RUN_EXEC_H

#include <stdbool.h>

#define EXEC_LIBRARY "libquire-run.so"

/* Constructor time. preload: the value of LD_PRELOAD. False: no memory. */
bool exec_prepare(const char *preload);
/* after host_init: from now on executed programs get the family's variables */
void exec_hosted(void);
/*
 * From now on executed programs get neither: the process has a filter of system calls behind which
 * no program can be hosted.
 */
void exec_unhosted(void);

/*
 * execve and execveat by number; a: r9, r8, r10, rdx, rsi, rdi as at the call. Returns -errno, or
 * does not return.
 */
long exec_call(long nr, const long *a);
#endif
