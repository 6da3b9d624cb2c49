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
 * Makes the guard of this process, if the engine keeps what a dead process stored. Call it before there are threads, connections or
 * keys: the guard has a copy of what the process has.
 */
struct far_guard far_guard_start(const struct far_url *, const struct far_settings *);
/* The process has removed what it stored: the guard ends, and does nothing. */
void far_guard_dismiss(struct far_guard *);
#endif
