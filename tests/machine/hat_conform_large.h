/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The part of hat_conform.c that needs a machine with large pages: loading, splitting and joining them, tables that two spaces share.
 * Only hat_conform.c includes this file.
 */
#ifndef TESTS_HAT_CONFORM_LARGE_H
#define TESTS_HAT_CONFORM_LARGE_H

struct large {
	struct page *lp_pages; /* E-locked; 1 << order pages */
	unsigned order;
	pfn_t n;
	vaddr_t va;
};

static void large_make(struct env *e, struct large *l, voff_t off, vaddr_t where)
{
	uint64_t bytes;

	l->order = e->caps->mc_pageshift[1] - VM_PAGESHIFT;
	l->n = (pfn_t)1 << l->order;
	bytes = vm_ptob(l->n);
	l->va = (where + bytes - 1) & ~(bytes - 1);
	off = (off + bytes - 1) & ~(bytes - 1);
	CHECK(page_create_large(e->vm, &e->vn, off, l->order, PG_WAIT | PG_ZERO, &l->lp_pages) ==
	    VM_OK);
	for (pfn_t i = 0; i < l->n; i++) {
		struct page *pp = &l->lp_pages[i];

		CHECK(page_pfn(e->vm, pp) == page_pfn(e->vm, l->lp_pages) + i &&
		    pp->p_offset == off + vm_ptob(i));
		*(uint8_t *)page_mapin(e->vm, pp) = (uint8_t)i;
		page_filled(e->vm, pp, false);
		page_nrm_clear(pp, P_REF | P_MOD);
	}
}

static void large_free(struct env *e, struct large *l)
{
	for (pfn_t i = 0; i < l->n; i++) {
		hat_pageunload(&l->lp_pages[i]);
		page_destroy(e->vm, &l->lp_pages[i]);
	}
}

static vaddr_t large_va(const struct large *l, pfn_t i) { return l->va + vm_ptob(i); }

static void report(void *arg, const char *text)
{
	(void)arg;
	fprintf(stderr, "hat_check: %s\n", text);
}

static bool sound(struct env *e)
{
	return hat_check(e->hat[0], report, NULL) == 0 && hat_check(e->hat[1], report, NULL) == 0;
}

static void test_large_load(struct env *e, struct large *l)
{
	const pfn_t last = l->n - 1, mid = l->n / 2 + 1;
	struct hat *hat = e->hat[0];
	unsigned attr = 0, shift = e->caps->mc_pageshift[1];

	CHECK(hat_memload(hat, l->va + VM_PAGESIZE, l->lp_pages, PROT_R, HAT_LOAD_SZC(1)) ==
	    VM_NOTSUP);
	CHECK(hat_memload(hat, l->va, l->lp_pages + 1, PROT_R, HAT_LOAD_SZC(1)) == VM_NOTSUP);
	CHECK(hat_memload(hat, l->va, l->lp_pages, PROT_R, HAT_LOAD_SZC(15)) == VM_NOTSUP);
	CHECK(hat_mapsize(hat, l->va) == 0);
	/* small translations below are replaced */
	CHECK(hat_memload(hat, large_va(l, 3), e->pp[0], PROT_R, HAT_LOAD) == VM_OK);
	CHECK(hat_memload(hat, l->va, l->lp_pages, PROT_R | PROT_W, HAT_LOAD_SZC(1)) == VM_OK);
	CHECK(hat_page_getshare(e->pp[0]) == 0);
	CHECK(hat_mapsize(hat, large_va(l, mid)) == shift);
	CHECK(hat_probe(hat, large_va(l, last), &attr) == page_pfn(e->vm, l->lp_pages) + last);
	CHECK(attr & PROT_W);
	CHECK(hat_page_getshare(&l->lp_pages[0]) == 1 && hat_page_getshare(&l->lp_pages[mid]) == 1);
	CHECK(touch(e, 0, large_va(l, mid), false, VM_OK, (uint8_t)mid) &&
	    touch(e, 0, large_va(l, last), false, VM_OK, (uint8_t)last));
	CHECK(sound(e) && consistent(e));
	/* bits count for all */
	page_nrm_clear(&l->lp_pages[0], P_REF | P_MOD);
	page_nrm_clear(&l->lp_pages[mid], P_REF | P_MOD);
	(void)hat_pagesync(&l->lp_pages[0], true, true);
	page_nrm_clear(&l->lp_pages[mid], P_REF | P_MOD);
	CHECK(touch(e, 0, large_va(l, 5), true, VM_OK, 5));
	CHECK(!e->caps->mc_mod_bits || (hat_pagesync(&l->lp_pages[0], false, true) & P_MOD));
	CHECK(!e->caps->mc_mod_bits || (page_nrm(&l->lp_pages[mid]) & P_MOD));
	/*
	 * loading the same page as small page: no change; with other rights: the large translation
	 * is split
	 */
	CHECK(
	    hat_memload(hat, large_va(l, 3), &l->lp_pages[3], PROT_R | PROT_W, HAT_LOAD) == VM_OK);
	CHECK(hat_mapsize(hat, large_va(l, 3)) == shift);
	CHECK(hat_memload(hat, large_va(l, 3), &l->lp_pages[3], PROT_R, HAT_LOAD) == VM_OK);
	CHECK(hat_mapsize(hat, large_va(l, 3)) == VM_PAGESHIFT &&
	    hat_mapsize(hat, large_va(l, 5)) == VM_PAGESHIFT);
	CHECK(touch(e, 0, large_va(l, 3), true, VM_PROT, 0) &&
	    touch(e, 0, large_va(l, 2), true, VM_OK, 2) &&
	    touch(e, 0, large_va(l, 4), true, VM_OK, 4));
	CHECK(sound(e) && consistent(e));
	CHECK(hat_promote(hat, l->va, 1) == VM_NOMAP);
	raise_rights(hat, large_va(l, 3), (struct page *[]){ &l->lp_pages[3] }, 1);
	CHECK(hat_promote(hat, large_va(l, 6), 1) == VM_OK);
	CHECK(hat_mapsize(hat, large_va(l, 3)) == shift && sound(e) && consistent(e));
}

/*
 * Parts of a large translation are unloaded, change their rights or lose a page; the rest stays
 * unchanged.
 */
static void test_large_parts(struct env *e, struct large *l)
{
	struct hat *hat = e->hat[0];
	const pfn_t q = l->n / 4;

	hat_clrattr(hat, large_va(l, q), vm_ptob(q), PROT_W);
	CHECK(touch(e, 0, large_va(l, q), true, VM_PROT, 0) &&
	    touch(e, 0, large_va(l, 2 * q), true, VM_OK, (uint8_t)(2 * q)));
	for (pfn_t i = 0; i < l->n; i++)
		raise_rights(hat, large_va(l, i), (struct page *[]){ &l->lp_pages[i] }, 1);
	CHECK(hat_promote(hat, l->va, 1) == VM_OK);
	hat_pageunload(&l->lp_pages[q]);
	CHECK(
	    hat_page_getshare(&l->lp_pages[q]) == 0 && hat_page_getshare(&l->lp_pages[q - 1]) == 1);
	CHECK(touch(e, 0, large_va(l, q), false, VM_NOMAP, 0) &&
	    touch(e, 0, large_va(l, q + 1), false, VM_OK, (uint8_t)(q + 1)));
	CHECK(hat_promote(hat, l->va, 1) == VM_NOMAP);
	CHECK(
	    hat_memload(hat, large_va(l, q), &l->lp_pages[q], PROT_R | PROT_W, HAT_LOAD) == VM_OK);
	CHECK(hat_promote(hat, l->va, 1) == VM_OK);
	hat_page_clrwrt(&l->lp_pages[1]);
	CHECK(touch(e, 0, large_va(l, 1), true, VM_PROT, 0) &&
	    touch(e, 0, large_va(l, 2), true, VM_OK, 2));
	hat_unload(hat, large_va(l, 2), vm_ptob(l->n - 3), HAT_UNLOAD);
	CHECK(touch(e, 0, large_va(l, 1), false, VM_OK, 1) &&
	    touch(e, 0, large_va(l, 2), false, VM_NOMAP, 0));
	CHECK(touch(e, 0, large_va(l, l->n - 1), false, VM_OK, (uint8_t)(l->n - 1)));
	CHECK(sound(e) && consistent(e));
	hat_unload(hat, l->va, vm_ptob(l->n), HAT_UNLOAD);
	/* two spaces, the second by array; locks are spared by swapping out, also when only a part is unlocked */
	CHECK(
	    hat_memload(hat, l->va, l->lp_pages, PROT_R, HAT_LOAD_SZC(1) | HAT_LOAD_LOCK) == VM_OK);
	CHECK(hat_memload(e->hat[1], l->va, l->lp_pages, PROT_R, HAT_LOAD_SZC(1)) == VM_OK);
	CHECK(hat_page_getshare(&l->lp_pages[q]) == 2 && sound(e));
	hat_unlock(hat, large_va(l, q), vm_ptob(q));
	hat_swapout(hat);
	CHECK(touch(e, 0, large_va(l, q - 1), false, VM_OK, (uint8_t)(q - 1)) &&
	    touch(e, 0, large_va(l, q), false, VM_NOMAP, 0));
	CHECK(touch(e, 1, large_va(l, q), false, VM_OK, (uint8_t)q));
	hat_unload(hat, l->va, vm_ptob(l->n), HAT_UNLOAD | HAT_UNLOAD_UNLOCK);
	CHECK(hat_page_getshare(&l->lp_pages[q]) == 1 && sound(e) && consistent(e));
	hat_unload(e->hat[1], l->va, vm_ptob(l->n), HAT_UNLOAD);
	CHECK(hat_page_getshare(&l->lp_pages[q]) == 0 && sound(e) && consistent(e));
}

/* Each allocation of a large load fails in turn. */
static void test_large_nomem(struct env *e, struct large *l)
{
	struct vm_usage before, after;
	uint64_t nth, sites;
	enum vm_err err;

	vm_usage(e->vm, &before);
	for (nth = 1;; nth++) {
		vm_inject(e->vm, VM_INJECT_HAT, nth);
		err = hat_memload(e->hat[0], l->va, l->lp_pages, PROT_R, HAT_LOAD_SZC(1));
		sites = vm_inject_seen(e->vm, VM_INJECT_HAT);
		vm_inject(e->vm, VM_INJECT_HAT, 0);
		if (err == VM_OK)
			break;
		CHECK(err == VM_NOMEM && sites == nth && hat_mapsize(e->hat[0], l->va) == 0 &&
		    sound(e));
		CHECK(hat_page_getshare(&l->lp_pages[3]) == 0);
	}
	CHECK(nth > 1);
	hat_unload(e->hat[0], l->va, vm_ptob(l->n), HAT_UNLOAD);
	hat_swapout(e->hat[0]);
	vm_usage(e->vm, &after);
	CHECK(after.vu_kernel <= before.vu_kernel + 2 && sound(e)); /* slabs */
}

struct exact {
	struct env *e;
	struct page *pp[2048];
	unsigned attr[2048], n, seen;
	vaddr_t va;
};

static void exact_f1(void *arg, vaddr_t va, pfn_t pfn, unsigned attr, bool locked)
{
	struct exact *x = arg;
	uint64_t i = vm_btop(va - x->va);

	CHECK(i < x->n && x->pp[i] != NULL && !locked);
	if (i < x->n && x->pp[i] != NULL)
		CHECK(page_pfn(x->e->vm, x->pp[i]) == pfn && x->attr[i] == attr);
	x->seen++;
}

static void exact_check(struct exact *x)
{
	unsigned want = 0;

	x->seen = 0;
	hat_foreach(x->e->hat[0], exact_f1, x);
	for (unsigned i = 0; i < x->n; i++)
		want += x->pp[i] != NULL;
	CHECK(want == x->seen);
	CHECK(sound(x->e) && consistent(x->e));
}

/* Joins the parts of the large page around entry at, if they can be joined. */
static void exact_promote(struct exact *x, struct large *l, unsigned at)
{
	unsigned first = at / l->n * l->n;
	vaddr_t where = x->va + vm_ptob(at);
	enum vm_err err = hat_promote(x->e->hat[0], where, 1), want = VM_OK;

	for (unsigned i = first; i < first + l->n; i++)
		if (x->pp[i] != &l->lp_pages[i - first] || x->attr[i] != x->attr[first])
			want = VM_NOMAP;
	CHECK(err == want || (err == VM_NOMAP && hat_mapsize(x->e->hat[0], where) > VM_PAGESHIFT));
}

/* Makes one call of the HAT, drawn by r, and the same change of the table. */
static void exact_step(struct exact *x, struct large *l, uint64_t r)
{
	struct hat *hat = x->e->hat[0];
	unsigned at = (unsigned)(r >> 20) % x->n, what = (unsigned)(r >> 48) % 16,
		 len = 1 + (unsigned)(r >> 34) % ((r & 2) ? 8 : x->n),
		 attr = (r >> 60) & 1 ? PROT_R | PROT_W : PROT_R;

	len = at + len > x->n ? x->n - at : len;
	if (what < 2) {
		at = at / l->n * l->n;
		CHECK(hat_memload(hat, x->va + vm_ptob(at), l->lp_pages, attr, HAT_LOAD_SZC(1)) ==
		    VM_OK);
		for (unsigned i = 0; i < l->n; i++)
			x->pp[at + i] = &l->lp_pages[i], x->attr[at + i] = attr;
	} else if (what <
	    6) { /* mostly the page that belongs there, so that parts can be joined again */
		x->pp[at] = what == 2 ? x->e->pp[at % N] : &l->lp_pages[at % l->n];
		x->attr[at] = attr;
		CHECK(hat_memload(hat, x->va + vm_ptob(at), x->pp[at], attr, HAT_LOAD) == VM_OK);
	} else if (what < 8) {
		hat_unload(hat, x->va + vm_ptob(at), vm_ptob(len), HAT_UNLOAD);
		memset(&x->pp[at], 0, len * sizeof(x->pp[0]));
	} else if (what < 10) {
		hat_clrattr(hat, x->va + vm_ptob(at), vm_ptob(len), PROT_W);
		for (unsigned i = at; i < at + len; i++)
			x->attr[i] &= ~PROT_W;
	} else if (what < 11) {
		raise_rights(hat, x->va + vm_ptob(at), &x->pp[at], len);
		for (unsigned i = at; i < at + len; i++)
			x->attr[i] = PROT_R | PROT_W;
	} else if (what < 12) {
		struct page *pp = &l->lp_pages[at % l->n];

		hat_pageunload(pp);
		for (unsigned i = at % l->n; i < x->n; i += l->n)
			x->pp[i] = x->pp[i] == pp ? NULL : x->pp[i];
	} else if (what < 13)
		(void)hat_pagesync(&l->lp_pages[at % l->n], true, true);
	else
		exact_promote(x, l, at);
}

/*
 * Random large and small loads over the addresses of two large pages, against a table of single
 * translations.
 */
static void test_large_random(struct env *e, struct large *l)
{
	static struct exact x;
	uint64_t r = 88172645463325252ull;

	x = (struct exact){ .e = e, .n = 2 * l->n, .va = l->va };
	for (unsigned round = 0; round < 6000; round++) {
		unsigned at;

		r ^= r << 13;
		r ^= r >> 7;
		r ^= r << 17;
		exact_step(&x, l, r);
		at = (unsigned)(r >> 8) % x.n;
		CHECK(touch(e, 0, x.va + vm_ptob(at), (r & 1) && (x.attr[at] & PROT_W),
		    x.pp[at] == NULL ? VM_NOMAP : VM_OK,
		    x.pp[at] == NULL ? 0 : *(uint8_t *)page_mapin(e->vm, x.pp[at])));
		if (round % 100 == 0)
			exact_check(&x);
	}
	exact_check(&x);
	hat_unload(e->hat[0], x.va, vm_ptob(x.n), HAT_UNLOAD);
	CHECK(sound(e));
}

/* ---- one set of tables for two spaces ---- */
static void test_shared(struct env *e)
{
	struct hat *from = e->hat[0], *to = e->hat[1];
	uint64_t unit = hat_share_unit(to), sites;
	vaddr_t f = (e->far[0] + unit) & ~(unit - 1), t = f + 4 * unit;
	size_t done;
	enum vm_err err;

	if (unit == 0) {
		CHECK(hat_share(to, e->near[1], from, e->near[0], VM_PAGESIZE) == VM_NOTSUP);
		return;
	}
	CHECK(hat_share(to, t + VM_PAGESIZE, from, f, unit) == VM_INVAL);
	CHECK(hat_memload_array(from, f, e->pp, 4, PROT_R | PROT_W, HAT_LOAD, &done) == VM_OK);
	CHECK(hat_memload(to, t, e->pp[7], PROT_R, HAT_LOAD) == VM_OK);
	for (uint64_t nth = 1;; nth++) {
		vm_inject(e->vm, VM_INJECT_HAT, nth);
		err = hat_share(to, t, from, f, 2 * unit);
		sites = vm_inject_seen(e->vm, VM_INJECT_HAT);
		vm_inject(e->vm, VM_INJECT_HAT, 0);
		if (err == VM_OK)
			break;
		CHECK(err == VM_NOMEM && sites == nth && sound(e) && consistent(e));
	}
	CHECK(hat_page_getshare(e->pp[7]) == 0); /* it made place */
	CHECK(hat_share(to, t, from, f, unit) == VM_INVAL);
	for (unsigned i = 0; i < 4; i++)
		CHECK(touch(e, 1, t + vm_ptob(i), true, VM_OK, (uint8_t)(0x40 + i)) &&
		    hat_page_getshare(e->pp[i]) == 1);
	CHECK(sound(e) && consistent(e));
	/* each change in one space also takes effect in the other */
	CHECK(hat_memload(from, f + unit + VM_PAGESIZE, e->pp[5], PROT_R, HAT_LOAD) == VM_OK);
	CHECK(touch(e, 1, t + unit + VM_PAGESIZE, false, VM_OK, 0x45));
	hat_clrattr(from, f, unit, PROT_W);
	CHECK(touch(e, 1, t, true, VM_PROT, 0));
	CHECK(!e->caps->mc_mod_bits || (page_nrm(e->pp[0]) & P_MOD) ||
	    (hat_pagesync(e->pp[0], false, true) & P_MOD));
	page_nrm_clear(e->pp[0], P_REF | P_MOD);
	hat_pageunload(e->pp[1]);
	CHECK(touch(e, 0, f + VM_PAGESIZE, false, VM_NOMAP, 0) &&
	    touch(e, 1, t + VM_PAGESIZE, false, VM_NOMAP, 0));
	hat_unload(from, f + unit, unit, HAT_UNLOAD);
	CHECK(touch(e, 1, t + unit + VM_PAGESIZE, false, VM_NOMAP, 0));
	CHECK(sound(e) && consistent(e));
	/* a sweep of the sharing space skips translations that are not its own */
	hat_swapout(to);
	hat_unload(to, e->caps->mc_user_min, t - e->caps->mc_user_min, HAT_UNLOAD);
	CHECK(touch(e, 1, t, false, VM_OK, 0x40));
	hat_unshare(to, t, 2 * unit);
	CHECK(touch(e, 1, t, false, VM_NOMAP, 0) && touch(e, 0, f, false, VM_OK, 0x40));
	CHECK(sound(e) && consistent(e));
	hat_unload(from, f, unit, HAT_UNLOAD);
	/*
	 * no page is loaded yet: a later load is shared; teardown drops tables still shared
	 */
	CHECK(hat_share(to, t, from, f, unit) == VM_OK && sound(e));
	CHECK(hat_memload(from, f, e->pp[2], PROT_R, HAT_LOAD) == VM_OK);
	CHECK(touch(e, 1, t, false, VM_OK, 0x42) && sound(e) && consistent(e));
	hat_pageunload(e->pp[2]);
	CHECK(touch(e, 1, t, false, VM_NOMAP, 0) && sound(e));
}

static void test_large(struct env *e)
{
	struct large l;

	if (e->caps->mc_npagesizes < 2) {
		CHECK(hat_memload(e->hat[0], e->near[0], e->pp[0], PROT_R, HAT_LOAD_SZC(1)) ==
		    VM_NOTSUP);
		CHECK(hat_promote(e->hat[0], e->near[0], 1) == VM_NOTSUP);
		return;
	}
	for (unsigned i = 0; i < N; i++)
		hat_pageunload(e->pp[i]);
	large_make(e, &l, 1u << 26, e->far[0]);
	test_large_load(e, &l);
	test_large_parts(e, &l);
	test_large_nomem(e, &l);
	test_large_random(e, &l);
	large_free(e, &l);
}
#endif
