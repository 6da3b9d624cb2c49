/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page locks: shared/exclusive, I/O, wiring, and the policy's queue membership that wiring governs.
 *
 * Vocabulary: p_selock > 0 counts shared holders, -1 is exclusive. A waiting exclusive locker sets P_EWANTED, which
 * keeps new shared holders out until a thread got the lock exclusively. A thread that waits for anything on a page sets
 * P_WAITERS and sleeps on the condition of the lock of the page's name (struct page_lock). The page's next release wakes all waiters,
 * and each looks again: a page that was not locked may have another name by then.
 *
 * Locks: everything here is under the lock of the page's name (RANK_PAGE). A page lock itself has no rank: it is waited for only by
 * code that holds no lock of rank > RANK_SLOT, and never while another page is locked in an opposite order.
 *
 * Invariants: P_EWANTED is cleared when a page is locked exclusively, renamed or freed, so that it never outlives its
 * setter (a setter that still waits sets it again). P_QUEUED if and only if the page is named, in use, filled and unwired.
 *
 * The policy is told of new pages by batches: up to VM_PENDING wait, in order, with the CPU that
 * made them (vc_pend, vc_pendlock, RANK_PAGE + 1; p_pend says so in the page). The policy is told
 * when the batch is full, when another event concerns one of them, or when page-out asks for pages.
 * They are P_QUEUED already. Policies that remember past misses are told at once, because they hear
 * of misses in between.
 *
 * Left out: hand-off and fairness among waiters of the same kind; recursive locking.
 */
#include "vm/impl.h"

void page_wake_locked(struct vm *vm, struct page *pp)
{
	VM_ASSERT(page_held(vm, pp));
	if (pp->p_flags & P_WAITERS) {
		pp->p_flags &= (uint8_t)~P_WAITERS;
		mach_cv_broadcast(&page_lock_of(vm, pp)->pl_cv);
	}
}

void page_wait_locked(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_lock_of(vm, pp);

	VM_ASSERT(page_held(vm, pp));
	pp->p_flags |= P_WAITERS;
	mach_cv_wait(&pl->pl_cv, &pl->pl_mutex);
}

void page_timedwait_locked(struct vm *vm, struct page *pp, uint64_t ns)
{
	struct page_lock *pl = page_lock_of(vm, pp);

	VM_ASSERT(page_held(vm, pp));
	pp->p_flags |= P_WAITERS;
	(void)mach_cv_timedwait(&pl->pl_cv, &pl->pl_mutex, ns);
}

bool page_trylock_locked(struct vm *vm, struct page *pp, enum page_se se)
{
	VM_ASSERT(page_held(vm, pp));
	(void)vm;
	if ((pp->p_flags & (P_FREE | P_KERNEL | P_OFFLINE)) || pp->p_vnode == NULL)
		return false;
	if (se == SE_EXCL) {
		if (pp->p_selock != 0)
			return false;
		pp->p_selock = -1;
		pp->p_flags &= (uint8_t)~P_EWANTED;
		return true;
	}
	if (pp->p_selock < 0 || (pp->p_flags & P_EWANTED))
		return false;
	pp->p_selock++;
	return true;
}

void page_unlock_locked(struct vm *vm, struct page *pp)
{
	VM_ASSERT(page_held(vm, pp));
	VM_ASSERT(pp->p_selock != 0);
	if (pp->p_selock < 0)
		pp->p_selock = 0;
	else
		pp->p_selock--;
	if (pp->p_selock == 0)
		page_wake_locked(vm, pp);
}

bool page_trylock(struct vm *vm, struct page *pp, enum page_se se)
{
	struct page_lock *pl = page_enter(vm, pp);
	bool ok;

	ok = page_named_locked(vm, pp, pl) && page_trylock_locked(vm, pp, se);
	page_exit(pl);
	return ok;
}

/* The caller knows by other means (wiring, an anon slot's busy bit, ...) that the page cannot lose its name meanwhile. */
void page_lock(struct vm *vm, struct page *pp, enum page_se se)
{
	struct page_lock *pl = page_enter(vm, pp);

	while (!page_trylock_locked(vm, pp, se)) {
		VM_ASSERT(!(pp->p_flags & (P_FREE | P_KERNEL | P_OFFLINE)));
		if (se == SE_EXCL)
			pp->p_flags |= P_EWANTED;
		page_wait_locked(vm, pp);
	}
	page_exit(pl);
}

void page_unlock(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);

	page_unlock_locked(vm, pp);
	page_exit(pl);
}

bool page_tryupgrade(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);
	bool ok;

	VM_ASSERT(pp->p_selock > 0);
	ok = pp->p_selock == 1;
	if (ok) {
		pp->p_selock = -1;
		pp->p_flags &= (uint8_t)~P_EWANTED;
	}
	page_exit(pl);
	return ok;
}

void page_downgrade(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);

	VM_ASSERT(pp->p_selock < 0);
	pp->p_selock = 1;
	page_wake_locked(vm, pp);
	page_exit(pl);
}

/* ---- I/O lock ---- */

void page_io_lock(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);

	while (pp->p_flags & P_IOLOCK)
		page_wait_locked(vm, pp);
	pp->p_flags |= P_IOLOCK;
	page_exit(pl);
}

bool page_io_trylock(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);
	bool ok;

	ok = !(pp->p_flags & P_IOLOCK);
	pp->p_flags |= P_IOLOCK;
	page_exit(pl);
	return ok;
}

void page_io_unlock(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);

	VM_ASSERT(pp->p_flags & P_IOLOCK);
	pp->p_flags &= (uint8_t)~P_IOLOCK;
	page_wake_locked(vm, pp);
	page_exit(pl);
}

/* ---- the policy's queues ---- */

/* vc_pendlock held. The pages keep their names: a thread that takes a name away waits for that lock. */
static void pend_flush(struct vm *vm, struct vm_cpu *vc)
{
	uint32_t n = vc->vc_npend;

	mach_mutex_enter(&vm->vm_pollock);
	for (uint32_t i = 0; i < n; i++) {
		struct page *pp = &vm->vm_pages[vc->vc_pend[i] >> 1];

		vm->vm_policy->pol_insert(vm->vm_polstate, pp,
		    page_name_hash(pp->p_vnode, pp->p_offset), (vc->vc_pend[i] & 1) != 0);
		__atomic_store_n(&pp->p_pend, 0, __ATOMIC_RELEASE);
	}
	mach_mutex_exit(&vm->vm_pollock);
	vc->vc_npend = 0;
}

static bool pend_settle(struct vm *vm, struct vm_cpu *vc)
{
	bool any;

	if (vc->vc_npend == 0)
		return false;
	mach_mutex_enter(&vc->vc_pendlock);
	if ((any = vc->vc_npend > 0))
		pend_flush(vm, vc);
	mach_mutex_exit(&vc->vc_pendlock);
	return any;
}

bool page_pol_settle(struct vm *vm)
{
	bool any = false;

	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		any |= pend_settle(vm, &vm->vm_cpu[c]);
	return any;
}

/* Makes the policy know the page, and takes vm_pollock. The page's lock is held, so no thread makes it pending meanwhile. */
static void pol_enter(struct vm *vm, const struct page *pp)
{
	unsigned c = __atomic_load_n(&pp->p_pend, __ATOMIC_ACQUIRE);

	if (c != 0)
		(void)pend_settle(vm, &vm->vm_cpu[c - 1]);
	mach_mutex_enter(&vm->vm_pollock);
}

void page_pol_insert_locked(struct vm *vm, struct page *pp, bool prefetched)
{
	struct vm_cpu *vc = vm_cpu_of(vm);

	VM_ASSERT(page_held(vm, pp));
	if ((pp->p_flags & (P_QUEUED | P_FREE | P_KERNEL)) || pp->p_lckcnt != 0)
		return;
	pp->p_flags |= P_QUEUED;
	if (vm->vm_policy->pol_history || vm->vm_lockmask == 0) {
		mach_mutex_enter(&vm->vm_pollock);
		vm->vm_policy->pol_insert(
		    vm->vm_polstate, pp, page_name_hash(pp->p_vnode, pp->p_offset), prefetched);
		mach_mutex_exit(&vm->vm_pollock);
		return;
	}
	mach_mutex_enter(&vc->vc_pendlock);
	if (vc->vc_npend == VM_PENDING)
		pend_flush(vm, vc);
	vc->vc_pend[vc->vc_npend] = page_pfn(vm, pp) << 1 | prefetched;
	vc->vc_npend++;
	__atomic_store_n(&pp->p_pend, (uint8_t)(vc - vm->vm_cpu + 1), __ATOMIC_RELAXED);
	mach_mutex_exit(&vc->vc_pendlock);
}

void page_pol_remove_locked(struct vm *vm, struct page *pp, bool evicted)
{
	VM_ASSERT(page_held(vm, pp));
	if (!(pp->p_flags & P_QUEUED))
		return;
	pp->p_flags &= (uint8_t)~P_QUEUED;
	pol_enter(vm, pp);
	vm->vm_policy->pol_remove(
	    vm->vm_polstate, pp, page_name_hash(pp->p_vnode, pp->p_offset), evicted);
	mach_mutex_exit(&vm->vm_pollock);
}

void page_pol_touch_locked(struct vm *vm, struct page *pp)
{
	VM_ASSERT(page_held(vm, pp));
	pol_enter(vm, pp);
	vm->vm_policy->pol_touch(vm->vm_polstate, pp);
	mach_mutex_exit(&vm->vm_pollock);
}

void page_cool(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);

	if (pp->p_flags & P_QUEUED) {
		pol_enter(vm, pp);
		vm->vm_policy->pol_cool(vm->vm_polstate, pp);
		mach_mutex_exit(&vm->vm_pollock);
	}
	page_exit(pl);
}

void page_seen_locked(struct vm *vm, struct page *pp, bool referenced, bool skipped)
{
	VM_ASSERT(page_held(vm, pp));
	if (!(pp->p_flags & P_QUEUED))
		return;
	pol_enter(vm, pp);
	vm->vm_policy->pol_seen(vm->vm_polstate, pp, referenced, skipped);
	mach_mutex_exit(&vm->vm_pollock);
}

void page_seen(struct vm *vm, struct page *pp, bool referenced, bool skipped)
{
	struct page_lock *pl = page_enter(vm, pp);

	page_seen_locked(vm, pp, referenced, skipped);
	page_exit(pl);
}

void page_seen_unlock(struct vm *vm, struct page *pp, bool referenced, bool skipped)
{
	struct page_lock *pl = page_enter(vm, pp);

	page_seen_locked(vm, pp, referenced, skipped);
	page_unlock_locked(vm, pp);
	page_exit(pl);
}

/* ---- wiring ---- */

/* So many frames stay pageable whatever is wired: below that, page-out could free nothing. */
static bool page_wire_room(struct vm *vm)
{
	uint64_t taken = (uint64_t)vm->vm_nwired + vm->vm_nkernel + 1;

	return taken + vm->vm_lotsfree < vm->vm_nonline;
}

static enum vm_err page_wire_locked(struct vm *vm, struct page *pp)
{
	VM_ASSERT(page_held(vm, pp));
	VM_ASSERT(pp->p_selock != 0 && !(pp->p_flags & P_FREE));
	if (pp->p_lckcnt == UINT16_MAX)
		return VM_NOMEM;
	if (pp->p_lckcnt == 0) {
		if (!page_wire_room(vm))
			return VM_LIMIT;
		vm->vm_nwired++;
		page_pol_remove_locked(vm, pp, false);
	}
	page_lckcnt_set(pp, pp->p_lckcnt + 1u);
	return VM_OK;
}

enum vm_err page_wire(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);
	enum vm_err e;

	e = page_wire_locked(vm, pp);
	page_exit(pl);
	if (e != VM_LIMIT || buddy_online(vm, 64) == 0)
		return e;
	pl = page_enter(vm, pp);
	e = page_wire_locked(vm, pp);
	page_exit(pl);
	return e;
}

void page_unwire(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);

	VM_ASSERT(pp->p_selock != 0 && pp->p_lckcnt > 0);
	page_lckcnt_set(pp, pp->p_lckcnt - 1u);
	if (pp->p_lckcnt == 0) {
		vm->vm_nwired--;
		/* A page still being created is queued by page_filled. */
		if (!(pp->p_selock < 0 && (pp->p_flags & P_IOLOCK)))
			page_pol_insert_locked(vm, pp, false);
	}
	page_exit(pl);
}
