/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a family's processes are promised: pages that memory and the places of swap have room for even if nothing compresses.
 *
 * Memory that a process maps writable is promised in full when it is mapped or becomes writable; what cannot be promised is
 * refused there (ENOMEM), so that no access fails later. Two kinds are mapped by every program and hardly used: stacks of threads
 * (MAP_STACK), and what the program itself declares so (MAP_NORESERVE). Their pages are promised one by one as they are touched.
 * If nothing is left then, the touch is answered with SIGBUS, as what was promised in full must be kept. A part of
 * the room is for such touches alone, so that a program which asks for all there is does not lose its stacks.
 *
 * Each store has places of its own (a file, far places), which only its processes can use: its shelf. Frames are the family's.
 * What a store's processes are promised beyond their shelf (the overhang) is promised of the frames:
 *
 *      shelf 1  [##########  ]        given to the processes of store 1
 *      shelf 2  [######]+++           given to those of store 2, with an overhang
 *      frames           [+++    ]     all overhangs together have room here
 *
 * A forked child has what its parent has: it is promised the same, or the fork is refused. Besides, each process is promised
 * its tables. Memory that the kernel keeps for a process is not counted here.
 *
 * Locks: none, all is atomic. s_given is the sum of fp_promised (run/family.h) of the store's processes; p_given is that of all,
 * and p_over the sum of the overhangs. A process killed between two additions leaves a sum too large.
 */
#ifndef QUIRE_RUN_PROMISE_H
#define QUIRE_RUN_PROMISE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Pages. */
struct promise {
	uint64_t p_frames; /* const: what frames have room for */
	uint64_t p_most;   /* const: what tables have room for */
	_Atomic uint64_t p_given, p_over;
};

struct promise_shelf {
	uint64_t
	    s_most; /* pages that the store's places have room for. Written while the store has no process */
	_Atomic uint64_t s_given;
};

/*
 * Pages for which each frame has room in its tables, while half of the frames are left: what the core and the store keep of a page
 * takes some 40 bytes.
 */
#define PROMISE_TABLES 48u
#define PROMISE_KEPT 16u /* that part is only for pages that are promised as they are touched */

/* So many frames have room for those, less what tables and half-empty places take. */
static inline void promise_init(struct promise *p, uint64_t frames)
{
	p->p_frames = frames - frames / 8;
	p->p_most = frames * PROMISE_TABLES;
}

/* What the processes of the store may be promised if those of others are promised nothing. */
static inline uint64_t promise_most(const struct promise *p, const struct promise_shelf *s)
{
	uint64_t most = s->s_most + p->p_frames;

	return most < p->p_most ? most : p->p_most;
}

static inline uint64_t promise_overhang(const struct promise_shelf *s, uint64_t given)
{
	return given > s->s_most ? given - s->s_most : 0;
}

static inline bool promise_try(_Atomic uint64_t *sum, uint64_t n, uint64_t most, uint64_t *had)
{
	*had = atomic_load(sum);
	do
		if (n > most || *had > most - n)
			return false;
	while (!atomic_compare_exchange_weak(sum, had, *had + n));
	return true;
}

/* Takes n back from the shelf. How much less its overhang is. */
static inline uint64_t promise_unshelve(struct promise_shelf *s, uint64_t n)
{
	uint64_t had = atomic_fetch_sub(&s->s_given, n);

	return promise_overhang(s, had) - promise_overhang(s, had - n);
}

/* Promises n pages. touched: they are being touched. False: there is no room, nothing is promised. */
static inline bool promise_take(
    struct promise *p, struct promise_shelf *s, uint64_t n, bool touched)
{
	uint64_t most = promise_most(p, s), kept = touched ? UINT64_MAX : PROMISE_KEPT, had, over,
		 unused;

	if (!promise_try(&s->s_given, n, most - most / kept, &had))
		return false;
	over = promise_overhang(s, had + n) - promise_overhang(s, had);
	if (!promise_try(&p->p_over, over, p->p_frames - p->p_frames / kept, &unused)) {
		(void)atomic_fetch_add(&p->p_over, over - promise_unshelve(s, n));
		return false;
	}
	if (!promise_try(&p->p_given, n, p->p_most - p->p_most / kept, &unused)) {
		(void)atomic_fetch_sub(&p->p_over, promise_unshelve(s, n));
		return false;
	}
	return true;
}

/* Promises n pages whether there is room or not: of memory that is in use already. */
static inline void promise_force(struct promise *p, struct promise_shelf *s, uint64_t n)
{
	uint64_t had = atomic_fetch_add(&s->s_given, n);

	(void)atomic_fetch_add(&p->p_over, promise_overhang(s, had + n) - promise_overhang(s, had));
	(void)atomic_fetch_add(&p->p_given, n);
}

static inline void promise_return(struct promise *p, struct promise_shelf *s, uint64_t n)
{
	(void)atomic_fetch_sub(&p->p_over, promise_unshelve(s, n));
	(void)atomic_fetch_sub(&p->p_given, n);
}
#endif
