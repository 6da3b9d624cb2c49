/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Replacement policies: each, on traces of every pattern and many memory sizes, evicts exactly the
 * pages, in the order, that a naive implementation of the same paper evicts (policy_brute.c); MIN
 * against every choice tried; the properties that must hold between them; and their rounds, driven
 * as by page-out, with pages that cannot be evicted.
 */
#include "lab/lab.h"
#include "policy/history.h"
#include "tests/policy/policy_brute.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t rnd_state;

static uint32_t rnd(uint32_t n)
{
	rnd_state = rnd_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((rnd_state >> 33) % n);
}

static const uint32_t sizes[] = { 1, 2, 3, 5, 8, 13, 31, 64, 100 };
#define NSIZES (sizeof sizes / sizeof sizes[0])

/* ---- against the naive policies ---- */
struct compare {
	const uint32_t *want;
	uint64_t nwant, n;
	uint64_t differ; /* first eviction that differs */
};

static void compare_evicted(void *arg, uint64_t at, uint32_t page)
{
	struct compare *c = arg;

	(void)at;
	if ((c->n >= c->nwant || c->want[c->n] != page) && c->differ == UINT64_MAX)
		c->differ = c->n;
	c->n++;
}

static unsigned compare_one(
    const struct policy_ops *ops, const struct trace *t, const char *what, uint32_t c)
{
	uint32_t *out = malloc(sizeof *out * t->t_len);
	struct compare cmp = { .want = out, .differ = UINT64_MAX };
	struct replay_result r;
	uint64_t misses = brute(ops->pol_name, t->t_page, t->t_len, c, out, &cmp.nwant);
	unsigned bad;

	if (misses == UINT64_MAX)
		fail_msg("policy_brute.c has no naive %s to compare with", ops->pol_name);
	assert_true(replay(ops, t, c, compare_evicted, &cmp, &r));
	bad = cmp.differ != UINT64_MAX || cmp.n != cmp.nwant || r.misses != misses;
	if (bad)
		print_error("%s on %s, %u frames: %" PRIu64 " misses, naive %" PRIu64
			    "; eviction %" PRIu64 " of %" PRIu64 " is the first other\n",
		    ops->pol_name, what, c, r.misses, misses, cmp.differ, cmp.nwant);
	free(out);
	return bad;
}

static void compare_all(const struct policy_ops *ops)
{
	unsigned bad = 0;

	for (unsigned p = 0; trace_patterns[p].name != NULL; p++) {
		for (uint64_t seed = 1; seed <= 3; seed++) {
			struct trace t;

			trace_init(&t);
			assert_true(trace_generate(
			    &t, trace_patterns[p].name, (uint32_t)(40 * seed), 2500, seed));
			for (unsigned i = 0; i < NSIZES; i++)
				bad += compare_one(ops, &t, trace_patterns[p].name, sizes[i]);
			trace_free(&t);
		}
	}
	assert_int_equal(bad, 0);
}

static void every_policy_evicts_what_its_naive_one_does(void **state)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++)
		compare_all(policy_table[i]);
}

/* Short random traces of few pages: many more corner cases per reference. */
static void short_traces_of_few_pages_evict_as_the_naive_one(void **state)
{
	unsigned bad = 0;

	rnd_state = 7;
	for (unsigned k = 0; k < 3000; k++) {
		uint32_t pages = 2 + rnd(12), c = 1 + rnd(8), n = 20 + rnd(150);
		struct trace t;

		trace_init(&t);
		for (uint32_t i = 0; i < n; i++)
			assert_true(trace_add(
			    &t, rnd(3) == 0 ? rnd(pages) : rnd(pages / 2 + 1), rnd(4) == 0));
		for (unsigned i = 0; policy_table[i] != NULL; i++)
			bad += compare_one(policy_table[i], &t, "a tiny trace", c);
		trace_free(&t);
	}
	assert_int_equal(bad, 0);
}

/* ---- MIN ---- */
static void min_misses_least_of_every_choice(void **state)
{
	rnd_state = 11;
	for (unsigned k = 0; k < 2000; k++) {
		uint32_t pages = 2 + rnd(5), c = 1 + rnd(3), n = 4 + rnd(8);
		struct replay_result r;
		struct trace t;

		trace_init(&t);
		for (uint32_t i = 0; i < n; i++)
			assert_true(trace_add(&t, rnd(pages), false));
		assert_true(replay_min(&t, c, &r));
		assert_int_equal(r.misses, brute_fewest(t.t_page, n, c));
		assert_int_equal(r.misses, brute_min(t.t_page, n, c));
		trace_free(&t);
	}
}

static void min_misses_as_the_naive_one_on_every_pattern(void **state)
{
	for (unsigned p = 0; trace_patterns[p].name != NULL; p++) {
		struct trace t;

		trace_init(&t);
		assert_true(trace_generate(&t, trace_patterns[p].name, 60, 1500, 5));
		for (unsigned i = 0; i < NSIZES; i++) {
			struct replay_result r;

			assert_true(replay_min(&t, sizes[i], &r));
			assert_int_equal(r.misses, brute_min(t.t_page, t.t_len, sizes[i]));
		}
		trace_free(&t);
	}
}

/* ---- between policies ---- */
static void properties_between_policies_hold(void **state)
{
	for (unsigned p = 0; trace_patterns[p].name != NULL; p++) {
		uint64_t lru_before = UINT64_MAX, min_before = UINT64_MAX;
		struct replay_result r, min;
		struct trace t;

		trace_init(&t);
		assert_true(trace_generate(&t, trace_patterns[p].name, 300, 20000, 9));
		for (uint32_t c = 1; c <= t.t_npages; c += 1 + c / 3) {
			assert_true(replay_min(&t, c, &min));
			assert_true(min.misses <= min_before);
			min_before = min.misses;
			for (unsigned i = 0; policy_table[i] != NULL; i++) {
				assert_true(replay(policy_table[i], &t, c, NULL, NULL, &r));
				assert_true(r.misses >= min.misses);
				assert_true(r.misses >= t.t_npages && r.writes <= r.misses);
				if (policy_table[i] == policy_find("lru")) {
					assert_true(r.misses <= lru_before);
					lru_before = r.misses;
				}
			}
		}
		/* Room for all: each page misses once. */
		for (unsigned i = 0; policy_table[i] != NULL; i++) {
			assert_true(replay(policy_table[i], &t, t.t_npages, NULL, NULL, &r));
			assert_int_equal(r.misses, t.t_npages);
			assert_int_equal(r.writes, 0);
		}
		trace_free(&t);
	}
}

/*
 * Every page that LRU holds in k frames it also holds in k + 1 frames. A page is held if its last
 * use is not before its last eviction.
 */
struct evictions {
	uint64_t last[64]; /* reference + 1 */
};

static void note_eviction(void *arg, uint64_t at, uint32_t page)
{
	((struct evictions *)arg)->last[page] = at + 1;
}

static void more_memory_keeps_what_less_has_with_lru(void **state)
{
	for (unsigned p = 0; trace_patterns[p].name != NULL; p++) {
		for (uint64_t len = 100; len <= 800; len += 50) {
			bool before[64] = { false };
			uint64_t used[64] = { 0 };
			struct trace t;

			trace_init(&t);
			assert_true(trace_generate(&t, trace_patterns[p].name, 60, len, 3));
			assert_true(t.t_npages <= 64);
			for (uint64_t i = 0; i < len; i++)
				used[t.t_page[i]] = i + 1;
			for (uint32_t c = 1; c <= t.t_npages; c++) {
				struct evictions ev = { { 0 } };
				struct replay_result r;
				uint32_t held = 0;

				assert_true(
				    replay(policy_find("lru"), &t, c, note_eviction, &ev, &r));
				for (uint32_t a = 0; a < t.t_npages; a++) {
					bool now = used[a] > ev.last[a];

					assert_true(now || !before[a]);
					before[a] = now;
					held += now;
				}
				assert_int_equal(held, c);
			}
			trace_free(&t);
		}
	}
}

/* ---- as page-out drives them: batches, failed writes, locked pages, prefetch, wiring ---- */
#define NF 64u

struct drive {
	const struct policy_ops *d_ops;
	void *d_state;
	struct page *d_page;
	enum pol_refs d_refs;
	bool d_in[NF], d_leaving[NF], d_used[NF], d_mapped[NF];
	uint64_t d_id[NF], d_next_id;
};

static void drive_open(struct drive *d, const struct policy_ops *ops, enum pol_refs refs)
{
	struct pol_env env = { .pe_nframes = NF, .pe_refs = refs };

	memset(d, 0, sizeof *d);
	d->d_ops = ops;
	d->d_refs = refs;
	d->d_state = calloc(1, ops->pol_size(NF) + 8);
	d->d_page = aligned_alloc(64, sizeof(struct page) * NF);
	assert_true(d->d_state != NULL && d->d_page != NULL);
	memset(d->d_page, 0, sizeof(struct page) * NF);
	env.pe_pages = d->d_page;
	ops->pol_init(d->d_state, &env);
	ops->pol_resize(d->d_state, NF);
}

static void drive_close(struct drive *d)
{
	free(d->d_state);
	free(d->d_page);
}

static void drive_insert(struct drive *d, uint32_t f, uint64_t id, bool prefetched)
{
	for (uint32_t i = 0; i < NF; i++)
		if (d->d_in[i] && d->d_id[i] == id)
			return;
	if (!prefetched)
		(void)d->d_ops->pol_miss(d->d_state, id, rnd(4) == 0);
	d->d_page[f].p_flags = prefetched ? P_PREFETCHED : 0;
	d->d_ops->pol_insert(d->d_state, &d->d_page[f], id, prefetched);
	d->d_in[f] = true;
	d->d_id[f] = id;
	d->d_used[f] = d->d_mapped[f] = !prefetched;
}

static bool has_bits(const struct drive *d)
{
	return d->d_refs == POL_REFS_BITS || d->d_refs == POL_REFS_WRITES;
}

/* If reference bits tell of writes only, the access is a write. */
static void drive_use(struct drive *d, uint32_t f)
{
	bool fault = d->d_refs == POL_REFS_FAULTS || d->d_refs == POL_REFS_WRITES;

	d->d_used[f] = true;
	if (d->d_refs == POL_REFS_ALL || (fault && !d->d_mapped[f])) {
		d->d_ops->pol_touch(d->d_state, &d->d_page[f]);
		d->d_page[f].p_flags = 0;
	}
	d->d_mapped[f] = true;
}

static void drive_remove(struct drive *d, uint32_t f, bool evicted)
{
	d->d_ops->pol_remove(d->d_state, &d->d_page[f], d->d_id[f], evicted);
	assert_int_equal(d->d_page[f].p_polstate, 0);
	d->d_in[f] = d->d_leaving[f] = false;
}

/*
 * One look. False: the round is over. The page must belong to the policy and must not be leaving.
 */
static bool drive_look(struct drive *d, bool locked_all_but, uint32_t free_one)
{
	enum pol_ask ask = (enum pol_ask)99;
	struct page *pp = d->d_ops->pol_next(d->d_state, &ask);
	uint32_t f;

	if (pp == NULL)
		return false;
	f = (uint32_t)(pp - d->d_page);
	assert_true(f < NF && d->d_in[f]);
	assert_true(ask == POL_ASK_AGE || ask == POL_ASK_EVICT ||
	    (ask == POL_ASK_TEST && d->d_refs == POL_REFS_WRITES));
	if (d->d_leaving[f] || (locked_all_but ? f != free_one : rnd(8) == 0)) {
		/*
		 * A leaving page is locked: policies should not choose it, and need not be told
		 * twice.
		 */
		d->d_ops->pol_seen(d->d_state, pp, false, true);
		d->d_leaving[f] = false;
		return true;
	}
	if (d->d_refs == POL_REFS_FAULTS || (ask == POL_ASK_TEST && !d->d_used[f]))
		d->d_mapped[f] = false;
	if (ask != POL_ASK_EVICT || (has_bits(d) && d->d_used[f])) {
		bool used = has_bits(d) && d->d_used[f];

		d->d_used[f] = false;
		d->d_ops->pol_seen(d->d_state, pp, used, false);
		/* the page is dirty: it leaves later, or comes back */
	} else if (!locked_all_but && rnd(2) == 0) {
		d->d_ops->pol_seen(d->d_state, pp, false, false);
		d->d_leaving[f] = true;
	} else {
		drive_remove(d, f, true);
	}
	return true;
}

static void drive_random(const struct policy_ops *ops, enum pol_refs refs)
{
	struct drive d;

	drive_open(&d, ops, refs);
	for (unsigned k = 0; k < 60000; k++) {
		uint32_t f = rnd(NF);

		switch (rnd(12)) {
		case 0:
		case 1:
		case 2:
			if (!d.d_in[f])
				drive_insert(&d, f, rnd(200), rnd(5) == 0);
			break;
		case 3:
		case 4:
		case 5:
			if (d.d_in[f] && !d.d_leaving[f])
				drive_use(&d, f);
			break;
		case 6:
			if (d.d_in[f] && rnd(4) == 0)
				drive_remove(&d, f, false);
			break;
		case 7:
			if (d.d_leaving[f] && rnd(4) == 0) { /* the write failed */
				ops->pol_seen(d.d_state, &d.d_page[f], false, true);
				d.d_leaving[f] = false;
			} else if (d.d_leaving[f]) {
				drive_remove(&d, f, true);
			}
			break;
		case 8:
			if (d.d_in[f] && !d.d_leaving[f] && rnd(4) == 0) {
				d.d_mapped[f] = d.d_used[f] = false;
				ops->pol_cool(d.d_state, &d.d_page[f]);
			} else if (rnd(50) == 0)
				ops->pol_resize(d.d_state, 1 + rnd(NF));
			break;
		default: (void)drive_look(&d, false, 0);
		}
		uint32_t n = 0;
		for (f = 0; f < NF; f++)
			n += d.d_in[f];
		assert_int_equal(ops->pol_pages(d.d_state), n);
	}
	for (uint32_t f = 0; f < NF; f++)
		if (d.d_in[f])
			drive_remove(&d, f, false);
	assert_false(drive_look(&d, false, 0));
	drive_close(&d);
}

static void page_out_finds_the_one_page_that_can_be_had(void **state)
{
	rnd_state = 13;
	for (unsigned i = 0; policy_table[i] != NULL; i++)
		for (unsigned refs = POL_REFS_ALL; refs <= POL_REFS_FAULTS; refs++)
			drive_random(policy_table[i], (enum pol_refs)refs);
}

/*
 * Found by this test: the two-handed clock's back hand never reached the only page that could be
 * evicted.
 */
static void one_unlocked_page_is_found(void **state)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++) {
		for (unsigned refs = POL_REFS_ALL; refs <= POL_REFS_FAULTS; refs++) {
			for (uint32_t only = 0; only < NF; only += 3) {
				unsigned looks = 0;
				struct drive d;

				rnd_state = only;
				drive_open(&d, policy_table[i], (enum pol_refs)refs);
				for (uint32_t f = 0; f < NF; f++)
					drive_insert(&d, f, f, f % 5 == 0);
				for (uint32_t f = 0; f < NF; f += 3)
					drive_use(&d, f);
				/* This is one round, not the end of another. */
				while (d.d_in[only] && drive_look(&d, true, only))
					assert_true(++looks < 8 * NF);
				if (d.d_in[only])
					print_error(
					    "%s, references seen as %u: page %u was not found\n",
					    policy_table[i]->pol_name, refs, only);
				assert_false(d.d_in[only]);
				drive_close(&d);
			}
		}
	}
}

/* No page can be evicted: the round ends. */
static void a_round_that_finds_nothing_ends(void **state)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++) {
		for (unsigned refs = POL_REFS_ALL; refs <= POL_REFS_FAULTS; refs++) {
			struct drive d;

			drive_open(&d, policy_table[i], (enum pol_refs)refs);
			for (uint32_t f = 0; f < NF; f++)
				drive_insert(&d, f, f, false);
			for (unsigned rounds = 0; rounds < 3; rounds++) {
				unsigned looks = 0;

				while (drive_look(&d, true, NF))
					assert_true(++looks < 8 * NF);
			}
			drive_close(&d);
		}
	}
}

/* Cold pages are evicted first; a cold page that was used meanwhile stays. */
static void cold_pages_go_first(void **state)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++) {
		for (unsigned refs = POL_REFS_ALL; refs <= POL_REFS_FAULTS; refs++) {
			struct drive d;

			drive_open(&d, policy_table[i], (enum pol_refs)refs);
			for (uint32_t f = 0; f < NF; f++)
				drive_insert(&d, f, f, false);
			for (uint32_t f = 40; f < 48; f++) {
				d.d_mapped[f] = d.d_used[f] = false;
				policy_table[i]->pol_cool(d.d_state, &d.d_page[f]);
			}
			drive_use(&d, 44);
			for (unsigned gone = 0; gone < 7;) {
				enum pol_ask ask = POL_ASK_AGE;
				struct page *pp = policy_table[i]->pol_next(d.d_state, &ask);
				uint32_t f = (uint32_t)(pp - d.d_page);

				assert_true(
				    pp != NULL && f >= 40 && f < 48 && ask == POL_ASK_EVICT);
				if (has_bits(&d) && d.d_used[f]) {
					policy_table[i]->pol_seen(d.d_state, pp, true, false);
				} else {
					assert_int_not_equal(f, 44);
					drive_remove(&d, f, true);
					gone++;
				}
			}
			drive_close(&d);
		}
	}
}

/*
 * Half of the frames are for pages that the program reads all the time, where bits tell of writes
 * only: the policy finds them by tests, each of which costs a fault, at most one for four pages
 * that come in. The pages of the stream beside them are evicted first.
 */
static void reads_are_sampled(void **state)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++) {
		unsigned came = 0, rescued = 0, lost = 0;
		struct drive d;

		/* the policy has no standby pages: its front hand tests no page */
		if (policy_table[i] == &policy_clock2)
			continue;
		drive_open(&d, policy_table[i], POL_REFS_WRITES);
		for (uint32_t f = 0; f < NF; f++)
			drive_insert(&d, f, d.d_next_id++, false);
		while (came < 20000) {
			enum pol_ask ask;
			struct page *pp = d.d_ops->pol_next(d.d_state, &ask);
			uint32_t f = (uint32_t)(pp - d.d_page);

			if (pp == NULL)
				continue;
			if (ask != POL_ASK_EVICT) {
				d.d_ops->pol_seen(d.d_state, pp, false, false);
				if (ask == POL_ASK_TEST && f < NF / 2) {
					d.d_ops->pol_touch(d.d_state, pp);
					rescued++;
				}
				continue;
			}
			drive_remove(&d, f, true);
			lost += f < NF / 2;
			drive_insert(&d, f, d.d_next_id++, false);
			came++;
		}
		if (rescued > came / 4 + NF || lost > came / 4)
			print_error("%s: of %u, %u tested in vain, %u lost\n", d.d_ops->pol_name,
			    came, rescued, lost);
		assert_true(rescued <= came / 4 + NF && lost <= came / 4);
		drive_close(&d);
	}
}

/*
 * One query, where half of the frames have pages that are used at once after a query. True: such a
 * page was queried.
 */
static bool look_beside_used(struct drive *d, bool use, uint32_t *evicted)
{
	enum pol_ask ask;
	struct page *pp = d->d_ops->pol_next(d->d_state, &ask);
	uint32_t f;

	if (pp == NULL)
		return false;
	f = (uint32_t)(pp - d->d_page);
	d->d_mapped[f] = false;
	if (ask == POL_ASK_AGE) {
		d->d_ops->pol_seen(d->d_state, pp, false, false);
	} else {
		drive_remove(d, f, true);
		*evicted += f >= NF / 2;
		if (f >= NF / 2)
			drive_insert(d, f, d->d_next_id++, false);
	}
	if (!use || f >= NF / 2)
		return false;
	if (!d->d_in[f])
		drive_insert(d, f, f, false);
	else
		drive_use(d, f);
	return true;
}

/*
 * If only faults tell of use, a page in use faults after each query: each round of the hand once
 * queried all of them. The two-handed clock queries by definition. Pages that are no longer used
 * are evicted, unless a policy takes them for hot beside a stream.
 */
static void used_pages_are_seldom_asked(void **state)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++) {
		bool recency = policy_table[i] == policy_find("lru") ||
		    policy_table[i] == policy_find("generations");
		uint32_t asked = 0, evicted = 0, left = NF / 2;
		struct drive d;

		if (policy_table[i] == &policy_clock2)
			continue;
		drive_open(&d, policy_table[i], POL_REFS_FAULTS);
		d.d_next_id = 1000;
		for (uint32_t f = 0; f < NF; f++)
			drive_insert(&d, f, f < NF / 2 ? f : d.d_next_id++, false);
		while (evicted < 2000)
			asked += look_beside_used(&d, true, &evicted);
		assert_in_range(asked, 1, 1000);
		for (evicted = 0; left > 0 && evicted < 2000;) {
			(void)look_beside_used(&d, false, &evicted);
			left = 0;
			for (uint32_t f = 0; f < NF / 2; f++)
				left += d.d_in[f];
		}
		if (left != (recency ? 0 : NF / 2))
			fail_msg(
			    "%s kept %u of %u pages that are not used any more beside a stream; policies that keep none are in `recency`",
			    policy_table[i]->pol_name, left, NF / 2);
		drive_close(&d);
	}
}

/*
 * A ghost comes back at the place that its policy defines, unless the name belongs to another page
 * by then.
 */
static void a_page_that_comes_back_soon_is_a_refault(void **state)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++) {
		bool remembers = policy_table[i]->pol_history;
		struct drive d;

		drive_open(&d, policy_table[i], POL_REFS_ALL);
		for (uint32_t f = 0; f < NF / 2; f++)
			drive_insert(&d, f, f, false);
		while (d.d_in[0])
			(void)drive_look(&d, true, 0);
		assert_false(policy_table[i]->pol_miss(d.d_state, 12345, false));
		assert_int_equal(policy_table[i]->pol_miss(d.d_state, 0, false), remembers);
		assert_false(policy_table[i]->pol_miss(d.d_state, 0, true));
		assert_false(policy_table[i]->pol_miss(d.d_state, 0, false));
		drive_close(&d);
	}
}

/*
 * A ring of evictions answers as a list of them, however full the ring is, and whatever was
 * forgotten.
 */
static void a_ring_of_evictions_tells_what_a_list_does(void **state)
{
	enum { CAP = 37, IDS = 60, STEPS = 20000 };
	uint64_t mem[CAP * 2], last[IDS] = { 0 }, evictions = 0;
	struct history h;

	assert_in_range(history_size(CAP), 1, sizeof mem);
	memset(mem, 0, sizeof mem);
	history_init(&h, mem, CAP);
	rnd_state = 9;
	for (unsigned i = 0; i < STEPS; i++) {
		uint32_t id = rnd(IDS), look = rnd(IDS);
		bool there = last[look] != 0 && evictions - last[look] < CAP;

		assert_int_equal(history_since(&h, look), there ? evictions - last[look] + 1 : 0);
		history_forget(&h, id);
		last[id] = 0;
		if (rnd(4) != 0) {
			history_add(&h, id);
			last[id] = ++evictions;
		}
	}
}

/* ---- traces as files ---- */
static void traces_are_read_as_they_were_written(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t len;
	} texts[] = {
		{ "1\n2 w\n0x10 r\n\n# nothing\n3#x\n", true, 4 },
		{ "7", true, 1 },
		{ "1\n2\n3\n4\n5\n6\n7\n8\n", true, 8 },
		{ "", false, 0 },
		{ "# only this\n", false, 0 },
		{ "1\nx\n", false, 0 },
		{ "1 q\n", false, 0 },
		{ "1 ww\n", false, 0 },
		{ "QTRACE1\n\1\0\0", false, 0 },
		{ "\1\2\3\4\5\6\7\2", false, 0 },
	};
	char why[160];
	struct trace t, u;

	for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		FILE *f = tmpfile();

		assert_non_null(f);
		fwrite(texts[i].text, 1, i == 8 ? 11 : strlen(texts[i].text), f);
		rewind(f);
		trace_init(&t);
		assert_int_equal(trace_read(&t, f, TRACE_GUESS, why, sizeof why), texts[i].ok);
		if (texts[i].ok)
			assert_int_equal(t.t_len, texts[i].len);
		trace_free(&t);
		fclose(f);
	}
	for (unsigned text = 0; text < 2; text++) {
		FILE *f = tmpfile();

		trace_init(&t);
		trace_init(&u);
		assert_true(trace_generate(&t, "zipf", 5000, 20000, 4));
		assert_true(trace_write(&t, f, text != 0));
		rewind(f);
		assert_true(trace_read(&u, f, TRACE_GUESS, why, sizeof why));
		assert_int_equal(t.t_len, u.t_len);
		assert_int_equal(t.t_npages, u.t_npages);
		assert_memory_equal(t.t_page, u.t_page, sizeof *t.t_page * t.t_len);
		assert_memory_equal(t.t_write, u.t_write, t.t_len);
		assert_memory_equal(t.t_addr, u.t_addr, sizeof *t.t_addr * t.t_npages);
		trace_free(&t);
		trace_free(&u);
		fclose(f);
	}
}

static void policies_are_found_by_name_only(void **state)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++)
		assert_ptr_equal(policy_find(policy_table[i]->pol_name), policy_table[i]);
	assert_null(policy_find(""));
	assert_null(policy_find("clock"));
	assert_null(policy_find("clock22"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_policy_evicts_what_its_naive_one_does),
		cmocka_unit_test(short_traces_of_few_pages_evict_as_the_naive_one),
		cmocka_unit_test(min_misses_least_of_every_choice),
		cmocka_unit_test(min_misses_as_the_naive_one_on_every_pattern),
		cmocka_unit_test(properties_between_policies_hold),
		cmocka_unit_test(more_memory_keeps_what_less_has_with_lru),
		cmocka_unit_test(page_out_finds_the_one_page_that_can_be_had),
		cmocka_unit_test(one_unlocked_page_is_found),
		cmocka_unit_test(a_round_that_finds_nothing_ends),
		cmocka_unit_test(reads_are_sampled),
		cmocka_unit_test(cold_pages_go_first),
		cmocka_unit_test(used_pages_are_seldom_asked),
		cmocka_unit_test(a_page_that_comes_back_soon_is_a_refault),
		cmocka_unit_test(a_ring_of_evictions_tells_what_a_list_does),
		cmocka_unit_test(traces_are_read_as_they_were_written),
		cmocka_unit_test(policies_are_found_by_name_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
