/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signals: pending signals and sending. deliver.c delivers them.
 *
 * A signal is pending for a thread or for its process, one of each number; further real-time
 * signals of a number wait in a queue.
 *
 * Locks: sched_lock guards pending and blocked signals, so that a wait sees them; actions are
 * copied whole.
 */
#include "kernel/proc/signal.h"

/*
 * The first process receives only signals for which it has a handler, and signals of its own faults
 * (signal_force).
 */
static bool is_ignored(const struct proc *p, int sig)
{
	uint64_t h = p->p_sighand->sh_action[sig].sa_handler;

	return h == 1 || (h == 0 && p->p_pid == 1) || (h == 0 && (DEFAULT_IGNORE & SIGBIT(sig)));
}

struct sighand *sighand_of(struct proc *parent, bool share)
{
	struct sighand *sh;

	if (share) {
		parent->p_sighand->sh_refcnt++;
		return parent->p_sighand;
	}
	if ((sh = kzalloc(sizeof(*sh))) == NULL)
		return NULL;
	if (parent != NULL)
		memcpy(sh->sh_action, parent->p_sighand->sh_action, sizeof(sh->sh_action));
	sh->sh_refcnt = 1;
	return sh;
}

void sighand_put(struct sighand *sh)
{
	if (sh != NULL &&
	    __atomic_sub_fetch((unsigned *)(void *)&sh->sh_refcnt, 1, __ATOMIC_ACQ_REL) == 0)
		kfree(sh, sizeof(*sh));
}

bool thread_has_signal(struct thread *t)
{
	return t->t_user != NULL &&
	    (deliverable_signals(t->t_user) != 0 || uthread_must_end(t->t_user));
}

/* ---- what is pending ---- */
#define NQUEUED 128u
static struct queued_signal {
	struct queued_signal *q_next;
	int q_sig, q_code;
	uint64_t q_value, q_more;
} queued[NQUEUED], *free_queued; /* sched_lock */
unsigned signal_files;
static unsigned queued_used; /* sched_lock: entries from this index on were never used */

static struct queued_signal *queued_alloc(void)
{
	struct queued_signal *q = free_queued;

	if (q != NULL)
		free_queued = q->q_next;
	else if (queued_used < NQUEUED)
		q = &queued[queued_used++];
	return q;
}

static void queued_free(struct queued_signal *q)
{
	q->q_next = free_queued;
	free_queued = q;
}

/*
 * A real-time signal that is pending already waits in the queue. If the queue is full, the signal
 * is lost.
 */
static void post_signal(struct sigset_info *s, int sig, int code, uint64_t value, uint64_t more)
{
	struct queued_signal *q, **last = &s->s_queue;

	KASSERT(spin_held(&sched_lock));
	if (!(s->s_pending & SIGBIT(sig))) {
		s->s_info[sig - 1].code = code;
		s->s_info[sig - 1].value = value;
		s->s_info[sig - 1].more = more;
	} else if (sig >= SIGRTMIN && (q = queued_alloc()) != NULL) {
		*q = (struct queued_signal){ NULL, sig, code, value, more };
		while (*last != NULL)
			last = &(*last)->q_next;
		*last = q;
	}
	s->s_pending |= SIGBIT(sig);
	if (__atomic_load_n(&signal_files, __ATOMIC_RELAXED) != 0)
		wake_all(&poll_queue);
}

#define OVERRUN_MOST 0x7fffffffu

/* value: a timer's number and, above it, its overrun. */
static bool add_to(int code, uint64_t *value, uint32_t timer, uint64_t times)
{
	uint64_t overrun = (*value >> 32) + times;

	if (code != -2 || (uint32_t)*value != timer)
		return false;
	*value = timer | (overrun < OVERRUN_MOST ? overrun : OVERRUN_MOST) << 32;
	return true;
}

bool signal_add_overrun(struct sigset_info *s, int sig, uint32_t timer, uint64_t times)
{
	bool irq = spin_lock(&sched_lock), added = false;

	if (s->s_pending & SIGBIT(sig))
		added = add_to(s->s_info[sig - 1].code, &s->s_info[sig - 1].value, timer, times);
	for (struct queued_signal *q = s->s_queue; q != NULL && !added; q = q->q_next)
		added = q->q_sig == sig && add_to(q->q_code, &q->q_value, timer, times);
	spin_unlock(&sched_lock, irq);
	return added;
}

/* Removes the pending signal; if the queue has another of the number, the number stays pending. */
static void unpost_signal(struct sigset_info *s, int sig)
{
	struct queued_signal *q, **p = &s->s_queue;

	while ((q = *p) != NULL && q->q_sig != sig)
		p = &q->q_next;
	if (q == NULL) {
		s->s_pending &= ~SIGBIT(sig);
		return;
	}
	*p = q->q_next;
	s->s_info[sig - 1].code = q->q_code;
	s->s_info[sig - 1].value = q->q_value;
	s->s_info[sig - 1].more = q->q_more;
	queued_free(q);
}

int signal_take(struct uthread *u, uint64_t set, struct siginfo *info)
{
	uint64_t now = (u->u_signals.s_pending | u->u_proc->p_signals.s_pending) & set,
		 first = now & u->u_signals.s_pending & DEFAULT_CORE;
	struct sigset_info *from;
	int sig;

	memset(info, 0, sizeof(*info));
	if (now == 0)
		return 0;
	/* faults first: they belong to the instruction at hand */
	sig = __builtin_ctzll(first != 0 ? first : now) + 1;
	from = u->u_signals.s_pending & SIGBIT(sig) ? &u->u_signals : &u->u_proc->p_signals;
	info->si_signo = sig;
	info->si_code = from->s_info[sig - 1].code;
	info->addr = from->s_info[sig - 1].value;
	if (sig == SIGCHLD || info->si_code <= 0)
		info->kill.value = from->s_info[sig - 1].more;
	unpost_signal(from, sig);
	return sig;
}

void signal_discard(struct sigset_info *s)
{
	bool irq = spin_lock(&sched_lock);
	struct queued_signal *q;

	while ((q = s->s_queue) != NULL) {
		s->s_queue = q->q_next;
		queued_free(q);
	}
	s->s_pending = 0;
	spin_unlock(&sched_lock, irq);
}

static void drop_pending(struct sigset_info *s, uint64_t set)
{
	for (uint64_t left = s->s_pending & set; (left = s->s_pending & set) != 0;)
		unpost_signal(s, __builtin_ctzll(left) + 1);
}

/* sched_lock held. */
static void drop_pending_everywhere(struct proc *p, uint64_t set)
{
	drop_pending(&p->p_signals, set);
	for (struct uthread *u = p->p_threads; u != NULL; u = u->u_next)
		drop_pending(&u->u_signals, set);
}

void signal_forget(struct proc *p, int sig)
{
	bool irq = spin_lock(&sched_lock);

	drop_pending_everywhere(p, SIGBIT(sig));
	spin_unlock(&sched_lock, irq);
}

/* ---- sending ---- */
static void send_proc_locked(struct proc *p, int sig, int code, uint64_t value, uint64_t more);

/*
 * Continues a stopped process; the parent may wait for that. A later stop cancels an unreported
 * continuation.
 */
static void note_continue(struct proc *p, int sig)
{
	KASSERT(spin_held(&sched_lock));
	if (DEFAULT_STOP & SIGBIT(sig))
		drop_pending_everywhere(p, SIGBIT(SIGCONT));
	if (sig != SIGCONT && sig != SIGKILL)
		return;
	drop_pending_everywhere(p, DEFAULT_STOP);
	p->p_stopping = false;
	if (!p->p_stopped)
		return;
	p->p_stopped = false;
	wake_all(&p->p_cont);
	if (sig == SIGCONT && p->p_parent != NULL) {
		p->p_continued = true;
		wake_all(&p->p_parent->p_wait);
		if (!(p->p_parent->p_sighand->sh_action[SIGCHLD].sa_flags & SA_NOCLDSTOP))
			send_proc_locked(
			    p->p_parent, SIGCHLD, 6, cred_sender(p), (uint64_t)SIGCONT);
	}
}

/* A blocked signal is kept even if its action is to ignore it, as sigwait may take it. */
void signal_queue_uthread(struct uthread *u, int sig, int code, uint64_t value, uint64_t more)
{
	bool irq = spin_lock(&sched_lock), blocked = (u->u_sigmask & SIGBIT(sig)) != 0;

	note_continue(u->u_proc, sig);
	if (blocked || (u->u_awaited & SIGBIT(sig)) || !is_ignored(u->u_proc, sig)) {
		post_signal(&u->u_signals, sig, code, value, more);
		if (!blocked)
			wake_thread(u->u_thread, true);
	}
	spin_unlock(&sched_lock, irq);
}

void signal_send_uthread(struct uthread *u, int sig, int code, uint64_t value)
{
	signal_queue_uthread(u, sig, code, value, 0);
}

void signal_send_thread(struct thread *t, int sig, int code, uint64_t value)
{
	if (t->t_user != NULL)
		signal_send_uthread(t->t_user, sig, code, value);
}

static void send_proc_locked(struct proc *p, int sig, int code, uint64_t value, uint64_t more)
{
	bool kept = true; /* every thread blocks the signal or waits for it */

	KASSERT(spin_held(&sched_lock));
	note_continue(p, sig);
	if (p->p_zombie)
		return;
	for (const struct uthread *u = p->p_threads; u != NULL; u = u->u_next)
		kept &= ((u->u_sigmask | u->u_awaited) & SIGBIT(sig)) != 0;
	if (!kept && is_ignored(p, sig))
		return;
	post_signal(&p->p_signals, sig, code, value, more);
	for (struct uthread *u = p->p_threads; u != NULL; u = u->u_next) {
		if (u->u_sigmask & SIGBIT(sig))
			continue;
		wake_thread(u->u_thread, true);
		arch_kcpu()->k_resched = true;
	}
}

/* proc_lock is held, or the process is the caller's own. */
void signal_queue_proc(struct proc *p, int sig, int code, uint64_t value, uint64_t more)
{
	bool irq;

	if (p == NULL)
		return;
	irq = spin_lock(&sched_lock);
	send_proc_locked(p, sig, code, value, more);
	spin_unlock(&sched_lock, irq);
}

void signal_send_proc(struct proc *p, int sig, int code, uint64_t value)
{
	signal_queue_proc(p, sig, code, value, 0);
}

bool proc_ignores_children(const struct proc *p)
{
	const struct sigaction *a = &p->p_sighand->sh_action[SIGCHLD];

	return a->sa_handler == 1 || (a->sa_flags & SA_NOCLDWAIT);
}

/*
 * A signal to a group of processes, requested in an interrupt. proc_lock guards the list of
 * processes and may sleep, so the interrupt records the signal, and the thread of signal_loop sends
 * it.
 */
static _Atomic uint64_t group_wanted; /* SIGBIT */
static _Atomic int group_pgid;        /* the group of the recorded signals */
static struct waitq send_queue;       /* sched_lock */

void signal_interrupt_group(int pgid, int sig)
{
	bool irq = spin_lock(&sched_lock);

	group_pgid = pgid;
	group_wanted |= SIGBIT(sig);
	wake_all(&send_queue);
	spin_unlock(&sched_lock, irq);
}

static bool is_group_wanted(void *arg)
{
	(void)arg;
	return group_wanted != 0;
}

static void send_to_group(void)
{
	uint64_t wanted_now =
	    __atomic_exchange_n((uint64_t *)(void *)&group_wanted, 0, __ATOMIC_ACQ_REL);
	int pgid = group_pgid;

	if (wanted_now == 0)
		return;
	mach_mutex_enter(&proc_lock);
	for (struct proc *p = all_procs; p != NULL; p = p->p_next)
		for (uint64_t left = wanted_now; left != 0; left &= left - 1)
			if (p->p_pgid == pgid && p->p_sighand != NULL)
				signal_send_proc(p, __builtin_ctzll(left) + 1, 128, 0);
	mach_mutex_exit(&proc_lock);
}

/* Sends a signal for the thread's own fault, which can be neither blocked nor ignored. */
void signal_force(int sig, int code, uint64_t addr)
{
	struct uthread *u = this_uthread();
	struct sigaction *a = &u->u_proc->p_sighand->sh_action[sig];
	bool irq = spin_lock(&sched_lock);

	if ((u->u_sigmask & SIGBIT(sig)) || a->sa_handler == 1) {
		a->sa_handler = 0;
		u->u_sigmask &= ~SIGBIT(sig);
	}
	u->u_signals.s_pending &= ~SIGBIT(sig);
	post_signal(&u->u_signals, sig, code, addr, 0);
	spin_unlock(&sched_lock, irq);
}

/* ---- frames, for the machine ---- */
/*
 * A stack with SS_AUTODISARM never counts as in use: the thread has no alternate stack while a
 * handler runs on it.
 */
static bool on_altstack(const struct uthread *u, uint64_t sp)
{
	return !(u->u_altflags & SS_AUTODISARM) && u->u_altsize > 0 && sp > u->u_altstack &&
	    sp - u->u_altstack <= u->u_altsize;
}

void signal_disarm_altstack(struct uthread *u)
{
	if (!(u->u_altflags & SS_AUTODISARM))
		return;
	u->u_altstack = u->u_altsize = 0;
	u->u_altflags = SS_DISABLE;
}

uint64_t signal_stack(
    const struct sigaction *a, uint64_t sp, uint64_t red_zone, struct sigstack *told)
{
	struct uthread *u = this_uthread();
	uint64_t top = sp - red_zone;

	*told = (struct sigstack){
		.sp = u->u_altstack, .size = u->u_altsize, .flags = (int32_t)u->u_altflags
	};
	if ((a->sa_flags & SA_ONSTACK) && u->u_altsize > 0 && !on_altstack(u, sp))
		top = u->u_altstack + u->u_altsize;
	return top;
}

void signal_get_altstack(const struct uthread *u, uint64_t sp, struct sigstack *st)
{
	int32_t flags = u->u_altsize == 0 ? SS_DISABLE : 0;

	if (on_altstack(u, sp))
		flags = SS_ONSTACK;
	*st = (struct sigstack){ .sp = u->u_altstack,
		.size = u->u_altsize,
		.flags = flags | (int32_t)(u->u_altflags & SS_AUTODISARM) };
}

int signal_set_altstack(struct uthread *u, uint64_t sp, const struct sigstack *st)
{
	uint32_t mode = (uint32_t)st->flags & ~SS_AUTODISARM;

	if (on_altstack(u, sp))
		return -EPERM;
	if (mode != 0 && mode != SS_ONSTACK && mode != SS_DISABLE)
		return -EINVAL;
	if (mode != SS_DISABLE && st->size < MINSIGSTKSZ)
		return -ENOMEM;
	u->u_altflags = (uint32_t)st->flags;
	u->u_altstack = mode == SS_DISABLE ? 0 : st->sp;
	u->u_altsize = mode == SS_DISABLE ? 0 : st->size;
	return 0;
}

void signal_restore(uint64_t mask, const struct sigstack *st)
{
	struct uthread *u = this_uthread();
	bool irq = spin_lock(&sched_lock);

	u->u_sigmask = mask & ~(SIGBIT(SIGKILL) | SIGBIT(SIGSTOP));
	spin_unlock(&sched_lock, irq);
	(void)signal_set_altstack(u, tf_sp(u->u_tf),
	    st); /* a handler that interrupted another on that stack cannot change it */
	u->u_syscall = -1;
}

/* ---- signals that no thread sends ---- */
void signal_loop(void *arg)
{
	(void)arg;
	for (;;) {
		(void)wait_until(&send_queue, is_group_wanted, NULL, 0, false);
		work_begin();
		send_to_group();
		work_end();
	}
}

void signal_mask_begin(uint64_t maskp, uint64_t size)
{
	struct uthread *u = this_uthread();
	uint64_t mask;
	bool irq;

	if (maskp == 0 || size != 8 || copy_in(&mask, maskp, 8) != 0)
		return;
	irq = spin_lock(&sched_lock);
	u->u_saved_mask = u->u_sigmask;
	u->u_restore_mask = true;
	u->u_sigmask = mask & ~(SIGBIT(SIGKILL) | SIGBIT(SIGSTOP));
	spin_unlock(&sched_lock, irq);
}

int sigevent_in(uint64_t from, struct sigevent *ev)
{
	struct uthread *u;
	bool own;

	*ev = (struct sigevent){ 0, SIGALRM, SIGEV_SIGNAL, 0 };
	if (from != 0 && copy_in(ev, from, 20) != 0)
		return -EFAULT;
	if (ev->notify == SIGEV_NONE)
		return 0;
	if (ev->signo < 1 || ev->signo > NSIG)
		return -EINVAL;
	if (ev->notify != SIGEV_THREAD_ID) {
		ev->tid = 0;
		return ev->notify == SIGEV_SIGNAL || ev->notify == SIGEV_THREAD ? 0 : -EINVAL;
	}
	mach_mutex_enter(&proc_lock);
	own = (u = uthread_find(ev->tid)) != NULL && u->u_proc == this_proc();
	mach_mutex_exit(&proc_lock);
	return own ? 0 : -EINVAL;
}
