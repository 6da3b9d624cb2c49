/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Anonymous memory: reference-counted slots (anon), sparse maps of them, swapfs naming and reservation.
 *
 * An anon is known by its id (u32, stable for its life). Its page is named (vm_swapfs, id << VM_PAGESHIFT). It has a disk
 * slot only once it was paged out, and keeps it while the page is clean. an_refcnt = number of map entries that hold it.
 *
 * Functions that give a page or take memory may sleep, unless they say otherwise; the caller holds no lock of rank > RANK_SLOT.
 */
#ifndef QUIRE_ANON_H
#define QUIRE_ANON_H

#include <quire/page.h>
#include <quire/types.h>

typedef uint32_t anon_id; /* 0: none */

/* ---- slots ---- */
/* A new slot with refcnt 1 and no page. 0: no memory. */
anon_id anon_alloc(struct vm *);
void anon_hold(struct vm *, anon_id); /* one more reference; the caller has one */
/* Last reference: page destroyed (waits for its lock and I/O), disk slot freed. Caller holds no lock on the page. */
void anon_decref(struct vm *, anon_id);
uint32_t anon_refcnt(struct vm *, anon_id); /* exact while the page is locked; else a hint */
/*
 * The slot's page, filled, locked se; read from swap if need be, in one request of up to hint pages (at most VM_IO_PAGES) with its
 * neighbours in swap. A slot with neither page nor disk slot gives a zeroed page. flags: PG_NODE or
 * 0; with PG_NODE the neighbours go to the nodes after that one in turn. VM_NOMEM; VM_IO, or the
 * result of the area's vnode. The caller holds a reference.
 */
enum vm_err anon_getpage(
    struct vm *, anon_id, enum page_se, unsigned hint, unsigned flags, struct page **);
/*
 * Read-ahead: the slot's page, filled, locked E. NULL: it is in memory already, no frame was free, or the read failed. The caller may hold
 * other page locks.
 */
struct page *anon_getpage_ahead(struct vm *, anon_id, unsigned flags);
/* A new slot with one reference, whose page is zeroed, P_MOD, locked E. flags: PG_NODE or 0. VM_NOMEM. */
enum vm_err anon_zero(struct vm *, unsigned flags, anon_id *, struct page **);
/*
 * Copy-on-write: a new slot with one reference, whose page is a copy of src (E-locked; S is enough with a direct map); src stays locked.
 * New page E, P_MOD. flags: PG_NODE or 0. VM_NOMEM. It may reclaim with src locked: page-out only tries page locks.
 */
enum vm_err anon_private(struct vm *, struct page *src, unsigned flags, anon_id *, struct page **);
/* For page-out: writes pages of swapfs (page E- or I/O-locked) to a cluster of disk slots, which it
 * binds to them. VM_NOSWAP: no disk slot; VM_IO. *ok = how many from the start are clean now. Used
 * by pageout and swapout. */
enum vm_err swapfs_putpages(struct vm *, struct page **pps, uint32_t n, uint32_t *ok);
/* A page that is written frees its disk slot, if it has one (its contents differ now). Page locked;
 * called when P_MOD is first seen. */
void swapfs_dirty(struct vm *, struct page *);

/* ---- maps ---- */
struct anon_map *anonmap_alloc(struct vm *, uint64_t npages); /* refcnt 1; NULL: no memory */
void anonmap_hold(struct anon_map *);
void anonmap_rele(struct anon_map *); /* the last reference drops all slots */
uint64_t anonmap_npages(struct anon_map *);
/*
 * Sets the end of the object that the map holds: a fault on an empty slot at index npages or above gives VM_EOF. A new map has
 * no limit. An owner that makes the object shorter sets the limit first, then drops the slots: a fault that came before the
 * limit has its slot busy, and the drop waits for it.
 */
void anonmap_limit(struct anon_map *, uint64_t npages);
bool anonmap_ends(struct anon_map *, uint64_t idx);    /* true if idx is at the limit or above */
bool anonmap_grow(struct anon_map *, uint64_t npages); /* the map only grows; false: no memory */
/* Makes room for need entries below index 0 and returns by how much every index rose (at the cost
 * of one table); less than need: no memory, or the map is as high as maps get. Only for a map with
 * one reference. */
uint64_t anonmap_grow_below(struct anon_map *, uint64_t need);
uint64_t anonmap_count(
    struct anon_map *); /* entries that have an anon; exact while the map does not change */
bool anonmap_alone(struct anon_map *); /* true: it has exactly one reference */
/* The map reserves npages more, for all its sharers, until its last reference goes. VM_NOSWAP. */
enum vm_err anonmap_reserve(struct anon_map *, uint64_t npages);
void anonmap_take_reserve(struct anon_map *,
    uint64_t npages); /* the map takes over a reservation that the caller has made */
/*
 * Enter: waits until slot idx (below the map's npages) is not busy, marks it busy, gives its anon (0: none). exit clears the mark. The
 * tables for idx exist after enter with create. False: no memory, which happens only with create. Without create a slot that has no
 * table is not marked, and its anon is 0.
 */
bool anonmap_enter(struct anon_map *, uint64_t idx, bool create, anon_id *);
void anonmap_set(struct anon_map *, uint64_t idx,
    anon_id); /* slot busy by the caller; takes over the reference */
void anonmap_exit(struct anon_map *, uint64_t idx);
/* The anon of a slot that may be busy: a hint. 0: none, or idx is beyond the map. Sleeps only for am_lock. */
anon_id anonmap_peek(struct anon_map *, uint64_t idx);
/* Next index >= idx that has an anon (or npages): sparse walks. */
uint64_t anonmap_next(struct anon_map *, uint64_t idx);
/* Drops the slots of a range (unmap, MADV_DONTNEED). The caller has dropped the translations. Waits
 * for busy slots. */
void anonmap_drop(struct anon_map *, uint64_t idx, uint64_t n);
/* Shares [idx, idx+n) of from with to at toidx: every slot's refcnt++. The caller has made
 * translations read-only, and holds the locks of both spaces as writer, as for anonmap_move; the
 * range of to has no anons. VM_NOMEM: nothing shared. */
enum vm_err anonmap_dup(
    struct anon_map *from, uint64_t idx, struct anon_map *to, uint64_t toidx, uint64_t n);
/* Moves slots without touching counts (mremap, transfer). VM_NOMEM: nothing moved. */
enum vm_err anonmap_move(
    struct anon_map *from, uint64_t idx, struct anon_map *to, uint64_t toidx, uint64_t n);

/* ---- reservation, in pages ---- */
/* Promises npages a place each, a frame or a slot. touched: as vc_promise. VM_NOSWAP: nothing is
 * promised. Neither sleeps. */
enum vm_err anon_reserve(struct vm *, uint64_t npages, bool touched);
void anon_unreserve(struct vm *, uint64_t npages);
#endif
