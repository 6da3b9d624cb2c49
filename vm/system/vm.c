/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One virtual memory system: its life, how much of what is used, and shrinking.
 *
 * Lock: vm_mutex guards the list of spaces.
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
	uint64_t way =
	    vc->vc_cache_bytes / (vc->vc_cache_ways != 0 ? vc->vc_cache_ways : 1) / VM_PAGESIZE;
	uint32_t n = 1;

	while (n * 2ull <= way && n < 1024)
		n *= 2;
	return n;
}

bool vm_idle(struct vm *vm) { return buddy_pool_zeroed(vm, vm->vm_config.vc_zeropool); }

static bool vm_config_ok(const struct vm_config *vc, const struct mach_caps *caps)
{
	return vc->vc_frames > 0 && vc->vc_frames <= caps->mc_nframes &&
	    vc->vc_reserve < vc->vc_frames;
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
	return VM_BOOT_ROUND(sizeof(struct vm)) +
	    VM_BOOT_ROUND(vm_ncpus(caps) * sizeof(struct vm_cpu) + VM_LINE) +
	    page_boot_bytes(vc, caps) + kmem_boot_bytes(caps) + anon_boot_bytes(vc);
}

static bool vm_cpus_init(struct vm *vm)
{
	uint32_t n = vm_ncpus(vm->vm_caps);
	char *p;

	p = mach_boot_alloc(vm->vm_mach, n * sizeof(struct vm_cpu) + VM_LINE);
	vm->vm_cpu =
	    (struct vm_cpu *)(void *)(((uintptr_t)p + VM_LINE - 1) & ~(uintptr_t)(VM_LINE - 1));
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
	vm->vm_prefetch = vc->vc_prefetch != NULL ? vc->vc_prefetch : &prefetch_streams;
	mach_mutex_init(&vm->vm_mutex, RANK_VM, "vm");
	mach_mutex_init(&vm->vm_devlock, RANK_LEAF - 1, "devices");
	if ((e = page_init(vm)) != VM_OK || (e = buddy_init(vm)) != VM_OK)
		return e;
	pageout_setup(vm);
	if ((e = kmem_init(vm)) != VM_OK || (e = anon_init(vm)) != VM_OK ||
	    (e = anonmap_init(vm)) != VM_OK)
		return e;
	vm->vm_rangenodes =
	    kmem_cache_create(vm, "range_node", range_node_bytes(), VM_LINE, NULL, NULL, NULL);
	vm->vm_segs = kmem_cache_create(vm, "seg", sizeof(struct seg), VM_LINE, NULL, NULL, NULL);
	vm->vm_segvns =
	    kmem_cache_create(vm, "segvn", sizeof(struct segvn_data), VM_LINE, NULL, NULL, NULL);
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
	anonmap_fini(vm);
	kmem_fini(vm);
	VM_ASSERT(
	    vm->vm_nkernel == 0); /* otherwise a frame has leaked: a page table, a table of swap
	                           * slots */
	page_fini(vm);
	mach_mutex_fini(&vm->vm_devlock);
	mach_mutex_fini(&vm->vm_mutex);
}

struct mach *vm_machine(struct vm *vm) { return vm->vm_mach; }

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
	mach_mutex_enter(&vm->vm_pollock);
	u->vu_policy = vm->vm_policy->pol_pages(vm->vm_polstate);
	mach_mutex_exit(&vm->vm_pollock);
	u->vu_cache = page_cached(vm);
	u->vu_frames = vm->vm_nonline;
	u->vu_free = vm->vm_nfree + buddy_laid_by(vm);
	u->vu_wired = vm->vm_nwired;
	u->vu_kernel = vm->vm_nkernel;
}

/* ---- shrinking ---- */

/* Frames given up at a time, so that the store needs little memory for their pages meanwhile. */
#define SHRINK_STEP 32u

/* How many frames may go off line without starving page-out. */
static pfn_t vm_shrink_most(struct vm *vm)
{
	uint64_t keep = (uint64_t)vm->vm_nkernel + vm->vm_nwired + vm->vm_reserve +
	    2 * (uint64_t)vm->vm_lotsfree;
	uint64_t online = vm->vm_nonline;

	return online > keep ? (pfn_t)(online - keep) : 0;
}

pfn_t vm_shrink(struct vm *vm, pfn_t n)
{
	pfn_t done = 0, most = vm_shrink_most(vm);

	if (n > most)
		n = most;
	while (done < n) {
		pfn_t got = buddy_offline_free(vm, n - done), step;

		done += got;
		if (done == n)
			break;
		step = n - done < SHRINK_STEP ? n - done : SHRINK_STEP;
		/* Caches first: freeing them costs no fault later. The loop ends when neither
		 * caches nor page-out free anything. */
		if (page_cache_drain(vm, step) == 0 && kmem_reap(vm) == 0 &&
		    pageout_reclaim(vm, step) == 0 && got == 0)
			break;
	}
	return done;
}
