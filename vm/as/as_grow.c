/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: the heap that brk moves, and the stack that grows down.
 *
 * Both are ordinary anonymous segments; the space only remembers their bounds. Growth makes a segment like the neighbour
 * (so_alike) and merges. A stack grows when a fault finds nothing at an address between the lowest the stack may reach and
 * its base: by as many pages as that needs, if the redzone of a_stackguard bytes below the new base is free of mappings.
 * Holes (seg_hole) in the redzone do not count: they are guards themselves. Where large pages are wanted (a_stacksize) the
 * stack grows by whole blocks of them, if there is room.
 *
 * Locks: a_lock W. A fault that may grow the stack has given a_lock up before, and starts again afterwards.
 */
#include "vm/impl.h"

enum vm_err as_brk_init(struct as *as, vaddr_t base, uint64_t max)
{
	uint64_t len = max;

	if ((base & VM_PAGEMASK) != 0 || !as_range(as, &base, &len))
		return VM_INVAL;
	mach_rw_enter(&as->a_lock, true);
	as->a_brkbase = as->a_brk = base;
	as->a_brkmax = base + len;
	mach_rw_exit(&as->a_lock);
	return VM_OK;
}

static enum vm_err brk_grow(struct as *as, vaddr_t from, vaddr_t to)
{
	const struct segvn_args a = { .sa_prot = PROT_R | PROT_W,
		.sa_maxprot = PROT_R | PROT_W | PROT_X,
		.sa_pagesize = as->a_heapsize };

	if (as->a_stacktop != 0 && to > as->a_stackbase - as->a_stackguard &&
	    from < as->a_stackbase)
		return VM_EXIST;
	return as_map_locked(as, from, to - from, segvn_create, &a);
}

static enum vm_err brk_locked(struct as *as, vaddr_t want)
{
	vaddr_t was = vm_page_round(as->a_brk), to = vm_page_round(want);
	enum vm_err e = VM_OK;

	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	if (want < as->a_brkbase || want > as->a_brkmax)
		return VM_LIMIT;
	if (to > was)
		e = brk_grow(as, was, to);
	else if (to < was)
		e = as_unmap_locked(as, to, was - to);
	if (e == VM_OK)
		as->a_brk = want;
	return e;
}

/* True: brk takes [want, now) away, and the holders of soft locks in it have given them up. */
static bool brk_freed(struct as *as, vaddr_t want, vaddr_t now)
{
	vaddr_t to = vm_page_round(want), was = vm_page_round(now);

	return to < was && as_callbacks_free(as, to, was - to, AS_CB_UNMAP);
}

enum vm_err as_brk(struct as *as, vaddr_t want, vaddr_t *now)
{
	enum vm_err e;

	do {
		mach_rw_enter(&as->a_lock, true);
		e = want != 0 ? brk_locked(as, want) : VM_OK;
		*now = as->a_brk;
		mach_rw_exit(&as->a_lock);
	} while (e == VM_LOCKED && brk_freed(as, want, *now));
	return e;
}

/* ---- the stack ---- */
enum vm_err as_stack_init(
    struct as *as, vaddr_t top, uint64_t size, uint64_t max, uint64_t guard, unsigned prot)
{
	struct segvn_args a = { .sa_prot = prot, .sa_maxprot = PROT_R | PROT_W | PROT_X };
	enum vm_err e;

	if (size > top || guard > top || max > top)
		return VM_INVAL;
	size = vm_page_round(size);
	guard = vm_page_round(guard);
	max = vm_page_round(max);
	if ((top & VM_PAGEMASK) != 0 || size == 0 || max < size || top < as->a_min ||
	    top > as->a_max || top - as->a_min < max || top - max < guard)
		return VM_INVAL;
	mach_rw_enter(&as->a_lock, true);
	a.sa_pagesize = as->a_stacksize;
	if (as->a_stacktop != 0)
		e = VM_EXIST;
	else
		e = as_map_locked(as, top - size, size, segvn_create, &a);
	if (e == VM_OK) {
		as->a_stackbase = top - size;
		as->a_stackmin = top - max;
		as->a_stacktop = top;
		as->a_stackguard = guard;
	}
	mach_rw_exit(&as->a_lock);
	return e;
}

/* Is anything but holes mapped in [lo, hi)? */
static bool redzone_free(struct as *as, vaddr_t lo, vaddr_t hi)
{
	for (struct seg *s = as_seg_ge(as, lo); s != NULL && seg_base(s) < hi; s = seg_next(s))
		if ((s->s_flags & S_HOLE) == 0)
			return false;
	return true;
}

/* The stack, whose lowest segment is s, grows down to addr. */
static enum vm_err stack_reach(struct as *as, struct seg *s, vaddr_t addr)
{
	vaddr_t base = seg_base(s);

	if (addr < as->a_stackmin || !as_range_free(as, addr, base - addr) ||
	    !redzone_free(as, addr - as->a_stackguard, addr) ||
	    as_extend_locked(as, s, addr, base - addr, (aslock_get(as, base) & LOCK_WIRED) != 0) !=
		VM_OK)
		return VM_NOMAP;
	as->a_stackbase = addr;
	VM_STAT(as->a_vm, stack_grow);
	return VM_OK;
}

static enum vm_err stack_grow_locked(struct as *as, vaddr_t addr)
{
	vaddr_t base = as->a_stackbase;
	struct seg *s;

	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	if (addr < as->a_stackmin || addr >= as->a_stacktop)
		return VM_NOMAP;
	if (as_segat(as, addr) != NULL)
		return VM_OK; /* another thread grew the stack first */
	if (addr >= base || (s = as_segat(as, base)) == NULL || seg_base(s) != base)
		return VM_NOMAP;
	if (as->a_stacksize != 0 &&
	    stack_reach(as, s, as_block(as, addr, as->a_stacksize)) == VM_OK)
		return VM_OK;
	return stack_reach(as, s, addr);
}

enum vm_err as_stack_grow(struct as *as, vaddr_t addr)
{
	enum vm_err e = VM_NOMAP;

	if (__atomic_load_n(&as->a_stacktop, __ATOMIC_RELAXED) == 0)
		return e;
	mach_rw_enter(&as->a_lock, true);
	e = stack_grow_locked(as, vm_page_trunc(addr));
	mach_rw_exit(&as->a_lock);
	return e;
}
