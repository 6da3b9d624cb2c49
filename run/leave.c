/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of hosting, and the change of the store: before the process's system calls are filtered,
 * and after the process has given up rights.
 *
 * If a process that gave up rights cannot move to another store, all its memory is made resident
 * and its hosting ends: a process never continues with the old store.
 *
 * Locks: h_lock as writer while stores change or memory is released to the kernel. The service
 * thread, which has the rights of the thread that made it, has ended before; a new service thread
 * is made at the end.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/syscall.h>

#include "run/affinity.h"
#include "run/host.h"
#include "sys/linux/sys.h"

/*
 * The program is about to let the kernel filter its system calls (seccomp). The filter would also
 * apply to system calls of the runtime and its service thread, which the program's list does not
 * permit. So all memory of the process is made resident now and its hosting ends; its children are
 * not hosted until they execute another program. The granted frames stay charged.
 */
long host_do_leave(struct host *h)
{
	struct vm_usage u;
	struct piece p;
	bool left = false;
	long r = 0;

	mach_rw_enter(&h->h_lock, true);
	vm_usage(h->h_vm, &u);
	for (uint64_t a = 0; r == 0 && !h->h_off && host_next_piece(h, a, ~0ull >> 17, &p);
	     a = p.end)
		r = host_leave_piece(h, &p);
	if (r == 0 && !h->h_off) {
		uint64_t have = atomic_load(&h->h_me->fp_granted),
			 more = u.vu_anon_slots > have ? u.vu_anon_slots - have : 0;

		host_force_charge(h, more);
		affinity_leave();
		if (!atomic_load(&h->h_served))
			family_mortal(h, false);
		h->h_off = left = true;
		(void)sys_call2(SYS_shutdown, h->h_sock,
		    0 /* SHUT_RD */); /* the service thread wakes, and ends */
	}
	mach_rw_exit(&h->h_lock);
	if (r == 0) {
		service_end();
		if (left)
			store_leave(h);
	}
	return r;
}

long store_move(struct host *h, bool hidden)
{
	bool there = service_there(), can = !there || service_renewable(),
	     served = there && can && service_set_aside(h);
	int rc = can ? 0 : -EAGAIN;

	mach_rw_enter(&h->h_lock, true);
	if (!h->h_off && can) {
		if (!served)
			family_mortal(h, false);
		rc = store_change(h, hidden);
		if (!served && rc == 0)
			family_mortal(h, true);
	}
	mach_rw_exit(&h->h_lock);
	if (rc != 0 && host_do_leave(h) != 0)
		host_stop(
		    "a process ends: it gave up rights, and its pages have no room outside the store of those with more; give more --memory",
		    rc);
	if (rc == 0 && served)
		service_again(h);
	if (rc == 0 && served)
		family_hears(h);
	return rc;
}
