/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * POSIX message queues: queues with names, opened as files; the message of the highest priority is received first.
 *
 * A queue lives while it has a name or an open file (q_refcnt). Its numbers of messages are changed under sched_lock, too, so that poll
 * and threads that wait see them.
 *
 * Locks: mq_lock (sleeps): names, queues, messages; then proc_lock for the process that is notified. Left out: permissions, a mounted file
 * system of queues, SIGEV_THREAD (the C library's needs sockets of another domain), which of several waiting threads is served first.
 */
#include "kernel/proc/signal.h"
#include "kernel/sys/calls.h"
#include "kernel/sys/message.h"

#define QUEUES_MOST 256u
#define PRIORITIES 32768u
#define BYTES_MOST 819200u /* of a queue: Linux's RLIMIT_MSGQUEUE */
#define MESSAGES_FIRST 10u
#define TEXT_FIRST 8192u
#define SI_MESGQ (-3)

struct mq_attr { /* Linux's */
	int64_t flags, maxmsg, msgsize, curmsgs, reserved[4];
};

struct mqueue {
	struct mqueue *q_next; /* by name */
	unsigned q_refcnt;     /* open files, and the name */
	uint64_t q_most, q_text;
	_Atomic uint64_t q_n; /* sched_lock, too, to change */
	unsigned q_readers;   /* sched_lock: threads that wait for a message */
	struct message *q_first;
	struct waitq q_wait; /* sched_lock: for a message or for room */
	int q_notify_pid;    /* the process that is told of a message; 0: none */
	struct sigevent q_event;
	const struct file *q_notify_file; /* the file by which it asked */
	char q_name[NAME_MAX + 1];        /* empty: removed */
};
static struct mqueue *queues; /* mq_lock: with names */
static unsigned nqueues;      /* mq_lock */
static struct mach_mutex mq_lock;

void mq_init(void) { mach_mutex_init(&mq_lock, 4, "message queues"); }

static void queue_put(struct mqueue *q)
{
	struct message *m;

	KASSERT(mach_mutex_held(&mq_lock));
	if (--q->q_refcnt != 0)
		return;
	while ((m = q->q_first) != NULL) {
		q->q_first = m->m_next;
		message_free(m);
	}
	nqueues--;
	kfree(q, sizeof(*q));
}

/* ---- the file of a queue: f_data points to the queue ---- */
static struct mqueue *queue_of(const struct file *f) { return *(struct mqueue **)f->f_data; }

static int mq_poll(struct file *f)
{
	const struct mqueue *q = queue_of(f);

	return (q->q_n != 0 ? POLLIN : 0) | (q->q_n < q->q_most ? POLLOUT : 0);
}

static void mq_close(struct file *f)
{
	struct mqueue *q = queue_of(f);

	if (q != NULL) {
		mach_mutex_enter(&mq_lock);
		if (q->q_notify_file == f)
			q->q_notify_pid = 0;
		queue_put(q);
		mach_mutex_exit(&mq_lock);
	}
	kfree(f->f_data, sizeof(q));
}

static const struct file_ops mq_ops = { .fo_poll = mq_poll, .fo_close = mq_close };

/* ---- names ---- */
static struct mqueue **find_queue(const char *name)
{
	struct mqueue **p = &queues;

	KASSERT(mach_mutex_held(&mq_lock));
	while (*p != NULL && strcmp((*p)->q_name, name) != 0)
		p = &(*p)->q_next;
	return p;
}

static int name_in(uint64_t from, char *name)
{
	int64_t n = copy_in_string(name, from, NAME_MAX + 1);

	if (n < 0)
		return (int)n;
	if (n == 0)
		return -ENOENT;
	return strchr(name, '/') != NULL ? -EACCES : 0;
}

/* attr 0: the first values. */
static int make_queue(const char *name, uint64_t attr, struct mqueue **qp)
{
	struct mq_attr at = { .maxmsg = MESSAGES_FIRST, .msgsize = TEXT_FIRST };
	struct mqueue *q;

	if (attr != 0 && copy_in(&at, attr, sizeof(at)) != 0)
		return -EFAULT;
	if (at.maxmsg <= 0 || at.msgsize <= 0 || at.maxmsg > BYTES_MOST || at.msgsize > BYTES_MOST)
		return -EINVAL;
	if ((uint64_t)at.maxmsg * ((uint64_t)at.msgsize + sizeof(struct message)) > BYTES_MOST)
		return -EMFILE;
	if (nqueues == QUEUES_MOST)
		return -ENOSPC;
	if ((q = kzalloc(sizeof(*q))) == NULL)
		return -ENOMEM;
	nqueues++;
	q->q_refcnt = 1;
	q->q_most = (uint64_t)at.maxmsg;
	q->q_text = (uint64_t)at.msgsize;
	strlcpy(q->q_name, name, sizeof(q->q_name));
	q->q_next = queues;
	queues = q;
	*qp = q;
	return 0;
}

int64_t sys_mq_open(const uint64_t *a)
{
	struct mqueue *q = NULL;
	char name[NAME_MAX + 1];
	struct file *f;
	int err = name_in(a[0], name), fd;

	if (err != 0)
		return err;
	if ((a[1] & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	f = anon_file(
	    &mq_ops, S_IFREG | 0600, (unsigned)a[1] & (O_ACCMODE | O_NONBLOCK), sizeof(q));
	if (f == NULL)
		return -ENOMEM;
	if ((fd = fd_take(this_proc()->p_files, 0)) < 0) {
		file_put(f);
		return fd;
	}
	mach_mutex_enter(&mq_lock);
	q = *find_queue(name);
	if (q != NULL)
		err = (a[1] & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) ? -EEXIST : 0;
	else
		err = a[1] & O_CREAT ? make_queue(name, a[3], &q) : -ENOENT;
	if (err == 0) {
		q->q_refcnt++;
		*(struct mqueue **)f->f_data = q;
	}
	mach_mutex_exit(&mq_lock);
	fd_fill(this_proc()->p_files, fd, err == 0 ? f : NULL, true);
	if (err != 0)
		file_put(f);
	return err != 0 ? err : fd;
}

int64_t sys_mq_unlink(const uint64_t *a)
{
	char name[NAME_MAX + 1];
	struct mqueue **p, *q;
	int err = name_in(a[0], name);

	if (err != 0)
		return err;
	mach_mutex_enter(&mq_lock);
	p = find_queue(name);
	if ((q = *p) != NULL) {
		*p = q->q_next;
		queue_put(q);
	}
	mach_mutex_exit(&mq_lock);
	return q != NULL ? 0 : -ENOENT;
}

/* ---- waiting ---- */
static bool has_message(void *arg) { return ((struct mqueue *)arg)->q_n != 0; }
static bool has_room(void *arg)
{
	return ((struct mqueue *)arg)->q_n < ((struct mqueue *)arg)->q_most;
}

static void count_messages(struct mqueue *q, int by)
{
	bool irq = spin_lock(&sched_lock);

	q->q_n += (uint64_t)(int64_t)by;
	wake_all(&q->q_wait);
	wake_all(&poll_queue);
	spin_unlock(&sched_lock, irq);
}

/*
 * Waits until cond, without mq_lock, which is held at the call and on return. until: by arch_time_ns, 0:
 * for ever.
 */
static int64_t await_state(struct mqueue *q, bool (*cond)(void *), uint64_t until)
{
	bool reads = cond == has_message;
	int err;

	q->q_readers += reads;
	mach_mutex_exit(&mq_lock);
	err = wait_until(&q->q_wait, cond, q, until, true);
	mach_mutex_enter(&mq_lock);
	q->q_readers -= reads;
	return err == -EINTR ? -ERESTART : err;
}

/* A time of the wall clock, as arch_time_ns has it; at 0: *until is 0. */
static int until_in(uint64_t at, uint64_t *until)
{
	int err;

	*until = 0;
	if (at == 0)
		return 0;
	if ((err = copy_in_span(at, until)) == 0)
		*until = *until > wall_base() ? *until - wall_base() : 1;
	return err;
}

/* The queue's file, open for reading or for writing. NULL: *err. */
static struct file *file_of(uint64_t fd, bool write, int64_t *err)
{
	struct file *f = fd_get_kind((int)fd, &mq_ops, -EBADF, err);

	if (f != NULL && !(write ? file_may_write(f) : file_may_read(f))) {
		file_put(f);
		*err = -EBADF;
		return NULL;
	}
	return f;
}

/* ---- sending ---- */
/* Tells the process that asked for it of the first message, once. */
static void notify_process(struct mqueue *q)
{
	struct proc *p;

	if (q->q_notify_pid == 0 || q->q_readers != 0)
		return;
	mach_mutex_enter(&proc_lock);
	if (q->q_event.notify == SIGEV_SIGNAL && (p = proc_find(q->q_notify_pid)) != NULL)
		signal_queue_proc(
		    p, q->q_event.signo, SI_MESGQ, cred_sender(this_proc()), q->q_event.value);
	mach_mutex_exit(&proc_lock);
	q->q_notify_pid = 0;
}

/* Takes the message over, unless it returns an error. */
static int64_t send_message(const struct file *f, struct message *m, uint64_t until)
{
	struct mqueue *q = queue_of(f);
	struct message **p = &q->q_first;
	int64_t err = 0;

	mach_mutex_enter(&mq_lock);
	while (err == 0 && !has_room(q))
		err = f->f_flags & O_NONBLOCK ? -EAGAIN : await_state(q, has_room, until);
	if (err == 0) {
		while (*p != NULL && (*p)->m_type >= m->m_type)
			p = &(*p)->m_next;
		m->m_next = *p;
		*p = m;
		if (q->q_n == 0)
			notify_process(q);
		count_messages(q, 1);
	}
	mach_mutex_exit(&mq_lock);
	return err;
}

int64_t sys_mq_timedsend(const uint64_t *a)
{
	struct message *m;
	uint64_t until;
	struct file *f;
	int64_t err;

	if ((unsigned)a[3] >= PRIORITIES)
		return -EINVAL;
	if ((err = until_in(a[4], &until)) != 0 || (f = file_of(a[0], true, &err)) == NULL)
		return err;
	err = a[2] > queue_of(f)->q_text ? -EMSGSIZE : message_new(a[1], a[2], (unsigned)a[3], &m);
	if (err == 0 && (err = send_message(f, m, until)) != 0)
		message_free(m);
	file_put(f);
	return err;
}

/* ---- receiving ---- */
static int64_t receive_message(const struct file *f, uint64_t until, struct message **mp)
{
	struct mqueue *q = queue_of(f);
	int64_t err = 0;

	mach_mutex_enter(&mq_lock);
	while (err == 0 && !has_message(q))
		err = f->f_flags & O_NONBLOCK ? -EAGAIN : await_state(q, has_message, until);
	if (err == 0) {
		*mp = q->q_first;
		q->q_first = (*mp)->m_next;
		count_messages(q, -1);
	}
	mach_mutex_exit(&mq_lock);
	return err;
}

int64_t sys_mq_timedreceive(const uint64_t *a)
{
	struct message *m = NULL;
	unsigned priority;
	uint64_t until;
	struct file *f;
	int64_t err;

	if ((err = until_in(a[4], &until)) != 0 || (f = file_of(a[0], false, &err)) == NULL)
		return err;
	err = a[2] < queue_of(f)->q_text ? -EMSGSIZE : receive_message(f, until, &m);
	file_put(f);
	if (err != 0)
		return err;
	priority = (unsigned)m->m_type;
	err = (int64_t)m->m_len;
	if (copy_out(a[1], m->m_text, m->m_len) != 0 ||
	    (a[3] != 0 && copy_out(a[3], &priority, sizeof(priority)) != 0))
		err = -EFAULT;
	message_free(m);
	return err;
}

/* ---- the rest ---- */
static int64_t set_notify(struct mqueue *q, const struct file *f, const struct sigevent *ev)
{
	int me = this_proc()->p_pid;
	bool taken;

	if (ev == NULL) {
		if (q->q_notify_pid == me)
			q->q_notify_pid = 0;
		return 0;
	}
	mach_mutex_enter(&proc_lock);
	taken = q->q_notify_pid != 0 && proc_find(q->q_notify_pid) != NULL;
	mach_mutex_exit(&proc_lock);
	if (taken)
		return -EBUSY;
	q->q_notify_pid = me;
	q->q_notify_file = f;
	q->q_event = *ev;
	return 0;
}

int64_t sys_mq_notify(const uint64_t *a)
{
	struct sigevent ev;
	struct file *f;
	int64_t err;

	if (a[1] != 0 && (err = sigevent_in(a[1], &ev)) != 0)
		return err;
	if (a[1] != 0 && ev.notify != SIGEV_SIGNAL && ev.notify != SIGEV_NONE)
		return -EINVAL;
	if ((f = fd_get_kind((int)a[0], &mq_ops, -EBADF, &err)) == NULL)
		return err;
	mach_mutex_enter(&mq_lock);
	err = set_notify(queue_of(f), f, a[1] != 0 ? &ev : NULL);
	mach_mutex_exit(&mq_lock);
	file_put(f);
	return err;
}

int64_t sys_mq_getsetattr(const uint64_t *a)
{
	struct mq_attr at, old = { 0 };
	struct file *f;
	int64_t err;

	if (a[1] != 0 && copy_in(&at, a[1], sizeof(at)) != 0)
		return -EFAULT;
	if (a[1] != 0 && (at.flags & ~(int64_t)O_NONBLOCK) != 0)
		return -EINVAL;
	if ((f = fd_get_kind((int)a[0], &mq_ops, -EBADF, &err)) == NULL)
		return err;
	old.flags = f->f_flags & O_NONBLOCK;
	old.maxmsg = (int64_t)queue_of(f)->q_most;
	old.msgsize = (int64_t)queue_of(f)->q_text;
	old.curmsgs = (int64_t)queue_of(f)->q_n;
	if (a[1] != 0)
		f->f_flags = (f->f_flags & ~O_NONBLOCK) | ((unsigned)at.flags & O_NONBLOCK);
	file_put(f);
	return a[2] != 0 ? copy_out(a[2], &old, sizeof(old)) : 0;
}
