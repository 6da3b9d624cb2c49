/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Storing pages: packed by the storing thread, or kept as they are for the packer (pool_young.c), then placed in the log.
 *
 * Packing is done without the lock, POOL_BATCH pages between two takings of it.
 */
#include "store/codec.h"
#include "store/pool_impl.h"

#define RAW_MIN 3584u /* compressed size from which a page counts as incompressible */
#define BATCH POOL_BATCH

/* Four lanes, because one would wait for its multiplication all the time. Not against malice: the file is ours alone. */
uint64_t pool_checksum(const char *data, uint32_t len)
{
	uint64_t h[4] = { 0x9e3779b97f4a7c15ull, 0xff51afd7ed558ccdull, 0xc4ceb9fe1a85ec53ull,
		len },
		 w[4];

	for (; len >= 32; len -= 32, data += 32) {
		__builtin_memcpy(w, data, 32);
		for (unsigned i = 0; i < 4; i++) {
			h[i] = (h[i] ^ w[i]) * 0xd6e8feb86659fd93ull;
			h[i] = h[i] << 29 | h[i] >> 35;
		}
	}
	__builtin_memset(w, 0, 32);
	__builtin_memcpy(w, data, len);
	for (unsigned i = 0; i < 4; i++)
		h[(i + 1) % 4] = (h[(i + 1) % 4] ^ h[i] ^ w[i]) * 0xff51afd7ed558ccdull;
	return h[0] ^ h[0] >> 32;
}

static int same_filled(const void *page, uint64_t *word)
{
	const uint64_t *w = page;

	if (w[0] != w[PAGE / 8 - 1] || w[0] != w[PAGE / 16])
		return 0;
	for (unsigned i = 1; i < PAGE / 8; i++)
		if (w[i] != w[0])
			return 0;
	*word = w[0];
	return 1;
}

/* Into buf, which has room for PAGE bytes, or (raw) left where it is. filed: it may get to the file. */
static void pack_page(
    void *area, bool dense, bool filed, char *buf, const void *page, struct packed *k)
{
	*k = (struct packed){ .data = buf, .dense = dense };
	if (same_filled(page, &k->word))
		return;
	k->len = codec_pack(area, dense, page, buf, RAW_MIN);
	if (k->len == 0) {
		k->len = PAGE;
		k->data = page;
	}
	if (filed) /* memory is trusted */
		k->word = pool_checksum(k->data, k->len);
}

/*
 * Is memory so short that packing tighter is cheaper than the disk? A hint. The log fills its memory before it is ever cleaned,
 * so what counts is whether there is little to clean.
 *
 * For a thread that packs the page that it stores: pages that pass through on their way to the file gain nothing; where few loads are
 * answered from memory, half as many more of them do not pay for the packing of all.
 *
 * No thread waits for the packer. What it packs tighter takes longer to unpack, so it does when the log is clean; and when the
 * loads that read the file take more time than all would to unpack, until they have become few.
 *
 * Where pool and frames share a budget (`quire run`) all is packed tighter: each byte saved is a frame. On pages of real programs
 * that makes 1.3 to 1.9 times as many pages of a byte of pool, for 4 to 12 microseconds a page in and 2 to 4 out (docs/measurements.md).
 */
#define TIGHT_NS 6000u /* what a page that is packed tighter takes to unpack longer */
#define FEW 8u         /* reads are few when they take that part of it */

static bool pack_tighter(struct pool_shared *s, bool behind)
{
	uint64_t file = __atomic_load_n(&s->ps_file_loads, __ATOMIC_RELAXED),
		 memory = __atomic_load_n(&s->ps_mem_loads, __ATOMIC_RELAXED);

	if (pool_shares(s))
		return true;
	if (__atomic_load_n(&s->ps_held, __ATOMIC_RELAXED) <
	    (pool_target(s) - pool_target(s) / 8) * SEG_PAGES)
		return false;
	if (__atomic_load_n(&s->ps_full, __ATOMIC_RELAXED) != 0)
		return behind || s->ps_nblocks == 0 || memory > file / 2;
	if (!behind)
		return false;
	uint64_t read = file * __atomic_load_n(&s->ps_read_ns, __ATOMIC_RELAXED),
		 unpack = (file + memory) * TIGHT_NS;
	bool was = __atomic_load_n(&s->ps_tight, __ATOMIC_RELAXED) != 0,
	     now = was ? read * FEW > unpack : read > unpack;

	if (now != was)
		__atomic_store_n(&s->ps_tight, (uint32_t)now, __ATOMIC_RELAXED);
	return now;
}

void pool_pack(
    struct pool *p, char *ctx, uint32_t i, bool behind, const void *page, struct packed *k)
{
	struct pool_shared *s = p->p_shared;

	pack_page(ctx, pack_tighter(s, behind), s->ps_nblocks != 0, pool_ctx_buf(ctx) + i * PAGE,
	    page, k);
}

/* To be packed later. */
static void keep_young(const void *page, struct packed *k)
{
	*k = (struct packed){ .data = page };
	if (same_filled(page, &k->word))
		return;
	k->len = PAGE;
	k->young = true;
}

/* Opens the segment that takes the page's bytes. A page whose words are all equal needs none. May drop the lock. */
static int open_segment_locked(struct pool *p, const struct packed *k, unsigned kind)
{
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

/* While one page is packed the next comes to the CPU. */
static void prefetch_page(const void *page)
{
	for (unsigned i = 0; i < PAGE; i += 64)
		__builtin_prefetch((const char *)page + i);
}

/* Up to BATCH pages. *done counts on. -EAGAIN: not young. */
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
	bool refused =
	    false; /* there is room for young pages, but no memory: what is packed can be written to the file */
	int rc = 0;

	for (*done = 0; *done < n && rc == 0;) {
		bool young = !refused && pool_young_room(p->p_shared);

		rc = store_some(p, young, n - *done < BATCH ? n - *done : BATCH, pages + *done,
		    handles + *done, done);
		refused = rc == -EAGAIN;
		if (refused)
			rc = 0;
		if (rc == -ENOSPC && pool_work(p, true) == 1) /* what is packed makes room */
			rc = 0;
	}
	return rc;
}

int pool_store(struct pool *p, const void *page, uint32_t *handle)
{
	uint32_t done;

	return pool_store_vec(p, 1, &page, handle, &done);
}
