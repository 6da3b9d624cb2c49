/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inodes and names.
 *
 * An inode begins with its vnode, whose reference count is the inode's: mappings of a file hold the vnode, so the inode
 * lives as long as anybody maps, opens or names it. Inodes that can be read again are in a cache, which has a reference of its own;
 * when it is full, the one that nobody else has used for the longest goes, with its pages.
 *
 * A file whose last name and last user are gone is found when its reference is put (or at the next sync, if a mapping was the
 * last user): it leaves the cache, and its last reference frees its blocks (io_sync of a file without names).
 *
 * Names: vfs_lock, one for all directories, is held while a directory is read or changed. A mount is a pair of inodes.
 *
 * Lock order: vfs_lock, i_lock, the file system's own, icache_lock; all sleep and all are outside of the vm's.
 * Left out: permissions (every program is root), a cache of names, unmounting.
 */
#include "kernel/dev/virtio_blk.h"
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#define ICACHE_HASH 128u
#define ICACHE_MAX 512u
#define MAXMOUNTS 8u
#define MAXLINKS 40u

struct mach_mutex vfs_lock;
static struct mach_mutex icache_lock;
static struct inode *icache[ICACHE_HASH]; /* icache_lock */
static struct inode *lru_head, *lru_tail; /* icache_lock: longest unused at the head */
static unsigned icached;                  /* icache_lock */
static struct mount {
	struct inode *m_covered, *m_root, *m_parent;
} mounts[MAXMOUNTS];
static unsigned nmounts;
struct inode *vfs_root;
static uint64_t wall_base;

uint32_t vfs_now(void) { return (uint32_t)(wall_base + arch_time_ns() / 1000000000); }

uint64_t wall_ns(void) { return wall_base * 1000000000 + arch_time_ns(); }

/* ---- inodes ---- */
void inode_init(struct inode *i, const struct vnode_ops *vops, const struct inode_ops *ops,
    unsigned fs, uint64_t ino, unsigned mode)
{
	memset(i, 0, sizeof(*i));
	vnode_init(&i->i_vnode, the_vm, vops, i);
	i->i_ops = ops;
	i->i_fs = fs;
	i->i_ino = ino;
	i->i_mode = mode;
	i->i_nlink = 1;
	i->i_atime = i->i_mtime = i->i_ctime = vfs_now();
	mach_mutex_init(&i->i_lock, 2, "inode");
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

/* Takes an inode that only the cache has out of it; the reference is the caller's. want_dead: only one without names. */
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

/* The last reference: what is not written yet is, or the blocks are freed. */
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

	if (i == NULL)
		return;
	if (i->i_nlink != 0 || i->i_ops->io_sync == NULL) {
		vnode_rele(&i->i_vnode);
		return;
	}
	mach_mutex_enter(&icache_lock);
	if (i->i_cached && i->i_vnode.v_refcnt == 2) {
		remove_locked(i);
		dead = i;
	}
	mach_mutex_exit(&icache_lock);
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

void vfs_sync(void)
{
	struct inode *dead;

	while ((dead = take_unused(true)) != NULL)
		let_go(dead);
	icache_each(sync_one);
	(void)ext2_sync_all();
}

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

static struct inode *enter_mount(struct inode *i)
{
	for (unsigned m = 0; m < nmounts; m++) {
		if (mounts[m].m_covered == i) {
			inode_put(i);
			return inode_hold(mounts[m].m_root);
		}
	}
	return i;
}

static struct inode *above_mount(const struct inode *i)
{
	for (unsigned m = 0; m < nmounts; m++)
		if (mounts[m].m_root == i)
			return mounts[m].m_parent;
	return NULL;
}

/* ---- walking ---- */
/* Where absolute names of the running program begin. */
static struct inode *root_of_caller(void)
{
	const struct proc *p = this_proc();

	return p != NULL && p->p_root != NULL ? p->p_root : vfs_root;
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

/* Where the link *ip, found in dir, leads: *ip becomes that. The reference of *ip is used up, also on an error. */
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

/* Past the component at path; *next: at the next component or the end. */
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
 * Walks path from start. last: NULL to walk all of it, else where the last component goes, which is not walked. The caller's
 * links counts the links followed.
 */
static int walk_path(struct inode *start, const char *path, unsigned flags, char *last,
    unsigned *links, struct inode **found)
{
	struct inode *at = inode_hold(path[0] == '/' || start == NULL ? root_of_caller() : start);
	const char *end, *after;
	int err = path[0] == '\0' ? -ENOENT : 0;

	while (*path == '/')
		path++;
	for (; err == 0 && *path != '\0'; path = after) {
		struct inode *next;
		size_t n;

		end = skip_component(path, &after);
		n = (size_t)(end - path);
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

/* ---- opening ---- */
/* The file becomes what its inode's kind asks for. After an error the caller gives f other operations. */
static int open_kind(struct inode *i, struct file *f)
{
	switch (inode_type(i)) {
	case S_IFIFO: return fifo_open(i, f);
	case S_IFSOCK:
	case S_IFBLK: return -ENXIO;
	case S_IFCHR: f->f_ops = devfs_find(i->i_rdev); return f->f_ops != NULL ? 0 : -ENXIO;
	default:
		if (i->i_fs == ANON_FS) /* an eventfd's and the like, by /proc/PID/fd/N */
			return -ENXIO;
		return i->i_ops->io_open != NULL ? i->i_ops->io_open(i, f) : 0;
	}
}

static int open_inode(struct inode *i, unsigned flags, struct file **fp)
{
	int err;

	if (flags & O_PATH)
		return file_new(i, &file_pages_ops, flags, fp);
	if (inode_type(i) == S_IFDIR && ((flags & O_ACCMODE) != 0 || (flags & O_TRUNC))) {
		inode_put(i);
		return -EISDIR;
	}
	if (inode_type(i) != S_IFDIR && (flags & O_DIRECTORY)) {
		inode_put(i);
		return -ENOTDIR;
	}
	if (inode_type(i) == S_IFLNK) {
		inode_put(i);
		return -ELOOP;
	}
	if ((flags & O_TRUNC) && inode_type(i) == S_IFREG && i->i_ops->io_truncate != NULL) {
		mach_mutex_enter(&i->i_lock);
		err = i->i_ops->io_truncate(i, 0);
		mach_mutex_exit(&i->i_lock);
		if (err != 0) {
			inode_put(i);
			return err;
		}
	}
	if ((err = file_new(i, &file_pages_ops, flags, fp)) != 0)
		return err;
	if ((err = open_kind(i, *fp)) != 0) {
		(*fp)->f_ops = &file_pages_ops;
		file_put(*fp);
	}
	return err;
}

/* The file is made unless it is there. */
static int create_file(
    struct inode *start, const char *path, unsigned flags, unsigned mode, struct inode **ip)
{
	char *name = kalloc(NAME_MAX + 1);
	struct inode *dir;
	int err;

	if (name == NULL)
		return -ENOMEM;
	if ((err = vfs_walk_parent(start, path, &dir, name)) == 0) {
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
			    : dir->i_ops->io_create(
				  dir, name, strlen(name), S_IFREG | (mode & 07777), 0, ip);
		}
		if (err == 0)
			(*ip)->i_parent = dir->i_ino;
		mach_mutex_exit(&vfs_lock);
		inode_put(dir);
	}
	kfree(name, NAME_MAX + 1);
	if (err == 0 && inode_type(*ip) == S_IFLNK) {
		inode_put(*ip);
		err = vfs_walk(start, path, 0, ip);
	}
	return err;
}

int vfs_open(struct inode *start, const char *path, unsigned flags, unsigned mode, struct file **fp)
{
	struct inode *i;
	int err;

	err = vfs_walk(start, path,
	    flags & (O_NOFOLLOW | O_PATH) && (flags & O_NOFOLLOW) ? WALK_NOFOLLOW : 0, &i);
	if (err == 0 && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
		inode_put(i);
		return -EEXIST;
	}
	if (err == -ENOENT && (flags & O_CREAT))
		err = create_file(start, path, flags, mode, &i);
	return err != 0 ? err : open_inode(i, flags, fp);
}

/* ---- the path of a directory, from its end ---- */
struct finding {
	uint64_t f_ino;
	char *f_name;
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
		struct finding f = { i->i_ino, name };
		struct inode *covered = NULL;
		uint64_t pos = 0;

		(void)mount_name(i, &covered);
		if (covered != NULL)
			f.f_ino = covered->i_ino;
		name[0] = '\0';
		if ((err = lookup_component(i, "..", 2, &up)) != 0)
			break;
		mach_mutex_enter(&vfs_lock);
		if (up->i_ops->io_readdir != NULL)
			(void)up->i_ops->io_readdir(up, &pos, find_name, &f);
		mach_mutex_exit(&vfs_lock);
		inode_put(i);
		i = up;
		if (name[0] == '\0')
			err = -ENOENT;
		else if (strlen(name) + 1 > at)
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
	char name[NAME_MAX + 1] = "";
	struct finding f = { i->i_ino, name };
	struct inode *dir = NULL;
	uint64_t pos = 0;
	int n;

	if (inode_type(i) == S_IFDIR)
		return vfs_path(i, buf, room);
	if ((dir = tmpfs_directory_of(i)) == NULL && i->i_parent == 0)
		return -ENOENT;
	if (dir == NULL)
		dir = icache_find(i->i_fs, i->i_parent);
	if (dir == NULL && (i->i_fs != vfs_root->i_fs || ext2_iget(i->i_parent, &dir) != 0))
		return -ENOENT;
	if ((n = vfs_path(dir, buf, room)) > 0) {
		mach_mutex_enter(&vfs_lock);
		(void)dir->i_ops->io_readdir(dir, &pos, find_name, &f);
		mach_mutex_exit(&vfs_lock);
		if (name[0] == '\0')
			n = -ENOENT;
		else if ((size_t)n + strlen(name) + 1 > room)
			n = -ERANGE;
		else
			n += ksnprintf(
			    buf + n - 1, room - (size_t)n + 1, n == 2 ? "%s" : "/%s", name);
	}
	inode_put(dir);
	return n;
}

/* ---- the beginning ---- */
static void write_behind(void *arg)
{
	static struct waitq never;

	(void)arg;
	for (;;) {
		bool irq = spin_lock(&sched_lock);

		(void)wait_on(&never, arch_time_ns() + 5000000000u, false);
		spin_unlock(&sched_lock, irq);
		work_begin();
		thread_free_dead();
		vfs_sync();
		work_end();
	}
}

void vfs_init(void)
{
	struct disk *d = blk_disk((unsigned)cmdline_number("root", 0));
	struct thread *t;
	int err;

	mach_mutex_init(&vfs_lock, 1, "names");
	mach_mutex_init(&icache_lock, 5, "inodes");
	wall_base = cmdline_number("clock", arch_wall_time());
	wall_base -= arch_time_ns() / 1000000000;
	if (d == NULL)
		kpanic("there is no disk for the root file system");
	if ((err = ext2_mount(d, &vfs_root)) != 0)
		kpanic("the root file system: error %d", -err);
	tty_init();
	fifo_init();
	filelock_init();
	vfs_mount("/dev", devfs_init());
	vfs_mount("/proc", procfs_init());
	vfs_mount("/dev/shm", tmpfs_init());
	if ((t = thread_new(write_behind, NULL, "write-behind")) != NULL)
		thread_go(t);
}

void swap_init(void)
{
	char list[64];
	const char *p = list;

	if (!cmdline_get("swap", list, sizeof(list)))
		return;
	while (*p != '\0') { /* numbers of disks, with :priority */
		unsigned n = (unsigned)parse_number(p, &p);
		int prio = *p == ':' ? (int)parse_number(p + 1, &p) : 0;
		struct disk *d = blk_disk(n);
		enum vm_err e =
		    d == NULL ? VM_INVAL : swap_add(the_vm, blk_swap_vnode(d), blk_pages(d), prio);

		if (e != VM_OK)
			kprintf("swap on disk %u: %s\n", n, vm_err_name(e));
		if (*p == ',')
			p++;
		else
			break;
	}
}
