/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The limit of descriptors of a process that was made while the runtime had raised the limit
 * (run/hostfd.c; locks are stubs, as the test has one thread), and the numbers of a pair of sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <quire/machine.h>

#include "run/host.h"

void mach_mutex_init(struct mach_mutex *m, unsigned rank, const char *name) {}
void mach_mutex_enter(struct mach_mutex *m) {}
void mach_mutex_exit(struct mach_mutex *m) {}
void mach_panic(const char *msg) { abort(); }

/* Returns the soft limit that a child executes a program with, made with that limit. */
static unsigned executed_with(rlim_t born)
{
	int p[2];
	rlim_t got = 0;

	assert_int_equal(pipe(p), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit l;

		(void)getrlimit(RLIMIT_NOFILE, &l);
		l.rlim_cur = born;
		(void)setrlimit(RLIMIT_NOFILE, &l);
		hostfd_exec();
		(void)getrlimit(RLIMIT_NOFILE, &l);
		_exit(write(p[1], &l.rlim_cur, sizeof l.rlim_cur) != sizeof l.rlim_cur);
	}
	assert_int_equal(read(p[0], &got, sizeof got), sizeof got);
	(void)close(p[0]);
	(void)close(p[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return (unsigned)got;
}

static void a_process_made_while_the_limit_was_raised_executes_with_its_parents(void **state)
{
	struct rlimit l;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
	l.rlim_cur = 100;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &l), 0);
	assert_int_equal(executed_with(132), 132); /* the runtime has raised nothing yet */
	assert_true(hostfd_guard(open("/dev/null", O_RDWR)) >= 100);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
	assert_int_equal(l.rlim_cur, 100);
	assert_int_equal(executed_with(132), 100);
	assert_int_equal(executed_with(131), 131); /* the process has set a limit itself */
	assert_int_equal(executed_with(50), 50);
	hostfd_limit_set();
	assert_int_equal(executed_with(132), 132); /* the program has, to the same number */
}

/* While a thread forked, the child's connection once had the program's lowest free number. */
static void a_pair_leaves_the_lowest_numbers_to_the_program(void **state)
{
	struct rlimit l;
	int s[2], low = dup(0), more[8];

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
	l.rlim_cur = 100;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &l), 0);
	assert_int_equal(close(low), 0);
	assert_int_equal(hostfd_pair(s), 0);
	assert_int_equal(dup(0), low);
	for (unsigned i = 0; i < 2; i++) {
		assert_in_range(s[i], 92, 99);
		assert_int_equal(fcntl(s[i], F_GETFD), FD_CLOEXEC);
	}
	assert_int_equal(write(s[0], "x", 1), 1);
	assert_int_equal(read(s[1], more, 1), 1);
	assert_int_equal(close(s[0]), 0);
	assert_int_equal(close(s[1]), 0);
	for (unsigned i = 0; i < 8; i++) /* the highest are the program's */
		assert_int_equal(more[i] = fcntl(0, F_DUPFD, 92), 92 + (int)i);
	assert_int_equal(hostfd_pair(s), 0);
	assert_in_range(s[0], low + 1, 91);
	assert_in_range(s[1], low + 1, 91);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(close(more[i]), 0);
	assert_int_equal(close(s[0]), 0);
	assert_int_equal(close(s[1]), 0);
	assert_int_equal(close(low), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    a_process_made_while_the_limit_was_raised_executes_with_its_parents),
		cmocka_unit_test(a_pair_leaves_the_lowest_numbers_to_the_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
