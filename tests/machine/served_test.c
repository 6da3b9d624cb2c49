/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Faults that a server answers (machine/linux/serve.c): how long a thread waited for its page.
 * Thread and server share one CPU, and the server has the scheduler's lowest class: the thread runs
 * as soon as its page is filled.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#include <quire/as.h>
#include <quire/machine.h>
#include <quire/seg.h>
#include <quire/vm.h>

#include "machine/linux/linux.h"

#define FRAMES 512u
#define PAGES 64u
#define COMPUTED_NS 20000000u

struct env {
	struct mach *mach;
	struct vm *vm;
	struct as *as;
	volatile uint8_t *at;
	uint64_t there_ns; /* set by the thread when it has its page, before it ends */
};

static int setup(void **state)
{
	struct linux_config lc = { .frames = FRAMES };
	struct vm_config vc = { .vc_frames = FRAMES };
	struct segvn_args sa = { .sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W };
	struct env *e = calloc(1, sizeof *e);
	void *at;

	assert_int_equal(linux_create(&lc, &e->mach), 0);
	vc.vc_mach = e->mach;
	assert_int_equal(vm_create(&vc, &e->vm), VM_OK);
	at = mmap(NULL, vm_ptob(PAGES), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(at != MAP_FAILED);
	e->at = at;
	(void)madvise(at, vm_ptob(PAGES), MADV_NOHUGEPAGE);
	assert_int_equal(as_alloc(e->vm, (vaddr_t)at, (vaddr_t)at + vm_ptob(PAGES), &e->as), VM_OK);
	assert_int_equal(as_map(e->as, (vaddr_t)at, vm_ptob(PAGES), segvn_create, &sa), VM_OK);
	assert_int_equal(
	    linux_range_register(e->mach, as_hat(e->as), (uint64_t)at, vm_ptob(PAGES)), 0);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;
	void *at = (void *)(uintptr_t)e->at;

	as_free(e->as);
	linux_range_unregister(e->mach, NULL, (uint64_t)at, vm_ptob(PAGES), true);
	(void)munmap(at, vm_ptob(PAGES));
	vm_destroy(e->vm);
	linux_destroy(e->mach);
	free(e);
	return 0;
}

/* Touches a page, records the time, and computes for a while. */
static void *touch_and_compute(void *arg)
{
	struct env *e = arg;
	struct sched_param none = { 0 };

	(void)pthread_setschedparam(pthread_self(), SCHED_OTHER, &none);
	e->at[0] = 1;
	e->there_ns = mach_time_ns();
	while (mach_time_ns() - e->there_ns < COMPUTED_NS)
		;
	return NULL;
}

/*
 * The wait was once measured to the end of the service, and included the thread's computation
 * before that.
 */
static void a_wait_ends_when_the_page_is_there(void **state)
{
	struct env *e = *state;
	struct pollfd p = { .fd = linux_fault_fd(e->mach), .events = POLLIN };
	struct sched_param none = { 0 };
	uint64_t before;
	pthread_t t;
	cpu_set_t own, one;

	assert_int_equal(sched_getaffinity(0, sizeof own, &own), 0);
	CPU_ZERO(&one);
	for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++)
		if (CPU_ISSET(cpu, &own))
			CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	assert_int_equal(pthread_setschedparam(pthread_self(), SCHED_IDLE, &none), 0);
	assert_int_equal(pthread_create(&t, NULL, touch_and_compute, e), 0);
	assert_int_equal(poll(&p, 1, -1), 1);
	before = mach_time_ns();
	assert_int_equal(linux_serve(e->mach), 1);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_in_range(linux_waited_ns(e->mach), 1, e->there_ns - before);
	(void)pthread_setschedparam(pthread_self(), SCHED_OTHER, &none);
	assert_int_equal(sched_setaffinity(0, sizeof own, &own), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    a_wait_ends_when_the_page_is_there, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
