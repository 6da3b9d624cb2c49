/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HAT for 4-level x86-64 page tables (512 entries of 8 bytes a level), machine-neutral: the tables live in frames of
 * page_kalloc and are read and written through their direct addresses; flushing is the machine's (mmu.h).
 *
 * An entry of a leaf table is a translation if X86_SW_VALID is set; without any right it is not X86_P for the hardware
 * but still loaded for us. Reading follows from any right on this architecture. Each table counts its entries in use in
 * p_hat[0] of its own frame's page structure; a table without entries is taken out and freed, the root excepted.
 *
 * Locks: hs_lock (RANK_HAT) guards all tables of all spaces and the mapping lists. Allocation has lower ranks, so it is
 * done without the lock: a load that needs memory drops out, gets one table or node, and starts again. Tables and nodes
 * to free are collected under the lock and freed after it. Every flush is done before the lock is dropped, and before
 * a table that the hardware could still walk is freed.
 *
 * Invariants (vm_check by hat_foreach and hat_page_foreach): a valid leaf entry of frame f at (hat, va) <=> (hat, va)
 * is on f's mapping list. The reference and modification bits of an entry are OR-ed into the page before it goes.
 *
 * Left out: large pages, the fifth level, a lock per space.
 */
#include "hat/pvlist.h"

#include <quire/hat.h>
#include <quire/kmem.h>
#include <quire/machine.h>
#include <quire/page.h>
#include <quire/vm.h>

#define ENTRIES 512u
#define LEVELS 4u
#define VA_END (1ull << 47)
#define TABLE_BITS (X86_P | X86_W | X86_U)

struct hat {
	struct vm *h_vm;             /* const */
	struct as *h_as;             /* const */
	struct hat_shared *h_shared; /* const */
	pfn_t h_root;                /* const */
	unsigned h_serial;           /* const */
};

/* What an operation collects under the lock for after it. */
struct garbage {
	struct page *g_tables;
	struct pvnode *g_nodes;
};

void hat_shared_init(struct hat_shared *hs, struct mach *m)
{
	*hs = (struct hat_shared){ .hs_mach = m, .hs_caps = mach_caps(m) };
	mach_mutex_init(&hs->hs_lock, RANK_HAT, "hat");
}

pfn_t hat_root(struct hat *hat)
{
	return hat->h_root;
}
struct mach *hat_mach(struct hat *hat)
{
	return hat->h_shared->hs_mach;
}
unsigned hat_serial(struct hat *hat)
{
	return hat->h_serial;
}
struct as *hat_as(struct hat *hat)
{
	return hat->h_as;
}

/* ---- lock and garbage ---- */
static void hat_enter(struct hat_shared *hs)
{
	mach_mutex_enter(&hs->hs_lock);
}

static void hat_exit(struct hat_shared *hs, struct vm *vm, struct garbage *g)
{
	struct page *pp;

	g->g_nodes = pv_trim(hs, hs->hs_nhats == 0 ? 0 : PV_RESERVE);
	mach_mutex_exit(&hs->hs_lock);
	pv_nodes_free(vm, g->g_nodes);
	while ((pp = g->g_tables) != NULL) {
		g->g_tables = (struct page *)(uintptr_t)pp->p_hat[1];
		pp->p_hat[1] = 0;
		page_kfree(vm, pp, 0);
	}
}

/* ---- tables ---- */
static uint64_t *table(const struct hat *hat, pfn_t pfn)
{
	return mach_frame_kva(hat->h_shared->hs_mach, pfn);
}
static pfn_t entry_pfn(uint64_t e)
{
	return (pfn_t)((e & X86_FRAME) >> VM_PAGESHIFT);
}
static unsigned level_shift(unsigned level)
{
	return VM_PAGESHIFT + 9 * level;
}
static unsigned index_at(vaddr_t va, unsigned level)
{
	return (unsigned)(va >> level_shift(level)) & (ENTRIES - 1);
}

/* The leaf entry of va, or NULL and *missing = how many tables are not there. */
static uint64_t *lookup(const struct hat *hat, vaddr_t va, unsigned *missing)
{
	pfn_t pfn = hat->h_root;

	for (unsigned level = LEVELS - 1; level > 0; level--) {
		uint64_t e = table(hat, pfn)[index_at(va, level)];

		if (!(e & X86_P)) {
			*missing = level;
			return NULL;
		}
		pfn = entry_pfn(e);
	}
	return &table(hat, pfn)[index_at(va, 0)];
}

static uint64_t *find_entry(const struct hat *hat, vaddr_t va)
{
	unsigned missing;
	uint64_t *pte = va < VA_END ? lookup(hat, va, &missing) : NULL;

	return pte != NULL && (*pte & X86_SW_VALID) ? pte : NULL;
}

/* The first valid leaf entry at *va or above it, below end; *va is set to its address. */
static uint64_t *next_entry(const struct hat *hat, vaddr_t *va, vaddr_t end)
{
	if (end > VA_END)
		end = VA_END;
	while (*va < end) {
		unsigned missing;
		uint64_t *pte = lookup(hat, *va, &missing);

		if (pte == NULL) {
			*va = ((*va >> level_shift(missing)) + 1) << level_shift(missing);
			continue;
		}
		for (unsigned i = index_at(*va, 0); i < ENTRIES && *va < end; i++, pte++, *va += VM_PAGESIZE)
			if (*pte & X86_SW_VALID)
				return pte;
	}
	return NULL;
}

static struct page *page_of_table(const struct hat *hat, pfn_t pfn)
{
	return page_of(hat->h_vm, pfn);
}

/* Enters a fresh table on the way to va, below the lowest one that is there. */
static void install_table(struct hat *hat, vaddr_t va, struct page *fresh)
{
	pfn_t pfn = hat->h_root;

	for (unsigned level = LEVELS - 1; level > 0; level--) {
		uint64_t *e = &table(hat, pfn)[index_at(va, level)];

		if (!(*e & X86_P)) {
			*e = (uint64_t)page_pfn(hat->h_vm, fresh) << VM_PAGESHIFT | TABLE_BITS;
			page_of_table(hat, pfn)->p_hat[0]++;
			return;
		}
		pfn = entry_pfn(*e);
	}
	mach_panic("hat: no table is missing");
}

/* Takes empty tables on the way to va out, lowest first. Their translations are flushed already. */
static void prune(struct hat *hat, vaddr_t va, struct garbage *g)
{
	pfn_t path[LEVELS];
	unsigned lowest = LEVELS - 1;

	path[lowest] = hat->h_root;
	while (lowest > 0) {
		uint64_t e = table(hat, path[lowest])[index_at(va, lowest)];

		if (!(e & X86_P))
			break;
		path[--lowest] = entry_pfn(e);
	}
	for (unsigned level = lowest; level < LEVELS - 1; level++) {
		struct page *pp = page_of_table(hat, path[level]);

		if (pp->p_hat[0] != 0)
			return;
		table(hat, path[level + 1])[index_at(va, level + 1)] = 0;
		page_of_table(hat, path[level + 1])->p_hat[0]--;
		pp->p_hat[1] = (uint64_t)(uintptr_t)g->g_tables;
		g->g_tables = pp;
	}
}

static struct page *leaf_table_page(const struct hat *hat, vaddr_t va)
{
	pfn_t pfn = hat->h_root;

	for (unsigned level = LEVELS - 1; level > 0; level--)
		pfn = entry_pfn(table(hat, pfn)[index_at(va, level)]);
	return page_of_table(hat, pfn);
}

/* ---- entries ---- */
static uint64_t attr_bits(unsigned attr)
{
	uint64_t bits = X86_U | X86_SW_VALID;

	if (attr & (PROT_R | PROT_W | PROT_X))
		bits |= X86_P;
	if (attr & PROT_W)
		bits |= X86_W;
	if (!(attr & PROT_X))
		bits |= X86_NX;
	return bits;
}

static unsigned bits_attr(uint64_t pte)
{
	if (!(pte & X86_P))
		return 0;
	return PROT_R | (pte & X86_W ? PROT_W : 0) | (pte & X86_NX ? 0 : PROT_X);
}

/* Changes the rights of an entry; true: some were taken, a flush is due. */
static bool set_attr(uint64_t *pte, unsigned attr)
{
	uint64_t old = *pte;

	*pte = (old & ~(X86_P | X86_W | X86_NX)) | attr_bits(attr);
	return (bits_attr(old) & ~bits_attr(*pte)) != 0;
}

/* P_REF and P_MOD that the hardware left in an entry, as far as this machine's bits mean something. */
static unsigned gather(const struct hat *hat, uint64_t pte)
{
	const struct mach_caps *caps = hat->h_shared->hs_caps;
	unsigned nrm =
	    (pte & X86_A && caps->mc_ref_bits ? P_REF : 0) | (pte & X86_D && caps->mc_mod_bits ? P_MOD : 0);

	if (nrm != 0)
		page_nrm_set(page_of(hat->h_vm, entry_pfn(pte)), nrm);
	return nrm;
}

/* Takes a translation out. The caller flushes before it drops the lock. */
static void drop_entry(struct hat *hat, vaddr_t va, uint64_t *pte)
{
	uint64_t old = *pte;
	struct page *pp = page_of(hat->h_vm, entry_pfn(old));

	*pte = 0;
	(void)gather(hat, old);
	leaf_table_page(hat, va)->p_hat[0]--;
	pv_remove(hat->h_shared, pp, hat, va);
	mmu_frame_loaded(hat->h_shared->hs_mach, entry_pfn(old), false);
}

static void drop_one(struct hat *hat, vaddr_t va, uint64_t *pte, struct garbage *g)
{
	drop_entry(hat, va, pte);
	mmu_tlb_flush(hat, va, VM_PAGESIZE);
	prune(hat, va, g);
}

/* ---- life ---- */
enum vm_err hat_alloc(struct vm *vm, struct as *as, struct hat **hatp)
{
	struct hat_shared *hs = mmu_hat_shared(vm_machine(vm));
	struct page *root;
	struct hat *hat;

	if (vm_inject_fail(vm, VM_INJECT_HAT) || (hat = kmem_zalloc(vm, sizeof(*hat), KM_SLEEP)) == NULL)
		return VM_NOMEM;
	if ((root = page_kalloc(vm, 0, PG_WAIT | PG_ZERO)) == NULL) {
		kmem_free(vm, hat, sizeof(*hat));
		return VM_NOMEM;
	}
	*hat = (struct hat){ .h_vm = vm, .h_as = as, .h_shared = hs, .h_root = page_pfn(vm, root) };
	root->p_hat[0] = root->p_hat[1] = 0;
	mmu_root_init(hs->hs_mach, table(hat, hat->h_root));
	hat_enter(hs);
	hat->h_serial = hs->hs_serial++;
	hs->hs_nhats++;
	mach_mutex_exit(&hs->hs_lock);
	*hatp = hat;
	return VM_OK;
}

void hat_free_start(struct hat *hat)
{
	(void)hat; /* translations go with the segments, the rest in hat_free_end */
}

enum vm_err hat_dup(struct hat *parent, struct hat *child)
{
	(void)parent; /* the child faults its translations in */
	(void)child;
	return VM_OK;
}

/* Drops every translation of the range that keep does not spare, flushes, and prunes. */
static void unload_range(struct hat *hat, vaddr_t va, vaddr_t end, uint64_t keep, struct garbage *g)
{
	vaddr_t first = va;
	bool any = false;
	uint64_t *pte;

	for (; (pte = next_entry(hat, &va, end)) != NULL; va += VM_PAGESIZE) {
		if (*pte & keep)
			continue;
		drop_entry(hat, va, pte);
		any = true;
	}
	if (!any)
		return;
	mmu_tlb_flush(hat, first, end - first);
	/* the tables that became empty are those on the way to what was dropped: walk the leaf tables once more */
	for (va = first; va < end && va < VA_END;) {
		unsigned missing = 0;

		if (lookup(hat, va, &missing) != NULL) {
			prune(hat, va, g);
			missing = 1;
		}
		va = ((va >> level_shift(missing)) + 1) << level_shift(missing);
	}
}

void hat_swapout(struct hat *hat)
{
	struct garbage g = { 0 };

	hat_enter(hat->h_shared);
	unload_range(hat, 0, VA_END, X86_SW_LOCKED, &g);
	hat_exit(hat->h_shared, hat->h_vm, &g);
}

void hat_free_end(struct hat *hat)
{
	struct hat_shared *hs = hat->h_shared;
	struct vm *vm = hat->h_vm;
	struct garbage g = { 0 };
	struct page *root = page_of(vm, hat->h_root);

	hat_enter(hs);
	unload_range(hat, 0, VA_END, 0, &g);
	mmu_tlb_flush(hat, 0, UINT64_MAX);
	hs->hs_nhats--;
	root->p_hat[1] = (uint64_t)(uintptr_t)g.g_tables;
	root->p_hat[0] = 0;
	g.g_tables = root;
	hat_exit(hs, vm, &g);
	kmem_free(vm, hat, sizeof(*hat));
}

/* ---- loading ---- */
enum need { NEED_NOTHING, NEED_TABLE, NEED_NODE, NEED_STOP };

/* Makes room on a machine where a frame has few translations: drops the oldest. False: one is locked. */
static bool make_room(struct hat_shared *hs, struct page *pp, struct garbage *g)
{
	while (hs->hs_caps->mc_max_mappings != 0 && pv_count(pp) >= hs->hs_caps->mc_max_mappings) {
		struct pv_cursor c = { 0 };
		uint64_t *pte;
		struct pv pv;

		(void)pv_next(pp, &c, &pv);
		pte = find_entry(pv.pv_hat, pv.pv_va);
		if (*pte & X86_SW_LOCKED)
			return false;
		drop_one(pv.pv_hat, pv.pv_va, pte, g);
	}
	return true;
}

static void replace_rights(struct hat *hat, vaddr_t va, uint64_t *pte, unsigned attr, unsigned flags)
{
	if (flags & HAT_LOAD_LOCK)
		*pte |= X86_SW_LOCKED;
	if (!(flags & HAT_LOAD_ADV) && set_attr(pte, attr))
		mmu_tlb_flush(hat, va, VM_PAGESIZE);
}

/* One load under the lock. NEED_STOP with *err: cannot. */
static enum need load_one(struct hat *hat, vaddr_t va, struct page *pp, unsigned attr, unsigned flags,
    struct garbage *g, enum vm_err *err)
{
	struct hat_shared *hs = hat->h_shared;
	pfn_t pfn = page_pfn(hat->h_vm, pp);
	unsigned missing;
	uint64_t *pte = lookup(hat, va, &missing);

	if (pte == NULL)
		return NEED_TABLE;
	if (*pte & X86_SW_VALID && entry_pfn(*pte) == pfn) {
		replace_rights(hat, va, pte, attr, flags);
		return NEED_NOTHING;
	}
	*err = VM_RETRY;
	if (flags & HAT_LOAD_ADV &&
	    (*pte & X86_SW_VALID ||
		(hs->hs_caps->mc_max_mappings != 0 && pv_count(pp) >= hs->hs_caps->mc_max_mappings)))
		return NEED_STOP;
	if (pv_need_node(hs, pp) && hs->hs_caps->mc_max_mappings != 1)
		return NEED_NODE;
	/* the table may not be pruned under us: count the entry before others are dropped */
	leaf_table_page(hat, va)->p_hat[0]++;
	if (!make_room(hs, pp, g)) {
		leaf_table_page(hat, va)->p_hat[0]--;
		prune(hat, va, g);
		return NEED_STOP;
	}
	if (*pte & X86_SW_VALID) {
		if (*pte & X86_SW_LOCKED)
			mach_panic("hat_memload: a locked translation to another page is there");
		drop_entry(hat, va, pte);
		mmu_tlb_flush(hat, va, VM_PAGESIZE);
	}
	*pte = (uint64_t)pfn << VM_PAGESHIFT | attr_bits(attr) | (flags & HAT_LOAD_LOCK ? X86_SW_LOCKED : 0);
	pv_add(hs, pp, hat, va);
	mmu_frame_loaded(hs->hs_mach, pfn, true);
	return NEED_NOTHING;
}

/* Gets what a load needs, without the lock, and enters it. Returns with the lock held. */
static bool supply(struct hat *hat, vaddr_t va, enum need need, struct garbage *g)
{
	struct hat_shared *hs = hat->h_shared;
	struct page *fresh = NULL;
	struct pvnode *node = NULL;
	bool fail = vm_inject_fail(hat->h_vm, VM_INJECT_HAT);
	unsigned missing;

	hat_exit(hs, hat->h_vm, g);
	if (!fail && need == NEED_TABLE && (fresh = page_kalloc(hat->h_vm, 0, PG_ZERO)) != NULL)
		fresh->p_hat[0] = fresh->p_hat[1] = 0;
	else if (!fail && need == NEED_NODE)
		node = pv_node_alloc(hat->h_vm);
	hat_enter(hs);
	if (node != NULL)
		pv_node_give(hs, node);
	if (fresh != NULL && lookup(hat, va, &missing) == NULL) {
		install_table(hat, va, fresh);
	} else if (fresh != NULL) { /* somebody was faster */
		fresh->p_hat[1] = (uint64_t)(uintptr_t)g->g_tables;
		g->g_tables = fresh;
	}
	return node != NULL || fresh != NULL;
}

enum vm_err hat_memload_array(
    struct hat *hat, vaddr_t va, struct page **pps, size_t n, unsigned attr, unsigned flags, size_t *done)
{
	struct garbage g = { 0 };
	enum vm_err err = VM_OK;
	size_t i = 0;

	if (va >= VA_END || n > (VA_END - va) >> VM_PAGESHIFT)
		mach_panic("hat_memload: address out of range");
	hat_enter(hat->h_shared);
	while (i < n) {
		vaddr_t at = va + vm_ptob(i);
		enum need need = load_one(hat, at, pps[i], attr, flags, &g, &err);

		if (need == NEED_NOTHING) {
			i++;
			continue;
		}
		if (need == NEED_STOP)
			break;
		if (!supply(hat, at, need, &g)) {
			unsigned missing;

			if (lookup(hat, at, &missing) == NULL) /* tables entered half-way stay only if used */
				prune(hat, at, &g);
			err = VM_NOMEM;
			break;
		}
	}
	hat_exit(hat->h_shared, hat->h_vm, &g);
	*done = i;
	return i == n || flags & HAT_LOAD_ADV ? VM_OK : err;
}

enum vm_err hat_memload(struct hat *hat, vaddr_t va, struct page *pp, unsigned attr, unsigned flags)
{
	size_t done;

	return hat_memload_array(hat, va, &pp, 1, attr, flags, &done);
}

enum vm_err hat_devload(
    struct hat *hat, vaddr_t va, uint64_t len, uint64_t devframe, unsigned attr, unsigned flags)
{
	(void)hat;
	(void)va;
	(void)len;
	(void)devframe;
	(void)attr;
	(void)flags;
	return VM_NOTSUP;
}

/* ---- ranges ---- */
void hat_unload(struct hat *hat, vaddr_t va, uint64_t len, unsigned flags)
{
	struct garbage g = { 0 };

	hat_enter(hat->h_shared);
	if (!(flags & HAT_UNLOAD_UNLOCK)) {
		uint64_t *pte;

		for (vaddr_t at = va; (pte = next_entry(hat, &at, va + len)) != NULL; at += VM_PAGESIZE)
			if (*pte & X86_SW_LOCKED)
				mach_panic("hat_unload: a translation is locked");
	}
	unload_range(hat, va, va + len, 0, &g);
	hat_exit(hat->h_shared, hat->h_vm, &g);
}

void hat_unlock(struct hat *hat, vaddr_t va, uint64_t len)
{
	vaddr_t end = va + len;
	uint64_t *pte;

	hat_enter(hat->h_shared);
	for (; (pte = next_entry(hat, &va, end)) != NULL; va += VM_PAGESIZE)
		*pte &= ~X86_SW_LOCKED;
	mach_mutex_exit(&hat->h_shared->hs_lock);
}

/* attr: the new rights, from which clr is taken; keep_old: start from what is there. */
static void change_range(
    struct hat *hat, vaddr_t va, uint64_t len, unsigned attr, unsigned clr, bool keep_old)
{
	vaddr_t first = va, end = va + len;
	bool flush = false;
	uint64_t *pte;

	hat_enter(hat->h_shared);
	for (; (pte = next_entry(hat, &va, end)) != NULL; va += VM_PAGESIZE)
		if (set_attr(pte, (keep_old ? bits_attr(*pte) : attr) & ~clr))
			flush = true;
	if (flush)
		mmu_tlb_flush(hat, first, len);
	mach_mutex_exit(&hat->h_shared->hs_lock);
}

void hat_chgattr(struct hat *hat, vaddr_t va, uint64_t len, unsigned attr)
{
	change_range(hat, va, len, attr, 0, false);
}
void hat_clrattr(struct hat *hat, vaddr_t va, uint64_t len, unsigned attr)
{
	change_range(hat, va, len, 0, attr, true);
}

void hat_sync(struct hat *hat, vaddr_t va, uint64_t len, bool clear)
{
	vaddr_t first = va, end = va + len;
	bool flush = false;
	uint64_t *pte;

	hat_enter(hat->h_shared);
	for (; (pte = next_entry(hat, &va, end)) != NULL; va += VM_PAGESIZE) {
		(void)gather(hat, *pte);
		if (clear && *pte & (X86_A | X86_D)) {
			*pte &= ~(X86_A | X86_D);
			flush = true;
		}
	}
	if (flush)
		mmu_tlb_flush(hat, first, len);
	mach_mutex_exit(&hat->h_shared->hs_lock);
}

pfn_t hat_probe(struct hat *hat, vaddr_t va, unsigned *attr)
{
	uint64_t *pte;
	pfn_t pfn = PFN_INVALID;

	hat_enter(hat->h_shared);
	if ((pte = find_entry(hat, va)) != NULL) {
		pfn = entry_pfn(*pte);
		if (attr != NULL)
			*attr = bits_attr(*pte);
	}
	mach_mutex_exit(&hat->h_shared->hs_lock);
	return pfn;
}

/* ---- pages ---- */
/* A page without a name has no translation: nothing is ever loaded without one. */
static struct hat_shared *page_shared(const struct page *pp)
{
	if (__atomic_load_n(&pp->p_hat[0], __ATOMIC_ACQUIRE) == 0)
		return NULL;
	return mmu_hat_shared(vm_machine(page_vm(pp)));
}

void hat_pageunload(struct page *pp)
{
	struct hat_shared *hs = page_shared(pp);
	struct garbage g = { 0 };

	if (hs == NULL)
		return;
	hat_enter(hs);
	for (;;) {
		struct pv_cursor c = { 0 };
		struct pv pv;

		if (!pv_next(pp, &c, &pv))
			break;
		drop_one(pv.pv_hat, pv.pv_va, find_entry(pv.pv_hat, pv.pv_va), &g);
	}
	hat_exit(hs, page_vm(pp), &g);
}

/* Applies to every entry of the page: gather, then clear the bits; a flush where that took something. */
static unsigned page_bits_clear(struct page *pp, uint64_t clear)
{
	struct hat_shared *hs = page_shared(pp);
	struct pv_cursor c = { 0 };
	unsigned nrm = 0;
	struct pv pv;

	if (hs == NULL)
		return 0;
	hat_enter(hs);
	while (pv_next(pp, &c, &pv)) {
		uint64_t *pte = find_entry(pv.pv_hat, pv.pv_va);

		nrm |= gather(pv.pv_hat, *pte);
		if (*pte & clear) {
			*pte &= ~clear;
			mmu_tlb_flush(pv.pv_hat, pv.pv_va, VM_PAGESIZE);
		}
	}
	mach_mutex_exit(&hs->hs_lock);
	return nrm;
}

unsigned hat_pagesync(struct page *pp, bool clear_ref, bool clear_mod)
{
	return page_bits_clear(pp, (clear_ref ? X86_A : 0) | (clear_mod ? X86_D : 0));
}

/* The modification seen so far is in the page on return, so that who cleans it may clear P_MOD from then on. */
void hat_page_clrwrt(struct page *pp)
{
	(void)page_bits_clear(pp, X86_W | X86_D);
}

unsigned hat_page_getshare(struct page *pp)
{
	struct hat_shared *hs = page_shared(pp);
	unsigned n;

	if (hs == NULL)
		return 0;
	hat_enter(hs);
	n = pv_count(pp);
	mach_mutex_exit(&hs->hs_lock);
	return n;
}

/* ---- vm_check ---- */
void hat_foreach(struct hat *hat, void (*cb)(void *, vaddr_t, pfn_t, unsigned, bool), void *arg)
{
	uint64_t *pte;

	for (vaddr_t va = 0; (pte = next_entry(hat, &va, VA_END)) != NULL; va += VM_PAGESIZE)
		cb(arg, va, entry_pfn(*pte), bits_attr(*pte), (*pte & X86_SW_LOCKED) != 0);
}

void hat_page_foreach(struct page *pp, void (*cb)(void *, struct hat *, vaddr_t), void *arg)
{
	struct pv_cursor c = { 0 };
	struct pv pv;

	while (pv_next(pp, &c, &pv))
		cb(arg, pv.pv_hat, pv.pv_va);
}
