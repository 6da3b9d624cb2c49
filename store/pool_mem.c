/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The memory that the store takes, and the charge for it to the store's user (p_charge).
 *
 * Memory is counted by the page: the pages of slots that segments have touched (s_pages), the pages
 * of a few free slots that stay warm, and the used part of the tables. The store takes no memory
 * before the first page is stored, and keeps none after the last page is dropped. Memory is charged
 * before it is touched, and given back before its charge is returned.
 *
 * Tables lie in sparse memory and grow from their front with their index; ps_table[] says how many
 * pages of each are charged. The object table is counted by granules (pool_object.c), the maps of
 * members by leaves (pool_member.c). Left out: the working areas of each process (POOL_CONTEXTS),
 * which are the process's own memory.
 *
 * Lock: ps_lock for everything here.
 */
#include "store/pool_impl.h"

#define BASE_PAGES 1u /* pool_shared itself */

static void give_back(struct pool *p, uint32_t pages)
{
	if (pages != 0 && p->p_charge != NULL)
		(void)p->p_charge(p->p_charge_arg, -(long)pages);
}

static bool take_pages(struct pool *p, uint32_t pages)
{
	return p->p_charge == NULL || p->p_charge(p->p_charge_arg, (long)pages) == 0;
}

static void note_most(struct pool_shared *s)
{
	if (s->ps_stats.mem_most < pool_taken(s))
		s->ps_stats.mem_most = pool_taken(s);
}

void pool_forget(void *mem, uint64_t len)
{
	/* MADV_REMOVE frees the pages of a shared mapping; private memory answers EINVAL and takes DONTNEED */
	if (len > 0 && sys_call3(SYS_madvise, (long)mem, (long)len, MADV_REMOVE) != 0)
		(void)sys_call3(SYS_madvise, (long)mem, (long)len, MADV_DONTNEED);
}

/* ---- slots ---- */
static void slot_cool(struct pool *p, struct warm w)
{
	struct pool_shared *s = p->p_shared;

	if (w.w_pages != 0)
		pool_forget(slot_mem(s, w.w_slot), SEG_BYTES);
	pool_index_give(s, &s->ps_slotx, w.w_slot);
	pool_tell(&s->ps_held, s->ps_held - mask_count(w.w_pages));
	give_back(p, mask_count(w.w_pages));
	pool_tables_locked(p);
}

bool pool_slot_take_locked(struct pool *p, struct warm *w)
{
	struct pool_shared *s = p->p_shared;

	POOL_ASSERT(pool_held(s));
	if (pool_injected(p, POOL_INJECT_MEMORY))
		return false;
	if (s->ps_nwarm > 0) {
		*w = s->ps_warm[--s->ps_nwarm];
		return true;
	}
	*w = (struct warm){ .w_slot = pool_index_take(s, &s->ps_slotx) };
	if (w->w_slot == NONE)
		return false;
	pool_tables_locked(p);
	return true;
}

/*
 * Keeps the memory of a few free slots: giving memory back and having it zeroed again costs more
 * than filling it.
 */
void pool_slot_give_locked(struct pool *p, struct warm w)
{
	struct pool_shared *s = p->p_shared;

	POOL_ASSERT(pool_held(s));
	if (s->ps_nwarm < WARM_MAX && w.w_pages != 0)
		s->ps_warm[s->ps_nwarm++] = w;
	else
		slot_cool(p, w);
}

bool pool_cool_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	POOL_ASSERT(pool_held(s));
	if (s->ps_nwarm == 0)
		return false;
	slot_cool(p, s->ps_warm[--s->ps_nwarm]);
	return true;
}

bool pool_touch_locked(struct pool *p, uint32_t i, uint32_t from, uint32_t to)
{
	struct segment *g = &segs_of(p->p_shared)[i];
	uint32_t more =
	    from == to ? 0 : pool_pages_mask(from * PAGE, (to - from) * PAGE) & ~g->s_pages;

	POOL_ASSERT(pool_held(p->p_shared));
	if (more == 0)
		return true;
	while (!take_pages(p, mask_count(more)))
		if (!pool_cool_locked(p))
			return false;
	g->s_pages |= more;
	pool_tell(&p->p_shared->ps_held, p->p_shared->ps_held + mask_count(more));
	note_most(p->p_shared);
	return true;
}

/* ---- tables ---- */
struct table {
	uint64_t at, bytes; /* offset in the store; entries in use from there */
};

static struct table table_of(const struct pool_shared *s, unsigned t)
{
	if (t >= TABLE_FARMAP && t <= TABLE_FARMAP_LAST) {
		const struct index *x = &s->ps_farx[t - TABLE_FARMAP];

		return (struct table){ x->x_map, pool_index_map_bytes(x->x_next) };
	}
	switch (t) {
	case TABLE_OBJMAP:
		return (struct table){ s->ps_objx.x_map, pool_index_map_bytes(s->ps_objx.x_next) };
	case TABLE_OBJSUM:
		return (struct table){ s->ps_objx.x_sum, pool_index_sum_bytes(s->ps_objx.x_next) };
	case TABLE_GRANULES:
		return (struct table){ s->ps_granuleused,
			round_up(s->ps_objx.x_next, GRANULE) / GRANULE * 2 };
	case TABLE_SEGS:
		return (struct table){ s->ps_segs,
			(uint64_t)s->ps_segx.x_next * sizeof(struct segment) };
	case TABLE_SEGMAP:
		return (struct table){ s->ps_segx.x_map, pool_index_map_bytes(s->ps_segx.x_next) };
	case TABLE_SLOTMAP:
		return (
		    struct table){ s->ps_slotx.x_map, pool_index_map_bytes(s->ps_slotx.x_next) };
	case TABLE_BLOCKMAP:
		return (
		    struct table){ s->ps_blockx.x_map, pool_index_map_bytes(s->ps_blockx.x_next) };
	case TABLE_MEMBERS:
		return (struct table){ s->ps_members,
			(uint64_t)s->ps_membertop * sizeof(struct member) };
	default:
		return (
		    struct table){ s->ps_maps, (uint64_t)s->ps_membertop * s->ps_mapleaves * 4 };
	}
}

void pool_tables_locked(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	bool empty = s->ps_stats.pages == 0;
	uint32_t now =
	    empty ? 0 : BASE_PAGES + s->ps_granules * (uint32_t)GRANULE_PAGES + s->ps_leaves_used;

	POOL_ASSERT(pool_held(s));
	for (unsigned t = 0; t < TABLES; t++) {
		struct table b = table_of(s, t);
		uint32_t pages = (uint32_t)(round_up(b.bytes, PAGE) / PAGE);

		if (pages < s->ps_table[t])
			pool_forget((char *)s + b.at + (uint64_t)pages * PAGE,
			    (uint64_t)(s->ps_table[t] - pages) * PAGE);
		s->ps_table[t] = pages;
		now += empty ? 0 : pages;
	}
	if (now < s->ps_tables)
		give_back(p, s->ps_tables - now);
	/* refused: the charge is tried again when a table changes next */
	if (now <= s->ps_tables || take_pages(p, now - s->ps_tables))
		s->ps_tables = now;
	note_most(s);
}
