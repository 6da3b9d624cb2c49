/* SPDX-License-Identifier: BSD-2-Clause */
/* Hardened spaces: writable or executable, never both; places drawn at random; callbacks are in callback_test.c. */
#include "tests/vm/segs.h"

static enum vm_err map_prot(struct as *as, vaddr_t va, unsigned prot)
{
	struct segvn_args a = { .sa_prot = prot, .sa_maxprot = RW | PROT_X };

	return as_map(as, va, 4 * PG, segvn_create, &a);
}

static void what_was_writable_is_never_executable(void **state)
{
	struct as *as, *plain, *child;
	vaddr_t at = BASE + 8 * MB;
	struct sys s;

	(void)state;
	sys_init(&s, 128, 64);
	plain = new_as(&s);
	as = new_as(&s);
	assert_int_equal(map_prot(as, BASE, RW), VM_OK);
	assert_int_equal(map_prot(as, BASE + 7 * MB, RW | PROT_X),
	    VM_OK); /* mapped before: the mapping stays, but cannot be made again */
	as_secure(as, AS_WXORX, 0);
	assert_int_equal(map_prot(as, BASE + MB, RW | PROT_X), VM_ACCESS);
	assert_int_equal(map_prot(as, BASE + MB, RW), VM_OK);
	assert_int_equal(map_prot(as, BASE + 2 * MB, PROT_R | PROT_X), VM_OK);
	assert_int_equal(map_prot(as, BASE + 3 * MB, PROT_R), VM_OK);
	/* data */
	assert_int_equal(as_setprot(as, BASE, PG, PROT_R | PROT_X),
	    VM_ACCESS); /* writable before the space was secured */
	assert_int_equal(as_setprot(as, BASE + MB, PG, PROT_R | PROT_X), VM_ACCESS);
	assert_int_equal(as_setprot(as, BASE + MB, 2 * PG, PROT_R), VM_OK);
	assert_int_equal(as_setprot(as, BASE + MB + PG, PG, PROT_R | PROT_X),
	    VM_ACCESS); /* the parts keep the property, too */
	assert_int_equal(as_setprot(as, BASE + 7 * MB, 4 * PG, PROT_R), VM_OK);
	assert_int_equal(as_setprot(as, BASE + 7 * MB, 4 * PG, PROT_R | PROT_X), VM_ACCESS);
	/* text: can be loaded read-only and then made executable, and never writable while it is */
	assert_int_equal(as_setprot(as, BASE + 2 * MB, PG, RW | PROT_X), VM_ACCESS);
	assert_int_equal(as_setprot(as, BASE + 3 * MB, 4 * PG, PROT_R | PROT_X), VM_OK);
	assert_int_equal(sim_exec(s.m, as, 0, BASE + 3 * MB), VM_OK);
	assert_int_equal(as_setprot(as, BASE + 3 * MB, 4 * PG, RW), VM_OK);
	assert_int_equal(as_setprot(as, BASE + 3 * MB, 4 * PG, PROT_R | PROT_X), VM_ACCESS);
	/* neither a fork, nor a move, nor a message circumvents it */
	assert_int_equal(as_dup(as, &child), VM_OK);
	assert_int_equal(as_setprot(child, BASE + 3 * MB, 4 * PG, PROT_R | PROT_X), VM_ACCESS);
	assert_int_equal(map_prot(child, BASE + 5 * MB, RW | PROT_X), VM_ACCESS);
	assert_int_equal(
	    as_remap(child, BASE + 3 * MB, 4 * PG, 4 * PG, REMAP_MAYMOVE | REMAP_FIXED, &at),
	    VM_OK);
	assert_int_equal(as_setprot(child, at, 4 * PG, PROT_R | PROT_X), VM_ACCESS);
	assert_int_equal(map_prot(plain, BASE, RW | PROT_X), VM_OK);
	put(&s, plain, BASE, 1);
	at = BASE + 9 * MB;
	assert_int_equal(
	    as_transfer(plain, BASE, 4 * PG, as, &at, TRANSFER_COW, RW | PROT_X), VM_ACCESS);
	assert_int_equal(as_transfer(plain, BASE, 4 * PG, as, &at, TRANSFER_COW, RW), VM_OK);
	assert_int_equal(as_setprot(as, at, 4 * PG, PROT_R | PROT_X), VM_ACCESS);
	assert_sound(&s);
	as_free(child);
	as_free(plain);
	as_free(as);
	sys_fini(&s);
}

#define DRAWS 64u

static void draw_places(struct as *as, vaddr_t *at)
{
	struct segvn_args a = { .sa_prot = RW, .sa_maxprot = RW, .sa_flags = SEGVN_NORESERVE };

	for (unsigned i = 0; i < DRAWS; i++) {
		at[i] = 0;
		assert_int_equal(
		    as_map_at(as, &at[i], 3 * PG, i % 8 == 7 ? 2 * MB : 0, 0, segvn_create, &a),
		    VM_OK);
		assert_int_equal(at[i] & (i % 8 == 7 ? 2 * MB - 1 : PG - 1), 0);
	}
}

static unsigned bits_that_vary(const vaddr_t *at)
{
	vaddr_t diff = 0;

	for (unsigned i = 1; i < DRAWS; i++)
		diff |= at[i] ^ at[0];
	return (unsigned)__builtin_popcountll(diff);
}

static void places_are_drawn_by_seed(void **state)
{
	vaddr_t one[DRAWS], again[DRAWS], other[DRAWS], none[DRAWS], at = 0;
	struct as *as[4], *child;
	unsigned same = 0;
	struct sys s;

	(void)state;
	sys_init(&s, 512, 64);
	for (unsigned i = 0; i < 4; i++) {
		as[i] = new_as(&s);
		if (i < 3)
			as_secure(as[i], AS_RANDOM, i < 2 ? 42 : 43);
	}
	draw_places(as[0], one);
	draw_places(as[1], again);
	draw_places(as[2], other);
	draw_places(as[3], none);
	assert_memory_equal(one, again, sizeof(one)); /* so that a run is reproducible */
	for (unsigned i = 0; i < DRAWS; i++)
		same += one[i] == other[i];
	assert_true(same < 2);
	assert_true(bits_that_vary(one) >= 24); /* of the 28 above a page in these spaces */
	assert_true(bits_that_vary(none) < 16);
	/* a hint and a fixed place are kept; below 4 GiB stays below; a full space is still filled */
	at = BASE;
	assert_int_equal(as_map_at(as[0], &at, PG, 0, 0, seghole_create, NULL), VM_OK);
	assert_int_equal(at, BASE);
	at = 0;
	assert_int_equal(as_map_at(as[0], &at, PG, 0, AS_32BIT, seghole_create, NULL), VM_OK);
	assert_true(at < (vaddr_t)1 << 32);
	assert_int_equal(as_dup(as[0], &child), VM_OK);
	at = 0;
	assert_int_equal(as_map_at(child, &at, PG, 0, 0, seghole_create, NULL), VM_OK);
	assert_sound(&s);
	as_free(child);
	for (unsigned i = 0; i < 4; i++)
		as_free(as[i]);
	assert_int_equal(as_alloc(s.vm, 0x10000, 0x10000 + 16 * PG, &as[0]), VM_OK);
	as_secure(as[0], AS_RANDOM, 7);
	for (unsigned i = 0; i < 16; i++) {
		at = 0;
		assert_int_equal(as_map_at(as[0], &at, PG, 0, 0, seghole_create, NULL), VM_OK);
	}
	at = 0;
	assert_int_equal(as_map_at(as[0], &at, PG, 0, 0, seghole_create, NULL), VM_NOMEM);
	as_free(as[0]);
	sys_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_writable_is_never_executable),
		cmocka_unit_test(places_are_drawn_by_seed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
