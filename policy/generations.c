/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Generations, after Linux' multi-generational LRU (Yu Zhao, "Multigenerational LRU Framework", 2021-2022), with refault
 * distances (Johannes Weiner, "mm: thrash detection-based file cache sizing", 2014; there "workingset").
 *
 * Vocabulary: pages are in two to four generations, numbered from the oldest (min) to the youngest (max). Eviction takes the
 * oldest page of the oldest generation; if it was used it goes to the youngest instead. When the
 * oldest generation is empty the next becomes the oldest; if only one would be left, a new
 * generation is begun first (*aging*), and every page known to have been used since the last aging
 * moves to it.
 *
 * A page without history enters the second oldest generation: it must be used once to stay long.
 * Evictions are remembered (history.h). When a page comes back, the number of evictions since its
 * own is its *refault distance*: the number of frames that were missing to keep it. If that
 * distance is no more than the number of pages outside of the oldest generation, the page is as
 * worth keeping as they are: it enters the youngest.
 *
 * Left out of the original: walking page tables for bits (where there are bits, they are looked at in eviction only), tiers
 * by number of uses, and the controller that balances files against anonymous pages.
 *
 * Invariants: 1 <= max - min <= 3; a page of generation g is on queue PQ_1 + g % 4.
 */
#include "base.h"
#include "history.h"

struct gens {
	struct pol_base g_base;
	struct history g_history;
	uint32_t g_min, g_max;
	bool g_used; /* a page may be known to have been used since the last aging */
};

static size_t gens_size(pfn_t nframes) { return sizeof(struct gens) + history_size(nframes + 1); }

static void gens_init(void *state, const struct pol_env *env)
{
	struct gens *g = state;

	base_init(&g->g_base, env);
	history_init(&g->g_history, g + 1, env->pe_nframes + 1);
	g->g_min = 0;
	g->g_max = 1;
}

static void gens_resize(void *state, pfn_t room) { ((struct gens *)state)->g_base.b_room = room; }

static unsigned queue_of(uint32_t gen) { return PQ_1 + gen % 4; }

static bool gens_miss(void *state, uint64_t id, bool fresh)
{
	struct gens *g = state;

	if (fresh)
		history_forget(&g->g_history, id);
	return history_since(&g->g_history, id) != 0;
}

static uint32_t outside_oldest(const struct gens *g)
{
	uint32_t n = 0;

	for (uint32_t gen = g->g_min + 1; gen <= g->g_max; gen++)
		n += base_len(&g->g_base, queue_of(gen));
	return n;
}

static void gens_insert(void *state, struct page *pp, uint64_t id, bool prefetched)
{
	struct gens *g = state;
	uint32_t since = history_since(&g->g_history, id), gen = g->g_min + 1;

	if (since != 0) {
		if (since <= outside_oldest(g))
			gen = g->g_max;
		history_forget(&g->g_history, id);
	}
	base_insert(&g->g_base, pp, queue_of(prefetched ? g->g_min : gen));
}

static void gens_remove(void *state, struct page *pp, uint64_t id, bool evicted)
{
	struct gens *g = state;

	base_remove(&g->g_base, pp);
	if (!evicted)
		return;
	history_forget(&g->g_history, id);
	history_add(&g->g_history, id);
}

static void begin_generation(struct gens *g)
{
	struct pol_base *b = &g->g_base;
	uint32_t last = g->g_max++;

	if (!g->g_used)
		return;
	g->g_used = false;
	for (uint32_t gen = g->g_min; gen <= last; gen++) {
		struct page *next;

		for (struct page *pp = base_head(b, queue_of(gen)); pp != NULL; pp = next) {
			next = base_page(b, pp->p_next);
			if ((pp->p_polstate & PS_REF) == 0)
				continue;
			pp->p_polstate &= (uint8_t)~PS_REF;
			base_move(b, pp, queue_of(g->g_max));
		}
	}
}

static struct page *gens_pick(void *state, bool *aging)
{
	struct gens *g = state;
	struct page *pp;

	/* Ages at most four times: then every generation has been the oldest. */
	for (unsigned turn = 0; turn < 4; turn++) {
		if ((pp = base_head(&g->g_base, queue_of(g->g_min))) != NULL)
			return pp;
		if (g->g_max - g->g_min == 1)
			begin_generation(g);
		g->g_min++;
	}
	return base_head(&g->g_base, queue_of(g->g_min));
}

static void gens_decide(void *state, struct page *pp, bool referenced)
{
	struct gens *g = state;

	base_move(&g->g_base, pp, queue_of(g->g_max));
}

static const struct pol_inner inner = { .in_pick = gens_pick, .in_decide = gens_decide };

static void gens_touch(void *state, struct page *pp)
{
	struct gens *g = state;

	if (base_touch(&g->g_base, g, &inner, pp))
		return;
	pp->p_polstate |= PS_REF;
	g->g_used = true;
}

static struct page *gens_next(void *state, enum pol_ask *ask)
{
	return base_next(&((struct gens *)state)->g_base, state, &inner, ask);
}

static void gens_seen(void *state, struct page *pp, bool referenced, bool skipped)
{
	base_seen(&((struct gens *)state)->g_base, state, &inner, pp, referenced, skipped);
}

static void gens_cool(void *state, struct page *pp)
{
	base_cool(&((struct gens *)state)->g_base, pp);
}

static uint32_t gens_pages(const void *state)
{
	const struct pol_base *b = &((const struct gens *)state)->g_base;

	return base_pages(b) + base_len(b, PQ_LEAVING);
}

const struct policy_ops policy_generations = {
	.pol_name = "generations",
	.pol_about =
	    "generations with refault distances, after MGLRU (Zhao 2022, Weiner 2014); the default of quire run",
	.pol_history = true,
	.pol_size = gens_size,
	.pol_init = gens_init,
	.pol_resize = gens_resize,
	.pol_miss = gens_miss,
	.pol_insert = gens_insert,
	.pol_remove = gens_remove,
	.pol_touch = gens_touch,
	.pol_next = gens_next,
	.pol_cool = gens_cool,
	.pol_pages = gens_pages,
	.pol_seen = gens_seen,
};
