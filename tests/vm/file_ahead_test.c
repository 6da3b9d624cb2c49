/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Read-ahead and fault-around of files, on the simulated machine: one request brings the block
 * around a fault, pages in memory around a page are mapped with it, and a file that is read in
 * order is read by growing requests. Pages read ahead never interfere: not with errors, private
 * pages, the file's end, advice, or memory.
 */
#include "tests/vm/segs.h"

#include <quire/policy.h>

#define PAGES 64u
#define AROUND 16u

static uint64_t reads(struct sys *s) { return vm_statistics(s->vm)->pgin_io; }
static uint64_t faults(struct sys *s) { return vm_statistics(s->vm)->fault; }

static void one_read_brings_the_block_and_one_fault_maps_it(void **state)
{
	struct sys s;
	sys_init(&s, 1024, 100);
	struct vnode *vp = new_file(&s, PAGES * PG, 1);
	struct as *a = new_as(&s), *b = new_as(&s);
	uint64_t io = reads(&s), n;

	assert_int_equal(map_file(a, BASE, PAGES, vp, 0, PROT_R | PROT_X, 0), VM_OK);
	assert_int_equal(get(&s, a, BASE + 21 * PG), 22);
	assert_int_equal(reads(&s), io + 1);
	n = faults(&s);
	expect(&s, a, BASE + AROUND * PG, AROUND, AROUND + 1);
	assert_int_equal(reads(&s), io + 1);
	assert_int_equal(faults(&s), n);
	expect(&s, a, BASE, PAGES, 1);
	assert_int_equal(reads(&s), io + PAGES / AROUND);
	assert_int_equal(vm_statistics(s.vm)->fault_io, PAGES / AROUND);
	/* another space finds all in memory: it reads nothing, and one fault maps sixteen pages */
	n = faults(&s);
	assert_int_equal(map_file(b, BASE, PAGES, vp, 0, RW, SEGVN_SHARED), VM_OK);
	expect(&s, b, BASE, PAGES, 1);
	assert_int_equal(reads(&s), io + PAGES / AROUND);
	assert_int_equal(faults(&s), n + PAGES / AROUND);
	as_free(a);
	as_free(b);
	vnode_rele(vp);
	sys_fini(&s);
}

/*
 * Slots with private pages keep them; a written page of the file is written through a translation
 * whose modification is noticed.
 */
static void what_is_mapped_around_stays_the_files(void **state)
{
	struct sys s;
	sys_init(&s, 1024, 100);
	struct vnode *vp = new_file(&s, PAGES * PG, 1);
	struct as *own = new_as(&s), *shared = new_as(&s);

	assert_int_equal(map_file(own, BASE, PAGES, vp, 0, RW, 0), VM_OK);
	assert_int_equal(map_file(shared, BASE, PAGES, vp, 0, RW, SEGVN_SHARED), VM_OK);
	put(&s, own, BASE + 20 * PG, 2000);
	assert_int_equal(get(&s, own, BASE + 21 * PG), 22);
	assert_int_equal(get(&s, own, BASE + 20 * PG), 2000);
	put(&s, own, BASE + 22 * PG, 2200); /* mapped around 21, then written */
	assert_int_equal(get(&s, shared, BASE + 25 * PG), 26);
	put(&s, shared, BASE + 24 * PG, 2400);
	expect(&s, shared, BASE + 16 * PG, 8, 17);
	assert_int_equal(get(&s, own, BASE + 24 * PG), 2400);
	assert_int_equal(get(&s, own, BASE + 22 * PG), 2200);
	assert_int_equal(as_sync(shared, BASE, PAGES * PG, 0), VM_OK);
	assert_int_equal(((uint64_t *)sim_disk_data(vp))[24 * 512], 2400);
	assert_int_equal(((uint64_t *)sim_disk_data(vp))[22 * 512], 23);
	as_free(own);
	as_free(shared);
	vnode_rele(vp);
	sys_fini(&s);
}

/* A page before the wanted page cannot be read, then a page after it. */
static void an_error_beside_the_page_is_not_the_pages(void **state)
{
	for (uint32_t good = 0; good < AROUND; good += 5) {
		struct sys s;
		sys_init(&s, 1024, 100);
		struct vnode *vp = new_file(&s, PAGES * PG, 1);
		struct as *a = new_as(&s);

		assert_int_equal(map_file(a, BASE, PAGES, vp, 0, PROT_R, 0), VM_OK);
		sim_disk_fail(vp, VM_IO_READ, 1, 1, good);
		assert_int_equal(get(&s, a, BASE + 24 * PG), 25);
		expect(&s, a, BASE, PAGES, 1);
		sim_disk_fail(vp, VM_IO_READ, 0, 0, 0);
		as_free(a);
		vnode_rele(vp);
		sys_fini(&s);
	}
}

static void a_block_ends_with_the_segment_and_with_the_file(void **state)
{
	struct sys s;
	sys_init(&s, 1024, 100);
	struct vnode *vp = new_file(&s, 22 * PG + 100, 1);
	struct as *a = new_as(&s);
	uint64_t io = reads(&s), v;

	assert_int_equal(map_file(a, BASE, 20, vp, 2 * PG, PROT_R, 0), VM_OK);
	assert_int_equal(map_file(a, BASE + 32 * PG, 8, vp, 20 * PG, PROT_R, 0), VM_OK);
	assert_int_equal(get(&s, a, BASE + 5 * PG), 8);
	assert_int_equal(vm_statistics(s.vm)->pgin, AROUND);
	assert_int_equal(get(&s, a, BASE + 33 * PG), 22);
	assert_int_equal(get(&s, a, BASE + 34 * PG), 23);
	assert_int_equal(try_get(&s, a, BASE + 35 * PG, &v), VM_EOF);
	assert_int_equal(reads(&s), io + 2);
	assert_int_equal(vm_statistics(s.vm)->pgin, AROUND + 3);
	as_free(a);
	vnode_rele(vp);
	sys_fini(&s);
}

/*
 * No page is read ahead under random advice, with the prefetcher `none`, and when frames are
 * scarce.
 */
static void advice_and_memory_set_the_block(void **state)
{
	static const struct {
		const char *prefetch;
		enum advice advice;
		pfn_t frames;
		uint64_t least, most;
	} cases[] = { { "streams", ADV_NORMAL, 1024, PAGES / AROUND, PAGES / AROUND },
		{ "streams", ADV_RANDOM, 1024, PAGES, PAGES },
		{ "none", ADV_NORMAL, 1024, PAGES, PAGES },
		{ "streams", ADV_NORMAL, 40, PAGES / 8, PAGES } };

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct sim_config cfg = { .frames = cases[i].frames, .ncpus = 2, .seed = 3 };
		struct vm_config vc = { .vc_mach = sim_create(&cfg), .vc_frames = cases[i].frames };
		struct sys s = { .m = vc.vc_mach };

		vc.vc_prefetch = prefetch_find(cases[i].prefetch);
		assert_int_equal(vm_create(&vc, &s.vm), VM_OK);
		struct vnode *vp = new_file(&s, PAGES * PG, 1);
		struct as *a = new_as(&s);

		assert_int_equal(map_file(a, BASE, PAGES, vp, 0, PROT_R, 0), VM_OK);
		assert_int_equal(as_advise(a, BASE, PAGES * PG, cases[i].advice), VM_OK);
		for (unsigned k = 0; k < PAGES; k++)
			assert_int_equal(get(&s, a, BASE + k * 7 % PAGES * PG), k * 7 % PAGES + 1);
		assert_in_range(reads(&s), cases[i].least, cases[i].most);
		as_free(a);
		vnode_rele(vp);
		sys_fini(&s);
	}
}

static void a_file_read_in_order_is_read_by_growing_requests(void **state)
{
	struct sys s;
	sys_init(&s, 1024, 100);
	struct vnode *vp = new_file(&s, 4 * PAGES * PG, 1);
	uint64_t v, io = reads(&s);

	for (uint64_t i = 0; i < 4 * PAGES; i++) {
		assert_int_equal(vnode_read(vp, i * PG, &v, 8, NULL), VM_OK);
		assert_int_equal(v, i + 1);
	}
	/* 4 + 8 + 16 + 32 ... */
	assert_int_equal(reads(&s), io + 3 + (4 * PAGES - 28 + 31) / 32);
	vnode_rele(vp);
	/* scattered reads: only the wanted pages are read */
	vp = new_file(&s, 4 * PAGES * PG, 1);
	v = vm_statistics(s.vm)->pgin;
	for (uint64_t i = 1; i < 4 * PAGES; i += 5)
		assert_int_equal(vnode_read(vp, i * PG, &io, 8, NULL), VM_OK);
	assert_int_equal(vm_statistics(s.vm)->pgin, v + 51);
	vnode_rele(vp);
	sys_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_read_brings_the_block_and_one_fault_maps_it),
		cmocka_unit_test(what_is_mapped_around_stays_the_files),
		cmocka_unit_test(an_error_beside_the_page_is_not_the_pages),
		cmocka_unit_test(a_block_ends_with_the_segment_and_with_the_file),
		cmocka_unit_test(advice_and_memory_set_the_block),
		cmocka_unit_test(a_file_read_in_order_is_read_by_growing_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
