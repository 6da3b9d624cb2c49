/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segkmem: wired kernel heap.
 *
 * A range of the kernel's space whose addresses a vmem arena hands out and whose frames are allocated with them, mapped with
 * locked translations, and wired: the scanner never sees them, because a wired page is on no queue of the policy. Pages are
 * named (the heap's vnode, offset in the heap), so the mapping list, vm_check and a debugger know them like any others.
 * The vnode does no I/O: nothing of it is ever written.
 *
 * This is for memory that must be contiguous in addresses but not in frames, and for what wants a guard: unallocated
 * addresses fault with VM_NOMAP. Small objects come from kmem's slabs over the direct map.
 *
 * Locks: the arena's. Invariant (segkmem_check): named pages = bytes allocated. After SVR4's and Solaris' segkmem; left out:
 * large pages, permanent allocation before vmem exists.
 */
#include "vm/impl.h"

#include <quire/kseg.h>

struct segkmem {
	struct as *k_as;      /* const */
	vaddr_t k_base;       /* const */
	uint64_t k_len;       /* const */
	struct vmem *k_arena; /* const */
	struct vnode k_vnode; /* names of the pages */
};

/* ---- the naming vnode ---- */
static void kvp_start(struct vnode *vp, struct vm_io *io)
{
	io->io_err = VM_NOTSUP;
	io->io_ok = 0;
	io->io_done(io);
}
static void kvp_poll(struct vnode *vp, struct vm_io *io) {}
static void kvp_discard(struct vnode *vp, voff_t off, uint64_t len) {}
static enum vm_err kvp_sync(struct vnode *vp, voff_t off, uint64_t len) { return VM_OK; }
static uint64_t kvp_size(struct vnode *vp) { return ((struct segkmem *)vp->v_data)->k_len; }
static void kvp_inactive(struct vnode *vp) {}
static const struct vnode_ops kvp_ops = {
	.vo_name = "kernel",
	.vo_start = kvp_start,
	.vo_poll = kvp_poll,
	.vo_discard = kvp_discard,
	.vo_sync = kvp_sync,
	.vo_size = kvp_size,
	.vo_inactive = kvp_inactive,
};

/* ---- the segment ---- */
static struct segkmem *kmem_of(const struct seg *s) { return s->s_data; }

static enum vm_err segkmem_dup(struct seg *seg, struct seg *nseg) { return VM_NOMAP; }

static enum vm_err segkmem_unmap(struct seg *seg)
{
	VM_ASSERT(vmem_inuse(kmem_of(seg)->k_arena) == 0);
	return VM_OK;
}

static enum vm_err segkmem_split(struct seg *seg, struct seg *nseg, vaddr_t addr)
{
	return VM_NOTSUP;
}
static bool segkmem_concat(struct seg *seg, struct seg *nseg) { return false; }

/* Allocated pages are always mapped, so a fault here is late: the address was freed meanwhile. */
static enum vm_err segkmem_fault(
    struct seg *seg, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	if (rw == S_EXEC)
		return VM_PROT;
	for (vaddr_t va = addr; va < addr + len; va += VM_PAGESIZE)
		if (hat_probe(seg->s_as->a_hat, va, NULL) == PFN_INVALID)
			return VM_NOMAP;
	return VM_OK;
}

static enum vm_err segkmem_checkprot(struct seg *seg, vaddr_t a, uint64_t l, unsigned prot)
{
	return (prot & ~(PROT_R | PROT_W)) == 0 ? VM_OK : VM_PROT;
}

static unsigned segkmem_getprot(struct seg *seg, vaddr_t a) { return PROT_R | PROT_W; }

static void segkmem_incore(struct seg *seg, vaddr_t addr, uint64_t len, uint8_t *vec)
{
	for (vaddr_t va = addr; va < addr + len; va += VM_PAGESIZE)
		*vec++ = hat_probe(seg->s_as->a_hat, va, NULL) == PFN_INVALID
		    ? 0
		    : INCORE_PRESENT | INCORE_MAPPED | INCORE_LOCKED;
}

static enum vm_err segkmem_lockop(struct seg *s, vaddr_t a, uint64_t l, enum lock_op op)
{
	return VM_OK;
}

static unsigned segkmem_check(struct seg *seg, void (*report)(void *, const char *), void *arg)
{
	const struct segkmem *k = kmem_of(seg);

	if (vm_ptob(k->k_vnode.v_npages) == vmem_inuse(k->k_arena))
		return 0;
	report(arg, "segkmem: pages are not what was allocated");
	return 1;
}

const struct seg_ops segkmem_ops = {
	.so_name = "segkmem",
	.so_dup = segkmem_dup,
	.so_unmap = segkmem_unmap,
	.so_split = segkmem_split,
	.so_concat = segkmem_concat,
	.so_fault = segkmem_fault,
	.so_setprot = seg_nosup_prot,
	.so_checkprot = segkmem_checkprot,
	.so_getprot = segkmem_getprot,
	.so_shared = seg_is_private,
	.so_file = seg_no_file,
	.so_swapout = seg_noop_swapout,
	.so_sync = seg_noop_sync,
	.so_incore = segkmem_incore,
	.so_lockop = segkmem_lockop,
	.so_advise = seg_noop_advise,
	.so_inherit = seg_nosup_inherit,
	.so_adopt = seg_nosup_adopt,
	.so_move = seg_nosup_move,
	.so_alike = seg_nosup_alike,
	.so_snapshot = seg_nosup_snapshot,
	.so_reserved = seg_noop_reserved,
	.so_populated = seg_unfilled_populated,
	.so_peek = seg_retry_peek,
	.so_poke = seg_retry_poke,
	.so_translation_ok = seg_any_translation_ok,
	.so_check = segkmem_check,
};

static enum vm_err segkmem_attach(struct seg *seg, const void *args)
{
	seg->s_ops = &segkmem_ops;
	seg->s_flags |= S_OWNLOCK;
	seg->s_data = *(struct segkmem *const *)args;
	return VM_OK;
}

/* ---- life ---- */
enum vm_err segkmem_create(struct as *kas, vaddr_t base, uint64_t len, struct segkmem **kp)
{
	struct vm *vm = kas->a_vm;
	struct segkmem *k;
	enum vm_err e = VM_NOMEM;

	if (((base | len) & VM_PAGEMASK) != 0 || len == 0)
		return VM_INVAL;
	if ((k = kmem_zalloc(vm, sizeof(*k), KM_SLEEP)) == NULL)
		return e;
	k->k_as = kas;
	k->k_base = base;
	k->k_len = len;
	vnode_init(&k->k_vnode, vm, &kvp_ops, k);
	if ((k->k_arena = vmem_create(vm, "segkmem", base, len, VM_PAGESIZE)) != NULL &&
	    vmem_qcache(k->k_arena, 4 * VM_PAGESIZE) &&
	    (e = as_map(kas, base, len, segkmem_attach, &k)) == VM_OK) {
		*kp = k;
		return VM_OK;
	}
	if (k->k_arena != NULL)
		vmem_destroy(k->k_arena);
	kmem_free(vm, k, sizeof(*k));
	return e;
}

void segkmem_destroy(struct segkmem *k)
{
	enum vm_err e = as_unmap(k->k_as, k->k_base, k->k_len);

	VM_ASSERT(e == VM_OK);
	(void)e;
	vmem_destroy(k->k_arena);
	kmem_free(k->k_as->a_vm, k, sizeof(*k));
}

uint64_t segkmem_inuse(struct segkmem *k) { return vmem_inuse(k->k_arena); }

/* ---- memory ---- */
static void drop_pages(struct segkmem *k, vaddr_t va, uint64_t npages)
{
	struct vm *vm = k->k_as->a_vm;

	hat_unload(k->k_as->a_hat, va, vm_ptob(npages), HAT_UNLOAD_UNLOCK | HAT_UNLOAD_DISCARD);
	for (uint64_t i = 0; i < npages; i++) {
		struct page *pp =
		    page_lookup_notouch(vm, &k->k_vnode, va - k->k_base + vm_ptob(i), SE_EXCL);

		VM_ASSERT(pp != NULL);
		page_unwire(vm, pp);
		page_nrm_clear(pp, P_REF | P_MOD);
		page_destroy(vm, pp);
	}
}

static enum vm_err make_page(struct segkmem *k, vaddr_t va, unsigned kmflags)
{
	struct vm *vm = k->k_as->a_vm;
	unsigned flags = PG_ZERO | ((kmflags & KM_NOSLEEP) != 0 ? 0 : PG_WAIT);
	struct page *pp;
	enum vm_err e = page_create(vm, &k->k_vnode, va - k->k_base, flags, &pp);

	if (e != VM_OK)
		return e;
	if ((e = page_wire(vm, pp)) != VM_OK) {
		page_destroy(vm, pp);
		return e;
	}
	page_filled(vm, pp, false);
	e = seg_load(k->k_as, va, pp, PROT_R | PROT_W, HAT_LOAD_LOCK);
	if (e != VM_OK) {
		page_unwire(vm, pp);
		page_destroy(vm, pp);
		return e;
	}
	page_unlock(vm, pp);
	return VM_OK;
}

enum vm_err segkmem_alloc(struct segkmem *k, uint64_t size, unsigned kmflags, vaddr_t *vap)
{
	uint64_t n = vm_btop(vm_page_round(size)), i;
	enum vm_err e = VM_OK;
	vaddr_t va;

	if (n == 0 || n > vm_btop(k->k_len) || !vmem_alloc(k->k_arena, vm_ptob(n), kmflags, &va))
		return VM_NOMEM;
	for (i = 0; i < n && (e = make_page(k, va + vm_ptob(i), kmflags)) == VM_OK; i++)
		;
	if (e != VM_OK) {
		if (i > 0)
			drop_pages(k, va, i);
		vmem_free(k->k_arena, va, vm_ptob(n));
		return e;
	}
	*vap = va;
	return VM_OK;
}

void segkmem_free(struct segkmem *k, vaddr_t va, uint64_t size)
{
	drop_pages(k, va, vm_btop(vm_page_round(size)));
	vmem_free(k->k_arena, va, vm_page_round(size));
}
