/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a page is packed: by LZ4, which is fast, or by Zstandard (level 1), which packs heaps about
 * 1.6 times smaller still and takes 2.5 times as long. The first packed byte names the codec.
 * Nothing is allocated: all state lies in a working area of codec_bytes() bytes, zeroed before its
 * first use and used by one thread at a time.
 */
#ifndef QUIRE_STORE_CODEC_H
#define QUIRE_STORE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t codec_bytes(void);
/*
 * Packs a page of 4 KiB into out, which has room for a page. Returns the packed length in bytes; 0:
 * the page does not fit in max bytes. dense: small rather than fast; how small depends on the pages
 * packed in this area before.
 */
uint32_t codec_pack(void *area, bool dense, const void *page, char *out, uint32_t max);
/* 0, or -EIO: these are not packed bytes of a page. */
int codec_unpack(void *area, const char *data, uint32_t len, void *page);
#endif
