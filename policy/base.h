/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What all policies share: their queues, and the way from "the policy would give this page up" to its eviction on machines
 * that see references by bits, or only by faults.
 *
 * Vocabulary. A policy keeps its pages on queues PQ_1 to PQ_4 of its own and has a *hand*: in_pick names the page at the hand,
 * either a candidate for eviction or (aging) a page of which only the reference state matters. in_decide moves the page on
 * as the policy wants for one that was referenced, or an aging one that was not. A candidate that was not referenced
 * leaves: it waits on PQ_LEAVING while page-out writes it.
 *
 * Where references are not told one by one, a candidate whose reference state says nothing yet (POL_REFS_FAULTS: always;
 * POL_REFS_BITS: new pages, whose bit was set by the very access that brought them) first has it cleared and then waits on
 * PQ_STANDBY, an eighth of all pages long: that is the spread between the two hands of a two-handed clock, and the second
 * segment of a segmented FIFO (Turner and Levy, SIGMETRICS 1981). Used there, it was referenced.
 *
 * Where only faults tell (POL_REFS_FAULTS), to ask a page that is in use costs a fault. A page that was found in use is trusted: the
 * hand takes it for referenced without asking, until chance has it doubt, one time in four. A page that the program uses
 * all the time then faults in every fifth round only; one that it has done with stays as much longer.
 *
 * Where bits tell of writes only (POL_REFS_WRITES), a page that was not written may be in use all the same. Some candidates are
 * tested: their translations are dropped and they wait on PQ_STANDBY, as above; one that is used there is trusted, as above.
 * Each such use is a fault that a full set of bits would have saved. So standby is as long as that costs little: a page that
 * comes in makes it longer by one, a use on standby shorter by TEST_COST, between nothing and an eighth of all pages. Such
 * uses are then one to TEST_COST pages that come in, or two where standby is often nothing, first touches among them. A start with
 * less than they give was tried (bench/refaults.py), and cost more store faults than it saved tests.
 *
 * Pages that advice calls cold wait on PQ_COLD, which is looked at before all else.
 *
 * A round. After twice as many looks as there are pages without anything evicted or inserted, every queue is gone through
 * once more from its head, whatever the policy prefers, so that one evictable page among locked ones is found; then
 * pol_next says NULL.
 *
 * p_polstate: queue, PS_REF (used since the hand came by), PS_NEW or, where only faults tell, PS_TRUST (see above), and three
 * bits of the policy.
 * All under vm_pollock.
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
	/* The page at the hand, on one of the policy's queues; NULL: it has none. */
	struct page *(*in_pick)(void *state, bool *aging);
	/* It goes on: referenced, or aging and not. It may be on a queue of the policy's or on any other. */
	void (*in_decide)(void *state, struct page *, bool referenced);
};

struct pol_base {
	struct page *b_pages;
	enum pol_refs b_refs;
	pfn_t b_room;
	struct page_queue b_q[PQ_N];
	uint32_t b_steps;  /* looks since a page was last evicted or inserted */
	uint32_t b_left;   /* of the queue being gone through at the end of a round */
	uint32_t b_spread; /* POL_REFS_WRITES: pages that standby may hold */
	uint32_t b_rand;   /* of the doubts: the same in every run */
	uint8_t b_probe;   /* that queue; 0: none */
	bool b_aging;      /* the last answer of pol_next was an aging one */
	bool b_testing;    /* that answer was POL_ASK_TEST */
};

void base_init(struct pol_base *, const struct pol_env *);
void base_push(struct pol_base *, struct page *, unsigned queue); /* at the tail; it is on none */
void base_take(struct pol_base *, struct page *);
void base_move(struct pol_base *, struct page *, unsigned queue);
uint32_t base_pages(const struct pol_base *); /* in memory and not leaving */
/* A new page; the policy's own bits zero. */
void base_insert(struct pol_base *, struct page *, unsigned queue);
void base_remove(struct pol_base *, struct page *);
struct page *base_next(struct pol_base *, void *state, const struct pol_inner *, enum pol_ask *);
/* Every page once more, from each queue's head, to be evicted if it can; NULL: the round is over. */
struct page *base_probe(struct pol_base *, enum pol_ask *);
static inline bool base_probing(const struct pol_base *b) { return b->b_probe != 0; }
void base_seen(struct pol_base *, void *state, const struct pol_inner *, struct page *,
    bool referenced, bool skipped);
void base_cool(struct pol_base *, struct page *);
/* True: the page was cold or on standby and has been decided on; false: the policy notes the use. */
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
