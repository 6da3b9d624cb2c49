/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames: their memory while they are not loaded, at the arena's slot or on the stage (stage.c).
 *
 * m_frame tells which slots may hold memory. A page adopted from the program (HAT_LOAD_PRESENT)
 * brings memory of its own, so the memory of its slot is dropped first. Memory that was ever at a
 * program's address is not filled again (renew.c).
 */
#include "machine/linux/linux_impl.h"

static void mark_filled(struct mach *m, pfn_t pfn)
{
	if (pfn >= m->m_cfg.frames)
		mach_panic("a frame number beyond the arena");
	if (frame_state(m, pfn) == FRAME_EMPTY)
		frame_set(m, pfn, 1, FRAME_FILLED);
}

void *mach_frame_kva(struct mach *m, pfn_t pfn)
{
	mark_filled(m, pfn);
	return (void *)frame_at(m, pfn);
}

void *linux_frame_fill(struct mach *m, pfn_t pfn)
{
	void *staged = stage_take(m, pfn);

	return staged != NULL ? staged : mach_frame_kva(m, pfn);
}

pfn_t mach_kva_frame(struct mach *m, const void *kva)
{
	uint64_t off = (uint64_t)((const uint8_t *)kva - m->m_arena);

	if (off >= vm_ptob(m->m_cfg.frames))
		mach_panic("no frame is at that address");
	return (pfn_t)vm_btop(off);
}

void mach_frame_zero(struct mach *m, pfn_t pfn)
{
	if (frame_state(m, pfn) != FRAME_EMPTY) /* which is zero */
		__builtin_memset(mach_frame_kva(m, pfn), 0, VM_PAGESIZE);
}

void mach_frame_copy(struct mach *m, pfn_t dst, pfn_t src)
{
	__builtin_memcpy(mach_frame_kva(m, dst), mach_frame_kva(m, src), VM_PAGESIZE);
}

void mach_frame_discard(struct mach *m, pfn_t pfn, pfn_t n)
{
	if (n == 0)
		return;
	if (pfn >= m->m_cfg.frames || n > m->m_cfg.frames - pfn)
		mach_panic("a frame number beyond the arena");
	stage_leave(m, pfn, n);
	linux_unretire(m, pfn, n);
	linux_drop(arena_slot(m, pfn), vm_ptob(n));
}

pfn_t mach_frames_grant(struct mach *m, pfn_t n)
{
	return m->m_cfg.grant != NULL ? m->m_cfg.grant(m->m_cfg.arg, n) : n;
}

void mach_frames_release(struct mach *m, pfn_t n)
{
	if (m->m_cfg.ungrant != NULL)
		m->m_cfg.ungrant(m->m_cfg.arg, n);
}
