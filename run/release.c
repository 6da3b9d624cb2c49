/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The release of memory to the kernel with its contents: the memory is made resident and is no
 * longer tracked.
 *
 * Lock: h_lock, as reader unless a function says otherwise.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <quire/hat.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"

/* Number of pages from a on, at most n of 64, that are all present (or all absent). */
static uint64_t count_alike(struct host *h, uint64_t a, uint64_t n, bool *something)
{
	uint8_t vec[64];
	uint64_t i = 1;

	n = n > 64 ? 64 : n;
	if (as_incore(h->h_as, a, n << VM_PAGESHIFT, vec) != VM_OK)
		*something = true;
	else
		for (*something = vec[0] != 0; i < n && (vec[i] != 0) == *something; i++)
			;
	return i;
}

/* Makes [base, end) resident and leaves the range to the kernel for good. */
enum vm_err host_release_range(struct host *h, uint64_t base, uint64_t end)
{
	if (!h->h_managed) {
		uint64_t n = (end - base) >> VM_PAGESHIFT;
		enum vm_err e = as_unmap(h->h_as, base, end - base);

		if (e == VM_OK) {
			host_uncharge(h, n);
			host_nofork_to_kernel(h, base, end);
			(void)host_unmark(h, MARK_READONLY, base, end);
		}
		return e;
	}
	for (uint64_t a = base; a < end;) {
		bool something;
		uint64_t n = count_alike(h, a, (end - a) >> VM_PAGESHIFT, &something)
		    << VM_PAGESHIFT;
		enum vm_err e = VM_OK;

		if (something) {
			if ((e = as_fault(h->h_as, a, n, F_SOFTLOCK, S_WRITE)) != VM_OK)
				return e;
			linux_range_leave(h->h_mach, as_hat(h->h_as), a, n);
			(void)as_fault(h->h_as, a, n, F_SOFTUNLOCK, S_WRITE);
		}
		if ((e = as_unmap(h->h_as, a, n)) != VM_OK)
			return e;
		a += n;
	}
	linux_range_unregister(h->h_mach, as_hat(h->h_as), base, end - base, false);
	host_nofork_to_kernel(h, base, end);
	(void)host_unmark(h, MARK_READONLY, base, end);
	return VM_OK;
}

#define LEFT_PAGES 256u
/*
 * Finds the first resident pages from *a on, before end; returns their number, at most LEFT_PAGES,
 * and sets *a to the first.
 */
static uint64_t find_loaded(struct host *h, uint64_t *a, uint64_t end)
{
	static uint8_t vec[LEFT_PAGES]; /* h_lock W */

	for (; *a < end; *a += vm_ptob(LEFT_PAGES)) {
		uint64_t here = vm_btop(end - *a), i = 0, n = 0;

		here = here < LEFT_PAGES ? here : LEFT_PAGES;
		if (as_incore(h->h_as, *a, vm_ptob(here), vec) != VM_OK)
			continue;
		for (; i < here && (vec[i] & INCORE_MAPPED) == 0; i++)
			;
		for (; i + n < here && (vec[i + n] & INCORE_MAPPED) != 0; n++)
			;
		if (n > 0) {
			*a += vm_ptob(i);
			return n;
		}
	}
	return 0;
}

/*
 * No frame is left, so no table can grow: no page is locked, and the empty frames are freed before
 * the segment is split. No page can be evicted meanwhile (h_lock W).
 */
static bool leave_loaded(struct host *h, uint64_t base, uint64_t len)
{
	linux_range_leave(h->h_mach, as_hat(h->h_as), base, len);
	if (as_advise(h->h_as, base, len, ADV_DONTNEED) != VM_OK ||
	    as_unmap(h->h_as, base, len) != VM_OK)
		return false;
	linux_range_unregister(h->h_mach, as_hat(h->h_as), base, len, false);
	host_nofork_to_kernel(h, base, base + len);
	return true;
}

bool host_leave_some(struct host *h)
{
	struct piece p;
	uint64_t n, left = 0;

	for (uint64_t a = 0;
	     h->h_managed && left < h->h_told.fw_budget && host_next_piece(h, a, ~0ull >> 17, &p);
	     a = p.end) {
		if ((p.prot & RW) != RW || p.readonly || (n = find_loaded(h, &p.base, p.end)) == 0)
			continue;
		p.end = p.base + vm_ptob(n);
		if (leave_loaded(h, p.base, vm_ptob(n)))
			left += n;
	}
	return left > 0;
}

/* Leaves a piece to the kernel as it is. */
long host_leave_piece(struct host *h, struct piece *p)
{
	uint64_t base = p->base, end = p->end;
	bool closed = p->prot == 0;
	long r;

	if (p->closed) {
		host_nofork_to_kernel(h, base, end);
		(void)host_unmark(h, MARK_NORESERVE, base, end);
		return host_unmark(h, MARK_CLOSED, base, end) ? 0 : host_errno(VM_NOMEM);
	}
	/* the kernel has the pages of the piece */
	if (!h->h_managed || ((p->prot & RW) != 0 && (p->prot & RW) != RW)) {
		host_nofork_to_kernel(h, base, end);
		return host_errno(as_unmap(h->h_as, base, end - base));
	}
	if (closed && (r = host_protect_piece(h, p, RW)) != 0)
		return r;
	if ((r = host_errno(host_release_range(h, base, end))) != 0)
		return r;
	return closed ? sys_call3(SYS_mprotect, (long)base, (long)(end - base), PROT_NONE) : 0;
}

/* An invalid range (misaligned, too long) matches no tracked piece, or the kernel refuses it. */
long call_release(struct host *h, uint64_t base, uint64_t len)
{
	struct piece p;
	long r = 0;

	if (((base | len) & VM_PAGEMASK) != 0 || base + len < base)
		return -EINVAL;
	for (uint64_t a = base; r == 0 && host_next_piece(h, a, base + len, &p); a = p.end)
		r = (p.prot & RW) == RW ? host_errno(host_release_range(h, p.base, p.end))
					: host_leave_piece(h, &p);
	return r;
}
