/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: a range index of segments, a HAT, a lock. Their life, mapping, protection, questions.
 *
 * The space knows ranges only; their contents are up to the drivers (as_seg.c).
 *
 * Borrowing is vfork's: the child runs in its parent's space, and the parent sleeps until it is given back. A hold is a
 * reference without that wait: for threads, and for a thread that inspects another process.
 *
 * Locks: a_lock as reader for everything that leaves the set of segments and their protections alone (faults, wiring,
 * sync); as writer for the rest. Readers sleep for memory and I/O with it. Two spaces at once (as_dup, as_move): the second
 * is only tried for. vm_mutex guards the list of spaces, and with a_cv borrowing; it is never taken with a_lock held.
 *
 * Invariants (as_check): segments are sorted and disjoint, within [a_min, a_max); a_size and a_nsegs are their sums;
 * each translation lies in a segment and grants no more than it.
 */
#include "vm/as/as_priv.h"

struct hat *as_hat(struct as *as) { return as->a_hat; }

struct vm *as_vm(struct as *as) { return as->a_vm; }

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

/* ---- map, unmap ---- */

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

/* Calls fn for each segment's part of the range in turn, until a call fails or there is a gap.
 * a_lock held. */
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

enum vm_err as_gap(
    struct as *as, uint64_t len, uint64_t align, vaddr_t min, vaddr_t max, bool high, vaddr_t *addr)
{
	enum vm_err e;

	mach_rw_enter(&as->a_lock, false);
	e = as_gap_locked(as, len, align, min, max, high, addr);
	mach_rw_exit(&as->a_lock);
	return e;
}

/* ---- borrowing ---- */
void as_borrow(struct as *as)
{
	struct vm *vm = as->a_vm;

	as_hold(as);
	mach_mutex_enter(&vm->vm_mutex);
	as->a_borrowed++;
	mach_mutex_exit(&vm->vm_mutex);
}

void as_return(struct as *as)
{
	struct vm *vm = as->a_vm;

	mach_mutex_enter(&vm->vm_mutex);
	VM_ASSERT(as->a_borrowed > 0);
	as->a_borrowed--;
	mach_cv_broadcast(&as->a_cv);
	mach_mutex_exit(&vm->vm_mutex);
	as_free(as);
}

void as_borrow_wait(struct as *as)
{
	struct vm *vm = as->a_vm;

	mach_mutex_enter(&vm->vm_mutex);
	while (as->a_borrowed > 0)
		mach_cv_wait(&as->a_cv, &vm->vm_mutex);
	mach_mutex_exit(&vm->vm_mutex);
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

/* Bits of a fraction of a byte: a page that n spaces share counts as 1/n of a page. */
#define SHARE_BITS 16u

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
