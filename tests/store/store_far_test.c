/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store over far places: a stand-in for quire-far, a separate process that keeps units in
 * memory, answers the ring, and fails on command. tests/far tests real engines.
 */
#include "store_rig.h"

#include "store/far_ring.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define FAR_BYTES (16 * MiB)
#define UNITS (FAR_BYTES / SEG)

struct orders {                           /* shared with the server */
	uint32_t reads_fail, writes_full; /* number of units of the engine; 0: no limit */
	uint32_t hold;                    /* the server answers no request while this is set */
	uint32_t trims;
	uint8_t present[UNITS];
};

static struct rig r;
static struct orders *orders;
static char *units;
static pid_t server;

static void answer(struct far_ring *ring, struct far_slot *s, char *buf)
{
	uint64_t unit = s->fs_at / SEG, in = s->fs_at % SEG;
	uint32_t there = 0;

	s->fs_result = 0;
	for (unsigned i = 0; i < UNITS; i++)
		there += orders->present[i];
	if (s->fs_op == FAR_SLOT_READ && (orders->reads_fail != 0 || !orders->present[unit])) {
		s->fs_result = -EIO;
	} else if (s->fs_op == FAR_SLOT_READ) {
		memcpy(buf, units + unit * SEG + in, s->fs_len);
	} else if (s->fs_op == FAR_SLOT_TRIM) {
		orders->present[unit] = 0;
		orders->trims++;
	} else if (orders->writes_full != 0 && !orders->present[unit] &&
	    there >= orders->writes_full) {
		s->fs_result = -ENOSPC;
	} else {
		memcpy(units + unit * SEG + in, buf, s->fs_len);
		orders->present[unit] = 1;
	}
	far_slot_done(s);
	(void)syscall(SYS_futex, &s->fs_word, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
	(void)ring;
}

/* The earliest request, or NULL. */
static struct far_slot *next_asked(struct far_ring *ring)
{
	struct far_slot *first = NULL;

	for (uint32_t i = 0; i < FAR_RING_DEPTH; i++) {
		struct far_slot *s = &ring->fr_slot[i];

		if (far_slot_state(s) == FAR_ASKED &&
		    (first == NULL || (int32_t)(s->fs_seq - first->fs_seq) < 0))
			first = s;
	}
	return first;
}

static void serve(struct far_ring *ring)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		uint32_t bell = __atomic_load_n(&ring->fr_bell, __ATOMIC_SEQ_CST);
		struct far_slot *s;

		__atomic_store_n(&ring->fr_asleep, 1, __ATOMIC_SEQ_CST);
		s = next_asked(ring);
		if (s == NULL || __atomic_load_n(&orders->hold, __ATOMIC_ACQUIRE) != 0) {
			const struct timespec soon = { .tv_nsec = 2000000 };

			(void)syscall(SYS_futex, &ring->fr_bell, FUTEX_WAIT, bell, &soon, NULL, 0);
			continue;
		}
		answer(ring, s, far_ring_buffer(ring, (uint32_t)(s - ring->fr_slot)));
	}
}

static void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void start(uint64_t mem, uint64_t file)
{
	struct pool_config c = { .mem_limit = mem,
		.file_limit = file,
		.far_bytes = { FAR_BYTES },
		.max_objects = 65536,
		.max_members = 8 };
	const char *why = "";
	struct far_ring *ring;
	uint64_t at;

	rng = seed = 1;
	r = (struct rig){ .size = pool_shared_size(&c), .fd = -1 };
	r.mem = shared(r.size);
	if (file != 0)
		r.fd = swapfile_open(NULL, file, false, &why);
	orders = shared(sizeof *orders);
	units = shared(FAR_BYTES);
	assert_int_equal(pool_format(r.mem, &c), 0);
	assert_int_equal(pool_attach(&r.p, r.mem, r.size, r.fd), 0);
	ring = pool_far(&r.p, 0, &at);
	assert_non_null(ring);
	far_ring_format(ring);
	assert_int_equal(at % 4096, 0);
	__atomic_store_n(&ring->fr_server, FAR_UP, __ATOMIC_RELEASE);
	if ((server = fork()) == 0)
		serve(ring);
	assert_int_equal(pool_join(&r.p, 1), 0);
	(void)pool_async(&r.p);
}

static void kill_server(void)
{
	if (server == 0)
		return;
	assert_int_equal(kill(server, SIGKILL), 0);
	assert_int_equal(waitpid(server, NULL, 0), server);
	server = 0;
}

static void end(void)
{
	pool_detach(&r.p);
	kill_server();
	if (r.fd >= 0)
		(void)close(r.fd);
	(void)munmap(r.mem, r.size);
	(void)munmap(orders, sizeof *orders);
	(void)munmap(units, FAR_BYTES);
}

static void expect_page(uint32_t handle, uint64_t what)
{
	static uint8_t got[PAGE], want[PAGE];

	fill(want, what);
	assert_int_equal(pool_load(&r.p, handle, got), 0);
	assert_memory_equal(got, want, PAGE);
}

/* Stores n pages; returns the number stored. */
static uint32_t store(uint32_t *handles, uint32_t n, uint64_t from)
{
	static uint8_t page[PAGE];

	for (uint32_t i = 0; i < n; i++) {
		fill(page, from + i);
		int rc = pool_store(&r.p, page, &handles[i]);
		if (rc != 0) {
			assert_int_equal(rc, -ENOSPC);
			return i;
		}
	}
	return n;
}

static void drop(const uint32_t *handles, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		pool_unref(&r.p, handles[i]);
}

static struct pool_stats stats(void)
{
	struct pool_stats s;

	pool_stats(&r.p, &s);
	return s;
}

#define N 2400u /* pages; 6 to 7 MiB packed */
static uint32_t handles[N];

static void pages_go_far_without_a_file_and_come_back(void **state)
{
	start(MiB, 0);
	assert_int_equal(store(handles, N, 1), N);
	pool_poll(&r.p, 1);
	assert_true(stats().far_bytes > 4 * MiB);
	assert_int_equal(stats().file_bytes, 0);
	for (uint32_t i = 0; i < N; i++)
		expect_page(handles[i * 7 % N], 1 + i * 7 % N);
	drop(handles, N);
	assert_int_equal(stats().far_bytes, 0);
	end();
}

static void what_is_given_up_is_trimmed(void **state)
{
	start(MiB, 0);
	for (unsigned round = 0; round < 4;
	     round++) { /* blocks are used again: trims and writes keep their order */
		assert_int_equal(store(handles, N, 1 + round), N);
		pool_poll(&r.p, 1);
		for (uint32_t i = 0; i < N; i += 3)
			expect_page(handles[i], 1 + round + i);
		drop(handles, N);
	}
	assert_int_equal(stats().far_bytes, 0);
	assert_true(orders->trims > 4 * 40);
	end();
}

static void the_file_is_filled_first(void **state)
{
	start(MiB, 4 * MiB);
	assert_int_equal(store(handles, N / 3, 1), N / 3);
	pool_poll(&r.p, 1);
	assert_true(stats().file_bytes > 0);
	assert_int_equal(stats().far_bytes, 0);
	assert_int_equal(store(handles + N / 3, N - N / 3, 1 + N / 3), N - N / 3);
	pool_poll(&r.p, 1);
	assert_int_equal(stats().file_bytes, 4 * MiB);
	assert_true(stats().far_bytes > 0);
	for (uint32_t i = 0; i < N; i++)
		expect_page(handles[i], 1 + i);
	end();
}

static void what_was_written_longest_ago_sinks(void **state)
{
	struct pool_stats s;

	start(MiB, 4 * MiB);
	assert_int_equal(store(handles, N, 1), N);
	pool_poll(&r.p, 1);
	while (pool_sink(&r.p) == 1)
		;
	s = stats();
	assert_true(s.sunk > 0);
	assert_true(s.file_bytes <= 4 * MiB - 8 * SEG);
	for (uint32_t i = 0; i < N; i++)
		expect_page(handles[i], 1 + i);
	assert_int_equal(pool_sink(&r.p), 0);
	end();
}

static void a_page_that_the_far_end_lost_is_an_error_of_its_own(void **state)
{
	static uint8_t page[PAGE];
	uint32_t bad = 0;

	start(MiB, 0);
	assert_int_equal(store(handles, N, 1), N);
	pool_poll(&r.p, 1);
	memset(orders->present, 0, UNITS / 4);
	for (uint32_t i = 0; i < N; i++) {
		int rc = pool_load(&r.p, handles[i], page);

		assert_true(rc == 0 || rc == -EIO);
		if (rc == 0)
			expect_page(handles[i], 1 + i);
		bad += rc != 0;
	}
	assert_in_range(bad, 1, N - 1);
	/* Altered bytes are detected, too. */
	memset(orders->present, 1, UNITS);
	memset(units, 0x5a, FAR_BYTES);
	bad = 0;
	for (uint32_t i = 0; i < N; i++)
		bad += pool_load(&r.p, handles[i], page) == -EIO;
	assert_in_range(bad, N / 2, N);
	end();
}

static void a_full_far_end_refuses_and_keeps_what_it_has(void **state)
{
	uint32_t n;

	start(MiB, 0);
	orders->writes_full = 20;
	n = store(handles, N, 1);
	assert_in_range(n, 300, N - 1);
	pool_poll(&r.p, 1);
	for (uint32_t i = 0; i < n; i++)
		expect_page(handles[i], 1 + i);
	end();
}

static void a_server_that_ends_hangs_nobody(void **state)
{
	static uint8_t page[PAGE];
	struct far_ring *ring;
	uint32_t bad = 0;
	uint64_t at;

	start(MiB, 0);
	assert_int_equal(store(handles, N, 1), N);
	pool_poll(&r.p, 1);
	kill_server();
	ring = pool_far(&r.p, 0, &at);
	__atomic_store_n(&ring->fr_server, FAR_ENDED,
	    __ATOMIC_RELEASE); /* as the supervisor reports when it notices the death */
	for (uint32_t i = 0; i < N; i++)
		bad += pool_load(&r.p, handles[i], page) != 0;
	assert_in_range(bad, 1, N);
	end();
}

static void slots_of_a_killed_process_come_back(void **state)
{
	struct far_ring *ring;
	uint32_t busy = FAR_RING_DEPTH;
	uint64_t at;
	pid_t pid;

	start(MiB, 0);
	ring = pool_far(&r.p, 0, &at);
	__atomic_store_n(&orders->hold, 1, __ATOMIC_RELEASE);
	if ((pid = fork()) == 0) {
		struct pool p;

		if (pool_attach(&p, r.mem, r.size, -1) != 0 || pool_join(&p, 2) != 0 ||
		    pool_async(&p) != 0)
			_exit(1);
		r.p = p;
		(void)store(handles, N, 1); /* waits for ever */
		_exit(2);
	}
	for (busy = 0; busy == 0;) { /* a write of the dead process is under way */
		busy = 0;
		for (uint32_t i = 0; i < FAR_RING_DEPTH; i++)
			busy += far_slot_state(&ring->fr_slot[i]) == FAR_ASKED;
		(void)sched_yield();
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	pool_release(&r.p, 2);
	__atomic_store_n(&orders->hold, 0, __ATOMIC_RELEASE);
	assert_int_equal(store(handles, N, 1), N);
	pool_poll(&r.p, 1);
	for (uint32_t i = 0; i < N; i++)
		expect_page(handles[i], 1 + i);
	drop(handles, N);
	do {
		busy = 0;
		for (uint32_t i = 0; i < FAR_RING_DEPTH; i++)
			busy += far_slot_state(&ring->fr_slot[i]) != FAR_FREE;
		(void)sched_yield();
	} while (busy > 0);
	end();
}

#define ORPHAN 7

static void leave(void *arg)
{
	(void)arg;
	_exit(ORPHAN);
}

/* In a child: does the wait for a server that neither answers nor ends call p_waited? */
static void expect_orphan(bool loads)
{
	static uint8_t page[PAGE];
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)pool_after_fork(&r.p);
		r.p.p_waited = leave;
		for (uint32_t i = 0; loads && i < N; i++)
			(void)pool_load(&r.p, handles[i], page);
		(void)store(handles, N, 1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), ORPHAN);
}

static void a_wait_for_a_silent_server_asks_whether_to_go_on(void **state)
{
	(void)state;
	start(MiB, 0);
	assert_int_equal(store(handles, N, 1), N);
	pool_poll(&r.p, 1);
	__atomic_store_n(&orders->hold, 1, __ATOMIC_RELEASE);
	expect_orphan(true);
	expect_orphan(false);
	end();
}

/* Random stores, loads and frees over a file and a far place; each load equals the model. */
static void churn(uint64_t file)
{
	static uint64_t what[N];
	uint64_t next = 1;

	start(MiB, file);
	memset(handles, 0, sizeof handles);
	for (unsigned i = 0; i < 40000; i++) {
		uint32_t k = (uint32_t)(rnd() % N);

		if (handles[k] != 0 && rnd() % 2 == 0) {
			expect_page(handles[k], what[k]);
		} else if (handles[k] != 0) {
			pool_unref(&r.p, handles[k]);
			handles[k] = 0;
		} else {
			what[k] = next++;
			assert_int_equal(store(&handles[k], 1, what[k]), 1);
		}
		if (i % 64 == 0)
			(void)pool_sink(&r.p);
	}
	end();
}

static void random_work_without_a_file_loses_nothing(void **state) { churn(0); }
static void random_work_with_a_file_loses_nothing(void **state) { churn(2 * MiB); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_go_far_without_a_file_and_come_back),
		cmocka_unit_test(what_is_given_up_is_trimmed),
		cmocka_unit_test(the_file_is_filled_first),
		cmocka_unit_test(what_was_written_longest_ago_sinks),
		cmocka_unit_test(a_page_that_the_far_end_lost_is_an_error_of_its_own),
		cmocka_unit_test(a_full_far_end_refuses_and_keeps_what_it_has),
		cmocka_unit_test(a_server_that_ends_hangs_nobody),
		cmocka_unit_test(slots_of_a_killed_process_come_back),
		cmocka_unit_test(a_wait_for_a_silent_server_asks_whether_to_go_on),
		cmocka_unit_test(random_work_without_a_file_loses_nothing),
		cmocka_unit_test(random_work_with_a_file_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
