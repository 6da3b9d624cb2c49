/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CLOCK-Pro (Jiang, Chen and Zhang, "CLOCK-Pro: An Effective Improvement of the CLOCK Replacement", USENIX 2005): LIRS'
 * ranking by reuse distance, with a clock's work on a reference.
 *
 * Vocabulary: one circular list of hot pages, cold pages, and ghosts of cold pages. A cold page that came lately is in its
 * *test period*: if it is used again before the period ends it becomes hot, because its reuse distance is then shorter than
 * the age of some hot page. A ghost is a cold page that was evicted during its test. New pages
 * enter at the list's head, which lies just behind the hot hand. m: the capacity; mc: the number of
 * pages meant to be cold, between 1 and m - 1; m - mc may be hot.
 *
 *   cold hand: at a cold page in memory. Not used: it is evicted. Used in its test: it becomes hot, mc grows. Used
 *	otherwise: it goes to the head and a new test begins.
 *   hot hand: runs while more pages are hot than may be. A hot page that was not used becomes cold,
 *   without a test; a hot page that was used loses its bit. Cold pages that the hand passes end
 *   their test; ghosts that it passes are dropped.
 *   test hand: while there are more ghosts than m: ends the test of the next cold page.
 *
 * Each test that ends without use subtracts one from mc; each use in a test, of a page in memory or
 * of a ghost, adds one. mc starts as a hundredth of m, which is the fixed share that LIRS gives.
 *
 * Where the paper leaves a choice: the new test of a cold page used outside of its test is LIRS'
 * rule (the page moves to the top of its stack); the hot hand runs as long as too many pages are
 * hot, not once for each new hot page.
 *
 * Where bits report use, the hot hand's work is put off until the next pick, which asks for the
 * bit.
 *
 * Invariants: hot pages are on PQ_1, cold ones on PQ_2, unless leaving or on standby; the list has
 * a node for each page in memory and each ghost, once; a ghost is in its test.
 *
 * Own bits of a page: in its test, hot. Nodes: a page's is its frame number, ghost i's is nframes + i.
 */
#include "base.h"
#include "ghost.h"

enum { HOT = PQ_1, COLD = PQ_2, OWN_TEST = 1, OWN_HOT = 2 };
#define NIL PAGE_NIL
#define COLD_PART 100u

struct node {
	uint32_t n_next, n_prev;
};

struct clockpro {
	struct pol_base p_base;
	struct ghosts p_ghosts;
	struct node *p_node;
	uint32_t p_nframes;
	uint32_t p_hand_hot, p_hand_cold, p_hand_test;
	uint32_t p_nnodes, p_nhot;
	uint32_t p_mc; /* 0: not set yet */
};

static size_t cp_size(pfn_t nframes)
{
	return sizeof(struct clockpro) + ghosts_size(nframes + 1) +
	    sizeof(struct node) * (2 * (size_t)nframes + 2);
}

static void cp_init(void *state, const struct pol_env *env)
{
	struct clockpro *p = state;
	pfn_t n = env->pe_nframes;

	base_init(&p->p_base, env);
	ghosts_init(&p->p_ghosts, p + 1, n + 1);
	p->p_node = (struct node *)(void *)((char *)(p + 1) + ghosts_size(n + 1));
	p->p_nframes = n;
	p->p_hand_hot = p->p_hand_cold = p->p_hand_test = NIL;
	p->p_nnodes = p->p_nhot = 0;
	p->p_mc = 0;
}

/* ---- the list ---- */
static struct page *page_at(const struct clockpro *p, uint32_t n)
{
	return n < p->p_nframes ? &p->p_base.b_pages[n] : NULL;
}

static uint32_t node_of(const struct clockpro *p, const struct page *pp)
{
	return (uint32_t)(pp - p->p_base.b_pages);
}

static void link_head(struct clockpro *p, uint32_t n)
{
	struct node *v = p->p_node;
	uint32_t h = p->p_hand_hot;

	p->p_nnodes++;
	if (h == NIL) {
		v[n].n_next = v[n].n_prev = n;
		p->p_hand_hot = p->p_hand_cold = p->p_hand_test = n;
		return;
	}
	v[n].n_next = h;
	v[n].n_prev = v[h].n_prev;
	v[v[n].n_prev].n_next = n;
	v[h].n_prev = n;
}

static void unlink_node(struct clockpro *p, uint32_t n)
{
	struct node *v = p->p_node;
	uint32_t next = v[n].n_next == n ? NIL : v[n].n_next;

	p->p_nnodes--;
	v[v[n].n_next].n_prev = v[n].n_prev;
	v[v[n].n_prev].n_next = v[n].n_next;
	if (p->p_hand_hot == n)
		p->p_hand_hot = next;
	if (p->p_hand_cold == n)
		p->p_hand_cold = next;
	if (p->p_hand_test == n)
		p->p_hand_test = next;
}

static void forget_ghost(struct clockpro *p, uint32_t ghost)
{
	unlink_node(p, p->p_nframes + ghost);
	ghosts_drop(&p->p_ghosts, ghost);
}

static void more_cold(struct clockpro *p)
{
	if (p->p_mc + 1 < p->p_base.b_room)
		p->p_mc++;
}

static void fewer_cold(struct clockpro *p)
{
	if (p->p_mc > 1)
		p->p_mc--;
}

/* Ends the test of the cold page at n, if it is in one. False: the node was a ghost and is off the
 * list now. */
static bool end_test(struct clockpro *p, uint32_t n)
{
	struct page *pp = page_at(p, n);

	if (pp == NULL) {
		fewer_cold(p);
		forget_ghost(p, n - p->p_nframes);
		return false;
	}
	if ((base_own(pp) & OWN_TEST) != 0) {
		fewer_cold(p);
		base_set_own(pp, base_own(pp) & ~(unsigned)OWN_TEST);
	}
	return true;
}

/* ---- hands ---- */
static void run_test(struct clockpro *p)
{
	for (uint32_t left = p->p_nnodes; left-- > 0;) {
		uint32_t n = p->p_hand_test;
		struct page *pp = page_at(p, n);
		bool test = pp == NULL || (base_own(pp) & OWN_TEST) != 0;

		if (!test || end_test(p, n))
			p->p_hand_test = p->p_node[n].n_next;
		if (test)
			return;
	}
}

/* The hot page at the hot hand; NULL: there is none. */
static struct page *hot_page(struct clockpro *p)
{
	for (uint32_t left = p->p_nnodes; left-- > 0;) {
		uint32_t n = p->p_hand_hot;
		struct page *pp = page_at(p, n);

		if (pp != NULL && base_queue(pp) == HOT)
			return pp;
		if ((pp != NULL && (base_own(pp) & OWN_HOT) != 0) || end_test(p, n))
			p->p_hand_hot = p->p_node[n].n_next;
	}
	return NULL;
}

static void pass_hot(struct clockpro *p, struct page *pp, bool referenced)
{
	uint32_t n = node_of(p, pp);

	if (!referenced) {
		base_move(&p->p_base, pp, COLD);
		base_set_own(pp, 0);
		p->p_nhot--;
	}
	if (p->p_hand_hot == n)
		p->p_hand_hot = p->p_node[n].n_next;
}

static bool too_hot(const struct clockpro *p) { return p->p_nhot + p->p_mc > p->p_base.b_room; }

static void run_hot(struct clockpro *p)
{
	struct page *pp;

	if (p->p_base.b_refs == POL_REFS_BITS || p->p_base.b_refs == POL_REFS_WRITES)
		return;
	while (too_hot(p) && (pp = hot_page(p)) != NULL) {
		bool referenced = (pp->p_polstate & PS_REF) != 0;

		pp->p_polstate &= (uint8_t)~PS_REF;
		pass_hot(p, pp, referenced);
	}
}

static struct page *clockpro_pick(void *state, bool *aging)
{
	struct clockpro *p = state;

	if (too_hot(p) || base_len(&p->p_base, COLD) == 0) {
		*aging = true;
		return hot_page(p);
	}
	for (;;) {
		struct page *pp = page_at(p, p->p_hand_cold);

		if (pp != NULL && base_queue(pp) == COLD)
			return pp;
		p->p_hand_cold = p->p_node[p->p_hand_cold].n_next;
	}
}

static void clockpro_decide(void *state, struct page *pp, bool referenced)
{
	struct clockpro *p = state;
	uint32_t n = node_of(p, pp);

	if ((base_own(pp) & OWN_HOT) != 0) {
		if (base_queue(pp) == HOT)
			pass_hot(p, pp, referenced);
		else
			base_move(&p->p_base, pp, HOT);
		return;
	}
	unlink_node(p, n);
	link_head(p, n);
	if ((base_own(pp) & OWN_TEST) == 0) {
		base_move(&p->p_base, pp, COLD);
		base_set_own(pp, OWN_TEST);
		return;
	}
	more_cold(p);
	base_move(&p->p_base, pp, HOT);
	base_set_own(pp, OWN_HOT);
	p->p_nhot++;
	run_hot(p);
}

static const struct pol_inner inner = { .in_pick = clockpro_pick, .in_decide = clockpro_decide };

/* ---- the interface ---- */
static void cp_resize(void *state, pfn_t room)
{
	struct clockpro *p = state;

	p->p_base.b_room = room;
	if (p->p_mc == 0)
		p->p_mc = room / COLD_PART;
	if (p->p_mc >= room)
		p->p_mc = room - 1;
	if (p->p_mc == 0)
		p->p_mc = 1;
	while (ghosts_len(&p->p_ghosts, 0) > room)
		run_test(p);
	run_hot(p);
}

static bool cp_miss(void *state, uint64_t id, bool fresh)
{
	struct clockpro *p = state;
	uint32_t i = ghosts_find(&p->p_ghosts, id);

	if (i != 0 && fresh) {
		forget_ghost(p, i);
		i = 0;
	}
	return i != 0;
}

static void cp_insert(void *state, struct page *pp, uint64_t id, bool prefetched)
{
	struct clockpro *p = state;
	uint32_t i = ghosts_find(&p->p_ghosts, id);
	bool hot = i != 0 && !prefetched;

	if (hot)
		more_cold(p);
	if (i != 0)
		forget_ghost(p, i);
	base_insert(&p->p_base, pp, hot ? HOT : COLD);
	if (hot)
		base_set_own(pp, OWN_HOT);
	else
		base_set_own(pp, prefetched ? 0 : OWN_TEST);
	link_head(p, node_of(p, pp));
	p->p_nhot += hot;
	if (hot)
		run_hot(p);
}

/* A ghost takes the page's place in the list. */
static void leave_ghost(struct clockpro *p, uint32_t n, uint64_t id)
{
	uint32_t g = p->p_nframes + ghosts_add(&p->p_ghosts, 0, id);
	struct node *v = p->p_node;

	if (p->p_hand_cold == n)
		p->p_hand_cold = v[n].n_next;
	if (v[n].n_next == n) {
		v[g].n_next = v[g].n_prev = g;
		p->p_hand_cold = g;
	} else {
		v[g] = v[n];
		v[v[g].n_next].n_prev = g;
		v[v[g].n_prev].n_next = g;
	}
	if (p->p_hand_hot == n)
		p->p_hand_hot = g;
	if (p->p_hand_test == n)
		p->p_hand_test = g;
	while (ghosts_len(&p->p_ghosts, 0) > p->p_base.b_room)
		run_test(p);
}

static void cp_remove(void *state, struct page *pp, uint64_t id, bool evicted)
{
	struct clockpro *p = state;
	unsigned own = base_own(pp);

	base_remove(&p->p_base, pp);
	if ((own & OWN_HOT) != 0)
		p->p_nhot--;
	if (evicted && own == OWN_TEST)
		leave_ghost(p, node_of(p, pp), id);
	else
		unlink_node(p, node_of(p, pp));
}

static void cp_touch(void *state, struct page *pp)
{
	struct clockpro *p = state;

	if (!base_touch(&p->p_base, p, &inner, pp))
		pp->p_polstate |= PS_REF;
}

static struct page *cp_next(void *state, enum pol_ask *ask)
{
	return base_next(&((struct clockpro *)state)->p_base, state, &inner, ask);
}

static void cp_seen(void *state, struct page *pp, bool referenced, bool skipped)
{
	base_seen(&((struct clockpro *)state)->p_base, state, &inner, pp, referenced, skipped);
}

static void cp_cool(void *state, struct page *pp)
{
	base_cool(&((struct clockpro *)state)->p_base, pp);
}

static uint32_t cp_pages(const void *state)
{
	const struct pol_base *b = &((const struct clockpro *)state)->p_base;

	return base_pages(b) + base_len(b, PQ_LEAVING);
}

const struct policy_ops policy_clockpro = {
	.pol_name = "clockpro",
	.pol_about = "CLOCK-Pro: reuse distances (Jiang, Chen and Zhang 2005)",
	.pol_history = true,
	.pol_size = cp_size,
	.pol_init = cp_init,
	.pol_resize = cp_resize,
	.pol_miss = cp_miss,
	.pol_insert = cp_insert,
	.pol_remove = cp_remove,
	.pol_touch = cp_touch,
	.pol_next = cp_next,
	.pol_cool = cp_cool,
	.pol_pages = cp_pages,
	.pol_seen = cp_seen,
};
