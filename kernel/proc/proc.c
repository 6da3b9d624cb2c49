/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processes: the tree, creation, the end, waiting for children.
 *
 * A process is an address space of the vm (p_as), open files, signal actions and threads (struct uthread, each with a kernel thread).
 * fork is as_dup; a thread or a vfork child has a reference to the same space. A thread that ends frees nothing
 * that others use; the last one of a process gives everything back but the structure, which is a zombie until its parent
 * has waited for it.
 *
 * exit_group: p_exiting is set and every other thread is woken; each ends at its next return to user mode or at its next wait
 * that signals end. Threads that wait in the kernel for I/O come out of it first.
 *
 * Locks: proc_lock (sleeps) guards the tree and the lists of threads; states that interrupts change are under sched_lock.
 * Left out: namespaces, users other than root, cgroups, ptrace.
 */
#include "kernel/proc/proc.h"

struct mach_mutex proc_lock;
struct proc *all_procs;
static int last_id;
static struct proc *init_proc;

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

static int new_id(void) { return __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED); }

/* ---- open files ---- */
struct files *files_new(void)
{
	struct files *fs = kzalloc(sizeof(*fs));

	if (fs != NULL) {
		fs->fs_refcnt = 1;
		mach_mutex_init(&fs->fs_lock, 4, "descriptors");
	}
	return fs;
}

static bool files_grow(struct files *fs, unsigned want)
{
	unsigned n = fs->fs_n == 0 ? 16 : fs->fs_n;
	struct file **file;
	uint8_t *flag;

	while (n < want)
		n *= 2;
	if (n == fs->fs_n)
		return true;
	file = kzalloc(n * sizeof(*file));
	flag = kzalloc(n);
	if (file == NULL || flag == NULL) {
		kfree(file, n * sizeof(*file));
		kfree(flag, n);
		return false;
	}
	if (fs->fs_n > 0) {
		memcpy(file, fs->fs_file, fs->fs_n * sizeof(*file));
		memcpy(flag, fs->fs_cloexec, fs->fs_n);
		kfree(fs->fs_file, fs->fs_n * sizeof(*file));
		kfree(fs->fs_cloexec, fs->fs_n);
	}
	fs->fs_file = file;
	fs->fs_cloexec = flag;
	fs->fs_n = n;
	return true;
}

struct files *files_dup(struct files *old)
{
	struct files *fs = files_new();

	if (fs == NULL)
		return NULL;
	mach_mutex_enter(&old->fs_lock);
	if (!files_grow(fs, old->fs_n > 0 ? old->fs_n : 1)) {
		mach_mutex_exit(&old->fs_lock);
		files_put(fs);
		return NULL;
	}
	for (unsigned i = 0; i < old->fs_n; i++) {
		if ((fs->fs_file[i] = old->fs_file[i]) != NULL)
			file_hold(fs->fs_file[i]);
		fs->fs_cloexec[i] = old->fs_cloexec[i];
	}
	mach_mutex_exit(&old->fs_lock);
	return fs;
}

void files_put(struct files *fs)
{
	if (__atomic_sub_fetch((unsigned *)(void *)&fs->fs_refcnt, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (unsigned i = 0; i < fs->fs_n; i++)
		if (fs->fs_file[i] != NULL)
			file_put(fs->fs_file[i]);
	kfree(fs->fs_file, fs->fs_n * sizeof(*fs->fs_file));
	kfree(fs->fs_cloexec, fs->fs_n);
	mach_mutex_fini(&fs->fs_lock);
	kfree(fs, sizeof(*fs));
}

int fd_install(struct files *fs, struct file *f, unsigned from, bool cloexec)
{
	unsigned i = from;
	int fd = -EMFILE;

	mach_mutex_enter(&fs->fs_lock);
	while (i < fs->fs_n && fs->fs_file[i] != NULL)
		i++;
	if (i >= this_proc()->p_rlim[7].cur)
		fd = -EMFILE;
	else if (!files_grow(fs, i + 1))
		fd = -ENOMEM;
	else {
		fs->fs_file[i] = f;
		fs->fs_cloexec[i] = cloexec;
		fd = (int)i;
	}
	mach_mutex_exit(&fs->fs_lock);
	if (fd < 0)
		file_put(f);
	return fd;
}

struct file *fd_get(int fd)
{
	struct files *fs = this_proc()->p_files;
	struct file *f = NULL;

	mach_mutex_enter(&fs->fs_lock);
	if (fd >= 0 && (unsigned)fd < fs->fs_n && (f = fs->fs_file[fd]) != NULL)
		file_hold(f);
	mach_mutex_exit(&fs->fs_lock);
	return f;
}

int fd_close(struct files *fs, int fd)
{
	struct file *f = NULL;

	mach_mutex_enter(&fs->fs_lock);
	if (fd >= 0 && (unsigned)fd < fs->fs_n) {
		f = fs->fs_file[fd];
		fs->fs_file[fd] = NULL;
		fs->fs_cloexec[fd] = 0;
	}
	mach_mutex_exit(&fs->fs_lock);
	if (f == NULL)
		return -EBADF;
	filelock_drop(this_proc(), f->f_inode);
	file_put(f);
	return 0;
}

void files_close_on_exec(struct files *fs)
{
	for (unsigned i = 0; i < fs->fs_n; i++)
		if (fs->fs_file[i] != NULL && fs->fs_cloexec[i])
			(void)fd_close(fs, (int)i);
}

/* ---- creation ---- */
static struct uthread *uthread_new(struct proc *p, struct trapframe **tf)
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
	return u;
}

static void uthread_enter(struct proc *p, struct uthread *u)
{
	mach_mutex_enter(&proc_lock);
	u->u_next = p->p_threads;
	p->p_threads = u;
	p->p_nthreads++;
	mach_mutex_exit(&proc_lock);
}

static struct proc *proc_new(struct proc *parent)
{
	struct proc *p = kzalloc(sizeof(*p));

	if (p == NULL)
		return NULL;
	p->p_parent = parent;
	p->p_started = arch_time_ns();
	p->p_exit_signal = SIGCHLD;
	if (parent == NULL) {
		for (unsigned i = 0; i < RLIM_NLIMITS; i++)
			p->p_rlim[i] = (struct rlimit){ RLIM_INFINITY, RLIM_INFINITY };
		p->p_rlim[3] = (struct rlimit){ 8u << 20, RLIM_INFINITY };
		p->p_rlim[4] = (struct rlimit){ 0, RLIM_INFINITY }; /* no core files */
		p->p_rlim[7] = (struct rlimit){ 1024, 4096 };
		p->p_umask = 022;
		return p;
	}
	p->p_pgid = parent->p_pgid;
	p->p_sid = parent->p_sid;
	p->p_umask = parent->p_umask;
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

static struct sighand *sighand_of(struct proc *parent, bool share)
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

static void sighand_put(struct sighand *sh)
{
	if (sh != NULL &&
	    __atomic_sub_fetch((unsigned *)(void *)&sh->sh_refcnt, 1, __ATOMIC_ACQ_REL) == 0)
		kfree(sh, sizeof(*sh));
}

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

/* A new process like this one. */
static int proc_copy(struct proc *me, uint64_t flags, struct proc **childp)
{
	struct proc *p = proc_new(me);
	enum vm_err e = VM_OK;

	if (p == NULL)
		return -ENOMEM;
	p->p_exit_signal = (int)(flags & 0xff);
	p->p_cwd = inode_hold(me->p_cwd);
	p->p_root = inode_hold(me->p_root);
	p->p_exe = me->p_exe != NULL ? inode_hold(me->p_exe) : NULL;
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

struct vforked {
	struct proc *child;
};

static bool child_is_free(void *arg) { return !((struct vforked *)arg)->child->p_vforked; }

int64_t proc_clone(uint64_t flags, uint64_t stack, uint64_t ptid, uint64_t ctid, uint64_t tls)
{
	struct proc *me = this_proc(), *p = me;
	struct uthread *u, *self = this_uthread();
	struct trapframe *tf;
	struct thread *cur = arch_cur();
	int err, tid;

	if (!(flags & CLONE_THREAD) && (err = proc_copy(me, flags, &p)) != 0)
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
	arch_user_copy(u->u_thread, cur);
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
	if (flags & CLONE_VFORK) {
		struct vforked v = { p };

		/* the child's structure stays: other threads that wait for children pass over it */
		(void)wait_until(&me->p_wait, child_is_free, &v, 0, false);
		mach_mutex_enter(&proc_lock);
		p->p_by_vfork = false;
		if (p->p_zombie && p->p_exit_signal == SIGCHLD && proc_ignores_children(me))
			proc_free(p);
		mach_mutex_exit(&proc_lock);
		wake(&me->p_wait);
	}
	return tid;
}

/* ---- the end ---- */
/* The process does not use its parent's memory any more: exec or exit. */
void release_vfork(struct proc *p)
{
	bool irq = spin_lock(&sched_lock);

	if (p->p_vforked) {
		p->p_vforked = false;
		wake_all(&p->p_parent->p_wait);
	}
	spin_unlock(&sched_lock, irq);
}

static void leave_space(struct proc *p)
{
	struct as *as = p->p_as;

	arch_cur()->t_hat = NULL;
	arch_load_space(NULL);
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

static void forget_program(struct proc *p)
{
	struct inode *i = p->p_exe;

	mach_mutex_enter(&proc_lock);
	p->p_exe = NULL;
	mach_mutex_exit(&proc_lock);
	inode_put(i);
}

/* Its children become init's. proc_lock held. */
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

/* The first process ends, and the system with it: all others end before. */
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

/* Its end becomes known; if the parent does not want to know, nothing of the process is left. proc_lock held. */
static void tell_parent(struct proc *p, struct proc *parent)
{
	int killed = p->p_status & 0x7f;

	if (p->p_exit_signal != 0)
		signal_queue_proc(parent, p->p_exit_signal, killed != 0 ? 2 : 1, (uint64_t)p->p_pid,
		    (uint64_t)(killed != 0 ? killed : p->p_status >> 8));
	if (p->p_exit_signal == SIGCHLD && proc_ignores_children(parent) && !p->p_by_vfork)
		proc_free(p);
}

static void proc_end(struct proc *p)
{
	struct proc *parent;
	bool irq;

	if (p == init_proc)
		end_other_processes();
	filelock_drop(p, NULL);
	files_put(p->p_files);
	p->p_files = NULL;
	leave_space(p);
	forget_program(p);
	/* not before: files without names that it had open or mapped are freed with it */
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
	mach_mutex_exit(&proc_lock);
	irq = spin_lock(&sched_lock);
	wake_all(&parent->p_wait);
	if (init_proc != NULL)
		wake_all(&init_proc->p_wait);
	spin_unlock(&sched_lock, irq);
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
	mach_mutex_enter(&proc_lock);
	for (q = &p->p_threads; *q != u; q = &(*q)->u_next)
		;
	*q = u->u_next;
	last = --p->p_nthreads == 0;
	p->p_cpu_ns += arch_cur()->t_run + (arch_time_ns() - arch_cur()->t_since);
	if (last && !p->p_exiting)
		p->p_status = (code & 0xff) << 8;
	mach_mutex_exit(&proc_lock);
	wake(&p->p_wait);
	if (last)
		proc_end(p);
	arch_cur()->t_hat = NULL;
	arch_load_space(NULL);
	arch_cur()->t_user = NULL;
	arch_cur()->t_proc = NULL;
	signal_discard(&u->u_signals);
	kfree(u, sizeof(*u));
	thread_exit();
}

void proc_exit(int status)
{
	struct proc *p = this_proc();
	bool irq;

	mach_mutex_enter(&proc_lock);
	irq = spin_lock(&sched_lock);
	if (!p->p_exiting) {
		p->p_exiting = true;
		p->p_status = status;
		wake_all(&p->p_cont);
		for (struct uthread *u = p->p_threads; u != NULL; u = u->u_next)
			if (u != this_uthread())
				wake_thread(u->u_thread, true);
	}
	spin_unlock(&sched_lock, irq);
	mach_mutex_exit(&proc_lock);
	uthread_exit(0);
}

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

/* What a wait with these options is told of the child. */
static enum telling tells_of(const struct proc *c, unsigned options)
{
	if (c->p_zombie)
		return (options & WEXITED) && !c->p_by_vfork ? TELLS_END : TELLS_NOTHING;
	if (c->p_stopped && !c->p_told_stop && (options & WUNTRACED))
		return TELLS_STOP;
	return c->p_continued && (options & WCONTINUED) ? TELLS_CONTINUED : TELLS_NOTHING;
}

/* Asked under sched_lock: only looks. The list itself changes under proc_lock; a child does not go while its parent lives. */
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

/* The status of a child that tells of something; unless the wait shall leave it (WNOWAIT), it is told for the last time. */
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
		/* proc_lock guards the list, and this looks without it: a stale look only wakes too early or is woken again */
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

uint64_t proc_cpu_ns(struct proc *p)
{
	const struct thread *cur = arch_cur();
	uint64_t ns;

	mach_mutex_enter(&proc_lock);
	ns = p->p_cpu_ns;
	for (const struct uthread *u = p->p_threads; u != NULL; u = u->u_next)
		ns += u->u_thread->t_run;
	if (cur->t_proc == p)
		ns += arch_time_ns() - cur->t_since;
	mach_mutex_exit(&proc_lock);
	return ns;
}

/* ---- the first ---- */
/* The first process, made and filled by the calling thread, which acts for it until first_process_begins. */
static struct uthread *first_process_new(void)
{
	struct trapframe *tf;
	struct thread *t = arch_cur();
	struct uthread *u;
	struct proc *p;

	if ((p = proc_new(NULL)) == NULL || (p->p_files = files_new()) == NULL ||
	    (p->p_sighand = sighand_of(NULL, false)) == NULL || (u = uthread_new(p, &tf)) == NULL ||
	    as_alloc(the_vm, USER_MIN, user_top(), &p->p_as) != VM_OK)
		kpanic("no memory for the first program");
	init_proc = p;
	p->p_cwd = inode_hold(vfs_root);
	p->p_root = inode_hold(vfs_root);
	p->p_pid = p->p_pgid = p->p_sid = u->u_tid;
	all_procs = p;
	tty_set_foreground(p->p_pgid);
	uthread_enter(p, u);
	t->t_proc = p;
	t->t_user = u;
	return u;
}

static void first_process_begins(struct uthread *u)
{
	struct thread *t = arch_cur();

	u->u_thread->t_hat = as_hat(u->u_proc->p_as);
	arch_user_init(u->u_thread);
	t->t_proc = NULL;
	t->t_user = NULL;
	t->t_hat = NULL;
	arch_load_space(NULL);
	thread_go(u->u_thread);
}

static void open_console(struct proc *p)
{
	struct file *f;
	int err = vfs_open(NULL, "/dev/console", O_RDWR, 0, &f);

	if (err != 0)
		kpanic("/dev/console: error %d", -err);
	file_hold(f);
	file_hold(f);
	for (unsigned i = 0; i < 3; i++)
		(void)fd_install(p->p_files, f, 0, false);
}

/* The command line's init=, arg0=, arg1=, ...: ^ stands for a space. argv: room for 17; words: for the whole line. */
static void init_arguments(char **argv, char *words)
{
	unsigned n = 0;

	if (!cmdline_get("init", words, ARCH_CMDLINE_MAX))
		strlcpy(words, "/sbin/init", ARCH_CMDLINE_MAX);
	argv[n++] = words;
	for (unsigned i = 0; i < 15; i++) {
		char key[8], *word = argv[n - 1] + strlen(argv[n - 1]) + 1;

		ksnprintf(key, sizeof(key), "arg%u", i);
		if (!cmdline_get(key, word, ARCH_CMDLINE_MAX - (size_t)(word - words)))
			break;
		for (char *c = word; *c != '\0'; c++)
			if (*c == '^')
				*c = ' ';
		argv[n++] = word;
	}
	argv[n] = NULL;
}

void proc_init(void)
{
	char *argv[17], *words = kalloc(ARCH_CMDLINE_MAX),
			*envp[6] = { "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
				"HOME=/root", "TERM=vt100", "LANG=C.UTF-8", "PWD=/", NULL };
	struct uthread *u;
	struct thread *t;
	int err;

	mach_mutex_init(&proc_lock, 7, "processes");
	syscall_init();
	shm_init();
	u = first_process_new();
	open_console(u->u_proc);
	if (words == NULL)
		kpanic("no memory for the first program");
	init_arguments(argv, words);
	if ((err = proc_exec(argv[0], argv, envp)) != 0)
		kpanic("%s: error %d", argv[0], -err);
	kfree(words, ARCH_CMDLINE_MAX);
	first_process_begins(u);
	if ((t = thread_new(signal_loop, NULL, "signals")) != NULL)
		thread_go(t);
	swapper_start();
}
