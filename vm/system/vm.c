/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One virtual memory system: life, statistics, fault injection, shrinking, and the checker.
 *
 * The checker is the sum of its parts' checkers plus the one property that belongs to none of them: f1 (what address
 * spaces translate) and f2 (what each page says it is mapped by) are the same relation. It adds a hash of every (hat,
 * address, frame) of f1 to one word and takes away those of f2: any difference leaves it other than zero.
 *
 * Locks: vm_mutex guards the list of spaces. Statistics and injection counters are atomic, one set a CPU; who asks
 * gets the sum.
 */
#include "vm/seg/seg_vn.h"

const char *vm_err_name(enum vm_err e)
{
	static const char *const names[] = {
		[VM_OK] = "ok",
		[VM_NOMAP] = "no mapping",
		[VM_PROT] = "protection",
		[VM_ACCESS] = "beyond maximum protection",
		[VM_NOMEM] = "out of memory",
		[VM_NOSWAP] = "out of swap",
		[VM_IO] = "I/O error",
		[VM_EOF] = "past the end",
		[VM_LOCKED] = "locked",
		[VM_INVAL] = "invalid argument",
		[VM_EXIST] = "exists",
		[VM_NOTSUP] = "not supported",
		[VM_LIMIT] = "limit reached",
		[VM_RETRY] = "retry",
	};

	if ((unsigned)e >= sizeof(names) / sizeof(names[0]))
		return "unknown";
	return names[e];
}

/* ---- life ---- */

/* Frames at a distance of one way of the cache compete: so many colours, a power of two. */
static uint32_t vm_colors(const struct vm_config *vc)
{
	uint64_t way = vc->vc_cache_bytes / (vc->vc_cache_ways != 0 ? vc->vc_cache_ways : 1) / VM_PAGESIZE;
	uint32_t n = 1;

	while (n * 2ull <= way && n < 1024)
		n *= 2;
	return n;
}

bool vm_idle(struct vm *vm)
{
	return buddy_pool_zeroed(vm, vm->vm_config.vc_zeropool);
}

static bool vm_config_ok(const struct vm_config *vc, const struct mach_caps *caps)
{
	return vc->vc_frames > 0 && vc->vc_frames <= caps->mc_nframes && vc->vc_reserve < vc->vc_frames;
}

static uint32_t vm_ncpus(const struct mach_caps *caps)
{
	uint32_t n = 1;

	while (n < caps->mc_ncpus && n < VM_CPUS)
		n *= 2;
	return n;
}

size_t vm_boot_bytes(const struct vm_config *vc, const struct mach_caps *caps)
{
	return VM_BOOT_ROUND(sizeof(struct vm)) + VM_BOOT_ROUND(vm_ncpus(caps) * sizeof(struct vm_cpu) + VM_LINE) +
	    page_boot_bytes(vc, caps) + kmem_boot_bytes(caps) + anon_boot_bytes(vc);
}

static bool vm_cpus_init(struct vm *vm)
{
	uint32_t n = vm_ncpus(vm->vm_caps);
	char *p;

	p = mach_boot_alloc(vm->vm_mach, n * sizeof(struct vm_cpu) + VM_LINE);
	vm->vm_cpu = (struct vm_cpu *)(void *)(((uintptr_t)p + VM_LINE - 1) & ~(uintptr_t)(VM_LINE - 1));
	vm->vm_cpumask = n - 1;
	return p != NULL;
}

enum vm_err vm_create(const struct vm_config *vc, struct vm **vmp)
{
	const struct mach_caps *caps;
	enum vm_err e;
	struct vm *vm;

	*vmp = NULL;
	if (vc == NULL || vc->vc_mach == NULL)
		return VM_INVAL;
	caps = mach_caps(vc->vc_mach);
	if (!vm_config_ok(vc, caps))
		return VM_INVAL;
	vm = mach_boot_alloc(vc->vc_mach, sizeof(*vm));
	if (vm == NULL)
		return VM_NOMEM;
	vm->vm_mach = vc->vc_mach;
	vm->vm_caps = caps;
	if (!vm_cpus_init(vm))
		return VM_NOMEM;
	vm->vm_config = *vc;
	vm->vm_maxframes = caps->mc_nframes;
	vm->vm_colormask = vm_colors(vc) - 1;
	vm->vm_policy = vc->vc_policy != NULL ? vc->vc_policy : &policy_clock2;
	vm->vm_prefetch = vc->vc_prefetch != NULL ? vc->vc_prefetch : &prefetch_near;
	mach_mutex_init(&vm->vm_mutex, RANK_VM, "vm");
	mach_mutex_init(&vm->vm_devlock, RANK_LEAF - 1, "devices");
	if ((e = page_init(vm)) != VM_OK || (e = buddy_init(vm)) != VM_OK)
		return e;
	pageout_setup(vm);
	if ((e = kmem_init(vm)) != VM_OK || (e = anon_init(vm)) != VM_OK)
		return e;
	vm->vm_rangenodes = kmem_cache_create(vm, "range_node", range_node_bytes(), VM_LINE, NULL, NULL, NULL);
	vm->vm_segs = kmem_cache_create(vm, "seg", sizeof(struct seg), VM_LINE, NULL, NULL, NULL);
	vm->vm_segvns = kmem_cache_create(vm, "segvn", sizeof(struct segvn_data), VM_LINE, NULL, NULL, NULL);
	if (vm->vm_rangenodes == NULL || vm->vm_segs == NULL || vm->vm_segvns == NULL)
		return VM_NOMEM;
	pageout_start(vm);
	*vmp = vm;
	return VM_OK;
}

void vm_destroy(struct vm *vm)
{
	VM_ASSERT(vm->vm_aslist == NULL && vm->vm_writer == NULL);
	pageout_stop(vm);
	if (vm->vm_zeropage != NULL)
		page_kfree(vm, vm->vm_zeropage, 0);
	anon_fini(vm);
	kmem_fini(vm);
	VM_ASSERT(vm->vm_nkernel == 0); /* else somebody lost a frame: a page table, a table of swap slots */
	page_fini(vm);
	mach_mutex_fini(&vm->vm_devlock);
	mach_mutex_fini(&vm->vm_mutex);
}

struct mach *vm_machine(struct vm *vm)
{
	return vm->vm_mach;
}

/* ---- statistics ---- */

const struct vm_stats *vm_statistics(struct vm *vm)
{
	uint64_t *sum = (uint64_t *)(void *)&vm->vm_stats;

	for (size_t i = 0; i < sizeof(vm->vm_stats) / sizeof(*sum); i++) {
		uint64_t n = 0;

		for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
			n += __atomic_load_n((uint64_t *)(void *)&vm->vm_cpu[c].vc_stats + i, __ATOMIC_RELAXED);
		__atomic_store_n(&sum[i], n, __ATOMIC_RELAXED);
	}
	return &vm->vm_stats;
}

void vm_usage(struct vm *vm, struct vm_usage *u)
{
	memset(u, 0, sizeof(*u));
	u->vu_anon_slots = anon_count(vm);
	mach_mutex_enter(&vm->vm_swaplock);
	u->vu_swap_total = vm->vm_swaptotal;
	u->vu_swap_used = vm->vm_swapused;
	u->vu_reserved = vm->vm_resv;
	u->vu_resv_max = vm->vm_resvmax;
	mach_mutex_exit(&vm->vm_swaplock);
	u->vu_cache = page_cached(vm);
	u->vu_frames = vm->vm_nonline;
	u->vu_free = vm->vm_nfree + buddy_laid_by(vm);
	u->vu_wired = vm->vm_nwired;
	u->vu_kernel = vm->vm_nkernel;
}

/* ---- fault injection ---- */

void vm_inject(struct vm *vm, enum vm_inject what, uint64_t nth)
{
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		__atomic_store_n(&vm->vm_cpu[c].vc_inject[what], 0, __ATOMIC_RELAXED);
	__atomic_store_n(&vm->vm_inject_left[what], nth, __ATOMIC_RELAXED);
}

uint64_t vm_inject_seen(struct vm *vm, enum vm_inject what)
{
	uint64_t n = 0;

	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		n += __atomic_load_n(&vm->vm_cpu[c].vc_inject[what], __ATOMIC_RELAXED);
	return n;
}

bool vm_inject_fail(struct vm *vm, enum vm_inject what)
{
	uint64_t left = __atomic_load_n(&vm->vm_inject_left[what], __ATOMIC_RELAXED);

	(void)__atomic_add_fetch(&vm_cpu_of(vm)->vc_inject[what], 1, __ATOMIC_RELAXED);
	while (left > 0) {
		if (__atomic_compare_exchange_n(&vm->vm_inject_left[what], &left, left - 1, true, __ATOMIC_RELAXED,
			__ATOMIC_RELAXED))
			return left == 1;
	}
	return false;
}

/* ---- shrinking ---- */

/* So many frames may go off line without page-out losing its footing. */
static pfn_t vm_shrink_most(struct vm *vm)
{
	uint64_t keep = (uint64_t)vm->vm_nkernel + vm->vm_nwired + vm->vm_reserve + 2 * (uint64_t)vm->vm_lotsfree;
	uint64_t online = vm->vm_nonline;

	return online > keep ? (pfn_t)(online - keep) : 0;
}

pfn_t vm_shrink(struct vm *vm, pfn_t n)
{
	pfn_t done = 0, most = vm_shrink_most(vm);

	if (n > most)
		n = most;
	while (done < n) {
		pfn_t got = buddy_offline_free(vm, n - done);

		done += got;
		if (done == n)
			break;
		/* Caches first: nobody has to fault for what they give. No progress by any means ends it. */
		if (page_cache_drain(vm, n - done) == 0 && kmem_reap(vm) == 0 && pageout_reclaim(vm, n - done) == 0 &&
		    got == 0)
			break;
	}
	return done;
}

/* ---- the checker ---- */

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
 * One translation as a number. Sums of them are equal if and only if (but for one chance in 2^64) what is summed is, so
 * f1 and f2 of all frames are compared without a word of memory for each.
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
		return; /* a device's frame: on no page's list */
	if (vm_is_zeropage(x->vx_vm, pfn)) { /* on no list either, and nobody may write it */
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

/* Kernel frames mapped through a hat are the port's business: only named pages have a mapping list. */
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
		vm_violation(&x, "vm: the pages' mapping lists are not what the address spaces translate");
	return x.vx_bad;
}

unsigned vm_check(struct vm *vm, void (*report)(void *arg, const char *text), void *arg)
{
	unsigned bad = 0;

	mach_mutex_enter(&vm->vm_mutex);
	bad += buddy_check(vm, report, arg);
	bad += page_check(vm, report, arg);
	bad += kmem_check(vm, report, arg);
	bad += anon_check(vm, report, arg);
	bad += swap_check(vm, report, arg);
	for (struct as *as = vm->vm_aslist; as != NULL; as = as->a_next) {
		bad += as_check(as, report, arg);
		bad += hat_check(as->a_hat, report, arg);
	}
	bad += vm_check_cross(vm, report, arg);
	mach_mutex_exit(&vm->vm_mutex);
	return bad;
}
