/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log: when segments are opened, compacted and written.
 *
 * The log is dense at any time. Dropped objects leave holes. pool_settle_locked() compacts the
 * sparsest sealed segment as soon as the memory taken approaches 9/8 of the packed bytes
 * (pool_goal). If no segment is sparse enough, because young pages or copies of the file take the
 * rest, these are packed or dropped when the memory taken approaches its bound (pool_bound).
 * Compaction this early costs less than a microsecond for each page stored. Compaction copies whole
 * segments, so the copy may need a segment's pages before the old pages are free: POOL_MARGIN is
 * kept for the copy.
 *
 * Objects that compaction finds alive are kept apart from new objects (OPEN_OLD): they are less
 * likely to be dropped soon. So old objects gather in few segments, which are written, and the
 * other segments empty by themselves.
 *
 * When the log has filled its target (ps_target, pool_share.c), a segment is opened only after
 * another has been compacted or written.
 *
 * Lock: ps_lock for everything here.
 */
#include "store/pool_impl.h"

/* a segment in memory with at least this many live bytes is not worth compacting */
#define DENSE (SEG_BYTES / 8 * 7)
/*
 * Warm slots kept; the log must be denser by their memory. Each compaction takes a slot and gives
 * another back. A packer empties several young segments in a row, and as many are filled again.
 */
#define WARM_FEW 2u
#define WARM_YOUNG 6u

/* Is there room for bytes at the end of segment i? */
static bool has_room(struct pool_shared *s, uint32_t i, uint32_t bytes)
{
	return i != NONE && segs_of(s)[i].s_used + bytes <= SEG_BYTES;
}

/* Charges the pages in which the next bytes of segment i lie. */
static bool touch_next(struct pool *p, uint32_t i, uint32_t bytes)
{
	uint32_t used = segs_of(p->p_shared)[i].s_used;

	return pool_touch_locked(p, i, used / PAGE, (uint32_t)round_up(used + bytes, PAGE) / PAGE);
}

/* Seals the open segment of that kind, or frees it if it is empty. */
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
/* Makes room for bytes in the open segment of old pages. */
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

	POOL_ASSERT(pool_held(s));
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
 * Returns the sealed segment in memory that is cheapest to compact, or NONE if all are dense.
 * Objects are dropped when they are loaded, so segments empty in no particular order: writing the
 * oldest segment would send live pages to the file while memory is full of dead pages.
 */
static uint32_t sparsest_segment(const struct pool_shared *s)
{
	for (uint32_t b = 0; b <= pool_bucket_of(DENSE - 1); b++)
		if (s->ps_sparse[b] != NONE)
			return s->ps_sparse[b];
	return NONE;
}

/* Returns the open segment with the most dead bytes, if they are a quarter of it. */
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

	POOL_ASSERT(pool_held(s));
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
/* As sparsest_segment(). Records whether there is no segment with a quarter of its bytes dead. */
static uint32_t find_cleanable(struct pool_shared *s)
{
	uint32_t i = sparsest_segment(s);

	pool_tell(&s->ps_full, i == NONE || segs_of(s)[i].s_live > SEG_BYTES / 4 * 3);
	return i;
}

/*
 * Pages in use, and the most pages in use before a segment is written. Young segments have a limit
 * of their own and do not count.
 */
static uint32_t log_pages(const struct pool_shared *s)
{
	uint32_t n = s->ps_held;

	for (uint32_t i = 0; i < s->ps_nwarm; i++)
		n -= mask_count(s->ps_warm[i].w_pages);
	return n > pool_young_pages(s) ? n - pool_young_pages(s) : 0;
}

/*
 * The charge beyond the target is for a block that is reclaimed, so the tables, which are charged,
 * too, count as part of the target.
 */
static uint32_t log_limit(const struct pool_shared *s)
{
	uint32_t all = pool_target(s) * SEG_PAGES,
		 other = pool_young_most(s) * YOUNG_PAGES + s->ps_tables;

	return all > other + 2 * SEG_PAGES ? all - other : 2 * SEG_PAGES;
}

/*
 * The number of slots that should be free, counting slots that become free when current writes end.
 */
static uint32_t slot_headroom(const struct pool_shared *s)
{
	return pool_target(s) / 16 < POOL_WRITES ? pool_target(s) / 16 : POOL_WRITES;
}

/* Starts writes, so that memory is free when it is needed. Drops the lock. */
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

/* The segment of the file with the fewest live bytes, at most max, or NONE. */
static uint32_t emptiest_filed(struct pool_shared *s, uint32_t max)
{
	uint32_t best = NONE;

	for (uint32_t i = 0; i < s->ps_segx.x_next; i++)
		if (segs_of(s)[i].s_state == SEG_FILED && segs_of(s)[i].s_live <= max &&
		    segs_of(s)[i].s_fetch == 0 && segs_of(s)[i].s_bad == 0) {
			best = i;
			max = segs_of(s)[i].s_live;
		}
	return best;
}

/*
 * Fetches the emptiest segment of the file back and compacts it, which frees its block. Drops the
 * lock during the read. 0, -ENOSPC.
 */
static int reclaim_block(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = !pool_has_blocks(p) ? NONE : emptiest_filed(s, RECLAIM_LIVE);

	if (i == NONE || pool_fetch_back_locked(p, i) != 0)
		return -ENOSPC;
	if (segs_of(s)[i].s_state == SEG_SEALED)
		(void)pool_compact_locked(p, i);
	return 0;
}

/*
 * Waits until another thread ends its write or read of a segment. -ENOSPC: no thread writes or
 * reads. Drops the lock while it waits.
 */
static int wait_for_io(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	for (uint32_t i = 0; i < s->ps_segx.x_next; i++) {
		struct segment *g = &segs_of(s)[i];

		if (g->s_state != SEG_WRITING && g->s_state != SEG_READING)
			continue;
		if (pool_orphan(p, g, 0)) {
			pool_abandon_locked(s, g);
			pool_repair_locked(p, 0);
			return 0;
		}
		uint32_t io = s->ps_io;
		pool_unlock(s);
		bool long_ago = pool_sleep(p, &s->ps_io, io);
		pool_lock(p);
		if (long_ago && g->s_state == SEG_WRITING && g->s_async != 0)
			(void)pool_steal_locked(p, i); /* its writer does not collect the result */
		return 0;
	}
	return -ENOSPC;
}

/*
 * Makes room for one more segment in memory: compacts a segment with dead space; if there is none,
 * writes the oldest segment. If the file is full, compacts any segment that it can.
 */
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
		; /* the second result is ready when the first has been waited for */
	if (pool_reap_locked(p, 1) > 0)
		return 0;
	i = pool_oldest(s);
	if (i != NONE && (rc = pool_spill_locked(p, i)) != -ENOSPC)
		return rc;
	if (pool_oldest(s) != NONE &&
	    reclaim_block(p) == 0) /* there is a segment to write, but no block for it */
		return 0;
	if (pool_cache_evict_locked(p))
		return 0;
	return wait_for_io(p);
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

/* A segment that cannot be written now stays sealed in memory. Drops the lock. */
static void write_raw(struct pool *p, uint32_t i)
{
	if (pool_write_start_locked(p, i) == -EAGAIN && pool_inflight(p) == 0 &&
	    segs_of(p->p_shared)[i].s_state == SEG_SEALED)
		(void)pool_spill_locked(p, i);
}

/* Closes the full open segment. Drops the lock. */
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

	POOL_ASSERT(pool_held(s));
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
