/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The references that each member holds.
 *
 * A member holds at most one reference of an object; a bit in its map records the reference. A map
 * has a table of leaves; a leaf is a page of bits that is taken when its first bit is set. Order of
 * writes: a reference is counted before its bit is set and the bit cleared before the reference is
 * dropped, so a kill in between loses one object until the family ends and never frees one twice.
 *
 * Lock: ps_lock.
 */
#include "store/pool_impl.h"

/* Leaf numbers, 0: none. */
uint32_t *pool_map_of(struct pool_shared *s, uint32_t m)
{
	return (uint32_t *)(void *)((char *)s + s->ps_maps) + (uint64_t)m * s->ps_mapleaves;
}

uint64_t *pool_leaf_of(struct pool_shared *s, uint32_t i)
{
	return (uint64_t *)(void *)((char *)s + s->ps_leaves + (uint64_t)(i - 1) * PAGE);
}

/*
 * Returns leaf n of a member's map; takes a free leaf if the member has none there. NULL: no leaf
 * is free.
 */
uint64_t *pool_leaf_get(struct pool *p, uint32_t m, uint32_t n)
{
	struct pool_shared *s = p->p_shared;
	uint32_t *at = &pool_map_of(s, m)[n];

	if (*at == 0) {
		uint32_t i = pool_index_take(s, &s->ps_leafx);

		if (i == NONE)
			return NULL;
		s->ps_leaves_used++;
		*at = i + 1;
		pool_tables_locked(p);
	}
	return pool_leaf_of(s, *at);
}

/* The leaf has no bit set. */
void pool_leaf_put(struct pool *p, uint32_t m, uint32_t n)
{
	struct pool_shared *s = p->p_shared;
	uint32_t *at = &pool_map_of(s, m)[n], i = *at;

	*at = 0;
	BARRIER();
	pool_forget(pool_leaf_of(s, i), PAGE);
	pool_index_give(s, &s->ps_leafx, i - 1);
	s->ps_leaves_used--;
	pool_tables_locked(p);
}

void pool_leaves_repair(struct pool_shared *s)
{
	s->ps_leaves_used = 0;
	pool_index_reset(s, &s->ps_leafx);
	for (uint32_t m = 0; m < s->ps_membertop; m++)
		for (uint32_t n = 0; n < s->ps_mapleaves; n++)
			if (pool_map_of(s, m)[n] != 0) {
				pool_index_mark(s, &s->ps_leafx, pool_map_of(s, m)[n] - 1);
				s->ps_leaves_used++;
			}
	for (uint32_t i = 0; i < s->ps_leafx.x_next; i++)
		/* The owner of a free leaf may have been killed before it had cleared the leaf's bits. */
		if (pool_index_free(s, &s->ps_leafx, i))
			pool_forget(pool_leaf_of(s, i + 1), PAGE);
	pool_index_trim(s, &s->ps_leafx);
}

void pool_own_locked(struct pool *p, uint32_t handle)
{
	uint64_t *l;

	POOL_ASSERT(pool_held(p->p_shared));
	if (p->p_member != NONE && (l = pool_leaf_get(p, p->p_member, handle / LEAF_BITS)) != NULL)
		l[handle % LEAF_BITS / 64] |= 1ull << handle % 64;
}

void pool_disown_locked(struct pool *p, uint32_t handle)
{
	uint32_t i =
	    p->p_member == NONE ? 0 : pool_map_of(p->p_shared, p->p_member)[handle / LEAF_BITS];

	POOL_ASSERT(pool_held(p->p_shared));
	if (i != 0)
		pool_leaf_of(p->p_shared, i)[handle % LEAF_BITS / 64] &= ~(1ull << handle % 64);
	BARRIER();
}
