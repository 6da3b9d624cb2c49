/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CAR, clock with adaptive replacement (Bansal and Modha, "CAR: Clock with Adaptive Replacement", FAST 2004, figure 2).
 *
 * Vocabulary: as in arc.c, but T1 and T2 are clocks: a use only sets the page's reference bit. A hand that meets a
 * referenced page clears the bit and moves the page to the tail of T2. The hand of T1 runs while T1 is not shorter than
 * its target p, else that of T2.
 *
 * Invariants: |T1| + |B1| <= c, all four lists together <= 2c, 0 <= p <= c. A page is in T2 only if
 * it was used again after it came in, or came back while it was a ghost.
 *
 * Own bits of a page: T2 or not, kept while the page is on standby or leaving.
 */
#include "base.h"
#include "ghost.h"

enum { T1 = PQ_1, T2 = PQ_2, B1 = 0, B2 = 1, OWN_T2 = 1 };

struct car {
	struct pol_base c_base;
	struct ghosts c_ghosts;
	uint32_t c_p;
};

static size_t car_size(pfn_t nframes) { return sizeof(struct car) + ghosts_size(nframes + 1); }

static void car_init(void *state, const struct pol_env *env)
{
	struct car *c = state;

	base_init(&c->c_base, env);
	ghosts_init(&c->c_ghosts, c + 1, env->pe_nframes + 1);
}

static void car_resize(void *state, pfn_t room)
{
	struct car *c = state;

	c->c_base.b_room = room;
	if (c->c_p > room)
		c->c_p = room;
}

static bool car_miss(void *state, uint64_t id, bool fresh)
{
	struct car *c = state;

	if (fresh)
		ghosts_forget(&c->c_ghosts, id);
	return ghosts_find(&c->c_ghosts, id) != 0;
}

static void adapt_target(struct car *c, bool b1)
{
	uint32_t own = ghosts_len(&c->c_ghosts, b1 ? B1 : B2),
		 other = ghosts_len(&c->c_ghosts, b1 ? B2 : B1);
	uint32_t d = own >= other ? 1 : other / own;

	if (b1)
		c->c_p = c->c_p + d > c->c_base.b_room ? c->c_base.b_room : c->c_p + d;
	else
		c->c_p = c->c_p < d ? 0 : c->c_p - d;
}

/* Makes room on the lists for a page without history. */
static void trim_lists(struct car *c)
{
	struct pol_base *b = &c->c_base;
	struct ghosts *g = &c->c_ghosts;
	uint32_t l1 = base_len(b, T1) + ghosts_len(g, B1), l2 = base_len(b, T2) + ghosts_len(g, B2);

	if (l1 >= b->b_room && ghosts_len(g, B1) > 0)
		ghosts_drop(g, ghosts_oldest(g, B1));
	else if (l1 + l2 >= 2 * b->b_room && ghosts_len(g, B2) > 0)
		ghosts_drop(g, ghosts_oldest(g, B2));
}

static void car_insert(void *state, struct page *pp, uint64_t id, bool prefetched)
{
	struct car *c = state;
	uint32_t i = ghosts_find(&c->c_ghosts, id);
	bool t2 = i != 0 && !prefetched;

	if (t2)
		adapt_target(c, c->c_ghosts.gs_ghost[i].g_list == B1);
	if (i != 0)
		ghosts_drop(&c->c_ghosts, i);
	else
		trim_lists(c);
	base_insert(&c->c_base, pp, t2 ? T2 : T1);
	base_set_own(pp, t2 ? OWN_T2 : 0);
}

static void car_remove(void *state, struct page *pp, uint64_t id, bool evicted)
{
	struct car *c = state;
	bool t2 = base_own(pp) == OWN_T2;

	base_remove(&c->c_base, pp);
	if (!evicted)
		return;
	ghosts_forget(&c->c_ghosts, id);
	(void)ghosts_add(&c->c_ghosts, t2 ? B2 : B1, id);
}

static struct page *car_pick(void *state, bool *aging)
{
	struct car *c = state;
	struct pol_base *b = &c->c_base;
	uint32_t t1 = base_len(b, T1);

	if (t1 > 0 && (t1 >= c->c_p || base_len(b, T2) == 0))
		return base_head(b, T1);
	return base_head(b, T2);
}

static void car_decide(void *state, struct page *pp, bool referenced)
{
	base_move(&((struct car *)state)->c_base, pp, T2);
	base_set_own(pp, OWN_T2);
}

static const struct pol_inner inner = { .in_pick = car_pick, .in_decide = car_decide };

static void car_touch(void *state, struct page *pp)
{
	struct car *c = state;

	if (!base_touch(&c->c_base, c, &inner, pp))
		pp->p_polstate |= PS_REF;
}

static struct page *car_next(void *state, enum pol_ask *ask)
{
	return base_next(&((struct car *)state)->c_base, state, &inner, ask);
}

static void car_seen(void *state, struct page *pp, bool referenced, bool skipped)
{
	base_seen(&((struct car *)state)->c_base, state, &inner, pp, referenced, skipped);
}

static void car_cool(void *state, struct page *pp)
{
	base_cool(&((struct car *)state)->c_base, pp);
}

static uint32_t car_pages(const void *state)
{
	const struct pol_base *b = &((const struct car *)state)->c_base;

	return base_pages(b) + base_len(b, PQ_LEAVING);
}

const struct policy_ops policy_car = {
	.pol_name = "car",
	.pol_about = "clock with adaptive replacement (Bansal and Modha 2004)",
	.pol_history = true,
	.pol_size = car_size,
	.pol_init = car_init,
	.pol_resize = car_resize,
	.pol_miss = car_miss,
	.pol_insert = car_insert,
	.pol_remove = car_remove,
	.pol_touch = car_touch,
	.pol_next = car_next,
	.pol_cool = car_cool,
	.pol_pages = car_pages,
	.pol_seen = car_seen,
};
