/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The supervisor's pressure thread ends, whatever processes of the family write to the word on which
 * it waits. An end that does not come hangs the test.
 */
#include "cli/run.h" /* first: cmocka has a macro fail */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sched.h>

bool run_keeper_start(struct run *r, struct run_store *st)
{
	(void)r;
	return st != NULL;
}

static void *end_threads(void *r)
{
	run_end_threads(r);
	return NULL;
}

/* In glibc, 2 in the lock's word says that a thread sleeps, or is about to sleep, for the lock. */
static bool is_waited_for(pthread_mutex_t *m)
{
	return __atomic_load_n(&m->__data.__lock, __ATOMIC_ACQUIRE) == 2;
}

/*
 * The thread has read the word, and does not yet wait, when it is told to end. A process then sets
 * the word back to the value that the thread has read, so the thread waits after the only wake-up.
 */
static void the_pressure_thread_ends(void **state)
{
	static struct run r = { .connlock = PTHREAD_MUTEX_INITIALIZER };
	static struct family fam;
	pthread_t ender;

	(void)state;
	r.fam = &fam;
	atomic_store(&fam.fam_pressure, 7);
	(void)pthread_mutex_lock(&r.connlock);
	run_start_threads(&r, NULL);
	assert_true(r.pressed);
	while (!is_waited_for(&r.connlock))
		(void)sched_yield();
	assert_int_equal(pthread_create(&ender, NULL, end_threads, &r), 0);
	while (atomic_load(&fam.fam_pressure) == 7)
		(void)sched_yield();
	atomic_store(&fam.fam_pressure, 7);
	(void)pthread_mutex_unlock(&r.connlock);
	assert_int_equal(pthread_join(ender, NULL), 0);
	assert_false(r.pressed);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_pressure_thread_ends) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
