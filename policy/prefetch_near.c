/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Window by neighbours: as many pages after the faulting one as there are in memory right before it. A program that goes
 * through memory in order has them there, whatever else it does in between and however many such streams it has in one
 * heap; each fault then doubles the window. At random accesses few pages have even two neighbours in memory, and nothing is
 * read for them; from a disk, which costs as much as a fault, only where there are more. That residency is a trace of the recent past is the idea of the readahead of Linux (context readahead,
 * Wu Fengguang 2008); here no state is kept at all.
 *
 * The pages are mapped at once: a use that does not fault costs nothing, but is not seen either, so there is no count of hits.
 *
 * Advice "sequential" opens the window fully at once, and lets what the stream has passed go first, as prefetch_window does.
 */
#include "prefetch.h"

#define ENOUGH 2u /* neighbours that are hardly chance */
#define SURE   4u /* that are none: where a quarter of the pages is in memory, in no order, one fault in 256 has them */

static void plan(uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *pl)
{
	unsigned n = pl->pl_before < ENOUGH ? 0 : pl->pl_before;

	if ((flags & PF_HIT) != 0)
		return;
	if ((flags & PF_SEQUENTIAL) != 0) {
		pl->pl_behind = pl->pl_before;
		n = max;
	}
	pl->pl_first = pl->pl_step = 1;
	pl->pl_n = n < max ? n : max;
	pl->pl_map = true;
	pl->pl_quick = n < SURE;
}

const struct prefetch_ops prefetch_near = {
	.pf_name = "near",
	.pf_about = "as many pages as are in memory just before the fault; the default",
	.pf_plan = plan,
};
