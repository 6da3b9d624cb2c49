/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the process may do, and whether that is less than it was.
 *
 * When is it lesser? When it has lost something for good: a capability of its permitted set, a user or group that is none of real,
 * effective and saved any more and that it has no capability to take back, its place in the user name space; or when it hides
 * (PR_SET_DUMPABLE) or enters a domain of Landlock. A server that takes another effective user for a moment stays where it is.
 *
 * Locks: none. One thread at a time changes what is kept.
 */
#include "run/rights.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"

static struct rights kept; /* with which the process joined its store */

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
