/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The object table: an entry for each stored page. Entries never move, so a handle is an index.
 *
 * The lowest free entry is taken first (pool_index.c). The memory of the table is taken and given
 * back in granules of GRANULE entries: a granule is charged while any of its entries is in use.
 * Entry 0 is never used: handle 0 means none.
 *
 * Lock: ps_lock. An entry with o_ref 0 is free, whatever the index says: repair makes index and granules anew from that.
 */
#include "store/pool_impl.h"

static char *granule_mem(struct pool_shared *s, uint32_t g)
{
	return (char *)&objects_of(s)[(uint64_t)g * GRANULE];
}

/* Number of entries of granule g in use. */
static uint16_t *granule_used(struct pool_shared *s, uint32_t g)
{
	return (uint16_t *)(void *)((char *)s + s->ps_granuleused) + g;
}

uint32_t pool_object_new(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t next = s->ps_objx.x_next, i = pool_index_take(s, &s->ps_objx);

	POOL_ASSERT(pool_held(s));
	if (i == NONE)
		return 0;
	objects_of(s)[i] = (struct object){ .o_ref = 1, .o_seg = NONE };
	bool first = (*granule_used(s, i / GRANULE))++ == 0;
	s->ps_granules += first;
	s->ps_stats.pages++;
	if (first || next != s->ps_objx.x_next)
		pool_tables_locked(p);
	return i;
}

void pool_object_free(struct pool *p, uint32_t i)
{
	struct pool_shared *s = p->p_shared;
	uint32_t next = s->ps_objx.x_next, g = i / GRANULE;
	bool last = --*granule_used(s, g) == 0;

	pool_index_give(s, &s->ps_objx, i);
	s->ps_stats.pages--;
	if (last) {
		pool_forget(granule_mem(s, g), GRANULE * sizeof(struct object));
		s->ps_granules--;
	}
	if (last || next != s->ps_objx.x_next)
		pool_tables_locked(p);
}

void pool_objects_repair(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t next = s->ps_objx.x_next;

	pool_index_reset(s, &s->ps_objx);
	pool_index_mark(s, &s->ps_objx, 0);
	for (uint32_t g = 0; g * GRANULE < next; g++)
		*granule_used(s, g) = 0;
	for (uint32_t i = 1; i < next; i++)
		if (objects_of(s)[i].o_ref != 0) {
			pool_index_mark(s, &s->ps_objx, i);
			++*granule_used(s, i / GRANULE);
		}
	pool_index_trim(s, &s->ps_objx);
	s->ps_granules = 0;
	for (uint32_t g = 0; g * GRANULE < next; g++) {
		if (*granule_used(s, g) != 0)
			s->ps_granules++;
		else /* reading the entry made the kernel allocate its page */
			pool_forget(granule_mem(s, g), GRANULE * sizeof(struct object));
	}
}
