/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RLIMIT_AS and RLIMIT_DATA, which the program sets and reads while it runs. The kernel counts
 * mappings of the runtime (frames, the store, tables) together with the program's. So the kernel's
 * limit is the program's limit plus the runtime's part, and the program reads back the limit that
 * it set. A limit that was set before the program started is returned unchanged.
 *
 * The runtime's part is the growth of the process during the runtime's start, by the kernel's
 * count, and the library itself.
 *
 * Lock: limits_lock guards the limits recorded here; innermost. Its holder blocks all signals, as a
 * handler may read limits, too. A fork holds the lock, so that the child finds the lock free and
 * the recorded limits consistent.
 */
#include "run/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "run/args.h"
#include "run/assert.h"
#include "run/host.h"
#include "sys/linux/sys.h"

enum { AS, DATA, KINDS };
static uint64_t part[KINDS]; /* bytes; const after limits_end */
/*
 * limits_lock: the limit that the program set, and the limit given to the kernel for it. If the
 * kernel now has another limit, another process set it.
 */
static struct rlimit told[KINDS], given[KINDS];
static bool was_told[KINDS];
static struct mach_mutex limits_lock;

void limits_fork_begin(void)
{
	mach_mutex_enter(&limits_lock);
	hostfd_limit_enter();
}

void limits_fork_end(void)
{
	hostfd_limit_exit();
	mach_mutex_exit(&limits_lock);
}

void limits_forked(void)
{
	mach_mutex_init(&limits_lock, 4, "limits");
	hostfd_limit_forked();
}

/* Pages of address space and of data. */
static void count_pages(uint64_t n[KINDS])
{
	char text[256];
	long fd = sys_call4(SYS_openat, -100 /* AT_FDCWD */, (long)"/proc/thread-self/statm",
		 O_RDONLY | O_CLOEXEC, 0),
	     got;
	uint64_t v[7] = { 0 };
	unsigned at = 0;

	n[AS] = n[DATA] = 0;
	if (fd < 0)
		return;
	got = sys_call3(SYS_read, fd, (long)text, sizeof text);
	(void)sys_call1(SYS_close, fd);
	for (long i = 0; i < got && at < 7; i++)
		if (text[i] >= '0' && text[i] <= '9')
			v[at] = v[at] * 10 + (uint64_t)(text[i] - '0');
		else
			at++;
	n[AS] = v[0];
	n[DATA] = v[5];
}

void limits_begin(void) { count_pages(part); }

extern const char __ehdr_start[] __attribute__((visibility("hidden"))),
    _end[] __attribute__((visibility("hidden")));

void limits_end(void)
{
	uint64_t now[KINDS],
	    library = ((uint64_t)(uintptr_t)_end - (uint64_t)(uintptr_t)__ehdr_start) / 4096;

	count_pages(now);
	for (unsigned k = 0; k < KINDS; k++)
		part[k] = now[k] == 0 ? 0 : (now[k] - part[k] + library) * 4096;
}

static rlim_t add_part(rlim_t v, unsigned kind)
{
	return v > RLIM_INFINITY - part[kind] ? RLIM_INFINITY : v + part[kind];
}

/* The kernel's limit for the limit that the program sets. limits_lock held. */
static struct rlimit to_kernel(const struct rlimit *want, const struct rlimit *have, unsigned kind)
{
	const struct rlimit *known = was_told[kind] ? &told[kind] : have;
	struct rlimit k = { add_part(want->rlim_cur, kind), add_part(want->rlim_max, kind) };

	HOST_ASSERT(mach_mutex_held(&limits_lock));
	if (want->rlim_max <= known->rlim_max && k.rlim_max > have->rlim_max)
		k.rlim_max = have->rlim_max; /* keeping the hard limit needs no privilege */
	/* the kernel treats a soft RLIMIT_DATA of 0 as the hard limit, for valgrind */
	if (k.rlim_cur > k.rlim_max)
		k.rlim_cur = k.rlim_max;
	if (kind == DATA && want->rlim_cur == 0)
		k.rlim_cur = 0;
	return k;
}

/* limits_lock held. */
static long set_and_get(unsigned kind, int resource, const struct rlimit *set, struct rlimit *get)
{
	struct rlimit have, k;
	long r = sys_call4(SYS_prlimit64, 0, resource, 0, (long)&have);

	HOST_ASSERT(mach_mutex_held(&limits_lock));
	if (r != 0)
		return r;
	was_told[kind] &=
	    have.rlim_cur == given[kind].rlim_cur && have.rlim_max == given[kind].rlim_max;
	*get = was_told[kind] ? told[kind] : have;
	if (set == NULL)
		return 0;
	if (set->rlim_cur > set->rlim_max)
		return -EINVAL;
	k = to_kernel(set, &have, kind);
	if ((r = sys_call4(SYS_prlimit64, 0, resource, (long)&k, 0)) != 0)
		return r;
	told[kind] = *set;
	given[kind] = k;
	was_told[kind] = true;
	return 0;
}

/* All signals are blocked. */
static long call_by_kind(int resource, const struct rlimit *set, struct rlimit *get)
{
	long r;

	if (resource == RLIMIT_NOFILE) {
		hostfd_limit_enter();
		r = sys_call4(SYS_prlimit64, 0, resource, (long)set, (long)get);
		if (r == 0 && set != NULL)
			hostfd_limit_set();
		hostfd_limit_exit();
		return r;
	}
	mach_mutex_enter(&limits_lock);
	r = set_and_get(resource == RLIMIT_AS ? AS : DATA, resource, set, get);
	mach_mutex_exit(&limits_lock);
	return r;
}

/*
 * Reads or writes a limit of the program's. Where the kernel cannot be asked about an address (args.c),
 * prlimit64 tells, the program's own call: it reads a limit before it looks for which resource it
 * is, and writes one.
 */
static bool read_limit(struct rlimit *to, const struct rlimit *set)
{
	return !(args_unchecked() &&
		   sys_call4(SYS_prlimit64, 0, RLIM_NLIMITS, (long)set, 0) == -EFAULT) &&
	    args_read(to, set, sizeof *to);
}

static bool write_limit(struct rlimit *get, const struct rlimit *from, int resource)
{
	return !(args_unchecked() && sys_call4(SYS_prlimit64, 0, resource, 0, (long)get) != 0) &&
	    args_write(get, from, sizeof *from);
}

long limits_call(int pid, int resource, const struct rlimit *set, struct rlimit *get)
{
	struct rlimit want, old;
	uint64_t all = ~0ull, mask;
	long r;

	if ((resource != RLIMIT_AS && resource != RLIMIT_DATA && resource != RLIMIT_NOFILE) ||
	    (pid != 0 && pid != (int)sys_call0(SYS_getpid)))
		return sys_call4(SYS_prlimit64, pid, resource, (long)set, (long)get);
	if (set != NULL && !read_limit(&want, set))
		return -EFAULT;
	(void)sys_call4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&all, (long)&mask, 8);
	r = call_by_kind(resource, set != NULL ? &want : NULL, &old);
	(void)sys_call4(SYS_rt_sigprocmask, 2, (long)&mask, 0, 8);
	if (r == 0 && get != NULL && !write_limit(get, &old, resource))
		return -EFAULT;
	return r;
}
