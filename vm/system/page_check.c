/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page layer's invariants, for vm_check. Quiescent: nothing else runs, so that the locks taken are for form (and for
 * the tools that check locking).
 *
 * Proved: every frame is in exactly one state; every named page is in the hash exactly once, in the right chain, and on its
 * vnode's list, but that swapfs has none; the cache list holds exactly the named free pages, which are unlocked, unwired, unmapped and clean;
 * the counts of kernel, wired and free frames are those of the frames; frames add up; the replacement policy has as many
 * pages as are queued for it.
 */
#include "vm/impl.h"

struct page_census {
	uint64_t pc_offline, pc_free, pc_cached, pc_kernel, pc_named, pc_listed, pc_wired,
	    pc_queued;
	unsigned pc_bad;
	void (*pc_report)(void *, const char *);
	void *pc_arg;
};

static void page_violation(struct page_census *pc, const char *text)
{
	pc->pc_report(pc->pc_arg, text);
	pc->pc_bad++;
}

static void page_check_cached(const struct page *pp, struct page_census *pc)
{
	pc->pc_cached++;
	if (pp->p_selock != 0 || pp->p_flags != P_FREE)
		page_violation(pc, "page: a page of the cache list is locked or in use");
	if (pp->p_lckcnt != 0)
		page_violation(pc, "page: a page of the cache list is wired");
	if (page_nrm(pp) & P_MOD)
		page_violation(pc, "page: a page of the cache list is modified");
}

static void page_check_named(struct vm *vm, struct page *pp, struct page_census *pc)
{
	bool wired = pp->p_lckcnt > 0, filling = (pp->p_flags & P_IOLOCK) && pp->p_selock < 0;

	pc->pc_named++;
	pc->pc_listed += (pp->p_vnode->v_flags & V_SWAPFS) == 0;
	if (pp->p_vnode->v_vm != vm)
		page_violation(pc, "page: named by a vnode of another system");
	if (pp->p_flags & (P_OFFLINE | P_KERNEL)) {
		page_violation(pc, "page: an off-line or kernel frame has a name");
		return;
	}
	if (pp->p_flags & P_FREE) {
		page_check_cached(pp, pc);
		if (hat_page_getshare(pp) != 0)
			page_violation(pc, "page: a free page is mapped");
		return;
	}
	pc->pc_wired += wired;
	pc->pc_queued += (pp->p_flags & P_QUEUED) != 0;
	if (pp->p_selock < -1)
		page_violation(pc, "page: impossible lock count");
	if (wired && (pp->p_flags & P_QUEUED))
		page_violation(pc, "page: wired but queued for replacement");
	if (!wired && !filling && !(pp->p_flags & P_QUEUED))
		page_violation(pc, "page: evictable but not queued for replacement");
}

static void page_check_frame(struct vm *vm, struct page *pp, struct page_census *pc)
{
	if (pp->p_vnode != NULL) {
		page_check_named(vm, pp, pc);
		return;
	}
	if (pp->p_selock != 0 || pp->p_lckcnt != 0)
		page_violation(pc, "page: a frame without a name is locked or wired");
	if (pp->p_flags == P_OFFLINE)
		pc->pc_offline++;
	else if (pp->p_flags == P_FREE)
		pc->pc_free++;
	else if (pp->p_flags == P_KERNEL)
		pc->pc_kernel++;
	else
		page_violation(pc, "page: a frame without a name is in no state");
}

static void page_check_hash(struct vm *vm, struct page_census *pc)
{
	uint64_t n = 0;

	for (uint32_t b = 0; b <= vm->vm_hashmask; b++) {
		for (uint32_t i = page_hashlink(vm->vm_pagehash[b]);
		     i != PAGE_NIL && n <= vm->vm_nframes; n++) {
			const struct page *pp = &vm->vm_pages[i];

			if (pp->p_vnode == NULL ||
			    page_bucket(vm, pp->p_vnode, pp->p_offset) != b ||
			    pp->p_lockno != b >> vm->vm_hashshift)
				page_violation(pc, "page: in the wrong hash chain");
			uint32_t j = page_hashlink(pp->p_hashnext);
			for (; j != PAGE_NIL; j = page_hashlink(vm->vm_pages[j].p_hashnext)) {
				if (vm->vm_pages[j].p_vnode == pp->p_vnode &&
				    vm->vm_pages[j].p_offset == pp->p_offset)
					page_violation(pc, "page: two pages have one name");
			}
			i = page_hashlink(pp->p_hashnext);
		}
	}
	if (n != pc->pc_named)
		page_violation(pc, "page: the hash does not hold exactly the named pages");
}

/* Each list is walked once, from its first page. */
static void page_check_vnode_lists(struct vm *vm, struct page_census *pc)
{
	uint64_t n = 0;

	for (pfn_t pfn = 0; pfn < vm->vm_nframes; pfn++) {
		const struct vnode *vp = vm->vm_pages[pfn].p_vnode;
		uint32_t prev = PAGE_NIL, len = 0;

		if (vp == NULL || vp->v_pages != pfn)
			continue;
		for (uint32_t i = pfn; i != PAGE_NIL && len <= vm->vm_nframes; len++) {
			if (vm->vm_pages[i].p_vnode != vp || vm->vm_pages[i].p_vpprev != prev)
				page_violation(pc, "page: a vnode's page list is broken");
			prev = i;
			i = vm->vm_pages[i].p_vpnext;
		}
		if (len != vp->v_npages)
			page_violation(pc, "page: a vnode's page count is wrong");
		n += len;
	}
	if (n != pc->pc_listed)
		page_violation(pc,
		    "page: the vnodes' lists do not hold exactly the named pages, but those of swapfs");
}

static void page_check_cachelist(struct vm *vm, struct page_census *pc)
{
	uint32_t all = 0;

	for (uint32_t k = 0; k <= vm->vm_lockmask; k++) {
		const struct page_queue *q = &vm->vm_pagelocks[k].pl_cache;
		uint32_t n = 0;

		for (uint32_t i = q->q_head; i != PAGE_NIL && n <= vm->vm_nframes; n++) {
			const struct page *pp = &vm->vm_pages[i];

			if (!(pp->p_flags & P_FREE) || pp->p_vnode == NULL || pp->p_lockno != k)
				page_violation(
				    pc, "page: on the cache list without being free and named");
			i = pp->p_next;
		}
		if (n != q->q_len)
			page_violation(pc, "page: the cache list does not hold what it counts");
		all += n;
	}
	if (all != pc->pc_cached)
		page_violation(
		    pc, "page: the cache list does not hold exactly the named free pages");
}

/* Waits for changes that began before under any of the locks. */
static void page_check_sync(struct vm *vm)
{
	for (uint32_t k = 0; k <= vm->vm_lockmask; k++) {
		mach_mutex_enter(&vm->vm_pagelocks[k].pl_mutex);
		page_exit(&vm->vm_pagelocks[k]);
	}
	mach_mutex_enter(&vm->vm_listlock);
	mach_mutex_exit(&vm->vm_listlock);
}

unsigned page_check(struct vm *vm, void (*report)(void *, const char *), void *arg)
{
	struct page_census pc = { .pc_report = report, .pc_arg = arg };

	(void)page_pol_settle(vm);
	page_check_sync(vm);
	mach_mutex_enter(&vm->vm_pollock);
	for (pfn_t pfn = 0; pfn < vm->vm_nframes; pfn++)
		page_check_frame(vm, &vm->vm_pages[pfn], &pc);
	page_check_hash(vm, &pc);
	page_check_vnode_lists(vm, &pc);
	page_check_cachelist(vm, &pc);
	if (pc.pc_free != vm->vm_nfree)
		page_violation(&pc, "page: the free frames are not what the buddy has");
	if (pc.pc_kernel != vm->vm_nkernel)
		page_violation(&pc, "page: vm_nkernel is wrong");
	if (pc.pc_queued != vm->vm_policy->pol_pages(vm->vm_polstate))
		page_violation(
		    &pc, "page: the replacement policy has other pages than it was given");
	if (pc.pc_wired != vm->vm_nwired)
		page_violation(&pc, "page: vm_nwired is wrong");
	if (pc.pc_offline + vm->vm_nonline != vm->vm_nframes)
		page_violation(&pc, "page: vm_nonline is wrong");
	mach_mutex_exit(&vm->vm_pollock);
	return pc.pc_bad;
}
