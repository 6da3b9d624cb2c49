/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segvn: segments of files and of anonymous memory. This file: faults, locking, adoption. seg_vn_ops.c: the rest.
 *
 *   private anonymous   pages are anons of svd_amp, zero at first
 *   private file	 pages are the vnode's until written, then anons
 *   shared anonymous	 pages are anons of an svd_amp that all sharers hold
 *   shared file	 pages are the vnode's
 *
 * The map of a private segment is made at its first fault. Two halves of a split segment use one map, each its own range
 * of it, so splitting and merging is arithmetic on indexes.
 *
 * A fault on a segment with a map holds the slot's busy bit from looking at the slot until the translation is loaded. So a thread that
 * replaces the anon is not overtaken by another that loads the old page.
 *
 * Cases of a fault on one page (docs/life-of-a-fault.md has them in pictures). Alone: the anon's reference count is one.
 *
 *   1a	nothing, anonymous; read	the page of zeroes, read-only, where a frame may have many translations
 *   1b	nothing, anonymous		a new anon with a zeroed page
 *   2a	nothing, private file; read	the file's page, read-only
 *   2b	nothing, private file; write	copy-on-write of the file's page into a new anon
 *   3a	an anon, alone			its page; written in place
 *   3b	an anon, not alone; read	its page, read-only
 *   3c	an anon, not alone; write	copy-on-write: a new anon takes the slot, the old one loses a reference
 *   4	as 3c in a shared segment	the new anon takes the slot for all sharers: the old page loses every translation
 *   5	a shared file			the file's page; a write marks it dirty first
 *
 * Writable translations: where the hardware does not report modification (mc_mod_bits), a translation is writable only
 * once the page is P_MOD, so the first write faults. A page whose disk copy gets stale gives its slot back.
 *
 * Reservation: svd_full segments reserved all their pages at creation (or when they became writable); in the others each
 * anon reserves one page when it is made, so svd_swresv is the number of their anons.
 *
 * Locks: a_lock R; svd_lock for a moment; slot busy; page. Left out: large pages, text replication.
 */
#include "vm/seg/seg_vn.h"

#define AROUND_MAX 16u /* pages in memory that are mapped at once: one call loads them all */
#define ZERO_AHEAD 16u /* pages made at once where a program begins to touch memory sequentially */
#define ZERO_MOST 64u  /* and at most, as it goes on: one call loads them all */

struct fault {
	struct seg *f_seg;
	struct segvn_data *f_svd;
	struct vm *f_vm;
	struct as *f_as;
	struct anon_map *f_amp;
	vaddr_t f_va;
	uint64_t f_idx;
	bool f_write;        /* the page will be written */
	bool f_soft, f_wire; /* the page is to be locked, too */
	bool f_noload;       /* only get the page: no translation */
	bool f_fresh;        /* the fault made a new page of zeroes */
	bool f_found;        /* the anon's page was in memory */
	bool f_file;         /* the fault found a page of the file */
	unsigned f_flags;    /* of the load */
	struct pf_plan f_plan;
	unsigned f_before, f_after; /* pages beside this one to get from the store and map, too */
};

/* ---- small parts ---- */
struct anon_map *segvn_amp(struct seg *seg)
{
	struct segvn_data *svd = svd_of(seg);
	struct anon_map *amp = svd_amp(svd), *mine;

	if (amp != NULL)
		return amp;
	if ((mine = anonmap_alloc(seg->s_as->a_vm, vm_btop(seg_size(seg)))) == NULL)
		return NULL;
	mach_mutex_enter(&svd->svd_lock);
	if ((amp = svd->svd_amp) == NULL) {
		amp = mine;
		__atomic_store_n(&svd->svd_amp, mine, __ATOMIC_RELEASE);
		mine = NULL;
	}
	mach_mutex_exit(&svd->svd_lock);
	if (mine != NULL)
		anonmap_rele(mine);
	return amp;
}

static enum vm_err charge_pages(struct seg *seg, uint64_t npages, bool touched)
{
	enum vm_err e = npages == 0 ? VM_OK : as_charge_resv(seg->s_as, npages, touched);

	if (e == VM_OK)
		svd_of(seg)->svd_swresv += npages;
	return e;
}

enum vm_err segvn_charge(struct seg *seg, uint64_t npages)
{
	return charge_pages(seg, npages, false);
}

void segvn_uncharge(struct seg *seg, uint64_t npages)
{
	if (npages == 0)
		return;
	svd_of(seg)->svd_swresv -= npages;
	as_forget_resv(seg->s_as, npages);
	anon_unreserve(seg->s_as->a_vm, npages);
}

uint64_t segvn_reserved(const struct seg *seg) { return svd_of(seg)->svd_swresv; }

/* Charges one more anon to the segment. VM_NOSWAP: nothing can be promised; VM_NOMEM: a limit of
 * the space or the group. */
static enum vm_err charge_one(struct fault *f)
{
	enum vm_err e =
	    f->f_svd->svd_full || f->f_svd->svd_foreign ? VM_OK : charge_pages(f->f_seg, 1, true);

	return e == VM_LIMIT ? VM_NOMEM : e;
}

static void uncharge_one(struct fault *f)
{
	if (!f->f_svd->svd_full && !f->f_svd->svd_foreign)
		segvn_uncharge(f->f_seg, 1);
}

/* A page of swapfs or of a file is about to differ from its copy on disk. Locked. */
static void mark_dirty(struct vm *vm, struct page *pp)
{
	if ((page_nrm(pp) & P_MOD) != 0)
		return;
	page_nrm_set(pp, P_MOD);
	if ((pp->p_vnode->v_flags & V_SWAPFS) != 0)
		swapfs_dirty(vm, pp);
}

enum vm_err segvn_load(struct seg *seg, vaddr_t va, struct page *pp, unsigned attr, unsigned flags)
{
	if ((aslock_get(seg->s_as, va) & LOCK_SOFT) != 0)
		flags |= HAT_LOAD_LOCK;
	return seg_load(seg->s_as, va, pp, attr, flags);
}

/*
 * Loads the translation of the page, which the caller has locked; counts the soft lock if the fault
 * asks for one. may_write: the translation may be writable already.
 */
static enum vm_err load_page(struct fault *f, struct page *pp, bool may_write)
{
	unsigned prot = f->f_svd->svd_prot;
	enum vm_err e;

	if (f->f_write)
		mark_dirty(f->f_vm, pp);
	if (f->f_noload)
		return VM_OK;
	if (!f->f_write &&
	    (!may_write || (!f->f_vm->vm_caps->mc_mod_bits && (page_nrm(pp) & P_MOD) == 0)))
		prot &= ~PROT_W;
	if ((f->f_soft || f->f_wire) && (e = aslock_add(f->f_as, f->f_va, pp, f->f_wire)) != VM_OK)
		return e;
	e = segvn_load(f->f_seg, f->f_va, pp, prot, f->f_flags);
	if (e != VM_OK && (f->f_soft || f->f_wire))
		(void)aslock_del(f->f_as, f->f_va, pp, f->f_wire);
	return e;
}

/* The page was read ahead, and this is its first use. */
static void note_first_use(struct fault *f)
{
	unsigned before, after;

	segvn_plan(f->f_seg, f->f_va, f->f_idx, PF_HIT, &f->f_plan, &before, &after);
}

static enum vm_err get_file(struct fault *f, enum page_se se, struct page **ppp)
{
	voff_t off = svd_voff(f->f_seg, f->f_va);
	unsigned before = 0, after = 0;

	switch (page_peek(f->f_vm, f->f_svd->svd_vp, off)) {
	case PAGE_ABSENT:
		VM_STAT(f->f_vm, fault_io);
		segvn_plan(f->f_seg, f->f_va, f->f_idx, PF_OF_FILE, &f->f_plan, &before, &after);
		if (before + after > 0)
			f->f_plan.pl_n = 0; /* the fault's own read brings the whole plan */
		break;
	case PAGE_UNUSED: note_first_use(f); break;
	case PAGE_USED: break;
	}
	f->f_file = true;
	return pvn_getpage_around(f->f_vm, f->f_svd->svd_vp, off, se, before, after + 1, ppp);
}

/*
 * Makes sure that frames are free for n pages beside the faulting one. This comes before the
 * faulting page is loaded: page-out after it could evict that very page, again and again. The
 * number is capped at a small part of memory.
 */
static unsigned ahead_room(struct vm *vm, unsigned n)
{
	if (n > vm->vm_nonline / 32)
		n = (unsigned)vm->vm_nonline / 32;
	if (n > 0 && vm->vm_nfree < vm->vm_desfree + n)
		(void)pageout_reclaim(vm, n);
	return n;
}

/* The faulting page is in the store. Plans which pages beside it are mapped with it. Returns how
 * many pages after it the same read may bring. */
static unsigned plan_beside(struct fault *f)
{
	unsigned before, after, room;

	segvn_plan(f->f_seg, f->f_va, f->f_idx, 0, &f->f_plan, &before, &after);
	if (!f->f_vm->vm_prefetch->pf_maps)
		return after;
	f->f_plan.pl_n = 0;
	room = ahead_room(f->f_vm, before + after);
	f->f_before = before < room ? before : room;
	f->f_after = after < room - f->f_before ? after : room - f->f_before;
	return f->f_after;
}

/* May a page that is in memory, and in use, lack its only translation, as page-out has taken it to see the next use? */
static bool may_be_asked(const struct vm *vm)
{
	return vm->vm_caps->mc_max_mappings == 1 && !vm->vm_caps->mc_ref_bits;
}

/* The page is in memory. What of the pages beside it is to be mapped with it: a stream passes those that were asked about by one fault. */
static void plan_in_memory(struct fault *f)
{
	segvn_plan(f->f_seg, f->f_va, f->f_idx, 0, &f->f_plan, &f->f_before, &f->f_after);
	f->f_plan.pl_n = 0;
}

static enum vm_err get_anon(struct fault *f, anon_id id, enum page_se se, struct page **ppp)
{
	struct vm *vm = f->f_vm;
	enum page_peek was;
	unsigned hint = 1;

	if ((*ppp = page_lookup_was(vm, &vm->vm_swapfs, svd_anon_off(id), se, &was)) != NULL) {
		if (was == PAGE_UNUSED)
			note_first_use(f);
		else if (vm->vm_prefetch->pf_maps && may_be_asked(vm))
			plan_in_memory(f);
		f->f_found = true;
		return VM_OK;
	}
	if (anon_swapped(vm, id)) {
		unsigned n = plan_beside(f);

		VM_STAT(vm, fault_io);
		/* The same read brings the pages that follow on disk, as far as the plan has
		 * them. */
		while (hint <= n &&
		    anon_follows(vm, id, anonmap_peek(f->f_amp, f->f_idx + hint), hint))
			hint++;
	}
	return anon_bring(vm, id, se, hint, segvn_place(f->f_seg, f->f_idx), ppp);
}

/*
 * The page of zeroes: reads of memory that was never written map it, read-only. NULL: this machine
 * cannot map a frame more than once, the page is to be the program's own, or there is no memory.
 */
static struct page *zero_page(const struct fault *f)
{
	struct vm *vm = f->f_vm;
	struct page *zero, *mine, *none = NULL;

	if (f->f_write || f->f_soft || f->f_wire || f->f_noload ||
	    vm->vm_caps->mc_max_mappings != 0 || svd_shares_amp(f->f_svd) ||
	    (f->f_svd->svd_prot & PROT_R) == 0)
		return NULL;
	if ((zero = __atomic_load_n(&vm->vm_zeropage, __ATOMIC_ACQUIRE)) != NULL)
		return zero;
	if ((mine = page_kalloc(vm, 0, PG_ZERO)) == NULL)
		return NULL;
	if (__atomic_compare_exchange_n(
		&vm->vm_zeropage, &none, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return mine;
	page_kfree(vm, mine, 0);
	return none;
}

/* ---- the cases of a fault; the slot is busy ---- */
/* Cases 1a and 1b. */
static enum vm_err fault_zero(struct fault *f)
{
	struct page *pp = zero_page(f);
	anon_id id;
	enum vm_err e;

	if (pp != NULL) {
		VM_STAT(f->f_vm, zero_shared);
		return seg_load(f->f_as, f->f_va, pp, f->f_svd->svd_prot & ~PROT_W,
		    f->f_flags | HAT_LOAD_NOCONSIST);
	}
	if ((e = charge_one(f)) != VM_OK)
		return e;
	if ((e = anon_zero(f->f_vm, segvn_place(f->f_seg, f->f_idx), &id, &pp)) != VM_OK) {
		uncharge_one(f);
		return e;
	}
	anonmap_set(f->f_amp, f->f_idx, id);
	f->f_fresh = true;
	e = load_page(f, pp, true);
	if (f->f_noload || e != VM_OK)
		hat_unload(f->f_as->a_hat, f->f_va, VM_PAGESIZE,
		    HAT_UNLOAD); /* the page of zeroes must not stay */
	page_unlock(f->f_vm, pp);
	return e;
}

/* Copy-on-write, cases 2b, 3c and 4: the slot gets a copy of src (E-locked; unlocked here) instead of old (0: a file's page). */
static enum vm_err fault_copy(struct fault *f, struct page *src, anon_id old)
{
	unsigned locked = aslock_get(f->f_as, f->f_va);
	struct page *pp;
	anon_id id;
	enum vm_err e;

	if (old == 0 && (e = charge_one(f)) != VM_OK) {
		page_unlock(f->f_vm, src);
		return e;
	}
	e = anon_private(f->f_vm, src, segvn_place(f->f_seg, f->f_idx), &id, &pp);
	if (e == VM_OK && locked != 0 && (e = page_wire(f->f_vm, pp)) != VM_OK) {
		page_unlock(f->f_vm, pp);
		anon_decref(f->f_vm, id);
	}
	if (e != VM_OK) {
		page_unlock(f->f_vm, src);
		if (old == 0)
			uncharge_one(f);
		return e == VM_LIMIT ? VM_NOMEM : e;
	}
	if (locked != 0)
		page_unwire(f->f_vm, src);
	anonmap_set(f->f_amp, f->f_idx, id);
	if (svd_shares_amp(f->f_svd))
		hat_pageunload(src);
	else
		hat_unload(f->f_as->a_hat, f->f_va, VM_PAGESIZE,
		    (locked & LOCK_SOFT) != 0 ? HAT_UNLOAD_UNLOCK : 0);
	page_unlock(f->f_vm, src);
	e = load_page(f, pp, true);
	page_unlock(f->f_vm, pp);
	if (old != 0)
		anon_decref(f->f_vm, old);
	return e;
}

/* Cases 2a and 2b. */
static enum vm_err fault_file(struct fault *f)
{
	struct page *pp;
	enum vm_err e = get_file(f, f->f_write ? SE_EXCL : SE_SHARED, &pp);

	if (e != VM_OK)
		return e;
	if (f->f_write)
		return fault_copy(f, pp, 0);
	e = load_page(f, pp, false);
	page_unlock(f->f_vm, pp);
	return e;
}

/* Cases 3 and 4. */
static enum vm_err fault_anon(struct fault *f, anon_id id)
{
	bool alone =
	    anon_refcnt(f->f_vm, id) == 1; /* the count stays: no fork while we hold a_lock and the
	                                    * slot */
	/* Locked pages of shared memory are never replaced: their locks are counted there. Nor are
	 * those of a snapshot. */
	bool own = f->f_write || ((f->f_soft || f->f_wire) && svd_shares_amp(f->f_svd));
	struct page *pp;
	enum vm_err e = get_anon(f, id, own ? SE_EXCL : SE_SHARED, &pp);

	if (e != VM_OK)
		return e;
	if (own && !alone)
		return fault_copy(f, pp, id);
	if (f->f_write && f->f_svd->svd_dupped)
		VM_STAT(f->f_vm, cow_reuse);
	e = load_page(f, pp, alone);
	page_unlock(f->f_vm, pp);
	return e;
}

static enum vm_err fault_slot(struct fault *f)
{
	anon_id id;
	enum vm_err e;

	if ((f->f_amp = segvn_amp(f->f_seg)) == NULL)
		return VM_NOMEM;
	f->f_idx = svd_index(f->f_seg, f->f_va);
	if (!anonmap_enter(f->f_amp, f->f_idx, true, &id))
		return VM_NOMEM;
	if (id != 0) {
		anon_prefetch(f->f_vm, id);
		e = fault_anon(f, id);
	} else if (f->f_svd->svd_vp != NULL) {
		e = fault_file(f);
	} else if (svd_shared(f->f_svd) && anonmap_ends(f->f_amp, f->f_idx)) {
		e = VM_EOF;
	} else {
		e = fault_zero(f);
	}
	anonmap_exit(f->f_amp, f->f_idx);
	return e;
}

/* Case 5. */
static enum vm_err fault_shared_file(struct fault *f)
{
	struct page *pp;
	enum vm_err e;

	f->f_idx = vm_btop(svd_voff(f->f_seg, f->f_va));
	if ((e = get_file(f, SE_SHARED, &pp)) != VM_OK)
		return e;
	e = load_page(f, pp, true);
	page_unlock(f->f_vm, pp);
	return e;
}

static enum vm_err fault_page(struct fault *f, vaddr_t va)
{
	f->f_va = va;
	f->f_plan.pl_n = f->f_plan.pl_behind = f->f_before = f->f_after = 0;
	f->f_fresh = f->f_found = f->f_file = false;
	if (f->f_soft && !aslock_prepare(f->f_as, va))
		return VM_NOMEM;
	if (f->f_wire && !aslock_prepare(f->f_as, va))
		return VM_NOMEM;
	return svd_has_anon(f->f_svd) ? fault_slot(f) : fault_shared_file(f);
}

/* ---- zero pages beside a program that touches memory in order, upwards or downwards ---- */
/* How many of `left` pages may be made if `want` are wanted. */
static uint64_t zero_room(struct fault *f, uint64_t left, uint64_t want)
{
	if (left == 0 || f->f_svd->svd_vp != NULL || svd_shared(f->f_svd) ||
	    f->f_svd->svd_advice == ADV_RANDOM || (f->f_svd->svd_prot & PROT_W) == 0 ||
	    f->f_as->a_lockfuture)
		return 0;
	while (!page_room(f->f_vm, (pfn_t)(4 * want)))
		if ((want /= 2) < ZERO_AHEAD)
			return 0;
	return left < want ? left : want;
}

/* Where slot idx is mapped. */
static vaddr_t slot_va(const struct fault *f, uint64_t idx)
{
	return f->f_va + vm_ptob(idx) - vm_ptob(f->f_idx);
}

/* Has slot idx a translation? If the slot is busy the answer stays "no" until the caller loads one. */
static bool slot_mapped(const struct fault *f, uint64_t idx)
{
	return hat_probe(f->f_as->a_hat, slot_va(f, idx), NULL) != PFN_INVALID;
}

/* Is nothing in slot idx, and nothing known to be mapped there? A hint. */
static bool peek_empty(const struct fault *f, uint64_t idx)
{
	return !slot_mapped(f, idx) && anonmap_peek(f->f_amp, idx) == 0;
}

/* Makes up to n pages from slot idx on, all their slots busy at once (in rising order), and loads them in one call. How many. */
static uint64_t zero_pages(struct fault *f, uint64_t idx, uint64_t n)
{
	struct page *pps[ZERO_MOST];
	uint64_t k = 0;

	for (; k < n; k++) {
		anon_id id;

		/* A busy slot is not empty for long. A slot that has an anon ends the run, and so
		 * does one that maps the page of zeroes. */
		if (!peek_empty(f, idx + k) || !anonmap_enter(f->f_amp, idx + k, true, &id))
			break;
		if (id != 0 || charge_one(f) != VM_OK) {
			anonmap_exit(f->f_amp, idx + k);
			break;
		}
		if (anon_zero(f->f_vm, segvn_place(f->f_seg, idx + k), &id, &pps[k]) != VM_OK) {
			uncharge_one(f);
			anonmap_exit(f->f_amp, idx + k);
			break;
		}
		anonmap_set(f->f_amp, idx + k, id);
	}
	segvn_load_run(f->f_seg, f->f_amp, slot_va(f, idx), pps, k, f->f_svd->svd_prot);
	return k;
}

/*
 * How many pages to make beside the touched one: the window doubles as the touches go on in one
 * direction. Where larger pages are wanted it does not: the next block would have so many pages
 * that it is no longer new (as_large.c) and stays small.
 */
static uint64_t zero_window(const struct fault *f, bool upwards)
{
	uint64_t idx = f->f_idx, n = ZERO_AHEAD,
		 behind = upwards ? vm_btop(f->f_va - seg_base(f->f_seg))
				  : vm_btop(seg_end(f->f_seg) - f->f_va) - 1;

	if ((f->f_seg->s_flags & S_SIZE_MASK) != 0)
		return n;
	while (n < ZERO_MOST && n <= behind && slot_mapped(f, upwards ? idx - n : idx + n))
		n *= 2;
	return n;
}

/* After a first touch at f_va: makes pages beside it, if the last first touch was its neighbour on
 * the other side. */
static void zero_beside(struct fault *f)
{
	struct segvn_data *svd = f->f_svd;
	uint64_t idx = f->f_idx, n = 0;

	if (idx == svd_hint(&svd->svd_zero_next) && idx != svd->svd_anon_index) {
		n = zero_room(f, vm_btop(seg_end(f->f_seg) - f->f_va) - 1, zero_window(f, true));
		n = n > 0 ? zero_pages(f, idx + 1, n) : 0;
		svd_hint_set(&svd->svd_zero_next, idx + 1 + n);
		return;
	}
	if (idx != svd_hint(&svd->svd_zero_prev)) {
		svd_hint_set(&svd->svd_zero_next, idx + 1);
	} else {
		uint64_t most =
		    zero_room(f, vm_btop(f->f_va - seg_base(f->f_seg)), zero_window(f, false));

		while (n < most && peek_empty(f, idx - n - 1))
			n++;
		if (n > 0)
			(void)zero_pages(f, idx - n, n);
	}
	svd_hint_set(&svd->svd_zero_prev, idx - n - 1);
}

/* ---- pages from the store beside a program that goes through memory in order, upwards or downwards ---- */
/*
 * The page of slot idx, if the slot's anon is ours alone and the page was read ahead and not used since, or was asked about by
 * page-out, or is in the store only and memory is at hand. Locked E, the slot busy.
 */
static struct page *ahead_get(struct fault *f, uint64_t idx)
{
	struct vm *vm = f->f_vm;
	anon_id id = anonmap_peek(f->f_amp, idx);
	struct page *pp = NULL;

	if (id == 0 ||
	    (!may_be_asked(vm) && page_peek(vm, &vm->vm_swapfs, svd_anon_off(id)) == PAGE_USED) ||
	    !anonmap_enter(f->f_amp, idx, false, &id))
		return NULL;
	if (id != 0 && anon_refcnt(vm, id) == 1 && !slot_mapped(f, idx)) {
		pp = page_lookup_nowait(vm, &vm->vm_swapfs, svd_anon_off(id), SE_EXCL);
		if (pp == NULL) {
			pp = anon_getpage_ahead(vm, id, segvn_place(f->f_seg, idx));
			VM_STATN(vm, prefetch, pp != NULL);
		}
	}
	if (pp == NULL)
		anonmap_exit(f->f_amp, idx);
	return pp;
}

/* Reads what is on a device of n pages from slot idx on, by as few requests as the pages lie apart there. */
static void read_extents(struct fault *f, uint64_t idx, uint64_t n)
{
	unsigned places[PREFETCH_MAX];
	anon_id ids[PREFETCH_MAX];
	uint32_t k = 0;

	for (uint64_t end = idx + n; idx < end; idx++) {
		anon_id id = anonmap_peek(f->f_amp, idx);

		if (id == 0)
			continue;
		places[k] = segvn_place(f->f_seg, idx);
		ids[k++] = id;
	}
	if (k > 0)
		anon_read_ahead(f->f_vm, ids, places, k);
}

/*
 * After a fault at f_va that needed the store: of n pages from slot idx on, without f_va, those
 * that are available are mapped. The slots of pages that follow each other are busy all at once, in
 * rising order.
 */
static void map_ahead(struct fault *f, uint64_t idx, uint64_t n)
{
	unsigned prot = f->f_svd->svd_prot;
	struct page *pps[PREFETCH_MAX];

	if (n == 0)
		return;
	read_extents(f, idx, n);
	if (!f->f_vm->vm_caps->mc_mod_bits)
		prot &= ~PROT_W;
	for (uint64_t end = idx + n; idx < end; idx++) {
		uint64_t k = 0;

		while (idx + k < end && (pps[k] = ahead_get(f, idx + k)) != NULL)
			k++;
		segvn_load_run(f->f_seg, f->f_amp, slot_va(f, idx), pps, k, prot);
		idx += k;
	}
}

/* ---- pages in memory ahead of a program that reads through them in order ---- */
/*
 * A child that was just forked has pages and no translations, and so has a space that was swapped out. As many pages are
 * mapped after the one that was read as are mapped before it: the window doubles along a stream, and a read that belongs
 * to no stream costs nothing. The machine must allow a page more than one translation, for the parent needs its own.
 */
static unsigned around_window(const struct fault *f)
{
	uint64_t before = vm_btop(f->f_va - seg_base(f->f_seg)),
		 after = vm_btop(seg_end(f->f_seg) - f->f_va) - 1;
	uint64_t most = before < after ? before : after;
	unsigned n = 0;

	if (!f->f_found || f->f_write || f->f_soft || f->f_wire || f->f_noload ||
	    f->f_vm->vm_caps->mc_max_mappings != 0 || f->f_svd->svd_advice == ADV_RANDOM)
		return 0;
	while (n < AROUND_MAX && n < most && slot_mapped(f, f->f_idx - n - 1))
		n++;
	return n;
}

/* The page of slot idx if it is in memory, was used since it was read, and has no translation. Locked S, the slot busy. *alone: no copy is due. */
static struct page *around_get(struct fault *f, uint64_t idx, bool *alone)
{
	struct vm *vm = f->f_vm;
	anon_id id = anonmap_peek(f->f_amp, idx);
	struct page *pp = NULL;

	if (id == 0 || page_peek(vm, &vm->vm_swapfs, svd_anon_off(id)) != PAGE_USED ||
	    !anonmap_enter(f->f_amp, idx, false, &id))
		return NULL;
	if (id != 0 && !slot_mapped(f, idx)) {
		*alone = anon_refcnt(vm, id) == 1;
		pp = page_lookup_hint(vm, &vm->vm_swapfs, svd_anon_off(id), SE_SHARED);
	}
	if (pp == NULL)
		anonmap_exit(f->f_amp, idx);
	return pp;
}

/* Maps those of the n pages after f_va that are in memory; read-only, if any of the pages is shared
 * or a write to it must fault. */
static void map_around(struct fault *f, unsigned n)
{
	unsigned prot = f->f_svd->svd_prot;
	struct page *pps[AROUND_MAX];
	uint64_t k = 0;

	for (; k < n; k++) {
		bool alone;

		pps[k] = around_get(f, f->f_idx + 1 + k, &alone);
		if (pps[k] == NULL)
			break;
		if (!alone || (!f->f_vm->vm_caps->mc_mod_bits && (page_nrm(pps[k]) & P_MOD) == 0))
			prot &= ~PROT_W;
	}
	segvn_load_run(f->f_seg, f->f_amp, f->f_va + VM_PAGESIZE, pps, k, prot);
	VM_STATN(f->f_vm, map_around, k);
}

static enum vm_err fault_one(struct fault *f, vaddr_t va)
{
	uint64_t n;
	enum vm_err e;

	e = fault_page(f, va);
	if (e == VM_OK && !f->f_soft && !f->f_wire) {
		map_ahead(f, f->f_idx - f->f_before, f->f_before);
		map_ahead(f, f->f_idx + 1, f->f_after);
	}
	if (e == VM_OK && (n = around_window(f)) > 0)
		map_around(f, (unsigned)n);
	if (e == VM_OK && f->f_file && !f->f_write && !f->f_soft && !f->f_wire && !f->f_noload)
		segvn_map_file_around(f->f_seg, f->f_amp, f->f_va);
	if (e == VM_OK && (f->f_plan.pl_n > 0 || f->f_plan.pl_behind > 0))
		segvn_read_ahead(f->f_seg, va, &f->f_plan);
	if (!f->f_fresh || e != VM_OK || f->f_soft || f->f_wire)
		return e;
	zero_beside(f);
	return VM_OK;
}

/* ---- locks ---- */
/* The page behind a locked address: it is wired, so it is in memory. Locked S, slot busy (if it has one). */
static struct page *locked_page(struct seg *seg, vaddr_t va, anon_id *idp)
{
	struct vm *vm = seg->s_as->a_vm;
	struct segvn_data *svd = svd_of(seg);
	struct anon_map *amp = svd_has_anon(svd) ? svd_amp(svd) : NULL;
	struct page *pp;

	*idp = 0;
	if (amp != NULL && !anonmap_enter(amp, svd_index(seg, va), false, idp))
		return NULL;
	if (*idp != 0)
		pp = page_lookup_notouch(vm, &vm->vm_swapfs, svd_anon_off(*idp), SE_SHARED);
	else
		pp = svd->svd_vp != NULL
		    ? page_lookup_notouch(vm, svd->svd_vp, svd_voff(seg, va), SE_SHARED)
		    : NULL;
	return pp;
}

static void locked_page_done(struct seg *seg, vaddr_t va, struct page *pp)
{
	struct anon_map *amp = svd_has_anon(svd_of(seg)) ? svd_amp(svd_of(seg)) : NULL;

	if (pp != NULL)
		page_unlock(seg->s_as->a_vm, pp);
	if (amp != NULL)
		anonmap_exit(amp, svd_index(seg, va));
}

static void unlock_page(struct seg *seg, vaddr_t va, bool wired, bool written)
{
	struct as *as = seg->s_as;
	anon_id id;

	if ((aslock_get(as, va) & (wired ? LOCK_WIRED : LOCK_SOFT)) == 0)
		return;
	struct page *pp = locked_page(seg, va, &id);

	VM_ASSERT(pp != NULL);
	if (pp != NULL) {
		if (written)
			mark_dirty(as->a_vm, pp);
		if ((aslock_del(as, va, pp, wired) & LOCK_SOFT) == 0 && !wired)
			hat_unlock(as->a_hat, va, VM_PAGESIZE);
	}
	locked_page_done(seg, va, pp);
}

/* Private memory that may be written is copied when it is locked, not under the lock's holder later. */
static bool breaks_cow(const struct segvn_data *svd)
{
	return !svd_shared(svd) && (svd->svd_prot & PROT_W) != 0;
}

enum vm_err segvn_lockop(struct seg *seg, vaddr_t addr, uint64_t len, enum lock_op op)
{
	struct segvn_data *svd = svd_of(seg);
	struct fault f = { .f_seg = seg,
		.f_svd = svd,
		.f_vm = seg->s_as->a_vm,
		.f_as = seg->s_as,
		.f_wire = true,
		.f_write = breaks_cow(svd) };

	for (vaddr_t va = addr; va < addr + len; va += VM_PAGESIZE) {
		enum vm_err e;

		if (op == SEG_UNLOCK) {
			unlock_page(seg, va, true, false);
			continue;
		}
		if ((aslock_get(f.f_as, va) & LOCK_WIRED) != 0)
			continue;
		if (svd->svd_prot == 0)
			return VM_PROT;
		if ((e = fault_page(&f, va)) != VM_OK)
			return e;
	}
	return VM_OK;
}

/* ---- the fault ---- */
static bool access_allowed(unsigned prot, enum seg_rw rw)
{
	switch (rw) {
	case S_READ: return (prot & (PROT_R | PROT_X)) != 0;
	case S_WRITE: return (prot & PROT_W) != 0;
	case S_EXEC: return (prot & PROT_X) != 0;
	default: return prot != 0;
	}
}

enum vm_err segvn_fault(
    struct seg *seg, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	struct segvn_data *svd = svd_of(seg);
	struct fault f = { .f_seg = seg,
		.f_svd = svd,
		.f_vm = seg->s_as->a_vm,
		.f_as = seg->s_as,
		.f_write = rw == S_WRITE,
		.f_flags = HAT_LOAD_REF };
	vaddr_t va;

	if (type == F_SOFTUNLOCK) {
		for (va = addr; va < addr + len; va += VM_PAGESIZE)
			unlock_page(seg, va, false, rw == S_WRITE);
		return VM_OK;
	}
	if (!access_allowed(svd->svd_prot, rw))
		return VM_PROT;
	if (type == F_SOFTLOCK) {
		f.f_soft = true;
		f.f_write |= breaks_cow(svd);
		f.f_flags |= HAT_LOAD_LOCK;
	}
	for (va = addr; va < addr + len; va += VM_PAGESIZE) {
		enum vm_err e = fault_one(&f, va);

		if (e == VM_OK)
			continue;
		while (type == F_SOFTLOCK && va > addr) {
			va -= VM_PAGESIZE;
			unlock_page(seg, va, false, false);
		}
		return e == VM_LIMIT ? VM_NOMEM : e;
	}
	return VM_OK;
}

/* ---- debuggers ---- */
/* Gets the page behind va, locked E, the slot (if any) busy; NULL: zeroes. */
static enum vm_err get_any(struct fault *f, struct page **ppp)
{
	anon_id id = 0;

	*ppp = NULL;
	if (f->f_amp != NULL && !anonmap_enter(f->f_amp, f->f_idx, false, &id))
		return VM_NOMEM;
	if (id != 0)
		return anon_getpage(f->f_vm, id, SE_EXCL, 1, segvn_place(f->f_seg, f->f_idx), ppp);
	if (f->f_svd->svd_vp != NULL)
		return pvn_getpage(
		    f->f_vm, f->f_svd->svd_vp, svd_voff(f->f_seg, f->f_va), SE_EXCL, 1, ppp);
	return VM_OK;
}

static void set_place(struct fault *f, vaddr_t va)
{
	f->f_va = vm_page_trunc(va);
	f->f_amp = svd_has_anon(f->f_svd) ? svd_amp(f->f_svd) : NULL;
	f->f_idx = f->f_amp != NULL ? svd_index(f->f_seg, f->f_va) : 0;
}

enum vm_err segvn_peek(struct seg *seg, vaddr_t va, void *buf, uint64_t n)
{
	struct fault f = {
		.f_seg = seg, .f_svd = svd_of(seg), .f_vm = seg->s_as->a_vm, .f_as = seg->s_as
	};
	struct page *pp;
	enum vm_err e;

	if (!f.f_vm->vm_caps->mc_direct_map && aslock_get(f.f_as, vm_page_trunc(va)) != 0)
		return VM_RETRY; /* locked: the translation may not be dropped, so the access must
		                  * go through it */
	set_place(&f, va);
	e = get_any(&f, &pp);
	if (e == VM_OK && pp != NULL)
		memcpy(buf, (char *)page_mapin(f.f_vm, pp) + (va & VM_PAGEMASK), n);
	else if (e == VM_OK)
		memset(buf, 0, n);
	if (e == VM_OK && pp != NULL)
		page_unlock(f.f_vm, pp);
	if (f.f_amp != NULL)
		anonmap_exit(f.f_amp, f.f_idx);
	return e;
}

#define POKE_TRIES 100u

enum vm_err segvn_poke(struct seg *seg, vaddr_t va, const void *buf, uint64_t n)
{
	struct fault f = { .f_seg = seg,
		.f_svd = svd_of(seg),
		.f_vm = seg->s_as->a_vm,
		.f_as = seg->s_as,
		.f_write = true,
		.f_noload = true };

	if (svd_shared(f.f_svd) ||
	    (!f.f_vm->vm_caps->mc_direct_map && aslock_get(f.f_as, vm_page_trunc(va)) != 0))
		return VM_RETRY;
	for (unsigned tries = 0; tries < POKE_TRIES; tries++) {
		enum vm_err e =
		    fault_page(&f, vm_page_trunc(va)); /* now the space has the page to itself */
		anon_id id;
		struct page *pp;

		if (e != VM_OK)
			return e == VM_LIMIT ? VM_NOMEM : e;
		if (!anonmap_enter(f.f_amp, f.f_idx, false, &id))
			return VM_NOMEM;
		e = VM_RETRY;
		if (id != 0 && anon_refcnt(f.f_vm, id) == 1 &&
		    (e = anon_getpage(f.f_vm, id, SE_EXCL, 1, segvn_place(seg, f.f_idx), &pp)) ==
			VM_OK) {
			mark_dirty(f.f_vm, pp);
			memcpy((char *)page_mapin(f.f_vm, pp) + (va & VM_PAGEMASK), buf, n);
			page_nrm_set(pp, P_MOD);
			page_unlock(f.f_vm, pp);
		}
		anonmap_exit(f.f_amp, f.f_idx);
		if (e != VM_RETRY)
			return e;
	}
	return VM_NOMEM;
}

/* ---- adoption ---- */
static enum vm_err adopt_page(struct fault *f)
{
	anon_id id = anon_alloc(f->f_vm);
	struct page *pp;
	enum vm_err e;

	if (id == 0)
		return VM_NOMEM;
	while ((e = page_create(f->f_vm, &f->f_vm->vm_swapfs, svd_anon_off(id), PG_WAIT | PG_NEW,
		    &pp)) == VM_EXIST)
		mach_yield();
	if (e != VM_OK) {
		anon_decref(f->f_vm, id);
		return e;
	}
	page_nrm_set(pp, P_MOD);
	e = segvn_load(f->f_seg, f->f_va, pp, f->f_svd->svd_prot, HAT_LOAD_PRESENT);
	if (e != VM_OK) {
		page_destroy(f->f_vm, pp);
		anon_decref(f->f_vm, id);
		return e;
	}
	page_filled(f->f_vm, pp, false);
	anonmap_set(f->f_amp, f->f_idx, id);
	page_unlock(f->f_vm, pp);
	VM_STAT(f->f_vm, adopted);
	return VM_OK;
}

enum vm_err segvn_adopt(struct seg *seg, vaddr_t addr, uint64_t npages, const uint64_t *present)
{
	struct segvn_data *svd = svd_of(seg);
	struct fault f = { .f_seg = seg, .f_svd = svd, .f_vm = seg->s_as->a_vm, .f_as = seg->s_as };
	enum vm_err e = VM_OK;

	if (svd->svd_vp != NULL)
		return VM_NOTSUP;
	if ((f.f_amp = segvn_amp(seg)) == NULL)
		return VM_NOMEM;
	for (uint64_t i = 0; i < npages && e == VM_OK; i++) {
		anon_id id;

		if ((present[i / 64] >> (i % 64) & 1) == 0)
			continue;
		f.f_va = addr + vm_ptob(i);
		f.f_idx = svd_index(seg, f.f_va);
		if (!anonmap_enter(f.f_amp, f.f_idx, true, &id))
			return VM_NOMEM;
		if (id == 0) {
			if ((e = charge_one(&f)) == VM_OK && (e = adopt_page(&f)) != VM_OK)
				uncharge_one(&f);
		}
		anonmap_exit(f.f_amp, f.f_idx);
	}
	return e;
}

uint64_t segvn_populated(struct seg *seg, vaddr_t va, uint64_t len)
{
	struct segvn_data *svd = svd_of(seg);
	uint64_t n = 0, idx = svd_index(seg, va), end = idx + vm_btop(len);

	if (svd->svd_amp == NULL)
		return 0;
	for (idx = anonmap_next(svd->svd_amp, idx); idx < end && idx < anonmap_npages(svd->svd_amp);
	     idx = anonmap_next(svd->svd_amp, idx + 1))
		if (anonmap_peek(svd->svd_amp, idx) != 0)
			n++;
	return n;
}
