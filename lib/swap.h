/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to libquire: the places of a configuration. Used by quire_open alone, in one thread. */
#ifndef QUIRE_LIB_SWAP_H
#define QUIRE_LIB_SWAP_H
#include <quire/quire.h>

#include "far/start.h"
#include "store/pool.h"

struct quire_swap {
	int qs_fd;         /* the swap file that this process writes, or -1: the caller owns it
	            * afterwards */
	uint64_t qs_bytes; /* bytes of it; 0: none */
	struct far_plan qs_plan[POOL_FARS]; /* the places that quire-far serves; nfar of them */
	unsigned qs_nfar;
	struct far_options qs_options;
	char qs_password[256];
	const struct quire_config *qs_config;
};
/* Opens the swap file and asks the servers for their sizes. 0 or errno, with one line in
 * config->why. quire_swap_close() always. */
int quire_swap_open(struct quire_swap *, const struct quire_config *);
/* Starts quire-far for place i on the ring in fd, at its start. The same results. */
int quire_swap_start(const struct quire_swap *, unsigned i, struct far_started *, int fd);
/* Wipes the password and closes quire-far's descriptors; not qs_fd. */
void quire_swap_close(struct quire_swap *);
#endif
