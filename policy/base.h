/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What all policies share: their queues, and the way of a page from the policy's choice to its
 * eviction, on machines that report references by bits and on those that report them by faults
 * only.
 *
 * Vocabulary. A policy keeps its pages on queues PQ_1 to PQ_4 of its own and has a *hand*: in_pick names the page at the hand,
 * either a candidate for eviction or (aging) a page of which only the reference state matters.
 * in_decide moves a page on as the policy wants: a candidate that was referenced, or an aging page
 * that was not. A candidate that was not referenced is to be evicted: it waits on PQ_LEAVING while
 * page-out writes it.
 *
 * Where references are not reported one by one, the reference state of a candidate may say nothing
 * yet: with POL_REFS_FAULTS always, with POL_REFS_BITS for new pages, whose bit was set by the very
 * access that brought them in. Such a candidate has its state cleared and then waits on PQ_STANDBY,
 * an eighth of all pages long: this is the spread between the two hands of a two-handed clock, and
 * the second segment of a segmented FIFO (Turner and Levy, SIGMETRICS 1981). A page that is used on
 * standby was referenced.
 *
 * Where only faults report use (POL_REFS_FAULTS), to ask about a page that is in use costs a fault.
 * So a page that was found in use is trusted: the hand takes it for referenced without asking,
 * except one time in four, at random. A page that the program uses all the time then faults in
 * every fifth round only; a page that the program no longer uses stays in memory as much longer.
 *
 * Where bits report writes only (POL_REFS_WRITES), a page that was not written may be in use all
 * the same. Some candidates are tested: their translations are dropped and they wait on PQ_STANDBY,
 * as above; a page that is used there is trusted, as above. Each such use is a fault that a full
 * set of bits would have saved. So standby is as long as that costs little: each page that comes in
 * makes it longer by one, each use on standby shorter by TEST_COST, between zero and an eighth of
 * all pages. So there is one such use for every TEST_COST pages that come in (first touches
 * included), or two where standby is often empty. To let standby begin shorter was tried
 * (bench/refaults.py), and cost more store faults than it saved tests.
 *
 * Pages that advice calls cold wait on PQ_COLD; the hand takes them first.
 *
 * A round. A round ends when the hand has looked at twice as many pages as there are without an
 * eviction or an insertion. Then every queue is gone through once more from its head, whatever the
 * policy prefers, so that a single evictable page among locked ones is found; after that pol_next
 * returns NULL.
 *
 * p_polstate: queue, PS_REF (used since the hand passed), PS_NEW or, where only faults report use,
 * PS_TRUST (see above), and three bits of the policy. All under vm_pollock.
 */
#ifndef QUIRE_POLICY_BASE_H
#define QUIRE_POLICY_BASE_H

#include <quire/policy.h>

enum { PQ_NONE, PQ_1, PQ_2, PQ_3, PQ_4, PQ_COLD, PQ_STANDBY, PQ_LEAVING, PQ_N };
#define PS_QUEUE 0x07u
#define PS_REF 0x08u
#define PS_NEW 0x10u
#define PS_TRUST PS_NEW
#define PS_OWN_SHIFT 5u /* three bits */

struct pol_inner {
	/* The page at the hand, on one of the policy's queues; NULL: the queues are empty. */
	struct page *(*in_pick)(void *state, bool *aging);
	/* Moves the page on: it was referenced, or it is aging and was not. The page may be on a
	 * queue of the policy's or on any other. */
	void (*in_decide)(void *state, struct page *, bool referenced);
};

struct pol_base {
	struct page *b_pages;
	enum pol_refs b_refs;
	pfn_t b_room;
	struct page_queue b_q[PQ_N];
	uint32_t b_steps;  /* pages looked at since a page was last evicted or inserted */
	uint32_t b_left;   /* looks left in the queue b_probe */
	uint32_t b_spread; /* POL_REFS_WRITES: pages that standby may hold */
	uint32_t b_rand;   /* state of the random numbers: the same sequence in every run */
	uint8_t b_probe;   /* the queue that the end of a round goes through; 0: none */
	bool b_aging;      /* the last answer of pol_next was an aging page */
	bool b_testing;    /* that answer said POL_ASK_TEST */
};

void base_init(struct pol_base *, const struct pol_env *);
void base_push(struct pol_base *, struct page *, unsigned queue); /* at the queue's tail; the page
                                                                   * is on no queue */
void base_take(struct pol_base *, struct page *);
void base_move(struct pol_base *, struct page *, unsigned queue);
uint32_t base_pages(const struct pol_base *); /* pages in memory and not leaving */
/* A new page; the policy's own bits zero. */
void base_insert(struct pol_base *, struct page *, unsigned queue);
void base_remove(struct pol_base *, struct page *);
struct page *base_next(struct pol_base *, void *state, const struct pol_inner *, enum pol_ask *);
/* Offers every page once more, from each queue's head, to be evicted if it can be; NULL: the round
 * is over. */
struct page *base_probe(struct pol_base *, enum pol_ask *);
static inline bool base_probing(const struct pol_base *b) { return b->b_probe != 0; }
void base_seen(struct pol_base *, void *state, const struct pol_inner *, struct page *,
    bool referenced, bool skipped);
void base_cool(struct pol_base *, struct page *);
/* True: the page was cold or on standby, and this call has dealt with the use; false: the policy
 * notes the use. */
bool base_touch(struct pol_base *, void *state, const struct pol_inner *, struct page *);

static inline unsigned base_queue(const struct page *pp) { return pp->p_polstate & PS_QUEUE; }
static inline struct page *base_page(const struct pol_base *b, uint32_t i)
{
	return i == PAGE_NIL ? NULL : &b->b_pages[i];
}
static inline struct page *base_head(const struct pol_base *b, unsigned queue)
{
	return base_page(b, b->b_q[queue].q_head);
}
static inline uint32_t base_len(const struct pol_base *b, unsigned queue)
{
	return b->b_q[queue].q_len;
}
static inline unsigned base_own(const struct page *pp) { return pp->p_polstate >> PS_OWN_SHIFT; }
static inline void base_set_own(struct page *pp, unsigned bits)
{
	pp->p_polstate =
	    (uint8_t)((pp->p_polstate & ((1u << PS_OWN_SHIFT) - 1)) | bits << PS_OWN_SHIFT);
}
#endif
