/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll: a list of files, polled as by poll. Edge-triggered entries behave as level-triggered
 * entries, which makes no difference to programs that read until EAGAIN. Locks: e_lock (sleeps).
 * Left out: nesting, EPOLLEXCLUSIVE.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

#define EPOLL_ONESHOT 0x40000000u
#define AGAIN_NS 20000000u

struct epoll_event {
	uint32_t events;
	uint64_t data;
} ARCH_EPOLL_PACKED;

struct watch {
	struct watch *w_next;
	struct file
	    *w_file; /* no reference: the entry is removed when its descriptor names another file */
	int w_fd;
	struct epoll_event w_event;
};
struct epoll {
	struct mach_mutex e_lock;
	struct watch *e_list;
};

static void epoll_close(struct file *f)
{
	struct epoll *e = f->f_data;
	struct watch *w;

	while ((w = e->e_list) != NULL) {
		e->e_list = w->w_next;
		kfree(w, sizeof(*w));
	}
	mach_mutex_fini(&e->e_lock);
	kfree(e, sizeof(*e));
}

static const struct file_ops epoll_ops = { .fo_close = epoll_close };

static int64_t create_epoll(bool cloexec)
{
	struct file *f = anon_file(&epoll_ops, S_IFREG | 0600, O_RDWR, sizeof(struct epoll));

	if (f == NULL)
		return -ENOMEM;
	mach_mutex_init(&((struct epoll *)f->f_data)->e_lock, 5, "epoll");
	return fd_install(this_proc()->p_files, f, 0, cloexec);
}
int64_t sys_epoll_create(const uint64_t *a)
{
	return (int)a[0] <= 0 ? -EINVAL : create_epoll(false);
}
int64_t sys_epoll_create1(const uint64_t *a) { return create_epoll((a[0] & O_CLOEXEC) != 0); }

static struct watch **find_watch(struct epoll *e, int fd)
{
	struct watch **p = &e->e_list;

	while (*p != NULL && (*p)->w_fd != fd)
		p = &(*p)->w_next;
	return p;
}

/* op: 1 add, 2 delete, 3 modify */
static int64_t change_watch(
    struct epoll *e, uint64_t op, int fd, struct file *f, const struct epoll_event *ev)
{
	struct watch **p = find_watch(e, fd), *w = *p;

	if (op == 1) {
		if (w != NULL && w->w_file == f)
			return -EEXIST;
		if (w == NULL) {
			if ((w = kzalloc(sizeof(*w))) == NULL)
				return -ENOMEM;
			w->w_next = e->e_list;
			e->e_list = w;
		}
		*w = (struct watch){ w->w_next, f, fd, *ev };
		return 0;
	}
	if (w == NULL)
		return -ENOENT;
	if (op == 3) {
		w->w_event = *ev;
		return 0;
	}
	if (op != 2)
		return -EINVAL;
	*p = w->w_next;
	kfree(w, sizeof(*w));
	return 0;
}

int64_t sys_epoll_ctl(const uint64_t *a)
{
	struct file *ef = fd_get((int)a[0]), *f = fd_get((int)a[2]);
	struct epoll_event ev = { 0 };
	int64_t r = -EBADF;

	if (ef != NULL && f != NULL) {
		if (ef->f_ops != &epoll_ops || ef == f)
			r = -EINVAL;
		else if (a[1] != 2 && copy_in(&ev, a[3], sizeof(ev)) != 0)
			r = -EFAULT;
		else if (inode_type(f->f_inode) == S_IFDIR ||
		    (f->f_ops == &file_pages_ops && inode_type(f->f_inode) == S_IFREG))
			r = -EPERM;
		else {
			mach_mutex_enter(&((struct epoll *)ef->f_data)->e_lock);
			r = change_watch(ef->f_data, a[1], (int)a[2], f, &ev);
			mach_mutex_exit(&((struct epoll *)ef->f_data)->e_lock);
		}
	}
	if (f != NULL)
		file_put(f);
	if (ef != NULL)
		file_put(ef);
	return r;
}

static int collect_events(struct epoll *e, struct epoll_event *out, int max)
{
	int n = 0;

	mach_mutex_enter(&e->e_lock);
	for (struct watch **p = &e->e_list, *w; (w = *p) != NULL && n < max;) {
		struct file *f = fd_get(w->w_fd);
		uint32_t now;

		if (f != w->w_file) { /* closed meanwhile */
			if (f != NULL)
				file_put(f);
			*p = w->w_next;
			kfree(w, sizeof(*w));
			continue;
		}
		now =
		    (uint32_t)(f->f_ops->fo_poll != NULL ? f->f_ops->fo_poll(f) : POLLIN | POLLOUT);
		file_put(f);
		now &= (w->w_event.events & 0xffff) | POLLERR | POLLHUP;
		if (now != 0 && w->w_event.events != EPOLL_ONESHOT) {
			out[n++] = (struct epoll_event){ now, w->w_event.data };
			if (w->w_event.events & EPOLL_ONESHOT)
				w->w_event.events = EPOLL_ONESHOT;
		}
		p = &w->w_next;
	}
	mach_mutex_exit(&e->e_lock);
	return n;
}

static int64_t wait_events(int fd, uint64_t to, int max, int ms)
{
	uint64_t deadline = ms < 0 ? 0 : arch_time_ns() + (uint64_t)ms * 1000000 + 1;
	struct epoll_event ev[32];
	int64_t n;
	struct file *f = fd_get_kind(fd, &epoll_ops, -EINVAL, &n);

	if (f == NULL)
		return n;
	if (max <= 0) {
		file_put(f);
		return -EINVAL;
	}
	while ((n = collect_events(f->f_data, ev, max < 32 ? max : 32)) == 0) {
		uint64_t now = arch_time_ns(), until = now + AGAIN_NS;
		bool irq;
		int err;

		if (deadline != 0 && now >= deadline)
			break;
		if (deadline != 0 && until > deadline)
			until = deadline;
		irq = spin_lock(&sched_lock);
		err = wait_on(&poll_queue, until, true);
		spin_unlock(&sched_lock, irq);
		if (err == -EINTR) {
			n = -EINTR;
			break;
		}
	}
	if (n > 0 && copy_out(to, ev, (uint64_t)n * sizeof(ev[0])) != 0)
		n = -EFAULT;
	file_put(f);
	return n;
}
int64_t sys_epoll_wait(const uint64_t *a)
{
	return wait_events((int)a[0], a[1], (int)a[2], (int)a[3]);
}
int64_t sys_epoll_pwait(const uint64_t *a)
{
	signal_mask_begin(a[4], a[5]);
	return wait_events((int)a[0], a[1], (int)a[2], (int)a[3]);
}
