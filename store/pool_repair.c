/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Repair after the owner of the lock died. The truth is the object table and the segments' states,
 * which are written so that they are right after every single store instruction (BARRIER); ps_move
 * records the object being placed. Lists and counts are rebuilt from these.
 */
#include "store/pool_impl.h"

void pool_abandon_owner_locked(struct pool *p, uint32_t owner, bool repair)
{
	struct pool_shared *s = p->p_shared;

	POOL_ASSERT(pool_held(s));
	for (uint32_t i = 0; i < s->ps_segx.x_next; i++) {
		struct segment *g = &segs_of(s)[i];

		if (g->s_owner != owner)
			continue;
		if (g->s_state == SEG_WRITING || g->s_state == SEG_READING) {
			pool_abandon_locked(s, g);
			repair = true;
		} else if ((g->s_state == SEG_FILED || g->s_state == SEG_YOUNG) &&
		    g->s_fetch != 0) {
			g->s_fetch = 0;
			if (g->s_live == 0)
				pool_seg_empty_locked(p, i);
		}
	}
	if (repair)
		pool_repair_locked(p, owner);
}

static void repair_objects(struct pool_shared *s)
{
	struct object *o = objects_of(s);

	if (s->ps_move.object != 0) {
		struct object *m = &o[s->ps_move.object];

		m->o_seg = s->ps_move.seg == NEW ? NONE : s->ps_move.seg;
		m->o_off = (uint16_t)s->ps_move.off;
		m->o_len = (uint16_t)s->ps_move.len;
		if (s->ps_move.seg == NEW)
			m->o_ref = 0;
		BARRIER();
		s->ps_move.object = 0;
	}
	for (uint32_t i = 0; i < s->ps_segx.x_next; i++)
		segs_of(s)[i].s_live = segs_of(s)[i].s_packed = 0;
	s->ps_stats.pages = s->ps_stats.same_filled = 0;
	for (uint32_t i = 1; i < s->ps_objx.x_next; i++) {
		if (o[i].o_ref == 0)
			continue;
		s->ps_stats.pages++;
		if (o[i].o_seg == NONE) {
			s->ps_stats.same_filled++;
		} else {
			segs_of(s)[o[i].o_seg].s_live += object_bytes(o[i].o_len);
			segs_of(s)[o[i].o_seg].s_packed += o[i].o_len;
		}
	}
}

/*
 * Sets the state of a segment whose process has died, and drops the slot or block that the segment
 * does not have in that state.
 */
static void repair_segment(struct pool *p, uint32_t i, uint32_t dead)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs_of(s)[i];

	if (g->s_fetch != 0 && pool_orphan(p, g, dead))
		g->s_fetch = 0;
	if (g->s_state == SEG_OPEN && i != s->ps_open[OPEN_PACKED] && i != s->ps_open[OPEN_OLD] &&
	    i != s->ps_open[OPEN_RAW])
		set_state(g, SEG_SEALED);
	if ((g->s_state == SEG_SEALED || g->s_state == SEG_FILED) && g->s_live == 0 &&
	    g->s_fetch == 0)
		set_state(g, SEG_FREE);
	if (g->s_state == SEG_YOUNG && g->s_live == 0 && g->s_fetch == 0 &&
	    i != s->ps_open[OPEN_YOUNG])
		set_state(g, SEG_FREE);
	if (g->s_state == SEG_FREE || (g->s_state == SEG_FILED && g->s_fetch == 0))
		g->s_slot = NONE;
	if (g->s_slot == NONE && g->s_state != SEG_READING)
		g->s_pages = 0;
	if (g->s_state == SEG_FREE || g->s_state == SEG_SEALED || g->s_state == SEG_OPEN ||
	    g->s_state == SEG_YOUNG)
		g->s_block = NONE;
}

/* Puts the segment into the lists in which it belongs. */
static void relist_segment(struct pool_shared *s, uint32_t i)
{
	struct segment *g = &segs_of(s)[i];

	if (g->s_state == SEG_SEALED)
		pool_seal_locked(s, i);
	if (g->s_state == SEG_YOUNG && i != s->ps_open[OPEN_YOUNG]) {
		pool_enqueue_locked(s, &s->ps_young, i);
		s->ps_nyoung++;
	}
	if (g->s_state == SEG_FILED && g->s_slot != NONE) { /* being read into */
		pool_enqueue_locked(s, &s->ps_cached, i);
		s->ps_ncached++;
	}
	if (g->s_state == SEG_OPEN || g->s_state == SEG_SEALED || g->s_state == SEG_WRITING)
		s->ps_packed += g->s_packed;
}

static void repair_segments(struct pool *p, uint32_t dead)
{
	struct pool_shared *s = p->p_shared;

	s->ps_sealed[0] = s->ps_sealed[1] = s->ps_cached = s->ps_young =
	    (struct list){ NONE, NONE };
	for (unsigned b = 0; b < BUCKETS; b++)
		s->ps_sparse[b] = NONE;
	s->ps_nwarm = s->ps_ncached = s->ps_nyoung = 0;
	s->ps_packed = 0;
	for (unsigned k = 0; k < OPENS; k++)
		if (s->ps_open[k] != NONE &&
		    segs_of(s)[s->ps_open[k]].s_state != (k == OPEN_YOUNG ? SEG_YOUNG : SEG_OPEN))
			s->ps_open[k] = NONE;
	for (uint32_t i = 0; i < s->ps_segx.x_next; i++)
		if ((segs_of(s)[i].s_state == SEG_WRITING ||
			segs_of(s)[i].s_state == SEG_READING) &&
		    pool_orphan(p, &segs_of(s)[i], dead))
			pool_abandon_locked(s, &segs_of(s)[i]);
	for (uint32_t i = 0; i < s->ps_segx.x_next; i++) {
		repair_segment(p, i, dead);
		relist_segment(s, i);
	}
}

/* Rebuilds the numbers of segments, slots and blocks in use, and the pages of slots. */
static void repair_indexes(struct pool_shared *s)
{
	uint32_t aside = 0;

	pool_index_reset(s, &s->ps_segx);
	pool_index_reset(s, &s->ps_slotx);
	pool_blocks_reset(s);
	s->ps_held = 0;
	for (uint32_t i = 0; i < s->ps_segx.x_next; i++) {
		const struct segment *g = &segs_of(s)[i];
		uint32_t slot = g->s_state == SEG_READING ? g->s_next : g->s_slot;

		if (g->s_state == SEG_FREE)
			continue;
		pool_index_mark(s, &s->ps_segx, i);
		if (slot != NONE) {
			pool_index_mark(s, &s->ps_slotx, slot);
			s->ps_held += mask_count(g->s_pages);
		}
		if (g->s_block != NONE)
			pool_block_mark(s, g->s_block, true);
	}
	for (uint32_t i = 0; i < QUARANTINE_MAX; i++)
		if (s->ps_quarantine[i].q_block != 0) {
			pool_block_mark(s, s->ps_quarantine[i].q_block - 1, false);
			aside++;
		}
	for (uint32_t m = 0; m < s->ps_membertop; m++)
		for (uint32_t op = 0; op < POOL_WRITES; op++) {
			uint32_t block = pool_members(s)[m].m_io[op].io_block;

			if (block != 0 && pool_block_free(s, block - 1))
				pool_block_mark(s, block - 1, true);
		}
	s->ps_stats.set_aside = aside;
}

void pool_repair_locked(struct pool *p, uint32_t dead)
{
	struct pool_shared *s = p->p_shared;
	uint32_t before = s->ps_held;

	POOL_ASSERT(pool_held(s));
	repair_objects(s);
	repair_segments(p, dead);
	repair_indexes(s);
	for (uint32_t i = 0; i < s->ps_slotx.x_next; i++)
		if (pool_index_free(s, &s->ps_slotx, i))
			pool_forget(slot_mem(s, i), SEG_BYTES);
	pool_index_trim(s, &s->ps_segx);
	pool_index_trim(s, &s->ps_slotx);
	pool_blocks_trim(s);
	pool_objects_repair(p);
	pool_leaves_repair(s);
	pool_tables_locked(p);
	if (before > s->ps_held && p->p_charge != NULL)
		(void)p->p_charge(p->p_charge_arg, -(long)(before - s->ps_held));
	s->ps_stats.repairs++;
}
