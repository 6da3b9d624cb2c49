/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages to which the kernel still holds references: why a frame gets new memory before it gets new contents.
 *
 * The kernel can hold a page of a program without a translation: a system call or a device reads or
 * writes it later. Two kinds of holds exist. A *pin* (FOLL_PIN) is seen by UFFDIO_MOVE, which
 * answers EBUSY: page-out leaves the page where it is (hat.c). A *plain reference* (FOLL_GET) is
 * visible to no call of user space: the page moves, and if its memory were then filled with other
 * contents, the holder would send those contents.
 *
 * So a page of memory that ever was at a program's address never gets other contents. When the
 * frame becomes free (mach_frame_retire), it joins the list of retired frames. Before a frame of
 * the list is filled again (mach_frame_renew), one call drops the arena slots of all frames of the
 * list. The holder keeps the old page, and the slot fills with a new page. A page that keeps its
 * name in the core (a rescue from the cache list, for example) keeps its page of memory.
 *
 * What holds pages, by the kernel's sources and as tested here (tests/run/run_scenarios_held.c unless another is named):
 *
 *   plain reference, reads  vmsplice to a pipe, with and without SPLICE_F_GIFT; what splice and tee pass on from such a pipe;
 *                           send and sendmsg with MSG_ZEROCOPY; io_uring SEND_ZC and SENDMSG_ZC without registered buffers;
 *                           a pipe as the input of sendfile; vhost-net's transmission
 *   plain reference, short  ptrace and /proc/PID/mem (under the lock of the mappings, for the time of one copy), futex (to
 *                           compute the key: private memory is named by its address), uprobes, get_user_pages_fast of KVM (a
 *                           notifier tells KVM of the move), core dumps
 *   pinned                  O_DIRECT reads and writes, by system call, libaio or io_uring; process_vm_readv and _writev;
 *                           io_uring's registered buffers, rings in the program's memory, provided buffers; AF_XDP's umem;
 *                           AF_ALG; RDMA, VFIO, V4L2 and DRM's user pointers (not on this machine: not tested)
 *   neither                 sendfile and splice of files (pages of the file), read, write, MADV_* (copy or walk at once), KSM and
 *                           memory shared by a fork (MOVE answers EBUSY: the page is copied)
 *
 * What is pinned beyond the budget is granted beyond it (linux_config.pinned): the thread that pins
 * waits in the kernel for the next page, and a page refused to it would be lost to the program. If
 * no frame can be granted, the page stays in memory as the kernel's.
 *
 * Left out: a plain reference through which the kernel *writes* after the page has left (a file
 * system whose direct reads still take plain references, as NFS did before Linux 6.5 and 9p does):
 * what is written then goes to the old page and is lost. No call reports such a reference. The
 * reference is short: the program waits for the read.
 *
 * Lock: m_retirelock guards the list, and every change of a frame's state away from FRAME_RETIRED: a frame on the list
 * is dropped before another thread can fill it.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

/* PIDFD_SELF_THREAD names the calling process without a descriptor (Linux 6.14) */
#define SELF (-10000)

struct piece {
	uint64_t base, len;
};

/*
 * Drops the pieces. One call for all takes 0.6 us a page; a call for each takes twice that, and
 * much more while other threads run (each call flushes TLBs).
 */
static void drop_pieces(struct mach *m, const struct piece *v, unsigned n)
{
	if (!m->m_novector) {
		if (sys_call5(SYS_process_madvise, SELF, (long)v, n, MADV_DONTNEED, 0) ==
		    (long)n * VM_PAGESIZE)
			return;
		m->m_novector = true; /* an older kernel, or a filter */
	}
	for (unsigned i = 0; i < n; i++)
		linux_drop(v[i].base, v[i].len);
}

static void drop_retired(struct mach *m)
{
	struct piece v[RETIRED_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < m->m_nretired; i++)
		if (m->m_frame[m->m_retired[i]] == FRAME_RETIRED)
			v[n++] = (struct piece){ arena_slot(m, m->m_retired[i]), VM_PAGESIZE };
	if (n > 0)
		drop_pieces(m, v, n);
	for (unsigned i = 0; i < m->m_nretired; i++)
		if (m->m_frame[m->m_retired[i]] == FRAME_RETIRED)
			frame_set(m, m->m_retired[i], 1, FRAME_EMPTY);
	m->m_nretired = 0;
}

void mach_frame_retire(struct mach *m, pfn_t pfn)
{
	stage_leave(m, pfn, 1);
	if (m->m_cfg.reuse_held || frame_state(m, pfn) != FRAME_USED)
		return;
	mach_mutex_enter(&m->m_retirelock);
	if (m->m_nretired == RETIRED_MAX)
		drop_retired(m);
	m->m_retired[m->m_nretired++] = pfn;
	frame_set(m, pfn, 1, FRAME_RETIRED);
	mach_mutex_exit(&m->m_retirelock);
}

/* A frame that is not on the list joins it, so that one call drops all. */
void mach_frame_renew(struct mach *m, pfn_t pfn)
{
	stage_leave(m, pfn, 1);
	if (m->m_cfg.reuse_held || frame_state(m, pfn) < FRAME_USED)
		return;
	mach_frame_retire(m, pfn);
	mach_mutex_enter(&m->m_retirelock);
	if (frame_state(m, pfn) == FRAME_RETIRED)
		drop_retired(m);
	mach_mutex_exit(&m->m_retirelock);
}

/* Removes n frames from the list: their slots are dropped already, or are about to be. */
void linux_unretire(struct mach *m, pfn_t pfn, pfn_t n)
{
	mach_mutex_enter(&m->m_retirelock);
	frame_set(m, pfn, n, FRAME_EMPTY);
	mach_mutex_exit(&m->m_retirelock);
}
