/* SPDX-License-Identifier: BSD-2-Clause */
/* What a Redis server says of itself and of requests: judged, and made fit to print. Pure functions. */
#ifndef QUIRE_FAR_REDIS_SAYS_H
#define QUIRE_FAR_REDIS_SAYS_H

#include "far/far.h"

/*
 * Judges the text that answers INFO. *room: bytes that its maxmemory leaves; UINT64_MAX: it has none. False, with one line in why: it
 * is no Redis, would evict what it was given, or is not what the URL says.
 */
bool far_redis_judge(const char *info, bool cluster, uint64_t *room, char why[FAR_WHY]);
/* An error that answers a command at the start: why has what the server said, and the way out if there is one. */
void far_redis_refusal(const char *said, char why[FAR_WHY]);
/* Does the server not have the command, or not for this user? */
bool far_redis_lacks(const char *said);
/* An error without the arguments that Redis repeats: they are bytes of pages. */
void far_redis_error(const char *said, char out[FAR_WHY]);
#endif
