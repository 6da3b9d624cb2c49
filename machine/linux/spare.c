/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of the machine's own, and mappings put by for it.
 *
 * A process may have vm.max_map_count mappings, and a program may have all of them. Tables grow nevertheless: a page of one of
 * the program's mappings needs them at its first touch, when it is too late to refuse anything. So the first call puts
 * SPARE mappings by: pages of alternating protection, each a mapping of the kernel's. When a call of ours fails for want of
 * a mapping, one of them is unmapped, and the call is made once more.
 *
 * Lock: none. A spare mapping is taken by counting down.
 */
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

#define SPARE 16u

static _Atomic uint32_t spare_left; /* of them */
static _Atomic uint64_t spare_base; /* 0: none were put by */

static void put_by(void)
{
	long p = sys_call6(SYS_mmap, 0, SPARE * VM_PAGESIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t none = 0;

	if (p < 0 && p > -4096)
		return;
	if (!atomic_compare_exchange_strong(&spare_base, &none, (uint64_t)p)) {
		(void)sys_call2(SYS_munmap, p, SPARE * VM_PAGESIZE);
		return;
	}
	for (uint64_t i = 0; i < SPARE; i += 2)
		(void)sys_call3(SYS_mprotect, p + (long)vm_ptob(i), VM_PAGESIZE, PROT_READ);
	atomic_store(&spare_left, SPARE);
}

bool linux_spare_mapping(void)
{
	uint32_t left = atomic_load(&spare_left);

	do
		if (left == 0)
			return false;
	while (!atomic_compare_exchange_weak(&spare_left, &left, left - 1));
	(void)sys_call2(SYS_munmap, (long)(atomic_load(&spare_base) + vm_ptob(left - 1)), VM_PAGESIZE);
	return true;
}

void *linux_mmap(uint64_t bytes)
{
	unsigned tries = 0;
	long p;

	if (atomic_load(&spare_base) == 0)
		put_by();
	do
		p = sys_call6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	while (p == -ENOMEM && tries++ < LINUX_SPARE_TRIES && linux_spare_mapping());
	return p < 0 && p > -4096 ? NULL : (void *)p;
}

void linux_munmap(void *p, uint64_t bytes)
{
	if (p != NULL)
		(void)sys_call2(SYS_munmap, (long)p, (long)vm_page_round(bytes));
}
