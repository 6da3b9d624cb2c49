/* SPDX-License-Identifier: BSD-2-Clause */
/* Timers of the kernel: functions called at a time. timer.c has the theory. */
#ifndef QUIRE_KERNEL_TIMER_H
#define QUIRE_KERNEL_TIMER_H

#include "kernel/core/kernel.h"

struct proc;
struct timer {
	struct timer *tm_next; /* timer_lock: next timer of the list, by tm_at */
	/*
	 * timer_lock: when tm_clock is compared with tm_goal next, as arch_time_ns; with the clock
	 * arch_time_ns it is tm_goal. 0: the timer is off.
	 */
	uint64_t tm_at;
	bool tm_wall;      /* timer_lock: the time of expiration is one of the wall clock */
	uint64_t tm_every; /* timer_lock: period in ns; 0: the timer expires once */
	/*
	 * const. The clock that measures tm_goal and tm_every; NULL: arch_time_ns. Else it is a clock
	 * of CPU time, at most tm_cpus times as fast as arch_time_ns. Called with timer_lock held;
	 * takes proc_lock.
	 */
	uint64_t (*tm_clock)(struct timer *);
	unsigned tm_cpus; /* const */
	uint64_t tm_goal; /* timer_lock: time of the next expiration by tm_clock */
	/*
	 * const. times: expirations since the last call. timer_lock held; may sleep; must set no
	 * timer.
	 */
	void (*tm_fire)(struct timer *, uint64_t times);
};
struct timer_state { /* ns; at 0: off; every 0: once */
	uint64_t ts_left, ts_every;
};

/*
 * Sets the timer to expire at `at` (0: never), then every `every` ns (0: once). wall: `at` is a time
 * of the wall clock, else of arch_time_ns. *old: the timer's former state; NULL: not needed. May sleep.
 */
void timer_set(struct timer *, uint64_t at, uint64_t every, bool wall, struct timer_state *old);
/* Sets the wall clock, in ns since 1970. May sleep. */
void wall_set(uint64_t ns);
void timer_get(struct timer *, struct timer_state *);
/* Stops the timer; after the return tm_fire does not run. May sleep; proc_lock is not held. */
void timer_stop(struct timer *);
/*
 * Stops the timers of a process that ends (all) or execs (!all: only those of timer_create). Called
 * by a thread of the process.
 */
void timers_forget(struct proc *, bool all);
/* setitimer's timers: the first measures real time, the others the process's CPU time. */
#define ITIMERS 3u
struct itimer {
	struct timer it_timer;
	struct proc *it_proc; /* const */
	int it_sig;           /* const */
};
void itimers_init(struct proc *);
void timers_start(void);
#endif
