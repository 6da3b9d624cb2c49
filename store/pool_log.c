/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log: segments in memory, appending, compaction, and when which is done.
 *
 * The log is dense at any time. When objects go they leave holes; pool_settle_locked() compacts the sparsest sealed segment as
 * soon as what the store has taken nears an eighth more than the packed bytes it holds (pool_goal). Where no segment is sparse enough,
 * because young pages or copies of the file take the rest, these give way near what the store may take at most (pool_bound).
 * To compact so early costs less than a microsecond a page stored. Compaction takes whole segments, so the copy may
 * need a segment's pages before the old ones are free: POOL_MARGIN is kept for that.
 *
 * Sealed segments are in two orders: by age, in ps_sealed[] (which goes to the file first), and by live bytes, in ps_sparse[] (which is
 * compacted first: a list for each sixteenth of a segment). What compaction finds alive is kept apart from what is stored now
 * (OPEN_OLD): it is less likely to go soon, so old pages gather in few segments, which are written, and the others empty by themselves.
 *
 * When the log has as many pages as it may (ps_target, pool_share.c), one more segment is opened only when another has been
 * compacted or written.
 *
 * Lock: ps_lock for everything here.
 */
#include "store/pool_impl.h"

#define LEFT_MEAN 16 /* s_left is about the last so many */
#define DENSE                                                                                      \
	(SEG_BYTES / 8 * 7) /* live bytes from which a segment in memory is not worth compacting */
/*
 * Warm slots that are worth a denser log. Each compaction takes a slot and gives one back. A packer empties several young segments one
 * after the other, and as many are filled again.
 */
#define WARM_FEW 2u
#define WARM_YOUNG 6u

void pool_begin_locked(struct pool *p, uint32_t i)
{
	struct segment *g = &segs_of(p->p_shared)[i];

	g->s_tid = pool_tid(p);
	g->s_member = p->p_member;
	BARRIER();
}

/* ---- lists ---- */
void pool_dequeue_locked(struct pool_shared *s, struct list *l, uint32_t i)
{
	struct segment *g = &segs_of(s)[i];

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

	g->s_next = NONE;
	g->s_prev = l->last;
	if (l->last != NONE)
		segs_of(s)[l->last].s_next = i;
	else
		l->first = i;
	l->last = i;
}

static uint32_t bucket_of(uint32_t live)
{
	return live / BUCKET_BYTES < BUCKETS ? live / BUCKET_BYTES : BUCKETS - 1;
}

static void bucket_add(struct pool_shared *s, uint32_t i)
{
	struct segment *g = &segs_of(s)[i];
	uint32_t *first = &s->ps_sparse[g->s_bucket = bucket_of(g->s_live)];

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
	set_state(&segs_of(s)[i], SEG_SEALED);
	pool_enqueue_locked(s, &s->ps_sealed[segs_of(s)[i].s_old], i);
	bucket_add(s, i);
}

void pool_unseal_locked(struct pool_shared *s, uint32_t i)
{
	pool_dequeue_locked(s, &s->ps_sealed[segs_of(s)[i].s_old], i);
	bucket_remove(s, i);
}

/* ---- segments ---- */
uint32_t pool_seg_new_locked(struct pool *p, uint32_t state)
{
	struct pool_shared *s = p->p_shared;
	struct warm w;

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

	if (g->s_state == SEG_SEALED)
		pool_unseal_locked(s, i);
	if (g->s_state == SEG_YOUNG)
		pool_young_remove_locked(s, i);
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

void pool_gone_locked(struct pool_shared *s, uint32_t i, uint32_t len)
{
	struct segment *g = &segs_of(s)[i];

	g->s_live -= object_bytes(len);
	g->s_packed -= len;
	if (g->s_state != SEG_YOUNG && g->s_state != SEG_FILED && g->s_state != SEG_READING)
		s->ps_packed -= len;
	if (g->s_state == SEG_SEALED && g->s_bucket != bucket_of(g->s_live)) {
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

/* Is there room for bytes at the end of segment i? */
static bool has_room(struct pool_shared *s, uint32_t i, uint32_t bytes)
{
	return i != NONE && segs_of(s)[i].s_used + bytes <= SEG_BYTES;
}

/* The pages that the next bytes of segment i lie in are charged. */
static bool touch_next(struct pool *p, uint32_t i, uint32_t bytes)
{
	uint32_t used = segs_of(p->p_shared)[i].s_used;

	return pool_touch_locked(p, i, used / PAGE, (uint32_t)round_up(used + bytes, PAGE) / PAGE);
}

/* The open segment of that kind is sealed, or freed if there is nothing in it. */
static void seal_open(struct pool *p, unsigned kind)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = s->ps_open[kind];

	s->ps_open[kind] = NONE;
	if (segs_of(s)[i].s_live == 0)
		pool_seg_free_locked(p, i);
	else
		pool_seal_locked(s, i);
}

/* ---- compaction ---- */
/* Room for bytes in the open segment of old pages. */
static bool open_old(struct pool *p, uint32_t bytes)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = s->ps_open[OPEN_OLD];

	if (!has_room(s, i, bytes)) {
		if (i != NONE)
			seal_open(p, OPEN_OLD);
		if ((i = pool_seg_new_locked(p, SEG_OPEN)) == NONE)
			return false;
		segs_of(s)[i].s_old = 1;
		s->ps_open[OPEN_OLD] = i;
	}
	return touch_next(p, i, bytes);
}

bool pool_compact_locked(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs_of(s)[i];
	char *mem = slot_mem(s, g->s_slot);

	for (uint32_t at = 0; at < g->s_used && g->s_live != 0;) {
		struct header h;

		__builtin_memcpy(&h, mem + at, sizeof h);
		const struct object *o = &objects_of(s)[h.h_object];
		if (o->o_ref > 0 && o->o_seg == i && o->o_off == at + sizeof h) {
			if (!open_old(p, object_bytes(h.h_len)))
				return false;
			pool_append_locked(
			    s, s->ps_open[OPEN_OLD], h.h_object, mem + at + sizeof h, h.h_len);
			pool_gone_locked(s, i, h.h_len);
		}
		at += object_bytes(h.h_len);
	}
	pool_seg_free_locked(p, i);
	s->ps_stats.compactions++;
	return true;
}

/*
 * The sealed segment in memory that is cheapest to compact, or NONE when all are dense. Objects are dropped when they are
 * loaded, so segments empty in no order: writing the oldest would send live pages to the file while memory is full of dead ones.
 */
static uint32_t sparsest_segment(const struct pool_shared *s)
{
	for (uint32_t b = 0; b <= bucket_of(DENSE - 1); b++)
		if (s->ps_sparse[b] != NONE)
			return s->ps_sparse[b];
	return NONE;
}

/* The open segment with the most holes, if it has a quarter of them. */
static unsigned sparsest_open(struct pool_shared *s)
{
	uint32_t most = SEG_BYTES / 4;
	unsigned best = OPENS;

	for (unsigned k = 0; k < OPEN_YOUNG; k++) {
		const struct segment *g = s->ps_open[k] != NONE ? &segs_of(s)[s->ps_open[k]] : NULL;

		if (g != NULL && g->s_used - g->s_live >= most) {
			best = k;
			most = g->s_used - g->s_live;
		}
	}
	return best;
}

void pool_settle_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	while (pool_taken(s) + POOL_MARGIN > pool_goal(s)) {
		bool must = pool_taken(s) + POOL_MARGIN > pool_bound(s);
		uint32_t i;
		unsigned kind;

		if (s->ps_nwarm > (s->ps_youngmax != 0 ? WARM_YOUNG : WARM_FEW)) {
			(void)pool_cool_locked(p);
		} else if ((i = sparsest_segment(s)) != NONE) {
			if (!pool_compact_locked(p, i))
				return;
		} else if (!must) {
			return;
		} else if ((kind = sparsest_open(s)) != OPENS) {
			seal_open(p, kind);
		} else if (!pool_cool_locked(p) && !pool_cache_evict_locked(p)) {
			return;
		}
	}
}

/* ---- room ---- */
/* As sparsest_segment(). Tells whether there is none with a quarter of it dead. */
static uint32_t find_cleanable(struct pool_shared *s)
{
	uint32_t i = sparsest_segment(s);

	pool_tell(&s->ps_full, i == NONE || segs_of(s)[i].s_live > SEG_BYTES / 4 * 3);
	return i;
}

uint32_t pool_oldest(const struct pool_shared *s)
{
	const struct segment *g = segs_of((struct pool_shared *)(uintptr_t)s);
	uint32_t a = s->ps_sealed[0].first, b = s->ps_sealed[1].first;

	return a == NONE || (b != NONE && (int32_t)(g[b].s_left - g[a].s_left) < 0) ? b : a;
}

/* Pages in use, and how many may be before something is written: without those of young pages, which have their own. */
static uint32_t log_pages(const struct pool_shared *s)
{
	uint32_t n = s->ps_held;

	for (uint32_t i = 0; i < s->ps_nwarm; i++)
		n -= mask_count(s->ps_warm[i].w_pages);
	return n > pool_young_pages(s) ? n - pool_young_pages(s) : 0;
}

/* What may be charged beyond the target is for a block that is reclaimed, so the tables, which are charged, too, are part of it. */
static uint32_t log_limit(const struct pool_shared *s)
{
	uint32_t all = pool_target(s) * SEG_PAGES,
		 other = pool_young_most(s) * YOUNG_PAGES + s->ps_tables;

	return all > other + 2 * SEG_PAGES ? all - other : 2 * SEG_PAGES;
}

/* How many slots should be free, or be so when what is being written is written. */
static uint32_t slot_headroom(const struct pool_shared *s)
{
	return pool_target(s) / 16 < POOL_WRITES ? pool_target(s) / 16 : POOL_WRITES;
}

/* Starts writes so that there will be memory when it is wanted. Drops the lock. */
static void write_behind(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	if (p->p_ring == NULL)
		return;
	(void)pool_reap_locked(p, 0);
	for (;;) {
		uint32_t n = pool_inflight(p), i = pool_oldest(s);

		if (i == NONE || n >= POOL_WRITES ||
		    log_pages(s) + slot_headroom(s) * SEG_PAGES <= log_limit(s) + n * SEG_PAGES)
			return;
		uint32_t c = find_cleanable(s);

		if ((c == NONE || !pool_compact_locked(p, c)) && pool_write_start_locked(p, i) != 0)
			return;
	}
}

/* Makes room for one more segment in memory. One with dead space is compacted; if there is none the oldest is written. Full: compacts what it can. */
static int make_room(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = find_cleanable(s);
	int rc = -ENOSPC;

	if (i != NONE && pool_compact_locked(p, i))
		return 0;
	if (pool_reap_locked(p, 0) > 0)
		return 0;
	while ((i = pool_oldest(s)) != NONE && pool_inflight(p) < 2 &&
	    pool_write_start_locked(p, i) == 0)
		; /* one is ready when the other has been waited for */
	if (pool_reap_locked(p, 1) > 0)
		return 0;
	i = pool_oldest(s);
	if (i != NONE && (rc = pool_spill_locked(p, i)) != -ENOSPC)
		return rc;
	if (pool_oldest(s) != NONE &&
	    pool_reclaim_block_locked(p) ==
		0) /* there is something to write, but no block for it */
		return 0;
	if (pool_cache_evict_locked(p))
		return 0;
	return pool_wait_io_locked(p);
}

int pool_shrink(struct pool *p, uint64_t bytes)
{
	struct pool_shared *s = p->p_shared;
	uint32_t n = (uint32_t)(round_up(bytes, PAGE) / PAGE), to;
	int rc = 0;

	pool_lock(p);
	to = s->ps_held > n ? s->ps_held - n : 0;
	for (uint32_t tries = 0; rc == 0 && s->ps_held > to && tries < s->ps_nslots * 4; tries++)
		if (!pool_cool_locked(p) && !pool_cache_evict_locked(p))
			rc = make_room(p);
	while (s->ps_held > to && pool_cool_locked(p))
		;
	if (rc == 0 && s->ps_held > to)
		rc = -ENOSPC;
	pool_unlock(s);
	return rc;
}

/* If it cannot be written now it waits its turn in memory. Drops the lock. */
static void write_raw(struct pool *p, uint32_t i)
{
	if (pool_write_start_locked(p, i) == -EAGAIN && pool_inflight(p) == 0 &&
	    segs_of(p->p_shared)[i].s_state == SEG_SEALED)
		(void)pool_spill_locked(p, i);
}

/* The full open segment is closed. Drops the lock. */
static void open_ends(struct pool *p, unsigned kind)
{
	uint32_t full = p->p_shared->ps_open[kind];
	bool live = segs_of(p->p_shared)[full].s_live != 0;

	seal_open(p, kind);
	if (live && kind == OPEN_RAW)
		write_raw(p, full);
}

int pool_open_locked(struct pool *p, unsigned kind, uint32_t bytes)
{
	struct pool_shared *s = p->p_shared;

	for (int tries = 0;;) {
		uint32_t i = s->ps_open[kind];

		if (has_room(s, i, bytes)) {
			if (touch_next(p, i, bytes))
				return 0;
		} else if (i != NONE) {
			open_ends(p, kind);
			continue;
		} else {
			write_behind(p);
			if (s->ps_open[kind] !=
			    NONE) /* another thread opened a segment while the lock was dropped */
				continue;
			if (log_pages(s) + SEG_PAGES <= log_limit(s) &&
			    (s->ps_open[kind] = pool_seg_new_locked(p, SEG_OPEN)) != NONE)
				continue;
		}
		int rc = make_room(p);
		if ((rc != 0 && !pool_raise_locked(s)) || ++tries > 1000)
			return rc != 0 ? rc : -ENOSPC;
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
	close_open(p, OPEN_PACKED);
	close_open(p, OPEN_OLD);
	close_open(p, OPEN_RAW);
	pool_young_close_locked(p);
	while (pool_cool_locked(p))
		;
}
