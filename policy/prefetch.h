/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the prefetchers share: the limit on reading ahead that follows from their success. Word 0
 * counts first uses of prefetched pages, word 1 pages prefetched; both are halved now and then, so
 * that old counts lose weight. A page that is evicted unused is never counted as used, so it lowers
 * the limit.
 */
#ifndef QUIRE_POLICY_PREFETCH_H
#define QUIRE_POLICY_PREFETCH_H

#include <quire/policy.h>

#define PF_HITS 0
#define PF_ISSUED 1
#define PF_TRUST 32u /* pages prefetched before success counts */
#define PF_FADE 512u

static inline void pf_hit(uint64_t st[PF_WORDS])
{
	if (st[PF_HITS] < st[PF_ISSUED])
		st[PF_HITS]++;
}

static inline void pf_issue(uint64_t st[PF_WORDS], unsigned n)
{
	st[PF_ISSUED] += n;
	if (st[PF_ISSUED] >= PF_FADE) {
		st[PF_ISSUED] /= 2;
		st[PF_HITS] /= 2;
	}
}

/* How many pages may be read at once now: max while seven in eight were used, otherwise their share
 * of max; at least one. */
static inline unsigned pf_limit(const uint64_t st[PF_WORDS], unsigned max)
{
	uint64_t hits = st[PF_HITS], issued = st[PF_ISSUED], n;

	if (issued < PF_TRUST || hits * 8 >= issued * 7)
		return max;
	n = max * hits / issued;
	return n == 0 && max > 0 ? 1 : (unsigned)n;
}
#endif
