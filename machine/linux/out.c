/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Taking pages out: the contents of loaded pages go back to their arena slots.
 *
 * There are two ways, chosen by what the kernel offers (mach.m_move), for the life of the machine.
 *
 * Move (Linux 6.8): UFFDIO_MOVE carries the page itself to the slot. The move is atomic against the program's threads.
 *
 * Copy (Linux 5.7): the page is write-protected, read into the slot, and dropped. A thread that
 * writes meanwhile waits for the server, or gets SIGBUS where faults are inline, and loads the page
 * again. Protection stops the program's threads, but not other holders of the page: a write by a
 * device or by a system call under way, through its reference and after the read, would be lost.
 * MADV_DONTNEED does not report such a holder. So a page that may stay is dropped by two calls that
 * together test for holders:
 *
 *      protect       no thread can write from here on, and no new reference for writing is taken: that faults, too
 *      vmsplice      our reference, in a pipe, keeps the kernel from discarding the page before it is read
 *      MADV_FREE     the page is clean, and the kernel may discard it
 *      read          the pipe: the contents are in the slot, and our reference is gone
 *      MADV_PAGEOUT  now. The kernel discards the page only if no other reference exists and the page is still clean
 *
 * A holder that ends its work before MADV_FREE has written before the page is read. A holder that
 * ends later marks the page modified. A page that is still there therefore is, or just was, held by
 * a device or a system call, or a thread was reading it: the translation stays, the page is
 * unprotected and marked modified again (mark_modified), and page-out takes another page. The test
 * finds plain references (renew.c), too, which a move does not see. Kernels from 5.7 to 5.17
 * compare the references this way in their stable releases only ("fix race between MADV_FREE
 * reclaim and blkdev direct IO read").
 *
 * The test costs three system calls. The test is left out where the caller promises that no page is
 * held (linux_config.reuse_held), for pages that must be unloaded, and for pages shared with a
 * forked process: a page held for writing is never shared.
 *
 * A slot filled by a copy is FRAME_FILLED: its memory never was at a program's address.
 *
 * On a machine that moves pages, locked and read-only pages do not move: they are copied as pages
 * that must be unloaded.
 *
 * Lock: callers of all functions here hold m_hatlock.
 *
 * Left out: the test in a process that may not read its page map, as it cannot tell shared pages there; huge pages, which both ways
 * split.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "machine/linux/linux_impl.h"

#define ATTEMPTS 16u
#define WINDOW 64u /* pages looked at together: bits of a word */

/*
 * Reads len bytes at va through a pin of the kernel, which never causes a fault that this process
 * must serve.
 */
static bool read_pinned(uint64_t va, uint64_t to, uint64_t len)
{
	struct {
		uint64_t base, len;
	} into = { to, len }, from = { va, len };

	return sys_call6(SYS_process_vm_readv, sys_call0(SYS_gettid), (long)&into, 1, (long)&from,
		   1, 0) == (long)len;
}

/* Bit i: page i of n, at most WINDOW, is there. */
static uint64_t find_there(struct mach *m, uint64_t va, uint64_t n)
{
	uint64_t e[WINDOW], there = 0;
	bool map = linux_read_map(m, va, n, e);

	for (uint64_t i = 0; i < n; i++)
		if (map ? (e[i] & PM_THERE) != 0 : linux_occupied(m, va + vm_ptob(i)))
			there |= 1ull << i;
	return there;
}

/*
 * Takes out at most WINDOW pages, also held pages. No thread writes the pages after they are
 * protected. If a sandbox forbids the call, loads read the pages: the pages are present, and no
 * other thread unloads them. (A file descriptor is no way out: its number could collide with the
 * program's.)
 */
static void copy_out(struct mach *m, uint64_t va, pfn_t pfn, uint64_t n)
{
	uint64_t there = find_there(m, va, n), k;

	(void)uffd_protect(m, va, vm_ptob(n), true);
	for (uint64_t i = 0; i < n; i += k) {
		bool is = (there >> i & 1) != 0;
		uint64_t at = va + vm_ptob(i), slot = arena_slot(m, pfn + (pfn_t)i);

		for (k = 1; i + k < n && ((there >> (i + k) & 1) != 0) == is; k++)
			;
		if (!is)
			linux_drop(slot, vm_ptob(k));
		else if (!read_pinned(at, slot, vm_ptob(k)))
			__builtin_memcpy((void *)slot, (const void *)at, vm_ptob(k));
	}
	linux_drop(va, vm_ptob(n));
}

/* ---- move ---- */
static uint64_t move_out(struct mach *m, uint64_t va, pfn_t pfn, uint64_t n, bool may_stay)
{
	uint64_t done, at = 0, len = vm_ptob(n), step = len;
	bool unshared = false;

	for (unsigned tries = 0; at < len;) {
		uint64_t want = len - at < step ? len - at : step;
		int rc = uffd_move(m, arena_slot(m, pfn) + at, va + at, want, &done);
		uint8_t byte;

		if (done > 0) {
			tries = 0;
			unshared = false;
		}
		at += done;
		if (done == want) {
			step = 2 * want;
			continue;
		}
		if (rc == -EINVAL &&
		    want >
			VM_PAGESIZE) { /* perhaps the range spans two mappings: half of it is tried, as neither page is known to be stuck */
			step = vm_page_trunc(want / 2);
			continue;
		}
		if (rc == -EBUSY && !unshared && read_pinned(va + at, (uint64_t)&byte, 1)) {
			unshared = true;
			continue;
		}
		if (rc == -EBUSY && unshared && may_stay) {
			m->m_pinned++;
			break;
		}
		if (rc == -EEXIST &&
		    ++tries <
			ATTEMPTS) { /* left from before: the slot of a loaded frame is empty by right */
			linux_drop(arena_slot(m, pfn) + at, VM_PAGESIZE);
			continue;
		}
		copy_out(m, va + at, pfn + (pfn_t)vm_btop(at), 1);
		at += VM_PAGESIZE;
		tries = 0;
		unshared = false;
	}
	return vm_btop(at);
}

/* ---- copy ---- */
/*
 * Marks the page modified, by a write that changes nothing and never waits for the server. False:
 * the page is absent or not writable.
 */
static bool mark_modified(struct mach *m, uint64_t va)
{
	int or_nothing = FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0x7ff);

	return sys_call6(SYS_futex, (long)&m->m_nobody, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0,
		   (long)va, or_nothing) != -EFAULT;
}

/* The kernel did not discard the page. True: the page is gone after all. */
static bool keep_page(struct mach *m, uint64_t va, pfn_t pfn)
{
	(void)uffd_protect(m, va, VM_PAGESIZE, false);
	if (mark_modified(m, va)) {
		linux_drop(arena_slot(m, pfn), VM_PAGESIZE);
		m->m_pinned++;
		return false;
	}
	/* The page was discarded meanwhile and so was not written, or its mapping is read-only. */
	if (linux_occupied(m, va))
		copy_out(m, va, pfn, 1);
	return true;
}

/*
 * Can a device or a system call hold the page for writing? It cannot hold the page of zeroes, nor a
 * page shared with a forked process.
 */
static bool may_be_held(const struct mach *m, uint64_t va)
{
	uint64_t e;

	return linux_read_map(m, va, 1, &e) && (e & PM_PRESENT) != 0 && (e & PM_EXCLUSIVE) != 0;
}

/* The page is at its address, unprotected. False: the page is held, and it stays loaded. */
static bool copy_out_unless_held(struct mach *m, uint64_t va, pfn_t pfn)
{
	struct iovec page = { (void *)va, VM_PAGESIZE };
	uint64_t slot = arena_slot(m, pfn);
	bool freed;

	(void)uffd_protect(m, va, VM_PAGESIZE, true);
	if (sys_call4(SYS_vmsplice, m->m_pipe[1], (long)&page, 1, 0) != VM_PAGESIZE) {
		copy_out(m, va, pfn, 1);
		return true;
	}
	freed = sys_call3(SYS_madvise, (long)va, VM_PAGESIZE, MADV_FREE) == 0;
	if (sys_call3(SYS_read, m->m_pipe[0], (long)slot, VM_PAGESIZE) != VM_PAGESIZE)
		mach_panic("a pipe does not give back a page");
	if (!freed) { /* locked */
		linux_drop(va, VM_PAGESIZE);
		return true;
	}
	(void)sys_call3(SYS_madvise, (long)va, VM_PAGESIZE, MADV_PAGEOUT);
	return !linux_occupied(m, va) || keep_page(m, va, pfn);
}

static uint64_t copy_out_all(struct mach *m, uint64_t va, pfn_t pfn, uint64_t n, bool may_stay)
{
	uint64_t k;

	may_stay = may_stay && m->m_pipe[0] >= 0;
	for (uint64_t i = 0; i < n; i += k) {
		uint64_t at = va + vm_ptob(i);

		k = n - i < WINDOW ? n - i : WINDOW;
		k = may_stay ? 1 : k;
		if (!may_stay || !may_be_held(m, at))
			copy_out(m, at, pfn + (pfn_t)i, k);
		else if (!copy_out_unless_held(m, at, pfn + (pfn_t)i))
			return i;
	}
	return n;
}

uint64_t linux_take_out(struct mach *m, uint64_t va, pfn_t pfn, uint64_t n, bool may_stay)
{
	n = m->m_move ? move_out(m, va, pfn, n, may_stay) : copy_out_all(m, va, pfn, n, may_stay);
	frame_set(m, pfn, n, m->m_move ? FRAME_USED : FRAME_FILLED);
	return n;
}

void linux_out_open(struct mach *m)
{
	int fd[2];

	if (m->m_move || m->m_cfg.reuse_held || m->m_pagemap < 0 ||
	    sys_call2(SYS_pipe2, (long)fd, O_CLOEXEC | O_NONBLOCK) != 0)
		return;
	m->m_pipe[0] = linux_guard_fd(m, fd[0]);
	m->m_pipe[1] = linux_guard_fd(m, fd[1]);
}

void linux_out_close(struct mach *m)
{
	for (unsigned i = 0; i < 2; i++) {
		if (m->m_pipe[i] >= 0)
			(void)sys_call1(SYS_close, m->m_pipe[i]);
		m->m_pipe[i] = -1;
	}
}
