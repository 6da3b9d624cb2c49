/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System calls of open files: reading, writing, descriptors, polling.
 *
 * Data goes through a bounce buffer in kernel memory: no page of a file is locked while the program's memory, which may be
 * mapped from the same file, is touched.
 *
 * Locks: f_lock guards a file's offset: reads and writes that move the offset are serialised.
 * sched_lock guards counters of event files and queues of waiting threads. f_lock is held while the
 * program's memory is copied, sched_lock never.
 */
#include "kernel/sys/file.h"
#include "kernel/sys/calls.h"

/* ---- reading and writing ---- */
int64_t transfer_vector(
    struct file *f, const struct iovec *v, unsigned n, bool write, uint64_t *off)
{
	bool own = off == NULL && f->f_ops->fo_seekable;
	uint64_t zero = 0, *at = own ? &f->f_off : &zero, largest = 0;
	int64_t total = 0, r = 0;
	uint64_t room;
	char *buf;

	if (f->f_ops->fo_vector != NULL)
		return f->f_ops->fo_vector(f, v, n, write);
	if (off != NULL)
		at = off;
	for (unsigned i = 0; i < n; i++)
		largest = v[i].len > largest ? v[i].len : largest;
	if ((buf = bounce_alloc(largest, &room)) == NULL)
		return -ENOMEM;
	if (own)
		mach_mutex_enter(&f->f_lock);
	for (unsigned i = 0; i < n && r >= 0; i++) {
		uint64_t done = 0;

		do {
			uint64_t part = v[i].len - done < room ? v[i].len - done : room;

			if (v[i].len == 0)
				break;
			if (write && copy_in(buf, v[i].base + done, part) != 0)
				r = -EFAULT;
			else
				r = write ? f->f_ops->fo_write(f, buf, part, *at)
					  : f->f_ops->fo_read(f, buf, part, *at);
			if (r > 0 && !write && copy_out(v[i].base + done, buf, (uint64_t)r) != 0)
				r = -EFAULT;
			if (r <= 0)
				break;
			*at += (uint64_t)r;
			if (own && write && (f->f_flags & O_APPEND))
				*at = f->f_inode->i_size;
			done += (uint64_t)r;
			total += r;
			if ((uint64_t)r < part || (!write && !f->f_ops->fo_seekable)) {
				r = 0;
				i = n;
				break;
			}
		} while (done < v[i].len);
		if (r == 0 && i < n && done < v[i].len)
			break;
	}
	if (own)
		mach_mutex_exit(&f->f_lock);
	kfree(buf, room);
	return total > 0 ? total : r;
}

static int64_t rw_file(int fd, const struct iovec *v, unsigned n, bool write, uint64_t *off)
{
	struct file *f = fd_get(fd);
	int64_t r;

	if (f == NULL)
		return -EBADF;
	if (!(write ? file_may_write(f) : file_may_read(f)))
		r = -EBADF;
	else if (off != NULL && !f->f_ops->fo_seekable)
		r = -ESPIPE;
	else if (write ? f->f_ops->fo_write == NULL : f->f_ops->fo_read == NULL)
		r = -EINVAL;
	else
		r = transfer_vector(f, v, n, write, off);
	file_put(f);
	return r;
}

int64_t sys_read(const uint64_t *a)
{
	return rw_file((int)a[0], &(struct iovec){ a[1], a[2] }, 1, false, NULL);
}
int64_t sys_write(const uint64_t *a)
{
	return rw_file((int)a[0], &(struct iovec){ a[1], a[2] }, 1, true, NULL);
}
int64_t sys_pread64(const uint64_t *a)
{
	uint64_t off = a[3];

	return (int64_t)off < 0 ? -EINVAL
				: rw_file((int)a[0], &(struct iovec){ a[1], a[2] }, 1, false, &off);
}
int64_t sys_pwrite64(const uint64_t *a)
{
	uint64_t off = a[3];

	return (int64_t)off < 0 ? -EINVAL
				: rw_file((int)a[0], &(struct iovec){ a[1], a[2] }, 1, true, &off);
}

static int64_t rw_vector(const uint64_t *a, bool write)
{
	struct iovec *v;
	int64_t r;

	if ((r = copy_in_vector(a[1], a[2], &v)) != 0 || v == NULL)
		return r;
	r = rw_file((int)a[0], v, (unsigned)a[2], write, NULL);
	vector_free(v, a[2]);
	return r;
}
#define SPLICE_F_GIFT 8u

/* If both sides are aligned, pages are moved; else bytes are copied. */
static int64_t splice_one(struct file *f, const struct iovec *v, unsigned flags)
{
	bool write = (f->f_flags & O_ACCMODE) == O_WRONLY,
	     whole = ((v->base | v->len) & VM_PAGEMASK) == 0,
	     nonblock = (flags & SPLICE_F_NONBLOCK) != 0;
	struct file pipe;
	int64_t r = 0;

	if (v->len == 0)
		return 0;
	if (write && whole)
		return pipe_give_pages(f, v->base, v->len, (flags & SPLICE_F_GIFT) != 0, nonblock);
	if (!write)
		r = pipe_take_pages(f, v->base, v->len, nonblock);
	if (r != 0)
		return r;
	pipe = *f; /* a copy of the pipe's file for a caller that does not wait */
	if (nonblock)
		pipe.f_flags |= O_NONBLOCK;
	return transfer_vector(&pipe, v, 1, write, NULL);
}

int64_t sys_vmsplice(const uint64_t *a)
{
	struct file *f = fd_get((int)a[0]);
	int64_t r = 0, total = 0;

	if (f == NULL)
		return -EBADF;
	if (!file_is_pipe(f) || a[2] > IOV_MAX || (a[3] & ~15ull) != 0)
		r = file_is_pipe(f) ? -EINVAL : -EBADF;
	for (uint64_t i = 0; i < a[2] && r >= 0; i++) {
		struct iovec v;

		if (copy_in(&v, a[1] + i * sizeof(v), sizeof(v)) != 0) {
			r = -EFAULT;
		} else if ((r = splice_one(f, &v, (unsigned)a[3])) > 0) {
			total += r;
			if ((uint64_t)r < v.len)
				break;
		}
	}
	file_put(f);
	return total > 0 ? total : r;
}

int64_t sys_readv(const uint64_t *a) { return rw_vector(a, false); }
int64_t sys_writev(const uint64_t *a) { return rw_vector(a, true); }

/* Copies from one file to another, in the kernel. */
static int64_t copy_files(
    struct file *in, uint64_t *inoff, struct file *out, uint64_t *outoff, uint64_t len)
{
	char *buf = kalloc(VM_PAGESIZE);
	int64_t total = 0, r = 0;

	if (buf == NULL)
		return -ENOMEM;
	while ((uint64_t)total < len) {
		uint64_t part =
		    len - (uint64_t)total < VM_PAGESIZE ? len - (uint64_t)total : VM_PAGESIZE;

		if ((r = in->f_ops->fo_read(in, buf, part, *inoff)) <= 0)
			break;
		if ((r = out->f_ops->fo_write(out, buf, (uint64_t)r, *outoff)) <= 0)
			break;
		*inoff += (uint64_t)r;
		*outoff += (uint64_t)r;
		total += r;
	}
	kfree(buf, VM_PAGESIZE);
	return total > 0 ? total : r;
}

/* The offset that a copy begins at, and moves: the caller's at `from` (copied to *at), or, if from is 0, the file's own. -EFAULT, -EINVAL. */
static int64_t find_offset(struct file *f, uint64_t from, uint64_t *at, uint64_t **off)
{
	*off = from != 0 ? at : &f->f_off;
	if (from == 0)
		return 0;
	if (!f->f_ops->fo_seekable)
		return -ESPIPE;
	if (copy_in(at, from, sizeof(*at)) != 0)
		return -EFAULT;
	return (int64_t)*at < 0 ? -EINVAL : 0;
}

/* The files whose own offset moves are locked meanwhile, both in the order of their addresses. */
static void lock_offsets(struct file *a, struct file *b, bool lock) /* NULL: no file */
{
	struct file *const files[] = { a < b ? a : b, a < b ? b : a };

	for (unsigned i = 0; i < 2; i++) {
		if (files[i] == NULL || (i == 1 && files[1] == files[0]))
			continue;
		if (lock)
			mach_mutex_enter(&files[i]->f_lock);
		else
			mach_mutex_exit(&files[i]->f_lock);
	}
}

/* Have the parts of a file at both offsets a byte in common? They are at most len bytes long, and the first ends with the file. */
static bool parts_meet(const struct inode *i, uint64_t from, uint64_t to, uint64_t len)
{
	uint64_t n = from < i->i_size ? i->i_size - from : 0;

	n = n < len ? n : len;
	return from < to ? to - from < n : from - to < n;
}

/* range: copy_file_range, which takes files alone, and no part of a file onto itself; else sendfile. */
static int64_t copy_held(
    struct file *in, uint64_t inp, struct file *out, uint64_t outp, uint64_t len, bool range)
{
	uint64_t in_at, out_at, *inoff, *outoff;
	struct file *lock_in = inp == 0 ? in : NULL,
		    *lock_out = outp == 0 && out->f_ops->fo_seekable ? out : NULL;
	int64_t r;

	if (in->f_ops->fo_read == NULL || out->f_ops->fo_write == NULL || !in->f_ops->fo_seekable)
		return -EINVAL;
	if (inode_type(in->f_inode) == S_IFDIR)
		return -EISDIR;
	if ((r = find_offset(in, inp, &in_at, &inoff)) != 0 ||
	    (r = find_offset(out, outp, &out_at, &outoff)) != 0)
		return r;
	if (out->f_flags & O_APPEND)
		return range ? -EBADF : -EINVAL;
	if (range && in->f_inode == out->f_inode && parts_meet(in->f_inode, *inoff, *outoff, len))
		return -EINVAL;
	lock_offsets(lock_in, lock_out, true);
	r = copy_files(in, inoff, out, outoff, len);
	lock_offsets(lock_in, lock_out, false);
	if (r > 0 &&
	    ((inp != 0 && copy_out(inp, &in_at, 8) != 0) ||
		(outp != 0 && copy_out(outp, &out_at, 8) != 0)))
		r = -EFAULT;
	return r;
}

static int64_t copy_between(
    int infd, uint64_t inp, int outfd, uint64_t outp, uint64_t len, bool range)
{
	struct file *in = fd_get(infd), *out = fd_get(outfd);
	int64_t r = -EBADF;

	if (in != NULL && out != NULL && file_may_read(in) && file_may_write(out))
		r = copy_held(in, inp, out, outp, len, range);
	if (in != NULL)
		file_put(in);
	if (out != NULL)
		file_put(out);
	return r;
}
int64_t sys_sendfile(const uint64_t *a)
{
	return copy_between((int)a[1], a[2], (int)a[0], 0, a[3], false);
}
int64_t sys_copy_file_range(const uint64_t *a)
{
	return a[5] != 0 ? -EINVAL : copy_between((int)a[0], a[1], (int)a[2], a[3], a[4], true);
}

int64_t sys_lseek(const uint64_t *a)
{
	struct file *f = fd_get_open((int)a[0]);
	int64_t base, r;

	if (f == NULL)
		return -EBADF;
	if (!f->f_ops->fo_seekable) {
		file_put(f);
		return -ESPIPE;
	}
	mach_mutex_enter(&f->f_lock);
	base = (int64_t)f->f_inode->i_size;
	if (a[2] <= 1) /* SEEK_SET, SEEK_CUR */
		base = a[2] == 0 ? 0 : (int64_t)f->f_off;
	r = base + (int64_t)a[1];
	if (a[2] == 3) /* SEEK_DATA: all is data */
		r = a[1] < (uint64_t)base ? (int64_t)a[1] : -ENXIO;
	else if (a[2] == 4)
		r = a[1] < (uint64_t)base ? base : -ENXIO;
	else if (a[2] > 4 || r < 0)
		r = -EINVAL;
	if (r >= 0)
		f->f_off = (uint64_t)r;
	mach_mutex_exit(&f->f_lock);
	file_put(f);
	return r;
}

/* ---- descriptors ---- */
int64_t sys_close(const uint64_t *a) { return fd_close(this_proc()->p_files, (int)a[0]); }

int64_t sys_dup(const uint64_t *a)
{
	struct file *f = fd_get((int)a[0]);

	return f == NULL ? -EBADF : fd_install(this_proc()->p_files, f, 0, false);
}

static int64_t dup_to(int from, int to, bool cloexec)
{
	struct file *f = fd_get(from);

	return f == NULL ? -EBADF : fd_replace(this_proc()->p_files, f, (unsigned)to, cloexec);
}
int64_t sys_dup2(const uint64_t *a)
{
	struct file *f;

	if (a[0] == a[1]) {
		if ((f = fd_get((int)a[0])) == NULL)
			return -EBADF;
		file_put(f);
		return (int64_t)a[0];
	}
	return dup_to((int)a[0], (int)a[1], false);
}
int64_t sys_dup3(const uint64_t *a)
{
	return a[0] == a[1] || (a[2] & ~(uint64_t)O_CLOEXEC) != 0
	    ? -EINVAL
	    : dup_to((int)a[0], (int)a[1], (a[2] & O_CLOEXEC) != 0);
}

/* DUPFD, DUPFD_CLOEXEC, GETFD, SETFD, GETFL: all that a file opened by O_PATH has */
static bool is_of_descriptors(uint64_t cmd) { return cmd <= 3 || cmd == 1030; }

int64_t sys_fcntl(const uint64_t *a)
{
	struct files *fs = this_proc()->p_files;
	struct file *f = is_of_descriptors(a[1]) ? fd_get((int)a[0]) : fd_get_open((int)a[0]);
	int64_t r = 0;

	if (f == NULL)
		return -EBADF;
	switch (a[1]) {
	case 0:
	case 1030: /* DUPFD, DUPFD_CLOEXEC */
		if ((unsigned)a[2] >= this_proc()->p_rlim[7].cur) {
			r = -EINVAL;
			break;
		}
		return fd_install(fs, f, (unsigned)a[2], a[1] == 1030);
	case 1: r = fd_cloexec(fs, (int)a[0], -1); break;
	case 2: (void)fd_cloexec(fs, (int)a[0], a[2] & 1); break;
	case 3: r = f->f_flags; break;
	case 4:
		f->f_flags = (f->f_flags & ~(O_APPEND | O_NONBLOCK)) |
		    (unsigned)(a[2] & (O_APPEND | O_NONBLOCK));
		break;
	case 5:
	case 6:
	case 7:
	case 36:
	case 37:
	case 38: r = filelock_fcntl(f, (unsigned)a[1], a[2]); break;
	case 1031: /* SETPIPE_SZ, GETPIPE_SZ: every pipe has one size */
	case 1032:
		r = file_is_pipe(f) ? 65536 : -EBADF;
		if (a[1] == 1031 && r > 0 && (unsigned)a[2] > r)
			r = -EPERM;
		break;
	default: r = -EINVAL;
	}
	file_put(f);
	return r;
}

int64_t sys_flock(const uint64_t *a)
{
	struct file *f = fd_get_open((int)a[0]);
	int64_t r;

	if (f == NULL)
		return -EBADF;
	r = filelock_flock(f, (unsigned)a[1]);
	file_put(f);
	return r;
}

int64_t sys_ioctl(const uint64_t *a)
{
	struct file *f = fd_get_open((int)a[0]);
	int64_t r;

	if (f == NULL)
		return -EBADF;
	if (a[1] == 0x5421) { /* FIONBIO */
		int on = 0;

		r = copy_in(&on, a[2], sizeof(on));
		f->f_flags = on ? f->f_flags | O_NONBLOCK : f->f_flags & ~O_NONBLOCK;
	} else if (a[1] == 0x5451 || a[1] == 0x5450) { /* FIOCLEX, FIONCLEX */
		(void)fd_cloexec(this_proc()->p_files, (int)a[0], a[1] == 0x5451);
		r = 0;
	} else {
		r = f->f_ops->fo_ioctl != NULL ? f->f_ops->fo_ioctl(f, (unsigned)a[1], a[2])
					       : -ENOTTY;
	}
	file_put(f);
	return r;
}

int fd_install_pair(struct file *a, struct file *b, bool cloexec, uint64_t to)
{
	struct files *fs = this_proc()->p_files;
	int fd[2];

	if ((fd[0] = fd_install(fs, a, 0, cloexec)) < 0) {
		file_put(b);
		return fd[0];
	}
	if ((fd[1] = fd_install(fs, b, 0, cloexec)) < 0) {
		(void)fd_close(fs, fd[0]);
		return fd[1];
	}
	if (copy_out(to, fd, sizeof(fd)) == 0)
		return 0;
	(void)fd_close(fs, fd[0]);
	(void)fd_close(fs, fd[1]);
	return -EFAULT;
}

static int64_t pipe_make(uint64_t to, unsigned flags)
{
	struct file *r, *w;
	int err = pipe_new(&r, &w, flags);

	return err != 0 ? err : fd_install_pair(r, w, (flags & O_CLOEXEC) != 0, to);
}
int64_t sys_pipe(const uint64_t *a) { return pipe_make(a[0], 0); }
int64_t sys_pipe2(const uint64_t *a)
{
	if ((a[1] & ~(uint64_t)(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) != 0)
		return -EINVAL;
	return pipe_make(a[0], (unsigned)a[1]);
}

/* ---- eventfd ---- */
struct event_count {
	_Atomic uint64_t count;
	_Atomic uint64_t added, taken; /* sched_lock to change: how often */
	bool semaphore;
	struct waitq wait;
};

#define EVENT_MOST 0xfffffffffffffffeull /* Linux's */

struct event_room { /* for so much more */
	struct event_count *r_event;
	uint64_t r_more;
};

static bool event_has_room(void *arg)
{
	const struct event_room *r = arg;

	return r->r_event->count <= EVENT_MOST - r->r_more;
}

static bool event_some(void *arg) { return ((struct event_count *)arg)->count != 0; }

static int64_t event_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	struct event_count *e = f->f_data;
	uint64_t v;
	int err;

	(void)off;
	if (len < 8)
		return -EINVAL;
	for (;;) {
		bool irq = spin_lock(&sched_lock);

		v = e->semaphore && e->count > 0 ? 1 : e->count;
		e->count -= v;
		if (v != 0) { /* there is room */
			e->taken++;
			wake_all(&e->wait);
			wake_all(&poll_queue);
		}
		spin_unlock(&sched_lock, irq);
		if (v != 0)
			break;
		if (f->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if ((err = wait_until(&e->wait, event_some, e, 0, true)) != 0)
			return -ERESTART;
	}
	memcpy(buf, &v, 8);
	return 8;
}

static int64_t event_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	struct event_count *e = f->f_data;
	uint64_t v;
	bool irq;

	(void)off;
	if (len < 8)
		return -EINVAL;
	memcpy(&v, buf, 8);
	if (v > EVENT_MOST)
		return -EINVAL;
	for (bool added = false; !added;) {
		struct event_room room = { e, v };

		irq = spin_lock(&sched_lock);
		if ((added = event_has_room(&room))) {
			e->count += v;
			e->added++;
		}
		wake_all(&e->wait);
		wake_all(&poll_queue);
		spin_unlock(&sched_lock, irq);
		if (!added && (f->f_flags & O_NONBLOCK))
			return -EAGAIN;
		if (!added && wait_until(&e->wait, event_has_room, &room, 0, true) != 0)
			return -ERESTART;
	}
	return 8;
}

static int event_poll(struct file *f)
{
	uint64_t n = ((struct event_count *)f->f_data)->count;

	return (n != 0 ? POLLIN : 0) | (n < EVENT_MOST ? POLLOUT : 0);
}
static uint64_t event_news(struct file *f, int bits)
{
	const struct event_count *e = f->f_data;

	return (bits & POLLIN ? e->added : 0) + (bits & POLLOUT ? e->taken : 0);
}
static void event_close(struct file *f) { kfree(f->f_data, sizeof(struct event_count)); }
static const struct file_ops event_ops = { .fo_read = event_read,
	.fo_write = event_write,
	.fo_poll = event_poll,
	.fo_news = event_news,
	.fo_close = event_close };

int64_t sys_eventfd2(const uint64_t *a)
{
	struct event_count *e;
	struct file *f;

	if ((unsigned)a[1] & ~(1u | O_NONBLOCK | O_CLOEXEC)) /* 1: EFD_SEMAPHORE */
		return -EINVAL;
	f = anon_file(
	    &event_ops, S_IFREG | 0600, O_RDWR | ((unsigned)a[1] & O_NONBLOCK), sizeof(*e));

	if (f == NULL)
		return -ENOMEM;
	e = f->f_data;
	e->count = (uint32_t)a[0];
	e->semaphore = a[1] & 1;
	return fd_install(this_proc()->p_files, f, 0, (a[1] & O_CLOEXEC) != 0);
}
int64_t sys_eventfd(const uint64_t *a) { return sys_eventfd2((const uint64_t[6]){ a[0] }); }

/* ---- polling ---- */
struct pollfd {
	int32_t fd;
	int16_t events, revents;
};

static int poll_once(struct pollfd *p, uint64_t n)
{
	int ready = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct file *f;

		p[i].revents = 0;
		if (p[i].fd < 0)
			continue;
		if ((f = fd_get(p[i].fd)) == NULL) {
			p[i].revents = POLLNVAL;
		} else {
			int now =
			    f->f_ops->fo_poll != NULL ? f->f_ops->fo_poll(f) : POLLIN | POLLOUT;

			now |= (now & POLLIN ? POLLRDNORM : 0) | (now & POLLOUT ? POLLWRNORM : 0);
			p[i].revents = (int16_t)(now & (p[i].events | POLLERR | POLLHUP));
			file_put(f);
		}
		ready += p[i].revents != 0;
	}
	return ready;
}

#define POLL_AGAIN_NS                                                                              \
	20000000u /* a file may become ready between the check and the sleep: it is checked again */

static int64_t poll_wait(struct pollfd *p, uint64_t n, uint64_t deadline)
{
	for (;;) {
		int ready = poll_once(p, n), err;
		uint64_t now = arch_time_ns(), until = now + POLL_AGAIN_NS;
		bool irq;

		if (ready > 0)
			return ready;
		if (deadline != 0 && now >= deadline)
			return 0;
		if (deadline != 0 && until > deadline)
			until = deadline;
		irq = spin_lock(&sched_lock);
		err = wait_on(&poll_queue, until, true);
		spin_unlock(&sched_lock, irq);
		if (err == -EINTR)
			return -EINTR;
	}
}

static int64_t do_poll(uint64_t fds, uint64_t n, uint64_t deadline)
{
	struct pollfd *p;
	int64_t r;

	if (n > 4096)
		return -EINVAL;
	if ((p = kalloc((n + 1) * sizeof(*p))) == NULL)
		return -ENOMEM;
	r = n > 0 && copy_in(p, fds, n * sizeof(*p)) != 0 ? -EFAULT : poll_wait(p, n, deadline);
	if (r >= 0 && n > 0 && copy_out(fds, p, n * sizeof(*p)) != 0)
		r = -EFAULT;
	kfree(p, (n + 1) * sizeof(*p));
	return r;
}

int64_t sys_poll(const uint64_t *a)
{
	int ms = (int)a[2];

	return do_poll(a[0], a[1], ms < 0 ? 0 : arch_time_ns() + (uint64_t)ms * 1000000 + 1);
}

static int deadline_of(uint64_t tsp, uint64_t unit, uint64_t *deadline)
{
	uint64_t ts[2];

	*deadline = 0;
	if (tsp == 0)
		return 0;
	if (copy_in(ts, tsp, sizeof(ts)) != 0)
		return -EFAULT;
	if (unit == 1000 && ts[0] < SPAN_MAX &&
	    ts[1] < SPAN_MAX) { /* the microseconds of select may exceed a second */
		ts[0] += ts[1] / 1000000;
		ts[1] %= 1000000;
	}
	if ((int64_t)ts[0] < 0 || ts[1] >= 1000000000 / unit)
		return -EINVAL;
	*deadline = arch_time_ns() + span_ns(ts[0], ts[1] * unit) + 1;
	return 0;
}

int64_t sys_ppoll(const uint64_t *a)
{
	uint64_t deadline;
	int err = deadline_of(a[2], 1, &deadline);

	if (err != 0)
		return err;
	signal_mask_begin(a[3], a[4]);
	return do_poll(a[0], a[1], deadline);
}

static int64_t do_select(const uint64_t *a, uint64_t deadline)
{
	static const int16_t want[3] = { POLLIN, POLLOUT, 0 };
	uint64_t n = a[0], bytes = (n + 63) / 64 * 8, k = 0;
	uint64_t set[3][16] = { { 0 } };
	struct pollfd *p;
	bool bad = false; /* a set names a descriptor that is not there */
	int64_t r;

	if (n > 1024)
		return -EINVAL;
	for (unsigned s = 0; s < 3; s++)
		if (a[1 + s] != 0 && copy_in(set[s], a[1 + s], bytes) != 0)
			return -EFAULT;
	if ((p = kzalloc((n + 1) * sizeof(*p))) == NULL)
		return -ENOMEM;
	for (uint64_t fd = 0; fd < n; fd++) {
		int16_t events = 0;

		for (unsigned s = 0; s < 3; s++)
			if (set[s][fd / 64] >> (fd % 64) & 1)
				events = (int16_t)(events | want[s] | 0x4000);
		if (events != 0)
			p[k++] = (struct pollfd){ (int)fd, events, 0 };
	}
	r = poll_wait(p, k, deadline);
	if (r >= 0) {
		memset(set, 0, sizeof(set));
		r = 0;
		for (uint64_t i = 0; i < k; i++) {
			if (p[i].revents & POLLNVAL)
				bad = true;
			if ((p[i].events & POLLIN) &&
			    (p[i].revents & (POLLIN | POLLHUP | POLLERR))) {
				set[0][p[i].fd / 64] |= 1ull << (p[i].fd % 64);
				r++;
			}
			if ((p[i].events & POLLOUT) && (p[i].revents & (POLLOUT | POLLERR))) {
				set[1][p[i].fd / 64] |= 1ull << (p[i].fd % 64);
				r++;
			}
		}
		for (unsigned s = 0; s < 3 && !bad; s++)
			if (a[1 + s] != 0 && copy_out(a[1 + s], set[s], bytes) != 0)
				r = -EFAULT;
		r = bad ? -EBADF : r;
	}
	kfree(p, (n + 1) * sizeof(*p));
	return r;
}

/* As do_select; the program is told how much of its time, at a[4], is left, in seconds and units (ns each). */
static int64_t select_and_tell(const uint64_t *a, uint64_t deadline, uint64_t unit)
{
	int64_t r = do_select(a, deadline);
	uint64_t now = arch_time_ns(), left = now < deadline ? deadline - now : 0;

	if (a[4] != 0)
		(void)copy_out(a[4],
		    (const uint64_t[]){ left / 1000000000, left % 1000000000 / unit },
		    2 * sizeof(uint64_t));
	return r;
}

int64_t sys_select(const uint64_t *a)
{
	uint64_t deadline;
	int err = deadline_of(a[4], 1000, &deadline);

	return err != 0 ? err : select_and_tell(a, deadline, 1000);
}

int64_t sys_pselect6(const uint64_t *a)
{
	uint64_t deadline, mask[2];
	int err = deadline_of(a[4], 1, &deadline);

	if (err != 0)
		return err;
	if (a[5] != 0 && copy_in(mask, a[5], sizeof(mask)) == 0)
		signal_mask_begin(mask[0], mask[1]);
	return select_and_tell(a, deadline, 1);
}

/* ---- to the disk ---- */
int64_t sys_fsync(const uint64_t *a)
{
	struct file *f = fd_get_open((int)a[0]);
	int64_t r = 0;

	if (f == NULL)
		return -EBADF;
	if (f->f_inode->i_ops->io_sync != NULL) {
		r = err_of(vnode_sync(&f->f_inode->i_vnode));
		if (r == 0)
			r = f->f_inode->i_ops->io_sync(f->f_inode);
		if (r == 0)
			r = ext2_sync_all();
	} else if ((f->f_inode->i_mode & S_IFMT) != S_IFREG &&
	    (f->f_inode->i_mode & S_IFMT) != S_IFDIR) {
		r = -EINVAL; /* there is nothing to write: a pipe, a socket, a device */
	}
	file_put(f);
	return r;
}
int64_t sys_fdatasync(const uint64_t *a) { return sys_fsync(a); }
int64_t sys_sync(const uint64_t *a)
{
	(void)a;
	vfs_sync();
	return 0;
}
