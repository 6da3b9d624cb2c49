/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sleeps that another process must end.
 *
 * If a process dies for which others wait, its death is reported to the store (pool_release), and
 * the wait ends. The process that reports deaths may die, too: from then on a lock that a dead
 * process held stays taken, and a request to a far place may stay unanswered. So each such sleep is
 * a pool_sleep() or is followed by pool_waited(), which asks the user of the store whether the wait
 * can still end (p_waited). If it cannot, `quire run` ends the waiting process.
 *
 * The kernel's signal at the end of a process's connection does not suffice (run/family_client.c):
 * a process with a service thread has it switched off, and the first process of a PID namespace
 * ignores it.
 *
 * Left out: the packer's sleep while there is no work (pool_wait_work). In `quire run` the packer is
 * a thread of the keeper, which the kernel kills with the supervisor.
 */
#include "store/pool_impl.h"

void pool_waited(const struct pool *p)
{
	if (p->p_waited != NULL)
		p->p_waited(p->p_charge_arg);
}

bool pool_sleep(const struct pool *p, const uint32_t *word, uint32_t val)
{
	struct {
		long s, ns;
	} soon = { 0, 50000000 };
	long r =
	    sys_call6(SYS_futex, (long)word, 0 /* FUTEX_WAIT */, (long)(int)val, (long)&soon, 0, 0);

	/* a signal may come before the time is up, again and again */
	if (r == -ETIMEDOUT || r == -EINTR)
		pool_waited(p);
	return r == -ETIMEDOUT;
}
