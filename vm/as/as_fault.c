/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: faults.
 *
 * Locks: a_lock as reader. A fault that finds no segment drops a_lock, lets the stack grow, which
 * takes a_lock as writer, and searches again.
 */
#include "vm/impl.h"

/* What a segment does after pages of it were faulted on. */
static void fault_done(struct seg *s, vaddr_t va, uint64_t len, enum seg_rw rw)
{
	if ((s->s_flags & S_SIZE_MASK) != 0 && rw == S_WRITE)
		as_enlarge(s, va);
	if ((s->s_flags & S_FOLLOW) != 0)
		as_follow(s, va, len);
}

enum vm_err as_fault_locked(
    struct as *as, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	vaddr_t va = addr, end = addr + len;
	enum vm_err e = VM_OK;

	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	while (va < end) {
		struct seg *s = as_segat(as, va);
		uint64_t n;

		if (s == NULL) {
			e = VM_NOMAP;
			break;
		}
		n = (seg_end(s) < end ? seg_end(s) : end) - va;
		e = s->s_ops->so_fault(s, va, n, type, rw);
		if (e != VM_OK)
			break;
		if ((s->s_flags & (S_SIZE_MASK | S_FOLLOW)) != 0 &&
		    (type == F_INVAL || type == F_PROT))
			fault_done(s, va, n, rw);
		va += n;
	}
	if (e != VM_OK && type == F_SOFTLOCK && va > addr)
		(void)as_fault_locked(as, addr, va - addr, F_SOFTUNLOCK, rw);
	return e;
}

enum vm_err as_fault(
    struct as *as, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	struct vm *vm = as->a_vm;
	enum vm_err e = VM_NOMAP;

	if (type == F_PROT)
		VM_STAT(vm, fault_prot);
	else if (type == F_INVAL)
		VM_STAT(vm, fault_inval);
	VM_STAT(vm, fault);
	if (as_range(as, &addr, &len)) {
		for (unsigned tries = 0; tries < 100; tries++) {
			mach_rw_enter(&as->a_lock, false);
			e = as_fault_locked(as, addr, len, type, rw);
			mach_rw_exit(&as->a_lock);
			if (e == VM_NOMAP && as_stack_grow(as, addr) == VM_OK)
				continue;
			if (e != VM_RETRY)
				break;
			mach_yield();
		}
	}
	if (type == F_SOFTUNLOCK)
		as_callbacks_unlocked(as);
	if (e == VM_RETRY)
		e = VM_NOMEM;
	if (e == VM_NOMAP)
		VM_STAT(vm, fault_nomap);
	else if (e != VM_OK)
		VM_STAT(vm, fault_err);
	return e;
}
