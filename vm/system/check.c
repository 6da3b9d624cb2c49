/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vm_check: the sum of the rooms' own checkers, and the one property that belongs to none of them: f1 (what address spaces
 * translate) and f2 (what each page says it is mapped by) are the same relation. The checker adds a hash of every (hat, address,
 * frame) of f1 to one word and subtracts those of f2: any difference leaves the word other than zero.
 *
 * Lock: vm_mutex guards the list of spaces. The caller makes sure that nothing else runs.
 */
#include "vm/impl.h"

struct vm_crosscheck {
	struct vm *vx_vm;
	struct hat *vx_hat;
	pfn_t vx_pfn;
	uint64_t vx_sum;   /* of all translations that f1 has, less those that f2 has */
	unsigned vx_count; /* translations of the page */
	unsigned vx_bad;
	void (*vx_report)(void *, const char *);
	void *vx_arg;
};

static void vm_violation(struct vm_crosscheck *x, const char *text)
{
	x->vx_report(x->vx_arg, text);
	x->vx_bad++;
}

/*
 * One translation as a number. Two multisets of translations are equal if and only if their sums
 * are (but for one chance in 2^64), so f1 and f2 of all frames are compared without a word of
 * memory for each.
 */
static uint64_t vm_map_hash(const struct hat *hat, vaddr_t va, pfn_t pfn)
{
	uint64_t h = (va >> VM_PAGESHIFT) + (uint64_t)(uintptr_t)hat * 0x9e3779b97f4a7c15u;

	h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93u + pfn;

	h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93u;
	h = (h ^ (h >> 29)) * 0xd6e8feb86659fd93u;
	return h ^ (h >> 32);
}

static void vm_check_f1(void *arg, vaddr_t va, pfn_t pfn, unsigned attr, bool locked)
{
	struct vm_crosscheck *x = arg;
	const struct page *pp;

	(void)locked;
	if (pfn >= x->vx_vm->vm_nframes || mach_is_hole(x->vx_vm->vm_caps, pfn))
		return;                      /* a device's frame: on no page's list */
	if (vm_is_zeropage(x->vx_vm, pfn)) { /* on no list either, and never writable */
		if ((attr & PROT_W) != 0)
			vm_violation(x, "vm: the page of zeroes can be written");
		return;
	}
	pp = &x->vx_vm->vm_pages[pfn];
	x->vx_sum += vm_map_hash(x->vx_hat, va, pfn);
	if (pp->p_flags & (P_FREE | P_OFFLINE))
		vm_violation(x, "vm: a translation leads to a free or off-line frame");
	else if (pp->p_vnode == NULL && !(pp->p_flags & P_KERNEL))
		vm_violation(x, "vm: a translation leads to a page without a name");
}

static void vm_check_f2(void *arg, struct hat *hat, vaddr_t va)
{
	struct vm_crosscheck *x = arg;

	x->vx_sum -= vm_map_hash(hat, va, x->vx_pfn);
	x->vx_count++;
}

static void vm_check_page_maps(struct vm_crosscheck *x, pfn_t pfn)
{
	struct vm *vm = x->vx_vm;
	struct page *pp = &vm->vm_pages[pfn];

	x->vx_pfn = pfn;
	x->vx_count = 0;
	hat_page_foreach(pp, vm_check_f2, x);
	if (x->vx_count != hat_page_getshare(pp))
		vm_violation(x, "vm: a page's share count is not the length of its mapping list");
	if (vm->vm_caps->mc_max_mappings > 0 && x->vx_count > vm->vm_caps->mc_max_mappings)
		vm_violation(x, "vm: a page has more translations than the machine allows");
}

/* The port accounts for kernel frames that are mapped through a hat: only named pages have a
 * mapping list. */
static unsigned vm_check_cross(struct vm *vm, void (*report)(void *, const char *), void *arg)
{
	struct vm_crosscheck x = { .vx_vm = vm, .vx_report = report, .vx_arg = arg };

	for (struct as *as = vm->vm_aslist; as != NULL; as = as->a_next) {
		x.vx_hat = as->a_hat;
		hat_foreach(as->a_hat, vm_check_f1, &x);
	}
	for (pfn_t pfn = 0; pfn < vm->vm_nframes; pfn++) {
		if (vm->vm_pages[pfn].p_vnode != NULL)
			vm_check_page_maps(&x, pfn);
	}
	if (x.vx_sum != 0)
		vm_violation(
		    &x, "vm: the pages' mapping lists are not what the address spaces translate");
	return x.vx_bad;
}

unsigned vm_check(struct vm *vm, void (*report)(void *arg, const char *text), void *arg)
{
	unsigned bad = 0;

	mach_mutex_enter(&vm->vm_mutex);
	bad += buddy_check(vm, report, arg);
	bad += page_check(vm, report, arg);
	bad += kmem_check(vm, report, arg);
	bad += anon_check(vm, anonmap_count_refs, report, arg);
	bad += swap_check(vm, anon_holds_slot, report, arg);
	for (struct as *as = vm->vm_aslist; as != NULL; as = as->a_next) {
		bad += as_check(as, report, arg);
		bad += hat_check(as->a_hat, report, arg);
	}
	bad += vm_check_cross(vm, report, arg);
	mach_mutex_exit(&vm->vm_mutex);
	return bad;
}
