/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A call that is refused because all memory is promised is made again after a process has ended
 * (run/host_quire.c; the rest of the runtime is a stub). The first try is refused and counted, as
 * host_promise() does; then a process ends; the second try succeeds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "run/engine.h"

#define BREAK 0x100000l
#define WANTED 0x200000l

struct host host;
static struct family family;
static unsigned tries, ends; /* calls made so far; processes that end in time */

/* ---- the rest of the runtime ---- */
static long refuse_first(long refusal, long success)
{
	if (tries++ > 0)
		return success;
	atomic_fetch_add(&family.fam_refused, 1);
	return refusal;
}

long call_brk(struct host *h, long addr) { return refuse_first(BREAK, addr == 0 ? BREAK : addr); }
long call_mmap(struct host *h, long addr, long len, int prot, int flags, int fd, long off)
{
	return refuse_first(-ENOMEM, WANTED);
}
long call_munmap(struct host *h, long addr, long len) { return 0; }
long call_mprotect(struct host *h, long addr, long len, int prot) { return 0; }
long call_madvise(struct host *h, long addr, long len, int advice) { return 0; }
long call_mremap(struct host *h, long old, long oldlen, long newlen, int flags, long newaddr)
{
	return 0;
}
long call_mincore(struct host *h, long addr, long n, uint8_t *vec) { return 0; }
long call_seal(struct host *h, uint64_t addr, uint64_t len, long flags) { return 0; }
long call_shmat(struct host *h, long id, long addr, long flags, long size) { return 0; }
void call_brk_moved(struct host *h) {}
long call_release(struct host *h, uint64_t base, uint64_t len) { return 0; }
long call_mlock(struct host *h, long nr, long addr, long len, long flags) { return 0; }
enum vm_err host_track(struct host *h, uint64_t base, uint64_t len, int prot, unsigned flags)
{
	return VM_OK;
}
long host_errno(enum vm_err e) { return 0; }
long host_fork_still(struct host *h, uint64_t sp, uint64_t tp, const struct fork_words *words)
{
	return 0;
}
long host_fork_made(struct host *h, long pid) { return 0; }
long host_fork_born(struct host *h) { return 0; }
long host_do_leave(struct host *h) { return 0; }
long store_move(struct host *h, bool hidden) { return 0; }
long service_alone(struct host *h, long nr, long a0, long a1) { return 0; }
void host_publish(struct host *h) {}
void host_measure(struct host *h) {}
uint32_t host_ended(const struct host *h) { return 0; }
bool host_await_frames(struct host *h, uint32_t seen) { return false; }
bool host_await_ended(struct host *h, uint32_t seen)
{
	bool came = ends > 0;

	ends -= came;
	return came;
}
void mach_rw_enter(struct mach_rwlock *l, bool writer) {}
void mach_rw_exit(struct mach_rwlock *l) {}

static int make_family(void **state)
{
	(void)state;
	memset(&family, 0, sizeof family);
	host.h_fam = &family;
	tries = 0;
	ends = 1;
	return 0;
}

static void expect_second_try(enum op op, long arg, long result)
{
	const long a[6] = { arg };

	assert_int_equal(host_dispatch(op, a), result);
	assert_int_equal(tries, 2);
	assert_int_equal(atomic_load(&family.fam_refused), 0); /* the call was not refused */
}

static void a_refused_mmap_is_made_again_when_a_process_has_ended(void **state)
{
	expect_second_try(OP_MMAP, 0, WANTED);
}

static void a_refused_brk_is_made_again_when_a_process_has_ended(void **state)
{
	expect_second_try(OP_BRK, WANTED, WANTED);
}

static void a_brk_is_refused_when_none_ends(void **state)
{
	const long a[6] = { WANTED };

	ends = 0;
	assert_int_equal(host_dispatch(OP_BRK, a), BREAK);
	assert_int_equal(tries, 1);
	assert_int_equal(atomic_load(&family.fam_refused), 1);
}

/* The same if another process is refused meanwhile: the call is not repeated for that. */
static void a_question_for_the_break_is_answered_at_once(void **state)
{
	const long a[6] = { 0 };

	assert_int_equal(host_dispatch(OP_BRK, a), BREAK);
	assert_int_equal(tries, 1);
	assert_int_equal(ends, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(
		    a_refused_mmap_is_made_again_when_a_process_has_ended, make_family),
		cmocka_unit_test_setup(
		    a_refused_brk_is_made_again_when_a_process_has_ended, make_family),
		cmocka_unit_test_setup(a_brk_is_refused_when_none_ends, make_family),
		cmocka_unit_test_setup(a_question_for_the_break_is_answered_at_once, make_family),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
