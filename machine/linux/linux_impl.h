/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the Linux machine share: see machine.c for the theory. */
#ifndef QUIRE_LINUX_IMPL_H
#define QUIRE_LINUX_IMPL_H

#include <sys/ioctl.h>

#include "machine/linux/linux.h"
#include "machine/linux/range_table.h"
#include "sys/linux/sys.h"

struct boot_chunk {
	struct boot_chunk *b_next;
	uint64_t b_bytes;
	uint64_t b_pad[6];
};
_Static_assert(sizeof(struct boot_chunk) == 64, "what follows keeps a cache line's alignment");

/* What the arena slot of a frame holds. See renew.c */
enum frame_state {
	FRAME_EMPTY,  /* nothing: the slot reads as zero */
	FRAME_STAGED, /* nothing: the frame's contents are on the stage. See stage.c */
	FRAME_FILLED, /* memory or nothing; such memory never was at a program's address */
	/*
	 * memory that was at a program's address: the kernel may still hold a reference to this
	 * memory
	 */
	FRAME_USED,
	FRAME_RETIRED, /* the same, and the frame is free */
};
#define RETIRED_MAX 64u /* twice what one page-out frees */

#define MACH_RANK_RETIRED 124u /* under the hat's lock */
#define MACH_RANK_RANGES 125u  /* under the hat's lock, above the leaves */

struct sum {
	uint64_t lo, hi;
};

/* PAGEMAP_SCAN, which the headers of older distributions lack. */
struct q_region {
	uint64_t start, end, categories;
};
struct q_scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted,
	    category_mask, category_anyof_mask, return_mask;
};
#define Q_PAGEMAP_SCAN _IOWR('f', 16, struct q_scan)
#define Q_PAGE_WRITTEN 2u
#define Q_PAGE_PRESENT 8u
#define Q_PAGE_SWAPPED 16u
#define Q_PAGE_PFNZERO 32u
#define REGIONS 1024u /* number of regions that one call of the scan returns */

struct mach {
	struct mach_caps m_caps;   /* const */
	struct linux_config m_cfg; /* const */
	uint8_t *m_arena;          /* const: frame f at m_arena + f pages while it is not loaded */
	uint8_t *
	    m_frame; /* const pointer; enum frame_state of each slot (relaxed; page lock, RETIRED: m_retirelock) */
	uint8_t *m_stage; /* const: STAGE pages; NULL: there is no stage. See stage.c */
	uint8_t *
	    m_staged; /* const pointer: the page of the stage that each FRAME_STAGED has; guarded as m_frame */
	uint64_t m_stagefree; /* atomic: a bit for each free page of the stage */
	uint8_t *m_zeroes;    /* const: ZEROES pages that are never written */
	struct sum *
	    m_sum; /* const pointer; m_hatlock: contents of a frame when it was loaded, if it is SUMMED */
	uint64_t m_key[VM_PAGESIZE / 8]; /* const: key of the sums */
	bool
	    m_write_bits; /* const after uffd_open: write protection on m_uffd tells of writes and stops none */
	uint32_t m_pinned;   /* m_hatlock: pinned pages that page-out has met so far */
	uint32_t m_pinlooks; /* m_hatlock, as the next: see unload_unpinned */
	bool m_unpinning;
	uint32_t m_nloaded,
	    m_asked;      /* m_hatlock: translations; calls of hat_pagesync since the last scan */
	uint32_t m_scans; /* m_hatlock: scans of written pages, so far */
	/* m_hatlock: the regions that a scan returns; NULL unless m_write_bits */
	struct q_region *m_region;
	int m_uffd, m_pagemap;         /* const, but for linux_after_fork */
	bool m_move, m_poison, m_scan; /* const after uffd_open: what the kernel can; see uffd.c */
	int m_pipe[2];                 /* const, but for linux_after_fork; -1: none. See out.c */
	/* a futex word that no thread ever waits for (out.c: FUTEX_WAKE_OP) */
	uint32_t m_nobody;
	int m_tid; /* linux_serve only: the thread of the last fault */
	/*
	 * the address of a page for which a thread waits that was not woken; 0: none. See serve_one
	 */
	_Atomic uint64_t m_waited;
	_Atomic uint64_t
	    m_filled_ns;      /* when the page at m_waited was about to be filled; 0: not yet */
	uint64_t m_waited_ns; /* linux_serve only: total wait of the faults served last */
	struct boot_chunk *m_boot;   /* vm_create only */
	struct mach_mutex m_hatlock; /* guards every translation of every hat of this machine */
	struct mach_mutex m_rangelock;
	struct mach_mutex m_retirelock;
	pfn_t m_retired
	    [RETIRED_MAX]; /* m_retirelock, as the next: frames that are free and whose slots are to be dropped */
	unsigned m_nretired;
	bool m_novector;        /* m_retirelock: the kernel drops pieces one by one only */
	struct ranges m_ranges; /* m_rangelock: served addresses; the owner is a hat */
};

static inline uint64_t arena_slot(const struct mach *m, pfn_t pfn)
{
	return (uint64_t)m->m_arena + ((uint64_t)pfn << VM_PAGESHIFT);
}

#define STAGE 32u  /* pages; twice the usual size of a read */
#define ZEROES 64u /* pages copied by one call */

static inline enum frame_state frame_state(const struct mach *m, pfn_t pfn)
{
	return (enum frame_state)__atomic_load_n(&m->m_frame[pfn], __ATOMIC_ACQUIRE);
}

static inline void frame_set(struct mach *m, pfn_t pfn, uint64_t n, enum frame_state s)
{
	for (uint64_t i = 0; i < n; i++)
		__atomic_store_n(&m->m_frame[pfn + i], (uint8_t)s, __ATOMIC_RELEASE);
}

/* The address of the contents of a frame that is not loaded. */
static inline uint64_t frame_at(const struct mach *m, pfn_t pfn)
{
	switch (frame_state(m, pfn)) {
	case FRAME_STAGED:
		return (uint64_t)m->m_stage + ((uint64_t)m->m_staged[pfn] << VM_PAGESHIFT);
	case FRAME_EMPTY: return (uint64_t)m->m_zeroes;
	default: return arena_slot(m, pfn);
	}
}

/* host.c */
unsigned linux_host_init(void); /* how many CPUs there are */
/*
 * Moves a descriptor of ours out of the program's reach; returns its number, which may have
 * changed.
 */
static inline int linux_guard_fd(struct mach *m, long fd)
{
	return m->m_cfg.guard_fd != NULL ? m->m_cfg.guard_fd((int)fd) : (int)fd;
}
/* frames.c */
void *linux_frame_fill(struct mach *, pfn_t); /* mach_caps.mc_frame_fill */
/* stage.c */
int stage_init(struct mach *); /* 0 or -errno */
void stage_fini(struct mach *);
/*
 * Gives an empty frame a page of the stage: the frame is staged from then on. NULL: the frame is
 * not empty, or no page is free.
 */
void *stage_take(struct mach *, pfn_t);
void stage_leave(
    struct mach *, pfn_t, uint64_t n); /* each staged frame of the n frames becomes empty */
/*
 * Returns how many of the n frames from pfn (at least one) have adjacent contents, from address
 * *from on, in memory of one kind.
 */
uint64_t frame_run(const struct mach *, pfn_t, uint64_t n, uint64_t *from);
/* renew.c */
void linux_unretire(struct mach *, pfn_t,
    pfn_t
	n); /* the frames' slots are about to be dropped by another call: they leave the list of retired frames */
/* present.c */
#define PM_THERE (3ull << 62) /* an entry of the page map: present, or swapped out by the kernel */
#define PM_PRESENT (1ull << 63)
#define PM_FILE (1ull << 61)
#define PM_EXCLUSIVE (1ull << 56) /* a page mapped once; never the page of zeroes */
bool linux_read_map(const struct mach *, uint64_t va, uint64_t n,
    uint64_t *entries);                            /* false: the page map may not be read */
bool linux_occupied(struct mach *, uint64_t addr); /* present, or swapped out by the kernel */
/* out.c */
/*
 * Takes the contents of n adjacent pages back to their slots; the slot of an absent page reads as
 * zero. Returns how many pages from the start were taken out: all, unless may_stay is set and the
 * kernel holds the next page. m_hatlock.
 */
uint64_t linux_take_out(struct mach *, uint64_t va, pfn_t pfn, uint64_t n, bool may_stay);
void linux_out_open(struct mach *); /* after uffd_open */
void linux_out_close(struct mach *);
/* spare.c */
/* most mappings given up for one call: the call may fail for another reason than the limit */
#define LINUX_SPARE_TRIES 2u
/* called when the process has no mapping left: unmaps one spare mapping. False: no spare is left */
bool linux_spare_mapping(void);
void linux_munmap(void *, uint64_t bytes);
void linux_drop(uint64_t addr, uint64_t len); /* MADV_DONTNEED; drops locked memory, too */
/* uffd.c: answers 0 or -errno */
int uffd_open(struct mach *);
void uffd_close(struct mach *);
int uffd_register(struct mach *, uint64_t addr, uint64_t len, bool missing);
void uffd_unregister(struct mach *, uint64_t addr, uint64_t len);
int uffd_move(struct mach *, uint64_t dst, uint64_t src, uint64_t len,
    uint64_t *done); /* done: bytes, also on failure */
int uffd_copy(
    struct mach *, uint64_t dst, uint64_t src, uint64_t len, bool protect, uint64_t *done);
int uffd_protect(struct mach *, uint64_t addr, uint64_t len, bool on);
int uffd_poison(struct mach *, uint64_t addr);
void uffd_wake(struct mach *, uint64_t addr, uint64_t len);
/*
 * One call of PAGEMAP_SCAN; s->start moves to the first address not scanned yet. Returns the number
 * of regions found, or -errno.
 */
long scan_step(struct mach *, struct q_scan *);
/*
 * Calls written() for each region written since its protection, and protects the region again if
 * asked to. m_hatlock.
 */
void linux_scan_written(struct mach *, bool protect,
    void (*written)(struct hat *, uint64_t from, uint64_t end, bool protected));
/* ranges.c */
struct hat *linux_range_hat(struct mach *, uint64_t addr);
/* sum.c */
int sum_init(struct mach *); /* 0 or -errno */
struct sum sum_page(const struct mach *, const void *page);
/* hat.c */
/*
 * After fork: forgets the translations in the range whose pages are not there. Fork copies no page
 * tables of a mapping that was never written to. A page of zeroes that the parent read there is
 * missing in the child; the frame is empty and reads as zeroes, too.
 */
void linux_hat_missing(struct hat *, uint64_t base, uint64_t end);
/*
 * If va has a translation and the page is absent, the program dropped the page by a system call that
 * no runtime saw (MADV_DONTNEED in code of its own). A page of zeroes takes its place, as the kernel
 * would do, and the waiting thread is woken.
 */
void linux_hat_refill(struct hat *, vaddr_t va);
struct as *linux_hat_space(struct hat *);
/* Has the CPU fetch the cache line of the address's entry, which the fault needs last. No lock. */
void linux_hat_prefetch(struct hat *, vaddr_t va);
int linux_hat_reprotect(struct hat *); /* after fork: write protection is not inherited */
#endif
