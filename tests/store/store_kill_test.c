/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store shared by processes that are killed: owners of the lock, writers, readers, members and
 * packers, at random moments and at chosen places. Pages stored by other processes stay unchanged,
 * and no resource stays taken for a dead process.
 *
 *   store_kill_test [--packer] [PATTERN]     --packer: each store has a process that packs, too; PATTERN selects tests by name
 * STORE_SEED repeats a run: each prints its seed first.
 */
#include "tests/store/store_rig.h"

#include "store/pool_impl.h"

static uint32_t tag_of(void *arg) { return *(uint32_t *)arg; }

/* Joins; processes forked from now on join with the value of *tag at that time. */
static void join_tagged(struct rig *r, uint32_t *tag, uint32_t mine)
{
	r->p.p_tag = tag_of;
	r->p.p_charge_arg = tag;
	assert_int_equal(pool_join(&r->p, mine), 0);
}

static int child_work(struct rig *r, const uint32_t *h, unsigned n, unsigned rounds)
{
	uint8_t got[PAGE], want[PAGE];

	for (unsigned k = 0; k < rounds; k++) {
		unsigned i = (unsigned)(rnd() % n);
		uint64_t what = rnd();
		uint32_t mine;

		pool_ref(&r->p, h[i]);
		if (put(r, what, &mine) != 0)
			return 2;
		fill(want, i * 8 + 2);
		if (pool_load(&r->p, h[i], got) != 0 || memcmp(got, want, PAGE) != 0)
			return 3;
		fill(want, what);
		if (pool_load(&r->p, mine, got) != 0 || memcmp(got, want, PAGE) != 0)
			return 4;
		pool_unref(&r->p, mine);
		pool_unref(&r->p, h[i]);
	}
	return 0;
}

static void expect_killed(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void a_family_outlives_its_killed_members(void **state)
{
	static uint32_t h[500];
	pid_t pid[4];
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 16 * MiB);
	put_all(&r, h, 500);
	for (unsigned c = 0; c < 4; c++) {
		if ((pid[c] = fork()) == 0) {
			(void)pool_after_fork(&r.p);
			rng += (c + 1) * 77777;
			_exit(child_work(&r, h, 500, 3000));
		}
		assert_true(pid[c] > 0);
	}
	for (unsigned c = 0; c < 4; c++)
		expect_done(pid[c]);
	expect_all(&r, h, 500);
	drop_all(&r, h, 500);
	expect_empty(&r);
	teardown(&r);
}

/*
 * A child is killed at any point, and is not reaped until the survivor has used the store: a
 * released zombie must not hold the lock. The references of the killed child are lost to the store,
 * but the pages of others are right, and the store keeps working.
 */
static void the_lock_of_a_killed_owner_is_taken_over(void **state)
{
	static uint32_t h[300];
	struct pool_stats st;
	uint32_t tag = 3;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 64 * MiB);
	join_tagged(&r, &tag, 1);
	put_all(&r, h, 300);
	for (unsigned round = 0; round < 60; round++) {
		int up[2];
		char c;

		assert_int_equal(pipe(up), 0);
		assert_int_equal(pool_fork_begin(&r.p), 0);
		pid_t pid = fork();
		if (pid == 0) {
			(void)close(up[0]);
			(void)pool_after_fork(&r.p);
			(void)!write(up[1], "x", 1);
			rng += round;
			_exit(child_work(&r, h, 300, 1000000));
		}
		assert_true(pid > 0);
		(void)close(up[1]);
		assert_int_equal(read(up[0], &c, 1), 1);
		for (unsigned i = 0; i < 10 + rnd() % 50; i++)
			expect(&r, h[i], i * 8 + 2);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(read(up[0], &c, 1), 0); /* the child is dead but not reaped */
		pool_release(&r.p, tag);
		for (unsigned i = 0; i < 300; i += 7) {
			expect(&r, h[i], i * 8 + 2);
			pool_unref(&r.p, h[i]);
			assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
		}
		expect_killed(pid);
		(void)close(up[0]);
	}
	expect_all(&r, h, 300);
	pool_stats(&r.p, &st);
	print_message("lock or write taken over %llu times\n", (unsigned long long)st.repairs);
	teardown(&r);
}

/* The charge function is called with the lock held: the owner dies at that point in every round. */
static int die(void *arg, long pages)
{
	(void)arg;
	(void)pages;
	(void)kill(getpid(), SIGKILL);
	return 0;
}

static void a_process_killed_with_the_lock_held_leaves_a_sound_store(void **state)
{
	static uint32_t h[300];
	struct pool_stats st;
	uint32_t tag = 3;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 64 * MiB);
	join_tagged(&r, &tag, 1);
	put_all(&r, h, 300);
	for (unsigned round = 1; round <= 3; round++) {
		assert_int_equal(pool_fork_begin(&r.p), 0);
		pid_t pid = fork();

		if (pid == 0) {
			(void)pool_after_fork(&r.p);
			r.p.p_charge = die;
			(void)pool_shrink(&r.p, SEG);
			_exit(0);
		}
		assert_true(pid > 0);
		siginfo_t info;
		assert_int_equal(
		    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0); /* a corpse */
		assert_int_equal(info.si_code, CLD_KILLED);
		pool_release(&r.p, tag);
		pool_stats(&r.p, &st);
		assert_int_equal(st.repairs, round);
		assert_int_equal(st.pages, 300);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		expect_all(&r, h, 300);
	}
	drop_all(&r, h, 300);
	expect_empty(&r);
	teardown(&r);
}

#define FIRST_WRITER 100u
static uint32_t writer; /* the tag of the next child: the children before are dead */

static bool is_dead_writer(void *arg, uint32_t tag)
{
	(void)arg;
	return tag >= FIRST_WRITER && tag < writer;
}

/*
 * Each killed process leaves a segment that it was writing or reading; together they held all of
 * the memory. The processes are known to be dead and are not released yet. The file has dead space:
 * fetching more of it back must not count as progress.
 */
static void memory_that_killed_writers_held_comes_back(void **state)
{
	static uint32_t h[3600];
	struct pool_stats st;
	struct rig r;

	(void)state;
	writer = FIRST_WRITER;
	setup(&r, 8 * SEG, 64 * MiB);
	join_tagged(&r, &writer, 1);
	r.p.p_gone = is_dead_writer;
	for (unsigned round = 0; round < 12; round++) {
		unsigned from = round * 300;

		for (unsigned i = from; i < from + 300; i++)
			assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
		for (unsigned i = from; i < from + 300; i++)
			if (i % 3 == 0) /* the live bytes of two segments do not fit into one */
				pool_unref(&r.p, h[i]);
		for (unsigned k = 0; k < 3 + round; k++) {
			pid_t pid = fork();

			if (pid == 0) {
				uint32_t mine;

				(void)pool_after_fork(&r.p);
				pool_inject(&r.p, POOL_INJECT_KILL, 1);
				while (put(&r, rnd() * 8 + 2, &mine) == 0)
					;
				_exit(1);
			}
			assert_true(pid > 0);
			expect_killed(pid);
			writer++;
		}
	}
	for (unsigned i = 1; i < 3600; i += 3)
		expect(&r, h[i], i * 8 + 2);
	pool_stats(&r.p, &st);
	assert_true(st.repairs > 0);
	teardown(&r);
}

/* ---- references of killed processes are given back ---- */

static uint64_t used(struct rig *r)
{
	struct pool_stats st;

	pool_stats(&r->p, &st);
	return st.mem_held + st.file_bytes;
}

/* Forks a member that drops every third page it inherited, stores n pages of its own, says so and sleeps until it is killed. */
static pid_t fork_hog(struct rig *r, const uint32_t *h, unsigned nh, unsigned n)
{
	int up[2];
	char c;

	assert_int_equal(pipe(up), 0);
	assert_int_equal(pool_fork_begin(&r->p), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (pool_after_fork(&r->p) != 0)
			_exit(1);
		for (unsigned i = 0; i < nh; i += 3)
			pool_unref(&r->p, h[i]);
		for (unsigned i = 0; i < n; i++) {
			uint32_t mine;

			if (put(r, rnd() * 8 + 2, &mine) != 0)
				_exit(2);
		}
		(void)!write(up[1], "x", 1);
		for (;;)
			(void)pause();
	}
	assert_true(pid > 0);
	(void)close(up[1]);
	assert_int_equal(read(up[0], &c, 1), 1);
	(void)close(up[0]);
	return pid;
}

static void what_a_killed_member_held_is_given_back(void **state)
{
	static uint32_t h[600];
	struct pool_stats st;
	struct rig r;
	uint32_t tag = 7;
	pid_t pid[3];

	(void)state;
	setup(&r, 16 * SEG, 64 * MiB);
	join_tagged(&r, &tag, 1000);
	put_all(&r, h, 600);
	uint64_t before = used(&r);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned k = 0; k < 3; k++) {
			tag = 7 + k;
			pid[k] = fork_hog(&r, h, 600, 2000);
		}
		assert_true(used(&r) > 2 * before + 2 * MiB);
		for (unsigned k = 0; k < 3; k++) {
			assert_int_equal(kill(pid[k], SIGKILL), 0);
			assert_int_equal(waitpid(pid[k], NULL, 0), pid[k]);
			pool_release(&r.p, 7 + k);
			for (unsigned i = 0; i < 600; i += 5)
				expect(&r, h[i], i * 8 + 2);
		}
		pool_stats(&r.p, &st);
		assert_int_equal(st.pages, 600);
		assert_true(used(&r) < 2 * before + MiB);
	}
	expect_all(&r, h, 600);
	drop_all(&r, h, 600);
	expect_empty(&r);
	teardown(&r);
}

/* A killed parent's pages live on in its child, and end with the child. */
static void a_child_that_outlives_its_parent_keeps_its_pages(void **state)
{
	static uint32_t h[300];
	struct pool_stats st;
	struct rig r;
	uint32_t tag = 2;

	(void)state;
	setup(&r, 8 * SEG, 16 * MiB);
	join_tagged(&r, &tag, 1);
	put_all(&r, h, 300);
	assert_int_equal(pool_fork_begin(&r.p), 0);
	pool_fork_cancel(&r.p); /* the fork failed */
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, 300);
	pid_t pid = fork_hog(&r, h, 300, 100);
	pool_release(&r.p, 1);
	for (unsigned i = 0; i < 300; i++)
		if (i % 3 != 0)
			expect(&r, h[i], i * 8 + 2);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, 200 + 100);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	pool_release(&r.p, 2);
	expect_empty(&r);
	teardown(&r);
}

/* References that the parent counted for the child are given back by the child's tag. */
static void a_child_killed_before_it_takes_over_gives_back(void **state)
{
	static uint32_t h[300];
	struct rig r;
	uint32_t tag = 2;

	(void)state;
	setup(&r, 8 * SEG, 16 * MiB);
	join_tagged(&r, &tag, 1);
	put_all(&r, h, 300);
	assert_int_equal(pool_fork_begin(&r.p), 0);
	pid_t pid = fork();
	if (pid == 0) {
		(void)kill(getpid(), SIGKILL);
		_exit(1);
	}
	expect_killed(pid);
	pool_release(&r.p, tag);
	expect_all(&r, h, 300);
	drop_all(&r, h, 300);
	expect_empty(&r);
	teardown(&r);
}

/*
 * A process is killed at any point while it stores, loads and drops: no page of another process is
 * freed with it.
 */
static void a_member_may_be_killed_anywhere(void **state)
{
	static uint32_t h[300];
	struct pool_stats st;
	uint32_t tag = 3;
	struct rig r;

	(void)state;
	setup(&r, 8 * SEG, 64 * MiB);
	join_tagged(&r, &tag, 1);
	put_all(&r, h, 300);
	for (unsigned round = 0; round < 40; round++) {
		int up[2];
		char c;

		assert_int_equal(pipe(up), 0);
		assert_int_equal(pool_fork_begin(&r.p), 0);
		pid_t pid = fork();
		if (pid == 0) {
			(void)pool_after_fork(&r.p);
			(void)!write(up[1], "x", 1);
			rng += round;
			for (unsigned i = 0; i < 300; i += 2)
				pool_unref(&r.p, h[i]);
			for (;;)
				for (unsigned i = 0; i < 300; i++) {
					uint32_t mine;
					uint8_t got[PAGE];

					if (put(&r, rnd(), &mine) != 0 ||
					    pool_load(&r.p, i % 2 == 1 ? h[i] : mine, got) != 0)
						_exit(1);
					if (rnd() % 8 != 0)
						pool_unref(&r.p, mine);
				}
		}
		assert_true(pid > 0);
		assert_int_equal(read(up[0], &c, 1), 1);
		for (unsigned i = 0; i < 10 + rnd() % 200; i++)
			expect(&r, h[i], i * 8 + 2);
		assert_int_equal(kill(pid, SIGKILL), 0);
		expect_killed(pid);
		pool_release(&r.p, 3);
		(void)close(up[0]);
		(void)close(up[1]);
	}
	expect_all(&r, h, 300);
	drop_all(&r, h, 300);
	pool_stats(&r.p, &st);
	assert_true(st.pages <= 40); /* a kill may lose the one page being stored */
	teardown(&r);
}

/*
 * A process is killed with a write in flight: the block must not be reused while that write may
 * still reach the disk.
 */
static void a_process_killed_with_writes_in_flight_loses_only_its_own(void **state)
{
	static uint32_t h[400];
	struct pool_stats st;
	uint32_t tag = 3;
	struct rig r;

	(void)state;
	if (!async_setup(&r, 16 * SEG, 64 * MiB))
		return;
	r.p.p_tag = tag_of;
	r.p.p_charge_arg = &tag;
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
	for (unsigned round = 0; round < 20; round++) {
		pool_poll(&r.p, 1);
		assert_int_equal(pool_fork_begin(&r.p), 0);
		pid_t pid = fork();
		if (pid == 0) {
			uint32_t mine;

			(void)pool_after_fork(&r.p);
			if (pool_async(&r.p) != 0)
				_exit(1);
			pool_inject(&r.p, POOL_INJECT_KILL, 1 + round % 4);
			for (unsigned i = 0; put(&r, round * 1000 + i * 8 + 2, &mine) == 0; i++)
				;
			_exit(1);
		}
		assert_true(pid > 0);
		expect_killed(pid);
		pool_release(&r.p, 3);
		pool_stats(&r.p, &st);
		assert_int_equal(st.pages, 400);
		for (unsigned i = round % 3; i < 400; i += 3) {
			expect(&r, h[i], i * 8 + 2);
			pool_unref(&r.p, h[i]);
			assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
		}
	}
	expect_all(&r, h, 400);
	drop_all(&r, h, 400);
	pool_poll(&r.p, 1);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, 0);
	assert_int_equal(st.mem_held, 0);
	assert_true(st.set_aside > 0 && st.set_aside <= 20 * 4);
	teardown(&r);
}

#define SLEEPER_MOST 6000u

/*
 * Stores until a write behind of this process is in flight and not collected, so that no other
 * process can end it. Returns the number of pages; 0: failed, as with a packer all writes may be
 * the packer's.
 */
static unsigned put_until_a_write_is_held(struct rig *r, uint32_t *h)
{
	unsigned n = 0;

	while (n < SLEEPER_MOST && (n < 1500 || pool_inflight(&r->p) == 0)) {
		if (put(r, n * 8 + 2, &h[n]) != 0)
			return 0;
		n++;
	}
	return n;
}

/* In a child: three times it stores until a write is under way, says so and sleeps until it is told to go on. Does not return. */
static void sleep_on_writes(struct rig *r, uint32_t *h, int told, int says)
{
	char c;

	(void)pool_after_fork(&r->p);
	if (pool_async(&r->p) != 0)
		_exit(1);
	for (unsigned round = 0; round < 3; round++) {
		unsigned n = put_until_a_write_is_held(r, h);

		if (n == 0)
			_exit(2);
		(void)!write(says, pool_inflight(&r->p) > 0 ? "held" : "none", 4);
		if (read(told, &c, 1) != 1)
			_exit(3);
		for (unsigned i = 0; i < n; i++) {
			expect(r, h[i], i * 8 + 2);
			pool_unref(&r->p, h[i]);
		}
	}
	pool_poll(&r->p, 1);
	_exit(0);
}

/*
 * A process starts writes and then sleeps while they hold memory: other processes that need the
 * memory take the writes over.
 */
static void writes_of_a_sleeper_are_taken_over(void **state)
{
	static uint32_t h[SLEEPER_MOST];
	struct pool_stats st;
	uint32_t tag = 3;
	int up[2], down[2];
	struct rig r;

	(void)state;
	if (!async_setup(&r, 32 * SEG, 64 * MiB))
		return;
	r.p.p_tag = tag_of;
	r.p.p_charge_arg = &tag;
	assert_int_equal(pipe(up), 0);
	assert_int_equal(pipe(down), 0);
	assert_int_equal(pool_fork_begin(&r.p), 0);
	pid_t pid = fork();
	if (pid == 0)
		sleep_on_writes(&r, h, down[0], up[1]);
	assert_true(pid > 0);
	for (unsigned round = 0; round < 3; round++) {
		char held[5] = "";

		assert_int_equal(read(up[0], held, 4), 4);
		pool_stats(&r.p, &st);
		uint64_t steals = st.steals;
		(void)pool_shrink(&r.p, 64 * MiB); /* all memory that can be given up */
		pool_stats(&r.p, &st);
		if (!packers)
			assert_string_equal(held, "held");
		if (held[0] == 'h')
			assert_true(st.steals > steals);
		for (unsigned i = 0; i < 600; i++)
			assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
		for (unsigned i = 0; i < 600; i++) {
			expect(&r, h[i], i * 8 + 2);
			pool_unref(&r.p, h[i]);
		}
		assert_int_equal(write(down[1], "x", 1), 1);
	}
	expect_done(pid);
	pool_release(&r.p, 3);
	pool_poll(&r.p, 1);
	expect_empty(&r);
	teardown(&r);
}

/*
 * The packer is killed at any point, repeatedly; storing processes keep working, and pack the pages
 * that it left if no other memory can be had.
 */
static void a_killed_packer_loses_no_page(void **state)
{
	struct pool_stats st;
	struct rig r;

	(void)state;
	packers = true;
	setup(&r, 64 * SEG, 16 * MiB);
	for (unsigned round = 0; round < 60; round++) {
		for (unsigned n = 0; n < 200 + rnd() % 600; n++)
			one_operation(&r, 0);
		packer_kill(&r);
		for (unsigned n = 0; round % 4 == 0 && n < 200; n++)
			one_operation(&r, 0);
		packer_start(&r);
	}
	uint64_t live = model_check(&r);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, live);
	assert_true(st.packed_behind > 0 && st.young_hits > 0);
	packer_end(&r);
	pack_all(&r);
	pool_stats(&r.p, &st);
	/* blocks of segments in use by a killed process, too */
	assert_int_equal(st.young_pages, 0);
	assert_int_equal(model_check(&r), live);
	model_drop(&r);
	expect_empty(&r);
	teardown(&r);
}

/*
 * The packer dies with the lock held, when it requests memory for the packed page: the page is
 * still young.
 */
static void a_packer_killed_with_the_lock_held_loses_no_page(void **state)
{
	static uint32_t h[600];
	struct pool_stats st;
	uint32_t tag = 5;
	struct rig r;

	(void)state;
	packers = false;
	setup(&r, 64 * SEG, 16 * MiB);
	join_tagged(&r, &tag, 1);
	pool_pack_behind(&r.p, 8 * SEG);
	for (unsigned round = 1; round <= 3; round++) {
		put_all(&r, h, 600);
		siginfo_t info;
		pid_t pid = fork();

		if (pid == 0) {
			(void)pool_after_fork(&r.p);
			r.p.p_charge = die;
			pack_all(&r);
			_exit(0);
		}
		assert_true(pid > 0);
		assert_int_equal(
		    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0); /* a corpse */
		assert_int_equal(info.si_code, CLD_KILLED);
		pool_release(&r.p, tag);
		pool_stats(&r.p, &st);
		assert_int_equal(st.repairs, round);
		assert_int_equal(st.pages, 600);
		assert_true(st.young_pages >= 7);
		expect_all(&r, h, 600);
		pack_all(&r);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		pool_stats(&r.p, &st);
		assert_int_equal(st.young_pages, 0);
		expect_all(&r, h, 600);
		drop_all(&r, h, 600);
	}
	expect_empty(&r);
	teardown(&r);
}

/* A member is killed while its pages are young and being packed: only its pages are freed. */
static void young_pages_of_a_killed_member_are_given_back(void **state)
{
	static uint32_t h[300];
	struct pool_stats st;
	uint32_t tag = 5;
	struct rig r;

	(void)state;
	packers = true;
	setup(&r, 64 * SEG, 16 * MiB);
	join_tagged(&r, &tag, 1);
	put_all(&r, h, 300);
	for (unsigned round = 0; round < 20; round++) {
		pid_t pid = fork_hog(&r, h, 300, 100 + (unsigned)(rnd() % 200));

		if (round % 3 == 0)
			packer_kill(&r);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		pool_release(&r.p, 5);
		if (round % 3 == 0)
			packer_start(&r);
		pool_stats(&r.p, &st);
		assert_int_equal(st.pages, 300);
		for (unsigned i = 0; i < 300; i += 5)
			expect(&r, h[i], i * 8 + 2);
	}
	expect_all(&r, h, 300);
	drop_all(&r, h, 300);
	expect_empty(&r);
	teardown(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_family_outlives_its_killed_members),
		cmocka_unit_test(a_child_killed_before_it_takes_over_gives_back),
		cmocka_unit_test(the_lock_of_a_killed_owner_is_taken_over),
		cmocka_unit_test(a_process_killed_with_the_lock_held_leaves_a_sound_store),
		cmocka_unit_test(memory_that_killed_writers_held_comes_back),
		cmocka_unit_test(what_a_killed_member_held_is_given_back),
		cmocka_unit_test(a_child_that_outlives_its_parent_keeps_its_pages),
		cmocka_unit_test(a_member_may_be_killed_anywhere),
		cmocka_unit_test(a_process_killed_with_writes_in_flight_loses_only_its_own),
		cmocka_unit_test(writes_of_a_sleeper_are_taken_over),
		cmocka_unit_test(a_killed_packer_loses_no_page),
		cmocka_unit_test(a_packer_killed_with_the_lock_held_loses_no_page),
		cmocka_unit_test(young_pages_of_a_killed_member_are_given_back),
	};

	packers = argc > 1 && strcmp(argv[1], "--packer") == 0;
	argc -= packers;
	argv += packers;
	return store_run(tests, sizeof tests / sizeof *tests, argc > 1 ? argv[1] : NULL);
}
