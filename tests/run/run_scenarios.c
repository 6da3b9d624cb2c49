/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run_scenarios [-b MIB] NAME: runs one scenario with MIB of ballast. `list`: their names. See
 * run_scenarios.h.
 */
#include "tests/run/run_scenarios.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

const char *self;
static char *ballast;
static size_t ballast_len;

static uint64_t word(uint64_t seed, size_t i)
{
	uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u + i;

	return (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
}

void fill(void *p, size_t len, uint64_t seed)
{
	uint64_t *w = p;

	for (size_t i = 0; i < len / 8; i++)
		w[i] = word(seed, i);
}

size_t wrong(const void *p, size_t len, uint64_t seed)
{
	const uint64_t *w = p;
	size_t n = 0;

	for (size_t i = 0; i < len / 8; i++)
		n += w[i] != word(seed, i);
	return n;
}

void *map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		printf("no memory\n");
		exit(99);
	}
	return p;
}

/* One word in each page: compressible, so that the ballast itself stays cheap. */
void push_out(void)
{
	for (size_t i = 0; i < ballast_len; i += PAGE)
		(*(volatile uint64_t *)(void *)(ballast + i))++;
}

void drop_ballast(void)
{
	EXPECT(ballast_len == 0 || munmap(ballast, ballast_len) == 0);
	ballast_len = 0;
}

static void ballast_check(void)
{
	size_t bad = 0;

	for (size_t i = 0; i < ballast_len; i += PAGE)
		bad += *(uint64_t *)(void *)(ballast + i + 8) != i;
	if (bad > 0)
		printf("%zu pages of ballast are wrong\n", bad);
}

void report(const char *what, long r)
{
	printf("%s: %ld %s\n", what, r, r < 0 ? strerror(errno) : "");
}

void report_child(const char *what, int (*fn)(void *), void *arg)
{
	int status;
	pid_t pid;

	(void)fflush(stdout);
	if ((pid = fork()) == 0)
		_exit(fn(arg));
	EXPECT(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		printf("%s: signal %d\n", what, WTERMSIG(status));
	else
		printf("%s: status %d\n", what, WEXITSTATUS(status));
}

int read_byte(void *p) { return *(volatile char *)p; }

int main(int argc, char **argv)
{
	static const struct scenario *const groups[] = { memory_scenarios, call_scenarios,
		protect_scenarios, random_scenarios, kind_scenarios, held_scenarios, ask_scenarios,
		process_scenarios, signal_scenarios, odd_scenarios };

	self = argv[0];
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && strcmp(argv[1], "-b") == 0) {
		ballast_len = strtoul(argv[2], NULL, 10) * MIB;
		argv += 2;
		argc -= 2;
	}
	if (argc != 2)
		return 64;
	if (ballast_len > 0) {
		ballast = map(ballast_len);
		for (size_t i = 0; i < ballast_len; i += PAGE)
			*(uint64_t *)(void *)(ballast + i + 8) = i;
	}
	for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
		for (const struct scenario *s = groups[g]; s->name != NULL; s++) {
			if (strcmp(argv[1], "list") == 0)
				puts(s->name);
			if (strcmp(argv[1], s->name) != 0)
				continue;
			int status = s->run();
			ballast_check();
			return status;
		}
	return strcmp(argv[1], "list") == 0 ? 0 : 64;
}
