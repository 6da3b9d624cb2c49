/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pipes: a ring of bytes. Both ends share one inode, whose i_data is the pipe; it goes with the second end.
 *
 * Writes of at most PIPE_BUF bytes are not mixed with others. The ring is a frame at first and grows to 16 when a writer fills it.
 * Locks: p_lock (sleeps). Waiting: p_wait, under sched_lock, for anything to change.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#define PIPE_BUF 4096u
#define PIPE_SMALL 4096u
#define PIPE_LARGE 65536u

struct pipe {
	struct mach_mutex p_lock;
	char *p_buf;                  /* p_lock */
	uint64_t p_room;              /* p_lock: a power of two */
	_Atomic uint64_t p_in, p_out; /* p_lock to change: bytes ever */
	_Atomic unsigned p_readers, p_writers;
	struct waitq p_wait;
};

static uint64_t filled(const struct pipe *p) { return p->p_in - p->p_out; }

static bool can_read(void *arg)
{
	struct pipe *p = arg;

	return filled(p) > 0 || p->p_writers == 0;
}

struct wanted {
	struct pipe *w_pipe;
	uint64_t w_n;
};

static bool can_write(void *arg)
{
	const struct wanted *w = arg;

	return PIPE_LARGE - filled(w->w_pipe) >= w->w_n || w->w_pipe->p_readers == 0;
}

static void changed(struct pipe *p)
{
	bool irq = spin_lock(&sched_lock);

	wake_all(&p->p_wait);
	wake_all(&poll_queue);
	spin_unlock(&sched_lock, irq);
}

static void copy(struct pipe *p, char *buf, uint64_t at, uint64_t n, bool in)
{
	while (n > 0) {
		uint64_t i = at & (p->p_room - 1), k = p->p_room - i < n ? p->p_room - i : n;

		if (in)
			memcpy(p->p_buf + i, buf, k);
		else
			memcpy(buf, p->p_buf + i, k);
		buf += k;
		at += k;
		n -= k;
	}
}

static int64_t pipe_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	struct pipe *p = f->f_data;
	uint64_t n;
	int err;

	(void)off;
	for (;;) {
		mach_mutex_enter(&p->p_lock);
		n = filled(p) < len ? filled(p) : len;
		if (n > 0 || p->p_writers == 0 || len == 0) {
			copy(p, buf, p->p_out, n, false);
			p->p_out += n;
			mach_mutex_exit(&p->p_lock);
			if (n > 0)
				changed(p);
			return (int64_t)n;
		}
		mach_mutex_exit(&p->p_lock);
		if (f->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if ((err = wait_until(&p->p_wait, can_read, p, 0, true)) != 0)
			return err == -EINTR ? -ERESTART : err;
	}
}

static void grow(struct pipe *p)
{
	char *more = kalloc(PIPE_LARGE);

	if (more == NULL)
		return;
	copy(p, more, p->p_out, filled(p), false);
	kfree(p->p_buf, p->p_room);
	p->p_buf = more;
	p->p_in -= p->p_out;
	p->p_out = 0;
	p->p_room = PIPE_LARGE;
}

static int64_t pipe_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	struct pipe *p = f->f_data;
	uint64_t done = 0;
	int err;

	(void)off;
	while (done < len || len == 0) {
		struct wanted w = { p, len - done <= PIPE_BUF ? len - done : 1 };
		uint64_t n;

		mach_mutex_enter(&p->p_lock);
		if (p->p_readers == 0) {
			mach_mutex_exit(&p->p_lock);
			signal_send_thread(arch_cur(), 13, 0, 0);
			return done > 0 ? (int64_t)done : -EPIPE;
		}
		if (p->p_room < PIPE_LARGE && p->p_room - filled(p) < len - done)
			grow(p);
		n = p->p_room - filled(p);
		if (n > len - done)
			n = len - done;
		if (len <= PIPE_BUF && n < len)
			n = 0;
		copy(p, (char *)(uintptr_t)buf + done, p->p_in, n, true);
		p->p_in += n;
		done += n;
		mach_mutex_exit(&p->p_lock);
		if (n > 0)
			changed(p);
		if (done == len)
			break;
		if (f->f_flags & O_NONBLOCK)
			return done > 0 ? (int64_t)done : -EAGAIN;
		if (n == 0 && p->p_room < PIPE_LARGE) /* it could not grow: what there is must do */
			w.w_n = PIPE_LARGE - p->p_room + 1;
		if ((err = wait_until(&p->p_wait, can_write, &w, 0, true)) != 0)
			return done > 0 ? (int64_t)done : err == -EINTR ? -ERESTART : err;
	}
	return (int64_t)done;
}

static int pipe_poll(struct file *f)
{
	struct pipe *p = f->f_data;

	if ((f->f_flags & O_ACCMODE) == O_WRONLY)
		return p->p_readers == 0                 ? POLLERR
		    : PIPE_LARGE - filled(p) >= PIPE_BUF ? POLLOUT
							 : 0;
	return (filled(p) > 0 ? POLLIN : 0) | (p->p_writers == 0 ? POLLHUP : 0);
}

static int64_t pipe_ioctl(struct file *f, unsigned cmd, uint64_t arg)
{
	struct pipe *p = f->f_data;
	int n = (int)filled(p);

	return cmd == 0x541b ? copy_out(arg, &n, sizeof(n)) : -ENOTTY; /* FIONREAD */
}

static void pipe_close(struct file *f)
{
	struct pipe *p = f->f_data;
	bool writer = (f->f_flags & O_ACCMODE) == O_WRONLY;
	unsigned left;

	mach_mutex_enter(&p->p_lock);
	if (writer)
		p->p_writers--;
	else
		p->p_readers--;
	left = p->p_readers + p->p_writers;
	mach_mutex_exit(&p->p_lock);
	if (left > 0) {
		changed(p);
		return;
	}
	mach_mutex_fini(&p->p_lock);
	kfree(p->p_buf, p->p_room);
	kfree(p, sizeof(*p));
}

static const struct file_ops pipe_ops = {
	.fo_read = pipe_read,
	.fo_write = pipe_write,
	.fo_poll = pipe_poll,
	.fo_ioctl = pipe_ioctl,
	.fo_close = pipe_close,
};

static const struct inode_ops pipe_inode_ops = { .io_lookup = NULL };

int pipe_new(struct file **r, struct file **w, unsigned flags)
{
	struct pipe *p = kzalloc(sizeof(*p));
	struct inode *i = p == NULL ? NULL : anon_inode(&pipe_inode_ops, S_IFIFO | 0600);
	int err;

	if (i == NULL || (p->p_buf = kalloc(PIPE_SMALL)) == NULL) {
		inode_put(i);
		kfree(p, sizeof(*p));
		return -ENOMEM;
	}
	p->p_room = PIPE_SMALL;
	mach_mutex_init(&p->p_lock, 4, "pipe");
	if ((err = file_new(inode_hold(i), &pipe_ops, flags & O_NONBLOCK, r)) == 0 &&
	    (err = file_new(inode_hold(i), &pipe_ops, (flags & O_NONBLOCK) | O_WRONLY, w)) != 0) {
		(*r)->f_ops = &file_pages_ops;
		file_put(*r);
	}
	inode_put(i);
	if (err != 0) {
		kfree(p->p_buf, p->p_room);
		kfree(p, sizeof(*p));
		return err;
	}
	(*r)->f_data = (*w)->f_data = p;
	p->p_readers = p->p_writers = 1;
	return 0;
}
