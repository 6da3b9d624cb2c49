/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Code shared by the tests of the store: pages with names, a store with its model, a packer in a
 * separate process. Included once by each test.
 */
#ifndef QUIRE_TESTS_STORE_RIG_H
#define QUIRE_TESTS_STORE_RIG_H
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
#define SEG 65536u
#define MiB (1ull << 20)

#include "tests/caller_begin.h"

static uint64_t seed, rng;

static inline uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* The page that `what` names: same-filled, incompressible or compressible, and different for each number. */
static inline void fill(uint8_t *page, uint64_t what)
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
	pid_t packer;       /* 0: none */
	uint32_t *packstop; /* shared with the child: true tells it to end */
};

/* ---- a process that packs ---- */
#define PACKER_TAG 4000u
static bool packers; /* each store gets a packer */

static inline void packer_start(struct rig *r)
{
	struct pool p;

	__atomic_store_n(r->packstop, 0, __ATOMIC_RELAXED);
	r->packer = fork();
	assert_true(r->packer >= 0);
	if (r->packer > 0)
		return;
	if (pool_attach(&p, r->mem, r->size, r->fd) != 0 || pool_join(&p, PACKER_TAG) != 0)
		_exit(1);
	for (;;) {
		uint32_t seen = pool_work_seen(&p);
		int rc;

		if (__atomic_load_n(r->packstop, __ATOMIC_ACQUIRE) != 0)
			_exit(0);
		if ((rc = pool_work(&p, false)) != 1)
			pool_wait_work(&p, seen, rc);
	}
}

/* Checks that the child ended by itself, with success. */
static inline void expect_done(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Makes the child complete its work and exit. */
static inline void packer_end(struct rig *r)
{
	if (r->packer == 0)
		return;
	__atomic_store_n(r->packstop, 1, __ATOMIC_RELEASE);
	pool_wake_packer(&r->p);
	expect_done(r->packer);
	pool_release(&r->p, PACKER_TAG);
	r->packer = 0;
}

static inline void packer_kill(struct rig *r)
{
	assert_int_equal(kill(r->packer, SIGKILL), 0);
	assert_int_equal(waitpid(r->packer, NULL, 0), r->packer);
	pool_release(&r->p, PACKER_TAG);
	r->packer = 0;
}

/* Packs all young pages in this process. */
static inline void pack_all(struct rig *r)
{
	while (pool_work(&r->p, true) == 1)
		;
}

static inline void setup_sharing(struct rig *r, uint64_t mem, uint64_t mem_floor, uint64_t file)
{
	struct pool_config c = { .mem_limit = mem,
		.mem_floor = mem_floor,
		.file_limit = file,
		.max_objects = 65536,
		.max_members = 8 };
	const char *why = "";

	r->size = pool_shared_size(&c);
	r->mem = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(r->mem, MAP_FAILED);
	r->fd = file != 0 ? swapfile_open(NULL, file, false, &why) : -1;
	if (file != 0 && r->fd < 0)
		fail_msg("%s", why);
	assert_int_equal(pool_format(r->mem, &c), 0);
	assert_int_equal(pool_attach(&r->p, r->mem, r->size, r->fd), 0);
	r->packer = 0;
	if (!packers)
		return;
	r->packstop = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(r->packstop, MAP_FAILED);
	pool_pack_behind(&r->p, mem / 8);
	packer_start(r);
}

static inline void setup(struct rig *r, uint64_t mem, uint64_t file)
{
	setup_sharing(r, mem, 0, file);
}

static inline void teardown(struct rig *r)
{
	packer_end(r);
	if (packers)
		(void)munmap(r->packstop, PAGE);
	pool_detach(&r->p);
	(void)munmap(r->mem, r->size);
	if (r->fd >= 0)
		(void)close(r->fd);
}

/* A vnode over the store, in a system of which only the count of vnodes is used. */
static inline struct vnode *vnode_over(struct rig *r, uint64_t nslots)
{
	struct vm *vm = aligned_alloc(64, 1 << 16);
	struct vnode *vp;

	assert_non_null(vm);
	memset(vm, 0, 1 << 16);
	vp = pool_vnode_create(vm, &r->p, nslots);
	assert_non_null(vp);
	return vp;
}

static inline void vnode_over_end(struct vnode *vp)
{
	struct vm *vm = vp->v_vm;

	vp->v_ops->vo_inactive(vp);
	free(vm);
}

static inline void expect(struct rig *r, uint32_t handle, uint64_t what)
{
	uint8_t want[PAGE], got[PAGE];
	int rc = pool_load(&r->p, handle, got);

	if (rc != 0)
		fail_msg("load of %u: %d (seed %llu)", handle, rc, (unsigned long long)seed);
	fill(want, what);
	if (memcmp(want, got, PAGE) != 0)
		fail_msg("handle %u has other bytes (seed %llu)", handle, (unsigned long long)seed);
}

static inline int put(struct rig *r, uint64_t what, uint32_t *handle)
{
	uint8_t page[PAGE];

	fill(page, what);
	return pool_store(&r->p, page, handle);
}

static inline void expect_empty(struct rig *r)
{
	struct pool_stats st;

	packer_end(r);
	pool_stats(&r->p, &st);
	assert_int_equal(st.pages, 0);
	assert_int_equal(st.same_filled, 0);
	assert_int_equal(st.mem_bytes, 0);
	assert_int_equal(st.mem_held, 0);
	assert_int_equal(st.file_bytes, 0);
}

#define SLOTS 4096u
static struct {
	uint32_t handle, refs;
	uint64_t what;
} model[SLOTS];

static inline void one_operation(struct rig *r, int full_is_fine)
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

static inline uint64_t model_check(struct rig *r)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		if (model[i].refs > 0) {
			expect(r, model[i].handle, model[i].what);
			n++;
		}
	return n;
}

/* Checks that pages with the names of number i are as stored. */
static inline void expect_all(struct rig *r, const uint32_t *h, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		expect(r, h[i], i * 8 + 2);
}

static inline void put_all(struct rig *r, uint32_t *h, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(put(r, i * 8 + 2, &h[i]), 0);
}

static inline void drop_all(struct rig *r, const uint32_t *h, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		pool_unref(&r->p, h[i]);
}

static inline void model_drop(struct rig *r)
{
	for (unsigned i = 0; i < SLOTS; i++)
		for (; model[i].refs > 0; model[i].refs--)
			pool_unref(&r->p, model[i].handle);
}

/* ---- writes behind ---- */
/* Joins and opens a ring. 0: the kernel refuses a ring. */
static inline int async_setup(struct rig *r, uint64_t mem, uint64_t file)
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

/* Runs the model with writes behind, some of which the kernel refuses. Ends the store. */
static inline void model_writes_behind(struct rig *r)
{
	struct pool_stats st;

	for (unsigned n = 0; n < 60000; n++) {
		if (n % 5000 == 4000)
			pool_inject(&r->p, POOL_INJECT_SUBMIT, 1);
		one_operation(r, 0);
	}
	uint64_t live = model_check(r);
	pool_stats(&r->p, &st);
	assert_int_equal(st.pages, live);
	assert_true(st.behind > st.spills / 2);
	assert_true(st.file_bytes > st.mem_held);
	model_drop(r);
	pool_poll(&r->p, 1);
	expect_empty(r);
	teardown(r);
}

/*
 * A write behind fails: the segment stays in memory, the next write is synchronous. If that write
 * fails, too, the error is reported. Ends the store.
 */
static inline void writes_behind_fail(struct rig *r)
{
	static uint32_t h[3000];
	struct pool_stats st;
	unsigned told = 0;

	for (unsigned i = 0; i < 3000; i++) {
		int rc;

		if (i % 100 == 0)
			pool_inject(&r->p, POOL_INJECT_WRITE, 1);
		if (i % 100 == 50 && i > 1500) /* and the synchronous one after it */
			pool_inject(&r->p, POOL_INJECT_WRITE, 2);
		while ((rc = put(r, i * 8 + 2, &h[i])) == -EIO)
			told++;
		assert_int_equal(rc, 0);
	}
	pool_inject(&r->p, POOL_INJECT_WRITE, 0);
	pool_stats(&r->p, &st);
	assert_true(st.write_errors > 10);
	assert_true(told < st.write_errors);
	for (unsigned i = 0; i < 3000; i++) {
		expect(r, h[i], i * 8 + 2);
		pool_unref(&r->p, h[i]);
	}
	pool_poll(&r->p, 1);
	expect_empty(r);
	teardown(r);
}

static inline int store_run(const struct CMUnitTest *tests, size_t n, const char *pattern)
{
	const char *s = getenv("STORE_SEED");

	seed = s != NULL ? strtoull(s, NULL, 10) : 1; /* nightly runs use other seeds */
	rng = seed | 1;
	print_message("STORE_SEED=%llu\n", (unsigned long long)seed);
	if (pattern != NULL) /* only tests of this pattern */
		cmocka_set_test_filter(pattern);
	return _cmocka_run_group_tests("store", tests, n, NULL, NULL);
}

#include "tests/caller_end.h"
#define packer_start(...) (CALLER, (packer_start)(__VA_ARGS__))
#define packer_end(...) (CALLER, (packer_end)(__VA_ARGS__))
#define packer_kill(...) (CALLER, (packer_kill)(__VA_ARGS__))
#define setup_sharing(...) (CALLER, (setup_sharing)(__VA_ARGS__))
#define setup(...) (CALLER, (setup)(__VA_ARGS__))
#define teardown(...) (CALLER, (teardown)(__VA_ARGS__))
#define vnode_over(...) (CALLER, (vnode_over)(__VA_ARGS__))
#define expect(...) (CALLER, (expect)(__VA_ARGS__))
#define expect_done(...) (CALLER, (expect_done)(__VA_ARGS__))
#define expect_empty(...) (CALLER, (expect_empty)(__VA_ARGS__))
#define expect_all(...) (CALLER, (expect_all)(__VA_ARGS__))
#define put_all(...) (CALLER, (put_all)(__VA_ARGS__))
#define one_operation(...) (CALLER, (one_operation)(__VA_ARGS__))
#define model_check(...) (CALLER, (model_check)(__VA_ARGS__))
#define async_setup(...) (CALLER, (async_setup)(__VA_ARGS__))
#define model_writes_behind(...) (CALLER, (model_writes_behind)(__VA_ARGS__))
#define writes_behind_fail(...) (CALLER, (writes_behind_fail)(__VA_ARGS__))
#endif
