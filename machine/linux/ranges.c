/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The address ranges in which faults are served, with their owners: a table, and the registration
 * of the ranges with the descriptor.
 *
 * Lock: m_rangelock for the table.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

/* Makes room for two more entries, unless the table has it. */
static bool ranges_grow(struct mach *m)
{
	struct ranges *s = &m->m_ranges;
	size_t max = s->room == 0 ? 170 : s->room * 2;

	if (s->n + 2 <= s->room)
		return true;
	struct range *r = linux_mmap(max * sizeof *r);

	if (r == NULL)
		return false;
	if (s->r != NULL) {
		__builtin_memcpy(r, s->r, s->n * sizeof *r);
		linux_munmap(s->r - s->front, s->room * sizeof *r);
	}
	*s = (struct ranges){ .r = r, .n = s->n, .room = max };
	return true;
}

int linux_range_register(struct mach *m, struct hat *hat, uint64_t addr, uint64_t len)
{
	int rc;

	len = vm_page_round(len);
	(void)sys_call3(SYS_madvise, (long)addr, (long)len, MADV_NOHUGEPAGE);
	mach_mutex_enter(&m->m_rangelock);
	rc = ranges_grow(m) && ranges_add(&m->m_ranges, addr, addr + len, hat)
	    ? uffd_register(m, addr, len, true)
	    : -ENOMEM;
	if (rc != 0)
		(void)ranges_remove(&m->m_ranges, addr, addr + len);
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
	(void)ranges_remove(&m->m_ranges, addr, addr + len);
	if (!mapping_goes)
		uffd_unregister(m, addr, len);
	mach_mutex_exit(&m->m_rangelock);
}

struct hat *linux_range_hat(struct mach *m, uint64_t addr)
{
	struct hat *h = NULL;
	size_t i;

	mach_mutex_enter(&m->m_rangelock);
	i = ranges_find(&m->m_ranges, addr);
	if (i < m->m_ranges.n && m->m_ranges.r[i].base <= addr)
		h = m->m_ranges.r[i].owner;
	mach_mutex_exit(&m->m_rangelock);
	return h;
}
