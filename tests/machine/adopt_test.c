/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Adoption (as_adopt) on the Linux machine: memory that the kernel has filled becomes the core's,
 * in place, and behaves like other memory from then on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <quire/as.h>
#include <quire/hat.h>
#include <quire/seg.h>
#include <quire/vm.h>

#include "machine/linux/linux.h"

#define FRAMES 512u
#define N 64u /* pages of the range; the first half is present before the adoption */

struct env {
	struct mach *mach;
	struct vm *vm;
	struct as *as;
	uint8_t *at;
	uint64_t present;
};

static void report(void *arg, const char *text)
{
	(void)arg;
	print_error("check: %s\n", text);
}

static enum vm_err map(struct env *e, unsigned page, unsigned n, unsigned flags)
{
	struct segvn_args sa = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_flags = flags
	};

	return as_map(e->as, (vaddr_t)e->at + vm_ptob(page), vm_ptob(n), segvn_create, &sa);
}

static int setup(void **state)
{
	struct linux_config lc = { .frames = FRAMES, .inline_faults = true };
	struct vm_config vc = { .vc_frames = FRAMES };
	struct env *e = calloc(1, sizeof(*e));
	const char *without = getenv("QUIRE_WITHOUT");

	assert_true(sys_offers_named(without != NULL ? without : "", &lc.without));
	if (linux_create(&lc, &e->mach) != 0) {
		free(e);
		skip();
	}
	vc.vc_mach = e->mach;
	assert_int_equal(vm_create(&vc, &e->vm), VM_OK);
	e->at = mmap(NULL, vm_ptob(N), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(e->at != MAP_FAILED);
	assert_int_equal(
	    as_alloc(e->vm, (vaddr_t)e->at, (vaddr_t)e->at + vm_ptob(N), &e->as), VM_OK);
	(void)madvise(e->at, vm_ptob(N), MADV_NOHUGEPAGE);
	for (unsigned i = 0; i < N / 2; i++)
		memset(e->at + vm_ptob(i), (int)(1 + i), VM_PAGESIZE);
	assert_int_equal(
	    linux_range_register(e->mach, as_hat(e->as), (uint64_t)e->at, vm_ptob(N)), 0);
	assert_int_equal(linux_range_present(e->mach, (uint64_t)e->at, N, &e->present), N / 2);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;
	struct vm_usage u;

	assert_int_equal(vm_check(e->vm, report, NULL), 0);
	as_free(e->as);
	linux_range_unregister(e->mach, NULL, (uint64_t)e->at, vm_ptob(N), true);
	vm_usage(e->vm, &u);
	assert_true(u.vu_anon_slots == 0 && u.vu_reserved == 0);
	(void)munmap(e->at, vm_ptob(N));
	vm_destroy(e->vm);
	linux_destroy(e->mach);
	free(e);
	return 0;
}

/* The test library handles all signals: each access is announced before it is made. */
static uint8_t *page(const struct env *e, unsigned i, enum seg_rw rw)
{
	assert_int_equal(
	    as_fault(e->as, (vaddr_t)e->at + vm_ptob(i), VM_PAGESIZE, F_INVAL, rw), VM_OK);
	return e->at + vm_ptob(i);
}

static void check_contents(const struct env *e)
{
	for (unsigned i = 0; i < N; i++)
		for (unsigned k = 0; k < VM_PAGESIZE; k += 512)
			assert_int_equal(page(e, i, S_READ)[k], i < N / 2 ? 1 + i : 0);
}

static void adopt_and_page(struct env *e, unsigned flags)
{
	assert_int_equal(map(e, 0, N, flags), VM_OK);
	assert_int_equal(as_adopt(e->as, (vaddr_t)e->at, N, &e->present), VM_OK);
	assert_int_equal(vm_statistics(e->vm)->adopted, N / 2);
	/* the pages are adopted already */
	assert_int_equal(as_adopt(e->as, (vaddr_t)e->at, N, &e->present), VM_OK);
	assert_int_equal(vm_statistics(e->vm)->adopted, N / 2);
	assert_int_equal(vm_check(e->vm, report, NULL), 0);
	check_contents(e);
	hat_swapout(as_hat(e->as)); /* every page leaves its address; each access brings one back */
	assert_true(hat_probe(as_hat(e->as), (vaddr_t)e->at, NULL) == PFN_INVALID);
	check_contents(e);
	page(e, 0, S_WRITE)[5] = 99;
	hat_swapout(as_hat(e->as));
	assert_int_equal(page(e, 0, S_READ)[5], 99);
}

static void adopted_memory_is_paged_like_any_other(void **state) { adopt_and_page(*state, 0); }
static void adopted_shared_memory_is_paged_too(void **state)
{
	adopt_and_page(*state, SEGVN_SHARED);
}

/*
 * Each allocation fails in turn: adopted pages stay adopted, the other pages stay where they were,
 * and a second attempt adopts them.
 */
static void adoption_survives_every_failure(void **state)
{
	struct env *e = *state;
	static const enum vm_inject kinds[] = { VM_INJECT_PAGE, VM_INJECT_KMEM, VM_INJECT_HAT };
	unsigned failed = 0;

	for (unsigned k = 0; k < 3; k++) {
		for (uint64_t nth = 1; nth < 1000; nth++) {
			enum vm_err err;
			bool passed;

			assert_int_equal(map(e, 0, N, 0), VM_OK);
			vm_inject(e->vm, kinds[k], nth);
			err = as_adopt(e->as, (vaddr_t)e->at, N, &e->present);
			passed = vm_inject_seen(e->vm, kinds[k]) >= nth;
			vm_inject(e->vm, kinds[k], 0);
			assert_true(err == VM_OK || (passed && err == VM_NOMEM));
			failed += err != VM_OK;
			assert_int_equal(vm_check(e->vm, report, NULL), 0);
			assert_int_equal(as_adopt(e->as, (vaddr_t)e->at, N, &e->present), VM_OK);
			for (unsigned i = 0; i < N / 2; i++)
				assert_int_equal(e->at[vm_ptob(i)], 1 + i);
			/*
			 * leaves the contents at their addresses, so that the next round starts
			 * from the same state
			 */
			linux_range_leave(e->mach, as_hat(e->as), (uint64_t)e->at, vm_ptob(N));
			assert_int_equal(as_unmap(e->as, (vaddr_t)e->at, vm_ptob(N)), VM_OK);
			if (!passed)
				break;
		}
	}
	assert_true(failed > 10);
}

static void only_anonymous_memory_is_adopted(void **state)
{
	struct env *e = *state;

	assert_int_equal(
	    as_map(e->as, (vaddr_t)e->at + vm_ptob(N / 4), vm_ptob(4), seghole_create, NULL),
	    VM_OK);
	assert_int_equal(
	    as_adopt(e->as, (vaddr_t)e->at + vm_ptob(N / 4), 4, &e->present), VM_NOTSUP);
	assert_int_equal(
	    as_adopt(e->as, (vaddr_t)e->at + vm_ptob(N / 2), 4, &e->present), VM_NOMAP);
	assert_int_equal(vm_statistics(e->vm)->adopted, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    adopted_memory_is_paged_like_any_other, setup, teardown),
		cmocka_unit_test_setup_teardown(adoption_survives_every_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    adopted_shared_memory_is_paged_too, setup, teardown),
		cmocka_unit_test_setup_teardown(only_anonymous_memory_is_adopted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
