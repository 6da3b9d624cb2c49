/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages of an address space are locked.
 *
 * A count for each address, not for each segment, so that splitting and merging segments changes nothing: chunks of
 * LOCK_CHUNK counts in a range index. An entry is the number of soft locks (translation and page stay, until unlocked)
 * and the bit LOCK_WIRED (memory lock: the page stays; does not nest). The page behind an address with a non-zero entry
 * is wired exactly once for it.
 *
 * Locks: a_lockmtx guards chunks and entries. An entry goes from or to zero only with the page locked by the caller, or
 * with a_lock held as writer (aslock_move: the page stays wired once).
 * Chunks are never freed before the space: 0.6 KiB for each MiB in which something was ever locked.
 */
#include "vm/impl.h"

#define LOCK_CHUNK 256u

struct lock_chunk {
	struct range_node lc_node;     /* a_lockmtx */
	uint16_t lc_count[LOCK_CHUNK]; /* a_lockmtx */
};

static struct lock_chunk *chunk_of(struct range_node *n) { return (struct lock_chunk *)(void *)n; }

/* Whether any page was ever locked. If the caller has locked a page, it has the page's entry in
 * place before the flag matters for that page. */
static bool has_locked_pages(struct as *as)
{
	return __atomic_load_n(&as->a_anylock, __ATOMIC_ACQUIRE);
}

static uint16_t *entry_locked(struct as *as, vaddr_t va)
{
	struct range_node *n = range_find(&as->a_lockindex, va);

	VM_ASSERT(mach_mutex_held(&as->a_lockmtx));
	return n != NULL ? &chunk_of(n)->lc_count[vm_btop(va - n->r_base)] : NULL;
}

/* Makes sure that va has an entry: the present one, or a new one from *lc (and *spare, a node of
 * the index, if the index needs one). False: the index needs a node and *spare is NULL. */
static bool make_entry(struct as *as, vaddr_t va, struct lock_chunk **lc, void **spare)
{
	bool room;

	mach_mutex_enter(&as->a_lockmtx);
	room = entry_locked(as, va) != NULL;
	if (!room && *lc != NULL && (room = range_promise(&as->a_lockindex, spare))) {
		range_insert(&as->a_lockindex, &(*lc)->lc_node);
		__atomic_store_n(&as->a_anylock, true, __ATOMIC_RELEASE);
		*lc = NULL;
	}
	mach_mutex_exit(&as->a_lockmtx);
	return room;
}

bool aslock_prepare(struct as *as, vaddr_t va)
{
	struct lock_chunk *lc = NULL;
	void *spare = NULL;
	bool room = make_entry(as, va, &lc, &spare);

	if (room)
		return true;
	if ((lc = kmem_zalloc(as->a_vm, sizeof(*lc), KM_SLEEP)) == NULL)
		return false;
	lc->lc_node.r_base = va & ~(vm_ptob(LOCK_CHUNK) - 1);
	lc->lc_node.r_end = lc->lc_node.r_base + vm_ptob(LOCK_CHUNK);
	while (!(room = make_entry(as, va, &lc, &spare)) && (spare = range_spare(as->a_vm)) != NULL)
		;
	if (lc != NULL)
		kmem_free(as->a_vm, lc, sizeof(*lc));
	range_spare_free(as->a_vm, spare);
	return room;
}

unsigned aslock_get(struct as *as, vaddr_t va)
{
	unsigned v = 0;

	if (!has_locked_pages(as))
		return 0;
	mach_mutex_enter(&as->a_lockmtx);
	const uint16_t *e = entry_locked(as, va);
	if (e != NULL)
		v = *e;
	mach_mutex_exit(&as->a_lockmtx);
	return v;
}

static enum vm_err add_locked(struct as *as, vaddr_t va, struct page *pp, bool wired)
{
	uint16_t *e = entry_locked(as, va);
	enum vm_err err;

	VM_ASSERT(mach_mutex_held(&as->a_lockmtx));
	VM_ASSERT(e != NULL);
	if (wired && (*e & LOCK_WIRED) != 0)
		return VM_OK;
	if (!wired && (*e & LOCK_SOFT) == LOCK_SOFT)
		return VM_LIMIT;
	if (wired && !as_charge_wired(as))
		return VM_LIMIT;
	if (*e == 0 && (err = page_wire(as->a_vm, pp)) != VM_OK) {
		if (wired)
			as_uncharge_wired(as);
		return err;
	}
	if (wired) {
		*e |= LOCK_WIRED;
	} else {
		(*e)++;
	}
	return VM_OK;
}

enum vm_err aslock_add(struct as *as, vaddr_t va, struct page *pp, bool wired)
{
	mach_mutex_enter(&as->a_lockmtx);
	enum vm_err e = add_locked(as, va, pp, wired);
	mach_mutex_exit(&as->a_lockmtx);
	return e;
}

unsigned aslock_del(struct as *as, vaddr_t va, struct page *pp, bool wired)
{
	mach_mutex_enter(&as->a_lockmtx);
	uint16_t *e = entry_locked(as, va);
	unsigned was = e != NULL ? *e : 0, left = was;
	if (wired && (was & LOCK_WIRED) != 0) {
		left = was & ~LOCK_WIRED;
		as_uncharge_wired(as);
	} else if (!wired && (was & LOCK_SOFT) != 0) {
		left = was - 1;
	}
	if (e != NULL)
		*e = (uint16_t)left;
	if (was != 0 && left == 0)
		page_unwire(as->a_vm, pp);
	mach_mutex_exit(&as->a_lockmtx);
	return left;
}

void aslock_move(struct as *as, vaddr_t from, vaddr_t to)
{
	mach_mutex_enter(&as->a_lockmtx);
	uint16_t *f = entry_locked(as, from), *t = entry_locked(as, to);
	VM_ASSERT(f != NULL && t != NULL && *t == 0);
	*t = *f;
	*f = 0;
	mach_mutex_exit(&as->a_lockmtx);
}

static bool next_locked(struct as *as, vaddr_t *va, vaddr_t end, unsigned mask)
{
	struct range_node *n = range_find_ge(&as->a_lockindex, *va);

	VM_ASSERT(mach_mutex_held(&as->a_lockmtx));
	for (; n != NULL && n->r_base < end; n = range_next(&as->a_lockindex, n)) {
		vaddr_t at = *va > n->r_base ? *va : n->r_base;

		for (; at < n->r_end && at < end; at += VM_PAGESIZE)
			if ((chunk_of(n)->lc_count[vm_btop(at - n->r_base)] & mask) != 0) {
				*va = at;
				return true;
			}
	}
	return false;
}

bool aslock_next(struct as *as, vaddr_t *va, vaddr_t end, unsigned mask)
{
	if (!has_locked_pages(as))
		return false;
	mach_mutex_enter(&as->a_lockmtx);
	bool yes = next_locked(as, va, end, mask);
	mach_mutex_exit(&as->a_lockmtx);
	return yes;
}

void aslock_free(struct as *as)
{
	struct range_node *n;

	while ((n = range_find_ge(&as->a_lockindex, 0)) != NULL) {
		range_remove(&as->a_lockindex, n);
		range_unreserve(&as->a_lockindex, as->a_vm);
		kmem_free(as->a_vm, chunk_of(n), sizeof(struct lock_chunk));
	}
}
