/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TLB model of the simulated machine and the HATs' duties towards it: which CPUs are
 * interrupted, how many ranges one interrupt carries, when a TLB is flushed as a whole, that
 * address space numbers are never confused, and that no frame is reused while a CPU can still
 * access it. The last property is also violated on purpose, which must be noticed.
 */
#include "machine/sim/sim.h"
#include "hat/mmu.h"

#include <quire/as.h>
#include <quire/hat.h>
#include <quire/page.h>
#include <quire/seg.h>
#include <quire/vm.h>
#include <quire/vnode.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(e) check((e), #e, __LINE__)
#define VA ((vaddr_t)0x20000000)
#define MAXAS 24u

static unsigned failures;
static const char *what_machine;

static void check(bool ok, const char *what, int line)
{
	if (!ok && failures++ < 20)
		fprintf(stderr, "%s: tlb_test.c:%d: %s\n", what_machine, line, what);
}

struct env {
	struct mach *mach;
	struct vm *vm;
	struct as *as[MAXAS];
	unsigned nas;
	struct sim_stats was;
};

static void setup(struct env *e, const struct sim_config *cfg, unsigned nas)
{
	struct segvn_args a = { .sa_prot = PROT_R | PROT_W,
		.sa_maxprot = PROT_R | PROT_W,
		.sa_flags = SEGVN_NORESERVE };
	struct vm_config vc = { .vc_frames = cfg->frames };

	memset(e, 0, sizeof(*e));
	vc.vc_mach = e->mach = sim_create(cfg);
	if (e->mach == NULL || vm_create(&vc, &e->vm) != VM_OK)
		exit(1);
	e->nas = nas;
	for (unsigned i = 0; i < nas; i++) {
		CHECK(
		    as_alloc(e->vm, 0x10000, mach_caps(e->mach)->mc_user_max, &e->as[i]) == VM_OK);
		CHECK(as_map(e->as[i], VA, vm_ptob(64), segvn_create, &a) == VM_OK);
	}
}

static void silent(void *arg, const char *text)
{
	(void)text;
	++*(unsigned *)arg;
}

static unsigned violations(struct env *e)
{
	unsigned told = 0, n = vm_check(e->vm, silent, &told);

	CHECK(told == n);
	return n + sim_tlb_check(e->mach, silent, &told);
}

static void teardown(struct env *e)
{
	CHECK(violations(e) == 0);
	for (unsigned i = 0; i < e->nas; i++)
		as_free(e->as[i]);
	vm_destroy(e->vm);
	sim_destroy(e->mach);
}

static uint64_t put(struct env *e, unsigned as, unsigned cpu, unsigned page, uint64_t v)
{
	CHECK(sim_write(e->mach, e->as[as], cpu, VA + vm_ptob(page), &v, sizeof(v), NULL) == VM_OK);
	return v;
}

static uint64_t get(struct env *e, unsigned as, unsigned cpu, unsigned page)
{
	uint64_t v = 0;

	CHECK(sim_read(e->mach, e->as[as], cpu, VA + vm_ptob(page), &v, sizeof(v), NULL) == VM_OK);
	return v;
}

static void mark(struct env *e) { sim_statistics(e->mach, &e->was); }

#define SINCE(e, field) since(e, offsetof(struct sim_stats, field))
static uint64_t since(struct env *e, size_t offset)
{
	struct sim_stats now;

	sim_statistics(e->mach, &now);
	return *(uint64_t *)(void *)((char *)&now + offset) -
	    *(uint64_t *)(void *)((char *)&e->was + offset);
}

/* ---- who is interrupted ---- */
static void test_shootdown(enum sim_format f)
{
	struct sim_config cfg = { .frames = 256, .ncpus = 4, .format = f, .ipi_latency = 500 };
	struct hat *hat;
	struct env e;

	setup(&e, &cfg, 2);
	hat = as_hat(e.as[0]);
	for (unsigned cpu = 0; cpu < 3; cpu++)
		for (unsigned i = 0; i < 20; i++)
			put(&e, 0, cpu, i, i);
	put(&e, 1, 3, 0, 1); /* the fourth CPU runs another space */
	sim_cpu_set(e.mach, 0);
	mark(&e);
	hat_unload(hat, VA, vm_ptob(10), HAT_UNLOAD);
	CHECK(SINCE(&e, ss_shootdown) == 1); /* one round for the range */
	CHECK(SINCE(&e, ss_ipi) == 2);       /* the two other CPUs that run the space */
	CHECK(SINCE(&e, ss_lazy) == 1);
	CHECK(violations(&e) == 0);
	mark(&e);
	hat_unload(hat, VA, vm_ptob(10), HAT_UNLOAD);
	CHECK(SINCE(&e, ss_flush) == 0); /* nothing was there */
	/*
	 * an idle CPU is not interrupted, and no longer sees its old translations when it continues
	 */
	sim_cpu_idle(e.mach, 1);
	mark(&e);
	hat_clrattr(hat, VA + vm_ptob(10), vm_ptob(10), PROT_W);
	CHECK(SINCE(&e, ss_ipi) == 1 && SINCE(&e, ss_lazy) == 2);
	CHECK(violations(&e) == 0);
	mark(&e);
	CHECK(get(&e, 0, 1, 12) == 12);
	CHECK(SINCE(&e, ss_tlb_hit) == 0);
	/* rights that are only raised need no flush */
	mark(&e);
	for (unsigned i = 10; i < 20; i++)
		CHECK(hat_memload(hat, VA + vm_ptob(i),
			  page_of(e.vm, hat_probe(hat, VA + vm_ptob(i), NULL)), PROT_R | PROT_W,
			  HAT_LOAD) == VM_OK);
	CHECK(SINCE(&e, ss_flush) == 0);
	teardown(&e);
}

/* Unloading a page that many spaces map takes one round. */
static void test_batch(enum sim_format f)
{
	struct sim_config cfg = { .frames = 512, .ncpus = 12, .format = f, .ipi_latency = 700 };
	struct segvn_args a = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_flags = SEGVN_SHARED
	};
	struct vnode *file;
	struct page *pp;
	struct env e;

	setup(&e, &cfg, 12);
	a.sa_vnode = file = sim_disk_create(e.mach, e.vm, "file", vm_ptob(4), 0);
	for (unsigned i = 0; i < 12; i++) {
		CHECK(as_map(e.as[i], VA + vm_ptob(100), vm_ptob(4), segvn_create, &a) == VM_OK);
		put(&e, i, i, 100, i);
	}
	sim_cpu_set(e.mach, 0);
	pp = page_lookup(e.vm, file, 0, SE_EXCL);
	CHECK(pp != NULL && hat_page_getshare(pp) == 12);
	mark(&e);
	hat_pageunload(pp);
	CHECK(SINCE(&e, ss_shootdown) == 1 && SINCE(&e, ss_ipi) == 11);
	CHECK(page_nrm(pp) & P_MOD);
	page_unlock(e.vm, pp);
	CHECK(violations(&e) == 0);
	for (unsigned i = 0; i < 12; i++)
		CHECK(get(&e, i, 11 - i, 100) == 11);
	for (unsigned i = 0; i < 12; i++)
		CHECK(as_unmap(e.as[i], VA + vm_ptob(100), vm_ptob(4)) == VM_OK);
	vnode_rele(file);
	teardown(&e);
}

/* ---- numbers of spaces ---- */
static void test_numbers(enum sim_format f, unsigned asids)
{
	struct sim_config cfg = {
		.frames = 1024, .ncpus = 3, .format = f, .asids = asids, .tlb_entries = 256
	};
	uint64_t x = 1, v[MAXAS];
	struct env e;

	setup(&e, &cfg, MAXAS);
	for (unsigned i = 0; i < MAXAS; i++)
		v[i] = put(&e, i, i % 3, 0, i * 1000 + 7);
	put(&e, 0, 0, 0, v[0]);
	put(&e, 1, 0, 0, v[1]);
	mark(&e);
	for (unsigned i = 0; i < 100; i++)
		CHECK(get(&e, i & 1, 0, 0) == v[i & 1]);
	CHECK(SINCE(&e, ss_load) == 100);
	if (f == SIM_I386 || f == SIM_PAE)
		CHECK(SINCE(&e, ss_load_flush) == 100 && SINCE(&e, ss_tlb_hit) == 0);
	else
		CHECK(SINCE(&e, ss_load_flush) == 0 && SINCE(&e, ss_tlb_hit) == 100);
	for (unsigned i = 0; i < 20000; i++) {
		unsigned as, cpu;

		x = x * 6364136223846793005ull + 1442695040888963407ull;
		as = (unsigned)(x >> 40) % MAXAS;
		cpu = (unsigned)(x >> 33) % 3;
		if ((x >> 50) % 16 == 0)
			hat_unload(as_hat(e.as[as]), VA, VM_PAGESIZE, HAT_UNLOAD);
		else if ((x >> 50) % 16 < 4)
			v[as] = put(&e, as, cpu, 0, x);
		else
			CHECK(get(&e, as, cpu, 0) == v[as]);
		if (i % 1000 == 0)
			CHECK(violations(&e) == 0);
	}
	if (asids == 8 && f == SIM_SFMMU)
		CHECK(mmu_hat_shared(e.mach)->hs_asids.as_steals > 1000);
	else if (asids == 8)
		CHECK(mmu_hat_shared(e.mach)->hs_asids.as_rollovers > 100);
	teardown(&e);
}

/* ---- broken on purpose ---- */
/*
 * A page is unloaded while another CPU runs its space, and its frame is reused. If the sender does
 * not wait for that CPU, the CPU still reads the frame: vm_check reports it, and the bytes are
 * another page's.
 */
static void test_no_wait(enum sim_format f, bool no_wait)
{
	struct sim_config cfg = { .frames = 256,
		.ncpus = 2,
		.format = f,
		.ipi_latency = 1000000,
		.no_shootdown_wait = no_wait };
	enum vm_err err;
	uint8_t byte = 0;
	struct env e;

	setup(&e, &cfg, 2);
	put(&e, 0, 0, 0, 0x1111111111111111);
	CHECK(get(&e, 0, 1, 0) == 0x1111111111111111);
	CHECK(violations(&e) == 0);
	sim_cpu_set(e.mach, 0);
	CHECK(as_advise(e.as[0], VA, VM_PAGESIZE, ADV_DONTNEED) == VM_OK);
	put(&e, 1, 0, 0, 0x2222222222222222); /* most recently freed first: this is the frame */
	CHECK((violations(&e) != 0) == no_wait);
	err = sim_touch(e.mach, as_hat(e.as[0]), 1, VA, false, &byte);
	CHECK(no_wait ? err == VM_OK && byte == 0x22 : err == VM_NOMAP);
	if (!no_wait)
		CHECK(get(&e, 0, 1, 0) == 0);
	for (unsigned i = 0; i < 20000; i++)
		put(&e, 1, 0, 1, i); /* time passes: the interrupt finally arrives */
	CHECK(get(&e, 0, 1, 0) == 0);
	teardown(&e);
}

/*
 * ---- the TSB grows and shrinks with the loaded translations, and works when it cannot grow ----
 */
static void test_tsb(void)
{
	struct sim_config cfg = {
		.frames = 8192, .ncpus = 2, .format = SIM_SFMMU, .tlb_entries = 16
	};
	struct segvn_args a = { .sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W };
	const vaddr_t va = VA + vm_ptob(256);
	const unsigned n = 4000;
	struct hat_shared *hs;
	struct env e;
	pfn_t base;

	setup(&e, &cfg, 1);
	hs = mmu_hat_shared(e.mach);
	CHECK(as_map(e.as[0], va, vm_ptob(n), segvn_create, &a) == VM_OK);
	CHECK(sfmmu_tsb(as_hat(e.as[0]), 0, &base) == 256);
	for (unsigned i = 0; i < n; i++) {
		if (i == 300)
			vm_inject(e.vm, VM_INJECT_HAT, 1);
		if (i == 302)
			vm_inject(e.vm, VM_INJECT_HAT, 0);
		put(&e, 0, 0, 256 + i, i);
	}
	CHECK(hs->hs_tsbgrown >= 4);
	CHECK(sfmmu_tsb(as_hat(e.as[0]), 0, &base) >= n);
	CHECK(violations(&e) == 0);
	for (unsigned i = 0; i < n; i++)
		CHECK(get(&e, 0, 0, 256 + i) == i); /* a TSB that grew begins empty */
	mark(&e);
	for (unsigned i = 0; i < n; i++)
		CHECK(get(&e, 0, 1, 256 + i) == i);
	/* the TLB is far too small: all misses are served by the TSB, and no miss needs the core */
	CHECK(SINCE(&e, ss_tsb_hit) >= n - cfg.tlb_entries && SINCE(&e, ss_tsb_miss) == 0);
	CHECK(SINCE(&e, ss_fault) == 0);
	CHECK(violations(&e) == 0);
	hat_unload(as_hat(e.as[0]), va, vm_ptob(n - 20), HAT_UNLOAD);
	CHECK(hs->hs_tsbshrunk > 0 && sfmmu_tsb(as_hat(e.as[0]), 0, &base) == 256);
	for (unsigned i = 0; i < n; i++)
		CHECK(get(&e, 0, 1, 256 + i) == i);
	teardown(&e);
}

int main(void)
{
	static const char *const names[] = { "x86_64", "la57", "i386", "pae", "sv39", "sv48",
		"sfmmu" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		enum sim_format f;

		what_machine = names[i];
		CHECK(sim_format_by_name(names[i], &f));
		test_shootdown(f);
		test_batch(f);
		test_numbers(f, 0);
		if (f != SIM_I386 && f != SIM_PAE)
			test_numbers(f, 8);
		test_no_wait(f, false);
		test_no_wait(f, true);
	}
	test_tsb();
	printf("tlb_test: %s\n", failures == 0 ? "ok" : "FAILED");
	return failures == 0 ? 0 : 1;
}
