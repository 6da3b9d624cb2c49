/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments: their lists, their memory and block while they live, and the objects in them.
 *
 * Sealed segments are in two orders: by age in ps_sealed[], for the choice of the segment to write,
 * and by live bytes in ps_sparse[] (a list for each sixteenth of a segment), for the choice of the
 * segment to compact. Young segments are in ps_young (pool_young.c), filed segments with a slot in
 * ps_cached (pool_cache.c). pool_log.c, a floor above, decides when segments are opened, written
 * and compacted.
 *
 * Lock: ps_lock for everything here.
 */
#include "store/pool_impl.h"

#define LEFT_MEAN 16 /* s_left averages about this many evictions */

void pool_begin_locked(struct pool *p, uint32_t i)
{
	struct segment *g = &segs_of(p->p_shared)[i];

	POOL_ASSERT(pool_held(p->p_shared));
	g->s_owner = p->p_owner;
	g->s_member = p->p_member;
	BARRIER();
}

/* ---- lists ---- */
void pool_dequeue_locked(struct pool_shared *s, struct list *l, uint32_t i)
{
	struct segment *g = &segs_of(s)[i];

	POOL_ASSERT(pool_held(s));
	if (g->s_prev != NONE)
		segs_of(s)[g->s_prev].s_next = g->s_next;
	else
		l->first = g->s_next;
	if (g->s_next != NONE)
		segs_of(s)[g->s_next].s_prev = g->s_prev;
	else
		l->last = g->s_prev;
}

void pool_enqueue_locked(struct pool_shared *s, struct list *l, uint32_t i)
{
	struct segment *g = &segs_of(s)[i];

	POOL_ASSERT(pool_held(s));
	g->s_next = NONE;
	g->s_prev = l->last;
	if (l->last != NONE)
		segs_of(s)[l->last].s_next = i;
	else
		l->first = i;
	l->last = i;
}

static void bucket_add(struct pool_shared *s, uint32_t i)
{
	struct segment *g = &segs_of(s)[i];
	uint32_t *first = &s->ps_sparse[g->s_bucket = pool_bucket_of(g->s_live)];

	g->s_above = NONE;
	g->s_below = *first;
	if (*first != NONE)
		segs_of(s)[*first].s_above = i;
	*first = i;
}

static void bucket_remove(struct pool_shared *s, uint32_t i)
{
	const struct segment *g = &segs_of(s)[i];

	if (g->s_above != NONE)
		segs_of(s)[g->s_above].s_below = g->s_below;
	else
		s->ps_sparse[g->s_bucket] = g->s_below;
	if (g->s_below != NONE)
		segs_of(s)[g->s_below].s_above = g->s_above;
}

void pool_seal_locked(struct pool_shared *s, uint32_t i)
{
	POOL_ASSERT(pool_held(s));
	set_state(&segs_of(s)[i], SEG_SEALED);
	pool_enqueue_locked(s, &s->ps_sealed[segs_of(s)[i].s_old], i);
	bucket_add(s, i);
}

void pool_unseal_locked(struct pool_shared *s, uint32_t i)
{
	POOL_ASSERT(pool_held(s));
	pool_dequeue_locked(s, &s->ps_sealed[segs_of(s)[i].s_old], i);
	bucket_remove(s, i);
}

uint32_t pool_oldest(const struct pool_shared *s)
{
	const struct segment *g = segs_of((struct pool_shared *)(uintptr_t)s);
	uint32_t a = s->ps_sealed[0].first, b = s->ps_sealed[1].first;

	return a == NONE || (b != NONE && (int32_t)(g[b].s_left - g[a].s_left) < 0) ? b : a;
}

static void count_young(struct pool_shared *s, int by)
{
	__atomic_store_n(&s->ps_nyoung, s->ps_nyoung + (uint32_t)by, __ATOMIC_RELAXED);
}

void pool_young_seal_locked(struct pool_shared *s)
{
	uint32_t i = s->ps_open[OPEN_YOUNG];

	POOL_ASSERT(pool_held(s));
	s->ps_open[OPEN_YOUNG] = NONE;
	if (i == NONE)
		return;
	pool_enqueue_locked(s, &s->ps_young, i);
	count_young(s, 1);
}

static void remove_young(struct pool_shared *s, uint32_t i)
{
	pool_dequeue_locked(s, &s->ps_young, i);
	count_young(s, -1);
}

struct warm pool_uncache_locked(struct pool_shared *s, uint32_t i)
{
	struct segment *g = &segs_of(s)[i];
	struct warm w = { g->s_slot, g->s_pages };

	POOL_ASSERT(pool_held(s));
	pool_dequeue_locked(s, &s->ps_cached, i);
	s->ps_ncached--;
	if (g->s_hits > 1)
		s->ps_ahead = s->ps_ahead < AHEAD_MAX ? s->ps_ahead + 1 : AHEAD_MAX;
	else if (s->ps_ahead > 0)
		s->ps_ahead--;
	g->s_valid = 0;
	BARRIER();
	g->s_slot = NONE;
	g->s_pages = 0;
	return w;
}

/* ---- segments ---- */
uint32_t pool_seg_new_locked(struct pool *p, uint32_t state)
{
	struct pool_shared *s = p->p_shared;
	struct warm w;

	POOL_ASSERT(pool_held(s));
	if (!pool_slot_take_locked(p, &w))
		return NONE;
	uint32_t i = pool_index_take(s, &s->ps_segx);
	if (i == NONE) {
		pool_slot_give_locked(p, w);
		return NONE;
	}
	struct segment *g = &segs_of(s)[i];

	_Static_assert(offsetof(struct segment, s_state) == 0, "all but the state is cleared");
	__builtin_memset((char *)g + sizeof g->s_state, 0, sizeof *g - sizeof g->s_state);
	g->s_slot = w.w_slot;
	g->s_pages = w.w_pages;
	g->s_block = g->s_next = g->s_prev = NONE;
	BARRIER();
	set_state(g, state);
	pool_tables_locked(p);
	return i;
}

void pool_seg_free_locked(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs_of(s)[i];
	struct warm w = { g->s_slot, g->s_pages };
	uint32_t block = g->s_block;

	POOL_ASSERT(pool_held(s));
	if (g->s_state == SEG_SEALED)
		pool_unseal_locked(s, i);
	if (g->s_state == SEG_YOUNG)
		remove_young(s, i);
	if (g->s_state == SEG_FILED && g->s_slot != NONE)
		w = pool_uncache_locked(s, i);
	set_state(g, SEG_FREE);
	BARRIER();
	if (w.w_slot != NONE)
		pool_slot_give_locked(p, w);
	if (block != NONE)
		pool_block_give_locked(s, block);
	pool_index_give(s, &s->ps_segx, i);
	pool_tables_locked(p);
}

void pool_seg_empty_locked(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	const struct segment *g = &segs_of(s)[i];

	POOL_ASSERT(pool_held(s));
	if (i == s->ps_open[OPEN_YOUNG]) {
		segs_of(s)[i].s_used = 0;
		return;
	}
	for (unsigned k = 0; k < OPENS; k++)
		if (s->ps_open[k] == i)
			s->ps_open[k] = NONE;
	if (g->s_state == SEG_OPEN || g->s_state == SEG_SEALED ||
	    ((g->s_state == SEG_FILED || g->s_state == SEG_YOUNG) && g->s_fetch == 0))
		pool_seg_free_locked(p, i);
}

/* ---- objects ---- */
void pool_gone_locked(struct pool_shared *s, uint32_t i, uint32_t len)
{
	struct segment *g = &segs_of(s)[i];

	POOL_ASSERT(pool_held(s));
	g->s_live -= object_bytes(len);
	g->s_packed -= len;
	if (g->s_state != SEG_YOUNG && g->s_state != SEG_FILED && g->s_state != SEG_READING)
		s->ps_packed -= len;
	if (g->s_state == SEG_SEALED && g->s_bucket != pool_bucket_of(g->s_live)) {
		bucket_remove(s, i);
		bucket_add(s, i);
	}
}

void pool_append_locked(
    struct pool_shared *s, uint32_t i, uint32_t object, const char *data, uint32_t len)
{
	struct segment *g = &segs_of(s)[i];
	struct object *o = &objects_of(s)[object];
	struct header h = { object, len };
	char *at = slot_mem(s, g->s_slot) + g->s_used;

	POOL_ASSERT(pool_held(s));
	__builtin_memcpy(at, &h, sizeof h);
	__builtin_memcpy(at + sizeof h, data, len);
	s->ps_move.seg = o->o_seg == NONE ? NEW : o->o_seg;
	s->ps_move.off = o->o_off;
	s->ps_move.len = o->o_len;
	BARRIER();
	s->ps_move.object = object;
	BARRIER();
	__atomic_store_n(&o->o_seg, i, __ATOMIC_RELAXED); /* pool_takes_memory looks */
	o->o_off = (uint16_t)(g->s_used + sizeof h);
	o->o_len = (uint16_t)len;
	g->s_left = g->s_used == 0
	    ? o->o_left
	    : g->s_left + (uint32_t)((int32_t)(o->o_left - g->s_left) / LEFT_MEAN);
	g->s_used += object_bytes(len);
	g->s_live += object_bytes(len);
	g->s_packed += len;
	s->ps_packed += g->s_state == SEG_YOUNG ? 0 : len;
	BARRIER();
	s->ps_move.object = 0;
}

/* ---- the end of all ---- */
/*
 * The store is empty: young segments have no live object, but a thread may be reading a segment, or
 * may have died while it read.
 */
static void close_young(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	pool_young_seal_locked(s);
	for (uint32_t i = s->ps_young.first, next; i != NONE; i = next) {
		next = segs_of(s)[i].s_next;
		if (segs_of(s)[i].s_fetch == 0 || pool_orphan(p, &segs_of(s)[i], 0))
			pool_seg_free_locked(p, i);
	}
}

static void close_open(struct pool *p, unsigned kind)
{
	uint32_t i = p->p_shared->ps_open[kind];

	p->p_shared->ps_open[kind] = NONE;
	if (i != NONE)
		pool_seg_free_locked(p, i);
}

void pool_close_locked(struct pool *p)
{
	POOL_ASSERT(pool_held(p->p_shared));
	close_open(p, OPEN_PACKED);
	close_open(p, OPEN_OLD);
	close_open(p, OPEN_RAW);
	close_young(p);
	while (pool_cool_locked(p))
		;
}
