/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The part of a C library that the conformance programs use, for bare machines: stdio.h, stdlib.h
 * and string.h here include this header.
 */
#ifndef QUIRE_CONFORM_SHIM_H
#define QUIRE_CONFORM_SHIM_H

#include <stddef.h>

typedef struct shim_file FILE;
#define stderr ((FILE *)0)
#define stdout ((FILE *)0)
int fprintf(FILE *, const char *, ...) __attribute__((format(printf, 2, 3)));
int printf(const char *, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void exit(int);
_Noreturn void abort(void);
void *memcpy(void *restrict, const void *restrict, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
size_t strlen(const char *);
int strcmp(const char *, const char *);
#endif
