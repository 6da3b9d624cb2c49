/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System calls of processes, threads, signals, limits and time, and of the system itself (uname, sysinfo).
 *
 * A thin layer over proc/: each call checks its arguments, copies, and calls the function of proc/
 * that does the work. Locks: proc_lock for other processes, sched_lock for signal masks.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

/* ---- creation and end ---- */
int64_t sys_fork(const uint64_t *a)
{
	(void)a;
	return proc_clone(SIGCHLD, 0, 0, 0, 0);
}
int64_t sys_vfork(const uint64_t *a)
{
	(void)a;
	return proc_clone(SIGCHLD | 0x4100, 0, 0, 0, 0);
}
int64_t sys_clone(const uint64_t *a)
{
#if defined(__x86_64__)
	return proc_clone(a[0], a[1], a[2], a[3], a[4]);
#else
	return proc_clone(a[0], a[1], a[2], a[4], a[3]);
#endif
}
int64_t sys_exit(const uint64_t *a) { uthread_exit((int)a[0]); }
int64_t sys_exit_group(const uint64_t *a) { proc_exit((int)(a[0] & 0xff) << 8); }
int64_t sys_wait4(const uint64_t *a) { return proc_wait((int)a[0], a[1], (unsigned)a[2], a[3]); }

#define ARG_BYTES (256u << 10)

/*
 * Copies a program's array of strings into buf, with pointers in v. Returns the bytes used, or a
 * negative error.
 */
static int64_t strings_in(uint64_t from, char **v, unsigned max, char *buf, uint64_t room)
{
	uint64_t used = 0;
	unsigned n = 0;

	for (;; n++) {
		uint64_t at = 0;
		int64_t len;

		if (n == max)
			return -E2BIG;
		v[n] = NULL;
		if (from == 0)
			return (int64_t)used;
		if (copy_in(&at, from + n * 8, 8) != 0)
			return -EFAULT;
		if (at == 0)
			return (int64_t)used;
		if ((len = copy_in_string(buf + used, at, room - used)) < 0)
			return len == -ENAMETOOLONG ? -E2BIG : len;
		v[n] = buf + used;
		used += (uint64_t)len + 1;
	}
}

#define ARG_FIRST (8u << 10)
#define ARG_STRINGS 2048u

/*
 * Executes a program with room for this many bytes of strings. If the strings need more, the result
 * is -E2BIG. Large kernel memory needs adjacent frames, which are rare when memory is short, so a
 * small room is tried first.
 */
static int64_t exec_with_room(uint64_t path, uint64_t argv, uint64_t envp, uint64_t room)
{
	unsigned most = room / 32 < ARG_STRINGS ? (unsigned)(room / 32) : ARG_STRINGS;
	size_t vbytes = most * sizeof(char *);
	char **av = kalloc(vbytes), **ev = kalloc(vbytes), *buf = kalloc(room),
	     *name = kalloc(PATH_MAX);
	int64_t r = -ENOMEM, n = 0;

	if (av != NULL && ev != NULL && buf != NULL && name != NULL) {
		r = copy_in_string(name, path, PATH_MAX);
		if (r >= 0)
			r = n = strings_in(argv, av, most, buf, room);
		if (r >= 0)
			r = strings_in(envp, ev, most, buf + n, room - (uint64_t)n);
		if (r >= 0)
			r = proc_exec(name, av, ev);
	}
	kfree(av, vbytes);
	kfree(ev, vbytes);
	kfree(buf, room);
	kfree(name, PATH_MAX);
	return r;
}

static int64_t exec_at(uint64_t path, uint64_t argv, uint64_t envp)
{
	uint64_t room = ARG_FIRST;
	int64_t r;

	while ((r = exec_with_room(path, argv, envp, room)) == -E2BIG && room < ARG_BYTES)
		room *= 2;
	/* the registers of a new program stay as exec has set them */
	if (r == 0)
		r = (int64_t)tf_sysno(this_uthread()->u_tf);
	return r;
}
int64_t sys_execve(const uint64_t *a) { return exec_at(a[0], a[1], a[2]); }
int64_t sys_execveat(const uint64_t *a)
{
	return (int)a[0] == -100 && a[4] == 0 ? exec_at(a[1], a[2], a[3]) : -ENOSYS;
}

/* ---- ids, groups, sessions ---- */
int64_t sys_getpid(const uint64_t *a)
{
	(void)a;
	return this_proc()->p_pid;
}
int64_t sys_gettid(const uint64_t *a)
{
	(void)a;
	return this_uthread()->u_tid;
}
int64_t sys_getppid(const uint64_t *a)
{
	(void)a;
	return this_proc()->p_parent != NULL ? this_proc()->p_parent->p_pid : 0;
}
int64_t sys_getpgrp(const uint64_t *a)
{
	(void)a;
	return this_proc()->p_pgid;
}

static int64_t of_pid(uint64_t pid, bool session)
{
	struct proc *p;
	int64_t r;

	mach_mutex_enter(&proc_lock);
	p = pid == 0 ? this_proc() : proc_find((int)pid);
	r = -ESRCH;
	if (p != NULL)
		r = session ? p->p_sid : p->p_pgid;
	mach_mutex_exit(&proc_lock);
	return r;
}
int64_t sys_getpgid(const uint64_t *a) { return of_pid(a[0], false); }
int64_t sys_getsid(const uint64_t *a) { return of_pid(a[0], true); }
int64_t sys_setpgid(const uint64_t *a)
{
	struct proc *p;
	int64_t r = 0;

	if ((int)a[1] < 0)
		return -EINVAL;
	mach_mutex_enter(&proc_lock);
	p = a[0] == 0 ? this_proc() : proc_find((int)a[0]);
	if (p == NULL || (p != this_proc() && p->p_parent != this_proc()))
		r = -ESRCH;
	else if (p->p_sid == p->p_pid)
		r = -EPERM; /* the leader of a session stays in its group */
	else
		p->p_pgid = a[1] == 0 ? p->p_pid : (int)a[1];
	mach_mutex_exit(&proc_lock);
	return r;
}
int64_t sys_setsid(const uint64_t *a)
{
	struct proc *p = this_proc();

	(void)a;
	if (p->p_pgid == p->p_pid)
		return -EPERM; /* the leader of a process group cannot begin a session */
	p->p_sid = p->p_pgid = p->p_pid;
	return p->p_pid;
}
int64_t sys_set_tid_address(const uint64_t *a)
{
	this_uthread()->u_clear_tid = a[0];
	return this_uthread()->u_tid;
}
int64_t sys_set_robust_list(const uint64_t *a)
{
	if (a[1] != 24) /* struct robust_list_head */
		return -EINVAL;
	this_uthread()->u_robust = a[0];
	return 0;
}
int64_t sys_rseq(const uint64_t *a)
{
	(void)a;
	return -ENOSYS;
}
int64_t sys_futex(const uint64_t *a)
{
	return futex_call(a[0], (unsigned)a[1], (uint32_t)a[2], a[3], a[4], (uint32_t)a[5]);
}

int64_t sys_prctl(const uint64_t *a)
{
	struct proc *p = this_proc();

	switch (a[0]) {
	case 15: return copy_in(p->p_comm, a[1], 15);
	case 16: return copy_out(a[1], p->p_comm, 16);
	case 1:
	case 4:
	case 22:
	case 38:
	case 36: return 0;
	case 3: return 1;
	case 8:                                   /* GET_KEEPCAPS */
	case 21: return 0;                        /* GET_SECCOMP */
	case 23: return a[1] <= 40 ? 1 : -EINVAL; /* CAPBSET_READ: every capability */
	case 30: return 50000;                    /* GET_TIMERSLACK: Linux's */
	case 0x53564d41: return 0;                /* names of mappings */
	case PR_INJECT: return inject_ask(a[1], a[2]);
	default: return -EINVAL;
	}
}

int64_t sys_arch_prctl(const uint64_t *a)
{
#if defined(__x86_64__)
	uint64_t v;

	switch (a[0]) {
	case 0x1002: /* SET_FS */
		if (a[1] >= 1ull << 47)
			return -EPERM;
		arch_set_thread_pointer(a[1]);
		return 0;
	case 0x1003: v = arch_thread_pointer(); return copy_out(a[1], &v, sizeof(v));
	default: return -EINVAL;
	}
#else
	(void)a;
	return -ENOSYS;
#endif
}

/* ---- signals ---- */
int64_t sys_rt_sigaction(const uint64_t *a)
{
	/* the program's structure, without sa_restorer on an architecture that lacks this field */
	const size_t bytes = ARCH_SA_RESTORER ? 32 : 24, mask_at = bytes / 8 - 1;
	struct sigaction act = { 0 }, old;
	int sig = (int)a[0];
	uint64_t w[4];

	if (sig < 1 || sig > NSIG || a[3] != 8 || ((sig == SIGKILL || sig == SIGSTOP) && a[1] != 0))
		return -EINVAL;
	if (a[1] != 0) {
		if (copy_in(w, a[1], bytes) != 0)
			return -EFAULT;
		act = (struct sigaction){ .sa_handler = w[0],
			.sa_flags = w[1],
			.sa_restorer = ARCH_SA_RESTORER ? w[2] : 0,
			.sa_mask = w[mask_at] };
	}
	mach_mutex_enter(&proc_lock);
	old = this_proc()->p_sighand->sh_action[sig];
	if (a[1] != 0)
		this_proc()->p_sighand->sh_action[sig] = act;
	if (a[1] != 0 && (act.sa_handler == 1 || (act.sa_handler == 0 && sig == SIGCHLD)))
		signal_forget(this_proc(), sig);
	mach_mutex_exit(&proc_lock);
	w[0] = old.sa_handler;
	w[1] = old.sa_flags;
	w[2] = old.sa_restorer;
	w[mask_at] = old.sa_mask;
	return a[2] != 0 ? copy_out(a[2], w, bytes) : 0;
}

int64_t sys_rt_sigprocmask(const uint64_t *a)
{
	struct uthread *u = this_uthread();
	uint64_t set = 0, old = u->u_sigmask;
	bool irq;

	if (a[3] != 8 || (a[1] != 0 && a[0] > 2))
		return -EINVAL;
	if (a[1] != 0) {
		if (copy_in(&set, a[1], 8) != 0)
			return -EFAULT;
		irq = spin_lock(&sched_lock);
		if (a[0] == 0) /* SIG_BLOCK; 1: SIG_UNBLOCK, 2: SIG_SETMASK */
			u->u_sigmask = old | set;
		else
			u->u_sigmask = a[0] == 1 ? old & ~set : set;
		u->u_sigmask &= ~(SIGBIT(SIGKILL) | SIGBIT(SIGSTOP));
		spin_unlock(&sched_lock, irq);
	}
	return a[2] != 0 ? copy_out(a[2], &old, 8) : 0;
}
int64_t sys_rt_sigreturn(const uint64_t *a)
{
	(void)a;
	return arch_sigreturn(this_uthread()->u_tf);
}
int64_t sys_rt_sigpending(const uint64_t *a)
{
	uint64_t v = (this_uthread()->u_signals.s_pending | this_proc()->p_signals.s_pending) &
	    this_uthread()->u_sigmask;

	return copy_out(a[0], &v, sizeof(v));
}

static bool never_true(void *arg)
{
	(void)arg;
	return false;
}
static struct waitq nothing;

int64_t sys_rt_sigsuspend(const uint64_t *a)
{
	struct uthread *u = this_uthread();
	uint64_t mask;
	bool irq;

	if (a[1] != 8)
		return -EINVAL;
	if (copy_in(&mask, a[0], 8) != 0)
		return -EFAULT;
	irq = spin_lock(&sched_lock);
	u->u_saved_mask = u->u_sigmask;
	u->u_restore_mask = true;
	u->u_sigmask = mask & ~(SIGBIT(SIGKILL) | SIGBIT(SIGSTOP));
	spin_unlock(&sched_lock, irq);
	(void)wait_until(&nothing, never_true, NULL, 0, true);
	return -EINTR;
}
int64_t sys_pause(const uint64_t *a)
{
	(void)a;
	(void)wait_until(&nothing, never_true, NULL, 0, true);
	return -ERESTARTNOHAND;
}

int64_t sys_sigaltstack(const uint64_t *a)
{
	struct uthread *u = this_uthread();
	uint64_t sp = tf_sp(u->u_tf);
	struct sigstack st, old;
	int err = 0;

	signal_get_altstack(u, sp, &old);
	if (a[0] != 0)
		err =
		    copy_in(&st, a[0], sizeof(st)) != 0 ? -EFAULT : signal_set_altstack(u, sp, &st);
	if (err == 0 && a[1] != 0)
		err = copy_out(a[1], &old, sizeof(old));
	return err;
}

/* Does kill() with this pid send its signal to p? proc_lock held. */
static bool kill_means(int pid, const struct proc *p)
{
	KASSERT(mach_mutex_held(&proc_lock));
	if (pid > 0)
		return p->p_pid == pid;
	if (pid == -1)
		return p->p_pid != 1 && p != this_proc();
	return p->p_pgid == (pid == 0 ? this_proc()->p_pgid : -pid);
}

int64_t sys_kill(const uint64_t *a)
{
	int pid = (int)a[0], sig = (int)a[1];
	int64_t r = -ESRCH;

	if (sig < 0 || sig > NSIG)
		return -EINVAL;
	mach_mutex_enter(&proc_lock);
	for (struct proc *p = all_procs; p != NULL; p = p->p_next) {
		if (!kill_means(pid, p))
			continue;
		if (!cred_may_signal(p, sig)) {
			r = r == 0 ? 0 : -EPERM;
			continue;
		}
		r = 0;
		if (sig != 0)
			signal_send_proc(p, sig, 0, cred_sender(this_proc()));
	}
	mach_mutex_exit(&proc_lock);
	return r;
}

/* pid: the process that the thread must belong to; 0: any. */
static int64_t thread_kill(int pid, int tid, int sig)
{
	struct uthread *u;
	int64_t r = 0;

	if (sig < 0 || sig > NSIG)
		return -EINVAL;
	mach_mutex_enter(&proc_lock);
	if ((u = uthread_find(tid)) != NULL && pid != 0 && u->u_proc->p_pid != pid)
		u = NULL;
	if (u == NULL)
		r = -ESRCH;
	else if (!cred_may_signal(u->u_proc, sig))
		r = -EPERM;
	else if (sig != 0)
		signal_send_uthread(u, sig, -6, cred_sender(this_proc()));
	mach_mutex_exit(&proc_lock);
	return r;
}
int64_t sys_tkill(const uint64_t *a)
{
	return (int)a[0] <= 0 ? -EINVAL : thread_kill(0, (int)a[0], (int)a[1]);
}
int64_t sys_tgkill(const uint64_t *a)
{
	return (int)a[0] <= 0 || (int)a[1] <= 0 ? -EINVAL
						: thread_kill((int)a[0], (int)a[1], (int)a[2]);
}

/* ---- time ---- */
static int64_t give_time(uint64_t to, uint64_t ns, uint64_t unit)
{
	uint64_t t[2] = { ns / 1000000000, ns % 1000000000 / unit };

	return to == 0 ? 0 : copy_out(to, t, sizeof(t));
}
static struct waitq wall_sleepers; /* sched_lock: those that wait for a time of the wall clock */

/* false: there is no such clock. */
static bool clock_ns(uint64_t clock, uint64_t *ns)
{
	int id = (int)clock, pid, tid;

	if (id < 0)
		return cpu_clock_find(id, &pid, &tid) && cpu_clock_ns(pid, tid, ns);
	if (id > 11 || id == 10)
		return false;
	switch (id) {
	case 0:
	case 5:
	case 8:
	case 11: *ns = wall_ns(); break;
	case 2: *ns = proc_cpu_ns(this_proc()); break;
	case 3: *ns = thread_run_ns(arch_cur()); break;
	default: *ns = arch_time_ns(); break;
	}
	return true;
}
int64_t sys_clock_gettime(const uint64_t *a)
{
	uint64_t ns;

	return clock_ns(a[0], &ns) ? give_time(a[1], ns, 1) : -EINVAL;
}
int64_t sys_clock_getres(const uint64_t *a)
{
	uint64_t ns;

	return clock_ns(a[0], &ns) ? give_time(a[1], 1, 1) : -EINVAL;
}

/* Only the wall clock can be set; not to a time before the machine's start. */
static int64_t set_wall(uint64_t seconds, uint64_t ns)
{
	if ((int64_t)seconds < 0 || seconds > UINT64_MAX / 1000000000 - 1 || ns >= 1000000000 ||
	    seconds * 1000000000 + ns < arch_time_ns())
		return -EINVAL;
	wall_set(seconds * 1000000000 + ns);
	wake(&wall_sleepers);
	return 0;
}
int64_t sys_clock_settime(const uint64_t *a)
{
	uint64_t t[2], ns;

	if (!clock_ns(a[0], &ns))
		return -EINVAL;
	if (copy_in(t, a[1], sizeof(t)) != 0)
		return -EFAULT;
	if ((int)a[0] < 0 || a[0] == 2 || a[0] == 3)
		return -EPERM;
	if (a[0] == 0 && !cred_is_root())
		return -EPERM;
	return a[0] == 0 ? set_wall(t[0], t[1]) : -EINVAL;
}
int64_t sys_settimeofday(const uint64_t *a)
{
	uint64_t t[2];

	if (a[0] == 0)
		return 0; /* the time zone has no effect */
	if (copy_in(t, a[0], sizeof(t)) != 0)
		return -EFAULT;
	if (!cred_is_root())
		return -EPERM;
	return t[1] >= 1000000 ? -EINVAL : set_wall(t[0], t[1] * 1000);
}
int64_t sys_gettimeofday(const uint64_t *a) { return give_time(a[0], wall_ns(), 1000); }
int64_t sys_time(const uint64_t *a)
{
	uint64_t now = wall_ns() / 1000000000;

	return a[0] != 0 && copy_out(a[0], &now, 8) != 0 ? -EFAULT : (int64_t)now;
}

/*
 * A stop, or another signal without a handler, does not end a sleep: the call is made again, and goes
 * on until the same time.
 */
static int64_t sleep_until(uint64_t deadline, uint64_t rem)
{
	struct uthread *u = this_uthread();

	if (u->u_sleep_until != 0)
		deadline = u->u_sleep_until;
	u->u_sleep_until = 0;
	if (wait_until(&nothing, never_true, NULL, deadline, true) != -EINTR)
		return 0;
	if (rem != 0)
		(void)give_time(rem, deadline > arch_time_ns() ? deadline - arch_time_ns() : 0, 1);
	u->u_sleep_until = deadline;
	return -ERESTARTNOHAND;
}
int64_t sys_nanosleep(const uint64_t *a)
{
	uint64_t ns;
	int err = copy_in_span(a[0], &ns);

	return err != 0 ? err : sleep_until(arch_time_ns() + ns + 1, a[1]);
}
static bool wall_moved(void *base) { return *(uint64_t *)base != wall_base(); }

/* The wall clock may be set while it is waited for. */
static int64_t sleep_until_wall(uint64_t at)
{
	for (;;) {
		uint64_t base = wall_base();
		int err;

		if (at <= base + arch_time_ns())
			return 0;
		err = wait_until(&wall_sleepers, wall_moved, &base, at - base, true);
		if (err != 0)
			return err == -EINTR ? -ERESTARTNOHAND : 0;
	}
}
int64_t sys_clock_nanosleep(const uint64_t *a)
{
	uint64_t ns, now;
	int err = copy_in_span(a[2], &ns);

	if (err != 0)
		return err;
	if (!clock_ns(a[0], &now) || a[0] == 3)
		return -EINVAL;
	if ((a[1] & 1) && (a[0] == 0 || a[0] == 8 || a[0] == 11))
		return sleep_until_wall(ns);
	if (a[1] & 1) {
		if (ns <= now)
			return 0;
		ns -= now;
	}
	return sleep_until(arch_time_ns() + ns + 1, a[1] & 1 ? 0 : a[3]);
}
int64_t sys_times(const uint64_t *a)
{
	uint64_t t[4] = { proc_cpu_ns(this_proc()) / 10000000, 0,
		this_proc()->p_child_ns / 10000000, 0 };

	if (a[0] != 0 && copy_out(a[0], t, sizeof(t)) != 0)
		return -EFAULT;
	return (int64_t)(arch_time_ns() / 10000000);
}
int64_t sys_getrusage(const uint64_t *a)
{
	struct proc *p = this_proc();
	uint64_t r[18] = { 0 }, ns;
	struct as_usage u;

	switch ((int)a[0]) {
	case 0: ns = proc_cpu_ns(p); break;
	case 1: ns = thread_run_ns(arch_cur()); break;
	case -1: ns = p->p_child_ns; break;
	default: return -EINVAL;
	}
	as_usage(p->p_as, &u);
	r[0] = ns / 1000000000;
	r[1] = ns % 1000000000 / 1000;
	r[4] = u.au_rss *
	    (VM_PAGESIZE >> 10); /* ru_maxrss: the present resident size, not the largest so far */
	return copy_out(a[1], r, sizeof(r));
}
int64_t sys_sched_yield(const uint64_t *a)
{
	(void)a;
	thread_yield();
	return 0;
}
/* Is there such a thread? 0: the caller. */
static bool has_thread(uint64_t tid)
{
	bool has;

	mach_mutex_enter(&proc_lock);
	has = (int)tid == 0 || uthread_find((int)tid) != NULL;
	mach_mutex_exit(&proc_lock);
	return has;
}
int64_t sys_sched_getaffinity(const uint64_t *a)
{
	uint64_t mask = (1ull << arch_ncpus()) - 1;

	if (a[1] < 8)
		return -EINVAL;
	if (!has_thread(a[0]))
		return -ESRCH;
	return copy_out(a[2], &mask, 8) != 0 ? -EFAULT : 8;
}
/* Checked, without effect. */
int64_t sys_sched_setaffinity(const uint64_t *a)
{
	uint64_t mask = 0;

	if (copy_in(&mask, a[2], a[1] < 8 ? a[1] : 8) != 0)
		return -EFAULT;
	if (!has_thread(a[0]))
		return -ESRCH;
	return (mask & ((1ull << arch_ncpus()) - 1)) != 0 ? 0 : -EINVAL;
}

/* ---- limits and the system ---- */
int64_t sys_prlimit64(const uint64_t *a)
{
	struct proc *p = this_proc();
	struct rlimit old, new;

	if (a[1] >= RLIM_NLIMITS)
		return -EINVAL;
	if (a[0] != 0 && (int)a[0] != p->p_pid)
		return -ESRCH;
	old = p->p_rlim[a[1]];
	if (a[2] != 0) {
		if (copy_in(&new, a[2], sizeof(new)) != 0)
			return -EFAULT;
		if (new.cur > new.max)
			return -EINVAL;
		if ((a[1] == 7 && new.max > FILES_MOST) || (new.max > old.max && !cred_is_root()))
			return -EPERM;
		p->p_rlim[a[1]] = new;
		if (a[1] == 9 || a[1] == 8)
			as_set_limits(p->p_as, p->p_rlim[9].cur,
			    p->p_rlim[8].cur == RLIM_INFINITY ? ~0ull
							      : p->p_rlim[8].cur / VM_PAGESIZE);
	}
	return a[3] != 0 ? copy_out(a[3], &old, sizeof(old)) : 0;
}
int64_t sys_getrlimit(const uint64_t *a)
{
	return sys_prlimit64((const uint64_t[]){ 0, a[0], 0, a[1] });
}
int64_t sys_setrlimit(const uint64_t *a)
{
	return sys_prlimit64((const uint64_t[]){ 0, a[0], a[1], 0 });
}

#define HOSTNAME_MAX 64u
static char hostname[HOSTNAME_MAX + 1] = "quire"; /* proc_lock */

int64_t sys_sethostname(const uint64_t *a)
{
	char name[HOSTNAME_MAX + 1] = "";

	if (!cred_is_root())
		return -EPERM;
	if (a[1] > HOSTNAME_MAX)
		return -EINVAL;
	if (copy_in(name, a[0], a[1]) != 0)
		return -EFAULT;
	mach_mutex_enter(&proc_lock);
	memcpy(hostname, name, sizeof(hostname));
	mach_mutex_exit(&proc_lock);
	return 0;
}

#define KEYS_OFF 0u
#define KEYS_ON 0x89abcdefu
#define RESTART 0x01234567u
#define POWER_OFF 0x4321fedcu
#define HALT 0xcdef0123u
/* What ends the machine ends process 1: the kernel writes all dirty pages and switches off. */
int64_t sys_reboot(const uint64_t *a)
{
	static const uint32_t second[] = { 672274793, 85072278, 369367448, 537993216 };
	bool known = false;

	if (!cred_is_root())
		return -EPERM;
	for (unsigned i = 0; i < sizeof(second) / sizeof(*second); i++)
		known |= (uint32_t)a[1] == second[i];
	if ((uint32_t)a[0] != 0xfee1dead || !known)
		return -EINVAL;
	switch ((uint32_t)a[2]) {
	case KEYS_OFF:
	case KEYS_ON: return 0; /* what Ctrl, Alt and Del do: no keyboard is there */
	case RESTART:
	case POWER_OFF:
	case HALT: proc_end_system(); return 0;
	default: return -EINVAL;
	}
}

int64_t sys_uname(const uint64_t *a)
{
	static const char *const text[6] = { "Linux", "", "6.1.0-quire", "#1 Quire", ARCH_UNAME,
		"(none)" };
	char u[6][65];

	memset(u, 0, sizeof(u));
	for (unsigned i = 0; i < 6; i++)
		strlcpy(u[i], text[i], 65);
	mach_mutex_enter(&proc_lock);
	strlcpy(u[1], hostname, 65);
	mach_mutex_exit(&proc_lock);
	return copy_out(a[0], u, sizeof(u));
}

int64_t sys_sysinfo(const uint64_t *a)
{
	struct {
		int64_t uptime;
		uint64_t loads[3], total, free, shared, buffers, swap, freeswap;
		uint16_t procs, pad;
		uint32_t pad2;
		uint64_t totalhigh, freehigh;
		uint32_t unit, pad3;
	} s = { .unit = 1 };
	struct vm_usage u;

	vm_usage(the_vm, &u);
	s.uptime = (int64_t)(arch_time_ns() / 1000000000);
	s.total = vm_ptob(u.vu_frames);
	s.free = vm_ptob(u.vu_free + u.vu_cache);
	s.swap = vm_ptob(u.vu_swap_total);
	s.freeswap = vm_ptob(u.vu_swap_total - u.vu_swap_used);
	s.procs = (uint16_t)thread_count();
	return copy_out(a[0], &s, sizeof(s));
}

int64_t sys_getrandom(const uint64_t *a)
{
	uint64_t n = a[1] < 65536 ? a[1] : 65536;

	if (((unsigned)a[2] & ~7u) != 0 || (a[2] & 6) == 6) /* GRND_RANDOM and GRND_INSECURE */
		return -EINVAL;
	for (uint64_t i = 0; i < n; i += 8) {
		uint64_t r = random_next();

		if (copy_out(a[0] + i, &r, n - i < 8 ? n - i : 8) != 0)
			return -EFAULT;
	}
	return (int64_t)n;
}
