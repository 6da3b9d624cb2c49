/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The cost of a kernel fault, on the workload of bench/workload.h.
 *
 *     fault_kernel [-m MiB] [-n ACCESSES] [-r REPEATS] [-s SEED] [-a PATTERN] [-w PERCENT]
 *
 * Fills a private anonymous region of MiB (256), then makes REPEATS (5) times
 * ACCESSES (100000) accesses: PATTERN (random), PERCENT (100) of them writes.  The program sets no
 * limit itself: bench/peers.sh runs it inside a memory cgroup with a swap area on. It prints
 * key-value lines; the figures are microseconds:
 *
 *   us_per_access    wall time over accesses, including hits
 *   us_per_fault     the same time, less that of the hits, over the process's major faults
 *
 * and, an access, the major faults and what the machine swapped in and out meanwhile (faults_per_access, read_kib_per_access,
 * written_kib_per_access), and what was resident at the end (resident_mib).
 *
 * The cost of a hit is measured on a second region small enough to stay resident. Transparent huge
 * pages are off for both regions: the unit of the comparison is the 4 KiB page. Exit status 1 if
 * any content was wrong.
 */

#include <sys/mman.h>
#include <sys/resource.h>

#include <unistd.h>

#include "workload.h"

#define MAX_REPEATS 101
#define HIT_PAGES 1024u /* 4 MiB: resident under any limit worth measuring */

static uint64_t *region(size_t pages)
{
	void *p =
	    mmap(NULL, pages * WL_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || madvise(p, pages * WL_PAGE, MADV_NOHUGEPAGE) != 0) {
		perror("fault_kernel: region");
		exit(2);
	}
	return p;
}

/* Microseconds of one access to a resident page. */
static double hit_cost(uint64_t seed, size_t n)
{
	struct workload w;
	uint64_t *base = region(HIT_PAGES);
	double us;

	if (!wl_init(&w, seed, HIT_PAGES))
		exit(2);
	for (size_t i = 0; i < HIT_PAGES; i++)
		wl_fill(&w, i, base + i * WL_WORDS);
	us = wl_accesses(&w, base, n) / (double)n;
	munmap(base, HIT_PAGES * WL_PAGE);
	wl_fini(&w);
	return us;
}

static long major_faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_majflt;
}

/* A number from /proc, or 0: the number after the word name, or (no name) the second number of the
 * file. */
static double counter(const char *path, const char *name)
{
	FILE *f = fopen(path, "r");
	char word[64];
	double n = 0;

	if (f == NULL)
		return 0;
	if (name == NULL && fscanf(f, "%*s %lf", &n) != 1)
		n = 0;
	while (name != NULL && fscanf(f, "%63s %lf", word, &n) == 2 && strcmp(word, name) != 0)
		n = 0;
	fclose(f);
	return n * WL_PAGE;
}

static long number(const char *text, long low, long high)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*end || n < low || n > high) {
		fprintf(
		    stderr, "fault_kernel: %s: not a number from %ld to %ld\n", text, low, high);
		exit(2);
	}
	return n;
}

/* n accesses: returns microseconds, and the major faults among them. */
static double timed_round(struct workload *w, uint64_t *base, size_t n, long *major)
{
	long before = major_faults();
	double us = wl_accesses(w, base, n);

	*major = major_faults() - before;
	return us;
}

/* Checks the contents after all accesses: 0, or 1 if a word is wrong. */
static int check_region(struct workload *w, uint64_t *base, size_t pages)
{
	int c;

	for (size_t i = 0; i < pages; i++)
		wl_check_page(w, i, base + i * WL_WORDS);
	printf("content_errors %llu\n", (unsigned long long)w->errors);
	munmap(base, pages * WL_PAGE);
	c = w->errors != 0;
	wl_fini(w);
	return c;
}

int main(int argc, char **argv)
{
	size_t pages = 256 * 256, n = 100000, repeats = 5, with_faults = 0;
	double per_access[MAX_REPEATS], per_fault[MAX_REPEATS], hit;
	uint64_t seed = 1;
	enum wl_pattern pattern = WL_RANDOM;
	unsigned writes = 100;
	struct workload w;
	uint64_t *base;
	double in, out, resident;
	long faults = 0;
	int c;

	while ((c = getopt(argc, argv, "m:n:r:s:a:w:")) != -1) {
		switch (c) {
		case 'm': pages = (size_t)number(optarg, 1, 1 << 20) * 256; break;
		case 'n': n = (size_t)number(optarg, 1, 1 << 30); break;
		case 'r': repeats = (size_t)number(optarg, 1, MAX_REPEATS); break;
		case 's': seed = (uint64_t)number(optarg, 0, 1 << 30); break;
		case 'w': writes = (unsigned)number(optarg, 0, 100); break;
		case 'a':
			if (wl_pattern_of(optarg, &pattern))
				break;
			return 2;
		default: return 2;
		}
	}
	hit = hit_cost(seed, n);
	base = region(pages);
	if (!wl_init(&w, seed, pages))
		return 2;
	for (size_t i = 0; i < pages; i++)
		wl_fill(&w, i, base + i * WL_WORDS);
	w.pattern = pattern;
	w.writes = writes;
	/* The first round pays for the state that filling left behind, so it is not counted. */
	wl_accesses(&w, base, n);
	in = counter("/proc/vmstat", "pswpin");
	out = counter("/proc/vmstat", "pswpout");
	for (size_t r = 0; r < repeats; r++) {
		long major;
		double us = timed_round(&w, base, n, &major);

		per_access[r] = us / (double)n;
		if (major > 0)
			per_fault[with_faults++] =
			    (us - hit * (double)((long)n - major)) / (double)major;
		faults += major;
	}
	in = counter("/proc/vmstat", "pswpin") - in;
	out = counter("/proc/vmstat", "pswpout") - out;
	resident = counter("/proc/self/statm", NULL);
	printf("region_mib %zu\naccesses %zu\nrepeats %zu\nmajor_faults %ld\nus_per_hit %.3f\n",
	    pages / 256, n, repeats, faults, hit);
	wl_print("us_per_access", per_access, repeats);
	if (with_faults)
		wl_print("us_per_fault", per_fault, with_faults);
	wl_print_traffic((double)(n * repeats), (double)faults, in, out, resident);
	return check_region(&w, base, pages);
}
