/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Measures the kernel's parts of a fault under `quire run`, each alone. All threads are on one CPU, unless a key below says
 * otherwise.
 *
 *     parts [-n PAGES] [-r REPEATS]
 *
 * Keys with .min, .median and .max, in microseconds a page; pages in random order:
 *
 *   served_us    a fault on a missing page that another thread of the process, on the same CPU, answers by a copy: the floor of
 *                a fault under `quire run`
 *   across_us    the same fault, answered by a thread on another CPU; not printed if this process may use one CPU only
 *   polled_us    the same as across_us, but that thread polls the descriptor without ever sleeping
 *   slot_us      an empty slot of the arena is filled and its page moved in
 *   stage_us     a resident page is filled and copied in
 *   out_us       a page moves to the arena
 *   drop_us      memory of the arena is given back, 32 pages a call
 *   look_us      PAGEMAP_SCAN tells which pages were written, all at once
 *   protect_us   the same, and protects all of them
 *   write_us     a write to a page that is protected in this way: the kernel notes it
 *
 * Exit status 77 if the kernel lacks a part (Linux 6.8 has all), or does not let this user use it.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "workload.h"

/* Definitions that older headers lack; numbers of the kernel's interface. */
struct move_args {
	uint64_t dst, src, len, mode;
	int64_t moved;
};
struct scan_args {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, any,
	    result;
};
struct scan_region {
	uint64_t start, end, categories;
};
#define DO_MOVE _IOWR(0xAA, 0x05, struct move_args)
#define DO_SCAN _IOWR('f', 16, struct scan_args)
#define FEATURES (1ull << 15 | 1ull << 16 | UFFD_FEATURE_PAGEFAULT_FLAG_WP) /* WP_ASYNC, MOVE */
#define WRITTEN (2u | 8u)                                                   /* and present */
#define SELF (-10000) /* process_madvise: this process, Linux 6.14 */

#define PAGE ((size_t)WL_PAGE)
#define MAX_REPEATS 101
#define BATCH 32u
#define SKIP 77

static struct {
	int fd, map;
	size_t n;
	uint32_t *order;
	char *at, *arena, *stage;
	int other; /* the CPU of the thread that serves, for across_us and polled_us; -1: none */
} p;

/* Where the thread that serves faults runs, and how it waits for them. */
enum server { SLEEPS_HERE, SLEEPS_ELSEWHERE, POLLS_ELSEWHERE };

static void skip(const char *what)
{
	printf("parts.unavailable %s: %s\n", what, strerror(errno));
	exit(SKIP);
}

static void fatal(const char *what)
{
	fprintf(stderr, "parts: %s: %s\n", what, strerror(errno));
	exit(2);
}

static char *span(size_t pages)
{
	char *m =
	    mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (m == MAP_FAILED || madvise(m, pages * PAGE, MADV_NOHUGEPAGE) != 0)
		fatal("memory");
	return m;
}

static void watch(char *at, uint64_t mode)
{
	struct uffdio_register r = { .range = { (uintptr_t)at, p.n * PAGE }, .mode = mode };

	if (ioctl(p.fd, UFFDIO_REGISTER, &r) != 0)
		skip("UFFDIO_REGISTER");
}

static void bind_to(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((unsigned)cpu, &one);
	if (sched_setaffinity(0, sizeof one, &one) != 0)
		fatal("sched_setaffinity");
}

static void choose_cpus(void)
{
	int here = sched_getcpu();
	cpu_set_t own;

	if (here < 0 || sched_getaffinity(0, sizeof own, &own) != 0)
		fatal("sched_getaffinity");
	p.other = -1;
	for (int cpu = 0; cpu < CPU_SETSIZE && p.other < 0; cpu++)
		if (cpu != here && CPU_ISSET((unsigned)cpu, &own))
			p.other = cpu;
	bind_to(here);
}

static void set_up(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = FEATURES };
	uint64_t x = 88172645463325252u;

	choose_cpus();
	p.fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (p.fd < 0 || ioctl(p.fd, UFFDIO_API, &api) != 0)
		skip("userfaultfd");
	if ((p.map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)) < 0)
		skip("pagemap");
	p.at = span(p.n);
	p.arena = span(p.n);
	p.stage = span(1);
	watch(p.at, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP);
	watch(p.arena, UFFDIO_REGISTER_MODE_WP);
	if ((p.order = malloc(p.n * sizeof *p.order)) == NULL)
		fatal("memory");
	for (size_t i = 0; i < p.n; i++) {
		size_t j;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		j = x % (i + 1);
		p.order[i] = p.order[j];
		p.order[j] = (uint32_t)i;
	}
}

static char *page_of(char *base, size_t i) { return base + p.order[i] * PAGE; }

static void copy_in(uint64_t at)
{
	struct uffdio_copy c = { .dst = at, .src = (uintptr_t)p.stage, .len = PAGE };

	while (ioctl(p.fd, UFFDIO_COPY, &c) != 0)
		if (errno != EAGAIN)
			fatal("UFFDIO_COPY");
}

static void move_page(char *to, char *from)
{
	struct move_args m = { .dst = (uintptr_t)to, .src = (uintptr_t)from, .len = PAGE };

	while (ioctl(p.fd, DO_MOVE, &m) != 0)
		if (errno != EAGAIN)
			skip("UFFDIO_MOVE");
}

static void scan_all(bool protect)
{
	static struct scan_region regions[4096];

	for (uint64_t at = (uintptr_t)p.at, end = at + p.n * PAGE; at < end;) {
		struct scan_args s = { .size = sizeof s,
			.flags = protect ? 1 : 0,
			.start = at,
			.end = end,
			.vec = (uintptr_t)regions,
			.vec_len = sizeof regions / sizeof regions[0],
			.mask = WRITTEN,
			.result = WRITTEN };

		if (ioctl(p.map, DO_SCAN, &s) < 0)
			skip("PAGEMAP_SCAN");
		at = s.walk_end;
	}
}

static void drop_all(char *base)
{
	if (madvise(base, p.n * PAGE, MADV_DONTNEED) != 0)
		fatal("MADV_DONTNEED");
}

static void drop_scattered(void)
{
	struct iovec v[BATCH];

	for (size_t i = 0; i < p.n; i += BATCH) {
		for (size_t j = 0; j < BATCH; j++)
			v[j] = (struct iovec){ page_of(p.arena, i + j), PAGE };
		if (syscall(SYS_process_madvise, SELF, v, BATCH, MADV_DONTNEED, 0) < 0)
			skip("process_madvise");
	}
}

static void *serve(void *arg)
{
	const enum server *how = arg;
	struct uffd_msg msg;

	if (*how != SLEEPS_HERE)
		bind_to(p.other);
	for (size_t i = 0; i < p.n; i++) {
		while (read(p.fd, &msg, sizeof msg) != (long)sizeof msg)
			if (*how != POLLS_ELSEWHERE || errno != EAGAIN)
				fatal("read");
		copy_in(msg.arg.pagefault.address & ~(uint64_t)(PAGE - 1));
	}
	return NULL;
}

static double served_round(enum server how)
{
	double began;
	pthread_t t;

	if (fcntl(p.fd, F_SETFL, how == POLLS_ELSEWHERE ? O_NONBLOCK : 0) != 0)
		fatal("fcntl");
	began = wl_now_us();
	if (pthread_create(&t, NULL, serve, &how) != 0)
		fatal("pthread_create");
	for (size_t i = 0; i < p.n; i++)
		*(volatile char *)page_of(p.at, i) = 1;
	if (pthread_join(t, NULL) != 0)
		fatal("pthread_join");
	began = wl_now_us() - began;
	drop_all(p.at);
	return began / (double)p.n;
}

enum part {
	SERVED,
	SLOT,
	OUT,
	DROP,
	STAGE,
	LOOK,
	PROTECT,
	WRITE,
	PARTS,
	ACROSS = PARTS,
	POLLED,
	ALL
};

/* One round of the parts on one CPU. Each part leaves the state that the next part needs. */
static void run_round(double *us)
{
	double t[PARTS + 1];

	us[SERVED] = served_round(SLEEPS_HERE);
	t[SLOT] = wl_now_us();
	for (size_t i = 0; i < p.n; i++) {
		memset(page_of(p.arena, i), (int)i, PAGE);
		move_page(page_of(p.at, i), page_of(p.arena, i));
	}
	t[OUT] = wl_now_us();
	for (size_t i = 0; i < p.n; i++)
		move_page(page_of(p.arena, i), page_of(p.at, i));
	t[DROP] = wl_now_us();
	drop_scattered();
	t[STAGE] = wl_now_us();
	for (size_t i = 0; i < p.n; i++) {
		memset(p.stage, (int)i, PAGE);
		copy_in((uintptr_t)page_of(p.at, i));
	}
	t[LOOK] = wl_now_us();
	scan_all(false);
	t[PROTECT] = wl_now_us();
	scan_all(true);
	t[WRITE] = wl_now_us();
	for (size_t i = 0; i < p.n; i++)
		*(volatile char *)page_of(p.at, i) = 1;
	t[PARTS] = wl_now_us();
	for (int k = SLOT; k < PARTS; k++)
		us[k] = (t[k + 1] - t[k]) / (double)p.n;
	drop_all(p.at);
}

static size_t number(const char *text, size_t low, size_t high)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n < low || n > high) {
		fprintf(stderr, "parts: %s: not a number from %zu to %zu\n", text, low, high);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	static const char *const names[ALL] = { "parts.served_us", "parts.slot_us", "parts.out_us",
		"parts.drop_us", "parts.stage_us", "parts.look_us", "parts.protect_us",
		"parts.write_us", "parts.across_us", "parts.polled_us" };
	static double us[ALL][MAX_REPEATS];
	double one[PARTS];
	size_t repeats = 5;
	int c;

	p.n = 16384;
	while ((c = getopt(argc, argv, "n:r:")) != -1) {
		switch (c) {
		case 'n': p.n = number(optarg, BATCH, 1u << 24) / BATCH * BATCH; break;
		case 'r': repeats = number(optarg, 1, MAX_REPEATS); break;
		default: return 2;
		}
	}
	set_up();
	run_round(one); /* warms up */
	for (size_t r = 0; r < repeats; r++) {
		run_round(one);
		for (int k = 0; k < PARTS; k++)
			us[k][r] = one[k];
	}
	/*
	 * Last, because the kernel then also flushes the other CPU's TLB when a page of this
	 * process moves.
	 */
	for (size_t r = 0; r < repeats && p.other >= 0; r++) {
		us[ACROSS][r] = served_round(SLEEPS_ELSEWHERE);
		us[POLLED][r] = served_round(POLLS_ELSEWHERE);
	}
	for (int k = 0; k < (p.other >= 0 ? ALL : PARTS); k++)
		wl_print(names[k], us[k], repeats);
	return 0;
}
