/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Patience: how long a thread looks for an answer before it sleeps. To be put to sleep and woken costs 10 to 20 us beside the 40 of a
 * read of a fast disk (bench/disk.c: read_us, awake_us).
 *
 * A thread does not look where answers of late have taken longer than that is worth, nor where there are other threads that want the
 * CPU: then a thread that stays awake is made to wait for them, while a thread that sleeps is not. A look that comes late shows it;
 * so many waits sleep at once then, twice as many the next time.
 *
 * Locks: none. The fields are guesses that several threads update without care.
 */
#ifndef QUIRE_STORE_PATIENCE_H
#define QUIRE_STORE_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* Of one kind of answer. Zeroed at first. */
struct patience {
	uint32_t pt_looks;           /* how many a wait took of late, an average */
	uint32_t pt_long;            /* waits that were long on average, ever */
	uint32_t pt_asleep, pt_next; /* so many waits sleep at once; so many will */
};

/* Looks until the answer is there, or until the thread had better sleep. */
void patience_look(struct patience *, bool (*is_there)(const void *), const void *arg);
#endif
