/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to hat/: the translations of one space, whatever the store (hat_map.c). All with hs_lock. */
#ifndef QUIRE_HAT_MAP_H
#define QUIRE_HAT_MAP_H

#include "hat/hat_impl.h"

static inline bool lookup_map(const struct hat *hat, vaddr_t va, struct map *m)
{
	return hat->h_fmt->f_store->st_lookup(hat, va, m);
}
static inline bool next_map(const struct hat *hat, vaddr_t *va, vaddr_t end, struct map *m)
{
	return hat->h_fmt->f_store->st_next(hat, va, end, m);
}
static inline uint64_t map_bytes(const struct hat *hat, const struct map *m)
{
	return size_bytes(hat->h_fmt, m->m_size);
}
static inline vaddr_t map_end(const struct hat *hat, const struct map *m)
{
	return m->m_va + map_bytes(hat, m);
}
static inline bool is_locked(const struct hat *hat, const struct map *m)
{
	return (m->m_word & hat->h_fmt->f_locked) != 0;
}
static inline struct page *map_page(const struct hat *hat, const struct map *m)
{
	return page_of(hat->h_vm, word_pfn(hat, m->m_word));
}

/* For a frame that has no mapping list: a device's, or the page of zeroes. */
static inline bool is_device(const struct hat *hat, uint64_t word)
{
	const struct mach_caps *caps = hat->h_shared->hs_caps;
	uint64_t pfn = hat->h_fmt->f_frame(word) - hat->h_shared->hs_frame0;

	return pfn >= caps->mc_nframes || mach_is_hole(caps, pfn) ||
	    pfn + 1 == hat->h_shared->hs_unlisted;
}

/* Adds P_REF and P_MOD of an entry to its pages. */
unsigned hat_gather(const struct hat *, uint64_t word, unsigned size);
/* An entry makes frames executable that were not before: tells the instruction caches. fresh: the
 * rights that the entry did not grant before. */
void map_note_exec(const struct hat *, const struct map *, unsigned fresh);
/* Changes the rights of an entry; if rights are taken away, the range is flushed. */
void map_set_attr(struct op *, struct hat *, struct map *, unsigned attr);
/* Finds the translation of va. A translation larger than size is split first. False: there is
 * none. */
bool map_lookup_split(struct op *, struct hat *, vaddr_t va, unsigned size, struct map *);
/* Splits a large translation that va lies inside of. */
void map_cut_at(struct op *, struct hat *, vaddr_t va);
/* Takes a translation out, and the tables that it leaves empty. */
void map_drop_one(struct op *, struct hat *, const struct map *);
/* Takes out every translation of the range, the locked ones excepted if spare. */
void map_unload_range(struct op *, struct hat *, vaddr_t va, vaddr_t end, bool spare);
/* Takes out every translation of the range to make room for a load. False: the range is not empty,
 * and flags has HAT_LOAD_ADV. Panics if one is locked. */
bool hat_make_place(struct op *, struct hat *, vaddr_t, uint64_t bytes, unsigned flags);
#endif
