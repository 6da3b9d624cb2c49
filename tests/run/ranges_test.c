/* SPDX-License-Identifier: BSD-2-Clause */
/* run/ranges.c, a set of addresses as disjoint ranges, against a bit for each address: random insertions, removals, questions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "run/ranges.h"

#define SPACE 200u
#define SEED 20261121u

static void compare(const struct ranges *s, const bool *bit)
{
	size_t n = 0;

	for (size_t a = 0; a < SPACE; a++) {
		assert_int_equal(ranges_overlap(s, a, a + 1), bit[a]);
		n += bit[a] && (a == 0 || !bit[a - 1]);
	}
	assert_int_equal(s->n, n); /* as few as can be */
	for (size_t i = 0; i < s->n; i++)
		assert_true(
		    s->r[i].base < s->r[i].end && (i == 0 || s->r[i - 1].end < s->r[i].base));
}

static void random_changes_are_as_a_bit_for_each_address(void **state)
{
	struct range room[12];
	struct ranges s = { .r = room, .room = 12 };
	bool bit[SPACE] = { false };
	unsigned full = 0;

	(void)state;
	srand(SEED);
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t base = (uint64_t)rand() % SPACE, end = base + 1 + (uint64_t)rand() % 20;
		bool add = rand() % 2 == 0;

		end = end > SPACE ? SPACE : end;
		if (!(add ? ranges_add(&s, base, end) : ranges_remove(&s, base, end)))
			full++;
		else
			memset(bit + base, add, end - base);
		if (i % 16 == 0 || full % 64 == 1)
			compare(&s, bit);
		assert_int_equal(
		    ranges_overlap(&s, base, end), memchr(bit + base, 1, end - base) != NULL);
	}
	printf("seed %u: full %u times\n", SEED, full);
	assert_true(full > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(
	    random_changes_are_as_a_bit_for_each_address) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
