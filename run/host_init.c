/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The runtime's start in a program: called from the library's constructor, before the program's own, with one thread. Joins the
 * family named in the environment, builds the machine, the core and the store, and the service thread. Outside a family, or
 * when anything fails, the program runs on the kernel's memory as if the library were not there; in a family a failure is
 * said in one line on standard error and ends the program: it must not run without its limit.
 */
#include "run/host_quire.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <quire/anon.h>

#include "machine/linux/linux.h"
#include "machine/linux/sys.h"
#include "run/host.h"
#include "run/host_engine.h"
#include "store/pool_vnode.h"

static void say(const char *what, long rc)
{
	char line[160];
	size_t n = 0;
	long v = rc < 0 ? -rc : rc;

	for (const char *s = "quire: "; *s != '\0';)
		line[n++] = *s++;
	while (*what != '\0' && n < 120)
		line[n++] = *what++;
	line[n++] = ' ';
	line[n++] = '(';
	if (v >= 100)
		line[n++] = (char)('0' + v / 100 % 10);
	if (v >= 10)
		line[n++] = (char)('0' + v / 10 % 10);
	line[n++] = (char)('0' + v % 10);
	line[n++] = ')';
	line[n++] = '\n';
	(void)sys_call3(SYS_write, 2, (long)line, (long)n);
}

static _Noreturn void stop(const char *what, long rc)
{
	say(what, rc);
	(void)sys_call1(SYS_exit_group, 125);
	for (;;)
		;
}

int host_init(const struct host_config *hc)
{
	static char sockname[64];
	struct host *h = &host;
	const char *name = getenv(FAMILY_ENV);
	int rc;

	(void)hc;
	if (name == NULL || strlen(name) >= sizeof sockname)
		return 0;
	(void)strcpy(sockname, name);
	h->h_sockname = sockname;
	if ((rc = family_connect(h, sockname, -1)) != 0) {
		if (rc == -111 || rc == -2) /* the supervisor is gone: a leftover variable */
			return 0;
		stop("cannot join the family's memory", rc);
	}
	mach_rw_init(&h->h_lock, 1, "host");
	mach_mutex_init(&h->h_brklock, 2, "brk");
	engine_create(h, stop);
	h->h_brk_start = vm_page_round((uint64_t)sys_call1(SYS_brk, 0));
	h->h_brk_cur = (uint64_t)sys_call1(SYS_brk, 0);
	if ((rc = service_start(h)) != 0)
		stop("cannot start the service thread", rc);
	h->h_off = false;
	host_publish(h);
	return 1;
}
