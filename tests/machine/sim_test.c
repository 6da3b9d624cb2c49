/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Promises of the simulated machine alone: misuse of locks panics, deadlocks are found, the
 * interleaving is a function of the seed, disk requests complete in virtual time, also when all
 * threads wait.
 */
#include "machine/sim/sim.h"

#include <quire/vm.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(e) check((e), #e, __LINE__)

static unsigned failures;

static void check(bool ok, const char *what, int line)
{
	if (ok)
		return;
	fprintf(stderr, "sim_test.c:%d: %s\n", line, what);
	failures++;
}

static struct mach *machine(uint64_t seed, uint64_t latency)
{
	struct sim_config cfg = {
		.frames = 128, .ncpus = 2, .seed = seed, .threads = true, .disk_latency = latency
	};

	return sim_create(&cfg);
}

static void do_deadlock(void);

/* ---- misuse, each in a child that must abort ---- */
static struct mach_mutex low, high;
static struct mach_rwlock rw;

static void do_inversion(void)
{
	mach_mutex_enter(&high);
	mach_mutex_enter(&low);
}

static void do_same_rank(void)
{
	struct mach_mutex other;

	mach_mutex_init(&other, 20, "other");
	mach_mutex_enter(&high);
	mach_mutex_enter(&other);
}

static void do_twice(void)
{
	mach_mutex_enter(&low);
	mach_mutex_enter(&low);
}

static void do_exit_free(void) { mach_mutex_exit(&low); }

static void do_rw_twice(void)
{
	mach_rw_enter(&rw, false);
	mach_rw_enter(&rw, false);
}

static void do_fini_held(void)
{
	mach_mutex_enter(&low);
	mach_mutex_fini(&low);
}

static void do_wait_forever(void)
{
	struct mach_cv cv;

	mach_cv_init(&cv);
	mach_mutex_enter(&low);
	mach_cv_wait(&cv, &low);
}

static void do_legal(void)
{
	mach_mutex_enter(&low);
	mach_mutex_enter(&high);
	mach_mutex_exit(&low);
	mach_mutex_exit(&high);
}

static void test_misuse(void)
{
	static const struct {
		void (*fn)(void);
		bool aborts;
		const char *name;
	} cases[] = {
		{ do_inversion, true, "rank inversion" },
		{ do_same_rank, true, "same rank" },
		{ do_twice, true, "mutex entered twice" },
		{ do_exit_free, true, "exit of a free mutex" },
		{ do_rw_twice, true, "rwlock entered twice" },
		{ do_fini_held, true, "end of a held mutex" },
		{ do_wait_forever, true, "wait with nobody to wake" },
		{ do_deadlock, true, "deadlock" },
		{ do_legal, false, "legal order" },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int status = 0;
		pid_t pid = fork();

		if (pid == 0) {
			if (freopen("/dev/null", "w", stderr) == NULL || machine(1, 0) == NULL)
				_exit(2);
			mach_mutex_init(&low, 10, "low");
			mach_mutex_init(&high, 20, "high");
			mach_rw_init(&rw, 5, "rw");
			cases[i].fn();
			_exit(0);
		}
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
		if (cases[i].aborts ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT
				    : status != 0) {
			fprintf(stderr, "%s: status %x\n", cases[i].name, (unsigned)status);
			failures++;
		}
	}
}

/* ---- interleaving ---- */
struct race {
	struct mach_mutex mx;
	char log[64];
	unsigned n;
};
struct racer {
	struct race *race;
	char name;
};

static void racer(void *arg)
{
	struct racer *r = arg;

	for (unsigned i = 0; i < 10; i++) {
		mach_mutex_enter(&r->race->mx);
		r->race->log[r->race->n++] = r->name;
		mach_mutex_exit(&r->race->mx);
	}
}

static void race(uint64_t seed, char *log)
{
	struct mach *m = machine(seed, 0);
	struct race r = { .n = 0 };
	struct racer who[3] = { { &r, 'a' }, { &r, 'b' }, { &r, 'c' } };

	mach_mutex_init(&r.mx, 10, "log");
	for (unsigned i = 0; i < 3; i++)
		sim_spawn(m, racer, &who[i], "racer");
	sim_run(m);
	CHECK(r.n == 30);
	memcpy(log, r.log, sizeof(r.log));
	mach_mutex_fini(&r.mx);
	sim_destroy(m);
}

static void test_interleaving(void)
{
	char first[64], again[64], other[64];
	unsigned different = 0;

	race(1, first);
	for (uint64_t seed = 1; seed < 20; seed++) {
		race(seed, again);
		race(seed, other);
		CHECK(strcmp(again, other) == 0);
		different += strcmp(again, first) != 0;
	}
	CHECK(different > 10);
}

static void grab_low(void *arg)
{
	(void)arg;
	mach_mutex_enter(&low);
	mach_yield();
	mach_mutex_enter(&high);
	mach_mutex_exit(&high);
	mach_mutex_exit(&low);
}

/* Two threads, each of which waits for the other's end. */
static struct mach_thread *threads[2];

static void join_other(void *arg)
{
	mach_yield();
	mach_thread_join(threads[arg == NULL]);
}

static void do_deadlock(void)
{
	struct mach *m = machine(2, 0);

	threads[0] = mach_thread_create(m, join_other, NULL, "one");
	threads[1] = mach_thread_create(m, join_other, threads, "two");
	mach_thread_join(threads[0]);
}

/* ---- disk ---- */
struct waiter {
	struct mach_mutex mx;
	struct mach_cv cv;
	unsigned done;
	uint64_t when;
};

static void io_done(struct vm_io *io)
{
	struct waiter *w = io->io_arg;

	mach_mutex_enter(&w->mx);
	w->done++;
	w->when = mach_time_ns();
	mach_cv_broadcast(&w->cv);
	mach_mutex_exit(&w->mx);
}

static void test_disk(uint64_t latency, bool poll)
{
	struct mach *m = machine(3, latency);
	struct vm_config vc = { .vc_mach = m, .vc_frames = 128 };
	struct waiter w = { .done = 0 };
	static uint8_t out[VM_PAGESIZE], in[2][VM_PAGESIZE];
	struct vm_io io = { .io_op = VM_IO_READ,
		.io_npages = 2,
		.io_off = VM_PAGESIZE,
		.io_done = io_done,
		.io_arg = &w };
	struct vnode *vp;
	struct vm *vm;
	uint64_t start;

	CHECK(vm_create(&vc, &vm) == VM_OK);
	vp = sim_disk_create(m, vm, "disk", 2 * VM_PAGESIZE + 100, 0);
	mach_mutex_init(&w.mx, 10, "io");
	mach_cv_init(&w.cv);
	memset(sim_disk_data(vp), 0x11, 2 * VM_PAGESIZE + 100);
	memset(in, 0xff, sizeof(in));
	io.io_buf[0] = in[0];
	io.io_buf[1] = in[1];
	start = mach_time_ns();
	vp->v_ops->vo_start(vp, &io);
	if (poll)
		vp->v_ops->vo_poll(vp, &io);
	mach_mutex_enter(&w.mx);
	while (w.done == 0)
		mach_cv_wait(&w.cv, &w.mx);
	mach_mutex_exit(&w.mx);
	CHECK(io.io_err == VM_OK && io.io_ok == 2);
	CHECK(in[0][0] == 0x11 && in[1][99] == 0x11 && in[1][100] == 0 &&
	    in[1][VM_PAGESIZE - 1] == 0);
	CHECK(latency == 0 || w.when - start >= latency / 2);
	/* a write of two pages that is torn after one */
	memset(out, 0x22, sizeof(out));
	io.io_op = VM_IO_WRITE;
	io.io_off = 0;
	io.io_buf[0] = io.io_buf[1] = out;
	sim_disk_fail(vp, VM_IO_WRITE, 1, 1, 1);
	for (unsigned i = 0; i < 2; i++) {
		vp->v_ops->vo_start(vp, &io);
		(void)vp->v_ops->vo_sync(vp, 0, 0);
		CHECK(io.io_err == (i == 0 ? VM_IO : VM_OK) && io.io_ok == i + 1);
		CHECK(((uint8_t *)sim_disk_data(vp))[0] == 0x22);
		CHECK(((uint8_t *)sim_disk_data(vp))[VM_PAGESIZE] == (i == 0 ? 0x11 : 0x22));
	}
	io.io_op = VM_IO_READ;
	io.io_off = 3 * VM_PAGESIZE;
	io.io_npages = 1;
	vp->v_ops->vo_start(vp, &io);
	(void)vp->v_ops->vo_sync(vp, 0, 0);
	CHECK(io.io_err == VM_EOF && io.io_ok == 0);
	CHECK(w.done == 4);
	mach_cv_fini(&w.cv);
	mach_mutex_fini(&w.mx);
	vnode_rele(vp);
	vm_destroy(vm);
	sim_destroy(m);
}

static void test_two_locks(void)
{
	for (uint64_t seed = 1; seed < 10; seed++) {
		struct mach *m = machine(seed, 0);

		mach_mutex_init(&low, 10, "low");
		mach_mutex_init(&high, 20, "high");
		sim_spawn(m, grab_low, NULL, "in order");
		sim_spawn(m, grab_low, NULL, "in order too");
		sim_run(m);
		mach_mutex_fini(&low);
		mach_mutex_fini(&high);
		sim_destroy(m);
	}
}

int main(void)
{
	test_misuse();
	test_interleaving();
	test_two_locks();
	test_disk(0, true);
	test_disk(10000, true);
	test_disk(10000, false);
	printf("sim_test: %s\n", failures == 0 ? "ok" : "FAILED");
	return failures == 0 ? 0 : 1;
}
