/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared page tables: one set of tables for all spaces; changes, page-out and locks take effect in
 * all of them.
 */
#include "tests/vm/segs.h"

#include <quire/kseg.h>

#define GB ((uint64_t)1 << 30)
#define NAS 100u

static const enum sim_format formats[] = { SIM_X86_64, SIM_LA57, SIM_I386, SIM_PAE, SIM_SV39,
	SIM_SV48, SIM_SFMMU };

static void start(struct sys *s, enum sim_format f, pfn_t frames)
{
	struct sim_config cfg = { .frames = frames, .ncpus = 2, .format = f };

	sys_init_cfg(s, &cfg, 4000);
}

static struct as *user(struct sys *s)
{
	struct as *as;

	assert_int_equal(as_alloc(s->vm, 0x10000, s->vm->vm_caps->mc_user_max, &as), VM_OK);
	return as;
}

static void hundred_spaces_use_one_set_of_tables(void **state)
{
	struct sys s;
	struct as *as[NAS];
	struct segspt_args a;
	struct vm_usage u0, u1, u2;

	start(&s, SIM_X86_64, 8192);
	assert_int_equal(spt_create(s.vm, GB, RW, false, &a.pa_spt),
	    VM_NOSWAP); /* shared tables' memory is promised like other memory */
	s.vm->vm_config.vc_overcommit = true;
	assert_int_equal(spt_create(s.vm, GB, RW, false, &a.pa_spt), VM_OK);
	for (unsigned i = 0; i < NAS; i++)
		as[i] = user(&s);
	vm_usage(s.vm, &u0);
	assert_int_equal(as_map(as[0], GB, GB, segspt_create, &a), VM_OK);
	for (uint64_t t = 0; t < 512; t++) /* a page under each lowest table */
		put(&s, as[0], GB + t * 2 * MB, t);
	vm_usage(s.vm, &u1);
	assert_true(u1.vu_kernel - u0.vu_kernel >= 512);
	for (unsigned i = 1; i < NAS; i++)
		assert_int_equal(as_map(as[i], GB * (1 + i % 5), GB, segspt_create, &a), VM_OK);
	assert_sound(&s);
	for (unsigned i = 1; i < NAS; i++)
		for (uint64_t t = i; t < 512; t += NAS)
			assert_int_equal(get(&s, as[i], GB * (1 + i % 5) + t * 2 * MB), t);
	put(&s, as[77], GB * (1 + 77 % 5) + 5 * PG, 4711);
	assert_int_equal(get(&s, as[3], GB * (1 + 3 % 5) + 5 * PG), 4711);
	vm_usage(s.vm, &u2);
	/* a space's root points at the tables: at most what the spaces' own structures and two tables each need */
	assert_in_range(u2.vu_kernel - u1.vu_kernel, 0, 3 * NAS);
	assert_int_equal(rss(as[50]), 0);
	assert_sound(&s);
	for (unsigned i = 0; i < NAS; i++)
		as_free(as[i]);
	spt_rele(a.pa_spt);
	sys_fini(&s);
}

/* Page-out and unmapping show under every sharer's address, on every CPU; each format. */
static void changes_reach_every_sharer(void **state)
{
	for (unsigned f = 0; f < sizeof(formats) / sizeof(formats[0]); f++) {
		struct sys s;
		struct as *as[4], *child;
		struct segspt_args a;
		vaddr_t at[4];
		uint64_t step, v;

		start(&s, formats[f], 1024);
		step = spt_align(s.vm);
		assert_true(step != 0);
		s.vm->vm_config.vc_overcommit = true;
		assert_int_equal(spt_create(s.vm, 4 * step + PG, RW, false, &a.pa_spt), VM_INVAL);
		assert_int_equal(spt_create(s.vm, 4 * step, RW, false, &a.pa_spt), VM_OK);
		for (unsigned i = 0; i < 4; i++) {
			as[i] = user(&s);
			at[i] = (8 + 5 * i) * step;
			assert_int_equal(
			    as_map(as[i], at[i] + PG, 4 * step, segspt_create, &a), VM_INVAL);
			assert_int_equal(as_map(as[i], at[i], 4 * step, segspt_create, &a), VM_OK);
		}
		for (uint64_t i = 0; i < 64; i++)
			put(&s, as[i % 4], at[i % 4] + i * (step / 16), 100 + i);
		for (uint64_t i = 0; i < 64; i++)
			assert_int_equal(
			    get(&s, as[(i + 1) % 4], at[(i + 1) % 4] + i * (step / 16)), 100 + i);
		assert_int_equal(as_advise(as[0], at[0], 4 * step, ADV_PAGEOUT), VM_OK);
		assert_sound(&s); /* no TLB has an entry of it left */
		assert_int_equal(hat_probe(as_hat(as[3]), at[3], NULL), PFN_INVALID);
		for (uint64_t i = 0; i < 64; i++)
			assert_int_equal(get(&s, as[i % 4], at[i % 4] + i * (step / 16)), 100 + i);
		/* far more pages than there are frames */
		for (uint64_t i = 0; i < 2000; i++)
			put(&s, as[i % 4], at[i % 4] + i * PG % (4 * step) + 8, i);
		assert_sound(&s);
		for (uint64_t i = 0; i < 2000 && 2000 * PG <= 4 * step; i++)
			assert_int_equal(get(&s, as[(i + 2) % 4], at[(i + 2) % 4] + i * PG + 8), i);
		assert_int_equal(as_dup(as[1], &child), VM_OK);
		put(&s, child, at[1] + 16, 9);
		assert_int_equal(get(&s, as[2], at[2] + 16), 9);
		assert_int_equal(
		    as_unmap(as[2], at[2], step), VM_NOTSUP); /* completely or not at all */
		assert_int_equal(as_unmap(as[2], at[2], 4 * step), VM_OK);
		assert_int_equal(try_get(&s, as[2], at[2], &v), VM_NOMAP);
		assert_int_equal(as_setprot(as[1], at[1], 4 * step, PROT_R), VM_NOTSUP);
		assert_sound(&s);
		spt_rele(a.pa_spt); /* the mappings keep the memory */
		assert_int_equal(get(&s, child, at[1] + 16), 9);
		as_free(child);
		for (unsigned i = 0; i < 4; i++)
			as_free(as[i]);
		sys_fini(&s);
	}
}

static void shared_tables_answer_every_call(void **state)
{
	struct segspt_args args;
	struct as *a, *b;
	struct sys s;
	uint8_t vec[8];
	vaddr_t to = 0;

	(void)state;
	start(&s, SIM_X86_64, 4096);
	assert_int_equal(spt_create(s.vm, 2 * MB, RW, false, &args.pa_spt), VM_OK);
	a = user(&s);
	b = user(&s);
	assert_int_equal(
	    as_map(a, 8 * MB, 4 * MB, segspt_create, &args), VM_INVAL); /* whole or not at all */
	assert_int_equal(as_map(a, 8 * MB, 2 * MB, segspt_create, &args), VM_OK);
	assert_int_equal(as_map(b, 8 * MB, 2 * MB, segspt_create, &args), VM_OK);
	assert_int_equal(as_checkprot(a, 8 * MB, PG, RW), VM_OK);
	assert_int_equal(as_checkprot(a, 8 * MB, PG, PROT_X), VM_PROT);
	assert_int_equal(as_setprot(a, 8 * MB, 2 * MB, RW), VM_OK);
	assert_int_equal(as_setprot(a, 8 * MB, 2 * MB, PROT_R), VM_NOTSUP);
	assert_int_equal(as_unmap(a, 8 * MB, PG), VM_NOTSUP);
	assert_int_equal(as_advise(a, 8 * MB, 8 * PG, ADV_POPULATE_WRITE), VM_OK);
	fill(&s, a, 8 * MB, 8, 5);
	/* advice for this space alone is ignored; advice about the memory is taken */
	assert_int_equal(as_advise(a, 8 * MB, 8 * PG, ADV_DONTNEED), VM_OK);
	expect(&s, b, 8 * MB, 8, 5);
	assert_int_equal(as_advise(a, 8 * MB, 8 * PG, ADV_REMOVE), VM_NOTSUP);
	assert_int_equal(as_advise(a, 8 * MB, 8 * PG, ADV_PAGEOUT), VM_OK);
	assert_int_equal(as_incore(b, 8 * MB, 8 * PG, vec), VM_OK);
	assert_int_equal(vec[3] & INCORE_MAPPED, 0);
	expect(&s, b, 8 * MB, 8, 5);
	assert_int_equal(as_incore(b, 8 * MB, 8 * PG, vec), VM_OK);
	assert_int_equal(vec[3] & (INCORE_PRESENT | INCORE_MAPPED), INCORE_PRESENT | INCORE_MAPPED);
	assert_int_equal(as_lock(a, 8 * MB, PG), VM_NOTSUP);
	assert_int_equal(as_sync(a, 8 * MB, PG, 0), VM_OK);
	assert_int_equal(as_inherit(a, 8 * MB, 2 * MB, INHERIT_ZERO), VM_NOTSUP);
	assert_int_equal(as_remap(a, 8 * MB, 2 * MB, 4 * MB, REMAP_MAYMOVE, &to), VM_NOTSUP);
	assert_sound(&s);
	as_free(a);
	expect(&s, b, 8 * MB, 8, 5);
	as_free(b);
	spt_rele(args.pa_spt);
	sys_fini(&s);
}

static void intimate_memory_never_faults(void **state)
{
	struct sys s;
	struct as *a, *b;
	struct segspt_args args;
	struct vm_usage u;
	uint64_t faults;

	start(&s, SIM_X86_64, 2048);
	assert_int_equal(spt_create(s.vm, 2 * MB, RW, true, &args.pa_spt), VM_OK);
	vm_usage(s.vm, &u);
	assert_int_equal(u.vu_wired, 512);
	a = user(&s);
	b = user(&s);
	assert_int_equal(as_map(a, 8 * MB, 2 * MB, segspt_create, &args), VM_OK);
	assert_int_equal(as_map(b, 16 * MB, 2 * MB, segspt_create, &args), VM_OK);
	faults = vm_statistics(s.vm)->fault;
	fill(&s, a, 8 * MB, 512, 7);
	(void)pageout_reclaim(s.vm, 1000);
	expect(&s, b, 16 * MB, 512, 7);
	assert_int_equal(vm_statistics(s.vm)->fault, faults);
	assert_sound(&s);
	as_free(a);
	as_free(b);
	spt_rele(args.pa_spt);
	sys_fini(&s);
}

static void attaching_survives_failures(void **state)
{
	for (unsigned what = VM_INJECT_PAGE; what < VM_INJECT_N; what++)
		for (uint64_t nth = 1; nth < 40; nth++) {
			struct sys s;
			struct as *a;
			struct segspt_args args;

			start(&s, SIM_X86_64, 512);
			s.vm->vm_config.vc_overcommit = true;
			vm_inject(s.vm, what, nth);
			if (spt_create(s.vm, 8 * MB, RW, false, &args.pa_spt) == VM_OK) {
				if (as_alloc(s.vm, 0x10000, (vaddr_t)1 << 40, &a) == VM_OK) {
					if (as_map(a, 16 * MB, 8 * MB, segspt_create, &args) ==
					    VM_OK)
						(void)try_put(&s, a, 16 * MB, 1);
					assert_sound(&s);
					as_free(a);
				}
				spt_rele(args.pa_spt);
			}
			bool done = vm_inject_seen(s.vm, what) < nth;
			vm_inject(s.vm, what, 0);
			sys_fini(&s);
			if (done)
				break;
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hundred_spaces_use_one_set_of_tables),
		cmocka_unit_test(changes_reach_every_sharer),
		cmocka_unit_test(intimate_memory_never_faults),
		cmocka_unit_test(shared_tables_answer_every_call),
		cmocka_unit_test(attaching_survives_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
