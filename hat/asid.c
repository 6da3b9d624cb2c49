/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address space numbers: by generations, for x86 PCIDs and RISC-V ASIDs, or by stealing, for SPARC contexts.
 *
 * Stealing: when numbers run out, the next number in turn that no CPU is running with is taken from
 * its space; all CPUs must forget it before it is used again. Only one space's cached translations
 * are lost, and no CPU's whole TLB.
 *
 * Generations: a space keeps its number for the generation in which it got it. When numbers run out a new generation begins: all are
 * free again, and every CPU must empty its TLB before it next loads a space. A CPU that is running
 * a space at that moment cannot be stopped: its number stays reserved, and the space gets the same
 * number when a CPU next loads it. So a number never means two spaces to one TLB.
 *
 * The idea is that of Linux' arm64 allocator (modelled there in TLA+ because of a race between a new generation and an
 * unmap: the flush of a space goes to the CPUs that run it, whatever its generation; the others have emptied their TLB
 * or are bound to).
 *
 * A context word is generation << 16 | number.
 */
#include "hat/asid.h"

static uint64_t ctx_make(const struct asids *a, unsigned number)
{
	return a->as_generation << 16 | number;
}

static bool is_taken(const struct asids *a, unsigned i)
{
	return (a->as_map[i / 64] >> (i % 64) & 1) != 0;
}
static void mark_taken(struct asids *a, unsigned i) { a->as_map[i / 64] |= 1ull << (i % 64); }

void asids_init(struct asids *a, unsigned n, unsigned ncpus, bool steal)
{
	*a = (struct asids){ .as_steal = steal,
		.as_n = n < ASID_MAX ? n : ASID_MAX,
		.as_ncpus = ncpus,
		.as_generation = 1,
		.as_hint = 1 };
}

static void new_generation(struct asids *a)
{
	a->as_generation++;
	a->as_rollovers++;
	a->as_hint = 1;
	for (unsigned i = 0; i < ASID_MAX / 64; i++)
		a->as_map[i] = 0;
	for (unsigned cpu = 0; cpu < a->as_ncpus; cpu++) {
		/* a CPU that has not loaded a space since the last generation began still uses the
		 * number that was reserved then */
		if (a->as_active[cpu] != 0)
			a->as_reserved[cpu] = a->as_active[cpu];
		a->as_active[cpu] = 0;
		if (a->as_reserved[cpu] != 0)
			mark_taken(a, asid_number(a->as_reserved[cpu]));
		a->as_flush[cpu] = true;
	}
}

/* A CPU runs the space, or ran it when the generation began: the space keeps its number on every
 * CPU. */
static bool keep_reserved(struct asids *a, uint64_t *ctx)
{
	uint64_t old = *ctx;
	bool found = false;

	for (unsigned cpu = 0; cpu < a->as_ncpus; cpu++) {
		if (old != 0 && a->as_reserved[cpu] == old) {
			a->as_reserved[cpu] = *ctx = ctx_make(a, asid_number(old));
			found = true;
		}
	}
	return found;
}

static unsigned find_free(struct asids *a)
{
	for (unsigned i = a->as_hint; i < a->as_n; i++) {
		if (!is_taken(a, i)) {
			a->as_hint = i + 1;
			return i;
		}
	}
	return 0;
}

static void renew_number(struct asids *a, uint64_t *ctx)
{
	unsigned i = asid_number(*ctx);

	if (keep_reserved(a, ctx))
		return;
	if (i == 0 || is_taken(a, i)) {
		i = find_free(a);
		if (i == 0) {
			new_generation(a);
			if (keep_reserved(a, ctx))
				return;
			i = find_free(a);
		}
	}
	mark_taken(a, i);
	*ctx = ctx_make(a, i);
}

/* ---- stealing ---- */
static bool is_active(const struct asids *a, unsigned number)
{
	for (unsigned cpu = 0; cpu < a->as_ncpus; cpu++)
		if (asid_number(a->as_active[cpu]) == number)
			return true;
	return false;
}

/* A free number, or the next in turn that no CPU runs with: there are more numbers than CPUs. */
static unsigned steal_number(struct asids *a)
{
	for (unsigned i = 1; i < a->as_n; i++)
		if (a->as_owner[i] == NULL)
			return i;
	do
		a->as_hint = a->as_hint + 1 < a->as_n ? a->as_hint + 1 : 1;
	while (is_active(a, a->as_hint));
	a->as_steals++;
	*a->as_owner[a->as_hint] = 0;
	return a->as_hint;
}

static unsigned enter_by_stealing(
    struct asids *a, uint64_t *ctx, unsigned cpu, enum asid_flush *flush)
{
	unsigned i = asid_number(*ctx);

	if (i == 0) {
		i = steal_number(a);
		a->as_owner[i] = ctx;
		*ctx = i;
		*flush = ASID_FLUSH_NUMBER;
	}
	a->as_active[cpu] = *ctx;
	return i;
}

void asid_release(struct asids *a, uint64_t *ctx)
{
	if (a->as_steal && *ctx != 0)
		a->as_owner[asid_number(*ctx)] = NULL;
	*ctx = 0;
}

/* ---- both ---- */
unsigned asid_enter(struct asids *a, uint64_t *ctx, unsigned cpu, enum asid_flush *flush)
{
	*flush = a->as_n == 0 ? ASID_FLUSH_ALL : ASID_KEEP;
	if (a->as_n == 0)
		return 0;
	if (a->as_steal)
		return enter_by_stealing(a, ctx, cpu, flush);
	if (*ctx >> 16 != a->as_generation)
		renew_number(a, ctx);
	a->as_active[cpu] = *ctx;
	a->as_reserved[cpu] = 0;
	if (a->as_flush[cpu]) {
		a->as_flush[cpu] = false;
		*flush = ASID_FLUSH_ALL;
	}
	return asid_number(*ctx);
}

void asid_leave(struct asids *a, unsigned cpu) { a->as_active[cpu] = a->as_reserved[cpu] = 0; }
