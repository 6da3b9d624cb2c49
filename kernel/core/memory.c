/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's memory: the one vm, the kernel's own space (kas), the kernel's objects, the stacks
 * of its threads.
 *
 * kas: [KAS_MIN, + 1 GiB) segkp (kernel stacks, wired, with redzones), then segkmem (for objects
 * that need addresses of their own).
 *
 * Locks: none of its own. Variables that memory_init sets, before there is a second thread or CPU,
 * are constant afterwards.
 */
#include "kernel/core/kernel.h"

#include <quire/policy.h>

#define KP_BYTES (1ull << 30)
#define STACK_FLAGS (KPD_REDZONE | KPD_LOCKED)

struct vm *the_vm;
struct as *the_kas;
static struct segkp *the_segkp;

void *kalloc(size_t n) { return kmem_alloc(the_vm, n, KM_SLEEP); }
void *kzalloc(size_t n) { return kmem_zalloc(the_vm, n, KM_SLEEP); }
void kfree(void *p, size_t n)
{
	if (p != NULL)
		kmem_free(the_vm, p, n);
}

bool stacks_ready(void) { return the_segkp != NULL; }

/*
 * Touches the pages of a stack in advance: where software sets modification bits, the first store
 * to a page traps, which must not happen on the stack in use.
 */
static void write_stack(vaddr_t va)
{
	for (uint64_t at = 0; at < STACK_BYTES; at += VM_PAGESIZE) {
		volatile uint8_t *p = (volatile uint8_t *)(uintptr_t)(va + at);

		*p = *p;
	}
}

bool stack_alloc(vaddr_t *va)
{
	if (segkp_get(the_segkp, STACK_BYTES, STACK_FLAGS, va) != VM_OK)
		return false;
	write_stack(*va);
	return true;
}
void stack_free(vaddr_t va) { segkp_release(the_segkp, va, STACK_BYTES, STACK_FLAGS); }
void stack_swapout(vaddr_t va) { (void)segkp_swapout(the_segkp, va, STACK_BYTES); }
enum vm_err stack_swapin(vaddr_t va)
{
	enum vm_err e = segkp_swapin(the_segkp, va, STACK_BYTES, STACK_FLAGS);

	if (e == VM_OK)
		write_stack(va);
	return e;
}

int err_of(enum vm_err e)
{
	static const uint8_t of[] = {
		[VM_OK] = 0,
		[VM_NOMAP] = EFAULT,
		[VM_PROT] = EFAULT,
		[VM_ACCESS] = EACCES,
		[VM_NOMEM] = ENOMEM,
		[VM_NOSWAP] = ENOMEM,
		[VM_IO] = EIO,
		[VM_EOF] = EFAULT,
		[VM_LOCKED] = EBUSY,
		[VM_INVAL] = EINVAL,
		[VM_EXIST] = EEXIST,
		[VM_NOTSUP] = EINVAL,
		[VM_LIMIT] = ENOMEM,
		[VM_RETRY] = EAGAIN,
	};

	return -(int)of[e];
}

void memory_init(void)
{
	struct vm_config vc = { .vc_mach = arch_machine() };
	char policy[32];
	enum vm_err e;
	uint64_t bytes;

	vc.vc_anon_max =
	    cmdline_number("anon_max", 256u << 10); /* 1 GiB of anonymous pages; 4 KiB of table */
	if ((vc.vc_policy = policy_find(
		 cmdline_get("policy", policy, sizeof(policy)) ? policy : "generations")) == NULL)
		kpanic("policy=%s: there is no such policy", policy);
	bytes = vm_boot_bytes(&vc, mach_caps(vc.vc_mach));
	arch_boot_reserve(bytes);
	vc.vc_frames = (pfn_t)arch_memory_pages();
	if ((e = vm_create(&vc, &the_vm)) != VM_OK)
		kpanic("vm_create: %s", vm_err_name(e));
	e = as_alloc(the_vm, mach_caps(vc.vc_mach)->mc_kernel_min,
	    mach_caps(vc.vc_mach)->mc_kernel_max, &the_kas);
	if (e != VM_OK)
		kpanic("the kernel's space: %s", vm_err_name(e));
	arch_load_space(NULL);
	if ((e = segkp_create(
		 the_kas, mach_caps(vc.vc_mach)->mc_kernel_min, KP_BYTES, &the_segkp)) != VM_OK)
		kpanic("segkp: %s", vm_err_name(e));
	kprintf("quire: %lu KiB of memory, %lu for the vm's tables, %u CPUs\n",
	    arch_memory_pages() * 4, bytes >> 10, mach_caps(vc.vc_mach)->mc_ncpus);
}
