/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The edges of the core's calls: bad ranges, holes, limits, stores that fail, areas that are full,
 * page locks that two threads want. Each refusal gives the error that the header names, and changes
 * nothing.
 */
#include "tests/vm/segs.h"

#include <quire/kseg.h>

/* ---- holes ---- */
static void a_hole_refuses_everything(void **state)
{
	struct sys s;
	struct as *as, *child;
	uint64_t present = ~(uint64_t)0;
	uint8_t vec[8];
	vaddr_t at = BASE + MB;
	struct as_info ai;

	(void)state;
	sys_init(&s, 128, 16);
	as = new_as(&s);
	assert_int_equal(as_map(as, BASE, 8 * PG, seghole_create, NULL), VM_OK);
	assert_int_equal(
	    as_map(as, BASE + 8 * PG, 8 * PG, seghole_create, NULL), VM_OK); /* merges */
	assert_int_equal(nsegs(as), 1);
	assert_int_equal(try_put(&s, as, BASE, 1), VM_NOMAP);
	assert_int_equal(as_setprot(as, BASE, 2 * PG, PROT_R), VM_NOTSUP);
	assert_int_equal(as_checkprot(as, BASE, PG, PROT_R), VM_PROT);
	assert_int_equal(as_checkprot(as, BASE, PG, 0), VM_OK);
	assert_int_equal(as_lock(as, BASE, PG), VM_NOTSUP);
	assert_int_equal(as_lockall(as, true, false), VM_OK); /* the hole is left out */
	assert_int_equal(as_unlockall(as), VM_OK);
	assert_int_equal(as_sync(as, BASE, 8 * PG, 0), VM_OK);
	assert_int_equal(as_advise(as, BASE, 8 * PG, ADV_WILLNEED), VM_OK);
	memset(vec, 0xff, sizeof(vec));
	assert_int_equal(as_incore(as, BASE, 8 * PG, vec), VM_OK);
	assert_int_equal(vec[0] | vec[7], 0);
	assert_int_equal(as_inherit(as, BASE + PG, PG, INHERIT_NONE), VM_OK);
	assert_int_equal(as_adopt(as, BASE, 8, &present), VM_NOTSUP);
	assert_int_equal(as_query(as, BASE, &ai), VM_OK);
	assert_true(ai.ai_ops == &seghole_ops && ai.ai_prot == 0);
	assert_int_equal(as_swapout(as), 0);
	assert_int_equal(as_remap(as, BASE, 16 * PG, 20 * PG, REMAP_MAYMOVE | REMAP_FIXED, &at),
	    VM_OK);                                                 /* grows and moves */
	assert_int_equal(as_unmap(as, at + 4 * PG, 4 * PG), VM_OK); /* splits */
	assert_int_equal(nsegs(as), 2);
	assert_int_equal(as_dup(as, &child), VM_OK);
	assert_int_equal(nsegs(child), 2);
	assert_int_equal(as_map(child, at, PG, seghole_create, NULL), VM_EXIST);
	assert_sound(&s);
	as_free(child);
	as_free(as);
	sys_fini(&s);
}

/* ---- arguments ---- */
static void ranges_that_wrap_or_leave_the_space_are_refused(void **state)
{
	static const struct {
		vaddr_t va;
		uint64_t len;
	} bad[] = { { BASE, 0 }, { BASE, ~(uint64_t)0 - BASE + 2 }, { 0, PG },
		{ (vaddr_t)1 << 40, PG }, { ~(uint64_t)0 - PG, PG },
		{ ((vaddr_t)1 << 40) - PG, 2 * PG } };
	uint64_t present = 1, v;
	struct as *as;
	struct sys s;
	uint8_t vec[4];

	(void)state;
	sys_init(&s, 128, 16);
	as = new_as(&s);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		vaddr_t va = bad[i].va;
		uint64_t len = bad[i].len;

		assert_int_equal(as_map(as, va, len, seghole_create, NULL), VM_NOMEM);
		assert_int_equal(as_unmap(as, va, len), VM_NOMEM);
		assert_int_equal(as_setprot(as, va, len, 0), VM_NOMEM);
		assert_int_equal(as_checkprot(as, va, len, 0), VM_NOMEM);
		assert_int_equal(as_lock(as, va, len), VM_NOMEM);
		assert_int_equal(as_unlock(as, va, len), VM_NOMEM);
		assert_int_equal(as_sync(as, va, len, 0), VM_NOMEM);
		assert_int_equal(as_advise(as, va, len, ADV_NORMAL), VM_NOMEM);
		assert_int_equal(as_incore(as, va, len, vec), VM_NOMEM);
		assert_int_equal(as_inherit(as, va, len, INHERIT_COPY), VM_NOMEM);
		assert_int_equal(as_seal(as, va, len), VM_NOMEM);
		assert_int_equal(as_fault(as, va, len, F_INVAL, S_READ), VM_NOMAP);
		if (len <= 2 * PG)
			assert_int_equal(as_adopt(as, va, len / PG, &present), VM_INVAL);
	}
	assert_int_equal(as_alloc(s.vm, PG, PG, &(struct as *){ NULL }), VM_INVAL);
	assert_int_equal(as_alloc(s.vm, 100, MB, &(struct as *){ NULL }), VM_INVAL);
	assert_int_equal(as_copyin(as, BASE, &v, 8), VM_NOMAP);
	assert_int_equal(as_copyout(as, &v, BASE, 8), VM_NOMAP);
	assert_int_equal(as_move(as, BASE, PG, as, BASE + 100), VM_INVAL);
	assert_int_equal(as_move(as, 0, PG, as, BASE), VM_NOMAP);
	assert_int_equal(as_move(as, BASE, PG, as, 0), VM_NOMEM);
	assert_int_equal(as_move(as, BASE, PG, as, BASE + MB), VM_NOMAP);
	assert_int_equal(as_gap(as, 0, PG, 0, MB, false, &(vaddr_t){ 0 }), VM_NOMEM);
	assert_int_equal(
	    as_gap(as, (uint64_t)1 << 50, PG, 0, MB, false, &(vaddr_t){ 0 }), VM_NOMEM);
	assert_int_equal(as_query(as, BASE, &(struct as_info){ 0 }), VM_NOMAP);
	as_free(as);
	sys_fini(&s);
}

/* The page after the last possible offset was once page 0 of the file. */
static void offsets_of_a_file_do_not_wrap(void **state)
{
	const voff_t last = ~(voff_t)0 - PG + 1;
	struct sys s;
	struct as *as;
	vaddr_t to = 0;
	uint64_t v;

	(void)state;
	sys_init(&s, 128, 16);
	as = new_as(&s);
	struct vnode *vp = new_file(&s, 4 * PG, 1);

	for (unsigned shared = 0; shared < 2; shared++) {
		unsigned flags = shared ? SEGVN_SHARED : 0;

		assert_int_equal(map_file(as, BASE, 2, vp, last, RW, flags), VM_INVAL);
		assert_int_equal(map_file(as, BASE, 1, vp, last - PG, RW, flags), VM_OK);
		assert_int_equal(try_get(&s, as, BASE, &v), VM_EOF);
		assert_int_equal(as_remap(as, BASE, PG, 4 * PG, 0, &to), VM_INVAL);
		assert_int_equal(as_remap(as, BASE, PG, 4 * PG, REMAP_MAYMOVE, &to), VM_INVAL);
		assert_int_equal(try_get(&s, as, BASE + 2 * PG, &v), VM_NOMAP);
		assert_int_equal(as_unmap(as, BASE, PG), VM_OK);
	}
	assert_int_equal(as_stack_init(as, BASE, PG, 4 * PG, ~(uint64_t)0, RW),
	    VM_INVAL); /* the guard once had no effect */
	assert_sound(&s);
	as_free(as);
	vnode_rele(vp);
	sys_fini(&s);
}

static void a_stack_lies_within_its_space(void **state)
{
	struct as *as;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 16);
	assert_int_equal(as_alloc(s.vm, BASE, BASE + 16 * PG, &as), VM_OK);
	assert_int_equal(as_stack_init(as, BASE + 17 * PG, PG, 4 * PG, PG, RW), VM_INVAL);
	assert_int_equal(as_stack_init(as, BASE + 4 * PG, PG, 5 * PG, 0, RW), VM_INVAL);
	assert_sound(&s);
	assert_int_equal(as_stack_init(as, BASE + 16 * PG, PG, 4 * PG, PG, RW), VM_OK);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

static void a_system_needs_a_sane_configuration(void **state)
{
	struct sim_config cfg = { .frames = 64 };
	struct mach *m = sim_create(&cfg);
	struct vm_config bad[] = { { 0 }, { .vc_mach = m }, { .vc_mach = m, .vc_frames = 65 },
		{ .vc_mach = m, .vc_frames = 10, .vc_reserve = 10 } };
	struct vm *vm;

	(void)state;
	assert_int_equal(vm_create(NULL, &vm), VM_INVAL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(vm_create(&bad[i], &vm), VM_INVAL);
		assert_null(vm);
	}
	sim_destroy(m);
}

static void limits_of_a_space_hold(void **state)
{
	struct as *as, *child;
	struct sys s;

	(void)state;
	sys_init(&s, 256, 64);
	as = new_as(&s);
	as_set_limits(as, 16 * PG, 4);
	assert_int_equal(map_anon(as, BASE, 17, 0), VM_LIMIT);
	assert_int_equal(map_anon(as, BASE, 16, 0), VM_OK);
	assert_int_equal(map_anon(as, BASE + MB, 1, 0), VM_LIMIT);
	assert_int_equal(
	    as_map(as, BASE + MB, MB, seghole_create, NULL), VM_OK); /* addresses cost nothing */
	fill(&s, as, BASE, 16, 1);
	assert_int_equal(as_lock(as, BASE, 4 * PG), VM_OK);
	assert_int_equal(as_lock(as, BASE, 4 * PG), VM_OK); /* they are already */
	assert_int_equal(as_lock(as, BASE + 4 * PG, PG), VM_LIMIT);
	assert_int_equal(
	    as_lock(as, BASE + 2 * PG, 8 * PG), VM_LIMIT); /* and no other page stays locked */
	assert_int_equal(as_unlock(as, BASE, 4 * PG), VM_OK);
	assert_int_equal(as_lockall(as, true, true), VM_LIMIT);
	assert_int_equal(as_unlockall(as), VM_OK);
	assert_int_equal(as_dup(as, &child), VM_OK); /* the child has the same limits */
	assert_int_equal(map_anon(child, BASE + 4 * MB, 1, 0), VM_LIMIT);
	assert_int_equal(as_lock(child, BASE, 5 * PG), VM_LIMIT);
	assert_sound(&s);
	as_free(child);
	as_free(as);
	sys_fini(&s);
}

/*
 * Found by the differential run: the call once continued behind the gap and returned the result for
 * that range.
 */
static void populating_stops_at_a_gap(void **state)
{
	struct as *as;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 16);
	as = new_as(&s);
	assert_int_equal(map_anon(as, BASE, 4, 0), VM_OK);
	assert_int_equal(map_anon(as, BASE + 8 * PG, 4, 0), VM_OK);
	assert_int_equal(as_setprot(as, BASE + 8 * PG, 4 * PG, 0), VM_OK);
	assert_int_equal(as_advise(as, BASE, 12 * PG, ADV_POPULATE_READ), VM_NOMAP);
	assert_int_equal(rss(as), 0);
	assert_int_equal(vm_statistics(s.vm)->zero_shared, 4);
	assert_int_equal(as_advise(as, BASE + 4 * PG, 8 * PG, ADV_POPULATE_WRITE), VM_NOMAP);
	assert_int_equal(as_advise(as, BASE + 8 * PG, 4 * PG, ADV_POPULATE_READ), VM_PROT);
	assert_int_equal(as_advise(as, BASE, 5 * PG, ADV_COLD), VM_NOMAP);
	as_free(as);
	sys_fini(&s);
}

/* ---- files ---- */
static uint64_t lost_pages;
static enum vm_err lost_why;

static void on_lost(void *arg, struct vnode *vp, uint64_t npages, enum vm_err why)
{
	(void)arg;
	(void)vp;
	lost_pages = npages;
	lost_why = why;
}

static void the_last_user_of_a_file_that_cannot_be_written_is_told(void **state)
{
	struct sim_config cfg = { .frames = 128 };
	struct vm_config vc = { .vc_frames = 128, .vc_lost = on_lost };
	struct sys s = { 0 };
	struct vnode *vp;
	struct as *as;

	(void)state;
	s.m = vc.vc_mach = sim_create(&cfg);
	assert_int_equal(vm_create(&vc, &s.vm), VM_OK);
	as = new_as(&s);
	vp = new_file(&s, 4 * PG, 7);
	assert_int_equal(map_file(as, BASE, 4, vp, 0, RW, SEGVN_SHARED), VM_OK);
	fill(&s, as, BASE, 3, 70);
	sim_disk_fail(vp, VM_IO_WRITE, 1, 1, 0);
	assert_int_equal(as_sync(as, BASE, 4 * PG, 0), VM_IO); /* and the pages stay dirty */
	assert_int_equal(as_sync(as, BASE, 4 * PG, 0), VM_OK);
	assert_memory_equal((char *)sim_disk_data(vp) + 2 * PG, &(uint64_t){ 72 }, 8);
	fill(&s, as, BASE, 3, 80);
	as_free(as);
	sim_disk_fail(vp, VM_IO_WRITE, 1, 1000, 0);
	vnode_rele(vp);
	assert_int_equal(lost_pages, 3);
	assert_int_equal(lost_why, VM_IO);
	assert_int_equal(vm_statistics(s.vm)->lost_page, 3);
	sys_fini(&s);
}

static void a_failing_read_gives_what_it_could_read(void **state)
{
	struct vnode *vp;
	struct as *as;
	struct sys s;
	uint64_t v;

	(void)state;
	sys_init(&s, 128, 0);
	as = new_as(&s);
	vp = new_file(&s, 16 * PG, 7);
	assert_int_equal(map_file(as, BASE, 16, vp, 0, RW, SEGVN_SHARED), VM_OK);
	assert_int_equal(as_advise(as, BASE, 16 * PG, ADV_SEQUENTIAL), VM_OK);
	sim_disk_fail(vp, VM_IO_READ, 1, 1, 3); /* three pages came */
	expect(&s, as, BASE, 3, 7);
	expect(&s, as, BASE, 16, 7);
	assert_int_equal(pvn_putpages(s.vm, vp, 0, 0, PVN_INVAL), VM_OK);
	assert_int_equal(as_advise(as, BASE, 16 * PG, ADV_RANDOM), VM_OK);
	sim_disk_fail(vp, VM_IO_READ, 1, 1, 0);
	assert_int_equal(try_get(&s, as, BASE + 8 * PG, &v), VM_IO);
	expect(&s, as, BASE, 16, 7);
	assert_int_equal(vnode_read(vp, 15 * PG, &v, 8, NULL), VM_OK);
	assert_int_equal(v, 22);
	assert_int_equal(vnode_read(vp, 16 * PG, &v, 8, NULL), VM_EOF);
	as_free(as);
	vnode_rele(vp);
	sys_fini(&s);
}

static void write_back_frees_or_forgets_as_it_is_told(void **state)
{
	struct vm_usage before, after;
	struct vnode *vp;
	struct as *as;
	struct sys s;

	(void)state;
	sys_init(&s, 256, 0);
	as = new_as(&s);
	vp = new_file(&s, 100 * PG, 7);
	assert_int_equal(map_file(as, BASE, 100, vp, 0, RW, SEGVN_SHARED), VM_OK);
	fill(&s, as, BASE, 2, 70);
	put(&s, as, BASE + 99 * PG, 9); /* far: a long gap without pages */
	assert_int_equal(as_lock(as, BASE + PG, PG), VM_OK);
	vm_usage(s.vm, &before);
	assert_int_equal(pvn_putpages(s.vm, vp, 0, 0, PVN_FREE), VM_OK);
	vm_usage(s.vm, &after);
	assert_true(after.vu_cache >= before.vu_cache + 2); /* all but the wired one, still named */
	assert_true(page_exists(s.vm, vp, 0) && page_exists(s.vm, vp, 99 * PG));
	assert_memory_equal((char *)sim_disk_data(vp) + 99 * PG, &(uint64_t){ 9 }, 8);
	fill(&s, as, BASE, 2, 80);
	assert_int_equal(pvn_putpages(s.vm, vp, 0, 2 * PG, PVN_INVAL), VM_OK);
	assert_false(page_exists(s.vm, vp, 0));
	assert_true(page_exists(s.vm, vp, PG));
	expect(&s, as, BASE, 2, 80);
	/* a wired page past the new end is emptied, and the tail of the last page that stays */
	assert_true(sim_disk_resize(vp, 100));
	pvn_truncate(s.vm, vp, 100);
	assert_int_equal(try_put(&s, as, BASE + PG, 1), VM_EOF);
	assert_true(sim_disk_resize(vp, 2 * PG));
	assert_int_equal(get(&s, as, BASE + PG), 0);
	assert_int_equal(get(&s, as, BASE), 80);
	assert_int_equal(get(&s, as, BASE + 104), 0);
	as_free(as);
	vnode_rele(vp);
	sys_fini(&s);
}

static void a_lost_write_is_reported_by_the_next_sync_once(void **state)
{
	static uint8_t buf[3 * VM_PAGESIZE];
	uint64_t done, v;
	struct vnode *vp;
	struct as *as;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 0);
	vp = new_file(&s, 8 * PG + 100, 7);
	memset(buf, 0x5a, sizeof(buf));
	assert_int_equal(
	    vnode_write(vp, 5 * PG, buf, PG, NULL), VM_OK); /* a whole page is not read first */
	assert_int_equal(vm_statistics(s.vm)->filein, 0);
	assert_int_equal(vnode_write(vp, PG + 50, buf, 2 * PG, &done), VM_OK);
	assert_int_equal(done, 2 * PG);
	assert_int_equal(vnode_read(vp, PG, &v, 8, NULL), VM_OK);
	assert_int_equal(v, 8);
	/* the file does not grow */
	assert_int_equal(vnode_write(vp, 8 * PG, buf, PG, &done), VM_EOF);
	assert_int_equal(done, 100);
	assert_int_equal(vnode_sync(vp), VM_OK);
	assert_memory_equal((char *)sim_disk_data(vp) + PG + 50, buf, 2 * PG);
	as = new_as(&s);
	assert_int_equal(map_file(as, BASE, 8, vp, 0, RW, SEGVN_SHARED), VM_OK);
	put(&s, as, BASE, 99);
	sim_disk_fail(vp, VM_IO_WRITE, 1, 1, 0);
	(void)as_sync(as, BASE, PG, SYNC_ASYNC);
	assert_int_equal(vnode_sync(vp), VM_IO);
	assert_int_equal(vnode_sync(vp), VM_OK);
	assert_memory_equal(sim_disk_data(vp), &(uint64_t){ 99 }, 8);
	sim_disk_fail(vp, VM_IO_WRITE, 1, 1, 0);
	put(&s, as, BASE, 100);
	assert_int_equal(vnode_sync(vp), VM_IO);
	assert_int_equal(pvn_putpages(s.vm, vp, 0, 0, PVN_INVAL), VM_OK);
	sim_disk_fail(vp, VM_IO_READ, 1, 1, 0);
	assert_int_equal(vnode_read(vp, 0, &v, 8, &done), VM_IO);
	assert_int_equal(done, 0);
	as_free(as);
	vnode_rele(vp);
	sys_fini(&s);
}

static void so_many_frames_stay_pageable_whatever_is_wired(void **state)
{
	struct vm_usage u;
	struct as *as;
	unsigned n = 0;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 256);
	as = new_as(&s);
	assert_int_equal(map_anon(as, BASE, 200, 0), VM_OK);
	while (n < 200 && as_lock(as, BASE + n * PG, PG) == VM_OK)
		n++;
	assert_true(n > 60 && n < 128);
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, n);
	fill(&s, as, BASE, 200, 1); /* by the remaining frames */
	expect(&s, as, BASE, 200, 1);
	assert_int_equal(as_unlock(as, BASE, 200 * PG), VM_OK);
	as_free(as);
	sys_fini(&s);
}

/* ---- kernel memory ---- */
static void io_done(struct vm_io *io) { *(bool *)io->io_arg = true; }

/* A vnode that only names pages answers every call, and has no stored contents. */
static void names_only(struct vnode *vp, uint64_t size)
{
	bool done = false;
	struct vm_io io = {
		.io_op = VM_IO_READ, .io_npages = 1, .io_done = io_done, .io_arg = &done
	};

	vp->v_ops->vo_start(vp, &io);
	assert_true(done && io.io_err == VM_NOTSUP && io.io_ok == 0);
	vp->v_ops->vo_poll(vp, NULL);
	vp->v_ops->vo_discard(vp, 0, PG);
	assert_int_equal(vp->v_ops->vo_sync(vp, 0, 0), VM_OK);
	assert_true(vp->v_ops->vo_size(vp) == size);
	vp->v_ops->vo_inactive(vp);
}

static void the_kernels_heap_answers_what_a_program_would_ask(void **state)
{
	uint64_t present = 1;
	struct as *kas, *child;
	uint8_t vec[4] = { 0 };
	struct segkmem *k;
	struct page *pp;
	struct as_info ai;
	struct sys s;
	vaddr_t va;

	(void)state;
	sys_init(&s, 128, 16);
	kas = new_as(&s);
	assert_int_equal(segkmem_create(kas, BASE + 1, MB, &k), VM_INVAL);
	assert_int_equal(segkmem_create(kas, BASE, 0, &k), VM_INVAL);
	assert_int_equal(segkmem_create(kas, BASE, MB, &k), VM_OK);
	assert_int_equal(segkmem_alloc(k, 2 * PG, KM_SLEEP, &va), VM_OK);
	put(&s, kas, va, 5);
	names_only(&s.vm->vm_swapfs, ~(uint64_t)0);
	pp = page_of(s.vm, hat_probe(as_hat(kas), va, NULL));
	names_only(pp->p_vnode, MB);
	assert_int_equal(as_fault(kas, va, 2 * PG, F_INVAL, S_READ),
	    VM_OK); /* the fault came too late: the pages are mapped */
	assert_int_equal(as_fault(kas, va, PG, F_INVAL, S_EXEC), VM_PROT);
	assert_int_equal(as_fault(kas, va, 3 * PG, F_INVAL, S_READ), VM_NOMAP);
	assert_int_equal(as_checkprot(kas, va, PG, PROT_R | PROT_W), VM_OK);
	assert_int_equal(as_checkprot(kas, va, PG, PROT_X), VM_PROT);
	assert_int_equal(as_query(kas, va, &ai), VM_OK);
	assert_true(ai.ai_ops == &segkmem_ops && ai.ai_prot == RW);
	assert_int_equal(as_incore(kas, va, 3 * PG, vec), VM_OK);
	assert_int_equal(vec[1], INCORE_PRESENT | INCORE_MAPPED | INCORE_LOCKED);
	assert_int_equal(vec[2], 0);
	assert_int_equal(as_lock(kas, va, PG), VM_OK); /* kernel memory is always locked */
	assert_int_equal(as_sync(kas, va, PG, 0), VM_OK);
	assert_int_equal(as_advise(kas, va, PG, ADV_DONTNEED), VM_OK); /* and stays */
	assert_int_equal(as_swapout(kas), 0);
	assert_int_equal(as_adopt(kas, va, 1, &present), VM_NOTSUP);
	assert_int_equal(as_unmap(kas, BASE, PG), VM_NOTSUP); /* not in parts */
	assert_int_equal(as_dup(kas, &child), VM_OK);
	assert_int_equal(nsegs(child), 0); /* a child does not inherit the segment */
	assert_int_equal(get(&s, kas, va), 5);
	as_free(child);
	segkmem_free(k, va, 2 * PG);
	segkmem_destroy(k);
	as_free(kas);
	sys_fini(&s);
}

/* ---- swap areas ---- */
static void areas_of_a_thousand_slots_fill_and_empty(void **state)
{
	struct vnode *second;
	struct vm_usage u;
	struct as *as;
	struct sys s;

	(void)state;
	sys_init(&s, 256, 1500); /* more than one table of owners */
	second = sim_disk_create(s.m, s.vm, "second", vm_ptob(1500), V_SWAP);
	assert_int_equal(swap_add(s.vm, second, 0, 0), VM_INVAL);
	assert_int_equal(swap_add(s.vm, second, (uint64_t)1 << 40, 0), VM_INVAL);
	assert_int_equal(swap_remove(s.vm, second), VM_INVAL);
	assert_int_equal(swap_add(s.vm, second, 1500, 0), VM_OK); /* equals take turns */
	as = new_as(&s);
	assert_int_equal(map_anon(as, BASE, 2800, 0), VM_OK);
	fill(&s, as, BASE, 2800, 1);
	vm_usage(s.vm, &u);
	assert_true(u.vu_swap_used > 2000);
	assert_int_equal(
	    swap_remove(s.vm, second), VM_NOSWAP); /* the reservations would exceed the swap */
	assert_int_equal(as_unmap(as, BASE + 1300 * PG, 1500 * PG), VM_OK);
	sim_disk_fail(second, VM_IO_READ, 3, 1, 0);
	assert_int_equal(swap_remove(s.vm, second), VM_IO); /* the area stays and is fully usable */
	assert_sound(&s);
	assert_int_equal(swap_remove(s.vm, second), VM_OK);
	vnode_rele(second);
	expect(&s, as, BASE, 1300, 1);
	as_free(as);
	sys_fini(&s);
}

static void a_store_that_breaks_loses_no_page_that_is_in_memory(void **state)
{
	struct as *as;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 512);
	as = new_as(&s);
	assert_int_equal(map_anon(as, BASE, 300, 0), VM_OK);
	sim_disk_fail(s.swap, VM_IO_WRITE, 1, UINT64_MAX / 2, 0);
	for (unsigned i = 0; i < 300; i++) {
		enum vm_err e = try_put(&s, as, BASE + i * PG, 1000 + i);

		if (e == VM_OK)
			continue;
		assert_int_equal(e, VM_NOMEM);
		assert_true(i > 40);
		sim_disk_fail(s.swap, VM_IO_WRITE, 0, 0, 0); /* it is repaired */
		expect(&s, as, BASE, i, 1000);
		break;
	}
	fill(&s, as, BASE, 300, 2000);
	expect(&s, as, BASE, 300, 2000);
	as_free(as);
	sys_fini(&s);
}

/* ---- page locks ---- */
struct locking {
	struct sys s;
	struct vnode *vp;
	struct page *pp;
	unsigned step, order[3], n;
};

static void writer_main(void *arg)
{
	struct locking *l = arg;

	page_lock(l->s.vm, l->pp, SE_EXCL);
	l->order[l->n++] = 1;
	page_downgrade(l->s.vm, l->pp);
	assert_true(page_trylock(l->s.vm, l->pp, SE_SHARED)); /* other readers may enter */
	assert_false(page_tryupgrade(l->s.vm, l->pp));
	page_unlock(l->s.vm, l->pp);
	while (!page_tryupgrade(l->s.vm, l->pp)) /* the reader may have entered */
		mach_yield();
	assert_false(page_trylock(l->s.vm, l->pp, SE_SHARED));
	page_unlock(l->s.vm, l->pp);
}

static void reader_main(void *arg)
{
	struct locking *l = arg;

	while ((l->pp->p_flags & P_EWANTED) == 0)
		mach_yield();
	page_lock(l->s.vm, l->pp, SE_SHARED); /* a writer waits: the reader queues behind it */
	l->order[l->n++] = 2;
	page_unlock(l->s.vm, l->pp);
}

static void holder_main(void *arg)
{
	struct locking *l = arg;

	while ((l->pp->p_flags & P_EWANTED) == 0)
		mach_yield();
	for (unsigned i = 0; i < 200; i++)
		mach_yield();
	assert_false(page_trylock(l->s.vm, l->pp, SE_SHARED));
	assert_int_equal(l->n, 0);
	page_unlock(l->s.vm, l->pp);
}

static void io_main(void *arg)
{
	struct locking *l = arg;

	page_io_lock(l->s.vm, l->pp);
	l->order[l->n++] = 3;
	assert_false(page_io_trylock(l->s.vm, l->pp));
	page_io_unlock(l->s.vm, l->pp);
}

static void unlock_io_main(void *arg)
{
	struct locking *l = arg;

	for (unsigned i = 0; i < 200; i++)
		mach_yield();
	assert_int_equal(l->n, 2);
	page_io_unlock(l->s.vm, l->pp);
}

static void a_waiting_writer_comes_before_later_readers(void **state)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct sim_config cfg = { .frames = 64, .seed = seed, .threads = true };
		struct locking l = { 0 };

		(void)state;
		sys_init_cfg(&l.s, &cfg, 0);
		l.vp = new_file(&l.s, PG, 1);
		assert_int_equal(pvn_getpage(l.s.vm, l.vp, 0, SE_SHARED, 1, &l.pp), VM_OK);
		sim_spawn(l.s.m, writer_main, &l, "writer");
		sim_spawn(l.s.m, reader_main, &l, "reader");
		sim_spawn(l.s.m, holder_main, &l, "holder");
		sim_run(l.s.m);
		assert_true(l.n == 2 && l.order[0] == 1 && l.order[1] == 2);
		assert_true(page_io_trylock(l.s.vm, l.pp));
		sim_spawn(l.s.m, io_main, &l, "io");
		sim_spawn(l.s.m, unlock_io_main, &l, "unlock io");
		sim_run(l.s.m);
		assert_int_equal(l.n, 3);
		vnode_rele(l.vp);
		sys_fini(&l.s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hole_refuses_everything),
		cmocka_unit_test(ranges_that_wrap_or_leave_the_space_are_refused),
		cmocka_unit_test(offsets_of_a_file_do_not_wrap),
		cmocka_unit_test(a_stack_lies_within_its_space),
		cmocka_unit_test(a_system_needs_a_sane_configuration),
		cmocka_unit_test(limits_of_a_space_hold),
		cmocka_unit_test(populating_stops_at_a_gap),
		cmocka_unit_test(the_last_user_of_a_file_that_cannot_be_written_is_told),
		cmocka_unit_test(a_failing_read_gives_what_it_could_read),
		cmocka_unit_test(write_back_frees_or_forgets_as_it_is_told),
		cmocka_unit_test(a_lost_write_is_reported_by_the_next_sync_once),
		cmocka_unit_test(so_many_frames_stay_pageable_whatever_is_wired),
		cmocka_unit_test(the_kernels_heap_answers_what_a_program_would_ask),
		cmocka_unit_test(areas_of_a_thousand_slots_fill_and_empty),
		cmocka_unit_test(a_store_that_breaks_loses_no_page_that_is_in_memory),
		cmocka_unit_test(a_waiting_writer_comes_before_later_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
