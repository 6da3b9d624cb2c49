/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: memory locks, of a range and of the whole space. as_lock.c remembers which pages are locked.
 *
 * A range that cannot be locked to its end is as it was before: what this call locked is unlocked again.
 *
 * Locks: a_lock as reader for a range, as writer for the whole space, whose a_lockfuture changes.
 */
#include "vm/impl.h"

static enum vm_err wire_page(struct as *as, vaddr_t va, uint64_t *newly, uint64_t i)
{
	struct seg *s = as_segat(as, va);
	enum vm_err e;

	if (s == NULL)
		return VM_NOMAP;
	if ((aslock_get(as, va) & LOCK_WIRED) != 0)
		return VM_OK;
	e = s->s_ops->so_lockop(s, va, VM_PAGESIZE, SEG_LOCK);
	if (e == VM_OK)
		newly[i / 64] |= (uint64_t)1 << (i % 64);
	return e;
}

/* a_lock R or W. tolerant: pages that cannot be accessed are left out (whole-space locks). */
enum vm_err as_wire_range(struct as *as, vaddr_t addr, uint64_t len, bool tolerant)
{
	uint64_t n = vm_btop(len), bytes = (n + 63) / 64 * 8, i;
	uint64_t *newly = kmem_zalloc(as->a_vm, bytes, KM_SLEEP);
	enum vm_err e = VM_OK;

	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	if (newly == NULL)
		return VM_NOMEM;
	for (i = 0; i < n && e == VM_OK; i++) {
		e = wire_page(as, addr + vm_ptob(i), newly, i);
		if (tolerant && (e == VM_PROT || e == VM_EOF || e == VM_NOTSUP))
			e = VM_OK;
	}
	for (uint64_t k = 0; e != VM_OK && k < n; k++) {
		struct seg *s;

		if ((newly[k / 64] >> (k % 64) & 1) != 0 &&
		    (s = as_segat(as, addr + vm_ptob(k))) != NULL)
			(void)s->s_ops->so_lockop(s, addr + vm_ptob(k), VM_PAGESIZE, SEG_UNLOCK);
	}
	kmem_free(as->a_vm, newly, bytes);
	return e;
}

static void unwire_range(struct as *as, vaddr_t va, vaddr_t end)
{
	while (aslock_next(as, &va, end, LOCK_WIRED)) {
		struct seg *s = as_segat(as, va);

		if (s != NULL)
			(void)s->s_ops->so_lockop(s, va, VM_PAGESIZE, SEG_UNLOCK);
		va += VM_PAGESIZE;
	}
}

enum vm_err as_lock(struct as *as, vaddr_t addr, uint64_t len)
{
	enum vm_err e;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, false);
	e = as_mapped(as, addr, len) ? as_wire_range(as, addr, len, false) : VM_NOMAP;
	mach_rw_exit(&as->a_lock);
	return e;
}

enum vm_err as_unlock(struct as *as, vaddr_t addr, uint64_t len)
{
	enum vm_err e;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, false);
	e = as_mapped(as, addr, len) ? VM_OK : VM_NOMAP;
	unwire_range(as, addr, addr + len);
	mach_rw_exit(&as->a_lock);
	return e;
}

enum vm_err as_lockall(struct as *as, bool current, bool future)
{
	enum vm_err e = VM_OK;

	mach_rw_enter(&as->a_lock, true);
	as->a_lockfuture = future;
	for (struct seg *s = as_seg_ge(as, as->a_min); current && e == VM_OK && s != NULL;
	     s = seg_next(s))
		if ((s->s_flags & S_HOLE) == 0)
			e = as_wire_range(as, seg_base(s), seg_size(s), true);
	mach_rw_exit(&as->a_lock);
	return e;
}

enum vm_err as_unlockall(struct as *as)
{
	mach_rw_enter(&as->a_lock, true);
	as->a_lockfuture = false;
	unwire_range(as, as->a_min, as->a_max);
	mach_rw_exit(&as->a_lock);
	return VM_OK;
}
