/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of pages: the table from (vnode, offset) to frame, the lock of a name, and the lists of vnodes' pages.
 *
 * Locks: page.c has the theory. The lock of a name guards its hash chain; vm_listlock the lists, which a vnode of V_SWAPFS has not.
 *
 * Invariants: a name is in the hash exactly once; a page is on its vnode's list if and only if it is named.
 */
#include "vm/impl.h"

/* Stable in every run (no address goes in), so that policies' ghosts and the simulated machine are deterministic. */
uint64_t page_name_hash(const struct vnode *vp, voff_t off)
{
	uint64_t x = (off >> VM_PAGESHIFT) + vp->v_id * 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
	return x ^ (x >> 32);
}

/*
 * The hash: a run of names has heads that follow each other, one cache line of them, and successive runs of a vnode have
 * successive locks and lines. So the dense numbers of anonymous pages do not collide at all, and a fault does not read
 * the structures of pages that another CPU works on. Vnodes start anywhere. Heads of one lock lie together.
 */
static uint64_t page_run(const struct vnode *vp, voff_t off)
{
	return (off >> (VM_PAGESHIFT + VM_LOCKRUN)) + (vp->v_id * 0x9e3779b97f4a7c15u >> 32);
}

uint32_t page_lockno(struct vm *vm, const struct vnode *vp, voff_t off)
{
	return (uint32_t)page_run(vp, off) & vm->vm_lockmask;
}

uint32_t page_bucket(struct vm *vm, const struct vnode *vp, voff_t off)
{
	uint64_t run = page_run(vp, off);
	uint32_t no = (uint32_t)run & vm->vm_lockmask,
		 in = (uint32_t)(run / (vm->vm_lockmask + 1)) << VM_LOCKRUN;

	in |= (uint32_t)vm_btop(off) & ((1u << VM_LOCKRUN) - 1);
	return no << vm->vm_hashshift | (in & ((1u << vm->vm_hashshift) - 1));
}

struct page_lock *page_name_enter(struct vm *vm, const struct vnode *vp, voff_t off)
{
	struct page_lock *pl = &vm->vm_pagelocks[page_lockno(vm, vp, off)];

	mach_mutex_enter(&pl->pl_mutex);
	return pl;
}

struct page_lock *page_enter(struct vm *vm, const struct page *pp)
{
	for (;;) {
		unsigned no = __atomic_load_n(&pp->p_lockno, __ATOMIC_RELAXED);
		struct page_lock *pl = &vm->vm_pagelocks[no];

		mach_mutex_enter(&pl->pl_mutex);
		if (__atomic_load_n(&pp->p_lockno, __ATOMIC_RELAXED) == no)
			return pl;
		mach_mutex_exit(&pl->pl_mutex);
	}
}

struct page *page_find_locked(struct vm *vm, const struct vnode *vp, voff_t off)
{
	uint32_t link = vm->vm_pagehash[page_bucket(vm, vp, off)], i;

	VM_ASSERT(mach_mutex_held(&vm->vm_pagelocks[page_lockno(vm, vp, off)].pl_mutex));
	for (; (i = page_hashlink(link)) != PAGE_NIL; link = vm->vm_pages[i].p_hashnext) {
		struct page *pp = &vm->vm_pages[i];

		if (pp->p_vnode == vp && pp->p_offset == off)
			return pp;
	}
	return NULL;
}

static void page_list_add(struct vm *vm, struct page *pp, struct vnode *vp)
{
	uint32_t i = page_pfn(vm, pp);

	mach_mutex_enter(&vm->vm_listlock);
	pp->p_vpprev = PAGE_NIL;
	pp->p_vpnext = vp->v_pages;
	if (vp->v_pages != PAGE_NIL)
		vm->vm_pages[vp->v_pages].p_vpprev = i;
	vp->v_pages = i;
	vp->v_npages++;
	mach_mutex_exit(&vm->vm_listlock);
}

static void page_list_remove(struct vm *vm, struct page *pp, struct vnode *vp)
{
	mach_mutex_enter(&vm->vm_listlock);
	if (pp->p_vpprev == PAGE_NIL)
		vp->v_pages = pp->p_vpnext;
	else
		vm->vm_pages[pp->p_vpprev].p_vpnext = pp->p_vpnext;
	if (pp->p_vpnext != PAGE_NIL)
		vm->vm_pages[pp->p_vpnext].p_vpprev = pp->p_vpprev;
	vp->v_npages--;
	pp->p_vpnext = pp->p_vpprev = PAGE_NIL;
	mach_mutex_exit(&vm->vm_listlock);
}

/* The frame is the caller's alone, or a page whose lock the caller holds too, just unnamed. */
void page_name_locked(struct vm *vm, struct page *pp, struct vnode *vp, voff_t off)
{
	uint32_t i = page_pfn(vm, pp), *bucket = &vm->vm_pagehash[page_bucket(vm, vp, off)];

	VM_ASSERT(mach_mutex_held(&vm->vm_pagelocks[page_lockno(vm, vp, off)].pl_mutex));
	__atomic_store_n(&pp->p_lockno, (uint8_t)page_lockno(vm, vp, off), __ATOMIC_RELAXED);
	pp->p_offset = off;
	__atomic_store_n(&pp->p_vnode, vp, __ATOMIC_RELEASE);
	pp->p_hashnext = *bucket;
	*bucket = page_hashlink(i);
	if ((vp->v_flags & V_SWAPFS) == 0)
		page_list_add(vm, pp, vp);
}

void page_unname_locked(struct vm *vm, struct page *pp)
{
	struct vnode *vp = pp->p_vnode;
	uint32_t i = page_pfn(vm, pp), *link = &vm->vm_pagehash[page_bucket(vm, vp, pp->p_offset)];

	VM_ASSERT(page_held(vm, pp));
	while (*link != page_hashlink(i)) {
		VM_ASSERT(page_hashlink(*link) != PAGE_NIL);
		link = &vm->vm_pages[page_hashlink(*link)].p_hashnext;
	}
	*link = pp->p_hashnext;
	if ((vp->v_flags & V_SWAPFS) == 0)
		page_list_remove(vm, pp, vp);
	__atomic_store_n(&pp->p_vnode, NULL, __ATOMIC_RELAXED);
	pp->p_offset = 0;
}
