/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages to which the kernel still holds references: why a frame gets new memory before it gets new contents.
 *
 * The kernel can hold a page of a program without a translation: a system call or a device reads or writes it later. Two
 * kinds of holds exist. A *pin* (FOLL_PIN) is seen by UFFDIO_MOVE, which answers EBUSY: page-out leaves the page where it is
 * (hat.c). A *plain reference* (FOLL_GET) is seen by nothing that user space can call: the page moves, and if its memory
 * were used as a frame for other contents, the holder would send the other contents.
 *
 * So a page of memory that ever was at a program's address never gets other contents. When the frame becomes free
 * (mach_frame_retire) it is noted; before the frame is filled again (mach_frame_renew) its arena slot is dropped, with all other
 * noted ones in one call. The holder keeps the old page, the slot fills with a new one. A rescue, and whatever else the core
 * does with a page that keeps its name, keeps the same page of memory.
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
 * What is pinned beyond the budget is granted beyond it (linux_config.pinned): the thread that pins waits in the kernel for the
 * next page, and a page refused to it would be lost to the program. Where no frame is left, pages in memory are left to the kernel.
 *
 * Left out: a plain reference through which the kernel *writes* after the page has left (a file system whose direct reads still
 * take plain references, as NFS did before Linux 6.5 and 9p does): what is written then goes to the old page and is lost.
 * Nothing tells of such a reference. It is short: the program waits for the read.
 *
 * Lock: m_retirelock guards the list, and every change of a frame's state away from FRAME_RETIRED: a frame on the list
 * is dropped before another thread can fill it.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/linux_impl.h"

#define SELF (-10000) /* PIDFD_SELF_THREAD: a process by no descriptor, Linux 6.14 */

struct piece {
	uint64_t base, len;
};

/* Drops the pieces: 0.6 us a page in one call, twice that one by one, much more while other threads run (a flush each). */
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

/* A frame that was not noted joins the list: one call drops all. */
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

/* The slots of n frames are dropped already, or are about to be: they leave the list. */
void linux_unretire(struct mach *m, pfn_t pfn, pfn_t n)
{
	mach_mutex_enter(&m->m_retirelock);
	frame_set(m, pfn, n, FRAME_EMPTY);
	mach_mutex_exit(&m->m_retirelock);
}
