/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The physical layer against models: pages and their names, the buddy allocator, kernel memory, arenas; every
 * allocation made to fail in turn; two threads at the page locks. Runs on the stand-in machine of mach_stub.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "../vm/impl.h"
#include "mach_stub.h"

/* ---- helpers ---- */

static uint64_t rnd_state;

static uint32_t rnd(uint32_t below)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return (uint32_t)((rnd_state >> 16) % below);
}

static void print_violation(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "violation: %s\n", text);
}

static void assert_sound(struct vm *vm)
{
	assert_int_equal(vm_check(vm, print_violation, NULL), 0);
}

/* A policy that keeps count of what it was told and refuses nonsense. */
struct fifo {
	struct page *f_pages;
	struct page_queue f_queue;
	uint64_t f_touched, f_evicted;
};

static size_t fifo_size(pfn_t nframes)
{
	(void)nframes;
	return sizeof(struct fifo);
}

static void fifo_init(void *st, const struct pol_env *env)
{
	struct fifo *f = st;

	f->f_pages = env->pe_pages;
	page_queue_init(&f->f_queue);
}

static void fifo_resize(void *st, pfn_t room)
{
	(void)st, (void)room;
}

static bool fifo_miss(void *st, uint64_t id, bool fresh)
{
	(void)st, (void)id, (void)fresh;
	return false;
}

static void fifo_insert(void *st, struct page *pp, uint64_t id, bool prefetched)
{
	struct fifo *f = st;

	(void)prefetched;
	if (id != page_name_hash(pp->p_vnode, pp->p_offset))
		mach_panic("fifo: insert under another name");
	page_queue_push_tail(page_vm(pp), &f->f_queue, pp);
}

static void fifo_remove(void *st, struct page *pp, uint64_t id, bool evicted)
{
	struct fifo *f = st;

	if (id != page_name_hash(pp->p_vnode, pp->p_offset))
		mach_panic("fifo: remove under another name");
	page_queue_remove(page_vm(pp), &f->f_queue, pp);
	f->f_evicted += evicted;
}

static void fifo_touch(void *st, struct page *pp)
{
	(void)pp;
	((struct fifo *)st)->f_touched++;
}

static struct page *fifo_next(void *st, enum pol_ask *ask)
{
	struct fifo *f = st;

	*ask = POL_ASK_EVICT;
	return f->f_queue.q_head == PAGE_NIL ? NULL : &f->f_pages[f->f_queue.q_head];
}

static void fifo_seen(void *st, struct page *pp, bool referenced, bool skipped)
{
	(void)st, (void)pp, (void)referenced, (void)skipped;
}

static void fifo_cool(void *st, struct page *pp)
{
	(void)st, (void)pp;
}

static uint32_t fifo_pages(const void *st)
{
	return ((const struct fifo *)st)->f_queue.q_len;
}

static const struct policy_ops fifo_policy = {
	.pol_name = "fifo",
	.pol_size = fifo_size,
	.pol_init = fifo_init,
	.pol_resize = fifo_resize,
	.pol_miss = fifo_miss,
	.pol_insert = fifo_insert,
	.pol_remove = fifo_remove,
	.pol_touch = fifo_touch,
	.pol_next = fifo_next,
	.pol_cool = fifo_cool,
	.pol_pages = fifo_pages,
	.pol_seen = fifo_seen,
};

static void no_start(struct vnode *vp, struct vm_io *io)
{
	(void)vp;
	io->io_err = VM_IO;
	io->io_done(io);
}

static void no_poll(struct vnode *vp, bool wait)
{
	(void)vp, (void)wait;
}

static void no_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
}

static enum vm_err no_sync(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
	return VM_OK;
}

static uint64_t no_size(struct vnode *vp)
{
	(void)vp;
	return 1ull << 40;
}

static void count_inactive(struct vnode *vp)
{
	if (vp->v_data != NULL)
		(*(unsigned *)vp->v_data)++;
}

static const struct vnode_ops no_vnode_ops = {
	.vo_name = "none",
	.vo_start = no_start,
	.vo_poll = no_poll,
	.vo_discard = no_discard,
	.vo_sync = no_sync,
	.vo_size = no_size,
	.vo_inactive = count_inactive,
};

struct box {
	struct mach *b_mach;
	struct vm *b_vm;
};

static struct box box_open(pfn_t nframes, pfn_t online, uint64_t seed)
{
	struct box b = { .b_mach = stub_create(nframes, nframes - online, 2) };
	struct vm_config vc = { .vc_mach = b.b_mach, .vc_frames = online, .vc_policy = &fifo_policy };

	rnd_state = seed;
	stub_cpu_set(0);
	assert_int_equal(vm_create(&vc, &b.b_vm), VM_OK);
	assert_sound(b.b_vm);
	return b;
}

static void box_close(struct box *b)
{
	assert_sound(b->b_vm);
	(void)kmem_reap(b->b_vm);
	vm_destroy(b->b_vm);
	stub_destroy(b->b_mach);
}

static void new_page(struct box *b, struct vnode *vn, unsigned n, unsigned flags)
{
	struct page *pp;

	assert_int_equal(page_create(b->b_vm, vn, vm_ptob(n), flags, &pp), VM_OK);
	page_filled(b->b_vm, pp, false);
	page_unlock(b->b_vm, pp);
}

/* ---- pages against a model ---- */

#define M_VNODES 3u
#define M_PAGES	 96u /* per vnode: three times 96 names over fewer frames */

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

/* Looks up; learns that a cached page was recycled. The page comes back locked E, with the right contents. */
static struct page *model_lookup(struct model *m, unsigned v, unsigned i)
{
	struct page *pp;
	bool exists = page_exists(m->m_vm, &m->m_vn[v], vm_ptob(i));

	pp = rnd(2) ? page_lookup(m->m_vm, &m->m_vn[v], vm_ptob(i), SE_EXCL) :
		      page_lookup_nowait(m->m_vm, &m->m_vn[v], vm_ptob(i), SE_EXCL);
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
		/* Taking a frame for it may have recycled a cached name, even this one. */
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
	default:
		page_free(m->m_vm, pp, rnd(2) == 0);
		m->m_state[v][i] = M_CACHED;
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

static void test_pages_model(void **state)
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
		assert_true(m->m_found > 100 && m->m_lost > 10 && m->m_exist > 10 && m->m_nomem > 0);
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
static void test_purge_large(void **state)
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

static void test_cache_order(void **state)
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
	/* The one not needed goes first, then the oldest; the reserve is still whole. */
	assert_int_equal(page_create(b.b_vm, &vn, vm_ptob(n), 0, &pp), VM_OK);
	page_destroy(b.b_vm, pp);
	assert_false(page_exists(b.b_vm, &vn, vm_ptob(3)));
	assert_true(page_exists(b.b_vm, &vn, vm_ptob(0)));
	/* The reserve opens to page-out alone. */
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

static void test_buddy(void **state)
{
	enum { FRAMES = 1500, BLOCKS = 200 };
	struct box b = box_open(FRAMES, FRAMES, 42);
	struct { struct page *pp; unsigned order; } blk[BLOCKS] = { 0 };
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
	/* Everything has come together again. */
	for (unsigned k = 0; k <= VM_MAXORDER; k++)
		assert_int_equal(b.b_vm->vm_buddy[k].q_len, before[k]);
	box_close(&b);
}

static void test_grow_shrink(void **state)
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
	/* It gives what it can, keeps what it needs, and grows again on demand. */
	assert_true(vm_shrink(b.b_vm, 1000) < 300);
	assert_sound(b.b_vm);
	page_vnode_purge(b.b_vm, &vn, 0, 0);
	for (n = 0; n < 500; n++)
		new_page(&b, &vn, n, PG_ZERO);
	vnode_rele(&vn);
	box_close(&b);
}

/* ---- kernel memory ---- */

struct thing {
	uint64_t t_magic;
	struct thing *t_self;
	unsigned char t_body[72];
};

static unsigned things_made, things_unmade;

static bool thing_ctor(void *obj, void *arg)
{
	struct thing *t = obj;

	if (arg != NULL && --*(int *)arg == 0)
		return false;
	t->t_magic = 0x1234;
	t->t_self = t;
	__atomic_add_fetch(&things_made, 1, __ATOMIC_RELAXED);
	return true;
}

static void thing_dtor(void *obj, void *arg)
{
	struct thing *t = obj;

	(void)arg;
	if (t->t_magic != 0x1234 || t->t_self != t)
		mach_panic("an object lost its constructed state");
	t->t_magic = 0;
	__atomic_add_fetch(&things_unmade, 1, __ATOMIC_RELAXED);
}

struct kjob {
	struct vm *k_vm;
	struct kmem_cache *k_cache;
	unsigned k_cpu;
	uint64_t k_seed;
	unsigned k_done;
};

/* Random sizes, each filled with its own pattern and read back; also constructed objects. Runs on two threads at once. */
static void *kmem_worker(void *arg)
{
	enum { SLOTS = 400 };
	struct kjob *k = arg;
	struct { unsigned char *p; size_t size; } slot[SLOTS] = { 0 };
	uint64_t x = k->k_seed;

	stub_cpu_set(k->k_cpu);
	for (unsigned step = 0; step < 60000 + SLOTS; step++) {
		unsigned i;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		i = step < 60000 ? (unsigned)(x >> 20) % SLOTS : step - 60000;
		if (slot[i].p != NULL) {
			unsigned char *p = slot[i].p;
			size_t skip = slot[i].size == 0 ? offsetof(struct thing, t_body) : 0;
			size_t size = slot[i].size == 0 ? sizeof(struct thing) - 8 : slot[i].size;

			for (size_t j = skip; j < size; j++) {
				if (p[j] != (unsigned char)(i * 31 + j))
					mach_panic("kmem: contents changed");
			}
			if (slot[i].size == 0)
				kmem_cache_free(k->k_cache, p);
			else
				kmem_free(k->k_vm, p, slot[i].size);
			slot[i].p = NULL;
		} else if (step < 60000) {
			bool constructed = (x & 7) == 0;
			size_t size = constructed ? sizeof(struct thing) - 8 :
			    (x & 63) == 1	  ? 1 + (size_t)((x >> 32) % 20000) :
						    1 + (size_t)((x >> 32) % 700);

			slot[i].p = constructed ? kmem_cache_alloc(k->k_cache, KM_NOSLEEP) :
						  kmem_alloc(k->k_vm, size, KM_NOSLEEP);
			if (slot[i].p == NULL)
				continue;
			k->k_done++;
			slot[i].size = constructed ? 0 : size;
			if (constructed && ((struct thing *)(void *)slot[i].p)->t_self != (void *)slot[i].p)
				mach_panic("kmem: not constructed");
			for (size_t j = constructed ? offsetof(struct thing, t_body) : 0; j < size; j++)
				slot[i].p[j] = (unsigned char)(i * 31 + j);
		}
	}
	return NULL;
}

static void test_kmem_random(void **state)
{
	struct box b = box_open(1024, 1024, 1);
	struct kmem_cache *c =
	    kmem_cache_create(b.b_vm, "thing", sizeof(struct thing), 32, thing_ctor, thing_dtor, NULL);
	struct kjob job[2];
	pthread_t th[2];

	(void)state;
	things_made = things_unmade = 0;
	for (unsigned i = 0; i < 2; i++) {
		job[i] = (struct kjob){ .k_vm = b.b_vm, .k_cache = c, .k_cpu = i, .k_seed = 99 + i };
		assert_int_equal(pthread_create(&th[i], NULL, kmem_worker, &job[i]), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(th[i], NULL);
		assert_true(job[i].k_done > 10000);
	}
	assert_int_equal(kmem_cache_inuse(c), 0);
	assert_sound(b.b_vm);
	assert_true(kmem_reap(b.b_vm) > 0);
	assert_true(things_made > 0);
	assert_int_equal(things_made, things_unmade);
	assert_int_equal(b.b_vm->vm_nfree + b.b_vm->vm_nkernel, 1024);
	kmem_cache_destroy(c);
	/* What is left is the caches' own descriptors. */
	(void)kmem_reap(b.b_vm);
	assert_true(b.b_vm->vm_nkernel <= 8);
	box_close(&b);
}

static void test_kmem_align_and_reap(void **state)
{
	struct box b = box_open(512, 512, 5);
	uint32_t free_before;
	void *p[300];

	(void)state;
	for (size_t align = 8; align <= 4096; align *= 2) {
		struct kmem_cache *c = kmem_cache_create(b.b_vm, "aligned", align + 24, align, NULL, NULL, NULL);

		for (unsigned i = 0; i < 20; i++) {
			p[i] = kmem_cache_alloc(c, KM_SLEEP);
			assert_non_null(p[i]);
			assert_int_equal((uintptr_t)p[i] & (align - 1), 0);
		}
		assert_int_equal(kmem_cache_inuse(c), 20);
		assert_sound(b.b_vm);
		for (unsigned i = 0; i < 20; i++)
			kmem_cache_free(c, p[i]);
		assert_int_equal(kmem_cache_inuse(c), 0);
		kmem_cache_destroy(c);
	}
	(void)kmem_reap(b.b_vm);
	free_before = b.b_vm->vm_nfree;
	for (unsigned i = 0; i < 300; i++)
		assert_non_null(p[i] = kmem_zalloc(b.b_vm, 2000, KM_SLEEP));
	for (unsigned i = 0; i < 300; i++)
		kmem_free(b.b_vm, p[i], 2000);
	assert_true(b.b_vm->vm_nfree < free_before);
	assert_true(kmem_reap(b.b_vm) > 0);
	assert_int_equal(b.b_vm->vm_nfree, free_before);
	assert_null(kmem_alloc(b.b_vm, (size_t)VM_PAGESIZE << (VM_MAXORDER + 1), KM_NOSLEEP));
	box_close(&b);
}

static void test_kmem_ctor_fails(void **state)
{
	struct box b = box_open(64, 64, 5);
	int countdown = 7;
	struct kmem_cache *c;

	(void)state;
	things_made = things_unmade = 0;
	c = kmem_cache_create(b.b_vm, "thing", sizeof(struct thing), 0, thing_ctor, thing_dtor, &countdown);
	assert_null(kmem_cache_alloc(c, KM_NOSLEEP));
	assert_int_equal(things_made, 6);
	assert_int_equal(things_unmade, 6);
	assert_sound(b.b_vm);
	kmem_cache_destroy(c);
	box_close(&b);
}

#ifndef NDEBUG
/* Each misuse must panic and name the cache. The broken system is abandoned. */
static void kmem_misuse(unsigned kind)
{
	struct box b = box_open(64, 64, 5);
	struct kmem_cache *c = kmem_cache_create(b.b_vm, "victim", 40, 0, NULL, NULL, NULL);
	struct kmem_cache *other = kmem_cache_create(b.b_vm, "other", 40, 0, NULL, NULL, NULL);
	unsigned char *p = kmem_cache_alloc(c, KM_SLEEP);
	bool panicked = true;
	jmp_buf jump;

	assert_non_null(other);
	if (setjmp(jump) == 0) {
		stub_expect_panic(&jump);
		if (kind == 0) {
			kmem_cache_free(c, p);
			kmem_cache_free(c, p);
		} else if (kind == 1) {
			p[40] = 1;
			kmem_cache_free(c, p);
		} else if (kind == 2) {
			kmem_cache_free(c, p);
			p[3] = 1;
			(void)kmem_cache_alloc(c, KM_SLEEP);
		} else if (kind == 3) {
			kmem_cache_free(other, p);
		} else if (kind == 4) {
			kmem_cache_free(c, p + 8);
		} else {
			kmem_cache_destroy(c);
		}
		panicked = false;
	}
	assert_true(panicked);
	assert_non_null(strstr(stub_panic_message(), kind == 3 ? "other" : "victim"));
	stub_abandon(b.b_mach);
}

static void test_kmem_misuse(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 6; kind++)
		kmem_misuse(kind);
}
#endif

/* ---- vmem against a bitmap ---- */

#define V_UNITS 2048u
#define V_QUANTUM 16u
#define V_BASE 0x10000u

struct vrange {
	uint64_t addr, size;
};

static bool bits_free(const bool *map, uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		if (first + i >= V_UNITS || map[first + i])
			return false;
	}
	return true;
}

static bool vmem_ok(uint64_t addr, uint64_t size, uint64_t align, uint64_t phase, uint64_t nocross, uint64_t min,
    uint64_t max)
{
	if ((addr - phase) % align != 0 || addr < min || (max != 0 && addr + size > max))
		return false;
	return nocross == 0 || addr / nocross == (addr + size - 1) / nocross;
}

/* Is there any place at all? The second half is a span of its own: nothing spans the border. */
static bool vmem_possible(
    const bool *map, uint64_t units, uint64_t align, uint64_t phase, uint64_t nocross, uint64_t min, uint64_t max)
{
	for (uint64_t i = 0; i + units <= V_UNITS; i++) {
		bool border = i < V_UNITS / 2 && i + units > V_UNITS / 2;

		if (!border && bits_free(map, i, units) &&
		    vmem_ok(V_BASE + i * V_QUANTUM, units * V_QUANTUM, align, phase, nocross, min, max))
			return true;
	}
	return false;
}

static void test_vmem_model(void **state)
{
	enum { SLOTS = 300 };
	struct box b = box_open(256, 256, 77);
	struct vmem *v = vmem_create(b.b_vm, "model", V_BASE, V_UNITS / 2 * V_QUANTUM, V_QUANTUM);
	struct vrange slot[SLOTS] = { 0 };
	bool map[V_UNITS] = { 0 };
	unsigned failed = 0;
	uint64_t inuse = 0;

	(void)state;
	assert_non_null(v);
	assert_true(vmem_add(v, V_BASE + V_UNITS / 2 * V_QUANTUM, V_UNITS / 2 * V_QUANTUM));
	assert_false(vmem_add(v, V_BASE, V_QUANTUM));
	for (unsigned step = 0; step < 30000; step++) {
		struct vrange *r = &slot[rnd(SLOTS)];
		uint64_t units = rnd(8) ? 1 + rnd(12) : 1 + rnd(100), size = units * V_QUANTUM - rnd(V_QUANTUM);
		uint64_t align = V_QUANTUM, phase = 0, nocross = 0, min = 0, max = 0, first;
		bool ok;

		if (r->size != 0) {
			vmem_free(v, r->addr, r->size);
			first = (r->addr - V_BASE) / V_QUANTUM;
			units = (r->size + V_QUANTUM - 1) / V_QUANTUM;
			memset(&map[first], 0, units);
			inuse -= units * V_QUANTUM;
			r->size = 0;
			continue;
		}
		if (rnd(2)) {
			align = (uint64_t)V_QUANTUM << rnd(6);
			phase = rnd(3) ? 0 : rnd((uint32_t)(align / V_QUANTUM)) * V_QUANTUM;
			nocross = rnd(3) ? 0 : 2048;
			min = rnd(3) ? 0 : V_BASE + rnd(V_UNITS) * V_QUANTUM;
			max = rnd(3) ? 0 : V_BASE + rnd(V_UNITS) * V_QUANTUM;
			ok = vmem_xalloc(v, size, align, phase, nocross, min, max, KM_NOSLEEP, &r->addr);
		} else {
			ok = vmem_alloc(v, size, KM_NOSLEEP, &r->addr);
		}
		assert_int_equal(ok, vmem_possible(map, units, align, phase, nocross, min, max));
		failed += !ok;
		if (!ok)
			continue;
		first = (r->addr - V_BASE) / V_QUANTUM;
		assert_true(bits_free(map, first, units));
		assert_true(vmem_ok(r->addr, units * V_QUANTUM, align, phase, nocross, min, max));
		memset(&map[first], 1, units);
		inuse += units * V_QUANTUM;
		r->size = size;
		assert_int_equal(vmem_inuse(v), inuse);
	}
	assert_true(failed > 100);
	for (unsigned i = 0; i < SLOTS; i++) {
		if (slot[i].size != 0)
			vmem_free(v, slot[i].addr, slot[i].size);
	}
	assert_int_equal(vmem_inuse(v), 0);
	/* All joined: the whole span can be had at once. */
	assert_true(vmem_alloc(v, V_UNITS / 2 * V_QUANTUM, KM_NOSLEEP, &slot[0].addr));
	vmem_free(v, slot[0].addr, V_UNITS / 2 * V_QUANTUM);
	vmem_destroy(v);
	box_close(&b);
}

static void test_vmem_edges(void **state)
{
	struct box b = box_open(256, 256, 7);
	struct vmem *v = vmem_create(b.b_vm, "top", UINT64_MAX - 0xffff, 0x10000, 0x1000);
	uint64_t a[16], zero;

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		assert_true(vmem_alloc(v, 0x1000, KM_NOSLEEP, &a[i]));
	assert_false(vmem_alloc(v, 1, KM_NOSLEEP, &zero));
	assert_false(vmem_alloc(v, 0, KM_NOSLEEP, &zero));
	for (unsigned i = 0; i < 16; i++)
		vmem_free(v, a[i], 0x1000);
	assert_false(vmem_alloc(v, UINT64_MAX, KM_NOSLEEP, &zero));
	vmem_destroy(v);
	/* Zero is an address like any other; thousands of segments make the hash grow. */
	v = vmem_create(b.b_vm, "ids", 0, 4096, 1);
	for (unsigned i = 0; i < 4096; i++)
		assert_true(vmem_alloc(v, 1, KM_NOSLEEP, &zero));
	assert_false(vmem_alloc(v, 1, KM_NOSLEEP, &zero));
	assert_int_equal(vmem_inuse(v), 4096);
	for (unsigned i = 0; i < 4096; i++)
		vmem_free(v, i, 1);
	assert_true(vmem_alloc(v, 4096, KM_NOSLEEP, &zero));
	assert_int_equal(zero, 0);
	vmem_free(v, 0, 4096);
	vmem_destroy(v);
	box_close(&b);
}

/* ---- every allocation fails once ---- */

/* A little of everything; undoes all of it whatever fails. True if all succeeded. */
static bool inject_scenario(struct vm *vm)
{
	struct kmem_cache *c = kmem_cache_create(vm, "scenario", 100, 0, thing_ctor, thing_dtor, NULL);
	struct vmem *v = vmem_create(vm, "scenario", 0, 1 << 20, 4096);
	bool ok = c != NULL && v != NULL;
	struct vnode vn;
	uint64_t a;

	vnode_init(&vn, vm, &no_vnode_ops, NULL);
	for (unsigned i = 0; i < 100; i++) {
		void *o = c != NULL ? kmem_cache_alloc(c, KM_NOSLEEP) : NULL;
		void *large = kmem_alloc(vm, 30000, KM_NOSLEEP), *small = kmem_zalloc(vm, 60 * i + 1, KM_NOSLEEP);
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

static void test_inject(void **state)
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
	if (__atomic_add_fetch(se == SE_EXCL ? &l_writers[i] : &l_readers[i], n, __ATOMIC_SEQ_CST) > 1 && se == SE_EXCL)
		mach_panic("two exclusive holders of a page");
	if (n > 0 && __atomic_load_n(se == SE_EXCL ? &l_readers[i] : &l_writers[i], __ATOMIC_SEQ_CST) != 0)
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

static void test_page_locks(void **state)
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
		job[i] = (struct ljob){ .l_vm = b.b_vm, .l_vn = &vn, .l_seed = 5 + i, .l_cpu = i % 2 };
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

/* ---- the checker sees what is broken ---- */

static void count_violation(void *arg, const char *text)
{
	(void)text;
	(*(unsigned *)arg)++;
}

static void test_checker_sees(void **state)
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
		cmocka_unit_test(test_pages_model),
		cmocka_unit_test(test_purge_large),
		cmocka_unit_test(test_cache_order),
		cmocka_unit_test(test_buddy),
		cmocka_unit_test(test_grow_shrink),
		cmocka_unit_test(test_kmem_random),
		cmocka_unit_test(test_kmem_align_and_reap),
		cmocka_unit_test(test_kmem_ctor_fails),
#ifndef NDEBUG
		cmocka_unit_test(test_kmem_misuse),
#endif
		cmocka_unit_test(test_vmem_model),
		cmocka_unit_test(test_vmem_edges),
		cmocka_unit_test(test_inject),
		cmocka_unit_test(test_page_locks),
		cmocka_unit_test(test_checker_sees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
