/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store's lock between processes of different PID namespaces, and the lock of a dead process (store/pool_lock.c).
 *
 * A holder is a child that stops where the store requests memory, with the lock held, until it is
 * told to continue or is killed. A waiter is another child that stores a page and then reports it.
 */
#include "tests/store/store_rig.h"

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>

#define HOLDER 3u
#define WAITER 4u
#define LONG_MS 400 /* many times the time after which a waiter looks at the lock again */

static struct rig r;
static uint32_t tag;
static int up[2], down[2], go[2]; /* from the children; to the holder; to the waiter */

static uint32_t tag_of(void *arg)
{
	(void)arg;
	return tag;
}

/* Called once, with the lock held. */
static int hold(void *arg, long pages)
{
	static bool held;
	char c;

	(void)arg;
	(void)pages;
	if (held)
		return 0;
	held = true;
	(void)!write(up[1], "h", 1);
	if (read(down[0], &c, 1) != 1)
		_exit(9);
	return 0;
}

static void start_test(void)
{
	setup(&r, 16 * SEG, 0);
	r.p.p_tag = tag_of;
	assert_int_equal(pool_join(&r.p, 1), 0);
	assert_int_equal(pipe(up), 0);
	assert_int_equal(pipe(down), 0);
	assert_int_equal(pipe(go), 0);
}

static void end_test(void)
{
	for (unsigned i = 0; i < 2; i++) {
		(void)close(up[i]);
		(void)close(down[i]);
		(void)close(go[i]);
	}
	teardown(&r);
}

static pid_t fork_member(uint32_t as)
{
	tag = as;
	assert_int_equal(pool_fork_begin(&r.p), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* for the case that the test fails */
		(void)pool_after_fork(&r.p);
	}
	return pid;
}

static char hear(void)
{
	char c = 0;

	assert_int_equal(read(up[0], &c, 1), 1);
	return c;
}

static bool heard_within(int ms)
{
	struct pollfd p = { .fd = up[0], .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

/* Makes a child that holds the lock. */
static pid_t start_holder(void)
{
	uint32_t mine;
	pid_t pid = fork_member(HOLDER);

	if (pid == 0) {
		r.p.p_charge = hold;
		_exit(put(&r, 2, &mine) == 0 ? 0 : 1);
	}
	assert_int_equal(hear(), 'h');
	return pid;
}

/* Moves the caller to a new PID namespace. False: this is not possible here. */
static bool enter_namespace(void)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
		return false;
	if ((pid = fork()) == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		return true;
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		_exit(8);
	_exit(WEXITSTATUS(status));
}

/*
 * Makes a child that stores a page on command. apart: in a new PID namespace; *pid is 0 if that is
 * not possible.
 */
static void start_waiter(bool apart, pid_t *pid)
{
	*pid = fork_member(WAITER);
	if (*pid == 0) {
		uint32_t mine;
		char c;

		if (apart && !enter_namespace()) {
			(void)!write(up[1], "n", 1);
			_exit(0);
		}
		(void)!write(up[1], "r", 1);
		if (read(go[0], &c, 1) != 1)
			_exit(9);
		(void)!write(up[1], "b", 1);
		int rc = put(&r, 10, &mine);
		(void)!write(up[1], rc == 0 ? "w" : "f", 1);
		_exit(rc == 0 ? 0 : 1);
	}
	if (hear() == 'r')
		return;
	expect_done(*pid);
	*pid = 0;
}

static void tell_waiter(void)
{
	assert_int_equal(write(go[1], "g", 1), 1);
	assert_int_equal(hear(), 'b');
}

static void a_waiter_of_another_pid_namespace_leaves_the_lock_to_its_holder(void **state)
{
	struct pool_stats st;
	pid_t holder, waiter;

	(void)state;
	start_test();
	start_waiter(true, &waiter);
	if (waiter == 0) {
		print_message("no PID namespace can be made here: not tested\n");
		end_test();
		return;
	}
	holder = start_holder();
	tell_waiter();
	assert_false(heard_within(LONG_MS));
	assert_int_equal(write(down[1], "c", 1), 1);
	expect_done(holder);
	assert_int_equal(hear(), 'w');
	expect_done(waiter);
	pool_stats(&r.p, &st);
	assert_int_equal(st.repairs, 0);
	end_test();
}

static void kill_holder(pid_t holder)
{
	assert_int_equal(kill(holder, SIGKILL), 0);
	assert_int_equal(waitpid(holder, NULL, 0), holder);
}

static void the_lock_of_a_corpse_is_taken_over_at_its_release(void **state)
{
	struct pool_stats st;
	pid_t holder, waiter;

	(void)state;
	start_test();
	start_waiter(false, &waiter);
	holder = start_holder();
	tell_waiter();
	kill_holder(holder);
	assert_false(heard_within(LONG_MS));
	pool_release(&r.p, HOLDER);
	assert_int_equal(hear(), 'w');
	expect_done(waiter);
	pool_stats(&r.p, &st);
	assert_int_equal(st.repairs, 1);
	assert_int_equal(st.pages, 1);
	end_test();
}

/* A process that had the tag before, and was not released, has the lock. */
static void who_joins_takes_over_the_lock_of_the_tag_before(void **state)
{
	struct pool_stats st;
	pid_t holder;
	struct pool p;

	(void)state;
	start_test();
	holder = start_holder();
	kill_holder(holder);
	assert_int_equal(pool_attach(&p, r.mem, r.size, -1), 0);
	assert_int_equal(pool_join(&p, HOLDER), 0);
	pool_stats(&r.p, &st);
	assert_int_equal(st.repairs, 1);
	assert_int_equal(st.pages, 0);
	pool_release(&r.p, HOLDER);
	pool_detach(&p);
	end_test();
}

static bool is_holder(void *arg, uint32_t which)
{
	(void)arg;
	return which == HOLDER;
}

/*
 * While a dead process is released, another process, known to be dead and released later, holds the
 * lock.
 */
static void a_release_does_not_wait_for_a_dead_process_that_comes_later(void **state)
{
	struct pool_stats st;
	pid_t holder;

	(void)state;
	start_test();
	holder = start_holder();
	kill_holder(holder);
	r.p.p_gone = is_holder;
	pool_release(&r.p, WAITER);
	pool_stats(&r.p, &st);
	assert_int_equal(st.repairs, 1);
	pool_release(&r.p, HOLDER);
	end_test();
}

#define ORPHAN 7

static void leave(void *arg)
{
	(void)arg;
	_exit(ORPHAN);
}

/* No release will come: the process that would report the death has died, too. */
static void a_wait_for_a_dead_process_asks_whether_to_go_on(void **state)
{
	uint32_t mine;
	pid_t holder, waiter;
	int status;

	(void)state;
	start_test();
	holder = start_holder();
	kill_holder(holder);
	waiter = fork();
	if (waiter == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		r.p.p_waited = leave;
		_exit(put(&r, 10, &mine) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(waiter, &status, 0), waiter);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), ORPHAN);
	pool_release(&r.p, HOLDER);
	end_test();
}

static void a_memory_object_tells_which_process_holds_the_lock(void **state)
{
	struct pool_config c = { .mem_limit = 16 * SEG, .max_objects = 4096, .max_members = 8 };
	size_t size = pool_shared_size(&c);
	int fd = memfd_create("store", MFD_CLOEXEC);
	pid_t holder;

	(void)state;
	start_test();
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mem, MAP_FAILED);
	assert_int_equal(pool_format(mem, &c), 0);
	struct rig before = r;
	assert_int_equal(pool_attach(&r.p, mem, size, -1), 0);
	r.p.p_tag = tag_of;
	assert_int_equal(pool_join(&r.p, 1), 0);
	assert_int_equal(pool_lock_tag(fd), ~0u);
	holder = start_holder();
	assert_int_equal(pool_lock_tag(fd), HOLDER);
	kill_holder(holder);
	assert_int_equal(pool_lock_tag(fd), HOLDER);
	pool_release(&r.p, HOLDER);
	assert_int_equal(pool_lock_tag(fd), ~0u);
	pool_detach(&r.p);
	r = before;
	(void)munmap(mem, size);
	(void)close(fd);
	end_test();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_waiter_of_another_pid_namespace_leaves_the_lock_to_its_holder),
		cmocka_unit_test(the_lock_of_a_corpse_is_taken_over_at_its_release),
		cmocka_unit_test(who_joins_takes_over_the_lock_of_the_tag_before),
		cmocka_unit_test(a_release_does_not_wait_for_a_dead_process_that_comes_later),
		cmocka_unit_test(a_wait_for_a_dead_process_asks_whether_to_go_on),
		cmocka_unit_test(a_memory_object_tells_which_process_holds_the_lock),
	};

	return store_run(tests, sizeof tests / sizeof *tests, argc > 1 ? argv[1] : NULL);
}
