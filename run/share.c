/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared anonymous memory. It is shared with the children of a fork only: until there is one, the kernel's mapping is private, as
 * memory whose pages move must be. A fork, and whatever needs a second mapping of it, puts a shared mapping of the kernel's
 * with the same contents in its place. From then on the memory is the kernel's, outside the budget.
 *
 * Lock: h_lock as writer throughout: the program's own writes wait for it.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <quire/hat.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"

#define SHARE_PAGES 512u

/* The contents of [base, base+len) to its like at `to`. Afterwards nobody writes to them: who tries waits for h_lock. */
static enum vm_err copy_shared(struct host *h, uint64_t base, uint64_t len, uint64_t to)
{
	static uint8_t vec[SHARE_PAGES]; /* h_lock W, as the next */
	static uint64_t there[SHARE_PAGES / 64];
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
	(void)linux_range_present(h->h_mach, base, len >> VM_PAGESHIFT, there);
	for (uint64_t i = 0; i < len >> VM_PAGESHIFT; i++)
		if ((there[i / 64] >> (i % 64) & 1) != 0)
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
		e = host_forget(h, p->base + at, n);
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
