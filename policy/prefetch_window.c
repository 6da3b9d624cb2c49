/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sequential window: the classic read-ahead rule of UNIX file systems (McKusick et al., 1984) on page indexes. A fault just
 * past the last one, or past the pages read ahead with it, doubles the window; any other fault closes it. Advice
 * "sequential" opens it fully at once.
 *
 * st[0]: index after the last page read; st[1]: the window then.
 */
#include <quire/policy.h>

static unsigned window(uint64_t st[4], uint64_t idx, unsigned max, bool seq)
{
	uint64_t w = st[1];

	if (seq)
		w = max;
	else if (idx != 0 && idx == st[0])
		w = w == 0 ? 2 : w * 2;
	else
		w = 0;
	if (w > max)
		w = max;
	st[0] = idx + 1 + w;
	st[1] = w;
	return (unsigned)w;
}

const struct prefetch_ops prefetch_window = { .pf_name = "window", .pf_window = window };
