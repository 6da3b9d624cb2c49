/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Kernel memory while frames are free but no two of them are adjacent: allocations of several
 * frames succeed or fail cleanly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <quire/kmem.h>
#include <quire/page.h>
#include <quire/vm.h>

#include "machine/sim/sim.h"

#define FRAMES 256u

struct env {
	struct mach *mach;
	struct vm *vm;
	struct page *taken[FRAMES];
	unsigned n;
};

static void report(void *arg, const char *text)
{
	(void)arg;
	print_error("check: %s\n", text);
}

/*
 * Takes every frame, then gives half of the frames with an even number back: no two free frames are
 * neighbours.
 */
static int setup(void **state)
{
	struct env *e = calloc(1, sizeof(*e));
	struct sim_config cfg = { .frames = FRAMES };
	struct vm_config vc = { .vc_frames = FRAMES };
	struct page *pp;

	assert_non_null(e->mach = vc.vc_mach = sim_create(&cfg));
	assert_int_equal(vm_create(&vc, &e->vm), VM_OK);
	while ((pp = page_kalloc(e->vm, 0, PG_RESERVE)) != NULL)
		e->taken[e->n++] = pp;
	for (unsigned i = 0; i < e->n; i++)
		if (page_pfn(e->vm, e->taken[i]) % 4 == 0) {
			page_kfree(e->vm, e->taken[i], 0);
			e->taken[i] = NULL;
		}
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;

	for (unsigned i = 0; i < e->n; i++)
		if (e->taken[i] != NULL)
			page_kfree(e->vm, e->taken[i], 0);
	assert_int_equal(vm_check(e->vm, report, NULL), 0);
	vm_destroy(e->vm);
	sim_destroy(e->mach);
	free(e);
	return 0;
}

/*
 * The allocation once waited forever: many frames were free, so page-out reported that waiting
 * could help.
 */
static void frames_in_a_row_are_not_waited_for_without_hope(void **state)
{
	struct env *e = *state;

	assert_null(page_kalloc(e->vm, 1, PG_WAIT));
	assert_null(page_kalloc(e->vm, 5, PG_WAIT));
	assert_null(kmem_alloc(e->vm, 40000, KM_SLEEP));
}

static void slabs_of_one_frame_do_where_larger_ones_cannot_be_had(void **state)
{
	struct env *e = *state;
	struct kmem_cache *c = kmem_cache_create(e->vm, "half a page", 2048, 8, NULL, NULL, NULL);
	void *obj[24];

	assert_non_null(c);
	for (unsigned i = 0; i < 24; i++)
		assert_non_null(obj[i] = kmem_cache_alloc(c, KM_SLEEP));
	assert_int_equal(kmem_cache_inuse(c), 24);
	assert_int_equal(vm_check(e->vm, report, NULL), 0);
	for (unsigned i = 0; i < 24; i++)
		kmem_cache_free(c, obj[i]);
	assert_true(kmem_reap(e->vm) >= 24);
	assert_int_equal(vm_check(e->vm, report, NULL), 0);
	kmem_cache_destroy(c);
}

/* When there is room again, slabs have their full size, and both sizes coexist. */
static void slabs_of_both_sizes_live_together(void **state)
{
	struct env *e = *state;
	struct kmem_cache *c = kmem_cache_create(e->vm, "half a page", 2048, 8, NULL, NULL, NULL);
	struct vm_usage small, large;
	void *obj[40];

	assert_non_null(c);
	for (unsigned i = 0; i < 10; i++)
		assert_non_null(obj[i] = kmem_cache_alloc(c, KM_SLEEP));
	for (unsigned i = 0; i < e->n; i++)
		if (e->taken[i] != NULL && page_pfn(e->vm, e->taken[i]) > FRAMES / 2) {
			page_kfree(e->vm, e->taken[i], 0);
			e->taken[i] = NULL;
		}
	vm_usage(e->vm, &small);
	for (unsigned i = 10; i < 40; i++)
		assert_non_null(obj[i] = kmem_cache_alloc(c, KM_SLEEP));
	vm_usage(e->vm, &large);
	assert_true(large.vu_kernel - small.vu_kernel < 30); /* less than a frame each */
	for (unsigned i = 40; i > 0; i--)
		kmem_cache_free(c, obj[i - 1]);
	assert_int_equal(vm_check(e->vm, report, NULL), 0);
	kmem_cache_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    frames_in_a_row_are_not_waited_for_without_hope, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    slabs_of_one_frame_do_where_larger_ones_cannot_be_had, setup, teardown),
		cmocka_unit_test_setup_teardown(slabs_of_both_sizes_live_together, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
