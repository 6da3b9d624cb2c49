/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a program sees of the processor: registers that outlive signals, switches and forks, instructions that
 * the program writes, traps. A part of the program `programs`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "programs.h"

#if defined(__riscv)
/* a breakpoint of four bytes, behind which the handler goes on; the first register of a result */
#define BREAK ".option push\n.option norvc\nebreak\n.option pop\n"
#define RESULT "a0"
#define NFLOATS 32
#define EACH_FLOAT(x)                                                                              \
	x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)      \
	    x(16) x(17) x(18) x(19) x(20) x(21) x(22) x(23) x(24) x(25) x(26) x(27) x(28) x(29)    \
		x(30) x(31)
#define LOAD(n) "fld f" #n ", 8*" #n "(%[in])\n"
#define STORE(n) "fsd f" #n ", 8*" #n "(%[out])\n"
#define CLOBBERS                                                                                   \
	"ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "ft8", "ft9", "ft10", "ft11",      \
	    "fs0", "fs1", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11",  \
	    "fa0", "fa1", "fa2", "fa3", "fa4", "fa5", "fa6", "fa7", "memory"
#define ONE 0x00000513u /* li a0, 0; the number is in the upper 12 bits */
static void go_behind_break(ucontext_t *uc) { uc->uc_mcontext.__gregs[REG_PC] += 4; }
static size_t write_function(uint32_t *at, unsigned result)
{
	at[0] = ONE | result << 20;
	at[1] = 0x00008067u; /* ret */
	return 8;
}
#else
#define BREAK "int3\n"
#define RESULT "rax"
#define NFLOATS 16
#define EACH_FLOAT(x)                                                                              \
	x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)
#define LOAD(n) "movq 8*" #n "(%[in]), %%xmm" #n "\n"
#define STORE(n) "movq %%xmm" #n ", 8*" #n "(%[out])\n"
#define CLOBBERS                                                                                   \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",   \
	    "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "memory"
static void go_behind_break(ucontext_t *uc) { (void)uc; }
static size_t write_function(uint32_t *at, unsigned result)
{
	uint8_t code[6] = { 0xb8, (uint8_t)result, (uint8_t)(result >> 8), 0, 0, 0xc3 };

	memcpy(at, code, sizeof(code)); /* mov eax, result; ret */
	return sizeof(code);
}
#endif

static void float_set(const uint64_t *from)
{
	__asm__ volatile(EACH_FLOAT(LOAD) : : [in] "r"(from) : CLOBBERS);
}

static void on_break(int sig, siginfo_t *si, void *uc)
{
	uint64_t other[NFLOATS];

	(void)sig, (void)si;
	memset(other, 0x5a, sizeof(other));
	float_set(other);
	fesetround(FE_UPWARD);
	go_behind_break(uc);
}

static void catch_breaks(void)
{
	struct sigaction sa = { .sa_sigaction = on_break, .sa_flags = SA_SIGINFO };

	sigaction(SIGTRAP, &sa, NULL);
}

/* The kernel's own numbers of errors are values like others: a register with one of them was once taken for the result of a call. */
static void a_register_with_a_number_of_an_error_outlives_a_signal(void)
{
	catch_breaks();
	for (long v = -4200; v < 10; v++) {
		register long r __asm__(RESULT) = v;

		__asm__ volatile(BREAK : "+r"(r) : : "memory");
		CHECK(r == v);
	}
	fesetround(FE_TONEAREST);
	signal(SIGTRAP, SIG_DFL);
}

static void floats_outlive_a_signal(void)
{
	uint64_t in[NFLOATS], out[NFLOATS];

	catch_breaks();
	for (unsigned i = 0; i < NFLOATS; i++)
		in[i] = 0x4000000000000000u + i * 0x123456789u, out[i] = 0;
	fesetround(FE_DOWNWARD);
	__asm__ volatile(EACH_FLOAT(LOAD) BREAK EACH_FLOAT(STORE)
			 :
			 : [in] "r"(in), [out] "r"(out)
			 : CLOBBERS);
	CHECK(memcmp(in, out, sizeof(in)) == 0 && fegetround() == FE_DOWNWARD);
	fesetround(FE_TONEAREST);
	signal(SIGTRAP, SIG_DFL);
}

/* ---- switches ---- */
/* Keeps values of its own in all registers while others run. The number of wrong values. */
static long keep_floats(unsigned who)
{
	static const int modes[] = { FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO, FE_TONEAREST };
	uint64_t in[NFLOATS], out[NFLOATS];
	long bad = 0;

	fesetround(modes[who % 4]);
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < NFLOATS; i++)
			in[i] = (uint64_t)who << 52 | (uint64_t)round << 8 | i;
#if defined(__riscv)
		register long nr __asm__("a7") = 124; /* sched_yield */
		register long a0 __asm__("a0") = 0;
		__asm__ volatile(EACH_FLOAT(LOAD) "ecall\n" EACH_FLOAT(STORE)
				 :
				 : [in] "r"(in), [out] "r"(out), "r"(nr), "r"(a0)
				 : CLOBBERS);
#else
		long nr = 24;
		__asm__ volatile(EACH_FLOAT(LOAD) "syscall\n" EACH_FLOAT(STORE)
				 : "+a"(nr)
				 : [in] "r"(in), [out] "r"(out)
				 : CLOBBERS, "rcx", "r11");
#endif
		bad += memcmp(in, out, sizeof(in)) != 0;
		bad += fegetround() != modes[who % 4];
	}
	fesetround(FE_TONEAREST);
	return bad;
}

static void *keep_in_thread(void *arg) { return (void *)keep_floats((unsigned)(uintptr_t)arg); }

static void floats_outlive_switches(void)
{
	pthread_t t[3];
	void *r;
	int status;
	pid_t pid[3];

	for (unsigned i = 0; i < 3; i++)
		if ((pid[i] = fork()) == 0)
			_exit(keep_floats(i + 4) != 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK(pthread_create(&t[i], NULL, keep_in_thread, (void *)(uintptr_t)(i + 1)) == 0);
	CHECK(keep_floats(0) == 0);
	for (unsigned i = 0; i < 3; i++)
		CHECK(pthread_join(t[i], &r) == 0 && r == NULL);
	for (unsigned i = 0; i < 3; i++)
		CHECK(waitpid(pid[i], &status, 0) == pid[i] && status == 0);
}

static void *tell_rounding(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t)(unsigned)fegetround();
}

static void rounding_is_inherited(void)
{
	pthread_t t;
	int status;
	void *r;

	fesetround(FE_UPWARD);
	CHECK(pthread_create(&t, NULL, tell_rounding, NULL) == 0 && pthread_join(t, &r) == 0 &&
	    (int)(uintptr_t)r == FE_UPWARD);
	pid_t pid = fork();
	if (pid == 0)
		_exit(fegetround() != FE_UPWARD);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "programs", "a_new_program_rounds_to_nearest", NULL);
		_exit(1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	fesetround(FE_TONEAREST);
}

static void a_new_program_rounds_to_nearest(void) { CHECK(fegetround() == FE_TONEAREST); }

/* ---- instructions that a program writes ---- */
static volatile unsigned written, seen;
static uint32_t *code;

static void *run_what_is_written(void *arg)
{
	long bad = 0;

	(void)arg;
	for (unsigned i = 1; i <= 100; i++) {
		while (__atomic_load_n(&written, __ATOMIC_ACQUIRE) < i)
			sched_yield();
		bad += ((int (*)(void))(uintptr_t)code)() != (int)i;
		__atomic_store_n(&seen, i, __ATOMIC_RELEASE);
	}
	return (void *)bad;
}

static void written_instructions_run(void)
{
	pthread_t t;
	void *r;

	written = seen = 0;
	code =
	    mmap(NULL, PG, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(code != MAP_FAILED && pthread_create(&t, NULL, run_what_is_written, NULL) == 0);
	for (unsigned i = 1; i <= 100; i++) {
		size_t n = write_function(code, i);

		__builtin___clear_cache((char *)code, (char *)code + n);
		__atomic_store_n(&written, i, __ATOMIC_RELEASE);
		while (__atomic_load_n(&seen, __ATOMIC_ACQUIRE) < i)
			sched_yield();
		CHECK(((int (*)(void))(uintptr_t)code)() == (int)i);
	}
	CHECK(pthread_join(t, &r) == 0 && r == NULL);
	munmap(code, PG);
	for (unsigned i = 1; i <= 100;
	     i++) { /* other pages at the same address, often the same frame */
		uint32_t *p = mmap(code, PG, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

		write_function(p, i + 100);
		CHECK(mprotect(p, PG, PROT_READ | PROT_EXEC) == 0);
		__builtin___clear_cache((char *)p, (char *)p + 8);
		CHECK(((int (*)(void))(uintptr_t)p)() == (int)i + 100);
		munmap(p, PG);
	}
}

/* ---- traps ---- */
static sigjmp_buf back;
static siginfo_t info;
static void *stack_then;

static void jump_back(int sig, siginfo_t *si, void *uc)
{
	char here;

	(void)sig, (void)uc;
	info = *si;
	stack_then = &here;
	siglongjmp(back, 1);
}

static int signal_of(void (*fn)(void))
{
	struct sigaction sa = { .sa_sigaction = jump_back, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	memset(&info, 0, sizeof(info));
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	if (sigsetjmp(back, 1) == 0)
		fn();
	signal(SIGSEGV, SIG_DFL);
	signal(SIGILL, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	return info.si_signo;
}

/* Where the address is executable and then is not, a second call must not use a translation of the first. */
static void jumps_to_no_code_are_signals(void)
{
	uint8_t *p = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	write_function((uint32_t *)(void *)p, 7);
	CHECK(signal_of((void (*)(void))(uintptr_t)p) == SIGSEGV && info.si_code == SEGV_ACCERR &&
	    info.si_addr == p);
	mprotect(p, PG, PROT_READ | PROT_EXEC);
	__builtin___clear_cache((char *)p, (char *)p + 8);
	CHECK(signal_of((void (*)(void))(uintptr_t)p) == 0);
	mprotect(p, PG, PROT_READ);
	CHECK(signal_of((void (*)(void))(uintptr_t)p) == SIGSEGV && info.si_code == SEGV_ACCERR);
	munmap(p, PG);
	CHECK(signal_of((void (*)(void))(uintptr_t)p) == SIGSEGV && info.si_code == SEGV_MAPERR &&
	    info.si_addr == p);
	CHECK(
	    signal_of((void (*)(void))(uintptr_t)0x10) == SIGSEGV && info.si_addr == (void *)0x10);
}

static void run_no_instruction(void)
{
#if defined(__riscv)
	__asm__ volatile("unimp");
#else
	__asm__ volatile("ud2");
#endif
}

static void lose_the_stack(void)
{
#if defined(__riscv)
	__asm__ volatile("li sp, 4096\nsd zero, -8(sp)" : : : "memory");
#else
	__asm__ volatile("mov $4096, %%esp\npush %%rax" : : : "memory");
#endif
	__builtin_unreachable();
}

static void a_thread_without_a_stack_gets_its_signal(void)
{
	static char alt[65536];
	stack_t ss = { .ss_sp = alt, .ss_size = sizeof(alt) }, off = { .ss_flags = SS_DISABLE };

	sigaltstack(&ss, NULL);
	CHECK(signal_of(run_no_instruction) == SIGILL && info.si_addr != NULL);
	CHECK(signal_of(lose_the_stack) == SIGSEGV && info.si_addr == (void *)(4096 - 8) &&
	    (char *)stack_then >= alt && (char *)stack_then < alt + sizeof(alt));
	sigaltstack(&off, NULL);
}

static void use_wide_vectors(void)
{
#if defined(__riscv)
	__asm__ volatile(".word 0x000072d7" : : : "t0"); /* vsetvli t0, zero, e8 */
#else
	__asm__ volatile(".byte 0x62, 0xf1, 0x7d, 0x48, 0xef, 0xc0"
			 :
			 :
			 : "xmm0"); /* vpxord %zmm0, %zmm0, %zmm0 */
#endif
}

static bool has_wide_vectors(void)
{
#if defined(__riscv)
	return getauxval(AT_HWCAP) & 1ul << ('v' - 'a');
#else
	return __builtin_cpu_supports("avx512f");
#endif
}

/* The CPU may have registers that the kernel does not save. */
static void vectors_that_are_not_told_of_are_refused(void)
{
	CHECK(has_wide_vectors() || signal_of(use_wide_vectors) == SIGILL);
}

const struct test cpu_tests[] = {
	T(a_register_with_a_number_of_an_error_outlives_a_signal, 1),
	T(floats_outlive_a_signal, 1),
	T(floats_outlive_switches, 1),
	T(rounding_is_inherited, 1),
	T(written_instructions_run, 1),
	T(jumps_to_no_code_are_signals, 1),
	T(a_thread_without_a_stack_gets_its_signal, 1),
	T(vectors_that_are_not_told_of_are_refused, 1),
	{ NULL, NULL, 0 },
};
const struct test cpu_inner_tests[] = { T(a_new_program_rounds_to_nearest, 1), { NULL, NULL, 0 } };
