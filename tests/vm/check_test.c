/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The checker (vm_check) finds the violations that it promises to find. On a system with objects of
 * every kind, one word after another is made wrong: the checker must name the violation, and report
 * none after the word is restored.
 */
#include "tests/vm/segs.h"

struct scene {
	struct sys s;
	struct as *as, *child;
	struct vnode *file, *cached;
	struct seg *anon, *shared; /* segments of as */
	struct page *mapped, *wired, *filed, *incache;
};

struct search {
	const char *text;
	unsigned seen, all;
};

static void look(void *arg, const char *text)
{
	struct search *s = arg;

	s->all++;
	s->seen += strstr(text, s->text) != NULL;
}

static void must_see(struct scene *c, const char *text)
{
	struct search s = { .text = text };

	unsigned bad = vm_check(c->s.vm, look, &s);

	assert_int_equal(bad, s.all);
	if (s.seen == 0)
		fail_msg("not seen: %s", text);
}

/* The comma operator makes an rvalue of the field, whose type is never _Atomic. */
#define WRONG(c, what, value, text)                                                                \
	do {                                                                                       \
		__typeof__(((void)0, (what))) was_ = (what);                                       \
		(what) = (__typeof__(was_))(value);                                                \
		must_see(c, text);                                                                 \
		(what) = was_;                                                                     \
	} while (0)

static struct page *page_at(struct scene *c, struct as *as, vaddr_t va)
{
	(void)get(&c->s, as, va);
	return page_of(c->s.vm, hat_probe(as_hat(as), va, NULL));
}

static int setup(void **state)
{
	struct scene *c = calloc(1, sizeof(*c));

	sys_init(&c->s, 256, 64);
	c->as = new_as(&c->s);
	c->file = new_file(&c->s, 8 * PG, 100);
	c->cached = new_file(&c->s, 8 * PG, 200);
	assert_int_equal(map_anon(c->as, BASE, 16, 0), VM_OK);
	assert_int_equal(map_anon(c->as, BASE + 2 * MB, 8, 0), VM_OK);
	assert_int_equal(map_file(c->as, BASE + MB, 8, c->file, 0, RW, SEGVN_SHARED), VM_OK);
	fill(&c->s, c->as, BASE, 16, 1);
	fill(&c->s, c->as, BASE + MB, 8, 50);
	assert_int_equal(as_lock(c->as, BASE, PG), VM_OK);
	assert_int_equal(as_advise(c->as, BASE + 4 * PG, 4 * PG, ADV_PAGEOUT), VM_OK);
	assert_int_equal(pvn_getpage(c->s.vm, c->cached, 0, SE_EXCL, 1, &c->incache), VM_OK);
	page_free(c->s.vm, c->incache, false);
	mach_rw_enter(&c->as->a_lock, false);
	c->anon = as_segat(c->as, BASE);
	c->shared = as_segat(c->as, BASE + MB);
	mach_rw_exit(&c->as->a_lock);
	c->wired = page_at(c, c->as, BASE);
	c->mapped = page_at(c, c->as, BASE + PG);
	c->filed = page_at(c, c->as, BASE + MB);
	assert_sound(&c->s);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct scene *c = *state;

	assert_sound(&c->s);
	if (c->child != NULL)
		as_free(c->child);
	as_free(c->as);
	vnode_rele(c->file);
	vnode_rele(c->cached);
	sys_fini(&c->s);
	free(c);
	return 0;
}

static void faults_of_pages_are_named(void **state)
{
	struct scene *c = *state;
	struct vm *vm = c->s.vm;
	struct vm *other = (struct vm *)(uintptr_t)4096;
	struct page *q;
	uint32_t was;

	WRONG(c, c->incache->p_selock, 1, "cache list is locked");
	WRONG(c, c->incache->p_lckcnt, 1, "cache list is wired");
	WRONG(c, c->incache->p_nrm, P_MOD, "cache list is modified");
	WRONG(c, c->incache->p_flags, P_QUEUED, "cache list without being free");
	WRONG(c, c->cached->v_vm, other, "another system");
	WRONG(c, c->mapped->p_flags, P_KERNEL, "has a name");
	WRONG(c, c->mapped->p_flags, P_FREE, "a free page is mapped");
	WRONG(c, c->mapped->p_flags, P_FREE, "a translation leads to a free or off-line frame");
	WRONG(c, c->mapped->p_flags, P_FREE, "exactly the named free pages");
	WRONG(c, c->mapped->p_selock, -2, "impossible lock count");
	WRONG(c, c->wired->p_flags, P_QUEUED, "wired but queued");
	WRONG(c, c->wired->p_lckcnt, 0, "evictable but not queued");
	WRONG(c, c->wired->p_lckcnt, 0, "vm_nwired");
	WRONG(c, c->filed->p_offset, 4 * PG, "wrong hash chain");
	/* a second page of that name, in its hash chain */
	q = page_at(c, c->as, BASE + MB + PG);
	was = q->p_hashnext;
	q->p_hashnext = page_hashlink(page_pfn(vm, c->filed));
	WRONG(c, c->filed->p_offset, PG, "two pages have one name");
	q->p_hashnext = was;
	WRONG(c, c->file->v_npages, 3, "page count is wrong");
	WRONG(c, q->p_vpprev, page_pfn(vm, q), "page list is broken");
	WRONG(c, c->file->v_pages, page_pfn(vm, c->mapped), "exactly the named pages");
	WRONG(c, vm->vm_nkernel, vm->vm_nkernel + 1, "vm_nkernel");
	WRONG(c, vm->vm_nonline, vm->vm_nonline - 1, "vm_nonline");
	WRONG(c, vm->vm_nonline, vm->vm_nonline - 1, "on-line and off-line");
	WRONG(c, vm->vm_nfree, vm->vm_nfree + 1, "not what the buddy has");
	WRONG(c, vm->vm_nfree, vm->vm_nfree + 1, "not the sum of the blocks");
	WRONG(c, vm->vm_pagelocks[c->incache->p_lockno].pl_cache.q_len, 7,
	    "the cache list does not hold");
}

static struct page *nameless(struct vm *vm, unsigned flags)
{
	for (pfn_t i = 0; i < vm->vm_nframes; i++)
		if (vm->vm_pages[i].p_vnode == NULL && vm->vm_pages[i].p_flags == flags)
			return &vm->vm_pages[i];
	fail_msg("no such frame");
	return NULL;
}

static void frames_without_a_name_are_checked(void **state)
{
	struct scene *c = *state;
	struct vm *vm = c->s.vm;
	struct page *kernel = nameless(vm, P_KERNEL), *block = NULL;

	WRONG(c, kernel->p_selock, 1, "without a name is locked");
	WRONG(c, kernel->p_flags, P_IOLOCK, "in no state");
	for (unsigned k = 2; k <= VM_MAXORDER && block == NULL; k++)
		if (vm->vm_buddy[k].q_head != PAGE_NIL)
			block = page_of(vm, vm->vm_buddy[k].q_head);
	assert_non_null(block);
	WRONG(c, block->p_order, block->p_order - 1, "order or alignment");
	WRONG(c, block[1].p_order, 0, "inside a free block");
	WRONG(c, vm->vm_buddy[block->p_order].q_len, 99, "a list's length");
}

/* Makes a search read the wrong index. */
static void drop_hints(struct as *as)
{
	mach_rw_enter(&as->a_lock, true);
	as_hints_drop(as);
	mach_rw_exit(&as->a_lock);
}

static void faults_of_spaces_and_segments_are_named(void **state)
{
	struct scene *c = *state;
	struct as *as = c->as;
	struct segvn_data *svd = svd_of(c->anon);

	WRONG(c, as->a_size, as->a_size + PG, "size or number of segments");
	WRONG(c, as->a_nsegs, 9, "size or number of segments");
	WRONG(c, as->a_swresv, 0, "reservations do not add up");
	WRONG(c, as->a_min, BASE + PG, "out of bounds");
	c->child = new_as(&c->s);
	WRONG(c, c->anon->s_as, c->child, "of another space");
	drop_hints(as);
	WRONG(c, as->a_index.ri_root, NULL, "outside of all segments");
	drop_hints(as);
	WRONG(c, c->anon->s_node.r_end, BASE + PG, "out of order");
	drop_hints(as);
	WRONG(c, c->anon->s_node.r_end, BASE + PG, "other bounds than the range");
	drop_hints(as);
	WRONG(c, c->anon->s_node.r_kind, 77, "another kind than the range");
	WRONG(c, c->anon->s_flags, S_SEALED, "other rights or flags");
	WRONG(c, as->a_index.ri_nspare, 77, "nodes are lost");
	WRONG(c, svd->svd_maxprot, PROT_R, "above the maximum");
	WRONG(c, svd->svd_prot, PROT_R, "grants more than its segment");
	WRONG(c, svd->svd_anon_index, (uint64_t)1 << 40, "the anon map is too small");
	WRONG(c, svd->svd_swresv, 3, "the reservation is not");
	WRONG(c, svd_of(c->shared)->svd_off, PG, "leads to the wrong page");
}

static void faults_of_translations_are_named(void **state)
{
	struct scene *c = *state;
	struct hat *hat = as_hat(c->as);
	struct page *shared;

	page_lock(c->s.vm, c->mapped, SE_EXCL);
	assert_int_equal(hat_memload(hat, BASE + PG, c->mapped, RW, HAT_LOAD_LOCK), VM_OK);
	page_unlock(c->s.vm, c->mapped);
	must_see(c, "a locked translation that nobody locked");
	hat_unlock(hat, BASE + PG, PG);
	/* the child shares the page; neither process may write to it */
	assert_int_equal(as_dup(c->as, &c->child), VM_OK);
	(void)page_at(c, c->as, BASE + PG);
	assert_sound(&c->s);
	shared = page_at(c, c->as, BASE + PG);
	page_lock(c->s.vm, shared, SE_SHARED);
	assert_int_equal(hat_memload(hat, BASE + PG, shared, RW, HAT_LOAD), VM_OK);
	page_unlock(c->s.vm, shared);
	must_see(c, "lets a shared anon be written");
	hat_unload(hat, BASE + PG, PG, HAT_UNLOAD);
	/* a page of another object at the address */
	page_lock(c->s.vm, c->filed, SE_EXCL);
	assert_int_equal(hat_memload(hat, BASE + PG, c->filed, PROT_R, HAT_LOAD), VM_OK);
	page_unlock(c->s.vm, c->filed);
	must_see(c, "leads to the wrong page");
	hat_unload(hat, BASE + PG, PG, HAT_UNLOAD);
}

static void faults_of_anons_and_swap_are_named(void **state)
{
	struct scene *c = *state;
	struct vm *vm = c->s.vm;
	struct swap_area *sw = vm->vm_swapareas;
	anon_id in = anonmap_peek(svd_amp(svd_of(c->anon)), svd_index(c->anon, BASE + PG)), out = 0;
	struct anon *a;

	for (uint64_t i = 0; i < 16 && !(out != 0 && anon_swapped(vm, out)); i++)
		out = anonmap_peek(svd_amp(svd_of(c->anon)), svd_index(c->anon, BASE + i * PG));
	assert_true(anon_swapped(vm, out));
	a = &vm->vm_anonchunk[out / VM_ANONCHUNK][out % VM_ANONCHUNK];
	WRONG(c, a->an_swap, a->an_swap + 40, "swap slot is not its own");
	WRONG(c, a->an_swap, VM_NO_SLOT, "a swap slot's owner does not know it");
	WRONG(c, a->an_refcnt, 2, "reference count");
	a = &vm->vm_anonchunk[in / VM_ANONCHUNK][in % VM_ANONCHUNK];
	WRONG(c, a->an_refcnt, 0, "a free anon has a page");
	WRONG(c, vm->vm_nanon, 1, "in use and free do not add up");
	WRONG(c, sw->sw_used, 0, "count of used slots");
	WRONG(c, vm->vm_swapused, 0, "swap totals");
	WRONG(c, vm->vm_swaptotal, 1, "swap totals");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(faults_of_pages_are_named, setup, teardown),
		cmocka_unit_test_setup_teardown(frames_without_a_name_are_checked, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    faults_of_spaces_and_segments_are_named, setup, teardown),
		cmocka_unit_test_setup_teardown(faults_of_translations_are_named, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    faults_of_anons_and_swap_are_named, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
