/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Large translations: as_promote for memory that is mapped by small pages; as_setpagesize for
 * memory that will be used.
 *
 * For each block of the range that a large page could translate, and whose small pages are all
 * loaded with equal rights: if their frames are not contiguous, a run of frames is allocated (other
 * pages are moved away if need be) and the pages are moved into it; then the HAT replaces the many
 * translations by one. Works for any segment: only pages and translations are concerned. If this is
 * impossible now (a page is locked, wired, missing; no run), the block stays as it is. Splitting
 * needs no call: the HAT does it when part of a block changes.
 *
 * Page sizes wanted. A segment remembers the size wanted (S_SIZE); a space remembers one for its
 * heap and one for its stack. The first write to a block of that size fills all of it and promotes
 * it, unless memory is short: a large page saves misses of the TLB and never costs another program
 * a page. One attempt a block: a block that has pages already is left to as_promote. After Solaris'
 * MPSS.
 *
 * Locks: a_lock as reader, like a fault: the segments stay. A moved page is loaded again at its address while it is still
 * locked exclusively, with HAT_LOAD_ADV: a fault that meanwhile put another page there (copy-on-write) has precedence.
 *
 * Left out: a thread that looks for candidates by itself (khugepaged); other translations of a moved page, which come back
 * by faults.
 */
#include "vm/impl.h"

/* The rights of the block if all its small pages are loaded with the same ones; false: they are not. */
static bool block_rights(struct as *as, vaddr_t va, pfn_t n, unsigned *attr, bool *contiguous)
{
	pfn_t first = hat_probe(as->a_hat, va, attr);

	*contiguous = first != PFN_INVALID && (first & (n - 1)) == 0;
	if (first == PFN_INVALID || first >= as->a_vm->vm_nframes ||
	    vm_is_zeropage(as->a_vm, first))
		return false;
	for (pfn_t i = 1; i < n; i++) {
		unsigned a = 0;
		pfn_t pfn = hat_probe(as->a_hat, va + vm_ptob(i), &a);

		if (pfn == PFN_INVALID || pfn >= as->a_vm->vm_nframes ||
		    vm_is_zeropage(as->a_vm, pfn) || a != *attr)
			return false;
		*contiguous &= pfn == first + i;
	}
	return true;
}

bool as_page_move(struct as *as, vaddr_t va, pfn_t to, unsigned attr)
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
 * Finds a run of frames in which at least half of the block's pages are in their places already, as
 * after a copy-on-write or a page-out of some of them: then only the other pages are moved.
 * PFN_INVALID: there is none.
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

/*
 * A frame of the run may hold a page of the block that belongs elsewhere in the run: that page
 * moves, translation and all, to a spare frame until its turn comes. So pages that have each
 * other's frames, two or a longer cycle, get their own. False: no frame.
 */
static bool clear_place(struct as *as, vaddr_t va, pfn_t run, pfn_t i, pfn_t n, unsigned attr)
{
	pfn_t k = i + 1, spare;

	if (page_of(as->a_vm, run + i)->p_vnode == NULL)
		return true;
	while (k < n && hat_probe(as->a_hat, va + vm_ptob(k), NULL) != run + i)
		k++;
	if (k == n)
		return true;
	if ((spare = buddy_alloc(as->a_vm, 0, false)) == PFN_INVALID)
		return false;
	if (as_page_move(as, va + vm_ptob(k), spare, attr))
		return true;
	buddy_free(as->a_vm, spare, 0);
	return false;
}

/* Moves each page of the block that lies elsewhere to its place in the run. */
static bool fill_in(struct as *as, vaddr_t va, pfn_t run, pfn_t n, unsigned attr)
{
	for (pfn_t i = 0; i < n; i++) {
		if (hat_probe(as->a_hat, va + vm_ptob(i), NULL) == run + i)
			continue;
		if (!clear_place(as, va, run, i, n, attr))
			return false;
		if (!page_take_frame(as->a_vm, run + i))
			return false;
		if (!as_page_move(as, va + vm_ptob(i), run + i, attr)) {
			buddy_free(as->a_vm, run + i, 0);
			return false;
		}
	}
	return true;
}

/* Makes the block's frames contiguous. False: some pages could not be moved; the pages that were
 * moved are as usable as before. */
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
		if (!as_page_move(as, va + vm_ptob(i), run + i, attr))
			break;
	for (pfn_t k = i; k < n; k++)
		buddy_free(as->a_vm, run + k, 0);
	return i == n;
}

/* Promotes [va, va + 2^shift) step by step up to that size. */
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
	for (vaddr_t va = (addr + bytes - 1) & ~(bytes - 1); va >= addr && va + bytes <= addr + len;
	     va += bytes)
		if (promote_block(as, va, size, caps))
			*done += bytes;
	mach_rw_exit(&as->a_lock);
	return VM_OK;
}

/* ---- page sizes wanted ---- */
/* Where the block of that size around the address begins. */
vaddr_t as_block(const struct as *as, vaddr_t va, unsigned size)
{
	return va & ~((1ull << as->a_vm->vm_caps->mc_pageshift[size]) - 1);
}

/* A block with more pages than this is not new. A sequential program may have got that many pages
 * ahead of its faults before it wanted large pages. */
#define NEW_PAGES 33u

void as_enlarge(struct seg *s, vaddr_t va)
{
	struct as *as = s->s_as;
	const struct mach_caps *caps = as->a_vm->vm_caps;
	unsigned size = (s->s_flags & S_SIZE_MASK) / S_SIZE(1);
	uint64_t bytes = 1ull << caps->mc_pageshift[size], there;
	vaddr_t base = as_block(as, va, size);

	if (base < seg_base(s) || base + bytes > seg_end(s) ||
	    as->a_vm->vm_nfree < as->a_vm->vm_lotsfree + 2 * vm_btop(bytes) ||
	    (there = s->s_ops->so_populated(s, base, bytes)) > NEW_PAGES)
		return;
	if (there == vm_btop(bytes) ||
	    s->s_ops->so_fault(s, base, bytes, F_INVAL, S_WRITE) == VM_OK)
		(void)promote_block(as, base, size, caps);
}

unsigned as_pagesize(struct as *as, vaddr_t va)
{
	const struct seg *s;
	unsigned size;

	mach_rw_enter(&as->a_lock, false);
	s = as_segat(as, va);
	size = s == NULL ? 0 : (s->s_flags & S_SIZE_MASK) / S_SIZE(1);
	mach_rw_exit(&as->a_lock);
	return size;
}

/* Sizes beyond the base page that the machine has. */
static bool size_there(const struct as *as, unsigned size)
{
	return size == 0 || size < as->a_vm->vm_caps->mc_npagesizes;
}

/* Sets the page size wanted for all segments of the range. VM_NOMEM: nothing changed. */
static enum vm_err want_size(struct as *as, vaddr_t addr, vaddr_t end, unsigned size)
{
	enum vm_err e = as_split(as, addr);

	if (e == VM_OK && (e = as_split(as, end)) == VM_OK)
		for (struct seg *s = as_seg_ge(as, addr); s != NULL && seg_base(s) < end;
		     s = seg_next(s))
			s->s_flags = (s->s_flags & ~S_SIZE_MASK) | S_SIZE(size);
	as_merge(as, addr, end);
	return e;
}

enum vm_err as_setpagesize(struct as *as, vaddr_t addr, uint64_t len, unsigned size)
{
	enum vm_err e;

	if (!size_there(as, size))
		return VM_NOTSUP;
	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, true);
	e = as_mapped(as, addr, len) ? want_size(as, addr, addr + len, size) : VM_NOMAP;
	mach_rw_exit(&as->a_lock);
	return e;
}

enum vm_err as_pagesize_defaults(struct as *as, unsigned heap, unsigned stack)
{
	enum vm_err e = VM_OK;

	if (!size_there(as, heap) || !size_there(as, stack))
		return VM_NOTSUP;
	mach_rw_enter(&as->a_lock, true);
	if (as->a_brk > as->a_brkbase)
		e = want_size(as, as->a_brkbase, vm_page_round(as->a_brk), heap);
	if (e == VM_OK && as->a_stacktop != 0)
		e = want_size(as, as->a_stackbase, as->a_stacktop, stack);
	if (e == VM_OK) {
		as->a_heapsize = (uint8_t)heap;
		as->a_stacksize = (uint8_t)stack;
	}
	mach_rw_exit(&as->a_lock);
	return e;
}
