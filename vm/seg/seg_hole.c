/* SPDX-License-Identifier: BSD-2-Clause */
/* seg_hole: reserved addresses. Every access faults with VM_NOMAP; nothing is counted. */
#include "vm/impl.h"

static enum vm_err hole_dup(struct seg *seg, struct seg *nseg)
{
	nseg->s_ops = seg->s_ops;
	nseg->s_flags = seg->s_flags;
	return VM_OK;
}
static enum vm_err hole_unmap(struct seg *seg) { return VM_OK; }
static enum vm_err hole_split(struct seg *seg, struct seg *nseg, vaddr_t addr)
{
	return hole_dup(seg, nseg);
}
static bool hole_concat(struct seg *seg, struct seg *nseg) { return true; }
static enum vm_err hole_checkprot(struct seg *seg, vaddr_t a, uint64_t l, unsigned p)
{
	return p == 0 ? VM_OK : VM_PROT;
}
static unsigned hole_getprot(struct seg *seg, vaddr_t a) { return 0; }
static enum vm_err hole_inherit(struct seg *seg, enum inherit i) { return VM_OK; }

static enum vm_err hole_alike(struct seg *seg, struct seg *nseg, int64_t off)
{
	return hole_dup(seg, nseg);
}
static enum vm_err hole_move(struct seg *s, vaddr_t a, uint64_t l, struct seg *n, vaddr_t to)
{
	return VM_OK;
}

const struct seg_ops seghole_ops = {
	.so_name = "hole",
	.so_dup = hole_dup,
	.so_unmap = hole_unmap,
	.so_split = hole_split,
	.so_concat = hole_concat,
	.so_fault = seg_nosup_fault,
	.so_setprot = seg_nosup_prot,
	.so_checkprot = hole_checkprot,
	.so_getprot = hole_getprot,
	.so_shared = seg_is_private,
	.so_file = seg_no_file,
	.so_swapout = seg_noop_swapout,
	.so_sync = seg_noop_sync,
	.so_incore = seg_noop_incore,
	.so_lockop = seg_nosup_lockop,
	.so_advise = seg_noop_advise,
	.so_inherit = hole_inherit,
	.so_adopt = seg_nosup_adopt,
	.so_move = hole_move,
	.so_alike = hole_alike,
	.so_snapshot = seg_nosup_snapshot,
	.so_reserved = seg_noop_reserved,
	.so_populated = seg_unfilled_populated,
	.so_peek = seg_retry_peek,
	.so_poke = seg_retry_poke,
	.so_translation_ok = seg_any_translation_ok,
	.so_check = seg_noop_check,
};

enum vm_err seghole_create(struct seg *seg, const void *args)
{
	seg->s_ops = &seghole_ops;
	seg->s_flags |= S_HOLE;
	return VM_OK;
}
