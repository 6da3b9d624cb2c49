/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Window by neighbours: as many pages after the faulting one as there are in memory right before it. A program that goes
 * through memory in order has them there, whatever else it does in between and however many such streams it has in one
 * heap; each fault then doubles the window. That residency is a trace of the recent past is the idea of the readahead of
 * Linux (context readahead, Wu Fengguang 2008).
 *
 * At random accesses pages are there, too: each of those around with the share that fits of what the program uses. To read
 * for them would drive out pages just as good as those that come. So the run before must be longer than chance makes it, and
 * the page after must not be there: where a stream has got to it is not. How likely chance is shows at the page after, as
 * streams do not put it there: the share of faults that have it, of late, is kept by segment. A page for which a device must be
 * waited for costs as much as a fault, and takes more certainty.
 *
 * The pages are mapped at once: a use that does not fault costs nothing, but is not seen either, so there is no count of hits.
 *
 * Pages of a file (PF_OF_FILE) lie on the device in the order that they have in the file, and programs use them in patches: text, tables. So
 * where no stream has been, the aligned block around the fault is read, all by one request, as clustered paging does
 * (prefetch_around.c); it is 16 pages, or 4 where frames are scarce.
 *
 * Advice "sequential" opens the window fully at once, and lets what the stream has passed go first, as prefetch_window does.
 */
#include "prefetch.h"

#define ONE 65536u /* shares of it */
#define START (ONE / 4)
#define LATE 64u           /* faults that the share is about */
#define CHANCE (ONE / 16)  /* a run that chance makes this seldom is a stream's */
#define HARDLY (ONE / 256) /* and where a device must be waited for */
#define BLOCK 16u          /* pages of a file that are read around a fault */
#define BLOCK_SCARCE 4u

/* The shortest run of pages in memory that chance makes that seldom, where one is there with that share. */
static unsigned shortest_run(uint64_t share, uint64_t seldom)
{
	uint64_t p = share;
	unsigned n = 1;

	for (; p > seldom && n < PF_BEFORE + 1; n++)
		p = p * share / ONE;
	return n < 2 ? 2 : n;
}

/* The largest aligned block of at most max + 1 pages that idx lies in. */
static void plan_block(uint64_t idx, unsigned max, bool scarce, struct pf_plan *pl)
{
	unsigned block = scarce ? BLOCK_SCARCE : BLOCK;

	while (block > max + 1)
		block /= 2;
	if (block == 1)
		return;
	pl->pl_first = -(int64_t)(idx & (block - 1));
	pl->pl_n = block;
}

static void plan_near(
    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *pl)
{
	uint64_t share = st[0] == 0 ? START : st[0] - 1;
	unsigned n =
	    pl->pl_after || pl->pl_before < shortest_run(share, CHANCE) ? 0 : pl->pl_before;

	if ((flags & PF_HIT) != 0)
		return;
	st[0] = 1 + share - share / LATE + (pl->pl_after ? ONE / LATE : 0);
	if ((flags & PF_SEQUENTIAL) != 0) {
		pl->pl_behind = pl->pl_before;
		n = max;
	}
	pl->pl_first = pl->pl_step = 1;
	pl->pl_n = n < max ? n : max;
	pl->pl_map = true;
	pl->pl_quick = n < shortest_run(share, HARDLY);
	if ((flags & PF_OF_FILE) != 0 && n < BLOCK)
		plan_block(idx, max, (flags & PF_SCARCE) != 0, pl);
}

const struct prefetch_ops prefetch_near = {
	.pf_name = "near",
	.pf_about = "as many pages as are in memory just before the fault; the default",
	.pf_plan = plan_near,
};
