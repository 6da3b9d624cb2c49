/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nodes of memory as seen by an address space: which node its pages lie on. vm/frame/node.c has the frames.
 *
 * Three ways for a range (as_place): NEAR, beside the CPU that touches a page first; SPREAD, page after page on the nodes in
 * turn, for memory that all CPUs use alike; FOLLOW, beside the CPU that faults on the page next: translations are dropped, and
 * a page that a CPU of another node faults on is moved to that CPU's node. Once its translation is
 * loaded the page takes no more faults, so it stays until FOLLOW is asked for again. A page that
 * other spaces map, too, does not follow, or it would move back and forth. as_migrate moves at
 * once, wherever the CPUs are.
 *
 * Locks: a_lock as writer for as_place, as reader for the rest; a page is moved as in vm/as/as_large.c. After Solaris'
 * MADV_ACCESS_LWP and MADV_ACCESS_MANY. With SPREAD, pages that are read back from swap are spread,
 * too, by a fault, ahead of it or by advice. Left out: sampling by itself (Linux' balancing); the
 * place of a file's pages, which belong to no space: they lie beside the CPU that read them first.
 */
#include "vm/impl.h"

/* Moves the page at va to a frame of the node, unless the page lies there already. False: it cannot
 * be moved now, or the node is full. */
static bool migrate_page(struct as *as, vaddr_t va, unsigned node, bool *full)
{
	struct vm *vm = as->a_vm;
	unsigned attr = 0;
	pfn_t pfn = hat_probe(as->a_hat, va, &attr), to;

	if (pfn == PFN_INVALID || pfn >= vm->vm_nframes || vm_is_zeropage(vm, pfn) ||
	    vm_node_of(vm, pfn) == node)
		return false;
	if ((to = numa_alloc(vm, node, vm->vm_reserve)) == PFN_INVALID) {
		*full = true;
		return false;
	}
	if (as_page_move(as, va, to, attr))
		return true;
	buddy_free(vm, to, 0);
	return false;
}

enum vm_err as_migrate(struct as *as, vaddr_t addr, uint64_t len, unsigned node, uint64_t *moved)
{
	bool full = false;

	*moved = 0;
	if (node >= as->a_vm->vm_caps->mc_nnodes)
		return VM_NOTSUP;
	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, false);
	for (struct seg *s = as_seg_ge(as, addr); s != NULL && seg_base(s) < addr + len && !full;
	     s = seg_next(s)) {
		vaddr_t va = seg_base(s) > addr ? seg_base(s) : addr,
			end = seg_end(s) < addr + len ? seg_end(s) : addr + len;

		for (; va < end && !full; va += VM_PAGESIZE)
			*moved += migrate_page(as, va, node, &full);
	}
	mach_rw_exit(&as->a_lock);
	return full ? VM_NOMEM : VM_OK;
}

/* ---- where pages shall lie ---- */
/* Drops the translations, so that the next CPU to touch a page takes a fault. Locked pages keep
 * theirs. */
static void drop_translations(struct seg *s, vaddr_t addr, vaddr_t end)
{
	struct as *as = s->s_as;

	for (vaddr_t va = addr; va < end; va += VM_PAGESIZE)
		if ((s->s_flags & S_OWNLOCK) == 0 && aslock_get(as, va) == 0)
			hat_unload(as->a_hat, va, VM_PAGESIZE, HAT_UNLOAD);
}

static enum vm_err place_locked(struct as *as, vaddr_t addr, vaddr_t end, uint32_t flag)
{
	enum vm_err e = VM_NOMAP;

	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	if (as_mapped(as, addr, end - addr) && (e = as_split(as, addr)) == VM_OK &&
	    (e = as_split(as, end)) == VM_OK)
		for (struct seg *s = as_segat(as, addr); s != NULL && seg_base(s) < end;
		     s = seg_next(s)) {
			s->s_flags = (s->s_flags & ~(S_SPREAD | S_FOLLOW)) | flag;
			if (flag == S_FOLLOW)
				drop_translations(s, seg_base(s), seg_end(s));
		}
	as_merge(as, addr, end);
	return e;
}

enum vm_err as_place(struct as *as, vaddr_t addr, uint64_t len, enum place how)
{
	uint32_t flag = how == PLACE_SPREAD ? S_SPREAD : 0;
	enum vm_err e;

	if (how == PLACE_FOLLOW)
		flag = S_FOLLOW;
	if (as->a_vm->vm_caps->mc_nnodes < 2)
		return VM_NOTSUP;
	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, true);
	e = place_locked(as, addr, addr + len, flag);
	mach_rw_exit(&as->a_lock);
	return e;
}

void as_follow(struct seg *s, vaddr_t va, uint64_t len)
{
	struct as *as = s->s_as;
	unsigned node = vm_node_here(as->a_vm);
	bool full = false;

	for (vaddr_t end = va + len; va < end && !full; va += VM_PAGESIZE) {
		pfn_t pfn = hat_probe(as->a_hat, va, NULL);

		if (pfn < as->a_vm->vm_nframes && hat_page_getshare(page_of(as->a_vm, pfn)) == 1 &&
		    migrate_page(as, va, node, &full))
			VM_STAT(as->a_vm, node_followed);
	}
}
