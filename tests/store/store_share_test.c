/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pool's share of the budget (store/pool_share.c): which pages stay in memory, when the packer packs tighter, and that the share
 * goes where it saves the most waiting.
 *
 *   store_share_test [PATTERN]     PATTERN selects tests by name
 * STORE_SEED repeats a run: each prints its seed first.
 */
#include "tests/store/store_rig.h"

static long charged, allowed;
static int charge(void *arg, long pages)
{
	(void)arg;
	if (pages > 0 && charged + pages > allowed)
		return -1;
	charged += pages;
	return 0;
}

#define SHARE_PAGES 3000u
static uint32_t share_handle[SHARE_PAGES];

static uint64_t share_what(uint32_t i)
{
	return i * 8ull + 2;
} /* a compressible page, as in put_all */

static uint64_t share_target(struct rig *r)
{
	struct pool_stats st;

	pool_stats(&r->p, &st);
	return st.mem_target;
}

/* The page is loaded and evicted again: it is stored anew, as the newest. */
static void comes_back(struct rig *r, uint32_t i)
{
	expect(r, share_handle[i], share_what(i));
	pool_unref(&r->p, share_handle[i]);
	assert_int_equal(put(r, share_what(i), &share_handle[i]), 0);
}

static uint64_t read_by_one_round(struct rig *r, uint32_t n)
{
	struct pool_stats before, after;

	pool_stats(&r->p, &before);
	for (uint32_t i = 0; i < n; i++)
		comes_back(r, i);
	pool_stats(&r->p, &after);
	return after.bytes_read - before.bytes_read;
}

/* Pages read by the last of some rounds. */
static uint64_t late_reads(struct rig *r, uint32_t n, unsigned rounds)
{
	uint64_t last = 0;

	while (rounds-- > 0)
		last = read_by_one_round(r, n);
	return last / PAGE;
}

/*
 * Pages in use and new pages that are never loaded again share the log. Compaction once put live
 * objects beside new ones, so that pages in use were written repeatedly along with the others.
 */
static void pages_in_use_stay_in_memory(void **state)
{
	const uint32_t used = 400;
	struct pool_stats before, after;
	uint32_t n = used;
	struct rig r;

	(void)state;
	setup(&r, 32 * SEG, 32 * MiB);
	put_all(&r, share_handle, used);
	for (uint32_t k = 0; n < SHARE_PAGES; k++) {
		comes_back(&r, (uint32_t)(rnd() % used));
		if (k % 16 == 0) {
			assert_int_equal(put(&r, share_what(n), &share_handle[n]), 0);
			n++;
		}
		if (n == SHARE_PAGES / 2)
			pool_stats(&r.p, &before);
	}
	pool_stats(&r.p, &after);
	assert_true(after.spills > before.spills + 10);
	assert_in_range(after.bytes_read - before.bytes_read, 0, 4 * SEG);
	drop_all(&r, share_handle, n);
	expect_empty(&r);
	teardown(&r);
}

/* Stores that many new pages, packed by the packer; returns how many were packed tighter. */
static uint64_t packed_tighter(struct rig *r, uint32_t *n, uint32_t more)
{
	struct pool_stats before, after;

	pool_stats(&r->p, &before);
	for (; more > 0; more--, ++*n) {
		assert_int_equal(put(r, share_what(*n), &share_handle[*n]), 0);
		if (*n % 32 == 31)
			pack_all(r);
	}
	pool_stats(&r->p, &after);
	return after.dense - before.dense;
}

/*
 * The packer once packed tighter only if the log had no dead bytes, however much was read from the
 * file for lack of memory.
 */
static void reads_make_the_packer_pack_tighter(void **state)
{
	uint32_t n = 0;
	struct rig r;

	(void)state;
	setup(&r, 64 * SEG, 32 * MiB);
	pool_pack_behind(&r.p, 4 * SEG);
	(void)packed_tighter(&r, &n, 2400);
	for (uint32_t i = 800; i < 2400; i += 2) /* most in memory */
		pool_unref(&r.p, share_handle[i]);
	assert_in_range(packed_tighter(&r, &n, 200), 0, 40);
	for (uint32_t i = 800; i < 2400; i += 2) { /* the pool is full again */
		assert_int_equal(put(&r, share_what(i), &share_handle[i]), 0);
		if (i % 32 == 0)
			pack_all(&r);
	}
	for (uint32_t i = 0; i < 2000; i++) /* far apart in the file */
		expect(&r, share_handle[i * 167 % 800], share_what(i * 167 % 800));
	assert_in_range(packed_tighter(&r, &n, 200), 160, 200);
	for (uint32_t i = 800; i < 2000; i++) { /* there is room again */
		pool_unref(&r.p, share_handle[i]);
		share_handle[i] = 0;
	}
	assert_in_range(packed_tighter(&r, &n, 100), 0, 20);
	pool_unref_vec(&r.p, n, share_handle);
	expect_empty(&r);
	teardown(&r);
}

static void the_share_goes_where_it_saves_most(void **state)
{
	const uint64_t mem = 4 * MiB, least = 1 * MiB;
	struct pool_stats st;
	uint32_t n = 0;
	struct rig r;

	(void)state;
	setup_sharing(&r, mem, least, 32 * MiB);
	put_all(&r, share_handle, SHARE_PAGES);
	pool_stats(&r.p, &st);
	assert_int_not_equal(st.spills, 0);
	assert_int_equal(st.mem_target, mem); /* nobody asked yet */
	/* Pages evicted a moment ago are loaded: a few more frames would have kept them. */
	for (unsigned k = 0; k < 60000; k++)
		comes_back(&r, k % 32);
	assert_int_equal(share_target(&r), least);
	/*
	 * A round of pages slightly larger than the pool is read again just after it was written:
	 * the pool grows until the round fits.
	 */
	while (share_target(&r) == least && n < SHARE_PAGES)
		(void)late_reads(&r, n += 100, 4);
	assert_true(late_reads(&r, n, 200) < n / 16);
	assert_true(share_target(&r) > least);
	drop_all(&r, share_handle, SHARE_PAGES);
	expect_empty(&r);
	teardown(&r);
}

/* Saved memory becomes frames: pages are packed tighter even before memory is short. */
static void shared_memory_is_packed_tightly(void **state)
{
	struct pool_stats st;
	struct rig r;

	(void)state;
	setup_sharing(&r, 4 * MiB, 1 * MiB, 32 * MiB);
	put_all(&r, share_handle, 100);
	pool_stats(&r.p, &st);
	assert_int_equal(st.dense, 100);
	drop_all(&r, share_handle, 100);
	expect_empty(&r);
	teardown(&r);
}

/* A page evicted clean is not stored; the store is told of the eviction. */
static void the_share_knows_of_clean_pages(void **state)
{
	struct rig r;

	(void)state;
	setup_sharing(&r, 4 * MiB, 1 * MiB, 32 * MiB);
	put_all(&r, share_handle, SHARE_PAGES);
	for (unsigned k = 0; k < 60000; k++)
		expect(&r, share_handle[k % 32], share_what(k % 32));
	/* the store does not know that they were evicted */
	assert_int_equal(share_target(&r), 4 * MiB);
	for (unsigned k = 0; k < 60000; k++) {
		expect(&r, share_handle[k % 32], share_what(k % 32));
		pool_dropped(&r.p, share_handle[k % 32]);
	}
	assert_int_equal(share_target(&r), 1 * MiB);
	drop_all(&r, share_handle, SHARE_PAGES);
	expect_empty(&r);
	teardown(&r);
}

/* With a full or failing file, stores succeed while the pool may take more memory. */
static void a_full_file_sends_no_page_away_while_memory_is_left(void **state)
{
	uint32_t n = 0, again = 0;
	struct rig r;

	(void)state;
	setup_sharing(&r, 2 * MiB, MiB / 2, MiB / 2);
	while (n < SHARE_PAGES && put(&r, share_what(n), &share_handle[n]) == 0)
		n++;
	assert_in_range(n, 256, SHARE_PAGES - 1);
	for (uint32_t i = 0; i < 64; i++)
		pool_unref(&r.p, share_handle[--n]);
	for (unsigned k = 0; k < 60000; k++)
		comes_back(&r, n - 1 - k % 16);
	while (put(&r, share_what(n + again), &share_handle[n + again]) == 0)
		again++;
	assert_in_range(again, 32, 128);
	assert_int_equal(share_target(&r), 2 * MiB);
	expect_all(&r, share_handle, n + again);
	drop_all(&r, share_handle, n + again);
	expect_empty(&r);
	teardown(&r);
}

/*
 * A page that could not be stored young for lack of memory was once tried again the same way,
 * forever.
 */
static void young_pages_without_memory_are_not_tried_for_ever(void **state)
{
	struct rig r;

	(void)state;
	charged = 0;
	allowed = 12 * 16;
	setup(&r, 64 * SEG, 16 * MiB);
	pool_pack_behind(&r.p, 8 * SEG);
	r.p.p_charge = charge;
	for (uint32_t i = 0; i < SHARE_PAGES / 2; i++) {
		assert_int_equal(put(&r, share_what(i), &share_handle[i]), 0);
		if (i % 500 == 499) /* now the log has all the memory */
			pack_all(&r);
	}
	expect_all(&r, share_handle, SHARE_PAGES / 2);
	drop_all(&r, share_handle, SHARE_PAGES / 2);
	expect_empty(&r);
	teardown(&r);
}

/* A segment for such pages was made and freed again for ever if no memory could be had at all. */
static void a_store_without_memory_is_full(void **state)
{
	struct rig r;

	(void)state;
	charged = 0;
	allowed = 0;
	setup(&r, 64 * SEG, 16 * MiB);
	pool_pack_behind(&r.p, 8 * SEG);
	r.p.p_charge = charge;
	assert_int_equal(put(&r, share_what(1), &share_handle[0]), -ENOSPC);
	allowed = 12 * 16;
	for (uint32_t i = 0; i < SHARE_PAGES / 2; i++)
		assert_int_equal(put(&r, share_what(i), &share_handle[i]), 0);
	expect_all(&r, share_handle, SHARE_PAGES / 2);
	drop_all(&r, share_handle, SHARE_PAGES / 2);
	expect_empty(&r);
	teardown(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_in_use_stay_in_memory),
		cmocka_unit_test(reads_make_the_packer_pack_tighter),
		cmocka_unit_test(the_share_goes_where_it_saves_most),
		cmocka_unit_test(shared_memory_is_packed_tightly),
		cmocka_unit_test(the_share_knows_of_clean_pages),
		cmocka_unit_test(a_full_file_sends_no_page_away_while_memory_is_left),
		cmocka_unit_test(young_pages_without_memory_are_not_tried_for_ever),
		cmocka_unit_test(a_store_without_memory_is_full),
	};

	return store_run(tests, sizeof tests / sizeof *tests, argc > 1 ? argv[1] : NULL);
}
