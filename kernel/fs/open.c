/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opening files by name: the file is found or made, and gets the operations of its inode's kind.
 * Making files without opening them: directories, links, nodes.
 *
 * Locks: takes vfs_lock and i_lock, one at a time. May sleep.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

/* Gives the file the operations of its inode's kind. */
static int open_kind(struct inode *i, struct file *f)
{
	switch (inode_type(i)) {
	case S_IFIFO: return fifo_open(i, f);
	case S_IFSOCK:
	case S_IFBLK: return -ENXIO;
	case S_IFCHR: f->f_ops = devfs_find(i->i_rdev); return f->f_ops != NULL ? 0 : -ENXIO;
	default:
		if (i->i_fs == ANON_FS) /* of an eventfd and the like, opened by /proc/PID/fd/N */
			return -ENXIO;
		return i->i_ops->io_open != NULL ? i->i_ops->io_open(i, f) : 0;
	}
}

/* What must be permitted, by the flags of open(). */
static unsigned rights_to_open(unsigned flags)
{
	static const unsigned rights[] = { MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE,
		MAY_READ | MAY_WRITE };

	return rights[flags & O_ACCMODE] | (flags & O_TRUNC ? MAY_WRITE : 0);
}

/*
 * Makes the zeroed memory f an open file of the inode. The file takes over the inode's reference, unless
 * the function returns an error. made: the inode is new, and the mode of the inode binds only those who open it later.
 */
static int open_inode(struct inode *i, unsigned flags, bool made, struct file *f)
{
	int err = 0;

	file_init(f, i, &file_pages_ops, flags);
	if (flags & O_PATH)
		return 0;
	if (inode_type(i) == S_IFDIR && (flags & (O_ACCMODE | O_CREAT | O_TRUNC)) != 0)
		return -EISDIR;
	if (inode_type(i) != S_IFDIR && (flags & O_DIRECTORY))
		return -ENOTDIR;
	if (inode_type(i) == S_IFLNK)
		return -ELOOP;
	if (!made && (err = inode_may(i, rights_to_open(flags))) != 0)
		return err;
	if ((flags & O_TRUNC) && inode_type(i) == S_IFREG && i->i_ops->io_truncate != NULL) {
		mach_mutex_enter(&i->i_lock);
		err = i->i_ops->io_truncate(i, 0);
		mach_mutex_exit(&i->i_lock);
		if (err == 0)
			notify_inode(i, IN_MODIFY);
	}
	return err != 0 ? err : open_kind(i, f);
}

/* Makes a file in the directory, where its name is free. vfs_lock held. */
static int create_in(
    struct inode *dir, const char *name, unsigned mode, uint64_t rdev, struct inode **ip)
{
	int err = inode_may_name_in(dir);

	if (err == 0)
		err = dir->i_ops->io_create(dir, name, strlen(name), mode, rdev, ip);
	if (err != 0)
		return err;
	inode_inherit_group(dir, *ip);
	(*ip)->i_parent = dir->i_ino;
	notify_entry(dir, name, *ip, IN_CREATE, 0);
	return 0;
}

/*
 * Finds the last component of the path, which may be a link, or makes a file of that name. *at: where the path starts, a reference or
 * NULL; the path's directory takes its place.
 */
static int find_or_create(struct inode **at, const char *path, unsigned flags, unsigned mode,
    struct inode **ip, bool *made)
{
	char *name = kalloc(NAME_MAX + 1);
	struct inode *dir;
	int err;

	if (name == NULL)
		return -ENOMEM;
	if ((err = vfs_walk_parent(*at, path, &dir, name)) == 0) {
		mach_mutex_enter(&vfs_lock);
		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			err = -EISDIR;
		else if (dir->i_ops->io_lookup == NULL)
			err = -ENOTDIR;
		else
			err = dir->i_ops->io_lookup(dir, name, strlen(name), ip);
		if (err == 0 && (flags & O_EXCL)) {
			inode_put(*ip);
			err = -EEXIST;
		} else if (err == -ENOENT) {
			err = dir->i_ops->io_create == NULL
			    ? -EACCES
			    : create_in(dir, name, S_IFREG | (mode & 07777), 0, ip);
			*made = err == 0;
		}
		if (err == 0)
			(*ip)->i_parent = dir->i_ino;
		mach_mutex_exit(&vfs_lock);
		inode_put(*at);
		*at = dir;
	}
	kfree(name, NAME_MAX + 1);
	return err;
}

/* Makes the file if it does not exist: if the path is that of links, the file that the last of them names. */
static int create_file(struct inode *start, const char *path, unsigned flags, unsigned mode,
    struct inode **ip, bool *made)
{
	struct inode *at = start != NULL ? inode_hold(start) : NULL;
	char *target = kalloc(PATH_MAX);
	int err = target != NULL ? find_or_create(&at, path, flags, mode, ip, made) : -ENOMEM;

	for (unsigned links = 0; err == 0 && inode_type(*ip) == S_IFLNK; links++) {
		int n = links < MAXLINKS ? (*ip)->i_ops->io_readlink(*ip, target, PATH_MAX - 1)
					 : -ELOOP;

		inode_put(*ip);
		if ((err = n < 0 ? n : 0) != 0)
			break;
		target[n] = '\0';
		err = find_or_create(&at, target, flags, mode, ip, made);
	}
	kfree(target, PATH_MAX);
	inode_put(at);
	return err;
}

int vfs_open(struct inode *start, const char *path, unsigned flags, unsigned mode, struct file **fp)
{
	/* before a file is made: for want of memory later the file would stay */
	struct file *f = kzalloc(sizeof(*f));
	struct inode *i = NULL;
	bool made = false;
	int err;

	if (f == NULL)
		return -ENOMEM;
	err = vfs_walk(start, path,
	    flags & (O_NOFOLLOW | O_PATH) && (flags & O_NOFOLLOW) ? WALK_NOFOLLOW : 0, &i);
	if (err == 0 && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
		inode_put(i);
		err = -EEXIST;
	}
	if (err == -ENOENT && (flags & O_CREAT))
		err = create_file(start, path, flags, mode, &i, &made);
	if (err == 0 && (err = open_inode(i, flags, made, f)) != 0)
		inode_put(i);
	if (err != 0) {
		kfree(f, sizeof(*f));
		return err;
	}
	if (!(flags & O_PATH))
		notify_inode(i, IN_OPEN);
	*fp = f;
	return 0;
}

/* vfs_lock held. */
static int make_in(
    struct inode *dir, const char *last, unsigned mode, uint64_t rdev, struct inode **ip)
{
	int err;

	if (strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return -EEXIST;
	if (dir->i_ops->io_lookup == NULL)
		return -ENOTDIR;
	if ((err = dir->i_ops->io_lookup(dir, last, strlen(last), ip)) == 0) {
		inode_put(*ip);
		return -EEXIST;
	}
	if (err != -ENOENT)
		return err;
	return dir->i_ops->io_create == NULL ? -EPERM : create_in(dir, last, mode, rdev, ip);
}

int vfs_make(struct inode *start, const char *path, unsigned mode, uint64_t rdev, struct inode **ip)
{
	char *last = kalloc(NAME_MAX + 1);
	struct inode *dir;
	int err = last == NULL ? -ENOMEM : vfs_walk_parent(start, path, &dir, last);

	if (err == 0) {
		mach_mutex_enter(&vfs_lock);
		err = make_in(dir, last, mode, rdev, ip);
		mach_mutex_exit(&vfs_lock);
		inode_put(dir);
	}
	kfree(last, NAME_MAX + 1);
	return err;
}
