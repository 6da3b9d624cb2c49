/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads, waiting, locks. thread.c has the theory.
 */
#ifndef QUIRE_KERNEL_THREAD_H
#define QUIRE_KERNEL_THREAD_H

#include "kernel/core/arch.h"

#include <quire/machine.h>

/* The place of a thread's kernel stack: see proc/swapper.c. */
enum thread_swap { SWAP_IN, SWAP_OUT, SWAP_COMING };
enum thread_state { T_RUNNABLE, T_RUNNING, T_BLOCKED, T_DEAD };

/* A queue of waiting threads, first come first served. Empty when zero. sched_lock */
struct waitq {
	struct thread *wq_head, *wq_tail;
};

#define THREAD_READS 8u /* most reader-writer locks that a thread holds as reader at a time */

struct proc;
struct thread {
	uint64_t t_sp;    /* sched_lock: kernel stack pointer while the thread does not run */
	uint64_t t_stack; /* const: lowest address of the kernel stack */
	uint64_t t_top;   /* const: end of the kernel stack */
	enum thread_state t_state; /* sched_lock */
	int t_cpu;                 /* sched_lock: the CPU that runs the thread; -1: none */
	unsigned t_preempt;        /* only its own thread: > 0: the thread is not preempted */
	/* only its own thread: the locks that the thread holds as reader; NULL: a free place */
	const void *t_reads[THREAD_READS];
	struct waitq *t_waitq; /* sched_lock: the queue on which the thread waits */
	/* sched_lock: next thread of that queue, or of the run queue */
	struct thread *t_next, *t_prev;
	/* sched_lock: latest time at which the waiting thread is woken, in ns; 0: none */
	uint64_t t_deadline;
	struct thread *t_timenext; /* sched_lock: next thread of the list of deadlines */
	bool t_timed;              /* sched_lock: the thread is on the list of deadlines */
	bool t_timedout;           /* sched_lock: the deadline woke the thread */
	bool t_interruptible;      /* sched_lock: a signal wakes the waiting thread */
	bool t_interrupted;        /* sched_lock: a signal woke the thread */
	enum thread_swap t_swap;   /* sched_lock */
	uint64_t t_slept;          /* sched_lock: time at which the thread began to wait, in ns */
	bool t_detached;           /* const: no thread joins this thread */
	_Atomic bool t_done;
	struct waitq t_joiners; /* sched_lock */
	const char *t_name;     /* const */
	/* const after creation: the user thread; NULL: a thread of the kernel */
	struct proc *t_proc;
	struct uthread *t_user;    /* const after creation */
	struct hat *t_hat;         /* only its own thread: the space to load; NULL: any */
	struct arch_thread t_arch; /* own */
	uint64_t t_run, t_since;   /* sched_lock: ns of CPU time used; start of the present run */
};

#define STACK_BYTES 16384u

/*
 * ---- spinning, with interrupts off: for the scheduler and interrupt handlers. The innermost locks
 * ----
 */
struct kcpu;
struct spin {
	struct kcpu *s_cpu; /* atomic: the holder's CPU; NULL: the lock is free */
};
bool spin_lock(struct spin *); /* returns the state for spin_unlock */
void spin_unlock(struct spin *, bool irq);
/* is the lock held by this CPU? For assertions, with interrupts off */
bool spin_held(const struct spin *);

void preempt_off(void);
void preempt_on(void);

/* ---- threads ---- */
void thread_init(void); /* reads the options of the command line */
void thread_boot(struct thread *, uint64_t stack,
    uint64_t top); /* makes the running code a thread of this CPU */
/* makes a thread that is not runnable yet; NULL: no memory */
struct thread *thread_new(void (*fn)(void *), void *arg, const char *name);
void thread_go(struct thread *);
void thread_free_dead(void); /* frees ended threads */
void thread_yield(void);
unsigned thread_count(void);
/* The CPU time that the thread has used, up to now if it runs. Takes sched_lock. */
uint64_t thread_run_ns(const struct thread *);
void thread_idle_begin(
    void); /* the running thread becomes this CPU's idle one: its time counts from now */
uint64_t thread_idle_ns(unsigned cpu); /* how long a CPU has had nothing to run */

/* ---- waiting, under sched_lock ---- */
extern struct spin sched_lock;
/*
 * Blocks the running thread on a queue until it is woken or the deadline (ns, 0: none) has passed;
 * sched_lock is dropped during the wait and held on return. intr: a signal wakes the thread, too.
 * Returns 0, -ETIMEDOUT or -EINTR.
 */
int wait_on(struct waitq *, uint64_t deadline, bool intr);
void wake_one(struct waitq *);
void wake_all(struct waitq *);
void wake_thread(struct thread *,
    bool
	interrupt); /* sched_lock held; interrupt: wakes only a thread whose wait a signal may end */

/* Sleeps until cond(arg) holds; cond is called under sched_lock and must not block. */
int wait_until(struct waitq *, bool (*cond)(void *), void *arg, uint64_t deadline, bool intr);
void wake(struct waitq *); /* wakes all threads of the queue */
/* Sleeps 10 ms, in which page-out may free memory; for a call that tries again after VM_NOMEM. */
void thread_pause(void);
/*
 * As mach_mutex_exit, with sched_lock held: called before wait_on, so that no wake-up between the
 * two is lost.
 */
void mutex_exit_locked(struct mach_mutex *);

/* ---- threads whose stack is not in memory, for the swapper ---- */
extern struct waitq swapin_queue;  /* sched_lock: woken threads whose stack is in swap */
extern struct waitq swapper_queue; /* sched_lock: the swapper */
/* sched_lock held: takes the first thread off the queue; NULL: empty */
struct thread *swapin_pop(void);
void swapin_done(
    struct thread *); /* called when the thread's stack is in memory: makes the thread runnable */
#endif
