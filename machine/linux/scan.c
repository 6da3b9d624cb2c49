/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Written pages: the only use of a page that Linux tells a process about page by page.
 *
 * With UFFD_FEATURE_WP_ASYNC the kernel resolves a write to a protected page by itself, in a
 * microsecond, and PAGEMAP_SCAN tells which pages of a range are not protected, that is, were
 * written since they were protected last, and protects those in the same call: 0.2 to 1 ms for
 * 25,000 pages. So "written since the last scan" is a reference bit for written pages. The bit does
 * not tell of reads.
 *
 * The feature belongs to the descriptor: on such a machine write protection stops no writer, so no translation can keep writers
 * out. linux_config.write_bits asks for it where no space has copy-on-write or read-only pages of the core's making.
 *
 * A page that was moved in counts as written, so the scan tells nothing about the page until it is
 * protected. A move drops the protection; no information is lost, as unloading asks for the bit
 * before it moves the page.
 *
 * When: hat.c scans when the policy has asked about an eighth as many pages as are loaded since the
 * last scan. So scanning follows replacement, not the clock: eight scans a round of the hand, and
 * none while nothing is replaced. A page that was never protected has no known history, so the
 * first evictions would be in the order of arrival. Therefore `quire run` has all pages protected
 * once, when fifteen sixteenths of memory are taken (linux_expect_replacement). A program that uses
 * less memory than that is never scanned.
 *
 * A look is cheap. Protection costs a fault in the kernel for each page that the program still
 * writes to; these faults were the largest part of the cost of replacement (bench/parts.c: look_us,
 * write_us). So one scan in four protects, twice a round of the hand. The other scans only look. A
 * page found written for the first time since its protection was used since the last scan; the page
 * is *stale* from then on until it is protected again. Protection at every scan made about twice as
 * many of these faults and saved no page-in. Protection once a round made half as many and cost a
 * tenth more page-ins.
 *
 * Locks: m_hatlock is held by the caller, m_rangelock taken here.
 */
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

#define SCAN_PROTECT 1u /* matching pages are protected */
#define SCAN_ASYNC 2u   /* refuse ranges in which protection would stop a writer */

long scan_step(struct mach *m, struct q_scan *s)
{
	long n = sys_call3(SYS_ioctl, m->m_pagemap, (long)Q_PAGEMAP_SCAN, (long)s);

	if (n >= 0)
		s->start = s->walk_end > s->start ? s->walk_end : s->end;
	return n;
}

static bool scan_range(struct mach *m, const struct range *r, bool protect,
    void (*written)(struct hat *, uint64_t, uint64_t, bool))
{
	struct q_scan s = { .size = sizeof s,
		.flags = (protect ? SCAN_PROTECT : 0) | SCAN_ASYNC,
		.start = r->base,
		.end = r->end,
		.vec = (uint64_t)m->m_region,
		.vec_len = REGIONS,
		.category_mask = Q_PAGE_WRITTEN | Q_PAGE_PRESENT,
		.return_mask = Q_PAGE_WRITTEN };

	while (s.start < s.end) {
		long n = scan_step(m, &s);

		if (n < 0)
			return false;
		for (long i = 0; i < n; i++)
			written(r->owner, m->m_region[i].start, m->m_region[i].end, protect);
	}
	return true;
}

void linux_scan_written(struct mach *m, bool protect,
    void (*written)(struct hat *, uint64_t from, uint64_t end, bool protected))
{
	mach_mutex_enter(&m->m_rangelock);
	for (size_t i = 0; i < m->m_ranges.n; i++)
		(void)scan_range(m, &m->m_ranges.r[i], protect, written);
	mach_mutex_exit(&m->m_rangelock);
}
