/* SPDX-License-Identifier: BSD-2-Clause */
/* The family's counters so far: those of its processes, living and dead, and of its stores, present
 * and past, added up. */
#include "run.h"

#include <string.h>
#include <time.h>

uint64_t run_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void run_add_stats(struct pool_stats *sum, const struct pool_stats *ps)
{
	double pages = (double)(sum->bytes_written + sum->mem_bytes + 1),
	       more = (double)(ps->bytes_written + ps->mem_bytes);

	sum->ratio =
	    sum->ratio == 0 ? ps->ratio : (sum->ratio * pages + ps->ratio * more) / (pages + more);
#define X(n) sum->n += ps->n;
	/* clang-format off */
	X(pages) X(same_filled) X(mem_pages) X(mem_bytes) X(mem_held) X(mem_packed) X(mem_most) X(file_bytes) X(bytes_written) X(bytes_read) X(spills)
	X(compactions) X(write_errors) X(dense) X(young_pages) X(packed_behind) X(young_hits) X(cache_hits) X(behind) X(steals)
	X(set_aside) X(mem_target) X(repairs) X(far_bytes) X(bytes_far) X(sunk)
	/* clang-format on */
#undef X
}

void run_store_stats(struct run *r, struct pool_stats *sum, unsigned which)
{
	*sum = r->past;
	for (unsigned i = 0; i < RUN_STORES; i++)
		if (r->store[i] != NULL && r->store[i]->stats != NULL)
			run_add_stats(sum, &r->store[i]->stats[which]);
	if (sum->mem_target == 0) /* no process has asked for the store */
		sum->mem_target = r->o.pool;
	if (sum->ratio == 0)
		sum->ratio = 1;
}

void run_add_up(
    const struct run *r, struct family_counters *out, uint64_t *resident, uint64_t *need)
{
	memset(out, 0, sizeof *out);
	*resident = *need = 0;
#define X(n) atomic_store(&out->n, atomic_load(&r->fam->fam_dead.n));
	FAMILY_COUNTERS(X)
#undef X
	for (unsigned i = 0; i < family_entries(r->fam); i++) {
		const struct family_proc *p = &r->fam->fam_proc[i];

		if (atomic_load(&p->fp_pid) == 0)
			continue;
#define X(n) atomic_fetch_add(&out->n, atomic_load(&p->fp_count.n));
		FAMILY_COUNTERS(X)
#undef X
		*resident += atomic_load(&p->fp_resident);
		*need += atomic_load(&p->fp_need);
	}
}
