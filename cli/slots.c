/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots and tags.
 *
 * A slot is an entry of the family's table of processes: the account of one process. Every process
 * of the family can write the table, so only accounts depend on slots.
 *
 * A tag is the number by which a store knows a process. What a process holds in the store is given
 * back by its tag, so no two living processes of a store may have the same tag. A process that
 * joins gets a tag from here. A forked child has a tag from its parent, which took it in the store
 * (store/pool_tag.c). A tag belongs to a process until its connection has ended and the keeper has
 * given back all that the process held (run_store.owed).
 */
#include "run.h"

#include <string.h>

bool run_slot_taken(const struct run *r, int slot)
{
	for (unsigned i = 0; i < r->nconn; i++)
		if (r->conn[i].slot == slot)
			return true;
	return false;
}

static void collect_tags(const struct run *r, const struct run_store *st, uint64_t taken[TAG_WORDS])
{
	memcpy(taken, st->owed, sizeof st->owed);
	for (unsigned i = 0; i < r->nconn; i++) {
		if (r->conn[i].store == st)
			tags_add(taken, r->conn[i].tag);
		if (r->conn[i].before == st)
			tags_add(taken, r->conn[i].tag_before);
	}
}

bool run_tag_taken(const struct run *r, const struct run_store *st, unsigned tag)
{
	uint64_t taken[TAG_WORDS];

	collect_tags(r, st, taken);
	return tags_have(taken, tag);
}

/* One is free: owed ones included, there are no more than processes that the store ever had at a time. */
unsigned run_tag_for(const struct run *r, const struct run_store *st)
{
	uint64_t taken[TAG_WORDS];
	unsigned tag = 0;

	collect_tags(r, st, taken);
	while (tag < POOL_CHILD_TAG && tags_have(taken, tag))
		tag++;
	return tag;
}
