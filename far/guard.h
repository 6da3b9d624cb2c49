/* SPDX-License-Identifier: BSD-2-Clause */
/* See guard.c. */
#ifndef QUIRE_FAR_GUARD_H
#define QUIRE_FAR_GUARD_H

#include "far/far.h"

struct far_guard {
	int alarm;      /* -1: there is no guard */
	uint64_t *high; /* for far_settings.high; NULL: there is no guard */
};

/*
 * Makes the guard of this process if the engine keeps the units of a dead process. Call this
 * function before the process has threads, connections or keys, as the guard inherits a copy of all
 * memory.
 */
struct far_guard far_guard_start(const struct far_url *, const struct far_settings *);
/* Called after the process has removed its units: the guard ends without a sweep. */
void far_guard_dismiss(struct far_guard *);
#endif
