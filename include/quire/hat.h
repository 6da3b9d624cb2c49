/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HAT contract (hardware address translation): f1(as, va) = frame and its inverse f2(frame) = {(as, va)}.
 *
 * A HAT is a cache of translations: at any moment it may drop any translation that was not loaded
 * with HAT_LOAD_LOCK; the next access faults and is served again. With mach_caps.mc_max_mappings ==
 * 1, loading a page that is mapped elsewhere drops the other mapping first (its reference and
 * modification state is merged into the page's p_nrm).
 *
 * Locks: the HAT's own locks are innermost (rank RANK_HAT); no HAT function but hat_alloc waits for
 * a lock or an event of the core. A HAT calls back into the core for page_nrm_set(), page accessors
 * of page.h, vm_inject_fail() and memory: page_kalloc()/page_kfree() without PG_WAIT and kmem with
 * KM_NOSLEEP (never sleep, may fail), outside of its own locks; hat_alloc may take kmem's memory
 * with KM_SLEEP, as it is called without locks. "page locked" = S or E as noted, by the caller.
 *
 * Reference and modification: P_REF / P_MOD gathered by the hardware are OR-ed into the page by every function that
 * removes or syncs a translation, before the translation's frame can be seen unmapped by others.
 */
#ifndef QUIRE_HAT_H
#define QUIRE_HAT_H

#include <quire/types.h>

/* flags of hat_memload */
#define HAT_LOAD 0x0u
#define HAT_LOAD_LOCK                                                                              \
	0x1u /* translation may not be dropped until hat_unlock or hat_unload with HAT_UNLOAD_UNLOCK */
#define HAT_LOAD_ADV                                                                               \
	0x2u /* advisory (prefetched): on VM_NOMEM or conflict does nothing and returns VM_OK */
#define HAT_LOAD_PRESENT                                                                           \
	0x4u /* machine/linux: the frame's contents are at va already (adoption), so none are
	      * moved */
#define HAT_LOAD_REF 0x8u /* a real access causes this load (no prefetch) */
/*
 * The page gets no mapping list, because its translations are never removed by page: the page of
 * zeroes. A machine has one such page, which is kernel memory; the HAT keeps no reference or
 * modification bits of it.
 */
#define HAT_LOAD_NOCONSIST 0x10u
/*
 * Large pages: size is an index into mach_caps.mc_pageshift, 0 (or any, on a machine that names
 * none) being the base page. The page given is the first of the pages of that block, which have
 * contiguous frames, aligned like va, and are all locked. One translation is loaded for all; its
 * reference and modification bits count for each. Calls on parts of it split it first; splitting
 * never fails.
 */
#define HAT_LOAD_SZC(size) ((unsigned)(size) << 8)
#define HAT_LOAD_SIZE(flags) ((flags) >> 8 & 0xfu)

/*
 * Attributes beside PROT_*, of device frames: how the CPU caches accesses. Neither: as memory. UNCACHED: each access goes to
 * the device, in order; COMBINE: writes may be gathered (frame buffers). hat_clrattr does not
 * change them. All translations of a frame have to agree: their owner (segdev) sees to it.
 */
#define HAT_UNCACHED 0x10u
#define HAT_COMBINE 0x20u
#define HAT_CACHING (HAT_UNCACHED | HAT_COMBINE)

/* flags of hat_unload */
#define HAT_UNLOAD 0x0u
#define HAT_UNLOAD_UNLOCK 0x1u
#define HAT_UNLOAD_DISCARD                                                                         \
	0x2u /* the pages' contents are not needed (range is being unmapped, pages freed by caller) */

/* ---- life ---- */
/*
 * kernel: the kernel's own space, one a machine, its addresses within [mc_kernel_min,
 * mc_kernel_max). It is made before any other space and freed after them. Its translations appear
 * in every space, for the kernel only (supervisor), and stay when spaces are switched (global): the
 * upper tables that all spaces share exist from the start and never change. VM_NOMEM; VM_NOTSUP:
 * the machine has no such space; VM_EXIST: a space was made already.
 */
enum vm_err hat_alloc(struct vm *, struct as *, bool kernel, struct hat **);
/* The space is going away: no more loads will come. Its a_lock is held as writer, here and in hat_free_end. */
void hat_free_start(struct hat *);
void hat_free_end(struct hat *); /* Drops all translations that are left; frees the hat */
/* fork: called with both spaces write-locked, before segments are duplicated. A port may copy nothing. VM_NOMEM: the fork fails. */
enum vm_err hat_dup(struct hat *parent, struct hat *child);
void hat_swapout(struct hat *); /* drop every unlocked translation and all page tables possible */

/* ---- ranges: va, len page aligned ---- */
/*
 * Load one translation for page pp (locked S or E) at va. attr = PROT_* bits. If va already maps pp, attributes are
 * replaced. If va maps another page, that one is unloaded first. If attr lacks PROT_W the hardware must trap writes.
 * VM_OK; VM_NOMEM: no memory for tables; VM_RETRY: a transient conflict; VM_NOTSUP: not in that page size, here or at all.
 * On failure pp is not loaded at va, and the former translation of va may be gone. va is within the
 * space's bounds: a port may panic otherwise.
 */
enum vm_err hat_memload(struct hat *, vaddr_t va, struct page *pp, unsigned attr, unsigned flags);
/* The same for n pages at successive addresses; *done = how many from the start are loaded, also on
 * failure. With HAT_LOAD_ADV it stops at the first page that cannot be loaded and returns VM_OK. */
enum vm_err hat_memload_array(struct hat *, vaddr_t va, struct page **pps, size_t n, unsigned attr,
    unsigned flags, size_t *done);
/*
 * Replaces the translations of the next smaller size in the aligned range around va by one
 * translation of that page size. VM_NOMAP: they are not all loaded, with contiguous frames,
 * aligned, with equal rights; VM_NOMEM; VM_NOTSUP.
 */
enum vm_err hat_promote(struct hat *, vaddr_t va, unsigned size);
unsigned hat_mapsize(
    struct hat *, vaddr_t va); /* log2 of the bytes that va's translation covers; 0: none */
/*
 * Device frames: no page, not on any mapping list. devframe: physical address >> VM_PAGESHIFT of the first, anywhere that is
 * not memory (beside the mc_nframes frames from mc_frame0 on, or in a hole of them). hat_probe gives devframe - mc_frame0.
 * VM_NOMEM: part may be loaded; VM_INVAL: no such frames or addresses; VM_NOTSUP where the machine has none.
 */
enum vm_err hat_devload(
    struct hat *, vaddr_t va, uint64_t len, uint64_t devframe, unsigned attr, unsigned flags);
/* Remove all translations in the range; holes are fine. Flushed from all CPUs on return. Locked translations need UNLOCK. */
void hat_unload(struct hat *, vaddr_t va, uint64_t len, unsigned flags);
/* Ends HAT_LOAD_LOCK of every translation in the range; the translations stay. Holes are fine. */
void hat_unlock(struct hat *, vaddr_t va, uint64_t len);
/* Remove attributes (e.g. PROT_W before a fork shares the pages); flushed on return. hat_memload raises rights. A
 * machine that cannot forbid reading alone (machine/linux) leaves what is loaded readable: hat_unload takes all rights. */
void hat_clrattr(struct hat *, vaddr_t va, uint64_t len, unsigned attr);
/* Gather P_REF/P_MOD of a range into the pages; clear them in hardware if clear. */
void hat_sync(struct hat *, vaddr_t va, uint64_t len, bool clear);
/* f1. PFN_INVALID if nothing is loaded; *attr (may be NULL) gets the rights. */
pfn_t hat_probe(struct hat *, vaddr_t va, unsigned *attr);

/* ---- shared tables ---- */
/*
 * One set of tables for many spaces: from now on `to` translates [va, va+len) by the tables of
 * `from` at fva, whatever is loaded there now or later, with the same rights; the former
 * translations of to are dropped. Mapping lists name from only; flushes reach all sharers. Load,
 * change and unload in from; in the shared range of to call only hat_unshare. va, fva, len:
 * multiples of hat_share_unit (0: this machine cannot). from must not itself share the range from
 * another and must outlive the sharing. VM_NOMEM: nothing changed, but the former translations of
 * to are dropped; VM_INVAL; VM_NOTSUP.
 */
uint64_t hat_share_unit(struct hat *);
enum vm_err hat_share(struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, uint64_t len);
void hat_unshare(
    struct hat *to, vaddr_t va, uint64_t len); /* the whole range as it was shared; no-op if nothing
                                                * is */

/* ---- pages (f2) ---- */
void hat_pageunload(struct page *); /* page E. Remove every translation; flushed on return */
/*
 * As hat_pageunload for n pages, all E, but a page stays as it was if it is being read or written
 * without a translation (by a device, or by a system call of the host that has it pinned). Code
 * that takes pages away because memory is short calls this, and takes other pages for those that
 * stay. hat_pageunload of such a page keeps the contents as they are now and loses later writes.
 * The port flushes as seldom as it can: where CPUs interrupt each other for a flush, one round serves
 * many pages. The pages that stay are moved behind the others, which change their order, too. How
 * many were unloaded.
 */
uint32_t hat_pages_tryunload(struct page **, uint32_t n);
static inline bool hat_page_tryunload(struct page *pp) { return hat_pages_tryunload(&pp, 1) == 1; }
unsigned hat_pagesync(struct page *, bool clear_ref,
    bool clear_mod); /* page S/E. Returns the P_REF|P_MOD that it found, which are also set in the
                      * page */
void hat_page_clrwrt(
    struct page *); /* page E. Take PROT_W from every translation (before cleaning) */
unsigned hat_page_getshare(struct page *); /* number of translations */

/* ---- for vm_check: calls cb for every translation. Quiescent only. ---- */
void hat_foreach(struct hat *,
    void (*cb)(void *arg, vaddr_t va, pfn_t pfn, unsigned attr, bool locked), void *arg);
void hat_page_foreach(struct page *, void (*cb)(void *arg, struct hat *hat, vaddr_t va), void *arg);
/* Checks the HAT's own invariants and the copies of translations that the hardware caches; returns
 * violations. Quiescent only. */
unsigned hat_check(struct hat *, void (*report)(void *arg, const char *text), void *arg);
#endif
