/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages are there: what the kernel tells of its own page tables.
 *
 * PAGEMAP_SCAN (Linux 6.7, m_scan) goes over page tables and skips what is empty. On older kernels
 * the page map (/proc/self/pagemap) is read: eight bytes for each page, present or absent. A
 * process that changed its user may read neither. Such a process uses mincore, which reports pages
 * swapped out by the kernel as absent.
 *
 * The page of zeroes, which the kernel maps where a program only read, counts as present and takes
 * no memory.
 *
 * Lock: none.
 */
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

#define WINDOW 256u /* entries read together */

bool linux_read_map(const struct mach *m, uint64_t va, uint64_t n, uint64_t *e)
{
	long len = (long)(n * sizeof *e);

	return m->m_pagemap >= 0 &&
	    sys_call4(SYS_pread64, m->m_pagemap, (long)e, len, (long)(vm_btop(va) * 8)) == len;
}

bool linux_occupied(struct mach *m, uint64_t addr)
{
	uint64_t e;
	uint8_t in;

	if (m->m_pagemap < 0)
		return sys_call3(SYS_mincore, (long)addr, VM_PAGESIZE, (long)&in) == 0 &&
		    (in & 1) != 0;
	return linux_read_map(m, addr, 1, &e) && (e & PM_THERE) != 0;
}

/*
 * Used where the page map may not be read. Pages that the kernel has swapped out itself look
 * absent: they come back by themselves.
 */
static uint64_t present_by_mincore(uint64_t addr, uint64_t npages, uint64_t *bitmap)
{
	uint64_t count = 0, n;
	uint8_t in[256];

	for (uint64_t at = 0; at < npages; at += n) {
		n = npages - at < sizeof in ? npages - at : sizeof in;
		if (sys_call3(
			SYS_mincore, (long)(addr + vm_ptob(at)), (long)vm_ptob(n), (long)in) != 0)
			mach_panic("nobody tells which pages are present");
		for (uint64_t i = 0; i < n; i++)
			if ((in[i] & 1) != 0) {
				bitmap[(at + i) / 64] |= 1ull << ((at + i) % 64);
				count++;
			}
	}
	return count;
}

/* Without PAGEMAP_SCAN. */
static uint64_t present_by_map(struct mach *m, uint64_t addr, uint64_t npages, uint64_t *bitmap)
{
	uint64_t e[WINDOW], count = 0, n;

	for (uint64_t at = 0; at < npages; at += n) {
		n = npages - at < WINDOW ? npages - at : WINDOW;
		if (!linux_read_map(m, addr + vm_ptob(at), n, e))
			mach_panic("the page map cannot be read");
		for (uint64_t i = 0; i < n; i++)
			if ((e[i] & PM_THERE) != 0) {
				bitmap[(at + i) / 64] |= 1ull << ((at + i) % 64);
				count++;
			}
	}
	return count;
}

/*
 * The page of zeroes is neither a file's nor mapped once. A page shared with a forked process is
 * not mapped once either, so it is not counted.
 */
static uint64_t resident_by_map(struct mach *m, uint64_t addr, uint64_t npages)
{
	uint64_t e[WINDOW], count = 0, n;

	for (uint64_t at = 0; at < npages; at += n) {
		n = npages - at < WINDOW ? npages - at : WINDOW;
		if (!linux_read_map(m, addr + vm_ptob(at), n, e))
			return 0;
		for (uint64_t i = 0; i < n; i++)
			count += (e[i] & PM_PRESENT) != 0 && (e[i] & (PM_EXCLUSIVE | PM_FILE)) != 0;
	}
	return count;
}

uint64_t linux_range_resident(struct mach *m, uint64_t addr, uint64_t npages)
{
	struct q_region v[64];
	struct q_scan s = { .size = sizeof s,
		.start = addr,
		.end = addr + vm_ptob(npages),
		.vec = (uint64_t)v,
		.vec_len = 64,
		.category_inverted = Q_PAGE_PFNZERO,
		.category_mask = Q_PAGE_PRESENT | Q_PAGE_PFNZERO,
		.return_mask = Q_PAGE_PRESENT };
	uint64_t count = 0;

	if (!m->m_scan)
		return resident_by_map(m, addr, npages);
	while (s.start < s.end) {
		long n = scan_step(m, &s);

		if (n < 0)
			break;
		for (long i = 0; i < n; i++)
			count += vm_btop(v[i].end - v[i].start);
	}
	return count;
}

uint64_t linux_range_present(struct mach *m, uint64_t addr, uint64_t npages, uint64_t *bitmap)
{
	struct q_region v[64];
	struct q_scan s = { .size = sizeof s,
		.start = addr,
		.end = addr + vm_ptob(npages),
		.vec = (uint64_t)v,
		.vec_len = 64,
		.category_anyof_mask = Q_PAGE_PRESENT | Q_PAGE_SWAPPED,
		.return_mask = Q_PAGE_PRESENT };
	uint64_t count = 0;

	__builtin_memset(bitmap, 0, (npages + 63) / 64 * 8);
	if (m->m_pagemap < 0)
		return present_by_mincore(addr, npages, bitmap);
	if (!m->m_scan)
		return present_by_map(m, addr, npages, bitmap);
	while (s.start < s.end) {
		long n = scan_step(m, &s);

		if (n < 0)
			mach_panic("pagemap cannot be scanned");
		for (long i = 0; i < n; i++)
			for (uint64_t p = vm_btop(v[i].start - addr); p < vm_btop(v[i].end - addr);
			     p++, count++)
				bitmap[p / 64] |= 1ull << (p % 64);
	}
	return count;
}
