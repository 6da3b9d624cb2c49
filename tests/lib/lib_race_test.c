/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Real threads on one libquire system that is several times too small for them: each thread owns a
 * private range of which it knows every word, and keeps its own counter in every page of a range
 * that all threads share. The threads fault, write, drop, protect, lock, pin, unmap and map again
 * concurrently, so the lock protocols of the core and of the Linux machine run in parallel. Most
 * telling under ThreadSanitizer (make tsan).
 *
 *   lib_race_test [--rounds N] [--seed S]
 */
#include <quire/quire.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <stdbool.h>
#include <unistd.h>

#define NTHREADS 4u
#define PAGE 4096u
#define OWN 512u /* pages */
#define SHARED 256u
#define SKIP 77

static struct quire *q;
static uint64_t *shared;
static unsigned rounds = 6000;
static uint64_t seed = 1;

struct worker {
	pthread_t thread;
	unsigned number;
	uint64_t rnd;
	uint64_t *mem;
	uint64_t own[OWN]; /* the word in each page; 0: never written */
	uint64_t count[SHARED];
	uint64_t refused;
};

static _Noreturn void fail(const struct worker *w, const char *what, uint64_t got, uint64_t want)
{
	fprintf(stderr,
	    "lib_race_test: seed %" PRIu64 " thread %u: %s: %" PRIx64 ", expected %" PRIx64
	    " (%s)\n",
	    seed, w->number, what, got, want, strerror(errno));
	_exit(1);
}

static uint64_t draw(struct worker *w)
{
	w->rnd ^= w->rnd << 13;
	w->rnd ^= w->rnd >> 7;
	w->rnd ^= w->rnd << 17;
	return w->rnd >> 11;
}

static unsigned below(struct worker *w, unsigned n) { return (unsigned)(draw(w) % n); }

static uint64_t *word(const struct worker *w, unsigned page)
{
	return w->mem + page * (PAGE / 8) + page % (PAGE / 8);
}

static void map_own(struct worker *w)
{
	w->mem = quire_map(
	    q, NULL, OWN * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w->mem == MAP_FAILED)
		fail(w, "quire_map", 0, 1);
	memset(w->own, 0, sizeof(w->own));
}

/* A call that may be refused for lack of memory, and for no other reason. */
static bool may_refuse(struct worker *w, const char *what, int rc)
{
	if (rc == 0)
		return true;
	if (errno != ENOMEM && errno != EAGAIN && errno != EBUSY)
		fail(w, what, (uint64_t)errno, ENOMEM);
	w->refused++;
	return false;
}

static void use_own(struct worker *w)
{
	for (unsigned n = 0; n < 16; n++) {
		unsigned i = below(w, OWN);

		if (*word(w, i) != w->own[i])
			fail(w, "own page", *word(w, i), w->own[i]);
		if (below(w, 2) != 0)
			*word(w, i) = w->own[i] = draw(w) | 1;
	}
}

static void use_shared(struct worker *w)
{
	for (unsigned n = 0; n < 8; n++) {
		unsigned i = below(w, SHARED);
		volatile uint64_t *p = shared + i * (PAGE / 8) + w->number * 8;

		if (*p != w->count[i])
			fail(w, "shared page", *p, w->count[i]);
		*p = ++w->count[i];
	}
}

static void change_own(struct worker *w)
{
	unsigned lo = below(w, OWN), n = 1 + below(w, OWN - lo < 32 ? OWN - lo : 32);
	char *at = (char *)w->mem + (size_t)lo * PAGE;
	size_t len = (size_t)n * PAGE;

	switch (below(w, 8)) {
	case 0:
		if (may_refuse(w, "dontneed", quire_advise(q, at, len, MADV_DONTNEED)))
			memset(w->own + lo, 0, n * sizeof(*w->own));
		break;
	case 1: (void)may_refuse(w, "pageout", quire_advise(q, at, len, MADV_PAGEOUT)); break;
	case 2: (void)may_refuse(w, "willneed", quire_advise(q, at, len, MADV_WILLNEED)); break;
	case 3:
		if (may_refuse(w, "protect", quire_protect(q, at, len, PROT_READ)) &&
		    *word(w, lo) != w->own[lo])
			fail(w, "read-only page", *word(w, lo), w->own[lo]);
		while (!may_refuse(
		    w, "protect back", quire_protect(q, at, len, PROT_READ | PROT_WRITE)))
			;
		break;
	case 4:
		if (may_refuse(w, "lock", quire_lock(q, at, len))) {
			use_own(w);
			(void)may_refuse(w, "unlock", quire_unlock(q, at, len));
		}
		break;
	case 5:
		if (may_refuse(w, "pin", quire_pin(q, at, len, 1))) {
			use_own(w);
			if (quire_unpin(q, at, len, 1) != 0)
				fail(w, "quire_unpin", 1, 0);
		}
		break;
	case 6: {
		unsigned char vec[32];

		(void)may_refuse(w, "incore", quire_incore(q, at, len, vec));
		break;
	}
	default:
		if (below(w, 8) == 0 && may_refuse(w, "unmap", quire_unmap(q, w->mem, OWN * PAGE)))
			map_own(w);
		break;
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	map_own(w);
	for (unsigned i = 0; i < rounds; i++) {
		if (below(w, 4) == 0)
			use_shared(w);
		else if (below(w, 8) == 0)
			change_own(w);
		else
			use_own(w);
	}
	for (unsigned i = 0; i < OWN; i++)
		if (*word(w, i) != w->own[i])
			fail(w, "own page at the end", *word(w, i), w->own[i]);
	return NULL;
}

static void report(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "check: %s\n", text);
}

int main(int argc, char **argv)
{
	struct quire_config c = {
		.size = sizeof(c), .memory = 3u << 20, .pool = 16u << 20, .window = 1u << 30
	};
	static struct worker w[NTHREADS];
	struct quire_stats st;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--rounds") == 0)
			rounds = (unsigned)strtoul(argv[i + 1], NULL, 0);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 0);
	}
	if (quire_open(&c, &q) != 0) {
		printf("skipped: quire_open: %s\n", strerror(errno));
		return errno == ENOSYS || errno == EPERM ? SKIP : 1;
	}
	shared = quire_map(
	    q, NULL, SHARED * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	for (unsigned i = 0; i < NTHREADS; i++) {
		w[i].number = i;
		w[i].rnd = (seed * NTHREADS + i + 1) * 0x9e3779b97f4a7c15ull;
		if (pthread_create(&w[i].thread, NULL, worker_main, &w[i]) != 0)
			return 1;
	}
	for (unsigned i = 0; i < NTHREADS; i++)
		(void)pthread_join(w[i].thread, NULL);
	for (unsigned k = 0; k < NTHREADS; k++)
		for (unsigned i = 0; i < SHARED; i++)
			if (shared[i * (PAGE / 8) + k * 8] != w[k].count[i])
				fail(&w[k], "shared page at the end",
				    shared[i * (PAGE / 8) + k * 8], w[k].count[i]);
	if (quire_check(q, report, NULL) != 0)
		return 1;
	(void)quire_stat(q, &st, sizeof(st));
	printf("lib_race_test: %u threads x %u rounds, seed %" PRIu64 ": %" PRIu64
	       " faults, %" PRIu64 " pages out, %" PRIu64 " in, %" PRIu64 " refused\n",
	    NTHREADS, rounds, seed, st.faults, st.pages_out, st.pages_in,
	    w[0].refused + w[1].refused + w[2].refused + w[3].refused);
	return quire_close(q) == 0 ? 0 : 1;
}
