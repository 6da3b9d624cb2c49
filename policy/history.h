/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * History: the pages that were evicted last, in order, and how long ago, counted in evictions (a *refault distance*). A page is known
 * by 32 bits of its identity, so two pages are taken for one another about once in four thousand million.
 *
 * A ring has a slot for each of the last h_cap evictions; a slot whose page was forgotten stays empty until its turn.
 * Slots of the same hash form a chain, the latest first. A history takes 9 to 10 bytes for each
 * page that it remembers. A list of ghost.h takes 28 to 32, tells lists apart, and gives up its
 * oldest on demand.
 *
 * Locks: vm_pollock. Invariants: an identity is there at most once; a block that is all zero has no history.
 */
#ifndef QUIRE_POLICY_HISTORY_H
#define QUIRE_POLICY_HISTORY_H

#include <quire/types.h>

struct history {
	uint32_t *h_name;  /* [h_cap]: the id evicted at that slot; 0: none */
	uint32_t *h_chain; /* [h_cap]: the next slot of the same hash, plus 1 */
	uint32_t *h_head;  /* [h_mask + 1]: the first slot of each chain, plus 1 */
	uint32_t h_cap, h_mask;
	uint32_t h_at; /* the slot of the next eviction */
};

size_t history_size(uint32_t cap);
/* mem: history_size(cap) zero bytes, aligned to 4. cap > 0. */
void history_init(struct history *, void *mem, uint32_t cap);
/* Records that the page is evicted now. It is not there yet. */
void history_add(struct history *, uint64_t id);
/* How many pages were evicted since the id was, itself included; 0: the id is not there. */
uint32_t history_since(const struct history *, uint64_t id);
void history_forget(struct history *, uint64_t id); /* forgets the id, if it is there */
#endif
