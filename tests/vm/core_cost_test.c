/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cost of the core's structures, counted and not timed (bench/core.c prints times): levels and
 * nodes of the index of segments at 10, 1,000 and 100,000 of them, which may grow logarithmically
 * and linearly; neighbours that a new segment reads; bytes for a frame, and for a gibibyte that is
 * mapped and not touched.
 */
#include "machine/sim/sim_impl.h"
#include "vm/impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define PG VM_PAGESIZE
#define GB ((uint64_t)1 << 30)
#define FRAMES 16384u

static unsigned log2_up(uint64_t n)
{
	unsigned k = 0;

	while ((uint64_t)1 << k < n)
		k++;
	return k;
}

static struct vm *system_new(struct mach **mp)
{
	struct sim_config cfg = { .frames = FRAMES };
	struct vm_config vc = { .vc_frames = FRAMES, .vc_overcommit = true };
	struct vm *vm;

	vc.vc_mach = *mp = sim_create(&cfg);
	assert_non_null(*mp);
	assert_int_equal(vm_create(&vc, &vm), VM_OK);
	return vm;
}

static void index_grows_as_the_logarithm(void **state)
{
	static const uint64_t count[] = { 10, 1000, 100000 };
	struct mach *m;
	struct vm *vm = system_new(&m);

	for (unsigned i = 0; i < 3; i++) {
		struct range_node *node = calloc(count[i], sizeof *node);
		struct range_index ix = { 0 };

		for (uint64_t k = 0; k < count[i]; k++) {
			/* a prime stride: each element once, in a scattered order */
			uint64_t at = k * 7919 % count[i];

			node[at].r_base = 2 * at * PG;
			node[at].r_end = node[at].r_base + PG;
			assert_true(range_reserve(&ix, vm));
			range_insert(&ix, &node[at]);
		}
		/*
		 * A node has six entries or more, the root two: 6^(levels - 1) <= n / 2. An insert
		 * splits each node at most once.
		 */
		assert_in_range(range_levels(&ix), 1, 1 + log2_up(count[i]) * 10 / 25);
		assert_true(ix.ri_nodes <= 1 + count[i] / 5 + 4);
		for (uint64_t k = 0; k < count[i]; k++) {
			range_remove(&ix, &node[k]);
			range_unreserve(&ix, vm);
		}
		free(node);
	}
	vm_destroy(vm);
	sim_destroy(m);
}

/* ---- neighbours: segvn, with a count of all comparisons of two segments ---- */
static struct seg_ops counting;
static unsigned looks;

static bool counting_concat(struct seg *a, struct seg *b)
{
	looks++;
	return segvn_ops.so_concat(a, b);
}

static enum vm_err counting_create(struct seg *s, const void *args)
{
	enum vm_err e = segvn_create(s, args);

	s->s_ops = &counting;
	return e;
}

static void map_prot(struct as *as, vaddr_t va, unsigned prot)
{
	const struct segvn_args a = {
		.sa_prot = prot, .sa_maxprot = PROT_R | PROT_W | PROT_X, .sa_flags = SEGVN_NORESERVE
	};

	assert_int_equal(as_map(as, va, PG, counting_create, &a), VM_OK);
}

static void no_violation(void *arg, const char *text) { fail_msg("%s", text); }

/*
 * A neighbour that cannot be merged with a new segment is not read: in a large space it is not in
 * the cache, and reading it was half of the cost of as_map. A neighbour that can be merged is
 * found, also after its rights have changed.
 */
static void neighbours_of_another_kind_are_not_looked_at(void **state)
{
	const unsigned n = 1000;
	struct mach *m;
	struct vm *vm = system_new(&m);
	struct as *as;

	counting = segvn_ops;
	counting.so_concat = counting_concat;
	assert_int_equal(as_alloc(vm, 0x10000, (vaddr_t)1 << 47, &as), VM_OK);
	for (unsigned i = 0; i < n; i++)
		map_prot(as, GB + 4 * i * PG, PROT_R | PROT_W);
	for (unsigned i = 0; i < n; i++) {
		map_prot(as, GB + (4 * i + 1) * PG, PROT_R); /* right behind */
		/* directly before the next segment, except for the last */
		map_prot(as, GB + (4 * i + 3) * PG, PROT_X);
	}
	assert_int_equal(looks, 0);
	assert_int_equal(as->a_nsegs, 3 * n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(as_setprot(as, GB + (4 * i + 3) * PG, PG, PROT_R), VM_OK);
	looks = 0;
	for (unsigned i = 0; i < n; i++)
		map_prot(as, GB + (4 * i + 2) * PG, PROT_R); /* between two segments of its kind */
	assert_int_equal(looks, 2 * n);
	assert_int_equal(as->a_nsegs, 2 * n);
	assert_int_equal(vm_check(vm, no_violation, NULL), 0);
	as_free(as);
	vm_destroy(vm);
	sim_destroy(m);
}

static void frame_costs_at_most_64_bytes_and_its_mappings(void **state)
{
	struct mach *m;
	struct vm *vm = system_new(&m);
	uint64_t bytes = 0, fixed, maps = sizeof vm->vm_pages[0].p_hat;

	for (const struct boot_chunk *b = m->m_boot; b != NULL; b = b->b_next)
		bytes += b->b_bytes;
	/*
	 * memory that does not grow with the frames: the system itself, the data of CPUs, locks,
	 * the table of tables of anons
	 */
	fixed = sizeof(struct vm) + (vm->vm_cpumask + 1) * sizeof(struct vm_cpu) +
	    (vm->vm_lockmask + 1) * sizeof(struct page_lock) +
	    vm->vm_anonchunks_max * sizeof(struct anon *) + 16384;
	assert_true(bytes < fixed + (64 + maps) * (uint64_t)FRAMES);
	assert_true(bytes > (sizeof(struct page)) * (uint64_t)FRAMES);
	vm_destroy(vm);
	sim_destroy(m);
}

static void untouched_gib_costs_at_most_4_kib(void **state)
{
	const struct segvn_args a = { .sa_prot = PROT_R | PROT_W,
		.sa_maxprot = PROT_R | PROT_W,
		.sa_flags = SEGVN_NORESERVE };
	struct mach *m;
	struct vm *vm = system_new(&m);
	struct as *as;
	uint64_t before;

	assert_int_equal(as_alloc(vm, 0x10000, (vaddr_t)1 << 47, &as), VM_OK);
	assert_int_equal(as_map(as, GB, PG, segvn_create, &a), VM_OK);
	before = vm->vm_nkernel;
	for (uint64_t i = 1; i <= 1024; i++)
		assert_int_equal(as_map(as, 2 * i * GB, GB, segvn_create, &a), VM_OK);
	assert_true((vm->vm_nkernel - before) * (uint64_t)PG <= 1024 * 4096);
	assert_true(vm->vm_nkernel > before);
	as_free(as);
	vm_destroy(vm);
	sim_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(index_grows_as_the_logarithm),
		cmocka_unit_test(neighbours_of_another_kind_are_not_looked_at),
		cmocka_unit_test(frame_costs_at_most_64_bytes_and_its_mappings),
		cmocka_unit_test(untouched_gib_costs_at_most_4_kib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
