/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The same random script on Linux' own mmap and on a system under test: every error, every signal, every byte must agree.
 *
 * Only what Linux defines is compared. Left out by construction: writes past a file's end within
 * its last page; a private mapping of a file that changes under it (files 0 and 1 are only mapped
 * shared, file 2 only privately, and is not written); contents after MADV_FREE (the pages are
 * overwritten at once); moving a range that Linux may hold as several areas; write(2) to a file
 * that is mapped, where the system under test promises nothing about it.
 *
 * An operation is one 64-bit word, all of whose choices come from that word and from what is mapped: any subset of a script is
 * a script. A script that fails is cut down and printed.
 *
 *   diff_NAME [--ops N] [--seed S|random] [--script FILE] [--verbose]
 */
#include "tests/vm/diff.h"
#include "tests/vm/script.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SKIP 77
#define RW (PROT_READ | PROT_WRITE)

enum kind { K_NONE, K_ANON, K_SHARED, K_FILE, K_PRIVFILE };

/* The script's knowledge of the window: enough to leave out undefined operations. */
struct known {
	enum kind kind;
	int prot;
	int file;
	unsigned index; /* page of the file */
	uint64_t area;  /* pages with the same number, in a row, are one area for Linux */
};
static struct known window[WINDOW];
static uint64_t file_size[NFILES], areas, rnd;
static const struct exec *const both[2] = { &exec_native, &exec_tested };
static volatile uint64_t *progress; /* with the parent */
static uint64_t seed = 1;
static bool verbose;
static const char *doing = "";

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t draw(void) { return rnd = mix(rnd); }
static unsigned below(unsigned n) { return (unsigned)((draw() >> 20) % n); }
static bool chance(unsigned one_in) { return below(one_in) == 0; }

static _Noreturn void __attribute__((format(printf, 1, 2))) differ(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "DIFFERS at operation %" PRIu64 ", %s: ", *progress, doing);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	_exit(1);
}

static int agree(const char *what, unsigned page, unsigned n, int native, int tested)
{
	if (verbose)
		fprintf(stderr, "%" PRIu64 " %s %u+%u: %d\n", *progress, what, page, n, native);
	if (native != tested)
		differ("%s of pages %u..%u: native %s, %s %s", what, page, page + n - 1,
		    strerror(native), exec_tested.x_name, strerror(tested));
	return native;
}
#define BOTH(what, page, n, call) agree(what, page, n, exec_native.call, exec_tested.call)

static void pick(unsigned max, unsigned *lo, unsigned *n)
{
	*n = 1 + below(max);
	*lo = below(WINDOW - *n + 1);
}

static bool all(unsigned lo, unsigned n, bool (*is)(const struct known *))
{
	for (unsigned i = lo; i < lo + n; i++)
		if (!is(&window[i]))
			return false;
	return true;
}

static bool is_anon_rw(const struct known *k) { return k->kind == K_ANON && k->prot == RW; }

/* Linux may split its areas at the borders; separate areas stay separate. */
static void new_area(unsigned lo, unsigned n)
{
	areas++;
	for (unsigned i = lo; i < lo + n; i++)
		window[i].area = mix(window[i].area ^ areas);
}

/* ---- accesses ---- */
static uint64_t hash_of(const uint8_t *b, uint64_t len)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (uint64_t i = 0; i < len; i++)
		h = (h ^ b[i]) * 0x100000001b3ull;
	return h;
}

static void access_both(uint64_t at, bool write, uint8_t *buf, uint64_t len)
{
	static const char *const names[] = { "nothing", "SIGSEGV/MAPERR", "SIGSEGV/ACCERR",
		"SIGBUS" };
	static uint8_t other[3 * PAGE];
	uint64_t done[2];
	enum sig s[2];

	memcpy(other, buf, len);
	s[0] = exec_native.x_access(at, write, buf, len, &done[0]);
	s[1] = exec_tested.x_access(at, write, other, len, &done[1]);
	if (s[0] != s[1] || done[0] != done[1])
		differ("%s at page %" PRIu64 "+%" PRIu64 ": native %s after %" PRIu64
		       " bytes, %s %s after %" PRIu64,
		    write ? "write" : "read", at / PAGE, at % PAGE, names[s[0]], done[0],
		    exec_tested.x_name, names[s[1]], done[1]);
	for (uint64_t i = 0; !write && i < done[0]; i++)
		if (buf[i] != other[i])
			differ("page %" PRIu64 "+%" PRIu64 ": native %02x, %s %02x",
			    (at + i) / PAGE, (at + i) % PAGE, buf[i], exec_tested.x_name, other[i]);
}

static uint64_t pick_len(void) { return chance(16) ? 1 + below(2 * PAGE) : 1 + below(48); }

static void op_read(void)
{
	uint8_t buf[3 * PAGE];

	access_both((uint64_t)below(WINDOW - 3) * PAGE + below(PAGE), false, buf, pick_len());
}

/* Bytes past a file's end in its last page are undefined. */
static bool writes_past_end(uint64_t at, uint64_t len)
{
	for (uint64_t p = at / PAGE; p <= (at + len - 1) / PAGE; p++) {
		const struct known *k = &window[p];
		uint64_t from = p == at / PAGE ? at % PAGE : 0,
			 to = p == (at + len - 1) / PAGE ? (at + len - 1) % PAGE + 1 : PAGE;

		(void)from;
		if (k->kind == K_FILE && (uint64_t)k->index * PAGE < file_size[k->file] &&
		    (uint64_t)k->index * PAGE + to > file_size[k->file])
			return true;
	}
	return false;
}

static void op_write(void)
{
	uint64_t at = (uint64_t)below(WINDOW - 3) * PAGE + below(PAGE), len = pick_len();
	uint8_t buf[3 * PAGE];

	for (uint64_t i = 0, v = draw(); i < len;
	     i++, v = v * 6364136223846793005ull + 1442695040888963407ull)
		buf[i] = (uint8_t)(v >> 56);
	if (!writes_past_end(at, len))
		access_both(at, true, buf, len);
}

/* ---- mappings ---- */
static void op_map(void)
{
	static const int prots[] = { RW, RW, RW, RW, PROT_READ, PROT_NONE };
	int prot = prots[below(6)], flags, file = -1;
	enum kind kind = (enum kind)(K_ANON + below(4));
	unsigned lo, n, off = 0;

	pick(chance(4) ? 48 : 12, &lo, &n);
	if (chance(4))
		kind = K_ANON;
	flags = kind == K_ANON || kind == K_PRIVFILE ? MAP_PRIVATE : MAP_SHARED;
	if (kind == K_FILE || kind == K_PRIVFILE) {
		file = kind == K_FILE ? (int)below(2) : 2;
		off = below(FILE_MAX - 4);
	} else {
		flags |= MAP_ANONYMOUS;
	}
	if (chance(3))
		flags |= MAP_FIXED_NOREPLACE;
	if (chance(8))
		flags |= MAP_NORESERVE;
	if (chance(8))
		flags |= MAP_POPULATE;
	if (BOTH("map", lo, n, x_map(lo, n, prot, flags, file, off)) != 0)
		return;
	for (unsigned i = 0; i < n; i++)
		window[lo + i] =
		    (struct known){ .kind = kind, .prot = prot, .file = file, .index = off + i };
	new_area(lo, n);
}

static void op_unmap(void)
{
	unsigned lo, n;

	pick(chance(4) ? 48 : 12, &lo, &n);
	if (BOTH("unmap", lo, n, x_unmap(lo, n)) == 0)
		memset(window + lo, 0, n * sizeof(window[0]));
}

static void op_protect(void)
{
	static const int prots[] = { RW, RW, PROT_READ, PROT_NONE };
	int prot = prots[below(4)];
	unsigned lo, n;

	pick(24, &lo, &n);
	(void)BOTH("protect", lo, n, x_protect(lo, n, prot));
	for (unsigned i = lo; i < lo + n && window[i].kind != K_NONE; i++) /* up to the first gap */
		window[i].prot = prot;
	new_area(lo, n);
}

static void op_advise(void)
{
	static const int advices[] = { MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED,
		MADV_DONTNEED, MADV_DONTNEED, MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_PAGEOUT,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE };
	int advice = advices[below(sizeof(advices) / sizeof(advices[0]))];
	char what[32];
	unsigned lo, n;

	pick(24, &lo, &n);
	(void)snprintf(what, sizeof(what), "advice %d", advice);
	(void)BOTH(what, lo, n, x_advise(lo, n, advice));
	new_area(lo, n);
}

static void op_free(void)
{
	uint8_t buf[PAGE];
	unsigned lo, n;

	pick(8, &lo, &n);
	if (!all(lo, n, is_anon_rw))
		return;
	(void)BOTH("MADV_FREE", lo, n, x_advise(lo, n, MADV_FREE));
	memset(buf, (int)(draw() & 0xff), sizeof(buf));
	for (unsigned i = lo; i < lo + n; i++)
		access_both((uint64_t)i * PAGE, true, buf, PAGE);
}

static void op_sync(void)
{
	static const int flags[] = { MS_SYNC, MS_SYNC, MS_ASYNC, MS_INVALIDATE,
		MS_SYNC | MS_INVALIDATE, MS_SYNC | MS_ASYNC };
	int f = flags[below(6)];
	unsigned lo, n;

	pick(32, &lo, &n);
	(void)BOTH("sync", lo, n, x_sync(lo, n, f));
}

static void op_incore(void)
{
	unsigned char vec[2][WINDOW];
	unsigned lo, n;

	pick(48, &lo, &n);
	(void)agree("incore", lo, n, exec_native.x_incore(lo, n, vec[0]),
	    exec_tested.x_incore(lo, n, vec[1]));
}

static void op_lock(void)
{
	unsigned char vec[WINDOW];
	unsigned lo, n;
	int rc;

	pick(12, &lo, &n);
	rc = BOTH("lock", lo, n, x_lock(lo, n));
	if (rc == 0 && exec_tested.x_incore(lo, n, vec) == 0)
		for (unsigned i = 0; i < n; i++)
			if ((vec[i] & 1) == 0)
				differ("page %u is locked but not in memory", lo + i);
	/* A failed mlock may have locked some pages, in either system. */
	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = lo; i < lo + n; i++)
			if (both[k]->x_unlock(i, 1) != 0 && window[i].kind != K_NONE)
				differ("unlock of page %u by %s", i, both[k]->x_name);
	new_area(lo, n);
}

static void op_remap(void)
{
	unsigned lo, n, newn, to;

	pick(12, &lo, &n);
	newn = chance(2) ? n : 1 + below(16);
	to = below(WINDOW - newn + 1);
	if (exec_tested.x_remap == NULL || (to < lo + n && lo < to + newn))
		return;
	for (unsigned i = lo; i < lo + n; i++)
		if (window[i].area != window[lo].area || window[i].kind != window[lo].kind ||
		    window[i].prot != window[lo].prot ||
		    (window[i].kind >= K_FILE && window[i].index != window[lo].index + (i - lo)))
			return;
	if (window[lo].kind == K_SHARED && newn > n)
		return; /* past the end of a shared object: SIGBUS there, memory here */
	if (BOTH("remap", lo, n, x_remap(lo, n, newn, to)) != 0)
		return;
	struct known from = window[lo];
	memset(window + lo, 0, n * sizeof(window[0]));
	for (unsigned i = 0; i < newn; i++) {
		window[to + i] = from;
		window[to + i].index = from.index + i;
	}
	new_area(to, newn);
}

/* ---- files ---- */
static bool file_mapped(int file)
{
	for (unsigned i = 0; i < WINDOW; i++)
		if (window[i].kind >= K_FILE && window[i].file == file)
			return true;
	return false;
}

static void op_fread(void)
{
	int file = (int)below(NFILES);
	uint8_t buf[2][2 * PAGE];
	uint64_t len = 1 + below(2 * PAGE), off;

	if (file_size[file] < len)
		return;
	off = draw() % (file_size[file] - len + 1);
	(void)agree("read(2)", (unsigned)(off / PAGE), 1,
	    exec_native.x_fread(file, off, buf[0], len),
	    exec_tested.x_fread(file, off, buf[1], len));
	for (uint64_t i = 0; i < len; i++)
		if (buf[0][i] != buf[1][i])
			differ("file %d byte %" PRIu64 ": native %02x, %s %02x", file, off + i,
			    buf[0][i], exec_tested.x_name, buf[1][i]);
}

static void op_fwrite(void)
{
	int file = (int)below(2);
	uint64_t len = 1 + below(PAGE + 100), off;
	uint8_t buf[PAGE + 100];

	if (file_size[file] < len || (exec_tested.x_truncate == NULL && file_mapped(file)))
		return;
	off = draw() % (file_size[file] - len + 1);
	memset(buf, (int)(draw() & 0xff), len);
	(void)BOTH("write(2)", (unsigned)(off / PAGE), 1, x_fwrite(file, off, buf, len));
}

static void op_truncate(void)
{
	int file = (int)below(2);
	uint64_t size =
	    chance(2) ? (uint64_t)(1 + below(FILE_MAX)) * PAGE : 1 + below(FILE_MAX * PAGE);

	if (exec_tested.x_truncate == NULL)
		return;
	(void)BOTH("truncate", (unsigned)(size / PAGE), 1, x_truncate(file, size));
	file_size[file] = size;
}

/* ---- fork ---- */
static uint64_t child_reads(const struct exec *x)
{
	uint64_t hash = 0, done;
	uint8_t buf[PAGE];

	for (unsigned i = 0; i < WINDOW; i++) {
		enum sig s = x->x_access((uint64_t)i * PAGE, false, buf, PAGE, &done);

		hash = mix(hash ^ (uint64_t)s ^ hash_of(buf, done));
	}
	return hash;
}

/* Writes to all pages, so that copies separate and shared memory shows the writes to the parent. */
static uint64_t child_main(const struct exec *x, void *arg)
{
	uint64_t hash = child_reads(x), done, stamp = *(uint64_t *)arg;

	for (unsigned i = 0; i < WINDOW; i++) {
		uint8_t b = (uint8_t)(stamp + i);

		if (!writes_past_end((uint64_t)i * PAGE + 8, 1))
			(void)x->x_access((uint64_t)i * PAGE + 8, true, &b, 1, &done);
	}
	return mix(hash ^ child_reads(x));
}

static void op_fork(void)
{
	uint64_t stamp = draw(), a, b;

	if (exec_tested.x_fork == NULL || !chance(4))
		return;
	a = exec_native.x_fork(child_main, &stamp);
	b = exec_tested.x_fork(child_main, &stamp);
	if (a != b)
		differ("the children saw different memory");
}

/* ---- running ---- */
static void verify(void)
{
	uint8_t buf[PAGE];

	doing = "verify";
	for (unsigned i = 0; i < WINDOW; i++)
		access_both((uint64_t)i * PAGE, false, buf, PAGE);
	if (exec_tested.x_check() != 0)
		differ("invariants of %s are broken", exec_tested.x_name);
}

static const struct {
	struct script_op op;
	void (*fn)(void);
} ops[] = {
	{ { "read", 50 }, op_read },
	{ { "write", 60 }, op_write },
	{ { "map", 24 }, op_map },
	{ { "unmap", 6 }, op_unmap },
	{ { "protect", 12 }, op_protect },
	{ { "advise", 16 }, op_advise },
	{ { "free", 4 }, op_free },
	{ { "sync", 4 }, op_sync },
	{ { "incore", 3 }, op_incore },
	{ { "lock", 3 }, op_lock },
	{ { "remap", 8 }, op_remap },
	{ { "fread", 4 }, op_fread },
	{ { "fwrite", 4 }, op_fwrite },
	{ { "truncate", 3 }, op_truncate },
	{ { "fork", 4 }, op_fork },
};
#define NOPS (sizeof(ops) / sizeof(ops[0]))

static size_t op_of(uint64_t word) { return script_draw(word, ops, NOPS, sizeof(ops[0])); }

struct words {
	const uint64_t *word; /* NULL: drawn by the seed */
	uint64_t n;
};

static void run(const void *arg)
{
	const struct words *w = arg;
	static uint8_t bytes[NFILES][FILE_MAX * PAGE];
	uint8_t *data[NFILES];

	for (unsigned f = 0; f < NFILES; f++) {
		data[f] = bytes[f];
		file_size[f] = (uint64_t)(FILE_MAX - 12 * f) * PAGE - 1000 * f;
		for (uint64_t i = 0; i < file_size[f]; i++)
			bytes[f][i] = (uint8_t)mix(seed + f * 1000003 + i);
	}
	*progress = 0;
	for (unsigned k = 0; k < 2; k++)
		if (!both[k]->x_open(seed, data, file_size))
			_exit(SKIP);
	for (uint64_t i = 0; i < w->n; i++, ++*progress) {
		uint64_t word = w->word == NULL ? mix(seed * 0x100000001b3ull + i) : w->word[i];

		rnd = word;
		doing = ops[op_of(word)].op.so_name;
		ops[op_of(word)].fn();
		if (i % 256 == 255)
			verify();
	}
	verify();
	for (unsigned k = 0; k < 2; k++)
		both[k]->x_close();
}

#define SHRINK_SECONDS 240 /* a script still longer by then will not shrink further */

static int run_child(const uint64_t *words, uint64_t n, bool quiet)
{
	return script_child(run, &(struct words){ words, n }, quiet, progress);
}

static bool fails(const uint64_t *words, uint64_t n, const void *arg)
{
	(void)arg;
	return run_child(words, n, true) != 0;
}

static void shrink(const uint64_t *from, uint64_t n)
{
	uint64_t *words = malloc(n * sizeof(*words));

	for (uint64_t i = 0; i < n; i++)
		words[i] = from == NULL ? mix(seed * 0x100000001b3ull + i) : from[i];
	n = script_shrink(words, n, fails, NULL, 1500, SHRINK_SECONDS);
	fprintf(stderr, "shrunk to %" PRIu64 " operations (--seed %" PRIu64 " --script FILE):\n", n,
	    seed);
	for (uint64_t i = 0; i < n; i++)
		fprintf(stderr, "%016" PRIx64 " %s\n", words[i], ops[op_of(words[i])].op.so_name);
	verbose = true;
	(void)run_child(words, n, false);
	free(words);
}

int main(int argc, char **argv)
{
	uint64_t n = 20000, *words = NULL;
	int rc;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--ops") == 0 && i + 1 < argc)
			n = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed = seed_of(argv[++i]);
		else if (strcmp(argv[i], "--script") == 0 && i + 1 < argc)
			words = script_read(argv[++i], &n);
		else if (strcmp(argv[i], "--verbose") == 0)
			verbose = true;
	}
	progress = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED)
		return 2;
	if ((rc = run_child(words, n, false)) == SKIP)
		return SKIP;
	printf("diff: native and %s, %" PRIu64 " operations, seed %" PRIu64 ": %s\n",
	    exec_tested.x_name, n, seed, rc == 0 ? "the same" : "DIFFERENT");
	if (rc != 0 && !verbose)
		shrink(words, *progress + 1 < n ? *progress + 1 : n);
	return rc == 0 ? 0 : 1;
}
