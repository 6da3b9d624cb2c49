/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to vm/: the system's own structure. Lock marks: (c) const after create, (V) vm_mutex, (A) vm_anonlock,
 * (P) the lock of a page's name (struct page_lock), (S) vm_swaplock, (F) vm_freelock, (a) atomic.
 */
#ifndef QUIRE_VM_IMPL_H
#define QUIRE_VM_IMPL_H

#include <quire/anon.h>
#include <quire/as.h>
#include <quire/hat.h>
#include <quire/kmem.h>
#include <quire/machine.h>
#include <quire/page.h>
#include <quire/policy.h>
#include <quire/seg.h>
#include <quire/types.h>
#include <quire/vm.h>
#include <quire/vnode.h>

/* The only three functions of a C library that the core uses. */
void *memcpy(void *restrict, const void *restrict, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);

#ifndef NDEBUG
#define VM_STR2(x) #x
#define VM_STR(x) VM_STR2(x)
#define VM_ASSERT(e) ((e) ? (void)0 : mach_panic(__FILE__ ":" VM_STR(__LINE__) ": " #e))
#else
#define VM_ASSERT(e) ((void)sizeof(e))
#endif

#define VM_MAXORDER 10u    /* buddy blocks of up to 4 MiB */
#define VM_PAGELOCKS 64u   /* at most */
#define VM_LOCKFRAMES 256u /* frames for each of them */
#define VM_LOCKRUN                                                                                 \
	4u /* log2 of the pages in a row that have one lock: a sequential scan stays on one cache line */
#define VM_NO_SLOT 0u /* swap slot numbers are stored + 1 */
#define VM_LINE 64u /* bytes of a cache line: words that several CPUs write are kept so far apart */

/* One swap area. vm/anon/swap.c */
struct swap_area {
	struct swap_area *sw_next;            /* (S), by priority */
	struct vnode *sw_vnode;               /* (c) */
	uint64_t sw_nslots, sw_used, sw_hint; /* (S) */
	/* (S) the anon id that owns each slot; 0: free. The table is made in chunks, each when one
	 * of its slots is first used: a large area that is hardly used costs nothing. Word 0 of a
	 * chunk counts its used slots. */
	uint32_t **sw_chunk;
	uint32_t
	    sw_first; /* (c) first global slot number: an anon's an_swap says sw_first + slot + 1 */
	int sw_prio;
	bool sw_removing; /* (S) no new slots */
};

/* vm/anon/anon.c: chunked table of slots by id */
struct anon {
	uint32_t an_refcnt; /* (a) map entries that hold it; 0: free, an_swap links a free list */
	uint32_t an_swap;   /* (a) global swap slot + 1, 0: none */
};

/*
 * What each CPU has for itself, so that faults of several do not write the same cache lines. The
 * CPU number is a hint: the thread may be on another CPU by the time it is used, and nothing here
 * relies on it.
 */
#define VM_CPUS 16u /* at most; more CPUs share */
/*
 * How many ids or frames a CPU takes from the common lists at a time. A batch costs some cache
 * lines that another CPU wrote. A larger batch keeps two CPUs out of the same page of structures
 * (64 frames fill it), where the prefetcher of one CPU takes lines from the other. By
 * bench_core_threads first touches by two threads take 1.4 times as long as by one with batches of
 * 16, and 1.65 times with these; longer lists of pending pages make one thread slower.
 */
#define VM_PENDING 32u
#define VM_CPUFRAMES 128u
#define VM_CPUFRAMES_MIN 16384u /* a system with fewer frames keeps none by CPU */
struct vm_cpu {
	_Alignas(VM_LINE) struct vm_stats vc_stats;      /* (a) */
	uint64_t vc_inject[VM_INJECT_N];                 /* (a) sites passed */
	_Alignas(VM_LINE) struct mach_mutex vc_anonlock; /* RANK_ANON: the next two */
	anon_id vc_anonfree;                             /* free ids, linked by an_swap */
	_Atomic uint32_t vc_nanonfree;
	_Alignas(VM_LINE) struct mach_mutex
	    vc_pendlock; /* RANK_PAGE + 1: pages that the policy has not been told of */
	_Atomic uint32_t vc_npend;
	uint32_t vc_pend[VM_PENDING]; /* frame << 1 | prefetched */
	_Alignas(VM_LINE) struct mach_mutex
	    vc_framelock; /* RANK_FREE - 1: frames taken from the buddy, or not yet given back */
	_Atomic uint32_t vc_nframe;
	pfn_t vc_frame[VM_CPUFRAMES];
};

/* Everything about the pages whose names hash to it: vm/frame/page.c has the theory. */
struct page_lock {
	_Alignas(VM_LINE) struct mach_mutex pl_mutex; /* RANK_PAGE */
	struct mach_cv pl_cv;                         /* threads that wait for one of its pages */
	struct page_queue pl_cache;                   /* (P) the part of the cache list */
};

struct vm {
	/* machine */
	struct mach *vm_mach;            /* (c) */
	const struct mach_caps *vm_caps; /* (c) */
	struct vm_config vm_config;      /* (c) */
	struct mach_mutex vm_mutex;
	struct as *vm_aslist;                 /* (V) */
	struct vm_cpu *vm_cpu;                /* (c) [vm_cpumask + 1] */
	uint32_t vm_cpumask;                  /* (c) */
	struct vm_stats vm_stats;             /* (a) the sum, as vm_statistics found it last */
	uint64_t vm_inject_left[VM_INJECT_N]; /* (a) */

	/* pages: vm/frame/page.c, names: vm/frame/page_name.c */
	struct page *vm_pages;    /* (c) [vm_maxframes] */
	_Atomic pfn_t vm_nframes; /* (F) to change, it only grows: frames that were ever on line */
	pfn_t
	    vm_maxframes; /* (c) there can be; beyond vm_nframes the page structures are still zero */
	struct page_lock *vm_pagelocks; /* (c) [vm_lockmask + 1] */
	uint32_t vm_lockmask;           /* (c) */
	uint32_t
	    *vm_pagehash; /* (P) heads, by page_hashlink(): 2^vm_hashshift in a row share a lock */
	uint32_t vm_hashmask, vm_hashshift; /* (c) heads, log2 of the heads of one lock */
	_Atomic uint32_t vm_cachehand;      /* (a) the cache list to take a frame from next */
	struct mach_mutex vm_listlock;      /* RANK_PAGE + 3: vnodes' lists of pages */
	struct mach_mutex vm_pollock; /* RANK_PAGE + 2: the policy, its queues and its state */
	void *vm_polstate;            /* vm_pollock */
	pfn_t vm_polroom; /* vm_reclaimlock: what pol_resize was told last; 0: nothing yet */
	_Atomic uint64_t vm_vnodeid;            /* (a) next v_id */
	const struct policy_ops *vm_policy;     /* (c) */
	const struct prefetch_ops *vm_prefetch; /* (c) */

	/* frames: vm/frame/buddy.c */
	struct mach_mutex vm_freelock;
	struct page_queue vm_buddy[VM_MAXORDER + 1]; /* (F) */
	_Atomic uint32_t vm_nfree;                   /* (F) to change: frames in the buddy */
	_Atomic uint32_t vm_nonline;                 /* (F) to change */
	_Atomic uint32_t vm_nkernel, vm_nwired;      /* (a) */
	uint32_t vm_offline_hint;                    /* (F) */
	struct page_queue vm_zeropool;               /* (F) single free frames that are zero */
	uint32_t vm_nbarred;                         /* (F) off line for good */
	uint32_t vm_colormask;                       /* (c) cache colours - 1 */

	/* thresholds in frames, set by pageout_setup when vm_nonline changes: vm/reclaim/pageout.c */
	_Atomic uint32_t vm_lotsfree, vm_desfree, vm_minfree, vm_throttlefree, vm_reserve;
	struct mach_mutex
	    vm_reclaimlock; /* one reclaimer at a time; rank RANK_SLOT + 5; taken with tryenter or enter */
	struct as *vm_dead;              /* (a) spaces to free when no a_lock is held */
	struct mach_mutex vm_reaperlock; /* RANK_SLOT + 6 */
	struct vm_reaper *vm_reapers;    /* vm_reaperlock */
	enum vm_oom (*vm_oom)(void *, struct vm *, pfn_t); /* (a) */
	uint32_t vm_oomtries;                              /* (a): retries in a row */
	void *vm_oomarg;                                   /* set before vm_oom */
	pfn_t vm_writehand;                                /* (a): vm/reclaim/writeback.c */
	struct writer *vm_writer;                          /* const while the thread runs */
	struct page *vm_batch[VM_IO_PAGES]; /* vm_reclaimlock: dirty pages being written */
	struct mach_thread *vm_scanner;     /* (V) NULL: synchronous reclaim only */
	bool vm_stopping;

	/* Spaces: the structures that a large space has many of begin with a cache line that is all
	 * a fault reads. */
	struct kmem_cache *vm_rangenodes; /* (c) nodes of indexes of ranges */
	struct kmem_cache *vm_segs;       /* (c) struct seg */
	struct kmem_cache *vm_segvns;     /* (c) struct segvn_data */

	/* anonymous memory: vm/anon/ */
	struct vnode vm_swapfs; /* (c) names of anonymous pages */
	struct mach_mutex vm_anonlock;
	struct kmem_cache *vm_anonnodes; /* (c) tables of anon maps */
	struct kmem_cache *vm_anonmaps;  /* (c) */
	struct anon **vm_anonchunk;      /* (A) to add [vm_anonchunks_max] of VM_ANONCHUNK */
	_Atomic uint32_t vm_anonchunks;  /* (A) to add */
	uint32_t vm_anonchunks_max;      /* (c) */
	anon_id vm_anonfree;             /* (A) */
	uint32_t
	    vm_nanon; /* (A) slots in use, or free with a CPU: anon_count() says how many are in use */
	struct anon_map *vm_anonmaplist; /* (A) all maps */
	struct mach_mutex vm_swaplock;
	struct swap_area *vm_swapareas;     /* (S) */
	uint32_t vm_swapnext;               /* (S) next global slot number to give to an area */
	uint64_t vm_swaptotal, vm_swapused; /* (S) */
	uint64_t vm_resv,
	    vm_resvmax; /* (S) pages reserved; most that may be (swap slots + pageable frames) */

	struct mach_mutex vm_devlock; /* RANK_LEAF - 1 */
	struct devseg *vm_devsegs;    /* vm_devlock: vm/seg/seg_dev.c */
	struct page *
	    vm_zeropage; /* (a) the one page of zeroes that unwritten memory is mapped to; NULL: not yet */

	/* kernel memory: vm/kmem/kmem.c */
	struct kmem_state *vm_kmem; /* (c) */
};
#define VM_ANONCHUNK 512u /* 4 KiB */

static inline struct vm_cpu *vm_cpu_of(struct vm *vm)
{
	return &vm->vm_cpu[mach_cpu_id() & vm->vm_cpumask];
}
#define VM_STATN(vm, name, n)                                                                      \
	((void)__atomic_add_fetch(                                                                 \
	    (uint64_t *)(void *)&vm_cpu_of(vm)->vc_stats.name, (uint64_t)(n), __ATOMIC_RELAXED))
#define VM_STAT(vm, name) VM_STATN(vm, name, 1)

/* The result of an I/O of n pages of which the first ok succeeded: an error if not all did, even if
 * the store reported none. */
static inline enum vm_err vm_io_result(enum vm_err e, uint32_t ok, uint32_t n)
{
	if (ok == n)
		return VM_OK;
	return e != VM_OK ? e : VM_IO;
}

/* How many of len bytes at off lie within an object of that size. */
static inline uint64_t vm_within(uint64_t size, voff_t off, uint64_t len)
{
	if (off >= size)
		return 0;
	return len < size - off ? len : size - off;
}

/* The right that an access needs. */
static inline unsigned vm_prot_for(enum seg_rw rw)
{
	if (rw == S_WRITE)
		return PROT_W;
	return rw == S_EXEC ? PROT_X : PROT_R;
}

/* Takes a reference to an object whose last reference may be dropped at the same time: false if it is gone already. */
static inline bool vm_tryhold(uint32_t *refcnt)
{
	uint32_t n = __atomic_load_n(refcnt, __ATOMIC_ACQUIRE);

	while (n > 0)
		if (__atomic_compare_exchange_n(
			refcnt, &n, n + 1, true, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

static inline bool vm_is_zeropage(const struct vm *vm, pfn_t pfn)
{
	const struct page *zero = __atomic_load_n(&vm->vm_zeropage, __ATOMIC_ACQUIRE);

	return zero != NULL && pfn == (pfn_t)(zero - vm->vm_pages);
}

#define AS_HINTS 2u /* more CPUs share: a space is to stay small */
#define AS_HINTSTEP (VM_LINE / sizeof(void *))
/* vm/as/range.c. Empty when zero. Its owner's lock */
struct range_index {
	struct rnode *ri_root, *ri_spare;
	uint64_t ri_nodes, ri_nspare; /* in use and spare; spare */
	uint64_t ri_promised;         /* ranges that may be in it */
};

/* From the root to a leaf: node[0] is the root, node[k + 1] the child at[k] of node[k]. */
#define R_LEVELS 16u
struct range_path {
	struct rnode *p_node[R_LEVELS];
	unsigned p_at[R_LEVELS];
	unsigned p_leaf; /* the index of the leaf */
};

struct as {
	struct vm *a_vm;            /* (c) */
	struct hat *a_hat;          /* (c) */
	struct as *a_next, *a_prev; /* (V) */
	struct mach_rwlock a_lock;
	struct range_index a_index; /* a_lock: segments */
	struct seg *_Atomic
	    a_last[(AS_HINTS - 1) * AS_HINTSTEP + 1]; /* hints by CPU, a cache line apart; a_lock */
	vaddr_t a_min, a_max;                         /* (c) */
	uint64_t a_size;                              /* a_lock W: bytes, without holes */
	uint64_t a_nsegs;                             /* a_lock W */
	uint64_t a_maxsize, a_maxlocked, a_maxresv, a_maxrss; /* a_lock W */
	struct vm_group *a_group;                             /* a_lock W */
	vaddr_t a_trimhand;                  /* a_lock W: where the last trim stopped */
	_Atomic uint64_t a_swresv, a_locked; /* pages */
	bool a_lockfuture;                   /* a_lock W */
	_Atomic uint32_t a_refcnt;
	uint32_t a_borrowed;                /* (V) */
	struct mach_cv a_cv;                /* with vm_mutex: a borrower returned */
	vaddr_t a_brkbase, a_brk, a_brkmax; /* a_lock W: heap; a_brkmax 0: none */
	vaddr_t a_stackbase, a_stackmin,
	    a_stacktop;                  /* a_lock W: lowest now, lowest ever, end; top 0: none */
	uint64_t a_stackguard;           /* a_lock W: bytes kept free below the stack */
	uint8_t a_heapsize, a_stacksize; /* a_lock W: page sizes wanted, vm/as/as_large.c */
	bool a_wxorx;                    /* a_lock W: vm/as/as_wxorx.c */
	uint64_t
	    a_random; /* a_lock W: the next random place is drawn from it; 0: places are not random */
	struct mach_mutex a_cbmtx;       /* RANK_LEAF - 1: vm/as/as_callback.c */
	struct mach_cv a_cbcv;           /* with a_cbmtx: a callback ended, a soft lock went */
	struct as_callback *a_callbacks; /* a_cbmtx */
	uint64_t a_cbround, a_cbunlocks; /* a_cbmtx */
	uint32_t a_cbwaiters;            /* (a) */
	struct as *a_deadnext; /* vm_dead's: the last reference went under another space's a_lock */
	struct swapset *a_swapset; /* a_lock W: what the last swap-out gave up */
	struct mach_mutex
	    a_lockmtx; /* rank RANK_SLOT + 8: which pages are locked, vm/as/as_lock.c */
	struct range_index a_lockindex; /* a_lockmtx; only ever grows */
	bool a_anylock;                 /* (a) a_lockindex is not empty */
};

/* vm/as/range.c: the index of ranges. The creator of a range has been promised room for it before
 * the range is inserted. */
bool range_reserve(
    struct range_index *, struct vm *); /* promises room for one more range; false: no memory */
/* The same without sleeping. False: *spare is NULL and a node is wanted (range_spare, which may sleep). */
bool range_promise(struct range_index *, void **spare);
void *range_spare(struct vm *);
void range_spare_free(struct vm *, void *); /* or NULL */
void range_unreserve(struct range_index *,
    struct vm *); /* takes a promise back: a range is out of the index for good */
void range_insert(struct range_index *, struct range_node *); /* must not overlap */
void range_remove(struct range_index *, struct range_node *);
void range_resize(struct range_index *, struct range_node *, vaddr_t base,
    vaddr_t end);                                                   /* order must not change */
struct range_node *range_find(const struct range_index *, vaddr_t); /* containing */
struct range_node *range_find_ge(
    const struct range_index *, vaddr_t); /* containing or the next above */
void range_rekind(struct range_index *, struct range_node *,
    uint8_t kind); /* changes the range's r_kind, and the index's copy of it */
/* Where [base, end) would go. False: there is a range in it. */
bool range_place(const struct range_index *, vaddr_t base, vaddr_t end, struct range_path *);
/* r, not in the index yet, is to go there: the ranges of its kind that it touches, or NULL. Others are not read. */
void range_touching(const struct range_index *, const struct range_path *,
    const struct range_node *r, struct range_node **below, struct range_node **above);
void range_insert_at(
    struct range_index *, struct range_path *, struct range_node *); /* the index has not changed
                                                                      * since range_place */
struct range_node *range_next(const struct range_index *, const struct range_node *);
bool range_gap(const struct range_index *, uint64_t len, uint64_t align, vaddr_t min, vaddr_t max,
    bool high, vaddr_t *out);
unsigned range_check(const struct range_index *, void (*report)(void *, const char *), void *arg);
size_t range_node_bytes(void);
unsigned range_levels(const struct range_index *); /* nodes that a search reads */

/* vm/frame/buddy.c */
enum vm_err buddy_init(struct vm *);
pfn_t buddy_alloc(struct vm *, unsigned order,
    bool reserve); /* PFN_INVALID; respects vm_reserve unless reserve */
void buddy_free(struct vm *, pfn_t, unsigned order);
void buddy_know(
    struct vm *, pfn_t upto); /* the frames below it are off line, the others were never on line */
pfn_t buddy_online(struct vm *, pfn_t n); /* asks mach_frames_grant; returns how many came */
pfn_t buddy_offline_free(
    struct vm *, pfn_t n); /* takes free frames off line, discards and releases them */
pfn_t buddy_alloc_floor(
    struct vm *, unsigned order, uint32_t floor); /* leaves at least floor frames free */
void buddy_settle(struct vm *);                   /* every CPU's frames go back into blocks */
uint32_t buddy_laid_by(
    struct vm *); /* how many frames the CPUs have; they are free, but not counted in vm_nfree */
unsigned buddy_check(struct vm *, void (*report)(void *, const char *), void *arg);
#define BUDDY_NONE 0xffu /* p_order of a frame that is not the first of a free block */
/* of an off-line frame that stays so: a bad frame; a frame that the operator took out; of a free frame that is being collected */
#define BUDDY_RETIRED 0xfeu
#define BUDDY_REMOVED 0xfdu
#define BUDDY_TAKEN 0xfcu
#define BUDDY_HOLE 0xfbu /* no memory, or the machine's own (mach_caps.mc_holes) */
/* One frame, of that colour and zeroed (P_ZEROED says whether it is) if it is easily had. */
pfn_t buddy_alloc_page(struct vm *, uint32_t color, bool zero, bool reserve);
bool buddy_remove_frame_locked(
    struct vm *, pfn_t); /* takes the frame out of its free block; the caller keeps the counts */
/* vm/frame/node.c: a frame of that node, or of the CPU's own; PFN_INVALID: not easily */
pfn_t numa_alloc(struct vm *, unsigned node, uint32_t floor);
pfn_t numa_alloc_here(struct vm *, uint32_t floor);
unsigned vm_node_here(const struct vm *); /* the node of the CPU; only where there are nodes */
bool buddy_take(struct vm *, pfn_t);      /* this free frame; false: it is not free */
void buddy_bar(
    struct vm *, pfn_t, unsigned why); /* a plain frame of the caller's goes off line for good */
void buddy_bar_offline(struct vm *, pfn_t, unsigned why); /* ... a frame that is off line already */
pfn_t buddy_unbar(
    struct vm *, pfn_t, pfn_t n, unsigned why); /* ... and is free again; how many were barred so */
bool buddy_pool_zeroed(
    struct vm *, pfn_t max); /* one more frame for the zero pool; false: enough */

/* vm/frame/page.c; names and their locks: vm/frame/page_name.c; page locks: vm/frame/page_lock.c */
enum vm_err page_init(struct vm *);
/* Bytes that the _init functions take of mach_boot_alloc; each piece is rounded up to lines. */
#define VM_BOOT_ROUND(bytes) (((size_t)(bytes) + VM_LINE - 1) & ~(size_t)(VM_LINE - 1))
size_t page_boot_bytes(const struct vm_config *, const struct mach_caps *);
size_t kmem_boot_bytes(const struct mach_caps *);
size_t anon_boot_bytes(const struct vm_config *);
void page_fini(struct vm *);
uint64_t page_name_hash(const struct vnode *, voff_t);
/* Converts between a frame and its link in the hash, which is complemented, so that a table of
 * zeroes is empty and needs no writing at first. */
static inline uint32_t page_hashlink(uint32_t i) { return ~i; }
unsigned page_check(struct vm *, void (*report)(void *, const char *), void *arg);
struct page *page_lookup_notouch(
    struct vm *, struct vnode *, voff_t, enum page_se); /* not a use: for destroyers */
/* The same without waiting: NULL also if the page lock is busy. For pages that are mapped ahead of their first use. */
struct page *page_lookup_hint(struct vm *, struct vnode *, voff_t, enum page_se);
void page_purge_range(
    struct vm *, struct vnode *, voff_t, uint64_t len, bool spare_wired); /* as page_vnode_purge */
/*
 * Are n frames free beyond the threshold at which page-out begins? Asks the machine for more frames
 * first. For work ahead of its use: a machine that grants frames on demand has few free otherwise.
 * Takes vm_freelock.
 */
bool page_room(struct vm *, pfn_t n);
pfn_t page_cache_drain(struct vm *,
    pfn_t n); /* cache list pages made nameless frames of the buddy; returns how many */
/* vm/frame/page_move.c: moves the page to another frame. The page is E-locked and unwired; pfn is a
 * plain frame of the caller's, which gets the old frame instead, plain. Returns the page's new
 * structure, E-locked; NULL: a device uses the old frame (hat_page_tryunload), nothing changed. */
struct page *page_replace_frame(struct vm *, struct page *, pfn_t);
/* page_name_enter takes the lock of a name, page_enter that of a page, whatever its name is by
 * then. */
struct page_lock *page_name_enter(struct vm *, const struct vnode *, voff_t);
struct page_lock *page_enter(struct vm *, const struct page *);
/* Has the frame, of which the caller knew nothing, a name that stays while pl, got by page_enter,
 * is held? A frame that is being named just now may have another lock: p_lockno is written before
 * p_vnode. */
static inline bool page_named_locked(
    struct vm *vm, const struct page *pp, const struct page_lock *pl)
{
	VM_ASSERT(mach_mutex_held(&pl->pl_mutex));
	return __atomic_load_n(&pp->p_vnode, __ATOMIC_ACQUIRE) != NULL &&
	    &vm->vm_pagelocks[__atomic_load_n(&pp->p_lockno, __ATOMIC_RELAXED)] == pl;
}
/* The lock of the page's present name, and whether the caller has it. */
static inline struct page_lock *page_lock_of(struct vm *vm, const struct page *pp)
{
	return &vm->vm_pagelocks[__atomic_load_n(&pp->p_lockno, __ATOMIC_RELAXED)];
}
static inline bool page_held(struct vm *vm, const struct page *pp)
{
	return mach_mutex_held(&page_lock_of(vm, pp)->pl_mutex);
}
static inline void page_exit(struct page_lock *pl) { mach_mutex_exit(&pl->pl_mutex); }
/* Wire counts may be read without the page's lock, as a hint. */
static inline unsigned page_lckcnt(const struct page *pp)
{
	return __atomic_load_n(&pp->p_lckcnt, __ATOMIC_RELAXED);
}
static inline void page_lckcnt_set(struct page *pp, unsigned n)
{
	__atomic_store_n(&pp->p_lckcnt, (uint16_t)n, __ATOMIC_RELAXED);
}
uint32_t page_lockno(struct vm *, const struct vnode *, voff_t); /* index of vm_pagelocks */
uint32_t page_bucket(struct vm *, const struct vnode *, voff_t); /* index of vm_pagehash */
uint32_t page_cached(struct vm *);                               /* pages on the cache list */
/* Tells the policy whether a page that pol_next named was used; page_seen_unlock then unlocks the
 * page. */
void page_seen(struct vm *, struct page *, bool referenced, bool skipped);
void page_seen_unlock(struct vm *, struct page *, bool referenced, bool skipped);
/* The caller holds the lock of the page's name (_locked): */
void page_begin_locked(struct vm *, struct page *, struct vnode *,
    voff_t); /* a plain frame becomes a page being created */
void page_name_locked(struct vm *, struct page *, struct vnode *, voff_t);
void page_unname_locked(struct vm *, struct page *);
void page_uncache_locked(
    struct vm *, struct page *); /* an unlocked page of the cache list becomes a plain frame */
struct page *page_find_locked(struct vm *, const struct vnode *, voff_t);
bool page_trylock_locked(
    struct vm *, struct page *, enum page_se); /* false also for free and kernel pages */
void page_unlock_locked(struct vm *, struct page *);
void page_seen_locked(struct vm *, struct page *, bool referenced, bool skipped);
void page_wake_locked(struct vm *, struct page *);
void page_wait_locked(struct vm *, struct page *);
void page_timedwait_locked(struct vm *, struct page *, uint64_t ns);
void page_pol_insert_locked(
    struct vm *, struct page *, bool prefetched); /* no-op if queued or wired */
bool page_pol_settle(
    struct vm *); /* the policy is told of every page, with no lock held; false: it knew them all */
void page_pol_remove_locked(struct vm *, struct page *, bool evicted); /* no-op if not queued */
void page_pol_touch_locked(struct vm *, struct page *);                /* queued */
/* vm/kmem/kmem.c, vm/kmem/vmem.c */
enum vm_err kmem_init(struct vm *);
void kmem_fini(struct vm *);
unsigned kmem_check(struct vm *, void (*report)(void *, const char *), void *arg);
struct kmem_cache *kmem_vmem_tags(struct vm *); /* the cache of arenas' boundary tags */
/* vm/anon/anon.c */
enum vm_err anon_init(struct vm *);
void anon_fini(struct vm *);
/* vm_check. count_map_refs: anonmap_count_refs, a file above. */
unsigned anon_check(struct vm *, bool (*count_map_refs)(struct vm *, bool back),
    void (*report)(void *, const char *), void *arg);
/* vm/anon/anon_map.c */
enum vm_err anonmap_init(struct vm *);
void anonmap_fini(struct vm *);
/* Every reference of every map is taken off its anon's count, or put back. False: the map holds an
 * id that was never allocated. */
bool anonmap_count_refs(struct vm *, bool back);
/* vm/anon/swap.c */
void swap_free_slot(struct vm *, uint32_t slot_plus1); /* also vo_discard */
void swap_dropped(struct vm *, uint32_t slot_plus1);
enum vm_err swap_alloc_cluster(
    struct vm *, uint32_t want, uint32_t *first_plus1, uint32_t *got); /* contiguous */
struct swap_area *swap_area_of(
    struct vm *, uint32_t slot_plus1, voff_t *off); /* the area stays while a slot of it is in
                                                     * use */
anon_id swap_owner(struct vm *, uint32_t slot_plus1,
    uint32_t n); /* the owner of the nth slot after it in its area; 0: none */
bool swap_owned(struct vm *, uint32_t slot_plus1, anon_id); /* vm_check */
void swap_drop(struct vm *, struct swap_area *);
uint64_t swap_resv_max_locked(struct vm *);
uint32_t anon_bind(struct vm *, const struct page *, uint32_t slot_plus1);
bool anon_swapped(struct vm *, anon_id);
/* Has the CPU fetch the cache lines of the anon and of its page's hash chain, which are needed soon. */
void anon_prefetch(struct vm *, anon_id);
/* As anon_getpage, for a caller that has just looked for the page in memory and not found it. */
enum vm_err anon_bring(
    struct vm *, anon_id, enum page_se, unsigned hint, unsigned flags, struct page **);
void anon_dropped(struct vm *, anon_id); /* its page leaves memory clean: tells the swap area */
bool anon_follows(
    struct vm *, anon_id, anon_id next, uint32_t n); /* next's copy is n slots after the first
                                                      * anon's on disk. A hint */
/* Reads those of the anons that are on disk only, into frames that the flags choose (PG_NODE or 0).
 * The caller holds no page */
void anon_read_ahead(struct vm *, const anon_id *, const unsigned *flags, uint32_t n);
/* vm/file/pvn.c */
/* As pvn_getpage; the same read may bring up to `before` pages that end just before off. */
enum vm_err pvn_getpage_around(struct vm *, struct vnode *, voff_t off, enum page_se,
    unsigned before, unsigned hint_pages, struct page **);
void pvn_read_ahead(struct vm *, struct vnode *, const voff_t *, uint32_t n);
void pvn_filled_ahead(struct vm *, struct page **, uint32_t n,
    uint32_t ok); /* the first ok were read; unlocks, destroys */
bool anon_holds_slot(struct vm *, anon_id, uint32_t slot_plus1);
bool anon_tryhold(struct vm *, anon_id);
uint32_t anon_count(struct vm *); /* slots in use */
/* vm_check. holds: anon_holds_slot, a file above. */
unsigned swap_check(struct vm *, bool (*holds)(struct vm *, anon_id, uint32_t slot_plus1),
    void (*report)(void *, const char *), void *arg);
/* Removal of an area: swap_close_area stops it (VM_INVAL, VM_NOSWAP), swap_open_area lets it be
 * used again. */
enum vm_err swap_close_area(struct vm *, struct vnode *, struct swap_area **);
void swap_open_area(struct vm *, struct swap_area *);
uint64_t swap_area_used(struct vm *, const struct swap_area *);
anon_id swap_slot_owner(struct vm *, const struct swap_area *, uint64_t slot); /* 0: none yet */
void swap_set_owner(struct vm *, uint32_t slot_plus1, anon_id);
/* vm/reclaim/pageout.c */
void pageout_setup(struct vm *); /* thresholds; call when vm_nonline changed */
void pageout_start(struct vm *); /* the scanner thread where the machine has threads and wants it */
void pageout_stop(struct vm *);
/* True: memory may be available, perhaps after waiting; false: nothing can be reclaimed. Called by
 * page_create/page_kalloc with PG_WAIT. */
bool pageout_wait(struct vm *, pfn_t want);
/* vm/seg/seg.c: hat_memload that retries conflicts, and reclaims frames when page tables need
 * memory. Page locked. VM_NOMEM. */
enum vm_err seg_load(struct as *, vaddr_t, struct page *, unsigned attr, unsigned flags);
/* vm/as/as_seg.c */
struct seg *seg_alloc(struct as *, vaddr_t base, vaddr_t end); /* NULL: no memory */
void seg_free(struct seg *);                                   /* the structure alone */
/* Allocated and created, not in the index yet; *sp is NULL on failure. */
enum vm_err seg_make(
    struct as *, vaddr_t base, vaddr_t end, seg_create_fn *, const void *args, struct seg **sp);
void seg_attach(struct as *, struct seg *);  /* a_lock W */
void seg_rekind(struct seg *);               /* a_lock W: it has other rights or flags now */
void seg_detach(struct seg *);               /* a_lock W */
void seg_unmap(struct seg *);                /* a_lock W: frees the segment, too */
struct seg *as_segat(struct as *, vaddr_t);  /* a_lock */
struct seg *as_seg_ge(struct as *, vaddr_t); /* a_lock: at or above */
void as_hints_drop(struct as *);             /* a_lock W: a segment was removed */
struct seg *seg_next(struct seg *);          /* a_lock */
enum vm_err as_split(
    struct as *, vaddr_t); /* a_lock W: a boundary at va, if it is mapped. VM_NOMEM */
void as_merge(
    struct as *, vaddr_t, vaddr_t end); /* a_lock W: alike neighbours that meet in [va, end] */
bool as_range(
    struct as *, vaddr_t *addr, uint64_t *len); /* rounds to pages; false: wraps or out of bounds */
bool as_mapped(struct as *, vaddr_t, uint64_t len);     /* a_lock: without a gap */
bool as_range_free(struct as *, vaddr_t, uint64_t len); /* a_lock */
bool as_sealed(
    struct as *, vaddr_t, uint64_t len); /* a_lock held: is a segment of the range sealed? */
enum vm_err as_gap_locked(
    struct as *, uint64_t len, uint64_t align, vaddr_t min, vaddr_t max, bool high, vaddr_t *);
/* vm/as/as_mapin.c */
enum vm_err as_map_locked(
    struct as *, vaddr_t, uint64_t len, seg_create_fn *, const void *args); /* a_lock W */
enum vm_err as_unmap_locked(struct as *, vaddr_t, uint64_t len);            /* a_lock W */
/* a_lock W. The segment at from is continued over [addr, +len), which is free; the new part is
 * wired if asked. */
enum vm_err as_extend_locked(struct as *, struct seg *from, vaddr_t addr, uint64_t len, bool wire);
/* vm/as/as_fault.c */
enum vm_err as_fault_locked(
    struct as *, vaddr_t, uint64_t len, enum fault_type, enum seg_rw); /* a_lock R or W */
/* vm/as/as_wire.c */
/* a_lock. tolerant: pages that cannot be accessed are left out. */
enum vm_err as_wire_range(struct as *, vaddr_t, uint64_t len, bool tolerant);
/* vm/as/as_swap.c */
void as_swapset_free(struct as *);
/* vm/as/as.c */
void as_free_later(struct as
	*); /* as as_free, but with an a_lock held: the next as_free or as_unmap of any thread frees
	     * the space */
/* vm/as/as_map.c */
void as_lock_two(struct as *a, struct as *b); /* a_lock W of both, perhaps the same */
void as_unlock_two(struct as *a, struct as *b);
enum vm_err as_move_locked(
    struct as *, vaddr_t, uint64_t len, struct as *dst, vaddr_t); /* a_lock W of both */
/* vm/as/limits.c */
/* Counts and reserves; touched: as for anon_reserve. VM_LIMIT, VM_NOSWAP */
enum vm_err as_charge_resv(struct as *, uint64_t npages, bool touched);
void as_forget_resv(struct as *,
    uint64_t npages); /* counts no longer; the reservation itself is another segment's now */
void as_adopt_resv(struct as *, uint64_t npages); /* the counterpart, in the space that takes the
                                                   * segment over */
bool as_charge_wired(struct as *); /* charges a locked page; false: the limit is reached */
void as_uncharge_wired(struct as *);
void as_inherit_limits(struct as *child, const struct as *parent);
void as_leave_group(struct as *);
/* vm/as/as_callback.c: no lock of the space is held */
void as_callbacks_init(struct as *);
void as_callbacks_fini(struct as *);
bool as_callbacks_run(
    struct as *, vaddr_t, uint64_t len, unsigned event); /* its holder releases it soon */
bool as_callbacks_free(
    struct as *, vaddr_t, uint64_t len, unsigned event); /* the range is free of soft locks now */
void as_callbacks_unlocked(struct as *);
/* vm/as/as_wxorx.c, vm/as/as_secure.c */
bool as_secure_prot(const struct as *, struct seg *, unsigned prot);
void as_secure_note(const struct as *, struct seg *, unsigned prot);
void as_secure_dup(const struct as *parent, struct as *child);
enum vm_err as_random_gap(struct as *, uint64_t len, uint64_t align, vaddr_t max, vaddr_t *addr);
/* vm/reclaim/pressure.c */
uint64_t pressure_reap(struct vm *, pfn_t want); /* frames that the reapers freed */
bool pressure_oom(struct vm *, pfn_t want);      /* the out-of-memory policy says: try again */
/* vm/as/as_grow.c: a fault found nothing at addr. VM_OK: the stack has grown over it. Takes a_lock. */
enum vm_err as_stack_grow(struct as *, vaddr_t addr);
/* vm/as/as_large.c: va was just written in a segment that wants large pages (a_lock R) */
void as_enlarge(struct seg *, vaddr_t va);
/* Moves the page loaded at va to that frame, which is the caller's; the page's old frame becomes
 * free. False: it stays. */
bool as_page_move(struct as *, vaddr_t va, pfn_t to, unsigned attr);
void as_follow(struct seg *, vaddr_t va,
    uint64_t len); /* vm/as/as_node.c: [va, +len) was just faulted on, in a segment that follows
                    * (a_lock R) */
vaddr_t as_block(const struct as *, vaddr_t va,
    unsigned size); /* the start of the block of that page size around va */
/*
 * vm/as/as_lock.c: which pages of a space are locked, by address: splits and merges of segments do not concern it.
 * However many locks an address has, its page is wired once for it. The page is locked (S or E) in
 * add and del.
 */
#define LOCK_WIRED 0x8000u                 /* memory lock */
#define LOCK_SOFT 0x7fffu                  /* the number of soft locks */
bool aslock_prepare(struct as *, vaddr_t); /* room to count; false: no memory */
unsigned aslock_get(struct as *, vaddr_t);
enum vm_err aslock_add(struct as *, vaddr_t, struct page *,
    bool wired); /* VM_LIMIT, VM_NOMEM; a second wired is no-op */
unsigned aslock_del(struct as *, vaddr_t, struct page *, bool wired); /* what is left */
bool aslock_next(
    struct as *, vaddr_t *va, vaddr_t end, unsigned mask); /* next page >= *va with any of mask */
void aslock_free(struct as *);
/* a_lock W: the locks of a page go with it to another address of the space (prepared). */
void aslock_move(struct as *, vaddr_t from, vaddr_t to);
/* vm/as/as.c */
unsigned as_check(struct as *, void (*report)(void *, const char *), void *arg);
bool anon_count_ref(struct vm *, anon_id, bool back);
#endif
