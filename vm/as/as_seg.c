/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: their segments. The index, places, splitting and merging.
 *
 * The core splits segments at the borders of a request, so that drivers see whole segments where their state changes, and merges alike
 * neighbours afterwards.
 *
 * Locks: a_lock, as reader to look, as writer to change.
 */
#include "vm/as/as_priv.h"

struct seg *as_seg_ge(struct as *as, vaddr_t va)
{
	struct seg **hint =
	    (struct seg **)(void *)&as->a_last[mach_cpu_id() % AS_HINTS * AS_HINTSTEP];
	struct seg *s = __atomic_load_n(hint, __ATOMIC_RELAXED);

	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	if (s != NULL && va >= seg_base(s) && va < seg_end(s))
		return s;
	s = seg_of(range_find_ge(&as->a_index, va));
	if (s != NULL)
		__atomic_store_n(hint, s, __ATOMIC_RELAXED);
	return s;
}

void as_hints_drop(struct as *as)
{
	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	for (unsigned i = 0; i < AS_HINTS; i++)
		__atomic_store_n(
		    (struct seg **)(void *)&as->a_last[i * AS_HINTSTEP], NULL, __ATOMIC_RELAXED);
}

struct seg *as_segat(struct as *as, vaddr_t va)
{
	struct seg *s = as_seg_ge(as, va);

	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	return s != NULL && seg_base(s) <= va ? s : NULL;
}

struct seg *seg_next(struct seg *s)
{
	VM_ASSERT(mach_rw_held(&s->s_as->a_lock, false));
	return seg_of(range_next(&s->s_as->a_index, &s->s_node));
}

bool as_range(struct as *as, vaddr_t *addr, uint64_t *len)
{
	vaddr_t base = vm_page_trunc(*addr), end = *addr + *len;

	if (*len == 0 || end < *addr || end > ~(uint64_t)0 - VM_PAGESIZE)
		return false;
	end = vm_page_round(end);
	*addr = base;
	*len = end - base;
	return base >= as->a_min && end <= as->a_max;
}

bool as_mapped(struct as *as, vaddr_t addr, uint64_t len)
{
	vaddr_t end = addr + len;

	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	for (struct seg *s = as_segat(as, addr); s != NULL; s = seg_next(s)) {
		if (seg_base(s) > addr)
			return false;
		addr = seg_end(s);
		if (addr >= end)
			return true;
	}
	return false;
}

/* Rights and flags: neighbours that differ in them never merge, and the index tells so without reading them. */
uint8_t seg_kind(const struct seg *s)
{
	return (uint8_t)(s->s_ops->so_getprot((struct seg *)(uintptr_t)s, seg_base(s)) ^
	    s->s_flags << 3 ^ s->s_flags >> 5);
}

void seg_rekind(struct seg *s)
{
	VM_ASSERT(mach_rw_held(&s->s_as->a_lock, true));
	range_rekind(&s->s_as->a_index, &s->s_node, seg_kind(s));
}

void seg_attach_at(struct as *as, struct seg *s, struct range_path *at)
{
	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	s->s_as = as;
	if (at != NULL)
		range_insert_at(&as->a_index, at, &s->s_node);
	else
		range_insert(&as->a_index, &s->s_node);
	as->a_nsegs++;
	if ((s->s_flags & S_HOLE) == 0)
		as->a_size += seg_size(s);
}

void seg_attach(struct as *as, struct seg *s)
{
	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	s->s_node.r_kind = seg_kind(s);
	seg_attach_at(as, s, NULL);
}

void seg_detach(struct seg *s)
{
	struct as *as = s->s_as;

	VM_ASSERT(mach_rw_held(&s->s_as->a_lock, true));
	range_remove(&as->a_index, &s->s_node);
	as_hints_drop(as);
	as->a_nsegs--;
	if ((s->s_flags & S_HOLE) == 0)
		as->a_size -= seg_size(s);
}

struct seg *seg_alloc(struct as *as, vaddr_t base, vaddr_t end)
{
	struct seg *s;

	if (!range_reserve(&as->a_index, as->a_vm))
		return NULL;
	if ((s = kmem_cache_alloc(as->a_vm->vm_segs, KM_SLEEP)) == NULL) {
		range_unreserve(&as->a_index, as->a_vm);
		return NULL;
	}
	memset(s, 0, sizeof *s);
	s->s_as = as;
	s->s_node.r_base = base;
	s->s_node.r_end = end;
	return s;
}

void seg_free(struct seg *s)
{
	range_unreserve(&s->s_as->a_index, s->s_as->a_vm);
	kmem_cache_free(s->s_as->a_vm->vm_segs, s);
}

enum vm_err seg_make(struct as *as, vaddr_t base, vaddr_t end, seg_create_fn *create,
    const void *args, struct seg **sp)
{
	enum vm_err e;

	if ((*sp = seg_alloc(as, base, end)) == NULL)
		return VM_NOMEM;
	if ((e = create(*sp, args)) == VM_OK) {
		unsigned prot = (*sp)->s_ops->so_getprot(*sp, base);

		if (as_secure_prot(as, NULL, prot)) {
			as_secure_note(as, *sp, prot);
			(*sp)->s_node.r_kind = seg_kind(*sp);
			return VM_OK;
		}
		(void)(*sp)->s_ops->so_unmap(*sp);
		e = VM_ACCESS;
	}
	seg_free(*sp);
	*sp = NULL;
	return e;
}

void seg_unmap(struct seg *s)
{
	enum vm_err e = s->s_ops->so_unmap(s);

	VM_ASSERT(mach_rw_held(&s->s_as->a_lock, true));
	VM_ASSERT(e == VM_OK);
	(void)e;
	seg_detach(s);
	seg_free(s);
}

enum vm_err as_split(struct as *as, vaddr_t va)
{
	struct seg *s = as_segat(as, va), *n;
	enum vm_err e;

	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	if (s == NULL || seg_base(s) == va)
		return VM_OK;
	if ((n = seg_alloc(as, va, seg_end(s))) == NULL)
		return VM_NOMEM;
	if ((e = s->s_ops->so_split(s, n, va)) != VM_OK) {
		seg_free(n);
		return e;
	}
	range_resize(&as->a_index, &s->s_node, seg_base(s), va);
	n->s_node.r_kind = s->s_node.r_kind;
	range_insert(&as->a_index, &n->s_node);
	as->a_nsegs++;
	VM_STAT(as->a_vm, seg_split);
	return VM_OK;
}

bool seg_merge_two(struct as *as, struct seg *s, struct seg *n)
{
	vaddr_t top = seg_end(n);

	if (seg_end(s) != seg_base(n) || s->s_ops != n->s_ops || s->s_flags != n->s_flags ||
	    !s->s_ops->so_concat(s, n))
		return false;
	range_remove(&as->a_index, &n->s_node);
	range_resize(&as->a_index, &s->s_node, seg_base(s), top);
	as_hints_drop(as);
	as->a_nsegs--;
	seg_free(n);
	VM_STAT(as->a_vm, seg_merge);
	return true;
}

void as_merge(struct as *as, vaddr_t va, vaddr_t end)
{
	struct seg *s = as_seg_ge(as, va > as->a_min ? va - 1 : va), *n;

	VM_ASSERT(mach_rw_held(&as->a_lock, true));
	if (s != NULL)
		seg_rekind(s);
	while (s != NULL && seg_base(s) < end && (n = seg_next(s)) != NULL && seg_base(n) <= end) {
		seg_rekind(n);
		if (!seg_merge_two(as, s, n))
			s = n;
	}
}

bool as_range_free(struct as *as, vaddr_t addr, uint64_t len)
{
	struct seg *s = as_seg_ge(as, addr);

	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	return s == NULL || seg_base(s) >= addr + len;
}

bool as_sealed(struct as *as, vaddr_t addr, uint64_t len)
{
	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	for (struct seg *s = as_seg_ge(as, addr); s != NULL && seg_base(s) < addr + len;
	     s = seg_next(s)) {
		if ((s->s_flags & S_SEALED) != 0)
			return true;
		if (seg_end(s) >= addr + len)
			break;
	}
	return false;
}

/* The redzone below the stack is no hole: a search goes on either side of it. */
enum vm_err as_gap_locked(
    struct as *as, uint64_t len, uint64_t align, vaddr_t min, vaddr_t max, bool high, vaddr_t *addr)
{
	vaddr_t lo = as->a_stackbase - as->a_stackguard, hi = as->a_stackbase;
	const struct range_index *ix = &as->a_index;

	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	if (align < VM_PAGESIZE)
		align = VM_PAGESIZE;
	if (min < as->a_min)
		min = as->a_min;
	if (max > as->a_max)
		max = as->a_max;
	if (len == 0 || len > as->a_max - as->a_min)
		return VM_NOMEM;
	len = vm_page_round(len);
	if (as->a_stacktop == 0 || max <= lo || min >= hi)
		return range_gap(ix, len, align, min, max, high, addr) ? VM_OK : VM_NOMEM;
	if (high ? range_gap(ix, len, align, hi, max, high, addr) ||
		    range_gap(ix, len, align, min, lo, high, addr)
		 : range_gap(ix, len, align, min, lo, high, addr) ||
		    range_gap(ix, len, align, hi, max, high, addr))
		return VM_OK;
	return VM_NOMEM;
}
