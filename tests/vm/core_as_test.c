/* SPDX-License-Identifier: BSD-2-Clause */
/* The range index against a bitmap of the same ranges: random inserts, removals, resizes, finds, gap and neighbour searches. */
#include "machine/sim/sim_impl.h"
#include "vm/impl.h"

#include <stdarg.h>
#include <stdlib.h>
#include <setjmp.h>
#include <cmocka.h>

#define UNITS 512u
#define OPS 100000u
#define MANY 100000u

static uint64_t rnd_state = 1;
static uint32_t rnd(uint32_t n)
{
	rnd_state = rnd_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rnd_state >> 33) % n;
}

static void on_violation(void *arg, const char *text) { fail_msg("%s", text); }

static struct range_node *owner[UNITS];
static struct mach *mach;
static struct vm *vm;

static int system_new(void **state)
{
	struct sim_config cfg = { .frames = 16384 };
	struct vm_config vc = { .vc_frames = 16384 };

	vc.vc_mach = mach = sim_create(&cfg);
	return mach == NULL || vm_create(&vc, &vm) != VM_OK;
}

static int system_free(void **state)
{
	vm_destroy(vm); /* detects lost nodes */
	sim_destroy(mach);
	return 0;
}

static void add(struct range_index *ix, struct range_node *r)
{
	assert_true(range_reserve(ix, vm));
	range_insert(ix, r);
}

static void take_out(struct range_index *ix, struct range_node *r)
{
	range_remove(ix, r);
	range_unreserve(ix, vm);
}

static void paint(struct range_node *n, struct range_node *with)
{
	for (uint64_t i = n->r_base / VM_PAGESIZE; i < n->r_end / VM_PAGESIZE; i++)
		owner[i] = with;
}

static bool all_free(uint64_t at, uint64_t n)
{
	for (uint64_t i = at; i < at + n; i++)
		if (owner[i] != NULL)
			return false;
	return true;
}

static void check_gap(struct range_index *ix)
{
	uint64_t n = 1 + rnd(24), align = (uint64_t)1 << rnd(5), min = rnd(UNITS),
		 max = min + rnd(UNITS - (uint32_t)min) + 1;
	bool high = rnd(2), want = false;
	uint64_t best = 0;
	vaddr_t got = 0;

	for (uint64_t at = min; at + n <= max; at++)
		if (at % align == 0 && all_free(at, n) && (!want || high)) {
			best = at;
			want = true;
		}
	assert_int_equal(
	    range_gap(ix, vm_ptob(n), vm_ptob(align), vm_ptob(min), vm_ptob(max), high, &got),
	    want);
	if (want)
		assert_int_equal(got, vm_ptob(best));
}

static void check_find(struct range_index *ix)
{
	uint64_t at = rnd(UNITS), i = at;

	assert_ptr_equal(range_find(ix, vm_ptob(at) + 17), owner[at]);
	while (i < UNITS && owner[i] == NULL)
		i++;
	assert_ptr_equal(range_find_ge(ix, vm_ptob(at)), i < UNITS ? owner[i] : NULL);
}

static bool touches(const struct range_node *n, const struct range_node *r)
{
	return n != NULL && n->r_kind == r->r_kind;
}

/* Inserts r where the index permits it; the bitmap tells which ranges it overlaps. */
static bool put_at(struct range_index *ix, struct range_node *r)
{
	uint64_t at = vm_btop(r->r_base), end = vm_btop(r->r_end);
	struct range_node *below, *above, *lo = at > 0 ? owner[at - 1] : NULL,
					  *hi = end < UNITS ? owner[end] : NULL;
	struct range_path path;

	assert_int_equal(range_place(ix, r->r_base, r->r_end, &path), all_free(at, end - at));
	if (!all_free(at, end - at))
		return false;
	assert_true(range_reserve(ix, vm));
	range_touching(ix, &path, r, &below, &above);
	assert_ptr_equal(below, touches(lo, r) ? lo : NULL);
	assert_ptr_equal(above, touches(hi, r) ? hi : NULL);
	range_insert_at(ix, &path, r);
	return true;
}

static void change(struct range_index *ix)
{
	uint32_t at = rnd(UNITS - 8), n = 1 + rnd(8);
	struct range_node *r = owner[at];

	if (r == NULL) {
		r = calloc(1, sizeof(*r));
		assert_non_null(r);
		r->r_base = vm_ptob(at);
		r->r_end = vm_ptob(at + n);
		r->r_kind = (uint8_t)rnd(3);
		if (put_at(ix, r))
			paint(r, r);
		else
			free(r);
	} else if (rnd(4) == 0) {
		range_rekind(ix, r, (uint8_t)rnd(3));
	} else if (rnd(3) == 0 && r->r_end - r->r_base > VM_PAGESIZE) {
		paint(r, NULL);
		range_resize(ix, r, r->r_base + (rnd(2) ? VM_PAGESIZE : 0), r->r_end);
		paint(r, r);
	} else {
		take_out(ix, r);
		paint(r, NULL);
		free(r);
	}
}

static void random_ranges_are_as_the_bitmap_says(void **state)
{
	struct range_index ix = { 0 };

	for (uint32_t op = 0; op < OPS; op++) {
		change(&ix);
		check_find(&ix);
		check_gap(&ix);
		if (op % 64 == 0)
			assert_int_equal(range_check(&ix, on_violation, NULL), 0);
	}
	for (uint32_t i = 0; i < UNITS; i++) {
		struct range_node *r = owner[i];

		if (r != NULL) {
			paint(r, NULL);
			take_out(&ix, r);
			free(r);
		}
	}
	assert_null(ix.ri_root);
	assert_int_equal(ix.ri_nodes, 0);
}

/* 100,000 ranges with a page between each two: one wider hole is found from both sides. */
static void one_wider_hole_among_many_ranges_is_found(void **state)
{
	struct range_node *r = calloc(MANY, sizeof(*r));
	struct range_index ix = { 0 };
	vaddr_t at;

	assert_non_null(r);
	for (uint32_t i = 0; i < MANY; i++) {
		r[i].r_base = vm_ptob(2 * (uint64_t)i + (i > MANY / 2 ? 5 : 0));
		r[i].r_end = r[i].r_base + VM_PAGESIZE;
		add(&ix, &r[i]);
	}
	assert_int_equal(range_check(&ix, on_violation, NULL), 0);
	for (unsigned high = 0; high < 2; high++) {
		assert_true(
		    range_gap(&ix, vm_ptob(4), VM_PAGESIZE, 0, r[MANY - 1].r_end, high, &at));
		assert_true(at >= r[MANY / 2].r_end && at + vm_ptob(4) <= r[MANY / 2 + 1].r_base);
	}
	assert_false(range_gap(&ix, vm_ptob(7), VM_PAGESIZE, 0, r[MANY - 1].r_end, false, &at));
	for (uint32_t i = 0; i < MANY; i += 2)
		take_out(&ix, &r[i]);
	assert_int_equal(range_check(&ix, on_violation, NULL), 0);
	for (uint32_t i = 1; i < MANY; i += 2)
		assert_ptr_equal(range_next(&ix, &r[i]), i + 2 < MANY ? &r[i + 2] : NULL);
	for (uint32_t i = MANY; i-- > 0;)
		if (i % 2 == 1)
			take_out(&ix, &r[i]);
	assert_int_equal(ix.ri_nodes, 0);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(random_ranges_are_as_the_bitmap_says),
		cmocka_unit_test(one_wider_hole_among_many_ranges_is_found) };

	return cmocka_run_group_tests(tests, system_new, system_free);
}
