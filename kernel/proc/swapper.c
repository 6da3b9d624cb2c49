/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Swap-out of whole processes, kernel stacks included, as SVR4's sched did.
 *
 * While page-out writes for lack of memory, the swapper looks for processes all of whose threads
 * have slept for maxslp seconds in a wait that a signal can end. It swaps out their memory
 * (as_swapout) and the kernel stack of each thread (segkp_swapout).
 *
 *   t_swap        the thread                              next
 *   IN            its stack is in memory and locked       OUT: the swapper marks the thread, then writes the stack
 *   OUT           sleeps; its stack is on disk            COMING: make_runnable, when the thread is woken
 *   COMING        waits in swapin_queue                   IN: the swapper has read the stack, and the thread is runnable
 *
 * Only the swapper moves a stack, so out and in cannot overlap. No object that another thread or an
 * interrupt uses may lie on the stack of a thread that sleeps interruptibly: thread and wait queue
 * links are in struct thread, a futex's in struct uthread. A stack whose read fails is read again,
 * up to STACK_TRIES times. Then the machine stops: the thread's frames on that stack hold
 * references that no other thread can give back, so its process cannot end. Files are written
 * before that.
 *
 * Locks: sched_lock guards t_swap and the queue; proc_lock the list of processes. A process that is
 * marked cannot run, so it stays on the list, with its threads and its space, until the swapper has
 * read its stacks back. So proc_lock is dropped while the swapper waits for a disk.
 */
#include "kernel/proc/proc.h"

#define PERIOD_NS 1000000000u
#define RETRY_NS 10000000u
#define STACK_TRIES 100u
#define MAXSLP 5u /* seconds */

static struct swapper_counters counters; /* written by the swapper only */

void swapper_counters(struct swapper_counters *c) { *c = counters; }

/* sched_lock held. */
static bool thread_sleeps_long(const struct thread *t, uint64_t since)
{
	KASSERT(spin_held(&sched_lock));
	return t->t_state == T_BLOCKED && t->t_interruptible && t->t_cpu < 0 &&
	    t->t_swap == SWAP_IN && t->t_slept < since;
}

/* Marks every thread of the process if all have slept since `since`. proc_lock held. */
static bool mark_threads(struct proc *p, uint64_t since)
{
	bool irq = spin_lock(&sched_lock),
	     all = p->p_threads != NULL && !p->p_exiting && !p->p_zombie;

	KASSERT(mach_mutex_held(&proc_lock));
	for (struct uthread *u = p->p_threads; u != NULL && all; u = u->u_next)
		all = thread_sleeps_long(u->u_thread, since);
	for (struct uthread *u = p->p_threads; u != NULL && all; u = u->u_next)
		u->u_thread->t_swap = SWAP_OUT;
	spin_unlock(&sched_lock, irq);
	return all;
}

/*
 * Swaps out a marked process: none of its threads can run, so none can end before its stack is
 * back.
 */
static void swap_out(struct proc *p)
{
	KASSERT(!mach_mutex_held(&proc_lock));
	counters.sc_pages += as_swapout(p->p_as);
	for (struct uthread *u = p->p_threads; u != NULL; u = u->u_next) {
		stack_swapout(u->u_thread->t_stack);
		counters.sc_stacks_out++;
	}
	counters.sc_processes++;
}

static void swap_out_sleepers(uint64_t maxslp)
{
	uint64_t now = arch_time_ns(), since = now > maxslp ? now - maxslp : 0;

	mach_mutex_enter(&proc_lock);
	for (struct proc *p = all_procs; p != NULL; p = p->p_next) {
		if (p->p_as == NULL || p->p_borrowed || !mark_threads(p, since))
			continue;
		mach_mutex_exit(&proc_lock);
		swap_out(p);
		mach_mutex_enter(&proc_lock);
	}
	mach_mutex_exit(&proc_lock);
}

/* Takes the first thread that needs its stack off the queue; NULL: none. */
static struct thread *take_coming(void)
{
	bool irq = spin_lock(&sched_lock);
	struct thread *t = swapin_pop();

	spin_unlock(&sched_lock, irq);
	return t;
}

static void wait_a_moment(void)
{
	bool irq = spin_lock(&sched_lock);

	(void)wait_on(&swapper_queue, arch_time_ns() + RETRY_NS, false);
	spin_unlock(&sched_lock, irq);
}

/* Memory becomes free at some time. A disk that has failed until then will not answer. */
static void read_stack(struct thread *t)
{
	unsigned failed = 0;
	enum vm_err e;

	while ((e = stack_swapin(t->t_stack)) != VM_OK) {
		if (e != VM_NOMEM && ++failed == STACK_TRIES) {
			vfs_sync();
			kstop("a kernel stack of process %d cannot be read back from swap: %s",
			    t->t_proc->p_pid, vm_err_name(e));
		}
		wait_a_moment();
	}
}

static void swap_in(struct thread *t)
{
	struct as *as = t->t_proc->p_as;

	read_stack(t);
	counters.sc_stacks_in++;
	if (as != NULL)
		as_hold(as);
	swapin_done(t);
	if (as != NULL) {
		(void)as_swapin(as);
		as_free(as);
	}
}

static bool someone_comes(void *arg)
{
	(void)arg;
	return swapin_queue.wq_head != NULL;
}

static void run_swapper(void *arg)
{
	uint64_t maxslp = cmdline_number("maxslp", MAXSLP) * 1000000000, written = 0;

	(void)arg;
	for (;;) {
		uint64_t now_written;
		struct thread *t;

		(void)wait_until(
		    &swapper_queue, someone_comes, NULL, arch_time_ns() + PERIOD_NS, false);
		work_begin();
		while ((t = take_coming()) != NULL)
			swap_in(t);
		now_written = vm_statistics(the_vm)->swapout;
		if (now_written != written)
			swap_out_sleepers(maxslp);
		written = vm_statistics(the_vm)->swapout;
		work_end();
	}
}

void swapper_start(void)
{
	struct thread *t = thread_new(run_swapper, NULL, "swapper");

	if (t != NULL)
		thread_go(t);
}
