/* SPDX-License-Identifier: BSD-2-Clause */
/* A script of random operations: one 64-bit word each, a line a word in hexadecimal; what else is on a line is for the reader. */
#ifndef QUIRE_TESTS_SCRIPT_H
#define QUIRE_TESTS_SCRIPT_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
#endif
