/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The family's account of its budget (run/family.h): pages beyond the budget are reported,
 * whichever process has them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "run/family.h"

static struct family *fresh(void)
{
	static struct family f;

	f = (struct family){ .fam_budget = 100, .fam_pool_max = 60 };
	return &f;
}

static void what_the_pool_takes_beyond_the_budget_is_told(void **state)
{
	struct family *f = fresh();

	(void)state;
	assert_int_equal(family_charge(f, 90), 90);
	assert_int_equal(family_pool_charge(f, 10), 0);
	assert_int_equal(atomic_load(&f->fam_beyond), 0);
	assert_int_equal(family_pool_charge(f, 20), 0);
	assert_int_equal(atomic_load(&f->fam_charged), 120);
	assert_int_equal(atomic_load(&f->fam_charged_peak), 120);
	assert_int_equal(atomic_load(&f->fam_beyond), 20);
	assert_int_equal(family_pool_charge(f, -30), 0);
	assert_int_equal(atomic_load(&f->fam_charged), 90);
	assert_int_equal(atomic_load(&f->fam_beyond), 20);
}

static void a_pool_that_is_refused_takes_nothing(void **state)
{
	struct family *f = fresh();

	(void)state;
	assert_int_equal(family_charge(f, 90), 90);
	assert_int_equal(family_pool_charge(f, 60 + FAMILY_POOL_EXTRA + 1), -1);
	assert_int_equal(atomic_load(&f->fam_charged), 90);
	assert_int_equal(atomic_load(&f->fam_pool_pages), 0);
	assert_int_equal(atomic_load(&f->fam_beyond), 0);
}

/* Otherwise another process could write behind the end of the shared memory. */
static void a_number_of_entries_beyond_the_table_is_not_believed(void **state)
{
	static struct {
		struct family f;
		struct family_proc behind;
	} area;

	(void)state;
	for (unsigned i = 0; i < FAMILY_PROCS; i++)
		atomic_store(&area.f.fam_proc[i].fp_pid, 1);
	area.f.fam_most = FAMILY_PROCS + 1;
	atomic_store(&area.f.fam_procs, 0xffffffffu);
	assert_int_equal(family_slot(&area.f), -1);
	assert_int_equal(atomic_load(&area.behind.fp_pid), 0);
	assert_int_equal(family_entries(&area.f), FAMILY_PROCS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_pool_takes_beyond_the_budget_is_told),
		cmocka_unit_test(a_pool_that_is_refused_takes_nothing),
		cmocka_unit_test(a_number_of_entries_beyond_the_table_is_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
