/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The results that store/pool.h and store/far_ring.h promise when a call fails: each error, and the
 * state of the store after it.
 *
 *   store_results_test [PATTERN]     PATTERN selects tests by name
 */
#include "tests/store/store_rig.h"

#include <linux/futex.h>

#include "store/far_ring.h"

#define PACKED(i) (8u * (i) + 2u)     /* names of compressible pages */
#define UNPACKABLE(i) (8u * (i) + 1u) /* names of incompressible pages */

static void *map_memory(size_t bytes)
{
	void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(m != MAP_FAILED);
	return m;
}

/* A store of 1 MiB with room for that many members, and with a file of that many bytes. */
static void make_store(struct rig *r, uint32_t members, uint64_t file)
{
	struct pool_config cfg = { .mem_limit = MiB, .file_limit = file, .max_members = members };
	const char *why;

	*r = (struct rig){ .size = pool_shared_size(&cfg), .fd = -1 };
	r->mem = map_memory(r->size);
	assert_int_equal(pool_format(r->mem, &cfg), 0);
	if (file > 0)
		assert_true((r->fd = swapfile_open(NULL, file, false, &why)) >= 0);
	assert_int_equal(pool_attach(&r->p, r->mem, r->size, r->fd), 0);
}

static void end_store(struct rig *r)
{
	pool_detach(&r->p);
	(void)munmap(r->mem, r->size);
	if (r->fd >= 0)
		(void)close(r->fd);
}

static int store_page(struct pool *p, uint64_t what, uint32_t *handle)
{
	uint8_t page[PAGE];

	fill(page, what);
	return pool_store(p, page, handle);
}

static void memory_without_a_store_is_not_attached(void **state)
{
	void *mem = map_memory(16 * PAGE);
	struct pool p;

	(void)state;
	assert_int_equal(pool_attach(&p, mem, 16 * PAGE, -1), -EINVAL);
	(void)munmap(mem, 16 * PAGE);
}

/* The member that finds no entry stores and loads all the same, but cannot fork as a member. */
static void a_full_table_of_members_records_no_further_process(void **state)
{
	struct rig r;
	struct pool second, third;
	uint32_t h;

	(void)state;
	make_store(&r, 2, 0);
	assert_int_equal(pool_join(&r.p, 1), 0);
	assert_int_equal(pool_attach(&second, r.mem, r.size, -1), 0);
	assert_int_equal(pool_attach(&third, r.mem, r.size, -1), 0);
	assert_int_equal(pool_join(&second, 2), 0);
	assert_int_equal(pool_join(&third, 3), -EAGAIN);
	assert_int_equal(pool_fork_begin(&third), -EAGAIN);
	assert_int_equal(
	    pool_fork_begin(&second), -EAGAIN); /* the child would need an entry, too */
	assert_int_equal(store_page(&third, PACKED(1), &h), 0);
	expect(&r, h, PACKED(1));
	pool_unref(&third, h);
	pool_release(&r.p, 2);
	assert_int_equal(pool_join(&third, 3), 0);
	pool_detach(&third);
	pool_detach(&second);
	end_store(&r);
}

static uint32_t last_child(void *arg)
{
	(void)arg;
	return POOL_TAGS - 1;
}

/* A process that has ended keeps its entry until its release: there were fewer entries than tags. */
static void each_tag_of_a_family_has_an_entry(void **state)
{
	struct rig r;

	(void)state;
	make_store(&r, POOL_MEMBERS, 0);
	for (uint32_t tag = 0; tag < POOL_TAGS; tag++)
		assert_int_equal(pool_join(&r.p, tag), 0);
	assert_int_equal(pool_join(&r.p, POOL_KEEPER_TAG), 0);
	r.p.p_tag = last_child;
	assert_int_equal(pool_fork_begin(&r.p), 0);
	pool_fork_cancel(&r.p);
	end_store(&r);
}

static bool ends(void *arg) { return *(bool *)arg; }

/* The end of a run waited until every page of the dead program was given back to a store that ended, too. */
static void a_release_stops_when_the_store_ends(void **state)
{
	bool over = true;
	struct rig r;
	struct pool second;
	struct pool_stats ps;
	uint32_t h[8];

	(void)state;
	make_store(&r, 2, 0);
	assert_int_equal(pool_join(&r.p, 1), 0);
	assert_int_equal(pool_attach(&second, r.mem, r.size, -1), 0);
	assert_int_equal(pool_join(&second, 2), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(store_page(&second, PACKED(i), &h[i]), 0);
	r.p.p_ends = ends;
	r.p.p_charge_arg = &over;
	pool_release(&r.p, 2);
	pool_stats(&r.p, &ps);
	assert_int_equal(ps.pages, 8);
	over = false;
	pool_release(&r.p, 2);
	pool_stats(&r.p, &ps);
	assert_int_equal(ps.pages, 0);
	pool_detach(&second);
	end_store(&r);
}

static void only_one_thread_of_a_member_with_a_file_writes_behind(void **state)
{
	struct rig r;

	(void)state;
	make_store(&r, 2, 0);
	assert_int_equal(pool_join(&r.p, 1), 0);
	assert_int_equal(pool_async(&r.p), -EINVAL); /* no file */
	end_store(&r);
	make_store(&r, 2, 4 * MiB);
	assert_int_equal(pool_async(&r.p), -EINVAL); /* no member */
	assert_int_equal(pool_join(&r.p, 1), 0);
	if (pool_async(&r.p) == 0)
		assert_int_equal(pool_async(&r.p), -EINVAL); /* a thread writes behind already */
	pool_async_end(&r.p);
	end_store(&r);
}

/* Each handle that a failed call has returned is right, and the store works after pages are dropped. */
static void a_full_store_keeps_the_pages_before_the_failure(void **state)
{
	enum { MOST = 400 };
	static uint8_t page[MOST][PAGE];
	static const void *from[MOST];
	static uint32_t handle[MOST];
	struct rig r;
	uint32_t done = 0, h;

	(void)state;
	make_store(&r, 0, 0);
	for (unsigned i = 0; i < MOST; i++) {
		fill(page[i], UNPACKABLE(i));
		from[i] = page[i];
	}
	assert_int_equal(pool_store_vec(&r.p, MOST, from, handle, &done), -ENOSPC);
	assert_in_range(done, 1, MOST - 1);
	for (uint32_t i = 0; i < done; i++)
		expect(&r, handle[i], UNPACKABLE(i));
	assert_int_equal(store_page(&r.p, UNPACKABLE(MOST), &h), -ENOSPC);
	assert_int_equal(pool_shrink(&r.p, MiB), -ENOSPC);
	pool_unref_vec(&r.p, done / 2, handle);
	assert_int_equal(store_page(&r.p, UNPACKABLE(MOST), &h), 0);
	for (uint32_t i = done / 2; i < done; i++)
		expect(&r, handle[i], UNPACKABLE(i));
	expect(&r, h, UNPACKABLE(MOST));
	end_store(&r);
}

static int refuse_all(void *arg, long pages)
{
	(void)arg;
	return pages > 0;
}

static void a_refused_charge_is_no_room_and_loses_no_page(void **state)
{
	struct rig r;
	struct pool_stats st;
	uint32_t first, h;
	uint64_t n = 0;

	(void)state;
	make_store(&r, 0, 0);
	assert_int_equal(store_page(&r.p, PACKED(0), &first), 0);
	r.p.p_charge = refuse_all;
	while (store_page(&r.p, UNPACKABLE(n), &h) == 0)
		assert_true(++n < MiB / PAGE);
	assert_int_equal(store_page(&r.p, UNPACKABLE(n), &h), -ENOSPC);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, n + 1);
	expect(&r, first, PACKED(0));
	r.p.p_charge = NULL;
	assert_int_equal(store_page(&r.p, UNPACKABLE(n), &h), 0);
	expect(&r, h, UNPACKABLE(n));
	end_store(&r);
}

/* A process that attaches the store without its file reads no page of the file, and all others. */
static void without_the_file_only_its_pages_are_errors(void **state)
{
	enum { PAGES = 600 };
	static uint32_t handle[PAGES];
	struct pool blind;
	struct rig r;
	uint8_t want[PAGE], got[PAGE];
	unsigned lost = 0;

	(void)state;
	make_store(&r, 0, 8 * MiB);
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(store_page(&r.p, UNPACKABLE(i), &handle[i]), 0);
	assert_int_equal(pool_attach(&blind, r.mem, r.size, -1), 0);
	for (unsigned i = 0; i < PAGES; i++) {
		bool in_file = pool_takes_memory(&blind, handle[i]) == 0;
		int rc = pool_load(&blind, handle[i], got);

		assert_int_equal(rc, in_file ? -EIO : 0);
		lost += rc != 0;
		fill(want, UNPACKABLE(i));
		if (rc == 0)
			assert_memory_equal(got, want, PAGE);
	}
	assert_true(lost > 0 && lost < PAGES);
	pool_detach(&blind);
	for (unsigned i = 0; i < PAGES; i++)
		expect(&r, handle[i], UNPACKABLE(i));
	end_store(&r);
}

static void a_failed_read_tells_how_many_pages_came_before(void **state)
{
	enum { PAGES = 600 };
	static uint32_t handle[PAGES];
	static uint8_t page[PAGES][PAGE];
	static void *to[PAGES];
	struct rig r;
	uint8_t want[PAGE];
	uint32_t done = 0;

	(void)state;
	make_store(&r, 0, 8 * MiB);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(store_page(&r.p, UNPACKABLE(i), &handle[i]), 0);
		to[i] = page[i];
	}
	pool_inject(&r.p, POOL_INJECT_READ, 3);
	assert_int_equal(pool_load_vec(&r.p, PAGES, handle, to, &done), -EIO);
	assert_true(done < PAGES);
	for (uint32_t i = 0; i < done; i++) {
		fill(want, UNPACKABLE(i));
		assert_memory_equal(page[i], want, PAGE);
	}
	assert_int_equal(pool_load_vec(&r.p, PAGES - done, handle + done, to + done, &done), 0);
	for (uint32_t i = 0; i < PAGES; i++) {
		fill(want, UNPACKABLE(i));
		assert_memory_equal(page[i], want, PAGE);
	}
	end_store(&r);
}

static void a_file_holds_the_promised_number_of_incompressible_pages(void **state)
{
	const uint64_t file = 8 * MiB, promised = pool_file_pages(file);
	struct rig r;
	uint32_t h;

	(void)state;
	assert_int_equal(pool_file_pages(0), 0);
	assert_true(promised > file / PAGE / 2 && promised <= file / PAGE);
	make_store(&r, 0, file);
	for (uint64_t i = 0; i < promised; i++)
		assert_int_equal(store_page(&r.p, UNPACKABLE(i), &h), 0);
	expect(&r, h, UNPACKABLE(promised - 1));
	end_store(&r);
}

static void a_handle_of_0_is_skipped_and_a_word_takes_no_memory(void **state)
{
	uint32_t handle[3] = { 0, 0, 0 };
	struct rig r;
	struct pool_stats st;

	(void)state;
	make_store(&r, 0, 0);
	assert_int_equal(store_page(&r.p, 0, &handle[1]), 0);
	assert_int_equal(store_page(&r.p, PACKED(1), &handle[2]), 0);
	assert_false(pool_takes_memory(&r.p, handle[1]));
	assert_true(pool_takes_memory(&r.p, handle[2]));
	pool_unref_vec(&r.p, 3, handle);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, 0);
	assert_int_equal(st.mem_held, 0);
	end_store(&r);
}

/* ---- the ring to far swap, without a server that answers ---- */
static void a_full_ring_refuses_and_a_dead_server_is_an_error(void **state)
{
	struct far_ring *ring = map_memory(far_ring_bytes());
	uint32_t ticket[FAR_RING_DEPTH], more;
	uint8_t sector[PAGE];

	(void)state;
	memset(sector, 0x5a, sizeof sector);
	far_ring_format(ring);
	for (unsigned i = 0; i < FAR_RING_DEPTH; i++)
		assert_int_equal(far_ring_begin(ring, 7, FAR_SLOT_WRITE,
				     (uint64_t)i * FAR_RING_UNIT, PAGE, sector, &ticket[i]),
		    0);
	assert_int_equal(far_ring_begin(ring, 7, FAR_SLOT_READ, 0, PAGE, NULL, &more), -EAGAIN);
	assert_false(far_ring_ready(ring, ticket[0]));
	/* The server ends: a request under way is an error, and so is a new one. */
	__atomic_store_n(&ring->fr_alive, FUTEX_OWNER_DIED, __ATOMIC_SEQ_CST);
	assert_true(far_ring_ready(ring, ticket[0]));
	assert_int_equal(far_ring_end(ring, ticket[0], sector, PAGE), -EIO);
	assert_int_equal(far_ring_begin(ring, 7, FAR_SLOT_READ, 0, PAGE, NULL, &more), -EIO);
	(void)munmap(ring, far_ring_bytes());
}

static void the_slots_of_a_dead_client_are_free_unless_the_server_has_them(void **state)
{
	struct far_ring *ring = map_memory(far_ring_bytes());
	uint32_t mine, taken, again;
	uint8_t sector[PAGE] = { 1 };

	(void)state;
	far_ring_format(ring);
	assert_int_equal(far_ring_begin(ring, 8, FAR_SLOT_WRITE, 0, PAGE, sector, &mine), 0);
	assert_int_equal(far_ring_begin(ring, 9, FAR_SLOT_WRITE, 0, PAGE, sector, &taken), 0);
	assert_true(
	    far_slot_move(&ring->fr_slot[taken], far_word(FAR_ASKED, 9), far_word(FAR_TAKEN, 9)));
	far_ring_release(ring, 9);
	/* the server answers: no client collects, so the slot is free at once */
	far_slot_done(&ring->fr_slot[taken]);
	assert_int_equal(far_ring_begin(ring, 8, FAR_SLOT_READ, 0, PAGE, NULL, &again), 0);
	assert_int_equal(again, taken);
	assert_true(far_slot_state(&ring->fr_slot[mine]) == FAR_ASKED); /* another client's stays */
	(void)munmap(ring, far_ring_bytes());
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_without_a_store_is_not_attached),
		cmocka_unit_test(a_full_table_of_members_records_no_further_process),
		cmocka_unit_test(each_tag_of_a_family_has_an_entry),
		cmocka_unit_test(a_release_stops_when_the_store_ends),
		cmocka_unit_test(only_one_thread_of_a_member_with_a_file_writes_behind),
		cmocka_unit_test(a_full_store_keeps_the_pages_before_the_failure),
		cmocka_unit_test(a_refused_charge_is_no_room_and_loses_no_page),
		cmocka_unit_test(without_the_file_only_its_pages_are_errors),
		cmocka_unit_test(a_failed_read_tells_how_many_pages_came_before),
		cmocka_unit_test(a_file_holds_the_promised_number_of_incompressible_pages),
		cmocka_unit_test(a_handle_of_0_is_skipped_and_a_word_takes_no_memory),
		cmocka_unit_test(a_full_ring_refuses_and_a_dead_server_is_an_error),
		cmocka_unit_test(the_slots_of_a_dead_client_are_free_unless_the_server_has_them),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
