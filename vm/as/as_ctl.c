/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: write-back, advice, residence, inheritance, adoption, copying through a space.
 *
 * A range operation goes over the segments of its range; a gap gives VM_NOMAP, and the rest of the range is still done where
 * as.h says so. What changes the segments' own state takes a_lock as writer and splits at the borders first.
 */
#include "vm/impl.h"

/* The part of s in [va, end). */
static uint64_t part_of_seg(const struct seg *s, vaddr_t va, vaddr_t end)
{
	return (seg_end(s) < end ? seg_end(s) : end) - va;
}

/* ---- over the segments of a range; done answers for each, gaps are remembered ---- */
enum vm_err as_sync(struct as *as, vaddr_t addr, uint64_t len, unsigned flags)
{
	vaddr_t end;
	enum vm_err e = VM_OK, r;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	end = addr + len;
	mach_rw_enter(&as->a_lock, false);
	if (!as_mapped(as, addr, len))
		e = VM_NOMAP;
	for (struct seg *s = as_seg_ge(as, addr); s != NULL && seg_base(s) < end; s = seg_next(s)) {
		vaddr_t va = seg_base(s) > addr ? seg_base(s) : addr;

		if ((r = s->s_ops->so_sync(s, va, part_of_seg(s, va, end), flags)) != VM_OK)
			e = r;
	}
	mach_rw_exit(&as->a_lock);
	return e;
}

static bool advice_writes(enum advice a)
{
	return a == ADV_DONTNEED || a == ADV_FREE || a == ADV_REMOVE || a == ADV_NORMAL ||
	    a == ADV_RANDOM || a == ADV_SEQUENTIAL;
}

/* Goes over gaps, remembering them; stops at the first error of a segment. Populating stops at a gap, too. */
static enum vm_err advise_segs(struct as *as, vaddr_t addr, vaddr_t end, enum advice a)
{
	bool populates = a == ADV_POPULATE_READ || a == ADV_POPULATE_WRITE;
	enum vm_err e, gap = VM_OK;

	for (struct seg *s = as_seg_ge(as, addr); s != NULL && seg_base(s) < end; s = seg_next(s)) {
		if (seg_base(s) > addr) {
			gap = VM_NOMAP;
			addr = seg_base(s);
			if (populates)
				return gap;
		}
		if ((e = s->s_ops->so_advise(s, addr, part_of_seg(s, addr, end), a)) != VM_OK)
			return e;
		addr = seg_end(s);
	}
	return addr < end ? VM_NOMAP : gap;
}

static enum vm_err advise_locked(struct as *as, vaddr_t addr, vaddr_t end, enum advice a)
{
	bool splits = a == ADV_NORMAL || a == ADV_RANDOM || a == ADV_SEQUENTIAL;
	enum vm_err e;

	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	if ((a == ADV_DONTNEED || a == ADV_FREE || a == ADV_REMOVE) &&
	    as_sealed(as, addr, end - addr))
		return VM_ACCESS;
	if (splits && ((e = as_split(as, addr)) != VM_OK || (e = as_split(as, end)) != VM_OK))
		return e;
	e = advise_segs(as, addr, end, a);
	if (splits)
		as_merge(as, addr, end);
	return e;
}

enum vm_err as_advise(struct as *as, vaddr_t addr, uint64_t len, enum advice a)
{
	enum vm_err e;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, advice_writes(a));
	e = advise_locked(as, addr, addr + len, a);
	mach_rw_exit(&as->a_lock);
	return e;
}

enum vm_err as_incore(struct as *as, vaddr_t addr, uint64_t len, uint8_t *vec)
{
	vaddr_t end;
	enum vm_err e;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	end = addr + len;
	memset(vec, 0, vm_btop(len));
	mach_rw_enter(&as->a_lock, false);
	e = as_mapped(as, addr, len) ? VM_OK : VM_NOMAP;
	for (struct seg *s = as_seg_ge(as, addr); s != NULL && seg_base(s) < end; s = seg_next(s)) {
		vaddr_t va = seg_base(s) > addr ? seg_base(s) : addr;

		s->s_ops->so_incore(s, va, part_of_seg(s, va, end), vec + vm_btop(va - addr));
	}
	mach_rw_exit(&as->a_lock);
	return e;
}

enum vm_err as_inherit(struct as *as, vaddr_t addr, uint64_t len, enum inherit i)
{
	vaddr_t end;
	enum vm_err e, r;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	end = addr + len;
	mach_rw_enter(&as->a_lock, true);
	if ((e = as_split(as, addr)) == VM_OK && (e = as_split(as, end)) == VM_OK &&
	    !as_mapped(as, addr, len))
		e = VM_NOMAP;
	for (struct seg *s = as_seg_ge(as, addr);
	     (e == VM_OK || e == VM_NOMAP) && s != NULL && seg_base(s) < end; s = seg_next(s))
		if ((r = s->s_ops->so_inherit(s, i)) != VM_OK)
			e = r;
	as_merge(as, addr, end);
	mach_rw_exit(&as->a_lock);
	return e;
}

/* Passes a segment's part of the bit map on in words that begin with the part, ADOPT_PAGES at a
 * time. */
#define ADOPT_PAGES 512u
static enum vm_err adopt_part(
    struct seg *s, vaddr_t va, uint64_t n, const uint64_t *present, uint64_t first)
{
	for (uint64_t at = 0; at < n; at += ADOPT_PAGES) {
		uint64_t bits[ADOPT_PAGES / 64] = { 0 }, some = 0,
					    k = n - at < ADOPT_PAGES ? n - at : ADOPT_PAGES;
		enum vm_err e;

		for (uint64_t i = 0; i < k; i++) {
			uint64_t b = first + at + i, bit = present[b / 64] >> (b % 64) & 1;

			bits[i / 64] |= bit << (i % 64);
			some |= bit;
		}
		if (some != 0 && (e = s->s_ops->so_adopt(s, va + vm_ptob(at), k, bits)) != VM_OK)
			return e;
	}
	return VM_OK;
}

enum vm_err as_adopt(struct as *as, vaddr_t addr, uint64_t npages, const uint64_t *present)
{
	uint64_t len = vm_ptob(npages);
	vaddr_t end;
	enum vm_err e = VM_OK;

	if ((addr & VM_PAGEMASK) != 0 || !as_range(as, &addr, &len))
		return VM_INVAL;
	end = addr + len;
	mach_rw_enter(&as->a_lock, false);
	for (vaddr_t va = addr; va < end && e == VM_OK;) {
		struct seg *s = as_segat(as, va);

		if (s == NULL) {
			e = VM_NOMAP;
			break;
		}
		uint64_t n = part_of_seg(s, va, end);

		e = adopt_part(s, va, vm_btop(n), present, vm_btop(va - addr));
		va += n;
	}
	mach_rw_exit(&as->a_lock);
	return e;
}

/* ---- copying through a space ---- */
struct copying {
	struct as *c_as;
	vaddr_t c_va;
	char *c_buf;
	uint64_t c_n; /* within one page */
	bool c_out;
};

static void copy_bytes(const struct copying *c, char *page)
{
	VM_STATN(c->c_as->a_vm, copy_bytes, c->c_n);
	char *at = page + (c->c_va & VM_PAGEMASK);

	if (c->c_out)
		memcpy(at, c->c_buf, c->c_n);
	else
		memcpy(c->c_buf, at, c->c_n);
}

/* The page stays where it is as long as it is soft-locked. */
static enum vm_err copy_direct(const struct copying *c)
{
	enum seg_rw rw = c->c_out ? S_WRITE : S_READ;
	enum vm_err e = as_fault(c->c_as, c->c_va, c->c_n, F_SOFTLOCK, rw);
	pfn_t pfn;

	if (e != VM_OK)
		return e;
	pfn = hat_probe(c->c_as->a_hat, vm_page_trunc(c->c_va), NULL);
	VM_ASSERT(pfn != PFN_INVALID);
	copy_bytes(c, mach_frame_kva(c->c_as->a_vm->vm_mach, pfn));
	return as_fault(c->c_as, c->c_va, c->c_n, F_SOFTUNLOCK, rw);
}

/* Is the page still the one at the address, with the right that is needed? With the page locked E
 * the answer stays true. */
static bool still_there(const struct copying *c, pfn_t pfn)
{
	unsigned attr;

	return hat_probe(c->c_as->a_hat, vm_page_trunc(c->c_va), &attr) == pfn &&
	    (!c->c_out || (attr & PROT_W) != 0);
}

/*
 * Faults the page in, locks it and copies: a read copies no private page, as a soft lock would do.
 * On machines that map a frame at one address only the page is unmapped for the copy. VM_RETRY: the
 * page left memory meanwhile.
 */
static enum vm_err copy_with_page_lock(const struct copying *c)
{
	struct vm *vm = c->c_as->a_vm;
	vaddr_t va = vm_page_trunc(c->c_va);
	enum vm_err e = as_fault(c->c_as, c->c_va, c->c_n, F_INVAL, c->c_out ? S_WRITE : S_READ);
	struct page *pp;
	pfn_t pfn;

	if (e != VM_OK)
		return e;
	if ((pfn = hat_probe(c->c_as->a_hat, va, NULL)) == PFN_INVALID)
		return VM_RETRY;
	if (pfn >= vm->vm_nframes)
		return VM_NOTSUP;      /* a device's */
	if (vm_is_zeropage(vm, pfn)) { /* its contents are zero even if it was replaced meanwhile */
		copy_bytes(c, mach_frame_kva(vm->vm_mach, pfn));
		return VM_OK;
	}
	pp = page_of(vm, pfn);
	if (!page_trylock(vm, pp, c->c_out || !vm->vm_caps->mc_direct_map ? SE_EXCL : SE_SHARED))
		return VM_RETRY;
	if (still_there(c, pfn)) {
		unsigned attr;

		(void)hat_probe(c->c_as->a_hat, va, &attr);
		copy_bytes(c, page_mapin(vm, pp));
		if (c->c_out)
			page_nrm_set(pp, P_MOD);
		/* a soft-locked translation must be loaded again at once; its tables still exist */
		if (!vm->vm_caps->mc_direct_map && (aslock_get(c->c_as, va) & LOCK_SOFT) != 0)
			e = hat_memload(c->c_as->a_hat, va, pp, attr, HAT_LOAD_LOCK);
	} else {
		e = VM_RETRY;
	}
	page_unlock(vm, pp);
	return e;
}

static enum vm_err copy_part(const struct copying *c)
{
	enum vm_err e;

	for (unsigned tries = 0; (e = copy_with_page_lock(c)) == VM_RETRY && tries < 1000; tries++)
		mach_yield();
	if (e == VM_RETRY && c->c_as->a_vm->vm_caps->mc_direct_map)
		e = copy_direct(c);
	return e == VM_RETRY ? VM_NOMEM : e;
}

static enum vm_err copy_range(struct as *as, vaddr_t va, char *buf, uint64_t len, bool out)
{
	while (len > 0) {
		uint64_t n = VM_PAGESIZE - (va & VM_PAGEMASK);
		struct copying c = {
			.c_as = as, .c_va = va, .c_buf = buf, .c_n = n < len ? n : len, .c_out = out
		};
		enum vm_err e;

		if ((e = copy_part(&c)) != VM_OK)
			return e;
		va += c.c_n;
		buf += c.c_n;
		len -= c.c_n;
	}
	return VM_OK;
}

enum vm_err as_copyin(struct as *as, vaddr_t from, void *to, uint64_t len)
{
	return copy_range(as, from, to, len, false);
}

enum vm_err as_copyout(struct as *as, const void *from, vaddr_t to, uint64_t len)
{
	return copy_range(as, to, (char *)(uintptr_t)from, len, true);
}
