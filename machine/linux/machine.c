/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Linux machine: creation.
 *
 * Frames are the slots of an arena, one private anonymous mapping. A frame that is not loaded has its memory at its slot; loading
 * it moves the page itself to the program's address (UFFDIO_MOVE) and leaves a hole at the slot; unloading moves it
 * back. So a frame is one page of host memory wherever it is, the budget is exact, and there is no direct map. A hole
 * reads as zero and fills when it is written: a frame that was never used costs nothing.
 *
 * Host memory for tables is mapped directly and never comes from malloc, whose memory may be managed by us.
 *
 * Left out: huge pages, NUMA.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

int linux_create(const struct linux_config *cfg, struct mach **mp)
{
	struct mach *m = linux_mmap(sizeof *m);
	int rc;

	if (m == NULL)
		return -ENOMEM;
	m->m_cfg = *cfg;
	m->m_novector = (cfg->without & SYS_DROP_MANY) != 0;
	m->m_uffd = m->m_pagemap = m->m_pipe[0] = m->m_pipe[1] = -1;
	m->m_caps = (struct mach_caps){ .mc_name = "linux",
		.mc_nframes = cfg->frames,
		.mc_ncpus = linux_host_init(),
		.mc_max_mappings = 1,
		.mc_frame_fill = linux_frame_fill,
		.mc_mod_bits = true,
		.mc_mod_sums = true,
		.mc_user_min = 0x10000,
		.mc_user_max = 1ull << 47 };
	mach_mutex_init(&m->m_hatlock, 0, "hat");
	mach_mutex_init(&m->m_retirelock, MACH_RANK_RETIRED, "retired frames");
	mach_mutex_init(&m->m_rangelock, MACH_RANK_RANGES, "ranges");
	m->m_arena = linux_mmap(vm_ptob(cfg->frames));
	m->m_frame = linux_mmap(vm_page_round(cfg->frames));
	m->m_sum = linux_mmap(vm_page_round(cfg->frames * sizeof *m->m_sum));
	if (m->m_arena == NULL || m->m_frame == NULL || m->m_sum == NULL) {
		linux_destroy(m);
		return -ENOMEM;
	}
	(void)sys_call3(SYS_madvise, (long)m->m_arena, (long)vm_ptob(cfg->frames), MADV_NOHUGEPAGE);
	if (cfg->forget_on_fork)
		(void)sys_call3(
		    SYS_madvise, (long)m->m_arena, (long)vm_ptob(cfg->frames), MADV_DONTFORK);
	/* keeps out of core files the contents that the program itself keeps out */
	(void)sys_call3(SYS_madvise, (long)m->m_arena, (long)vm_ptob(cfg->frames), MADV_DONTDUMP);
	rc = stage_init(m);
	if (rc == 0)
		rc = sum_init(m);
	if (rc == 0)
		rc = uffd_open(m);
	if (rc == 0)
		linux_out_open(m);
	if (rc == 0 && m->m_write_bits &&
	    (m->m_region = linux_mmap(REGIONS * sizeof *m->m_region)) == NULL)
		rc = -ENOMEM;
	if (rc != 0) {
		linux_destroy(m);
		return rc;
	}
	m->m_caps.mc_ref_writes = m->m_write_bits;
	*mp = m;
	return 0;
}

void linux_destroy(struct mach *m)
{
	struct boot_chunk *b;

	uffd_close(m);
	linux_out_close(m);
	while ((b = m->m_boot) != NULL) {
		m->m_boot = b->b_next;
		linux_munmap(b, b->b_bytes);
	}
	linux_munmap(m->m_arena, vm_ptob(m->m_cfg.frames));
	linux_munmap(m->m_frame, vm_page_round(m->m_cfg.frames));
	stage_fini(m);
	linux_munmap(m->m_sum, vm_page_round(m->m_cfg.frames * sizeof *m->m_sum));
	linux_munmap(m->m_region, REGIONS * sizeof *m->m_region);
	if (m->m_ranges.r != NULL)
		linux_munmap(
		    m->m_ranges.r - m->m_ranges.front, m->m_ranges.room * sizeof(struct range));
	linux_munmap(m, sizeof *m);
}

const struct mach_caps *mach_caps(struct mach *m) { return &m->m_caps; }

void *mach_boot_alloc(struct mach *m, size_t bytes)
{
	uint64_t all = vm_page_round(bytes + sizeof(struct boot_chunk));
	struct boot_chunk *b = linux_mmap(all);

	if (b == NULL)
		return NULL;
	b->b_bytes = all;
	b->b_next = m->m_boot;
	m->m_boot = b;
	return b + 1;
}
