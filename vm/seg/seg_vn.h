/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to segvn (seg_vn.c, seg_vn_ops.c) and the checker. The theory is at the head of seg_vn.c. */
#ifndef QUIRE_VM_SEG_VN_H
#define QUIRE_VM_SEG_VN_H

#include "vm/impl.h"

#include <stddef.h>

struct segvn_data {
	/* What every fault reads, and a merge of neighbours: one cache line. */
	struct vnode *svd_vp;           /* a_lock W; a reference. NULL: anonymous */
	voff_t svd_off;                 /* a_lock W: of the segment's base */
	struct anon_map *svd_amp;       /* svd_lock to set under a_lock R; a reference */
	uint64_t svd_anon_index;        /* a_lock W: of the segment's base in svd_amp */
	unsigned svd_prot, svd_maxprot; /* a_lock W */
	unsigned svd_flags;             /* a_lock W: SEGVN_* */
	enum advice svd_advice;         /* a_lock W */
	enum inherit svd_inherit;       /* a_lock W */
	bool svd_full;    /* a_lock W: every page is reserved; otherwise each page is when it gets
	                   * an anon */
	bool svd_foreign; /* a_lock W: the map or its owner reserves, not the segment */
	bool svd_dupped;  /* a_lock W: some of its anons may be shared with another map */
	_Atomic uint64_t svd_swresv; /* (a) pages reserved */
	struct mach_mutex svd_lock;  /* RANK_SEG: making svd_amp */
	uint64_t
	    svd_zero_next; /* page after the last one filled with zeroes; hint, no lock, see svd_hint */
	uint64_t svd_zero_prev; /* page before them, where memory is touched downwards; the same */
	uint64_t svd_pf[PF_WORDS]; /* the same */
};
_Static_assert(offsetof(struct segvn_data, svd_lock) == VM_LINE, "a fault reads one line");

static inline struct segvn_data *svd_of(const struct seg *s) { return s->s_data; }
/*
 * Hints are words that faults of several threads read and write without a lock, on purpose: no word
 * is torn, and a lost update only makes a guess worse.
 */
static inline uint64_t svd_hint(const uint64_t *hint)
{
	return __atomic_load_n(hint, __ATOMIC_RELAXED);
}
static inline void svd_hint_set(uint64_t *hint, uint64_t to)
{
	__atomic_store_n(hint, to, __ATOMIC_RELAXED);
}
static inline bool svd_shared(const struct segvn_data *svd)
{
	return (svd->svd_flags & SEGVN_SHARED) != 0;
}
/* Internal flags beside SEGVN_*: the map is shared by the segments that were dupped from one (INHERIT_SHARE of a private file). */
#define SVD_COWSHARE 0x100u
#define SVD_OWNAMP                                                                                 \
	0x200u /* shared anonymous memory whose map began here: it may grow, and reserves for itself */
static inline bool svd_shares_amp(const struct segvn_data *svd)
{
	return (svd->svd_flags & (SEGVN_SHARED | SVD_COWSHARE)) != 0;
}
/* Its pages are anons of svd_amp: all but shared files. */
static inline bool svd_has_anon(const struct segvn_data *svd)
{
	return !svd_shared(svd) || svd->svd_vp == NULL;
}
static inline struct anon_map *svd_amp(const struct segvn_data *svd)
{
	return __atomic_load_n(&svd->svd_amp, __ATOMIC_ACQUIRE);
}
static inline uint64_t svd_index(const struct seg *s, vaddr_t va)
{
	return svd_of(s)->svd_anon_index + vm_btop(va - seg_base(s));
}
static inline voff_t svd_voff(const struct seg *s, vaddr_t va)
{
	return svd_of(s)->svd_off + (va - seg_base(s));
}
/* The node for a page of the map that is made or read back now, as a flag of page_create. */
static inline unsigned segvn_place(const struct seg *s, uint64_t idx)
{
	return (s->s_flags & S_SPREAD) == 0
	    ? 0
	    : PG_NODE((unsigned)(idx % s->s_as->a_vm->vm_caps->mc_nnodes));
}
static inline struct vm *segvn_vm(const struct seg *s) { return s->s_as->a_vm; }
/* How to unload: the contents of unmapped pages are dropped if no anon here was ever shared and none of them is a file's. */
static inline unsigned svd_discard(const struct segvn_data *svd)
{
	return !svd_shared(svd) && svd->svd_vp == NULL && !svd->svd_dupped ? HAT_UNLOAD_DISCARD : 0;
}
static inline voff_t svd_anon_off(anon_id id) { return (voff_t)id << VM_PAGESHIFT; }

struct anon_map *segvn_amp(struct seg *);                /* makes it if need be; NULL: no memory */
enum vm_err segvn_charge(struct seg *, uint64_t npages); /* VM_NOSWAP */
void segvn_uncharge(struct seg *, uint64_t npages);
uint64_t segvn_populated(struct seg *, vaddr_t, uint64_t len); /* anons in the range */
uint64_t segvn_reserved(const struct seg *);
enum vm_err segvn_load(
    struct seg *, vaddr_t, struct page *, unsigned attr, unsigned flags); /* page locked */
/* vm/seg/seg_vn_ahead.c: reading pages before they are asked for, and giving up those that a stream has passed */
#define PREFETCH_MAX 33u /* pages of one plan, the faulting one among them */
/*
 * What the policy plans for a fault at va, slot or page idx; flags: PF_HIT, PF_OF_FILE. *before, *after: how many pages of the plan lie
 * right before and right after va.
 */
void segvn_plan(struct seg *, vaddr_t, uint64_t idx, unsigned flags, struct pf_plan *,
    unsigned *before, unsigned *after);
/*
 * Maps n pages from va on in one call, as advice, and unlocks them and their slots. The pages are locked; their slots in amp are
 * busy (NULL: there are none).
 */
void segvn_load_run(
    struct seg *, struct anon_map *amp, vaddr_t va, struct page **, uint64_t n, unsigned prot);
/* Maps, read-only, what is in memory of the file around va, where its page was just mapped. amp: the map of slots, or NULL. No page or slot is held. */
void segvn_map_file_around(struct seg *, struct anon_map *amp, vaddr_t va);
void segvn_read_ahead(struct seg *, vaddr_t, struct pf_plan *); /* no page or slot is held */
void segvn_cool(struct seg *, vaddr_t, uint64_t len);
enum vm_err segvn_fault(struct seg *, vaddr_t, uint64_t, enum fault_type, enum seg_rw);
enum vm_err segvn_lockop(struct seg *, vaddr_t, uint64_t, enum lock_op);
enum vm_err segvn_adopt(struct seg *, vaddr_t, uint64_t, const uint64_t *);
enum vm_err segvn_advise(struct seg *, vaddr_t, uint64_t, enum advice);
enum vm_err segvn_sync(struct seg *, vaddr_t, uint64_t, unsigned);
void segvn_incore(struct seg *, vaddr_t, uint64_t, uint8_t *);
/* A debugger's access to a part of one page. VM_RETRY (poke): shared memory. */
enum vm_err segvn_peek(struct seg *, vaddr_t, void *, uint64_t);
enum vm_err segvn_poke(struct seg *, vaddr_t, const void *, uint64_t);
uint64_t segvn_swapout(struct seg *);
bool segvn_translation_ok(struct seg *, vaddr_t, pfn_t, unsigned attr);
unsigned segvn_check(struct seg *, void (*)(void *, const char *), void *);
#endif
