/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rights of the process, and whether they have become less.
 *
 * Rights are less after a permanent loss: of a capability of the permitted set; of a user or group
 * that is no longer a real, effective or saved ID and that no capability can restore; of the user
 * namespace. Rights are also less after the process has hidden (PR_SET_DUMPABLE) or entered a
 * Landlock domain. A server that takes another effective user for a moment keeps its store.
 *
 * Locks: none. Only one thread at a time changes the recorded rights.
 */
#include "run/rights.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"

static struct rights kept; /* the rights with which the process joined its store */

struct rights rights_now(void)
{
	struct rights now = { 0 };
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	(void)sys_call3(SYS_getresuid, (long)&now.uid[0], (long)&now.uid[1], (long)&now.uid[2]);
	(void)sys_call3(SYS_getresgid, (long)&now.gid[0], (long)&now.gid[1], (long)&now.gid[2]);
	(void)sys_call2(SYS_capget, (long)&head, (long)data);
	now.permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return now;
}

static bool has_lost(const uint32_t was[3], const uint32_t is[3])
{
	for (unsigned i = 0; i < 3; i++)
		if (was[i] != is[0] && was[i] != is[1] && was[i] != is[2])
			return true;
	return false;
}

bool rights_are_lesser(const struct rights *is)
{
	const struct rights *was = &kept;

	if ((was->permitted & ~is->permitted) != 0)
		return true;
	return ((is->permitted >> CAP_SETUID & 1) == 0 && has_lost(was->uid, is->uid)) ||
	    ((is->permitted >> CAP_SETGID & 1) == 0 && has_lost(was->gid, is->gid));
}

void rights_keep(const struct rights *r) { kept = *r; }

void rights_joined(void) { kept = rights_now(); }

bool rights_hidden(void) { return sys_call5(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0) != 1; }
