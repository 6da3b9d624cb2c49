/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces on the simulated machine, call by call: placing, mremap, heap, stack, locks, swapping, borrowing, fork, advice.
 * All inputs are constants; every run is the same.
 */
#include "tests/vm/segs.h"

/* ---- mremap ---- */
static void remap_grows_in_place(void **state)
{
	struct sys s;
	sys_init(&s, 256, 1000);
	struct as *as = new_as(&s);
	vaddr_t at = 0;

	assert_int_equal(map_anon(as, BASE, 8, 0), VM_OK);
	fill(&s, as, BASE, 8, 100);
	assert_int_equal(as_remap(as, BASE, 8 * PG, 20 * PG, 0, &at), VM_OK);
	assert_int_equal(at, BASE);
	assert_int_equal(nsegs(as), 1);
	expect(&s, as, BASE, 8, 100);
	expect_zero(&s, as, BASE + 8 * PG, 12);
	assert_int_equal(reserved(&s), 20);
	assert_int_equal(as_remap(as, BASE, 20 * PG, 5 * PG, 0, &at), VM_OK);
	assert_int_equal(reserved(&s), 5);
	assert_int_equal(try_put(&s, as, BASE + 5 * PG, 1), VM_NOMAP);
	/* a mapping is in the way: only MAYMOVE helps */
	assert_int_equal(map_anon(as, BASE + 7 * PG, 1, 0), VM_OK);
	assert_int_equal(as_remap(as, BASE, 5 * PG, 9 * PG, 0, &at), VM_NOMEM);
	assert_int_equal(as_remap(as, BASE, 5 * PG, 9 * PG, REMAP_MAYMOVE, &at), VM_OK);
	assert_int_not_equal(at, BASE);
	expect(&s, as, at, 5, 100);
	expect_zero(&s, as, at + 5 * PG, 4);
	assert_int_equal(try_put(&s, as, BASE, 1), VM_NOMAP);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

static void remap_moves_pages_not_bytes(void **state)
{
	struct sys s;
	sys_init(&s, 256, 1000);
	struct as *as = new_as(&s);
	vaddr_t at = BASE + 64 * MB;
	struct page *before;

	assert_int_equal(map_anon(as, BASE, 64, 0), VM_OK);
	fill(&s, as, BASE, 64, 7);
	before = page_of(s.vm, hat_probe(as_hat(as), BASE + 9 * PG, NULL));
	assert_int_equal(map_anon(as, at, 4, 0), VM_OK); /* FIXED replaces it */
	put(&s, as, at, 99);
	assert_int_equal(
	    as_remap(as, BASE + 8 * PG, 16 * PG, 16 * PG, REMAP_MAYMOVE | REMAP_FIXED, &at), VM_OK);
	expect(&s, as, at, 16, 15);
	expect(&s, as, BASE, 8, 7);
	expect(&s, as, BASE + 24 * PG, 40, 31);
	assert_ptr_equal(page_of(s.vm, hat_probe(as_hat(as), at + PG, NULL)), before);
	assert_int_equal(try_put(&s, as, BASE + 8 * PG, 1), VM_NOMAP);
	assert_int_equal(vm_statistics(s.vm)->cow, 0);
	/* invalid requests change nothing */
	vaddr_t over = BASE + 4 * PG;
	assert_int_equal(
	    as_remap(as, BASE, 8 * PG, 8 * PG, REMAP_MAYMOVE | REMAP_FIXED, &over), VM_INVAL);
	assert_int_equal(as_remap(as, BASE, 8 * PG, 8 * PG, REMAP_FIXED, &at), VM_INVAL);
	assert_int_equal(as_remap(as, BASE, 8 * PG, 0, 0, &at), VM_INVAL);
	assert_int_equal(as_remap(as, BASE, 12 * PG, 20 * PG, REMAP_MAYMOVE, &at), VM_NOMAP);
	expect(&s, as, BASE, 8, 7);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

static void remap_leaves_the_old_range_if_asked(void **state)
{
	struct sys s;
	sys_init(&s, 256, 1000);
	struct as *as = new_as(&s);
	vaddr_t at = 0;

	assert_int_equal(map_anon(as, BASE, 16, 0), VM_OK);
	fill(&s, as, BASE, 16, 50);
	assert_int_equal(
	    as_remap(as, BASE + 4 * PG, 8 * PG, 8 * PG, REMAP_MAYMOVE | REMAP_DONTUNMAP, &at),
	    VM_OK);
	expect(&s, as, at, 8, 54);
	expect(&s, as, BASE, 4, 50);
	expect_zero(&s, as, BASE + 4 * PG, 8);
	expect(&s, as, BASE + 12 * PG, 4, 62);
	assert_int_equal(reserved(&s), 24);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

static void remap_keeps_memory_locks(void **state)
{
	struct sys s;
	sys_init(&s, 256, 1000);
	struct as *as = new_as(&s);
	vaddr_t at = 0;
	struct vm_usage u;

	assert_int_equal(map_anon(as, BASE, 8, 0), VM_OK);
	assert_int_equal(map_anon(as, BASE + 8 * PG, 1, SEGVN_NORESERVE), VM_OK);
	fill(&s, as, BASE, 8, 1);
	assert_int_equal(as_lock(as, BASE, 8 * PG), VM_OK);
	assert_int_equal(as_remap(as, BASE, 8 * PG, 12 * PG, REMAP_MAYMOVE, &at), VM_OK);
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, 12); /* the new part is locked, too */
	expect(&s, as, at, 8, 1);
	(void)as_swapout(as);
	assert_int_equal(pageout_reclaim(s.vm, 100), 0);
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, 12);
	assert_int_equal(as_fault(as, at, PG, F_SOFTLOCK, S_READ), VM_OK);
	assert_int_equal(as_remap(as, at, 12 * PG, 30 * PG, REMAP_MAYMOVE | REMAP_FIXED,
			     &(vaddr_t){ BASE + MB }),
	    VM_LOCKED);
	assert_int_equal(as_fault(as, at, PG, F_SOFTUNLOCK, S_READ), VM_OK);
	assert_int_equal(as_unlock(as, at, 12 * PG), VM_OK);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

static void remap_of_files_and_shared_memory(void **state)
{
	struct sys s;
	sys_init(&s, 256, 1000);
	struct as *as = new_as(&s), *child;
	struct vnode *vp = new_file(&s, 32 * PG, 1000);
	vaddr_t at = 0, sh = BASE + MB;

	assert_int_equal(map_file(as, BASE, 4, vp, 2 * PG, RW, 0), VM_OK);
	put(&s, as, BASE + PG, 5);
	assert_int_equal(as_remap(as, BASE, 4 * PG, 10 * PG, REMAP_MAYMOVE, &at), VM_OK);
	assert_int_equal(get(&s, as, at), 1002);
	assert_int_equal(get(&s, as, at + PG), 5);
	expect(&s, as, at + 2 * PG, 8, 1004);
	assert_int_equal(map_anon(as, sh, 4, SEGVN_SHARED), VM_OK);
	fill(&s, as, sh, 4, 70);
	assert_int_equal(as_dup(as, &child), VM_OK);
	assert_int_equal(as_remap(as, sh, 4 * PG, 8 * PG, 0, &sh), VM_OK);
	put(&s, as, sh + 6 * PG, 6);
	put(&s, as, sh + PG, 7);
	assert_int_equal(get(&s, child, sh + PG), 7);
	assert_sound(&s);
	as_free(child);
	as_free(as);
	vnode_rele(vp);
	sys_fini(&s);
}

/* ---- placing ---- */
static void map_fixed_replaces_and_noreplace_refuses(void **state)
{
	const struct segvn_args a = { .sa_prot = RW, .sa_maxprot = RW },
				bad = { .sa_prot = RW, .sa_maxprot = PROT_R };
	struct sys s;
	sys_init(&s, 256, 100);
	struct as *as = new_as(&s);
	vaddr_t at = BASE + 4 * PG;

	assert_int_equal(map_anon(as, BASE, 16, 0), VM_OK);
	fill(&s, as, BASE, 16, 1);
	assert_int_equal(as_map_at(as, &at, 4 * PG, 0, AS_NOREPLACE, segvn_create, &a), VM_EXIST);
	assert_int_equal(as_map_at(as, &at, 4 * PG, 0, AS_FIXED, segvn_create, &bad), VM_INVAL);
	expect(&s, as, BASE, 16, 1); /* a refused request leaves the old mapping */
	assert_int_equal(as_map_at(as, &at, 4 * PG, 0, AS_FIXED, segvn_create, &a), VM_OK);
	expect(&s, as, BASE, 4, 1);
	expect_zero(&s, as, BASE + 4 * PG, 4);
	expect(&s, as, BASE + 8 * PG, 8, 9);
	at = BASE + 16 * PG;
	assert_int_equal(
	    as_map_at(as, &at, 4 * PG, 0, AS_NOREPLACE | AS_POPULATE, segvn_create, &a), VM_OK);
	assert_int_equal(rss(as), 16 - 4 + 4);
	assert_int_equal(as_fault(as, BASE, PG, F_SOFTLOCK, S_WRITE), VM_OK);
	at = BASE;
	assert_int_equal(as_map_at(as, &at, 4 * PG, 0, AS_FIXED, segvn_create, &a), VM_LOCKED);
	assert_int_equal(as_fault(as, BASE, PG, F_SOFTUNLOCK, S_WRITE), VM_OK);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

static void the_lowest_or_highest_gap_is_found(void **state)
{
	const struct segvn_args a = { .sa_prot = RW, .sa_maxprot = RW };
	struct sys s;
	sys_init(&s, 256, 100);
	struct as *as = new_as(&s);
	vaddr_t at = 0;

	assert_int_equal(as_map_at(as, &at, PG, 0, 0, segvn_create, &a), VM_OK);
	assert_int_equal(at, 0x10000);
	at = 0;
	assert_int_equal(as_map_at(as, &at, 3 * PG, 0, AS_HIGH, segvn_create, &a), VM_OK);
	assert_int_equal(at, ((vaddr_t)1 << 40) - 3 * PG);
	at = 0;
	assert_int_equal(as_map_at(as, &at, PG, 2 * MB, AS_HIGH, segvn_create, &a), VM_OK);
	assert_int_equal(at, ((vaddr_t)1 << 40) - 2 * MB);
	at = 0;
	assert_int_equal(
	    as_map_at(as, &at, PG, 2 * MB, AS_HIGH | AS_32BIT, segvn_create, &a), VM_OK);
	assert_int_equal(at, ((vaddr_t)1 << 32) - 2 * MB);
	at = BASE + 123;
	assert_int_equal(as_map_at(as, &at, PG, 0, 0, segvn_create, &a), VM_OK);
	assert_int_equal(at, BASE); /* the hint */
	assert_int_equal(as_map_at(as, &at, PG, 0, 0, segvn_create, &a), VM_OK);
	assert_int_equal(at, 0x11000); /* the place is taken: the lowest hole is used */
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

/* ---- heap and stack ---- */
static void brk_grows_and_shrinks_the_heap(void **state)
{
	struct sys s;
	sys_init(&s, 256, 100);
	struct as *as = new_as(&s), *child;
	vaddr_t now;

	assert_int_equal(as_brk_init(as, BASE, 200 * PG), VM_OK);
	assert_int_equal(as_brk(as, BASE + 10 * PG + 5, &now), VM_OK);
	fill(&s, as, BASE, 11, 1);
	assert_int_equal(as_brk(as, BASE + 20 * PG, &now), VM_OK);
	assert_int_equal(nsegs(as), 1);
	assert_int_equal(as_dup(as, &child), VM_OK);
	assert_int_equal(as_brk(child, BASE + 2 * PG, &now), VM_OK);
	expect(&s, as, BASE, 11, 1);
	assert_int_equal(try_put(&s, child, BASE + 2 * PG, 1), VM_NOMAP);
	as_free(child);
	assert_int_equal(as_brk(as, BASE + 201 * PG, &now), VM_LIMIT);
	assert_int_equal(as_brk(as, BASE - PG, &now), VM_LIMIT);
	assert_int_equal(now, BASE + 20 * PG);
	assert_int_equal(map_anon(as, BASE + 30 * PG, 1, SEGVN_NORESERVE), VM_OK);
	assert_int_equal(as_brk(as, BASE + 31 * PG, &now), VM_EXIST);
	assert_int_equal(as_brk(as, 0, &now), VM_OK);
	assert_int_equal(now, BASE + 20 * PG);
	assert_int_equal(as_brk(as, BASE, &now), VM_OK);
	assert_int_equal(reserved(&s), 0);
	/* future pages of the heap are locked */
	assert_int_equal(as_lockall(as, false, true), VM_OK);
	assert_int_equal(as_brk(as, BASE + 4 * PG, &now), VM_OK);
	assert_int_equal(rss(as), 4);
	assert_int_equal(as_unlockall(as), VM_OK);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

static void stack_grows_to_its_redzone(void **state)
{
	struct sys s;
	sys_init(&s, 512, 2000);
	struct as *as = new_as(&s);
	vaddr_t top = BASE + 1000 * PG, at;

	assert_int_equal(as_stack_init(as, top, 2 * PG, 400 * PG, 16 * PG, RW), VM_OK);
	put(&s, as, top - 3 * PG, 3);
	put(&s, as, top - 40 * PG, 40);
	assert_int_equal(nsegs(as), 1);
	assert_int_equal(reserved(&s), 40);
	for (uint64_t i = 41; i <= 300; i++)
		put(&s, as, top - i * PG, i);
	assert_int_equal(get(&s, as, top - 40 * PG), 40);
	assert_int_equal(nsegs(as), 1);
	/* a mapping 10 pages below the grown stack: the redzone of 16 pages is not free */
	assert_int_equal(map_anon(as, top - 380 * PG, 1, 0), VM_OK);
	put(&s, as, top - 363 * PG, 1);
	assert_int_equal(try_put(&s, as, top - 364 * PG, 1), VM_NOMAP);
	/* a search for a place never uses the redzone */
	assert_int_equal(as_gap(as, PG, PG, top - 379 * PG, top, true, &at), VM_NOMEM);
	assert_int_equal(as_unmap(as, top - 380 * PG, PG), VM_OK);
	assert_int_equal(as_gap(as, PG, PG, top - 400 * PG, top, true, &at), VM_OK);
	assert_int_equal(at, top - 380 * PG);
	put(&s, as, top - 400 * PG, 400);
	assert_int_equal(try_put(&s, as, top - 401 * PG, 1), VM_NOMAP);
	for (uint64_t i = 41; i <= 300; i++)
		assert_int_equal(get(&s, as, top - i * PG), i);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

/* ---- locks ---- */
static void lock_of_a_range_a_space_and_the_future(void **state)
{
	struct sys s;
	sys_init(&s, 256, 1000);
	struct as *as = new_as(&s);
	struct vm_usage u;

	assert_int_equal(map_anon(as, BASE, 8, 0), VM_OK);
	assert_int_equal(map_anon(as, BASE + 16 * PG, 8, 0), VM_OK);
	assert_int_equal(as_lock(as, BASE, 24 * PG), VM_NOMAP); /* a hole: no page stays locked */
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, 0);
	as_set_limits(as, ~(uint64_t)0, 12);
	assert_int_equal(as_lockall(as, true, false), VM_LIMIT);
	as_set_limits(as, ~(uint64_t)0, 20);
	assert_int_equal(as_unlockall(as), VM_OK);
	assert_int_equal(as_lockall(as, true, true), VM_OK);
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, 16);
	assert_int_equal(map_anon(as, BASE + 32 * PG, 4, 0), VM_OK);
	assert_int_equal(rss(as), 20);
	/* and the range is not mapped */
	assert_int_equal(map_anon(as, BASE + 64 * PG, 1, 0), VM_LIMIT);
	assert_int_equal(try_put(&s, as, BASE + 64 * PG, 1), VM_NOMAP);
	assert_int_equal(as_unlockall(as), VM_OK);
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, 0);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

/* ---- swapping ---- */
static void a_space_is_swapped_out_and_in(void **state)
{
	struct sys s;
	sys_init(&s, 512, 1000);
	struct as *as = new_as(&s);
	struct vnode *vp = new_file(&s, 8 * PG, 300);
	uint64_t io;

	assert_int_equal(map_anon(as, BASE, 100, 0), VM_OK);
	assert_int_equal(map_file(as, BASE + MB, 8, vp, 0, PROT_R, SEGVN_SHARED), VM_OK);
	fill(&s, as, BASE, 100, 1);
	expect(&s, as, BASE + MB, 8, 300);
	assert_int_equal(as_lock(as, BASE, PG), VM_OK);
	io = vm_statistics(s.vm)->pgin;
	as_swapout_soft(as);
	assert_int_equal(rss(as), 0);
	expect(&s, as, BASE, 100, 1);
	expect(&s, as, BASE + MB, 8, 300);
	assert_int_equal(vm_statistics(s.vm)->pgin, io); /* soft: no page left memory */
	assert_true(as_swapout(as) >= 99);
	assert_sound(&s);
	assert_int_equal(rss(as), 0);
	/* otherwise they would be taken back without I/O */
	assert_true(page_cache_drain(s.vm, 1000) >= 99);
	io = vm_statistics(s.vm)->swapin;
	assert_true(as_swapin(as) >= 100);
	assert_true(rss(as) >= 100);
	assert_int_equal(vm_statistics(s.vm)->swapin - io, 99);
	io = vm_statistics(s.vm)->pgin_io;
	expect(&s, as, BASE, 100, 1);
	expect(&s, as, BASE + MB, 8, 300);
	assert_int_equal(vm_statistics(s.vm)->pgin_io, io); /* all pages were brought in */
	assert_int_equal(as_swapin(as), 0);
	assert_sound(&s);
	as_free(as);
	vnode_rele(vp);
	sys_fini(&s);
}

/*
 * A page that was written to swap and then only read needs no second write; neighbours are written
 * in few requests.
 */
static void clean_pages_keep_their_slots(void **state)
{
	struct sys s;
	sys_init(&s, 512, 1000);
	struct as *as = new_as(&s);
	uint64_t out, io;

	assert_int_equal(map_anon(as, BASE, 200, 0), VM_OK);
	fill(&s, as, BASE, 200, 1);
	(void)as_swapout(as);
	assert_int_equal(vm_statistics(s.vm)->swapout, 200);
	assert_in_range(vm_statistics(s.vm)->pgout_io, 1, 200 / VM_IO_PAGES + 2);
	assert_int_equal(page_cache_drain(s.vm, 1000), 200);
	expect(&s, as, BASE, 200, 1);
	out = vm_statistics(s.vm)->swapout;
	(void)as_swapout(as);
	assert_int_equal(vm_statistics(s.vm)->swapout, out);
	assert_int_equal(page_cache_drain(s.vm, 1000), 200);
	put(&s, as, BASE + 7 * PG, 99); /* this one only */
	io = vm_statistics(s.vm)->swapin;
	(void)as_swapout(as);
	assert_int_equal(vm_statistics(s.vm)->swapout, out + 1);
	assert_true(io > 200);
	assert_int_equal(get(&s, as, BASE + 7 * PG), 99);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

/* ---- vfork ---- */
struct borrowing {
	struct sys *s;
	struct as *as;
	int step;
};

static void vfork_child(void *arg)
{
	struct borrowing *b = arg;

	for (unsigned i = 0; i < 20; i++)
		mach_yield();
	put(b->s, b->as, BASE, 77); /* the parent's memory */
	b->step = 1;
	as_return(b->as);
}

static void vfork_parent(void *arg)
{
	struct borrowing *b = arg;

	as_borrow_wait(b->as);
	assert_int_equal(b->step, 1);
	b->step = 2;
}

static void vfork_borrows_the_space(void **state)
{
	struct sys s;
	sys_init(&s, 128, 100);
	struct borrowing b = { .s = &s, .as = new_as(&s) };

	assert_int_equal(map_anon(b.as, BASE, 4, 0), VM_OK);
	as_borrow(b.as);
	sim_spawn(s.m, vfork_parent, &b, "parent");
	sim_spawn(s.m, vfork_child, &b, "child");
	sim_run(s.m);
	assert_int_equal(b.step, 2);
	assert_int_equal(get(&s, b.as, BASE), 77);
	as_hold(b.as);
	as_free(b.as);
	assert_int_equal(get(&s, b.as, BASE), 77); /* one reference is left */
	as_free(b.as);
	sys_fini(&s);
}

/* ---- fork ---- */
static void a_child_inherits_as_each_range_says(void **state)
{
	struct sys s;
	sys_init(&s, 512, 1000);
	struct as *as = new_as(&s), *child;
	struct vnode *vp = new_file(&s, 8 * PG, 500);
	vaddr_t file = BASE + MB, hole = BASE + 2 * MB;

	assert_int_equal(map_anon(as, BASE, 16, 0), VM_OK);
	fill(&s, as, BASE, 16, 1);
	assert_int_equal(map_file(as, file, 8, vp, 0, RW, 0), VM_OK);
	put(&s, as, file + PG, 42);
	assert_int_equal(as_map(as, hole, MB, seghole_create, NULL), VM_OK);
	assert_int_equal(as_inherit(as, BASE, 4 * PG, INHERIT_ZERO), VM_OK);
	assert_int_equal(as_inherit(as, BASE + 4 * PG, 4 * PG, INHERIT_NONE), VM_OK);
	assert_int_equal(as_inherit(as, BASE + 8 * PG, 4 * PG, INHERIT_SHARE), VM_OK);
	/* page of a private mapping of a file */
	assert_int_equal(as_inherit(as, file, 4 * PG, INHERIT_SHARE), VM_OK);
	assert_int_equal(as_dup(as, &child), VM_OK);
	assert_sound(&s);
	expect_zero(&s, child, BASE, 4);
	assert_int_equal(try_put(&s, child, BASE + 4 * PG, 1), VM_NOMAP);
	expect(&s, child, BASE + 8 * PG, 8, 9);
	put(&s, child, BASE + 9 * PG, 1000); /* shared now */
	assert_int_equal(get(&s, as, BASE + 9 * PG), 1000);
	put(&s, as, BASE + 12 * PG, 2000); /* copied */
	assert_int_equal(get(&s, child, BASE + 12 * PG), 13);
	/* the private file is shared by the two, but not with the file */
	assert_int_equal(get(&s, child, file), 500);
	assert_int_equal(get(&s, child, file + PG), 42);
	put(&s, child, file, 43);
	put(&s, as, file + 2 * PG, 44);
	assert_int_equal(get(&s, as, file), 43);
	assert_int_equal(get(&s, child, file + 2 * PG), 44);
	assert_int_equal(*(uint64_t *)sim_disk_data(vp), 500);
	put(&s, as, file + 5 * PG, 45);
	assert_int_equal(get(&s, child, file + 5 * PG), 505);
	assert_int_equal(try_put(&s, child, hole, 1), VM_NOMAP);
	assert_sound(&s);
	as_free(as);
	assert_int_equal(get(&s, child, file + 2 * PG), 44);
	assert_sound(&s);
	as_free(child);
	vnode_rele(vp);
	sys_fini(&s);
}

/*
 * A page to which a device writes stays the parent's: the child gets a copy at the fork, not later.
 */
static void fork_unshares_softlocked_pages(void **state)
{
	struct sys s;
	sys_init(&s, 256, 1000);
	struct as *as = new_as(&s), *child;
	uint64_t *dma;
	pfn_t pfn;

	assert_int_equal(map_anon(as, BASE, 4, 0), VM_OK);
	fill(&s, as, BASE, 4, 1);
	assert_int_equal(as_fault(as, BASE + PG, 2 * PG, F_SOFTLOCK, S_WRITE), VM_OK);
	pfn = hat_probe(as_hat(as), BASE + PG, NULL);
	assert_int_equal(as_dup(as, &child), VM_OK);
	assert_int_equal(hat_probe(as_hat(as), BASE + PG, NULL), pfn);
	dma = mach_frame_kva(s.m, pfn);
	*dma = 999;
	put(&s, as, BASE + PG + 8, 5); /* no copy: still the same frame */
	assert_int_equal(hat_probe(as_hat(as), BASE + PG, NULL), pfn);
	assert_int_equal(get(&s, as, BASE + PG), 999);
	expect(&s, child, BASE, 4, 1);
	assert_int_equal(as_fault(as, BASE + PG, 2 * PG, F_SOFTUNLOCK, S_WRITE), VM_OK);
	assert_sound(&s);
	as_free(child);
	as_free(as);
	sys_fini(&s);
}

/* Many mappings of one shared memory promise its pages once. */
static void shared_memory_is_reserved_once(void **state)
{
	struct sys s;
	sys_init(&s, 256, 100);
	struct as *as = new_as(&s), *child[20];

	assert_int_equal(map_anon(as, BASE, 64, SEGVN_SHARED), VM_OK);
	assert_int_equal(reserved(&s), 64);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(as_dup(as, &child[i]), VM_OK);
		put(&s, child[i], BASE + i * PG, i);
	}
	assert_int_equal(reserved(&s), 64);
	assert_int_equal(as_unmap(as, BASE, 64 * PG), VM_OK);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(get(&s, child[19], BASE + i * PG), i);
		if (i < 19)
			as_free(child[i]);
	}
	assert_int_equal(reserved(&s), 64);
	as_free(child[19]);
	assert_int_equal(reserved(&s), 0);
	as_free(as);
	sys_fini(&s);
}

/* ---- merging: large populated neighbours, in whatever order they come ---- */
static void merging_knows_no_size(void **state)
{
	struct sys s;
	sys_init(&s, 16384, 30000);
	struct as *as = new_as(&s);
	const uint64_t n = 3000;

	for (uint64_t i = 3; i > 0; i--) { /* downwards */
		assert_int_equal(map_anon(as, BASE + i * n * PG, n, 0), VM_OK);
		fill(&s, as, BASE + i * n * PG, n, i * 10000);
		assert_int_equal(nsegs(as), 1);
	}
	assert_int_equal(map_anon(as, BASE - n * PG, n, 0), VM_OK);
	fill(&s, as, BASE - n * PG, n, 77);
	assert_int_equal(nsegs(as), 2);
	assert_int_equal(map_anon(as, BASE, n, 0), VM_OK); /* between two that are full */
	assert_int_equal(nsegs(as), 1);
	expect(&s, as, BASE - n * PG, n, 77);
	for (uint64_t i = 3; i > 0; i--)
		expect(&s, as, BASE + i * n * PG, n, i * 10000);
	assert_int_equal(vm_statistics(s.vm)->cow, 0);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

/* ---- advice, residence ---- */
static void advice_splits_and_populates(struct sys *s, struct as *as)
{
	assert_int_equal(map_anon(as, BASE, 32, 0), VM_OK);
	assert_int_equal(as_advise(as, BASE, 8 * PG, ADV_RANDOM), VM_OK);
	assert_int_equal(as_advise(as, BASE + 8 * PG, 8 * PG, ADV_SEQUENTIAL), VM_OK);
	assert_int_equal(nsegs(as), 3);
	assert_int_equal(as_advise(as, BASE, 32 * PG, ADV_NORMAL), VM_OK);
	assert_int_equal(nsegs(as), 1);
	assert_int_equal(as_advise(as, BASE, 16 * PG, ADV_POPULATE_WRITE), VM_OK);
	assert_true(rss(as) >= 16); /* including pages zeroed ahead */
	assert_int_equal(as_advise(as, BASE + 16 * PG, 8 * PG, ADV_POPULATE_READ), VM_OK);
	assert_in_range(rss(as), 16, 20); /* only read: the page of zeroes */
	fill(s, as, BASE, 16, 1);
}

static void advice_pages_out_and_in(struct sys *s, struct as *as)
{
	uint8_t vec[32];

	assert_int_equal(as_advise(as, BASE, 8 * PG, ADV_PAGEOUT), VM_OK);
	assert_int_equal(as_incore(as, BASE, 32 * PG, vec), VM_OK);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(vec[i] & (INCORE_MAPPED | INCORE_SWAPPED | INCORE_ANON),
		    INCORE_SWAPPED | INCORE_ANON);
	assert_int_equal(page_cache_drain(s->vm, 1000), 8);
	for (unsigned i = 8; i < 16; i++)
		assert_int_equal(vec[i] & (INCORE_PRESENT | INCORE_MAPPED | INCORE_MOD),
		    INCORE_PRESENT | INCORE_MAPPED | INCORE_MOD);
	assert_int_equal(as_advise(as, BASE, 8 * PG, ADV_WILLNEED), VM_OK);
	assert_int_equal(as_incore(as, BASE, 8 * PG, vec), VM_OK);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(vec[i] & (INCORE_PRESENT | INCORE_MAPPED), INCORE_PRESENT);
	expect(s, as, BASE, 16, 1);
	assert_int_equal(as_advise(as, BASE, 4 * PG, ADV_COLD), VM_OK);
	assert_int_equal(as_incore(as, BASE, 8 * PG, vec), VM_OK);
	assert_int_equal(vec[0] & INCORE_REF, 0);
	assert_int_equal(vec[7] & INCORE_REF, INCORE_REF);
	expect(s, as, BASE, 16, 1);
}

static void advice_drops_what_is_not_locked(struct sys *s, struct as *as)
{
	uint8_t vec[32];

	assert_int_equal(as_advise(as, BASE, 4 * PG, ADV_DONTNEED), VM_OK);
	expect_zero(s, as, BASE, 4);
	expect(s, as, BASE + 8 * PG, 8, 9);
	assert_int_equal(as_lock(as, BASE + 8 * PG, PG), VM_OK);
	assert_int_equal(as_advise(as, BASE + 8 * PG, 4 * PG, ADV_DONTNEED), VM_LOCKED);
	expect(s, as, BASE + 8 * PG, 8, 9);
	assert_int_equal(as_incore(as, BASE + 8 * PG, PG, vec), VM_OK);
	assert_int_equal(vec[0] & INCORE_LOCKED, INCORE_LOCKED);
	assert_int_equal(as_incore(as, BASE, 33 * PG, (uint8_t[33]){ 0 }), VM_NOMAP);
	assert_int_equal(as_advise(as, BASE, 33 * PG, ADV_WILLNEED), VM_NOMAP);
}

/* REMOVE takes shared contents from all spaces that share them. */
static void advice_removes_shared_contents(struct sys *s, struct as *as)
{
	vaddr_t sh = BASE + MB;
	struct as *child;

	assert_int_equal(as_advise(as, BASE, PG, ADV_REMOVE), VM_INVAL);
	assert_int_equal(map_anon(as, sh, 8, SEGVN_SHARED), VM_OK);
	fill(s, as, sh, 8, 80);
	assert_int_equal(as_dup(as, &child), VM_OK);
	expect(s, child, sh, 8, 80);
	assert_int_equal(as_advise(as, sh, 4 * PG, ADV_DONTNEED), VM_OK);
	expect(s, as, sh, 8, 80);
	assert_int_equal(as_advise(as, sh, 4 * PG, ADV_REMOVE), VM_OK);
	expect_zero(s, child, sh, 4);
	expect(s, child, sh + 4 * PG, 4, 84);
	assert_sound(s);
	as_free(child);
}

static void each_advice_does_what_it_says(void **state)
{
	struct sys s;
	struct as *as;

	sys_init(&s, 512, 1000);
	as = new_as(&s);
	advice_splits_and_populates(&s, as);
	advice_pages_out_and_in(&s, as);
	advice_drops_what_is_not_locked(&s, as);
	advice_removes_shared_contents(&s, as);
	as_free(as);
	sys_fini(&s);
}

/* ---- sealing ---- */
static void sealed_ranges_stay(void **state)
{
	const struct segvn_args a = { .sa_prot = RW, .sa_maxprot = RW };
	struct sys s;
	sys_init(&s, 256, 100);
	struct as *as = new_as(&s), *child;
	vaddr_t at = BASE + 5 * PG;

	assert_int_equal(map_anon(as, BASE, 16, 0), VM_OK);
	fill(&s, as, BASE, 16, 1);
	assert_int_equal(as_seal(as, BASE + 4 * PG, 20 * PG), VM_NOMAP);
	assert_int_equal(as_seal(as, BASE + 4 * PG, 4 * PG), VM_OK);
	assert_int_equal(nsegs(as), 3);
	assert_int_equal(as_unmap(as, BASE, 16 * PG), VM_ACCESS);
	assert_int_equal(as_setprot(as, BASE + 5 * PG, PG, PROT_R), VM_ACCESS);
	assert_int_equal(as_advise(as, BASE + 5 * PG, PG, ADV_DONTNEED), VM_ACCESS);
	assert_int_equal(as_map_at(as, &at, PG, 0, AS_FIXED, segvn_create, &a), VM_ACCESS);
	assert_int_equal(as_move(as, BASE + 4 * PG, 4 * PG, as, BASE + MB), VM_ACCESS);
	assert_int_equal(as_remap(as, BASE + 4 * PG, 4 * PG, PG, 0, &at), VM_ACCESS);
	expect(&s, as, BASE, 16, 1);
	put(&s, as, BASE + 5 * PG, 6); /* the memory can be written as before */
	assert_int_equal(as_setprot(as, BASE, 4 * PG, PROT_R), VM_OK);
	assert_int_equal(as_dup(as, &child), VM_OK);
	assert_int_equal(as_unmap(child, BASE + 4 * PG, PG), VM_ACCESS);
	assert_sound(&s);
	as_free(child);
	as_free(as);
	sys_fini(&s);
}

/* Each allocation of a scenario fails once: the space stays sound and nothing leaks. */
static void remap_and_stack_survive_failures(void **state)
{
	for (unsigned what = VM_INJECT_PAGE; what < VM_INJECT_N; what++) {
		for (uint64_t nth = 1; nth < 60; nth++) {
			struct sys s;
			sys_init(&s, 256, 1000);
			struct as *as = new_as(&s), *child;
			vaddr_t at = BASE + MB, top = BASE + 8 * MB;

			assert_int_equal(map_anon(as, BASE, 32, 0), VM_OK);
			fill(&s, as, BASE, 32, 1);
			assert_int_equal(as_stack_init(as, top, PG, 100 * PG, 4 * PG, RW), VM_OK);
			vm_inject(s.vm, what, nth);
			(void)as_inherit(as, BASE + 28 * PG, 4 * PG, INHERIT_SHARE);
			if (as_remap(as, BASE + 8 * PG, 8 * PG, 8 * PG, REMAP_MAYMOVE | REMAP_FIXED,
				&at) == VM_OK)
				(void)as_remap(
				    as, at, 8 * PG, 8 * PG, REMAP_MAYMOVE | REMAP_DONTUNMAP, &at);
			(void)try_put(&s, as, top - 20 * PG, 1);
			(void)as_swapout(as);
			(void)as_swapin(as);
			if (as_dup(as, &child) == VM_OK)
				as_free(child);
			bool done = vm_inject_seen(s.vm, what) < nth;
			vm_inject(s.vm, what, 0);
			assert_sound(&s);
			expect(&s, as, BASE, 8, 1);
			expect(&s, as, BASE + 16 * PG, 16, 17);
			as_free(as);
			sys_fini(&s);
			if (done)
				break;
		}
	}
}

/*
 * Contents are dropped when the frame is needed, without I/O, unless the page was written since; a
 * page that is not dropped causes no fault.
 */
static void advice_free_is_lazy(void **state)
{
	(void)state;
	for (unsigned linux_like = 0; linux_like < 2; linux_like++) {
		struct sim_config cfg = { .frames = 128, .ncpus = 2 };
		uint64_t out, faults;
		struct as *as, *child;
		struct sys s;

		if (linux_like)
			sim_config_linux(&cfg);
		sys_init_cfg(&s, &cfg, 256);
		as = new_as(&s);
		assert_int_equal(map_anon(as, BASE, 32, 0), VM_OK);
		fill(&s, as, BASE, 32, 1);
		assert_int_equal(as_advise(as, BASE, 16 * PG, ADV_PAGEOUT),
		    VM_OK); /* some have a copy on disk, too */
		expect(&s, as, BASE, 32, 1);
		faults = vm_statistics(s.vm)->fault;
		assert_int_equal(as_advise(as, BASE, 24 * PG, ADV_FREE), VM_OK);
		assert_int_equal(vm_statistics(s.vm)->lazy_free, 24);
		assert_sound(&s);
		expect(&s, as, BASE, 32, 1); /* the frames are not needed */
		if (!linux_like)
			assert_int_equal(vm_statistics(s.vm)->fault, faults);
		put(&s, as, BASE + 3 * PG, 77);
		put(&s, as, BASE + 20 * PG + 8, 78);
		out = vm_statistics(s.vm)->pgout;
		assert_int_equal(as_dup(as, &child), VM_OK);
		for (unsigned i = 0; i < 8; i++)
			(void)pageout_reclaim(s.vm, 64);
		(void)page_cache_drain(s.vm, 1000);
		assert_int_equal(vm_statistics(s.vm)->pgout - out,
		    8 + 2); /* pages that were not marked, or were written since */
		for (unsigned k = 0; k < 2; k++) {
			struct as *in = k == 0 ? as : child;

			for (unsigned i = 0; i < 24; i++)
				assert_int_equal(get(&s, in, BASE + i * PG),
				    i == 3        ? 77
					: i == 20 ? 21
						  : 0);
			assert_int_equal(get(&s, in, BASE + 20 * PG + 8), 78);
			expect(&s, in, BASE + 24 * PG, 8, 25);
		}
		/* pages shared with a fork: this process's are dropped at once, the other's stay */
		assert_int_equal(as_advise(child, BASE, 32 * PG, ADV_FREE), VM_OK);
		expect_zero(&s, child, BASE, 32);
		expect(&s, as, BASE + 24 * PG, 8, 25);
		/* locked memory stays */
		assert_int_equal(as_lock(as, BASE + 24 * PG, PG), VM_OK);
		assert_int_equal(as_advise(as, BASE + 24 * PG, 2 * PG, ADV_FREE), VM_LOCKED);
		expect(&s, as, BASE + 24 * PG, 8, 25);
		assert_sound(&s);
		as_free(child);
		as_free(as);
		sys_fini(&s);
	}
}

/* Memory that is only read takes one frame in total; a write makes a separate page. */
static void unwritten_memory_shares_one_page_of_zeroes(void **state)
{
	enum { N = 400 };
	struct as *as, *child;
	struct vm_usage u0, u1;
	uint8_t vec[1];
	uint64_t copied;
	vaddr_t at = BASE + 8 * MB;
	struct sys s;
	char buf[64];

	(void)state;
	sys_init(&s, 512, 512);
	as = new_as(&s);
	assert_int_equal(map_anon(as, BASE, 4 * N, SEGVN_NORESERVE), VM_OK);
	expect_zero(&s, as, BASE, 1);
	vm_usage(s.vm, &u0);
	expect_zero(&s, as, BASE, 4 * N); /* four times as many pages as the machine has */
	vm_usage(s.vm, &u1);
	assert_true(vm_statistics(s.vm)->zfod == 0 && vm_statistics(s.vm)->pgout == 0);
	assert_in_range(u0.vu_free - u1.vu_free, 0, 24); /* tables */
	assert_int_equal(rss(as), 0);
	assert_int_equal(as_incore(as, BASE, PG, vec), VM_OK);
	assert_int_equal(vec[0] & (INCORE_PRESENT | INCORE_MAPPED | INCORE_ANON),
	    INCORE_PRESENT | INCORE_MAPPED);
	assert_sound(&s);
	put(&s, as, BASE + 5 * PG, 55);
	expect_zero(&s, as, BASE, 5);
	expect_zero(&s, as, BASE + 6 * PG, 5);
	assert_int_equal(get(&s, as, BASE + 5 * PG), 55);
	assert_int_equal(rss(as), 1);
	/* copies from it, into it, of it */
	assert_int_equal(as_copyin(as, BASE + 7 * PG, buf, sizeof(buf)), VM_OK);
	assert_true(buf[0] == 0 && buf[63] == 0);
	assert_int_equal(as_copy(as, BASE + 5 * PG, as, BASE + 8 * PG, 8, &copied), VM_OK);
	assert_int_equal(as_copy(as, BASE + 9 * PG, as, BASE + 5 * PG, 8, &copied), VM_OK);
	assert_int_equal(get(&s, as, BASE + 8 * PG), 55);
	assert_int_equal(get(&s, as, BASE + 5 * PG), 0);
	/* a debugger's write, a lock, a fork whose child writes memory both had read, memory that becomes shared */
	assert_int_equal(as_poke(as, BASE + 10 * PG, "x", 1), VM_OK);
	assert_int_equal(get(&s, as, BASE + 10 * PG), 'x');
	assert_int_equal(as_lock(as, BASE + 11 * PG, PG), VM_OK);
	assert_false(vm_is_zeropage(s.vm, hat_probe(as_hat(as), BASE + 11 * PG, NULL)));
	assert_int_equal(as_inherit(as, BASE + 20 * PG, 4 * PG, INHERIT_SHARE), VM_OK);
	assert_int_equal(as_dup(as, &child), VM_OK);
	put(&s, child, BASE + 12 * PG, 12);
	assert_int_equal(get(&s, as, BASE + 12 * PG), 0);
	put(&s, child, BASE + 21 * PG, 21);
	assert_int_equal(get(&s, as, BASE + 21 * PG), 21);
	assert_int_equal(
	    as_transfer(as, BASE + 30 * PG, 4 * PG, child, &at, TRANSFER_COW, RW), VM_OK);
	put(&s, as, BASE + 30 * PG, 30);
	expect_zero(&s, child, at, 4);
	assert_sound(&s);
	as_free(child);
	as_free(as);
	sys_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remap_grows_in_place),
		cmocka_unit_test(remap_moves_pages_not_bytes),
		cmocka_unit_test(remap_leaves_the_old_range_if_asked),
		cmocka_unit_test(remap_keeps_memory_locks),
		cmocka_unit_test(remap_of_files_and_shared_memory),
		cmocka_unit_test(map_fixed_replaces_and_noreplace_refuses),
		cmocka_unit_test(the_lowest_or_highest_gap_is_found),
		cmocka_unit_test(brk_grows_and_shrinks_the_heap),
		cmocka_unit_test(stack_grows_to_its_redzone),
		cmocka_unit_test(lock_of_a_range_a_space_and_the_future),
		cmocka_unit_test(a_space_is_swapped_out_and_in),
		cmocka_unit_test(clean_pages_keep_their_slots),
		cmocka_unit_test(vfork_borrows_the_space),
		cmocka_unit_test(a_child_inherits_as_each_range_says),
		cmocka_unit_test(fork_unshares_softlocked_pages),
		cmocka_unit_test(shared_memory_is_reserved_once),
		cmocka_unit_test(merging_knows_no_size),
		cmocka_unit_test(each_advice_does_what_it_says),
		cmocka_unit_test(advice_free_is_lazy),
		cmocka_unit_test(unwritten_memory_shares_one_page_of_zeroes),
		cmocka_unit_test(sealed_ranges_stay),
		cmocka_unit_test(remap_and_stack_survive_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
