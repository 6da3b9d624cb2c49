/* SPDX-License-Identifier: BSD-2-Clause */
/* Queues, standby and rounds of the policies: see base.h. */
#include "base.h"

#define SPREAD_SHIFT 3u
#define TEST_COST 16u
#define TRUST_SHIFT 2u /* one time in so many a trusted page is asked about */

void base_init(struct pol_base *b, const struct pol_env *env)
{
	b->b_pages = env->pe_pages;
	b->b_refs = env->pe_refs;
	b->b_room = env->pe_nframes;
	for (unsigned i = 0; i < PQ_N; i++) {
		b->b_q[i].q_head = b->b_q[i].q_tail = PAGE_NIL;
		b->b_q[i].q_len = 0;
	}
	b->b_steps = b->b_left = b->b_rand = b->b_spread = 0;
	b->b_probe = 0;
}

/* Does what page_queue_push_tail and page_queue_remove do. A policy cannot call those: `quire`
 * links the policies without the core. */
void base_push(struct pol_base *b, struct page *pp, unsigned queue)
{
	struct page_queue *q = &b->b_q[queue];
	uint32_t i = (uint32_t)(pp - b->b_pages);

	pp->p_polstate = (uint8_t)((pp->p_polstate & ~PS_QUEUE) | queue);
	pp->p_next = PAGE_NIL;
	pp->p_prev = q->q_tail;
	if (q->q_tail == PAGE_NIL)
		q->q_head = i;
	else
		b->b_pages[q->q_tail].p_next = i;
	q->q_tail = i;
	q->q_len++;
}

void base_take(struct pol_base *b, struct page *pp)
{
	struct page_queue *q = &b->b_q[base_queue(pp)];

	if (pp->p_prev == PAGE_NIL)
		q->q_head = pp->p_next;
	else
		b->b_pages[pp->p_prev].p_next = pp->p_next;
	if (pp->p_next == PAGE_NIL)
		q->q_tail = pp->p_prev;
	else
		b->b_pages[pp->p_next].p_prev = pp->p_prev;
	pp->p_next = pp->p_prev = PAGE_NIL;
	pp->p_polstate &= (uint8_t)~PS_QUEUE;
	q->q_len--;
}

void base_move(struct pol_base *b, struct page *pp, unsigned queue)
{
	base_take(b, pp);
	base_push(b, pp, queue);
}

uint32_t base_pages(const struct pol_base *b)
{
	uint32_t n = 0;

	for (unsigned i = PQ_1; i < PQ_LEAVING; i++)
		n += b->b_q[i].q_len;
	return n;
}

static void note_progress(struct pol_base *b)
{
	b->b_steps = 0;
	b->b_probe = 0;
}

void base_insert(struct pol_base *b, struct page *pp, unsigned queue)
{
	pp->p_polstate = b->b_refs == POL_REFS_BITS ? PS_NEW : 0;
	base_push(b, pp, queue);
	if (b->b_spread < b->b_room >> SPREAD_SHIFT)
		b->b_spread++;
	note_progress(b);
}

void base_remove(struct pol_base *b, struct page *pp)
{
	base_take(b, pp);
	pp->p_polstate = 0;
	note_progress(b);
}

struct page *base_probe(struct pol_base *b, enum pol_ask *ask)
{
	if (b->b_probe == 0)
		b->b_left = 0;
	b->b_aging = b->b_testing = false;
	*ask = POL_ASK_EVICT;
	while (b->b_left == 0 || base_head(b, b->b_probe) == NULL) {
		if (++b->b_probe >= PQ_LEAVING) {
			note_progress(b);
			return NULL;
		}
		/* Twice its length: a page found in use is looked at a second time in this round. */
		b->b_left = 2 * base_len(b, b->b_probe);
	}
	b->b_left--;
	return base_head(b, b->b_probe);
}

/* Do references show as faults on pages without translations, always or sometimes? */
static bool by_faults(const struct pol_base *b)
{
	return b->b_refs == POL_REFS_FAULTS || b->b_refs == POL_REFS_WRITES;
}

/* How many pages wait on standby before the first of them is looked at. */
static uint32_t standby_spread(const struct pol_base *b, uint32_t all)
{
	uint32_t most = all >> SPREAD_SHIFT;

	return b->b_refs == POL_REFS_WRITES && b->b_spread < most ? b->b_spread : most;
}

/* Is the page new, so that its reference bit shows only the access that brought it in? */
static bool is_new(const struct pol_base *b, const struct page *pp)
{
	return b->b_refs == POL_REFS_BITS && (pp->p_polstate & PS_NEW) != 0;
}

/* What page-out is to ask about the page at the hand: whether it goes to standby, or at once. */
static enum pol_ask choose_ask(const struct pol_base *b, const struct page *pp, uint32_t all)
{
	if (b->b_aging || b->b_refs == POL_REFS_FAULTS || is_new(b, pp))
		return POL_ASK_AGE;
	return b->b_refs == POL_REFS_WRITES && standby_spread(b, all) > 0 ? POL_ASK_TEST
									  : POL_ASK_EVICT;
}

/* Whether a candidate for eviction goes to standby, given whether it was found referenced. */
static bool stands_by(const struct pol_base *b, const struct page *pp, bool referenced)
{
	if (base_queue(pp) >= PQ_COLD || b->b_probe != 0)
		return false;
	return b->b_refs == POL_REFS_FAULTS || is_new(b, pp) || (b->b_testing && !referenced);
}

/* Was the page found in use when it was last tested? By chance the answer is no, so that pages that
 * came in together do not all fault together. */
static bool is_trusted(struct pol_base *b, struct page *pp)
{
	if (!by_faults(b) || (pp->p_polstate & PS_TRUST) == 0)
		return false;
	b->b_rand = b->b_rand * 1664525u + 1013904223u;
	if (b->b_rand >> (32 - TRUST_SHIFT) == 0)
		pp->p_polstate &= (uint8_t)~PS_TRUST;
	return true;
}

struct page *base_next(
    struct pol_base *b, void *state, const struct pol_inner *in, enum pol_ask *ask)
{
	uint32_t all = base_pages(b), standby = base_len(b, PQ_STANDBY), looks = 4 * all + 8;

	if (all == 0)
		return NULL;
	if (b->b_steps > 2 * all + 2)
		return base_probe(b, ask);
	b->b_steps++;
	*ask = POL_ASK_EVICT;
	b->b_aging = b->b_testing = false;
	if (base_len(b, PQ_COLD) > 0)
		return base_head(b, PQ_COLD);
	if (standby > standby_spread(b, all))
		return base_head(b, PQ_STANDBY);
	for (struct page *pp; looks-- > 0 && (pp = in->in_pick(state, &b->b_aging)) != NULL;) {
		if ((pp->p_polstate & PS_REF) != 0 || is_trusted(b, pp)) {
			pp->p_polstate &= (uint8_t)~PS_REF;
			in->in_decide(state, pp, true);
		} else if (b->b_aging &&
		    (b->b_refs == POL_REFS_ALL || b->b_refs == POL_REFS_FAULTS)) {
			in->in_decide(state, pp, false);
		} else {
			*ask = choose_ask(b, pp, all);
			b->b_testing = *ask == POL_ASK_TEST;
			return pp;
		}
		b->b_aging = false;
	}
	b->b_aging = false;
	if (standby > 0)
		return base_head(b, PQ_STANDBY);
	b->b_steps = 2 * all + 3;
	return base_probe(b, ask);
}

void base_seen(struct pol_base *b, void *state, const struct pol_inner *in, struct page *pp,
    bool referenced, bool skipped)
{
	unsigned queue = base_queue(pp);
	bool aging = b->b_aging, fresh = is_new(b, pp), standby = stands_by(b, pp, referenced);

	b->b_aging = false;
	if (queue == PQ_LEAVING) {
		in->in_decide(
		    state, pp, true); /* the page could not be written: it counts as in use */
	} else if (skipped || (b->b_probe != 0 && referenced)) {
		base_move(b, pp, queue);
		/* If the hand stayed it would meet the page again at once. */
		if (b->b_probe == 0 && queue != PQ_STANDBY)
			in->in_decide(state, pp, true);
	} else if (aging) {
		pp->p_polstate &= (uint8_t)~PS_NEW;
		in->in_decide(state, pp, referenced && !fresh);
	} else if (standby) {
		pp->p_polstate &= (uint8_t)~PS_NEW;
		base_move(b, pp, PQ_STANDBY);
	} else if (referenced) {
		in->in_decide(state, pp, true);
	} else {
		base_move(b, pp, PQ_LEAVING);
	}
}

bool base_touch(struct pol_base *b, void *state, const struct pol_inner *in, struct page *pp)
{
	bool asked = by_faults(b) && base_queue(pp) == PQ_STANDBY;

	if (base_queue(pp) < PQ_COLD)
		return (pp->p_flags & P_PREFETCHED) != 0;
	in->in_decide(state, pp, true);
	if (asked) {
		pp->p_polstate |= PS_TRUST;
		b->b_spread -= b->b_spread < TEST_COST ? b->b_spread : TEST_COST;
	}
	return true;
}

void base_cool(struct pol_base *b, struct page *pp)
{
	if (base_queue(pp) == PQ_LEAVING)
		return;
	pp->p_polstate &= (uint8_t) ~(PS_REF | PS_NEW);
	base_move(b, pp, PQ_COLD);
}
