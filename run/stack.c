/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Blocks with a stack and thread storage for threads in the engine, and the handling of a thread's
 * own storage during a call.
 *
 * The thread's block of static storage may be paged out as its stack may. The kernel writes to that
 * storage whenever it has interrupted the thread (rseq), and code with stack protection reads it.
 * During a call the thread's rseq area is unregistered, and its thread pointer names a block of the
 * runtime.
 *
 * Locks: none; a block is taken by a bit.
 */
#include "run/stack.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "sys/linux/elf.h"
#include "sys/linux/sys.h"
#include "run/host.h"

static struct block blocks[NSTACKS] __attribute__((aligned(4096)));
static _Atomic uint64_t blocks_used;
static _Atomic uint32_t blocks_waiters,
    blocks_given; /* threads that wait for a block; futex: changed when one may be free */

/*
 * Thousands of threads may need a block at once: if they polled, the service thread would get no
 * CPU.
 */
static void await_block(void)
{
	atomic_fetch_add(&blocks_waiters, 1);
	uint32_t given = atomic_load(&blocks_given);
	if (atomic_load(&blocks_used) == ~0ull)
		(void)sys_call6(SYS_futex, (long)&blocks_given, 128 /* FUTEX_WAIT_PRIVATE */,
		    (long)given, 0, 0, 0);
	atomic_fetch_sub(&blocks_waiters, 1);
}

void stack_give(const struct block *b)
{
	atomic_fetch_and(&blocks_used, ~(1ull << (b - blocks)));
	if (atomic_load(&blocks_waiters) == 0)
		return;
	atomic_fetch_add(&blocks_given, 1);
	(void)sys_call6(SYS_futex, (long)&blocks_given, 129 /* FUTEX_WAKE_PRIVATE */, 1, 0, 0, 0);
}

struct block *stack_take(void)
{
	for (;;) {
		uint64_t used = atomic_load(&blocks_used);

		if (used != ~0ull) {
			unsigned i = (unsigned)__builtin_ctzll(~used);

			if (atomic_compare_exchange_weak(&blocks_used, &used, used | 1ull << i))
				return &blocks[i];
			continue;
		}
		await_block();
	}
}

void stack_forked(void)
{
	atomic_store(&blocks_used, 0);
	atomic_store(&blocks_waiters, 0);
}

/* ---- the thread's own block of storage ---- */
#define RSEQ_BYTES 32u /* the signature with which the C library registers the area */
#define RSEQ_SIG 0x53053053u

/* const after host_init: fsgsbase, the instructions that read and write the thread pointer, may be used */
static bool fast_pointer;
/*
 * const after host_init: offset of the C library's rseq area from the thread pointer, if the
 * library has registered an area
 */
static const ptrdiff_t *rseq_offset;
static const unsigned *rseq_size;

/* The loader, which is one of the objects, has the two symbols. */
static int find_rseq(const struct elf_object *o, void *arg)
{
	(void)arg;
	rseq_offset = elf_symbol(o, "__rseq_offset");
	rseq_size = elf_symbol(o, "__rseq_size");
	return rseq_offset != NULL && rseq_size != NULL;
}

void host_thread_pointer(void)
{
	fast_pointer = (elf_auxv(AT_HWCAP2) & 2) != 0;
	if (elf_each(find_rseq, NULL) == 0)
		rseq_size = NULL;
}

uint64_t thread_pointer(void)
{
	uint64_t v = 0;

	if (fast_pointer)
		__asm__ volatile("rdfsbase %0" : "=r"(v));
	else
		(void)sys_call2(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, (long)&v);
	return v;
}

void thread_set_pointer(uint64_t v)
{
	if (fast_pointer)
		__asm__ volatile("wrfsbase %0" : : "r"(v) : "memory");
	else
		(void)sys_call2(SYS_arch_prctl, 0x1002 /* ARCH_SET_FS */, (long)v);
}

long thread_rseq(uint64_t tp, int flags)
{
	if (rseq_size == NULL || *rseq_size == 0)
		return -ENOSYS;
	return sys_call4(SYS_rseq, (long)tp + (long)*rseq_offset, RSEQ_BYTES, flags, RSEQ_SIG);
}

void host_thread_apart(void)
{
	struct block *b =
	    blocks + ((uintptr_t)__builtin_frame_address(0) - (uintptr_t)blocks) / sizeof *b;

	if (b < blocks + NSTACKS && !b->b_registered) /* else the stack is the service thread's */
		b->b_registered = thread_rseq(b->b_tp, 1 /* RSEQ_FLAG_UNREGISTER */) == 0;
}

bool host_forget_rseq(void)
{
	return thread_rseq(thread_pointer(), 1 /* RSEQ_FLAG_UNREGISTER */) == 0;
}
