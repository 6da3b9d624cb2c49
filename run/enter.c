/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the program into the memory engine (host_quire.c): the functions of host.h.
 *
 * Every call runs on a stack of our own with all signals blocked: the program's stack may itself be managed memory, and
 * a fault on it while we hold the space's lock could not be served; a signal handler could do the same or jump away. So may be
 * the thread's block of static storage. The kernel writes there whenever it has interrupted the thread (rseq), and code that
 * guards its stack reads there: for the time of a call the thread is not registered for the one and has another block for the
 * other. A fork returns to the program's stack with the world still standing: it locks these pages in memory before.
 *
 * Locks: none; a block of stack and storage is taken by a bit.
 */
#include "run/host_quire.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"
#include "run/args.h"
#include "run/calls.h"
#include "run/host.h"
#include "sys/linux/elf.h"

#define NSTACKS 64u
#define STACKSIZE (64u * 1024u)
#define ENTER_BYTES 256u
#define TLSROOM 1024u /* below a thread pointer: nothing here uses it */
struct block {
	long b_arg[6];
	enum op b_op;
	bool b_registered;                  /* the thread was, with the kernel, and is not now */
	uint64_t b_tp;                      /* its thread pointer */
	unsigned char b_bytes[ENTER_BYTES]; /* OP_MINCORE: what is being corrected */
	_Alignas(64) unsigned char b_stack[STACKSIZE - 128 - ENTER_BYTES - TLSROOM - 64];
	_Alignas(64) unsigned char b_below[TLSROOM];
	void *b_tcb[8];
};
static struct block blocks[NSTACKS] __attribute__((aligned(4096)));
static _Atomic uint64_t blocks_used;
static _Atomic uint32_t blocks_waiters,
    blocks_given; /* threads that wait for a block; futex: changed when one may be free */

static long run_call(struct block *b) { return host_dispatch(b->b_op, b->b_arg); }

/* long host_on_stack(struct block *, long (*)(struct block *), void *top): call fn(block) on the stack that ends at top. */
__asm__(
    ".text\n.type host_on_stack,@function\nhost_on_stack:\n"
    "	push %rbp\n	mov %rsp,%rbp\n	mov %rdx,%rsp\n	call *%rsi\n	mov %rbp,%rsp\n	pop %rbp\n	ret\n"
    ".size host_on_stack,.-host_on_stack\n");
long host_on_stack(struct block *, long (*)(struct block *), void *);

/* Thousands of threads may want one at once: if they looked again and again, the thread that serves faults would get no CPU. */
static void await_block(void)
{
	atomic_fetch_add(&blocks_waiters, 1);
	uint32_t given = atomic_load(&blocks_given);
	if (atomic_load(&blocks_used) == ~0ull)
		(void)sys_call6(SYS_futex, (long)&blocks_given, 128 /* FUTEX_WAIT_PRIVATE */,
		    (long)given, 0, 0, 0);
	atomic_fetch_sub(&blocks_waiters, 1);
}

static void give_block(const struct block *b)
{
	atomic_fetch_and(&blocks_used, ~(1ull << (b - blocks)));
	if (atomic_load(&blocks_waiters) == 0)
		return;
	atomic_fetch_add(&blocks_given, 1);
	(void)sys_call6(SYS_futex, (long)&blocks_given, 129 /* FUTEX_WAKE_PRIVATE */, 1, 0, 0, 0);
}

static struct block *take_block(void)
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

/* ---- the thread's own block of storage ---- */
#define RSEQ_BYTES 32u /* as the C library registers it */
#define RSEQ_SIG 0x53053053u

/* const after host_init: fsgsbase, the instructions that read and write the thread pointer, may be used */
static bool fast_pointer;
/* const after host_init: where the C library's area for the kernel lies from the thread pointer on, if it has registered one */
static const ptrdiff_t *rseq_offset;
static const unsigned *rseq_size;

/* The loader has the two symbols; it is an object among the others. */
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

static uint64_t get_pointer(void)
{
	uint64_t v = 0;

	if (fast_pointer)
		__asm__ volatile("rdfsbase %0" : "=r"(v));
	else
		(void)sys_call2(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, (long)&v);
	return v;
}

static void set_pointer(uint64_t v)
{
	if (fast_pointer)
		__asm__ volatile("wrfsbase %0" : : "r"(v) : "memory");
	else
		(void)sys_call2(SYS_arch_prctl, 0x1002 /* ARCH_SET_FS */, (long)v);
}

static long call_rseq(uint64_t tp, int flags)
{
	if (rseq_size == NULL || *rseq_size == 0)
		return -ENOSYS;
	return sys_call4(SYS_rseq, (long)tp + (long)*rseq_offset, RSEQ_BYTES, flags, RSEQ_SIG);
}

/* The process is about to be managed, and nothing has left memory yet: now the kernel shall not write there any more, either. */
void host_thread_apart(void)
{
	struct block *b =
	    blocks + ((uintptr_t)__builtin_frame_address(0) - (uintptr_t)blocks) / sizeof *b;

	if (b < blocks + NSTACKS && !b->b_registered) /* else it is the service thread's stack */
		b->b_registered = call_rseq(b->b_tp, 1 /* RSEQ_FLAG_UNREGISTER */) == 0;
}

bool host_forget_rseq(void) { return call_rseq(get_pointer(), 1 /* RSEQ_FLAG_UNREGISTER */) == 0; }

static long enter_engine(enum op op, long a0, long a1, long a2, long a3, long a4, long a5)
{
	uint64_t all = ~0ull, old, tp = get_pointer();
	struct block *b;
	long r;

	(void)sys_call4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&all, (long)&old, 8);
	b = take_block();
	b->b_tcb[0] = b->b_tcb[2] = b->b_tcb; /* the thread pointer points to itself */
	b->b_tp = tp;
	b->b_registered = host.h_managed && call_rseq(tp, 1 /* RSEQ_FLAG_UNREGISTER */) == 0;
	set_pointer((uint64_t)b->b_tcb);
	b->b_op = op;
	b->b_arg[0] = a0;
	b->b_arg[1] = a1;
	b->b_arg[2] = a2;
	b->b_arg[3] = a3;
	b->b_arg[4] = a4;
	b->b_arg[5] = a5;
	if (op == OP_MINCORE) {
		__builtin_memcpy(b->b_bytes, (void *)a2, (size_t)a1);
		b->b_arg[2] = (long)b->b_bytes;
	}
	r = host_on_stack(b, run_call, b->b_stack + sizeof b->b_stack - 64);
	set_pointer(tp);
	if (b->b_registered)
		(void)call_rseq(tp, 0);
	if (op == OP_MINCORE)
		__builtin_memcpy((void *)a2, b->b_bytes, (size_t)a1);
	give_block(b);
	(void)sys_call4(SYS_rt_sigprocmask, 2, (long)&old, 0, 8);
	return r;
}

long host_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	if (host.h_off)
		return sys_call6(SYS_mmap, (long)addr, (long)len, prot, flags, fd, off);
	return enter_engine(OP_MMAP, (long)addr, (long)len, prot, flags, fd, off);
}

long host_munmap(void *addr, size_t len)
{
	return host.h_off ? sys_call2(SYS_munmap, (long)addr, (long)len)
			  : enter_engine(OP_MUNMAP, (long)addr, (long)len, 0, 0, 0, 0);
}

long host_mprotect(void *addr, size_t len, int prot)
{
	return host.h_off ? sys_call3(SYS_mprotect, (long)addr, (long)len, prot)
			  : enter_engine(OP_MPROTECT, (long)addr, (long)len, prot, 0, 0, 0);
}

long host_madvise(void *addr, size_t len, int advice)
{
	return host.h_off ? sys_call3(SYS_madvise, (long)addr, (long)len, advice)
			  : enter_engine(OP_MADVISE, (long)addr, (long)len, advice, 0, 0, 0);
}

long host_mremap(void *old, size_t oldlen, size_t newlen, int flags, void *newaddr)
{
	return host.h_off
	    ? sys_call5(SYS_mremap, (long)old, (long)oldlen, (long)newlen, flags, (long)newaddr)
	    : enter_engine(
		  OP_MREMAP, (long)old, (long)oldlen, (long)newlen, flags, (long)newaddr, 0);
}

long host_brk(void *addr)
{
	return host.h_off ? sys_call1(SYS_brk, (long)addr)
			  : enter_engine(OP_BRK, (long)addr, 0, 0, 0, 0, 0);
}

long host_release(void *addr, size_t len)
{
	return host.h_off ? 0 : enter_engine(OP_RELEASE, (long)addr, (long)len, 0, 0, 0, 0);
}

long host_seal(void *addr, size_t len, unsigned long flags)
{
	return host.h_off ? sys_call3(NR_mseal, (long)addr, (long)len, (long)flags)
			  : enter_engine(OP_SEAL, (long)addr, (long)len, (long)flags, 0, 0, 0);
}

long host_shmat(long id, void *addr, long flags, size_t size)
{
	return host.h_off ? sys_call3(SYS_shmat, id, (long)addr, flags)
			  : enter_engine(OP_SHMAT, id, (long)addr, flags, (long)size, 0, 0);
}

void host_brk_moved(void)
{
	if (!host.h_off)
		(void)enter_engine(OP_BRK_MOVED, 0, 0, 0, 0, 0, 0);
}

long host_alone(long nr, long a0, long a1)
{
	return host_served() ? enter_engine(OP_ALONE, nr, a0, a1, 0, 0, 0) : sys_call2(nr, a0, a1);
}

bool host_single(void) { return host_served() && service_single(); }

long host_leave(void)
{
	long r = host.h_off ? 0 : enter_engine(OP_LEAVE, 0, 0, 0, 0, 0, 0);

	if (r == 0)
		args_trust();
	return r;
}

void host_move(bool hidden)
{
	if (!host.h_off)
		(void)enter_engine(OP_MOVE, hidden, 0, 0, 0, 0, 0);
}

bool host_own_process(void) { return !host.h_off && host.h_pid == (int)sys_call0(SYS_getpid); }

void host_count(void)
{
	if (!host.h_off)
		(void)enter_engine(OP_COUNT, 0, 0, 0, 0, 0, 0);
}

bool host_served(void) { return !host.h_off && service_there(); }

long host_mlock(long nr, void *addr, size_t len, int flags)
{
	return host.h_off ? sys_call3(nr, (long)addr, (long)len, flags)
			  : enter_engine(OP_MLOCK, nr, (long)addr, (long)len, flags, 0, 0);
}

void host_take(void *addr, size_t len)
{
	(void)enter_engine(
	    OP_TAKE, (long)addr, (long)len, 0, 0, 0, 0); /* not refused to the program */
}

long host_mlockall(int flags)
{
	bool bad = flags == 0 || flags == MCL_ONFAULT ||
	    (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) != 0;

	return host.h_off || bad ? sys_call1(SYS_mlockall, flags)
				 : enter_engine(OP_MLOCK, SYS_mlockall, flags, 0, 0, 0, 0);
}

/* The kernel's answer is corrected in a piece of memory of our own; the program's vector may be bad, or paged out. */
long host_mincore(void *addr, size_t len, unsigned char *vec)
{
	size_t n = (len + 4095) / 4096;
	long r = sys_call3(SYS_mincore, (long)addr, (long)len, (long)vec);
	unsigned char some[ENTER_BYTES];

	for (size_t at = 0, k; r == 0 && !host.h_off && at < n; at += k) {
		k = n - at < sizeof some ? n - at : sizeof some;
		if (!args_read(some, vec + at, k))
			return -EFAULT;
		(void)enter_engine(
		    OP_MINCORE, (long)addr + (long)at * 4096, (long)k, (long)some, 0, 0, 0);
		if (!args_write(vec + at, some, k))
			return -EFAULT;
	}
	return r;
}

static bool fork_entered; /* h_lock W */

long host_fork_prepare(void)
{
	if (host.h_off)
		return 0;
	long r = enter_engine(
	    OP_FORK_PREPARE, (long)__builtin_frame_address(0), (long)get_pointer(), 0, 0, 0, 0);
	fork_entered = r == 0;
	return r;
}

void host_fork_parent(long pid)
{
	if (!host.h_off && fork_entered)
		(void)enter_engine(OP_FORK_PARENT, pid, 0, 0, 0, 0, 0);
}

void host_fork_child(void)
{
	if (host.h_off || !fork_entered)
		return;
	atomic_store(&blocks_used, 0);
	atomic_store(&blocks_waiters, 0);
	(void)enter_engine(OP_FORK_CHILD, 0, 0, 0, 0, 0, 0);
}
