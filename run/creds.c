/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changes of credentials. A process that gives up rights must not go on reading what processes with those rights store: once such
 * a call of the program has succeeded, and before it returns, the process moves to a store of its own (rights.c says when, store_move.c how).
 *
 * The functions below stand before the C library's of the same names and call those, which change all threads of the program. The
 * service thread, which the library does not know, is made anew and so gets the rights of the thread that makes it.
 *
 * Left out: a change by a system call instruction of the program's own is not seen.
 *
 * Locks: none here.
 */
#include "run/creds.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "run/host.h"
#include "run/rights.h"
#include "run/sites.h"
#include "sys/linux/elf.h"
#include "sys/linux/sys.h"

void creds_changed(bool lost)
{
	if (!host_own_process()) /* the child of a vfork, on its parent's memory: it is about to execute a program */
		return;
	struct rights now = rights_now();

	if (!lost && !rights_are_lesser(&now))
		return;
	host_move(rights_hidden());
	rights_keep(&now);
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
