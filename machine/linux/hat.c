/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HAT of the Linux machine. Loading a translation moves the frame's page from its arena slot to the program's address,
 * unloading moves it back; a move is atomic against the program's threads, so no write is ever lost. A frame is at one
 * address at a time (mc_max_mappings 1).
 *
 * f1: a table of three levels by page number, frame + 1 or 0. f2: p_hat[0] = the hat | locked, p_hat[1] = address |
 * attributes | loaded | whether it was writable since, and summed before. Both change together.
 *
 * Write-protected loads are copied in (the kernel can make a copy appear protected from the start, but not a moved page:
 * between moving and protecting, another thread could write to a page that the core believes clean), then the slot is
 * emptied. Runs of adjacent frames at adjacent addresses move in one call.
 *
 * The kernel may refuse to move three kinds of pages: a page shared with a forked process; a page
 * pinned by a device or a system call (O_DIRECT, process_vm_writev, a buffer registered with
 * io_uring); a page locked by the program. For a shared page and for a pinned page the kernel gives
 * the same error. Reading a byte of a shared page through a pin of our own makes the kernel give
 * this process its own copy, so a page that still does not move is pinned. Page-out leaves a pinned
 * page where it is (hat_pages_tryunload, hat_swapout): a later write through the pin would go to a
 * page that belongs to no program any more. A page that must be unloaded although it is pinned or
 * locked is frozen by write protection, read, and dropped. A page that cannot be moved in is copied
 * in.
 *
 * Lock: m_hatlock (all of a machine's hats, since a load may take a frame from another hat) guards
 * everything here. Modification: the machine has no modification bits. A clean page is summed
 * (sum.c) before it is loaded writable; unloading sums the page again and reports P_MOD if the sums
 * differ. While nearly all summed pages turn out to be modified, most pages are loaded as modified
 * without a sum: a false P_MOD costs one write, a sum costs time.
 *
 * On a machine with write bits (m_write_bits, scan.c) no translation keeps writers out. A
 * write-protected load is then a plain copy into a range that the kernel itself protects. A page
 * that does not move (locked, or in a protected range) is then unloaded exactly only if the program
 * does not write to the page during that call.
 *
 * Left out: reference bits for reads, device frames, read-less protections (a
 * translation without any right is dropped; the kernel's own protection of the range does that job).
 */
#include <errno.h>
#include <sys/syscall.h>

#include <quire/hat.h>
#include <quire/page.h>
#include <quire/vm.h>

#include "machine/linux/linux_impl.h"

#define VA_BITS 47u
#define LEAF_BITS 11u
#define MID_BITS 12u
#define TOP_BITS 12u
#define LEAF_SPAN (1ull << (LEAF_BITS + VM_PAGESHIFT))
#define MID_SPAN (1ull << (MID_BITS + LEAF_BITS + VM_PAGESHIFT))
_Static_assert(
    LEAF_BITS + MID_BITS + TOP_BITS + VM_PAGESHIFT == VA_BITS, "the table covers every address");

#define SLAB (256u * 1024u)
#define LOCKED 1ull
#define LOADED 8ull
#define ATTRS 7ull
#define WRITABLE                                                                                   \
	16ull /* the translation is writable, or was since it was loaded: the page may have been modified */
#define SUMMED 32ull  /* m_sum has the sum of what the core knows */
#define ARRIVED 64ull /* loaded since the last scan, and its reference was not read since */
#define PINNED 128ull /* the kernel had the page pinned when page-out wanted it last */
#define STALE 256ull  /* not protected since it was loaded or counted as written: see scan.c */
#define PIN_LOOKS                                                                                  \
	16u /* one of PIN_LOOKS looks at PINNED pages asks the kernel, until a page is found unpinned */
#define ATTEMPTS 16u
#define SURE 64u      /* pages that are summed before the share of modified pages is relied on */
#define ASKED_PART 8u /* a scan is due when 1/ASKED_PART of the loaded pages was asked about */
#define PROTECTING 4u /* one of PROTECTING scans protects pages */
#define SAMPLE 64u    /* one of SAMPLE loads is summed all the same */
/* beside HAT_UNLOAD_*: a page that the kernel has pinned stays loaded */
#define UNLOAD_MAY_STAY 0x1000u
#define RUN_MAX 64u /* pages of one load: as many as one I/O brings */

struct leaf {
	uint32_t l_pfn[1u << LEAF_BITS];
};
struct mid {
	struct leaf *m_leaf[1u << MID_BITS];
};
struct slab {
	struct slab *s_next;
	uint64_t s_used;
};

struct hat {
	struct mach *h_mach; /* const, as the next two */
	struct vm *h_vm;
	struct as *h_as;
	struct slab *h_slabs; /* m_hatlock, as everything below */
	/*
	 * pages that were unloaded with a sum, and how many of them were modified; recent pages
	 * count more
	 */
	uint32_t h_summed, h_changed;
	uint32_t h_loads;
	struct mid *h_top[1u << TOP_BITS];
};

static void hat_enter(struct hat *h) { mach_mutex_enter(&h->h_mach->m_hatlock); }
static void hat_leave(struct hat *h) { mach_mutex_exit(&h->h_mach->m_hatlock); }
struct as *linux_hat_space(struct hat *h) { return h->h_as; }

/* ---- the table ---- */
static void *table_alloc(struct hat *h, uint64_t bytes)
{
	struct slab *s = h->h_slabs;

	bytes = (bytes + 63) & ~63ull;
	if (vm_inject_fail(h->h_vm, VM_INJECT_HAT))
		return NULL;
	if (s == NULL || s->s_used + bytes > SLAB) {
		s = linux_mmap(SLAB);
		if (s == NULL)
			return NULL;
		s->s_next = h->h_slabs;
		s->s_used = 64;
		h->h_slabs = s;
	}
	s->s_used += bytes;
	return (char *)s + s->s_used - bytes;
}

static uint32_t *entry_of(struct hat *h, vaddr_t va, bool create)
{
	struct mid **mp = &h->h_top[(va >> (VA_BITS - TOP_BITS)) & ((1u << TOP_BITS) - 1)];
	struct leaf **lp;

	if (*mp == NULL && (!create || (*mp = table_alloc(h, sizeof **mp)) == NULL))
		return NULL;
	lp = &(*mp)->m_leaf[(va >> (LEAF_BITS + VM_PAGESHIFT)) & ((1u << MID_BITS) - 1)];
	if (*lp == NULL && (!create || (*lp = table_alloc(h, sizeof **lp)) == NULL))
		return NULL;
	return &(*lp)->l_pfn[(va >> VM_PAGESHIFT) & ((1u << LEAF_BITS) - 1)];
}

/* Tables are zeroed before they are linked, and live as long as the hat: no lock for a hint. */
void linux_hat_prefetch(struct hat *h, vaddr_t va)
{
	const uint32_t *e = va < 1ull << VA_BITS ? entry_of(h, va, false) : NULL;

	if (e != NULL)
		__builtin_prefetch(e);
}

/* The next loaded entry at or above *va and below end: *va is set to it. */
static uint32_t *next_entry(struct hat *h, vaddr_t *va, vaddr_t end)
{
	while (*va < end) {
		uint32_t *e;

		if (h->h_top[*va >> (VA_BITS - TOP_BITS)] == NULL) {
			*va = (*va & ~(MID_SPAN - 1)) + MID_SPAN;
			continue;
		}
		e = entry_of(h, *va, false);
		if (e == NULL) {
			*va = (*va & ~(LEAF_SPAN - 1)) + LEAF_SPAN;
			continue;
		}
		if (*e != 0)
			return e;
		*va += VM_PAGESIZE;
	}
	return NULL;
}

static struct page *page_at(struct hat *h, const uint32_t *e) { return page_of(h->h_vm, *e - 1); }
static bool is_loaded(const struct page *pp) { return (pp->p_hat[1] & LOADED) != 0; }
static bool is_locked(const struct page *pp) { return (pp->p_hat[0] & LOCKED) != 0; }
static struct hat *page_hat(const struct page *pp)
{
	return (struct hat *)(pp->p_hat[0] & ~LOCKED);
}
static vaddr_t page_va(const struct page *pp) { return pp->p_hat[1] & ~VM_PAGEMASK; }

static void link_entry(struct hat *h, vaddr_t va, uint32_t *e, struct page *pp, unsigned attr,
    unsigned flags, uint64_t state)
{
	*e = page_pfn(h->h_vm, pp) + 1;
	h->h_mach->m_nloaded++;
	pp->p_hat[1] = va | LOADED | ARRIVED | STALE | (attr & ATTRS) | state;
	__atomic_store_n(&pp->p_hat[0], (uint64_t)h | ((flags & HAT_LOAD_LOCK) != 0 ? LOCKED : 0),
	    __ATOMIC_RELEASE);
}

static void unlink_entry(struct hat *h, uint32_t *e)
{
	struct page *pp = page_at(h, e);

	h->h_mach->m_nloaded--;
	*e = 0;
	pp->p_hat[1] = 0;
	__atomic_store_n(&pp->p_hat[0], 0, __ATOMIC_RELEASE);
}

/* ---- reference: written pages. See scan.c ---- */
static void note_written(struct hat *h, uint64_t from, uint64_t end, bool protected)
{
	for (vaddr_t va = from; va < end; va += VM_PAGESIZE) {
		uint32_t *e = entry_of(h, va, false);
		struct page *pp;

		if (e == NULL || *e == 0)
			continue;
		pp = page_at(h, e);
		if ((pp->p_hat[1] & STALE) == 0)
			page_nrm_set(pp, P_REF);
		pp->p_hat[1] = (pp->p_hat[1] & ~(ARRIVED | STALE)) | (protected ? 0 : STALE);
	}
}

/*
 * The policy reads and clears the reference of a loaded page. A page loaded since the last scan has
 * no reference bit yet: the page counts as used, once.
 */
static void tell_referenced(struct mach *m, struct page *pp)
{
	if (!m->m_write_bits || m->m_pagemap < 0)
		return;
	if (++m->m_asked > m->m_nloaded / ASKED_PART) {
		m->m_asked = 0;
		linux_scan_written(m, ++m->m_scans % PROTECTING == 0, note_written);
	}
	if ((pp->p_hat[1] & ARRIVED) != 0)
		page_nrm_set(pp, P_REF);
	pp->p_hat[1] &= ~ARRIVED;
}

void linux_expect_replacement(struct mach *m)
{
	if (!m->m_write_bits || m->m_pagemap < 0)
		return;
	mach_mutex_enter(&m->m_hatlock);
	if (m->m_scans == 0) {
		m->m_scans = PROTECTING;
		/* makes the next call of hat_pagesync scan */
		m->m_asked = m->m_nloaded;
		linux_scan_written(m, true, note_written);
	}
	mach_mutex_exit(&m->m_hatlock);
}

/* ---- modification ---- */
/*
 * Returns the new state of a page that is about to become writable; its contents are at `at`, and
 * no thread can write them yet.
 */
static uint64_t watch_writes(struct hat *h, struct page *pp, uint64_t at)
{
	if ((page_nrm(pp) & P_MOD) == 0 && h->h_summed >= SURE &&
	    h->h_summed - h->h_changed < h->h_summed / 10 && ++h->h_loads % SAMPLE != 0)
		page_nrm_set(pp, P_MOD);
	if ((page_nrm(pp) & P_MOD) != 0)
		return WRITABLE;
	h->h_mach->m_sum[page_pfn(h->h_vm, pp)] = sum_page(h->h_mach, (const void *)at);
	return WRITABLE | SUMMED;
}

/* Counts whether a page with a sum turned out to be modified. */
static void count_sum(struct hat *h, bool changed)
{
	h->h_changed += changed;
	if (++h->h_summed >= 4 * SURE) {
		h->h_summed /= 2;
		h->h_changed /= 2;
	}
}

/*
 * If the loaded page, whose contents are at `at` now, was modified, it gets P_MOD. clear: from here
 * on only later changes count. A page that is known to be modified keeps no sum: the core may have
 * written the modified contents back, so equal to the old sum does not mean clean.
 */
static void gather_mod(struct hat *h, struct page *pp, uint64_t at, bool clear)
{
	struct sum *s = &h->h_mach->m_sum[page_pfn(h->h_vm, pp)], now = { 0, 0 };
	bool summed = (pp->p_hat[1] & SUMMED) != 0, known = !summed || (page_nrm(pp) & P_MOD) != 0;

	if ((pp->p_hat[1] & WRITABLE) == 0)
		return;
	if (!known || clear)
		now = sum_page(h->h_mach, (const void *)at);
	if (!known)
		count_sum(h, now.lo != s->lo || now.hi != s->hi);
	if (known || now.lo != s->lo || now.hi != s->hi) {
		page_nrm_set(pp, P_MOD);
		pp->p_hat[1] &= ~SUMMED;
	}
	if (clear) {
		*s = now;
		pp->p_hat[1] |= SUMMED;
	}
}

/* ---- moving contents in; out: out.c ---- */
/* Removes what keeps a page from being moved or copied in. False: give up. */
static bool clear_way(vaddr_t va, uint64_t slot, int rc)
{
	volatile uint8_t *p = (volatile uint8_t *)slot;

	switch (rc) {
	case -ENOENT: /* an empty slot: a zero page */
	case -EBUSY:  /* shared since a fork: a write gives this process its own copy */
		*p = *p;
		return true;
	case -EEXIST: /* the memory at that address belongs to no frame */
		linux_drop(va, VM_PAGESIZE);
		return true;
	default: return false;
	}
}

/*
 * One step of a load: frames from pfn, at most `most` bytes, to va. Sets the bytes that were wanted
 * and done. Memory in arena slots is moved, or copied and dropped; staged contents and zeroes are
 * copied.
 */
static int step_in(struct mach *m, vaddr_t va, pfn_t pfn, uint64_t most, bool protect, bool *copy,
    uint64_t *want, uint64_t *done)
{
	uint64_t from;
	bool slots;
	int rc;

	*want = vm_ptob(frame_run(m, pfn, vm_btop(most), &from));
	slots = from == arena_slot(m, pfn);
	if (slots && !*copy)
		return uffd_move(m, va, from, *want, done);
	*copy = true;
	rc = uffd_copy(m, va, from, *want, protect, done);
	if (slots)
		linux_drop(from, *done);
	else
		stage_leave(m, pfn, vm_btop(*done));
	return rc;
}

/*
 * Moves or copies the contents of n adjacent frames to va. Returns how many pages from the start
 * are loaded now; sets *err if some are not.
 */
static uint64_t move_in(
    struct mach *m, vaddr_t va, pfn_t pfn, uint64_t n, bool writable, enum vm_err *err)
{
	uint64_t want, done, at = 0, len = vm_ptob(n), step = len;
	bool must_copy = !writable || !m->m_move;
	int rc;

	for (unsigned tries = 0; at < len;) {
		bool copy = must_copy;

		rc =
		    step_in(m, va + at, pfn + (pfn_t)vm_btop(at), len - at < step ? len - at : step,
			!writable && !m->m_write_bits, &copy, &want, &done);
		if (done > 0)
			tries = 0;
		at += done;
		if (done == want) {
			step = step > len / 2 ? len : 2 * step;
			continue;
		}
		if (rc == (copy ? -ENOENT : -EINVAL) &&
		    want > VM_PAGESIZE) { /* two mappings, perhaps */
			step = vm_page_trunc(want / 2);
			continue;
		}
		if (++tries < ATTEMPTS) {
			if (rc == -EINVAL && !copy)
				must_copy = true;
			else if (!clear_way(va + at, arena_slot(m, pfn) + at,
				     copy && rc == -ENOENT ? -ESRCH : rc))
				tries = ATTEMPTS;
		}
		if (tries >= ATTEMPTS) {
			*err = rc == -EAGAIN || rc == -EEXIST ? VM_RETRY : VM_NOMEM;
			break;
		}
	}
	n = vm_btop(at);
	frame_set(m, pfn, n, FRAME_EMPTY);
	return n;
}

/* ---- unloading ---- */
/*
 * Returns how many pages from va (entry e) to end may be unloaded together. adjacent: their frames
 * must be adjacent, too.
 */
static uint64_t run_at(
    struct hat *h, vaddr_t va, const uint32_t *e, vaddr_t end, unsigned flags, bool adjacent)
{
	pfn_t pfn = *e - 1;
	uint64_t n = 0;

	while (e != NULL && *e != 0 && (!adjacent || *e == pfn + n + 1) &&
	    ((flags & HAT_UNLOAD_UNLOCK) != 0 || !is_locked(page_at(h, e)))) {
		n++;
		if (va + vm_ptob(n) >= end)
			break;
		e = entry_of(h, va + vm_ptob(n), false);
	}
	return n;
}

static void unlink_run(struct hat *h, vaddr_t va, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		unlink_entry(h, entry_of(h, va + vm_ptob(i), false));
}

/*
 * Unloads the run of adjacent frames that starts at va (entry e), up to end; returns the address after what is unloaded:
 * va itself if UNLOAD_MAY_STAY and the first page is pinned.
 */
static vaddr_t unload_run(struct hat *h, vaddr_t va, const uint32_t *e, vaddr_t end, unsigned flags)
{
	pfn_t pfn = *e - 1;
	uint64_t n = run_at(h, va, e, end, flags, true);

	n = linux_take_out(h->h_mach, va, pfn, n, (flags & UNLOAD_MAY_STAY) != 0);
	for (uint64_t i = 0; i < n; i++)
		gather_mod(h, page_of(h->h_vm, pfn + (pfn_t)i),
		    arena_slot(h->h_mach, pfn + (pfn_t)i), false);
	unlink_run(h, va, n);
	return va + vm_ptob(n);
}

/*
 * Discards contents that the core does not want, with one call for a whole run of pages: the slots
 * of loaded frames are empty already.
 */
static vaddr_t discard_run(
    struct hat *h, vaddr_t va, const uint32_t *e, vaddr_t end, unsigned flags)
{
	uint64_t n = run_at(h, va, e, end, flags, false);

	linux_drop(va, vm_ptob(n));
	unlink_run(h, va, n);
	return va + vm_ptob(n);
}

static void unload_range(struct hat *h, vaddr_t va, vaddr_t end, unsigned flags)
{
	uint32_t *e;

	while ((e = next_entry(h, &va, end)) != NULL) {
		vaddr_t next = va;

		if ((flags & HAT_UNLOAD_UNLOCK) != 0 || !is_locked(page_at(h, e)))
			next = (flags & HAT_UNLOAD_DISCARD) != 0 ? discard_run(h, va, e, end, flags)
								 : unload_run(h, va, e, end, flags);
		va = next > va ? next : va + VM_PAGESIZE;
	}
}

static vaddr_t clamp_end(vaddr_t va, uint64_t len)
{
	vaddr_t max = 1ull << VA_BITS;

	return va >= max || len > max - va ? max : va + len;
}

void hat_unload(struct hat *h, vaddr_t va, uint64_t len, unsigned flags)
{
	hat_enter(h);
	unload_range(h, va, clamp_end(va, len), flags);
	hat_leave(h);
}

/* Unloads the page from the space and address at which it is loaded. False: UNLOAD_MAY_STAY was given, and the kernel has the page pinned. m_hatlock. */
static bool unload_page(struct page *pp, unsigned flags)
{
	struct hat *h = page_hat(pp);
	vaddr_t va = page_va(pp);

	return unload_run(
		   h, va, entry_of(h, va, false), va + VM_PAGESIZE, HAT_UNLOAD_UNLOCK | flags) > va;
}

/* ---- life ---- */
enum vm_err hat_alloc(struct vm *vm, struct as *as, bool kernel, struct hat **hp)
{
	struct hat *h = kernel || vm_inject_fail(vm, VM_INJECT_HAT) ? NULL : linux_mmap(sizeof *h);

	if (h == NULL)
		return VM_NOMEM;
	h->h_mach = vm_machine(vm);
	h->h_vm = vm;
	h->h_as = as;
	*hp = h;
	return VM_OK;
}

void hat_free_start(struct hat *h)
{
	(void)h; /* the segments remove the translations, hat_free_end frees the rest */
}

void hat_free_end(struct hat *h)
{
	struct slab *s;

	hat_unload(h, 0, 1ull << VA_BITS, HAT_UNLOAD_UNLOCK);
	while ((s = h->h_slabs) != NULL) {
		h->h_slabs = s->s_next;
		linux_munmap(s, SLAB);
	}
	linux_munmap(h, sizeof *h);
}

enum vm_err hat_dup(struct hat *parent, struct hat *child)
{
	(void)parent;
	(void)child;
	return VM_OK;
}

void hat_swapout(struct hat *h) { hat_unload(h, 0, 1ull << VA_BITS, HAT_UNLOAD | UNLOAD_MAY_STAY); }

/* ---- loading ---- */
static void set_attr(struct hat *h, vaddr_t va, struct page *pp, unsigned attr)
{
	uint64_t old = pp->p_hat[1] & ATTRS;

	if ((pp->p_hat[1] & WRITABLE) == 0 && (attr & PROT_W) != 0)
		pp->p_hat[1] |= watch_writes(h, pp, va);
	if ((old & PROT_W) != (attr & PROT_W))
		(void)uffd_protect(h->h_mach, va, VM_PAGESIZE, (attr & PROT_W) == 0);
	pp->p_hat[1] = (pp->p_hat[1] & ~ATTRS) | (attr & ATTRS);
}

enum ready { READY_DONE, READY_MOVE, READY_STOP };

/* Unloads any other translation at va and any other translation of the frame. */
static enum ready make_ready(
    struct hat *h, vaddr_t va, uint32_t *e, struct page *pp, unsigned attr, unsigned flags)
{
	if (is_loaded(pp) && page_hat(pp) == h && page_va(pp) == va) {
		if ((flags & HAT_LOAD_LOCK) != 0)
			pp->p_hat[0] |= LOCKED;
		if ((flags & HAT_LOAD_ADV) == 0)
			set_attr(h, va, pp, attr);
		return READY_DONE;
	}
	if ((flags & HAT_LOAD_ADV) != 0 && (*e != 0 || is_loaded(pp)))
		return READY_STOP;
	if ((is_loaded(pp) && is_locked(pp)) || (*e != 0 && is_locked(page_at(h, e))))
		return READY_STOP;
	if (is_loaded(pp))
		(void)unload_page(pp, 0);
	if (*e != 0)
		(void)unload_run(h, va, e, va + VM_PAGESIZE, HAT_UNLOAD);
	return READY_MOVE;
}

static enum vm_err adopt_here(struct hat *h, vaddr_t va, pfn_t pfn, unsigned attr)
{
	struct mach *m = h->h_mach;

	if (frame_state(m, pfn) != FRAME_EMPTY)
		mach_frame_discard(m, pfn, 1);
	if ((attr & PROT_W) == 0 && uffd_protect(m, va, VM_PAGESIZE, true) != 0)
		return VM_NOMEM;
	return VM_OK;
}

/*
 * Decides the entries of the n pages of a load: a page is summed before it can be written. An
 * adopted page counts as modified: its contents exist nowhere else.
 */
static void states_of_load(
    struct hat *h, struct page **pps, size_t n, unsigned attr, unsigned flags, uint8_t *state)
{
	for (size_t i = 0; i < n; i++) {
		if ((flags & HAT_LOAD_PRESENT) != 0)
			page_nrm_set(pps[i], P_MOD);
		/* With write bits, no fault tells when such a translation becomes writable. */
		state[i] = (attr & PROT_W) == 0 && !h->h_mach->m_write_bits
		    ? 0
		    : (uint8_t)watch_writes(
			  h, pps[i], frame_at(h->h_mach, page_pfn(h->h_vm, pps[i])));
	}
}

/*
 * Loads the adjacent frames of pps[0..n) at va. Returns how many pages from the start are loaded;
 * at least one, or *err is set.
 */
static size_t load_run(struct hat *h, vaddr_t va, struct page **pps, size_t n, unsigned attr,
    unsigned flags, enum vm_err *err)
{
	pfn_t pfn = page_pfn(h->h_vm, pps[0]);
	uint8_t state[RUN_MAX];
	size_t run = 0, got;
	uint32_t *e;

	if (n > RUN_MAX)
		n = RUN_MAX;
	for (; run < n && page_pfn(h->h_vm, pps[run]) == pfn + run; run++) {
		vaddr_t at = va + vm_ptob(run);
		enum ready r;

		e = entry_of(h, at, true);
		if (e == NULL) {
			*err = VM_NOMEM;
			break;
		}
		r = make_ready(h, at, e, pps[run], attr, flags);
		if (r == READY_DONE && run == 0)
			return 1;
		if (r == READY_STOP)
			*err = VM_RETRY;
		if (r != READY_MOVE)
			break;
	}
	if (run == 0)
		return 0;
	states_of_load(h, pps, run, attr, flags, state);
	if ((flags & HAT_LOAD_PRESENT) != 0) {
		for (got = 0; got < run; got++)
			if ((*err = adopt_here(h, va + vm_ptob(got), pfn + (pfn_t)got, attr)) !=
			    VM_OK)
				break;
	} else {
		got = move_in(h->h_mach, va, pfn, run, (attr & PROT_W) != 0, err);
	}
	for (size_t i = 0; i < got; i++)
		link_entry(h, va + vm_ptob(i), entry_of(h, va + vm_ptob(i), false), pps[i], attr,
		    flags, state[i]);
	return got;
}

enum vm_err hat_memload_array(struct hat *h, vaddr_t va, struct page **pps, size_t n, unsigned attr,
    unsigned flags, size_t *done)
{
	enum vm_err err = VM_OK;

	*done = 0;
	if (HAT_LOAD_SIZE(flags) != 0)
		return VM_NOTSUP;
	hat_enter(h);
	for (*done = 0; *done < n && err == VM_OK;) {
		size_t got;

		got = load_run(h, va + vm_ptob(*done), pps + *done, n - *done, attr, flags, &err);
		*done += got;
		/*
		 * A page inside the run that stopped it is tried again as the first page of the
		 * next run.
		 */
		if (got > 0)
			err = VM_OK;
	}
	hat_leave(h);
	return (flags & HAT_LOAD_ADV) != 0 ? VM_OK : err;
}

enum vm_err hat_memload(struct hat *h, vaddr_t va, struct page *pp, unsigned attr, unsigned flags)
{
	size_t done;

	return hat_memload_array(h, va, &pp, 1, attr, flags, &done);
}

enum vm_err hat_devload(
    struct hat *h, vaddr_t va, uint64_t len, uint64_t devframe, unsigned attr, unsigned flags)
{
	(void)h;
	(void)va;
	(void)len;
	(void)devframe;
	(void)attr;
	(void)flags;
	return VM_NOTSUP;
}

void hat_unlock(struct hat *h, vaddr_t va, uint64_t len)
{
	vaddr_t end = clamp_end(va, len);
	uint32_t *e;

	hat_enter(h);
	for (; (e = next_entry(h, &va, end)) != NULL; va += VM_PAGESIZE)
		page_at(h, e)->p_hat[0] &= ~LOCKED;
	hat_leave(h);
}

/* ---- attributes ---- */
/* One call of the kernel for each run of pages that could be written. */
void hat_clrattr(struct hat *h, vaddr_t va, uint64_t len, unsigned attr)
{
	vaddr_t end = clamp_end(va, len), from = 0, to = 0;
	uint32_t *e;

	hat_enter(h);
	for (; (e = next_entry(h, &va, end)) != NULL; va += VM_PAGESIZE) {
		struct page *pp = page_at(h, e);
		bool writable = (pp->p_hat[1] & attr & PROT_W) != 0;

		pp->p_hat[1] &= ~(uint64_t)(attr & ATTRS);
		if (!writable)
			continue;
		if (to != va) {
			if (to > from)
				(void)uffd_protect(h->h_mach, from, to - from, true);
			from = va;
		}
		to = va + VM_PAGESIZE;
	}
	if (to > from)
		(void)uffd_protect(h->h_mach, from, to - from, true);
	hat_leave(h);
}

void hat_sync(struct hat *h, vaddr_t va, uint64_t len, bool clear)
{
	vaddr_t end = clamp_end(va, len);
	uint32_t *e;

	hat_enter(h);
	for (; (e = next_entry(h, &va, end)) != NULL; va += VM_PAGESIZE)
		gather_mod(h, page_at(h, e), va, clear);
	hat_leave(h);
}

pfn_t hat_probe(struct hat *h, vaddr_t va, unsigned *attr)
{
	pfn_t pfn = PFN_INVALID;
	uint32_t *e;

	hat_enter(h);
	if (va < 1ull << VA_BITS && (e = entry_of(h, va, false)) != NULL && *e != 0) {
		pfn = *e - 1;
		if (attr != NULL)
			*attr = (unsigned)(page_at(h, e)->p_hat[1] & ATTRS);
	}
	hat_leave(h);
	return pfn;
}

/* ---- pages ---- */
/* A page without a name has no translation: only named pages are loaded. */
static struct mach *page_enter(const struct page *pp)
{
	struct mach *m;

	if (__atomic_load_n(&pp->p_hat[0], __ATOMIC_ACQUIRE) == 0)
		return NULL;
	m = vm_machine(page_vm(pp));
	mach_mutex_enter(&m->m_hatlock);
	return m;
}

void hat_pageunload(struct page *pp)
{
	struct mach *m = page_enter(pp);

	if (m == NULL)
		return;
	if (is_loaded(pp))
		(void)unload_page(pp, 0);
	mach_mutex_exit(&m->m_hatlock);
}

/*
 * Finding out that a page is pinned takes three system calls, and where much memory is pinned
 * page-out meets mostly pinned pages. m_hatlock.
 */
static bool unload_unpinned(struct mach *m, struct page *pp)
{
	bool was = (pp->p_hat[1] & PINNED) != 0;

	if (was && !m->m_unpinning && ++m->m_pinlooks % PIN_LOOKS != 0) {
		m->m_pinned++;
		return false;
	}
	if (unload_page(pp, UNLOAD_MAY_STAY)) {
		m->m_unpinning = was || m->m_unpinning;
		return true;
	}
	pp->p_hat[1] |= PINNED;
	m->m_unpinning = false;
	return false;
}

static bool unload_one(struct page *pp)
{
	struct mach *m = page_enter(pp);
	bool out = true;

	if (m == NULL)
		return true;
	if (is_loaded(pp))
		out = unload_unpinned(m, pp);
	mach_mutex_exit(&m->m_hatlock);
	return out;
}

/* The kernel flushes for each call; frames of neighbours do not lie together, so each page is a
 * call, and the lock is free between them. */
uint32_t hat_pages_tryunload(struct page **pages, uint32_t n)
{
	uint32_t out = 0;

	for (uint32_t i = 0; i < n; i++) {
		struct page *pp = pages[i];

		if (!unload_one(pp))
			continue;
		pages[i] = pages[out];
		pages[out++] = pp;
	}
	return out;
}

unsigned hat_pagesync(struct page *pp, bool clear_ref, bool clear_mod)
{
	struct mach *m = page_enter(pp);

	if (m != NULL) {
		if (clear_ref && is_loaded(pp))
			tell_referenced(m, pp);
		/*
		 * Summing the page whenever the policy asks would cost too much: unloading sums it.
		 */
		if (is_loaded(pp) && (clear_mod || !clear_ref || !m->m_write_bits))
			gather_mod(page_hat(pp), pp, page_va(pp), clear_mod);
		mach_mutex_exit(&m->m_hatlock);
	}
	return page_nrm(pp) & (P_REF | P_MOD);
}

void hat_page_clrwrt(struct page *pp)
{
	struct mach *m = page_enter(pp);

	if (m == NULL)
		return;
	if (is_loaded(pp))
		set_attr(page_hat(pp), page_va(pp), pp, (unsigned)(pp->p_hat[1] & ATTRS) & ~PROT_W);
	mach_mutex_exit(&m->m_hatlock);
}

unsigned hat_page_getshare(struct page *pp)
{
	return __atomic_load_n(&pp->p_hat[0], __ATOMIC_ACQUIRE) != 0;
}

void hat_foreach(struct hat *h, void (*cb)(void *, vaddr_t, pfn_t, unsigned, bool), void *arg)
{
	uint32_t *e;

	for (vaddr_t va = 0; (e = next_entry(h, &va, 1ull << VA_BITS)) != NULL; va += VM_PAGESIZE) {
		struct page *pp = page_at(h, e);

		cb(arg, va, *e - 1, (unsigned)(pp->p_hat[1] & ATTRS), is_locked(pp));
	}
}

void hat_page_foreach(struct page *pp, void (*cb)(void *, struct hat *, vaddr_t), void *arg)
{
	if (is_loaded(pp))
		cb(arg, page_hat(pp), page_va(pp));
}

unsigned hat_check(struct hat *h, void (*report)(void *arg, const char *text), void *arg)
{
	(void)h; /* only a touch shows how the kernel maps a page */
	(void)report;
	(void)arg;
	return 0;
}

/* ---- large pages: a frame moves alone ---- */
enum vm_err hat_promote(struct hat *h, vaddr_t va, unsigned size)
{
	(void)h;
	(void)va;
	(void)size;
	return VM_NOTSUP;
}

unsigned hat_mapsize(struct hat *h, vaddr_t va)
{
	return hat_probe(h, va, NULL) == PFN_INVALID ? 0 : VM_PAGESHIFT;
}

/* ---- shared tables: the kernel's are out of reach ---- */
uint64_t hat_share_unit(struct hat *h)
{
	(void)h;
	return 0;
}

enum vm_err hat_share(struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, uint64_t len)
{
	(void)to;
	(void)va;
	(void)from;
	(void)fva;
	(void)len;
	return VM_NOTSUP;
}

void hat_unshare(struct hat *to, vaddr_t va, uint64_t len)
{
	(void)to;
	(void)va;
	(void)len;
}

/* ---- of this port alone ---- */
void linux_range_leave(struct mach *m, struct hat *h, uint64_t addr, uint64_t len)
{
	vaddr_t va = addr, end = clamp_end(addr, len);
	uint32_t *e;

	(void)m;
	hat_enter(h);
	for (; (e = next_entry(h, &va, end)) != NULL; va += VM_PAGESIZE) {
		set_attr(h, va, page_at(h, e), PROT_R | PROT_W);
		unlink_entry(h, e);
	}
	hat_leave(h);
}

int linux_range_protect(struct mach *m, struct hat *h, uint64_t addr, uint64_t len, int prot)
{
	int rc;

	(void)m;
	hat_enter(h);
	rc = (int)sys_call3(SYS_mprotect, (long)addr, (long)len, prot);
	hat_leave(h);
	return rc;
}

#define WINDOW 1024u /* pages looked at together */

void linux_hat_missing(struct hat *h, uint64_t base, uint64_t end)
{
	uint64_t there[WINDOW / 64];
	uint32_t *e;

	hat_enter(h);
	for (vaddr_t at = base; at < end; at += vm_ptob(WINDOW)) {
		vaddr_t to = end - at < vm_ptob(WINDOW) ? end : at + vm_ptob(WINDOW), va = at;

		if (next_entry(h, &va, to) == NULL)
			continue;
		(void)linux_range_present(h->h_mach, at, vm_btop(to - at), there);
		for (va = at; (e = next_entry(h, &va, to)) != NULL; va += VM_PAGESIZE) {
			uint64_t i = vm_btop(va - at);

			if ((there[i / 64] >> (i % 64) & 1) == 0 && !is_locked(page_at(h, e)))
				unlink_entry(h, e);
		}
	}
	hat_leave(h);
}

void linux_hat_refill(struct hat *h, vaddr_t va)
{
	uint64_t done;
	uint32_t *e;

	hat_enter(h);
	e = entry_of(h, va, false);
	if (e != NULL && *e != 0 && !linux_occupied(h->h_mach, va)) {
		struct page *pp = page_at(h, e);

		page_nrm_set(pp, P_MOD);
		pp->p_hat[1] &= ~SUMMED;
		(void)uffd_copy(h->h_mach, va, (uint64_t)h->h_mach->m_zeroes, VM_PAGESIZE,
		    (pp->p_hat[1] & PROT_W) == 0 && !h->h_mach->m_write_bits, &done);
	}
	hat_leave(h);
}

int linux_hat_reprotect(struct hat *h)
{
	uint32_t *e;
	int rc = 0;

	hat_enter(h);
	for (vaddr_t va = 0; rc == 0 && (e = next_entry(h, &va, 1ull << VA_BITS)) != NULL;
	     va += VM_PAGESIZE)
		if ((page_at(h, e)->p_hat[1] & PROT_W) == 0)
			rc = uffd_protect(h->h_mach, va, VM_PAGESIZE, true);
	hat_leave(h);
	return rc;
}
