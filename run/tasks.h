/* SPDX-License-Identifier: BSD-2-Clause */
/* The tasks of this process, by /proc: see tasks.c. */
#ifndef QUIRE_RUN_TASKS_H
#define QUIRE_RUN_TASKS_H

#include <stdbool.h>

/*
 * Threads, the service thread among them; workers: those that the kernel made for io_uring as well.
 * 0: unknown.
 */
unsigned tasks_count(bool workers);
#endif
