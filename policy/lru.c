/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Least recently used (Denning's and Belady's yardstick; stack algorithm: Mattson, Gecsei, Slutz and Traiger, IBM Systems
 * Journal 9(2), 1970).
 *
 * One queue in the order of last use. LRU is exact where every reference is reported and an
 * approximation elsewhere: by reference bits it is the one-handed clock kept as a queue, by faults
 * the segmented FIFO that base.h describes.
 *
 * Invariant (every reference reported): the k pages of a memory of k frames are among those of a
 * memory of k + 1.
 */
#include "base.h"

struct lru {
	struct pol_base l_base;
};

static size_t lru_size(pfn_t nframes) { return sizeof(struct lru); }

static void lru_init(void *state, const struct pol_env *env)
{
	base_init(&((struct lru *)state)->l_base, env);
}

static void lru_resize(void *state, pfn_t room) { ((struct lru *)state)->l_base.b_room = room; }

static bool lru_miss(void *state, uint64_t id, bool fresh) { return false; }

static void lru_insert(void *state, struct page *pp, uint64_t id, bool prefetched)
{
	base_insert(&((struct lru *)state)->l_base, pp, PQ_1);
}

static void lru_remove(void *state, struct page *pp, uint64_t id, bool evicted)
{
	base_remove(&((struct lru *)state)->l_base, pp);
}

static struct page *lru_pick(void *state, bool *aging)
{
	return base_head(&((struct lru *)state)->l_base, PQ_1);
}

static void lru_decide(void *state, struct page *pp, bool referenced)
{
	base_move(&((struct lru *)state)->l_base, pp, PQ_1);
}

static const struct pol_inner inner = { .in_pick = lru_pick, .in_decide = lru_decide };

static void lru_touch(void *state, struct page *pp)
{
	struct lru *l = state;

	if (!base_touch(&l->l_base, l, &inner, pp))
		base_move(&l->l_base, pp, PQ_1);
}

static struct page *lru_next(void *state, enum pol_ask *ask)
{
	return base_next(&((struct lru *)state)->l_base, state, &inner, ask);
}

static void lru_seen(void *state, struct page *pp, bool referenced, bool skipped)
{
	base_seen(&((struct lru *)state)->l_base, state, &inner, pp, referenced, skipped);
}

static void lru_cool(void *state, struct page *pp)
{
	base_cool(&((struct lru *)state)->l_base, pp);
}

static uint32_t lru_pages(const void *state)
{
	const struct pol_base *b = &((const struct lru *)state)->l_base;

	return base_pages(b) + base_len(b, PQ_LEAVING);
}

const struct policy_ops policy_lru = {
	.pol_name = "lru",
	.pol_about = "least recently used, as far as use is seen",
	.pol_size = lru_size,
	.pol_init = lru_init,
	.pol_resize = lru_resize,
	.pol_miss = lru_miss,
	.pol_insert = lru_insert,
	.pol_remove = lru_remove,
	.pol_touch = lru_touch,
	.pol_next = lru_next,
	.pol_cool = lru_cool,
	.pol_pages = lru_pages,
	.pol_seen = lru_seen,
};
