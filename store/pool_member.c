/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Members: the processes that share the store. pool_holds.c records the references of each member,
 * so that the pages of a killed member can be given back.
 *
 * A member has a tag, a number by which the family's supervisor knows the process: when the process
 * has died, the supervisor calls pool_release(), or has another process call it. Before a fork the
 * parent makes the child's member (all references of the parent, once more), with the child's tag,
 * so that the member can also be released if the child is killed before it takes the member over in
 * pool_after_fork().
 *
 * Left out: second references to an object (pool_ref()), references of processes that never joined,
 * and references for which no leaf was free; they are not recorded.
 */
#include "store/pool_impl.h"

enum { MEMBER_FREE, MEMBER_BORN, MEMBER_LIVE, MEMBER_DYING };

static bool is_of_tag(const struct member *m, uint32_t tag)
{
	return m->m_state != MEMBER_FREE && m->m_tag == tag;
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

/* A process that had the tag before is dead, and may not have been released. */
static void release_before(struct pool *p, uint32_t tag)
{
	const struct pool_shared *s = p->p_shared;
	bool any = pool_lock_owner(s) == tag + 1;

	for (uint32_t i = 0; i < s->ps_membertop && !any; i++)
		any = is_of_tag(&pool_members(p->p_shared)[i], tag);
	if (any)
		pool_release(p, tag);
}

int pool_join(struct pool *p, uint32_t tag)
{
	p->p_owner = tag + 1;
	release_before(p, tag);
	p->p_member = member_new(p, MEMBER_LIVE, tag);
	return p->p_member != NONE ? 0 : -EAGAIN;
}

#define ENDS_WORDS 8u /* of a leaf, after which the store's end is asked for: 512 references */

/* False: the store ends, and the rest of the references stays. */
static bool leaf_unref(struct pool *p, uint64_t *l, uint32_t first)
{
	for (uint32_t w = 0; w < LEAF_BITS / 64; w++) {
		if (w % ENDS_WORDS == 0 && p->p_ends != NULL && p->p_ends(p->p_charge_arg))
			return false;
		while (l[w] != 0) {
			uint32_t bit = (uint32_t)__builtin_ctzll(l[w]);

			l[w] &= ~(1ull << bit);
			BARRIER();
			pool_unref_locked(p, first + w * 64 + bit);
		}
	}
	return true;
}

/*
 * Drops the member's references; the entry has no owner afterwards. The lock is released now and
 * then. If the store ends, what is left stays the dying member's.
 */
static void member_free(struct pool *p, uint32_t m)
{
	struct pool_shared *s = p->p_shared;

	pool_lock(p);
	pool_members(s)[m].m_state = MEMBER_DYING;
	for (uint32_t n = 0; n < s->ps_mapleaves; n++) {
		if (pool_map_of(s, m)[n] == 0)
			continue;
		if (!leaf_unref(p, pool_leaf_of(s, pool_map_of(s, m)[n]), n * LEAF_BITS)) {
			pool_unlock(s);
			return;
		}
		pool_leaf_put(p, m, n);
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
	bool any = false;

	pool_lock_after(p, tag + 1);
	for (uint32_t i = 0; i < s->ps_membertop; i++)
		if (is_of_tag(&pool_members(s)[i], tag)) {
			pool_members(s)[i].m_state = MEMBER_DYING;
			pool_far_release(s, i);
			any |= pool_orphan_writes_locked(s, i);
		}
	pool_abandon_owner_locked(p, tag + 1, any);
	pool_unlock(s);
	for (uint32_t i = 0; i < s->ps_membertop; i++)
		if (is_of_tag(&pool_members(s)[i], tag))
			member_free(p, i);
}

/* ---- fork ---- */
static uint32_t child_tag(const struct pool *p)
{
	return p->p_tag != NULL ? p->p_tag(p->p_charge_arg) : NONE;
}

int pool_fork_begin(struct pool *p)
{
	struct pool_shared *s = p->p_shared;
	uint32_t tag = child_tag(p);

	if (p->p_member == NONE)
		return -EAGAIN;
	if (tag != NONE)
		release_before(p, tag);
	if ((p->p_child = member_new(p, MEMBER_BORN, tag)) == NONE)
		return -EAGAIN;
	pool_lock(p);
	for (uint32_t n = 0; n < s->ps_mapleaves; n++) {
		uint32_t i = pool_map_of(s, p->p_member)[n];
		uint64_t *from = i != 0 ? pool_leaf_of(s, i) : NULL,
			 *to = i != 0 ? pool_leaf_get(p, p->p_child, n) : NULL;

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
	pool_held_forked();
	p->p_ctx_busy = 0;
	pool_ring_close(p, 1);
	uint32_t tag = child_tag(p);

	p->p_member = p->p_child;
	p->p_child = NONE;
	p->p_owner = tag != NONE ? tag + 1 : POOL_NOBODY;
	struct member *m = p->p_member != NONE ? &pool_members(p->p_shared)[p->p_member] : NULL;
	if (tag != NONE && (m == NULL || m->m_tag != tag))
		release_before(p, tag);
	if (m == NULL)
		return 0;
	m->m_tag = tag;
	__atomic_store_n(&m->m_state, MEMBER_LIVE, __ATOMIC_RELEASE);
	return 0;
}
