/* SPDX-License-Identifier: BSD-2-Clause */
/* Files and shared images on the simulated machine: one set of frames, coherence, truncation, write-back, lost writes. */
#include "tests/vm/segs.h"

#define NAS 20u

static uint64_t pss(struct as *as)
{
	struct as_usage u;

	as_usage(as, &u);
	return u.au_pss;
}

/*
 * Twenty spaces run one program: text and read-only data exist once; written data is private to
 * each space.
 */
static void one_set_of_frames_for_an_image(void **state)
{
	struct sys s;
	sys_init(&s, 1024, 2000);
	struct vnode *vp = new_file(&s, 96 * PG, 1);
	struct as *as[NAS];
	struct vm_usage before, after;
	uint64_t sum = 0;

	vm_usage(s.vm, &before);
	for (unsigned i = 0; i < NAS; i++) {
		as[i] = new_as(&s);
		assert_int_equal(map_file(as[i], BASE, 64, vp, 0, PROT_R | PROT_X, 0), VM_OK);
		assert_int_equal(
		    map_file(as[i], BASE + 64 * PG, 16, vp, 64 * PG, PROT_R, 0), VM_OK);
		assert_int_equal(map_file(as[i], BASE + 80 * PG, 16, vp, 80 * PG, RW, 0), VM_OK);
		expect(&s, as[i], BASE, 96, 1);
		assert_int_equal(sim_exec(s.m, as[i], i % 2, BASE + 5 * PG), VM_OK);
	}
	for (unsigned i = 0; i < NAS; i++) {
		assert_int_equal(rss(as[i]), 96);
		assert_int_equal(pss(as[i]), 96 * PG / NAS); /* rounding of shares loses no page */
		assert_int_equal(hat_probe(as_hat(as[i]), BASE + 7 * PG, NULL),
		    hat_probe(as_hat(as[0]), BASE + 7 * PG, NULL));
	}
	vm_usage(s.vm, &after);
	/* the frames taken: the file's 96, and the spaces' own structures */
	assert_int_equal(before.vu_free - after.vu_free - (after.vu_kernel - before.vu_kernel), 96);
	for (unsigned i = 0; i < NAS; i++)
		for (unsigned k = 80; k < 84; k++)
			put(&s, as[i], BASE + k * PG, i);
	for (unsigned i = 0; i < NAS; i++) {
		assert_int_equal(rss(as[i]), 96);
		sum += pss(as[i]);
	}
	assert_in_range(sum, (92 + 4 * NAS) * PG - NAS, (92 + 4 * NAS) * PG);
	assert_int_equal(((uint64_t *)sim_disk_data(vp))[80 * 512], 81);
	assert_sound(&s);
	for (unsigned i = 0; i < NAS; i++)
		as_free(as[i]);
	vnode_rele(vp);
	sys_fini(&s);
}

static void shared_mapping_and_read_write_agree(void **state)
{
	struct sys s;
	sys_init(&s, 128, 500);
	struct vnode *vp = new_file(&s, 200 * PG, 1); /* larger than memory */
	struct as *a = new_as(&s), *b = new_as(&s);
	uint64_t model[200], rnd = 11, v;

	assert_int_equal(map_file(a, BASE, 200, vp, 0, RW, SEGVN_SHARED), VM_OK);
	struct vnode *mapped;
	voff_t where;

	assert_int_equal(as_file(a, BASE + 7 * PG, &mapped, &where), VM_OK);
	assert_true(mapped == vp && where == 7 * PG);
	vnode_rele(mapped);
	assert_int_equal(as_file(a, BASE + 200 * PG, &mapped, &where), VM_NOMAP);
	assert_int_equal(map_file(b, BASE, 200, vp, 0, PROT_R, 0),
	    VM_OK); /* private, unwritten: sees the file */
	for (unsigned i = 0; i < 200; i++)
		model[i] = 1 + i;
	for (unsigned op = 0; op < 5000; op++) {
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		unsigned i = (unsigned)(rnd >> 33) % 200;
		switch ((rnd >> 20) % 5) {
		case 0: put(&s, a, BASE + i * PG, model[i] = op); break;
		case 1:
			model[i] = op;
			assert_int_equal(vnode_write(vp, i * PG, &model[i], 8, NULL), VM_OK);
			break;
		case 2: assert_int_equal(get(&s, a, BASE + i * PG), model[i]); break;
		case 3: assert_int_equal(get(&s, b, BASE + i * PG), model[i]); break;
		default:
			assert_int_equal(vnode_read(vp, i * PG, &v, 8, NULL), VM_OK);
			assert_int_equal(v, model[i]);
		}
	}
	assert_sound(&s);
	assert_int_equal(vnode_sync(vp), VM_OK);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(((uint64_t *)sim_disk_data(vp))[i * 512], model[i]);
	as_free(a);
	as_free(b);
	vnode_rele(vp);
	sys_fini(&s);
}

/* Whole pages, parts of pages, across pages, past the end. */
static void read_write_at_any_offset(void **state)
{
	struct sys s;
	sys_init(&s, 128, 100);
	const uint64_t size = 20 * PG + 777;
	struct vnode *vp = sim_disk_create(s.m, s.vm, "file", size, 0);
	char *model = calloc(1, size), *buf = malloc(size);
	uint64_t rnd = 5, done, reads;

	assert_true(model != NULL && buf != NULL);
	for (unsigned op = 0; op < 2000; op++) {
		rnd = rnd * 6364136223846793005u + 1442695040888963407u;
		uint64_t off = (rnd >> 33) % size, len = (rnd >> 13) % (3 * PG),
			 fits = len < size - off ? len : size - off;
		if ((rnd >> 62) % 2 == 0) {
			memset(buf, (int)op, len);
			assert_int_equal(
			    vnode_write(vp, off, buf, len, &done), fits == len ? VM_OK : VM_EOF);
			memset(model + off, (int)op, fits);
		} else {
			assert_int_equal(
			    vnode_read(vp, off, buf, len, &done), fits == len ? VM_OK : VM_EOF);
			assert_memory_equal(buf, model + off, fits);
		}
		assert_int_equal(done, fits);
	}
	assert_int_equal(vnode_read(vp, size, buf, 1, &done), VM_EOF);
	assert_int_equal(vnode_sync(vp), VM_OK);
	assert_memory_equal(sim_disk_data(vp), model, size);
	/* a write of whole pages reads nothing */
	page_vnode_purge(s.vm, vp, 0, 0);
	reads = vm_statistics(s.vm)->pgin;
	assert_int_equal(vnode_write(vp, PG, model, 4 * PG, NULL), VM_OK);
	assert_int_equal(vm_statistics(s.vm)->pgin, reads);
	free(model);
	free(buf);
	vnode_rele(vp);
	sys_fini(&s);
}

static void truncate_zeroes_and_faults(void **state)
{
	struct sys s;
	sys_init(&s, 128, 100);
	struct vnode *vp = new_file(&s, 10 * PG, 1);
	struct as *a = new_as(&s), *b = new_as(&s);
	uint64_t v = 7;

	assert_int_equal(map_file(a, BASE, 12, vp, 0, RW, SEGVN_SHARED), VM_OK);
	assert_int_equal(map_file(b, BASE, 12, vp, 0, RW, 0), VM_OK);
	expect(&s, a, BASE, 10, 1);
	expect(&s, b, BASE, 10, 1);
	put(&s, b, BASE + 8 * PG, 88); /* a private page stays, whatever happens to the file */
	put(&s, a, BASE + 5 * PG + 200, 5);
	assert_int_equal(try_get(&s, a, BASE + 10 * PG, &v), VM_EOF);
	assert_int_equal(as_lock(a, BASE + 6 * PG, 3 * PG), VM_OK);
	assert_true(sim_disk_resize(vp, 5 * PG + 100));
	pvn_truncate(s.vm, vp, 5 * PG + 100);
	assert_sound(&s);
	assert_int_equal(get(&s, a, BASE + 5 * PG), 6);
	assert_int_equal(get(&s, a, BASE + 5 * PG + 200), 0); /* the tail */
	for (unsigned i = 6; i < 12; i++) {
		assert_int_equal(try_get(&s, a, BASE + i * PG, &v), VM_EOF);
		assert_int_equal(try_put(&s, a, BASE + i * PG, 1), VM_EOF);
		assert_int_equal(try_get(&s, b, BASE + i * PG, &v), i == 8 ? VM_OK : VM_EOF);
	}
	assert_int_equal(get(&s, b, BASE + 8 * PG), 88);
	/*
	 * the file grows again: it has zeroes, also where pages were locked all the time; unlocking
	 * finds them
	 */
	assert_true(sim_disk_resize(vp, 10 * PG));
	expect_zero(&s, a, BASE + 6 * PG, 4);
	put(&s, a, BASE + 7 * PG, 70);
	assert_int_equal(as_unlock(a, BASE + 6 * PG, 3 * PG), VM_OK);
	assert_int_equal(as_sync(a, BASE, 10 * PG, 0), VM_OK);
	assert_int_equal(((uint64_t *)sim_disk_data(vp))[7 * 512], 70);
	assert_sound(&s);
	as_free(a);
	as_free(b);
	vnode_rele(vp);
	sys_fini(&s);
}

/* The last page of a file that ends within it: zeroes behind the end, which are never written. */
static void the_tail_of_a_file_is_zero(void **state)
{
	struct sys s;
	sys_init(&s, 128, 100);
	struct vnode *vp = new_file(&s, 2 * PG + 10, 1);
	struct as *a = new_as(&s);

	assert_int_equal(map_file(a, BASE, 3, vp, 0, RW, SEGVN_SHARED), VM_OK);
	assert_int_equal(get(&s, a, BASE + 2 * PG + 16), 0);
	put(&s, a, BASE + 2 * PG + 16, 1);
	assert_int_equal(as_sync(a, BASE, 3 * PG, SYNC_INVAL), VM_OK);
	assert_int_equal(get(&s, a, BASE + 2 * PG + 16), 0);
	as_free(a);
	vnode_rele(vp);
	sys_fini(&s);
}

static void each_kind_of_msync_does_what_it_says(void **state)
{
	struct sys s;
	sys_init(&s, 128, 100);
	struct vnode *vp = new_file(&s, 10 * PG, 1);
	struct as *a = new_as(&s);
	uint64_t *disk = sim_disk_data(vp);

	assert_int_equal(map_file(a, BASE, 10, vp, 0, RW, SEGVN_SHARED), VM_OK);
	put(&s, a, BASE, 50);
	put(&s, a, BASE + 3 * PG, 51);
	assert_int_equal(as_sync(a, BASE, 2 * PG, 0), VM_OK);
	assert_int_equal(disk[0], 50);
	assert_int_equal(disk[3 * 512], 4);
	assert_int_equal(as_sync(a, BASE, 10 * PG, SYNC_ASYNC), VM_OK);
	assert_int_equal(disk[3 * 512], 51);
	put(&s, a, BASE, 60); /* a write after a sync is noticed, too */
	assert_int_equal(as_sync(a, BASE, 10 * PG, 0), VM_OK);
	assert_int_equal(disk[0], 60);
	/* invalidate: what is on disk shows */
	assert_int_equal(get(&s, a, BASE + PG), 2);
	disk[512] = 1234;
	assert_int_equal(get(&s, a, BASE + PG), 2);
	assert_int_equal(as_lock(a, BASE + PG, PG), VM_OK);
	assert_int_equal(as_sync(a, BASE, 10 * PG, SYNC_INVAL), VM_LOCKED);
	assert_int_equal(as_unlock(a, BASE + PG, PG), VM_OK);
	assert_int_equal(as_sync(a, BASE, 10 * PG, SYNC_INVAL), VM_OK);
	assert_int_equal(get(&s, a, BASE + PG), 1234);
	assert_int_equal(as_sync(a, BASE, 11 * PG, 0), VM_NOMAP);
	sim_disk_fail(vp, VM_IO_WRITE, 1, 1, 0);
	put(&s, a, BASE, 61);
	assert_int_equal(as_sync(a, BASE, 10 * PG, 0), VM_IO);
	assert_int_equal(as_sync(a, BASE, 10 * PG, 0), VM_OK); /* the page stayed dirty */
	assert_int_equal(disk[0], 61);
	as_free(a);
	vnode_rele(vp);
	sys_fini(&s);
}

/* The next sync reports a failed asynchronous write, once. */
static void failed_writeback_is_told_once(void **state)
{
	struct sys s;
	sys_init(&s, 128, 100);
	struct vnode *vp = new_file(&s, 10 * PG, 1);
	struct as *a = new_as(&s);

	assert_int_equal(map_file(a, BASE, 10, vp, 0, RW, SEGVN_SHARED), VM_OK);
	put(&s, a, BASE, 50);
	sim_disk_fail(vp, VM_IO_WRITE, 1, 1, 0);
	(void)as_sync(a, BASE, 10 * PG, SYNC_ASYNC);
	assert_int_equal(vnode_sync(vp), VM_IO);
	assert_int_equal(vnode_sync(vp), VM_OK);
	assert_int_equal(*(uint64_t *)sim_disk_data(vp), 50);
	as_free(a);
	vnode_rele(vp);
	sys_fini(&s);
}

struct loss {
	uint64_t pages;
	unsigned calls;
};

static void on_loss(void *arg, struct vnode *vp, uint64_t npages, enum vm_err why)
{
	struct loss *l = arg;

	assert_int_equal(why, VM_IO);
	l->pages += npages;
	l->calls++;
}

/* vnode_rele once lost a failed last write-back silently. */
static void last_writeback_that_fails_is_told(void **state)
{
	struct sim_config cfg = { .frames = 128, .ncpus = 2 };
	struct loss l = { 0 };
	struct vm_config vc = { .vc_frames = 128, .vc_lost = on_loss, .vc_lostarg = &l };
	struct sys s = { .m = sim_create(&cfg) };

	vc.vc_mach = s.m;
	assert_int_equal(vm_create(&vc, &s.vm), VM_OK);
	/* a temporary failure, and a permanent one */
	for (unsigned times = 1; times < 100; times += 98) {
		struct vnode *vp = new_file(&s, 10 * PG, 1);
		struct as *a = new_as(&s);

		assert_int_equal(map_file(a, BASE, 10, vp, 0, RW, SEGVN_SHARED), VM_OK);
		fill(&s, a, BASE, 3, 9);
		as_free(a);
		sim_disk_fail(vp, VM_IO_WRITE, 1, times, 0);
		vnode_rele(vp);
		assert_int_equal(l.calls, times > 1);
	}
	assert_int_equal(l.pages, 3);
	assert_int_equal(vm_statistics(s.vm)->lost_page, 3);
	sys_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_set_of_frames_for_an_image),
		cmocka_unit_test(shared_mapping_and_read_write_agree),
		cmocka_unit_test(read_write_at_any_offset),
		cmocka_unit_test(truncate_zeroes_and_faults),
		cmocka_unit_test(the_tail_of_a_file_is_zero),
		cmocka_unit_test(each_kind_of_msync_does_what_it_says),
		cmocka_unit_test(failed_writeback_is_told_once),
		cmocka_unit_test(last_writeback_that_fails_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
