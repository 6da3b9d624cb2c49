/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages that change frames: relocation, runs with constraints, retired frames, memory removed and
 * added, large translations for pages mapped small, cache colours, the zero pool; each alone, with
 * failures, and all together beside programs that check every word. On the simulated machine.
 *
 *   page_move_test [FORMAT [SEEDS]]	all formats and 4 interleavings each by default
 */
#include "hat/mmu.h"
#include "machine/sim/sim.h"

#include <quire/as.h>
#include <quire/hat.h>
#include <quire/page.h>
#include <quire/seg.h>
#include <quire/vm.h>
#include <quire/vnode.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(e) check((e), #e, __LINE__)
#define VA ((vaddr_t)0x10000000) /* aligned for every large page but the largest */

static unsigned failures;
static const char *what_machine;

static void check(bool ok, const char *what, int line)
{
	if (!ok && failures++ < 20)
		fprintf(stderr, "%s: page_move_test.c:%d: %s\n", what_machine, line, what);
}

struct env {
	struct mach *mach;
	struct vm *vm;
	struct as *as;
	struct hat *hat;
	struct vnode *swap;
	unsigned n; /* pages mapped at VA */
};

static void setup(struct env *e, const struct sim_config *cfg, struct vm_config *vc, unsigned n)
{
	struct segvn_args a = { .sa_prot = PROT_R | PROT_W,
		.sa_maxprot = PROT_R | PROT_W,
		.sa_flags = SEGVN_NORESERVE };

	memset(e, 0, sizeof(*e));
	vc->vc_mach = e->mach = sim_create(cfg);
	vc->vc_frames = cfg->frames;
	if (e->mach == NULL || vm_create(vc, &e->vm) != VM_OK)
		exit(1);
	e->swap = sim_disk_create(e->mach, e->vm, "swap", vm_ptob(8192), V_SWAP);
	CHECK(swap_add(e->vm, e->swap, 8192, 0) == VM_OK);
	CHECK(as_alloc(e->vm, 0x10000, mach_caps(e->mach)->mc_user_max, &e->as) == VM_OK);
	CHECK(as_map(e->as, VA, vm_ptob(n), segvn_create, &a) == VM_OK);
	e->hat = as_hat(e->as);
	e->n = n;
}

static void tell(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "%s: %s\n", what_machine, text);
}

static bool sound(struct env *e)
{
	return vm_check(e->vm, tell, NULL) == 0 && sim_tlb_check(e->mach, tell, NULL) == 0;
}

static void teardown(struct env *e)
{
	CHECK(sound(e));
	as_free(e->as);
	CHECK(vm_check(e->vm, tell, NULL) == 0);
	vnode_rele(e->swap);
	vm_destroy(e->vm);
	sim_destroy(e->mach);
}

static vaddr_t va(unsigned i) { return VA + vm_ptob(i); }

static void put(struct env *e, struct as *as, unsigned i, uint64_t v)
{
	CHECK(sim_write(e->mach, as, i % 2, va(i) + i % 500 * 8, &v, sizeof(v), NULL) == VM_OK);
}

static uint64_t get(struct env *e, struct as *as, unsigned i)
{
	uint64_t v = ~0ull;

	CHECK(
	    sim_read(e->mach, as, (i + 1) % 2, va(i) + i % 500 * 8, &v, sizeof(v), NULL) == VM_OK);
	return v;
}

static void put_all(struct env *e, uint64_t salt)
{
	for (unsigned i = 0; i < e->n; i++)
		put(e, e->as, i, i * 7 + salt);
}

static void expect_all(struct env *e, uint64_t salt)
{
	for (unsigned i = 0; i < e->n; i++)
		CHECK(get(e, e->as, i) == i * 7 + salt);
}

/* The page loaded at va, locked exclusively. */
static struct page *locked_page(struct env *e, unsigned i)
{
	pfn_t pfn = hat_probe(e->hat, va(i), NULL);
	struct page *pp = pfn == PFN_INVALID ? NULL : page_of(e->vm, pfn);

	return pp != NULL && page_trylock(e->vm, pp, SE_EXCL) ? pp : NULL;
}

/* ---- one page ---- */
static void test_relocate(const struct sim_config *cfg)
{
	struct vm_config vc = { 0 };
	struct env e;

	setup(&e, cfg, &vc, 64);
	put_all(&e, 1);
	CHECK(as_lock(e.as, va(9), VM_PAGESIZE) == VM_OK);
	for (unsigned i = 0; i < e.n; i++) {
		struct page *pp = locked_page(&e, i), *old = pp;
		struct vnode *vp = pp->p_vnode;
		voff_t off = pp->p_offset;

		if (i == 9) {
			CHECK(page_relocate(e.vm, &pp) == VM_LOCKED && pp == old);
		} else if (i == 10) {
			vm_inject(e.vm, VM_INJECT_PAGE, 1);
			CHECK(page_relocate(e.vm, &pp) == VM_NOMEM && pp == old);
			vm_inject(e.vm, VM_INJECT_PAGE, 0);
		} else {
			CHECK(page_relocate(e.vm, &pp) == VM_OK && pp != old);
			CHECK(
			    hat_page_getshare(pp) == 0 && pp->p_vnode == vp && pp->p_offset == off);
			CHECK(page_nrm(pp) & P_MOD);
		}
		page_unlock(e.vm, pp);
	}
	CHECK(vm_statistics(e.vm)->relocate == 62);
	CHECK(sound(&e));
	expect_all(&e, 1);
	CHECK(as_unlock(e.as, va(9), VM_PAGESIZE) == VM_OK);
	teardown(&e);
}

/* ---- runs ---- */
static bool fits(struct env *e, const struct page *pp, const struct page_limits *l)
{
	pfn_t pfn = page_pfn(e->vm, pp);

	if ((l->pl_align != 0 && pfn % l->pl_align != 0) || pfn < l->pl_min ||
	    (l->pl_max != 0 && pfn + l->pl_n > l->pl_max))
		return false;
	if (l->pl_boundary != 0 && pfn / l->pl_boundary != (pfn + l->pl_n - 1) / l->pl_boundary)
		return false;
	for (pfn_t i = 0; i < l->pl_n; i++)
		if (pp[i].p_flags != P_KERNEL)
			return false;
	return true;
}

/* In turn, while a run of frames is requested. */
static void each_page_to_be_moved_fails(struct env *e, const struct page_limits *limits)
{
	for (uint64_t nth = 1;; nth++) {
		struct page *pp;
		uint64_t seen;

		vm_inject(e->vm, VM_INJECT_PAGE, nth);
		pp = page_alloc_contig(e->vm, limits, 0);
		seen = vm_inject_seen(e->vm, VM_INJECT_PAGE);
		vm_inject(e->vm, VM_INJECT_PAGE, 0);
		CHECK(sound(e));
		if (pp != NULL)
			page_free_contig(e->vm, pp, limits->pl_n);
		if (seen < nth)
			return;
	}
}

static void test_contig(const struct sim_config *cfg)
{
	static const struct page_limits limits[] = {
		{ .pl_n = 64, .pl_align = 64 },
		{ .pl_n = 100, .pl_boundary = 128 },
		{ .pl_n = 16, .pl_max = 256 },
		{ .pl_n = 37, .pl_align = 8, .pl_boundary = 64, .pl_min = 500, .pl_max = 900 },
		{ .pl_n = 1, .pl_min = 1000, .pl_max = 1001 },
		{ .pl_n = 130, .pl_align = 4, .pl_boundary = 1024 },
	};
	struct page *got[6];
	struct vm_config vc = { 0 };
	struct vm_usage u, now;
	unsigned failed = 0;
	struct env e;

	setup(&e, cfg, &vc, cfg->frames * 3 / 4);
	put_all(&e, 2);
	for (unsigned i = 0; i < e.n;
	     i += 2) /* free frames everywhere, none of them beside another */
		CHECK(as_advise(e.as, va(i), VM_PAGESIZE, ADV_DONTNEED) == VM_OK);
	vm_usage(e.vm, &u);
	for (unsigned k = 0; k < 6; k++) {
		got[k] = page_alloc_contig(e.vm, &limits[k], PG_WAIT | PG_ZERO);
		failed += got[k] == NULL;
		CHECK(got[k] == NULL || fits(&e, got[k], &limits[k]));
		CHECK(sound(&e));
	}
	CHECK(failed <= 1); /* a kernel frame may be at the only requested frame */
	CHECK(vm_statistics(e.vm)->relocate > 0);
	for (unsigned i = 1; i < e.n; i += 2)
		CHECK(get(&e, e.as, i) == i * 7 + 2);
	for (unsigned k = 0; k < 6; k++)
		if (got[k] != NULL)
			page_free_contig(e.vm, got[k], limits[k].pl_n);
	vm_usage(e.vm, &now);
	CHECK(sound(&e) && now.vu_kernel <= u.vu_kernel + 8);
	/* what cannot be */
	CHECK(page_alloc_contig(
		  e.vm, &(struct page_limits){ .pl_n = 65, .pl_boundary = 64 }, PG_WAIT) == NULL);
	CHECK(page_alloc_contig(e.vm, &(struct page_limits){ .pl_n = 65, .pl_max = 64 }, PG_WAIT) ==
	    NULL);
	CHECK(
	    page_alloc_contig(e.vm, &(struct page_limits){ .pl_n = cfg->frames }, PG_WAIT) == NULL);
	each_page_to_be_moved_fails(&e, &limits[0]);
	teardown(&e);
}

static void test_create_large(const struct sim_config *cfg)
{
	struct vm_config vc = { 0 };
	struct vnode *file;
	struct page *pp, *one;
	struct env e;

	setup(&e, cfg, &vc, 8);
	file = sim_disk_create(e.mach, e.vm, "file", vm_ptob(256), 0);
	CHECK(page_create_large(e.vm, file, vm_ptob(64), 6, PG_WAIT | PG_ZERO, &pp) == VM_OK);
	CHECK(page_pfn(e.vm, pp) % 64 == 0);
	for (unsigned i = 0; i < 64; i++) {
		page_filled(e.vm, &pp[i], false);
		page_unlock(e.vm, &pp[i]);
	}
	CHECK(page_lookup(e.vm, file, vm_ptob(70), SE_EXCL) == &pp[6]);
	page_unlock(e.vm, &pp[6]);
	CHECK(page_create(e.vm, file, vm_ptob(130), PG_WAIT, &one) == VM_OK);
	CHECK(
	    page_create_large(e.vm, file, vm_ptob(128), 6, PG_WAIT, &pp) == VM_EXIST && pp == NULL);
	page_destroy(e.vm, one);
	CHECK(sound(&e));
	page_vnode_purge(e.vm, file, 0, 0);
	vnode_rele(file);
	teardown(&e);
}

/* ---- bad frames ---- */
static void test_retire(const struct sim_config *cfg)
{
	struct vm_config vc = { 0 };
	struct vm_usage was, now;
	pfn_t bad[24], n = 0;
	struct env e;

	setup(&e, cfg, &vc, cfg->frames + 200); /* more pages than frames: every frame is used */
	put_all(&e, 3);
	vm_usage(e.vm, &was);
	for (pfn_t pfn = 5; n < 20; pfn += 37) {
		enum vm_err err = page_retire(e.vm, pfn);

		CHECK(err == VM_OK || (page_of(e.vm, pfn)->p_flags & P_KERNEL));
		if (err != VM_OK)
			continue;
		bad[n++] = pfn;
		CHECK(page_is_retired(e.vm, pfn) && page_retire(e.vm, pfn) == VM_OK);
	}
	CHECK(sound(&e));
	vm_usage(e.vm, &now);
	CHECK(now.vu_frames == was.vu_frames - 20);
	expect_all(&e, 3);
	put_all(&e, 4);
	expect_all(&e, 4);
	for (unsigned i = 0; i < n; i++)
		CHECK(page_is_retired(e.vm, bad[i]));
	/* a page whose frame is known to a holder stays */
	put(&e, e.as, 0, 4);
	CHECK(as_lock(e.as, va(0), VM_PAGESIZE) == VM_OK);
	CHECK(page_retire(e.vm, hat_probe(e.hat, va(0), NULL)) == VM_LOCKED);
	CHECK(as_unlock(e.as, va(0), VM_PAGESIZE) == VM_OK);
	CHECK(page_retire(e.vm, hat_probe(e.hat, va(0), NULL)) == VM_OK);
	CHECK(get(&e, e.as, 0) == 4);
	CHECK(page_retire(e.vm, cfg->frames) == VM_INVAL);
	teardown(&e);
}

/* ---- memory that is removed and added ---- */
static pfn_t movable_range(struct env *e, pfn_t n, pfn_t frames)
{
	for (pfn_t at = 0; at + n <= frames; at += n) {
		pfn_t i = 0;

		while (i < n && !(page_of(e->vm, at + i)->p_flags & P_KERNEL) &&
		    page_of(e->vm, at + i)->p_lckcnt == 0)
			i++;
		if (i == n)
			return at;
	}
	return PFN_INVALID;
}

static void test_memory(const struct sim_config *cfg)
{
	struct vm_config vc = { 0 };
	struct vm_usage was, now;
	struct env e;
	pfn_t first, pfn;

	setup(&e, cfg, &vc, cfg->frames * 7 / 8);
	put_all(&e, 5);
	first = movable_range(&e, 64, cfg->frames);
	CHECK(first != PFN_INVALID);
	vm_usage(e.vm, &was);
	CHECK(vm_memory_remove(e.vm, first, 64) == VM_OK);
	vm_usage(e.vm, &now);
	CHECK(now.vu_frames == was.vu_frames - 64);
	CHECK(sound(&e));
	expect_all(&e, 5);
	put_all(&e, 6); /* under pressure: no removed frame is used */
	for (pfn_t i = first; i < first + 64; i++)
		CHECK(page_of(e.vm, i)->p_flags & P_OFFLINE);
	CHECK(vm_memory_remove(e.vm, 0, cfg->frames) == VM_NOMEM);
	CHECK(vm_memory_remove(e.vm, cfg->frames - 1, 2) == VM_INVAL);
	/* a wired page in the middle: nothing changes */
	put(&e, e.as, 3, 3 * 7 + 6);
	CHECK(as_lock(e.as, va(3), VM_PAGESIZE) == VM_OK);
	pfn = hat_probe(e.hat, va(3), NULL);
	CHECK(vm_memory_remove(e.vm, pfn < 4 ? 0 : pfn - 4, 8) == VM_LOCKED);
	vm_usage(e.vm, &now);
	CHECK(now.vu_frames == was.vu_frames - 64 && sound(&e));
	CHECK(as_unlock(e.as, va(3), VM_PAGESIZE) == VM_OK);
	CHECK(vm_memory_add(e.vm, first + 20, 30) == VM_OK);
	CHECK(vm_memory_add(e.vm, first, 64) == VM_OK);
	vm_usage(e.vm, &now);
	CHECK(now.vu_frames == was.vu_frames && sound(&e));
	expect_all(&e, 6);
	teardown(&e);
}

/* ---- colours and zeroed frames ---- */
static void test_colors(const struct sim_config *cfg)
{
	struct vm_config vc = { .vc_cache_bytes = 32 * VM_PAGESIZE, .vc_cache_ways = 2 };
	unsigned seen[16] = { 0 };
	struct vnode *file;
	struct env e;

	setup(&e, cfg, &vc, 64);
	put_all(&e, 7);
	for (unsigned i = 0; i < 64; i += 3)
		CHECK(as_advise(e.as, va(i), VM_PAGESIZE, ADV_DONTNEED) == VM_OK);
	file = sim_disk_create(e.mach, e.vm, "file", vm_ptob(256), 0);
	for (unsigned i = 0; i < 256; i++) {
		struct page *pp;

		CHECK(page_create(e.vm, file, vm_ptob(i), PG_WAIT | PG_ZERO, &pp) == VM_OK);
		seen[page_pfn(e.vm, pp) % 16]++;
		page_filled(e.vm, pp, false);
		page_unlock(e.vm, pp);
	}
	for (unsigned c = 0; c < 16; c++)
		CHECK(seen[c] == 16);
	CHECK(vm_statistics(e.vm)->color_hit >= 256 && vm_statistics(e.vm)->color_miss == 0);
	page_vnode_purge(e.vm, file, 0, 0);
	vnode_rele(file);
	teardown(&e);
}

static void test_zeroed(const struct sim_config *cfg)
{
	struct vm_config vc = { .vc_zeropool = 40 };
	struct env e;
	unsigned n = 0;

	setup(&e, cfg, &vc, cfg->frames);
	put_all(&e, 8); /* frames are dirty from now on */
	CHECK(as_advise(e.as, va(0), vm_ptob(e.n), ADV_DONTNEED) == VM_OK);
	while (vm_idle(e.vm))
		n++;
	CHECK(n == 40 && sound(&e));
	for (unsigned i = 0; i < 60; i++) {
		uint8_t page[VM_PAGESIZE], or = 0;

		CHECK(sim_write(e.mach, e.as, 0, va(i), & or, 1, NULL) == VM_OK);
		CHECK(sim_read(e.mach, e.as, 0, va(i), page, sizeof(page), NULL) == VM_OK);
		for (unsigned k = 0; k < sizeof(page); k++)
			or |= page[k];
		CHECK(or == 0);
	}
	CHECK(vm_statistics(e.vm)->zero_ready >= 30);
	while (vm_idle(e.vm))
		n++;
	CHECK(sound(&e));
	put_all(&e, 9); /* the pool is emptied before any page is evicted */
	expect_all(&e, 9);
	CHECK(vm_shrink(e.vm, 16) == 16);
	teardown(&e);
}

/* ---- idle CPUs ---- */
static bool idle(void *vm) { return vm_idle(vm); }

static void reader(void *arg)
{
	struct env *e = arg;

	for (unsigned i = 0; i < e->n; i++)
		CHECK(get(e, e->as, i) == i * 7 + 9);
}

/* While programs wait for the disk, and only then, frames are zeroed for later requests. */
static void test_idle(const struct sim_config *cfg)
{
	struct sim_config slow = *cfg;
	struct vm_config vc = { .vc_zeropool = 40 };
	struct sim_stats was, now;
	struct env e;

	slow.disk_latency = 100000;
	setup(&e, &slow, &vc, 64);
	put_all(&e, 9);
	CHECK(sim_idle(e.mach, idle, e.vm));
	sim_spawn(e.mach, reader, &e, "reader");
	sim_run(e.mach); /* no program waits: no work was done */
	sim_statistics(e.mach, &was);
	CHECK(was.ss_idle == 0);
	CHECK(as_swapout(e.as) == 64);
	sim_spawn(e.mach, reader, &e, "reader");
	sim_run(e.mach);
	CHECK(sim_idle(e.mach, NULL, NULL));
	sim_statistics(e.mach, &now);
	CHECK(now.ss_idle >= 40 && sound(&e));
	CHECK(!vm_idle(e.vm)); /* the pool was full, and no frame was requested */
	CHECK(as_advise(e.as, VA, vm_ptob(e.n), ADV_DONTNEED) == VM_OK);
	for (unsigned i = 0; i < 30; i++)
		put(&e, e.as, i, i);
	CHECK(vm_statistics(e.vm)->zero_ready >= 30);
	CHECK(sound(&e));
	teardown(&e);
}

/* ---- large translations ---- */
static void promote_once(struct env *e, unsigned size, uint64_t salt)
{
	const struct mach_caps *caps = mach_caps(e->mach);
	uint64_t bytes = 1ull << caps->mc_pageshift[size], done = 0;
	unsigned n = (unsigned)vm_btop(bytes), mid = n + n / 2;
	struct as *child;

	put_all(e, salt);
	expect_all(e, salt);
	put_all(e, salt);
	CHECK(as_promote(e->as, VA, vm_ptob(e->n), size, &done) == VM_OK);
	CHECK(done >= bytes && done % bytes == 0);
	CHECK(hat_mapsize(e->hat, VA) == caps->mc_pageshift[size]);
	CHECK(sound(e));
	expect_all(e, salt);
	/* fork: both see the earlier contents, and each its own later writes */
	CHECK(as_dup(e->as, &child) == VM_OK);
	put(e, e->as, mid, 1);
	put(e, child, mid + 1, 2);
	CHECK(get(e, child, mid) == mid * 7 + salt && get(e, e->as, mid) == 1);
	CHECK(get(e, e->as, mid + 1) == (mid + 1) * 7 + salt && get(e, child, mid + 1) == 2);
	CHECK(sound(e));
	/* copy-on-write pages stay shared when they are moved and joined */
	for (unsigned i = 0; i < e->n; i++)
		CHECK(get(e, child, i) == (i == mid + 1 ? 2 : i * 7 + salt));
	for (unsigned i = 3; i < n; i += 7)
		put(e, child, i,
		    i * 7 +
			salt); /* frames of its own in between: rights differ, no block is joined */
	CHECK(as_promote(child, VA, vm_ptob(e->n), size, &done) == VM_OK);
	CHECK(sound(e));
	CHECK(as_setprot(child, VA, vm_ptob(e->n), PROT_R) == VM_OK);
	for (unsigned i = 0; i < e->n; i++)
		CHECK(get(e, child, i) == (i == mid + 1 ? 2 : i * 7 + salt));
	CHECK(as_promote(child, VA, vm_ptob(e->n), size, &done) == VM_OK && done >= bytes);
	CHECK(hat_mapsize(as_hat(child), VA) == caps->mc_pageshift[size] && sound(e));
	put(e, e->as, 1, 5);
	CHECK(get(e, child, 1) == 7 + salt && get(e, e->as, 1) == 5);
	put(e, e->as, 1, 7 + salt);
	CHECK(sound(e));
	as_free(child);
	put(e, e->as, mid, mid * 7 + salt);
	CHECK(as_setprot(e->as, va(n / 2), VM_PAGESIZE, PROT_R) == VM_OK);
	CHECK(sim_write(e->mach, e->as, 0, va(n / 2), &salt, 8, NULL) == VM_PROT);
	CHECK(as_setprot(e->as, va(n / 2), VM_PAGESIZE, PROT_R | PROT_W) == VM_OK);
	expect_all(e, salt);
	CHECK(sound(e));
}

static void test_promote(const struct sim_config *cfg)
{
	struct sim_config big = *cfg;
	struct vm_config vc = { 0 };
	uint64_t done;
	struct env e;

	big.frames = 8192;
	setup(&e, &big, &vc, 3072);
	CHECK(as_promote(e.as, VA, vm_ptob(e.n), 9, &done) == VM_NOTSUP && done == 0);
	for (unsigned s = 1;
	     s < mach_caps(e.mach)->mc_npagesizes && mach_caps(e.mach)->mc_pageshift[s] <= 22;
	     s++) {
		promote_once(&e, s, s * 1000);
		/* out of their order, so that the next round has to move them */
		for (unsigned i = 0; i < e.n; i += 5)
			CHECK(as_advise(e.as, va(i), VM_PAGESIZE, ADV_DONTNEED) == VM_OK);
	}
	CHECK(vm_statistics(e.vm)->promote > 0);
	/* an allocation fails half-way: no contents are lost */
	put_all(&e, 11);
	for (uint64_t nth = 1; nth < 40; nth += 3) {
		vm_inject(e.vm, VM_INJECT_PAGE, nth);
		vm_inject(e.vm, VM_INJECT_HAT, nth);
		(void)as_promote(e.as, VA, vm_ptob(e.n), 1, &done);
		vm_inject(e.vm, VM_INJECT_PAGE, 0);
		vm_inject(e.vm, VM_INJECT_HAT, 0);
		CHECK(sound(&e));
	}
	expect_all(&e, 11);
	as_swapout_soft(e.as);
	expect_all(&e, 11);
	teardown(&e);
}

/* ---- all at once ---- */
#define PROGRAMS 3u
static struct race {
	struct env e;
	unsigned left, size;
	uint64_t rnd;
} race;

struct program {
	unsigned number;
	uint64_t rnd, word[256];
};

static uint64_t draw(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x >> 11;
}

static void program(void *arg)
{
	struct program *p = arg;
	struct env *e = &race.e;
	unsigned first = p->number * 256;

	for (unsigned round = 0; round < 3000; round++) {
		unsigned i = (unsigned)(draw(&p->rnd) % 256);
		uint64_t v = 0;

		if (draw(&p->rnd) % 2) {
			v = p->word[i] = draw(&p->rnd);
			CHECK(sim_write(e->mach, e->as, p->number, va(first + i), &v, sizeof(v),
				  NULL) == VM_OK);
		} else {
			CHECK(sim_read(e->mach, e->as, p->number, va(first + i), &v, sizeof(v),
				  NULL) == VM_OK);
			CHECK(v == p->word[i]);
		}
		if (draw(&p->rnd) % 64 == 0) {
			CHECK(as_advise(e->as, va(first + i), VM_PAGESIZE, ADV_DONTNEED) == VM_OK);
			p->word[i] = 0;
		}
	}
	race.left--;
}

static void mover(void *arg)
{
	struct env *e = &race.e;
	uint64_t *rnd = &race.rnd, done;
	pfn_t out = PFN_INVALID, frames = mach_caps(e->mach)->mc_nframes;

	(void)arg;
	while (race.left > 0) {
		unsigned i = (unsigned)(draw(rnd) % e->n);
		struct page *pp;

		switch (draw(rnd) % 6) {
		case 0:
		case 1:
			if ((pp = locked_page(e, i)) == NULL)
				break;
			(void)page_relocate(e->vm, &pp);
			page_unlock(e->vm, pp);
			break;
		case 2:
			(void)as_promote(e->as, va(i & ~63u), vm_ptob(256), race.size, &done);
			break;
		case 3:
			if (draw(rnd) % 8 == 0)
				(void)page_retire(e->vm, (pfn_t)(draw(rnd) % frames));
			break;
		case 4:
			if (out == PFN_INVALID) {
				out = (pfn_t)(draw(rnd) % (frames / 32)) * 32;
				if (vm_memory_remove(e->vm, out, 32) != VM_OK)
					out = PFN_INVALID;
			} else {
				CHECK(vm_memory_add(e->vm, out, 32) == VM_OK);
				out = PFN_INVALID;
			}
			break;
		case 5:
			pp = page_alloc_contig(
			    e->vm, &(struct page_limits){ .pl_n = 16, .pl_align = 16 }, PG_WAIT);
			if (pp != NULL)
				page_free_contig(e->vm, pp, 16);
			break;
		}
		mach_yield();
	}
	if (out != PFN_INVALID)
		CHECK(vm_memory_add(e->vm, out, 32) == VM_OK);
}

static void test_race(const struct sim_config *cfg, uint64_t seed)
{
	static struct program p[PROGRAMS];
	struct sim_config c = *cfg;
	struct vm_config vc = { .vc_cache_bytes = 8 * VM_PAGESIZE, .vc_zeropool = 8 };

	c.ncpus = PROGRAMS + 1;
	c.frames = (pfn_t)(1024 - 128 * (seed % 3));
	c.seed = seed;
	c.threads = true;
	c.ipi_latency = 800;
	c.disk_latency = seed % 2 ? 2000 : 0;
	memset(&race, 0, sizeof(race));
	setup(&race.e, &c, &vc, PROGRAMS * 256);
	race.left = PROGRAMS;
	race.size = 1;
	race.rnd = seed * 77 + 1;
	for (unsigned i = 0; i < PROGRAMS; i++) {
		p[i] = (struct program){ .number = i, .rnd = seed * 1000 + i + 1 };
		sim_spawn(race.e.mach, program, &p[i], "program");
	}
	sim_spawn(race.e.mach, mover, NULL, "mover");
	CHECK(sim_idle(race.e.mach, idle, race.e.vm));
	sim_run(race.e.mach);
	CHECK(sim_idle(race.e.mach, NULL, NULL));
	for (unsigned i = 0; i < PROGRAMS * 256; i++) {
		uint64_t v = 0;

		CHECK(sim_read(race.e.mach, race.e.as, 0, va(i), &v, sizeof(v), NULL) == VM_OK);
		CHECK(v == p[i / 256].word[i % 256]);
	}
	CHECK(vm_statistics(race.e.vm)->relocate > 100);
	teardown(&race.e);
}

int main(int argc, char **argv)
{
	uint64_t seeds = argc > 2 ? strtoull(argv[2], NULL, 0) : 4;
	static const char *const all[] = { "x86_64", "la57", "i386", "pae", "sv39", "sv48",
		"sfmmu" };

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct sim_config cfg = { .frames = 1024, .ncpus = 2, .ipi_latency = 300 };

		if (argc > 1 && strcmp(argv[1], all[i]) != 0)
			continue;
		what_machine = all[i];
		CHECK(sim_format_by_name(all[i], &cfg.format));
		test_relocate(&cfg);
		test_contig(&cfg);
		test_create_large(&cfg);
		test_retire(&cfg);
		test_memory(&cfg);
		test_colors(&cfg);
		test_zeroed(&cfg);
		test_idle(&cfg);
		test_promote(&cfg);
		for (uint64_t seed = 1; seed <= seeds; seed++)
			test_race(&cfg, seed);
	}
	printf("page_move_test: %s\n", failures == 0 ? "ok" : "FAILED");
	return failures == 0 ? 0 : 1;
}
