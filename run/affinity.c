/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Keeps a program's only thread and the service thread on one CPU while the program faults a lot.
 *
 * A fault is two wake-ups. To another CPU each costs an interrupt, 20 to 30 microseconds on virtual machines; on the same
 * CPU the two together cost about 3. The scheduler wakes on an idle CPU whenever there is one, so both threads are bound.
 * A program with several threads is never bound: it would lose its parallelism. Which one it is shows when it maps a
 * thread's stack (MAP_STACK). The program's own view of its affinity stays what it set: the calls that ask and set it, and
 * exec and fork, which pass it on, come by here.
 *
 * No lock: only the service thread binds and unbinds. The program's threads, which may be on a stack that is itself
 * managed memory, set the flag and free themselves; the mask does not change while somebody is bound.
 */
#include "run/affinity.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "machine/linux/sys.h"

#define MASK_BYTES 128u

static _Atomic bool threaded; /* never bind again */
static _Atomic int bound;     /* thread that is bound, 0: none. Service thread only, or the child of a fork */
static unsigned long mask[MASK_BYTES / 8]; /* the program's own, while bound */
static unsigned long service[MASK_BYTES / 8];

/* In the service thread. */
void affinity_release(void)
{
	if (bound == 0)
		return;
	(void)sys_call3(SYS_sched_setaffinity, bound, MASK_BYTES, (long)mask);
	(void)sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)mask);
	bound = 0;
}

void affinity_threaded(void)
{
	int tid = bound;

	threaded = true;
	if (tid != 0)
		(void)sys_call3(SYS_sched_setaffinity, tid, MASK_BYTES, (long)mask);
}

/* In the service thread. Both go to its present CPU. */
void affinity_follow(int tid)
{
	unsigned cpu = 0;

	if (threaded) {
		affinity_release();
		return;
	}
	if (bound == tid)
		return;
	affinity_release();
	if (sys_call3(SYS_sched_getaffinity, tid, MASK_BYTES, (long)mask) <= 0 || sys_call3(SYS_getcpu, (long)&cpu, 0, 0) != 0 ||
	    cpu >= MASK_BYTES * 8 || (mask[cpu / 64] >> (cpu % 64) & 1) == 0)
		return;
	for (unsigned i = 0; i < MASK_BYTES / 8; i++)
		service[i] = 0;
	service[cpu / 64] = 1ul << (cpu % 64);
	if (sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)service) != 0)
		return;
	bound = tid;
	if (sys_call3(SYS_sched_setaffinity, tid, MASK_BYTES, (long)service) != 0 || threaded)
		affinity_release();
}

void affinity_forked(void)
{
	if (bound != 0)
		(void)sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)mask);
	threaded = false;
	bound = 0;
}

void affinity_exec(void)
{
	if (bound != 0)
		(void)sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)mask);
}

long affinity_get(int tid, unsigned long len, unsigned long *out)
{
	long r = sys_call3(SYS_sched_getaffinity, tid, (long)len, (long)out);
	int b = bound;

	if (r > 0 && b != 0 && (tid == b || tid == 0))
		for (long i = 0; i < r / 8; i++)
			out[i] = mask[i];
	return r;
}

long affinity_set(int tid, unsigned long len, const unsigned long *in)
{
	affinity_threaded(); /* it cares about placement: leave it alone from now on */
	return sys_call3(SYS_sched_setaffinity, tid, (long)len, (long)in);
}
