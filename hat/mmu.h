/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The seam between the page-table HATs of this folder and the machine whose MMU walks those tables. Down: what the
 * machine gives to the HAT. Up: what the machine may ask of the HAT.
 *
 * The machine's side is called with the HAT's lock (RANK_HAT) held and must not take core locks.
 */
#ifndef QUIRE_MMU_H
#define QUIRE_MMU_H

#include <quire/machine.h>
#include <quire/types.h>

struct pvnode;

/* State of all spaces of one machine. Kept by the machine; initialised by hat_shared_init. */
struct hat_shared {
	struct mach *hs_mach;            /* const */
	const struct mach_caps *hs_caps; /* const */
	struct mach_mutex hs_lock;       /* RANK_HAT: every page table, every p_hat, what follows */
	struct pvnode *hs_pvfree;        /* reserve of mapping list nodes */
	unsigned hs_npvfree, hs_nhats, hs_serial;
};

/* ---- given by the machine ---- */
/* Drop what any CPU caches of [va, va+len) of the space; len UINT64_MAX: all of it. Done on return, on every CPU. */
void mmu_tlb_flush(struct hat *, vaddr_t va, uint64_t len);
/* A translation to the frame appeared or went away (for machines that check the use of direct addresses). */
void mmu_frame_loaded(struct mach *, pfn_t, bool loaded);
struct hat_shared *mmu_hat_shared(struct mach *);
/* The zeroed root table of a new space, before its first use: room to enter the kernel's own upper half. */
void mmu_root_init(struct mach *, uint64_t *entries);

/* ---- given by the HAT ---- */
void hat_shared_init(struct hat_shared *, struct mach *); /* once, by the machine, before any vm_create */
pfn_t hat_root(struct hat *); /* frame of the root table: what the MMU's base register is loaded with */
struct mach *hat_mach(struct hat *);
unsigned hat_serial(
    struct hat *); /* small number that tells spaces apart (TLB index, address space number) */

/* x86-64 page table entries */
#define X86_P 0x1ull
#define X86_W 0x2ull
#define X86_U 0x4ull
#define X86_A 0x20ull
#define X86_D 0x40ull
#define X86_NX (1ull << 63)
/* software bits */
#define X86_SW_LOCKED 0x200ull /* HAT_LOAD_LOCK */
#define X86_SW_VALID 0x400ull  /* a translation is loaded, although perhaps with no right at all (P clear) */
#define X86_FRAME 0x000ffffffffff000ull
#endif
