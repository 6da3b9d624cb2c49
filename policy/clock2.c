/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two-handed clock (Babaoglu and Joy, SOSP 1981; as in SVR4 and Solaris), kept as two queues.
 *
 * The front hand takes the oldest page of the active queue and clears its reference state; the page then waits in the
 * inactive queue, whose length is the hand spread. The back hand takes the oldest inactive page: referenced meanwhile, it
 * goes to the tail of the active queue; otherwise it may be evicted.
 *
 * Where the hardware has no reference bits, "clears its reference state" means that the translation is dropped: the page
 * keeps its name and contents, and the next access shows as a fault that needs no I/O (pol_touch). That is the segmented
 * FIFO of Turner and Levy (SIGMETRICS 1981), whose hit ratio nears LRU's with a short second segment.
 *
 * The spread is one eighth of the pages: the rescues it costs are about spread/resident of the faults on uniformly random
 * access, and it still separates hot from cold on skewed access.
 *
 * p_polstate: ACTIVE or INACTIVE. All under vm_pagelock.
 */
#include <quire/policy.h>

enum { ACTIVE = 1, INACTIVE = 2 };
#define SPREAD_SHIFT 3u

struct clock2 {
	struct vm *c_vm;
	struct page_queue c_active, c_inactive;
	uint32_t c_steps; /* looked at since a page was last evicted or inserted: bounds a round */
};

static size_t clock2_size(pfn_t nframes)
{
	return sizeof(struct clock2);
}

static void clock2_init(void *state, struct vm *vm, pfn_t nframes)
{
	struct clock2 *c = state;

	c->c_vm = vm;
	page_queue_init(&c->c_active);
	page_queue_init(&c->c_inactive);
	c->c_steps = 0;
}

static void to_tail(struct clock2 *c, struct page *pp, uint8_t where)
{
	pp->p_polstate = where;
	page_queue_push_tail(c->c_vm, where == ACTIVE ? &c->c_active : &c->c_inactive, pp);
}

static void take(struct clock2 *c, struct page *pp)
{
	page_queue_remove(c->c_vm, pp->p_polstate == ACTIVE ? &c->c_active : &c->c_inactive, pp);
	pp->p_polstate = 0;
}

static void clock2_insert(void *state, struct page *pp, uint64_t id, bool prefetched)
{
	struct clock2 *c = state;

	/* What nobody asked for yet waits where it is looked at first. */
	to_tail(c, pp, prefetched ? INACTIVE : ACTIVE);
	c->c_steps = 0;
}

static void clock2_remove(void *state, struct page *pp, uint64_t id, bool evicted)
{
	struct clock2 *c = state;

	take(c, pp);
	c->c_steps = 0;
}

static void clock2_touch(void *state, struct page *pp)
{
	struct clock2 *c = state;

	if (pp->p_polstate == INACTIVE) {
		take(c, pp);
		to_tail(c, pp, ACTIVE);
	}
}

static struct page *clock2_next(void *state, bool *deactivate)
{
	struct clock2 *c = state;
	uint32_t all = c->c_active.q_len + c->c_inactive.q_len;

	if (all == 0 || c->c_steps > 2 * all + 2) {
		c->c_steps = 0;
		return NULL;
	}
	c->c_steps++;
	if (c->c_active.q_len > 0 && (c->c_inactive.q_len == 0 || c->c_inactive.q_len <= all >> SPREAD_SHIFT)) {
		*deactivate = true;
		return page_queue_head(c->c_vm, &c->c_active);
	}
	*deactivate = false;
	return page_queue_head(c->c_vm, &c->c_inactive);
}

static void clock2_seen(void *state, struct page *pp, bool referenced, bool skipped)
{
	struct clock2 *c = state;
	uint8_t where = pp->p_polstate;

	take(c, pp);
	if (skipped)
		to_tail(c, pp, ACTIVE);
	else if (where == ACTIVE)
		to_tail(c, pp, INACTIVE);
	else
		to_tail(c, pp, referenced ? ACTIVE : INACTIVE);
}

const struct policy_ops policy_clock2 = {
	.pol_name = "clock2",
	.pol_size = clock2_size,
	.pol_init = clock2_init,
	.pol_insert = clock2_insert,
	.pol_remove = clock2_remove,
	.pol_touch = clock2_touch,
	.pol_next = clock2_next,
	.pol_seen = clock2_seen,
};
