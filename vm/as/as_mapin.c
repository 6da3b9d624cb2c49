/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: segments are made, continued and taken away, by callers that hold a_lock as writer.
 *
 * The public functions that take the lock are in as.c and as_map.c.
 */
#include "vm/as/as_priv.h"

enum vm_err seg_make_alike(
    struct as *as, struct seg *from, int64_t off, vaddr_t base, vaddr_t end, struct seg **sp)
{
	enum vm_err e;

	if ((*sp = seg_alloc(as, base, end)) == NULL)
		return VM_NOMEM;
	if ((e = from->s_ops->so_alike(from, *sp, off)) != VM_OK) {
		seg_free(*sp);
		*sp = NULL;
	}
	return e;
}

enum vm_err seg_attach_alike(
    struct as *as, struct seg *from, int64_t off, vaddr_t base, vaddr_t end, bool wire)
{
	struct seg *s;
	enum vm_err e;

	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	if ((from->s_flags & S_HOLE) == 0 && as->a_maxsize - as->a_size < end - base)
		return VM_LIMIT;
	if ((e = seg_make_alike(as, from, off, base, end, &s)) != VM_OK)
		return e;
	seg_attach(as, s);
	if ((wire || as->a_lockfuture) && (e = as_wire_range(as, base, end - base, true)) != VM_OK)
		seg_unmap(s);
	return e;
}

/* In a large space the segments that merging compares are not in the cache: fetch them while other
 * work is done. */
static void will_merge(const struct range_node *n)
{
	if (n != NULL)
		__builtin_prefetch(n);
}

enum vm_err as_map_locked(
    struct as *as, vaddr_t addr, uint64_t len, seg_create_fn *create, const void *args)
{
	struct range_node *below, *above;
	struct range_path at;
	struct seg *s;
	enum vm_err e;

	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	if (!range_place(&as->a_index, addr, addr + len, &at))
		return VM_EXIST;
	if (as->a_maxsize - as->a_size < len && create != seghole_create)
		return VM_LIMIT;
	if ((e = seg_make(as, addr, addr + len, create, args, &s)) != VM_OK)
		return e;
	range_touching(&as->a_index, &at, &s->s_node, &below, &above);
	will_merge(below);
	will_merge(above);
	seg_attach_at(as, s, &at);
	if (as->a_lockfuture && (e = as_wire_range(as, addr, len, true)) != VM_OK) {
		seg_unmap(as_segat(as, addr));
		return e;
	}
	if (above != NULL)
		(void)seg_merge_two(as, s, seg_of(above));
	if (below != NULL)
		(void)seg_merge_two(as, seg_of(below), s);
	return VM_OK;
}

enum vm_err as_unmap_locked(struct as *as, vaddr_t addr, uint64_t len)
{
	vaddr_t va = addr, end = addr + len;
	struct seg *s;
	enum vm_err e;

	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	if ((s = as_seg_ge(as, addr)) == NULL || seg_base(s) >= end)
		return VM_OK;
	if (as_sealed(as, addr, len))
		return VM_ACCESS;
	if (aslock_next(as, &va, end, LOCK_SOFT))
		return VM_LOCKED;
	if (seg_base(s) == addr && seg_end(s) == end) {
		seg_unmap(s);
		return VM_OK;
	}
	if ((e = as_split(as, addr)) == VM_OK)
		e = as_split(as, end);
	if (e != VM_OK) {
		as_merge(as, addr, end);
		return e;
	}
	while ((s = as_seg_ge(as, addr)) != NULL && seg_base(s) < end)
		seg_unmap(s);
	return VM_OK;
}

enum vm_err as_extend_locked(struct as *as, struct seg *from, vaddr_t addr, uint64_t len, bool wire)
{
	enum vm_err e =
	    seg_attach_alike(as, from, (int64_t)(addr - seg_base(from)), addr, addr + len, wire);

	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	if (e == VM_OK)
		as_merge(as, addr, addr + len);
	return e;
}
