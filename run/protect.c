/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mprotect of tracked ranges. Managed ranges are always read-write for the kernel. PROT_NONE: the pages are taken out first, then the
 * kernel's protection is set; they come back when the range is read-write again.
 *
 * Locks: h_lock as reader.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <quire/hat.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"

/* One tracked piece gets a new protection. */
long host_protect_piece(struct host *h, const struct piece *p, int prot)
{
	uint64_t len = p->end - p->base, n = len >> VM_PAGESHIFT;
	bool was = (p->prot & RW) == RW, will = (prot & RW) == RW && (prot & PROT_EXEC) == 0;
	enum vm_err e;
	long r;

	if (was && will)
		return 0;
	if ((prot & PROT_EXEC) != 0 || (was && prot != PROT_NONE)) {
		if ((e = host_release_range(h, p)) != VM_OK)
			return host_errno(e);
		return sys_call3(SYS_mprotect, (long)p->base, (long)len, prot);
	}
	if (was) { /* to PROT_NONE: no page may be at its address, then the range keeps its registration */
		if (h->h_managed)
			hat_unload(as_hat(h->h_as), p->base, len, HAT_UNLOAD);
		else
			host_uncharge(h, n);
		r = sys_call3(SYS_mprotect, (long)p->base, (long)len, prot);
		return r != 0 ? r : host_errno(as_setprot(h->h_as, p->base, len, host_core_prot(prot)));
	}
	if ((e = as_setprot(h->h_as, p->base, len, host_core_prot(prot))) != VM_OK)
		return -ENOMEM;
	r = sys_call3(SYS_mprotect, (long)p->base, (long)len, prot);
	if (r != 0 || !will)
		return r;
	if (!h->h_managed)
		return host_errno(host_charge(h, n));
	/* pages that were read or written before this process was managed are there already */
	mach_mutex_enter(&h->h_brklock);
	e = host_adopt_range(h, p->base, p->end);
	mach_mutex_exit(&h->h_brklock);
	return host_errno(e);
}

long call_mprotect(struct host *h, long addr, long len, int prot)
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
		r = host_protect_piece(h, &p, prot);
		a = p.end;
	}
	return r;
}
