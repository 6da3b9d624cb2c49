/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blocks that lie on far swap. Blocks of the file come first, then those of each far place, in the order in which the user named
 * them; block numbers are given out lowest first, so pages go to the file while it has room, then to the first far place.
 *
 *   block 0 ... ps_fileblocks-1            the file (p_fd)
 *   ps_far[0].first ... +blocks-1          the first far place: its ring lies in the store's own memory
 *   ps_far[1].first ...                    the second
 *
 * Far blocks are written like those of the file: begun by the thread that writes behind, several at a time, and collected when
 * that thread next needs memory; a read waits, or is begun and ended apart (pool_aio.c). A block that is given back is trimmed, and no thread waits for that: the server does
 * requests for one unit in the order in which they were asked (far/server.c), so the next write to the block comes later.
 *
 * Sinking: when few blocks of the file are free, the packer moves the segments written longest ago to a far place, so that
 * the file keeps what was written lately. What is loaded from far leaves the store like all that is loaded, and goes to memory
 * and to the file again when it leaves the frames: that is how pages come up.
 *
 * Locks: pool_far_of and the requests need none; functions named _locked are called with ps_lock.
 */
#include "store/far_ring.h"
#include "store/pool_impl.h"

#define SINK_FREE 8u /* blocks of the file that are kept free, if a far place has room */

static struct far_ring *ring_of(struct pool_shared *s, const struct far_place *f)
{
	return (struct far_ring *)(void *)((char *)s + f->fp_ring);
}

const struct far_place *pool_far_of(const struct pool_shared *s, uint32_t block)
{
	for (uint32_t i = 0; i < s->ps_nfar; i++)
		if (block >= s->ps_far[i].fp_first &&
		    block - s->ps_far[i].fp_first < s->ps_far[i].fp_blocks)
			return &s->ps_far[i];
	return NULL;
}

struct far_ring *pool_far(struct pool *p, uint32_t i, uint64_t *offset)
{
	struct pool_shared *s = p->p_shared;

	if (i >= s->ps_nfar)
		return NULL;
	*offset = s->ps_far[i].fp_ring;
	return ring_of(s, &s->ps_far[i]);
}

/* By which name the ring knows this process; never 0. */
static uint32_t ring_owner(const struct pool *p)
{
	return p->p_member == NONE ? NONE : p->p_member + 1;
}

static uint64_t offset_in(const struct far_place *f, uint64_t at)
{
	return at - (uint64_t)f->fp_first * SEG_BYTES;
}

int pool_far_io(
    struct pool *p, const struct far_place *f, int write, void *mem, uint64_t at, uint32_t n)
{
	int rc = far_ring_io(ring_of(p->p_shared, f), ring_owner(p),
	    write ? FAR_SLOT_WRITE : FAR_SLOT_READ, offset_in(f, at), n, mem);

	if (rc == 0)
		(void)__atomic_add_fetch(&p->p_shared->ps_stats.bytes_far, n, __ATOMIC_RELAXED);
	return rc;
}

int pool_far_begin(
    struct pool *p, uint32_t block, const void *mem, uint32_t bytes, uint32_t *ticket)
{
	const struct far_place *f = pool_far_of(p->p_shared, block);
	int rc = far_ring_begin(ring_of(p->p_shared, f), ring_owner(p), FAR_SLOT_WRITE,
	    offset_in(f, (uint64_t)block * SEG_BYTES), bytes, mem, ticket);

	if (rc == 0)
		(void)__atomic_add_fetch(&p->p_shared->ps_stats.bytes_far, bytes, __ATOMIC_RELAXED);
	return rc;
}

int pool_far_read_begin(struct pool *p, uint64_t at, uint32_t bytes, uint32_t *ticket)
{
	const struct far_place *f = pool_far_of(p->p_shared, (uint32_t)(at / SEG_BYTES));

	return far_ring_begin(ring_of(p->p_shared, f), ring_owner(p), FAR_SLOT_READ,
	    offset_in(f, at), bytes, NULL, ticket);
}

int pool_far_read_end(struct pool *p, uint32_t block, uint32_t ticket, void *mem, uint32_t bytes)
{
	int rc =
	    far_ring_end(ring_of(p->p_shared, pool_far_of(p->p_shared, block)), ticket, mem, bytes);

	if (rc == 0)
		(void)__atomic_add_fetch(&p->p_shared->ps_stats.bytes_far, bytes, __ATOMIC_RELAXED);
	return rc;
}

bool pool_far_ready(struct pool *p, uint32_t block, uint32_t ticket)
{
	return far_ring_ready(ring_of(p->p_shared, pool_far_of(p->p_shared, block)), ticket);
}

int pool_far_end(struct pool *p, uint32_t block, uint32_t ticket)
{
	return far_ring_end(ring_of(p->p_shared, pool_far_of(p->p_shared, block)), ticket, NULL, 0);
}

void pool_far_trim(struct pool_shared *s, uint32_t block)
{
	const struct far_place *f = pool_far_of(s, block);
	uint32_t ticket;

	/* If the ring is full the contents stay until the block is written again, or the run ends. */
	if (f != NULL)
		(void)far_ring_begin(ring_of(s, f), 0, FAR_SLOT_TRIM,
		    offset_in(f, (uint64_t)block * SEG_BYTES), SEG_BYTES, NULL, &ticket);
}

void pool_far_release(struct pool_shared *s, uint32_t member)
{
	for (uint32_t i = 0; i < s->ps_nfar; i++)
		far_ring_release(ring_of(s, &s->ps_far[i]), member + 1);
}

/* ---- sinking ---- */
/* The segment of the file that was written longest ago and that no thread uses now. NONE: there is none. */
static uint32_t oldest_in_file(const struct pool_shared *s)
{
	uint32_t best = NONE, age = 0;

	for (uint32_t i = 0; i < s->ps_segx.x_next; i++) {
		const struct segment *g = &segs_of((struct pool_shared *)(uintptr_t)s)[i];
		uint32_t since = (uint32_t)s->ps_stats.spills - g->s_spilled;

		if (g->s_state == SEG_FILED && g->s_block < s->ps_fileblocks && g->s_fetch == 0 &&
		    g->s_bad == 0 && g->s_live > 0 && (best == NONE || since > age)) {
			best = i;
			age = since;
		}
	}
	return best;
}

int pool_sink(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i = NONE;
	int rc = -ENOSPC;

	if (s->ps_nfar == 0 || p->p_fd < 0)
		return 0;
	pool_lock(p);
	if (pool_file_room_locked(s) < SINK_FREE && pool_far_room_locked(s) &&
	    (i = oldest_in_file(s)) != NONE && (rc = pool_fetch_back_locked(p, i)) == 0 &&
	    segs_of(s)[i].s_state == SEG_SEALED) {
		p->p_sink = true;
		rc = pool_write_begin_locked(p, i);
		p->p_sink = false;
		if (rc == 0)
			rc = pool_write_sync_locked(p, i);
		s->ps_stats.sunk += rc == 0;
	}
	pool_unlock(s);
	return rc == 0;
}
