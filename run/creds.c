/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changes of credentials. A process that gives up rights must not go on reading what processes with those rights store: once such
 * a call of the program has succeeded, and before it returns, the process moves to a store of its own (host_creds, store_move.c).
 *
 * When is it lesser? When it has lost something for good: a capability of its permitted set, a user or group that is none of real,
 * effective and saved any more and that it has no capability to take back, its place in the user name space; or when it hides
 * (PR_SET_DUMPABLE) or enters a domain of Landlock. A server that takes another effective user for a moment stays where it is.
 *
 * The functions below stand before the C library's of the same names and call those, which change all threads of the program. The
 * service thread, which the library does not know, is made anew and so gets the rights of the thread that makes it.
 *
 * Left out: a change by a system call instruction of the program's own is not seen.
 *
 * Locks: none here.
 */
#include "run/creds.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "run/host.h"
#include "run/sites.h"
#include "sys/linux/elf.h"
#include "sys/linux/sys.h"

static void read_rights(struct rights *r)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	(void)sys_call3(SYS_getresuid, (long)&r->uid[0], (long)&r->uid[1], (long)&r->uid[2]);
	(void)sys_call3(SYS_getresgid, (long)&r->gid[0], (long)&r->gid[1], (long)&r->gid[2]);
	(void)sys_call2(SYS_capget, (long)&head, (long)data);
	r->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
}

static bool has_lost(const uint32_t was[3], const uint32_t is[3])
{
	for (unsigned i = 0; i < 3; i++)
		if (was[i] != is[0] && was[i] != is[1] && was[i] != is[2])
			return true;
	return false;
}

static bool is_lesser(const struct rights *was, const struct rights *is)
{
	if ((was->permitted & ~is->permitted) != 0)
		return true;
	return ((is->permitted >> CAP_SETUID & 1) == 0 && has_lost(was->uid, is->uid)) ||
	    ((is->permitted >> CAP_SETGID & 1) == 0 && has_lost(was->gid, is->gid));
}

static struct rights
    rights; /* with which the process joined its store. One thread at a time changes them */

void creds_joined(void) { read_rights(&rights); }

bool creds_hidden(void) { return sys_call5(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0) != 1; }

void creds_changed(bool lost)
{
	struct rights now;

	if (!host_own_process()) /* the child of a vfork, on its parent's memory: it is about to execute a program */
		return;
	read_rights(&now);
	if (!lost && !is_lesser(&rights, &now))
		return;
	host_move(creds_hidden());
	rights = now;
}

/* ---- before the C library's ---- */
#define EXPORT __attribute__((visibility("default")))
#define NAMES(X)                                                                                   \
	X(setuid)                                                                                  \
	X(setgid)                                                                                  \
	X(seteuid)                                                                                 \
	X(setegid)                                                                                 \
	X(setreuid) X(setregid) X(setresuid) X(setresgid) X(setfsuid) X(setfsgid) X(capset)
enum {
#define X(n) AT_##n,
	NAMES(X)
#undef X
	    AT_END
};
static long (*library[AT_END])(long, long, long); /* const after the constructor */

static int find_functions(const struct elf_object *o, void *arg)
{
	static const char *const names[] = {
#define X(n) #n,
		NAMES(X)
#undef X
	};

	if (!sites_is_libc(o->name))
		return 0;
	for (unsigned i = 0; i < AT_END; i++)
		library[i] = (long (*)(long, long, long))(uintptr_t)elf_symbol(o, names[i]);
	return 1;
}

bool creds_find(void)
{
	if (elf_each(find_functions, NULL) == 0)
		return false;
	for (unsigned i = 0; i < AT_END; i++)
		if (library[i] == NULL)
			return false;
	return true;
}

static int call_library(unsigned which, long a, long b, long c)
{
	int r = (int)library[which](a, b, c);

	creds_changed(false);
	return r;
}

EXPORT int setuid(uid_t u) { return call_library(AT_setuid, (long)u, 0, 0); }
EXPORT int setgid(gid_t g) { return call_library(AT_setgid, (long)g, 0, 0); }
EXPORT int seteuid(uid_t u) { return call_library(AT_seteuid, (long)u, 0, 0); }
EXPORT int setegid(gid_t g) { return call_library(AT_setegid, (long)g, 0, 0); }
EXPORT int setreuid(uid_t r, uid_t e) { return call_library(AT_setreuid, (long)r, (long)e, 0); }
EXPORT int setregid(gid_t r, gid_t e) { return call_library(AT_setregid, (long)r, (long)e, 0); }
EXPORT int setresuid(uid_t r, uid_t e, uid_t s)
{
	return call_library(AT_setresuid, (long)r, (long)e, (long)s);
}
EXPORT int setresgid(gid_t r, gid_t e, gid_t s)
{
	return call_library(AT_setresgid, (long)r, (long)e, (long)s);
}
EXPORT int setfsuid(uid_t u) { return call_library(AT_setfsuid, (long)u, 0, 0); }
EXPORT int setfsgid(gid_t g) { return call_library(AT_setfsgid, (long)g, 0, 0); }
int capset(void *head, const void *data);
EXPORT int capset(void *head, const void *data)
{
	return call_library(AT_capset, (long)head, (long)data, 0);
}

long creds_call(long nr, const long *a)
{
	long r = sys_call3(nr, a[5], a[4], a[3]);

	if (r == 0)
		creds_changed(nr == NR_landlock_restrict_self);
	return r;
}
