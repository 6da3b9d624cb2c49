/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fault-around: the aligned block of pages in which the fault lies, as clustered paging does (Levy and Lipman, "Virtual Memory
 * Management in the VAX/VMS Operating System", IEEE Computer, March 1982; Linux' page cluster).
 * Blocks of 16 pages, or smaller ones where earlier prefetching had less success (prefetch.h):
 * always a power of two, so that blocks stay aligned.
 *
 * Also here: the prefetcher `none`, which reads only the page that was asked for.
 */
#include "prefetch.h"

#define BLOCK 16u

static void plan_around(
    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *pl)
{
	unsigned limit = pf_limit(st, max < BLOCK - 1 ? max : BLOCK - 1) + 1, block = 1;

	if ((flags & PF_HIT) != 0) {
		pf_hit(st);
		return;
	}
	while (block * 2 <= limit)
		block *= 2;
	pf_issue(st, block - 1);
	if (block == 1)
		return;
	pl->pl_first = -(int64_t)(idx & (block - 1));
	pl->pl_step = 1;
	pl->pl_n = block; /* the page itself is in memory by then */
}

static void plan_nothing(
    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *pl)
{
}

const struct prefetch_ops prefetch_around = {
	.pf_name = "around",
	.pf_about = "the aligned block of 16 pages around a fault",
	.pf_counts_hits = true,
	.pf_plan = plan_around,
};
const struct prefetch_ops prefetch_none = {
	.pf_name = "none",
	.pf_about = "only what was asked for",
	.pf_plan = plan_nothing,
};
