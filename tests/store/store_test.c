/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store against a byte-exact model, with so little memory that most pages are in the file: with
 * every failure injected, full, after being full, and with a packing process. Killed processes are
 * in store_kill_test.c.
 *
 *   store_test [PATTERN]     PATTERN selects tests by name
 * STORE_SEED repeats a run: each prints its seed first.
 */
#include "tests/store/store_rig.h"
#include "sys/linux/own.h"

static void a_store_mostly_in_its_file_is_as_the_model_says(void **state)
{
	struct pool_stats st;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 64 * MiB);
	for (unsigned n = 0; n < 60000; n++)
		one_operation(&r, 0);
	uint64_t live = model_check(&r);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, live);
	assert_true(st.mem_held <= 12 * SEG);
	assert_true(st.file_bytes > 4 * st.mem_held);
	assert_true(st.spills > 0 && st.bytes_read > 0);
	model_drop(&r);
	expect_empty(&r);
	teardown(&r);
}

/* The file is little larger than the live bytes: its dead space must be reused. */
static void a_store_with_a_full_file_is_as_the_model_says(void **state)
{
	struct pool_stats st;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 5 * MiB);
	for (unsigned n = 0; n < 60000; n++)
		one_operation(&r, 1);
	assert_int_not_equal(model_check(&r), 0);
	pool_stats(&r.p, &st);
	assert_true(st.compactions > 0);
	assert_true(st.file_bytes <= 5 * MiB);
	model_drop(&r);
	expect_empty(&r);
	teardown(&r);
}

static void a_store_without_a_file_is_as_the_model_says(void **state)
{
	struct pool_stats st;
	struct rig r;

	(void)state;
	setup(&r, 6 * MiB, 0);
	for (unsigned n = 0; n < 60000; n++)
		one_operation(&r, 1);
	assert_int_not_equal(model_check(&r), 0);
	pool_stats(&r.p, &st);
	assert_true(st.compactions > 0);
	assert_int_equal(st.bytes_written, 0);
	model_drop(&r);
	expect_empty(&r);
	teardown(&r);
}

static void a_page_of_equal_words_takes_no_data(void **state)
{
	struct pool_stats st;
	uint32_t h[64];
	struct rig r;

	(void)state;
	setup(&r, 4 * SEG, 0);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(put(&r, i * 8, &h[i]), 0);
	pool_stats(&r.p, &st);
	assert_int_equal(st.same_filled, 64);
	assert_int_equal(st.mem_bytes, 0);
	assert_in_range(st.mem_held, 1, SEG); /* tables alone */
	for (unsigned i = 0; i < 64; i++) {
		expect(&r, h[i], i * 8);
		pool_unref(&r.p, h[i]);
	}
	expect_empty(&r);
	teardown(&r);
}

/*
 * A log's memory is full before it is ever compacted; and pages that are soon written to the file
 * gain nothing by tighter packing.
 */
static void only_short_memory_is_packed_tightly(void **state)
{
	static const struct {
		uint64_t mem, file, live;
		bool dense;
	} how[] = { { 4 * MiB, 0, 1024, false }, { 4 * MiB, 0, 2048, true },
		{ 1 * MiB, 64 * MiB, 8192, false } };
	uint8_t page[PAGE], back[PAGE];

	(void)state;
	for (unsigned k = 0; k < sizeof how / sizeof how[0]; k++) {
		uint32_t h[8192] = { 0 };
		struct pool_stats ps;
		struct rig r;

		setup(&r, how[k].mem, how[k].file);
		for (uint64_t i = 0; i < 40000; i++) {
			uint64_t at = rnd() % how[k].live;

			if (h[at] != 0) {
				assert_int_equal(pool_load(&r.p, h[at], back), 0);
				fill(page, 8 * at + 2);
				assert_memory_equal(page, back, PAGE);
				pool_unref(&r.p, h[at]);
			}
			fill(page, 8 * at + 2);
			assert_int_equal(pool_store(&r.p, page, &h[at]), 0);
		}
		pool_stats(&r.p, &ps);
		if (how[k].dense)
			assert_true(ps.dense > 1000);
		/* a tenth, while the store does not know the loads yet */
		else
			assert_true(ps.dense < 4000);
		for (uint64_t at = 0; at < how[k].live; at++)
			if (h[at] != 0)
				pool_unref(&r.p, h[at]);
		expect_empty(&r);
		teardown(&r);
	}
}

static void a_full_store_takes_pages_again_when_some_are_freed(void **state)
{
	static uint32_t h[SLOTS];
	unsigned n = 0;
	uint32_t none;
	struct rig r;
	int rc;

	(void)state;
	setup(&r, 8 * SEG, 1 * MiB);
	while (n < SLOTS && (rc = put(&r, n * 8 + 2, &h[n])) == 0)
		n++;
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(put(&r, n * 8 + 2, &none), -ENOSPC);
	for (unsigned i = 0; i < n; i++)
		expect(&r, h[i], i * 8 + 2);
	for (unsigned i = 0; i < n;
	     i += 2) /* every other page: no segment becomes empty by itself */
		pool_unref(&r.p, h[i]);
	for (unsigned i = 0; i < n / 2; i += 2)
		assert_int_equal(put(&r, (n + i) * 8 + 2, &h[i]), 0);
	for (unsigned i = 0; i < n; i++)
		if (i % 2 == 1 || i < n / 2) {
			expect(&r, h[i], (i % 2 == 1 ? i : n + i) * 8 + 2);
			pool_unref(&r.p, h[i]);
		}
	expect_empty(&r);
	teardown(&r);
}

static void injected_faults_are_told_and_lose_nothing(void **state)
{
	static uint32_t h[600];
	uint8_t page[PAGE];
	struct pool_stats st;
	unsigned n = 0;
	struct rig r;
	int rc = 0;

	(void)state;
	setup(&r, 8 * SEG, 16 * MiB);
	pool_inject(&r.p, POOL_INJECT_WRITE, 1);
	while (n < 600 && (rc = put(&r, n * 8 + 2, &h[n])) == 0)
		n++;
	assert_int_equal(rc, -EIO); /* the write's error is reported, and no stored page is lost */
	pool_stats(&r.p, &st);
	assert_int_equal(st.write_errors, 1);
	assert_int_equal(st.pages, n);
	for (; n < 600; n++)
		assert_int_equal(put(&r, n * 8 + 2, &h[n]), 0);
	pool_inject(&r.p, POOL_INJECT_MEMORY, 1);
	for (unsigned i = 0; i < 40;
	     i++) { /* when memory is refused, the oldest segment is written */
		uint32_t x;

		assert_int_equal(put(&r, 2 + 8 * i, &x), 0);
		pool_unref(&r.p, x);
	}
	assert_int_equal(pool_shrink(&r.p, SEG), 0);
	for (unsigned i = 0, failed = 0; i < 600; i++) {
		pool_inject(&r.p, POOL_INJECT_READ, 1);
		rc = pool_load(&r.p, h[i], page);
		assert_true(rc == 0 || rc == -EIO);
		failed += rc == -EIO;
		pool_inject(&r.p, POOL_INJECT_READ, 0);
		expect(&r, h[i], i * 8 + 2); /* that load alone */
		if (i == 599)
			assert_true(failed >= 5); /* one read brings the neighbours, too */
	}
	/* other bytes on the disk than were written: the load fails */
	memset(page, 0xa5, sizeof page);
	void *block = aligned_alloc(PAGE, SEG);
	assert_non_null(block);
	memset(block, 0xa5, SEG);
	assert_int_equal(
	    pwrite(r.fd, block, SEG, SEG), SEG); /* the first block was set aside above */
	free(block);
	unsigned lost = 0;
	for (unsigned i = 0; i < 600; i++) {
		if ((rc = pool_load(&r.p, h[i], page)) == 0)
			expect(&r, h[i], i * 8 + 2);
		else
			lost++;
		pool_unref(&r.p, h[i]);
	}
	assert_true(lost > 0 && lost < 64);
	expect_empty(&r);
	teardown(&r);
}

/*
 * Pages of one segment are fetched together; a load from a rewritten block must not be answered
 * from the old copy.
 */
static void neighbours_come_with_one_read(void **state)
{
	static uint32_t h[1200];
	struct pool_stats before, st;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 16 * MiB);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 1200; i++)
			assert_int_equal(put(&r, (round * 1200 + i) * 8 + 2, &h[i]), 0);
		pool_stats(&r.p, &before);
		for (unsigned i = 0; i < 1200; i++)
			expect(&r, h[i], (round * 1200 + i) * 8 + 2);
		pool_stats(&r.p, &st);
		assert_true(st.cache_hits - before.cache_hits > 600);
		assert_true(st.bytes_read - before.bytes_read < before.file_bytes * 5 / 4);
		for (unsigned i = 0; i < 1200; i++)
			pool_unref(&r.p, h[i]);
	}
	expect_empty(&r);
	teardown(&r);
}

/* The disk is really full: pages in memory stay, further pages are refused, and no page is lost. */
static void a_full_disk_refuses_and_loses_nothing(void **state)
{
	static uint32_t h[2000];
	struct pool_stats st;
	unsigned n = 0, held;
	struct rig r;
	int rc = 0;

	(void)state;
	setup(&r, 8 * SEG, 16 * MiB);
	(void)close(r.fd);
	r.p.p_fd = r.fd = open("/dev/full", O_RDWR);
	assert_true(r.fd >= 0);
	while (n < 2000 && (rc = put(&r, n * 8 + 2, &h[n])) == 0)
		n++;
	assert_int_equal(rc, -ENOSPC);
	assert_true(n > 100);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, n);
	assert_int_equal(st.file_bytes, 0);
	for (held = 0; held < n; held++)
		expect(&r, h[held], held * 8 + 2);
	for (unsigned i = 0; i < n; i += 2)
		pool_unref(&r.p, h[i]);
	for (unsigned i = 0; i < n / 2; i += 2) /* freed memory is used again */
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	for (unsigned i = 0; i < n; i++)
		if (i % 2 == 1 || i < n / 2) {
			expect(&r, h[i], i * 8 + 2);
			pool_unref(&r.p, h[i]);
		}
	expect_empty(&r);
	teardown(&r);
}

/* A block that cannot be written is set aside: the segment is written to another block. */
static void a_bad_block_is_used_no_more(void **state)
{
	static uint32_t h[1500];
	struct pool_stats st;
	struct rig r;
	unsigned told = 0;

	(void)state;
	setup(&r, 8 * SEG, 32 * MiB);
	for (unsigned i = 0; i < 1500; i++) {
		int rc;

		if (i % 150 == 149)
			pool_inject(&r.p, POOL_INJECT_WRITE, 1);
		while ((rc = put(&r, i * 8 + 2, &h[i])) == -EIO)
			told++;
		assert_int_equal(rc, 0);
	}
	pool_inject(&r.p, POOL_INJECT_WRITE, 0);
	pool_stats(&r.p, &st);
	assert_true(told > 0);
	assert_int_equal(st.write_errors, told);
	assert_int_equal(st.set_aside, told);
	for (unsigned i = 0; i < 1500; i++) {
		expect(&r, h[i], i * 8 + 2);
		pool_unref(&r.p, h[i]);
	}
	expect_empty(&r);
	teardown(&r);
}

static void a_reserved_file_has_its_room(void **state)
{
	const char *why = "";
	struct stat st;

	(void)state;
	int fd = swapfile_open(NULL, 8 * MiB, false, &why);
	assert_true(fd >= 0);
	assert_int_equal(swapfile_reserve(fd, 8 * MiB, &why), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size == (off_t)(8 * MiB));
	if (st.st_blocks == 0)
		print_message("this file system promises no space\n");
	else
		assert_true((uint64_t)st.st_blocks * 512 >= 8 * MiB);
	if (st.st_blocks != 0) {
		assert_int_equal(swapfile_reserve(fd, 1ull << 60, &why), -1);
		assert_non_null(strstr(why, "cannot be set aside"));
	}
	(void)close(fd);
}

/*
 * Through the vnode: a failed read gives VM_IO for the page that could not be read; the pages
 * before it are right.
 */
static struct vm_io *io_ended;
static void ended(struct vm_io *io) { io_ended = io; }

static void the_vnode_tells_errors(void **state)
{
	static uint8_t page[64][PAGE], got[PAGE * 64];
	static struct vm_io io;
	struct rig r;

	(void)state;
	setup(&r, 4 * SEG, 16 * MiB);
	struct vnode *vp = vnode_over(&r, 1024);
	io = (struct vm_io){ .io_op = VM_IO_WRITE, .io_npages = 64, .io_done = ended };
	for (unsigned k = 0; k < 16; k++) {
		for (unsigned i = 0; i < 64; i++) {
			fill(page[i], (k * 64 + i) * 8 + 2);
			io.io_buf[i] = page[i];
		}
		io.io_off = (voff_t)k * 64 * PAGE;
		vp->v_ops->vo_start(vp, &io);
		assert_ptr_equal(io_ended, &io);
		assert_int_equal(io.io_err, VM_OK);
		assert_int_equal(io.io_ok, 64);
	}
	io.io_op = VM_IO_READ;
	unsigned failed = 0;
	for (unsigned k = 0; k < 16; k++) {
		for (unsigned i = 0; i < 64; i++)
			io.io_buf[i] = &got[i * PAGE];
		io.io_off = (voff_t)k * 64 * PAGE;
		pool_inject(&r.p, POOL_INJECT_READ, 2); /* the second read */
		vp->v_ops->vo_start(vp, &io);
		pool_inject(&r.p, POOL_INJECT_READ, 0);
		failed += io.io_err != VM_OK;
		assert_true(
		    io.io_err == VM_OK ? io.io_ok == 64 : io.io_err == VM_IO && io.io_ok < 64);
		for (unsigned i = 0; i < io.io_ok; i++) {
			fill(page[0], (k * 64 + i) * 8 + 2);
			assert_memory_equal(page[0], &got[i * PAGE], PAGE);
		}
	}
	assert_true(failed > 3);
	io.io_off = 1023 * PAGE; /* never written is never zeros */
	vp->v_ops->vo_discard(vp, 1023 * PAGE, PAGE);
	io.io_npages = 1;
	vp->v_ops->vo_start(vp, &io);
	assert_int_equal(io.io_err, VM_IO);
	vnode_over_end(vp);
	expect_empty(&r);
	teardown(&r);
}

/*
 * One bit of each 512 bytes of the file is changed. In incompressible pages (kind 1) this cannot be
 * seen, and a changed packed page may unpack: only the checksum tells. Each page is either right,
 * as it is in memory, or refused.
 */
static void a_wrong_bit_is_noticed(void **state)
{
	static uint32_t h[600];

	(void)state;
	for (unsigned kind = 1; kind <= 2; kind++) {
		static uint8_t block[PAGE] __attribute__((aligned(4096)));
		uint8_t got[PAGE], want[PAGE];
		unsigned refused = 0;
		struct stat st;
		struct rig r;

		setup(&r, 8 * SEG, 8 * MiB);
		for (unsigned i = 0; i < 600; i++)
			assert_int_equal(put(&r, i * 8 + kind, &h[i]), 0);
		pack_all(&r);
		assert_int_equal(fstat(r.fd, &st), 0);
		for (off_t at = 0; at < st.st_size; at += PAGE) {
			assert_int_equal(pread(r.fd, block, PAGE, at), PAGE);
			for (unsigned i = 100; i < PAGE; i += 512)
				block[i] ^= 4;
			assert_int_equal(pwrite(r.fd, block, PAGE, at), PAGE);
		}
		for (unsigned i = 0; i < 600; i++) {
			fill(want, i * 8 + kind);
			if (pool_load(&r.p, h[i], got) != 0)
				refused++;
			else
				assert_memory_equal(want, got, PAGE);
			pool_unref(&r.p, h[i]);
		}
		assert_true(refused > 200);
		expect_empty(&r);
		teardown(&r);
	}
}

/*
 * Bytes of the file are changed without the store's knowledge: the store may fetch them back to
 * compact, but must never return them.
 */
static void a_damaged_file_is_not_compacted_into_memory(void **state)
{
	static uint32_t h[3000];
	static char junk[SEG] __attribute__((aligned(4096)));
	uint8_t got[PAGE], want[PAGE];
	unsigned n = 0, lost = 0;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 1 * MiB);
	while (n < 3000 && put(&r, n * 8 + 2, &h[n]) == 0)
		n++;
	assert_true(n < 3000); /* full */
	for (unsigned i = 0; i < SEG; i++)
		junk[i] = (char)rnd();
	for (unsigned b = 0; b < 16; b += 2)
		assert_int_equal(
		    pwrite(r.fd, junk, PAGE, (off_t)b * SEG + (off_t)(b % 4 * PAGE)), PAGE);
	for (unsigned i = 0; i < n; i += 2)
		pool_unref(&r.p, h[i]);
	/* Makes the store copy the live pages of half-empty segments. */
	for (unsigned i = 0; i < n; i += 2)
		if (put(&r, i * 8 + 2, &h[i]) != 0)
			h[i] = 0;
	for (unsigned i = 0; i < n; i++) {
		if (h[i] == 0)
			continue;
		fill(want, i * 8 + 2);
		if (pool_load(&r.p, h[i], got) != 0)
			lost++;
		else if (memcmp(got, want, PAGE) != 0)
			fail_msg(
			    "page %u has other bytes (seed %llu)", i, (unsigned long long)seed);
		pool_unref(&r.p, h[i]);
	}
	assert_true(lost > 0);
	expect_empty(&r);
	teardown(&r);
}

/* Pages stored and loaded several in a call, some in memory, some in the file, some same-filled, some raw. */
static void a_call_stores_and_loads_many_pages(void **state)
{
	static uint8_t page[64][PAGE], got[64][PAGE];
	static uint32_t h[1920];
	const void *from[64];
	struct pool_stats st;
	void *to[64];
	struct rig r;
	uint32_t done;

	(void)state;
	setup(&r, 8 * SEG, 16 * MiB);
	for (unsigned i = 0; i < 1920;) {
		uint32_t n = 1 + (uint32_t)(rnd() % 64);

		n = n > 1920 - i ? 1920 - i : n;
		for (uint32_t k = 0; k < n; k++) {
			fill(page[k], i + k);
			from[k] = page[k];
		}
		assert_int_equal(pool_store_vec(&r.p, n, from, &h[i], &done), 0);
		assert_int_equal(done, n);
		i += n;
	}
	for (unsigned round = 0; round < 200; round++) {
		uint32_t n = 1 + (uint32_t)(rnd() % 64);
		unsigned i = (unsigned)(rnd() % (1920 - n));

		for (uint32_t k = 0; k < n; k++)
			to[k] = got[k];
		if (round % 8 == 0) {
			pool_inject(&r.p, POOL_INJECT_READ, 1);
			int rc = pool_load_vec(&r.p, n, &h[i], to, &done);
			assert_true(rc == 0 ? done == n : rc == -EIO && done < n);
			pool_inject(&r.p, POOL_INJECT_READ, 0);
		} else {
			assert_int_equal(pool_load_vec(&r.p, n, &h[i], to, &done), 0);
			assert_int_equal(done, n);
		}
		for (uint32_t k = 0; k < done; k++) {
			fill(page[0], i + k);
			assert_memory_equal(page[0], got[k], PAGE);
		}
	}
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, 1920);
	pool_unref_vec(&r.p, 1920, h);
	expect_empty(&r);
	teardown(&r);
}

static long charged, allowed;
static int charge(void *arg, long pages)
{
	(void)arg;
	if (pages > 0 && charged + pages > allowed)
		return -1;
	charged += pages;
	return 0;
}

static void what_is_held_is_charged(void **state)
{
	static uint32_t h[400];
	struct pool_stats st;
	struct rig r;

	(void)state;
	charged = 0;
	allowed = 6 * 16;
	setup(&r, 64 * SEG, 16 * MiB);
	r.p.p_charge = charge;
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	pool_stats(&r.p, &st);
	assert_int_equal(st.mem_held, (uint64_t)charged * PAGE);
	assert_true(st.spills > 0);
	expect_all(&r, h, 400);
	drop_all(&r, h, 400);
	assert_int_equal(charged, 0);
	expect_empty(&r);
	teardown(&r);
}

/* ---- writes behind ---- */
static void a_store_that_writes_behind_is_as_the_model_says(void **state)
{
	struct rig r;

	(void)state;
	if (async_setup(&r, 32 * SEG, 64 * MiB))
		model_writes_behind(&r);
}

/* A store that writes behind by a ring in a separate room. False: there is no ring here. */
static bool setup_in_room(struct rig *r, uint64_t mem, uint64_t file)
{
	if (!async_setup(r, mem, file))
		return false;
	pool_async_end(&r->p);
	sys_own_room(1 * MiB);
	assert_int_equal(pool_async(&r->p), 0);
	return true;
}

/*
 * In a hosted program the ring lies in the runtime's own room, although for its own rings the
 * kernel ignores the caller's address.
 */
static void the_ring_may_lie_in_a_room_of_its_own(void **state)
{
	struct rig r;

	(void)state;
	if (setup_in_room(&r, 32 * SEG, 64 * MiB))
		model_writes_behind(&r);
}

/*
 * On 6.1 the kernel cannot place its ring in such a room. Small: tests/kernels runs this on such a
 * kernel, interpreted.
 */
static void a_ring_in_a_room_writes_behind(void **state)
{
	static uint32_t h[1500];
	struct pool_stats st;
	struct rig r;

	(void)state;
	if (!setup_in_room(&r, 16 * SEG, 16 * MiB))
		return;
	put_all(&r, h, 1500);
	pool_stats(&r.p, &st);
	assert_true(st.behind > 0);
	expect_all(&r, h, 1500);
	drop_all(&r, h, 1500);
	pool_poll(&r.p, 1);
	expect_empty(&r);
	teardown(&r);
}

static void writes_behind_that_fail_lose_no_page(void **state)
{
	struct rig r;

	(void)state;
	if (async_setup(&r, 16 * SEG, 64 * MiB))
		writes_behind_fail(&r);
}

/* ---- pages that are packed later ---- */
static void young_pages_are_packed_later(void **state)
{
	static uint32_t h[100];
	struct pool_stats st;
	struct rig r;

	(void)state;
	setup(&r, 64 * SEG, 0);
	pool_pack_behind(&r.p, 8 * SEG);
	put_all(&r, h, 100);
	pool_stats(&r.p, &st);
	assert_in_range(st.young_pages, 8, 16); /* few, because little is packed yet */
	uint64_t young = st.young_pages;
	assert_true(st.mem_bytes >= young * PAGE);
	expect_all(&r, h, 100);
	drop_all(&r, h, 3); /* were never packed */
	pack_all(&r);
	for (unsigned i = 3; i < 100; i++)
		expect(&r, h[i], i * 8 + 2);
	pool_stats(&r.p, &st);
	assert_int_equal(st.young_pages, 0);
	assert_int_equal(st.young_hits, young);
	assert_int_equal(st.packed_behind, young - 3);
	assert_true(st.mem_bytes < 60 * PAGE);
	drop_all(&r, h + 3, 97);
	expect_empty(&r);
	teardown(&r);
}

/*
 * Without a packer: the store loses at most the share reserved for young pages, and none at the
 * end.
 */
static void young_pages_without_a_packer_are_packed_too(void **state)
{
	static uint32_t h[2][20000];
	unsigned n[2];
	struct rig r;

	(void)state;
	for (unsigned young = 0; young < 2; young++) {
		setup(&r, 64 * SEG, 0);
		pool_pack_behind(&r.p, young * 4 * SEG);
		for (n[young] = 0; put(&r, n[young] * 8 + 2, &h[young][n[young]]) == 0; n[young]++)
			;
		expect_all(&r, h[young], n[young]);
		drop_all(&r, h[young], n[young]);
		expect_empty(&r);
		teardown(&r);
	}
	assert_true(n[1] >= n[0] - n[0] / 16);
}

/*
 * Pages of the file that were read one by one should move into memory, but not pages of which one
 * read brought many; and only with a packer.
 */
static void scattered_pages_of_the_file_move_to_memory(void **state)
{
	static uint32_t h[4096];
	struct rig r;

	(void)state;
	setup(&r, 16 * SEG, 64 * MiB);
	put_all(&r, h, 4096);
	for (unsigned behind = 0; behind < 2; behind++) {
		unsigned near = 0, far = 0;

		pool_pack_behind(&r.p, behind * SEG);
		for (unsigned i = 0; i < 2000;
		     i++) { /* all of a segment's pages one after the other */
			expect(&r, h[i], i * 8 + 2);
			near += i >= 1000 && pool_better_anew(&r.p, h[i]);
		}
		for (unsigned i = 0; i < 2000; i++) {
			unsigned k = (unsigned)(rnd() % 3000);

			expect(&r, h[k], k * 8 + 2);
			far += i >= 1000 && pool_better_anew(&r.p, h[k]);
		}
		assert_int_equal(near, 0);
		if (behind)
			assert_true(far > 500);
		else
			assert_int_equal(far, 0);
	}
	drop_all(&r, h, 4096);
	expect_empty(&r);
	teardown(&r);
}

static void a_store_with_a_packer_is_as_the_model_says(void **state)
{
	struct pool_stats st;
	struct rig r;

	(void)state;
	packers = true;
	setup(&r, 32 * SEG, 64 * MiB);
	for (unsigned n = 0; n < 60000; n++)
		one_operation(&r, 0);
	uint64_t live = model_check(&r);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, live);
	assert_true(st.mem_held <= 36 * SEG);
	assert_true(st.packed_behind > 0 && st.young_hits > 0);
	model_drop(&r);
	expect_empty(&r);
	teardown(&r);
	packers = false;
}

/*
 * All errors of the file reach the storing process, not only the packer; young pages stay young and
 * right.
 */
static void young_pages_beside_a_full_file_are_kept(void **state)
{
	struct rig r;

	(void)state;
	packers = true;
	setup_sharing(&r, 16 * SEG, 4 * SEG, 5 * MiB);
	for (unsigned n = 0; n < 60000; n++)
		one_operation(&r, 1);
	assert_int_not_equal(model_check(&r), 0);
	model_drop(&r);
	expect_empty(&r);
	teardown(&r);
	packers = false;
}

/* ---- the pool is dense: its memory is at most 5/4 of its packed bytes, plus POOL_SLACK ---- */
static double worst; /* (taken - POOL_SLACK) / packed */

static void expect_dense(struct rig *r)
{
	struct pool_stats st;

	pool_stats(&r->p, &st);
	if (st.mem_held > POOL_SLACK &&
	    (double)(st.mem_held - POOL_SLACK) > worst * (double)st.mem_packed)
		worst = (double)(st.mem_held - POOL_SLACK) / (double)st.mem_packed;
	if (st.mem_held > st.mem_packed / 4 * 5 + POOL_SLACK)
		fail_msg("%llu KiB taken for %llu KiB packed, %llu pages young (seed %llu)",
		    (unsigned long long)st.mem_held / 1024,
		    (unsigned long long)st.mem_packed / 1024, (unsigned long long)st.young_pages,
		    (unsigned long long)seed);
}

/* The name of page n of that kind: compressible, hardly, not at all, one word, or any of these. */
static uint64_t dense_what(unsigned kind, uint64_t n) { return kind == 4 ? n : n * 8 + kind; }

static void dense_round(struct rig *r, unsigned kind, uint32_t live)
{
	static uint32_t h[20000];
	uint32_t n = 0;

	for (; n < live; n++) {
		assert_int_equal(put(r, dense_what(kind, n), &h[n]), 0);
		expect_dense(r);
	}
	/* in random order; each page is stored again with another name */
	for (uint32_t k = 0; k < live; k++) {
		uint32_t i = (uint32_t)(rnd() % live);

		pool_unref(&r->p, h[i]);
		expect_dense(r);
		assert_int_equal(put(r, dense_what(kind, rnd() % 100000), &h[i]), 0);
		expect_dense(r);
		if (k % 64 == 0) {
			(void)pool_work(&r->p, false);
			expect_dense(r);
		}
	}
	for (; n > live / 16; n--) { /* most pages are dropped, and leave holes everywhere */
		uint32_t i = (uint32_t)(rnd() % n);

		pool_unref(&r->p, h[i]);
		h[i] = h[n - 1];
		expect_dense(r);
	}
	drop_all(r, h, n);
}

static void the_pool_is_dense(void **state)
{
	static const uint32_t sizes[] = { 100, 700, 3000, 20000 };

	(void)state;
	for (unsigned young = 0; young < 2; young++)
		for (unsigned kind = 0; kind < 5; kind++)
			for (unsigned k = 0; k < sizeof sizes / sizeof *sizes; k++) {
				struct rig r;

				worst = 0;
				setup(&r, 128 * MiB, 0);
				if (young)
					pool_pack_behind(&r.p, 8 * MiB);
				dense_round(&r, kind, sizes[k]);
				expect_empty(&r);
				/* without young pages, their room is not used */
				assert_true(young || sizes[k] < 20000 || worst < 1.15);
				print_message("%5u pages of kind %u%s: %.3f at most\n", sizes[k],
				    kind, young ? ", packed behind" : "", worst);
				teardown(&r);
			}
}

/*
 * Same-filled pages take only entries of the table: the memory of the entries is freed with the
 * pages, although the first pages stay.
 */
static void tables_shrink_with_what_is_stored(void **state)
{
	static uint32_t h[20000];
	struct pool_stats st;
	struct rig r;

	(void)state;
	setup(&r, 8 * MiB, 0);
	for (unsigned i = 0; i < 20000; i++)
		assert_int_equal(put(&r, i * 8, &h[i]), 0);
	pool_stats(&r.p, &st);
	assert_in_range(st.mem_held, 20000 * 20, 20000 * 30);
	for (unsigned i = 19999; i >= 100; i--)
		pool_unref(&r.p, h[i]);
	pool_stats(&r.p, &st);
	assert_in_range(st.mem_held, 1, SEG);
	for (unsigned i = 0; i < 100; i++) {
		expect(&r, h[i], i * 8);
		pool_unref(&r.p, h[i]);
	}
	expect_empty(&r);
	teardown(&r);
}

/* As the_pool_is_dense, while most pages are written to the file and read back. */
static void the_pool_is_dense_beside_a_file(void **state)
{
	struct rig r;

	(void)state;
	setup(&r, 32 * SEG, 64 * MiB);
	pool_pack_behind(&r.p, 4 * SEG);
	for (unsigned n = 0; n < 60000; n++) {
		one_operation(&r, 0);
		if (n % 16 == 0)
			(void)pool_work(&r.p, false);
		expect_dense(&r);
	}
	model_drop(&r);
	expect_empty(&r);
	teardown(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_page_of_equal_words_takes_no_data),
		cmocka_unit_test(a_store_mostly_in_its_file_is_as_the_model_says),
		cmocka_unit_test(a_store_with_a_full_file_is_as_the_model_says),
		cmocka_unit_test(a_store_without_a_file_is_as_the_model_says),
		cmocka_unit_test(only_short_memory_is_packed_tightly),
		cmocka_unit_test(a_full_store_takes_pages_again_when_some_are_freed),
		cmocka_unit_test(injected_faults_are_told_and_lose_nothing),
		cmocka_unit_test(neighbours_come_with_one_read),
		cmocka_unit_test(a_full_disk_refuses_and_loses_nothing),
		cmocka_unit_test(a_bad_block_is_used_no_more),
		cmocka_unit_test(a_reserved_file_has_its_room),
		cmocka_unit_test(the_vnode_tells_errors),
		cmocka_unit_test(a_wrong_bit_is_noticed),
		cmocka_unit_test(a_damaged_file_is_not_compacted_into_memory),
		cmocka_unit_test(a_call_stores_and_loads_many_pages),
		cmocka_unit_test(what_is_held_is_charged),
		cmocka_unit_test(a_store_that_writes_behind_is_as_the_model_says),
		cmocka_unit_test(the_ring_may_lie_in_a_room_of_its_own),
		cmocka_unit_test(a_ring_in_a_room_writes_behind),
		cmocka_unit_test(writes_behind_that_fail_lose_no_page),
		cmocka_unit_test(young_pages_are_packed_later),
		cmocka_unit_test(young_pages_without_a_packer_are_packed_too),
		cmocka_unit_test(scattered_pages_of_the_file_move_to_memory),
		cmocka_unit_test(a_store_with_a_packer_is_as_the_model_says),
		cmocka_unit_test(young_pages_beside_a_full_file_are_kept),
		cmocka_unit_test(the_pool_is_dense),
		cmocka_unit_test(the_pool_is_dense_beside_a_file),
		cmocka_unit_test(tables_shrink_with_what_is_stored),
	};

	return store_run(tests, sizeof tests / sizeof *tests, argc > 1 ? argv[1] : NULL);
}
