/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * machine/linux/range_table.c, disjoint ranges with owners, against an owner for each address:
 * random insertions, removals, queries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "machine/linux/range_table.h"

#define SPACE 200u
#define SEED 20261121u

static char owners[2];

/* who[a]: the owner of address a, counted from 1. 0: none. */
static void compare(const struct ranges *s, const uint8_t *who)
{
	size_t n = 0;

	for (size_t a = 0; a < SPACE; a++) {
		size_t i = ranges_find(s, a);

		assert_int_equal(ranges_overlap(s, a, a + 1), who[a] != 0);
		if (who[a] != 0)
			assert_ptr_equal(s->r[i].owner, &owners[who[a] - 1]);
		n += who[a] != 0 && (a == 0 || who[a - 1] != who[a]);
	}
	assert_int_equal(s->n, n); /* the table has as few entries as possible */
	for (size_t i = 0; i < s->n; i++) {
		assert_true(s->r[i].base < s->r[i].end);
		if (i > 0 && s->r[i - 1].owner == s->r[i].owner)
			assert_true(s->r[i - 1].end < s->r[i].base);
		else if (i > 0)
			assert_true(s->r[i - 1].end <= s->r[i].base);
	}
}

static bool has_any(const uint8_t *who, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (who[i] != 0)
			return true;
	return false;
}

static void make_random_changes(unsigned nowners)
{
	struct range room[12];
	struct ranges s = { .r = room, .room = 12 };
	uint8_t who[SPACE] = { 0 };
	unsigned full = 0;

	srand(SEED);
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t base = (uint64_t)rand() % SPACE, end = base + 1 + (uint64_t)rand() % 20;
		unsigned owner = rand() % 2 == 0 ? 1 + (unsigned)rand() % nowners : 0;

		end = end > SPACE ? SPACE : end;
		if (!(owner != 0 ? ranges_add(&s, base, end, &owners[owner - 1])
				 : ranges_remove(&s, base, end)))
			full++;
		else
			memset(who + base, (int)owner, end - base);
		if (i % 16 == 0 || full % 64 == 1)
			compare(&s, who);
		assert_int_equal(ranges_overlap(&s, base, end), has_any(who + base, end - base));
	}
	printf("seed %u: full %u times\n", SEED, full);
	assert_true(full > 100);
}

static void random_changes_are_as_a_bit_for_each_address(void **state)
{
	(void)state;
	make_random_changes(1);
}

static void random_changes_are_as_an_owner_for_each_address(void **state)
{
	(void)state;
	make_random_changes(2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes_are_as_a_bit_for_each_address),
		cmocka_unit_test(random_changes_are_as_an_owner_for_each_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
