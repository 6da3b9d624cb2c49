/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory pressure: what is tried when page-out cannot free a frame.
 *
 * The order, in pageout_wait: pages of the policy; kmem's magazines and empty slabs; the reapers, each in turn until one
 * gives something; when all that failed, the out-of-memory policy, which decides between failing this allocation (the
 * faulting program sees VM_NOMEM; the core kills nothing) and trying again, because the policy made a program give up memory.
 *
 * Locks: vm_reaperlock (RANK_SLOT + 6) guards the list and is held while reapers run, so that one can be removed safely.
 */
#include "vm/impl.h"

#include <quire/limits.h>

enum vm_pressure vm_pressure(struct vm *vm)
{
	uint32_t nfree = vm->vm_nfree;

	if (nfree >= vm->vm_lotsfree)
		return PRESSURE_NONE;
	if (nfree >= vm->vm_desfree)
		return PRESSURE_LOW;
	return nfree >= vm->vm_minfree ? PRESSURE_HIGH : PRESSURE_CRITICAL;
}

void vm_reaper_add(struct vm *vm, struct vm_reaper *r)
{
	mach_mutex_enter(&vm->vm_reaperlock);
	r->vr_next = vm->vm_reapers;
	vm->vm_reapers = r;
	mach_mutex_exit(&vm->vm_reaperlock);
}

void vm_reaper_remove(struct vm *vm, struct vm_reaper *r)
{
	struct vm_reaper **at = &vm->vm_reapers;

	mach_mutex_enter(&vm->vm_reaperlock);
	while (*at != NULL && *at != r)
		at = &(*at)->vr_next;
	VM_ASSERT(*at == r);
	*at = r->vr_next;
	mach_mutex_exit(&vm->vm_reaperlock);
}

uint64_t pressure_reap(struct vm *vm, pfn_t want)
{
	uint64_t n = 0;

	if (__atomic_load_n(&vm->vm_reapers, __ATOMIC_RELAXED) == NULL)
		return 0;
	mach_mutex_enter(&vm->vm_reaperlock);
	for (struct vm_reaper *r = vm->vm_reapers; r != NULL && n < want; r = r->vr_next) {
		VM_STAT(vm, reaper_call);
		n += r->vr_reap(r->vr_arg, vm_pressure(vm), want);
	}
	mach_mutex_exit(&vm->vm_reaperlock);
	VM_STATN(vm, reaper_freed, n);
	return n;
}

void vm_oom_policy(struct vm *vm, vm_oom_fn *fn, void *arg)
{
	vm->vm_oomarg = arg;
	__atomic_store_n(&vm->vm_oom, fn, __ATOMIC_RELEASE);
}

bool pressure_oom(struct vm *vm, pfn_t want)
{
	vm_oom_fn *fn = __atomic_load_n(&vm->vm_oom, __ATOMIC_ACQUIRE);

	if (fn == NULL)
		return false;
	VM_STAT(vm, oom_call);
	if (__atomic_add_fetch(&vm->vm_oomtries, 1, __ATOMIC_RELAXED) <= OOM_TRIES &&
	    fn(vm->vm_oomarg, vm, want) == OOM_RETRY)
		return true;
	__atomic_store_n(&vm->vm_oomtries, 0, __ATOMIC_RELAXED);
	return false;
}
