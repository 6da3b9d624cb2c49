/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store of one process with the kernel's asynchronous I/O (store/pool_aio.c): writes behind by
 * any thread, and writes that fail; loads whose begin and end are separate calls; several threads.
 * STORE_SEED repeats a run: each prints its seed first.
 */
#include "tests/store/store_rig.h"

#include <pthread.h>

static int alone_setup(struct rig *r, uint64_t mem, uint64_t file)
{
	setup(r, mem, file);
	pool_alone(&r->p);
	if (r->p.p_ring != NULL && r->p.p_aio != NULL)
		return 1;
	print_message("no asynchronous I/O here\n");
	teardown(r);
	return 0;
}

static void a_store_of_one_process_is_as_the_model_says(void **state)
{
	struct rig r;

	(void)state;
	if (alone_setup(&r, 32 * SEG, 64 * MiB))
		model_writes_behind(&r);
}

static void writes_of_one_process_that_fail_lose_no_page(void **state)
{
	struct rig r;

	(void)state;
	if (alone_setup(&r, 16 * SEG, 64 * MiB))
		writes_behind_fail(&r);
}

/*
 * All reads that a vector needs are in flight at once, and the load after them reads nothing more.
 * A failed read is repeated.
 */
static void loads_begun_together_are_read_at_once(void **state)
{
	static uint32_t h[4000];
	static uint8_t got[48][PAGE];
	struct pool_stats before, after;
	uint32_t some[48], done, ticket;
	uint8_t want[PAGE];
	void *to[48];
	struct rig r;

	(void)state;
	if (!alone_setup(&r, 16 * SEG, 64 * MiB))
		return;
	for (unsigned i = 0; i < 4000; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	pool_poll(&r.p, 1);
	for (unsigned round = 0; round < 40; round++) {
		unsigned first = (unsigned)(rnd() % 3000), step = round % 2 == 0 ? 1 : 20,
			 bad = round % 4 / 2;

		for (unsigned i = 0; i < 48; i++) {
			some[i] = h[first + i % 40 * step];
			to[i] = got[i];
		}
		if (bad)
			pool_inject(&r.p, POOL_INJECT_READ, 1);
		ticket = pool_load_begin(&r.p, 48, some);
		pool_inject(&r.p, POOL_INJECT_READ, 0);
		if (ticket != 0)
			pool_load_end(&r.p, ticket);
		pool_stats(&r.p, &before);
		assert_int_equal(pool_load_vec(&r.p, 48, some, to, &done), 0);
		pool_stats(&r.p, &after);
		if (!bad && step == 1)
			assert_int_equal(after.bytes_read, before.bytes_read);
		if (round < 2)
			assert_true(ticket != 0);
		for (unsigned i = 0; i < 48; i++) {
			fill(want, (first + i % 40 * step) * 8 + 2);
			assert_memory_equal(want, got[i], PAGE);
		}
	}
	/* the load reports a disk that no longer answers */
	int fd = r.p.p_fd;
	r.p.p_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	for (unsigned i = 0, failed = 0; failed == 0; i++) {
		assert_true(i < 3000);
		if ((ticket = pool_load_begin(&r.p, 1, &h[i])) != 0) {
			pool_load_end(&r.p, ticket);
			assert_int_equal(pool_load(&r.p, h[i], want), -EIO);
			failed = 1;
		}
	}
	(void)close(r.p.p_fd);
	r.p.p_fd = fd;
	pool_unref_vec(&r.p, 4000, h);
	pool_poll(&r.p, 1);
	expect_empty(&r);
	teardown(&r);
}

/*
 * Several threads, each with separate slots, through the vnode: reads end in the thread that began
 * them.
 */
#define OWN 600u
static struct vnode *shared_vp;

static void transfer(struct vnode *vp, struct vm_io *io)
{
	vp->v_ops->vo_start(vp, io);
	while (!__atomic_load_n((bool *)io->io_arg, __ATOMIC_ACQUIRE))
		vp->v_ops->vo_poll(vp, io);
}

static void transferred(struct vm_io *io)
{
	__atomic_store_n((bool *)io->io_arg, true, __ATOMIC_RELEASE);
}

static void *pages_of_one(void *arg)
{
	uint64_t k = (uint64_t)(uintptr_t)arg, x = seed + k * 77, what[OWN] = { 0 };
	uint8_t(*page)[PAGE] = malloc((size_t)16 * PAGE), *want = malloc(PAGE);
	uintptr_t wrong = 0;

	for (unsigned n = 0; n < 2500 && page != NULL && want != NULL; n++) {
		unsigned first, many;
		bool done = false;
		struct vm_io io = { .io_op = VM_IO_WRITE, .io_done = transferred, .io_arg = &done };

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		many = (unsigned)(x >> 60) + 1;
		first = (unsigned)(x >> 33) % (OWN - many);
		io.io_npages = many;
		io.io_off = (voff_t)(k * OWN + first) * PAGE;
		io.io_op = n % 4 == 0 ? VM_IO_WRITE : VM_IO_READ;
		for (unsigned i = 0; i < many; i++) {
			io.io_buf[i] = page[i];
			if (what[first + i] == 0)
				io.io_op = VM_IO_WRITE;
		}
		for (unsigned i = 0; i < many && io.io_op == VM_IO_WRITE; i++)
			fill(page[i], what[first + i] = (x >> 8) + i + 1);
		transfer(shared_vp, &io);
		wrong += io.io_err != VM_OK || io.io_ok != many;
		for (unsigned i = 0; i < many && io.io_op == VM_IO_READ; i++) {
			fill(want, what[first + i]);
			wrong += memcmp(want, page[i], PAGE) != 0;
		}
	}
	free(page);
	free(want);
	return (void *)wrong;
}

static void threads_of_one_process_share_a_store(void **state)
{
	pthread_t t[4];
	struct rig r;

	(void)state;
	if (!alone_setup(&r, 16 * SEG, 64 * MiB))
		return;
	shared_vp = vnode_over(&r, 4 * OWN);
	for (uintptr_t k = 0; k < 4; k++)
		assert_int_equal(pthread_create(&t[k], NULL, pages_of_one, (void *)k), 0);
	for (unsigned k = 0; k < 4; k++) {
		void *wrong = NULL;

		(void)pthread_join(t[k], &wrong);
		assert_null(wrong);
	}
	vnode_over_end(shared_vp);
	pool_poll(&r.p, 1);
	expect_empty(&r);
	teardown(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_store_of_one_process_is_as_the_model_says),
		cmocka_unit_test(writes_of_one_process_that_fail_lose_no_page),
		cmocka_unit_test(loads_begun_together_are_read_at_once),
		cmocka_unit_test(threads_of_one_process_share_a_store),
	};

	return store_run(tests, sizeof tests / sizeof *tests, argc > 1 ? argv[1] : NULL);
}
