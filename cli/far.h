/* SPDX-License-Identifier: BSD-2-Clause */
/* Far swap of a run: the quire-far processes that hold its connections. */
#ifndef QUIRE_CLI_FAR_H
#define QUIRE_CLI_FAR_H
#include <stdbool.h>
#include <stdint.h>

#include "options.h"
#include "store/far_ring.h"

/* One quire-far. Only the supervisor's main thread uses it. Hosted processes write to the ring, too: nothing there is relied on. */
struct run_far {
	struct far_ring *ring; /* a mapping of ours; NULL: it was never started */
	int life; /* our end of a socket pair: quire-far ends when it is closed, and it is closed when quire-far ends; -1: neither */
	const char *url; /* without a password, for messages */
};

/* What one is to serve. */
struct far_plan {
	const char *url; /* NULL: the file */
	int file;        /* a file of this machine that is to be encrypted; -1: none */
	bool encrypt;
	uint64_t bytes;
};

/* How much the engine has for us: plan->bytes becomes less if that is less. 0, or CLI_CANNOT after one line on standard error. */
int far_probe(const struct run_options *, struct far_plan *);
/*
 * Starts quire-far: its ring is to lie at ring_at of the memory object memfd. Waits until the engine is there. 0, or CLI_CANNOT
 * after one line on standard error.
 */
int far_start(struct run_far *, const struct run_options *, const struct far_plan *, int memfd,
    uint64_t ring_at);
/* quire-far is gone: what waits for it is answered with an error. */
void far_ended(struct run_far *);
/* Ends it, and waits until it has removed what it stored. NULL ring is allowed. */
void far_stop(struct run_far *);
/* The password of a URL that has none: of QUIRE_SWAP_PASSWORD, which is removed from the environment. Call it before the program starts. */
void far_take_password(void);
/* `quire check URL`; file: a descriptor that the URL names, or -1. 0, or CLI_CANNOT after one line on standard error. */
int far_check(const struct run_options *, const char *url, int file);
#endif
