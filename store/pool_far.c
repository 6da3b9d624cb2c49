/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blocks that lie on far swap. Blocks of the file come first, then those of each far place, in the order in which the user named
 * them; block numbers are given out lowest first, so pages go to the file while it has room, then to the first far place.
 *
 *   block 0 ... ps_fileblocks-1            the file (p_fd)
 *   ps_far[0].first ... +blocks-1          the first far place: its ring lies in the store's own memory
 *   ps_far[1].first ...                    the second
 *
 * Far blocks are written like those of the file: begun by the thread that writes behind, several at
 * a time, and collected when that thread next needs memory; a read waits, or is begun and ended by
 * separate calls (pool_aio.c). A block that is given back is trimmed, and no thread waits for the
 * trim: the server does the requests for one unit in the order of their submission (far/server.c),
 * so the next write to the block is done after the trim.
 *
 * Locks: none is needed.
 */
#include "store/far_ring.h"
#include "store/pool_impl.h"

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

/* The name of this process in the ring; never 0. */
static uint32_t ring_owner(const struct pool *p)
{
	return p->p_member == NONE ? NONE : p->p_member + 1;
}

static uint64_t offset_in(const struct far_place *f, uint64_t at)
{
	return at - (uint64_t)f->fp_first * SEG_BYTES;
}

struct asked {
	struct far_ring *ring;
	uint32_t ticket;
};

static bool is_answered(const void *asked)
{
	const struct asked *a = asked;

	return far_ring_ready(a->ring, a->ticket);
}

/*
 * Waits for the answer and collects it; mem, n: for the bytes of a read. May sleep as long as
 * --far-timeout.
 */
static int end_request(
    const struct pool *p, struct far_ring *ring, uint32_t ticket, void *mem, uint32_t n)
{
	const struct far_slot *slot = &ring->fr_slot[ticket];

	/* the state is read first, so that no change is slept through */
	for (enum far_slot_state was = far_slot_state(slot); !far_ring_ready(ring, ticket);
	     was = far_slot_state(slot)) {
		far_ring_sleep(ring, ticket, was);
		if (!far_ring_ready(ring, ticket))
			pool_waited(p);
	}
	return far_ring_end(ring, ticket, mem, n);
}

/* A thread of the program waits for a read: it polls for the answer before it sleeps. */
static int end_read(struct pool *p, struct far_ring *ring, uint32_t ticket, void *mem, uint32_t n)
{
	struct asked a = { ring, ticket };

	patience_look(&p->p_far, is_answered, &a);
	return end_request(p, ring, ticket, mem, n);
}

/* Submits a request; waits while all slots are taken. */
static int begin_request(const struct pool *p, struct far_ring *ring, enum far_slot_op op,
    uint64_t at, uint32_t n, const void *mem, uint32_t *ticket)
{
	int rc;

	while ((rc = far_ring_begin(ring, ring_owner(p), op, at, n, mem, ticket)) == -EAGAIN) {
		enum far_slot_state state = far_slot_state(&ring->fr_slot[0]);

		if (state == FAR_FREE)
			continue;
		far_ring_sleep(ring, 0, state); /* any free slot will do: look again soon */
		pool_waited(p);
	}
	return rc;
}

int pool_far_io(
    struct pool *p, const struct far_place *f, int write, void *mem, uint64_t at, uint32_t n)
{
	struct far_ring *ring = ring_of(p->p_shared, f);
	uint32_t ticket;
	int rc = begin_request(
	    p, ring, write ? FAR_SLOT_WRITE : FAR_SLOT_READ, offset_in(f, at), n, mem, &ticket);

	if (rc == 0)
		rc = write ? end_request(p, ring, ticket, mem, n)
			   : end_read(p, ring, ticket, mem, n);
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
	    end_read(p, ring_of(p->p_shared, pool_far_of(p->p_shared, block)), ticket, mem, bytes);

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
	return end_request(
	    p, ring_of(p->p_shared, pool_far_of(p->p_shared, block)), ticket, NULL, 0);
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
