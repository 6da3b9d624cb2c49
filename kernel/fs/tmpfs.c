/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tmpfs: files of anonymous memory, with names (/dev/shm) or without (memfd_create). Their pages go to swap like every program's.
 *
 * A file's bytes are an anon map; shared mappings share it (tmpfs_memory), private ones get a copy-on-write snapshot of it
 * (tmpfs_snapshot), behind whose last page each access gives SIGBUS. read and write go through an
 * address space of the kernel's own in which every file that has bytes is mapped: faults, swapping
 * and copying work as for a program. In that space a file has a slot of slot_bytes
 * addresses, which limits its size; the file takes the slot with its first byte. Memory and swap
 * are reserved for all of a file's length, holes too, and stay reserved until the file is freed:
 * the call that makes the file longer returns ENOSPC, no later call does.
 *
 * A directory is a list of names in the order of creation; a name's cookie, which only grows, is
 * its position for readdir.
 *
 * Locks: i_lock for size and mapping; vfs_lock for names; tmp_lock for slots. Left out: running
 * programs from a tmpfs.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#include <quire/anon.h>

#define TMP_FS 4u
#define MAX_BYTES (4ull << 30)
#define FIRST (1ull << 32)
#define SLOTS_MAX 8192u

struct tmpname {
	struct tmpname *n_next; /* vfs_lock */
	struct inode *n_inode;  /* const: a reference */
	uint64_t n_cookie;      /* const */
	size_t n_len;           /* const */
	char n_name[];
};
struct tmpfile {
	struct inode t_inode;
	struct anon_map *t_map;  /* const: the anon map; NULL: not a regular file */
	uint64_t t_mapped;       /* i_lock: bytes mapped at t_at */
	uint64_t t_reserved;     /* i_lock: bytes for which there is memory or swap */
	vaddr_t t_at;            /* i_lock: address of the file's slot; 0: none yet */
	struct tmpname *t_names; /* vfs_lock: names of a directory */
	struct inode
	    *t_up;    /* vfs_lock: a directory that names this file; NULL: none, or the root */
	char *t_link; /* const: text of a symbolic link */
};
static struct as *tmp_as;
static struct inode *tmp_root;
static uint64_t last_ino, last_cookie = 2;
static struct mach_mutex tmp_lock;
static uint8_t slot_used[SLOTS_MAX]; /* tmp_lock */
static unsigned slots;               /* const after the start */
static uint64_t slot_bytes;          /* const after the start */

static struct tmpfile *tmp_of(struct inode *i) { return (struct tmpfile *)(void *)i; }

struct anon_map *tmpfs_memory(struct inode *i)
{
	return i->i_fs == TMP_FS && inode_type(i) == S_IFREG ? tmp_of(i)->t_map : NULL;
}

struct inode *tmpfs_directory_of(struct inode *i)
{
	struct inode *up;

	if (i->i_fs != TMP_FS)
		return NULL;
	mach_mutex_enter(&vfs_lock);
	if ((up = tmp_of(i)->t_up) != NULL)
		inode_hold(up);
	mach_mutex_exit(&vfs_lock);
	return up;
}

/* ---- slots ---- */
static vaddr_t slot_take(void)
{
	vaddr_t at = 0;

	mach_mutex_enter(&tmp_lock);
	for (unsigned n = 0; n < slots && at == 0; n++)
		if (!slot_used[n]) {
			slot_used[n] = 1;
			at = FIRST + n * slot_bytes;
		}
	mach_mutex_exit(&tmp_lock);
	return at;
}

static void slot_put(vaddr_t at)
{
	mach_mutex_enter(&tmp_lock);
	slot_used[(at - FIRST) / slot_bytes] = 0;
	mach_mutex_exit(&tmp_lock);
}

static void tmp_inactive(struct vnode *vp)
{
	struct tmpfile *t = tmp_of(inode_of(vp));

	if (t->t_mapped > 0)
		(void)as_unmap(tmp_as, t->t_at, t->t_mapped);
	if (t->t_at != 0)
		slot_put(t->t_at);
	if (t->t_map != NULL)
		anonmap_rele(t->t_map);
	if (t->t_link != NULL)
		kfree(t->t_link, strlen(t->t_link) + 1);
	mach_mutex_fini(&t->t_inode.i_lock);
	kfree(t, sizeof(*t));
}

static struct vnode_ops tmp_vnode_ops;

/* ---- bytes ---- */
/* Reserves and maps the memory for that many bytes. i_lock held (or the file is new). */
static int tmp_room(struct tmpfile *t, uint64_t size)
{
	struct segvn_args a = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_flags = SEGVN_SHARED
	};
	uint64_t want = vm_page_round(size), have = t->t_mapped;
	enum vm_err e;

	if (want <= have)
		return 0;
	if (size > slot_bytes)
		return -EFBIG;
	if (t->t_at == 0 && (t->t_at = slot_take()) == 0)
		return -ENOSPC;
	if (!anonmap_grow(t->t_map, vm_btop(want)))
		return -ENOMEM;
	if (t->t_reserved < want) {
		if (anonmap_reserve(t->t_map, vm_btop(want - t->t_reserved)) != VM_OK)
			return -ENOSPC;
		t->t_reserved = want;
	}
	a.sa_amp = t->t_map;
	a.sa_off = have;
	e = as_map(tmp_as, t->t_at + have, want - have, segvn_create, &a);
	if (e == VM_OK)
		t->t_mapped = want;
	return e == VM_NOSWAP ? -ENOSPC : err_of(e);
}

static int tmp_extend(struct inode *i, uint64_t off, uint64_t len)
{
	return off + len < off ? -EFBIG : tmp_room(tmp_of(i), off + len);
}

/* Mappings end with the page in which the file does. i_lock held. */
static void tmp_end_mappings(struct tmpfile *t, uint64_t size)
{
	anonmap_limit(t->t_map, vm_btop(vm_page_round(size)));
}

static int tmp_truncate(struct inode *i, uint64_t size)
{
	struct tmpfile *t = tmp_of(i);
	uint64_t keep = vm_page_round(size), old = i->i_size;
	int err = tmp_room(t, size);

	if (err != 0)
		return err;
	tmp_end_mappings(t, size);
	i->i_size = size;
	i->i_blocks = vm_page_round(size) / 512;
	i->i_mtime = i->i_ctime = vfs_now();
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
	struct inode *i = f->f_inode;
	struct tmpfile *t = tmp_of(i);
	enum vm_err e = VM_OK;

	mach_mutex_enter(&i->i_lock);
	if (off >= i->i_size)
		len = 0;
	else if (len > i->i_size - off)
		len = i->i_size - off;
	if (len > 0)
		e = as_copyin(tmp_as, t->t_at + off, buf, len);
	mach_mutex_exit(&i->i_lock);
	if (e == VM_OK && len > 0)
		notify_inode(i, IN_ACCESS);
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
	if ((err = tmp_extend(i, off, len)) == 0 && len > 0) {
		tmp_end_mappings(t, off + len > i->i_size ? off + len : i->i_size);
		e = as_copyout(tmp_as, buf, t->t_at + off, len);
		if (e == VM_OK && off + len > i->i_size) {
			i->i_size = off + len;
			i->i_blocks = vm_page_round(i->i_size) / 512;
		}
		tmp_end_mappings(t, i->i_size);
	}
	i->i_mtime = i->i_ctime = vfs_now();
	mach_mutex_exit(&i->i_lock);
	if (err == 0)
		err = err_of(e);
	if (err == 0)
		notify_inode(i, IN_MODIFY);
	return err != 0 ? err : (int64_t)len;
}

/* What is behind the file's end: a map that ends before its first page, which reserves nothing. */
static enum vm_err map_beyond_end(struct as *to, vaddr_t at, uint64_t len, unsigned prot)
{
	struct anon_map *none = anonmap_alloc(the_vm, vm_btop(len));
	struct segvn_args a = { .sa_prot = prot,
		.sa_maxprot = PROT_R | PROT_W | PROT_X,
		.sa_flags = SEGVN_SHARED,
		.sa_amp = none };
	enum vm_err e;

	if (none == NULL)
		return VM_NOMEM;
	anonmap_limit(none, 0);
	e = as_map(to, at, len, segvn_create, &a);
	anonmap_rele(none);
	return e;
}

int tmpfs_snapshot(
    struct inode *i, uint64_t off, uint64_t len, struct as *to, vaddr_t at, unsigned prot)
{
	enum vm_err e = VM_OK;
	uint64_t there;

	mach_mutex_enter(&i->i_lock);
	there = off < i->i_size ? vm_page_round(i->i_size) - off : 0;
	if (there > len)
		there = len;
	if (there > 0)
		e = as_transfer(
		    tmp_as, tmp_of(i)->t_at + off, there, to, &at, TRANSFER_COW, PROT_R | PROT_W);
	mach_mutex_exit(&i->i_lock);
	if (e != VM_OK)
		return err_of(e);
	if (there > 0 && prot != (PROT_R | PROT_W))
		e = as_setprot(to, at, there, prot);
	if (e == VM_OK && there < len)
		e = map_beyond_end(to, at + there, len - there, prot);
	if (e != VM_OK && there > 0)
		(void)as_unmap(to, at, there);
	return err_of(e);
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

static int tmp_readlink(struct inode *i, char *buf, size_t room)
{
	return (int)strlcpy(buf, tmp_of(i)->t_link, room);
}

static const struct inode_ops file_ops = {
	.io_open = tmp_open, .io_truncate = tmp_truncate, .io_extend = tmp_extend
};
static const struct inode_ops link_ops = { .io_readlink = tmp_readlink };
static const struct inode_ops node_ops = { .io_readlink = NULL };
static const struct inode_ops dir_ops;

/* Makes a file without a name. text: of a symbolic link. */
static int make_file(unsigned mode, const char *text, struct inode **ip)
{
	const struct inode_ops *ops = &node_ops;
	struct tmpfile *t = kzalloc(sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	switch (mode & S_IFMT) {
	case S_IFREG:
		ops = &file_ops;
		if ((t->t_map = anonmap_alloc(the_vm, 1)) != NULL)
			tmp_end_mappings(t, 0);
		break;
	case S_IFLNK:
		ops = &link_ops;
		if ((t->t_link = kalloc(strlen(text) + 1)) != NULL)
			memcpy(t->t_link, text, strlen(text) + 1);
		break;
	case S_IFDIR: ops = &dir_ops; break;
	default: break;
	}
	if ((ops == &file_ops && t->t_map == NULL) || (ops == &link_ops && t->t_link == NULL)) {
		kfree(t, sizeof(*t));
		return -ENOMEM;
	}
	inode_init(&t->t_inode, &tmp_vnode_ops, ops, TMP_FS,
	    __atomic_add_fetch(&last_ino, 1, __ATOMIC_RELAXED), mode);
	t->t_inode.i_nlink = ops == &dir_ops ? 2 : 1;
	t->t_inode.i_size = ops == &link_ops ? strlen(text) : 0;
	*ip = &t->t_inode;
	return 0;
}

int memfile_new(struct inode **ip)
{
	int err = make_file(S_IFREG | 0777, NULL, ip);

	if (err == 0)
		(*ip)->i_nlink = 0;
	return err;
}

/* ---- names ---- */
static struct tmpname **find_name(struct inode *dir, const char *name, size_t len)
{
	struct tmpname **p = &tmp_of(dir)->t_names;

	while (*p != NULL && ((*p)->n_len != len || memcmp((*p)->n_name, name, len) != 0))
		p = &(*p)->n_next;
	return p;
}

static int dir_lookup(struct inode *dir, const char *name, size_t len, struct inode **ip)
{
	const struct tmpname *n;

	if (len == 2 && memcmp(name, "..", 2) == 0) {
		struct inode *up = tmp_of(dir)->t_up;

		if (up == NULL && dir != tmp_root)
			return -ENOENT;
		*ip = inode_hold(up != NULL ? up : dir);
		return 0;
	}
	if ((n = *find_name(dir, name, len)) == NULL)
		return -ENOENT;
	*ip = inode_hold(n->n_inode);
	return 0;
}

/*
 * Adds a name of the inode; the name has a reference. A removed directory accepts no name: -ENOENT.
 */
static int add_name(struct inode *dir, const char *name, size_t len, struct inode *i)
{
	struct tmpname *n, **last = &tmp_of(dir)->t_names;

	if (dir->i_nlink == 0)
		return -ENOENT;
	if ((n = kalloc(sizeof(*n) + len)) == NULL)
		return -ENOMEM;
	*n = (struct tmpname){ .n_inode = inode_hold(i), .n_cookie = ++last_cookie, .n_len = len };
	memcpy(n->n_name, name, len);
	while (*last != NULL)
		last = &(*last)->n_next;
	*last = n;
	tmp_of(i)->t_up = dir;
	if (inode_type(i) == S_IFDIR)
		dir->i_nlink++;
	dir->i_mtime = dir->i_ctime = vfs_now();
	return 0;
}

/* Removes a name with its reference; the caller changes the count of links. */
static void drop_name(struct inode *dir, struct tmpname **p)
{
	struct tmpname *n = *p;

	*p = n->n_next;
	if (inode_type(n->n_inode) == S_IFDIR)
		dir->i_nlink--;
	dir->i_mtime = dir->i_ctime = vfs_now();
	inode_put(n->n_inode);
	kfree(n, sizeof(*n) + n->n_len);
}

static int dir_create(struct inode *dir, const char *name, size_t len, unsigned mode, uint64_t rdev,
    struct inode **ip)
{
	bool link = (mode & S_IFMT) == S_IFLNK;
	int err;

	err = make_file(mode, link ? (const char *)(uintptr_t)rdev : NULL, ip);
	if (err != 0)
		return err;
	(*ip)->i_rdev = link ? 0 : rdev;
	if ((err = add_name(dir, name, len, *ip)) != 0) {
		inode_put(*ip);
		*ip = NULL;
	}
	return err;
}

static int dir_link(struct inode *dir, const char *name, size_t len, struct inode *i)
{
	int err;

	if (i->i_fs != TMP_FS)
		return -EXDEV;
	if (inode_type(i) == S_IFDIR)
		return -EPERM;
	if (i->i_nlink == 0)
		return -ENOENT;
	if ((err = add_name(dir, name, len, i)) == 0) {
		i->i_nlink++;
		i->i_ctime = vfs_now();
	}
	return err;
}

static int may_unlink(struct inode *i, bool rmdir)
{
	if (inode_type(i) != S_IFDIR)
		return rmdir ? -ENOTDIR : 0;
	if (!rmdir)
		return -EISDIR;
	return tmp_of(i)->t_names != NULL ? -ENOTEMPTY : 0;
}

static void forget_name(struct inode *dir, const char *name, size_t len, struct inode *i)
{
	if (inode_type(i) == S_IFDIR) {
		i->i_nlink = 0;
		tmp_of(i)->t_up = NULL;
	} else {
		i->i_nlink--;
		if (tmp_of(i)->t_up == dir)
			tmp_of(i)->t_up = NULL;
	}
	i->i_ctime = vfs_now();
	drop_name(dir, find_name(dir, name, len));
}

static int dir_unlink(struct inode *dir, const char *name, size_t len, struct inode *i, bool rmdir)
{
	int err = may_unlink(i, rmdir);

	if (err == 0)
		forget_name(dir, name, len, i);
	return err;
}

static int dir_rename(struct inode *from, const char *name, size_t len, struct inode *i,
    struct inode *to, const char *nname, size_t nlen, struct inode *old)
{
	bool dir = inode_type(i) == S_IFDIR;
	int err;

	if (old == i)
		return 0;
	if (old != NULL) {
		if (dir && inode_type(old) != S_IFDIR)
			return -ENOTDIR;
		if ((err = may_unlink(old, dir)) != 0)
			return err;
	}
	if ((err = add_name(to, nname, nlen, i)) != 0)
		return err;
	if (old != NULL) /* a lookup finds the old file's name first, as the new name is the last */
		forget_name(to, nname, nlen, old);
	drop_name(from, find_name(from, name, len));
	i->i_ctime = vfs_now();
	return 0;
}

static int dir_readdir(struct inode *dir, uint64_t *pos, readdir_fn *fn, void *arg)
{
	const struct inode *up = tmp_of(dir)->t_up != NULL ? tmp_of(dir)->t_up : dir;

	if (*pos == 0) {
		if (!fn(arg, ".", 1, dir->i_ino, 4, 1))
			return 0;
		*pos = 1;
	}
	if (*pos == 1) {
		if (!fn(arg, "..", 2, up->i_ino, 4, 2))
			return 0;
		*pos = 2;
	}
	for (const struct tmpname *n = tmp_of(dir)->t_names; n != NULL; n = n->n_next) {
		if (n->n_cookie <= *pos)
			continue;
		if (!fn(arg, n->n_name, n->n_len, n->n_inode->i_ino, inode_type(n->n_inode) >> 12,
			n->n_cookie))
			break;
		*pos = n->n_cookie;
	}
	return 0;
}

static const struct inode_ops dir_ops = { .io_lookup = dir_lookup,
	.io_create = dir_create,
	.io_link = dir_link,
	.io_unlink = dir_unlink,
	.io_rename = dir_rename,
	.io_readdir = dir_readdir };

struct inode *tmpfs_init(void)
{
	vaddr_t top = mach_caps(arch_machine())->mc_user_max;

	tmp_vnode_ops = none_vnode_ops;
	tmp_vnode_ops.vo_name = "tmpfs";
	tmp_vnode_ops.vo_inactive = tmp_inactive;
	mach_mutex_init(&tmp_lock, 5, "tmpfs");
	slots = top > 1ull << 40 ? SLOTS_MAX : SLOTS_MAX / 8;
	slot_bytes = vm_page_trunc((top - FIRST) / slots);
	if (slot_bytes > MAX_BYTES)
		slot_bytes = MAX_BYTES;
	if (as_alloc(the_vm, FIRST, top, &tmp_as) != VM_OK ||
	    make_file(S_IFDIR | 01777, NULL, &tmp_root) != 0)
		return NULL;
	return tmp_root;
}
