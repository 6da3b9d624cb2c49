/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Swapfs: anonymous pages are written to swap slots, and are brought back from an area that is removed.
 *
 * A page of anonymous memory is named (vm_swapfs, id) and has no place on disk. swapfs_putpages binds slots only now, at page-out, and
 * in clusters, so that pages that go together lie together, whatever their ids are. anon.c reads them in.
 *
 * Locks: the pages are E-locked by the caller, or here, so their anons' slots stay. The functions
 * of swap.c take vm_swaplock.
 */
#include "vm/impl.h"

/*
 * Writes n E-locked pages to the cluster of slots from first. The first *ok of them were written:
 * each of these is clean and its anon is bound to its slot. The other slots are free again. VM_OK
 * if all n were written, else the error.
 */
static enum vm_err write_cluster(
    struct vm *vm, struct page **pps, uint32_t first, uint32_t n, uint32_t *ok)
{
	voff_t off;
	struct swap_area *sw = swap_area_of(vm, first, &off);
	enum vm_err e = pvn_io(vm, sw->sw_vnode, VM_IO_WRITE, off, pps, n, ok);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t slot = first + i, old = slot;

		if (i < *ok) {
			swap_set_owner(vm, slot, (anon_id)(pps[i]->p_offset >> VM_PAGESHIFT));
			old = anon_bind(vm, pps[i], slot);
			page_nrm_clear(pps[i], P_MOD);
		}
		if (old != VM_NO_SLOT)
			swap_free_slot(vm, old);
	}
	VM_STATN(vm, swapout, *ok);
	return vm_io_result(e, *ok, n);
}

enum vm_err swapfs_putpages(struct vm *vm, struct page **pps, uint32_t n, uint32_t *ok)
{
	enum vm_err e = VM_OK;

	for (*ok = 0; *ok < n && e == VM_OK;) {
		uint32_t first, got, done = 0;

		e = swap_alloc_cluster(vm, n - *ok, &first, &got);
		if (e == VM_OK) {
			e = write_cluster(vm, pps + *ok, first, got, &done);
			*ok += done;
		}
	}
	return e;
}

/* Takes one anon off the area: brings its page into memory and gives its slot up. */
static enum vm_err evacuate_anon(struct vm *vm, anon_id id, uint32_t slot)
{
	struct page *pp;
	enum vm_err e;

	if (!anon_tryhold(vm, id))
		return VM_OK; /* the anon is being freed: its last reference frees the slot */
	e = anon_getpage(vm, id, SE_EXCL, 1, 0, &pp);
	if (e == VM_OK) {
		if (anon_holds_slot(vm, id, slot)) {
			page_nrm_set(pp, P_MOD);
			swapfs_dirty(vm, pp);
		}
		page_unlock(vm, pp);
	}
	anon_decref(vm, id);
	return e;
}

enum vm_err swap_remove(struct vm *vm, struct vnode *vp)
{
	struct swap_area *sw;
	enum vm_err e = swap_close_area(vm, vp, &sw);

	if (e != VM_OK)
		return e;
	/* The area gives no new slots. A slot whose owner is still being bound or freed is dealt with in a
	 * later round. */
	for (unsigned round = 0; e == VM_OK && swap_area_used(vm, sw) > 0 && round < 10000;
	     round++) {
		for (uint64_t i = 0; i < sw->sw_nslots && e == VM_OK; i++) {
			anon_id id = swap_slot_owner(vm, sw, i);

			if (id != 0)
				e = evacuate_anon(vm, id, sw->sw_first + (uint32_t)i + 1);
		}
		mach_yield();
	}
	if (e == VM_OK && swap_area_used(vm, sw) > 0)
		e = VM_NOMEM;
	if (e != VM_OK)
		swap_open_area(vm, sw);
	else
		swap_drop(vm, sw);
	return e;
}
