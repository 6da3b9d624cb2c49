/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a forked child shall not have (MADV_DONTFORK), of the tracked ranges: engines of JavaScript say so of all their memory.
 * The kernel copies it to the child all the same, and the child unmaps it before anything of the program runs.
 *
 * Lock: h_noforklock guards h_nofork. Rank: below h_lock and h_brklock.
 */
#include "run/engine.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"
#include "run/host.h"

#define NOFORK_ROOM 16384u

bool host_nofork_add(struct host *h, uint64_t base, uint64_t end)
{
	bool ok;

	mach_mutex_enter(&h->h_noforklock);
	if (h->h_nofork.r == NULL) {
		long p = sys_call6(
		    SYS_mmap, 0, (long)(NOFORK_ROOM * sizeof(struct range)), RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p > 0 || p < -4096)
			h->h_nofork = (struct ranges){ (struct range *)p, 0, NOFORK_ROOM };
	}
	ok = ranges_add(&h->h_nofork, base, end);
	mach_mutex_exit(&h->h_noforklock);
	return ok;
}

void host_nofork_remove(struct host *h, uint64_t base, uint64_t end)
{
	if (__atomic_load_n(&h->h_nofork.n, __ATOMIC_RELAXED) == 0)
		return;
	mach_mutex_enter(&h->h_noforklock);
	if (!ranges_remove(&h->h_nofork, base, end))
		h->h_nofork.n =
		    0; /* so many that they are not to be counted: a child has more than it should rather than less */
	mach_mutex_exit(&h->h_noforklock);
}

bool host_nofork_overlaps(struct host *h, uint64_t base, uint64_t end)
{
	mach_mutex_enter(&h->h_noforklock);
	bool yes = ranges_overlap(&h->h_nofork, base, end);
	mach_mutex_exit(&h->h_noforklock);
	return yes;
}

/* The range is the kernel's from now on, and so is this. */
void host_nofork_to_kernel(struct host *h, uint64_t base, uint64_t end)
{
	const struct ranges *s = &h->h_nofork;

	if (__atomic_load_n(&s->n, __ATOMIC_RELAXED) == 0)
		return;
	mach_mutex_enter(&h->h_noforklock);
	for (size_t i = ranges_find(s, base); i < s->n && s->r[i].base < end; i++) {
		uint64_t a = s->r[i].base > base ? s->r[i].base : base, e = s->r[i].end < end ? s->r[i].end : end;

		(void)sys_call3(SYS_madvise, (long)a, (long)(e - a), MADV_DONTFORK);
	}
	mach_mutex_exit(&h->h_noforklock);
	host_nofork_remove(h, base, end);
}

void host_drop_nofork(struct host *h)
{
	while (h->h_nofork.n > 0) {
		struct range gone = h->h_nofork.r[0];

		(void)call_munmap(h, (long)gone.base, (long)(gone.end - gone.base));
		host_nofork_remove(h, gone.base, gone.end);
	}
}
