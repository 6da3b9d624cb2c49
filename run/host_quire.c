/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory engine of the runtime: the program's memory system calls, answered by an address space of the core.
 *
 * Tracked: every anonymous mapping that is not executable, and the heap (brk). Each is a segvn segment of h_as. The
 * kernel has a real mapping of the same range and protection, so /proc, faults outside and protection errors are its own.
 *
 * Shared anonymous memory is shared with the children of a fork only; until there is one, the kernel's mapping is private, as
 * pages that move must be. A fork first puts a shared mapping of the kernel's in its place (share_range), which stays the
 * kernel's, outside the budget.
 *
 * Two phases. Native: nothing is registered, the kernel serves first touches; read-write pages are charged to the family as
 * they are mapped, so what is touched can never exceed the budget. When a charge is refused the process is adopted: all
 * read-write ranges are registered and the pages found there become the core's (host_adopt). From then on it is managed.
 *
 * What the program wants no child to have (MADV_DONTFORK: engines of JavaScript say so of all their memory) is copied to a child
 * all the same, and unmapped there before anything of the program runs.
 *
 * Managed ranges are always read-write. PROT_NONE: the pages are taken out first, then the real protection is set; they come
 * back when the range is read-write again. Any other protection (read-only, executable): the range is made resident and
 * left to the kernel (release_range), no longer tracked.
 *
 * Every call runs on a stack of our own (enter.c), but for the service thread, which has one.
 *
 * Locks: h_lock (outermost) > h_brklock > h_noforklock > the core's. Fork and adoption take h_lock as writer: no fault is being served, no
 * call is under way, so the child inherits no lock held by a thread it does not have.
 *
 * Left out: shared anonymous memory after a fork, MAP_GROWSDOWN, huge pages and mlocked kernel mappings stay the kernel's own.
 */
#include "run/host_quire.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <quire/anon.h>
#include <quire/hat.h>
#include <quire/vnode.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"
#include "run/affinity.h"
#include "run/host.h"
#include "store/pool_vnode.h"

struct host host = { .h_off = true, .h_sock = -1 };

static long to_errno(enum vm_err e)
{
	switch (e) {
	case VM_OK: return 0;
	case VM_PROT:
	case VM_ACCESS: return -EACCES;
	case VM_EXIST: return -EEXIST;
	case VM_INVAL: return -EINVAL;
	case VM_LOCKED: return -EBUSY;
	case VM_IO:
	case VM_EOF: return -EIO;
	default: return -ENOMEM;
	}
}

/* ---- adoption ---- */

/* The tracked piece at or above addr, cut to end. False: none below end. */
bool host_next_piece(struct host *h, uint64_t addr, uint64_t end, struct piece *p)
{
	struct as_info ai;

	if (addr >= end || as_query(h->h_as, addr, &ai) != VM_OK || ai.ai_base >= end)
		return false;
	p->base = ai.ai_base > addr ? ai.ai_base : addr;
	p->end = ai.ai_base + ai.ai_len < end ? ai.ai_base + ai.ai_len : end;
	p->prot = ai.ai_prot;
	p->shared = ai.ai_shared;
	return true;
}

/* Pages from a on, at most n of 64, that hold something (or that hold nothing). */
static uint64_t alike(struct host *h, uint64_t a, uint64_t n, bool *something)
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

#define ADOPT_PAGES 4096u
static uint64_t present_map[ADOPT_PAGES / 64]; /* h_lock W, or h_adoptlock */

/* Registers [base, end) and takes over the pages that are there. h_lock W. */
static enum vm_err adopt_range(struct host *h, uint64_t base, uint64_t end)
{
	int rc = linux_range_register(h->h_mach, as_hat(h->h_as), base, end - base);

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

enum vm_err host_adopt(struct host *h)
{
	struct piece p;
	uint64_t a = 0;
	enum vm_err e;

	if (service_need(h) != 0)
		return VM_NOMEM;
	family_watch(h);
	host_thread_apart();
	atomic_store(&h->h_credit, atomic_load(&h->h_committed));
	h->h_managed = true;
	while (host_next_piece(h, a, ~0ull >> 17, &p)) {
		if ((p.prot & RW) == RW && (e = adopt_range(h, p.base, p.end)) != VM_OK)
			return e;
		a = p.end;
	}
	uint64_t left = atomic_exchange(&h->h_credit, 0);
	if (left > 0)
		host_ungrant(h, (pfn_t)left);
	host_balance(h, UINT64_MAX);
	host_publish(h);
	return VM_OK;
}

/* While native: charge n pages that became read-write; on refusal become managed. Lock: R held, comes back held. */
static enum vm_err charge(struct host *h, uint64_t n)
{
	enum vm_err e = VM_OK;

	uint64_t got = family_charge(h->h_fam, n);
	atomic_fetch_add(&h->h_me->fp_granted, got);
	atomic_fetch_add(&h->h_committed, got);
	if (got == n) {
		if (atomic_load(&h->h_me->fp_granted) > HOST_ASKED)
			(void)service_need(h); /* without it nobody asks */
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

static void uncharge(struct host *h, uint64_t n)
{
	if (h->h_managed)
		return;
	uint64_t have = atomic_load(&h->h_committed);
	if (n > have)
		n = have;
	atomic_fetch_sub(&h->h_committed, n);
	host_ungrant(h, (pfn_t)n);
}

/* ---- tracked ranges ---- */
static bool trackable(int prot, int flags)
{
	int type = flags & MAP_TYPE;

	return (type == MAP_PRIVATE || type == MAP_SHARED) && (flags & MAP_ANONYMOUS) != 0 && (prot & PROT_EXEC) == 0 &&
	       (flags & (MAP_GROWSDOWN | MAP_HUGETLB | MAP_LOCKED)) == 0;
}

static unsigned core_prot(int prot)
{
	return ((prot & PROT_READ) != 0 ? PROT_R : 0u) | ((prot & PROT_WRITE) != 0 ? PROT_R | PROT_W : 0u);
}

/* The kernel has mapped [base, base+len): make it ours. The caller unmaps on failure. h_lock R. */
static enum vm_err track(struct host *h, uint64_t base, uint64_t len, int prot, unsigned sa_flags)
{
	struct segvn_args sa = { .sa_prot = core_prot(prot), .sa_maxprot = PROT_R | PROT_W,
				 .sa_flags = sa_flags };
	enum vm_err e = as_map(h->h_as, base, len, segvn_create, &sa);

	if (e != VM_OK) {
		atomic_fetch_add(&h->h_fam->fam_refused, 1);
		return e;
	}
	if ((prot & RW) != RW)
		return VM_OK;
	if (h->h_managed)
		return linux_range_register(h->h_mach, as_hat(h->h_as), base, len) == 0 ? VM_OK : VM_NOMEM;
	return charge(h, len >> VM_PAGESHIFT);
}

/* ---- what a child shall not have ---- */
#define NOFORK_ROOM 16384u

static bool nofork_add(struct host *h, uint64_t base, uint64_t end)
{
	bool ok;

	mach_mutex_enter(&h->h_noforklock);
	if (h->h_nofork.r == NULL) {
		long p = sys_call6(
		    SYS_mmap, 0, (long)(NOFORK_ROOM * sizeof(struct range)), RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p > 0 || p < -4096)
			h->h_nofork = (struct ranges){ (struct range *)p, 0, NOFORK_ROOM };
	}
	ok = ranges_add(&h->h_nofork, base, end);
	mach_mutex_exit(&h->h_noforklock);
	return ok;
}

static void nofork_remove(struct host *h, uint64_t base, uint64_t end)
{
	if (__atomic_load_n(&h->h_nofork.n, __ATOMIC_RELAXED) == 0)
		return;
	mach_mutex_enter(&h->h_noforklock);
	if (!ranges_remove(&h->h_nofork, base, end))
		h->h_nofork.n =
		    0; /* so many that they are not to be counted: a child has more than it should rather than less */
	mach_mutex_exit(&h->h_noforklock);
}

static bool nofork_overlaps(struct host *h, uint64_t base, uint64_t end)
{
	mach_mutex_enter(&h->h_noforklock);
	bool yes = ranges_overlap(&h->h_nofork, base, end);
	mach_mutex_exit(&h->h_noforklock);
	return yes;
}

/* The range is the kernel's from now on, and so is this. */
static void nofork_to_kernel(struct host *h, uint64_t base, uint64_t end)
{
	const struct ranges *s = &h->h_nofork;

	if (__atomic_load_n(&s->n, __ATOMIC_RELAXED) == 0)
		return;
	mach_mutex_enter(&h->h_noforklock);
	for (size_t i = ranges_find(s, base); i < s->n && s->r[i].base < end; i++) {
		uint64_t a = s->r[i].base > base ? s->r[i].base : base, e = s->r[i].end < end ? s->r[i].end : end;

		(void)sys_call3(SYS_madvise, (long)a, (long)(e - a), MADV_DONTFORK);
	}
	mach_mutex_exit(&h->h_noforklock);
	nofork_remove(h, base, end);
}

/* Forget what is tracked in the range: contents are dropped, the kernel's mapping stays until the caller changes it. */
static enum vm_err forget(struct host *h, uint64_t base, uint64_t len)
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
		uncharge(h, native);
		nofork_remove(h, base, base + len);
	}
	return e;
}

/* ---- shared memory ---- */
#define SHARE_PAGES 512u

/* The contents of [base, base+len) to its like at `to`. Afterwards nobody writes to them: who tries waits for h_lock. */
static enum vm_err copy_shared(struct host *h, uint64_t base, uint64_t len, uint64_t to)
{
	static uint8_t vec[SHARE_PAGES]; /* h_lock W */
	enum vm_err e = VM_OK;

	if (h->h_managed) {
		if ((e = as_incore(h->h_as, base, len, vec)) != VM_OK)
			return e;
		for (uint64_t i = 0; i < len >> VM_PAGESHIFT && e == VM_OK; i++)
			if ((vec[i] & (INCORE_PRESENT | INCORE_ANON | INCORE_SWAPPED)) != 0)
				e = as_copyin(h->h_as, base + vm_ptob(i), (void *)(to + vm_ptob(i)), VM_PAGESIZE);
		return e;
	}
	if (linux_range_register(h->h_mach, as_hat(h->h_as), base, len) != 0 ||
	    linux_range_freeze(h->h_mach, base, len) != 0)
		return VM_NOMEM;
	(void)linux_range_present(h->h_mach, base, len >> VM_PAGESHIFT, present_map);
	for (uint64_t i = 0; i < len >> VM_PAGESHIFT; i++)
		if ((present_map[i / 64] >> (i % 64) & 1) != 0)
			__builtin_memcpy((void *)(to + vm_ptob(i)), (void *)(base + vm_ptob(i)), VM_PAGESIZE);
	return VM_OK;
}

/* A tracked piece of shared memory becomes the kernel's, with its contents: from now on a fork shares it. h_lock W. */
static enum vm_err share_piece(struct host *h, const struct piece *p)
{
	uint64_t size = p->end - p->base, step = vm_ptob(SHARE_PAGES);
	bool closed = (p->prot & RW) != RW;
	enum vm_err e = VM_OK;
	long to = sys_call6(SYS_mmap, 0, (long)size, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (to < 0 && to > -4096)
		return VM_NOMEM;
	if (service_need(h) != 0) { /* who writes meanwhile waits for it */
		(void)sys_call2(SYS_munmap, to, (long)size);
		return VM_NOMEM;
	}
	if (closed && (sys_call3(SYS_mprotect, (long)p->base, (long)size, RW) != 0 ||
			  (e = as_setprot(h->h_as, p->base, size, PROT_R | PROT_W)) != VM_OK)) {
		(void)sys_call2(SYS_munmap, to, (long)size);
		return e != VM_OK ? e : VM_NOMEM;
	}
	for (uint64_t at = 0, n; at < size && e == VM_OK; at += n) {
		n = size - at < step ? size - at : step;
		if ((e = copy_shared(h, p->base + at, n, (uint64_t)to + at)) != VM_OK)
			break;
		long r = sys_call5(SYS_mremap, to + (long)at, (long)n, (long)n, MREMAP_MAYMOVE | MREMAP_FIXED,
		    (long)(p->base + at));
		if (r < 0 && r > -4096) {
			e = VM_NOMEM;
			break;
		}
		if (!h->h_managed)
			linux_range_unregister(h->h_mach, as_hat(h->h_as), p->base + at, n, true);
		e = forget(h, p->base + at, n);
	}
	if (e != VM_OK && !h->h_managed)
		linux_range_unregister(h->h_mach, as_hat(h->h_as), p->base, size, false);
	if (e != VM_OK)
		(void)sys_call2(SYS_munmap, to, (long)size); /* what has moved is no longer there */
	else if (closed)
		(void)sys_call3(
		    SYS_mprotect, (long)p->base, (long)size, (p->prot & PROT_R) != 0 ? PROT_READ : PROT_NONE);
	return e;
}

enum vm_err host_share_range(struct host *h, uint64_t base, uint64_t end)
{
	enum vm_err e = VM_OK;
	struct piece p;

	for (uint64_t a = base; e == VM_OK && host_next_piece(h, a, end, &p); a = p.end)
		if (p.shared)
			e = share_piece(h, &p);
	return e;
}

/* Make [base, end) resident and leave it to the kernel for good. */
static enum vm_err release_private(struct host *h, uint64_t base, uint64_t end)
{
	if (!h->h_managed) {
		uint64_t n = (end - base) >> VM_PAGESHIFT;
		enum vm_err e = as_unmap(h->h_as, base, end - base);

		if (e == VM_OK) {
			uncharge(h, n);
			nofork_to_kernel(h, base, end);
		}
		return e;
	}
	for (uint64_t a = base; a < end;) {
		bool something;
		uint64_t n = alike(h, a, (end - a) >> VM_PAGESHIFT, &something) << VM_PAGESHIFT;
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
	nofork_to_kernel(h, base, end);
	return VM_OK;
}

/* The same of any piece. Lock: R held, comes back held, but not all the time: the piece may be another one afterwards. */
static enum vm_err release_range(struct host *h, const struct piece *p)
{
	enum vm_err e;

	if (!p->shared)
		return release_private(h, p->base, p->end);
	mach_rw_exit(&h->h_lock);
	mach_rw_enter(&h->h_lock, true);
	e = host_share_range(h, p->base, p->end);
	mach_rw_exit(&h->h_lock);
	mach_rw_enter(&h->h_lock, false);
	return e;
}

/* ---- the calls, on our stack, h_lock R ---- */
/* Would the kernel map this? It checks before it unmaps what is there; after forget() it is too late to ask. */
static long probe(long len, int prot, int flags, int fd, long off)
{
	long p = sys_call6(SYS_mmap, 0, len, prot, flags & ~(MAP_FIXED | MAP_POPULATE | MAP_LOCKED), fd, off);

	if (p < 0 && p > -4096)
		return p;
	(void)sys_call2(SYS_munmap, p, len);
	return 0;
}

static long do_mmap(struct host *h, long addr, long len, int prot, int flags, int fd, long off)
{
	bool fixed = (flags & MAP_FIXED) != 0 && (flags & MAP_FIXED_NOREPLACE) != MAP_FIXED_NOREPLACE;
	bool ours = trackable(prot, flags), replaces = false;
	int flags_real = flags;
	uint64_t size = vm_page_round((uint64_t)len);
	struct piece old;
	enum vm_err e;
	long p;

	if (fixed && len > 0 && ((uint64_t)addr & VM_PAGEMASK) == 0 &&
	    host_next_piece(h, (uint64_t)addr, (uint64_t)addr + size, &old)) {
		if ((p = probe(len, prot, flags, fd, off)) != 0)
			return p;
		if ((e = forget(h, (uint64_t)addr, size)) != VM_OK)
			return to_errno(e);
		replaces = true;
	}
	if (ours)
		flags_real = (flags & ~MAP_TYPE) | MAP_PRIVATE | MAP_NORESERVE;
	p = sys_call6(SYS_mmap, addr, len, prot, flags_real, fd, off);
	if (p < 0 && p > -4096) {
		if (replaces) /* nobody serves the old mapping any more: let an access fail rather than wait */
			(void)sys_call2(SYS_munmap, addr, len);
		return p;
	}
	if (!ours)
		return p;
	e = track(h, (uint64_t)p, size, prot,
	    ((flags & MAP_NORESERVE) != 0 ? SEGVN_NORESERVE : 0) |
		((flags & MAP_TYPE) == MAP_SHARED ? SEGVN_SHARED : 0));
	if (e != VM_OK) {
		(void)forget(h, (uint64_t)p, size);
		(void)sys_call2(SYS_munmap, p, len);
		return -ENOMEM;
	}
	return p;
}

static long do_munmap(struct host *h, long addr, long len)
{
	enum vm_err e;

	if (len > 0 && ((uint64_t)addr & VM_PAGEMASK) == 0 && (uint64_t)addr + (uint64_t)len > (uint64_t)addr &&
	    (e = forget(h, (uint64_t)addr, vm_page_round((uint64_t)len))) != VM_OK)
		return to_errno(e);
	return sys_call2(SYS_munmap, addr, len);
}

/* One tracked piece gets a new protection. */
static long protect_piece(struct host *h, const struct piece *p, int prot)
{
	uint64_t len = p->end - p->base, n = len >> VM_PAGESHIFT;
	bool was = (p->prot & RW) == RW, will = (prot & RW) == RW && (prot & PROT_EXEC) == 0;
	enum vm_err e;
	long r;

	if (was && will)
		return 0;
	if ((prot & PROT_EXEC) != 0 || (was && prot != PROT_NONE)) {
		if ((e = release_range(h, p)) != VM_OK)
			return to_errno(e);
		return sys_call3(SYS_mprotect, (long)p->base, (long)len, prot);
	}
	if (was) { /* to PROT_NONE: no page may be at its address, then the range keeps its registration */
		if (h->h_managed)
			hat_unload(as_hat(h->h_as), p->base, len, HAT_UNLOAD);
		else
			uncharge(h, n);
		r = sys_call3(SYS_mprotect, (long)p->base, (long)len, prot);
		return r != 0 ? r : to_errno(as_setprot(h->h_as, p->base, len, core_prot(prot)));
	}
	if ((e = as_setprot(h->h_as, p->base, len, core_prot(prot))) != VM_OK)
		return -ENOMEM;
	r = sys_call3(SYS_mprotect, (long)p->base, (long)len, prot);
	if (r != 0 || !will)
		return r;
	if (!h->h_managed)
		return to_errno(charge(h, n));
	/* pages that were read or written before this process was managed are there already */
	mach_mutex_enter(&h->h_brklock);
	e = adopt_range(h, p->base, p->end);
	mach_mutex_exit(&h->h_brklock);
	return to_errno(e);
}

/* Leaves a piece to the kernel as it is. */
static long leave_piece(struct host *h, const struct piece *p)
{
	long r;

	nofork_to_kernel(h, p->base, p->end);
	if (!h->h_managed || ((p->prot & RW) != 0 && (p->prot & RW) != RW)) /* the kernel has its pages */
		return to_errno(as_unmap(h->h_as, p->base, p->end - p->base));
	if (p->prot == 0 && (r = protect_piece(h, p, RW)) != 0)
		return r;
	if ((r = to_errno(release_private(h, p->base, p->end))) != 0)
		return r;
	return p->prot == 0 ? sys_call3(SYS_mprotect, (long)p->base, (long)(p->end - p->base), PROT_NONE) : 0;
}

/*
 * The program is about to let the kernel filter its system calls (seccomp). Ours, and those of the service thread, would be
 * filtered, too, and are in nobody's list. So the process gets all its memory now and is on its own from here on, as are its
 * children until they execute another program; what it was granted stays charged.
 */
static long do_leave(struct host *h)
{
	struct vm_usage u;
	struct piece p;
	long r = 0;

	mach_rw_enter(&h->h_lock, true);
	vm_usage(h->h_vm, &u);
	if (!h->h_off)
		r = to_errno(host_share_range(h, 0, ~0ull >> 17));
	for (uint64_t a = 0; r == 0 && !h->h_off && host_next_piece(h, a, ~0ull >> 17, &p); a = p.end)
		r = leave_piece(h, &p);
	if (r == 0 && !h->h_off) {
		uint64_t have = atomic_load(&h->h_me->fp_granted),
			 more = u.vu_anon_slots > have ? u.vu_anon_slots - have : 0;

		atomic_fetch_add(&h->h_me->fp_granted, more);
		atomic_fetch_add(&h->h_fam->fam_charged, more);
		atomic_fetch_add(&h->h_fam->fam_forced, more);
		affinity_leave();
		if (!atomic_load(&h->h_served))
			family_mortal(h, false);
		h->h_off = true;
		(void)sys_call2(SYS_shutdown, h->h_sock, 0 /* SHUT_RD */); /* the service thread wakes, and ends */
	}
	mach_rw_exit(&h->h_lock);
	if (r == 0)
		service_end();
	return r;
}

/* What the kernel will refuse (misaligned, too long) has no piece, or is found out by it. */
static long do_release(struct host *h, uint64_t base, uint64_t len)
{
	struct piece p;
	long r = 0;

	if (((base | len) & VM_PAGEMASK) != 0 || base + len < base)
		return -EINVAL;
	for (uint64_t a = base; r == 0 && host_next_piece(h, a, base + len, &p); a = p.end)
		r = p.shared || (p.prot & RW) == RW ? to_errno(release_range(h, &p)) : leave_piece(h, &p);
	return r;
}

static long do_mprotect(struct host *h, long addr, long len, int prot)
{
	uint64_t a = (uint64_t)addr, end = a + vm_page_round((uint64_t)len);
	struct piece p;
	long r = 0;

	if ((a & VM_PAGEMASK) != 0 || end <= a || (prot & ~(RW | PROT_EXEC)) != 0)
		return sys_call3(SYS_mprotect, addr, len, prot);
	while (r == 0 && a < end) {
		if (!host_next_piece(h, a, end, &p))
			return sys_call3(SYS_mprotect, (long)a, (long)(end - a), prot);
		if (p.base > a && (r = sys_call3(SYS_mprotect, (long)a, (long)(p.base - a), prot)) != 0)
			return r;
		r = protect_piece(h, &p, prot);
		a = p.end;
	}
	return r;
}

/* Advice that changes nothing of what a page is, or not for longer than the page is there. */
static bool is_passing(int advice)
{
	switch (advice) {
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
	case MADV_WILLNEED:
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_COLLAPSE:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_DODUMP:
	case MADV_DONTDUMP: return true;
	default: return false;
	}
}

/* One tracked piece gets advice. */
static long advise_piece(struct host *h, const struct piece *p, int advice)
{
	uint64_t n = p->end - p->base;
	long r = 0;

	if (advice == MADV_DOFORK)
		nofork_remove(h, p->base, p->end);
	if (advice == MADV_DOFORK || (advice == MADV_DONTFORK && !p->shared && nofork_add(h, p->base, p->end)))
		return 0;
	if (!h->h_managed && !p->shared && is_passing(advice))
		return sys_call3(SYS_madvise, (long)p->base, (long)n, advice);
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
		if (p->shared) /* what is shared is only forgotten here */
			return advice == MADV_FREE ? -EINVAL : 0;
		r = to_errno(as_advise(h->h_as, p->base, n, ADV_DONTNEED));
		break;
	case MADV_WILLNEED: (void)as_advise(h->h_as, p->base, n, ADV_WILLNEED); break;
	case MADV_SEQUENTIAL: (void)as_advise(h->h_as, p->base, n, ADV_SEQUENTIAL); break;
	case MADV_RANDOM: (void)as_advise(h->h_as, p->base, n, ADV_RANDOM); break;
	case MADV_NORMAL: (void)as_advise(h->h_as, p->base, n, ADV_NORMAL); break;
	case MADV_COLD:
	case MADV_PAGEOUT: (void)as_advise(h->h_as, p->base, n, ADV_PAGEOUT); break;
	case MADV_POPULATE_READ: r = to_errno(as_advise(h->h_as, p->base, n, ADV_POPULATE_READ)); break;
	case MADV_POPULATE_WRITE: r = to_errno(as_advise(h->h_as, p->base, n, ADV_POPULATE_WRITE)); break;
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_COLLAPSE:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_DODUMP:
	case MADV_DONTDUMP: break;
	default: /* WIPEONFORK and the like are about what the kernel does: let it have the range */
		if ((r = to_errno(release_range(h, p))) == 0)
			r = sys_call3(SYS_madvise, (long)p->base, (long)n, advice);
		break;
	}
	return r;
}

/* A hole is an error, but only after the rest was done. */
static long do_madvise(struct host *h, long addr, long len, int advice)
{
	uint64_t a = (uint64_t)addr, end = a + vm_page_round((uint64_t)len);
	long r = 0, hole = 0;
	struct piece p;

	if ((a & VM_PAGEMASK) != 0 || end <= a || !host_next_piece(h, a, end, &p))
		return sys_call3(SYS_madvise, addr, len, advice);
	for (; a < end && r == 0; a = p.end) {
		if (!host_next_piece(h, a, end, &p))
			p.base = p.end = end;
		if (p.base > a && (r = sys_call3(SYS_madvise, (long)a, (long)(p.base - a), advice)) == -ENOMEM) {
			hole = r;
			r = 0;
		}
		if (r == 0 && p.end > p.base)
			r = advise_piece(h, &p, advice);
	}
	return r != 0 ? r : hole;
}

/* A fresh tracked mapping of len bytes at want, where nothing is. */
static long map_new(struct host *h, long want, uint64_t len, bool shared)
{
	long p = sys_call6(SYS_mmap, want, (long)len, RW,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (p < 0 && p > -4096)
		return p;
	if (p != want) {
		(void)sys_call2(SYS_munmap, p, (long)len);
		return -ENOMEM;
	}
	if (track(h, (uint64_t)p, len, RW, shared ? SEGVN_SHARED : 0) != VM_OK) {
		(void)forget(h, (uint64_t)p, len);
		(void)sys_call2(SYS_munmap, p, (long)len);
		return -ENOMEM;
	}
	return p;
}

/* What the kernel refuses before it changes anything. */
static bool remap_invalid(uint64_t old, uint64_t oldlen, uint64_t newlen, int flags, uint64_t newaddr)
{
	if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0 || (old & VM_PAGEMASK) != 0 ||
	    newlen == 0)
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

/* Tracked and so protected without a gap, in however many segments. */
static bool all_like(struct host *h, uint64_t a, uint64_t end, unsigned prot)
{
	struct piece p;

	for (; a < end; a = p.end)
		if (!host_next_piece(h, a, end, &p) || p.base > a || (p.prot & RW) != prot)
			return false;
	return true;
}

/* In place. As long as the pages are the kernel's, its mapping stays one: of two it would move neither another time. */
static long grow(struct host *h, long old, long oldlen, long newlen, bool shared)
{
	uint64_t end = (uint64_t)old + vm_page_round((uint64_t)oldlen),
		 more = (uint64_t)old + vm_page_round((uint64_t)newlen) - end;

	if (h->h_managed)
		return map_new(h, (long)end, more, shared) == (long)end ? old : -ENOMEM;
	if (sys_call5(SYS_mremap, old, oldlen, newlen, 0, 0) != old)
		return -ENOMEM;
	if (track(h, end, more, RW, shared ? SEGVN_SHARED : 0) != VM_OK) {
		(void)forget(h, end, more);
		(void)sys_call2(SYS_munmap, (long)end, (long)more);
		return -ENOMEM;
	}
	return old;
}

static long do_mremap_range(struct host *h, long old, long oldlen, long newlen, int flags, long newaddr);

/* Memory that the program has closed is opened, moved and closed again. */
static long move_closed(struct host *h, long old, long oldlen, long newlen, int flags, long newaddr)
{
	long r = do_mprotect(h, old, oldlen, RW), p;

	if (r != 0)
		return r;
	p = do_mremap_range(h, old, oldlen, newlen, flags, newaddr);
	r = p < 0 && p > -4096 ? do_mprotect(h, old, oldlen, PROT_NONE) : do_mprotect(h, p, newlen, PROT_NONE);
	return r != 0 ? r : p;
}

static long do_mremap_range(struct host *h, long old, long oldlen, long newlen, int flags, long newaddr)
{
	uint64_t o = vm_page_round((uint64_t)oldlen), n = vm_page_round((uint64_t)newlen);
	struct piece p;
	enum vm_err e;

	if (remap_invalid((uint64_t)old, o, n, flags, (uint64_t)newaddr))
		return -EINVAL;
	if (o == 0 && host_next_piece(h, (uint64_t)old, ~0ull >> 17, &p) && p.base == (uint64_t)old && p.shared &&
	    (e = release_range(h, &p)) != VM_OK) /* a second mapping of the same memory */
		return to_errno(e);
	if (!host_next_piece(h, (uint64_t)old, (uint64_t)old + o, &p))
		return sys_call5(SYS_mremap, old, oldlen, newlen, flags, newaddr);
	if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) == 0 && all_like(h, (uint64_t)old, (uint64_t)old + o, PROT_NONE))
		return move_closed(h, old, oldlen, newlen, flags, newaddr);
	if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0 || !all_like(h, (uint64_t)old, (uint64_t)old + o, RW)) {
		long r = do_release(h, (uint64_t)old, o);

		if (r != 0)
			return r;
		if ((flags & MREMAP_FIXED) != 0 && (e = forget(h, (uint64_t)newaddr, n)) != VM_OK)
			return to_errno(e);
		return sys_call5(SYS_mremap, old, oldlen, newlen, flags, newaddr);
	}
	if ((flags & MREMAP_FIXED) == 0) {
		if (n <= o) {
			long r = n < o ? do_munmap(h, old + (long)n, (long)(o - n)) : 0;

			return r != 0 ? r : old;
		}
		if (grow(h, old, oldlen, newlen, p.shared) == old)
			return old;
		if ((flags & MREMAP_MAYMOVE) == 0)
			return -ENOMEM;
	}
	if (!h->h_managed) { /* the pages are the kernel's: it moves them */
		if ((flags & MREMAP_FIXED) != 0 && (e = forget(h, (uint64_t)newaddr, n)) != VM_OK)
			return to_errno(e);
		long r = sys_call5(SYS_mremap, old, oldlen, newlen, flags, newaddr);
		if (r < 0 && r > -4096)
			return r;
		(void)forget(h, (uint64_t)old, o);
		/* the new range holds pages already: a charge that is refused adopts them with everything else */
		if (track(h, (uint64_t)r, n, RW, p.shared ? SEGVN_SHARED : 0) != VM_OK)
			return -ENOMEM;
		return r;
	}
	if ((flags & MREMAP_FIXED) != 0) {
		long r = do_munmap(h, newaddr, (long)n);

		if (r != 0)
			return r;
	}
	uint64_t keep = n < o ? n : o;
	long at = sys_call6(SYS_mmap, (flags & MREMAP_FIXED) != 0 ? newaddr : 0, (long)n, RW,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | ((flags & MREMAP_FIXED) != 0 ? MAP_FIXED_NOREPLACE : 0), -1,
	    0);
	if (at < 0 && at > -4096)
		return at;
	if (linux_range_register(h->h_mach, as_hat(h->h_as), (uint64_t)at, n) != 0 ||
	    (e = as_move(h->h_as, (uint64_t)old, keep, h->h_as, (uint64_t)at)) != VM_OK) {
		(void)forget(h, (uint64_t)at, n);
		(void)sys_call2(SYS_munmap, at, (long)n);
		return -ENOMEM;
	}
	if (n > keep) {
		struct segvn_args sa = { .sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W,
			.sa_flags = p.shared ? SEGVN_SHARED : 0 };

		if (as_map(h->h_as, (uint64_t)at + keep, n - keep, segvn_create, &sa) != VM_OK) {
			/* back where it was */
			(void)as_move(h->h_as, (uint64_t)at, keep, h->h_as, (uint64_t)old);
			(void)forget(h, (uint64_t)at, n);
			(void)sys_call2(SYS_munmap, at, (long)n);
			return -ENOMEM;
		}
	}
	(void)do_munmap(h, old, (long)o);
	return at;
}

/* What a child shall not have it shall not have elsewhere, either. */
static long do_mremap(struct host *h, long old, long oldlen, long newlen, int flags, long newaddr)
{
	uint64_t o = vm_page_round((uint64_t)oldlen), n = vm_page_round((uint64_t)newlen);
	bool nofork = o > 0 && nofork_overlaps(h, (uint64_t)old, (uint64_t)old + o);
	long r = do_mremap_range(h, old, oldlen, newlen, flags, newaddr);

	if (nofork && (r > 0 || r < -4096))
		(void)nofork_add(h, (uint64_t)r, (uint64_t)r + n);
	return r;
}

void host_drop_nofork(struct host *h)
{
	while (h->h_nofork.n > 0) {
		struct range gone = h->h_nofork.r[0];

		(void)do_munmap(h, (long)gone.base, (long)(gone.end - gone.base));
		nofork_remove(h, gone.base, gone.end);
	}
}

static long do_brk(struct host *h, long addr)
{
	uint64_t want = (uint64_t)addr, cur, r;

	mach_mutex_enter(&h->h_brklock);
	cur = h->h_brk_cur;
	if (want < h->h_brk_start || vm_page_round(want) == vm_page_round(cur)) {
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
			(void)forget(h, lo, oldend - lo);
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
	if (track(h, oldend, newend - oldend, RW, 0) != VM_OK) {
		(void)forget(h, oldend, newend - oldend);
		mach_mutex_enter(&h->h_brklock);
		h->h_brk_cur = (uint64_t)sys_call1(SYS_brk, (long)cur);
		mach_mutex_exit(&h->h_brklock);
		return (long)cur;
	}
	return (long)want;
}

static long do_mlock(struct host *h, long nr, long addr, long len, long flags)
{
	uint64_t a = vm_page_trunc((uint64_t)addr), end = vm_page_round((uint64_t)addr + (uint64_t)len);
	struct piece p;
	long r = 0;

	if (!h->h_managed || end <= a || (nr == SYS_mlock2 && (flags & ~MLOCK_ONFAULT) != 0) ||
	    !host_next_piece(h, a, end, &p))
		return sys_call3(nr, addr, len, flags);
	for (; a < end && r == 0; a = p.end) {
		if (!host_next_piece(h, a, end, &p))
			p.base = p.end = end;
		if (p.base > a &&
		    (r = sys_call3(nr, (long)a, (long)(p.base - a), flags)) != 0) /* the kernel's own, or a hole */
			return r;
		if (p.end > p.base)
			r = to_errno(nr == SYS_munlock ? as_unlock(h->h_as, p.base, p.end - p.base) :
							 as_lock(h->h_as, p.base, p.end - p.base));
	}
	return r;
}

/* Managed pages look absent to the kernel while they are in the arena or the store. */
static long do_mincore(struct host *h, long addr, long len, long vec)
{
	uint64_t a = (uint64_t)addr, end = a + vm_page_round((uint64_t)len);
	struct piece p;
	long r = sys_call3(SYS_mincore, addr, len, vec);

	if (r != 0 || !h->h_managed)
		return r;
	for (; host_next_piece(h, a, end, &p); a = p.end)
		for (uint64_t at = p.base; at < p.end; at += VM_PAGESIZE) {
			uint8_t *out = (uint8_t *)vec + ((at - (uint64_t)addr) >> VM_PAGESHIFT), v;

			if (as_incore(h->h_as, at, VM_PAGESIZE, &v) == VM_OK)
				*out = (v & INCORE_PRESENT) != 0;
		}
	return 0;
}

/* The service thread, which publishes now and then only, does nothing meanwhile. */
static long do_count(struct host *h)
{
	mach_rw_enter(&h->h_lock, true);
	if (!h->h_off)
		host_publish(h);
	mach_rw_exit(&h->h_lock);
	return 0;
}

/* ---- what enter.c calls, on our stack ---- */
/* A call that began while the process was hosted and is here when it is no longer. */
static long pass_on(enum op op, const long *a)
{
	static const short nr[] = { [OP_MMAP] = SYS_mmap, [OP_MUNMAP] = SYS_munmap, [OP_MPROTECT] = SYS_mprotect,
		[OP_MADVISE] = SYS_madvise, [OP_MREMAP] = SYS_mremap, [OP_BRK] = SYS_brk, [OP_MINCORE] = SYS_mincore };

	if (op == OP_RELEASE)
		return 0;
	if (op == OP_MLOCK)
		return sys_call3(a[0], a[1], a[2], a[3]);
	return sys_call6(nr[op], a[0], a[1], a[2], a[3], a[4], a[5]);
}

long host_dispatch(enum op op, const long *a)
{
	struct host *h = &host;
	long r;

	switch (op) {
	case OP_FORK_PREPARE: return host_fork_still(h, (uint64_t)a[0], (uint64_t)a[1]);
	case OP_FORK_PARENT: return host_fork_made(h, a[0]);
	case OP_FORK_CHILD: return host_fork_born(h);
	case OP_LEAVE: return do_leave(h);
	case OP_COUNT: return do_count(h);
	default: break;
	}
	mach_rw_enter(&h->h_lock, false);
	if (h->h_off) {
		mach_rw_exit(&h->h_lock);
		return pass_on(op, a);
	}
	switch (op) {
	case OP_MMAP: r = do_mmap(h, a[0], a[1], (int)a[2], (int)a[3], (int)a[4], a[5]); break;
	case OP_MUNMAP: r = do_munmap(h, a[0], a[1]); break;
	case OP_MPROTECT: r = do_mprotect(h, a[0], a[1], (int)a[2]); break;
	case OP_MADVISE: r = do_madvise(h, a[0], a[1], (int)a[2]); break;
	case OP_MREMAP: r = do_mremap(h, a[0], a[1], a[2], (int)a[3], a[4]); break;
	case OP_BRK: r = do_brk(h, a[0]); break;
	case OP_TAKE: r = to_errno(track(h, (uint64_t)a[0], (uint64_t)a[1], RW, SEGVN_NORESERVE)); break;
	case OP_MINCORE: r = do_mincore(h, a[0], a[1], a[2]); break;
	case OP_RELEASE: r = do_release(h, (uint64_t)a[0], (uint64_t)a[1]); break;
	default: r = do_mlock(h, a[0], a[1], a[2], a[3]); break;
	}
	mach_rw_exit(&h->h_lock);
	return r;
}
