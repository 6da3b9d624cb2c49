/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads and the scheduler.
 *
 * One run queue for all CPUs, served in turn; a slice is one tick. sched_lock, a spin lock with
 * interrupts off, guards the queue, every thread's state and every wait queue, so no wake-up is
 * lost between a thread's check of its condition and its sleep.
 *
 * A switch is made under sched_lock: the previous thread hands the held lock to the next thread,
 * which drops it (a new thread in thread_begin). Another CPU can run the previous thread only after
 * sched_lock is dropped, when the thread's registers are saved.
 *
 * Preemption: the tick sets k_resched; the switch happens when the interrupt returns, to the
 * program or to kernel code that has not turned preemption off (t_preempt), or when preemption is
 * turned on again. Spin locks turn preemption off.
 *
 * Stacks: 16 KiB of segkp with a redzone below, locked in memory except for stacks of swapped-out
 * processes (proc/swapper.c). The first threads, which start before segkp exists, have stacks in
 * the image. A thread cannot free its own stack: the next thread that creates a thread frees it, or
 * the idle thread.
 *
 * Locks: sched_lock is the innermost lock; no lock is taken under it. Left out: priorities, CPU
 * affinity, a run queue for each CPU.
 */
#include "kernel/core/thread.h"
#include "kernel/core/kernel.h"

#define BOOT_STACKS 8u

struct spin sched_lock;
static struct waitq runq;       /* sched_lock */
static struct thread *sleepers; /* sched_lock: list by t_timenext, in the order of deadlines */
static struct thread *dead;     /* sched_lock: by t_next */
struct waitq swapin_queue, swapper_queue;
static unsigned nthreads; /* sched_lock */
static bool eager;        /* for tests (sched.eager=1): a thread yields after it has woken others */
static uint8_t boot_stacks[BOOT_STACKS][STACK_BYTES] __attribute__((aligned(16)));
static bool boot_used[BOOT_STACKS]; /* sched_lock */
static struct thread boot_threads[BOOT_STACKS];

/* ---- spin locks ---- */
bool spin_lock(struct spin *s)
{
	bool irq = arch_irq_off();
	struct kcpu *k = arch_kcpu(), *none = NULL;

	while (!__atomic_compare_exchange_n(
	    &s->s_cpu, &none, k, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		while (__atomic_load_n(&s->s_cpu, __ATOMIC_RELAXED) != NULL)
			arch_relax();
		none = NULL;
	}
	return irq;
}

void spin_unlock(struct spin *s, bool irq)
{
	__atomic_store_n(&s->s_cpu, NULL, __ATOMIC_RELEASE);
	arch_irq_restore(irq);
}

bool spin_held(const struct spin *s)
{
	return __atomic_load_n(&s->s_cpu, __ATOMIC_RELAXED) == arch_kcpu();
}

void preempt_off(void)
{
	arch_cur()->t_preempt++;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void preempt_on(void)
{
	struct thread *t = arch_cur();

	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (--t->t_preempt == 0 &&
	    __atomic_load_n((bool *)(void *)&arch_kcpu()->k_resched, __ATOMIC_RELAXED)) {
		bool irq = arch_irq_off();

		if (irq) {
			arch_irq_restore(irq);
			thread_yield();
		}
	}
}

/* ---- queues: sched_lock ---- */
static void queue_push(struct waitq *q, struct thread *t)
{
	t->t_next = NULL;
	t->t_prev = q->wq_tail;
	if (q->wq_tail != NULL)
		q->wq_tail->t_next = t;
	else
		q->wq_head = t;
	q->wq_tail = t;
	t->t_waitq = q;
}

static void queue_remove(struct waitq *q, struct thread *t)
{
	if (t->t_prev != NULL)
		t->t_prev->t_next = t->t_next;
	else
		q->wq_head = t->t_next;
	if (t->t_next != NULL)
		t->t_next->t_prev = t->t_prev;
	else
		q->wq_tail = t->t_prev;
	t->t_next = t->t_prev = NULL;
	t->t_waitq = NULL;
}

static void deadline_add(struct thread *t, uint64_t when)
{
	struct thread **p = &sleepers;

	while (*p != NULL && (*p)->t_deadline <= when)
		p = &(*p)->t_timenext;
	t->t_deadline = when;
	t->t_timed = true;
	t->t_timenext = *p;
	*p = t;
}

static void deadline_remove(struct thread *t)
{
	struct thread **p = &sleepers;

	if (!t->t_timed)
		return;
	while (*p != t)
		p = &(*p)->t_timenext;
	*p = t->t_timenext;
	t->t_timed = false;
}

/* Interrupts an idle CPU, if there is one, as there is work. */
static void poke_idle(void)
{
	if (arch_kcpu()->k_cur ==
	    arch_kcpu()->k_idle) { /* this CPU itself: the contents of its caches stay useful */
		arch_kcpu()->k_resched = true;
		return;
	}
	for (unsigned i = 0; i < arch_ncpus(); i++) {
		struct kcpu *k = arch_kcpu_of(i);

		if (k != arch_kcpu() && k->k_cur == k->k_idle && k->k_idle != NULL) {
			k->k_resched = true;
			arch_wake_cpu(i);
			return;
		}
	}
}

static void make_runnable(struct thread *t)
{
	KASSERT(spin_held(&sched_lock));
	if (eager)
		arch_kcpu()->k_resched = true;
	if (t->t_waitq != NULL)
		queue_remove(t->t_waitq, t);
	deadline_remove(t);
	t->t_state = T_RUNNABLE;
	if (t->t_swap == SWAP_OUT) {
		t->t_swap = SWAP_COMING;
		queue_push(&swapin_queue, t);
		wake_all(&swapper_queue);
		return;
	}
	queue_push(&runq, t);
	poke_idle();
}

struct thread *swapin_pop(void)
{
	struct thread *t = swapin_queue.wq_head;

	KASSERT(spin_held(&sched_lock));
	if (t != NULL)
		queue_remove(&swapin_queue, t);
	return t;
}

void swapin_done(struct thread *t)
{
	bool irq = spin_lock(&sched_lock);

	t->t_swap = SWAP_IN;
	make_runnable(t);
	spin_unlock(&sched_lock, irq);
}

void wake_thread(struct thread *t, bool interrupt)
{
	KASSERT(spin_held(&sched_lock));
	if (t->t_state != T_BLOCKED || (interrupt && !t->t_interruptible))
		return;
	t->t_interrupted = interrupt;
	make_runnable(t);
}

void wake_one(struct waitq *q)
{
	if (q->wq_head != NULL)
		make_runnable(q->wq_head);
}

void wake_all(struct waitq *q)
{
	while (q->wq_head != NULL)
		make_runnable(q->wq_head);
}

static uint64_t run_ns(const struct thread *t)
{
	KASSERT(spin_held(&sched_lock));
	return t->t_run + (t->t_state == T_RUNNING ? arch_time_ns() - t->t_since : 0);
}

uint64_t thread_run_ns(const struct thread *t)
{
	bool irq = spin_lock(&sched_lock);
	uint64_t ns = run_ns(t);

	spin_unlock(&sched_lock, irq);
	return ns;
}

void thread_idle_begin(void)
{
	bool irq = spin_lock(&sched_lock);

	arch_cur()->t_run = 0;
	arch_cur()->t_since = arch_time_ns();
	spin_unlock(&sched_lock, irq);
}

uint64_t thread_idle_ns(unsigned cpu)
{
	bool irq = spin_lock(&sched_lock);
	const struct kcpu *k = arch_kcpu_of(cpu);
	uint64_t ns = k->k_idle != NULL ? run_ns(k->k_idle) : 0;

	spin_unlock(&sched_lock, irq);
	return ns;
}

/* ---- switching ---- */
/*
 * Runs another thread; the caller has set the state of the current thread. sched_lock held and
 * interrupts off, at the call and on return.
 */
static void switch_thread(void)
{
	struct kcpu *k = arch_kcpu();
	struct thread *old = k->k_cur, *next = runq.wq_head;
	uint64_t now = arch_time_ns();

	KASSERT(spin_held(&sched_lock));
	k->k_resched = false;
	if (old->t_state == T_RUNNING && old != k->k_idle) {
		if (next == NULL)
			return;
		old->t_state = T_RUNNABLE;
		queue_push(&runq, old);
	}
	if (next != NULL)
		queue_remove(&runq, next);
	else
		next = k->k_idle;
	if (next == old) {
		old->t_state = T_RUNNING;
		return;
	}
	old->t_run += now - old->t_since;
	next->t_since = now;
	next->t_state = T_RUNNING;
	next->t_cpu = (int)k->k_id;
	old->t_cpu = -1;
	if (old == k->k_idle)
		old->t_state = T_RUNNABLE;
	k->k_cur = next;
	arch_switch_out(old);
	arch_switch_in(next);
	switch_to(&old->t_sp, next->t_sp);
}

void thread_begin(void) { spin_unlock(&sched_lock, true); }

void thread_yield(void)
{
	bool irq = spin_lock(&sched_lock);

	switch_thread();
	spin_unlock(&sched_lock, irq);
}

void kernel_preempt(void)
{
	struct kcpu *k = arch_kcpu();

	if (k->k_resched && k->k_cur != NULL && k->k_cur->t_preempt == 0)
		thread_yield();
}

void kernel_tick(void)
{
	uint64_t now = arch_time_ns();
	bool irq = spin_lock(&sched_lock);

	while (sleepers != NULL && sleepers->t_deadline <= now) {
		sleepers->t_timedout = true;
		make_runnable(sleepers);
	}
	if (runq.wq_head != NULL)
		arch_kcpu()->k_resched = true;
	spin_unlock(&sched_lock, irq);
}

int wait_on(struct waitq *q, uint64_t deadline, bool intr)
{
	struct thread *t = arch_cur();

	KASSERT(spin_held(&sched_lock));
	if (intr && thread_has_signal(t))
		return -EINTR;
	t->t_state = T_BLOCKED;
	t->t_interruptible = intr;
	t->t_interrupted = t->t_timedout = false;
	t->t_slept = arch_time_ns();
	queue_push(q, t);
	if (deadline != 0)
		deadline_add(t, deadline);
	switch_thread();
	t->t_interruptible = false;
	if (t->t_interrupted)
		return -EINTR;
	return t->t_timedout ? -ETIMEDOUT : 0;
}

int wait_until(struct waitq *q, bool (*cond)(void *), void *arg, uint64_t deadline, bool intr)
{
	bool irq = spin_lock(&sched_lock);
	int err = 0;

	while (!cond(arg) && err == 0)
		err = wait_on(q, deadline, intr);
	if (err != 0 && cond(arg))
		err = 0;
	spin_unlock(&sched_lock, irq);
	return err;
}

void wake(struct waitq *q)
{
	bool irq = spin_lock(&sched_lock);

	wake_all(q);
	spin_unlock(&sched_lock, irq);
	if (irq && eager)
		kernel_preempt();
}

void thread_pause(void)
{
	static struct waitq pause; /* no thread is woken before its time */
	bool irq = spin_lock(&sched_lock);

	(void)wait_on(&pause, arch_time_ns() + 10000000, false);
	spin_unlock(&sched_lock, irq);
}

/* ---- life ---- */
void thread_init(void) { eager = cmdline_number("sched.eager", 0) != 0; }

void thread_boot(struct thread *t, uint64_t stack, uint64_t top)
{
	struct kcpu *k = arch_kcpu();

	*t = (struct thread){ .t_state = T_RUNNING,
		.t_name = "boot",
		.t_cpu = (int)k->k_id,
		.t_stack = stack,
		.t_top = top };
	t->t_since = arch_time_ns();
	k->k_cur = t;
}

static int boot_slot(void)
{
	bool irq = spin_lock(&sched_lock);
	int found = -1;

	for (int i = 0; i < (int)BOOT_STACKS && found < 0; i++)
		if (!boot_used[i])
			found = i;
	if (found >= 0)
		boot_used[found] = true;
	spin_unlock(&sched_lock, irq);
	return found;
}

struct thread *thread_new(void (*fn)(void *), void *arg, const char *name)
{
	struct thread *t;
	vaddr_t stack;
	bool irq;

	thread_free_dead();
	if (!stacks_ready()) {
		int i = boot_slot();

		if (i < 0)
			return NULL;
		t = &boot_threads[i];
		stack = (vaddr_t)(uintptr_t)boot_stacks[i];
	} else {
		if ((t = kzalloc(sizeof(*t))) == NULL)
			return NULL;
		if (!stack_alloc(&stack)) {
			kfree(t, sizeof(*t));
			return NULL;
		}
	}
	*t = (struct thread){ .t_state = T_BLOCKED,
		.t_name = name,
		.t_cpu = -1,
		.t_stack = stack,
		.t_top = stack + STACK_BYTES };
	if (fn != NULL)
		t->t_sp = arch_thread_stack(t->t_top, fn, arg);
	irq = spin_lock(&sched_lock);
	nthreads++;
	spin_unlock(&sched_lock, irq);
	return t;
}

void thread_go(struct thread *t)
{
	bool irq = spin_lock(&sched_lock);

	make_runnable(t);
	spin_unlock(&sched_lock, irq);
}

static bool is_boot_thread(const struct thread *t)
{
	return t >= boot_threads && t < boot_threads + BOOT_STACKS;
}

static void thread_free(struct thread *t)
{
	if (is_boot_thread(t)) {
		boot_used[t - boot_threads] = false;
		return;
	}
	stack_free(t->t_stack);
	kfree(t, sizeof(*t));
}

/* A dead thread still runs on its stack until the switch: then t_cpu is set. */
void thread_free_dead(void)
{
	for (;;) {
		bool irq = spin_lock(&sched_lock);
		struct thread **p = &dead, *t;

		while ((t = *p) != NULL && t->t_cpu >= 0)
			p = &t->t_next;
		if (t != NULL)
			*p = t->t_next;
		spin_unlock(&sched_lock, irq);
		if (t == NULL)
			return;
		thread_free(t);
	}
}

_Noreturn void thread_exit(void)
{
	struct thread *t = arch_cur();

	(void)spin_lock(&sched_lock);
	t->t_state = T_DEAD;
	t->t_done = true;
	nthreads--;
	wake_all(&t->t_joiners);
	if (t->t_detached) {
		t->t_next = dead;
		dead = t;
	}
	switch_thread();
	kpanic("a dead thread runs");
}

unsigned thread_count(void) { return nthreads; }

/* ---- machine.h ---- */
struct mach_thread *mach_thread_create(
    struct mach *m, void (*fn)(void *), void *arg, const char *name)
{
	struct thread *t = thread_new(fn, arg, name);

	(void)m;
	if (t != NULL)
		thread_go(t);
	return (struct mach_thread *)(void *)t;
}

static bool is_done(void *arg)
{
	struct thread *t = arg;

	return t->t_done && t->t_cpu < 0;
}

void mach_thread_join(struct mach_thread *mt)
{
	struct thread *t = (struct thread *)(void *)mt;

	(void)wait_until(&t->t_joiners, is_done, t, 0, false);
	while (t->t_cpu >= 0)
		thread_yield();
	thread_free(t);
}

void mach_yield(void) { thread_yield(); }

unsigned mach_cpu_id(void) { return arch_kcpu()->k_id; }

uint64_t mach_time_ns(void) { return arch_time_ns(); }

void mach_panic(const char *msg) { kpanic("%s", msg); }
