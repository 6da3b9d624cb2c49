/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segvn: creation, duplication, splitting, merging, protection, write-back, checks. Theory: seg_vn.c; advice: seg_vn_advise.c.
 *
 * Merging joins segments that continue each other in everything. Where their maps differ, the first one's map grows if it
 * ends with the segment; where only one has a map, that one grows upwards or downwards (anonmap_grow_below), which costs the
 * same however full it is; where both have one, the fewer anons move to the others, so that each is moved at most log n
 * times. A map that other segments use, too, is only appended to, and only if few anons are moved.
 *
 * Reservation of shared anonymous memory belongs to the map (anonmap_reserve), of private memory to the segment.
 *
 * Inheritance SHARE makes private memory shared for good. A private file's map is shared then (SVD_COWSHARE): pages that
 * were never written are the file's, the others are the map's, for all sharers.
 */
#include "vm/seg/seg_vn.h"

#define MERGE_PAGES 2048u /* most anons that are moved for a merge where a map has other users */

/* ---- life ---- */
static struct segvn_data *svd_alloc(struct vm *vm)
{
	struct segvn_data *svd = kmem_cache_alloc(vm->vm_segvns, KM_SLEEP);

	if (svd == NULL)
		return NULL;
	memset(svd, 0, sizeof *svd);
	mach_mutex_init(&svd->svd_lock, RANK_SEG, "segvn");
	return svd;
}

static void svd_free(struct vm *vm, struct segvn_data *svd)
{
	if (svd->svd_amp != NULL)
		anonmap_rele(svd->svd_amp);
	if (svd->svd_vp != NULL)
		vnode_rele(svd->svd_vp);
	mach_mutex_fini(&svd->svd_lock);
	kmem_cache_free(vm->vm_segvns, svd);
}

/* A second description of the same memory: references taken, nothing reserved. */
static struct segvn_data *svd_copy(struct vm *vm, const struct segvn_data *from)
{
	struct segvn_data *svd = svd_alloc(vm);

	if (svd == NULL)
		return NULL;
	svd->svd_vp = from->svd_vp;
	svd->svd_off = from->svd_off;
	svd->svd_amp = from->svd_amp;
	svd->svd_anon_index = from->svd_anon_index;
	svd->svd_prot = from->svd_prot;
	svd->svd_maxprot = from->svd_maxprot;
	svd->svd_flags = from->svd_flags;
	svd->svd_advice = from->svd_advice;
	svd->svd_inherit = from->svd_inherit;
	svd->svd_full = from->svd_full;
	svd->svd_foreign = from->svd_foreign;
	svd->svd_dupped = from->svd_dupped;
	if (svd->svd_vp != NULL)
		vnode_hold(svd->svd_vp);
	if (svd->svd_amp != NULL)
		anonmap_hold(svd->svd_amp);
	return svd;
}

/* Is all of it to be reserved at once? */
static bool wants_full(const struct segvn_data *svd)
{
	if ((svd->svd_flags & SEGVN_NORESERVE) != 0 || svd->svd_foreign || !svd_has_anon(svd))
		return false;
	return svd_shared(svd) || (svd->svd_prot & PROT_W) != 0;
}

static enum vm_err create_amp(struct seg *seg, struct segvn_data *svd, const struct segvn_args *a)
{
	if (a->sa_amp != NULL) {
		svd->svd_anon_index = vm_btop(a->sa_off);
		if (anonmap_npages(a->sa_amp) < svd->svd_anon_index + vm_btop(seg_size(seg)))
			return VM_INVAL;
		anonmap_hold(a->sa_amp);
		svd->svd_amp = a->sa_amp;
		svd->svd_foreign = true;
		return VM_OK;
	}
	if (!svd_shared(svd) || svd->svd_vp != NULL)
		return VM_OK;
	svd->svd_amp = anonmap_alloc(segvn_vm(seg), vm_btop(seg_size(seg)));
	if (svd->svd_amp == NULL)
		return VM_NOMEM;
	svd->svd_flags |= SVD_OWNAMP;
	if ((svd->svd_flags & SEGVN_NORESERVE) != 0)
		return VM_OK;
	svd->svd_foreign = true;
	return anonmap_reserve(svd->svd_amp, vm_btop(seg_size(seg)));
}

/* Offsets of a file do not begin again at 0. */
static bool offset_wraps(voff_t off, uint64_t len) { return off > ~(voff_t)0 - len; }

enum vm_err segvn_create(struct seg *seg, const void *args)
{
	const struct segvn_args *a = args;
	struct segvn_data *svd;
	enum vm_err e;

	if ((a->sa_off & VM_PAGEMASK) != 0 || (a->sa_prot & ~a->sa_maxprot) != 0 ||
	    (a->sa_amp != NULL && ((a->sa_flags & SEGVN_SHARED) == 0 || a->sa_vnode != NULL)) ||
	    ((a->sa_vnode != NULL || a->sa_amp != NULL) && offset_wraps(a->sa_off, seg_size(seg))))
		return VM_INVAL;
	if (a->sa_pagesize != 0 && a->sa_pagesize >= segvn_vm(seg)->vm_caps->mc_npagesizes)
		return VM_NOTSUP;
	if ((svd = svd_alloc(segvn_vm(seg))) == NULL)
		return VM_NOMEM;
	svd->svd_prot = a->sa_prot;
	svd->svd_maxprot = a->sa_maxprot;
	svd->svd_flags = a->sa_flags & (SEGVN_SHARED | SEGVN_NORESERVE);
	svd->svd_advice = a->sa_advice;
	svd->svd_off = a->sa_vnode != NULL ? a->sa_off : 0;
	if ((svd->svd_vp = a->sa_vnode) != NULL)
		vnode_hold(svd->svd_vp);
	seg->s_ops = &segvn_ops;
	seg->s_data = svd;
	seg->s_flags |= S_SIZE(a->sa_pagesize);
	if ((e = create_amp(seg, svd, a)) == VM_OK && wants_full(svd)) {
		svd->svd_full = true;
		e = segvn_charge(seg, vm_btop(seg_size(seg)));
	}
	if (e != VM_OK) {
		svd_free(segvn_vm(seg), svd);
		seg->s_data = NULL;
	}
	return e;
}

/* Takes the memory locks of a range away. */
static void unwire_range(struct seg *seg, vaddr_t addr, vaddr_t end)
{
	vaddr_t va = addr;

	while (aslock_next(seg->s_as, &va, end, LOCK_WIRED)) {
		(void)segvn_lockop(seg, va, VM_PAGESIZE, SEG_UNLOCK);
		va += VM_PAGESIZE;
	}
}

static enum vm_err segvn_unmap(struct seg *seg)
{
	struct segvn_data *svd = svd_of(seg);
	vaddr_t va = seg_base(seg);

	if (aslock_next(seg->s_as, &va, seg_end(seg), LOCK_SOFT))
		return VM_LOCKED;
	unwire_range(seg, seg_base(seg), seg_end(seg));
	hat_unload(seg->s_as->a_hat, seg_base(seg), seg_size(seg), svd_discard(svd));
	if (svd->svd_amp != NULL && !svd_shares_amp(svd))
		anonmap_drop(svd->svd_amp, svd->svd_anon_index, vm_btop(seg_size(seg)));
	segvn_uncharge(seg, svd->svd_swresv);
	svd_free(segvn_vm(seg), svd);
	seg->s_data = NULL;
	return VM_OK;
}

static enum vm_err segvn_split(struct seg *seg, struct seg *nseg, vaddr_t addr)
{
	struct segvn_data *svd = svd_of(seg), *n = svd_copy(segvn_vm(seg), svd);
	uint64_t head = vm_btop(addr - seg_base(seg)), tail = vm_btop(seg_end(seg) - addr);

	if (n == NULL)
		return VM_NOMEM;
	nseg->s_ops = seg->s_ops;
	nseg->s_data = n;
	nseg->s_flags = seg->s_flags;
	n->svd_off += n->svd_vp != NULL ? vm_ptob(head) : 0;
	n->svd_anon_index += n->svd_amp != NULL ? head : 0;
	if (svd->svd_full)
		n->svd_swresv = tail;
	else if (svd->svd_swresv != 0 && !svd_shared(svd))
		n->svd_swresv = segvn_populated(seg, addr, vm_ptob(tail));
	svd->svd_swresv -= n->svd_swresv;
	return VM_OK;
}

/* ---- merging ---- */
static bool segs_alike(struct seg *a, struct seg *b)
{
	const struct segvn_data *x = svd_of(a), *y = svd_of(b);

	return x->svd_vp == y->svd_vp &&
	    (x->svd_vp == NULL || x->svd_off + seg_size(a) == y->svd_off) &&
	    x->svd_prot == y->svd_prot && x->svd_maxprot == y->svd_maxprot &&
	    x->svd_flags == y->svd_flags && x->svd_advice == y->svd_advice &&
	    x->svd_inherit == y->svd_inherit && x->svd_full == y->svd_full &&
	    x->svd_foreign == y->svd_foreign;
}

/* May entries be added right behind a's? There are none behind the end of a map, or where no other
 * segment uses it. */
static bool grow_above(struct seg *a, uint64_t more)
{
	struct segvn_data *x = svd_of(a);
	uint64_t end = x->svd_anon_index + vm_btop(seg_size(a));

	if (!anonmap_alone(x->svd_amp) && anonmap_npages(x->svd_amp) != end)
		return false;
	return anonmap_grow(x->svd_amp, end + more);
}

/* Room for so many entries right before b's. */
static bool grow_below(struct seg *b, uint64_t more)
{
	struct segvn_data *y = svd_of(b);

	if (!anonmap_alone(y->svd_amp))
		return false;
	if (y->svd_anon_index < more)
		y->svd_anon_index += anonmap_grow_below(y->svd_amp, more - y->svd_anon_index);
	return y->svd_anon_index >= more;
}

/* b's anons go into a's map, or a's into b's, which then is a's. */
static bool merge_upper(struct seg *a, struct seg *b, uint64_t na, uint64_t nb)
{
	struct segvn_data *x = svd_of(a), *y = svd_of(b);

	return grow_above(a, nb) &&
	    (y->svd_amp == NULL ||
		anonmap_move(y->svd_amp, y->svd_anon_index, x->svd_amp, x->svd_anon_index + na,
		    nb) == VM_OK);
}

static bool merge_lower(struct seg *a, struct seg *b, uint64_t na)
{
	struct segvn_data *x = svd_of(a), *y = svd_of(b);

	if (!grow_below(b, na) ||
	    (x->svd_amp != NULL &&
		anonmap_move(x->svd_amp, x->svd_anon_index, y->svd_amp, y->svd_anon_index - na,
		    na) != VM_OK))
		return false;
	if (x->svd_amp != NULL)
		anonmap_rele(x->svd_amp);
	x->svd_amp = y->svd_amp;
	x->svd_anon_index = y->svd_anon_index - na;
	y->svd_amp = NULL;
	return true;
}

/* Makes a new map for the few anons of b, whose own map has other users. */
static bool merge_new(struct seg *a, struct seg *b, uint64_t na, uint64_t nb)
{
	struct segvn_data *x = svd_of(a), *y = svd_of(b);
	struct anon_map *amp = anonmap_alloc(segvn_vm(a), na + nb);

	if (amp == NULL)
		return false;
	if (anonmap_move(y->svd_amp, y->svd_anon_index, amp, na, nb) != VM_OK) {
		anonmap_rele(amp);
		return false;
	}
	x->svd_amp = amp;
	x->svd_anon_index = 0;
	return true;
}

/* How many anons a merge must move; if the map is the segment's alone, all that the map has. */
static uint64_t to_move(struct seg *s, uint64_t n)
{
	struct segvn_data *svd = svd_of(s);

	if (svd->svd_amp == NULL)
		return 0;
	return anonmap_alone(svd->svd_amp) ? anonmap_count(svd->svd_amp) : n;
}

/* One map for both. False: nothing changed but the room in maps. */
static bool merge_amps(struct seg *a, struct seg *b)
{
	struct segvn_data *x = svd_of(a), *y = svd_of(b);
	uint64_t na = vm_btop(seg_size(a)), nb = vm_btop(seg_size(b)), ma = to_move(a, na),
		 mb = to_move(b, nb);

	if (x->svd_amp == y->svd_amp)
		return x->svd_amp == NULL || x->svd_anon_index + na == y->svd_anon_index;
	if (svd_shares_amp(x))
		return false;
	if (y->svd_amp == NULL)
		return merge_upper(a, b, na, nb);
	if (x->svd_amp == NULL)
		return merge_lower(a, b, na) || (mb <= MERGE_PAGES && merge_new(a, b, na, nb));
	if (anonmap_alone(x->svd_amp) && anonmap_alone(y->svd_amp))
		return ma < mb ? merge_lower(a, b, na) : merge_upper(a, b, na, nb);
	return (mb <= MERGE_PAGES && merge_upper(a, b, na, nb)) ||
	    (ma <= MERGE_PAGES && merge_lower(a, b, na));
}

static bool segvn_concat(struct seg *a, struct seg *b)
{
	struct segvn_data *x = svd_of(a), *y = svd_of(b);

	if (!segs_alike(a, b) || !merge_amps(a, b))
		return false;
	x->svd_swresv += y->svd_swresv;
	x->svd_dupped |= y->svd_dupped;
	svd_free(segvn_vm(a), y);
	b->s_data = NULL;
	return true;
}

/* ---- duplication ---- */
/* A page locked in the parent stays the parent's own: the child gets a copy now. */
static enum vm_err dup_locked_page(struct seg *seg, struct segvn_data *n, vaddr_t va)
{
	struct vm *vm = segvn_vm(seg);
	uint64_t idx = vm_btop(va - seg_base(seg)) + n->svd_anon_index;
	struct page *pp, *copy;
	anon_id id, nid;
	enum vm_err e;

	if (!anonmap_enter(n->svd_amp, idx, false, &id))
		return VM_NOMEM;
	if (id == 0) {
		anonmap_exit(n->svd_amp, idx);
		return VM_OK;
	}
	if ((e = anon_getpage(vm, id, SE_EXCL, 1, segvn_place(seg, idx), &pp)) == VM_OK) {
		if ((e = anon_private(vm, pp, segvn_place(seg, idx), &nid, &copy)) == VM_OK) {
			anonmap_set(n->svd_amp, idx, nid);
			page_unlock(vm, copy);
			anon_decref(vm, id);
			if ((page_nrm(pp) & P_MOD) == 0) {
				page_nrm_set(pp, P_MOD);
				swapfs_dirty(vm, pp);
			}
		}
		/* While the page is locked its translation must exist, and the copy may have
		 * dropped it. */
		(void)segvn_load(seg, va, pp,
		    anon_refcnt(vm, id) == 1 ? svd_of(seg)->svd_prot
					     : svd_of(seg)->svd_prot & ~PROT_W,
		    0);
		page_unlock(vm, pp);
	}
	anonmap_exit(n->svd_amp, idx);
	return e;
}

static enum vm_err dup_private(struct seg *seg, struct segvn_data *n)
{
	struct segvn_data *svd = svd_of(seg);
	uint64_t pages = vm_btop(seg_size(seg));
	vaddr_t va = seg_base(seg);
	enum vm_err e = VM_OK;

	n->svd_amp = anonmap_alloc(segvn_vm(seg), pages);
	n->svd_anon_index = 0;
	if (n->svd_amp == NULL)
		return VM_NOMEM;
	hat_clrattr(seg->s_as->a_hat, seg_base(seg), seg_size(seg), PROT_W);
	if ((e = anonmap_dup(svd->svd_amp, svd->svd_anon_index, n->svd_amp, 0, pages)) != VM_OK)
		return e;
	svd->svd_dupped = n->svd_dupped = true;
	while (e == VM_OK && aslock_next(seg->s_as, &va, seg_end(seg), LOCK_WIRED | LOCK_SOFT)) {
		e = dup_locked_page(seg, n, va);
		va += VM_PAGESIZE;
	}
	return e;
}

/* The child's description, without its map's contents. */
static struct segvn_data *dup_data(struct seg *seg, bool share)
{
	struct segvn_data *svd = svd_of(seg), *n = svd_copy(segvn_vm(seg), svd);

	if (n == NULL || share)
		return n;
	if (n->svd_amp != NULL)
		anonmap_rele(n->svd_amp);
	n->svd_amp = NULL;
	n->svd_anon_index = 0;
	n->svd_dupped = false;
	if (svd->svd_inherit == INHERIT_ZERO) {
		if (n->svd_vp != NULL)
			vnode_rele(n->svd_vp);
		n->svd_vp = NULL;
		n->svd_off = 0;
		n->svd_flags &= ~(SEGVN_SHARED | SVD_COWSHARE | SVD_OWNAMP);
		n->svd_foreign = false;
		n->svd_full = wants_full(n);
	}
	return n;
}

/* The memory becomes shared: writes of another sharer must be seen, so translations to the page of
 * zeroes are dropped. */
static void unload_zeroes(struct seg *seg)
{
	struct hat *hat = seg->s_as->a_hat;

	if (segvn_vm(seg)->vm_zeropage == NULL || svd_of(seg)->svd_vp != NULL)
		return;
	for (vaddr_t va = seg_base(seg); va < seg_end(seg); va += VM_PAGESIZE)
		if (vm_is_zeropage(segvn_vm(seg), hat_probe(hat, va, NULL)))
			hat_unload(hat, va, VM_PAGESIZE, HAT_UNLOAD);
}

/* Sharing private memory makes it shared for good, in the parent too: its reservation becomes the map's. */
static enum vm_err make_shared(struct seg *seg)
{
	struct segvn_data *svd = svd_of(seg);
	uint64_t n = vm_btop(seg_size(seg)), have = svd->svd_swresv;
	enum vm_err e;

	if (segvn_amp(seg) == NULL)
		return VM_NOMEM;
	if ((svd->svd_flags & SEGVN_NORESERVE) == 0 && (svd->svd_maxprot & PROT_W) != 0 &&
	    have < n) {
		if ((e = segvn_charge(seg, n - have)) != VM_OK)
			return e;
		have = n;
	}
	unload_zeroes(seg);
	anonmap_take_reserve(svd->svd_amp, have);
	svd->svd_swresv = 0;
	as_forget_resv(seg->s_as, have);
	svd->svd_full = false;
	svd->svd_foreign = (svd->svd_flags & SEGVN_NORESERVE) == 0;
	svd->svd_flags |= svd->svd_vp != NULL ? SVD_COWSHARE : SEGVN_SHARED;
	return VM_OK;
}

static enum vm_err dup_contents(struct seg *seg, struct seg *nseg, bool share)
{
	struct segvn_data *svd = svd_of(seg), *n = svd_of(nseg);
	enum vm_err e = VM_OK;

	if (n->svd_full)
		e = segvn_charge(nseg, vm_btop(seg_size(seg)));
	if (e != VM_OK || share || svd->svd_inherit == INHERIT_ZERO || svd->svd_amp == NULL)
		return e;
	e = dup_private(seg, n);
	if (e == VM_OK && !n->svd_full)
		e = segvn_charge(nseg, svd->svd_swresv);
	return e;
}

static enum vm_err segvn_dup(struct seg *seg, struct seg *nseg)
{
	struct segvn_data *svd = svd_of(seg), *n;
	bool share = svd_shares_amp(svd) && svd->svd_inherit != INHERIT_ZERO;
	enum vm_err e;

	if (svd->svd_inherit == INHERIT_NONE)
		return VM_NOMAP;
	if (svd->svd_inherit == INHERIT_SHARE && !share) {
		if ((e = make_shared(seg)) != VM_OK)
			return e;
		share = true;
	}
	if ((n = dup_data(seg, share)) == NULL)
		return VM_NOMEM;
	nseg->s_ops = seg->s_ops;
	nseg->s_data = n;
	nseg->s_flags = seg->s_flags;
	if ((e = dup_contents(seg, nseg, share)) != VM_OK) {
		segvn_uncharge(nseg, n->svd_swresv);
		svd_free(segvn_vm(seg), n);
		nseg->s_data = NULL;
	}
	return e;
}

/* ---- growth: the same memory further on, empty ---- */
static enum vm_err alike_shared(struct segvn_data *n, int64_t pages, uint64_t size)
{
	uint64_t idx = n->svd_anon_index + (uint64_t)pages, end = idx + size,
		 have = anonmap_npages(n->svd_amp);

	if (pages < 0 && n->svd_anon_index < (uint64_t)-pages)
		return VM_NOTSUP;
	n->svd_anon_index = idx;
	if (end <= have)
		return VM_OK;
	if ((n->svd_flags & SVD_OWNAMP) == 0)
		return VM_EOF; /* only the owner of the map makes it larger */
	if (!anonmap_grow(n->svd_amp, end))
		return VM_NOMEM;
	return n->svd_foreign ? anonmap_reserve(n->svd_amp, end - have) : VM_OK;
}

static enum vm_err segvn_alike(struct seg *seg, struct seg *nseg, int64_t off)
{
	struct segvn_data *svd = svd_of(seg), *n = svd_copy(segvn_vm(seg), svd);
	enum vm_err e = VM_OK;

	if (n == NULL)
		return VM_NOMEM;
	nseg->s_ops = seg->s_ops;
	nseg->s_data = n;
	nseg->s_flags = seg->s_flags;
	if (n->svd_vp != NULL &&
	    (off < 0 ? n->svd_off < (uint64_t)-off : offset_wraps(n->svd_off, (uint64_t)off)))
		e = VM_INVAL;
	else if (n->svd_vp != NULL && offset_wraps(n->svd_off + (uint64_t)off, seg_size(nseg)))
		e = VM_INVAL;
	else if (n->svd_vp != NULL)
		n->svd_off += (uint64_t)off;
	if (svd_shared(n) && n->svd_amp != NULL) {
		if (e == VM_OK)
			e = alike_shared(n, off / (int64_t)VM_PAGESIZE, vm_btop(seg_size(nseg)));
	} else {
		if (n->svd_amp != NULL)
			anonmap_rele(n->svd_amp);
		n->svd_amp = NULL;
		n->svd_anon_index = 0;
		n->svd_dupped = false;
		n->svd_flags &= ~SVD_COWSHARE;
		n->svd_foreign = false;
		n->svd_full = wants_full(n);
	}
	if (e == VM_OK && n->svd_full)
		e = segvn_charge(nseg, vm_btop(seg_size(nseg)));
	if (e != VM_OK) {
		svd_free(segvn_vm(seg), n);
		nseg->s_data = NULL;
	}
	return e;
}

/* ---- snapshots ---- */
/* Takes every sharer's write right to one anon of shared memory away, under the slot's busy bit. A
 * wired page is copied at once. */
static enum vm_err snapshot_anon(struct vm *vm, anon_id id, anon_id *nid)
{
	struct page *pp = page_lookup_notouch(vm, &vm->vm_swapfs, svd_anon_off(id), SE_EXCL), *copy;
	enum vm_err e = VM_OK;

	if (pp != NULL && pp->p_lckcnt > 0) {
		if ((e = anon_private(vm, pp, 0, nid, &copy)) == VM_OK)
			page_unlock(vm, copy);
	} else {
		if (pp != NULL)
			hat_page_clrwrt(pp);
		anon_hold(vm, id);
		*nid = id;
	}
	if (pp != NULL)
		page_unlock(vm, pp);
	return e;
}

static enum vm_err snapshot_shared(struct seg *seg, struct segvn_data *n)
{
	struct anon_map *amp = svd_of(seg)->svd_amp;
	uint64_t first = svd_of(seg)->svd_anon_index, end = first + vm_btop(seg_size(seg));
	enum vm_err e = VM_OK;

	if (amp == NULL)
		return VM_OK;
	if ((n->svd_amp = anonmap_alloc(segvn_vm(seg), end - first)) == NULL)
		return VM_NOMEM;
	n->svd_dupped = true;
	for (uint64_t i = anonmap_next(amp, first); i < end && e == VM_OK;
	     i = anonmap_next(amp, i + 1)) {
		anon_id id, nid = 0, none;

		if (!anonmap_enter(n->svd_amp, i - first, true, &none))
			return VM_NOMEM;
		(void)anonmap_enter(amp, i, false, &id);
		if (id != 0 && (e = snapshot_anon(segvn_vm(seg), id, &nid)) == VM_OK)
			anonmap_set(n->svd_amp, i - first, nid);
		anonmap_exit(amp, i);
		anonmap_exit(n->svd_amp, i - first);
	}
	return e;
}

static enum vm_err segvn_snapshot(
    struct seg *seg, struct seg *nseg, unsigned prot, unsigned maxprot)
{
	struct segvn_data *svd = svd_of(seg), *n;
	enum vm_err e = VM_OK;

	if (!svd_has_anon(svd))
		return VM_NOTSUP;
	if ((n = svd_alloc(segvn_vm(seg))) == NULL)
		return VM_NOMEM;
	n->svd_prot = prot;
	n->svd_maxprot = maxprot;
	n->svd_flags = svd->svd_flags & SEGVN_NORESERVE;
	n->svd_off = svd->svd_off;
	if ((n->svd_vp = svd->svd_vp) != NULL)
		vnode_hold(n->svd_vp);
	nseg->s_ops = seg->s_ops;
	nseg->s_data = n;
	if ((n->svd_full = wants_full(n)))
		e = segvn_charge(nseg, vm_btop(seg_size(seg)));
	if (e == VM_OK && svd->svd_amp != NULL)
		e = svd_shares_amp(svd) ? snapshot_shared(seg, n) : dup_private(seg, n);
	if (e == VM_OK && !n->svd_full)
		e = segvn_charge(nseg, segvn_populated(nseg, seg_base(nseg), seg_size(nseg)));
	if (e != VM_OK) {
		segvn_uncharge(nseg, n->svd_swresv);
		svd_free(segvn_vm(seg), n);
		nseg->s_data = NULL;
	}
	return e;
}

/* ---- protection ---- */
static enum vm_err segvn_setprot(struct seg *seg, vaddr_t addr, uint64_t len, unsigned prot)
{
	struct segvn_data *svd = svd_of(seg);
	unsigned old = svd->svd_prot;
	vaddr_t va = addr;
	enum vm_err e;

	VM_ASSERT(addr == seg_base(seg) && len == seg_size(seg));
	if ((prot & ~svd->svd_maxprot) != 0)
		return VM_ACCESS;
	svd->svd_prot = prot;
	if (!svd->svd_full && wants_full(svd)) {
		if ((e = segvn_charge(seg, vm_btop(len) - svd->svd_swresv)) != VM_OK) {
			svd->svd_prot = old;
			return e;
		}
		svd->svd_full = true;
	}
	if ((old & ~prot) == 0)
		return VM_OK;
	if (prot == 0 && !aslock_next(seg->s_as, &va, addr + len, LOCK_SOFT))
		hat_unload(seg->s_as->a_hat, addr, len, HAT_UNLOAD);
	else
		hat_clrattr(seg->s_as->a_hat, addr, len, old & ~prot);
	return VM_OK;
}

static enum vm_err segvn_checkprot(struct seg *seg, vaddr_t addr, uint64_t len, unsigned prot)
{
	return (prot & ~svd_of(seg)->svd_prot) == 0 ? VM_OK : VM_PROT;
}

static bool segvn_shared(struct seg *seg) { return svd_shared(svd_of(seg)); }

static struct vnode *segvn_file(struct seg *seg, vaddr_t addr, voff_t *off)
{
	*off = svd_voff(seg, addr);
	return svd_of(seg)->svd_vp;
}

static unsigned segvn_getprot(struct seg *seg, vaddr_t addr) { return svd_of(seg)->svd_prot; }

/* ---- write-back, residence ---- */
enum vm_err segvn_sync(struct seg *seg, vaddr_t addr, uint64_t len, unsigned flags)
{
	struct segvn_data *svd = svd_of(seg);
	voff_t off = svd_voff(seg, addr);
	vaddr_t va = addr;
	enum vm_err e;

	if ((flags & SYNC_INVAL) != 0 &&
	    aslock_next(seg->s_as, &va, addr + len, LOCK_WIRED | LOCK_SOFT))
		return VM_LOCKED;
	if (!svd_shared(svd) || svd->svd_vp == NULL)
		return VM_OK;
	e = pvn_putpages(segvn_vm(seg), svd->svd_vp, off, len,
	    ((flags & SYNC_ASYNC) != 0 ? PVN_ASYNC : 0) |
		((flags & SYNC_INVAL) != 0 ? PVN_INVAL : 0));
	if (e == VM_OK && (flags & SYNC_ASYNC) == 0)
		e = svd->svd_vp->v_ops->vo_sync(svd->svd_vp, off, len);
	return e;
}

static uint8_t incore_page(struct seg *seg, vaddr_t va)
{
	struct segvn_data *svd = svd_of(seg);
	struct vm *vm = segvn_vm(seg);
	struct anon_map *amp = svd_has_anon(svd) ? svd_amp(svd) : NULL;
	anon_id id = amp != NULL ? anonmap_peek(amp, svd_index(seg, va)) : 0;
	pfn_t pfn = hat_probe(seg->s_as->a_hat, va, NULL);
	unsigned v = 0;

	if (id != 0) {
		v |= INCORE_ANON;
		v |= page_exists(vm, &vm->vm_swapfs, svd_anon_off(id)) ? INCORE_PRESENT : 0;
		v |= anon_swapped(vm, id) ? INCORE_SWAPPED : 0;
	} else if (svd->svd_vp != NULL && page_exists(vm, svd->svd_vp, svd_voff(seg, va))) {
		v |= INCORE_PRESENT;
	}
	if (pfn != PFN_INVALID && vm_is_zeropage(vm, pfn)) {
		v |= INCORE_PRESENT | INCORE_MAPPED;
	} else if (pfn != PFN_INVALID) {
		unsigned nrm = page_nrm(page_of(vm, pfn));

		v |= INCORE_MAPPED | ((nrm & P_REF) != 0 ? INCORE_REF : 0) |
		    ((nrm & P_MOD) != 0 ? INCORE_MOD : 0);
	}
	if (aslock_get(seg->s_as, va) != 0)
		v |= INCORE_LOCKED;
	return (uint8_t)v;
}

void segvn_incore(struct seg *seg, vaddr_t addr, uint64_t len, uint8_t *vec)
{
	hat_sync(seg->s_as->a_hat, addr, len, false);
	for (vaddr_t va = addr; va < addr + len; va += VM_PAGESIZE)
		*vec++ = incore_page(seg, va);
}

static enum vm_err segvn_inherit(struct seg *seg, enum inherit i)
{
	svd_of(seg)->svd_inherit = i;
	return VM_OK;
}

static enum vm_err segvn_move(
    struct seg *seg, vaddr_t addr, uint64_t len, struct seg *nseg, vaddr_t naddr)
{
	if (len != 0)
		hat_unload(seg->s_as->a_hat, addr, len, HAT_UNLOAD);
	return VM_OK;
}

/* ---- vm_check ---- */
bool segvn_translation_ok(struct seg *seg, vaddr_t va, pfn_t pfn, unsigned attr)
{
	struct segvn_data *svd = svd_of(seg);
	struct vm *vm = segvn_vm(seg);
	const struct page *pp = page_of(vm, pfn);
	anon_id id = svd_has_anon(svd) && svd->svd_amp != NULL
	    ? anonmap_peek(svd->svd_amp, svd_index(seg, va))
	    : 0;

	if (vm_is_zeropage(vm, pfn))
		return id == 0 && svd->svd_vp == NULL && !svd_shared(svd) && (attr & PROT_W) == 0;
	if (id == 0)
		return svd->svd_vp != NULL && pp->p_vnode == svd->svd_vp &&
		    pp->p_offset == svd_voff(seg, va) && (svd_shared(svd) || (attr & PROT_W) == 0);
	return pp->p_vnode == &vm->vm_swapfs && pp->p_offset == svd_anon_off(id) &&
	    ((attr & PROT_W) == 0 || anon_refcnt(vm, id) == 1);
}

/* Is as much swap reserved as the segment's kind asks for? A shared anon map has its own reservation. */
static bool reservation_holds(struct seg *seg, const struct segvn_data *svd)
{
	if (svd->svd_full)
		return svd->svd_swresv == vm_btop(seg_size(seg));
	if (svd->svd_foreign)
		return svd->svd_swresv == 0;
	return svd_shares_amp(svd) ||
	    svd->svd_swresv == segvn_populated(seg, seg_base(seg), seg_size(seg));
}

unsigned segvn_check(struct seg *seg, void (*report)(void *, const char *), void *arg)
{
	struct segvn_data *svd = svd_of(seg);
	uint64_t n = vm_btop(seg_size(seg));
	unsigned bad = 0;

	if ((svd->svd_prot & ~svd->svd_maxprot) != 0) {
		report(arg, "segvn: protection above the maximum");
		bad++;
	}
	if (svd->svd_amp != NULL && anonmap_npages(svd->svd_amp) < svd->svd_anon_index + n) {
		report(arg, "segvn: the anon map is too small");
		bad++;
	}
	if (!reservation_holds(seg, svd)) {
		report(arg, "segvn: the reservation is not what it should be");
		bad++;
	}
	return bad;
}

const struct seg_ops segvn_ops = {
	.so_name = "segvn",
	.so_dup = segvn_dup,
	.so_unmap = segvn_unmap,
	.so_split = segvn_split,
	.so_concat = segvn_concat,
	.so_fault = segvn_fault,
	.so_setprot = segvn_setprot,
	.so_checkprot = segvn_checkprot,
	.so_getprot = segvn_getprot,
	.so_shared = segvn_shared,
	.so_file = segvn_file,
	.so_swapout = segvn_swapout,
	.so_sync = segvn_sync,
	.so_incore = segvn_incore,
	.so_lockop = segvn_lockop,
	.so_advise = segvn_advise,
	.so_inherit = segvn_inherit,
	.so_adopt = segvn_adopt,
	.so_move = segvn_move,
	.so_alike = segvn_alike,
	.so_snapshot = segvn_snapshot,
	.so_reserved = segvn_reserved,
	.so_populated = segvn_populated,
	.so_peek = segvn_peek,
	.so_poke = segvn_poke,
	.so_core = true,
	.so_translation_ok = segvn_translation_ok,
	.so_check = segvn_check,
};
