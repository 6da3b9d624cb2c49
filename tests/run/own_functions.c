/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program that has functions of the C library's names (linked with -rdynamic): an allocator, a
 * clock, copies and strings. Each function counts its calls in memory that is paged out by then.
 * Only this program's threads may call these functions, and not before main() has begun: the
 * service thread would wait for itself, and a sanitizer's functions would not be ready. Prints its
 * results, which are the same natively and hosted.
 */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGES 3000u

static unsigned char (*volatile counts)[4096]; /* NULL: main() has not begun */
static volatile unsigned long calls;

static void fail(const char *name)
{
	(void)syscall(SYS_write, 2, name, __builtin_strlen(name));
	(void)syscall(SYS_write, 2, ": not called by the program\n", 28);
	(void)syscall(SYS_exit_group, 99);
}

/* Threads of the program have a name that the kernel shows; the runtime's thread has the program's, but blocks all signals. */
static void counted(const char *name)
{
	unsigned long mask = 0;

	(void)syscall(SYS_rt_sigprocmask, 0, NULL, &mask, 8);
	if (counts == NULL || (mask & 1ul << 10) != 0)
		fail(name);
	counts[calls++ % PAGES][7]++;
}

/* Called by the C library itself, too, before main(): only the thread is looked at. */
static void counted_if_ready(const char *name)
{
	if (counts != NULL)
		counted(name);
}

void *memcpy(void *restrict d, const void *restrict s, size_t n)
{
	counted("memcpy");
	for (size_t i = 0; i < n; i++)
		((volatile char *)d)[i] = ((const char *)s)[i];
	return d;
}

void *memmove(void *d, const void *s, size_t n)
{
	counted("memmove");
	if (d > s)
		for (size_t i = n; i-- > 0;)
			((volatile char *)d)[i] = ((const char *)s)[i];
	else
		for (size_t i = 0; i < n; i++)
			((volatile char *)d)[i] = ((const char *)s)[i];
	return d;
}

void *memset(void *d, int c, size_t n)
{
	counted("memset");
	for (size_t i = 0; i < n; i++)
		((volatile char *)d)[i] = (char)c;
	return d;
}

int memcmp(const void *a, const void *b, size_t n)
{
	counted("memcmp");
	for (size_t i = 0; i < n; i++)
		if (((const volatile unsigned char *)a)[i] != ((const unsigned char *)b)[i])
			return 1;
	return 0;
}

size_t strlen(const char *s)
{
	size_t n = 0;

	counted("strlen");
	while (((const volatile char *)s)[n] != '\0')
		n++;
	return n;
}

int clock_gettime(clockid_t c, struct timespec *t)
{
	counted("clock_gettime");
	return (int)syscall(SYS_clock_gettime, c, t);
}

unsigned long getauxval(unsigned long type)
{
	counted("getauxval");
	return 0;
}

int dl_iterate_phdr(int (*f)(struct dl_phdr_info *, size_t, void *), void *arg)
{
	counted("dl_iterate_phdr");
	return 0;
}

int *__errno_location(void)
{
	static __thread int e;

	return &e;
}

unsigned long long ZSTD_trace_compress_begin(const void *ctx)
{
	counted("ZSTD_trace_compress_begin");
	return 0;
}

unsigned long long ZSTD_trace_decompress_begin(const void *ctx)
{
	counted("ZSTD_trace_decompress_begin");
	return 0;
}

/* An allocator: pieces of one mapping, never given back. */
static char heap[64 << 10], *next = heap;

void *malloc(size_t n)
{
	char *p = __atomic_fetch_add(&next, (n + 31) & ~(size_t)15, __ATOMIC_RELAXED);

	counted_if_ready("malloc");
	if (p + n + 31 > heap + sizeof heap)
		return NULL;
	*(size_t *)(void *)p = n;
	return p + 16;
}

void *calloc(size_t n, size_t m) { return malloc(n * m); }
void free(void *p) { counted_if_ready("free"); }
void *realloc(void *p, size_t n) { return p == NULL ? malloc(n) : NULL; }

/* Reads all memory twice; returns the sum of its words. */
static void *work(void *arg)
{
	unsigned char(*mem)[4096] = arg;
	unsigned long sum = 0;

	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < PAGES; i++) {
			mem[i][i % 4096] = (unsigned char)(i + round);
			sum += mem[i][i % 4096] + mem[i][(i + 1) % 4096];
		}
	return (void *)sum;
}

int main(void)
{
	unsigned char(*mine)[4096] =
	    mmap(NULL, PAGES * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		 (*mem)[4096];
	struct timespec t;
	pthread_t thread;
	void *sum;
	int status = 0;

	mem = mmap(NULL, PAGES * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < PAGES; i++)
		mine[i][7] = 0;
	counts = mine;
	if (pthread_create(&thread, NULL, work, mem) != 0 || pthread_join(thread, &sum) != 0)
		return 1;
	for (unsigned i = 0; i < PAGES;
	     i++) { /* every page of the counts is touched, and the clock read */
		unsigned long before = calls;

		if (clock_gettime(CLOCK_MONOTONIC, &t) != 0 || calls != before + 1)
			return 2;
	}
	pid_t pid = fork();
	if (pid == 0)
		_exit(work(mem) == sum ? 0 : 3);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return 3;
	counts = NULL; /* further calls are the C library's */
	printf("sum %lu\n", (unsigned long)sum);
	return 0;
}
