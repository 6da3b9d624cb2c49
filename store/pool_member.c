/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Members: the processes that share the store, and what each holds, so that a killed one's pages can be given back.
 *
 * A member holds at most one reference of an object; a bit in its map says so. A map has a table of leaves, pages of bits taken
 * when the first bit in them is set. Order of writes: a reference is counted before its bit is set and the bit cleared
 * before the reference is dropped, so a kill in between loses one object until the family ends and never frees one twice.
 *
 * A member has a tag, a number by which the family's supervisor knows the process: when the process is gone it calls
 * pool_release(). Before a fork the parent makes the child's member (all references of the parent, once more); the child takes it
 * over in pool_after_fork(). A child killed before that leaves its member without a tag: held until the family ends.
 *
 * Left out: references beyond one (pool_ref()), those of processes that never joined, and those for which no leaf was free, are not
 * recorded.
 */
#include "store/pool_impl.h"

enum { MEMBER_FREE, MEMBER_BORN, MEMBER_LIVE, MEMBER_DYING };

/* Leaf numbers, 0: none. */
static uint32_t *map_of(struct pool_shared *s, uint32_t m)
{
	return (uint32_t *)(void *)((char *)s + s->ps_maps) + (uint64_t)m * s->ps_mapleaves;
}

static uint64_t *leaf_of(struct pool_shared *s, uint32_t i)
{
	return (uint64_t *)(void *)((char *)s + s->ps_leaves + (uint64_t)(i - 1) * PAGE);
}

/* Leaf n of a member's map, taken if need be. NULL: none is free. */
static uint64_t *leaf_get(struct pool *p, uint32_t m, uint32_t n)
{
	struct pool_shared *s = p->p_shared;
	uint32_t *at = &map_of(s, m)[n];

	if (*at == 0) {
		uint32_t i = pool_index_take(s, &s->ps_leafx);

		if (i == NONE)
			return NULL;
		s->ps_leaves_used++;
		*at = i + 1;
		pool_tables_locked(p);
	}
	return leaf_of(s, *at);
}

/* It has no bit set. */
static void leaf_put(struct pool *p, uint32_t m, uint32_t n)
{
	struct pool_shared *s = p->p_shared;
	uint32_t *at = &map_of(s, m)[n], i = *at;

	*at = 0;
	BARRIER();
	pool_forget(leaf_of(s, i), PAGE);
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
			if (map_of(s, m)[n] != 0) {
				pool_index_mark(s, &s->ps_leafx, map_of(s, m)[n] - 1);
				s->ps_leaves_used++;
			}
	for (uint32_t i = 0; i < s->ps_leafx.x_next; i++)
		if (pool_index_free(
			s, &s->ps_leafx, i)) /* its owner was killed before its bits were gone */
			pool_forget(leaf_of(s, i + 1), PAGE);
	pool_index_trim(s, &s->ps_leafx);
}

void pool_own_locked(struct pool *p, uint32_t handle)
{
	uint64_t *l;

	if (p->p_member != NONE && (l = leaf_get(p, p->p_member, handle / LEAF_BITS)) != NULL)
		l[handle % LEAF_BITS / 64] |= 1ull << handle % 64;
}

void pool_disown_locked(struct pool *p, uint32_t handle)
{
	uint32_t i = p->p_member == NONE ? 0 : map_of(p->p_shared, p->p_member)[handle / LEAF_BITS];

	if (i != 0)
		leaf_of(p->p_shared, i)[handle % LEAF_BITS / 64] &= ~(1ull << handle % 64);
	BARRIER();
}

static uint32_t member_new(struct pool *p, uint32_t state, uint32_t tag)
{
	struct pool_shared *s = p->p_shared;
	uint32_t i;

	pool_lock(p);
	for (i = 0; i < s->ps_membertop && pool_members(s)[i].m_state != MEMBER_FREE; i++)
		;
	if (i >= s->ps_membertop && i < s->ps_nmembers)
		s->ps_membertop = i + 1;
	if (i < s->ps_nmembers)
		pool_members(s)[i] = (struct member){ .m_tag = tag, .m_state = state };
	pool_unlock(s);
	return i < s->ps_nmembers ? i : NONE;
}

int pool_join(struct pool *p, uint32_t tag)
{
	pool_release(p, tag); /* of a process that had the entry before, if that was not done yet */
	p->p_member = member_new(p, MEMBER_LIVE, tag);
	return p->p_member != NONE ? 0 : -EAGAIN;
}

static void leaf_unref(struct pool *p, uint64_t *l, uint32_t first)
{
	for (uint32_t w = 0; w < LEAF_BITS / 64; w++)
		while (l[w] != 0) {
			uint32_t bit = (uint32_t)__builtin_ctzll(l[w]);

			l[w] &= ~(1ull << bit);
			BARRIER();
			pool_unref_locked(p, first + w * 64 + bit);
		}
}

/* Its references, and what it was writing or reading, are given back; the entry has no owner then. The lock is released now and then. */
static void member_free(struct pool *p, uint32_t m)
{
	struct pool_shared *s = p->p_shared;

	pool_lock(p);
	pool_members(s)[m].m_state = MEMBER_DYING;
	pool_far_release(s, m);
	pool_abandon_member_locked(p, m);
	for (uint32_t n = 0; n < s->ps_mapleaves; n++) {
		if (map_of(s, m)[n] == 0)
			continue;
		leaf_unref(p, leaf_of(s, map_of(s, m)[n]), n * LEAF_BITS);
		leaf_put(p, m, n);
		pool_unlock(s);
		pool_lock(p);
	}
	BARRIER();
	pool_members(s)[m].m_state = MEMBER_FREE;
	pool_unlock(s);
}

void pool_release(struct pool *p, uint32_t tag)
{
	struct pool_shared *s = p->p_shared;

	for (uint32_t i = 0; i < s->ps_membertop; i++)
		if ((pool_members(s)[i].m_state == MEMBER_LIVE ||
			pool_members(s)[i].m_state == MEMBER_DYING) &&
		    pool_members(s)[i].m_tag == tag)
			member_free(p, i);
}

/* ---- fork ---- */
int pool_fork_begin(struct pool *p)
{
	struct pool_shared *s = p->p_shared;

	if (p->p_member == NONE || (p->p_child = member_new(p, MEMBER_BORN, NONE)) == NONE)
		return -EAGAIN;
	pool_lock(p);
	for (uint32_t n = 0; n < s->ps_mapleaves; n++) {
		uint32_t i = map_of(s, p->p_member)[n];
		uint64_t *from = i != 0 ? leaf_of(s, i) : NULL,
			 *to = i != 0 ? leaf_get(p, p->p_child, n) : NULL;

		for (uint32_t w = 0; from != NULL && w < LEAF_BITS / 64; w++) {
			for (uint64_t bits = from[w]; bits != 0; bits &= bits - 1)
				objects_of(
				    s)[n * LEAF_BITS + w * 64 + (uint32_t)__builtin_ctzll(bits)]
				    .o_ref++;
			BARRIER();
			if (to != NULL)
				to[w] = from[w];
		}
		pool_unlock(s);
		pool_lock(p);
	}
	pool_unlock(s);
	return 0;
}

void pool_fork_cancel(struct pool *p)
{
	if (p->p_child != NONE)
		member_free(p, p->p_child);
	p->p_child = NONE;
}

int pool_after_fork(struct pool *p)
{
	p->p_ctx_busy = 0;
	pool_ring_close(p, 1);
	p->p_member = p->p_child;
	p->p_child = NONE;
	if (p->p_member == NONE)
		return 0;
	struct member *m = &pool_members(p->p_shared)[p->p_member];
	uint32_t tag = p->p_tag != NULL ? p->p_tag(p->p_charge_arg) : NONE;

	if (tag != NONE)
		pool_release(p, tag); /* as in pool_join */
	m->m_tag = tag;
	__atomic_store_n(&m->m_state, MEMBER_LIVE, __ATOMIC_RELEASE);
	return 0;
}
