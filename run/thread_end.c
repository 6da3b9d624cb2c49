/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory accesses that the kernel makes for a thread that ends. In an ending thread the kernel
 * waits for no userfaultfd: a paged-out page is an error, which the kernel ignores. So the runtime
 * makes these accesses before, where faults are served:
 *
 *   the list of robust locks: each lock that the thread holds is marked as having a dead owner,
 *     and a waiter is woken. As in the kernel: at most LIMIT locks, and none after the first lock
 *     that cannot be read;
 *   the word that pthread_join waits for (CLONE_CHILD_CLEARTID). As soon as the word is zero, the
 *     thread's stack may be unmapped: from then on the code uses no stack, and the kernel no longer
 *     writes to the thread's block (rseq).
 *
 * Left out: threads that are ended by the end of their process. Robust locks of such threads that
 * are shared with other processes are found only if the list up to them is in memory.
 *
 * Locks: none.
 */
#include "run/thread_end.h"

#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "run/args.h"
#include "sys/linux/sys.h"

#define LIMIT 2048u

struct lock_list {
	/* in the last entry: the address of this struct. Bit 0: priorities are inherited */
	uint64_t next;
	int64_t offset;   /* offset from an entry to its word */
	uint64_t pending; /* the entry that is being added or removed */
};

static void wake_one(uint64_t word)
{
	(void)sys_call6(SYS_futex, (long)word, FUTEX_WAKE, 1, 0, 0, 0);
}

/* False: the word is unreadable. */
static bool leave_lock(uint64_t word, uint32_t tid, bool inherits, bool pending)
{
	uint32_t was;

	if ((word & 3) != 0 || !args_read(&was, (const void *)word, sizeof was))
		return false;
	do {
		if (pending && !inherits && (was & FUTEX_TID_MASK) == 0)
			wake_one(word);
		if ((was & FUTEX_TID_MASK) != tid)
			return true;
	} while (!__atomic_compare_exchange_n((uint32_t *)word, &was,
	    (was & FUTEX_WAITERS) | FUTEX_OWNER_DIED, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	/* the kernel hands over locks with priority inheritance */
	if (!inherits && (was & FUTEX_WAITERS) != 0)
		wake_one(word);
	return true;
}

static void leave_locks(void)
{
	struct lock_list list;
	uint64_t head = 0, size = 0, entry, next;
	uint32_t tid = (uint32_t)sys_call0(SYS_gettid);

	if (sys_call3(SYS_get_robust_list, 0, (long)&head, (long)&size) != 0 || head == 0 ||
	    !args_read(&list, (const void *)head, sizeof list))
		return;
	(void)sys_call2(SYS_set_robust_list, 0, (long)sizeof list);
	entry = list.next;
	for (unsigned n = 0; n < LIMIT && (entry & ~1ull) != head; n++, entry = next) {
		bool there = args_read(&next, (const void *)(entry & ~1ull), sizeof next);

		if ((entry & ~1ull) != (list.pending & ~1ull) &&
		    !leave_lock(
			(entry & ~1ull) + (uint64_t)list.offset, tid, (entry & 1) != 0, false))
			break;
		if (!there)
			break;
	}
	if ((list.pending & ~1ull) != 0)
		(void)leave_lock((list.pending & ~1ull) + (uint64_t)list.offset, tid,
		    (list.pending & 1) != 0, true);
}

/*
 * Zeroes the word, wakes a thread that waits for it, and ends this thread, without using a stack.
 */
static void __attribute__((noreturn)) clear_and_exit(uint32_t *word, long status)
{
	__asm__ volatile(
	    "	movl $0,(%%rdi)\n"
	    "	mov $202,%%eax\n	mov $1,%%esi\n	mov $1,%%edx\n" /* futex, FUTEX_WAKE */
	    "	xor %%r10d,%%r10d\n	xor %%r8d,%%r8d\n	xor %%r9d,%%r9d\n"
	    "	syscall\n"
	    "	mov %%rbx,%%rdi\n	mov $60,%%eax\n	syscall\n	ud2\n"
	    :
	    : "D"(word), "b"(status)
	    : "memory");
	__builtin_unreachable();
}

void thread_end(long status, bool alone)
{
	uint64_t all = ~0ull;
	uint32_t *word = NULL;

	(void)sys_call4(SYS_rt_sigprocmask, 0 /* SIG_BLOCK */, (long)&all, 0, 8);
	leave_locks();
	if (alone && sys_call2(SYS_prctl, PR_GET_TID_ADDRESS, (long)&word) == 0 && word != NULL) {
		(void)sys_call1(SYS_set_tid_address, 0);
		clear_and_exit(word, status);
	}
	for (;;)
		(void)sys_call1(SYS_exit, status);
}
