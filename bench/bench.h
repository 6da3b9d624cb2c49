/* SPDX-License-Identifier: BSD-2-Clause */
/* What the benchmarks share: the clock. */
#ifndef QUIRE_BENCH_BENCH_H
#define QUIRE_BENCH_BENCH_H

#include <time.h>

/* Nanoseconds since a fixed moment. */
static inline double bench_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
#endif
