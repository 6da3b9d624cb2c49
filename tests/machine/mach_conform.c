/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Conformance of a machine to machine.h: locks, threads, time, frames. Written against the contract
 * only. Tests that need two threads are left out if mach_caps reports no threads.
 */
#include "tests/machine/port_check.h"
#include "tests/machine/port_harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 256u
#define NTHREADS 4u
#define ROUNDS 500u

struct shared {
	struct mach *mach;
	struct mach_mutex mx;
	struct mach_rwlock rw;
	struct mach_cv cv;
	uint64_t count;   /* mx */
	unsigned turn;    /* mx */
	uint64_t pair[2]; /* rw: always equal */
	uint64_t torn;    /* mx: readers that saw the two words unequal */
	unsigned number;  /* number of the thread started next, see turns() */
};

/* ---- one thread ---- */
static void test_mutex(void)
{
	struct mach_mutex a, b;

	mach_mutex_init(&a, 10, "a");
	mach_mutex_init(&b, 20, "b");
	CHECK(!mach_mutex_held(&a));
	mach_mutex_enter(&a);
	CHECK(!mach_mutex_held(&b));
	mach_mutex_enter(&b);
	CHECK(mach_mutex_held(&a));
	CHECK(mach_mutex_held(&b));
	mach_mutex_exit(&a); /* locks may be dropped in any order */
	CHECK(!mach_mutex_held(&a));
	CHECK(mach_mutex_held(&b));
	mach_mutex_exit(&b);
	CHECK(mach_mutex_tryenter(&b));
	CHECK(mach_mutex_tryenter(&a)); /* a try may violate the order */
	CHECK(!mach_mutex_tryenter(&a));
	mach_mutex_exit(&a);
	mach_mutex_exit(&b);
	mach_mutex_fini(&a);
	mach_mutex_fini(&b);
}

static void test_rwlock(void)
{
	struct mach_rwlock l;

	mach_rw_init(&l, 10, "rw");
	mach_rw_enter(&l, false);
	CHECK(mach_rw_held(&l, false));
	CHECK(!mach_rw_held(&l, true));
	CHECK(!mach_rw_tryenter(&l, true));
	mach_rw_exit(&l);
	CHECK(!mach_rw_held(&l, false));
	mach_rw_enter(&l, true);
	CHECK(mach_rw_held(&l, true));
	CHECK(mach_rw_held(&l, false)); /* in either way */
	CHECK(!mach_rw_tryenter(&l, false));
	mach_rw_exit(&l);
	CHECK(!mach_rw_held(&l, true));
	CHECK(mach_rw_tryenter(&l, true));
	mach_rw_exit(&l);
	mach_rw_fini(&l);
}

static void test_time(void)
{
	struct mach_mutex mx;
	struct mach_cv cv;
	uint64_t before, t = mach_time_ns();
	bool woken = true;

	for (unsigned i = 0; i < 1000; i++) {
		uint64_t now = mach_time_ns();

		CHECK(now >= t);
		t = now;
	}
	mach_mutex_init(&mx, 10, "time");
	mach_cv_init(&cv);
	mach_mutex_enter(&mx);
	before = mach_time_ns();
	while (woken && mach_time_ns() - before < 1000000) /* spurious wakeups are allowed */
		woken = mach_cv_timedwait(&cv, &mx, 1000000);
	CHECK(mach_time_ns() - before >= 1000000);
	CHECK(mach_mutex_held(&mx));
	mach_mutex_exit(&mx);
	mach_cv_broadcast(&cv); /* no thread waits: the call does nothing */
	mach_cv_fini(&cv);
	mach_mutex_fini(&mx);
}

/* The first of FRAMES adjacent frames of memory. */
static pfn_t first_run(const struct mach_caps *caps)
{
	pfn_t first = 0;

	for (pfn_t i = 0; i < caps->mc_nframes && i - first < FRAMES; i++)
		if (mach_is_hole(caps, i))
			first = i + 1;
	return first;
}

static void test_frames(struct mach *m)
{
	const struct mach_caps *caps = mach_caps(m);
	pfn_t first = first_run(caps);
	uint8_t *base = mach_frame_kva(m, first), *last, *boot;

	CHECK(caps->mc_nframes >= first + FRAMES);
	CHECK(caps->mc_ncpus > mach_cpu_id());
	CHECK(caps->mc_user_min < caps->mc_user_max);
	CHECK(caps->mc_user_min % VM_PAGESIZE == 0 && caps->mc_user_max % VM_PAGESIZE == 0);
	for (pfn_t i = 0; i < FRAMES; i++) {
		CHECK(mach_frame_kva(m, first + i) == base + vm_ptob(i));
		CHECK(mach_kva_frame(m, base + vm_ptob(i) + 17) == first + i);
		memset(mach_frame_kva(m, first + i), (int)(i & 0xff), VM_PAGESIZE);
	}
	mach_frame_zero(m, first + 7);
	mach_frame_copy(m, first + 9, first + 8);
	last = base + vm_ptob(FRAMES) - 1;
	CHECK(base[vm_ptob(7)] == 0 && base[vm_ptob(8) - 1] == 0 && base[vm_ptob(7) - 1] == 6);
	CHECK(base[vm_ptob(9)] == 8 && base[vm_ptob(10) - 1] == 8 && base[vm_ptob(10)] == 10);
	CHECK(*last == ((FRAMES - 1) & 0xff));
	mach_frame_discard(m, first + 20, 3);
	CHECK(base[vm_ptob(20) - 1] == 19 && base[vm_ptob(23)] == 23);
	*(uint8_t *)mach_frame_kva(m, first + 21) = 1; /* the frame can still be used again */
	mach_frame_zero(m, first + 21);
	CHECK(base[vm_ptob(21)] == 0);
	/* whatever the frame held, it can be filled again after this */
	mach_frame_retire(m, first + 30);
	mach_frame_renew(m, first + 30);
	memset(mach_frame_kva(m, first + 30), 77, VM_PAGESIZE);
	mach_frame_renew(m, first + 31); /* a frame that was never retired can be filled, too */
	mach_frame_zero(m, first + 31);
	CHECK(base[vm_ptob(30)] == 77 && base[vm_ptob(31) - 1] == 77 && base[vm_ptob(31)] == 0);
	CHECK(base[vm_ptob(30) - 1] == 29 && base[vm_ptob(32)] == 32);
	boot = mach_boot_alloc(m, 10000);
	CHECK(boot != NULL && ((uintptr_t)boot & 7) == 0);
	for (unsigned i = 0; boot != NULL && i < 10000; i++)
		CHECK(boot[i] == 0);
}

/* Frames that are about to get all their contents: these may lie anywhere until the frames are reused. */
static void test_fill(struct mach *m)
{
	const struct mach_caps *caps = mach_caps(m);
	pfn_t first = first_run(caps);
	uint8_t *at[FRAMES];

	if (caps->mc_frame_fill == NULL)
		return;
	for (unsigned round = 0; round < 3; round++) {
		for (pfn_t i = 0; i < FRAMES; i++) {
			mach_frame_renew(m, first + i);
			at[i] = caps->mc_frame_fill(m, first + i);
			memset(at[i], (int)(i + round) & 0xff, VM_PAGESIZE);
		}
		mach_frame_copy(m, first + 9, first + 8);
		mach_frame_zero(m, first + 10);
		for (pfn_t i = 0; i < FRAMES; i++) {
			uint8_t want = i == 9 ? (uint8_t)(8 + round) : (uint8_t)(i + round);

			CHECK(mach_frame_kva(m, first + i) == at[i]);
			CHECK(at[i][0] == (i == 10 ? 0 : want));
			CHECK(at[i][VM_PAGESIZE - 1] == at[i][0]);
		}
		for (pfn_t i = 0; i < FRAMES; i++) {
			if (round == 0)
				mach_frame_retire(m, first + i);
			else if (round == 1)
				mach_frame_discard(m, first + i, 1);
			mach_frame_renew(m, first + i);
		}
		for (pfn_t i = 1; i < FRAMES; i++)
			CHECK(mach_frame_kva(m, first + i) ==
			    (uint8_t *)mach_frame_kva(m, first) + vm_ptob(i));
		mach_frame_discard(m, first, FRAMES);
	}
}

static void test_grant(struct mach *m)
{
	pfn_t got = mach_frames_grant(m, 10);

	CHECK(got <= 10);
	mach_frames_release(m, got);
	/* a frame that was given back can be granted again */
	CHECK(mach_frames_grant(m, got) == got);
	mach_frames_release(m, got);
	CHECK(mach_frames_grant(m, 0) == 0);
}

/* ---- several threads ---- */
static void counter(void *arg)
{
	struct shared *s = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t seen;

		mach_mutex_enter(&s->mx);
		seen = s->count;
		if (i % 16 == 0)
			mach_yield();
		s->count = seen + 1;
		mach_mutex_exit(&s->mx);
	}
}

static void reader_writer(void *arg)
{
	struct shared *s = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		bool writer = i % 4 == 0, torn;

		mach_rw_enter(&s->rw, writer);
		torn = s->pair[0] != s->pair[1];
		if (writer) {
			s->pair[0]++;
			if (i % 16 == 0)
				mach_yield();
			s->pair[1]++;
		}
		mach_rw_exit(&s->rw);
		mach_mutex_enter(&s->mx);
		s->torn += torn;
		mach_mutex_exit(&s->mx);
	}
}

/* Each thread runs when the turn is its number, and passes it on: needs wait, broadcast, and no lost wakeup. */
static void turns(void *arg)
{
	struct shared *s = arg;
	unsigned me;

	mach_mutex_enter(&s->mx);
	me = s->number++;
	for (unsigned i = 0; i < ROUNDS; i++) {
		while (s->turn % NTHREADS != me)
			mach_cv_wait(&s->cv, &s->mx);
		s->turn++;
		mach_cv_broadcast(&s->cv);
	}
	mach_mutex_exit(&s->mx);
}

static void together(struct shared *s, void (*fn)(void *))
{
	struct mach_thread *t[NTHREADS];

	for (unsigned i = 0; i < NTHREADS; i++) {
		t[i] = mach_thread_create(s->mach, fn, s, "conform");
		CHECK(t[i] != NULL);
	}
	for (unsigned i = 0; i < NTHREADS; i++)
		if (t[i] != NULL)
			mach_thread_join(t[i]);
}

/* A reader enters although a writer waits: a fault within a fault's I/O must not deadlock. */
static void waiting_writer(void *arg)
{
	struct shared *s = arg;

	mach_mutex_enter(&s->mx);
	s->turn = 1;
	mach_cv_broadcast(&s->cv);
	mach_mutex_exit(&s->mx);
	mach_rw_enter(&s->rw, true);
	s->pair[0] = 42;
	mach_rw_exit(&s->rw);
}

static void second_reader(void *arg)
{
	struct shared *s = arg;

	mach_rw_enter(&s->rw, false);
	s->pair[1] = 43;
	mach_rw_exit(&s->rw);
}

static void test_reader_passes(struct shared *s)
{
	struct mach_thread *w, *r;

	s->turn = 0;
	mach_rw_enter(&s->rw, false);
	w = mach_thread_create(s->mach, waiting_writer, s, "writer");
	mach_mutex_enter(&s->mx);
	while (s->turn == 0)
		mach_cv_wait(&s->cv, &s->mx);
	mach_mutex_exit(&s->mx);
	for (unsigned i = 0; i < 100; i++)
		mach_yield(); /* the writer is likely to wait now; the property holds in either case */
	r = mach_thread_create(s->mach, second_reader, s, "reader");
	mach_thread_join(r); /* would hang if readers waited for a waiting writer */
	CHECK(s->pair[1] == 43);
	CHECK(s->pair[0] != 42);
	mach_rw_exit(&s->rw);
	mach_thread_join(w);
	CHECK(s->pair[0] == 42);
}

/* Another thread holds the locks: the caller does not. */
static void asks_who_holds(void *arg)
{
	struct shared *s = arg;

	s->number =
	    mach_mutex_held(&s->mx) || mach_rw_held(&s->rw, true) || mach_rw_held(&s->rw, false);
}

static void test_held_by_another(struct shared *s, bool writer)
{
	struct mach_thread *t;

	s->number = 1;
	mach_rw_enter(&s->rw, writer);
	mach_mutex_enter(&s->mx);
	t = mach_thread_create(s->mach, asks_who_holds, s, "asks");
	mach_thread_join(t);
	CHECK(s->number == 0);
	CHECK(mach_mutex_held(&s->mx));
	CHECK(mach_rw_held(&s->rw, writer));
	mach_mutex_exit(&s->mx);
	mach_rw_exit(&s->rw);
}

/*
 * With more readers than a port may have room to record, mach_rw_held never denies that a reader
 * holds the lock.
 */
static void many_readers(void *arg)
{
	struct shared *s = arg;
	struct mach_rwlock own[4];

	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned k = 0; k < 4; k++) {
			mach_rw_init(&own[k], 11 + k, "a reader's own");
			mach_rw_enter(&own[k], false);
		}
		for (unsigned k = 0; k < 4; k++) {
			if (!mach_rw_held(&own[k], false)) {
				mach_mutex_enter(&s->mx);
				s->torn++;
				mach_mutex_exit(&s->mx);
			}
			mach_rw_exit(&own[k]);
			mach_rw_fini(&own[k]);
		}
	}
}

static void test_threads(void *arg)
{
	struct shared s = { .mach = arg };

	mach_mutex_init(&s.mx, 20, "conform mutex");
	mach_rw_init(&s.rw, 10, "conform rwlock");
	mach_cv_init(&s.cv);
	together(&s, counter);
	CHECK(s.count == NTHREADS * ROUNDS);
	together(&s, reader_writer);
	CHECK(s.torn == 0);
	CHECK(s.pair[0] == NTHREADS * ((ROUNDS + 3) / 4) && s.pair[0] == s.pair[1]);
	together(&s, turns);
	CHECK(s.turn == NTHREADS * ROUNDS);
	test_reader_passes(&s);
	test_held_by_another(&s, true);
#ifndef NDEBUG
	test_held_by_another(&s, false);
#endif
	together(&s, many_readers);
	CHECK(s.torn == 0);
	mach_cv_fini(&s.cv);
	mach_rw_fini(&s.rw);
	mach_mutex_fini(&s.mx);
}

int main(void)
{
	struct mach *m = port_harness.ph_create(FRAMES);

	if (m == NULL) {
		fprintf(stderr, "%s: no machine\n", port_harness.ph_name);
		return 1;
	}
	test_mutex();
	test_rwlock();
	test_time();
	test_frames(m);
	test_fill(m);
	test_grant(m);
	if (mach_caps(m)->mc_threads)
		port_harness.ph_run(m, test_threads, m);
	port_harness.ph_destroy(m);
	printf("mach_conform on %s: %s\n", port_harness.ph_name, failures == 0 ? "ok" : "FAILED");
	return failures == 0 ? 0 : 1;
}
