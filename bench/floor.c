/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The floor: the cost of the kernel's own part of an in-thread fault, without any VM system.
 *
 *     floor [-n FAULTS] [-r REPEATS]
 *
 * Three figures, each a key with .min, .median and .max in microseconds:
 *
 *   signal_us   a fault on a registered page, delivered as SIGBUS, handled by
 *               doing nothing but zero-filling it in: less the zero-fill (below)
 *   move_us     UFFDIO_MOVE of one page in, and of one page out, outside any
 *               signal: the mean of the two
 *   cycle_us    both together, as a pager does it: touch a page that is away,
 *               in the handler move another one out to its frame's place in
 *               the arena, move the wanted one in, return
 *
 * Needs no privilege: UFFD_USER_MODE_ONLY with UFFD_FEATURE_SIGBUS.  One thread,
 * no write-protection, no store, no replacement decision.  Exit status 77 if the
 * kernel has no userfaultfd of this kind (UFFDIO_MOVE came with Linux 6.8).
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "workload.h"

/* Headers older than Linux 6.8 do not define the call. */
#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#define UFFD_FEATURE_MOVE (1 << 16)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define PAGE ((size_t)WL_PAGE)
#define SPAN 16384u /* pages of the managed range: 64 MiB of addresses */
#define MAX_REPEATS 101
#define SKIP 77

enum act { ZERO, CYCLE };

/* Used by the handler, which runs inside any access of the only thread: hence volatile. */
static volatile struct {
	int fd;
	enum act act;
	char *managed; /* SPAN pages; the only resident page is `resident` */
	char *arena;   /* SPAN pages: where a page is while it is paged out */
	size_t resident;
	uint64_t served;
} f;

static void fatal(const char *what)
{
	dprintf(2, "floor: %s: %s\n", what, strerror(errno));
	_exit(2);
}

/*
 * Some kernels return EEXIST after a move that succeeded; the content check at the end would catch
 * a page that really was not moved, so EEXIST is not treated as fatal here. EAGAIN asks the caller
 * to try again.
 */
static void move(char *to, char *from)
{
	struct uffdio_move m = { .dst = (uintptr_t)to, .src = (uintptr_t)from, .len = PAGE };

	while (ioctl(f.fd, UFFDIO_MOVE, &m) != 0) {
		if (errno == EEXIST)
			return;
		if (errno != EAGAIN)
			fatal("UFFDIO_MOVE");
		m.move = 0;
	}
}

static void zero(char *at)
{
	struct uffdio_zeropage z = { .range = { .start = (uintptr_t)at, .len = PAGE } };

	if (ioctl(f.fd, UFFDIO_ZEROPAGE, &z) != 0)
		fatal("UFFDIO_ZEROPAGE");
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	size_t page = (size_t)((char *)info->si_addr - f.managed) / PAGE;

	(void)number;
	(void)context;
	if (page >= SPAN)
		fatal("SIGBUS outside the managed range");
	if (f.act == ZERO) {
		zero(f.managed + page * PAGE);
	} else {
		move(f.arena + f.resident * PAGE, f.managed + f.resident * PAGE);
		move(f.managed + page * PAGE, f.arena + page * PAGE);
		f.resident = page;
	}
	f.served++;
}

static char *span(void)
{
	char *p =
	    mmap(NULL, SPAN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || madvise(p, SPAN * PAGE, MADV_NOHUGEPAGE) != 0)
		fatal("span");
	return p;
}

static void watch(char *p)
{
	struct uffdio_register r = {
		.range = { .start = (uintptr_t)p, .len = SPAN * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (ioctl(f.fd, UFFDIO_REGISTER, &r) != 0)
		fatal("UFFDIO_REGISTER");
}

static void set_up(void)
{
	struct uffdio_api api = { .api = UFFD_API,
		.features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MOVE };
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER };

	f.fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (f.fd < 0 || ioctl(f.fd, UFFDIO_API, &api) != 0) {
		printf("floor.unavailable %s\n", strerror(errno));
		exit(SKIP);
	}
	sigemptyset(&sa.sa_mask);
	if (sigaction(SIGBUS, &sa, NULL) != 0)
		fatal("sigaction");
	f.managed = span();
	f.arena = span();
	/* Both are registered: the destination of a move out into the arena must be registered,
	 * too. */
	watch(f.managed);
	watch(f.arena);
}

static void drop(char *p)
{
	if (madvise(p, SPAN * PAGE, MADV_DONTNEED) != 0)
		fatal("MADV_DONTNEED");
}

/* Signal with a zero-fill, and the same zero-fill without a signal. */
static double signal_round(size_t n)
{
	double with = 0, without = 0;

	f.act = ZERO;
	for (size_t done = 0; done < n;) {
		size_t some = n - done < SPAN ? n - done : SPAN;
		volatile char *p = f.managed;
		double began;

		drop(f.managed);
		began = wl_now_us();
		for (size_t i = 0; i < some; i++)
			(void)p[i * PAGE];
		with += wl_now_us() - began;
		drop(f.managed);
		began = wl_now_us();
		for (size_t i = 0; i < some; i++) {
			zero(f.managed + i * PAGE);
			(void)p[i * PAGE];
		}
		without += wl_now_us() - began;
		done += some;
	}
	drop(f.managed);
	return (with - without) / (double)n;
}

/*
 * Puts a numbered page at each place of the arena, and one of them at its address. Uses COPY: a
 * write after a zero-fill would leave the shared zero page behind first.
 */
static void populate(void)
{
	static _Alignas(WL_PAGE) uint64_t page[WL_WORDS];

	for (size_t i = 0; i < SPAN; i++) {
		struct uffdio_copy c = {
			.dst = (uintptr_t)(f.arena + i * PAGE), .src = (uintptr_t)page, .len = PAGE
		};

		page[0] = i;
		if (ioctl(f.fd, UFFDIO_COPY, &c) != 0)
			fatal("UFFDIO_COPY");
	}
	f.resident = 0;
	move(f.managed, f.arena);
}

static double move_round(size_t n)
{
	uint64_t x = 88172645463325252u;
	double began = wl_now_us();

	for (size_t i = 0; i < n; i++) {
		size_t page;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		page = (size_t)(x % (SPAN - 1)) + 1; /* not the resident page 0 */
		move(f.managed + page * PAGE, f.arena + page * PAGE);
		move(f.arena + page * PAGE, f.managed + page * PAGE);
	}
	return (wl_now_us() - began) / (double)(2 * n);
}

static double cycle_round(size_t n, uint64_t *errors)
{
	uint64_t x = 362436069362436069u, before = f.served;
	double began = wl_now_us();

	f.act = CYCLE;
	for (size_t i = 0; i < n; i++) {
		size_t page;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		page = (size_t)(x % SPAN);
		if (page == f.resident)
			page = (page + 1) % SPAN;
		*errors += *(volatile uint64_t *)(f.managed + page * PAGE) != page;
	}
	began = wl_now_us() - began;
	*errors += f.served - before != n;
	return began / (double)n;
}

static size_t number(const char *text, size_t high)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n < 1 || n > high) {
		fprintf(stderr, "floor: %s: not a number from 1 to %zu\n", text, high);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	double sig[MAX_REPEATS], mov[MAX_REPEATS], cyc[MAX_REPEATS];
	size_t n = 50000, repeats = 5;
	uint64_t errors = 0;
	int c;

	while ((c = getopt(argc, argv, "n:r:")) != -1) {
		switch (c) {
		case 'n': n = number(optarg, 1u << 28); break;
		case 'r': repeats = number(optarg, MAX_REPEATS); break;
		default: return 2;
		}
	}
	set_up();
	signal_round(n); /* warms up */
	for (size_t r = 0; r < repeats; r++)
		sig[r] = signal_round(n);
	populate();
	for (size_t r = 0; r < repeats; r++) {
		mov[r] = move_round(n);
		cyc[r] = cycle_round(n, &errors);
		/* Moves page 0 back to the place where move_round expects it. */
		(void)*(volatile uint64_t *)f.managed;
	}
	wl_print("floor.signal_us", sig, repeats);
	wl_print("floor.move_us", mov, repeats);
	wl_print("floor.cycle_us", cyc, repeats);
	printf("floor.errors %llu\n", (unsigned long long)errors);
	return errors != 0;
}
