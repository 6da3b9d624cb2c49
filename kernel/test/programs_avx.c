/* SPDX-License-Identifier: BSD-2-Clause */
/* The registers of AVX: a part of the program `programs`. On other architectures, and on CPUs without AVX, there is nothing to test. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "programs.h"

#ifdef __x86_64__
enum { REGS = 16, WORDS = 4, THREADS = 6, ROUNDS = 60, SPIN = 20000 };
typedef uint64_t file_t[REGS][WORDS];

#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define LOAD(n) "vmovdqu " #n "*32(%[in]), %%ymm" #n "\n\t"
#define STORE(n) "vmovdqu %%ymm" #n ", " #n "*32(%[out])\n\t"
#define CLOBBERS                                                                                   \
	"rax", "rcx", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",       \
	    "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void fill(file_t f, uint64_t seed)
{
	for (unsigned i = 0; i < REGS; i++)
		for (unsigned k = 0; k < WORDS; k++)
			f[i][k] = seed << 32 | i << 8 | k | 0xa000;
}

/* Loads all registers, spins, makes a system call, spins, and stores the registers. The call's result. */
static long through_call(const file_t in, file_t out, long nr, long first, long second, long spin)
{
	long result;

	__asm__ volatile(
	    ALL(LOAD) "mov %[spin], %%rcx\n1:\tdec %%rcx\n\tjnz 1b\n\t"
		      "mov %[nr], %%rax\n\tsyscall\n\tmov %%rax, %[result]\n\t"
		      "mov %[spin], %%rcx\n2:\tdec %%rcx\n\tjnz 2b\n\t" ALL(STORE)
	    : [result] "=&r"(result)
	    : [in] "r"(in), [out] "r"(out), [nr] "r"(nr), [spin] "r"(spin), "D"(first), "S"(second)
	    : CLOBBERS);
	return result;
}

static int has_avx(void) { return __builtin_cpu_supports("avx"); }

static void *keep_registers(void *arg)
{
	file_t in, out;
	intptr_t wrong = 0;

	for (unsigned r = 0; r < ROUNDS; r++) {
		fill(in, (uint64_t)(uintptr_t)arg * 1000 + r);
		(void)through_call(in, out, SYS_sched_yield, 0, 0, SPIN);
		wrong += memcmp(in, out, sizeof(in)) != 0;
	}
	return (void *)wrong;
}

/* The upper halves were once not saved, so programs were told that the CPU has no AVX. */
static void threads_keep_their_wide_registers(void)
{
	pthread_t t[THREADS];
	void *wrong;

	if (!has_avx())
		return;
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, keep_registers, (void *)(i + 1)) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], &wrong) == 0 && wrong == NULL);
}

/* ---- signals ---- */
enum { MAGIC1 = 0x46505853, MAGIC2 = 0x46505845, UC_FP_XSTATE = 1, SW = 464, UPPER = 576 };
static volatile int handled, frame_wrong;
static file_t expected;
static uint64_t new_upper;

static void on_signal(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	uint8_t *area = (uint8_t *)uc->uc_mcontext.fpregs;
	uint32_t magic1, size, magic2 = 0;
	file_t mine, unused;

	(void)sig, (void)si;
	memcpy(&magic1, area + SW, 4);
	memcpy(&size, area + SW + 16, 4);
	if (magic1 == MAGIC1)
		memcpy(&magic2, area + size, 4);
	frame_wrong += !(uc->uc_flags & UC_FP_XSTATE) || magic1 != MAGIC1 || magic2 != MAGIC2 ||
	    ((uintptr_t)area & 63) != 0;
	for (unsigned i = 0; i < REGS && frame_wrong == 0; i++)
		frame_wrong += memcmp(area + 160 + 16 * i, expected[i], 16) != 0 ||
		    memcmp(area + UPPER + 16 * i, &expected[i][2], 16) != 0;
	if (new_upper != 0)
		memcpy(area + UPPER + 16 * 5, &new_upper, 8);
	fill(mine, 77777); /* the handler's own */
	(void)through_call(mine, unused, SYS_sched_yield, 0, 0, 100);
	handled++;
}

static void wide_registers_outlive_signals(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	file_t out;

	if (!has_avx())
		return;
	sigaction(SIGUSR1, &sa, NULL);
	handled = frame_wrong = 0;
	new_upper = 0;
	for (unsigned r = 0; r < 10; r++) {
		fill(expected, r + 1);
		(void)through_call(expected, out, SYS_kill, getpid(), SIGUSR1,
		    1); /* the handler runs in the middle */
		CHECK(memcmp(expected, out, sizeof(out)) == 0);
	}
	CHECK(handled == 10 && frame_wrong == 0);
	/* what the handler writes into the frame is in the register afterwards */
	new_upper = 0x1122334455667788;
	(void)through_call(expected, out, SYS_kill, getpid(), SIGUSR1, 1);
	CHECK(handled == 11 && out[5][2] == new_upper && out[5][3] == expected[5][3]);
	signal(SIGUSR1, SIG_DFL);
}

static void a_child_has_its_parents_wide_registers(void)
{
	file_t in, out;
	int status;
	long pid;

	if (!has_avx())
		return;
	fill(in, 4242);
	pid = through_call(in, out, SYS_fork, 0, 0, 1);
	if (pid == 0)
		_exit(memcmp(in, out, sizeof(in)) == 0 ? 0 : 1);
	CHECK(memcmp(in, out, sizeof(in)) == 0);
	CHECK(waitpid((pid_t)pid, &status, 0) == pid && status == 0);
}

const struct test avx_tests[] = {
	T(threads_keep_their_wide_registers, 1),
	T(wide_registers_outlive_signals, 1),
	T(a_child_has_its_parents_wide_registers, 1),
	{ NULL, NULL, 0 },
};
#else
const struct test avx_tests[] = {
	{ NULL, NULL, 0 },
};
#endif
