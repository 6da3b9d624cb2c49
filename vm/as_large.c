/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Large translations for what is mapped small: as_promote.
 *
 * For each block of the range that a large page could translate, and whose small pages are all loaded with equal rights:
 * if their frames do not follow each other, a run of frames is got (by moving other pages away if need be) and the pages
 * are moved into it; then the HAT puts one translation in the place of the many. Works for any segment: only pages and
 * translations are concerned. What cannot be had now (a page is locked, wired, missing; no run) leaves the block as it
 * is. Splitting needs no call: the HAT does it when part of a block changes.
 *
 * Locks: a_lock as reader, like a fault: the segments stay. A moved page is loaded again at its address while it is still
 * locked exclusively, with HAT_LOAD_ADV: a fault that meanwhile put another page there (copy-on-write) has precedence.
 *
 * Left out: a thread that looks for candidates by itself (khugepaged); other translations of a moved page, which come back
 * by faults.
 */
#include "impl.h"

/* The rights of the block if all its small pages are loaded with the same ones; false: they are not. */
static bool block_rights(struct as *as, vaddr_t va, pfn_t n, unsigned *attr, bool *contiguous)
{
	pfn_t first = hat_probe(as->a_hat, va, attr);

	*contiguous = first != PFN_INVALID && (first & (n - 1)) == 0;
	if (first == PFN_INVALID || first >= as->a_vm->vm_nframes || vm_is_zeropage(as->a_vm, first))
		return false;
	for (pfn_t i = 1; i < n; i++) {
		unsigned a = 0;
		pfn_t pfn = hat_probe(as->a_hat, va + vm_ptob(i), &a);

		if (pfn == PFN_INVALID || pfn >= as->a_vm->vm_nframes || vm_is_zeropage(as->a_vm, pfn) || a != *attr)
			return false;
		*contiguous &= pfn == first + i;
	}
	return true;
}

/* Moves the page loaded at va to that frame, which is the caller's; then the page's old frame is free. */
static bool move_page(struct as *as, vaddr_t va, pfn_t to, unsigned attr)
{
	struct vm *vm = as->a_vm;
	pfn_t from = hat_probe(as->a_hat, va, NULL);
	struct page *pp, *moved;

	if (from == PFN_INVALID || from >= vm->vm_nframes)
		return false;
	pp = page_of(vm, from);
	if (!page_trylock(vm, pp, SE_EXCL))
		return false;
	if (hat_probe(as->a_hat, va, NULL) != from || pp->p_lckcnt != 0 ||
	    (pp->p_flags & P_IOLOCK)) {
		page_unlock(vm, pp);
		return false;
	}
	if ((moved = page_replace_frame(vm, pp, to)) == NULL) {
		page_unlock(vm, pp);
		return false;
	}
	(void)hat_memload(as->a_hat, va, moved, attr, HAT_LOAD_ADV);
	page_unlock(vm, moved);
	buddy_free(vm, from, 0);
	return true;
}

/*
 * The run that at least half of the block's pages are in at their places already, as after a copy-on-write or a page-out
 * of some: then only the others are moved. PFN_INVALID: there is none.
 */
static pfn_t run_of_most(struct as *as, vaddr_t va, pfn_t n)
{
	pfn_t base = PFN_INVALID, right = 0;

	for (unsigned k = 0; k < 3 && right < n / 2; k++) {
		pfn_t i = n / 4 * (k + 1) - 1, pfn = hat_probe(as->a_hat, va + vm_ptob(i), NULL);

		if (pfn == PFN_INVALID || pfn < i || (pfn - i) % n != 0 || pfn - i == base)
			continue;
		base = pfn - i;
		right = 0;
		for (i = 0; i < n; i++)
			right += hat_probe(as->a_hat, va + vm_ptob(i), NULL) == base + i;
	}
	return right < n / 2 ? PFN_INVALID : base;
}

/* Moves what is elsewhere to its place in the run. */
static bool fill_in(struct as *as, vaddr_t va, pfn_t run, pfn_t n, unsigned attr)
{
	for (pfn_t i = 0; i < n; i++) {
		if (hat_probe(as->a_hat, va + vm_ptob(i), NULL) == run + i)
			continue;
		if (!page_take_frame(as->a_vm, run + i))
			return false;
		if (!move_page(as, va + vm_ptob(i), run + i, attr)) {
			buddy_free(as->a_vm, run + i, 0);
			return false;
		}
	}
	return true;
}

/* Frames in a row for the block. False: some pages could not be moved; those that were are as good as before. */
static bool make_contiguous(struct as *as, vaddr_t va, pfn_t n, unsigned attr)
{
	unsigned order = (unsigned)__builtin_ctz(n);
	pfn_t run = run_of_most(as, va, n), i;

	if (run != PFN_INVALID && fill_in(as, va, run, n, attr))
		return true;
	run = page_take_run(as->a_vm, order, PG_WAIT);
	if (run == PFN_INVALID)
		return false;
	for (i = 0; i < n; i++)
		if (!move_page(as, va + vm_ptob(i), run + i, attr))
			break;
	for (pfn_t k = i; k < n; k++)
		buddy_free(as->a_vm, run + k, 0);
	return i == n;
}

/* Joins what is in [va, va + 2^shift) step by step up to that size. */
static bool join_block(struct as *as, vaddr_t va, unsigned size, const struct mach_caps *caps)
{
	vaddr_t end = va + (1ull << caps->mc_pageshift[size]);

	for (unsigned s = 1; s <= size; s++)
		for (vaddr_t at = va; at < end; at += 1ull << caps->mc_pageshift[s])
			if (hat_mapsize(as->a_hat, at) < caps->mc_pageshift[s] &&
			    hat_promote(as->a_hat, at, s) != VM_OK)
				return false;
	return true;
}

static bool promote_block(struct as *as, vaddr_t va, unsigned size, const struct mach_caps *caps)
{
	pfn_t n = (pfn_t)1 << (caps->mc_pageshift[size] - VM_PAGESHIFT);
	bool contiguous;
	unsigned attr;

	if (hat_mapsize(as->a_hat, va) >= caps->mc_pageshift[size])
		return true;
	if (!block_rights(as, va, n, &attr, &contiguous))
		return false;
	if (!contiguous && !make_contiguous(as, va, n, attr))
		return false;
	if (!join_block(as, va, size, caps))
		return false;
	VM_STAT(as->a_vm, promote);
	return true;
}

enum vm_err as_promote(struct as *as, vaddr_t addr, uint64_t len, unsigned size, uint64_t *done)
{
	const struct mach_caps *caps = as->a_vm->vm_caps;
	uint64_t bytes;

	*done = 0;
	if (size == 0 || size >= caps->mc_npagesizes)
		return VM_NOTSUP;
	bytes = 1ull << caps->mc_pageshift[size];
	if (addr + len < addr)
		return VM_INVAL;
	mach_rw_enter(&as->a_lock, false);
	for (vaddr_t va = (addr + bytes - 1) & ~(bytes - 1); va >= addr && va + bytes <= addr + len; va += bytes)
		if (promote_block(as, va, size, caps))
			*done += bytes;
	mach_rw_exit(&as->a_lock);
	return VM_OK;
}

/* ---- to another node of memory: vm/node.c ---- */
/* The page at va to a frame of the node, unless it has one. False: it cannot be moved now, or the node is full. */
static bool migrate_page(struct as *as, vaddr_t va, unsigned node, bool *full)
{
	struct vm *vm = as->a_vm;
	unsigned attr = 0;
	pfn_t pfn = hat_probe(as->a_hat, va, &attr), to;

	if (pfn == PFN_INVALID || pfn >= vm->vm_nframes || vm_is_zeropage(vm, pfn) || vm_node_of(vm, pfn) == node)
		return false;
	if ((to = numa_alloc(vm, node, vm->vm_reserve)) == PFN_INVALID) {
		*full = true;
		return false;
	}
	if (move_page(as, va, to, attr))
		return true;
	buddy_free(vm, to, 0);
	return false;
}

enum vm_err as_migrate(struct as *as, vaddr_t addr, uint64_t len, unsigned node, uint64_t *moved)
{
	bool full = false;

	*moved = 0;
	if (node >= as->a_vm->vm_caps->mc_nnodes)
		return VM_NOTSUP;
	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, false);
	for (struct seg *s = as_seg_ge(as, addr); s != NULL && seg_base(s) < addr + len && !full; s = seg_next(s)) {
		vaddr_t va = seg_base(s) > addr ? seg_base(s) : addr,
			end = seg_end(s) < addr + len ? seg_end(s) : addr + len;

		for (; va < end && !full; va += VM_PAGESIZE)
			*moved += migrate_page(as, va, node, &full);
	}
	mach_rw_exit(&as->a_lock);
	return full ? VM_NOMEM : VM_OK;
}
