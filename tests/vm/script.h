/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A script of random operations: one 64-bit word each, a line a word in hexadecimal; the rest of a
 * line is a comment.
 */
#ifndef QUIRE_TESTS_SCRIPT_H
#define QUIRE_TESTS_SCRIPT_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdbool.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The argument of --seed: a number, or "random": another one in each run, which the test prints so that it can be repeated. */
static inline uint64_t seed_of(const char *arg)
{
	struct timespec now;

	if (strcmp(arg, "random") != 0)
		return strtoull(arg, NULL, 0);
	clock_gettime(CLOCK_REALTIME, &now);
	return ((uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec) % 1000000000;
}

/* The words of the file, to be freed, and how many. Ends the program with status 2 if it cannot be opened. */
static inline uint64_t *script_read(const char *name, uint64_t *n)
{
	FILE *f = fopen(name, "r");
	uint64_t *words = NULL, w;
	char line[128];

	*n = 0;
	if (f == NULL) {
		perror(name);
		exit(2);
	}
	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%" SCNx64, &w) != 1)
			continue;
		words = realloc(words, (*n + 1) * sizeof(*words));
		words[(*n)++] = w;
	}
	fclose(f);
	return words;
}

/* The first member of an operation's description, from which operations are drawn. */
struct script_op {
	const char *so_name;
	unsigned so_weight;
};

/* The operation that a word means: the index of one of n descriptions of that size, drawn by weight. */
static inline size_t script_draw(uint64_t word, const void *ops, size_t n, size_t size)
{
	unsigned total = 0, x;
	size_t i;

#define WEIGHT(k)                                                                                  \
	(((const struct script_op *)(const void *)((const char *)ops + (k)*size))->so_weight)
	for (i = 0; i < n; i++)
		total += WEIGHT(i);
	x = (unsigned)((word >> 40) % total);
	for (i = 0; x >= WEIGHT(i); i++)
		x -= WEIGHT(i);
#undef WEIGHT
	return i;
}

/*
 * Shrinks a failing script by leaving out ever smaller pieces, within that many runs and seconds;
 * returns its length.
 */
static inline uint64_t script_shrink(uint64_t *words, uint64_t n,
    bool (*fails)(const uint64_t *words, uint64_t n, const void *arg), const void *arg,
    unsigned runs, unsigned seconds)
{
	uint64_t *try = malloc((n + 1) * sizeof(*try));
	time_t end = time(NULL) + seconds;

	for (uint64_t chunk = n / 2; try != NULL && chunk > 0; chunk /= 2) {
		for (uint64_t at = 0; at < n && runs > 0 && time(NULL) < end; runs--) {
			uint64_t len = chunk < n - at ? chunk : n - at;

			memcpy(try, words, at * sizeof(*words));
			memcpy(try + at, words + at + len, (n - at - len) * sizeof(*words));
			if (!fails(try, n - len, arg)) {
				at += len;
				continue;
			}
			n -= len;
			memcpy(words, try, n * sizeof(*words));
		}
	}
	free(try);
	return n;
}

#define SCRIPT_ENDLESS 77 /* the child used more time of the CPU than it may */
/* Limits the CPU seconds of the calling process. */
static inline void script_limit(unsigned seconds)
{
	(void)setrlimit(RLIMIT_CPU, &(struct rlimit){ seconds, seconds + 1 });
}

/*
 * Runs run(arg) in a child, silently if quiet. Returns the child's exit status; 1 if a signal
 * killed it, which is printed with *at, the operation.
 */
static inline int script_child(
    void (*run)(const void *arg), const void *arg, bool quiet, const volatile uint64_t *at)
{
	int status;
	pid_t pid;

	fflush(stdout);
	if ((pid = fork()) == 0) {
		if (quiet &&
		    (freopen("/dev/null", "w", stderr) == NULL ||
			freopen("/dev/null", "w", stdout) == NULL))
			_exit(2);
		(void)prctl(PR_SET_PDEATHSIG,
		    SIGKILL); /* the child ends with this process, which may be killed */
		run(arg);
		fflush(stdout);
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("fork");
		exit(2);
	}
	if (WIFSIGNALED(status) && !quiet)
		fprintf(stderr, "killed by signal %d at operation %" PRIu64 "\n", WTERMSIG(status),
		    *at);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
		return SCRIPT_ENDLESS;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
#endif
