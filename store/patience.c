/* SPDX-License-Identifier: BSD-2-Clause */
/* See patience.h. */
#include "store/patience.h"

#define LONG 4000u /* polls; about 100 us */
#define ANYWAY 32u /* one wait in this number polls, to see whether answers have become quick */
#define LATE (1u << 17) /* cycles between two polls: longer than an interrupt takes */
#define ASLEEP 64u      /* waits, at first */
#define ASLEEP_MAX 8192u

static uint32_t get_word(const uint32_t *n) { return __atomic_load_n(n, __ATOMIC_RELAXED); }
static void set_word(uint32_t *n, uint32_t to) { __atomic_store_n(n, to, __ATOMIC_RELAXED); }

void patience_look(struct patience *w, bool (*is_there)(const void *), const void *arg)
{
	uint32_t was = get_word(&w->pt_looks), asleep = get_word(&w->pt_asleep),
		 next = get_word(&w->pt_next), looks = 0;
	uint64_t at, then = __builtin_ia32_rdtsc();

	if (next < ASLEEP)
		next = ASLEEP;
	if (asleep > 0) {
		set_word(&w->pt_asleep, asleep - 1);
		return;
	}
	if (was > LONG / 2 && __atomic_add_fetch(&w->pt_long, 1, __ATOMIC_RELAXED) % ANYWAY != 0)
		return;
	for (; looks < LONG && !is_there(arg); looks++, then = at) {
		__builtin_ia32_pause();
		if ((at = __builtin_ia32_rdtsc()) - then > LATE) {
			set_word(&w->pt_asleep, next);
			set_word(&w->pt_next, next < ASLEEP_MAX ? next * 2 : ASLEEP_MAX);
			return;
		}
	}
	set_word(&w->pt_looks, was - was / 8 + looks / 8);
	set_word(&w->pt_next, next - next / ASLEEP > ASLEEP ? next - next / ASLEEP : ASLEEP);
}
