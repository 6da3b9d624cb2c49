/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables: a radix tree whose nodes the hardware walks. Serves every format of format.c that is
 * a radix tree.
 *
 * A table is a frame of page_kalloc, reached by its direct address. In its page structure p_hat[0] counts its entries in
 * use (pointers and translations). A table without entries is taken out and freed. The exceptions
 * are the root, and the tables that the root of a format with f_fixed_top points to.
 *
 * Large pages: an entry of level s > 0 may be a translation. So that such an entry can be split at
 * any time without memory, the tables that a complete split needs are deposited when it is made: on
 * the list p_hat[1] of the table that contains the entry, which holds deposit(s) tables for each
 * such entry. To join 512 entries deposits the table that they were in; to split an entry takes a
 * table from the list and hands the rest of the entry's share down. (Linux keeps its spare tables
 * so for huge pages; here the list is per table because tables are alike.)
 *
 * Sharing: an entry with f_locked, which pointers have no other use for, points to a table of another space. It is
 * followed by the hardware and by lookups, passed over by sweeps. A table that is shared so is pinned: the upper half
 * of p_hat[0] counts the pointers to the table from other spaces than its own. Entries below the
 * shared table change as always.
 *
 * Two roots (hs_split; known as KPTI, after Gruss and others, "KASLR is Dead: Long Live KASLR",
 * 2017): while a program runs, the CPU has a root loaded that leads to the program's pages and to
 * the few pages that entering the kernel needs. So a CPU that runs speculatively ahead of its check
 * of rights finds no translation of the kernel's. Both roots point to the same tables below them:
 * only entries of the root are written twice (set_pointer), all other changes show in both. In the
 * kernel's root the user half is not executable: if a return to the program fails to change roots,
 * it faults at once.
 *
 * The kernel's own space: its root has all its entries from creation on, each with a table that is
 * never taken out. The roots of all spaces copy these entries and so lead to everything that is
 * loaded in the kernel's space.
 *
 * Locks: hs_lock. Invariants: tables are empty or reachable; the deposits of a table are what its large entries need; the
 * user halves of the two roots are equal but for execution.
 */
#include "hat/hat_map.h"

static unsigned table_fan(const struct hat_format *f, unsigned level)
{
	return 1u << (f->f_shift[level + 1] - f->f_shift[level]);
}

#define PIN (1ull << 32) /* in p_hat[0] of a table */

static bool is_foreign(const struct hat_format *f, uint64_t e)
{
	return f->f_is_pointer(e) && (e & f->f_locked);
}

/* Tables needed to split an entry of that level into base pages. */
static unsigned deposit_tables(const struct hat_format *f, unsigned level)
{
	unsigned n = 0;

	for (unsigned l = 0; l < level; l++)
		n = l == 0 ? 1 : 1 + table_fan(f, l) * n;
	return n;
}

static void *entry_at(const struct hat *hat, pfn_t table, unsigned level, vaddr_t va)
{
	const struct hat_format *f = hat->h_fmt;
	size_t i = (size_t)(va >> f->f_shift[level]) & (table_fan(f, level) - 1);

	return (char *)mach_frame_kva(hat->h_shared->hs_mach, table) + i * f->f_entry;
}

static struct page *table_of(const struct hat *hat, const void *entry)
{
	return page_of(hat->h_vm, mach_kva_frame(hat->h_shared->hs_mach, entry));
}

static uint64_t pointer_to(const struct hat *hat, const struct page *table, unsigned level)
{
	uint64_t word =
	    hat->h_fmt->f_pointer(page_pfn(hat->h_vm, table) + hat->h_shared->hs_frame0, level);

	return hat->h_kernel ? word & ~hat->h_fmt->f_user : word;
}

/* Points an entry of a table to a table below, or to nothing (0). If the entry is in the root, both
 * roots are written. */
static void set_pointer(const struct hat *hat, void *entry, unsigned level, uint64_t word)
{
	const struct hat_format *f = hat->h_fmt;

	if (hat->h_uroot != PFN_INVALID && level + 1u == f->f_levels) {
		char *user = mach_frame_kva(hat->h_shared->hs_mach, hat->h_uroot);

		(void)entry_swap(f, user + ((uintptr_t)entry & VM_PAGEMASK), word);
		word |= word == 0 ? 0 : f->f_noexec;
	}
	(void)entry_swap(f, entry, word);
}

/* ---- deposits ---- */
static void put_deposit(struct page *table, struct page *one)
{
	one->p_hat[0] = 0;
	one->p_hat[1] = table->p_hat[1];
	table->p_hat[1] = (uint64_t)(uintptr_t)one;
}

static struct page *take_deposit(struct page *table)
{
	struct page *one = (struct page *)(uintptr_t)table->p_hat[1];

	if (one == NULL)
		mach_panic("hat: a table was not deposited");
	table->p_hat[1] = one->p_hat[1];
	one->p_hat[0] = one->p_hat[1] = 0;
	return one;
}

static void **table_link(void *object)
{
	return (void **)(void *)&((struct page *)object)->p_hat[1];
}

/* ---- walking ---- */
/* Returns the place where the walk to va ends, at level stop or above: at a translation, or at an
 * entry that is not a pointer. */
static void walk_tables(const struct hat *hat, vaddr_t va, unsigned stop, struct map *m)
{
	const struct hat_format *f = hat->h_fmt;
	pfn_t table = hat->h_root;
	unsigned level = f->f_levels - 1u;

	for (;; level--) {
		m->m_entry = entry_at(hat, table, level, va);
		m->m_word = entry_get(f, m->m_entry);
		if (level <= stop || !f->f_is_pointer(m->m_word))
			break;
		table = word_pfn(hat, m->m_word);
	}
	m->m_size = level;
	m->m_va = va & ~(size_bytes(f, level) - 1);
}

/* The same, but ends at a table of another space. */
static void walk_own(const struct hat *hat, vaddr_t va, struct map *m)
{
	unsigned level = hat->h_fmt->f_levels - 1u;

	do
		walk_tables(hat, va, level, m);
	while (m->m_size == level && !is_foreign(hat->h_fmt, m->m_word) &&
	    hat->h_fmt->f_is_pointer(m->m_word) && level-- > 0);
}

static bool radix_lookup(const struct hat *hat, vaddr_t va, struct map *m)
{
	if (va < hat->h_min || va >= hat->h_end)
		return false;
	walk_tables(hat, va, 0, m);
	return (m->m_word & hat->h_fmt->f_valid) != 0;
}

static bool radix_next(const struct hat *hat, vaddr_t *va, vaddr_t end, struct map *m)
{
	const struct hat_format *f = hat->h_fmt;

	if (end > hat->h_end)
		end = hat->h_end;
	while (*va < end) {
		uint64_t bytes, left;

		walk_own(hat, *va, m);
		bytes = size_bytes(f, m->m_size);
		left = table_fan(f, m->m_size) -
		    (m->m_va >> f->f_shift[m->m_size] & (table_fan(f, m->m_size) - 1));
		while (!(m->m_word & f->f_valid) && !f->f_is_pointer(m->m_word) && --left > 0 &&
		    m->m_va + bytes < end) {
			m->m_va += bytes;
			m->m_entry = (char *)m->m_entry + f->f_entry;
			m->m_word = entry_get(f, m->m_entry);
		}
		if (m->m_va > *va)
			*va = m->m_va;
		if (m->m_word & f->f_valid)
			return true;
		if (!f->f_is_pointer(m->m_word) || is_foreign(f, m->m_word) || m->m_size == 0)
			*va = m->m_va + bytes;
	}
	return false;
}

/* ---- tables ---- */
/* Makes the tables from the place where a walk ended down to the entry of that level. */
static void grow_down(struct op *op, struct hat *hat, vaddr_t va, unsigned level, struct map *m)
{
	while (m->m_size > level) {
		struct page *fresh = op_spare(op);

		fresh->p_hat[0] = fresh->p_hat[1] = 0;
		table_of(hat, m->m_entry)->p_hat[0]++;
		set_pointer(hat, m->m_entry, m->m_size, pointer_to(hat, fresh, m->m_size));
		m->m_size--;
		m->m_entry = entry_at(hat, page_pfn(hat->h_vm, fresh), m->m_size, va);
		m->m_word = 0;
	}
}

static enum need radix_slot(
    struct op *op, struct hat *hat, vaddr_t va, unsigned size, struct map *m)
{
	const struct hat_format *f = hat->h_fmt;
	struct page *table;

	walk_tables(hat, va, size, m);
	if (m->m_size == size && m->m_word != 0)
		mach_panic("hat_memload: into a range that shares another space's tables");
	if (op->o_nspare < m->m_size - size + deposit_tables(f, size))
		return NEED_OBJECT;
	grow_down(op, hat, va, size, m);
	table = table_of(hat, m->m_entry);
	for (unsigned n = deposit_tables(f, size); n > 0; n--)
		put_deposit(table, op_spare(op));
	m->m_va = va;
	return NEED_NOTHING;
}

static void radix_set(struct hat *hat, const struct map *m, uint64_t word)
{
	table_of(hat, m->m_entry)->p_hat[0]++;
	(void)entry_swap(hat->h_fmt, m->m_entry, word);
}

static uint64_t radix_clear(struct op *op, struct hat *hat, const struct map *m)
{
	struct page *table = table_of(hat, m->m_entry);
	uint64_t old = entry_swap(hat->h_fmt, m->m_entry, 0);

	table->p_hat[0]--;
	for (unsigned n = deposit_tables(hat->h_fmt, m->m_size); n > 0; n--)
		op_junk(op, take_deposit(table));
	return old;
}

static bool is_fixed(const struct hat *hat, unsigned level)
{
	const struct hat_format *f = hat->h_fmt;

	return level + 1u >= f->f_levels ||
	    ((f->f_fixed_top || hat->h_kernel) && level + 2u >= f->f_levels);
}

/* Takes empty tables out, from the lowest table on the way to va up to the one of that level. */
static void prune_from(struct op *op, struct hat *hat, vaddr_t va, unsigned level)
{
	struct map m;

	walk_tables(hat, va, level, &m);
	while (!is_fixed(hat, m.m_size)) {
		struct page *empty = table_of(hat, m.m_entry);

		if (empty->p_hat[0] != 0)
			return;
		walk_tables(hat, va, m.m_size + 1, &m);
		set_pointer(hat, m.m_entry, m.m_size, 0);
		table_of(hat, m.m_entry)->p_hat[0]--;
		op_flush_add(op, hat, va, VM_PAGESIZE, true);
		op_junk(op, empty);
	}
}

static void radix_prune(struct op *op, struct hat *hat, vaddr_t va) { prune_from(op, hat, va, 0); }

/* ---- large pages ---- */
static uint64_t radix_demote(struct op *op, struct hat *hat, const struct map *m)
{
	const struct hat_format *f = hat->h_fmt;
	struct page *table = table_of(hat, m->m_entry), *low = take_deposit(table);
	unsigned level = m->m_size - 1, n = table_fan(f, level);
	uint64_t frame = f->f_frame(m->m_word), step = size_pages(f, level);
	uint64_t locked = m->m_word & f->f_locked;
	char *e = mach_frame_kva(hat->h_shared->hs_mach, page_pfn(hat->h_vm, low));
	unsigned attr = f->f_attr(m->m_word);

	(void)op;
	for (unsigned i = 0; i < n; i++, e += f->f_entry)
		(void)entry_swap(f, e, make_word(hat, frame + i * step, attr, level) | locked);
	low->p_hat[0] = n;
	for (unsigned i = deposit_tables(f, m->m_size) - 1; i > 0; i--)
		put_deposit(low, take_deposit(table));
	return entry_swap(f, m->m_entry, pointer_to(hat, low, m->m_size));
}

/* The small entries are out of the hardware's sight after the flush; bits that it set before are
 * then gathered from them. */
static enum need radix_join(
    struct op *op, struct hat *hat, vaddr_t va, unsigned size, uint64_t word)
{
	const struct hat_format *f = hat->h_fmt;
	struct page *table, *low;
	struct map m;
	char *e;

	walk_tables(hat, va, size, &m);
	table = table_of(hat, m.m_entry);
	low = page_of(hat->h_vm, word_pfn(hat, m.m_word));
	e = mach_frame_kva(hat->h_shared->hs_mach, page_pfn(hat->h_vm, low));
	(void)entry_swap(f, m.m_entry, word);
	op_flush_add(op, hat, va, size_bytes(f, size), true);
	op_flush(op);
	for (unsigned i = 0; i < table_fan(f, size - 1); i++)
		(void)hat_gather(hat, entry_swap(f, e + i * f->f_entry, 0), size - 1);
	while (low->p_hat[1] != 0)
		put_deposit(table, take_deposit(low));
	put_deposit(table, low);
	return NEED_NOTHING;
}

/* ---- shared tables ---- */
static enum need radix_attach(
    struct op *op, struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, unsigned level)
{
	const struct hat_format *f = to->h_fmt;
	struct page *shared;
	struct map t, m;

	walk_tables(to, va, level, &t);
	walk_tables(from, fva, level, &m);
	if ((m.m_word & f->f_valid) || is_foreign(f, m.m_word) ||
	    (t.m_size == level && t.m_word != 0))
		return NEED_STOP;
	if (op->o_nspare < t.m_size - level + (m.m_size - level) + (m.m_word == 0))
		return NEED_OBJECT;
	grow_down(op, from, fva, level, &m);
	if (m.m_word == 0) {
		shared = op_spare(op);
		shared->p_hat[0] = shared->p_hat[1] = 0;
		m.m_word = pointer_to(from, shared, level);
		radix_set(from, &m, m.m_word);
	}
	shared = page_of(from->h_vm, word_pfn(from, m.m_word));
	shared->p_hat[0] += PIN;
	grow_down(op, to, va, level, &t);
	radix_set(to, &t, pointer_to(to, shared, level) | f->f_locked);
	return NEED_NOTHING;
}

static void radix_detach(
    struct op *op, struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, unsigned level)
{
	struct map t;
	uint64_t old;

	walk_tables(to, va, level, &t);
	old = entry_swap(to->h_fmt, t.m_entry, 0);
	table_of(to, t.m_entry)->p_hat[0]--;
	page_of(from->h_vm, word_pfn(to, old))->p_hat[0] -= PIN;
	op_flush_add(op, to, va, size_bytes(to->h_fmt, level), true);
	radix_prune(op, to, va);
	prune_from(op, from, fva, level - 1);
}

/* ---- life ---- */
/* The base register may reach less memory than an entry does. */
static struct page *root_alloc(const struct hat *hat)
{
	uint64_t reach = hat->h_fmt->f_root_frames - hat->h_shared->hs_frame0;
	struct page_limits low = { .pl_n = 1, .pl_max = (pfn_t)reach };

	if (reach >= hat->h_shared->hs_caps->mc_nframes)
		return page_kalloc(hat->h_vm, 0, PG_WAIT | PG_ZERO);
	return page_alloc_contig(hat->h_vm, &low, PG_WAIT | PG_ZERO);
}

/* Makes the tables of the kernel's own space that its root points to. */
static void lead_to_kernel(const struct hat *hat)
{
	const struct hat *kernel = hat->h_shared->hs_kernel;
	const struct hat_format *f = hat->h_fmt;
	unsigned top = f->f_levels - 1u;

	if (kernel == NULL)
		return;
	for (vaddr_t va = kernel->h_min; va < kernel->h_end; va += size_bytes(f, top))
		(void)entry_swap(f, entry_at(hat, hat->h_root, top, va),
		    entry_get(f, entry_at(kernel, kernel->h_root, top, va)));
}

static bool has_fixed_top(const struct hat *hat)
{
	return hat->h_fmt->f_fixed_top || hat->h_kernel;
}

static enum vm_err radix_init(struct hat *hat)
{
	const struct hat_format *f = hat->h_fmt;
	struct page *root = root_alloc(hat);

	if (root == NULL)
		return VM_NOMEM;
	root->p_hat[0] = root->p_hat[1] = 0;
	hat->h_root = page_pfn(hat->h_vm, root);
	mmu_root_init(
	    hat->h_shared->hs_mach, mach_frame_kva(hat->h_shared->hs_mach, hat->h_root), false);
	if (hat->h_shared->hs_split) {
		struct page *user = root_alloc(hat);

		if (user == NULL) {
			page_kfree(hat->h_vm, root, 0);
			return VM_NOMEM;
		}
		user->p_hat[0] = user->p_hat[1] = 0;
		hat->h_uroot = page_pfn(hat->h_vm, user);
		mmu_root_init(hat->h_shared->hs_mach,
		    mach_frame_kva(hat->h_shared->hs_mach, hat->h_uroot), true);
	}
	lead_to_kernel(hat);
	for (vaddr_t va = hat->h_min; has_fixed_top(hat) && va < hat->h_end;
	     va += size_bytes(f, f->f_levels - 1u)) {
		struct page *low = page_kalloc(hat->h_vm, 0, PG_WAIT | PG_ZERO);

		if (low == NULL) {
			struct op op = { .o_hs = hat->h_shared, .o_vm = hat->h_vm, .o_fmt = f };

			hat_radix.st_fini(&op, hat);
			for (struct page *pp = op.o_junk; pp != NULL; pp = op.o_junk) {
				op.o_junk = *table_link(pp);
				hat_radix.st_free(hat->h_vm, pp);
			}
			return VM_NOMEM;
		}
		low->p_hat[0] = low->p_hat[1] = 0;
		(void)entry_swap(f, entry_at(hat, hat->h_root, f->f_levels - 1u, va),
		    pointer_to(hat, low, f->f_levels - 1u));
		root->p_hat[0]++;
	}
	return VM_OK;
}

static void radix_fini(struct op *op, struct hat *hat)
{
	const struct hat_format *f = hat->h_fmt;
	unsigned top = f->f_levels - 1u;

	for (vaddr_t va = hat->h_min; has_fixed_top(hat) && va < hat->h_end;
	     va += size_bytes(f, top)) {
		uint64_t e = entry_get(f, entry_at(hat, hat->h_root, top, va));

		if (f->f_is_pointer(e))
			op_junk(op, page_of(hat->h_vm, word_pfn(hat, e)));
	}
	op_junk(op, page_of(hat->h_vm, hat->h_root));
	if (hat->h_uroot != PFN_INVALID)
		op_junk(op, page_of(hat->h_vm, hat->h_uroot));
}

static bool radix_share(struct hat_shared *hs)
{
	(void)hs; /* spaces share nothing */
	return true;
}

static void radix_nothing(struct hat *hat) { (void)hat; }

static void radix_stale(struct hat *hat, vaddr_t va, uint64_t len)
{
	(void)hat; /* the TLBs have the only copies */
	(void)va;
	(void)len;
}

static void *table_alloc(struct vm *vm)
{
	struct page *pp = page_kalloc(vm, 0, PG_ZERO);

	if (pp != NULL)
		pp->p_hat[0] = pp->p_hat[1] = 0;
	return pp;
}

static void table_free(struct vm *vm, void *object)
{
	struct page *pp = object;

	pp->p_hat[0] = pp->p_hat[1] = 0;
	page_kfree(vm, pp, 0);
}

/* ---- vm_check ---- */
struct checking {
	void (*c_report)(void *, const char *);
	void *c_arg;
	unsigned c_bad;
	uint64_t c_count[HAT_LEVELS];
};

static void report_violation(struct checking *c, const char *text)
{
	c->c_report(c->c_arg, text);
	c->c_bad++;
}

/* Is that entry of the root the space's own, and not the kernel's half? */
static bool is_own_entry(const struct hat *hat, unsigned i)
{
	const struct hat_format *f = hat->h_fmt;
	vaddr_t va = (vaddr_t)i << f->f_shift[f->f_levels - 1u];

	if (hat->h_kernel)
		va |= ~(vaddr_t)0 << f->f_shift[f->f_levels];
	return va >= hat->h_min && va < hat->h_end;
}

static void check_table(const struct hat *hat, pfn_t pfn, unsigned level, struct checking *c)
{
	const struct hat_format *f = hat->h_fmt;
	const struct page *table = page_of(hat->h_vm, pfn);
	unsigned used = 0, owed = 0, have = 0;

	if (table->p_flags != P_KERNEL) {
		report_violation(c, "hat: a table is not in a kernel frame");
		return;
	}
	bool top = level + 1u == f->f_levels;
	uint64_t pins = table->p_hat[0] / PIN;

	for (unsigned i = 0; i < table_fan(f, level); i++) {
		if (top && !is_own_entry(hat, i))
			continue;
		uint64_t e =
		    entry_get(f, entry_at(hat, pfn, level, (vaddr_t)i << f->f_shift[level]));

		used += e != 0;
		if (is_foreign(f, e)) {
			if (page_of(hat->h_vm, word_pfn(hat, e))->p_hat[0] < PIN)
				report_violation(c, "hat: a shared table is not pinned");
		} else if (f->f_is_pointer(e) && level > 0) {
			check_table(hat, word_pfn(hat, e), level - 1, c);
		} else if (e & f->f_valid) {
			c->c_count[level]++;
			owed += deposit_tables(f, level);
			if (level >= f->f_nsizes)
				report_violation(c, "hat: a translation at a level that has none");
			else if (word_pfn(hat, e) & (size_pages(f, level) - 1))
				report_violation(
				    c, "hat: a large translation to an unaligned frame");
		} else if (e != 0) {
			report_violation(c, "hat: an entry is neither pointer nor translation");
		}
	}
	for (const struct page *d = (const struct page *)(uintptr_t)table->p_hat[1];
	     d != NULL && have <= owed; d = (const struct page *)(uintptr_t)d->p_hat[1])
		have++;
	if (used != table->p_hat[0] % PIN)
		report_violation(c, "hat: a table's count of entries is wrong");
	if (have != owed)
		report_violation(c, "hat: a table's deposits are not what its large entries need");
	if (used == 0 && pins == 0 && !is_fixed(hat, level))
		report_violation(c, "hat: an empty table was not taken out");
}

/* Its kernel half is checked by the machine. */
static void check_user_root(const struct hat *hat, struct checking *c)
{
	const struct hat_format *f = hat->h_fmt;
	unsigned top = f->f_levels - 1u;

	for (vaddr_t va = 0; va < f->f_va_end; va += size_bytes(f, top)) {
		uint64_t e = entry_get(f, entry_at(hat, hat->h_root, top, va)),
			 user = entry_get(f, entry_at(hat, hat->h_uroot, top, va));

		if (e != (user == 0 ? 0 : user | f->f_noexec))
			report_violation(c, "hat: the two roots lead to different tables");
	}
}

static unsigned radix_check(struct hat *hat, void (*report)(void *, const char *), void *arg)
{
	struct checking c = { .c_report = report, .c_arg = arg };

	check_table(hat, hat->h_root, hat->h_fmt->f_levels - 1u, &c);
	if (hat->h_uroot != PFN_INVALID)
		check_user_root(hat, &c);
	for (unsigned s = 0; s < HAT_LEVELS; s++)
		if (c.c_count[s] != hat->h_count[s])
			report_violation(&c, "hat: the count of translations is wrong");
	return c.c_bad;
}

const struct hat_store hat_radix = {
	.st_share = radix_share,
	.st_destroy = radix_nothing,
	.st_tune = radix_nothing,
	.st_init = radix_init,
	.st_fini = radix_fini,
	.st_lookup = radix_lookup,
	.st_next = radix_next,
	.st_slot = radix_slot,
	.st_set = radix_set,
	.st_clear = radix_clear,
	.st_prune = radix_prune,
	.st_demote = radix_demote,
	.st_join = radix_join,
	.st_attach = radix_attach,
	.st_detach = radix_detach,
	.st_stale = radix_stale,
	.st_alloc = table_alloc,
	.st_free = table_free,
	.st_link = table_link,
	.st_check = radix_check,
};
