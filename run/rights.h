/* SPDX-License-Identifier: BSD-2-Clause */
/* The program's rights: see rights.c. */
#ifndef QUIRE_RUN_RIGHTS_H
#define QUIRE_RUN_RIGHTS_H

#include <stdbool.h>
#include <stdint.h>

struct rights {
	uint32_t uid[3], gid[3];
	uint64_t permitted;
}; /* real, effective and saved IDs; capabilities */

struct rights rights_now(void);
/* records the rights by which the process has its store from now on */
void rights_keep(const struct rights *);
void rights_joined(void);                      /* the same for the present rights */
bool rights_are_lesser(const struct rights *); /* than those kept */
/* Is the process not dumpable, so that other processes of its user cannot read its memory? */
bool rights_hidden(void);
#endif
