/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inline faults: a SIGBUS at an address of a known space is served by the faulting thread itself,
 * in its signal handler. On return the access is tried again. Every other SIGBUS goes to the
 * handler that was installed before.
 *
 * The table of spaces is read without a lock, from the handler: an entry is valid while its end is
 * not 0; the end is stored last when the entry is made and cleared first when it is removed. An
 * entry is removed only after the space's mappings are gone, so no thread faults in the space any
 * more.
 *
 * The handler runs on the alternate stack if the thread has one; the stack in use must not be managed memory itself. All
 * signals wait while it runs: another handler that touched managed memory would wait for locks that this thread holds.
 *
 * An access that would natively raise SIGSEGV raises it here, too: the handler queues the signal,
 * still blocked, with the right code and address. The signal arrives at the access itself, when the
 * return from this handler restores the program's own mask. A SIGSEGV that the program has blocked
 * ends the program, as natively.
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <quire/as.h>

#include "machine/linux/linux_impl.h"

#define SPACES 1024u
#define PF_PRESENT 1
#define PF_WRITE 2

struct space {
	struct as *s_as;
	struct mach *s_mach;
	uint64_t s_base;
	uint64_t s_end;
};
static struct space spaces[SPACES]; /* changed under space_lock */
static unsigned nspaces;            /* high-water mark */
static struct mach_mutex space_lock;

struct kernel_sigaction {
	union {
		void (*plain)(int);
		void (*info)(int, siginfo_t *, void *);
	} h;
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};
#define SA_RESTORER_BIT 0x04000000ul

static struct kernel_sigaction before; /* const after install */
static uint32_t installed;

void linux_trap_return(void);
__asm__(".text\n.type linux_trap_return,@function\nlinux_trap_return:\n	mov $15,%eax\n	syscall\n"
	".size linux_trap_return,.-linux_trap_return\n");

static struct as *space_of(uint64_t addr)
{
	unsigned n = __atomic_load_n(&nspaces, __ATOMIC_ACQUIRE);

	for (unsigned i = 0; i < n; i++) {
		uint64_t end = __atomic_load_n(&spaces[i].s_end, __ATOMIC_ACQUIRE);

		if (end > addr && spaces[i].s_base <= addr)
			return spaces[i].s_as;
	}
	return NULL;
}

static void default_action(int sig)
{
	struct kernel_sigaction dfl = { .h.plain = SIG_DFL };

	(void)sys_call4(SYS_rt_sigaction, sig, (long)&dfl, 0, 8);
}

/* Calls the handler that was installed before ours, under the mask that it would have had. */
static void pass_on(int sig, siginfo_t *si, ucontext_t *uc)
{
	uint64_t mask;

	__builtin_memcpy(&mask, &uc->uc_sigmask, sizeof mask);
	mask |= before.mask | 1ull << (sig - 1);
	if (before.h.plain == SIG_DFL || before.h.plain == SIG_IGN) {
		default_action(sig); /* the access is tried again and ends the program */
		return;
	}
	(void)sys_call4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, 8);
	if ((before.flags & SA_SIGINFO) != 0)
		before.h.info(sig, si, uc);
	else
		before.h.plain(sig);
}

static void raise_segv(const siginfo_t *si, ucontext_t *uc, int code)
{
	struct kernel_sigaction now = { .h.plain = SIG_DFL };
	siginfo_t out;

	__builtin_memset(&out, 0, sizeof out);
	out.si_signo = SIGSEGV;
	out.si_code = code;
	out.si_addr = si->si_addr;
	/* As the kernel does: a fault's signal can be neither blocked nor ignored. */
	(void)sys_call4(SYS_rt_sigaction, SIGSEGV, 0, (long)&now, 8);
	if (sigismember(&uc->uc_sigmask, SIGSEGV) || now.h.plain == SIG_IGN) {
		default_action(SIGSEGV);
		(void)sigdelset(&uc->uc_sigmask, SIGSEGV);
	}
	(void)sys_call4(SYS_rt_tgsigqueueinfo, sys_call0(SYS_getpid), sys_call0(SYS_gettid),
	    SIGSEGV, (long)&out);
}

static void on_trap(int sig, siginfo_t *si, void *ctx)
{
	ucontext_t *uc = ctx;
	uint64_t addr = (uint64_t)si->si_addr;
	long why = (long)uc->uc_mcontext.gregs[REG_ERR];
	struct as *as = si->si_code == BUS_ADRERR ? space_of(addr) : NULL;
	enum vm_err e;

	if (as == NULL) {
		pass_on(sig, si, uc);
		return;
	}
	linux_hat_prefetch(as_hat(as), addr);
	e = as_fault(as, vm_page_trunc(addr), VM_PAGESIZE,
	    (why & PF_PRESENT) != 0 ? F_PROT : F_INVAL, (why & PF_WRITE) != 0 ? S_WRITE : S_READ);
	if (e == VM_NOMAP || e == VM_PROT)
		raise_segv(si, uc, e == VM_NOMAP ? SEGV_MAPERR : SEGV_ACCERR);
	else if (e != VM_OK && e != VM_RETRY)
		pass_on(sig, si, uc);
}

int linux_trap_install(struct mach *m)
{
	struct kernel_sigaction sa = { .h.info = on_trap,
		.restorer = linux_trap_return,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER_BIT,
		.mask = ~0ull };
	long r = 0;

	if (!m->m_cfg.inline_faults)
		return -EINVAL;
	mach_mutex_enter(&space_lock);
	if (!installed) {
		r = sys_call4(SYS_rt_sigaction, SIGBUS, (long)&sa, (long)&before, 8);
		installed = r == 0;
	}
	mach_mutex_exit(&space_lock);
	return (int)r;
}

int linux_space_add(struct mach *m, struct as *as, uint64_t base, uint64_t len)
{
	unsigned i = 0;

	mach_mutex_enter(&space_lock);
	while (i < SPACES && spaces[i].s_end != 0)
		i++;
	if (i < SPACES) {
		spaces[i].s_as = as;
		spaces[i].s_mach = m;
		spaces[i].s_base = base;
		__atomic_store_n(&spaces[i].s_end, base + vm_page_round(len), __ATOMIC_RELEASE);
		if (i >= nspaces)
			__atomic_store_n(&nspaces, i + 1, __ATOMIC_RELEASE);
	}
	mach_mutex_exit(&space_lock);
	return i < SPACES ? 0 : -ENOSPC;
}

void linux_space_remove(struct mach *m, struct as *as, uint64_t base, uint64_t len)
{
	mach_mutex_enter(&space_lock);
	for (unsigned i = 0; i < nspaces; i++)
		if (spaces[i].s_mach == m && spaces[i].s_as == as && spaces[i].s_base == base &&
		    spaces[i].s_end == base + vm_page_round(len))
			__atomic_store_n(&spaces[i].s_end, 0, __ATOMIC_RELEASE);
	mach_mutex_exit(&space_lock);
}
