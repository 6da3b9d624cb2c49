/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Timers: alarms of processes, timer_create's, timerfd's.
 *
 * Running timers are in one list, in the order of expiration. One thread sleeps until the first
 * timer is due and calls its tm_fire; if a timer has expired several times, tm_fire is called once
 * with the count. A thread does this, not the interrupt, as a signal needs proc_lock, which sleeps.
 * The resolution is a tick.
 *
 * The timers of timer_create belong to their process (p_timers). Such a timer has at most one
 * signal pending; further expirations until the signal is taken are the signal's overrun.
 *
 * Locks, outermost first: ptimer_lock (the lists p_timers), timer_lock (the list), proc_lock; all sleep. next_at is under sched_lock.
 * The wall clock is the time since the start and a constant, which clock_settime changes (wall_set). A timer that was set to a time of
 * that clock then expires sooner or later (tm_wall).
 * The thread compares a timer of CPU time with its clock when the timer can have expired at the earliest, and again at least 10 ms later
 * until it has expired (tm_clock).
 * Left out: a timerfd of CPU time; timers of another process's CPU time; user time and system time are one.
 */
#include "kernel/proc/timer.h"
#include "kernel/proc/signal.h"
#include "kernel/sys/calls.h"
#include "kernel/sys/file.h"

#define PTIMERS_MOST 256

static struct mach_mutex timer_lock, ptimer_lock;
static struct timer *timers;     /* timer_lock: by tm_at, rising */
static uint64_t next_at;         /* sched_lock: tm_at of the first timer; 0: none */
static struct waitq timer_queue; /* sched_lock: the thread */

static void list_remove(struct timer *t)
{
	struct timer **p = &timers;

	while (*p != NULL && *p != t)
		p = &(*p)->tm_next;
	if (*p != NULL)
		*p = t->tm_next;
}

static void list_add(struct timer *t)
{
	struct timer **p = &timers;

	while (*p != NULL && (*p)->tm_at <= t->tm_at)
		p = &(*p)->tm_next;
	t->tm_next = *p;
	*p = t;
}

/* Tells the thread the new time of the first timer. timer_lock held. */
static void tell_thread(void)
{
	uint64_t at = timers != NULL ? timers->tm_at : 0;
	bool irq = spin_lock(&sched_lock), sooner = at != 0 && (next_at == 0 || at < next_at);

	next_at = at;
	if (sooner)
		wake_all(&timer_queue);
	spin_unlock(&sched_lock, irq);
}

static uint64_t clock_of(struct timer *t)
{
	return t->tm_clock != NULL ? t->tm_clock(t) : arch_time_ns();
}

/* timer_lock held. */
static void look_at(struct timer *t, struct timer_state *s)
{
	uint64_t now = clock_of(t);

	*s = (struct timer_state){ 0, t->tm_every };
	if (t->tm_at != 0)
		s->ts_left =
		    t->tm_goal > now ? t->tm_goal - now : 1; /* the timer is due and not off */
}

#define LOOK_NS 10000000u

/* The time at which the timer can expire at the earliest. */
static uint64_t look_time(struct timer *t)
{
	uint64_t now, left;

	if (t->tm_clock == NULL)
		return t->tm_goal;
	now = clock_of(t);
	left = t->tm_goal > now ? (t->tm_goal - now) / t->tm_cpus : 0;
	return arch_time_ns() + (left > LOOK_NS ? left : LOOK_NS);
}

void timer_set(struct timer *t, uint64_t at, uint64_t every, bool wall, struct timer_state *old)
{
	mach_mutex_enter(&timer_lock);
	if (wall && at != 0) /* the wall clock's zero lies before the start */
		at = at > wall_base() ? at - wall_base() : 1;
	t->tm_wall = wall;
	if (old != NULL)
		look_at(t, old);
	list_remove(t);
	t->tm_goal = at;
	t->tm_every = every;
	t->tm_at = at != 0 ? look_time(t) : 0;
	if (at != 0)
		list_add(t);
	tell_thread();
	mach_mutex_exit(&timer_lock);
}

void timer_get(struct timer *t, struct timer_state *s)
{
	mach_mutex_enter(&timer_lock);
	look_at(t, s);
	mach_mutex_exit(&timer_lock);
}

void timer_stop(struct timer *t) { timer_set(t, 0, 0, false, NULL); }

void wall_set(uint64_t ns)
{
	struct timer *t, *rest;
	uint64_t old;

	mach_mutex_enter(&timer_lock);
	old = wall_base();
	wall_base_set(ns - arch_time_ns());
	rest = timers;
	timers = NULL;
	while ((t = rest) != NULL) {
		rest = t->tm_next;
		if (t->tm_wall)
			t->tm_at = t->tm_goal =
			    t->tm_goal + old > wall_base() ? t->tm_goal + old - wall_base() : 1;
		list_add(t);
	}
	tell_thread();
	mach_mutex_exit(&timer_lock);
}

/* Returns how many times the timer, which is in no list, has expired; the timer enters the list again, unless it is off then. */
static uint64_t check_goal(struct timer *t)
{
	uint64_t now = clock_of(t), times = 0;

	if (now >= t->tm_goal) {
		times = t->tm_every != 0 ? 1 + (now - t->tm_goal) / t->tm_every : 1;
		t->tm_goal += times * t->tm_every;
	}
	t->tm_at = times != 0 && t->tm_every == 0 ? 0 : look_time(t);
	if (t->tm_at != 0)
		list_add(t);
	return times;
}

static void fire_due(void)
{
	uint64_t now = arch_time_ns(), times;
	struct timer *t;

	mach_mutex_enter(&timer_lock);
	while ((t = timers) != NULL && t->tm_at <= now) {
		timers = t->tm_next;
		if ((times = check_goal(t)) != 0)
			t->tm_fire(t, times);
	}
	tell_thread();
	mach_mutex_exit(&timer_lock);
}

static void run_timers(void *arg)
{
	(void)arg;
	for (;;) {
		bool irq = spin_lock(&sched_lock);

		if (next_at == 0 || next_at > arch_time_ns())
			(void)wait_on(&timer_queue, next_at, false);
		spin_unlock(&sched_lock, irq);
		work_begin();
		fire_due();
		work_end();
	}
}

void timers_start(void)
{
	struct thread *t;

	mach_mutex_init(&ptimer_lock, 5, "timers of processes");
	mach_mutex_init(&timer_lock, 6, "timers");
	if ((t = thread_new(run_timers, NULL, "timers")) != NULL)
		thread_go(t);
}

/* ---- setitimer, alarm ---- */
static void fire_itimer(struct timer *t, uint64_t times)
{
	struct itimer *it = (struct itimer *)(void *)t;

	(void)times;
	mach_mutex_enter(&proc_lock);
	signal_send_proc(it->it_proc, it->it_sig, 128, 0);
	mach_mutex_exit(&proc_lock);
}

static uint64_t itimer_clock(struct timer *t)
{
	return proc_cpu_ns(((struct itimer *)(void *)t)->it_proc);
}

void itimers_init(struct proc *p)
{
	static const int sigs[ITIMERS] = { SIGALRM, SIGVTALRM, SIGPROF };

	for (unsigned i = 0; i < ITIMERS; i++)
		p->p_itimers[i] = (struct itimer){ .it_timer.tm_fire = fire_itimer,
			.it_timer.tm_clock = i == 0 ? NULL : itimer_clock,
			.it_timer.tm_cpus = arch_ncpus(),
			.it_proc = p,
			.it_sig = sigs[i] };
}

int64_t sys_alarm(const uint64_t *a)
{
	struct timer_state old;

	timer_set(&this_proc()->p_itimers[0].it_timer,
	    (unsigned)a[0] != 0 ? arch_time_ns() + span_ns((unsigned)a[0], 0) : 0, 0, false, &old);
	return (int64_t)((old.ts_left + 999999999) / 1000000000);
}

static bool is_timeval(const uint64_t *t) { return (int64_t)t[0] >= 0 && t[1] < 1000000; }

static int64_t give_timevals(uint64_t to, const struct timer_state *s)
{
	uint64_t t[4] = { s->ts_every / 1000000000, s->ts_every % 1000000000 / 1000,
		s->ts_left / 1000000000, s->ts_left % 1000000000 / 1000 };

	if (s->ts_left != 0 && t[2] == 0 && t[3] == 0)
		t[3] = 1; /* less than a microsecond left does not count as off */
	return copy_out(to, t, sizeof(t));
}

int64_t sys_setitimer(const uint64_t *a)
{
	struct timer_state old;
	struct timer *tm;
	uint64_t t[4], at;

	if (a[0] >= ITIMERS)
		return -EINVAL;
	if (a[1] == 0)
		return a[2] != 0 ? sys_getitimer((const uint64_t[6]){ a[0], a[2] }) : 0;
	if (copy_in(t, a[1], sizeof(t)) != 0)
		return -EFAULT;
	if (!is_timeval(t) || !is_timeval(t + 2))
		return -EINVAL;
	tm = &this_proc()->p_itimers[a[0]].it_timer;
	at = t[2] == 0 && t[3] == 0 ? 0 : clock_of(tm) + span_ns(t[2], t[3] * 1000);
	timer_set(tm, at, at != 0 ? span_ns(t[0], t[1] * 1000) : 0, false, &old);
	return a[2] != 0 ? give_timevals(a[2], &old) : 0;
}

int64_t sys_getitimer(const uint64_t *a)
{
	struct timer_state s = { 0, 0 };

	if (a[0] >= ITIMERS)
		return -EINVAL;
	timer_get(&this_proc()->p_itimers[a[0]].it_timer, &s);
	return give_timevals(a[1], &s);
}

/* ---- code shared by timer_settime and timerfd_settime ---- */
#define TIMER_ABSTIME 1u

static bool is_timer_clock(uint64_t id)
{
	/* REALTIME, MONOTONIC, BOOTTIME and the _ALARM clocks */
	return id <= 1 || (id >= 7 && id <= 9);
}

struct timer_spec { /* timer_set's arguments */
	uint64_t sp_at, sp_every;
	bool sp_wall;
};

/* Reads the program's itimerspec. 0 or a negative error. */
static int spec_in(
    uint64_t from, uint64_t clock, struct timer *tm, bool absolute, struct timer_spec *s)
{
	uint64_t t[4], now = clock_of(tm);

	if (copy_in(t, from, sizeof(t)) != 0)
		return -EFAULT;
	if ((int64_t)t[0] < 0 || (int64_t)t[2] < 0 || t[1] >= 1000000000 || t[3] >= 1000000000)
		return -EINVAL;
	*s = (struct timer_spec){ .sp_every = span_ns(t[0], t[1]) };
	if (t[2] == 0 && t[3] == 0)
		return 0;
	s->sp_at = span_ns(t[2], t[3]) + (absolute ? 0 : now);
	s->sp_wall = absolute && (clock == 0 || clock == 8);
	return 0;
}

static int64_t spec_out(uint64_t to, const struct timer_state *s)
{
	const uint64_t t[4] = { s->ts_every / 1000000000, s->ts_every % 1000000000,
		s->ts_left / 1000000000, s->ts_left % 1000000000 };

	return copy_out(to, t, sizeof(t));
}

/* ---- timer_create ---- */
#define SI_TIMER (-2)

struct ptimer {
	struct timer pt_timer;
	struct ptimer *pt_next;       /* ptimer_lock */
	struct proc *pt_proc;         /* const */
	uint64_t pt_clock, pt_value;  /* const */
	int pt_id, pt_sig, pt_notify; /* const */
	int pt_tid;                   /* const: the thread that gets the signal; 0: the process */
	int pt_cpu_tid; /* const: of a thread's CPU time: the thread; 0: the process's */
	_Atomic uint64_t pt_overrun; /* overrun of the signal that was taken last */
};

static void fire_ptimer(struct timer *t, uint64_t times)
{
	struct ptimer *pt = (struct ptimer *)(void *)t;
	struct uthread *u = NULL;

	if (pt->pt_notify == SIGEV_NONE)
		return;
	mach_mutex_enter(&proc_lock);
	if (pt->pt_tid != 0 &&
	    ((u = uthread_find(pt->pt_tid)) == NULL || u->u_proc != pt->pt_proc)) {
		mach_mutex_exit(&proc_lock);
		return;
	}
	if (signal_add_overrun(u != NULL ? &u->u_signals : &pt->pt_proc->p_signals, pt->pt_sig,
		(uint32_t)pt->pt_id, times)) {
		pt->pt_overrun += times;
	} else {
		uint64_t value = (uint32_t)pt->pt_id | (times - 1) << 32;

		pt->pt_overrun = times - 1;
		if (u != NULL)
			signal_queue_uthread(u, pt->pt_sig, SI_TIMER, value, pt->pt_value);
		else
			signal_queue_proc(pt->pt_proc, pt->pt_sig, SI_TIMER, value, pt->pt_value);
	}
	mach_mutex_exit(&proc_lock);
}

static uint64_t ptimer_clock(struct timer *t)
{
	const struct ptimer *pt = (struct ptimer *)(void *)t;
	uint64_t ns;

	(void)cpu_clock_ns(pt->pt_proc->p_pid, pt->pt_cpu_tid, &ns);
	return ns;
}

/*
 * Is the number that of a clock of CPU time, of the caller's process or of one of its threads? *tid:
 * the thread; 0: the process.
 */
static bool is_own_cpu_clock(int clock, int *tid)
{
	uint64_t ns;
	int pid;

	*tid = clock == 3 ? this_uthread()->u_tid : 0;
	if (clock >= 0)
		return clock == 2 || clock == 3;
	return cpu_clock_find(clock, &pid, tid) && pid == this_proc()->p_pid &&
	    cpu_clock_ns(pid, *tid, &ns);
}

/* ptimer_lock held. NULL: no timer of this process has the number. */
static struct ptimer *find_ptimer(uint64_t id)
{
	struct ptimer *pt = this_proc()->p_timers;

	KASSERT(mach_mutex_held(&ptimer_lock));
	while (pt != NULL && pt->pt_id != (int)id)
		pt = pt->pt_next;
	return pt;
}

int64_t sys_timer_create(const uint64_t *a)
{
	struct proc *p = this_proc();
	struct ptimer *pt, **last = &p->p_timers;
	struct sigevent ev;
	int err, id = 0, tid = 0;
	bool cpu = is_own_cpu_clock((int)a[0], &tid);

	if (!cpu && !is_timer_clock(a[0]))
		return -EINVAL;
	if ((err = sigevent_in(a[1], &ev)) != 0)
		return err;
	if ((pt = kzalloc(sizeof(*pt))) == NULL)
		return -EAGAIN;
	mach_mutex_enter(&ptimer_lock);
	/* the list is in the order of numbers: takes the first free number */
	while (*last != NULL && (*last)->pt_id == id) {
		last = &(*last)->pt_next;
		id++;
	}
	*pt = (struct ptimer){ .pt_timer.tm_fire = fire_ptimer,
		.pt_timer.tm_clock = cpu ? ptimer_clock : NULL,
		.pt_timer.tm_cpus = tid != 0 ? 1 : arch_ncpus(),
		.pt_cpu_tid = tid,
		.pt_next = *last,
		.pt_proc = p,
		.pt_clock = a[0],
		.pt_value = a[1] != 0 ? ev.value : (uint64_t)id,
		.pt_id = id,
		.pt_sig = ev.signo,
		.pt_notify = ev.notify,
		.pt_tid = ev.tid };
	err = id == PTIMERS_MOST ? -EAGAIN : copy_out(a[2], &id, sizeof(id));
	if (err == 0)
		*last = pt;
	mach_mutex_exit(&ptimer_lock);
	if (err != 0)
		kfree(pt, sizeof(*pt));
	return err;
}

int64_t sys_timer_settime(const uint64_t *a)
{
	struct timer_state old = { 0, 0 };
	struct timer_spec spec;
	struct ptimer *pt;
	int64_t err;

	mach_mutex_enter(&ptimer_lock);
	err = (pt = find_ptimer(a[0])) == NULL
	    ? -EINVAL
	    : spec_in(a[2], pt->pt_clock, &pt->pt_timer, (a[1] & TIMER_ABSTIME) != 0, &spec);
	if (err == 0)
		timer_set(&pt->pt_timer, spec.sp_at, spec.sp_every, spec.sp_wall, &old);
	mach_mutex_exit(&ptimer_lock);
	return err == 0 && a[3] != 0 ? spec_out(a[3], &old) : err;
}

int64_t sys_timer_gettime(const uint64_t *a)
{
	struct timer_state now = { 0, 0 };
	struct ptimer *pt;

	mach_mutex_enter(&ptimer_lock);
	if ((pt = find_ptimer(a[0])) != NULL)
		timer_get(&pt->pt_timer, &now);
	mach_mutex_exit(&ptimer_lock);
	return pt == NULL ? -EINVAL : spec_out(a[1], &now);
}

int64_t sys_timer_getoverrun(const uint64_t *a)
{
	const struct ptimer *pt;
	int64_t n = -EINVAL;

	mach_mutex_enter(&ptimer_lock);
	if ((pt = find_ptimer(a[0])) != NULL)
		n = pt->pt_overrun < 0x7fffffff ? (int64_t)pt->pt_overrun : 0x7fffffff;
	mach_mutex_exit(&ptimer_lock);
	return n;
}

int64_t sys_timer_delete(const uint64_t *a)
{
	struct ptimer *pt, **p = &this_proc()->p_timers;

	mach_mutex_enter(&ptimer_lock);
	if ((pt = find_ptimer(a[0])) != NULL) {
		while (*p != pt)
			p = &(*p)->pt_next;
		*p = pt->pt_next;
		timer_stop(&pt->pt_timer);
	}
	mach_mutex_exit(&ptimer_lock);
	kfree(pt, sizeof(*pt));
	return pt == NULL ? -EINVAL : 0;
}

void timers_forget(struct proc *p, bool all)
{
	struct ptimer *pt;

	for (unsigned i = 0; all && i < ITIMERS; i++)
		timer_stop(&p->p_itimers[i].it_timer);
	mach_mutex_enter(&ptimer_lock);
	while ((pt = p->p_timers) != NULL) {
		p->p_timers = pt->pt_next;
		timer_stop(&pt->pt_timer);
		kfree(pt, sizeof(*pt));
	}
	mach_mutex_exit(&ptimer_lock);
}

/* ---- timerfd ---- */
struct timerfd {
	struct timer tf_timer;
	_Atomic uint64_t
	    tf_count; /* sched_lock to change: expirations that no read has returned yet */
	_Atomic uint64_t tf_fired; /* sched_lock to change: all expirations */
	uint64_t tf_clock;         /* const */
	struct waitq tf_wait;
};

static void fire_timerfd(struct timer *t, uint64_t times)
{
	struct timerfd *tf = (struct timerfd *)(void *)t;
	bool irq = spin_lock(&sched_lock);

	tf->tf_count += times;
	tf->tf_fired += times;
	wake_all(&tf->tf_wait);
	wake_all(&poll_queue);
	spin_unlock(&sched_lock, irq);
}

static bool has_gone_off(void *arg) { return ((struct timerfd *)arg)->tf_count != 0; }

static uint64_t take_count(struct timerfd *tf)
{
	bool irq = spin_lock(&sched_lock);
	uint64_t n = tf->tf_count;

	tf->tf_count = 0;
	spin_unlock(&sched_lock, irq);
	return n;
}

static int64_t timerfd_read(struct file *f, void *buf, uint64_t len, uint64_t off)
{
	struct timerfd *tf = f->f_data;
	uint64_t n;

	(void)off;
	if (len < sizeof(n))
		return -EINVAL;
	while ((n = take_count(tf)) == 0) {
		if (f->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_until(&tf->tf_wait, has_gone_off, tf, 0, true) != 0)
			return -ERESTART;
	}
	memcpy(buf, &n, sizeof(n));
	return sizeof(n);
}

static int timerfd_poll(struct file *f) { return has_gone_off(f->f_data) ? POLLIN : 0; }

static uint64_t timerfd_news(struct file *f, int bits)
{
	(void)bits;
	return ((struct timerfd *)f->f_data)->tf_fired;
}

static void timerfd_close(struct file *f)
{
	struct timerfd *tf = f->f_data;

	timer_stop(&tf->tf_timer);
	kfree(tf, sizeof(*tf));
}

static const struct file_ops timerfd_ops = {
	.fo_read = timerfd_read,
	.fo_poll = timerfd_poll,
	.fo_news = timerfd_news,
	.fo_close = timerfd_close,
};

int64_t sys_timerfd_create(const uint64_t *a)
{
	struct timerfd *tf;
	struct file *f;

	if (!is_timer_clock(a[0]) || (a[1] & ~(uint64_t)(O_NONBLOCK | O_CLOEXEC)) != 0)
		return -EINVAL;
	f = anon_file(
	    &timerfd_ops, S_IFREG | 0600, O_RDWR | ((unsigned)a[1] & O_NONBLOCK), sizeof(*tf));
	if (f == NULL)
		return -ENOMEM;
	tf = f->f_data;
	tf->tf_timer.tm_fire = fire_timerfd;
	tf->tf_clock = a[0];
	return fd_install(this_proc()->p_files, f, 0, (a[1] & O_CLOEXEC) != 0);
}

int64_t sys_timerfd_settime(const uint64_t *a)
{
	struct timer_state old = { 0, 0 };
	struct timer_spec spec;
	struct timerfd *tf;
	int64_t err;
	struct file *f = fd_get_kind((int)a[0], &timerfd_ops, -EINVAL, &err);

	if (f == NULL)
		return err;
	tf = f->f_data;
	err = (a[1] & ~3ull) != 0
	    ? -EINVAL
	    : spec_in(a[2], tf->tf_clock, &tf->tf_timer, (a[1] & TIMER_ABSTIME) != 0, &spec);
	if (err == 0) {
		timer_set(&tf->tf_timer, 0, 0, false, &old);
		(void)take_count(tf);
		timer_set(&tf->tf_timer, spec.sp_at, spec.sp_every, spec.sp_wall, NULL);
	}
	file_put(f);
	return err == 0 && a[3] != 0 ? spec_out(a[3], &old) : err;
}

int64_t sys_timerfd_gettime(const uint64_t *a)
{
	struct timer_state now;
	int64_t err;
	struct file *f = fd_get_kind((int)a[0], &timerfd_ops, -EINVAL, &err);

	if (f == NULL)
		return err;
	timer_get(&((struct timerfd *)f->f_data)->tf_timer, &now);
	file_put(f);
	return spec_out(a[1], &now);
}
