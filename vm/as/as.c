/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: a range index of segments, a HAT, a lock.
 *
 * The space knows ranges only; what is in them is the drivers' business. The core splits segments at the borders of a
 * request, so that drivers see whole segments where their state changes, and merges alike neighbours afterwards.
 *
 * Locks: a_lock as reader for everything that leaves the set of segments and their protections alone (faults, wiring,
 * sync); as writer for the rest. Readers sleep for memory and I/O with it. Two spaces at once (as_dup, as_move): the second
 * is only tried for. vm_mutex guards the list of spaces and is never taken with a_lock held.
 *
 * Invariants (as_check): segments are sorted and disjoint, within [a_min, a_max); a_size and a_nsegs are their sums;
 * each translation lies in a segment and grants no more than it.
 */
#include "vm/impl.h"

static struct seg *seg_of(struct range_node *n) { return (struct seg *)(void *)n; }

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

struct hat *as_hat(struct as *as) { return as->a_hat; }

struct vm *as_vm(struct as *as) { return as->a_vm; }

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

/* ---- life ---- */
static void as_list_add(struct as *as)
{
	struct vm *vm = as->a_vm;

	mach_mutex_enter(&vm->vm_mutex);
	as->a_next = vm->vm_aslist;
	if (as->a_next != NULL)
		as->a_next->a_prev = as;
	vm->vm_aslist = as;
	mach_mutex_exit(&vm->vm_mutex);
}

static void as_list_remove(struct as *as)
{
	struct vm *vm = as->a_vm;

	mach_mutex_enter(&vm->vm_mutex);
	if (as->a_prev != NULL)
		as->a_prev->a_next = as->a_next;
	else
		vm->vm_aslist = as->a_next;
	if (as->a_next != NULL)
		as->a_next->a_prev = as->a_prev;
	mach_mutex_exit(&vm->vm_mutex);
}

enum vm_err as_alloc(struct vm *vm, vaddr_t min, vaddr_t max, struct as **asp)
{
	struct as *as;
	enum vm_err e;

	*asp = NULL;
	if (min >= max || ((min | max) & VM_PAGEMASK) != 0)
		return VM_INVAL;
	if ((as = kmem_zalloc(vm, sizeof(*as), KM_SLEEP)) == NULL)
		return VM_NOMEM;
	as->a_vm = vm;
	as->a_min = min;
	as->a_max = max;
	as->a_maxsize = as->a_maxlocked = as->a_maxresv = as->a_maxrss = ~(uint64_t)0;
	if ((e = hat_alloc(vm, as,
		 vm->vm_caps->mc_kernel_max != 0 && min >= vm->vm_caps->mc_kernel_min,
		 &as->a_hat)) != VM_OK) {
		kmem_free(vm, as, sizeof(*as));
		return e;
	}
	mach_rw_init(&as->a_lock, RANK_AS, "address space");
	mach_mutex_init(&as->a_lockmtx, RANK_SLOT + 8, "locked pages");
	mach_cv_init(&as->a_cv);
	as_callbacks_init(as);
	as->a_refcnt = 1;
	as_list_add(as);
	VM_STAT(vm, as_create);
	*asp = as;
	return VM_OK;
}

/* Rights and flags: neighbours that differ in them never merge, and the index tells so without reading them. */
static uint8_t seg_kind(const struct seg *s)
{
	return (uint8_t)(s->s_ops->so_getprot((struct seg *)(uintptr_t)s, seg_base(s)) ^
	    s->s_flags << 3 ^ s->s_flags >> 5);
}

void seg_rekind(struct seg *s)
{
	VM_ASSERT(mach_rw_held(&s->s_as->a_lock, true));
	range_rekind(&s->s_as->a_index, &s->s_node, seg_kind(s));
}

/* at: where it goes, as range_place said, or NULL */
static void attach_at(struct as *as, struct seg *s, struct range_path *at)
{
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
	attach_at(as, s, NULL);
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

static void soft_unlock_all(struct as *as)
{
	vaddr_t va = as->a_min;

	while (aslock_next(as, &va, as->a_max, LOCK_SOFT))
		(void)as_fault_locked(as, va, VM_PAGESIZE, F_SOFTUNLOCK, S_READ);
}

void as_hold(struct as *as)
{
	uint32_t old = as->a_refcnt++;

	VM_ASSERT(old > 0);
	(void)old;
}

void as_free_later(struct as *as)
{
	struct vm *vm = as->a_vm;
	struct as *head = __atomic_load_n(&vm->vm_dead, __ATOMIC_RELAXED);

	do
		as->a_deadnext = head;
	while (!__atomic_compare_exchange_n(
	    &vm->vm_dead, &head, as, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

static void free_dead(struct vm *vm)
{
	struct as *as, *next;

	if (__atomic_load_n(&vm->vm_dead, __ATOMIC_RELAXED) == NULL)
		return;
	for (as = __atomic_exchange_n(&vm->vm_dead, NULL, __ATOMIC_ACQUIRE); as != NULL;
	     as = next) {
		next = as->a_deadnext;
		as_free(as);
	}
}

void as_free(struct as *as)
{
	struct vm *vm = as->a_vm;
	uint32_t old = as->a_refcnt--;

	VM_ASSERT(old > 0);
	if (old > 1)
		return;
	as_list_remove(as);
	(void)as_callbacks_free(as, as->a_min, as->a_max - as->a_min, AS_CB_FREE);
	as->a_callbacks = NULL;
	mach_rw_enter(&as->a_lock, true);
	soft_unlock_all(as);
	hat_free_start(as->a_hat);
	for (struct seg *s; (s = as_seg_ge(as, 0)) != NULL;)
		seg_unmap(s);
	hat_free_end(as->a_hat);
	aslock_free(as);
	as_swapset_free(as);
	as_leave_group(as);
	mach_rw_exit(&as->a_lock);
	as_callbacks_fini(as);
	mach_cv_fini(&as->a_cv);
	mach_mutex_fini(&as->a_lockmtx);
	mach_rw_fini(&as->a_lock);
	kmem_free(vm, as, sizeof(*as));
	free_dead(vm);
}

/* ---- splitting and merging: a_lock W ---- */
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

/* n follows s. True: it is gone, s has its range. */
static bool merge_two(struct as *as, struct seg *s, struct seg *n)
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
		if (!merge_two(as, s, n))
			s = n;
	}
}

/* ---- map, unmap ---- */
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

/* What merging looks at is not in the cache in a large space: it is asked for while something else is done. */
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
	attach_at(as, s, &at);
	if (as->a_lockfuture && (e = as_wire_range(as, addr, len, true)) != VM_OK) {
		seg_unmap(as_segat(as, addr));
		return e;
	}
	if (above != NULL)
		(void)merge_two(as, s, seg_of(above));
	if (below != NULL)
		(void)merge_two(as, seg_of(below), s);
	return VM_OK;
}

enum vm_err as_map(
    struct as *as, vaddr_t addr, uint64_t len, seg_create_fn *create, const void *args)
{
	enum vm_err e;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, true);
	e = as_map_locked(as, addr, len, create, args);
	mach_rw_exit(&as->a_lock);
	return e;
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

enum vm_err as_unmap(struct as *as, vaddr_t addr, uint64_t len)
{
	enum vm_err e;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	do {
		mach_rw_enter(&as->a_lock, true);
		e = as_unmap_locked(as, addr, len);
		mach_rw_exit(&as->a_lock);
	} while (e == VM_LOCKED && as_callbacks_free(as, addr, len, AS_CB_UNMAP));
	free_dead(as->a_vm);
	return e;
}

/* ---- faults ---- */
/* What a segment wants of pages that were faulted on. */
static void fault_done(struct seg *s, vaddr_t va, uint64_t len, enum seg_rw rw)
{
	if ((s->s_flags & S_SIZE_MASK) != 0 && rw == S_WRITE)
		as_enlarge(s, va);
	if ((s->s_flags & S_FOLLOW) != 0)
		as_follow(s, va, len);
}

enum vm_err as_fault_locked(
    struct as *as, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	vaddr_t va = addr, end = addr + len;
	enum vm_err e = VM_OK;

	VM_ASSERT(mach_rw_held(&as->a_lock, false));
	while (va < end) {
		struct seg *s = as_segat(as, va);
		uint64_t n;

		if (s == NULL) {
			e = VM_NOMAP;
			break;
		}
		n = (seg_end(s) < end ? seg_end(s) : end) - va;
		e = s->s_ops->so_fault(s, va, n, type, rw);
		if (e != VM_OK)
			break;
		if ((s->s_flags & (S_SIZE_MASK | S_FOLLOW)) != 0 &&
		    (type == F_INVAL || type == F_PROT))
			fault_done(s, va, n, rw);
		va += n;
	}
	if (e != VM_OK && type == F_SOFTLOCK && va > addr)
		(void)as_fault_locked(as, addr, va - addr, F_SOFTUNLOCK, rw);
	return e;
}

enum vm_err as_fault(
    struct as *as, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	struct vm *vm = as->a_vm;
	enum vm_err e = VM_NOMAP;

	if (type == F_PROT)
		VM_STAT(vm, fault_prot);
	else if (type == F_INVAL)
		VM_STAT(vm, fault_inval);
	VM_STAT(vm, fault);
	if (as_range(as, &addr, &len)) {
		for (unsigned tries = 0; tries < 100; tries++) {
			mach_rw_enter(&as->a_lock, false);
			e = as_fault_locked(as, addr, len, type, rw);
			mach_rw_exit(&as->a_lock);
			if (e == VM_NOMAP && as_stack_grow(as, addr) == VM_OK)
				continue;
			if (e != VM_RETRY)
				break;
			mach_yield();
		}
	}
	if (type == F_SOFTUNLOCK)
		as_callbacks_unlocked(as);
	if (e == VM_RETRY)
		e = VM_NOMEM;
	if (e == VM_NOMAP)
		VM_STAT(vm, fault_nomap);
	else if (e != VM_OK)
		VM_STAT(vm, fault_err);
	return e;
}

/* ---- protection ---- */
static enum vm_err setprot_seg(struct as *as, struct seg *s, vaddr_t va, vaddr_t end, unsigned prot)
{
	enum vm_err e;

	if ((s->s_flags & S_SEALED) != 0)
		return VM_ACCESS;
	if (s->s_ops->so_getprot(s, va) == prot)
		return VM_OK;
	if (!as_secure_prot(as, s, prot))
		return VM_ACCESS;
	if ((e = as_split(as, va)) != VM_OK || (e = as_split(as, end)) != VM_OK)
		return e;
	s = as_segat(as, va);
	if ((e = s->s_ops->so_setprot(s, va, end - va, prot)) == VM_OK)
		as_secure_note(as, s, prot);
	return e;
}

/* Each segment's part of the range in turn, until one fails or there is a gap. a_lock held. */
static enum vm_err each_seg(struct as *as, vaddr_t addr, uint64_t len,
    enum vm_err (*fn)(struct as *, struct seg *, vaddr_t va, vaddr_t end, unsigned prot),
    unsigned prot)
{
	enum vm_err e = VM_OK;
	vaddr_t to;

	for (vaddr_t va = addr, end = addr + len; va < end && e == VM_OK; va = to) {
		struct seg *s = as_segat(as, va);

		if (s == NULL)
			return VM_NOMAP;
		to = seg_end(s) < end ? seg_end(s) : end;
		e = fn(as, s, va, to, prot);
	}
	return e;
}

static enum vm_err checkprot_seg(
    struct as *as, struct seg *s, vaddr_t va, vaddr_t end, unsigned prot)
{
	return s->s_ops->so_checkprot(s, va, end - va, prot);
}

enum vm_err as_setprot(struct as *as, vaddr_t addr, uint64_t len, unsigned prot)
{
	enum vm_err e;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	if (__atomic_load_n(&as->a_callbacks, __ATOMIC_RELAXED) != NULL)
		(void)as_callbacks_run(as, addr, len, AS_CB_SETPROT);
	mach_rw_enter(&as->a_lock, true);
	e = each_seg(as, addr, len, setprot_seg, prot);
	as_merge(as, addr, addr + len);
	mach_rw_exit(&as->a_lock);
	return e;
}

enum vm_err as_checkprot(struct as *as, vaddr_t addr, uint64_t len, unsigned prot)
{
	enum vm_err e;

	if (!as_range(as, &addr, &len))
		return VM_NOMEM;
	mach_rw_enter(&as->a_lock, false);
	e = each_seg(as, addr, len, checkprot_seg, prot);
	mach_rw_exit(&as->a_lock);
	return e;
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

enum vm_err as_gap(
    struct as *as, uint64_t len, uint64_t align, vaddr_t min, vaddr_t max, bool high, vaddr_t *addr)
{
	enum vm_err e;

	mach_rw_enter(&as->a_lock, false);
	e = as_gap_locked(as, len, align, min, max, high, addr);
	mach_rw_exit(&as->a_lock);
	return e;
}

/* ---- duplication ---- */
static enum vm_err dup_segs(struct as *parent, struct as *child)
{
	for (struct seg *s = as_seg_ge(parent, parent->a_min); s != NULL; s = seg_next(s)) {
		struct seg *n = seg_alloc(child, seg_base(s), seg_end(s));
		enum vm_err e;

		if (n == NULL)
			return VM_NOMEM;
		e = s->s_ops->so_dup(s, n);
		if (e == VM_OK) {
			seg_attach(child, n);
			continue;
		}
		seg_free(n);
		if (e != VM_NOMAP)
			return e;
	}
	return VM_OK;
}

enum vm_err as_dup(struct as *parent, struct as **childp)
{
	struct as *child;
	enum vm_err e = as_alloc(parent->a_vm, parent->a_min, parent->a_max, &child);

	*childp = NULL;
	if (e != VM_OK)
		return e;
	mach_rw_enter(&parent->a_lock, true);
	while (!mach_rw_tryenter(&child->a_lock, true))
		mach_yield(); /* a thread looks through the list of spaces */
	as_inherit_limits(child, parent);
	as_secure_dup(parent, child);
	child->a_brkbase = parent->a_brkbase;
	child->a_brk = parent->a_brk;
	child->a_brkmax = parent->a_brkmax;
	child->a_stackbase = parent->a_stackbase;
	child->a_stackmin = parent->a_stackmin;
	child->a_stacktop = parent->a_stacktop;
	child->a_stackguard = parent->a_stackguard;
	child->a_heapsize = parent->a_heapsize;
	child->a_stacksize = parent->a_stacksize;
	if ((e = hat_dup(parent->a_hat, child->a_hat)) == VM_OK)
		e = dup_segs(parent, child);
	mach_rw_exit(&child->a_lock);
	mach_rw_exit(&parent->a_lock);
	if (e != VM_OK) {
		as_free(child);
		return e;
	}
	VM_STAT(parent->a_vm, as_dup);
	*childp = child;
	return VM_OK;
}

/* ---- questions ---- */
enum vm_err as_query(struct as *as, vaddr_t addr, struct as_info *ai)
{
	struct seg *s;

	mach_rw_enter(&as->a_lock, false);
	if ((s = as_seg_ge(as, addr)) != NULL) {
		ai->ai_base = seg_base(s);
		ai->ai_len = seg_size(s);
		ai->ai_ops = s->s_ops;
		ai->ai_prot = s->s_ops->so_getprot(s, seg_base(s));
		ai->ai_shared = s->s_ops->so_shared(s);
	}
	mach_rw_exit(&as->a_lock);
	return s != NULL ? VM_OK : VM_NOMAP;
}

enum vm_err as_file(struct as *as, vaddr_t addr, struct vnode **vp, voff_t *off)
{
	enum vm_err e = VM_NOMAP;
	struct seg *s;

	mach_rw_enter(&as->a_lock, false);
	if ((s = as_seg_ge(as, addr)) != NULL && seg_base(s) <= addr) {
		e = VM_NOTSUP;
		if ((*vp = s->s_ops->so_file(s, addr, off)) != NULL) {
			vnode_hold(*vp);
			e = VM_OK;
		}
	}
	mach_rw_exit(&as->a_lock);
	return e;
}

#define SHARE_BITS 16u /* of a byte: what a page's parts are rounded to */

struct usage_walk {
	struct vm *w_vm;
	struct as_usage *w_u;
	uint64_t w_part; /* bytes << SHARE_BITS */
};

static void count_one(void *arg, vaddr_t va, pfn_t pfn, unsigned attr, bool locked)
{
	struct usage_walk *w = arg;
	unsigned share = 1;

	if (vm_is_zeropage(w->w_vm, pfn))
		return; /* the page of zeroes belongs to no space */
	w->w_u->au_rss++;
	if (pfn < w->w_vm->vm_nframes)
		share = hat_page_getshare(page_of(w->w_vm, pfn));
	w->w_part += ((uint64_t)VM_PAGESIZE << SHARE_BITS) / (share > 0 ? share : 1);
}

void as_usage(struct as *as, struct as_usage *u)
{
	struct usage_walk w = { as->a_vm, u, 0 };

	memset(u, 0, sizeof(*u));
	mach_rw_enter(&as->a_lock, true);
	u->au_size = as->a_size;
	u->au_nsegs = as->a_nsegs;
	u->au_swresv = as->a_swresv;
	u->au_locked = as->a_locked;
	hat_foreach(as->a_hat, count_one, &w);
	u->au_pss = w.w_part >> SHARE_BITS;
	mach_rw_exit(&as->a_lock);
}

void as_set_limits(struct as *as, uint64_t max_size_bytes, uint64_t max_locked_pages)
{
	mach_rw_enter(&as->a_lock, true);
	as->a_maxsize = max_size_bytes;
	as->a_maxlocked = max_locked_pages;
	mach_rw_exit(&as->a_lock);
}

/* ---- vm_check ---- */
struct as_checker {
	struct as *c_as;
	void (*c_report)(void *, const char *);
	void *c_arg;
	unsigned c_bad;
};

static void report_violation(struct as_checker *c, const char *text)
{
	c->c_report(c->c_arg, text);
	c->c_bad++;
}

static void check_translation(void *arg, vaddr_t va, pfn_t pfn, unsigned attr, bool locked)
{
	struct as_checker *c = arg;
	struct seg *s = as_segat(c->c_as, va);

	if (s == NULL) {
		report_violation(c, "as: a translation outside of all segments");
		return;
	}
	if ((attr & ~HAT_CACHING & ~s->s_ops->so_getprot(s, va)) != 0)
		report_violation(c, "as: a translation grants more than its segment");
	if (!s->s_ops->so_translation_ok(s, va, pfn, attr))
		report_violation(c,
		    "as: a translation leads to the wrong page or lets a shared anon be written");
	if (locked && (s->s_flags & S_OWNLOCK) == 0 && (aslock_get(c->c_as, va) & LOCK_SOFT) == 0)
		report_violation(c, "as: a locked translation that nobody locked");
}

unsigned as_check(struct as *as, void (*report)(void *, const char *), void *arg)
{
	struct as_checker c = { .c_as = as, .c_report = report, .c_arg = arg };
	uint64_t size = 0, n = 0, resv = 0;

	mach_rw_enter(&as->a_lock, false);
	c.c_bad = range_check(&as->a_index, report, arg);
	for (struct seg *s = as_seg_ge(as, 0), *next; s != NULL; s = next) {
		if (s->s_as != as || seg_base(s) < as->a_min || seg_end(s) > as->a_max ||
		    ((seg_base(s) | seg_end(s)) & VM_PAGEMASK) != 0)
			report_violation(&c, "as: a segment out of bounds or of another space");
		if ((s->s_flags & S_HOLE) == 0)
			size += seg_size(s);
		n++;
		resv += s->s_ops->so_reserved(s);
		if (s->s_node.r_kind != seg_kind(s))
			report_violation(
			    &c, "as: the index says other rights or flags than the segment has");
		c.c_bad += s->s_ops->so_check(s, report, arg);
		if ((next = seg_of(range_next(&as->a_index, &s->s_node))) != NULL &&
		    seg_base(next) <= seg_base(s)) {
			report_violation(&c, "as: segments out of order");
			break;
		}
	}
	if (size != as->a_size || n != as->a_nsegs)
		report_violation(&c, "as: size or number of segments is wrong");
	if (resv != as->a_swresv)
		report_violation(&c, "as: reservations do not add up");
	hat_foreach(as->a_hat, check_translation, &c);
	mach_rw_exit(&as->a_lock);
	return c.c_bad;
}
