/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stream sockets of the UNIX domain: pairs (socketpair), and sockets connected by a name.
 *
 * Two connected sockets are two pipes, one for each direction. An end reads from one pipe and
 * writes to the other: the pipes implement waiting, polling, and the effect of a closed other end.
 * shutdown of a direction closes the end's pipe.
 *
 * A name is a file (S_IFSOCK) or, abstract, bytes that begin with 0. Sockets with a name are in one
 * list (bound); connect finds a listening socket there, makes both pipes at once, and queues the
 * other end as an open file, which accept takes. A connect that finds the queue full waits in
 * connect_queue and searches again, as the listener may have been closed.
 *
 * Locks: names_lock (sleeps): names, the list, queues of listeners. s_lock, innermost: the pipes
 * that an end still has. A call holds a reference to the pipe that it uses, so that a concurrent
 * shutdown takes effect for the next call. Left out: other domains and types, names that bind makes
 * up, MSG_PEEK, descriptors in messages.
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

#define NAME_BYTES 108u
#define QUEUE_MOST 16u

struct sockname { /* sockaddr_un, and the bytes of it that are used; without a name: 2 bytes */
	uint16_t n_family;
	char n_path[NAME_BYTES];
	uint32_t n_len;
};
enum socket_state { SOCKET_FRESH, SOCKET_LISTENS, SOCKET_CONNECTED };

struct socket {
	struct mach_mutex s_lock;
	_Atomic enum socket_state s_state; /* names_lock to change */
	struct sockname s_name, s_peer;    /* names_lock */
	/* names_lock: the file of the socket's name, a reference; NULL: none */
	struct inode *s_node;
	struct socket *s_next;            /* names_lock: of bound */
	struct file *s_queue[QUEUE_MOST]; /* names_lock: other ends that nobody has accepted */
	_Atomic unsigned s_queued;        /* names_lock to change */
	unsigned s_backlog;               /* names_lock */
	/* names_lock: credentials of the process that connected, listened, or made the pair */
	int s_peer_pid;
	int s_pid;                 /* names_lock: credentials of the listening process */
	struct waitq s_wait;       /* accept */
	struct file *s_in, *s_out; /* s_lock: references; NULL: shut down */
};

static struct mach_mutex names_lock;
static struct socket *bound;       /* names_lock: sockets with a name */
static struct waitq connect_queue; /* connects that wait, as a queue was full */

struct msghdr { /* Linux's */
	uint64_t name;
	uint32_t namelen, pad;
	uint64_t iov, iovlen, control, controllen;
	uint32_t flags, pad2;
};

static bool is_connected(const struct file *f)
{
	return ((struct socket *)f->f_data)->s_state == SOCKET_CONNECTED;
}

/* Returns a reference to the pipe of a direction; NULL: the direction is shut down. */
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

/* A copy of the pipe's file with the flags of this socket, for one call. */
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
		return is_connected(f) ? 0 : -EINVAL;
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
		return is_connected(f) ? pipe_broken(f) : -ENOTCONN;
	now = pipe_for(p, f);
	r = now.f_ops->fo_write(&now, buf, len, off);
	file_put(p);
	return r;
}

/* The poll bits of a direction's pipe; of a direction that is shut down, `gone`. */
static int poll_direction(struct file *f, bool out, int gone)
{
	struct file *p = hold_pipe(f, out);
	int now = p != NULL ? p->f_ops->fo_poll(p) : gone;

	if (p != NULL)
		file_put(p);
	return now;
}

/*
 * An operation that would not wait is ready, such as reading at the end of the stream and writing
 * that fails.
 */
static int poll_connected(struct file *f)
{
	int in = poll_direction(f, false, POLLHUP), out = poll_direction(f, true, POLLERR),
	    now = (in & POLLIN) | (out & POLLOUT);

	if (in & POLLHUP)
		now |= POLLIN;
	if (out & POLLERR)
		now |= POLLOUT;
	return (in & POLLHUP) && (out & POLLERR) ? now | POLLHUP : now;
}

static int socket_poll(struct file *f)
{
	const struct socket *s = f->f_data;

	switch (s->s_state) {
	case SOCKET_LISTENS: return s->s_queued > 0 ? POLLIN : 0;
	case SOCKET_CONNECTED: return poll_connected(f);
	default: return POLLOUT | POLLHUP;
	}
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

/* Removes the socket's name and its queue; the files in the queue are closed. */
static void forget_name(struct socket *s)
{
	struct file *left[QUEUE_MOST];
	struct socket **p = &bound;
	unsigned n;

	mach_mutex_enter(&names_lock);
	while (*p != NULL && *p != s)
		p = &(*p)->s_next;
	if (*p != NULL)
		*p = s->s_next;
	n = s->s_queued;
	memcpy(left, s->s_queue, n * sizeof(left[0]));
	s->s_queued = 0;
	mach_mutex_exit(&names_lock);
	while (n > 0)
		file_put(left[--n]);
	wake(&connect_queue);
	inode_put(s->s_node);
}

static void socket_close(struct file *f)
{
	struct socket *s = f->f_data;

	forget_name(s);
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

/*
 * Makes a socket of two pipe ends, whose references it takes over, also on failure; or a socket
 * without pipes.
 */
static int socket_new(struct file *in, struct file *out, unsigned flags, struct file **fp)
{
	struct socket *s;
	struct file *f = anon_file(&socket_ops, S_IFSOCK | 0777, O_RDWR | flags, sizeof(*s));

	if (f == NULL) {
		if (in != NULL) {
			file_put(in);
			file_put(out);
		}
		return -ENOMEM;
	}
	s = f->f_data;
	mach_mutex_init(&s->s_lock, 6, "socket");
	s->s_in = in;
	s->s_out = out;
	s->s_state = in != NULL ? SOCKET_CONNECTED : SOCKET_FRESH;
	s->s_name = s->s_peer = (struct sockname){ .n_family = AF_UNIX, .n_len = 2 };
	s->s_peer_pid = this_proc()->p_pid;
	*fp = f;
	return 0;
}

/*
 * Makes two connected ends: *b is a socket; *in and *out are the pipes of the end that is not a
 * socket yet.
 */
static int end_new(unsigned flags, struct file **b, struct file **in, struct file **out)
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
	if ((err = socket_new(r[1], w[0], flags, b)) != 0) {
		file_put(r[0]);
		file_put(w[1]);
		return err;
	}
	*in = r[0];
	*out = w[1];
	return 0;
}

static int pair_new(unsigned flags, struct file **a, struct file **b)
{
	struct file *in, *out;
	int err = end_new(flags, b, &in, &out);

	if (err == 0 && (err = socket_new(in, out, flags, a)) != 0)
		file_put(*b);
	return err;
}

/* The arguments family, type and protocol: 0, or the error of a kind of socket that is left out. */
static int check_kind(const uint64_t *a)
{
	if ((unsigned)a[0] != AF_UNIX)
		return -EAFNOSUPPORT;
	if (((unsigned)a[1] & ~(O_NONBLOCK | O_CLOEXEC)) != SOCK_STREAM)
		return -ESOCKTNOSUPPORT;
	if (a[2] > 1)
		return -EPROTONOSUPPORT;
	return 0;
}

int64_t sys_socketpair(const uint64_t *a)
{
	unsigned flags = (unsigned)a[1] & O_NONBLOCK;
	bool cloexec = (a[1] & O_CLOEXEC) != 0;
	struct file *x, *y;
	int err;

	if ((err = check_kind(a)) != 0 || (err = pair_new(flags, &x, &y)) != 0)
		return err;
	return fd_install_pair(x, y, cloexec, a[3]);
}

int64_t sys_socket(const uint64_t *a)
{
	unsigned flags = (unsigned)a[1] & O_NONBLOCK;
	struct file *f;
	int err;

	if ((err = check_kind(a)) != 0 || (err = socket_new(NULL, NULL, flags, &f)) != 0)
		return err;
	return fd_install(this_proc()->p_files, f, 0, (a[1] & O_CLOEXEC) != 0);
}

/* Returns a reference; or NULL, and the error in *err. */
static struct file *socket_get(uint64_t fd, int64_t *err)
{
	return fd_get_kind((int)fd, &socket_ops, -ENOTSOCK, err);
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
	r = a[4] != 0 && is_connected(f) ? -EISCONN : move_message(f, &v, 1, (unsigned)a[3], true);
	file_put(f);
	return r;
}

/* Returns the address of the other end, which has no name. */
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

/* ---- names ---- */
/* Copies a name to a program: as much as fits into its room, and the name's length. */
static int64_t name_out(const struct sockname *n, uint64_t to, uint64_t len_at)
{
	uint32_t room, len = n->n_len;

	if (copy_in(&room, len_at, sizeof(room)) != 0)
		return -EFAULT;
	if ((int32_t)room < 0)
		return -EINVAL;
	if (copy_out(to, n, room < len ? room : len) != 0)
		return -EFAULT;
	return copy_out(len_at, &len, sizeof(len));
}

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
	return err != 0 ? err : name_out(&n, a[1], a[2]);
}
int64_t sys_getsockname(const uint64_t *a) { return give_name(a, false); }
int64_t sys_getpeername(const uint64_t *a) { return give_name(a, true); }

/* ---- connecting by a name ---- */
static int name_in(uint64_t from, uint64_t len, struct sockname *n)
{
	*n = (struct sockname){ .n_len = (uint32_t)len };
	if (len <= 2 || len > 2 + NAME_BYTES)
		return -EINVAL;
	if (copy_in(n, from, len) != 0)
		return -EFAULT;
	if (n->n_family != AF_UNIX)
		return -EINVAL;
	if (n->n_path[0] != '\0') /* a path ends at its 0 or at the end of the address */
		for (n->n_len = 2; n->n_len < len && n->n_path[n->n_len - 2] != '\0';)
			n->n_len++;
	if (n->n_path[0] != '\0' && n->n_len < 2 + NAME_BYTES)
		n->n_len++;
	return 0;
}

static bool is_abstract(const struct sockname *n) { return n->n_path[0] == '\0'; }

/* Copies the path of a name to kernel memory, to be freed by kfree (PATH_MAX). NULL: no memory. */
static char *path_of(const struct sockname *n)
{
	char *path = kzalloc(PATH_MAX);

	if (path != NULL)
		memcpy(path, n->n_path, n->n_len - 2);
	return path;
}

/* Makes the file of a name: *ip, a reference. */
static int make_node(const char *path, struct inode **ip)
{
	struct inode *cwd = proc_hold_inode(&this_proc()->p_cwd);
	int err = vfs_make(cwd, path, S_IFSOCK | (0777 & ~this_proc()->p_umask), 0, ip);

	inode_put(cwd);
	return err == -EEXIST ? -EADDRINUSE : err;
}

/* names_lock held. node: the file of the name; NULL: the name is abstract. */
static struct socket *find_bound(const struct sockname *n, const struct inode *node)
{
	struct socket *s = bound;

	KASSERT(mach_mutex_held(&names_lock));
	while (s != NULL &&
	    (node != NULL ? s->s_node != node
			  : s->s_node != NULL || s->s_name.n_len != n->n_len ||
			memcmp(s->s_name.n_path, n->n_path, n->n_len - 2) != 0))
		s = s->s_next;
	return s;
}

static int64_t bind_socket(struct socket *s, const struct sockname *n)
{
	struct inode *node = NULL;
	int64_t err = 0;
	char *path;

	mach_mutex_enter(&names_lock);
	if (s->s_name.n_len > 2) {
		err = -EINVAL;
	} else if (is_abstract(n)) {
		err = find_bound(n, NULL) != NULL ? -EADDRINUSE : 0;
	} else if ((path = path_of(n)) == NULL) {
		err = -ENOMEM;
	} else {
		err = make_node(path, &node);
		kfree(path, PATH_MAX);
	}
	if (err == 0) {
		s->s_name = *n;
		s->s_node = node;
		s->s_next = bound;
		bound = s;
	}
	mach_mutex_exit(&names_lock);
	return err;
}

int64_t sys_bind(const uint64_t *a)
{
	struct sockname n;
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	if ((err = name_in(a[1], a[2], &n)) == 0)
		err = bind_socket(f->f_data, &n);
	file_put(f);
	return err;
}

int64_t sys_listen(const uint64_t *a)
{
	unsigned n = (unsigned)a[1] + 1; /* as on Linux: one more than the program asked for */
	struct socket *s;
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	s = f->f_data;
	mach_mutex_enter(&names_lock);
	err = s->s_state == SOCKET_CONNECTED || s->s_name.n_len <= 2 ? -EINVAL : 0;
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

/* Connects the socket to a new socket that will be accepted from l. names_lock held. */
static int64_t connect_to(struct socket *s, struct socket *l)
{
	struct file *other, *in, *out;
	struct socket *o;
	int err = end_new(0, &other, &in, &out);

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
	l = find_bound(n, node);
	if (s->s_state != SOCKET_FRESH)
		err = s->s_state == SOCKET_CONNECTED ? -EISCONN : -EINVAL;
	else if (l == NULL || l->s_state != SOCKET_LISTENS)
		err = -ECONNREFUSED;
	else
		err = l->s_queued >= l->s_backlog ? -EAGAIN : connect_to(s, l);
	mach_mutex_exit(&names_lock);
	return err;
}

#define LOOK_AGAIN_NS 20000000u /* a queue may get room between the check and the sleep */

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

/* Finds the file of a name; NULL for an abstract name. */
static int find_node(const struct sockname *n, struct inode **ip)
{
	struct inode *cwd;
	char *path;
	int err;

	*ip = NULL;
	if (is_abstract(n))
		return 0;
	if ((path = path_of(n)) == NULL)
		return -ENOMEM;
	cwd = proc_hold_inode(&this_proc()->p_cwd);
	err = vfs_walk(cwd, path, 0, ip);
	inode_put(cwd);
	kfree(path, PATH_MAX);
	if (err == 0 && inode_type(*ip) != S_IFSOCK) {
		inode_put(*ip);
		err = -ECONNREFUSED;
	}
	return err;
}

int64_t sys_connect(const uint64_t *a)
{
	struct inode *node;
	struct sockname n;
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	if ((err = name_in(a[1], a[2], &n)) == 0 && (err = find_node(&n, &node)) == 0) {
		err = connect_socket(f, &n, node);
		inode_put(node);
	}
	file_put(f);
	return err;
}

static bool has_queued(void *arg) { return ((struct socket *)arg)->s_queued > 0; }

/* Takes the first connected end; NULL: there is none. */
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

		if ((err = name_out(&n, a[1], a[2])) != 0) {
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

void socket_init(void) { mach_mutex_init(&names_lock, 0, "names of sockets"); }

/* ---- options ---- */
/* The value of an option, or -1. */
static int option_value(unsigned option)
{
	switch (option) {
	case 3: return SOCK_STREAM; /* SO_TYPE */
	case 4:                     /* SO_ERROR */
	case 38: return 0;          /* SO_PROTOCOL */
	case 7:
	case 8: return 65536; /* SO_SNDBUF, SO_RCVBUF */
	case 39: return AF_UNIX;
	default: return -1;
	}
}

int64_t sys_getsockopt(const uint64_t *a)
{
	int v[3] = { (unsigned)a[1] == SOL_SOCKET ? option_value((unsigned)a[2]) : -1, 0, 0 };
	uint32_t len, bytes = sizeof(v[0]);
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	if ((unsigned)a[1] == SOL_SOCKET && a[2] == 17) { /* SO_PEERCRED: pid, uid, gid */
		v[0] = ((struct socket *)f->f_data)->s_peer_pid;
		bytes = sizeof(v);
	} else if ((unsigned)a[1] == SOL_SOCKET && a[2] == 30) { /* SO_ACCEPTCONN */
		v[0] = ((struct socket *)f->f_data)->s_state == SOCKET_LISTENS;
	}
	file_put(f);
	if (v[0] < 0)
		return -ENOPROTOOPT;
	if (copy_in(&len, a[4], sizeof(len)) != 0)
		return -EFAULT;
	len = len < bytes ? len : bytes;
	return copy_out(a[3], v, len) != 0 || copy_out(a[4], &len, sizeof(len)) != 0 ? -EFAULT : 0;
}

/* Options for sizes, timeouts and the like are accepted without effect. */
int64_t sys_setsockopt(const uint64_t *a)
{
	int64_t err;
	struct file *f = socket_get(a[0], &err);

	if (f == NULL)
		return err;
	file_put(f);
	return (unsigned)a[1] == SOL_SOCKET ? 0 : -ENOPROTOOPT;
}
