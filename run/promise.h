/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a family's processes are promised: pages that memory and swap file have room for even if nothing compresses.
 *
 * Memory that a process maps writable is promised in full when it is mapped or becomes writable; what cannot be promised is
 * refused there (ENOMEM), so that no access fails later. Two kinds are mapped by every program and hardly used: stacks of threads
 * (MAP_STACK), and what the program itself declares so (MAP_NORESERVE). Their pages are promised one by one as they are touched.
 * If nothing is left then, the touch is answered with SIGBUS, as what was promised in full must be kept. A part of
 * the room (p_keep) is for such touches alone, so that a program which asks for all there is does not lose its stacks.
 *
 * A forked child has what its parent has: it is promised the same, or the fork is refused. Besides, each process is promised
 * its tables. Memory that the kernel keeps for a process is not counted here.
 *
 * Locks: none, all is atomic. p_given is the sum of fp_promised (run/family.h); a process killed between the two additions leaves
 * p_given too large.
 */
#ifndef QUIRE_RUN_PROMISE_H
#define QUIRE_RUN_PROMISE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct promise {
	uint64_t p_most; /* const: pages */
	uint64_t p_keep; /* const: of them, only for pages that are promised as they are touched */
	_Atomic uint64_t p_given;
};

/*
 * Pages for which each frame has room in its tables, while half of the frames are left: what the core and the store keep of a page
 * takes some 40 bytes.
 */
#define PROMISE_TABLES 48u

/* Pages that a file of so many pages and so many frames have room for, less what tables and half-empty places take. */
static inline void promise_init(struct promise *p, uint64_t file, uint64_t frames)
{
	p->p_most = file + frames - frames / 8;
	if (p->p_most > frames * PROMISE_TABLES)
		p->p_most = frames * PROMISE_TABLES;
	p->p_keep = p->p_most / 16;
}

/* Promises n pages. touched: they are being touched. False: there is no room, nothing is promised. */
static inline bool promise_take(struct promise *p, uint64_t n, bool touched)
{
	uint64_t have = atomic_load(&p->p_given),
		 most = touched ? p->p_most : p->p_most - p->p_keep;

	do
		if (n > most || have > most - n)
			return false;
	while (!atomic_compare_exchange_weak(&p->p_given, &have, have + n));
	return true;
}

/* Promises n pages whether there is room or not: of memory that is in use already. */
static inline void promise_force(struct promise *p, uint64_t n)
{
	atomic_fetch_add(&p->p_given, n);
}

static inline void promise_return(struct promise *p, uint64_t n)
{
	atomic_fetch_sub(&p->p_given, n);
}
#endif
