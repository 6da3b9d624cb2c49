/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Anonymous memory, swap, page-out and the page cache against models, on the stand-in machine of
 * mach_stub.c (no translations): several times more data than frames, stores that fail or are full,
 * every allocation failing in turn, areas added and removed while threads use them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "vm/impl.h"
#include "machine/stub/mach_stub.h"

/* ---- functions that the stand-in's HAT lacks ---- */
unsigned hat_pagesync(struct page *pp, bool clear_ref, bool clear_mod)
{
	(void)pp, (void)clear_ref, (void)clear_mod;
	return 0; /* there are no translations, hence no bits to gather */
}

void hat_page_clrwrt(struct page *pp) { (void)pp; }

/* ---- helpers ---- */
static uint64_t rnd_state;

static uint32_t rnd_r(uint64_t *st, uint32_t below)
{
	*st ^= *st << 13;
	*st ^= *st >> 7;
	*st ^= *st << 17;
	return (uint32_t)((*st >> 16) % below);
}

static uint32_t rnd(uint32_t below) { return rnd_r(&rnd_state, below); }

static void print_violation(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "violation: %s\n", text);
}

static void assert_sound(struct vm *vm)
{
	assert_int_equal(vm_check(vm, print_violation, NULL), 0);
}

/* ---- a store in memory that can fail ---- */
struct mem_store {
	struct vnode ms_vnode;
	pthread_mutex_t ms_lock;
	char *ms_data;
	uint64_t ms_size;
	unsigned ms_fail; /* one request in this number fails after a part; 0: none */
	bool ms_full;
	uint64_t ms_rnd, ms_failed;
	_Atomic uint64_t ms_writes;
	bool ms_gone;
	bool ms_drops; /* the store asks for read pages to be discarded (io_drop) */
	void (*ms_discarding)(
	    struct mem_store *, voff_t off); /* called in vo_discard. NULL: nothing is */
};

static void mem_start(struct vnode *vp, struct vm_io *io)
{
	struct mem_store *ms = vp->v_data;
	uint32_t n = io->io_npages;

	pthread_mutex_lock(&ms->ms_lock);
	io->io_err = VM_OK;
	ms->ms_writes += io->io_op == VM_IO_WRITE;
	if (ms->ms_full && io->io_op == VM_IO_WRITE) {
		n = 0;
		io->io_err = VM_NOSWAP;
	} else if (ms->ms_fail != 0 && rnd_r(&ms->ms_rnd, ms->ms_fail) == 0) {
		n = rnd_r(&ms->ms_rnd, n);
		io->io_err = VM_IO;
		ms->ms_failed++;
	}
	for (uint32_t i = 0; i < n; i++) {
		char *at = ms->ms_data + io->io_off + (uint64_t)i * VM_PAGESIZE;

		if (io->io_off + (uint64_t)(i + 1) * VM_PAGESIZE > vm_page_round(ms->ms_size)) {
			io->io_err = VM_EOF;
			n = i;
			break;
		}
		if (io->io_op == VM_IO_READ)
			memcpy(io->io_buf[i], at, VM_PAGESIZE);
		else
			memcpy(at, io->io_buf[i], VM_PAGESIZE);
	}
	io->io_ok = n;
	io->io_drop = ms->ms_drops && io->io_op == VM_IO_READ ? ~0ull : 0;
	pthread_mutex_unlock(&ms->ms_lock);
	io->io_done(io);
}

static void mem_poll(struct vnode *vp, struct vm_io *io) { (void)vp, (void)io; }

/* Freed memory is made unreadable, so that a later access faults. */
static void mem_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	struct mem_store *ms = vp->v_data;

	if (ms->ms_discarding != NULL)
		ms->ms_discarding(ms, off);
	pthread_mutex_lock(&ms->ms_lock);
	memset(ms->ms_data + off, 0xdd, len);
	pthread_mutex_unlock(&ms->ms_lock);
}

static enum vm_err mem_sync(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
	return VM_OK;
}

static uint64_t mem_size(struct vnode *vp) { return ((struct mem_store *)vp->v_data)->ms_size; }

static void mem_inactive(struct vnode *vp) { ((struct mem_store *)vp->v_data)->ms_gone = true; }

static const struct vnode_ops mem_ops = {
	.vo_name = "memory",
	.vo_start = mem_start,
	.vo_poll = mem_poll,
	.vo_discard = mem_discard,
	.vo_sync = mem_sync,
	.vo_size = mem_size,
	.vo_inactive = mem_inactive,
};

static void mem_init(struct mem_store *ms, struct vm *vm, uint64_t bytes, uint32_t flags)
{
	memset(ms, 0, sizeof *ms);
	pthread_mutex_init(&ms->ms_lock, NULL);
	ms->ms_data = calloc(1, vm_page_round(bytes));
	ms->ms_size = bytes;
	ms->ms_rnd = 88172645463325252u;
	vnode_init(&ms->ms_vnode, vm, &mem_ops, ms);
	ms->ms_vnode.v_flags = flags;
}

static void mem_free(struct mem_store *ms)
{
	assert_true(ms->ms_gone);
	free(ms->ms_data);
	pthread_mutex_destroy(&ms->ms_lock);
}

static void mem_fini(struct mem_store *ms)
{
	vnode_rele(&ms->ms_vnode);
	mem_free(ms);
}

struct sys {
	struct mach *m;
	struct vm *vm;
	struct mem_store disk;
};

static void sys_init(struct sys *s, pfn_t frames, uint64_t slots)
{
	struct vm_config vc = { .vc_frames = frames };

	rnd_state = 0x9e3779b97f4a7c15u;
	s->m = vc.vc_mach = stub_create(frames, 0, 2);
	assert_int_equal(vm_create(&vc, &s->vm), VM_OK);
	mem_init(&s->disk, s->vm, slots * VM_PAGESIZE, V_SWAP);
	assert_int_equal(swap_add(s->vm, &s->disk.ms_vnode, slots, 0), VM_OK);
}

static void sys_fini(struct sys *s)
{
	struct vm_usage u;

	assert_sound(s->vm);
	vm_usage(s->vm, &u);
	assert_int_equal(u.vu_anon_slots, 0);
	assert_int_equal(u.vu_swap_used, 0);
	vnode_rele(&s->disk.ms_vnode); /* the area has the last reference */
	assert_false(s->disk.ms_gone);
	vm_destroy(s->vm);
	mem_free(&s->disk);
	stub_destroy(s->m);
}

/*
 * ---- one page of a map, used as by a segment driver: its first and last word identify the
 * contents ----
 */
static enum vm_err slot_write(struct vm *vm, struct anon_map *am, uint64_t idx, uint64_t value)
{
	struct page *pp, *copy;
	anon_id id, was;
	enum vm_err e;

	if (!anonmap_enter(am, idx, true, &was))
		return VM_NOMEM;
	id = was;
	if (was == 0)
		e = anon_zero(vm, 0, &id, &pp);
	else if ((e = anon_getpage(vm, was, SE_EXCL, 4, 0, &pp)) == VM_OK &&
	    anon_refcnt(vm, was) > 1) {
		/* a copy must not wait for memory with the original locked, so a shortage is an error here */
		page_unlock(vm, pp);
		char *tmp = malloc(VM_PAGESIZE);
		if ((e = anon_getpage(vm, was, SE_EXCL, 1, 0, &pp)) == VM_OK) {
			memcpy(tmp, page_mapin(vm, pp), VM_PAGESIZE);
			page_unlock(vm, pp);
			e = anon_zero(vm, 0, &id, &copy);
			if (e == VM_OK) {
				memcpy(page_mapin(vm, copy), tmp, VM_PAGESIZE);
				pp = copy;
			}
		}
		free(tmp);
	}
	if (e == VM_OK) {
		uint64_t *w = page_mapin(vm, pp);

		w[0] = w[VM_PAGESIZE / 8 - 1] = value;
		page_nrm_set(pp, P_MOD);
		if (id == was)
			swapfs_dirty(vm, pp);
		page_unlock(vm, pp);
		if (id != was) {
			anonmap_set(am, idx, id);
			if (was != 0)
				anon_decref(vm, was);
		}
	}
	anonmap_exit(am, idx);
	return e;
}

static enum vm_err slot_read(
    struct vm *vm, struct anon_map *am, uint64_t idx, unsigned hint, uint64_t *value)
{
	struct page *pp;
	enum vm_err e = VM_OK;
	anon_id id;

	*value = 0;
	assert_true(anonmap_enter(am, idx, false, &id));
	if (id != 0 && (e = anon_getpage(vm, id, SE_SHARED, hint, 0, &pp)) == VM_OK) {
		uint64_t *w = page_mapin(vm, pp);

		*value = w[0] == w[VM_PAGESIZE / 8 - 1] ? w[0] : ~(uint64_t)0;
		page_unlock(vm, pp);
	}
	anonmap_exit(am, idx);
	return e;
}

/* ---- maps against arrays ---- */
#define NMAPS 3u
#define NIDX 700u
struct model {
	struct sys s;
	struct anon_map *am[NMAPS];
	uint64_t val[NMAPS][NIDX];
	uint64_t next, eio;
};

/* Indexes far apart in the second half: three levels of tables. */
static uint64_t spread(uint32_t i) { return i < NIDX / 2 ? i : ((uint64_t)1 << 27) - NIDX + i; }

static void model_refs(struct model *mo)
{
	struct vm *vm = mo->s.vm;
	uint32_t n = vm->vm_anonchunks * VM_ANONCHUNK, *counts = calloc(n + 1, sizeof *counts);

	for (unsigned a = 0; a < NMAPS; a++)
		for (uint64_t i = anonmap_next(mo->am[a], 0); i < anonmap_npages(mo->am[a]);
		     i = anonmap_next(mo->am[a], i + 1))
			counts[anonmap_peek(mo->am[a], i)]++;
	for (anon_id id = 1; id < n; id++)
		assert_int_equal(
		    counts[id], vm->vm_anonchunk[id / VM_ANONCHUNK][id % VM_ANONCHUNK].an_refcnt);
	free(counts);
}

static void model_range(struct model *mo, unsigned op)
{
	unsigned a = rnd(NMAPS), b = (a + 1 + rnd(NMAPS - 1)) % NMAPS;
	uint32_t half = rnd(2) * (NIDX / 2), i = half + rnd(NIDX / 2), j = half + rnd(NIDX / 2),
		 top = half + NIDX / 2;
	uint32_t n = 1 + rnd(40), most = top - (i > j ? i : j);

	n = n < most ? n : most;
	if (op == 0) {
		anonmap_drop(mo->am[a], spread(i), n);
		memset(&mo->val[a][i], 0, n * sizeof(uint64_t));
		return;
	}
	anonmap_drop(mo->am[b], spread(j), n);
	memset(&mo->val[b][j], 0, n * sizeof(uint64_t));
	if ((op == 1 ? anonmap_dup : anonmap_move)(mo->am[a], spread(i), mo->am[b], spread(j), n) !=
	    VM_OK)
		return;
	memcpy(&mo->val[b][j], &mo->val[a][i], n * sizeof(uint64_t));
	if (op == 2)
		memset(&mo->val[a][i], 0, n * sizeof(uint64_t));
}

static void model_one(struct model *mo)
{
	unsigned a = rnd(NMAPS), op = rnd(100);
	uint32_t i = rnd(NIDX);
	uint64_t v;

	if (op < 50) {
		if (slot_write(mo->s.vm, mo->am[a], spread(i), mo->next) == VM_OK)
			mo->val[a][i] = mo->next++;
		else
			mo->eio++;
	} else if (op < 94) {
		if (slot_read(mo->s.vm, mo->am[a], spread(i), 1 + rnd(8), &v) == VM_OK)
			assert_int_equal(v, mo->val[a][i]);
		else
			mo->eio++;
	} else {
		model_range(mo, (op - 94) / 2);
	}
}

static void model_init(struct model *mo, pfn_t frames)
{
	memset(mo, 0, sizeof *mo);
	sys_init(&mo->s, frames, 4096);
	mo->next = 1;
	for (unsigned a = 0; a < NMAPS; a++) {
		/* one map grows to its size after it has contents */
		mo->am[a] = anonmap_alloc(mo->s.vm, a == 0 ? 8 : (uint64_t)1 << 27);
		assert_non_null(mo->am[a]);
	}
	assert_int_equal(slot_write(mo->s.vm, mo->am[0], 3, 77), VM_OK);
	mo->val[0][3] = 77;
	assert_true(anonmap_grow(mo->am[0], (uint64_t)1 << 27));
}

static void model_fini(struct model *mo)
{
	mo->s.disk.ms_fail = 0;
	for (unsigned a = 0; a < NMAPS; a++)
		for (uint32_t i = 0; i < NIDX; i++) {
			uint64_t v;

			assert_int_equal(slot_read(mo->s.vm, mo->am[a], spread(i), 1, &v), VM_OK);
			assert_int_equal(v, mo->val[a][i]);
		}
	model_refs(mo);
	for (unsigned a = 0; a < NMAPS; a++)
		anonmap_rele(mo->am[a]);
	sys_fini(&mo->s);
}

static void run_model(pfn_t frames, unsigned fail, unsigned steps)
{
	struct model *mo = malloc(sizeof *mo);

	model_init(mo, frames);
	mo->s.disk.ms_fail = fail;
	for (unsigned k = 0; k < steps; k++) {
		model_one(mo);
		if (k % 997 == 0) {
			assert_sound(mo->s.vm);
			model_refs(mo);
		}
	}
	assert_true(
	    vm_statistics(mo->s.vm)->swapout > 100 && vm_statistics(mo->s.vm)->swapin > 100);
	/* page-out is clustered: a write carries several pages */
	assert_true(
	    fail != 0 || vm_statistics(mo->s.vm)->pgout >= 2 * vm_statistics(mo->s.vm)->pgout_io);
	assert_int_equal(mo->eio > 0, fail != 0);
	assert_int_equal(mo->s.disk.ms_failed > 0, fail != 0);
	model_fini(mo);
	free(mo);
}

static void maps_are_as_the_model_says(void **state)
{
	(void)state;
	run_model(256, 0, 30000);
	run_model(128, 0, 10000);
}

static void io_errors_lose_nothing(void **state)
{
	(void)state;
	run_model(192, 5, 30000);
}

static void count_quietly(void *arg, const char *text)
{
	(void)text;
	++*(unsigned *)arg;
}

/* An anon with one reference too many, one with one too few, and one that no map holds. */
static void checker_sees_wrong_references(void **state)
{
	struct model *mo = malloc(sizeof *mo);
	unsigned n = 0;
	anon_id id;

	(void)state;
	model_init(mo, 256);
	id = anonmap_peek(mo->am[0], 3);
	assert_int_equal(anon_check(mo->s.vm, anonmap_count_refs, count_quietly, &n), 0);
	anon_hold(mo->s.vm, id);
	assert_int_equal(anon_check(mo->s.vm, anonmap_count_refs, count_quietly, &n), 1);
	assert_int_equal(anon_refcnt(mo->s.vm, id), 2); /* looking changes nothing */
	anon_decref(mo->s.vm, id);
	assert_int_equal(anon_check(mo->s.vm, anonmap_count_refs, count_quietly, &n), 0);
	id = anon_alloc(mo->s.vm);
	assert_int_equal(anon_check(mo->s.vm, anonmap_count_refs, count_quietly, &n), 1);
	anon_decref(mo->s.vm, id);
	assert_int_equal(n, 2);
	model_fini(mo);
	free(mo);
}

/* ---- 64 frames ---- */
static void sixty_four_frames_are_enough(void **state)
{
	struct sys s;
	struct anon_map *am;
	uint64_t v;

	(void)state;
	sys_init(&s, 64, 512);
	am = anonmap_alloc(s.vm, 200);
	for (uint64_t i = 0; i < 200; i++)
		assert_int_equal(slot_write(s.vm, am, i, i + 1), VM_OK);
	for (uint64_t i = 0; i < 200; i++) {
		assert_int_equal(slot_read(s.vm, am, i, 4, &v), VM_OK);
		assert_int_equal(v, i + 1);
	}
	anonmap_rele(am);
	sys_fini(&s);
}

/*
 * ---- a full store gives an error and not a loop; pages in memory stay; more swap resolves the
 * shortage ----
 */
static void a_full_swap_ends_in_an_error_and_heals(void **state)
{
	struct mem_store more;
	struct sys s;
	struct anon_map *am;
	uint64_t n = 0, v;

	(void)state;
	sys_init(&s, 128, 16);
	am = anonmap_alloc(s.vm, 1000);
	while (n < 1000 && slot_write(s.vm, am, n, n + 1) == VM_OK)
		n++;
	assert_in_range(n, 40, 150);
	assert_true(vm_statistics(s.vm)->alloc_fail > 0);
	assert_sound(s.vm);
	mem_init(&more, s.vm, 1024 * VM_PAGESIZE, V_SWAP);
	more.ms_full = true; /* an area with a full store does not help */
	assert_int_equal(swap_add(s.vm, &more.ms_vnode, 1024, 5), VM_OK);
	struct swap_info si;

	assert_true(
	    swap_query(s.vm, 0, &si) && si.si_vnode == &more.ms_vnode && si.si_slots == 1024);
	assert_true(si.si_prio == 5 && si.si_used == 0);
	assert_true(swap_query(s.vm, 1, &si) && si.si_slots == 16 && si.si_used <= 16);
	assert_false(swap_query(s.vm, 2, &si));
	assert_int_not_equal(slot_write(s.vm, am, n, 5), VM_OK);
	assert_true(vm_statistics(s.vm)->io_error > 0);
	assert_sound(s.vm);
	more.ms_full = false;
	for (uint64_t i = n; i < 1000; i++)
		assert_int_equal(slot_write(s.vm, am, i, i + 1), VM_OK);
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(slot_read(s.vm, am, i, 8, &v), VM_OK);
		assert_int_equal(v, i + 1);
	}
	anonmap_rele(am);
	assert_int_equal(swap_remove(s.vm, &more.ms_vnode), VM_OK);
	assert_int_equal(swap_remove(s.vm, &more.ms_vnode), VM_INVAL);
	mem_fini(&more);
	sys_fini(&s);
}

/*
 * ---- slots used and freed in a large area leave no tables behind (tables once took all memory)
 * ----
 */
static void tables_of_slots_come_back(void **state)
{
	struct sys s;
	struct anon_map *am;
	struct vm_usage u;
	uint64_t v, early = 0;

	(void)state;
	sys_init(&s, 256, 100000);
	am = anonmap_alloc(s.vm, 500);
	for (uint64_t round = 0; round < 80; round++) {
		for (uint64_t i = 0; i < 500; i++)
			assert_int_equal(slot_write(s.vm, am, i, round + i), VM_OK);
		vm_usage(s.vm, &u);
		if (round == 10)
			early = u.vu_kernel;
	}
	assert_true(vm_statistics(s.vm)->swapout > 20 * 1024);
	assert_in_range(u.vu_kernel, 1, early + 2);
	for (uint64_t i = 0; i < 500; i++) {
		assert_int_equal(slot_read(s.vm, am, i, 8, &v), VM_OK);
		assert_int_equal(v, 79 + i);
	}
	anonmap_rele(am);
	sys_fini(&s);
}

/*
 * ---- slots that stay once lay wherever the hint was at their write, each with a separate table
 * ----
 */
static void tables_of_slots_that_stay(void **state)
{
	const uint64_t busy = 300, quiet = 200;
	struct anon_map *am;
	struct vm_usage u;
	uint64_t v, early;
	struct sys s;

	(void)state;
	sys_init(&s, 256, 200000);
	am = anonmap_alloc(s.vm, busy + quiet);
	vm_usage(s.vm, &u);
	early = u.vu_kernel;
	for (uint64_t k = 0; k < quiet; k++) {
		assert_int_equal(slot_write(s.vm, am, busy + k, k), VM_OK);
		for (uint64_t i = 0; i < busy; i++)
			assert_int_equal(slot_write(s.vm, am, i, k + i), VM_OK);
	}
	assert_true(vm_statistics(s.vm)->swapout > 40 * 1024);
	vm_usage(s.vm, &u);
	assert_in_range(u.vu_kernel, 1, early + 24); /* four tables; anons and their map */
	for (uint64_t k = 0; k < quiet; k++) {
		assert_int_equal(slot_read(s.vm, am, busy + k, 8, &v), VM_OK);
		assert_int_equal(v, k);
	}
	anonmap_rele(am);
	sys_fini(&s);
}

/*
 * ---- lack of memory for another table of slots was once reported as lack of swap, although older
 * tables had free slots ----
 */
static void slots_without_memory_for_a_table(void **state)
{
	const uint32_t table = 1023, hole = 5;
	uint32_t first, got;
	struct sys s;

	(void)state;
	sys_init(&s, 256, 200000);
	assert_int_equal(swap_alloc_cluster(s.vm, table, &first, &got), VM_OK);
	assert_int_equal(got, table);
	swap_free_slot(s.vm, first + hole);
	vm_inject(s.vm, VM_INJECT_PAGE, 1);
	uint32_t one, n;
	assert_int_equal(swap_alloc_cluster(s.vm, 4, &one, &n), VM_OK);
	assert_int_equal(one, first + hole);
	assert_int_equal(n, 1);
	vm_inject(s.vm, VM_INJECT_PAGE, 1); /* that table has no free slot now */
	assert_int_equal(swap_alloc_cluster(s.vm, 4, &one, &n), VM_NOSWAP);
	assert_int_equal(swap_alloc_cluster(s.vm, 4, &one, &n), VM_OK);
	assert_int_equal(n, 4);
	for (uint32_t i = 0; i < 4; i++)
		swap_free_slot(s.vm, one + i);
	for (uint32_t i = 0; i < table; i++)
		swap_free_slot(s.vm, first + i);
	assert_sound(s.vm);
	sys_fini(&s);
}

/* ---- reservation is exact ---- */
static void reservation_is_exact(void **state)
{
	struct mem_store more;
	struct vm_usage u;
	struct sys s;

	(void)state;
	sys_init(&s, 256, 1000);
	assert_int_equal(anon_reserve(s.vm, 0, false), VM_OK);
	vm_usage(s.vm, &u);
	uint64_t max = u.vu_resv_max;
	assert_in_range(max, 1000, 1256);
	assert_int_equal(anon_reserve(s.vm, UINT64_MAX, false), VM_NOSWAP);
	assert_int_equal(anon_reserve(s.vm, max + 1, false), VM_NOSWAP);
	assert_int_equal(anon_reserve(s.vm, max, false), VM_OK);
	assert_int_equal(anon_reserve(s.vm, 1, false), VM_NOSWAP);
	assert_int_equal(swap_remove(s.vm, &s.disk.ms_vnode), VM_NOSWAP);
	mem_init(&more, s.vm, 100 * VM_PAGESIZE, V_SWAP);
	assert_int_equal(swap_add(s.vm, &more.ms_vnode, 100, 0), VM_OK);
	assert_int_equal(anon_reserve(s.vm, 90, false), VM_OK);
	assert_int_equal(anon_reserve(s.vm, 90, false), VM_NOSWAP);
	assert_int_equal(swap_remove(s.vm, &more.ms_vnode), VM_NOSWAP);
	anon_unreserve(s.vm, max + 90);
	assert_int_equal(swap_remove(s.vm, &more.ms_vnode), VM_OK);
	assert_int_equal(s.vm->vm_swaptotal, 1000);
	mem_fini(&more);
	sys_fini(&s);
}

/* ---- areas are added and removed while two threads use their memory ---- */
struct user {
	struct vm *vm;
	struct anon_map *am; /* shared: each thread owns every other page */
	unsigned which;
	uint64_t bad, rnd;
	_Atomic bool *stop;
};

static void *use_memory(void *arg)
{
	struct user *u = arg;
	uint64_t val[300] = { 0 }, v;

	stub_cpu_set(u->which);
	for (uint64_t k = 1; k < 4000 || !*u->stop; k++) {
		uint32_t i = rnd_r(&u->rnd, 300);

		if (rnd_r(&u->rnd, 2) == 0) {
			if (slot_write(u->vm, u->am, 2 * i + u->which, k) == VM_OK)
				val[i] = k;
			else
				u->bad++;
		} else if (slot_read(u->vm, u->am, 2 * i + u->which, 6, &v) != VM_OK ||
		    v != val[i]) {
			u->bad++;
		}
	}
	return NULL;
}

static void areas_come_and_go_under_load(void **state)
{
	struct mem_store more[2];
	struct user u[2];
	pthread_t t[2];
	_Atomic bool stop = false;
	struct sys s;

	(void)state;
	sys_init(&s, 256, 2000);
	struct anon_map *am = anonmap_alloc(s.vm, 600);
	for (unsigned i = 0; i < 2; i++) {
		u[i] = (struct user){
			.vm = s.vm, .am = am, .which = i, .rnd = 12345 + i, .stop = &stop
		};
		pthread_create(&t[i], NULL, use_memory, &u[i]);
		mem_init(&more[i], s.vm, 700 * VM_PAGESIZE, V_SWAP);
	}
	for (unsigned round = 0; round < 20; round++) {
		struct vnode *vp = &more[round % 2].ms_vnode;

		assert_int_equal(swap_add(s.vm, vp, 700, 5 + (int)round % 2), VM_OK);
		while (more[round % 2].ms_writes < round + 1)
			mach_yield();
		assert_int_equal(swap_remove(s.vm, vp), VM_OK);
		assert_int_equal(vp->v_refcnt, 1);
	}
	stop = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(u[0].bad + u[1].bad, 0);
	assert_sound(s.vm);
	anonmap_rele(am);
	mem_fini(&more[0]);
	mem_fini(&more[1]);
	sys_fini(&s);
}

/* ---- each allocation and I/O fails once; the system stays sound and loses nothing ---- */
static unsigned fail_scenario(struct vm *vm, struct anon_map *a, struct anon_map *b, uint64_t *va)
{
	unsigned errors = 0;
	uint64_t v;

	for (uint32_t i = 0; i < 150; i++) {
		uint64_t idx = (uint64_t)i * 37;

		if (slot_write(vm, a, idx, i + 1) == VM_OK)
			va[i] = i + 1;
		else
			errors++;
	}
	if (anonmap_dup(a, 0, b, 0, 150 * 37) != VM_OK) {
		errors++;
		assert_int_equal(anonmap_next(b, 0), anonmap_npages(b));
	}
	for (uint32_t i = 0; i < 150; i++) {
		if (slot_read(vm, a, (uint64_t)i * 37, 4, &v) != VM_OK)
			errors++;
		else
			assert_int_equal(v, va[i]);
	}
	return errors;
}

static void each_failure(enum vm_inject kind)
{
	uint64_t nth = 1, passed;

	do {
		struct sys s;
		uint64_t va[150] = { 0 }, v;

		sys_init(&s, 96, 1000);
		struct anon_map *a = anonmap_alloc(s.vm, 150 * 37),
				*b = anonmap_alloc(s.vm, 150 * 37);
		vm_inject(s.vm, kind, nth);
		(void)fail_scenario(s.vm, a, b, va);
		passed = vm_inject_seen(s.vm, kind);
		vm_inject(s.vm, kind, 0);
		assert_sound(s.vm);
		for (uint32_t i = 0; i < 150; i++) {
			assert_int_equal(slot_read(s.vm, a, (uint64_t)i * 37, 1, &v), VM_OK);
			assert_int_equal(v, va[i]);
		}
		anonmap_rele(a);
		anonmap_rele(b);
		sys_fini(&s);
		nth += 1 + nth / 8;
	} while (nth <= passed);
	assert_true(nth > 2);
}

static void every_failure_is_clean(void **state)
{
	(void)state;
	each_failure(VM_INJECT_PAGE);
	each_failure(VM_INJECT_KMEM);
	each_failure(VM_INJECT_SWAP);
	each_failure(VM_INJECT_IO_READ);
	each_failure(VM_INJECT_IO_WRITE);
}

/* ---- the page cache of a file ---- */
static void file_pages_are_as_the_model_says(void **state)
{
	struct mem_store f;
	struct page *pp;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 16);
	mem_init(&f, s.vm, 400 * VM_PAGESIZE - 100, 0);
	for (uint64_t i = 0; i < 400; i++)
		memset(f.ms_data + i * VM_PAGESIZE, (int)(i % 251), VM_PAGESIZE);
	for (unsigned k = 0; k < 3000; k++) {
		uint64_t i = rnd(400);

		assert_int_equal(
		    pvn_getpage(s.vm, &f.ms_vnode, i * VM_PAGESIZE, SE_EXCL, 1 + rnd(16), &pp),
		    VM_OK);
		unsigned char *c = page_mapin(s.vm, pp);
		assert_int_equal((unsigned char)(c[10] - c[11]), 0);
		c[10]++, c[11]++;
		page_nrm_set(pp, P_MOD);
		page_unlock(s.vm, pp);
		if (k % 500 == 0) {
			assert_sound(s.vm);
			assert_int_equal(
			    pvn_putpages(s.vm, &f.ms_vnode, 0, 0, k % 1000 == 0 ? PVN_FREE : 0),
			    VM_OK);
		}
	}
	assert_true(vm_statistics(s.vm)->prefetch > 0 && vm_statistics(s.vm)->fileout > 0);
	assert_int_equal(
	    pvn_getpage(s.vm, &f.ms_vnode, 400 * VM_PAGESIZE, SE_SHARED, 1, &pp), VM_EOF);
	/* pages that cannot be written stay dirty and are written later */
	assert_int_equal(pvn_getpage(s.vm, &f.ms_vnode, 0, SE_EXCL, 1, &pp), VM_OK);
	memset(page_mapin(s.vm, pp), 0x5a, VM_PAGESIZE);
	page_nrm_set(pp, P_MOD);
	page_unlock(s.vm, pp);
	vm_inject(s.vm, VM_INJECT_IO_WRITE, 1);
	assert_int_equal(pvn_putpages(s.vm, &f.ms_vnode, 0, VM_PAGESIZE, PVN_INVAL), VM_IO);
	assert_int_not_equal(f.ms_data[7], 0x5a);
	assert_int_equal(pvn_putpages(s.vm, &f.ms_vnode, 0, VM_PAGESIZE, PVN_INVAL), VM_OK);
	assert_int_equal(f.ms_data[7], 0x5a);
	assert_false(page_exists(s.vm, &f.ms_vnode, 0));
	/* truncation zeroes the tail and drops the following pages */
	assert_int_equal(pvn_getpage(s.vm, &f.ms_vnode, 0, SE_SHARED, 3, &pp), VM_OK);
	page_unlock(s.vm, pp);
	f.ms_size = 10;
	pvn_truncate(s.vm, &f.ms_vnode, 10);
	assert_false(page_exists(s.vm, &f.ms_vnode, VM_PAGESIZE));
	assert_int_equal(pvn_getpage(s.vm, &f.ms_vnode, 0, SE_EXCL, 1, &pp), VM_OK);
	assert_memory_equal(page_mapin(s.vm, pp), "ZZZZZZZZZZ\0\0", 12);
	page_unlock(s.vm, pp);
	mem_fini(&f);
	sys_fini(&s);
}

/* Writing a file of a terabyte with few pages in memory takes only the time for these pages. */
static void a_sparse_file_is_written_by_its_pages(void **state)
{
	struct vnode_ops ops = mem_ops;
	struct mem_store f;
	struct page *pp;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 16);
	mem_init(&f, s.vm, VM_PAGESIZE, 0);
	f.ms_vnode.v_ops = &ops;
	f.ms_size = 1ull << 50;
	assert_int_equal(page_create(s.vm, &f.ms_vnode, 1ull << 49, 0, &pp), VM_OK);
	page_filled(s.vm, pp, false);
	page_unlock(s.vm, pp);
	assert_int_equal(pvn_putpages(s.vm, &f.ms_vnode, 0, 0, PVN_INVAL), VM_OK);
	assert_int_equal(f.ms_vnode.v_npages, 0);
	f.ms_size = VM_PAGESIZE;
	mem_fini(&f);
	sys_fini(&s);
}

/*
 * ---- the clock keeps used pages: 20 pages touched all the time outlive a stream of other pages
 * ----
 */
static void clock_keeps_hot_pages(void **state)
{
	uint64_t misses = 0, v, before;
	struct sys s;

	(void)state;
	sys_init(&s, 256, 4000);
	struct anon_map *am = anonmap_alloc(s.vm, 3000);
	for (uint64_t i = 0; i < 20; i++)
		assert_int_equal(slot_write(s.vm, am, i, i + 1), VM_OK);
	for (uint64_t i = 20; i < 3000; i++) {
		assert_int_equal(slot_write(s.vm, am, i, i + 1), VM_OK);
		before = vm_statistics(s.vm)->swapin;
		assert_int_equal(slot_read(s.vm, am, i % 20, 1, &v), VM_OK);
		assert_int_equal(v, i % 20 + 1);
		misses += vm_statistics(s.vm)->swapin - before;
	}
	assert_in_range(misses, 0, 60);
	anonmap_rele(am);
	sys_fini(&s);
}

extern const struct prefetch_ops prefetch_window;

static unsigned window_at(uint64_t st[PF_WORDS], uint64_t idx, unsigned max, unsigned flags)
{
	struct pf_plan pl = { 0 };

	prefetch_window.pf_plan(st, idx, max, flags, &pl);
	return pl.pl_n;
}

static void read_around_grows_with_its_use(void **state)
{
	uint64_t st[PF_WORDS] = { 0 };

	(void)state;
	assert_int_equal(window_at(st, 100, 16, 0), 0);
	assert_int_equal(window_at(st, 101, 16, 0), 2);
	assert_int_equal(window_at(st, 104, 16, 0), 4);
	assert_int_equal(window_at(st, 109, 16, 0), 8);
	assert_int_equal(window_at(st, 118, 10, 0), 10);
	assert_int_equal(window_at(st, 5, 16, 0), 0);
	assert_int_equal(window_at(st, 900, 16, PF_SEQUENTIAL), 16);
}

/*
 * The store drops its copy of a page after a read: the page in memory is then the only copy, and is
 * written at its eviction.
 */
static void a_page_whose_copy_was_dropped_is_modified(void **state)
{
	const uint64_t pages = 400;
	struct anon_map *am;
	struct sys s;
	uint64_t v;

	(void)state;
	sys_init(&s, 128, 1000);
	s.disk.ms_drops = true;
	am = anonmap_alloc(s.vm, pages);
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(slot_write(s.vm, am, i, i + 1), VM_OK);
	/* the pages are only read: no write marks them */
	for (unsigned round = 0; round < 4; round++) {
		for (uint64_t i = 0; i < pages; i++) {
			assert_int_equal(slot_read(s.vm, am, i, round % 2 == 0 ? 1 : 8, &v), VM_OK);
			assert_int_equal(v, i + 1);
		}
		assert_sound(s.vm);
	}
	assert_true(vm_statistics(s.vm)->swapin > 2 * pages);
	anonmap_rele(am);
	sys_fini(&s);
}

/*
 * Another thread takes a slot while a slot is being discarded: that slot is not free yet, otherwise
 * its new contents would be lost.
 */
static void ask_for_a_slot(struct mem_store *ms, voff_t off)
{
	struct vm *vm = ms->ms_vnode.v_vm;
	uint32_t first = 0, got = 0;

	(void)off;
	assert_int_equal(swap_alloc_cluster(vm, 1, &first, &got), VM_NOSWAP);
	ms->ms_failed++;
}

static void a_slot_is_discarded_before_it_is_free(void **state)
{
	struct sys s;
	uint32_t first, got, n = 0;

	(void)state;
	sys_init(&s, 256, 100);
	while (swap_alloc_cluster(s.vm, 7, &first, &got) == VM_OK)
		n += got;
	assert_int_equal(n, 100);
	s.disk.ms_discarding = ask_for_a_slot;
	swap_free_slot(s.vm, 40);
	s.disk.ms_discarding = NULL;
	assert_int_equal(s.disk.ms_failed, 1);
	assert_int_equal(swap_alloc_cluster(s.vm, 1, &first, &got), VM_OK);
	assert_int_equal(first, 40);
	for (uint32_t slot = 1; slot <= 100; slot++)
		swap_free_slot(s.vm, slot);
	sys_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maps_are_as_the_model_says),
		cmocka_unit_test(io_errors_lose_nothing),
		cmocka_unit_test(checker_sees_wrong_references),
		cmocka_unit_test(sixty_four_frames_are_enough),
		cmocka_unit_test(a_full_swap_ends_in_an_error_and_heals),
		cmocka_unit_test(a_page_whose_copy_was_dropped_is_modified),
		cmocka_unit_test(a_slot_is_discarded_before_it_is_free),
		cmocka_unit_test(reservation_is_exact),
		cmocka_unit_test(areas_come_and_go_under_load),
		cmocka_unit_test(tables_of_slots_come_back),
		cmocka_unit_test(tables_of_slots_that_stay),
		cmocka_unit_test(slots_without_memory_for_a_table),
		cmocka_unit_test(every_failure_is_clean),
		cmocka_unit_test(file_pages_are_as_the_model_says),
		cmocka_unit_test(a_sparse_file_is_written_by_its_pages),
		cmocka_unit_test(clock_keeps_hot_pages),
		cmocka_unit_test(read_around_grows_with_its_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
