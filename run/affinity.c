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
 * Only the service thread binds (or the thread that has stopped it). `bound` is BUSY while it binds
 * or unbinds; a thread of the program that sets its affinity waits for the end of that and then
 * takes the binding away itself. So the end of a binding never overwrites what the program has set.
 * A thread of the program never makes `bound` BUSY: its handlers of signals call this file, too.
 */
#include "run/affinity.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"

#define MASK_BYTES 128u
#define BUSY (-1) /* no thread's number */

#define STREAK 32u /* faults in a row after which a thread is bound */
/*
 * limit of a sum to which each fault of another thread adds 4 and each fault of the bound thread
 * adds -1
 */
#define OTHERS 64u

static _Atomic bool hands_off; /* the program sets affinities itself */
static _Atomic bool ever;      /* a thread was bound once: the masks below are valid */
/* thread that is bound, 0: none; BUSY: see above */
static _Atomic int bound;
static bool pinned; /* service thread only, as the next three: this thread is bound, too */
/* the thread that faulted last, and how often in a row */
static int candidate;
static unsigned streak, others;
/*
 * the program's own affinity while a thread is bound; constant once hands_off is set and `bound` is
 * not BUSY
 */
static unsigned long mask[MASK_BYTES / 8];
static unsigned long service[MASK_BYTES / 8];

/* The thread that is bound, or 0, as soon as no thread binds or unbinds. */
static int settled_bound(void)
{
	int b;

	while ((b = atomic_load(&bound)) == BUSY)
		sys_pause();
	return b;
}

/* A thread, if there is one, gets the program's affinity back. */
static void unbind_thread(int b)
{
	if (b != 0)
		(void)sys_call3(SYS_sched_setaffinity, b, MASK_BYTES, (long)mask);
}

/* In any thread, after hands_off was set: no thread is bound from here on. */
static void take_binding_away(void)
{
	int b;

	do
		b = settled_bound();
	while (!atomic_compare_exchange_strong(&bound, &b, 0));
	unbind_thread(b);
}

/* In the service thread. */
void affinity_release(void)
{
	if (!pinned)
		return;
	unbind_thread(atomic_exchange(&bound, BUSY));
	(void)sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)mask);
	pinned = false;
	atomic_store(&bound, 0);
}

/*
 * In the service thread, while `bound` is BUSY. Binds both threads to the faulting thread's present
 * CPU, if the program sets no affinity itself. Returns the thread that is bound, or 0.
 */
static int bind_both(int tid)
{
	unsigned cpu = 0;

	if (hands_off || sys_call3(SYS_sched_getaffinity, tid, MASK_BYTES, (long)mask) <= 0 ||
	    sys_call3(SYS_getcpu, (long)&cpu, 0, 0) != 0 || cpu >= MASK_BYTES * 8 ||
	    (mask[cpu / 64] >> (cpu % 64) & 1) == 0)
		return 0;
	for (unsigned i = 0; i < MASK_BYTES / 8; i++)
		service[i] = 0;
	service[cpu / 64] = 1ul << (cpu % 64);
	if (sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)service) != 0)
		return 0;
	ever = pinned = true;
	others = 0;
	return sys_call3(SYS_sched_setaffinity, tid, MASK_BYTES, (long)service) == 0 ? tid : 0;
}

static void bind_threads(int tid)
{
	affinity_release();
	atomic_store(&bound, BUSY);
	atomic_store(&bound, bind_both(tid));
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
 * The caller's affinity may be that of the binding: its own, or that of the thread that made it. A
 * program that is executed would inherit it.
 */
void affinity_own(void)
{
	unsigned long own[MASK_BYTES / 8] = { 0 };

	if (!ever || hands_off || sys_call3(SYS_sched_getaffinity, 0, MASK_BYTES, (long)own) <= 0)
		return;
	for (unsigned i = 0; i < MASK_BYTES / 8; i++)
		if (own[i] != service[i])
			return;
	(void)sys_call3(SYS_sched_setaffinity, 0, MASK_BYTES, (long)mask);
}

/* `bound` may be BUSY: the child does not have the parent's service thread. */
void affinity_forked(void)
{
	affinity_own();
	bound = 0;
	pinned = false;
	candidate = 0;
}

/*
 * Called when faults are no longer served. Runs in place of the service thread, which serves none
 * meanwhile.
 */
void affinity_leave(void)
{
	hands_off = true;
	take_binding_away();
	ever = pinned = false;
}

long affinity_get(int tid, unsigned long len, unsigned long *out)
{
	int b;
	long r;

	do {
		b = settled_bound();
		r = sys_call3(SYS_sched_getaffinity, tid, (long)len, (long)out);
		if (r > 0 && b != 0 && (tid == b || (tid == 0 && sys_call0(SYS_gettid) == b)))
			for (long i = 0; i < r / 8; i++)
				out[i] = mask[i];
	} while (settled_bound() != b);
	return r;
}

long affinity_set(int tid, unsigned long len, const unsigned long *in)
{
	hands_off = true;
	take_binding_away();
	return sys_call3(SYS_sched_setaffinity, tid, (long)len, (long)in);
}
