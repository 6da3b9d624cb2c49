/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptors of the runtime in the program's table.
 *
 * The runtime's descriptors lie just above the program's soft limit: the program can neither be
 * given such a number nor ask for it with dup2. If the hard limit leaves no room there, they lie at
 * the top of the permitted numbers. Limits beyond MAXBASE are ignored: the kernel's descriptor
 * table of a process, copied at each fork, is as long as its highest number.
 *
 * While a descriptor gets its number the soft limit is higher than the program knows. limit_lock is held meanwhile: the program's
 * own calls about the limit (limits.c) and its forks wait for it. The thread that makes a process by vfork or posix_spawn does not, so
 * such a process may have the raised limit: before it executes a program it gets the limit of its parent (hostfd_exec).
 *
 * Lock: limit_lock; innermost, its holder has all signals blocked. The list has none: it changes in the constructor, in a forked child,
 * and where a process changes its store, by one thread.
 */
#include "run/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <quire/machine.h>

#include "run/text.h"
#include "sys/linux/sys.h"

#define MAXFDS 64
#define FDROOM 32
#define MAXBASE 4096
#define ASIDE 8 /* numbers at the top of the program's where hostfd_pair puts its sockets */
static int guarded[MAXFDS];
static unsigned nguarded;

/* -1, or the descriptor that is lent to a child. h_lock W writes it, all threads read it. */
static _Atomic int lent = -1;

static struct mach_mutex limit_lock;

/*
 * The soft limits of the last raise; raised_to is 0 if there was none, or the program has set the
 * limit since.
 */
static _Atomic uint64_t raised_from, raised_to;

void hostfd_limit_raised(uint64_t from, uint64_t to)
{
	atomic_store(&raised_from, from);
	atomic_store(&raised_to, to);
}

void hostfd_limit_set(void) { atomic_store(&raised_to, 0); }

void hostfd_exec(void)
{
	uint64_t from = atomic_load(&raised_from), to = atomic_load(&raised_to);
	struct rlimit own, parents;

	if (to == 0 || sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&own) != 0 ||
	    own.rlim_cur != to ||
	    sys_call4(SYS_prlimit64, sys_call0(SYS_getppid), RLIMIT_NOFILE, 0, (long)&parents) != 0)
		return;
	/* the parent has its own limit again, or is still raising it */
	if (parents.rlim_cur != from && parents.rlim_cur != to)
		return;
	own.rlim_cur = from;
	(void)sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&own, 0);
}

void hostfd_limit_enter(void) { mach_mutex_enter(&limit_lock); }
void hostfd_limit_exit(void) { mach_mutex_exit(&limit_lock); }
void hostfd_limit_forked(void) { mach_mutex_init(&limit_lock, 5, "descriptors"); }

/* Moves fd to the lowest free number from base on; returns the new number, or fd if none is free. */
static int move_from(int fd, long base)
{
	long n = fd >= base ? fd : sys_call3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, base);

	if (n < 0 || n == fd)
		return fd;
	(void)sys_call1(SYS_close, fd);
	return (int)n;
}

/* Moves fd above the numbers that the program can have; returns the new number, or fd if no number is free there. */
static int move_up(int fd)
{
	struct rlimit rl, more;
	long base = 1024;
	bool raised = false;

	hostfd_limit_enter();
	if (sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&rl) == 0) {
		base = rl.rlim_cur < MAXBASE ? (long)rl.rlim_cur : MAXBASE;
		more = rl;
		more.rlim_cur =
		    rl.rlim_cur + FDROOM < rl.rlim_max ? rl.rlim_cur + FDROOM : rl.rlim_max;
		if (base == (long)rl.rlim_cur) {
			hostfd_limit_raised(rl.rlim_cur, more.rlim_cur);
			raised = sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&more, 0) == 0;
			if ((long)more.rlim_cur < base + FDROOM)
				base = (long)more.rlim_cur - FDROOM;
		}
	}
	if (base < 3)
		base = 3;
	fd = move_from(fd, base);
	if (raised)
		(void)sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&rl, 0);
	hostfd_limit_exit();
	return fd;
}

long hostfd_pair(int s[2])
{
	struct rlimit rl = { 0 };
	long base, r;

	(void)sys_call4(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&rl);
	base = (rl.rlim_cur < MAXBASE ? (long)rl.rlim_cur : MAXBASE) - ASIDE;
	r = sys_call4(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)s);
	for (unsigned i = 0; r == 0 && base > 2 && i < 2; i++)
		s[i] = move_from(s[i], base);
	return r;
}

static int add_guarded(int n)
{
	if (hostfd_ours(n))
		return n;
	if (nguarded == MAXFDS)
		hostfd_prune();
	if (nguarded == MAXFDS)
		mach_panic("too many descriptors of the runtime");
	guarded[nguarded++] = n;
	return n;
}

int hostfd_guard(int fd) { return add_guarded(move_up(fd)); }

void hostfd_lend(int fd) { atomic_store(&lent, fd); }

void hostfd_unlend(void)
{
	int fd = atomic_exchange(&lent, -1);

	if (fd >= 0)
		(void)sys_call1(SYS_close, fd);
}

int hostfd_keep_lent(void) { return hostfd_guard(atomic_exchange(&lent, -1)); }

int hostfd_guard_kept(int fd)
{
	int n = hostfd_guard(fd);

	(void)sys_call3(SYS_fcntl, n, F_SETFD, 0);
	return n;
}

void hostfd_close_on_exec(int but)
{
	for (unsigned i = 0; i < nguarded; i++)
		(void)sys_call3(SYS_fcntl, guarded[i], F_SETFD, guarded[i] == but ? 0 : FD_CLOEXEC);
}

void hostfd_prune(void)
{
	for (unsigned i = nguarded; i-- > 0;)
		if (sys_call2(SYS_fcntl, guarded[i], F_GETFD) < 0)
			guarded[i] = guarded[--nguarded];
}

int hostfd_ours(int fd)
{
	for (unsigned i = 0; i < nguarded; i++)
		if (guarded[i] == fd)
			return 1;
	return fd >= 0 && fd == atomic_load(&lent);
}

/* Does the descriptor lie in [at, *stop]? Then *stop is its number. */
static int ends_range(int fd, unsigned at, unsigned *stop)
{
	if (fd < 0 || (unsigned)fd < at || (unsigned)fd > *stop)
		return 0;
	*stop = (unsigned)fd;
	return 1;
}

long hostfd_close_range(unsigned first, unsigned last, int flags)
{
	if (first > last)
		return -EINVAL;
	for (unsigned at = first;;) {
		unsigned stop = last;
		int hit = 0;

		for (unsigned i = 0; i < nguarded; i++)
			hit |= ends_range(guarded[i], at, &stop);
		hit |= ends_range(atomic_load(&lent), at, &stop);
		if (!hit || stop > at) {
			long r = sys_call3(SYS_close_range, at, hit ? stop - 1 : stop, flags);

			if (r != 0)
				return r;
		}
		if (!hit || stop == last)
			return 0;
		at = stop + 1;
	}
}

/*
 * Before Linux 5.9: closes the descriptors that the kernel lists, one by one, in ascending order.
 */
static void close_listed(void)
{
	_Alignas(8) char buf[1024];
	long got,
	    dir = sys_call4(SYS_openat, AT_FDCWD, (long)"/proc/thread-self/fd",
		O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	while (dir >= 0 && (got = sys_call3(SYS_getdents64, dir, (long)buf, sizeof buf)) > 0)
		for (long at = 0; at < got;) {
			uint16_t len; /* struct linux_dirent64: d_reclen at 16, d_name at 19 */
			long fd = (long)text_number(buf + at + 19);

			memcpy(&len, buf + at + 16, sizeof len);
			if (buf[at + 19] != '.' && fd != dir && !hostfd_ours((int)fd))
				(void)sys_call1(SYS_close, fd);
			at += len;
		}
	if (dir >= 0 && !hostfd_ours((int)dir))
		(void)sys_call1(SYS_close, dir);
}

void hostfd_only_ours(bool one_by_one)
{
	if (one_by_one || hostfd_close_range(0, ~0u, 0) != 0)
		close_listed();
}
