/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dead processes: what happens to the reads and writes that they had under way. pool_lock.c tells
 * how a death is noticed.
 *
 * The writes of a killed process may reach the disk after its death: their blocks are set aside for
 * a while (pool_block.c). pool_repair.c finds everything else that a dead process left.
 */
#include "store/pool_impl.h"

bool pool_owner_dead(const struct pool *p, uint32_t owner, uint32_t dead)
{
	if (owner == dead)
		return true;
	return p->p_gone != NULL && owner != POOL_NOBODY && p->p_gone(p->p_charge_arg, owner - 1);
}

bool pool_orphan(const struct pool *p, const struct segment *g, uint32_t dead)
{
	if (g->s_owner == POOL_NOBODY || g->s_owner == 0)
		return false;
	return pool_owner_dead(p, g->s_owner, dead);
}

bool pool_orphan_writes_locked(struct pool_shared *s, uint32_t m)
{
	struct member_io *io = pool_members(s)[m].m_io;
	bool any = false;

	POOL_ASSERT(pool_held(s));
	for (uint32_t op = 0; op < POOL_WRITES; op++) {
		if (io[op].io_block == 0)
			continue;
		any = true;
		uint32_t i = io[op].io_seg;
		struct segment *g = i != 0 ? &segs_of(s)[i - 1] : NULL;

		if (g == NULL ||
		    (g->s_state == SEG_WRITING && g->s_async != 0 &&
			g->s_block + 1 == io[op].io_block)) {
			pool_block_set_aside_locked(s, io[op].io_block - 1);
			if (g != NULL) {
				g->s_block = NONE;
				BARRIER();
				set_state(g, SEG_SEALED);
			}
		}
		pool_op_clear(&io[op]);
	}
	return any;
}

void pool_abandon_locked(struct pool_shared *s, struct segment *g)
{
	POOL_ASSERT(pool_held(s));
	if (g->s_state == SEG_WRITING && g->s_async != 0)
		(void)pool_orphan_writes_locked(s, g->s_member);
	else
		set_state(g, g->s_state == SEG_WRITING ? SEG_SEALED : SEG_FILED);
}
