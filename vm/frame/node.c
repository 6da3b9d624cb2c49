/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that is nearer to some CPUs than to others (NUMA).
 *
 * A node is a run of frames and the CPUs beside it, as the machine names them (mc_nnodes). A page gets a frame of the node whose
 * CPU touches it first, if that has one near the heads of the free lists; otherwise any: a far frame is better than a page-out. What
 * was placed badly, or whose user has moved to another CPU, is moved (vm/as/as_node.c): contents and name stay, the frame is another.
 *
 * Locks: vm_freelock for the lists. After Solaris' locality groups (lgrp); left out: hierarchies of nodes, nodes of kernel memory.
 */
#include "vm/impl.h"

#define NODE_SCAN 64u /* blocks of each list looked at */

unsigned vm_node_of(const struct vm *vm, pfn_t pfn)
{
	unsigned node = 0;

	while (node + 1 < vm->vm_caps->mc_nnodes && pfn >= vm->vm_caps->mc_nodeend[node])
		node++;
	return node;
}

/* A frame of [lo, hi) in a free block near the head of a list, the smallest blocks first. vm_freelock held. */
static pfn_t find_locked(const struct vm *vm, pfn_t lo, pfn_t hi)
{
	VM_ASSERT(mach_mutex_held(&vm->vm_freelock));
	for (unsigned k = 0; k <= VM_MAXORDER; k++) {
		uint32_t i = vm->vm_buddy[k].q_head;

		for (unsigned n = 0; i != PAGE_NIL && n < NODE_SCAN;
		     n++, i = vm->vm_pages[i].p_next)
			if (i < hi && i + (1u << k) > lo)
				return i > lo ? i : lo;
	}
	return PFN_INVALID;
}

pfn_t numa_alloc(struct vm *vm, unsigned node, uint32_t floor)
{
	pfn_t lo = node == 0 ? 0 : vm->vm_caps->mc_nodeend[node - 1],
	      hi = vm->vm_caps->mc_nodeend[node], pfn = PFN_INVALID;

	mach_mutex_enter(&vm->vm_freelock);
	if (vm->vm_nfree > floor && (pfn = find_locked(vm, lo, hi)) != PFN_INVALID) {
		(void)buddy_remove_frame_locked(vm, pfn);
		vm->vm_nfree--;
	}
	mach_mutex_exit(&vm->vm_freelock);
	return pfn;
}

unsigned vm_node_here(const struct vm *vm)
{
	return vm->vm_caps->mc_cpunode[mach_cpu_id() % vm->vm_caps->mc_ncpus];
}

pfn_t numa_alloc_here(struct vm *vm, uint32_t floor)
{
	pfn_t pfn = numa_alloc(vm, vm_node_here(vm), floor);

	if (pfn != PFN_INVALID)
		VM_STAT(vm, node_local);
	else
		VM_STAT(vm, node_remote);
	return pfn;
}
