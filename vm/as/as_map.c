/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: placing, moving, remapping, sealing.
 *
 * Everything here happens under a_lock as writer from the choice of the place to the end, so no
 * other thread maps in between. Steps that can fail come first (splits, reservations, the new
 * segment), then those that cannot: a request that is refused leaves the space as it was, except
 * where as.h says otherwise.
 *
 * Moving drops translations and changes the range of a segment; contents stay in the driver's maps, so a move costs what the
 * segment has in tables, not in bytes. Memory locks move along within a space (vm/as/as_lock.c);
 * soft locks forbid a move, because their owner knows the page by its address.
 *
 * Left out: moving through a hole in the source (Linux refuses it, too, when it grows).
 */
#include "vm/as/as_priv.h"

/* ---- placing ---- */
static uint64_t mapped_bytes(struct as *as, vaddr_t addr, uint64_t len)
{
	uint64_t n = 0;

	for (struct seg *s = as_seg_ge(as, addr); s != NULL && seg_base(s) < addr + len;
	     s = seg_next(s))
		if ((s->s_flags & S_HOLE) == 0)
			n += seg_size(s);
	return n;
}

/* The caller has split at the borders. The new segment is complete before the old ones are
 * removed. */
static enum vm_err replace_range(
    struct as *as, vaddr_t addr, uint64_t len, seg_create_fn *create, const void *args)
{
	struct seg *s;
	enum vm_err e;

	if (as->a_maxsize - as->a_size + mapped_bytes(as, addr, len) < len &&
	    create != seghole_create)
		return VM_LIMIT;
	if ((e = seg_make(as, addr, addr + len, create, args, &s)) != VM_OK)
		return e;
	e = as_unmap_locked(as, addr, len);
	VM_ASSERT(e == VM_OK);
	seg_attach(as, s);
	if (as->a_lockfuture && (e = as_wire_range(as, addr, len, true)) != VM_OK)
		seg_unmap(s);
	return e;
}

static enum vm_err map_fixed(
    struct as *as, vaddr_t addr, uint64_t len, seg_create_fn *create, const void *args)
{
	vaddr_t va = addr;
	enum vm_err e;

	if (as_range_free(as, addr, len))
		return as_map_locked(as, addr, len, create, args);
	if (as_sealed(as, addr, len))
		return VM_ACCESS;
	if (aslock_next(as, &va, addr + len, LOCK_SOFT))
		return VM_LOCKED;
	if ((e = as_split(as, addr)) == VM_OK && (e = as_split(as, addr + len)) == VM_OK)
		e = replace_range(as, addr, len, create, args);
	as_merge(as, addr, addr + len);
	return e;
}

/* The hint if it is free, otherwise a hole. */
static enum vm_err choose_range(
    struct as *as, vaddr_t *addr, uint64_t len, uint64_t align, unsigned flags)
{
	vaddr_t hint = vm_page_trunc(*addr),
		max = (flags & AS_32BIT) != 0 ? (vaddr_t)1 << 32 : as->a_max;
	uint64_t n = len;

	if (hint != 0 && as_range(as, &hint, &n) && hint + n <= max &&
	    (align == 0 || (hint & (align - 1)) == 0) &&
	    as_gap_locked(as, n, VM_PAGESIZE, hint, hint + n, false, addr) == VM_OK)
		return VM_OK;
	if (as->a_random != 0)
		return as_random_gap(as, len, align, max, addr);
	return as_gap_locked(as, len, align, as->a_min, max, (flags & AS_HIGH) != 0, addr);
}

enum vm_err as_map_at(struct as *as, vaddr_t *addr, uint64_t len, uint64_t align, unsigned flags,
    seg_create_fn *create, const void *args)
{
	bool exact = (flags & (AS_FIXED | AS_NOREPLACE)) != 0;
	uint64_t n = len;
	enum vm_err e = VM_OK;

	if (len == 0 || (align & (align - 1)) != 0 || (exact && (*addr & VM_PAGEMASK) != 0))
		return VM_INVAL;
	if (exact && !as_range(as, addr, &n))
		return VM_NOMEM;
	do {
		mach_rw_enter(&as->a_lock, true);
		e = VM_OK;
		if (!exact && (e = choose_range(as, addr, len, align, flags)) == VM_OK)
			n = vm_page_round(len);
		if (e == VM_OK)
			e = (flags & AS_NOREPLACE) == 0 && exact
			    ? map_fixed(as, *addr, n, create, args)
			    : as_map_locked(as, *addr, n, create, args);
		mach_rw_exit(&as->a_lock);
	} while (e == VM_LOCKED && exact && as_callbacks_free(as, *addr, n, AS_CB_UNMAP));
	if (e == VM_OK && (flags & AS_POPULATE) != 0 &&
	    as_fault(as, *addr, n, F_INVAL, S_WRITE) == VM_PROT)
		(void)as_fault(as, *addr, n, F_INVAL, S_READ);
	return e;
}

/* ---- moving ---- */
static enum vm_err move_check(
    struct as *src, vaddr_t addr, uint64_t len, struct as *dst, vaddr_t daddr)
{
	vaddr_t va = addr;

	if (src->a_vm != dst->a_vm)
		return VM_NOTSUP;
	if (!as_mapped(src, addr, len))
		return VM_NOMAP;
	if (as_sealed(src, addr, len))
		return VM_ACCESS;
	if (!as_range_free(dst, daddr, len))
		return VM_EXIST;
	if (src != dst && dst->a_maxsize - dst->a_size < len)
		return VM_LIMIT;
	if (aslock_next(src, &va, addr + len, src == dst ? LOCK_SOFT : LOCK_SOFT | LOCK_WIRED))
		return VM_LOCKED;
	for (struct seg *s = as_segat(src, addr); s != NULL && seg_base(s) < addr + len;
	     s = seg_next(s))
		if (s->s_ops->so_move(s, seg_base(s), 0, s, daddr) != VM_OK)
			return VM_NOTSUP;
		else if (src != dst &&
		    !as_secure_prot(dst, NULL, s->s_ops->so_getprot(s, seg_base(s))))
			return VM_ACCESS;
	for (va = addr; aslock_next(src, &va, addr + len, LOCK_WIRED); va += VM_PAGESIZE)
		if (!aslock_prepare(src, daddr + (va - addr)))
			return VM_NOMEM;
	return VM_OK;
}

static void move_seg(struct seg *s, struct as *dst, vaddr_t to)
{
	struct as *src = s->s_as;
	uint64_t n = seg_size(s), r = s->s_ops->so_reserved(s);

	(void)s->s_ops->so_move(s, seg_base(s), n, s, to);
	seg_detach(s);
	if (src != dst) {
		range_unreserve(&src->a_index, src->a_vm);
		as_forget_resv(src, r);
		as_adopt_resv(dst, r);
	}
	s->s_node.r_base = to;
	s->s_node.r_end = to + n;
	as_secure_note(dst, s, s->s_ops->so_getprot(s, to));
	seg_attach(dst, s);
}

/* Reserves room in another space's index for the segments of a range. */
static enum vm_err promise_all(struct as *src, vaddr_t addr, uint64_t len, struct as *dst)
{
	uint64_t n = 0;

	for (struct seg *s = as_segat(src, addr); s != NULL && seg_base(s) < addr + len;
	     s = seg_next(s), n++)
		if (!range_reserve(&dst->a_index, dst->a_vm)) {
			for (; n > 0; n--)
				range_unreserve(&dst->a_index, dst->a_vm);
			return VM_NOMEM;
		}
	return VM_OK;
}

/* Checked, split at the borders: from here on nothing fails. */
static enum vm_err move_prepare(
    struct as *src, vaddr_t addr, uint64_t len, struct as *dst, vaddr_t daddr)
{
	enum vm_err e = move_check(src, addr, len, dst, daddr);

	if (e != VM_OK)
		return e;
	if ((e = as_split(src, addr)) == VM_OK && (e = as_split(src, addr + len)) == VM_OK &&
	    src != dst)
		e = promise_all(src, addr, len, dst);
	if (e != VM_OK)
		as_merge(src, addr, addr + len);
	return e;
}

static void move_commit(struct as *src, vaddr_t addr, uint64_t len, struct as *dst, vaddr_t daddr)
{
	struct seg *s;

	while ((s = as_seg_ge(src, addr)) != NULL && seg_base(s) < addr + len)
		move_seg(s, dst, daddr + (seg_base(s) - addr));
	for (vaddr_t va = addr; src == dst && aslock_next(src, &va, addr + len, LOCK_WIRED);
	     va += VM_PAGESIZE)
		aslock_move(src, va, daddr + (va - addr));
}

void as_lock_two(struct as *a, struct as *b)
{
	for (;;) {
		mach_rw_enter(&a->a_lock, true);
		if (a == b || mach_rw_tryenter(&b->a_lock, true))
			return;
		mach_rw_exit(&a->a_lock);
		mach_yield();
	}
}

void as_unlock_two(struct as *a, struct as *b)
{
	if (a != b)
		mach_rw_exit(&b->a_lock);
	mach_rw_exit(&a->a_lock);
}

enum vm_err as_move_locked(
    struct as *src, vaddr_t addr, uint64_t len, struct as *dst, vaddr_t daddr)
{
	enum vm_err e = move_prepare(src, addr, len, dst, daddr);

	VM_ASSERT(mach_rw_held(&src->a_lock, true) && mach_rw_held(&dst->a_lock, true));
	if (e == VM_OK) {
		move_commit(src, addr, len, dst, daddr);
		as_merge(dst, daddr, daddr + len);
	}
	return e;
}

enum vm_err as_move(struct as *src, vaddr_t addr, uint64_t len, struct as *dst, vaddr_t daddr)
{
	uint64_t dlen;
	enum vm_err e;

	if ((daddr & VM_PAGEMASK) != 0)
		return VM_INVAL;
	if (!as_range(src, &addr, &len))
		return VM_NOMAP;
	dlen = len;
	if (!as_range(dst, &daddr, &dlen))
		return VM_NOMEM;
	as_lock_two(src, dst);
	e = as_move_locked(src, addr, len, dst, daddr);
	as_unlock_two(src, dst);
	return e;
}

/* ---- mremap ---- */
struct remap {
	struct as *m_as;
	vaddr_t m_addr, m_to;
	uint64_t m_old, m_new;
	unsigned m_flags;
};

static enum vm_err remap_check(struct remap *m)
{
	struct as *as = m->m_as;
	vaddr_t va = m->m_addr;
	struct seg *s = as_segat(as, va);

	if (!as_mapped(as, m->m_addr, m->m_old))
		return VM_NOMAP;
	if ((m->m_flags & REMAP_DONTUNMAP) != 0 && seg_end(s) < m->m_addr + m->m_old)
		return VM_NOMAP;
	if (as_sealed(as, m->m_addr, m->m_old))
		return VM_ACCESS;
	return aslock_next(as, &va, m->m_addr + m->m_old, LOCK_SOFT) ? VM_LOCKED : VM_OK;
}

static bool ends_wired(const struct remap *m)
{
	return (aslock_get(m->m_as, m->m_addr + m->m_old - VM_PAGESIZE) & LOCK_WIRED) != 0;
}

/* What growth continues. */
static struct seg *last_seg(const struct remap *m)
{
	return as_segat(m->m_as, m->m_addr + m->m_old - VM_PAGESIZE);
}

/* VM_RETRY: not here. */
static enum vm_err grow_in_place(struct remap *m)
{
	struct as *as = m->m_as;
	vaddr_t end = m->m_addr + m->m_old;
	uint64_t more = m->m_new - m->m_old;
	struct seg *s = last_seg(m);

	if (seg_end(s) != end || more > as->a_max - end || !as_range_free(as, end, more))
		return VM_RETRY;
	return as_extend_locked(as, s, end, more, ends_wired(m));
}

static enum vm_err remap_target(struct remap *m)
{
	struct as *as = m->m_as;
	uint64_t n = m->m_new;

	if ((m->m_flags & REMAP_FIXED) == 0)
		return as->a_random != 0
		    ? as_random_gap(as, m->m_new, VM_PAGESIZE, as->a_max, &m->m_to)
		    : as_gap_locked(
			  as, m->m_new, VM_PAGESIZE, as->a_min, as->a_max, true, &m->m_to);
	if (!as_range(as, &m->m_to, &n) ||
	    (m->m_to < m->m_addr + m->m_old && m->m_addr < m->m_to + n))
		return VM_INVAL;
	return as_unmap_locked(as, m->m_to, m->m_new);
}

/* Makes the segment that stays at the old place, not in the index yet; its reservation is made. */
static enum vm_err make_husk(struct remap *m, struct seg **husk)
{
	struct seg *s = as_segat(m->m_as, m->m_addr);

	if (m->m_as->a_maxsize - m->m_as->a_size < m->m_old)
		return VM_LIMIT;
	return seg_make_alike(
	    m->m_as, s, (int64_t)(m->m_addr - seg_base(s)), m->m_addr, m->m_addr + m->m_old, husk);
}

static enum vm_err remap_move(struct remap *m)
{
	struct as *as = m->m_as;
	struct seg *s = last_seg(m), *husk = NULL;
	vaddr_t tail = m->m_to + m->m_old;
	int64_t off = (int64_t)(m->m_addr + m->m_old - seg_base(s));
	enum vm_err e = VM_OK;

	if (m->m_new > m->m_old &&
	    (e = seg_attach_alike(as, s, off, tail, m->m_to + m->m_new, ends_wired(m))) != VM_OK)
		return e;
	e = move_prepare(as, m->m_addr, m->m_old, as, m->m_to);
	if (e == VM_OK && (m->m_flags & REMAP_DONTUNMAP) != 0 && (e = make_husk(m, &husk)) != VM_OK)
		as_merge(as, m->m_addr, m->m_addr + m->m_old);
	if (e != VM_OK) {
		if (m->m_new > m->m_old)
			seg_unmap(as_segat(as, tail));
		return e;
	}
	move_commit(as, m->m_addr, m->m_old, as, m->m_to);
	if (husk != NULL)
		seg_attach(as, husk);
	as_merge(as, m->m_addr, m->m_addr + m->m_old);
	as_merge(as, m->m_to, m->m_to + m->m_new);
	return VM_OK;
}

static enum vm_err remap_locked(struct remap *m)
{
	enum vm_err e = remap_check(m);

	VM_ASSERT(mach_rw_held(&m->m_as->a_lock, true));
	if (e != VM_OK)
		return e;
	if ((m->m_flags & REMAP_FIXED) != 0 && (e = remap_target(m)) != VM_OK)
		return e;
	if (m->m_new < m->m_old) {
		if ((e = as_unmap_locked(m->m_as, m->m_addr + m->m_new, m->m_old - m->m_new)) !=
		    VM_OK)
			return e;
		m->m_old = m->m_new;
	}
	if ((m->m_flags & (REMAP_FIXED | REMAP_DONTUNMAP)) == 0) {
		m->m_to = m->m_addr;
		if (m->m_new == m->m_old || (e = grow_in_place(m)) != VM_RETRY)
			return e;
		if ((m->m_flags & REMAP_MAYMOVE) == 0)
			return VM_NOMEM;
	}
	if ((m->m_flags & REMAP_FIXED) == 0 && (e = remap_target(m)) != VM_OK)
		return e;
	return remap_move(m);
}

enum vm_err as_remap(
    struct as *as, vaddr_t addr, uint64_t oldlen, uint64_t newlen, unsigned flags, vaddr_t *naddr)
{
	struct remap m = {
		.m_as = as, .m_addr = addr, .m_to = *naddr, .m_old = oldlen, .m_flags = flags
	};
	enum vm_err e;

	if ((addr & VM_PAGEMASK) != 0 || newlen == 0 || newlen > as->a_max - as->a_min ||
	    ((flags & REMAP_FIXED) != 0 && (*naddr & VM_PAGEMASK) != 0) ||
	    ((flags & (REMAP_FIXED | REMAP_DONTUNMAP)) != 0 && (flags & REMAP_MAYMOVE) == 0))
		return VM_INVAL;
	if (!as_range(as, &m.m_addr, &m.m_old))
		return oldlen == 0 ? VM_INVAL : VM_NOMAP;
	m.m_new = vm_page_round(newlen);
	if ((flags & REMAP_DONTUNMAP) != 0 && m.m_new != m.m_old)
		return VM_INVAL;
	mach_rw_enter(&as->a_lock, true);
	if ((e = remap_locked(&m)) == VM_OK)
		*naddr = m.m_to;
	mach_rw_exit(&as->a_lock);
	return e;
}

/* ---- sealing ---- */
enum vm_err as_seal(struct as *as, vaddr_t addr, uint64_t len)
{
	enum vm_err e = VM_NOMAP;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, true);
	if (as_mapped(as, addr, len) && (e = as_split(as, addr)) == VM_OK &&
	    (e = as_split(as, addr + len)) == VM_OK)
		for (struct seg *s = as_segat(as, addr); s != NULL && seg_base(s) < addr + len;
		     s = seg_next(s))
			s->s_flags |= S_SEALED;
	as_merge(as, addr, addr + len);
	mach_rw_exit(&as->a_lock);
	return e;
}
