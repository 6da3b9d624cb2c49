/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Creation of processes and threads: the structures, and clone(2).
 *
 * Objects that a child shares with its parent are held by a reference; all others are copied. A
 * process enters the tree, where it can be found, only when it is complete; its first thread runs
 * after that.
 *
 * Locks: takes proc_lock to enter the tree. The caller's process does not end during the call.
 */
#include "kernel/proc/signal.h"

static int last_id; /* atomic */

static int new_id(void) { return __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED); }

/* From the thread that creates this one. */
static void inherit_scheduling(struct uthread *u)
{
	const struct uthread *self = this_uthread();

	if (self == NULL) /* this one is the first process's */
		return;
	u->u_policy = self->u_policy;
	u->u_prio = self->u_prio;
	u->u_nice = self->u_nice;
}

struct uthread *uthread_new(struct proc *p, struct trapframe **tf)
{
	struct uthread *u = kzalloc(sizeof(*u));
	struct thread *t;

	if (u == NULL)
		return NULL;
	if ((t = thread_new(NULL, NULL, "user")) == NULL) {
		kfree(u, sizeof(*u));
		return NULL;
	}
	t->t_proc = p;
	t->t_user = u;
	t->t_detached = true;
	t->t_sp = arch_user_stack(t->t_top, tf);
	u->u_tid = new_id();
	u->u_proc = p;
	u->u_thread = t;
	u->u_tf = *tf;
	u->u_altflags = 2; /* SS_DISABLE */
	u->u_syscall = -1;
	inherit_scheduling(u);
	return u;
}

void uthread_enter(struct proc *p, struct uthread *u)
{
	mach_mutex_enter(&proc_lock);
	u->u_next = p->p_threads;
	p->p_threads = u;
	p->p_nthreads++;
	mach_mutex_exit(&proc_lock);
}

/*
 * The most threads: their kernel stacks may take an eighth of memory, since stacks and page tables
 * stay in memory and programs need the rest.
 */
static unsigned threads_most(void)
{
	return (unsigned)(arch_memory_pages() / (8 * STACK_BYTES / VM_PAGESIZE));
}

struct proc *proc_new(struct proc *parent)
{
	struct proc *p = kzalloc(sizeof(*p));

	if (p == NULL)
		return NULL;
	p->p_parent = parent;
	p->p_started = arch_time_ns();
	p->p_exit_signal = SIGCHLD;
	itimers_init(p);
	if (parent == NULL) {
		for (unsigned i = 0; i < RLIM_NLIMITS; i++)
			p->p_rlim[i] = (struct rlimit){ RLIM_INFINITY, RLIM_INFINITY };
		p->p_rlim[3] = (struct rlimit){ 8u << 20, RLIM_INFINITY };
		p->p_rlim[4] = (struct rlimit){ 0, RLIM_INFINITY }; /* no core files */
		p->p_rlim[6] = (struct rlimit){ threads_most() / 2, threads_most() / 2 };
		p->p_rlim[7] = (struct rlimit){ 1024, 4096 };
		p->p_umask = 022;
		return p;
	}
	p->p_pgid = parent->p_pgid;
	p->p_sid = parent->p_sid;
	p->p_umask = parent->p_umask;
	p->p_cred = parent->p_cred;
	memcpy(p->p_rlim, parent->p_rlim, sizeof(p->p_rlim));
	memcpy(p->p_comm, parent->p_comm, sizeof(p->p_comm));
	p->p_stack_top = parent->p_stack_top;
	p->p_arg_start = parent->p_arg_start;
	if (parent->p_args != NULL && (p->p_args = kalloc(parent->p_argslen)) != NULL) {
		memcpy(p->p_args, parent->p_args, parent->p_argslen);
		p->p_argslen = parent->p_argslen;
	}
	return p;
}

#define CLONE_VM 0x100u
#define CLONE_FS 0x200u
#define CLONE_FILES 0x400u
#define CLONE_SIGHAND 0x800u
#define CLONE_VFORK 0x4000u
#define CLONE_PARENT 0x8000u
#define CLONE_THREAD 0x10000u
#define CLONE_SETTLS 0x80000u
#define CLONE_PARENT_SETTID 0x100000u
#define CLONE_CHILD_CLEARTID 0x200000u
#define CLONE_CHILD_SETTID 0x1000000u

static void proc_discard(struct proc *p)
{
	if (p->p_as != NULL) {
		if (p->p_borrowed)
			as_return(p->p_as);
		else
			as_free(p->p_as);
	}
	if (p->p_files != NULL)
		files_put(p->p_files);
	sighand_put(p->p_sighand);
	inode_put(p->p_cwd);
	inode_put(p->p_root);
	inode_put(p->p_exe);
	kfree(p->p_args, p->p_argslen);
	kfree(p, sizeof(*p));
}

/* Makes a new process like the calling process. */
static int proc_copy(struct proc *me, uint64_t flags, struct proc **childp)
{
	struct proc *p = proc_new(me);
	enum vm_err e = VM_OK;

	if (p == NULL)
		return -ENOMEM;
	p->p_exit_signal = (int)(flags & 0xff);
	p->p_cwd = proc_hold_inode(&me->p_cwd);
	p->p_root = proc_hold_inode(&me->p_root);
	p->p_exe = proc_hold_inode(&me->p_exe);
	p->p_sighand = sighand_of(me, (flags & CLONE_SIGHAND) != 0);
	if (flags & CLONE_FILES) {
		me->p_files->fs_refcnt++;
		p->p_files = me->p_files;
	} else {
		p->p_files = files_dup(me->p_files);
	}
	if (p->p_sighand == NULL || p->p_files == NULL) {
		proc_discard(p);
		return -ENOMEM;
	}
	if (flags & CLONE_VM) {
		as_borrow(me->p_as);
		p->p_as = me->p_as;
		p->p_borrowed = true;
	} else {
		e = as_dup(me->p_as, &p->p_as);
	}
	if (e != VM_OK) {
		p->p_as = NULL;
		proc_discard(p);
		return err_of(e);
	}
	*childp = p;
	return 0;
}

static bool child_is_free(void *child) { return !((struct proc *)child)->p_vforked; }

/* The signals of which each ends the process when a thread of it takes the signal. */
static uint64_t fatal_signals(const struct proc *p)
{
	uint64_t set = 0;

	for (unsigned sig = 1; sig <= NSIG; sig++)
		if (p->p_sighand->sh_action[sig].sa_handler == 0)
			set |= SIGBIT(sig);
	return (set & ~(DEFAULT_IGNORE | DEFAULT_STOP)) | SIGBIT(SIGKILL);
}

static void set_blocked(struct uthread *u, uint64_t mask)
{
	bool irq = spin_lock(&sched_lock);

	u->u_sigmask = mask;
	spin_unlock(&sched_lock, irq);
}

/*
 * Waits until the child execs or exits. The end of this thread or of its process ends the wait, too, and so does a signal that ends the
 * process; other signals wait as if they were blocked. The child's structure stays meanwhile: other
 * threads that wait for children skip it.
 */
static void wait_for_vforked(struct proc *child)
{
	struct proc *me = this_proc();
	struct uthread *self = this_uthread();
	uint64_t mask = self->u_sigmask;
	bool irq;

	set_blocked(self, mask | ~fatal_signals(me));
	(void)wait_until(&me->p_wait, child_is_free, child, 0, true);
	set_blocked(self, mask);
	irq = spin_lock(&sched_lock);
	child->p_vforked = false;
	spin_unlock(&sched_lock, irq);
	mach_mutex_enter(&proc_lock);
	child->p_by_vfork = false;
	if (child->p_zombie && child->p_exit_signal == SIGCHLD && proc_ignores_children(me))
		proc_free(child);
	mach_mutex_exit(&proc_lock);
	wake(&me->p_wait);
}

int64_t proc_clone(uint64_t flags, uint64_t stack, uint64_t ptid, uint64_t ctid, uint64_t tls)
{
	struct proc *me = this_proc(), *p = me;
	struct uthread *u, *self = this_uthread();
	struct trapframe *tf;
	int err, tid;

	if (((flags & CLONE_THREAD) && !(flags & CLONE_SIGHAND)) ||
	    ((flags & CLONE_SIGHAND) && !(flags & CLONE_VM)))
		return -EINVAL;
	err = thread_count() >= threads_most() ? -EAGAIN : 0;
	if (err != 0 || (!(flags & CLONE_THREAD) && (err = proc_copy(me, flags, &p)) != 0))
		return err;
	if ((u = uthread_new(p, &tf)) == NULL) {
		if (p != me)
			proc_discard(p);
		return -ENOMEM;
	}
	tid = u->u_tid;
	*tf = *self->u_tf;
	tf_set_result(tf, 0);
	if (stack != 0)
		tf_set_sp(tf, stack);
	arch_user_copy(u->u_thread);
	if (flags & CLONE_SETTLS)
		tf_set_tls(tf, &u->u_thread->t_arch, tls);
	u->u_thread->t_hat = as_hat(p->p_as);
	u->u_sigmask = self->u_sigmask;
	if ((flags & CLONE_THREAD) == 0 && !(flags & CLONE_VM)) {
		u->u_altstack = self->u_altstack;
		u->u_altsize = self->u_altsize;
		u->u_altflags = self->u_altflags;
	}
	if (flags & CLONE_CHILD_CLEARTID)
		u->u_clear_tid = ctid;
	if (flags & CLONE_PARENT_SETTID)
		(void)copy_out(ptid, &tid, sizeof(tid));
	if (flags & CLONE_CHILD_SETTID)
		(void)as_copyout(p->p_as, &tid, ctid, sizeof(tid));
	if (p != me) {
		p->p_pid = tid;
		p->p_vforked = p->p_by_vfork = (flags & CLONE_VFORK) != 0;
		mach_mutex_enter(&proc_lock);
		p->p_next = all_procs;
		all_procs = p;
		mach_mutex_exit(&proc_lock);
	}
	uthread_enter(p, u);
	thread_go(u->u_thread);
	if (flags & CLONE_VFORK)
		wait_for_vforked(p);
	return tid;
}
