/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory engine of the runtime: the program's memory system calls, answered by an address space of the core. The calls
 * themselves are in map.c, protect.c, advise.c, remap.c; calls.c has the table of all of them.
 *
 * Tracked: every private anonymous mapping that is not executable, and the heap (brk). Each is a segvn segment of h_as. The
 * kernel has a real mapping of the same range and protection, so /proc, faults outside and protection errors are its own.
 *
 * Shared anonymous memory is the kernel's. Its pages could not move, and a futex in it, which a thread may be waiting on, is named by
 * the mapping: it cannot be replaced when a child comes to share it.
 *
 * Two phases. Native: nothing is registered, the kernel serves first touches; read-write pages are charged to the family as
 * they are mapped, so what is touched can never exceed the budget. When a charge is refused the process is adopted: all
 * read-write ranges are registered and the pages found there become the core's (host_adopt). From then on it is managed.
 *
 * Managed ranges are registered, and read-write or read-only; those without access have no page at its address. Executable memory is made
 * resident and left to the kernel (host_release_range), no longer tracked. See protect.c.
 *
 * Every call runs on a stack of our own (enter.c). The service thread has its own already.
 *
 * Locks: h_lock (outermost) > h_protlock > h_brklock > h_marklock > the core's. Fork and adoption take h_lock as writer: no fault is being served, no
 * call is under way, so the child inherits no lock held by a thread it does not have.
 *
 * Left out: shared memory, MAP_GROWSDOWN and MAP_HUGETLB mappings stay the kernel's own.
 */
#include "run/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <quire/anon.h>
#include <quire/hat.h>
#include <quire/kmem.h>
#include <quire/vnode.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"
#include "run/affinity.h"
#include "run/calls.h"
#include "run/host.h"
#include "store/pool_vnode.h"

struct host host = { .h_off = true, .h_sock = -1 };

long host_errno(enum vm_err e)
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
	case VM_NOMEM: atomic_fetch_add(&host.h_fam->fam_tables, 1); return -ENOMEM;
	default: return -ENOMEM; /* VM_NOSWAP is counted where it is decided: host_promise */
	}
}

/* ---- adoption ---- */

/* The tracked piece at or above addr, cut to end. False: none below end. */
bool host_next_piece(struct host *h, uint64_t addr, uint64_t end, struct piece *p)
{
	struct as_info ai;
	struct range closed;
	bool has_closed = addr < end && host_next_marked(h, MARK_CLOSED, addr, end, &closed);

	HOST_ASSERT(mach_rw_held(&h->h_lock, false));
	if (addr >= end)
		return false;
	if (as_query(h->h_as, addr, &ai) != VM_OK || ai.ai_base >= end ||
	    (has_closed && closed.base < ai.ai_base)) {
		if (has_closed)
			*p = (struct piece){
				.base = closed.base, .end = closed.end, .closed = true
			};
		return has_closed;
	}
	p->base = ai.ai_base > addr ? ai.ai_base : addr;
	p->end = ai.ai_base + ai.ai_len < end ? ai.ai_base + ai.ai_len : end;
	p->prot = ai.ai_prot;
	p->closed = false;
	p->readonly = (p->prot & RW) == RW && host_marked_at(h, MARK_READONLY, p->base, &p->end);
	return true;
}

/* Pages from a on, at most n of 64, that hold something (or that hold nothing). */
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

#define ADOPT_PAGES 4096u
static uint64_t present_map[ADOPT_PAGES / 64]; /* h_lock W, or h_brklock */

/* Registers [base, end) and takes over the pages that are there. h_lock W, or h_brklock. */
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

enum vm_err host_adopt(struct host *h)
{
	struct piece p;
	uint64_t a = 0;
	enum vm_err e;

	HOST_ASSERT(mach_rw_held(&h->h_lock, true));
	if (service_need(h) != 0)
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

/* While native: charge n pages that became read-write; on refusal become managed. Lock: R held, comes back held. */
enum vm_err host_charge(struct host *h, uint64_t n)
{
	enum vm_err e = VM_OK;

	HOST_ASSERT(mach_rw_held(&h->h_lock, false));
	uint64_t got = family_charge(h->h_fam, n);
	atomic_fetch_add(&h->h_me->fp_granted, got);
	atomic_fetch_add(&h->h_committed, got);
	if (got == n) {
		if (atomic_load(&h->h_me->fp_granted) > HOST_ASKED)
			(void)service_need(h); /* without the service thread no process asks */
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

/* ---- tracked ranges ---- */
unsigned host_core_prot(int prot)
{
	return ((prot & PROT_READ) != 0 ? PROT_R : 0u) |
	    ((prot & PROT_WRITE) != 0 ? PROT_R | PROT_W : 0u);
}

/*
 * A segment takes memory of the core's, and all of it is from the budget: pages must have the rest. Beyond that a mapping is refused, as
 * the kernel does beyond vm.max_map_count.
 */
static bool tables_full(struct host *h)
{
	struct vm_usage u;

	vm_usage(h->h_vm, &u);
	if (u.vu_kernel <= h->h_fam->fam_budget / 2)
		return false;
	(void)kmem_reap(h->h_vm); /* what was freed since is in caches */
	vm_usage(h->h_vm, &u);
	return u.vu_kernel > h->h_fam->fam_budget / 2;
}

static bool mark_closed(struct host *h, uint64_t base, uint64_t end, bool noreserve)
{
	if (noreserve && !host_mark(h, MARK_NORESERVE, base, end))
		return false;
	return host_mark(h, MARK_CLOSED, base, end);
}

/* The kernel has mapped [base, base+len): make it ours. The caller unmaps on failure. h_lock R. */
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

/* Forget what is tracked in the range: contents are dropped, the kernel's mapping stays until the caller changes it. */
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

/* Make [base, end) resident and leave it to the kernel for good. */
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

/* The first pages from *a on, before end, that are in memory: how many, at most LEFT_PAGES, and *a is the first. */
#define LEFT_PAGES 256u
static uint64_t find_loaded(struct host *h, uint64_t *a, uint64_t end)
{
	static uint8_t vec[LEFT_PAGES]; /* h_lock W */
	uint64_t n = 0;

	for (; n == 0 && *a < end; *a += vm_ptob(LEFT_PAGES)) {
		uint64_t here = vm_btop(end - *a), i = 0;

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
 * No frame is left: no table can grow, so nothing is locked, and the frames, which are empty, go before the segment is split. No
 * page can leave meanwhile (h_lock W).
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
		if ((p.prot & RW) != RW || p.readonly || p.closed ||
		    (n = find_loaded(h, &p.base, p.end)) == 0)
			continue;
		p.end = p.base + vm_ptob(n);
		if (leave_loaded(h, p.base, vm_ptob(n)))
			left += n;
	}
	return left > 0;
}

/* Leaves a piece to the kernel as it is. */
static long leave_piece(struct host *h, struct piece *p)
{
	uint64_t base = p->base, end = p->end;
	bool closed = p->prot == 0;
	long r;

	if (p->closed) {
		host_nofork_to_kernel(h, base, end);
		(void)host_unmark(h, MARK_NORESERVE, base, end);
		return host_unmark(h, MARK_CLOSED, base, end) ? 0 : -ENOMEM;
	}
	if (!h->h_managed ||
	    ((p->prot & RW) != 0 && (p->prot & RW) != RW)) { /* the kernel has its pages */
		host_nofork_to_kernel(h, base, end);
		return host_errno(as_unmap(h->h_as, base, end - base));
	}
	if (closed && (r = host_protect_piece(h, p, RW)) != 0)
		return r;
	if ((r = host_errno(host_release_range(h, base, end))) != 0)
		return r;
	return closed ? sys_call3(SYS_mprotect, (long)base, (long)(end - base), PROT_NONE) : 0;
}

/*
 * The program is about to let the kernel filter its system calls (seccomp). Ours, and those of the service thread, would be
 * filtered, too, and are in no list. So the process gets all its memory now and is on its own from here on, as are its
 * children until they execute another program; what it was granted stays charged.
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
		r = leave_piece(h, &p);
	if (r == 0 && !h->h_off) {
		uint64_t have = atomic_load(&h->h_me->fp_granted),
			 more = u.vu_anon_slots > have ? u.vu_anon_slots - have : 0;

		atomic_fetch_add(&h->h_me->fp_granted, more);
		family_force(h->h_fam, more);
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

/* An invalid range (misaligned, too long) matches no tracked piece, or the kernel refuses it. */
long call_release(struct host *h, uint64_t base, uint64_t len)
{
	struct piece p;
	long r = 0;

	if (((base | len) & VM_PAGEMASK) != 0 || base + len < base)
		return -EINVAL;
	for (uint64_t a = base; r == 0 && host_next_piece(h, a, base + len, &p); a = p.end)
		r = (p.prot & RW) == RW ? host_errno(host_release_range(h, p.base, p.end))
					: leave_piece(h, &p);
	return r;
}

/* The service thread, which publishes now and then only, does nothing meanwhile. */
static long do_count(struct host *h)
{
	mach_rw_enter(&h->h_lock, true);
	if (!h->h_off) {
		host_publish(h);
		host_measure(h);
	}
	mach_rw_exit(&h->h_lock);
	return 0;
}

/* ---- what enter.c calls, on our stack ---- */
/* A call that began while the process was hosted and is here when it is no longer. */
static long pass_on(enum op op, const long *a)
{
	static const short nr[] = { [OP_MMAP] = SYS_mmap,
		[OP_MUNMAP] = SYS_munmap,
		[OP_MPROTECT] = SYS_mprotect,
		[OP_MADVISE] = SYS_madvise,
		[OP_MREMAP] = SYS_mremap,
		[OP_BRK] = SYS_brk,
		[OP_SEAL] = NR_mseal,
		[OP_SHMAT] = SYS_shmat };

	if (op == OP_RELEASE || op == OP_BRK_MOVED || op == OP_MINCORE)
		return 0;
	if (op == OP_MLOCK)
		return sys_call3(a[0], a[1], a[2], a[3]);
	return sys_call6(nr[op], a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The calls that need no world at rest. */
static long dispatch_call(struct host *h, enum op op, const long *a)
{
	long r;

	mach_rw_enter(&h->h_lock, false);
	if (h->h_off) {
		mach_rw_exit(&h->h_lock);
		return pass_on(op, a);
	}
	switch (op) {
	case OP_MMAP: r = call_mmap(h, a[0], a[1], (int)a[2], (int)a[3], (int)a[4], a[5]); break;
	case OP_MUNMAP: r = call_munmap(h, a[0], a[1]); break;
	case OP_MPROTECT: r = call_mprotect(h, a[0], a[1], (int)a[2]); break;
	case OP_MADVISE: r = call_madvise(h, a[0], a[1], (int)a[2]); break;
	case OP_MREMAP: r = call_mremap(h, a[0], a[1], a[2], (int)a[3], a[4]); break;
	case OP_BRK: r = call_brk(h, a[0]); break;
	case OP_TAKE:
		r = host_errno(host_track(h, (uint64_t)a[0], (uint64_t)a[1], RW, SEGVN_NORESERVE));
		break;
	case OP_MINCORE: r = call_mincore(h, a[0], a[1], (uint8_t *)a[2]); break;
	case OP_SEAL: r = call_seal(h, (uint64_t)a[0], (uint64_t)a[1], a[2]); break;
	case OP_SHMAT: r = call_shmat(h, a[0], a[1], a[2], a[3]); break;
	case OP_BRK_MOVED:
		r = 0;
		call_brk_moved(h);
		break;
	case OP_RELEASE: r = call_release(h, (uint64_t)a[0], (uint64_t)a[1]); break;
	default: r = call_mlock(h, a[0], a[1], a[2], a[3]); break;
	}
	mach_rw_exit(&h->h_lock);
	return r;
}

#define WAITS 200u /* a process that has ended gives back within a moment; ms */

long host_dispatch(enum op op, const long *a)
{
	struct host *h = &host;

	switch (op) {
	case OP_FORK_PREPARE: return host_fork_still(h, (uint64_t)a[0], (uint64_t)a[1]);
	case OP_FORK_PARENT: return host_fork_made(h, a[0]);
	case OP_FORK_CHILD: return host_fork_born(h);
	case OP_LEAVE: return host_do_leave(h);
	case OP_MOVE: return store_move(h, a[0] != 0);
	case OP_COUNT: return do_count(h);
	case OP_ALONE: return service_alone(h, a[0], a[1], a[2]);
	default: break;
	}
	for (unsigned tries = 0;; tries++) {
		uint64_t refused = atomic_load(&h->h_fam->fam_refused);
		long r = dispatch_call(h, op, a);

		if (r != -ENOMEM || atomic_load(&h->h_fam->fam_refused) == refused ||
		    tries == WAITS || !host_await_promises(h))
			return r;
		atomic_fetch_sub(&h->h_fam->fam_refused, 1); /* not refused yet */
	}
}
