/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fault descriptor (userfaultfd) of the Linux machine, the ranges registered with it, and served faults.
 *
 * The arena is registered for write protection only: pages may be moved into it (the kernel wants both ends under the same
 * descriptor), but its holes are filled by the kernel, so touching a frame never faults to us.
 *
 * Traps the code minds: MOVE may answer EEXIST although it moved the page (look where the page is); EBUSY for pinned pages and such shared
 * with another process after fork; registration and write protection are lost in a forked child, whose inherited
 * descriptor acts on the parent. Every retry is bounded.
 *
 * Lock: m_rangelock for the table of ranges.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <quire/as.h>
#include <quire/hat.h>

#include "machine/linux/linux_impl.h"

/* What the headers of older distributions lack; numbers of the kernel's interface. */
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
#define Q_DONTNEED_LOCKED 24
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define RETRIES 100000u

static int guard_descriptor(struct mach *m, long fd)
{
	return m->m_cfg.guard_fd != NULL ? m->m_cfg.guard_fd((int)fd) : (int)fd;
}

static long uffd_request(struct mach *m, unsigned long req, void *arg)
{
	return sys_call3(SYS_ioctl, m->m_uffd, (long)req, (long)arg);
}

/* ENOSYS may come from a tool that imitates the kernel (valgrind), in which no process can be served, or from a container's filter. */
static bool is_filtered(void) { return sys_call5(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) == 2; }

/*
 * The system call needs privilege unless the sysctl allows it to all, and most containers forbid it. The device asks for the rights
 * that its file mode says; a descriptor of it works in any process to which it was handed, also after the program gave up its rights.
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

/* Is PAGEMAP_SCAN there? Asked of a range of no pages. */
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
 * Agrees with the kernel on what the descriptor does, from much to little: an older kernel refuses features that it does not know, and
 * the descriptor stays as it was. Write bits need pages that move: without, page-out needs protection that waits.
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
	m->m_uffd = guard_descriptor(m, fd);
	fd = sys_call4(SYS_openat, AT_FDCWD, (long)"/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
	m->m_pagemap = fd >= 0 ? guard_descriptor(m, fd)
			       : -1; /* a process that changed its user may not read it */
	m->m_scan = (m->m_cfg.without & SYS_SCAN) == 0 && can_scan(m);
	if ((rc = agree_features(m)) != 0)
		return rc;
	linux_out_open(m, guard_descriptor);
	return uffd_register(m, (uint64_t)m->m_arena, vm_ptob(m->m_cfg.frames), false);
}

void uffd_close(struct mach *m)
{
	if (m->m_uffd >= 0)
		(void)sys_call1(SYS_close, m->m_uffd);
	if (m->m_pagemap >= 0)
		(void)sys_call1(SYS_close, m->m_pagemap);
	m->m_uffd = m->m_pagemap = -1;
	linux_out_close(m);
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

/* Before Linux 5.18, locked memory drops its pages only while it is not locked. */
static void drop_locked(uint64_t addr, uint64_t len)
{
	if (sys_call3(SYS_madvise, (long)addr, (long)len, Q_DONTNEED_LOCKED) != -EINVAL)
		return;
	(void)sys_call2(SYS_munlock, (long)addr, (long)len);
	(void)sys_call3(SYS_madvise, (long)addr, (long)len, MADV_DONTNEED);
	(void)sys_call3(SYS_mlock2, (long)addr, (long)len, MLOCK_ONFAULT);
}

void linux_drop(uint64_t addr, uint64_t len)
{
	if (sys_call3(SYS_madvise, (long)addr, (long)len, MADV_DONTNEED) == -EINVAL)
		drop_locked(addr, len);
}

/* One step of a MOVE or COPY is over: 1 go on, 0 all done, -errno. Bounds EAGAIN. */
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
		long r = uffd_request(m, Q_MOVE, &mv);

		note_woken(m, dst + *done, mv.move);
		if (r == -EEXIST && mv.move <= 0 && !linux_occupied(m, src + *done) &&
		    linux_occupied(m, dst + *done)) {
			r = 0;
			mv.move = VM_PAGESIZE; /* it did move */
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
		long r = uffd_request(m, UFFDIO_COPY, &cp);

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
		return 0; /* it would stop no writer */
	while ((r = uffd_request(m, UFFDIO_WRITEPROTECT, &wp)) == -EAGAIN && ++tries < RETRIES)
		mach_yield();
	return (int)r;
}

/*
 * Before Linux 6.6 no page can be poisoned. What is behind the end of a file gives SIGBUS, too: the page becomes that. The machine still
 * has it in its range, which does no harm: the next load finds nothing there that it could fill.
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

/* ---- ranges ---- */
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

int linux_after_fork(struct mach *m, struct hat *hat)
{
	int rc;

	uffd_close(m);
	rc = uffd_open(m);
	mach_mutex_enter(&m->m_rangelock);
	for (size_t i = 0; i < m->m_nrange && rc == 0; i++)
		rc = uffd_register(
		    m, m->m_range[i].r_base, m->m_range[i].r_end - m->m_range[i].r_base, true);
	mach_mutex_exit(&m->m_rangelock);
	for (size_t i = 0; i < m->m_nrange && rc == 0; i++) /* there is one thread */
		linux_hat_missing(hat, m->m_range[i].r_base, m->m_range[i].r_end);
	return rc != 0 ? rc : linux_hat_reprotect(hat);
}

/* ---- served faults ---- */
int linux_fault_fd(struct mach *m) { return m->m_uffd; }

/*
 * Serve one fault. What cannot be resolved for lack of memory or store becomes a poisoned page: the program gets SIGBUS.
 * A fault where the space has nothing is a range that is just being taken down, and one where it allows nothing is a range whose
 * protection is just being changed: the thread tries again until the kernel's own mapping is gone or changed too, which has
 * the last word: it gives the program the signal that is its own.
 *
 * What fills the page wakes the thread; it is woken here only if nothing did: the page was there, or came another way.
 */
static void serve_one(struct mach *m, uint64_t addr, uint64_t flags)
{
	struct hat *hat = linux_range_hat(m, addr);
	enum fault_type type = (flags & UFFD_PAGEFAULT_FLAG_WP) != 0 ? F_PROT : F_INVAL;
	enum seg_rw rw =
	    (flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_WRITE)) != 0 ? S_WRITE : S_READ;
	uint32_t pinned = m->m_pinned;
	enum vm_err e = VM_NOMAP;

	addr = vm_page_trunc(addr);
	atomic_store_explicit(&m->m_waited, addr, memory_order_relaxed);
	if (hat != NULL)
		e = as_fault(linux_hat_space(hat), addr, VM_PAGESIZE, type, rw);
	/* Nothing can go, as most of memory is pinned: the thread that pins it waits for this page and would never unpin. */
	if (e == VM_NOMEM && m->m_cfg.pinned != NULL && m->m_pinned - pinned >= m->m_nloaded / 2) {
		m->m_cfg.pinned(m->m_cfg.arg);
		e = as_fault(linux_hat_space(hat), addr, VM_PAGESIZE, type, rw);
	}
	switch (e) {
	case VM_OK:
	case VM_NOMAP:
	case VM_RETRY:
	case VM_PROT:
	case VM_ACCESS:
	case VM_INVAL: break;
	default:
		if (m->m_cfg.lost != NULL) /* before the program can end by it */
			m->m_cfg.lost(m->m_cfg.arg, e);
		hat_unload(hat, addr, VM_PAGESIZE, HAT_UNLOAD);
		(void)uffd_poison(m, addr);
		break;
	}
	if (atomic_exchange_explicit(&m->m_waited, 0, memory_order_relaxed) == addr)
		uffd_wake(m, addr, VM_PAGESIZE);
}

int linux_fault_tid(struct mach *m) { return m->m_tid; }

int linux_serve(struct mach *m)
{
	struct uffd_msg msg[16];
	int served = 0;
	long n = sys_call3(SYS_read, m->m_uffd, (long)msg, sizeof msg);

	if (n < 0)
		return n == -EAGAIN || n == -EINTR ? 0 : (int)n;
	for (long i = 0; i < n / (long)sizeof *msg; i++)
		if (msg[i].event == UFFD_EVENT_PAGEFAULT) {
			m->m_tid = (int)msg[i].arg.pagefault.feat.ptid;
			serve_one(m, msg[i].arg.pagefault.address, msg[i].arg.pagefault.flags);
			served++;
		}
	return served;
}
