/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the core's structures cost, counted, not timed (bench/core.c prints the time): steps and writes in the index of
 * segments at 10, 1,000 and 100,000 of them, which may grow as the logarithm does; bytes for a frame, and for a gibibyte
 * that is mapped and not touched.
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
#define TRIES 24u

static unsigned log2_up(uint64_t n)
{
	unsigned k = 0;

	while ((uint64_t)1 << k < n)
		k++;
	return k;
}

/* Nodes that a search for va looks at: those from the root down to where it ends. */
static unsigned steps(const struct range_node *n, vaddr_t va)
{
	unsigned k = 0;

	for (; n != NULL && !(va >= n->r_base && va < n->r_end); k++)
		n = va < n->r_base ? n->r_left : n->r_right;
	return k + (n != NULL);
}

static unsigned differ(const struct range_node *a, const struct range_node *b, uint64_t n)
{
	unsigned k = 0;

	for (uint64_t i = 0; i < n; i++)
		k += memcmp(&a[i], &b[i], sizeof a[i]) != 0;
	return k;
}

/* The most steps of a search, and the most nodes written by putting one in or taking one out, among n. */
static void index_cost(uint64_t n, unsigned *looked, unsigned *written)
{
	struct range_node *node = calloc(n + 1, sizeof *node), *was = calloc(n + 1, sizeof *was), *root = NULL;

	*looked = *written = 0;
	for (uint64_t i = 0; i < n; i++) {
		node[i].r_base = 2 * i * PG;
		node[i].r_end = node[i].r_base + PG;
		range_insert(&root, &node[i]);
	}
	for (unsigned t = 0; t < TRIES; t++) {
		uint64_t i = n * t / TRIES;
		unsigned k = steps(root, (2 * i + 1) * PG);

		*looked = k > *looked ? k : *looked;
		node[n].r_base = (2 * i + 1) * PG;
		node[n].r_end = node[n].r_base + PG;
		memcpy(was, node, (n + 1) * sizeof *node);
		range_insert(&root, &node[n]);
		k = differ(node, was, n + 1);
		*written = k > *written ? k : *written;
		memcpy(was, node, (n + 1) * sizeof *node);
		range_remove(&root, &node[n]);
		k = differ(node, was, n + 1);
		*written = k > *written ? k : *written;
	}
	free(node);
	free(was);
}

static void index_grows_as_the_logarithm(void **state)
{
	static const uint64_t count[] = { 10, 1000, 100000 };

	for (unsigned i = 0; i < 3; i++) {
		unsigned looked, written, bits = log2_up(count[i] + 2);

		index_cost(count[i], &looked, &written);
		/* An AVL tree is at most 1.44 times as high as a perfect one; a rotation writes the neighbours, too. */
		assert_in_range(looked, 1, bits * 3 / 2 + 1);
		assert_in_range(written, 1, 2 * bits + 6);
	}
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

static void frame_costs_at_most_64_bytes_and_its_mappings(void **state)
{
	struct mach *m;
	struct vm *vm = system_new(&m);
	uint64_t bytes = 0, fixed, maps = sizeof vm->vm_pages[0].p_hat;

	for (const struct boot_chunk *b = m->m_boot; b != NULL; b = b->b_next)
		bytes += b->b_bytes;
	/* what does not grow with the frames: the system itself, what CPUs have, locks, the table of tables of anons */
	fixed = sizeof(struct vm) + (vm->vm_cpumask + 1) * sizeof(struct vm_cpu) +
	    (vm->vm_lockmask + 1) * sizeof(struct page_lock) + vm->vm_anonchunks_max * sizeof(struct anon *) + 16384;
	assert_true(bytes < fixed + (64 + maps) * (uint64_t)FRAMES);
	assert_true(bytes > (sizeof(struct page)) * (uint64_t)FRAMES);
	vm_destroy(vm);
	sim_destroy(m);
}

static void untouched_gib_costs_at_most_4_kib(void **state)
{
	const struct segvn_args a = { .sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W,
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
		cmocka_unit_test(frame_costs_at_most_64_bytes_and_its_mappings),
		cmocka_unit_test(untouched_gib_costs_at_most_4_kib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
