/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Communication between spaces: which pages are copied, moved and shared, and which rights the
 * sender and the receiver need.
 */
#include "tests/vm/segs.h"

#define MSG (256u) /* pages: 1 MiB */
static const vaddr_t FROM = BASE;

struct two {
	struct sys s;
	struct as *a, *b;
};

static void two_init(struct two *t)
{
	sys_init(&t->s, 2048, 4000);
	t->a = new_as(&t->s);
	t->b = new_as(&t->s);
	assert_int_equal(map_anon(t->a, FROM, MSG + 16, 0), VM_OK);
	fill(&t->s, t->a, FROM, MSG + 16, 1000);
}

static void two_fini(struct two *t)
{
	assert_sound(&t->s);
	as_free(t->a);
	as_free(t->b);
	sys_fini(&t->s);
}

static uint64_t copied(struct two *t) { return vm_statistics(t->s.vm)->copy_bytes; }

static void message_moves_pages_not_bytes(void **state)
{
	struct two t;
	vaddr_t to = 0;
	pfn_t pfn[MSG];

	two_init(&t);
	for (unsigned i = 0; i < MSG; i++)
		pfn[i] = hat_probe(as_hat(t.a), FROM + i * PG, NULL);
	assert_int_equal(as_transfer(t.a, FROM, MSG * PG, t.b, &to, TRANSFER_MOVE, 0), VM_OK);
	assert_int_equal(try_put(&t.s, t.a, FROM, 1), VM_NOMAP);
	expect(&t.s, t.a, FROM + MSG * PG, 16, 1000 + MSG);
	expect(&t.s, t.b, to, MSG, 1000);
	for (unsigned i = 0; i < MSG; i++)
		assert_int_equal(hat_probe(as_hat(t.b), to + i * PG, NULL), pfn[i]);
	assert_int_equal(copied(&t), 0);
	assert_int_equal(vm_statistics(t.s.vm)->cow, 0);
	assert_int_equal(vm_statistics(t.s.vm)->xfer_move, MSG);
	two_fini(&t);
}

static void cow_transfer_is_a_snapshot(void **state)
{
	struct two t;
	vaddr_t to = BASE + 64 * MB;

	two_init(&t);
	assert_int_equal(as_transfer(t.a, FROM, MSG * PG, t.b, &to, TRANSFER_COW, RW), VM_OK);
	assert_int_equal(to, BASE + 64 * MB);
	assert_int_equal(copied(&t) + vm_statistics(t.s.vm)->cow, 0);
	expect(&t.s, t.b, to, MSG, 1000);
	assert_int_equal(hat_probe(as_hat(t.b), to, NULL), hat_probe(as_hat(t.a), FROM, NULL));
	put(&t.s, t.a, FROM, 5);
	put(&t.s, t.b, to + PG, 6);
	assert_int_equal(get(&t.s, t.b, to), 1000);
	assert_int_equal(get(&t.s, t.a, FROM + PG), 1001);
	assert_int_equal(vm_statistics(t.s.vm)->cow, 2);
	assert_int_equal(nsegs(t.a), 1);
	assert_int_equal(as_transfer(t.a, FROM, PG, t.b, &to, TRANSFER_COW, RW), VM_EXIST);
	two_fini(&t);
}

static void loan_is_never_written_by_the_borrower(void **state)
{
	struct two t;
	vaddr_t to = 0;

	two_init(&t);
	assert_int_equal(as_transfer(t.a, FROM, 8 * PG, t.b, &to, TRANSFER_LOAN, RW), VM_OK);
	expect(&t.s, t.b, to, 8, 1000);
	assert_int_equal(try_put(&t.s, t.b, to, 1), VM_PROT);
	assert_int_equal(as_setprot(t.b, to, PG, RW), VM_ACCESS);
	put(&t.s, t.a, FROM, 5); /* the owner's write breaks the loan of that page */
	assert_int_equal(get(&t.s, t.b, to), 1000);
	assert_int_equal(as_unmap(t.b, to, 8 * PG), VM_OK);
	put(&t.s, t.a, FROM + PG, 5); /* the page has one owner again: no copy */
	assert_int_equal(vm_statistics(t.s.vm)->cow, 1);
	two_fini(&t);
}

/* Three share memory; a fourth gets a snapshot; none of the three loses the others' writes. */
static void shared_memory_has_a_snapshot(void **state)
{
	struct two t;
	struct as *c;
	vaddr_t sh = BASE + 16 * MB, to = 0;

	two_init(&t);
	assert_int_equal(map_anon(t.a, sh, 16, SEGVN_SHARED), VM_OK);
	fill(&t.s, t.a, sh, 8, 1);
	assert_int_equal(as_dup(t.a, &c), VM_OK);
	fill(&t.s, c, sh, 4, 50);
	/* a device writes to the page */
	assert_int_equal(as_fault(c, sh + 5 * PG, PG, F_SOFTLOCK, S_WRITE), VM_OK);
	assert_int_equal(as_transfer(t.a, sh, 16 * PG, t.b, &to, TRANSFER_COW, RW), VM_OK);
	assert_sound(&t.s);
	put(&t.s, c, sh, 99);
	put(&t.s, t.a, sh + PG, 98);
	put(&t.s, t.b, to + 2 * PG, 97);
	put(&t.s, c, sh + 5 * PG, 96);
	assert_int_equal(get(&t.s, t.a, sh), 99);
	assert_int_equal(get(&t.s, c, sh + PG), 98);
	assert_int_equal(get(&t.s, c, sh + 2 * PG), 52);
	assert_int_equal(get(&t.s, t.a, sh + 5 * PG), 96);
	expect(&t.s, t.b, to, 2, 50);
	assert_int_equal(get(&t.s, t.b, to + 5 * PG), 6);
	expect_zero(&t.s, t.b, to + 8 * PG, 8);
	assert_int_equal(as_fault(c, sh + 5 * PG, PG, F_SOFTUNLOCK, S_WRITE), VM_OK);
	as_free(c);
	two_fini(&t);
}

/* Memory that is locked keeps its frames when a snapshot is taken of it, and its writers do not reach the snapshot. */
static void locked_memory_has_a_snapshot(void **state)
{
	(void)state;
	for (unsigned soft = 0; soft < 2; soft++) {
		struct two t;
		vaddr_t sh = BASE + 16 * MB, to = 0;
		struct vm_usage u;
		pfn_t pfn[4];

		two_init(&t);
		vm_usage(t.s.vm, &u);
		uint64_t wired = u.vu_wired;
		assert_int_equal(map_anon(t.a, sh, 4, SEGVN_SHARED), VM_OK);
		fill(&t.s, t.a, sh, 4, 1);
		if (soft)
			assert_int_equal(as_fault(t.a, sh, 4 * PG, F_SOFTLOCK, S_WRITE), VM_OK);
		else
			assert_int_equal(as_lock(t.a, sh, 4 * PG), VM_OK);
		for (unsigned i = 0; i < 4; i++)
			pfn[i] = hat_probe(as_hat(t.a), sh + i * PG, NULL);
		assert_int_equal(as_transfer(t.a, sh, 4 * PG, t.b, &to, TRANSFER_COW, RW), VM_OK);
		for (unsigned i = 0; i < 4; i++)
			put(&t.s, t.a, sh + i * PG, 60 + i);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(hat_probe(as_hat(t.a), sh + i * PG, NULL), pfn[i]);
		expect(&t.s, t.b, to, 4, 1);
		expect(&t.s, t.a, sh, 4, 60);
		fill(&t.s, t.b, to, 4, 30);
		expect(&t.s, t.a, sh, 4, 60);
		vm_usage(t.s.vm, &u);
		assert_int_equal(u.vu_wired, wired + 4);
		assert_sound(&t.s);
		if (soft)
			assert_int_equal(as_fault(t.a, sh, 4 * PG, F_SOFTUNLOCK, S_WRITE), VM_OK);
		else
			assert_int_equal(as_unlock(t.a, sh, 4 * PG), VM_OK);
		two_fini(&t);
	}
}

/* A shared file cannot be snapshot by sharing: its bytes are copied. */
static void shared_file_is_copied(void **state)
{
	struct two t;
	vaddr_t f = BASE + 16 * MB, to = 0;

	two_init(&t);
	struct vnode *vp = new_file(&t.s, 16 * PG, 300);
	assert_int_equal(map_file(t.a, f, 16, vp, 0, RW, SEGVN_SHARED), VM_OK);
	assert_int_equal(as_transfer(t.a, f, 16 * PG, t.b, &to, TRANSFER_COW, PROT_R), VM_OK);
	assert_int_equal(copied(&t), 16 * PG);
	put(&t.s, t.a, f, 1);
	expect(&t.s, t.b, to, 16, 300);
	assert_int_equal(try_put(&t.s, t.b, to, 1), VM_PROT);
	assert_sound(&t.s);
	as_free(t.a);
	as_free(t.b);
	vnode_rele(vp);
	sys_fini(&t.s);
}

static void rights_are_the_senders(void **state)
{
	struct two t;
	vaddr_t to = 0;

	two_init(&t);
	assert_int_equal(as_setprot(t.a, FROM + 4 * PG, PG, 0), VM_OK);
	for (enum transfer how = TRANSFER_COPY; how <= TRANSFER_LOAN; how++) {
		assert_int_equal(as_transfer(t.a, FROM, 8 * PG, t.b, &to, how, PROT_R), VM_PROT);
		assert_int_equal(
		    as_transfer(t.a, FROM, 2 * PG, t.b, &to, how, PROT_R | PROT_X), VM_PROT);
		assert_int_equal(
		    as_transfer(t.a, FROM + (MSG + 15) * PG, 2 * PG, t.b, &to, how, PROT_R),
		    VM_NOMAP);
		assert_int_equal(as_transfer(t.a, FROM + 1, PG, t.b, &to, how, PROT_R), VM_INVAL);
	}
	assert_int_equal(nsegs(t.b), 0);
	assert_int_equal(as_lock(t.a, FROM, PG), VM_OK);
	assert_int_equal(as_transfer(t.a, FROM, 2 * PG, t.b, &to, TRANSFER_MOVE, 0), VM_LOCKED);
	assert_int_equal(as_seal(t.a, FROM + 8 * PG, PG), VM_OK);
	assert_int_equal(
	    as_transfer(t.a, FROM + 8 * PG, PG, t.b, &to, TRANSFER_MOVE, 0), VM_ACCESS);
	as_set_limits(t.b, 4 * PG, 0);
	for (enum transfer how = TRANSFER_COPY; how <= TRANSFER_LOAN; how++)
		assert_int_equal(
		    as_transfer(t.a, FROM + 16 * PG, 5 * PG, t.b, &to, how, PROT_R), VM_LIMIT);
	two_fini(&t);
}

static void copy_between(struct two *t)
{
	uint64_t done = 0;
	char buf[64];

	assert_int_equal(map_anon(t->b, BASE, 8, 0), VM_OK);
	/* unaligned offsets on both sides */
	assert_int_equal(as_copyout(t->a, "0123456789abcdef", FROM + PG - 8, 16), VM_OK);
	assert_int_equal(as_copy(t->a, FROM + PG - 8, t->b, BASE + 3 * PG - 3, 16, &done), VM_OK);
	assert_int_equal(done, 16);
	assert_int_equal(as_copyin(t->b, BASE + 3 * PG - 3, buf, 16), VM_OK);
	assert_memory_equal(buf, "0123456789abcdef", 16);
	/* within a space, overlapping within a page */
	assert_int_equal(as_copy(t->b, BASE + 3 * PG, t->b, BASE + 3 * PG + 4, 8, &done), VM_OK);
	assert_int_equal(as_copyin(t->b, BASE + 3 * PG, buf, 12), VM_OK);
	assert_memory_equal(buf, "34563456789a", 12);
	/* the part before the bad page is copied */
	assert_int_equal(as_setprot(t->b, BASE + 5 * PG, PG, PROT_R), VM_OK);
	assert_int_equal(as_copy(t->a, FROM, t->b, BASE + 4 * PG, 3 * PG, &done), VM_PROT);
	assert_int_equal(done, PG);
	assert_int_equal(as_copyout(t->b, buf, BASE + 5 * PG, 4), VM_PROT);
	assert_int_equal(as_copyin(t->b, BASE + 9 * PG, buf, 4), VM_NOMAP);
	assert_int_equal(
	    as_transfer(t->a, FROM, 4 * PG, t->b, &(vaddr_t){ BASE + MB }, TRANSFER_COPY, PROT_R),
	    VM_OK);
	expect(&t->s, t->b, BASE + MB + 2 * PG, 2, 1002);
}

static void bytes_are_copied_in_and_out(void **state)
{
	struct two t;

	two_init(&t);
	copy_between(&t);
	two_fini(&t);
}

/* The same on a machine with one translation a frame. */
static void bytes_are_copied_without_a_direct_map(void **state)
{
	struct sim_config cfg = { .frames = 1024, .ncpus = 2, .seed = 5 };
	struct two t;
	vaddr_t to = 0;

	sim_config_linux(&cfg);
	sys_init_cfg(&t.s, &cfg, 2000);
	t.a = new_as(&t.s);
	t.b = new_as(&t.s);
	assert_int_equal(map_anon(t.a, FROM, MSG, 0), VM_OK);
	fill(&t.s, t.a, FROM, MSG, 1000);
	copy_between(&t);
	assert_int_equal(
	    as_transfer(t.a, FROM + 16 * PG, 64 * PG, t.b, &to, TRANSFER_COW, RW), VM_OK);
	put(&t.s, t.a, FROM + 16 * PG, 1);
	expect(&t.s, t.b, to, 64, 1016);
	to = 0;
	assert_int_equal(
	    as_transfer(t.a, FROM + 128 * PG, 64 * PG, t.b, &to, TRANSFER_MOVE, 0), VM_OK);
	expect(&t.s, t.b, to, 64, 1128);
	two_fini(&t);
}

/* Each allocation of each kind of transfer fails once: then nothing was sent and nothing leaks. */
static void transfers_survive_failures(void **state)
{
	for (enum transfer how = TRANSFER_COPY; how <= TRANSFER_LOAN; how++)
		for (unsigned what = VM_INJECT_PAGE; what <= VM_INJECT_KMEM; what++)
			for (uint64_t nth = 1; nth < 30; nth++) {
				struct two t;
				vaddr_t to = 0;

				two_init(&t);
				vm_inject(t.s.vm, what, nth);
				enum vm_err e =
				    as_transfer(t.a, FROM + 3 * PG, 40 * PG, t.b, &to, how, PROT_R);
				bool done = vm_inject_seen(t.s.vm, what) < nth;
				vm_inject(t.s.vm, what, 0);
				assert_sound(&t.s);
				if (e == VM_OK)
					expect(&t.s, t.b, to, 40, 1003);
				else
					assert_int_equal(nsegs(t.b), 0);
				if (e != VM_OK || how != TRANSFER_MOVE)
					expect(&t.s, t.a, FROM, MSG + 16, 1000);
				two_fini(&t);
				if (done)
					break;
			}
}

/*
 * Shared memory was sent as a snapshot, then locked by one who shares it and written by another: the write replaced the page
 * under the lock, whose count stayed with the snapshot's page.
 */
static void a_locked_page_of_shared_memory_is_not_replaced(void **state)
{
	(void)state;
	for (unsigned soft = 0; soft < 2; soft++) {
		struct as *a, *b, *c;
		vaddr_t at = BASE + MB;
		struct vm_usage u;
		struct sys s;
		pfn_t pfn;

		sys_init(&s, 128, 64);
		a = new_as(&s);
		c = new_as(&s);
		assert_int_equal(map_anon(a, BASE, 4, SEGVN_SHARED), VM_OK);
		fill(&s, a, BASE, 4, 1);
		assert_int_equal(as_dup(a, &b), VM_OK);
		assert_int_equal(as_transfer(a, BASE, 4 * PG, c, &at, TRANSFER_COW, RW), VM_OK);
		assert_int_equal(as_setprot(a, BASE, 4 * PG, PROT_R), VM_OK);
		if (soft)
			assert_int_equal(as_fault(a, BASE, 4 * PG, F_SOFTLOCK, S_READ), VM_OK);
		else
			assert_int_equal(as_lock(a, BASE, 4 * PG), VM_OK);
		(void)get(&s, a, BASE);
		pfn = hat_probe(as_hat(a), BASE, NULL);
		put(&s, b, BASE, 77);
		assert_int_equal(get(&s, a, BASE), 77);
		assert_int_equal(
		    hat_probe(as_hat(a), BASE, NULL), pfn); /* the frame that was locked */
		expect(&s, c, at, 4, 1);
		vm_usage(s.vm, &u);
		assert_int_equal(u.vu_wired, 4);
		assert_sound(&s);
		if (soft)
			assert_int_equal(as_fault(a, BASE, 4 * PG, F_SOFTUNLOCK, S_READ), VM_OK);
		else
			assert_int_equal(as_unlock(a, BASE, 4 * PG), VM_OK);
		vm_usage(s.vm, &u);
		assert_int_equal(u.vu_wired, 0);
		as_free(a);
		as_free(b);
		as_free(c);
		sys_fini(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_locked_page_of_shared_memory_is_not_replaced),
		cmocka_unit_test(message_moves_pages_not_bytes),
		cmocka_unit_test(cow_transfer_is_a_snapshot),
		cmocka_unit_test(loan_is_never_written_by_the_borrower),
		cmocka_unit_test(shared_memory_has_a_snapshot),
		cmocka_unit_test(locked_memory_has_a_snapshot),
		cmocka_unit_test(shared_file_is_copied),
		cmocka_unit_test(rights_are_the_senders),
		cmocka_unit_test(bytes_are_copied_in_and_out),
		cmocka_unit_test(bytes_are_copied_without_a_direct_map),
		cmocka_unit_test(transfers_survive_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
