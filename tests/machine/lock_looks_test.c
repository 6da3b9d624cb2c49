/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The windows of the Linux machine's reader-writer lock, one by one: at each point between two
 * steps of machine/linux/locks.c, a hook does in the same thread what another thread could do
 * there, so each run is the same. locks.c is compiled into this file with hooks at its pauses, at
 * its compare-and-exchange and before it sleeps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>
#include <cmocka.h>

#include <linux/futex.h>

#include "machine/linux/linux_impl.h"

static unsigned pauses, exchanges, sleeps;
static void (*at_pause)(void), (*at_exchange)(void);

static void hook_pause(void)
{
	pauses++;
	if (at_pause != NULL)
		at_pause();
}

static void hook_exchange(void)
{
	void (*hook)(void) = at_exchange;

	exchanges++;
	at_exchange = NULL;
	if (hook != NULL)
		hook();
}

/* FUTEX_WAIT of a thread whose lock is free: nobody would wake it. */
static long hook_call4(long nr, long a, long op, long val, long ts)
{
	(void)nr, (void)a, (void)val, (void)ts;
	if ((op & 0x7f) == FUTEX_WAIT)
		sleeps++;
	return 0;
}

#define __builtin_ia32_pause() hook_pause()
#define __atomic_compare_exchange_n(...) (hook_exchange(), __atomic_compare_exchange_n(__VA_ARGS__))
#define sys_call4(nr, a, b, c, d) hook_call4(nr, a, b, c, d)
#define sys_call3(nr, a, b, c) 0L
#include "machine/linux/locks.c"

static struct mach_rwlock lock;

unsigned mach_cpu_id(void) { return 0; }
void mach_panic(const char *msg)
{
	print_error("%s\n", msg);
	_exit(70);
}

static int begin(void **state)
{
	(void)state;
	at_pause = at_exchange = NULL;
	pauses = exchanges = sleeps = 0;
	mach_rw_init(&lock, 1, "test");
	return 0;
}

static void leave_at_the_last_pause(void)
{
	if (pauses == SPINS)
		mach_rw_exit(&lock);
}

/*
 * The writer leaves after the reader's last check and before the reader is known to wait: the
 * writer does not wake it.
 */
static void reader_looks_again_before_it_sleeps(void **state)
{
	(void)state;
	mach_rw_enter(&lock, true);
	at_pause = leave_at_the_last_pause;
	mach_rw_enter(&lock, false);
	assert_int_equal(pauses, SPINS);
	assert_int_equal(sleeps, 0);
	assert_true(mach_rw_held(&lock, false));
	mach_rw_exit(&lock);
	assert_true(mach_rw_tryenter(&lock, true)); /* no count is left */
	mach_rw_exit(&lock);
}

static void writer_looks_again_before_it_sleeps(void **state)
{
	(void)state;
	mach_rw_enter(&lock, false);
	at_pause = leave_at_the_last_pause;
	mach_rw_enter(&lock, true);
	assert_int_equal(sleeps, 0);
	assert_true(mach_rw_held(&lock, true));
	mach_rw_exit(&lock);
}

/*
 * A reader that arrives while a writer only tries, between setting the state and the second sum,
 * does not enter.
 */
static bool entered;
static void try_to_read(void) { entered = mach_rw_tryenter(&lock, false); }

static void reader_looks_after_it_counted_itself(void **state)
{
	(void)state;
	for (unsigned held = RW_TRYING; held <= RW_WRITER; held++) {
		rw_of(&lock)->state = held;
		try_to_read();
		assert_false(entered);
		assert_false(rw_readers(rw_of(&lock)));
	}
}

/*
 * A reader enters after the writer's first sum and before the writer sets the state: the second sum
 * counts the reader.
 */
static void writer_sums_again(void **state)
{
	(void)state;
	at_exchange = try_to_read;
	assert_false(mach_rw_tryenter(&lock, true));
	assert_true(entered);
	assert_int_equal(exchanges, 1);
	assert_true(mach_rw_tryenter(&lock, false)); /* the state is restored: readers can enter */
	mach_rw_exit(&lock);
	mach_rw_exit(&lock);
	assert_true(mach_rw_tryenter(&lock, true));
	assert_false(mach_rw_tryenter(&lock, false));
	mach_rw_exit(&lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(reader_looks_again_before_it_sleeps, begin),
		cmocka_unit_test_setup(writer_looks_again_before_it_sleeps, begin),
		cmocka_unit_test_setup(reader_looks_after_it_counted_itself, begin),
		cmocka_unit_test_setup(writer_sums_again, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
