/* SPDX-License-Identifier: BSD-2-Clause */
/* The page -> mappings list (f2) of the page-table HATs. Every function is called under hs_lock
 * unless it says otherwise. */
#ifndef QUIRE_PVLIST_H
#define QUIRE_PVLIST_H

#include "hat/mmu.h"

#include <quire/page.h>
#include <quire/types.h>

struct pv {
	struct hat *pv_hat;
	vaddr_t pv_va;
};
struct pv_cursor {
	struct pvnode *pc_node;
	unsigned pc_i;
};

/* The next pv_add of the page will take a node of the reserve, which must have one. */
bool pv_full(const struct page *);
void pv_add(struct hat_shared *, struct page *, struct hat *, vaddr_t);
void pv_remove(struct hat_shared *, struct page *, struct hat *, vaddr_t); /* must be there */
unsigned pv_count(const struct page *);
/* Walk: zeroed cursor at first; false: no more. The list must not change meanwhile. */
bool pv_next(const struct page *, struct pv_cursor *, struct pv *);

/* Nodes. alloc: without the lock; false: no memory. trim: takes the nodes beyond keep out of the
 * reserve, for the caller to free without the lock. */
struct pvnode *pv_node_alloc(struct vm *);
void pv_node_give(struct hat_shared *, struct pvnode *);
struct pvnode *pv_trim(struct hat_shared *, unsigned keep);
void pv_nodes_free(struct vm *, struct pvnode *); /* without the lock */
#define PV_RESERVE 8u
#endif
