/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Vnodes' life. A vnode is the implementor's; the core counts references and, when the last one
 * goes, makes sure that no page bears its name any more before it calls vo_inactive. Named pages
 * hold no reference: they are a cache.
 *
 * Locks: v_refcnt is atomic; the page list is under vm_listlock. vnode_rele may sleep on I/O and page locks.
 */
#include "vm/impl.h"

void vnode_init(struct vnode *vp, struct vm *vm, const struct vnode_ops *ops, void *data)
{
	memset(vp, 0, sizeof(*vp));
	vp->v_ops = ops;
	vp->v_vm = vm;
	vp->v_refcnt = 1;
	vp->v_pages = PAGE_NIL;
	vp->v_data = data;
	vp->v_id = __atomic_add_fetch((uint64_t *)(void *)&vm->vm_vnodeid, 1, __ATOMIC_RELAXED);
}

void vnode_hold(struct vnode *vp)
{
	uint32_t old = vp->v_refcnt++;

	VM_ASSERT(old > 0);
	(void)old;
}

/* Attempts at the last write-back: a transient error of the store loses no page. */
#define LAST_TRIES 3u

static uint64_t count_dirty(struct vnode *vp)
{
	struct vm *vm = vp->v_vm;
	uint64_t n = 0;

	mach_mutex_enter(&vm->vm_listlock);
	for (uint32_t i = vp->v_pages; i != PAGE_NIL; i = vm->vm_pages[i].p_vpnext)
		n += (page_nrm(&vm->vm_pages[i]) & P_MOD) != 0;
	mach_mutex_exit(&vm->vm_listlock);
	return n;
}

/* The last reference is gone and no thread reads the pages; if they cannot be written, the embedder
 * is told (vc_lost). */
static void write_last(struct vnode *vp)
{
	struct vm *vm = vp->v_vm;
	enum vm_err e = VM_OK;
	uint64_t n;

	for (unsigned i = 0; i < LAST_TRIES && (e = pvn_putpages(vm, vp, 0, 0, 0)) != VM_OK; i++)
		mach_yield();
	if (e == VM_OK)
		return;
	n = count_dirty(vp);
	VM_STATN(vm, lost_page, n);
	if (vm->vm_config.vc_lost != NULL)
		vm->vm_config.vc_lost(vm->vm_config.vc_lostarg, vp, n, e);
}

void vnode_rele(struct vnode *vp)
{
	uint32_t old = vp->v_refcnt--;

	VM_ASSERT(old > 0);
	if (old != 1)
		return;
	if (!(vp->v_flags & (V_SWAP | V_SWAPFS)))
		write_last(vp);
	page_vnode_purge(vp->v_vm, vp, 0, 0);
	VM_ASSERT(vp->v_npages == 0);
	vp->v_ops->vo_inactive(vp);
}
