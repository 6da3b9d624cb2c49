/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Judges the replies of a Redis server about itself and about requests, and makes them fit to
 * print. Pure functions.
 */
#ifndef QUIRE_FAR_REDIS_SAYS_H
#define QUIRE_FAR_REDIS_SAYS_H

#include "far/far.h"

/*
 * Judges the text that answers INFO. *room: bytes that the server's maxmemory leaves; UINT64_MAX:
 * maxmemory is not set. False, with one line in why: the server is no Redis, would evict keys, or
 * is not of the kind that the URL names.
 */
bool far_redis_judge(const char *info, bool cluster, uint64_t *room, char why[FAR_WHY]);
/*
 * Handles an error reply to a command at the start: why gets the server's text, and the way out if
 * there is one.
 */
void far_redis_refusal(const char *said, char why[FAR_WHY]);
/* Does the server lack the command, or forbid it to this user? */
bool far_redis_lacks(const char *said);
/* Copies an error without the arguments that Redis repeats, as these are bytes of pages. */
void far_redis_error(const char *said, char out[FAR_WHY]);
#endif
