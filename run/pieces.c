/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tracked memory of the process, piece by piece: segments of the core, and ranges marked
 * CLOSED, which have no segment.
 *
 * Lock: h_lock.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/mman.h>

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
	default: return -ENOMEM; /* host_promise decides VM_NOSWAP and counts it */
	}
}

unsigned host_core_prot(int prot)
{
	return ((prot & PROT_READ) != 0 ? PROT_R : 0u) |
	    ((prot & PROT_WRITE) != 0 ? PROT_R | PROT_W : 0u);
}

/* Finds the tracked piece at or above addr, cut to end. False: there is none below end. */
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
