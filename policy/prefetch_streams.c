/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Streams: a program that goes through memory sequentially, upwards or downwards, faults beside its
 * last fault. The places of the last eight such faults are remembered for each segment, so that
 * several streams in one heap, and single faults between theirs, do not hide each other. This is
 * the table of stream buffers of Palacharla and Kessler ("Evaluating Stream Buffers as a Secondary
 * Cache Replacement", ISCA 1994), whose filter also asks for two misses in a row.
 *
 * Vocabulary: a fault beside a stream's last one, or beside or among the pages that were read with
 * that fault, is the stream's next *step*, upwards or downwards. Beside means at most GAP pages
 * away; the pages between are in memory. From its SURE-th step in one direction on a stream reads
 * pages ahead: two, then twice as many each time, up to the most that may be read at once. Some of
 * the planned pages may not have come: frames may be scarce. Any other fault begins a stream, which
 * replaces the stream that began first.
 *
 * A random fault falls beside one of eight places among thousands so seldom that pages are rarely
 * read in vain: a step needs no proof that earlier pages were used. So the pages are mapped at
 * once, and their use costs nothing.
 *
 * Pages of a file (PF_OF_FILE) lie on the device in the order that they have in the file, and programs use them in patches: text, tables.
 * So a fault that continues no stream reads the aligned block around it by one request, as
 * clustered paging does (prefetch_around.c); the block is 16 pages, or 4 where frames are scarce.
 *
 * Advice "sequential" opens the window fully at once, and lets the pages that the stream has passed
 * be evicted first, as prefetch_window does.
 *
 * st[2..9]: a stream each: bits 0-39 the page that faulted last, plus one (0: no stream), 40-47 how many were read with it, 48-54
 * steps, 55 whether downwards; st[10]: streams begun.
 */
#include "prefetch.h"

#define STREAMS 8u
#define FIRST 2u
#define BEGUN (FIRST + STREAMS)
#define GAP 2u
#define SURE 2u
#define STEPS_MOST 7u
#define BLOCK 16u /* pages of a file that are read around a fault */
#define BLOCK_SCARCE 4u

struct stream {
	uint64_t at;
	unsigned read, steps;
	bool down;
};

static uint64_t pack_stream(const struct stream *s)
{
	return ((s->at + 1) & ((1ull << 40) - 1)) | (uint64_t)s->read << 40 |
	    (uint64_t)s->steps << 48 | (uint64_t)s->down << 55;
}

static struct stream unpack_stream(uint64_t w)
{
	return (struct stream){ .at = (w & ((1ull << 40) - 1)) - 1,
		.read = w >> 40 & 0xff,
		.steps = w >> 48 & 0x7f,
		.down = (w >> 55 & 1) != 0 };
}

static bool is_step(const struct stream *s, uint64_t idx)
{
	uint64_t reach = GAP + ((idx < s->at) == s->down ? s->read : 0);

	return idx < s->at ? s->at - idx <= reach : idx - s->at <= reach;
}

/* Returns the stream that idx is a step of, or a new stream whose first fault it is. Its word. */
static uint64_t *find_stream(uint64_t st[PF_WORDS], uint64_t idx, struct stream *s)
{
	for (uint64_t *w = &st[FIRST]; w < &st[BEGUN]; w++) {
		*s = unpack_stream(*w);
		if (*w != 0 && is_step(s, idx))
			return w;
	}
	*s = (struct stream){ .at = idx };
	return &st[FIRST + st[BEGUN]++ % STREAMS];
}

static void take_step(
    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, bool sequential, struct pf_plan *pl)
{
	struct stream s;
	uint64_t *w = find_stream(st, idx, &s);
	bool down = idx == s.at ? s.down : idx < s.at;
	unsigned n;

	if (sequential && !down)
		pl->pl_behind = s.read;
	if (idx != s.at)
		s.steps = down != s.down ? 1 : s.steps + (s.steps < STEPS_MOST);
	n = s.steps < SURE ? 0 : 1u << (s.steps - SURE + 1);
	if (sequential || n > max)
		n = max;
	if (down && n > idx)
		n = (unsigned)idx;
	s.at = idx;
	s.down = down;
	s.read = n;
	*w = pack_stream(&s);
	pl->pl_first = down ? -(int64_t)n : 1;
	pl->pl_step = 1;
	pl->pl_n = n;
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

static void plan_streams(
    uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags, struct pf_plan *pl)
{
	if ((flags & PF_HIT) != 0)
		return;
	take_step(st, idx, max, (flags & PF_SEQUENTIAL) != 0, pl);
	if ((flags & PF_OF_FILE) != 0 && pl->pl_n < BLOCK)
		plan_block(idx, max, (flags & PF_SCARCE) != 0, pl);
}

const struct prefetch_ops prefetch_streams = {
	.pf_name = "streams",
	.pf_about = "along the last eight streams, upwards or downwards; the default",
	.pf_maps = true,
	.pf_plan = plan_streams,
};
