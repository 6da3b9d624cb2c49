/* SPDX-License-Identifier: BSD-2-Clause */
/* The environment of the programs that a hosted program executes: see exec.c. */
#ifndef QUIRE_RUN_EXEC_H
#define QUIRE_RUN_EXEC_H

#include <stdbool.h>

#define EXEC_LIBRARY "libquire-run.so"

/* Constructor time. preload: the value of LD_PRELOAD. False: no memory. */
bool exec_prepare(const char *preload);
void exec_hosted(void); /* after host_init: from here on programs get the family's variables */

/*
 * execve and execveat by number; a: r9, r8, r10, rdx, rsi, rdi as they came. Answers -errno, or not
 * at all.
 */
long exec_call(long nr, const long *a);
#endif
