/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Prefetchers: on traces of every pattern each plans exactly the pages that a naive implementation
 * of the same description plans; the results that they must reach on patterns made for them; and
 * that useless prefetching shrinks.
 *
 * The naive ones below share nothing with policy/: they keep every access there ever was in an array and look back.
 */
#include "lab/lab.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern const struct prefetch_ops prefetch_window, prefetch_stride, prefetch_majority,
    prefetch_around, prefetch_none;

/* ---- naive prefetchers ---- */
struct naive {
	int64_t *access; /* every index ever */
	size_t naccess, cap;
	uint64_t hits, issued;
	/* window */
	int64_t next;
	int64_t window;
	/* stride */
	int64_t stride;
	int confidence;
	/* majority */
	int64_t trend;
	unsigned used;
	/* streams */
	struct naive_stream {
		bool is;
		int64_t last, ahead; /* the last fault; pages read with it, below 0: downwards */
		int up, down;        /* consecutive steps */
	} stream[8];
	unsigned begun;
};

struct plan {
	int64_t at[64];
	unsigned n;
};

static void remember(struct naive *v, int64_t idx)
{
	if (v->naccess == v->cap) {
		v->cap = v->cap * 2 + 16;
		v->access = realloc(v->access, v->cap * sizeof *v->access);
		if (v->access == NULL)
			abort();
	}
	v->access[v->naccess++] = idx;
}

static int64_t limit(const struct naive *v, int64_t max)
{
	double share;

	if (v->issued < 32)
		return max;
	share = (double)v->hits / (double)v->issued;
	if (share >= 7.0 / 8)
		return max;
	if (max > 0 && (int64_t)(max * (int64_t)v->hits / (int64_t)v->issued) == 0)
		return 1;
	return max * (int64_t)v->hits / (int64_t)v->issued;
}

static void issue(struct naive *v, unsigned n)
{
	v->issued += n;
	if (v->issued >= 512) {
		v->issued /= 2;
		v->hits /= 2;
	}
}

static void along(struct plan *pl, int64_t idx, int64_t step, int64_t n)
{
	pl->n = (unsigned)n;
	for (unsigned i = 0; i < pl->n; i++)
		pl->at[i] = idx + step * (int64_t)(i + 1);
}

static void naive_window(struct naive *v, int64_t idx, int64_t max, bool hit, struct plan *pl)
{
	int64_t n = 0;

	if (hit)
		return;
	if (idx > 0 && idx == v->next)
		n = v->window > 0 ? 2 * v->window : 2;
	n = n < limit(v, max) ? n : limit(v, max);
	v->next = idx + n + 1;
	v->window = n;
	issue(v, (unsigned)n);
	along(pl, idx, 1, n);
}

static void naive_stride(struct naive *v, int64_t idx, int64_t max, bool hit, struct plan *pl)
{
	int64_t d = v->naccess > 1 ? idx - v->access[v->naccess - 2] : 0;

	if (d != 0 && d == v->stride) {
		v->confidence = v->confidence < 3 ? v->confidence + 1 : 3;
	} else if (d != 0) {
		v->confidence = v->confidence > 0 ? v->confidence - 1 : 0;
		if (v->confidence == 0) {
			v->stride = d;
			v->window = 0;
		}
	}
	if (hit || v->confidence < 2)
		return;
	v->window = v->window > 0 ? 2 * v->window : 2;
	v->window = v->window < limit(v, max) ? v->window : limit(v, max);
	issue(v, (unsigned)v->window);
	along(pl, idx, v->stride, v->window);
}

/* The distance i accesses ago that was not 0 (i = 0: the latest); 0 if there is none. Long ones are 0. */
static bool distance(const struct naive *v, unsigned ago, int64_t *d)
{
	for (size_t k = v->naccess; k-- > 1;) {
		*d = v->access[k] - v->access[k - 1];
		if (*d != 0 && ago-- == 0) {
			if (*d < -32768 || *d > 32767)
				*d = 0;
			return true;
		}
	}
	return false;
}

static int64_t naive_trend(const struct naive *v)
{
	for (unsigned w = 4; w <= 32; w *= 2) {
		int64_t last[32], d;
		unsigned n = 0;

		while (n < w && distance(v, n, &d))
			last[n++] = d;
		for (unsigned i = 0; i < n; i++) {
			unsigned same = 0;

			for (unsigned j = 0; j < n; j++)
				same += last[j] == last[i];
			if (2 * same > n && last[i] != 0)
				return last[i];
		}
	}
	return 0;
}

static void naive_majority(struct naive *v, int64_t idx, int64_t max, bool hit, struct plan *pl)
{
	int64_t n = 0, d = v->naccess > 1 ? idx - v->access[v->naccess - 2] : 0, trend;

	if (hit) {
		v->used = v->used < 255 ? v->used + 1 : 255;
		return;
	}
	if ((trend = naive_trend(v)) != 0)
		v->trend = trend;
	if (v->used == 0)
		n = v->trend != 0 && d == v->trend;
	else
		for (n = 2; n < (int64_t)v->used + 1;)
			n *= 2;
	n = n < limit(v, max) ? n : limit(v, max);
	if (n < v->window / 2)
		n = v->window / 2 < limit(v, max) ? v->window / 2 : limit(v, max);
	v->used = 0;
	v->window = n;
	n = v->trend == 0 ? 0 : n;
	issue(v, (unsigned)n);
	along(pl, idx, v->trend, n);
}

static void naive_around(struct naive *v, int64_t idx, int64_t max, bool hit, struct plan *pl)
{
	int64_t block = 16;

	if (hit)
		return;
	while (block > limit(v, max < 15 ? max : 15) + 1)
		block /= 2;
	issue(v, (unsigned)block - 1);
	for (int64_t at = idx / block * block; block > 1 && at < idx / block * block + block; at++)
		pl->at[pl->n++] = at;
}

/*
 * Doubles the number of pages at each consecutive step, from the second on. A step may deviate by
 * one page.
 */
static void naive_streams(struct naive *v, int64_t idx, int64_t max, bool hit, struct plan *pl)
{
	struct naive_stream *s = NULL;
	int64_t n = 0;

	if (hit)
		return;
	for (unsigned i = 0; i < 8 && s == NULL; i++) {
		struct naive_stream *t = &v->stream[i];
		int64_t low = t->last + (t->ahead < 0 ? t->ahead : 0) - 2,
			high = t->last + (t->ahead > 0 ? t->ahead : 0) + 2;

		if (t->is && idx >= low && idx <= high)
			s = t;
	}
	if (s == NULL) {
		s = &v->stream[v->begun++ % 8];
		*s = (struct naive_stream){ .is = true, .last = idx };
	}
	if (idx != s->last) {
		s->up = idx > s->last ? s->up + 1 : 0;
		s->down = idx < s->last ? s->down + 1 : 0;
	}
	for (int i = 1; i < s->up + s->down && n < max; i++)
		n = n == 0 ? 2 : 2 * n;
	n = n < max ? n : max;
	if (s->down > 0 && n > idx)
		n = idx;
	for (int64_t i = 0; i < n; i++)
		pl->at[pl->n++] = s->down > 0 ? idx - n + i : idx + 1 + i;
	s->last = idx;
	s->ahead = s->down > 0 ? -n : n;
}

static void naive_none(struct naive *v, int64_t idx, int64_t max, bool hit, struct plan *pl) {}

/* ---- the comparison ---- */
static const struct pair {
	const struct prefetch_ops *ops;
	void (*naive)(struct naive *, int64_t idx, int64_t max, bool hit, struct plan *);
} pairs[] = {
	{ &prefetch_window, naive_window },
	{ &prefetch_stride, naive_stride },
	{ &prefetch_majority, naive_majority },
	{ &prefetch_around, naive_around },
	{ &prefetch_none, naive_none },
	{ &prefetch_streams, naive_streams },
};
#define NPAIRS (sizeof pairs / sizeof pairs[0])

struct compare {
	const struct pair *pair;
	struct naive v;
	uint64_t plans, pages, bad;
};

static void told(void *arg, uint64_t idx, unsigned max, unsigned flags, const struct pf_plan *got)
{
	struct compare *c = arg;
	struct plan want = { .n = 0 };
	bool hit = (flags & PF_HIT) != 0, same;

	remember(&c->v, (int64_t)idx);
	if (hit && c->v.hits < c->v.issued)
		c->v.hits++;
	c->pair->naive(&c->v, (int64_t)idx, max, hit, &want);
	same = want.n == got->pl_n;
	for (unsigned i = 0; same && i < want.n; i++)
		same = want.at[i] == (int64_t)idx + got->pl_first + (int64_t)i * got->pl_step;
	if (!same && c->bad++ == 0)
		print_error("%s at page %" PRIu64 ", plan %" PRIu64 ": %u pages by %" PRId64
			    ", naive %u\n",
		    c->pair->ops->pf_name, idx, c->plans, got->pl_n, got->pl_step, want.n);
	c->plans++;
	c->pages += got->pl_n;
}

static uint64_t compare(const struct pair *p, const struct trace *t, uint32_t frames)
{
	struct compare c = { .pair = p };
	struct prefetch_result r;

	assert_true(replay_prefetch(p->ops, policy_find("lru"), t, frames, told, &c, &r));
	assert_true(r.used + r.unused <= r.issued && r.issued <= c.pages);
	free(c.v.access);
	return c.bad;
}

static void plans_are_the_naive_ones(void **state)
{
	static const uint32_t frames[] = { 4, 9, 64, 150, 400 };
	uint64_t bad = 0;

	for (unsigned k = 0; k < NPAIRS; k++) {
		for (unsigned p = 0; trace_patterns[p].name != NULL; p++) {
			for (unsigned i = 0; i < sizeof frames / sizeof frames[0]; i++) {
				struct trace t;

				trace_init(&t);
				assert_true(trace_generate(
				    &t, trace_patterns[p].name, 300 + 200 * i, 4000, 7 + i));
				bad += compare(&pairs[k], &t, frames[i]);
				trace_free(&t);
			}
		}
	}
	assert_int_equal(bad, 0);
}

/* Strides of every size and sign, with strays, and jumps too long to count. */
static void strides_of_every_size_are_found(void **state)
{
	uint64_t bad = 0, rnd = 5;

	for (unsigned k = 0; k < NPAIRS; k++) {
		for (int64_t step = -40000; step <= 40000; step += 2717) {
			int64_t at = 1ll << 40;
			struct trace t;

			trace_init(&t);
			for (unsigned i = 0; i < 1500; i++) {
				rnd = rnd * 6364136223846793005u + 1442695040888963407u;
				at += step;
				assert_true(trace_add(&t,
				    (uint64_t)(rnd >> 60 == 0 ? (int64_t)(rnd >> 40) : at), false));
				if (i % 500 == 499)
					at += 1 << 20;
			}
			bad += compare(&pairs[k], &t, 200);
			trace_free(&t);
		}
	}
	assert_int_equal(bad, 0);
}

/* ---- the patterns that they are made for ---- */
static struct prefetch_result run(
    const struct prefetch_ops *ops, const char *pattern, uint32_t frames)
{
	struct prefetch_result r;
	struct trace t;

	trace_init(&t);
	assert_true(trace_generate(&t, pattern, 2000, 40000, 3));
	assert_true(replay_prefetch(ops, policy_find("lru"), &t, frames, NULL, NULL, &r));
	trace_free(&t);
	return r;
}

/* used / (used + misses) and used / issued, in percent */
static uint64_t coverage(const struct prefetch_result *r)
{
	return 100 * r->used / (r->used + r->misses);
}
static uint64_t accuracy(const struct prefetch_result *r)
{
	return r->issued == 0 ? 100 : 100 * r->used / r->issued;
}

static void every_prefetcher_covers_a_sequence(void **state)
{
	for (unsigned k = 0; k < 4; k++) {
		struct prefetch_result r = run(pairs[k].ops, "sequential", 500);

		assert_in_range(coverage(&r), 85, 100);
		assert_in_range(accuracy(&r), 95, 100);
	}
}

/* Several streams in one segment, in turns: each has its own pages before it. */
static void streams_in_turns_are_all_seen(void **state)
{
	struct prefetch_result streams, window;
	struct trace t;

	trace_init(&t);
	for (uint64_t i = 0; i < 40000; i++)
		assert_true(trace_add(&t, i % 8 * 100000 + i / 8, false));
	assert_true(
	    replay_prefetch(&prefetch_streams, policy_find("lru"), &t, 2000, NULL, NULL, &streams));
	assert_true(
	    replay_prefetch(&prefetch_window, policy_find("lru"), &t, 2000, NULL, NULL, &window));
	assert_in_range(coverage(&streams), 85, 100);
	assert_in_range(accuracy(&streams), 95, 100);
	assert_int_equal(window.used, 0);
	trace_free(&t);
}

static void strides_are_covered(void **state)
{
	struct prefetch_result window = run(&prefetch_window, "stride", 500),
			       stride = run(&prefetch_stride, "stride", 500),
			       majority = run(&prefetch_majority, "stride", 500);

	assert_int_equal(window.used, 0);
	assert_in_range(coverage(&stride), 80, 100);
	assert_in_range(coverage(&majority), 80, 100);
}

/* Streams work downwards as well as upwards. */
static void streams_that_go_down_are_seen(void **state)
{
	struct prefetch_result r;
	struct trace t;

	trace_init(&t);
	for (uint64_t i = 0; i < 40000; i++)
		assert_true(trace_add(&t, 900000 + i % 8 * 100000 - i / 8, false));
	assert_true(
	    replay_prefetch(&prefetch_streams, policy_find("lru"), &t, 2000, NULL, NULL, &r));
	assert_in_range(coverage(&r), 85, 100);
	assert_in_range(accuracy(&r), 95, 100);
	trace_free(&t);
}

/*
 * One stray in eight makes the strict prefetchers start over repeatedly; the majority prefetcher is
 * not disturbed.
 */
static void majority_survives_strays(void **state)
{
	struct prefetch_result r[2];
	struct trace t;
	uint64_t rnd = 9;

	trace_init(&t);
	for (uint64_t i = 0; i < 40000; i++) {
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		assert_true(trace_add(
		    &t, rnd >> 61 == 0 ? 1000000 + (rnd >> 33) % 1000 : i * 3 % 20000, false));
	}
	assert_true(
	    replay_prefetch(&prefetch_majority, policy_find("lru"), &t, 1000, NULL, NULL, &r[0]));
	assert_true(
	    replay_prefetch(&prefetch_window, policy_find("lru"), &t, 1000, NULL, NULL, &r[1]));
	assert_in_range(coverage(&r[0]), 50, 100);
	assert_true(r[0].misses * 3 < r[1].misses * 2);
	trace_free(&t);
}

/* On references without a pattern every prefetcher stops, with few exceptions. */
static void useless_prefetching_shrinks(void **state)
{
	for (unsigned k = 0; k < NPAIRS; k++) {
		struct prefetch_result r = run(pairs[k].ops, "random", 200);

		assert_true(r.issued <= r.misses + r.misses / 4);
		assert_true(pairs[k].ops == &prefetch_around || r.issued <= r.misses / 8);
	}
}

/* If most pages are in memory, each has neighbours there, which was once taken for streams. */
static void streams_are_not_seen_where_there_are_none(void **state)
{
	for (uint32_t frames = 250; frames < 1000; frames += 250) {
		struct prefetch_result r = { 0 };
		struct trace t;
		uint64_t x = 77;

		trace_init(&t);
		for (unsigned i = 0; i < 60000; i++) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			assert_true(trace_add(&t, (x >> 33) % 1000, false));
		}
		assert_true(replay_prefetch(
		    &prefetch_streams, policy_find("lru"), &t, frames, NULL, NULL, &r));
		assert_true(r.issued <= r.misses / 8);
		trace_free(&t);
	}
}

static void prefetchers_are_found_by_name(void **state)
{
	for (unsigned i = 0; prefetch_table[i] != NULL; i++)
		assert_ptr_equal(prefetch_find(prefetch_table[i]->pf_name), prefetch_table[i]);
	assert_null(prefetch_find("nothing"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_are_the_naive_ones),
		cmocka_unit_test(strides_of_every_size_are_found),
		cmocka_unit_test(every_prefetcher_covers_a_sequence),
		cmocka_unit_test(streams_in_turns_are_all_seen),
		cmocka_unit_test(streams_that_go_down_are_seen),
		cmocka_unit_test(streams_are_not_seen_where_there_are_none),
		cmocka_unit_test(strides_are_covered),
		cmocka_unit_test(majority_survives_strays),
		cmocka_unit_test(useless_prefetching_shrinks),
		cmocka_unit_test(prefetchers_are_found_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
