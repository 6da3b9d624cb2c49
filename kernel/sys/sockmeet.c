/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How sockets meet by a name: bind, listen, connect, accept.
 *
 * connect looks for a socket with the name that listens, makes both queues at once, and puts the other end, an open file, in line for
 * accept. A connect that finds the line full waits in connect_queue and looks again, as the listener may have been closed. A
 * datagram socket of the UNIX domain that is connected sends to the queue of the socket that had the name then; those of the Internet are
 * found anew for each datagram (inet_find_queue). A connect of the Internet that may not wait has done its work when it answers
 * EINPROGRESS: Linux's always does, and programs ask for the result.
 *
 * Locks: names_lock (sockname.c), then s_lock.
 */
#include "kernel/sys/calls.h"
#include "kernel/sys/socket.h"

static int64_t give_name(const uint64_t *a, bool peer)
{
	struct sockname n;
	struct socket *s;
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	s = f->f_data;
	mach_mutex_enter(&names_lock);
	n = peer ? s->s_peer : s->s_name;
	err = peer && s->s_state != SOCKET_CONNECTED ? -ENOTCONN : 0;
	mach_mutex_exit(&names_lock);
	file_put(f);
	return err != 0 ? err : socket_name_out(&n, a[1], a[2]);
}
int64_t sys_getsockname(const uint64_t *a) { return give_name(a, false); }
int64_t sys_getpeername(const uint64_t *a) { return give_name(a, true); }

int64_t sys_bind(const uint64_t *a)
{
	struct sockname n;
	struct socket *s;
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	s = f->f_data;
	if (a[2] == 2 && s->s_family == AF_UNIX) { /* the family alone */
		n = (struct sockname){ .n_len = 2 };
		if (copy_in(&n, a[1], 2) != 0)
			err = -EFAULT;
		else
			err = n.n_family == AF_UNIX ? 0 : -EINVAL;
	} else {
		err = socket_name_in(f, a[1], a[2], &n);
	}
	if (err == 0)
		err = s->s_family == AF_INET ? inet_bind(s, &n) : socket_bind(s, &n);
	file_put(f);
	return err;
}

/* names_lock held. */
static int64_t may_listen(struct socket *s)
{
	KASSERT(mach_mutex_held(&names_lock));
	if (s->s_type == SOCK_DGRAM)
		return -EOPNOTSUPP;
	if (s->s_state == SOCKET_CONNECTED)
		return -EINVAL;
	if (s->s_family == AF_INET)
		return inet_ready_to_listen(s);
	return s->s_name.n_len > 2 ? 0 : -EINVAL;
}

int64_t sys_listen(const uint64_t *a)
{
	unsigned n = (unsigned)a[1] + 1; /* Linux's: one more than was asked for */
	struct socket *s;
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	s = f->f_data;
	mach_mutex_enter(&names_lock);
	err = may_listen(s);
	if (err == 0) {
		s->s_state = SOCKET_LISTENS;
		s->s_backlog = n == 0 || n > LINE_MOST ? LINE_MOST : n;
		s->s_pid = this_proc()->p_pid;
	}
	mach_mutex_exit(&names_lock);
	wake(&connect_queue);
	file_put(f);
	return err;
}

/* The other end of a connection is the last in line. names_lock held. */
static void put_in_line(struct socket *l, struct file *other)
{
	KASSERT(mach_mutex_held(&names_lock));
	if (l->s_last != NULL)
		((struct socket *)l->s_last->f_data)->s_behind = other;
	else
		l->s_first = other;
	l->s_last = other;
	l->s_queued++;
	l->s_news++;
	wake(&l->s_wait);
	wake(&poll_queue);
}

/* The other end of s, which connected to l by the name n. names_lock held. */
static void name_ends(
    struct socket *s, struct socket *o, struct socket *l, const struct sockname *n)
{
	KASSERT(mach_mutex_held(&names_lock));
	if (s->s_family == AF_INET) {
		s->s_name = inet_sender(s);
		memcpy((void *)o->s_kept, (const void *)l->s_kept, sizeof(o->s_kept));
		o->s_given = l->s_given;
		o->s_linger = l->s_linger;
		o->s_abrupt = l->s_abrupt;
	}
	o->s_name = s->s_peer = s->s_family == AF_INET ? *n : l->s_name;
	o->s_peer = s->s_name;
}

/* The socket becomes connected to one that will be accepted from l. names_lock held. */
static int64_t connect_to(struct socket *s, struct socket *l, const struct sockname *n)
{
	struct sockq *in, *out;
	struct file *other;
	int err = socket_end_new(s->s_family, s->s_type, 0, &other, &in, &out);

	KASSERT(mach_mutex_held(&names_lock));
	if (err != 0)
		return err;
	name_ends(s, other->f_data, l, n);
	s->s_peer_pid = l->s_pid;
	mach_mutex_enter(&s->s_lock);
	s->s_in = in;
	s->s_out = out;
	mach_mutex_exit(&s->s_lock);
	s->s_state = SOCKET_CONNECTED;
	s->s_news++;
	put_in_line(l, other);
	return 0;
}

/* Whom the name means, and the name as it is. names_lock held. */
static int64_t find_listener(
    struct socket *s, struct sockname *n, const struct inode *node, struct socket **l)
{
	int64_t err = 0;

	KASSERT(mach_mutex_held(&names_lock));
	if (s->s_family == AF_UNIX)
		*l = socket_find_bound(n, node);
	else if ((err = inet_ready_to_reach(s, n)) == 0)
		*l = inet_find_listener(n);
	if (err != 0)
		return err;
	if (*l == NULL || ((*l)->s_type == s->s_type && (*l)->s_state != SOCKET_LISTENS))
		return -ECONNREFUSED;
	return (*l)->s_type != s->s_type ? -EPROTOTYPE : 0;
}

/* -EAGAIN: the line is full. */
static int64_t try_connect(struct socket *s, struct sockname *n, const struct inode *node)
{
	struct socket *l = NULL;
	int64_t err;

	mach_mutex_enter(&names_lock);
	if (s->s_state != SOCKET_FRESH)
		err = s->s_state == SOCKET_CONNECTED ? -EISCONN : -EINVAL;
	else if ((err = find_listener(s, n, node, &l)) == 0)
		err = l->s_queued >= l->s_backlog ? -EAGAIN : connect_to(s, l, n);
	mach_mutex_exit(&names_lock);
	return err;
}

#define LOOK_AGAIN_NS 20000000u /* a queue may get room between the look and the sleep */

static int64_t connect_socket(struct file *f, struct sockname *n, const struct inode *node)
{
	int64_t err;

	while ((err = try_connect(f->f_data, n, node)) == -EAGAIN && !(f->f_flags & O_NONBLOCK)) {
		bool irq = spin_lock(&sched_lock);

		err = wait_on(&connect_queue, arch_time_ns() + LOOK_AGAIN_NS, true);
		spin_unlock(&sched_lock, irq);
		if (err == -EINTR)
			return -ERESTART;
	}
	return err;
}

/* Datagrams without a name go to this socket from now on; n of family 0: to none. May be called again. */
static int64_t aim_datagrams(struct socket *s, const struct sockname *n)
{
	struct sockq *to = NULL, *old;
	int64_t err = n->n_family == 0 ? 0 : socket_find_queue(s, n, &to);

	if (err != 0)
		return err;
	mach_mutex_enter(&names_lock);
	s->s_peer = *n;
	s->s_state = to != NULL ? SOCKET_CONNECTED : SOCKET_FRESH;
	mach_mutex_enter(&s->s_lock);
	old = s->s_out;
	s->s_out = to;
	mach_mutex_exit(&s->s_lock);
	mach_mutex_exit(&names_lock);
	sockq_put(old);
	return 0;
}

/* Datagrams of the Internet: the same. */
static int64_t aim_inet_datagrams(struct socket *s, struct sockname *n)
{
	int64_t err = 0;

	mach_mutex_enter(&names_lock);
	if (n->n_family != 0 && (err = inet_ready_to_reach(s, n)) == 0) {
		s->s_name = inet_sender(s);
		s->s_peer = *n;
	}
	if (err == 0) {
		s->s_state = n->n_family != 0 ? SOCKET_CONNECTED : SOCKET_FRESH;
		s->s_error = 0;
	}
	mach_mutex_exit(&names_lock);
	return err;
}

/* How a connection went that a call before this has begun. False: none did. */
static bool tell_of_connection(struct socket *s, int64_t *err)
{
	bool begun;

	mach_mutex_enter(&names_lock);
	begun = s->s_begun;
	s->s_begun = false;
	if (begun && s->s_state == SOCKET_CONNECTED)
		*err = 0;
	else if (begun && (*err = socket_take_error(s)) == 0)
		*err = -ECONNABORTED;
	mach_mutex_exit(&names_lock);
	return begun;
}

static int64_t connect_inet(struct file *f, struct sockname *n)
{
	struct socket *s = f->f_data;
	int64_t err;

	if (s->s_type == SOCK_DGRAM)
		return aim_inet_datagrams(s, n);
	if (n->n_family == 0)
		return s->s_state == SOCKET_FRESH ? 0 : -EOPNOTSUPP;
	if (tell_of_connection(s, &err))
		return err;
	err = connect_socket(f, n, NULL);
	if (!(f->f_flags & O_NONBLOCK) || (err != 0 && err != -ECONNREFUSED))
		return err;
	mach_mutex_enter(&names_lock);
	s->s_begun = true;
	s->s_news++;
	s->s_error = (int)-err;
	mach_mutex_exit(&names_lock);
	return -EINPROGRESS;
}

static int64_t connect_by_name(struct file *f, struct sockname *n)
{
	struct socket *s = f->f_data;
	struct inode *node;
	int64_t err;

	if (s->s_family == AF_INET)
		return connect_inet(f, n);
	if (s->s_type == SOCK_DGRAM)
		return aim_datagrams(s, n);
	if ((err = socket_find_node(n, &node)) != 0)
		return err;
	err = connect_socket(f, n, node);
	inode_put(node);
	return err;
}

int64_t sys_connect(const uint64_t *a)
{
	struct sockname n = { .n_len = 2 };
	struct socket *s;
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	s = f->f_data;
	err = a[2] >= 2 && copy_in(&n.n_family, a[1], 2) != 0 ? -EFAULT : 0;
	if (err == 0 &&
	    (n.n_family != 0 || a[2] < 2 || (s->s_type != SOCK_DGRAM && s->s_family != AF_INET)))
		err = socket_name_in(f, a[1], a[2], &n);
	if (err == 0)
		err = connect_by_name(f, &n);
	file_put(f);
	return err;
}

static bool has_queued(void *arg)
{
	const struct socket *s = arg;

	return s->s_queued > 0 || s->s_state != SOCKET_LISTENS;
}

/* The first that connected; NULL: there is none. */
static struct file *take_queued(struct socket *s)
{
	struct file *f = NULL;

	mach_mutex_enter(&names_lock);
	if ((f = s->s_first) != NULL) {
		struct socket *end = f->f_data;

		s->s_first = end->s_behind;
		if (s->s_first == NULL)
			s->s_last = NULL;
		end->s_behind = NULL;
		s->s_queued--;
	}
	mach_mutex_exit(&names_lock);
	if (f != NULL)
		wake(&connect_queue);
	return f;
}

static int64_t accept_from(struct file *f, struct file **got)
{
	struct socket *s = f->f_data;
	uint64_t deadline = s->s_limit_in == 0 ? 0 : arch_time_ns() + s->s_limit_in;

	if (s->s_type == SOCK_DGRAM)
		return -EOPNOTSUPP;
	while (s->s_state == SOCKET_LISTENS && (*got = take_queued(s)) == NULL) {
		int err = f->f_flags & O_NONBLOCK
		    ? -EAGAIN
		    : wait_until(&s->s_wait, has_queued, s, deadline, true);

		if (err != 0)
			return err == -EINTR ? -ERESTART : -EAGAIN;
	}
	return *got != NULL ? 0 : -EINVAL;
}

/* The address of the other end of a connection goes to the program, if it asks for it. */
static int64_t tell_peer(const struct file *f, uint64_t name, uint64_t len)
{
	const struct sockname n = ((const struct socket *)f->f_data)->s_peer;

	return name != 0 ? socket_name_out(&n, name, len) : 0;
}

/* The call takes a descriptor before a connection: if there is none, the connection stays in line. */
int64_t sys_accept4(const uint64_t *a)
{
	struct files *fs = this_proc()->p_files;
	struct file *got = NULL;
	int64_t err;
	struct file *f = socket_get(a[0], &err);
	int fd = -EINVAL;

	if (f == NULL)
		return err;
	if ((a[3] & ~(uint64_t)(O_NONBLOCK | O_CLOEXEC)) == 0)
		fd = fd_take(fs, 0);
	err = fd < 0 ? fd : accept_from(f, &got);
	file_put(f);
	if (err == 0) {
		got->f_flags |= (unsigned)a[3] & O_NONBLOCK;
		if ((err = tell_peer(got, a[1], a[2])) != 0) {
			file_put(got);
			got = NULL;
		}
	}
	if (fd >= 0)
		fd_fill(fs, fd, got, (a[3] & O_CLOEXEC) != 0);
	return err != 0 ? err : fd;
}
int64_t sys_accept(const uint64_t *a)
{
	return sys_accept4((const uint64_t[6]){ a[0], a[1], a[2], 0 });
}
