/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segvn: what the prefetch policy plans is read, and what a stream has passed is given up first.
 *
 * The pages of a plan that follow the faulting one, in the object and on disk, come with its own read (seg_vn.c). The
 * others are read here after the fault is served, by as many reads as they lie apart on disk. Nothing waits for memory or
 * locks for their sake, and their errors are dropped: the real access reports them.
 *
 * Prefetched pages are in memory without a translation. Their first use faults without I/O; that is how a policy that counts hits learns
 * that they were worth it (P_PREFETCHED, statistics prefetch_hit and prefetch_waste).
 *
 * Fault-around: where a frame may have many translations, a read fault on a page of a file also maps what is in memory of the
 * aligned block of 16 pages around it. To map a page that is in memory costs a small part of the
 * fault that it may save, and is no use of the page: the translation's reference bit is clear.
 *
 * Locks: a_lock R. No page and no slot is held on entry; an anon may go away meanwhile, which anon_read_ahead sees. Slots, and with
 * them pages, are taken in rising order.
 */
#include "vm/seg/seg_vn.h"

#define FILE_AROUND 16u /* pages of a file that are mapped at once */

/* What the policy plans for a fault at va. */
static void make_plan(struct seg *seg, vaddr_t va, uint64_t idx, unsigned flags, struct pf_plan *pl)
{
	struct segvn_data *svd = svd_of(seg);
	uint64_t st[PF_WORDS];

	*pl = (struct pf_plan){ 0 };
	if (svd->svd_advice == ADV_RANDOM)
		return;
	if (svd->svd_advice == ADV_SEQUENTIAL)
		flags |= PF_SEQUENTIAL;
	for (unsigned i = 0; i < PF_WORDS; i++)
		st[i] = svd_hint(&svd->svd_pf[i]);
	seg->s_as->a_vm->vm_prefetch->pf_plan(st, idx, PREFETCH_MAX - 1, flags, pl);
	for (unsigned i = 0; i < PF_WORDS; i++)
		svd_hint_set(&svd->svd_pf[i], st[i]);
}

void segvn_plan(struct seg *seg, vaddr_t va, uint64_t idx, unsigned flags, struct pf_plan *pl,
    unsigned *before, unsigned *after)
{
	uint64_t below = vm_btop(va - seg_base(seg)), above = vm_btop(seg_end(seg) - va) - 1;
	int64_t first, end;

	if ((flags & PF_OF_FILE) != 0 && !page_room(seg->s_as->a_vm, FILE_AROUND))
		flags |= PF_SCARCE;
	make_plan(seg, va, idx, flags, pl);
	first = pl->pl_first;
	end = first + (int64_t)pl->pl_n;
	*before = *after = 0;
	if (pl->pl_n == 0 || pl->pl_step != 1 || first > 1 || end < 0)
		return;
	if (first < 0)
		*before = (unsigned)((uint64_t)-first < below ? (uint64_t)-first : below);
	if (end > 1)
		*after = (unsigned)((uint64_t)end - 1 < above ? (uint64_t)end - 1 : above);
}

/* The address of the plan's page i; false: outside of the segment. */
static bool plan_va(
    const struct seg *seg, vaddr_t va, const struct pf_plan *pl, unsigned i, vaddr_t *out)
{
	int64_t page =
	    (int64_t)vm_btop(va - seg_base(seg)) + pl->pl_first + (int64_t)i * pl->pl_step;

	if (page < 0 || (uint64_t)page >= vm_btop(seg_size(seg)))
		return false;
	*out = seg_base(seg) + vm_ptob((uint64_t)page);
	return true;
}

void segvn_read_ahead(struct seg *seg, vaddr_t va, struct pf_plan *pl)
{
	struct segvn_data *svd = svd_of(seg);
	struct vm *vm = seg->s_as->a_vm;
	struct anon_map *amp = svd_has_anon(svd) ? svd_amp(svd) : NULL;
	unsigned places[PREFETCH_MAX];
	anon_id ids[PREFETCH_MAX];
	voff_t offs[PREFETCH_MAX];
	unsigned nids = 0, noffs = 0;
	vaddr_t at;

	for (unsigned i = 0; i < pl->pl_n && i < PREFETCH_MAX; i++) {
		anon_id id = 0;

		if (!plan_va(seg, va, pl, i, &at))
			continue;
		if (amp != NULL && (id = anonmap_peek(amp, svd_index(seg, at))) != 0) {
			places[nids] = segvn_place(seg, svd_index(seg, at));
			ids[nids++] = id;
		} else if (svd->svd_vp != NULL) {
			offs[noffs++] = svd_voff(seg, at);
		}
	}
	if (nids > 0)
		anon_read_ahead(vm, ids, places, nids);
	if (noffs > 0)
		pvn_read_ahead(vm, svd->svd_vp, offs, noffs);
	/* As long as memory is plenty passed pages cost nothing. */
	if (pl->pl_behind > 0 && vm->vm_nfree < vm->vm_lotsfree + PREFETCH_MAX) {
		uint64_t behind = vm_ptob(pl->pl_behind), before = va - seg_base(seg);

		segvn_cool(seg, va - (behind < before ? behind : before),
		    behind < before ? behind : before);
	}
}

/* The file's page for va, locked S, its slot busy, if the page is in memory and va neither has an
 * anon or a translation nor may get one meanwhile. */
static struct page *get_cached(struct seg *seg, struct anon_map *amp, vaddr_t va)
{
	struct segvn_data *svd = svd_of(seg);
	struct vm *vm = seg->s_as->a_vm;
	struct page *pp = NULL;
	anon_id id = 0;

	if (hat_probe(seg->s_as->a_hat, va, NULL) != PFN_INVALID ||
	    (amp != NULL && anonmap_peek(amp, svd_index(seg, va)) != 0))
		return NULL;
	switch (page_peek(vm, svd->svd_vp, svd_voff(seg, va))) {
	case PAGE_ABSENT: return NULL;
	case PAGE_UNUSED:
		if (vm->vm_prefetch->pf_counts_hits)
			return NULL;
		break;
	case PAGE_USED: break;
	}
	if (amp != NULL && !anonmap_enter(amp, svd_index(seg, va), true, &id))
		return NULL;
	if (id == 0 && hat_probe(seg->s_as->a_hat, va, NULL) == PFN_INVALID)
		pp = page_lookup_nowait(vm, svd->svd_vp, svd_voff(seg, va), SE_SHARED);
	/* A locked page past the end stays in memory. A thread that truncates the file either
	 * unloads the page after this check, or this check sees the new size. */
	if (pp != NULL && svd_voff(seg, va) >= svd->svd_vp->v_ops->vo_size(svd->svd_vp)) {
		page_unlock(vm, pp);
		pp = NULL;
	}
	if (pp == NULL && amp != NULL)
		anonmap_exit(amp, svd_index(seg, va));
	return pp;
}

void segvn_load_run(
    struct seg *seg, struct anon_map *amp, vaddr_t va, struct page **pps, uint64_t n, unsigned prot)
{
	size_t done = 0;

	if (n > 0)
		(void)hat_memload_array(
		    seg->s_as->a_hat, va, pps, (size_t)n, prot, HAT_LOAD_ADV, &done);
	for (uint64_t i = 0; i < n; i++) {
		page_unlock(seg->s_as->a_vm, pps[i]);
		if (amp != NULL)
			anonmap_exit(amp, svd_index(seg, va) + i);
	}
}

/* Maps n pages of the file that end before va. */
static void map_cached(
    struct seg *seg, struct anon_map *amp, vaddr_t va, struct page **pps, unsigned n)
{
	segvn_load_run(seg, amp, va - vm_ptob(n), pps, n, svd_of(seg)->svd_prot & ~PROT_W);
	VM_STATN(seg->s_as->a_vm, map_around, n);
}

void segvn_map_file_around(struct seg *seg, struct anon_map *amp, vaddr_t va)
{
	vaddr_t at = va & ~(vm_ptob(FILE_AROUND) - 1), end = at + vm_ptob(FILE_AROUND);
	struct page *pps[FILE_AROUND];
	unsigned n = 0;

	if (seg->s_as->a_vm->vm_caps->mc_max_mappings != 0 ||
	    svd_of(seg)->svd_advice == ADV_RANDOM || seg->s_as->a_lockfuture)
		return;
	at = at < seg_base(seg) ? seg_base(seg) : at;
	for (end = end < seg_end(seg) ? end : seg_end(seg); at < end; at += VM_PAGESIZE) {
		if ((pps[n] = get_cached(seg, amp, at)) != NULL) {
			n++;
			continue;
		}
		map_cached(seg, amp, at, pps, n);
		n = 0;
	}
	map_cached(seg, amp, end, pps, n);
}

/* Forgets that the pages were used: they are the first that page-out takes. */
void segvn_cool(struct seg *seg, vaddr_t addr, uint64_t len)
{
	struct vm *vm = seg->s_as->a_vm;

	for (vaddr_t va = addr; va < addr + len; va += VM_PAGESIZE) {
		pfn_t pfn = hat_probe(seg->s_as->a_hat, va, NULL);
		struct page *pp;

		if (pfn == PFN_INVALID || !page_trylock(vm, pp = page_of(vm, pfn), SE_EXCL))
			continue;
		if (vm->vm_caps->mc_ref_bits)
			(void)hat_pagesync(pp, true, false);
		else if (pp->p_lckcnt == 0)
			(void)hat_page_tryunload(pp);
		page_nrm_clear(pp, P_REF);
		page_cool(vm, pp);
		page_unlock(vm, pp);
	}
}
