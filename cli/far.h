/* SPDX-License-Identifier: BSD-2-Clause */
/* Far swap of a run: the quire-far processes that hold its connections. */
#ifndef QUIRE_CLI_FAR_H
#define QUIRE_CLI_FAR_H
#include <stdbool.h>
#include <stdint.h>

#include "far/start.h"
#include "options.h"

/* One quire-far. Only the supervisor's main thread uses it. */
struct run_far {
	struct far_started started;
	const char *url; /* the URL without a password, for messages */
};

/*
 * The password for URLs that have none: the first line of --swap-password, otherwise
 * QUIRE_SWAP_PASSWORD, which is removed from the environment. Call it before the program starts. 0,
 * or CLI_CANNOT after one line on standard error.
 */
int far_take_password(const struct run_options *);
/* The options that quire-far is told. */
struct far_options run_far_options(const struct run_options *);
/* quire-far has sent a message, or has ended: in the latter case the kernel has marked its ring,
 * and a line reports it. */
void run_far_hear(struct run_far *);
#endif
