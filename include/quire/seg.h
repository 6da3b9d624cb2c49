/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments: a range of an address space, an ops vector, private data. A driver is added by writing one ops vector.
 */
#ifndef QUIRE_SEG_H
#define QUIRE_SEG_H

#include <quire/types.h>

struct vnode;

/* A range in an ordered index (vm/as/range.c), which keeps a copy of its fields. The lock of the
 * index's owner guards it. */
struct range_node {
	vaddr_t r_base, r_end; /* [base, end) */
	uint8_t r_kind;        /* for the owner: ranges of different kinds are never merged */
};

struct seg {
	struct range_node s_node;    /* as->a_lock W */
	struct as *s_as;             /* const */
	const struct seg_ops *s_ops; /* const */
	void *s_data;                /* the driver's */
	uint32_t s_flags;            /* a_lock W */
};
#define S_HOLE 0x1u                    /* not counted in a_size */
#define S_SEALED 0x2u                  /* mseal: may not be unmapped, moved, protected, emptied */
#define S_WASWRITE 0x8u                /* was writable once, in a space with AS_WXORX */
#define S_SPREAD 0x10u                 /* pages lie on the nodes of memory in turn */
#define S_FOLLOW 0x20u                 /* pages move to the node that faults on them */
#define S_SIZE(n) ((uint32_t)(n) << 8) /* index of the page size wanted (as_setpagesize) */
#define S_SIZE_MASK 0xf00u
#define S_OWNLOCK                                                                                  \
	0x4u /* the driver locks translations by itself: they are not in the space's index of locks */
static inline vaddr_t seg_base(const struct seg *s) { return s->s_node.r_base; }
static inline vaddr_t seg_end(const struct seg *s) { return s->s_node.r_end; }
static inline uint64_t seg_size(const struct seg *s) { return seg_end(s) - seg_base(s); }

enum lock_op { SEG_LOCK, SEG_UNLOCK };
enum advice {
	ADV_NORMAL,
	ADV_RANDOM,
	ADV_SEQUENTIAL,
	ADV_WILLNEED,
	ADV_DONTNEED,
	ADV_FREE,
	ADV_COLD,
	ADV_PAGEOUT,
	ADV_POPULATE_READ,
	ADV_POPULATE_WRITE,
	ADV_REMOVE /* shared memory: the contents are dropped, for all sharers */
};
enum inherit { INHERIT_COPY, INHERIT_SHARE, INHERIT_NONE, INHERIT_ZERO };

#define INCORE_PRESENT 0x01 /* in memory */
#define INCORE_REF 0x02
#define INCORE_MOD 0x04
#define INCORE_LOCKED 0x08
#define INCORE_MAPPED 0x10 /* has a translation here */
#define INCORE_ANON 0x20
#define INCORE_SWAPPED 0x40 /* has a disk slot */

#define SYNC_ASYNC 0x1u
#define SYNC_INVAL 0x2u

/*
 * addr/len are page aligned and lie within the segment. "W"/"R" = how a_lock is held. No member may
 * be NULL; the seg_nosup_* functions (vm/seg/seg.c) return VM_NOTSUP or do nothing.
 */
struct seg_ops {
	const char *so_name;
	/* W, of the parent and the child. Makes nseg (range set, not yet in the child's index) a
	 * duplicate of seg. VM_NOMAP: the child does not get the segment, and the fork goes on.
	 * Any other failure fails the fork: VM_NOMEM, VM_NOSWAP, VM_LIMIT, VM_IO. */
	enum vm_err (*so_dup)(struct seg *seg, struct seg *nseg);
	/* W. Unmaps the whole segment and frees the driver's data; the core frees the segment afterwards. To unmap a part, the core has
	 * split the segment before. VM_LOCKED: a page is soft-locked, nothing changed. */
	enum vm_err (*so_unmap)(struct seg *seg);
	/* W. Split at addr: seg keeps [base, addr), nseg (allocated, range [addr, end)) gets its data. VM_NOMEM, VM_NOTSUP (the segment is mapped
	 * and unmapped as a whole): nothing changed. */
	enum vm_err (*so_split)(struct seg *seg, struct seg *nseg, vaddr_t addr);
	/* W. nseg directly follows seg in the same as with the same ops: merge nseg's data into seg if alike; true: nseg's data is gone. */
	bool (*so_concat)(struct seg *seg, struct seg *nseg);
	/* R. As as_fault. Never drops a_lock. */
	enum vm_err (*so_fault)(
	    struct seg *, vaddr_t addr, uint64_t len, enum fault_type, enum seg_rw);
	/* W. VM_ACCESS above maxprot; VM_NOSWAP or VM_LIMIT if the new writability cannot be reserved; VM_NOTSUP; VM_NOMEM: the rights are
	 * the old ones. The core has split the segment before: the call is for all of it. */
	enum vm_err (*so_setprot)(struct seg *, vaddr_t addr, uint64_t len, unsigned prot);
	/* R. VM_OK if every page allows prot, else VM_PROT. */
	enum vm_err (*so_checkprot)(struct seg *, vaddr_t addr, uint64_t len, unsigned prot);
	unsigned (*so_getprot)(struct seg *, vaddr_t addr); /* R */
	bool (*so_shared)(
	    struct seg *); /* R. Other mappings see what is written here (MAP_SHARED) */
	struct vnode *(*so_file)(
	    struct seg *, vaddr_t addr, voff_t *off); /* R. Takes no reference; NULL: the segment
	                                               * maps no file */
	/* R. Returns the number of pages whose frames were given up, for a whole-space swap-out. */
	uint64_t (*so_swapout)(struct seg *);
	/* R. flags: SYNC_*. VM_LOCKED: SYNC_INVAL of locked pages; VM_IO, or what the vnode answered.
	 * VM_OK if there is nothing to write. */
	enum vm_err (*so_sync)(struct seg *, vaddr_t addr, uint64_t len, unsigned flags);
	void (*so_incore)(
	    struct seg *, vaddr_t addr, uint64_t len, uint8_t *vec); /* R, one byte a page */
	/* R. lock: fault in and wire; the results of as_lock, and pages before a failure stay wired. unlock: VM_OK. */
	enum vm_err (*so_lockop)(struct seg *, vaddr_t addr, uint64_t len, enum lock_op);
	/* R; W for advice that changes the segment or drops contents. The results of as_advise. */
	enum vm_err (*so_advise)(struct seg *, vaddr_t addr, uint64_t len, enum advice);
	enum vm_err (*so_inherit)(struct seg *, enum inherit); /* W, whole segment */
	/* R. Adopt pages the machine has filled by itself (bit i of present = page i is at its address). VM_NOTSUP. */
	enum vm_err (*so_adopt)(
	    struct seg *, vaddr_t addr, uint64_t npages, const uint64_t *present);
	/* W. All of seg is about to move to naddr, perhaps in another space (nseg == seg: the core
	 * moves the segment itself): drops translations. VM_NOTSUP. With len 0: only tells whether
	 * it could move. */
	enum vm_err (*so_move)(
	    struct seg *seg, vaddr_t addr, uint64_t len, struct seg *nseg, vaddr_t naddr);
	/* W. nseg (range set, not in the index) becomes an empty segment with the attributes that
	 * seg would have off bytes from its base (off may be negative): growth of heaps and stacks,
	 * mremap. VM_NOTSUP, VM_NOMEM, VM_NOSWAP, VM_LIMIT; VM_INVAL: a file's offsets would wrap;
	 * VM_EOF: the owner of the memory has given it a size, which ends here. */
	enum vm_err (*so_alike)(struct seg *seg, struct seg *nseg, int64_t off);
	/* W of both spaces. nseg (of the same size, perhaps of another space, not in the index) becomes a private copy-on-write
	 * view of what seg contains now. VM_NOTSUP: the bytes must be copied. VM_NOMEM, VM_NOSWAP, VM_LIMIT, VM_IO. */
	enum vm_err (*so_snapshot)(
	    struct seg *seg, struct seg *nseg, unsigned prot, unsigned maxprot);
	/* R. The number of pages that the segment has reserved, counted in as_usage's au_swresv. */
	uint64_t (*so_reserved)(const struct seg *seg);
	/* R. The number of pages of the range that have contents of the segment's own.
	 * SEG_UNFILLED: faults do not fill this driver's memory, so the core makes no large pages
	 * of it. */
	uint64_t (*so_populated)(struct seg *, vaddr_t addr, uint64_t len);
	/* R. A debugger reads, or writes a private copy of, n bytes of the page of addr, whatever its protection.
	 * VM_RETRY: the caller is to copy with the program's own rights, without a_lock. */
	enum vm_err (*so_peek)(struct seg *, vaddr_t addr, void *buf, uint64_t n);
	enum vm_err (*so_poke)(struct seg *, vaddr_t addr, const void *buf, uint64_t n);
	bool so_core; /* a core file has the pages that so_incore calls INCORE_ANON */
	/* vm_check: may va be translated to that frame with those attributes? */
	bool (*so_translation_ok)(struct seg *, vaddr_t va, pfn_t, unsigned attr);
	/* vm_check: violations of the driver's own invariants. */
	unsigned (*so_check)(struct seg *, void (*report)(void *, const char *), void *arg);
};

#define SEG_UNFILLED UINT64_MAX

/* Creation callback of as_map: range is set, not yet in the index. Sets s_ops, s_data. On failure
 * it frees nothing of seg. */
typedef enum vm_err seg_create_fn(struct seg *, const void *args);

/* ---- segvn: files and anonymous memory ---- */
#define SEGVN_SHARED 0x1u
#define SEGVN_NORESERVE 0x2u
struct segvn_args {
	struct vnode *sa_vnode; /* NULL: anonymous */
	voff_t sa_off;          /* page aligned */
	unsigned sa_prot, sa_maxprot, sa_flags;
	enum advice sa_advice;
	struct anon_map
	    *sa_amp; /* an anon map that exists already, to share from sa_off on; or NULL */
	unsigned sa_pagesize; /* wanted: as as_setpagesize */
};
/* VM_INVAL: an offset that is not page aligned or would wrap, sa_prot above sa_maxprot, or an sa_amp that is too small, not shared or beside
 * a vnode; VM_NOTSUP: no such page size; VM_NOMEM, VM_NOSWAP, VM_LIMIT. */
seg_create_fn segvn_create;
/* seg_hole: reserved addresses, always VM_NOMAP; args unused. */
seg_create_fn seghole_create;
extern const struct seg_ops segvn_ops, seghole_ops;

/* Functions for members that a driver lacks: they return VM_NOTSUP or VM_OK as the name says. */
enum vm_err seg_nosup_fault(
    struct seg *, vaddr_t, uint64_t, enum fault_type, enum seg_rw); /* VM_NOMAP */
enum vm_err seg_nosup_prot(struct seg *, vaddr_t, uint64_t, unsigned);
uint64_t seg_noop_swapout(struct seg *);
bool seg_is_private(struct seg *);
bool seg_is_shared(struct seg *);
struct vnode *seg_no_file(struct seg *, vaddr_t, voff_t *);
enum vm_err seg_noop_sync(struct seg *, vaddr_t, uint64_t, unsigned);
void seg_noop_incore(struct seg *, vaddr_t, uint64_t, uint8_t *);
enum vm_err seg_nosup_lockop(struct seg *, vaddr_t, uint64_t, enum lock_op);
enum vm_err seg_noop_advise(struct seg *, vaddr_t, uint64_t, enum advice);
enum vm_err seg_nosup_inherit(struct seg *, enum inherit);
enum vm_err seg_nosup_adopt(struct seg *, vaddr_t, uint64_t, const uint64_t *);
enum vm_err seg_nosup_move(struct seg *, vaddr_t, uint64_t, struct seg *, vaddr_t);
enum vm_err seg_nosup_snapshot(struct seg *, struct seg *, unsigned, unsigned);
enum vm_err seg_nosup_alike(struct seg *, struct seg *, int64_t);
uint64_t seg_noop_reserved(const struct seg *);
uint64_t seg_unfilled_populated(struct seg *, vaddr_t, uint64_t);
enum vm_err seg_retry_peek(struct seg *, vaddr_t, void *, uint64_t);
enum vm_err seg_retry_poke(struct seg *, vaddr_t, const void *, uint64_t);
bool seg_any_translation_ok(struct seg *, vaddr_t, pfn_t, unsigned);
unsigned seg_noop_check(struct seg *, void (*)(void *, const char *), void *);
#endif
