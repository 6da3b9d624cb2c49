/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two roots a space (hs_split, KPTI). In user mode no address of the kernel is translated, whatever
 * is done to the space; vm_check finds a translation that is put there on purpose. The test prints
 * the cost of the second root, with and without address space numbers in the TLB.
 */
#include "tests/vm/segs.h"

#include "hat/mmu.h"

#define ENTRIES 512u
#define NSPACES 4u
#define PAGES 1200u /* pages of each space, over a boundary of large pages */

static const struct kind {
	const char *k_name;
	enum sim_format k_format;
	enum sim_kernel k_kernel;
	bool k_no_asids;
} kinds[] = {
	{ "x86_64, mapped", SIM_X86_64, SIM_KERNEL_MAPPED, false },
	{ "x86_64, mapped, no PCID", SIM_X86_64, SIM_KERNEL_MAPPED, true },
	{ "x86_64, split", SIM_X86_64, SIM_KERNEL_SPLIT, false },
	{ "x86_64, split, no PCID", SIM_X86_64, SIM_KERNEL_SPLIT, true },
	{ "la57, mapped", SIM_LA57, SIM_KERNEL_MAPPED, false },
	{ "la57, split", SIM_LA57, SIM_KERNEL_SPLIT, false },
};
#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

static bool is_split(const struct kind *k) { return k->k_kernel == SIM_KERNEL_SPLIT; }

static struct sim_config config(const struct kind *k)
{
	/* an odd number of frames: the direct map has pages of both sizes */
	return (struct sim_config){ .frames = 6144 + 100,
		.ncpus = 3,
		.seed = 5,
		.format = k->k_format,
		.frame0 = 512,
		.kernel = k->k_kernel,
		.no_asids = k->k_no_asids };
}

static struct as *start(struct sys *s, const struct sim_config *cfg)
{
	struct as *as;

	sys_init_cfg(s, cfg, 1024);
	assert_int_equal(as_alloc(s->vm, 0x10000, mach_caps(s->m)->mc_user_max, &as), VM_OK);
	assert_int_equal(map_anon(as, BASE, PAGES, 0), VM_OK);
	return as;
}

static unsigned translated(struct sys *s, struct hat *hat, bool user, struct sim_kernel_range r)
{
	unsigned n = 0;

	for (uint64_t off = 0; off < r.kr_len; off += PG)
		n += sim_translated(s->m, hat, user, r.kr_va + off, NULL);
	return n;
}

/* ---- addresses that user mode can access ---- */
static void user_mode_has_no_kernel(void **state)
{
	(void)state;
	for (unsigned k = 0; k < NKINDS; k++) {
		struct sim_config cfg = config(&kinds[k]);
		struct sim_kernel_layout l;
		struct sys s;
		struct as *as = start(&s, &cfg);
		struct hat *hat = as_hat(as);
		uint8_t byte = 0;
		bool exec;

		sim_kernel_layout(s.m, &l);
		put(&s, as, BASE, 1);
		/* the kernel's root maps everything, the root of user mode only the entry area */
		assert_int_equal(translated(&s, hat, false, l.kl_text), vm_btop(l.kl_text.kr_len));
		assert_int_equal(translated(&s, hat, false, l.kl_direct), cfg.frames);
		assert_int_equal(translated(&s, hat, false, l.kl_entry), 1 + cfg.ncpus);
		assert_int_equal(translated(&s, hat, true, l.kl_entry), 1 + cfg.ncpus);
		assert_int_equal(translated(&s, hat, true, l.kl_text),
		    is_split(&kinds[k]) ? 0 : vm_btop(l.kl_text.kr_len));
		assert_int_equal(
		    translated(&s, hat, true, l.kl_direct), is_split(&kinds[k]) ? 0 : cfg.frames);
		assert_int_equal(hat_root(hat) == hat_user_root(hat), !is_split(&kinds[k]));
		/* a program may read or execute no byte there, by either root */
		assert_int_equal(try_get(&s, as, l.kl_text.kr_va, &(uint64_t){ 0 }), VM_NOMAP);
		assert_int_equal(try_get(&s, as, l.kl_entry.kr_va, &(uint64_t){ 0 }), VM_NOMAP);
		assert_int_equal(sim_exec(s.m, as, 0, l.kl_entry.kr_va), VM_NOMAP);
		assert_int_equal(sim_touch(s.m, hat, 0, l.kl_direct.kr_va, false, &byte),
		    is_split(&kinds[k]) ? VM_NOMAP : VM_PROT);
		/*
		 * and with two roots, the kernel's root does not permit executing the program's
		 * pages
		 */
		assert_int_equal(as_setprot(as, BASE, PG, PROT_R | PROT_X), VM_OK);
		assert_int_equal(sim_exec(s.m, as, 0, BASE), VM_OK);
		assert_true(sim_translated(s.m, hat, true, BASE, &exec) && exec);
		assert_true(sim_translated(s.m, hat, false, BASE, &exec));
		assert_int_equal(exec, !is_split(&kinds[k]));
		as_free(as);
		sys_fini(&s);
	}
}

/*
 * Reads before the check of rights: the kernel's bytes can be read, unless there is no translation.
 */
static void a_transient_read_finds_no_secret(void **state)
{
	static const char secret[] = "the kernel's secret";

	(void)state;
	for (unsigned k = 0; k < NKINDS; k++) {
		struct sim_config cfg = config(&kinds[k]);
		struct sim_kernel_layout l;
		struct sys s;
		struct as *as = start(&s, &cfg);

		sim_kernel_layout(s.m, &l);
		memcpy((char *)l.kl_data + 5 * PG, secret, sizeof(secret));
		for (unsigned i = 0; i < sizeof(secret); i++) {
			uint8_t byte = 0xff;

			/*
			 * the kernel itself reads the byte each time, so the TLB has its
			 * translation, too, under the kernel's number
			 */
			assert_true(sim_kernel_read(
			    s.m, as_hat(as), 1, l.kl_text.kr_va + 5 * PG + i, &byte));
			assert_int_equal(byte, (uint8_t)secret[i]);
			byte = 0xff;
			assert_int_equal(sim_transient_read(s.m, as_hat(as), 1,
					     l.kl_text.kr_va + 5 * PG + i, &byte),
			    !is_split(&kinds[k]));
			assert_int_equal(byte, is_split(&kinds[k]) ? 0xff : (uint8_t)secret[i]);
		}
		as_free(as);
		sys_fini(&s);
	}
}

/* ---- the two roots stay one space ---- */
static void assert_same(struct sys *s, struct as *as)
{
	for (uint64_t i = 0; i < 2 * PAGES; i++) {
		vaddr_t va = i < PAGES ? BASE + i * PG : ((vaddr_t)1 << 40) + (i - PAGES) * PG;

		assert_int_equal(sim_translated(s->m, as_hat(as), true, va, NULL),
		    sim_translated(s->m, as_hat(as), false, va, NULL));
	}
}

static unsigned draw(uint64_t *x, unsigned n)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(*x >> 33) % n;
}

/* One change of a space, checked on one CPU and then on another. */
static void one_step(struct sys *s, struct as **spaces, uint64_t *x, uint64_t step)
{
	unsigned a = draw(x, NSPACES), page = draw(x, PAGES - 8), n = 1 + draw(x, 8),
		 cpu = draw(x, 3);
	struct as *as = spaces[a];
	vaddr_t va = BASE + page * PG,
		far = ((vaddr_t)1 << 40) + page * PG; /* through another entry of the root */
	uint64_t got = 0, done;
	uint8_t byte;

	switch (draw(x, 9)) {
	case 0: assert_int_equal(as_setprot(as, va, n * PG, PROT_R), VM_OK); break;
	case 1: assert_int_equal(as_setprot(as, va, n * PG, RW), VM_OK); break;
	case 2:
		assert_int_equal(as_unmap(as, va, n * PG), VM_OK);
		assert_int_equal(sim_read(s->m, as, cpu, va, &got, 8, NULL), VM_NOMAP);
		assert_int_equal(map_anon(as, va, n, 0), VM_OK);
		break;
	case 3:
		(void)map_anon(as, far, n, 0);
		(void)sim_write(s->m, as, cpu, far, &step, 8, NULL);
		break;
	case 4: assert_int_equal(as_unmap(as, far, n * PG), VM_OK); break;
	case 5:
		as_free(spaces[(a + 1) % NSPACES]);
		assert_int_equal(as_dup(as, &spaces[(a + 1) % NSPACES]), VM_OK);
		break;
	case 6:
		assert_int_equal(as_setprot(as, BASE, 512 * PG, RW), VM_OK);
		fill(s, as, BASE, 512, step);
		assert_int_equal(as_promote(as, BASE, 512 * PG, 1, &done), VM_OK);
		break;
	case 7: hat_swapout(as_hat(as)); break;
	default: break;
	}
	(void)sim_write(s->m, as, cpu, va, &step, 8, NULL);
	/* now the translation may be cached under both numbers */
	(void)sim_kernel_read(s->m, as_hat(as), cpu, va, &byte);
	if (sim_read(s->m, as, (cpu + 1) % 3, va, &got, 8, NULL) == VM_OK &&
	    sim_write(s->m, as, cpu, va, &step, 8, NULL) == VM_OK)
		assert_true(
		    sim_read(s->m, as, (cpu + 1) % 3, va, &got, 8, NULL) == VM_OK && got == step);
}

static void roots_agree_whatever_is_done(void **state)
{
	(void)state;
	for (unsigned k = 0; k < NKINDS; k++) {
		struct sim_config cfg = config(&kinds[k]);
		struct as *spaces[NSPACES];
		uint64_t x = 11 + k;
		struct sys s;

		cfg.asids = 16; /* a new generation now and then */
		spaces[0] = start(&s, &cfg);
		fill(&s, spaces[0], BASE, PAGES, 1);
		for (unsigned i = 1; i < NSPACES; i++)
			assert_int_equal(as_dup(spaces[0], &spaces[i]), VM_OK);
		for (uint64_t i = 1; i <= 3000; i++) {
			one_step(&s, spaces, &x, i);
			if (i % 250 == 0) {
				assert_sound(&s);
				for (unsigned a = 0; a < NSPACES; a++)
					assert_same(&s, spaces[a]);
			}
		}
		assert_true(
		    mmu_hat_shared(s.m)->hs_promoted > 0 && mmu_hat_shared(s.m)->hs_demoted > 0);
		for (unsigned a = 0; a < NSPACES; a++)
			as_free(spaces[a]);
		sys_fini(&s);
	}
}

/* ---- what vm_check finds ---- */
static void count_violation(void *arg, const char *text)
{
	(void)text;
	++*(unsigned *)arg;
}

static unsigned violations(struct sys *s)
{
	unsigned told = 0, n = vm_check(s->vm, count_violation, &told);

	assert_int_equal(told, n);
	return n;
}

static uint64_t *root_entry(struct sys *s, pfn_t root, vaddr_t va, unsigned levels)
{
	return (uint64_t *)mach_frame_kva(s->m, root) +
	    (va >> (12 + 9 * (levels - 1)) & (ENTRIES - 1));
}

/*
 * Puts a word into the root of user mode: vm_check reports it, and no longer reports it after the
 * word is restored.
 */
static void spoil(struct sys *s, uint64_t *entry, uint64_t word)
{
	uint64_t was = *entry;

	*entry = word;
	assert_true(violations(s) > 0);
	*entry = was;
	assert_int_equal(violations(s), 0);
}

static void a_kernel_leaf_in_the_users_root_is_found(void **state)
{
	(void)state;
	for (unsigned k = 0; k < NKINDS; k++) {
		struct sim_config cfg = config(&kinds[k]);
		unsigned levels = kinds[k].k_format == SIM_LA57 ? 5 : 4;
		struct sim_kernel_layout l;
		struct page *pp;
		struct hat *hat;
		struct as *as;
		uint64_t *leaf;
		struct sys s;

		if (!is_split(&kinds[k]))
			continue;
		as = start(&s, &cfg);
		hat = as_hat(as);
		sim_kernel_layout(s.m, &l);
		put(&s, as, BASE, 1);
		/* the kernel's own tables, under the text and under the direct map */
		spoil(&s, root_entry(&s, hat_user_root(hat), l.kl_text.kr_va, levels),
		    *root_entry(&s, hat_root(hat), l.kl_text.kr_va, levels));
		spoil(&s, root_entry(&s, hat_user_root(hat), l.kl_direct.kr_va, levels),
		    *root_entry(&s, hat_root(hat), l.kl_direct.kr_va, levels));
		/* one page, by tables of its own */
		pp = page_kalloc(s.vm, 0, PG_ZERO);
		assert_non_null(pp);
		leaf = mach_frame_kva(s.m, page_pfn(s.vm, pp));
		*leaf = (uint64_t)(page_pfn(s.vm, pp) + cfg.frame0) << VM_PAGESHIFT |
		    0x3; /* a table that maps itself */
		spoil(&s,
		    root_entry(
			&s, hat_user_root(hat), l.kl_direct.kr_va - ((uint64_t)1 << 40), levels),
		    *leaf);
		page_kfree(s.vm, pp, 0);
		/*
		 * the roots differ in the user half: one root lacks an entry of the other, or
		 * permits executing a page wrongly
		 */
		spoil(&s, root_entry(&s, hat_user_root(hat), BASE, levels), 0);
		spoil(&s, root_entry(&s, hat_root(hat), BASE, levels),
		    *root_entry(&s, hat_user_root(hat), BASE, levels));
		as_free(as);
		sys_fini(&s);
	}
}

/*
 * A flush that forgets the number of user mode: the CPU goes on reading a page that no longer
 * belongs to its program.
 */
static void a_flush_of_one_number_is_found(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		bool broken = i & 1, idle = i & 2;
		struct sim_config cfg = config(&kinds[2]);
		uint8_t byte = 0;
		struct as *as;
		struct sys s;

		cfg.no_user_flush = broken;
		as = start(&s, &cfg);
		put(&s, as, BASE, 0x11);
		/* cached on CPU 1 under both numbers */
		assert_true(sim_read(s.m, as, 1, BASE, &byte, 1, NULL) == VM_OK && byte == 0x11);
		assert_true(sim_kernel_read(s.m, as_hat(as), 1, BASE, &byte));
		/* that CPU is not interrupted: both numbers are marked stale there */
		if (idle)
			sim_cpu_idle(s.m, 1);
		sim_cpu_set(s.m, 0);
		hat_unload(as_hat(as), BASE, PG, HAT_UNLOAD);
		assert_int_equal(violations(&s) > 0, broken);
		assert_int_equal(sim_transient_read(s.m, as_hat(as), 1, BASE, &byte), broken);
		assert_false(sim_kernel_read(s.m, as_hat(as), 1, BASE, &byte));
		as_free(as);
		sys_fini(&s);
	}
}

/* ---- the cost ---- */
static struct sim_stats cost(const struct kind *k, uint64_t calls, unsigned pages)
{
	struct sim_config cfg = config(k);
	struct sim_stats was, now;
	struct as *as;
	struct sys s;

	cfg.tlb_entries = 256;
	as = start(&s, &cfg);
	fill(&s, as, BASE, pages, 0);
	for (uint64_t i = 0; i < 100 + calls; i++) {
		if (i == 100) /* pages that fit into the TLB are in it */
			sim_statistics(s.m, &was);
		sim_syscall(s.m, as, 1);
		expect(&s, as, BASE, pages, 0);
	}
	sim_statistics(s.m, &now);
	now.ss_kernel -= was.ss_kernel;
	now.ss_root -= was.ss_root;
	now.ss_root_flush -= was.ss_root_flush;
	now.ss_tlb_miss -= was.ss_tlb_miss;
	as_free(as);
	sys_fini(&s);
	return now;
}

static void cost_of_entering_the_kernel(void **state)
{
	const uint64_t calls = 1000;
	const unsigned pages = 8;

	(void)state;
	for (unsigned k = 0; k < NKINDS; k++) {
		struct sim_stats c = cost(&kinds[k], calls, pages);

		print_message(
		    "%-26s a system call: roots loaded %.1f, TLBs emptied %.1f, TLB misses %.1f (with %u pages touched)\n",
		    kinds[k].k_name, (double)c.ss_root / (double)calls,
		    (double)c.ss_root_flush / (double)calls, (double)c.ss_tlb_miss / (double)calls,
		    pages);
		assert_int_equal(c.ss_kernel, calls);
		assert_int_equal(c.ss_root, is_split(&kinds[k]) ? 2 * calls : 0);
		if (is_split(&kinds[k]) && kinds[k].k_no_asids) {
			assert_int_equal(c.ss_root_flush, 2 * calls);
			/*
			 * in each round: two pages of the entry area, two of the kernel, and the
			 * program's
			 */
			assert_int_equal(c.ss_tlb_miss, (pages + 4) * calls);
		} else {
			assert_int_equal(c.ss_root_flush, 0);
			assert_int_equal(c.ss_tlb_miss, 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(user_mode_has_no_kernel),
		cmocka_unit_test(a_transient_read_finds_no_secret),
		cmocka_unit_test(roots_agree_whatever_is_done),
		cmocka_unit_test(a_kernel_leaf_in_the_users_root_is_found),
		cmocka_unit_test(a_flush_of_one_number_is_found),
		cmocka_unit_test(cost_of_entering_the_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
