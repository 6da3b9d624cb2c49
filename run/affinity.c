/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Keeps the thread that faults a lot and the service thread on one CPU.
 *
 * A fault is two wake-ups. To another CPU each costs an interrupt, 20 to 30 microseconds on virtual machines; on the same
 * CPU the two together cost about 3. The scheduler wakes on an idle CPU whenever there is one, so both threads are bound:
 * after STREAK faults in a row by one thread, until others have a fifth of the faults or no thread faults any more. Where
 * several threads fault in turn nothing is bound: each keeps its CPU busy, and they would lose their parallelism.
 *
 * The program's own view of its affinity stays what it set: the calls that ask and set it, exec and fork, which pass it on,
 * and the start of a thread, which inherits it, come by here. A program that sets it is left alone for good.
 *
 * No lock: only the service thread binds and unbinds (or the thread that has stopped it). The program's threads only set the flag and free themselves; the
 * mask does not change while a thread is bound.
 */
#include "run/affinity.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"

#define MASK_BYTES 128u

#define STREAK 32u /* faults in a row after which a thread is bound */
#define OTHERS                                                                                     \
	64u /* how far others may get: each of their faults counts 4, each of the bound thread's -1 */

static _Atomic bool hands_off; /* the program cares about placement itself */
static _Atomic bool ever;      /* some thread was bound once: the masks below mean something */
static _Atomic int
    bound; /* thread that is bound, 0: none. Service thread only, or the child of a fork */
static int
    candidate; /* service thread only, as the next two: the thread that faulted last, how often in a row */
static unsigned streak, others;
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

/* In the service thread. Both go to its present CPU. */
static void bind_threads(int tid)
{
	unsigned cpu = 0;

	affinity_release();
	if (sys_call3(SYS_sched_getaffinity, tid, MASK_BYTES, (long)mask) <= 0 ||
	    sys_call3(SYS_getcpu, (long)&cpu, 0, 0) != 0 || cpu >= MASK_BYTES * 8 ||
	    (mask[cpu / 64] >> (cpu % 64) & 1) == 0)
		return;
	for (unsigned i = 0; i < MASK_BYTES / 8; i++)
		service[i] = 0;
	service[cpu / 64] = 1ul << (cpu % 64);
	if (sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)service) != 0)
		return;
	ever = true;
	others = 0;
	bound = tid;
	if (sys_call3(SYS_sched_setaffinity, tid, MASK_BYTES, (long)service) != 0 || hands_off)
		affinity_release();
}

/* In the service thread, after a fault of that thread. */
void affinity_follow(int tid)
{
	if (hands_off) {
		affinity_release();
		return;
	}
	if (bound == tid) {
		others -= others > 0;
		return;
	}
	if (bound != 0 && (others += 4) > OTHERS)
		affinity_release();
	streak = tid == candidate ? streak + 1 : 1;
	candidate = tid;
	if (streak >= STREAK)
		bind_threads(tid);
}

/* In a new thread: what it inherited may be its maker's bond. */
void affinity_thread(void)
{
	unsigned long own[MASK_BYTES / 8] = { 0 };

	if (!ever || sys_call3(SYS_sched_getaffinity, 0, MASK_BYTES, (long)own) <= 0)
		return;
	for (unsigned i = 0; i < MASK_BYTES / 8; i++)
		if (own[i] != service[i])
			return;
	(void)sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)mask);
}

void affinity_forked(void)
{
	if (bound != 0)
		(void)sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)mask);
	bound = 0;
	candidate = 0;
}

/* No thread is served any more, and nothing is asked of the kernel. Instead of the service thread, which does nothing meanwhile. */
void affinity_leave(void)
{
	hands_off = true;
	if (bound != 0)
		(void)sys_call3(SYS_sched_setaffinity, bound, MASK_BYTES, (long)mask);
	bound = 0;
	ever = false;
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
	int b = bound;

	hands_off = true;
	if (b != 0)
		(void)sys_call3(SYS_sched_setaffinity, b, MASK_BYTES, (long)mask);
	return sys_call3(SYS_sched_setaffinity, tid, (long)len, (long)in);
}
