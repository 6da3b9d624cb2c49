/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a page costs on its way into the store and out of it: memory tier, then through the file. Pages compress about 2.2 times.
 * Prints ns a page, the best of five passes (file: one pass), and the ratio.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "store/pool.h"
#include "store/swapfile.h"

#define PAGE 4096u
#define N    8192u

static uint8_t pages[N][PAGE];
static uint32_t handles[N];

/* Records as programs have them: a counter, a small number, a random word, a constant. */
static void fill(void)
{
	uint64_t x = 88172645463325252ull;

	for (unsigned n = 0; n < N; n++)
		for (unsigned i = 0; i < PAGE / 8; i++) {
			uint64_t w;

			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			w = i % 4 == 0 ? n * 128 + i / 4 : i % 4 == 1 ? x % 100 : i % 4 == 2 ? x & 0xffffu : 0;
			memcpy(&pages[n][i * 8], &w, 8);
		}
}

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void die(const char *what, int rc)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-rc));
	exit(1);
}

static void run(const char *name, uint64_t mem_limit, uint64_t file_limit, unsigned passes)
{
	struct pool_config c = { .mem_limit = mem_limit, .file_limit = file_limit, .max_objects = 2 * N };
	size_t size = pool_shared_size(&c);
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *why = "";
	int fd = file_limit != 0 ? swapfile_open(NULL, file_limit, &why) : -1, rc;
	double in = 1e18, out = 1e18;
	struct pool_stats st = { 0 };
	struct pool p;

	if (mem == MAP_FAILED || (file_limit != 0 && fd < 0)) {
		fprintf(stderr, "%s: %s\n", name, why);
		exit(1);
	}
	if ((rc = pool_format(mem, &c)) != 0 || (rc = pool_attach(&p, mem, size, fd)) != 0)
		die("attach", rc);
	for (unsigned pass = 0; pass < passes; pass++) {
		uint8_t got[PAGE];
		double t0 = now(), t1, t2;

		for (unsigned i = 0; i < N; i++)
			if ((rc = pool_store(&p, pages[i], &handles[i])) != 0)
				die("store", rc);
		t1 = now();
		for (unsigned i = 0; i < N; i++) {
			unsigned j = (unsigned)((uint64_t)i * 2654435761u % N); /* every page once, in no order */

			if ((rc = pool_load(&p, handles[j], got)) != 0)
				die("load", rc);
			if (memcmp(got, pages[j], 64) != 0)
				die("load: other bytes", 0);
		}
		t2 = now();
		pool_stats(&p, &st);
		for (unsigned i = 0; i < N; i++)
			pool_unref(&p, handles[i]);
		in = t1 - t0 < in ? t1 - t0 : in;
		out = t2 - t1 < out ? t2 - t1 : out;
	}
	printf("%-6s  in %7.0f ns/page  out %7.0f ns/page  ratio %.2f  file %llu KiB\n", name, in / N, out / N, st.ratio,
	       (unsigned long long)st.file_bytes / 1024);
	pool_detach(&p);
	(void)munmap(mem, size);
	if (fd >= 0)
		(void)close(fd);
}

int main(void)
{
	fill();
	run("memory", 64ull << 20, 0, 5);
	run("file", 512ull << 10, 64ull << 20, 1);
	return 0;
}
