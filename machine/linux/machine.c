/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Linux machine: creation, frames, time.
 *
 * Frames are the slots of an arena, one private anonymous mapping. A frame that is not loaded has its memory at its slot; loading
 * it moves the page itself to the program's address (UFFDIO_MOVE) and leaves a hole at the slot; unloading moves it
 * back. So a frame is one page of host memory wherever it is, the budget is exact, and there is no direct map. A hole
 * reads as zero and fills when it is written: a frame that was never used costs nothing.
 *
 * m_frame says which slots may hold memory: such memory is in the way of a page adopted from the program (HAT_LOAD_PRESENT),
 * which has its own already, and is not filled again if the program ever had it (renew.c).
 *
 * Host memory for tables is mapped directly and never comes from malloc, whose memory may be managed by us.
 *
 * Left out: threads (the runtime has one of its own; the core reclaims synchronously), huge pages, NUMA.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "sys/linux/elf.h"
#include "machine/linux/linux_impl.h"

static unsigned linux_ncpus = 1; /* set by every linux_create to the same value, as the next */
static bool linux_rdpid;
static int (*linux_clock)(clockid_t, struct timespec *); /* of the vDSO, NULL: there is none */

static unsigned count_cpus(void)
{
	uint64_t mask[16] = { 0 };
	long n = sys_call3(SYS_sched_getaffinity, 0, sizeof mask, (long)mask);
	unsigned top = 0;

	for (long i = 0; i < n / 8; i++)
		if (mask[i] != 0)
			top = (unsigned)i * 64 + 63u - (unsigned)__builtin_clzll(mask[i]);
	return top + 1;
}

/* The kernel's own clock_gettime, which the C library's would call; a program may have another function of that name. */
static int (*find_clock(void))(clockid_t, struct timespec *)
{
	struct elf_object vdso;

	return elf_at(elf_auxv(AT_SYSINFO_EHDR), &vdso)
	    ? (int (*)(clockid_t, struct timespec *))elf_symbol(&vdso, "__vdso_clock_gettime")
	    : NULL;
}

int linux_create(const struct linux_config *cfg, struct mach **mp)
{
	struct mach *m = linux_mmap(sizeof *m);
	int rc;

	if (m == NULL)
		return -ENOMEM;
	linux_ncpus = count_cpus();
	linux_rdpid = sys_has_rdpid();
	linux_clock = find_clock();
	m->m_cfg = *cfg;
	m->m_novector = (cfg->without & SYS_DROP_MANY) != 0;
	m->m_uffd = m->m_pagemap = m->m_pipe[0] = m->m_pipe[1] = -1;
	m->m_caps = (struct mach_caps){ .mc_name = "linux",
		.mc_nframes = cfg->frames,
		.mc_ncpus = linux_ncpus,
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
	/* what the program keeps out of its core files is in them neither from here */
	(void)sys_call3(SYS_madvise, (long)m->m_arena, (long)vm_ptob(cfg->frames), MADV_DONTDUMP);
	rc = stage_init(m);
	if (rc == 0)
		rc = sum_init(m);
	if (rc == 0)
		rc = uffd_open(m);
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
	while ((b = m->m_boot) != NULL) {
		m->m_boot = b->b_next;
		linux_munmap(b, b->b_bytes);
	}
	linux_munmap(m->m_arena, vm_ptob(m->m_cfg.frames));
	linux_munmap(m->m_frame, vm_page_round(m->m_cfg.frames));
	stage_fini(m);
	linux_munmap(m->m_sum, vm_page_round(m->m_cfg.frames * sizeof *m->m_sum));
	linux_munmap(m->m_region, REGIONS * sizeof *m->m_region);
	if (m->m_range != NULL)
		linux_munmap(
		    m->m_range - m->m_range_front, m->m_maxrange * sizeof(struct linux_range));
	linux_munmap(m, sizeof *m);
}

const struct mach_caps *mach_caps(struct mach *m) { return &m->m_caps; }

/* ---- memory ---- */
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

/* ---- CPUs, threads, time ---- */
unsigned mach_cpu_id(void) { return sys_cpu(linux_rdpid) % linux_ncpus; }

uint64_t mach_time_ns(void)
{
	struct timespec ts;

	if (linux_clock == NULL || linux_clock(CLOCK_MONOTONIC, &ts) != 0)
		(void)sys_call2(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct mach_thread *mach_thread_create(
    struct mach *m, void (*fn)(void *), void *arg, const char *name)
{
	(void)m;
	(void)fn;
	(void)arg;
	(void)name;
	return NULL;
}

void mach_thread_join(struct mach_thread *t)
{
	if (t != NULL)
		mach_panic("a thread is joined on a machine that makes none");
}

void mach_yield(void) { (void)sys_call0(SYS_sched_yield); }

/* Abort by the signal's default action, whatever the program has blocked or installed. */
void mach_panic(const char *msg)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		uint64_t mask;
	} dfl = { .handler = SIG_DFL };
	uint64_t set = 1ull << (SIGABRT - 1);

	(void)sys_call3(SYS_write, 2, (long)"quire: panic: ", 14);
	(void)sys_call3(SYS_write, 2, (long)msg, (long)__builtin_strlen(msg));
	(void)sys_call3(SYS_write, 2, (long)"\n", 1);
	(void)sys_call4(SYS_rt_sigaction, SIGABRT, (long)&dfl, 0, 8);
	(void)sys_call4(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, 8);
	(void)sys_call3(SYS_tgkill, sys_call0(SYS_getpid), sys_call0(SYS_gettid), SIGABRT);
	for (;;)
		(void)sys_call1(SYS_exit_group, 134);
}
