/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes that end within a page, and power that fails. The promises. A torn write that the disk
 * reports loses nothing: its pages stay dirty in memory and are written again as a whole, elsewhere
 * (swap) or at the same place (files); the next sync reports a file's error. A torn write that the
 * disk reports as done is detected at the read, if the area has sums (vnode_summed), and gives
 * SIGBUS (VM_IO) for that page alone; never wrong bytes.
 */
#include "tests/vm/segs.h"

#define SECTORS (VM_PAGESIZE / SIM_SECTOR)

static void put_all(struct sys *s, struct as *as, unsigned pages, uint64_t generation)
{
	static uint64_t words[VM_PAGESIZE / 8];

	for (unsigned i = 0; i < pages; i++) {
		for (unsigned k = 0; k < VM_PAGESIZE / 8; k++)
			words[k] = generation * 1000003 + i * 512 + k + 1;
		assert_int_equal(
		    sim_write(s->m, as, 0, BASE + i * PG, words, VM_PAGESIZE, NULL), VM_OK);
	}
}

/* VM_OK with every byte right, or the error; wrong bytes fail the test. */
static enum vm_err look(struct sys *s, struct as *as, unsigned i, uint64_t generation)
{
	static uint64_t words[VM_PAGESIZE / 8];
	enum vm_err e = sim_read(s->m, as, 0, BASE + i * PG, words, VM_PAGESIZE, NULL);

	for (unsigned k = 0; e == VM_OK && k < VM_PAGESIZE / 8; k++)
		assert_int_equal(words[k], generation * 1000003 + i * 512 + k + 1);
	return e;
}

/* Swaps the space out; no page stays in the cache list either. */
static uint64_t swap_out(struct sys *s, struct as *as)
{
	struct page *pp, *taken[128];
	uint64_t n = as_swapout(as);
	unsigned k = 0;

	while (k < 128 && (pp = page_kalloc(s->vm, 0, PG_RESERVE)) != NULL)
		taken[k++] = pp;
	while (k > 0)
		page_kfree(s->vm, taken[--k], 0);
	return n;
}

static void map(struct sys *s, struct as *as, struct vnode *file, unsigned pages)
{
	struct segvn_args a = { .sa_vnode = file,
		.sa_prot = RW,
		.sa_maxprot = RW,
		.sa_flags = file != NULL ? SEGVN_SHARED : 0 };

	(void)s;
	assert_int_equal(as_map(as, BASE, pages * PG, segvn_create, &a), VM_OK);
}

static struct as *space(struct sys *s)
{
	struct as *as;

	assert_int_equal(as_alloc(s->vm, 0x10000, mach_caps(s->m)->mc_user_max, &as), VM_OK);
	return as;
}

/* Every page and sector at which a swap cluster can be torn. */
static void swap_loses_nothing_by_a_torn_write(void **state)
{
	(void)state;
	for (unsigned at = 0; at < 8 * SECTORS; at += 3) {
		struct sys s;
		struct as *as;

		sys_init(&s, 128, 64);
		as = space(&s);
		map(&s, as, NULL, 16);
		put_all(&s, as, 16, 1);
		assert_int_equal(swap_out(&s, as), 16);
		put_all(&s, as, 16, 2); /* old and new differ */
		sim_disk_tear(s.swap, 1, at / SECTORS, at % SECTORS, true);
		assert_int_equal(swap_out(&s, as), at / SECTORS);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(look(&s, as, i, 2), VM_OK);
		put_all(&s, as, 16, 3);
		assert_int_equal(swap_out(&s, as), 16);
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(look(&s, as, i, 3), VM_OK);
		as_free(as);
		sys_fini(&s);
	}
}

static void a_file_is_whole_after_the_next_sync(void **state)
{
	(void)state;
	for (unsigned at = 0; at < 4 * SECTORS; at++) {
		struct vnode *file;
		struct sys s;
		struct as *as;
		const uint64_t *disk;

		sys_init(&s, 128, 16);
		file = sim_disk_create(s.m, s.vm, "file", 4 * PG, 0);
		as = space(&s);
		map(&s, as, file, 4);
		put_all(&s, as, 4, 1);
		assert_int_equal(as_sync(as, BASE, 4 * PG, 0), VM_OK);
		put_all(&s, as, 4, 2);
		sim_disk_tear(file, 1, at / SECTORS, at % SECTORS, true);
		assert_int_equal(as_sync(as, BASE, 4 * PG, 0), VM_IO);
		/* the disk has a mixed page, which is never returned */
		disk = sim_disk_data(file);
		if (at % SECTORS != 0) {
			assert_int_equal(
			    disk[at / SECTORS * 512], 2 * 1000003 + at / SECTORS * 512 + 1);
			assert_int_equal(
			    disk[at / SECTORS * 512 + 511], 1 * 1000003 + at / SECTORS * 512 + 512);
		}
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(look(&s, as, i, 2), VM_OK);
		assert_int_equal(as_sync(as, BASE, 4 * PG, 0), VM_OK);
		for (unsigned k = 0; k < 4 * 512; k++)
			assert_int_equal(disk[k], 2 * 1000003 + k + 1);
		as_free(as);
		vnode_rele(file);
		sys_fini(&s);
	}
}

/* A system whose swap area keeps sums; the disk under it is *disk. */
static void summed_init(struct sys *s, struct vnode **disk, uint64_t latency)
{
	struct sim_config cfg = { .frames = 128, .ncpus = 2, .seed = 3, .disk_latency = latency };

	sys_init_cfg(s, &cfg, 0);
	*disk = sim_disk_create(s->m, s->vm, "disk", 64 * PG, V_SWAP);
	assert_int_equal(vnode_summed(s->vm, *disk, 64, &s->swap), VM_OK);
	assert_int_equal(swap_add(s->vm, s->swap, 64, 0), VM_OK);
}

static void summed_fini(struct sys *s, struct vnode *disk)
{
	sys_fini(s);
	(void)disk;
}

static void a_torn_write_nobody_owned_up_to_is_found(void **state)
{
	(void)state;
	for (unsigned at = 0; at < 16 * SECTORS; at += 5) {
		unsigned torn = at / SECTORS, lost = 0;
		struct vnode *disk;
		struct sys s;
		struct as *as;

		summed_init(&s, &disk, 0);
		as = space(&s);
		map(&s, as, NULL, 16);
		put_all(&s, as, 16, 1);
		assert_int_equal(swap_out(&s, as), 16);
		put_all(&s, as, 16, 2);
		sim_disk_tear(disk, 1, torn, at % SECTORS, false);
		assert_int_equal(swap_out(&s, as), 16);
		for (unsigned i = 0; i < 16; i++)
			lost += look(&s, as, i, 2) == VM_IO;
		/* each page from the tear on, and no other page */
		assert_int_equal(lost, 16 - torn);
		assert_true(vnode_summed_wrong(s.swap) > 0);
		assert_int_equal(as_advise(as, BASE, 16 * PG, ADV_DONTNEED), VM_OK);
		put_all(&s, as, 16, 3); /* new contents do not need the old */
		assert_int_equal(look(&s, as, 15, 3), VM_OK);
		as_free(as);
		vnode_rele(disk);
		summed_fini(&s, disk);
	}
}

/* A sector rots on the disk, or two pages change places there. */
static void what_rots_on_the_disk_is_found(void **state)
{
	struct vnode *disk;
	struct sys s;
	struct as *as;
	uint8_t *d, page[VM_PAGESIZE];
	unsigned lost = 0;

	(void)state;
	summed_init(&s, &disk, 0);
	as = space(&s);
	map(&s, as, NULL, 16);
	put_all(&s, as, 16, 1);
	assert_int_equal(swap_out(&s, as), 16);
	d = sim_disk_data(disk);
	d[3 * PG + 1234] ^= 4;
	memcpy(page, d + 7 * PG, PG);
	memcpy(d + 7 * PG, d + 9 * PG, PG);
	memcpy(d + 9 * PG, page, PG);
	for (unsigned i = 0; i < 16; i++)
		lost += look(&s, as, i, 1) == VM_IO;
	assert_int_equal(lost, 3);
	as_free(as);
	vnode_rele(disk);
	summed_fini(&s, disk);
}

/* ---- power ---- */
/*
 * The power of a file's disk fails at some moment of a run of writes and syncs: the sync under way
 * reports it, memory has the newest bytes, and each sector on disk is of one generation; when the
 * power is back, the next sync writes everything.
 */
static void power_fails_at_any_moment(void **state)
{
	unsigned failed = 0, mixed = 0;

	(void)state;
	for (uint64_t when = 1000; when < 260000; when += 1700) {
		struct sim_config cfg = {
			.frames = 128, .ncpus = 2, .seed = when, .disk_latency = 20000
		};
		enum vm_err sync = VM_OK;
		struct sys s;
		struct as *as;
		struct vnode *file;
		const uint64_t *disk;
		uint64_t now;

		sys_init_cfg(&s, &cfg, 16);
		file = sim_disk_create(s.m, s.vm, "file", 8 * PG, 0);
		as = space(&s);
		map(&s, as, file, 8);
		put_all(&s, as, 8, 1);
		assert_int_equal(as_sync(as, BASE, 8 * PG, 0), VM_OK);
		sim_disk_power_fails(file, mach_time_ns() + when);
		for (uint64_t g = 2; g < 6 && sync == VM_OK; g++) {
			put_all(&s, as, 8, g);
			sync = as_sync(as, BASE, 8 * PG, 0);
		}
		assert_true(sync == VM_OK || sync == VM_IO);
		failed += sync == VM_IO;
		assert_int_equal(sim_read(s.m, as, 0, BASE, &now, 8, NULL), VM_OK);
		disk = sim_disk_data(file);
		for (unsigned k = 0; k < 8 * 512; k += SIM_SECTOR / 8) {
			uint64_t g = (disk[k] - k - 1) / 1000003;

			for (unsigned i = 0; i < SIM_SECTOR / 8; i++)
				assert_int_equal(disk[k + i], g * 1000003 + k + i + 1);
			mixed += k % 512 != 0 &&
			    g != (disk[k - SIM_SECTOR / 8] - (k - SIM_SECTOR / 8) - 1) / 1000003;
		}
		sim_disk_power_is_back(file);
		assert_int_equal(as_sync(as, BASE, 8 * PG, 0), VM_OK);
		for (unsigned k = 0; k < 8 * 512; k++)
			assert_int_equal(disk[k], (now - 1) + k + 1);
		as_free(as);
		vnode_rele(file);
		sys_fini(&s);
	}
	assert_true(failed > 10);
	assert_true(mixed > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(swap_loses_nothing_by_a_torn_write),
		cmocka_unit_test(a_file_is_whole_after_the_next_sync),
		cmocka_unit_test(a_torn_write_nobody_owned_up_to_is_found),
		cmocka_unit_test(what_rots_on_the_disk_is_found),
		cmocka_unit_test(power_fails_at_any_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
