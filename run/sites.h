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
#define SITE 7        /* bytes of a site */
#define SITE_WITHIN 7 /* bytes of the instructions that may stand within a site */
#define SITE_LONGEST (SITE + SITE_WITHIN)
#define SITES_ID 20 /* bytes of a build id */

/* In the family's memory, zero at first. The fields do not change after SITES_NOTED is set. */
enum { SITES_EMPTY, SITES_WRITING, SITES_NOTED };
struct sites_note {
	_Atomic uint32_t sn_state;
	uint32_t sn_n;
	uint64_t sn_len;
	uint8_t sn_id[SITES_ID];
	uint32_t sn_at[MAXSITES]; /* offset from the start of the text */
};

#define THREAD_EXITS 2
/*
 * entry: the start of the function execve(); NULL: not known. exits: the places at which the first
 * thread and other threads end; NULL: not found. Five bytes at each place may be replaced by a jump
 * that does not return.
 */
struct library {
	uint8_t *text;
	size_t len;
	uint8_t id[SITES_ID];
	uint8_t *entry, *exits[THREAD_EXITS];
};

/* Fills in a zeroed struct for the C library of this process. 0: the process has no C library. */
int sites_library(struct library *);
/* Finds the library's sites, in order of address; returns their number, at most MAXSITES. */
unsigned sites_find(const struct library *, struct sites_note *, uint8_t **site);
/*
 * A site that was found, in memory that can be written and that no thread runs: what stands within
 * it is moved before it, which changes no result. Returns the start of the seven bytes that are left.
 */
uint8_t *sites_gather(uint8_t *site);
bool sites_is_libc(const char *path);
/*
 * Fills in a zeroed struct from that object. image: the object's file, if it is not mapped as the
 * loader maps it; else NULL.
 */
void sites_take_object(struct library *, const struct elf_object *, const uint8_t *image);

/*
 * sites_file.c, in the command only. The same for a library that this process does not run: the
 * note is written before programs need it. May find nothing.
 */
void sites_note_file(const char *path, struct sites_note *);
#endif
