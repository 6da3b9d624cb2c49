/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System calls of names: opening, status, directories, links.
 *
 * Every call is written for its *at form; the older form passes AT_FDCWD. A name is copied into the
 * kernel once, at the beginning (name_begin), so a program cannot change the name between two uses.
 * Locks: vfs_lock while a directory is read or changed, then i_lock (fs/vfs.c has the order).
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

#define AT_FDCWD ((uint64_t)-100)
#define AT_SYMLINK_NOFOLLOW 0x100u
#define AT_REMOVEDIR 0x200u
#define AT_SYMLINK_FOLLOW 0x400u
#define AT_EMPTY_PATH 0x1000u
#define AT_EACCESS 0x200u
#define AT_NO_AUTOMOUNT 0x800u

/* A name from the program, with the directory from which it starts. */
struct name {
	char *n_path;
	struct inode *n_start; /* the start, a reference; NULL: the root */
};

static void name_end(struct name *n)
{
	kfree(n->n_path, PATH_MAX);
	inode_put(n->n_start);
}

static int name_begin(struct name *n, uint64_t dirfd, uint64_t path)
{
	int64_t len;

	*n = (struct name){ .n_path = kalloc(PATH_MAX) };
	if (n->n_path == NULL)
		return -ENOMEM;
	if ((len = copy_in_string(n->n_path, path, PATH_MAX)) < 0) {
		name_end(n);
		return (int)len;
	}
	if (n->n_path[0] == '/')
		return 0;
	if ((int)dirfd == -100) {
		n->n_start = proc_hold_inode(&this_proc()->p_cwd);
		return 0;
	}
	struct file *f = fd_get((int)dirfd);

	if (f == NULL) {
		name_end(n);
		return -EBADF;
	}
	n->n_start = inode_hold(f->f_inode);
	file_put(f);
	return 0;
}

/* Finds the inode of a name; flags: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH. */
static int find_inode(uint64_t dirfd, uint64_t path, unsigned flags, struct inode **ip)
{
	struct name n;
	int err;

	if ((flags & AT_EMPTY_PATH) && path == 0)
		return -EFAULT;
	if ((err = name_begin(&n, dirfd, path)) != 0)
		return err;
	if ((flags & AT_EMPTY_PATH) && n.n_path[0] == '\0' && n.n_start != NULL)
		*ip = inode_hold(n.n_start);
	else
		err = vfs_walk(
		    n.n_start, n.n_path, flags & AT_SYMLINK_NOFOLLOW ? WALK_NOFOLLOW : 0, ip);
	name_end(&n);
	return err;
}

/* ---- opening ---- */
static int64_t open_at(uint64_t dirfd, uint64_t path, uint64_t flags, uint64_t mode)
{
	struct files *fs = this_proc()->p_files;
	struct file *f = NULL;
	struct name n;
	int err, fd;

	if ((err = name_begin(&n, dirfd, path)) != 0)
		return err;
	if ((err = fd = fd_take(fs, 0)) >= 0) {
		err = vfs_open(n.n_start, n.n_path, (unsigned)flags,
		    (unsigned)mode & ~this_proc()->p_umask, &f);
		fd_fill(fs, fd, err == 0 ? f : NULL, (flags & O_CLOEXEC) != 0);
	}
	name_end(&n);
	return err != 0 ? err : fd;
}
int64_t sys_open(const uint64_t *a) { return open_at(AT_FDCWD, a[0], a[1], a[2]); }
int64_t sys_openat(const uint64_t *a) { return open_at(a[0], a[1], a[2], a[3]); }
int64_t sys_creat(const uint64_t *a)
{
	return open_at(AT_FDCWD, a[0], O_WRONLY | O_CREAT | O_TRUNC, a[1]);
}

/* ---- status ---- */
static int64_t give_stat(struct inode *i, uint64_t to)
{
	struct stat st = { .st_dev = i->i_fs,
		.st_ino = i->i_ino,
		.st_nlink = i->i_nlink,
		.st_mode = i->i_mode,
		.st_uid = i->i_uid,
		.st_gid = i->i_gid,
		.st_rdev = i->i_rdev,
		.st_size = (int64_t)i->i_size,
		.st_blksize = 4096,
		.st_blocks = (int64_t)i->i_blocks,
		.st_atime = i->i_atime,
		.st_mtime = i->i_mtime,
		.st_ctime = i->i_ctime };

	return copy_out(to, &st, sizeof(st));
}

int path_find(uint64_t dirfd, uint64_t path, unsigned flags, struct inode **ip)
{
	return find_inode(dirfd, path, flags, ip);
}

static int64_t stat_at(uint64_t dirfd, uint64_t path, uint64_t to, unsigned flags)
{
	struct inode *i;
	int64_t err = find_inode(dirfd, path, flags, &i);

	if (err != 0)
		return err;
	err = give_stat(i, to);
	inode_put(i);
	return err;
}
int64_t sys_stat(const uint64_t *a) { return stat_at(AT_FDCWD, a[0], a[1], 0); }
int64_t sys_lstat(const uint64_t *a) { return stat_at(AT_FDCWD, a[0], a[1], AT_SYMLINK_NOFOLLOW); }
int64_t sys_newfstatat(const uint64_t *a)
{
	if ((unsigned)a[3] & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT))
		return -EINVAL;
	return stat_at(a[0], a[1], a[2], (unsigned)a[3]);
}
int64_t sys_fstat(const uint64_t *a)
{
	struct file *f = fd_get((int)a[0]);
	int64_t err;

	if (f == NULL)
		return -EBADF;
	err = give_stat(f->f_inode, a[1]);
	file_put(f);
	return err;
}

static int64_t access_at(uint64_t dirfd, uint64_t path, uint64_t mode, unsigned flags)
{
	struct cred real = *cred_current();
	struct inode *i;
	int64_t err = ((unsigned)mode & ~7u) != 0 ||
		(flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_EACCESS)) != 0
	    ? -EINVAL
	    : find_inode(dirfd, path, flags, &i);

	if (err != 0)
		return err;
	if (!(flags & AT_EACCESS)) {
		real.c_euid = real.c_uid;
		real.c_egid = real.c_gid;
	}
	err = cred_may(&real, i->i_uid, i->i_gid, i->i_mode, (unsigned)mode);
	inode_put(i);
	return err;
}
int64_t sys_access(const uint64_t *a) { return access_at(AT_FDCWD, a[0], a[1], 0); }
int64_t sys_faccessat(const uint64_t *a) { return access_at(a[0], a[1], a[2], 0); }
int64_t sys_faccessat2(const uint64_t *a) { return access_at(a[0], a[1], a[2], (unsigned)a[3]); }

struct statfs {
	int64_t type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags,
	    spare[4];
};
static int64_t give_statfs(const struct inode *i, uint64_t to)
{
	struct statfs s = { .type = 0xef53, .bsize = 4096, .namelen = NAME_MAX, .frsize = 4096 };
	uint64_t n[4] = { 0 };

	if (i->i_fs == 1)
		ext2_statfs(n);
	else
		s.type = 0x01021994;
	s.blocks = (int64_t)n[0];
	s.bfree = s.bavail = (int64_t)n[1];
	s.files = (int64_t)n[2];
	s.ffree = (int64_t)n[3];
	return copy_out(to, &s, sizeof(s));
}
int64_t sys_statfs(const uint64_t *a)
{
	struct inode *i;
	int64_t err = find_inode(AT_FDCWD, a[0], 0, &i);

	if (err != 0)
		return err;
	err = give_statfs(i, a[1]);
	inode_put(i);
	return err;
}
int64_t sys_fstatfs(const uint64_t *a)
{
	struct file *f = fd_get((int)a[0]);
	int64_t err;

	if (f == NULL)
		return -EBADF;
	err = give_statfs(f->f_inode, a[1]);
	file_put(f);
	return err;
}

/* ---- changing an inode ---- */
static void inode_changed(struct inode *i)
{
	i->i_ctime = vfs_now();
	if (i->i_ops->io_changed != NULL)
		i->i_ops->io_changed(i);
	notify_inode(i, IN_ATTRIB);
}

static int64_t of_file(
    uint64_t fd, int64_t (*fn)(struct inode *, const uint64_t *), const uint64_t *args)
{
	struct file *f = fd_get_open((int)fd);
	int64_t err;

	if (f == NULL)
		return -EBADF;
	err = fn(f->f_inode, args);
	file_put(f);
	return err;
}

static int64_t of_name(uint64_t dirfd, uint64_t path, unsigned flags,
    int64_t (*fn)(struct inode *, const uint64_t *), const uint64_t *args)
{
	struct inode *i;
	int64_t err = flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
	    ? -EINVAL
	    : find_inode(dirfd, path, flags, &i);

	if (err != 0)
		return err;
	err = fn(i, args);
	inode_put(i);
	return err;
}

static int64_t set_mode(struct inode *i, const uint64_t *args)
{
	unsigned mode = (unsigned)args[0] & 07777;

	if (inode_type(i) == S_IFLNK)
		return -EOPNOTSUPP;
	if (inode_owned(i) != 0)
		return -EPERM;
	if (!cred_is_root() && !cred_has_group(cred_current(), i->i_gid))
		mode &= ~S_ISGID;
	i->i_mode = (i->i_mode & S_IFMT) | mode;
	inode_changed(i);
	return 0;
}
/* May the running program change the owner and the group to these? ~0: as it is. */
static bool may_give(const struct inode *i, uint32_t uid, uint32_t gid)
{
	if (cred_is_root())
		return true;
	return cred_current()->c_euid == i->i_uid && (uid == ~0u || uid == i->i_uid) &&
	    (gid == ~0u || gid == i->i_gid || cred_has_group(cred_current(), gid));
}
static int64_t set_owner(struct inode *i, const uint64_t *args)
{
	uint32_t uid = (uint32_t)args[0], gid = (uint32_t)args[1];

	if (!may_give(i, uid, gid))
		return -EPERM;
	if (uid != ~0u)
		i->i_uid = uid;
	if (gid != ~0u)
		i->i_gid = gid;
	/* a program with other rights than its starter's must not come about by a new owner */
	if (inode_type(i) != S_IFDIR)
		i->i_mode &= ~(i->i_mode & 010 ? S_ISUID | S_ISGID : S_ISUID);
	inode_changed(i);
	return 0;
}
static int64_t set_size(struct inode *i, const uint64_t *args)
{
	int err;

	if ((int64_t)args[0] < 0 || i->i_ops->io_truncate == NULL)
		return inode_type(i) == S_IFDIR ? -EISDIR : -EINVAL;
	mach_mutex_enter(&i->i_lock);
	err = i->i_ops->io_truncate(i, args[0]);
	mach_mutex_exit(&i->i_lock);
	if (err == 0)
		notify_inode(i, IN_MODIFY);
	return err;
}
/* For truncate(); ftruncate() has a file that is open for writing. */
static int64_t set_size_of_named(struct inode *i, const uint64_t *args)
{
	int err = (int64_t)args[0] < 0 || inode_type(i) == S_IFDIR ? 0 : inode_may(i, MAY_WRITE);

	return err != 0 ? err : set_size(i, args);
}
#define UTIME_NOW 0x3fffffffu
#define UTIME_OMIT 0x3ffffffeu
static bool is_part_of_second(uint64_t ns)
{
	return ns < 1000000000 || ns == UTIME_NOW || ns == UTIME_OMIT;
}
static int64_t set_times(struct inode *i, const uint64_t *t)
{
	bool now = t[1] == UTIME_NOW && t[3] == UTIME_NOW;

	if (!is_part_of_second(t[1]) || !is_part_of_second(t[3]))
		return -EINVAL;
	if (t[1] == UTIME_OMIT && t[3] == UTIME_OMIT)
		return 0;
	if (inode_owned(i) != 0 && (!now || inode_may(i, MAY_WRITE) != 0))
		return now ? -EACCES : -EPERM;
	if (t[1] != UTIME_OMIT)
		i->i_atime = t[1] == UTIME_NOW ? vfs_now() : (uint32_t)t[0];
	if (t[3] != UTIME_OMIT)
		i->i_mtime = t[3] == UTIME_NOW ? vfs_now() : (uint32_t)t[2];
	inode_changed(i);
	return 0;
}

int64_t sys_chmod(const uint64_t *a) { return of_name(AT_FDCWD, a[0], 0, set_mode, a + 1); }
int64_t sys_fchmod(const uint64_t *a) { return of_file(a[0], set_mode, a + 1); }
int64_t sys_fchmodat(const uint64_t *a) { return of_name(a[0], a[1], 0, set_mode, a + 2); }
int64_t sys_fchmodat2(const uint64_t *a)
{
	return of_name(a[0], a[1], (unsigned)a[3], set_mode, a + 2);
}
int64_t sys_chown(const uint64_t *a) { return of_name(AT_FDCWD, a[0], 0, set_owner, a + 1); }
int64_t sys_lchown(const uint64_t *a)
{
	return of_name(AT_FDCWD, a[0], AT_SYMLINK_NOFOLLOW, set_owner, a + 1);
}
int64_t sys_fchown(const uint64_t *a) { return of_file(a[0], set_owner, a + 1); }
int64_t sys_fchownat(const uint64_t *a)
{
	return of_name(a[0], a[1], (unsigned)a[4], set_owner, a + 2);
}
int64_t sys_truncate(const uint64_t *a)
{
	return of_name(AT_FDCWD, a[0], 0, set_size_of_named, a + 1);
}
int64_t sys_ftruncate(const uint64_t *a)
{
	struct file *f = fd_get_open((int)a[0]);
	int64_t err;

	if (f == NULL)
		return -EBADF;
	err = (f->f_flags & O_ACCMODE) == 0 ? -EINVAL : set_size(f->f_inode, a + 1);
	file_put(f);
	return err;
}

static int64_t allocate_range(struct inode *i, const uint64_t *args)
{
	int err = 0;

	if ((int64_t)args[1] < 0 || (int64_t)args[2] <= 0)
		return -EINVAL;
	if (args[0] != 0)
		return -EOPNOTSUPP;
	if (inode_type(i) != S_IFREG)
		return inode_type(i) == S_IFIFO ? -ESPIPE : -ENODEV;
	if (args[1] + args[2] > FILE_BYTES_MOST)
		return -EFBIG;
	mach_mutex_enter(&i->i_lock);
	if (i->i_ops->io_extend != NULL)
		err = i->i_ops->io_extend(i, args[1], args[2]);
	if (err == 0 && args[1] + args[2] > i->i_size && i->i_ops->io_truncate != NULL)
		err = i->i_ops->io_truncate(i, args[1] + args[2]);
	mach_mutex_exit(&i->i_lock);
	return err;
}
int64_t sys_fallocate(const uint64_t *a)
{
	struct file *f = fd_get((int)a[0]);
	int64_t err;

	if (f == NULL)
		return -EBADF;
	err = file_may_write(f) ? allocate_range(f->f_inode, a + 1) : -EBADF;
	file_put(f);
	return err;
}

int64_t sys_utimensat(const uint64_t *a)
{
	uint64_t t[4] = { 0, UTIME_NOW, 0, UTIME_NOW };

	if (a[2] != 0 && copy_in(t, a[2], sizeof(t)) != 0)
		return -EFAULT;
	if (a[1] == 0 && (int)a[0] == -100)
		return -EFAULT;
	return a[1] == 0 ? of_file(a[0], set_times, t)
			 : of_name(a[0], a[1], (unsigned)a[3], set_times, t);
}
int64_t sys_utimes(const uint64_t *a)
{
	uint64_t t[4] = { 0, UTIME_NOW, 0, UTIME_NOW };

	if (a[1] != 0 && copy_in(t, a[1], sizeof(t)) != 0)
		return -EFAULT;
	return of_name(AT_FDCWD, a[0], 0, set_times, t);
}
int64_t sys_utime(const uint64_t *a)
{
	uint64_t in[2], t[4] = { 0, UTIME_NOW, 0, UTIME_NOW };

	if (a[1] != 0) {
		if (copy_in(in, a[1], sizeof(in)) != 0)
			return -EFAULT;
		t[0] = in[0], t[1] = 0, t[2] = in[1], t[3] = 0;
	}
	return of_name(AT_FDCWD, a[0], 0, set_times, t);
}

/* ---- names ---- */
/* Finds a name's directory and last component, and returns with vfs_lock held. */
struct spot {
	struct name s_name;
	struct inode *s_dir;
	char *s_last;
	bool s_slashed; /* a slash follows the last component: it means a directory */
};

static void spot_end(struct spot *s)
{
	mach_mutex_exit(&vfs_lock);
	inode_put(s->s_dir);
	kfree(s->s_last, NAME_MAX + 1);
	name_end(&s->s_name);
}

static int spot_begin(struct spot *s, uint64_t dirfd, uint64_t path, bool lock)
{
	int err = name_begin(&s->s_name, dirfd, path);

	if (err != 0)
		return err;
	s->s_last = kalloc(NAME_MAX + 1);
	err = s->s_last == NULL
	    ? -ENOMEM
	    : vfs_walk_parent(s->s_name.n_start, s->s_name.n_path, &s->s_dir, s->s_last);
	if (err != 0) {
		kfree(s->s_last, NAME_MAX + 1);
		name_end(&s->s_name);
		return err;
	}
	s->s_slashed = s->s_name.n_path[strlen(s->s_name.n_path) - 1] == '/';
	if (lock)
		mach_mutex_enter(&vfs_lock);
	return 0;
}

static bool is_dots(const char *s) { return strcmp(s, ".") == 0 || strcmp(s, "..") == 0; }

static int look_up(const struct spot *s, struct inode **ip)
{
	return s->s_dir->i_ops->io_lookup == NULL
	    ? -ENOTDIR
	    : s->s_dir->i_ops->io_lookup(s->s_dir, s->s_last, strlen(s->s_last), ip);
}

static int64_t make_at(uint64_t dirfd, uint64_t path, unsigned mode, uint64_t extra)
{
	struct inode *i;
	struct name n;
	int err = name_begin(&n, dirfd, path);

	if (err != 0)
		return err;
	if ((err = vfs_make(n.n_start, n.n_path, mode, extra, &i)) == 0)
		inode_put(i);
	name_end(&n);
	return err;
}

static int64_t mkdir_at(uint64_t dirfd, uint64_t path, uint64_t mode)
{
	return make_at(dirfd, path, S_IFDIR | ((unsigned)mode & 07777 & ~this_proc()->p_umask), 0);
}
int64_t sys_mkdir(const uint64_t *a) { return mkdir_at(AT_FDCWD, a[0], a[1]); }
int64_t sys_mkdirat(const uint64_t *a) { return mkdir_at(a[0], a[1], a[2]); }

static int64_t mknod_at(uint64_t dirfd, uint64_t path, uint64_t mode, uint64_t dev)
{
	unsigned m = (unsigned)mode;

	switch (m & S_IFMT) {
	case 0: m |= S_IFREG; break;
	case S_IFREG:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK: break;
	case S_IFDIR: return -EPERM;
	default: return -EINVAL; /* io_create makes links, too, but a program's mknod must not */
	}
	if (((m & S_IFMT) == S_IFCHR || (m & S_IFMT) == S_IFBLK) && !cred_is_root())
		return -EPERM;
	return make_at(dirfd, path, m & ~this_proc()->p_umask, dev);
}
int64_t sys_mknod(const uint64_t *a) { return mknod_at(AT_FDCWD, a[0], a[1], a[2]); }
int64_t sys_mknodat(const uint64_t *a) { return mknod_at(a[0], a[1], a[2], a[3]); }

static int64_t symlink_at(uint64_t target, uint64_t dirfd, uint64_t path)
{
	char *text = kalloc(PATH_MAX);
	int64_t r;

	if (text == NULL)
		return -ENOMEM;
	r = copy_in_string(text, target, PATH_MAX);
	if (r >= 0)
		r = r == 0 ? -ENOENT
			   : make_at(dirfd, path, S_IFLNK | 0777, (uint64_t)(uintptr_t)text);
	kfree(text, PATH_MAX);
	return r;
}
int64_t sys_symlink(const uint64_t *a) { return symlink_at(a[0], AT_FDCWD, a[1]); }
int64_t sys_symlinkat(const uint64_t *a) { return symlink_at(a[0], a[1], a[2]); }

/* rmdir of "." is wrong in itself; ".." has at least the directory that names it. */
static int error_of_dots(const char *dots) { return dots[1] == '\0' ? -EINVAL : -ENOTEMPTY; }

static int64_t unlink_at(uint64_t dirfd, uint64_t path, bool rmdir)
{
	struct inode *i = NULL;
	struct spot s;
	int err = spot_begin(&s, dirfd, path, true);

	if (err != 0)
		return err;
	if (is_dots(s.s_last))
		err = rmdir ? error_of_dots(s.s_last) : -EISDIR;
	else if ((err = look_up(&s, &i)) == 0 && (err = inode_may_remove(s.s_dir, i)) == 0 &&
	    rmdir && vfs_is_covered(i))
		err = -EBUSY;
	else if (err == 0 && !rmdir && s.s_slashed && inode_type(i) != S_IFDIR)
		err = -ENOTDIR;
	else if (err == 0)
		err = s.s_dir->i_ops->io_unlink == NULL
		    ? -EPERM
		    : s.s_dir->i_ops->io_unlink(s.s_dir, s.s_last, strlen(s.s_last), i, rmdir);
	if (err == 0) {
		if (!rmdir)
			notify_self(i, IN_ATTRIB);
		if (rmdir || i->i_nlink == 0)
			notify_gone(i);
		notify_entry(s.s_dir, s.s_last, i, IN_DELETE, 0);
	}
	spot_end(&s);
	inode_put(i);
	return err;
}
int64_t sys_unlink(const uint64_t *a) { return unlink_at(AT_FDCWD, a[0], false); }
int64_t sys_rmdir(const uint64_t *a) { return unlink_at(AT_FDCWD, a[0], true); }
int64_t sys_unlinkat(const uint64_t *a)
{
	if ((unsigned)a[2] & ~AT_REMOVEDIR)
		return -EINVAL;
	return unlink_at(a[0], a[1], (a[2] & AT_REMOVEDIR) != 0);
}

static int64_t link_at(uint64_t fromfd, uint64_t from, uint64_t tofd, uint64_t to, unsigned flags)
{
	struct inode *i, *old = NULL;
	struct spot s;
	int err;

	if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0)
		return -EINVAL;
	/* The flag says the opposite of find_inode's. */
	err = find_inode(fromfd, from,
	    (flags & AT_EMPTY_PATH) | (flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW), &i);
	if (err != 0)
		return err;
	if ((err = spot_begin(&s, tofd, to, true)) == 0) {
		err = is_dots(s.s_last) ? 0 : look_up(&s, &old);
		if (err == 0)
			err = -EEXIST;
		else if (err == -ENOENT)
			err = s.s_dir->i_ops->io_link == NULL ? -EPERM : inode_may_name_in(s.s_dir);
		if (err == 0)
			err = s.s_dir->i_ops->io_link(s.s_dir, s.s_last, strlen(s.s_last), i);
		if (err == 0) {
			notify_self(i, IN_ATTRIB);
			notify_entry(s.s_dir, s.s_last, i, IN_CREATE, 0);
		}
		spot_end(&s);
		inode_put(old);
	}
	inode_put(i);
	return err;
}
int64_t sys_link(const uint64_t *a) { return link_at(AT_FDCWD, a[0], AT_FDCWD, a[1], 0); }
int64_t sys_linkat(const uint64_t *a) { return link_at(a[0], a[1], a[2], a[3], (unsigned)a[4]); }

/* Is dir the directory top, or below it? vfs_lock held. */
static bool is_below(struct inode *dir, const struct inode *top)
{
	struct inode *at = inode_hold(dir), *up = NULL;
	bool below = at == top;

	while (!below && at->i_ops->io_lookup(at, "..", 2, &up) == 0 && up != at) {
		inode_put(at);
		at = up;
		below = at == top;
		up = NULL;
	}
	inode_put(at);
	inode_put(up);
	return below;
}

/* A directory that gets another parent is changed itself: the entry "..". vfs_lock held. */
static int may_move(
    const struct spot *f, const struct inode *i, const struct spot *t, const struct inode *old)
{
	int err = inode_may_remove(f->s_dir, i);

	if (err == 0)
		err = old != NULL ? inode_may_remove(t->s_dir, old) : inode_may_name_in(t->s_dir);
	if (err == 0 && inode_type(i) == S_IFDIR && f->s_dir != t->s_dir)
		err = inode_may(i, MAY_WRITE);
	return err;
}

/* vfs_lock held. old: the inode that has the new name now; NULL: none. */
static int move_name(const struct spot *f, struct inode *i, const struct spot *t, struct inode *old)
{
	static uint32_t last_cookie; /* of a move, for its two events */
	uint32_t cookie;
	int err;

	if (f->s_dir->i_ops->io_rename == NULL ||
	    t->s_dir->i_ops->io_rename != f->s_dir->i_ops->io_rename)
		return -EXDEV;
	if ((err = may_move(f, i, t, old)) != 0)
		return err;
	if (inode_type(i) != S_IFDIR && (f->s_slashed || t->s_slashed))
		return -ENOTDIR;
	if (inode_type(i) == S_IFDIR && is_below(t->s_dir, i))
		return -EINVAL;
	if (inode_type(i) == S_IFDIR && i != old &&
	    (vfs_is_covered(i) || (old != NULL && vfs_is_covered(old))))
		return -EBUSY;
	err = f->s_dir->i_ops->io_rename(
	    f->s_dir, f->s_last, strlen(f->s_last), i, t->s_dir, t->s_last, strlen(t->s_last), old);
	if (err != 0 || i == old)
		return err;
	i->i_parent = t->s_dir->i_ino;
	cookie = __atomic_add_fetch(&last_cookie, 1, __ATOMIC_RELAXED);
	notify_entry(f->s_dir, f->s_last, i, IN_MOVED_FROM, cookie);
	notify_entry(t->s_dir, t->s_last, i, IN_MOVED_TO, cookie);
	if (old != NULL)
		notify_self(old, IN_ATTRIB);
	notify_self(i, IN_MOVE_SELF);
	if (old != NULL && (old->i_nlink == 0 || inode_type(old) == S_IFDIR))
		notify_gone(old);
	return 0;
}

static int64_t rename_at(uint64_t fromfd, uint64_t from, uint64_t tofd, uint64_t to, unsigned flags)
{
	struct inode *i = NULL, *old = NULL;
	struct spot f, t;
	int err;

	if (flags & ~1u)
		return -EINVAL;
	if ((err = spot_begin(&f, fromfd, from, false)) != 0)
		return err;
	if ((err = spot_begin(&t, tofd, to, true)) != 0) {
		mach_mutex_enter(&vfs_lock);
		spot_end(&f);
		return err;
	}
	if (is_dots(f.s_last) || is_dots(t.s_last))
		err = -EBUSY;
	else if ((err = look_up(&f, &i)) == 0) {
		err = look_up(&t, &old);
		if (err == -ENOENT)
			err = 0;
		else if (err == 0 && (flags & 1))
			err = -EEXIST;
		if (err == 0)
			err = move_name(&f, i, &t, old);
	}
	spot_end(&t);
	mach_mutex_enter(&vfs_lock);
	spot_end(&f);
	inode_put(i);
	inode_put(old);
	return err;
}
int64_t sys_rename(const uint64_t *a) { return rename_at(AT_FDCWD, a[0], AT_FDCWD, a[1], 0); }
int64_t sys_renameat(const uint64_t *a) { return rename_at(a[0], a[1], a[2], a[3], 0); }
int64_t sys_renameat2(const uint64_t *a)
{
	return rename_at(a[0], a[1], a[2], a[3], (unsigned)a[4]);
}

static int64_t readlink_at(uint64_t dirfd, uint64_t path, uint64_t to, uint64_t room)
{
	struct inode *i;
	int64_t r = (int)room <= 0 ? -EINVAL : find_inode(dirfd, path, AT_SYMLINK_NOFOLLOW, &i);
	char *text;

	if (r != 0)
		return r;
	text = kalloc(PATH_MAX);
	if (inode_type(i) != S_IFLNK)
		r = -EINVAL;
	else if (text == NULL)
		r = -ENOMEM;
	else
		r = i->i_ops->io_readlink(i, text, PATH_MAX);
	if (r > 0) {
		if ((uint64_t)r > room)
			r = (int64_t)room;
		if (copy_out(to, text, (uint64_t)r) != 0)
			r = -EFAULT;
	}
	kfree(text, PATH_MAX);
	inode_put(i);
	return r;
}
int64_t sys_readlink(const uint64_t *a) { return readlink_at(AT_FDCWD, a[0], a[1], a[2]); }
int64_t sys_readlinkat(const uint64_t *a) { return readlink_at(a[0], a[1], a[2], a[3]); }

/* ---- directories ---- */
struct listing {
	char *l_buf;
	uint64_t l_n, l_room;
	bool l_old;   /* getdents: the type is the last byte */
	bool l_short; /* there was no room for an entry */
};

static bool list_entry(
    void *arg, const char *name, size_t len, uint64_t ino, unsigned type, uint64_t next)
{
	struct listing *l = arg;
	size_t head = l->l_old ? 18 : 19, n = (head + len + (l->l_old ? 2 : 1) + 7) & ~(size_t)7;
	char *at = l->l_buf + l->l_n;
	uint16_t reclen = (uint16_t)n;

	if (l->l_n + n > l->l_room) {
		l->l_short = true;
		return false;
	}
	memset(at, 0, n);
	memcpy(at, &ino, 8);
	memcpy(at + 8, &next, 8);
	memcpy(at + 16, &reclen, 2);
	if (l->l_old)
		at[n - 1] = (char)type;
	else
		at[18] = (char)type;
	memcpy(at + head, name, len);
	l->l_n += n;
	return true;
}

static int64_t get_entries(const uint64_t *a, bool old)
{
	struct listing l = { .l_room = a[2] < 32768 ? a[2] : 32768, .l_old = old };
	struct file *f = fd_get_open((int)a[0]);
	int64_t r;

	if (f == NULL)
		return -EBADF;
	if (f->f_inode->i_ops->io_readdir == NULL || inode_type(f->f_inode) != S_IFDIR) {
		file_put(f);
		return -ENOTDIR;
	}
	if ((l.l_buf = kalloc(l.l_room + 1)) == NULL) {
		file_put(f);
		return -ENOMEM;
	}
	mach_mutex_enter(&f->f_lock);
	mach_mutex_enter(&vfs_lock);
	r = f->f_inode->i_ops->io_readdir(f->f_inode, &f->f_off, list_entry, &l);
	mach_mutex_exit(&vfs_lock);
	mach_mutex_exit(&f->f_lock);
	if (r == 0 && l.l_n == 0 && l.l_short)
		r = -EINVAL;
	if (r == 0)
		r = copy_out(a[1], l.l_buf, l.l_n) != 0 ? -EFAULT : (int64_t)l.l_n;
	kfree(l.l_buf, l.l_room + 1);
	file_put(f);
	return r;
}
int64_t sys_getdents(const uint64_t *a) { return get_entries(a, true); }
int64_t sys_getdents64(const uint64_t *a) { return get_entries(a, false); }

int64_t sys_getcwd(const uint64_t *a)
{
	char *buf = kalloc(PATH_MAX);
	struct inode *cwd;
	int64_t n;

	if (buf == NULL)
		return -ENOMEM;
	cwd = proc_hold_inode(&this_proc()->p_cwd);
	n = vfs_path(cwd, buf, PATH_MAX);
	inode_put(cwd);
	if (n > 0 && (uint64_t)n > a[1])
		n = -ERANGE;
	else if (n > 0 && copy_out(a[0], buf, (uint64_t)n) != 0)
		n = -EFAULT;
	kfree(buf, PATH_MAX);
	return n;
}

/* Sets the process's directory at *place, p_cwd or p_root, to i, whose reference is taken over. */
static int64_t set_dir(struct inode **place, struct inode *i)
{
	int err = inode_type(i) != S_IFDIR ? -ENOTDIR : inode_may(i, MAY_EXEC);

	if (err != 0) {
		inode_put(i);
		return err;
	}
	proc_set_inode(place, i);
	return 0;
}
/* may: the program may go there at all. */
static int64_t set_dir_by_path(struct inode **place, uint64_t path, bool may)
{
	struct inode *i;
	int64_t err = find_inode(AT_FDCWD, path, 0, &i);

	if (err == 0 && !may) {
		inode_put(i);
		err = -EPERM;
	}
	return err != 0 ? err : set_dir(place, i);
}
int64_t sys_chdir(const uint64_t *a) { return set_dir_by_path(&this_proc()->p_cwd, a[0], true); }
int64_t sys_fchdir(const uint64_t *a)
{
	struct file *f = fd_get((int)a[0]);
	struct inode *i;

	if (f == NULL)
		return -EBADF;
	i = inode_hold(f->f_inode);
	file_put(f);
	return set_dir(&this_proc()->p_cwd, i);
}
int64_t sys_chroot(const uint64_t *a)
{
	return set_dir_by_path(&this_proc()->p_root, a[0], cred_is_root());
}

int64_t sys_umask(const uint64_t *a)
{
	unsigned old = this_proc()->p_umask;

	this_proc()->p_umask = (unsigned)a[0] & 0777;
	return old;
}
