/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From native to managed: the charge for pages while the kernel alone serves first touches, and the
 * adoption of all present pages when a charge is refused (host_quire.c describes the two phases).
 *
 * Lock: h_lock, as each function says.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/mman.h>

#include <quire/hat.h>

#include "machine/linux/linux.h"

#define ADOPT_PAGES 4096u
static uint64_t present_map[ADOPT_PAGES / 64]; /* h_lock W, or h_brklock */

/* Registers [base, end) and adopts the pages present in it. h_lock W, or h_brklock. */
enum vm_err host_adopt_range(struct host *h, uint64_t base, uint64_t end)
{
	int rc = linux_range_register(h->h_mach, as_hat(h->h_as), base, end - base);

	HOST_ASSERT(mach_rw_held(&h->h_lock, true) || mach_mutex_held(&h->h_brklock));
	if (rc != 0)
		return VM_NOMEM;
	for (uint64_t a = base; a < end;) {
		uint64_t n = (end - a) >> VM_PAGESHIFT;
		enum vm_err e;

		if (n > ADOPT_PAGES)
			n = ADOPT_PAGES;
		if (linux_range_present(h->h_mach, a, n, present_map) > 0 &&
		    (e = as_adopt(h->h_as, a, n, present_map)) != VM_OK)
			return e;
		a += n << VM_PAGESHIFT;
	}
	return VM_OK;
}

enum vm_err host_lock_marked(struct host *h, uint64_t base, uint64_t end)
{
	struct piece p;
	uint64_t to;

	for (uint64_t a = base; host_next_piece(h, a, end, &p); a = p.end)
		for (uint64_t at = p.base; at < p.end && (p.prot & RW) == RW; at = to) {
			to = p.end;
			if (host_marked_at(h, MARK_LOCKED, at, &to) &&
			    as_lock(h->h_as, at, to - at) != VM_OK)
				return VM_NOMEM;
		}
	return VM_OK;
}

enum vm_err host_adopt(struct host *h)
{
	struct piece p;
	uint64_t a = 0;
	enum vm_err e;

	HOST_ASSERT(mach_rw_held(&h->h_lock, true));
	int rc = service_need(h);
	if (rc == -EAGAIN)
		atomic_fetch_add(&h->h_fam->fam_threadless, 1);
	if (rc != 0)
		return VM_NOMEM;
	family_watch(h);
	host_thread_apart();
	atomic_store(&h->h_credit, atomic_load(&h->h_committed));
	h->h_managed = true;
	h->h_adopting = true;
	for (e = VM_OK; e == VM_OK && host_next_piece(h, a, ~0ull >> 17, &p); a = p.end)
		if ((p.prot & RW) == RW)
			e = host_adopt_range(h, p.base, p.end);
	h->h_adopting = false;
	if (e != VM_OK || (e = host_lock_marked(h, 0, HOST_MAX)) != VM_OK)
		return e;
	uint64_t left = atomic_exchange(&h->h_credit, 0);
	if (left > 0)
		host_ungrant(h, (pfn_t)left);
	host_balance(h, UINT64_MAX);
	host_publish(h);
	return VM_OK;
}

/* How many of n pages that became read-write are charged. Not managed; h_lock R. */
static uint64_t charge_native(struct host *h, uint64_t n)
{
	uint64_t got = family_charge(h->h_fam, n);

	atomic_fetch_add(&h->h_me->fp_granted, got);
	atomic_fetch_add(&h->h_committed, got);
	return got;
}

/* While native: charge n pages that became read-write; on refusal become managed. Lock: R held, comes back held. */
enum vm_err host_charge(struct host *h, uint64_t n)
{
	enum vm_err e = VM_OK;

	HOST_ASSERT(mach_rw_held(&h->h_lock, false));
	uint32_t ended = host_ended(h);
	uint64_t got = charge_native(h, n);
	for (unsigned waits = 0; got < n && !h->h_managed && waits < HOST_WAITS; waits++) {
		mach_rw_exit(&h->h_lock);
		bool more = host_await_ended(h, ended);
		mach_rw_enter(&h->h_lock, false);
		if (!more)
			break;
		ended = host_ended(h);
		if (!h->h_managed)
			got += charge_native(h, n - got);
	}
	if (got == n) {
		/* without a service thread no other process asks for frames */
		if (atomic_load(&h->h_me->fp_granted) > HOST_ASKED)
			(void)service_need(h);
		host_publish(h);
		return VM_OK;
	}
	mach_rw_exit(&h->h_lock);
	mach_rw_enter(&h->h_lock, true);
	if (!h->h_managed)
		e = host_adopt(h);
	mach_rw_exit(&h->h_lock);
	mach_rw_enter(&h->h_lock, false);
	return e;
}

void host_uncharge(struct host *h, uint64_t n)
{
	if (h->h_managed)
		return;
	uint64_t have = atomic_load(&h->h_committed);
	if (n > have)
		n = have;
	atomic_fetch_sub(&h->h_committed, n);
	host_ungrant(h, (pfn_t)n);
}
