/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The service thread: how it is made, ended and made again; serve.c has its body (h_serve). The
 * thread is made by a raw clone and unknown to the C library (which would have to be told at a
 * fork). So its only thread-local storage is a zeroed block whose first words point to the block
 * itself: no function that the thread calls may use errno, malloc or stdio. The thread is made when
 * it is first needed (service_need): most programs are small, and making the thread is a large part
 * of their start.
 *
 * The thread has its own descriptor table, with the runtime's descriptors and none of the
 * program's. In a shared table, a file that the thread opens for a moment would take a number that
 * the program may expect, or a dup2() of the program would close the file; and the thread would
 * keep the program's pipes open.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "machine/linux/linux.h"
#include "sys/linux/sys.h"
#include "run/host.h"
#include "run/host_quire.h"
#include "run/tasks.h"

#define SVC_STACK (256u * 1024u)
#define SVC_TLS 4096u
#define SLICE_NS 20000000u /* time slice of the service thread: several times the usual */

/* The thread has left the program's descriptors. The program's code runs only after that. */
static _Atomic uint32_t ready;

/*
 * Not zero while the thread exists: the kernel clears the word at the thread's end, after its last
 * system call.
 */
static _Atomic uint32_t alive;

/* The thread is to end, so that the process becomes single-threaded. */
static _Atomic bool aside;

void service_end(void)
{
	uint32_t tid;

	while ((tid = alive) != 0)
		(void)sys_call6(SYS_futex, (long)&alive, 0 /* FUTEX_WAIT */, (long)tid, 0, 0, 0);
}

bool service_there(void) { return alive != 0; }

void service_forked(void) { ready = alive = 0; }

int service_need(struct host *h)
{
	int rc;

	if (atomic_load(&h->h_served) || atomic_exchange(&h->h_served, true))
		return 0;
	family_mortal(h, false);
	if ((rc = service_start(h)) != 0) {
		family_mortal(h, true);
		atomic_store(&h->h_served, false);
		return rc;
	}
	atomic_store(&h->h_me->fp_hears, 1);
	family_hears(h);
	return 0;
}

/*
 * The thread woken by a loaded page shall run at once, on the CPU of the service thread
 * (affinity.c). The service thread's remaining work then waits while the program runs to its next
 * fault, and the next fault has arrived when the work is done. Otherwise the service thread would
 * read the descriptor in vain and go to sleep after each fault. The scheduler runs the woken thread
 * first if its time slice is shorter (Linux 6.12; older kernels ignore the setting).
 */
static void lengthen_slice(void)
{
	struct sched_attr at = { .size = SCHED_ATTR_SIZE_VER0 };

	if (sys_call4(SYS_sched_getattr, 0, (long)&at, sizeof at, 0) != 0 ||
	    (at.sched_policy != SCHED_NORMAL && at.sched_policy != SCHED_BATCH))
		return;
	at.size = SCHED_ATTR_SIZE_VER0;
	at.sched_runtime = SLICE_NS;
	(void)sys_call3(SYS_sched_setattr, 0, (long)&at, 0);
}

static int service_main(void *arg)
{
	struct host *h = arg;

	alive = (uint32_t)sys_call1(SYS_set_tid_address, (long)&alive);
	hostfd_only_ours((h->h_told.fw_without & SYS_CLOSE_RANGE) != 0);
	lengthen_slice();
	ready = 1;
	(void)sys_call6(SYS_futex, (long)&ready, 1 /* FUTEX_WAKE */, 1, 0, 0, 0);
	return h->h_serve(h);
}

bool service_is_set_aside(void) { return aside; }

/* May a thread be made? No if children will be in another PID namespace than this process. */
bool service_renewable(void)
{
	struct stat own, children;

	return sys_call4(SYS_newfstatat, AT_FDCWD, (long)"/proc/self/ns/pid", (long)&own, 0) == 0 &&
	    sys_call4(SYS_newfstatat, AT_FDCWD, (long)"/proc/self/ns/pid_for_children",
		(long)&children, 0) == 0 &&
	    own.st_ino == children.st_ino;
}

/* After the end of the first thread, the kernel counts it as long as there is another. */
bool service_single(void)
{
	return sys_call0(SYS_gettid) == sys_call0(SYS_getpid) && tasks_running() == 2;
}

bool service_set_aside(struct host *h)
{
	uint64_t one = 1;

	if (alive == 0)
		return false;
	aside = true;
	(void)sys_call3(SYS_write, h->h_wake, (long)&one, sizeof one);
	service_end();
	aside = false;
	return true;
}

void service_again(struct host *h)
{
	int rc;

	for (unsigned tries = 0; (rc = service_start(h)) == -EAGAIN && tries < 1000; tries++)
		sys_pause();
	if (rc != 0)
		host_stop(
		    "a process ends: its service thread cannot be made again; raise the limit of processes (ulimit -u, or the container's)",
		    rc);
}

long service_alone(struct host *h, long nr, long a0, long a1)
{
	uint32_t tid = alive;
	long r;

	if (tid == 0 || !service_single() || !service_renewable())
		return sys_call2(nr, a0, a1);
	(void)service_set_aside(h);
	/* it still counts as a thread, and so do the workers of its ring, until each has run to its very end */
	while (tasks_leaving(tid))
		sys_pause();
	r = sys_call2(nr, a0, a1);
	service_again(h);
	return r;
}

/*
 * The new thread starts here, its argument in a register: clone is called in assembler, because it
 * returns twice, on different stacks.
 */
long service_clone(unsigned long flags, void *stack, void *tls, int (*fn)(void *), void *arg);
__asm__(
    ".text\n.type service_clone,@function\nservice_clone:\n"
    "	mov %rcx,-8(%rsi)\n	mov %r8,-16(%rsi)\n	sub $16,%rsi\n" /* fn, arg on the new stack */
    "	mov %rdx,%r8\n	xor %edx,%edx\n	xor %r10d,%r10d\n"
    "	mov $56,%eax\n	syscall\n	test %rax,%rax\n	jz 1f\n	ret\n"
    "1:	xor %ebp,%ebp\n	pop %rdi\n	pop %rax\n	call *%rax\n	hlt\n"
    ".size service_clone,.-service_clone\n");

int service_prepare(struct host *h)
{
	long wake;

	if (h->h_wake > 0) /* a forked child must not have its parent's eventfd */
		(void)sys_call1(SYS_close, h->h_wake);
	wake = sys_call2(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake < 0)
		return (int)wake;
	h->h_wake = hostfd_guard((int)wake);
	return 0;
}

int service_start(struct host *h)
{
	uint64_t all = ~0ull, old;
	char *mem;
	long tid;

	if (h->h_svc_stack == NULL && (h->h_svc_stack = linux_mmap(SVC_STACK + SVC_TLS)) == NULL)
		return -ENOMEM;
	/* what the former thread was told is no news to this one */
	(void)sys_call3(SYS_read, h->h_wake, (long)&old, sizeof old);
	mem = h->h_svc_stack;
	void **tcb = (void **)(void *)(mem + SVC_STACK +
	    1024);    /* room for initial-exec TLS below, never used */
	tcb[0] = tcb; /* the thread pointer points to itself */
	tcb[2] = tcb;
	/*
	 * the service thread must never run a handler of the program: it starts with every signal
	 * blocked
	 */
	(void)sys_call4(SYS_rt_sigprocmask, 2, (long)&all, (long)&old, 8);
	ready = 0;
	alive = 1; /* a stand-in until the thread's number is known */
	tid = service_clone(CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS,
	    mem + SVC_STACK - 64, tcb, service_main, h);
	while (tid > 0 && ready == 0)
		(void)sys_call6(SYS_futex, (long)&ready, 0 /* FUTEX_WAIT */, 0, 0, 0, 0);
	(void)sys_call4(SYS_rt_sigprocmask, 2, (long)&old, 0, 8);
	if (tid < 0)
		alive = 0;
	return tid < 0 ? (int)tid : 0;
}
