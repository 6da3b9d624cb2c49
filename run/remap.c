/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mremap of tracked ranges. A process that is not managed lets the kernel move the pages; a managed
 * process moves the segment (as_move) to a new mapping.
 *
 * Locks: h_lock as reader.
 */
#include "run/engine.h"

#include <errno.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <quire/hat.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"

/* Makes a new tracked mapping of len bytes at want, where no mapping is. */
static long map_fresh(struct host *h, long want, uint64_t len)
{
	long p = sys_call6(SYS_mmap, want, (long)len, RW,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (sys_failed(p))
		return p;
	if (p != want) {
		(void)sys_call2(SYS_munmap, p, (long)len);
		return -ENOMEM;
	}
	if (host_track(h, (uint64_t)p, len, RW, 0) != VM_OK) {
		(void)host_forget(h, (uint64_t)p, len);
		(void)sys_call2(SYS_munmap, p, (long)len);
		return -ENOMEM;
	}
	return p;
}

/* The checks by which the kernel refuses a call before it changes anything. */
static bool remap_invalid(
    uint64_t old, uint64_t oldlen, uint64_t newlen, int flags, uint64_t newaddr)
{
	if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0 ||
	    (old & VM_PAGEMASK) != 0 || newlen == 0)
		return true;
	if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) == 0)
		return false;
	if ((flags & MREMAP_MAYMOVE) == 0 || (newaddr & VM_PAGEMASK) != 0 ||
	    ((flags & MREMAP_DONTUNMAP) != 0 && oldlen != newlen))
		return true;
	if ((flags & MREMAP_FIXED) == 0)
		return false;
	return newlen > 1ull << 47 || newaddr > (1ull << 47) - newlen ||
	    (newaddr < old + oldlen && old < newaddr + newlen);
}

/* Is the range tracked with this protection, without a gap, in any number of segments? */
static bool all_like(struct host *h, uint64_t a, uint64_t end, unsigned prot, bool readonly)
{
	struct piece p;

	for (; a < end; a = p.end)
		if (!host_next_piece(h, a, end, &p) || p.base > a || (p.prot & RW) != prot ||
		    p.readonly != readonly)
			return false;
	return true;
}

/*
 * Grows in place. While the pages are the kernel's, the range stays one VMA: mremap cannot move a range that
 * spans two.
 */
static long grow_in_place(struct host *h, long old, long oldlen, long newlen)
{
	uint64_t end = (uint64_t)old + vm_page_round((uint64_t)oldlen),
		 more = (uint64_t)old + vm_page_round((uint64_t)newlen) - end;

	if (h->h_managed)
		return map_fresh(h, (long)end, more) == (long)end ? old : -ENOMEM;
	if (sys_call5(SYS_mremap, old, oldlen, newlen, 0, 0) != old)
		return -ENOMEM;
	if (host_track(h, end, more, RW, 0) != VM_OK) {
		(void)host_forget(h, end, more);
		(void)sys_call2(SYS_munmap, (long)end, (long)more);
		return -ENOMEM;
	}
	return old;
}

static long remap_range(
    struct host *h, long old, long oldlen, long newlen, int flags, long newaddr);

/*
 * Moves memory of the kernel. Ranges tracked at the destination given by MREMAP_FIXED are forgotten
 * only after the kernel has moved the memory: the memory first moves to an intermediate place, by
 * the same call.
 */
static long move_kernels(
    struct host *h, long old, long oldlen, long newlen, int flags, long newaddr)
{
	uint64_t n = vm_page_round((uint64_t)newlen);
	struct piece p;
	enum vm_err e;
	long r, between;

	if ((flags & MREMAP_FIXED) == 0 ||
	    !host_next_piece(h, (uint64_t)newaddr, (uint64_t)newaddr + n, &p))
		return sys_call5(SYS_mremap, old, oldlen, newlen, flags, newaddr);
	between = sys_call6(
	    SYS_mmap, 0, (long)n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (sys_failed(between))
		return between;
	r = sys_call5(SYS_mremap, old, oldlen, newlen, flags, between);
	if (sys_failed(r)) {
		(void)sys_call2(SYS_munmap, between, (long)n);
		return r;
	}
	if ((e = host_forget(h, (uint64_t)newaddr, n)) != VM_OK)
		return host_errno(e);
	return sys_call5(SYS_mremap, r, newlen, newlen, MREMAP_MAYMOVE | MREMAP_FIXED, newaddr);
}

/* Memory that is not read-write is made read-write, moved, and then gets its protection again. */
static long move_closed(
    struct host *h, long old, long oldlen, long newlen, int flags, long newaddr, int prot)
{
	long r = call_mprotect(h, old, oldlen, RW), p;

	if (r != 0)
		return r;
	p = remap_range(h, old, oldlen, newlen, flags, newaddr);
	r = sys_failed(p) ? call_mprotect(h, old, oldlen, prot) : call_mprotect(h, p, newlen, prot);
	return r != 0 ? r : p;
}

/* In a native process the kernel has the pages and moves them. */
static long move_unmanaged(
    struct host *h, long old, long oldlen, long newlen, int flags, long newaddr)
{
	uint64_t o = vm_page_round((uint64_t)oldlen), n = vm_page_round((uint64_t)newlen);
	enum vm_err e;
	long r;

	if ((flags & MREMAP_FIXED) != 0 && (e = host_forget(h, (uint64_t)newaddr, n)) != VM_OK)
		return host_errno(e);
	r = sys_call5(SYS_mremap, old, oldlen, newlen, flags, newaddr);
	if (sys_failed(r))
		return r;
	(void)host_forget(h, (uint64_t)old, o);
	/*
	 * The new range has pages already: if the charge is refused, they are adopted with all
	 * other pages.
	 */
	return host_track(h, (uint64_t)r, n, RW, 0) == VM_OK ? r : -ENOMEM;
}

/*
 * Maps new memory at [at, at + n) and moves the first keep bytes of old there; the other bytes are
 * zero.
 */
static long move_managed(
    struct host *h, long old, uint64_t keep, uint64_t n, int flags, long newaddr)
{
	struct segvn_args sa = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_flags = 0
	};
	bool fixed = (flags & MREMAP_FIXED) != 0;
	enum vm_err e = VM_NOMEM;
	long at = sys_call6(SYS_mmap, fixed ? newaddr : 0, (long)n, RW,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (fixed ? MAP_FIXED_NOREPLACE : 0), -1, 0);

	if (sys_failed(at))
		return at;
	if (linux_range_register(h->h_mach, as_hat(h->h_as), (uint64_t)at, n) != 0 ||
	    (e = as_move(h->h_as, (uint64_t)old, keep, h->h_as, (uint64_t)at)) != VM_OK)
		goto undo;
	if (n > keep &&
	    (e = as_map(h->h_as, (uint64_t)at + keep, n - keep, segvn_create, &sa)) != VM_OK) {
		/* the mapping goes back to its old address */
		(void)as_move(h->h_as, (uint64_t)at, keep, h->h_as, (uint64_t)old);
		goto undo;
	}
	return at;
undo:
	(void)host_forget(h, (uint64_t)at, n);
	(void)sys_call2(SYS_munmap, at, (long)n);
	return host_errno(e);
}

static long remap_range(struct host *h, long old, long oldlen, long newlen, int flags, long newaddr)
{
	uint64_t o = vm_page_round((uint64_t)oldlen), n = vm_page_round((uint64_t)newlen);
	struct piece p;
	long at;

	if (n > HOST_LAST) /* no address space has so many bytes: the kernel decides the error */
		return sys_call5(SYS_mremap, old, oldlen, newlen, flags, newaddr);
	if (remap_invalid((uint64_t)old, o, n, flags, (uint64_t)newaddr))
		return -EINVAL;
	if ((flags & MREMAP_FIXED) != 0 &&
	    host_marked(h, MARK_SEALED, (uint64_t)newaddr, (uint64_t)newaddr + n))
		return -EPERM;
	if (!host_next_piece(h, (uint64_t)old, (uint64_t)old + o, &p))
		return move_kernels(h, old, oldlen, newlen, flags, newaddr);
	if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) == 0 &&
	    host_track_closed(h, (uint64_t)old, (uint64_t)old + o) == VM_OK &&
	    all_like(h, (uint64_t)old, (uint64_t)old + o, PROT_NONE, false))
		return move_closed(h, old, oldlen, newlen, flags, newaddr, PROT_NONE);
	if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) == 0 &&
	    all_like(h, (uint64_t)old, (uint64_t)old + o, RW, true))
		return move_closed(h, old, oldlen, newlen, flags, newaddr, PROT_READ);
	if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0 ||
	    !all_like(h, (uint64_t)old, (uint64_t)old + o, RW, false)) {
		long r = call_release(h, (uint64_t)old, o);

		return r != 0 ? r : move_kernels(h, old, oldlen, newlen, flags, newaddr);
	}
	if ((flags & MREMAP_FIXED) == 0) {
		if (n <= o) {
			long r = n < o ? call_munmap(h, old + (long)n, (long)(o - n)) : 0;

			return r != 0 ? r : old;
		}
		if (grow_in_place(h, old, oldlen, newlen) == old)
			return old;
		if ((flags & MREMAP_MAYMOVE) == 0)
			return -ENOMEM;
	}
	if (!h->h_managed)
		return move_unmanaged(h, old, oldlen, newlen, flags, newaddr);
	if ((flags & MREMAP_FIXED) != 0) {
		long r = call_munmap(h, newaddr, (long)n);

		if (r != 0)
			return r;
	}
	at = move_managed(h, old, n < o ? n : o, n, flags, newaddr);
	if (!sys_failed(at))
		(void)call_munmap(h, old, (long)o);
	return at;
}

/* Marks move with their memory. */
long call_mremap(struct host *h, long old, long oldlen, long newlen, int flags, long newaddr)
{
	uint64_t o = vm_page_round((uint64_t)oldlen), n = vm_page_round((uint64_t)newlen);
	bool nofork = o > 0 && host_marked(h, MARK_NOFORK, (uint64_t)old, (uint64_t)old + o);
	bool locked = o > 0 && host_marked(h, MARK_LOCKED, (uint64_t)old, (uint64_t)old + o);
	long r = remap_range(h, old, oldlen, newlen, flags, newaddr);

	if (nofork && !sys_failed(r) && r != 0)
		(void)host_mark(h, MARK_NOFORK, (uint64_t)r, (uint64_t)r + n);
	if (locked && !sys_failed(r) && r != 0) {
		/*
		 * the moved pages are locked already, and locking again would not load them at
		 * their new addresses
		 */
		if (h->h_managed)
			(void)as_unlock(h->h_as, (uint64_t)r, n);
		/* the part before the failure is moved, as natively */
		(void)call_mlock(h, SYS_mlock, r, (long)n, 0);
		(void)host_mark(h, MARK_LOCKED, (uint64_t)r, (uint64_t)r + n);
	}
	return r;
}
