/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The seam between the page-table HATs of this folder and the machine whose MMU walks those tables. Down: what the
 * machine gives to the HAT. Up: what the machine may ask of the HAT.
 *
 * All functions of the machine's side are called with the HAT's lock (RANK_HAT) held and must not take core locks.
 */
#ifndef QUIRE_MMU_H
#define QUIRE_MMU_H

#include <quire/types.h>

/* ---- given by the machine ---- */
/* Drop what any CPU caches of [va, va+len) of the space; len UINT64_MAX: all of it. Done on return, on every CPU. */
void mmu_tlb_flush(struct hat *, vaddr_t va, uint64_t len);
/* A translation to the frame appeared or went away (for machines that check the use of direct addresses). */
void mmu_frame_loaded(struct mach *, pfn_t, bool loaded);
/* One pointer of the machine kept for the HAT: its state, shared by all spaces. NULL at first. */
void **mmu_hat_slot(struct mach *);
/* The root table of a new space is in place, e.g. to copy kernel entries into it. entries = its table. */
void mmu_root_init(struct mach *, uint64_t *entries);

/* ---- given by the HAT ---- */
pfn_t	     hat_root(struct hat *); /* frame of the root table: what the MMU's base register is loaded with */
struct mach *hat_mach(struct hat *);
unsigned     hat_serial(struct hat *); /* small number that tells spaces apart (TLB index, address space number) */

/* x86-64 page table entries */
#define X86_P  0x1ull
#define X86_W  0x2ull
#define X86_U  0x4ull
#define X86_A  0x20ull
#define X86_D  0x40ull
#define X86_NX (1ull << 63)
/* software bits */
#define X86_SW_LOCKED 0x200ull /* HAT_LOAD_LOCK */
#define X86_SW_VALID  0x400ull /* a translation is loaded, although perhaps with no right at all (P clear) */
#define X86_FRAME     0x000ffffffffff000ull
#endif
