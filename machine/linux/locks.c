/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Locks of the Linux machine, on private futexes. No thread-local variable is used, so that threads the C library does not know
 * (the runtime's service thread) and signal handlers may take them; hence ranks are not checked here (the simulated machine does
 * that). The owner of a mutex and the writer are recorded for assertions, in the lock; readers in lock_readers.c.
 *
 * mutex: 0 free, 1 held, 2 held and a thread may wait.
 *
 * rwlock: readers count themselves in and out in a word of their CPU, so that readers on several
 * CPUs do not write the same cache line; a reader may leave on another CPU than the CPU on which it
 * entered, so only the sum over all CPUs is the number of readers. A writer sets the state to
 * RW_TRYING, which keeps new readers out, and sums the counts. If the sum is zero, the writer holds
 * the lock (RW_WRITER). Else the writer resets the state at once, so that waiting writers never
 * block readers, and tries again when the last reader has left. A reader counts, then reads the
 * state; a writer sets the state, then sums: of two that race, at least one sees the other. A
 * reader that must not enter takes its count back in the same word, so a sum is never too small.
 *
 * cv: a sequence number that every wakeup raises; a waiter sleeps while the number is the one that
 * the waiter saw.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "machine/linux/linux_impl.h"
#include "machine/linux/lock_readers.h"

#define SPINS 100

#define RW_SLOTS 2u /* more CPUs share words, so that an address space stays small */
enum { RW_FREE, RW_TRYING, RW_WRITER };
struct frw {
	_Alignas(64) uint32_t state;
	uint32_t waiters, seq;
	uint64_t owner; /* the writer; 0: none */
	struct {
		_Alignas(64) int32_t n;
	} readers[RW_SLOTS];
};
struct fcv {
	uint32_t seq;
	uint32_t waiters;
};
_Static_assert(sizeof(struct frw) + 56 <= sizeof(struct mach_rwlock), "fits its storage, aligned");

static long futex_wait(uint32_t *w, uint32_t val, const struct timespec *ts)
{
	return sys_call4(SYS_futex, (long)w, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, (long)val, (long)ts);
}

static void futex_wake(uint32_t *w, int n)
{
	(void)sys_call3(SYS_futex, (long)w, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, n);
}

/* ---- mutex: opaque[0] is its state, opaque[1] its owner ---- */
static uint64_t *mutex_owner(const struct mach_mutex *m)
{
	return (uint64_t *)(uintptr_t)&m->opaque[1];
}
static uint32_t *mutex_word(const struct mach_mutex *m) { return (uint32_t *)(uintptr_t)m->opaque; }

void mach_mutex_init(struct mach_mutex *m, unsigned rank, const char *name)
{
	(void)rank;
	(void)name;
	__builtin_memset(m, 0, sizeof *m);
}

void mach_mutex_fini(struct mach_mutex *m)
{
	if (__atomic_load_n(mutex_word(m), __ATOMIC_RELAXED) != 0)
		mach_panic("a mutex is destroyed while it is held");
}

bool mach_mutex_tryenter(struct mach_mutex *m)
{
	uint32_t zero = 0;

	if (!__atomic_compare_exchange_n(
		mutex_word(m), &zero, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	__atomic_store_n(mutex_owner(m), thread_self(), __ATOMIC_RELAXED);
	return true;
}

void mach_mutex_enter(struct mach_mutex *m)
{
	for (int i = 0; i < SPINS; i++) {
		if (mach_mutex_tryenter(m))
			return;
		__builtin_ia32_pause();
	}
	while (__atomic_exchange_n(mutex_word(m), 2, __ATOMIC_ACQUIRE) != 0)
		(void)futex_wait(mutex_word(m), 2, NULL);
	__atomic_store_n(mutex_owner(m), thread_self(), __ATOMIC_RELAXED);
}

void mach_mutex_exit(struct mach_mutex *m)
{
	uint32_t was;

	__atomic_store_n(mutex_owner(m), 0, __ATOMIC_RELAXED);
	was = __atomic_exchange_n(mutex_word(m), 0, __ATOMIC_RELEASE);
	if (was == 0)
		mach_panic("a mutex is left that nobody holds");
	if (was == 2)
		futex_wake(mutex_word(m), 1);
}

bool mach_mutex_held(const struct mach_mutex *m)
{
	return __atomic_load_n(mutex_owner(m), __ATOMIC_RELAXED) == thread_self();
}

/* ---- reader-writer ---- */
static struct frw *rw_of(const struct mach_rwlock *l)
{
	return (struct frw *)(((uintptr_t)l->opaque + 63) & ~(uintptr_t)63);
}

static bool rw_readers(const struct frw *f)
{
	int32_t sum = 0;

	for (unsigned i = 0; i < RW_SLOTS; i++)
		sum += __atomic_load_n(&f->readers[i].n, __ATOMIC_SEQ_CST);
	return sum != 0;
}

void mach_rw_init(struct mach_rwlock *l, unsigned rank, const char *name)
{
	(void)rank;
	(void)name;
	__builtin_memset(l, 0, sizeof *l);
}

void mach_rw_fini(struct mach_rwlock *l)
{
	if (__atomic_load_n(&rw_of(l)->state, __ATOMIC_RELAXED) != RW_FREE || rw_readers(rw_of(l)))
		mach_panic("a reader-writer lock is destroyed while it is held");
}

static void rw_wake(struct frw *f)
{
	(void)__atomic_add_fetch(&f->seq, 1, __ATOMIC_SEQ_CST);
	futex_wake(&f->seq, 0x7fffffff);
}

static void reader_leave(struct frw *f, int32_t *n)
{
	(void)__atomic_sub_fetch(n, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&f->waiters, __ATOMIC_SEQ_CST) != 0 && !rw_readers(f))
		rw_wake(f);
}

static bool reader_try(struct frw *f)
{
	int32_t *n = &f->readers[mach_cpu_id() % RW_SLOTS].n;

	(void)__atomic_add_fetch(n, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&f->state, __ATOMIC_SEQ_CST) == RW_FREE) {
		readers_note(f);
		return true;
	}
	reader_leave(f, n);
	return false;
}

static void writer_leave(struct frw *f)
{
	__atomic_store_n(&f->state, RW_FREE, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&f->waiters, __ATOMIC_SEQ_CST) != 0)
		rw_wake(f);
}

static bool writer_try(struct frw *f)
{
	uint32_t was = RW_FREE;

	if (rw_readers(f) ||
	    !__atomic_compare_exchange_n(
		&f->state, &was, RW_TRYING, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		return false;
	if (rw_readers(f)) {
		writer_leave(f);
		return false;
	}
	__atomic_store_n(&f->state, RW_WRITER, __ATOMIC_RELAXED);
	__atomic_store_n(&f->owner, thread_self(), __ATOMIC_RELAXED);
	return true;
}

bool mach_rw_tryenter(struct mach_rwlock *l, bool writer)
{
	return writer ? writer_try(rw_of(l)) : reader_try(rw_of(l));
}

/*
 * A waiter announces itself, reads the sequence, tries once more, then sleeps until the sequence
 * moves. A reader tries only if the lock is free. A failed try raises the sequence, as a writer may
 * have seen the reader's count; a reader that tried always would never sleep.
 */
void mach_rw_enter(struct mach_rwlock *l, bool writer)
{
	struct frw *f = rw_of(l);

	for (int i = 0; i < SPINS; i++) {
		if (mach_rw_tryenter(l, writer))
			return;
		__builtin_ia32_pause();
	}
	(void)__atomic_add_fetch(&f->waiters, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		uint32_t seq = __atomic_load_n(&f->seq, __ATOMIC_SEQ_CST);

		if ((writer || __atomic_load_n(&f->state, __ATOMIC_SEQ_CST) == RW_FREE) &&
		    mach_rw_tryenter(l, writer))
			break;
		(void)futex_wait(&f->seq, seq, NULL);
	}
	(void)__atomic_sub_fetch(&f->waiters, 1, __ATOMIC_SEQ_CST);
}

void mach_rw_exit(struct mach_rwlock *l)
{
	struct frw *f = rw_of(l);

	if (__atomic_load_n(&f->owner, __ATOMIC_RELAXED) != 0) {
		__atomic_store_n(&f->owner, 0, __ATOMIC_RELAXED);
		writer_leave(f);
	} else {
		readers_forget(f);
		reader_leave(f, &f->readers[mach_cpu_id() % RW_SLOTS].n);
	}
}

bool mach_rw_held(const struct mach_rwlock *l, bool writer)
{
	return __atomic_load_n(&rw_of(l)->owner, __ATOMIC_RELAXED) == thread_self() ||
	    (!writer && readers_has(rw_of(l), rw_readers(rw_of(l))));
}

/* ---- condition ---- */
static struct fcv *cv_of(const struct mach_cv *c) { return (struct fcv *)(uintptr_t)c->opaque; }

void mach_cv_init(struct mach_cv *c) { __builtin_memset(c, 0, sizeof *c); }
void mach_cv_fini(struct mach_cv *c) { (void)c; }

static long cv_sleep(struct mach_cv *c, struct mach_mutex *m, const struct timespec *ts)
{
	struct fcv *f = cv_of(c);
	uint32_t seq;
	long r;

	(void)__atomic_add_fetch(&f->waiters, 1, __ATOMIC_SEQ_CST);
	seq = __atomic_load_n(&f->seq, __ATOMIC_SEQ_CST);
	mach_mutex_exit(m);
	r = futex_wait(&f->seq, seq, ts);
	(void)__atomic_sub_fetch(&f->waiters, 1, __ATOMIC_SEQ_CST);
	mach_mutex_enter(m);
	return r;
}

void mach_cv_wait(struct mach_cv *c, struct mach_mutex *m) { (void)cv_sleep(c, m, NULL); }

bool mach_cv_timedwait(struct mach_cv *c, struct mach_mutex *m, uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000u),
		.tv_nsec = (long)(ns % 1000000000u) };

	return cv_sleep(c, m, &ts) != -110 /* ETIMEDOUT */;
}

static void cv_wake(struct mach_cv *c, int n)
{
	struct fcv *f = cv_of(c);

	if (__atomic_load_n(&f->waiters, __ATOMIC_SEQ_CST) == 0)
		return;
	(void)__atomic_add_fetch(&f->seq, 1, __ATOMIC_SEQ_CST);
	futex_wake(&f->seq, n);
}

void mach_cv_signal(struct mach_cv *c) { cv_wake(c, 1); }
void mach_cv_broadcast(struct mach_cv *c) { cv_wake(c, 0x7fffffff); }
