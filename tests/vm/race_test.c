/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several programs at once on the simulated machine, which switches between them at locks, waits and accesses; one seed
 * after another, one interleaving after another. The scanner's thread and the disk's interrupts take part.
 *
 * Two spaces, three programs each. In its space a program owns a private range, of which it knows
 * every byte, and takes part in a shared one: each page has a counter word per program, which only
 * that program raises, so it must always read there what it wrote last, although the others write
 * the same page. Programs also fork (the child's bytes must be those at the fork, however the
 * parents go on), unmap and map, drop contents, protect, wire, sync and swap out. At the end all
 * memory is compared, and the system is checked and must be empty.
 *
 * The machine has 1 to 8 CPUs. Interrupts that flush TLBs arrive late, in some runs one in twenty never arrives, and there
 * are so few address space numbers that they are given out again all the time. --no-wait breaks the machine: translations are not waited for until all CPUs have dropped them.
 *
 * A failing run is repeated with less and less of what its programs do; what is left is printed: a word an operation, its lowest
 * bits the program. --script runs such a file, with the same --seed.
 *
 *   race_test [--script FILE] [--seeds N] [--seed FIRST|random] [--rounds R] [--format NAME] [--split] [--linux] [--no-wait]
 */
#include "machine/sim/sim.h"
#include "tests/vm/script.h"

#include <quire/anon.h>
#include <quire/as.h>
#include <quire/seg.h>
#include <quire/vm.h>
#include <quire/vnode.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NSPACES 2u
#define NPROGS 3u /* a space */
#define MAXCPUS 8u
#define PROGRAM_STEP                                                                               \
	8u /* words of a script are multiples of it, plus the number of the program that does it */
#define OWN 24u    /* pages of a program's private range */
#define SHARED 12u /* pages of the shared range */
#define BASE ((vaddr_t)0x40000000 - 8 * 4096)

struct program {
	struct race *race;
	struct as *as;
	unsigned number, space, cpu;
	uint64_t rnd;
	uint64_t own[OWN]; /* the word in each page of the private range; 0: never written */
	uint64_t count[SHARED];
};

struct race {
	struct mach *mach;
	struct vm *vm;
	struct as *as[NSPACES];
	struct vnode *file, *swap;
	struct program prog[NSPACES][NPROGS];
	const uint64_t *words; /* what the programs do, each the words with its number, in order */
	uint64_t nwords;
	uint64_t seed, refused;
};

static uint64_t draw(struct program *p)
{
	p->rnd ^= p->rnd << 13;
	p->rnd ^= p->rnd >> 7;
	p->rnd ^= p->rnd << 17;
	return p->rnd >> 11;
}

static unsigned below(struct program *p, unsigned n) { return (unsigned)(draw(p) % n); }
static vaddr_t own_va(const struct program *p, unsigned i)
{
	return BASE + vm_ptob(p->number * (OWN + 2) + i);
}
static vaddr_t shared_va(unsigned i) { return BASE + vm_ptob(NPROGS * (OWN + 2) + i); }

static _Noreturn void fail(const struct race *r, const char *what, enum vm_err err)
{
	fprintf(stderr, "race_test: seed %" PRIu64 ": %s: %s\n", r->seed, what, vm_err_name(err));
	exit(1);
}

/*
 * Memory may be short for a moment; the program tries again, as a real program would be made to
 * wait.
 */
static uint64_t get(struct program *p, struct as *as, vaddr_t va)
{
	uint64_t v = 0;
	enum vm_err err;

	while ((err = sim_read(p->race->mach, as, p->cpu, va, &v, sizeof(v), NULL)) != VM_OK) {
		if (err != VM_NOMEM)
			fail(p->race, "read", err);
		p->race->refused++;
		mach_yield();
	}
	return v;
}

static void put(struct program *p, struct as *as, vaddr_t va, uint64_t v)
{
	enum vm_err err;

	while ((err = sim_write(p->race->mach, as, p->cpu, va, &v, sizeof(v), NULL)) != VM_OK) {
		if (err != VM_NOMEM)
			fail(p->race, "write", err);
		p->race->refused++;
		mach_yield();
	}
}

static void expect(struct program *p, const char *what, uint64_t got, uint64_t want)
{
	if (got == want)
		return;
	fprintf(stderr,
	    "race_test: seed %" PRIu64 ": program %u of space %u: %s: %" PRIx64
	    ", expected %" PRIx64 "\n",
	    p->race->seed, p->number, p->space, what, got, want);
	exit(1);
}

static void map_own(struct program *p)
{
	struct segvn_args a = { .sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W };
	enum vm_err err;

	while ((err = as_map(p->as, own_va(p, 0), vm_ptob(OWN), segvn_create, &a)) != VM_OK) {
		if (err != VM_NOMEM && err != VM_NOSWAP)
			fail(p->race, "as_map", err);
		mach_yield();
	}
	memset(p->own, 0, sizeof(p->own));
}

static void do_access(struct program *p)
{
	unsigned i = below(p, OWN);

	if (below(p, 2) == 0) {
		p->own[i] = draw(p) | 1;
		put(p, p->as, own_va(p, i) + 8 * below(p, 1), p->own[i]);
	} else {
		expect(p, "own page", get(p, p->as, own_va(p, i)), p->own[i]);
	}
}

static void do_shared(struct program *p)
{
	unsigned i = below(p, SHARED);
	vaddr_t va = shared_va(i) + 8 * (p->space * NPROGS + p->number);

	expect(p, "shared page", get(p, p->as, va), p->count[i]);
	put(p, p->as, va, ++p->count[i]);
}

static void do_fork(struct program *p)
{
	struct as *child;
	enum vm_err err = as_dup(p->as, &child);

	if (err != VM_OK) {
		if (err != VM_NOMEM && err != VM_NOSWAP)
			fail(p->race, "as_dup", err);
		p->race->refused++;
		return;
	}
	for (unsigned k = 0; k < 6; k++) {
		unsigned i = below(p, OWN), j = below(p, OWN);

		expect(p, "child's page", get(p, child, own_va(p, i)), p->own[i]);
		put(p, child, own_va(p, j), 7); /* the parent must not see the write */
		expect(p, "child's own write", get(p, child, own_va(p, j)), 7);
		expect(p, "parent's page", get(p, p->as, own_va(p, j)), p->own[j]);
		if (i == j)
			break;
		put(p, child, own_va(p, j), p->own[j]);
	}
	as_free(child);
}

static void do_remap(struct program *p)
{
	enum vm_err err = as_unmap(p->as, own_va(p, 0), vm_ptob(OWN));

	if (err == VM_OK)
		map_own(p);
	else if (err != VM_NOMEM)
		fail(p->race, "as_unmap", err);
}

static void do_dontneed(struct program *p)
{
	unsigned i = below(p, OWN), n = 1 + below(p, OWN - i);

	if (as_advise(p->as, own_va(p, i), vm_ptob(n), ADV_DONTNEED) == VM_OK)
		memset(&p->own[i], 0, n * sizeof(p->own[0]));
}

static void do_protect(struct program *p)
{
	unsigned i = below(p, OWN);
	uint64_t v = 9;
	enum vm_err err;

	if (as_setprot(p->as, own_va(p, i), VM_PAGESIZE, PROT_R) != VM_OK)
		return;
	err = sim_write(p->race->mach, p->as, p->cpu, own_va(p, i), &v, sizeof(v), NULL);
	if (err != VM_PROT && err != VM_NOMEM)
		fail(p->race, "write to a read-only page", err);
	expect(p, "read-only page", get(p, p->as, own_va(p, i)), p->own[i]);
	while ((err = as_setprot(p->as, own_va(p, i), VM_PAGESIZE, PROT_R | PROT_W)) != VM_OK)
		if (err != VM_NOMEM && err != VM_NOSWAP)
			fail(p->race, "as_setprot", err);
}

static void do_lock(struct program *p)
{
	unsigned i = below(p, OWN - 2);

	if (as_lock(p->as, own_va(p, i), vm_ptob(2)) != VM_OK)
		return;
	do_access(p);
	mach_yield();
	expect(p, "wired page", get(p, p->as, own_va(p, i)), p->own[i]);
	if (as_unlock(p->as, own_va(p, i), vm_ptob(2)) != VM_OK)
		fail(p->race, "as_unlock", VM_INVAL);
}

static void do_pageout(struct program *p)
{
	if (below(p, 4) == 0)
		(void)as_swapout(p->as);
	else
		(void)pageout_reclaim(p->race->vm, 1 + below(p, 8));
}

static void do_sync(struct program *p)
{
	enum vm_err err =
	    as_sync(p->as, shared_va(0), vm_ptob(SHARED), below(p, 2) == 0 ? SYNC_INVAL : 0);

	if (err != VM_OK && err != VM_NOMEM && err != VM_LOCKED)
		fail(p->race, "as_sync", err);
}

static void program(void *arg)
{
	struct program *p = arg;

	for (uint64_t i = 0; i < p->race->nwords; i++) {
		unsigned what;

		if (p->race->words[i] % PROGRAM_STEP != p->space * NPROGS + p->number)
			continue;
		p->rnd = p->race->words[i];
		what = below(p, 100);
		if (what < 50)
			do_access(p);
		else if (what < 78)
			do_shared(p);
		else if (what < 82)
			do_fork(p);
		else if (what < 84)
			do_remap(p);
		else if (what < 87)
			do_dontneed(p);
		else if (what < 90)
			do_protect(p);
		else if (what < 93)
			do_lock(p);
		else if (what < 96)
			do_pageout(p);
		else
			do_sync(p);
	}
	for (unsigned i = 0; i < OWN; i++)
		expect(p, "own page at the end", get(p, p->as, own_va(p, i)), p->own[i]);
}

static void report(void *arg, const char *text)
{
	const struct race *r = arg;

	fprintf(stderr, "race_test: seed %" PRIu64 ": %s\n", r->seed, text);
}

/* The run's parameters, in addition to its seed. */
struct how {
	uint64_t seed, rounds;
	const char *format_name;
	enum sim_format format;
	bool split, linux_like, no_wait;
	bool limited; /* a part of a failing run may loop forever */
	const uint64_t *words;
	uint64_t nwords;
};

static void setup(struct race *r, const struct how *how)
{
	uint64_t seed = how->seed;
	struct sim_config cfg = { .frames = 160,
		.ncpus = 1 + (unsigned)(seed % MAXCPUS),
		.seed = seed,
		.threads = true,
		.disk_latency = seed % 2 ? 3000 : 0,
		.switch_every = 2 + (unsigned)(seed % 4),
		.format = how->format,
		.kernel = how->split ? SIM_KERNEL_SPLIT : SIM_KERNEL_OUTSIDE,
		.asids = how->split ? 32 : 8,
		.ipi_latency = how->no_wait ? 50000 : seed % 3 * 1000,
		.ipi_loss = !how->no_wait && seed % 5 == 0 ? 20 : 0,
		.no_shootdown_wait = how->no_wait,
		.tlb_entries = 16 };
	struct segvn_args shared = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_flags = SEGVN_SHARED
	};
	struct vm_config vc = { .vc_frames = cfg.frames };
	enum vm_err err;

	memset(r, 0, sizeof(*r));
	r->seed = seed;
	r->words = how->words;
	r->nwords = how->nwords;
	if (how->linux_like)
		sim_config_linux(&cfg);
	vc.vc_mach = r->mach = sim_create(&cfg);
	if (r->mach == NULL || (err = vm_create(&vc, &r->vm)) != VM_OK)
		fail(r, "no machine", VM_NOMEM);
	r->swap = sim_disk_create(r->mach, r->vm, "swap", vm_ptob(1024), V_SWAP);
	r->file = sim_disk_create(r->mach, r->vm, "file", vm_ptob(SHARED), 0);
	if ((err = swap_add(r->vm, r->swap, 1024, 0)) != VM_OK)
		fail(r, "swap_add", err);
	shared.sa_vnode = r->file;
	for (unsigned s = 0; s < NSPACES; s++) {
		if ((err = as_alloc(r->vm, 0x10000, mach_caps(r->mach)->mc_user_max, &r->as[s])) !=
			VM_OK ||
		    (err = as_map(
			 r->as[s], shared_va(0), vm_ptob(SHARED), segvn_create, &shared)) != VM_OK)
			fail(r, "space", err);
		for (unsigned i = 0; i < NPROGS; i++) {
			struct program *p = &r->prog[s][i];

			p->race = r;
			p->as = r->as[s];
			p->number = i;
			p->space = s;
			p->cpu = (s * NPROGS + i) % cfg.ncpus;
			p->rnd = seed * 0x9e3779b97f4a7c15ull + s * 131 + i * 17 + 1;
			map_own(p);
			sim_spawn(r->mach, program, p, "program");
		}
	}
}

static void finish(struct race *r)
{
	struct vm_usage u;
	unsigned bad = vm_check(r->vm, report, r) + sim_tlb_check(r->mach, report, r);

	for (unsigned s = 0; s < NSPACES; s++)
		as_free(r->as[s]);
	if (pvn_putpages(r->vm, r->file, 0, 0, 0) != VM_OK)
		fail(r, "pvn_putpages", VM_IO);
	for (unsigned s = 0; s < NSPACES; s++)
		for (unsigned i = 0; i < NPROGS * SHARED; i++) {
			const uint64_t *word = sim_disk_data(r->file);
			unsigned page = i / NPROGS, n = i % NPROGS;

			expect(&r->prog[s][n], "word on disk", word[page * 512 + s * NPROGS + n],
			    r->prog[s][n].count[page]);
		}
	bad += vm_check(r->vm, report, r);
	vm_usage(r->vm, &u);
	if (bad != 0 || u.vu_anon_slots != 0 || u.vu_swap_used != 0 || u.vu_reserved != 0 ||
	    u.vu_wired != 0)
		fail(r, "not consistent, or something is left", VM_EXIST);
	vnode_rele(r->file);
	vnode_rele(r->swap);
	vm_destroy(r->vm);
	sim_destroy(r->mach);
}

/* The operations of a seed's programs, all in turn. */
static uint64_t *draw_words(const struct how *how, uint64_t *n)
{
	uint64_t *words = malloc(how->rounds * NSPACES * NPROGS * sizeof(*words));
	struct program p = { .rnd = how->seed * 0x9e3779b97f4a7c15ull + 1 };

	*n = 0;
	for (uint64_t i = 0; i < how->rounds; i++)
		for (unsigned k = 0; k < NSPACES * NPROGS; k++)
			words[(*n)++] = ((draw(&p) << 11 ^ draw(&p)) | 1ull << 62) / PROGRAM_STEP *
				PROGRAM_STEP +
			    k;
	return words;
}

/* Sums over the runs, made in children. */
static struct totals {
	uint64_t at, switches, refusals, ipis;
} * totals;

static void run(const void *arg)
{
	const struct how *how = arg;
	static struct race r;
	struct sim_stats st;

	script_limit(how->limited ? 2 : 300);
	setup(&r, how);
	sim_run(r.mach);
	sim_statistics(r.mach, &st);
	totals->switches += st.ss_switch;
	totals->refusals += r.refused;
	totals->ipis += st.ss_ipi;
	finish(&r);
}

static bool fails(const uint64_t *words, uint64_t n, const void *arg)
{
	struct how how = *(const struct how *)arg;
	int status;

	how.words = words;
	how.nwords = n;
	how.limited = true;
	status = script_child(run, &how, true, &totals->at);
	return status != 0 && status != SCRIPT_ENDLESS;
}

static void shrink(struct how *how, uint64_t *words)
{
	how->nwords = script_shrink(words, how->nwords, fails, how, 600, 60);
	fprintf(stderr,
	    "shrunk to %" PRIu64 " operations (--seed %" PRIu64
	    " --format %s%s%s%s --script FILE):\n",
	    how->nwords, how->seed, how->format_name, how->split ? " --split" : "",
	    how->linux_like ? " --linux" : "", how->no_wait ? " --no-wait" : "");
	for (uint64_t i = 0; i < how->nwords; i++)
		fprintf(stderr, "%016" PRIx64 " program %u\n", words[i],
		    (unsigned)(words[i] % PROGRAM_STEP));
	(void)script_child(run, how, false, &totals->at);
}

static bool run_seed(struct how *how, const char *script)
{
	uint64_t *words =
	    script != NULL ? script_read(script, &how->nwords) : draw_words(how, &how->nwords);
	bool ok;

	how->words = words;
	totals->at = how->seed;
	ok = script_child(run, how, false, &totals->at) == 0;
	if (!ok && script == NULL)
		shrink(how, words);
	free(words);
	return ok;
}

int main(int argc, char **argv)
{
	struct how how = { .rounds = 400, .format = SIM_X86_64, .format_name = "x86_64" };
	uint64_t seeds = 20, first = 1;
	const char *script = NULL;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--linux") == 0)
			how.linux_like = true;
		else if (strcmp(argv[i], "--split") == 0)
			how.split = true;
		else if (strcmp(argv[i], "--no-wait") == 0)
			how.no_wait = true;
		else if (i + 1 < argc && strcmp(argv[i], "--format") == 0 &&
		    sim_format_by_name(argv[i + 1], &how.format))
			how.format_name = argv[++i];
		else if (i + 1 < argc && strcmp(argv[i], "--seeds") == 0)
			seeds = strtoull(argv[++i], NULL, 0);
		else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
			first = seed_of(argv[++i]);
		else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0)
			how.rounds = strtoull(argv[++i], NULL, 0);
		else if (i + 1 < argc && strcmp(argv[i], "--script") == 0)
			script = argv[++i];
		else
			return 2;
	}
	if (script != NULL)
		seeds = 1;
	totals =
	    mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (totals == MAP_FAILED)
		return 2;
	printf("race_test: seeds %" PRIu64 " to %" PRIu64 ", %" PRIu64 " rounds\n", first,
	    first + seeds - 1, how.rounds);
	for (how.seed = first; how.seed < first + seeds; how.seed++)
		if (!run_seed(&how, script))
			return 1;
	printf("race_test: %" PRIu64 " seeds, %" PRIu64 " switches, %" PRIu64
	       " interrupts, %" PRIu64 " refused: ok\n",
	    seeds, totals->switches, totals->ipis, totals->refusals);
	return 0;
}
