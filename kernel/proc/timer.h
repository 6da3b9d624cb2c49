/* SPDX-License-Identifier: BSD-2-Clause */
/* Timers of the kernel: what goes off at a time. timer.c has the theory. */
#ifndef QUIRE_KERNEL_TIMER_H
#define QUIRE_KERNEL_TIMER_H

#include "kernel/core/kernel.h"

struct proc;
struct timer {
	struct timer *tm_next; /* timer_lock: of the list, by tm_at */
	uint64_t
	    tm_at; /* timer_lock: when the timer goes off next, as arch_time_ns; 0: the timer is off */
	uint64_t tm_every; /* timer_lock: ns from then on; 0: once */
	/* const. times: how often the timer has gone off since the last call. timer_lock held; may sleep; sets no timer. */
	void (*tm_fire)(struct timer *, uint64_t times);
};
struct timer_state { /* ns; 0: off, or once */
	uint64_t ts_left, ts_every;
};

/* The timer goes off at `at`, then every `every` ns; 0: never. *old: its state before; NULL: not wanted. May sleep. */
void timer_set(struct timer *, uint64_t at, uint64_t every, struct timer_state *old);
void timer_get(struct timer *, struct timer_state *);
/* When this returns, the timer is off and tm_fire does not run. May sleep; proc_lock is not held. */
void timer_stop(struct timer *);
/* Stops the timers of a process that ends (all) or execs (!all: only timer_create's). A thread of the process calls. */
void timers_forget(struct proc *, bool all);
/* setitimer's: SIGALRM. */
void alarm_init(struct timer *);
void timers_start(void);
#endif
