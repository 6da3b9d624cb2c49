/* SPDX-License-Identifier: BSD-2-Clause */
/* The tasks of this process, by /proc: see tasks.c. */
#ifndef QUIRE_RUN_TASKS_H
#define QUIRE_RUN_TASKS_H

#include <stdbool.h>

#include <stdint.h>

/* Threads that are not about to end, the service thread among them, without the workers that the kernel made for io_uring. 0: unknown. */
unsigned tasks_running(void);
/*
 * The calling thread is about to end. True: it is the last but the service thread, which would keep the process there. All signals are
 * blocked. May sleep: until a thread that was told false has ended.
 */
bool tasks_end_last(void);
void tasks_forked(void); /* in a forked child, alone */
/*
 * Is a task listed that is ending, or a worker of the thread of that number, which has ended? The kernel counts them for calls that want
 * a process of one thread, and they go without anything being done.
 */
bool tasks_leaving(uint32_t tid);
#endif
