/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of threads and processes, and waiting for children.
 *
 * exit_group: p_exiting is set and every other thread is woken. Each thread ends at its next return
 * to user mode, or at its next wait that signals may interrupt. A thread that waits for I/O in the
 * kernel first completes this wait.
 *
 * Locks: proc_lock guards the tree; sched_lock guards p_exiting and the fields that a waiting
 * thread reads.
 */
#include "kernel/proc/proc.h"

static void leave_space(struct proc *p)
{
	struct as *as = p->p_as;

	mach_mutex_enter(
	    &proc_lock); /* other threads take a reference to this process's space under this lock */
	p->p_as = NULL;
	mach_mutex_exit(&proc_lock);
	if (p->p_borrowed)
		as_return(as);
	else
		as_free(as);
	p->p_borrowed = false;
}

/* Makes the process's children children of init. proc_lock held. */
static void orphan_children(struct proc *p)
{
	KASSERT(mach_mutex_held(&proc_lock));
	for (struct proc *c = all_procs; c != NULL; c = c->p_next)
		if (c->p_parent == p)
			c->p_parent = init_proc;
}

/* proc_lock held. */
static bool others_are_gone(void)
{
	KASSERT(mach_mutex_held(&proc_lock));
	for (struct proc *p = all_procs; p != NULL; p = p->p_next)
		if (p != init_proc && !p->p_zombie)
			return false;
	return true;
}

/* Called when the first process ends, and the system with it: ends all other processes before. */
static void end_other_processes(void)
{
	for (bool gone = false; !gone;) {
		bool irq;

		mach_mutex_enter(&proc_lock);
		for (struct proc *p = all_procs; p != NULL; p = p->p_next)
			if (p != init_proc && !p->p_zombie)
				signal_send_proc(p, SIGKILL, 0, 0);
		gone = others_are_gone();
		mach_mutex_exit(&proc_lock);
		if (gone)
			return;
		irq = spin_lock(&sched_lock);
		(void)wait_on(&init_proc->p_wait, arch_time_ns() + 10000000, false);
		spin_unlock(&sched_lock, irq);
	}
}

/*
 * Tells the parent of the process's end. If the parent ignores its children, the process is removed
 * at once. proc_lock held.
 */
static void tell_parent(struct proc *p, struct proc *parent)
{
	int killed = p->p_status & 0x7f;

	if (p->p_exit_signal != 0)
		signal_queue_proc(parent, p->p_exit_signal, killed != 0 ? 2 : 1, cred_sender(p),
		    (uint64_t)(killed != 0 ? killed : p->p_status >> 8));
	if (p->p_exit_signal == SIGCHLD && proc_ignores_children(parent) && !p->p_by_vfork)
		proc_free(p);
}

static void proc_end(struct proc *p)
{
	struct proc *parent;

	if (p == init_proc)
		end_other_processes();
	timers_forget(p, true);
	filelock_drop(p, NULL);
	sem_exit(p);
	proc_set_files(p, NULL);
	leave_space(p);
	proc_set_inode(&p->p_exe, NULL);
	/*
	 * the space and its files are released first, which frees files without names that the
	 * process had open or mapped
	 */
	if (p == init_proc)
		kernel_shutdown(p->p_status >> 8 | (p->p_status & 0x7f));
	release_vfork(p);
	inode_put(p->p_cwd);
	inode_put(p->p_root);
	p->p_cwd = p->p_root = NULL;
	mach_mutex_enter(&proc_lock);
	orphan_children(p);
	p->p_zombie = true;
	parent = p->p_parent;
	tell_parent(p, parent);
	wake(&parent->p_wait); /* without proc_lock the parent, too, could end and be freed */
	if (init_proc != NULL)
		wake(&init_proc->p_wait);
	mach_mutex_exit(&proc_lock);
}

void uthread_exit(int code)
{
	struct uthread *u = this_uthread(), **q;
	struct proc *p = u->u_proc;
	bool last;

	if (u->u_robust != 0)
		futex_exit_robust(u);
	if (u->u_clear_tid != 0) {
		int zero = 0;

		(void)copy_out(u->u_clear_tid, &zero, sizeof(zero));
		(void)futex_wake_addr(u->u_clear_tid, 1);
	}
	/*
	 * Another thread that executes a program or ends the process frees the space, and the process, once this thread is
	 * counted out. So from here on the thread uses no memory of the program, and it leaves the space first.
	 */
	arch_cur()->t_hat = NULL;
	arch_load_space(NULL);
	mach_mutex_enter(&proc_lock);
	for (q = &p->p_threads; *q != u; q = &(*q)->u_next)
		;
	*q = u->u_next;
	last = --p->p_nthreads == 0;
	p->p_cpu_ns += thread_run_ns(arch_cur());
	if (last && !p->p_exiting)
		p->p_status = (code & 0xff) << 8;
	wake(&p->p_wait);
	mach_mutex_exit(&proc_lock);
	if (last)
		proc_end(p);
	arch_cur()->t_user = NULL;
	arch_cur()->t_proc = NULL;
	signal_discard(&u->u_signals);
	kfree(u, sizeof(*u));
	thread_exit();
}

/* From now on each thread of the process ends. */
static void exit_begin(struct proc *p, int status)
{
	bool irq;

	mach_mutex_enter(&proc_lock);
	irq = spin_lock(&sched_lock);
	if (!p->p_exiting) {
		p->p_exiting = true;
		p->p_status = status;
		proc_wake_others(p);
	}
	spin_unlock(&sched_lock, irq);
	mach_mutex_exit(&proc_lock);
}

void proc_exit(int status)
{
	exit_begin(this_proc(), status);
	uthread_exit(0);
}

void proc_end_system(void) { exit_begin(init_proc, 0); }

void proc_free(struct proc *p)
{
	struct proc **q = &all_procs;

	KASSERT(mach_mutex_held(&proc_lock));
	while (*q != p)
		q = &(*q)->p_next;
	*q = p->p_next;
	signal_discard(&p->p_signals);
	sighand_put(p->p_sighand);
	kfree(p->p_args, p->p_argslen);
	kfree(p, sizeof(*p));
}

/* ---- waiting ---- */
static bool child_matches(const struct proc *c, const struct proc *me, int pid)
{
	if (c->p_parent != me)
		return false;
	return pid == -1 || (pid > 0 && c->p_pid == pid) || (pid == 0 && c->p_pgid == me->p_pgid) ||
	    (pid < -1 && c->p_pgid == -pid);
}

struct waited {
	struct proc *me;
	int pid;
	unsigned options;
	bool any, ready;
};

enum telling { TELLS_NOTHING, TELLS_END, TELLS_STOP, TELLS_CONTINUED };

/* The status of the child for a wait with these options. */
static enum telling tells_of(const struct proc *c, unsigned options)
{
	if (c->p_zombie)
		return (options & WEXITED) && !c->p_by_vfork ? TELLS_END : TELLS_NOTHING;
	if (c->p_stopped && !c->p_told_stop && (options & WUNTRACED))
		return TELLS_STOP;
	return c->p_continued && (options & WCONTINUED) ? TELLS_CONTINUED : TELLS_NOTHING;
}

/*
 * A condition of wait_until, called under sched_lock: only reads. The list itself changes under
 * proc_lock; a child is not freed while its parent lives.
 */
static bool is_ready(void *arg)
{
	struct waited *w = arg;

	w->any = w->ready = false;
	for (struct proc *c = all_procs; c != NULL; c = c->p_next) {
		if (!child_matches(c, w->me, w->pid))
			continue;
		w->any = true;
		w->ready |= tells_of(c, w->options) != TELLS_NOTHING;
	}
	return w->ready || !w->any;
}

/*
 * Returns the status of a child with an event; unless the wait keeps the event (WNOWAIT), the event
 * is consumed.
 */
static int tell_status(struct proc *c, enum telling what, unsigned options)
{
	bool leave = (options & WNOWAIT) != 0;
	int status = c->p_status;

	switch (what) {
	case TELLS_STOP: c->p_told_stop = !leave; return 0x7f | c->p_stop_sig << 8;
	case TELLS_CONTINUED: c->p_continued = leave; return 0xffff;
	default: break;
	}
	if (!leave) {
		c->p_parent->p_child_ns += c->p_cpu_ns + c->p_child_ns;
		proc_free(c);
	}
	return status;
}

static int64_t reap_child(struct waited *w, int *status)
{
	for (struct proc *c = all_procs; c != NULL; c = c->p_next) {
		enum telling what;
		int pid = c->p_pid;

		if (!child_matches(c, w->me, w->pid) ||
		    (what = tells_of(c, w->options)) == TELLS_NOTHING)
			continue;
		*status = tell_status(c, what, w->options);
		return pid;
	}
	return 0;
}

int64_t proc_wait_kernel(int pid, int *st, unsigned options)
{
	struct waited w = { .me = this_proc(), .pid = pid, .options = options };
	int64_t found;
	int err;

	for (;;) {
		mach_mutex_enter(&proc_lock);
		(void)is_ready(&w);
		found = reap_child(&w, st);
		mach_mutex_exit(&proc_lock);
		if (found > 0)
			break;
		if (!w.any)
			return -ECHILD;
		if (options & WNOHANG)
			return 0;
		/*
		 * proc_lock guards the list, which is read here without the lock: a stale value
		 * only causes an early wake-up or another wake-up later
		 */
		mach_mutex_enter(&proc_lock);
		if (is_ready(&w)) {
			mach_mutex_exit(&proc_lock);
			continue;
		}
		bool irq = spin_lock(&sched_lock);

		mutex_exit_locked(&proc_lock);
		err = wait_on(&w.me->p_wait, 0, true);
		spin_unlock(&sched_lock, irq);
		if (err != 0)
			return -ERESTART;
	}
	return found;
}

int64_t proc_wait(int pid, uint64_t status, unsigned options, uint64_t rusage)
{
	struct proc *me = this_proc();
	uint64_t before = me->p_child_ns;
	int st = 0;
	int64_t found;

	if (options & ~(WNOHANG | WUNTRACED | WCONTINUED | 0xe0000000u))
		return -EINVAL;
	found = proc_wait_kernel(pid, &st, options | WEXITED);
	if (found <= 0)
		return found;
	if (status != 0 && copy_out(status, &st, sizeof(st)) != 0)
		return -EFAULT;
	if (rusage != 0) {
		uint64_t ns = me->p_child_ns - before,
			 r[18] = { ns / 1000000000, ns % 1000000000 / 1000 };

		if (copy_out(rusage, r, sizeof(r)) != 0)
			return -EFAULT;
	}
	return found;
}
