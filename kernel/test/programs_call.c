/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of `programs` (programs.c): system calls as public suites use them, each of which answered otherwise than Linux once. */
#define _GNU_SOURCE
#include "programs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The status of a child that runs fn. */
static int in_child(int (*fn)(void *), void *arg)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn(arg));
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static int exec_by_link(void *arg)
{
	char *argv[] = { "./by-link", "exe_of_this_process", NULL };

	(void)arg;
	return chdir("/tmp") == 0 && execv("./by-link", argv) == 0 ? 0 : 100;
}

/* /proc/self/exe is absolute and without links: a static program of the GNU C library stops at its start if not. */
static void exe_is_an_absolute_path(void)
{
	char self[512] = "";

	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0 && self[0] == '/');
	unlink("/tmp/by-link");
	CHECK(symlink(self, "/tmp/by-link") == 0);
	CHECK(in_child(exec_by_link, NULL) == 0);
	unlink("/tmp/by-link");
}

/* Run by the test above, in a process that was started by a relative name of a link. */
static void exe_of_this_process(void)
{
	char self[512] = "";

	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0 && self[0] == '/');
	CHECK(strstr(self, "by-link") == NULL);
}

static int be_killed(void *arg)
{
	(void)arg;
	raise(SIGABRT);
	return 0;
}

static void no_core_is_told_of(void) { CHECK(in_child(be_killed, NULL) == SIGABRT); }

/* ---- locks that know their owner ---- */
static pthread_mutex_t *shared_mutex(int robust, int protocol)
{
	pthread_mutex_t *m =
	    mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, robust);
	CHECK(pthread_mutexattr_setprotocol(&a, protocol) == 0);
	CHECK(pthread_mutex_init(m, &a) == 0);
	return m;
}

static int lock_and_die(void *arg)
{
	return pthread_mutex_lock(arg) == 0 ? 0 : 1; /* exits with the lock */
}

static void a_dead_owner_is_told_of(void)
{
	for (int pi = 0; pi < 2; pi++) {
		pthread_mutex_t *m = shared_mutex(
		    PTHREAD_MUTEX_ROBUST, pi ? PTHREAD_PRIO_INHERIT : PTHREAD_PRIO_NONE);

		CHECK(in_child(lock_and_die, m) == 0);
		CHECK(pthread_mutex_lock(m) == EOWNERDEAD);
		CHECK(pthread_mutex_consistent(m) == 0 && pthread_mutex_unlock(m) == 0);
		CHECK(pthread_mutex_lock(m) == 0 && pthread_mutex_unlock(m) == 0);
		munmap(m, PG);
	}
}

enum { ADDERS = 3, ADDS = 300 };
static pthread_mutex_t *adders_lock;
static int added;

static void *add_under_lock(void *arg)
{
	for (int i = 0; i < ADDS; i++) {
		int now;

		pthread_mutex_lock(adders_lock);
		now = added;
		if (i % 16 == 0)
			sched_yield();
		added = now + 1;
		pthread_mutex_unlock(adders_lock);
	}
	return arg;
}

static void locks_with_inheritance_exclude(void)
{
	struct timespec soon;
	pthread_t t[ADDERS];

	adders_lock = shared_mutex(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
	for (int i = 0; i < ADDERS; i++)
		CHECK(pthread_create(&t[i], NULL, add_under_lock, NULL) == 0);
	for (int i = 0; i < ADDERS; i++)
		pthread_join(t[i], NULL);
	CHECK(added == ADDERS * ADDS);
	CHECK(pthread_mutex_lock(adders_lock) == 0);
	clock_gettime(CLOCK_REALTIME, &soon);
	CHECK(pthread_mutex_trylock(adders_lock) == EBUSY);
	CHECK(pthread_mutex_unlock(adders_lock) == 0);
	munmap(adders_lock, PG);
}

/* ---- pipes with names, and the end of pipes ---- */
static int write_hello(void *arg)
{
	int fd = open(arg, O_WRONLY);

	return fd >= 0 && write(fd, "hello", 5) == 5 ? 0 : 1;
}

static void fifos_join_processes(void)
{
	char path[] = "/tmp/a-fifo", buf[16];
	int status, fd;
	struct stat st;
	pid_t pid;

	unlink(path);
	CHECK(mkfifo(path, 0600) == 0 && stat(path, &st) == 0 && S_ISFIFO(st.st_mode));
	CHECK(open(path, O_WRONLY | O_NONBLOCK) == -1 && errno == ENXIO);
	if ((pid = fork()) == 0)
		_exit(write_hello(path));
	CHECK((fd = open(path, O_RDONLY)) >= 0); /* waits for the writer */
	CHECK(read(fd, buf, sizeof(buf)) == 5 && memcmp(buf, "hello", 5) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(read(fd, buf, sizeof(buf)) == 0);
	close(fd);
	CHECK((fd = open(path, O_RDWR)) >= 0 && write(fd, "x", 1) == 1 && read(fd, buf, 9) == 1);
	close(fd);
	CHECK((fd = open(path, O_RDONLY | O_NONBLOCK)) >= 0 && read(fd, buf, 9) == 0);
	close(fd);
	CHECK(unlink(path) == 0);
}

enum { CLOSINGS = 500 };
static int ends[2];
static volatile int turn;

static void *close_the_other_end(void *arg)
{
	for (int i = 1; i <= CLOSINGS; i++) {
		while (turn != i)
			sched_yield();
		close(ends[1]);
		turn = -i;
	}
	return arg;
}

/* The one who closed first touched the pipe once more, after the other had freed it. */
static void both_ends_close_at_once(void)
{
	pthread_t t;

	CHECK(pthread_create(&t, NULL, close_the_other_end, NULL) == 0);
	for (int i = 1; i <= CLOSINGS; i++) {
		CHECK(pipe(ends) == 0);
		turn = i;
		close(ends[0]);
		while (turn != -i)
			sched_yield();
	}
	pthread_join(t, NULL);
}

const struct test call_tests[] = {
	T(exe_is_an_absolute_path, 1),
	T(no_core_is_told_of, 0),
	T(a_dead_owner_is_told_of, 1),
	T(locks_with_inheritance_exclude, 1),
	T(fifos_join_processes, 1),
	T(both_ends_close_at_once, 1),
	{ NULL, NULL, 0 },
};
const struct test inner_tests[] = { T(exe_of_this_process, 1), { NULL, NULL, 0 } };
