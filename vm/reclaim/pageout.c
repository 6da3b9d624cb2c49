/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page-out: finds pages to give up, cleans them, frees their frames.
 *
 * Page-out has no thread: a thread that needs a frame (page_create, page_kalloc with PG_WAIT) reclaims by itself, one at a time under
 * vm_reclaimlock; the others wait for it and usually find frames then. Doing it in the faulting thread costs no context
 * switch; page-out in batches keeps writes clustered.
 *
 * It never waits for memory: pages to be written are kept in vm_batch; a table of swap slots takes
 * a frame of the reserve; the store may fail, then the page stays dirty and is looked at again a
 * round later. A round without progress ends (pol_next returns NULL), so a full store gives
 * VM_NOMEM to the thread that asked, not a loop.
 *
 * Locks: vm_reclaimlock lies between RANK_SLOT and RANK_ANON, so a fault may reclaim with its slot busy. Pages are only
 * ever tried, never waited for.
 *
 * Thresholds follow Solaris' proportions, scaled down so that 64 frames work: lotsfree = online/64 within [4, 4096],
 * desfree = lotsfree/2, minfree = throttlefree = 3/4 desfree, reserve = what a page-out may need of kernel memory.
 */
#include "vm/impl.h"

#define BATCH                                                                                      \
	32u /* pages of one reclaim: enough for one clustered write, few enough to keep the pages in
	     * use */

#define BUSY_NS 5000000u /* a page is in hand for the time of an I/O, at most */
#define BUSY_TRIES 100u
#define SHARE_MIN 8u /* as Solaris: fewer translations are no reason to spare a page */
#define SHARE_STEP 8u
#define FAILED_MAX                                                                                 \
	4u /* after so many failed writes a reclaim only looks for clean pages: the store is full or broken */

void pageout_setup(struct vm *vm)
{
	uint32_t online = vm->vm_nonline, lots = online / 64;

	if (lots < 4)
		lots = 4;
	if (lots > 4096)
		lots = 4096;
	vm->vm_lotsfree = lots;
	vm->vm_desfree = lots / 2;
	vm->vm_minfree = lots * 3 / 8;
	vm->vm_throttlefree = lots * 3 / 8;
	vm->vm_reserve = lots / 4 < 2 ? 2 : lots / 4;
	if (vm->vm_config.vc_reserve != 0)
		vm->vm_reserve = (uint32_t)vm->vm_config.vc_reserve;
}

void pageout_start(struct vm *vm)
{
	mach_mutex_init(&vm->vm_reclaimlock, RANK_SLOT + 5, "reclaim");
	mach_mutex_init(&vm->vm_reaperlock, RANK_SLOT + 6, "reapers");
}

void pageout_stop(struct vm *vm)
{
	mach_mutex_fini(&vm->vm_reaperlock);
	mach_mutex_fini(&vm->vm_reclaimlock);
}

/* ---- one reclaim ---- */
struct reclaim {
	struct vm *r_vm;
	pfn_t r_freed;
	uint32_t r_n;      /* in vm_batch: dirty, E-locked, unmapped */
	uint32_t r_chosen; /* in vm_batch after these: to be given up, E-locked */
	unsigned r_failed; /* writes that failed */
	unsigned r_share; /* pages with more translations are spared, as long as there are others */
	bool r_spared;    /* a page was spared */
	struct page *r_busy; /* a page that another thread has locked, or NULL */
};

static bool is_anon(const struct page *pp) { return (pp->p_vnode->v_flags & V_SWAPFS) != 0; }
static anon_id anon_of_page(const struct page *pp)
{
	return (anon_id)(pp->p_offset >> VM_PAGESHIFT);
}

/* By name: neighbours in memory become neighbours on disk. */
static void sort_batch(struct page **b, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++) {
		struct page *pp = b[i];
		uint32_t j = i;

		for (; j > 0 &&
		     (b[j - 1]->p_vnode > pp->p_vnode ||
			 (b[j - 1]->p_vnode == pp->p_vnode && b[j - 1]->p_offset > pp->p_offset));
		     j--)
			b[j] = b[j - 1];
		b[j] = pp;
	}
}

/* How many pages from the start of b belong in one write. */
static uint32_t run_length(struct page **b, uint32_t n)
{
	uint32_t k = 1;

	while (k < n && b[k]->p_vnode == b[0]->p_vnode &&
	    (is_anon(b[0]) || b[k]->p_offset == b[k - 1]->p_offset + VM_PAGESIZE))
		k++;
	return k;
}

static void put_back(struct vm *vm, struct page *pp) { page_seen_unlock(vm, pp, false, true); }

/* Frees the frame and forgets its name; the store has the contents. */
static void release_frame(struct reclaim *r, struct page *pp)
{
	page_evict(r->r_vm, pp);
	r->r_freed++;
}

/*
 * Frees the old copies of modified pages. The structures of the pages of a batch lie anywhere in
 * memory: the CPU fetches their cache lines at the same time.
 */
static void free_old_copies(struct vm *vm, struct page **b, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (is_anon(b[i]))
			anon_prefetch(vm, anon_of_page(b[i]));
	for (uint32_t i = 0; i < n; i++)
		if (is_anon(b[i]) && anon_swapped(vm, anon_of_page(b[i])))
			swapfs_dirty(vm, b[i]);
}

static void flush_batch(struct reclaim *r)
{
	struct vm *vm = r->r_vm;
	struct page **b = vm->vm_batch;
	uint32_t left = r->r_n;

	free_old_copies(vm, b, left);
	sort_batch(b, left);
	for (r->r_n = 0; left > 0;) {
		uint32_t n = run_length(b, left), ok = 0;

		if (is_anon(b[0])) {
			(void)swapfs_putpages(vm, b, n, &ok);
		} else {
			(void)pvn_io(vm, b[0]->p_vnode, VM_IO_WRITE, b[0]->p_offset, b, n, &ok);
			VM_STATN(vm, fileout, ok);
			for (uint32_t i = 0; i < ok; i++)
				page_nrm_clear(b[i], P_MOD);
			if (ok < n)
				b[0]->p_vnode->v_lost++;
		}
		for (uint32_t i = 0; i < n; i++) {
			if (i < ok)
				release_frame(r, b[i]);
			else
				put_back(vm, b[i]);
		}
		r->r_failed += ok < n;
		b += n;
		left -= n;
	}
}

/* Was the page used since the last call, as far as the machine tells? Clears the record of use.
 * E-locked. */
static bool take_reference(struct vm *vm, struct page *pp)
{
	bool referenced;

	if (!vm->vm_caps->mc_ref_bits && !vm->vm_caps->mc_ref_writes)
		return false;
	referenced = ((hat_pagesync(pp, true, false) | page_nrm(pp)) & P_REF) != 0;
	page_nrm_clear(pp, P_REF);
	return referenced;
}

/*
 * Front hand: tells the policy whether the page was used, and clears the record. If the machine
 * does not report use, or not all of it, and the policy wants to know, the page loses its
 * translations: the next use faults. E-locked; unlocks.
 */
static void age_page(struct vm *vm, struct page *pp, enum pol_ask ask)
{
	const struct mach_caps *caps = vm->vm_caps;
	bool referenced = take_reference(vm, pp);

	VM_STAT(vm, scan_front);
	if (!referenced && !caps->mc_ref_bits && (ask == POL_ASK_TEST || !caps->mc_ref_writes))
		referenced = !hat_page_tryunload(pp);
	page_seen_unlock(vm, pp, referenced, false);
}

/*
 * A page that many translations map costs as many faults to get back, and some program will use it
 * soon: text of a shared library, say. Such pages are passed over at first; a round that frees too
 * few without them raises the limit (Solaris' po_share).
 */
static bool spare_shared(struct reclaim *r, struct page *pp)
{
	unsigned most = r->r_vm->vm_caps->mc_max_mappings;

	if ((most != 0 && most <= SHARE_MIN) || hat_page_getshare(pp) <= r->r_share)
		return false;
	r->r_spared = true;
	VM_STAT(r->r_vm, share_skip);
	return true;
}

/* Back hand. E-locked; unlocks, or keeps it locked as chosen. */
static void consider_page(struct reclaim *r, struct page *pp)
{
	struct vm *vm = r->r_vm;
	bool referenced = spare_shared(r, pp);

	VM_STAT(vm, scan_back);
	if (referenced || take_reference(vm, pp)) {
		page_seen_unlock(vm, pp, true, false);
		return;
	}
	/* the page leaves the queue's head, so that the hand goes on while the page waits */
	page_seen(vm, pp, false, false);
	vm->vm_batch[r->r_n + r->r_chosen++] = pp;
}

/* An unmapped page. E-locked; unlocks, frees, or keeps it locked in the batch. */
static void drop_if_clean(struct reclaim *r, struct page *pp)
{
	struct vm *vm = r->r_vm;

	if ((page_nrm(pp) & P_MOD) == 0) {
		VM_STAT(vm, clean_drop);
		if (is_anon(pp))
			anon_dropped(vm, anon_of_page(pp));
		release_frame(r, pp);
	} else if (r->r_failed >= FAILED_MAX) {
		put_back(vm, pp);
	} else {
		vm->vm_batch[r->r_n++] = pp;
	}
}

/*
 * Unmaps the chosen pages together, as a flush costs an interrupt of each CPU that may have a
 * translation: what is clean is freed, what is dirty joins the batch.
 */
static void unmap_chosen(struct reclaim *r)
{
	struct vm *vm = r->r_vm;
	struct page **b = vm->vm_batch + r->r_n;
	uint32_t n = r->r_chosen, out = hat_pages_tryunload(b, n);

	r->r_chosen = 0;
	for (uint32_t i = 0; i < out; i++)
		drop_if_clean(r, b[i]);
	for (uint32_t i = out; i < n; i++) {
		VM_STAT(vm, scan_skip);
		put_back(vm, b[i]);
	}
}

/* The next page of the policy, E-locked; NULL: the round is over. */
static struct page *next_page(struct reclaim *r, enum pol_ask *ask)
{
	struct vm *vm = r->r_vm;

	for (;;) {
		struct page_lock *pl;
		struct page *pp;
		bool queued, mine;

		mach_mutex_enter(&vm->vm_pollock);
		pp = vm->vm_policy->pol_next(vm->vm_polstate, ask);
		mach_mutex_exit(&vm->vm_pollock);
		if (pp == NULL && page_pol_settle(vm))
			continue;
		if (pp == NULL)
			return NULL;
		VM_STAT(vm, scan);
		/* The page may have left the queue by now, which the policy then knows. */
		pl = page_enter(vm, pp);
		queued = page_named_locked(vm, pp, pl) && (pp->p_flags & P_QUEUED) != 0;
		mine =
		    queued && (pp->p_flags & P_IOLOCK) == 0 && page_trylock_locked(vm, pp, SE_EXCL);
		if (!mine)
			VM_STAT(vm, scan_skip);
		if (queued && !mine) {
			r->r_busy = pp;
			page_seen_locked(vm, pp, false, true);
		}
		page_exit(pl);
		if (mine)
			return pp;
	}
}

/* How many pages one reclaim takes: a clustered write's worth, but never more than an eighth of what there is. */
static pfn_t batch_size(struct vm *vm)
{
	pfn_t eighth = vm->vm_nonline / 8;

	if (eighth < 4)
		return 4;
	return eighth < BATCH ? eighth : BATCH;
}

/* Tells the policy how much memory there is. */
static void tell_room(struct vm *vm)
{
	uint64_t taken = (uint64_t)vm->vm_nkernel + vm->vm_nwired;
	pfn_t room = vm->vm_nonline > taken ? (pfn_t)(vm->vm_nonline - taken) : 1;

	if (room == vm->vm_polroom)
		return;
	mach_mutex_enter(&vm->vm_pollock);
	vm->vm_policy->pol_resize(vm->vm_polstate, room);
	mach_mutex_exit(&vm->vm_pollock);
	vm->vm_polroom = room;
}

/* True: frames are there already: the previous holder of the lock freed them. */
static bool reclaim_enter(struct vm *vm, pfn_t n)
{
	if (mach_mutex_tryenter(&vm->vm_reclaimlock))
		return false;
	mach_mutex_enter(&vm->vm_reclaimlock);
	return vm->vm_nfree > vm->vm_reserve + n;
}

static bool is_enough(const struct reclaim *r, pfn_t goal)
{
	uint32_t held = r->r_n + r->r_chosen;

	return held >= BATCH || r->r_freed + held >= goal;
}

/*
 * Aims at a batch but is content with n, so that pages that cannot be written do not keep it
 * running. A round of the policy that freed nothing ends it: the pages left are in use, wired, or
 * cannot be written.
 */
static void reclaim_some(struct reclaim *r, pfn_t n, pfn_t goal)
{
	struct vm *vm = r->r_vm;
	pfn_t at_round = 0;

	(void)page_pol_settle(vm);
	for (;;) {
		enum pol_ask ask;
		struct page *pp;

		if (is_enough(r, goal))
			unmap_chosen(r);
		if (is_enough(r, goal)) {
			flush_batch(r);
			if (r->r_freed >= n)
				return;
		}
		pp = next_page(r, &ask);
		if (pp == NULL) {
			unmap_chosen(r);
			flush_batch(r);
			if (r->r_freed >= n || (r->r_freed == at_round && !r->r_spared))
				return;
			at_round = r->r_freed;
			if (r->r_spared)
				r->r_share *= SHARE_STEP;
			r->r_spared = false;
		} else if (ask != POL_ASK_EVICT) {
			age_page(vm, pp, ask);
		} else {
			consider_page(r, pp);
		}
	}
}

/* As pageout_reclaim. *busy: a page that could not be taken because another thread has it locked, if there was one. */
static pfn_t reclaim_frames(struct vm *vm, pfn_t n, struct page **busy)
{
	struct reclaim r = { .r_vm = vm, .r_share = SHARE_MIN };
	pfn_t batch = batch_size(vm);

	*busy = NULL;
	if (reclaim_enter(vm, n)) {
		mach_mutex_exit(&vm->vm_reclaimlock);
		return n;
	}
	tell_room(vm);
	reclaim_some(&r, n, n < batch ? batch : n);
	mach_mutex_exit(&vm->vm_reclaimlock);
	*busy = r.r_busy;
	return r.r_freed;
}

pfn_t pageout_reclaim(struct vm *vm, pfn_t n)
{
	struct page *busy;

	return reclaim_frames(vm, n, &busy);
}

/* Waits until the page's holder releases it, but only for a bounded time: the holder may wait for a
 * page that the caller of this function holds. */
static void wait_for(struct vm *vm, struct page *pp)
{
	struct page_lock *pl = page_enter(vm, pp);

	if (page_named_locked(vm, pp, pl) && (pp->p_selock != 0 || (pp->p_flags & P_IOLOCK) != 0))
		page_timedwait_locked(vm, pp, BUSY_NS);
	page_exit(pl);
}

/*
 * The last resort: translations are a cache, and where they take kernel memory all of that can be freed: page tables and mapping
 * lists. A space that runs loads its translations again by faults. vm_mutex keeps the spaces alive;
 * it is only tried, as the caller may hold any lock.
 */
static bool steal_tables(struct vm *vm)
{
	uint32_t before = vm->vm_nkernel;

	if (vm->vm_caps->mc_max_mappings == 1 || !mach_mutex_tryenter(&vm->vm_mutex))
		return false; /* one translation a frame: they are no tables of ours */
	for (struct as *as = vm->vm_aslist; as != NULL; as = as->a_next)
		hat_swapout(as->a_hat);
	mach_mutex_exit(&vm->vm_mutex);
	(void)kmem_reap(vm);
	if (vm->vm_nkernel >= before)
		return false;
	VM_STAT(vm, table_steal);
	return true;
}

/*
 * A page that cannot be freed is wired, cannot be written, or is locked by another thread. Waiting
 * helps only in the last case; if no page is locked by another thread, the caller is told at once.
 */
bool pageout_wait(struct vm *vm, pfn_t want)
{
	VM_STAT(vm, pageout_wait);
	for (unsigned tries = 0; tries < BUSY_TRIES; tries++) {
		struct page *busy;

		if (reclaim_frames(vm, want, &busy) > 0 || vm->vm_nfree > vm->vm_reserve + want) {
			__atomic_store_n(&vm->vm_oomtries, 0, __ATOMIC_RELAXED);
			return true;
		}
		if (kmem_reap(vm) > 0 || pressure_reap(vm, want) > 0 || steal_tables(vm))
			return true;
		if (busy == NULL)
			break;
		wait_for(vm, busy);
	}
	if (pressure_oom(vm, want))
		return true;
	VM_STAT(vm, alloc_fail);
	return false;
}
