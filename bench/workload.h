/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef QUIRE_BENCH_WORKLOAD_H
#define QUIRE_BENCH_WORKLOAD_H

/*
 * The workload that measures every system in bench/: accesses of 4 KiB over a region larger than
 * the memory it may use. Unless asked otherwise they are read-modify-writes in random order.
 *
 * At every moment the content of every page is known: it is a function of the seed, the page's
 * number and how often it was written. Each access verifies the content before it writes, so a
 * system that loses or mixes up a page is caught, and a system that only returns zeroes fast has no
 * advantage.
 *
 * A page's content (wl_fill):
 *   word 0        tag: seed and page number mixed
 *   word 1        count of writes to this page
 *   words 2..198  unpredictable, derived from the tag
 *   words 199..   the tag repeated: 313 words that compress to almost nothing
 * so that LZ4 reduces a page about 2.5 times, like common program data.
 *
 * An access (wl_touch) checks the tag, the count against the caller's shadow
 * count, one unpredictable word chosen by the access itself, and the last word;
 * then it adds one to the count.  wl_check_page verifies all 512 words.  If the workload's `few` is
 * set, wl_touch and wl_check_page verify the tag and the count only.
 *
 * Patterns of pages: random; sequential, repeatedly through the region; runs, 16 pages in order
 * from a random place. Of a hundred accesses, `writes` are read-modify-writes; the others only
 * verify.
 *
 * The accesses are a function of the seed, the pattern and that share alone: the same sequence
 * for every system and run.  Not thread-safe: one struct workload a thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

#define WL_PAGE 4096u
#define WL_WORDS (WL_PAGE / 8)
#define WL_TAG 0u
#define WL_COUNT 1u
#define WL_NOISE 2u    /* first unpredictable word */
#define WL_REPEAT 199u /* first repeated word */
#define WL_RUN 16u     /* pages of a run */

enum wl_pattern { WL_RANDOM, WL_SEQUENTIAL, WL_RUNS };

struct workload {
	uint64_t seed;
	uint64_t state;  /* state of the access sequence */
	size_t pages;    /* in the region */
	uint32_t *count; /* shadow: writes to each page so far; not in the region */
	uint64_t errors; /* accesses that found another content than was written */
	enum wl_pattern pattern;
	unsigned writes; /* writes among a hundred accesses */
	bool few;        /* only the tag and the count are checked: the store keeps no other word */
	size_t at, left; /* of a sequence: the next page, and how many more pages */
};

static inline uint64_t wl_mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static inline uint64_t wl_tag(const struct workload *w, size_t page)
{
	return wl_mix(w->seed + 0x9e3779b97f4a7c15u * (page + 1));
}

/* The value of word i of a page with this tag (i != WL_COUNT). */
static inline uint64_t wl_word(uint64_t tag, unsigned i)
{
	if (i == WL_TAG || i >= WL_REPEAT)
		return tag;
	return wl_mix(tag + i);
}

/* Prepares a workload over `pages` pages. False: no memory. */
static inline bool wl_init(struct workload *w, uint64_t seed, size_t pages)
{
	w->seed = seed;
	w->state = wl_mix(seed) | 1;
	w->pages = pages;
	w->errors = 0;
	w->pattern = WL_RANDOM;
	w->writes = 100;
	w->few = false;
	w->at = w->left = 0;
	w->count = calloc(pages, sizeof(*w->count));
	return w->count != NULL;
}

static inline void wl_fini(struct workload *w)
{
	free(w->count);
	w->count = NULL;
}

/* Gives page number `page`, at `at`, its first content. */
static inline void wl_fill(struct workload *w, size_t page, volatile uint64_t *at)
{
	uint64_t tag = wl_tag(w, page);

	for (unsigned i = 0; i < WL_WORDS; i++)
		at[i] = i == WL_COUNT ? 0 : wl_word(tag, i);
	w->count[page] = 0;
}

/* Returns the page of the next access: xorshift64*, reduced by multiplication. */
static inline size_t wl_next(struct workload *w)
{
	uint64_t x = w->state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	w->state = x;
	return (size_t)(((x * 0x2545f4914f6cdd1du >> 32) * w->pages) >> 32);
}

/* The pattern of that name. False: there is no such pattern. */
static inline bool wl_pattern_of(const char *name, enum wl_pattern *p)
{
	static const char *const names[] = {
		[WL_RANDOM] = "random", [WL_SEQUENTIAL] = "sequential", [WL_RUNS] = "runs"
	};

	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0) {
			*p = (enum wl_pattern)i;
			return true;
		}
	return false;
}

/* The page of the next access. */
static inline size_t wl_page(struct workload *w)
{
	size_t random = wl_next(w);

	if (w->pattern == WL_RANDOM)
		return random;
	if (w->left == 0) {
		w->at = w->pattern == WL_RUNS ? random : 0;
		w->left = w->pattern == WL_RUNS ? WL_RUN : w->pages;
	}
	w->left--;
	return w->at++ % w->pages;
}

/* One access: verifies, then modifies if it is a write. False, and counted, if the content was
 * wrong. */
static inline bool wl_touch(struct workload *w, size_t page, volatile uint64_t *at)
{
	uint64_t tag = wl_tag(w, page);
	unsigned probe = WL_NOISE + (unsigned)(w->state >> 40) % (WL_REPEAT - WL_NOISE);
	bool ok = at[WL_TAG] == tag && at[WL_COUNT] == w->count[page] &&
	    (w->few || (at[probe] == wl_word(tag, probe) && at[WL_WORDS - 1] == tag));

	w->errors += !ok;
	if (w->writes == 100 || (unsigned)(w->state >> 20) % 100 < w->writes)
		at[WL_COUNT] = ++w->count[page];
	return ok;
}

/* Verifies every word of a page. False, and counted, if any was wrong. */
static inline bool wl_check_page(struct workload *w, size_t page, const volatile uint64_t *at)
{
	uint64_t tag = wl_tag(w, page);
	bool ok = at[WL_COUNT] == w->count[page] && at[WL_TAG] == tag;

	for (unsigned i = 0; i < WL_WORDS && !w->few; i++)
		ok = ok && (i == WL_COUNT || at[i] == wl_word(tag, i));
	w->errors += !ok;
	return ok;
}

static inline double wl_now_us(void) { return bench_ns() / 1e3; }

/* Makes n accesses to the region at base. Returns the microseconds of all together. */
static inline double wl_accesses(struct workload *w, uint64_t *base, size_t n)
{
	double began = wl_now_us();

	for (size_t i = 0; i < n; i++) {
		size_t page = wl_page(w);

		wl_touch(w, page, base + page * WL_WORDS);
	}
	return wl_now_us() - began;
}

static inline int wl_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Prints "name.min", ".median" and ".max" of n figures as key-value lines. Sorts v. */
static inline void wl_print(const char *name, double *v, size_t n)
{
	qsort(v, n, sizeof(*v), wl_compare);
	printf("%s.min %.3f\n%s.median %.3f\n%s.max %.3f\n", name, v[0], name,
	    n & 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2, name, v[n - 1]);
}

/* Prints the costs of that many accesses besides time: key-value lines, the same for every
 * system. */
static inline void wl_print_traffic(
    double accesses, double faults, double read, double written, double resident)
{
	printf(
	    "faults_per_access %.4f\nread_kib_per_access %.3f\nwritten_kib_per_access %.3f\nresident_mib %.1f\n",
	    faults / accesses, read / 1024 / accesses, written / 1024 / accesses,
	    resident / (1 << 20));
}

#endif
