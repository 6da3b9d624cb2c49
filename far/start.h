/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Starting quire-far and ending it: for the supervisor of `quire run` and for libquire. This code
 * needs no library of an engine.
 *
 * A URL goes to quire-far through a pipe, as it may hold a password. quire-far and its parent share
 * a socket pair, by which each notices the other's end. Through the pair quire-far reports the
 * state of its engine (struct far_told), so that its parent need not read the ring, which hosted
 * processes can write.
 *
 * No function here may be called while a fault is served. On failure `why` has one line.
 */
#ifndef QUIRE_FAR_START_H
#define QUIRE_FAR_START_H

#include <stdbool.h>
#include <stdint.h>

#include "store/far_ring.h"

#define FAR_WHY_START 320u

/* A message of quire-far to its parent: the ring's state and its cause. */
struct far_told {
	uint32_t state;   /* far_server_state: UP, AWAY, LOST; ENDED: quire-far could not start */
	uint64_t away_ns; /* AWAY and LOST: start of that state, monotonic */
	char why[256];
};

struct far_options {
	uint32_t timeout_ms, replicas;
	const char *ca, *psk; /* NULL: none */
	const char *password; /* for a URL without a password; NULL or "": none */
	const char *program;  /* path of quire-far; NULL: quire-far is searched */
};

/* The task of one quire-far. */
struct far_plan {
	const char *url; /* NULL: the file */
	/* descriptor of a file on this machine that is to be encrypted; -1: none */
	int file;
	bool encrypt;
	uint64_t bytes;
	uint64_t keep_free; /* the file: bytes of its file system that the file leaves free */
};

/* One quire-far, in its parent. Used by one thread at a time. */
struct far_started {
	int life;             /* the parent's end of the socket pair; -1: there is no quire-far */
	struct far_told told; /* the last message received */
};

/* Asks for the size of the engine; reduces plan->bytes to it. 0 or -1. */
int far_probe(const struct far_options *, struct far_plan *, char why[FAR_WHY_START]);
/*
 * Starts quire-far on the formatted ring at offset ring_at of the memory object memfd. Waits until
 * the engine answers. 0 or -1.
 */
int far_start(struct far_started *, const struct far_options *, const struct far_plan *, int memfd,
    uint64_t ring_at, char why[FAR_WHY_START]);
/*
 * Reads the messages of quire-far, without waiting. False: quire-far has ended; far_stop() is still
 * to be called.
 */
bool far_hear(struct far_started *);
/*
 * True: the kernel has marked the ring (see far_start()) because quire-far was killed; its end of
 * the socket pair is then closed, or will be in a moment, for which the call waits.
 */
bool far_was_killed(const struct far_started *, int memfd, uint64_t ring_at);
/* Ends quire-far, and waits until it has removed its units. */
void far_stop(struct far_started *);
/* Measures an engine, and prints to standard output; file: a descriptor that the URL names, or -1. 0 or -1, reported on standard error. */
int far_check(const struct far_options *, const char *url, bool encrypt, int file);
/*
 * The '@' that ends the user name and the password of a URL, or NULL. For Redis, any '@' counts, so
 * that a password with a '/' that is not written as %2f is hidden, too.
 */
const char *far_user_end(const char *url);
/* Does the URL hold a password? */
bool far_has_password(const char *url);
/* For messages: the URL without the part before '@'. Never freed. */
const char *far_shown_url(const char *url);
#endif
