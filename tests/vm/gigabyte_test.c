/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages of 1 GiB from end to end: a gigabyte touched page by page in scattered order becomes one
 * translation, first by 2 MiB and then by 1 GiB, its pages moved into a row of frames; the bytes
 * stay; a fork shares it, a write copies one page and splits it; protecting, dropping and locking a
 * part split only that; it is joined again, by moving what is elsewhere now only.
 *
 *   gigabyte_test [FORMAT]
 */
#include "tests/vm/segs.h"

#include <quire/hat.h>

#define GB ((uint64_t)1 << 30)
#define PAGES (GB / PG)
#define VA (4 * GB)

static unsigned size_of_shift(struct sys *s, unsigned shift)
{
	const struct mach_caps *caps = mach_caps(s->m);

	for (unsigned i = 0; i < caps->mc_npagesizes; i++)
		if (caps->mc_pageshift[i] == shift)
			return i;
	fail_msg("no page of 2^%u bytes", shift);
	return 0;
}

static uint64_t word(uint64_t i) { return i * 0x9e3779b97f4a7c15ull + 1; }

static void put_word(struct sys *s, struct as *as, uint64_t i, uint64_t w)
{
	assert_int_equal(sim_write(s->m, as, 0, VA + i * PG + i % 500 * 8, &w, 8, NULL), VM_OK);
}

static uint64_t get_word(struct sys *s, struct as *as, uint64_t i)
{
	uint64_t w = 0;

	assert_int_equal(
	    sim_read(s->m, as, (unsigned)(i % 2), VA + i * PG + i % 500 * 8, &w, 8, NULL), VM_OK);
	return w;
}

static void expect_words(struct sys *s, struct as *as, uint64_t step)
{
	for (uint64_t i = 0; i < PAGES; i += step)
		if (get_word(s, as, i) != word(i))
			fail_msg("page %llu", (unsigned long long)i);
}

static void move_away(struct sys *s, struct as *as, uint64_t i)
{
	struct page *pp = page_of(s->vm, hat_probe(as_hat(as), VA + i * PG, NULL));

	page_lock(s->vm, pp, SE_EXCL);
	assert_int_equal(page_relocate(s->vm, &pp), VM_OK);
	page_unlock(s->vm, pp);
	put_word(s, as, i, word(i));
}

/* The whole gibibyte becomes one translation; or none of it, if an obstacle exists. */
static void promote(struct sys *s, struct as *as, uint64_t want)
{
	uint64_t done;

	assert_int_equal(as_promote(as, VA, GB, size_of_shift(s, 30), &done), VM_OK);
	assert_int_equal(done, want);
}

static void touched_in_no_order_it_is_one_translation(struct sys *s, struct as *as)
{
	struct sim_stats st0, st1;
	struct as_usage u;

	for (uint64_t k = 0; k < PAGES; k++) { /* every page once, far from the last */
		uint64_t i = k * 100003 % PAGES;

		put_word(s, as, i, word(i));
	}
	promote(s, as, GB);
	assert_int_equal(hat_mapsize(as_hat(as), VA + 12345 * PG), 30);
	assert_sound(s);
	as_usage(as, &u);
	assert_int_equal(u.au_rss, PAGES);
	/* one TLB entry translates all of it */
	sim_statistics(s->m, &st0);
	expect_words(s, as, 97);
	sim_statistics(s->m, &st1);
	assert_int_equal(st1.ss_fault - st0.ss_fault, 0);
	assert_in_range(st1.ss_tlb_miss - st0.ss_tlb_miss, 0, 2);
}

/* Read-only for both as one translation; a write copies its page and splits the one it is in. */
static void a_fork_shares_it_and_a_write_splits_it(struct sys *s, struct as *as)
{
	struct as *child;

	assert_int_equal(as_dup(as, &child), VM_OK);
	assert_int_equal(hat_mapsize(as_hat(as), VA), 30);
	put_word(s, child, 777, 5);
	assert_int_equal(get_word(s, as, 777), word(777));
	assert_int_equal(get_word(s, child, 777), 5);
	expect_words(s, child, 1009);
	assert_sound(s);
	as_free(child);
	put_word(s, as, 777, word(777));
	assert_int_equal(hat_mapsize(as_hat(as), VA + 777 * PG), 12);
	assert_int_equal(hat_mapsize(as_hat(as), VA + 512 * MB), 21);
	/*
	 * a fault for each page makes it writable again; then the pages can become one translation
	 * again
	 */
	for (uint64_t i = 0; i < PAGES; i++)
		put_word(s, as, i, word(i));
	promote(s, as, GB);
	expect_words(s, as, 97);
}

static void a_part_is_protected(struct sys *s, struct as *as)
{
	assert_int_equal(as_setprot(as, VA + 700 * MB, 3 * PG, PROT_R), VM_OK);
	assert_int_equal(sim_write(s->m, as, 1, VA + 700 * MB, &(uint64_t){ 1 }, 8, NULL), VM_PROT);
	assert_int_equal(
	    sim_write(s->m, as, 1, VA + 700 * MB - 8, &(uint64_t){ 0 }, 8, NULL), VM_OK);
	assert_int_equal(hat_mapsize(as_hat(as), VA + 700 * MB), 12);
	assert_int_equal(hat_mapsize(as_hat(as), VA), 21);
	promote(s, as, 0); /* rights differ */
	assert_sound(s);
	assert_int_equal(as_setprot(as, VA + 700 * MB, 3 * PG, RW), VM_OK);
	for (uint64_t i = 700 * MB / PG; i < 700 * MB / PG + 3; i++)
		put_word(s, as, i, word(i));
	promote(s, as, GB);
}

static void only_what_is_elsewhere_is_moved(struct sys *s, struct as *as)
{
	uint64_t moved;

	move_away(s, as, 200000);
	moved = vm_statistics(s->vm)->relocate;
	promote(s, as, GB);
	assert_in_range(vm_statistics(s->vm)->relocate - moved, 1, 2);
	expect_words(s, as, 1000);
}

static void parts_are_dropped_locked_and_unmapped(struct sys *s, struct as *as)
{
	assert_int_equal(as_advise(as, VA + 10 * PG, PG, ADV_DONTNEED), VM_OK);
	assert_int_equal(get_word(s, as, 10), 0);
	assert_int_equal(as_fault(as, VA + 20 * PG, 2 * PG, F_SOFTLOCK, S_WRITE), VM_OK);
	promote(s, as, 0);
	assert_int_equal(as_fault(as, VA + 20 * PG, 2 * PG, F_SOFTUNLOCK, S_WRITE), VM_OK);
	expect_words(s, as, 8 * 97); /* page 10 is not among the pages */
	assert_sound(s);
	assert_int_equal(as_unmap(as, VA + 64 * MB, 4 * MB), VM_OK);
	assert_int_equal(get_word(s, as, 0), word(0));
}

static void one_translation_for_a_gigabyte(enum sim_format f)
{
	struct sim_config cfg = { .frames = 3 * PAGES, .ncpus = 2, .format = f, .no_poison = true };
	struct segvn_args a = { .sa_prot = RW, .sa_maxprot = RW, .sa_flags = SEGVN_NORESERVE };
	struct as *as;
	struct sys s;

	sys_init_cfg(&s, &cfg, 0);
	assert_int_equal(as_alloc(s.vm, 0x10000, mach_caps(s.m)->mc_user_max, &as), VM_OK);
	assert_int_equal(as_map(as, VA, GB, segvn_create, &a), VM_OK);
	touched_in_no_order_it_is_one_translation(&s, as);
	a_fork_shares_it_and_a_write_splits_it(&s, as);
	a_part_is_protected(&s, as);
	only_what_is_elsewhere_is_moved(&s, as);
	parts_are_dropped_locked_and_unmapped(&s, as);
	as_free(as);
	sys_fini(&s);
}

static enum sim_format format = SIM_X86_64;

static void a_gigabyte_end_to_end(void **state)
{
	(void)state;
	one_translation_for_a_gigabyte(format);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_gigabyte_end_to_end) };

	if (argc > 1 && !sim_format_by_name(argv[1], &format))
		return 2;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
