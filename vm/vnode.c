/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Vnodes' life. A vnode is the implementor's; the core counts references and, when the last one goes, makes sure that no
 * page bears its name any more before it says so. Named pages hold no reference: they are a cache.
 *
 * Locks: v_refcnt is atomic; the page list is under vm_pagelock. vnode_rele may sleep on I/O and page locks.
 */
#include "impl.h"

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

void vnode_rele(struct vnode *vp)
{
	uint32_t old = vp->v_refcnt--;

	VM_ASSERT(old > 0);
	if (old != 1)
		return;
	/* What cannot be written now is lost: there is nobody left to tell. Page-out counted it as an io_error. */
	if (!(vp->v_flags & (V_SWAP | V_SWAPFS)))
		(void)pvn_putpages(vp->v_vm, vp, 0, 0, 0);
	page_vnode_purge(vp->v_vm, vp, 0, 0);
	vp->v_ops->vo_inactive(vp);
}
