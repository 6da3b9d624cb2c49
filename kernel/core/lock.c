/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * machine.h's locks and condition variables.
 *
 * Spin mutex: a mutex of rank MACH_RANK_SPIN or more. The holder has preemption off and never
 * sleeps. Sleeping mutex: every other mutex. While no thread waits, one instruction on the owner
 * word takes or drops the mutex. Otherwise both happen under sched_lock, and the lock is handed to
 * the thread that has waited longest. Reader-writer lock: one word counts the readers. A thread
 * that must wait sets rw_waiting and reads the word again, under sched_lock; a thread that leaves
 * changes the word and then reads rw_waiting. All four are sequentially consistent, so at least one
 * of the two threads sees the other, and no wake-up is lost. A thread records in t_reads the locks
 * that it holds as reader, so that mach_rw_held answers for its caller.
 *
 * Locks: sched_lock guards every queue of waiting threads; the words are atomic. Invariant, always
 * checked: the thread that drops a mutex holds it. Left out: the check of ranks, which the
 * simulated machine does.
 */
#include "kernel/core/kernel.h"
#include "kernel/core/thread.h"

struct mutex {
	_Atomic uint64_t mx_owner; /* the owner | 1 if threads wait; spin mutex: the owner */
	struct waitq mx_wait;      /* sched_lock */
	uint32_t mx_rank;          /* const */
};
_Static_assert(sizeof(struct mutex) <= sizeof(struct mach_mutex), "a mutex fits its room");

struct rwlock {
	_Atomic int64_t rw_state; /* number of readers; -1: a writer */
	_Atomic uint64_t rw_waiting;
	struct waitq rw_wait;     /* sched_lock */
	struct thread *rw_writer; /* the writer's */
};
_Static_assert(sizeof(struct rwlock) <= sizeof(struct mach_rwlock), "a lock fits its room");

struct cv {
	struct waitq cv_wait; /* sched_lock */
};
_Static_assert(sizeof(struct cv) <= sizeof(struct mach_cv), "a condition fits its room");

static struct mutex *mutex_of(const struct mach_mutex *m) { return (struct mutex *)(uintptr_t)m; }
static struct rwlock *rwlock_of(const struct mach_rwlock *l)
{
	return (struct rwlock *)(uintptr_t)l;
}
static struct cv *cv_of(struct mach_cv *c) { return (struct cv *)(void *)c; }
static uint64_t current_owner(void) { return (uint64_t)(uintptr_t)arch_cur(); }
static bool is_spin_mutex(const struct mutex *m) { return m->mx_rank >= MACH_RANK_SPIN; }

/* ---- mutexes ---- */
void mach_mutex_init(struct mach_mutex *mx, unsigned rank, const char *name)
{
	(void)name;
	*mutex_of(mx) = (struct mutex){ .mx_rank = rank };
}

void mach_mutex_fini(struct mach_mutex *mx)
{
	if (mutex_of(mx)->mx_owner != 0)
		kpanic("a mutex is held at its end");
}

static void enter_sleeping(struct mutex *m)
{
	bool irq = spin_lock(&sched_lock);
	uint64_t old = 0;

	while (!__atomic_compare_exchange_n((uint64_t *)(void *)&m->mx_owner, &old, current_owner(),
	    false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		if ((old & ~1ull) == current_owner())
			kpanic("a mutex of rank %u is entered twice", m->mx_rank);
		if (!(old & 1) &&
		    !__atomic_compare_exchange_n((uint64_t *)(void *)&m->mx_owner, &old, old | 1,
			false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			old = 0;
			continue;
		}
		(void)wait_on(&m->mx_wait, 0, false);
		break; /* the thread that unlocked it gave the mutex to this thread */
	}
	spin_unlock(&sched_lock, irq);
}

void mach_mutex_enter(struct mach_mutex *mx)
{
	struct mutex *m = mutex_of(mx);
	unsigned rounds = 0;
	uint64_t old = 0;

	if (is_spin_mutex(m))
		preempt_off();
	if (__atomic_compare_exchange_n((uint64_t *)(void *)&m->mx_owner, &old, current_owner(),
		false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return;
	if (!is_spin_mutex(m)) {
		enter_sleeping(m);
		return;
	}
	do {
		if (old == current_owner())
			kpanic("a mutex of rank %u is entered twice", m->mx_rank);
		while (__atomic_load_n((uint64_t *)(void *)&m->mx_owner, __ATOMIC_RELAXED) != 0)
			arch_relax_long(&rounds);
		old = 0;
	} while (!__atomic_compare_exchange_n((uint64_t *)(void *)&m->mx_owner, &old,
	    current_owner(), false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
}

bool mach_mutex_tryenter(struct mach_mutex *mx)
{
	struct mutex *m = mutex_of(mx);
	uint64_t old = 0;
	bool ok;

	if (is_spin_mutex(m))
		preempt_off();
	ok = __atomic_compare_exchange_n((uint64_t *)(void *)&m->mx_owner, &old, current_owner(),
	    false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
	if (!ok && is_spin_mutex(m))
		preempt_on();
	return ok;
}

/* Hands the mutex to the first waiting thread. sched_lock held. */
static void hand_over(struct mutex *m)
{
	struct thread *t = m->mx_wait.wq_head;

	KASSERT(spin_held(&sched_lock));
	wake_one(&m->mx_wait);
	__atomic_store_n((uint64_t *)(void *)&m->mx_owner,
	    (uint64_t)(uintptr_t)t | (m->mx_wait.wq_head != NULL), __ATOMIC_RELEASE);
}

/* sched_lock held. */
static void release_locked(struct mutex *m)
{
	uint64_t old = current_owner();

	KASSERT(spin_held(&sched_lock));
	if (is_spin_mutex(m)) {
		__atomic_store_n((uint64_t *)(void *)&m->mx_owner, 0, __ATOMIC_RELEASE);
		arch_cur()->t_preempt--;
	} else if (!__atomic_compare_exchange_n((uint64_t *)(void *)&m->mx_owner, &old, 0, false,
		       __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
		if (old != (current_owner() | 1))
			kpanic("a mutex of rank %u is dropped by another thread", m->mx_rank);
		hand_over(m);
	}
}

void mutex_exit_locked(struct mach_mutex *mx)
{
	KASSERT(spin_held(&sched_lock));
	release_locked(mutex_of(mx));
}

void mach_mutex_exit(struct mach_mutex *mx)
{
	struct mutex *m = mutex_of(mx);
	uint64_t old = current_owner();
	bool irq;

	if (is_spin_mutex(m)) {
		if (__atomic_load_n((uint64_t *)(void *)&m->mx_owner, __ATOMIC_RELAXED) !=
		    current_owner())
			kpanic("a mutex of rank %u is dropped by another thread", m->mx_rank);
		__atomic_store_n((uint64_t *)(void *)&m->mx_owner, 0, __ATOMIC_RELEASE);
		preempt_on();
		return;
	}
	if (__atomic_compare_exchange_n((uint64_t *)(void *)&m->mx_owner, &old, 0, false,
		__ATOMIC_RELEASE, __ATOMIC_RELAXED))
		return;
	irq = spin_lock(&sched_lock);
	release_locked(m);
	spin_unlock(&sched_lock, irq);
}

bool mach_mutex_held(const struct mach_mutex *mx)
{
	return (mutex_of(mx)->mx_owner & ~1ull) == current_owner();
}

/* ---- reader-writer locks ---- */
void mach_rw_init(struct mach_rwlock *rw, unsigned rank, const char *name)
{
	(void)rank;
	(void)name;
	*rwlock_of(rw) = (struct rwlock){ 0 };
}

void mach_rw_fini(struct mach_rwlock *rw)
{
	if (rwlock_of(rw)->rw_state != 0)
		kpanic("a reader-writer lock is held at its end");
}

/* The place in t_reads of the current thread that holds l; NULL: a free place. */
static const void **read_place(const struct rwlock *l)
{
	struct thread *t = arch_cur();

	for (unsigned i = 0; i < THREAD_READS; i++)
		if (t->t_reads[i] == l)
			return &t->t_reads[i];
	return NULL;
}

static void replace_read(const struct rwlock *from, const struct rwlock *to)
{
	const void **place = read_place(from);

	if (place == NULL)
		kpanic(from == NULL ? "a thread reads under too many locks"
				    : "a reader-writer lock is dropped by another thread");
	*place = to;
}

bool mach_rw_tryenter(struct mach_rwlock *rw, bool writer)
{
	struct rwlock *l = rwlock_of(rw);
	int64_t s = __atomic_load_n((int64_t *)(void *)&l->rw_state, __ATOMIC_SEQ_CST);

	while (writer ? s == 0 : s >= 0) {
		if (!__atomic_compare_exchange_n((int64_t *)(void *)&l->rw_state, &s,
			writer ? -1 : s + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			continue;
		if (writer)
			l->rw_writer = arch_cur();
		else
			replace_read(NULL, l);
		return true;
	}
	return false;
}

void mach_rw_enter(struct mach_rwlock *rw, bool writer)
{
	struct rwlock *l = rwlock_of(rw);
	bool irq;

	if (mach_rw_tryenter(rw, writer))
		return;
	irq = spin_lock(&sched_lock);
	__atomic_add_fetch((uint64_t *)(void *)&l->rw_waiting, 1, __ATOMIC_SEQ_CST);
	while (!mach_rw_tryenter(rw, writer))
		(void)wait_on(&l->rw_wait, 0, false);
	__atomic_sub_fetch((uint64_t *)(void *)&l->rw_waiting, 1, __ATOMIC_SEQ_CST);
	spin_unlock(&sched_lock, irq);
}

void mach_rw_exit(struct mach_rwlock *rw)
{
	struct rwlock *l = rwlock_of(rw);
	int64_t s = __atomic_load_n((int64_t *)(void *)&l->rw_state, __ATOMIC_RELAXED);

	if (s == 0)
		kpanic("a reader-writer lock is dropped that nobody holds");
	if (s < 0) {
		l->rw_writer = NULL;
		__atomic_store_n((int64_t *)(void *)&l->rw_state, 0, __ATOMIC_SEQ_CST);
	} else {
		replace_read(l, NULL);
		if (__atomic_sub_fetch((int64_t *)(void *)&l->rw_state, 1, __ATOMIC_SEQ_CST) != 0)
			return;
	}
	if (__atomic_load_n((uint64_t *)(void *)&l->rw_waiting, __ATOMIC_SEQ_CST) != 0)
		wake(&l->rw_wait);
}

bool mach_rw_held(const struct mach_rwlock *rw, bool writer)
{
	const struct rwlock *l = rwlock_of(rw);

	if (l->rw_state < 0)
		return l->rw_writer == arch_cur();
	return !writer && read_place(l) != NULL;
}

/* ---- condition variables ---- */
void mach_cv_init(struct mach_cv *cv) { *cv_of(cv) = (struct cv){ 0 }; }

void mach_cv_fini(struct mach_cv *cv)
{
	if (cv_of(cv)->cv_wait.wq_head != NULL)
		kpanic("a thread waits for a condition at its end");
}

static bool cv_wait(struct mach_cv *cv, struct mach_mutex *mx, uint64_t deadline)
{
	bool irq = spin_lock(&sched_lock);
	int err;

	release_locked(mutex_of(mx));
	if (arch_cur()->t_preempt != 0)
		kpanic("a thread waits while it holds a lock that spins");
	err = wait_on(&cv_of(cv)->cv_wait, deadline, false);
	spin_unlock(&sched_lock, irq);
	mach_mutex_enter(mx);
	return err != -ETIMEDOUT;
}

void mach_cv_wait(struct mach_cv *cv, struct mach_mutex *mx) { (void)cv_wait(cv, mx, 0); }

bool mach_cv_timedwait(struct mach_cv *cv, struct mach_mutex *mx, uint64_t ns)
{
	uint64_t now = arch_time_ns();

	return cv_wait(cv, mx, ns > ~0ull - now ? ~0ull : now + ns);
}

void mach_cv_broadcast(struct mach_cv *cv) { wake(&cv_of(cv)->cv_wait); }
