/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page-fault throughput of the core on the Linux machine, by 1 and by 2 host threads in one space: each thread faults the
 * pages of a range of its own, first with zeroes, then back from the arena after their translations were dropped. as_fault
 * is called directly, so what is measured is the core and the frames' moves, not signals.
 *
 *   bench_core_threads [rounds]    best of that many (5): faults a second, in thousands, and the gain by the second thread
 */
#include "machine/linux/linux.h"
#include "vm/impl.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGES 8192u /* a thread */
#define PG VM_PAGESIZE

struct worker {
	struct as *as;
	vaddr_t at;
	pthread_barrier_t *start;
	enum vm_err err;
};

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *fault_all(void *arg)
{
	struct worker *w = arg;

	(void)pthread_barrier_wait(w->start);
	for (uint64_t i = 0; i < PAGES && w->err == VM_OK; i++)
		w->err = as_fault(w->as, w->at + i * PG, PG, F_INVAL, S_WRITE);
	return NULL;
}

/* ns that n threads take for PAGES faults each. */
static double pass(struct as *as, const vaddr_t *at, unsigned n)
{
	struct worker w[2];
	pthread_barrier_t start;
	pthread_t t[2];
	double t0;

	(void)pthread_barrier_init(&start, NULL, n + 1);
	for (unsigned i = 0; i < n; i++) {
		w[i] = (struct worker){ as, at[i], &start, VM_OK };
		if (pthread_create(&t[i], NULL, fault_all, &w[i]) != 0)
			exit(1);
	}
	(void)pthread_barrier_wait(&start);
	t0 = now();
	for (unsigned i = 0; i < n; i++) {
		(void)pthread_join(t[i], NULL);
		if (w[i].err != VM_OK) {
			fprintf(stderr, "bench_core_threads: as_fault: %s\n", vm_err_name(w[i].err));
			exit(1);
		}
	}
	t0 = now() - t0;
	(void)pthread_barrier_destroy(&start);
	return t0;
}

static void measure(unsigned n, double *zero, double *again)
{
	struct linux_config lc = { .frames = 4 * PAGES };
	struct vm_config vc = { .vc_frames = 4 * PAGES };
	const struct segvn_args a = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_advice = ADV_RANDOM
	};
	char *mem = mmap(NULL, 3 * PAGES * (size_t)PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	vaddr_t at[2] = { (vaddr_t)(uintptr_t)mem, (vaddr_t)(uintptr_t)mem + 2 * (vaddr_t)PAGES * PG };
	struct vm *vm;
	struct as *as;
	double t;

	if (mem == MAP_FAILED || linux_create(&lc, &vc.vc_mach) != 0 || vm_create(&vc, &vm) != VM_OK ||
	    as_alloc(vm, PG, (vaddr_t)1 << 47, &as) != VM_OK) {
		fprintf(stderr, "bench_core_threads: no machine\n");
		exit(1);
	}
	for (unsigned i = 0; i < 2; i++)
		if (as_map(as, at[i], PAGES * (uint64_t)PG, segvn_create, &a) != VM_OK ||
		    linux_range_register(vc.vc_mach, as_hat(as), at[i], PAGES * (uint64_t)PG) != 0)
			exit(1);
	t = n * PAGES / pass(as, at, n) * 1e6;
	*zero = t > *zero ? t : *zero;
	as_swapout_soft(as);
	t = n * PAGES / pass(as, at, n) * 1e6;
	*again = t > *again ? t : *again;
	for (unsigned i = 0; i < 2; i++)
		linux_range_unregister(vc.vc_mach, as_hat(as), at[i], PAGES * (uint64_t)PG, true);
	as_free(as);
	vm_destroy(vm);
	linux_destroy(vc.vc_mach);
	(void)munmap(mem, 3 * PAGES * (size_t)PG);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 5;
	double zero[3] = { 0 }, again[3] = { 0 };

	for (unsigned k = 0; k < rounds; k++)
		for (unsigned n = 1; n <= 2; n++)
			measure(n, &zero[n], &again[n]);
	printf("1000 faults a second    1 thread  2 threads  gain\n");
	printf("zeroed pages           %9.0f  %9.0f  %.2f\n", zero[1], zero[2], zero[2] / zero[1]);
	printf("pages in memory        %9.0f  %9.0f  %.2f\n", again[1], again[2], again[2] / again[1]);
	return 0;
}
