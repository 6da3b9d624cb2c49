/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine's own memory, the reserves for it, and the return of memory to the kernel.
 *
 * Tables grow when a page is touched; at that time no call of the program can be refused any more.
 * A program may have all the mappings that a process may have (vm.max_map_count), all its address
 * space (RLIMIT_AS) or all its data (RLIMIT_DATA), as a program does that allocates until
 * allocation fails. So the first call sets two things aside:
 *
 *   a reserve, RESERVE bytes that are mapped and not touched: where mmap fails, memory is taken
 *   from it, and does not go back;
 *   SPARE mappings, pages of alternating protection, each a mapping of the kernel's: where
 *   registering or unregistering a range fails for want of one, as it splits a mapping, one is
 *   unmapped.
 *
 * Lock: none. Atomic counters hand out both.
 */
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"
#include "sys/linux/own.h"

#define SPARE 16u
#define Q_DONTNEED_LOCKED 24
/* Tables for a terabyte of memory that is used in order, or for 64,000 scattered ranges. */
#define RESERVE (16ull << 20)

static _Atomic uint32_t spare_left; /* spare mappings not given up yet */
static _Atomic uint64_t spare_base; /* address of the spare mappings; 0: there are none */

static _Atomic uint64_t reserve_base; /* 0: there is none */
static _Atomic uint64_t reserve_used; /* bytes */

static long map_own(uint64_t bytes)
{
	return sys_map_own(
	    bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void *take_reserve(uint64_t bytes)
{
	uint64_t used = atomic_load(&reserve_used);

	bytes = vm_page_round(bytes);
	do
		if (atomic_load(&reserve_base) == 0 || bytes > RESERVE - used)
			return NULL;
	while (!atomic_compare_exchange_weak(&reserve_used, &used, used + bytes));
	return (void *)(atomic_load(&reserve_base) + used);
}

static bool from_reserve(const void *p)
{
	uint64_t base = atomic_load(&reserve_base);

	return base != 0 && (uint64_t)p - base < RESERVE;
}

static void put_by(void)
{
	long p = sys_call6(SYS_mmap, 0, SPARE * VM_PAGESIZE, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t none = 0;

	if (sys_failed(p))
		return;
	if (!atomic_compare_exchange_strong(&spare_base, &none, (uint64_t)p)) {
		(void)sys_call2(SYS_munmap, p, SPARE * VM_PAGESIZE);
		return;
	}
	for (uint64_t i = 0; i < SPARE; i += 2)
		(void)sys_call3(SYS_mprotect, p + (long)vm_ptob(i), VM_PAGESIZE, PROT_READ);
	atomic_store(&spare_left, SPARE);
	p = map_own(RESERVE);
	if (!sys_failed(p))
		atomic_store(&reserve_base, (uint64_t)p);
}

bool linux_spare_mapping(void)
{
	uint32_t left = atomic_load(&spare_left);

	do
		if (left == 0)
			return false;
	while (!atomic_compare_exchange_weak(&spare_left, &left, left - 1));
	(void)sys_call2(
	    SYS_munmap, (long)(atomic_load(&spare_base) + vm_ptob(left - 1)), VM_PAGESIZE);
	return true;
}

/* Before Linux 5.18, locked memory drops its pages only while it is not locked. */
static void drop_mlocked(uint64_t addr, uint64_t len)
{
	if (sys_call3(SYS_madvise, (long)addr, (long)len, Q_DONTNEED_LOCKED) != -EINVAL)
		return;
	(void)sys_call2(SYS_munlock, (long)addr, (long)len);
	(void)sys_call3(SYS_madvise, (long)addr, (long)len, MADV_DONTNEED);
	(void)sys_call3(SYS_mlock2, (long)addr, (long)len, MLOCK_ONFAULT);
}

void linux_drop(uint64_t addr, uint64_t len)
{
	if (sys_call3(SYS_madvise, (long)addr, (long)len, MADV_DONTNEED) == -EINVAL)
		drop_mlocked(addr, len);
}

void *linux_mmap(uint64_t bytes)
{
	long p;

	if (atomic_load(&spare_base) == 0)
		put_by();
	p = map_own(bytes);
	return sys_failed(p) ? take_reserve(bytes) : (void *)p;
}

void linux_munmap(void *p, uint64_t bytes)
{
	if (p != NULL && from_reserve(p))
		linux_drop((uint64_t)p, vm_page_round(bytes));
	else if (p != NULL)
		(void)sys_call2(SYS_munmap, (long)p, (long)vm_page_round(bytes));
}
