/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files: inodes (inode.c), names (vfs.c), open files (open.c, file.c). The head of each of these
 * files has its theory.
 */
#ifndef QUIRE_KERNEL_VFS_H
#define QUIRE_KERNEL_VFS_H

#include "kernel/core/kernel.h"
#include "kernel/proc/cred.h"

/* Linux's, as programs see them. */
#define S_IFMT 0170000u
#define S_IFSOCK 0140000u
#define S_IFLNK 0120000u
#define S_IFREG 0100000u
#define S_IFBLK 0060000u
#define S_IFDIR 0040000u
#define S_IFCHR 0020000u
#define S_IFIFO 0010000u
#define S_ISUID 04000u
#define S_ISGID 02000u
#define S_ISVTX 01000u
#define O_ACCMODE 3u
#define O_WRONLY 1u
#define O_RDWR 2u
#define O_CREAT 0100u
#define O_EXCL 0200u
#define O_NOCTTY 0400u
#define O_TRUNC 01000u
#define O_APPEND 02000u
#define O_NONBLOCK 04000u
#define O_DIRECT 040000u
#define O_DIRECTORY 0200000u
#define O_NOFOLLOW 0400000u
#define O_CLOEXEC 02000000u
#define O_PATH 010000000u
#define POLLIN 1
#define POLLOUT 4
#define POLLERR 8
#define POLLHUP 16
#define POLLNVAL 32
#define POLLRDNORM 64
#define POLLWRNORM 256
#define POLLRDHUP 0x2000
#define FILE_BYTES_MOST (1ull << 32)
#define PATH_MAX 4096u
#define NAME_MAX 255u
#define MAXLINKS 40u /* that are followed for one name */

struct inode;
struct text;
struct file;
typedef bool readdir_fn(
    void *arg, const char *name, size_t len, uint64_t ino, unsigned type, uint64_t next);

/*
 * 0 or a negative error. Operations of directories are called with vfs_lock held, others with the
 * locks named at each. NULL: -EPERM or -ENOTDIR.
 */
struct inode_ops {
	int (*io_lookup)(
	    struct inode *dir, const char *name, size_t len, struct inode **); /* *: a reference */
	int (*io_create)(struct inode *dir, const char *name, size_t len, unsigned mode,
	    uint64_t rdev, struct inode **);
	int (*io_link)(struct inode *dir, const char *name, size_t len, struct inode *);
	int (*io_unlink)(
	    struct inode *dir, const char *name, size_t len, struct inode *, bool rmdir);
	int (*io_rename)(struct inode *from, const char *name, size_t len, struct inode *,
	    struct inode *to, const char *nname, size_t nlen, struct inode *old);
	int (*io_readdir)(struct inode *dir, uint64_t *pos, readdir_fn *, void *arg);
	int (*io_readlink)(struct inode *, char *buf, size_t room); /* bytes */
	/*
	 * The target of a link that is more than its text, as /proc/PID/fd/N; gives a reference.
	 * NULL: the text is a path
	 */
	int (*io_follow)(struct inode *, struct inode **);
	int (*io_truncate)(struct inode *, uint64_t size); /* i_lock held */
	/*
	 * Allocates all blocks for [off, off + len), before the range is written through the page
	 * cache; or -ENOSPC. i_lock held
	 */
	int (*io_extend)(struct inode *, uint64_t off, uint64_t len);
	/* mode, owner or times have changed and are to be written later */
	void (*io_changed)(struct inode *);
	int (*io_sync)(struct inode *); /* writes all data of the inode, but not its pages */
	/* Opens the inode; NULL: its files use the pages of the vnode. */
	int (*io_open)(struct inode *, struct file *);
	/* Makes the text of a file of /proc at its opening, by text_printf. */
	int (*io_text)(struct inode *, struct text *);
};

struct inode {
	struct vnode i_vnode;          /* the vnode's reference count is the inode's */
	const struct inode_ops *i_ops; /* const */
	struct inode *i_hash, *i_lru_next, *i_lru_prev; /* icache_lock */
	unsigned i_fs;                                  /* const: st_dev */
	uint64_t i_ino;                                 /* const */
	/* vfs_lock: the directory in which the inode was found last; 0: none yet */
	uint64_t i_parent;
	/* sleeps: guards the size and changes of the contents as a whole */
	struct mach_mutex i_lock;
	unsigned i_mode, i_uid, i_gid;      /* no lock: the later of two changes is kept */
	unsigned i_nlink;                   /* vfs_lock */
	uint64_t i_size;                    /* i_lock to change */
	uint64_t i_blocks;                  /* i_lock: blocks of 512 bytes */
	uint32_t i_atime, i_mtime, i_ctime; /* no lock: the later of two changes is kept */
	uint64_t i_rdev;                    /* const */
	/* i_lock: shared mappings may write to the file, so it has no holes within them */
	bool i_filled;
	bool i_cached; /* icache_lock: the cache has a reference */
	bool i_dirty;  /* set by any thread, cleared by io_sync, which writes after that */
	void *i_data;  /* const: the file system's operations */
};
static inline struct inode *inode_of(struct vnode *vp) { return (struct inode *)(void *)vp; }
static inline unsigned inode_type(const struct inode *i) { return i->i_mode & S_IFMT; }

/* The inode belongs to the running program's effective user and group. */
void inode_init(struct inode *, const struct vnode_ops *, const struct inode_ops *, unsigned fs,
    uint64_t ino, unsigned mode);
static inline struct inode *inode_hold(struct inode *i)
{
	vnode_hold(&i->i_vnode);
	return i;
}
void inode_put(struct inode *);
/* Has the running program these rights (MAY_*) to the inode? 0 or -EACCES. */
static inline int inode_may(const struct inode *i, unsigned want)
{
	return cred_may(cred_current(), i->i_uid, i->i_gid, i->i_mode, want);
}
/* May the running program change what only the owner may? 0 or -EPERM. */
static inline int inode_owned(const struct inode *i)
{
	return cred_is_root() || cred_current()->c_euid == i->i_uid ? 0 : -EPERM;
}
/* May the running program give names in the directory? 0 or -EACCES. */
static inline int inode_may_name_in(const struct inode *dir)
{
	return inode_may(dir, MAY_WRITE | MAY_EXEC);
}
/*
 * May the running program remove or change the name of the inode in the directory? It needs the right to write to the
 * directory; if that is sticky, the file or the directory must be its own. 0, -EACCES, -EPERM.
 */
int inode_may_remove(const struct inode *dir, const struct inode *);
/*
 * Gives a new inode the group of the directory if that has the bit of setgid, and to a new directory
 * the bit, too. vfs_lock held.
 */
void inode_inherit_group(const struct inode *dir, struct inode *);
/*
 * The cache of inodes that can be read again. find: returns a reference, or NULL. add: the cache
 * takes its own reference.
 */
struct inode *icache_find(unsigned fs, uint64_t ino);
/*
 * Finds the inode's name in the directory: "." and ".." do not count. name: room for NAME_MAX + 1.
 * 0; -ENOENT: none; or an error of the disk. vfs_lock held; may sleep.
 */
int inode_name_in(struct inode *dir, uint64_t ino, char *name);
void icache_add(struct inode *);
void icache_each(int (*fn)(struct inode *));
extern struct mach_mutex vfs_lock; /* names: every directory */
void inodes_init(void);            /* called before any of the functions below */
/* Writes every cached inode, with its pages; frees inodes without names and users. May sleep. */
void inodes_sync(void);
uint32_t vfs_now(void);

/* ---- names ---- */
#define WALK_NOFOLLOW 1u
int vfs_walk(struct inode *start, const char *path, unsigned flags, struct inode **);
/* Finds the directory of the last component, and copies the component to name (NAME_MAX + 1). */
int vfs_walk_parent(struct inode *start, const char *path, struct inode **dir, char *name);
int vfs_open(struct inode *start, const char *path, unsigned flags, unsigned mode, struct file **);
/*
 * Makes a new file of a kind that io_create makes, with the mode and rdev that io_create takes;
 * *ip: a reference. -EEXIST: the name is taken; -EPERM: the directory's file system makes no files.
 * Takes vfs_lock; may sleep.
 */
int vfs_make(struct inode *start, const char *path, unsigned mode, uint64_t rdev, struct inode **);
/* absolute path; returns its bytes with the terminating 0 */
int vfs_path(struct inode *dir, char *buf, size_t room);
/* The same for any inode. -ENOENT: the inode has no name any more, or was never found by name. */
int vfs_path_file(struct inode *, char *buf, size_t room);
void vfs_mount(const char *path, struct inode *root);
/* Is a file system mounted on the directory? Then its name cannot be changed or removed: EBUSY. */
bool vfs_is_covered(const struct inode *);
extern struct inode *vfs_root;
void vfs_init(void);
void vfs_sync(void);
void swap_init(void);

/* ---- open files ---- */
struct pollwait;
struct iovec;
struct file_ops {
	/*
	 * buf: kernel memory. Return bytes, or a negative error. Blocking calls return -EINTR
	 * (ERESTART) when a signal arrives.
	 */
	int64_t (*fo_read)(struct file *, void *buf, uint64_t len, uint64_t off);
	int64_t (*fo_write)(struct file *, const void *buf, uint64_t len, uint64_t off);
	/*
	 * For files that carry messages: moves the program's n pieces in one transfer. NULL: the
	 * pieces are moved one by one.
	 */
	int64_t (*fo_vector)(struct file *, const struct iovec *, unsigned n, bool write);
	int (*fo_poll)(struct file *); /* returns the POLL* bits that are set now */
	/*
	 * How often something has happened that fo_poll tells of by one of these POLL* bits: data
	 * that came, room that a full queue got, an end. For edge-triggered epoll; NULL: the file
	 * does not count.
	 */
	uint64_t (*fo_news)(struct file *, int bits);
	int64_t (*fo_ioctl)(struct file *, unsigned cmd, uint64_t arg);
	void (*fo_close)(struct file *);
	bool fo_seekable;
};
struct file {
	_Atomic unsigned f_refcnt;
	unsigned f_flags;         /* O_*, changed by F_SETFL */
	uint64_t f_serial;        /* const: no other file has or had it */
	uint64_t f_off;           /* f_lock */
	struct mach_mutex f_lock; /* of f_off */
	const struct file_ops *f_ops;
	struct inode *f_inode; /* a reference */
	void *f_data;
	uint64_t f_size;
};
/* Makes zeroed memory an open file of the inode, whose reference is taken over. */
void file_init(struct file *, struct inode *, const struct file_ops *, unsigned flags);
int file_new(struct inode *, const struct file_ops *, unsigned flags,
    struct file **); /* takes over the reference of inode */
/*
 * Makes a file without a name whose kind is given by its operations (an eventfd and the like).
 * f_data: zeroed memory of `bytes` bytes, which fo_close frees. NULL: no memory.
 */
struct file *anon_file(const struct file_ops *, unsigned mode, unsigned flags, size_t bytes);
void file_hold(struct file *);
/* As the file was opened. */
static inline bool file_may_read(const struct file *f)
{
	return !(f->f_flags & O_PATH) && (f->f_flags & O_ACCMODE) != O_WRONLY;
}
static inline bool file_may_write(const struct file *f)
{
	return !(f->f_flags & O_PATH) && (f->f_flags & O_ACCMODE) != 0;
}
void file_put(struct file *);
extern const struct file_ops file_pages_ops, file_text_ops;

/* ---- locks of programs on files: filelock.c ---- */
void filelock_init(void);
/* F_GETLK, F_SETLK and the like */
int64_t filelock_fcntl(struct file *, unsigned cmd, uint64_t arg);
int64_t filelock_flock(struct file *, unsigned op);
/* Drops the locks of a process or of an open file; i: on that file, NULL: all. */
void filelock_drop(const void *owner, const struct inode *i);
/* ---- what happens to files, for inotify: notify.c ---- */
enum { /* Linux's */
	IN_ACCESS = 1,
	IN_MODIFY = 2,
	IN_ATTRIB = 4,
	IN_CLOSE_WRITE = 8,
	IN_CLOSE_NOWRITE = 0x10,
	IN_OPEN = 0x20,
	IN_MOVED_FROM = 0x40,
	IN_MOVED_TO = 0x80,
	IN_CREATE = 0x100,
	IN_DELETE = 0x200,
	IN_DELETE_SELF = 0x400,
	IN_MOVE_SELF = 0x800,
	IN_ALL = 0xfff, /* that a watch can ask for */
	IN_Q_OVERFLOW = 0x4000,
	IN_IGNORED = 0x8000,
	IN_MASK_CREATE = 0x10000000,
	IN_MASK_ADD = 0x20000000,
	IN_ISDIR = 0x40000000,
};
#define IN_ONESHOT 0x80000000u
void notify_init(void);
/*
 * Something happened to the inode: told to its watches and, with its name, to those of its
 * directory. Takes vfs_lock unless it is held; may sleep.
 */
void notify_inode(struct inode *, uint32_t mask);
/* The same, told to the inode's own watches only; vfs_lock may be held. */
void notify_self(struct inode *, uint32_t mask);
/*
 * Something happened to a name of the directory, which is or was that of the inode. cookie: the
 * same for both names of a move, else 0. vfs_lock may be held.
 */
void notify_entry(
    struct inode *dir, const char *name, const struct inode *, uint32_t mask, uint32_t cookie);
/* The inode has lost its last name: its watches end. The caller has a reference. */
void notify_gone(struct inode *);
/*
 * A file from which events are read: anon_file makes it with these operations and this size, and
 * notify_begin makes it ready. The calls below take no other file.
 */
extern const struct file_ops notify_ops;
extern const size_t notify_bytes;
void notify_begin(struct file *);
/* Watches the inode, or changes its watch: the watch's number, -EEXIST (IN_MASK_CREATE), -ENOMEM. */
int notify_watch(struct file *, struct inode *, uint32_t mask);
int notify_unwatch(struct file *, int number); /* 0; -EINVAL: no watch has the number */

/* Every thread that polls waits here; the thread that makes a file ready wakes the queue. */
extern struct waitq poll_queue;

/* ---- text for /proc ---- */
struct text {
	char *x_at;
	size_t x_n, x_room;
};
void text_printf(struct text *, const char *, ...) __attribute__((format(printf, 2, 3)));

/* ---- the file systems ---- */
struct disk;
/*
 * dir_ops: the operations of directories. They are a parameter, as their file is a floor above the
 * file that makes inodes.
 */
int ext2_mount(struct disk *, const struct inode_ops *dir_ops, struct inode **root);
extern const struct inode_ops ext2_dir_ops;
int ext2_iget(uint64_t ino, struct inode **); /* *: a reference */
int ext2_sync_all(void);                      /* metadata; 0 or a negative error */
void ext2_statfs(uint64_t out[4]);            /* blocks, free, inodes, free */
#define ANON_FS 3u /* i_fs of inodes that no directory has: pipes, eventfds and their like */
struct inode *devfs_init(void);
/* The operations of a device node with that number; NULL: there is no such device. */
const struct file_ops *devfs_find(uint64_t rdev);
struct inode *procfs_init(void);
int pipe_new(struct file **r, struct file **w, unsigned flags);
/* For a writer whose data no process will read: sends SIGPIPE. Returns -EPIPE. */
int pipe_broken(void);
int fifo_open(struct inode *, struct file *); /* makes the file an end of the FIFO; 0 or an error */
void fifo_init(void);
bool file_is_pipe(const struct file *);
#define SPLICE_F_NONBLOCK 2u
/*
 * Puts page-aligned pages of this program into the pipe: by copy-on-write, or (gift) for good.
 * Returns bytes or a negative error.
 */
int64_t pipe_give_pages(struct file *, vaddr_t, uint64_t len, bool gift, bool nonblock);
/*
 * Moves the pipe's next pages into this program's memory, which they replace. 0: they cannot be
 * moved and must be read.
 */
int64_t pipe_take_pages(struct file *, vaddr_t, uint64_t len, bool nonblock);
/* For splice and tee. The files are pipes; only pipe_await waits for a pipe. */
bool pipe_same(const struct file *, const struct file *);
bool pipe_has_bytes(const struct file *);
uint64_t pipe_room(const struct file *); /* bytes that may be written */
/*
 * Waits until the pipe can be read, or written. -EAGAIN: nonblock is set; -EPIPE: no reading end is
 * open, SIGPIPE was sent; -ERESTART: a signal arrived.
 */
int pipe_await(struct file *, bool write, bool nonblock);
/*
 * Copies up to len bytes from the pipe to a file at off, or to another pipe (take: removes them
 * from the first). buf has room for len. Returns bytes; 0: the pipe is empty.
 */
int64_t pipe_to_file(struct file *in, struct file *out, char *buf, uint64_t len, uint64_t off);
int64_t pipe_to_pipe(struct file *in, struct file *out, char *buf, uint64_t len, bool take);
int memfile_new(
    struct inode **); /* tmpfs.c: a file of anonymous memory; the caller gets a reference in * */
struct inode *tmpfs_init(void);
/*
 * Returns the anonymous memory that backs a file of tmpfs, for mapping; NULL: the inode is no file
 * of tmpfs.
 */
struct anon_map *tmpfs_memory(struct inode *);
/*
 * Maps bytes of such a file at an address of the space by copy-on-write. An access behind the page
 * in which the file ends now gives SIGBUS. 0; -EEXIST: something is mapped there; or another error
 */
int tmpfs_snapshot(
    struct inode *, uint64_t off, uint64_t len, struct as *to, vaddr_t at, unsigned prot);
/* A directory that names the file, referenced; NULL: none, or no file of tmpfs. */
struct inode *tmpfs_directory_of(struct inode *);
extern struct file_ops const tty_ops;
void tty_init(void);
void tty_set_foreground(int pgid); /* whom ^C reaches */
#endif
