/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A segment driver needs no change elsewhere: the core calls the operations of a segment and never
 * asks which driver it has. The driver here is segvn under another name; the test can change each
 * of its results.
 */
#include "tests/vm/segs.h"

static struct seg_ops renamed; /* segvn's operations, except those that a test replaces */
static bool right;             /* the driver's answer about its translations */

static enum vm_err renamed_create(struct seg *seg, const void *args)
{
	enum vm_err e = segvn_create(seg, args);

	if (e == VM_OK)
		seg->s_ops = &renamed;
	return e;
}

static bool renamed_translation_ok(struct seg *seg, vaddr_t va, pfn_t pfn, unsigned attr)
{
	return right && segvn_translation_ok(seg, va, pfn, attr);
}

static enum vm_err peek_letters(struct seg *seg, vaddr_t va, void *buf, uint64_t n)
{
	memset(buf, 'p', n);
	return VM_OK;
}

static enum vm_err fault_in_vain(
    struct seg *seg, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	return VM_OK;
}

static struct as *setup_on(struct sys *s, unsigned prot, const struct sim_config *cfg)
{
	struct segvn_args a = { .sa_prot = prot, .sa_maxprot = RW };
	struct as *as;

	renamed = segvn_ops;
	renamed.so_name = "renamed";
	renamed.so_translation_ok = renamed_translation_ok;
	right = true;
	sys_init_cfg(s, cfg, 64);
	as = new_as(s);
	assert_int_equal(as_map(as, BASE, 8 * PG, renamed_create, &a), VM_OK);
	return as;
}

static struct as *setup(struct sys *s, unsigned prot)
{
	const struct sim_config cfg = { .frames = 256, .ncpus = 2, .seed = 3 };

	return setup_on(s, prot, &cfg);
}

static void count_violation(void *arg, const char *text)
{
	*(unsigned *)arg += strstr(text, "translation leads to the wrong page") != NULL;
}

static void the_checker_asks_the_driver_for_reservations_and_translations(void **state)
{
	struct sys s;
	struct as *as = setup(&s, RW);
	unsigned seen = 0, all;

	fill(&s, as, BASE, 8, 100);
	assert_sound(&s);
	right = false;
	all = vm_check(s.vm, count_violation, &seen);
	assert_int_equal(seen, 8);
	assert_int_equal(all, 8);
	right = true;
	assert_true(as_swapout(as) > 0);
	expect(&s, as, BASE, 8, 100);
	as_free(as);
	sys_fini(&s);
}

static void a_debugger_asks_the_driver(void **state)
{
	struct sys s;
	struct as *as = setup(&s, 0);
	unsigned char c = 7;

	/* segvn's own results, although the program may neither read nor write */
	assert_int_equal(as_poke(as, BASE + 5, &c, 1), VM_OK);
	c = 0;
	assert_int_equal(as_peek(as, BASE + 5, &c, 1), VM_OK);
	assert_int_equal(c, 7);
	renamed.so_peek = peek_letters;
	assert_int_equal(as_peek(as, BASE + 5, &c, 1), VM_OK);
	assert_int_equal(c, 'p');
	/* the driver leaves the decision to the program's rights, which permit no access */
	renamed.so_peek = seg_retry_peek;
	renamed.so_poke = seg_retry_poke;
	assert_int_equal(as_peek(as, BASE + 5, &c, 1), VM_PROT);
	assert_int_equal(as_poke(as, BASE + 5, &c, 1), VM_ACCESS);
	as_free(as);
	sys_fini(&s);
}

static bool count_bytes(void *arg, uint64_t off, const void *buf, uint64_t n)
{
	*(uint64_t *)arg += n;
	return true;
}

static void a_core_file_has_what_the_driver_says(void **state)
{
	struct sys s;
	struct as *as = setup(&s, RW);
	uint64_t with = 0, without = 0;
	struct as_core to = { .ac_write = count_bytes, .ac_arg = &with };

	fill(&s, as, BASE, 8, 1);
	assert_int_equal(as_core(as, &to), VM_OK);
	renamed.so_core = false;
	to.ac_arg = &without;
	assert_int_equal(as_core(as, &to), VM_OK);
	assert_int_equal(with - without, 8 * PG);
	as_free(as);
	sys_fini(&s);
}

/* The core's internal result for "try again" is never returned to a caller. */
static void a_copy_whose_page_never_stays_ends_with_nomem(void **state)
{
	struct sim_config cfg = { .frames = 256, .ncpus = 2, .seed = 3 };
	struct sys s;
	struct as *as;
	char c = 7;

	sim_config_linux(&cfg);
	as = setup_on(&s, RW, &cfg);
	renamed.so_fault = fault_in_vain;
	assert_int_equal(as_copyin(as, BASE + 5, &c, 1), VM_NOMEM);
	assert_int_equal(as_copyout(as, &c, BASE + 5, 1), VM_NOMEM);
	assert_int_equal(as_copy(as, BASE, as, BASE + PG, 1, NULL), VM_NOMEM);
	assert_int_equal(c, 7);
	as_free(as);
	sys_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_checker_asks_the_driver_for_reservations_and_translations),
		cmocka_unit_test(a_debugger_asks_the_driver),
		cmocka_unit_test(a_core_file_has_what_the_driver_says),
		cmocka_unit_test(a_copy_whose_page_never_stays_ends_with_nomem),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
