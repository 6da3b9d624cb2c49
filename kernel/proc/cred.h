/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Users and groups of programs, and what these permit. cred.c has the theory.
 */
#ifndef QUIRE_KERNEL_CRED_H
#define QUIRE_KERNEL_CRED_H

#include "kernel/core/kernel.h"

#define GROUPS_MOST 64u
/* Rights, as in one digit of a file's mode. */
#define MAY_READ 4u
#define MAY_WRITE 2u
#define MAY_EXEC 1u

/* A process's ids: real, effective, saved; its further groups. A child gets a copy. */
struct cred {
	/*
	 * No lock: only threads of the process change them, each in one step; a thread that looks
	 * meanwhile sees the old or the new number.
	 */
	uint32_t c_uid, c_euid, c_suid;
	uint32_t c_gid, c_egid, c_sgid;
	unsigned c_ngroups;
	uint32_t c_groups[GROUPS_MOST];
};

struct proc;
/* The running program's; those of root for a thread of the kernel. */
const struct cred *cred_current(void);
/* Is the running program's effective user root? Then everything is permitted that is possible. */
bool cred_is_root(void);
/* Is that the effective group, or one of the further ones? */
bool cred_has_group(const struct cred *, uint32_t gid);
/*
 * Has the user all the rights `want` (MAY_*) to a thing of that owner, group and mode? 0 or
 * -EACCES. Root has them, but may execute a file only if its mode lets somebody do so.
 */
int cred_may(const struct cred *, uint32_t uid, uint32_t gid, unsigned mode, unsigned want);
/* May the running program send the signal to the process? proc_lock held. */
bool cred_may_signal(const struct proc *, int sig);
/*
 * May the running program look into the process and change its limits? Its real user and group must
 * be all those of the process, unless it is root. proc_lock held, or the process is its own.
 */
bool cred_may_control(const struct proc *);
/* May the running program change the process's priorities? proc_lock held. */
bool cred_may_schedule(const struct proc *);
/* What a signal tells about the process that sends it: its number and its real user. */
uint64_t cred_sender(const struct proc *);
/* A new program's effective user and group, for a file with the bits of setuid or setgid. */
void cred_of_program(uint32_t uid, uint32_t gid, unsigned mode, uint32_t *euid, uint32_t *egid);
/* A program with these effective ids begins: they are its saved ones, too. */
void cred_begin_program(uint32_t euid, uint32_t egid);
#endif
