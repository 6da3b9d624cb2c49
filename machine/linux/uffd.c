/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault descriptor (userfaultfd) of the Linux machine and its requests. What is registered with it is in ranges.c, the faults that it
 * tells of are served in serve.c.
 *
 * The arena is registered for write protection only: pages may be moved into it (the kernel wants both ends under the same
 * descriptor), but its holes are filled by the kernel, so touching a frame never faults to us.
 *
 * Pitfalls: MOVE may answer EEXIST although it moved the page (look where the page is); EBUSY for
 * pinned pages and for pages shared with another process after fork; registration and write
 * protection are lost in a forked child, whose inherited descriptor acts on the parent. Every retry
 * is bounded.
 *
 * Left out: UFFD_FEATURE_EVENT_REMOVE, by which the kernel would report an madvise() of the program
 * that no runtime saw. With this feature MADV_DONTNEED on any registered range, the arena included,
 * does not return before a thread has read the report. The runtime drops pages and frames by the
 * same call, in the thread that reads the descriptor, with locks of the HAT held.
 *
 * Locks: none.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

/* Numbers of the kernel's interface that the headers of older distributions lack. */
struct q_move {
	uint64_t dst, src, len, mode;
	int64_t move;
};
struct q_poison {
	uint64_t start, len, mode;
	int64_t updated;
};
#define Q_MOVE _IOWR(0xAA, 0x05, struct q_move)
#define Q_MOVE_DONTWAKE 1u /* no thread waits for a page of the arena */
#define Q_POISON _IOWR(0xAA, 0x08, struct q_poison)
#define Q_FEATURE_POISON (1ull << 14)
#define Q_FEATURE_WP_ASYNC (1ull << 15)
#define Q_FEATURE_MOVE (1ull << 16)
#define Q_USER_MODE_ONLY 1
#define Q_COPY_MODE_WP (1ull << 1)
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define RETRIES 100000u

static long uffd_request(struct mach *m, unsigned long req, void *arg)
{
	return sys_call3(SYS_ioctl, m->m_uffd, (long)req, (long)arg);
}

/* ENOSYS may come from a tool that imitates the kernel (valgrind), in which no process can be served, or from a container's filter. */
static bool is_filtered(void) { return sys_call5(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) == 2; }

/*
 * The system call needs privilege unless a sysctl permits it to all users, and most containers
 * forbid the call. The device needs only the rights of its file mode; a descriptor of the device
 * works in any process that received it, also after the program gave up its rights.
 */
static long new_descriptor(struct mach *m)
{
	long flags = O_CLOEXEC | O_NONBLOCK | (m->m_cfg.inline_faults ? Q_USER_MODE_ONLY : 0);
	long fd = sys_call1(SYS_userfaultfd, flags), dev = m->m_cfg.device_fd;

	if (fd == -EINVAL) { /* before Linux 5.11 no descriptor was for faults in user mode only */
		flags &= ~Q_USER_MODE_ONLY;
		fd = sys_call1(SYS_userfaultfd, flags);
	}
	if (fd >= 0 || (fd != -EPERM && !(fd == -ENOSYS && is_filtered())))
		return fd;
	if (dev <= 0)
		dev = sys_call4(
		    SYS_openat, AT_FDCWD, (long)"/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
	if (dev < 0)
		return fd;
	fd = sys_call3(SYS_ioctl, dev, USERFAULTFD_IOC_NEW, flags);
	if (dev != m->m_cfg.device_fd)
		(void)sys_call1(SYS_close, dev);
	return fd;
}

/* Is PAGEMAP_SCAN there? The kernel is asked by a call on a range of no pages. */
static bool can_scan(const struct mach *m)
{
	struct q_scan s = { .size = sizeof s,
		.start = (uint64_t)m->m_arena,
		.end = (uint64_t)m->m_arena,
		.category_mask = Q_PAGE_PRESENT,
		.return_mask = Q_PAGE_PRESENT };

	return m->m_pagemap >= 0 &&
	    sys_call3(SYS_ioctl, m->m_pagemap, (long)Q_PAGEMAP_SCAN, (long)&s) == 0;
}

/*
 * Agrees with the kernel on the features of the descriptor, from most to fewest: an older kernel
 * refuses features that it does not know, and the descriptor stays as it was. Write bits need pages
 * that move: without moves, page-out needs write protection that makes writers wait.
 */
static int agree_features(struct mach *m)
{
	static const uint64_t much[] = { Q_FEATURE_MOVE | Q_FEATURE_POISON | Q_FEATURE_WP_ASYNC,
		Q_FEATURE_MOVE | Q_FEATURE_POISON, Q_FEATURE_POISON, 0 };
	uint32_t without = m->m_cfg.without;
	uint64_t mask = ((without & SYS_MOVE) == 0 ? Q_FEATURE_MOVE : 0) |
	    ((without & SYS_POISON) == 0 ? Q_FEATURE_POISON : 0) |
	    (m->m_scan && m->m_cfg.write_bits ? Q_FEATURE_WP_ASYNC : 0);
	uint64_t got = 0;
	long r = -EINVAL;

	for (unsigned i = 0; r == -EINVAL && i < sizeof much / sizeof *much; i++) {
		struct uffdio_api api = { .api = UFFD_API,
			.features = (much[i] & mask) | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			    (m->m_cfg.inline_faults ? UFFD_FEATURE_SIGBUS
						    : UFFD_FEATURE_THREAD_ID) };

		if ((api.features & Q_FEATURE_MOVE) == 0)
			api.features &= ~Q_FEATURE_WP_ASYNC;
		got = api.features;
		r = uffd_request(m, UFFDIO_API, &api);
		got &= api.features;
	}
	m->m_move = (got & Q_FEATURE_MOVE) != 0;
	m->m_poison = (got & Q_FEATURE_POISON) != 0;
	m->m_write_bits = (got & Q_FEATURE_WP_ASYNC) != 0;
	if (r != 0)
		return (int)r;
	return (got & UFFD_FEATURE_PAGEFAULT_FLAG_WP) != 0 ? 0 : -EINVAL;
}

int uffd_open(struct mach *m)
{
	long fd = new_descriptor(m);
	int rc;

	if (fd < 0)
		return (int)fd;
	m->m_uffd = linux_guard_fd(m, fd);
	fd = sys_call4(
	    SYS_openat, AT_FDCWD, (long)"/proc/thread-self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	m->m_pagemap = fd >= 0 ? linux_guard_fd(m, fd)
			       : -1; /* a process that changed its user may not read it */
	m->m_scan = (m->m_cfg.without & SYS_SCAN) == 0 && can_scan(m);
	if ((rc = agree_features(m)) != 0)
		return rc;
	return uffd_register(m, (uint64_t)m->m_arena, vm_ptob(m->m_cfg.frames), false);
}

void uffd_close(struct mach *m)
{
	if (m->m_uffd >= 0)
		(void)sys_call1(SYS_close, m->m_uffd);
	if (m->m_pagemap >= 0)
		(void)sys_call1(SYS_close, m->m_pagemap);
	m->m_uffd = m->m_pagemap = -1;
}

int uffd_register(struct mach *m, uint64_t addr, uint64_t len, bool missing)
{
	struct uffdio_register reg = { .range = { addr, len },
		.mode = UFFDIO_REGISTER_MODE_WP | (missing ? UFFDIO_REGISTER_MODE_MISSING : 0) };

	unsigned tries = 0;
	long r;

	do
		r = uffd_request(m, UFFDIO_REGISTER, &reg);
	while (r == -ENOMEM && tries++ < LINUX_SPARE_TRIES && linux_spare_mapping());
	return (int)r;
}

void uffd_unregister(struct mach *m, uint64_t addr, uint64_t len)
{
	struct uffdio_range r = { addr, len };

	for (unsigned i = 0; uffd_request(m, UFFDIO_UNREGISTER, &r) == -ENOMEM &&
	     i < LINUX_SPARE_TRIES && linux_spare_mapping();
	     i++)
		;
}

/*
 * Judges the result of one step of a MOVE or COPY. 1: go on; 0: all done; or -errno. Bounds EAGAIN.
 */
static int step_result(long r, int64_t got, uint64_t len, uint64_t *done, unsigned *tries)
{
	if (got > 0) {
		*done += (uint64_t)got;
		*tries = 0;
	}
	if (*done >= len)
		return 0;
	if (r == 0)
		return 1;
	if (r != -EAGAIN || ++*tries > RETRIES)
		return (int)r;
	if (*tries > 4)
		mach_yield();
	return 1;
}

/*
 * The kernel is about to fill that range. After that the waiting thread may run before the server,
 * on the same CPU.
 */
static void note_filling(struct mach *m, uint64_t dst, uint64_t len)
{
	if (atomic_load_explicit(&m->m_waited, memory_order_relaxed) - dst < len)
		atomic_store_explicit(&m->m_filled_ns, mach_time_ns(), memory_order_relaxed);
}

/* The kernel has filled that range, and woken the threads that waited for it. */
static void note_woken(struct mach *m, uint64_t dst, int64_t len)
{
	if (len > 0 &&
	    atomic_load_explicit(&m->m_waited, memory_order_relaxed) - dst < (uint64_t)len)
		atomic_store_explicit(&m->m_waited, 0, memory_order_relaxed);
}

int uffd_move(struct mach *m, uint64_t dst, uint64_t src, uint64_t len, uint64_t *done)
{
	unsigned tries = 0;
	int s = 1;

	for (*done = 0; s > 0;) {
		struct q_move mv = { dst + *done, src + *done, len - *done,
			dst - (uint64_t)m->m_arena < vm_ptob(m->m_cfg.frames) ? Q_MOVE_DONTWAKE : 0,
			0 };
		long r;

		note_filling(m, mv.dst, mv.len);
		r = uffd_request(m, Q_MOVE, &mv);

		note_woken(m, dst + *done, mv.move);
		if (r == -EEXIST && mv.move <= 0 && !linux_occupied(m, src + *done) &&
		    linux_occupied(m, dst + *done)) {
			r = 0;
			mv.move = VM_PAGESIZE; /* the page has moved, although the call failed */
		}
		s = step_result(r, mv.move, len, done, &tries);
	}
	return s;
}

int uffd_copy(
    struct mach *m, uint64_t dst, uint64_t src, uint64_t len, bool protect, uint64_t *done)
{
	unsigned tries = 0;
	int s = 1;

	for (*done = 0; s > 0;) {
		struct uffdio_copy cp = { .dst = dst + *done,
			.src = src + *done,
			.len = len - *done,
			.mode = protect ? Q_COPY_MODE_WP : 0 };
		long r;

		note_filling(m, cp.dst, cp.len);
		r = uffd_request(m, UFFDIO_COPY, &cp);

		note_woken(m, dst + *done, cp.copy);
		s = step_result(r, cp.copy, len, done, &tries);
	}
	return s;
}

int uffd_protect(struct mach *m, uint64_t addr, uint64_t len, bool on)
{
	struct uffdio_writeprotect wp = { .range = { addr, len },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };
	unsigned tries = 0;
	long r;

	if (m->m_write_bits)
		return 0; /* such protection stops no writer */
	while ((r = uffd_request(m, UFFDIO_WRITEPROTECT, &wp)) == -EAGAIN && ++tries < RETRIES)
		mach_yield();
	return (int)r;
}

/*
 * Before Linux 6.6 no page can be poisoned. A page behind the end of a file gives SIGBUS, too: such
 * a mapping takes the lost page's place. The address stays in the machine's table of ranges, which
 * does no harm: the next load finds no missing page there.
 */
static int map_nothing(uint64_t addr)
{
	long fd = sys_call2(SYS_memfd_create, (long)"nothing", MFD_CLOEXEC), r;

	if (fd < 0)
		return (int)fd;
	r = sys_call6(SYS_mmap, (long)addr, VM_PAGESIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_FIXED, fd, 0);
	(void)sys_call1(SYS_close, fd);
	return sys_failed(r) ? (int)r : 0;
}

int uffd_poison(struct mach *m, uint64_t addr)
{
	struct q_poison po = { .start = addr, .len = VM_PAGESIZE };
	unsigned tries = 0;
	long r;

	if (!m->m_poison)
		return map_nothing(addr);
	while ((r = uffd_request(m, Q_POISON, &po)) == -EAGAIN && ++tries < RETRIES)
		mach_yield();
	return (int)r;
}

void uffd_wake(struct mach *m, uint64_t addr, uint64_t len)
{
	struct uffdio_range r = { addr, len };

	(void)uffd_request(m, UFFDIO_WAKE, &r);
}
