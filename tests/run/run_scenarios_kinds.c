/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scenarios of rare kinds of memory: memory that is not hosted must behave beside hosted memory as
 * it does without Quire.
 */
#include "tests/run/run_scenarios.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mman.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

static bool zero(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* Ends with the status of the child that ran f(arg). */
static int in_child(int (*f)(void *), void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(f(arg));
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int huge(void)
{
	char *h = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0),
	     *p;

	printf("%s\n", h == MAP_FAILED ? strerror(errno) : "huge pages");
	if (h != MAP_FAILED) {
		fill(h, 4 * MIB, 1);
		push_out();
		EXPECT(wrong(h, 4 * MIB, 1) == 0 && munmap(h, 4 * MIB) == 0);
	}
	h = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
	printf("%s\n", h == MAP_FAILED ? strerror(errno) : "huge pages later");
	p = map(4 * MIB);
	fill(p, 4 * MIB, 2);
	push_out();
	EXPECT(madvise(p, 4 * MIB, MADV_HUGEPAGE) == 0 && wrong(p, 4 * MIB, 2) == 0);
	return 0;
}

static int low(void)
{
	char *p[8];

	for (unsigned i = 0; i < 8; i++) {
		p[i] = mmap(NULL, MIB / 2, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		EXPECT(p[i] != MAP_FAILED && (uintptr_t)p[i] + MIB / 2 <= 1ul << 31);
		fill(p[i], MIB / 2, i);
	}
	push_out();
	p[0] = mremap(p[0], MIB / 2, MIB, MREMAP_MAYMOVE);
	EXPECT(p[0] != MAP_FAILED && wrong(p[0], MIB / 2, 0) == 0 && zero(p[0] + MIB / 2, MIB / 2));
	for (unsigned i = 1; i < 8; i++)
		EXPECT(wrong(p[i], MIB / 2, i) == 0);
	return 0;
}

/* Below the lowest page of such a mapping is the next one. */
static int grows_down(void)
{
	char *room = map(4 * MIB);

	EXPECT(munmap(room, 4 * MIB) == 0);
	char *top = mmap(room + 4 * MIB - 16 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
	EXPECT(top == room + 4 * MIB - 16 * PAGE);
	fill(top, 16 * PAGE, 1);
	for (unsigned i = 1; i <= 64; i++)
		fill(top - i * PAGE, PAGE, i);
	push_out();
	EXPECT(wrong(top, 16 * PAGE, 1) == 0);
	for (unsigned i = 1; i <= 64; i++)
		EXPECT(wrong(top - i * PAGE, PAGE, i) == 0);
	return 0;
}

static int named_child(void *arg)
{
	const char *name = arg;
	int fd = shm_open(name, O_RDWR, 0);
	char *p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (fd < 0 || p == MAP_FAILED || wrong(p, MIB, 1) != 0)
		return 1;
	push_out();
	fill(p + MIB, 3 * MIB, 2);
	return wrong(p, MIB, 1) == 0 ? 0 : 2;
}

/* Shared by name, with a child that maps it by itself. */
static int named(void)
{
	char name[64];
	(void)snprintf(name, sizeof name, "/quire-scenario-%d", (int)getpid());
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	EXPECT(fd >= 0 && ftruncate(fd, 4 * MIB) == 0);
	char *p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *own = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	EXPECT(p != MAP_FAILED && own != MAP_FAILED);
	fill(p, MIB, 1);
	push_out();
	EXPECT(in_child(named_child, name) == 0);
	EXPECT(wrong(p, MIB, 1) == 0 && wrong(p + MIB, 3 * MIB, 2) == 0);
	fill(own, MIB, 3); /* of this mapping alone */
	push_out();
	EXPECT(
	    wrong(own, MIB, 3) == 0 && wrong(p, MIB, 1) == 0 && wrong(own + MIB, 3 * MIB, 2) == 0);
	EXPECT(madvise(own, MIB, MADV_DONTNEED) == 0 && wrong(own, MIB, 1) == 0);
	EXPECT(madvise(p, MIB, MADV_REMOVE) == 0 && zero(p, MIB) && zero(own, MIB));
	EXPECT(shm_unlink(name) == 0);
	return 0;
}

static int unnamed(void)
{
	int fd = memfd_create("scenario", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char *p, *q;

	EXPECT(fd >= 0 && ftruncate(fd, 2 * MIB) == 0);
	p = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	fill(p, 2 * MIB, 1);
	push_out();
	q = map(2 * MIB);
	EXPECT(pread(fd, q, 2 * MIB, 0) == 2 * MIB && wrong(q, 2 * MIB, 1) == 0);
	fill(q, 2 * MIB, 2);
	push_out();
	EXPECT(pwrite(fd, q, 2 * MIB, 0) == 2 * MIB && wrong(p, 2 * MIB, 2) == 0);
	EXPECT(munmap(p, 2 * MIB) == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	EXPECT(pwrite(fd, q, 1, 0) == -1 && errno == EPERM);
	EXPECT(mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED &&
	    errno == EPERM);
	p = mmap(q, MIB, PROT_READ, MAP_SHARED | MAP_FIXED, fd, MIB); /* over hosted memory */
	EXPECT(p == q && memcmp(p + PAGE, p + PAGE, PAGE) == 0 && wrong(q + MIB, MIB, 2) != 0);
	return 0;
}

static int private_file(void)
{
	char name[] = "/tmp/quire-scenario-XXXXXX", *p, *q = map(2 * MIB);
	int fd = mkstemp(name);

	EXPECT(fd >= 0 && unlink(name) == 0);
	fill(q, 2 * MIB, 1);
	push_out();
	EXPECT(write(fd, q, 2 * MIB) == 2 * MIB);
	p = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	EXPECT(wrong(p, 2 * MIB, 1) == 0);
	fill(p, 2 * MIB, 2); /* all over */
	push_out();
	EXPECT(wrong(p, 2 * MIB, 2) == 0 && pread(fd, q, 2 * MIB, 0) == 2 * MIB &&
	    wrong(q, 2 * MIB, 1) == 0);
	/* anonymous memory takes its place, and the other way round */
	EXPECT(mmap(p + MIB, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		   -1, 0) == p + MIB);
	fill(p + MIB, MIB, 3);
	EXPECT(mmap(q, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) == q);
	push_out();
	EXPECT(wrong(p + MIB, MIB, 3) == 0 && wrong(q, 2 * MIB, 1) == 0);
	EXPECT(mprotect(p, 2 * MIB, PROT_READ) == 0 &&
	    mprotect(p, 2 * MIB, PROT_READ | PROT_WRITE) == 0);
	EXPECT(wrong(p + MIB, MIB, 3) == 0);
	return 0;
}

static int moves_child(void *arg)
{
	char *p = arg;

	push_out();
	p = mremap(p, MIB, 2 * MIB, MREMAP_MAYMOVE);
	if (p == MAP_FAILED || wrong(p, MIB, 1) != 0)
		return 1;
	fill(p, 2 * MIB, 5);
	push_out();
	return wrong(p, 2 * MIB, 5) == 0 ? 0 : 2;
}

/* mremap() of mappings that are not private anonymous memory. */
static int moves(void)
{
	char *p = map(3 * MIB), *q, *r;

	fill(p, MIB, 1);
	push_out();
	EXPECT(in_child(moves_child, p) == 0 && wrong(p, MIB, 1) == 0);
	EXPECT(mprotect(p, MIB, PROT_NONE) == 0);
	q = mremap(p, MIB, 2 * MIB, MREMAP_MAYMOVE); /* closed */
	EXPECT(q != MAP_FAILED && mprotect(q, 2 * MIB, PROT_READ | PROT_WRITE) == 0 &&
	    wrong(q, MIB, 1) == 0 && zero(q + MIB, MIB));
	EXPECT(mprotect(q, 2 * MIB, PROT_READ) == 0);
	push_out();
	r = mremap(q, 2 * MIB, MIB, MREMAP_MAYMOVE | MREMAP_FIXED,
	    map(MIB)); /* only to be read, and less */
	EXPECT(r != MAP_FAILED && wrong(r, MIB, 1) == 0);
	EXPECT(mremap(q, MIB, 2 * MIB, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT); /* gone */
	/* many times, each a page longer */
	p = map(PAGE);
	fill(p, PAGE, 2);
	for (size_t n = 1; n < 200; n++) {
		p = mremap(p, n * PAGE, (n + 1) * PAGE, MREMAP_MAYMOVE);
		EXPECT(p != MAP_FAILED && zero(p + n * PAGE, PAGE));
		fill(p + n * PAGE, PAGE, n + 2);
		if (n % 50 == 0)
			push_out();
	}
	for (size_t n = 0; n < 200; n++)
		EXPECT(wrong(p + n * PAGE, PAGE, n + 2) == 0);
	/* a page out of the middle */
	q = mremap(p + 100 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, map(PAGE));
	EXPECT(
	    q != MAP_FAILED && wrong(q, PAGE, 102) == 0 && wrong(p + 101 * PAGE, PAGE, 103) == 0);
	EXPECT(
	    mincore(p + 100 * PAGE, PAGE, (unsigned char *)&(char){ 0 }) == -1 && errno == ENOMEM);
	/* shared memory: part of it elsewhere */
	p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fill(p, MIB, 7);
	push_out();
	q = mremap(p, MIB, 3 * MIB, MREMAP_MAYMOVE);
	EXPECT(q != MAP_FAILED && wrong(q, MIB, 7) == 0);
	return 0;
}

/*
 * Gives every kind of advice on memory with contents: checks the results and the contents
 * afterwards.
 */
static int advices(void)
{
	char *p = map(MIB);
	int fd = memfd_create("advice", 0);
	EXPECT(ftruncate(fd, MIB) == 0);
	char *s = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *a = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (int advice = 0; advice < 30; advice++) {
		/* the kernel decides whether the page is present afterwards */
		if (advice == MADV_FREE)
			continue;
		char *const all[] = { p, s, a };
		for (unsigned i = 0; i < 3; i++) {
			fill(all[i], MIB, (uint64_t)advice);
			push_out();
			int r = madvise(all[i], MIB, advice), e = r != 0 ? errno : 0;
			printf("%d %u: %s%s\n", advice, i, e == 0 ? "yes" : strerror(e),
			    wrong(all[i], MIB, (uint64_t)advice) == 0 ? ""
				: zero(all[i], MIB)                   ? ", empty"
								      : ", wrong");
		}
	}
	EXPECT(madvise(p, MIB, MADV_FREE) == 0);
	for (size_t i = 0; i < MIB; i += PAGE)
		EXPECT(zero(p + i, PAGE) || wrong(p, MIB, 29) == 0 || p[i] != 0);
	return 0;
}

/* Locks the rest of the program's memory as it is loaded. */
static int locked(void)
{
	char *p = map(MIB);

	fill(p, MIB, 1);
	report("mlockall", mlockall(MCL_FUTURE | MCL_ONFAULT));
	char *q = map(MIB);
	fill(q, MIB, 2);
	push_out();
	EXPECT(wrong(p, MIB, 1) == 0 && wrong(q, MIB, 2) == 0);
	EXPECT(munlockall() == 0);
	q = mmap(
	    NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
	EXPECT(q != MAP_FAILED);
	fill(q, MIB, 3);
	push_out();
	EXPECT(wrong(q, MIB, 3) == 0 && munlock(q, MIB) == 0 && wrong(q, MIB, 3) == 0);
	EXPECT(mlock2(p, MIB, MLOCK_ONFAULT) == 0 && mlock(p, MIB) == 0);
	push_out();
	EXPECT(wrong(p, MIB, 1) == 0 && munlock(p, MIB / 2) == 0);
	push_out();
	EXPECT(wrong(p, MIB, 1) == 0);
	return 0;
}

/* A collector's write barrier: pages closed to writing, opened one by one by the handler, which is told where. */
static char *heap_base;
static _Atomic unsigned opened, misled;
static void barrier(int sig, siginfo_t *si, void *context)
{
	char *at = si->si_addr;

	(void)sig;
	(void)context;
	if (at < heap_base || at >= heap_base + 256 * PAGE || si->si_code != SEGV_ACCERR)
		misled++;
	opened++;
	if (mprotect((char *)((uintptr_t)at & ~(uintptr_t)(PAGE - 1)), PAGE,
		PROT_READ | PROT_WRITE) != 0)
		_exit(3);
}

static void *mutator(void *arg)
{
	for (size_t i = (size_t)arg; i < 256; i += 2)
		heap_base[i * PAGE + i] = (char)i;
	return NULL;
}

static int collector(void)
{
	struct sigaction sa = { .sa_sigaction = barrier, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t st = { .ss_sp = map(64 * PAGE), .ss_size = 64 * PAGE };
	pthread_t t[2];

	EXPECT(sigaltstack(&st, NULL) == 0 && sigaction(SIGSEGV, &sa, NULL) == 0);
	heap_base = map(256 * PAGE);
	for (unsigned round = 0; round < 4; round++) {
		int closed = round % 2 == 0 ? PROT_READ : PROT_NONE;

		fill(heap_base, 256 * PAGE, round);
		push_out();
		opened = 0;
		EXPECT(mprotect(heap_base, 256 * PAGE, closed) == 0);
		push_out();
		for (size_t i = 0; i < 2; i++)
			EXPECT(pthread_create(&t[i], NULL, mutator, (void *)i) == 0);
		for (size_t i = 0; i < 2; i++)
			(void)pthread_join(t[i], NULL);
		EXPECT(opened == 256 && misled == 0);
		for (size_t i = 0; i < 256; i++)
			EXPECT(heap_base[i * PAGE + i] == (char)i &&
			    wrong(heap_base + i * PAGE + 512, PAGE - 512, 0) != 0);
	}
	sa.sa_handler = SIG_DFL;
	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0);
	return 0;
}

static sigjmp_buf back;
static void jumps(int sig, siginfo_t *si, void *context)
{
	(void)context;
	siglongjmp(back, sig == SIGSEGV && si->si_code == SEGV_ACCERR ? 1 : 2);
}

static void *tiny(void *arg)
{
	volatile char here[2048];

	memset((void *)(uintptr_t)here, (int)(intptr_t)arg, sizeof here);
	push_out();
	return (void *)(intptr_t)here[1000];
}

/*
 * Threads with the smallest permitted stack and a guard page each, and with a stack made by the
 * program.
 */
static int tiny_stacks(void)
{
	enum { N = 24 };
	pthread_t t[N];
	pthread_attr_t attr;
	char *own = map(N * 64 * 1024);

	for (unsigned way = 0; way < 2; way++) {
		for (size_t i = 0; i < N; i++) {
			EXPECT(pthread_attr_init(&attr) == 0 &&
			    pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN) == 0);
			if (way == 1)
				EXPECT(pthread_attr_setstack(
					   &attr, own + i * 64 * 1024, 64 * 1024) == 0);
			EXPECT(pthread_create(&t[i], &attr, tiny, (void *)(intptr_t)(i + 1)) == 0);
			(void)pthread_attr_destroy(&attr);
		}
		for (size_t i = 0; i < N; i++) {
			void *got;

			EXPECT(pthread_join(t[i], &got) == 0 && (size_t)(intptr_t)got == i + 1);
		}
	}
	/* a guard page of the program in the middle of paged-out memory */
	struct sigaction sa = { .sa_sigaction = jumps, .sa_flags = SA_SIGINFO };
	char *p = map(3 * PAGE);
	fill(p, 3 * PAGE, 1);
	push_out();
	EXPECT(mprotect(p + PAGE, PAGE, PROT_NONE) == 0 && sigaction(SIGSEGV, &sa, NULL) == 0);
	switch (sigsetjmp(back, 1)) {
	case 0:
		memset(p + PAGE - 8, 0, 16);
		printf("went on\n");
		break;
	case 1: printf("stopped at the guard\n"); break;
	default: printf("another signal\n");
	}
	EXPECT(wrong(p, PAGE - 8, 1) == 0 && wrong(p + 2 * PAGE, PAGE, 1) != 0);
	return 0;
}

const struct scenario kind_scenarios[] = {
	{ "huge", huge },
	{ "low", low },
	{ "grows-down", grows_down },
	{ "named", named },
	{ "unnamed", unnamed },
	{ "private-file", private_file },
	{ "moves", moves },
	{ "advices", advices },
	{ "locked", locked },
	{ "collector", collector },
	{ "tiny-stacks", tiny_stacks },
	{ NULL, NULL },
};
