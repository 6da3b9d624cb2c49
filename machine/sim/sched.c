/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads and locks of the simulated machine: fibers and a randomised scheduler.
 *
 * One fiber runs at a time. It may lose the CPU at a scheduling point: before taking and after dropping a lock, at a
 * signal, at mach_yield and before each access of a program; a seeded draw decides, so the interleaving is a function
 * of the seed. While no other fiber exists a scheduling point is one comparison. The thread that made the machine is a
 * fiber too (m_main); disk interrupts run on one of their own (m_intr), which can run when a request is due.
 *
 * No fiber is woken: a waiting fiber records its condition, and the scheduler checks whether the
 * condition holds. When no fiber can run, time jumps to the next event (disk, timeout); if there is
 * no event, the run is deadlocked.
 *
 * Checked always: ranks rise (a lock taken by tryenter may be out of order but counts as held), no
 * lock is entered twice, no fiber drops a lock that it does not hold, no lock is held at the end of
 * a thread.
 */
#include "machine/sim/sim_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define STACK_BYTES (256u * 1024)
#define POINT_NS 50u

/* The use of the opaque words of machine.h on this machine. */
struct __attribute__((may_alias)) mutex {
	struct mach *mx_mach;
	struct mach_thread *mx_owner;
	const char *mx_name;
	uint64_t mx_rank;
};
struct __attribute__((may_alias)) rwlock {
	struct mach *rw_mach;
	struct mach_thread *rw_writer;
	const char *rw_name;
	uint64_t rw_rank, rw_readers;
};
struct __attribute__((may_alias)) cv {
	struct mach *cv_mach;
};
_Static_assert(sizeof(struct mutex) <= sizeof(struct mach_mutex), "fits");
_Static_assert(sizeof(struct rwlock) <= sizeof(struct mach_rwlock), "fits");
_Static_assert(sizeof(struct cv) <= sizeof(struct mach_cv), "fits");

static struct mutex *mutex_of(const struct mach_mutex *mx)
{
	return (struct mutex *)(uintptr_t)mx->opaque;
}
static struct cv *cv_of(const struct mach_cv *cv) { return (struct cv *)(uintptr_t)cv->opaque; }
static struct rwlock *rwlock_of(const struct mach_rwlock *rw)
{
	return (struct rwlock *)(uintptr_t)rw->opaque;
}

/* ---- the scheduler ---- */
static bool is_runnable(struct mach *m, struct mach_thread *f)
{
	const struct rwlock *rw;

	switch (f->f_state) {
	case F_RUN: return true;
	case F_MUTEX: return ((const struct mutex *)f->f_wait)->mx_owner == NULL;
	case F_RW_READ: rw = f->f_wait; return rw->rw_writer == NULL;
	case F_RW_WRITE: rw = f->f_wait; return rw->rw_writer == NULL && rw->rw_readers == 0;
	case F_CV:
		if (f->f_deadline == 0 || f->f_deadline > m->m_now)
			return false;
		f->f_timedout = true;
		f->f_state = F_MUTEX;
		f->f_wait = f->f_mutex;
		return ((const struct mutex *)f->f_wait)->mx_owner == NULL;
	case F_JOIN: return ((const struct mach_thread *)f->f_wait)->f_state == F_DONE;
	case F_IPI: sim_ipi_deliver(m); return ((const struct sim_ipi *)f->f_wait)->i_left == 0;
	case F_ALLDONE: return m->m_nprograms == 0;
	case F_INTR: return sim_disk_due(m, &(uint64_t){ 0 });
	case F_DISK: return f->f_deadline <= m->m_now;
	case F_IDLE: break; /* switch_fiber() */
	case F_DONE: break;
	}
	return false;
}

static void report_deadlock(struct mach *m)
{
	static const char *const what[] = { "runs", "mutex", "rwlock as reader", "rwlock as writer",
		"condition", "end of thread", "interrupts", "end of all programs", "disk", "idle",
		"disk", "done" };

	for (struct mach_thread *f = m->m_fibers; f != NULL; f = f->f_next) {
		const char *name = "";

		if (f->f_state == F_DONE || f->f_state == F_INTR || f->f_state == F_IDLE)
			continue;
		if (f->f_state == F_MUTEX)
			name = ((const struct mutex *)f->f_wait)->mx_name;
		else if (f->f_state == F_RW_READ || f->f_state == F_RW_WRITE)
			name = ((const struct rwlock *)f->f_wait)->rw_name;
		else if (f->f_state == F_CV)
			name = mutex_of(f->f_mutex)->mx_name;
		else if (f->f_state == F_JOIN)
			name = ((const struct mach_thread *)f->f_wait)->f_name;
		fprintf(
		    stderr, "deadlock: %s waits: %s %s; holds", f->f_name, what[f->f_state], name);
		for (unsigned i = 0; i < f->f_nheld; i++)
			if (f->f_held[i].h_lock != f->f_wait)
				fprintf(stderr, " %s", f->f_held[i].h_name);
		fprintf(stderr, "\n");
	}
	sim_panicf(m, "deadlock");
}

static struct mach_thread *pick_fiber(struct mach *m)
{
	struct mach_thread *chosen = NULL;
	uint64_t n = 0;

	for (struct mach_thread *f = m->m_fibers; f != NULL; f = f->f_next)
		if (is_runnable(m, f) && (++n == 1 || sim_random(m) % n == 0))
			chosen = f;
	return chosen;
}

static void next_event(struct mach *m)
{
	uint64_t when = UINT64_MAX;

	(void)sim_disk_due(m, &when);
	if (sim_ipi_next(m) < when)
		when = sim_ipi_next(m);
	for (struct mach_thread *f = m->m_fibers; f != NULL; f = f->f_next)
		if (f->f_state == F_CV && f->f_deadline != 0 && f->f_deadline < when)
			when = f->f_deadline;
	if (when == UINT64_MAX)
		report_deadlock(m);
	if (when > m->m_now)
		m->m_now = when;
}

/* Returns the idle fiber if it waits and has work. */
static struct mach_thread *idle_fiber(struct mach *m)
{
	bool ready = m->m_idle != NULL && !m->m_idledone && m->m_idler->f_state == F_IDLE;

	return ready ? m->m_idler : NULL;
}

/* Gives the CPU to a fiber that can run; returns when the caller can run and was chosen. */
static void switch_fiber(struct mach *m)
{
	struct mach_thread *me = m->m_cur, *f;

	while ((f = pick_fiber(m)) == NULL && (f = idle_fiber(m)) == NULL)
		next_event(m);
	m->m_idledone &= f == m->m_idler;
	f->f_state = F_RUN;
	if (f == me)
		return;
	m->m_stats.ss_switch++;
	m->m_cur = f;
	fiber_san_leave(&me->f_san, &f->f_san, me->f_state == F_DONE);
	if (swapcontext(&me->f_ctx, &f->f_ctx) != 0)
		sim_panicf(m, "swapcontext");
	fiber_san_arrive(&me->f_san);
	sim_current = m;
}

static void held_may_wait(struct mach *m, const char *what);

static void wait_for(struct mach *m, enum fiber_state state, const void *what)
{
	m->m_cur->f_state = state;
	m->m_cur->f_wait = what;
	switch_fiber(m);
}

void sim_wait_ipi(struct mach *m, const struct sim_ipi *ipi) { wait_for(m, F_IPI, ipi); }

void sim_wait_disk(struct mach *m, uint64_t due)
{
	held_may_wait(m, "the disk");
	m->m_cur->f_deadline = due;
	wait_for(m, F_DISK, NULL);
}

void sim_sched_point_slow(struct mach *m)
{
	m->m_now += POINT_NS;
	if (sim_random(m) % m->m_cfg.switch_every == 0)
		switch_fiber(m);
}

/* ---- idle CPUs ---- */
static void idle_main(void *arg)
{
	struct mach *m = arg;

	for (;;) {
		wait_for(m, F_IDLE, NULL);
		if (m->m_idle != NULL && m->m_idle(m->m_idlearg))
			m->m_stats.ss_idle++;
		else
			m->m_idledone = true;
	}
}

bool sim_idle(struct mach *m, bool (*fn)(void *), void *arg)
{
	sim_current = m;
	m->m_idle = NULL;
	if (m->m_idler == NULL) {
		if (fn != NULL && (m->m_idler = sim_fiber_new(m, idle_main, m, "idle")) != NULL)
			m->m_idler->f_state = F_IDLE;
	} else {
		while (m->m_idler->f_state != F_IDLE)
			switch_fiber(m); /* a piece of idle work continues */
	}
	m->m_idledone = false;
	m->m_idlearg = arg;
	m->m_idle = m->m_idler != NULL ? fn : NULL;
	return fn == NULL || m->m_idler != NULL;
}

/* ---- fibers ---- */
static void fiber_main(unsigned lo, unsigned hi)
{
	struct mach_thread *f =
	    (struct mach_thread *)(uintptr_t)((uint64_t)lo | (uint64_t)hi << 32);
	struct mach *m = f->f_mach;

	fiber_san_arrive(&f->f_san);
	sim_current = m;
	f->f_fn(f->f_arg);
	if (f->f_nheld != 0)
		sim_panicf(m, "%s ended holding %s", f->f_name, f->f_held[0].h_name);
	f->f_state = F_DONE;
	sim_cpu_idle(m, f->f_cpu);
	m->m_nlive--;
	if (f->f_program)
		m->m_nprograms--;
	switch_fiber(m);
	sim_panicf(m, "%s runs after its end", f->f_name);
}

static void context_init(struct mach_thread *f)
{
	uint64_t self = (uint64_t)(uintptr_t)f;

	if (getcontext(&f->f_ctx) != 0)
		sim_panicf(f->f_mach, "getcontext");
	f->f_ctx.uc_stack.ss_sp = f->f_stack;
	f->f_ctx.uc_stack.ss_size = STACK_BYTES;
	makecontext(&f->f_ctx, (void (*)(void))(uintptr_t)fiber_main, 2, (unsigned)self,
	    (unsigned)(self >> 32));
}

struct mach_thread *sim_fiber_new(struct mach *m, void (*fn)(void *), void *arg, const char *name)
{
	struct mach_thread *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->f_stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (f->f_stack == MAP_FAILED) {
		free(f);
		return NULL;
	}
	f->f_mach = m;
	f->f_name = name;
	f->f_fn = fn;
	f->f_arg = arg;
	f->f_cpu = (unsigned)(sim_random(m) % m->m_cfg.ncpus);
	context_init(f);
	fiber_san_init(&f->f_san, f->f_stack, STACK_BYTES);
	f->f_next = m->m_fibers;
	m->m_fibers = f;
	return f;
}

static void fiber_free(struct mach *m, struct mach_thread *f)
{
	struct mach_thread **p = &m->m_fibers;

	while (*p != f)
		p = &(*p)->f_next;
	*p = f->f_next;
	fiber_san_fini(&f->f_san);
	(void)munmap(f->f_stack, STACK_BYTES);
	free(f);
}

void sim_fibers_init(struct mach *m)
{
	m->m_main.f_mach = m;
	m->m_main.f_name = "main";
	fiber_san_init_thread(&m->m_main.f_san);
	m->m_fibers = m->m_cur = &m->m_main;
}

void sim_fibers_fini(struct mach *m)
{
	struct mach_thread *f, *next;

	if (m->m_cur != &m->m_main || m->m_nlive != 0)
		sim_panicf(m, "sim_destroy with %u threads", m->m_nlive);
	for (f = m->m_fibers; f != NULL; f = next) {
		next = f->f_next;
		if (f != &m->m_main)
			fiber_free(m, f);
	}
}

struct mach_thread *mach_thread_create(
    struct mach *m, void (*fn)(void *), void *arg, const char *name)
{
	struct mach_thread *f = m->m_cfg.threads ? sim_fiber_new(m, fn, arg, name) : NULL;

	if (f != NULL)
		m->m_nlive++;
	return f;
}

void mach_thread_join(struct mach_thread *f)
{
	struct mach *m = f->f_mach;

	if (f->f_state != F_DONE)
		wait_for(m, F_JOIN, f);
	fiber_free(m, f);
}

void sim_spawn(struct mach *m, void (*fn)(void *), void *arg, const char *name)
{
	struct mach_thread *f = sim_fiber_new(m, fn, arg, name);

	if (f == NULL)
		sim_panicf(m, "sim_spawn: no memory");
	f->f_program = true;
	m->m_nlive++;
	m->m_nprograms++;
}

void sim_run(struct mach *m)
{
	struct mach_thread *f, *next;

	sim_current = m;
	if (m->m_nprograms != 0)
		wait_for(m, F_ALLDONE, NULL);
	for (f = m->m_fibers; f != NULL; f = next) {
		next = f->f_next;
		if (f->f_program)
			fiber_free(m, f);
	}
}

unsigned mach_cpu_id(void) { return sim_current->m_cur->f_cpu; }
uint64_t mach_time_ns(void) { return sim_current->m_now; }
void sim_cpu_set(struct mach *m, unsigned cpu) { m->m_cur->f_cpu = cpu % m->m_cfg.ncpus; }

void mach_yield(void)
{
	struct mach *m = sim_current;

	m->m_now += POINT_NS;
	switch_fiber(m);
}

/* ---- held locks ---- */
static void held_push(
    struct mach *m, const void *lock, uint64_t rank, const char *name, bool ordered)
{
	struct mach_thread *f = m->m_cur;

	for (unsigned i = 0; i < f->f_nheld; i++)
		if (ordered && f->f_held[i].h_rank >= rank)
			sim_panicf(m, "%s takes %s (rank %u) while holding %s (rank %u)", f->f_name,
			    name, (unsigned)rank, f->f_held[i].h_name, f->f_held[i].h_rank);
	if (f->f_nheld == SIM_MAXHELD)
		sim_panicf(m, "%s holds too many locks", f->f_name);
	f->f_held[f->f_nheld++] =
	    (struct held){ .h_lock = lock, .h_rank = (unsigned)rank, .h_name = name };
}

static bool holds_lock(const struct mach *m, const void *lock)
{
	const struct mach_thread *f = m->m_cur;

	for (unsigned i = f->f_nheld; i > 0; i--)
		if (f->f_held[i - 1].h_lock == lock)
			return true;
	return false;
}

static void held_pop(struct mach *m, const void *lock, const char *name)
{
	struct mach_thread *f = m->m_cur;
	unsigned i = f->f_nheld;

	while (i > 0 && f->f_held[i - 1].h_lock != lock)
		i--;
	if (i == 0)
		sim_panicf(m, "%s drops %s, which it does not hold", f->f_name, name);
	for (f->f_nheld--; i <= f->f_nheld; i++)
		f->f_held[i - 1] = f->f_held[i];
}

/* ---- mutexes ---- */
/*
 * Called when a thread is about to wait for an event that is not a lock: the thread holds no lock
 * for which other threads may spin (MACH_RANK_SPIN).
 */
static void held_may_wait(struct mach *m, const char *what)
{
	const struct mach_thread *f = m->m_cur;

	for (unsigned i = 0; i < f->f_nheld; i++)
		if (f->f_held[i].h_rank >= MACH_RANK_SPIN)
			sim_panicf(m, "%s waits for %s while holding %s (rank %u)", f->f_name, what,
			    f->f_held[i].h_name, f->f_held[i].h_rank);
}

void mach_mutex_init(struct mach_mutex *mx, unsigned rank, const char *name)
{
	*mutex_of(mx) = (struct mutex){ .mx_mach = sim_current, .mx_rank = rank, .mx_name = name };
}

void mach_mutex_fini(struct mach_mutex *mx)
{
	struct mutex *l = mutex_of(mx);

	if (l->mx_owner != NULL)
		sim_panicf(l->mx_mach, "%s is held at its end", l->mx_name);
	l->mx_mach = NULL;
}

void mach_mutex_enter(struct mach_mutex *mx)
{
	struct mutex *l = mutex_of(mx);
	struct mach *m = l->mx_mach;

	sim_sched_point(m);
	if (l->mx_owner == m->m_cur)
		sim_panicf(m, "%s enters %s twice", m->m_cur->f_name, l->mx_name);
	held_push(m, l, l->mx_rank, l->mx_name, true);
	if (l->mx_owner != NULL) {
		/* the lock is listed as held while we wait; only report_deadlock() looks at our list meanwhile */
		wait_for(m, F_MUTEX, l);
	}
	l->mx_owner = m->m_cur;
}

bool mach_mutex_tryenter(struct mach_mutex *mx)
{
	struct mutex *l = mutex_of(mx);
	struct mach *m = l->mx_mach;

	sim_sched_point(m);
	if (l->mx_owner != NULL)
		return false;
	held_push(m, l, l->mx_rank, l->mx_name, false);
	l->mx_owner = m->m_cur;
	return true;
}

void mach_mutex_exit(struct mach_mutex *mx)
{
	struct mutex *l = mutex_of(mx);
	struct mach *m = l->mx_mach;

	if (l->mx_owner != m->m_cur)
		sim_panicf(m, "%s drops %s, which it does not hold", m->m_cur->f_name, l->mx_name);
	held_pop(m, l, l->mx_name);
	l->mx_owner = NULL;
	sim_sched_point(m);
}

bool mach_mutex_held(const struct mach_mutex *mx)
{
	const struct mutex *l = mutex_of(mx);

	return l->mx_owner == l->mx_mach->m_cur;
}

/* ---- reader-writer locks ---- */
void mach_rw_init(struct mach_rwlock *rw, unsigned rank, const char *name)
{
	*rwlock_of(rw) =
	    (struct rwlock){ .rw_mach = sim_current, .rw_rank = rank, .rw_name = name };
}

void mach_rw_fini(struct mach_rwlock *rw)
{
	struct rwlock *l = rwlock_of(rw);

	if (l->rw_writer != NULL || l->rw_readers != 0)
		sim_panicf(l->rw_mach, "%s is held at its end", l->rw_name);
	l->rw_mach = NULL;
}

static bool rw_free(const struct rwlock *l, bool writer)
{
	return l->rw_writer == NULL && (!writer || l->rw_readers == 0);
}

static void rw_take(struct rwlock *l, bool writer)
{
	if (writer)
		l->rw_writer = l->rw_mach->m_cur;
	else
		l->rw_readers++;
}

void mach_rw_enter(struct mach_rwlock *rw, bool writer)
{
	struct rwlock *l = rwlock_of(rw);
	struct mach *m = l->rw_mach;

	sim_sched_point(m);
	if (holds_lock(m, l))
		sim_panicf(m, "%s enters %s twice", m->m_cur->f_name, l->rw_name);
	held_push(m, l, l->rw_rank, l->rw_name, true);
	if (!rw_free(l, writer))
		wait_for(m, writer ? F_RW_WRITE : F_RW_READ, l);
	rw_take(l, writer);
}

bool mach_rw_tryenter(struct mach_rwlock *rw, bool writer)
{
	struct rwlock *l = rwlock_of(rw);
	struct mach *m = l->rw_mach;

	sim_sched_point(m);
	if (holds_lock(m, l) || !rw_free(l, writer))
		return false;
	held_push(m, l, l->rw_rank, l->rw_name, false);
	rw_take(l, writer);
	return true;
}

void mach_rw_exit(struct mach_rwlock *rw)
{
	struct rwlock *l = rwlock_of(rw);
	struct mach *m = l->rw_mach;

	held_pop(m, l, l->rw_name);
	if (l->rw_writer == m->m_cur)
		l->rw_writer = NULL;
	else
		l->rw_readers--;
	sim_sched_point(m);
}

bool mach_rw_held(const struct mach_rwlock *rw, bool writer)
{
	const struct rwlock *l = rwlock_of(rw);

	return writer ? l->rw_writer == l->rw_mach->m_cur : holds_lock(l->rw_mach, l);
}

/* ---- condition variables: a waiter is a fiber in F_CV whose f_wait is the variable ---- */
void mach_cv_init(struct mach_cv *cv) { *cv_of(cv) = (struct cv){ .cv_mach = sim_current }; }

void mach_cv_fini(struct mach_cv *cv)
{
	struct cv *c = cv_of(cv);

	for (struct mach_thread *f = c->cv_mach->m_fibers; f != NULL; f = f->f_next)
		if (f->f_state == F_CV && f->f_wait == cv)
			sim_panicf(c->cv_mach, "%s waits for a condition at its end", f->f_name);
	c->cv_mach = NULL;
}

static bool cv_wait(struct mach_cv *cv, struct mach_mutex *mx, uint64_t deadline)
{
	struct mutex *l = mutex_of(mx);
	struct mach *m = l->mx_mach;
	struct mach_thread *f = m->m_cur;

	if (l->mx_owner != f)
		sim_panicf(m, "%s waits without %s", f->f_name, l->mx_name);
	held_pop(m, l, l->mx_name);
	held_may_wait(m, "a condition");
	l->mx_owner = NULL;
	f->f_mutex = mx;
	f->f_deadline = deadline;
	f->f_timedout = false;
	wait_for(m, F_CV, cv); /* the scheduler chose this fiber while the mutex is free */
	held_push(m, l, l->mx_rank, l->mx_name, true);
	l->mx_owner = f;
	return !f->f_timedout;
}

void mach_cv_wait(struct mach_cv *cv, struct mach_mutex *mx) { (void)cv_wait(cv, mx, 0); }

bool mach_cv_timedwait(struct mach_cv *cv, struct mach_mutex *mx, uint64_t ns)
{
	return cv_wait(cv, mx, mutex_of(mx)->mx_mach->m_now + (ns == 0 ? 1 : ns));
}

static void wake_fiber(struct mach_thread *f)
{
	f->f_state = F_MUTEX;
	f->f_wait = f->f_mutex;
}

void mach_cv_broadcast(struct mach_cv *cv)
{
	struct mach *m = cv_of(cv)->cv_mach;

	for (struct mach_thread *f = m->m_fibers; f != NULL; f = f->f_next)
		if (f->f_state == F_CV && f->f_wait == cv)
			wake_fiber(f);
	sim_sched_point(m);
}
