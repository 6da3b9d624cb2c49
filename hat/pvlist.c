/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * f2: the translations of a frame, kept in the two words p_hat of its page structure.
 *
 *   no mapping:	p_hat[0] = 0
 *   one:		p_hat[0] = hat, p_hat[1] = va: needs no memory, and nearly every page is so
 *   more:		p_hat[0] = first node | 1, p_hat[1] = their number; every mapping is in a node
 *
 * Nodes hold three mappings and come from kmem without waiting. A short reserve is kept, so that a
 * second mapping does not fail as soon as kernel memory is short. Only the first node of a list may
 * be partly full: removal fills the hole from it. A list that shrinks to one mapping goes back to
 * the first form.
 *
 * Locks: all under hs_lock. Left out: an index for pages with very many mappings; removal is linear in their number.
 */
#include "hat/pvlist.h"

#include <quire/kmem.h>

#define PV_PER_NODE 3u

struct pvnode {
	struct pvnode *pn_next;
	uint64_t pn_n;
	struct pv pn_pv[PV_PER_NODE];
};
_Static_assert(sizeof(struct pvnode) == 64, "a node is one cache line");

static bool has_single(const struct page *pp) { return pp->p_hat[0] != 0 && !(pp->p_hat[0] & 1); }
static struct pvnode *first_node(const struct page *pp)
{
	return pp->p_hat[0] & 1 ? (struct pvnode *)(uintptr_t)(pp->p_hat[0] & ~1ull) : NULL;
}

static void set_first(struct page *pp, struct pvnode *n)
{
	pp->p_hat[0] = (uint64_t)(uintptr_t)n | 1;
}
static struct pv single_pv(const struct page *pp)
{
	return (
	    struct pv){ .pv_hat = (struct hat *)(uintptr_t)pp->p_hat[0], .pv_va = pp->p_hat[1] };
}

unsigned pv_count(const struct page *pp)
{
	if (pp->p_hat[0] == 0)
		return 0;
	return has_single(pp) ? 1 : (unsigned)pp->p_hat[1];
}

bool pv_full(const struct page *pp)
{
	return has_single(pp) || (first_node(pp) != NULL && first_node(pp)->pn_n == PV_PER_NODE);
}

static struct pvnode *take_node(struct hat_shared *hs)
{
	struct pvnode *n = hs->hs_pvfree;

	if (n == NULL)
		mach_panic("pv_add: no node; pv_full was not asked");
	hs->hs_pvfree = n->pn_next;
	hs->hs_npvfree--;
	n->pn_next = NULL;
	n->pn_n = 0;
	return n;
}

void pv_add(struct hat_shared *hs, struct page *pp, struct hat *hat, vaddr_t va)
{
	struct pvnode *n;

	if (pp->p_hat[0] == 0) {
		pp->p_hat[0] = (uint64_t)(uintptr_t)hat;
		pp->p_hat[1] = va;
		return;
	}
	if (pv_full(pp)) {
		n = take_node(hs);
		if (has_single(pp)) {
			n->pn_pv[n->pn_n++] = single_pv(pp);
			pp->p_hat[1] = 1;
		} else {
			n->pn_next = first_node(pp);
		}
		set_first(pp, n);
	}
	n = first_node(pp);
	n->pn_pv[n->pn_n++] = (struct pv){ .pv_hat = hat, .pv_va = va };
	pp->p_hat[1]++;
}

static struct pv *find_translation(const struct page *pp, const struct hat *hat, vaddr_t va)
{
	for (struct pvnode *n = first_node(pp); n != NULL; n = n->pn_next)
		for (unsigned i = 0; i < n->pn_n; i++)
			if (n->pn_pv[i].pv_hat == hat && n->pn_pv[i].pv_va == va)
				return &n->pn_pv[i];
	mach_panic("pv_remove: the page does not list the translation");
}

void pv_remove(struct hat_shared *hs, struct page *pp, struct hat *hat, vaddr_t va)
{
	struct pvnode *n = first_node(pp);

	if (n == NULL) {
		if (pp->p_hat[0] != (uint64_t)(uintptr_t)hat || pp->p_hat[1] != va)
			mach_panic("pv_remove: the page's only translation is another");
		pp->p_hat[0] = pp->p_hat[1] = 0;
		return;
	}
	*find_translation(pp, hat, va) = n->pn_pv[n->pn_n - 1];
	n->pn_n--;
	pp->p_hat[1]--;
	if (n->pn_n == 0) {
		set_first(pp, n->pn_next);
		pv_node_give(hs, n);
		n = first_node(pp);
	}
	if (pp->p_hat[1] == 1) {
		struct pv last = n->pn_pv[0];

		pv_node_give(hs, n);
		pp->p_hat[0] = (uint64_t)(uintptr_t)last.pv_hat;
		pp->p_hat[1] = last.pv_va;
	}
}

bool pv_next(const struct page *pp, struct pv_cursor *c, struct pv *pv)
{
	if (pp->p_hat[0] == 0)
		return false;
	if (has_single(pp)) {
		*pv = single_pv(pp);
		return c->pc_i++ == 0;
	}
	if (c->pc_node == NULL && c->pc_i == 0)
		c->pc_node = first_node(pp);
	else if (c->pc_node != NULL && c->pc_i == c->pc_node->pn_n) {
		c->pc_node = c->pc_node->pn_next;
		c->pc_i = 0;
	}
	if (c->pc_node == NULL)
		return false;
	*pv = c->pc_node->pn_pv[c->pc_i++];
	return true;
}

struct pvnode *pv_node_alloc(struct vm *vm)
{
	return kmem_alloc(vm, sizeof(struct pvnode), KM_NOSLEEP);
}

void pv_node_give(struct hat_shared *hs, struct pvnode *n)
{
	n->pn_next = hs->hs_pvfree;
	hs->hs_pvfree = n;
	hs->hs_npvfree++;
}

struct pvnode *pv_trim(struct hat_shared *hs, unsigned keep)
{
	struct pvnode *out = NULL, *n;

	while (hs->hs_npvfree > keep) {
		n = take_node(hs);
		n->pn_next = out;
		out = n;
	}
	return out;
}

void pv_nodes_free(struct vm *vm, struct pvnode *n)
{
	struct pvnode *next;

	for (; n != NULL; n = next) {
		next = n->pn_next;
		kmem_free(vm, n, sizeof(*n));
	}
}
