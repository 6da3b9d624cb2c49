/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sequential window: the classic read-ahead rule of UNIX file systems (McKusick and others, "A Fast File System for UNIX",
 * 1984; with growing windows as in Linux) on page indexes. A fault just past the last page, or past the pages read ahead
 * with it, doubles the window; any other fault closes it. Advice "sequential" opens the window
 * fully at once. The window is never larger than the limit that earlier prefetching set
 * (prefetch.h).
 *
 * Free-behind (McVoy and Kleiman, "Extent-like Performance from a UNIX File System", USENIX 1991):
 * where advice says sequential, pages that the stream has passed may be evicted before all others:
 * as many as the last window had.
 *
 * st[2]: index after the last page read; st[3]: the window at that time.
 */
#include "prefetch.h"

enum { NEXT = 2, WINDOW = 3 };

static void plan_window(
    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *pl)
{
	bool follows = idx != 0 && idx == st[NEXT];
	uint64_t last = st[WINDOW], w = 0;
	unsigned limit;

	if ((flags & PF_HIT) != 0) {
		pf_hit(st);
		return;
	}
	if ((flags & PF_SEQUENTIAL) != 0) {
		w = max;
		pl->pl_behind = follows ? (unsigned)last + 1 : 0;
	} else if (follows) {
		w = last == 0 ? 2 : last * 2;
	}
	limit = pf_limit(st, max);
	if (w > limit)
		w = limit;
	st[NEXT] = idx + 1 + w;
	st[WINDOW] = w;
	pf_issue(st, (unsigned)w);
	pl->pl_first = pl->pl_step = 1;
	pl->pl_n = (unsigned)w;
}

const struct prefetch_ops prefetch_window = {
	.pf_name = "window",
	.pf_about = "a growing window after sequential faults",
	.pf_counts_hits = true,
	.pf_plan = plan_window,
};
