/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023, algorithm 1).
 *
 * Vocabulary: S, the small FIFO of a tenth of the capacity, where pages without history enter; M,
 * the main FIFO; G, the ghosts of pages evicted from S, as many as M may have. A use only raises
 * the page's count, up to 3. At the head of S a page used more than once moves to M, its count
 * cleared; any other is evicted and becomes a ghost. At the head of M a page with a count above 0
 * goes to the tail, its count lowered by one. A page that comes back while it is a ghost enters M
 * at once. So most pages of a scan pass through S alone.
 *
 * The choice of the queue that evicts is that of the authors' code: M if it is over its share (nine
 * tenths) or S is empty, otherwise S; so each miss evicts one page.
 *
 * Where use shows only at the hand, uses cannot be counted. There a second use that is seen lifts a
 * page of S to M.
 *
 * Own bits of a page: count (two), and M or not, kept while the page is on standby or leaving.
 */
#include "base.h"
#include "ghost.h"

enum { S = PQ_1, M = PQ_2, OWN_COUNT = 3, OWN_M = 4 };
#define SMALL_PART 10u

struct s3 {
	struct pol_base s_base;
	struct ghosts s_ghosts;
};

static size_t s3_size(pfn_t nframes) { return sizeof(struct s3) + ghosts_size(nframes + 1); }

static void s3_init(void *state, const struct pol_env *env)
{
	struct s3 *s = state;

	base_init(&s->s_base, env);
	ghosts_init(&s->s_ghosts, s + 1, env->pe_nframes + 1);
}

static void s3_resize(void *state, pfn_t room) { ((struct s3 *)state)->s_base.b_room = room; }

/* How many pages M may have. */
static uint32_t main_room(const struct s3 *s)
{
	uint32_t small = s->s_base.b_room / SMALL_PART;

	return s->s_base.b_room - (small == 0 ? 1 : small);
}

static bool s3_miss(void *state, uint64_t id, bool fresh)
{
	struct s3 *s = state;

	if (fresh)
		ghosts_forget(&s->s_ghosts, id);
	return ghosts_find(&s->s_ghosts, id) != 0;
}

static void move_to(struct s3 *s, struct page *pp, unsigned queue)
{
	base_move(&s->s_base, pp, queue);
	base_set_own(pp, queue == M ? OWN_M : 0);
}

static void s3_insert(void *state, struct page *pp, uint64_t id, bool prefetched)
{
	struct s3 *s = state;
	uint32_t i = ghosts_find(&s->s_ghosts, id);

	if (i != 0)
		ghosts_drop(&s->s_ghosts, i);
	base_insert(&s->s_base, pp, i != 0 && !prefetched ? M : S);
	base_set_own(pp, i != 0 && !prefetched ? OWN_M : 0);
}

static void s3_remove(void *state, struct page *pp, uint64_t id, bool evicted)
{
	struct s3 *s = state;
	bool small = (base_own(pp) & OWN_M) == 0;

	base_remove(&s->s_base, pp);
	if (!evicted || !small)
		return;
	ghosts_forget(&s->s_ghosts, id);
	(void)ghosts_add(&s->s_ghosts, 0, id);
	while (ghosts_len(&s->s_ghosts, 0) > main_room(s))
		ghosts_drop(&s->s_ghosts, ghosts_oldest(&s->s_ghosts, 0));
}

static struct page *s3_pick(void *state, bool *aging)
{
	struct s3 *s = state;
	struct pol_base *b = &s->s_base;
	struct page *pp;

	for (;;) {
		if (base_len(b, M) > main_room(s) || base_len(b, S) == 0) {
			if ((pp = base_head(b, M)) == NULL || (base_own(pp) & OWN_COUNT) == 0)
				return pp;
			base_set_own(pp, base_own(pp) - 1);
			base_move(b, pp, M);
		} else {
			pp = base_head(b, S);
			if (base_own(pp) <= 1)
				return pp;
			move_to(s, pp, M);
		}
	}
}

static void s3_decide(void *state, struct page *pp, bool referenced) { move_to(state, pp, M); }

static const struct pol_inner inner = { .in_pick = s3_pick, .in_decide = s3_decide };

static void s3_touch(void *state, struct page *pp)
{
	struct s3 *s = state;

	if (!base_touch(&s->s_base, s, &inner, pp) && (base_own(pp) & OWN_COUNT) < 3)
		base_set_own(pp, base_own(pp) + 1);
}

static struct page *s3_next(void *state, enum pol_ask *ask)
{
	return base_next(&((struct s3 *)state)->s_base, state, &inner, ask);
}

static void s3_seen(void *state, struct page *pp, bool referenced, bool skipped)
{
	base_seen(&((struct s3 *)state)->s_base, state, &inner, pp, referenced, skipped);
}

static void s3_cool(void *state, struct page *pp) { base_cool(&((struct s3 *)state)->s_base, pp); }

static uint32_t s3_pages(const void *state)
{
	const struct pol_base *b = &((const struct s3 *)state)->s_base;

	return base_pages(b) + base_len(b, PQ_LEAVING);
}

const struct policy_ops policy_s3fifo = {
	.pol_name = "s3fifo",
	.pol_about = "three FIFOs (Yang and others 2023)",
	.pol_history = true,
	.pol_size = s3_size,
	.pol_init = s3_init,
	.pol_resize = s3_resize,
	.pol_miss = s3_miss,
	.pol_insert = s3_insert,
	.pol_remove = s3_remove,
	.pol_touch = s3_touch,
	.pol_next = s3_next,
	.pol_cool = s3_cool,
	.pol_pages = s3_pages,
	.pol_seen = s3_seen,
};
