/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Faults that the descriptor tells of: each is answered by the core. A forked child begins anew: its inherited descriptor acts on the
 * parent.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include <quire/as.h>
#include <quire/hat.h>

#include "machine/linux/linux_impl.h"

void linux_forked(struct mach *m)
{
	uffd_close(m);
	linux_out_close(m);
}

int linux_after_fork(struct mach *m, struct hat *hat)
{
	int rc;

	linux_forked(m);
	m->m_scans = 0; /* nothing is protected by the new descriptor */
	rc = uffd_open(m);
	if (rc == 0)
		linux_out_open(m);
	mach_mutex_enter(&m->m_rangelock);
	for (size_t i = 0; i < m->m_ranges.n && rc == 0; i++) {
		const struct range *r = &m->m_ranges.r[i];

		rc = uffd_register(m, r->base, r->end - r->base, true);
	}
	mach_mutex_exit(&m->m_rangelock);
	for (size_t i = 0; i < m->m_ranges.n && rc == 0; i++) /* there is one thread */
		linux_hat_missing(hat, m->m_ranges.r[i].base, m->m_ranges.r[i].end);
	return rc != 0 ? rc : linux_hat_reprotect(hat);
}

/* ---- served faults ---- */
int linux_fault_fd(struct mach *m) { return m->m_uffd; }

/*
 * Serve one fault. If a fault cannot be resolved for lack of memory or store, the page is poisoned:
 * the program gets SIGBUS. A fault at an address without a segment hits a range that is being
 * unmapped, and a fault that the segment forbids hits a range whose protection is being changed.
 * The faulting thread tries again until the kernel's own mapping is gone or changed, too; the
 * kernel then sends the right signal.
 *
 * A fault on a page that the HAT takes for loaded has one of two causes. A fault of another thread
 * filled the page after this fault was reported; or the program dropped the page by a system call
 * that no runtime saw, and the fault would come back forever if the server only woke the thread.
 *
 * The call that fills the page wakes the thread. The server wakes the thread only if no call filled
 * the page, as when the page was present already. The thread's wait ends when the page is filled,
 * not when this function returns: on one CPU the thread may run to its next fault first.
 */
static void serve_one(struct mach *m, uint64_t addr, uint64_t flags, uint64_t heard_ns)
{
	struct hat *hat = linux_range_hat(m, addr);
	enum fault_type type = (flags & UFFD_PAGEFAULT_FLAG_WP) != 0 ? F_PROT : F_INVAL;
	enum seg_rw rw =
	    (flags & (UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_WRITE)) != 0 ? S_WRITE : S_READ;
	uint32_t pinned = m->m_pinned;
	enum vm_err e = VM_NOMAP;
	uint64_t filled;

	addr = vm_page_trunc(addr);
	atomic_store_explicit(&m->m_filled_ns, 0, memory_order_relaxed);
	atomic_store_explicit(&m->m_waited, addr, memory_order_relaxed);
	if (hat != NULL) {
		linux_hat_prefetch(hat, addr);
		e = as_fault(linux_hat_space(hat), addr, VM_PAGESIZE, type, rw);
	}
	/*
	 * No page can be evicted, as most of memory is pinned; the pinning thread waits for this
	 * page and would never unpin.
	 */
	for (unsigned tries = 0; e == VM_NOMEM && m->m_cfg.pinned != NULL &&
	     m->m_pinned - pinned >= m->m_nloaded / 2 && m->m_cfg.pinned(m->m_cfg.arg, tries);
	     tries++)
		e = as_fault(linux_hat_space(hat), addr, VM_PAGESIZE, type, rw);
	switch (e) {
	case VM_OK:
	case VM_NOMAP:
	case VM_RETRY:
	case VM_PROT:
	case VM_ACCESS:
	case VM_INVAL: break;
	default:
		if (m->m_cfg.lost != NULL) /* before the signal can end the program */
			m->m_cfg.lost(m->m_cfg.arg, e);
		hat_unload(hat, addr, VM_PAGESIZE, HAT_UNLOAD);
		(void)uffd_poison(m, addr);
		break;
	}
	if (e == VM_OK && type == F_INVAL &&
	    atomic_load_explicit(&m->m_waited, memory_order_relaxed) == addr)
		linux_hat_refill(hat, addr);
	filled = atomic_load_explicit(&m->m_filled_ns, memory_order_relaxed);
	if (atomic_exchange_explicit(&m->m_waited, 0, memory_order_relaxed) == addr) {
		filled = mach_time_ns();
		uffd_wake(m, addr, VM_PAGESIZE);
	}
	m->m_waited_ns += filled > heard_ns ? filled - heard_ns : 0;
}

uint64_t linux_waited_ns(struct mach *m) { return m->m_waited_ns; }

int linux_fault_tid(struct mach *m) { return m->m_tid; }

int linux_serve(struct mach *m)
{
	struct uffd_msg msg[16];
	int served = 0;
	long n = sys_call3(SYS_read, m->m_uffd, (long)msg, sizeof msg);
	uint64_t heard_ns = n > 0 ? mach_time_ns() : 0;

	m->m_waited_ns = 0;
	if (n < 0)
		return n == -EAGAIN || n == -EINTR ? 0 : (int)n;
	for (long i = 0; i < n / (long)sizeof *msg; i++)
		if (msg[i].event == UFFD_EVENT_PAGEFAULT) {
			m->m_tid = (int)msg[i].arg.pagefault.feat.ptid;
			serve_one(
			    m, msg[i].arg.pagefault.address, msg[i].arg.pagefault.flags, heard_ns);
			served++;
		}
	return served;
}
