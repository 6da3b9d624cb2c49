/* SPDX-License-Identifier: BSD-2-Clause */
/* Limits, pressure, the out-of-memory policy, write-back, swap areas, throttling; kernel memory under extreme pressure. */
#include "tests/vm/segs.h"

#include <quire/kmem.h>
#include <quire/limits.h>

static const struct vm_limits none = { LIMIT_NONE, LIMIT_NONE, LIMIT_NONE };

/* ---- limits ---- */
static void reservation_of_a_space_and_a_group(void **state)
{
	struct sys s;
	sys_init(&s, 256, 1000);
	struct as *a = new_as(&s), *b = new_as(&s), *child;
	struct vm_limits l = none;
	struct vm_group *g;
	struct vm_group_usage u;
	vaddr_t to = BASE + 16 * MB;

	l.l_resv = 100;
	as_limit(a, &l);
	assert_int_equal(map_anon(a, BASE, 101, 0), VM_LIMIT);
	assert_int_equal(map_anon(a, BASE, 90, 0), VM_OK);
	assert_int_equal(map_anon(a, BASE + MB, 11, 0), VM_LIMIT);
	assert_int_equal(
	    map_anon(a, BASE + MB, 500, SEGVN_SHARED), VM_OK); /* nobody's in particular */
	l.l_resv = 150;
	assert_int_equal(vm_group_create(s.vm, &l, &g), VM_OK);
	assert_int_equal(as_set_group(a, g), VM_OK);
	assert_int_equal(as_set_group(b, g), VM_OK);
	assert_int_equal(map_anon(b, BASE, 61, 0), VM_LIMIT);
	assert_int_equal(map_anon(b, BASE, 40, 0), VM_OK);
	assert_int_equal(as_dup(a, &child), VM_LIMIT); /* the child is of the group, too */
	vm_group_usage(g, &u);
	assert_int_equal(u.gu_resv, 130);
	assert_int_equal(u.gu_spaces, 2);
	assert_int_equal(as_unmap(a, BASE, 50 * PG), VM_OK);
	assert_int_equal(as_dup(a, &child), VM_OK);
	vm_group_usage(g, &u);
	assert_int_equal(u.gu_resv, 120);
	assert_int_equal(u.gu_spaces, 3);
	/* a space that leaves the group is no longer charged to it */
	assert_int_equal(as_set_group(b, NULL), VM_OK);
	assert_int_equal(
	    as_transfer(child, BASE + 50 * PG, 40 * PG, b, &to, TRANSFER_MOVE, 0), VM_OK);
	vm_group_usage(g, &u);
	assert_int_equal(u.gu_resv, 40);
	l.l_resv = 60;
	vm_group_limit(g, &l);
	assert_int_equal(as_set_group(b, g), VM_LIMIT);
	assert_sound(&s);
	as_free(child);
	as_free(a);
	as_free(b);
	vm_group_usage(g, &u);
	assert_int_equal(u.gu_spaces + u.gu_resv + u.gu_locked, 0);
	vm_group_destroy(g);
	sys_fini(&s);
}

static void locked_pages_of_a_space_and_a_group(void **state)
{
	struct sys s;
	sys_init(&s, 256, 1000);
	struct as *a = new_as(&s), *b = new_as(&s);
	struct vm_limits l = none;
	struct vm_group *g;
	struct vm_group_usage u;

	l.l_locked = 20;
	assert_int_equal(vm_group_create(s.vm, &l, &g), VM_OK);
	assert_int_equal(as_set_group(a, g), VM_OK);
	assert_int_equal(as_set_group(b, g), VM_OK);
	assert_int_equal(map_anon(a, BASE, 40, 0), VM_OK);
	assert_int_equal(map_anon(b, BASE, 40, 0), VM_OK);
	assert_int_equal(as_lock(a, BASE, 15 * PG), VM_OK);
	assert_int_equal(as_lock(b, BASE, 6 * PG), VM_LIMIT);
	assert_int_equal(as_lock(b, BASE, 5 * PG), VM_OK);
	l.l_locked = 7;
	as_limit(a, &l);
	assert_int_equal(as_lock(a, BASE + 20 * PG, PG), VM_LIMIT);
	assert_int_equal(as_unlockall(a), VM_OK);
	assert_int_equal(as_lock(a, BASE + 20 * PG, 8 * PG), VM_LIMIT);
	assert_int_equal(as_lock(a, BASE + 20 * PG, 7 * PG), VM_OK);
	vm_group_usage(g, &u);
	assert_int_equal(u.gu_locked, 12);
	as_free(a);
	as_free(b);
	vm_group_usage(g, &u);
	assert_int_equal(u.gu_locked, 0);
	vm_group_destroy(g);
	sys_fini(&s);
}

static void resident_pages_are_trimmed(void **state)
{
	struct sys s;
	sys_init(&s, 1024, 2000);
	struct as *a = new_as(&s), *b = new_as(&s), *free_one = new_as(&s);
	struct vnode *vp = new_file(&s, 50 * PG, 900);
	struct vm_limits l = none;
	struct vm_group *g;
	struct vm_group_usage u;

	assert_int_equal(map_anon(a, BASE, 200, 0), VM_OK);
	assert_int_equal(map_file(a, BASE + MB, 50, vp, 0, PROT_R, SEGVN_SHARED), VM_OK);
	assert_int_equal(map_anon(b, BASE, 100, 0), VM_OK);
	assert_int_equal(map_anon(free_one, BASE, 100, 0), VM_OK);
	fill(&s, a, BASE, 200, 1);
	expect(&s, a, BASE + MB, 50, 900);
	fill(&s, b, BASE, 100, 5);
	fill(&s, free_one, BASE, 100, 5);
	assert_int_equal(as_lock(a, BASE, 10 * PG), VM_OK);
	l.l_rss = 60;
	as_limit(a, &l);
	assert_true(vm_limits_enforce(s.vm) >= 190);
	assert_true(rss(a) <= 60);
	assert_int_equal(rss(b), 100);
	for (unsigned i = 0; i < 10; i++)
		assert_int_not_equal(hat_probe(as_hat(a), BASE + i * PG, NULL), PFN_INVALID);
	expect(&s, a, BASE, 200, 1);
	expect(&s, a, BASE + MB, 50, 900);
	as_limit(a, &none);
	assert_int_equal(as_unlockall(a), VM_OK);
	l.l_rss = 120;
	assert_int_equal(vm_group_create(s.vm, &l, &g), VM_OK);
	assert_int_equal(as_set_group(a, g), VM_OK);
	assert_int_equal(as_set_group(b, g), VM_OK);
	for (unsigned i = 0; vm_limits_enforce(s.vm) > 0; i++)
		assert_true(i < 20);
	vm_group_usage(g, &u);
	assert_in_range(u.gu_rss, 60, 120);
	assert_true(rss(a) > 0 && rss(b) > 0); /* each in proportion */
	assert_int_equal(rss(free_one), 100);
	expect(&s, b, BASE, 100, 5);
	assert_sound(&s);
	as_free(a);
	as_free(b);
	as_free(free_one);
	vm_group_destroy(g);
	vnode_rele(vp);
	sys_fini(&s);
}

/* ---- pressure ---- */
struct hoard {
	struct vm *vm;
	void *block[64];
	unsigned n, calls;
	enum vm_pressure worst;
};

static uint64_t give_back(void *arg, enum vm_pressure level, pfn_t want)
{
	struct hoard *h = arg;
	uint64_t freed = 0;

	h->calls++;
	if (level > h->worst)
		h->worst = level;
	while (h->n > 0 && freed < want) {
		kmem_free(h->vm, h->block[--h->n], 2 * PG);
		freed += 2;
	}
	return freed;
}

static void reapers_give_memory_back(void **state)
{
	struct sys s;
	sys_init(&s, 256, 0); /* no swap: anonymous memory cannot be paged out */
	s.vm->vm_config.vc_overcommit = true;
	struct as *as = new_as(&s);
	struct hoard h = { .vm = s.vm };
	struct vm_reaper r = { .vr_reap = give_back, .vr_arg = &h };
	struct vm_usage u;

	for (; h.n < 40; h.n++)
		assert_non_null(h.block[h.n] = kmem_alloc(s.vm, 2 * PG, KM_SLEEP));
	vm_reaper_add(s.vm, &r);
	assert_int_equal(vm_pressure(s.vm), PRESSURE_NONE);
	vm_usage(s.vm, &u);
	assert_int_equal(map_anon(as, BASE, u.vu_free + 30, SEGVN_NORESERVE), VM_OK);
	/* more than the free frames: the hoard is released */
	fill(&s, as, BASE, u.vu_free + 20, 1);
	assert_true(h.calls > 0 && h.n < 40);
	assert_int_not_equal(h.worst, PRESSURE_NONE);
	assert_int_equal(vm_statistics(s.vm)->reaper_freed, 2 * (40 - h.n));
	vm_reaper_remove(s.vm, &r);
	while (h.n > 0)
		kmem_free(s.vm, h.block[--h.n], 2 * PG);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

struct oom {
	struct as *ballast;
	struct hoard hoard;
	unsigned calls;
	bool give;
};

static enum vm_oom on_oom(void *arg, struct vm *vm, pfn_t want)
{
	struct oom *o = arg;

	o->calls++;
	return o->give && give_back(&o->hoard, PRESSURE_CRITICAL, want) > 0 ? OOM_RETRY : OOM_FAIL;
}

static void out_of_memory_is_a_policy(void **state)
{
	struct sys s;
	sys_init(&s, 256, 0);
	s.vm->vm_config.vc_overcommit = true; /* otherwise only existing memory is promised */
	struct as *as = new_as(&s), *small = new_as(&s), *victim;
	struct oom o = { .hoard = { .vm = s.vm } };
	uint64_t i;

	for (; o.hoard.n < 20; o.hoard.n++)
		assert_non_null(o.hoard.block[o.hoard.n] = kmem_alloc(s.vm, 2 * PG, KM_SLEEP));
	assert_int_equal(map_anon(as, BASE, 400, SEGVN_NORESERVE), VM_OK);
	assert_int_equal(map_anon(small, BASE, 4, 0), VM_OK);
	/* without a policy only the access fails */
	for (i = 0; i < 400 && try_put(&s, as, BASE + i * PG, i) == VM_OK; i++)
		;
	assert_true(i < 400);
	assert_int_equal(try_put(&s, as, BASE + i * PG, i), VM_NOMEM);
	vm_oom_policy(s.vm, on_oom, &o);
	assert_int_equal(try_put(&s, as, BASE + i * PG, i), VM_NOMEM); /* the policy refuses */
	assert_true(o.calls > 0);
	o.give = true;
	put(&s, as, BASE + i * PG, i);
	assert_true(o.hoard.n < 20);
	for (uint64_t k = 0; k <= i; k++)
		assert_int_equal(get(&s, as, BASE + k * PG), k);
	victim = vm_oom_victim(s.vm);
	assert_ptr_equal(victim, as);
	as_free(victim);
	vm_oom_policy(s.vm, NULL, NULL);
	while (o.hoard.n > 0)
		kmem_free(s.vm, o.hoard.block[--o.hoard.n], 2 * PG);
	assert_sound(&s);
	as_free(as);
	as_free(small);
	sys_fini(&s);
}

/* ---- kernel memory is never stolen ---- */
static void kernel_memory_survives_extreme_pressure(void **state)
{
	struct sys s;
	sys_init(&s, 256, 4000);
	struct as *as = new_as(&s);
	uint64_t *block[80];
	struct vm_usage u;
	uint32_t kernel;

	for (unsigned i = 0; i < 80; i++) {
		assert_non_null(block[i] = kmem_alloc(s.vm, PG, KM_SLEEP));
		for (unsigned k = 0; k < 512; k++)
			block[i][k] = i * 1000 + k;
	}
	assert_int_equal(map_anon(as, BASE, 3000, 0), VM_OK);
	for (unsigned round = 0; round < 3; round++) {
		fill(&s, as, BASE, 3000, round);
		while (pageout_reclaim(s.vm, 250) > 8)
			;
		kernel = s.vm->vm_nkernel;
		(void)kmem_reap(s.vm);
		for (unsigned i = 0; i < 80; i++)
			for (unsigned k = 0; k < 512; k++)
				assert_int_equal(block[i][k], i * 1000 + k);
		for (pfn_t pfn = 0; pfn < 256; pfn++)
			if ((s.vm->vm_pages[pfn].p_flags & P_KERNEL) != 0)
				assert_false(
				    (s.vm->vm_pages[pfn].p_flags & (P_QUEUED | P_FREE)) != 0);
		assert_true(kernel > 80);
		expect(&s, as, BASE, 3000, round);
		assert_sound(&s);
	}
	vm_usage(s.vm, &u);
	assert_true(u.vu_kernel > 80);
	for (unsigned i = 0; i < 80; i++)
		kmem_free(s.vm, block[i], PG);
	as_free(as);
	sys_fini(&s);
}

/* ---- throttling, zero free frames ---- */
struct writer_arg {
	struct sys *s;
	struct as *as;
	uint64_t pages, seed;
	unsigned cpu;
};

static void dirty_a_lot(void *arg)
{
	struct writer_arg *w = arg;

	for (unsigned round = 0; round < 3; round++)
		for (uint64_t i = 0; i < w->pages; i++) {
			uint64_t v = w->seed + i + round;
			enum vm_err e;

			while ((e = sim_write(w->s->m, w->as, w->cpu, BASE + i * PG, &v, 8,
				    NULL)) == VM_NOMEM)
				mach_yield();
			assert_int_equal(e, VM_OK);
		}
}

struct groups {
	struct sys *s;
	struct as *as[2];
	bool done;
};

static void enforce_a_lot(void *arg)
{
	struct groups *g = arg;

	while (!g->done) {
		(void)vm_limits_enforce(g->s->vm);
		mach_yield();
	}
}

static void come_and_go(void *arg)
{
	const struct vm_limits few = { 4, LIMIT_NONE, LIMIT_NONE };
	struct groups *g = arg;

	for (unsigned round = 0; round < 60; round++) {
		struct vm_group *group;

		assert_int_equal(vm_group_create(g->s->vm, &few, &group), VM_OK);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(as_set_group(g->as[i], group), VM_OK);
		fill(g->s, g->as[round % 2], BASE, 20, round);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(as_set_group(g->as[i], NULL), VM_OK);
		vm_group_destroy(group);
	}
	g->done = true;
}

/*
 * The enforcement of limits uses a group while its spaces leave it and it is destroyed: it once
 * read freed memory.
 */
static void groups_come_and_go_while_limits_are_enforced(void **state)
{
	for (unsigned seed = 1; seed <= 8; seed++) {
		struct sim_config cfg = { .frames = 128, .ncpus = 2, .seed = seed };
		struct sys s;

		sys_init_cfg(&s, &cfg, 500);
		struct groups g = { &s, { new_as(&s), new_as(&s) }, false };
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(map_anon(g.as[i], BASE, 20, 0), VM_OK);
			fill(&s, g.as[i], BASE, 20, 1);
		}
		sim_spawn(s.m, enforce_a_lot, &g, "limits");
		sim_spawn(s.m, come_and_go, &g, "groups");
		sim_run(s.m);
		assert_true(vm_statistics(s.vm)->trimmed > 0);
		assert_sound(&s);
		for (unsigned i = 0; i < 2; i++)
			as_free(g.as[i]);
		sys_fini(&s);
	}
}

/*
 * Four programs dirty ten times the memory, with a slow disk: each is throttled in turn, and all
 * end.
 */
static void writers_are_throttled_and_all_progress(void **state)
{
	struct sim_config cfg = { .frames = 96, .ncpus = 2, .seed = 9, .disk_latency = 100000 };
	struct writer_arg w[4];
	struct sys s;

	sys_init_cfg(&s, &cfg, 2000);
	for (unsigned i = 0; i < 4; i++) {
		w[i] = (struct writer_arg){ &s, new_as(&s), 240, i * 100000, i % 2 };
		assert_int_equal(map_anon(w[i].as, BASE, 240, 0), VM_OK);
		sim_spawn(s.m, dirty_a_lot, &w[i], "writer");
	}
	sim_run(s.m);
	assert_true(vm_statistics(s.vm)->pageout_wait > 100);
	assert_sound(&s);
	for (unsigned i = 0; i < 4; i++) {
		expect(&s, w[i].as, BASE, 240, w[i].seed + 2);
		as_free(w[i].as);
	}
	sys_fini(&s);
}

static void progress_with_zero_free_frames(void **state)
{
	struct sys s;
	sys_init(&s, 128, 1000);
	struct as *as = new_as(&s);
	struct page *taken[128];
	unsigned n = 0;

	assert_int_equal(map_anon(as, BASE, 300, 0), VM_OK);
	fill(&s, as, BASE, 60, 1);
	/* all free frames are used, also page-out's reserve */
	while (n < 128 && (taken[n] = page_kalloc(s.vm, 0, PG_RESERVE)) != NULL)
		n++;
	assert_int_equal(s.vm->vm_nfree, 0);
	fill(&s, as, BASE + 60 * PG, 240, 61);
	expect(&s, as, BASE, 300, 1);
	while (n > 0)
		page_kfree(s.vm, taken[--n], 0);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

/* ---- write-back ---- */
static void writeback_goes_round(void **state)
{
	struct sys s;
	sys_init(&s, 512, 500);
	struct as *as = new_as(&s);
	struct vnode *vp = new_file(&s, 100 * PG, 1);
	uint64_t *disk = sim_disk_data(vp), v = 77, written = 0;

	assert_int_equal(map_file(as, BASE, 100, vp, 0, RW, SEGVN_SHARED), VM_OK);
	assert_int_equal(map_anon(as, BASE + MB, 50, 0), VM_OK);
	fill(&s, as, BASE, 100, 1000);
	fill(&s, as, BASE + MB, 50, 1);
	assert_int_equal(vnode_write(vp, 5 * PG, &v, 8, NULL), VM_OK);
	for (unsigned i = 0; i < 8; i++)
		written += vm_writeback(s.vm, 8);
	assert_int_equal(written, 100);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(disk[i * 512], i == 5 ? 77 : 1000 + i);
	assert_int_equal(vm_statistics(s.vm)->swapout, 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(vm_writeback(s.vm, 8), 0);
	/* the write is noticed although the page is mapped all the time */
	put(&s, as, BASE + 9 * PG, 5);
	for (unsigned i = 0; i < 8; i++)
		(void)vm_writeback(s.vm, 8);
	assert_int_equal(disk[9 * 512], 5);
	expect(&s, as, BASE + 10 * PG, 90, 1010);
	assert_sound(&s);
	as_free(as);
	vnode_rele(vp);
	sys_fini(&s);
}

/*
 * A page is read, which maps it writable where the hardware tells modified pages, then written:
 * only the modified bit of its translation tells. Write-back, as_sync and page-out notice it; also
 * on a machine that traps the first write instead.
 */
static void what_only_the_translation_tells_is_written(void **state)
{
	for (unsigned how = 0; how < 6; how++) {
		struct sim_config cfg = {
			.frames = 256, .ncpus = 2, .seed = 3, .ad_by_trap = how % 2 == 1
		};
		struct sys s;
		sys_init_cfg(&s, &cfg, 100);
		struct as *as = new_as(&s);
		struct vnode *vp = new_file(&s, 8 * PG, 1);
		uint64_t *disk = sim_disk_data(vp);

		assert_int_equal(map_file(as, BASE, 8, vp, 0, RW, SEGVN_SHARED), VM_OK);
		/* a single page: no neighbour's write includes it */
		for (unsigned i = 0; i < 8; i++) {
			assert_int_equal(get(&s, as, BASE + i * PG), 1 + i);
			put(&s, as, BASE + i * PG, 100 + i);
			if (how / 2 == 0)
				for (unsigned tick = 0; tick < 8; tick++)
					(void)vm_writeback(s.vm, 8);
			else if (how / 2 == 1)
				assert_int_equal(as_sync(as, BASE + i * PG, PG, 0), VM_OK);
			else
				(void)pageout_reclaim(s.vm, 200);
			assert_int_equal(disk[i * 512], 100 + i);
			assert_int_equal(get(&s, as, BASE + i * PG), 100 + i);
		}
		as_free(as);
		vnode_rele(vp);
		sys_fini(&s);
	}
}

struct daemon_arg {
	struct sys *s;
	struct vnode *vp;
	struct as *as;
};

static void wait_for_daemon(void *arg)
{
	struct daemon_arg *d = arg;

	put(d->s, d->as, BASE + 3 * PG, 4242);
	while (((uint64_t *)sim_disk_data(d->vp))[3 * 512] != 4242)
		mach_yield();
	vm_writeback_stop(d->s->vm);
}

static void dirty_pages_are_written_back_in_time(void **state)
{
	struct sim_config cfg = { .frames = 256, .ncpus = 2, .seed = 4, .threads = true };
	struct daemon_arg d;
	struct sys s;

	sys_init_cfg(&s, &cfg, 0);
	d = (struct daemon_arg){ &s, new_file(&s, 10 * PG, 1), new_as(&s) };
	assert_int_equal(map_file(d.as, BASE, 10, d.vp, 0, RW, SEGVN_SHARED), VM_OK);
	assert_int_equal(vm_writeback_start(s.vm, 1000000, 4), VM_OK);
	assert_int_equal(vm_writeback_start(s.vm, 1000000, 4), VM_INVAL);
	sim_spawn(s.m, wait_for_daemon, &d, "program");
	sim_run(s.m);
	as_free(d.as);
	vnode_rele(d.vp);
	sys_fini(&s);
}

/* ---- swap areas ---- */
static uint64_t used(struct vnode *vp, struct vm *vm)
{
	uint64_t n = 0;

	for (const struct swap_area *sw = vm->vm_swapareas; sw != NULL; sw = sw->sw_next)
		if (sw->sw_vnode == vp)
			n = sw->sw_used;
	return n;
}

static void areas_are_filled_by_priority_and_take_turns(void **state)
{
	struct sys s;
	sys_init(&s, 128, 2000); /* priority 0 */
	struct as *as = new_as(&s);
	struct vnode *fast[2];

	for (unsigned i = 0; i < 2; i++) {
		fast[i] = sim_disk_create(s.m, s.vm, "fast", vm_ptob(200), V_SWAP);
		assert_int_equal(swap_add(s.vm, fast[i], 200, 10), VM_OK);
	}
	assert_int_equal(map_anon(as, BASE, 1000, 0), VM_OK);
	fill(&s, as, BASE, 320, 1);
	(void)as_swapout(as);
	/* the two of high priority take turns, the slow one is not touched */
	assert_int_equal(used(s.swap, s.vm), 0);
	assert_in_range(used(fast[0], s.vm), 96, 200);
	assert_in_range(used(fast[1], s.vm), 96, 200);
	fill(&s, as, BASE + 320 * PG, 680, 321);
	(void)as_swapout(as);
	assert_int_equal(used(fast[0], s.vm) + used(fast[1], s.vm), 400);
	assert_int_equal(used(s.swap, s.vm), 600);
	/* the area is removed while in use: its pages are read back into memory */
	assert_int_equal(swap_remove(s.vm, fast[0]), VM_OK);
	expect(&s, as, BASE, 1000, 1);
	/* the reservations would exceed the swap */
	assert_int_equal(swap_remove(s.vm, s.swap), VM_NOSWAP);
	assert_sound(&s);
	as_free(as);
	assert_int_equal(swap_remove(s.vm, fast[1]), VM_OK);
	vnode_rele(fast[0]);
	vnode_rele(fast[1]);
	sys_fini(&s);
}

struct churn {
	struct sys *s;
	struct as *as;
	unsigned running;
};

static void churn_memory(void *arg)
{
	struct churn *c = arg;

	for (unsigned round = 0; round < 4; round++)
		for (uint64_t i = 0; i < 300; i++) {
			uint64_t want = i + (round > 0 ? round - 1 : 0), v = i + round, got = 0;
			enum vm_err e;

			if (round > 0) {
				while ((e = sim_read(c->s->m, c->as, 0, BASE + i * PG, &got, 8,
					    NULL)) == VM_NOMEM)
					mach_yield();
				assert_int_equal(e, VM_OK);
				assert_int_equal(got, want);
			}
			while ((e = sim_write(c->s->m, c->as, 0, BASE + i * PG, &v, 8, NULL)) ==
			    VM_NOMEM)
				mach_yield();
			assert_int_equal(e, VM_OK);
		}
	c->running--;
}

static void churn_areas(void *arg)
{
	struct churn *c = arg;
	struct vnode *vp = sim_disk_create(c->s->m, c->s->vm, "guest", vm_ptob(300), V_SWAP);
	unsigned removed = 0;

	while (c->running > 0) {
		assert_int_equal(swap_add(c->s->vm, vp, 300, 5), VM_OK);
		for (unsigned i = 0; i < 200 && c->running > 0; i++)
			mach_yield();
		enum vm_err e;
		while ((e = swap_remove(c->s->vm, vp)) == VM_NOMEM)
			mach_yield();
		assert_int_equal(e, VM_OK);
		removed++;
	}
	assert_true(removed > 2);
	vnode_rele(vp);
}

static void areas_come_and_go_under_load(void **state)
{
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct sim_config cfg = {
			.frames = 96, .ncpus = 2, .seed = seed, .disk_latency = 20000
		};
		struct churn c = { .running = 1 };
		struct sys s;

		sys_init_cfg(&s, &cfg, 600);
		c.s = &s;
		c.as = new_as(&s);
		assert_int_equal(map_anon(c.as, BASE, 300, 0), VM_OK);
		sim_spawn(s.m, churn_memory, &c, "program");
		sim_spawn(s.m, churn_areas, &c, "administrator");
		sim_run(s.m);
		expect(&s, c.as, BASE, 300, 3);
		as_free(c.as);
		sys_fini(&s);
	}
}

/*
 * Pages mapped by many spaces stay while there are other pages to evict, and are evicted when there
 * are none.
 */
static void highly_shared_pages_are_spared(void **state)
{
	enum { SPACES = 20, TEXT = 16, OWN = 60 };
	struct as *as[SPACES];
	struct vnode *text;
	struct sys s;

	(void)state;
	sys_init(&s, 512, 256);
	text = new_file(&s, TEXT * PG, 100);
	for (unsigned i = 0; i < SPACES; i++) {
		as[i] = new_as(&s);
		assert_int_equal(map_file(as[i], BASE, TEXT, text, 0, PROT_R | PROT_X, 0), VM_OK);
		expect(&s, as[i], BASE, TEXT, 100);
	}
	assert_int_equal(map_anon(as[0], BASE + MB, OWN, 0), VM_OK);
	fill(&s, as[0], BASE + MB, OWN, 1);
	/* no page is used any more: a clock would evict the text first, as it was loaded first */
	for (unsigned i = 0; i < SPACES; i++)
		hat_sync(as_hat(as[i]), BASE, 2 * MB, true);
	for (pfn_t pfn = 0; pfn < 512; pfn++)
		page_nrm_clear(page_of(s.vm, pfn), P_REF);
	assert_true(pageout_reclaim(s.vm, OWN / 2) >= OWN / 2);
	assert_true(vm_statistics(s.vm)->share_skip > 0);
	for (unsigned i = 0; i < SPACES; i++)
		assert_int_equal(rss(as[i]) - (i == 0 ? rss(as[0]) - TEXT : 0), TEXT);
	assert_in_range(rss(as[0]), TEXT, TEXT + OWN / 2);
	/* there are no other pages left */
	while (rss(as[0]) > TEXT)
		assert_true(pageout_reclaim(s.vm, 1) > 0);
	assert_true(pageout_reclaim(s.vm, 4) >= 4);
	assert_true(rss(as[1]) < TEXT);
	for (unsigned i = 0; i < SPACES; i++)
		expect(&s, as[i], BASE, TEXT, 100);
	assert_sound(&s);
	for (unsigned i = 0; i < SPACES; i++)
		as_free(as[i]);
	vnode_rele(text);
	sys_fini(&s);
}

/*
 * Found by the model test at 80 frames, where a space never got a page again: pages were wired, and
 * the tables of other spaces had taken the rest. Translations are a cache: their tables are freed
 * when no other memory is left.
 */
static uint64_t tables_stolen(enum sim_format format, pfn_t frames)
{
	enum { SPACES = 60 };
	struct sim_config cfg = { .frames = frames, .ncpus = 2, .format = format };
	struct as *as[SPACES];
	uint64_t stolen;
	struct sys s;
	unsigned n;

	sys_init_cfg(&s, &cfg, 1024);
	for (n = 0; n < SPACES; n++) {
		if (as_alloc(s.vm, 0x10000, s.vm->vm_caps->mc_user_max, &as[n]) != VM_OK)
			break; /* its root and its description are not a cache */
		if (map_anon(as[n], BASE, 1, 0) != VM_OK ||
		    map_anon(as[n], BASE * 128, 1, 0) != VM_OK ||
		    try_put(&s, as[n], BASE, n) != VM_OK ||
		    try_put(&s, as[n], BASE * 128, n + 1000) != VM_OK ||
		    as_lock(as[n], BASE, PG) != VM_OK || as_lock(as[n], BASE * 128, PG) != VM_OK) {
			as_free(as[n]);
			break;
		}
	}
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(get(&s, as[i], BASE), i);
		assert_int_equal(get(&s, as[i], BASE * 128), i + 1000);
	}
	assert_true(n > 10);
	stolen = vm_statistics(s.vm)->table_steal;
	assert_sound(&s);
	while (n > 0)
		as_free(as[--n]);
	sys_fini(&s);
	return stolen;
}

/*
 * The size at which tables are short depends on the other structures of a space, so several sizes
 * are tried.
 */
static void page_tables_are_stolen_at_last(void **state)
{
	static const enum sim_format formats[] = { SIM_X86_64, SIM_LA57, SIM_SV39, SIM_SFMMU };

	for (unsigned f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
		uint64_t stolen = 0;

		for (pfn_t frames = 160; frames < 192; frames += 4)
			stolen += tables_stolen(formats[f], frames);
		assert_true(f >= 2 || stolen > 0); /* few and small tables in the other spaces */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(highly_shared_pages_are_spared),
		cmocka_unit_test(page_tables_are_stolen_at_last),
		cmocka_unit_test(reservation_of_a_space_and_a_group),
		cmocka_unit_test(locked_pages_of_a_space_and_a_group),
		cmocka_unit_test(resident_pages_are_trimmed),
		cmocka_unit_test(reapers_give_memory_back),
		cmocka_unit_test(out_of_memory_is_a_policy),
		cmocka_unit_test(kernel_memory_survives_extreme_pressure),
		cmocka_unit_test(groups_come_and_go_while_limits_are_enforced),
		cmocka_unit_test(writers_are_throttled_and_all_progress),
		cmocka_unit_test(progress_with_zero_free_frames),
		cmocka_unit_test(writeback_goes_round),
		cmocka_unit_test(what_only_the_translation_tells_is_written),
		cmocka_unit_test(dirty_pages_are_written_back_in_time),
		cmocka_unit_test(areas_are_filled_by_priority_and_take_turns),
		cmocka_unit_test(areas_come_and_go_under_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
