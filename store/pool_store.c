/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Storing pages and dropping them. A page is packed by the storing thread, or kept as it is for the
 * packer (pool_young.c), then placed in the log.
 *
 * Packing is done without the lock (pool_pack.c), POOL_BATCH pages between two acquisitions of the
 * lock.
 */
#include "store/pool_impl.h"

#define BATCH POOL_BATCH

/* Is the page to be packed later? */
static void keep_young(const void *page, struct packed *k)
{
	*k = (struct packed){ .data = page };
	if (pool_same_filled(page, &k->word))
		return;
	k->len = PAGE;
	k->young = true;
}

/*
 * Opens the segment to which the page's bytes will be appended. A page whose words are all equal
 * needs no segment. May drop the lock.
 */
static int open_segment_locked(struct pool *p, const struct packed *k, unsigned kind)
{
	POOL_ASSERT(pool_held(p->p_shared));
	if (k->len == 0)
		return 0;
	if (k->young)
		return pool_young_open_locked(p);
	return pool_open_locked(p, kind, object_bytes(k->len));
}

/* Drops the lock if a segment must be opened. -EAGAIN: a page that was to be packed later is to be packed now. */
static int place_locked(struct pool *p, const struct packed *k, uint32_t *handle)
{
	struct pool_shared *s = p->p_shared;
	unsigned packed = k->len == PAGE ? OPEN_RAW : OPEN_PACKED;
	unsigned kind = k->young ? OPEN_YOUNG : packed;
	int rc = open_segment_locked(p, k, kind);

	POOL_ASSERT(pool_held(s));
	if (rc != 0)
		return rc;
	uint32_t i = pool_object_new(p);
	if (i == 0)
		return -ENOSPC;
	objects_of(s)[i].o_word = k->word;
	pool_left(s, i);
	if (k->len != 0) {
		pool_append_locked(s, s->ps_open[kind], i, k->data, k->len);
		s->ps_in += k->young ? 0 : PAGE;
		s->ps_out += k->young ? 0 : k->len;
		s->ps_stats.dense += k->dense;
	} else {
		s->ps_stats.same_filled++;
	}
	BARRIER();
	pool_own_locked(p, i);
	pool_settle_locked(p);
	*handle = i;
	return 0;
}

void pool_unref_locked(struct pool *p, uint32_t handle)
{
	struct pool_shared *s = p->p_shared;
	struct object *o = &objects_of(s)[handle];

	POOL_ASSERT(pool_held(s));
	if (--o->o_ref > 0)
		return;
	if (o->o_seg != NONE) {
		pool_gone_locked(s, o->o_seg, o->o_len);
		if (segs_of(s)[o->o_seg].s_live == 0)
			pool_seg_empty_locked(p, o->o_seg);
	} else {
		s->ps_stats.same_filled--;
	}
	pool_object_free(p, handle);
	if (s->ps_stats.pages == s->ps_stats.same_filled)
		pool_close_locked(p);
	else
		pool_settle_locked(p);
}

/* While a page is packed, the next page is prefetched into the CPU's cache. */
static void prefetch_page(const void *page)
{
	for (unsigned i = 0; i < PAGE; i += 64)
		__builtin_prefetch((const char *)page + i);
}

/* Stores up to BATCH pages and adds them to *done. -EAGAIN: the pages cannot be stored young. */
static int store_some(struct pool *p, bool young, uint32_t m, const void *const *pages,
    uint32_t *handles, uint32_t *done)
{
	struct packed k[BATCH];
	char *ctx = young ? NULL : pool_ctx_take(p);
	int rc = 0;

	for (uint32_t i = 0; i < m; i++) {
		if (i + 1 < m)
			prefetch_page(pages[i + 1]);
		if (young)
			keep_young(pages[i], &k[i]);
		else
			pool_pack(p, ctx, i, false, pages[i], &k[i]);
	}
	pool_lock(p);
	for (uint32_t i = 0; i < m && (rc = place_locked(p, &k[i], &handles[i])) == 0; i++)
		++*done;
	pool_unlock(p->p_shared);
	if (young)
		pool_young_added(p);
	else
		pool_ctx_give(p, ctx);
	return rc;
}

int pool_store_vec(
    struct pool *p, uint32_t n, const void *const *pages, uint32_t *handles, uint32_t *done)
{
	/* young pages are allowed, but memory is short: packed pages can be written to the file */
	bool refused = false;
	int rc = 0;

	for (*done = 0; *done < n && rc == 0;) {
		bool young = !refused && pool_young_room(p->p_shared);

		rc = store_some(p, young, n - *done < BATCH ? n - *done : BATCH, pages + *done,
		    handles + *done, done);
		refused = rc == -EAGAIN;
		if (refused)
			rc = 0;
		if (rc == -ENOSPC && pool_work(p, true) == 1) /* writing packed pages makes room */
			rc = 0;
	}
	return rc;
}

int pool_store(struct pool *p, const void *page, uint32_t *handle)
{
	uint32_t done;

	return pool_store_vec(p, 1, &page, handle, &done);
}
