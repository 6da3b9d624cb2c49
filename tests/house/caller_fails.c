/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fails on purpose, in a helper of tests/vm/segs.h: caller_test.py checks which line the failure
 * names.
 */
#include "tests/vm/segs.h"

static void nothing_is_mapped(void **state)
{
	struct sys s;

	(void)state;
	sys_init(&s, 64, 0);
	expect(&s, new_as(&s), BASE, 4, 1); /* this line */
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(nothing_is_mapped) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
