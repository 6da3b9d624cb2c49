/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Constant stride: the reference prediction table of Chen and Baer ("Effective Hardware-Based Data Prefetching for
 * High-Performance Processors", IEEE Transactions on Computers 44(5), 1995), one entry a segment, on page indexes.
 *
 * Vocabulary: confidence runs from 0 to 3; each access whose distance from the last is the stride
 * adds one; each other access takes one away, and at 0 its distance becomes the stride. From
 * confidence 2 on pages are read along the stride; the window doubles with each plan that follows
 * the stride, up to the limit of prefetch.h, and closes when confidence is lost.
 *
 * st[2]: last index + 1 (0: none); st[3]: stride; st[4]: confidence; st[5]: window.
 */
#include "prefetch.h"

enum { LAST = 2, STRIDE = 3, CONF = 4, WINDOW = 5 };

static void learn_stride(uint64_t st[PF_WORDS], uint64_t idx)
{
	uint64_t d = idx + 1 - st[LAST];
	bool known = st[LAST] != 0;

	st[LAST] = idx + 1;
	if (!known || d == 0)
		return;
	if (d == st[STRIDE]) {
		if (st[CONF] < 3)
			st[CONF]++;
		return;
	}
	if (st[CONF] > 0)
		st[CONF]--;
	if (st[CONF] == 0) {
		st[STRIDE] = d;
		st[WINDOW] = 0;
	}
}

static void plan_stride(
    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *pl)
{
	unsigned limit;

	learn_stride(st, idx);
	if ((flags & PF_HIT) != 0) {
		pf_hit(st);
		return;
	}
	if ((flags & PF_SEQUENTIAL) != 0 && st[CONF] < 2) {
		st[STRIDE] = 1;
		st[CONF] = 2;
	}
	if (st[CONF] < 2)
		return;
	limit = pf_limit(st, max);
	st[WINDOW] = st[WINDOW] == 0 ? 2 : st[WINDOW] * 2;
	if (st[WINDOW] > limit)
		st[WINDOW] = limit;
	pl->pl_first = pl->pl_step = (int64_t)st[STRIDE];
	pl->pl_n = (unsigned)st[WINDOW];
	pf_issue(st, pl->pl_n);
}

const struct prefetch_ops prefetch_stride = {
	.pf_name = "stride",
	.pf_about = "along a constant stride (Chen and Baer 1995)",
	.pf_counts_hits = true,
	.pf_plan = plan_stride,
};
