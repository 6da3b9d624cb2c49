/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segvn: giving memory up, and advice. Page-out of a range or of the whole segment, contents dropped at once, lazily or for all sharers,
 * contents read ahead. Theory: seg_vn.c.
 *
 * Locks: a_lock R, except where a function says W; slots busy, pages locked one after another.
 */
#include "vm/seg/seg_vn.h"

struct pushing {
	struct vm *p_vm;
	struct page *p_batch[VM_IO_PAGES];
	uint32_t p_n;
	uint64_t p_freed;
};

static void push_flush(struct pushing *p)
{
	uint32_t ok = 0;

	if (p->p_n == 0)
		return;
	(void)swapfs_putpages(p->p_vm, p->p_batch, p->p_n, &ok);
	for (uint32_t i = 0; i < p->p_n; i++) {
		if (i >= ok) {
			page_unlock(p->p_vm, p->p_batch[i]);
			continue;
		}
		page_free(p->p_vm, p->p_batch[i], false);
		p->p_freed++;
	}
	p->p_n = 0;
}

static void push_page(struct pushing *p, anon_id id)
{
	struct vm *vm = p->p_vm;
	struct page *pp;

	if (!page_exists(vm, &vm->vm_swapfs, svd_anon_off(id)))
		return;
	if ((pp = page_lookup_nowait(vm, &vm->vm_swapfs, svd_anon_off(id), SE_EXCL)) == NULL)
		return;
	if (pp->p_lckcnt > 0 || !hat_page_tryunload(pp)) {
		page_unlock(vm, pp);
		return;
	}
	/* Without a swap slot the contents are nowhere else, even if they were not modified. */
	if ((page_nrm(pp) & P_MOD) != 0 || !anon_swapped(vm, id)) {
		page_nrm_set(pp, P_MOD);
		p->p_batch[p->p_n++] = pp;
		if (p->p_n == VM_IO_PAGES)
			push_flush(p);
	} else {
		page_free(vm, pp, false);
		p->p_freed++;
	}
}

/* Pages are found by their anon's name without a lock on the slot: if the slot is cleared
 * meanwhile, the name is gone, too. */
static uint64_t push_range(struct seg *seg, vaddr_t va, uint64_t len)
{
	struct segvn_data *svd = svd_of(seg);
	struct pushing p = { .p_vm = segvn_vm(seg) };
	struct anon_map *amp = svd_has_anon(svd) ? svd_amp(svd) : NULL;
	uint64_t end = svd_index(seg, va) + vm_btop(len);

	if (amp == NULL)
		return 0;
	for (uint64_t i = anonmap_next(amp, svd_index(seg, va)); i < end && i < anonmap_npages(amp);
	     i = anonmap_next(amp, i + 1)) {
		anon_id id = anonmap_peek(amp, i);

		if (id != 0)
			push_page(&p, id);
	}
	push_flush(&p);
	return p.p_freed;
}

uint64_t segvn_swapout(struct seg *seg)
{
	struct segvn_data *svd = svd_of(seg);

	if (svd->svd_vp != NULL)
		(void)pvn_putpages(
		    segvn_vm(seg), svd->svd_vp, svd->svd_off, seg_size(seg), PVN_FREE);
	return push_range(seg, seg_base(seg), seg_size(seg));
}

/* W. Zeroes or the file's contents come back at the next touch. */
static enum vm_err drop_contents(struct seg *seg, vaddr_t addr, uint64_t len)
{
	struct segvn_data *svd = svd_of(seg);
	vaddr_t va = addr;

	if (aslock_next(seg->s_as, &va, addr + len, LOCK_WIRED | LOCK_SOFT))
		return VM_LOCKED;
	hat_unload(seg->s_as->a_hat, addr, len, svd_discard(svd));
	if (svd_shares_amp(svd) || svd->svd_amp == NULL)
		return VM_OK;
	uint64_t n = svd->svd_full || svd->svd_foreign ? 0 : segvn_populated(seg, addr, len);

	anonmap_drop(svd->svd_amp, svd_index(seg, addr), vm_btop(len));
	segvn_uncharge(seg, n);
	return VM_OK;
}

/*
 * Lets the anon's contents be dropped when its frame is wanted, unless the page is written before:
 * a clean page without a slot on disk is just freed, and the anon reads as zeroes. False: a later
 * write could not be detected here.
 */
static bool let_go(struct vm *vm, anon_id id)
{
	struct page *pp;

	if (!page_exists(vm, &vm->vm_swapfs, svd_anon_off(id)) && !anon_swapped(vm, id))
		return true; /* zeroes already */
	if (vm->vm_caps->mc_mod_sums || anon_refcnt(vm, id) != 1)
		return false;
	if ((pp = page_lookup_nowait(vm, &vm->vm_swapfs, svd_anon_off(id), SE_EXCL)) == NULL)
		return false;
	if (vm->vm_caps->mc_mod_bits)
		(void)hat_pagesync(pp, true, true);
	else
		hat_pageunload(pp); /* the next write faults, and marks the page */
	page_nrm_clear(pp, P_MOD | P_REF);
	swapfs_dirty(vm, pp);
	page_cool(vm, pp);
	page_unlock(vm, pp);
	VM_STAT(vm, lazy_free);
	return true;
}

/* W. Like DONTNEED, but lazily: a page that is written before its frame is wanted costs neither a fault nor zeroing. */
static enum vm_err free_lazily(struct seg *seg, vaddr_t addr, uint64_t len)
{
	struct segvn_data *svd = svd_of(seg);
	uint64_t end = svd_index(seg, addr) + vm_btop(len), i;
	vaddr_t va = addr;
	enum vm_err e = VM_OK;

	if (svd_shares_amp(svd) || svd->svd_vp != NULL || svd->svd_amp == NULL)
		return VM_OK;
	if (aslock_next(seg->s_as, &va, addr + len, LOCK_WIRED | LOCK_SOFT))
		return VM_LOCKED;
	for (i = anonmap_next(svd->svd_amp, svd_index(seg, addr)); e == VM_OK && i < end;
	     i = anonmap_next(svd->svd_amp, i + 1)) {
		anon_id id = anonmap_peek(svd->svd_amp, i);

		if (id != 0 && !let_go(segvn_vm(seg), id))
			e = drop_contents(
			    seg, seg_base(seg) + vm_ptob(i - svd->svd_anon_index), VM_PAGESIZE);
	}
	return e;
}

static void drop_unwired(struct vm *vm, struct anon_map *amp, uint64_t i)
{
	bool wired = false;
	struct page *pp;
	anon_id id;

	(void)anonmap_enter(amp, i, false, &id);
	if (id != 0 &&
	    (pp = page_lookup_notouch(vm, &vm->vm_swapfs, svd_anon_off(id), SE_SHARED)) != NULL) {
		wired = pp->p_lckcnt > 0;
		page_unlock(vm, pp);
	}
	if (id != 0 && !wired)
		anonmap_set(amp, i, 0);
	anonmap_exit(amp, i);
	if (id != 0 && !wired)
		anon_decref(vm, id);
}

/* W. The contents of shared memory are dropped for all sharers; pages that other sharers wired stay. */
static enum vm_err remove_range(struct seg *seg, vaddr_t addr, uint64_t len)
{
	struct segvn_data *svd = svd_of(seg);
	struct vm *vm = segvn_vm(seg);
	vaddr_t va = addr;

	if (!svd_shared(svd) || (svd->svd_maxprot & PROT_W) == 0)
		return VM_INVAL;
	if (aslock_next(seg->s_as, &va, addr + len, LOCK_WIRED | LOCK_SOFT))
		return VM_LOCKED;
	if (svd->svd_vp != NULL) {
		page_purge_range(vm, svd->svd_vp, svd_voff(seg, addr), len, true);
		svd->svd_vp->v_ops->vo_discard(svd->svd_vp, svd_voff(seg, addr), len);
		return VM_OK;
	}
	uint64_t end = svd_index(seg, addr) + vm_btop(len);

	for (uint64_t i = anonmap_next(svd->svd_amp, svd_index(seg, addr)); i < end;
	     i = anonmap_next(svd->svd_amp, i + 1))
		drop_unwired(vm, svd->svd_amp, i);
	return VM_OK;
}

/* Reads what is on disk as long as memory is plenty; errors will show at the real access. */
static void read_contents(struct seg *seg, vaddr_t addr, uint64_t len)
{
	struct segvn_data *svd = svd_of(seg);
	struct vm *vm = segvn_vm(seg);
	struct anon_map *amp = svd_has_anon(svd) ? svd_amp(svd) : NULL;

	for (vaddr_t va = addr; va < addr + len && vm->vm_nfree > vm->vm_lotsfree + VM_IO_PAGES;
	     va += VM_PAGESIZE) {
		uint64_t left = vm_btop(addr + len - va);
		unsigned hint = left < VM_IO_PAGES ? (unsigned)left : VM_IO_PAGES;
		enum vm_err e = VM_OK;
		struct page *pp = NULL;
		anon_id id = 0;

		if (amp != NULL && !anonmap_enter(amp, svd_index(seg, va), false, &id))
			return;
		if (id != 0 && !page_exists(vm, &vm->vm_swapfs, svd_anon_off(id)))
			e = anon_getpage(
			    vm, id, SE_SHARED, hint, segvn_place(seg, svd_index(seg, va)), &pp);
		else if (id == 0 && svd->svd_vp != NULL &&
		    !page_exists(vm, svd->svd_vp, svd_voff(seg, va)))
			e = pvn_getpage(vm, svd->svd_vp, svd_voff(seg, va), SE_SHARED, hint, &pp);
		if (e == VM_OK && pp != NULL)
			page_unlock(vm, pp);
		if (amp != NULL)
			anonmap_exit(amp, svd_index(seg, va));
		if (e != VM_OK)
			return;
	}
}

enum vm_err segvn_advise(struct seg *seg, vaddr_t addr, uint64_t len, enum advice a)
{
	struct segvn_data *svd = svd_of(seg);

	switch (a) {
	case ADV_NORMAL:
	case ADV_RANDOM:
	case ADV_SEQUENTIAL: svd->svd_advice = a; return VM_OK;
	case ADV_WILLNEED: read_contents(seg, addr, len); return VM_OK;
	case ADV_DONTNEED: return drop_contents(seg, addr, len);
	case ADV_FREE: return free_lazily(seg, addr, len);
	case ADV_COLD: segvn_cool(seg, addr, len); return VM_OK;
	case ADV_PAGEOUT:
		if (svd_shared(svd) && svd->svd_vp != NULL)
			return pvn_putpages(
			    segvn_vm(seg), svd->svd_vp, svd_voff(seg, addr), len, PVN_FREE);
		(void)push_range(seg, addr, len);
		return VM_OK;
	case ADV_REMOVE: return remove_range(seg, addr, len);
	case ADV_POPULATE_READ: return segvn_fault(seg, addr, len, F_INVAL, S_READ);
	case ADV_POPULATE_WRITE: return segvn_fault(seg, addr, len, F_INVAL, S_WRITE);
	}
	return VM_INVAL;
}
