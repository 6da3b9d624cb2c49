/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packing of one page, and the working areas in which threads pack and unpack: what the codecs need, then a page-aligned buffer for
 * packed pages and I/O. All of it is done without the lock.
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
	    MADV_DONTDUMP); /* pages are in it */
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
/* Four lanes, because one would wait for its multiplication all the time. Against malice only where the bytes are encrypted besides:
 * see docs/security.md. */
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

/* Into buf, which has room for PAGE bytes, or (raw) left where it is. filed: it may get to the file. */
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
