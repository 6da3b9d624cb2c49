/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Unknown words of the command line: which known name was meant?
 *
 * The distance of two words is the number of letters to insert, remove, replace or exchange with a neighbour (Damerau-Levenshtein,
 * no letter touched twice). A name is suggested if its distance is at most a third of its length,
 * and no other name is as near.
 */
#include "cli.h"

#include <string.h>

#define LONGEST 31u /* letters; longer words are not compared */

static unsigned lesser_of(unsigned a, unsigned b) { return a < b ? a : b; }

static unsigned word_distance(const char *a, const char *b)
{
	unsigned d[LONGEST + 2][LONGEST + 2], na = (unsigned)strlen(a), nb = (unsigned)strlen(b);

	for (unsigned i = 0; i <= na; i++)
		d[i][0] = i;
	for (unsigned j = 0; j <= nb; j++)
		d[0][j] = j;
	for (unsigned i = 1; i <= na; i++)
		for (unsigned j = 1; j <= nb; j++) {
			d[i][j] = lesser_of(lesser_of(d[i - 1][j], d[i][j - 1]) + 1,
			    d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d[i][j] = lesser_of(d[i][j], d[i - 2][j - 2] + 1);
		}
	return d[na][nb];
}

const char *cli_name_like(const char *word, const char *const *names)
{
	size_t len = strcspn(word, "=");
	char bare[LONGEST + 1];
	const char *best = NULL;
	unsigned least_yet = LONGEST;

	if (len > LONGEST)
		return NULL;
	memcpy(bare, word, len);
	bare[len] = '\0';
	for (; *names != NULL; names++) {
		unsigned n;

		if (strlen(*names) > LONGEST)
			continue;
		n = word_distance(bare, *names);
		if (n < least_yet && n * 3 <= strlen(*names)) {
			least_yet = n;
			best = *names;
		}
	}
	return best;
}
