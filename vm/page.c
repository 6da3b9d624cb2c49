/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Physical pages: names, creation, the cache list, kernel frames.
 *
 * Purpose: the one table from (vnode, offset) to frame, and the life of a frame between the buddy allocator and a name.
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
 * Locks: vm_pagelock guards hash chains, vnode page lists, the cache list, the flags and locks of named pages. The
 * flags of a nameless frame belong to its owner: the buddy allocator or the holder of the kernel memory; so page_kalloc
 * takes no lock of rank < RANK_FREE unless memory is short, when it only tries vm_pagelock. Nothing is called with
 * vm_pagelock held but the policy and the buddy allocator.
 *
 * Invariants: a name is in the hash exactly once; a page is on its vnode's list if and only if it is named; a page of
 * the cache list is unlocked, unmapped, unwired and clean; the policy sees a page only while P_QUEUED.
 *
 * The order of taking a frame: the buddy above the reserve; more frames from the machine when few are free; the cache
 * list from its head; then, with PG_WAIT, whatever page-out can free.
 *
 * Left out: per-bucket locks: one lock is held for tens of nanoseconds at a time.
 */
#include "impl.h"

#define PAGE_KTRIES 256u
#define PAGE_GROW 64u /* frames asked of the machine at a time: one call pays for many faults */

struct page *page_of(struct vm *vm, pfn_t pfn)
{
	VM_ASSERT(pfn < vm->vm_nframes);
	return &vm->vm_pages[pfn];
}

pfn_t page_pfn(struct vm *vm, const struct page *pp)
{
	return (pfn_t)(pp - vm->vm_pages);
}

/* Named pages only: locked by the caller, so that the name stays. */
struct vm *page_vm(const struct page *pp)
{
	VM_ASSERT(pp->p_vnode != NULL);
	return pp->p_vnode->v_vm;
}

/* ---- queues by frame number ---- */

void page_queue_init(struct page_queue *q)
{
	q->q_head = q->q_tail = PAGE_NIL;
	q->q_len = 0;
}

void page_queue_push_tail(struct vm *vm, struct page_queue *q, struct page *pp)
{
	uint32_t i = page_pfn(vm, pp);

	pp->p_next = PAGE_NIL;
	pp->p_prev = q->q_tail;
	if (q->q_tail == PAGE_NIL)
		q->q_head = i;
	else
		vm->vm_pages[q->q_tail].p_next = i;
	q->q_tail = i;
	q->q_len++;
}

void page_queue_push_head(struct vm *vm, struct page_queue *q, struct page *pp)
{
	uint32_t i = page_pfn(vm, pp);

	pp->p_prev = PAGE_NIL;
	pp->p_next = q->q_head;
	if (q->q_head == PAGE_NIL)
		q->q_tail = i;
	else
		vm->vm_pages[q->q_head].p_prev = i;
	q->q_head = i;
	q->q_len++;
}

void page_queue_remove(struct vm *vm, struct page_queue *q, struct page *pp)
{
	VM_ASSERT(q->q_len > 0);
	if (pp->p_prev == PAGE_NIL)
		q->q_head = pp->p_next;
	else
		vm->vm_pages[pp->p_prev].p_next = pp->p_next;
	if (pp->p_next == PAGE_NIL)
		q->q_tail = pp->p_prev;
	else
		vm->vm_pages[pp->p_next].p_prev = pp->p_prev;
	pp->p_next = pp->p_prev = PAGE_NIL;
	q->q_len--;
}

struct page *page_queue_head(struct vm *vm, struct page_queue *q)
{
	return q->q_head == PAGE_NIL ? NULL : &vm->vm_pages[q->q_head];
}

/* ---- names ---- */

/* Stable in every run (no address goes in), so that policies' ghosts and the simulated machine are deterministic. */
uint64_t page_name_hash(const struct vnode *vp, voff_t off)
{
	uint64_t x = (off >> VM_PAGESHIFT) + vp->v_id * 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
	return x ^ (x >> 32);
}

static uint32_t *page_bucket(struct vm *vm, const struct vnode *vp, voff_t off)
{
	return &vm->vm_pagehash[page_name_hash(vp, off) & vm->vm_hashmask];
}

struct page *page_find_locked(struct vm *vm, const struct vnode *vp, voff_t off)
{
	uint32_t link = *page_bucket(vm, vp, off), i;

	for (; (i = page_hashlink(link)) != PAGE_NIL; link = vm->vm_pages[i].p_hashnext) {
		struct page *pp = &vm->vm_pages[i];

		if (pp->p_vnode == vp && pp->p_offset == off)
			return pp;
	}
	return NULL;
}

void page_name_locked(struct vm *vm, struct page *pp, struct vnode *vp, voff_t off)
{
	uint32_t i = page_pfn(vm, pp), *bucket = page_bucket(vm, vp, off);

	pp->p_vnode = vp;
	pp->p_offset = off;
	pp->p_hashnext = *bucket;
	*bucket = page_hashlink(i);
	pp->p_vpprev = PAGE_NIL;
	pp->p_vpnext = vp->v_pages;
	if (vp->v_pages != PAGE_NIL)
		vm->vm_pages[vp->v_pages].p_vpprev = i;
	vp->v_pages = i;
	vp->v_npages++;
}

void page_unname_locked(struct vm *vm, struct page *pp)
{
	struct vnode *vp = pp->p_vnode;
	uint32_t i = page_pfn(vm, pp), *link = page_bucket(vm, vp, pp->p_offset);

	while (*link != page_hashlink(i)) {
		VM_ASSERT(page_hashlink(*link) != PAGE_NIL);
		link = &vm->vm_pages[page_hashlink(*link)].p_hashnext;
	}
	*link = pp->p_hashnext;
	if (pp->p_vpprev == PAGE_NIL)
		vp->v_pages = pp->p_vpnext;
	else
		vm->vm_pages[pp->p_vpprev].p_vpnext = pp->p_vpnext;
	if (pp->p_vpnext != PAGE_NIL)
		vm->vm_pages[pp->p_vpnext].p_vpprev = pp->p_vpprev;
	vp->v_npages--;
	pp->p_vnode = NULL;
	pp->p_offset = 0;
	pp->p_vpnext = pp->p_vpprev = PAGE_NIL;
}

/* An unlocked page of the cache list loses its name; it is a plain free frame of the caller's then. */
void page_uncache_locked(struct vm *vm, struct page *pp)
{
	VM_ASSERT((pp->p_flags & P_FREE) && pp->p_selock == 0);
	page_queue_remove(vm, &vm->vm_cachelist, pp);
	page_unname_locked(vm, pp);
	pp->p_flags = P_FREE;
	page_nrm_clear(pp, P_REF | P_MOD);
}

/* ---- lookup ---- */

/* Takes a page back from the cache list: in use again, unlocked. */
static void page_reclaim_locked(struct vm *vm, struct page *pp)
{
	page_queue_remove(vm, &vm->vm_cachelist, pp);
	pp->p_flags &= (uint8_t)~P_FREE;
	page_pol_insert_locked(vm, pp, false);
	VM_STAT(vm, reclaim);
}

/* A real use found the page. */
static void page_touch_locked(struct vm *vm, struct page *pp)
{
	if ((pp->p_flags & P_QUEUED) && !vm->vm_caps->mc_ref_bits)
		vm->vm_policy->pol_touch(vm->vm_polstate, pp);
	if (pp->p_flags & P_PREFETCHED) {
		pp->p_flags &= (uint8_t)~P_PREFETCHED;
		VM_STAT(vm, prefetch_hit);
	} else if (hat_page_getshare(pp) == 0) {
		VM_STAT(vm, rescue);
	}
}

static struct page *page_lookup_common(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se, bool wait,
    bool touch)
{
	struct page *pp;
	bool reclaimed = false;

	mach_mutex_enter(&vm->vm_pagelock);
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
	if (pp != NULL && touch && !reclaimed)
		page_touch_locked(vm, pp);
	mach_mutex_exit(&vm->vm_pagelock);
	return pp;
}

struct page *page_lookup(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se)
{
	return page_lookup_common(vm, vp, off, se, true, true);
}

struct page *page_lookup_nowait(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se)
{
	return page_lookup_common(vm, vp, off, se, false, true);
}

struct page *page_lookup_notouch(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se)
{
	return page_lookup_common(vm, vp, off, se, true, false);
}

bool page_exists(struct vm *vm, struct vnode *vp, voff_t off)
{
	bool yes;

	mach_mutex_enter(&vm->vm_pagelock);
	yes = page_find_locked(vm, vp, off) != NULL;
	mach_mutex_exit(&vm->vm_pagelock);
	return yes;
}

enum page_peek page_peek(struct vm *vm, struct vnode *vp, voff_t off)
{
	enum page_peek what = PAGE_ABSENT;
	const struct page *pp;

	mach_mutex_enter(&vm->vm_pagelock);
	if ((pp = page_find_locked(vm, vp, off)) != NULL)
		what = (pp->p_flags & P_PREFETCHED) ? PAGE_UNUSED : PAGE_USED;
	mach_mutex_exit(&vm->vm_pagelock);
	return what;
}

/* ---- frames ---- */

static pfn_t page_cache_take_locked(struct vm *vm)
{
	struct page *pp = page_queue_head(vm, &vm->vm_cachelist);

	if (pp == NULL)
		return PFN_INVALID;
	page_uncache_locked(vm, pp);
	return page_pfn(vm, pp);
}

static pfn_t page_cache_take(struct vm *vm)
{
	pfn_t pfn;

	mach_mutex_enter(&vm->vm_pagelock);
	pfn = page_cache_take_locked(vm);
	mach_mutex_exit(&vm->vm_pagelock);
	return pfn;
}

pfn_t page_cache_drain(struct vm *vm, pfn_t n)
{
	pfn_t done = 0, pfn;

	while (done < n && (pfn = page_cache_take(vm)) != PFN_INVALID) {
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

/* Names that follow each other get frames that do not compete for the sets of a cache. */
static uint32_t page_color(struct vm *vm, const struct vnode *vp, voff_t off)
{
	return (uint32_t)(vm_btop(off) + vp->v_id * 7u) & vm->vm_colormask;
}

/* A frame just got shall be zero if the flags say so; perhaps it is. */
static void page_frame_zero(struct vm *vm, struct page *pp, unsigned flags)
{
	bool zeroed = (page_nrm(pp) & P_ZEROED) != 0;

	page_nrm_clear(pp, P_ZEROED);
	if (!(flags & PG_ZERO))
		return;
	if (zeroed)
		VM_STAT(vm, zero_ready);
	else
		mach_frame_zero(vm->vm_mach, page_pfn(vm, pp));
}

/* One frame for a named page; its flags are the caller's until it is named. */
static pfn_t page_frame_get(struct vm *vm, uint32_t color, unsigned flags)
{
	do {
		pfn_t pfn;

		page_grow(vm);
		pfn = buddy_alloc_page(vm, color, (flags & PG_ZERO) != 0, (flags & PG_RESERVE) != 0);
		if (pfn == PFN_INVALID)
			pfn = page_cache_take(vm);
		if (pfn != PFN_INVALID)
			return pfn;
	} while ((flags & PG_WAIT) && pageout_wait(vm, 1));
	VM_STAT(vm, alloc_fail);
	return PFN_INVALID;
}

/* A page that somebody waits for is missing. What is read ahead without waiting is no miss. */
static void page_miss_locked(struct vm *vm, const struct vnode *vp, voff_t off, unsigned flags)
{
	if ((flags & PG_WAIT) &&
	    vm->vm_policy->pol_miss(vm->vm_polstate, page_name_hash(vp, off), (flags & PG_NEW) != 0))
		VM_STAT(vm, refault);
}

void page_begin_locked(struct vm *vm, struct page *pp, struct vnode *vp, voff_t off)
{
	pp->p_flags = P_IOLOCK;
	pp->p_selock = -1;
	pp->p_lckcnt = 0;
	pp->p_polstate = 0;
	page_nrm_clear(pp, P_REF | P_MOD);
	page_name_locked(vm, pp, vp, off);
}

enum vm_err page_create(struct vm *vm, struct vnode *vp, voff_t off, unsigned flags, struct page **ppp)
{
	struct page *pp;
	pfn_t pfn;

	VM_ASSERT((off & VM_PAGEMASK) == 0);
	*ppp = NULL;
	if (vm_inject_fail(vm, VM_INJECT_PAGE)) {
		VM_STAT(vm, alloc_fail);
		return VM_NOMEM;
	}
	if (vm->vm_policy->pol_miss_first) {
		mach_mutex_enter(&vm->vm_pagelock);
		page_miss_locked(vm, vp, off, flags);
		mach_mutex_exit(&vm->vm_pagelock);
	}
	pfn = page_frame_get(vm, page_color(vm, vp, off), flags);
	if (pfn == PFN_INVALID)
		return VM_NOMEM;
	pp = &vm->vm_pages[pfn];
	mach_mutex_enter(&vm->vm_pagelock);
	if (page_find_locked(vm, vp, off) != NULL) {
		mach_mutex_exit(&vm->vm_pagelock);
		page_nrm_clear(pp, P_ZEROED);
		buddy_free(vm, pfn, 0);
		return VM_EXIST;
	}
	if (!vm->vm_policy->pol_miss_first)
		page_miss_locked(vm, vp, off, flags);
	page_begin_locked(vm, pp, vp, off);
	mach_mutex_exit(&vm->vm_pagelock);
	page_frame_zero(vm, pp, flags);
	*ppp = pp;
	return VM_OK;
}

void page_filled(struct vm *vm, struct page *pp, bool prefetched)
{
	mach_mutex_enter(&vm->vm_pagelock);
	VM_ASSERT(pp->p_selock != 0 && pp->p_vnode != NULL);
	pp->p_flags &= (uint8_t)~P_IOLOCK;
	if (prefetched)
		pp->p_flags |= P_PREFETCHED;
	page_pol_insert_locked(vm, pp, prefetched);
	page_wake_locked(vm, pp);
	mach_mutex_exit(&vm->vm_pagelock);
}

/* ---- the way back. An I/O lock at this point is the caller's (its fill failed) and goes with the page. ---- */

static void page_assert_freeable(const struct page *pp)
{
	VM_ASSERT(pp->p_selock == -1);
	VM_ASSERT(pp->p_vnode != NULL && !(pp->p_flags & (P_FREE | P_KERNEL | P_OFFLINE)));
	VM_ASSERT(pp->p_lckcnt == 0);
	(void)pp;
}

/* Forgets name, lock and state; wakes whoever waited. The frame is the caller's to give to the buddy. */
static void page_clear_locked(struct vm *vm, struct page *pp)
{
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
	VM_ASSERT(hat_page_getshare(pp) == 0);
	mach_mutex_enter(&vm->vm_pagelock);
	page_assert_freeable(pp);
	page_pol_remove_locked(vm, pp, true);
	/* A page that was never filled has nothing worth a name either. */
	if ((page_nrm(pp) & P_MOD) || (pp->p_flags & P_IOLOCK)) {
		page_clear_locked(vm, pp);
		mach_mutex_exit(&vm->vm_pagelock);
		buddy_free(vm, page_pfn(vm, pp), 0);
		return;
	}
	page_wake_locked(vm, pp);
	pp->p_selock = 0;
	pp->p_flags = P_FREE;
	page_nrm_clear(pp, P_REF);
	if (dontneed)
		page_queue_push_head(vm, &vm->vm_cachelist, pp);
	else
		page_queue_push_tail(vm, &vm->vm_cachelist, pp);
	mach_mutex_exit(&vm->vm_pagelock);
}

void page_destroy(struct vm *vm, struct page *pp)
{
	VM_ASSERT(hat_page_getshare(pp) == 0);
	mach_mutex_enter(&vm->vm_pagelock);
	page_assert_freeable(pp);
	page_pol_remove_locked(vm, pp, false);
	page_clear_locked(vm, pp);
	mach_mutex_exit(&vm->vm_pagelock);
	buddy_free(vm, page_pfn(vm, pp), 0);
}

void page_rename(struct vm *vm, struct page *pp, struct vnode *vp, voff_t off)
{
	struct page *old;
	bool queued;

	mach_mutex_enter(&vm->vm_pagelock);
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
	queued = (pp->p_flags & P_QUEUED) != 0;
	page_pol_remove_locked(vm, pp, false);
	page_unname_locked(vm, pp);
	page_name_locked(vm, pp, vp, off);
	if (queued)
		page_pol_insert_locked(vm, pp, false);
	/* Those who waited for the old name look again; a waiter that still wants this page says so again. */
	pp->p_flags &= (uint8_t)~P_EWANTED;
	page_wake_locked(vm, pp);
	mach_mutex_exit(&vm->vm_pagelock);
}

/* ---- kernel memory ---- */

/* Page tables and allocator slabs that cannot wait may use half of the reserve, never all of it. */
static uint32_t page_kfloor(struct vm *vm, unsigned flags)
{
	if (flags & PG_RESERVE)
		return 0;
	return (flags & PG_WAIT) ? vm->vm_reserve : vm->vm_reserve / 2;
}

/*
 * The cache list gives frames until a block of the order came together. Without PG_WAIT the caller may hold any lock, so
 * vm_pagelock is only tried.
 */
static pfn_t page_kalloc_cached(struct vm *vm, unsigned order, unsigned flags)
{
	for (;;) {
		pfn_t pfn;

		if (flags & PG_WAIT)
			mach_mutex_enter(&vm->vm_pagelock);
		else if (!mach_mutex_tryenter(&vm->vm_pagelock))
			return PFN_INVALID;
		pfn = page_cache_take_locked(vm);
		mach_mutex_exit(&vm->vm_pagelock);
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
 * False: there is no hope. Enough frames, but not in a run: only freeing more of them can help, and not for ever, since
 * others take what one frees.
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
		pfn = order == 0 && (flags & PG_ZERO) && (flags & PG_WAIT) ? buddy_alloc_page(vm, 0, true, false)
									    : PFN_INVALID;
		if (pfn == PFN_INVALID)
			pfn = buddy_alloc_floor(vm, order, page_kfloor(vm, flags));
		if (pfn == PFN_INVALID)
			pfn = page_kalloc_cached(vm, order, flags);
		if (pfn != PFN_INVALID)
			return pfn;
		/* Fragmented or short: fresh frames come in runs. */
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

/* Destroys one page, locked E and I/O-locked by us. What is wired in a truncated object is wired no more. */
static void page_purge_one(struct vm *vm, struct page *pp)
{
	hat_pageunload(pp);
	mach_mutex_enter(&vm->vm_pagelock);
	if (pp->p_lckcnt > 0) {
		pp->p_lckcnt = 0;
		vm->vm_nwired--;
	}
	mach_mutex_exit(&vm->vm_pagelock);
	page_destroy(vm, pp);
}

/*
 * Deals with the page if it can be had at once: gone from the cache list, or E- and I/O-locked and left to the caller in
 * *mine. False: it is busy; if wait (the caller holds no other page) it was waited for, and the world has changed.
 */
static bool page_purge_grab_locked(struct vm *vm, struct page *pp, bool wait, bool spare, struct page **mine)
{
	*mine = NULL;
	if (spare && pp->p_lckcnt > 0)
		return true; /* whoever wired it will look for it by its name */
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

#define PAGE_PURGE_RUN 64u /* pages taken in one walk of a vnode's list: it starts from the front each time */

/*
 * Takes up to PAGE_PURGE_RUN pages of vp in [*off, last] as page_purge_grab_locked does; *more: there may be others.
 * By name while the range is shorter than the vnode's list (*off moves on), else along the list.
 */
static unsigned page_purge_run_locked(struct vm *vm, struct vnode *vp, voff_t *off, voff_t last, bool spare,
    struct page **mine, bool *more)
{
	bool byname = (last - *off) >> VM_PAGESHIFT < vp->v_npages;
	uint32_t i = vp->v_pages, next;
	unsigned n = 0;

	*more = false;
	if (byname) {
		for (; *off <= last && n < PAGE_PURGE_RUN; *off += VM_PAGESIZE) {
			struct page *pp = page_find_locked(vm, vp, *off);

			if (pp != NULL && !page_purge_grab_locked(vm, pp, n == 0, spare, &mine[n])) {
				*more = true;
				return n;
			}
			n += pp != NULL && mine[n] != NULL;
			if (last - *off < VM_PAGESIZE)
				return n;
		}
		*more = *off <= last;
		return n;
	}
	for (; i != PAGE_NIL && n < PAGE_PURGE_RUN; i = next) {
		struct page *pp = &vm->vm_pages[i];

		next = pp->p_vpnext;
		if (pp->p_offset < *off || pp->p_offset > last)
			continue;
		if (!page_purge_grab_locked(vm, pp, n == 0, spare, &mine[n])) {
			*more = true;
			return n;
		}
		n += mine[n] != NULL;
	}
	*more = i != PAGE_NIL;
	return n;
}

void page_purge_range(struct vm *vm, struct vnode *vp, voff_t off, uint64_t len, bool spare)
{
	voff_t last = len == 0 || off + len < off ? UINT64_MAX : off + len - 1;
	struct page *mine[PAGE_PURGE_RUN];
	bool more;

	off = vm_page_trunc(off);
	do {
		unsigned n;

		mach_mutex_enter(&vm->vm_pagelock);
		n = page_purge_run_locked(vm, vp, &off, last, spare, mine, &more);
		mach_mutex_exit(&vm->vm_pagelock);
		for (unsigned i = 0; i < n; i++)
			page_purge_one(vm, mine[i]);
	} while (more);
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

void page_copy(struct vm *vm, struct page *dst, struct page *src)
{
	(void)page_mapin(vm, dst);
	(void)page_mapin(vm, src);
	mach_frame_copy(vm->vm_mach, page_pfn(vm, dst), page_pfn(vm, src));
}

/* ---- life ---- */

enum vm_err page_init(struct vm *vm)
{
	size_t polsize = vm->vm_policy->pol_size(vm->vm_maxframes);
	uint32_t nhash = 64;

	while (nhash < vm->vm_maxframes && nhash < 1u << 30)
		nhash <<= 1;
	vm->vm_hashmask = nhash - 1;
	vm->vm_pages = mach_boot_alloc(vm->vm_mach, sizeof(struct page) * vm->vm_maxframes);
	vm->vm_pagehash = mach_boot_alloc(vm->vm_mach, sizeof(uint32_t) * nhash);
	vm->vm_polstate = mach_boot_alloc(vm->vm_mach, polsize == 0 ? 1 : polsize);
	if (vm->vm_pages == NULL || vm->vm_pagehash == NULL || vm->vm_polstate == NULL)
		return VM_NOMEM;
	mach_mutex_init(&vm->vm_pagelock, RANK_PAGE, "pages");
	for (unsigned i = 0; i < VM_NPAGECV; i++)
		mach_cv_init(&vm->vm_pagecv[i]);
	page_queue_init(&vm->vm_cachelist);
	vm->vm_policy->pol_init(vm->vm_polstate,
	    &(struct pol_env){ .pe_pages = vm->vm_pages,
		.pe_nframes = vm->vm_maxframes,
		.pe_refs = vm->vm_caps->mc_ref_bits ? POL_REFS_BITS : POL_REFS_FAULTS });
	return VM_OK;
}

void page_fini(struct vm *vm)
{
	for (unsigned i = 0; i < VM_NPAGECV; i++)
		mach_cv_fini(&vm->vm_pagecv[i]);
	mach_mutex_fini(&vm->vm_pagelock);
	mach_mutex_fini(&vm->vm_freelock);
}
