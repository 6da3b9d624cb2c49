/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that advise about tracked memory, lock it, or ask for it: madvise, the mlock family,
 * mincore.
 *
 * Advice is of five kinds (table `advices`): advice about contents, which the core has; marks on
 * the mapping, which the kernel obeys in forks and core files; hints of which only the result
 * matters; advice that makes the range the kernel's; and advice about what a child inherits. While
 * a process is not managed, the kernel has the pages and takes advice of all kinds but the last
 * two.
 *
 * mlock: the core keeps the pages in memory, and the kernel marks the mapping, checks
 * RLIMIT_MEMLOCK and the privilege, and counts. The kernel locks on fault (MLOCK_ONFAULT), so that
 * it touches no page while h_lock is held. Memory without access cannot be made resident: the
 * result is ENOMEM, as in the kernel, and the mark stays.
 *
 * Locks: h_lock as reader.
 */
#include "run/engine.h"

#include <errno.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"

/* Advice that the headers of older distributions lack. */
#define ADVICE_DONTNEED_LOCKED 24
#define ADVICE_HWPOISON 100
#define ADVICE_SOFT_OFFLINE 101
#define ADVICE_GUARD_INSTALL 102
#define ADVICE_GUARD_REMOVE 103

enum how {
	HOW_CONTENTS, /* the core takes the advice a_core */
	HOW_MARK,     /* the kernel marks the mapping; no page of it changes */
	HOW_HINT,     /* nothing is done; the result is the kernel's for a page of the runtime */
	HOW_DROP,     /* the contents are dropped, and the range becomes the kernel's */
	HOW_LEAVE,    /* the range becomes the kernel's with its contents */
	HOW_CHILD,    /* MARK_NOFORK */
};

static const struct advice_row {
	int a_nr;
	enum how a_how;
	enum advice a_core; /* HOW_CONTENTS */
} advices[] = {
	/* the pages may be dropped at any time: they are dropped now */
	{ MADV_NORMAL, HOW_CONTENTS, ADV_NORMAL },
	{ MADV_RANDOM, HOW_CONTENTS, ADV_RANDOM },
	{ MADV_SEQUENTIAL, HOW_CONTENTS, ADV_SEQUENTIAL },
	{ MADV_WILLNEED, HOW_CONTENTS, ADV_WILLNEED },
	{ MADV_DONTNEED, HOW_CONTENTS, ADV_DONTNEED },
	{ ADVICE_DONTNEED_LOCKED, HOW_CONTENTS, ADV_DONTNEED },
	{ MADV_FREE, HOW_CONTENTS, ADV_DONTNEED },
	{ MADV_COLD, HOW_CONTENTS, ADV_PAGEOUT },
	{ MADV_PAGEOUT, HOW_CONTENTS, ADV_PAGEOUT },
	{ MADV_POPULATE_READ, HOW_CONTENTS, ADV_POPULATE_READ },
	{ MADV_POPULATE_WRITE, HOW_CONTENTS, ADV_POPULATE_WRITE },
	{ MADV_DONTDUMP, HOW_MARK, 0 }, /* no core file has frames or the store */
	/* no change: memory that is wiped at a fork is the kernel's */
	{ MADV_DODUMP, HOW_MARK, 0 },
	{ MADV_KEEPONFORK, HOW_MARK, 0 },
	{ MADV_REMOVE, HOW_MARK, 0 },   /* refused: only shared memory has pages to remove */
	{ MADV_HUGEPAGE, HOW_HINT, 0 }, /* frames move alone */
	{ MADV_NOHUGEPAGE, HOW_HINT, 0 },
	{ MADV_COLLAPSE, HOW_HINT, 0 },
	{ MADV_MERGEABLE, HOW_HINT, 0 }, /* merged pages could not move */
	{ MADV_UNMERGEABLE, HOW_HINT, 0 },
	{ ADVICE_GUARD_REMOVE, HOW_HINT,
	    0 }, /* guarded memory is the kernel's: tracked memory has no guards */
	{ ADVICE_GUARD_INSTALL, HOW_DROP, 0 },
	{ MADV_WIPEONFORK, HOW_LEAVE, 0 },
	{ ADVICE_HWPOISON, HOW_LEAVE, 0 },
	{ ADVICE_SOFT_OFFLINE, HOW_LEAVE, 0 },
	{ MADV_DONTFORK, HOW_CHILD, 0 },
	{ MADV_DOFORK, HOW_CHILD, 0 },
};

static const struct advice_row *find_advice(int advice)
{
	for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
		if (advices[i].a_nr == advice)
			return &advices[i];
	return NULL;
}

#define KNOWN 128u /* for each advice below this number the kernel is asked once */

/*
 * The kernel's result of the advice for a page of the runtime. Not for advice that breaks hardware.
 */
static long kernels_answer(int advice)
{
	static _Atomic short answer[KNOWN]; /* 1 - the result; 0: the kernel was not asked yet */
	unsigned i = (unsigned)advice;
	long p, r;

	if (i < KNOWN && answer[i] != 0)
		return 1 - answer[i];
	p = sys_call6(SYS_mmap, 0, VM_PAGESIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (sys_failed(p))
		return p;
	r = sys_call3(SYS_madvise, p, VM_PAGESIZE, advice);
	(void)sys_call2(SYS_munmap, p, VM_PAGESIZE);
	if (i < KNOWN)
		answer[i] = (short)(1 - r);
	return r;
}

static long advise_mapping(const struct piece *p, int advice)
{
	return sys_call3(SYS_madvise, (long)p->base, (long)(p->end - p->base), advice);
}

/* ---- calls by which as many pages leave or come as the program likes ---- */
#define STEP (HOST_SHRINK * VM_PAGESIZE)

static enum vm_err advise_step(struct host *h, uint64_t base, uint64_t len, int advice)
{
	return as_advise(h->h_as, base, len, (enum advice)advice);
}

static enum vm_err lock_step(struct host *h, uint64_t base, uint64_t len, int arg)
{
	(void)arg;
	return as_lock(h->h_as, base, len);
}

/*
 * In steps, after each of which frames make room for what the pool has taken: no fault follows that would do it (host_balance).
 * *done: the bytes from base of the steps that succeeded.
 */
static enum vm_err take_steps(struct host *h, uint64_t base, uint64_t len,
    enum vm_err (*step)(struct host *, uint64_t base, uint64_t len, int arg), int arg,
    uint64_t *done)
{
	enum vm_err e = VM_OK;

	for (uint64_t n; *done < len; *done += n) {
		uint64_t had = atomic_load(&h->h_fam->fam_pool_pages);

		n = len - *done < STEP ? len - *done : STEP;
		e = step(h, base + *done, n, arg);
		if (h->h_managed && atomic_load(&h->h_fam->fam_pool_pages) > had)
			host_balance(h, UINT64_MAX);
		if (e != VM_OK)
			break;
	}
	return e;
}

enum vm_err host_page_in_steps(struct host *h, uint64_t base, uint64_t len, enum advice a)
{
	uint64_t done = 0;

	return take_steps(h, base, len, advise_step, (int)a, &done);
}

/* Locked memory is dropped by DONTNEED_LOCKED. A page touched later is locked again. */
static long drop_contents(struct host *h, const struct piece *p, int advice)
{
	uint64_t n = p->end - p->base;
	bool locked = host_marked(h, MARK_LOCKED, p->base, p->end);
	long r;

	if (locked)
		(void)as_unlock(h->h_as, p->base, n);
	r = host_errno(as_advise(h->h_as, p->base, n, ADV_DONTNEED));
	/* a range closed before the process was managed is the kernel's until it is opened */
	if (r == 0 && p->prot == 0)
		r = advise_mapping(p, advice);
	if (locked)
		(void)as_lock(h->h_as, p->base, n);
	return r;
}

static long advise_contents(struct host *h, const struct piece *p, const struct advice_row *row)
{
	uint64_t n = p->end - p->base;

	switch (row->a_core) {
	case ADV_DONTNEED: return drop_contents(h, p, row->a_nr);
	case ADV_POPULATE_READ:
	case ADV_POPULATE_WRITE:
		if (p->prot == 0 ||
		    (row->a_core == ADV_POPULATE_WRITE && (p->readonly || (p->prot & PROT_W) == 0)))
			return advise_mapping(p, row->a_nr); /* the kernel refuses */
		return host_errno(host_page_in_steps(h, p->base, n, row->a_core));
	case ADV_PAGEOUT:
	case ADV_WILLNEED: (void)host_page_in_steps(h, p->base, n, row->a_core); return 0;
	default: (void)as_advise(h->h_as, p->base, n, row->a_core); return 0;
	}
}

static long leave_then_advise(struct host *h, const struct piece *p, int advice)
{
	long r = call_release(h, p->base, p->end - p->base);

	return r != 0 ? r : advise_mapping(p, advice);
}

static long drop_then_advise(struct host *h, const struct piece *p, int advice)
{
	enum vm_err e;

	host_nofork_to_kernel(h, p->base, p->end);
	e = host_forget(h, p->base, p->end - p->base);

	if (e != VM_OK)
		return host_errno(e);
	if (h->h_managed)
		linux_range_unregister(
		    h->h_mach, as_hat(h->h_as), p->base, p->end - p->base, false);
	return advise_mapping(p, advice);
}

#define HUGE (2ull << 20)

/* The kernel refuses where no huge page would fit. */
static long answer_collapse(const struct piece *p)
{
	return ((p->base + HUGE - 1) & ~(HUGE - 1)) + HUGE <= p->end ? 0 : -EINVAL;
}

/* Advice that the kernel refuses for locked memory: it would take away pages that are to stay. */
static bool is_for_unlocked(int advice)
{
	return advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_COLD ||
	    advice == MADV_PAGEOUT || advice == ADVICE_GUARD_INSTALL;
}

/* Applies the advice to one tracked piece, which is locked as a whole or not at all. */
static long advise_piece(struct host *h, const struct piece *p, int advice)
{
	const struct advice_row *row = find_advice(advice);
	long r;

	/*
	 * the advice is newer than this table: if the kernel knows the advice, the range becomes
	 * the kernel's
	 */
	if (row == NULL)
		return (r = kernels_answer(advice)) != 0 ? r : leave_then_advise(h, p, advice);
	bool kernels = p->closed || !h->h_managed || (p->prot != 0 && (p->prot & RW) != RW);

	if (kernels && row->a_how != HOW_CHILD && row->a_how != HOW_DROP && row->a_how != HOW_LEAVE)
		return advise_mapping(p, advice);
	if (is_for_unlocked(advice) && host_marked(h, MARK_LOCKED, p->base, p->end))
		return -EINVAL;
	switch (row->a_how) {
	case HOW_CONTENTS: return advise_contents(h, p, row);
	case HOW_MARK: return advise_mapping(p, advice);
	case HOW_HINT: return advice == MADV_COLLAPSE ? answer_collapse(p) : kernels_answer(advice);
	case HOW_DROP:
		return (r = kernels_answer(advice)) != 0 ? r : drop_then_advise(h, p, advice);
	case HOW_LEAVE: return leave_then_advise(h, p, advice);
	default: break;
	}
	if (advice == MADV_DOFORK)
		(void)host_unmark(h, MARK_NOFORK, p->base, p->end);
	else if (!host_mark(h, MARK_NOFORK, p->base, p->end))
		return leave_then_advise(h, p, advice);
	return 0;
}

/* A hole is an error, which is returned after the rest of the range was done. */
long call_madvise(struct host *h, long addr, long len, int advice)
{
	uint64_t a = (uint64_t)addr, end = a + vm_page_round((uint64_t)len);
	long r = 0, hole = 0;
	struct piece p;

	if ((a & VM_PAGEMASK) != 0 || end <= a || !host_next_piece(h, a, end, &p))
		return sys_call3(SYS_madvise, addr, len, advice);
	for (; a < end && r == 0; a = p.end) {
		if (!host_next_piece(h, a, end, &p))
			p.base = p.end = end;
		else
			(void)host_marked_at(h, MARK_LOCKED, p.base, &p.end);
		if (p.base > a &&
		    (r = sys_call3(SYS_madvise, (long)a, (long)(p.base - a), advice)) == -ENOMEM &&
		    advice != MADV_POPULATE_READ &&
		    advice != MADV_POPULATE_WRITE) { /* these kinds of advice end at a hole */
			hole = r;
			r = 0;
		}
		if (r == 0 && p.end > p.base)
			r = advise_piece(h, &p, advice);
	}
	return r != 0 ? r : hole;
}

/* ---- locks on memory ---- */
/* Pages are locked in the core, and stay in memory. If not all can be, none is that was not before. */
static enum vm_err lock_pages(struct host *h, const struct piece *p)
{
	uint64_t done = 0, end;
	enum vm_err e = take_steps(h, p->base, p->end - p->base, lock_step, 0, &done);

	for (uint64_t at = p->base; e != VM_OK && at < p->base + done; at = end) {
		end = p->base + done;
		if (!host_marked_at(h, MARK_LOCKED, at, &end))
			(void)as_unlock(h->h_as, at, end - at);
	}
	return e;
}

/* Locks one piece in the core of a managed process, or marks it for the time when it is one. */
static long lock_piece(struct host *h, const struct piece *p, long nr, long flags)
{
	uint64_t n = p->end - p->base;
	bool was = host_marked(h, MARK_LOCKED, p->base, p->end), open = p->prot != 0,
	     pages = (p->prot & RW) == RW;
	long r;

	if (!h->h_managed)
		r = sys_call3(nr, (long)p->base, (long)n, flags);
	else
		r = sys_call3(SYS_mlock2, (long)p->base, (long)n, MLOCK_ONFAULT);
	if (r != 0 && (r != -ENOMEM || open))
		return r;
	enum vm_err e = h->h_managed && pages ? lock_pages(h, p) : VM_OK;
	if (e != VM_OK) {
		if (e == VM_LIMIT)
			atomic_fetch_add(&h->h_lock_refused, 1);
		if (!was)
			(void)sys_call2(SYS_munlock, (long)p->base, (long)n);
		return -ENOMEM;
	}
	(void)host_mark(
	    h, MARK_LOCKED, p->base, p->end); /* too few frames: only the kernel's lock is kept */
	return open ? 0 : -ENOMEM;
}

static long unlock_piece(struct host *h, const struct piece *p)
{
	uint64_t n = p->end - p->base;

	if (h->h_managed)
		(void)as_unlock(h->h_as, p->base, n);
	(void)host_unmark(h, MARK_LOCKED, p->base, p->end);
	return sys_call2(SYS_munlock, (long)p->base, (long)n);
}

static long unlock_all(struct host *h)
{
	h->h_lockfuture = false;
	if (h->h_managed)
		(void)as_unlockall(h->h_as);
	(void)host_unmark(h, MARK_LOCKED, 0, HOST_MAX);
	return sys_call0(SYS_munlockall);
}

/* -EPERM: this process may not lock memory. */
static long may_lock(void)
{
	static char page[VM_PAGESIZE] __attribute__((aligned(4096)));
	long r = sys_call3(SYS_mlock2, (long)page, VM_PAGESIZE, MLOCK_ONFAULT);

	if (r == 0)
		(void)sys_call2(SYS_munlock, (long)page, VM_PAGESIZE);
	return r == -EPERM ? r : 0;
}

/* Locks a piece part by part: MARK_LOCKING records the parts that were not locked before. */
static long lock_parts(struct host *h, const struct piece *p, long flags)
{
	struct piece part = *p;
	long r = 0;

	for (; r == 0 && part.base < p->end; part.base = part.end) {
		part.end = p->end;
		if (!host_marked_at(h, MARK_LOCKED, part.base, &part.end) &&
		    !host_mark(h, MARK_LOCKING, part.base, part.end))
			return host_errno(VM_NOMEM);
		r = lock_piece(h, &part, SYS_mlock2, flags);
		if (r == -ENOMEM && p->prot == 0)
			r = 0;
	}
	return r;
}

static void undo_locks(struct host *h)
{
	struct piece p, part;

	for (uint64_t a = 0; host_next_piece(h, a, HOST_MAX, &p); a = p.end)
		for (part = p; part.base < p.end; part.base = part.end) {
			part.end = p.end;
			if (host_marked_at(h, MARK_LOCKING, part.base, &part.end))
				(void)unlock_piece(h, &part);
		}
}

/*
 * mlockall for tracked memory. The kernel's mlockall would lock the whole arena; memory that the
 * kernel keeps for the program stays as it is. If not all tracked memory can be locked, only memory
 * that was locked before stays locked.
 */
static long lock_everything(struct host *h, long flags)
{
	struct piece p;
	long r = may_lock();

	if (r != 0)
		return r;
	for (uint64_t a = 0;
	     (flags & MCL_CURRENT) != 0 && r == 0 && host_next_piece(h, a, HOST_MAX, &p); a = p.end)
		r = lock_parts(h, &p, (flags & MCL_ONFAULT) != 0 ? MLOCK_ONFAULT : 0);
	if (r != 0)
		undo_locks(h);
	else
		h->h_lockfuture = (flags & MCL_FUTURE) != 0;
	(void)host_unmark(h, MARK_LOCKING, 0, HOST_MAX);
	return r;
}

long host_lock_new(struct host *h, uint64_t base, uint64_t len)
{
	long r = h->h_lockfuture ? call_mlock(h, SYS_mlock, (long)base, (long)len, 0) : 0;
	struct piece p;

	if (r == -ENOMEM && host_next_piece(h, base, base + len, &p) && p.prot == 0)
		r = 0;
	return r == 0 ? 0 : -EAGAIN;
}

long call_mlock(struct host *h, long nr, long addr, long len, long flags)
{
	uint64_t a = vm_page_trunc((uint64_t)addr),
		 end = vm_page_round((uint64_t)addr + (uint64_t)len);
	struct piece p;
	long r = 0, closed = 0;

	if (nr == SYS_munlockall)
		return unlock_all(h);
	if (nr == SYS_mlockall)
		return lock_everything(h, addr);
	if (end <= a || (nr == SYS_mlock2 && (flags & ~MLOCK_ONFAULT) != 0) ||
	    !host_next_piece(h, a, end, &p))
		return sys_call3(nr, addr, len, flags);
	for (; a < end && r == 0; a = p.end) {
		if (!host_next_piece(h, a, end, &p))
			p.base = p.end = end;
		if (p.base > a &&
		    (r = sys_call3(nr, (long)a, (long)(p.base - a), flags)) !=
			0) /* the kernel's own, or a hole */
			return r;
		if (p.end == p.base)
			continue;
		r = nr == SYS_munlock ? unlock_piece(h, &p) : lock_piece(h, &p, nr, flags);
		if (r == -ENOMEM && p.prot == 0) {
			closed = r;
			r = 0;
		}
	}
	return r != 0 ? r : closed;
}

/* ---- what is in memory ---- */
/*
 * Corrects the kernel's result for n pages from addr: a managed page in the arena looks absent to
 * the kernel. A page that the kernel says is present is present: of memory that is only readable,
 * the kernel keeps the pages, and the core has none.
 */
long call_mincore(struct host *h, long addr, long n, uint8_t *vec)
{
	uint64_t a = (uint64_t)addr, end = a + vm_ptob((uint64_t)n);
	struct piece p;

	for (; h->h_managed && host_next_piece(h, a, end, &p); a = p.end)
		for (uint64_t at = p.base; at < p.end; at += VM_PAGESIZE) {
			uint8_t v;

			if (as_incore(h->h_as, at, VM_PAGESIZE, &v) == VM_OK &&
			    (v & INCORE_PRESENT) != 0)
				vec[(at - (uint64_t)addr) >> VM_PAGESHIFT] = 1;
		}
	return 0;
}
