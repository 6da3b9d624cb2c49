/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The core raced by real threads on the machine of host threads (mach_threads.h): each has a
 * segment of its own in one space, of which it knows every word, in memory that is too small for
 * all; they write, read, drop, page out, map again and fork. With 64 locks of names, so that every
 * lock of the page layer is one of several. At the end the checker checks the whole system. Most
 * telling under ThreadSanitizer (make tsan).
 *
 *   core_threads_test [--rounds N] [--seed S]
 */
#include "machine/stub/vnode_stub.h"
#include "machine/threads/mach_threads.h"
#include "vm/impl.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NTHREADS 4u
#define PAGES 600u /* a segment */
#define SLOTS 8192u
#define PG VM_PAGESIZE

static uint64_t seed = 1, rounds = 4000;
static struct vm *vm;
static struct as *space;

static _Noreturn void fail(const char *what, uint64_t got, uint64_t want)
{
	fprintf(stderr,
	    "core_threads_test: seed %" PRIu64 ": %s: %" PRIx64 ", expected %" PRIx64 "\n", seed,
	    what, got, want);
	exit(1);
}

static void must(enum vm_err e, const char *what)
{
	if (e != VM_OK)
		fail(what, e, VM_OK);
}

/* ---- swap: host memory ---- */
static unsigned char *swap_mem;

static void swap_start(struct vnode *vp, struct vm_io *io)
{
	for (uint32_t i = 0; i < io->io_npages; i++) {
		unsigned char *at = swap_mem + io->io_off + (size_t)i * PG;

		memcpy(io->io_op == VM_IO_READ ? io->io_buf[i] : at,
		    io->io_op == VM_IO_READ ? at : io->io_buf[i], PG);
	}
	io->io_err = VM_OK;
	io->io_ok = io->io_npages;
	io->io_done(io);
}
static uint64_t swap_size(struct vnode *vp) { return vm_ptob(SLOTS); }
static const struct vnode_ops swap_ops = {
	.vo_name = "memory",
	.vo_start = swap_start,
	.vo_poll = stub_poll,
	.vo_discard = stub_discard,
	.vo_sync = stub_sync,
	.vo_size = swap_size,
	.vo_inactive = stub_inactive,
};

/* ---- threads ---- */
struct worker {
	pthread_t thread;
	uint64_t rnd;
	vaddr_t at;
	uint64_t word[PAGES]; /* the contents of each page; 0: never written */
};

static uint64_t below(struct worker *w, uint64_t n)
{
	w->rnd ^= w->rnd << 13;
	w->rnd ^= w->rnd >> 7;
	w->rnd ^= w->rnd << 17;
	return (w->rnd >> 11) % n;
}

static void map(struct worker *w)
{
	const struct segvn_args a = { .sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W };

	must(as_map(space, w->at, PAGES * (uint64_t)PG, segvn_create, &a), "as_map");
}

static void look(struct worker *w, struct as *as, uint64_t i)
{
	uint64_t v = 0;

	must(mt_load(as, w->at + i * PG, &v), "load");
	if (v != w->word[i])
		fail("a page", v, w->word[i]);
}

/* A child sees the parent's memory of the time of the fork, also while the parent writes. */
static void fork_once(struct worker *w)
{
	struct as *child;
	uint64_t i = below(w, PAGES), was = w->word[i], v = 0;

	must(as_dup(space, &child), "as_dup");
	must(mt_store(space, w->at + i * PG, w->word[i] = w->rnd | 1), "store");
	must(mt_load(child, w->at + i * PG, &v), "load of the child");
	if (v != was)
		fail("a page of the child", v, was);
	as_free(child);
	look(w, space, i);
}

static void step(struct worker *w)
{
	uint64_t i = below(w, PAGES), n = 1 + below(w, PAGES - i < 40 ? PAGES - i : 40),
		 what = below(w, 1000);

	if (what < 3) {
		fork_once(w);
	} else if (what < 6) {
		must(as_unmap(space, w->at, PAGES * (uint64_t)PG), "as_unmap");
		memset(w->word, 0, sizeof w->word);
		map(w);
	} else if (what < 30) {
		must(as_advise(space, w->at + i * PG, n * PG, ADV_DONTNEED), "as_advise");
		memset(&w->word[i], 0, n * sizeof w->word[0]);
	} else if (what < 100) {
		must(as_advise(space, w->at + i * PG, n * PG, what < 60 ? ADV_PAGEOUT : ADV_COLD),
		    "as_advise");
	} else if (what < 110) {
		enum vm_err e = as_lock(space, w->at + i * PG, PG);

		if (e == VM_OK)
			must(as_unlock(space, w->at + i * PG, PG), "as_unlock");
		else if (e != VM_LIMIT && e != VM_NOMEM)
			fail("as_lock", e, VM_OK);
	} else if (what < 600) {
		for (uint64_t k = i; k < i + n; k++)
			look(w, space, k);
	} else {
		for (uint64_t k = i; k < i + n; k++)
			must(mt_store(space, w->at + k * PG, w->word[k] = w->rnd + k + 1), "store");
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (uint64_t r = 0; r < rounds; r++)
		step(w);
	for (uint64_t i = 0; i < PAGES; i++)
		look(w, space, i);
	return NULL;
}

static void report(void *arg, const char *text)
{
	fprintf(stderr, "core_threads_test: %s\n", text);
}

/* frames: 1536 is too few for the written pages, 32768 so many that CPUs cache frames. */
static void race(pfn_t frames, const struct policy_ops *policy)
{
	struct vm_config vc = { .vc_frames = frames,
		.vc_mach = mt_create(frames),
		.vc_pagelocks = 64,
		.vc_overcommit = true,
		.vc_policy = policy };
	static struct worker w[NTHREADS];
	struct vnode swap;

	must(vm_create(&vc, &vm), "vm_create");
	vnode_init(&swap, vm, &swap_ops, NULL);
	swap.v_flags = V_SWAP;
	must(swap_add(vm, &swap, SLOTS, 0), "swap_add");
	must(as_alloc(vm, MT_BASE, MT_BASE + MT_SPAN, &space), "as_alloc");
	for (unsigned i = 0; i < NTHREADS; i++) {
		w[i] = (struct worker){ .rnd = seed * 2654435761u + i + 1,
			.at = MT_BASE + i * ((uint64_t)64 << 20) };
		map(&w[i]);
		if (pthread_create(&w[i].thread, NULL, work, &w[i]) != 0)
			fail("pthread_create", 1, 0);
	}
	for (unsigned i = 0; i < NTHREADS; i++)
		(void)pthread_join(w[i].thread, NULL);
	if (vm_check(vm, report, NULL) != 0)
		fail("vm_check", 1, 0);
	as_free(space);
	must(swap_remove(vm, &swap), "swap_remove");
	vnode_rele(&swap);
	if (vm_check(vm, report, NULL) != 0)
		fail("vm_check at the end", 1, 0);
	vm_destroy(vm);
	mt_destroy(vc.vc_mach);
}

int main(int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--rounds") == 0)
			rounds = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 10);
	}
	swap_mem = calloc(SLOTS, PG);
	race(1536, NULL);
	race(1536, policy_find("clockpro"));
	race(32768, NULL);
	free(swap_mem);
	printf("core_threads_test: seed %" PRIu64 ": ok\n", seed);
	return 0;
}
