/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preferred page sizes: for a range, for the heap and the stack; obeyed only when memory is
 * plentiful.
 */
#include "tests/vm/segs.h"

static const enum sim_format formats[] = { SIM_X86_64, SIM_LA57, SIM_I386, SIM_PAE, SIM_SV39,
	SIM_SV48, SIM_SFMMU };
#define NFORMATS (sizeof(formats) / sizeof(formats[0]))

struct machine {
	struct sys s;
	struct as *as;
	unsigned size;         /* index of the page size: 2 or 4 MiB */
	uint64_t bytes, pages; /* of a block */
};

static void start(struct machine *t, enum sim_format f, pfn_t frames)
{
	struct sim_config cfg = { .frames = frames, .ncpus = 2, .format = f };

	sys_init_cfg(&t->s, &cfg, 32768);
	assert_int_equal(as_alloc(t->s.vm, 0x10000, mach_caps(t->s.m)->mc_user_max, &t->as), VM_OK);
	t->size = f == SIM_SFMMU ? 3 : 1;
	t->bytes = 1ull << mach_caps(t->s.m)->mc_pageshift[t->size];
	t->pages = vm_btop(t->bytes);
}

static void stop(struct machine *t)
{
	as_free(t->as);
	sys_fini(&t->s);
}

static uint64_t mapsize(struct as *as, vaddr_t va)
{
	unsigned shift = hat_mapsize(as_hat(as), va);

	return shift == 0 ? 0 : 1ull << shift;
}

static void first_write_fills_a_block(void **state)
{
	(void)state;
	for (unsigned f = 0; f < NFORMATS; f++) {
		struct machine t;
		struct as *child;

		start(&t, formats[f], 12288);
		/* whole blocks, and half a block at each end */
		assert_int_equal(map_anon(t.as, BASE - t.bytes / 2, 13 * t.pages, 0), VM_OK);
		assert_int_equal(
		    as_setpagesize(t.as, BASE - t.bytes / 2, 13 * t.bytes, t.size), VM_OK);
		assert_int_equal(as_pagesize(t.as, BASE), t.size);
		assert_int_equal(get(&t.s, t.as, BASE + PG), 0); /* a read takes no memory */
		assert_int_equal(mapsize(t.as, BASE + PG), PG);
		put(&t.s, t.as, BASE + t.bytes + t.bytes / 2 + 8, 77);
		assert_int_equal(mapsize(t.as, BASE + t.bytes), t.bytes);
		assert_int_equal(vm_statistics(t.s.vm)->promote, 1);
		assert_true(rss(t.as) >= t.pages && rss(t.as) < t.pages + 20);
		put(&t.s, t.as, BASE + 2 * PG, 78); /* also where the zeroes were read */
		assert_int_equal(mapsize(t.as, BASE), t.bytes);
		assert_int_equal(get(&t.s, t.as, BASE + t.bytes + t.bytes / 2 + 8), 77);
		assert_int_equal(get(&t.s, t.as, BASE + 2 * PG), 78);
		expect_zero(&t.s, t.as, BASE + t.bytes, t.pages / 2);
		put(&t.s, t.as, BASE - PG, 1); /* not a whole block of the segment */
		put(&t.s, t.as, BASE + 12 * t.bytes, 1);
		assert_int_equal(mapsize(t.as, BASE - PG), PG);
		assert_int_equal(mapsize(t.as, BASE + 12 * t.bytes), PG);
		/* a fork has the same preference, and copies shared pages one by one */
		assert_int_equal(as_dup(t.as, &child), VM_OK);
		put(&t.s, child, BASE + 8 * t.bytes, 5);
		assert_int_equal(mapsize(child, BASE + 8 * t.bytes), t.bytes);
		put(&t.s, child, BASE + t.bytes, 6);
		assert_int_equal(mapsize(child, BASE + t.bytes), PG);
		assert_int_equal(get(&t.s, t.as, BASE + t.bytes), 0);
		as_free(child);
		stop(&t);
	}
}

static void a_size_belongs_to_its_range(void **state)
{
	struct segvn_args a = { .sa_prot = RW, .sa_maxprot = RW, .sa_pagesize = 1 };
	struct machine t;

	(void)state;
	start(&t, SIM_X86_64, 8192);
	assert_int_equal(map_anon(t.as, BASE, 4 * t.pages, 0), VM_OK);
	assert_int_equal(as_setpagesize(t.as, BASE + t.bytes, t.bytes, t.size), VM_OK);
	assert_int_equal(nsegs(t.as), 3);
	put(&t.s, t.as, BASE, 1);
	put(&t.s, t.as, BASE + t.bytes, 2);
	assert_int_equal(mapsize(t.as, BASE), PG);
	assert_int_equal(mapsize(t.as, BASE + t.bytes), t.bytes);
	/* preference removed: one segment again, and existing pages stay */
	assert_int_equal(as_setpagesize(t.as, BASE, 4 * t.bytes, 0), VM_OK);
	assert_int_equal(nsegs(t.as), 1);
	assert_int_equal(mapsize(t.as, BASE + t.bytes), t.bytes);
	assert_int_equal(as_pagesize(t.as, BASE + t.bytes), 0);
	put(&t.s, t.as, BASE + 2 * t.bytes, 3);
	assert_int_equal(mapsize(t.as, BASE + 2 * t.bytes), PG);
	/* at creation; merged only with segments of the same preference */
	assert_int_equal(as_map(t.as, BASE + 4 * t.bytes, t.bytes, segvn_create, &a), VM_OK);
	assert_int_equal(nsegs(t.as), 2);
	assert_int_equal(as_pagesize(t.as, BASE + 4 * t.bytes), t.size);
	/* a size that does not exist */
	a.sa_pagesize = 9;
	assert_int_equal(as_map(t.as, BASE + 5 * t.bytes, t.bytes, segvn_create, &a), VM_NOTSUP);
	assert_int_equal(as_setpagesize(t.as, BASE, t.bytes, 9), VM_NOTSUP);
	assert_int_equal(as_setpagesize(t.as, BASE, 9 * t.bytes, t.size), VM_NOMAP);
	assert_int_equal(as_setpagesize(t.as, 0, t.bytes, t.size), VM_NOMEM);
	assert_int_equal(as_pagesize(t.as, BASE + 7 * t.bytes), 0);
	assert_int_equal(nsegs(t.as), 2);
	stop(&t);
}

static void heap_and_stack_have_defaults(void **state)
{
	(void)state;
	for (unsigned f = 0; f < NFORMATS; f++) {
		const vaddr_t top = BASE + ((vaddr_t)1 << 28);
		struct machine t;
		struct as *child;
		vaddr_t now;

		start(&t, formats[f], 12288);
		assert_int_equal(as_brk_init(t.as, BASE, 64 * t.bytes), VM_OK);
		assert_int_equal(as_brk(t.as, BASE + t.bytes, &now), VM_OK);
		put(&t.s, t.as, BASE, 1);
		assert_int_equal(mapsize(t.as, BASE), PG);
		assert_int_equal(as_pagesize_defaults(t.as, t.size, t.size), VM_OK);
		assert_int_equal(as_pagesize(t.as, BASE), t.size); /* pages mapped already, too */
		assert_int_equal(as_brk(t.as, BASE + 3 * t.bytes - 100, &now), VM_OK);
		assert_int_equal(nsegs(t.as), 1);
		fill(&t.s, t.as, BASE, 3 * t.pages, 7);
		assert_int_equal(mapsize(t.as, BASE), t.bytes); /* the block had few pages */
		assert_int_equal(mapsize(t.as, BASE + t.bytes), t.bytes);
		assert_int_equal(mapsize(t.as, BASE + 2 * t.bytes), t.bytes);
		expect(&t.s, t.as, BASE, 3 * t.pages, 7);
		/* the stack grows by blocks, until the last one would not fit: then by pages */
		assert_int_equal(
		    as_stack_init(t.as, top, 4 * PG, 2 * t.bytes + t.bytes / 2, PG, RW), VM_OK);
		put(&t.s, t.as, top - 8, 1);
		assert_int_equal(mapsize(t.as, top - 8), PG);
		put(&t.s, t.as, top - t.bytes - 8, 2);
		assert_int_equal(mapsize(t.as, top - t.bytes - 8), t.bytes);
		put(&t.s, t.as, top - 2 * t.bytes - 8, 3);
		assert_int_equal(mapsize(t.as, top - 2 * t.bytes - 8), PG);
		assert_int_equal(try_put(&t.s, t.as, top - 3 * t.bytes, 4), VM_NOMAP);
		/* a fork's heap goes on so */
		assert_int_equal(as_dup(t.as, &child), VM_OK);
		assert_int_equal(as_brk(child, BASE + 5 * t.bytes, &now), VM_OK);
		put(&t.s, child, BASE + 4 * t.bytes + PG, 4);
		assert_int_equal(mapsize(child, BASE + 4 * t.bytes), t.bytes);
		assert_int_equal(get(&t.s, child, BASE + 2 * t.bytes), 7 + 2 * t.pages);
		as_free(child);
		assert_int_equal(as_pagesize_defaults(t.as, 9, 0), VM_NOTSUP);
		assert_int_equal(as_pagesize_defaults(t.as, 0, 9), VM_NOTSUP);
		assert_int_equal(as_pagesize_defaults(t.as, 0, 0), VM_OK);
		assert_int_equal(as_brk(t.as, BASE + 6 * t.bytes, &now), VM_OK);
		put(&t.s, t.as, BASE + 5 * t.bytes, 4);
		assert_int_equal(mapsize(t.as, BASE + 5 * t.bytes), PG);
		stop(&t);
	}
}

static void nobody_pays_for_a_large_page(void **state)
{
	struct machine t;
	uint64_t n;

	(void)state;
	start(&t, SIM_X86_64, 2048);
	n = 8 * t.pages; /* twice the memory */
	assert_int_equal(map_anon(t.as, BASE, n, 0), VM_OK);
	assert_int_equal(as_setpagesize(t.as, BASE, n * PG, t.size), VM_OK);
	for (uint64_t i = 0; i < 8; i++)
		put(&t.s, t.as, BASE + i * t.bytes,
		    i + 1); /* one word a block: the first blocks, then pages */
	assert_true(vm_statistics(t.s.vm)->promote >= 1);
	assert_true(vm_statistics(t.s.vm)->promote < 4);
	assert_int_equal(vm_statistics(t.s.vm)->pgout, 0);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(get(&t.s, t.as, BASE + i * t.bytes), i + 1);
	assert_sound(&t.s);
	fill(&t.s, t.as, BASE, n, 3);
	assert_true(vm_statistics(t.s.vm)->pgout > 0);
	expect(&t.s, t.as, BASE, n, 3);
	stop(&t);
	/* without memory for tables, and with pages in between, memory is filled page by page */
	start(&t, SIM_X86_64, 8192);
	assert_int_equal(map_anon(t.as, BASE, 2 * t.pages, 0), VM_OK);
	assert_int_equal(as_setpagesize(t.as, BASE, 2 * t.bytes, t.size), VM_OK);
	for (uint64_t nth = 1; nth < 60; nth++) {
		enum vm_err e;

		vm_inject(t.s.vm, VM_INJECT_PAGE, nth);
		e = try_put(&t.s, t.as, BASE + PG, nth);
		vm_inject(t.s.vm, VM_INJECT_PAGE, 0);
		assert_true(e == VM_OK || e == VM_NOMEM);
		assert_int_equal(get(&t.s, t.as, BASE + PG), e == VM_OK ? nth : 0);
		assert_int_equal(as_advise(t.as, BASE, 2 * t.bytes, ADV_DONTNEED), VM_OK);
		assert_sound(&t.s);
	}
	fill(&t.s, t.as, BASE, 2 * t.pages, 9);
	expect(&t.s, t.as, BASE, 2 * t.pages, 9);
	stop(&t);
}

/*
 * n pages of a block have each other's frames in a cycle: each gets its right frame, with the help
 * of one spare frame.
 */
static void promote_with_swapped_frames(void **state)
{
	(void)state;
	for (unsigned n = 2; n < 5; n++) {
		struct machine t;
		pfn_t base, spare;
		uint64_t done, moved;
		struct hat *hat;

		start(&t, SIM_X86_64, 2048);
		hat = as_hat(t.as);
		assert_int_equal(map_anon(t.as, BASE, t.pages, 0), VM_OK);
		fill(&t.s, t.as, BASE, t.pages, 1);
		assert_int_equal(as_promote(t.as, BASE, t.bytes, t.size, &done), VM_OK);
		assert_int_equal(done, t.bytes);
		base = hat_probe(hat, BASE, NULL);
		/* moves page 10 away, then each next page to the frame of the page before */
		spare = buddy_alloc(t.s.vm, 0, false);
		assert_true(as_page_move(t.as, BASE + 10 * PG, spare, RW));
		for (unsigned i = 1; i < n; i++) {
			assert_true(page_take_frame(t.s.vm, base + 10 * i));
			assert_true(
			    as_page_move(t.as, BASE + 10 * (i + 1) * PG, base + 10 * i, RW));
		}
		assert_true(page_take_frame(t.s.vm, base + 10 * n));
		assert_true(as_page_move(t.as, BASE + 10 * PG, base + 10 * n, RW));
		expect(&t.s, t.as, BASE, t.pages, 1);
		assert_int_equal(mapsize(t.as, BASE), PG);
		moved = vm_statistics(t.s.vm)->relocate;
		assert_int_equal(as_promote(t.as, BASE, t.bytes, t.size, &done), VM_OK);
		assert_int_equal(done, t.bytes);
		assert_int_equal(hat_probe(hat, BASE, NULL), base);
		assert_in_range(vm_statistics(t.s.vm)->relocate - moved, n + 1, 2 * n);
		expect(&t.s, t.as, BASE, t.pages, 1);
		stop(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_write_fills_a_block),
		cmocka_unit_test(a_size_belongs_to_its_range),
		cmocka_unit_test(heap_and_stack_have_defaults),
		cmocka_unit_test(nobody_pays_for_a_large_page),
		cmocka_unit_test(promote_with_swapped_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
