/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Watches of files (inotify): programs are told what happens to an inode, and to the entries of a
 * directory.
 *
 * A watcher is an open file with a queue of events. A watch names an inode, to which it has a
 * reference, and the events that its watcher wants. Whoever changes a file tells so:
 *
 *   notify_inode   of the inode: told to its watches, and with its name to those of the directory
 *                  in which it was found last
 *   notify_self    the same, but only to the inode's own watches
 *   notify_entry   of a name: told to the watches of its directory
 *   notify_gone    the inode has no name any more: its watches end
 *
 * The name of an inode in a directory is looked up only if the directory is watched. While there is
 * no watch at all, telling costs one read of a counter.
 *
 * Locks: vfs_lock, then notify_lock, which guards watches and queues. A watcher that waits is in
 * wr_wait, under sched_lock. Left out: IN_UNMOUNT; IN_DELETE_SELF comes with the last name, not
 * with the last use.
 */
#include "kernel/fs/vfs.h"
#include "kernel/proc/proc.h"

#define QUEUE_MOST 1024u /* events of a watcher; then one that says so */
#define HEADER 16u /* of an event, as programs read it; names are padded to a multiple of it */

struct event {
	struct event *e_next;
	struct { /* as programs read it: the name, e_len bytes, follows */
		int32_t wd;
		uint32_t mask, cookie, len;
		char name[];
	} e_said;
};
struct watcher {
	struct event *wr_first, **wr_last; /* notify_lock */
	_Atomic unsigned wr_n;             /* notify_lock to change: events */
	int wr_next;                       /* notify_lock: the number of the next watch */
	struct waitq wr_wait;              /* sched_lock */
};
struct watch {
	struct watch *wa_next;      /* notify_lock: all */
	struct watcher *wa_watcher; /* const */
	struct inode *wa_inode;     /* const: a reference */
	int wa_number;              /* const */
	uint32_t wa_mask;           /* notify_lock */
};
struct waitq poll_queue;
static struct mach_mutex notify_lock;
static struct watch *watches;   /* notify_lock */
static _Atomic unsigned nwatch; /* notify_lock to change */

void notify_init(void) { mach_mutex_init(&notify_lock, 5, "watches of files"); }

/* ---- queues: notify_lock ---- */
static size_t event_bytes(const struct event *e) { return sizeof(*e) + e->e_said.len; }

static bool same_event(const struct event *a, const struct event *b)
{
	return a->e_said.wd == b->e_said.wd && a->e_said.mask == b->e_said.mask &&
	    a->e_said.cookie == b->e_said.cookie && a->e_said.len == b->e_said.len &&
	    memcmp(a->e_said.name, b->e_said.name, a->e_said.len) == 0;
}

static struct event *event_new(int wd, uint32_t mask, uint32_t cookie, const char *name)
{
	size_t len = name == NULL ? 0 : (strlen(name) + HEADER) / HEADER * HEADER;
	struct event *e = kzalloc(sizeof(*e) + len);

	if (e == NULL)
		return NULL;
	e->e_said.wd = wd;
	e->e_said.mask = mask;
	e->e_said.cookie = cookie;
	e->e_said.len = (uint32_t)len;
	if (len > 0)
		memcpy(e->e_said.name, name, strlen(name));
	return e;
}

static struct event *last_event(struct watcher *wr)
{
	return wr->wr_first == NULL
	    ? NULL
	    : (struct event *)(void *)((char *)wr->wr_last - offsetof(struct event, e_next));
}

/* An event like the last one is not told twice. For want of memory an event is lost. */
static void queue_event(
    struct watcher *wr, int wd, uint32_t mask, uint32_t cookie, const char *name)
{
	bool full = wr->wr_n >= QUEUE_MOST, irq;
	struct event *e =
	    full ? event_new(-1, IN_Q_OVERFLOW, 0, NULL) : event_new(wd, mask, cookie, name);

	KASSERT(mach_mutex_held(&notify_lock));
	if (e == NULL)
		return;
	if (wr->wr_first != NULL && same_event(last_event(wr), e)) {
		kfree(e, event_bytes(e));
		return;
	}
	*wr->wr_last = e;
	wr->wr_last = &e->e_next;
	wr->wr_n++;
	irq = spin_lock(&sched_lock);
	wake_all(&wr->wr_wait);
	wake_all(&poll_queue);
	spin_unlock(&sched_lock, irq);
}

static void drop_first(struct watcher *wr)
{
	struct event *e = wr->wr_first;

	wr->wr_first = e->e_next;
	if (wr->wr_first == NULL)
		wr->wr_last = &wr->wr_first;
	wr->wr_n--;
	kfree(e, event_bytes(e));
}

/* ---- watches: notify_lock ---- */
/* Takes the watch at *p off the list and puts it on *gone. */
static void end_watch(struct watch **p, struct watch **gone)
{
	struct watch *wa = *p;

	KASSERT(mach_mutex_held(&notify_lock));
	*p = wa->wa_next;
	wa->wa_next = *gone;
	*gone = wa;
	nwatch--;
}

/* Without notify_lock. */
static void free_watches(struct watch *gone)
{
	struct watch *wa;

	while ((wa = gone) != NULL) {
		gone = wa->wa_next;
		inode_put(wa->wa_inode);
		kfree(wa, sizeof(*wa));
	}
}

/* ---- telling ---- */
static uint32_t kind_of(const struct inode *i) { return inode_type(i) == S_IFDIR ? IN_ISDIR : 0; }

/* Tells the watch. A watch that was for one event ends: true. */
static bool tell_watch(struct watch *wa, uint32_t mask, uint32_t cookie, const char *name)
{
	queue_event(wa->wa_watcher, wa->wa_number, mask, cookie, name);
	if (!(wa->wa_mask & IN_ONESHOT))
		return false;
	queue_event(wa->wa_watcher, wa->wa_number, IN_IGNORED, 0, NULL);
	return true;
}

/* Tells all watches of the inode. */
static void tell_watches(const struct inode *of, uint32_t mask, uint32_t cookie, const char *name)
{
	struct watch **p = &watches, *gone = NULL;

	mach_mutex_enter(&notify_lock);
	while (*p != NULL) {
		if ((*p)->wa_inode == of && ((*p)->wa_mask & mask & IN_ALL) != 0 &&
		    tell_watch(*p, mask, cookie, name))
			end_watch(p, &gone);
		else
			p = &(*p)->wa_next;
	}
	mach_mutex_exit(&notify_lock);
	free_watches(gone);
}

/* That an inode was moved is told without IN_ISDIR, as Linux does. */
void notify_self(struct inode *i, uint32_t mask)
{
	if (nwatch != 0)
		tell_watches(i, mask | (mask == IN_MOVE_SELF ? 0 : kind_of(i)), 0, NULL);
}

void notify_entry(
    struct inode *dir, const char *name, const struct inode *i, uint32_t mask, uint32_t cookie)
{
	if (nwatch != 0)
		tell_watches(dir, mask | kind_of(i), cookie, name);
}

/* The watched directory in which the inode was found last, a reference; NULL: it is not watched. */
static struct inode *watched_parent(const struct inode *i)
{
	struct inode *dir = NULL;

	mach_mutex_enter(&notify_lock);
	for (struct watch *wa = watches; wa != NULL && dir == NULL; wa = wa->wa_next)
		if (wa->wa_inode->i_fs == i->i_fs && wa->wa_inode->i_ino == i->i_parent &&
		    wa->wa_inode != i)
			dir = inode_hold(wa->wa_inode);
	mach_mutex_exit(&notify_lock);
	return dir;
}

/* Tells the watches of the directory, if the inode has a name there. For want of memory nothing is told. */
static void tell_parent(struct inode *dir, const struct inode *i, uint32_t mask)
{
	/* a directory of /proc/PID/fd may drop the last reference to a file while it is read */
	bool locked = mach_mutex_held(&vfs_lock);
	char *name = kalloc(NAME_MAX + 1);
	int err;

	if (name == NULL)
		return;
	if (!locked)
		mach_mutex_enter(&vfs_lock);
	err = inode_name_in(dir, i->i_ino, name);
	if (!locked)
		mach_mutex_exit(&vfs_lock);
	if (err == 0)
		tell_watches(dir, mask | kind_of(i), 0, name);
	kfree(name, NAME_MAX + 1);
}

void notify_inode(struct inode *i, uint32_t mask)
{
	struct inode *dir;

	if (nwatch == 0 || i->i_fs == ANON_FS)
		return;
	notify_self(i, mask);
	if ((dir = watched_parent(i)) == NULL)
		return;
	tell_parent(dir, i, mask);
	inode_put(dir);
}

void notify_gone(struct inode *i)
{
	struct watch **p = &watches, *gone = NULL;

	if (nwatch == 0)
		return;
	mach_mutex_enter(&notify_lock);
	while (*p != NULL) {
		struct watch *wa = *p;

		if (wa->wa_inode != i) {
			p = &wa->wa_next;
			continue;
		}
		if (wa->wa_mask & IN_DELETE_SELF)
			queue_event(wa->wa_watcher, wa->wa_number, IN_DELETE_SELF, 0, NULL);
		queue_event(wa->wa_watcher, wa->wa_number, IN_IGNORED, 0, NULL);
		end_watch(p, &gone);
	}
	mach_mutex_exit(&notify_lock);
	free_watches(gone);
}

/* ---- the file ---- */
static bool has_event(void *arg) { return ((struct watcher *)arg)->wr_n != 0; }

/* As many whole events as fit. 0: there is none; -EINVAL: the first does not fit. */
static int64_t take_events(struct watcher *wr, char *buf, uint64_t len)
{
	uint64_t done = 0;

	mach_mutex_enter(&notify_lock);
	while (wr->wr_first != NULL) {
		uint64_t n = HEADER + wr->wr_first->e_said.len;

		if (n > len - done)
			break;
		memcpy(buf + done, &wr->wr_first->e_said, n);
		done += n;
		drop_first(wr);
	}
	if (done == 0 && wr->wr_first != NULL) {
		mach_mutex_exit(&notify_lock);
		return -EINVAL;
	}
	mach_mutex_exit(&notify_lock);
	return (int64_t)done;
}

static int64_t watcher_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	struct watcher *wr = f->f_data;
	int64_t n;

	(void)off;
	while ((n = take_events(wr, buf, len)) == 0) {
		if (f->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_until(&wr->wr_wait, has_event, wr, 0, true) != 0)
			return -ERESTART;
	}
	return n;
}

static int watcher_poll(struct file *f) { return has_event(f->f_data) ? POLLIN : 0; }

static int64_t watcher_ioctl(struct file *f, unsigned cmd, uint64_t arg)
{
	struct watcher *wr = f->f_data;
	uint32_t n = 0;

	if (cmd != 0x541b) /* FIONREAD */
		return -ENOTTY;
	mach_mutex_enter(&notify_lock);
	for (const struct event *e = wr->wr_first; e != NULL; e = e->e_next)
		n += HEADER + e->e_said.len;
	mach_mutex_exit(&notify_lock);
	return copy_out(arg, &n, sizeof(n));
}

static void watcher_close(struct file *f)
{
	struct watcher *wr = f->f_data;
	struct watch **p = &watches, *gone = NULL;

	mach_mutex_enter(&notify_lock);
	while (*p != NULL)
		if ((*p)->wa_watcher == wr)
			end_watch(p, &gone);
		else
			p = &(*p)->wa_next;
	while (wr->wr_first != NULL)
		drop_first(wr);
	mach_mutex_exit(&notify_lock);
	free_watches(gone);
	kfree(wr, sizeof(*wr));
}

const struct file_ops notify_ops = { .fo_read = watcher_read,
	.fo_poll = watcher_poll,
	.fo_ioctl = watcher_ioctl,
	.fo_close = watcher_close };

const size_t notify_bytes = sizeof(struct watcher);

void notify_begin(struct file *f)
{
	struct watcher *wr = f->f_data;

	wr->wr_last = &wr->wr_first;
	wr->wr_next = 1;
}

/* Changes the watcher's watch of the inode, or makes one of *spare. The number, or -EEXIST. */
static int set_watch(struct watcher *wr, struct inode *i, uint32_t mask, struct watch **spare)
{
	struct watch *wa = watches;
	uint32_t keep = mask & (IN_ALL | IN_ONESHOT);

	KASSERT(mach_mutex_held(&notify_lock));
	while (wa != NULL && (wa->wa_watcher != wr || wa->wa_inode != i))
		wa = wa->wa_next;
	if (wa != NULL) {
		if (mask & IN_MASK_CREATE)
			return -EEXIST;
		wa->wa_mask = mask & IN_MASK_ADD ? wa->wa_mask | keep : keep;
		return wa->wa_number;
	}
	wa = *spare;
	*spare = NULL;
	*wa = (struct watch){ watches, wr, inode_hold(i), wr->wr_next++, keep };
	watches = wa;
	nwatch++;
	return wa->wa_number;
}

int notify_watch(struct file *f, struct inode *i, uint32_t mask)
{
	struct watch *spare = kzalloc(sizeof(*spare));
	int number;

	if (spare == NULL)
		return -ENOMEM;
	mach_mutex_enter(&notify_lock);
	number = set_watch(f->f_data, i, mask, &spare);
	mach_mutex_exit(&notify_lock);
	kfree(spare, sizeof(*spare));
	return number;
}

int notify_unwatch(struct file *f, int number)
{
	struct watcher *wr = f->f_data;
	struct watch **p = &watches, *gone = NULL;

	mach_mutex_enter(&notify_lock);
	while (*p != NULL && ((*p)->wa_watcher != wr || (*p)->wa_number != number))
		p = &(*p)->wa_next;
	if (*p != NULL) {
		end_watch(p, &gone);
		queue_event(wr, number, IN_IGNORED, 0, NULL);
	}
	mach_mutex_exit(&notify_lock);
	if (gone == NULL)
		return -EINVAL;
	free_watches(gone);
	return 0;
}
