/* SPDX-License-Identifier: BSD-2-Clause */
/* The tasks of this process, by /proc: see tasks.c. */
#ifndef QUIRE_RUN_TASKS_H
#define QUIRE_RUN_TASKS_H

#include <stdbool.h>

/*
 * Number of threads, the service thread included; workers: with io_uring's workers. 0: unknown.
 */
unsigned tasks_count(bool workers);
#endif
