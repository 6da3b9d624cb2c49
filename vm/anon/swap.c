/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Swap areas and reservation.
 *
 * An area is a vnode and a table of slots' owners. Slots have global numbers (an anon keeps one
 * word). Each area gets a run of numbers when it is added; the numbers of a removed area are reused
 * if no area has higher numbers. A slot has exactly one owner, kept in sw_chunk: a read brings in
 * the neighbours that it finds there, and the removal of an area finds the anons to move.
 *
 * States of a slot (the word in sw_chunk):
 *
 *   0		free
 *   CLAIMED	taken by swap_alloc_cluster, the write is under way; or freed, and the store still forgets its contents (vo_discard)
 *   an id	owned by that anon: write_cluster wrote the page and bound the slot (anon_bind)
 *
 * Page-out takes slots in contiguous clusters, next fit, from the area of highest priority. The area just used moves to the tail of
 * its priority class, so allocation cycles through the class. Within an area the search cycles through its first part only, a few
 * times larger than what is in use. It is large enough to find clusters, and slots that stay in use
 * do not spread over the whole area, where each of them would keep alone a page of the table, and
 * of the store's tables.
 *
 * Reservation: every page of private writable memory is promised a place, a frame or a slot, when it is mapped, so no
 * access fails for lack of memory later. vm_resv counts promises; what may be promised is slots + pageable frames, or what the
 * owner of several systems says (vc_promise). A swap area may lose room while it is used, as if a server shrinks or ends: then
 * fewer pages are promised (vc_unbacked).
 *
 * Locks: vm_swaplock (RANK_SWAP) guards lists, tables, counts. vo_discard is called without it.
 */
#include "vm/impl.h"

#define CHUNK_SLOTS 1023u   /* and a count: one page */
#define CLAIMED 0xffffffffu /* taken, its owner not bound yet */
#define SPARSE 4u /* the searched part of an area has at most so many times the slots in use */
#define LEAST_SPAN (4 * CHUNK_SLOTS)

static uint64_t count_chunks(const struct swap_area *sw)
{
	return (sw->sw_nslots + CHUNK_SLOTS - 1) / CHUNK_SLOTS;
}

static uint32_t slot_owner(const struct swap_area *sw, uint64_t i)
{
	const uint32_t *c = sw->sw_chunk[i / CHUNK_SLOTS];

	return c != NULL ? c[i % CHUNK_SLOTS + 1] : 0;
}

/* The chunk exists. */
static void owner_set(struct swap_area *sw, uint64_t i, uint32_t id)
{
	uint32_t *c = sw->sw_chunk[i / CHUNK_SLOTS], *at = &c[i % CHUNK_SLOTS + 1];

	c[0] += (uint32_t)(id != 0) - (uint32_t)(*at != 0);
	*at = id;
}

/* ---- areas ---- */
static struct swap_area *area_locked(struct vm *vm, uint32_t slot)
{
	VM_ASSERT(mach_mutex_held(&vm->vm_swaplock));
	for (struct swap_area *sw = vm->vm_swapareas; sw != NULL; sw = sw->sw_next)
		if (slot - 1 >= sw->sw_first && slot - 1 - sw->sw_first < sw->sw_nslots)
			return sw;
	return NULL;
}

struct swap_area *swap_area_of(struct vm *vm, uint32_t slot, voff_t *off)
{
	mach_mutex_enter(&vm->vm_swaplock);
	struct swap_area *sw = area_locked(vm, slot);
	VM_ASSERT(sw != NULL);
	*off = (voff_t)(slot - 1 - sw->sw_first) << VM_PAGESHIFT;
	mach_mutex_exit(&vm->vm_swaplock);
	return sw;
}

anon_id swap_owner(struct vm *vm, uint32_t slot, uint32_t n)
{
	anon_id id = 0;

	mach_mutex_enter(&vm->vm_swaplock);
	const struct swap_area *sw = area_locked(vm, slot);
	if (sw != NULL && slot - 1 - sw->sw_first + n < sw->sw_nslots && !sw->sw_removing)
		id = slot_owner(sw, slot - 1 - sw->sw_first + n);
	if (id == CLAIMED)
		id = 0;
	mach_mutex_exit(&vm->vm_swaplock);
	return id;
}

bool swap_owned(struct vm *vm, uint32_t slot, anon_id id)
{
	const struct swap_area *sw;
	bool owned;

	mach_mutex_enter(&vm->vm_swaplock);
	sw = area_locked(vm, slot);
	owned = sw != NULL && slot_owner(sw, slot - 1 - sw->sw_first) == id;
	mach_mutex_exit(&vm->vm_swaplock);
	return owned;
}

bool swap_query(struct vm *vm, unsigned n, struct swap_info *si)
{
	const struct swap_area *sw;

	mach_mutex_enter(&vm->vm_swaplock);
	for (sw = vm->vm_swapareas; sw != NULL && n > 0; sw = sw->sw_next)
		n--;
	if (sw != NULL)
		*si = (struct swap_info){ sw->sw_vnode, sw->sw_nslots, sw->sw_used, sw->sw_prio };
	mach_mutex_exit(&vm->vm_swaplock);
	return sw != NULL;
}

static void area_insert_locked(struct vm *vm, struct swap_area *sw)
{
	struct swap_area **at = &vm->vm_swapareas;

	VM_ASSERT(mach_mutex_held(&vm->vm_swaplock));
	while (*at != NULL && (*at)->sw_prio >= sw->sw_prio)
		at = &(*at)->sw_next;
	sw->sw_next = *at;
	*at = sw;
}

static void area_unlink_locked(struct vm *vm, struct swap_area *sw)
{
	struct swap_area **at = &vm->vm_swapareas;

	VM_ASSERT(mach_mutex_held(&vm->vm_swaplock));
	while (*at != sw)
		at = &(*at)->sw_next;
	*at = sw->sw_next;
}

static void area_free(struct vm *vm, struct swap_area *sw)
{
	for (uint64_t c = 0; sw->sw_chunk != NULL && c < count_chunks(sw); c++)
		if (sw->sw_chunk[c] != NULL)
			page_kfree(
			    vm, page_of(vm, mach_kva_frame(vm->vm_mach, sw->sw_chunk[c])), 0);
	if (sw->sw_chunk != NULL)
		kmem_free(vm, sw->sw_chunk, count_chunks(sw) * sizeof(uint32_t *));
	kmem_free(vm, sw, sizeof *sw);
}

enum vm_err swap_add(struct vm *vm, struct vnode *vp, uint64_t nslots, int prio)
{
	struct swap_area *sw;

	if (nslots == 0 || nslots > UINT32_MAX / 2)
		return VM_INVAL;
	sw = kmem_zalloc(vm, sizeof *sw, KM_SLEEP);
	if (sw == NULL)
		return VM_NOMEM;
	sw->sw_nslots = nslots;
	sw->sw_chunk = kmem_zalloc(vm, count_chunks(sw) * sizeof(uint32_t *), KM_SLEEP);
	if (sw->sw_chunk == NULL || vm_inject_fail(vm, VM_INJECT_SWAP)) {
		area_free(vm, sw);
		return VM_NOMEM;
	}
	sw->sw_vnode = vp;
	sw->sw_prio = prio;
	mach_mutex_enter(&vm->vm_swaplock);
	if (nslots > UINT32_MAX - 1 - vm->vm_swapnext) { /* out of slot numbers */
		mach_mutex_exit(&vm->vm_swaplock);
		area_free(vm, sw);
		return VM_NOMEM;
	}
	vnode_hold(vp);
	sw->sw_first = vm->vm_swapnext;
	vm->vm_swapnext += (uint32_t)nslots;
	area_insert_locked(vm, sw);
	vm->vm_swaptotal += nslots;
	mach_mutex_exit(&vm->vm_swaplock);
	return VM_OK;
}

/* Takes an area off the list and frees it: it is empty, or the system ends. */
void swap_drop(struct vm *vm, struct swap_area *sw)
{
	mach_mutex_enter(&vm->vm_swaplock);
	area_unlink_locked(vm, sw);
	if (!sw->sw_removing)
		vm->vm_swaptotal -= sw->sw_nslots;
	vm->vm_swapused -= sw->sw_used;
	vm->vm_swapnext = 0;
	for (const struct swap_area *o = vm->vm_swapareas; o != NULL; o = o->sw_next)
		if (o->sw_first + o->sw_nslots > vm->vm_swapnext)
			vm->vm_swapnext = o->sw_first + (uint32_t)o->sw_nslots;
	mach_mutex_exit(&vm->vm_swaplock);
	struct vnode *vp = sw->sw_vnode;
	area_free(vm, sw);
	vnode_rele(vp);
}

/* ---- slots ---- */
/* Allocates exactly one frame, from the reserve if need be: a slab would need several contiguous
 * frames, for which page-out cannot wait. */
static uint32_t *chunk_alloc(struct vm *vm)
{
	struct page *pp = page_kalloc(vm, 0, PG_RESERVE | PG_ZERO);

	return pp != NULL ? mach_frame_kva(vm->vm_mach, page_pfn(vm, pp)) : NULL;
}

/* Returns the end of the part of the area, from slot 0 on, that is searched for free slots. If the
 * area has a free slot, this part has one. */
static uint64_t search_span(const struct swap_area *sw)
{
	uint64_t n = sw->sw_used * SPARSE;

	n = n > LEAST_SPAN ? n : LEAST_SPAN;
	return n < sw->sw_nslots ? n : sw->sw_nslots;
}

/* A free slot before end, from the hint on; end if there is none. With tables: only a slot whose
 * table exists. */
static uint64_t find_slot(const struct swap_area *sw, uint64_t end, bool tables)
{
	uint64_t i = sw->sw_hint < end ? sw->sw_hint : 0;

	for (uint64_t seen = 0, step; seen < end; seen += step) {
		const uint32_t *c = sw->sw_chunk[i / CHUNK_SLOTS];

		step = 1;
		if (c == NULL ? tables
			      : c[0] == CHUNK_SLOTS) /* no free slot in this chunk: skip it */
			step = CHUNK_SLOTS - i % CHUNK_SLOTS;
		else if (slot_owner(sw, i) == 0)
			return i;
		step = step < end - i ? step : end - i;
		i = i + step < end ? i + step : 0;
	}
	return end;
}

/* Claims up to want consecutive free slots, from the one that find_slot finds. Returns how many
 * slots it claimed, and in *first the first. */
static uint64_t claim_slots(
    struct vm *vm, struct swap_area *sw, uint32_t want, bool tables, uint64_t *first)
{
	uint64_t end = search_span(sw), i = find_slot(sw, end, tables), n = 0;

	while (n < want && i + n < end && slot_owner(sw, i + n) == 0) {
		uint32_t **c = &sw->sw_chunk[(i + n) / CHUNK_SLOTS];

		if (*c == NULL && (tables || (*c = chunk_alloc(vm)) == NULL))
			break;
		owner_set(sw, i + n, CLAIMED);
		n++;
	}
	*first = i;
	return n;
}

enum vm_err swap_alloc_cluster(struct vm *vm, uint32_t want, uint32_t *first, uint32_t *got)
{
	if (vm_inject_fail(vm, VM_INJECT_SWAP))
		return VM_NOSWAP;
	mach_mutex_enter(&vm->vm_swaplock);
	for (struct swap_area *sw = vm->vm_swapareas; sw != NULL; sw = sw->sw_next) {
		uint64_t i, n;

		if (sw->sw_removing || sw->sw_used == sw->sw_nslots)
			continue;
		n = claim_slots(vm, sw, want, false, &i);
		if (n == 0) /* no memory for another table */
			n = claim_slots(vm, sw, want, true, &i);
		if (n == 0)
			continue;
		sw->sw_used += n;
		vm->vm_swapused += n;
		sw->sw_hint = i + n;
		*first = sw->sw_first + (uint32_t)i + 1;
		*got = (uint32_t)n;
		if (sw->sw_next != NULL &&
		    sw->sw_next->sw_prio == sw->sw_prio) { /* equals take turns */
			area_unlink_locked(vm, sw);
			area_insert_locked(vm, sw);
		}
		mach_mutex_exit(&vm->vm_swaplock);
		return VM_OK;
	}
	mach_mutex_exit(&vm->vm_swaplock);
	return VM_NOSWAP;
}

void swap_free_slot(struct vm *vm, uint32_t slot)
{
	mach_mutex_enter(&vm->vm_swaplock);
	struct swap_area *sw = area_locked(vm, slot);
	VM_ASSERT(sw != NULL);
	uint64_t i = slot - 1 - sw->sw_first;
	VM_ASSERT(slot_owner(sw, i) != 0);
	owner_set(sw, i, CLAIMED);
	struct vnode *vp = sw->sw_vnode; /* the area stays: the slot is counted as used */
	mach_mutex_exit(&vm->vm_swaplock);
	/* Discard before the slot is free: a free slot may be written again at once. */
	vp->v_ops->vo_discard(vp, i << VM_PAGESHIFT, VM_PAGESIZE);
	mach_mutex_enter(&vm->vm_swaplock);
	owner_set(sw, i, 0);
	sw->sw_used--;
	vm->vm_swapused--;
	/* Allocation moves on from chunk to chunk: without this, each would leave a table of free
	 * slots behind. */
	uint32_t **at = &sw->sw_chunk[i / CHUNK_SLOTS], *empty = NULL;
	if (*at != NULL && (*at)[0] == 0 && i / CHUNK_SLOTS != sw->sw_hint / CHUNK_SLOTS) {
		empty = *at;
		*at = NULL;
	}
	mach_mutex_exit(&vm->vm_swaplock);
	if (empty != NULL)
		page_kfree(vm, page_of(vm, mach_kva_frame(vm->vm_mach, empty)), 0);
}

/* The page that the slot belongs to is E-locked: the slot stays, and so does its area. */
void swap_dropped(struct vm *vm, uint32_t slot)
{
	voff_t off;
	struct vnode *vp = swap_area_of(vm, slot, &off)->sw_vnode;

	if (vp->v_ops->vo_dropped != NULL)
		vp->v_ops->vo_dropped(vp, off);
}

/* ---- removal: swapfs.c ---- */
/* Closes the vnode's area: from here on it promises nothing and gives no new slot. VM_INVAL: no
 * such area. VM_NOSWAP: its promises are still needed. */
enum vm_err swap_close_area(struct vm *vm, struct vnode *vp, struct swap_area **swp)
{
	enum vm_err e = VM_OK;
	struct swap_area *sw;

	mach_mutex_enter(&vm->vm_swaplock);
	for (sw = vm->vm_swapareas; sw != NULL && (sw->sw_vnode != vp || sw->sw_removing);
	     sw = sw->sw_next)
		;
	*swp = sw;
	if (sw == NULL) {
		e = VM_INVAL;
	} else if (!vm->vm_config.vc_overcommit &&
	    vm->vm_resv > swap_resv_max_locked(vm) - sw->sw_nslots) {
		e = VM_NOSWAP;
	} else {
		sw->sw_removing = true;
		vm->vm_swaptotal -= sw->sw_nslots;
	}
	mach_mutex_exit(&vm->vm_swaplock);
	return e;
}

void swap_open_area(struct vm *vm, struct swap_area *sw)
{
	mach_mutex_enter(&vm->vm_swaplock);
	sw->sw_removing = false;
	vm->vm_swaptotal += sw->sw_nslots;
	mach_mutex_exit(&vm->vm_swaplock);
}

uint64_t swap_area_used(struct vm *vm, const struct swap_area *sw)
{
	mach_mutex_enter(&vm->vm_swaplock);
	uint64_t n = sw->sw_used;
	mach_mutex_exit(&vm->vm_swaplock);
	return n;
}

anon_id swap_slot_owner(struct vm *vm, const struct swap_area *sw, uint64_t i)
{
	mach_mutex_enter(&vm->vm_swaplock);
	anon_id id = slot_owner(sw, i);
	mach_mutex_exit(&vm->vm_swaplock);
	return id == CLAIMED ? 0 : id;
}

void swap_set_owner(struct vm *vm, uint32_t slot, anon_id id)
{
	mach_mutex_enter(&vm->vm_swaplock);
	struct swap_area *sw = area_locked(vm, slot);
	owner_set(sw, slot - 1 - sw->sw_first, id);
	mach_mutex_exit(&vm->vm_swaplock);
}

/* ---- reservation ---- */
uint64_t swap_resv_max_locked(struct vm *vm)
{
	uint64_t keep = (uint64_t)vm->vm_nkernel + vm->vm_reserve, frames = vm->vm_nonline;

	VM_ASSERT(mach_mutex_held(&vm->vm_swaplock));
	return vm->vm_swaptotal + (frames > keep ? frames - keep : 0);
}

/* Fewer than the slots if a swap area has lost room: see vc_unbacked. */
static uint64_t most_promised_locked(struct vm *vm, bool touched)
{
	const struct vm_config *c = &vm->vm_config;
	uint64_t most = swap_resv_max_locked(vm), lost = 0;

	VM_ASSERT(mach_mutex_held(&vm->vm_swaplock));
	if (c->vc_unbacked != NULL && !touched)
		lost = c->vc_unbacked(c->vc_promisearg);
	return lost < most ? most - lost : 0;
}

enum vm_err anon_reserve(struct vm *vm, uint64_t npages, bool touched)
{
	const struct vm_config *c = &vm->vm_config;
	enum vm_err e = VM_OK;

	mach_mutex_enter(&vm->vm_swaplock);
	vm->vm_resvmax = most_promised_locked(vm, touched);
	if (c->vc_promise != NULL ? !c->vc_promise(c->vc_promisearg, npages, touched)
				  : !c->vc_overcommit &&
		    (npages > vm->vm_resvmax || vm->vm_resv > vm->vm_resvmax - npages))
		e = VM_NOSWAP;
	else
		vm->vm_resv += npages;
	mach_mutex_exit(&vm->vm_swaplock);
	if (e != VM_OK)
		VM_STAT(vm, resv_fail);
	return e;
}

void anon_unreserve(struct vm *vm, uint64_t npages)
{
	mach_mutex_enter(&vm->vm_swaplock);
	VM_ASSERT(vm->vm_resv >= npages);
	vm->vm_resv -= npages;
	mach_mutex_exit(&vm->vm_swaplock);
	if (vm->vm_config.vc_unpromise != NULL)
		vm->vm_config.vc_unpromise(vm->vm_config.vc_promisearg, npages);
}

/* ---- vm_check ---- */
unsigned swap_check(struct vm *vm, bool (*holds)(struct vm *, anon_id, uint32_t),
    void (*report)(void *, const char *), void *arg)
{
	unsigned bad = 0;
	uint64_t total = 0, used = 0;

	for (const struct swap_area *sw = vm->vm_swapareas; sw != NULL; sw = sw->sw_next) {
		uint64_t n = 0;

		for (uint64_t i = 0; i < sw->sw_nslots; i++) {
			uint32_t id = slot_owner(sw, i);

			n += id != 0;
			if (id != 0 &&
			    (id == CLAIMED || !holds(vm, id, sw->sw_first + (uint32_t)i + 1))) {
				report(arg, "a swap slot's owner does not know it");
				bad++;
			}
		}
		if (n != sw->sw_used) {
			report(arg, "a swap area's count of used slots is wrong");
			bad++;
		}
		total += sw->sw_nslots;
		used += n;
	}
	if (total != vm->vm_swaptotal || used != vm->vm_swapused) {
		report(arg, "swap totals do not add up");
		bad++;
	}
	return bad;
}
