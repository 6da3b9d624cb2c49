/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Linux machine's HAT against real memory of this process: contents follow the frame to each
 * address at which it is loaded, in runs, across fork, and when the program's own pages are
 * adopted. No access here faults.
 */
#include <liburing.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <quire/hat.h>
#include <quire/page.h>
#include <quire/vm.h>
#include <quire/vnode.h>

#include "machine/linux/linux.h"
#include "machine/stub/vnode_stub.h"

#define FRAMES 1024u
#define N 16u

struct env {
	struct mach *mach;
	struct vm *vm;
	struct vnode vn;
	struct hat *hat;
	struct page *pp[N]; /* E-locked all the time */
	uint8_t *at;        /* 4 * N pages of the process, registered */
};

static int setup_with(void **state, bool write_bits)
{
	struct linux_config lc = { .frames = FRAMES, .write_bits = write_bits };
	struct vm_config vc = { .vc_frames = FRAMES };
	struct env *e = calloc(1, sizeof *e);
	const char *without = getenv("QUIRE_WITHOUT");

	assert_true(sys_offers_named(without != NULL ? without : "", &lc.without));
	assert_int_equal(linux_create(&lc, &e->mach), 0);
	vc.vc_mach = e->mach;
	assert_int_equal(vm_create(&vc, &e->vm), VM_OK);
	vnode_init(&e->vn, e->vm, &stub_name_ops, NULL);
	assert_int_equal(hat_alloc(e->vm, NULL, false, &e->hat), VM_OK);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(page_create(e->vm, &e->vn, vm_ptob(i), PG_WAIT, &e->pp[i]), VM_OK);
		memset(page_mapin(e->vm, e->pp[i]), (int)(0x40 + i), VM_PAGESIZE);
	}
	e->at =
	    mmap(NULL, vm_ptob(4 * N), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(e->at != MAP_FAILED);
	assert_int_equal(linux_range_register(e->mach, e->hat, (uint64_t)e->at, vm_ptob(4 * N)), 0);
	*state = e;
	return 0;
}

static int setup(void **state) { return setup_with(state, false); }
static int setup_write_bits(void **state) { return setup_with(state, true); }

static int teardown(void **state)
{
	struct env *e = *state;

	for (unsigned i = 0; i < N; i++) {
		hat_pageunload(e->pp[i]);
		page_io_unlock(e->vm, e->pp[i]);
		page_destroy(e->vm, e->pp[i]);
	}
	linux_range_unregister(e->mach, e->hat, (uint64_t)e->at, vm_ptob(4 * N), false);
	hat_free_end(e->hat);
	munmap(e->at, vm_ptob(4 * N));
	vnode_rele(&e->vn);
	vm_destroy(e->vm);
	linux_destroy(e->mach);
	free(e);
	return 0;
}

static uint64_t va(const struct env *e, unsigned i) { return (uint64_t)e->at + vm_ptob(i); }
static uint8_t *host(const struct env *e, unsigned i) { return e->at + vm_ptob(i); }
static uint8_t frame(const struct env *e, unsigned i)
{
	return *(uint8_t *)mach_frame_kva(e->mach, page_pfn(e->vm, e->pp[i]));
}

static bool there(const struct env *e, unsigned i)
{
	uint64_t bit = 7;

	return linux_range_present(e->mach, va(e, i), 1, &bit) == 1 && bit == 1;
}

static void contents_move_with_the_frame(void **state)
{
	struct env *e = *state;
	unsigned attr = 0;

	assert_false(there(e, 0));
	assert_int_equal(hat_memload(e->hat, va(e, 0), e->pp[0], PROT_R | PROT_W, HAT_LOAD), VM_OK);
	assert_true(there(e, 0));
	assert_int_equal(host(e, 0)[4095], 0x40);
	host(e, 0)[4095] = 0x99;
	/* the same frame loaded elsewhere: its contents move from the first address */
	assert_int_equal(
	    hat_memload(e->hat, va(e, 20), e->pp[0], PROT_R | PROT_W, HAT_LOAD), VM_OK);
	assert_false(there(e, 0));
	assert_int_equal(host(e, 20)[4095], 0x99);
	assert_true(hat_probe(e->hat, va(e, 0), NULL) == PFN_INVALID);
	assert_true(hat_probe(e->hat, va(e, 20), &attr) == page_pfn(e->vm, e->pp[0]));
	assert_int_equal(attr, PROT_R | PROT_W);
	/* another frame at its former address */
	assert_int_equal(hat_memload(e->hat, va(e, 20), e->pp[1], PROT_R, HAT_LOAD), VM_OK);
	assert_int_equal(hat_page_getshare(e->pp[0]), 0);
	assert_int_equal(host(e, 20)[0], 0x41);
	hat_pageunload(e->pp[1]);
	assert_false(there(e, 20));
	assert_int_equal(frame(e, 1), 0x41);
	assert_int_equal(
	    ((uint8_t *)mach_frame_kva(e->mach, page_pfn(e->vm, e->pp[0])))[4095], 0x99);
}

static void a_run_is_loaded_and_unloaded_at_once(void **state)
{
	struct env *e = *state;
	struct page *two[2] = { e->pp[3], e->pp[2] };
	size_t done = 99;

	assert_int_equal(
	    hat_memload_array(e->hat, va(e, 0), e->pp, N, PROT_R | PROT_W, HAT_LOAD, &done), VM_OK);
	assert_int_equal(done, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(host(e, i)[100]++, 0x40 + i);
	hat_unload(e->hat, va(e, 0), vm_ptob(4 * N), HAT_UNLOAD);
	for (unsigned i = 0; i < N; i++) {
		assert_false(there(e, i));
		assert_int_equal(
		    ((uint8_t *)mach_frame_kva(e->mach, page_pfn(e->vm, e->pp[i])))[100], 0x41 + i);
	}
	assert_int_equal(
	    hat_memload_array(e->hat, va(e, 5), two, 2, PROT_R, HAT_LOAD, &done), VM_OK);
	assert_int_equal(done, 2);
	assert_int_equal(host(e, 5)[0], 0x43);
	assert_int_equal(host(e, 6)[0], 0x42);
	/* locked ones stay */
	assert_int_equal(hat_memload(e->hat, va(e, 7), e->pp[7], PROT_R, HAT_LOAD_LOCK), VM_OK);
	hat_unload(e->hat, va(e, 0), vm_ptob(4 * N), HAT_UNLOAD);
	assert_false(there(e, 5));
	assert_true(there(e, 7));
	hat_unload(e->hat, va(e, 0), vm_ptob(4 * N), HAT_UNLOAD_UNLOCK);
	assert_false(there(e, 7));
}

/* A frame that was never touched, or was given back to the host, reads as zeroes. */
static void an_untouched_frame_is_a_page_of_zeros(void **state)
{
	struct env *e = *state;

	mach_frame_discard(e->mach, page_pfn(e->vm, e->pp[4]), 1);
	assert_int_equal(hat_memload(e->hat, va(e, 4), e->pp[4], PROT_R | PROT_W, HAT_LOAD), VM_OK);
	assert_int_equal(host(e, 4)[17], 0);
	hat_unload(e->hat, va(e, 4), VM_PAGESIZE, HAT_UNLOAD_DISCARD);
	assert_false(there(e, 4));
	assert_int_equal(frame(e, 4), 0);
}

/*
 * Contents that replace a whole frame appear at the address with the frame, in a run as page by
 * page, also beside frames filled in their slots.
 */
static void contents_that_fill_a_frame_reach_the_address(void **state)
{
	struct env *e = *state;
	size_t done = 0;

	for (unsigned round = 0; round < 8; round++) {
		for (unsigned i = 0; i < N; i++) {
			if ((i + round) % 4 == 3)
				continue; /* the contents taken out last stay in the slot */
			mach_frame_discard(e->mach, page_pfn(e->vm, e->pp[i]), 1);
			if ((i + round) % 4 == 2)
				continue; /* a page of zeroes */
			memset(page_fillin(e->vm, e->pp[i]), (int)(0x10 * round + i), VM_PAGESIZE);
			assert_int_equal(frame(e, i), 0x10 * round + i);
		}
		assert_int_equal(
		    hat_memload_array(e->hat, va(e, 0), e->pp, N, PROT_R | PROT_W, HAT_LOAD, &done),
		    VM_OK);
		assert_int_equal(done, N);
		for (unsigned i = 0; i < N; i++) {
			if ((i + round) % 4 < 2)
				assert_int_equal(host(e, i)[4095], 0x10 * round + i);
			else if ((i + round) % 4 == 2)
				assert_int_equal(host(e, i)[4095], 0);
			else
				assert_int_equal(host(e, i)[4095], round == 0 ? 0x40 + i : 0x99);
		}
		memset(e->at, 0x99, vm_ptob(N));
		hat_unload(e->hat, va(e, 0), vm_ptob(N), HAT_UNLOAD);
		for (unsigned i = 0; i < N; i++)
			assert_int_equal(frame(e, i), 0x99);
	}
}

/*
 * If the kernel tells of writes, a page written since the last query is referenced; other pages are
 * not.
 */
static void a_page_written_since_is_referenced(void **state)
{
	struct env *e = *state;
	size_t done = 0;

	if (!mach_caps(e->mach)->mc_ref_writes)
		skip();
	assert_int_equal(
	    hat_memload_array(e->hat, va(e, 0), e->pp, N, PROT_R | PROT_W, HAT_LOAD, &done), VM_OK);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < N; i++)
			if (i % 3 == round / 10)
				host(e, i)[round] = 1;
		for (unsigned i = 0; i < N; i++) {
			bool used = (hat_pagesync(e->pp[i], true, false) & P_REF) != 0;

			page_nrm_clear(e->pp[i], P_REF);
			if (round % 10 < 3)
				continue; /* a page that was just loaded counts as used */
			if (i % 3 != round / 10)
				assert_false(used);
			else if (i > N / 8) /* the first pages are queried before the next scan */
				assert_true(used);
		}
	}
}

/*
 * Pages shared by a fork do not move; their contents are copied out and in instead, in both
 * processes independently.
 */
static void pages_shared_by_a_fork_do_not_move(void **state)
{
	struct env *e = *state;
	size_t done;
	int st;

	assert_int_equal(
	    hat_memload_array(e->hat, va(e, 0), e->pp, 8, PROT_R | PROT_W, HAT_LOAD, &done), VM_OK);
	pid_t pid = fork();
	if (pid == 0) {
		if (linux_after_fork(e->mach, e->hat) != 0)
			_exit(2);
		host(e, 0)[0] = 0x77;
		/* a shared page is not pinned */
		if (!hat_page_tryunload(e->pp[6]) || frame(e, 6) != 0x46)
			_exit(5);
		hat_unload(e->hat, va(e, 0), vm_ptob(8), HAT_UNLOAD);
		if (frame(e, 0) != 0x77 || frame(e, 5) != 0x45 || there(e, 0) || there(e, 5))
			_exit(3);
		if (hat_memload(e->hat, va(e, 9), e->pp[9], PROT_R | PROT_W, HAT_LOAD) != VM_OK ||
		    host(e, 9)[1] != 0x49)
			_exit(4);
		_exit(0);
	}
	assert_true(pid > 0);
	hat_unload(e->hat, va(e, 0), vm_ptob(4), HAT_UNLOAD);
	assert_int_equal(frame(e, 0), 0x40);
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_true(WIFEXITED(st));
	assert_int_equal(WEXITSTATUS(st), 0);
	hat_unload(e->hat, va(e, 4), vm_ptob(4), HAT_UNLOAD);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(frame(e, i), 0x40 + i);
}

/*
 * A page to which the kernel writes for another process is not unloaded during the write: later
 * bytes would be lost. (Found when process_vm_writev and a page-out of its target met.)
 */
static void pinned_page_stays(void **state)
{
	struct env *e = *state;
	struct iovec iov = { host(e, 1), VM_PAGESIZE };
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	uint8_t news[VM_PAGESIZE];
	size_t done;
	int fd, rc;

	if ((rc = io_uring_queue_init(4, &ring, 0)) != 0) {
		print_message("no io_uring here (%s): nothing can be pinned\n", strerror(-rc));
		skip();
	}
	assert_int_equal(
	    hat_memload_array(e->hat, va(e, 0), e->pp, 4, PROT_R | PROT_W, HAT_LOAD, &done), VM_OK);
	assert_int_equal(io_uring_register_buffers(&ring, &iov, 1), 0);
	assert_false(hat_page_tryunload(e->pp[1]));
	assert_true(there(e, 1));
	assert_int_equal(host(e, 1)[7], 0x41);
	hat_swapout(e->hat);
	assert_false(there(e, 0));
	assert_true(there(e, 1));
	assert_false(there(e, 3));
	assert_int_equal(frame(e, 0), 0x40);
	assert_int_equal(frame(e, 3), 0x43);
	assert_true(hat_probe(e->hat, va(e, 1), NULL) == page_pfn(e->vm, e->pp[1]));

	memset(news, 0x99, sizeof news);
	fd = memfd_create("news", MFD_CLOEXEC);
	assert_int_equal(write(fd, news, sizeof news), sizeof news);
	io_uring_prep_read_fixed(io_uring_get_sqe(&ring), fd, host(e, 1), VM_PAGESIZE, 0, 0);
	assert_int_equal(io_uring_submit_and_wait(&ring, 1), 1);
	assert_int_equal(io_uring_wait_cqe(&ring, &cqe), 0);
	assert_int_equal(cqe->res, VM_PAGESIZE);
	assert_int_equal(host(e, 1)[7], 0x99);
	io_uring_queue_exit(&ring);
	close(fd);
	while (!hat_page_tryunload(e->pp[1])) /* the kernel drops its references some time later */
		sched_yield();
	assert_false(there(e, 1));
	assert_int_equal(frame(e, 1), 0x99);
}

/* Pages that the program left at its addresses are adopted in place and move like other pages. */
static void memory_taken_over_moves_like_the_rest(void **state)
{
	struct env *e = *state;

	assert_int_equal(hat_memload(e->hat, va(e, 2), e->pp[2], PROT_R | PROT_W, HAT_LOAD), VM_OK);
	linux_range_leave(e->mach, e->hat, va(e, 2), VM_PAGESIZE);
	assert_int_equal(hat_page_getshare(e->pp[2]), 0);
	assert_true(there(e, 2));
	assert_int_equal(host(e, 2)[0], 0x42);
	host(e, 2)[0] = 0x21;
	assert_int_equal(
	    hat_memload(e->hat, va(e, 2), e->pp[11], PROT_R | PROT_W, HAT_LOAD_PRESENT), VM_OK);
	hat_pageunload(e->pp[11]);
	assert_int_equal(frame(e, 11), 0x21);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(contents_move_with_the_frame, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    a_run_is_loaded_and_unloaded_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    an_untouched_frame_is_a_page_of_zeros, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    contents_that_fill_a_frame_reach_the_address, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    a_page_written_since_is_referenced, setup_write_bits, teardown),
		cmocka_unit_test_setup_teardown(
		    pages_shared_by_a_fork_do_not_move, setup, teardown),
		cmocka_unit_test_setup_teardown(pinned_page_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    memory_taken_over_moves_like_the_rest, setup, teardown),
	};

	return cmocka_run_group_tests_name("linux", tests, NULL, NULL);
}
