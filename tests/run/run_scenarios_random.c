/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random calls on one piece of the address space: the result of each call, and every page of the
 * piece afterwards (its bytes, or the signal of a read), must be as natively.
 *
 * Left out: mremap of several mappings, for which results differ between kernels, and MADV_FREE and
 * MADV_COLLAPSE, whose outcome is the kernel's choice.
 */
#include "tests/run/run_scenarios.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 48u
static char *const space = (char *)0x200000000000; /* where no other mapping is near */

static uint64_t state;
static unsigned draw(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state % n);
}

static sigjmp_buf back;
static void caught(int sig, siginfo_t *si, void *context)
{
	(void)context;
	siglongjmp(back, sig * 100 + si->si_code);
}

/* The byte at p; or a number from 1000 on: the signal and its code. */
static int look(const char *p)
{
	int c = sigsetjmp(back, 1);

	return c != 0 ? 1000 + c : *(const volatile unsigned char *)p;
}

static int put(char *p, unsigned v)
{
	int c = sigsetjmp(back, 1);

	if (c != 0)
		return 1000 + c;
	*(volatile char *)p = (char)v;
	return 0;
}

static uint64_t mix(uint64_t h, uint64_t v) { return (h ^ v) * 1099511628211u; }

static uint64_t look_at_all(uint64_t h)
{
	for (unsigned i = 0; i < PAGES; i++)
		h = mix(
		    h, (uint64_t)(look(space + i * PAGE) * 4096 + look(space + i * PAGE + 2000)));
	return h;
}

static long in_a_child(void)
{
	int status;
	pid_t pid;

	(void)fflush(stdout);
	if ((pid = fork()) == 0) {
		uint64_t h = look_at_all(1);

		for (unsigned i = 0; i < PAGES; i += 3)
			(void)put(space + i * PAGE, 77);
		_exit((int)((h ^ h >> 32 ^ h >> 16 ^ h >> 8) & 127));
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static const int prots[] = { 0, 1, 2, 3, 3, 3, 1, 3, 5, 7 };
static const int advices[] = { 0, 1, 2, 3, 4, 4, 4, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
	21, 22, 23, 24, 102, 103, 12345 };

static long map_some(char *p, size_t len)
{
	int prot = prots[draw(10)],
	    flags = MAP_ANONYMOUS | (draw(6) == 0 ? MAP_SHARED : MAP_PRIVATE);

	flags |= draw(3) == 0 ? MAP_NORESERVE : 0;
	flags |= draw(5) == 0 ? MAP_POPULATE : 0;
	flags |= draw(12) == 0 ? MAP_LOCKED : 0;
	flags |= draw(4) == 0 ? MAP_FIXED_NOREPLACE : MAP_FIXED;
	return (long)mmap(p, len, prot, flags, -1, 0);
}

static long one_call(unsigned op, char *p, size_t len, unsigned k)
{
	unsigned char vec[PAGES];

	switch (op) {
	case 0:
	case 1: return map_some(p, len);
	case 2: return munmap(p, len);
	case 3:
	case 4:
	case 5:
	case 6: return mprotect(p, len, prots[draw(10)]);
	case 7:
	case 8:
	case 9: return madvise(p, len, advices[draw(sizeof advices / sizeof *advices)]);
	case 10:
		return (long)mremap(
		    p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, space + draw(PAGES) * PAGE);
	case 11: return mlock(p, len);
	case 12: return munlock(p, len);
	case 13: push_out(); return 0;
	case 14: return in_a_child();
	case 15: return mincore(p, len, vec);
	case 16: return msync(p, len, MS_ASYNC);
	default: break;
	}
	long faults = 0;
	for (size_t at = 0; at < len; at += PAGE) {
		faults = faults * 3 + put(p + at, k + (unsigned)(at / PAGE));
		faults = faults * 3 + put(p + at + 2000, k * 5);
	}
	return faults;
}

static int random_calls(void)
{
	struct sigaction sa = { .sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_NODEFER };

	EXPECT(sigaction(SIGSEGV, &sa, NULL) == 0 && sigaction(SIGBUS, &sa, NULL) == 0);
	/* the first ones, and one that met a mark lost with its guarded page */
	static const unsigned seeds[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 83 };

	for (unsigned i = 0; i < sizeof seeds / sizeof *seeds; i++) {
		unsigned seed = seeds[i];
		uint64_t h = 14695981039346656037u;

		state = seed * 0x9e3779b97f4a7c15u;
		for (unsigned k = 0; k < 60; k++) {
			unsigned a = draw(PAGES), n = 1 + draw(draw(3) != 0 ? 6 : PAGES);
			long r;

			n = a + n > PAGES ? PAGES - a : n;
			errno = 0;
			r = one_call(draw(19), space + a * PAGE, n * PAGE, k);
			h = look_at_all(mix(mix(h, (uint64_t)r), r == -1 ? (uint64_t)errno : 0));
			if (k % 10 == 9)
				printf("seed %u, %u calls: %lx\n", seed, k + 1, h);
		}
		EXPECT(munmap(space, PAGES * PAGE) == 0);
	}
	return 0;
}

const struct scenario random_scenarios[] = {
	{ "random-calls", random_calls },
	{ NULL, NULL },
};
