/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names: walking a path, links, mounts; the path of a file, from its end.
 *
 * vfs_lock, one for all directories, is held while a directory is read or changed. A mount is a
 * pair of inodes. One thread makes all mounts at the start, and they stay.
 *
 * Lock order: vfs_lock, i_lock, the file system's own, icache_lock; all sleep and all are outside of the vm's.
 * Left out: a cache of names, unmounting.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#define MAXMOUNTS 8u

static struct mount {
	struct inode *m_covered, *m_root, *m_parent;
} mounts[MAXMOUNTS];
static unsigned nmounts;
struct inode *vfs_root;

/* ---- mounts ---- */
void vfs_mount(const char *path, struct inode *root)
{
	struct inode *covered, *parent;

	if (root == NULL || nmounts == MAXMOUNTS)
		return;
	if (vfs_walk(NULL, path, 0, &covered) != 0) {
		kprintf("%s is not there: nothing is mounted on it\n", path);
		return;
	}
	if (vfs_walk(covered, "..", 0, &parent) != 0)
		parent = inode_hold(vfs_root);
	mounts[nmounts++] = (struct mount){ covered, root, parent };
}

/* The root of the file system mounted on the directory; NULL: none is mounted. */
static const struct mount *mount_on(const struct inode *i)
{
	for (unsigned m = 0; m < nmounts; m++)
		if (mounts[m].m_covered == i)
			return &mounts[m];
	return NULL;
}

bool vfs_is_covered(const struct inode *i) { return mount_on(i) != NULL; }

static struct inode *enter_mount(struct inode *i)
{
	const struct mount *m = mount_on(i);

	if (m == NULL)
		return i;
	inode_put(i);
	return inode_hold(m->m_root);
}

static struct inode *above_mount(const struct inode *i)
{
	for (unsigned m = 0; m < nmounts; m++)
		if (mounts[m].m_root == i)
			return mounts[m].m_parent;
	return NULL;
}

/* ---- walking ---- */
/* The running program's root directory. For comparison only, as another thread may change it. */
static const struct inode *root_of_caller(void)
{
	const struct proc *p = this_proc();

	return p != NULL && p->p_root != NULL ? p->p_root : vfs_root;
}

static struct inode *hold_root_of_caller(void)
{
	const struct proc *p = this_proc();
	struct inode *root = p != NULL ? proc_hold_inode(&p->p_root) : NULL;

	return root != NULL ? root : inode_hold(vfs_root);
}

static int lookup_component(struct inode *dir, const char *name, size_t len, struct inode **found)
{
	struct inode *up;
	int err;

	if (inode_type(dir) != S_IFDIR || dir->i_ops->io_lookup == NULL)
		return -ENOTDIR;
	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 1 && name[0] == '.') {
		*found = inode_hold(dir);
		return 0;
	}
	if (len == 2 && name[0] == '.' && name[1] == '.') {
		if (dir == vfs_root || dir == root_of_caller()) {
			*found = inode_hold(dir);
			return 0;
		}
		if ((up = above_mount(dir)) != NULL) {
			*found = inode_hold(up);
			return 0;
		}
	}
	mach_mutex_enter(&vfs_lock);
	err = dir->i_ops->io_lookup(dir, name, len, found);
	if (err == 0)
		(*found)->i_parent = dir->i_ino;
	mach_mutex_exit(&vfs_lock);
	if (err == 0)
		*found = enter_mount(*found);
	return err;
}

static int walk_path(struct inode *start, const char *path, unsigned flags, char *last,
    unsigned *links, struct inode **found);

/*
 * Replaces the link *ip, found in dir, by its target. The reference of *ip is dropped, also on an
 * error.
 */
static int follow_link(struct inode *dir, struct inode **ip, unsigned *links)
{
	bool named = (*ip)->i_ops->io_follow == NULL;
	char *link = named ? kalloc(PATH_MAX) : NULL;
	struct inode *to = NULL;
	int n, err = 0;

	if (++*links > MAXLINKS)
		err = -ELOOP;
	else if (!named)
		err = (*ip)->i_ops->io_follow(*ip, &to);
	else if (link == NULL)
		err = -ENOMEM;
	else if ((n = (*ip)->i_ops->io_readlink(*ip, link, PATH_MAX - 1)) < 0)
		err = n;
	else
		link[n] = '\0';
	if (err == 0 && named)
		err = walk_path(dir, link, 0, NULL, links, &to);
	kfree(link, PATH_MAX);
	inode_put(*ip);
	*ip = to;
	return err;
}

/* Skips the component at path; *next: the next component or the end. */
static const char *skip_component(const char *path, const char **next)
{
	const char *end = path;

	while (*end != '/' && *end != '\0')
		end++;
	for (*next = end; **next == '/';)
		++*next;
	return end;
}

/*
 * Walks path from start. last: NULL to walk the whole path, else receives the last component, which
 * is not walked. *links counts the links followed.
 */
static int walk_path(struct inode *start, const char *path, unsigned flags, char *last,
    unsigned *links, struct inode **found)
{
	struct inode *at =
	    path[0] == '/' || start == NULL ? hold_root_of_caller() : inode_hold(start);
	const char *end, *after;
	int err = path[0] == '\0' ? -ENOENT : 0;

	while (*path == '/')
		path++;
	for (; err == 0 && *path != '\0'; path = after) {
		struct inode *next;
		size_t n;

		end = skip_component(path, &after);
		n = (size_t)(end - path);
		if (inode_type(at) == S_IFDIR && (err = inode_may(at, MAY_EXEC)) != 0)
			break;
		if (*after == '\0' && last != NULL) {
			if (n > NAME_MAX)
				err = -ENAMETOOLONG;
			else
				strlcpy(last, path, n + 1);
			break;
		}
		if ((err = lookup_component(at, path, n, &next)) != 0)
			break;
		if (inode_type(next) == S_IFLNK && !(*end == '\0' && (flags & WALK_NOFOLLOW)) &&
		    (err = follow_link(at, &next, links)) != 0)
			break;
		inode_put(at);
		at = next;
		if (*end == '/' && inode_type(at) != S_IFDIR)
			err = -ENOTDIR;
	}
	if (err == 0 && *path == '\0' && last != NULL)
		strlcpy(last, ".", 2);
	if (err != 0)
		inode_put(at);
	else
		*found = at;
	return err;
}

int vfs_walk(struct inode *start, const char *path, unsigned flags, struct inode **found)
{
	unsigned links = 0;

	return walk_path(start, path, flags, NULL, &links, found);
}

int vfs_walk_parent(struct inode *start, const char *path, struct inode **dir, char *name)
{
	unsigned links = 0;

	return walk_path(start, path, 0, name, &links, dir);
}

/* ---- the path of a directory, from its end ---- */
static const char *mount_name(const struct inode *root, struct inode **covered)
{
	for (unsigned m = 0; m < nmounts; m++)
		if (mounts[m].m_root == root)
			*covered = mounts[m].m_covered;
	return NULL;
}

int vfs_path(struct inode *dir, char *buf, size_t room)
{
	char name[NAME_MAX + 1];
	size_t at = room - 1;
	struct inode *i = inode_hold(dir), *up;
	int err = 0;

	buf[at] = '\0';
	while (i != vfs_root && i != root_of_caller() && err == 0) {
		struct inode *covered = NULL;
		uint64_t ino;

		(void)mount_name(i, &covered);
		ino = covered != NULL ? covered->i_ino : i->i_ino;
		if ((err = lookup_component(i, "..", 2, &up)) != 0)
			break;
		mach_mutex_enter(&vfs_lock);
		err = inode_name_in(up, ino, name);
		mach_mutex_exit(&vfs_lock);
		inode_put(i);
		i = up;
		if (err != 0)
			break;
		if (strlen(name) + 1 > at)
			err = -ERANGE;
		else {
			at -= strlen(name);
			memcpy(buf + at, name, strlen(name));
			buf[--at] = '/';
		}
	}
	inode_put(i);
	if (err != 0)
		return err;
	if (at == room - 1)
		buf[--at] = '/';
	memmove(buf, buf + at, room - at);
	return (int)(room - at);
}

int vfs_path_file(struct inode *i, char *buf, size_t room)
{
	char name[NAME_MAX + 1];
	struct inode *dir = NULL;
	int n;

	if (inode_type(i) == S_IFDIR)
		return vfs_path(i, buf, room);
	if ((dir = tmpfs_directory_of(i)) == NULL && i->i_parent == 0)
		return -ENOENT;
	if (dir == NULL && (dir = icache_find(i->i_fs, i->i_parent)) == NULL) {
		if (i->i_fs != vfs_root->i_fs)
			return -ENOENT;
		mach_mutex_enter(&vfs_lock); /* of two threads that read an inode one makes it */
		n = ext2_iget(i->i_parent, &dir);
		mach_mutex_exit(&vfs_lock);
		if (n != 0)
			return n;
	}
	if ((n = vfs_path(dir, buf, room)) > 0) {
		int err;

		mach_mutex_enter(&vfs_lock);
		err = inode_name_in(dir, i->i_ino, name);
		mach_mutex_exit(&vfs_lock);
		if (err != 0)
			n = err;
		else if ((size_t)n + strlen(name) + 1 > room)
			n = -ERANGE;
		else
			n += ksnprintf(
			    buf + n - 1, room - (size_t)n + 1, n == 2 ? "%s" : "/%s", name);
	}
	inode_put(dir);
	return n;
}
