/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Anon maps: a sparse array of anon ids, one entry a page.
 *
 * A radix tree of one-half-page tables: a leaf holds 512 entries of 32 bits, an inner table 256 pointers. Tables are
 * made when an entry of theirs is first set, and freed when a range that covers them is dropped, so an untouched
 * mapping of any size costs the map alone. An entry is an anon id (31 bits) and the busy bit.
 *
 * The busy bit serialises all work on one entry: fault, copy-on-write, drop. The thread that set it may sleep for memory and
 * I/O; other threads wait on am_cv. A thread holds one busy bit at a time, or takes those of successive slots in rising order.
 * The callers of anonmap_dup and anonmap_move hold the space's lock as writer and so are alone.
 *
 * A shared map reserves for itself (am_resv): a page with many mappings is promised one place, not one for each mapping.
 *
 * Locks: am_lock (RANK_AMP) guards the tables and every entry.
 */
#include "vm/impl.h"

#define LEAF_SHIFT 9u
#define LEAF_N (1u << LEAF_SHIFT)
#define INNER_SHIFT 8u
#define INNER_N (1u << INNER_SHIFT)
#define NODE_BYTES 2048u
#define BUSY 0x80000000u

struct anon_map {
	/* The fields that a fault uses fill one cache line. */
	struct mach_mutex am_lock;
	void *am_root;       /* am_lock */
	uint64_t am_npages;  /* am_lock to change */
	uint64_t am_count;   /* am_lock to change: entries that have an anon */
	unsigned am_levels;  /* am_lock: 0: the root is a leaf */
	uint32_t am_waiters; /* am_lock */
	uint64_t am_limit;   /* am_lock: from this index on there is nothing; ~0: no limit */
	struct vm *am_vm;    /* const */
	struct anon_map *am_next, *am_prev; /* vm_anonlock: all maps, for vm_check */
	uint64_t am_resv; /* (a) pages reserved for all segments that share the map */
	_Atomic uint32_t am_refcnt;
	struct mach_cv am_cv; /* with am_lock: a busy bit was cleared */
};

enum vm_err anonmap_init(struct vm *vm)
{
	vm->vm_anonnodes = kmem_cache_create(vm, "anon_node", NODE_BYTES, 64, NULL, NULL, NULL);
	vm->vm_anonmaps =
	    kmem_cache_create(vm, "anon_map", sizeof(struct anon_map), 64, NULL, NULL, NULL);
	return vm->vm_anonnodes == NULL || vm->vm_anonmaps == NULL ? VM_NOMEM : VM_OK;
}

void anonmap_fini(struct vm *vm)
{
	if (vm->vm_anonmaps != NULL)
		kmem_cache_destroy(vm->vm_anonmaps);
	if (vm->vm_anonnodes != NULL)
		kmem_cache_destroy(vm->vm_anonnodes);
}

struct anon_map *anonmap_alloc(struct vm *vm, uint64_t npages)
{
	struct anon_map *am = kmem_cache_alloc(vm->vm_anonmaps, KM_SLEEP);

	if (am == NULL)
		return NULL;
	memset(am, 0, sizeof *am);
	am->am_vm = vm;
	am->am_refcnt = 1;
	am->am_limit = ~(uint64_t)0;
	mach_mutex_init(&am->am_lock, RANK_AMP, "anon map");
	mach_cv_init(&am->am_cv);
	mach_mutex_enter(&vm->vm_anonlock);
	am->am_next = vm->vm_anonmaplist;
	if (am->am_next != NULL)
		am->am_next->am_prev = am;
	vm->vm_anonmaplist = am;
	mach_mutex_exit(&vm->vm_anonlock);
	if (!anonmap_grow(am, npages)) {
		anonmap_rele(am);
		return NULL;
	}
	return am;
}

void anonmap_hold(struct anon_map *am)
{
	__atomic_add_fetch((uint32_t *)(void *)&am->am_refcnt, 1, __ATOMIC_RELAXED);
}

static uint64_t indexes_below(unsigned levels)
{
	return (uint64_t)1 << (LEAF_SHIFT + INNER_SHIFT * levels);
}

static void free_tree(struct anon_map *am, void *node, unsigned level)
{
	if (node == NULL)
		return;
	if (level > 0)
		for (unsigned i = 0; i < INNER_N; i++)
			free_tree(am, ((void **)node)[i], level - 1);
	kmem_cache_free(am->am_vm->vm_anonnodes, node);
}

static void remove_from_list(struct anon_map *am)
{
	struct vm *vm = am->am_vm;

	mach_mutex_enter(&vm->vm_anonlock);
	if (am->am_prev != NULL)
		am->am_prev->am_next = am->am_next;
	else
		vm->vm_anonmaplist = am->am_next;
	if (am->am_next != NULL)
		am->am_next->am_prev = am->am_prev;
	mach_mutex_exit(&vm->vm_anonlock);
}

void anonmap_rele(struct anon_map *am)
{
	if (__atomic_sub_fetch((uint32_t *)(void *)&am->am_refcnt, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	anonmap_drop(am, 0, am->am_npages);
	if (am->am_resv != 0)
		anon_unreserve(am->am_vm, am->am_resv);
	free_tree(am, am->am_root, am->am_levels);
	remove_from_list(am);
	mach_cv_fini(&am->am_cv);
	mach_mutex_fini(&am->am_lock);
	kmem_cache_free(am->am_vm->vm_anonmaps, am);
}

void anonmap_limit(struct anon_map *am, uint64_t npages)
{
	mach_mutex_enter(&am->am_lock);
	am->am_limit = npages;
	mach_mutex_exit(&am->am_lock);
}

bool anonmap_ends(struct anon_map *am, uint64_t idx)
{
	bool ends;

	mach_mutex_enter(&am->am_lock);
	ends = idx >= am->am_limit;
	mach_mutex_exit(&am->am_lock);
	return ends;
}

uint64_t anonmap_npages(struct anon_map *am)
{
	return __atomic_load_n(&am->am_npages, __ATOMIC_RELAXED);
}

static void *node_alloc(struct anon_map *am)
{
	void *n = kmem_cache_alloc(am->am_vm->vm_anonnodes, KM_SLEEP);

	if (n != NULL)
		memset(n, 0, NODE_BYTES);
	return n;
}

/* A tree that is not empty gets a new root above; an empty one just grows its nominal height. */
bool anonmap_grow(struct anon_map *am, uint64_t npages)
{
	for (;;) {
		void *spare = NULL;

		mach_mutex_enter(&am->am_lock);
		while (indexes_below(am->am_levels) < npages && am->am_root == NULL)
			am->am_levels++;
		if (indexes_below(am->am_levels) >= npages) {
			if (npages > am->am_npages)
				__atomic_store_n(&am->am_npages, npages, __ATOMIC_RELAXED);
			mach_mutex_exit(&am->am_lock);
			return true;
		}
		mach_mutex_exit(&am->am_lock);
		if ((spare = node_alloc(am)) == NULL)
			return false;
		mach_mutex_enter(&am->am_lock);
		if (am->am_root != NULL && indexes_below(am->am_levels) < npages) {
			((void **)spare)[0] = am->am_root;
			am->am_root = spare;
			am->am_levels++;
			spare = NULL;
		}
		mach_mutex_exit(&am->am_lock);
		if (spare != NULL)
			kmem_cache_free(am->am_vm->vm_anonnodes, spare);
	}
}

/*
 * Room for need entries below the first one; returns by how much all indexes rose, 0: no memory. The caller alone knows
 * the map. A tree gets a new root whose middle entry points to the old root, so it costs one table
 * however large the map is.
 */
uint64_t anonmap_grow_below(struct anon_map *am, uint64_t need)
{
	uint64_t shift = 0;

	VM_ASSERT(am->am_refcnt == 1);
	if (am->am_root == NULL)
		return anonmap_grow(am, am->am_npages + need) ? need : 0;
	while (shift < need) {
		uint64_t step = indexes_below(am->am_levels) * (INNER_N / 2);
		void **root = node_alloc(am);

		if (root == NULL || am->am_levels >= 5) {
			if (root != NULL)
				kmem_cache_free(am->am_vm->vm_anonnodes, root);
			return shift;
		}
		mach_mutex_enter(&am->am_lock);
		root[INNER_N / 2] = am->am_root;
		am->am_root = root;
		am->am_levels++;
		__atomic_store_n(&am->am_npages, am->am_npages + step, __ATOMIC_RELAXED);
		mach_mutex_exit(&am->am_lock);
		shift += step;
	}
	return shift;
}

uint64_t anonmap_count(struct anon_map *am)
{
	return __atomic_load_n(&am->am_count, __ATOMIC_RELAXED);
}

bool anonmap_alone(struct anon_map *am) { return am->am_refcnt == 1; }

enum vm_err anonmap_reserve(struct anon_map *am, uint64_t npages)
{
	enum vm_err e = anon_reserve(am->am_vm, npages, false);

	if (e == VM_OK)
		(void)__atomic_add_fetch(&am->am_resv, npages, __ATOMIC_RELAXED);
	return e;
}

/* The map takes over the reservation of npages, which the caller has made. */
void anonmap_take_reserve(struct anon_map *am, uint64_t npages)
{
	(void)__atomic_add_fetch(&am->am_resv, npages, __ATOMIC_RELAXED);
}

/* The entry of idx, or NULL where its tables do not exist. am_lock held. */
static uint32_t *entry_locked(const struct anon_map *am, uint64_t idx)
{
	void *n = am->am_root;

	VM_ASSERT(mach_mutex_held(&am->am_lock));
	for (unsigned l = am->am_levels; n != NULL && l > 0; l--)
		n = ((void **)n)[(idx >> (LEAF_SHIFT + INNER_SHIFT * (l - 1))) & (INNER_N - 1)];
	return n != NULL ? (uint32_t *)n + (idx & (LEAF_N - 1)) : NULL;
}

/* Makes one missing table on the way to idx from *spare. True: all tables on the way exist. am_lock
 * held. */
static bool build_locked(struct anon_map *am, uint64_t idx, void **spare)
{
	void **at = &am->am_root;

	VM_ASSERT(mach_mutex_held(&am->am_lock));
	for (unsigned l = am->am_levels;; l--) {
		if (*at == NULL) {
			if (*spare == NULL)
				return false;
			*at = *spare;
			*spare = NULL;
		}
		if (l == 0)
			return true;
		at = &((void **)*at)[(idx >> (LEAF_SHIFT + INNER_SHIFT * (l - 1))) & (INNER_N - 1)];
	}
}

bool anonmap_enter(struct anon_map *am, uint64_t idx, bool create, anon_id *id)
{
	void *spare = NULL;
	uint32_t *e;

	VM_ASSERT(idx < am->am_npages);
	mach_mutex_enter(&am->am_lock);
	for (;;) {
		if (create && !build_locked(am, idx, &spare)) {
			mach_mutex_exit(&am->am_lock);
			spare = node_alloc(am);
			if (spare == NULL)
				return false;
			mach_mutex_enter(&am->am_lock);
			continue;
		}
		e = entry_locked(am, idx);
		if (e == NULL || (*e & BUSY) == 0)
			break;
		am->am_waiters++;
		mach_cv_wait(&am->am_cv, &am->am_lock);
		am->am_waiters--;
	}
	*id = e != NULL ? *e : 0;
	if (e != NULL)
		*e |= BUSY;
	mach_mutex_exit(&am->am_lock);
	if (spare != NULL)
		kmem_cache_free(am->am_vm->vm_anonnodes, spare);
	return true;
}

void anonmap_set(struct anon_map *am, uint64_t idx, anon_id id)
{
	mach_mutex_enter(&am->am_lock);
	uint32_t *e = entry_locked(am, idx);
	VM_ASSERT(e != NULL && (*e & BUSY) != 0 && (id & BUSY) == 0);
	am->am_count += (uint64_t)(id != 0) - (uint64_t)((*e & ~BUSY) != 0);
	*e = id | BUSY;
	mach_mutex_exit(&am->am_lock);
}

void anonmap_exit(struct anon_map *am, uint64_t idx)
{
	mach_mutex_enter(&am->am_lock);
	uint32_t *e = entry_locked(am, idx);
	if (e != NULL)
		*e &= ~BUSY;
	if (am->am_waiters > 0)
		mach_cv_broadcast(&am->am_cv);
	mach_mutex_exit(&am->am_lock);
}

anon_id anonmap_peek(struct anon_map *am, uint64_t idx)
{
	anon_id id = 0;

	mach_mutex_enter(&am->am_lock);
	if (idx < am->am_npages) {
		const uint32_t *e = entry_locked(am, idx);

		id = e != NULL ? *e & ~BUSY : 0;
	}
	mach_mutex_exit(&am->am_lock);
	return id;
}

/* First index in [idx, end) of this table with an entry (a busy one counts); end if none. */
static uint64_t next_in(void *node, unsigned level, uint64_t base, uint64_t idx, uint64_t end)
{
	uint64_t step = level == 0 ? 1 : indexes_below(level - 1),
		 n = level == 0 ? LEAF_N : INNER_N;

	for (uint64_t i = idx > base ? (idx - base) / step : 0; i < n && base + i * step < end;
	     i++) {
		if (level == 0) {
			if (((uint32_t *)node)[i] != 0)
				return base + i;
		} else if (((void **)node)[i] != NULL) {
			uint64_t lo = base + i * step,
				 at = next_in(
				     ((void **)node)[i], level - 1, lo, idx > lo ? idx : lo, end);

			if (at < end && at < lo + step)
				return at;
		}
	}
	return end;
}

uint64_t anonmap_next(struct anon_map *am, uint64_t idx)
{
	mach_mutex_enter(&am->am_lock);
	uint64_t end = am->am_npages;
	uint64_t at = am->am_root == NULL || idx >= end
	    ? end
	    : next_in(am->am_root, am->am_levels, 0, idx, end);
	mach_mutex_exit(&am->am_lock);
	return at;
}

/* The next entry at or after idx, or ~0 when none is below the end of the array. */
static uint64_t next_entry(struct anon_map *am, uint64_t idx)
{
	uint64_t i = anonmap_next(am, idx);

	return i < anonmap_npages(am) ? i : ~(uint64_t)0;
}

/* Frees the tables that lie wholly in [idx, end) and hold nothing. True: node itself was freed. am_lock held. */
static bool free_tables(
    struct anon_map *am, void **at, unsigned level, uint64_t base, uint64_t idx, uint64_t end)
{
	bool empty = true;

	if (*at == NULL)
		return true;
	if (base + indexes_below(level) <= idx || base >= end)
		return false;
	if (level == 0) {
		for (unsigned i = 0; i < LEAF_N && empty; i++)
			empty = ((uint32_t *)*at)[i] == 0;
	} else {
		for (unsigned i = 0; i < INNER_N; i++)
			empty &= free_tables(am, &((void **)*at)[i], level - 1,
			    base + i * indexes_below(level - 1), idx, end);
	}
	if (empty && base >= idx && base + indexes_below(level) <= end) {
		kmem_cache_free(am->am_vm->vm_anonnodes, *at);
		*at = NULL;
		return true;
	}
	return false;
}

void anonmap_drop(struct anon_map *am, uint64_t idx, uint64_t n)
{
	uint64_t end = idx + n;
	anon_id id;

	for (uint64_t i = next_entry(am, idx); i < end; i = next_entry(am, i + 1)) {
		(void)anonmap_enter(am, i, false, &id); /* without create it cannot fail */
		if (id != 0)
			anonmap_set(am, i, 0);
		anonmap_exit(am, i);
		if (id != 0)
			anon_decref(am->am_vm, id);
	}
	if (n >= LEAF_N) {
		mach_mutex_enter(&am->am_lock);
		(void)free_tables(am, &am->am_root, am->am_levels, 0, idx,
		    end >= am->am_npages ? indexes_below(am->am_levels) : end);
		mach_mutex_exit(&am->am_lock);
	}
}

/* Every table for the entries of [idx, idx+n) of from exists in to at toidx. */
static bool make_tables(
    struct anon_map *from, uint64_t idx, struct anon_map *to, uint64_t toidx, uint64_t n)
{
	for (uint64_t i = next_entry(from, idx); i < idx + n; i = next_entry(from, i + 1)) {
		anon_id id;

		if (!anonmap_enter(to, toidx + (i - idx), true, &id))
			return false;
		anonmap_exit(to, toidx + (i - idx));
	}
	return true;
}

/* Entries [idx, idx+n) of from go to `to` at toidx: shared, or, with move, moved. */
static enum vm_err transfer_entries(
    struct anon_map *from, uint64_t idx, struct anon_map *to, uint64_t toidx, uint64_t n, bool move)
{
	anon_id id, other;

	if (!make_tables(from, idx, to, toidx, n))
		return VM_NOMEM;
	for (uint64_t i = next_entry(from, idx); i < idx + n; i = next_entry(from, i + 1)) {
		(void)anonmap_enter(from, i, false, &id);
		if (move)
			anonmap_set(from, i, 0);
		else if (id != 0)
			anon_hold(from->am_vm, id);
		anonmap_exit(from, i);
		if (id == 0)
			continue;
		(void)anonmap_enter(to, toidx + (i - idx), false, &other);
		VM_ASSERT(other == 0);
		anonmap_set(to, toidx + (i - idx), id);
		anonmap_exit(to, toidx + (i - idx));
	}
	return VM_OK;
}

enum vm_err anonmap_dup(
    struct anon_map *from, uint64_t idx, struct anon_map *to, uint64_t toidx, uint64_t n)
{
	return transfer_entries(from, idx, to, toidx, n, false);
}

enum vm_err anonmap_move(
    struct anon_map *from, uint64_t idx, struct anon_map *to, uint64_t toidx, uint64_t n)
{
	return transfer_entries(from, idx, to, toidx, n, true);
}

/* vm_check: every reference of every map is taken off its anon's count, or put back. False: the map
 * holds an id that was never allocated. */
bool anonmap_count_refs(struct vm *vm, bool back)
{
	bool ok = true;

	for (struct anon_map *am = vm->vm_anonmaplist; am != NULL; am = am->am_next)
		for (uint64_t i = next_entry(am, 0); i != ~(uint64_t)0; i = next_entry(am, i + 1))
			ok &= anon_count_ref(vm, anonmap_peek(am, i), back);
	return ok;
}
