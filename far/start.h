/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Starting quire-far and ending it: for the supervisor of `quire run` and for libquire. Needs no library of an engine.
 *
 * A URL goes to quire-far through a pipe, as it may hold a password. The life of quire-far hangs on a socket pair: each side sees
 * the other's end. Over it quire-far tells what becomes of its engine (struct far_told), so that its parent has no mapping
 * of the ring: hosted processes write there.
 *
 * Nothing here may be used in a fault. Errors are one line in why.
 */
#ifndef QUIRE_FAR_START_H
#define QUIRE_FAR_START_H

#include <stdbool.h>
#include <stdint.h>

#include "store/far_ring.h"

#define FAR_WHY_START 320u

/* What quire-far tells its parent, as one message: the ring's state, and why. */
struct far_told {
	uint32_t state;   /* far_server_state: UP, AWAY, LOST; ENDED: it could not start */
	uint64_t away_ns; /* AWAY and LOST: since when, monotonic */
	char why[256];
};

struct far_options {
	uint32_t timeout_ms, replicas;
	const char *ca, *psk; /* NULL: none */
	const char *password; /* of a URL that has none; NULL or "": none */
	const char *program;  /* path of quire-far; NULL: it is looked for */
};

/* What one quire-far is to serve. */
struct far_plan {
	const char *url; /* NULL: the file */
	int file;        /* a file of this machine that is to be encrypted; -1: none */
	bool encrypt;
	uint64_t bytes;
	uint64_t keep_free; /* the file: bytes of its file system that it leaves to others */
};

/* One quire-far, as its parent knows it. One thread at a time. */
struct far_started {
	int life;             /* our end of the socket pair; -1: there is no quire-far */
	struct far_told told; /* the last that was heard */
};

/* How much the engine has for us: plan->bytes becomes less if that is less. 0 or -1. */
int far_probe(const struct far_options *, struct far_plan *, char why[FAR_WHY_START]);
/*
 * Starts quire-far on the ring that lies at ring_at of the memory object memfd and was formatted. Waits until the engine is
 * there. 0 or -1.
 */
int far_start(struct far_started *, const struct far_options *, const struct far_plan *, int memfd,
    uint64_t ring_at, char why[FAR_WHY_START]);
/* Takes what quire-far has told, without waiting. False: quire-far has ended; far_stop() is still to be called. */
bool far_hear(struct far_started *);
/* Ends quire-far, and waits until it has removed what it stored. */
void far_stop(struct far_started *);
/* Measures an engine, and prints to standard output; file: a descriptor that the URL names, or -1. 0 or -1, said on standard error. */
int far_check(const struct far_options *, const char *url, bool encrypt, int file);
/*
 * The '@' that ends the user name and the password of a URL, or NULL. Of Redis any '@' does: a password in which '/' was not written
 * as %2f is hidden, too.
 */
const char *far_user_end(const char *url);
/* Does the URL hold a password? */
bool far_has_password(const char *url);
/* For messages: the URL without what stands before '@'. Never freed. */
const char *far_shown_url(const char *url);
#endif
