/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pairs of connected sockets (socketpair: AF_UNIX, SOCK_STREAM). A pair is two pipes, one for each direction.
 *
 * An end reads from one pipe and writes to the other: waiting, polling, and what an end finds when the other is closed, are the
 * pipes'. shutdown gives up a direction: the pipe's end is closed.
 *
 * Locks: s_lock, innermost: which pipes an end still has. A call holds a reference to the pipe that it uses, so that a
 * shutdown beside it takes effect for the next call. Left out: sockets with names, other domains and types, MSG_PEEK, descriptors
 * in messages.
 */
#include "kernel/sys/calls.h"
#include "kernel/sys/file.h"

#define AF_UNIX 1u
#define SOCK_STREAM 1u
#define SOL_SOCKET 1u
#define MSG_DONTWAIT 0x40u
#define MSG_WAITALL 0x100u
#define MSG_NOSIGNAL 0x4000u
#define MSG_MORE 0x8000u
#define MSG_CMSG_CLOEXEC 0x40000000u

struct socket {
	struct mach_mutex s_lock;
	struct file *s_in, *s_out; /* s_lock: references; NULL: shut down */
};

struct msghdr { /* Linux's */
	uint64_t name;
	uint32_t namelen, pad;
	uint64_t iov, iovlen, control, controllen;
	uint32_t flags, pad2;
};

/* A reference to the pipe of a direction; NULL: it is shut down. */
static struct file *hold_pipe(const struct file *f, bool out)
{
	struct socket *s = f->f_data;
	struct file *p;

	mach_mutex_enter(&s->s_lock);
	if ((p = out ? s->s_out : s->s_in) != NULL)
		file_hold(p);
	mach_mutex_exit(&s->s_lock);
	return p;
}

/* The pipe as a call through this socket uses it. */
static struct file pipe_for(const struct file *p, const struct file *f)
{
	const unsigned how = O_NONBLOCK | O_NOSIGPIPE;
	struct file now = *p;

	now.f_flags = (p->f_flags & ~how) | (f->f_flags & how);
	return now;
}

static int64_t socket_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	struct file *p = hold_pipe(f, false), now;
	int64_t r;

	if (p == NULL)
		return 0;
	now = pipe_for(p, f);
	r = now.f_ops->fo_read(&now, buf, len, off);
	file_put(p);
	return r;
}

static int64_t socket_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	struct file *p = hold_pipe(f, true), now;
	int64_t r;

	if (p == NULL)
		return pipe_broken(f);
	now = pipe_for(p, f);
	r = now.f_ops->fo_write(&now, buf, len, off);
	file_put(p);
	return r;
}

/* What poll says of a direction's pipe; of one that is shut down, `gone`. */
static int poll_direction(struct file *f, bool out, int gone)
{
	struct file *p = hold_pipe(f, out);
	int now = p != NULL ? p->f_ops->fo_poll(p) : gone;

	if (p != NULL)
		file_put(p);
	return now;
}

/* What would not wait is ready: reading at the end, and writing that fails. */
static int socket_poll(struct file *f)
{
	int in = poll_direction(f, false, POLLHUP), out = poll_direction(f, true, POLLERR),
	    now = (in & POLLIN) | (out & POLLOUT);

	if (in & POLLHUP)
		now |= POLLIN;
	if (out & POLLERR)
		now |= POLLOUT;
	return (in & POLLHUP) && (out & POLLERR) ? now | POLLHUP : now;
}

static int64_t socket_ioctl(struct file *f, unsigned cmd, uint64_t arg)
{
	struct file *p = hold_pipe(f, false);
	int64_t r = -ENOTTY;

	if (p != NULL) {
		r = p->f_ops->fo_ioctl(p, cmd, arg);
		file_put(p);
	}
	return r;
}

static void shut_direction(struct socket *s, bool out)
{
	struct file **at = out ? &s->s_out : &s->s_in, *p;

	mach_mutex_enter(&s->s_lock);
	p = *at;
	*at = NULL;
	mach_mutex_exit(&s->s_lock);
	if (p != NULL)
		file_put(p);
}

static void socket_close(struct file *f)
{
	struct socket *s = f->f_data;

	shut_direction(s, false);
	shut_direction(s, true);
	mach_mutex_fini(&s->s_lock);
	kfree(s, sizeof(*s));
}

static const struct file_ops socket_ops = {
	.fo_read = socket_read,
	.fo_write = socket_write,
	.fo_poll = socket_poll,
	.fo_ioctl = socket_ioctl,
	.fo_close = socket_close,
};
static const struct inode_ops socket_inode_ops = { .io_lookup = NULL };

/* A socket of two pipe ends, whose references it takes over, whatever the result. */
static int socket_new(struct file *in, struct file *out, unsigned flags, struct file **fp)
{
	struct socket *s = kzalloc(sizeof(*s));
	struct inode *i = s == NULL ? NULL : anon_inode(&socket_inode_ops, S_IFSOCK | 0777);

	if (i == NULL || file_new(i, &socket_ops, O_RDWR | flags, fp) != 0) {
		kfree(s, sizeof(*s));
		file_put(in);
		file_put(out);
		return -ENOMEM;
	}
	mach_mutex_init(&s->s_lock, 6, "socket");
	s->s_in = in;
	s->s_out = out;
	(*fp)->f_data = s;
	return 0;
}

static int pair_new(unsigned flags, struct file **a, struct file **b)
{
	struct file *r[2], *w[2];
	int err;

	if ((err = pipe_new(&r[0], &w[0], 0)) != 0)
		return err;
	if ((err = pipe_new(&r[1], &w[1], 0)) != 0) {
		file_put(r[0]);
		file_put(w[0]);
		return err;
	}
	if ((err = socket_new(r[0], w[1], flags, a)) != 0) {
		file_put(r[1]);
		file_put(w[0]);
	} else if ((err = socket_new(r[1], w[0], flags, b)) != 0) {
		file_put(*a);
	}
	return err;
}

int64_t sys_socketpair(const uint64_t *a)
{
	unsigned flags = (unsigned)a[1] & O_NONBLOCK;
	bool cloexec = (a[1] & O_CLOEXEC) != 0;
	struct file *x, *y;
	int err;

	if ((unsigned)a[0] != AF_UNIX)
		return -EAFNOSUPPORT;
	if (((unsigned)a[1] & ~(O_NONBLOCK | O_CLOEXEC)) != SOCK_STREAM)
		return -ESOCKTNOSUPPORT;
	if (a[2] > 1)
		return -EPROTONOSUPPORT;
	if ((err = pair_new(flags, &x, &y)) != 0)
		return err;
	return fd_install_pair(x, y, cloexec, a[3]);
}

/* There is nothing that could be connected to. */
int64_t sys_socket(const uint64_t *a)
{
	(void)a;
	return -EAFNOSUPPORT;
}

/* A reference; or NULL, and why. */
static struct file *socket_get(uint64_t fd, int64_t *err)
{
	struct file *f = fd_get((int)fd);

	*err = -EBADF;
	if (f == NULL || f->f_ops == &socket_ops)
		return f;
	file_put(f);
	*err = -ENOTSOCK;
	return NULL;
}

/* ---- messages ---- */
static int64_t move_message(struct file *f, struct iovec *v, unsigned n, unsigned flags, bool send)
{
	const unsigned known = send ? MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE
				    : MSG_DONTWAIT | MSG_NOSIGNAL | MSG_WAITALL | MSG_CMSG_CLOEXEC;
	struct file now = *f;
	int64_t r, total = 0;

	if (flags & ~known)
		return -EOPNOTSUPP;
	now.f_flags |=
	    (flags & MSG_DONTWAIT ? O_NONBLOCK : 0) | (flags & MSG_NOSIGNAL ? O_NOSIGPIPE : 0);
	if (n != 1 || send || !(flags & MSG_WAITALL))
		return transfer_vector(&now, v, n, send, NULL);
	while ((r = transfer_vector(&now, v, 1, false, NULL)) > 0) {
		total += r;
		v->base += (uint64_t)r;
		if ((v->len -= (uint64_t)r) == 0)
			break;
	}
	return total > 0 ? total : r;
}

int64_t sys_sendto(const uint64_t *a)
{
	struct iovec v = { a[1], a[2] };
	int64_t r;
	struct file *f = socket_get(a[0], &r);

	if (f == NULL)
		return r;
	r = a[4] != 0 ? -EISCONN : move_message(f, &v, 1, (unsigned)a[3], true);
	file_put(f);
	return r;
}

/* The other end has no name. */
static int no_name_out(uint64_t len_at)
{
	uint32_t none = 0;

	return len_at == 0 ? 0 : copy_out(len_at, &none, sizeof(none));
}

int64_t sys_recvfrom(const uint64_t *a)
{
	struct iovec v = { a[1], a[2] };
	int64_t r;
	struct file *f = socket_get(a[0], &r);

	if (f == NULL)
		return r;
	r = move_message(f, &v, 1, (unsigned)a[3], false);
	file_put(f);
	return r >= 0 && a[4] != 0 && no_name_out(a[5]) != 0 ? -EFAULT : r;
}

static int64_t message_call(const uint64_t *a, bool send)
{
	struct msghdr m;
	struct iovec *v;
	int64_t r;
	struct file *f = socket_get(a[0], &r);

	if (f == NULL)
		return r;
	r = copy_in(&m, a[1], sizeof(m)) != 0 ? -EFAULT : 0;
	if (r == 0 && (m.iovlen > IOV_MAX || m.iovlen == 0))
		r = m.iovlen == 0 ? 0 : -EMSGSIZE;
	else if (r == 0 && send && (m.controllen != 0 || m.namelen != 0))
		r = m.namelen != 0 ? -EISCONN : -EOPNOTSUPP;
	else if (r == 0 && (r = copy_in_vector(m.iov, m.iovlen, &v)) == 0) {
		r = move_message(f, v, (unsigned)m.iovlen, (unsigned)a[2], send);
		vector_free(v, m.iovlen);
	}
	file_put(f);
	if (r < 0 || send)
		return r;
	m.namelen = 0;
	m.controllen = 0;
	m.flags = 0;
	return copy_out(a[1], &m, sizeof(m)) != 0 ? -EFAULT : r;
}
int64_t sys_sendmsg(const uint64_t *a) { return message_call(a, true); }
int64_t sys_recvmsg(const uint64_t *a) { return message_call(a, false); }

int64_t sys_shutdown(const uint64_t *a)
{
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	err = a[1] > 2 ? -EINVAL : 0;
	if (err == 0 && a[1] != 1) /* 0: reading, 1: writing, 2: both */
		shut_direction(f->f_data, false);
	if (err == 0 && a[1] != 0)
		shut_direction(f->f_data, true);
	file_put(f);
	return err;
}

/* ---- names and options ---- */
static int64_t give_name(const uint64_t *a)
{
	uint16_t family = AF_UNIX;
	uint32_t room, len = sizeof(family);
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	file_put(f);
	if (copy_in(&room, a[2], sizeof(room)) != 0 ||
	    copy_out(a[1], &family, room < len ? room : len) != 0)
		return -EFAULT;
	return copy_out(a[2], &len, sizeof(len));
}
int64_t sys_getsockname(const uint64_t *a) { return give_name(a); }
int64_t sys_getpeername(const uint64_t *a) { return give_name(a); }

/* The value of an option, or -1. */
static int option_value(unsigned option)
{
	switch (option) {
	case 3: return SOCK_STREAM; /* SO_TYPE */
	case 4:                     /* SO_ERROR */
	case 30:                    /* SO_ACCEPTCONN */
	case 38: return 0;          /* SO_PROTOCOL */
	case 7:
	case 8: return 65536; /* SO_SNDBUF, SO_RCVBUF */
	case 39: return AF_UNIX;
	default: return -1;
	}
}

int64_t sys_getsockopt(const uint64_t *a)
{
	int v = (unsigned)a[1] == SOL_SOCKET ? option_value((unsigned)a[2]) : -1;
	uint32_t len;
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	file_put(f);
	if (v < 0)
		return -ENOPROTOOPT;
	if (copy_in(&len, a[4], sizeof(len)) != 0)
		return -EFAULT;
	len = len < sizeof(v) ? len : sizeof(v);
	return copy_out(a[3], &v, len) != 0 || copy_out(a[4], &len, sizeof(len)) != 0 ? -EFAULT : 0;
}

/* Sizes, timeouts and the like: accepted, without effect. */
int64_t sys_setsockopt(const uint64_t *a)
{
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	file_put(f);
	return (unsigned)a[1] == SOL_SOCKET ? 0 : -ENOPROTOOPT;
}
