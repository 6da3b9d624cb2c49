/* SPDX-License-Identifier: BSD-2-Clause */
/* The clock of far swap, by which all waits are measured. */
#include "far/far.h"

#include <time.h>

uint64_t far_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
