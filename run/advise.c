/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that advise about tracked memory, lock it, or ask for it: madvise, the mlock family, mincore.
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
		host_nofork_remove(h, p->base, p->end);
	if (advice == MADV_DOFORK || (advice == MADV_DONTFORK && !p->shared && host_nofork_add(h, p->base, p->end)))
		return 0;
	if (!h->h_managed && !p->shared && is_passing(advice))
		return sys_call3(SYS_madvise, (long)p->base, (long)n, advice);
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_FREE:
		if (p->shared) /* what is shared is only forgotten here */
			return advice == MADV_FREE ? -EINVAL : 0;
		r = host_errno(as_advise(h->h_as, p->base, n, ADV_DONTNEED));
		break;
	case MADV_WILLNEED: (void)as_advise(h->h_as, p->base, n, ADV_WILLNEED); break;
	case MADV_SEQUENTIAL: (void)as_advise(h->h_as, p->base, n, ADV_SEQUENTIAL); break;
	case MADV_RANDOM: (void)as_advise(h->h_as, p->base, n, ADV_RANDOM); break;
	case MADV_NORMAL: (void)as_advise(h->h_as, p->base, n, ADV_NORMAL); break;
	case MADV_COLD:
	case MADV_PAGEOUT: (void)as_advise(h->h_as, p->base, n, ADV_PAGEOUT); break;
	case MADV_POPULATE_READ: r = host_errno(as_advise(h->h_as, p->base, n, ADV_POPULATE_READ)); break;
	case MADV_POPULATE_WRITE: r = host_errno(as_advise(h->h_as, p->base, n, ADV_POPULATE_WRITE)); break;
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_COLLAPSE:
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
	case MADV_DODUMP:
	case MADV_DONTDUMP: break;
	default: /* WIPEONFORK and the like are about what the kernel does: let it have the range */
		if ((r = host_errno(host_release_range(h, p))) == 0)
			r = sys_call3(SYS_madvise, (long)p->base, (long)n, advice);
		break;
	}
	return r;
}

/* A hole is an error, but only after the rest was done. */
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
		if (p.base > a && (r = sys_call3(SYS_madvise, (long)a, (long)(p.base - a), advice)) == -ENOMEM) {
			hole = r;
			r = 0;
		}
		if (r == 0 && p.end > p.base)
			r = advise_piece(h, &p, advice);
	}
	return r != 0 ? r : hole;
}

long call_mlock(struct host *h, long nr, long addr, long len, long flags)
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
			r = host_errno(nr == SYS_munlock ? as_unlock(h->h_as, p.base, p.end - p.base) :
							 as_lock(h->h_as, p.base, p.end - p.base));
	}
	return r;
}

/* Managed pages look absent to the kernel while they are in the arena or the store. */
long call_mincore(struct host *h, long addr, long len, long vec)
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
