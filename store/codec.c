/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See codec.h. The contexts of Zstandard are made in the area at their first use, so an area that
 * never packs by Zstandard stays small.
 *
 * Literals, the bytes that no match covers, can be coded by Huffman's method besides. Coding takes
 * a third of the time to pack a page and nearly half of the time to unpack it, since tables are
 * made for a few hundred bytes. Coding saves a tenth of the packed bytes of heaps and two fifths of
 * those of text. So literals are coded only where the saving is worth the time: some pages are
 * packed both ways, and sums record the recent saving.
 */
#define ZSTD_STATIC_LINKING_ONLY
#include "store/codec.h"

#include <errno.h>
#include <lz4.h>
#include <zstd.h>

#define PAGE 4096u
#define LEVEL 1
#define ROUND(x) (((x) + 63) & ~(size_t)63)

#define KNOWN 8u            /* pages packed both ways before the sums count */
#define SAMPLE 16u          /* after that, one page in SAMPLE is packed both ways */
#define LATE (256u * 1024u) /* packed bytes after which the sums are halved */
#define PAYS 5u             /* coding must save 1/PAYS of the bytes */

enum { BY_LZ4 = 1, BY_ZSTD = 2 };

struct area {
	ZSTD_CCtx *a_pack; /* NULL: not made yet */
	ZSTD_DCtx *a_unpack;
	uint32_t a_pages; /* packed by Zstandard so far */
	uint32_t a_plain,
	    a_coded; /* bytes of the pages that were packed both ways; recent pages count more */
	LZ4_stream_t a_lz4;
};

static size_t pack_bytes(void)
{
	return ROUND(ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(LEVEL, PAGE, 0)));
}

size_t codec_bytes(void)
{
	static _Atomic size_t bytes; /* called several times for each page */

	if (bytes == 0)
		bytes = ROUND(sizeof(struct area)) + pack_bytes() + ROUND(ZSTD_estimateDCtxSize());
	return bytes;
}

static bool pack_make(struct area *a)
{
	if (a->a_pack != NULL)
		return true;
	a->a_pack = ZSTD_initStaticCCtx((char *)a + ROUND(sizeof *a), pack_bytes());
	if (a->a_pack != NULL)
		(void)ZSTD_CCtx_setCParams(a->a_pack, ZSTD_getCParams(LEVEL, PAGE, 0));
	return a->a_pack != NULL;
}

static bool unpack_make(struct area *a)
{
	if (a->a_unpack != NULL)
		return true;
	a->a_unpack = ZSTD_initStaticDCtx(
	    (char *)a + ROUND(sizeof *a) + pack_bytes(), ROUND(ZSTD_estimateDCtxSize()));
	return a->a_unpack != NULL;
}

/* Returns the packed length; 0: the packed page exceeds max bytes. */
static uint32_t pack_literals(struct area *a, bool coded, const void *page, char *out, uint32_t max)
{
	size_t r;

	/* a page that did not fit has left the context in the middle of a frame, where parameters do not change */
	(void)ZSTD_CCtx_reset(a->a_pack, ZSTD_reset_session_only);
	(void)ZSTD_CCtx_setParameter(
	    a->a_pack, ZSTD_c_literalCompressionMode, coded ? ZSTD_ps_auto : ZSTD_ps_disable);
	r = ZSTD_compress2(a->a_pack, out, max, page, PAGE);
	return ZSTD_isError(r) ? 0 : (uint32_t)r;
}

static void learn_literals(struct area *a, uint32_t plain, uint32_t coded)
{
	a->a_plain += plain != 0 ? plain : PAGE;
	a->a_coded += coded != 0 ? coded : PAGE;
	if (a->a_plain >= LATE) {
		a->a_plain /= 2;
		a->a_coded /= 2;
	}
}

static uint32_t pack_dense(struct area *a, const void *page, char *out, uint32_t max)
{
	bool both = a->a_pages < KNOWN || a->a_pages % SAMPLE == 0;
	bool coded = both || a->a_coded < a->a_plain - a->a_plain / PAYS;
	uint32_t plain = both ? pack_literals(a, false, page, out, max) : 0;
	uint32_t n = pack_literals(a, coded, page, out, max);

	a->a_pages++;
	if (both)
		learn_literals(a, plain, n);
	return n == 0 && !coded ? pack_literals(a, true, page, out, max) : n;
}

uint32_t codec_pack(void *area, bool dense, const void *page, char *out, uint32_t max)
{
	struct area *a = area;
	uint32_t n = 0;

	if (dense && pack_make(a)) {
		n = pack_dense(a, page, out + 1, max - 1);
	} else {
		dense = false;
		n = (uint32_t)LZ4_compress_fast_extState(
		    &a->a_lz4, page, out + 1, (int)PAGE, (int)max - 1, 1);
	}
	out[0] = dense ? BY_ZSTD : BY_LZ4;
	return n == 0 ? 0 : n + 1;
}

int codec_unpack(void *area, const char *data, uint32_t len, void *page)
{
	struct area *a = area;

	if (len < 2)
		return -EIO;
	if (data[0] == BY_LZ4)
		return LZ4_decompress_safe(data + 1, page, (int)len - 1, (int)PAGE) == (int)PAGE
		    ? 0
		    : -EIO;
	if (data[0] != BY_ZSTD || !unpack_make(a))
		return -EIO;
	return ZSTD_decompressDCtx(a->a_unpack, page, PAGE, data + 1, len - 1) == PAGE ? 0 : -EIO;
}
