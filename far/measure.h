/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Measures an engine: connects, measures latency and throughput, prints them, removes the written
 * units.
 */
#ifndef QUIRE_FAR_MEASURE_H
#define QUIRE_FAR_MEASURE_H

#include "far/far.h"

struct far_measure_plan {
	uint32_t mib, depth;
}; /* bytes to write and read; requests under way at a time */
/*
 * Prints to standard output, as text or as JSON. 0; 1: the engine cannot be used (one line on
 * standard error).
 */
int far_measure(const struct far_url *, const struct far_settings *, bool encrypt,
    const struct far_measure_plan *, bool json);
#endif
