/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fail_nth N ERRNO PROGRAM [ARGUMENT ...]: runs the program and makes the Nth system call of its
 * processes fail with ERRNO, without executing the call. Ends as the program does: with its status,
 * or 128 and the signal. Writes the number of the failed call to descriptor 3; writes nothing if
 * there were fewer calls.
 *
 * Calls that the C library's start cannot do without, and those that do not return, are not counted.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Constants that sys/ptrace.h declares in an enumeration. */
#define ENTRY 1

struct syscall_info {
	unsigned char op, pad[3];
	unsigned arch;
	unsigned long ip, sp, args[8];
};

static bool counts(unsigned long nr)
{
	static const unsigned long not [] = { SYS_brk, SYS_arch_prctl, SYS_exit, SYS_exit_group,
		SYS_rt_sigreturn, SYS_restart_syscall, SYS_set_tid_address, SYS_set_robust_list,
		SYS_futex };

	for (size_t i = 0; i < sizeof not / sizeof *not ; i++)
		if (not [i] == nr)
			return false;
	return true;
}

static long left, error;
static bool started;  /* the child has executed the program */
static pid_t failing; /* its call has been suppressed */

static void stop_at_call(pid_t pid)
{
	struct syscall_info info = { 0 };

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof info, &info) <= 0)
		return;
	if (info.op != ENTRY) {
		if (pid == failing)
			(void)ptrace(
			    PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), -error);
		if (pid == failing)
			failing = 0;
		return;
	}
	if (!started || !counts(info.args[0]) || --left != 0)
		return;
	(void)ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), -1l);
	failing = pid;
	(void)dprintf(3, "%lu\n", info.args[0]);
}

int main(int argc, char **argv)
{
	int status;
	pid_t first, pid;

	if (argc < 4)
		return 64;
	left = atol(argv[1]);
	error = atol(argv[2]);
	if ((first = fork()) == 0) {
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		(void)raise(SIGSTOP);
		(void)close(3);
		execv(argv[3], argv + 3);
		_exit(64);
	}
	if (waitpid(first, &status, 0) != first ||
	    ptrace(PTRACE_SETOPTIONS, first, NULL,
		(void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
		    PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)) != 0)
		return 64;
	(void)ptrace(PTRACE_SYSCALL, first, NULL, NULL);
	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		long sig = WIFSTOPPED(status) ? WSTOPSIG(status) : 0;

		if (!WIFSTOPPED(status)) {
			if (pid == first)
				break;
			continue;
		}
		started |= status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8);
		if (sig == (SIGTRAP | 0x80))
			stop_at_call(pid);
		if (sig == (SIGTRAP | 0x80) || sig == SIGTRAP || sig == SIGSTOP)
			sig = 0;
		(void)ptrace(PTRACE_SYSCALL, pid, NULL, (void *)sig);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
