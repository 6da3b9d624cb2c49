/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets of numbers (of objects, segments, slots, blocks) that give out the lowest free number.
 *
 * So numbers in use gather at the front: the tables that they index shrink from the end when fewer
 * are in use, and new segments are written to blocks of the file that were used before. A number
 * below x_next is free if its bit in the map is set; numbers from x_next on are free and have no
 * bit. A bit of the summary says that a word of the map is not zero, so the search for the lowest
 * free number looks at one bit for 64 words.
 *
 * Lock: ps_lock. Invariant at any moment, for repair: a number in use is below x_next. Repair
 * rebuilds the maps from the objects and segments (pool_index_reset, pool_index_mark).
 */
#include "store/pool_impl.h"

static uint64_t *map_of(struct pool_shared *s, const struct index *x)
{
	return (uint64_t *)(void *)((char *)s + x->x_map);
}

static uint64_t *sum_of(struct pool_shared *s, const struct index *x)
{
	return (uint64_t *)(void *)((char *)s + x->x_sum);
}

static void bit_set(struct pool_shared *s, struct index *x, uint32_t i)
{
	map_of(s, x)[i / 64] |= 1ull << i % 64;
	sum_of(s, x)[i / 4096] |= 1ull << i / 64 % 64;
	if (i / 4096 < x->x_low)
		x->x_low = i / 4096;
}

static void bit_clear(struct pool_shared *s, struct index *x, uint32_t i)
{
	uint64_t *word = &map_of(s, x)[i / 64];

	*word &= ~(1ull << i % 64);
	if (*word == 0)
		sum_of(s, x)[i / 4096] &= ~(1ull << i / 64 % 64);
}

bool pool_index_free(struct pool_shared *s, const struct index *x, uint32_t i)
{
	return i >= x->x_next || (map_of(s, x)[i / 64] >> i % 64 & 1) != 0;
}

bool pool_index_any(struct pool_shared *s, struct index *x)
{
	while (x->x_low * 4096ull < x->x_next && sum_of(s, x)[x->x_low] == 0)
		x->x_low++;
	return x->x_low * 4096ull < x->x_next;
}

uint32_t pool_index_take(struct pool_shared *s, struct index *x)
{
	POOL_ASSERT(pool_held(s));
	if (!pool_index_any(s, x))
		return x->x_next < x->x_max ? x->x_next++ : NONE;

	uint32_t w = x->x_low * 64 + (uint32_t)__builtin_ctzll(sum_of(s, x)[x->x_low]);
	uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(map_of(s, x)[w]);

	bit_clear(s, x, i);
	return i;
}

void pool_index_trim(struct pool_shared *s, struct index *x)
{
	while (x->x_next > 0 && pool_index_free(s, x, x->x_next - 1)) {
		bit_clear(s, x, x->x_next - 1);
		x->x_next--;
	}
}

void pool_index_give(struct pool_shared *s, struct index *x, uint32_t i)
{
	POOL_ASSERT(pool_held(s));
	bit_set(s, x, i);
	pool_index_trim(s, x);
}

void pool_index_reset(struct pool_shared *s, struct index *x)
{
	for (uint32_t w = 0; w * 4096ull < x->x_next; w++)
		sum_of(s, x)[w] = 0;
	for (uint32_t w = 0; w * 64ull < x->x_next; w++)
		map_of(s, x)[w] = 0;
	for (uint32_t i = 0; i < x->x_next; i++)
		bit_set(s, x, i);
	x->x_low = 0;
}

void pool_index_mark(struct pool_shared *s, struct index *x, uint32_t i) { bit_clear(s, x, i); }
