/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Failures by count over the drivers and calls that the model does not know: kernel heap and
 * stacks, windows onto files, pagers, inheritance, maps that another segment shares, heaps, stacks,
 * seals. In the k-th run of a scenario the k-th allocation or I/O of a kind fails. Each step may
 * fail with a clean error; the checker must find no violation after it, and no memory may be left
 * at the end (sys_fini).
 */
#include "tests/vm/segs.h"

#include <quire/kseg.h>

static struct sys s;

/* True: it worked. Any error other than a shortage or an I/O error is wrong. */
static bool may_fail(enum vm_err e)
{
	if (e != VM_OK && e != VM_NOMEM && e != VM_NOSWAP && e != VM_LIMIT && e != VM_IO)
		fail_msg("answers %s", vm_err_name(e));
	return e == VM_OK;
}

static void kernel_heap(void)
{
	struct as *kas;
	struct segkmem *k;
	vaddr_t va[6];

	if (!may_fail(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 40, &kas)))
		return;
	if (may_fail(segkmem_create(kas, BASE, MB, &k))) {
		for (unsigned i = 0; i < 6; i++)
			if (!may_fail(segkmem_alloc(k, (1 + i) * PG, KM_SLEEP, &va[i])))
				va[i] = 0;
		assert_sound(&s);
		for (unsigned i = 0; i < 6; i++)
			if (va[i] != 0)
				segkmem_free(k, va[i], (1 + i) * PG);
		assert_int_equal(segkmem_inuse(k), 0);
		segkmem_destroy(k);
	}
	as_free(kas);
}

static void kernel_stacks(void)
{
	struct as *kas;
	struct segkp *k;

	if (!may_fail(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 40, &kas)))
		return;
	if (may_fail(segkp_create(kas, BASE, MB, &k))) {
		for (unsigned i = 0; i < 3; i++) {
			unsigned flags = (i & 1 ? KPD_LOCKED : 0) | (i & 2 ? KPD_REDZONE : 0);
			vaddr_t va;

			if (!may_fail(segkp_get(k, 4 * PG, flags, &va)))
				continue;
			if (may_fail(try_put(&s, kas, va + PG, 77))) {
				uint64_t v;

				if ((flags & KPD_LOCKED) == 0 ||
				    may_fail(segkp_swapout(k, va, 4 * PG)))
					(void)may_fail(segkp_swapin(k, va, 4 * PG, flags));
				if (may_fail(try_get(&s, kas, va + PG, &v)))
					assert_int_equal(v, 77);
			}
			assert_sound(&s);
			segkp_release(k, va, 4 * PG, flags);
		}
		segkp_destroy(k);
	}
	as_free(kas);
}

static void windows(void)
{
	struct vnode *vp = new_file(&s, 40 * PG, 500);
	uint64_t done, v;
	struct as *kas;
	struct segmap *m;

	if (may_fail(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 40, &kas))) {
		if (may_fail(segmap_create(kas, BASE, 4 * SEGMAP_SLOT, &m))) {
			vaddr_t va;

			for (uint64_t i = 0; i < 40; i += 3)
				if (may_fail(segmap_rw(m, vp, i * PG, &v, 8, false, &done)))
					assert_int_equal(v, 500 + i);
			v = 9;
			if (may_fail(segmap_rw(m, vp, 20 * PG, &v, 8, true, &done)) &&
			    may_fail(segmap_getmap(m, vp, SEGMAP_SLOT, &va))) {
				if (may_fail(try_get(&s, kas, va + 4 * PG, &v)))
					assert_int_equal(v, 9);
				(void)may_fail(segmap_release(m, va, SM_WRITE | SM_FREE));
			}
			assert_sound(&s);
			segmap_destroy(m);
		}
		as_free(kas);
	}
	vm_inject(
	    s.vm, VM_INJECT_IO_WRITE, 0); /* the last write-back must not be the one that fails */
	vnode_rele(vp);
}

/* A pager that keeps its pages in memory and answers at once. */
static uint8_t pager_pages[16][VM_PAGESIZE];

static void p_read(void *priv, struct pager *p, struct vm_io *io)
{
	(void)priv;
	for (uint32_t i = 0; i < io->io_npages; i++)
		memcpy(io->io_buf[i], pager_pages[vm_btop(io->io_off) + i], VM_PAGESIZE);
	pager_done(p, io, VM_OK, io->io_npages);
}

static void p_write(void *priv, struct pager *p, struct vm_io *io)
{
	(void)priv;
	for (uint32_t i = 0; i < io->io_npages; i++)
		memcpy(pager_pages[vm_btop(io->io_off) + i], io->io_buf[i], VM_PAGESIZE);
	pager_done(p, io, VM_OK, io->io_npages);
}

static enum vm_err p_dirty(void *priv, voff_t off)
{
	(void)priv;
	return off == 15 * PG ? VM_PROT : VM_OK; /* the last page may not be written */
}

static void p_detach(void *priv) { (void)priv; }

static const struct pager_ops p_ops = { .po_name = "memory",
	.po_read = p_read,
	.po_write = p_write,
	.po_dirty = p_dirty,
	.po_detach = p_detach };

static void pagers(void)
{
	struct segpager_args a = { .pa_prot = RW, .pa_maxprot = RW };
	struct as *as, *child;
	struct pager *p;
	uint64_t v, bits = 0;
	vaddr_t at = BASE + MB;

	for (unsigned i = 0; i < 16; i++)
		memcpy(pager_pages[i], &(uint64_t){ 600 + i }, 8);
	if (!may_fail(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 40, &as)))
		return;
	if (may_fail(pager_create(s.vm, &p_ops, NULL, 16 * PG, &p))) {
		a.pa_pager = p;
		bool logs = may_fail(pager_log_start(p));
		if (may_fail(as_map(as, BASE, 16 * PG, segpager_create, &a))) {
			bool wrote;

			for (unsigned i = 0; i < 16; i += 2)
				if (may_fail(try_get(&s, as, BASE + i * PG, &v)))
					assert_int_equal(v, 600 + i);
			wrote = may_fail(try_put(&s, as, BASE + 3 * PG, 33));
			assert_true(try_put(&s, as, BASE + 15 * PG, 1) != VM_OK);
			if (logs && wrote && may_fail(pager_log_read(p, 0, 16, &bits, true)))
				assert_int_equal(bits, 1u << 3);
			(void)may_fail(as_setprot(as, BASE + 8 * PG, 4 * PG, PROT_R));
			(void)may_fail(as_lock(as, BASE, PG));
			(void)may_fail(as_unlock(as, BASE, 16 * PG));
			(void)may_fail(as_advise(as, BASE, 16 * PG, ADV_WILLNEED));
			(void)may_fail(as_advise(as, BASE, 16 * PG, ADV_SEQUENTIAL));
			(void)may_fail(as_advise(as, BASE, 16 * PG, ADV_PAGEOUT));
			(void)as_incore(as, BASE, 16 * PG, (uint8_t[16]){ 0 });
			if (may_fail(as_sync(as, BASE, 16 * PG, 0)) && wrote)
				assert_memory_equal(pager_pages[3], &(uint64_t){ 33 }, 8);
			if (may_fail(as_dup(as, &child))) {
				if (wrote && may_fail(try_get(&s, child, BASE + 3 * PG, &v)))
					assert_int_equal(v, 33);
				assert_sound(&s);
				as_free(child);
			}
			if (may_fail(as_remap(
				as, BASE, 4 * PG, 4 * PG, REMAP_MAYMOVE | REMAP_FIXED, &at)) &&
			    wrote && may_fail(try_get(&s, as, at + 3 * PG, &v)))
				assert_int_equal(v, 33);
			(void)as_swapout(as);
			assert_sound(&s);
			(void)may_fail(as_unmap(as, BASE + 6 * PG, PG));
		}
		if (logs)
			pager_log_stop(p);
		pager_detach(p);
		if (may_fail(as_map(as, BASE + 8 * MB, PG, segpager_create, &a)))
			assert_true(try_put(&s, as, BASE + 8 * MB, 1) !=
			    VM_OK); /* no segment allows the access any more */
		as_free(as);
		as = NULL;
		pager_rele(p);
	}
	if (as != NULL)
		as_free(as);
}

static void inheritance(void)
{
	struct as *as, *child;
	uint64_t v;

	if (!may_fail(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 40, &as)))
		return;
	if (may_fail(map_anon(as, BASE, 12, 0)) && may_fail(try_put(&s, as, BASE, 1)) &&
	    may_fail(try_put(&s, as, BASE + 4 * PG, 2)) &&
	    may_fail(try_put(&s, as, BASE + 8 * PG, 3)) &&
	    may_fail(as_inherit(as, BASE, 4 * PG, INHERIT_SHARE)) &&
	    may_fail(as_inherit(as, BASE + 4 * PG, 4 * PG, INHERIT_ZERO)) &&
	    may_fail(as_dup(as, &child))) {
		if (may_fail(try_put(&s, child, BASE, 10)) && may_fail(try_get(&s, as, BASE, &v)))
			assert_int_equal(v, 10);
		if (may_fail(try_get(&s, child, BASE + 4 * PG, &v)))
			assert_int_equal(v, 0);
		if (may_fail(try_put(&s, child, BASE + 8 * PG, 30)) &&
		    may_fail(try_get(&s, as, BASE + 8 * PG, &v)))
			assert_int_equal(v, 3);
		assert_sound(&s);
		as_free(child);
	}
	as_free(as);
}

static void maps_of_others(void)
{
	struct anon_map *am = anonmap_alloc(s.vm, 8);
	struct segvn_args a = {
		.sa_prot = RW, .sa_maxprot = RW, .sa_flags = SEGVN_SHARED, .sa_amp = am
	};
	struct as *as;
	uint64_t v;

	if (am == NULL)
		return;
	if (may_fail(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 40, &as))) {
		enum vm_err e =
		    as_map(as, BASE + MB, 9 * PG, segvn_create, &a); /* more than there is */

		assert_true(e == VM_INVAL || e == VM_NOMEM);
		if (may_fail(as_map(as, BASE, 8 * PG, segvn_create, &a))) {
			a.sa_off = 4 * PG;
			if (may_fail(as_map(as, BASE + MB, 4 * PG, segvn_create, &a)) &&
			    may_fail(try_put(&s, as, BASE + 5 * PG, 5)) &&
			    may_fail(try_get(&s, as, BASE + MB + PG, &v)))
				assert_int_equal(v, 5);
		}
		assert_sound(&s);
		as_free(as);
	}
	anonmap_rele(am);
}

static void heaps_and_stacks(void)
{
	vaddr_t now = 0, at = 0;
	struct as *as;
	struct segvn_args a = { .sa_prot = RW, .sa_maxprot = RW };

	if (!may_fail(as_alloc(s.vm, 0x10000, (vaddr_t)1 << 40, &as)))
		return;
	if (may_fail(as_brk_init(as, BASE, 64 * PG))) {
		(void)may_fail(as_brk(as, BASE + 10 * PG + 5, &now));
		(void)may_fail(as_brk(as, BASE + 3 * PG, &now));
		(void)may_fail(as_brk(as, BASE + 100 * PG, &now));
	}
	if (may_fail(as_stack_init(as, BASE + 8 * MB, 2 * PG, 32 * PG, 4 * PG, RW))) {
		/* the segment grows, or stays absent, as before */
		enum vm_err e = try_put(&s, as, BASE + 8 * MB - 9 * PG, 1);

		assert_true(e == VM_NOMAP || may_fail(e) || e == VM_NOMEM);
	}
	for (unsigned i = 0; i < 3; i++) {
		at = i == 0 ? 0 : BASE + 2 * MB;
		(void)may_fail(as_map_at(as, &at, 6 * PG, 0,
		    (i == 2 ? AS_FIXED : 0u) | (i == 1 ? AS_POPULATE | AS_HIGH : 0u), segvn_create,
		    &a));
	}
	at = 0;
	(void)may_fail(as_map_at(as, &at, 6 * PG, 2 * MB, AS_32BIT, segvn_create, &a));
	if (may_fail(map_anon(as, BASE + 4 * MB, 8, 0)) &&
	    may_fail(as_seal(as, BASE + 4 * MB + 2 * PG, 2 * PG)))
		assert_int_equal(as_unmap(as, BASE + 4 * MB, 8 * PG), VM_ACCESS);
	(void)may_fail(as_lockall(as, true, true));
	(void)may_fail(map_anon(as, BASE + 6 * MB, 2, 0));
	(void)may_fail(as_unlockall(as));
	assert_sound(&s);
	as_free(as);
}

static void every_failure_of(void (*scenario)(void))
{
	static const enum vm_inject kinds[] = { VM_INJECT_PAGE, VM_INJECT_KMEM, VM_INJECT_HAT,
		VM_INJECT_IO_READ, VM_INJECT_IO_WRITE, VM_INJECT_SWAP };
	unsigned injected = 0;

	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		bool passed = true;

		for (uint64_t nth = 1; passed; nth++) {
			assert_true(nth < 2000);
			sys_init(&s, 192, 128);
			vm_inject(s.vm, kinds[k], nth);
			scenario();
			passed = vm_inject_seen(s.vm, kinds[k]) >= nth;
			vm_inject(s.vm, kinds[k], 0);
			injected += passed;
			sys_fini(&s);
		}
	}
	print_message("  %u failures\n", injected);
	assert_true(injected > 5);
}

#define SCENARIO(name)                                                                             \
	static void name##_survives_failures(void **state)                                         \
	{                                                                                          \
		(void)state;                                                                       \
		every_failure_of(name);                                                            \
	}
SCENARIO(kernel_heap)
SCENARIO(kernel_stacks)
SCENARIO(windows)
SCENARIO(pagers)
SCENARIO(inheritance)
SCENARIO(maps_of_others)
SCENARIO(heaps_and_stacks)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_heap_survives_failures),
		cmocka_unit_test(kernel_stacks_survives_failures),
		cmocka_unit_test(windows_survives_failures),
		cmocka_unit_test(pagers_survives_failures),
		cmocka_unit_test(inheritance_survives_failures),
		cmocka_unit_test(maps_of_others_survives_failures),
		cmocka_unit_test(heaps_and_stacks_survives_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
