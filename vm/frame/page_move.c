/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moving pages between frames, and what that makes possible: runs of frames with constraints, bad frames emptied, memory
 * taken out of a running system.
 *
 * Relocation. A page is known by its name; only the HAT and the holder of the page's lock know its frame. So a thread that holds
 * the page exclusively may copy it to another frame and give that frame the name. Translations are dropped first (they come back by
 * faults), and waiters of the old frame's lock look the name up again. A wired page stays: its holder may know the frame.
 *
 * Collecting. To get chosen frames, each is made the collector's own: taken out of the buddy's blocks if free, stripped
 * of its name if on the cache list, emptied by relocation if in use. While a collection goes on, frames got so far are
 * P_FREE with p_order BUDDY_TAKEN, in no list. If one frame cannot be had, all frames are given
 * back.
 *
 * A run is looked for upwards, first one that costs nothing, then one that costs moving pages.
 * (Linux calls this compaction; Solaris relocates pages for large pages and memory capture.)
 *
 * Locks: pages are tried exclusively, never waited for; the locks of names are vm/frame/page.c's; vm_freelock is inside them.
 *
 * Left out: a list of frames by mobility: kernel frames may be anywhere and spoil runs for ever.
 */
#include "vm/impl.h"

#define MOVE_TRIES 8u /* runs that proved impossible before a request gives up */

/* ---- relocation ---- */
struct page *page_replace_frame(struct vm *vm, struct page *old, pfn_t pfn)
{
	struct page *pp = &vm->vm_pages[pfn];
	struct vnode *vp = old->p_vnode;
	voff_t off = old->p_offset;
	struct page_lock *pl;
	bool queued;

	if (!hat_page_tryunload(old))
		return NULL;
	mach_frame_renew(vm->vm_mach, pfn);
	mach_frame_copy(vm->vm_mach, pfn, page_pfn(vm, old));
	pl = page_enter(vm, old); /* of the name: it is the new frame's, too */
	VM_ASSERT(old->p_selock == -1 && old->p_lckcnt == 0 && !(old->p_flags & P_IOLOCK));
	queued = (old->p_flags & P_QUEUED) != 0;
	page_pol_remove_locked(vm, old, false);
	page_unname_locked(vm, old);
	page_begin_locked(vm, pp, vp, off);
	page_nrm_clear(pp, P_ZEROED);
	page_nrm_set(pp, page_nrm(old) & (P_REF | P_MOD));
	pp->p_flags = old->p_flags & P_PREFETCHED;
	if (queued)
		page_pol_insert_locked(vm, pp, (pp->p_flags & P_PREFETCHED) != 0);
	page_wake_locked(vm, old);
	old->p_selock = 0;
	old->p_flags = P_FREE;
	page_nrm_clear(old, P_REF | P_MOD);
	page_exit(pl);
	VM_STAT(vm, relocate);
	return pp;
}

enum vm_err page_relocate(struct vm *vm, struct page **ppp)
{
	struct page *old = *ppp, *pp;
	pfn_t pfn;

	if (old->p_lckcnt != 0 || (old->p_flags & P_IOLOCK))
		return VM_LOCKED;
	if (vm_inject_fail(vm, VM_INJECT_PAGE) || (pfn = buddy_alloc(vm, 0, false)) == PFN_INVALID)
		return VM_NOMEM;
	if ((pp = page_replace_frame(vm, old, pfn)) == NULL) {
		buddy_free(vm, pfn, 0);
		return VM_LOCKED;
	}
	*ppp = pp;
	buddy_free(vm, page_pfn(vm, old), 0);
	return VM_OK;
}

/* ---- collecting frames ---- */
enum take { TAKE_OK, TAKE_BUSY, TAKE_NOMEM, TAKE_NEVER };

/* Empties a named page in use into another frame; the caller holds its lock, which is dropped. */
static enum take take_named(struct vm *vm, struct page *pp, struct page_lock *pl)
{
	struct page *moved;
	pfn_t to;

	if (pp->p_lckcnt != 0) {
		page_exit(pl);
		return TAKE_NEVER;
	}
	if ((pp->p_flags & P_IOLOCK) || !page_trylock_locked(vm, pp, SE_EXCL)) {
		page_exit(pl);
		return TAKE_BUSY;
	}
	page_exit(pl);
	if (vm_inject_fail(vm, VM_INJECT_PAGE) || (to = buddy_alloc(vm, 0, false)) == PFN_INVALID) {
		page_unlock(vm, pp);
		return TAKE_NOMEM;
	}
	if ((moved = page_replace_frame(vm, pp, to)) == NULL)
		buddy_free(vm, to, 0);
	page_unlock(vm, moved != NULL ? moved : pp);
	return moved != NULL ? TAKE_OK : TAKE_BUSY;
}

/* Makes one frame the caller's: plain, marked BUDDY_TAKEN. */
static enum take take_frame(struct vm *vm, pfn_t pfn)
{
	struct page *pp = &vm->vm_pages[pfn];
	enum take t = TAKE_OK;
	struct page_lock *pl;
	bool named;

	pl = page_enter(vm, pp);
	if ((named = page_named_locked(vm, pp, pl)) && !(pp->p_flags & P_FREE)) {
		t = take_named(vm, pp, pl);
	} else if (named) {
		page_uncache_locked(vm, pp);
		page_exit(pl);
	} else {
		page_exit(pl);
		if (pp->p_flags & (P_KERNEL | P_OFFLINE))
			t = TAKE_NEVER;
		else if (!buddy_take(vm, pfn))
			t = TAKE_BUSY; /* another thread has it now */
	}
	if (t == TAKE_OK)
		pp->p_order = BUDDY_TAKEN;
	return t;
}

static void give_back(struct vm *vm, pfn_t pfn, pfn_t n)
{
	for (pfn_t i = pfn; i < pfn + n; i++) {
		if (vm->vm_pages[i].p_order != BUDDY_TAKEN)
			continue;
		vm->vm_pages[i].p_order = BUDDY_NONE;
		buddy_free(vm, i, 0);
	}
}

static bool take_run(struct vm *vm, pfn_t pfn, pfn_t n)
{
	for (pfn_t i = pfn; i < pfn + n; i++) {
		if (take_frame(vm, i) != TAKE_OK) {
			give_back(vm, pfn, i - pfn);
			return false;
		}
	}
	return true;
}

/* ---- runs ---- */
/* A hint, without locks: may the frame be had, and by moving a page only? */
static bool may_take(const struct page *pp, bool move)
{
	if (pp->p_flags & (P_KERNEL | P_OFFLINE | P_IOLOCK))
		return false;
	if (pp->p_vnode == NULL)
		return pp->p_order != BUDDY_TAKEN;
	return (pp->p_flags & P_FREE) || (move && pp->p_lckcnt == 0 && pp->p_selock == 0);
}

/* The last frame of the run that cannot be had, or PFN_INVALID. */
static pfn_t run_obstacle(struct vm *vm, pfn_t pfn, pfn_t n, bool move)
{
	for (pfn_t i = n; i-- > 0;)
		if (!may_take(&vm->vm_pages[pfn + i], move))
			return pfn + i;
	return PFN_INVALID;
}

static uint64_t round_to(uint64_t x, uint64_t align) { return (x + align - 1) / align * align; }

/* Looks through the frames once; on success the run's frames are plain and the caller's. */
static pfn_t run_search(struct vm *vm, const struct page_limits *l, bool move, unsigned *tries)
{
	uint64_t align = l->pl_align != 0 ? l->pl_align : 1, n = l->pl_n;
	uint64_t end = l->pl_max != 0 && l->pl_max < vm->vm_nframes ? l->pl_max : vm->vm_nframes;
	uint64_t at = round_to(l->pl_min, align);

	while (at + n <= end && *tries > 0) {
		pfn_t bad;

		if (l->pl_boundary != 0 && at / l->pl_boundary != (at + n - 1) / l->pl_boundary) {
			at = round_to(round_to(at + 1, l->pl_boundary), align);
			continue;
		}
		bad = run_obstacle(vm, (pfn_t)at, (pfn_t)n, move);
		if (bad == PFN_INVALID) {
			if (take_run(vm, (pfn_t)at, (pfn_t)n))
				return (pfn_t)at;
			--*tries;
			bad = (pfn_t)at;
		}
		at = round_to((uint64_t)bad + 1, align);
	}
	return PFN_INVALID;
}

static bool limits_ok(const struct page_limits *l)
{
	return l->pl_n > 0 && (l->pl_boundary == 0 || l->pl_n <= l->pl_boundary);
}

/* The frames are plain and the caller's, in no list. */
static pfn_t run_take(struct vm *vm, const struct page_limits *l, unsigned flags)
{
	pfn_t pfn = PFN_INVALID;

	for (unsigned round = 0; round < 3 && pfn == PFN_INVALID; round++) {
		unsigned tries = MOVE_TRIES;

		if (vm->vm_nfree > vm->vm_reserve + l->pl_n) {
			pfn = run_search(vm, l, false, &tries);
			if (pfn == PFN_INVALID)
				pfn = run_search(vm, l, true, &tries);
		}
		if (pfn != PFN_INVALID || !(flags & PG_WAIT))
			break;
		if (buddy_online(vm, l->pl_n) == 0 && page_cache_drain(vm, l->pl_n) == 0)
			(void)pageout_reclaim(vm, l->pl_n);
	}
	for (pfn_t i = 0; pfn != PFN_INVALID && i < l->pl_n; i++) {
		vm->vm_pages[pfn + i].p_order = BUDDY_NONE;
		mach_frame_renew(vm->vm_mach, pfn + i);
	}
	return pfn;
}

struct page *page_alloc_contig(struct vm *vm, const struct page_limits *l, unsigned flags)
{
	pfn_t pfn = PFN_INVALID;

	if (!limits_ok(l))
		return NULL;
	if (!vm_inject_fail(vm, VM_INJECT_PAGE))
		pfn = run_take(vm, l, flags);
	if (pfn == PFN_INVALID) {
		VM_STAT(vm, contig_fail);
		return NULL;
	}
	VM_STAT(vm, contig);
	for (pfn_t i = 0; i < l->pl_n; i++) {
		vm->vm_pages[pfn + i].p_flags = P_KERNEL;
		if (flags & PG_ZERO)
			mach_frame_zero(vm->vm_mach, pfn + i);
	}
	vm->vm_nkernel += l->pl_n;
	return &vm->vm_pages[pfn];
}

void page_free_contig(struct vm *vm, struct page *pp, pfn_t n)
{
	for (pfn_t i = 0; i < n; i++)
		page_kfree(vm, &pp[i], 0);
}

pfn_t page_take_run(struct vm *vm, unsigned order, unsigned flags)
{
	struct page_limits l = { .pl_n = (pfn_t)1 << order, .pl_align = (pfn_t)1 << order };
	pfn_t pfn = PFN_INVALID;

	if (vm_inject_fail(vm, VM_INJECT_PAGE))
		return PFN_INVALID;
	if (order <= VM_MAXORDER)
		pfn = buddy_alloc(vm, order, false);
	return pfn != PFN_INVALID ? pfn : run_take(vm, &l, flags);
}

/* A plain frame becomes a page being created. False: another page has the name. */
static bool name_frame(struct vm *vm, pfn_t pfn, struct vnode *vp, voff_t off)
{
	struct page_lock *pl = page_name_enter(vm, vp, off);
	bool ok = page_find_locked(vm, vp, off) == NULL;

	page_nrm_clear(&vm->vm_pages[pfn], P_ZEROED);
	if (ok)
		page_begin_locked(vm, &vm->vm_pages[pfn], vp, off);
	page_exit(pl);
	return ok;
}

enum vm_err page_create_large(
    struct vm *vm, struct vnode *vp, voff_t off, unsigned order, unsigned flags, struct page **ppp)
{
	pfn_t pfn, n = (pfn_t)1 << order, done = 0;

	*ppp = NULL;
	VM_ASSERT((off & (vm_ptob(n) - 1)) == 0);
	if ((pfn = page_take_run(vm, order, flags)) == PFN_INVALID) {
		VM_STAT(vm, alloc_fail);
		return VM_NOMEM;
	}
	while (done < n && name_frame(vm, pfn + done, vp, off + vm_ptob(done)))
		done++;
	for (pfn_t i = 0; i < n; i++) {
		if (done == n)
			mach_frame_renew(vm->vm_mach, pfn + i);
		if (done == n && (flags & PG_ZERO))
			mach_frame_zero(vm->vm_mach, pfn + i);
		else if (i < done && done < n)
			page_destroy(vm, &vm->vm_pages[pfn + i]);
		else if (done < n)
			buddy_free(vm, pfn + i, 0);
	}
	if (done < n)
		return VM_EXIST;
	*ppp = &vm->vm_pages[pfn];
	return VM_OK;
}

bool page_take_frame(struct vm *vm, pfn_t pfn)
{
	struct page_limits l = { .pl_n = 1, .pl_min = pfn, .pl_max = pfn + 1 };

	return !vm_inject_fail(vm, VM_INJECT_PAGE) && run_take(vm, &l, 0) == pfn;
}

/* ---- bad frames, and memory that comes and goes ---- */
#define BAR_ROUNDS 64u /* attempts at a frame that other threads hold for a short time */

/* Makes one frame the caller's, retrying while its holder may still release it. */
static enum vm_err take_hard(struct vm *vm, pfn_t pfn)
{
	for (unsigned round = 0; round < BAR_ROUNDS; round++) {
		enum take t = take_frame(vm, pfn);

		if (t == TAKE_OK)
			return VM_OK;
		if (t == TAKE_NEVER)
			return VM_LOCKED;
		if (t == TAKE_NOMEM && page_cache_drain(vm, 16) == 0 &&
		    pageout_reclaim(vm, 16) == 0)
			return VM_NOMEM;
		if (t == TAKE_BUSY)
			mach_yield();
	}
	return VM_LOCKED;
}

enum vm_err page_retire(struct vm *vm, pfn_t pfn)
{
	struct page *pp;
	enum vm_err e;

	if (pfn >= vm->vm_maxframes)
		return VM_INVAL;
	buddy_know(vm, pfn + 1);
	pp = &vm->vm_pages[pfn];
	if ((pp->p_flags & P_OFFLINE) && pp->p_order == BUDDY_RETIRED)
		return VM_OK;
	if (pp->p_flags & P_OFFLINE)
		return VM_NOMAP;
	if ((e = take_hard(vm, pfn)) != VM_OK)
		return e;
	buddy_bar(vm, pfn, BUDDY_RETIRED);
	pageout_setup(vm);
	VM_STAT(vm, retire);
	return VM_OK;
}

bool page_is_retired(struct vm *vm, pfn_t pfn)
{
	const struct page *pp = &vm->vm_pages[pfn];

	return pfn < vm->vm_nframes && (pp->p_flags & P_OFFLINE) && pp->p_order == BUDDY_RETIRED;
}

/* Frames of the range whose contents must move elsewhere, and the frames that page-out needs
 * free. */
static bool memory_spares(struct vm *vm, pfn_t first, pfn_t n)
{
	uint64_t online = 0,
		 keep = (uint64_t)vm->vm_nkernel + vm->vm_nwired + vm->vm_reserve +
	    2 * (uint64_t)vm->vm_lotsfree;

	for (pfn_t i = first; i < first + n; i++)
		online += !(vm->vm_pages[i].p_flags & P_OFFLINE);
	return (uint64_t)vm->vm_nonline >= keep + online;
}

enum vm_err vm_memory_remove(struct vm *vm, pfn_t first, pfn_t n)
{
	enum vm_err e = VM_OK;
	pfn_t i, gone = 0;

	if (n == 0 || first >= vm->vm_maxframes || n > vm->vm_maxframes - first)
		return VM_INVAL;
	buddy_know(vm, first + n);
	if (!memory_spares(vm, first, n))
		return VM_NOMEM;
	for (i = first; i < first + n && e == VM_OK; i++)
		if (!(vm->vm_pages[i].p_flags & P_OFFLINE))
			e = take_hard(vm, i);
	if (e != VM_OK) {
		give_back(vm, first, n);
		return e;
	}
	for (i = first; i < first + n; i++) {
		struct page *pp = &vm->vm_pages[i];

		if (pp->p_order == BUDDY_TAKEN) {
			mach_frame_discard(vm->vm_mach, i, 1);
			buddy_bar(vm, i, BUDDY_REMOVED);
			gone++;
		} else if ((pp->p_flags & P_OFFLINE) && pp->p_order == BUDDY_NONE) {
			buddy_bar_offline(vm, i, BUDDY_REMOVED);
		}
	}
	mach_frames_release(vm->vm_mach, gone);
	pageout_setup(vm);
	return VM_OK;
}

enum vm_err vm_memory_add(struct vm *vm, pfn_t first, pfn_t n)
{
	pfn_t want = 0, got;

	if (n == 0 || first >= vm->vm_maxframes || n > vm->vm_maxframes - first)
		return VM_INVAL;
	buddy_know(vm, first + n);
	for (pfn_t i = first; i < first + n; i++)
		want += (vm->vm_pages[i].p_flags & P_OFFLINE) &&
		    vm->vm_pages[i].p_order == BUDDY_REMOVED;
	if (want == 0)
		return VM_OK;
	got = mach_frames_grant(vm->vm_mach, want);
	if (got < want) {
		mach_frames_release(vm->vm_mach, got);
		return VM_NOMEM;
	}
	got = buddy_unbar(vm, first, n, BUDDY_REMOVED);
	if (got < want)
		mach_frames_release(vm->vm_mach, want - got);
	pageout_setup(vm);
	return VM_OK;
}
