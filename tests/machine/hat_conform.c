/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Conformance of a machine's HAT to hat.h. Written against the contract only, so that every port
 * can be plugged in (port_harness.h). Pages come directly from the page layer, without segments:
 * this program acts as the core.
 *
 * On a machine with few translations a frame, loading another translation drops one; on a machine
 * without reference or modification bits the program expects none. A HAT may drop unlocked
 * translations at any time; no port does so while no other code runs, and the tests rely on this.
 */
#include "machine/stub/vnode_stub.h"
#include "tests/machine/port_check.h"
#include "tests/machine/port_harness.h"

#include <quire/as.h>
#include <quire/hat.h>
#include <quire/kmem.h>
#include <quire/page.h>
#include <quire/vm.h>
#include <quire/vnode.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 4096u /* two large pages of any machine, and the memory for their tables */
#define N 8u
#define VA                                                                                         \
	0x80000000ull /* the pages straddle a boundary of every level of tables below the highest */
#define AROUND 16u    /* pages before and after VA that may be used */
#define NFAR 64u

struct env {
	struct mach *mach;
	const struct mach_caps *caps;
	struct vm *vm;
	struct vnode vn;
	struct as *as[2];
	struct hat *hat[2];
	struct as *kas; /* the kernel's own space; NULL: the machine has none */
	/*
	 * the window of each space: VA, or the machine's address instead of it; no other address
	 * shares its tables
	 */
	vaddr_t near[2], far[2];
	uint64_t step;      /* distance between far addresses */
	struct page *pp[N]; /* E-locked all the time */
	uint64_t kernel;    /* frames of kernel memory before there was a space */
};

static vaddr_t reserve(struct env *e, unsigned h, vaddr_t want, uint64_t len)
{
	return port_harness.ph_reserve == NULL
	    ? want
	    : port_harness.ph_reserve(e->mach, e->hat[h], want, len);
}

static uint64_t kernel_frames(struct env *e)
{
	struct vm_usage u;

	(void)kmem_reap(e->vm);
	vm_usage(e->vm, &u);
	return u.vu_kernel;
}

static void setup(struct env *e)
{
	struct vm_config vc = { .vc_frames = FRAMES };
	vaddr_t far;

	memset(e, 0, sizeof(*e));
	if ((e->mach = vc.vc_mach = port_harness.ph_create(FRAMES)) == NULL ||
	    vm_create(&vc, &e->vm) != VM_OK) {
		fprintf(stderr, "%s: no machine\n", port_harness.ph_name);
		exit(1);
	}
	e->caps = mach_caps(e->mach);
	vnode_init(&e->vn, e->vm, &stub_name_ops, NULL);
	e->kernel = kernel_frames(e);
	if (e->caps->mc_kernel_max != 0)
		CHECK(as_alloc(e->vm, e->caps->mc_kernel_min, e->caps->mc_kernel_max, &e->kas) ==
		    VM_OK);
	far = e->caps->mc_user_max / 2;
	e->step = 0x4000000;
	if (far >> 31 == 0) { /* 32 bits: below VA */
		far = 0x40000000;
		e->step = 0x800000;
	}
	for (unsigned i = 0; i < 2; i++) {
		CHECK(as_alloc(e->vm, e->caps->mc_user_min, e->caps->mc_user_max, &e->as[i]) ==
		    VM_OK);
		e->hat[i] = as_hat(e->as[i]);
		e->near[i] =
		    reserve(e, i, VA - vm_ptob(AROUND), vm_ptob(2 * AROUND)) + vm_ptob(AROUND);
		e->far[i] = reserve(e, i, far, NFAR * e->step);
	}
	for (unsigned i = 0; i < N; i++) {
		CHECK(
		    page_create(e->vm, &e->vn, vm_ptob(i), PG_WAIT | PG_ZERO, &e->pp[i]) == VM_OK);
		*(uint8_t *)page_mapin(e->vm, e->pp[i]) = (uint8_t)(0x40 + i);
		page_filled(e->vm, e->pp[i], false);
		page_nrm_clear(e->pp[i], P_REF | P_MOD);
	}
}

static void teardown(struct env *e)
{
	for (unsigned i = 0; i < N; i++) {
		hat_pageunload(e->pp[i]);
		page_destroy(e->vm, e->pp[i]);
	}
	for (unsigned i = 2; i-- > 0;)
		as_free(e->as[i]);
	if (e->kas != NULL)
		as_free(e->kas);
	/* caches keep a slab; leaked tables would take many more frames */
	CHECK(kernel_frames(e) <= e->kernel + 2);
	vnode_rele(&e->vn);
	vm_destroy(e->vm);
	port_harness.ph_destroy(e->mach);
}

static vaddr_t va(const struct env *e, unsigned h, unsigned i)
{
	return e->near[h] + vm_ptob(i) - vm_ptob(N / 2);
}

/* The hardware's result of an access; byte: the byte that a write stores and a read must find. */
static bool touch(struct env *e, unsigned h, vaddr_t at, bool write, enum vm_err want, uint8_t byte)
{
	uint8_t b = byte;
	enum vm_err got;

	if (port_harness.ph_touch == NULL)
		return true;
	got = port_harness.ph_touch(e->mach, e->hat[h], at, write, &b);
	return got == want && (write || got != VM_OK || b == byte);
}

static bool consistent(struct env *e)
{
	return port_harness.ph_check == NULL || port_harness.ph_check(e->mach) == 0;
}
static bool many(const struct env *e) { return e->caps->mc_max_mappings == 0; }

/* Loading a loaded page replaces its rights. A page of NULL: no page is loaded there. */
static void raise_rights(struct hat *hat, vaddr_t at, struct page *const *pps, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (pps[i] != NULL)
			CHECK(hat_memload(hat, at + vm_ptob(i), pps[i], PROT_R | PROT_W,
				  HAT_LOAD) == VM_OK);
}

static void test_load(struct env *e)
{
	unsigned attr = 0;

	CHECK(hat_probe(e->hat[0], va(e, 0, 0), NULL) == PFN_INVALID);
	CHECK(touch(e, 0, va(e, 0, 0), false, VM_NOMAP, 0));
	CHECK(hat_memload(e->hat[0], va(e, 0, 0), e->pp[0], PROT_R, HAT_LOAD) == VM_OK);
	CHECK(hat_probe(e->hat[0], va(e, 0, 0), &attr) == page_pfn(e->vm, e->pp[0]));
	CHECK((attr & PROT_R) && !(attr & PROT_W));
	CHECK(hat_page_getshare(e->pp[0]) == 1);
	CHECK(touch(e, 0, va(e, 0, 0), false, VM_OK, 0x40));
	CHECK(touch(e, 0, va(e, 0, 0), true, VM_PROT, 0));
	CHECK(touch(e, 0, va(e, 0, 1), false, VM_NOMAP, 0));
	CHECK(touch(e, 1, va(e, 1, 0), false, VM_NOMAP, 0));
	/* the same page again: rights are replaced */
	CHECK(hat_memload(e->hat[0], va(e, 0, 0), e->pp[0], PROT_R | PROT_W, HAT_LOAD) == VM_OK);
	CHECK(hat_page_getshare(e->pp[0]) == 1);
	CHECK(touch(e, 0, va(e, 0, 0), true, VM_OK, 0x40));
	CHECK(hat_memload(e->hat[0], va(e, 0, 0), e->pp[0], PROT_R, HAT_LOAD) == VM_OK);
	CHECK(touch(e, 0, va(e, 0, 0), true, VM_PROT, 0));
	/* another page: the first translation is dropped */
	CHECK(hat_memload(e->hat[0], va(e, 0, 0), e->pp[1], PROT_R, HAT_LOAD) == VM_OK);
	CHECK(hat_page_getshare(e->pp[0]) == 0 && hat_page_getshare(e->pp[1]) == 1);
	CHECK(touch(e, 0, va(e, 0, 0), false, VM_OK, 0x41));
	/* advice does not replace an existing translation */
	CHECK(hat_memload(e->hat[0], va(e, 0, 0), e->pp[2], PROT_R, HAT_LOAD_ADV) == VM_OK);
	CHECK(hat_probe(e->hat[0], va(e, 0, 0), NULL) == page_pfn(e->vm, e->pp[1]));
	hat_unload(e->hat[0], va(e, 0, 0), VM_PAGESIZE, HAT_UNLOAD);
	CHECK(touch(e, 0, va(e, 0, 0), false, VM_NOMAP, 0));
	CHECK(hat_page_getshare(e->pp[1]) == 0);
	CHECK(consistent(e));
}

static void test_array(struct env *e)
{
	size_t done = 99;

	CHECK(hat_memload_array(
		  e->hat[0], va(e, 0, 0), e->pp, N, PROT_R | PROT_W, HAT_LOAD, &done) == VM_OK);
	CHECK(done == N);
	for (unsigned i = 0; i < N; i++)
		CHECK(touch(e, 0, va(e, 0, i), false, VM_OK, (uint8_t)(0x40 + i)));
	hat_clrattr(e->hat[0], va(e, 0, 2), vm_ptob(3), PROT_W);
	for (unsigned i = 0; i < N; i++)
		CHECK(touch(e, 0, va(e, 0, i), true, i >= 2 && i < 5 ? VM_PROT : VM_OK,
		    (uint8_t)(0x40 + i)));
	hat_clrattr(e->hat[0], va(e, 0, 0) - vm_ptob(4), vm_ptob(N + 8),
	    PROT_W); /* holes around: no page is loaded there */
	for (unsigned i = 0; i < N; i++)
		CHECK(touch(e, 0, va(e, 0, i), true, VM_PROT, 0));
	raise_rights(e->hat[0], va(e, 0, 0), e->pp, N);
	CHECK(hat_probe(e->hat[0], va(e, 0, N), NULL) == PFN_INVALID);
	CHECK(touch(e, 0, va(e, 0, 3), true, VM_OK, 0x43));
	hat_unload(e->hat[0], va(e, 0, 1), vm_ptob(N - 2), HAT_UNLOAD);
	for (unsigned i = 0; i < N; i++)
		CHECK(touch(e, 0, va(e, 0, i), false, i == 0 || i == N - 1 ? VM_OK : VM_NOMAP,
		    (uint8_t)(0x40 + i)));
	hat_unload(e->hat[0], e->caps->mc_user_min, e->caps->mc_user_max - e->caps->mc_user_min,
	    HAT_UNLOAD);
	CHECK(hat_page_getshare(e->pp[0]) == 0 && hat_page_getshare(e->pp[N - 1]) == 0);
	CHECK(consistent(e));
}

static void test_share(struct env *e)
{
	unsigned n = 0;

	for (unsigned i = 0; i < 6; i++)
		CHECK(hat_memload(e->hat[i & 1], va(e, i & 1, i), e->pp[0], PROT_R, HAT_LOAD) ==
		    VM_OK);
	for (unsigned i = 0; i < 6; i++)
		n += hat_probe(e->hat[i & 1], va(e, i & 1, i), NULL) == page_pfn(e->vm, e->pp[0]);
	CHECK(n == hat_page_getshare(e->pp[0]));
	CHECK(many(e) ? n == 6 : n >= 1 && n <= e->caps->mc_max_mappings);
	CHECK(hat_probe(e->hat[1], va(e, 1, 5), NULL) ==
	    page_pfn(e->vm, e->pp[0])); /* the last loaded translation exists */
	if (many(e)) {                  /* from the middle, the end and the front */
		hat_unload(e->hat[0], va(e, 0, 2), VM_PAGESIZE, HAT_UNLOAD);
		hat_unload(e->hat[1], va(e, 1, 5), VM_PAGESIZE, HAT_UNLOAD);
		hat_unload(e->hat[0], va(e, 0, 0), VM_PAGESIZE, HAT_UNLOAD);
		CHECK(hat_page_getshare(e->pp[0]) == 3);
		CHECK(touch(e, 1, va(e, 1, 1), false, VM_OK, 0x40) &&
		    touch(e, 0, va(e, 0, 4), false, VM_OK, 0x40));
	}
	hat_page_clrwrt(e->pp[0]);
	hat_pageunload(e->pp[0]);
	CHECK(hat_page_getshare(e->pp[0]) == 0);
	for (unsigned i = 0; i < 6; i++)
		CHECK(touch(e, i & 1, va(e, i & 1, i), false, VM_NOMAP, 0));
	hat_pageunload(e->pp[0]); /* no translation is left: the call does nothing */
	CHECK(consistent(e));
}

/* The unload by page-out: a page without other holders is unloaded, a held page stays as it was. */
static void test_tryunload(struct env *e)
{
	for (unsigned i = 0; i < 3; i++)
		CHECK(hat_memload(e->hat[i & 1], va(e, i & 1, i), e->pp[i], PROT_R | PROT_W,
			  HAT_LOAD) == VM_OK);
	CHECK(hat_page_tryunload(e->pp[0]));
	CHECK(hat_page_getshare(e->pp[0]) == 0 && touch(e, 0, va(e, 0, 0), false, VM_NOMAP, 0));
	CHECK(hat_page_tryunload(e->pp[0])); /* no translation is left: the call does nothing */
	vm_inject(e->vm, VM_INJECT_PIN, 1);
	if (!hat_page_tryunload(e->pp[1])) { /* a port with real pins ignores the pins of tests */
		CHECK(hat_page_getshare(e->pp[1]) == 1 &&
		    touch(e, 1, va(e, 1, 1), true, VM_OK, 0x41));
		CHECK(hat_page_tryunload(e->pp[1]));
	}
	vm_inject(e->vm, VM_INJECT_PIN, 0);
	CHECK(hat_page_getshare(e->pp[1]) == 0 && touch(e, 0, va(e, 0, 2), false, VM_OK, 0x42));
	hat_pageunload(e->pp[2]);
	CHECK(consistent(e));
}

/* The same for many pages: the held one is moved behind the others. */
static void test_pages_tryunload(struct env *e)
{
	struct page *pages[4];
	uint32_t out;

	for (unsigned i = 0; i < 4; i++) {
		pages[i] = e->pp[i];
		CHECK(i == 3 ||
		    hat_memload(e->hat[i & 1], va(e, i & 1, i), e->pp[i], PROT_R | PROT_W,
			HAT_LOAD) == VM_OK);
		CHECK(i == 3 || touch(e, i & 1, va(e, i & 1, i), true, VM_OK, (uint8_t)(0x40 + i)));
	}
	vm_inject(e->vm, VM_INJECT_PIN, 2);
	out = hat_pages_tryunload(pages, 4);
	vm_inject(e->vm, VM_INJECT_PIN, 0);
	CHECK(out == 4 || (out == 3 && pages[3] == e->pp[1])); /* a port with real pins: 4 */
	for (uint32_t i = 0; i < 4; i++) {
		unsigned k = 0;

		while (e->pp[k] != pages[i])
			CHECK(++k < 4);
		CHECK(hat_page_getshare(pages[i]) == (i >= out));
		CHECK(touch(e, k & 1, va(e, k & 1, k), false, i < out ? VM_NOMAP : VM_OK,
		    (uint8_t)(0x40 + k)));
	}
	CHECK(hat_pages_tryunload(pages, 4) == 4 && hat_page_getshare(e->pp[1]) == 0);
	CHECK(hat_pages_tryunload(pages, 0) == 0);
	CHECK(consistent(e));
}

static void test_bits(struct env *e)
{
	struct page *pp = e->pp[3];

	if (port_harness.ph_touch == NULL)
		return;
	page_nrm_clear(pp, P_REF | P_MOD);
	CHECK(hat_memload(e->hat[0], va(e, 0, 3), pp, PROT_R | PROT_W, HAT_LOAD) == VM_OK);
	(void)hat_pagesync(pp, true, true);
	page_nrm_clear(pp, P_REF | P_MOD);
	CHECK(touch(e, 0, va(e, 0, 3), false, VM_OK, 0x43));
	if (e->caps->mc_ref_bits) {
		CHECK(hat_pagesync(pp, false, false) & P_REF);
		CHECK(page_nrm(pp) & P_REF);
		CHECK(hat_pagesync(pp, true, false) & P_REF);
		CHECK(!(hat_pagesync(pp, false, false) & P_REF));
		CHECK(touch(
		    e, 0, va(e, 0, 3), false, VM_OK, 0x43)); /* seen again although it was cached */
		CHECK(hat_pagesync(pp, true, true) & P_REF);
	}
	/* every write changes a byte: a write that changes nothing may go unnoticed */
	if (e->caps->mc_mod_bits) {
		CHECK(!(page_nrm(pp) & P_MOD));
		CHECK(touch(e, 0, va(e, 0, 3), true, VM_OK, 0x51));
		CHECK(hat_pagesync(pp, false, true) & P_MOD);
		CHECK(page_nrm(pp) & P_MOD);
		page_nrm_clear(pp, P_MOD);
		CHECK(!(hat_pagesync(pp, false, true) & P_MOD));
		CHECK(touch(e, 0, va(e, 0, 3), true, VM_OK,
		    0x52)); /* a write after the clear is seen again */
		hat_page_clrwrt(pp);
		CHECK(touch(e, 0, va(e, 0, 3), true, VM_PROT, 0));
		(void)hat_pagesync(pp, false, true);
		CHECK(page_nrm(pp) & P_MOD);
		page_nrm_clear(pp, P_MOD);
		raise_rights(e->hat[0], va(e, 0, 3), &pp, 1);
		CHECK(touch(e, 0, va(e, 0, 3), true, VM_OK, 0x53));
		hat_unload(e->hat[0], va(e, 0, 3), VM_PAGESIZE,
		    HAT_UNLOAD); /* the bits that were seen are set in the page */
		CHECK(page_nrm(pp) & P_MOD);
		page_nrm_clear(pp, P_REF | P_MOD);
		CHECK(hat_memload(e->hat[0], va(e, 0, 3), pp, PROT_R | PROT_W, HAT_LOAD) == VM_OK);
		CHECK(touch(e, 0, va(e, 0, 3), true, VM_OK, 0x54));
		hat_sync(e->hat[0], va(e, 0, 0), vm_ptob(N), true);
		CHECK(page_nrm(pp) & P_MOD);
		page_nrm_clear(pp, P_MOD);
		CHECK(!(hat_pagesync(pp, false, false) & P_MOD));
		CHECK(touch(
		    e, 0, va(e, 0, 3), true, VM_OK, 0x55)); /* seen again after a clear by range */
		hat_pageunload(pp);
		CHECK(page_nrm(pp) & P_MOD);
	}
	hat_pageunload(pp);
	page_nrm_clear(pp, P_REF | P_MOD);
	CHECK(consistent(e));
}

static void test_lock(struct env *e)
{
	CHECK(hat_memload(e->hat[0], va(e, 0, 0), e->pp[0], PROT_R, HAT_LOAD_LOCK) == VM_OK);
	CHECK(hat_memload(e->hat[0], va(e, 0, 1), e->pp[1], PROT_R, HAT_LOAD) == VM_OK);
	hat_swapout(e->hat[0]);
	CHECK(touch(e, 0, va(e, 0, 0), false, VM_OK, 0x40)); /* spared */
	CHECK(touch(e, 0, va(e, 0, 1), false, VM_NOMAP, 0));
	if (e->caps->mc_max_mappings == 1) {
		CHECK(hat_memload(e->hat[1], va(e, 1, 0), e->pp[0], PROT_R, HAT_LOAD) == VM_RETRY);
		CHECK(hat_memload(e->hat[1], va(e, 1, 0), e->pp[0], PROT_R, HAT_LOAD_ADV) == VM_OK);
		CHECK(touch(e, 0, va(e, 0, 0), false, VM_OK, 0x40));
	}
	hat_unlock(e->hat[0], va(e, 0, 0), VM_PAGESIZE);
	CHECK(touch(e, 0, va(e, 0, 0), false, VM_OK, 0x40));
	hat_swapout(e->hat[0]);
	CHECK(touch(e, 0, va(e, 0, 0), false, VM_NOMAP, 0));
	CHECK(hat_memload(e->hat[0], va(e, 0, 0), e->pp[0], PROT_R, HAT_LOAD_LOCK) == VM_OK);
	hat_unload(e->hat[0], va(e, 0, 0), VM_PAGESIZE, HAT_UNLOAD_UNLOCK);
	CHECK(hat_page_getshare(e->pp[0]) == 0);
	CHECK(consistent(e));
}

/*
 * Each allocation of a HAT fails in turn: the result is VM_NOMEM, nothing has changed, and the next
 * call succeeds.
 */
static void test_nomem(struct env *e)
{
	struct vm_usage before, after;
	uint64_t nth, sites;
	enum vm_err err;

	vm_usage(e->vm, &before);
	for (nth = 1;; nth++) {
		vm_inject(e->vm, VM_INJECT_HAT, nth);
		err = hat_memload(e->hat[0], e->far[0], e->pp[4], PROT_R, HAT_LOAD);
		sites = vm_inject_seen(e->vm, VM_INJECT_HAT);
		vm_inject(e->vm, VM_INJECT_HAT, 0);
		if (sites < nth)
			break;
		CHECK(err == VM_NOMEM);
		CHECK(hat_probe(e->hat[0], e->far[0], NULL) == PFN_INVALID);
		CHECK(hat_page_getshare(e->pp[4]) == 0);
		vm_inject(e->vm, VM_INJECT_HAT, nth);
		CHECK(hat_memload(e->hat[0], e->far[0], e->pp[4], PROT_R, HAT_LOAD_ADV) ==
		    VM_OK); /* advice does not fail */
		/*
		 * a port may keep tables of the first attempt, so that this attempt needs fewer and
		 * succeeds
		 */
		CHECK((hat_probe(e->hat[0], e->far[0], NULL) == PFN_INVALID) ==
		    (vm_inject_seen(e->vm, VM_INJECT_HAT) >= nth));
		hat_unload(e->hat[0], e->far[0], VM_PAGESIZE, HAT_UNLOAD);
		vm_inject(e->vm, VM_INJECT_HAT, 0);
	}
	CHECK(err == VM_OK);
	CHECK(touch(e, 0, e->far[0], false, VM_OK, 0x44));
	hat_unload(e->hat[0], e->far[0], VM_PAGESIZE, HAT_UNLOAD);
	hat_swapout(e->hat[0]); /* gives page tables back */
	vm_usage(e->vm, &after);
	CHECK(after.vu_kernel <= before.vu_kernel + 1); /* a slab at most */
	CHECK(consistent(e));
}

struct walk {
	unsigned n, locked;
	struct env *e;
};

static void count_f1(void *arg, vaddr_t at, pfn_t pfn, unsigned attr, bool locked)
{
	struct walk *w = arg;
	unsigned now = 0;

	w->n++;
	w->locked += locked;
	CHECK(hat_probe(w->e->hat[0], at, &now) == pfn && now == attr);
}

static void count_f2(void *arg, struct hat *hat, vaddr_t at)
{
	struct walk *w = arg;

	w->n++;
	CHECK(hat_probe(hat, at, NULL) == page_pfn(w->e->vm, w->e->pp[2]));
}

static void test_foreach(struct env *e)
{
	struct walk f1 = { .e = e }, f2 = { .e = e };
	size_t done;

	CHECK(
	    hat_memload_array(e->hat[0], va(e, 0, 0), e->pp, N, PROT_R, HAT_LOAD, &done) == VM_OK);
	CHECK(hat_memload(e->hat[0], e->far[0], e->pp[2], PROT_R | PROT_W, HAT_LOAD_LOCK) == VM_OK);
	hat_foreach(e->hat[0], count_f1, &f1);
	hat_page_foreach(e->pp[2], count_f2, &f2);
	CHECK(f1.n == (many(e) ? N + 1 : N));
	CHECK(f1.locked == 1);
	CHECK(f2.n == hat_page_getshare(e->pp[2]));
	hat_unload(e->hat[0], e->far[0], VM_PAGESIZE, HAT_UNLOAD_UNLOCK);
	hat_unload(e->hat[0], va(e, 0, 0), vm_ptob(N), HAT_UNLOAD | HAT_UNLOAD_DISCARD);
	CHECK(consistent(e));
	for (unsigned i = 0; i < N;
	     i++) { /* the contents were discarded, which some machines really do */
		CHECK(hat_page_getshare(e->pp[i]) == 0);
		*(uint8_t *)page_mapin(e->vm, e->pp[i]) = (uint8_t)(0x40 + i);
	}
}

/*
 * Random loads and unloads of many pages and addresses, against a table of the expected
 * translations.
 */
static void test_random(struct env *e)
{
	struct page *at[2][64] = { 0 };
	uint64_t x = 88172645463325252ull;

	for (unsigned round = 0; round < 20000; round++) {
		unsigned h, i, p, n;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		h = x >> 60 & 1;
		i = x >> 20 & 63;
		p = (x >> 30) % N;
		if ((x >> 40) % 16 == 0) {
			hat_pageunload(e->pp[p]);
			for (unsigned k = 0; k < 128; k++)
				at[k & 1][k >> 1] =
				    at[k & 1][k >> 1] == e->pp[p] ? NULL : at[k & 1][k >> 1];
		} else if ((x >> 40) % 16 < 4) {
			n = 1 + (unsigned)(x >> 50) % (64 - i);
			hat_unload(e->hat[h], e->far[h] + i * e->step, n * e->step, HAT_UNLOAD);
			for (unsigned k = i; k < i + n; k++)
				at[h][k] = NULL;
		} else {
			CHECK(hat_memload(e->hat[h], e->far[h] + i * e->step, e->pp[p], PROT_R,
				  HAT_LOAD) == VM_OK);
			for (unsigned k = 0; !many(e) && k < 128; k++)
				at[k & 1][k >> 1] =
				    at[k & 1][k >> 1] == e->pp[p] ? NULL : at[k & 1][k >> 1];
			at[h][i] = e->pp[p];
		}
		h = x & 1;
		i = x >> 8 & 63;
		CHECK(hat_probe(e->hat[h], e->far[h] + i * e->step, NULL) ==
		    (at[h][i] == NULL ? PFN_INVALID : page_pfn(e->vm, at[h][i])));
		CHECK(
		    touch(e, h, e->far[h] + i * e->step, false, at[h][i] == NULL ? VM_NOMAP : VM_OK,
			at[h][i] == NULL ? 0 : (uint8_t)(0x40 + at[h][i]->p_offset / VM_PAGESIZE)));
	}
	CHECK(consistent(e));
}

/* Frames of a device, if the machine has one, are loaded like others and are on no list. */
static void test_device(struct env *e)
{
	struct hat *hat = e->hat[0];
	pfn_t rel = e->caps->mc_nframes; /* what hat_probe says */
	uint64_t dev = e->caps->mc_frame0 + rel;
	vaddr_t at = e->near[0];
	unsigned attr = 0;

	if (hat_devload(hat, at, vm_ptob(4), dev, PROT_R | PROT_W, HAT_LOAD) == VM_NOTSUP)
		return;
	CHECK(hat_devload(hat, at, VM_PAGESIZE, dev - 1, PROT_R, HAT_LOAD) == VM_INVAL);
	CHECK(hat_probe(hat, at + VM_PAGESIZE, &attr) == rel + 1 && (attr & PROT_W));
	CHECK(touch(e, 0, at + VM_PAGESIZE, true, VM_OK, 0x77) &&
	    touch(e, 0, at + VM_PAGESIZE, false, VM_OK, 0x77));
	hat_clrattr(hat, at, vm_ptob(4), PROT_W);
	CHECK(touch(e, 0, at + VM_PAGESIZE, true, VM_PROT, 0));
	CHECK(hat_devload(e->hat[1], at, VM_PAGESIZE, dev + 1, PROT_R, HAT_LOAD | HAT_LOAD_LOCK) ==
	    VM_OK);
	CHECK(touch(e, 1, at, false, VM_OK, 0x77)); /* seen by both */
	hat_sync(hat, at, vm_ptob(4), true);
	hat_swapout(hat);
	hat_swapout(e->hat[1]);
	CHECK(touch(e, 0, at, false, VM_NOMAP, 0) && touch(e, 1, at, false, VM_OK, 0x77));
	hat_unload(e->hat[1], at, VM_PAGESIZE, HAT_UNLOAD_UNLOCK);
	/* a page takes the place of a device's frame and the other way round */
	CHECK(hat_devload(hat, at, VM_PAGESIZE, dev, PROT_R, HAT_LOAD) == VM_OK);
	CHECK(hat_memload(hat, at, e->pp[0], PROT_R, HAT_LOAD) == VM_OK &&
	    hat_page_getshare(e->pp[0]) == 1);
	CHECK(hat_devload(hat, at, VM_PAGESIZE, dev + 2, PROT_R, HAT_LOAD_ADV) == VM_OK);
	CHECK(hat_probe(hat, at, NULL) == page_pfn(e->vm, e->pp[0]));
	CHECK(hat_devload(hat, at, VM_PAGESIZE, dev + 2, PROT_R, HAT_LOAD) == VM_OK);
	CHECK(hat_page_getshare(e->pp[0]) == 0 && hat_probe(hat, at, NULL) == rel + 2);
	hat_unload(hat, at, vm_ptob(4), HAT_UNLOAD);
	CHECK(consistent(e));
}

/* A device below memory and a device in a hole of memory, by their physical addresses. */
static void test_device_below(struct env *e)
{
	const struct mach_caps *c = e->caps;
	vaddr_t at = e->near[0];

	if (c->mc_frame0 > 0) {
		enum vm_err err =
		    hat_devload(e->hat[0], at, VM_PAGESIZE, c->mc_frame0 - 1, PROT_R, HAT_LOAD);

		CHECK(err == VM_OK || err == VM_NOTSUP);
		if (err == VM_OK)
			CHECK(hat_probe(e->hat[0], at, NULL) == (pfn_t)-1);
		hat_unload(e->hat[0], at, VM_PAGESIZE, HAT_UNLOAD);
	}
	if (c->mc_nholes > 0) {
		uint64_t hole = c->mc_frame0 + c->mc_holes[0].mh_first;

		CHECK(hat_devload(e->hat[0], at, VM_PAGESIZE, hole, PROT_R, HAT_LOAD) == VM_OK);
		CHECK(hat_devload(e->hat[0], at + VM_PAGESIZE, vm_ptob(2),
			  hole + c->mc_holes[0].mh_n - 1, PROT_R, HAT_LOAD) == VM_INVAL);
		hat_sync(e->hat[0], at, VM_PAGESIZE, true);
		hat_unload(e->hat[0], at, VM_PAGESIZE, HAT_UNLOAD);
	}
	CHECK(consistent(e));
}

/* ---- the kernel's own space ---- */
static bool kernel_read(struct env *e, unsigned h, vaddr_t at, enum vm_err want, uint8_t byte)
{
	uint8_t b = byte;

	return port_harness.ph_kernel_read == NULL ||
	    (port_harness.ph_kernel_read(e->mach, e->hat[h], at, &b) == want && b == byte);
}

/* A program cannot access the address: it lacks the right, or its root has no translation. */
static bool forbidden(struct env *e, unsigned h, vaddr_t at, bool write)
{
	uint8_t b = 0;

	return port_harness.ph_touch == NULL ||
	    port_harness.ph_touch(e->mach, e->hat[h], at, write, &b) != VM_OK;
}

/*
 * A page loaded in the kernel's space is visible in spaces made before and after, for the kernel
 * alone, and its unload takes effect in all of them.
 */
static void test_kernel_space(struct env *e)
{
	vaddr_t at = e->caps->mc_kernel_min + vm_ptob(511),
		last = e->caps->mc_kernel_max - VM_PAGESIZE;
	struct hat *k;
	struct as *late, *second;
	struct hat *was = e->hat[1];
	unsigned attr;

	if (e->kas == NULL)
		return;
	k = as_hat(e->kas);
	CHECK(as_alloc(e->vm, e->caps->mc_kernel_min, e->caps->mc_kernel_max, &second) == VM_EXIST);
	CHECK(kernel_read(e, 0, at, VM_NOMAP, 0));
	CHECK(hat_memload(k, at, e->pp[0], PROT_R | PROT_W, HAT_LOAD) == VM_OK);
	CHECK(
	    hat_memload(k, at + VM_PAGESIZE, e->pp[1], PROT_R, HAT_LOAD | HAT_LOAD_LOCK) == VM_OK);
	CHECK(hat_memload(k, last, e->pp[2], PROT_R, HAT_LOAD) == VM_OK);
	CHECK(hat_probe(k, at, &attr) == page_pfn(e->vm, e->pp[0]) && (attr & PROT_W) &&
	    hat_page_getshare(e->pp[0]) == 1);
	/* the page is not in the user space */
	CHECK(hat_probe(e->hat[0], at, NULL) == PFN_INVALID);
	CHECK(as_alloc(e->vm, e->caps->mc_user_min, e->caps->mc_user_max, &late) == VM_OK);
	for (unsigned h = 0; h < 3; h++) {
		e->hat[1] = h == 2 ? as_hat(late) : was;
		CHECK(kernel_read(e, h > 0, at, VM_OK, 0x40) &&
		    kernel_read(e, h > 0, at + VM_PAGESIZE, VM_OK, 0x41));
		CHECK(kernel_read(e, h > 0, last, VM_OK, 0x42));
		CHECK(forbidden(e, h > 0, at, false) && forbidden(e, h > 0, at, true));
	}
	e->hat[1] = was;
	hat_pageunload(e->pp[0]);
	hat_swapout(k);
	CHECK(kernel_read(e, 0, at, VM_NOMAP, 0) && kernel_read(e, 1, at, VM_NOMAP, 0));
	CHECK(kernel_read(e, 0, last, VM_NOMAP, 0) &&
	    kernel_read(e, 1, at + VM_PAGESIZE, VM_OK, 0x41));
	/* the tables to which the roots point stay, even if they are empty */
	hat_unload(k, at + VM_PAGESIZE, VM_PAGESIZE, HAT_UNLOAD_UNLOCK);
	CHECK(kernel_read(e, 0, at + VM_PAGESIZE, VM_NOMAP, 0));
	CHECK(hat_memload(k, at + VM_PAGESIZE, e->pp[3], PROT_R, HAT_LOAD) == VM_OK);
	CHECK(kernel_read(e, 0, at + VM_PAGESIZE, VM_OK, 0x43) &&
	    kernel_read(e, 1, at + VM_PAGESIZE, VM_OK, 0x43));
	hat_unload(k, at, vm_ptob(2), HAT_UNLOAD);
	as_free(late);
	CHECK(consistent(e));
}

#include "tests/machine/hat_conform_large.h"

int main(int argc, char **argv)
{
	struct env e;

	if (argc > 1 && (port_harness.ph_option == NULL || !port_harness.ph_option(argv[1]))) {
		fprintf(stderr, "hat_conform: no such machine: %s\n", argv[1]);
		return 2;
	}

	setup(&e);
	test_load(&e);
	test_array(&e);
	test_share(&e);
	test_tryunload(&e);
	test_pages_tryunload(&e);
	test_bits(&e);
	test_lock(&e);
	test_nomem(&e);
	test_foreach(&e);
	test_random(&e);
	test_device(&e);
	test_device_below(&e);
	test_kernel_space(&e);
	test_large(&e);
	test_shared(&e);
	teardown(&e);
	printf("hat_conform on %s%s%s: %s\n", port_harness.ph_name, argc > 1 ? " " : "",
	    argc > 1 ? argv[1] : "", failures == 0 ? "ok" : "FAILED");
	return failures == 0 ? 0 : 1;
}
