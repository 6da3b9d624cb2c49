/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HAT, machine- and format-neutral: what hat.h promises, over a store of translations (hat_impl.h) whose words one of
 * the formats describes. Flushing is the machine's (mmu.h).
 *
 * A large translation is one entry, but each of its base pages lists it (f2) under the address of
 * its own part. So every frame's list is exact, a single mapping still needs no memory, and a page
 * can be taken out of the middle: the entry is split first, for which the store has put memory
 * aside. The hardware's reference and modification bits of a large entry count for every page of
 * it.
 *
 * Locks: hs_lock (RANK_HAT) guards the stores of all spaces and the mapping lists. Memory is
 * allocated without the lock, because allocation has locks of lower rank: a load that needs memory
 * drops the lock, gets one object or node, and starts again. Objects and nodes to free are
 * collected under the lock (struct op) and freed after it. Flushes are collected too: one round of
 * IPIs for up to MMU_BATCH ranges, at the latest before the lock is dropped; objects that the
 * hardware could still walk are freed after it. Between a change and its flush another CPU may use
 * the old translation. No harm comes of it, because the frame and the rights that were taken away
 * are not given to another user before the lock is dropped.
 *
 * Invariants (vm_check by hat_foreach, hat_page_foreach and hat_check): a valid entry that translates (hat, va) to frame f
 * <=> (hat, va) is on f's mapping list. The reference and modification bits of an entry are OR-ed into its pages before the
 * entry is removed.
 *
 * Device frames have numbers beyond the machine's memory. They have no page: no mapping list, no
 * reference and modification bits; otherwise they are mapped as frames of memory are.
 *
 * Left out: a lock per space; large translations of device frames.
 */
#include "hat/hat_map.h"

bool hat_shared_init(struct hat_shared *hs, struct mach *m, const struct hat_format *fmt,
    uint64_t frame0, unsigned asids, bool split)
{
	if (split && fmt->f_noexec == 0)
		mach_panic("hat: this format has no second root");
	*hs = (struct hat_shared){ .hs_mach = m,
		.hs_caps = mach_caps(m),
		.hs_fmt = fmt,
		.hs_frame0 = frame0,
		.hs_split = split };
	mach_mutex_init(&hs->hs_lock, RANK_HAT, "hat");
	asids_init(&hs->hs_asids, asids, hs->hs_caps->mc_ncpus, fmt->f_store == &hat_sfmmu);
	return fmt->f_store->st_share(hs);
}

unsigned hat_enter(struct hat_shared *hs, struct hat *hat, unsigned cpu, enum asid_flush *flush)
{
	if (hat != NULL)
		return asid_enter(&hs->hs_asids, &hat->h_ctx, cpu, flush);
	asid_leave(&hs->hs_asids, cpu);
	*flush = ASID_KEEP;
	return 0;
}

void hat_forget(struct hat *hat) { asid_release(&hat->h_shared->hs_asids, &hat->h_ctx); }

unsigned hat_number(struct hat *hat) { return asid_number(hat->h_ctx); }

pfn_t hat_root(struct hat *hat) { return hat->h_root; }
pfn_t hat_user_root(struct hat *hat)
{
	return hat->h_uroot == PFN_INVALID ? hat->h_root : hat->h_uroot;
}
struct mach *hat_mach(struct hat *hat) { return hat->h_shared->hs_mach; }
unsigned hat_serial(struct hat *hat) { return hat->h_serial; }

/* ---- life ---- */
/* Only the first space of a machine can be the kernel's. */
static enum vm_err kernel_allowed(const struct hat_shared *hs)
{
	const struct hat_format *f = hs->hs_fmt;
	const struct mach_caps *caps = hs->hs_caps;
	uint64_t unit = f->f_levels == 0 ? 1 : size_bytes(f, f->f_levels - 1u);

	if (caps->mc_kernel_max == 0 || caps->mc_kernel_min < f->f_kernel_min ||
	    caps->mc_kernel_max > f->f_kernel_end ||
	    ((caps->mc_kernel_min | caps->mc_kernel_max) & (unit - 1)) != 0)
		return VM_NOTSUP;
	return hs->hs_nhats == 0 && hs->hs_kernel == NULL ? VM_OK : VM_EXIST;
}

enum vm_err hat_alloc(struct vm *vm, struct as *as, bool kernel, struct hat **hatp)
{
	struct hat_shared *hs = mmu_hat_shared(vm_machine(vm));
	struct hat *hat;
	enum vm_err e;

	if (kernel && (e = kernel_allowed(hs)) != VM_OK)
		return e;
	if (vm_inject_fail(vm, VM_INJECT_HAT) ||
	    (hat = kmem_zalloc(vm, sizeof(*hat), KM_SLEEP)) == NULL)
		return VM_NOMEM;
	*hat = (struct hat){ .h_vm = vm,
		.h_as = as,
		.h_shared = hs,
		.h_fmt = hs->hs_fmt,
		.h_uroot = PFN_INVALID,
		.h_kernel = kernel,
		.h_min = kernel ? hs->hs_caps->mc_kernel_min : 0,
		.h_end = kernel ? hs->hs_caps->mc_kernel_max : hs->hs_fmt->f_va_end };
	if ((e = hs->hs_fmt->f_store->st_init(hat)) != VM_OK) {
		kmem_free(vm, hat, sizeof(*hat));
		return e;
	}
	mach_mutex_enter(&hs->hs_lock);
	hat->h_serial = hs->hs_serial++;
	hs->hs_nhats++;
	if (kernel)
		hs->hs_kernel = hat;
	mach_mutex_exit(&hs->hs_lock);
	*hatp = hat;
	return VM_OK;
}

void hat_free_start(struct hat *hat)
{
	(void)hat; /* unmapping the segments drops the translations, hat_free_end the rest */
}

enum vm_err hat_dup(struct hat *parent, struct hat *child)
{
	(void)parent; /* the child faults its translations in */
	(void)child;
	return VM_OK;
}

void hat_swapout(struct hat *hat)
{
	struct op op;

	op_enter(&op, hat->h_vm);
	map_unload_range(&op, hat, hat->h_min, hat->h_end, true);
	op_exit(&op);
	hat->h_fmt->f_store->st_tune(hat);
}

void hat_free_end(struct hat *hat)
{
	struct share *gone = NULL;
	struct op op;

	op_enter(&op, hat->h_vm);
	if (hat->h_sharers != NULL)
		mach_panic("hat_free_end: other spaces use the tables");
	while (hat->h_borrowed != NULL)
		hat_undo_sharing(&op, hat->h_borrowed, hat->h_borrowed->s_len, &gone);
	map_unload_range(&op, hat, hat->h_min, hat->h_end, false);
	op_flush(&op);
	mmu_space_gone(hat);
	hat->h_fmt->f_store->st_fini(&op, hat);
	op.o_hs->hs_nhats--;
	if (hat->h_kernel) {
		if (op.o_hs->hs_nhats != 0)
			mach_panic("hat_free_end: the kernel's space goes before others");
		op.o_hs->hs_kernel = NULL;
	}
	op_exit(&op);
	hat_free_shares(op.o_vm, gone);
	hat->h_fmt->f_store->st_destroy(hat);
	kmem_free(op.o_vm, hat, sizeof(*hat));
}

/* ---- loading ---- */
/* Makes room for a translation on a machine where a frame may have few: drops the oldest. False: a
 * translation is locked. */
static bool make_room(struct op *op, struct page *pp)
{
	struct hat_shared *hs = op->o_hs;

	while (hs->hs_caps->mc_max_mappings != 0 && pv_count(pp) >= hs->hs_caps->mc_max_mappings) {
		struct pv_cursor c = { 0 };
		struct map m;
		struct pv pv;

		(void)pv_next(pp, &c, &pv);
		(void)lookup_map(pv.pv_hat, pv.pv_va, &m);
		if (is_locked(pv.pv_hat, &m))
			return false;
		map_drop_one(op, pv.pv_hat, &m);
	}
	return true;
}

static bool is_full(const struct op *op, const struct page *pp)
{
	unsigned max = op->o_hs->hs_caps->mc_max_mappings;

	return max != 0 && pv_count(pp) >= max;
}

/* The same pages are mapped there already, by an entry of that size or of a larger one. */
static void replace_rights(struct op *op, struct hat *hat, vaddr_t va, struct map *m, unsigned size,
    unsigned attr, unsigned flags)
{
	bool lock = flags & HAT_LOAD_LOCK && !is_locked(hat, m);

	if (flags & HAT_LOAD_ADV)
		attr = hat->h_fmt->f_attr(m->m_word);
	if (attr == hat->h_fmt->f_attr(m->m_word) && !lock)
		return;
	(void)map_lookup_split(op, hat, va, size, m);
	if (lock)
		m->m_word = entry_change(hat->h_fmt, m->m_entry, 0, hat->h_fmt->f_locked) |
		    hat->h_fmt->f_locked;
	map_set_attr(op, hat, m, attr);
}

/* Mapping list nodes that entering n pages takes, at most. */
static bool has_nodes(const struct op *op, const struct page *pp, pfn_t n)
{
	unsigned want = 0;

	for (pfn_t i = 0; i < n; i++)
		want += pv_full(&pp[i]);
	return want <= op->o_hs->hs_npvfree || op->o_hs->hs_caps->mc_max_mappings == 1;
}

static enum need reserve_slot(
    struct op *op, struct hat *hat, vaddr_t va, unsigned size, struct map *m)
{
	enum need need = hat->h_fmt->f_store->st_slot(op, hat, va, size, m);

	if (need != NEED_OBJECT || op->o_junk == NULL)
		return need;
	op_recycle(op); /* the removal of translations may have left empty tables behind */
	return hat->h_fmt->f_store->st_slot(op, hat, va, size, m);
}

/* One load under the lock. NEED_STOP: the load is impossible, *err says why. */
static enum need load_one(struct op *op, struct hat *hat, vaddr_t va, struct page *pp,
    unsigned size, unsigned attr, unsigned flags, enum vm_err *err)
{
	const struct hat_format *f = hat->h_fmt;
	struct hat_shared *hs = op->o_hs;
	pfn_t pfn = page_pfn(hat->h_vm, pp), n = size_pages(f, size);
	enum need need;
	struct map m;

	if (lookup_map(hat, va, &m) && m.m_size >= size &&
	    word_pfn(hat, m.m_word) + vm_btop(va - m.m_va) == pfn) {
		replace_rights(op, hat, va, &m, size, attr, flags);
		return NEED_NOTHING;
	}
	*err = VM_RETRY;
	if (flags & HAT_LOAD_ADV && is_full(op, pp))
		return NEED_STOP;
	if (!has_nodes(op, pp, n))
		return NEED_NODE;
	if (!make_room(op, pp) || !hat_make_place(op, hat, va, size_bytes(f, size), flags))
		return NEED_STOP;
	if ((need = reserve_slot(op, hat, va, size, &m)) != NEED_NOTHING)
		return need;
	for (pfn_t i = 0; i < n; i++) {
		pv_add(hs, &pp[i], hat, va + vm_ptob(i));
		mmu_frame_loaded(hs->hs_mach, pfn + i, true);
	}
	m.m_word = make_word(hat, pfn + hs->hs_frame0, attr, size) |
	    (flags & HAT_LOAD_LOCK ? f->f_locked : 0);
	map_note_exec(hat, &m, attr);
	f->f_store->st_set(hat, &m, m.m_word);
	hat->h_count[size]++;
	return NEED_NOTHING;
}

static bool size_ok(const struct hat *hat, vaddr_t va, const struct page *pp, unsigned size)
{
	const struct hat_format *f = hat->h_fmt;

	return size == 0 ||
	    (size < f->f_nsizes && hat->h_shared->hs_caps->mc_max_mappings == 0 &&
		(va & (size_bytes(f, size) - 1)) == 0 &&
		((page_pfn(hat->h_vm, pp) + hat->h_shared->hs_frame0) &
		    (size_pages(f, size) - 1)) == 0);
}

enum vm_err hat_memload_array(struct hat *hat, vaddr_t va, struct page **pps, size_t n,
    unsigned attr, unsigned flags, size_t *done)
{
	const struct hat_format *f = hat->h_fmt;
	unsigned size = HAT_LOAD_SIZE(flags);
	enum vm_err err = VM_OK;
	struct op op;
	size_t i = 0;

	*done = 0;
	if (size >= f->f_nsizes)
		return VM_NOTSUP;
	if (va < hat->h_min || va >= hat->h_end || n > (hat->h_end - va) >> f->f_shift[size])
		mach_panic("hat_memload: address out of range");
	op_enter(&op, hat->h_vm);
	while (i < n) {
		vaddr_t at = va + (uint64_t)i * size_bytes(f, size);
		enum need need;

		if (!size_ok(hat, at, pps[i], size)) {
			err = VM_NOTSUP;
			break;
		}
		if ((need = load_one(&op, hat, at, pps[i], size, attr, flags, &err)) ==
		    NEED_NOTHING) {
			i++;
			continue;
		}
		if (need == NEED_STOP)
			break;
		if (!op_supply(&op, need)) {
			err = VM_NOMEM;
			break;
		}
	}
	op_exit(&op);
	f->f_store->st_tune(hat);
	*done = i;
	return i == n || flags & HAT_LOAD_ADV ? VM_OK : err;
}

static enum need load_device(
    struct op *op, struct hat *hat, vaddr_t va, uint64_t frame, unsigned attr, unsigned flags)
{
	const struct hat_format *f = hat->h_fmt;
	enum need need;
	struct map m;

	if (lookup_map(hat, va, &m) && m.m_size == 0 && f->f_frame(m.m_word) == frame) {
		replace_rights(op, hat, va, &m, 0, attr, flags);
		return NEED_NOTHING;
	}
	if (!hat_make_place(op, hat, va, VM_PAGESIZE, flags))
		return NEED_STOP;
	if ((need = reserve_slot(op, hat, va, 0, &m)) != NEED_NOTHING)
		return need;
	f->f_store->st_set(
	    hat, &m, make_word(hat, frame, attr, 0) | (flags & HAT_LOAD_LOCK ? f->f_locked : 0));
	hat->h_count[0]++;
	return NEED_NOTHING;
}

/* As a device's frame: its mapping list would be long, and no caller asks for it. */
static enum vm_err load_unlisted(
    struct hat *hat, vaddr_t va, struct page *pp, unsigned attr, unsigned flags)
{
	struct hat_shared *hs = hat->h_shared;
	uint64_t pfn = page_pfn(hat->h_vm, pp);
	enum vm_err err = VM_OK;
	enum need need;
	struct op op;

	op_enter(&op, hat->h_vm);
	if (hs->hs_unlisted != 0 && hs->hs_unlisted != pfn + 1)
		mach_panic("hat_memload: a second page without a mapping list");
	hs->hs_unlisted = pfn + 1;
	while (
	    (need = load_device(&op, hat, va, pfn + hs->hs_frame0, attr, flags)) != NEED_NOTHING &&
	    err == VM_OK)
		if (need == NEED_STOP || !op_supply(&op, need))
			err = need == NEED_STOP ? VM_RETRY : VM_NOMEM;
	op_exit(&op);
	hat->h_fmt->f_store->st_tune(hat);
	return err;
}

enum vm_err hat_memload(struct hat *hat, vaddr_t va, struct page *pp, unsigned attr, unsigned flags)
{
	size_t done;

	if (flags & HAT_LOAD_NOCONSIST)
		return load_unlisted(hat, va, pp, attr, flags);
	return hat_memload_array(hat, va, &pp, 1, attr, flags, &done);
}

/* Do page structures describe any of those physical frames? */
static bool has_memory(const struct hat_shared *hs, uint64_t first, uint64_t n)
{
	const struct mach_caps *caps = hs->hs_caps;
	uint64_t end = first + n, to = hs->hs_frame0 + caps->mc_nframes;

	if (first < hs->hs_frame0)
		first = hs->hs_frame0;
	for (; first < end && first < to; first++)
		if (!mach_is_hole(caps, first - hs->hs_frame0))
			return true;
	return false;
}

enum vm_err hat_devload(
    struct hat *hat, vaddr_t va, uint64_t len, uint64_t devframe, unsigned attr, unsigned flags)
{
	const struct hat_format *f = hat->h_fmt;
	uint64_t n = vm_btop(len);
	enum vm_err err = VM_OK;
	struct op op;

	if (devframe > f->f_frames || n > f->f_frames - devframe ||
	    has_memory(hat->h_shared, devframe, n) || va < hat->h_min || va >= hat->h_end ||
	    n > (hat->h_end - va) >> VM_PAGESHIFT)
		return VM_INVAL;
	op_enter(&op, hat->h_vm);
	for (uint64_t i = 0; i < n && err == VM_OK;) {
		enum need need = load_device(&op, hat, va + vm_ptob(i), devframe + i, attr, flags);

		if (need == NEED_NOTHING || need == NEED_STOP)
			i++; /* advice (HAT_LOAD_ADV) does not replace a translation */
		else if (!op_supply(&op, need))
			err = VM_NOMEM;
	}
	op_exit(&op);
	f->f_store->st_tune(hat);
	return flags & HAT_LOAD_ADV ? VM_OK : err;
}

/* ---- large pages ---- */
/* Do small translations of the range make up one large translation? *first is the first of them. */
static bool can_join(const struct hat *hat, vaddr_t va, unsigned size, struct map *first)
{
	const struct hat_format *f = hat->h_fmt;
	vaddr_t end = va + size_bytes(f, size);
	struct map m;
	uint64_t frame;

	if (!lookup_map(hat, va, first) || first->m_size + 1 != size ||
	    is_device(hat, first->m_word))
		return false;
	frame = f->f_frame(first->m_word);
	for (vaddr_t at = va; at < end; at += map_bytes(hat, &m)) {
		if (!lookup_map(hat, at, &m) || m.m_size != first->m_size ||
		    f->f_frame(m.m_word) != frame + vm_btop(at - va) ||
		    f->f_attr(m.m_word) != f->f_attr(first->m_word) ||
		    is_locked(hat, &m) != is_locked(hat, first))
			return false;
	}
	return true;
}

enum vm_err hat_promote(struct hat *hat, vaddr_t va, unsigned size)
{
	const struct hat_format *f = hat->h_fmt;
	enum vm_err err = VM_OK;
	struct map first;
	struct op op;

	if (size == 0 || size >= f->f_nsizes || hat->h_shared->hs_caps->mc_max_mappings != 0)
		return VM_NOTSUP;
	va &= ~(size_bytes(f, size) - 1);
	op_enter(&op, hat->h_vm);
	for (;;) {
		enum need need;
		unsigned parts;

		err = VM_NOMAP;
		if (!can_join(hat, va, size, &first) ||
		    !size_ok(hat, va, map_page(hat, &first), size))
			break;
		parts = 1u << (f->f_shift[size] - f->f_shift[size - 1]);
		need = f->f_store->st_join(&op, hat, va, size,
		    make_word(hat, f->f_frame(first.m_word), f->f_attr(first.m_word), size) |
			(first.m_word & f->f_locked));
		err = VM_OK;
		if (need == NEED_NOTHING) {
			hat->h_count[size]++;
			hat->h_count[size - 1] -= parts;
			op.o_hs->hs_promoted++;
			break;
		}
		err = VM_NOMEM;
		if (!op_supply(&op, need))
			break;
	}
	op_exit(&op);
	f->f_store->st_tune(hat);
	return err;
}

unsigned hat_mapsize(struct hat *hat, vaddr_t va)
{
	unsigned shift = 0;
	struct op op;
	struct map m;

	op_enter(&op, hat->h_vm);
	if (lookup_map(hat, va, &m))
		shift = hat->h_fmt->f_shift[m.m_size];
	op_exit(&op);
	return shift;
}

/* ---- ranges ---- */
void hat_unload(struct hat *hat, vaddr_t va, uint64_t len, unsigned flags)
{
	struct map m;
	struct op op;

	op_enter(&op, hat->h_vm);
	map_cut_at(&op, hat, va);
	map_cut_at(&op, hat, va + len);
	if (!(flags & HAT_UNLOAD_UNLOCK)) {
		for (vaddr_t at = va; next_map(hat, &at, va + len, &m); at = map_end(hat, &m))
			if (is_locked(hat, &m))
				mach_panic("hat_unload: a translation is locked");
	}
	map_unload_range(&op, hat, va, va + len, false);
	op_exit(&op);
	hat->h_fmt->f_store->st_tune(hat);
}

/* What a sweep does to the translations of a range; large ones across its ends are split first. */
struct change {
	bool c_unlock;    /* drops locks, keeps rights */
	unsigned c_clear; /* rights that go */
};

static void change_range(struct hat *hat, vaddr_t va, uint64_t len, struct change c)
{
	const struct hat_format *f = hat->h_fmt;
	vaddr_t end = va + len;
	struct map m;
	struct op op;

	op_enter(&op, hat->h_vm);
	map_cut_at(&op, hat, va);
	map_cut_at(&op, hat, end);
	for (; next_map(hat, &va, end, &m); va = map_end(hat, &m)) {
		unsigned attr = f->f_attr(m.m_word);

		if (c.c_unlock)
			(void)entry_change(f, m.m_entry, f->f_locked, 0);
		else
			map_set_attr(&op, hat, &m, attr & ~c.c_clear);
	}
	op_exit(&op);
}

void hat_unlock(struct hat *hat, vaddr_t va, uint64_t len)
{
	change_range(hat, va, len, (struct change){ .c_unlock = true });
}
void hat_clrattr(struct hat *hat, vaddr_t va, uint64_t len, unsigned attr)
{
	change_range(hat, va, len, (struct change){ .c_clear = attr & ~HAT_CACHING });
}

/* Gathers an entry's bits and clears some; cleared bits are flushed, so that the hardware sets them
 * again. */
static unsigned gather_clear(struct op *op, struct hat *hat, const struct map *m, uint64_t clear)
{
	uint64_t old = m->m_word;

	if (clear != 0)
		old = entry_change(hat->h_fmt, m->m_entry, clear, 0);
	if (old & clear)
		op_flush_sharers(op, hat, m->m_va, map_bytes(hat, m), false,
		    (old & clear & ~hat->h_fmt->f_ref) == 0);
	return hat_gather(hat, old, m->m_size);
}

void hat_sync(struct hat *hat, vaddr_t va, uint64_t len, bool clear)
{
	uint64_t bits = clear ? hat->h_fmt->f_ref | hat->h_fmt->f_mod : 0;
	vaddr_t end = va + len;
	struct map m;
	struct op op;

	op_enter(&op, hat->h_vm);
	for (; next_map(hat, &va, end, &m); va = map_end(hat, &m))
		(void)gather_clear(&op, hat, &m, bits);
	op_exit(&op);
}

pfn_t hat_probe(struct hat *hat, vaddr_t va, unsigned *attr)
{
	pfn_t pfn = PFN_INVALID;
	struct map m;
	struct op op;

	op_enter(&op, hat->h_vm);
	if (lookup_map(hat, va, &m)) {
		pfn = word_pfn(hat, m.m_word) + (pfn_t)vm_btop(va - m.m_va);
		if (attr != NULL)
			*attr = hat->h_fmt->f_attr(m.m_word);
	}
	op_exit(&op);
	return pfn;
}

/* ---- pages ---- */
/* A page without a name has no translation: nothing is ever loaded without one. */
static bool page_enter(struct op *op, const struct page *pp)
{
	if (__atomic_load_n(&pp->p_hat[0], __ATOMIC_ACQUIRE) == 0)
		return false;
	op_enter(op, page_vm(pp));
	return true;
}

static void drop_all(struct op *op, struct page *pp)
{
	for (;;) {
		struct pv_cursor c = { 0 };
		struct map m;
		struct pv pv;

		if (!pv_next(pp, &c, &pv))
			return;
		(void)map_lookup_split(op, pv.pv_hat, pv.pv_va, 0, &m);
		map_drop_one(op, pv.pv_hat, &m);
	}
}

void hat_pageunload(struct page *pp)
{
	struct op op;

	if (!page_enter(&op, pp))
		return;
	drop_all(&op, pp);
	op_exit(&op);
}

/* One operation, so that the ranges of many pages are flushed together. */
uint32_t hat_pages_tryunload(struct page **pages, uint32_t n)
{
	bool entered = false;
	uint32_t out = 0;
	struct op op;

	for (uint32_t i = 0; i < n; i++) {
		struct page *pp = pages[i];

		if (vm_inject_fail(page_vm(pp), VM_INJECT_PIN))
			continue;
		if (entered || page_enter(&op, pp)) {
			drop_all(&op, pp);
			entered = true;
		}
		pages[i] = pages[out];
		pages[out++] = pp;
	}
	if (entered)
		op_exit(&op);
	return out;
}

unsigned hat_pagesync(struct page *pp, bool clear_ref, bool clear_mod)
{
	struct pv_cursor c = { 0 };
	unsigned nrm = 0;
	struct op op;
	struct pv pv;

	if (!page_enter(&op, pp))
		return 0;
	while (pv_next(pp, &c, &pv)) {
		struct map m;

		(void)lookup_map(pv.pv_hat, pv.pv_va, &m);
		nrm |= gather_clear(&op, pv.pv_hat, &m,
		    (clear_ref ? op.o_fmt->f_ref : 0) | (clear_mod ? op.o_fmt->f_mod : 0));
	}
	op_exit(&op);
	return nrm;
}

/* On return the page has the modification seen so far, so a caller that cleans the page may clear P_MOD from then on. */
void hat_page_clrwrt(struct page *pp)
{
	struct pv_cursor c = { 0 };
	struct op op;
	struct pv pv;

	if (!page_enter(&op, pp))
		return;
	while (pv_next(pp, &c, &pv)) {
		struct map m;

		(void)map_lookup_split(&op, pv.pv_hat, pv.pv_va, 0, &m);
		(void)gather_clear(&op, pv.pv_hat, &m, op.o_fmt->f_write | op.o_fmt->f_mod);
	}
	op_exit(&op);
}

unsigned hat_page_getshare(struct page *pp)
{
	struct op op;
	unsigned n;

	if (!page_enter(&op, pp))
		return 0;
	n = pv_count(pp);
	op_exit(&op);
	return n;
}

static unsigned right_for(enum seg_rw rw)
{
	switch (rw) {
	case S_WRITE: return PROT_W;
	case S_EXEC: return PROT_X;
	default: return PROT_R;
	}
}

bool hat_trap(struct hat *hat, vaddr_t va, enum seg_rw rw)
{
	const struct hat_format *f = hat->h_fmt;
	uint64_t set = f->f_ref | (rw == S_WRITE ? f->f_mod : 0);
	unsigned need = right_for(rw);
	const struct share *s;
	bool ours = false;
	struct map m;
	struct op op;

	op_enter(&op, hat->h_vm);
	s = hat->h_borrowed;
	if (lookup_map(hat, va, &m) && (f->f_attr(m.m_word) & need)) {
		ours = (m.m_word & set) != set;
		(void)entry_change(f, m.m_entry, 0, set);
		while (s != NULL && m.m_va - s->s_va >= s->s_len)
			s = s->s_borrowed;
		if (s != NULL)
			hat_stale(s->s_from, s->s_fva + (m.m_va - s->s_va), map_bytes(hat, &m));
		else
			hat_stale(hat, m.m_va, map_bytes(hat, &m));
	}
	op_exit(&op);
	return ours;
}

/* ---- vm_check ---- */
void hat_foreach(struct hat *hat, void (*cb)(void *, vaddr_t, pfn_t, unsigned, bool), void *arg)
{
	vaddr_t va = hat->h_min;
	struct map m;

	for (; next_map(hat, &va, hat->h_end, &m); va = map_end(hat, &m))
		for (pfn_t i = 0; i < size_pages(hat->h_fmt, m.m_size); i++)
			cb(arg, m.m_va + vm_ptob(i), word_pfn(hat, m.m_word) + i,
			    hat->h_fmt->f_attr(m.m_word), is_locked(hat, &m));
}

void hat_page_foreach(struct page *pp, void (*cb)(void *, struct hat *, vaddr_t), void *arg)
{
	struct pv_cursor c = { 0 };
	struct pv pv;

	while (pv_next(pp, &c, &pv))
		cb(arg, pv.pv_hat, pv.pv_va);
}

unsigned hat_check(struct hat *hat, void (*report)(void *, const char *), void *arg)
{
	return hat->h_fmt->f_store->st_check(hat, report, arg) + mmu_check(hat, report, arg);
}
