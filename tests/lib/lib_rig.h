/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The helpers of lib_test.c: accesses that may fault, small systems, files, contents. Only
 * lib_test.c includes this file.
 */
#ifndef TESTS_LIB_RIG_H
#define TESTS_LIB_RIG_H

#include <quire/quire.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u
#define MIB (1ull << 20)
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define SKIP 77

extern char **environ;

/* ---- accesses that may fault ---- */
static sigjmp_buf escape;
static volatile sig_atomic_t trying, sig_seen, code_seen;
static void *volatile addr_seen;

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
	(void)ctx;
	if (!trying)
		_exit(99);
	sig_seen = sig;
	code_seen = si->si_code;
	addr_seen = si->si_addr;
	siglongjmp(escape, 1);
}

/*
 * Calls the C library's function, not a sanitizer's. ThreadSanitizer installs its handler before
 * each handler that it learns of; if it learned of libquire's handler, which asks the kernel
 * itself, that handler would become its own predecessor.
 */
int __sigaction(int sig, const struct sigaction *act, struct sigaction *old);

static void install(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	(void)__sigaction(SIGSEGV, &sa, NULL);
	(void)__sigaction(SIGBUS, &sa, NULL);
}

/* cmocka installs its own handlers for each test; this installs the program's handlers again. */
static struct sigaction ours_bus, ours_segv;

static void ours(void)
{
	(void)__sigaction(SIGSEGV, &ours_segv, NULL);
	(void)__sigaction(SIGBUS, &ours_bus, NULL);
}

static void run_one(void **state)
{
	ours();
	((CMUnitTestFunction)*state)(state);
}
#define unit(f)                                                                                    \
	{                                                                                          \
#f, run_one, NULL, NULL, (void *)(f)                                               \
	}

/* Returns the signal that the access raises; 0: none. */
static int touch(volatile char *p, bool write)
{
	if (sigsetjmp(escape, 1) != 0) {
		trying = 0;
		return sig_seen;
	}
	trying = 1;
	if (write)
		*p = 1;
	else
		(void)*p;
	trying = 0;
	return 0;
}

#define gets(p, w, sig, code)                                                                      \
	do {                                                                                       \
		assert_int_equal(touch((p), (w)), (sig));                                          \
		assert_int_equal(code_seen, (code));                                               \
		assert_ptr_equal(addr_seen, (p));                                                  \
	} while (0)

#define fails(call, error)                                                                         \
	do {                                                                                       \
		errno = 0;                                                                         \
		assert_int_equal((call), -1);                                                      \
		assert_int_equal(errno, (error));                                                  \
	} while (0)

#define map_fails(call, error)                                                                     \
	do {                                                                                       \
		errno = 0;                                                                         \
		assert_ptr_equal((call), MAP_FAILED);                                              \
		assert_int_equal(errno, (error));                                                  \
	} while (0)

#include "tests/caller_begin.h"

/* ---- a system ---- */
static void complain(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "lib_test: %s\n", text);
}

static struct quire *open_with(struct quire_config *c)
{
	struct quire *q = NULL;

	c->size = sizeof *c;
	assert_int_equal(quire_open(c, &q), 0);
	return q;
}

/* 2 MiB of frames, 16 MiB of compressed pages. */
static struct quire *small(void)
{
	struct quire_config c = { .memory = 2 * MIB, .pool = 16 * MIB };

	return open_with(&c);
}

static void done(struct quire *q)
{
	assert_int_equal(quire_check(q, complain, NULL), 0);
	assert_int_equal(quire_close(q), 0);
}

static char *map(struct quire *q, size_t pages)
{
	void *p = quire_map(q, NULL, pages * PAGE, RW, ANON, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static struct quire_stats stats(struct quire *q)
{
	struct quire_stats st;

	assert_int_equal(quire_stat(q, &st, sizeof st), 0);
	return st;
}

/* Every word of a page has its own address, so that no two pages are alike. */
static void fill(char *p, size_t pages, unsigned salt)
{
	for (size_t i = 0; i < pages * PAGE / 4; i++)
		((unsigned *)(void *)p)[i] = (unsigned)i * 2654435761u + salt;
}

static size_t wrong(const char *p, size_t pages, unsigned salt)
{
	size_t n = 0;

	for (size_t i = 0; i < pages * PAGE / 4; i++)
		n += ((const unsigned *)(const void *)p)[i] != (unsigned)i * 2654435761u + salt;
	return n;
}

/* Evicts all other pages from memory. */
static void crowd(struct quire *q)
{
	char *p = map(q, 1024);

	memset(p, 1, 1024 * PAGE);
	assert_int_equal(quire_unmap(q, p, 1024 * PAGE), 0);
}

static int file_of(size_t bytes)
{
	char name[] = "/tmp/quire-lib-test-XXXXXX", *buf = malloc(bytes + 1);
	int fd = mkstemp(name);

	assert_true(fd >= 0 && buf != NULL && unlink(name) == 0);
	for (size_t i = 0; i < bytes; i++)
		buf[i] = (char)('a' + i / PAGE % 26);
	assert_int_equal(write(fd, buf, bytes), (ssize_t)bytes);
	free(buf);
	return fd;
}

/* The same file, opened in another way. */
static int again(int fd, int flags)
{
	char name[32];
	int f;

	(void)snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	f = open(name, flags);
	assert_true(f >= 0);
	return f;
}

#include "tests/caller_end.h"
#define open_with(...) (CALLER, (open_with)(__VA_ARGS__))
#define small(...) (CALLER, (small)(__VA_ARGS__))
#define done(...) (CALLER, (done)(__VA_ARGS__))
#define map(...) (CALLER, (map)(__VA_ARGS__))
#define stats(...) (CALLER, (stats)(__VA_ARGS__))
#define crowd(...) (CALLER, (crowd)(__VA_ARGS__))
#define file_of(...) (CALLER, (file_of)(__VA_ARGS__))
#define again(...) (CALLER, (again)(__VA_ARGS__))
#endif
