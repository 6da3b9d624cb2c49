/* SPDX-License-Identifier: BSD-2-Clause */
/* Kernel memory: object caches with per-CPU magazines over vmem arenas over the buddy allocator of frames. */
#ifndef QUIRE_KMEM_H
#define QUIRE_KMEM_H

#include <quire/types.h>

struct kmem_cache;
/* Functions with flags sleep only with KM_SLEEP. Those that create, destroy or reap may sleep for locks of rank RANK_KMEM only. */
#define KM_SLEEP 0x0u   /* may reclaim and wait; NULL only if nothing more can be reclaimed */
#define KM_NOSLEEP 0x1u /* never reclaims: for use under a lock of rank > RANK_SLOT */
#define KM_RESERVE 0x2u /* page-out itself: may use the reserve */
/*
 * A cache of objects of one size. ctor (may be NULL) runs when an object gets its memory, dtor (may be NULL) before it loses it: in between,
 * objects keep their constructed state across free and alloc. ctor returns false if it lacks
 * memory. align: a power of two up to the page, 0: 8. The name is copied. NULL: no memory, size is
 * 0 or above 128 KiB, or align is invalid.
 */
struct kmem_cache *kmem_cache_create(struct vm *, const char *name, size_t size, size_t align,
    bool (*ctor)(void *obj, void *arg), void (*dtor)(void *obj, void *arg), void *arg);
void kmem_cache_destroy(
    struct kmem_cache *); /* every object must be free: panics in debug builds otherwise */
void *kmem_cache_alloc(
    struct kmem_cache *, unsigned flags);          /* NULL: no memory, or ctor returned false */
void kmem_cache_free(struct kmem_cache *, void *); /* never sleeps or fails */
uint64_t kmem_cache_inuse(struct kmem_cache *);    /* objects allocated and not freed */
/* Memory of any size up to the largest block of frames; kmem_free needs the same size, NULL is fine.
 * kmem_alloc does not initialise it, kmem_zalloc zeroes it. NULL: none. Large pieces are contiguous
 * frames, of which there may be none even if many frames are free. */
void *kmem_alloc(struct vm *, size_t size, unsigned flags);
void *kmem_zalloc(struct vm *, size_t size, unsigned flags);
void kmem_free(struct vm *, void *, size_t size);
/* Gives cached magazines and empty slabs back; returns frames freed. */
uint64_t kmem_reap(struct vm *);

/* vmem: integers [base, base+size) in quanta; boundary-tag segments, best fit by power-of-two free lists. */
struct vmem;
/* An arena of [base, +size) (size 0: empty so far), in units of quantum, a power of two. name is kept, not copied. NULL: no
 * memory, or base and size are no multiples of quantum. */
struct vmem *vmem_create(
    struct vm *, const char *name, uint64_t base, uint64_t size, uint64_t quantum);
void vmem_destroy(struct vmem *); /* all was freed */
/* True: *addr is the start of size free integers. 0 is a legal address. False: none are free, or no memory for a tag. */
bool vmem_alloc(struct vmem *, uint64_t size, unsigned flags, uint64_t *addr);
/*
 * align: a power of two, 0: the quantum. phase < align: the address is phase modulo align. nocross: a power of two that the range does
 * not cross a multiple of, 0: none. [min, max): where the range must lie; max 0: no bound.
 */
bool vmem_xalloc(struct vmem *, uint64_t size, uint64_t align, uint64_t phase, uint64_t nocross,
    uint64_t min, uint64_t max, unsigned flags, uint64_t *addr);
/* size is that of the allocation; panics if addr is not allocated. Never sleeps or fails. */
void vmem_free(struct vmem *, uint64_t addr, uint64_t size);
/* [base, +size) joins the arena, in whole quanta. False: no memory, size is 0, or the range
 * overlaps one of the arena. */
bool vmem_add(struct vmem *, uint64_t base, uint64_t size);
uint64_t vmem_inuse(struct vmem *); /* integers allocated and not freed */
/* Quantum caches for sizes up to max: small stacks per CPU. Once, before the first allocation. False: no memory. */
bool vmem_qcache(struct vmem *, uint64_t max);
uint64_t vmem_reap(
    struct vmem *); /* returns the integers that the quantum caches keep to the arena; returns how
                     * many bytes */
#endif
