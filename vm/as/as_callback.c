/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Callbacks to holders of long-term page locks (devices, other machines' memory, caches of translations).
 *
 * Soft locks forbid unmapping. A long-term holder registers a callback for its range. The callback is called before the range is
 * unmapped, before its protection changes, and before the space goes away, without any lock of the space. It drops the soft locks
 * (F_SOFTUNLOCK): at once, or soon, from another thread; then the caller waits for them. Solaris has
 * this as as_add_callback, Linux as mmu notifiers.
 *
 * A callback that keeps answering AS_CB_KEEP is asked once for each request; a range that is still locked afterwards is
 * refused with VM_LOCKED, as without callbacks. AS_CB_SOON promises an unlock and makes the caller sleep until the locks of
 * the range are gone. The unlock wakes the caller up.
 *
 * Locks: a_cbmtx (RANK_LEAF - 1) guards the list; nothing is called under it. cb_running keeps an entry alive while it is
 * called: as_callback_remove waits for that, so it must not be called by the callback itself.
 */
#include "vm/impl.h"

void as_callbacks_init(struct as *as)
{
	mach_mutex_init(&as->a_cbmtx, RANK_LEAF - 1, "callbacks");
	mach_cv_init(&as->a_cbcv);
}

void as_callbacks_fini(struct as *as)
{
	VM_ASSERT(as->a_callbacks == NULL);
	mach_cv_fini(&as->a_cbcv);
	mach_mutex_fini(&as->a_cbmtx);
}

void as_callback_add(struct as *as, struct as_callback *cb)
{
	mach_mutex_enter(&as->a_cbmtx);
	cb->cb_running = 0;
	cb->cb_round = 0;
	cb->cb_next = as->a_callbacks;
	as->a_callbacks = cb;
	mach_mutex_exit(&as->a_cbmtx);
}

void as_callback_remove(struct as *as, struct as_callback *cb)
{
	struct as_callback **p = &as->a_callbacks;

	mach_mutex_enter(&as->a_cbmtx);
	while (cb->cb_running > 0)
		mach_cv_wait(&as->a_cbcv, &as->a_cbmtx);
	while (*p != NULL && *p != cb)
		p = &(*p)->cb_next;
	if (*p != NULL)
		*p = cb->cb_next;
	mach_mutex_exit(&as->a_cbmtx);
}

/* The next callback to run in this round. a_cbmtx. */
static struct as_callback *next_callback(
    struct as *as, vaddr_t addr, uint64_t len, unsigned event, uint64_t round)
{
	for (struct as_callback *cb = as->a_callbacks; cb != NULL; cb = cb->cb_next)
		if (cb->cb_round != round && (cb->cb_events & event) != 0 &&
		    cb->cb_addr < addr + len && addr < cb->cb_addr + cb->cb_len)
			return cb;
	return NULL;
}

bool as_callbacks_run(struct as *as, vaddr_t addr, uint64_t len, unsigned event)
{
	struct as_callback *cb;
	bool soon = false;
	uint64_t round;

	mach_mutex_enter(&as->a_cbmtx);
	round = ++as->a_cbround;
	while ((cb = next_callback(as, addr, len, event, round)) != NULL) {
		enum as_cb said;

		cb->cb_round = round;
		cb->cb_running++;
		mach_mutex_exit(&as->a_cbmtx);
		said = cb->cb_fn(cb->cb_arg, as, event, addr, len);
		mach_mutex_enter(&as->a_cbmtx);
		cb->cb_running--;
		mach_cv_broadcast(&as->a_cbcv);
		soon |= said == AS_CB_SOON;
	}
	mach_mutex_exit(&as->a_cbmtx);
	return soon;
}

void as_callbacks_unlocked(struct as *as)
{
	if (__atomic_load_n(&as->a_cbwaiters, __ATOMIC_SEQ_CST) == 0)
		return;
	mach_mutex_enter(&as->a_cbmtx);
	as->a_cbunlocks++;
	mach_cv_broadcast(&as->a_cbcv);
	mach_mutex_exit(&as->a_cbmtx);
}

static bool has_soft_locks(struct as *as, vaddr_t addr, uint64_t len)
{
	vaddr_t va = addr;

	return aslock_next(as, &va, addr + len, LOCK_SOFT);
}

bool as_callbacks_free(struct as *as, vaddr_t addr, uint64_t len, unsigned event)
{
	bool soon;

	if (__atomic_load_n(&as->a_callbacks, __ATOMIC_RELAXED) == NULL)
		return false;
	soon = as_callbacks_run(as, addr, len, event);
	if (!soon)
		return !has_soft_locks(as, addr, len);
	mach_mutex_enter(&as->a_cbmtx);
	__atomic_add_fetch(&as->a_cbwaiters, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		uint64_t seen = as->a_cbunlocks;

		mach_mutex_exit(&as->a_cbmtx);
		if (!has_soft_locks(as, addr, len)) {
			mach_mutex_enter(&as->a_cbmtx);
			break;
		}
		mach_mutex_enter(&as->a_cbmtx);
		while (as->a_cbunlocks == seen)
			mach_cv_wait(&as->a_cbcv, &as->a_cbmtx);
	}
	__atomic_sub_fetch(&as->a_cbwaiters, 1, __ATOMIC_ACQ_REL);
	mach_mutex_exit(&as->a_cbmtx);
	return true;
}
