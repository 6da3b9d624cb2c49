/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll: a list of files, polled as by poll. An edge-triggered entry tells of a file that is ready
 * only if the file has news since the entry last told of it (fo_news). Entries of files that do not
 * count their news, such as a terminal, tell as level-triggered entries do, which makes no difference
 * to programs that read until EAGAIN. An epoll may watch other epolls, NEST_MOST levels deep; no
 * epoll is below itself.
 *
 * Locks: nest_lock: while it is held no epoll begins to watch another. Then e_lock: an epoll's lock
 * is taken before the locks of the epolls that it watches. Both sleep. EPOLLEXCLUSIVE: all
 * epolls of a file are woken, nevertheless.
 */
#include "kernel/proc/proc.h"
#include "kernel/sys/calls.h"

#define EPOLL_EXCLUSIVE 0x10000000u
#define EPOLL_WAKEUP 0x20000000u
#define EPOLL_ONESHOT 0x40000000u
#define EPOLL_ET 0x80000000u
#define ALWAYS_TOLD (POLLERR | POLLHUP)
#define AGAIN_NS 20000000u
#define NEST_MOST 5u

struct epoll_event {
	uint32_t events;
	uint64_t data;
} ARCH_EPOLL_PACKED;

struct watch {
	struct watch *w_next;
	/* f_serial: the entry is removed when its descriptor names another file */
	uint64_t w_file;
	int w_fd;
	struct epoll_event w_event;
	bool w_told;     /* edge-triggered: of the news so far */
	uint64_t w_news; /* the file's when the entry told of them */
};
struct epoll {
	struct mach_mutex e_lock;
	struct watch *e_list;
};

static struct mach_mutex nest_lock;

static void epoll_close(struct file *f)
{
	struct epoll *e = f->f_data;
	struct watch *w;

	while ((w = e->e_list) != NULL) {
		e->e_list = w->w_next;
		kfree(w, sizeof(*w));
	}
	mach_mutex_fini(&e->e_lock);
	kfree(e, sizeof(*e));
}

static int epoll_poll(struct file *f);
static const struct file_ops epoll_ops = { .fo_poll = epoll_poll, .fo_close = epoll_close };

static int64_t create_epoll(bool cloexec)
{
	struct file *f = anon_file(&epoll_ops, S_IFREG | 0600, O_RDWR, sizeof(struct epoll));

	if (f == NULL)
		return -ENOMEM;
	mach_mutex_init(&((struct epoll *)f->f_data)->e_lock, 5, "epoll");
	return fd_install(this_proc()->p_files, f, 0, cloexec);
}

void epoll_init(void) { mach_mutex_init(&nest_lock, 4, "nesting of epolls"); }

int64_t sys_epoll_create(const uint64_t *a)
{
	return (int)a[0] <= 0 ? -EINVAL : create_epoll(false);
}
int64_t sys_epoll_create1(const uint64_t *a)
{
	return (unsigned)a[0] & ~O_CLOEXEC ? -EINVAL : create_epoll((a[0] & O_CLOEXEC) != 0);
}

static struct watch **find_watch(struct epoll *e, int fd)
{
	struct watch **p = &e->e_list;

	while (*p != NULL && (*p)->w_fd != fd)
		p = &(*p)->w_next;
	return p;
}

/*
 * May an epoll with `above` levels above watch the epoll of f? Not if e is below f (then each would wait for the other), nor if there are
 * more than NEST_MOST levels. -ELOOP. nest_lock held.
 */
static int64_t check_nesting(const struct epoll *e, struct file *f, unsigned above)
{
	struct epoll *below = f->f_data;
	int64_t err = below == e || above >= NEST_MOST ? -ELOOP : 0;

	KASSERT(mach_mutex_held(&nest_lock));
	if (err != 0)
		return err;
	mach_mutex_enter(&below->e_lock);
	for (struct watch *w = below->e_list; w != NULL && err == 0; w = w->w_next) {
		struct file *g = fd_get(w->w_fd);

		if (g != NULL && g->f_serial == w->w_file && g->f_ops == f->f_ops)
			err = check_nesting(e, g, above + 1);
		if (g != NULL)
			file_put(g);
	}
	mach_mutex_exit(&below->e_lock);
	return err;
}

/* op: 1 add, 2 delete, 3 modify */
static int64_t change_watch(
    struct epoll *e, uint64_t op, int fd, struct file *f, const struct epoll_event *ev)
{
	struct watch **p = find_watch(e, fd), *w = *p;
	bool watched = w != NULL && w->w_file == f->f_serial; /* not a file that was closed */

	if (op == 1) {
		if (watched)
			return -EEXIST;
		if (w == NULL) {
			if ((w = kzalloc(sizeof(*w))) == NULL)
				return -ENOMEM;
			w->w_next = e->e_list;
			e->e_list = w;
		}
		*w = (struct watch){
			.w_next = w->w_next, .w_file = f->f_serial, .w_fd = fd, .w_event = *ev
		};
		return 0;
	}
	if (!watched)
		return -ENOENT;
	if (op == 3) {
		if (w->w_event.events & EPOLL_EXCLUSIVE)
			return -EINVAL;
		w->w_event = *ev;
		w->w_told = false;
		return 0;
	}
	if (op != 2)
		return -EINVAL;
	*p = w->w_next;
	kfree(w, sizeof(*w));
	return 0;
}

/* An epoll that is to be watched is looked into first; no other thread nests epolls meanwhile. */
static int64_t control_watch(
    struct epoll *e, const uint64_t *a, struct file *f, const struct epoll_event *ev)
{
	bool nests = a[1] == 1 && f->f_ops == &epoll_ops;
	int64_t r = 0;

	if (nests)
		mach_mutex_enter(&nest_lock);
	if (!nests || (r = check_nesting(e, f, 1)) == 0) {
		mach_mutex_enter(&e->e_lock);
		r = change_watch(e, a[1], (int)a[2], f, ev);
		mach_mutex_exit(&e->e_lock);
	}
	if (nests)
		mach_mutex_exit(&nest_lock);
	return r;
}

/* EPOLLEXCLUSIVE goes with few others, and is never changed. */
static bool may_be_exclusive(uint64_t op, const struct file *f, uint32_t events)
{
	return op == 2 || !(events & EPOLL_EXCLUSIVE) ||
	    (op == 1 && f->f_ops != &epoll_ops &&
		!(events &
		    ~(POLLIN | POLLOUT | ALWAYS_TOLD | EPOLL_WAKEUP | EPOLL_ET | EPOLL_EXCLUSIVE)));
}

int64_t sys_epoll_ctl(const uint64_t *a)
{
	struct file *ef = fd_get((int)a[0]), *f = fd_get((int)a[2]);
	struct epoll_event ev = { 0 };
	int64_t r = -EBADF;

	if (ef != NULL && f != NULL) {
		if (ef->f_ops != &epoll_ops || ef == f)
			r = -EINVAL;
		else if (a[1] != 2 && copy_in(&ev, a[3], sizeof(ev)) != 0)
			r = -EFAULT;
		else if (inode_type(f->f_inode) == S_IFDIR ||
		    (f->f_ops == &file_pages_ops && inode_type(f->f_inode) == S_IFREG))
			r = -EPERM;
		else if (!may_be_exclusive(a[1], f, ev.events))
			r = -EINVAL;
		else
			r = control_watch(ef->f_data, a, f, &ev);
	}
	if (f != NULL)
		file_put(f);
	if (ef != NULL)
		file_put(ef);
	return r;
}

/*
 * Locks an epoll to look at it. check_nesting sees the descriptors of one process only: programs that share epolls can make chains that
 * are longer, and rings. So a thread that looks at an epoll from within another does not wait for its lock, and looks NEST_MOST deep.
 */
static bool lock_to_look(struct epoll *e)
{
	struct uthread *u = this_uthread();

	if (u->u_epolls == 0)
		mach_mutex_enter(&e->e_lock);
	else if (u->u_epolls > NEST_MOST || mach_mutex_held(&e->e_lock) ||
	    !mach_mutex_tryenter(&e->e_lock))
		return false;
	u->u_epolls++;
	return true;
}

static void unlock_looked_at(struct epoll *e)
{
	this_uthread()->u_epolls--;
	mach_mutex_exit(&e->e_lock);
}

/*
 * What the entry tells of now; -1: its descriptor has come to mean another file, or none. *news: the file's, from before it was looked at.
 * e_lock of its epoll held.
 */
static int64_t watch_events(const struct watch *w, uint64_t *news)
{
	struct file *f = fd_get(w->w_fd);
	int bits = (int)(w->w_event.events & 0xffff) | ALWAYS_TOLD;
	int64_t now = -1;

	*news = 0;
	if (f != NULL && f->f_serial == w->w_file) {
		bool counts = (w->w_event.events & EPOLL_ET) && f->f_ops->fo_news != NULL;

		if (counts)
			*news = f->f_ops->fo_news(f, bits);
		now = f->f_ops->fo_poll != NULL ? f->f_ops->fo_poll(f) : POLLIN | POLLOUT;
		now &= bits;
		if (w->w_event.events == EPOLL_ONESHOT ||
		    (counts && w->w_told && *news == w->w_news))
			now = 0;
	}
	if (f != NULL)
		file_put(f);
	return now;
}

/* Entries that told of something go to the list's end: when there are more than `max`, each has its turn. */
static int collect_events(struct epoll *e, struct epoll_event *out, int max)
{
	struct watch *told = NULL, **last = &told, **p;
	int n = 0;

	(void)lock_to_look(e);
	for (p = &e->e_list; *p != NULL && n < max;) {
		struct watch *w = *p;
		uint64_t news;
		int64_t now = watch_events(w, &news);

		if (now == 0) {
			p = &w->w_next;
			continue;
		}
		*p = w->w_next;
		if (now < 0) {
			kfree(w, sizeof(*w));
			continue;
		}
		out[n++] = (struct epoll_event){ (uint32_t)now, w->w_event.data };
		w->w_told = true;
		w->w_news = news;
		if (w->w_event.events & EPOLL_ONESHOT)
			w->w_event.events = EPOLL_ONESHOT;
		w->w_next = NULL;
		*last = w;
		last = &w->w_next;
	}
	while (*p != NULL)
		p = &(*p)->w_next;
	*p = told;
	unlock_looked_at(e);
	return n;
}

/* An epoll is ready to read while it has an event to report. */
static int epoll_poll(struct file *f)
{
	struct epoll *e = f->f_data;
	bool ready = false;
	uint64_t news;

	if (!lock_to_look(e))
		return 0;
	for (const struct watch *w = e->e_list; w != NULL && !ready; w = w->w_next)
		ready = watch_events(w, &news) > 0;
	unlock_looked_at(e);
	return ready ? POLLIN : 0;
}

static int64_t wait_events(int fd, uint64_t to, int max, int ms)
{
	uint64_t deadline = ms < 0 ? 0 : arch_time_ns() + (uint64_t)ms * 1000000 + 1;
	struct epoll_event ev[32];
	int64_t n;
	struct file *f = fd_get_kind(fd, &epoll_ops, -EINVAL, &n);

	if (f == NULL)
		return n;
	if (max <= 0) {
		file_put(f);
		return -EINVAL;
	}
	while ((n = collect_events(f->f_data, ev, max < 32 ? max : 32)) == 0) {
		uint64_t now = arch_time_ns(), until = now + AGAIN_NS;
		bool irq;
		int err;

		if (deadline != 0 && now >= deadline)
			break;
		if (deadline != 0 && until > deadline)
			until = deadline;
		irq = spin_lock(&sched_lock);
		err = wait_on(&poll_queue, until, true);
		spin_unlock(&sched_lock, irq);
		if (err == -EINTR) {
			n = -EINTR;
			break;
		}
	}
	if (n > 0 && copy_out(to, ev, (uint64_t)n * sizeof(ev[0])) != 0)
		n = -EFAULT;
	file_put(f);
	return n;
}
int64_t sys_epoll_wait(const uint64_t *a)
{
	return wait_events((int)a[0], a[1], (int)a[2], (int)a[3]);
}
int64_t sys_epoll_pwait(const uint64_t *a)
{
	signal_mask_begin(a[4], a[5]);
	return wait_events((int)a[0], a[1], (int)a[2], (int)a[3]);
}
