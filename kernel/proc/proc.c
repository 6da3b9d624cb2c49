/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processes: the tree, and how a process or a thread is found in it. fork.c makes them, exit.c ends them and waits for them.
 *
 * A process is an address space of the vm (p_as), open files, signal actions and threads (struct
 * uthread, each with a kernel thread). fork is as_dup; a thread or a vfork child has a reference to
 * the same space. An ending thread frees only objects that no other thread uses; the last thread of
 * a process frees everything but the structure, which is a zombie until its parent has waited for
 * it.
 *
 * Locks: proc_lock (sleeps) guards the tree and the lists of threads; sched_lock guards states that
 * interrupts change. Left out: namespaces, cgroups, ptrace.
 */
#include "kernel/proc/proc.h"

struct mach_mutex proc_lock;
struct proc *all_procs;
struct proc *init_proc;

struct uthread *this_uthread(void) { return arch_cur()->t_user; }
struct proc *this_proc(void) { return arch_cur()->t_proc; }

bool uthread_must_end(const struct uthread *u)
{
	const struct proc *p = u->u_proc;

	return p->p_exiting || (p->p_execer != NULL && p->p_execer != u);
}

struct proc *proc_find(int pid)
{
	struct proc *p = all_procs;

	KASSERT(mach_mutex_held(&proc_lock));
	while (p != NULL && p->p_pid != pid)
		p = p->p_next;
	return p;
}

struct uthread *uthread_find(int tid)
{
	KASSERT(mach_mutex_held(&proc_lock));
	for (struct proc *p = all_procs; p != NULL; p = p->p_next)
		for (struct uthread *u = p->p_threads; u != NULL; u = u->u_next)
			if (u->u_tid == tid)
				return u;
	return NULL;
}

/* Called at exec or exit of a vfork child, which no longer uses its parent's memory. */
void release_vfork(struct proc *p)
{
	bool irq = spin_lock(&sched_lock);

	if (p->p_vforked) {
		p->p_vforked = false;
		wake_all(&p->p_parent->p_wait);
	}
	spin_unlock(&sched_lock, irq);
}

static uint64_t proc_cpu_ns_locked(const struct proc *p)
{
	uint64_t ns = p->p_cpu_ns;

	KASSERT(mach_mutex_held(&proc_lock));
	for (const struct uthread *u = p->p_threads; u != NULL; u = u->u_next)
		ns += thread_run_ns(u->u_thread);
	return ns;
}

uint64_t proc_cpu_ns(struct proc *p)
{
	uint64_t ns;

	mach_mutex_enter(&proc_lock);
	ns = proc_cpu_ns_locked(p);
	mach_mutex_exit(&proc_lock);
	return ns;
}

/*
 * All but 3 bits of the number are the complement of the process's or the thread's number, 0 for the
 * caller's own. 4: a thread. The 2 bits below tell which times count, here all of them; 3 means none.
 */
bool cpu_clock_find(int number, int *pid, int *tid)
{
	int id = ~number >> 3;

	*pid = this_proc()->p_pid;
	*tid = 0;
	if (number & 4)
		*tid = id != 0 ? id : this_uthread()->u_tid;
	else if (id != 0)
		*pid = id;
	return (number & 3) != 3;
}

bool cpu_clock_ns(int pid, int tid, uint64_t *ns)
{
	const struct proc *p;
	const struct uthread *u;
	bool found;

	mach_mutex_enter(&proc_lock);
	if (tid != 0) {
		found = (u = uthread_find(tid)) != NULL && u->u_proc->p_pid == pid;
		*ns = found ? thread_run_ns(u->u_thread) : 0;
	} else {
		found = (p = proc_find(pid)) != NULL;
		*ns = found ? proc_cpu_ns_locked(p) : 0;
	}
	mach_mutex_exit(&proc_lock);
	return found;
}

struct inode *proc_hold_inode(struct inode *const *place)
{
	struct inode *i;

	mach_mutex_enter(&proc_lock);
	if ((i = *place) != NULL)
		(void)inode_hold(i);
	mach_mutex_exit(&proc_lock);
	return i;
}

void proc_set_inode(struct inode **place, struct inode *i)
{
	struct inode *old;

	mach_mutex_enter(&proc_lock);
	old = *place;
	*place = i;
	mach_mutex_exit(&proc_lock);
	inode_put(old);
}

void proc_wake_others(struct proc *p)
{
	KASSERT(mach_mutex_held(&proc_lock) && spin_held(&sched_lock));
	wake_all(&p->p_cont);
	for (struct uthread *u = p->p_threads; u != NULL; u = u->u_next)
		if (u != this_uthread())
			wake_thread(u->u_thread, true);
}
