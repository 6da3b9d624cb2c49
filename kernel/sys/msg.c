/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Message queues of System V: queues found by key and id (ipc.h), messages taken by their types.
 *
 * Locks: msg_lock (sleeps): all queues. Threads that wait for a queue to change are in its q_wait, under sched_lock, and each looks again:
 * for its message, for room, or whether the queue is still there. Left out: permissions, MSG_COPY, MSG_INFO and its kin.
 */
#include "kernel/sys/calls.h"
#include "kernel/sys/ipc.h"
#include "kernel/sys/message.h"

#define QUEUES 128u
#define BYTES_MOST 16384u /* of a queue: Linux's */
#define TEXT_MOST 8192u   /* of a message: Linux's */
#define MSG_NOERROR 010000
#define MSG_EXCEPT 020000
#define MSG_COPY 040000

struct msqid_ds { /* Linux's */
	struct ipc_perm perm;
	uint64_t stime, rtime, ctime, cbytes, qnum, qbytes;
	int32_t lspid, lrpid;
	uint64_t u4, u5;
};

static struct msgq {
	bool q_used;
	unsigned q_use, q_mode; /* q_use: the number of queues that were removed from this slot */
	int q_key, q_sender, q_receiver;
	uint64_t q_n, q_bytes, q_most;
	uint32_t q_stime, q_rtime, q_ctime;
	struct message *q_first;
	_Atomic unsigned q_changes; /* sched_lock to change */
	struct waitq q_wait;        /* sched_lock */
} queues[QUEUES];                   /* msg_lock */
static struct mach_mutex msg_lock;

void msg_init(void) { mach_mutex_init(&msg_lock, 4, "messages"); }

static int id_of(unsigned i) { return ipc_id(i, QUEUES, queues[i].q_use); }

/* NULL: there is no such queue. */
static struct msgq *queue_of(uint64_t id)
{
	unsigned i = (unsigned)id % QUEUES;

	KASSERT(mach_mutex_held(&msg_lock));
	return (int)id >= 0 && queues[i].q_used && id_of(i) == (int)id ? &queues[i] : NULL;
}

static void tell_change(struct msgq *q)
{
	bool irq = spin_lock(&sched_lock);

	q->q_changes++;
	wake_all(&q->q_wait);
	spin_unlock(&sched_lock, irq);
}

struct seen {
	const struct msgq *s_queue;
	unsigned s_changes;
};

static bool has_changed(void *arg)
{
	const struct seen *s = arg;

	return s->s_queue->q_changes != s->s_changes;
}

/* Waits until the queue changes, without msg_lock, which is held at the call and on return. 0 or -ERESTARTNOHAND. */
static int64_t await_change(struct msgq *q)
{
	struct seen s = { q, q->q_changes };
	int err;

	mach_mutex_exit(&msg_lock);
	err = wait_until(&q->q_wait, has_changed, &s, 0, true);
	mach_mutex_enter(&msg_lock);
	return err != 0 ? -ERESTARTNOHAND : 0;
}

/* ---- queues ---- */
static int64_t make_queue(int key, unsigned mode)
{
	unsigned i = 0;

	while (i < QUEUES && queues[i].q_used)
		i++;
	if (i == QUEUES)
		return -ENOSPC;
	queues[i].q_used = true;
	queues[i].q_key = key;
	queues[i].q_mode = mode & 0777;
	queues[i].q_sender = queues[i].q_receiver = 0;
	queues[i].q_n = queues[i].q_bytes = 0;
	queues[i].q_most = BYTES_MOST;
	queues[i].q_stime = queues[i].q_rtime = 0;
	queues[i].q_ctime = vfs_now();
	return id_of(i);
}

int64_t sys_msgget(const uint64_t *a)
{
	int key = (int)a[0];
	int64_t r = -ENOENT;
	unsigned i = 0;

	mach_mutex_enter(&msg_lock);
	while (i < QUEUES && (key == IPC_PRIVATE || !queues[i].q_used || queues[i].q_key != key))
		i++;
	if (i < QUEUES)
		r = (a[1] & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL) ? -EEXIST : id_of(i);
	else if (key == IPC_PRIVATE || (a[1] & IPC_CREAT))
		r = make_queue(key, (unsigned)a[1]);
	mach_mutex_exit(&msg_lock);
	return r;
}

static void remove_queue(struct msgq *q)
{
	struct message *m;

	while ((m = q->q_first) != NULL) {
		q->q_first = m->m_next;
		message_free(m);
	}
	q->q_used = false;
	q->q_use++;
	tell_change(q);
}

/* ---- sending ---- */
static bool has_room(const struct msgq *q, uint64_t len)
{
	return q->q_bytes + len <= q->q_most && q->q_n + 1 <= q->q_most;
}

/* Takes the message over, unless it returns an error. msg_lock held. */
static int64_t send_message(uint64_t id, struct message *m, bool wait)
{
	struct message **last;
	struct msgq *q = queue_of(id);
	int64_t err = q == NULL ? -EINVAL : 0;

	while (err == 0 && !has_room(q, m->m_len)) {
		err = wait ? await_change(q) : -EAGAIN;
		if (queue_of(id) == NULL)
			err = -EIDRM;
	}
	if (err != 0)
		return err;
	for (last = &q->q_first; *last != NULL;)
		last = &(*last)->m_next;
	*last = m;
	q->q_n++;
	q->q_bytes += m->m_len;
	q->q_sender = this_proc()->p_pid;
	q->q_stime = vfs_now();
	tell_change(q);
	return 0;
}

int64_t sys_msgsnd(const uint64_t *a)
{
	struct message *m;
	int64_t type, err;

	if ((int64_t)a[2] < 0 || a[2] > TEXT_MOST || (int)a[0] < 0)
		return -EINVAL;
	if (copy_in(&type, a[1], sizeof(type)) != 0)
		return -EFAULT;
	if (type < 1)
		return -EINVAL;
	if ((err = message_new(a[1] + sizeof(type), a[2], type, &m)) != 0)
		return err;
	mach_mutex_enter(&msg_lock);
	err = send_message(a[0], m, (a[3] & IPC_NOWAIT) == 0);
	mach_mutex_exit(&msg_lock);
	if (err != 0)
		message_free(m);
	return err;
}

/* ---- receiving ---- */
/* The place of the message that msgrcv's type means; *place NULL: there is none. */
static struct message **find_message(struct msgq *q, int64_t type, bool except)
{
	struct message **best = NULL, **p = &q->q_first;

	for (; *p != NULL; p = &(*p)->m_next) {
		int64_t t = (*p)->m_type;

		if (type == 0 || (type > 0 && (t == type) != except))
			return p;
		/* the least type of those that are not above -type; the first of its messages */
		if (type < 0 && t <= (type == INT64_MIN ? INT64_MAX : -type) &&
		    (best == NULL || t < (*best)->m_type))
			best = p;
	}
	return best != NULL ? best : p;
}

/* msg_lock held. *mp: the message, which is in no queue any more. */
static int64_t receive_message(
    uint64_t id, uint64_t room, int64_t type, int64_t flags, struct message **mp)
{
	struct msgq *q = queue_of(id);
	int64_t err = q == NULL ? -EINVAL : 0;
	struct message **p = NULL, *m;

	while (err == 0 && *(p = find_message(q, type, (flags & MSG_EXCEPT) != 0)) == NULL) {
		err = flags & IPC_NOWAIT ? -ENOMSG : await_change(q);
		if (queue_of(id) == NULL)
			err = -EIDRM;
	}
	if (err != 0)
		return err;
	m = *p;
	if (m->m_len > room && !(flags & MSG_NOERROR))
		return -E2BIG;
	*p = m->m_next;
	q->q_n--;
	q->q_bytes -= m->m_len;
	q->q_receiver = this_proc()->p_pid;
	q->q_rtime = vfs_now();
	tell_change(q);
	*mp = m;
	return 0;
}

int64_t sys_msgrcv(const uint64_t *a)
{
	struct message *m;
	int64_t err;
	uint64_t n;

	if ((int64_t)a[2] < 0 || (int)a[0] < 0)
		return -EINVAL;
	if (a[4] & MSG_COPY)
		return -ENOSYS;
	mach_mutex_enter(&msg_lock);
	err = receive_message(a[0], a[2], (int64_t)a[3], (int64_t)a[4], &m);
	mach_mutex_exit(&msg_lock);
	if (err != 0)
		return err;
	n = m->m_len < a[2] ? m->m_len : a[2];
	if (copy_out(a[1], &m->m_type, sizeof(m->m_type)) != 0 ||
	    copy_out(a[1] + sizeof(m->m_type), m->m_text, n) != 0)
		err = -EFAULT;
	message_free(m);
	return err != 0 ? err : (int64_t)n;
}

/* ---- msgctl ---- */
static int64_t tell_queue(const struct msgq *q, uint64_t at)
{
	struct msqid_ds ds = { .perm = { .key = q->q_key, .mode = q->q_mode },
		.stime = q->q_stime,
		.rtime = q->q_rtime,
		.ctime = q->q_ctime,
		.cbytes = q->q_bytes,
		.qnum = q->q_n,
		.qbytes = q->q_most,
		.lspid = q->q_sender,
		.lrpid = q->q_receiver };

	return copy_out(at, &ds, sizeof(ds));
}

static int64_t set_queue(struct msgq *q, uint64_t at)
{
	struct msqid_ds ds;

	if (copy_in(&ds, at, sizeof(ds)) != 0)
		return -EFAULT;
	q->q_mode = ds.perm.mode & 0777;
	q->q_most = ds.qbytes;
	q->q_ctime = vfs_now();
	tell_change(q);
	return 0;
}

int64_t sys_msgctl(const uint64_t *a)
{
	struct msgq *q;
	int64_t r = -EINVAL;

	mach_mutex_enter(&msg_lock);
	if ((q = queue_of(a[0])) != NULL) {
		switch ((unsigned)a[1] & ~0x100u) {
		case IPC_RMID:
			remove_queue(q);
			r = 0;
			break;
		case IPC_SET: r = set_queue(q, a[2]); break;
		case IPC_STAT: r = tell_queue(q, a[2]); break;
		default: break;
		}
	}
	mach_mutex_exit(&msg_lock);
	return r;
}
