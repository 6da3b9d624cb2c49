/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making and removing mappings: mmap, munmap, brk. trackable() decides which mappings are tracked.
 *
 * Locks: h_lock as reader; brk takes h_brklock for the break.
 */
#include "run/engine.h"

#include <errno.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"

/*
 * Is the memory reserved in full as soon as it is writable (0), or page by page as it is touched
 * (SEGVN_NORESERVE)? See run/promise.h. A MAP_NORESERVE mapping of an allocator is small and soon
 * used, and an allocator can handle a refusal. A mapping of which the program uses little is large.
 */
static unsigned choose_reservation(const struct host *h, uint64_t npages, int prot, int flags)
{
	if ((flags & MAP_STACK) != 0)
		return SEGVN_NORESERVE;
	return (flags & MAP_NORESERVE) != 0 && (prot & PROT_WRITE) != 0 &&
		npages > promise_most(&h->h_fam->fam_promise, host_shelf(h)) / 4
	    ? SEGVN_NORESERVE
	    : 0;
}

static bool is_trackable(int prot, int flags)
{
	return (flags & MAP_TYPE) == MAP_PRIVATE && (flags & MAP_ANONYMOUS) != 0 &&
	    (prot & PROT_EXEC) == 0 && (flags & (MAP_GROWSDOWN | MAP_HUGETLB | MAP_LOCKED)) == 0;
}

/*
 * Would the kernel map this? It checks before it unmaps what is there; after host_forget() it is
 * too late to ask. Asked not to replace, it says whether the place is right before it says that
 * something is there; asked for any place, it says the rest.
 */
static long probe_mmap(long addr, long len, int prot, int flags, int fd, long off)
{
	long p = sys_call6(SYS_mmap, addr, len, prot,
	    (flags & ~(MAP_POPULATE | MAP_LOCKED)) | MAP_FIXED_NOREPLACE, fd, off);

	if (sys_failed(p) && p != -EEXIST)
		return p;
	if (sys_failed(p))
		p = sys_call6(SYS_mmap, 0, len, prot,
		    flags & ~(MAP_FIXED | MAP_POPULATE | MAP_LOCKED), fd, off);
	if (sys_failed(p))
		return p;
	(void)sys_call2(SYS_munmap, p, len);
	return 0;
}

/*
 * Does the core's space include the range? Mappings at the very bottom or beyond 47 bits are the
 * kernel's.
 */
static bool in_space(long addr, uint64_t size)
{
	return (uint64_t)addr >= HOST_MIN && (uint64_t)addr + size <= HOST_MAX;
}

/*
 * Serves MAP_POPULATE after the memory is charged for: with the flag, the kernel would allocate
 * pages before they are counted. Pages that cannot be populated are left out.
 */
static void populate_range(struct host *h, long addr, uint64_t size, int prot)
{
	bool writable = (prot & PROT_WRITE) != 0;

	if (prot == PROT_NONE)
		return;
	if (h->h_managed && writable)
		(void)host_page_in_steps(h, (uint64_t)addr, size, ADV_POPULATE_WRITE);
	else
		(void)sys_call3(SYS_madvise, addr, (long)size,
		    writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

long call_mmap(struct host *h, long addr, long len, int prot, int flags, int fd, long off)
{
	bool fixed =
	    (flags & MAP_FIXED) != 0 && (flags & MAP_FIXED_NOREPLACE) != MAP_FIXED_NOREPLACE;
	bool ours = is_trackable(prot, flags), replaces = false;
	int flags_real = flags;
	uint64_t size = vm_page_round((uint64_t)len);
	struct piece old;
	enum vm_err e;
	long p;

	if (fixed && len > 0 && host_marked(h, MARK_SEALED, (uint64_t)addr, (uint64_t)addr + size))
		return -EPERM;
	if (fixed && len > 0 && ((uint64_t)addr & VM_PAGEMASK) == 0 &&
	    host_next_piece(h, (uint64_t)addr, (uint64_t)addr + size, &old)) {
		if ((p = probe_mmap(addr, len, prot, flags, fd, off)) != 0)
			return p;
		if ((e = host_forget(h, (uint64_t)addr, size)) != VM_OK)
			return host_errno(e);
		replaces = true;
	}
	if (ours) {
		prot &= RW; /* other bits have no meaning on this processor */
		flags_real = (flags & ~MAP_POPULATE) | MAP_NORESERVE;
		if ((prot & PROT_WRITE) != 0) /* see protect.c */
			prot |= PROT_READ;
	} else if (h->h_lockfuture)
		flags_real |= MAP_LOCKED;
	p = sys_call6(SYS_mmap, addr, len, prot, flags_real, fd, off);
	if (sys_failed(p)) {
		/* the old mapping is no longer served: an access is to fail rather than wait */
		if (replaces)
			(void)sys_call2(SYS_munmap, addr, len);
		return p;
	}
	if (!ours)
		return p;
	if (!in_space(p, size))
		return p;
	e = host_track(
	    h, (uint64_t)p, size, prot, choose_reservation(h, size >> VM_PAGESHIFT, prot, flags));
	long locked = e == VM_OK ? host_lock_new(h, (uint64_t)p, size) : 0;
	if (e != VM_OK || locked != 0) {
		(void)host_forget(h, (uint64_t)p, size);
		(void)sys_call2(SYS_munmap, p, len);
		return e != VM_OK ? -ENOMEM : locked;
	}
	if ((flags & MAP_POPULATE) != 0)
		populate_range(h, p, size, prot);
	return p;
}

/*
 * No tracked memory lies beyond the core's space. The kernel refuses a range that extends beyond
 * it, unless addresses have 57 bits; so the kernel is asked about that part first, before any range
 * is forgotten.
 */
static long unmap_beyond(long addr, long len)
{
	uint64_t end = (uint64_t)addr + (uint64_t)len;

	if ((uint64_t)addr >= HOST_LAST || end <= HOST_LAST || end < (uint64_t)addr)
		return 0;
	return sys_call2(SYS_munmap, (long)HOST_LAST, (long)(end - HOST_LAST));
}

long call_munmap(struct host *h, long addr, long len)
{
	uint64_t size = vm_page_round((uint64_t)len);
	enum vm_err e;
	long r;

	if (len <= 0 || ((uint64_t)addr & VM_PAGEMASK) != 0 || (uint64_t)addr >= HOST_LAST)
		return sys_call2(SYS_munmap, addr, len);
	if ((r = unmap_beyond(addr, len)) != 0)
		return r;
	if (host_marked(h, MARK_SEALED, (uint64_t)addr, (uint64_t)addr + size))
		return -EPERM;
	uint64_t from = (uint64_t)addr < HOST_MIN ? HOST_MIN : (uint64_t)addr;
	if ((uint64_t)addr + size > from &&
	    (e = host_forget(h, from, (uint64_t)addr + size - from)) != VM_OK)
		return host_errno(e);
	return sys_call2(SYS_munmap, addr, len);
}

long call_brk(struct host *h, long addr)
{
	uint64_t want = (uint64_t)addr, cur, r;

	mach_mutex_enter(&h->h_brklock);
	cur = h->h_brk_cur;
	if (want < h->h_brk_start || want > HOST_MAX || vm_page_round(want) == vm_page_round(cur)) {
		r = (uint64_t)sys_call1(SYS_brk, addr);
		if (r == want)
			h->h_brk_cur = r;
		mach_mutex_exit(&h->h_brklock);
		return (long)r;
	}
	uint64_t oldend = vm_page_round(cur), newend = vm_page_round(want);
	if (newend < oldend) {
		uint64_t lo = newend > h->h_brk_start ? newend : h->h_brk_start;

		mach_mutex_exit(&h->h_brklock);
		if (oldend > lo)
			(void)host_forget(h, lo, oldend - lo);
		mach_mutex_enter(&h->h_brklock);
		r = (uint64_t)sys_call1(SYS_brk, addr);
		h->h_brk_cur = r;
		mach_mutex_exit(&h->h_brklock);
		return (long)r;
	}
	r = (uint64_t)sys_call1(SYS_brk, addr);
	if (r != want) {
		mach_mutex_exit(&h->h_brklock);
		return (long)r;
	}
	h->h_brk_cur = want;
	mach_mutex_exit(&h->h_brklock);
	if (host_track(h, oldend, newend - oldend, RW, 0) != VM_OK ||
	    host_lock_new(h, oldend, newend - oldend) != 0) {
		(void)host_forget(h, oldend, newend - oldend);
		mach_mutex_enter(&h->h_brklock);
		h->h_brk_cur = (uint64_t)sys_call1(SYS_brk, (long)cur);
		mach_mutex_exit(&h->h_brklock);
		return (long)cur;
	}
	return (long)want;
}

/* Called after the program set the break by other means (prctl). */
void call_brk_moved(struct host *h)
{
	mach_mutex_enter(&h->h_brklock);
	h->h_brk_cur = (uint64_t)sys_call1(SYS_brk, 0);
	if (h->h_brk_cur < h->h_brk_start)
		h->h_brk_start = vm_page_round(h->h_brk_cur);
	mach_mutex_exit(&h->h_brklock);
}

/*
 * Attaches with SHM_REMAP over existing mappings; the caller knows that the kernel would attach the
 * segment.
 */
long call_shmat(struct host *h, long id, long addr, long flags, long size)
{
	uint64_t a = (uint64_t)addr, len = vm_page_round((uint64_t)size);
	enum vm_err e;
	struct piece p;
	long r;

	if (host_marked(h, MARK_SEALED, a, a + len))
		return -EPERM;
	bool replaces = host_next_piece(h, a, a + len, &p);
	if (replaces && (e = host_forget(h, a, len)) != VM_OK)
		return host_errno(e);
	r = sys_call3(SYS_shmat, id, addr, flags);
	/* the old mapping is no longer served: an access is to fail rather than wait */
	if (replaces && sys_failed(r))
		(void)sys_call2(SYS_munmap, addr, (long)len);
	return r;
}

/* ---- in a forked child ---- */
/* A child does not inherit memory marked NOFORK, nor any lock on memory. */
void host_born_marks(struct host *h)
{
	HOST_ASSERT(mach_rw_held(&h->h_lock, true));
	h->h_lockfuture = false;
	if (host_has_marks(h, MARK_LOCKED)) {
		(void)as_unlockall(h->h_as);
		(void)host_unmark(h, MARK_LOCKED, 0, HOST_MAX);
	}
	while (host_has_marks(h, MARK_NOFORK)) {
		struct range gone = h->h_mark[MARK_NOFORK].r[0];

		(void)call_munmap(h, (long)gone.base, (long)(gone.end - gone.base));
		(void)host_unmark(h, MARK_NOFORK, gone.base, gone.end);
	}
}
