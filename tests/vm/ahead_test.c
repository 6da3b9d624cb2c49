/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Prefetch and advice through the whole core, on the simulated machine with all features and with
 * those of Linux. Programs that walk through memory larger than the machine's read the bytes that
 * they wrote, and wait less with the prefetcher made for their pattern; the statistics add up.
 */
#include "machine/sim/sim.h"

#include <quire/as.h>
#include <quire/policy.h>
#include <quire/seg.h>
#include <quire/vm.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define FRAMES 256u
#define PAGES 1024u
#define BASE 0x10000000ull

struct box {
	struct mach *m;
	struct vm *vm;
	struct as *as;
	struct vnode *file; /* NULL: anonymous memory */
};

static void on_violation(void *arg, const char *text)
{
	(void)arg;
	fail_msg("%s", text);
}

static pfn_t frames_at_first = FRAMES; /* further frames are granted when they are needed */

static struct box box_open(
    bool linux_like, const char *policy, const char *prefetch, bool file, enum advice advice)
{
	struct sim_config sc = { .frames = FRAMES, .seed = 1 };
	struct vm_config vc = { .vc_frames = frames_at_first,
		.vc_policy = policy_find(policy),
		.vc_prefetch = prefetch_find(prefetch) };
	struct segvn_args sa = {
		.sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W, .sa_advice = advice
	};
	struct vnode *swap;
	struct box b = { 0 };

	assert_true(vc.vc_policy != NULL && vc.vc_prefetch != NULL);
	if (linux_like)
		sim_config_linux(&sc);
	b.m = vc.vc_mach = sim_create(&sc);
	assert_non_null(b.m);
	assert_int_equal(vm_create(&vc, &b.vm), VM_OK);
	swap = sim_disk_create(b.m, b.vm, "swap", vm_ptob(2 * PAGES), V_SWAP);
	assert_int_equal(swap_add(b.vm, swap, 2 * PAGES, 0), VM_OK);
	vnode_rele(swap);
	if (file) {
		b.file = sim_disk_create(b.m, b.vm, "file", vm_ptob(PAGES), 0);
		sa.sa_vnode = b.file;
		sa.sa_flags = SEGVN_SHARED;
	}
	assert_int_equal(as_alloc(b.vm, 65536, 1ull << 46, &b.as), VM_OK);
	assert_int_equal(as_map(b.as, BASE, vm_ptob(PAGES), segvn_create, &sa), VM_OK);
	return b;
}

static void box_close(struct box *b)
{
	assert_int_equal(vm_check(b->vm, on_violation, NULL), 0);
	as_free(b->as);
	if (b->file != NULL)
		vnode_rele(b->file);
	vm_destroy(b->vm);
	sim_destroy(b->m);
}

static void put(struct box *b, uint64_t page)
{
	uint64_t v = page * 0x9e3779b97f4a7c15u + 1;

	assert_int_equal(
	    sim_write(b->m, b->as, 0, BASE + vm_ptob(page) + page % 500 * 8, &v, sizeof v, NULL),
	    VM_OK);
}

static void get(struct box *b, uint64_t page)
{
	uint64_t v = 0;

	assert_int_equal(
	    sim_read(b->m, b->as, 0, BASE + vm_ptob(page) + page % 500 * 8, &v, sizeof v, NULL),
	    VM_OK);
	assert_int_equal(v, page * 0x9e3779b97f4a7c15u + 1);
}

/*
 * Writes every page, then visits pages by a stride. Returns the number of visits that waited for a
 * read.
 */
static uint64_t visit(
    bool linux_like, bool file, const char *prefetch, uint64_t stride, struct vm_stats *s)
{
	struct box b = box_open(linux_like, "clock2", prefetch, file, ADV_NORMAL);
	uint64_t before, hits, visits = 0;

	for (uint64_t i = 0; i < PAGES; i++)
		put(&b, i);
	before = vm_statistics(b.vm)->pgin;
	hits = vm_statistics(b.vm)->prefetch_hit;
	s->prefetch = vm_statistics(b.vm)->prefetch;
	for (uint64_t column = 0; column < stride; column++)
		for (uint64_t i = column; i < PAGES; i += stride, visits++)
			get(&b, i);
	assert_int_equal(visits, PAGES);
	s->pgin = vm_statistics(b.vm)->pgin - before;
	s->prefetch = vm_statistics(b.vm)->prefetch - s->prefetch;
	s->prefetch_hit = vm_statistics(b.vm)->prefetch_hit - hits;
	assert_true(vm_statistics(b.vm)->prefetch_hit + vm_statistics(b.vm)->prefetch_waste <=
	    vm_statistics(b.vm)->prefetch);
	box_close(&b);
	return s->pgin - s->prefetch;
}

static void strides(bool linux_like, bool file)
{
	struct vm_stats s, none_s;
	uint64_t none = visit(linux_like, file, "none", 9, &none_s);

	assert_int_equal(none_s.prefetch, 0);
	assert_in_range(none, PAGES / 2, PAGES);
	assert_in_range(visit(linux_like, file, "stride", 9, &s), 0, none / 2);
	assert_true(s.prefetch_hit * 10 > s.prefetch * 8);
	assert_in_range(visit(linux_like, file, "majority", 9, &s), 0, none / 2);
	assert_true(s.prefetch_hit * 10 > s.prefetch * 8);
	/* The window sees no sequence and reads nothing ahead. */
	assert_in_range(visit(linux_like, file, "window", 9, &s), none - none / 50, none);
	assert_in_range(s.prefetch, 0, none / 50);
}

static void sequential(bool linux_like, bool file)
{
	static const char *const names[] = { "window", "stride", "majority", "around" };
	struct vm_stats s;
	uint64_t none = visit(linux_like, file, "none", 1, &s);

	for (unsigned i = 0; i < 4; i++) {
		assert_in_range(visit(linux_like, file, names[i], 1, &s), 0, none / 4);
		assert_true(s.prefetch_hit * 10 > s.prefetch * 8);
	}
}

static void strides_of_anonymous_memory_are_read_ahead(void **state) { strides(false, false); }
static void strides_of_anonymous_memory_are_read_ahead_on_linux(void **state)
{
	strides(true, false);
}
static void strides_of_a_file_are_read_ahead(void **state) { strides(false, true); }
static void strides_of_a_file_are_read_ahead_on_linux(void **state) { strides(true, true); }
static void sequences_of_anonymous_memory_are_read_ahead(void **state) { sequential(false, false); }
static void sequences_of_anonymous_memory_are_read_ahead_on_linux(void **state)
{
	sequential(true, false);
}
static void sequences_of_a_file_are_read_ahead(void **state) { sequential(false, true); }

/*
 * Free-behind: a stream over a file beside a hot set that fills most of the memory. With sequential
 * advice, the stream's pages are evicted first and the hot set stays.
 */
static uint64_t hot_misses(bool linux_like, enum advice advice, uint64_t nhot)
{
	struct box b = box_open(linux_like, "clock2", "window", true, advice);
	struct segvn_args sa = { .sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W };
	const vaddr_t hot = BASE + 0x10000000;
	uint64_t misses = 0, v = 0;

	assert_int_equal(as_map(b.as, hot, vm_ptob(nhot), segvn_create, &sa), VM_OK);
	for (uint64_t i = 0; i < nhot; i++)
		assert_int_equal(
		    sim_write(b.m, b.as, 0, hot + vm_ptob(i), &i, sizeof i, NULL), VM_OK);
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t before = vm_statistics(b.vm)->swapin;

		assert_int_equal(
		    sim_read(b.m, b.as, 0, BASE + vm_ptob(i), &v, sizeof v, NULL), VM_OK);
		if (i % 2 == 0)
			continue;
		/* the hot pages are used in turn, each once in a while */
		assert_int_equal(
		    sim_read(b.m, b.as, 0, hot + vm_ptob(i / 2 * 7 % nhot), &v, sizeof v, NULL),
		    VM_OK);
		assert_int_equal(v, i / 2 * 7 % nhot);
		misses += vm_statistics(b.vm)->swapin != before;
	}
	box_close(&b);
	return misses;
}

static void what_a_stream_has_passed_goes_first(void **state)
{
	for (unsigned linux_like = 0; linux_like < 2; linux_like++) {
		uint64_t normal = 0, advised = 0;

		/*
		 * Over several sizes: with one size, a single frame of the system more or less
		 * doubles the difference.
		 */
		for (uint64_t nhot = FRAMES / 2 - 32; nhot <= FRAMES / 2; nhot += 8) {
			normal += hot_misses(linux_like != 0, ADV_NORMAL, nhot);
			advised += hot_misses(linux_like != 0, ADV_SEQUENTIAL, nhot);
		}
		assert_true(normal > 0);
		assert_true(advised * 3 < normal * 2);
	}
}

/*
 * Pages that are loaded again are refaults for policies with history; new pages are not, although
 * they have old names.
 */
static void refaults_are_counted(void **state)
{
	for (unsigned i = 0; policy_table[i] != NULL; i++) {
		bool remembers = policy_table[i]->pol_history;
		struct box b =
		    box_open(false, policy_table[i]->pol_name, "none", false, ADV_NORMAL);
		uint64_t before, rnd = 3;

		for (uint64_t k = 0; k < PAGES; k++)
			put(&b, k);
		assert_int_equal(vm_statistics(b.vm)->refault, 0);
		/* At random within a little more than fits: refaults at short distances. */
		for (unsigned n = 0; n < 6000; n++) {
			rnd = rnd * 6364136223846793005u + 1442695040888963407u;
			get(&b, (rnd >> 33) % (FRAMES + 40));
		}
		before = vm_statistics(b.vm)->refault;
		assert_int_equal(before > 0, remembers);
		assert_true(before <= vm_statistics(b.vm)->swapin);
		/* New memory gets the ids of old memory, but not its history. */
		assert_int_equal(as_unmap(b.as, BASE, vm_ptob(PAGES)), VM_OK);
		struct segvn_args sa = { .sa_prot = PROT_R | PROT_W,
			.sa_maxprot = PROT_R | PROT_W };
		assert_int_equal(as_map(b.as, BASE, vm_ptob(PAGES), segvn_create, &sa), VM_OK);
		for (uint64_t k = 0; k < PAGES; k++)
			put(&b, k);
		assert_int_equal(vm_statistics(b.vm)->refault, before);
		box_close(&b);
	}
}

/*
 * Memory first touched in order lies in order on disk: one read brings many pages, and few of them
 * fault.
 */
static void memory_touched_in_order_is_read_by_few_requests(void **state)
{
	for (unsigned linux_like = 0; linux_like < 2; linux_like++) {
		struct box b = box_open(linux_like != 0, "clock2", "streams", false, ADV_NORMAL);
		const struct vm_stats *s;
		uint64_t pages, requests, faults;

		for (uint64_t i = 0; i < PAGES; i++)
			put(&b, i);
		s = vm_statistics(b.vm);
		pages = s->pgin, requests = s->pgin_io, faults = s->fault;
		for (uint64_t i = 0; i < PAGES; i++)
			get(&b, i);
		s = vm_statistics(b.vm);
		assert_in_range(s->pgin - pages, PAGES - FRAMES, PAGES + FRAMES);
		assert_in_range(s->pgin_io - requests, 1, (s->pgin - pages) / 6);
		assert_in_range(s->fault - faults, 1, PAGES / 6);
		box_close(&b);
	}
}

/*
 * Scattered pages that are mapped already do not keep the pages behind them from being mapped by
 * the same fault.
 */
static void a_stream_passes_pages_that_are_there(void **state)
{
	const uint64_t n = FRAMES / 2;
	struct box b = box_open(false, "clock2", "streams", false, ADV_NORMAL);
	uint64_t pages, faults;

	for (uint64_t i = 0; i < PAGES; i++)
		put(&b, i);
	pages = vm_statistics(b.vm)->pgin;
	for (uint64_t i = n - 1; i < n; i -= 5)
		get(&b, i);
	assert_in_range(vm_statistics(b.vm)->pgin - pages, n / 5, n / 5 + 1);
	faults = vm_statistics(b.vm)->fault;
	for (uint64_t i = 0; i < n; i++)
		get(&b, i);
	assert_in_range(vm_statistics(b.vm)->fault - faults, 1, n / 6);
	assert_int_equal(vm_statistics(b.vm)->pgin - pages, n);
	box_close(&b);
}

/*
 * Page-out took the translations of pages to see whether they are used. A program that goes through them in order takes few faults to
 * get them back: each was a fault.
 */
static void a_stream_passes_pages_that_were_asked_about(void **state)
{
	const uint64_t n = FRAMES / 4;
	struct box b = box_open(true, "generations", "streams", false, ADV_NORMAL);
	uint64_t faults, read;

	for (uint64_t i = 0; i < n; i++)
		put(&b, i);
	for (unsigned down = 0; down < 2; down++) {
		assert_int_equal(as_advise(b.as, BASE, vm_ptob(n), ADV_COLD), VM_OK);
		faults = vm_statistics(b.vm)->fault;
		read = vm_statistics(b.vm)->pgin;
		for (uint64_t i = 0; i < n; i++)
			get(&b, down != 0 ? n - 1 - i : i);
		assert_in_range(vm_statistics(b.vm)->fault - faults, 2, n / 6);
		assert_int_equal(vm_statistics(b.vm)->pgin, read);
	}
	box_close(&b);
}

/*
 * Memory that is touched in order, upwards or downwards, comes by few faults as long as there is
 * more. On a machine that grants frames on demand, few frames were once free at any time, and each
 * page was a fault.
 */
static void first_touches_in_order_are_few_faults(void **state)
{
	for (unsigned granted = 0; granted < 2; granted++) {
		const uint64_t n = FRAMES / 4;
		struct box b;
		uint64_t faults;

		frames_at_first = granted ? 32 : FRAMES;
		b = box_open(true, "clock2", "streams", false, ADV_NORMAL);
		frames_at_first = FRAMES;
		for (uint64_t i = 0; i < n; i++)
			put(&b, i);
		faults = vm_statistics(b.vm)->fault;
		assert_in_range(faults, 1, n / 8);
		for (uint64_t i = 2 * n; i-- > n;)
			put(&b, i);
		assert_in_range(vm_statistics(b.vm)->fault - faults, 1, n / 8);
		for (uint64_t i = 0; i < 2 * n; i++)
			get(&b, i);
		assert_in_range(vm_statistics(b.vm)->zfod, 2 * n, 2 * n + 32);
		box_close(&b);
	}
}

/*
 * A forked child that reads its memory does not fault at every page, and its writes stay private.
 */
static void a_child_reads_its_memory_by_few_faults(void **state)
{
	const uint64_t n = FRAMES / 3;
	struct box b = box_open(false, "clock2", "streams", false, ADV_NORMAL);
	struct as *parent = b.as;
	uint64_t faults, v = 1;

	for (uint64_t i = 0; i < n; i++)
		put(&b, i);
	assert_int_equal(as_dup(parent, &b.as), VM_OK);
	faults = vm_statistics(b.vm)->fault;
	for (uint64_t i = 0; i < n; i++)
		get(&b, i);
	assert_in_range(vm_statistics(b.vm)->fault - faults, 1, n / 8 + 8);
	assert_in_range(vm_statistics(b.vm)->map_around, n / 2, n);
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(
		    sim_write(b.m, b.as, 0, BASE + vm_ptob(i) + i % 500 * 8, &v, sizeof v, NULL),
		    VM_OK);
	assert_int_equal(vm_statistics(b.vm)->cow, n);
	as_free(b.as);
	b.as = parent;
	for (uint64_t i = 0; i < n; i++)
		get(&b, i);
	box_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_touches_in_order_are_few_faults),
		cmocka_unit_test(strides_of_anonymous_memory_are_read_ahead),
		cmocka_unit_test(strides_of_anonymous_memory_are_read_ahead_on_linux),
		cmocka_unit_test(strides_of_a_file_are_read_ahead),
		cmocka_unit_test(strides_of_a_file_are_read_ahead_on_linux),
		cmocka_unit_test(sequences_of_anonymous_memory_are_read_ahead),
		cmocka_unit_test(sequences_of_anonymous_memory_are_read_ahead_on_linux),
		cmocka_unit_test(sequences_of_a_file_are_read_ahead),
		cmocka_unit_test(what_a_stream_has_passed_goes_first),
		cmocka_unit_test(refaults_are_counted),
		cmocka_unit_test(memory_touched_in_order_is_read_by_few_requests),
		cmocka_unit_test(a_child_reads_its_memory_by_few_faults),
		cmocka_unit_test(a_stream_passes_pages_that_are_there),
		cmocka_unit_test(a_stream_passes_pages_that_were_asked_about),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
