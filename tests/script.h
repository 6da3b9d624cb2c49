/* SPDX-License-Identifier: BSD-2-Clause */
/* A script of random operations: one 64-bit word each, a line a word in hexadecimal; what else is on a line is for the reader. */
#ifndef QUIRE_TESTS_SCRIPT_H
#define QUIRE_TESTS_SCRIPT_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

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
