/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces: swapping of whole spaces.
 *
 * Soft swap-out takes a space's translations and page tables away and nothing else: its pages stay in memory, unreferenced,
 * and are the first that the scanner finds. Hard swap-out also cleans and frees every frame that is not locked or shared
 * with a busy mapping, and remembers as runs of addresses what was resident; swap-in faults these in again, in
 * address order, so that neighbours on disk are read together, and stops when memory gets short. The two are the soft and
 * hard swapping of SVR4's sched(); when to do it is policy (vm/as/as_trim.c, or the embedder).
 *
 * Locks: a_lock W for both kinds of swapping.
 */
#include "vm/impl.h"

#define SET_RUNS 255u

struct swapset {
	struct swapset *ss_next;
	uint64_t ss_n;
	struct {
		vaddr_t r_va;
		uint64_t r_pages;
	} ss_run[SET_RUNS];
};

void as_swapset_free(struct as *as)
{
	while (as->a_swapset != NULL) {
		struct swapset *ss = as->a_swapset;

		as->a_swapset = ss->ss_next;
		kmem_free(as->a_vm, ss, sizeof(*ss));
	}
}

struct collect {
	struct as *c_as;
	struct swapset *c_last;
	bool c_full;
};

/* Called by the port's walk of translations, so it must not allocate. Addresses rise. */
static void collect_resident(void *arg, vaddr_t va, pfn_t pfn, unsigned attr, bool locked)
{
	struct collect *c = arg;
	struct swapset *ss = c->c_last;

	if (locked)
		return;
	if (ss->ss_n > 0 &&
	    ss->ss_run[ss->ss_n - 1].r_va + vm_ptob(ss->ss_run[ss->ss_n - 1].r_pages) == va) {
		ss->ss_run[ss->ss_n - 1].r_pages++;
		return;
	}
	if (ss->ss_n == SET_RUNS && ss->ss_next != NULL)
		ss = c->c_last = ss->ss_next;
	if (ss->ss_n == SET_RUNS) {
		c->c_full = true;
		return;
	}
	ss->ss_run[ss->ss_n].r_va = va;
	ss->ss_run[ss->ss_n++].r_pages = 1;
}

/* Records which pages are resident. Pages for which the record has no room come back by faults. */
static void remember_resident(struct as *as)
{
	struct collect c = { .c_as = as };
	struct swapset **at = &as->a_swapset;

	as_swapset_free(as);
	for (unsigned i = 0; i < 4 && (i == 0 || as->a_nsegs > i * SET_RUNS); i++) {
		struct swapset *ss = kmem_zalloc(as->a_vm, sizeof(*ss), KM_NOSLEEP);

		if (ss == NULL)
			break;
		*at = ss;
		at = &ss->ss_next;
	}
	if ((c.c_last = as->a_swapset) != NULL)
		hat_foreach(as->a_hat, collect_resident, &c);
}

void as_swapout_soft(struct as *as)
{
	mach_rw_enter(&as->a_lock, true);
	hat_swapout(as->a_hat);
	VM_STAT(as->a_vm, swapout_soft);
	mach_rw_exit(&as->a_lock);
}

uint64_t as_swapout(struct as *as)
{
	uint64_t n = 0;

	mach_rw_enter(&as->a_lock, true);
	remember_resident(as);
	hat_swapout(as->a_hat);
	for (struct seg *s = as_seg_ge(as, as->a_min); s != NULL; s = seg_next(s))
		n += s->s_ops->so_swapout(s);
	VM_STAT(as->a_vm, swapout_hard);
	mach_rw_exit(&as->a_lock);
	return n;
}

uint64_t as_swapin(struct as *as)
{
	struct vm *vm = as->a_vm;
	struct swapset *set;
	uint64_t n = 0;

	mach_rw_enter(&as->a_lock, true);
	set = as->a_swapset;
	as->a_swapset = NULL;
	mach_rw_exit(&as->a_lock);
	for (struct swapset *ss = set; ss != NULL; ss = ss->ss_next)
		for (uint64_t i = 0; i < ss->ss_n; i++)
			for (uint64_t k = 0;
			     k < ss->ss_run[i].r_pages && vm->vm_nfree > vm->vm_lotsfree; k++)
				n += as_fault(as, ss->ss_run[i].r_va + vm_ptob(k), VM_PAGESIZE,
					 F_INVAL, S_READ) == VM_OK;
	while (set != NULL) {
		struct swapset *ss = set;

		set = ss->ss_next;
		kmem_free(vm, ss, sizeof(*ss));
	}
	return n;
}
