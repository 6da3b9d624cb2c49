/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ghosts: identities of pages that left memory, on up to two lists in the order in which they came; found by identity in
 * constant time. They live in the policy's state block, behind its own structure; a block that is
 * all zero has no ghosts, so its memory is touched only as ghosts are added. Indexes start at 1; 0
 * means none.
 *
 * Locks: vm_pollock. Invariants: an identity is there at most once; there are never more ghosts
 * than the capacity.
 */
#ifndef QUIRE_POLICY_GHOST_H
#define QUIRE_POLICY_GHOST_H

#include <quire/types.h>

#define GHOST_LISTS 2u

struct ghost {
	uint64_t g_id;
	uint32_t g_chain; /* next ghost of the same hash, or of the free list */
	uint32_t g_next, g_prev;
	uint32_t g_list;
};

struct ghosts {
	struct ghost *gs_ghost; /* [gs_cap + 1] */
	uint32_t *gs_hash;      /* [gs_mask + 1] */
	uint32_t gs_cap, gs_mask;
	uint32_t gs_used; /* highest index ever used */
	uint32_t gs_free;
	struct {
		uint32_t head, tail, len;
	} gs_list[GHOST_LISTS];
};

size_t ghosts_size(uint32_t cap);
void ghosts_init(
    struct ghosts *, void *mem, uint32_t cap); /* mem: ghosts_size(cap) zero bytes, aligned to 8 */
uint32_t ghosts_find(const struct ghosts *, uint64_t id);
/* Adds the id at the young end of the list. The id is not there yet. If there is no room the oldest
 * ghost of the longest list is dropped. */
uint32_t ghosts_add(struct ghosts *, unsigned list, uint64_t id);
void ghosts_drop(struct ghosts *, uint32_t);
void ghosts_forget(struct ghosts *, uint64_t id); /* drops the id, if it is there */
static inline uint32_t ghosts_oldest(const struct ghosts *g, unsigned list)
{
	return g->gs_list[list].head;
}
static inline uint32_t ghosts_len(const struct ghosts *g, unsigned list)
{
	return g->gs_list[list].len;
}
#endif
