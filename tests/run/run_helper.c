/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program that the tests of quire run execute (run_bad_test.py, run_report_test.py):
 *
 *   touch PAGES ROUNDS   writes one word in each of so many fresh pages, ROUNDS times over, checks, says so
 *   fill                 takes memory by the MiB until there is none, checks all of it, gives it back, takes some again
 *   loop PAGES           says "ready", then writes and checks its pages for ever; says "wrong" and ends if they are
 *   reserve MIB          maps so much and touches nothing
 *   statics              touches 32 MiB of zeroed static data; says the most that was resident, in KiB
 *   children N PAGES     so many children, each as touch PAGES 2
 *   once PAGES           writes so many pages, half of each as random, and reads none of them
 *   busy HOT PAGES       writes to PAGES pages in order, and meanwhile again and again to the first HOT of them
 *   reread PAGES ROUNDS  writes so many pages once and reads all of them so many times; how many were wrong
 *   churn KIND ROUNDS    4 MiB that come and go ROUNDS times: by munmap, fixed (mapped over), mremap, part (in two), brk
 *   forks ROUNDS PAGES   so many children, one after another: each writes PAGES and ends, every other one by SIGKILL
 *   cow PAGES            writes so many pages; a child writes all of them anew; both check
 *   hold KIND ROUNDS     the kernel holds 8 MiB, which then leave, and lets go of them, ROUNDS times over: in pipes, or in a ring
 *                        that has them registered; says "held" and "free" and waits for a line after each;
 *                        after "more" it uses memory and says "free" again
 *   populate             writes 12 MiB, then has the first 6 back by one call (MADV_POPULATE_READ)
 *   lock                 writes 15 MiB, then 60, then locks the first by one call
 *   execute PROGRAM ...  runs it in a child; ends as it does
 *   closing PROGRAM ...  the same, after it has closed all descriptors but the first three
 *   become PROGRAM ...   closes them and becomes that program
 *   signal               says "ready", waits; ends with 40 + the number of the first SIGINT, SIGTERM, SIGUSR1 that comes
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define MIB (1u << 20)

static uint64_t *map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Half of each page differs from every other page's. */
static void write_page(uint64_t *p, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < PAGE / 16; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		p[i] = x;
	}
}

static int page_is(const uint64_t *p, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < PAGE / 16; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		if (p[i] != x)
			return 0;
	}
	return 1;
}

static int touch(size_t pages, size_t rounds)
{
	uint64_t *p = map(pages * PAGE);

	if (p == NULL)
		return 3;
	for (size_t r = 0; r < rounds; r++)
		for (size_t i = 0; i < pages; i++) {
			if (r > 0 && p[i * PAGE / 8] != i + r)
				return 4;
			p[i * PAGE / 8] = i + r + 1;
		}
	printf("touched %zu pages\n", pages);
	return 0;
}

static int fill(void)
{
	static uint64_t *block[65536];
	size_t n = 0, bad = 0;

	for (; n < 65536 && (block[n] = map(MIB)) != NULL; n++)
		for (size_t i = 0; i < MIB / PAGE; i++)
			write_page(block[n] + i * PAGE / 8, n * 256 + i);
	printf("%zu MiB, then: %s\n", n, strerror(errno));
	for (size_t b = 0; b < n; b++) {
		for (size_t i = 0; i < MIB / PAGE; i++)
			bad += !page_is(block[b] + i * PAGE / 8, b * 256 + i);
		(void)munmap(block[b], MIB);
	}
	printf("%zu wrong pages\n", bad);
	for (n = 0; n < 4; n++)
		if (map(MIB) == NULL)
			return 5;
	printf("and again\n");
	return bad > 0 ? 4 : 0;
}

static int loop(size_t pages)
{
	uint64_t *p = map(pages * PAGE);

	if (p == NULL)
		return 3;
	for (uint64_t r = 0;; r++) {
		for (size_t i = 0; i < pages; i++) {
			if (r > 0 && !page_is(p + i * PAGE / 8, i + r - 1)) {
				printf("wrong page %zu\n", i);
				return 4;
			}
			write_page(p + i * PAGE / 8, i + r);
		}
		if (r == 1) {
			printf("ready\n");
			fflush(stdout);
		}
	}
}

static char zeroed[32 * MIB];
static int statics(void)
{
	char line[256];
	FILE *f;

	for (int r = 0; r < 2; r++)
		for (size_t i = 0; i < sizeof zeroed; i += PAGE)
			zeroed[i]++;
	for (size_t i = 0; i < sizeof zeroed; i += PAGE)
		if (zeroed[i] != 2)
			return 4;
	f = fopen("/proc/self/status", "r");
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, "VmHWM:", 6) == 0)
			printf("%lu\n", strtoul(line + 6, NULL, 10));
	return 0;
}

static int children(size_t n, size_t pages)
{
	int bad = 0, status;

	for (size_t i = 0; i < n; i++)
		if (fork() == 0)
			exit(touch(pages, 2));
	while (wait(&status) > 0)
		bad += status != 0;
	return bad;
}

static int once(size_t pages)
{
	uint64_t *p = map(pages * PAGE);

	for (size_t i = 0; p != NULL && i < pages; i++)
		write_page(p + i * PAGE / 8, i);
	return p == NULL ? 3 : 0;
}

static void dirty(void *p, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		((volatile char *)p)[i] = 1;
}

static int churn(const char *kind, size_t rounds)
{
	const size_t len = 4u * MIB;
	char *fixed = (char *)map(len), *p;

	for (size_t r = 0; r < rounds; r++) {
		if (strcmp(kind, "brk") == 0) {
			if ((p = sbrk((intptr_t)len)) == (void *)-1)
				return 3;
			dirty(p, len);
			(void)sbrk(-(intptr_t)len);
			continue;
		}
		if (strcmp(kind, "fixed") == 0)
			p = mmap(fixed, len, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		else
			p = (char *)map(len);
		if (p == MAP_FAILED || p == NULL)
			return 3;
		dirty(p, len);
		if (strcmp(kind, "munmap") == 0 && munmap(p, len) != 0)
			return 5;
		if (strcmp(kind, "part") == 0 &&
		    (munmap(p + len / 2, len / 2) != 0 || munmap(p, len) != 0))
			return 5;
		if (strcmp(kind, "mremap") == 0 &&
		    (mremap(p, len, PAGE, 0) != p || munmap(p, PAGE) != 0))
			return 5;
	}
	return 0;
}

static int forks(size_t rounds, size_t pages)
{
	int status;

	for (size_t r = 0; r < rounds; r++) {
		pid_t pid = fork();

		if (pid == 0) {
			(void)once(pages);
			if (r % 2 == 0)
				(void)raise(SIGKILL);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid ||
		    (r % 2 == 0) != WIFSIGNALED(status))
			return 4;
	}
	return 0;
}

static size_t count_wrong(const uint64_t *p, size_t pages, size_t seed)
{
	size_t bad = 0;

	for (size_t i = 0; i < pages; i++)
		bad += !page_is(p + i * PAGE / 8, i + seed);
	return bad;
}

static int busy(size_t hot, size_t pages)
{
	uint64_t *p = map(pages * PAGE);

	for (size_t i = 0; p != NULL && i < pages; i++) {
		p[i * PAGE / 8] = i;
		for (size_t j = 0; i % 128 == 0 && j < hot && j < i; j++)
			p[j * PAGE / 8]++;
	}
	return p == NULL ? 3 : 0;
}

static int reread(size_t pages, size_t rounds)
{
	uint64_t *p = map(pages * PAGE);
	size_t bad = 0;

	for (size_t i = 0; p != NULL && i < pages; i++)
		write_page(p + i * PAGE / 8, i);
	for (size_t r = 0; p != NULL && r < rounds; r++)
		bad += count_wrong(p, pages, 0);
	printf("%zu wrong pages\n", bad);
	return p == NULL ? 3 : bad != 0;
}

static int cow(size_t pages)
{
	uint64_t *p = map(pages * PAGE);
	size_t bad;
	int status = -1;

	for (size_t i = 0; p != NULL && i < pages; i++)
		write_page(p + i * PAGE / 8, i);
	pid_t pid = p == NULL ? -1 : fork();
	if (pid == 0) {
		for (size_t i = 0; i < pages; i++)
			write_page(p + i * PAGE / 8, i + pages);
		_exit(count_wrong(p, pages, pages) != 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 3;
	bad = count_wrong(p, pages, 0);
	printf("child %d, %zu wrong pages\n", status, bad);
	return bad != 0 || status != 0;
}

static volatile sig_atomic_t got;
static void on_signal(int sig)
{
	if (got == 0)
		got = sig;
}

static int wait_signal(void)
{
	sigset_t none, all;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)sigdelset(&all, SIGTSTP);
	(void)sigprocmask(SIG_BLOCK, &all, NULL);
	(void)signal(SIGINT, on_signal);
	(void)signal(SIGTERM, on_signal);
	(void)signal(SIGUSR1, on_signal);
	printf("ready\n");
	fflush(stdout);
	while (got == 0)
		(void)sigsuspend(&none);
	return 40 + got;
}

/* Takes the remaining frames by other memory, at most 16 MiB. */
static void use_frames(size_t mib)
{
	static uint64_t *p;

	if (p == NULL && (p = map(16 * MIB)) == NULL)
		exit(3);
	for (size_t i = 0; i < mib * MIB / PAGE; i++)
		write_page(p + i * PAGE / 8, i);
}

/* Is the answer "more"? */
static int say_and_wait(const char *word)
{
	char line[16] = "";

	printf("%s\n", word);
	fflush(stdout);
	return fgets(line, sizeof line, stdin) != NULL && strcmp(line, "more\n") == 0;
}

#define HOLDS 8u

/* 0, or the kernel has no such feature. */
static int hold_in_pipes(char *p, int fds[HOLDS][2])
{
	for (size_t i = 0; i < HOLDS; i++) {
		struct iovec v = { p + i * MIB, MIB };

		if (pipe(fds[i]) != 0 || fcntl(fds[i][1], F_SETPIPE_SZ, MIB) != MIB ||
		    vmsplice(fds[i][1], &v, 1, 0) != MIB)
			return -1;
	}
	return 0;
}

static int hold_in_ring(char *p, int fds[HOLDS][2])
{
	struct io_uring_params par = { 0 };
	struct iovec v = { p, HOLDS * MIB };

	fds[0][0] = (int)syscall(SYS_io_uring_setup, 1, &par);
	return fds[0][0] < 0
	    ? -1
	    : (int)syscall(SYS_io_uring_register, fds[0][0], IORING_REGISTER_BUFFERS, &v, 1);
}

/* The contents are incompressible; held memory is right afterwards. */
static int hold(const char *kind, size_t rounds)
{
	uint64_t *p = map(HOLDS * MIB);
	size_t bad = 0;

	if (p == NULL)
		return 3;
	for (size_t r = 0; r < rounds; r++) {
		int fds[HOLDS][2];

		memset(fds, -1, sizeof fds);
		for (size_t i = 0; i < HOLDS * MIB / PAGE; i++)
			write_page(p + i * PAGE / 8, r + i);
		if (strcmp(kind, "pipe") == 0 ? hold_in_pipes((char *)p, fds)
					      : hold_in_ring((char *)p, fds))
			return 5;
		(void)madvise(p, HOLDS * MIB, MADV_PAGEOUT);
		use_frames(4);
		(void)say_and_wait("held");
		if (strcmp(kind, "ring") == 0)
			(void)syscall(
			    SYS_io_uring_register, fds[0][0], IORING_UNREGISTER_BUFFERS, NULL, 0);
		for (size_t i = 0; i < HOLDS; i++)
			for (size_t e = 0; e < 2; e++)
				(void)close(fds[i][e]);
		bad += count_wrong(p, HOLDS * MIB / PAGE, r);
		do /* frames taken beyond the budget are given back fault by fault */
			use_frames(16);
		while (say_and_wait("free"));
	}
	return bad != 0;
}

/* One call loads memory that was written and paged out. */
static int populate(void)
{
	uint64_t *p = map(6 * MIB), *q = map(6 * MIB);

	for (uint64_t *m = p; m != NULL; m = m == p ? q : NULL)
		for (size_t i = 0; i < 6 * MIB / PAGE; i++)
			write_page(m + i * PAGE / 8, i);
	return p == NULL || q == NULL || madvise(p, 6 * MIB, MADV_POPULATE_READ) != 0;
}

/* Memory that was written and left is locked in one call. */
static int lock(void)
{
	size_t first = 15 * MIB / PAGE, rest = 60 * MIB / PAGE;
	uint64_t *p = map(15 * MIB), *q = map(60 * MIB);

	if (p == NULL || q == NULL)
		return 1;
	for (size_t i = 0; i < first; i++)
		write_page(p + i * PAGE / 8, i);
	for (size_t i = 0; i < rest; i++)
		write_page(q + i * PAGE / 8, first + i);
	return mlock(p, 15 * MIB) != 0;
}

static int execute(char **argv)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(98);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 97;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	size_t a = argc > 2 ? strtoul(argv[2], NULL, 10) : 0,
	       b = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;

	if (strcmp(what, "touch") == 0)
		return touch(a, b);
	if (strcmp(what, "fill") == 0)
		return fill();
	if (strcmp(what, "loop") == 0)
		return loop(a);
	if (strcmp(what, "populate") == 0)
		return populate();
	if (strcmp(what, "lock") == 0)
		return lock();
	if (strcmp(what, "reserve") == 0)
		return map(a * MIB) == NULL ? 3 : 0;
	if (strcmp(what, "statics") == 0)
		return statics();
	if (strcmp(what, "children") == 0)
		return children(a, b);
	if (strcmp(what, "once") == 0)
		return once(a);
	if (strcmp(what, "busy") == 0)
		return busy(a, b);
	if (strcmp(what, "reread") == 0)
		return reread(a, b);
	if (strcmp(what, "churn") == 0)
		return churn(argc > 2 ? argv[2] : "", b);
	if (strcmp(what, "forks") == 0)
		return forks(a, b);
	if (strcmp(what, "cow") == 0)
		return cow(a);
	if (strcmp(what, "hold") == 0)
		return hold(argc > 2 ? argv[2] : "", b);
	if ((strcmp(what, "closing") == 0 || strcmp(what, "become") == 0) &&
	    close_range(3, ~0u, 0) != 0)
		return 3;
	if ((strcmp(what, "execute") == 0 || strcmp(what, "closing") == 0) && argc > 2)
		return execute(argv + 2);
	if (strcmp(what, "become") == 0 && argc > 2)
		return execvp(argv[2], argv + 2);
	if (strcmp(what, "signal") == 0)
		return wait_signal();
	return 64;
}
