/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The cost of a Quire fault, on the workload of bench/workload.h: libquire, faults served in the
 * faulting thread.
 *
 *     fault [-k none|null|pool|file] [-m MiB] [-b MiB] [-p MiB] [-n ACCESSES] [-r REPEATS] [-s SEED] [-d DIRECTORY]
 *           [-a PATTERN] [-w PERCENT]
 *
 * Maps a private anonymous region of MiB (256) in a system with a budget of -b
 * MiB (64), fills it, then makes REPEATS (5) times ACCESSES (100000) accesses:
 * PATTERN (random), PERCENT (100) of them writes. The store behind it (-k):
 *
 *   none   the tag and the count of a page are kept, and no page is copied: Quire without a store
 *   null   a page is copied to ordinary memory and back
 *   pool   the compressed pool, of -p MiB (128): everything fits, compressed
 *   file   a pool of 2 MiB, in passing, and a swap file in -d (/var/tmp)
 *
 * Prints key-value lines as fault_kernel does; microseconds:
 *
 *   us_per_access   wall time over accesses, including hits
 *   us_per_fault    the same time, less that of the hits, over the faults for pages in the store: the
 *                   kernel calls these major faults
 *
 * and, an access, the major faults and how much of the file was read and written (faults_per_access, read_kib_per_access,
 * written_kib_per_access); how many other faults there were, and how many pages read ahead (others_per_fault, ahead_per_fault);
 * how much was resident at the end
 * (resident_mib). Exit status 1 if any content was wrong, 77 if this kernel cannot do it.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <quire/quire.h>

#include "workload.h"

#define MAX_REPEATS 101
#define HIT_PAGES 1024u
#define MIB (1ull << 20)
#define SKIP 77

struct options {
	const char *kind, *folder;
	size_t mib, budget, pool, n, repeats;
	uint64_t seed;
	enum wl_pattern pattern;
	unsigned writes;
};

/* ---- a store that is a copy ---- */
static int keep(void *arg, uint64_t slot, const void *page)
{
	memcpy((char *)arg + slot * WL_PAGE, page, WL_PAGE);
	return 0;
}

static int bring(void *arg, uint64_t slot, void *page)
{
	memcpy(page, (char *)arg + slot * WL_PAGE, WL_PAGE);
	return 0;
}

/* ---- a store that copies nothing: it keeps the words that the workload then checks ---- */
static int keep_words(void *arg, uint64_t slot, const void *page)
{
	uint64_t *kept = (uint64_t *)arg + 2 * slot;

	kept[0] = ((const uint64_t *)page)[WL_TAG];
	kept[1] = ((const uint64_t *)page)[WL_COUNT];
	return 0;
}

static int bring_words(void *arg, uint64_t slot, void *page)
{
	const uint64_t *kept = (const uint64_t *)arg + 2 * slot;

	((uint64_t *)page)[WL_TAG] = kept[0];
	((uint64_t *)page)[WL_COUNT] = kept[1];
	return 0;
}

static void die(const char *what)
{
	fprintf(stderr, "fault: %s: %s\n", what, strerror(errno));
	exit(errno == ENOSYS || errno == EPERM ? SKIP : 2);
}

/* Touched beforehand, so that its own first faults are not measured. */
static void *plain(size_t bytes)
{
	void *p = mmap(
	    NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die("memory");
	return p;
}

static struct quire *open_system(const struct options *o)
{
	struct quire_store store = { .write = keep, .read = bring };
	struct quire_config c = { .size = sizeof c, .memory = o->budget * MIB };
	struct quire *q;

	if (strcmp(o->kind, "null") == 0) {
		store.slots = (o->mib + 16) * 256;
		store.arg = plain(store.slots * WL_PAGE);
		c.store = &store;
	} else if (strcmp(o->kind, "none") == 0) {
		store.write = keep_words;
		store.read = bring_words;
		store.slots = (o->mib + 16) * 256;
		store.arg = plain(store.slots * 2 * sizeof(uint64_t));
		c.store = &store;
	} else if (strcmp(o->kind, "pool") == 0) {
		c.pool = o->pool * MIB;
		c.promise = (o->mib + 16) * MIB + c.memory;
	} else if (strcmp(o->kind, "file") == 0) {
		c.pool = 2 * MIB;
		c.swap = 2 * o->mib * MIB;
		c.swap_path = o->folder;
	} else {
		fprintf(stderr, "fault: -k %s: none, null, pool or file\n", o->kind);
		exit(2);
	}
	if (quire_open(&c, &q) != 0)
		die("quire_open");
	return q;
}

static uint64_t *region(struct quire *q, size_t pages)
{
	void *p = quire_map(
	    q, NULL, pages * WL_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		die("quire_map");
	return p;
}

/* Microseconds of one access to a resident page. */
static double hit_cost(struct quire *q, uint64_t seed, size_t n)
{
	struct workload w;
	uint64_t *base = region(q, HIT_PAGES);
	double us;

	if (!wl_init(&w, seed, HIT_PAGES))
		exit(2);
	for (size_t i = 0; i < HIT_PAGES; i++)
		wl_fill(&w, i, base + i * WL_WORDS);
	us = wl_accesses(&w, base, n) / (double)n;
	if (quire_unmap(q, base, HIT_PAGES * WL_PAGE) != 0)
		die("quire_unmap");
	wl_fini(&w);
	return us;
}

static long number(const char *text, long low, long high)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*end || n < low || n > high) {
		fprintf(stderr, "fault: %s: not a number from %ld to %ld\n", text, low, high);
		exit(2);
	}
	return n;
}

static struct options parse(int argc, char **argv)
{
	struct options o = { .kind = "pool",
		.folder = "/var/tmp",
		.mib = 256,
		.budget = 64,
		.pool = 128,
		.n = 100000,
		.repeats = 5,
		.seed = 1,
		.pattern = WL_RANDOM,
		.writes = 100 };
	int c;

	while ((c = getopt(argc, argv, "k:m:b:p:n:r:s:d:a:w:")) != -1) {
		switch (c) {
		case 'k': o.kind = optarg; break;
		case 'd': o.folder = optarg; break;
		case 'm': o.mib = (size_t)number(optarg, 1, 1 << 20); break;
		case 'b': o.budget = (size_t)number(optarg, 8, 1 << 20); break;
		case 'p': o.pool = (size_t)number(optarg, 1, 1 << 20); break;
		case 'n': o.n = (size_t)number(optarg, 1, 1 << 30); break;
		case 'r': o.repeats = (size_t)number(optarg, 1, MAX_REPEATS); break;
		case 's': o.seed = (uint64_t)number(optarg, 0, 1 << 30); break;
		case 'w': o.writes = (unsigned)number(optarg, 0, 100); break;
		case 'a':
			if (wl_pattern_of(optarg, &o.pattern))
				break;
			exit(2);
		default: exit(2);
		}
	}
	return o;
}

static struct quire_stats stats(struct quire *q)
{
	struct quire_stats st;

	if (quire_stat(q, &st, sizeof st) != 0)
		die("quire_stat");
	return st;
}

/* Faults that needed the store. */
static uint64_t major(const struct quire_stats *st)
{
	return st->faults - st->rescued - st->zero_filled;
}

int main(int argc, char **argv)
{
	struct options o = parse(argc, argv);
	struct quire *q = open_system(&o);
	double per_access[MAX_REPEATS], per_fault[MAX_REPEATS], hit;
	size_t pages = o.mib * 256, with_faults = 0;
	uint64_t majors = 0, *base;
	struct quire_stats st = { 0 }, first = { 0 };
	struct workload w;

	hit = hit_cost(q, o.seed, o.n);
	base = region(q, pages);
	if (!wl_init(&w, o.seed, pages))
		return 2;
	for (size_t i = 0; i < pages; i++)
		wl_fill(&w, i, base + i * WL_WORDS);
	w.pattern = o.pattern;
	w.writes = o.writes;
	w.few = strcmp(o.kind, "none") == 0;
	/* The first round pays for the state that filling left behind, so it is not counted. */
	wl_accesses(&w, base, o.n);
	for (size_t r = 0; r < o.repeats; r++) {
		struct quire_stats before = stats(q);
		double us = wl_accesses(&w, base, o.n);
		uint64_t n;

		if (r == 0)
			first = before;
		st = stats(q);
		n = major(&st) - major(&before);
		per_access[r] = us / (double)o.n;
		if (n > 0)
			per_fault[with_faults++] =
			    (us - hit * ((double)o.n - (double)n)) / (double)n;
		majors += n;
	}
	wl_print_traffic((double)(o.n * o.repeats), (double)majors,
	    (double)(st.swap_read - first.swap_read),
	    (double)(st.swap_written - first.swap_written), (double)st.resident);
	if (majors > 0)
		printf("others_per_fault %.3f\nahead_per_fault %.3f\n",
		    (double)(st.faults - first.faults - majors) / (double)majors,
		    ((double)(st.pages_in - first.pages_in) - (double)majors) / (double)majors);
	for (size_t i = 0; i < pages; i++)
		wl_check_page(&w, i, base + i * WL_WORDS);
	printf("region_mib %zu\naccesses %zu\nrepeats %zu\nmajor_faults %llu\nus_per_hit %.3f\n",
	    o.mib, o.n, o.repeats, (unsigned long long)majors, hit);
	wl_print("us_per_access", per_access, o.repeats);
	if (with_faults > 0)
		wl_print("us_per_fault", per_fault, with_faults);
	st = stats(q);
	printf("pool_mib %.1f\nswap_mib %.1f\ncontent_errors %llu\n",
	    (double)st.pool_used / (double)MIB, (double)st.swap_used / (double)MIB,
	    (unsigned long long)w.errors);
	wl_fini(&w);
	if (quire_close(q) != 0)
		die("quire_close");
	return w.errors != 0;
}
