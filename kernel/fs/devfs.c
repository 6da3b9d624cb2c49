/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * /dev: a directory with a fixed list of devices.
 *
 * The inodes of the list live as long as the kernel: the directory has a reference to each. A
 * device's vnode has no pages, so a device cannot be mapped through the page cache. Locks: none;
 * the list is constant after devfs_init. Left out: mknod, devices that appear or disappear.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#define DEV_FS 2u

/* ---- devices ---- */
static int64_t null_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	(void)f, (void)buf, (void)len, (void)off;
	return 0;
}
static int64_t null_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	(void)f, (void)buf, (void)off;
	return (int64_t)len;
}
static int64_t zero_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	(void)f, (void)off;
	memset(buf, 0, len);
	return (int64_t)len;
}
static int64_t full_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	(void)f, (void)buf, (void)len, (void)off;
	return -ENOSPC;
}
static int64_t random_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	(void)f, (void)off;
	for (uint64_t i = 0; i < len; i += 8) {
		uint64_t r = random_next();

		memcpy((char *)buf + i, &r, len - i < 8 ? len - i : 8);
	}
	return (int64_t)len;
}
static int always_ready(struct file *f)
{
	(void)f;
	return POLLIN | POLLOUT;
}

static const struct file_ops null_ops = {
	.fo_read = null_read, .fo_write = null_write, .fo_poll = always_ready, .fo_seekable = true
};
static const struct file_ops zero_ops = {
	.fo_read = zero_read, .fo_write = null_write, .fo_poll = always_ready, .fo_seekable = true
};
static const struct file_ops full_ops = {
	.fo_read = zero_read, .fo_write = full_write, .fo_poll = always_ready, .fo_seekable = true
};
static const struct file_ops random_ops = {
	.fo_read = random_read, .fo_write = null_write, .fo_poll = always_ready, .fo_seekable = true
};

static struct dev {
	const char *d_name;
	unsigned d_mode;
	uint64_t d_rdev;
	const struct file_ops *d_ops;
	const char *d_link;
	struct inode d_inode;
} devs[] = {
	{ .d_name = "null", .d_mode = S_IFCHR | 0666, .d_rdev = 0x103, .d_ops = &null_ops },
	{ .d_name = "zero", .d_mode = S_IFCHR | 0666, .d_rdev = 0x105, .d_ops = &zero_ops },
	{ .d_name = "full", .d_mode = S_IFCHR | 0666, .d_rdev = 0x107, .d_ops = &full_ops },
	{ .d_name = "random", .d_mode = S_IFCHR | 0666, .d_rdev = 0x108, .d_ops = &random_ops },
	{ .d_name = "urandom", .d_mode = S_IFCHR | 0666, .d_rdev = 0x109, .d_ops = &random_ops },
	{ .d_name = "tty", .d_mode = S_IFCHR | 0666, .d_rdev = 0x500, .d_ops = &tty_ops },
	{ .d_name = "console", .d_mode = S_IFCHR | 0600, .d_rdev = 0x501, .d_ops = &tty_ops },
	{ .d_name = "fd", .d_mode = S_IFLNK | 0777, .d_link = "/proc/self/fd" },
	{ .d_name = "stdin", .d_mode = S_IFLNK | 0777, .d_link = "/proc/self/fd/0" },
	{ .d_name = "stdout", .d_mode = S_IFLNK | 0777, .d_link = "/proc/self/fd/1" },
	{ .d_name = "stderr", .d_mode = S_IFLNK | 0777, .d_link = "/proc/self/fd/2" },
	{ .d_name = "shm", .d_mode = S_IFDIR | 01777 },
};
#define NDEVS (sizeof(devs) / sizeof(devs[0]))
static struct inode dev_root;

static int dev_lookup(struct inode *dir, const char *name, size_t len, struct inode **ip)
{
	if (len == 2 && memcmp(name, "..", 2) == 0) {
		*ip = inode_hold(dir == &dev_root ? vfs_root : &dev_root);
		return 0;
	}
	for (unsigned i = 0; dir == &dev_root && i < NDEVS; i++) {
		if (strlen(devs[i].d_name) == len && memcmp(devs[i].d_name, name, len) == 0) {
			*ip = inode_hold(&devs[i].d_inode);
			return 0;
		}
	}
	return -ENOENT;
}

static int dev_readdir(struct inode *dir, uint64_t *pos, readdir_fn *fn, void *arg)
{
	for (; dir == &dev_root && *pos < NDEVS; ++*pos) {
		const struct dev *d = &devs[*pos];

		if (!fn(arg, d->d_name, strlen(d->d_name), d->d_inode.i_ino, d->d_mode >> 12,
			*pos + 1))
			break;
	}
	return 0;
}

static int dev_readlink(struct inode *i, char *buf, size_t room)
{
	return (int)strlcpy(buf, ((struct dev *)i->i_data)->d_link, room);
}

static const struct inode_ops dev_dir_ops = { .io_lookup = dev_lookup, .io_readdir = dev_readdir };
static const struct inode_ops dev_ops = { .io_lookup = NULL };
static const struct inode_ops dev_link_ops = { .io_readlink = dev_readlink };

static const struct inode_ops *ops_of(unsigned type)
{
	switch (type) {
	case S_IFLNK: return &dev_link_ops;
	case S_IFDIR: return &dev_dir_ops;
	default: return &dev_ops;
	}
}

const struct file_ops *devfs_find(uint64_t rdev)
{
	for (unsigned i = 0; i < NDEVS; i++)
		if (devs[i].d_ops != NULL && devs[i].d_rdev == rdev)
			return devs[i].d_ops;
	return NULL;
}

struct inode *devfs_init(void)
{
	inode_init(&dev_root, &kept_vnode_ops, &dev_dir_ops, DEV_FS, 1, S_IFDIR | 0755);
	for (unsigned i = 0; i < NDEVS; i++) {
		struct inode *in = &devs[i].d_inode;

		inode_init(in, &kept_vnode_ops, ops_of(devs[i].d_mode & S_IFMT), DEV_FS, i + 2,
		    devs[i].d_mode);
		in->i_rdev = devs[i].d_rdev;
		in->i_data = &devs[i];
	}
	return &dev_root;
}
