/* SPDX-License-Identifier: BSD-2-Clause */
/* Standard patterns of page references, for the lab and for tests. About one reference in four
 * writes. */
#include "lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct gen {
	struct trace *g_t;
	uint64_t g_rnd, g_len;
	uint32_t g_pages;
	bool g_ok;
};

static uint64_t next_random(struct gen *g)
{
	uint64_t z = g->g_rnd += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static uint32_t random_below(struct gen *g, uint32_t n) { return (uint32_t)(next_random(g) % n); }

static bool add_reference(struct gen *g, uint64_t page)
{
	if (g->g_ok && g->g_t->t_len < g->g_len)
		g->g_ok = trace_add(g->g_t, page, (next_random(g) & 3) == 0);
	return g->g_ok && g->g_t->t_len < g->g_len;
}

static void gen_random(struct gen *g)
{
	while (add_reference(g, random_below(g, g->g_pages)))
		;
}

static void gen_sequential(struct gen *g)
{
	for (uint64_t i = 0; add_reference(g, i % g->g_pages); i++)
		;
}

/* Popularity 1 / rank^0.9, ranks scattered over the pages. */
static void gen_zipf(struct gen *g)
{
	double *sum = malloc(sizeof(double) * g->g_pages), all = 0;
	bool more = sum != NULL;

	g->g_ok = sum != NULL;
	for (uint32_t i = 0; more && i < g->g_pages; i++)
		sum[i] = all += pow((double)i + 1, -0.9);
	while (more) {
		double x = (double)(next_random(g) >> 11) * 0x1p-53 * all;
		uint32_t lo = 0, hi = g->g_pages - 1;

		while (lo < hi) {
			uint32_t mid = lo + (hi - lo) / 2;

			if (sum[mid] < x)
				lo = mid + 1;
			else
				hi = mid;
		}
		more = add_reference(g, (uint64_t)lo * 2654435761u % g->g_pages);
	}
	free(sum);
}

/* A loop over nine tenths of the pages, with a stray reference in between now and then. */
static void gen_loop(struct gen *g)
{
	uint32_t loop = g->g_pages - g->g_pages / 10;

	for (uint64_t i = 0;; i++)
		if (!add_reference(
			g, random_below(g, 16) == 0 ? random_below(g, g->g_pages) : i % loop))
			return;
}

/* A hot tenth used at random, and from time to time a scan of everything. */
static void gen_scan(struct gen *g)
{
	uint32_t hot = g->g_pages / 10 + 1;
	bool more = true;

	while (more) {
		for (uint32_t i = 0; more && i < 8 * hot; i++)
			more = add_reference(g, random_below(g, hot));
		for (uint32_t i = 0; more && i < g->g_pages; i++) {
			more = add_reference(g, i);
			if (more && random_below(g, 4) == 0)
				more = add_reference(g, random_below(g, hot));
		}
	}
}

/* A working set of a fifth of the pages that moves at intervals. */
static void gen_phases(struct gen *g)
{
	uint32_t set = g->g_pages / 5 + 1;
	bool more = true;

	while (more) {
		uint32_t base = random_below(g, g->g_pages);

		for (uint32_t i = 0; more && i < 6 * set; i++)
			more = add_reference(g, (base + random_below(g, set)) % g->g_pages);
	}
}

/* Several loops of different lengths, interleaved: the pattern that LIRS was made for and LRU
 * handles worst. */
static void gen_lirs(struct gen *g)
{
	uint32_t part = g->g_pages / 4 + 1;
	uint64_t a = 0, b = 0, c = 0;
	bool more = true;

	while (more) {
		more = add_reference(g, a++ % (part / 4 + 1));
		if (more && random_below(g, 2) == 0)
			more = add_reference(g, part + b++ % part);
		if (more && random_below(g, 4) == 0)
			more = add_reference(g, 2 * (uint64_t)part + c++ % (2 * (uint64_t)part));
	}
}

/* Columns of a matrix stored by rows: constant stride, wrapping to the next column. */
static void gen_stride(struct gen *g)
{
	uint32_t stride = g->g_pages < 64 ? 3 : 13;

	for (uint32_t column = 0;; column = (column + 1) % stride)
		for (uint32_t i = column; i < g->g_pages; i += stride)
			if (!add_reference(g, i))
				return;
}

/* Two sequential streams in turns, one reference in eight a stray one. */
static void gen_streams(struct gen *g)
{
	uint32_t half = g->g_pages / 2 + 1;

	for (uint64_t i = 0;; i++) {
		uint64_t page = (i & 1) * half + (i >> 1) % half;

		if (!add_reference(g, random_below(g, 8) == 0 ? random_below(g, g->g_pages) : page))
			return;
	}
}

const struct trace_pattern trace_patterns[] = {
	{ "random", "every page as likely" },
	{ "sequential", "from the first page to the last, again and again" },
	{ "zipf", "popularity 1/rank^0.9, scattered" },
	{ "loop", "a loop over 90% of the pages with stray references" },
	{ "scan", "a hot tenth used at random, and scans of everything" },
	{ "phases", "a working set of a fifth of the pages that moves" },
	{ "lirs", "loops of different lengths side by side" },
	{ "stride", "a constant stride" },
	{ "streams", "two sequential streams in turns, with stray references" },
	{ NULL, NULL },
};

static void (*const generators[])(struct gen *) = {
	gen_random,
	gen_sequential,
	gen_zipf,
	gen_loop,
	gen_scan,
	gen_phases,
	gen_lirs,
	gen_stride,
	gen_streams,
};

bool trace_generate(
    struct trace *t, const char *pattern, uint32_t pages, uint64_t len, uint64_t seed)
{
	struct gen g = { .g_t = t, .g_rnd = seed, .g_len = len, .g_pages = pages, .g_ok = true };

	for (unsigned i = 0; trace_patterns[i].name != NULL; i++) {
		if (strcmp(pattern, trace_patterns[i].name) == 0 && pages > 0 && len > 0) {
			generators[i](&g);
			return g.g_ok;
		}
	}
	return false;
}
