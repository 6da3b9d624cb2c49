/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ARC, the adaptive replacement cache (Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003,
 * figure 4).
 *
 * Vocabulary: T1 holds the pages used once lately, T2 those used at least twice, each in the order
 * of last use; B1 and B2 hold the ghosts of pages evicted from them; L1 = T1 + B1, L2 = T2 + B2; c
 * is the capacity; p the length that T1 should have. A refault of a ghost of B1 shows that T1 was
 * too short and raises p; a refault of a ghost of B2 lowers it. The step is 1 or the ratio of the
 * lists (rounded down).
 *
 * The replacement depends on the page that is coming in, so ARC wants pol_miss before room is made.
 * A page evicted from T1 while T1 alone fills L1 leaves no ghost (case IV A of the paper).
 *
 * Invariants when every page comes through pol_miss: |L1| <= c, |L1| + |L2| <= 2c, 0 <= p <= c.
 *
 * Own bits of a page: T2 or not, kept while the page is on standby or leaving.
 */
#include "base.h"
#include "ghost.h"

enum { T1 = PQ_1, T2 = PQ_2, B1 = 0, B2 = 1, OWN_T2 = 1 };

struct arc {
	struct pol_base a_base;
	struct ghosts a_ghosts;
	uint32_t a_p;
	bool a_in_b2;    /* the page that is coming in is a ghost of B2 */
	bool a_no_ghost; /* the next page evicted from T1 leaves no ghost */
};

static size_t arc_size(pfn_t nframes) { return sizeof(struct arc) + ghosts_size(nframes + 1); }

static void arc_init(void *state, const struct pol_env *env)
{
	struct arc *a = state;

	base_init(&a->a_base, env);
	ghosts_init(&a->a_ghosts, a + 1, env->pe_nframes + 1);
}

static void arc_resize(void *state, pfn_t room)
{
	struct arc *a = state;

	a->a_base.b_room = room;
	if (a->a_p > room)
		a->a_p = room;
}

static uint32_t step_ratio(uint32_t other, uint32_t own)
{
	return own == 0 || own >= other ? 1 : other / own;
}

/* Makes room on the lists for a page without history (case IV), before the replacement. */
static void trim_lists(struct arc *a)
{
	struct pol_base *b = &a->a_base;
	struct ghosts *g = &a->a_ghosts;
	uint32_t c = b->b_room, l1 = base_len(b, T1) + ghosts_len(g, B1);

	a->a_no_ghost = false;
	if (l1 >= c) {
		if (ghosts_len(g, B1) > 0)
			ghosts_drop(g, ghosts_oldest(g, B1));
		else
			a->a_no_ghost = true;
	} else if (l1 + base_len(b, T2) + ghosts_len(g, B2) >= 2 * c && ghosts_len(g, B2) > 0) {
		ghosts_drop(g, ghosts_oldest(g, B2));
	}
}

static bool arc_miss(void *state, uint64_t id, bool fresh)
{
	struct arc *a = state;
	struct ghosts *g = &a->a_ghosts;
	uint32_t i = ghosts_find(g, id), d;

	a->a_in_b2 = false;
	if (i != 0 && fresh) {
		ghosts_drop(g, i);
		i = 0;
	}
	if (i == 0) {
		trim_lists(a);
		return false;
	}
	a->a_no_ghost = false;
	if (g->gs_ghost[i].g_list == B1) {
		d = step_ratio(ghosts_len(g, B2), ghosts_len(g, B1));
		a->a_p = a->a_p + d > a->a_base.b_room ? a->a_base.b_room : a->a_p + d;
	} else {
		d = step_ratio(ghosts_len(g, B1), ghosts_len(g, B2));
		a->a_p = a->a_p < d ? 0 : a->a_p - d;
		a->a_in_b2 = true;
	}
	return true;
}

static void arc_insert(void *state, struct page *pp, uint64_t id, bool prefetched)
{
	struct arc *a = state;
	uint32_t i = ghosts_find(&a->a_ghosts, id);

	if (i != 0)
		ghosts_drop(&a->a_ghosts, i);
	if (prefetched)
		trim_lists(a);
	a->a_in_b2 = a->a_no_ghost = false;
	base_insert(&a->a_base, pp, i != 0 && !prefetched ? T2 : T1);
	base_set_own(pp, i != 0 && !prefetched ? OWN_T2 : 0);
}

static void arc_remove(void *state, struct page *pp, uint64_t id, bool evicted)
{
	struct arc *a = state;
	bool t2 = base_own(pp) == OWN_T2;

	base_remove(&a->a_base, pp);
	if (!evicted)
		return;
	ghosts_forget(&a->a_ghosts, id);
	if (t2 || !a->a_no_ghost)
		(void)ghosts_add(&a->a_ghosts, t2 ? B2 : B1, id);
}

/* REPLACE of the paper. */
static struct page *arc_pick(void *state, bool *aging)
{
	struct arc *a = state;
	struct pol_base *b = &a->a_base;
	uint32_t t1 = base_len(b, T1);

	if (t1 > 0 &&
	    (a->a_no_ghost || t1 > a->a_p || (a->a_in_b2 && t1 == a->a_p) || base_len(b, T2) == 0))
		return base_head(b, T1);
	return base_head(b, T2);
}

static void arc_decide(void *state, struct page *pp, bool referenced)
{
	base_move(&((struct arc *)state)->a_base, pp, T2);
	base_set_own(pp, OWN_T2);
}

static const struct pol_inner inner = { .in_pick = arc_pick, .in_decide = arc_decide };

static void arc_touch(void *state, struct page *pp)
{
	struct arc *a = state;

	if (!base_touch(&a->a_base, a, &inner, pp))
		arc_decide(a, pp, true);
}

static struct page *arc_next(void *state, enum pol_ask *ask)
{
	return base_next(&((struct arc *)state)->a_base, state, &inner, ask);
}

static void arc_seen(void *state, struct page *pp, bool referenced, bool skipped)
{
	base_seen(&((struct arc *)state)->a_base, state, &inner, pp, referenced, skipped);
}

static void arc_cool(void *state, struct page *pp)
{
	base_cool(&((struct arc *)state)->a_base, pp);
}

static uint32_t arc_pages(const void *state)
{
	const struct pol_base *b = &((const struct arc *)state)->a_base;

	return base_pages(b) + base_len(b, PQ_LEAVING);
}

const struct policy_ops policy_arc = {
	.pol_name = "arc",
	.pol_about = "adaptive replacement cache (Megiddo and Modha 2003)",
	.pol_miss_first = true,
	.pol_history = true,
	.pol_size = arc_size,
	.pol_init = arc_init,
	.pol_resize = arc_resize,
	.pol_miss = arc_miss,
	.pol_insert = arc_insert,
	.pol_remove = arc_remove,
	.pol_touch = arc_touch,
	.pol_next = arc_next,
	.pol_cool = arc_cool,
	.pol_pages = arc_pages,
	.pol_seen = arc_seen,
};
