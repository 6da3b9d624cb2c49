/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inodes: their cache, inodes without a directory, and their times.
 *
 * An inode begins with its vnode, whose reference count is the inode's: mappings of a file hold the
 * vnode, so the inode lives while it is mapped, open or named. Inodes that can be read again are in
 * a cache, which has its own reference; when the cache is full, the unreferenced inode that has not
 * been used for the longest time is dropped, with its pages.
 *
 * A file without a name and without a user is found when a reference is put (or at the next sync,
 * if a mapping was the last user). The file then leaves the cache, and dropping its last reference
 * frees its blocks (io_sync of a file without names).
 *
 * Locks: icache_lock: the cache. vfs.c has the order of all locks of files.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#define ICACHE_HASH 128u
#define ICACHE_MAX 512u

struct mach_mutex vfs_lock;
static struct mach_mutex icache_lock;
static struct inode *icache[ICACHE_HASH]; /* icache_lock */
static struct inode *lru_head, *lru_tail; /* icache_lock: longest unused at the head */
static unsigned icached;                  /* icache_lock */
static _Atomic uint64_t base_ns;          /* what the wall clock is ahead of arch_time_ns */

void inodes_init(void)
{
	mach_mutex_init(&vfs_lock, 1, "names");
	mach_mutex_init(&icache_lock, 5, "inodes");
	base_ns = cmdline_number("clock", arch_wall_time()) * 1000000000 - arch_time_ns();
}

uint64_t wall_base(void) { return base_ns; }
void wall_base_set(uint64_t ns) { base_ns = ns; }
uint64_t wall_ns(void) { return base_ns + arch_time_ns(); }
uint32_t vfs_now(void) { return (uint32_t)(wall_ns() / 1000000000); }

void inode_init(struct inode *i, const struct vnode_ops *vops, const struct inode_ops *ops,
    unsigned fs, uint64_t ino, unsigned mode)
{
	memset(i, 0, sizeof(*i));
	vnode_init(&i->i_vnode, the_vm, vops, i);
	i->i_ops = ops;
	i->i_fs = fs;
	i->i_ino = ino;
	i->i_mode = mode;
	i->i_uid = cred_current()->c_euid;
	i->i_gid = cred_current()->c_egid;
	i->i_nlink = 1;
	i->i_atime = i->i_mtime = i->i_ctime = vfs_now();
	mach_mutex_init(&i->i_lock, 2, "inode");
}

int inode_may_remove(const struct inode *dir, const struct inode *i)
{
	int err = inode_may_name_in(dir);

	if (err == 0 && (dir->i_mode & S_ISVTX) && inode_owned(i) != 0)
		err = inode_owned(dir);
	return err;
}

void inode_inherit_group(const struct inode *dir, struct inode *i)
{
	if (!(dir->i_mode & S_ISGID))
		return;
	i->i_gid = dir->i_gid;
	if (inode_type(i) == S_IFDIR)
		i->i_mode |= S_ISGID;
	if (i->i_ops->io_changed != NULL)
		i->i_ops->io_changed(i);
}

static unsigned hash_of(unsigned fs, uint64_t ino)
{
	return (unsigned)(ino * 31 + fs) % ICACHE_HASH;
}

static void lru_unlink(struct inode *i)
{
	*(i->i_lru_prev != NULL ? &i->i_lru_prev->i_lru_next : &lru_head) = i->i_lru_next;
	*(i->i_lru_next != NULL ? &i->i_lru_next->i_lru_prev : &lru_tail) = i->i_lru_prev;
}

static void lru_append(struct inode *i)
{
	i->i_lru_next = NULL;
	i->i_lru_prev = lru_tail;
	*(lru_tail != NULL ? &lru_tail->i_lru_next : &lru_head) = i;
	lru_tail = i;
}

struct inode *icache_find(unsigned fs, uint64_t ino)
{
	struct inode *i;

	mach_mutex_enter(&icache_lock);
	for (i = icache[hash_of(fs, ino)]; i != NULL && (i->i_fs != fs || i->i_ino != ino);
	     i = i->i_hash)
		;
	if (i != NULL) {
		inode_hold(i);
		lru_unlink(i);
		lru_append(i);
	}
	mach_mutex_exit(&icache_lock);
	return i;
}

/* ---- the name of an inode in a directory ---- */
struct finding {
	uint64_t f_ino;
	char *f_name; /* "": not found */
};

static bool find_name(
    void *arg, const char *name, size_t len, uint64_t ino, unsigned type, uint64_t next)
{
	struct finding *f = arg;

	(void)type, (void)next;
	if (ino != f->f_ino || (len == 1 && name[0] == '.') ||
	    (len == 2 && name[0] == '.' && name[1] == '.'))
		return true;
	memcpy(f->f_name, name, len);
	f->f_name[len] = '\0';
	return false;
}

int inode_name_in(struct inode *dir, uint64_t ino, char *name)
{
	struct finding f = { ino, name };
	uint64_t pos = 0;
	int err = 0;

	KASSERT(mach_mutex_held(&vfs_lock));
	name[0] = '\0';
	if (dir->i_ops->io_readdir != NULL)
		err = dir->i_ops->io_readdir(dir, &pos, find_name, &f);
	return err == 0 && name[0] == '\0' ? -ENOENT : err;
}

static bool is_unused(const struct inode *i) { return i->i_vnode.v_refcnt == 1; }

static void remove_locked(struct inode *i)
{
	struct inode **p = &icache[hash_of(i->i_fs, i->i_ino)];

	KASSERT(mach_mutex_held(&icache_lock));
	while (*p != i)
		p = &(*p)->i_hash;
	*p = i->i_hash;
	lru_unlink(i);
	i->i_cached = false;
	icached--;
}

/*
 * Takes an inode without other references out of the cache and gives the cache's reference to the
 * caller. want_dead: only an inode without names.
 */
static struct inode *take_unused(bool want_dead)
{
	struct inode *i;

	mach_mutex_enter(&icache_lock);
	for (i = lru_head; i != NULL && !(is_unused(i) && (!want_dead || i->i_nlink == 0));
	     i = i->i_lru_next)
		;
	if (i != NULL)
		remove_locked(i);
	mach_mutex_exit(&icache_lock);
	return i;
}

/* Drops the last reference: writes dirty data, or frees the blocks. */
static void let_go(struct inode *i)
{
	if (i->i_nlink != 0)
		(void)pvn_putpages(the_vm, &i->i_vnode, 0, 0, 0);
	if (i->i_ops->io_sync != NULL)
		(void)i->i_ops->io_sync(i);
	vnode_rele(&i->i_vnode);
}

void icache_add(struct inode *i)
{
	struct inode *old = NULL;

	inode_hold(i);
	mach_mutex_enter(&icache_lock);
	i->i_hash = icache[hash_of(i->i_fs, i->i_ino)];
	icache[hash_of(i->i_fs, i->i_ino)] = i;
	lru_append(i);
	i->i_cached = true;
	icached++;
	mach_mutex_exit(&icache_lock);
	while (icached > ICACHE_MAX && (old = take_unused(false)) != NULL)
		let_go(old);
}

void inode_put(struct inode *i)
{
	struct inode *dead = NULL;
	bool cached;

	if (i == NULL)
		return;
	if (i->i_ops->io_sync == NULL) {
		vnode_rele(&i->i_vnode);
		return;
	}
	mach_mutex_enter(&icache_lock);
	cached = i->i_cached;
	if (i->i_nlink == 0 && cached && i->i_vnode.v_refcnt == 2) {
		remove_locked(i);
		dead = i;
	}
	/*
	 * The decrement and the check are one step: otherwise two threads that put their references
	 * at the same time would each see the other's, and the file would stay.
	 */
	/* not the last reference: the cache's remains, or that of the list of dead inodes */
	if (cached)
		vnode_rele(&i->i_vnode);
	mach_mutex_exit(&icache_lock);
	if (!cached)
		vnode_rele(&i->i_vnode);
	if (dead != NULL)
		let_go(dead);
}

void icache_each(int (*fn)(struct inode *))
{
	for (unsigned h = 0; h < ICACHE_HASH; h++) {
		struct inode *i, *next;

		mach_mutex_enter(&icache_lock);
		if ((i = icache[h]) != NULL)
			inode_hold(i);
		mach_mutex_exit(&icache_lock);
		for (; i != NULL; i = next) {
			(void)fn(i);
			mach_mutex_enter(&icache_lock);
			if ((next = i->i_cached ? i->i_hash : NULL) != NULL)
				inode_hold(next);
			mach_mutex_exit(&icache_lock);
			inode_put(i);
		}
	}
}

static int sync_one(struct inode *i)
{
	if (i->i_nlink != 0)
		(void)vnode_sync(&i->i_vnode);
	return i->i_ops->io_sync != NULL ? i->i_ops->io_sync(i) : 0;
}

void inodes_sync(void)
{
	struct inode *dead;

	while ((dead = take_unused(true)) != NULL)
		let_go(dead);
	icache_each(sync_one);
}

/* ---- vnodes that have no pages ---- */
static void none_start(struct vnode *vp, struct vm_io *io)
{
	(void)vp;
	io->io_err = VM_EOF;
	io->io_ok = 0;
	io->io_done(io);
}
static void none_poll(struct vnode *vp, struct vm_io *io) { (void)vp, (void)io; }
static void none_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
}
static enum vm_err none_sync(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp, (void)off, (void)len;
	return VM_OK;
}
static uint64_t none_size(struct vnode *vp)
{
	(void)vp;
	return 0;
}
static void none_inactive(struct vnode *vp)
{
	struct inode *i = inode_of(vp);

	mach_mutex_fini(&i->i_lock);
	kfree(i, sizeof(*i));
}
static void none_kept(struct vnode *vp) { (void)vp; }

const struct vnode_ops none_vnode_ops = { .vo_name = "none",
	.vo_start = none_start,
	.vo_poll = none_poll,
	.vo_discard = none_discard,
	.vo_sync = none_sync,
	.vo_size = none_size,
	.vo_inactive = none_inactive };
const struct vnode_ops kept_vnode_ops = { .vo_name = "none",
	.vo_start = none_start,
	.vo_poll = none_poll,
	.vo_discard = none_discard,
	.vo_sync = none_sync,
	.vo_size = none_size,
	.vo_inactive = none_kept };

struct inode *anon_inode(const struct inode_ops *ops, unsigned mode)
{
	static uint64_t last;
	struct inode *i = kzalloc(sizeof(*i));

	if (i != NULL)
		inode_init(i, &none_vnode_ops, ops, ANON_FS,
		    __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED), mode);
	return i;
}
