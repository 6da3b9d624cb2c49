/* SPDX-License-Identifier: BSD-2-Clause */
/* Which processes may read each other's memory anyway: see creds.c. */
#ifndef QUIRE_CLI_CREDS_H
#define QUIRE_CLI_CREDS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct creds {
	uint32_t uid[4], gid[4];       /* real, effective, saved, of files */
	uint64_t permitted, effective; /* capabilities */
	uint64_t userns;               /* inode */
	uint64_t label;                /* hash of the security module's; 0: none */
};

/*
 * Of the process that pidfd (-1: no proof that it is still the same) and pid name, and whose real user and group the kernel said
 * were uid and gid when it sent its message. False: the process may not share a store: it cannot be dumped, is in a sandbox, has
 * changed since, or is not to be seen in /proc.
 */
bool creds_read(int pidfd, pid_t pid, uid_t uid, gid_t gid, struct creds *);
bool creds_own(struct creds *); /* of this process */
bool creds_equal(const struct creds *, const struct creds *);
#endif
