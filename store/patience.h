/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Patience: how long a thread polls for an answer before it sleeps. Going to sleep and being woken
 * costs 10 to 20 us, beside 40 us for a read of a fast disk (bench/disk.c: read_us, awake_us).
 *
 * A thread does not poll if recent answers took longer than polling is worth, nor if other threads
 * want the CPU: the scheduler makes a polling thread wait for them, but not a thread that has
 * slept. A poll that comes late shows that other threads want the CPU; then a number of waits sleep
 * at once, twice as many each time.
 *
 * Locks: none. The fields are estimates that several threads update without synchronisation.
 */
#ifndef QUIRE_STORE_PATIENCE_H
#define QUIRE_STORE_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* The state for one kind of answer. Zeroed at first. */
struct patience {
	uint32_t pt_looks; /* polls of a recent wait, on average */
	uint32_t pt_long;  /* waits so far during which the average was long */
	/* number of the next waits that sleep at once; that number after the next late poll */
	uint32_t pt_asleep, pt_next;
};

/* Polls until the answer has arrived, or until sleeping is better. */
void patience_look(struct patience *, bool (*is_there)(const void *), const void *arg);
#endif
