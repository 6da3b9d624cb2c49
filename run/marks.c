/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Marks on ranges of memory that the core's segments do not record, and that the kernel's mappings
 * do not record in a form that can be queried:
 *
 *   NOFORK    a forked child shall not have the memory (MADV_DONTFORK). The kernel copies the
 *             memory to the child all the same, and the child unmaps it before the program's code
 *             runs. Tracked memory only.
 *   SEALED    mseal: the kernel refuses changes. The memory is the kernel's; the mark tells a call
 *             so before the call forgets tracked ranges beside it. Never removed: seals last until
 *             the process executes another program.
 *   READONLY  the kernel's mapping is read-only, while the segment of the core is read-write.
 *             Tracked memory only.
 *   CLOSED    mapped without access, and never opened since: the range is empty, so it needs no
 *             segment. Programs have tens of thousands of such mappings, and a segment takes
 *             thirty times the memory of a range here.
 *   NORESERVE a CLOSED range will be reserved page by page when it is opened (SEGVN_NORESERVE).
 *   LOCKED    mlock: the range becomes locked in the core when the process becomes managed. A
 *             child does not inherit the mark.
 *   LOCKING   a call of mlockall has locked the range, which was not locked before; the mark is
 *             removed at the end of the call.
 *
 * Lock: h_marklock guards all marks. Rank: below h_lock and h_brklock, above the core's.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux.h"
#include "run/host.h"
#include "sys/linux/sys.h"

#define ROOM 65536u /* most ranges of one mark: a process has no more mappings */

bool host_mark(struct host *h, enum mark m, uint64_t base, uint64_t end)
{
	struct ranges *s = &h->h_mark[m];
	bool ok;

	mach_mutex_enter(&h->h_marklock);
	if (s->r == NULL) {
		struct range *r = linux_mmap(ROOM * sizeof *r);

		if (r != NULL)
			*s = (struct ranges){ .r = r, .room = ROOM };
	}
	ok = ranges_add(s, base, end, NULL);
	mach_mutex_exit(&h->h_marklock);
	return ok;
}

bool host_has_marks(const struct host *h, enum mark m)
{
	return __atomic_load_n(&h->h_mark[m].n, __ATOMIC_RELAXED) != 0;
}

bool host_unmark(struct host *h, enum mark m, uint64_t base, uint64_t end)
{
	bool ok;

	if (!host_has_marks(h, m))
		return true;
	mach_mutex_enter(&h->h_marklock);
	ok = ranges_remove(&h->h_mark[m], base, end);
	/* a child may have memory that it should not have, but never lacks memory */
	if (!ok && m == MARK_NOFORK)
		h->h_mark[m].n = 0;
	mach_mutex_exit(&h->h_marklock);
	return ok;
}

bool host_marked(struct host *h, enum mark m, uint64_t base, uint64_t end)
{
	if (!host_has_marks(h, m))
		return false;
	mach_mutex_enter(&h->h_marklock);
	bool yes = ranges_overlap(&h->h_mark[m], base, end);
	mach_mutex_exit(&h->h_marklock);
	return yes;
}

bool host_marked_at(struct host *h, enum mark m, uint64_t addr, uint64_t *end)
{
	const struct ranges *s = &h->h_mark[m];
	bool yes = false;

	if (!host_has_marks(h, m))
		return false;
	mach_mutex_enter(&h->h_marklock);
	size_t i = ranges_find(s, addr);
	if (i < s->n) {
		yes = s->r[i].base <= addr;
		uint64_t change = yes ? s->r[i].end : s->r[i].base;

		*end = change < *end ? change : *end;
	}
	mach_mutex_exit(&h->h_marklock);
	return yes;
}

bool host_next_marked(struct host *h, enum mark m, uint64_t addr, uint64_t end, struct range *r)
{
	const struct ranges *s = &h->h_mark[m];
	bool yes = false;

	if (!host_has_marks(h, m))
		return false;
	mach_mutex_enter(&h->h_marklock);
	size_t i = ranges_find(s, addr);
	if (i < s->n && s->r[i].base < end) {
		r->base = s->r[i].base > addr ? s->r[i].base : addr;
		r->end = s->r[i].end < end ? s->r[i].end : end;
		yes = true;
	}
	mach_mutex_exit(&h->h_marklock);
	return yes;
}

void host_nofork_to_kernel(struct host *h, uint64_t base, uint64_t end)
{
	uint64_t to;

	for (uint64_t a = base; a < end && host_has_marks(h, MARK_NOFORK); a = to) {
		to = end;
		if (host_marked_at(h, MARK_NOFORK, a, &to))
			(void)sys_call3(SYS_madvise, (long)a, (long)(to - a), MADV_DONTFORK);
	}
	(void)host_unmark(h, MARK_NOFORK, base, end);
}
