/* SPDX-License-Identifier: BSD-2-Clause */
/* A swap area over a pool: one handle a slot. */
#ifndef QUIRE_STORE_POOL_VNODE_H
#define QUIRE_STORE_POOL_VNODE_H
#include <quire/vnode.h>
#include "store/pool.h"
/* nslots slots; the table is mapped memory. NULL: no memory. Reference 1 is the caller's; the pool must outlive it. */
struct vnode *pool_vnode_create(struct vm *, struct pool *, uint64_t nslots);
/*
 * fork: every stored page gets a reference for the child, which the child's copy of the table then
 * owns. No thread may be storing a page.
 */
void pool_vnode_fork_prepare(struct vnode *);
void pool_vnode_fork_cancel(struct vnode *);
#endif
