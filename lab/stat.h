/* SPDX-License-Identifier: BSD-2-Clause */
/* How much memory spaces take that share a part of their pages: lab/stat.c. */
#ifndef QUIRE_LAB_STAT_H
#define QUIRE_LAB_STAT_H

#include <stdbool.h>
#include <stdint.h>

#define STAT_SPACES 64u /* at most */

struct stat_options {
	uint64_t spaces, text, data, heap, shared; /* the number of spaces, and of pages */
};
struct stat_space { /* bytes */
	uint64_t mapped, rss, pss;
};
struct stat_result {
	struct stat_space space[STAT_SPACES]; /* the last of two or more is a fork of the first */
	uint64_t frames; /* bytes of the frames of all pages that the spaces have mapped */
};
/* False: no memory. */
bool stat_run(const struct stat_options *, struct stat_result *);
#endif
