/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packing of one page, and the working areas in which threads pack and unpack: the area of the
 * codecs, then a page-aligned buffer for packed pages and I/O. All functions run without the lock.
 */
#include "store/codec.h"
#include "store/pool_impl.h"

#define RAW_MIN 3584u /* compressed size from which a page counts as incompressible */
#define BUF_BYTES (POOL_BATCH * PAGE)

/* ---- working areas ---- */
static size_t ctx_bytes(void) { return round_up(codec_bytes(), PAGE) + BUF_BYTES; }

int pool_ctx_map(struct pool *p)
{
	long r = sys_call6(SYS_mmap, 0, (long)(POOL_CONTEXTS * ctx_bytes()), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (sys_failed(r))
		return (int)r;
	p->p_ctx = (char *)r;
	(void)sys_call3(SYS_madvise, r, (long)(POOL_CONTEXTS * ctx_bytes()),
	    MADV_DONTDUMP); /* the buffer's pages have memory */
	return 0;
}

void pool_ctx_unmap(struct pool *p)
{
	if (p->p_ctx != NULL)
		(void)sys_call2(SYS_munmap, (long)p->p_ctx, (long)(POOL_CONTEXTS * ctx_bytes()));
	p->p_ctx = NULL;
}

char *pool_ctx_take(struct pool *p)
{
	for (;;) {
		for (uint32_t i = 0; i < POOL_CONTEXTS; i++)
			if ((__atomic_fetch_or(&p->p_ctx_busy, 1u << i, __ATOMIC_ACQUIRE) &
				1u << i) == 0)
				return p->p_ctx + i * ctx_bytes();
		(void)sys_call0(SYS_sched_yield);
	}
}

void pool_ctx_give(struct pool *p, const char *ctx)
{
	(void)__atomic_fetch_and(
	    &p->p_ctx_busy, ~(1u << ((size_t)(ctx - p->p_ctx) / ctx_bytes())), __ATOMIC_RELEASE);
}

char *pool_ctx_buf(char *ctx) { return ctx + ctx_bytes() - BUF_BYTES; }

/* ---- packing ---- */
/*
 * Four lanes, because a single lane would wait for each multiplication. The sum resists an attacker
 * only where the bytes are also encrypted: see docs/security.md.
 */
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

int pool_same_filled(const void *page, uint64_t *word)
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

/*
 * Packs the page into buf, which has room for PAGE bytes, or (raw) leaves it where it is. filed:
 * the object may be written to the file.
 */
static void pack_page(
    void *area, bool dense, bool filed, char *buf, const void *page, struct packed *k)
{
	*k = (struct packed){ .data = buf, .dense = dense };
	if (pool_same_filled(page, &k->word))
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
 * Is memory so short that packing tighter is cheaper than the disk? A hint. The log fills its
 * memory before it is ever compacted, so the measure is whether little can be compacted.
 *
 * A thread that packs the page that it stores: a page that is soon written to the file gains
 * nothing; if memory answers few loads, half as many more of them do not pay for packing all pages
 * tighter.
 *
 * The packer: no thread waits for it, but a page packed tighter takes longer to unpack. So the
 * packer packs tighter while the log is compact, and while the reads of the file take more time
 * than the slower unpacking of all loads would, until reads have become few.
 *
 * If pool and frames share a budget (`quire run`), all pages are packed tighter: memory saved
 * becomes frames. For pages of real programs the pool then holds 1.3 to 1.9 times as many pages,
 * for 4 to 12 microseconds more to pack a page and 2 to 4 more to unpack it (docs/measurements.md).
 */
#define TIGHT_NS 6000u /* additional time to unpack a page that is packed tighter */
#define FEW 8u         /* reads are few when they take this fraction of that time */

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
