/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System calls that few programs need.
 *
 * Three sorts: calls that are accepted and have no effect (scheduling, affinity), identities, all
 * of which are root, and newer forms of calls in other files.
 *
 * Locks: proc_lock to find a process, sched_lock to look at pending signals and to sleep until one comes.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

/* ---- scheduling: one class; a policy and a priority are kept and told, without effect ---- */
#define SCHED_FIFO 1
#define SCHED_RR 2
#define SCHED_RESET_ON_FORK 0x40000000u

/* 0: the caller's; proc_lock held. NULL: there is none. */
static struct uthread *thread_of(uint64_t tid)
{
	return (int)tid == 0 ? this_uthread() : uthread_find((int)tid);
}

/* Do getpriority and setpriority mean this thread of p's? proc_lock held. */
static bool nice_of(const struct proc *p, const struct uthread *u, uint64_t which, uint64_t who)
{
	switch (which) {
	case 0: return u->u_tid == ((int)who != 0 ? (int)who : this_uthread()->u_tid);
	case 1: return p->p_pgid == ((int)who != 0 ? (int)who : this_proc()->p_pgid);
	default:
		return p->p_cred.c_uid ==
		    ((int)who != 0 ? (uint32_t)who : this_proc()->p_cred.c_uid);
	}
}

/* May the running program set that value? 0, -EPERM: not of this process; -EACCES: it is less than the present one. */
static int64_t may_set_nice(const struct proc *p, const struct uthread *u, int nice)
{
	if (!cred_may_schedule(p))
		return -EPERM;
	return nice < u->u_nice && !cred_is_root() ? -EACCES : 0;
}

/*
 * Sets the nice value, if set, of all threads that are named; *least: the least of them. -ESRCH: none is; or why the last that
 * was not set was not.
 */
static int64_t nice_all(uint64_t which, uint64_t who, bool set, int nice, int *least)
{
	int64_t r, refused = 0;
	bool found = false;

	if (which > 2)
		return -EINVAL;
	mach_mutex_enter(&proc_lock);
	for (struct proc *p = all_procs; p != NULL; p = p->p_next) {
		for (struct uthread *u = p->p_threads; u != NULL; u = u->u_next) {
			if (!nice_of(p, u, which, who))
				continue;
			if (set && (r = may_set_nice(p, u, nice)) != 0)
				refused = r;
			else if (set)
				u->u_nice = nice;
			*least = !found || u->u_nice < *least ? u->u_nice : *least;
			found = true;
		}
	}
	mach_mutex_exit(&proc_lock);
	return found ? refused : -ESRCH;
}

int64_t sys_getpriority(const uint64_t *a)
{
	int nice;
	int64_t r = nice_all(a[0], a[1], false, 0, &nice);

	return r != 0 ? r : 20 - nice;
}
int64_t sys_setpriority(const uint64_t *a)
{
	int nice = (int)a[2], least;

	if (nice < -20)
		nice = -20;
	return nice_all(a[0], a[1], true, nice > 19 ? 19 : nice, &least);
}

int64_t sys_sched_get_priority_max(const uint64_t *a)
{
	if (a[0] == SCHED_FIFO || a[0] == SCHED_RR)
		return 99;
	return a[0] <= 6 && a[0] != 4 ? 0 : -EINVAL;
}
int64_t sys_sched_get_priority_min(const uint64_t *a)
{
	if (a[0] == SCHED_FIFO || a[0] == SCHED_RR)
		return 1;
	return a[0] <= 6 && a[0] != 4 ? 0 : -EINVAL;
}

/* policy -1: the thread's own. */
static int64_t set_scheduler(uint64_t tid, int policy, uint64_t param)
{
	struct uthread *u;
	int64_t r = 0;
	int prio;

	if ((int)tid < 0 || param == 0)
		return -EINVAL;
	if (copy_in(&prio, param, sizeof(prio)) != 0)
		return -EFAULT;
	mach_mutex_enter(&proc_lock);
	if ((u = thread_of(tid)) == NULL)
		r = -ESRCH;
	else if (policy == -1)
		policy = u->u_policy;
	if (r == 0 && policy != 0 && policy != SCHED_FIFO && policy != SCHED_RR && policy != 3 &&
	    policy != 5)
		r = -EINVAL; /* not OTHER, BATCH or IDLE either */
	else if (r == 0 &&
	    (policy == SCHED_FIFO || policy == SCHED_RR ? prio < 1 || prio > 99 : prio != 0))
		r = -EINVAL;
	if (r == 0 &&
	    (!cred_may_schedule(u->u_proc) ||
		((policy == SCHED_FIFO || policy == SCHED_RR) && !cred_is_root())))
		r = -EPERM;
	if (r == 0) {
		u->u_policy = policy;
		u->u_prio = prio;
	}
	mach_mutex_exit(&proc_lock);
	return r;
}
int64_t sys_sched_setparam(const uint64_t *a) { return set_scheduler(a[0], -1, a[1]); }
int64_t sys_sched_setscheduler(const uint64_t *a)
{
	int policy = (int)((unsigned)a[1] & ~SCHED_RESET_ON_FORK);

	return policy < 0 ? -EINVAL : set_scheduler(a[0], policy, a[2]);
}

/* -EINVAL, -ESRCH */
static int64_t get_scheduler(uint64_t tid, int *policy, int *prio)
{
	const struct uthread *u;

	if ((int)tid < 0)
		return -EINVAL;
	mach_mutex_enter(&proc_lock);
	if ((u = thread_of(tid)) != NULL) {
		*policy = u->u_policy;
		*prio = u->u_prio;
	}
	mach_mutex_exit(&proc_lock);
	return u != NULL ? 0 : -ESRCH;
}
int64_t sys_sched_getparam(const uint64_t *a)
{
	int policy, prio;
	int64_t r = a[1] == 0 ? -EINVAL : get_scheduler(a[0], &policy, &prio);

	return r != 0 ? r : copy_out(a[1], &prio, sizeof(prio));
}
int64_t sys_sched_getscheduler(const uint64_t *a)
{
	int policy, prio;
	int64_t r = get_scheduler(a[0], &policy, &prio);

	return r != 0 ? r : policy;
}
int64_t sys_sched_rr_get_interval(const uint64_t *a)
{
	uint64_t t[2] = { 0, 1000000000u / KERNEL_HZ };
	int policy, prio;
	int64_t r = get_scheduler(a[0], &policy, &prio);

	return r != 0 ? r : copy_out(a[1], t, sizeof(t));
}
int64_t sys_getcpu(const uint64_t *a)
{
	unsigned cpu = mach_cpu_id(), node = 0;

	if ((a[0] != 0 && copy_out(a[0], &cpu, 4) != 0) ||
	    (a[1] != 0 && copy_out(a[1], &node, 4) != 0))
		return -EFAULT;
	return 0;
}
int64_t sys_membarrier(const uint64_t *a) { return a[0] == 0 ? 0 : -EINVAL; }
int64_t sys_personality(const uint64_t *a)
{
	(void)a;
	return 0;
}

/* ---- processes ---- */
int64_t sys_get_robust_list(const uint64_t *a)
{
	uint64_t len = 24;

	if (copy_out(a[1], &this_uthread()->u_robust, 8) != 0 || copy_out(a[2], &len, 8) != 0)
		return -EFAULT;
	return 0;
}

struct clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};
int64_t sys_clone3(const uint64_t *a)
{
	struct clone_args c;

	if (a[1] < sizeof(c))
		return -EINVAL;
	if (copy_in(&c, a[0], sizeof(c)) != 0)
		return -EFAULT;
	if (c.flags & ~0x013fff00ull)
		return -EINVAL;
	return proc_clone(c.flags | c.exit_signal, c.stack != 0 ? c.stack + c.stack_size : 0,
	    c.parent_tid, c.child_tid, c.tls);
}

/* The code of waitid for a child: exited (1), killed (2), with a core (3), stopped (5). */
static void fill_child_info(struct siginfo *info, int pid, int status)
{
	info->si_signo = SIGCHLD;
	info->kill.pid = pid;
	info->kill.status = status >> 8;
	if (status == 0xffff) {
		info->si_code = 6;
		info->kill.status = SIGCONT;
	} else if ((status & 0x7f) == 0) {
		info->si_code = 1;
	} else if ((status & 0xff) == 0x7f) {
		info->si_code = 5;
	} else {
		info->si_code = status & 0x80 ? 3 : 2;
		info->kill.status = status & 0x7f;
	}
}

int64_t sys_waitid(const uint64_t *a)
{
	struct siginfo info = { 0 };
	const int which[] = { -1, (int)a[1], (int)-a[1] }; /* P_ALL, P_PID, P_PGID */
	int status = 0;
	int64_t r;

	if (a[0] > 2 || !(a[3] & (WEXITED | WUNTRACED | WCONTINUED)))
		return -EINVAL;
	r = proc_wait_kernel(which[a[0]], &status, (unsigned)a[3]);
	if (r < 0)
		return r;
	if (r > 0)
		fill_child_info(&info, (int)r, status);
	return a[2] != 0 ? copy_out(a[2], &info, sizeof(info)) : 0;
}

/* ---- signals and timers ---- */
int64_t sys_rt_sigtimedwait(const uint64_t *a)
{
	struct uthread *u = this_uthread();
	uint64_t set, ns, deadline = 0;
	struct siginfo info = { 0 };
	int sig = 0, bad;

	if (copy_in(&set, a[0], 8) != 0)
		return -EFAULT;
	if (a[2] != 0) {
		if ((bad = copy_in_span(a[2], &ns)) != 0)
			return bad;
		deadline = arch_time_ns() + ns + 1;
	}
	for (;;) {
		static struct waitq quiet;
		bool irq = spin_lock(&sched_lock);
		uint64_t old = u->u_sigmask,
			 now = (u->u_signals.s_pending | u->u_proc->p_signals.s_pending) & set;
		int err = 0;

		if (now != 0) {
			sig = signal_take(u, set, &info);
		} else if (deadline != 0 && arch_time_ns() >= deadline) {
			err = -EAGAIN;
		} else {
			u->u_sigmask &= ~set;
			u->u_awaited = set;
			err = wait_on(&quiet, deadline, true);
			u->u_sigmask = old;
			u->u_awaited = 0;
			now = (u->u_signals.s_pending | u->u_proc->p_signals.s_pending) & set;
			err = now != 0 || err == -ETIMEDOUT ? 0 : err;
		}
		spin_unlock(&sched_lock, irq);
		if (sig != 0)
			break;
		if (err != 0)
			return err;
	}
	return a[1] != 0 && copy_out(a[1], &info, sizeof(info)) != 0 ? -EFAULT : sig;
}

int64_t sys_rt_sigqueueinfo(const uint64_t *a)
{
	struct siginfo info;
	struct proc *p;
	int64_t r = 0;

	if (copy_in(&info, a[2], sizeof(info)) != 0)
		return -EFAULT;
	if ((int)a[1] < 0 || a[1] > NSIG)
		return -EINVAL;
	if (info.si_code >= 0 && (int)a[0] != this_proc()->p_pid)
		return -EPERM; /* only the kernel sends signals with such codes */
	mach_mutex_enter(&proc_lock);
	if ((p = proc_find((int)a[0])) == NULL)
		r = -ESRCH;
	else if (!cred_may_signal(p, (int)a[1]))
		r = -EPERM;
	else if (a[1] != 0)
		signal_queue_proc(p, (int)a[1], info.si_code, info.addr, info.kill.value);
	mach_mutex_exit(&proc_lock);
	return r;
}

/* ---- files ---- */
static int64_t at_offset(const uint64_t *a, bool write)
{
	struct {
		uint64_t base, len;
	} v;
	int64_t total = 0;

	if ((int64_t)a[3] < 0 || a[2] > 1024)
		return -EINVAL;
	for (uint64_t i = 0; i < a[2]; i++) {
		int64_t r;

		if (copy_in(&v, a[1] + i * sizeof(v), sizeof(v)) != 0)
			return -EFAULT;
		const uint64_t args[6] = { a[0], v.base, v.len, a[3] + (uint64_t)total };

		r = write ? sys_pwrite64(args) : sys_pread64(args);
		if (r < 0)
			return total > 0 ? total : r;
		total += r;
		if ((uint64_t)r < v.len)
			break;
	}
	return total;
}
int64_t sys_preadv(const uint64_t *a) { return at_offset(a, false); }
int64_t sys_pwritev(const uint64_t *a) { return at_offset(a, true); }
#define RWF_HIPRI 1u
#define RWF_DSYNC 2u
#define RWF_SYNC 4u

/* As preadv, readv (offset -1) and their kin; of the flags those that ask for speed or for the disk. */
static int64_t with_flags(const uint64_t *a, bool write)
{
	const unsigned flags = (unsigned)a[5];
	int64_t r;

	if (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC))
		return -EOPNOTSUPP;
	if ((int64_t)a[3] == -1)
		r = write ? sys_writev(a) : sys_readv(a);
	else
		r = at_offset(a, write);
	if (r > 0 && write && (flags & (RWF_DSYNC | RWF_SYNC))) {
		int64_t err = sys_fsync(a);

		r = err != 0 ? err : r;
	}
	return r;
}
int64_t sys_preadv2(const uint64_t *a) { return with_flags(a, false); }
int64_t sys_pwritev2(const uint64_t *a) { return with_flags(a, true); }

/* The kind of an open file, S_IFMT; -EBADF. */
static int64_t kind_of(uint64_t fd)
{
	struct file *f = fd_get_open((int)fd);
	int64_t kind;

	if (f == NULL)
		return -EBADF;
	kind = inode_type(f->f_inode);
	file_put(f);
	return kind;
}
int64_t sys_syncfs(const uint64_t *a)
{
	const int64_t kind = kind_of(a[0]);

	return kind < 0 ? kind : sys_sync(a);
}
int64_t sys_sync_file_range(const uint64_t *a)
{
	const int64_t kind = kind_of(a[0]);

	if (kind < 0)
		return kind;
	if (((unsigned)a[3] & ~7u) != 0 || (int64_t)a[1] < 0 || (int64_t)a[2] < 0)
		return -EINVAL;
	return kind == S_IFREG || kind == S_IFDIR ? sys_fsync(a) : -ESPIPE;
}
/* Advice is checked; it has no effect. */
int64_t sys_fadvise64(const uint64_t *a)
{
	const int64_t kind = kind_of(a[0]);

	if (kind < 0)
		return kind;
	if (kind == S_IFIFO)
		return -ESPIPE;
	return (int64_t)a[2] < 0 || (unsigned)a[3] > 5 ? -EINVAL : 0;
}
int64_t sys_readahead(const uint64_t *a)
{
	const int64_t kind = kind_of(a[0]);

	if (kind < 0)
		return kind;
	return kind == S_IFREG ? 0 : -EINVAL;
}

int64_t sys_close_range(const uint64_t *a)
{
	struct files *fs = this_proc()->p_files;

	if (a[0] > a[1] ||
	    ((unsigned)a[2] & ~6u) != 0) /* CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC */
		return -EINVAL;
	for (uint64_t fd = a[0]; fd <= a[1] && fd < fs->fs_n; fd++) {
		if (a[2] & 4)
			(void)fd_cloexec(fs, (int)fd, 1);
		else
			(void)fd_close(fs, (int)fd);
	}
	return 0;
}

struct stat_time {
	int64_t sec;
	uint32_t nsec;
	int32_t pad;
};
struct statx {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, pad1;
	uint64_t ino, size, blocks, attributes_mask;
	struct stat_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t mnt_id, spare[13];
};
_Static_assert(sizeof(struct statx) == 256, "Linux's");

int64_t sys_statx(const uint64_t *a)
{
	struct statx x = { .mask = 0x7ff, .blksize = 4096 };
	struct inode *i;
	/* of the flags: no link, no mount, an empty path; one of two ways to synchronise */
	int64_t err =
	    ((unsigned)a[2] & ~0x7900u) != 0 || (a[2] & 0x6000) == 0x6000 || (a[3] & 1u << 31) != 0
	    ? -EINVAL
	    : path_find(a[0], a[1], (unsigned)a[2], &i);

	if (err != 0)
		return err;
	x.nlink = i->i_nlink;
	x.uid = i->i_uid;
	x.gid = i->i_gid;
	x.mode = (uint16_t)i->i_mode;
	x.ino = i->i_ino;
	x.size = i->i_size;
	x.blocks = i->i_blocks;
	x.atime.sec = i->i_atime;
	x.ctime.sec = i->i_ctime;
	x.mtime.sec = i->i_mtime;
	x.rdev_major = (uint32_t)(i->i_rdev >> 8 & 0xfff);
	x.rdev_minor = (uint32_t)(i->i_rdev & 0xff);
	x.dev_minor = i->i_fs;
	inode_put(i);
	return copy_out(a[4], &x, sizeof(x));
}

int64_t sys_mseal(const uint64_t *a)
{
	if ((a[0] & VM_PAGEMASK) != 0 || a[2] != 0)
		return -EINVAL;
	return as_seal(this_proc()->p_as, a[0], vm_page_round(a[1])) == VM_OK ? 0 : -ENOMEM;
}

/* Flushes the instruction caches of every CPU, for all programs: more than the call requires. */
int64_t sys_riscv_flush_icache(const uint64_t *a)
{
	(void)a;
	arch_flush_icache();
	return 0;
}

/* The features of this CPU beyond AT_HWCAP: every key is answered as unknown. */
int64_t sys_riscv_hwprobe(const uint64_t *a)
{
	const int64_t pair[2] = { -1, 0 };

	if (a[4] != 0)
		return -EINVAL;
	for (uint64_t i = 0; i < a[1]; i++)
		if (copy_out(a[0] + i * sizeof(pair), pair, sizeof(pair)) != 0)
			return -EFAULT;
	return 0;
}
