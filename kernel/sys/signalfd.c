/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signalfd: a file whose records are the signals of a set that are pending for the thread that reads, which blocks them.
 *
 * Reading takes a signal as sigtimedwait does. A file is ready when the thread that polls has such
 * a signal pending. Threads that wait to read, or that poll, are in poll_queue, which post_signal
 * wakes as long as there is such a file. Locks: sched_lock for the set and the pending signals.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

struct signal_file {
	uint64_t sf_set; /* sched_lock */
};
struct record { /* Linux's signalfd_siginfo */
	uint32_t signo;
	int32_t err, code;
	uint32_t pid, uid;
	int32_t fd;
	uint32_t tid, band, overrun, trapno;
	int32_t status, value;
	uint64_t ptr, utime, stime, addr;
	uint8_t rest[48];
};
_Static_assert(sizeof(struct record) == 128, "Linux's");

static void fill_record(struct record *r, const struct siginfo *info)
{
	*r = (struct record){ .signo = (uint32_t)info->si_signo, .code = info->si_code };
	if (info->si_code == -2) { /* SI_TIMER */
		r->tid = (uint32_t)info->kill.pid;
		r->overrun = (uint32_t)info->kill.uid;
	} else if (info->si_code <= 0 || info->si_signo == SIGCHLD) {
		r->pid = (uint32_t)info->kill.pid;
		r->uid = (uint32_t)info->kill.uid;
	} else {
		r->addr = info->addr;
	}
	if (info->si_signo == SIGCHLD)
		r->status = info->kill.status;
	else if (info->si_code < 0) {
		r->ptr = info->kill.value;
		r->value = (int32_t)info->kill.value;
	}
}

/* Reads one record. 0: no signal is pending, and the caller does not wait (!wait); -ERESTART. */
static int take_record(struct signal_file *sf, bool wait, struct record *r)
{
	struct uthread *u = this_uthread();
	struct siginfo info;
	int sig, err = 0;
	bool irq = spin_lock(&sched_lock);

	while ((sig = signal_take(u, sf->sf_set, &info)) == 0 && wait && err == 0)
		err = wait_on(&poll_queue, 0, true);
	spin_unlock(&sched_lock, irq);
	if (sig != 0)
		fill_record(r, &info);
	if (err != 0 && sig == 0)
		return -ERESTART;
	return sig != 0;
}

static int64_t signal_file_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	uint64_t done = 0;
	struct record r;

	(void)off;
	if (len < sizeof(r))
		return -EINVAL;
	while (done + sizeof(r) <= len) {
		bool wait = done == 0 && !(f->f_flags & O_NONBLOCK);
		int n = take_record(f->f_data, wait, &r);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		memcpy((char *)buf + done, &r, sizeof(r));
		done += sizeof(r);
	}
	return done > 0 ? (int64_t)done : -EAGAIN;
}

static int signal_file_poll(struct file *f)
{
	const struct uthread *u = this_uthread();
	uint64_t pending = u->u_signals.s_pending | u->u_proc->p_signals.s_pending;

	return pending & ((struct signal_file *)f->f_data)->sf_set ? POLLIN : 0;
}

static void signal_file_close(struct file *f)
{
	__atomic_sub_fetch(&signal_files, 1, __ATOMIC_RELAXED);
	kfree(f->f_data, sizeof(struct signal_file));
}

static const struct file_ops signal_file_ops = {
	.fo_read = signal_file_read, .fo_poll = signal_file_poll, .fo_close = signal_file_close
};

static int64_t make_signal_file(uint64_t set, uint64_t flags)
{
	struct file *f = anon_file(&signal_file_ops, S_IFREG | 0600,
	    O_RDWR | ((unsigned)flags & O_NONBLOCK), sizeof(struct signal_file));

	if (f == NULL)
		return -ENOMEM;
	((struct signal_file *)f->f_data)->sf_set = set;
	__atomic_add_fetch(&signal_files, 1, __ATOMIC_RELAXED);
	return fd_install(this_proc()->p_files, f, 0, (flags & O_CLOEXEC) != 0);
}

static int64_t change_set(int fd, uint64_t set)
{
	int64_t err;
	struct file *f = fd_get_kind(fd, &signal_file_ops, -EINVAL, &err);
	bool irq;

	if (f == NULL)
		return err;
	irq = spin_lock(&sched_lock);
	((struct signal_file *)f->f_data)->sf_set = set;
	wake_all(&poll_queue);
	spin_unlock(&sched_lock, irq);
	file_put(f);
	return fd;
}

int64_t sys_signalfd4(const uint64_t *a)
{
	uint64_t set;

	if (a[2] != sizeof(set) || (a[3] & ~(uint64_t)(O_NONBLOCK | O_CLOEXEC)) != 0)
		return -EINVAL;
	if (copy_in(&set, a[1], sizeof(set)) != 0)
		return -EFAULT;
	set &= ~(SIGBIT(SIGKILL) | SIGBIT(SIGSTOP));
	return (int)a[0] == -1 ? make_signal_file(set, a[3]) : change_set((int)a[0], set);
}
int64_t sys_signalfd(const uint64_t *a)
{
	return sys_signalfd4((const uint64_t[6]){ a[0], a[1], a[2], 0 });
}
