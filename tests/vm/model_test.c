/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random operations on several address spaces of a simulated machine, beside a model that is byte-exact.
 *
 * The model knows nothing of frames or swap: per page of each space what is mapped there, with what rights, and the
 * bytes. Every read is compared with it, for contents and for the kind of fault; memory is so short that everything is
 * paged all the time. vm_check and the TLB check run every so many operations.
 *
 * An operation is one 64-bit word; all its choices are drawn from that word and it does nothing
 * where it does not apply. So any subset of a run is a run, which makes shrinking easy. A failed
 * run (even a panic, as runs are made in a child) is cut to the shortest prefix that still fails;
 * then chunks are removed while it fails. The rest is printed as a script for --script.
 *
 *   model_test [--ops N] [--seed S] [--frames F] [--check K] [--format NAME] [--split] [--linux] [--policy NAME] [--prefetch NAME]
 *              [--inject] [--seeds N] [--latency NS] [--script FILE] [--no-shrink] [--verbose]
 *
 * --seed random takes another seed each time and prints it. --format chooses what the MMU walks (sim.h), --split gives each
 * space a root for user mode. --linux takes from the machine what the Linux port lacks. --inject lets every allocation and I/O fail, one by one: see
 * model_inject.c; for scripts of that many operations, from that many seeds.
 */
#include "tests/vm/model.h"
#include "tests/vm/script.h"

#include <quire/kmem.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- one run ---- */
void run_setup(struct test *t, const struct options *opt)
{
	struct sim_config cfg = { .frames = opt->frames,
		.ncpus = NCPUS,
		.seed = opt->seed,
		.tlb_entries = 32,
		.format = opt->format,
		.frame0 = opt->format >= SIM_SV39 ? 0x80000
		    : opt->format == SIM_PAE      ? 0x100000 - opt->frames / 2
						  : 0,
		.kernel = opt->split ? SIM_KERNEL_SPLIT : SIM_KERNEL_OUTSIDE,
		.disk_latency = opt->latency };
	struct vm_config vc = {
		.vc_frames = opt->frames, .vc_policy = opt->policy, .vc_prefetch = opt->prefetch
	};
	struct vnode *swap;
	enum vm_err err;

	memset(t, 0, sizeof(*t));
	t->opt = opt;
	if (opt->linux_like)
		sim_config_linux(&cfg);
	if ((t->mach = sim_create(&cfg)) == NULL)
		fail("sim_create");
	window_base = 1ull << 48;
	while (window_base >= mach_caps(t->mach)->mc_user_max / 2)
		window_base >>= 9;
	window_base -= vm_ptob(NPAGES / 2);
	vc.vc_mach = t->mach;
	if ((err = vm_create(&vc, &t->vm)) != VM_OK)
		fail("vm_create: %s", vm_err_name(err));
	t->disk = swap = sim_disk_create(t->mach, t->vm, "swap", vm_ptob(1024), V_SWAP);
	if (opt->seed % 2 != 0) { /* every other run pages through sums */
		if ((err = vnode_summed(t->vm, t->disk, 1024, &swap)) != VM_OK)
			fail("vnode_summed: %s", vm_err_name(err));
		vnode_rele(t->disk);
	}
	if ((err = swap_add(t->vm, swap, 1024, 0)) != VM_OK)
		fail("swap_add: %s", vm_err_name(err));
	vnode_rele(swap);
	for (unsigned i = 0; i < NFILES; i++) {
		struct file *f = &t->file[i];

		f->size = vm_ptob(FILE_PAGES -
		    8 * i); /* whole pages: the bytes past the end in the last page are undefined */
		f->vp = sim_disk_create(t->mach, t->vm, "file", f->size, 0);
		for (uint64_t k = 0; k < f->size; k++)
			f->b[k] = (uint8_t)mix(opt->seed + i * 1000003 + k);
		memcpy(sim_disk_data(f->vp), f->b, f->size);
	}
}

void run_check(struct test *t)
{
	if (vm_check(t->vm, report, NULL) != 0)
		fail("vm_check");
	if (sim_tlb_check(t->mach, report, NULL) != 0)
		fail("sim_tlb_check");
}

void run_verify(struct test *t)
{
	for (unsigned k = 0; k < NSPACES; k++)
		for (unsigned i = 0; t->sp[k].as != NULL && i < NPAGES; i++)
			read_and_compare(t, &t->sp[k], va_of(i), VM_PAGESIZE);
}

void run_teardown(struct test *t)
{
	struct vm_usage u;

	for (unsigned k = 0; k < NSPACES; k++)
		if (t->sp[k].as != NULL)
			space_free(&t->sp[k]);
	run_check(t);
	for (unsigned i = 0; i < NFILES; i++) {
		if (pvn_putpages(t->vm, t->file[i].vp, 0, 0, 0) != VM_OK)
			fail("pvn_putpages");
		for (unsigned p = 0; p < FILE_PAGES; p++)
			check_file_page(t, &t->file[i], p);
		vnode_rele(t->file[i].vp);
	}
	vm_usage(t->vm, &u);
	if (u.vu_anon_slots != 0 || u.vu_swap_used != 0 || u.vu_reserved != 0 || u.vu_wired != 0)
		fail("left behind: %" PRIu64 " anon slots, %" PRIu64 " swap slots, %" PRIu64
		     " reserved, %" PRIu64 " wired",
		    u.vu_anon_slots, u.vu_swap_used, u.vu_reserved, u.vu_wired);
	if (t->swap != NULL)
		vnode_rele(t->swap);
	t->swap = NULL;
	(void)kmem_reap(t->vm);
	vm_usage(t->vm, &u);
	if (u.vu_free + u.vu_cache + u.vu_kernel != u.vu_frames)
		fail("of %" PRIu64 " frames %" PRIu64 " are free, %" PRIu64 " cached, %" PRIu64
		     " the system's own",
		    u.vu_frames, u.vu_free, u.vu_cache, u.vu_kernel);
	vm_destroy(t->vm); /* panics if kernel memory is left */
	sim_destroy(t->mach);
}

static void print_stats(struct test *t)
{
	const struct vm_stats *s = vm_statistics(t->vm);
	struct sim_stats m;

	sim_statistics(t->mach, &m);
	printf("  %" PRIu64 " refused, %" PRIu64 " faults, %" PRIu64 " cow, %" PRIu64
	       " zfod, %" PRIu64 " pgin, %" PRIu64 " pgout, %" PRIu64 " rescue, %" PRIu64
	       " reclaim; TLB %" PRIu64 "/%" PRIu64 " hits\n",
	    t->refused, (uint64_t)s->fault, (uint64_t)s->cow, (uint64_t)s->zfod, (uint64_t)s->pgin,
	    (uint64_t)s->pgout, (uint64_t)s->rescue, (uint64_t)s->reclaim, m.ss_tlb_hit,
	    m.ss_access);
}

uint64_t run_word(const struct options *opt, uint64_t i)
{
	return mix(opt->seed * 0x100000001b3ull + i);
}

void run_one(struct test *t, uint64_t word)
{
	if (t->opt->verbose)
		fprintf(stderr, "%" PRIu64 " %016" PRIx64 " %s\n", *progress, word, op_name(word));
	op_apply(t, word);
	++*progress;
	if (*progress % t->opt->check == 0)
		run_check(t);
	if (*progress % (t->opt->check * 8) == 0)
		run_verify(t);
}

struct job {
	const struct options *opt;
	const uint64_t *words; /* NULL: drawn by the seed */
	uint64_t n;
};

static void run(const void *arg)
{
	const struct job *j = arg;
	static struct test t;

	*progress = 0;
	run_setup(&t, j->opt);
	for (uint64_t i = 0; i < j->n; i++)
		run_one(&t, j->words == NULL ? run_word(j->opt, i) : j->words[i]);
	run_check(&t);
	run_verify(&t);
	print_stats(&t);
	run_teardown(&t);
}

/* One run in a child; false: it failed. */
static bool run_child(const struct options *opt, const uint64_t *words, uint64_t n, bool quiet)
{
	return script_child(run, &(struct job){ opt, words, n }, quiet, progress) == 0;
}

/* ---- shrinking ---- */
#define SHRINK_SECONDS 240 /* a script still longer by then will not shrink further */

static bool fails(const uint64_t *words, uint64_t n, const void *opt)
{
	return !run_child(opt, words, n, true);
}

static void shrink(struct options opt, const uint64_t *from, uint64_t n)
{
	uint64_t *words = malloc(n * sizeof(*words)), keep;

	for (uint64_t i = 0; i < n; i++)
		words[i] = from == NULL ? run_word(&opt, i) : from[i];
	opt.check = opt.check < 64 ? opt.check : 64;
	for (keep = 512; keep < n; keep *= 4) {
		if (!run_child(&opt, words + (n - keep), keep, true)) {
			memmove(words, words + (n - keep), keep * sizeof(*words));
			n = keep;
			break;
		}
	}
	opt.check = 1;
	if (run_child(&opt, words, n, true))
		opt.check = 64;
	n = script_shrink(words, n, fails, &opt, 3000, SHRINK_SECONDS);
	fprintf(stderr,
	    "shrunk to %" PRIu64 " operations (--format %s --frames %u --check %" PRIu64
	    "%s%s%s%s%s%s --seed %" PRIu64 " --script FILE):\n",
	    n, opt.format_name, opt.frames, opt.check, opt.linux_like ? " --linux" : "",
	    opt.split ? " --split" : "", opt.policy != NULL ? " --policy " : "",
	    opt.policy != NULL ? opt.policy->pol_name : "",
	    opt.prefetch != NULL ? " --prefetch " : "",
	    opt.prefetch != NULL ? opt.prefetch->pf_name : "", opt.seed);
	for (uint64_t i = 0; i < n; i++)
		fprintf(stderr, "%016" PRIx64 " %s\n", words[i], op_name(words[i]));
	(void)run_child(&opt, words, n, false);
	free(words);
}

/* ---- main ---- */
static uint64_t number(int argc, char **argv, int *i)
{
	if (*i + 1 >= argc) {
		fprintf(stderr, "%s needs a number\n", argv[*i]);
		exit(2);
	}
	return strtoull(argv[++*i], NULL, 0);
}

static bool parse_options(int argc, char **argv, struct options *opt, const char **script)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--ops") == 0)
			opt->ops = number(argc, argv, &i);
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			opt->seed = seed_of(argv[++i]);
		else if (strcmp(argv[i], "--frames") == 0)
			opt->frames = (pfn_t)number(argc, argv, &i);
		else if (strcmp(argv[i], "--check") == 0)
			opt->check = number(argc, argv, &i);
		else if (strcmp(argv[i], "--latency") == 0)
			opt->latency = number(argc, argv, &i);
		else if (strcmp(argv[i], "--format") == 0 && i + 1 < argc &&
		    sim_format_by_name(argv[i + 1], &opt->format))
			opt->format_name = argv[++i];
		else if (strcmp(argv[i], "--split") == 0)
			opt->split = true;
		else if (strcmp(argv[i], "--linux") == 0)
			opt->linux_like = true;
		else if (strcmp(argv[i], "--inject") == 0)
			opt->inject = true;
		else if (strcmp(argv[i], "--seeds") == 0)
			opt->seeds = number(argc, argv, &i);
		else if (strcmp(argv[i], "--no-shrink") == 0)
			opt->shrink = false;
		else if (strcmp(argv[i], "--verbose") == 0)
			opt->verbose = true;
		else if (strcmp(argv[i], "--prefetch") == 0 && i + 1 < argc) {
			if ((opt->prefetch = prefetch_find(argv[++i])) == NULL) {
				fprintf(stderr, "model_test: no prefetch %s\n", argv[i]);
				return false;
			}
		} else if (strcmp(argv[i], "--policy") == 0 && i + 1 < argc) {
			if ((opt->policy = policy_find(argv[++i])) == NULL) {
				fprintf(stderr, "model_test: no policy %s\n", argv[i]);
				return false;
			}
		} else if (strcmp(argv[i], "--script") == 0 && i + 1 < argc)
			*script = argv[++i];
		else {
			fprintf(stderr, "model_test: what is %s?\n", argv[i]);
			return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	struct options opt = { .ops = 100000,
		.seed = 1,
		.check = 2000,
		.frames = 256,
		.format_name = "x86_64",
		.seeds = 1,
		.shrink = true };
	const char *script = NULL;
	uint64_t *words = NULL;

	if (!parse_options(argc, argv, &opt, &script))
		return 2;
	progress =
	    mmap(NULL, VM_PAGESIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (progress == MAP_FAILED || opt.check == 0 || opt.frames < 64)
		return 2;
	if (script != NULL)
		words = script_read(script, &opt.ops);
	printf("model_test: %" PRIu64 " operations, seed %" PRIu64 ", %u frames, %s%s%s\n", opt.ops,
	    opt.seed, opt.frames, opt.format_name, opt.linux_like ? ", as on Linux" : "",
	    opt.inject ? ", with failures" : "");
	if (opt.inject)
		return inject_all(&opt) ? 0 : 1;
	if (run_child(&opt, words, opt.ops, false))
		return 0;
	if (opt.shrink && !opt.verbose)
		shrink(opt, words, *progress + 1 < opt.ops ? *progress + 1 : opt.ops);
	return 1;
}
