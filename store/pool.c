/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store: a log of compressed pages (log-structured: Rosenblum and Ousterhout, SOSP 1991; compressed swap by segments
 * as in XNU).
 *
 * Object: one stored page. An entry of the object table tells its place: the entry alone (if all
 * 64-bit words of the page are equal), or an offset in a segment. Entries never move, so a handle
 * is an index. Segment: 64 KiB of the log, in a slot of the shared memory, or in a block of the
 * file, or (while being written) in both. Pages are appended to the open segment; a full segment is
 * sealed and queued. When memory is short, the oldest sealed segment is written to the file
 * unchanged, one sequential write of many pages. If less than half of a segment is live and fits
 * the open segment, its live objects are appended again instead. Pages that do not compress have an
 * open segment of their own whose segments are written as soon as they are full: in memory they
 * would only displace pages that compress.
 *
 * States of a segment. A sealed or filed segment without live objects is freed at once.
 *
 *   state	slot of memory	block of the file	becomes
 *   FREE	no		no		OPEN: a page is to be appended; YOUNG: a page is to be kept unpacked
 *   YOUNG	yes		no		FREE: the packer has packed its pages, or they have gone (pool_young.c)
 *   OPEN	yes		no		SEALED: it is full
 *   SEALED	yes		no		WRITING: memory is short; FREE: compacted, its live objects appended elsewhere
 *   WRITING	yes		yes		FILED: the write ended; SEALED: it failed
 *   FILED	as a cache	yes		READING: the file is full and the segment sparse (pool_cache.c has the cache)
 *   READING	yes		yes		SEALED: it is in memory again, to be compacted; FILED: the read failed
 *
 * A page's way through the store:
 *
 *   all words equal			its word in the object table, and nothing else
 *   a packer runs			YOUNG as it is -> packed -> OPEN -> SEALED -> FILED
 *   no packer, or too many young	packed -> OPEN -> SEALED -> FILED
 *   it does not compress		an open segment of such pages -> SEALED -> FILED at once
 *   the file is full, far places	FILED -> a far block (pool_far.c)
 *   loaded				from the slot, the cache or the file; the object stays until its handle is dropped
 *
 * Lock: ps_lock, a futex word with the owner's tag (pool_lock.c), guards everything shared but the
 * bytes of appended objects. If the owner dies, pool_release() takes the lock over and repairs the
 * store: the object table and the segments' states are the truth, and lists and counts are rebuilt
 * from them. The object that was being placed is recorded in ps_move and put back. No managed
 * memory is touched under the lock: callers' pages are frames. File I/O is done without the lock: a
 * WRITING segment keeps its memory. A load from the file whose checksum fails first looks whether
 * the object has moved since.
 *
 * The process that notices the death of another process gives back what the dead process held
 * (pool_member.c).
 *
 * Left out: a charge that a killed process had taken and not yet booked is not given back.
 */
#include "store/far_ring.h"
#include "store/pool_impl.h"

/* ---- layout ---- */
/* Reserves this many bytes of shared memory, page-aligned; returns their offset. */
static uint64_t take_memory(uint64_t *at, uint64_t bytes)
{
	uint64_t here = *at;

	*at += round_up(bytes, PAGE);
	return here;
}

static void take_index(uint64_t *at, struct index *x, uint32_t max)
{
	x->x_max = max;
	x->x_map = take_memory(at, pool_index_map_bytes(max));
	x->x_sum = take_memory(at, pool_index_sum_bytes(max));
}

static void set_limits(struct pool_shared *s, const struct pool_config *c)
{
	uint64_t objs =
	    c->max_objects != 0 ? c->max_objects : (c->mem_limit + c->file_limit) / 1024;

	s->ps_nfar = 0;
	s->ps_limit = (uint32_t)(c->mem_limit / SEG_BYTES);
	if (s->ps_limit < 4)
		s->ps_limit = 4; /* segments: two open, one being written, one to be opened next */
	s->ps_floor = s->ps_target = s->ps_limit;
	s->ps_cachemax = s->ps_limit / 16 > 2 ? s->ps_limit / 16 : s->ps_limit / 4;
	/* young segments and segments with few pages have slots, too */
	s->ps_nslots = s->ps_limit * 2 + s->ps_cachemax + WARM_MAX + 16;
	s->ps_nblocks = s->ps_fileblocks = (uint32_t)(c->file_limit / SEG_BYTES);
	for (; s->ps_nfar < POOL_FARS && c->far_bytes[s->ps_nfar] != 0; s->ps_nfar++) {
		struct far_place *f = &s->ps_far[s->ps_nfar];

		f->fp_first = s->ps_nblocks;
		f->fp_blocks = (uint32_t)(c->far_bytes[s->ps_nfar] / SEG_BYTES);
		f->fp_room = f->fp_blocks;
		s->ps_nblocks += f->fp_blocks;
		objs += f->fp_blocks * (SEG_BYTES / 1024);
	}
	if (c->mem_floor != 0 && c->mem_floor < c->mem_limit && s->ps_nblocks != 0)
		s->ps_floor =
		    c->mem_floor / SEG_BYTES > 8 ? (uint32_t)(c->mem_floor / SEG_BYTES) : 8;
	s->ps_nsegs = s->ps_nslots + s->ps_nblocks + 2;
	s->ps_nobjects = (uint32_t)round_up((objs < 0x3fffffffu ? objs : 0x3fffffffu) + 1, GRANULE);
	s->ps_nmembers = c->max_members;
	s->ps_mapleaves = s->ps_nobjects / LEAF_BITS + 1;
	s->ps_nleaves = s->ps_nmembers == 0 ? 0 : 8 * s->ps_nmembers + 16 * s->ps_mapleaves;
}

static size_t lay_out(struct pool_shared *s, const struct pool_config *c)
{
	uint64_t at = round_up(sizeof *s, PAGE);

	set_limits(s, c);
	s->ps_objects = take_memory(&at, (uint64_t)s->ps_nobjects * sizeof(struct object));
	s->ps_granuleused = take_memory(&at, (uint64_t)s->ps_nobjects / GRANULE * 2);
	take_index(&at, &s->ps_objx, s->ps_nobjects);
	s->ps_segs = take_memory(&at, (uint64_t)s->ps_nsegs * sizeof(struct segment));
	take_index(&at, &s->ps_segx, s->ps_nsegs);
	take_index(&at, &s->ps_slotx, s->ps_nslots);
	take_index(&at, &s->ps_blockx, s->ps_fileblocks);
	for (uint32_t i = 0; i < s->ps_nfar; i++)
		take_index(&at, &s->ps_farx[i], s->ps_far[i].fp_blocks);
	s->ps_members = take_memory(&at, (uint64_t)s->ps_nmembers * sizeof(struct member));
	s->ps_maps = take_memory(&at, (uint64_t)s->ps_nmembers * s->ps_mapleaves * 4);
	take_index(&at, &s->ps_leafx, s->ps_nleaves);
	s->ps_leaves = take_memory(&at, (uint64_t)s->ps_nleaves * PAGE);
	s->ps_slots = take_memory(&at, (uint64_t)s->ps_nslots * SEG_BYTES);
	for (uint32_t i = 0; i < s->ps_nfar; i++)
		s->ps_far[i].fp_ring = take_memory(&at, far_ring_bytes());
	return (size_t)at;
}

size_t pool_shared_size(const struct pool_config *c)
{
	struct pool_shared s = { 0 };

	return lay_out(&s, c);
}

/*
 * Of raw pages. With fewer objects there is always a free block or a block sparse enough to be
 * reclaimed; a few blocks are in transit.
 */
uint64_t pool_file_pages(uint64_t bytes)
{
	uint64_t segments = bytes / SEG_BYTES, spare = segments / 64 + 2;

	return segments > spare ? (segments - spare) * (RECLAIM_LIVE / object_bytes(PAGE) + 1) : 0;
}

/* Pages that blocks from number `from` to `to` hold for certain. */
static uint64_t pages_between(uint32_t from, uint32_t to)
{
	return from < to ? pool_file_pages((uint64_t)to * SEG_BYTES) -
		pool_file_pages((uint64_t)from * SEG_BYTES)
			 : 0;
}

static uint64_t bytes_between(uint32_t from, uint32_t to)
{
	return from < to ? (uint64_t)(to - from) * SEG_BYTES : 0;
}

/* Adds up what the blocks would hold for which there is no room now. */
static uint64_t sum_lost(struct pool *p, uint64_t (*between)(uint32_t from, uint32_t to))
{
	struct pool_shared *s = p->p_shared;
	uint64_t lost = 0;

	if (__atomic_load_n(&s->ps_filestop, __ATOMIC_RELAXED))
		lost =
		    between(__atomic_load_n(&s->ps_fileroom, __ATOMIC_RELAXED), s->ps_fileblocks);
	for (uint32_t i = 0; i < s->ps_nfar; i++) {
		uint64_t ring;
		uint32_t room = __atomic_load_n(&s->ps_far[i].fp_room, __ATOMIC_RELAXED);

		if (far_ring_lost(pool_far(p, i, &ring)))
			room = 0;
		lost += between(room, s->ps_far[i].fp_blocks);
	}
	return lost;
}

uint64_t pool_pages_lost(struct pool *p) { return sum_lost(p, pages_between); }

uint64_t pool_bytes_lost(struct pool *p) { return sum_lost(p, bytes_between); }

int pool_format(void *mem, const struct pool_config *c)
{
	struct pool_shared *s = mem;

	(void)lay_out(s, c);
	s->ps_objx.x_next = 1; /* handle 0 means none */
	for (unsigned k = 0; k < OPENS; k++)
		s->ps_open[k] = NONE;
	s->ps_sealed[0] = s->ps_sealed[1] = s->ps_cached = s->ps_young =
	    (struct list){ NONE, NONE };
	for (unsigned b = 0; b < BUCKETS; b++)
		s->ps_sparse[b] = NONE;
	for (uint32_t i = 0; i < s->ps_nfar; i++)
		far_ring_format((char *)mem + s->ps_far[i].fp_ring);
	s->ps_keepfree = c->keep_free;
	s->ps_fileroom = c->keep_free == 0 ? s->ps_fileblocks : 0;
	s->ps_rate = c->rate;
	s->ps_ahead = AHEAD_START;
	s->ps_read_ns = POOL_READ_NS;
	s->ps_magic = MAGIC;
	return 0;
}

int pool_attach(struct pool *p, void *mem, size_t size, int fd)
{
	struct pool_shared *s = mem;

	*p = (struct pool){ .p_shared = s,
		.p_size = size,
		.p_fd = fd,
		.p_member = NONE,
		.p_child = NONE,
		.p_owner = POOL_NOBODY,
		.p_repair = pool_repair_locked };
	if (s->ps_magic != MAGIC)
		return -EINVAL;
	return pool_ctx_map(p);
}

void pool_async_end(struct pool *p)
{
	pool_poll(p, 1);
	pool_ring_close(p, 0);
	pool_fetch_close(p);
}

void pool_detach(struct pool *p)
{
	pool_async_end(p);
	pool_ctx_unmap(p);
}

void pool_inject(struct pool *p, enum pool_inject kind, uint32_t nth)
{
	__atomic_store_n(&p->p_inject[kind], nth, __ATOMIC_RELAXED);
}

/* ---- references ---- */
void pool_ref(struct pool *p, uint32_t handle)
{
	pool_lock(p);
	objects_of(p->p_shared)[handle].o_ref++;
	pool_unlock(p->p_shared);
}

static void drop_locked(struct pool *p, uint32_t handle)
{
	POOL_ASSERT(pool_held(p->p_shared));
	pool_disown_locked(p, handle);
	pool_unref_locked(p, handle);
}

void pool_unref(struct pool *p, uint32_t handle) { pool_unref_vec(p, 1, &handle); }

void pool_unref_vec(struct pool *p, uint32_t n, const uint32_t *handles)
{
	pool_lock(p);
	for (uint32_t i = 0; i < n; i++)
		if (handles[i] != 0)
			drop_locked(p, handles[i]);
	pool_unlock(p->p_shared);
	pool_young_relieve(p);
}

/* ---- statistics ---- */
void pool_stats(struct pool *p, struct pool_stats *out)
{
	struct pool_shared *s = p->p_shared;
	uint64_t young = 0;

	pool_lock(p);
	*out = s->ps_stats;
	for (uint32_t i = s->ps_young.first; i != NONE; i = segs_of(s)[i].s_next)
		young += segs_of(s)[i].s_packed;
	if (s->ps_open[OPEN_YOUNG] != NONE)
		young += segs_of(s)[s->ps_open[OPEN_YOUNG]].s_packed;
	out->young_pages = young / PAGE;
	out->mem_held = pool_taken(s);
	out->mem_packed = pool_packed(s);
	out->mem_bytes = s->ps_packed + young;
	out->mem_target = (uint64_t)pool_target(s) * SEG_BYTES;
	out->file_bytes = (uint64_t)s->ps_fileblocks_used * SEG_BYTES;
	out->far_bytes = (uint64_t)s->ps_farblocks_used * SEG_BYTES;
	out->ratio = s->ps_out != 0 ? (double)s->ps_in / (double)s->ps_out : 1;
	out->mem_pages = out->young_pages + (uint64_t)((double)s->ps_packed * out->ratio / PAGE);
	pool_unlock(s);
}
