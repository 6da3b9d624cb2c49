/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Limits of spaces and of groups of spaces.
 *
 * Reservation and locked pages are counted as they are taken, for the space and for its group, and refused beyond the limit.
 * Resident pages are not refused: a space over its limit is trimmed (as_trim.c), from where the
 * last trim stopped, so that what it uses comes back at the price of a fault (as Solaris' rcapd; a
 * limit enforced at the fault would stop every program of a full group). The write-back thread
 * calls vm_limits_enforce; an embedder may call it more often.
 *
 * Reservation of shared anonymous memory belongs to the memory, not to a space, and counts for no group.
 *
 * Locks: a space's limits and group change under a_lock W; counters are atomic: two racing charges may both fail at the
 * edge, none succeeds beyond it. vm_mutex guards the walk over spaces. A group exists while a space
 * is in it, and as long as a thread holds it.
 */
#include "vm/as/as_priv.h"

static void group_set(struct as *as, struct vm_group *g)
{
	__atomic_store_n(&as->a_group, g, __ATOMIC_RELEASE);
}

/* While a_lock is held the space is in its group, so the group is there. */
struct vm_group *group_hold(struct as *as)
{
	struct vm_group *g;

	mach_rw_enter(&as->a_lock, false);
	if ((g = as->a_group) != NULL)
		g->g_refs++;
	mach_rw_exit(&as->a_lock);
	return g;
}

void group_rele(struct vm_group *g)
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

/* Charges for a segment that was moved in with its reservation: nothing is refused, because the
 * sender's limits allowed it. */
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

/* as_inherit_limits is called when a child is made, as_leave_group when a space ends. */
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
