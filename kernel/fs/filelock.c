/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * File locks: advice between programs about ranges of a file.
 *
 * A lock has an owner: the process (fcntl's F_SETLK), or the open file (F_OFD_SETLK, and flock,
 * which locks the whole file). Locks of the two calls do not see each other. A process's locks on a
 * file are dropped when the process closes any descriptor of the file, and when the process ends;
 * an open file's locks at its last close.
 *
 * All locks are in one list. Setting a range first cuts it out of the owner's locks, then adds it.
 * Locks: lock_lock (sleeps) guards the list; every release wakes a waiting thread, which tries
 * again. Left out: EDEADLK; adjacent locks of an owner stay apart, which programs see only by
 * F_GETLK.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#define F_RDLCK 0
#define F_WRLCK 1
#define F_UNLCK 2
#define TO_END (~0ull >> 1)
#define LOCKS_MAX 4096u

struct filelock {
	struct filelock *l_next;     /* lock_lock */
	const struct inode *l_inode; /* const: the owner's open file has a reference */
	const void *l_owner;         /* const */
	bool l_flock;                /* const: flock's */
	int l_type, l_pid;           /* const */
	uint64_t l_from, l_to;       /* lock_lock: first and last byte */
};
static struct mach_mutex lock_lock;
static struct filelock *locks;  /* lock_lock */
static _Atomic unsigned nlocks; /* lock_lock to change */
static struct waitq lock_wait;  /* sched_lock */

void filelock_init(void) { mach_mutex_init(&lock_lock, 5, "file locks"); }

static bool ranges_meet(const struct filelock *a, const struct filelock *b)
{
	return a->l_inode == b->l_inode && a->l_flock == b->l_flock && a->l_from <= b->l_to &&
	    b->l_from <= a->l_to;
}

/* The first lock of another owner that excludes want; NULL: none. lock_lock held. */
static const struct filelock *find_conflict(const struct filelock *want)
{
	const struct filelock *l = locks;

	while (l != NULL &&
	    !(ranges_meet(l, want) && l->l_owner != want->l_owner &&
		(l->l_type == F_WRLCK || want->l_type == F_WRLCK)))
		l = l->l_next;
	return l;
}

static void free_lock(struct filelock **p)
{
	struct filelock *l = *p;

	*p = l->l_next;
	nlocks--;
	kfree(l, sizeof(*l));
}

static void add_lock(struct filelock *l)
{
	l->l_next = locks;
	locks = l;
	nlocks++;
}

/*
 * Removes the owner's locks in the range. *spare: for a lock that is cut in two; NULL after its
 * use. lock_lock held.
 */
static void cut_range(const struct filelock *range, struct filelock **spare)
{
	for (struct filelock **p = &locks, *l; (l = *p) != NULL;) {
		if (l->l_owner != range->l_owner || !ranges_meet(l, range)) {
			p = &l->l_next;
			continue;
		}
		if (l->l_from >= range->l_from && l->l_to <= range->l_to) {
			free_lock(p);
			continue;
		}
		if (l->l_from < range->l_from && l->l_to > range->l_to) {
			**spare = *l;
			(*spare)->l_from = range->l_to + 1;
			l->l_to = range->l_from - 1;
			add_lock(*spare);
			*spare = NULL;
			return;
		}
		if (l->l_from < range->l_from)
			l->l_to = range->l_from - 1;
		else
			l->l_from = range->l_to + 1;
		p = &l->l_next;
	}
}

/* 0, -EAGAIN, -ENOLCK, -ERESTART. F_UNLCK never waits. */
static int set_lock(const struct filelock *want, bool wait)
{
	struct filelock *fresh = kalloc(sizeof(*fresh)), *spare = kalloc(sizeof(*spare));
	int err = fresh == NULL || spare == NULL || nlocks > LOCKS_MAX ? -ENOLCK : 0;

	while (err == 0) {
		bool irq;

		mach_mutex_enter(&lock_lock);
		if (want->l_type == F_UNLCK || find_conflict(want) == NULL)
			break;
		if (!wait) {
			mach_mutex_exit(&lock_lock);
			err = -EAGAIN;
			break;
		}
		irq = spin_lock(&sched_lock);
		mutex_exit_locked(&lock_lock);
		err = wait_on(&lock_wait, 0, true) == -EINTR ? -ERESTART : 0;
		spin_unlock(&sched_lock, irq);
	}
	if (err == 0) {
		cut_range(want, &spare);
		if (want->l_type != F_UNLCK) {
			*fresh = *want;
			add_lock(fresh);
			fresh = NULL;
		}
		mach_mutex_exit(&lock_lock);
		wake(&lock_wait);
	}
	kfree(fresh, sizeof(*fresh));
	kfree(spare, sizeof(*spare));
	return err;
}

struct flock { /* Linux's */
	int16_t type, whence;
	int32_t pad;
	int64_t start, len;
	int32_t pid, pad2;
};

/* The range of bytes that a request names. */
static int range_of(struct file *f, const struct flock *fl, struct filelock *l)
{
	int64_t from = fl->start;

	if (fl->type < F_RDLCK || fl->type > F_UNLCK || fl->whence < 0 || fl->whence > 2)
		return -EINVAL;
	if (fl->whence == 1)
		from += (int64_t)f->f_off;
	else if (fl->whence == 2)
		from += (int64_t)f->f_inode->i_size;
	if (fl->len < 0)
		from += fl->len;
	if (from < 0)
		return -EINVAL;
	l->l_from = (uint64_t)from;
	l->l_to = TO_END;
	if (fl->len != 0)
		l->l_to = l->l_from + (uint64_t)(fl->len < 0 ? -fl->len : fl->len) - 1;
	return l->l_to > TO_END ? -EOVERFLOW : 0;
}

static int64_t tell_conflict(const struct filelock *want, struct flock *fl, uint64_t arg)
{
	const struct filelock *l;

	mach_mutex_enter(&lock_lock);
	if ((l = find_conflict(want)) == NULL) {
		fl->type = F_UNLCK;
	} else {
		fl->type = (int16_t)l->l_type;
		fl->whence = 0;
		fl->start = (int64_t)l->l_from;
		fl->len = l->l_to == TO_END ? 0 : (int64_t)(l->l_to - l->l_from + 1);
		fl->pid = l->l_pid;
	}
	mach_mutex_exit(&lock_lock);
	return copy_out(arg, fl, sizeof(*fl));
}

int64_t filelock_fcntl(struct file *f, unsigned cmd, uint64_t arg)
{
	bool ofd = cmd >= 36; /* F_OFD_GETLK, _SETLK, _SETLKW follow each other as F_GETLK does */
	unsigned what = ofd ? cmd - 36 : cmd - 5;
	struct filelock want = { .l_inode = f->f_inode,
		.l_owner = ofd ? (const void *)f : (const void *)this_proc(),
		.l_pid = ofd ? -1 : this_proc()->p_pid };
	struct flock fl;
	int err;

	if (copy_in(&fl, arg, sizeof(fl)) != 0)
		return -EFAULT;
	if ((err = range_of(f, &fl, &want)) != 0)
		return err;
	want.l_type = fl.type;
	if (what == 0)
		return fl.type == F_UNLCK ? -EINVAL : tell_conflict(&want, &fl, arg);
	if ((fl.type == F_RDLCK && (f->f_flags & O_ACCMODE) == O_WRONLY) ||
	    (fl.type == F_WRLCK && (f->f_flags & O_ACCMODE) == 0))
		return -EBADF;
	return set_lock(&want, what == 2);
}

int64_t filelock_flock(struct file *f, unsigned op)
{
	struct filelock want = {
		.l_inode = f->f_inode, .l_owner = f, .l_flock = true, .l_pid = -1, .l_to = TO_END
	};

	switch (op & ~4u) { /* LOCK_NB */
	case 1: want.l_type = F_RDLCK; break;
	case 2: want.l_type = F_WRLCK; break;
	case 8: want.l_type = F_UNLCK; break;
	default: return -EINVAL;
	}
	return set_lock(&want, !(op & 4));
}

void filelock_drop(const void *owner, const struct inode *i)
{
	bool any = false;

	if (nlocks == 0)
		return;
	mach_mutex_enter(&lock_lock);
	for (struct filelock **p = &locks; *p != NULL;) {
		if ((*p)->l_owner == owner && (i == NULL || (*p)->l_inode == i)) {
			free_lock(p);
			any = true;
		} else {
			p = &(*p)->l_next;
		}
	}
	mach_mutex_exit(&lock_lock);
	if (any)
		wake(&lock_wait);
}
