/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The buddy allocator of frames.
 *
 * Purpose: hand out 2^order contiguous, naturally aligned frames; join them again when they come back; bring frames on
 * line when the machine grants them, and take free ones off line when it wants them back.
 *
 * Vocabulary: a block is 2^k frames that start at a multiple of 2^k. Its first frame's p_order is k
 * while the block is free; every other frame's p_order is BUDDY_NONE. The floor is the number of
 * frames an allocation must leave.
 *
 * Locks: vm_freelock (RANK_FREE) guards the lists, p_order and the p_next/p_prev of free blocks' first frames, and
 * changes of vm_nfree and vm_nonline. The flags of a frame without identity belong to its owner: the allocator while it
 * is free or off line, otherwise the code that allocated it. So nothing here needs a lock of names.
 *
 * Invariants: no two free buddies of the same order are both free (they would have been joined); vm_nfree = sum of the
 * blocks and the zero pool; every frame of a free block has exactly P_FREE set and no identity; off-line frames are in no block.
 *
 * Colours: frames whose numbers agree modulo vm_colormask + 1 compete for the same sets of a physically indexed cache. A
 * request for a colour is served from the first few blocks of each list that contain one (Bershad et al., ASPLOS 1994,
 * and Solaris' bins have the reasons), else by any frame.
 *
 * The zero pool holds single frames that were zeroed while nothing else was to be done. They count as free; they are in
 * no block, marked P_ZEROED, and go back into blocks when memory is short or a run of frames is wanted.
 *
 * Barred frames are off line for good: retired, or taken out by the operator. buddy_online passes them over.
 *
 * Batches: while memory is plenty each CPU has up to VM_CPUFRAMES single frames for itself, under its vc_framelock
 * (RANK_FREE - 1), taken 2^BUDDY_LAY_BY at a time. They are free, in no block, and not counted in vm_nfree; they go back
 * when an allocation fails or a certain frame is wanted. Not used on machines with several nodes,
 * where frames would move from node to node.
 *
 * Left out: zones.
 */
#include "vm/impl.h"

#define BUDDY_ONLINE_RUN (1u << VM_MAXORDER)
#define BUDDY_LAY_BY 6u
#define BUDDY_COLORSCAN 16u /* blocks of each list looked at for a colour */

static bool buddy_is_block(struct vm *vm, pfn_t pfn, unsigned order)
{
	return pfn < vm->vm_nframes && vm->vm_pages[pfn].p_order == order;
}

/* Puts a block back and joins it with its buddies. vm_freelock held; counts are the caller's. */
static void buddy_insert_locked(struct vm *vm, pfn_t pfn, unsigned order, bool cold)
{
	VM_ASSERT(mach_mutex_held(&vm->vm_freelock));
	while (order < VM_MAXORDER) {
		pfn_t mate = pfn ^ (1u << order);

		if (!buddy_is_block(vm, mate, order))
			break;
		page_queue_remove(vm, &vm->vm_buddy[order], &vm->vm_pages[mate]);
		vm->vm_pages[mate].p_order = BUDDY_NONE;
		pfn &= ~(1u << order);
		order++;
	}
	vm->vm_pages[pfn].p_order = (uint8_t)order;
	if (cold)
		page_queue_push_tail(vm, &vm->vm_buddy[order], &vm->vm_pages[pfn]);
	else
		page_queue_push_head(vm, &vm->vm_buddy[order], &vm->vm_pages[pfn]);
}

/* Takes a block of at least order, splits it. vm_freelock held. */
static pfn_t buddy_remove_locked(struct vm *vm, unsigned order)
{
	unsigned k = order;
	struct page *pp;
	pfn_t pfn;

	VM_ASSERT(mach_mutex_held(&vm->vm_freelock));
	while (k <= VM_MAXORDER && vm->vm_buddy[k].q_len == 0)
		k++;
	if (k > VM_MAXORDER)
		return PFN_INVALID;
	pp = page_queue_head(vm, &vm->vm_buddy[k]);
	page_queue_remove(vm, &vm->vm_buddy[k], pp);
	pp->p_order = BUDDY_NONE;
	pfn = page_pfn(vm, pp);
	while (k > order) {
		struct page *half;

		k--;
		half = &vm->vm_pages[pfn + (1u << k)];
		half->p_order = (uint8_t)k;
		page_queue_push_head(vm, &vm->vm_buddy[k], half);
	}
	return pfn;
}

/* Takes this very frame out of the free block that it is in, if it is in one. vm_freelock held; counts are the caller's. */
bool buddy_remove_frame_locked(struct vm *vm, pfn_t pfn)
{
	pfn_t base = pfn;
	unsigned k = 0;

	VM_ASSERT(mach_mutex_held(&vm->vm_freelock));
	while (k <= VM_MAXORDER && !buddy_is_block(vm, base, k)) {
		k++;
		base = pfn & ~((1u << k) - 1);
	}
	if (k > VM_MAXORDER)
		return false;
	page_queue_remove(vm, &vm->vm_buddy[k], &vm->vm_pages[base]);
	vm->vm_pages[base].p_order = BUDDY_NONE;
	while (k > 0) {
		pfn_t half;

		k--;
		half = (pfn & ~((1u << k) - 1)) ^ (1u << k);
		vm->vm_pages[half].p_order = (uint8_t)k;
		page_queue_push_head(vm, &vm->vm_buddy[k], &vm->vm_pages[half]);
	}
	return true;
}

/* Puts every frame of the zero pool back into blocks. vm_freelock held. */
static void buddy_unpool_locked(struct vm *vm)
{
	struct page *pp;

	VM_ASSERT(mach_mutex_held(&vm->vm_freelock));
	while ((pp = page_queue_head(vm, &vm->vm_zeropool)) != NULL) {
		page_queue_remove(vm, &vm->vm_zeropool, pp);
		page_nrm_clear(pp, P_ZEROED);
		buddy_insert_locked(vm, page_pfn(vm, pp), 0, false);
	}
}

/* One frame of a colour, if there is one near the heads of the lists. vm_freelock held. */
static pfn_t buddy_remove_color_locked(struct vm *vm, uint32_t color)
{
	uint32_t mask = vm->vm_colormask;

	VM_ASSERT(mach_mutex_held(&vm->vm_freelock));
	for (unsigned k = 0; k <= VM_MAXORDER; k++) {
		uint32_t i = vm->vm_buddy[k].q_head;

		for (unsigned n = 0; i != PAGE_NIL && n < BUDDY_COLORSCAN;
		     n++, i = vm->vm_pages[i].p_next) {
			if (((i ^ color) & mask) >> k != 0)
				continue;
			i += (color - i) & mask & ((1u << k) - 1);
			(void)buddy_remove_frame_locked(vm, i);
			VM_STAT(vm, color_hit);
			return i;
		}
	}
	VM_STAT(vm, color_miss);
	return PFN_INVALID;
}

/* Makes the run [pfn, pfn+n) of off-line frames free, in the largest blocks that fit. vm_freelock held. */
static void buddy_online_run_locked(struct vm *vm, pfn_t pfn, pfn_t n)
{
	VM_ASSERT(mach_mutex_held(&vm->vm_freelock));
	vm->vm_nfree += n;
	vm->vm_nonline += n;
	for (pfn_t i = 0; i < n; i++)
		vm->vm_pages[pfn + i].p_flags = P_FREE;
	while (n > 0) {
		unsigned k = pfn == 0 ? VM_MAXORDER : (unsigned)__builtin_ctz(pfn);

		if (k > VM_MAXORDER)
			k = VM_MAXORDER;
		while ((1u << k) > n)
			k--;
		buddy_insert_locked(vm, pfn, k, true);
		pfn += 1u << k;
		n -= 1u << k;
	}
}

static bool buddy_may_online(const struct page *pp)
{
	return (pp->p_flags & P_OFFLINE) && pp->p_order == BUDDY_NONE;
}

/*
 * Frames are numbered up to what the machine may ever have, which may be far more than it gives.
 * Their structures are initialised when their numbers are first used, so that a large limit costs
 * nothing at the start. vm_freelock held.
 */
static void buddy_know_locked(struct vm *vm, pfn_t upto)
{
	pfn_t n = vm->vm_nframes;

	VM_ASSERT(mach_mutex_held(&vm->vm_freelock));
	for (; n < upto && n < vm->vm_maxframes; n++) {
		struct page *pp = &vm->vm_pages[n];

		pp->p_vpnext = pp->p_vpprev = pp->p_next = pp->p_prev = PAGE_NIL;
		pp->p_flags = P_OFFLINE;
		pp->p_order = mach_is_hole(vm->vm_caps, n) ? BUDDY_HOLE : BUDDY_NONE;
		vm->vm_nbarred += pp->p_order == BUDDY_HOLE;
	}
	vm->vm_nframes = n;
}

void buddy_know(struct vm *vm, pfn_t upto)
{
	mach_mutex_enter(&vm->vm_freelock);
	buddy_know_locked(vm, upto);
	mach_mutex_exit(&vm->vm_freelock);
}

/* Finds up to want off-line frames, lowest numbers first, and brings them on line. vm_freelock held. */
static pfn_t buddy_online_locked(struct vm *vm, pfn_t want)
{
	pfn_t done = 0, pfn = vm->vm_offline_hint;

	VM_ASSERT(mach_mutex_held(&vm->vm_freelock));
	while (done < want) {
		pfn_t run = 0;

		while (pfn < vm->vm_nframes && !buddy_may_online(&vm->vm_pages[pfn]))
			pfn++;
		if (pfn >= vm->vm_nframes && pfn < vm->vm_maxframes) {
			buddy_know_locked(vm, pfn + (want - done));
			continue; /* the new frames may all be holes */
		}
		while (run < want - done && run < BUDDY_ONLINE_RUN && pfn + run < vm->vm_nframes &&
		    buddy_may_online(&vm->vm_pages[pfn + run]))
			run++;
		if (run == 0)
			break;
		buddy_online_run_locked(vm, pfn, run);
		done += run;
		pfn += run;
	}
	vm->vm_offline_hint = pfn;
	return done;
}

enum vm_err buddy_init(struct vm *vm)
{
	mach_mutex_init(&vm->vm_freelock, RANK_FREE, "buddy");
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		mach_mutex_init(&vm->vm_cpu[c].vc_framelock, RANK_FREE - 1, "frames laid by");
	for (unsigned k = 0; k <= VM_MAXORDER; k++)
		page_queue_init(&vm->vm_buddy[k]);
	page_queue_init(&vm->vm_zeropool);
	mach_mutex_enter(&vm->vm_freelock);
	(void)buddy_online_locked(vm, vm->vm_config.vc_frames);
	mach_mutex_exit(&vm->vm_freelock);
	return VM_OK;
}

/* ---- batches of free frames by CPU ---- */

/* Are there so many free frames that a few may lie idle? */
static bool buddy_plenty(struct vm *vm)
{
	return vm->vm_maxframes >= VM_CPUFRAMES_MIN && vm->vm_caps->mc_nnodes <= 1 &&
	    vm->vm_nfree > 2 * vm->vm_lotsfree + VM_CPUFRAMES * (vm->vm_cpumask + 1);
}

uint32_t buddy_laid_by(struct vm *vm)
{
	uint32_t n = 0;

	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		n += vm->vm_cpu[c].vc_nframe;
	return n;
}

/* Gives n of a CPU's frames back, the oldest first. vc_framelock held. */
static void buddy_spill(struct vm *vm, struct vm_cpu *vc, uint32_t n)
{
	uint32_t left = vc->vc_nframe - n;

	mach_mutex_enter(&vm->vm_freelock);
	for (uint32_t i = 0; i < n; i++)
		buddy_insert_locked(vm, vc->vc_frame[i], 0, false);
	vm->vm_nfree += n;
	mach_mutex_exit(&vm->vm_freelock);
	for (uint32_t i = 0; i < left; i++)
		vc->vc_frame[i] = vc->vc_frame[n + i];
	vc->vc_nframe = left;
}

void buddy_settle(struct vm *vm)
{
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++) {
		struct vm_cpu *vc = &vm->vm_cpu[c];

		if (vc->vc_nframe == 0)
			continue;
		mach_mutex_enter(&vc->vc_framelock);
		buddy_spill(vm, vc, vc->vc_nframe);
		mach_mutex_exit(&vc->vc_framelock);
	}
}

/* Takes a block of contiguous frames for the CPU, so that memory that one thread touches is
 * contiguous. vc_framelock held. */
static void buddy_lay_by(struct vm *vm, struct vm_cpu *vc)
{
	pfn_t pfn = PFN_INVALID;

	mach_mutex_enter(&vm->vm_freelock);
	if (buddy_plenty(vm) && (pfn = buddy_remove_locked(vm, BUDDY_LAY_BY)) != PFN_INVALID)
		vm->vm_nfree -= 1u << BUDDY_LAY_BY;
	mach_mutex_exit(&vm->vm_freelock);
	if (pfn == PFN_INVALID)
		return;
	for (uint32_t i = 1u << BUDDY_LAY_BY; i-- > 0;)
		vc->vc_frame[vc->vc_nframe++] = pfn + i;
}

/* Takes one of this CPU's own frames. */
static pfn_t buddy_alloc_cpu(struct vm *vm)
{
	struct vm_cpu *vc = vm_cpu_of(vm);
	pfn_t pfn = PFN_INVALID;

	if (!buddy_plenty(vm))
		return PFN_INVALID;
	mach_mutex_enter(&vc->vc_framelock);
	if (vc->vc_nframe == 0)
		buddy_lay_by(vm, vc);
	if (vc->vc_nframe > 0)
		pfn = vc->vc_frame[--vc->vc_nframe];
	mach_mutex_exit(&vc->vc_framelock);
	return pfn;
}

static bool buddy_free_cpu(struct vm *vm, pfn_t pfn)
{
	struct vm_cpu *vc = vm_cpu_of(vm);

	if (!buddy_plenty(vm))
		return false;
	mach_mutex_enter(&vc->vc_framelock);
	if (vc->vc_nframe == VM_CPUFRAMES)
		buddy_spill(vm, vc, VM_CPUFRAMES / 2);
	vc->vc_frame[vc->vc_nframe++] = pfn;
	mach_mutex_exit(&vc->vc_framelock);
	return true;
}

static pfn_t buddy_alloc_blocks(struct vm *vm, unsigned order, uint32_t floor)
{
	uint32_t n = 1u << order;
	pfn_t pfn = PFN_INVALID;

	VM_ASSERT(order <= VM_MAXORDER);
	mach_mutex_enter(&vm->vm_freelock);
	if (vm->vm_nfree >= n && vm->vm_nfree - n >= floor)
		pfn = buddy_remove_locked(vm, order);
	if (pfn == PFN_INVALID && vm->vm_zeropool.q_len > 0 && vm->vm_nfree >= n &&
	    vm->vm_nfree - n >= floor) {
		buddy_unpool_locked(vm);
		pfn = buddy_remove_locked(vm, order);
	}
	if (pfn != PFN_INVALID) {
		vm->vm_nfree -= n;
		if (vm->vm_nfree < vm->vm_reserve)
			VM_STAT(vm, alloc_reserve);
	}
	mach_mutex_exit(&vm->vm_freelock);
	return pfn;
}

pfn_t buddy_alloc_floor(struct vm *vm, unsigned order, uint32_t floor)
{
	pfn_t pfn = buddy_alloc_blocks(vm, order, floor);

	if (pfn != PFN_INVALID || buddy_laid_by(vm) == 0)
		return pfn;
	buddy_settle(vm);
	return buddy_alloc_blocks(vm, order, floor);
}

pfn_t buddy_alloc_page(struct vm *vm, uint32_t color, bool zero, bool reserve)
{
	uint32_t floor = reserve ? 0 : vm->vm_reserve;
	pfn_t pfn = PFN_INVALID;

	if (!(zero && __atomic_load_n(&vm->vm_zeropool.q_len, __ATOMIC_RELAXED) > 0) &&
	    vm->vm_colormask == 0) {
		pfn = buddy_alloc_cpu(vm);
		return pfn != PFN_INVALID ? pfn : buddy_alloc_floor(vm, 0, floor);
	}
	mach_mutex_enter(&vm->vm_freelock);
	if (vm->vm_nfree > floor) {
		struct page *pp = zero ? page_queue_head(vm, &vm->vm_zeropool) : NULL;

		if (pp != NULL) {
			page_queue_remove(vm, &vm->vm_zeropool, pp);
			pfn = page_pfn(vm, pp);
		} else if (vm->vm_colormask != 0) {
			pfn = buddy_remove_color_locked(vm, color);
		}
		if (pfn != PFN_INVALID)
			vm->vm_nfree--;
	}
	mach_mutex_exit(&vm->vm_freelock);
	return pfn != PFN_INVALID ? pfn : buddy_alloc_floor(vm, 0, floor);
}

static bool buddy_take_block(struct vm *vm, pfn_t pfn)
{
	struct page *pp = &vm->vm_pages[pfn];
	bool ok;

	mach_mutex_enter(&vm->vm_freelock);
	ok = buddy_remove_frame_locked(vm, pfn);
	if (!ok && pp->p_flags == P_FREE && (page_nrm(pp) & P_ZEROED)) {
		buddy_unpool_locked(vm);
		ok = buddy_remove_frame_locked(vm, pfn);
	}
	if (ok)
		vm->vm_nfree--;
	mach_mutex_exit(&vm->vm_freelock);
	return ok;
}

bool buddy_take(struct vm *vm, pfn_t pfn)
{
	if (buddy_take_block(vm, pfn))
		return true;
	if (buddy_laid_by(vm) == 0)
		return false;
	buddy_settle(vm);
	return buddy_take_block(vm, pfn);
}

void buddy_bar(struct vm *vm, pfn_t pfn, unsigned why)
{
	struct page *pp = &vm->vm_pages[pfn];

	VM_ASSERT(pp->p_flags == P_FREE && pp->p_vnode == NULL);
	page_nrm_clear(pp, P_ZEROED);
	mach_mutex_enter(&vm->vm_freelock);
	pp->p_flags = P_OFFLINE;
	pp->p_order = (uint8_t)why;
	vm->vm_nonline--;
	vm->vm_nbarred++;
	mach_mutex_exit(&vm->vm_freelock);
}

void buddy_bar_offline(struct vm *vm, pfn_t pfn, unsigned why)
{
	struct page *pp = &vm->vm_pages[pfn];

	mach_mutex_enter(&vm->vm_freelock);
	if (buddy_may_online(pp)) {
		pp->p_order = (uint8_t)why;
		vm->vm_nbarred++;
	}
	mach_mutex_exit(&vm->vm_freelock);
}

pfn_t buddy_unbar(struct vm *vm, pfn_t pfn, pfn_t n, unsigned why)
{
	pfn_t done = 0;

	mach_mutex_enter(&vm->vm_freelock);
	for (pfn_t i = pfn; i < pfn + n; i++) {
		struct page *pp = &vm->vm_pages[i];

		if (!(pp->p_flags & P_OFFLINE) || pp->p_order != why)
			continue;
		pp->p_order = BUDDY_NONE;
		vm->vm_nbarred--;
		buddy_online_run_locked(vm, i, 1);
		done++;
	}
	mach_mutex_exit(&vm->vm_freelock);
	return done;
}

bool buddy_pool_zeroed(struct vm *vm, pfn_t max)
{
	pfn_t pfn;

	if (vm->vm_zeropool.q_len >= max || vm->vm_nfree <= vm->vm_lotsfree + vm->vm_zeropool.q_len)
		return false;
	pfn = buddy_alloc_floor(vm, 0, vm->vm_lotsfree);
	if (pfn == PFN_INVALID)
		return false;
	mach_frame_renew(vm->vm_mach, pfn);
	mach_frame_zero(vm->vm_mach, pfn);
	page_nrm_set(&vm->vm_pages[pfn], P_ZEROED);
	mach_mutex_enter(&vm->vm_freelock);
	page_queue_push_tail(vm, &vm->vm_zeropool, &vm->vm_pages[pfn]);
	vm->vm_nfree++;
	mach_mutex_exit(&vm->vm_freelock);
	return true;
}

pfn_t buddy_alloc(struct vm *vm, unsigned order, bool reserve)
{
	return buddy_alloc_floor(vm, order, reserve ? 0 : vm->vm_reserve);
}

/* The caller has set the frames' flags to P_FREE and removed their identity while it owned them. */
void buddy_free(struct vm *vm, pfn_t pfn, unsigned order)
{
	VM_ASSERT(order <= VM_MAXORDER && (pfn & ((1u << order) - 1)) == 0);
	VM_ASSERT(vm->vm_pages[pfn].p_order == BUDDY_NONE);
	VM_ASSERT(vm->vm_pages[pfn].p_flags == P_FREE && vm->vm_pages[pfn].p_vnode == NULL);
	if (order == 0)
		mach_frame_retire(vm->vm_mach, pfn);
	if (order == 0 && buddy_free_cpu(vm, pfn))
		return;
	mach_mutex_enter(&vm->vm_freelock);
	buddy_insert_locked(vm, pfn, order, false);
	vm->vm_nfree += 1u << order;
	mach_mutex_exit(&vm->vm_freelock);
}

pfn_t buddy_online(struct vm *vm, pfn_t n)
{
	pfn_t left = vm->vm_maxframes - vm->vm_nonline - vm->vm_nbarred, got, done;

	if (n > left)
		n = left;
	if (n == 0)
		return 0;
	got = mach_frames_grant(vm->vm_mach, n);
	if (got == 0)
		return 0;
	mach_mutex_enter(&vm->vm_freelock);
	done = buddy_online_locked(vm, got);
	mach_mutex_exit(&vm->vm_freelock);
	if (done < got) /* another thread brought the last ones on line */
		mach_frames_release(vm->vm_mach, got - done);
	if (done > 0)
		pageout_setup(vm);
	return done;
}

/* Takes the largest block of at most max frames that leaves the reserve; *order says its size. */
static pfn_t buddy_take_largest(struct vm *vm, pfn_t max, unsigned *order)
{
	for (unsigned k = VM_MAXORDER + 1; k-- > 0;) {
		pfn_t pfn;

		if ((1u << k) > max)
			continue;
		pfn = buddy_alloc(vm, k, false);
		if (pfn != PFN_INVALID) {
			*order = k;
			return pfn;
		}
	}
	return PFN_INVALID;
}

pfn_t buddy_offline_free(struct vm *vm, pfn_t n)
{
	pfn_t done = 0;

	while (done < n) {
		unsigned order = 0;
		pfn_t pfn = buddy_take_largest(vm, n - done, &order), cnt;

		if (pfn == PFN_INVALID)
			break;
		cnt = 1u << order;
		/* Discard while the frames are still ours: once off line, buddy_online may pick them again. */
		mach_frame_discard(vm->vm_mach, pfn, cnt);
		mach_mutex_enter(&vm->vm_freelock);
		for (pfn_t i = 0; i < cnt; i++)
			vm->vm_pages[pfn + i].p_flags = P_OFFLINE;
		vm->vm_nonline -= cnt;
		if (pfn < vm->vm_offline_hint)
			vm->vm_offline_hint = pfn;
		mach_mutex_exit(&vm->vm_freelock);
		done += cnt;
	}
	if (done > 0) {
		mach_frames_release(vm->vm_mach, done);
		pageout_setup(vm);
	}
	return done;
}

static unsigned buddy_check_block(
    struct vm *vm, pfn_t pfn, unsigned k, void (*report)(void *, const char *), void *arg)
{
	unsigned bad = 0;

	if (vm->vm_pages[pfn].p_order != k || (pfn & ((1u << k) - 1)) != 0 ||
	    pfn + (1u << k) > vm->vm_nframes) {
		report(arg, "buddy: a block's order or alignment is wrong");
		return 1;
	}
	if (k < VM_MAXORDER && buddy_is_block(vm, pfn ^ (1u << k), k)) {
		report(arg, "buddy: two free buddies were not joined");
		bad++;
	}
	for (pfn_t i = 0; i < 1u << k; i++) {
		struct page *pp = &vm->vm_pages[pfn + i];

		if (pp->p_flags != P_FREE || pp->p_vnode != NULL ||
		    (i > 0 && pp->p_order != BUDDY_NONE)) {
			report(arg, "buddy: a frame inside a free block is not a plain free frame");
			bad++;
		}
	}
	return bad;
}

static unsigned buddy_check_pooled(
    struct vm *vm, struct page *pp, void (*report)(void *, const char *), void *arg)
{
	const uint64_t *word = mach_frame_kva(vm->vm_mach, page_pfn(vm, pp));
	bool zero = true;

	for (unsigned i = 0; i < VM_PAGESIZE / sizeof(*word); i++)
		zero &= word[i] == 0;
	if (zero && pp->p_flags == P_FREE && pp->p_order == BUDDY_NONE && (page_nrm(pp) & P_ZEROED))
		return 0;
	report(arg, "buddy: a frame of the zero pool is not free and zero");
	return 1;
}

unsigned buddy_check(struct vm *vm, void (*report)(void *, const char *), void *arg)
{
	uint64_t sum = 0, offline = 0, barred = 0, pooled = 0;
	unsigned bad = 0;

	buddy_settle(vm);
	mach_mutex_enter(&vm->vm_freelock);
	for (unsigned k = 0; k <= VM_MAXORDER; k++) {
		uint32_t n = 0;

		for (pfn_t i = vm->vm_buddy[k].q_head; i != PAGE_NIL && n <= vm->vm_nframes; n++) {
			bad += buddy_check_block(vm, i, k, report, arg);
			i = vm->vm_pages[i].p_next;
		}
		if (n != vm->vm_buddy[k].q_len) {
			report(arg, "buddy: a list's length is wrong");
			bad++;
		}
		sum += (uint64_t)n << k;
	}
	for (pfn_t i = vm->vm_zeropool.q_head; i != PAGE_NIL && pooled <= vm->vm_nframes;
	     pooled++) {
		bad += buddy_check_pooled(vm, &vm->vm_pages[i], report, arg);
		i = vm->vm_pages[i].p_next;
	}
	sum += pooled;
	for (pfn_t i = 0; i < vm->vm_nframes; i++) {
		offline += (vm->vm_pages[i].p_flags & P_OFFLINE) != 0;
		barred +=
		    (vm->vm_pages[i].p_flags & P_OFFLINE) && vm->vm_pages[i].p_order != BUDDY_NONE;
	}
	if (pooled != vm->vm_zeropool.q_len || barred != vm->vm_nbarred) {
		report(
		    arg, "buddy: the zero pool's length or the number of barred frames is wrong");
		bad++;
	}
	if (sum != vm->vm_nfree) {
		report(arg, "buddy: vm_nfree is not the sum of the blocks");
		bad++;
	}
	if (offline + vm->vm_nonline != vm->vm_nframes) {
		report(arg, "buddy: on-line and off-line frames do not add up");
		bad++;
	}
	mach_mutex_exit(&vm->vm_freelock);
	return bad;
}
