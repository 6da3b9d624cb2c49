/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Numbers of blocks: those of the file first, then those of far places (pool_far.c). Each kind has an index of its own, so that
 * the file is filled before anything goes far, and a segment can be sunk to a far place while the file has room.
 *
 * Lock: ps_lock.
 */
#include "store/pool_impl.h"

static bool is_far(const struct pool_shared *s, uint32_t block)
{
	return block >= s->ps_fileblocks;
}

static struct index *index_of(struct pool_shared *s, uint32_t *block)
{
	if (!is_far(s, *block))
		return &s->ps_blockx;
	*block -= s->ps_fileblocks;
	return &s->ps_farx;
}

uint32_t pool_block_take_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t block = NONE;

	if (p->p_fd >= 0 && !p->p_sink && (block = pool_index_take(s, &s->ps_blockx)) == NONE)
		block = pool_quarantine_end_locked(s);
	if (block == NONE && s->ps_nfar > 0 && (block = pool_index_take(s, &s->ps_farx)) != NONE)
		block += s->ps_fileblocks;
	if (block == NONE && s->ps_nfar > 0 && !p->p_sink)
		block = pool_quarantine_end_locked(s);
	if (block == NONE)
		return NONE;
	pool_block_count_locked(s, block, 1);
	pool_tables_locked(p);
	return block;
}

void pool_block_give_locked(struct pool_shared *s, uint32_t block)
{
	pool_block_count_locked(s, block, -1);
	pool_far_trim(s, block);
	struct index *x = index_of(s, &block);
	pool_index_give(s, x, block);
}

void pool_block_count_locked(struct pool_shared *s, uint32_t block, int by)
{
	*(is_far(s, block) ? &s->ps_farblocks_used : &s->ps_fileblocks_used) += (uint32_t)by;
}

bool pool_block_free(struct pool_shared *s, uint32_t block)
{
	struct index *x = index_of(s, &block);

	return pool_index_free(s, x, block);
}

void pool_blocks_reset(struct pool_shared *s)
{
	pool_index_reset(s, &s->ps_blockx);
	pool_index_reset(s, &s->ps_farx);
	s->ps_fileblocks_used = s->ps_farblocks_used = 0;
}

void pool_block_mark(struct pool_shared *s, uint32_t block, bool used)
{
	if (used)
		pool_block_count_locked(s, block, 1);
	struct index *x = index_of(s, &block);
	pool_index_mark(s, x, block);
}

void pool_blocks_trim(struct pool_shared *s)
{
	pool_index_trim(s, &s->ps_blockx);
	pool_index_trim(s, &s->ps_farx);
}
