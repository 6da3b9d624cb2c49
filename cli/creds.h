/* SPDX-License-Identifier: BSD-2-Clause */
/* Which processes may read each other's memory natively: see creds.c. */
#ifndef QUIRE_CLI_CREDS_H
#define QUIRE_CLI_CREDS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct creds {
	uint32_t uid[4], gid[4];       /* real, effective, saved, of files */
	uint64_t permitted, effective; /* capabilities */
	uint64_t userns;               /* inode */
	uint64_t label;                /* hash of the security module's label; 0: none */
};

/*
 * Reads the credentials of the process that pidfd and pid name (pidfd -1: no proof that pid is
 * still the same process). uid and gid: its real user and group as the kernel attached them to its
 * message. False: the process may not share a store: it cannot be dumped, is in a sandbox, has
 * changed since, or does not show in /proc.
 */
bool creds_read(int pidfd, pid_t pid, uid_t uid, gid_t gid, struct creds *);
bool creds_own(struct creds *); /* of this process */
bool creds_equal(const struct creds *, const struct creds *);
#endif
