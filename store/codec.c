/* SPDX-License-Identifier: BSD-2-Clause */
/* See codec.h. The contexts of Zstandard are made in the area when they are first needed, so an area that never sees it stays small. */
#define ZSTD_STATIC_LINKING_ONLY
#include "store/codec.h"

#include <errno.h>
#include <lz4.h>
#include <zstd.h>

#define PAGE 4096u
#define LEVEL 1
#define ROUND(x) (((x) + 63) & ~(size_t)63)

enum { BY_LZ4 = 1, BY_ZSTD = 2 };

struct area {
	ZSTD_CCtx *a_pack; /* NULL: not made yet */
	ZSTD_DCtx *a_unpack;
	LZ4_stream_t a_lz4;
};

static size_t pack_bytes(void)
{
	return ROUND(ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(LEVEL, PAGE, 0)));
}

size_t codec_bytes(void)
{
	static _Atomic size_t bytes; /* asked for several times a page */

	if (bytes == 0)
		bytes = ROUND(sizeof(struct area)) + pack_bytes() + ROUND(ZSTD_estimateDCtxSize());
	return bytes;
}

static bool pack_make(struct area *a)
{
	if (a->a_pack != NULL)
		return true;
	a->a_pack = ZSTD_initStaticCCtx((char *)a + ROUND(sizeof *a), pack_bytes());
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

uint32_t codec_pack(void *area, bool dense, const void *page, char *out, uint32_t max)
{
	struct area *a = area;
	uint32_t n = 0;

	if (dense && pack_make(a)) {
		size_t r = ZSTD_compressCCtx(a->a_pack, out + 1, max - 1, page, PAGE, LEVEL);

		n = ZSTD_isError(r) ? 0 : (uint32_t)r;
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
