/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The seam between the HATs of this folder and the machine whose MMU uses the translations that
 * they build. Down: the functions that the machine gives to the HAT. Up: the functions by which the
 * machine asks the HAT.
 *
 * The machine's side is called with the HAT's lock (RANK_HAT) held and must not take core locks.
 */
#ifndef QUIRE_MMU_H
#define QUIRE_MMU_H

#include "hat/asid.h"

#include <quire/machine.h>
#include <quire/types.h>

struct pvnode;
struct hat_format; /* one architecture's translation format: hat/format.c */

extern const struct hat_format hat_x86_64,
    hat_x86_64_la57;                               /* 4 and 5 levels: 4 KiB, 2 MiB, 1 GiB */
extern const struct hat_format hat_i386;           /* 2 levels, PSE: 4 KiB, 4 MiB */
extern const struct hat_format hat_i386_pae;       /* 3 levels, NX, 36-bit frames: 4 KiB, 2 MiB */
extern const struct hat_format hat_sv39, hat_sv48; /* RISC-V: 4 KiB, 2 MiB, 1 GiB */
extern const struct hat_format hat_sun4; /* TLB filled by software: 4, 32, 256 KiB, 2 MiB */

/* State of all spaces of one machine. Kept by the machine; initialised by hat_shared_init. */
struct hat_shared {
	struct mach *hs_mach;            /* const */
	const struct mach_caps *hs_caps; /* const */
	const struct hat_format *hs_fmt; /* const */
	uint64_t hs_frame0;              /* const: physical frame number of the machine's frame 0 */
	struct hat *hs_kernel; /* hs_lock to change: the kernel's own space; NULL: there is none */
	struct mach_mutex hs_lock; /* RANK_HAT: every table, every p_hat, and the fields below */
	struct pvnode *hs_pvfree;  /* reserve of mapping list nodes */
	unsigned hs_npvfree, hs_nhats, hs_serial;
	uint64_t hs_promoted, hs_demoted, hs_tsbgrown, hs_tsbshrunk; /* counters */
	uint64_t hs_unlisted;  /* HAT_LOAD_NOCONSIST's frame number + 1; 0: none yet */
	void *hs_hash;         /* hashed mapping blocks */
	uint64_t hs_hashmask;  /* const */
	struct asids hs_asids; /* the machine's lock for loading spaces */
	bool hs_split;         /* const: each space has a second root, for user mode */
};

/* ---- given by the machine ---- */
/* A part of a space whose cached translations must be dropped. */
struct mmu_range {
	struct hat *mr_hat;
	vaddr_t mr_va;
	uint64_t mr_len;
	/*
	 * Only reference bits were cleared. The calling CPU must forget the range at once; another
	 * CPU may use what it has cached for a moment longer (some ms), in which it sets no new
	 * bit: this is not worth an interrupt.
	 */
	bool mr_soon;
	bool mr_tables; /* tables were taken out, too: copies of upper levels in the page walker's
	                * caches must be dropped as well */
};
#define MMU_BATCH 16u
/* Drops whatever any CPU has cached of the ranges (at most MMU_BATCH); when the function returns,
 * every CPU has done so. One round of IPIs for all. */
void mmu_tlb_flush(struct mach *, const struct mmu_range *, unsigned n);
/* The space ends: no CPU may have it loaded or keep any translation of it. */
void mmu_space_gone(struct hat *);
/* For hat_check: does or may any CPU use a translation that the space's tables do not allow (any
 * more)? Violations. */
unsigned mmu_check(struct hat *, void (*report)(void *arg, const char *text), void *arg);
/* A translation to the frame appeared or went away (for machines that check the use of direct addresses). */
void mmu_frame_loaded(struct mach *, pfn_t, bool loaded);
/*
 * Frames were made executable in some space: on every CPU, instruction caches that are not coherent
 * with memory must drop them before they are executed. Nothing to do on x86.
 */
void mmu_exec_loaded(struct mach *, pfn_t, pfn_t n);
struct hat_shared *mmu_hat_shared(struct mach *);
/*
 * Fills in the zeroed root table of a new space, before its first use: the place to enter the
 * kernel's own upper half. user: the root that the CPU has loaded in user mode (hs_split): only
 * what the CPU needs to enter the kernel.
 */
void mmu_root_init(struct mach *, void *table, bool user);

/* ---- given by the HAT ---- */
/* Called once, by the machine, before any vm_create; false: no memory. frame0 (mc_frame0): where
 * the machine's frame 0 lies in physical memory, in frames. asids: numbers that the TLBs tell
 * spaces apart by; 0: none. split: two roots a space, one for the kernel, one for user mode; the
 * machine derives two numbers from each number. Only formats with a kernel half and a no-execute
 * bit in pointers support this (x86-64). */
bool hat_shared_init(struct hat_shared *, struct mach *, const struct hat_format *, uint64_t frame0,
    unsigned asids, bool split);
pfn_t hat_root(
    struct hat *); /* the frame of the root table: the value for the MMU's base register */
pfn_t hat_user_root(
    struct hat *); /* ... the root for user mode; the same as hat_root unless hs_split */
struct mach *hat_mach(struct hat *);
unsigned hat_serial(struct hat *); /* small number that tells spaces apart */
/* The CPU loads the space (or none: NULL): asid_enter. The machine serialises these. */
unsigned hat_enter(struct hat_shared *, struct hat *, unsigned cpu, enum asid_flush *flush);
void hat_forget(struct hat *); /* no CPU has the space loaded any more: called by mmu_space_gone */
unsigned hat_number(
    struct hat *); /* the space's number, perhaps of a past generation; 0: none yet */
/*
 * For MMUs that leave reference and modification bits to software: handles a trap of an access
 * (read, write or execute) whose bit is not set yet. True: the bit was all that was missing, and is
 * set: run the access again; false: a fault for the core.
 */
bool hat_trap(struct hat *, vaddr_t, enum seg_rw);
/*
 * For TLBs filled by software. miss: returns the word for the TLB and enters it in the TSB; false:
 * a fault for the core. Runs on the trapping CPU, where no half-done change can be seen. tsb:
 * returns the number of entries of the space's TSB k (0: base pages, 1: the largest size) and its
 * first frame; 0: there is none. An entry is two words: address >> shift, TTE. peek: returns the
 * word, changing nothing.
 */
bool sfmmu_miss(struct hat *, vaddr_t, uint64_t *word);
bool sfmmu_peek(struct hat *, vaddr_t, uint64_t *word);
uint64_t sfmmu_tsb(struct hat *, unsigned k, pfn_t *base);
#endif
