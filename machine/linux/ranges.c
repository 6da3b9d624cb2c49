/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ranges of addresses that faults are served in, and whose they are: a sorted table, and their registration with the descriptor.
 *
 * Lock: m_rangelock for the table.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

/* Makes room for two more, unless there is. */
static bool ranges_grow(struct mach *m)
{
	size_t max = m->m_maxrange == 0 ? 170 : m->m_maxrange * 2;

	if (m->m_nrange + 2 <= m->m_maxrange)
		return true;
	struct linux_range *r = linux_mmap(max * sizeof *r);

	if (r == NULL)
		return false;
	if (m->m_range != NULL) {
		__builtin_memcpy(r, m->m_range, m->m_nrange * sizeof *r);
		linux_munmap(m->m_range - m->m_range_front, m->m_maxrange * sizeof *r);
	}
	m->m_range = r;
	m->m_range_front = 0;
	m->m_maxrange = max;
	return true;
}

/* The first range that ends above addr. */
static size_t range_at(const struct mach *m, uint64_t addr)
{
	size_t lo = 0, hi = m->m_nrange;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (m->m_range[mid].r_end > addr)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Opens a place at i, or closes the one there, by moving what is below or above, whichever is less. */
static void ranges_shift(struct mach *m, size_t i, bool open)
{
	size_t above = m->m_nrange - i - (open ? 0 : 1);
	bool below = i < above;

	if (open)
		below = m->m_maxrange == m->m_range_front + m->m_nrange ||
		    (below && m->m_range_front > 0);
	if (below && open) {
		__builtin_memmove(m->m_range - 1, m->m_range, i * sizeof *m->m_range);
		m->m_range--;
		m->m_range_front--;
	} else if (below) {
		__builtin_memmove(m->m_range + 1, m->m_range, i * sizeof *m->m_range);
		m->m_range++;
		m->m_range_front++;
	} else if (open) {
		__builtin_memmove(m->m_range + i + 1, m->m_range + i, above * sizeof *m->m_range);
	} else {
		__builtin_memmove(m->m_range + i, m->m_range + i + 1, above * sizeof *m->m_range);
	}
	m->m_nrange += open ? 1u : -(size_t)1;
}

/* Takes [a, e) out of the table. There is room for one more: a hole in the middle splits. */
static void ranges_cut(struct mach *m, uint64_t a, uint64_t e)
{
	size_t i = range_at(m, a);

	while (i < m->m_nrange && m->m_range[i].r_base < e) {
		struct linux_range *r = &m->m_range[i];

		if (r->r_base < a && r->r_end > e) {
			struct linux_range whole = *r;

			ranges_shift(m, i, true);
			m->m_range[i] = (struct linux_range){ whole.r_base, a, whole.r_hat };
			m->m_range[i + 1] = (struct linux_range){ e, whole.r_end, whole.r_hat };
			return;
		}
		if (r->r_base < a)
			(r->r_end = a), i++;
		else if (r->r_end > e)
			(r->r_base = e), i++;
		else
			ranges_shift(m, i, false);
	}
}

static bool ranges_add(struct mach *m, uint64_t a, uint64_t e, struct hat *hat)
{
	size_t i;

	if (!ranges_grow(m))
		return false;
	ranges_cut(m, a, e);
	i = range_at(m, a);
	if (i > 0 && m->m_range[i - 1].r_end == a && m->m_range[i - 1].r_hat == hat) {
		m->m_range[i - 1].r_end = e;
		if (i < m->m_nrange && m->m_range[i].r_base == e && m->m_range[i].r_hat == hat) {
			m->m_range[i - 1].r_end = m->m_range[i].r_end;
			ranges_shift(m, i, false);
		}
		return true;
	}
	if (i < m->m_nrange && m->m_range[i].r_base == e && m->m_range[i].r_hat == hat) {
		m->m_range[i].r_base = a;
		return true;
	}
	ranges_shift(m, i, true);
	m->m_range[i] = (struct linux_range){ a, e, hat };
	return true;
}

int linux_range_register(struct mach *m, struct hat *hat, uint64_t addr, uint64_t len)
{
	int rc;

	len = vm_page_round(len);
	(void)sys_call3(SYS_madvise, (long)addr, (long)len, MADV_NOHUGEPAGE);
	mach_mutex_enter(&m->m_rangelock);
	rc = ranges_add(m, addr, addr + len, hat) ? uffd_register(m, addr, len, true) : -ENOMEM;
	if (rc != 0)
		ranges_cut(m, addr, addr + len);
	mach_mutex_exit(&m->m_rangelock);
	return rc;
}

void linux_range_unregister(
    struct mach *m, struct hat *hat, uint64_t addr, uint64_t len, bool mapping_goes)
{
	(void)hat;
	len = vm_page_round(len);
	mach_mutex_enter(&m->m_rangelock);
	if (!ranges_grow(m))
		mach_panic("no memory for the table of ranges");
	ranges_cut(m, addr, addr + len);
	if (!mapping_goes)
		uffd_unregister(m, addr, len);
	mach_mutex_exit(&m->m_rangelock);
}

struct hat *linux_range_hat(struct mach *m, uint64_t addr)
{
	struct hat *h = NULL;
	size_t i;

	mach_mutex_enter(&m->m_rangelock);
	i = range_at(m, addr);
	if (i < m->m_nrange && m->m_range[i].r_base <= addr)
		h = m->m_range[i].r_hat;
	mach_mutex_exit(&m->m_rangelock);
	return h;
}
