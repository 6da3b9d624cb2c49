/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames of the simulated machine.
 *
 * Frames are one host array, so the direct address of a frame is an index into it. On a machine
 * without a direct map asking for the address of a frame that has a translation panics: on the
 * imitated machine (one mapping a frame) the contents are then at another address. Frames that are
 * given up are overwritten with a pattern, so that code that still reads them notices.
 */
#include "machine/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>

void *mach_boot_alloc(struct mach *m, size_t bytes)
{
	m->m_stats.ss_boot += (bytes + 63) & ~(size_t)63;
	size_t head = 64; /* keeps the alignment of the host's memory, a cache line */
	struct boot_chunk *b = aligned_alloc(64, (bytes + head + 63) & ~(size_t)63);

	if (b == NULL)
		return NULL;
	memset(b, 0, bytes + head);
	b->b_bytes = bytes;
	b->b_next = m->m_boot;
	m->m_boot = b;
	return (char *)b + head;
}

static uint8_t *frame_bytes(struct mach *m, pfn_t pfn, const char *what)
{
	if (pfn >= m->m_cfg.frames)
		sim_panicf(m, "%s: frame %u of %u", what, pfn, m->m_cfg.frames);
	if (m->m_retired[pfn])
		sim_panicf(m, "%s: frame %u is free", what, pfn);
	if (m->m_loaded[pfn] != 0 && m->m_cfg.no_direct_map)
		sim_panicf(
		    m, "%s: frame %u has a translation and there is no direct map", what, pfn);
	return m->m_mem + ((size_t)pfn << VM_PAGESHIFT);
}

void *mach_frame_kva(struct mach *m, pfn_t pfn) { return frame_bytes(m, pfn, "mach_frame_kva"); }

pfn_t mach_kva_frame(struct mach *m, const void *kva)
{
	uint64_t off = (uint64_t)((const uint8_t *)kva - m->m_mem);

	if (off >= (uint64_t)m->m_cfg.frames << VM_PAGESHIFT)
		sim_panicf(m, "mach_kva_frame: no frame is at that address");
	return (pfn_t)(off >> VM_PAGESHIFT);
}

void mach_frame_zero(struct mach *m, pfn_t pfn)
{
	memset(frame_bytes(m, pfn, "mach_frame_zero"), 0, VM_PAGESIZE);
}

void mach_frame_copy(struct mach *m, pfn_t dst, pfn_t src)
{
	memcpy(frame_bytes(m, dst, "mach_frame_copy"), frame_bytes(m, src, "mach_frame_copy"),
	    VM_PAGESIZE);
}

void mach_frame_discard(struct mach *m, pfn_t pfn, pfn_t n)
{
	for (pfn_t i = 0; i < n; i++) {
		if (m->m_loaded[pfn + i] != 0)
			sim_panicf(m, "mach_frame_discard: frame %u has a translation", pfn + i);
		m->m_retired[pfn + i] = false;
		if (!m->m_cfg.no_poison)
			memset(frame_bytes(m, pfn + i, "mach_frame_discard"), 0xdb, VM_PAGESIZE);
	}
}

void mach_frame_retire(struct mach *m, pfn_t pfn) { m->m_retired[pfn] = true; }

void mach_frame_renew(struct mach *m, pfn_t pfn) { m->m_retired[pfn] = false; }

pfn_t mach_frames_grant(struct mach *m, pfn_t n)
{
	if (n > m->m_grant)
		n = m->m_grant;
	m->m_grant -= n;
	return n;
}

void mach_frames_release(struct mach *m, pfn_t n) { m->m_grant += n; }

/* ---- what the HAT is given ---- */
void mmu_exec_loaded(struct mach *m, pfn_t pfn, pfn_t n)
{
	(void)pfn;
	m->m_stats.ss_exec_loaded += n; /* its instruction caches are coherent */
}

struct hat_shared *mmu_hat_shared(struct mach *m) { return &m->m_hat; }

void mmu_frame_loaded(struct mach *m, pfn_t pfn, bool loaded)
{
	if (pfn >= m->m_cfg.frames || (!loaded && m->m_loaded[pfn] == 0))
		sim_panicf(m, "mmu_frame_loaded: frame %u", pfn);
	m->m_loaded[pfn] = (uint16_t)(m->m_loaded[pfn] + (loaded ? 1 : -1));
	if (m->m_cfg.max_mappings != 0 && m->m_loaded[pfn] > m->m_cfg.max_mappings)
		sim_panicf(m, "frame %u has %u translations", pfn, m->m_loaded[pfn]);
}
