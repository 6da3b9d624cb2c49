/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The cost of memory that fits: the same work on a libquire mapping, wholly resident, and on plain
 * mmap, in turns.
 *
 *     hit [-m MiB] [-r ROUNDS] [-s SEED]
 *
 *   random   eight-byte reads at random places
 *   update   eight-byte read-modify-writes at random places
 *   memset   the whole region, repeatedly
 *   chase    a chain of pointers through all cache lines in random order
 *   scan     a sum over all words, in order
 *
 * Three regions of MiB (64) each: native 4 KiB pages, Quire, native huge pages (MADV_HUGEPAGE). Prints for each kind of
 * work Quire's time over that of native 4 KiB pages, and over that of huge pages: minimum, median, maximum of ROUNDS (15)
 * rounds; in each round the order of the three changes. Quire's pages are 4 KiB: it does not save
 * what huge pages save. Exit status 1 if a result differs, 77 if this kernel lacks a feature.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <quire/quire.h>

#include "workload.h"

#define MIB (1ull << 20)
#define MAX_ROUNDS 101
#define SKIP 77
#define LINE 8u /* words of a cache line */
#define NWORKS 5

enum { NATIVE, QUIRE, HUGE, NREGIONS };

static size_t words;
static uint64_t seed = 1;

static uint64_t draw(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static uint64_t work_random(uint64_t *p)
{
	uint64_t x = wl_mix(seed) | 1, sum = 0;

	for (size_t i = 0; i < words / 8; i++)
		sum += p[draw(&x) % words];
	return sum;
}

static uint64_t work_update(uint64_t *p)
{
	uint64_t x = wl_mix(seed + 1) | 1, sum = 0;

	for (size_t i = 0; i < words / 8; i++)
		sum += p[draw(&x) % words]++;
	return sum;
}

static uint64_t work_memset(uint64_t *p)
{
	for (int i = 1; i <= 4; i++)
		memset(p, i, words * 8);
	return p[words / 2];
}

/* Word 0 of each line leads to another line: one cycle through all (Sattolo). */
static void lay_chain(uint64_t *p)
{
	size_t n = words / LINE;
	uint64_t x = wl_mix(seed + 2) | 1;

	for (size_t i = 0; i < n; i++)
		p[i * LINE] = i;
	for (size_t i = n - 1; i > 0; i--) {
		size_t j = draw(&x) % i;
		uint64_t t = p[i * LINE];

		p[i * LINE] = p[j * LINE];
		p[j * LINE] = t;
	}
}

static uint64_t work_chase(uint64_t *p)
{
	uint64_t at = 0;

	for (size_t i = 0; i < words / LINE / 2; i++)
		at = p[at * LINE];
	return at;
}

static uint64_t work_scan(uint64_t *p)
{
	uint64_t sum = 0;

	for (int n = 0; n < 4; n++)
		for (size_t i = 0; i < words; i++)
			sum += p[i] ^ (uint64_t)n;
	return sum;
}

static const struct {
	const char *name;
	uint64_t (*run)(uint64_t *);
} works[NWORKS] = {
	{ "random", work_random },
	{ "update", work_update },
	{ "chase", work_chase },
	{ "scan", work_scan },
	{ "memset", work_memset },
};

static uint64_t *native(size_t bytes, int advice)
{
	char *p =
	    mmap(NULL, bytes + 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("hit: mmap");
		exit(2);
	}
	p += (2 * MIB - (uintptr_t)p % (2 * MIB)) % (2 * MIB);
	(void)madvise(p, bytes, advice);
	memset(p, 0, bytes);
	return (uint64_t *)(void *)p;
}

static uint64_t *managed(size_t bytes)
{
	struct quire_config c = { .size = sizeof c, .memory = bytes + bytes / 8 + 8 * MIB };
	struct quire *q;
	void *p;

	if (quire_open(&c, &q) != 0) {
		fprintf(stderr, "hit: quire_open: %s\n", strerror(errno));
		exit(errno == ENOSYS || errno == EPERM ? SKIP : 2);
	}
	p = quire_map(q, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		perror("hit: quire_map");
		exit(2);
	}
	memset(p, 0, bytes);
	return p;
}

static void print(const char *work, const char *over, double *v, size_t n)
{
	qsort(v, n, sizeof *v, wl_compare);
	printf("%-8s quire/%-7s %8.3f %8.3f %8.3f\n", work, over, v[0], v[n / 2], v[n - 1]);
}

int main(int argc, char **argv)
{
	static double ratio[2][MAX_ROUNDS];
	size_t mib = 64, rounds = 15, errors = 0;
	uint64_t *p[NREGIONS];
	int c;

	while ((c = getopt(argc, argv, "m:r:s:")) != -1) {
		size_t n = strtoul(optarg == NULL ? "0" : optarg, NULL, 10);

		switch (c) {
		case 'm': mib = n; break;
		case 'r': rounds = n; break;
		case 's': seed = n; break;
		default: return 2;
		}
	}
	if (mib < 2 || mib > 4096 || mib % 2 != 0 || rounds < 1 || rounds > MAX_ROUNDS) {
		fprintf(stderr, "hit: -m: 2 to 4096, even; -r: 1 to %d\n", MAX_ROUNDS);
		return 2;
	}
	words = mib * MIB / 8;
	p[NATIVE] = native(mib * MIB, MADV_NOHUGEPAGE);
	p[HUGE] = native(mib * MIB, MADV_HUGEPAGE);
	p[QUIRE] = managed(mib * MIB);
	printf("# %zu MiB that fit, %zu rounds       min   median      max\n", mib, rounds);
	for (int k = 0; k < NREGIONS; k++)
		lay_chain(p[k]);
	for (int w = 0; w < NWORKS; w++) {
		for (size_t r = 0; r < rounds + 1; r++) { /* the first round warms up */
			double us[NREGIONS];
			uint64_t got[NREGIONS];

			for (size_t k = 0; k < NREGIONS; k++) {
				size_t i = (r + k) % NREGIONS;
				double began = wl_now_us();

				got[i] = works[w].run(p[i]);
				us[i] = wl_now_us() - began;
			}
			errors += got[NATIVE] != got[QUIRE] || got[HUGE] != got[QUIRE];
			if (works[w].run ==
			    work_update) /* the same chain again for the next region */
				for (int k = 0; k < NREGIONS; k++)
					lay_chain(p[k]);
			if (r > 0) {
				ratio[0][r - 1] = us[QUIRE] / us[NATIVE];
				ratio[1][r - 1] = us[QUIRE] / us[HUGE];
			}
		}
		print(works[w].name, "4KiB", ratio[0], rounds);
		print(works[w].name, "huge", ratio[1], rounds);
		fflush(stdout);
	}
	printf("content_errors %zu\n", errors);
	return errors != 0;
}
