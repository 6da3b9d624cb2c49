/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Physical pages: creation, the cache list, kernel frames.
 *
 * Purpose: the life of a frame between the buddy allocator and a name. The table of names is in page_name.c.
 *
 * States of a frame (page.h has the flags):
 *
 *   off line --buddy_online--> free --page_create--> being created (E, P_IOLOCK, named, not queued)
 *   being created --page_filled--> in use (queued for replacement unless wired)
 *   in use --page_free--> cache list (named, clean, unlocked) --page_lookup--> in use
 *   cache list --page_create of another name--> being created
 *   in use, cache list --page_destroy, page_vnode_purge--> free
 *   free --page_kalloc--> kernel --page_kfree--> free
 *
 * Locks (after the hashed page locks of Solaris): a name hashes to one of vm_pagelocks, which guards its hash chain and
 * everything about the page that has the name: flags, lock, wire count, place on the cache list, of which each lock has a
 * part. Names that follow each other have one lock in runs of 2^VM_LOCKRUN. p_lockno says which it is:
 *
 *   a caller that knows the name			page_name_enter
 *   one that holds the page locked, or wired: its name stays	page_enter
 *   one that has a frame number and knows nothing	page_enter, then looks at p_vnode
 *
 * Two of them at once: page_rename only, the second is tried for. Inside it vm_pollock (the policy:
 * a queued page keeps its name while this lock is held) and vm_listlock (vnodes' lists: a listed
 * page keeps its name while this lock is held). The flags of a nameless frame belong to its owner:
 * the buddy allocator or the holder of the kernel memory; so page_kalloc takes no lock of rank <
 * RANK_FREE unless memory is short, when it only tries. Nothing is called with these locks held but
 * the policy and the buddy allocator.
 *
 * Invariants: a page of the cache list is unlocked, unmapped, unwired and clean; the policy sees a page only while P_QUEUED.
 *
 * The cache list has as many parts as there are locks, each in order; frames are taken from the
 * parts in turn.
 *
 * The order of taking a frame: the buddy above the reserve; more frames from the machine when few are free; the cache
 * list from its head; then, with PG_WAIT, whatever page-out can free.
 */
#include "vm/impl.h"

#define PAGE_KTRIES 256u
#define PAGE_GROW 64u /* frames asked of the machine at a time: one call pays for many faults */

/* An unlocked page of the cache list loses its name; it is a plain free frame of the caller's then. */
void page_uncache_locked(struct vm *vm, struct page *pp)
{
	VM_ASSERT(page_held(vm, pp));
	VM_ASSERT((pp->p_flags & P_FREE) && pp->p_selock == 0);
	page_queue_remove(vm, &page_lock_of(vm, pp)->pl_cache, pp);
	page_unname_locked(vm, pp);
	pp->p_flags = P_FREE;
	page_nrm_clear(pp, P_REF | P_MOD);
}

/* ---- lookup ---- */

/* Takes a page back from the cache list: in use again, unlocked. */
static void page_reclaim_locked(struct vm *vm, struct page *pp)
{
	VM_ASSERT(page_held(vm, pp));
	page_queue_remove(vm, &page_lock_of(vm, pp)->pl_cache, pp);
	pp->p_flags &= (uint8_t)~P_FREE;
	page_pol_insert_locked(vm, pp, false);
	VM_STAT(vm, reclaim);
}

/* A lookup for a real use, not a destroyer's or a prefetch's, found the page. */
static void page_touch_locked(struct vm *vm, struct page *pp)
{
	VM_ASSERT(page_held(vm, pp));
	if ((pp->p_flags & P_QUEUED) && !vm->vm_caps->mc_ref_bits)
		page_pol_touch_locked(vm, pp);
	if (pp->p_flags & P_PREFETCHED) {
		pp->p_flags &= (uint8_t)~P_PREFETCHED;
		VM_STAT(vm, prefetch_hit);
	} else if (hat_page_getshare(pp) == 0) {
		VM_STAT(vm, rescue);
	}
}

static struct page *page_lookup_common(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se,
    bool wait, bool touch, enum page_peek *was)
{
	struct page_lock *pl = page_name_enter(vm, vp, off);
	struct page *pp;
	bool reclaimed = false;

	/* The name is looked up again after every sleep: the page may have been freed or renamed meanwhile. */
	while ((pp = page_find_locked(vm, vp, off)) != NULL) {
		if (pp->p_flags & P_FREE) {
			page_reclaim_locked(vm, pp);
			reclaimed = true;
		}
		if (page_trylock_locked(vm, pp, se))
			break;
		if (!wait) {
			pp = NULL;
			break;
		}
		if (se == SE_EXCL)
			pp->p_flags |= P_EWANTED;
		page_wait_locked(vm, pp);
	}
	*was = PAGE_ABSENT;
	if (pp != NULL)
		*was = (pp->p_flags & P_PREFETCHED) ? PAGE_UNUSED : PAGE_USED;
	if (pp != NULL && touch && !reclaimed)
		page_touch_locked(vm, pp);
	page_exit(pl);
	return pp;
}

struct page *page_lookup(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se)
{
	enum page_peek was;

	return page_lookup_common(vm, vp, off, se, true, true, &was);
}

struct page *page_lookup_was(
    struct vm *vm, struct vnode *vp, voff_t off, enum page_se se, enum page_peek *was)
{
	return page_lookup_common(vm, vp, off, se, true, true, was);
}

struct page *page_lookup_nowait(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se)
{
	enum page_peek was;

	return page_lookup_common(vm, vp, off, se, false, true, &was);
}

struct page *page_lookup_notouch(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se)
{
	enum page_peek was;

	return page_lookup_common(vm, vp, off, se, true, false, &was);
}

struct page *page_lookup_hint(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se)
{
	enum page_peek was;

	return page_lookup_common(vm, vp, off, se, false, false, &was);
}

bool page_exists(struct vm *vm, struct vnode *vp, voff_t off)
{
	struct page_lock *pl = page_name_enter(vm, vp, off);
	bool yes = page_find_locked(vm, vp, off) != NULL;

	page_exit(pl);
	return yes;
}

enum page_peek page_peek(struct vm *vm, struct vnode *vp, voff_t off)
{
	struct page_lock *pl = page_name_enter(vm, vp, off);
	enum page_peek what = PAGE_ABSENT;
	const struct page *pp;

	if ((pp = page_find_locked(vm, vp, off)) != NULL)
		what = (pp->p_flags & P_PREFETCHED) ? PAGE_UNUSED : PAGE_USED;
	page_exit(pl);
	return what;
}

/* ---- frames ---- */

/* Takes a frame of the cache list, from its parts in turn. Without wait the caller may hold any
 * lock, and busy parts are passed over. */
static pfn_t page_cache_take(struct vm *vm, bool wait)
{
	uint32_t hand = __atomic_load_n((uint32_t *)(void *)&vm->vm_cachehand, __ATOMIC_RELAXED);

	for (uint32_t k = 0; k <= vm->vm_lockmask; k++) {
		struct page_lock *pl = &vm->vm_pagelocks[(hand + k) & vm->vm_lockmask];
		struct page *pp;

		if (__atomic_load_n(&pl->pl_cache.q_len, __ATOMIC_RELAXED) == 0)
			continue;
		if (wait)
			mach_mutex_enter(&pl->pl_mutex);
		else if (!mach_mutex_tryenter(&pl->pl_mutex))
			continue;
		if ((pp = page_queue_head(vm, &pl->pl_cache)) != NULL)
			page_uncache_locked(vm, pp);
		page_exit(pl);
		if (pp == NULL)
			continue;
		__atomic_store_n(
		    (uint32_t *)(void *)&vm->vm_cachehand, hand + k + 1, __ATOMIC_RELAXED);
		return page_pfn(vm, pp);
	}
	return PFN_INVALID;
}

uint32_t page_cached(struct vm *vm)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i <= vm->vm_lockmask; i++)
		n += __atomic_load_n(&vm->vm_pagelocks[i].pl_cache.q_len, __ATOMIC_RELAXED);
	return n;
}

pfn_t page_cache_drain(struct vm *vm, pfn_t n)
{
	pfn_t done = 0, pfn;

	while (done < n && (pfn = page_cache_take(vm, true)) != PFN_INVALID) {
		buddy_free(vm, pfn, 0);
		done++;
	}
	return done;
}

/* More frames from the machine, if it has any, before anything is evicted for the lack of them. */
static void page_grow(struct vm *vm)
{
	if (vm->vm_nfree < vm->vm_lotsfree && vm->vm_nonline < vm->vm_maxframes)
		(void)buddy_online(vm, PAGE_GROW);
}

bool page_room(struct vm *vm, pfn_t n)
{
	if (vm->vm_nfree < vm->vm_lotsfree + n && vm->vm_nonline < vm->vm_maxframes)
		(void)buddy_online(vm, PAGE_GROW + n);
	return vm->vm_nfree >= vm->vm_lotsfree + n;
}

/* Names that follow each other get frames that do not compete for the sets of a cache. */
static uint32_t page_color(struct vm *vm, const struct vnode *vp, voff_t off)
{
	return (uint32_t)(vm_btop(off) + vp->v_id * 7u) & vm->vm_colormask;
}

/* Prepares a frame just allocated: tells the machine of its new use (mach_frame_renew), and zeroes
 * it if the flags ask for zeroes and it is not zeroed yet. */
static void page_frame_zero(struct vm *vm, struct page *pp, unsigned flags)
{
	bool zeroed = (page_nrm(pp) & P_ZEROED) != 0;

	page_nrm_clear(pp, P_ZEROED);
	mach_frame_renew(vm->vm_mach, page_pfn(vm, pp));
	if (!(flags & PG_ZERO))
		return;
	if (zeroed)
		VM_STAT(vm, zero_ready);
	else
		mach_frame_zero(vm->vm_mach, page_pfn(vm, pp));
}

/* A single frame: of the CPU's node where there are nodes, else of that colour, and zeroed, if such
 * a frame is near the head of a list. */
static pfn_t page_frame_single(struct vm *vm, uint32_t color, bool zero, bool reserve)
{
	pfn_t pfn = PFN_INVALID;

	if (vm->vm_caps->mc_nnodes > 1)
		pfn = numa_alloc_here(vm, reserve ? 0 : vm->vm_reserve);
	return pfn != PFN_INVALID ? pfn : buddy_alloc_page(vm, color, zero, reserve);
}

/* One frame for a named page; its flags are the caller's until it is named. */
static pfn_t page_frame_get(struct vm *vm, uint32_t color, unsigned flags)
{
	do {
		pfn_t pfn;

		page_grow(vm);
		if (flags >= PG_NODE(0) &&
		    (pfn = numa_alloc(vm, flags / PG_NODE(0) - 1, vm->vm_reserve)) != PFN_INVALID)
			return pfn;
		pfn =
		    page_frame_single(vm, color, (flags & PG_ZERO) != 0, (flags & PG_RESERVE) != 0);
		if (pfn == PFN_INVALID)
			pfn = page_cache_take(vm, true);
		if (pfn != PFN_INVALID)
			return pfn;
	} while ((flags & PG_WAIT) && pageout_wait(vm, 1));
	VM_STAT(vm, alloc_fail);
	return PFN_INVALID;
}

/* A thread waits for a page that is not in memory: a miss. A prefetch, which does not wait, counts
 * as none. */
static void page_miss(struct vm *vm, const struct vnode *vp, voff_t off, unsigned flags)
{
	bool refault;

	if (!(flags & PG_WAIT) || !vm->vm_policy->pol_history)
		return;
	mach_mutex_enter(&vm->vm_pollock);
	refault = vm->vm_policy->pol_miss(
	    vm->vm_polstate, page_name_hash(vp, off), (flags & PG_NEW) != 0);
	mach_mutex_exit(&vm->vm_pollock);
	if (refault)
		VM_STAT(vm, refault);
}

void page_begin_locked(struct vm *vm, struct page *pp, struct vnode *vp, voff_t off)
{
	VM_ASSERT(mach_mutex_held(&vm->vm_pagelocks[page_lockno(vm, vp, off)].pl_mutex));
	pp->p_flags = P_IOLOCK;
	pp->p_selock = -1;
	page_lckcnt_set(pp, 0);
	pp->p_polstate = 0;
	page_nrm_clear(pp, P_REF | P_MOD);
	page_name_locked(vm, pp, vp, off);
}

enum vm_err page_create(
    struct vm *vm, struct vnode *vp, voff_t off, unsigned flags, struct page **ppp)
{
	struct page_lock *pl;
	struct page *pp;
	pfn_t pfn;

	VM_ASSERT((off & VM_PAGEMASK) == 0);
	*ppp = NULL;
	if (vm_inject_fail(vm, VM_INJECT_PAGE)) {
		VM_STAT(vm, alloc_fail);
		return VM_NOMEM;
	}
	if (vm->vm_policy->pol_miss_first)
		page_miss(vm, vp, off, flags);
	pfn = page_frame_get(vm, page_color(vm, vp, off), flags);
	if (pfn == PFN_INVALID)
		return VM_NOMEM;
	pp = &vm->vm_pages[pfn];
	pl = page_name_enter(vm, vp, off);
	if (page_find_locked(vm, vp, off) != NULL) {
		page_exit(pl);
		page_nrm_clear(pp, P_ZEROED);
		buddy_free(vm, pfn, 0);
		return VM_EXIST;
	}
	if (!vm->vm_policy->pol_miss_first)
		page_miss(vm, vp, off, flags);
	page_begin_locked(vm, pp, vp, off);
	page_exit(pl);
	page_frame_zero(vm, pp, flags);
	*ppp = pp;
	return VM_OK;
}

void page_filled(struct vm *vm, struct page *pp, bool prefetched)
{
	struct page_lock *pl = page_enter(vm, pp);

	VM_ASSERT(pp->p_selock != 0 && pp->p_vnode != NULL);
	pp->p_flags &= (uint8_t)~P_IOLOCK;
	if (prefetched)
		pp->p_flags |= P_PREFETCHED;
	page_pol_insert_locked(vm, pp, prefetched);
	page_wake_locked(vm, pp);
	page_exit(pl);
}

/* ---- the way back. An I/O lock at this point is the caller's (its fill failed) and goes with the page. ---- */

static void page_assert_freeable(const struct page *pp)
{
	VM_ASSERT(pp->p_selock == -1);
	VM_ASSERT(pp->p_vnode != NULL && !(pp->p_flags & (P_FREE | P_KERNEL | P_OFFLINE)));
	VM_ASSERT(pp->p_lckcnt == 0);
	(void)pp;
}

/* The page loses name, lock and state; its waiters wake. The caller gives the frame to the buddy. */
static void page_clear_locked(struct vm *vm, struct page *pp)
{
	VM_ASSERT(page_held(vm, pp));
	if (pp->p_flags & P_PREFETCHED)
		VM_STAT(vm, prefetch_waste);
	page_unname_locked(vm, pp);
	page_wake_locked(vm, pp);
	pp->p_selock = 0;
	pp->p_flags = P_FREE;
	page_nrm_clear(pp, P_REF | P_MOD);
}

void page_free(struct vm *vm, struct page *pp, bool dontneed)
{
	struct page_lock *pl;

	VM_ASSERT(hat_page_getshare(pp) == 0);
	pl = page_enter(vm, pp);
	page_assert_freeable(pp);
	page_pol_remove_locked(vm, pp, true);
	/* A page that was never filled is not worth keeping, either. */
	if ((page_nrm(pp) & P_MOD) || (pp->p_flags & P_IOLOCK)) {
		page_clear_locked(vm, pp);
		page_exit(pl);
		buddy_free(vm, page_pfn(vm, pp), 0);
		return;
	}
	page_wake_locked(vm, pp);
	pp->p_selock = 0;
	pp->p_flags = P_FREE;
	page_nrm_clear(pp, P_REF);
	if (dontneed)
		page_queue_push_head(vm, &pl->pl_cache, pp);
	else
		page_queue_push_tail(vm, &pl->pl_cache, pp);
	page_exit(pl);
}

static void page_end(struct vm *vm, struct page *pp, bool evicted)
{
	struct page_lock *pl;

	VM_ASSERT(hat_page_getshare(pp) == 0);
	pl = page_enter(vm, pp);
	page_assert_freeable(pp);
	page_pol_remove_locked(vm, pp, evicted);
	page_clear_locked(vm, pp);
	page_exit(pl);
	buddy_free(vm, page_pfn(vm, pp), 0);
}

void page_destroy(struct vm *vm, struct page *pp) { page_end(vm, pp, false); }

void page_evict(struct vm *vm, struct page *pp) { page_end(vm, pp, true); }

void page_rename(struct vm *vm, struct page *pp, struct vnode *vp, voff_t off)
{
	struct page_lock *to = &vm->vm_pagelocks[page_lockno(vm, vp, off)],
			 *from = page_enter(vm, pp);
	struct page *old;
	bool queued;

	while (to != from && !mach_mutex_tryenter(&to->pl_mutex)) {
		page_exit(from);
		mach_yield();
		from = page_enter(vm, pp);
	}
	VM_ASSERT(pp->p_selock == -1 && pp->p_vnode != NULL && (off & VM_PAGEMASK) == 0);
	old = page_find_locked(vm, vp, off);
	if (old == pp)
		old = NULL;
	VM_ASSERT(old == NULL || (old->p_flags & P_FREE));
	if (old != NULL) {
		/* Only a leftover of the cache list may bear the name. */
		page_uncache_locked(vm, old);
		buddy_free(vm, page_pfn(vm, old), 0);
	}
	/* Threads that waited for the old name look again; a thread that still wants this page counts itself again. */
	pp->p_flags &= (uint8_t)~P_EWANTED;
	page_wake_locked(vm, pp);
	queued = (pp->p_flags & P_QUEUED) != 0;
	page_pol_remove_locked(vm, pp, false);
	page_unname_locked(vm, pp);
	page_name_locked(vm, pp, vp, off);
	if (queued)
		page_pol_insert_locked(vm, pp, false);
	if (to != from)
		page_exit(to);
	page_exit(from);
}

/* ---- kernel memory ---- */

/* Page tables and allocator slabs that cannot wait may use half of the reserve, never all of it. */
static uint32_t page_kfloor(struct vm *vm, unsigned flags)
{
	if (flags & PG_RESERVE)
		return 0;
	return (flags & PG_WAIT) ? vm->vm_reserve : vm->vm_reserve / 2;
}

/* Takes frames of the cache list until they form a block of the order. Without PG_WAIT the caller
 * may hold any lock. */
static pfn_t page_kalloc_cached(struct vm *vm, unsigned order, unsigned flags)
{
	for (;;) {
		pfn_t pfn = page_cache_take(vm, (flags & PG_WAIT) != 0);

		if (pfn == PFN_INVALID)
			return PFN_INVALID;
		if (order == 0)
			return pfn;
		buddy_free(vm, pfn, 0);
		pfn = buddy_alloc_floor(vm, order, page_kfloor(vm, flags));
		if (pfn != PFN_INVALID)
			return pfn;
	}
}

/*
 * False: waiting cannot help. If there are enough frames but no run, only freeing more of them can
 * help. The attempts are bounded, because other threads take the frames that this one frees.
 */
static bool page_kwait(struct vm *vm, unsigned order, unsigned flags, unsigned tries)
{
	pfn_t want = (pfn_t)1 << order;

	if (order == 0 || vm->vm_nfree <= page_kfloor(vm, flags) + want)
		return pageout_wait(vm, want);
	return tries < PAGE_KTRIES && (pageout_reclaim(vm, want) > 0 || kmem_reap(vm) > 0);
}

static pfn_t page_kframes_get(struct vm *vm, unsigned order, unsigned flags)
{
	unsigned tries = 0;

	do {
		pfn_t pfn;

		page_grow(vm);
		pfn = order == 0 && (flags & PG_ZERO) && (flags & PG_WAIT)
		    ? page_frame_single(vm, 0, true, false)
		    : PFN_INVALID;
		if (pfn == PFN_INVALID)
			pfn = buddy_alloc_floor(vm, order, page_kfloor(vm, flags));
		if (pfn == PFN_INVALID)
			pfn = page_kalloc_cached(vm, order, flags);
		if (pfn != PFN_INVALID)
			return pfn;
		/* Memory is fragmented or short: frames that the machine grants now are
		 * contiguous. */
		if (buddy_online(vm, (pfn_t)1 << order) > 0)
			continue;
		if (!(flags & PG_WAIT) || !page_kwait(vm, order, flags, tries++))
			break;
	} while (true);
	return PFN_INVALID;
}

struct page *page_kalloc(struct vm *vm, unsigned order, unsigned flags)
{
	pfn_t pfn = PFN_INVALID;

	if (order <= VM_MAXORDER && !vm_inject_fail(vm, VM_INJECT_PAGE))
		pfn = page_kframes_get(vm, order, flags);
	if (pfn == PFN_INVALID) {
		VM_STAT(vm, alloc_fail);
		return NULL;
	}
	for (pfn_t i = 0; i < 1u << order; i++) {
		struct page *pp = &vm->vm_pages[pfn + i];

		pp->p_flags = P_KERNEL;
		pp->p_offset = 0;
		page_frame_zero(vm, pp, flags);
	}
	vm->vm_nkernel += 1u << order;
	return &vm->vm_pages[pfn];
}

void page_kfree(struct vm *vm, struct page *pp, unsigned order)
{
	for (pfn_t i = 0; i < 1u << order; i++) {
		VM_ASSERT(pp[i].p_flags == P_KERNEL);
		pp[i].p_flags = P_FREE;
		pp[i].p_offset = 0;
	}
	vm->vm_nkernel -= 1u << order;
	buddy_free(vm, page_pfn(vm, pp), order);
}

/* ---- purge ---- */

/* Destroys one page, locked E and I/O-locked by us. Wired pages of a truncated object are
 * unwired. */
static void page_purge_one(struct vm *vm, struct page *pp)
{
	struct page_lock *pl;

	hat_pageunload(pp);
	pl = page_enter(vm, pp);
	if (pp->p_lckcnt > 0) {
		page_lckcnt_set(pp, 0);
		vm->vm_nwired--;
	}
	page_exit(pl);
	page_destroy(vm, pp);
}

/*
 * Deals with the page if it can be had at once: gone from the cache list, or E- and I/O-locked and left to the caller in
 * *mine. False: the page is busy; if wait (the caller holds no other page) this call waited for it,
 * and the caller must look again.
 */
static bool page_purge_grab_locked(
    struct vm *vm, struct page *pp, bool wait, bool spare, struct page **mine)
{
	VM_ASSERT(page_held(vm, pp));
	*mine = NULL;
	if (spare && pp->p_lckcnt > 0)
		return true; /* the thread that wired the page will look for the page by its name */
	if (pp->p_flags & P_FREE) {
		page_uncache_locked(vm, pp);
		buddy_free(vm, page_pfn(vm, pp), 0);
		return true;
	}
	if (!(pp->p_flags & P_IOLOCK) && page_trylock_locked(vm, pp, SE_EXCL)) {
		pp->p_flags |= P_IOLOCK;
		*mine = pp;
		return true;
	}
	if (!wait)
		return false;
	if (pp->p_selock != 0)
		pp->p_flags |= P_EWANTED;
	page_wait_locked(vm, pp);
	return false;
}

#define PAGE_PURGE_RUN                                                                             \
	64u /* pages taken at a time: the walk of a vnode's list starts from its front each time */

struct page_purge {
	struct vnode *pu_vp;
	voff_t pu_off, pu_last;
	bool pu_spare; /* wired pages */
	bool pu_more;  /* the range may have more pages to deal with */
	struct page *pu_mine[PAGE_PURGE_RUN];
	unsigned pu_n; /* pages in pu_mine, E- and I/O-locked */
};

/* Deals with one name. False: its page is busy; the call waited for it, if no other page is
 * held. */
static bool page_purge_name(struct vm *vm, struct page_purge *pu, voff_t off)
{
	struct page_lock *pl = page_name_enter(vm, pu->pu_vp, off);
	struct page *pp = page_find_locked(vm, pu->pu_vp, off), *mine = NULL;
	bool ok = pp == NULL || page_purge_grab_locked(vm, pp, pu->pu_n == 0, pu->pu_spare, &mine);

	page_exit(pl);
	if (mine != NULL)
		pu->pu_mine[pu->pu_n++] = mine;
	pu->pu_more |= !ok;
	return ok;
}

/* Up to PAGE_PURGE_RUN names of the vnode's list that are to go. */
static unsigned page_purge_list(struct vm *vm, struct page_purge *pu, voff_t *offs)
{
	unsigned n = 0;
	uint32_t i;

	mach_mutex_enter(&vm->vm_listlock);
	for (i = pu->pu_vp->v_pages; i != PAGE_NIL && n < PAGE_PURGE_RUN;
	     i = vm->vm_pages[i].p_vpnext) {
		const struct page *pp = &vm->vm_pages[i];

		if (pp->p_offset >= pu->pu_off && pp->p_offset <= pu->pu_last &&
		    !(pu->pu_spare && page_lckcnt(pp) > 0))
			offs[n++] = pp->p_offset;
	}
	mach_mutex_exit(&vm->vm_listlock);
	pu->pu_more = n == PAGE_PURGE_RUN;
	return n;
}

/* Takes some pages of [pu_off, pu_last]: by name while the range is shorter than the vnode's list (pu_off moves on). */
static void page_purge_run(struct vm *vm, struct page_purge *pu)
{
	voff_t offs[PAGE_PURGE_RUN];
	unsigned n;

	pu->pu_n = 0;
	pu->pu_more = false;
	if ((pu->pu_vp->v_flags & V_SWAPFS) == 0 &&
	    (pu->pu_last - pu->pu_off) >> VM_PAGESHIFT >=
		__atomic_load_n(&pu->pu_vp->v_npages, __ATOMIC_RELAXED)) {
		n = page_purge_list(vm, pu, offs);
		for (unsigned i = 0; i < n && page_purge_name(vm, pu, offs[i]); i++)
			;
		return;
	}
	for (; pu->pu_off <= pu->pu_last && pu->pu_n < PAGE_PURGE_RUN; pu->pu_off += VM_PAGESIZE) {
		if (!page_purge_name(vm, pu, pu->pu_off) || pu->pu_last - pu->pu_off < VM_PAGESIZE)
			return;
	}
	pu->pu_more = pu->pu_off <= pu->pu_last;
}

void page_purge_range(struct vm *vm, struct vnode *vp, voff_t off, uint64_t len, bool spare)
{
	struct page_purge pu = { .pu_vp = vp,
		.pu_off = vm_page_trunc(off),
		.pu_spare = spare,
		.pu_last = len == 0 || off + len < off ? UINT64_MAX : off + len - 1 };

	do {
		page_purge_run(vm, &pu);
		for (unsigned i = 0; i < pu.pu_n; i++)
			page_purge_one(vm, pu.pu_mine[i]);
	} while (pu.pu_more);
}

void page_vnode_purge(struct vm *vm, struct vnode *vp, voff_t off, uint64_t len)
{
	page_purge_range(vm, vp, off, len, false);
}

/* ---- contents ---- */

void *page_mapin(struct vm *vm, struct page *pp)
{
	if (!vm->vm_caps->mc_direct_map)
		hat_pageunload(pp);
	return mach_frame_kva(vm->vm_mach, page_pfn(vm, pp));
}

void *page_fillin(struct vm *vm, struct page *pp)
{
	if (vm->vm_caps->mc_frame_fill == NULL)
		return page_mapin(vm, pp);
	hat_pageunload(pp);
	return vm->vm_caps->mc_frame_fill(vm->vm_mach, page_pfn(vm, pp));
}

void page_copy(struct vm *vm, struct page *dst, struct page *src)
{
	(void)page_mapin(vm, dst);
	(void)page_mapin(vm, src);
	mach_frame_copy(vm->vm_mach, page_pfn(vm, dst), page_pfn(vm, src));
}

/* ---- life ---- */

static uint32_t page_nlocks(const struct vm_config *vc, pfn_t maxframes)
{
	uint32_t want = vc->vc_pagelocks, n = 1;

	if (want == 0)
		want = maxframes / VM_LOCKFRAMES;
	while (n < VM_PAGELOCKS && n < want)
		n *= 2;
	return n;
}

static uint32_t page_nhash(pfn_t maxframes)
{
	uint32_t nhash = 64;

	while (nhash < maxframes && nhash < 1u << 30)
		nhash <<= 1;
	return nhash;
}

size_t page_boot_bytes(const struct vm_config *vc, const struct mach_caps *caps)
{
	const struct policy_ops *pol = vc->vc_policy != NULL ? vc->vc_policy : &policy_clock2;
	pfn_t max = caps->mc_nframes;
	size_t polsize = pol->pol_size(max);

	return VM_BOOT_ROUND(page_nlocks(vc, max) * sizeof(struct page_lock) + VM_LINE) +
	    VM_BOOT_ROUND(sizeof(struct page) * max) +
	    VM_BOOT_ROUND(sizeof(uint32_t) * page_nhash(max)) +
	    VM_BOOT_ROUND(polsize == 0 ? 1 : polsize);
}

static bool page_locks_init(struct vm *vm)
{
	uint32_t n = page_nlocks(&vm->vm_config, vm->vm_maxframes);
	char *p;

	p = mach_boot_alloc(vm->vm_mach, n * sizeof(struct page_lock) + VM_LINE);
	if (p == NULL)
		return false;
	vm->vm_pagelocks =
	    (struct page_lock *)(void *)(((uintptr_t)p + VM_LINE - 1) & ~(uintptr_t)(VM_LINE - 1));
	vm->vm_lockmask = n - 1;
	vm->vm_hashshift = (uint32_t)__builtin_ctz((vm->vm_hashmask + 1) / n);
	for (uint32_t i = 0; i < n; i++) {
		mach_mutex_init(&vm->vm_pagelocks[i].pl_mutex, RANK_PAGE, "pages");
		mach_cv_init(&vm->vm_pagelocks[i].pl_cv);
		page_queue_init(&vm->vm_pagelocks[i].pl_cache);
	}
	mach_mutex_init(&vm->vm_listlock, RANK_PAGE + 3, "lists of pages");
	mach_mutex_init(&vm->vm_pollock, RANK_PAGE + 2, "replacement policy");
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		mach_mutex_init(&vm->vm_cpu[c].vc_pendlock, RANK_PAGE + 1, "pages not queued yet");
	return true;
}

enum vm_err page_init(struct vm *vm)
{
	size_t polsize = vm->vm_policy->pol_size(vm->vm_maxframes);
	const struct mach_caps *caps = vm->vm_caps;
	enum pol_refs blind = caps->mc_ref_writes ? POL_REFS_WRITES : POL_REFS_FAULTS;
	uint32_t nhash = page_nhash(vm->vm_maxframes);

	vm->vm_hashmask = nhash - 1;
	if (!page_locks_init(vm))
		return VM_NOMEM;
	vm->vm_pages = mach_boot_alloc(vm->vm_mach, sizeof(struct page) * vm->vm_maxframes);
	vm->vm_pagehash = mach_boot_alloc(vm->vm_mach, sizeof(uint32_t) * nhash);
	vm->vm_polstate = mach_boot_alloc(vm->vm_mach, polsize == 0 ? 1 : polsize);
	if (vm->vm_pages == NULL || vm->vm_pagehash == NULL || vm->vm_polstate == NULL)
		return VM_NOMEM;
	vm->vm_policy->pol_init(vm->vm_polstate,
	    &(struct pol_env){ .pe_pages = vm->vm_pages,
		.pe_nframes = vm->vm_maxframes,
		.pe_refs = caps->mc_ref_bits ? POL_REFS_BITS : blind });
	return VM_OK;
}

void page_fini(struct vm *vm)
{
	for (unsigned i = 0; i <= vm->vm_lockmask; i++) {
		mach_cv_fini(&vm->vm_pagelocks[i].pl_cv);
		mach_mutex_fini(&vm->vm_pagelocks[i].pl_mutex);
	}
	mach_mutex_fini(&vm->vm_listlock);
	mach_mutex_fini(&vm->vm_pollock);
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++) {
		mach_mutex_fini(&vm->vm_cpu[c].vc_pendlock);
		mach_mutex_fini(&vm->vm_cpu[c].vc_framelock);
	}
	mach_mutex_fini(&vm->vm_freelock);
}
