/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of sockets. In the UNIX domain a name is a file (S_IFSOCK) or, abstract, bytes that begin with 0; sockinet.c has those of the
 * Internet. Sockets with a name are in one list (sockets_named). Datagrams go to the queue of the socket that has the name when they are
 * sent.
 *
 * Locks: names_lock (sleeps): names, the list, the lines of listeners; no file is looked up or made under it. Then s_lock.
 */
#include "kernel/sys/calls.h"
#include "kernel/sys/socket.h"

struct mach_mutex names_lock;
struct socket *sockets_named;
struct waitq connect_queue;

struct sockq *socket_queue(struct socket *s, bool out)
{
	struct sockq *q;

	mach_mutex_enter(&s->s_lock);
	if ((q = out ? s->s_out : s->s_in) != NULL)
		sockq_hold(q);
	mach_mutex_exit(&s->s_lock);
	return q;
}

void socket_end_listening(struct socket *s)
{
	struct file *f, *next;

	mach_mutex_enter(&names_lock);
	f = s->s_first;
	s->s_first = s->s_last = NULL;
	s->s_queued = 0;
	if (s->s_state == SOCKET_LISTENS)
		s->s_state = SOCKET_FRESH;
	mach_mutex_exit(&names_lock);
	for (; f != NULL; f = next) {
		struct socket *end = f->f_data;

		next = end->s_behind;
		end->s_abrupt = true;
		file_put(f);
	}
	wake(&s->s_wait);
	wake(&connect_queue);
}

void socket_forget_name(struct socket *s)
{
	struct socket **p = &sockets_named;

	socket_end_listening(s);
	mach_mutex_enter(&names_lock);
	while (*p != NULL && *p != s)
		p = &(*p)->s_next;
	if (*p != NULL)
		*p = s->s_next;
	mach_mutex_exit(&names_lock);
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

/* ---- meeting by a name ---- */
int unix_name_in(uint64_t from, uint64_t len, struct sockname *n)
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

/* Has the socket that file for its name; node NULL: that abstract name? */
static bool has_this_name(
    const struct socket *s, const struct sockname *n, const struct inode *node)
{
	if (node != NULL)
		return s->s_node == node;
	return s->s_family == AF_UNIX && s->s_node == NULL && s->s_name.n_len == n->n_len &&
	    memcmp(s->s_name.n_path, n->n_path, n->n_len - 2) == 0;
}

/* names_lock held. node: the file of the name; NULL: the name is abstract. */
struct socket *socket_find_bound(const struct sockname *n, const struct inode *node)
{
	struct socket *s = sockets_named;

	KASSERT(mach_mutex_held(&names_lock));
	while (s != NULL && !has_this_name(s, n, node))
		s = s->s_next;
	return s;
}

void socket_take_name(struct socket *s, const struct sockname *n, struct inode *node)
{
	KASSERT(mach_mutex_held(&names_lock));
	s->s_name = *n;
	s->s_node = node;
	s->s_next = sockets_named;
	sockets_named = s;
}

/* An abstract name that no socket has: five digits, as Linux makes them up. names_lock held. False: all are taken. */
static bool make_up_name(struct sockname *n)
{
	static unsigned last; /* names_lock */

	*n = (struct sockname){ .n_family = AF_UNIX, .n_len = 2 + 6 };
	for (unsigned tries = 0; tries < 1u << 20; tries++) {
		ksnprintf(n->n_path + 1, 6, "%05x", last++ & 0xfffff);
		if (socket_find_bound(n, NULL) == NULL)
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
		socket_take_name(s, n, node);
	mach_mutex_exit(&names_lock);
	return err;
}

/* n: of two bytes if a name is to be made up. */
int64_t socket_bind(struct socket *s, struct sockname *n)
{
	bool by_file = n->n_len > 2 && !is_abstract(n);
	int64_t err = 0;

	mach_mutex_enter(&names_lock);
	if (s->s_name.n_len > 2 || s->s_binding)
		err = -EINVAL;
	else if (by_file)
		s->s_binding = true;
	else if (n->n_len == 2 ? !make_up_name(n) : socket_find_bound(n, NULL) != NULL)
		err = -EADDRINUSE;
	else
		socket_take_name(s, n, NULL);
	mach_mutex_exit(&names_lock);
	return err == 0 && by_file ? bind_to_file(s, n) : err;
}

/* The file of a name; NULL for an abstract one. */
int socket_find_node(const struct sockname *n, struct inode **ip)
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

/* A datagram socket that is connected hears no other. names_lock held. */
static int64_t queue_of_name(
    const struct socket *s, const struct sockname *n, const struct inode *node, struct sockq **q)
{
	struct socket *to = socket_find_bound(n, node);

	if (to == NULL)
		return -ECONNREFUSED;
	if (to->s_type != s->s_type)
		return -EPROTOTYPE;
	if (to->s_out != NULL && to->s_out != s->s_in)
		return -EPERM;
	return (*q = socket_queue(to, false)) != NULL ? 0 : -ECONNREFUSED;
}

int64_t socket_find_queue(const struct socket *s, const struct sockname *n, struct sockq **q)
{
	struct inode *node;
	int64_t err = socket_find_node(n, &node);

	if (err != 0)
		return err;
	mach_mutex_enter(&names_lock);
	err = queue_of_name(s, n, node, q);
	mach_mutex_exit(&names_lock);
	inode_put(node);
	return err;
}

void socket_init(void)
{
	mach_mutex_init(&names_lock, 3, "names of sockets");
	sockq_init();
}
