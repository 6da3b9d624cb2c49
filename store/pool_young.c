/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The young generation: pages that were stored a moment ago and are not packed yet (as generations in a garbage collector:
 * Ungar, 1984; young objects are the likeliest to die soon).
 *
 * Packing a page takes several times as long as the rest of storing it. If a thread calls
 * pool_work() (the packer: in `quire run` a thread of the supervisor) a storing thread only copies
 * its page into a young segment; the packer later moves the page to the log, on another CPU. The
 * packer is not a thread of the storing process: while a process runs on two CPUs, each move of one
 * of its pages interrupts the other CPU, which costs more than packing the page. A page that is
 * loaded while it is young was never packed.
 *
 * No thread ever waits for the packer. Young pages take memory unpacked: YOUNG_FEW segments, and
 * one more for each YOUNG_SHARE of packed bytes; at most ps_youngmax segments. Their memory is
 * separate from the log's. When the young segments are full, a storing thread packs its pages
 * itself. So a stopped or killed packer changes only speed.
 *
 * Places of an object: in the entry alone (same-filled) | young | packed, in the log. An object
 * changes from young to packed by one pool_append_locked(); repair undoes an unfinished append like
 * any other, as the young copy stays until its segment is freed. The checksum (o_word) belongs to
 * the packed bytes and has no meaning for a young object, so it is written before the change of
 * place.
 *
 * States of a segment: SEG_YOUNG and ps_open[OPEN_YOUNG]: appended to. SEG_YOUNG in the list
 * ps_young: full; its bytes do not change any more. With s_fetch, too: the packer s_owner reads its
 * pages without the lock, and the segment keeps its slot even if its last object is dropped.
 * s_fetch is a number unique to this reading. After reading, the packer checks that the number is
 * unchanged, as another process may have taken the packer for dead. A packer that died is noticed
 * by the next packer that finds nothing else to pack.
 *
 * Lock: ps_lock for everything but ps_idle and ps_work, which are atomics; the packer sleeps on ps_work. A storing thread
 * that fills enough segments changes it and wakes the packer if ps_idle says that it sleeps.
 */
#include "store/pool_impl.h"

/*
 * This many segments keep both the storing threads and the packer running; the number is not chosen
 * for pages that are loaded again soon.
 */
#define YOUNG_MOST 32u

void pool_pack_behind(struct pool *p, uint64_t bytes)
{
	struct pool_shared *s = p->p_shared;
	uint64_t n = bytes / (YOUNG_PAGES * PAGE),
		 most = (uint64_t)s->ps_limit / 8 * SEG_PAGES / YOUNG_PAGES;

	most = most < YOUNG_MOST ? most : YOUNG_MOST;
	pool_lock(p);
	s->ps_youngmax = (uint32_t)(n < most ? n : most);
	pool_unlock(s);
}

int pool_young_room(const struct pool_shared *s)
{
	return __atomic_load_n(&s->ps_nyoung, __ATOMIC_RELAXED) < pool_young_most(s);
}

/*
 * This many segments are left unpacked for a while: some of their pages will be loaded again. The
 * packer is woken when twice as many are young.
 */
static uint32_t young_left(const struct pool_shared *s) { return pool_young_most(s) / 4; }

int pool_young_open_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = s->ps_open[OPEN_YOUNG];

	POOL_ASSERT(pool_held(s));
	if (i != NONE && segs_of(s)[i].s_used == YOUNG_OBJECTS * object_bytes(PAGE)) {
		pool_young_seal_locked(s);
		i = NONE;
	}
	if (i == NONE) {
		if (!pool_young_room(s) || (i = pool_seg_new_locked(p, SEG_YOUNG)) == NONE)
			return -EAGAIN;
		s->ps_open[OPEN_YOUNG] = i;
	}
	return pool_touch_locked(p, i, 0, YOUNG_PAGES) ? 0 : -EAGAIN;
}

/* ---- the packer ---- */
uint32_t pool_work_seen(const struct pool *p)
{
	return __atomic_load_n(&p->p_shared->ps_work, __ATOMIC_ACQUIRE);
}

void pool_wait_work(struct pool *p, uint32_t seen, int rc)
{
	struct pool_shared *s = p->p_shared;
	struct {
		long s, ns;
	} soon = { 0, 100000000 }; /* no event tells when there is room again */

	if (pool_inflight(p) > 0) { /* other threads may wait for the memory */
		pool_poll(p, 1);
		return;
	}
	__atomic_store_n(&s->ps_idle, 1, __ATOMIC_SEQ_CST);
	if (rc < 0 || __atomic_load_n(&s->ps_nyoung, __ATOMIC_SEQ_CST) <= young_left(s))
		(void)sys_call6(SYS_futex, (long)&s->ps_work, 0 /* FUTEX_WAIT */, (long)(int)seen,
		    rc < 0 ? (long)&soon : 0, 0, 0);
	__atomic_store_n(&s->ps_idle, 0, __ATOMIC_RELAXED);
}

void pool_wake_packer(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	(void)__atomic_add_fetch(&s->ps_work, 1, __ATOMIC_ACQ_REL);
	(void)sys_call6(SYS_futex, (long)&s->ps_work, 1 /* FUTEX_WAKE */, 0x7fffffff, 0, 0, 0);
}

void pool_young_added(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	if (__atomic_load_n(&s->ps_idle, __ATOMIC_SEQ_CST) != 0 && s->ps_nyoung > 2 * young_left(s))
		pool_wake_packer(p);
}

/* Returns the oldest young segment that no thread packs, pinned. NONE: there is no such segment. */
static uint32_t pin_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i;

	POOL_ASSERT(pool_held(s));
	for (i = s->ps_young.first; i != NONE && segs_of(s)[i].s_fetch != 0;
	     i = segs_of(s)[i].s_next)
		;
	if (i == NONE)
		for (i = s->ps_young.first; i != NONE && !pool_orphan(p, &segs_of(s)[i], 0);
		     i = segs_of(s)[i].s_next)
			;
	if (i == NONE)
		return NONE;
	pool_begin_locked(p, i);
	if (++s->ps_pins == 0)
		s->ps_pins = 1;
	segs_of(s)[i].s_fetch = s->ps_pins;
	return i;
}

static int is_pinned(const struct segment *g, uint32_t pin)
{
	return g->s_state == SEG_YOUNG && g->s_fetch == pin;
}

struct work {
	uint32_t object, off; /* offset of the data in the segment */
};

static int is_there(struct pool_shared *s, uint32_t i, const struct work *w)
{
	const struct object *o = &objects_of(s)[w->object];

	return o->o_ref > 0 && o->o_seg == i && o->o_off == w->off;
}

/*
 * Lists the live objects of segment i. At most YOUNG_OBJECTS, whatever another process has written
 * to the segment's length.
 */
static uint32_t list_locked(struct pool_shared *s, uint32_t i, struct work *w)
{
	const struct segment *g = &segs_of(s)[i];
	uint32_t n = 0;

	POOL_ASSERT(pool_held(s));
	for (uint32_t at = 0; at < g->s_used && n < YOUNG_OBJECTS; at += object_bytes(PAGE)) {
		struct header h;

		__builtin_memcpy(&h, slot_mem(s, g->s_slot) + at, sizeof h);
		w[n] = (struct work){ h.h_object, at + (uint32_t)sizeof h };
		n += (uint32_t)is_there(s, i, &w[n]);
	}
	return n;
}

/*
 * Appends one packed object of young segment i to the log. May drop the lock. -ESTALE: another
 * process has taken this packer for dead.
 */
static int move_locked(
    struct pool *p, uint32_t i, uint32_t pin, const struct work *w, const struct packed *k)
{
	struct pool_shared *s = p->p_shared;
	unsigned kind = k->len == PAGE ? OPEN_RAW : OPEN_PACKED;
	int rc;

	POOL_ASSERT(pool_held(s));
	if (!is_pinned(&segs_of(s)[i], pin))
		return -ESTALE;
	if (!is_there(s, i, w))
		return 0;
	if ((rc = pool_open_locked(p, kind, object_bytes(k->len))) != 0)
		return rc;
	if (!is_pinned(&segs_of(s)[i], pin))
		return -ESTALE;
	if (!is_there(s, i, w))
		return 0;
	objects_of(s)[w->object].o_word = k->word;
	BARRIER();
	pool_append_locked(s, s->ps_open[kind], w->object, k->data, k->len);
	pool_gone_locked(s, i, PAGE);
	s->ps_in += PAGE;
	s->ps_out += k->len;
	s->ps_stats.packed_behind++;
	s->ps_stats.dense += k->dense;
	return 0;
}

static int pack_segment(struct pool *p, char *ctx, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	struct segment *g = &segs_of(s)[i];
	const char *mem = slot_mem(s, g->s_slot);
	uint32_t pin = g->s_fetch, n;
	struct work w[YOUNG_OBJECTS];
	int rc = 0;

	n = list_locked(s, i, w);
	for (uint32_t at = 0; at < n && rc == 0;) {
		uint32_t m = n - at < POOL_BATCH ? n - at : POOL_BATCH;
		struct packed k[POOL_BATCH];

		pool_unlock(s);
		for (uint32_t j = 0; j < m; j++)
			pool_pack(p, ctx, j, true, mem + w[at + j].off, &k[j]);
		pool_lock(p);
		for (uint32_t j = 0; j < m && rc == 0; j++)
			rc = move_locked(p, i, pin, &w[at + j], &k[j]);
		at += m;
	}
	if (!is_pinned(g, pin))
		return -ESTALE;
	g->s_fetch = 0;
	if (g->s_live == 0)
		pool_seg_free_locked(p, i);
	if (s->ps_stats.pages == s->ps_stats.same_filled)
		pool_close_locked(p);
	else
		pool_settle_locked(p);
	return rc;
}

void pool_young_relieve(struct pool *p)
{
	const struct pool_shared *s = p->p_shared;

	while (__atomic_load_n(&s->ps_nyoung, __ATOMIC_RELAXED) > pool_young_most(s) &&
	    pool_work(p, true) == 1)
		;
}

int pool_work(struct pool *p, bool all)
{
	struct pool_shared *s = p->p_shared;
	char *ctx = pool_ctx_take(p);
	uint32_t i = NONE;
	bool held = false; /* a segment for which no memory could be had holds none */
	int rc = 0;

	pool_lock(p);
	if (all)
		pool_young_seal_locked(s);
	if (s->ps_nyoung > (all ? 0 : young_left(s)))
		i = pin_locked(p);
	if (i != NONE) {
		held = segs_of(s)[i].s_pages != 0;
		rc = pack_segment(p, ctx, i);
	}
	pool_unlock(s);
	pool_ctx_give(p, ctx);
	return rc != 0 && rc != -ESTALE ? rc : held;
}
