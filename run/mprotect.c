/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mprotect and mseal. A range that becomes executable or sealed becomes the kernel's; protect.c
 * makes all other changes.
 *
 * Locks: h_lock as reader; none is held where a piece changes.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "run/calls.h"
#include "sys/linux/sys.h"

#ifndef PROT_SEM
#define PROT_SEM 8
#endif

static long protect_or_release(struct host *h, struct piece *p, int prot)
{
	long r;

	if ((prot & PROT_EXEC) == 0)
		return host_protect_piece(h, p, prot);
	if ((prot & PROT_WRITE) != 0)
		prot |= PROT_READ;
	r = call_release(h, p->base, p->end - p->base);
	return r != 0 ? r : sys_call3(SYS_mprotect, (long)p->base, (long)(p->end - p->base), prot);
}

long call_mprotect(struct host *h, long addr, long len, int prot)
{
	uint64_t a = (uint64_t)addr, end = a + vm_page_round((uint64_t)len);
	struct piece p;
	long r = 0;

	prot &= ~PROT_SEM; /* the bit has no meaning on this processor */
	if ((a & VM_PAGEMASK) != 0 || end <= a || (prot & ~(RW | PROT_EXEC)) != 0)
		return sys_call3(SYS_mprotect, addr, len, prot);
	while (r == 0 && a < end) {
		if (!host_next_piece(h, a, end, &p))
			return sys_call3(SYS_mprotect, (long)a, (long)(end - a), prot);
		if (p.base > a &&
		    (r = sys_call3(SYS_mprotect, (long)a, (long)(p.base - a), prot)) != 0)
			return r;
		r = protect_or_release(h, &p, prot);
		a = p.end;
	}
	return r;
}

/*
 * The runtime may not drop, move or protect sealed memory either, so sealed memory becomes the
 * kernel's. A kernel without seals changes nothing.
 */
long call_seal(struct host *h, uint64_t addr, uint64_t len, long flags)
{
	uint64_t size = vm_page_round(len);
	long r = sys_call3(NR_mseal, (long)addr, 0, flags);

	if (r != 0 || (addr & VM_PAGEMASK) != 0 || addr + size < addr || size < len)
		return r != 0 ? r : sys_call3(NR_mseal, (long)addr, (long)len, flags);
	if ((r = call_release(h, addr, size)) != 0 || size == 0)
		return r;
	/* The mark comes last: a range with a hole is sealed nowhere. ENOMEM may leave a part sealed, as natively. */
	if ((r = sys_call3(NR_mseal, (long)addr, (long)len, flags)) != 0)
		return r;
	return host_mark(h, MARK_SEALED, addr, addr + size) ? 0 : host_errno(VM_NOMEM);
}
