/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Semaphores of System V: sets found by key and id (ipc.h).
 *
 * A call's operations take effect all at once, or its thread waits until they can. What a process asks to be undone when it ends
 * (SEM_UNDO) is one list of adjustments for each process and set.
 *
 * Locks: sem_lock (sleeps): all sets. Threads that wait for a set are in its queue, under sched_lock; whoever changes the set wakes all,
 * and each looks again. Left out: permissions.
 */
#include "kernel/sys/calls.h"
#include "kernel/sys/file.h"
#include "kernel/sys/ipc.h"

#define SETS 128u
#define SEMS_MOST 32000u /* of a set: Linux's */
#define OPS_MOST 500u    /* of a call: Linux's */
#define VALUE_MOST 32767
#define SEM_UNDO 0x1000

struct sembuf { /* Linux's */
	uint16_t num;
	int16_t op, flags;
};
struct semid_ds { /* Linux's */
	struct ipc_perm perm;
	ARCH_SEM_TIME(otime)
	ARCH_SEM_TIME(ctime)
	uint64_t nsems, u3, u4;
};

struct sem {
	uint16_t s_value;
	uint16_t s_ncount, s_zcount; /* threads that wait for more, and for 0 */
	int s_pid;                   /* of the last operation */
};
struct undo {
	struct undo *u_next;
	const struct proc *u_proc;
	int32_t u_adjust[]; /* one for each semaphore */
};
static struct semset {
	struct sem *t_sem; /* NULL: free */
	unsigned t_n, t_use, t_mode;
	int t_key;
	uint32_t t_otime, t_ctime;
	struct undo *t_undo;
	struct waitq t_wait; /* sched_lock */
} sets[SETS];                /* sem_lock */
static struct mach_mutex sem_lock;

void sem_init(void) { mach_mutex_init(&sem_lock, 4, "semaphores"); }

static int id_of(unsigned i) { return ipc_id(i, SETS, sets[i].t_use); }

/* sem_lock held; NULL: there is no such set. */
static struct semset *set_of(uint64_t id)
{
	unsigned i = (unsigned)id % SETS;

	KASSERT(mach_mutex_held(&sem_lock));
	return (int)id >= 0 && sets[i].t_sem != NULL && id_of(i) == (int)id ? &sets[i] : NULL;
}

/* ---- sets ---- */
static int64_t make_set(int key, uint64_t n, unsigned mode)
{
	unsigned i = 0;

	if (n == 0 || n > SEMS_MOST)
		return -EINVAL;
	while (i < SETS && sets[i].t_sem != NULL)
		i++;
	if (i == SETS)
		return -ENOSPC;
	if ((sets[i].t_sem = kzalloc(n * sizeof(struct sem))) == NULL)
		return -ENOMEM;
	sets[i].t_n = (unsigned)n;
	sets[i].t_key = key;
	sets[i].t_mode = mode & 0777;
	sets[i].t_otime = 0;
	sets[i].t_ctime = vfs_now();
	return id_of(i);
}

int64_t sys_semget(const uint64_t *a)
{
	int key = (int)a[0];
	int64_t r = -ENOENT;
	unsigned i = 0;

	if ((int)a[1] < 0)
		return -EINVAL;
	mach_mutex_enter(&sem_lock);
	while (i < SETS && (key == IPC_PRIVATE || sets[i].t_sem == NULL || sets[i].t_key != key))
		i++;
	if (i < SETS && (a[2] & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL))
		r = -EEXIST;
	else if (i < SETS)
		r = a[1] > sets[i].t_n ? -EINVAL : id_of(i);
	else if (key == IPC_PRIVATE || (a[2] & IPC_CREAT))
		r = make_set(key, a[1], (unsigned)a[2]);
	mach_mutex_exit(&sem_lock);
	return r;
}

static size_t undo_bytes(const struct semset *t)
{
	return sizeof(struct undo) + t->t_n * sizeof(int32_t);
}

static void remove_set(struct semset *t)
{
	struct undo *u;

	while ((u = t->t_undo) != NULL) {
		t->t_undo = u->u_next;
		kfree(u, undo_bytes(t));
	}
	kfree(t->t_sem, t->t_n * sizeof(struct sem));
	t->t_sem = NULL;
	t->t_use++;
	wake(&t->t_wait);
}

/* ---- operations ---- */
/* What the process has to undo; made if it is not there. NULL: no memory. */
static struct undo *undo_of(struct semset *t, const struct proc *p)
{
	struct undo *u = t->t_undo;

	while (u != NULL && u->u_proc != p)
		u = u->u_next;
	if (u == NULL && (u = kzalloc(undo_bytes(t))) != NULL) {
		u->u_proc = p;
		u->u_next = t->t_undo;
		t->t_undo = u;
	}
	return u;
}

/* 0: done. -EAGAIN: it has to wait. */
static int64_t try_one(struct semset *t, const struct sembuf *op, struct undo *u)
{
	struct sem *s = &t->t_sem[op->num];
	int32_t value = s->s_value + op->op;

	if (op->op == 0)
		return s->s_value == 0 ? 0 : -EAGAIN;
	if (value < 0)
		return -EAGAIN;
	if (value > VALUE_MOST)
		return -ERANGE;
	s->s_value = (uint16_t)value;
	if (op->flags & SEM_UNDO)
		u->u_adjust[op->num] -= op->op;
	return 0;
}

static void take_back(struct semset *t, const struct sembuf *op, struct undo *u)
{
	t->t_sem[op->num].s_value = (uint16_t)(t->t_sem[op->num].s_value - op->op);
	if (op->flags & SEM_UNDO)
		u->u_adjust[op->num] += op->op;
}

/* All operations, or none: then *at is the first that has to wait, or fails. */
static int64_t try_all(
    struct semset *t, const struct sembuf *op, unsigned n, struct undo *u, unsigned *at)
{
	int64_t err = 0;
	unsigned i = 0;

	while (i < n && (err = try_one(t, &op[i], u)) == 0)
		i++;
	*at = i;
	if (err != 0)
		while (i > 0)
			take_back(t, &op[--i], u);
	else
		for (i = 0; i < n; i++)
			t->t_sem[op[i].num].s_pid = this_proc()->p_pid;
	return err;
}

/* Until the set changes. sem_lock is dropped meanwhile. 0, -EINTR, -EAGAIN (the deadline has passed). */
static int64_t wait_set(struct semset *t, const struct sembuf *op, uint64_t id, uint64_t deadline)
{
	uint16_t *count = op->op == 0 ? &t->t_sem[op->num].s_zcount : &t->t_sem[op->num].s_ncount;
	bool irq;
	int err;

	++*count;
	irq = spin_lock(&sched_lock);
	mutex_exit_locked(&sem_lock);
	err = wait_on(&t->t_wait, deadline, true);
	spin_unlock(&sched_lock, irq);
	mach_mutex_enter(&sem_lock);
	if (set_of(id) != t)
		return -EIDRM;
	--*count;
	return err == -ETIMEDOUT ? -EAGAIN : err;
}

/* sem_lock held. */
static int64_t operate_locked_set(
    uint64_t id, const struct sembuf *op, unsigned n, uint64_t deadline)
{
	struct semset *t = set_of(id);
	struct undo *u = NULL;
	unsigned at;
	int64_t err;

	if (t == NULL)
		return -EINVAL;
	for (unsigned i = 0; i < n; i++) {
		if (op[i].num >= t->t_n)
			return -EFBIG;
		if ((op[i].flags & SEM_UNDO) && u == NULL && (u = undo_of(t, this_proc())) == NULL)
			return -ENOMEM;
	}
	while ((err = try_all(t, op, n, u, &at)) == -EAGAIN) {
		if (op[at].flags & IPC_NOWAIT)
			return -EAGAIN;
		if ((err = wait_set(t, &op[at], id, deadline)) != 0)
			return err;
	}
	if (err == 0) {
		t->t_otime = vfs_now();
		wake(&t->t_wait);
	}
	return err;
}

static int64_t run_operations(uint64_t id, uint64_t ops, uint64_t n, uint64_t deadline)
{
	struct sembuf *op;
	int64_t err;

	if (n == 0)
		return -EINVAL;
	if (n > OPS_MOST)
		return -E2BIG;
	if ((op = kalloc(n * sizeof(*op))) == NULL)
		return -ENOMEM;
	if ((err = copy_in(op, ops, n * sizeof(*op))) == 0) {
		mach_mutex_enter(&sem_lock);
		err = operate_locked_set(id, op, (unsigned)n, deadline);
		mach_mutex_exit(&sem_lock);
	}
	kfree(op, n * sizeof(*op));
	return err;
}

int64_t sys_semop(const uint64_t *a) { return run_operations(a[0], a[1], a[2], 0); }
int64_t sys_semtimedop(const uint64_t *a)
{
	uint64_t ns = 0;
	int err = a[3] != 0 ? copy_in_span(a[3], &ns) : 0;

	if (err != 0)
		return err;
	return run_operations(a[0], a[1], a[2], a[3] != 0 ? arch_time_ns() + ns + 1 : 0);
}

/* The process ends: what it asked for is undone. */
void sem_exit(const struct proc *p)
{
	mach_mutex_enter(&sem_lock);
	for (struct semset *t = sets; t < sets + SETS; t++) {
		struct undo **at = &t->t_undo, *u;

		while (*at != NULL && (*at)->u_proc != p)
			at = &(*at)->u_next;
		if ((u = *at) == NULL)
			continue;
		*at = u->u_next;
		for (unsigned i = 0; i < t->t_n; i++) {
			int32_t value = t->t_sem[i].s_value + u->u_adjust[i];

			if (u->u_adjust[i] == 0)
				continue;
			value = value < 0 ? 0 : value;
			t->t_sem[i].s_value = (uint16_t)(value > VALUE_MOST ? VALUE_MOST : value);
			t->t_sem[i].s_pid = p->p_pid;
		}
		kfree(u, undo_bytes(t));
		wake(&t->t_wait);
	}
	mach_mutex_exit(&sem_lock);
}

/* ---- semctl ---- */
/* A value that is set is nothing to be undone any more. */
static void forget_undo(struct semset *t, unsigned i)
{
	for (struct undo *u = t->t_undo; u != NULL; u = u->u_next)
		u->u_adjust[i] = 0;
}

static int64_t all_values(struct semset *t, uint64_t at, bool set)
{
	uint16_t *v = kalloc(t->t_n * sizeof(*v));
	int64_t err = v == NULL ? -ENOMEM : 0;

	for (unsigned i = 0; v != NULL && i < t->t_n; i++)
		v[i] = t->t_sem[i].s_value;
	if (err == 0)
		err = set ? copy_in(v, at, t->t_n * sizeof(*v))
			  : copy_out(at, v, t->t_n * sizeof(*v));
	for (unsigned i = 0; set && err == 0 && i < t->t_n; i++)
		err = v[i] > VALUE_MOST ? -ERANGE : 0;
	for (unsigned i = 0; set && err == 0 && i < t->t_n; i++) {
		t->t_sem[i].s_value = v[i];
		t->t_sem[i].s_pid = this_proc()->p_pid;
		forget_undo(t, i);
	}
	kfree(v, t->t_n * sizeof(*v));
	return err;
}

static int64_t set_value(struct semset *t, unsigned i, int value)
{
	if (value < 0 || value > VALUE_MOST)
		return -ERANGE;
	t->t_sem[i].s_value = (uint16_t)value;
	t->t_sem[i].s_pid = this_proc()->p_pid;
	forget_undo(t, i);
	return 0;
}

static int64_t tell_set(const struct semset *t, uint64_t at)
{
	struct semid_ds ds = { .perm = { .key = t->t_key, .mode = t->t_mode },
		.otime = t->t_otime,
		.ctime = t->t_ctime,
		.nsems = t->t_n };

	return copy_out(at, &ds, sizeof(ds));
}

static int64_t set_mode(struct semset *t, uint64_t at)
{
	struct semid_ds ds;

	if (copy_in(&ds, at, sizeof(ds)) != 0)
		return -EFAULT;
	t->t_mode = ds.perm.mode & 0777;
	t->t_ctime = vfs_now();
	return 0;
}

static int64_t of_one(struct semset *t, unsigned i, unsigned command, int value)
{
	const struct sem *s = &t->t_sem[i];

	switch (command) {
	case 11: return s->s_pid;    /* GETPID */
	case 12: return s->s_value;  /* GETVAL */
	case 14: return s->s_ncount; /* GETNCNT */
	case 15: return s->s_zcount; /* GETZCNT */
	default: return set_value(t, i, value);
	}
}

/* sem_lock held. */
static int64_t control_set(struct semset *t, uint64_t i, unsigned command, uint64_t arg)
{
	int64_t err;

	switch (command) {
	case IPC_RMID: remove_set(t); return 0;
	case IPC_SET: return set_mode(t, arg);
	case IPC_STAT: return tell_set(t, arg);
	case 13: /* GETALL */
	case 17: /* SETALL */ err = all_values(t, arg, command == 17); break;
	case 11:
	case 12:
	case 14:
	case 15:
	case 16: /* SETVAL */
		err = i < t->t_n ? of_one(t, (unsigned)i, command, (int)arg) : -EINVAL;
		break;
	default: return -EINVAL;
	}
	if (err == 0 && command >= 16) {
		t->t_ctime = vfs_now();
		wake(&t->t_wait);
	}
	return err;
}

int64_t sys_semctl(const uint64_t *a)
{
	struct semset *t;
	int64_t r = -EINVAL;

	mach_mutex_enter(&sem_lock);
	if ((t = set_of(a[0])) != NULL)
		r = control_set(t, a[1], (unsigned)a[2] & ~0x100u, a[3]);
	mach_mutex_exit(&sem_lock);
	return r;
}
