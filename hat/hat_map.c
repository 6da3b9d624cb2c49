/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Translations of one space: how to change one, to split one and to take one out, in any store. The
 * calls of hat.h (hat.c), sharing (hat_share.c) and the stores use it; it reaches the store of a
 * space only through the operations of the format.
 *
 * Locks: all with hs_lock. Invariant: when a function returns, hat_foreach and hat_page_foreach
 * show the same translations of the space (hat.c).
 */
#include "hat/hat_map.h"

unsigned hat_gather(const struct hat *hat, uint64_t word, unsigned size)
{
	const struct mach_caps *caps = hat->h_shared->hs_caps;
	unsigned nrm = (word & hat->h_fmt->f_ref && caps->mc_ref_bits ? P_REF : 0) |
	    (word & hat->h_fmt->f_mod && caps->mc_mod_bits ? P_MOD : 0);
	struct page *pp;

	if (nrm == 0 || is_device(hat, word))
		return 0;
	pp = page_of(hat->h_vm, word_pfn(hat, word));
	for (pfn_t i = 0; i < size_pages(hat->h_fmt, size); i++)
		page_nrm_set(&pp[i], nrm);
	return nrm;
}

void map_note_exec(const struct hat *hat, const struct map *m, unsigned fresh)
{
	if ((fresh & PROT_X) && !is_device(hat, m->m_word))
		mmu_exec_loaded(hat->h_shared->hs_mach, word_pfn(hat, m->m_word),
		    size_pages(hat->h_fmt, m->m_size));
}

void map_set_attr(struct op *op, struct hat *hat, struct map *m, unsigned attr)
{
	const struct hat_format *f = hat->h_fmt;
	uint64_t keep = f->f_locked | f->f_ref | f->f_mod, old = m->m_word, new;

	do
		new = make_word(hat, f->f_frame(old), attr, m->m_size) | (old & keep);
	while (!entry_cas(f, m->m_entry, &old, new));
	m->m_word = new;
	map_note_exec(hat, m, attr & ~f->f_attr(old));
	if (f->f_attr(old) & ~attr)
		op_flush_add(op, hat, m->m_va, map_bytes(hat, m), false);
	else if (old != new)
		hat_stale(hat, m->m_va, map_bytes(hat, m));
}

/* Replaces one large entry by entries of its parts. */
static void split_large(struct op *op, struct hat *hat, const struct map *m)
{
	const struct hat_format *f = hat->h_fmt;
	uint64_t old = f->f_store->st_demote(op, hat, m);
	vaddr_t va = m->m_va;
	struct map part;

	(void)hat_gather(hat, old, m->m_size);
	op_flush_add(op, hat, va, map_bytes(hat, m), false);
	if (!lookup_map(hat, va, &part) || part.m_size >= m->m_size)
		mach_panic("hat: a large translation was not split");
	hat->h_count[m->m_size]--;
	hat->h_count[part.m_size] += 1ull << (f->f_shift[m->m_size] - f->f_shift[part.m_size]);
	op->o_hs->hs_demoted++;
}

bool map_lookup_split(struct op *op, struct hat *hat, vaddr_t va, unsigned size, struct map *m)
{
	bool found;

	while ((found = lookup_map(hat, va, m)) && m->m_size > size)
		split_large(op, hat, m);
	return found;
}

void map_cut_at(struct op *op, struct hat *hat, vaddr_t va)
{
	struct map m;

	while (lookup_map(hat, va, &m) && m.m_va != va)
		split_large(op, hat, &m);
}

/* Takes a translation out. Its tables stay, even if they are empty. */
static void drop_map(struct op *op, struct hat *hat, const struct map *m)
{
	uint64_t old = hat->h_fmt->f_store->st_clear(op, hat, m);
	pfn_t pfn = word_pfn(hat, old),
	      n = is_device(hat, old) ? 0 : size_pages(hat->h_fmt, m->m_size);

	(void)hat_gather(hat, old, m->m_size);
	for (pfn_t i = 0; i < n; i++) {
		pv_remove(hat->h_shared, page_of(hat->h_vm, pfn + i), hat, m->m_va + vm_ptob(i));
		mmu_frame_loaded(hat->h_shared->hs_mach, pfn + i, false);
	}
	hat->h_count[m->m_size]--;
	op_flush_add(op, hat, m->m_va, map_bytes(hat, m), false);
}

void map_drop_one(struct op *op, struct hat *hat, const struct map *m)
{
	drop_map(op, hat, m);
	hat->h_fmt->f_store->st_prune(op, hat, m->m_va);
}

/*
 * Drops every translation of the range, the locked ones excepted if spare. Tables are pruned when
 * the sweep leaves the range of a lowest table; until then the sweep stays in that table.
 */
void map_unload_range(struct op *op, struct hat *hat, vaddr_t va, vaddr_t end, bool spare)
{
	const struct hat_format *f = hat->h_fmt;
	vaddr_t last = 0;
	bool any = false;
	struct map m;

	for (; next_map(hat, &va, end, &m); va = map_end(hat, &m)) {
		if (any && last >> f->f_shift[1] != m.m_va >> f->f_shift[1])
			f->f_store->st_prune(op, hat, last);
		if (spare && is_locked(hat, &m))
			continue;
		last = m.m_va;
		any = true;
		drop_map(op, hat, &m);
	}
	if (any)
		f->f_store->st_prune(op, hat, last);
}

bool hat_make_place(struct op *op, struct hat *hat, vaddr_t va, uint64_t bytes, unsigned flags)
{
	vaddr_t at = va, end = va + bytes;
	struct map m;

	if (!next_map(hat, &at, end, &m))
		return true;
	if (flags & HAT_LOAD_ADV)
		return false;
	map_cut_at(op, hat, va);
	map_cut_at(op, hat, end);
	for (at = va; next_map(hat, &at, end, &m); at = map_end(hat, &m))
		if (is_locked(hat, &m))
			mach_panic("hat_memload: a locked translation to another page is there");
	map_unload_range(op, hat, va, end, false);
	return true;
}
