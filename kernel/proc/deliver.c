/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The work when a thread leaves the kernel: delivery of signals.
 *
 * trap_leave, on the way to user mode, takes the signals that are not blocked: it ends or stops the
 * process, or builds a frame on the user's stack (the machine's format) so that the handler runs
 * next. A wait interrupted by a signal returns ERESTART. The result becomes EINTR if a handler runs
 * without SA_RESTART; else the call is made again.
 *
 * Locks: sched_lock for pending and blocked signals. Left out: core files.
 */
#include "kernel/proc/signal.h"

static bool is_stop(const struct proc *p, int sig)
{
	return (DEFAULT_STOP & SIGBIT(sig)) && p->p_sighand->sh_action[sig].sa_handler == 0;
}

static int take_signal(struct uthread *u, struct siginfo *info)
{
	bool irq = spin_lock(&sched_lock);
	int sig = signal_take(u, deliverable_signals(u), info);

	if (sig != 0 && is_stop(u->u_proc, sig))
		u->u_proc->p_stopping = true;
	spin_unlock(&sched_lock, irq);
	return sig;
}

static bool has_continued(void *arg)
{
	struct proc *p = arg;

	return !p->p_stopped || p->p_exiting || p->p_execer != NULL;
}

/*
 * Between take_signal and here a SIGCONT or SIGKILL may have been sent. It has found a process that
 * runs, so it must keep the process from stopping.
 */
static void stop_process(struct proc *p, int sig)
{
	bool irq, stops;

	if (p->p_parent == NULL)
		return; /* the first process has no parent that could continue it */
	mach_mutex_enter(&proc_lock);
	irq = spin_lock(&sched_lock);
	if ((stops = p->p_stopping)) {
		p->p_stopping = false;
		p->p_stopped = true;
		p->p_told_stop = p->p_continued = false;
		p->p_stop_sig = sig;
		wake_all(&p->p_parent->p_wait);
	}
	spin_unlock(&sched_lock, irq);
	if (stops && !(p->p_parent->p_sighand->sh_action[SIGCHLD].sa_flags & SA_NOCLDSTOP))
		signal_queue_proc(p->p_parent, SIGCHLD, 5, cred_sender(p), (uint64_t)sig);
	mach_mutex_exit(&proc_lock);
	(void)wait_until(&p->p_cont, has_continued, p, 0, false);
}

static void report_death(
    const struct proc *p, int sig, const struct siginfo *info, const struct trapframe *tf)
{
	char quiet[8];

	if (!(DEFAULT_CORE & SIGBIT(sig)) || cmdline_get("quiet", quiet, sizeof(quiet)))
		return;
	kprintf("%s (%d): signal %d code %d address %lx at %lx\n", p->p_comm, p->p_pid, sig,
	    info->si_code, info->addr, tf_ip(tf));
}

/* One signal. True: the thread continues in a handler. */
static bool deliver_signal(
    struct trapframe *tf, struct uthread *u, int sig, const struct siginfo *info)
{
	struct proc *p = u->u_proc;
	struct sigaction a = p->p_sighand->sh_action[sig];
	uint64_t old;
	bool irq;

	if (a.sa_handler == 1 || (a.sa_handler == 0 && (DEFAULT_IGNORE & SIGBIT(sig))))
		return false;
	if (a.sa_handler == 0) {
		if (DEFAULT_STOP & SIGBIT(sig)) {
			stop_process(p, sig);
			return false;
		}
		report_death(p, sig, info, tf);
		proc_exit(sig); /* without 0x80: no core file is written */
	}
	old = u->u_restore_mask ? u->u_saved_mask : u->u_sigmask;
	if (arch_signal_frame(tf, sig, info, &a, old) != 0) {
		if (sig == SIGSEGV)
			p->p_sighand->sh_action[sig].sa_handler = 0;
		signal_force(SIGSEGV, 128, 0); /* whose handler may have a stack of its own */
		return false;
	}
	u->u_restore_mask = false;
	signal_disarm_altstack(u);
	irq = spin_lock(&sched_lock);
	u->u_sigmask |= a.sa_mask | (a.sa_flags & SA_NODEFER ? 0 : SIGBIT(sig));
	u->u_sigmask &= ~FATAL_ALWAYS;
	spin_unlock(&sched_lock, irq);
	if (a.sa_flags & SA_RESETHAND)
		p->p_sighand->sh_action[sig].sa_handler = 0;
	return true;
}

/* Settles the result of an interrupted system call when the handler is known (sig 0: none). */
static void settle_restart(struct trapframe *tf, struct uthread *u, int64_t nr, int sig)
{
	const struct sigaction *a = &u->u_proc->p_sighand->sh_action[sig];

	if (sig == 0 || (u->u_restartable && (a->sa_flags & SA_RESTART))) {
		tf_restart(tf, (uint64_t)nr);
	} else {
		tf_set_result(tf, -EINTR);
		u->u_sleep_until = 0;
	}
}

void trap_leave(struct trapframe *tf)
{
	struct uthread *u = this_uthread();

	if (u == NULL)
		return;
	for (;;) {
		struct siginfo info;
		int sig;

		arch_irq_restore(true);
		if (uthread_must_end(u))
			uthread_exit(0);
		while (deliverable_signals(u) != 0 && (sig = take_signal(u, &info)) != 0) {
			bool handled = u->u_proc->p_sighand->sh_action[sig].sa_handler > 1;

			if (u->u_syscall >= 0 && handled) {
				settle_restart(tf, u, u->u_syscall, sig);
				u->u_syscall = -1;
			}
			if (deliver_signal(tf, u, sig, &info))
				break;
		}
		if (u->u_syscall >= 0) {
			settle_restart(tf, u, u->u_syscall, 0);
			u->u_syscall = -1;
		}
		if (u->u_restore_mask && deliverable_signals(u) == 0) {
			u->u_restore_mask = false;
			u->u_sigmask = u->u_saved_mask;
		}
		/* another thread took the signal that stops the process */
		if (u->u_proc->p_stopped)
			(void)wait_until(&u->u_proc->p_cont, has_continued, u->u_proc, 0, false);
		(void)arch_irq_off();
		if (uthread_must_end(u))
			continue;
		if (arch_kcpu()->k_resched && arch_cur()->t_preempt == 0) {
			thread_yield();
			continue;
		}
		if (deliverable_signals(u) == 0)
			return;
	}
}
