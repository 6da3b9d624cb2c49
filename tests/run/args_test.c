/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Addresses that a program passes to system calls (run/args.h): valid ones are copied, invalid ones
 * are errors and never faults. A page without access lies on each side of the memory in use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "run/args.h"

#define PAGE 4096u
#define MOST (2u * PAGE)

static char *area; /* two pages; a page without access before and behind them */

static int map_area(void **state)
{
	char *m = mmap(NULL, (size_t)4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	if (m == MAP_FAILED)
		return -1;
	area = m + PAGE;
	return mprotect(area, MOST, PROT_READ | PROT_WRITE);
}

static void bytes_are_copied_up_to_the_last_readable_one(void **state)
{
	char got[64];

	(void)state;
	memset(area, 'x', MOST);
	assert_true(args_read(got, area + MOST - 64, 64));
	assert_memory_equal(got, area + MOST - 64, 64);
	assert_false(args_read(got, area + MOST - 63, 64));
	assert_false(args_read(got, area - 1, 2));
	assert_false(args_read(got, NULL, 1));
	assert_false(args_read(got, (const void *)UINTPTR_MAX, 1));
	assert_true(args_read(got, NULL, 0));
}

static void bytes_are_written_only_where_the_program_may_write(void **state)
{
	const char text[] = "text";

	(void)state;
	assert_true(args_write(area + MOST - sizeof text, text, sizeof text));
	assert_string_equal(area + MOST - sizeof text, text);
	assert_false(args_write(area + MOST - 1, text, sizeof text));
	assert_int_equal(mprotect(area, PAGE, PROT_READ), 0);
	assert_false(args_write(area, text, sizeof text));
	assert_int_equal(mprotect(area, PAGE, PROT_READ | PROT_WRITE), 0);
}

static void a_string_has_its_length_wherever_it_lies(void **state)
{
	(void)state;
	memset(area, 'x', MOST);
	for (size_t end = 0; end < MOST; end++) {
		area[end] = '\0';
		for (size_t from = end > 300 ? end - 300 : 0; from <= end;
		     from += 1 + (end - from) / 7)
			assert_int_equal(args_length(area + from, MOST), (long)(end - from));
		area[end] = 'x';
	}
}

/* The longest string that is allowed has max bytes; a string that is longer by one byte is refused. */
static void a_string_longer_than_allowed_is_refused(void **state)
{
	(void)state;
	memset(area, 'x', MOST);
	for (size_t max = 0; max < 600; max += 7) {
		area[max] = '\0';
		assert_int_equal(args_length(area, max), (long)max);
		area[max] = 'x';
		area[max + 1] = '\0';
		assert_int_equal(args_length(area, max), -E2BIG);
		area[max + 1] = 'x';
	}
}

static void a_string_that_runs_into_unreadable_memory_is_a_fault(void **state)
{
	(void)state;
	memset(area, 'x', MOST);
	for (size_t n = 1; n < MOST; n += 511)
		assert_int_equal(args_length(area + MOST - n, (size_t)2 * MOST), -EFAULT);
	assert_int_equal(args_length(NULL, MOST), -EFAULT);
}

static void places_are_read_together_or_not_at_all(void **state)
{
	const void *from[ARGS_EACH];
	char got[ARGS_EACH * 4];

	(void)state;
	for (size_t i = 0; i < MOST; i++)
		area[i] = (char)(i % 251);
	for (size_t i = 0; i < ARGS_EACH; i++)
		from[i] = area + MOST - 4 - i * 199;
	assert_true(args_read_each(got, from, ARGS_EACH, 4));
	for (size_t i = 0; i < ARGS_EACH; i++)
		assert_memory_equal(got + i * 4, from[i], 4);
	for (size_t i = 0; i < ARGS_EACH; i += ARGS_EACH - 1) {
		const void *was = from[i];

		from[i] = area + MOST - 3;
		assert_false(args_read_each(got, from, ARGS_EACH, 4));
		from[i] = was;
	}
	assert_true(args_read_each(got, from, 0, 4));
}

/* Without the call of the kernel every address counts as valid: only valid ones are tried here. */
static void trusted_addresses_are_copied_without_the_kernel(void **state)
{
	char got[8];

	(void)state;
	assert_false(args_unchecked());
	args_trust();
	assert_true(args_trusted() && args_unchecked());
	memcpy(area, "trusted", 8);
	assert_true(args_read(got, area, 8) && args_write(area + PAGE, got, 8));
	assert_string_equal(area + PAGE, "trusted");
	assert_int_equal(args_length(area + PAGE, MOST), 7);
	const void *from[] = { area + PAGE + 4, area };
	assert_true(args_read_each(got, from, 2, 4));
	assert_memory_equal(got, "ted", 4);
	assert_memory_equal(got + 4, "trus", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_copied_up_to_the_last_readable_one),
		cmocka_unit_test(bytes_are_written_only_where_the_program_may_write),
		cmocka_unit_test(a_string_has_its_length_wherever_it_lies),
		cmocka_unit_test(a_string_longer_than_allowed_is_refused),
		cmocka_unit_test(a_string_that_runs_into_unreadable_memory_is_a_fault),
		cmocka_unit_test(places_are_read_together_or_not_at_all),
		cmocka_unit_test(trusted_addresses_are_copied_without_the_kernel),
	};

	return cmocka_run_group_tests(tests, map_area, NULL);
}
