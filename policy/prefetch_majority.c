/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Majority stride: Leap (Al Maruf and Chowdhury, "Effectively Prefetching Remote Memory with Leap", USENIX ATC 2020,
 * algorithms 1 to 3).
 *
 * Vocabulary: the history holds the distances between the last 32 accesses (faults with I/O and first uses of prefetched
 * pages). The trend is the distance that a majority of the latest 4 have, otherwise of the latest
 * 8, 16, 32; the vote of Boyer and Moore finds the candidate, which is then counted. So a few stray
 * accesses do not hide a stream, as they would from a strict stride.
 *
 * The window is the number of prefetched pages used since the last prefetch, plus one, rounded up
 * to a power of two. If none was used, it is one if the access follows the trend. The window
 * shrinks by at most half at a time. If there is no trend, the window's pages are read along the
 * last trend that there was.
 *
 * Distances are kept in 16 bits; longer ones count as no distance (0) and are never a trend. Not in the paper: the limit of
 * prefetch.h.
 *
 * st[2]: last index + 1 (0: none); st[3]: bits 0-7 window, 8-15 pages used since, 16-23 place in
 * the history, 24-31 its length, 32-47 last trend; st[4..11]: the history, four distances a word.
 */
#include "prefetch.h"

#define HISTORY 32u
#define SPLIT 8u /* the first look is at 32 / 8 distances */

struct leap {
	unsigned window, used, at, len;
	int16_t trend;
};

static int16_t past_distance(const uint64_t st[PF_WORDS], unsigned slot)
{
	return (int16_t)(uint16_t)(st[4 + slot / 4] >> slot % 4 * 16);
}

static void record_distance(uint64_t st[PF_WORDS], struct leap *l, int64_t d)
{
	uint64_t bits = d < INT16_MIN || d > INT16_MAX ? 0 : (uint16_t)(int16_t)d;
	uint64_t *word = &st[4 + l->at / 4];

	*word = (*word & ~(0xffffull << l->at % 4 * 16)) | bits << l->at % 4 * 16;
	l->at = (l->at + 1) % HISTORY;
	if (l->len < HISTORY)
		l->len++;
}

/* Algorithm 1. 0: no trend. */
static int16_t find_trend(const uint64_t st[PF_WORDS], const struct leap *l)
{
	for (unsigned w = HISTORY / SPLIT; w <= HISTORY; w *= 2) {
		unsigned n = w < l->len ? w : l->len, votes = 0, count = 0;
		int16_t candidate = 0;

		for (unsigned i = 1; i <= n; i++) {
			int16_t d = past_distance(st, (l->at + HISTORY - i) % HISTORY);

			if (votes == 0)
				candidate = d;
			votes = d == candidate ? votes + 1 : votes - 1;
		}
		for (unsigned i = 1; i <= n; i++)
			count += past_distance(st, (l->at + HISTORY - i) % HISTORY) == candidate;
		if (candidate != 0 && count > n / 2)
			return candidate;
	}
	return 0;
}

/* Algorithm 2. */
static unsigned window_size(struct leap *l, bool follows, unsigned limit)
{
	unsigned w = 1;

	if (l->used == 0) {
		w = follows ? 1 : 0;
	} else {
		while (w < l->used + 1)
			w *= 2;
	}
	if (w > limit)
		w = limit;
	if (w < l->window / 2)
		w = l->window / 2 < limit ? l->window / 2 : limit;
	l->used = 0;
	l->window = w;
	return w;
}

static void plan_majority(
    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *pl)
{
	struct leap l = { .window = st[3] & 0xff,
		.used = st[3] >> 8 & 0xff,
		.at = st[3] >> 16 & (HISTORY - 1),
		.len = st[3] >> 24 & 0xff,
		.trend = (int16_t)(uint16_t)(st[3] >> 32) };
	int64_t d = st[2] != 0 ? (int64_t)(idx + 1 - st[2]) : 0;
	int16_t trend;

	if (l.len > HISTORY)
		l.len = HISTORY;
	if (d != 0)
		record_distance(st, &l, d);
	st[2] = idx + 1;
	if ((flags & PF_HIT) != 0) {
		pf_hit(st);
		if (l.used < 0xff)
			l.used++;
	} else {
		trend = find_trend(st, &l);
		if (trend != 0)
			l.trend = trend;
		else if (l.trend == 0 && (flags & PF_SEQUENTIAL) != 0)
			l.trend = 1;
		pl->pl_n = window_size(
		    &l, l.trend != 0 && d == l.trend, pf_limit(st, max < 128 ? max : 128));
		if (l.trend == 0)
			pl->pl_n = 0;
		pl->pl_first = pl->pl_step = l.trend;
		pf_issue(st, pl->pl_n);
	}
	st[3] = l.window | (uint64_t)l.used << 8 | (uint64_t)l.at << 16 | (uint64_t)l.len << 24 |
	    (uint64_t)(uint16_t)l.trend << 32;
}

const struct prefetch_ops prefetch_majority = {
	.pf_name = "majority",
	.pf_about = "along the majority of late strides (Leap: Al Maruf and Chowdhury 2020)",
	.pf_counts_hits = true,
	.pf_plan = plan_majority,
};
