/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page-fault throughput of the core by 1 and by 2 host threads in one space, each in a segment of its own: first touches, then
 * pages in memory whose translations were dropped, then pages taken back from the cache list.
 * as_fault is called directly: the core and the machine's translations are measured, not signals.
 *
 *   bench_core_threads [rounds]    on host threads that translate by a table (machine/threads/mach_threads.c): the core alone
 *   bench_core_linux [rounds]      on the Linux machine, where each fault moves a page by a call of the kernel
 *
 * Printed: the best of that many rounds (20): thousands of faults a second, and the gain by the
 * second thread. The first rows show the gain that this computer's second CPU gives at best, and
 * that its memory gives where two CPUs write: compare the gains of the other rows with these. Each
 * thread makes its pages ready itself, so that they are in its own CPU's cache.
 */
#include "bench/core_threads.h"
#include "bench/bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PG VM_PAGESIZE

enum { FLOOR, FILL, ZERO, MEMORY, CACHE, NCASES };
static const char *const cases[NCASES] = { "work that shares nothing", "pages zeroed, no core",
	"first touches", "pages in memory", "pages of the cache list" };
#define FLOOR_STEPS 200u /* about as long as a fault */

static char *own_memory; /* 2 * BT_PAGES pages that the core does not manage */

/* Here no thread writes a cache line of the other's. */
struct worker {
	_Alignas(128) struct as *as;
	vaddr_t at;
	enum seg_rw rw;
	enum vm_err (*prepare)(
	    struct as *, vaddr_t); /* by the thread itself, so that its own CPU's cache is filled */
	pthread_barrier_t *start;
	enum vm_err err;
	double from, to;
};

static void must(enum vm_err e, const char *what)
{
	if (e == VM_OK)
		return;
	fprintf(stderr, "bench: %s: %s\n", what, vm_err_name(e));
	exit(1);
}

/* The gain by a second thread of this computer at best. */
static void *work_alone(void *arg)
{
	struct worker *w = arg;
	volatile uint64_t x = 1;

	(void)pthread_barrier_wait(w->start);
	w->from = bench_ns();
	for (uint64_t i = 0; i < BT_PAGES; i++)
		for (unsigned k = 0; k < FLOOR_STEPS; k++)
			x = x * 3 + 1;
	w->to = bench_ns();
	return NULL;
}

/* ---- gains without faults ---- */
static enum vm_err as_it_is(struct as *as, vaddr_t at) { return VM_OK; }

static enum vm_err drop_translations(struct as *as, vaddr_t at)
{
	hat_unload(as_hat(as), at, BT_PAGES * (uint64_t)PG, HAT_UNLOAD);
	return VM_OK;
}

static enum vm_err page_out(struct as *as, vaddr_t at)
{
	return as_advise(as, at, BT_PAGES * (uint64_t)PG, ADV_PAGEOUT);
}

/* The largest gain that first touches could have: zeroing takes the bandwidth of memory, which the
 * CPUs share. */
static void *zero_alone(void *arg)
{
	struct worker *w = arg;
	char *mine = own_memory + w->at;

	(void)pthread_barrier_wait(w->start);
	w->from = bench_ns();
	for (uint64_t i = 0; i < BT_PAGES; i++) {
		memset(mine + i * PG, 0, PG);
		__asm__ volatile("" : : "r"(mine) : "memory");
	}
	w->to = bench_ns();
	return NULL;
}

static void *fault_all(void *arg)
{
	struct worker *w = arg;
	enum vm_err e = w->prepare(w->as, w->at);

	(void)pthread_barrier_wait(w->start);
	w->from = bench_ns();
	for (uint64_t i = 0; i < BT_PAGES && e == VM_OK; i++)
		e = as_fault(w->as, w->at + i * PG, PG, F_INVAL, w->rw);
	w->to = bench_ns();
	w->err = e;
	return NULL;
}

/* Each thread is bound to a CPU of its own, because the kernel tends to wake the second thread on
 * the CPU of the first. */
static void start_on(pthread_t *t, unsigned nth, void *(*fn)(void *), struct worker *w)
{
	cpu_set_t allowed, one;
	pthread_attr_t attr;
	size_t cpu = 0;

	CPU_ZERO(&one);
	(void)sched_getaffinity(0, sizeof allowed, &allowed);
	for (unsigned left = nth % (unsigned)CPU_COUNT(&allowed);
	     left > 0 || !CPU_ISSET(cpu, &allowed); cpu++)
		left -= CPU_ISSET(cpu, &allowed) != 0;
	CPU_SET(cpu, &one);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setaffinity_np(&attr, sizeof one, &one);
	if (pthread_create(t, &attr, fn, w) != 0)
		exit(1);
	(void)pthread_attr_destroy(&attr);
}

/* n threads fault BT_PAGES each; keeps the best rate. */
static void pass(void *(*fn)(void *), enum vm_err (*prepare)(struct as *, vaddr_t), struct as *as,
    const vaddr_t *at, unsigned n, enum seg_rw rw, double *best)
{
	struct worker w[2];
	pthread_barrier_t start;
	pthread_t t[2];
	double from = 0, to = 0, rate;

	(void)pthread_barrier_init(&start, NULL, n);
	for (unsigned i = 0; i < n; i++) {
		w[i] = (struct worker){ as, at[i], rw, prepare, &start, VM_OK, 0, 0 };
		start_on(&t[i], i, fn, &w[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		(void)pthread_join(t[i], NULL);
		must(w[i].err, "as_fault");
		from = i == 0 || w[i].from < from ? w[i].from : from;
		to = i == 0 || w[i].to > to ? w[i].to : to;
	}
	rate = n * BT_PAGES / (to - from) * 1e6;
	*best = rate > *best ? rate : *best;
	(void)pthread_barrier_destroy(&start);
}

static void measure(unsigned n, double best[NCASES])
{
	const struct segvn_args a = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_advice = ADV_RANDOM
	};
	struct vnode *swap;
	vaddr_t at[2];
	struct as *as = bt_open(at, &swap);

	for (unsigned i = 0; i < 2; i++) {
		must(as_map(as, at[i], BT_PAGES * (uint64_t)PG, segvn_create, &a), "as_map");
		bt_mapped(as, at[i]);
	}
	pass(work_alone, as_it_is, as, at, n, S_READ, &best[FLOOR]);
	pass(zero_alone, as_it_is, as, (vaddr_t[]){ 0, BT_PAGES * PG }, n, S_WRITE, &best[FILL]);
	pass(fault_all, as_it_is, as, at, n, S_WRITE, &best[ZERO]);
	pass(fault_all, drop_translations, as, at, n, S_WRITE, &best[MEMORY]);
	if (swap != NULL)
		pass(fault_all, page_out, as, at, n, S_READ, &best[CACHE]);
	bt_close(as);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 20;
	double best[3][NCASES] = { { 0 } };
	size_t bytes = 2 * BT_PAGES * (size_t)PG;

	own_memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (own_memory == MAP_FAILED)
		return 1;
	(void)madvise(own_memory, bytes, MADV_HUGEPAGE);
	memset(own_memory, 0xa5, bytes);

	for (unsigned k = 0; k < rounds; k++)
		for (unsigned n = 1; n <= 2; n++)
			measure(n, best[n]);
	printf("%s\n1000 faults a second        1 thread  2 threads  gain\n", bt_about);
	for (unsigned c = 0; c < NCASES; c++)
		if (best[1][c] > 0)
			printf("%-25s %10.0f %10.0f  %.2f\n", cases[c], best[1][c], best[2][c],
			    best[2][c] / best[1][c]);
	return 0;
}
