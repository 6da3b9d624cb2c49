/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory in nodes: a page lies on the node of the CPU that touches it first, or on all nodes in
 * turn; on another node when the node is full; and moves to the node of the CPU that touches it
 * next, or on request.
 */
#include "tests/vm/segs.h"
#include "vm/impl.h"

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
		assert_int_equal(
		    sim_write(s->m, as, cpu, BASE + i * PG, &(uint64_t){ i + 7 }, 8, NULL), VM_OK);
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
			touch(&s, as, cpu, cpu * 40,
			    30); /* apart: the next 16 and more are zeroed ahead by the same CPU */
		for (unsigned node = 1; node < NODES; node++)
			assert_int_equal(on_node(&s, as, node * 80, 30, node), 30);
		assert_true(on_node(&s, as, 0, 30, 0) >=
		    20); /* the node also has the system's own structures */
		/* a full node: further pages lie on other nodes, and no page is evicted for them */
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
	/*
	 * shared with a fork, read-only now: the page moves for both, and a write still copies it
	 */
	assert_int_equal(as_dup(as, &child), VM_OK);
	expect(&s, child, BASE, 40, 7);
	assert_int_equal(as_migrate(child, BASE + 10 * PG, 10 * PG, 2, &moved), VM_OK);
	assert_int_equal(moved, 10);
	assert_int_equal(on_node(&s, child, 10, 10, 2), 10);
	put(&s, child, BASE + 10 * PG, 1);
	expect(&s, as, BASE, 40, 7);
	assert_int_equal(on_node(&s, as, 11, 9, 2), 9);
	/* a node without room, or a node that does not exist */
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

static void pages_are_spread(void **state)
{
	struct sys s;
	struct as *as = start(&s, SIM_X86_64), *child;

	(void)state;
	assert_int_equal(as_place(as, BASE, 200 * PG, PLACE_SPREAD), VM_OK);
	assert_int_equal(nsegs(as), 2);
	touch(&s, as, 0, 0, 100); /* in order: most are made ahead */
	touch(&s, as, 7, 140, 1);
	touch(&s, as, 7, 160, 1);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(on_node(&s, as, i, 1, i % NODES), 1);
	assert_int_equal(on_node(&s, as, 140, 1, 140 % NODES), 1);
	assert_int_equal(on_node(&s, as, 160, 1, 160 % NODES), 1);
	touch(&s, as, 7, 200, 20); /* beyond the range: the default placing */
	assert_int_equal(on_node(&s, as, 200, 20, 3), 20);
	/* copies of a fork are spread, too */
	assert_int_equal(as_dup(as, &child), VM_OK);
	touch(&s, child, 2, 0, 40);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(on_node(&s, child, i, 1, i % NODES), 1);
	as_free(child);
	expect(&s, as, BASE, 100, 7);
	/* no more from now on; one segment again */
	assert_int_equal(as_place(as, BASE, 200 * PG, PLACE_NEAR), VM_OK);
	assert_int_equal(nsegs(as), 1);
	touch(&s, as, 2, 300, 30); /* where nothing was made ahead before */
	assert_int_equal(on_node(&s, as, 300, 30, 1), 30);
	assert_int_equal(as_place(as, BASE, 401 * PG, PLACE_SPREAD), VM_NOMAP);
	assert_int_equal(as_place(as, 0, PG, PLACE_SPREAD), VM_NOMEM);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

/* Everything to swap, and out of memory. */
static void page_out(struct sys *s, struct as *as)
{
	assert_int_equal(as_advise(as, BASE, 400 * PG, ADV_PAGEOUT), VM_OK);
	(void)page_cache_drain(s->vm, FRAMES);
	assert_int_equal(rss(as), 0);
}

static void expect_spread(struct sys *s, struct as *as, unsigned first, unsigned n)
{
	for (unsigned i = first; i < first + n; i++)
		assert_int_equal(on_node(s, as, i, 1, i % NODES), 1);
}

/* Pages read from swap once lay on the node of the reading CPU, whatever placing the range had. */
static void pages_read_back_are_spread(void **state)
{
	struct sys s;
	struct as *as = start(&s, SIM_X86_64), *child;
	uint64_t in;

	(void)state;
	assert_int_equal(as_place(as, BASE, 400 * PG, PLACE_SPREAD), VM_OK);
	touch(&s, as, 0, 0, 100);
	page_out(&s, as);
	in = vm_statistics(s.vm)->swapin;
	expect(&s, as, BASE, 100, 7); /* by CPU 0, in order: with neighbours, and ahead */
	assert_in_range(vm_statistics(s.vm)->swapin - in, 100, 116); /* pages were made ahead */
	assert_true(vm_statistics(s.vm)->prefetch > 0);
	expect_spread(&s, as, 0, 100);
	page_out(&s, as);
	assert_int_equal(as_advise(as, BASE, 400 * PG, ADV_RANDOM), VM_OK);
	for (unsigned i = 0; i < 100; i++) /* one by one, in scattered order */
		touch(&s, as, 7, i * 37 % 100, 1);
	expect_spread(&s, as, 0, 100);
	page_out(&s, as);
	assert_int_equal(as_advise(as, BASE, 100 * PG, ADV_WILLNEED), VM_OK);
	in = vm_statistics(s.vm)->swapin;
	expect(&s, as, BASE, 100, 7);
	assert_int_equal(vm_statistics(s.vm)->swapin, in);
	expect_spread(&s, as, 0, 100);
	/* pages that a fork copies at once because they are locked, too */
	assert_int_equal(as_lock(as, BASE, 20 * PG), VM_OK);
	assert_int_equal(as_dup(as, &child), VM_OK);
	expect(&s, child, BASE, 20, 7);
	expect_spread(&s, child, 0, 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_not_equal(hat_probe(as_hat(as), BASE + i * PG, NULL),
		    hat_probe(as_hat(child), BASE + i * PG, NULL));
	as_free(child);
	assert_sound(&s);
	as_free(as);
	sys_fini(&s);
}

static void pages_follow_who_touches_them(void **state)
{
	static const enum sim_format formats[] = { SIM_X86_64, SIM_SV39, SIM_SFMMU };

	(void)state;
	for (unsigned f = 0; f < 3; f++) {
		struct sys s;
		struct as *as = start(&s, formats[f]), *child;

		touch(&s, as, 2, 0, 40);
		assert_int_equal(on_node(&s, as, 0, 40, 1), 40);
		assert_int_equal(as_lock(as, BASE, 2 * PG), VM_OK);
		assert_int_equal(as_place(as, BASE, 400 * PG, PLACE_FOLLOW), VM_OK);
		touch(&s, as, 7, 0, 20); /* half of them from another node, half from their own */
		touch(&s, as, 2, 20, 20);
		assert_int_equal(on_node(&s, as, 0, 2, 1), 2); /* wired pages stay */
		assert_int_equal(on_node(&s, as, 2, 18, 3), 18);
		assert_int_equal(on_node(&s, as, 20, 20, 1), 20);
		assert_int_equal(vm_statistics(s.vm)->node_followed, 18);
		/* no further faults: pages do not move back and forth */
		for (unsigned cpu = 0; cpu < CPUS; cpu++)
			touch(&s, as, cpu, 0, 40);
		assert_int_equal(vm_statistics(s.vm)->node_followed, 18);
		assert_int_equal(as_place(as, BASE, 400 * PG, PLACE_FOLLOW), VM_OK);
		touch(&s, as, 4, 0, 40);
		assert_int_equal(on_node(&s, as, 2, 38, 2), 38);
		expect(&s, as, BASE, 40, 7);
		/* pages shared with a fork stay on their node, whichever CPU reads them */
		assert_int_equal(as_unlock(as, BASE, 2 * PG), VM_OK);
		assert_int_equal(as_dup(as, &child), VM_OK);
		expect(&s, as, BASE, 40, 7);
		for (unsigned i = 0; i < 40; i++)
			assert_int_equal(
			    sim_read(s.m, child, 7, BASE + i * PG, &(uint64_t){ 0 }, 8, NULL),
			    VM_OK);
		assert_int_equal(on_node(&s, child, 2, 38, 2), 38);
		as_free(child);
		/* no page moves to a full node */
		touch(&s, as, 6, 100, 200);
		assert_int_equal(as_place(as, BASE, 400 * PG, PLACE_FOLLOW), VM_OK);
		touch(&s, as, 0, 100, 200);
		assert_in_range(on_node(&s, as, 100, 200, 0), 50, 128);
		expect(&s, as, BASE + 100 * PG, 200, 107);
		assert_int_equal(vm_statistics(s.vm)->pgout, 0);
		assert_sound(&s);
		as_free(as);
		sys_fini(&s);
	}
}

static void memory_that_is_all_alike(void **state)
{
	struct as *as;
	struct sys s;

	(void)state;
	sys_init(&s, 256, 0);
	as = new_as(&s);
	assert_int_equal(map_anon(as, BASE, 4, 0), VM_OK);
	assert_int_equal(as_place(as, BASE, 4 * PG, PLACE_SPREAD), VM_NOTSUP);
	as_free(as);
	sys_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_touch_decides),
		cmocka_unit_test(pages_migrate_on_request),
		cmocka_unit_test(pages_are_spread),
		cmocka_unit_test(pages_read_back_are_spread),
		cmocka_unit_test(pages_follow_who_touches_them),
		cmocka_unit_test(memory_that_is_all_alike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
