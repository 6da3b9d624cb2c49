/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store's lock: a futex word in the shared memory that holds the owner's thread id; bit 31 says that a thread may wait. A
 * waiter looks every 50 ms whether the owner still lives, and takes the lock over from a dead one. It is held for a few microseconds at
 * most, so a waiter looks for about as long whether it comes free before it sleeps.
 */
#include "store/pool_impl.h"

#define WAITERS 0x80000000u
#define SPIN 64u /* looks, each some 40 ns */

/* Takes the lock. True: from a thread that died with it. */
static bool take_lock(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t tid = pool_tid(p), was = 0;
	struct {
		long s, ns;
	} soon = { 0, 50000000 };

	if (__atomic_compare_exchange_n(
		&s->ps_lock, &was, tid, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	for (uint32_t i = 0; i < SPIN; i++) {
		__builtin_ia32_pause();
		if (__atomic_load_n(&s->ps_lock, __ATOMIC_RELAXED) != 0)
			continue;
		was = 0;
		if (__atomic_compare_exchange_n(
			&s->ps_lock, &was, tid, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return false;
	}
	for (;;) {
		was = __atomic_load_n(&s->ps_lock, __ATOMIC_RELAXED);
		if (was == 0) {
			if (__atomic_compare_exchange_n(&s->ps_lock, &was, tid | WAITERS, 0,
				__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return false;
			continue;
		}
		if ((was & WAITERS) == 0 &&
		    !__atomic_compare_exchange_n(
			&s->ps_lock, &was, was | WAITERS, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		was |= WAITERS;
		if (sys_call6(SYS_futex, (long)&s->ps_lock, 0 /* FUTEX_WAIT */, (long)(int)was,
			(long)&soon, 0, 0) == -ETIMEDOUT &&
		    !p->p_alone && pool_dead(was & ~WAITERS) &&
		    __atomic_compare_exchange_n(
			&s->ps_lock, &was, tid | WAITERS, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
	}
}

void pool_lock(struct pool *p)
{
	bool died = take_lock(p);

	pool_held_begin(p->p_shared);
	if (died)
		p->p_repair(p);
}

void pool_unlock(struct pool_shared *s)
{
	__atomic_store_n(&s->ps_holder, 0, __ATOMIC_RELAXED);
	if ((__atomic_exchange_n(&s->ps_lock, 0, __ATOMIC_RELEASE) & WAITERS) != 0)
		(void)sys_call6(SYS_futex, (long)&s->ps_lock, 1 /* FUTEX_WAKE */, 1, 0, 0, 0);
}
