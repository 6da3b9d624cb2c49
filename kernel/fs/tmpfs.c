/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tmpfs: files of anonymous memory, named (/dev/shm) or not (memfd_create). Their pages go to swap like every program's.
 *
 * A file's bytes are an anon map; mappings share it (tmpfs_memory). read and write go through an address space of the kernel's own
 * in which every file that is read or written is mapped: faults, swapping and copying are the vm's as for a program.
 * A file's room there is MAX_BYTES of addresses; addresses are plenty.
 *
 * Locks: i_lock for size and mapping; tmp_lock for the list of names. Left out: directories below the root.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#include <quire/anon.h>

#define TMP_FS 4u
#define MAX_BYTES (4ull << 30)
#define FIRST (1ull << 32)

struct tmpfile {
	struct inode t_inode;
	struct tmpfile *t_next; /* vfs_lock: of those with names */
	char t_name[NAME_MAX + 1];
	struct anon_map *t_map; /* i_lock */
	uint64_t t_mapped;      /* i_lock: bytes mapped at t_at */
	vaddr_t t_at;
};
static struct as *tmp_as;
static struct inode tmp_root;
static struct tmpfile *tmp_files; /* vfs_lock */
static uint64_t tmp_slots;

static struct tmpfile *tmp_of(struct inode *i) { return (struct tmpfile *)(void *)i; }

struct anon_map *tmpfs_memory(struct inode *i)
{
	return i->i_fs == TMP_FS && inode_type(i) == S_IFREG ? tmp_of(i)->t_map : NULL;
}

static void tmp_inactive(struct vnode *vp)
{
	struct tmpfile *t = tmp_of(inode_of(vp));

	if (t->t_mapped > 0)
		(void)as_unmap(tmp_as, t->t_at, t->t_mapped);
	anonmap_rele(t->t_map);
	mach_mutex_fini(&t->t_inode.i_lock);
	kfree(t, sizeof(*t));
}

static struct vnode_ops tmp_vnode_ops;

/* The file may have that many bytes now. i_lock held (or the file is new). */
static int tmp_room(struct tmpfile *t, uint64_t size)
{
	struct segvn_args a = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_flags = SEGVN_SHARED
	};
	uint64_t want = vm_page_round(size), have = t->t_mapped;
	enum vm_err e;

	if (want <= have)
		return 0;
	if (want > MAX_BYTES)
		return -EFBIG;
	if (!anonmap_grow(t->t_map, vm_btop(want)))
		return -ENOMEM;
	a.sa_amp = t->t_map;
	a.sa_off = have;
	e = as_map(tmp_as, t->t_at + have, want - have, segvn_create, &a);
	if (e == VM_OK)
		t->t_mapped = want;
	return e == VM_NOSWAP ? -ENOSPC : err_of(e);
}

static int tmp_extend(struct inode *i, uint64_t off, uint64_t len)
{
	return tmp_room(tmp_of(i), off + len);
}

static int tmp_truncate(struct inode *i, uint64_t size)
{
	struct tmpfile *t = tmp_of(i);
	uint64_t keep = vm_page_round(size), old = i->i_size;
	int err = tmp_room(t, size);

	if (err != 0)
		return err;
	i->i_size = size;
	if (size >= old)
		return 0;
	if (keep < t->t_mapped)
		(void)as_advise(tmp_as, t->t_at + keep, t->t_mapped - keep, ADV_REMOVE);
	if (size < keep) {
		char *zeroes = kzalloc(VM_PAGESIZE);

		if (zeroes != NULL)
			(void)as_copyout(tmp_as, zeroes, t->t_at + size, keep - size);
		kfree(zeroes, VM_PAGESIZE);
	}
	return 0;
}

static int64_t tmp_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	struct tmpfile *t = tmp_of(f->f_inode);
	enum vm_err e;

	if (off >= f->f_inode->i_size)
		return 0;
	if (len > f->f_inode->i_size - off)
		len = f->f_inode->i_size - off;
	e = as_copyin(tmp_as, t->t_at + off, buf, len);
	return e == VM_OK ? (int64_t)len : err_of(e);
}

static int64_t tmp_write(struct file *f, const void *buf, uint64_t len, uint64_t off)
{
	struct inode *i = f->f_inode;
	struct tmpfile *t = tmp_of(i);
	enum vm_err e = VM_OK;
	int err;

	mach_mutex_enter(&i->i_lock);
	if (f->f_flags & O_APPEND)
		off = i->i_size;
	if ((err = tmp_room(t, off + len)) == 0 &&
	    (e = as_copyout(tmp_as, buf, t->t_at + off, len)) == VM_OK && off + len > i->i_size)
		i->i_size = off + len;
	i->i_mtime = vfs_now();
	mach_mutex_exit(&i->i_lock);
	if (err == 0)
		err = err_of(e);
	return err != 0 ? err : (int64_t)len;
}

static int tmp_poll(struct file *f)
{
	(void)f;
	return POLLIN | POLLOUT;
}

static const struct file_ops tmp_file_ops = {
	.fo_read = tmp_read, .fo_write = tmp_write, .fo_poll = tmp_poll, .fo_seekable = true
};

static int tmp_open(struct inode *i, struct file *f)
{
	(void)i;
	f->f_ops = &tmp_file_ops;
	return 0;
}

static const struct inode_ops tmp_ops = {
	.io_open = tmp_open, .io_truncate = tmp_truncate, .io_extend = tmp_extend
};

int memfile_new(struct inode **ip)
{
	struct tmpfile *t = kzalloc(sizeof(*t));
	uint64_t slot = __atomic_add_fetch(&tmp_slots, 1, __ATOMIC_RELAXED);

	if (t == NULL || (t->t_map = anonmap_alloc(the_vm, 1)) == NULL) {
		kfree(t, sizeof(*t));
		return -ENOMEM;
	}
	inode_init(&t->t_inode, &tmp_vnode_ops, &tmp_ops, TMP_FS, slot + 1, S_IFREG | 0600);
	t->t_at = FIRST + slot % 8192 * MAX_BYTES;
	*ip = &t->t_inode;
	return 0;
}

/* ---- names ---- */
static struct tmpfile **find_link(const char *name, size_t len)
{
	struct tmpfile **p = &tmp_files;

	while (*p != NULL && (strlen((*p)->t_name) != len || memcmp((*p)->t_name, name, len) != 0))
		p = &(*p)->t_next;
	return p;
}

static int dir_lookup(struct inode *dir, const char *name, size_t len, struct inode **ip)
{
	struct tmpfile *t = *find_link(name, len);

	if (len == 2 && memcmp(name, "..", 2) == 0) {
		*ip = inode_hold(dir);
		return 0;
	}
	if (t == NULL)
		return -ENOENT;
	*ip = inode_hold(&t->t_inode);
	return 0;
}

static int dir_create(struct inode *dir, const char *name, size_t len, unsigned mode, uint64_t rdev,
    struct inode **ip)
{
	int err;

	(void)dir, (void)rdev;
	if ((mode & S_IFMT) != S_IFREG)
		return -EPERM;
	if ((err = memfile_new(ip)) != 0)
		return err;
	(*ip)->i_mode = mode;
	memcpy(tmp_of(*ip)->t_name, name, len);
	tmp_of(*ip)->t_next = tmp_files;
	tmp_files = tmp_of(inode_hold(*ip));
	return 0;
}

static int dir_unlink(struct inode *dir, const char *name, size_t len, struct inode *i, bool rmdir)
{
	struct tmpfile **p = find_link(name, len);

	(void)dir;
	if (rmdir)
		return -ENOTDIR;
	*p = (*p)->t_next;
	i->i_nlink = 0;
	vnode_rele(&i->i_vnode);
	return 0;
}

static int dir_readdir(struct inode *dir, uint64_t *pos, readdir_fn *fn, void *arg)
{
	uint64_t n = 0;

	(void)dir;
	for (const struct tmpfile *t = tmp_files; t != NULL; t = t->t_next, n++) {
		if (n < *pos)
			continue;
		if (!fn(arg, t->t_name, strlen(t->t_name), t->t_inode.i_ino, 8, n + 1))
			break;
		*pos = n + 1;
	}
	return 0;
}

static const struct inode_ops dir_ops = { .io_lookup = dir_lookup,
	.io_create = dir_create,
	.io_unlink = dir_unlink,
	.io_readdir = dir_readdir };

struct inode *tmpfs_init(void)
{
	tmp_vnode_ops = none_vnode_ops;
	tmp_vnode_ops.vo_name = "tmpfs";
	tmp_vnode_ops.vo_inactive = tmp_inactive;
	if (as_alloc(the_vm, FIRST, mach_caps(arch_machine())->mc_user_max, &tmp_as) != VM_OK)
		return NULL;
	inode_init(&tmp_root, &kept_vnode_ops, &dir_ops, TMP_FS, 1, S_IFDIR | 01777);
	return &tmp_root;
}
