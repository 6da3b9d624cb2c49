/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changes of protection of tracked ranges, piece by piece (mprotect.c has the calls).
 *
 * The protections of the kernel's mapping and of the core's segment:
 *
 *   the program wants   kernel       segment      the mark READONLY
 *   read-write          read-write   read-write   no
 *   write-only          read-write   read-write   no: the processor has nothing less
 *   read-only           read-only    read-write   yes: pages are loaded and evicted; the kernel refuses writes
 *   nothing             none         none         no: no page is at its address
 *   read-only, and was not made so while the process was managed: both read-only, and the kernel
 *                                                 has its pages
 *   anything executable: the range becomes the kernel's
 *
 * Loads of a range and changes of its protection exclude each other, in two steps. The kernel's
 * mprotect is made under the lock of all translations (linux_range_protect), so the protection does
 * not change during a load. The segment is closed before the kernel's mapping and opened after it:
 * a fault in between finds no access allowed (VM_PROT), and its thread is woken and tries again
 * until the kernel's mapping decides. So an address that cannot be read never has a page.
 *
 * Left out: a device write to a page that the program made read-only after registering the page
 * with io_uring; the device may write to a page that was copied out and dropped.
 *
 * Locks: h_lock as reader. h_protlock makes the change of a piece and its mark atomic; no function
 * that releases h_lock is called under h_protlock. Rank: h_lock > h_protlock > h_brklock.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <quire/hat.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"

/* The kernel's own protection of a tracked range. */
static long protect_mapping(struct host *h, const struct piece *p, int prot)
{
	return h->h_managed
	    ? linux_range_protect(h->h_mach, as_hat(h->h_as), p->base, p->end - p->base, prot)
	    : sys_call3(SYS_mprotect, (long)p->base, (long)(p->end - p->base), prot);
}

static int mapping_prot(const struct piece *p)
{
	if (p->readonly)
		return PROT_READ;
	return (int)(((p->prot & PROT_R) != 0 ? PROT_READ : 0u) |
	    ((p->prot & PROT_W) != 0 ? PROT_WRITE : 0u));
}

/* Read-write to read-only. */
static long make_readonly(struct host *h, const struct piece *p)
{
	long r;

	if (!host_mark(h, MARK_READONLY, p->base, p->end))
		return host_errno(VM_NOMEM);
	if ((r = protect_mapping(h, p, PROT_READ)) != 0)
		(void)host_unmark(h, MARK_READONLY, p->base, p->end);
	return r;
}

/* Changes a range from read-only, by the mark, to read-write. */
static long make_writable(struct host *h, const struct piece *p)
{
	long r;

	if (!host_unmark(h, MARK_READONLY, p->base, p->end))
		return host_errno(VM_NOMEM);
	if ((r = protect_mapping(h, p, RW)) != 0)
		(void)host_mark(h, MARK_READONLY, p->base, p->end);
	return r;
}

/* To no access. */
static long close_piece(struct host *h, const struct piece *p)
{
	bool locked = host_marked(h, MARK_LOCKED, p->base, p->end);
	enum vm_err e;
	long r;

	/* locked pages do not move: they are copied out, and no thread may write to them meanwhile */
	if (locked && (r = protect_mapping(h, p, PROT_READ)) != 0)
		return r;
	if ((e = as_setprot(h->h_as, p->base, p->end - p->base, 0)) !=
	    VM_OK) { /* perhaps of a part only */
		(void)as_setprot(h->h_as, p->base, p->end - p->base, p->prot);
		if (locked)
			(void)protect_mapping(h, p, mapping_prot(p));
		return host_errno(e);
	}
	if ((r = protect_mapping(h, p, PROT_NONE)) != 0) {
		(void)as_setprot(h->h_as, p->base, p->end - p->base, p->prot);
		if (locked)
			(void)protect_mapping(h, p, mapping_prot(p));
		return r;
	}
	if ((p->prot & RW) == RW && !h->h_managed)
		host_uncharge(h, (p->end - p->base) >> VM_PAGESHIFT);
	(void)host_unmark(h, MARK_READONLY, p->base, p->end);
	return 0;
}

/*
 * Changes a range to prot from no access, or from a read-only range of the kernel. In a managed
 * process the memory becomes the core's; in a native process the caller charges pages that become
 * read-write.
 */
static long open_piece(struct host *h, const struct piece *p, int prot)
{
	bool readonly = h->h_managed && (prot & RW) != RW;
	uint64_t len = p->end - p->base;
	enum vm_err e;
	long r;

	if (readonly && !host_mark(h, MARK_READONLY, p->base, p->end))
		return host_errno(VM_NOMEM);
	if ((r = protect_mapping(h, p, prot)) == 0 &&
	    (e = as_setprot(h->h_as, p->base, len,
		 h->h_managed ? PROT_R | PROT_W : host_core_prot(prot))) != VM_OK) {
		(void)as_setprot(h->h_as, p->base, len, p->prot); /* perhaps of a part only */
		(void)protect_mapping(h, p, mapping_prot(p));
		r = host_errno(e);
	}
	if (r != 0 && readonly)
		(void)host_unmark(h, MARK_READONLY, p->base, p->end);
	if (r != 0 || !h->h_managed)
		return r;
	/* pages that were touched before this process was managed are present already */
	mach_mutex_enter(&h->h_brklock);
	e = host_adopt_range(h, p->base, p->end);
	mach_mutex_exit(&h->h_brklock);
	return host_errno(e);
}

/*
 * Changes the protection of one piece; prot is not executable. h_protlock held. *grown: pages to
 * charge.
 */
static long change_piece(struct host *h, const struct piece *p, int prot, uint64_t *grown)
{
	bool was = (p->prot & RW) == RW, will = (prot & RW) == RW;
	enum vm_err e;

	HOST_ASSERT(mach_mutex_held(&h->h_protlock));
	if (prot == PROT_NONE)
		return p->prot == 0 ? 0 : close_piece(h, p);
	if (p->closed && (e = host_track_closed(h, p->base, p->end)) != VM_OK)
		return host_errno(e);
	if (was && will)
		return p->readonly ? make_writable(h, p) : 0;
	if (was)
		return p->readonly ? 0 : make_readonly(h, p);
	if (will && !h->h_managed)
		*grown = (p->end - p->base) >> VM_PAGESHIFT;
	return mapping_prot(p) == prot ? 0 : open_piece(h, p, prot);
}

long host_protect_piece(struct host *h, struct piece *p, int prot)
{
	uint64_t end = p->end, grown = 0;
	long r;

	if ((prot & PROT_WRITE) != 0)
		prot |= PROT_READ;
	mach_mutex_enter(&h->h_protlock);
	/*
	 * The piece is looked up again under the lock; if it no longer exists, there is nothing to
	 * change.
	 */
	r = host_next_piece(h, p->base, end, p) ? change_piece(h, p, prot, &grown) : 0;
	mach_mutex_exit(&h->h_protlock);
	/* the part before the failure is changed, as natively */
	if (r == 0 && h->h_managed && prot != PROT_NONE)
		(void)host_lock_marked(h, p->base, p->end);
	return r != 0 || grown == 0 ? r : host_errno(host_charge(h, grown));
}
