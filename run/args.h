/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Arguments of the program's system calls that are addresses. An address may be invalid: the kernel
 * copies, and returns an error instead of faulting. The caller holds no lock, as the memory may be
 * paged out.
 */
#ifndef QUIRE_RUN_ARGS_H
#define QUIRE_RUN_ARGS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * From now on every address counts as valid: a filter of system calls could kill a process that
 * asks the kernel.
 */
void args_trust(void);
bool args_trusted(void); /* after args_trust() */
/*
 * True: the functions below take every address to be valid, as the kernel cannot be asked. A caller
 * that can find out by the program's own call does so before.
 */
bool args_unchecked(void);
/* Copies n bytes from `from`, an address of the program. False: not all bytes can be read. */
bool args_read(void *to, const void *from, size_t n);
#define ARGS_EACH 32u
/*
 * Copies n bytes from each of count addresses of the program, at most ARGS_EACH, one after the other
 * to `to`, by one call of the kernel. False: not all bytes can be read.
 */
bool args_read_each(void *to, const void *const *from, size_t count, size_t n);
/* False: not all of the bytes can be written. */
bool args_write(void *to, const void *from, size_t n);
/*
 * Length of the string at s without its end, at most max. -EFAULT: the string runs into unreadable
 * memory; -E2BIG: the string is longer.
 */
long args_length(const char *s, size_t max);
#endif
