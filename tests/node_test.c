/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory in nodes: a page lies beside the CPU that touches it first, spills when the node is full, and moves on request. */
#include "tests/segs.h"

#define FRAMES 512u
#define NODES 4u
#define CPUS 8u

static struct as *start(struct sys *s, enum sim_format f)
{
	struct sim_config cfg = { .frames = FRAMES, .ncpus = CPUS, .nodes = NODES, .format = f };
	struct as *as;

	sys_init_cfg(s, &cfg, 1024);
	assert_int_equal(as_alloc(s->vm, 0x10000, mach_caps(s->m)->mc_user_max, &as), VM_OK);
	assert_int_equal(map_anon(as, BASE, 400, 0), VM_OK);
	return as;
}

static void touch(struct sys *s, struct as *as, unsigned cpu, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++)
		assert_int_equal(sim_write(s->m, as, cpu, BASE + i * PG, &(uint64_t){ i + 7 }, 8, NULL), VM_OK);
}

static unsigned on_node(struct sys *s, struct as *as, unsigned first, unsigned n, unsigned node)
{
	unsigned k = 0;

	for (unsigned i = first; i < first + n; i++) {
		pfn_t pfn = hat_probe(as_hat(as), BASE + i * PG, NULL);

		k += pfn != PFN_INVALID && vm_node_of(s->vm, pfn) == node;
	}
	return k;
}

static void first_touch_decides(void **state)
{
	static const enum sim_format formats[] = { SIM_X86_64, SIM_SV39, SIM_SFMMU };

	(void)state;
	for (unsigned f = 0; f < 3; f++) {
		struct sys s;
		struct as *as = start(&s, formats[f]);
		uint64_t remote;

		assert_int_equal(vm_node_of(s.vm, 0), 0);
		assert_int_equal(vm_node_of(s.vm, FRAMES / NODES), 1);
		assert_int_equal(vm_node_of(s.vm, FRAMES - 1), NODES - 1);
		for (unsigned cpu = 0; cpu < CPUS; cpu += 2)
			touch(&s, as, cpu, cpu * 40, 30); /* apart: the next 16 are zeroed ahead by the same CPU */
		for (unsigned node = 1; node < NODES; node++)
			assert_int_equal(on_node(&s, as, node * 80, 30, node), 30);
		assert_true(on_node(&s, as, 0, 30, 0) >= 20); /* the system's own structures are there, too */
		/* a full node: the rest lies elsewhere, nothing is paged out for it */
		remote = vm_statistics(s.vm)->node_remote;
		touch(&s, as, 7, 290, 110);
		assert_in_range(on_node(&s, as, 290, 110, 3), 70, 100);
		assert_true(vm_statistics(s.vm)->node_remote > remote);
		assert_int_equal(vm_statistics(s.vm)->pgout, 0);
		expect(&s, as, BASE + 290 * PG, 110, 297);
		expect(&s, as, BASE + 240 * PG, 30, 247);
		assert_sound(&s);
		as_free(as);
		sys_fini(&s);
	}
}

static void pages_migrate_on_request(void **state)
{
	struct sys s;
	struct as *as = start(&s, SIM_X86_64), *child;
	uint64_t moved;

	(void)state;
	touch(&s, as, 2, 0, 40);
	assert_int_equal(on_node(&s, as, 0, 40, 1), 40);
	assert_int_equal(as_lock(as, BASE, 2 * PG), VM_OK);
	assert_int_equal(as_migrate(as, BASE, 40 * PG, 3, &moved), VM_OK);
	assert_int_equal(moved, 38); /* wired pages stay */
	assert_int_equal(on_node(&s, as, 2, 38, 3), 38);
	assert_int_equal(on_node(&s, as, 0, 2, 1), 2);
	expect(&s, as, BASE, 40, 7);
	assert_int_equal(as_migrate(as, BASE, 40 * PG, 3, &moved), VM_OK);
	assert_int_equal(moved, 0);
	/* shared with a fork, read-only now: it moves for both, and stays a copy for who writes */
	assert_int_equal(as_dup(as, &child), VM_OK);
	expect(&s, child, BASE, 40, 7);
	assert_int_equal(as_migrate(child, BASE + 10 * PG, 10 * PG, 2, &moved), VM_OK);
	assert_int_equal(moved, 10);
	assert_int_equal(on_node(&s, child, 10, 10, 2), 10);
	put(&s, child, BASE + 10 * PG, 1);
	expect(&s, as, BASE, 40, 7);
	assert_int_equal(on_node(&s, as, 11, 9, 2), 9);
	/* a node that has no room, or is not there */
	touch(&s, as, 6, 100, 300);
	assert_int_equal(as_migrate(as, BASE + 100 * PG, 300 * PG, 1, &moved), VM_NOMEM);
	assert_true(moved > 0);
	for (unsigned i = 100; i < 400; i++)
		assert_int_equal(get(&s, as, BASE + i * PG), i + 7);
	assert_int_equal(as_migrate(as, BASE, PG, NODES, &moved), VM_NOTSUP);
	assert_int_equal(as_migrate(as, 0, PG, 1, &moved), VM_NOMEM);
	assert_sound(&s);
	as_free(child);
	as_free(as);
	sys_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_touch_decides),
		cmocka_unit_test(pages_migrate_on_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
