/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Resident pages of spaces and of groups: counting, trimming, the victim when memory is out. limits.c has the theory.
 *
 * Locks: a space is held while it is looked at; vm_mutex guards the step to the next. a_lock as writer for counting and trimming.
 */
#include "vm/as/as_priv.h"

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

/* Collects unlocked pages from t_from on, as runs. */
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
		wraps += n == 0; /* from the lowest address again, once */
	}
	mach_rw_exit(&as->a_lock);
	VM_STATN(as->a_vm, trimmed, done);
	return done;
}

/* The space after prev (NULL: the first), held; prev is released. */
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

/* Trims a space in proportion to its share of its group's pages. */
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
