/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tracking: a range of the program becomes a segment of the core's space, or a mark if the range
 * has no access; and tracking ends.
 *
 * Lock: h_lock as reader.
 */
#include "run/engine.h"

#include <sys/mman.h>

#include <quire/hat.h>
#include <quire/kmem.h>

#include "machine/linux/linux.h"

/*
 * The most segments. A segment takes memory of the core, which comes out of the budget; the rest
 * must be left for pages. Further mappings are refused, as the kernel refuses mappings beyond
 * vm.max_map_count.
 */
static bool tables_full(struct host *h)
{
	struct vm_usage u;

	vm_usage(h->h_vm, &u);
	if (u.vu_kernel <= h->h_fam->fam_budget / 2)
		return false;
	(void)kmem_reap(h->h_vm); /* memory freed since is in caches */
	vm_usage(h->h_vm, &u);
	return u.vu_kernel > h->h_fam->fam_budget / 2;
}

static bool mark_closed(struct host *h, uint64_t base, uint64_t end, bool noreserve)
{
	if (noreserve && !host_mark(h, MARK_NORESERVE, base, end))
		return false;
	return host_mark(h, MARK_CLOSED, base, end);
}

/*
 * Starts to track [base, base+len), which the kernel has mapped. On failure the caller unmaps the
 * range. h_lock R.
 */
enum vm_err host_track(struct host *h, uint64_t base, uint64_t len, int prot, unsigned sa_flags)
{
	struct segvn_args sa = {
		.sa_prot = host_core_prot(prot), .sa_maxprot = PROT_R | PROT_W, .sa_flags = sa_flags
	};
	enum vm_err e;

	HOST_ASSERT(mach_rw_held(&h->h_lock, false));
	if (prot == PROT_NONE &&
	    mark_closed(h, base, base + len, (sa_flags & SEGVN_NORESERVE) != 0))
		return VM_OK;
	e = tables_full(h) ? VM_NOMEM : as_map(h->h_as, base, len, segvn_create, &sa);

	if (e == VM_OK && (prot & RW) == RW) {
		if (!h->h_managed)
			e = host_charge(h, len >> VM_PAGESHIFT);
		else if (linux_range_register(h->h_mach, as_hat(h->h_as), base, len) != 0)
			e = VM_NOMEM;
	}
	if (e == VM_NOMEM)
		atomic_fetch_add(&h->h_fam->fam_tables, 1);
	return e;
}

enum vm_err host_track_closed(struct host *h, uint64_t base, uint64_t end)
{
	struct range r;
	uint64_t to;

	for (uint64_t a = base; host_next_marked(h, MARK_CLOSED, a, end, &r); a = to) {
		bool noreserve;

		to = r.end;
		noreserve = host_marked_at(h, MARK_NORESERVE, r.base, &to);
		struct segvn_args sa = { .sa_prot = 0,
			.sa_maxprot = PROT_R | PROT_W,
			.sa_flags = noreserve ? SEGVN_NORESERVE : 0 };
		enum vm_err e = tables_full(h)
		    ? VM_NOMEM
		    : as_map(h->h_as, r.base, to - r.base, segvn_create, &sa);

		if (e != VM_OK)
			return e;
		(void)host_unmark(h, MARK_NORESERVE, r.base, to);
		if (!host_unmark(h, MARK_CLOSED, r.base, to)) {
			(void)as_unmap(h->h_as, r.base, to - r.base);
			return VM_NOMEM;
		}
	}
	return VM_OK;
}

/*
 * Stops tracking the range: its contents are dropped, and the kernel's mapping stays until the
 * caller changes it.
 */
enum vm_err host_forget(struct host *h, uint64_t base, uint64_t len)
{
	struct piece p;
	uint64_t a = base, native = 0;

	if (!h->h_managed)
		while (host_next_piece(h, a, base + len, &p)) {
			if ((p.prot & RW) == RW)
				native += (p.end - p.base) >> VM_PAGESHIFT;
			a = p.end;
		}
	enum vm_err e = as_unmap(h->h_as, base, len);
	if (e == VM_OK) {
		if (h->h_managed)
			linux_range_unregister(h->h_mach, as_hat(h->h_as), base, len, true);
		host_uncharge(h, native);
		(void)host_unmark(h, MARK_NOFORK, base, base + len);
		(void)host_unmark(h, MARK_READONLY, base, base + len);
		(void)host_unmark(h, MARK_LOCKED, base, base + len);
		(void)host_unmark(h, MARK_NORESERVE, base, base + len);
		if (!host_unmark(h, MARK_CLOSED, base, base + len))
			e = VM_NOMEM;
	}
	return e;
}
