/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads, waiting, locks. thread.c has the theory.
 */
#ifndef QUIRE_KERNEL_THREAD_H
#define QUIRE_KERNEL_THREAD_H

#include "kernel/core/arch.h"

#include <quire/machine.h>

/* Where a thread's kernel stack is: proc/swapper.c. */
enum thread_swap { SWAP_IN, SWAP_OUT, SWAP_COMING };
enum thread_state { T_RUNNABLE, T_RUNNING, T_BLOCKED, T_DEAD };

/* Threads that wait for one thing, first come first served. Empty when zero. sched_lock */
struct waitq {
	struct thread *wq_head, *wq_tail;
};

#define THREAD_READS 8u /* reader-writer locks that a thread reads under at a time */

struct proc;
struct thread {
	uint64_t t_sp;    /* sched_lock: kernel stack pointer while the thread does not run */
	uint64_t t_stack; /* const: lowest address of the kernel stack */
	uint64_t t_top;   /* const: end of the kernel stack */
	enum thread_state t_state; /* sched_lock */
	int t_cpu;                 /* sched_lock: the CPU that runs the thread; -1: none */
	unsigned t_preempt;        /* own: > 0: the thread is not preempted */
	const void *t_reads
	    [THREAD_READS]; /* own: the locks that the thread holds as reader; NULL: a free place */
	struct waitq *t_waitq;          /* sched_lock: the queue on which the thread waits */
	struct thread *t_next, *t_prev; /* sched_lock: of that queue, or of the run queue */
	uint64_t
	    t_deadline; /* sched_lock: when a waiting thread is woken at the latest, in ns; 0: never */
	struct thread *t_timenext; /* sched_lock: of the list of deadlines */
	bool t_timed;              /* sched_lock: the thread is on the list of deadlines */
	bool t_timedout;           /* sched_lock: the deadline woke the thread */
	bool t_interruptible;      /* sched_lock: a signal wakes the waiting thread */
	bool t_interrupted;        /* sched_lock: a signal woke the thread */
	enum thread_swap t_swap;   /* sched_lock */
	uint64_t t_slept;          /* sched_lock: when the thread began to wait, in ns */
	bool t_detached;           /* const: no thread joins this thread */
	_Atomic bool t_done;
	struct waitq t_joiners;    /* sched_lock */
	const char *t_name;        /* const */
	struct proc *t_proc;       /* const after creation: NULL: a thread of the kernel's */
	struct uthread *t_user;    /* const after creation */
	struct hat *t_hat;         /* own: the space to load; NULL: any */
	struct arch_thread t_arch; /* own */
	uint64_t t_run, t_since;   /* sched_lock: ns of CPU used; when the present run began */
};

#define STACK_BYTES 16384u

/* ---- spinning, with interrupts off: for the scheduler and interrupt handlers. Innermost of all ---- */
struct kcpu;
struct spin {
	struct kcpu *s_cpu; /* atomic: the holder's; NULL: the lock is free */
};
bool spin_lock(struct spin *); /* returns the state for spin_unlock */
void spin_unlock(struct spin *, bool irq);
bool spin_held(const struct spin *); /* by this CPU; for assertions, with interrupts off */

void preempt_off(void);
void preempt_on(void);

/* ---- threads ---- */
void thread_boot(struct thread *, uint64_t stack,
    uint64_t top); /* the running code becomes a thread of this CPU */
struct thread *thread_new(
    void (*fn)(void *), void *arg, const char *name); /* not runnable yet; NULL: no memory */
void thread_go(struct thread *);
void thread_free_dead(void); /* frees what has exited */
void thread_yield(void);
unsigned thread_count(void);

/* ---- waiting, under sched_lock ---- */
extern struct spin sched_lock;
/*
 * Blocks the running thread on a queue until it is woken or the deadline (ns, 0: none) has passed; sched_lock is dropped
 * meanwhile, held again on return. intr: a signal wakes it, too. Returns 0, -ETIMEDOUT or -EINTR.
 */
int wait_on(struct waitq *, uint64_t deadline, bool intr);
void wake_one(struct waitq *);
void wake_all(struct waitq *);
void wake_thread(struct thread *,
    bool
	interrupt); /* sched_lock held; interrupt: wakes only a thread whose wait a signal may end */

/* Sleeps until cond(arg) holds; cond is asked under sched_lock, must not block. */
int wait_until(struct waitq *, bool (*cond)(void *), void *arg, uint64_t deadline, bool intr);
void wake(struct waitq *); /* wakes all threads of the queue */
/* As mach_mutex_exit, with sched_lock held: before wait_on, so that nothing is missed between the two. */
void mutex_exit_locked(struct mach_mutex *);

/* ---- threads whose stack is not in memory, for the swapper ---- */
extern struct waitq swapin_queue;  /* sched_lock: threads that were woken */
extern struct waitq swapper_queue; /* sched_lock: the swapper */
struct thread *swapin_pop(void);   /* sched_lock held: the first, off the queue; NULL */
void swapin_done(
    struct thread *); /* the thread's stack is in memory: the thread becomes runnable */
#endif
