/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the service thread does (service.c makes and ends it): it reads the process's userfaultfd
 * and serves each fault through the core. It also takes requests for memory by other processes of
 * the family: a byte on the supervisor's socket.
 *
 * Locks: h_lock as reader while faults are served; it is released between them.
 */
#include "run/host_quire.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "machine/linux/linux.h"
#include "run/affinity.h"
#include "run/engine.h"
#include "run/host.h"
#include "sys/linux/sys.h"

/* number of faults after which the counters are published, if faults keep coming */
#define PUBLISH 256u
/* number of faults after which requests for memory are checked, if faults keep coming */
#define ASKED 64u
#define QUIET_MS 100 /* after this time without a fault the bound thread is unbound */

static void answer_supervisor(struct host *h)
{
	char byte[64];
	long n = sys_call6(SYS_recvfrom, h->h_sock, (long)byte, sizeof byte, MSG_DONTWAIT, 0, 0);

	if (n == 0 || n == -ECONNRESET)
		family_end(h);
	uint32_t want = atomic_exchange(&h->h_me->fp_shrink, 0);
	enum vm_err e;

	if (want == 0)
		return;
	if (!h->h_managed) { /* frames granted for mapped but untouched memory become free */
		mach_rw_exit(&h->h_lock);
		mach_rw_enter(&h->h_lock, true);
		if (!h->h_managed && (e = host_adopt(h)) != VM_OK)
			host_stop(
			    "a process ends: no memory for its tables, or too many mappings; give more with --memory",
			    (long)e);
		mach_rw_exit(&h->h_lock);
		mach_rw_enter(&h->h_lock, false);
	}
	(void)vm_shrink(h->h_vm, host_spare(h, want));
}

/*
 * The program pins more memory than the budget (buffers of an io_uring, with the privilege or the
 * limit for that). The kernel cannot be made to refuse the pin, and a page refused to the kernel
 * would be lost to the program. So frames are taken beyond the budget while the memory is pinned;
 * the report tells how many. If the arena has no frame left, resident memory, most of it pinned, is
 * left to the kernel step by step and counts as unhosted.
 */
bool host_pinned(void *arg, unsigned tries)
{
	struct host *h = arg;
	uint64_t n = atomic_load(&h->h_me->fp_granted) /
	    4; /* each call was preceded by a search through all pages */
	struct vm_usage u;
	bool left;

	vm_usage(h->h_vm, &u);
	if (tries > 0 || u.vu_frames + HOST_PINNED > h->h_told.fw_budget * 2) {
		mach_rw_exit(&h->h_lock);
		mach_rw_enter(&h->h_lock, true);
		left = h->h_off || host_leave_some(h);
		mach_rw_exit(&h->h_lock);
		mach_rw_enter(&h->h_lock, false);
		return left;
	}
	if (n < HOST_PINNED)
		n = HOST_PINNED;
	host_force_charge(h, n);
	atomic_fetch_add(&h->h_credit, n);
	/*
	 * host_balance pauses for this many faults: otherwise it would give back at once the frames
	 * granted here.
	 */
	atomic_store_explicit(&h->h_balance_rest, n, memory_order_relaxed);
	return true;
}

/*
 * Serves faults while they keep coming. Between faults h_lock is released for threads that want to
 * be its writer.
 */
static bool serve_faults(struct host *h)
{
	unsigned total = 0;

	for (;;) {
		int n;

		mach_rw_enter(&h->h_lock, false);
		if (h->h_off) { /* the threads that waited have been woken */
			mach_rw_exit(&h->h_lock);
			return false;
		}
		n = linux_serve(h->h_mach);
		if (n > 0) {
			host_balance(h, HOST_SHRINK);
			if (family_nearly_full(h->h_fam, atomic_load(&h->h_credit)))
				linux_expect_replacement(h->h_mach);
			atomic_fetch_add_explicit(&h->h_me->fp_count.wait_ns,
			    linux_waited_ns(h->h_mach), memory_order_relaxed);
		}
		if (n <= 0 || total / PUBLISH != (total + (unsigned)n) / PUBLISH)
			host_publish(h);
		mach_rw_exit(&h->h_lock);
		if (n <= 0)
			return total > 0;
		total += (unsigned)n;
		affinity_follow(linux_fault_tid(h->h_mach));
		if (total / ASKED == (total - (unsigned)n) / ASKED)
			continue;
		family_check(h);
		if (atomic_load(&h->h_me->fp_shrink) > 0)
			return true;
	}
}

int host_serve(struct host *h)
{
	bool idle = true, async = false;

	for (;;) {
		struct pollfd p[3] = { { .fd = linux_fault_fd(h->h_mach), .events = POLLIN },
			{ .fd = h->h_sock, .events = POLLIN },
			{ .fd = h->h_wake, .events = POLLIN } };
		long r = sys_call3(SYS_poll, (long)p, 3, idle ? -1 : QUIET_MS);

		if (r == 0) { /* no fault for a while */
			affinity_release();
			pool_poll(h->h_pool, 0);
			idle = true;
		}
		if (r <= 0)
			continue;
		if (h->h_off)
			(void)sys_call1(SYS_exit, 0);
		if (service_is_set_aside()) {
			affinity_release();
			pool_async_end(h->h_pool);
			(void)sys_call1(SYS_exit, 0);
		}
		if (h->h_managed && !async) {
			if ((h->h_told.fw_without & SYS_IO_URING) == 0)
				(void)pool_async(
				    h->h_pool); /* without a ring, the store writes synchronously */
			async = true;
		}
		if ((p[1].revents & (POLLIN | POLLHUP)) != 0) {
			mach_rw_enter(&h->h_lock, false);
			if (!h->h_off) {
				answer_supervisor(h);
				host_publish(h);
			}
			mach_rw_exit(&h->h_lock);
		}
		if (p[0].revents != 0 && serve_faults(h))
			idle = false;
	}
	return 0;
}
