/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory pressure on every CPU, checked byte by byte against a model: `soak PROCESSES SECONDS`.
 *
 * Each process has 12 MiB of private memory, of which two threads own half each, and all share 8
 * MiB, of which each thread owns some pages. A step writes a whole page of the thread with bytes
 * derived from a number, or reads a page and compares every byte. In between a process forks a
 * child, which checks a snapshot of all private memory and then writes to it; sends pages through a
 * pipe; maps and unmaps; and reads a file that is larger than its share of the page cache. Prints
 * "soak: N steps, M wrong" and ends with M != 0.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, OWN = 3072, SHARED = 2048, THREADS = 2, MAX = 8, FILE_PAGES = 512 };

static uint8_t *own, *shared;
static uint32_t own_is[OWN], shared_is[SHARED];
static struct counts {
	uint64_t steps, wrong;
} * counts; /* shared: one for each process */
static int me, processes;
static time_t until;
static pthread_barrier_t both;

static uint64_t next(uint64_t *rng)
{
	*rng ^= *rng << 13;
	*rng ^= *rng >> 7;
	return *rng ^= *rng << 17;
}

static void write_page(uint8_t *p, uint32_t number)
{
	for (unsigned i = 0; i < PAGE / 4; i++)
		((uint32_t *)(void *)p)[i] = number == 0 ? 0 : number * 2654435761u + i;
}

static int page_is(const uint8_t *p, uint32_t number)
{
	for (unsigned i = 0; i < PAGE / 4; i++)
		if (((const uint32_t *)(const void *)p)[i] !=
		    (number == 0 ? 0 : number * 2654435761u + i))
			return 0;
	return 1;
}

static void count_wrong(const char *what, unsigned page)
{
	if (__atomic_fetch_add(&counts[me].wrong, 1, __ATOMIC_RELAXED) == 0) {
		printf("soak: process %d: wrong bytes %s, page %u\n", me, what, page);
		fflush(stdout);
	}
}

static void step_on(uint8_t *base, uint32_t *is, unsigned page, uint64_t r, const char *what)
{
	if (!page_is(base + (size_t)page * PAGE, is[page]))
		count_wrong(what, page);
	if (r & 1) {
		is[page] = (uint32_t)(r >> 8) | 1;
		write_page(base + (size_t)page * PAGE, is[page]);
	}
	counts[me].steps++;
}

/* The child sees all memory as it is now, and its writes stay private. */
static void check_a_fork(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		int bad = 0;

		for (unsigned i = 0; i < OWN; i += 5) {
			bad |= !page_is(own + (size_t)i * PAGE, own_is[i]);
			write_page(own + (size_t)i * PAGE, ~own_is[i]);
		}
		for (unsigned i = 0; i < OWN; i++)
			bad |=
			    !page_is(own + (size_t)i * PAGE, i % 5 == 0 ? ~own_is[i] : own_is[i]);
		_exit(bad);
	}
	if (pid > 0 && (waitpid(pid, &status, 0) != pid || status != 0))
		count_wrong("after a fork", (unsigned)status);
}

static void check_a_pipe(uint64_t r)
{
	enum { N = 8 };
	uint8_t *from =
	    mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *to =
	    mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec out = { from, N * PAGE }, in = { to, N * PAGE };
	int fd[2];

	if (from == MAP_FAILED || to == MAP_FAILED || pipe(fd) != 0)
		return;
	for (unsigned i = 0; i < N; i++)
		write_page(from + i * PAGE, (uint32_t)r + i);
	if (vmsplice(fd[1], &out, 1, SPLICE_F_GIFT) == N * PAGE &&
	    vmsplice(fd[0], &in, 1, 0) == N * PAGE)
		for (unsigned i = 0; i < N; i++)
			if (!page_is(to + i * PAGE, (uint32_t)r + i))
				count_wrong("through a pipe", i);
	close(fd[0]);
	close(fd[1]);
	munmap(from, N * PAGE);
	munmap(to, N * PAGE);
}

static void check_a_file(int fd, uint64_t r)
{
	uint8_t page[PAGE];
	unsigned i = (unsigned)(r % FILE_PAGES);

	if (pread(fd, page, PAGE, (off_t)i * PAGE) != PAGE || !page_is(page, i + 1))
		count_wrong("of a file", i);
}

static void *run_thread(void *arg)
{
	unsigned t = (unsigned)(uintptr_t)arg, owner = (unsigned)me * THREADS + t,
		 owners = (unsigned)processes * THREADS;
	uint64_t rng = 88172645463325252ull + 7919 * owner;
	int fd = open("/tmp/soak-file", O_RDONLY);

	for (unsigned round = 1;; round++) {
		for (unsigned i = 0; i < 400; i++) {
			uint64_t r = next(&rng);

			step_on(own, own_is, (unsigned)(r >> 40) % (OWN / THREADS) * THREADS + t, r,
			    "of its own");
			if (i % 4 == 0)
				step_on(shared, shared_is,
				    (unsigned)(r >> 36) % (SHARED / owners) * owners + owner, r,
				    "shared");
			if (i % 16 == 0)
				check_a_file(fd, r >> 20);
		}
		check_a_pipe(next(&rng));
		if (round % 8 == 0) { /* no thread writes while a snapshot is taken and checked */
			pthread_barrier_wait(&both);
			if (t == 0)
				check_a_fork();
			if (t == 0 && time(NULL) >= until)
				until = 0;
			pthread_barrier_wait(&both);
			if (until == 0)
				return NULL;
		}
	}
}

static int run_process(void)
{
	pthread_t thread[THREADS];

	own = mmap(
	    NULL, (size_t)OWN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (own == MAP_FAILED)
		return 2;
	pthread_barrier_init(&both, NULL, THREADS);
	for (unsigned t = 0; t < THREADS; t++)
		if (pthread_create(&thread[t], NULL, run_thread, (void *)(uintptr_t)t) != 0)
			return 2;
	for (unsigned t = 0; t < THREADS; t++)
		pthread_join(thread[t], NULL);
	return counts[me].wrong != 0;
}

int main(int argc, char **argv)
{
	uint64_t steps = 0, wrong = 0;
	int fd = open("/tmp/soak-file", O_RDWR | O_CREAT | O_TRUNC, 0600), bad = 0, status;
	uint8_t page[PAGE];

	processes = argc > 1 ? atoi(argv[1]) : 4;
	if (processes < 1 || processes > MAX)
		return 2;
	for (unsigned i = 0; i < FILE_PAGES; i++) {
		write_page(page, i + 1);
		if (write(fd, page, PAGE) != PAGE)
			return 2;
	}
	close(fd);
	shared = mmap(
	    NULL, (size_t)SHARED * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	counts = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	until = time(NULL) + (argc > 2 ? atoi(argv[2]) : 10);
	for (me = 0; me < processes; me++)
		if (fork() == 0)
			_exit(run_process());
	for (int i = 0; i < processes; i++)
		bad |= wait(&status) < 0 || status != 0;
	for (int i = 0; i < processes; i++) {
		steps += counts[i].steps;
		wrong += counts[i].wrong;
	}
	printf("soak: %lu steps, %lu wrong%s\n", steps, wrong,
	    bad ? ", and a process ended badly" : "");
	unlink("/tmp/soak-file");
	return bad || wrong != 0;
}
