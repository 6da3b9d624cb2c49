/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scenarios of protection: every change of protection keeps the contents, and a forbidden access
 * raises the program's own signal.
 */
#include "tests/run/run_scenarios.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bool zero(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* Memory mapped with PROT_WRITE alone keeps its bytes when its pages leave their addresses. */
static int write_only(void)
{
	for (int flags = MAP_PRIVATE; flags <= MAP_PRIVATE + 1; flags++) {
		int kind = flags == MAP_PRIVATE ? MAP_PRIVATE : MAP_SHARED;
		char *p[4];

		for (int i = 0; i < 4; i++) {
			p[i] = mmap(NULL, 64 * PAGE, PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
			fill(p[i], 64 * PAGE, (uint64_t)i);
		}
		push_out();
		EXPECT(mprotect(p[0], 64 * PAGE, PROT_READ) == 0 && wrong(p[0], 64 * PAGE, 0) == 0);
		EXPECT(
		    mprotect(p[0], 64 * PAGE, PROT_WRITE) == 0 && wrong(p[0], 64 * PAGE, 0) == 0);
		fill(p[0], 64 * PAGE, 7);
		report_child("child", read_byte, p[1] + 5);
		EXPECT(wrong(p[0], 64 * PAGE, 7) == 0 && wrong(p[1], 64 * PAGE, 1) == 0);
		p[1] = mremap(p[1], 64 * PAGE, MIB, MREMAP_MAYMOVE);
		EXPECT(
		    p[1] != MAP_FAILED && (kind == MAP_SHARED || wrong(p[1], 64 * PAGE, 1) == 0));
		char *to = map(64 * PAGE);
		EXPECT(mremap(p[2], 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
		EXPECT(wrong(to, 64 * PAGE, 2) == 0);
		EXPECT(madvise(p[3], 64 * PAGE, MADV_DONTNEED) == 0);
		EXPECT(kind == MAP_SHARED ? wrong(p[3], 64 * PAGE, 3) == 0 : zero(p[3], 64 * PAGE));
	}
	return 0;
}

/*
 * One thread reads on and on, so that pages ahead of it are loaded; another closes pieces just
 * ahead, and the reader opens them.
 */
static char *ahead_base;
static _Atomic size_t ahead_at, ahead_faults;
static _Atomic bool ahead_end, ahead_misled;
#define AHEAD_PAGES 2048u
#define AHEAD_PIECE (4 * PAGE)

static void open_piece(int sig, siginfo_t *si, void *context)
{
	char *at = (char *)((uintptr_t)si->si_addr & ~(uintptr_t)(AHEAD_PIECE - 1));

	(void)context;
	if (sig != SIGSEGV || si->si_code != SEGV_ACCERR || at < ahead_base ||
	    at >= ahead_base + AHEAD_PAGES * PAGE ||
	    mprotect(at, AHEAD_PIECE, PROT_READ | PROT_WRITE) != 0) {
		ahead_misled = true;
		_exit(7);
	}
	ahead_faults++;
}

static void *close_ahead(void *prot)
{
	for (uint64_t r = 1; !ahead_end;) {
		r = r * 6364136223846793005u + 1442695040888963407u;
		size_t at = (ahead_at + PAGE + (r >> 33) % 8 * PAGE) & ~(size_t)(AHEAD_PIECE - 1);

		if (at + AHEAD_PIECE <= AHEAD_PAGES * PAGE)
			(void)mprotect(ahead_base + at, AHEAD_PIECE, (int)(intptr_t)prot);
	}
	return NULL;
}

static int close_against_read_ahead(void)
{
	struct sigaction sa = { .sa_sigaction = open_piece, .sa_flags = SA_SIGINFO | SA_NODEFER };
	char *all = map((AHEAD_PAGES + 4) * PAGE);
	pthread_t t;

	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0);
	ahead_base = (char *)(((uintptr_t)all + AHEAD_PIECE - 1) & ~(uintptr_t)(AHEAD_PIECE - 1));
	fill(ahead_base, AHEAD_PAGES * PAGE, 3);
	for (int prot = PROT_NONE; prot <= PROT_READ; prot++) {
		ahead_end = false;
		EXPECT(pthread_create(&t, NULL, close_ahead, (void *)(intptr_t)prot) == 0);
		for (int round = 0; round < 6; round++)
			for (size_t at = 0; at < AHEAD_PAGES * PAGE; at += PAGE) {
				ahead_at = at;
				if (prot == PROT_READ) /* the write barrier of a collector */
					*(volatile char *)(ahead_base + at) =
					    *(volatile char *)(ahead_base + at);
				EXPECT(wrong(ahead_base + at, PAGE, 3) != 0 || at == 0);
			}
		ahead_end = true;
		EXPECT(pthread_join(t, NULL) == 0);
		EXPECT(mprotect(ahead_base, AHEAD_PAGES * PAGE, PROT_READ | PROT_WRITE) == 0);
		EXPECT(wrong(ahead_base, AHEAD_PAGES * PAGE, 3) == 0);
	}
	return ahead_misled;
}

/*
 * Closes a range that lies in many mappings while a thread writes to it. The pages then do not move
 * in one call, and no write may be lost in between.
 */
#define SEVERAL 64u
static _Atomic(uint64_t) *several;
static uint64_t several_written[SEVERAL];
static _Atomic bool several_end;

static void closed_for_now(int sig, siginfo_t *si, void *context)
{
	(void)context;
	if (sig != SIGSEGV || si->si_code != SEGV_ACCERR)
		_exit(7);
	(void)sched_yield();
}

static void *write_several(void *arg)
{
	while (!several_end)
		for (unsigned i = 0; i < SEVERAL; i++) {
			several[i * PAGE / 8]++;
			several_written[i]++;
		}
	return arg;
}

static int close_several_mappings(void)
{
	struct sigaction sa = { .sa_sigaction = closed_for_now,
		.sa_flags = SA_SIGINFO | SA_NODEFER };
	size_t len = SEVERAL * PAGE;
	unsigned lost = 0;
	pthread_t t;

	several = map(len);
	for (unsigned i = 0; i < SEVERAL; i += 2)
		EXPECT(madvise((char *)several + i * PAGE, PAGE, MADV_DONTDUMP) == 0);
	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0 &&
	    pthread_create(&t, NULL, write_several, NULL) == 0);
	for (int round = 0; round < 300; round++) {
		EXPECT(mprotect((void *)several, len, round % 2 == 0 ? PROT_NONE : PROT_READ) == 0);
		EXPECT(mprotect((void *)several, len, PROT_READ | PROT_WRITE) == 0);
	}
	several_end = true;
	EXPECT(pthread_join(t, NULL) == 0);
	for (unsigned i = 0; i < SEVERAL; i++)
		lost += several[i * PAGE / 8] != several_written[i];
	printf("%u pages lack a write\n", lost);
	sa.sa_handler = SIG_DFL;
	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0);
	return 0;
}

/* A meaningless bit of protection must not be taken for a separate kind of protection. */
static int idle_bit_of_protection(void)
{
	char *p = mmap(NULL, MIB, PROT_NONE | 8, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	report_child("none", read_byte, p);
	EXPECT(mprotect(p, MIB, PROT_READ | PROT_WRITE | 8) == 0);
	fill(p, MIB, 1);
	push_out();
	EXPECT(wrong(p, MIB, 1) == 0 && mprotect(p, MIB, 8) == 0);
	report_child("none", read_byte, p);
	EXPECT(mprotect(p, MIB, PROT_READ | 8) == 0 && wrong(p, MIB, 1) == 0);
	report("unknown bit", mprotect(p, MIB, PROT_READ | 16));
	return 0;
}

/* Memory made read-only: read, made writable and written, moved, forked, dropped. */
static int read_only(void)
{
	char *p = map(2 * MIB), *q;

	fill(p, 2 * MIB, 1);
	push_out();
	EXPECT(mprotect(p, 2 * MIB, PROT_READ) == 0);
	push_out();
	EXPECT(wrong(p, 2 * MIB, 1) == 0);
	push_out();
	for (size_t at = 0; at < 2 * MIB; at += 8 * PAGE)
		EXPECT(mprotect(p + at, PAGE, PROT_READ | PROT_WRITE) == 0);
	for (size_t at = 0; at < 2 * MIB; at += 8 * PAGE)
		p[at]++;
	for (size_t at = 0; at < 2 * MIB; at += 8 * PAGE)
		p[at]--;
	push_out();
	EXPECT(wrong(p, 2 * MIB, 1) == 0);
	EXPECT(mprotect(p, 2 * MIB, PROT_READ) == 0);
	report_child("child", read_byte, p + MIB);
	report("read into it", read(open("/dev/zero", O_RDONLY), p, PAGE));
	q = mremap(p, MIB, 2 * MIB, MREMAP_MAYMOVE);
	EXPECT(q != MAP_FAILED && wrong(q, MIB, 1) == 0);
	report("populate", madvise(q, MIB, MADV_POPULATE_WRITE));
	EXPECT(madvise(q, MIB, MADV_POPULATE_READ) == 0 && madvise(q, PAGE, MADV_DONTNEED) == 0 &&
	    zero(q, PAGE));
	EXPECT(mprotect(q, MIB, PROT_NONE) == 0 && mprotect(q, MIB, PROT_READ) == 0 &&
	    wrong(q, MIB, 1) == 512);
	push_out();
	EXPECT(mprotect(q, MIB, PROT_READ | PROT_EXEC) == 0 && wrong(q, MIB, 1) == 512);
	EXPECT(munmap(q, 2 * MIB) == 0);
	q = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* and from the start */
	report("populate from the start", madvise(q, MIB, MADV_POPULATE_READ));
	report("drop from the start", madvise(q, MIB, MADV_DONTNEED));
	EXPECT(zero(q, MIB) && munmap(q, MIB) == 0);
	return 0;
}

/* Memory was only read, and forked before the first write: the child's read once never ended. */
static int only_read_then_forked(void)
{
	/* an address without neighbours: the mapping must not be joined with a written mapping */
	char *p = mmap((void *)0x200000000000, 16 * PAGE, PROT_READ,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	EXPECT(zero(p, 16 * PAGE) && mprotect(p, 8 * PAGE, PROT_READ | PROT_WRITE) == 0);
	report_child("child", read_byte, p + PAGE);
	p[2 * PAGE] = 5;
	report_child("child", read_byte, p + 2 * PAGE);
	report_child("child", read_byte, p + 3 * PAGE);
	EXPECT(zero(p, 2 * PAGE) && zero(p + 3 * PAGE, 13 * PAGE));
	return 0;
}

/*
 * A thread gets the right signals while another thread removes the memory that it uses. Address and
 * code of the signals are right.
 */
static sigjmp_buf hit_back;
static _Atomic(char *) hit_page;
static void hit(int sig, siginfo_t *si, void *context)
{
	(void)context;
	siglongjmp(hit_back, sig == SIGSEGV && (char *)si->si_addr == hit_page ? si->si_code : 99);
}

static _Atomic bool hit_using;
static void *take_away(void *how)
{
	while (!hit_using)
		(void)sched_yield();
	if ((intptr_t)how == 0)
		EXPECT(munmap(hit_page, PAGE) == 0);
	else
		EXPECT(mprotect(hit_page, PAGE, (intptr_t)how == 1 ? PROT_NONE : PROT_READ) == 0);
	return NULL;
}

static int own_signals(void)
{
	struct sigaction sa = { .sa_sigaction = hit, .sa_flags = SA_SIGINFO };
	volatile int code[3][3] = { 0 };
	pthread_t t;

	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0);
	for (volatile int i = 0; i < 60; i++) {
		volatile int how = i % 3;

		hit_page = map(PAGE);
		if (i % 2 == 0)
			push_out();
		hit_using = false;
		EXPECT(pthread_create(&t, NULL, take_away, (void *)(intptr_t)how) == 0);
		int c = sigsetjmp(hit_back, 1);
		if (c == 0)
			for (;;) {
				(*(volatile char *)hit_page)++;
				hit_using = true;
			}
		code[how][c == SEGV_MAPERR ? 0 : c == SEGV_ACCERR ? 1 : 2]++;
		EXPECT(pthread_join(t, NULL) == 0);
	}
	for (int how = 0; how < 3; how++)
		printf("%d: %d not mapped, %d not allowed, %d else\n", how, code[how][0],
		    code[how][1], code[how][2]);
	sa.sa_handler = SIG_DFL;
	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0);
	return 0;
}

const struct scenario protect_scenarios[] = {
	{ "write-only", write_only },
	{ "read-only", read_only },
	{ "close-several-mappings", close_several_mappings },
	{ "idle-bit-of-protection", idle_bit_of_protection },
	{ "close-against-read-ahead", close_against_read_ahead },
	{ "own-signals", own_signals },
	{ "only-read-then-forked", only_read_then_forked },
	{ NULL, NULL },
};
