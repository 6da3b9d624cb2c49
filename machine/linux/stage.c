/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stage: pages in which the contents of a frame are made before the frame is loaded.
 *
 * A frame whose memory was at a program's address gets new memory before it is filled again
 * (renew.c). Filling its arena slot then causes a fault, in which the kernel allocates and zeroes a
 * page; a move then carries that page to the program. A copy allocates the page, too, and fills it
 * in the same step. So contents that replace all of a frame are made in a page of the stage, which
 * is never at a program's address and stays in the processor's cache, and UFFDIO_COPY carries them:
 * half of the time (bench/parts.c: stage_us, slot_us). A page of zeroes is copied from memory that
 * is never written, which is the kernel's one page of zeroes.
 *
 *      empty --linux_frame_fill--> staged --the page is loaded--> empty
 *                                         --the frame is retired, renewed or discarded--> empty
 *
 * There are few pages on the stage: most are loaded as soon as they are filled. When pages that
 * were read ahead and are not loaded yet have taken the whole stage, the arena slot is filled
 * instead.
 *
 * Where memory is reused (linux_config.reuse_held) the slot keeps its memory, nothing is allocated,
 * and there is no stage.
 *
 * Locks: none. m_staged[] of a frame changes as its state does (m_frame), by the holder of its page lock or of the free frame;
 * m_stagefree is an atomic.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

int stage_init(struct mach *m)
{
	m->m_zeroes = linux_mmap(vm_ptob(ZEROES));
	if (m->m_zeroes == NULL)
		return -ENOMEM;
	if (m->m_cfg.reuse_held)
		return 0;
	m->m_stage = linux_mmap(vm_ptob(STAGE));
	m->m_staged = linux_mmap(vm_page_round(m->m_cfg.frames));
	m->m_stagefree = ~0ull >> (64 - STAGE);
	if (m->m_stage == NULL || m->m_staged == NULL)
		return -ENOMEM;
	/* as the arena: keeps out of core files the contents that the program itself keeps out */
	(void)sys_call3(SYS_madvise, (long)m->m_stage, (long)vm_ptob(STAGE), MADV_DONTDUMP);
	return 0;
}

void stage_fini(struct mach *m)
{
	linux_munmap(m->m_zeroes, vm_ptob(ZEROES));
	linux_munmap(m->m_stage, vm_ptob(STAGE));
	linux_munmap(m->m_staged, vm_page_round(m->m_cfg.frames));
}

/*
 * The index of the lowest free page, so that frames filled one after the other have adjacent
 * contents. STAGE: no page is free.
 */
static unsigned take_staged(struct mach *m)
{
	uint64_t was = __atomic_load_n(&m->m_stagefree, __ATOMIC_RELAXED);

	while (was != 0 &&
	    !__atomic_compare_exchange_n(
		&m->m_stagefree, &was, was & (was - 1), true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		;
	return was == 0 ? STAGE : (unsigned)__builtin_ctzll(was);
}

void *stage_take(struct mach *m, pfn_t pfn)
{
	unsigned i = STAGE;

	if (m->m_stage != NULL && frame_state(m, pfn) == FRAME_EMPTY)
		i = take_staged(m);
	if (i == STAGE)
		return NULL;
	m->m_staged[pfn] = (uint8_t)i;
	frame_set(m, pfn, 1, FRAME_STAGED);
	return m->m_stage + vm_ptob(i);
}

void stage_leave(struct mach *m, pfn_t pfn, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		if (frame_state(m, pfn + (pfn_t)i) != FRAME_STAGED)
			continue;
		frame_set(m, pfn + (pfn_t)i, 1, FRAME_EMPTY);
		(void)__atomic_or_fetch(
		    &m->m_stagefree, 1ull << m->m_staged[pfn + i], __ATOMIC_RELEASE);
	}
}

uint64_t frame_run(const struct mach *m, pfn_t pfn, uint64_t n, uint64_t *from)
{
	enum frame_state s = frame_state(m, pfn), of;
	uint64_t k = 1;

	*from = frame_at(m, pfn);
	for (; k < n; k++) {
		of = frame_state(m, pfn + (pfn_t)k);
		if ((s == FRAME_STAGED || s == FRAME_EMPTY || of == FRAME_STAGED ||
			of == FRAME_EMPTY) &&
		    of != s)
			break;
		if (s == FRAME_STAGED && m->m_staged[pfn + k] != m->m_staged[pfn] + k)
			break;
	}
	return s == FRAME_EMPTY && k > ZEROES ? ZEROES : k;
}
