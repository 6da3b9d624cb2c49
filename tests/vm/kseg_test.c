/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's segments (segkmem, segkp, segmap, segdev) and user-supplied pagers (segpager), each by its contract in kseg.h. */
#include "tests/vm/segs.h"

#include <quire/kseg.h>

#define KBASE ((vaddr_t)1 << 30)

/* ---- segkmem ---- */
static void kernel_heap_is_wired_and_guarded(void **state)
{
	struct sys s;
	sys_init(&s, 512, 2000);
	struct as *kas = new_as(&s), *as = new_as(&s);
	struct segkmem *k;
	vaddr_t va[8], big;
	pfn_t pfn[8];
	struct vm_usage u;

	assert_int_equal(segkmem_create(kas, KBASE, 16 * MB, &k), VM_OK);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(segkmem_alloc(k, 3 * PG, KM_SLEEP, &va[i]), VM_OK);
		expect_zero(&s, kas, va[i], 3);
		fill(&s, kas, va[i], 3, 100 * i);
		pfn[i] = hat_probe(as_hat(kas), va[i], NULL);
	}
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, 24);
	assert_sound(&s);
	/* a program uses three times the memory of the machine: the kernel heap stays in memory */
	assert_int_equal(map_anon(as, BASE, 1500, 0), VM_OK);
	fill(&s, as, BASE, 1500, 1);
	(void)as_swapout(kas);
	assert_true(pageout_reclaim(s.vm, 400) > 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(hat_probe(as_hat(kas), va[i], NULL), pfn[i]);
		expect(&s, kas, va[i], 3, 100 * i);
	}
	expect(&s, as, BASE, 1500, 1);
	segkmem_free(k, va[3], 3 * PG);
	assert_int_equal(try_put(&s, kas, va[3], 1), VM_NOMAP);
	assert_int_equal(segkmem_alloc(k, 400 * PG, KM_NOSLEEP, &big), VM_NOMEM);
	assert_int_equal(segkmem_alloc(k, 17 * MB, KM_SLEEP, &big), VM_NOMEM);
	assert_int_equal(segkmem_inuse(k), 7 * 3 * PG);
	assert_sound(&s);
	for (unsigned i = 0; i < 8; i++)
		if (i != 3)
			segkmem_free(k, va[i], 3 * PG);
	segkmem_destroy(k);
	as_free(as);
	as_free(kas);
	sys_fini(&s);
}

static void kernel_heap_survives_failures(void **state)
{
	for (unsigned what = VM_INJECT_PAGE; what < VM_INJECT_N; what++)
		for (uint64_t nth = 1; nth < 40; nth++) {
			struct sys s;
			sys_init(&s, 256, 100);
			struct as *kas = new_as(&s);
			struct segkmem *k;
			vaddr_t va;

			vm_inject(s.vm, what, nth);
			if (segkmem_create(kas, KBASE, MB, &k) == VM_OK) {
				if (segkmem_alloc(k, 9 * PG, KM_SLEEP, &va) == VM_OK)
					segkmem_free(k, va, 9 * PG);
				assert_int_equal(segkmem_inuse(k), 0);
				assert_sound(&s);
				segkmem_destroy(k);
			}
			bool done = vm_inject_seen(s.vm, what) < nth;
			vm_inject(s.vm, what, 0);
			as_free(kas);
			sys_fini(&s);
			if (done)
				break;
		}
}

/* Small sizes come from stacks per CPU; an exhausted arena takes them back. */
static void an_exhausted_arena_takes_back_its_caches(void **state)
{
	struct sys s;
	sys_init(&s, 128, 0);
	struct vmem *v = vmem_create(s.vm, "test", 1000, 64, 1);
	uint64_t a[64], b, seen = 0;

	assert_non_null(v);
	assert_true(vmem_qcache(v, 4));
	for (unsigned i = 0; i < 64; i++)
		assert_true(vmem_alloc(v, 1, KM_SLEEP, &a[i]));
	assert_false(vmem_alloc(v, 1, KM_SLEEP, &b));
	for (unsigned i = 0; i < 64; i++) {
		seen |= 1ull << (a[i] - 1000);
		vmem_free(v, a[i], 1);
	}
	assert_int_equal(seen, ~0ull);
	assert_int_equal(vmem_inuse(v), 0);
	assert_true(vmem_alloc(v, 1, KM_SLEEP, &b)); /* the one freed last that fitted: a pop */
	assert_int_equal(b, a[15]);
	vmem_free(v, b, 1);
	/* the call needs all addresses: the caches are emptied */
	assert_true(vmem_alloc(v, 64, KM_SLEEP, &b));
	assert_int_equal(b, 1000);
	vmem_free(v, b, 64);
	assert_true(vmem_alloc(v, 3, KM_SLEEP, &b));
	vmem_free(v, b, 3);
	assert_int_equal(vmem_reap(v), 3);
	vmem_destroy(v);
	sys_fini(&s);
}

/* ---- segkp ---- */
static void kernel_stacks_page_and_have_redzones(void **state)
{
	struct sys s;
	sys_init(&s, 256, 2000);
	struct as *kas = new_as(&s);
	const unsigned fl = KPD_REDZONE | KPD_LOCKED;
	struct segkp *kp;
	vaddr_t st[20], again;
	struct vm_usage u;

	assert_int_equal(segkp_create(kas, KBASE, 16 * MB, &kp), VM_OK);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(segkp_get(kp, 4 * PG, fl, &st[i]), VM_OK);
		fill(&s, kas, st[i], 4, i * 10);
		assert_int_equal(try_put(&s, kas, st[i] - 8, 1), VM_NOMAP); /* overflow */
	}
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, 80);
	hat_swapout(as_hat(
	    kas)); /* as page-out does where tables take the memory: a stack in use cannot fault */
	for (unsigned i = 0; i < 80; i++)
		assert_true(hat_probe(as_hat(kas), st[i / 4] + i % 4 * PG, NULL) != PFN_INVALID);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(segkp_swapout(kp, st[i], 4 * PG), VM_OK);
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, 40);
	assert_int_equal(hat_probe(as_hat(kas), st[0], NULL), PFN_INVALID);
	assert_int_equal(page_cache_drain(s.vm, 1000), 40);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(segkp_swapin(kp, st[i], 4 * PG, fl), VM_OK);
	for (unsigned i = 0; i < 20; i++)
		expect(&s, kas, st[i], 4, i * 10);
	assert_sound(&s);
	segkp_release(kp, st[19], 4 * PG, fl);
	assert_int_equal(segkp_get(kp, 4 * PG, fl, &again), VM_OK);
	assert_int_equal(again, st[19]); /* from the cache */
	for (unsigned i = 0; i < 20; i++)
		segkp_release(kp, st[i], 4 * PG, fl);
	segkp_destroy(kp);
	assert_int_equal(nsegs(kas), 0);
	as_free(kas);
	sys_fini(&s);
}

/* ---- segmap ---- */
/*
 * A slot is used again for another piece of the file while the CPU still knows its old pages: the
 * new pages are read and written.
 */
static void a_slot_used_again_shows_the_new_piece(void **state)
{
	struct sys s;
	sys_init(&s, 512, 100);
	struct as *kas = new_as(&s);
	const unsigned pages = SEGMAP_SLOT / PG;
	struct vnode *vp = new_file(&s, 8 * SEGMAP_SLOT, 1000);
	struct segmap *sm;
	vaddr_t va;
	uint64_t v;

	assert_int_equal(segmap_create(kas, KBASE, 2 * SEGMAP_SLOT, &sm), VM_OK);
	for (unsigned round = 0; round < 8; round++) {
		assert_int_equal(segmap_getmap(sm, vp, round * SEGMAP_SLOT, &va), VM_OK);
		for (unsigned i = 0; i < pages; i++) {
			assert_int_equal(get(&s, kas, va + i * PG), 1000 + round * pages + i);
			put(&s, kas, va + i * PG, 5000 + round * pages + i);
		}
		assert_int_equal(segmap_release(sm, va, 0), VM_OK);
		assert_sound(&s);
	}
	for (unsigned i = 0; i < 8 * pages; i++) {
		assert_int_equal(vnode_read(vp, i * PG, &v, 8, NULL), VM_OK);
		assert_int_equal(v, 5000 + i);
	}
	segmap_destroy(sm);
	as_free(kas);
	vnode_rele(vp);
	sys_fini(&s);
}

static void window_is_coherent_with_mappings(void **state)
{
	struct sys s;
	sys_init(&s, 512, 100);
	struct as *kas = new_as(&s), *as = new_as(&s);
	struct vnode *vp = new_file(&s, 98 * PG + 100, 500);
	struct segmap *sm;
	vaddr_t va, other;
	uint64_t v, done;
	char buf[3 * 4096];

	assert_int_equal(segmap_create(kas, KBASE, 4 * SEGMAP_SLOT, &sm), VM_OK);
	assert_int_equal(map_file(as, BASE, 99, vp, 0, RW, SEGVN_SHARED), VM_OK);
	assert_int_equal(segmap_getmap(sm, vp, SEGMAP_SLOT, &va), VM_OK);
	assert_int_equal(get(&s, kas, va + PG), 517);
	put(&s, as, BASE + 17 * PG, 1234);
	assert_int_equal(get(&s, kas, va + PG), 1234);
	put(&s, kas, va + 2 * PG, 4321);
	assert_int_equal(get(&s, as, BASE + 18 * PG), 4321);
	assert_int_equal(vnode_read(vp, 18 * PG, &v, 8, NULL), VM_OK);
	assert_int_equal(v, 4321);
	v = 99;
	assert_int_equal(vnode_write(vp, 19 * PG, &v, 8, NULL), VM_OK);
	assert_int_equal(get(&s, kas, va + 3 * PG), 99);
	assert_int_equal(get(&s, as, BASE + 19 * PG), 99);
	assert_int_equal(segmap_release(sm, va, SM_WRITE), VM_OK);
	assert_int_equal(((uint64_t *)sim_disk_data(vp))[18 * 512], 4321);
	/* more pieces than slots; a piece that is still there keeps its slot */
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(segmap_rw(sm, vp, i * SEGMAP_SLOT + 5, buf, 9000, false, &done),
		    i < 6 ? VM_OK : VM_EOF);
		assert_int_equal(done, i < 6 ? 9000 : 98 * PG + 100 - 6 * SEGMAP_SLOT - 5);
		assert_sound(&s);
	}
	assert_int_equal(segmap_getmap(sm, vp, 5 * SEGMAP_SLOT, &va), VM_OK);
	assert_int_equal(segmap_getmap(sm, vp, 5 * SEGMAP_SLOT, &other), VM_OK);
	assert_int_equal(va, other);
	assert_int_equal(segmap_release(sm, va, 0), VM_OK);
	memset(buf, 7, sizeof(buf));
	assert_int_equal(segmap_rw(sm, vp, 5 * SEGMAP_SLOT - 100, buf, 5000, true, &done), VM_OK);
	assert_int_equal(get(&s, as, BASE + 80 * PG), 0x0707070707070707u);
	assert_int_equal(segmap_release(sm, va, SM_FREE), VM_OK);
	assert_int_equal(segmap_getmap(sm, vp, 3, &va), VM_INVAL);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(segmap_getmap(sm, vp, i * SEGMAP_SLOT, &va), VM_OK);
	assert_int_equal(segmap_getmap(sm, vp, 4 * SEGMAP_SLOT, &other), VM_NOMEM);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(segmap_release(sm, KBASE + i * SEGMAP_SLOT, 0), VM_OK);
	assert_sound(&s);
	segmap_destroy(sm);
	as_free(as);
	as_free(kas);
	vnode_rele(vp);
	sys_fini(&s);
}

/* ---- segdev ---- */
static void device_frames_of(enum sim_format format)
{
	struct sim_config cfg = {
		.frames = 256, .ncpus = 2, .format = format, .device_frames = 16
	};
	struct segdev_args a = { .da_prot = RW, .da_maxprot = RW };
	struct sys s;
	struct as *as, *child;
	uint64_t v, n;
	uint8_t *reg, vec[8];
	char buf[8];
	vaddr_t to = 0;

	sys_init_cfg(&s, &cfg, 100);
	assert_int_equal(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 30, &as), VM_OK);
	reg = sim_device_data(s.m);
	a.da_frame = cfg.frames;
	assert_int_equal(as_map(as, BASE, 16 * PG, segdev_create, &a), VM_OK);
	put(&s, as, BASE + 3 * PG + 8, 0x1234);
	memcpy(&v, reg + 3 * PG + 8, 8);
	assert_int_equal(v, 0x1234);
	v = 0x777;
	memcpy(reg + 5 * PG, &v, 8); /* the device changes it */
	assert_int_equal(get(&s, as, BASE + 5 * PG), 0x777);
	assert_sound(&s);
	n = rss(as);
	assert_int_equal(n, 2);
	assert_int_equal(as_dup(as, &child), VM_OK);
	put(&s, child, BASE + 5 * PG, 0x778); /* one device */
	assert_int_equal(get(&s, as, BASE + 5 * PG), 0x778);
	(void)as_swapout(child);
	assert_int_equal(as_setprot(as, BASE + 4 * PG, 4 * PG, PROT_R), VM_OK);
	assert_int_equal(try_put(&s, as, BASE + 5 * PG, 1), VM_PROT);
	put(&s, child, BASE + 5 * PG, 0x779);
	assert_int_equal(get(&s, as, BASE + 5 * PG), 0x779);
	assert_int_equal(as_copyin(as, BASE, buf, 8), VM_NOTSUP);
	assert_int_equal(as_transfer(as, BASE, PG, child, &to, TRANSFER_COW, PROT_R), VM_NOTSUP);
	assert_int_equal(as_incore(as, BASE, 8 * PG, vec), VM_OK);
	assert_int_equal(as_unmap(as, BASE + 5 * PG, PG), VM_OK);
	assert_int_equal(try_get(&s, as, BASE + 5 * PG, &v), VM_NOMAP);
	put(&s, as, BASE + 15 * PG, 15);
	memcpy(&v, reg + 15 * PG, 8);
	assert_int_equal(v, 15);
	a.da_frame -= 1; /* ordinary memory is refused */
	assert_int_equal(as_map(as, BASE + MB, PG, segdev_create, &a), VM_OK);
	assert_int_equal(try_get(&s, as, BASE + MB, &v), VM_INVAL);
	/* impossible frame numbers: they once wrapped, and another frame was mapped */
	a.da_frame = ~(uint64_t)0;
	assert_int_equal(as_map(as, BASE + 2 * MB, 4 * PG, segdev_create, &a), VM_INVAL);
	a.da_frame -= 4;
	assert_int_equal(as_map(as, BASE + 2 * MB, 4 * PG, segdev_create, &a), VM_OK);
	assert_int_equal(try_get(&s, as, BASE + 2 * MB + 3 * PG, &v), VM_INVAL);
	assert_int_equal(
	    hat_devload(as_hat(as), BASE + 3 * MB, PG, ~(uint64_t)0, PROT_R, 0), VM_INVAL);
	assert_sound(&s);
	as_free(child);
	as_free(as);
	sys_fini(&s);
}

static void device_frames_are_mapped_in_each_format(void **state)
{
	for (enum sim_format f = 0; f < SIM_NFORMATS; f++)
		device_frames_of(f);
}

/* Calls that a program may make on any mapping. */
static void devices_answer_every_call(void **state)
{
	struct sim_config cfg = { .frames = 256, .ncpus = 2, .device_frames = 16 };
	struct segdev_args a = { .da_frame = 256, .da_prot = PROT_R, .da_maxprot = RW };
	vaddr_t to = BASE + 2 * MB;
	uint8_t vec[4];
	struct as *as;
	struct sys s;

	(void)state;
	sys_init_cfg(&s, &cfg, 100);
	as = new_as(&s);
	assert_int_equal(as_map(as, BASE, 4 * PG, segdev_create, &a), VM_OK);
	assert_int_equal(as_checkprot(as, BASE, 4 * PG, PROT_R), VM_OK);
	assert_int_equal(as_checkprot(as, BASE, 4 * PG, RW), VM_PROT);
	assert_int_equal(as_setprot(as, BASE, 4 * PG, RW | PROT_X), VM_ACCESS);
	assert_int_equal(as_advise(as, BASE, 4 * PG, ADV_POPULATE_WRITE), VM_PROT);
	assert_int_equal(as_setprot(as, BASE, 4 * PG, RW), VM_OK);
	assert_int_equal(as_advise(as, BASE, 4 * PG, ADV_POPULATE_READ), VM_OK);
	assert_int_equal(as_advise(as, BASE, 4 * PG, ADV_WILLNEED), VM_OK);
	assert_int_equal(rss(as), 4);
	assert_int_equal(as_incore(as, BASE, 4 * PG, vec), VM_OK);
	assert_int_equal(vec[3], INCORE_PRESENT | INCORE_MAPPED);
	assert_int_equal(
	    as_fault(as, BASE, PG, F_SOFTLOCK, S_READ), VM_NOTSUP); /* there is no page to hold */
	assert_int_equal(as_lock(as, BASE, 4 * PG), VM_OK);         /* the page is never evicted */
	assert_int_equal(as_unlock(as, BASE, 4 * PG), VM_OK);
	assert_int_equal(as_sync(as, BASE, 4 * PG, 0), VM_OK);
	assert_int_equal(as_inherit(as, BASE, 4 * PG, INHERIT_ZERO), VM_NOTSUP);
	put(&s, as, BASE + PG, 17);
	assert_int_equal(
	    as_remap(as, BASE, 4 * PG, 8 * PG, REMAP_MAYMOVE, &to), VM_NOTSUP); /* beyond its end */
	to = BASE + 2 * MB;
	assert_int_equal(
	    as_remap(as, BASE, 4 * PG, 4 * PG, REMAP_MAYMOVE | REMAP_FIXED, &to), VM_OK);
	assert_int_equal(get(&s, as, to + PG), 17);
	assert_int_equal(try_get(&s, as, BASE + PG, &(uint64_t){ 0 }), VM_NOMAP);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

static const unsigned caching[] = { 0, HAT_UNCACHED, HAT_COMBINE };

/* Maps the i-th eight frames of the device, cached in the i-th way. */
static void caching_outlives_a_change_of_rights(struct sys *s, struct as *as, unsigned i)
{
	static const enum sim_caching want[] = { SIM_CACHED, SIM_UNCACHED, SIM_COMBINING };
	struct segdev_args a = {
		.da_frame = 256 + 8 * i, .da_caching = caching[i], .da_prot = RW, .da_maxprot = RW
	};
	vaddr_t va = BASE + (i + 1) * MB;

	assert_int_equal(as_map(as, va, 8 * PG, segdev_create, &a), VM_OK);
	put(s, as, va + PG, i);
	assert_int_equal(sim_caching_of(s->m, as_hat(as), va + PG), want[i]);
	assert_int_equal(as_setprot(as, va, 4 * PG, PROT_R), VM_OK);
	assert_int_equal(try_put(s, as, va + PG, 1), VM_PROT);
	assert_int_equal(sim_caching_of(s->m, as_hat(as), va + PG), want[i]);
	assert_int_equal(as_setprot(as, va, 4 * PG, RW), VM_OK);
	put(s, as, va + PG, i + 1);
	assert_int_equal(sim_caching_of(s->m, as_hat(as), va + PG), want[i]);
}

/* Maps one of these frames again: with the same cache mode, or the call is refused. */
static void frames_have_one_caching(struct as *as, unsigned i)
{
	vaddr_t va = BASE + (i + 1) * MB + 16 * PG;

	for (unsigned k = 0; k < 3; k++) {
		struct segdev_args a = { .da_frame = 256 + 8 * i + 7,
			.da_caching = caching[k],
			.da_prot = RW,
			.da_maxprot = RW };

		assert_int_equal(as_map(as, va, PG, segdev_create, &a), k == i ? VM_OK : VM_INVAL);
		if (k == i)
			assert_int_equal(as_unmap(as, va, PG), VM_OK);
	}
}

/* Each format says in its own bits how a device is cached; the machine's walkers read them; mappings must agree. */
static void each_format_keeps_how_a_device_is_cached(void **state)
{
	(void)state;
	for (enum sim_format f = 0; f < SIM_NFORMATS; f++) {
		struct sim_config cfg = {
			.frames = 256, .ncpus = 2, .format = f, .device_frames = 24
		};
		struct segdev_args a = { .da_frame = 256, .da_prot = RW, .da_maxprot = RW };
		struct as *as, *child;
		struct sys s;

		sys_init_cfg(&s, &cfg, 100);
		assert_int_equal(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 30, &as), VM_OK);
		assert_int_equal(map_anon(as, BASE, 4, 0), VM_OK);
		put(&s, as, BASE, 1);
		assert_int_equal(sim_caching_of(s.m, as_hat(as), BASE), SIM_CACHED);
		for (unsigned i = 0; i < 3; i++) {
			caching_outlives_a_change_of_rights(&s, as, i);
			frames_have_one_caching(as, i);
		}
		a.da_caching = HAT_UNCACHED | HAT_COMBINE;
		assert_int_equal(as_map(as, BASE + 8 * MB, PG, segdev_create, &a), VM_INVAL);
		assert_int_equal(as_dup(as, &child), VM_OK);
		assert_int_equal(get(&s, child, BASE + 2 * MB + PG), 2);
		assert_int_equal(
		    sim_caching_of(s.m, as_hat(child), BASE + 2 * MB + PG), SIM_UNCACHED);
		assert_sound(&s);
		/* when the last mapping is gone the frames may be mapped otherwise */
		assert_int_equal(as_unmap(as, BASE + 2 * MB + 4 * PG, 8 * PG), VM_OK);
		a = (struct segdev_args){
			.da_frame = 256 + 8 + 4, .da_prot = RW, .da_maxprot = RW
		};
		assert_int_equal(
		    as_map(as, BASE + 8 * MB, PG, segdev_create, &a), VM_INVAL); /* the child's */
		as_free(child);
		assert_int_equal(as_map(as, BASE + 8 * MB, PG, segdev_create, &a), VM_OK);
		as_free(as);
		sys_fini(&s);
	}
}

/* ---- segpager ---- */
struct store {
	uint64_t word[64];
	unsigned reads, writes, asked;
	bool refuse, deaf, detached;
	struct vm_io *pending;
};

static void store_read(void *priv, struct pager *p, struct vm_io *io)
{
	struct store *st = priv;

	st->reads++;
	if (st->deaf) {
		st->pending = io;
		return;
	}
	for (uint32_t i = 0; i < io->io_npages; i++) {
		memset(io->io_buf[i], 0, PG);
		memcpy(io->io_buf[i], &st->word[io->io_off / PG + i], 8);
	}
	pager_done(p, io, VM_OK, 0);
}

static void store_write(void *priv, struct pager *p, struct vm_io *io)
{
	struct store *st = priv;

	st->writes++;
	for (uint32_t i = 0; i < io->io_npages; i++)
		memcpy(&st->word[io->io_off / PG + i], io->io_buf[i], 8);
	pager_done(p, io, VM_OK, 0);
}

static enum vm_err store_dirty(void *priv, voff_t off)
{
	struct store *st = priv;

	st->asked++;
	return st->refuse ? VM_NOSWAP : VM_OK;
}

static void store_detach(void *priv) { ((struct store *)priv)->detached = true; }

static const struct pager_ops store_ops = {
	.po_name = "store",
	.po_read = store_read,
	.po_write = store_write,
	.po_dirty = store_dirty,
	.po_detach = store_detach,
};

struct paged {
	struct sys s;
	struct store st;
	struct pager *p;
	struct as *a, *b;
};

static void paged_init(struct paged *g)
{
	memset(g, 0, sizeof(*g));
	sys_init(&g->s, 256, 1500);
	for (unsigned i = 0; i < 64; i++)
		g->st.word[i] = 1000 + i;
	assert_int_equal(pager_create(g->s.vm, &store_ops, &g->st, 64 * PG, &g->p), VM_OK);
	g->a = new_as(&g->s);
	g->b = new_as(&g->s);
	struct segpager_args args = { g->p, 0, RW, RW };
	assert_int_equal(as_map(g->a, BASE, 64 * PG, segpager_create, &args), VM_OK);
	args.pa_off = ~(voff_t)0 - PG + 1; /* offsets do not wrap to 0 */
	assert_int_equal(as_map(g->a, BASE + 8 * MB, 2 * PG, segpager_create, &args), VM_INVAL);
	args.pa_off = 32 * PG;
	assert_int_equal(as_map(g->b, BASE, 32 * PG, segpager_create, &args), VM_OK);
}

static void paged_fini(struct paged *g)
{
	assert_sound(&g->s);
	as_free(g->a);
	as_free(g->b);
	pager_rele(g->p);
	assert_true(g->st.detached);
	sys_fini(&g->s);
}

static void pagers_answer_every_call(void **state)
{
	struct paged g;
	uint8_t vec[8];
	vaddr_t to;

	(void)state;
	paged_init(&g);
	assert_int_equal(as_checkprot(g.a, BASE, 64 * PG, RW), VM_OK);
	assert_int_equal(as_advise(g.a, BASE, 4 * PG, ADV_POPULATE_READ), VM_OK);
	assert_int_equal(g.st.asked, 0);
	assert_int_equal(as_advise(g.a, BASE, 4 * PG, ADV_POPULATE_WRITE), VM_OK);
	assert_int_equal(g.st.asked, 4);
	assert_int_equal(as_advise(g.a, BASE, 4 * PG, ADV_WILLNEED), VM_OK);
	/* the contents belong to the pager */
	assert_int_equal(as_advise(g.a, BASE, 4 * PG, ADV_REMOVE), VM_NOTSUP);
	put(&g.s, g.a, BASE + PG, 50);
	assert_int_equal(as_advise(g.a, BASE, 4 * PG, ADV_DONTNEED), VM_OK);
	assert_int_equal(get(&g.s, g.a, BASE + PG), 50);
	assert_int_equal(as_advise(g.a, BASE, 8 * PG, ADV_PAGEOUT), VM_OK);
	assert_int_equal(g.st.word[1], 50);
	assert_int_equal(as_incore(g.a, BASE, 8 * PG, vec), VM_OK);
	assert_int_equal(vec[1] & INCORE_MAPPED, 0);
	assert_int_equal(get(&g.s, g.a, BASE + PG), 50);
	/* locked pages stay */
	assert_int_equal(as_lock(g.a, BASE, 2 * PG), VM_OK);
	assert_int_equal(as_advise(g.a, BASE, 4 * PG, ADV_DONTNEED), VM_LOCKED);
	assert_int_equal(as_unlock(g.a, BASE, 2 * PG), VM_OK);
	/* rights */
	assert_int_equal(as_setprot(g.a, BASE, 64 * PG, PROT_R), VM_OK);
	assert_int_equal(as_checkprot(g.a, BASE, 64 * PG, RW), VM_PROT);
	assert_int_equal(try_put(&g.s, g.a, BASE + PG, 1), VM_PROT);
	assert_int_equal(as_setprot(g.a, BASE, 64 * PG, RW), VM_OK);
	/* the segment ends at the end of its object, and moves with its pages */
	to = 0;
	assert_int_equal(as_remap(g.a, BASE + 60 * PG, 4 * PG, 8 * PG, 0, &to), VM_EOF);
	assert_int_equal(as_unmap(g.a, BASE + 32 * PG, 32 * PG), VM_OK);
	assert_int_equal(as_remap(g.a, BASE, 32 * PG, 40 * PG, 0, &to), VM_OK);
	assert_int_equal(get(&g.s, g.a, BASE + 39 * PG), 1039);
	to = BASE + 32 * MB;
	assert_int_equal(
	    as_remap(g.a, BASE, 40 * PG, 40 * PG, REMAP_MAYMOVE | REMAP_FIXED, &to), VM_OK);
	assert_int_equal(get(&g.s, g.a, to + PG), 50);
	assert_sound(&g.s);
	paged_fini(&g);
}

static void pager_reads_dirties_writes_back(void **state)
{
	struct paged g;
	struct as *child;

	paged_init(&g);
	expect(&g.s, g.a, BASE, 64, 1000);
	expect(&g.s, g.b, BASE, 32, 1032);
	assert_int_equal(g.st.reads, 64);
	assert_int_equal(g.st.asked, 0);
	put(&g.s, g.a, BASE + 40 * PG, 5);
	put(&g.s, g.a, BASE + 40 * PG + 8, 6);
	/* the pager is asked once for a page, not for each write */
	assert_int_equal(g.st.asked, 1);
	assert_int_equal(get(&g.s, g.b, BASE + 8 * PG), 5);
	assert_int_equal(as_sync(g.b, BASE, 32 * PG, 0), VM_OK);
	assert_int_equal(g.st.word[40], 5);
	put(&g.s, g.b, BASE + 8 * PG, 7); /* the page was cleaned: the pager is asked again */
	assert_int_equal(g.st.asked, 2);
	g.st.refuse = true;
	assert_int_equal(try_put(&g.s, g.a, BASE, 1), VM_NOSWAP);
	assert_int_equal(get(&g.s, g.a, BASE), 1000);
	g.st.refuse = false;
	/* under pressure the store is written to and read from */
	assert_int_equal(map_anon(g.a, BASE + 16 * MB, 400, 0), VM_OK);
	for (unsigned i = 0; i < 64; i++)
		put(&g.s, g.a, BASE + i * PG, 2000 + i);
	fill(&g.s, g.a, BASE + 16 * MB, 400, 1);
	assert_true(g.st.writes > 1);
	expect(&g.s, g.a, BASE, 64, 2000);
	assert_true(g.st.reads > 64);
	assert_int_equal(as_dup(g.a, &child), VM_OK);
	put(&g.s, child, BASE, 3000);
	assert_int_equal(get(&g.s, g.a, BASE), 3000);
	assert_int_equal(as_unmap(child, BASE + PG, 5 * PG), VM_OK);
	assert_int_equal(as_lock(g.a, BASE, 4 * PG), VM_OK);
	assert_int_equal(as_fault(g.a, BASE, 8 * PG, F_SOFTLOCK, S_WRITE), VM_OK);
	assert_int_equal(as_sync(g.a, BASE, 8 * PG, SYNC_INVAL), VM_LOCKED);
	assert_sound(&g.s);
	assert_int_equal(as_fault(g.a, BASE, 8 * PG, F_SOFTUNLOCK, S_WRITE), VM_OK);
	as_free(child);
	paged_fini(&g);
}

static void dirty_log_names_each_written_page_once(void **state)
{
	struct paged g;
	uint64_t bits = 0;

	paged_init(&g);
	put(&g.s, g.a, BASE + 3 * PG, 1); /* before the log */
	assert_int_equal(pager_log_read(g.p, 0, 64, &bits, false), VM_INVAL);
	assert_int_equal(pager_log_start(g.p), VM_OK);
	assert_int_equal(pager_log_read(g.p, 0, 64, &bits, true), VM_OK);
	assert_int_equal(bits, 0);
	put(&g.s, g.a, BASE + 3 * PG, 2); /* dirty already, but a new write */
	put(&g.s, g.a, BASE + 9 * PG, 2);
	put(&g.s, g.b, BASE + PG, 2);
	(void)get(&g.s, g.a, BASE + 20 * PG);
	assert_int_equal(pager_log_read(g.p, 0, 64, &bits, false), VM_OK);
	assert_int_equal(bits, 1ull << 3 | 1ull << 9 | 1ull << 33);
	assert_int_equal(as_sync(g.a, BASE, 64 * PG, 0), VM_OK); /* write-back forgets nothing */
	assert_int_equal(pager_log_read(g.p, 0, 16, &bits, true), VM_OK);
	assert_int_equal(bits, 1ull << 3 | 1ull << 9);
	assert_int_equal(pager_log_read(g.p, 0, 64, &bits, true), VM_OK);
	assert_int_equal(bits, 1ull << 33);
	put(&g.s, g.a, BASE + 33 * PG, 3);
	assert_int_equal(pager_log_read(g.p, 0, 64, &bits, true), VM_OK);
	assert_int_equal(bits, 1ull << 33);
	/* a checkpoint: copy what the log names, round by round; the copy equals in the end */
	uint64_t copy[64], rnd = 7;
	for (unsigned i = 0; i < 64; i++)
		copy[i] = get(&g.s, g.a, BASE + i * PG);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned k = 0; k < 10; k++) {
			rnd = rnd * 6364136223846793005u + 1;
			put(&g.s, g.a, BASE + (rnd >> 33) % 64 * PG, rnd);
		}
		assert_int_equal(pager_log_read(g.p, 0, 64, &bits, true), VM_OK);
		assert_int_not_equal(bits, 0);
		for (unsigned i = 0; i < 64; i++)
			if ((bits >> i & 1) != 0)
				copy[i] = get(&g.s, g.a, BASE + i * PG);
		for (unsigned i = 0; i < 64; i++)
			assert_int_equal(copy[i], get(&g.s, g.a, BASE + i * PG));
	}
	assert_int_equal(vm_statistics(g.s.vm)->dirty_log > 20, 1);
	pager_log_stop(g.p);
	paged_fini(&g);
}

struct waiting {
	struct paged *g;
	enum vm_err got;
	bool other;
};

static void waits_for_the_pager(void *arg)
{
	struct waiting *w = arg;
	uint64_t v;

	w->got = try_get(&w->g->s, w->g->a, BASE, &v);
}

static void faults_elsewhere(void *arg)
{
	struct waiting *w = arg;

	while (w->g->st.pending == NULL)
		mach_yield();
	put(&w->g->s, w->g->a, BASE + 16 * MB, 1); /* the same space: no other access is delayed */
	w->other = true;
	pager_detach(w->g->p);
}

/* A pager that never answers: detaching it fails its own faults only. */
static void detach_fails_who_waits(void **state)
{
	struct paged g;
	struct waiting w = { .g = &g };
	uint64_t v;

	paged_init(&g);
	assert_int_equal(map_anon(g.a, BASE + 16 * MB, 4, 0), VM_OK);
	g.st.deaf = true;
	sim_spawn(g.s.m, waits_for_the_pager, &w, "waiter");
	sim_spawn(g.s.m, faults_elsewhere, &w, "other");
	sim_run(g.s.m);
	assert_true(w.other);
	assert_int_equal(w.got, VM_IO);
	assert_int_equal(try_get(&g.s, g.b, BASE, &v), VM_IO);
	assert_int_equal(g.st.reads, 1);
	paged_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_heap_is_wired_and_guarded),
		cmocka_unit_test(kernel_heap_survives_failures),
		cmocka_unit_test(an_exhausted_arena_takes_back_its_caches),
		cmocka_unit_test(kernel_stacks_page_and_have_redzones),
		cmocka_unit_test(window_is_coherent_with_mappings),
		cmocka_unit_test(a_slot_used_again_shows_the_new_piece),
		cmocka_unit_test(device_frames_are_mapped_in_each_format),
		cmocka_unit_test(devices_answer_every_call),
		cmocka_unit_test(each_format_keeps_how_a_device_is_cached),
		cmocka_unit_test(pager_reads_dirties_writes_back),
		cmocka_unit_test(pagers_answer_every_call),
		cmocka_unit_test(dirty_log_names_each_written_page_once),
		cmocka_unit_test(detach_fails_who_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
