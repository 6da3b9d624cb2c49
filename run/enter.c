/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the program into the memory engine (host_quire.c): the functions of host.h.
 *
 * Every call runs on a stack of our own with all signals blocked: the program's stack may itself be
 * managed memory, and a fault on the stack while the space's lock is held could not be served. A
 * signal handler could cause such a fault, or jump away. The thread's block of static storage may
 * be managed memory, too (stack.c). A fork returns to the program's stack while the world still
 * stands still (h_lock W: no fault is served), so it locks the pages of this stack in memory
 * before.
 *
 * Locks: none.
 */
#include "run/host_quire.h"

#include <errno.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"
#include "run/args.h"
#include "run/calls.h"
#include "run/host.h"
#include "run/stack.h"

static long run_call(struct block *b) { return host_dispatch(b->b_op, b->b_arg); }

/*
 * long host_on_stack(struct block *, long (*)(struct block *), void *top): calls fn(block) on the
 * stack that ends at top.
 */
__asm__(
    ".text\n.type host_on_stack,@function\nhost_on_stack:\n"
    "	push %rbp\n	mov %rsp,%rbp\n	mov %rdx,%rsp\n	call *%rsi\n	mov %rbp,%rsp\n	pop %rbp\n	ret\n"
    ".size host_on_stack,.-host_on_stack\n");
long host_on_stack(struct block *, long (*)(struct block *), void *);

static long enter_engine(enum op op, long a0, long a1, long a2, long a3, long a4, long a5)
{
	uint64_t all = ~0ull, old, tp = thread_pointer();
	struct block *b;
	long r;

	(void)sys_call4(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)&all, (long)&old, 8);
	b = stack_take();
	b->b_tcb[0] = b->b_tcb[2] = b->b_tcb; /* the thread pointer points to itself */
	b->b_tp = tp;
	b->b_registered = host.h_managed && thread_rseq(tp, 1 /* RSEQ_FLAG_UNREGISTER */) == 0;
	thread_set_pointer((uint64_t)b->b_tcb);
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
	thread_set_pointer(tp);
	if (b->b_registered)
		(void)thread_rseq(tp, 0);
	if (op == OP_MINCORE)
		__builtin_memcpy((void *)a2, b->b_bytes, (size_t)a1);
	stack_give(b);
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
	    OP_TAKE, (long)addr, (long)len, 0, 0, 0, 0); /* the program is not refused the call */
}

long host_mlockall(int flags)
{
	bool bad = flags == 0 || flags == MCL_ONFAULT ||
	    (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) != 0;

	return host.h_off || bad ? sys_call1(SYS_mlockall, flags)
				 : enter_engine(OP_MLOCK, SYS_mlockall, flags, 0, 0, 0, 0);
}

/*
 * The kernel's result is corrected in the runtime's memory; the program's vector may be invalid or
 * paged out.
 */
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

long host_fork_prepare(const struct fork_words *words)
{
	if (host.h_off)
		return 0;
	long r = enter_engine(OP_FORK_PREPARE, (long)__builtin_frame_address(0),
	    (long)thread_pointer(), (long)words, 0, 0, 0);
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
	stack_forked();
	(void)enter_engine(OP_FORK_CHILD, 0, 0, 0, 0, 0, 0);
}
