/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of a process that cannot go on under Quire, for a reason that its user can remove. A fault
 * of Quire itself ends in mach_panic() instead, and the end of the supervisor in family_end(). Raw
 * system calls only; no lock.
 */
#include <sys/syscall.h>

#include "run/host.h"
#include "sys/linux/sys.h"

static void say_error(const char *what, long rc)
{
	char line[256]; /* no message is longer (messages_test.py) */
	size_t n = 0;
	long v = rc < 0 ? -rc : rc;

	for (const char *s = "quire: "; *s != '\0';)
		line[n++] = *s++;
	while (*what != '\0' && n < sizeof line - 8)
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

_Noreturn void host_stop(const char *what, long rc)
{
	say_error(what, rc);
	(void)sys_call1(SYS_exit_group, 125);
	for (;;)
		;
}
