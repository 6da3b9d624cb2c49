/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The lock's owner died with it. Truth is the object table and the segments' states, which are written so that they are right
 * after every single store (BARRIER); the one object on its way is in ps_move. Lists, stacks and counts follow from them.
 */
#include "store/pool_impl.h"

void pool_abandon_locked(struct pool_shared *s, struct segment *g)
{
	if (g->s_state == SEG_WRITING && g->s_async != 0)
		pool_orphan_writes_locked(s, g->s_member);
	else
		set_state(g, g->s_state == SEG_WRITING ? SEG_SEALED : SEG_FILED);
}

int pool_orphan(const struct segment *g)
{
	return g->s_tid != ALONE && pool_dead(g->s_tid);
}

void pool_abandon_member_locked(struct pool *p, uint32_t member)
{
	struct pool_shared *s = p->p_shared;
	int any = 0;

	for (uint32_t op = 0; op < POOL_WRITES; op++)
		any |= pool_members(s)[member].m_io[op].io_block != 0;
	pool_orphan_writes_locked(s, member);
	for (uint32_t i = 0; i < s->ps_segnext; i++) {
		struct segment *g = &segs(s)[i];

		if (g->s_member != member)
			continue;
		if (g->s_state == SEG_WRITING || g->s_state == SEG_READING) {
			pool_abandon_locked(s, g);
			any = 1;
		} else if ((g->s_state == SEG_FILED || g->s_state == SEG_YOUNG) && g->s_fetch != 0) {
			g->s_fetch = 0;
			if (g->s_live == 0)
				pool_seg_empty_locked(p, i);
		}
	}
	if (any)
		pool_repair_locked(p);
}

static void repair_objects(struct pool_shared *s)
{
	struct object *o = objects(s);

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
	for (uint32_t i = 0; i < s->ps_segnext; i++)
		segs(s)[i].s_live = 0;
	s->ps_stats.pages = s->ps_stats.same_filled = 0;
	s->ps_objfree = 0;
	for (uint32_t i = 1; i < s->ps_objnext; i++) {
		if (o[i].o_ref == 0) {
			o[i].o_seg = s->ps_objfree;
			s->ps_objfree = i;
			continue;
		}
		s->ps_stats.pages++;
		if (o[i].o_seg == NONE)
			s->ps_stats.same_filled++;
		else
			segs(s)[o[i].o_seg].s_live += footprint(o[i].o_len);
	}
}

static void repair_segments(struct pool_shared *s)
{
	s->ps_segfree = NONE;
	s->ps_sealed[0] = s->ps_sealed[1] = s->ps_cached = s->ps_young = (struct list){ NONE, NONE };
	s->ps_nwarm = s->ps_ncached = s->ps_nyoung = 0;
	for (unsigned k = 0; k < OPENS; k++)
		if (s->ps_open[k] != NONE &&
		    segs(s)[s->ps_open[k]].s_state != (k == OPEN_YOUNG ? SEG_YOUNG : SEG_OPEN))
			s->ps_open[k] = NONE;
	for (uint32_t i = 0; i < s->ps_segnext; i++)
		if ((segs(s)[i].s_state == SEG_WRITING || segs(s)[i].s_state == SEG_READING) &&
		    pool_orphan(&segs(s)[i]))
			pool_abandon_locked(s, &segs(s)[i]);
	for (uint32_t i = 0; i < s->ps_segnext; i++) {
		struct segment *g = &segs(s)[i];

		if (g->s_fetch != 0 && pool_orphan(g))
			g->s_fetch = 0;
		if (g->s_state == SEG_OPEN && i != s->ps_open[OPEN_PACKED] && i != s->ps_open[OPEN_OLD] &&
		    i != s->ps_open[OPEN_RAW])
			set_state(g, SEG_SEALED);
		if ((g->s_state == SEG_SEALED || g->s_state == SEG_FILED) && g->s_live == 0 && g->s_fetch == 0)
			set_state(g, SEG_FREE);
		if (g->s_state == SEG_YOUNG && g->s_live == 0 && g->s_fetch == 0 && i != s->ps_open[OPEN_YOUNG])
			set_state(g, SEG_FREE);
		if (g->s_state == SEG_FREE || (g->s_state == SEG_FILED && g->s_fetch == 0))
			g->s_slot = NONE;
		if (g->s_state == SEG_FREE || g->s_state == SEG_SEALED || g->s_state == SEG_OPEN ||
		    g->s_state == SEG_YOUNG)
			g->s_block = NONE;
		if (g->s_state == SEG_SEALED)
			pool_enqueue_locked(s, &s->ps_sealed[g->s_old], i);
		if (g->s_state == SEG_YOUNG && i != s->ps_open[OPEN_YOUNG]) {
			pool_enqueue_locked(s, &s->ps_young, i);
			s->ps_nyoung++;
		}
		if (g->s_state == SEG_FILED && g->s_slot != NONE) { /* being read into */
			pool_enqueue_locked(s, &s->ps_cached, i);
			s->ps_ncached++;
		}
		if (g->s_state == SEG_FREE) {
			g->s_next = s->ps_segfree;
			s->ps_segfree = i;
		}
	}
}

/* The stack of free numbers is made from the segments: first marks of those in use, then, in place, the others. */
static uint32_t repair_stack(struct pool_shared *s, uint64_t stack, uint32_t *n, uint32_t next, int blocks)
{
	uint32_t *v = (uint32_t *)(void *)((char *)s + stack), used = 0, aside = 0;

	for (uint32_t i = 0; i < next; i++)
		v[i] = 0;
	for (uint32_t i = 0; i < s->ps_segnext; i++) {
		const struct segment *g = &segs(s)[i];
		uint32_t x = blocks ? g->s_block : g->s_state == SEG_READING ? g->s_next : g->s_slot;

		if (g->s_state != SEG_FREE && x != NONE)
			v[x] = 1;
	}
	for (uint32_t i = 0; blocks && i < QUARANTINE_MAX; i++)
		if (s->ps_quarantine[i].q_block != 0) {
			v[s->ps_quarantine[i].q_block - 1] = 1;
			aside++;
		}
	for (uint32_t m = 0; blocks && m < s->ps_nmembers; m++)
		for (uint32_t op = 0; op < POOL_WRITES; op++)
			if (pool_members(s)[m].m_io[op].io_block != 0)
				v[pool_members(s)[m].m_io[op].io_block - 1] = 1;
	*n = 0;
	for (uint32_t i = 0; i < next; i++) {
		if (v[i] != 0)
			used++;
		else
			v[(*n)++] = i;
	}
	s->ps_stats.set_aside = blocks ? aside : s->ps_stats.set_aside;
	return used - aside;
}

void pool_repair_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t before = s->ps_slots_used;

	repair_objects(s);
	repair_segments(s);
	s->ps_blocks_used = repair_stack(s, s->ps_blockfree, &s->ps_nblockfree, s->ps_blocknext, 1);
	pool_tell(&s->ps_slots_used, repair_stack(s, s->ps_slotfree, &s->ps_nslotfree, s->ps_slotnext, 0));
	for (uint32_t i = 0; i < s->ps_nslotfree; i++)
		pool_forget(slot_mem(s, ((uint32_t *)(void *)((char *)s + s->ps_slotfree))[i]), SEG_BYTES);
	if (before > s->ps_slots_used && p->p_charge != NULL)
		(void)p->p_charge(p->p_charge_arg, -(long)((before - s->ps_slots_used) * SEG_PAGES));
	s->ps_stats.repairs++;
}
