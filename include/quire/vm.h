/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One virtual memory system: all its state belongs to a struct vm; a process may have several.
 */
#ifndef QUIRE_VM_H
#define QUIRE_VM_H

#include <quire/machine.h>
#include <quire/types.h>

/*
 * The lock table: rank, lock, what it guards. Taken in rising rank. A page's S/E lock is not ranked: it is taken between
 * RANK_SLOT and RANK_ANON; code that holds any rank > RANK_SLOT may only try to lock a page.
 */
enum vm_rank {
	RANK_VM = 10, /* vm_mutex: list of spaces, create/destroy, swap add/remove */
	RANK_AS =
	    20, /* as->a_lock (rw): the set of segments, their ranges and protections. R: fault; W: change */
	RANK_SEG = 30,  /* segment private data that changes under a_lock R */
	RANK_AMP = 40,  /* anon_map: am_lock: shape of the array, busy bits of slots */
	RANK_SLOT = 50, /* (busy bit of an anon map slot: waited for on am_cv) */
	/* From here on locks are never held across I/O (MACH_RANK_SPIN). */
	RANK_ANON =
	    MACH_RANK_SPIN, /* free anons of a CPU; + 1 vm_anonlock: the others, growth of the table, list of maps */
	RANK_SWAP = 70,  /* swap areas' bitmaps, reservation */
	RANK_VNODE = 80, /* a vnode's own lock (store) */
	/* a lock of vm_pagelocks: the names of its part of the hash, the locks and flags of pages that have them, its cache
	 * list. Inside it: + 1 pages that a CPU has not told the policy of, + 2 vm_pollock (the policy), + 3 vm_listlock
	 * (vnodes' lists of pages) */
	RANK_PAGE = 90,
	RANK_KMEM = 100, /* kmem caches and arenas */
	RANK_FREE = 110, /* buddy allocator of frames; - 1: a CPU's own batch of free frames */
	RANK_HAT = 120,  /* a port's own */
	RANK_LEAF = 130, /* statistics, traces: no lock is taken under it */
};

struct policy_ops;
struct prefetch_ops;

struct vm_config {
	struct mach *vc_mach;
	pfn_t
	    vc_frames; /* frames on line at start (<= mc_nframes); more by mach_frames_grant on demand */
	pfn_t vc_reserve;     /* frames only page-out may use; 0: default */
	uint64_t vc_anon_max; /* most anon slots ever; 0: default (8 M). Tables grow on demand */
	bool vc_overcommit;   /* reservation never fails */
	/* Called when the last reference to a vnode ends and pages of it could not be written back:
	 * they are lost. May be NULL. */
	void (*vc_lost)(void *arg, struct vnode *vp, uint64_t npages, enum vm_err why);
	void *vc_lostarg;
	/*
	 * Several systems may share a limit on promised pages. vc_promise: may this system promise
	 * npages more? touched: for pages that are being touched, of memory that is not reserved in
	 * full. vc_unpromise takes npages back. Both may be called with locks of the system held
	 * and may not sleep. NULL: swap areas and frames of this system decide.
	 */
	bool (*vc_promise)(void *arg, uint64_t npages, bool touched);
	void (*vc_unpromise)(void *arg, uint64_t npages);
	/*
	 * Called if vc_promise is NULL: pages for which the swap areas have no room now, though they
	 * have slots. So many fewer pages are promised, but for pages that are being touched. Called
	 * with locks of the system held; may not sleep. NULL: there are none.
	 */
	uint64_t (*vc_unbacked)(void *arg);
	void *vc_promisearg; /* argument of the three functions above */
	uint64_t
	    vc_cache_bytes; /* geometry of the largest physically indexed cache, for colours of frames; 0: none */
	unsigned vc_cache_ways; /* 0: 1 */
	unsigned vc_pagelocks; /* page locks are spread over so many locks by name; 0: by the number
	                        * of frames */
	pfn_t vc_zeropool;     /* vm_idle keeps up to so many frames zeroed */
	const struct policy_ops *vc_policy;     /* NULL: two-handed clock */
	const struct prefetch_ops *vc_prefetch; /* NULL: sequential window */
};

/* How many bytes vm_create will ask of mach_boot_alloc; vc_mach may be NULL, only its caps must be
 * known. */
size_t vm_boot_bytes(const struct vm_config *, const struct mach_caps *);
/*
 * Builds a system. VM_INVAL: no machine, no frames, more than mc_nframes, or vc_reserve is not below vc_frames; VM_NOMEM.
 * After a failure *vm is NULL, and the machine can only be destroyed: memory that mach_boot_alloc
 * gave stays taken.
 */
enum vm_err vm_create(const struct vm_config *, struct vm **);
/*
 * Ends a system that no thread uses any more: all spaces were freed, all vnodes but those of swap areas released, groups destroyed, the
 * thread of write-back stopped (vm_writeback_stop). Swap areas are dropped, with the references to their vnodes. May sleep.
 */
void vm_destroy(struct vm *);
struct mach *vm_machine(struct vm *); /* vc_mach: ports find their own state through it */

/*
 * Checks every invariant of the system at a quiescent point (no call in progress). Calls report(arg, text) per
 * violation and returns how many there were.
 */
unsigned vm_check(struct vm *, void (*report)(void *arg, const char *text), void *arg);

/* Named statistics. Counters only rise; gauges are marked. VM_STATS(X) lists them once. */
/* clang-format off */
#define VM_STATS(X)                                                                                                    \
	X(fault)                                                                                                       \
	X(fault_io)      /* faults that read: page-in of files, or of swap */                                          \
	X(fault_inval)                                                                                                 \
	X(fault_prot) X(fault_nomap) X(fault_err) X(zfod) X(cow) X(cow_reuse)                                          \
	    X(rescue)        /* page found mapped nowhere but still in memory, loaded again without I/O */             \
	    X(reclaim)       /* page taken back from the cache list */                                                 \
	    X(pgin) X(pgout) /* pages read from / written to backing store */                                          \
	    X(swapin) X(swapout) X(filein) X(fileout)                                                                  \
		X(clean_drop) /* evicted without I/O: the copy in the store is still valid */                                     \
	    X(pgin_io) X(pgout_io) X(prefetch) X(prefetch_hit) X(prefetch_waste)                                       \
		X(refault) /* page brought in that the policy remembers as evicted not long ago */         \
	    X(color_hit) X(color_miss) /* frames got in the cache colour wanted, or not */                             \
	    X(zero_ready)              /* a zeroed frame was wanted and one was ready */                               \
	    X(relocate)                /* pages moved to another frame */                                              \
	    X(contig) X(contig_fail) X(promote) X(retire) X(scan) X(scan_front) X(scan_back) X(scan_skip)              \
		X(share_skip) X(table_steal) X(pageout_wait) X(alloc_fail) X(alloc_reserve) X(io_error) X(adopted)     \
		    X(as_create) X(as_dup) X(seg_merge) X(seg_split) X(resv_fail) X(wired_skip) X(stack_grow)          \
			X(swapout_soft) X(swapout_hard)                                                                \
			    X(zero_shared) /* reads of unwritten memory that were given the page of zeroes */          \
	    X(map_around)                  /* pages in memory that were mapped ahead of a program that reads in order */ \
	    X(node_local) X(node_remote)   /* frames of the touching CPU's own node, or not */                         \
	    X(node_followed)		   /* pages moved to the node that faulted on them */                         \
	    X(lazy_free)                   /* pages whose contents may be dropped (ADV_FREE) */                                \
	    X(copy_bytes) X(reaper_call) X(reaper_freed) X(oom_call) X(trimmed) X(writeback) X(lost_page) X(dirty_log) \
		X(xfer_move) X(xfer_share) /* pages of transfers that moved or are shared */
/* clang-format on */
struct vm_stats {
#define X(n) _Atomic uint64_t n;
	VM_STATS(X)
#undef X
};

struct vm_usage { /* gauges, in pages */
	uint64_t vu_frames, vu_free, vu_cache, vu_wired, vu_kernel, vu_anon_slots, vu_swap_total,
	    vu_swap_used, vu_reserved, vu_resv_max, vu_policy; /* policy: pages that it may evict */
};
void vm_usage(struct vm *, struct vm_usage *);
/* The counters as they are now. The block is the system's, one for all callers: the next call, by any thread, brings it up to date. */
const struct vm_stats *vm_statistics(struct vm *);

/* Fault injection for tests: the nth (1 = next) allocation, I/O or attempt of that kind from now on fails, once; 0 turns it off. */
enum vm_inject {
	VM_INJECT_PAGE,
	VM_INJECT_KMEM,
	VM_INJECT_IO_READ,
	VM_INJECT_IO_WRITE,
	VM_INJECT_HAT,
	VM_INJECT_SWAP,
	VM_INJECT_PIN, /* hat_page_tryunload: a device has the page */
	VM_INJECT_N
};
void vm_inject(struct vm *, enum vm_inject, uint64_t nth);
uint64_t vm_inject_seen(
    struct vm *, enum vm_inject); /* how many such sites were passed since the last vm_inject */
bool vm_inject_fail(struct vm *, enum vm_inject); /* used at the sites */

/* ---- swap ---- */
/*
 * Adds an area of nslots pages backed by vp (a reference is taken). Higher priority is filled first, equals take turns. VM_INVAL: nslots is
 * 0 or above 2^31 - 1; VM_NOMEM: no memory, or all areas together would have more than 2^32 - 2 slots. May sleep.
 */
enum vm_err swap_add(struct vm *, struct vnode *vp, uint64_t nslots, int prio);
/*
 * Pages in all contents of the area, then removes it and drops the reference. VM_INVAL: vp is no
 * area, or another thread removes it; VM_NOSWAP: the remaining swap would not cover the
 * reservations; VM_NOMEM, VM_IO or another result of the vnode: some pages could not be brought in.
 * On failure the area stays, fully usable. May sleep; no core lock held.
 */
enum vm_err swap_remove(struct vm *, struct vnode *vp);
struct swap_info {
	const struct vnode *si_vnode; /* to be compared only: no reference is taken */
	uint64_t si_slots, si_used;
	int si_prio;
};
/* The area number n (0, 1, ...), highest priority first; false: there is no such number. The order
 * changes as areas are used. */
bool swap_query(struct vm *, unsigned n, struct swap_info *);

/* ---- page-out ---- */
/*
 * Frees at least n frames if it can, in the caller's thread; returns how many became free: n if the frames that another thread freed
 * meanwhile are enough. May sleep (it writes pages). Safe with any lock of rank <= RANK_SLOT held, and with page locks: pages that are
 * locked are passed over. Never allocates beyond the reserve.
 */
pfn_t pageout_reclaim(struct vm *, pfn_t n);
/* Takes up to n frames off line (evicting as needed) and gives them to mach_frames_release; returns how many.
 * The frames that page-out needs stay on line. May sleep; no lock held. */
pfn_t vm_shrink(struct vm *, pfn_t n);

/* For a port's idle CPUs (sim_idle): does a small piece of work that saves time later (zeroes
 * frames for vc_zeropool). False: there is none. */
bool vm_idle(struct vm *);
#endif
