/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two-handed clock (Babaoglu and Joy, SOSP 1981; as in SVR4 and Solaris), kept as two queues.
 *
 * The front hand takes the oldest page of the active queue and clears its reference state; the page
 * then waits in the inactive queue, whose length is the hand spread. The back hand takes the oldest
 * inactive page: if it was referenced meanwhile, it goes to the tail of the active queue; otherwise
 * it may be evicted.
 *
 * Where the hardware has no reference bits, "clears its reference state" means that the translation is dropped: the page
 * keeps its name and contents, and the next access shows as a fault that needs no I/O (pol_touch). That is the segmented
 * FIFO of Turner and Levy (SIGMETRICS 1981), whose hit ratio nears LRU's with a short second segment.
 *
 * The spread is one eighth of the pages: on uniformly random access it costs about spread/resident
 * of the faults as rescues, and on skewed access it still separates hot pages from cold ones.
 *
 * The policy itself has what base.h calls standby, so it uses only the queues of base.h. All under
 * vm_pollock.
 */
#include "base.h"

enum { ACTIVE = PQ_1, INACTIVE = PQ_2 };
#define SPREAD_SHIFT 3u

struct clock2 {
	struct pol_base
	    c_base; /* b_steps: pages looked at since a page was last evicted or inserted: bounds a
	             * round */
};

static size_t clock2_size(pfn_t nframes) { return sizeof(struct clock2); }

static void clock2_init(void *state, const struct pol_env *env)
{
	base_init(&((struct clock2 *)state)->c_base, env);
}

static void clock2_resize(void *state, pfn_t room)
{
	((struct clock2 *)state)->c_base.b_room = room;
}

static bool clock2_miss(void *state, uint64_t id, bool fresh) { return false; }

static void clock2_insert(void *state, struct page *pp, uint64_t id, bool prefetched)
{
	/* A page that no access asked for yet (read ahead) waits at the place where the hand looks
	 * first. */
	base_insert(&((struct clock2 *)state)->c_base, pp, prefetched ? INACTIVE : ACTIVE);
}

static void clock2_remove(void *state, struct page *pp, uint64_t id, bool evicted)
{
	base_remove(&((struct clock2 *)state)->c_base, pp);
}

static void clock2_touch(void *state, struct page *pp)
{
	if (base_queue(pp) != ACTIVE)
		base_move(&((struct clock2 *)state)->c_base, pp, ACTIVE);
}

static struct page *clock2_next(void *state, enum pol_ask *ask)
{
	struct pol_base *b = &((struct clock2 *)state)->c_base;
	uint32_t active = base_len(b, ACTIVE), inactive = base_len(b, INACTIVE),
		 all = base_pages(b);

	if (all == 0)
		return NULL;
	if (b->b_steps > 2 * all + 2)
		return base_probe(b, ask);
	b->b_steps++;
	if (base_len(b, PQ_COLD) > 0) {
		*ask = POL_ASK_EVICT;
		return base_head(b, PQ_COLD);
	}
	if (active > 0 && (inactive == 0 || inactive <= all >> SPREAD_SHIFT)) {
		*ask = POL_ASK_AGE;
		return base_head(b, ACTIVE);
	}
	*ask = POL_ASK_EVICT;
	return base_head(b, INACTIVE);
}

static void clock2_seen(void *state, struct page *pp, bool referenced, bool skipped)
{
	struct pol_base *b = &((struct clock2 *)state)->c_base;

	if (base_probing(b) && (skipped || referenced))
		base_move(b, pp, base_queue(pp));
	else if (skipped)
		base_move(b, pp, ACTIVE);
	else if (base_queue(pp) == ACTIVE)
		base_move(b, pp, INACTIVE);
	else
		base_move(b, pp, referenced ? ACTIVE : INACTIVE);
}

static void clock2_cool(void *state, struct page *pp)
{
	base_cool(&((struct clock2 *)state)->c_base, pp);
}

static uint32_t clock2_pages(const void *state)
{
	const struct pol_base *b = &((const struct clock2 *)state)->c_base;

	return base_pages(b) + base_len(b, PQ_LEAVING);
}

const struct policy_ops policy_clock2 = {
	.pol_name = "clock2",
	.pol_about = "two-handed clock (Babaoglu and Joy 1981); the default of the core",
	.pol_size = clock2_size,
	.pol_init = clock2_init,
	.pol_resize = clock2_resize,
	.pol_miss = clock2_miss,
	.pol_insert = clock2_insert,
	.pol_remove = clock2_remove,
	.pol_touch = clock2_touch,
	.pol_next = clock2_next,
	.pol_cool = clock2_cool,
	.pol_pages = clock2_pages,
	.pol_seen = clock2_seen,
};
