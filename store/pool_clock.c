/* SPDX-License-Identifier: BSD-2-Clause */
/* The clock of the store, and the rate limit of reads and writes of the file. */
#include "store/pool_impl.h"

#define PACE_BURST 50000000u /* ns of unused rate that may be used at once after a pause */

uint64_t pool_now(void)
{
	struct {
		long s, ns;
	} t = { 0, 0 };

	(void)sys_call2(SYS_clock_gettime, 1 /* CLOCK_MONOTONIC */, (long)&t);
	return (uint64_t)t.s * 1000000000u + (uint64_t)t.ns;
}

void pool_pace(struct pool *p, uint32_t bytes)
{
	struct pool_shared *s = p->p_shared;
	uint64_t now, was, from, to;
	struct {
		long s, ns;
	} until;

	if (s->ps_rate == 0)
		return;
	now = pool_now();
	was = __atomic_load_n(&s->ps_paced, __ATOMIC_RELAXED);
	do {
		from = was + PACE_BURST > now ? was : now - PACE_BURST;
		to = from + bytes * 1000000000ull / s->ps_rate;
	} while (!__atomic_compare_exchange_n(
	    &s->ps_paced, &was, to, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	until.s = (long)(to / 1000000000u);
	until.ns = (long)(to % 1000000000u);
	while (to > now &&
	    sys_call4(SYS_clock_nanosleep, 1 /* CLOCK_MONOTONIC */, 1 /* TIMER_ABSTIME */,
		(long)&until, 0) == -EINTR)
		now = pool_now();
}
