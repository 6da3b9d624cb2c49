/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Numbers of blocks: those of the file first, then those of each far place (pool_far.c). The file and each far place have an index of
 * their own, so that the file is filled before anything goes far, a segment can be sunk to a far place while the file has room,
 * and a far place that is full is passed over.
 *
 * A file that must leave room to others on its file system (ps_keepfree) grows in steps: before
 * blocks from ps_fileroom on are used for the first time, the file system is asked what is free. If
 * the free space is too little, the file counts as full (ps_filestop) until other users of the file
 * system free space. A block that was used once keeps its disk space.
 *
 * A far place that was full is known to hold what is stored there and no more (fp_room), until it takes
 * more. What it does not hold is lost to promises (pool_pages_lost), as is all of a place that is given
 * up, and what a file does not grow to.
 *
 * A block that could not be written, or that a killed process may still be writing, lies in quarantine for ten seconds before it is
 * used again.
 *
 * Lock: ps_lock.
 */
#include "store/pool_impl.h"

#include <sys/vfs.h>

#define FULL_NS 1000000000ull /* time during which a far place that was full gets no writes */
/* fraction of what is stored by which a place that was full and takes more is believed to have room */
#define ROOM_PART 8u
#define QUARANTINE 10000000000ull /* ns */
#define STEP_LEAST 16u            /* blocks by which the file grows */
#define STEP_MOST 1024u
/* fraction of the free space that may be used: several stores share the file system */
#define STEP_PART 64u

static bool is_far(const struct pool_shared *s, uint32_t block)
{
	return block >= s->ps_fileblocks;
}

/* Returns the index that has the block; *block becomes the number in that index. */
static struct index *index_of(struct pool_shared *s, uint32_t *block)
{
	uint32_t i = 0;

	if (!is_far(s, *block))
		return &s->ps_blockx;
	while (i + 1 < s->ps_nfar && *block >= s->ps_far[i + 1].fp_first)
		i++;
	*block -= s->ps_far[i].fp_first;
	return &s->ps_farx[i];
}

/* ---- quarantine ---- */
static uint32_t quarantine_end(struct pool_shared *s)
{
	struct quarantine *q = &s->ps_quarantine[s->ps_qfirst];
	uint32_t block = q->q_block;

	if (block == 0 || pool_now() < q->q_until)
		return NONE;
	s->ps_qfirst = (s->ps_qfirst + 1) % QUARANTINE_MAX;
	q->q_block = 0;
	s->ps_stats.set_aside--;
	return block - 1;
}

void pool_block_set_aside_locked(struct pool_shared *s, uint32_t block)
{
	POOL_ASSERT(pool_held(s));
	s->ps_stats.set_aside++;
	pool_block_count_locked(s, block, -1);
	for (uint32_t i = 0; i < QUARANTINE_MAX; i++) {
		struct quarantine *q = &s->ps_quarantine[(s->ps_qfirst + i) % QUARANTINE_MAX];

		if (q->q_block == 0) {
			q->q_until = pool_now() + QUARANTINE;
			BARRIER();
			q->q_block = block + 1;
			return;
		}
	}
}

/* ---- the file ---- */
/* May the file have more blocks? */
static bool grow_file(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	struct statfs fs;
	uint64_t have, blocks = 0;

	if (s->ps_fileroom < s->ps_fileblocks && sys_call2(SYS_fstatfs, p->p_fd, (long)&fs) == 0) {
		have = (uint64_t)fs.f_bavail * (uint64_t)fs.f_frsize;
		blocks = have > s->ps_keepfree ? (have - s->ps_keepfree) / SEG_BYTES : 0;
	}
	s->ps_filestop = blocks < STEP_LEAST;
	if (s->ps_filestop)
		return false;
	blocks = blocks / STEP_PART > STEP_LEAST ? blocks / STEP_PART : STEP_LEAST;
	blocks = blocks < STEP_MOST ? blocks : STEP_MOST;
	blocks =
	    blocks < s->ps_fileblocks - s->ps_fileroom ? blocks : s->ps_fileblocks - s->ps_fileroom;
	s->ps_fileroom += (uint32_t)blocks;
	return true;
}

static uint32_t take_file_block(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t block = pool_index_take(s, &s->ps_blockx);

	if (block != NONE && block >= s->ps_fileroom && !grow_file(p)) {
		pool_index_give(s, &s->ps_blockx, block);
		block = NONE;
	}
	return block != NONE ? block : quarantine_end(s);
}

uint32_t pool_file_room_locked(const struct pool_shared *s)
{
	uint32_t most = s->ps_filestop ? s->ps_fileroom : s->ps_fileblocks;

	POOL_ASSERT(pool_held(s));
	return most > s->ps_fileblocks_used ? most - s->ps_fileblocks_used : 0;
}

/* ---- far places ---- */
static bool may_ask(struct far_place *f)
{
	if (f->fp_full != 0 && pool_now() >= f->fp_full)
		f->fp_full = 0;
	return f->fp_full == 0;
}

static uint32_t take_far_block(struct pool_shared *s)
{
	uint32_t block;

	for (uint32_t i = 0; i < s->ps_nfar; i++)
		if (may_ask(&s->ps_far[i]) && (block = pool_index_take(s, &s->ps_farx[i])) != NONE)
			return s->ps_far[i].fp_first + block;
	return NONE;
}

bool pool_far_room_locked(struct pool_shared *s)
{
	POOL_ASSERT(pool_held(s));
	for (uint32_t i = 0; i < s->ps_nfar; i++)
		if (may_ask(&s->ps_far[i]) &&
		    (s->ps_farx[i].x_next < s->ps_farx[i].x_max ||
			pool_index_any(s, &s->ps_farx[i])))
			return true;
	return false;
}

/* Returns the far place that has the block. */
static struct far_place *place_of(struct pool_shared *s, uint32_t block)
{
	uint32_t i = 0;

	while (i + 1 < s->ps_nfar && block >= s->ps_far[i + 1].fp_first)
		i++;
	return &s->ps_far[i];
}

void pool_block_full_locked(struct pool_shared *s, uint32_t block)
{
	struct far_place *f;

	POOL_ASSERT(pool_held(s));
	if (!is_far(s, block))
		return;
	f = place_of(s, block);
	f->fp_full = pool_now() + FULL_NS;
	/* All blocks in use but this one. Those whose writes are under way fail next, or are stored. */
	__atomic_store_n(&f->fp_room, f->fp_used - 1, __ATOMIC_RELAXED);
}

void pool_block_stored_locked(struct pool_shared *s, uint32_t block)
{
	struct far_place *f = is_far(s, block) ? place_of(s, block) : NULL;
	uint32_t room;

	POOL_ASSERT(pool_held(s));
	if (f == NULL || f->fp_used <= f->fp_room)
		return;
	/*
	 * The place has more room than before: other users have freed room there. The amount is not
	 * known.
	 */
	room = f->fp_used + f->fp_used / ROOM_PART;
	__atomic_store_n(&f->fp_room, room < f->fp_blocks ? room : f->fp_blocks, __ATOMIC_RELAXED);
}

/* ---- all ---- */
uint32_t pool_block_take_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t block = NONE;

	POOL_ASSERT(pool_held(s));
	if (p->p_fd >= 0 && !p->p_sink)
		block = take_file_block(p);
	if (block == NONE)
		block = take_far_block(s);
	if (block == NONE && s->ps_nfar > 0 && !p->p_sink)
		block = quarantine_end(s);
	if (block == NONE)
		return NONE;
	pool_block_count_locked(s, block, 1);
	pool_tables_locked(p);
	return block;
}

void pool_block_give_locked(struct pool_shared *s, uint32_t block)
{
	POOL_ASSERT(pool_held(s));
	pool_block_count_locked(s, block, -1);
	pool_far_trim(s, block);
	struct index *x = index_of(s, &block);
	pool_index_give(s, x, block);
}

void pool_block_count_locked(struct pool_shared *s, uint32_t block, int by)
{
	POOL_ASSERT(pool_held(s));
	*(is_far(s, block) ? &s->ps_farblocks_used : &s->ps_fileblocks_used) += (uint32_t)by;
	if (is_far(s, block))
		place_of(s, block)->fp_used += (uint32_t)by;
}

bool pool_block_free(struct pool_shared *s, uint32_t block)
{
	struct index *x = index_of(s, &block);

	return pool_index_free(s, x, block);
}

void pool_blocks_reset(struct pool_shared *s)
{
	pool_index_reset(s, &s->ps_blockx);
	for (uint32_t i = 0; i < s->ps_nfar; i++) {
		pool_index_reset(s, &s->ps_farx[i]);
		s->ps_far[i].fp_used = 0;
	}
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
	for (uint32_t i = 0; i < s->ps_nfar; i++)
		pool_index_trim(s, &s->ps_farx[i]);
}
