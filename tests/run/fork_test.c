/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The locks of a forked child (run/fork.c over machine/linux/locks.c; the rest of the runtime is a
 * stub).
 *
 * A reader that finds a writer inside has already counted itself when it reads the lock's state.
 * The test stops a reader there: the state is the first word of the lock, the counts lie in the
 * cache lines behind it, so the lock is placed across the end of a page, and that page is closed.
 * The reader counts, then takes SIGSEGV at the state and waits in the handler while the process
 * forks.
 */
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <quire/hat.h>

#include "machine/linux/linux.h"
#include "run/affinity.h"
#include "run/host.h"
#include "run/host_quire.h"
#include "run/limits.h"
#include "run/tasks.h"
#include "store/pool_vnode.h"

#define PAGE 4096u
static const struct fork_words no_words; /* a fork like that of the C library */

/* ---- the rest of the runtime ---- */
static unsigned forgotten; /* calls of service_forked */
/*
 * number of ranges that can be locked in memory, 0: there is no range to lock; number tried, and
 * undone
 */
static unsigned full_after, locks, unlocks, tags_given;

static bool by_page; /* each page is a mapping of its own */

unsigned mach_cpu_id(void) { return 0; }
void mach_panic(const char *msg)
{
	(void)!write(2, msg, __builtin_strlen(msg));
	_exit(70);
}
void affinity_forked(void) {}
void limits_fork_begin(void) {}
void limits_fork_end(void) {}
void limits_forked(void) {}
void tasks_forked(void) {}
enum vm_err as_fault(struct as *as, uint64_t va, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	locks += type == F_SOFTLOCK && full_after > 0;
	if (type == F_SOFTLOCK && locks > full_after)
		return VM_NOMEM;
	unlocks += type == F_SOFTUNLOCK;
	return full_after > 0 ? VM_OK : VM_NOMAP;
}
struct hat *as_hat(struct as *as) { return NULL; }
bool host_next_piece(struct host *h, uint64_t addr, uint64_t end, struct piece *p)
{
	*p = (struct piece){ .base = addr, .end = end, .prot = RW };
	if (by_page && end > addr)
		p->end = (addr / PAGE + 1) * PAGE;
	return full_after > 0 && addr < end;
}
bool host_await_frames(struct host *h, uint32_t seen) { return false; }
enum vm_err host_adopt(struct host *h) { return VM_OK; }
bool host_ask_others(struct host *h) { return false; }
void host_publish(struct host *h) {}
void host_born_marks(struct host *h) {}
bool host_await_ended(struct host *h, uint32_t seen) { return false; }
uint32_t host_ended(const struct host *h) { return 0; }
void hostfd_prune(void) {}
pfn_t vm_shrink(struct vm *vm, pfn_t n) { return 0; }
void pool_vnode_fork_prepare(struct vnode *vp) {}
void pool_vnode_fork_cancel(struct vnode *vp) {}
int pool_after_fork(struct pool *p) { return 0; }
uint64_t pool_pages_lost(struct pool *p) { return 0; }
uint32_t pool_tag_take(struct pool *p) { return POOL_CHILD_TAG; }
void pool_tag_give(struct pool *p, uint32_t tag) { tags_given++; }
void linux_forked(struct mach *m) {}
int linux_after_fork(struct mach *m, struct hat *hat) { return 0; }
static unsigned expected,
    closed_ends; /* connections made for children; ends that the parent closed */
int family_expect(struct host *h, int slot, unsigned tag)
{
	expected++;
	return 0;
}
void family_born(struct host *h, int slot) {}
void hostfd_unlend(void) { closed_ends++; }
int service_need(struct host *h) { return 0; }
int service_prepare(struct host *h) { return 0; }
_Noreturn void host_stop(const char *what, long rc) { mach_panic(what); }
void service_forked(void) { forgotten++; }

/* ---- the reader in the window ---- */
static char *closed;                /* the page that holds the lock's state */
static _Atomic uint32_t caught, go; /* the reader is in the handler; the reader may continue */

static void wait_word(_Atomic uint32_t *w)
{
	while (*w == 0)
		(void)syscall(SYS_futex, w, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void set_word(_Atomic uint32_t *w)
{
	*w = 1;
	(void)syscall(SYS_futex, w, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void on_segv(int sig, siginfo_t *si, void *ctx)
{
	if ((char *)si->si_addr < closed || (char *)si->si_addr >= closed + PAGE)
		_exit(71);
	set_word(&caught);
	wait_word(&go);
}

static void *read_once(void *lock)
{
	mach_rw_enter(lock, false);
	mach_rw_exit(lock);
	return NULL;
}

/* Returns 0 if the child's locks are free after the fork. */
static int child_status(struct host *h)
{
	int bad = 0;

	if (mprotect(closed, PAGE, PROT_READ | PROT_WRITE) != 0 || host_fork_born(h) != 0)
		return 72;
	bad |= !mach_rw_tryenter(&h->h_lock, true);
	bad |= !mach_mutex_tryenter(&h->h_brklock) << 1;
	bad |= !mach_mutex_tryenter(&h->h_marklock) << 2;
	bad |= !mach_mutex_tryenter(&h->h_protlock) << 2;
	bad |= (forgotten != 1) << 3;
	return bad;
}

static void a_fork_while_a_reader_counts_itself_leaves_the_lock_free(void **state)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	char *mem =
	    mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct family *fam =
	    mmap(NULL, sizeof *fam, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct host *h;
	pthread_t t;
	int status;

	assert_true(mem != MAP_FAILED && fam != MAP_FAILED);
	/*
	 * The first cache line of the lock, with the state, is the last line of a page; the counts
	 * are on the next page.
	 */
	uint64_t at = (uint64_t)mem + 32 * PAGE - 64 - offsetof(struct host, h_lock);
	h = (struct host *)(void *)(at & ~(uint64_t)(_Alignof(struct host) - 1));
	closed = (char *)mem + 31 * PAGE;
	uint64_t line = ((uint64_t)h->h_lock.opaque + 63) & ~(uint64_t)63;
	assert_int_equal(line, (uint64_t)closed + PAGE - 64);
	fam->fam_budget = 4096;
	fam->fam_most = 2;
	promise_init(&fam->fam_promise, 4096);
	fam->fam_shelf[0].s_most = 4096;
	h->h_fam = fam;
	h->h_me = &fam->fam_proc[0];
	atomic_store(&h->h_me->fp_pid, (int)getpid());
	mach_rw_init(&h->h_lock, 1, "host");
	assert_int_equal(sigaction(SIGSEGV, &sa, NULL), 0);

	assert_int_equal(host_fork_still(h, 0x10000, 0x20000, &no_words), 0);
	assert_int_equal(mprotect(closed, PAGE, PROT_NONE), 0);
	assert_int_equal(pthread_create(&t, NULL, read_once, &h->h_lock), 0);
	wait_word(&caught);
	pid_t pid = fork();
	if (pid == 0)
		_exit(child_status(h));
	assert_int_equal(mprotect(closed, PAGE, PROT_READ | PROT_WRITE), 0);
	set_word(&go);
	assert_int_equal(host_fork_made(h, pid), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/*
 * The child's entry holds as many frames as its parent has, charged to the family, and its connection exists before the child does. The
 * parent closes its end; if the fork has failed, no process has that end any more, and the supervisor gives all back.
 */
static void the_child_is_charged_what_its_parent_has(void **state)
{
	struct family *fam =
	    mmap(NULL, sizeof *fam, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct host *h = mmap(
	    NULL, sizeof *h + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned managed = 0; managed < 2; managed++)
		for (unsigned fails = 0; fails < 2; fails++) {
			__builtin_memset(fam, 0, sizeof *fam);
			fam->fam_budget = 4096;
			fam->fam_most = 2;
			h->h_fam = fam;
			h->h_me = &fam->fam_proc[0];
			h->h_managed = managed != 0;
			atomic_store(&h->h_me->fp_pid, (int)getpid());
			atomic_store(&h->h_me->fp_granted, 700);
			atomic_store(&fam->fam_charged, 900); /* another process has 200 */
			mach_rw_init(&h->h_lock, 1, "host");
			expected = closed_ends = 0;
			assert_int_equal(host_fork_still(h, 0x10000, 0x20000, &no_words), 0);
			assert_int_equal(atomic_load(&fam->fam_proc[1].fp_granted), 700);
			assert_int_equal(atomic_load(&fam->fam_charged), 1600);
			assert_int_equal(host_fork_made(h, fails != 0 ? -11 : 12345), 0);
			assert_int_equal(atomic_load(&fam->fam_proc[1].fp_granted), 700);
			assert_int_equal(atomic_load(&fam->fam_charged), 1600);
			assert_true(expected == 1 && closed_ends == 1);
			assert_int_equal(atomic_load(&fam->fam_proc[0].fp_granted), 700);
		}
}

/*
 * The forking thread's stack could be paged out while that thread kept the service thread from
 * serving: both waited forever.
 */
static void a_fork_whose_stack_cannot_be_kept_is_refused(void **state)
{
	static struct family fam;
	static struct host h;

	(void)state;
	fam.fam_budget = 4096;
	fam.fam_most = 2;
	h.h_fam = &fam;
	h.h_me = &fam.fam_proc[0];
	h.h_managed = true;
	atomic_store(&h.h_me->fp_pid, (int)getpid());
	mach_rw_init(&h.h_lock, 1, "host");
	full_after = 1;
	long r = host_fork_still(&h, 0x10000, 0x20000, &no_words);
	full_after = 0;
	assert_int_equal(r, -12 /* ENOMEM */);
	assert_int_equal(unlocks, 1);
	assert_true(mach_rw_tryenter(&h.h_lock, true));
	assert_int_equal(atomic_load(&fam.fam_proc[1].fp_pid), 0);
}

/* Of what a fork locks, no more than 16 mappings were: the rest could leave while no thread brings pages back. */
static void a_fork_locks_all_that_it_touches(void **state)
{
	static struct family fam;
	static struct host h;
	static const struct fork_words words = { 4,
		{ { 0x30fff, 128 }, { 0x40ffe, 4 }, { 0x50ffe, 4 }, { 0x60ffe, 4 } } };

	(void)state;
	fam.fam_budget = 4096;
	fam.fam_most = 2;
	promise_init(&fam.fam_promise, 4096);
	fam.fam_shelf[0].s_most = 4096;
	h.h_fam = &fam;
	h.h_me = &fam.fam_proc[0];
	h.h_managed = by_page = true;
	atomic_store(&h.h_me->fp_pid, (int)getpid());
	mach_rw_init(&h.h_lock, 1, "host");
	full_after = 1000;
	locks = unlocks = tags_given = 0;
	assert_int_equal(host_fork_still(&h, 0x10008, 0x20008, &words), 0);
	assert_int_equal(locks, 7 + 2 + 4 * 2); /* stack, static storage, words */
	assert_int_equal(host_fork_made(&h, -11), 0);
	assert_int_equal(unlocks, locks);
	assert_int_equal(tags_given, 0); /* the supervisor gives the tag back */
	by_page = false;
	full_after = 0;
}

static uint64_t used_by(pthread_t t)
{
	struct timespec used;
	clockid_t clock;

	assert_true(pthread_getcpuclockid(t, &clock) == 0 && clock_gettime(clock, &used) == 0);
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/*
 * The reader's own failed tries woke it: the reader polled while the writer held the lock, and used
 * a CPU for that.
 */
static void a_reader_that_waits_for_a_writer_sleeps(void **state)
{
	static struct mach_rwlock lock;
	unsigned still = 0;
	pthread_t t;

	(void)state;
	mach_rw_init(&lock, 1, "waited for");
	mach_rw_enter(&lock, true);
	assert_int_equal(pthread_create(&t, NULL, read_once, &lock), 0);
	/* The bound is the CPU time of the reader itself, however late the reader starts. */
	for (uint64_t before; still < 5 && (before = used_by(t)) < 200000000;) {
		for (unsigned i = 0; i < 20; i++)
			(void)sched_yield();
		still = before > 0 && used_by(t) == before ? still + 1 : 0;
	}
	assert_int_equal(still, 5);
	mach_rw_exit(&lock);
	assert_int_equal(pthread_join(t, NULL), 0);
	mach_rw_fini(&lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fork_while_a_reader_counts_itself_leaves_the_lock_free),
		cmocka_unit_test(the_child_is_charged_what_its_parent_has),
		cmocka_unit_test(a_fork_whose_stack_cannot_be_kept_is_refused),
		cmocka_unit_test(a_fork_locks_all_that_it_touches),
		cmocka_unit_test(a_reader_that_waits_for_a_writer_sleeps)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
