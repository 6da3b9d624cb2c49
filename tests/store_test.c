/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store against a byte-exact model, with little memory so that most pages live in the file; shared by forked processes;
 * with lock owners killed anywhere; with every injected fault; full, and after that. STORE_SEED repeats a run; an argument selects tests by pattern.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/pool.h"
#include "store/pool_vnode.h"
#include "store/swapfile.h"

#define PAGE 4096u
#define SEG  65536u
#define MiB  (1ull << 20)

static uint64_t seed, rng;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* The page that `what` names: same-filled, incompressible or compressible, and different for each number. */
static void fill(uint8_t *page, uint64_t what)
{
	uint64_t x = what * 0x9e3779b97f4a7c15ull + 1, *w = (uint64_t *)(void *)page;
	unsigned kind = (unsigned)(what % 8), keep = kind == 1 ? 1 : 3;

	for (unsigned i = 0; i < PAGE / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		w[i] = kind == 0 ? what : i % keep == 0 ? x : what;
	}
}

struct rig {
	struct pool p;
	void *mem;
	size_t size;
	int fd;
};

static void setup(struct rig *r, uint64_t mem, uint64_t file)
{
	struct pool_config c = { .mem_limit = mem, .file_limit = file, .max_objects = 65536, .max_members = 8 };
	const char *why = "";

	r->size = pool_shared_size(&c);
	r->mem = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(r->mem, MAP_FAILED);
	r->fd = file != 0 ? swapfile_open(NULL, file, &why) : -1;
	if (file != 0 && r->fd < 0)
		fail_msg("%s", why);
	assert_int_equal(pool_format(r->mem, &c), 0);
	assert_int_equal(pool_attach(&r->p, r->mem, r->size, r->fd), 0);
}

static void teardown(struct rig *r)
{
	pool_detach(&r->p);
	(void)munmap(r->mem, r->size);
	if (r->fd >= 0)
		(void)close(r->fd);
}

static void expect(struct rig *r, uint32_t handle, uint64_t what)
{
	uint8_t want[PAGE], got[PAGE];
	int rc = pool_load(&r->p, handle, got);

	if (rc != 0)
		fail_msg("load of %u: %d (seed %llu)", handle, rc, (unsigned long long)seed);
	fill(want, what);
	if (memcmp(want, got, PAGE) != 0)
		fail_msg("handle %u has other bytes (seed %llu)", handle, (unsigned long long)seed);
}

static int put(struct rig *r, uint64_t what, uint32_t *handle)
{
	uint8_t page[PAGE];

	fill(page, what);
	return pool_store(&r->p, page, handle);
}

static void expect_empty(struct rig *r)
{
	struct pool_stats st;

	pool_stats(&r->p, &st);
	assert_int_equal(st.pages, 0);
	assert_int_equal(st.same_filled, 0);
	assert_int_equal(st.mem_bytes, 0);
	assert_int_equal(st.mem_held, 0);
	assert_int_equal(st.file_bytes, 0);
}

#define SLOTS 4096u
static struct { uint32_t handle, refs; uint64_t what; } model[SLOTS];

static void one_operation(struct rig *r, int full_is_fine)
{
	unsigned i = (unsigned)(rnd() % SLOTS), op = (unsigned)(rnd() % 8);

	if (model[i].refs == 0) {
		uint64_t what = rnd();
		int rc = put(r, what, &model[i].handle);

		if (rc == -ENOSPC && full_is_fine)
			return;
		assert_int_equal(rc, 0);
		assert_int_not_equal(model[i].handle, 0);
		model[i].what = what;
		model[i].refs = 1;
	} else if (op < 4) {
		expect(r, model[i].handle, model[i].what);
	} else if (op == 4) {
		pool_ref(&r->p, model[i].handle);
		model[i].refs++;
	} else {
		pool_unref(&r->p, model[i].handle);
		model[i].refs--;
	}
}

static uint64_t model_check(struct rig *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		if (model[i].refs > 0) {
			expect(r, model[i].handle, model[i].what);
			n++;
		}
	return n;
}

static void model_drop(struct rig *r)
{
	for (unsigned i = 0; i < SLOTS; i++)
		for (; model[i].refs > 0; model[i].refs--)
			pool_unref(&r->p, model[i].handle);
}

static void test_model_mostly_in_file(void **state)
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

/* The file holds little more than what is live: its dead space must be found again. */
static void test_model_full_file(void **state)
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

static void test_model_memory_only(void **state)
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

static void test_same_filled_takes_no_data(void **state)
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
	assert_int_equal(st.mem_held, 0);
	for (unsigned i = 0; i < 64; i++) {
		expect(&r, h[i], i * 8);
		pool_unref(&r.p, h[i]);
	}
	expect_empty(&r);
	teardown(&r);
}

/* A log's memory is full before it is ever cleaned; and what passes through to the file gains nothing by being smaller. */
static void test_only_short_memory_is_packed_tightly(void **state)
{
	static const struct { uint64_t mem, file, live; bool dense; } how[] = {
		{ 4 * MiB, 0, 1024, false }, { 4 * MiB, 0, 2048, true }, { 1 * MiB, 64 * MiB, 8192, false }
	};
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
		else
			assert_true(ps.dense < 4000); /* a tenth: while it does not know its loads yet */
		for (uint64_t at = 0; at < how[k].live; at++)
			if (h[at] != 0)
				pool_unref(&r.p, h[at]);
		expect_empty(&r);
		teardown(&r);
	}
}

static void test_full_then_freed(void **state)
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
	for (unsigned i = 0; i < n; i += 2) /* every other page: no segment becomes empty by itself */
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

static void test_faults(void **state)
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
	assert_int_equal(rc, -EIO); /* the write's error is told, and nothing stored is lost */
	pool_stats(&r.p, &st);
	assert_int_equal(st.write_errors, 1);
	assert_int_equal(st.pages, n);
	for (; n < 600; n++)
		assert_int_equal(put(&r, n * 8 + 2, &h[n]), 0);
	pool_inject(&r.p, POOL_INJECT_MEMORY, 1);
	for (unsigned i = 0; i < 40; i++) { /* refused memory is made good by writing the oldest segment */
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
			assert_true(failed >= 5); /* neighbours come with one read */
	}
	/* other bytes on the disk than were written: not handed out */
	memset(page, 0xa5, sizeof page);
	void *block = aligned_alloc(PAGE, SEG);
	assert_non_null(block);
	memset(block, 0xa5, SEG);
	assert_int_equal(pwrite(r.fd, block, SEG, SEG), SEG); /* the first block was set aside above */
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

/* Pages of one segment are fetched together; a segment's block that is written again must not be answered from the old copy. */
static void test_neighbours_come_with_one_read(void **state)
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

/* The disk is full, truly: what is in memory stays, what does not fit is refused, and nothing is lost. */
static void test_disk_full(void **state)
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

/* A block that cannot be written is left alone: the same segment goes to another one. */
static void test_bad_block_is_left(void **state)
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

static void test_reserve(void **state)
{
	const char *why = "";
	struct stat st;

	(void)state;
	int fd = swapfile_open(NULL, 8 * MiB, &why);
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

/* The core's view of it: a read that fails is VM_IO for the page that could not be read, those before it are right. */
static struct vm_io *io_ended;
static void ended(struct vm_io *io)
{
	io_ended = io;
}

static void test_vnode_tells_errors(void **state)
{
	static uint8_t page[64][PAGE], got[PAGE * 64];
	static struct vm_io io;
	struct rig r;

	(void)state;
	setup(&r, 4 * SEG, 16 * MiB);
	struct vm *vm = aligned_alloc(64, 1 << 16);
	assert_non_null(vm);
	memset(vm, 0, 1 << 16); /* only its count of vnodes is looked at */
	struct vnode *vp = pool_vnode_create(vm, &r.p, 1024);
	assert_non_null(vp);
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
		assert_true(io.io_err == VM_OK ? io.io_ok == 64 : io.io_err == VM_IO && io.io_ok < 64);
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
	vp->v_ops->vo_inactive(vp);
	expect_empty(&r);
	free(vm);
	teardown(&r);
}

/* Bytes of the file changed behind the store's back: it may fetch them back to compact, but never hand them out. */
static void test_damaged_file_is_not_compacted_into_memory(void **state)
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
		assert_int_equal(pwrite(r.fd, junk, PAGE, (off_t)b * SEG + (off_t)(b % 4 * PAGE)), PAGE);
	for (unsigned i = 0; i < n; i += 2)
		pool_unref(&r.p, h[i]);
	for (unsigned i = 0; i < n; i += 2) /* makes it fetch back what is half dead */
		if (put(&r, i * 8 + 2, &h[i]) != 0)
			h[i] = 0;
	for (unsigned i = 0; i < n; i++) {
		if (h[i] == 0)
			continue;
		fill(want, i * 8 + 2);
		if (pool_load(&r.p, h[i], got) != 0)
			lost++;
		else if (memcmp(got, want, PAGE) != 0)
			fail_msg("page %u has other bytes (seed %llu)", i, (unsigned long long)seed);
		pool_unref(&r.p, h[i]);
	}
	assert_true(lost > 0);
	expect_empty(&r);
	teardown(&r);
}

/* Pages stored and loaded several in a call, some in memory, some in the file, some same-filled, some raw. */
static void test_vectors(void **state)
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

static void test_charge(void **state)
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
	for (unsigned i = 0; i < 400; i++) {
		expect(&r, h[i], i * 8 + 2);
		pool_unref(&r.p, h[i]);
	}
	assert_int_equal(charged, 0);
	expect_empty(&r);
	teardown(&r);
}

static int child_work(struct rig *r, const uint32_t *h, unsigned n, unsigned rounds)
{
	uint8_t got[PAGE], want[PAGE];

	if (pool_after_fork(&r->p) != 0)
		return 1;
	for (unsigned k = 0; k < rounds; k++) {
		unsigned i = (unsigned)(rnd() % n);
		uint64_t what = rnd();
		uint32_t mine;

		pool_ref(&r->p, h[i]);
		if (put(r, what, &mine) != 0)
			return 2;
		fill(want, i * 8 + 2);
		if (pool_load(&r->p, h[i], got) != 0 || memcmp(got, want, PAGE) != 0)
			return 3;
		fill(want, what);
		if (pool_load(&r->p, mine, got) != 0 || memcmp(got, want, PAGE) != 0)
			return 4;
		pool_unref(&r->p, mine);
		pool_unref(&r->p, h[i]);
	}
	return 0;
}

static void test_family(void **state)
{
	static uint32_t h[500];
	pid_t pid[4];
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 16 * MiB);
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	for (unsigned c = 0; c < 4; c++) {
		if ((pid[c] = fork()) == 0) {
			rng += (c + 1) * 77777;
			_exit(child_work(&r, h, 500, 3000));
		}
		assert_true(pid[c] > 0);
	}
	for (unsigned c = 0; c < 4; c++) {
		int status;

		assert_int_equal(waitpid(pid[c], &status, 0), pid[c]);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	for (unsigned i = 0; i < 500; i++) {
		expect(&r, h[i], i * 8 + 2);
		pool_unref(&r.p, h[i]);
	}
	expect_empty(&r);
	teardown(&r);
}

/*
 * A child is killed anywhere, and is not waited for until the survivor has used the store: a corpse must not hold the lock.
 * What the killed held is lost to the store, but what others stored is right, and the store goes on.
 */
static void test_killed_owner(void **state)
{
	static uint32_t h[300];
	struct pool_stats st;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 64 * MiB);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	for (unsigned round = 0; round < 60; round++) {
		int up[2];
		char c;

		assert_int_equal(pipe(up), 0);
		pid_t pid = fork();
		if (pid == 0) {
			(void)close(up[0]);
			(void)!write(up[1], "x", 1);
			rng += round;
			_exit(child_work(&r, h, 300, 1000000));
		}
		assert_true(pid > 0);
		(void)close(up[1]);
		assert_int_equal(read(up[0], &c, 1), 1);
		for (unsigned i = 0; i < 10 + rnd() % 50; i++)
			expect(&r, h[i], i * 8 + 2);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(read(up[0], &c, 1), 0); /* it is dead, but not waited for */
		for (unsigned i = 0; i < 300; i += 7) {
			expect(&r, h[i], i * 8 + 2);
			pool_unref(&r.p, h[i]);
			assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
		}
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		(void)close(up[0]);
	}
	for (unsigned i = 0; i < 300; i++)
		expect(&r, h[i], i * 8 + 2);
	pool_stats(&r.p, &st);
	print_message("lock or write taken over %llu times\n", (unsigned long long)st.repairs);
	teardown(&r);
}

/* The charge function is called with the lock held: the owner dies just there, every time. */
static int die(void *arg, long pages)
{
	(void)arg;
	(void)pages;
	(void)kill(getpid(), SIGKILL);
	return 0;
}

static void test_killed_with_lock_held(void **state)
{
	static uint32_t h[300];
	struct pool_stats st;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 64 * MiB);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	for (unsigned round = 1; round <= 3; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			r.p.p_charge = die;
			(void)pool_shrink(&r.p, SEG);
			_exit(0);
		}
		assert_true(pid > 0);
		siginfo_t info;
		assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0); /* a corpse */
		assert_int_equal(info.si_code, CLD_KILLED);
		pool_stats(&r.p, &st);
		assert_int_equal(st.repairs, round);
		assert_int_equal(st.pages, 300);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		for (unsigned i = 0; i < 300; i++)
			expect(&r, h[i], i * 8 + 2);
	}
	for (unsigned i = 0; i < 300; i++)
		pool_unref(&r.p, h[i]);
	expect_empty(&r);
	teardown(&r);
}

/*
 * Each of the killed leaves a segment that it was just writing or reading; together they had all of the memory. The file has
 * dead space: to fetch more of it back must not be taken for progress.
 */
static void test_killed_writers_held_all_memory(void **state)
{
	static uint32_t h[3600];
	struct pool_stats st;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 64 * MiB);
	for (unsigned round = 0; round < 12; round++) {
		unsigned from = round * 300;

		for (unsigned i = from; i < from + 300; i++)
			assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
		for (unsigned i = from; i < from + 300; i++)
			if (i % 3 == 0) /* no two segments' rests fit one */
				pool_unref(&r.p, h[i]);
		for (unsigned k = 0; k < 3 + round; k++) {
			pid_t pid = fork();

			if (pid == 0) {
				uint32_t mine;

				(void)pool_after_fork(&r.p);
				pool_inject(&r.p, POOL_INJECT_KILL, 1);
				while (put(&r, rnd() * 8 + 2, &mine) == 0)
					;
				_exit(1);
			}
			int status;
			assert_true(pid > 0);
			assert_int_equal(waitpid(pid, &status, 0), pid);
			assert_true(WIFSIGNALED(status));
		}
	}
	for (unsigned i = 1; i < 3600; i += 3)
		expect(&r, h[i], i * 8 + 2);
	pool_stats(&r.p, &st);
	assert_true(st.repairs > 0);
	teardown(&r);
}

/* ---- what killed processes held is given back ---- */
static uint32_t tag_of(void *arg)
{
	return *(uint32_t *)arg;
}

static uint64_t used(struct rig *r)
{
	struct pool_stats st;

	pool_stats(&r->p, &st);
	return st.mem_held + st.file_bytes;
}

/* Forks a member that drops every third page it inherited, stores n pages of its own, says so and sleeps until it is killed. */
static pid_t fork_hog(struct rig *r, const uint32_t *h, unsigned nh, unsigned n)
{
	int up[2];
	char c;

	assert_int_equal(pipe(up), 0);
	assert_int_equal(pool_fork_begin(&r->p), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (pool_after_fork(&r->p) != 0)
			_exit(1);
		for (unsigned i = 0; i < nh; i += 3)
			pool_unref(&r->p, h[i]);
		for (unsigned i = 0; i < n; i++) {
			uint32_t mine;

			if (put(r, rnd() * 8 + 2, &mine) != 0)
				_exit(2);
		}
		(void)!write(up[1], "x", 1);
		for (;;)
			(void)pause();
	}
	assert_true(pid > 0);
	(void)close(up[1]);
	assert_int_equal(read(up[0], &c, 1), 1);
	(void)close(up[0]);
	return pid;
}

static void test_killed_member_is_released(void **state)
{
	static uint32_t h[600];
	struct pool_stats st;
	struct rig r;
	uint32_t tag = 7;
	pid_t pid[3];

	(void)state;
	setup(&r, 16 * SEG, 64 * MiB);
	r.p.p_tag = tag_of;
	r.p.p_charge_arg = &tag;
	assert_int_equal(pool_join(&r.p, 1000), 0);
	for (unsigned i = 0; i < 600; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	uint64_t before = used(&r);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned k = 0; k < 3; k++) {
			tag = 7 + k;
			pid[k] = fork_hog(&r, h, 600, 2000);
		}
		assert_true(used(&r) > 2 * before + 2 * MiB);
		for (unsigned k = 0; k < 3; k++) {
			assert_int_equal(kill(pid[k], SIGKILL), 0);
			assert_int_equal(waitpid(pid[k], NULL, 0), pid[k]);
			pool_release(&r.p, 7 + k);
			for (unsigned i = 0; i < 600; i += 5)
				expect(&r, h[i], i * 8 + 2);
		}
		pool_stats(&r.p, &st);
		assert_int_equal(st.pages, 600);
		assert_true(used(&r) < 2 * before + MiB);
	}
	for (unsigned i = 0; i < 600; i++) {
		expect(&r, h[i], i * 8 + 2);
		pool_unref(&r.p, h[i]);
	}
	expect_empty(&r);
	teardown(&r);
}

/* What a parent stored lives on in its child when the parent is killed, and no longer. */
static void test_child_outlives_parent(void **state)
{
	static uint32_t h[300];
	struct pool_stats st;
	struct rig r;
	uint32_t tag = 2;

	(void)state;
	setup(&r, 8 * SEG, 16 * MiB);
	r.p.p_tag = tag_of;
	r.p.p_charge_arg = &tag;
	assert_int_equal(pool_join(&r.p, 1), 0);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	assert_int_equal(pool_fork_begin(&r.p), 0);
	pool_fork_cancel(&r.p); /* the fork failed */
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, 300);
	pid_t pid = fork_hog(&r, h, 300, 100);
	pool_release(&r.p, 1);
	for (unsigned i = 0; i < 300; i++)
		if (i % 3 != 0)
			expect(&r, h[i], i * 8 + 2);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, 200 + 100);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	pool_release(&r.p, 2);
	expect_empty(&r);
	teardown(&r);
}

/* Killed anywhere while it stores, loads and drops: nothing of what others hold is freed with it. */
static void test_killed_member_anywhere(void **state)
{
	static uint32_t h[300];
	struct pool_stats st;
	uint32_t tag = 3;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 64 * MiB);
	r.p.p_tag = tag_of;
	r.p.p_charge_arg = &tag;
	assert_int_equal(pool_join(&r.p, 1), 0);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	for (unsigned round = 0; round < 40; round++) {
		int up[2];
		char c;

		assert_int_equal(pipe(up), 0);
		assert_int_equal(pool_fork_begin(&r.p), 0);
		pid_t pid = fork();
		if (pid == 0) {
			(void)pool_after_fork(&r.p);
			(void)!write(up[1], "x", 1);
			rng += round;
			for (unsigned i = 0; i < 300; i += 2)
				pool_unref(&r.p, h[i]);
			for (;;)
				for (unsigned i = 0; i < 300; i++) {
					uint32_t mine;
					uint8_t got[PAGE];

					if (put(&r, rnd(), &mine) != 0 ||
					    pool_load(&r.p, i % 2 == 1 ? h[i] : mine, got) != 0)
						_exit(1);
					if (rnd() % 8 != 0)
						pool_unref(&r.p, mine);
				}
		}
		assert_true(pid > 0);
		assert_int_equal(read(up[0], &c, 1), 1);
		for (unsigned i = 0; i < 10 + rnd() % 200; i++)
			expect(&r, h[i], i * 8 + 2);
		assert_int_equal(kill(pid, SIGKILL), 0);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		pool_release(&r.p, 3);
		(void)close(up[0]);
		(void)close(up[1]);
	}
	for (unsigned i = 0; i < 300; i++) {
		expect(&r, h[i], i * 8 + 2);
		pool_unref(&r.p, h[i]);
	}
	pool_stats(&r.p, &st);
	assert_true(st.pages <= 40); /* a kill may lose the one page on its way */
	teardown(&r);
}

/* ---- writes behind ---- */
/* Joins and takes a ring. 0: the kernel has none for us. */
static int async_setup(struct rig *r, uint64_t mem, uint64_t file)
{
	setup(r, mem, file);
	assert_int_equal(pool_join(&r->p, 1), 0);
	int rc = pool_async(&r->p);
	if (rc != 0) {
		print_message("no io_uring here (%d): writes are synchronous\n", rc);
		pool_release(&r->p, 1);
		teardown(r);
	}
	return rc == 0;
}

static void test_model_writes_behind(void **state)
{
	struct pool_stats st;
	struct rig r;

	(void)state;
	if (!async_setup(&r, 32 * SEG, 64 * MiB))
		return;
	for (unsigned n = 0; n < 60000; n++) {
		if (n % 5000 == 4000)
			pool_inject(&r.p, POOL_INJECT_SUBMIT, 1);
		one_operation(&r, 0);
	}
	uint64_t live = model_check(&r);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, live);
	assert_true(st.behind > st.spills / 2);
	assert_true(st.file_bytes > st.mem_held);
	model_drop(&r);
	pool_poll(&r.p, 1);
	expect_empty(&r);
	teardown(&r);
}

/* A write behind fails: the segment stays in memory, the next write is synchronous. When that fails too it is told. */
static void test_writes_behind_fail(void **state)
{
	static uint32_t h[3000];
	struct pool_stats st;
	unsigned told = 0;
	struct rig r;

	(void)state;
	if (!async_setup(&r, 16 * SEG, 64 * MiB))
		return;
	for (unsigned i = 0; i < 3000; i++) {
		int rc;

		if (i % 100 == 0)
			pool_inject(&r.p, POOL_INJECT_WRITE, 1);
		if (i % 100 == 50 && i > 1500) /* and the synchronous one after it */
			pool_inject(&r.p, POOL_INJECT_WRITE, 2);
		while ((rc = put(&r, i * 8 + 2, &h[i])) == -EIO)
			told++;
		assert_int_equal(rc, 0);
	}
	pool_inject(&r.p, POOL_INJECT_WRITE, 0);
	pool_stats(&r.p, &st);
	assert_true(st.write_errors > 10);
	assert_true(told < st.write_errors);
	for (unsigned i = 0; i < 3000; i++) {
		expect(&r, h[i], i * 8 + 2);
		pool_unref(&r.p, h[i]);
	}
	pool_poll(&r.p, 1);
	expect_empty(&r);
	teardown(&r);
}

/* Killed with a write on its way: its block must not be used again while that write may still arrive. */
static void test_killed_with_writes_in_flight(void **state)
{
	static uint32_t h[400];
	struct pool_stats st;
	uint32_t tag = 3;
	struct rig r;

	(void)state;
	if (!async_setup(&r, 16 * SEG, 64 * MiB))
		return;
	r.p.p_tag = tag_of;
	r.p.p_charge_arg = &tag;
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	for (unsigned round = 0; round < 20; round++) {
		pool_poll(&r.p, 1);
		assert_int_equal(pool_fork_begin(&r.p), 0);
		pid_t pid = fork();
		if (pid == 0) {
			uint32_t mine;

			(void)pool_after_fork(&r.p);
			if (pool_async(&r.p) != 0)
				_exit(1);
			pool_inject(&r.p, POOL_INJECT_KILL, 1 + round % 4);
			for (unsigned i = 0; put(&r, round * 1000 + i * 8 + 2, &mine) == 0; i++)
				;
			_exit(1);
		}
		int status;
		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		pool_release(&r.p, 3);
		pool_stats(&r.p, &st);
		assert_int_equal(st.pages, 400);
		for (unsigned i = round % 3; i < 400; i += 3) {
			expect(&r, h[i], i * 8 + 2);
			pool_unref(&r.p, h[i]);
			assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
		}
	}
	for (unsigned i = 0; i < 400; i++) {
		expect(&r, h[i], i * 8 + 2);
		pool_unref(&r.p, h[i]);
	}
	pool_poll(&r.p, 1);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, 0);
	assert_int_equal(st.mem_held, 0);
	assert_true(st.set_aside > 0 && st.set_aside <= 20 * 4);
	teardown(&r);
}

/* A process starts writes and then sleeps on what they hold: others who need the memory take them over. */
static void test_sleeper_holds_writes(void **state)
{
	static uint32_t h[1500];
	struct pool_stats st;
	uint32_t tag = 3;
	int up[2], down[2];
	struct rig r;
	char c;

	(void)state;
	if (!async_setup(&r, 32 * SEG, 64 * MiB))
		return;
	r.p.p_tag = tag_of;
	r.p.p_charge_arg = &tag;
	assert_int_equal(pipe(up), 0);
	assert_int_equal(pipe(down), 0);
	assert_int_equal(pool_fork_begin(&r.p), 0);
	pid_t pid = fork();
	if (pid == 0) {
		(void)pool_after_fork(&r.p);
		if (pool_async(&r.p) != 0)
			_exit(1);
		for (unsigned round = 0; round < 3; round++) {
			for (unsigned i = 0; i < 1500; i++)
				if (put(&r, i * 8 + 2, &h[i]) != 0)
					_exit(2);
			(void)!write(up[1], "x", 1);
			if (read(down[0], &c, 1) != 1)
				_exit(3);
			for (unsigned i = 0; i < 1500; i++) {
				expect(&r, h[i], i * 8 + 2);
				pool_unref(&r.p, h[i]);
			}
		}
		pool_poll(&r.p, 1);
		_exit(0);
	}
	assert_true(pid > 0);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(read(up[0], &c, 1), 1);
		(void)pool_shrink(&r.p, 64 * MiB); /* everything that can be given up */
		for (unsigned i = 0; i < 600; i++)
			assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
		for (unsigned i = 0; i < 600; i++) {
			expect(&r, h[i], i * 8 + 2);
			pool_unref(&r.p, h[i]);
		}
		assert_int_equal(write(down[1], "x", 1), 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	pool_release(&r.p, 3);
	pool_poll(&r.p, 1);
	expect_empty(&r);
	pool_stats(&r.p, &st);
	assert_true(st.steals > 0);
	teardown(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_filled_takes_no_data),
		cmocka_unit_test(test_model_mostly_in_file),
		cmocka_unit_test(test_model_full_file),
		cmocka_unit_test(test_model_memory_only),
		cmocka_unit_test(test_only_short_memory_is_packed_tightly),
		cmocka_unit_test(test_full_then_freed),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_neighbours_come_with_one_read),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_bad_block_is_left),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_vnode_tells_errors),
		cmocka_unit_test(test_damaged_file_is_not_compacted_into_memory),
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_charge),
		cmocka_unit_test(test_family),
		cmocka_unit_test(test_killed_owner),
		cmocka_unit_test(test_killed_with_lock_held),
		cmocka_unit_test(test_killed_writers_held_all_memory),
		cmocka_unit_test(test_killed_member_is_released),
		cmocka_unit_test(test_child_outlives_parent),
		cmocka_unit_test(test_killed_member_anywhere),
		cmocka_unit_test(test_model_writes_behind),
		cmocka_unit_test(test_writes_behind_fail),
		cmocka_unit_test(test_killed_with_writes_in_flight),
		cmocka_unit_test(test_sleeper_holds_writes),
	};
	const char *s = getenv("STORE_SEED");

	seed = s != NULL ? strtoull(s, NULL, 10) : (uint64_t)getpid() * 2654435761u + 1;
	rng = seed | 1;
	print_message("STORE_SEED=%llu\n", (unsigned long long)seed);
	if (argc > 1) /* only tests of this pattern */
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
