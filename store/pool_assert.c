/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Assertions of the store: which thread holds its lock.
 *
 * The holder is recorded beside the lock's word, by values that a thread knows without a system
 * call: its thread pointer and a random number of its process. Two processes of a family may have
 * equal thread pointers and, in different PID namespaces, equal process numbers; the random number
 * tells them apart. If two processes draw the same number, an assertion may miss a fault.
 *
 * Locks: ps_holder is written by the holder of ps_lock only; every thread may read it.
 */
#include "store/pool_impl.h"

static uint32_t process; /* atomic: this process's number; 0: not drawn yet */

void pool_held_forked(void) { __atomic_store_n(&process, 0, __ATOMIC_RELAXED); }

/* The calling thread, never 0: a thread pointer has 48 bits. */
static uint64_t calling_thread(void)
{
	uint32_t n = __atomic_load_n(&process, __ATOMIC_RELAXED), none = 0, drawn = 1;

	if (n == 0) {
		(void)sys_call3(SYS_getrandom, (long)&drawn, sizeof drawn, 1 /* GRND_NONBLOCK */);
		n = drawn | 1u << 16;
		if (!__atomic_compare_exchange_n(
			&process, &none, n, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			n = none; /* another thread's */
	}
	return (uint64_t)n << 48 | (uint64_t)(uintptr_t)__builtin_thread_pointer();
}

void pool_held_begin(struct pool_shared *s)
{
	__atomic_store_n(&s->ps_holder, calling_thread(), __ATOMIC_RELAXED);
}

bool pool_held(const struct pool_shared *s)
{
	return __atomic_load_n(&s->ps_lock, __ATOMIC_RELAXED) != 0 &&
	    __atomic_load_n(&s->ps_holder, __ATOMIC_RELAXED) == calling_thread();
}

void pool_panic(const char *what)
{
	(void)sys_call3(SYS_write, 2, (long)"quire: panic: ", 14);
	(void)sys_call3(SYS_write, 2, (long)what, (long)__builtin_strlen(what));
	__builtin_trap();
}
