/* SPDX-License-Identifier: BSD-2-Clause */
/* Strings, for code that binds to no function of a library. */
#ifndef QUIRE_RUN_TEXT_H
#define QUIRE_RUN_TEXT_H

#include <stdbool.h>
#include <stdint.h>

static inline bool text_starts(const char *s, const char *with)
{
	while (*with != '\0')
		if (*s++ != *with++)
			return false;
	return true;
}

static inline bool text_contains(const char *s, const char *what)
{
	for (; *s != '\0'; s++)
		if (text_starts(s, what))
			return true;
	return false;
}

/* The decimal number at s; 0: no digit is there. It ends at the first other character, and wraps. */
static inline uint64_t text_number(const char *s)
{
	uint64_t v = 0;

	for (; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	return v;
}
#endif
