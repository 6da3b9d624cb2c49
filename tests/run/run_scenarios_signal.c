/* SPDX-License-Identifier: BSD-2-Clause */
/* Scenarios of signals: delivered during faults, handlers on memory that is paged out, accesses that must fail. */
#include "tests/run/run_scenarios.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void handle(int sig, void (*f)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = { .sa_flags = SA_SIGINFO | flags };

	sa.sa_sigaction = f;
	(void)sigemptyset(&sa.sa_mask);
	EXPECT(sigaction(sig, &sa, NULL) == 0);
}

/* ---- bad accesses ---- */
static sigjmp_buf back;
static void *volatile fault_at;
static volatile int fault_code, fault_signal;

static void on_bad(int sig, siginfo_t *si, void *uc)
{
	(void)uc;
	fault_signal = sig;
	fault_at = si->si_addr;
	fault_code = si->si_code;
	siglongjmp(back, 1);
}

static void touch(const char *what, char *p, bool write_it)
{
	fault_signal = 0;
	if (sigsetjmp(back, 1) == 0) {
		if (write_it)
			*(volatile char *)p = 1;
		else
			(void)*(volatile char *)p;
	}
	if (fault_signal == 0)
		printf("%s: no signal\n", what);
	else
		printf("%s: signal %d code %d at %s\n", what, fault_signal, fault_code,
		    fault_at == p ? "its address" : "another address");
}

static int bad_access(void)
{
	char *p = map(MIB);

	handle(SIGSEGV, on_bad, 0);
	handle(SIGBUS, on_bad, 0);
	fill(p, MIB, 1);
	push_out();
	EXPECT(mprotect(p + MIB / 4, MIB / 4, PROT_NONE) == 0 &&
	    mprotect(p + MIB / 2, MIB / 4, PROT_READ) == 0);
	push_out();
	touch("rw", p + 5, true);
	touch("none, read", p + MIB / 4 + 5, false);
	touch("none, write", p + MIB / 4 + PAGE + 5, true);
	touch("read-only, read", p + MIB / 2 + 5, false);
	touch("read-only, write", p + MIB / 2 + PAGE + 5, true);
	EXPECT(munmap(p, MIB / 4) == 0);
	touch("unmapped, read", p + 5, false);
	touch("unmapped, write", p + PAGE + 5, true);
	touch("null", NULL, false);
	FILE *f = tmpfile();
	char *q = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0);
	touch("beyond the end of a file", q + PAGE + 1, false);
	return 0;
}

static char *lazy;
static void on_lazy(int sig, siginfo_t *si, void *uc)
{
	char *page = (char *)((uintptr_t)si->si_addr & ~(uintptr_t)(PAGE - 1));

	(void)sig;
	(void)uc;
	if (page < lazy || page >= lazy + 512 * PAGE)
		_exit(95);
	(void)mprotect(page, PAGE, PROT_READ | PROT_WRITE);
	*(size_t *)(void *)page += 1;
}

/* Memory that the program's handler opens page by page, as garbage collectors and databases do. */
static int lazy_pages(void)
{
	lazy = mmap(NULL, 512 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	handle(SIGSEGV, on_lazy, 0);
	for (size_t i = 0; i < 512; i++)
		*(volatile size_t *)(void *)(lazy + i * PAGE + 8) = i;
	push_out();
	for (int round = 0; round < 3; round++) {
		EXPECT(mprotect(lazy, 512 * PAGE, round % 2 == 0 ? PROT_READ : PROT_NONE) == 0);
		for (size_t i = 0; i < 512; i++)
			*(volatile size_t *)(void *)(lazy + i * PAGE + 8) += 1;
	}
	for (size_t i = 0; i < 512; i++)
		EXPECT(*(size_t *)(void *)(lazy + i * PAGE + 8) == i + 3 &&
		    *(size_t *)(void *)(lazy + i * PAGE) == 4);
	return 0;
}

/* ---- stacks ---- */
static void overflow_handler(int sig, siginfo_t *si, void *uc)
{
	char here[8000];

	(void)uc;
	fill(here, sizeof here, 1);
	fault_signal = sig;
	fault_code = si->si_code;
	EXPECT(wrong(here, sizeof here, 1) == 0);
	siglongjmp(back, 1);
}

static volatile bool for_ever = true;
static uint64_t endless(uint64_t n)
{
	volatile char frame[2000];

	frame[0] = (char)n;
	return !for_ever ? n : endless(n + 1) + (uint64_t)frame[0];
}

static void *overflow(void *arg)
{
	stack_t ss = { .ss_sp = map(16 * PAGE), .ss_size = 16 * PAGE };

	(void)arg;
	EXPECT(sigaltstack(&ss, NULL) == 0);
	push_out();
	for (int i = 0; i < 2; i++) {
		fault_signal = 0;
		if (sigsetjmp(back, 1) == 0)
			printf("%llu\n", (unsigned long long)endless(0));
		printf("overflow: signal %d\n", fault_signal);
	}
	return NULL;
}

static int alternate_stack(void)
{
	struct rlimit rl = { MIB, MIB };
	pthread_t t;

	EXPECT(setrlimit(RLIMIT_STACK, &rl) == 0);
	handle(SIGSEGV, overflow_handler, SA_ONSTACK);
	(void)overflow(NULL);
	EXPECT(pthread_create(&t, NULL, overflow, NULL) == 0 && pthread_join(t, NULL) == 0);
	return 0;
}

/* ---- at any moment ---- */
static _Atomic unsigned ticks;
static char *tick_memory;
static void on_tick(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)si;
	(void)uc;
	unsigned n = atomic_fetch_add(&ticks, 1);
	*(unsigned *)(void *)(tick_memory + n % 256 * PAGE) += 1; /* faults too */
}

static void work_until(unsigned n)
{
	char *p = map(2 * MIB);

	for (uint64_t i = 0; atomic_load(&ticks) < n; i++) {
		fill(p, 2 * MIB, i);
		push_out();
		EXPECT(wrong(p, 2 * MIB, i) == 0);
		void *m = map(MIB);
		fill(m, MIB, 1);
		(void)munmap(m, MIB);
	}
}

static int timers(void)
{
	struct itimerval every = { { 0, 700 }, { 0, 700 } }, never = { 0 };
	unsigned sum = 0, counted;

	tick_memory = map(256 * PAGE);
	handle(SIGALRM, on_tick, SA_RESTART);
	handle(SIGPROF, on_tick, SA_RESTART | SA_ONSTACK);
	EXPECT(setitimer(ITIMER_REAL, &every, NULL) == 0);
	work_until(300);
	EXPECT(
	    setitimer(ITIMER_REAL, &never, NULL) == 0 && setitimer(ITIMER_PROF, &every, NULL) == 0);
	work_until(atomic_load(&ticks) + 20);
	EXPECT(setitimer(ITIMER_PROF, &never, NULL) == 0);
	counted = atomic_load(&ticks);
	for (size_t i = 0; i < 256; i++)
		sum += *(unsigned *)(void *)(tick_memory + i * PAGE);
	EXPECT(sum == counted);
	(void)alarm(1);
	EXPECT(pause() == -1 && errno == EINTR);
	return 0;
}

static void *shoot(void *arg)
{
	const pthread_t *target = arg;

	while (atomic_load(&ticks) < 1000)
		(void)pthread_kill(*target, SIGUSR1);
	return NULL;
}

/*
 * A thread sends signals to another thread as fast as possible, while the other thread faults, maps
 * and forks.
 */
static int storm(void)
{
	pthread_t me = pthread_self(), t;
	int status;

	tick_memory = map(256 * PAGE);
	handle(SIGUSR1, on_tick, SA_RESTART);
	EXPECT(pthread_create(&t, NULL, shoot, &me) == 0);
	work_until(500);
	for (int i = 0; i < 5; i++) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(4);
		EXPECT(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 4);
	}
	work_until(1000);
	EXPECT(pthread_join(t, NULL) == 0);
	sigset_t set;
	EXPECT(pthread_sigmask(SIG_SETMASK, NULL, &set) == 0);
	for (int s = 1; s < 64; s++)
		EXPECT(sigismember(&set, s) != 1);
	return 0;
}

static void on_child(int sig, siginfo_t *si, void *uc)
{
	(void)sig;
	(void)uc;
	if (si->si_code == CLD_EXITED)
		atomic_fetch_add(&ticks, (unsigned)si->si_status);
}

static int masks(void)
{
	struct timespec sec = { 2, 0 };
	sigset_t set, old;
	siginfo_t si;
	int n;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGUSR2);
	EXPECT(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	EXPECT(raise(SIGUSR2) == 0);
	push_out();
	void *p = map(MIB); /* a call of the runtime must not deliver the signal */
	fill(p, MIB, 1);
	pid_t pid = fork();
	if (pid == 0) {
		(void)sigprocmask(SIG_SETMASK, NULL, &old);
		n = sigismember(&old, SIGUSR2) * 10 +
		    (sigpending(&old) == 0 && sigismember(&old, SIGUSR2));
		/* the signal is blocked and not pending, as pending signals are not inherited */
		_exit(n);
	}
	EXPECT(waitpid(pid, &n, 0) == pid);
	printf("%d\n", WEXITSTATUS(n));
	EXPECT(sigtimedwait(&set, &si, &sec) == SIGUSR2);
	handle(SIGCHLD, on_child, SA_RESTART);
	for (int i = 0; i < 3; i++) {
		pid = fork();
		if (pid == 0)
			_exit(5);
		EXPECT(waitpid(pid, NULL, 0) == pid);
	}
	printf("%u\n", ticks);
	return 0;
}

const struct scenario signal_scenarios[] = {
	{ "bad-access", bad_access },
	{ "lazy-pages", lazy_pages },
	{ "alternate-stack", alternate_stack },
	{ "timers", timers },
	{ "storm", storm },
	{ "masks", masks },
	{ NULL, NULL },
};
