/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store's lock: a futex word in the shared memory that holds the owner's thread id; bit 31 says that somebody may wait. A
 * waiter looks every 50 ms whether the owner still lives, and takes the lock over from a dead one. It is held for a few microseconds at
 * most, so a waiter looks for about as long whether it comes free before it sleeps.
 */
#include "store/pool_impl.h"

#define WAITERS 0x80000000u
#define SPIN	64u /* looks, each some 40 ns */

int pool_dead(uint32_t tid)
{
	char path[32] = "/proc/", digits[12], buf[512];
	unsigned n = 0, at = 6;
	const char *state = NULL;

	if (sys_call2(SYS_kill, (long)tid, 0) == -ESRCH)
		return 1;
	for (uint32_t v = tid; v != 0; v /= 10)
		digits[n++] = (char)('0' + v % 10);
	while (n > 0)
		path[at++] = digits[--n];
	__builtin_memcpy(path + at, "/stat", 6);
	long fd = sys_call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return 0; /* not known */
	long got = sys_call3(SYS_read, fd, (long)buf, sizeof buf);
	(void)sys_call1(SYS_close, fd);
	for (long i = 0; i + 2 < got; i++) /* "tid (name) S": the name may hold any character */
		if (buf[i] == ')')
			state = buf + i + 2;
	return state != NULL && (*state == 'Z' || *state == 'X');
}

void pool_lock(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t tid = pool_tid(p), was = 0;
	struct { long s, ns; } soon = { 0, 50000000 };

	if (__atomic_compare_exchange_n(&s->ps_lock, &was, tid, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	for (uint32_t i = 0; i < SPIN; i++) {
		__builtin_ia32_pause();
		if (__atomic_load_n(&s->ps_lock, __ATOMIC_RELAXED) != 0)
			continue;
		was = 0;
		if (__atomic_compare_exchange_n(&s->ps_lock, &was, tid, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
	}
	for (;;) {
		was = __atomic_load_n(&s->ps_lock, __ATOMIC_RELAXED);
		if (was == 0) {
			if (__atomic_compare_exchange_n(
				&s->ps_lock, &was, tid | WAITERS, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
				return;
			continue;
		}
		if ((was & WAITERS) == 0 &&
		    !__atomic_compare_exchange_n(
			&s->ps_lock, &was, was | WAITERS, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		was |= WAITERS;
		if (sys_call6(SYS_futex, (long)&s->ps_lock, 0 /* FUTEX_WAIT */, (long)(int)was, (long)&soon, 0, 0) ==
			-ETIMEDOUT &&
		    !p->p_alone && pool_dead(was & ~WAITERS) &&
		    __atomic_compare_exchange_n(
			&s->ps_lock, &was, tid | WAITERS, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			pool_repair_locked(p);
			return;
		}
	}
}

void pool_unlock(struct pool_shared *s)
{
	if ((__atomic_exchange_n(&s->ps_lock, 0, __ATOMIC_RELEASE) & WAITERS) != 0)
		(void)sys_call6(SYS_futex, (long)&s->ps_lock, 1 /* FUTEX_WAKE */, 1, 0, 0, 0);
}
