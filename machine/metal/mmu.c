/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The functions of hat/mmu.h that are the same on all bare machines. The machine's own mmu.c has
 * the rest.
 *
 * Locks: none.
 */
#include "cpu.h"

#include "kernel/core/kernel.h"

struct hat_shared *mmu_hat_shared(struct mach *m) { return &m->m_hat; }

void mmu_frame_loaded(struct mach *m, pfn_t pfn, bool loaded) { (void)m, (void)pfn, (void)loaded; }

void mmu_root_init(struct mach *m, void *table, bool user)
{
	const uint64_t *root = direct_map(m->m_root);

	(void)user;
	memcpy((uint64_t *)table + 256, root + 256, VM_PAGESIZE / 2);
}

unsigned mmu_check(struct hat *hat, void (*report)(void *, const char *), void *arg)
{
	(void)hat, (void)report, (void)arg; /* a TLB cannot be read */
	return 0;
}
