/* SPDX-License-Identifier: BSD-2-Clause */
/* Addresses of names; see lookup.c. */
#ifndef QUIRE_FAR_LOOKUP_H
#define QUIRE_FAR_LOOKUP_H

#include "far/far.h"

#include <netdb.h>

/*
 * Returns the addresses of that host and port, by `until` (ns, as far_now). If the name cannot be
 * looked up now, and could be before, these are the addresses of then. NULL: no address is known,
 * and the cause is in why. The list is valid until the next call for the same host and port.
 */
const struct addrinfo *far_lookup(
    const char *host, const char *port, uint64_t until, char why[FAR_WHY]);
#endif
