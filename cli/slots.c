/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots and tags.
 *
 * The family's table has an entry for each process: a slot, in which the frames and the promises of
 * that process are counted. Any process can write to any slot, so a slot never decides what a
 * process may have in a store.
 *
 * A tag is the number by which a store knows a process. The keeper gives back what a dead process
 * held by the tag of that process, so no two living processes of a store may have the same tag. The
 * supervisor chooses the tag of a process that joins. A parent chooses the tag of its forked child,
 * in the store (store/pool_tag.c). A process has its tag until its connection has ended and the
 * keeper has given back all that the process held (run_store.owed).
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

/*
 * A tag whose release the keeper owes is taken, too. There are fewer connections than tags, so all
 * tags are taken only if the keeper is far behind with its releases.
 */
unsigned run_tag_for(const struct run *r, const struct run_store *st)
{
	uint64_t taken[TAG_WORDS];
	unsigned tag = 0;

	collect_tags(r, st, taken);
	while (tag < POOL_CHILD_TAG && tags_have(taken, tag))
		tag++;
	return tag;
}
