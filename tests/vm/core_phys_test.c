/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The physical layer against models: pages and their names, the buddy allocator; every allocation made to fail in
 * turn; two threads at the page locks. Runs on the stand-in machine of mach_stub.c.
 */
#include "machine/stub/vnode_stub.h"
#include "tests/vm/phys_box.h"

#include <pthread.h>

static void count_inactive(struct vnode *vp)
{
	if (vp->v_data != NULL)
		(*(unsigned *)vp->v_data)++;
}

static const struct vnode_ops no_vnode_ops = {
	.vo_name = "none",
	.vo_start = stub_refuse,
	.vo_poll = stub_poll,
	.vo_discard = stub_discard,
	.vo_sync = stub_sync,
	.vo_size = stub_size,
	.vo_inactive = count_inactive,
};

static void new_page(struct box *b, struct vnode *vn, unsigned n, unsigned flags)
{
	struct page *pp;

	assert_int_equal(page_create(b->b_vm, vn, vm_ptob(n), flags, &pp), VM_OK);
	page_filled(b->b_vm, pp, false);
	page_unlock(b->b_vm, pp);
}

/* ---- pages against a model ---- */

#define M_VNODES 3u
#define M_PAGES 96u /* per vnode: three times 96 names over fewer frames */

enum m_state { M_NONE, M_USED, M_CACHED };

struct model {
	struct vm *m_vm;
	struct vnode m_vn[M_VNODES];
	enum m_state m_state[M_VNODES][M_PAGES];
	uint32_t m_content[M_VNODES][M_PAGES];
	unsigned m_wired[M_VNODES][M_PAGES];
	uint32_t m_next;
	unsigned m_used, m_lost, m_found, m_nomem, m_exist;
};

static uint32_t *content_of(struct vm *vm, struct page *pp)
{
	return mach_frame_kva(vm->vm_mach, page_pfn(vm, pp));
}

/*
 * Looks the page up; learns if a cached page was recycled. The page is returned locked E, with the
 * right contents.
 */
static struct page *model_lookup(struct model *m, unsigned v, unsigned i)
{
	struct page *pp;
	bool exists = page_exists(m->m_vm, &m->m_vn[v], vm_ptob(i));

	pp = rnd(2) ? page_lookup(m->m_vm, &m->m_vn[v], vm_ptob(i), SE_EXCL)
		    : page_lookup_nowait(m->m_vm, &m->m_vn[v], vm_ptob(i), SE_EXCL);
	assert_int_equal(exists, pp != NULL);
	if (m->m_state[v][i] == M_USED)
		assert_non_null(pp);
	if (m->m_state[v][i] == M_NONE)
		assert_null(pp);
	if (pp == NULL) {
		m->m_lost += m->m_state[v][i] == M_CACHED;
		m->m_state[v][i] = M_NONE;
		return NULL;
	}
	assert_ptr_equal(pp->p_vnode, &m->m_vn[v]);
	assert_int_equal(pp->p_offset, vm_ptob(i));
	assert_int_equal(*content_of(m->m_vm, pp), m->m_content[v][i]);
	m->m_found++;
	if (m->m_state[v][i] == M_CACHED)
		m->m_used++;
	m->m_state[v][i] = M_USED;
	return pp;
}

static void model_create(struct model *m, unsigned v, unsigned i)
{
	bool zero = rnd(2), exists = page_exists(m->m_vm, &m->m_vn[v], vm_ptob(i));
	struct page *pp;
	enum vm_err e;

	if (exists)
		assert_int_not_equal(m->m_state[v][i], M_NONE);
	else
		assert_int_not_equal(m->m_state[v][i], M_USED);
	e = page_create(m->m_vm, &m->m_vn[v], vm_ptob(i), zero ? PG_ZERO : 0, &pp);
	if (e == VM_NOMEM) {
		m->m_nomem++;
		assert_true(m->m_vm->vm_nfree <= m->m_vm->vm_reserve);
		assert_int_equal(page_cached(m->m_vm), 0);
		return;
	}
	if (e == VM_EXIST) {
		/* Allocating a frame may have recycled a cached name, even this name. */
		assert_true(exists);
		m->m_exist++;
		return;
	}
	assert_int_equal(e, VM_OK);
	if (zero) {
		for (unsigned w = 0; w < VM_PAGESIZE / sizeof(uint32_t); w++)
			assert_int_equal(content_of(m->m_vm, pp)[w], 0);
	}
	*content_of(m->m_vm, pp) = m->m_content[v][i] = ++m->m_next;
	m->m_state[v][i] = M_USED;
	m->m_used++;
	assert_null(page_lookup_nowait(m->m_vm, &m->m_vn[v], vm_ptob(i), SE_SHARED));
	page_filled(m->m_vm, pp, rnd(4) == 0);
	page_unlock(m->m_vm, pp);
}

static void model_release(struct model *m, unsigned v, unsigned i)
{
	struct page *pp = model_lookup(m, v, i);

	if (pp == NULL)
		return;
	if (m->m_wired[v][i] > 0) {
		page_unlock(m->m_vm, pp);
		return;
	}
	m->m_used--;
	switch (rnd(4)) {
	case 0:
		page_destroy(m->m_vm, pp);
		m->m_state[v][i] = M_NONE;
		break;
	case 1:
		page_nrm_set(pp, P_MOD | P_REF); /* modified: has no right to a name once free */
		page_free(m->m_vm, pp, false);
		m->m_state[v][i] = M_NONE;
		break;
	default: page_free(m->m_vm, pp, rnd(2) == 0); m->m_state[v][i] = M_CACHED;
	}
}

static void model_wire(struct model *m, unsigned v, unsigned i)
{
	struct page *pp = model_lookup(m, v, i);
	enum vm_err e;

	if (pp == NULL)
		return;
	if (m->m_wired[v][i] > 0 && rnd(2)) {
		page_unwire(m->m_vm, pp);
		m->m_wired[v][i]--;
	} else {
		page_downgrade(m->m_vm, pp);
		e = page_wire(m->m_vm, pp);
		if (e == VM_OK)
			m->m_wired[v][i]++;
		else
			assert_int_equal(e, VM_LIMIT);
	}
	assert_int_equal(pp->p_lckcnt, m->m_wired[v][i]);
	assert_int_equal((pp->p_flags & P_QUEUED) != 0, m->m_wired[v][i] == 0);
	page_unlock(m->m_vm, pp);
}

static void model_rename(struct model *m, unsigned v, unsigned i)
{
	unsigned tv = rnd(M_VNODES), ti = rnd(M_PAGES);
	struct page *pp;

	if (m->m_state[tv][ti] == M_USED || (pp = model_lookup(m, v, i)) == NULL)
		return;
	page_rename(m->m_vm, pp, &m->m_vn[tv], vm_ptob(ti));
	page_unlock(m->m_vm, pp);
	m->m_state[tv][ti] = M_USED;
	m->m_content[tv][ti] = m->m_content[v][i];
	m->m_wired[tv][ti] = m->m_wired[v][i];
	m->m_state[v][i] = M_NONE;
	m->m_wired[v][i] = 0;
}

static void model_purge(struct model *m, unsigned v, unsigned first, unsigned n)
{
	page_vnode_purge(m->m_vm, &m->m_vn[v], vm_ptob(first), vm_ptob(n));
	for (unsigned i = first; i < M_PAGES && (n == 0 || i < first + n); i++) {
		m->m_used -= m->m_state[v][i] == M_USED;
		m->m_state[v][i] = M_NONE;
		m->m_wired[v][i] = 0;
		assert_false(page_exists(m->m_vm, &m->m_vn[v], vm_ptob(i)));
	}
}

static void model_check(struct model *m)
{
	struct vm_usage u;
	unsigned wired = 0;

	for (unsigned v = 0; v < M_VNODES; v++) {
		for (unsigned i = 0; i < M_PAGES; i++)
			wired += m->m_wired[v][i] > 0;
	}
	vm_usage(m->m_vm, &u);
	assert_int_equal(u.vu_wired, wired);
	assert_int_equal(u.vu_free + u.vu_cache + u.vu_kernel + m->m_used, u.vu_frames);
	assert_sound(m->m_vm);
}

static void model_step(struct model *m)
{
	unsigned v = rnd(M_VNODES), i = rnd(M_PAGES), what = rnd(100);
	struct page *pp;

	if (what < 45)
		model_create(m, v, i);
	else if (what < 60) {
		if ((pp = model_lookup(m, v, i)) != NULL)
			page_unlock(m->m_vm, pp);
	} else if (what < 85)
		model_release(m, v, i);
	else if (what < 92)
		model_wire(m, v, i);
	else if (what < 99)
		model_rename(m, v, i);
	else
		model_purge(m, v, i, rnd(2) ? 0 : rnd(8) + 1);
}

static void pages_are_as_the_model_says(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct box b = box_open(160, 160, seed * 7919);
		struct model *m = calloc(1, sizeof(*m));
		unsigned gone = 0;

		m->m_vm = b.b_vm;
		for (unsigned v = 0; v < M_VNODES; v++)
			vnode_init(&m->m_vn[v], b.b_vm, &no_vnode_ops, &gone);
		for (unsigned step = 0; step < 6000; step++) {
			model_step(m);
			if (step % 61 == 0)
				model_check(m);
		}
		assert_true(
		    m->m_found > 100 && m->m_lost > 10 && m->m_exist > 10 && m->m_nomem > 0);
		assert_true(vm_statistics(b.b_vm)->reclaim > 10);
		assert_true(((struct fifo *)b.b_vm->vm_polstate)->f_touched > 100);
		assert_true(((struct fifo *)b.b_vm->vm_polstate)->f_evicted > 100);
		for (unsigned v = 0; v < M_VNODES; v++)
			vnode_rele(&m->m_vn[v]);
		assert_int_equal(gone, M_VNODES);
		m->m_used = 0;
		memset(m->m_wired, 0, sizeof(m->m_wired));
		model_check(m);
		box_close(&b);
		free(m);
	}
}

/* Purges that are long, that are bounded by name and by list, with some pages cached and some wired. */
static void long_purges_take_what_they_may(void **state)
{
	struct box b = box_open(2048, 2048, 9);
	struct vnode vn;
	struct page *pp;

	(void)state;
	vnode_init(&vn, b.b_vm, &no_vnode_ops, NULL);
	for (unsigned i = 0; i < 1500; i++) {
		assert_int_equal(page_create(b.b_vm, &vn, vm_ptob(i * 3), 0, &pp), VM_OK);
		page_filled(b.b_vm, pp, false);
		if (i % 5 == 0)
			assert_int_equal(page_wire(b.b_vm, pp), VM_OK);
		if (i % 5 == 1)
			page_free(b.b_vm, pp, false);
		else
			page_unlock(b.b_vm, pp);
	}
	page_vnode_purge(b.b_vm, &vn, vm_ptob(3000), 0); /* by list: to the end */
	assert_int_equal(vn.v_npages, 1000);
	page_vnode_purge(b.b_vm, &vn, vm_ptob(300), vm_ptob(600)); /* by name */
	assert_int_equal(vn.v_npages, 800);
	page_vnode_purge(b.b_vm, &vn, vm_ptob(901), vm_ptob(1)); /* nothing there */
	assert_int_equal(vn.v_npages, 800);
	assert_int_equal(b.b_vm->vm_nwired, 160);
	assert_sound(b.b_vm);
	page_vnode_purge(b.b_vm, &vn, 0, UINT64_MAX);
	assert_int_equal(vn.v_npages, 0);
	assert_int_equal(b.b_vm->vm_nwired, 0);
	vnode_rele(&vn);
	box_close(&b);
}

static void unneeded_pages_go_first_and_the_reserve_last(void **state)
{
	struct box b = box_open(64, 64, 1);
	struct vnode vn;
	struct page *pp;
	unsigned n = 0;

	(void)state;
	vnode_init(&vn, b.b_vm, &no_vnode_ops, NULL);
	while (page_create(b.b_vm, &vn, vm_ptob(n), 0, &pp) == VM_OK) {
		page_filled(b.b_vm, pp, false);
		page_unlock(b.b_vm, pp);
		n++;
	}
	for (unsigned i = 0; i < 4; i++)
		page_free(b.b_vm, page_lookup(b.b_vm, &vn, vm_ptob(i), SE_EXCL), i == 3);
	/*
	 * The page marked as not needed is recycled first, then the oldest; the reserve is
	 * untouched.
	 */
	assert_int_equal(page_create(b.b_vm, &vn, vm_ptob(n), 0, &pp), VM_OK);
	page_destroy(b.b_vm, pp);
	assert_false(page_exists(b.b_vm, &vn, vm_ptob(3)));
	assert_true(page_exists(b.b_vm, &vn, vm_ptob(0)));
	/* Only page-out may use the reserve. */
	while (page_create(b.b_vm, &vn, vm_ptob(n), 0, &pp) == VM_OK)
		page_unlock(b.b_vm, pp), n++;
	assert_int_equal(b.b_vm->vm_nfree, b.b_vm->vm_reserve);
	assert_int_equal(page_create(b.b_vm, &vn, vm_ptob(n + 1), PG_RESERVE, &pp), VM_OK);
	page_unlock(b.b_vm, pp);
	assert_true(vm_statistics(b.b_vm)->alloc_reserve > 0);
	for (unsigned i = 0; i <= n + 1; i++) {
		pp = page_lookup_nowait(b.b_vm, &vn, vm_ptob(i), SE_EXCL);
		if (pp != NULL && (pp->p_flags & P_IOLOCK))
			page_io_unlock(b.b_vm, pp);
		if (pp != NULL)
			page_destroy(b.b_vm, pp);
	}
	vnode_rele(&vn);
	box_close(&b);
}

/* ---- buddy ---- */

static void the_buddy_allocator_is_as_the_model_says(void **state)
{
	enum { FRAMES = 1500, BLOCKS = 200 };
	struct box b = box_open(FRAMES, FRAMES, 42);
	struct {
		struct page *pp;
		unsigned order;
	} blk[BLOCKS] = { 0 };
	bool used[FRAMES] = { 0 };
	uint32_t before[VM_MAXORDER + 1];

	(void)state;
	(void)kmem_reap(b.b_vm);
	for (unsigned k = 0; k <= VM_MAXORDER; k++)
		before[k] = b.b_vm->vm_buddy[k].q_len;
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i = rnd(BLOCKS), order = rnd(10) ? rnd(4) : rnd(9);
		pfn_t pfn;

		if (blk[i].pp != NULL) {
			pfn = page_pfn(b.b_vm, blk[i].pp);
			for (pfn_t f = 0; f < 1u << blk[i].order; f++)
				used[pfn + f] = false;
			page_kfree(b.b_vm, blk[i].pp, blk[i].order);
			blk[i].pp = NULL;
		} else if ((blk[i].pp = page_kalloc(b.b_vm, order, 0)) != NULL) {
			blk[i].order = order;
			pfn = page_pfn(b.b_vm, blk[i].pp);
			assert_int_equal(pfn & ((1u << order) - 1), 0);
			for (pfn_t f = 0; f < 1u << order; f++) {
				assert_false(used[pfn + f]);
				used[pfn + f] = true;
			}
		}
		if (step % 257 == 0)
			assert_sound(b.b_vm);
	}
	assert_true(vm_statistics(b.b_vm)->alloc_fail > 0);
	for (unsigned i = 0; i < BLOCKS; i++) {
		if (blk[i].pp != NULL)
			page_kfree(b.b_vm, blk[i].pp, blk[i].order);
	}
	/* All blocks are joined again. */
	for (unsigned k = 0; k <= VM_MAXORDER; k++)
		assert_int_equal(b.b_vm->vm_buddy[k].q_len, before[k]);
	box_close(&b);
}

/*
 * The last of an odd number of frames has no buddy: the memory behind the table of frames (zeroes,
 * as of a free frame) does not count as one.
 */
static void the_last_frame_of_an_odd_number_has_no_mate(void **state)
{
	static struct page *taken[300];

	(void)state;
	for (pfn_t frames = 65; frames < 300; frames += 26) {
		struct box b = box_open(frames, frames, 5);
		unsigned n = 0;

		while ((taken[n] = page_kalloc(b.b_vm, 0, 0)) != NULL)
			assert_true(page_pfn(b.b_vm, taken[n++]) < frames);
		assert_true(n > 32);
		for (unsigned round = 0; round < 2; round++) {
			for (unsigned i = 0; i < n; i++)
				page_kfree(b.b_vm, taken[i], 0);
			assert_sound(b.b_vm);
			for (unsigned i = 0; i < n; i++)
				assert_non_null(taken[i] = page_kalloc(b.b_vm, 0, 0));
			assert_null(page_kalloc(b.b_vm, 0, 0));
		}
		for (unsigned i = n; i-- > 0;)
			page_kfree(b.b_vm, taken[i], 0);
		box_close(&b);
	}
}

static void frames_come_and_go(void **state)
{
	struct box b = box_open(1000, 100, 3);
	struct vnode vn;
	unsigned n = 0;

	(void)state;
	vnode_init(&vn, b.b_vm, &no_vnode_ops, NULL);
	for (; n < 800; n++)
		new_page(&b, &vn, n, 0);
	assert_true(b.b_vm->vm_nonline >= 800 && b.b_vm->vm_nonline <= 1000);
	assert_int_equal(stub_grant_left(b.b_mach), 1000 - b.b_vm->vm_nonline);
	assert_sound(b.b_vm);
	for (unsigned i = 0; i < 800; i++)
		page_free(b.b_vm, page_lookup(b.b_vm, &vn, vm_ptob(i), SE_EXCL), false);
	assert_int_equal(vm_shrink(b.b_vm, 700), 700);
	assert_int_equal(stub_grant_left(b.b_mach), 1000 - b.b_vm->vm_nonline);
	assert_sound(b.b_vm);
	/*
	 * The system gives back the frames that it can spare, keeps those it needs, and grows again
	 * on demand.
	 */
	assert_true(vm_shrink(b.b_vm, 1000) < 300);
	assert_sound(b.b_vm);
	page_vnode_purge(b.b_vm, &vn, 0, 0);
	for (n = 0; n < 500; n++)
		new_page(&b, &vn, n, PG_ZERO);
	vnode_rele(&vn);
	box_close(&b);
}

/* ---- every allocation fails once ---- */

static bool mark(void *obj, void *arg)
{
	(void)arg;
	*(uint32_t *)obj = 0x1234;
	return true;
}

static void unmark(void *obj, void *arg)
{
	(void)arg;
	if (*(uint32_t *)obj != 0x1234)
		mach_panic("an object lost its constructed state");
}

/* Makes a few objects of every kind; undoes everything, whatever fails. True if all succeeded. */
static bool inject_scenario(struct vm *vm)
{
	struct kmem_cache *c = kmem_cache_create(vm, "scenario", 100, 0, mark, unmark, NULL);
	struct vmem *v = vmem_create(vm, "scenario", 0, 1 << 20, 4096);
	bool ok = c != NULL && v != NULL;
	struct vnode vn;
	uint64_t a;

	vnode_init(&vn, vm, &no_vnode_ops, NULL);
	for (unsigned i = 0; i < 100; i++) {
		void *o = c != NULL ? kmem_cache_alloc(c, KM_NOSLEEP) : NULL;
		void *large = kmem_alloc(vm, 30000, KM_NOSLEEP),
		     *small = kmem_zalloc(vm, 60 * i + 1, KM_NOSLEEP);
		bool got = v != NULL && vmem_xalloc(v, 5000, 8192, 4096, 0, 0, 0, KM_NOSLEEP, &a);
		struct page *pp;

		ok = ok && o != NULL && large != NULL && small != NULL && got;
		if (page_create(vm, &vn, vm_ptob(i), 0, &pp) == VM_OK) {
			page_filled(vm, pp, false);
			page_unlock(vm, pp);
		} else {
			ok = false;
		}
		if (o != NULL)
			kmem_cache_free(c, o);
		kmem_free(vm, large, 30000);
		kmem_free(vm, small, 60 * i + 1);
		if (got)
			vmem_free(v, a, 5000);
	}
	vnode_rele(&vn);
	if (v != NULL)
		vmem_destroy(v);
	if (c != NULL)
		kmem_cache_destroy(c);
	return ok;
}

static void every_allocation_fails_cleanly(void **state)
{
	static const enum vm_inject kinds[] = { VM_INJECT_PAGE, VM_INJECT_KMEM };

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		struct box b = box_open(512, 512, 1);
		uint64_t nth = 1, failures = 0, sites;
		uint32_t free_before;

		assert_true(inject_scenario(b.b_vm));
		(void)kmem_reap(b.b_vm);
		free_before = b.b_vm->vm_nfree;
		vm_inject(b.b_vm, kinds[k], 0);
		assert_true(inject_scenario(b.b_vm));
		sites = vm_inject_seen(b.b_vm, kinds[k]);
		assert_true(sites > 100);
		for (; nth <= sites; nth++) {
			(void)kmem_reap(b.b_vm);
			vm_inject(b.b_vm, kinds[k], nth);
			failures += !inject_scenario(b.b_vm);
			vm_inject(b.b_vm, kinds[k], 0);
			(void)kmem_reap(b.b_vm);
			assert_int_equal(b.b_vm->vm_nfree, free_before);
			if (nth % 16 == 0)
				assert_sound(b.b_vm);
		}
		assert_true(failures > 90);
		box_close(&b);
	}
}

/* ---- two threads at the page locks ---- */

struct ljob {
	struct vm *l_vm;
	struct vnode *l_vn;
	uint64_t l_seed;
	unsigned l_cpu, l_created;
};

#define L_NAMES 6u
static int l_writers[L_NAMES], l_readers[L_NAMES];

static void lock_note(unsigned i, enum page_se se, int n)
{
	if (__atomic_add_fetch(se == SE_EXCL ? &l_writers[i] : &l_readers[i], n, __ATOMIC_SEQ_CST) >
		1 &&
	    se == SE_EXCL)
		mach_panic("two exclusive holders of a page");
	if (n > 0 &&
	    __atomic_load_n(se == SE_EXCL ? &l_readers[i] : &l_writers[i], __ATOMIC_SEQ_CST) != 0)
		mach_panic("a shared and an exclusive holder of a page");
}

static struct page *lock_create(struct ljob *l, unsigned i)
{
	struct page *pp;

	if (page_create(l->l_vm, l->l_vn, vm_ptob(i), PG_ZERO, &pp) != VM_OK)
		return NULL;
	lock_note(i, SE_EXCL, 1);
	*content_of(l->l_vm, pp) = i;
	l->l_created++;
	page_filled(l->l_vm, pp, false);
	return pp;
}

static void *lock_worker(void *arg)
{
	struct ljob *l = arg;
	uint64_t x = l->l_seed;

	stub_cpu_set(l->l_cpu);
	for (unsigned step = 0; step < 60000; step++) {
		enum page_se se;
		struct page *pp;
		unsigned i;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		i = (unsigned)(x >> 20) % L_NAMES;
		se = (x >> 40) & 1 ? SE_EXCL : SE_SHARED;
		pp = page_lookup(l->l_vm, l->l_vn, vm_ptob(i), se);
		if (pp != NULL) {
			lock_note(i, se, 1);
		} else {
			if ((pp = lock_create(l, i)) == NULL)
				continue;
			se = SE_EXCL;
		}
		if (*content_of(l->l_vm, pp) != i)
			mach_panic("a page has the contents of another");
		if (se == SE_SHARED && (x >> 41) % 4 == 0) {
			lock_note(i, SE_SHARED, -1);
			if (page_tryupgrade(l->l_vm, pp)) {
				se = SE_EXCL;
				lock_note(i, SE_EXCL, 1);
			} else {
				lock_note(i, SE_SHARED, 1);
			}
		}
		if (se == SE_SHARED) {
			lock_note(i, SE_SHARED, -1);
			page_unlock(l->l_vm, pp);
			continue;
		}
		lock_note(i, SE_EXCL, -1);
		switch ((x >> 43) % 8) {
		case 0: page_destroy(l->l_vm, pp); break;
		case 1:
		case 2: page_free(l->l_vm, pp, false); break;
		case 3:
			page_io_lock(l->l_vm, pp);
			page_io_unlock(l->l_vm, pp);
			page_unlock(l->l_vm, pp);
			break;
		case 4:
			page_downgrade(l->l_vm, pp);
			page_unlock(l->l_vm, pp);
			break;
		default: page_unlock(l->l_vm, pp);
		}
		if (step % 5000 == 4999)
			page_vnode_purge(l->l_vm, l->l_vn, 0, vm_ptob(L_NAMES));
	}
	return NULL;
}

static void page_locks_exclude(void **state)
{
	enum { THREADS = 4 };
	struct box b = box_open(64, 64, 1);
	struct ljob job[THREADS];
	pthread_t th[THREADS];
	struct vnode vn;

	(void)state;
	memset(l_readers, 0, sizeof(l_readers));
	memset(l_writers, 0, sizeof(l_writers));
	vnode_init(&vn, b.b_vm, &no_vnode_ops, NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		job[i] =
		    (struct ljob){ .l_vm = b.b_vm, .l_vn = &vn, .l_seed = 5 + i, .l_cpu = i % 2 };
		assert_int_equal(pthread_create(&th[i], NULL, lock_worker, &job[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(th[i], NULL);
		assert_true(job[i].l_created > 0);
	}
	assert_sound(b.b_vm);
	vnode_rele(&vn);
	box_close(&b);
}

/* ---- the checker finds violations ---- */

static void count_violation(void *arg, const char *text)
{
	(void)text;
	(*(unsigned *)arg)++;
}

static void the_checker_sees_what_is_wrong(void **state)
{
	struct box b = box_open(64, 64, 1);
	struct vnode vn;
	struct page *pp, *q;
	unsigned n = 0;

	(void)state;
	vnode_init(&vn, b.b_vm, &no_vnode_ops, NULL);
	assert_int_equal(page_create(b.b_vm, &vn, 0, 0, &pp), VM_OK);
	page_filled(b.b_vm, pp, false);
	page_unlock(b.b_vm, pp);
	pp->p_offset = VM_PAGESIZE; /* in the wrong chain */
	assert_true(vm_check(b.b_vm, count_violation, &n) > 0 && n > 0);
	pp->p_offset = 0;
	pp->p_lckcnt = 1; /* wired without being counted */
	assert_true(vm_check(b.b_vm, count_violation, &n) > 0);
	pp->p_lckcnt = 0;
	vn.v_npages++;
	assert_true(vm_check(b.b_vm, count_violation, &n) > 0);
	vn.v_npages--;
	assert_non_null(q = page_kalloc(b.b_vm, 0, 0));
	q->p_flags = P_FREE; /* lost */
	assert_true(vm_check(b.b_vm, count_violation, &n) > 0);
	q->p_flags = P_KERNEL;
	page_kfree(b.b_vm, q, 0);
	b.b_vm->vm_nfree++;
	assert_true(vm_check(b.b_vm, count_violation, &n) > 0);
	b.b_vm->vm_nfree--;
	assert_sound(b.b_vm);
	assert_string_equal(vm_err_name(VM_LIMIT), "limit reached");
	assert_string_equal(vm_err_name((enum vm_err)99), "unknown");
	vnode_rele(&vn);
	box_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_as_the_model_says),
		cmocka_unit_test(long_purges_take_what_they_may),
		cmocka_unit_test(unneeded_pages_go_first_and_the_reserve_last),
		cmocka_unit_test(the_buddy_allocator_is_as_the_model_says),
		cmocka_unit_test(the_last_frame_of_an_odd_number_has_no_mate),
		cmocka_unit_test(frames_come_and_go),
		cmocka_unit_test(every_allocation_fails_cleanly),
		cmocka_unit_test(page_locks_exclude),
		cmocka_unit_test(the_checker_sees_what_is_wrong),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
