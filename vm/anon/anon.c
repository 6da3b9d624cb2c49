/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Anonymous memory: slots.
 *
 * An anon stands for one page of anonymous memory, wherever its contents are: in a page named (vm_swapfs, id), in a swap
 * slot, in both (clean), or in neither (it reads as zeroes). Ids come from a table that grows by chunks and never moves
 * or shrinks; a freed id is reused last in, first out.
 *
 * States of an anon (the page is in memory if it is named (vm_swapfs, id)):
 *
 *   page	swap slot	contents
 *   P_MOD	no		in the page only
 *   clean	yes		in both: page-out costs no write
 *   no		yes		in the slot
 *   no		no		zeroes
 *
 * A page of swapfs is only changed while its page lock is held exclusively. The holder of that lock may read an_swap and
 * trust it: an_swap changes at page-out (page E), when the page is first written (page locked), at the last decref (after the
 * page is gone), and at swap removal (page E).
 *
 * Locks: counts and slots of anons are words that change by one atomic operation each. Only anon_alloc raises a count that is
 * zero. The thread that drops the last reference waits for the page's lock before it gives the id away. So while a thread
 * holds the page lock, and the count was not zero after it took the lock, the id is not reused. A CPU keeps the ids that it freed,
 * up to ANON_CPU_MAX, under its vc_anonlock (RANK_ANON). Beyond that, ids move by batches of ANON_BATCH between the CPU and
 * vm_anonfree, under vm_anonlock (RANK_ANON + 1), which also guards the table's growth and the list of maps.
 */
#include "vm/impl.h"

#define ANON_BATCH 64u
#define ANON_CPU_MAX 128u

static voff_t anon_off(anon_id id) { return (voff_t)id << VM_PAGESHIFT; }

static struct anon *anon_of(struct vm *vm, anon_id id)
{
	VM_ASSERT(id != 0 &&
	    id / VM_ANONCHUNK <
		__atomic_load_n((uint32_t *)(void *)&vm->vm_anonchunks, __ATOMIC_ACQUIRE));
	return &vm->vm_anonchunk[id / VM_ANONCHUNK][id % VM_ANONCHUNK];
}

static uint32_t anon_refs(const struct anon *an)
{
	return __atomic_load_n(&an->an_refcnt, __ATOMIC_ACQUIRE);
}
static uint32_t anon_swap(const struct anon *an)
{
	return __atomic_load_n(&an->an_swap, __ATOMIC_ACQUIRE);
}
static uint32_t anon_swap_set(struct anon *an, uint32_t to)
{
	return __atomic_exchange_n(&an->an_swap, to, __ATOMIC_ACQ_REL);
}

/* ---- swapfs, the naming vnode: it has no I/O of its own ---- */
static void swapfs_start(struct vnode *vp, struct vm_io *io)
{
	io->io_err = VM_NOTSUP;
	io->io_ok = 0;
	io->io_done(io);
}
static void swapfs_poll(struct vnode *vp, struct vm_io *io) {}
static void swapfs_discard(struct vnode *vp, voff_t off, uint64_t len) {}
static enum vm_err swapfs_sync(struct vnode *vp, voff_t off, uint64_t len) { return VM_OK; }
static uint64_t swapfs_size(struct vnode *vp) { return ~(uint64_t)0; }
static void swapfs_inactive(struct vnode *vp) {}
static const struct vnode_ops swapfs_ops = {
	.vo_name = "swapfs",
	.vo_start = swapfs_start,
	.vo_poll = swapfs_poll,
	.vo_discard = swapfs_discard,
	.vo_sync = swapfs_sync,
	.vo_size = swapfs_size,
	.vo_inactive = swapfs_inactive,
};

static uint32_t anon_maxchunks(const struct vm_config *vc)
{
	uint64_t max = vc->vc_anon_max != 0 ? vc->vc_anon_max : 8u << 20;

	return (uint32_t)((max + VM_ANONCHUNK - 1) / VM_ANONCHUNK);
}

size_t anon_boot_bytes(const struct vm_config *vc)
{
	return VM_BOOT_ROUND(anon_maxchunks(vc) * sizeof(struct anon *));
}

enum vm_err anon_init(struct vm *vm)
{
	mach_mutex_init(&vm->vm_anonlock, RANK_ANON + 1, "anon");
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		mach_mutex_init(&vm->vm_cpu[c].vc_anonlock, RANK_ANON, "free anons");
	mach_mutex_init(&vm->vm_swaplock, RANK_SWAP, "swap");
	vnode_init(&vm->vm_swapfs, vm, &swapfs_ops, NULL);
	vm->vm_swapfs.v_flags = V_SWAPFS;
	vm->vm_anonchunks_max = anon_maxchunks(&vm->vm_config);
	vm->vm_anonchunk =
	    mach_boot_alloc(vm->vm_mach, vm->vm_anonchunks_max * sizeof(struct anon *));
	return vm->vm_anonchunk == NULL ? VM_NOMEM : VM_OK;
}

/* A chunk is one frame: it never needs several in a row. */
_Static_assert(VM_ANONCHUNK * sizeof(struct anon) == VM_PAGESIZE, "a chunk of anons is a page");

static void chunk_free(struct vm *vm, struct anon *chunk)
{
	page_kfree(vm, page_of(vm, mach_kva_frame(vm->vm_mach, chunk)), 0);
}

void anon_fini(struct vm *vm)
{
	while (vm->vm_swapareas != NULL)
		swap_drop(vm, vm->vm_swapareas);
	for (uint32_t c = 0; c < vm->vm_anonchunks; c++)
		chunk_free(vm, vm->vm_anonchunk[c]);
	vm->vm_anonchunks = 0;
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++) {
		vm->vm_cpu[c].vc_anonfree = 0;
		vm->vm_cpu[c].vc_nanonfree = 0;
	}
}

/* Adds a chunk of ids, all of them free. */
static bool anon_expand(struct vm *vm)
{
	struct page *pp = page_kalloc(vm, 0, PG_WAIT | PG_ZERO);
	struct anon *chunk;

	if (pp == NULL)
		return false;
	chunk = mach_frame_kva(vm->vm_mach, page_pfn(vm, pp));
	mach_mutex_enter(&vm->vm_anonlock);
	if (vm->vm_anonfree != 0 || vm->vm_anonchunks == vm->vm_anonchunks_max) {
		bool room = vm->vm_anonfree != 0;

		mach_mutex_exit(&vm->vm_anonlock);
		chunk_free(vm, chunk);
		return room;
	}
	uint32_t c = vm->vm_anonchunks;
	vm->vm_anonchunk[c] = chunk;
	vm->vm_anonchunks = c + 1;
	for (uint32_t i = VM_ANONCHUNK; i-- > 0;) {
		anon_id id = c * VM_ANONCHUNK + i;

		if (id == 0)
			continue;
		chunk[i].an_swap = vm->vm_anonfree;
		vm->vm_anonfree = id;
	}
	mach_mutex_exit(&vm->vm_anonlock);
	return true;
}

/*
 * Moves a batch of free ids to this CPU, whose lock is held and whose list is empty. False: the
 * common list is empty.
 *
 * The batch keeps its order, so fresh ids are handed out rising: page-out sorts pages by id, and memory that a program
 * first touches in order then lies in order in swap, where one read brings several pages.
 */
static bool anon_refill(struct vm *vm, struct vm_cpu *vc)
{
	anon_id id = 0;
	uint32_t n = 0;

	mach_mutex_enter(&vm->vm_anonlock);
	vc->vc_anonfree = vm->vm_anonfree;
	/* A batch of fresh ids ends where the ids that share a page lock end. */
	for (; n < ANON_BATCH && id % ANON_BATCH != ANON_BATCH - 1 && vm->vm_anonfree != 0; n++) {
		id = vm->vm_anonfree;
		vm->vm_anonfree = anon_swap(anon_of(vm, id));
	}
	if (n > 0)
		(void)anon_swap_set(anon_of(vm, id), 0);
	vm->vm_nanon += n;
	vc->vc_nanonfree += n;
	mach_mutex_exit(&vm->vm_anonlock);
	return n > 0;
}

/* Gives half of this CPU's free ids back to the common list. The caller holds the CPU's lock. */
static void anon_spill(struct vm *vm, struct vm_cpu *vc)
{
	mach_mutex_enter(&vm->vm_anonlock);
	for (uint32_t n = 0; n < ANON_BATCH; n++) {
		anon_id id = vc->vc_anonfree;
		struct anon *an = anon_of(vm, id);

		vc->vc_anonfree = anon_swap(an);
		(void)anon_swap_set(an, vm->vm_anonfree);
		vm->vm_anonfree = id;
	}
	vm->vm_nanon -= ANON_BATCH;
	vc->vc_nanonfree -= ANON_BATCH;
	mach_mutex_exit(&vm->vm_anonlock);
}

/* Takes a free id from some CPU's list, as the common list is empty. 0: no CPU has one. */
static anon_id anon_steal(struct vm *vm)
{
	anon_id id = 0;

	for (uint32_t c = 0; c <= vm->vm_cpumask && id == 0; c++) {
		struct vm_cpu *vc = &vm->vm_cpu[c];

		if (vc->vc_nanonfree == 0)
			continue;
		mach_mutex_enter(&vc->vc_anonlock);
		if ((id = vc->vc_anonfree) != 0) {
			vc->vc_anonfree = anon_swap(anon_of(vm, id));
			vc->vc_nanonfree--;
		}
		mach_mutex_exit(&vc->vc_anonlock);
	}
	return id;
}

static anon_id anon_take(struct vm *vm)
{
	struct vm_cpu *vc = vm_cpu_of(vm);
	anon_id id = 0;

	mach_mutex_enter(&vc->vc_anonlock);
	if (vc->vc_anonfree != 0 || anon_refill(vm, vc)) {
		id = vc->vc_anonfree;
		vc->vc_anonfree = anon_swap(anon_of(vm, id));
		vc->vc_nanonfree--;
	}
	mach_mutex_exit(&vc->vc_anonlock);
	return id;
}

anon_id anon_alloc(struct vm *vm)
{
	anon_id id;

	while ((id = anon_take(vm)) == 0 && anon_expand(vm))
		;
	if (id == 0)
		id = anon_steal(vm);
	if (id != 0) {
		struct anon *an = anon_of(vm, id);

		(void)anon_swap_set(an, VM_NO_SLOT);
		__atomic_store_n(&an->an_refcnt, 1, __ATOMIC_RELEASE);
	}
	return id;
}

void anon_hold(struct vm *vm, anon_id id)
{
	uint32_t old = __atomic_fetch_add(&anon_of(vm, id)->an_refcnt, 1, __ATOMIC_ACQ_REL);

	VM_ASSERT(old > 0);
	(void)old;
}

void anon_prefetch(struct vm *vm, anon_id id)
{
	__builtin_prefetch(anon_of(vm, id));
	__builtin_prefetch(&vm->vm_pagehash[page_bucket(vm, &vm->vm_swapfs, anon_off(id))]);
}

uint32_t anon_refcnt(struct vm *vm, anon_id id) { return anon_refs(anon_of(vm, id)); }

/* No slot refers to the id any more. */
static void anon_put(struct vm *vm, anon_id id)
{
	struct vm_cpu *vc = vm_cpu_of(vm);

	mach_mutex_enter(&vc->vc_anonlock);
	if (vc->vc_nanonfree >= ANON_CPU_MAX)
		anon_spill(vm, vc);
	(void)anon_swap_set(anon_of(vm, id), vc->vc_anonfree);
	vc->vc_anonfree = id;
	vc->vc_nanonfree++;
	mach_mutex_exit(&vc->vc_anonlock);
}

void anon_decref(struct vm *vm, anon_id id)
{
	struct anon *an = anon_of(vm, id);
	uint32_t old = __atomic_fetch_sub(&an->an_refcnt, 1, __ATOMIC_ACQ_REL), slot;
	struct page *pp;

	VM_ASSERT(old > 0);
	if (old != 1)
		return;
	if ((pp = page_lookup_notouch(vm, &vm->vm_swapfs, anon_off(id), SE_EXCL)) != NULL) {
		hat_pageunload(pp);
		page_nrm_clear(pp, P_REF | P_MOD);
		page_destroy(vm, pp);
	}
	slot = anon_swap(an);
	anon_put(vm, id);
	if (slot != VM_NO_SLOT)
		swap_free_slot(vm, slot);
}

uint32_t anon_count(struct vm *vm)
{
	uint32_t n;

	mach_mutex_enter(&vm->vm_anonlock);
	n = vm->vm_nanon;
	mach_mutex_exit(&vm->vm_anonlock);
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++)
		n -= vm->vm_cpu[c].vc_nanonfree;
	return n;
}

static uint32_t anon_slot(struct vm *vm, anon_id id) { return anon_swap(anon_of(vm, id)); }

bool anon_swapped(struct vm *vm, anon_id id) { return anon_slot(vm, id) != VM_NO_SLOT; }

void anon_dropped(struct vm *vm, anon_id id)
{
	uint32_t slot = anon_slot(vm, id);

	if (slot != VM_NO_SLOT)
		swap_dropped(vm, slot);
}

/* Is id alive and its contents in that swap slot? Its page is E-locked by the caller, so the answer stays true. */
static bool anon_lives_in(struct vm *vm, anon_id id, uint32_t slot)
{
	const struct anon *an = anon_of(vm, id);

	return anon_refs(an) > 0 && anon_swap(an) == slot;
}

bool anon_holds_slot(struct vm *vm, anon_id id, uint32_t slot)
{
	return anon_lives_in(vm, id, slot);
}

/* Takes a reference, unless the last reference is gone already. */
bool anon_tryhold(struct vm *vm, anon_id id) { return vm_tryhold(&anon_of(vm, id)->an_refcnt); }

/* If pages are spread over nodes, the PG_NODE flag for the nth page after a page with these flags;
 * otherwise 0. */
static unsigned spread_on(const struct vm *vm, unsigned flags, uint32_t n)
{
	return flags == 0 ? 0 : PG_NODE((flags / PG_NODE(0) - 1 + n) % vm->vm_caps->mc_nnodes);
}

/* Creates a page for each of the slots after `slot`, up to the first slot whose anon has a page or
 * whose owner is gone. Returns how many in pps[1..]. */
static uint32_t gather_neighbours(
    struct vm *vm, uint32_t slot, uint32_t most, unsigned flags, struct page **pps)
{
	uint32_t n = 1;

	for (; n < most; n++) {
		anon_id id = swap_owner(vm, slot, n);
		struct page *pp;

		if (id == 0 ||
		    page_create(vm, &vm->vm_swapfs, anon_off(id), spread_on(vm, flags, n), &pp) !=
			VM_OK)
			break;
		if (!anon_lives_in(vm, id, slot + n)) {
			page_destroy(vm, pp);
			break;
		}
		pps[n] = pp;
	}
	return n;
}

/* Makes the pages in the mask `drop` dirty, because the store keeps their copies in memory: the
 * copy is freed, and page-out stores the page again. Pages are E-locked. */
static void drop_copies(struct vm *vm, struct page **pps, uint32_t n, uint64_t drop)
{
	for (uint32_t i = 0; i < n; i++)
		if ((drop >> i & 1) != 0) {
			page_nrm_set(pps[i], P_MOD);
			swapfs_dirty(vm, pps[i]);
		}
}

static enum vm_err anon_swapin(
    struct vm *vm, struct page *pp, uint32_t slot, unsigned hint, unsigned flags)
{
	struct page *pps[VM_IO_PAGES];
	voff_t off;
	struct swap_area *sw = swap_area_of(vm, slot, &off);
	uint32_t n, ok = 0;
	uint64_t drop;
	enum vm_err e;

	pps[0] = pp;
	n = gather_neighbours(vm, slot, hint < VM_IO_PAGES ? hint : VM_IO_PAGES, flags, pps);
	e = pvn_swapin(vm, sw->sw_vnode, off, pps, n, &ok, &drop);
	VM_STATN(vm, swapin, ok);
	drop_copies(vm, pps, ok, drop);
	pvn_filled_ahead(vm, pps + 1, n - 1, ok > 0 ? ok - 1 : 0);
	if (ok > 0)
		return VM_OK;
	return e == VM_OK ? VM_IO : e;
}

bool anon_follows(struct vm *vm, anon_id id, anon_id next, uint32_t n)
{
	uint32_t slot = anon_slot(vm, id);

	return next != 0 && slot != VM_NO_SLOT && anon_slot(vm, next) == slot + n;
}

/* Reads slots from slot on into the pages, E-locked and being filled; unlocks them. */
static void read_run(struct vm *vm, uint32_t slot, struct page **pps, uint32_t n)
{
	struct swap_area *sw;
	uint32_t ok = 0;
	uint64_t drop;
	voff_t off;

	if (n == 0)
		return;
	sw = swap_area_of(vm, slot, &off);
	(void)pvn_readahead(vm, sw->sw_vnode, off, pps, n, &ok, &drop);
	VM_STATN(vm, swapin, ok);
	drop_copies(vm, pps, ok, drop);
	pvn_filled_ahead(vm, pps, n, ok);
}

void anon_read_ahead(struct vm *vm, const anon_id *ids, const unsigned *flags, uint32_t nids)
{
	struct page *pps[VM_IO_PAGES];
	uint32_t n = 0, first = VM_NO_SLOT;

	for (uint32_t i = 0; i < nids; i++) {
		uint32_t slot = anon_slot(vm, ids[i]);
		struct page *pp;

		if (slot == VM_NO_SLOT || page_exists(vm, &vm->vm_swapfs, anon_off(ids[i])))
			continue;
		if (n == VM_IO_PAGES || (n > 0 && slot != first + n)) {
			read_run(vm, first, pps, n);
			n = 0;
		}
		if (page_create(vm, &vm->vm_swapfs, anon_off(ids[i]), flags[i], &pp) != VM_OK)
			break;
		/* The locked page keeps the slot from being freed, provided that the anon still
		 * owns the slot. */
		if (!anon_lives_in(vm, ids[i], slot)) {
			page_destroy(vm, pp);
			continue;
		}
		if (n == 0)
			first = slot;
		pps[n++] = pp;
	}
	read_run(vm, first, pps, n);
}

/* Reads the anon's contents into its new page, which stays E-locked; on failure the page is
 * destroyed. */
static enum vm_err anon_fill(
    struct vm *vm, anon_id id, unsigned hint, unsigned flags, struct page *pp)
{
	uint32_t slot = anon_slot(vm, id);
	enum vm_err e;

	if (slot == VM_NO_SLOT) {
		mach_frame_zero(vm->vm_mach, page_pfn(vm, pp));
	} else if ((e = anon_swapin(vm, pp, slot, hint, flags)) != VM_OK) {
		page_destroy(vm, pp);
		return e;
	}
	page_filled(vm, pp, false);
	return VM_OK;
}

enum vm_err anon_bring(
    struct vm *vm, anon_id id, enum page_se se, unsigned hint, unsigned flags, struct page **ppp)
{
	enum vm_err e;

	while (
	    (e = page_create(vm, &vm->vm_swapfs, anon_off(id), PG_WAIT | flags, ppp)) == VM_EXIST)
		if ((*ppp = page_lookup(vm, &vm->vm_swapfs, anon_off(id), se)) != NULL)
			return VM_OK;
	if (e == VM_OK)
		e = anon_fill(vm, id, hint, flags, *ppp);
	if (e == VM_OK && se == SE_SHARED)
		page_downgrade(vm, *ppp);
	return e;
}

enum vm_err anon_getpage(
    struct vm *vm, anon_id id, enum page_se se, unsigned hint, unsigned flags, struct page **ppp)
{
	*ppp = page_lookup(vm, &vm->vm_swapfs, anon_off(id), se);
	return *ppp != NULL ? VM_OK : anon_bring(vm, id, se, hint, flags, ppp);
}

struct page *anon_getpage_ahead(struct vm *vm, anon_id id, unsigned flags)
{
	struct page *pp;

	if (page_create(vm, &vm->vm_swapfs, anon_off(id), flags, &pp) != VM_OK)
		return NULL;
	return anon_fill(vm, id, 1, flags, pp) == VM_OK ? pp : NULL;
}

/* Makes an anon with a new page, E- and I/O-locked, P_MOD. */
static enum vm_err anon_fresh(struct vm *vm, unsigned flags, anon_id *idp, struct page **ppp)
{
	anon_id id = anon_alloc(vm);
	enum vm_err e;

	if (id == 0)
		return VM_NOMEM;
	/* VM_EXIST: a late prefetch for the id's previous owner still has a page of that name and
	 * is about to destroy it. */
	while ((e = page_create(vm, &vm->vm_swapfs, anon_off(id), PG_WAIT | PG_NEW | flags, ppp)) ==
	    VM_EXIST)
		mach_yield();
	if (e != VM_OK) {
		anon_decref(vm, id);
		return e;
	}
	page_nrm_set(*ppp, P_MOD);
	*idp = id;
	return VM_OK;
}

enum vm_err anon_zero(struct vm *vm, unsigned flags, anon_id *idp, struct page **ppp)
{
	enum vm_err e = anon_fresh(vm, PG_ZERO | flags, idp, ppp);

	if (e == VM_OK) {
		VM_STAT(vm, zfod);
		page_filled(vm, *ppp, false);
	}
	return e;
}

enum vm_err anon_private(
    struct vm *vm, struct page *src, unsigned flags, anon_id *idp, struct page **ppp)
{
	enum vm_err e = anon_fresh(vm, flags, idp, ppp);

	if (e == VM_OK) {
		VM_STAT(vm, cow);
		page_copy(vm, *ppp, src);
		page_filled(vm, *ppp, false);
	}
	return e;
}

/* Frees the swap slot of a page that now differs from its copy on disk. */
void swapfs_dirty(struct vm *vm, struct page *pp)
{
	struct anon *an = anon_of(vm, (anon_id)(pp->p_offset >> VM_PAGESHIFT));
	uint32_t slot;

	/* If no reference is left, the thread that dropped the last one waits for this page and frees the slot itself. */
	if (anon_refs(an) > 0 && (slot = anon_swap_set(an, VM_NO_SLOT)) != VM_NO_SLOT)
		swap_free_slot(vm, slot);
}

/* Page-out wrote the page to that slot: binds the slot to the anon and returns the slot that the
 * anon had before. The page is E-locked. */
uint32_t anon_bind(struct vm *vm, const struct page *pp, uint32_t slot)
{
	return anon_swap_set(anon_of(vm, (anon_id)(pp->p_offset >> VM_PAGESHIFT)), slot);
}

/* ---- vm_check ---- */
bool anon_count_ref(struct vm *vm, anon_id id, bool back)
{
	if (id == 0 || id / VM_ANONCHUNK >= vm->vm_anonchunks)
		return id == 0;
	anon_of(vm, id)->an_refcnt += back ? 1 : ~0u;
	return true;
}

/* Maps hold the only references: when theirs are subtracted, every count is zero. Needs no
 * memory. */
static unsigned check_refs(struct vm *vm, bool (*count)(struct vm *, bool back),
    void (*report)(void *, const char *), void *arg)
{
	unsigned bad = 0;

	if (!count(vm, false)) {
		report(arg, "an anon map holds an anon that never was");
		bad++;
	}
	for (anon_id id = 1; id < vm->vm_anonchunks * VM_ANONCHUNK; id++)
		if (anon_of(vm, id)->an_refcnt != 0) {
			report(arg,
			    "an anon's reference count is not that of the map entries that hold it");
			bad++;
		}
	(void)count(vm, true);
	return bad;
}

/* Length of a list of free ids. */
static uint32_t anon_check_free(struct vm *vm, anon_id id)
{
	uint32_t n = 0;

	for (; id != 0 && n <= vm->vm_anonchunks * VM_ANONCHUNK; id = anon_of(vm, id)->an_swap)
		n++;
	return n;
}

unsigned anon_check(struct vm *vm, bool (*count_map_refs)(struct vm *, bool back),
    void (*report)(void *, const char *), void *arg)
{
	unsigned bad = check_refs(vm, count_map_refs, report, arg);
	uint32_t live = 0, free;
	bool wrong = false;

	for (anon_id id = 1; id < vm->vm_anonchunks * VM_ANONCHUNK; id++) {
		const struct anon *an = anon_of(vm, id);

		if (an->an_refcnt == 0) {
			if (page_exists(vm, &vm->vm_swapfs, anon_off(id))) {
				report(arg, "a free anon has a page");
				bad++;
			}
			continue;
		}
		live++;
		if (an->an_swap != VM_NO_SLOT && !swap_owned(vm, an->an_swap, id)) {
			report(arg, "an anon's swap slot is not its own");
			bad++;
		}
	}
	free = anon_check_free(vm, vm->vm_anonfree);
	for (uint32_t c = 0; c <= vm->vm_cpumask; c++) {
		uint32_t n = anon_check_free(vm, vm->vm_cpu[c].vc_anonfree);

		wrong |= n != vm->vm_cpu[c].vc_nanonfree;
		free += n;
	}
	if (wrong || live != anon_count(vm) ||
	    (vm->vm_anonchunks > 0 && live + free + 1 != vm->vm_anonchunks * VM_ANONCHUNK)) {
		report(arg, "anons in use and free do not add up");
		bad++;
	}
	return bad;
}
