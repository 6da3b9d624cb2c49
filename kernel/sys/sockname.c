/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of sockets, and how sockets meet by them: bind, listen, connect, accept.
 *
 * A name is a file (S_IFSOCK) or, abstract, bytes that begin with 0. Sockets with a name are in one list (bound); connect looks
 * for a socket there that listens, makes both queues at once, and puts the other end, an open file, in line for accept. A connect
 * that finds the line full waits in connect_queue and looks again, as the listener may be gone. Datagrams go to the queue of
 * the socket that has the name when they are sent, or had it when the sender was connected.
 *
 * Locks: names_lock (sleeps): names, the list, the lines of listeners; no file is looked up or made under it. Then s_lock.
 */
#include "kernel/sys/calls.h"
#include "kernel/sys/socket.h"

struct mach_mutex names_lock;
static struct socket *bound;       /* names_lock: sockets with a name */
static struct waitq connect_queue; /* connects that found a line full */

void socket_forget_name(struct socket *s)
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

/* ---- names ---- */
int64_t socket_name_out(const struct sockname *n, uint64_t to, uint64_t len_at)
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
	return err != 0 ? err : socket_name_out(&n, a[1], a[2]);
}
int64_t sys_getsockname(const uint64_t *a) { return give_name(a, false); }
int64_t sys_getpeername(const uint64_t *a) { return give_name(a, true); }

/* ---- meeting by a name ---- */
int socket_name_in(uint64_t from, uint64_t len, struct sockname *n)
{
	*n = (struct sockname){ .n_len = (uint32_t)len };
	if (len <= 2 || len > 2 + NAME_BYTES)
		return -EINVAL;
	if (copy_in(n, from, len) != 0)
		return -EFAULT;
	if (n->n_family != AF_UNIX)
		return -EINVAL;
	if (n->n_path[0] != '\0') /* a path ends with its 0, or with the address */
		for (n->n_len = 2; n->n_len < len && n->n_path[n->n_len - 2] != '\0';)
			n->n_len++;
	if (n->n_path[0] != '\0' && n->n_len < 2 + NAME_BYTES)
		n->n_len++;
	return 0;
}

static bool is_abstract(const struct sockname *n) { return n->n_path[0] == '\0'; }

/* The path of a name, in kernel memory; kfree (PATH_MAX). NULL: no memory. */
static char *path_of(const struct sockname *n)
{
	char *path = kzalloc(PATH_MAX);

	if (path != NULL)
		memcpy(path, n->n_path, n->n_len - 2);
	return path;
}

/* The file of a name is made: *ip, a reference. */
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

/* names_lock held. */
static void take_name(struct socket *s, const struct sockname *n, struct inode *node)
{
	KASSERT(mach_mutex_held(&names_lock));
	s->s_name = *n;
	s->s_node = node;
	s->s_next = bound;
	bound = s;
}

/* An abstract name that no socket has: five digits, as Linux makes them up. names_lock held. False: all are taken. */
static bool make_up_name(struct sockname *n)
{
	static unsigned last; /* names_lock */

	*n = (struct sockname){ .n_family = AF_UNIX, .n_len = 2 + 6 };
	for (unsigned tries = 0; tries < 1u << 20; tries++) {
		ksnprintf(n->n_path + 1, 6, "%05x", last++ & 0xfffff);
		if (find_bound(n, NULL) == NULL)
			return true;
	}
	return false;
}

/* A name that is a file waits for the disk: names_lock is not held meanwhile, as closing a socket takes it, under any lock. */
static int64_t bind_to_file(struct socket *s, const struct sockname *n)
{
	char *path = path_of(n);
	struct inode *node = NULL;
	int64_t err = path == NULL ? -ENOMEM : make_node(path, &node);

	kfree(path, PATH_MAX);
	mach_mutex_enter(&names_lock);
	s->s_binding = false;
	if (err == 0)
		take_name(s, n, node);
	mach_mutex_exit(&names_lock);
	return err;
}

/* n: of two bytes if a name is to be made up. */
static int64_t bind_socket(struct socket *s, struct sockname *n)
{
	bool by_file = n->n_len > 2 && !is_abstract(n);
	int64_t err = 0;

	mach_mutex_enter(&names_lock);
	if (s->s_name.n_len > 2 || s->s_binding)
		err = -EINVAL;
	else if (by_file)
		s->s_binding = true;
	else if (n->n_len == 2 ? !make_up_name(n) : find_bound(n, NULL) != NULL)
		err = -EADDRINUSE;
	else
		take_name(s, n, NULL);
	mach_mutex_exit(&names_lock);
	return err == 0 && by_file ? bind_to_file(s, n) : err;
}

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
		err = bind_socket(f->f_data, &n);
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
	l = find_bound(n, node);
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

/* The file of a name; NULL for an abstract one. */
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

/* names_lock held. */
static int64_t queue_of_name(
    const struct sockname *n, const struct inode *node, unsigned type, struct sockq **q)
{
	struct socket *to = find_bound(n, node);

	if (to == NULL)
		return -ECONNREFUSED;
	if (to->s_type != type)
		return -EPROTOTYPE;
	return (*q = socket_queue(to, false)) != NULL ? 0 : -ECONNREFUSED;
}

int64_t socket_find_queue(const struct sockname *n, unsigned type, struct sockq **q)
{
	struct inode *node;
	int64_t err = find_node(n, &node);

	if (err != 0)
		return err;
	mach_mutex_enter(&names_lock);
	err = queue_of_name(n, node, type, q);
	mach_mutex_exit(&names_lock);
	inode_put(node);
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
	if ((err = find_node(n, &node)) != 0)
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

void socket_init(void)
{
	mach_mutex_init(&names_lock, 3, "names of sockets");
	sockq_init();
}
