/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Users and groups: what the ids of a process permit.
 *
 * Every right is asked for with the effective ids; access() asks for its file with the real ones.
 * Root, the effective user 0, has all rights; there are no capabilities. The ids belong to the
 * process and not to a thread: a C library that repeats a change in each thread finds it made.
 *
 * Locks: none (struct cred); another process is looked at with proc_lock. Left out: capabilities,
 * ids for files alone (setfsuid), namespaces of users.
 */
#include "kernel/proc/cred.h"
#include "kernel/proc/signal.h"

static const struct cred root_cred;

const struct cred *cred_current(void)
{
	const struct proc *p = this_proc();

	return p != NULL ? &p->p_cred : &root_cred;
}

bool cred_is_root(void) { return cred_current()->c_euid == 0; }

bool cred_has_group(const struct cred *c, uint32_t gid)
{
	bool has = c->c_egid == gid;

	for (unsigned i = 0; i < c->c_ngroups && !has; i++)
		has = c->c_groups[i] == gid;
	return has;
}

int cred_may(const struct cred *c, uint32_t uid, uint32_t gid, unsigned mode, unsigned want)
{
	bool directory = (mode & S_IFMT) == S_IFDIR;

	if (c->c_euid == 0)
		return (want & MAY_EXEC) && !directory && !(mode & 0111) ? -EACCES : 0;
	if (c->c_euid == uid)
		mode >>= 6;
	else if (cred_has_group(c, gid))
		mode >>= 3;
	return (want & ~mode) != 0 ? -EACCES : 0;
}

bool cred_may_signal(const struct proc *p, int sig)
{
	const struct cred *c = cred_current(), *to = &p->p_cred;

	return c->c_euid == 0 || c->c_euid == to->c_uid || c->c_euid == to->c_suid ||
	    c->c_uid == to->c_uid || c->c_uid == to->c_suid ||
	    (sig == SIGCONT && p->p_sid == this_proc()->p_sid);
}

bool cred_may_control(const struct proc *p)
{
	const struct cred *c = cred_current(), *to = &p->p_cred;

	return c->c_euid == 0 || p == this_proc() ||
	    (c->c_uid == to->c_uid && c->c_uid == to->c_euid && c->c_uid == to->c_suid &&
		c->c_gid == to->c_gid && c->c_gid == to->c_egid && c->c_gid == to->c_sgid);
}

bool cred_may_schedule(const struct proc *p)
{
	const struct cred *c = cred_current(), *to = &p->p_cred;

	return c->c_euid == 0 || c->c_euid == to->c_uid || c->c_euid == to->c_euid;
}

uint64_t cred_sender(const struct proc *p)
{
	return (uint64_t)p->p_cred.c_uid << 32 | (uint32_t)p->p_pid;
}

void cred_of_program(uint32_t uid, uint32_t gid, unsigned mode, uint32_t *euid, uint32_t *egid)
{
	const struct cred *c = cred_current();

	*euid = mode & S_ISUID ? uid : c->c_euid;
	*egid = (mode & S_ISGID) && (mode & 010) ? gid : c->c_egid;
}

void cred_begin_program(uint32_t euid, uint32_t egid)
{
	struct cred *c = &this_proc()->p_cred;

	c->c_egid = c->c_sgid = egid;
	c->c_euid = c->c_suid = euid;
}
