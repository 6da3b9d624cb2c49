/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Arguments of the program's system calls that are addresses. They may be bad: the kernel copies,
 * and answers instead of faulting. No lock may be held: the memory may be paged out.
 */
#ifndef QUIRE_RUN_ARGS_H
#define QUIRE_RUN_ARGS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * From here on addresses are taken to be good: a filter of system calls may kill a process that asks the
 * kernel.
 */
void args_trust(void);
/* n bytes at `from`, an address of the program's. False: not all of them can be read. */
bool args_read(void *to, const void *from, size_t n);
/* False: not all of the bytes can be written. */
bool args_write(void *to, const void *from, size_t n);
/*
 * Length of the string at s, not counting its end; at most max. -EFAULT: it leaves readable memory;
 * -E2BIG: longer.
 */
long args_length(const char *s, size_t max);
#endif
