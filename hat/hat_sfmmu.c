/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A HAT for machines whose TLB is filled by software, in the manner of SPARC and Solaris' sfmmu.
 *
 * Vocabulary. TTE: the word that describes a translation (format.c). hmeblk: a block of eight TTEs of base pages with
 * successive addresses, or of one TTE of a larger size. All blocks of all spaces are in one hash table, by space, address
 * and size; a block's chain is found without knowing anything of the rest of the space: sparse spaces cost nothing. TSB:
 * a table of a space, in memory, indexed by address, in which the miss handler finds a TTE by one read: a second level of
 * the TLB. What is in the TSB is also in a block; what is in a block need not be in the TSB.
 *
 *	TLB miss -> TSB entry of the address -> (miss) the chains, once per size in use -> TSB, TLB -> (nothing) the core
 *
 * Each space has a TSB for base pages, and one for the largest size while it has such translations.
 * Sizes between are entered in the first, once for each base page that is touched. The first TSB
 * grows when more translations are loaded than it has entries, and shrinks when fewer than an
 * eighth of that are; without memory it stays as it is.
 *
 * Reference and modification: the miss handler sets the reference bit when it gives a TTE to the TLB.
 * The miss handler gives out a TTE as writable only once its modification bit is set; the first
 * write traps (hat_trap).
 *
 * Ranges: the blocks of a space are also in a tree by address (a treap), for sweeps. Solaris probes the hash for every
 * address of a range, or all of the hash when that is shorter.
 *
 * Large translations keep in reserve the blocks that splitting them needs (they are always split
 * into base pages).
 *
 * Locks: hs_lock. The miss handler takes no lock: it runs where a half-done change under hs_lock
 * cannot be seen (in the simulated machine no switch of threads happens there; on a real machine a
 * bit locks each chain).
 *
 * Sharing (Solaris' shared regions): a space that shares a range from another has no blocks of its own there.
 * A lookup that finds no block there goes on with the owner's blocks, under the owner's address;
 * TSB and TLB hold the result under the sharer's own address. So the blocks exist once, and a
 * change in them takes the entries out of every sharer's TSB (st_stale, by hat.c).
 *
 * Left out: hmeblk reserve and shadow blocks; mid-sized pages in the TSB; a TSB for all sharers
 * together.
 */
#include "hat/hat_map.h"

#define BLOCK_TTES 8u
#define TSB_MAXORDER 6u

struct hmeblk {
	struct hmeblk *hb_next; /* chain, or list of unused blocks */
	struct hat *hb_hat;
	vaddr_t hb_va;
	uint8_t hb_size, hb_used;
	uint32_t hb_prio;
	struct hmeblk *hb_left, *hb_right; /* the space's tree */
	struct hmeblk *hb_deposit;         /* blocks for splitting */
	uint64_t hb_tte[BLOCK_TTES];
};

struct tsb_entry {
	uint64_t ts_tag;  /* address >> shift */
	uint64_t ts_data; /* TTE; 0: unused */
};

struct tsb {
	struct page *t_page; /* NULL: none */
	unsigned t_order;
};

struct sfmmu {
	struct tsb sf_tsb[2]; /* hs_lock: base pages; the largest size */
	struct hmeblk *sf_tree;
	uint64_t sf_blocks[HAT_LEVELS]; /* number of blocks of each size: sizes without blocks are
	                                 * not looked for */
	uint64_t sf_rnd;
};

static unsigned top_size(const struct hat_format *f) { return f->f_nsizes - 1u; }

static uint64_t block_bytes(const struct hat_format *f, unsigned size)
{
	return size == 0 ? BLOCK_TTES * size_bytes(f, 0) : size_bytes(f, size);
}

static unsigned deposit_blocks(const struct hat_format *f, unsigned size)
{
	return size == 0 ? 0 : (unsigned)(size_bytes(f, size) / block_bytes(f, 0));
}

/* ---- the hash of all blocks ---- */
static struct hmeblk **hash_bucket(const struct hat *hat, vaddr_t va, unsigned size)
{
	uint64_t x = va / block_bytes(hat->h_fmt, size) + size * 0x51ull +
	    hat->h_serial * 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9ull;
	return (struct hmeblk **)hat->h_shared->hs_hash + (x >> 32 & hat->h_shared->hs_hashmask);
}

static struct hmeblk *find_block(const struct hat *hat, vaddr_t va, unsigned size)
{
	vaddr_t base = va & ~(block_bytes(hat->h_fmt, size) - 1);
	struct hmeblk *b = *hash_bucket(hat, base, size);

	while (b != NULL && (b->hb_hat != hat || b->hb_va != base || b->hb_size != size))
		b = b->hb_next;
	return b;
}

static uint64_t *tte_of(const struct hat *hat, struct hmeblk *b, vaddr_t va)
{
	return &b->hb_tte[b->hb_size == 0 ? (va - b->hb_va) >> hat->h_fmt->f_shift[0] : 0];
}

/* ---- the tree of a space's blocks ---- */
static bool comes_before(const struct hmeblk *a, vaddr_t va, unsigned size)
{
	return a->hb_va < va || (a->hb_va == va && a->hb_size < size);
}

static void tree_insert(struct hmeblk **at, struct hmeblk *b)
{
	struct hmeblk *t, **lo = &b->hb_left, **hi = &b->hb_right;

	while (*at != NULL && (*at)->hb_prio >= b->hb_prio)
		at = comes_before(*at, b->hb_va, b->hb_size) ? &(*at)->hb_right : &(*at)->hb_left;
	t = *at;
	*at = b;
	while (t != NULL) { /* splits the former subtree around b */
		if (comes_before(t, b->hb_va, b->hb_size)) {
			*lo = t;
			lo = &t->hb_right;
			t = t->hb_right;
		} else {
			*hi = t;
			hi = &t->hb_left;
			t = t->hb_left;
		}
	}
	*lo = *hi = NULL;
}

static void tree_remove(struct hmeblk **at, struct hmeblk *b)
{
	struct hmeblk *l, *r;

	while (*at != b)
		at = comes_before(*at, b->hb_va, b->hb_size) ? &(*at)->hb_right : &(*at)->hb_left;
	for (l = b->hb_left, r = b->hb_right; l != NULL && r != NULL;) {
		if (l->hb_prio >= r->hb_prio) {
			*at = l;
			at = &l->hb_right;
			l = *at;
		} else {
			*at = r;
			at = &r->hb_left;
			r = *at;
		}
	}
	*at = l != NULL ? l : r;
}

/* The first block not before (va, size). */
static struct hmeblk *tree_ge(const struct hat *hat, vaddr_t va, unsigned size)
{
	struct hmeblk *best = NULL;

	for (struct hmeblk *t = hat->h_sfmmu->sf_tree; t != NULL;) {
		if (comes_before(t, va, size)) {
			t = t->hb_right;
		} else {
			best = t;
			t = t->hb_left;
		}
	}
	return best;
}

static void enter_block(struct hat *hat, struct hmeblk *b, vaddr_t va, unsigned size)
{
	struct sfmmu *sf = hat->h_sfmmu;
	struct hmeblk **head = hash_bucket(hat, va, size);

	sf->sf_rnd = sf->sf_rnd * 6364136223846793005ull + 1442695040888963407ull;
	*b = (struct hmeblk){ .hb_next = *head,
		.hb_hat = hat,
		.hb_va = va,
		.hb_size = (uint8_t)size,
		.hb_prio = (uint32_t)(sf->sf_rnd >> 32) };
	*head = b;
	sf->sf_blocks[size]++;
	tree_insert(&sf->sf_tree, b);
}

static void remove_block(struct hat *hat, struct hmeblk *b)
{
	struct hmeblk **p = hash_bucket(hat, b->hb_va, b->hb_size);

	while (*p != b)
		p = &(*p)->hb_next;
	*p = b->hb_next;
	hat->h_sfmmu->sf_blocks[b->hb_size]--;
	tree_remove(&hat->h_sfmmu->sf_tree, b);
	b->hb_next = NULL;
}

static struct hmeblk *take_deposit(struct hmeblk *b)
{
	struct hmeblk *d = b->hb_deposit;

	if (d == NULL)
		mach_panic("hat: a mapping block was not deposited");
	b->hb_deposit = d->hb_next;
	d->hb_next = NULL;
	return d;
}

static void put_deposit(struct hmeblk *b, struct hmeblk *d)
{
	d->hb_next = b->hb_deposit;
	b->hb_deposit = d;
}

/* ---- the store ---- */
static bool own_lookup(const struct hat *hat, vaddr_t va, struct map *m)
{
	const struct hat_format *f = hat->h_fmt;

	for (unsigned size = 0; size < f->f_nsizes; size++) {
		struct hmeblk *b;

		if (hat->h_sfmmu->sf_blocks[size] == 0 || (b = find_block(hat, va, size)) == NULL)
			continue;
		m->m_entry = tte_of(hat, b, va);
		m->m_word = entry_get(f, m->m_entry);
		m->m_size = size;
		m->m_va = va & ~(size_bytes(f, size) - 1);
		if (m->m_word & f->f_valid)
			return true;
	}
	return false;
}

/* Includes shared ranges: the entry is the owner's, the address this space's. */
static bool sfmmu_lookup(const struct hat *hat, vaddr_t va, struct map *m)
{
	if (own_lookup(hat, va, m))
		return true;
	for (const struct share *s = hat->h_borrowed; s != NULL; s = s->s_borrowed) {
		if (va - s->s_va >= s->s_len)
			continue;
		if (!own_lookup(s->s_from, s->s_fva + (va - s->s_va), m))
			return false;
		m->m_va = s->s_va + (m->m_va - s->s_fva);
		return true;
	}
	return false;
}

static bool sfmmu_next(const struct hat *hat, vaddr_t *va, vaddr_t end, struct map *m)
{
	const struct hat_format *f = hat->h_fmt;
	struct hmeblk *b;

	if (*va >= end)
		return false;
	if (own_lookup(hat, *va, m))
		return true;
	for (b = tree_ge(hat, *va & ~(block_bytes(f, 0) - 1), 0); b != NULL && b->hb_va < end;
	     b = tree_ge(hat, b->hb_va, b->hb_size + 1u)) {
		for (unsigned i = 0; i < (b->hb_size == 0 ? BLOCK_TTES : 1); i++) {
			m->m_va = b->hb_va + i * size_bytes(f, 0);
			m->m_word = entry_get(f, &b->hb_tte[i]);
			if (!(m->m_word & f->f_valid) || m->m_va < *va || m->m_va >= end)
				continue;
			m->m_entry = &b->hb_tte[i];
			m->m_size = b->hb_size;
			*va = m->m_va;
			return true;
		}
	}
	*va = end;
	return false;
}

static struct hmeblk *block_of(const struct hat *hat, const struct map *m)
{
	return find_block(hat, m->m_va, m->m_size);
}

static enum need sfmmu_slot(
    struct op *op, struct hat *hat, vaddr_t va, unsigned size, struct map *m)
{
	struct hmeblk *b = find_block(hat, va, size);
	unsigned want = deposit_blocks(hat->h_fmt, size);

	if (op->o_nspare < (b == NULL) + want)
		return NEED_OBJECT;
	if (b == NULL) {
		b = op_spare(op);
		enter_block(hat, b, va & ~(block_bytes(hat->h_fmt, size) - 1), size);
	}
	for (; want > 0; want--)
		put_deposit(b, op_spare(op));
	*m = (struct map){ .m_entry = tte_of(hat, b, va), .m_va = va, .m_size = size };
	return NEED_NOTHING;
}

static void sfmmu_set(struct hat *hat, const struct map *m, uint64_t word)
{
	block_of(hat, m)->hb_used++;
	(void)entry_swap(hat->h_fmt, m->m_entry, word);
}

static uint64_t sfmmu_clear(struct op *op, struct hat *hat, const struct map *m)
{
	struct hmeblk *b = block_of(hat, m);
	uint64_t old = entry_swap(hat->h_fmt, m->m_entry, 0);

	b->hb_used--;
	while (b->hb_deposit != NULL)
		op_junk(op, take_deposit(b));
	if (b->hb_size > 0) { /* base blocks stay until the sweep has passed them */
		remove_block(hat, b);
		op_junk(op, b);
	}
	return old;
}

static void sfmmu_prune(struct op *op, struct hat *hat, vaddr_t va)
{
	const struct hat_format *f = hat->h_fmt;
	vaddr_t base = va >> f->f_shift[1] << f->f_shift[1];
	struct hmeblk *b = find_block(hat, base, 0);

	if (b != NULL && b->hb_used == 0) {
		remove_block(hat, b);
		op_junk(op, b);
	}
}

static uint64_t sfmmu_demote(struct op *op, struct hat *hat, const struct map *m)
{
	const struct hat_format *f = hat->h_fmt;
	struct hmeblk *b = block_of(hat, m);
	uint64_t frame = f->f_frame(m->m_word), old = entry_swap(f, m->m_entry, 0);
	unsigned attr = f->f_attr(old);

	for (vaddr_t va = m->m_va; va < m->m_va + size_bytes(f, m->m_size);
	     va += block_bytes(f, 0)) {
		struct hmeblk *low = take_deposit(b);

		enter_block(hat, low, va, 0);
		low->hb_used = BLOCK_TTES;
		for (unsigned i = 0; i < BLOCK_TTES; i++)
			low->hb_tte[i] = f->f_make(frame + vm_btop(va - m->m_va) + i, attr, 0) |
			    (old & f->f_locked);
	}
	remove_block(hat, b);
	op_junk(op, b);
	return old;
}

static enum need sfmmu_join(
    struct op *op, struct hat *hat, vaddr_t va, unsigned size, uint64_t word)
{
	const struct hat_format *f = hat->h_fmt;
	vaddr_t end = va + size_bytes(f, size);
	struct hmeblk *large, *parts = NULL;

	if (op->o_nspare < 1)
		return NEED_OBJECT;
	large = op_spare(op);
	for (vaddr_t at = va; at < end; at += block_bytes(f, size - 1)) {
		struct hmeblk *b = find_block(hat, at, size - 1);

		remove_block(hat, b);
		b->hb_next = parts;
		parts = b;
	}
	enter_block(hat, large, va, size);
	large->hb_used = 1;
	large->hb_tte[0] = word;
	op_flush_add(op, hat, va, end - va, false);
	op_flush(op);
	for (struct hmeblk *b = parts, *next; b != NULL; b = next) {
		next = b->hb_next;
		for (unsigned i = 0; i < BLOCK_TTES; i++)
			if (b->hb_tte[i] & f->f_valid)
				(void)hat_gather(hat, b->hb_tte[i], size - 1);
		while (b->hb_deposit != NULL)
			put_deposit(large, take_deposit(b));
		if (size == 1)
			put_deposit(large, b);
		else
			op_junk(op, b);
	}
	return NEED_NOTHING;
}

/* Nothing to link: lookups follow h_borrowed. */
static enum need sfmmu_attach(
    struct op *op, struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, unsigned level)
{
	(void)op, (void)from, (void)fva, (void)level;
	for (const struct share *s = to->h_borrowed; s != NULL; s = s->s_borrowed)
		if (va - s->s_va < s->s_len)
			return NEED_STOP;
	return NEED_NOTHING;
}
static void sfmmu_detach(
    struct op *op, struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, unsigned level)
{
	(void)from, (void)fva;
	op_flush_add(op, to, va, size_bytes(to->h_fmt, level), true);
}

static void *block_alloc(struct vm *vm)
{
	return kmem_zalloc(vm, sizeof(struct hmeblk), KM_NOSLEEP);
}
static void block_free(struct vm *vm, void *object)
{
	kmem_free(vm, object, sizeof(struct hmeblk));
}
static void **block_link(void *object) { return (void **)&((struct hmeblk *)object)->hb_next; }

/* ---- TSB ---- */
static uint64_t tsb_entries(const struct tsb *t)
{
	return t->t_page == NULL ? 0 : (VM_PAGESIZE << t->t_order) / sizeof(struct tsb_entry);
}

static struct tsb_entry *tsb_base(const struct hat *hat, const struct tsb *t)
{
	return mach_frame_kva(hat->h_shared->hs_mach, page_pfn(hat->h_vm, t->t_page));
}

static unsigned tsb_shift(const struct hat *hat, unsigned k)
{
	return hat->h_fmt->f_shift[k == 0 ? 0 : top_size(hat->h_fmt)];
}

static void sfmmu_stale(struct hat *hat, vaddr_t va, uint64_t len)
{
	for (unsigned k = 0; k < 2; k++) {
		const struct tsb *t = &hat->h_sfmmu->sf_tsb[k];
		uint64_t n = tsb_entries(t), first = va >> tsb_shift(hat, k);
		uint64_t count = len == 0 ? 0 : ((va + len - 1) >> tsb_shift(hat, k)) - first + 1;
		struct tsb_entry *e;

		if (n == 0)
			continue;
		e = tsb_base(hat, t);
		for (uint64_t i = 0; i < (count < n ? count : n); i++) {
			struct tsb_entry *at = &e[count < n ? (first + i) & (n - 1) : i];

			if (at->ts_tag - first < count)
				*at = (struct tsb_entry){ 0 };
		}
	}
}

/* The word for the TLB: writable once it is marked modified. */
static uint64_t tlb_word(const struct hat_format *f, uint64_t tte)
{
	tte &= ~f->f_locked;
	return tte & f->f_write && tte & f->f_mod ? tte | SFMMU_TTE_W : tte;
}

bool sfmmu_miss(struct hat *hat, vaddr_t va, uint64_t *word)
{
	const struct hat_format *f = hat->h_fmt;
	const struct tsb *t;
	unsigned k;
	struct map m;

	if (va >= f->f_va_end || !sfmmu_lookup(hat, va, &m) || f->f_attr(m.m_word) == 0)
		return false;
	m.m_word |= f->f_ref;
	(void)entry_change(f, m.m_entry, 0, f->f_ref);
	*word = tlb_word(f, m.m_word);
	k = m.m_size == top_size(f);
	t = &hat->h_sfmmu->sf_tsb[k];
	if (tsb_entries(t) != 0) {
		uint64_t tag = va >> tsb_shift(hat, k);

		tsb_base(hat, t)[tag & (tsb_entries(t) - 1)] =
		    (struct tsb_entry){ .ts_tag = tag, .ts_data = *word };
	}
	return true;
}

bool sfmmu_peek(struct hat *hat, vaddr_t va, uint64_t *word)
{
	struct map m;

	if (va >= hat->h_fmt->f_va_end || !sfmmu_lookup(hat, va, &m))
		return false;
	*word = tlb_word(hat->h_fmt, m.m_word);
	return true;
}

uint64_t sfmmu_tsb(struct hat *hat, unsigned k, pfn_t *base)
{
	const struct tsb *t = &hat->h_sfmmu->sf_tsb[k];

	if (t->t_page != NULL)
		*base = page_pfn(hat->h_vm, t->t_page);
	return tsb_entries(t);
}

/* The size that the TSB should have; -1: no TSB. The present size stays unless it is clearly
 * wrong. */
static int tsb_want(const struct hat *hat, unsigned k)
{
	const struct tsb *t = &hat->h_sfmmu->sf_tsb[k];
	uint64_t n = tsb_entries(t), used = 0;
	int order = (int)t->t_order;

	if (k == 1)
		return hat->h_count[top_size(hat->h_fmt)] == 0 ? -1 : 0;
	for (unsigned s = 0; s < top_size(hat->h_fmt); s++)
		used += hat->h_count[s] << (hat->h_fmt->f_shift[s] - VM_PAGESHIFT);
	for (const struct share *s = hat->h_borrowed; s != NULL; s = s->s_borrowed)
		used += vm_btop(s->s_len); /* the translations loaded there change without this
		                            * space */
	for (; used > n && order < (int)TSB_MAXORDER; n *= 2)
		order++;
	for (; used < n / 8 && order > 0; n /= 2)
		order--;
	return order;
}

static void sfmmu_tune(struct hat *hat)
{
	struct hat_shared *hs = hat->h_shared;

	for (unsigned k = 0; k < 2; k++) {
		struct tsb *t = &hat->h_sfmmu->sf_tsb[k], new = { 0 }, old;
		int want = tsb_want(hat, k);

		if (want == (t->t_page == NULL ? -1 : (int)t->t_order))
			continue;
		new.t_order = want < 0 ? 0 : (unsigned)want;
		if (want >= 0 &&
		    (vm_inject_fail(hat->h_vm, VM_INJECT_HAT) ||
			(new.t_page = page_kalloc(hat->h_vm, new.t_order, PG_ZERO)) == NULL))
			continue; /* the old TSB stays in use */
		mach_mutex_enter(&hs->hs_lock);
		old = *t;
		if (tsb_want(hat, k) != want) {
			old =
			    new; /* the wanted size changed meanwhile: the next load looks again */
		} else {
			struct mmu_range r = { .mr_hat = hat, .mr_tables = true };

			*t = new;
			hs->hs_tsbgrown += old.t_page != NULL && new.t_order > old.t_order;
			hs->hs_tsbshrunk += old.t_page != NULL && new.t_order < old.t_order;
			mmu_tlb_flush(
			    hs->hs_mach, &r, 1); /* no CPU has the old base loaded any more */
		}
		mach_mutex_exit(&hs->hs_lock);
		if (old.t_page != NULL)
			page_kfree(hat->h_vm, old.t_page, old.t_order);
	}
}

/* ---- life ---- */
static enum vm_err sfmmu_init(struct hat *hat)
{
	struct sfmmu *sf = kmem_zalloc(hat->h_vm, sizeof(*sf), KM_SLEEP);

	if (sf == NULL)
		return VM_NOMEM;
	sf->sf_tsb[0].t_page = page_kalloc(hat->h_vm, 0, PG_WAIT | PG_ZERO);
	if (sf->sf_tsb[0].t_page == NULL) {
		kmem_free(hat->h_vm, sf, sizeof(*sf));
		return VM_NOMEM;
	}
	hat->h_sfmmu = sf;
	return VM_OK;
}

static void sfmmu_fini(struct op *op, struct hat *hat)
{
	(void)op; /* every block was freed with its last translation */
	(void)hat;
}

static void sfmmu_destroy(struct hat *hat)
{
	for (unsigned k = 0; k < 2; k++) {
		struct tsb *t = &hat->h_sfmmu->sf_tsb[k];

		if (t->t_page != NULL)
			page_kfree(hat->h_vm, t->t_page, t->t_order);
	}
	kmem_free(hat->h_vm, hat->h_sfmmu, sizeof(*hat->h_sfmmu));
}

static bool sfmmu_share(struct hat_shared *hs)
{
	unsigned n = 64;

	while (n < hs->hs_caps->mc_nframes / BLOCK_TTES)
		n *= 2;
	hs->hs_hashmask = n - 1;
	hs->hs_hash = mach_boot_alloc(hs->hs_mach, n * sizeof(struct hmeblk *));
	return hs->hs_hash != NULL;
}

/* ---- vm_check ---- */
static unsigned report_violation(void (*report)(void *, const char *), void *arg, const char *text)
{
	report(arg, text);
	return 1;
}

static unsigned check_block(const struct hat *hat, struct hmeblk *b, uint64_t count[HAT_LEVELS],
    void (*report)(void *, const char *), void *arg)
{
	unsigned used = 0, have = 0, bad = 0;

	for (const struct hmeblk *d = b->hb_deposit; d != NULL; d = d->hb_next)
		have++;
	for (unsigned i = 0; i < (b->hb_size == 0 ? BLOCK_TTES : 1); i++)
		used += (b->hb_tte[i] & hat->h_fmt->f_valid) != 0;
	count[b->hb_size] += used;
	if (used != b->hb_used || used == 0)
		bad +=
		    report_violation(report, arg, "hat: a block's count is wrong, or it is empty");
	if (have != deposit_blocks(hat->h_fmt, b->hb_size))
		bad += report_violation(report, arg, "hat: a block's deposit is wrong");
	if (find_block(hat, b->hb_va, b->hb_size) != b)
		bad += report_violation(
		    report, arg, "hat: a block is in the tree but not in the hash");
	return bad;
}

static unsigned check_tsb(
    struct hat *hat, unsigned k, void (*report)(void *, const char *), void *arg)
{
	const struct tsb *t = &hat->h_sfmmu->sf_tsb[k];
	uint64_t n = tsb_entries(t), word;
	unsigned bad = 0;

	for (uint64_t i = 0; i < n; i++) {
		const struct tsb_entry *e = &tsb_base(hat, t)[i];

		if (e->ts_data == 0)
			continue;
		if (!sfmmu_peek(hat, e->ts_tag << tsb_shift(hat, k), &word) || word != e->ts_data ||
		    (e->ts_tag & (n - 1)) != i)
			bad += report_violation(
			    report, arg, "hat: the TSB holds what the blocks do not");
	}
	return bad;
}

static unsigned sfmmu_check(struct hat *hat, void (*report)(void *, const char *), void *arg)
{
	uint64_t count[HAT_LEVELS] = { 0 };
	unsigned bad = 0;

	for (struct hmeblk *b = tree_ge(hat, 0, 0); b != NULL;
	     b = tree_ge(hat, b->hb_va, b->hb_size + 1u))
		bad += check_block(hat, b, count, report, arg);
	for (unsigned s = 0; s < HAT_LEVELS; s++)
		if (count[s] != hat->h_count[s])
			bad += report_violation(
			    report, arg, "hat: the count of translations is wrong");
	return bad + check_tsb(hat, 0, report, arg) + check_tsb(hat, 1, report, arg);
}

const struct hat_store hat_sfmmu = {
	.st_share = sfmmu_share,
	.st_init = sfmmu_init,
	.st_fini = sfmmu_fini,
	.st_destroy = sfmmu_destroy,
	.st_lookup = sfmmu_lookup,
	.st_next = sfmmu_next,
	.st_slot = sfmmu_slot,
	.st_set = sfmmu_set,
	.st_clear = sfmmu_clear,
	.st_prune = sfmmu_prune,
	.st_demote = sfmmu_demote,
	.st_join = sfmmu_join,
	.st_attach = sfmmu_attach,
	.st_detach = sfmmu_detach,
	.st_stale = sfmmu_stale,
	.st_tune = sfmmu_tune,
	.st_alloc = block_alloc,
	.st_free = block_free,
	.st_link = block_link,
	.st_check = sfmmu_check,
};
