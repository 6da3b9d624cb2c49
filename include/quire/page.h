/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Physical pages: one struct page per frame, 64 bytes. Identity is (vnode, offset). States:
 *   free list: P_FREE, no identity.   cache list: P_FREE, identity kept, contents valid and clean, reclaimable.
 *   in use: not P_FREE, identity (or kernel: P_KERNEL, no identity).   off line: P_OFFLINE.
 * S/E lock: p_selock > 0 = that many shared holders, -1 = exclusive; a waiting E holder (P_EWANTED) stops new S holders.
 * E + P_IOLOCK = being filled or written. Everything marked (P) is guarded by the lock of the page's name, (Q) by that of the
 * policy, (L) by that of vnodes' lists: vm/frame/page.c.
 */
#ifndef QUIRE_PAGE_H
#define QUIRE_PAGE_H

#include <quire/types.h>

enum page_se { SE_SHARED, SE_EXCL };

#define P_FREE 0x01u
#define P_KERNEL 0x02u /* kernel memory: the scanner never looks at it */
#define P_OFFLINE 0x04u
#define P_EWANTED 0x08u
#define P_IOLOCK 0x10u
#define P_PREFETCHED 0x20u /* brought in by prefetch and not referenced yet */
#define P_QUEUED 0x40u     /* on the policy's queues */
#define P_WAITERS 0x80u

#define P_REF 0x1u
#define P_MOD 0x2u
#define P_ZEROED 0x4u /* of a free frame, or one just taken: its bytes are zero */

#define PAGE_NIL 0xffffffffu

struct page {
	struct vnode *p_vnode;       /* (P) and E lock to change */
	voff_t p_offset;             /* (P) and E lock to change */
	uint32_t p_hashnext;         /* (P) complemented */
	uint32_t p_vpnext, p_vpprev; /* (L) vnode's page list */
	uint32_t p_next, p_prev; /* (P) cache list, (Q) the policy's queue, RANK_FREE: free list */
	int32_t p_selock;        /* (P) */
	_Atomic uint8_t p_nrm;   /* P_REF | P_MOD: set atomically; cleared only with the page
	                          * locked */
	uint8_t p_flags;         /* (P) */
	uint8_t p_order;         /* buddy order of a free block's first frame (RANK_FREE) */
	uint8_t p_polstate;      /* (Q) for the policy */
	uint16_t p_lckcnt;       /* (P) wire count: > 0 is never evicted */
	uint8_t p_lockno;  /* which lock (P) means for this page: vm/frame/page_name.c. Changed
	               * atomically, with that lock and the new one held */
	uint8_t p_pend;    /* the CPU, + 1, that has not told the policy of the page yet
	             * (vm/frame/page_lock.c). Atomic; its vc_pendlock */
	uint64_t p_hat[2]; /* the port's mapping list (RANK_HAT) */
};
_Static_assert(sizeof(struct page) == 64, "a page structure is one cache line");

/* Accessors for ports and policies. */
pfn_t page_pfn(struct vm *, const struct page *);
struct page *page_of(struct vm *, pfn_t);
struct vm *page_vm(const struct page *); /* offset in its vnode: for a page that has a name and
                                          * keeps it */
static inline void page_nrm_set(struct page *pp, unsigned bits)
{
	__atomic_or_fetch((uint8_t *)(void *)&pp->p_nrm, (uint8_t)bits, __ATOMIC_RELAXED);
}
static inline void page_nrm_clear(struct page *pp, unsigned bits)
{
	__atomic_and_fetch((uint8_t *)(void *)&pp->p_nrm, (uint8_t)~bits, __ATOMIC_RELAXED);
}
static inline unsigned page_nrm(const struct page *pp)
{
	return __atomic_load_n((const uint8_t *)(const void *)&pp->p_nrm, __ATOMIC_RELAXED);
}

/* ---- lookup and creation ---- */
/*
 * The page named (vp, off), locked se; NULL: no page has the name. Waits for the page's lock and
 * I/O; takes the page back from the cache list; counts as a use of the page. May sleep; the caller
 * holds no other page lock.
 */
struct page *page_lookup(struct vm *, struct vnode *vp, voff_t off, enum page_se se);
/* The same without waiting: NULL also if the lock is busy. Safe with page locks held. */
struct page *page_lookup_nowait(struct vm *, struct vnode *vp, voff_t off, enum page_se se);
/* Is there a page of that name in memory? A hint: the result may be out of date. */
bool page_exists(struct vm *, struct vnode *vp, voff_t off);
/* What is in memory under a name: no page, a page that was prefetched and not used since, or
 * another page. A hint. */
enum page_peek { PAGE_ABSENT, PAGE_UNUSED, PAGE_USED };
enum page_peek page_peek(struct vm *, struct vnode *vp, voff_t off);
/* As page_lookup; also tells what page_peek would have returned just before. */
struct page *page_lookup_was(
    struct vm *, struct vnode *vp, voff_t off, enum page_se, enum page_peek *was);
/* Page locked: the page will not be used soon; page-out looks at it first. */
void page_cool(struct vm *, struct page *);
#define PG_WAIT 0x1u    /* reclaim and wait for memory as long as that can help */
#define PG_RESERVE 0x2u /* page-out itself: may use the reserve */
#define PG_ZERO 0x4u    /* contents zeroed */
#define PG_NODE(n)                                                                                 \
	(((n) + 1u) << 8) /* a frame of that node of memory, if one is free near the
                                      * heads of its lists */
#define PG_NEW 0x8u       /* the name is new: the policy's record of it belongs to another page */
/*
 * A new page named (vp, off), locked E, I/O-locked, contents undefined (unless PG_ZERO), not yet queued for replacement.
 * VM_EXIST: another thread gave a page the name meanwhile (look it up); VM_NOMEM.
 * With PG_WAIT it may sleep and reclaim: page-out only tries page locks, so the caller may hold the
 * lock of a page, which stays in memory. It must not hold locks on the only pages that could be
 * evicted.
 */
enum vm_err page_create(
    struct vm *, struct vnode *vp, voff_t off, unsigned flags, struct page **ppp);
/*
 * The page has its contents: drops the I/O lock and tells the policy of the page. prefetched: no
 * access asked for it yet. The S/E lock stays.
 */
void page_filled(struct vm *, struct page *, bool prefetched);
/*
 * Frees a page that is E-locked, unmapped and unwired; unlocks it. If its contents are clean, it goes to the tail of the cache list
 * (dontneed: to the head) and can be taken back by name; a dirty page, or one that was never filled, is destroyed.
 */
void page_free(struct vm *, struct page *, bool dontneed);
/* Page E-locked, unmapped, unwired: forgets identity and contents, frees the frame. Unlocks. */
void page_destroy(struct vm *, struct page *);
/* As page_destroy, of a page that page-out has chosen: the policy hears of an eviction. */
void page_evict(struct vm *, struct page *);
/* Page E-locked, and it stays so: gives it a new identity. If a page in use has that name the
 * caller is wrong; a page of the cache list loses it. */
void page_rename(struct vm *, struct page *, struct vnode *vp, voff_t off);

/* ---- locks ---- */
/* Waits for the page's lock. The caller knows that the page stays named meanwhile, and holds no other page lock. */
void page_lock(struct vm *, struct page *, enum page_se);
/* Never waits. False: the lock is busy, or the page is free or has no name. */
bool page_trylock(struct vm *, struct page *, enum page_se);
void page_unlock(struct vm *, struct page *);
bool page_tryupgrade(struct vm *,
    struct page *); /* S to E; false: there are other S holders, and the page is still locked S */
void page_downgrade(struct vm *, struct page *); /* E to S */
/* The I/O lock, page locked: page_io_lock waits for it, trylock answers false if it is taken. */
void page_io_lock(struct vm *, struct page *);
bool page_io_trylock(struct vm *, struct page *);
void page_io_unlock(struct vm *, struct page *);

/* ---- wiring: page locked S or E ---- */
enum vm_err page_wire(
    struct vm *, struct page *); /* VM_LIMIT: too much is wired; VM_NOMEM: count overflow */
void page_unwire(struct vm *, struct page *);

/* ---- kernel memory: frames that are never stolen; contiguous 2^order frames, at their direct address ---- */
struct page *page_kalloc(
    struct vm *, unsigned order, unsigned flags); /* NULL: none. PG_WAIT may reclaim */
void page_kfree(struct vm *, struct page *, unsigned order);

/* All pages of vp in [off, off+len) (len 0: to the end) are destroyed, wired ones, too: unmapped first, contents dropped. Waits for their
 * locks and I/O; no page lock held. */
void page_vnode_purge(struct vm *, struct vnode *vp, voff_t off, uint64_t len);

/* Contents through the direct address; page E-locked. Unloads translations where the machine has no direct map. */
void *page_mapin(struct vm *, struct page *);
/* The same, for a caller that is about to write all of the page: its contents may be lost. */
void *page_fillin(struct vm *, struct page *);
void page_copy(struct vm *, struct page *dst,
    struct page *src); /* both E (src S is enough with a direct map) */

/* ---- moving pages, runs of frames, bad frames: vm/frame/page_move.c ---- */
/*
 * The page, locked E, gets another frame; *ppp is the page from now on, still locked E. Its translations are dropped.
 * VM_LOCKED: wired, in I/O or in use by a device; VM_NOMEM. Never sleeps.
 */
enum vm_err page_relocate(struct vm *, struct page **ppp);
/* Constraints on a run of frames: pl_n frames, the first a multiple of pl_align, in [pl_min,
 * pl_max), not crossing a multiple of pl_boundary. 0: no such constraint. */
struct page_limits {
	pfn_t pl_n, pl_align, pl_boundary, pl_min, pl_max;
};
/* Kernel frames for a subsystem with such needs (a device's DMA, a table of the MMU). Returns the
 * first; NULL: there are none, or no run can meet the constraints. Pages are moved away from the
 * run; with PG_WAIT the call may sleep, and some pages are paged out. PG_ZERO: zeroed. */
struct page *page_alloc_contig(struct vm *, const struct page_limits *, unsigned flags);
void page_free_contig(struct vm *, struct page *, pfn_t n);
/* 2^order contiguous plain frames, aligned; the caller names them or gives them back to the buddy.
 * PFN_INVALID: none. */
pfn_t page_take_run(struct vm *, unsigned order, unsigned flags);
/* Gets this very frame, plain; its contents are moved away. False: it cannot be had now. */
bool page_take_frame(struct vm *, pfn_t);
/*
 * 2^order pages named (vp, off), ... in contiguous frames, aligned, each as page_create makes it;
 * *ppp is the first, the others follow it. off is a multiple of their size. VM_EXIST: one of the
 * names is taken; VM_NOMEM. flags as page_alloc_contig.
 */
enum vm_err page_create_large(
    struct vm *, struct vnode *vp, voff_t off, unsigned order, unsigned flags, struct page **ppp);
/*
 * The frame has memory errors: its page moves to another frame, and it is never used again. VM_OK
 * also if that was done before. VM_INVAL: the machine has no such frame; VM_LOCKED: it is wired,
 * kernel memory, or busy for long: try again later; VM_NOMEM; VM_NOMAP: off line. May sleep; the
 * caller holds no page lock.
 */
enum vm_err page_retire(struct vm *, pfn_t);
bool page_is_retired(struct vm *, pfn_t);
/*
 * Memory leaves a running system: every page in those frames is moved or paged out, then they go to mach_frames_release and
 * stay off line until they are added again. VM_INVAL: n is 0, or the machine has no such frames;
 * VM_LOCKED: some are wired, kernel memory or busy for long; VM_NOMEM: the other frames would not
 * be enough. On failure all frames are on line as before; pages may have moved. May sleep.
 */
enum vm_err vm_memory_remove(struct vm *, pfn_t first, pfn_t n);
/* Frames of the range that were removed are granted by the machine and free again; the others stay as they are. VM_INVAL: as
 * vm_memory_remove; VM_NOMEM: the machine does not grant so many, and nothing changed. */
enum vm_err vm_memory_add(struct vm *, pfn_t first, pfn_t n);
#endif
