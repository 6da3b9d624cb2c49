/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef QUIRE_LOCK_READERS_H
#define QUIRE_LOCK_READERS_H

#include <stdbool.h>
#include <stdint.h>

struct frw;

/* The calling thread, never 0: its thread pointer, whose first word is the pointer itself, also in the runtime's own blocks. */
static inline uint64_t thread_self(void)
{
	uint64_t v;

	__asm__ volatile("mov %%fs:0,%0" : "=r"(v));
	return v;
}

/*
 * Which thread reads under which lock: for assertions (lock_readers.c). Records that the calling
 * thread has entered as a reader; that it is about to leave. None sleeps, allocates or takes a
 * lock. In a build without assertions nothing is recorded.
 */
void readers_note(const struct frw *);
void readers_forget(const struct frw *);
/*
 * Does the calling thread hold the lock as a reader? If the thread may be unrecorded: any_reader,
 * which tells whether any thread holds the lock as a reader.
 */
bool readers_has(const struct frw *, bool any_reader);
#endif
