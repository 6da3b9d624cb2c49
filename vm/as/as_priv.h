/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of this room share and no other room sees. */
#ifndef QUIRE_AS_PRIV_H
#define QUIRE_AS_PRIV_H

#include "vm/impl.h"

#include <quire/limits.h>

/* as_seg.c */
static inline struct seg *seg_of(struct range_node *n) { return (struct seg *)(void *)n; }
uint8_t seg_kind(const struct seg *); /* segments of different kinds do not merge */
/* a_lock W. at: the place in the index, as range_place found it, or NULL. */
void seg_attach_at(struct as *, struct seg *, struct range_path *at);
/* a_lock W: n follows s. False: they do not merge. */
bool seg_merge_two(struct as *, struct seg *s, struct seg *n);

/* as_mapin.c: makes an empty segment [base, end) with the attributes that `from` would have off
 * bytes from its own base. VM_NOTSUP, VM_NOMEM, VM_NOSWAP */
enum vm_err seg_make_alike(struct as *, struct seg *from, int64_t off, vaddr_t base, vaddr_t end,
    struct seg **); /* not in the index yet */
/* a_lock W. In the index. wire: its pages are wired, too. VM_LIMIT */
enum vm_err seg_attach_alike(
    struct as *, struct seg *from, int64_t off, vaddr_t base, vaddr_t end, bool wire);

/* limits.c */
struct vm_group {
	struct vm *g_vm;                             /* const */
	struct vm_limits g_limit;                    /* (V) to change */
	_Atomic uint64_t g_resv, g_locked, g_spaces; /* (a) */
	_Atomic uint32_t g_refs; /* (a): the creator's, and that of each thread in group_hold */
};

static inline struct vm_group *group_of(const struct as *as)
{
	return __atomic_load_n(&as->a_group, __ATOMIC_ACQUIRE);
}
/* Holds and returns the space's group, because the space may leave the group meanwhile; NULL: the
 * space is in none. Takes a_lock. */
struct vm_group *group_hold(struct as *);
void group_rele(struct vm_group *);
#endif
