/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changes of credentials. A process that gives up rights must no longer be able to read the pages
 * that processes with those rights store. So after such a call has succeeded, and before it
 * returns, the process moves to another store (when: rights.c; how: store_move.c).
 *
 * The functions below interpose the C library's functions of the same names and call them; these
 * change all threads of the program. The library does not know the service thread, so that thread
 * is made anew and gets the rights of the thread that makes it.
 *
 * Left out: a change by a system call instruction in the program's own code, which is not seen.
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
	/* the child of a vfork, in its parent's memory, is about to execute a program */
	if (!host_own_process())
		return;
	struct rights now = rights_now();

	if (!lost && !rights_are_lesser(&now))
		return;
	host_move(rights_hidden());
	rights_keep(&now);
}

/* ---- functions that interpose the C library's ---- */
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
