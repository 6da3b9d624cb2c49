/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cost of a page on its way into the store and out of it: in memory; the same where frames
 * share the budget, so that all pages are packed more tightly; then through the file, whose pages
 * are loaded in random order and in the order they were stored. Without arguments the pages are
 * records that compress about 2.2 times; with FILE, the first pages of that file (a memory image,
 * say). Prints ns a page, the best of five passes (file: of two), and the ratio. Last, how dense
 * the store is: the largest value of (memory taken - 256 KiB) / packed bytes held, checked after
 * each operation, while that many pages are stored, changed in random order, and dropped in random
 * order. The store promises 1.25. --large: only that, for 1 GiB.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "store/pool.h"
#include "store/swapfile.h"
#include "bench/bench.h"

#define PAGE 4096u
#define N 8192u
#define LARGE 262144u /* 1 GiB */

static uint8_t pages[N][PAGE];
static uint32_t handles[LARGE];
static unsigned npages = N;

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
			const uint64_t kinds[4] = { n * 128 + i / 4, x % 100, x & 0xffffu, 0 };

			w = kinds[i % 4];
			memcpy(&pages[n][i * 8], &w, 8);
		}
}

static void die(const char *what, int rc)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-rc));
	exit(1);
}

static void fill_from(const char *path)
{
	FILE *f = fopen(path, "rb");

	npages = f != NULL ? (unsigned)fread(pages, PAGE, N, f) : 0;
	if (npages == 0) {
		fprintf(stderr, "%s: no pages to read there\n", path);
		exit(1);
	}
	(void)fclose(f);
}

/* Loads every page once, in the order of the store or in random order. ns. */
static double load_all(struct pool *p, int ordered)
{
	static uint8_t got[PAGE];
	double t0 = bench_ns();
	int rc;

	for (unsigned i = 0; i < npages; i++) {
		unsigned j = ordered ? i : (unsigned)((uint64_t)i * 2654435761u % npages);

		if ((rc = pool_load(p, handles[j], got)) != 0)
			die("load", rc);
		if (memcmp(got, pages[j], 64) != 0) {
			fprintf(stderr, "load: other bytes\n");
			exit(1);
		}
	}
	return bench_ns() - t0;
}

static void run(
    const char *name, uint64_t mem_limit, uint64_t mem_floor, uint64_t file_limit, unsigned passes)
{
	struct pool_config c = { .mem_limit = mem_limit,
		.mem_floor = mem_floor,
		.file_limit = file_limit,
		.max_objects = 2 * N,
		.max_members = 1 };
	size_t size = pool_shared_size(&c);
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *why = "";
	int fd = file_limit != 0 ? swapfile_open(NULL, file_limit, false, &why) : -1, rc;
	double in = 1e18, out = 1e18, row = 1e18, t;
	struct pool_stats st = { 0 };
	struct pool p;

	if (mem == MAP_FAILED || (file_limit != 0 && fd < 0)) {
		fprintf(stderr, "%s: %s\n", name, why);
		exit(1);
	}
	if ((rc = pool_format(mem, &c)) != 0 || (rc = pool_attach(&p, mem, size, fd)) != 0)
		die("attach", rc);
	if (fd >= 0)
		(void)(pool_join(&p, 1) == 0 &&
		    pool_async(&p) == 0); /* without asynchronous writes, writes are synchronous */
	for (unsigned pass = 0; pass < passes; pass++) {
		t = bench_ns();
		for (unsigned i = 0; i < npages; i++)
			if ((rc = pool_store(&p, pages[i], &handles[i])) != 0)
				die("store", rc);
		t = bench_ns() - t;
		in = t < in ? t : in;
		t = load_all(&p, 0);
		out = t < out ? t : out;
		t = load_all(&p, 1);
		row = t < row ? t : row;
		pool_stats(&p, &st);
		for (unsigned i = 0; i < npages; i++)
			pool_unref(&p, handles[i]);
		pool_poll(&p, 1);
	}
	printf(
	    "%-6s  in %6.0f ns/page  out %6.0f ns/page  in order %6.0f ns/page  ratio %.2f  file %llu KiB\n",
	    name, in / npages, out / npages, row / npages, st.ratio,
	    (unsigned long long)st.file_bytes / 1024);
	pool_detach(&p);
	(void)munmap(mem, size);
	if (fd >= 0)
		(void)close(fd);
}

/* The memory taken, as a multiple of the bytes held. */
static void look(struct pool *p, double *worst)
{
	struct pool_stats st;
	double r;

	pool_stats(p, &st);
	r = ((double)st.mem_held - POOL_SLACK) / ((double)st.mem_packed + 1);
	*worst = r > *worst ? r : *worst;
}

static void dense(unsigned n, bool behind)
{
	struct pool_config c = { .mem_limit = n > N ? 1ull << 30 : 64ull << 20,
		.max_objects = n > N ? 2 * LARGE : 2 * N,
		.max_members = 1 };
	unsigned changes = n > N ? n : 4 * n;
	size_t size = pool_shared_size(&c);
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double worst[3] = { 0 };
	uint64_t x = 2026;
	struct pool p;
	int rc;

	if (mem == MAP_FAILED || pool_format(mem, &c) != 0 ||
	    (rc = pool_attach(&p, mem, size, -1)) != 0)
		die("attach", -ENOMEM);
	if (behind)
		pool_pack_behind(&p, 4ull << 20);
	for (unsigned i = 0; i < n; i++, look(&p, &worst[0]))
		if ((rc = pool_store(&p, pages[i % npages], &handles[i])) != 0)
			die("store", rc);
	for (unsigned k = 0; k < changes; k++, look(&p, &worst[1])) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		unsigned i = (unsigned)(x >> 33) % n;

		pool_unref(&p, handles[i]);
		if ((rc = pool_store(&p, pages[(x >> 20) % npages], &handles[i])) != 0)
			die("store", rc);
		if (k % 16 == 0)
			(void)pool_work(&p, false);
	}
	for (unsigned left = n; left > 0; left--, look(&p, &worst[2])) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		unsigned i = (unsigned)(x >> 33) % left;

		pool_unref(&p, handles[i]);
		handles[i] = handles[left - 1];
	}
	printf(
	    "dense  %6u pages%s: %.3f while they come, %.3f while they change, %.3f while they go\n",
	    n, behind ? ", packed behind" : "", worst[0], worst[1], worst[2]);
	pool_detach(&p);
	(void)munmap(mem, size);
}

int main(int argc, char **argv)
{
	bool large = argc > 1 && strcmp(argv[1], "--large") == 0;

	if (argc > 1 && !large)
		fill_from(argv[1]);
	else
		fill();
	for (int behind = 0; large && behind < 2; behind++)
		dense(LARGE, behind != 0);
	if (large)
		return 0;
	run("memory", 64ull << 20, 0, 0, 5);
	run("shared", 64ull << 20, 1ull << 20, 64ull << 20, 5);
	run("file", 1ull << 20, 0, 64ull << 20, 2);
	for (unsigned n = 128; n <= N; n *= 8)
		for (int behind = 0; behind < 2; behind++)
			dense(n, behind != 0);
	return 0;
}
