/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLB shootdowns whose interrupts are lost or late: the sender sends again and frees no frame
 * before every CPU has answered; a CPU that never answers causes a panic that names it. Then every
 * interrupt of a run fails in turn.
 */
#include "tests/vm/segs.h"

#include <quire/hat.h>

#include <sys/wait.h>
#include <unistd.h>

#define NCPU 4u
#define PAGES 24u

static struct as *running_everywhere(struct sys *s, enum sim_format f, uint64_t latency)
{
	struct sim_config cfg = {
		.frames = 256, .ncpus = NCPU, .format = f, .ipi_latency = latency, .seed = 5
	};
	struct segvn_args a = { .sa_prot = RW, .sa_maxprot = RW };
	struct as *as;

	sys_init_cfg(s, &cfg, 64);
	assert_int_equal(as_alloc(s->vm, 0x10000, mach_caps(s->m)->mc_user_max, &as), VM_OK);
	assert_int_equal(as_map(as, BASE, PAGES * PG, segvn_create, &a), VM_OK);
	for (unsigned cpu = 0; cpu < NCPU; cpu++)
		for (unsigned i = 0; i < PAGES; i++)
			assert_int_equal(
			    sim_write(s->m, as, cpu, BASE + i * PG, &(uint64_t){ i }, 8, NULL),
			    VM_OK);
	sim_cpu_set(s->m, 0);
	return as;
}

static struct sim_stats stats(struct sys *s)
{
	struct sim_stats st;

	sim_statistics(s->m, &st);
	return st;
}

/* The address that no CPU may access after the unload, whatever happened to the interrupts. */
static void nobody_sees_them(struct sys *s, struct as *as)
{
	assert_sound(s);
	for (unsigned cpu = 1; cpu < NCPU; cpu++)
		for (unsigned i = 0; i < PAGES; i++)
			assert_int_equal(
			    sim_touch(s->m, as_hat(as), cpu, BASE + i * PG, false, &(uint8_t){ 0 }),
			    VM_NOMAP);
}

static void a_lost_interrupt_is_sent_again(void **state)
{
	(void)state;
	for (unsigned f = 0; f < SIM_NFORMATS; f++) {
		for (unsigned latency = 0; latency <= 700; latency += 700) {
			struct sys s;
			struct as *as = running_everywhere(&s, (enum sim_format)f, latency);
			struct sim_stats was = stats(&s), now;

			sim_ipi_fail(s.m, SIM_IPI_LOST, 2, 1, 0);
			hat_unload(as_hat(as), BASE, PAGES * PG, HAT_UNLOAD);
			now = stats(&s);
			assert_int_equal(now.ss_ipi_lost - was.ss_ipi_lost, 1);
			assert_int_equal(now.ss_ipi_again - was.ss_ipi_again, 1);
			assert_int_equal(now.ss_ipi - was.ss_ipi, NCPU - 1 + 1);
			nobody_sees_them(&s, as);
			as_free(as);
			sys_fini(&s);
		}
	}
}

static void a_late_interrupt_is_waited_for(void **state)
{
	struct sys s;
	struct as *as = running_everywhere(&s, SIM_X86_64, 500);
	struct sim_stats was = stats(&s), now;
	uint64_t start = mach_time_ns();

	(void)state;
	/*
	 * all interrupts but the last few arrive later than the sender's time-out: the sender sends
	 * again, and the first answer counts
	 */
	sim_ipi_fail(s.m, SIM_IPI_LATE, 1, NCPU - 1, 1000000);
	hat_unload(as_hat(as), BASE, PAGES * PG, HAT_UNLOAD);
	now = stats(&s);
	assert_int_equal(now.ss_ipi_late - was.ss_ipi_late, NCPU - 1);
	assert_int_equal(now.ss_ipi_again - was.ss_ipi_again, NCPU - 1);
	assert_true(mach_time_ns() - start < 1000000);
	nobody_sees_them(&s, as);
	as_free(as);
	sys_fini(&s);
	/* a little late: the sender does not send again */
	as = running_everywhere(&s, SIM_X86_64, 500);
	was = stats(&s);
	start = mach_time_ns();
	sim_ipi_fail(s.m, SIM_IPI_LATE, 1, 1, 5000);
	hat_unload(as_hat(as), BASE, PAGES * PG, HAT_UNLOAD);
	assert_int_equal(stats(&s).ss_ipi_again - was.ss_ipi_again, 0);
	assert_true(mach_time_ns() - start >= 5000);
	nobody_sees_them(&s, as);
	as_free(as);
	sys_fini(&s);
}

static void a_cpu_that_never_answers_is_a_panic(void **state)
{
	char text[256] = "";
	int fds[2], status;
	pid_t pid;
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	if ((pid = fork()) == 0) {
		struct sys s;
		struct as *as = running_everywhere(&s, SIM_X86_64, 500);

		(void)dup2(fds[1], STDERR_FILENO);
		sim_ipi_fail(s.m, SIM_IPI_LOST, 1, UINT64_MAX, 0);
		hat_unload(as_hat(as), BASE, PAGES * PG, HAT_UNLOAD);
		_exit(0); /* the call must not return */
	}
	assert_true(pid > 0);
	close(fds[1]);
	for (size_t at = 0; (n = read(fds[0], text + at, sizeof(text) - 1 - at)) > 0;)
		at += (size_t)n;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_non_null(strstr(text, "does not answer a TLB shootdown"));
}

/*
 * One run of a program that makes every kind of shootdown; the nth interrupt fails. Returns the
 * number of interrupts.
 */
static uint64_t run_with_failure(enum sim_format f, enum sim_ipi_failure how, uint64_t nth)
{
	struct sys s;
	struct as *as = running_everywhere(&s, f, 300), *child;
	uint64_t v, seen;

	sim_ipi_fail(s.m, how, nth, 1, 100000);
	assert_int_equal(as_setprot(as, BASE, 4 * PG, PROT_R), VM_OK);
	assert_int_equal(sim_write(s.m, as, 1, BASE, &(uint64_t){ 9 }, 8, NULL), VM_PROT);
	assert_int_equal(as_dup(as, &child), VM_OK);
	for (unsigned i = 0; i < PAGES; i++) {
		uint64_t w = i + 100;

		if (i >= 4)
			assert_int_equal(
			    sim_write(s.m, as, i % NCPU, BASE + i * PG, &w, 8, NULL), VM_OK);
		assert_int_equal(
		    sim_read(s.m, child, (i + 1) % NCPU, BASE + i * PG, &v, 8, NULL), VM_OK);
		assert_int_equal(v, i);
	}
	assert_true(as_swapout(as) > 0);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(sim_read(s.m, as, i % NCPU, BASE + i * PG, &v, 8, NULL), VM_OK);
		assert_int_equal(v, i < 4 ? i : i + 100);
	}
	assert_int_equal(as_advise(as, BASE, 8 * PG, ADV_DONTNEED), VM_OK);
	for (unsigned cpu = 0; cpu < NCPU; cpu++) {
		assert_int_equal(sim_read(s.m, as, cpu, BASE + 5 * PG, &v, 8, NULL), VM_OK);
		assert_int_equal(v, 0);
	}
	assert_sound(&s);
	seen = sim_ipi_seen(s.m);
	as_free(child);
	as_free(as);
	sys_fini(&s);
	return seen;
}

static void every_interrupt_fails_once(void **state)
{
	static const enum sim_format formats[] = { SIM_X86_64, SIM_SV39, SIM_SFMMU };

	(void)state;
	for (unsigned k = 0; k < 3; k++) {
		uint64_t n = 1;

		for (; run_with_failure(formats[k], SIM_IPI_LOST, n) >= n; n++)
			(void)run_with_failure(formats[k], SIM_IPI_LATE, n);
		assert_true(n > 20);
	}
}

/* Page-out once interrupted the CPUs for each page. */
static void many_pages_are_given_up_by_few_interrupts(void **state)
{
	(void)state;
	for (unsigned f = 0; f < SIM_NFORMATS; f++) {
		struct sys s;
		struct as *as = running_everywhere(&s, (enum sim_format)f, 300);
		struct sim_stats was;

		hat_sync(as_hat(as), BASE, PAGES * PG, true); /* no bit is left to be cleared */
		was = stats(&s);
		assert_in_range(pageout_reclaim(s.vm, PAGES), PAGES, 2 * PAGES);
		assert_in_range((stats(&s).ss_ipi - was.ss_ipi) / (NCPU - 1), 1, PAGES / 8);
		nobody_sees_them(&s, as);
		as_free(as);
		sys_fini(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_pages_are_given_up_by_few_interrupts),
		cmocka_unit_test(a_lost_interrupt_is_sent_again),
		cmocka_unit_test(a_late_interrupt_is_waited_for),
		cmocka_unit_test(a_cpu_that_never_answers_is_a_panic),
		cmocka_unit_test(every_interrupt_fails_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
