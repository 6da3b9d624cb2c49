/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises to a family's processes: pages for which memory and the places of swap have room even if
 * no page compresses.
 *
 * Memory that a process maps writable is promised in full when it is mapped or becomes writable; a
 * mapping that cannot be promised is refused at that time (ENOMEM), so that no access fails later.
 * Two kinds are mapped by every program and hardly used: stacks of threads (MAP_STACK), and
 * mappings that the program declares so (MAP_NORESERVE). Their pages are promised one by one as
 * they are touched. If no room is left then, the touch raises SIGBUS, as full promises must be
 * kept. A part of the room is reserved for such touches, so that a program that maps all memory
 * does not lose its stacks.
 *
 * Each store has places (a file, far places) that only its processes can use: its shelf. Frames
 * belong to the family. Pages promised to a store's processes beyond their shelf (the overhang) are
 * promised out of the frames:
 *
 *      shelf 1  [##########  ]        given to the processes of store 1
 *      shelf 2  [######]+++           given to those of store 2, with an overhang
 *      frames           [+++    ]     all overhangs together have room here
 *
 * A forked child is promised as many pages as its parent, or the fork is refused. In addition, each
 * process is promised its tables. Memory that the kernel keeps for a process is not counted here.
 *
 * A place may break its word: a server is given less room during the run, or is given up. What the
 * place has no room for is lost (pool_pages_lost). In its stead nothing is promised: requests are
 * refused until as much is given back. What was promised before stays in memory, as far as there is
 * room. A page that is promised as it is touched is promised as if nothing were lost, because its
 * refusal would be a SIGBUS at once.
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
	uint64_t p_frames; /* const: pages for which frames have room */
	uint64_t p_most;   /* const: pages for whose tables there is room */
	_Atomic uint64_t p_given, p_over;
};

struct promise_shelf {
	uint64_t
	    s_most; /* pages that the store's places have room for. Written while the store has no process */
	_Atomic uint64_t s_given;
};

/*
 * Pages whose table entries fit in one frame, while half of the frames are left: the entries of the
 * core and the store for a page take some 40 bytes.
 */
#define PROMISE_TABLES 48u
/* this fraction is reserved for pages that are promised when they are touched */
#define PROMISE_KEPT 16u

/*
 * Pages for which the frames have room, without the frames taken by tables and half-empty places.
 */
static inline void promise_init(struct promise *p, uint64_t frames)
{
	p->p_frames = frames - frames / 8;
	p->p_most = frames * PROMISE_TABLES;
}

/*
 * The most pages that can be promised to the processes of the store if the processes of other
 * stores have no promise.
 */
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

/* Takes n promised pages back from the shelf. Returns the decrease of the shelf's overhang. */
static inline uint64_t promise_unshelve(struct promise_shelf *s, uint64_t n)
{
	uint64_t had = atomic_fetch_sub(&s->s_given, n);

	return promise_overhang(s, had) - promise_overhang(s, had - n);
}

/*
 * Promises n pages. lost: pages for which the store's places have no room now, though s_most counts
 * them. touched: the pages are being touched. False: there is no room, and no page is promised.
 */
static inline bool promise_take(
    struct promise *p, struct promise_shelf *s, uint64_t n, uint64_t lost, bool touched)
{
	uint64_t most = promise_most(p, s), kept = touched ? UINT64_MAX : PROMISE_KEPT, had, over,
		 unused;

	most = lost < most ? most - lost : 0;
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

/* Promises n pages of memory that is in use already, even if there is no room. */
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
