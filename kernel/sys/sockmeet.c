/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How sockets meet by a name: bind, listen, connect, accept.
 *
 * connect looks for a socket with the name that listens, makes both queues at once, and puts the other end, an open file, in line for
 * accept. A connect that finds the line full waits in connect_queue and looks again, as the listener may have been closed. A
 * datagram socket that is connected sends to the queue of the socket that had the name then.
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
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	if (a[2] == 2) { /* the family alone */
		n = (struct sockname){ .n_len = 2 };
		if (copy_in(&n, a[1], 2) != 0)
			err = -EFAULT;
		else
			err = n.n_family == AF_UNIX ? 0 : -EINVAL;
	} else {
		err = socket_name_in(a[1], a[2], &n);
	}
	if (err == 0)
		err = socket_bind(f->f_data, &n);
	file_put(f);
	return err;
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
	err = s->s_state == SOCKET_CONNECTED || s->s_name.n_len <= 2 ? -EINVAL : 0;
	if (s->s_type == SOCK_DGRAM)
		err = -EOPNOTSUPP;
	if (err == 0) {
		s->s_state = SOCKET_LISTENS;
		s->s_backlog = n == 0 || n > QUEUE_MOST ? QUEUE_MOST : n;
		s->s_pid = this_proc()->p_pid;
	}
	mach_mutex_exit(&names_lock);
	wake(&connect_queue);
	file_put(f);
	return err;
}

/* The socket becomes connected to one that will be accepted from l. names_lock held. */
static int64_t connect_to(struct socket *s, struct socket *l)
{
	struct sockq *in, *out;
	struct file *other;
	struct socket *o;
	int err = socket_end_new(s->s_type, 0, &other, &in, &out);

	KASSERT(mach_mutex_held(&names_lock));
	if (err != 0)
		return err;
	o = other->f_data;
	o->s_name = s->s_peer = l->s_name;
	o->s_peer = s->s_name;
	s->s_peer_pid = l->s_pid;
	mach_mutex_enter(&s->s_lock);
	s->s_in = in;
	s->s_out = out;
	mach_mutex_exit(&s->s_lock);
	s->s_state = SOCKET_CONNECTED;
	l->s_queue[l->s_queued] = other;
	l->s_queued++;
	wake(&l->s_wait);
	wake(&poll_queue);
	return 0;
}

/* -EAGAIN: the queue is full. */
static int64_t try_connect(struct socket *s, const struct sockname *n, const struct inode *node)
{
	struct socket *l;
	int64_t err;

	mach_mutex_enter(&names_lock);
	l = socket_find_bound(n, node);
	if (s->s_state != SOCKET_FRESH)
		err = s->s_state == SOCKET_CONNECTED ? -EISCONN : -EINVAL;
	else if (l == NULL || (l->s_type == s->s_type && l->s_state != SOCKET_LISTENS))
		err = -ECONNREFUSED;
	else if (l->s_type != s->s_type)
		err = -EPROTOTYPE;
	else
		err = l->s_queued >= l->s_backlog ? -EAGAIN : connect_to(s, l);
	mach_mutex_exit(&names_lock);
	return err;
}

#define LOOK_AGAIN_NS 20000000u /* a queue may get room between the look and the sleep */

static int64_t connect_socket(struct file *f, const struct sockname *n, const struct inode *node)
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
	int64_t err = n->n_family == 0 ? 0 : socket_find_queue(n, s->s_type, &to);

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

static int64_t connect_by_name(struct file *f, const struct sockname *n)
{
	struct socket *s = f->f_data;
	struct inode *node;
	int64_t err;

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
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	err = a[2] >= 2 && copy_in(&n.n_family, a[1], 2) != 0 ? -EFAULT : 0;
	if (err == 0 && (n.n_family != 0 || ((struct socket *)f->f_data)->s_type != SOCK_DGRAM))
		err = socket_name_in(a[1], a[2], &n);
	if (err == 0)
		err = connect_by_name(f, &n);
	file_put(f);
	return err;
}

static bool has_queued(void *arg) { return ((struct socket *)arg)->s_queued > 0; }

/* The first that connected; NULL: there is none. */
static struct file *take_queued(struct socket *s)
{
	struct file *f = NULL;

	mach_mutex_enter(&names_lock);
	if (s->s_queued > 0) {
		f = s->s_queue[0];
		s->s_queued--;
		memmove(s->s_queue, s->s_queue + 1, s->s_queued * sizeof(s->s_queue[0]));
	}
	mach_mutex_exit(&names_lock);
	if (f != NULL)
		wake(&connect_queue);
	return f;
}

static int64_t accept_from(struct file *f, struct file **got)
{
	struct socket *s = f->f_data;

	if (s->s_state != SOCKET_LISTENS)
		return -EINVAL;
	while ((*got = take_queued(s)) == NULL) {
		if (f->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_until(&s->s_wait, has_queued, s, 0, true) != 0)
			return -ERESTART;
	}
	return 0;
}

int64_t sys_accept4(const uint64_t *a)
{
	struct file *got = NULL;
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	err = (a[3] & ~(uint64_t)(O_NONBLOCK | O_CLOEXEC)) != 0 ? -EINVAL : accept_from(f, &got);
	file_put(f);
	if (err != 0)
		return err;
	got->f_flags |= (unsigned)a[3] & O_NONBLOCK;
	if (a[1] != 0) {
		const struct sockname n = ((struct socket *)got->f_data)->s_peer;

		if ((err = socket_name_out(&n, a[1], a[2])) != 0) {
			file_put(got);
			return err;
		}
	}
	return fd_install(this_proc()->p_files, got, 0, (a[3] & O_CLOEXEC) != 0);
}
int64_t sys_accept(const uint64_t *a)
{
	return sys_accept4((const uint64_t[6]){ a[0], a[1], a[2], 0 });
}
