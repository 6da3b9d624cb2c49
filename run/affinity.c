/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Binds a thread that faults often to the CPU of the service thread.
 *
 * A fault is two wake-ups. A wake-up on another CPU costs an interrupt, 20 to 30 microseconds on
 * virtual machines; on the same CPU both wake-ups together cost about 3. The scheduler wakes on an
 * idle CPU whenever there is one, so both threads are bound: from STREAK faults in a row by one
 * thread until other threads cause a fifth of the faults or faults end. If several threads fault in
 * turn, no thread is bound: each keeps its CPU busy, and binding would end their parallelism.
 *
 * The program always sees the affinity that it set: the calls that read and set the affinity, exec
 * and fork, which pass it on, and the start of a thread, which inherits it, call this file. In a
 * program that sets its affinity, no thread is bound any more.
 *
 * No lock: only the service thread binds and unbinds (or the thread that has stopped it). The
 * program's threads only set the flag and unbind themselves; the mask does not change while a
 * thread is bound.
 */
#include "run/affinity.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"

#define MASK_BYTES 128u

#define STREAK 32u /* faults in a row after which a thread is bound */
/*
 * limit of a sum to which each fault of another thread adds 4 and each fault of the bound thread
 * adds -1
 */
#define OTHERS 64u

static _Atomic bool hands_off; /* the program sets affinities itself */
static _Atomic bool ever;      /* a thread was bound once: the masks below are valid */
/* thread that is bound, 0: none. Written by the service thread, or by the child of a fork */
static _Atomic int bound;
/* service thread only, as the next two: the thread that faulted last, and how often in a row */
static int candidate;
static unsigned streak, others;
static unsigned long mask[MASK_BYTES / 8]; /* the program's own affinity while a thread is bound */
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

/* In the service thread. Binds both threads to the faulting thread's present CPU. */
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

/*
 * Called in a new thread: the affinity that it inherited may be the binding of the thread that made
 * it.
 */
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

/*
 * Called when faults are no longer served; makes no system call. Runs in place of the service
 * thread, which does nothing meanwhile.
 */
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
