/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that are made of several calls of the engine, on the program's own stack: process_madvise,
 * pkey_mprotect, shmat with SHM_REMAP, prctl(PR_SET_MM), futexes whose word the kernel changes, and
 * unshare and setns, which need a single-threaded process.
 *
 * The service thread is a second thread that the program did not make. The kernel refuses some
 * calls to processes with several threads: for these calls the service thread ends and is made
 * again afterwards, if the calling thread is the program's only thread. unshare and setns that
 * change the namespace of process numbers do not allow a new thread afterwards, so only the part of
 * such a call that needs a single thread is made without the service thread; the rest is made after
 * the service thread is back.
 *
 * Locks: none is held here.
 */
#include "run/compound.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/nsfs.h>
#include <linux/prctl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "run/args.h"
#include "run/calls.h"
#include "run/creds.h"
#include "run/text.h"
#include "run/host.h"
#include "sys/linux/sys.h"

/* ---- process_madvise ---- */
#define FEW 16u                   /* vectors that fit on the stack */
#define PIECES 1024u              /* UIO_MAXIOV: the kernel takes no more */
#define PIDFD_SELF_FIRST (-10001) /* PIDFD_SELF_THREAD_GROUP, PIDFD_SELF_THREAD */
#define PIDFD_SELF_LAST (-10000)
#define MADV_HWPOISON 100 /* these two must not be tried on the runtime's memory */
#define MADV_SOFT_OFFLINE 101

/*
 * The number after "Pid:" in the kernel's description of a descriptor; 0: the descriptor is not a
 * pidfd.
 */
static long pid_of(int fd)
{
	char path[40] = "/proc/self/fdinfo/", text[512], digits[12];
	size_t at = strlen(path), n = 0;
	long f, got;

	if (fd < 0)
		return 0;
	for (unsigned v = (unsigned)fd; n == 0 || v > 0; v /= 10)
		digits[n++] = (char)('0' + v % 10);
	while (n > 0)
		path[at++] = digits[--n];
	path[at] = '\0';
	f = sys_call4(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
	if (f < 0)
		return 0;
	got = sys_call3(SYS_read, f, (long)text, sizeof text - 1);
	(void)sys_call1(SYS_close, f);
	text[got > 0 ? got : 0] = '\0';
	const char *p = text;
	while (*p != '\0' && !text_starts(p, "\nPid:\t"))
		p++;
	return *p != '\0' ? (long)text_number(p + 6) : 0;
}

/* Does the descriptor name this process, or a thread of it? */
static bool names_self(int pidfd)
{
	long pid;

	if (pidfd >= PIDFD_SELF_FIRST && pidfd <= PIDFD_SELF_LAST)
		return true;
	pid = pid_of(pidfd);
	return pid > 0 && sys_call3(SYS_tgkill, sys_call0(SYS_getpid), pid, 0) == 0;
}

/*
 * The kernel's result of the advice for a page of the runtime: whether the kernel knows the advice
 * and permits it by this descriptor.
 */
static long try_advice(const long *a)
{
	long p = sys_call6(
		 SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
	     r;
	struct iovec page = { (void *)p, 4096 };

	if (sys_failed(p))
		return p;
	r = sys_call5(NR_process_madvise, a[5], (long)&page, 1, a[2], a[1]);
	(void)sys_call2(SYS_munmap, p, 4096);
	return r < 0 ? r : 0;
}

/* Advises the n vectors, which are in memory of the runtime, as the kernel does. */
static long advise_vectors(const long *a, const struct iovec *v, size_t n)
{
	long done = 0, r;

	for (size_t i = 0; i < n; i++)
		if ((long)v[i].iov_len < 0)
			return -EINVAL;
	while (n > 0 && v[n - 1].iov_len == 0) /* empty vectors at the end are not looked at */
		n--;
	if (a[2] != MADV_HWPOISON && a[2] != MADV_SOFT_OFFLINE && (r = try_advice(a)) != 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		if ((r = host_madvise(v[i].iov_base, v[i].iov_len, (int)a[2])) != 0)
			return done > 0 ? done : r;
		done += (long)v[i].iov_len;
	}
	return done;
}

/*
 * The kernel reads all vectors before it acts, and so does this function: the advice may be about
 * the list's own memory.
 */
long compound_process_madvise(const long *a)
{
	size_t n = (size_t)a[3], bytes = n * sizeof(struct iovec);
	struct iovec few[FEW], *v = few;
	long r = -EFAULT;

	if (n == 0 || n > PIECES || args_trusted() || !names_self((int)a[5]))
		return sys_call5(NR_process_madvise, a[5], a[4], a[3], a[2], a[1]);
	if (n > FEW) {
		r = sys_call6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (sys_failed(r))
			return r;
		v = (struct iovec *)r;
		r = -EFAULT;
	}
	if (args_read(v, (const void *)a[4], bytes))
		r = advise_vectors(a, v, n);
	if (n > FEW)
		(void)sys_call2(SYS_munmap, (long)v, (long)bytes);
	return r;
}

/* ---- keys ---- */
long compound_pkey_mprotect(const long *a)
{
	if (a[2] == -1) /* no key: as mprotect */
		return host_mprotect((void *)a[5], (size_t)a[4], (int)a[3]);
	if ((a[5] & 4095) == 0 && a[2] >= 0 && a[2] < 16)
		(void)host_release((void *)a[5], ((size_t)a[4] + 4095) & ~(size_t)4095);
	return sys_call4(SYS_pkey_mprotect, a[5], a[4], a[3], a[2]);
}

/* ---- System V shared memory ---- */
long compound_shmat(const long *a)
{
	struct shmid_ds ds;
	uint64_t at = (uint64_t)a[4];
	long flags = a[3], r;

	if ((flags & SHM_REMAP) == 0 || at == 0)
		return sys_call3(SYS_shmat, a[5], a[4], flags);
	if ((at & 4095) != 0 && (flags & SHM_RND) != 0)
		at &= ~4095ull;
	/* would the kernel attach it? Only then may the existing mappings be removed */
	if ((at & 4095) != 0 || sys_call3(SYS_shmctl, a[5], IPC_STAT, (long)&ds) != 0)
		return sys_call3(SYS_shmat, a[5], a[4], flags);
	r = sys_call3(SYS_shmat, a[5], 0, flags & ~(SHM_REMAP | SHM_RND));
	if (sys_failed(r))
		return r;
	(void)sys_call1(SYS_shmdt, r);
	return host_shmat(a[5], (void *)at, flags, ds.shm_segsz);
}

/* ---- the break ---- */
long compound_prctl_mm(const long *a)
{
	long r = sys_call5(SYS_prctl, a[5], a[4], a[3], a[2], a[1]);

	if (r == 0)
		host_brk_moved();
	return r;
}

/* ---- words of locks ---- */
#define FUTEX_TRIES 64u /* the page may be evicted again before the kernel reads it */

/*
 * When the kernel changes a futex's word itself, it faults without waiting; for a paged-out page
 * the result is EFAULT at once. A write that may wait brings the page in first; if no page can be
 * brought in, EFAULT is right.
 */
static bool bring_word(long at)
{
	return host_madvise((void *)(at & ~4095l), 4096, MADV_POPULATE_WRITE) == 0;
}

long compound_futex(const long *a)
{
	long op = a[4] & FUTEX_CMD_MASK, r;
	bool two = op == FUTEX_WAKE_OP || op == FUTEX_CMP_REQUEUE_PI || op == FUTEX_WAIT_REQUEUE_PI;

	for (unsigned tries = 0;; tries++) {
		r = sys_call6(SYS_futex, a[5], a[4], a[3], a[2], a[1], a[0]);
		if (r != -EFAULT || tries == FUTEX_TRIES || !bring_word(a[5]) ||
		    (two && !bring_word(a[1])))
			return r;
	}
}

/* ---- calls for a process of one thread ---- */
#define ALONE_NOTHING                                                                              \
	(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) /* a single-threaded process needs no change */
#define ALONE_SETNS (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME)
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

/* In another user namespace the process loses the rights that it had. */
static long change_users(long nr, long a0, long a1)
{
	long r = host_alone(nr, a0, a1);

	if (r == 0)
		creds_changed(true);
	return r;
}

static long unshare_split(long flags)
{
	long r;

	if (host_single())
		flags &= ~(long)ALONE_NOTHING;
	if ((flags & CLONE_NEWUSER) == 0)
		return sys_call1(SYS_unshare, flags);
	if ((flags & CLONE_NEWPID) == 0)
		return change_users(SYS_unshare, flags, 0);
	r = change_users(SYS_unshare, CLONE_NEWUSER, 0);
	return r != 0 ? r : sys_call1(SYS_unshare, flags & ~(long)CLONE_NEWUSER);
}

static long setns_one(long fd, long kinds, bool users)
{
	return users ? change_users(SYS_setns, fd, kinds) : host_alone(SYS_setns, fd, kinds);
}

/*
 * A descriptor of a namespace has one kind; a descriptor of a process is used with the kinds that
 * the caller passes.
 */
static long setns_split(long fd, long kinds)
{
	long kind = sys_call3(SYS_ioctl, fd, NS_GET_NSTYPE, 0), r;

	if (kind > 0)
		return (kind & ALONE_SETNS) != 0 ? setns_one(fd, kinds, kind == CLONE_NEWUSER)
						 : sys_call2(SYS_setns, fd, kinds);
	if ((kinds & ALONE_SETNS) == 0)
		return sys_call2(SYS_setns, fd, kinds);
	if ((kinds & CLONE_NEWPID) == 0)
		return setns_one(fd, kinds, (kinds & CLONE_NEWUSER) != 0);
	r = setns_one(fd, kinds & ~CLONE_NEWPID, (kinds & CLONE_NEWUSER) != 0);
	return r != 0 ? r : sys_call2(SYS_setns, fd, CLONE_NEWPID);
}

long compound_one_thread(long nr, const long *a)
{
	return nr == SYS_unshare ? unshare_split(a[5]) : setns_split(a[5], a[4]);
}
