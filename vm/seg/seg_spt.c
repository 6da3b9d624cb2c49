/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segspt: shared memory with shared page tables (Solaris' intimate shared memory, and DISM where it is not locked).
 *
 * The memory belongs to a space of its own that no program runs in: one segment of shared anonymous memory, whose
 * translations are the only ones there are. A mapping of it in another space is a segment without pages: its HAT points at
 * the tables of the memory's space (hat_share). A fault in any of them is served in the memory's
 * space, and so for all of them; a page that page-out takes there is gone from all, flushed from
 * the TLB under each of their addresses. So a hundred spaces that share a gigabyte cost one set of
 * tables and a hundred pointers, and a page's mapping list has one entry.
 *
 * The price is what must be alike: one protection for all, mapped as a whole, at addresses that are multiples of what a table
 * maps. as_usage and vm_check see the translations in the memory's space only.
 *
 * Locks: the memory's space never changes its segments after creation, so its fault path is entered under the a_lock of the
 * faulting space alone. Left out: large pages of it, changing protections, locks of parts by its users.
 */
#include "vm/impl.h"

#include <quire/kseg.h>

struct spt {
	struct vm *sp_vm; /* const */
	struct as *sp_as; /* const */
	struct seg *
	    sp_seg; /* const: the one segment of sp_as, which never changes: no a_lock of sp_as is needed */
	vaddr_t sp_base;  /* const: in sp_as */
	uint64_t sp_len;  /* const */
	unsigned sp_prot; /* const */
	_Atomic uint32_t sp_refcnt;
};

static struct spt *spt_of(const struct seg *s) { return s->s_data; }

static vaddr_t shared_address(const struct seg *s, vaddr_t va)
{
	return spt_of(s)->sp_base + (va - seg_base(s));
}

/* ---- the memory ---- */
static uint64_t biggest_unit(uint64_t len, uint64_t align)
{
	while (align << 9 <= len && (len & ((align << 9) - 1)) == 0)
		align <<= 9; /* so that the highest tables can be shared */
	return align;
}

static enum vm_err make_space(struct vm *vm, struct spt *sp)
{
	const struct mach_caps *caps = vm->vm_caps;
	enum vm_err e = as_alloc(
	    vm, vm_page_round(caps->mc_user_min), vm_page_trunc(caps->mc_user_max), &sp->sp_as);
	uint64_t align;

	if (e != VM_OK)
		return e;
	align = hat_share_unit(sp->sp_as->a_hat);
	if (align == 0 || (sp->sp_len & (align - 1)) != 0)
		return align == 0 ? VM_NOTSUP : VM_INVAL;
	return as_gap(sp->sp_as, sp->sp_len, biggest_unit(sp->sp_len, align), 0, ~(vaddr_t)0, false,
	    &sp->sp_base);
}

enum vm_err spt_create(struct vm *vm, uint64_t len, unsigned prot, bool locked, struct spt **spp)
{
	const struct segvn_args a = {
		.sa_prot = prot, .sa_maxprot = prot, .sa_flags = SEGVN_SHARED
	};
	struct spt *sp = len == 0 ? NULL : kmem_zalloc(vm, sizeof(*sp), KM_SLEEP);
	enum vm_err e;

	if (sp == NULL)
		return len == 0 ? VM_INVAL : VM_NOMEM;
	sp->sp_vm = vm;
	sp->sp_len = len;
	sp->sp_prot = prot;
	sp->sp_refcnt = 1;
	if ((e = make_space(vm, sp)) == VM_OK &&
	    (e = as_map(sp->sp_as, sp->sp_base, len, segvn_create, &a)) == VM_OK) {
		mach_rw_enter(&sp->sp_as->a_lock, false);
		sp->sp_seg = as_segat(sp->sp_as, sp->sp_base);
		mach_rw_exit(&sp->sp_as->a_lock);
	}
	if (e == VM_OK && locked)
		e = as_fault(sp->sp_as, sp->sp_base, len, F_SOFTLOCK,
		    (prot & PROT_W) != 0 ? S_WRITE : S_READ);
	if (e != VM_OK) {
		spt_rele(sp);
		return e;
	}
	*spp = sp;
	return VM_OK;
}

static bool drop_reference(struct spt *sp)
{
	return __atomic_sub_fetch((uint32_t *)(void *)&sp->sp_refcnt, 1, __ATOMIC_ACQ_REL) == 0;
}

void spt_rele(struct spt *sp)
{
	struct vm *vm = sp->sp_vm;

	if (!drop_reference(sp))
		return;
	if (sp->sp_as != NULL)
		as_free(sp->sp_as);
	kmem_free(vm, sp, sizeof(*sp));
}

uint64_t spt_align(struct vm *vm)
{
	struct as *as;
	uint64_t n;

	if (as_alloc(vm, vm_page_round(vm->vm_caps->mc_user_min),
		vm_page_trunc(vm->vm_caps->mc_user_max), &as) != VM_OK)
		return 0;
	n = hat_share_unit(as->a_hat);
	as_free(as);
	return n;
}

/* ---- the segment ---- */
static enum vm_err attach_shared(struct seg *seg, struct spt *sp)
{
	enum vm_err e =
	    hat_share(seg->s_as->a_hat, seg_base(seg), sp->sp_as->a_hat, sp->sp_base, sp->sp_len);

	if (e != VM_OK)
		return e;
	sp->sp_refcnt++;
	seg->s_ops = &segspt_ops;
	seg->s_data = sp;
	return VM_OK;
}

static enum vm_err segspt_dup(struct seg *seg, struct seg *nseg)
{
	enum vm_err e = attach_shared(nseg, spt_of(seg));

	nseg->s_flags = seg->s_flags;
	return e;
}

static enum vm_err segspt_unmap(struct seg *seg)
{
	struct spt *sp = spt_of(seg);

	hat_unshare(seg->s_as->a_hat, seg_base(seg), sp->sp_len);
	if (drop_reference(sp)) {
		as_free_later(sp->sp_as);
		kmem_free(sp->sp_vm, sp, sizeof(*sp));
	}
	return VM_OK;
}

static enum vm_err segspt_split(struct seg *seg, struct seg *nseg, vaddr_t addr)
{
	return VM_NOTSUP;
}
static bool segspt_concat(struct seg *seg, struct seg *nseg) { return false; }

static enum vm_err segspt_fault(
    struct seg *seg, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	struct seg *s = spt_of(seg)->sp_seg;

	return s->s_ops->so_fault(s, shared_address(seg, addr), len, type, rw);
}

static enum vm_err segspt_setprot(struct seg *seg, vaddr_t addr, uint64_t len, unsigned prot)
{
	return prot == spt_of(seg)->sp_prot ? VM_OK : VM_NOTSUP;
}

static enum vm_err segspt_checkprot(struct seg *seg, vaddr_t a, uint64_t l, unsigned prot)
{
	return (prot & ~spt_of(seg)->sp_prot) == 0 ? VM_OK : VM_PROT;
}

static unsigned segspt_getprot(struct seg *seg, vaddr_t a) { return spt_of(seg)->sp_prot; }

static void segspt_incore(struct seg *seg, vaddr_t addr, uint64_t len, uint8_t *vec)
{
	struct seg *s = spt_of(seg)->sp_seg;

	s->s_ops->so_incore(s, shared_address(seg, addr), len, vec);
}

static enum vm_err segspt_advise(struct seg *seg, vaddr_t addr, uint64_t len, enum advice a)
{
	struct seg *s = spt_of(seg)->sp_seg;

	switch (a) {
	case ADV_WILLNEED:
	case ADV_COLD:
	case ADV_PAGEOUT:
	case ADV_POPULATE_READ:
	case ADV_POPULATE_WRITE: return s->s_ops->so_advise(s, shared_address(seg, addr), len, a);
	case ADV_REMOVE: return VM_NOTSUP;
	default: return VM_OK; /* one user's advice about all users' memory */
	}
}

static enum vm_err segspt_lockop(struct seg *seg, vaddr_t addr, uint64_t len, enum lock_op op)
{
	return op == SEG_UNLOCK ? VM_OK : VM_NOTSUP;
}

const struct seg_ops segspt_ops = {
	.so_name = "segspt",
	.so_dup = segspt_dup,
	.so_unmap = segspt_unmap,
	.so_split = segspt_split,
	.so_concat = segspt_concat,
	.so_fault = segspt_fault,
	.so_setprot = segspt_setprot,
	.so_checkprot = segspt_checkprot,
	.so_getprot = segspt_getprot,
	.so_shared = seg_is_shared,
	.so_file = seg_no_file,
	.so_swapout = seg_noop_swapout,
	.so_sync = seg_noop_sync,
	.so_incore = segspt_incore,
	.so_lockop = segspt_lockop,
	.so_advise = segspt_advise,
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
	.so_check = seg_noop_check,
};

enum vm_err segspt_create(struct seg *seg, const void *args)
{
	struct spt *sp = ((const struct segspt_args *)args)->pa_spt;

	return seg_size(seg) == sp->sp_len ? attach_shared(seg, sp) : VM_INVAL;
}
