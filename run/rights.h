/* SPDX-License-Identifier: BSD-2-Clause */
/* What the program may do: see rights.c. */
#ifndef QUIRE_RUN_RIGHTS_H
#define QUIRE_RUN_RIGHTS_H

#include <stdbool.h>
#include <stdint.h>

struct rights {
	uint32_t uid[3], gid[3];
	uint64_t permitted;
}; /* real, effective, saved; capabilities */

struct rights rights_now(void);
void rights_keep(const struct rights *);       /* the process has a store by them from now on */
void rights_joined(void);                      /* the same, by those that it has now */
bool rights_are_lesser(const struct rights *); /* than those kept */
/* The process cannot be dumped: others of its user cannot read its memory. */
bool rights_hidden(void);
#endif
