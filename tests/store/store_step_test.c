/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process is killed at each instruction of pool_append_locked(), while it holds the store's lock.
 * The process that takes the lock over finds every stored page unchanged, and no further page. The
 * parent stops the child there by a breakpoint, steps instruction by instruction (ptrace), and
 * kills the child; so each run is the same, and no instant is left out.
 *
 * Two kinds of appends: a page that the child stores itself, and a page of the parent's that the child packs (young pages). The
 * first may be lost to the family until it ends, one page for each kill (store/pool_member.c says so), the second may not.
 */
#include "tests/store/store_rig.h"

#include <sys/ptrace.h>
#include <sys/user.h>

#include "store/pool_impl.h"

#define PAGES 120u
#define FRESH 40u /* pages stored anew before each run */
#define MOST 1000u
#define TAG 7u

enum kind { STORES, PACKS };

static uint32_t tag_is(void *arg) { return *(uint32_t *)arg; }

/* In the child: appends without end. */
static _Noreturn void append(struct rig *r, enum kind kind)
{
	uint32_t mine;

	if (pool_after_fork(&r->p) != 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(1);
	(void)raise(SIGSTOP);
	if (kind == PACKS)
		pack_all(r);
	else
		for (unsigned i = 0; put(r, 90000 + i * 8 + 2, &mine) == 0; i++)
			;
	_exit(0);
}

static void wait_stop(pid_t pid, int sig)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	assert_int_equal(WSTOPSIG(status), sig);
}

/* Runs the child to an instruction, by a breakpoint. */
static void run_to(pid_t pid, uint64_t at)
{
	struct user_regs_struct regs;
	long code;

	errno = 0;
	code = ptrace(PTRACE_PEEKTEXT, pid, (void *)at, NULL);
	assert_int_equal(errno, 0);
	assert_int_equal(
	    ptrace(PTRACE_POKETEXT, pid, (void *)at, (void *)((code & ~0xffl) | 0xcc)), 0);
	assert_int_equal(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
	wait_stop(pid, SIGTRAP);
	assert_int_equal(ptrace(PTRACE_POKETEXT, pid, (void *)at, (void *)code), 0);
	assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
	assert_int_equal(regs.rip, at + 1);
	regs.rip = at;
	assert_int_equal(ptrace(PTRACE_SETREGS, pid, NULL, &regs), 0);
}

static uint64_t top_of_stack(pid_t pid)
{
	struct user_regs_struct regs;

	assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
	return (uint64_t)ptrace(PTRACE_PEEKDATA, pid, (void *)regs.rsp, NULL);
}

#define LONGEST 2048u /* bytes of the function's code at most */

/*
 * Steps that many instructions; a called function (memcpy, into memory not in use yet) counts as
 * one. False: pool_append_locked() has returned.
 */
static bool step(pid_t pid, uint64_t back, unsigned steps)
{
	const uint64_t at = (uint64_t)(uintptr_t)&pool_append_locked;
	struct user_regs_struct regs;

	for (unsigned i = 0; i < steps; i++) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		wait_stop(pid, SIGTRAP);
		assert_int_equal(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
		if (regs.rip == back)
			return false;
		if (regs.rip < at || regs.rip >= at + LONGEST)
			run_to(pid, top_of_stack(pid));
	}
	return true;
}

/*
 * Runs one child, killed that many instructions after it has entered the function. False: the child
 * had left it by then.
 */
static bool kill_after(struct rig *r, enum kind kind, unsigned steps)
{
	assert_int_equal(pool_fork_begin(&r->p), 0);
	pid_t pid = fork();
	if (pid == 0)
		append(r, kind);
	assert_true(pid > 0);
	wait_stop(pid, SIGSTOP);
	run_to(pid, (uint64_t)(uintptr_t)&pool_append_locked);
	bool inside = step(pid, top_of_stack(pid), steps);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	pool_release(&r->p, TAG);
	return inside;
}

static void killed_at_each_instruction(enum kind kind)
{
	static uint32_t h[PAGES];
	uint32_t tag = TAG;
	struct pool_stats st;
	uint64_t lost = 0;
	unsigned steps = 0;
	struct rig r;

	packers = false;
	setup(&r, 64 * SEG, 0);
	if (kind == PACKS)
		pool_pack_behind(&r.p, 16 * SEG);
	r.p.p_tag = tag_is;
	r.p.p_charge_arg = &tag;
	assert_int_equal(pool_join(&r.p, 1), 0);
	put_all(&r, h, PAGES);
	for (bool inside = true; inside; steps++) {
		for (unsigned i = steps % 3; i < FRESH * 3;
		     /* the page is young again, and there is room where other pages were */
		     i += 3) {
			pool_unref(&r.p, h[i]);
			assert_int_equal(put(&r, i * 8 + 2, &h[i]), 0);
		}
		inside = kill_after(&r, kind, steps);
		assert_true(steps < MOST);
		expect_all(&r, h, PAGES);
		pool_stats(&r.p, &st);
		if (st.pages < PAGES + lost || st.pages > PAGES + lost + (kind == STORES))
			fail_msg("killed after %u instructions: %llu pages", steps,
			    (unsigned long long)st.pages);
		lost = st.pages - PAGES;
	}
	print_message("killed at each of %u instructions\n", steps);
	assert_true(steps > 20);
	drop_all(&r, h, PAGES);
	pool_stats(&r.p, &st);
	assert_int_equal(st.pages, lost);
	if (lost == 0)
		expect_empty(&r);
	teardown(&r);
}

static void killed_at_each_instruction_of_storing(void **state)
{
	(void)state;
	killed_at_each_instruction(STORES);
}

static void killed_at_each_instruction_of_packing(void **state)
{
	(void)state;
	killed_at_each_instruction(PACKS);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_at_each_instruction_of_storing),
		cmocka_unit_test(killed_at_each_instruction_of_packing),
	};

	return store_run(tests, sizeof tests / sizeof *tests, argc > 1 ? argv[1] : NULL);
}
