/* SPDX-License-Identifier: BSD-2-Clause */
/* See sites.c. */
#ifndef QUIRE_RUN_SITES_H
#define QUIRE_RUN_SITES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sys/linux/elf.h"

#define MAXSITES 64
#define SITES_ID 20 /* bytes of a build id */

/* In the family's memory, zero at first. What is written before SITES_NOTED stays so. */
enum { SITES_EMPTY, SITES_WRITING, SITES_NOTED };
struct sites_note {
	_Atomic uint32_t sn_state;
	uint32_t sn_n;
	uint64_t sn_len;
	uint8_t sn_id[SITES_ID];
	uint32_t sn_at[MAXSITES]; /* from the beginning of the text */
};

#define THREAD_EXITS 2
/*
 * entry: where its function execve() begins, NULL: not known. exits: where a thread of its own ends, the first one and others;
 * NULL: not found. Five bytes there may be replaced by a jump that does not come back.
 */
struct library {
	uint8_t *text;
	size_t len;
	uint8_t id[SITES_ID];
	uint8_t *entry, *exits[THREAD_EXITS];
};

/* Fills in a zeroed one for the C library of this process. 0: there is none. */
int sites_library(struct library *);
/* Its sites, in the order of addresses; how many: at most MAXSITES. */
unsigned sites_find(const struct library *, struct sites_note *, uint8_t **site);
bool sites_is_libc(const char *path);
/* Fills in a zeroed library from that object. image: its file, where it is not mapped as the loader does; else NULL. */
void sites_take_object(struct library *, const struct elf_object *, const uint8_t *image);

/* sites_file.c, in the command only. The same of a library that is not this process's: what programs will look for is noted before they come. May find nothing. */
void sites_note_file(const char *path, struct sites_note *);
#endif
