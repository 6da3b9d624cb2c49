/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cost of the core's operations on the simulated machine (whose locks check ranks: real locks
 * are cheaper), and the memory that it keeps for each frame and each mapping. Only the core's own
 * structures are read and written; the times leave out the machine's TLB and disk.
 *
 *   bench_core [rounds [segments]]     prints the best of that many rounds (5), in ns of this computer; with segments only the
 *                                      line of a space with so many segments
 *
 * Space: `segments` pages of anonymous memory, each a segment of its own with a page's hole behind it.
 */
#include "machine/sim/sim_impl.h"
#include "vm/impl.h"
#include "bench/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define FRAMES 98304u /* 384 MiB */
#define PG VM_PAGESIZE
#define GB ((uint64_t)1 << 30)
#define SEGS_AT ((vaddr_t)1 << 40)
#define DATA_AT ((vaddr_t)1 << 36)
#define TOUCHED 16384u /* pages of the data that a fork finds touched: 64 MiB of 1 GiB */
#define PAIRS 20000u

static unsigned rounds = 5;

static void must(enum vm_err e, const char *what)
{
	if (e == VM_OK)
		return;
	fprintf(stderr, "bench_core: %s: %s\n", what, vm_err_name(e));
	exit(1);
}

static uint64_t rnd_state = 1;
static uint64_t rnd(uint64_t n)
{
	rnd_state = rnd_state * 6364136223846793005u + 1442695040888963407u;
	return (rnd_state >> 33) % n;
}

static void map(struct as *as, vaddr_t va, uint64_t len, unsigned flags)
{
	const struct segvn_args a = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_flags = flags
	};

	must(as_map(as, va, len, segvn_create, &a), "as_map");
}

/* ---- one space with that many segments ---- */
struct result {
	double map, unmap, find, fault, dup, dup_page, free_page, fork;
};

static void keep(double *best, double v)
{
	if (*best == 0 || v < *best)
		*best = v;
}

/* A page is mapped and unmapped in the hole behind a segment; no segments merge. */
static void time_map(struct as *as, uint64_t segs, struct result *r)
{
	static vaddr_t at[PAIRS];
	const struct segvn_args a = { .sa_prot = PROT_R, .sa_maxprot = PROT_R };
	uint64_t n = segs < PAIRS ? segs : PAIRS;
	double t0, t1 = 0, t2 = 0;

	for (uint64_t i = 0; i < n; i++)
		at[i] = SEGS_AT + (2 * (segs <= PAIRS ? i : i * (segs / n)) + 1) * PG;
	for (uint64_t i = n; i-- > 1;) {
		uint64_t j = rnd(i + 1);
		vaddr_t x = at[i];

		at[i] = at[j];
		at[j] = x;
	}
	for (uint64_t again = 0; again < PAIRS / n; again++) {
		t0 = bench_ns();
		for (uint64_t i = 0; i < n; i++)
			must(as_map(as, at[i], PG, segvn_create, &a), "as_map");
		t1 += bench_ns() - t0;
		t0 = bench_ns();
		for (uint64_t i = 0; i < n; i++)
			must(as_unmap(as, at[i], PG), "as_unmap");
		t2 += bench_ns() - t0;
	}
	keep(&r->map, t1 / (double)(n * (PAIRS / n)));
	keep(&r->unmap, t2 / (double)(n * (PAIRS / n)));
}

/* Pages on the cache list are faulted in again, segments in random order. */
static void time_fault(struct as *as, uint64_t segs, struct result *r)
{
	uint64_t n = segs < 8192 ? segs : 8192, reps = 8192 / n;
	double t = 0, t0;

	for (uint64_t k = 0; k < reps; k++) {
		for (uint64_t i = 0; i < n; i++)
			must(as_advise(as, SEGS_AT + 2 * (i * (segs / n)) * PG, PG, ADV_PAGEOUT),
			    "as_advise");
		rnd_state = k + 1;
		uint64_t step = n > 3 ? n - 3 : 1,
			 i = 0; /* visits each segment once: n is 10, 1000 or 8192 */
		t0 = bench_ns();
		for (uint64_t c = 0; c < n; c++, i = (i + step) % n)
			must(as_fault(as, SEGS_AT + 2 * (i * (segs / n)) * PG, PG, F_INVAL, S_READ),
			    "as_fault");
		t += bench_ns() - t0;
	}
	keep(&r->fault, t / (double)(n * reps));
}

static void time_fork(struct as *as, double *dup, double *end)
{
	struct as *child;
	double t0 = bench_ns(), t1;

	must(as_dup(as, &child), "as_dup");
	t1 = bench_ns();
	as_free(child);
	keep(dup, t1 - t0);
	keep(end, bench_ns() - t1);
}

static struct vm *system_new(struct mach **mp, struct vnode **swap)
{
	struct sim_config cfg = { .frames = FRAMES };
	struct vm_config vc = { .vc_frames = FRAMES, .vc_overcommit = true };
	struct vm *vm;

	vc.vc_mach = *mp = sim_create(&cfg);
	if (*mp == NULL)
		must(VM_NOMEM, "sim_create");
	/* A kernel reaches its memory through large pages; without them the TLB of this computer
	 * would be measured. */
	(void)madvise((void *)(((uintptr_t)(*mp)->m_mem + PG - 1) & ~(uintptr_t)(PG - 1)),
	    (FRAMES - 1) * (size_t)PG, MADV_HUGEPAGE);
	must(vm_create(&vc, &vm), "vm_create");
	*swap = sim_disk_create(*mp, vm, "swap", vm_ptob(20000), V_SWAP);
	must(swap_add(vm, *swap, 20000, 0), "swap_add");
	return vm;
}

static void bench_segs(uint64_t segs)
{
	struct result r = { 0 };
	struct vnode *swap;
	struct mach *m;
	struct vm *vm = system_new(&m, &swap);
	struct as *as;
	double unused = 0;

	must(as_alloc(vm, 0x10000, (vaddr_t)1 << 47, &as), "as_alloc");
	for (uint64_t i = 0; i < segs; i++) {
		map(as, SEGS_AT + 2 * i * PG, PG, 0);
		if (i % (segs <= 8192 ? 1 : segs / 8192) == 0)
			must(as_fault(as, SEGS_AT + 2 * i * PG, PG, F_INVAL, S_WRITE), "as_fault");
	}
	for (unsigned k = 0; k < rounds; k++) {
		time_map(as, segs, &r);
		time_fault(as, segs, &r);
		time_fork(as, &r.fork, &unused);
	}
	printf("%9" PRIu64 " %9.0f %9.0f %12.0f %14.0f\n", segs, r.map, r.unmap, r.fault,
	    r.fork / (double)segs);
	as_free(as);
	vm_destroy(vm);
	sim_destroy(m);
}

static void bench_fork(void)
{
	double dup0 = 0, free0 = 0, dup1 = 0, free1 = 0;
	struct vnode *swap;
	struct mach *m;
	struct vm *vm = system_new(&m, &swap);
	struct as *as;

	must(as_alloc(vm, 0x10000, (vaddr_t)1 << 47, &as), "as_alloc");
	map(as, DATA_AT, GB, 0);
	for (unsigned k = 0; k < rounds; k++)
		time_fork(as, &dup0, &free0);
	for (uint64_t i = 0; i < TOUCHED; i++)
		must(as_fault(as, DATA_AT + i * PG, PG, F_INVAL, S_WRITE), "as_fault");
	for (unsigned k = 0; k < rounds; k++) {
		must(as_fault(as, DATA_AT, TOUCHED * PG, F_PROT, S_WRITE), "as_fault");
		time_fork(as, &dup1, &free1);
	}
	printf("\nfork of 1 GiB mapped, nothing touched: %.0f ns, end of the child %.0f ns\n", dup0,
	    free0);
	printf("fork of 1 GiB mapped, %u pages touched: %.0f us, end of the child %.0f us\n",
	    TOUCHED, dup1 / 1e3, free1 / 1e3);
	printf("a page of as_dup %.0f ns, of as_free of the child %.0f ns\n",
	    (dup1 - dup0) / TOUCHED, (free1 - free0) / TOUCHED);
	double t0 = bench_ns();
	as_free(as);
	printf("a page of as_free that holds it alone: %.0f ns\n", (bench_ns() - t0) / TOUCHED);
	vm_destroy(vm);
	sim_destroy(m);
}

/* ---- memory kept ---- */
static uint64_t boot_bytes(const struct mach *m)
{
	uint64_t n = 0;

	for (const struct boot_chunk *b = m->m_boot; b != NULL; b = b->b_next)
		n += b->b_bytes;
	return n;
}

static void bench_memory(void)
{
	const uint64_t gib = 4096, per = FRAMES;
	struct vnode *swap;
	struct mach *m;
	struct vm *vm = system_new(&m, &swap);
	uint64_t fixed = sizeof(struct vm) + vm->vm_anonchunks_max * sizeof(struct anon *), before;
	double hash = (double)sizeof(uint32_t) * (vm->vm_hashmask + 1.0) / (double)per;
	double maps = sizeof(((struct page *)NULL)->p_hat),
	       all = (double)(boot_bytes(m) - fixed) / (double)per;
	struct as *as;

	printf(
	    "\na frame: %.1f bytes: name, locks, lists, policy %.0f, hash %.1f, list of mappings %.0f, the rest %.2f\n",
	    all, (double)sizeof(struct page) - maps, hash, maps,
	    all - hash - (double)sizeof(struct page));
	printf("a frame without its list of mappings: %.1f bytes (at most 64)\n", all - maps);
	must(as_alloc(vm, 0x10000, (vaddr_t)1 << 47, &as), "as_alloc");
	map(as, 0x100000, PG, 0);
	before = vm->vm_nkernel;
	for (uint64_t i = 0; i < gib; i++)
		map(as, DATA_AT + 2 * i * GB, GB, SEGVN_NORESERVE);
	printf("a GiB mapped and not touched: %" PRIu64 " bytes\n",
	    (vm->vm_nkernel - before) * PG / gib);
	before = vm->vm_nkernel;
	for (uint64_t i = 0; i < TOUCHED; i++)
		must(as_fault(as, DATA_AT + i * PG, PG, F_INVAL, S_WRITE), "as_fault");
	printf("a touched page of anonymous memory, with its table entries: %.1f bytes\n",
	    (double)((vm->vm_nkernel - before) * PG) / TOUCHED);
	as_free(as);
	vm_destroy(vm);
	sim_destroy(m);
}

int main(int argc, char **argv)
{
	static const uint64_t segs[] = { 10, 1000, 100000 };

	if (argc > 1)
		rounds = (unsigned)strtoul(argv[1], NULL, 10);
	if (rounds == 0)
		rounds = 1;
	if (argc > 2) {
		bench_segs(strtoul(argv[2], NULL, 10));
		return 0;
	}
	printf(" segments    as_map  as_unmap  cached fault  fork a segment   (ns)\n");
	for (unsigned i = 0; i < 3; i++)
		bench_segs(segs[i]);
	bench_fork();
	bench_memory();
	return 0;
}
