/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Limits of spaces and of groups of spaces.
 *
 * Reservation and locked pages are counted as they are taken, for the space and for its group, and refused beyond the limit.
 * Resident pages are not refused: a space over its limit is trimmed, from where the last trim stopped, so that what it
 * uses comes back at the price of a fault (as Solaris' rcapd; a hard limit at the fault would turn a full group into a
 * dead one). The write-back thread calls vm_limits_enforce; an embedder may call it more often.
 *
 * Reservation of shared anonymous memory belongs to the memory, not to a space, and counts for no group.
 *
 * Locks: a space's limits and group change under a_lock W; counters are atomic: two racing charges may both fail at the
 * edge, none succeeds beyond it. vm_mutex guards the walk over spaces. A group is there while a space is in it, and as long
 * as somebody holds it.
 */
#include "vm/impl.h"

#include <quire/limits.h>

struct vm_group {
	struct vm *g_vm;          /* const */
	struct vm_limits g_limit; /* (V) to change */
	_Atomic uint64_t g_resv, g_locked, g_spaces;
	_Atomic uint32_t
	    g_refs; /* the creator's, and one of each thread that looks at the group of a space that may leave it meanwhile */
};

static struct vm_group *group_of(const struct as *as)
{
	return __atomic_load_n(&as->a_group, __ATOMIC_ACQUIRE);
}

static void group_set(struct as *as, struct vm_group *g)
{
	__atomic_store_n(&as->a_group, g, __ATOMIC_RELEASE);
}

/* The space's group, held, or NULL. While a_lock is held the space is in it, so it is there. */
static struct vm_group *group_hold(struct as *as)
{
	struct vm_group *g;

	mach_rw_enter(&as->a_lock, false);
	if ((g = as->a_group) != NULL)
		g->g_refs++;
	mach_rw_exit(&as->a_lock);
	return g;
}

static void group_rele(struct vm_group *g)
{
	if (--g->g_refs == 0)
		kmem_free(g->g_vm, g, sizeof(*g));
}

/* ---- charges ---- */
static bool add_within(_Atomic uint64_t *count, uint64_t n, uint64_t limit)
{
	uint64_t was = __atomic_load_n((uint64_t *)(void *)count, __ATOMIC_RELAXED);

	do {
		if (n > limit || was > limit - n)
			return false;
	} while (!__atomic_compare_exchange_n(
	    (uint64_t *)(void *)count, &was, was + n, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return true;
}

static void take_back(_Atomic uint64_t *count, uint64_t n)
{
	uint64_t was = __atomic_fetch_sub((uint64_t *)(void *)count, n, __ATOMIC_RELAXED);

	VM_ASSERT(was >= n);
	(void)was;
}

enum vm_err as_charge_resv(struct as *as, uint64_t n, bool touched)
{
	struct vm_group *g = as->a_group;
	enum vm_err e;

	if (!add_within(&as->a_swresv, n, as->a_maxresv))
		return VM_LIMIT;
	if (g != NULL && !add_within(&g->g_resv, n, g->g_limit.l_resv)) {
		take_back(&as->a_swresv, n);
		return VM_LIMIT;
	}
	if ((e = anon_reserve(as->a_vm, n, touched)) != VM_OK)
		as_forget_resv(as, n);
	return e;
}

void as_forget_resv(struct as *as, uint64_t n)
{
	take_back(&as->a_swresv, n);
	if (as->a_group != NULL)
		take_back(&as->a_group->g_resv, n);
}

/* A segment moved in with its reservation: nothing is refused, the sender's limits had allowed it. */
void as_adopt_resv(struct as *as, uint64_t n)
{
	as->a_swresv += n;
	if (as->a_group != NULL)
		as->a_group->g_resv += n;
}

bool as_charge_wired(struct as *as)
{
	if (!add_within(&as->a_locked, 1, as->a_maxlocked))
		return false;
	if (as->a_group == NULL ||
	    add_within(&as->a_group->g_locked, 1, as->a_group->g_limit.l_locked))
		return true;
	take_back(&as->a_locked, 1);
	return false;
}

void as_uncharge_wired(struct as *as)
{
	take_back(&as->a_locked, 1);
	if (as->a_group != NULL)
		take_back(&as->a_group->g_locked, 1);
}

/* ---- groups ---- */
enum vm_err vm_group_create(struct vm *vm, const struct vm_limits *l, struct vm_group **gp)
{
	struct vm_group *g = kmem_zalloc(vm, sizeof(*g), KM_SLEEP);

	if (g == NULL)
		return VM_NOMEM;
	g->g_vm = vm;
	g->g_limit = *l;
	g->g_refs = 1;
	*gp = g;
	return VM_OK;
}

void vm_group_destroy(struct vm_group *g)
{
	VM_ASSERT(g->g_spaces == 0 && g->g_resv == 0 && g->g_locked == 0);
	group_rele(g);
}

void vm_group_limit(struct vm_group *g, const struct vm_limits *l)
{
	mach_mutex_enter(&g->g_vm->vm_mutex);
	g->g_limit = *l;
	mach_mutex_exit(&g->g_vm->vm_mutex);
}

static enum vm_err join_group(struct vm_group *g, uint64_t resv, uint64_t locked)
{
	if (!add_within(&g->g_resv, resv, g->g_limit.l_resv))
		return VM_LIMIT;
	if (!add_within(&g->g_locked, locked, g->g_limit.l_locked)) {
		take_back(&g->g_resv, resv);
		return VM_LIMIT;
	}
	g->g_spaces++;
	return VM_OK;
}

static void leave_group(struct vm_group *g, uint64_t resv, uint64_t locked)
{
	take_back(&g->g_resv, resv);
	take_back(&g->g_locked, locked);
	take_back(&g->g_spaces, 1);
}

enum vm_err as_set_group(struct as *as, struct vm_group *g)
{
	enum vm_err e = VM_OK;

	mach_rw_enter(&as->a_lock, true);
	if (g != as->a_group) {
		if (g != NULL)
			e = join_group(g, as->a_swresv, as->a_locked);
		if (e == VM_OK) {
			if (as->a_group != NULL)
				leave_group(as->a_group, as->a_swresv, as->a_locked);
			group_set(as, g);
		}
	}
	mach_rw_exit(&as->a_lock);
	return e;
}

/* A child at its birth, and a space at its end. */
void as_inherit_limits(struct as *child, const struct as *parent)
{
	child->a_maxsize = parent->a_maxsize;
	child->a_maxlocked = parent->a_maxlocked;
	child->a_maxresv = parent->a_maxresv;
	child->a_maxrss = parent->a_maxrss;
	if ((child->a_group = parent->a_group) != NULL)
		child->a_group->g_spaces++;
}

void as_leave_group(struct as *as)
{
	if (as->a_group != NULL)
		leave_group(as->a_group, as->a_swresv, as->a_locked);
	group_set(as, NULL);
}

void as_limit(struct as *as, const struct vm_limits *l)
{
	mach_rw_enter(&as->a_lock, true);
	as->a_maxresv = l->l_resv;
	as->a_maxlocked = l->l_locked;
	as->a_maxrss = l->l_rss;
	mach_rw_exit(&as->a_lock);
}

/* ---- resident pages ---- */
struct residents {
	struct vm *r_vm;
	uint64_t r_n;
};

static void count_one(void *arg, vaddr_t va, pfn_t pfn, unsigned attr, bool locked)
{
	struct residents *r = arg;

	r->r_n += !vm_is_zeropage(r->r_vm, pfn);
}

static uint64_t count_resident(struct as *as)
{
	struct residents r = { as->a_vm, 0 };

	mach_rw_enter(&as->a_lock, true);
	hat_foreach(as->a_hat, count_one, &r);
	mach_rw_exit(&as->a_lock);
	return r.r_n;
}

#define TRIM_RUNS 64u
struct trim {
	struct as *t_as;
	vaddr_t t_from;
	uint64_t t_want, t_have;
	unsigned t_n;
	struct {
		vaddr_t r_va;
		uint64_t r_pages;
	} t_run[TRIM_RUNS];
};

/* Unlocked pages from t_from on, as runs. */
static void pick_run(void *arg, vaddr_t va, pfn_t pfn, unsigned attr, bool locked)
{
	struct trim *t = arg;

	if (locked || vm_is_zeropage(t->t_as->a_vm, pfn) || va < t->t_from ||
	    t->t_have >= t->t_want || aslock_get(t->t_as, va) != 0)
		return;
	if (t->t_n > 0 && t->t_run[t->t_n - 1].r_va + vm_ptob(t->t_run[t->t_n - 1].r_pages) == va) {
		t->t_run[t->t_n - 1].r_pages++;
	} else if (t->t_n < TRIM_RUNS) {
		t->t_run[t->t_n].r_va = va;
		t->t_run[t->t_n++].r_pages = 1;
	} else {
		return;
	}
	t->t_have++;
}

static void trim_run(struct as *as, vaddr_t va, uint64_t len)
{
	vaddr_t end = va + len;

	hat_unload(as->a_hat, va, len, HAT_UNLOAD);
	for (struct seg *s = as_seg_ge(as, va); s != NULL && seg_base(s) < end; s = seg_next(s)) {
		vaddr_t from = seg_base(s) > va ? seg_base(s) : va,
			to = seg_end(s) < end ? seg_end(s) : end;

		(void)s->s_ops->so_advise(s, from, to - from, ADV_PAGEOUT);
	}
}

static uint64_t trim_pass(struct as *as, vaddr_t from, uint64_t want)
{
	struct trim t = { .t_as = as, .t_from = from, .t_want = want };

	hat_foreach(as->a_hat, pick_run, &t);
	for (unsigned i = 0; i < t.t_n; i++)
		trim_run(as, t.t_run[i].r_va, vm_ptob(t.t_run[i].r_pages));
	as->a_trimhand =
	    t.t_n > 0 ? t.t_run[t.t_n - 1].r_va + vm_ptob(t.t_run[t.t_n - 1].r_pages) : 0;
	return t.t_have;
}

uint64_t as_trim(struct as *as, uint64_t npages)
{
	uint64_t done = 0, n;

	mach_rw_enter(&as->a_lock, true);
	for (unsigned wraps = 0; done < npages && wraps < 2;) {
		n = trim_pass(as, as->a_trimhand, npages - done);
		done += n;
		wraps += n == 0; /* from the start again, once */
	}
	mach_rw_exit(&as->a_lock);
	VM_STATN(as->a_vm, trimmed, done);
	return done;
}

/* ---- over all spaces ---- */
/* The space after prev (NULL: the first), held; prev is given up. */
static struct as *next_space(struct vm *vm, struct as *prev)
{
	struct as *as;

	mach_mutex_enter(&vm->vm_mutex);
	as = prev != NULL ? prev->a_next : vm->vm_aslist;
	while (as != NULL && !vm_tryhold((uint32_t *)(void *)&as->a_refcnt))
		as = as->a_next;
	mach_mutex_exit(&vm->vm_mutex);
	if (prev != NULL)
		as_free(prev);
	return as;
}

void vm_group_usage(struct vm_group *g, struct vm_group_usage *u)
{
	*u = (struct vm_group_usage){
		.gu_spaces = g->g_spaces, .gu_locked = g->g_locked, .gu_resv = g->g_resv
	};
	for (struct as *as = next_space(g->g_vm, NULL); as != NULL; as = next_space(g->g_vm, as))
		if (group_of(as) == g)
			u->gu_rss += count_resident(as);
}

/* A space gives in proportion to what it has of its group's pages. */
static uint64_t pages_over_limit(struct as *as, uint64_t rss)
{
	uint64_t n = rss > as->a_maxrss ? rss - as->a_maxrss : 0;
	struct vm_group *g = group_hold(as);
	struct vm_group_usage u = { 0 };
	uint64_t limit;

	if (g == NULL)
		return n;
	if ((limit = g->g_limit.l_rss) != LIMIT_NONE)
		vm_group_usage(g, &u);
	if (u.gu_rss > limit) {
		uint64_t excess = u.gu_rss - limit,
			 share = (rss * excess + u.gu_rss - 1) / u.gu_rss;

		n = share > n ? share : n;
	}
	group_rele(g);
	return n;
}

uint64_t vm_limits_enforce(struct vm *vm)
{
	uint64_t done = 0;

	for (struct as *as = next_space(vm, NULL); as != NULL; as = next_space(vm, as)) {
		uint64_t n;

		if (as->a_maxrss == LIMIT_NONE && group_of(as) == NULL)
			continue;
		if ((n = pages_over_limit(as, count_resident(as))) > 0)
			done += as_trim(as, n);
	}
	return done;
}

struct as *vm_oom_victim(struct vm *vm)
{
	struct as *worst = NULL;
	uint64_t most = 0;

	for (struct as *as = next_space(vm, NULL); as != NULL; as = next_space(vm, as)) {
		uint64_t n = count_resident(as) + as->a_swresv;

		if (n <= most)
			continue;
		if (worst != NULL)
			as_free(worst);
		most = n;
		as_hold(worst = as);
	}
	return worst;
}
