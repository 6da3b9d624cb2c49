/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store's lock: a futex word in the shared memory that survives the death of the process that holds it.
 *
 * The word is 0 if the lock is free; else it has the holder's tag + 1 (POOL_NOBODY: a process that
 * never joined); bit 31 tells that a thread may wait. The lock is held for a few microseconds at
 * most, so a waiter polls for about as long before it sleeps.
 *
 * Which process is dead. A waiter never judges. The kernel could tell about a process number, but
 * process and thread numbers have a meaning in one PID namespace only: in another namespace the
 * holder's number is free or belongs to another process. The processes of a family may live in
 * several namespaces, so a waiter that asked the kernel could take the lock from a living holder,
 * and both would write. A tag is the family's own number, the same in all namespaces, and is given
 * to no other process before the dead one's pool_release(). The supervisor knows that a process is
 * dead because the kernel closed its connection or ended its pidfd, and has pool_release() called
 * for the tag, which takes the lock over. The process that calls pool_release() knows of further
 * deaths whose release is still to come (p_gone): it must not wait for locks of those processes.
 * Every other process waits while the holder lives, running or stopped, or is dead and not
 * released. If the supervisor has ended, too, the waiting process ends (p_waited, pool_wait.c).
 *
 * A segment that a process writes, reads or packs names its owner the same way (s_owner), and the
 * same rule applies: pool_orphan().
 *
 * Invariants: 1. Two threads never hold the lock. 2. After a takeover p_repair runs before anything
 * else. 3. A holder that dies between freeing the word and waking a waiter is harmless: waiters
 * look at the word every 50 ms.
 *
 * Left out: the death of a thread alone. A thread of a living process never ends in this code; an
 * execve() by another thread also ends the process's connection.
 */
#include "store/pool_impl.h"

#define WAITERS 0x80000000u
#define SPIN 64u /* polls, about 40 ns each */

static uint32_t owner_in(uint32_t word) { return word & ~WAITERS; }

uint32_t pool_lock_owner(const struct pool_shared *s)
{
	return owner_in(__atomic_load_n(&s->ps_lock, __ATOMIC_RELAXED));
}

/* Takes the lock. Returns the owner that died with the lock, or 0. */
static uint32_t take_lock(struct pool *p, uint32_t dead)
{
	struct pool_shared *s = p->p_shared;
	uint32_t me = p->p_owner, was = 0;

	if (__atomic_compare_exchange_n(
		&s->ps_lock, &was, me, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return 0;
	for (uint32_t i = 0; i < SPIN; i++) {
		__builtin_ia32_pause();
		if (__atomic_load_n(&s->ps_lock, __ATOMIC_RELAXED) != 0)
			continue;
		was = 0;
		if (__atomic_compare_exchange_n(
			&s->ps_lock, &was, me, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return 0;
	}
	for (;;) {
		was = __atomic_load_n(&s->ps_lock, __ATOMIC_RELAXED);
		uint32_t owner = owner_in(was);
		bool free = was == 0;

		if (free || pool_owner_dead(p, owner, dead)) {
			if (__atomic_compare_exchange_n(&s->ps_lock, &was, me | WAITERS, 0,
				__ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return free ? 0 : owner;
			continue;
		}
		if ((was & WAITERS) == 0 &&
		    !__atomic_compare_exchange_n(
			&s->ps_lock, &was, was | WAITERS, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		(void)pool_sleep(p, &s->ps_lock, was | WAITERS);
	}
}

void pool_lock_after(struct pool *p, uint32_t dead)
{
	uint32_t died = take_lock(p, dead);

	pool_held_begin(p->p_shared);
	if (died != 0)
		p->p_repair(p, died);
}

void pool_lock(struct pool *p) { pool_lock_after(p, 0); }

void pool_unlock(struct pool_shared *s)
{
	__atomic_store_n(&s->ps_holder, 0, __ATOMIC_RELAXED);
	if ((__atomic_exchange_n(&s->ps_lock, 0, __ATOMIC_RELEASE) & WAITERS) != 0)
		(void)sys_call6(SYS_futex, (long)&s->ps_lock, 1 /* FUTEX_WAKE */, 1, 0, 0, 0);
}

uint32_t pool_lock_tag(int fd)
{
	uint32_t word = 0;

	(void)sys_call4(SYS_pread64, fd, (long)&word, sizeof word,
	    (long)__builtin_offsetof(struct pool_shared, ps_lock));
	return owner_in(word) - 1;
}
