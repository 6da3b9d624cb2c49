/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which thread reads under which reader-writer lock, so that mach_rw_held answers for its caller.
 * The lock itself counts its readers and does not record their identity (locks.c).
 *
 * The process has one table of a fixed size: this code may neither allocate nor use thread-local
 * variables. An entry is taken by a compare-and-exchange of its thread, and only that thread reads
 * or changes the rest of it. So no thread sees a half-made entry, and a signal handler that
 * interrupts its own thread here needs no lock to find the entry. The search for an entry begins at
 * a hash of thread and lock and looks at PROBES places, so a freed entry leaves no gap that would
 * have to be closed.
 *
 * If all PROBES places are taken, the reader is counted and not recorded. While any unrecorded
 * reader is inside, the query for a thread without an entry answers by the lock's count of readers:
 * a wrong assertion may pass then, a right assertion never fails.
 *
 * Locks: none. Left out: recording in a build without assertions.
 */
#include "machine/linux/lock_readers.h"

#include <quire/machine.h>

#ifdef NDEBUG
void readers_note(const struct frw *l) { (void)l; }
void readers_forget(const struct frw *l) { (void)l; }
bool readers_has(const struct frw *l, bool any_reader) { return any_reader; }
#else
#define ENTRIES 512u /* a power of two */
#define PROBES 16u

struct reader {
	uint64_t thread; /* atomic: 0: the entry is free */
	/* the lock, written by the entry's thread; NULL: not recorded yet, or no longer */
	const struct frw *lock;
};
static struct reader table[ENTRIES];
static uint32_t unrecorded; /* atomic: readers inside that found no free entry */

static struct reader *entry_at(uint64_t thread, const struct frw *l, unsigned probe)
{
	uint64_t hash = (thread ^ (uint64_t)(uintptr_t)l >> 6) * 0x9e3779b97f4a7c15ull;

	return &table[((hash >> 40) + probe) % ENTRIES];
}

static struct reader *find_entry(const struct frw *l)
{
	uint64_t self = thread_self();

	for (unsigned i = 0; i < PROBES; i++) {
		struct reader *r = entry_at(self, l, i);

		if (__atomic_load_n(&r->thread, __ATOMIC_RELAXED) == self && r->lock == l)
			return r;
	}
	return NULL;
}

void readers_note(const struct frw *l)
{
	uint64_t self = thread_self();

	for (unsigned i = 0; i < PROBES; i++) {
		struct reader *r = entry_at(self, l, i);
		uint64_t none = 0;

		if (__atomic_load_n(&r->thread, __ATOMIC_RELAXED) == 0 &&
		    __atomic_compare_exchange_n(
			&r->thread, &none, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			r->lock = l;
			return;
		}
	}
	(void)__atomic_add_fetch(&unrecorded, 1, __ATOMIC_RELAXED);
}

void readers_forget(const struct frw *l)
{
	struct reader *r = find_entry(l);

	if (r != NULL) {
		r->lock = NULL;
		__atomic_store_n(&r->thread, 0, __ATOMIC_RELEASE);
	} else if (__atomic_load_n(&unrecorded, __ATOMIC_RELAXED) == 0) {
		mach_panic("a reader-writer lock is left by a thread that does not hold it");
	} else {
		(void)__atomic_sub_fetch(&unrecorded, 1, __ATOMIC_RELAXED);
	}
}

bool readers_has(const struct frw *l, bool any_reader)
{
	if (find_entry(l) != NULL)
		return true;
	return any_reader && __atomic_load_n(&unrecorded, __ATOMIC_RELAXED) != 0;
}
#endif
