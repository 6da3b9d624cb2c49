/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inotify: the system calls; fs/notify.c has the watches and their events.
 *
 * Locks: none of its own.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

#define IN_ONLYDIR 0x1000000u
#define IN_DONT_FOLLOW 0x2000000u
#define IN_EXCL_UNLINK 0x4000000u /* without effect */
#define AT_FDCWD ((uint64_t)-100)
#define AT_SYMLINK_NOFOLLOW 0x100u

int64_t sys_inotify_init1(const uint64_t *a)
{
	struct file *f;

	if ((a[0] & ~(uint64_t)(O_NONBLOCK | O_CLOEXEC)) != 0)
		return -EINVAL;
	f = anon_file(&notify_ops, S_IFREG | 0600, (unsigned)a[0] & O_NONBLOCK, notify_bytes);
	if (f == NULL)
		return -ENOMEM;
	notify_begin(f);
	return fd_install(this_proc()->p_files, f, 0, (a[0] & O_CLOEXEC) != 0);
}
int64_t sys_inotify_init(const uint64_t *a)
{
	(void)a;
	return sys_inotify_init1((const uint64_t[6]){ 0 });
}

static int64_t watch_path(struct file *f, uint64_t path, uint32_t mask)
{
	struct inode *i;
	int64_t r = path_find(AT_FDCWD, path, mask & IN_DONT_FOLLOW ? AT_SYMLINK_NOFOLLOW : 0, &i);

	if (r != 0)
		return r;
	r = (mask & IN_ONLYDIR) && inode_type(i) != S_IFDIR ? -ENOTDIR : notify_watch(f, i, mask);
	inode_put(i);
	return r;
}

int64_t sys_inotify_add_watch(const uint64_t *a)
{
	uint32_t mask = (uint32_t)a[2];
	struct file *f;
	int64_t r;

	if (!(mask & IN_ALL) ||
	    (mask & (IN_MASK_ADD | IN_MASK_CREATE)) == (IN_MASK_ADD | IN_MASK_CREATE))
		return -EINVAL;
	if ((f = fd_get_kind((int)a[0], &notify_ops, -EINVAL, &r)) == NULL)
		return r;
	r = watch_path(f, a[1], mask);
	file_put(f);
	return r;
}

int64_t sys_inotify_rm_watch(const uint64_t *a)
{
	int64_t r;
	struct file *f = fd_get_kind((int)a[0], &notify_ops, -EINVAL, &r);

	if (f == NULL)
		return r;
	r = notify_unwatch(f, (int)a[1]);
	file_put(f);
	return r;
}
