/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Address spaces. Every addr is rounded down and every addr+len up to pages; a range that wraps or leaves the space's
 * bounds gives VM_NOMEM (VM_NOMAP for a fault). All functions may sleep. None may be called with a core lock held.
 */
#ifndef QUIRE_AS_H
#define QUIRE_AS_H

#include <quire/seg.h>
#include <quire/types.h>

enum vm_err as_alloc(struct vm *, vaddr_t min, vaddr_t max, struct as **);
void as_free(struct as *);
struct hat *as_hat(struct as *);
struct vm *as_vm(struct as *);

/* Maps [addr, addr+len), which must be free (VM_EXIST). Merges with alike neighbours. VM_NOMEM, VM_NOSWAP, VM_LIMIT. */
enum vm_err as_map(struct as *, vaddr_t addr, uint64_t len, seg_create_fn *, const void *args);
/* Unmaps whatever is in the range; gaps are fine. VM_LOCKED: a page is soft-locked, VM_NOMEM (split): unchanged. */
enum vm_err as_unmap(struct as *, vaddr_t addr, uint64_t len);
/*
 * Resolve a fault, or soft-lock/unlock a range. VM_NOMAP, VM_PROT, VM_IO, VM_EOF, VM_NOMEM. SOFTLOCK: after VM_OK every page is
 * resident, mapped with a locked translation and will not be copied away until SOFTUNLOCK of the same range; on failure nothing stays locked.
 */
enum vm_err as_fault(struct as *, vaddr_t addr, uint64_t len, enum fault_type, enum seg_rw);
enum vm_err as_setprot(struct as *, vaddr_t addr, uint64_t len, unsigned prot);	 /* VM_NOMAP at a gap (prefix changed), VM_ACCESS */
enum vm_err as_checkprot(struct as *, vaddr_t addr, uint64_t len, unsigned prot); /* VM_NOMAP, VM_PROT */
/* A hole of len bytes, aligned (power of two >= page), in [min, max): the lowest, or the highest if high. VM_NOMEM. */
enum vm_err as_gap(struct as *, uint64_t len, uint64_t align, vaddr_t min, vaddr_t max, bool high, vaddr_t *addr);
/* fork: a new space with the parent's segments, copy-on-write or as their inheritance says. */
enum vm_err as_dup(struct as *parent, struct as **child);
enum vm_err as_lock(struct as *, vaddr_t addr, uint64_t len);	/* wire; failure unlocks what it locked */
enum vm_err as_unlock(struct as *, vaddr_t addr, uint64_t len);
enum vm_err as_lockall(struct as *, bool current, bool future);
enum vm_err as_unlockall(struct as *);
enum vm_err as_sync(struct as *, vaddr_t addr, uint64_t len, unsigned flags);
enum vm_err as_advise(struct as *, vaddr_t addr, uint64_t len, enum advice); /* VM_NOMAP at a gap, the rest is done */
enum vm_err as_incore(struct as *, vaddr_t addr, uint64_t len, uint8_t *vec); /* INCORE_*; VM_NOMAP at a gap */
enum vm_err as_inherit(struct as *, vaddr_t addr, uint64_t len, enum inherit);
/* Gives up every unlocked frame of the space; returns pages. */
uint64_t as_swapout(struct as *);
/* Moves [addr, +len) of src, page identity kept, to daddr in dst (free there, or the same space: mremap). VM_EXIST,
 * VM_NOMAP, VM_NOTSUP, VM_LOCKED, VM_NOMEM: nothing moved. The source range is unmapped afterwards. */
enum vm_err as_move(struct as *src, vaddr_t addr, uint64_t len, struct as *dst, vaddr_t daddr);
/* Adopt what the machine filled by itself in the range (see so_adopt). */
enum vm_err as_adopt(struct as *, vaddr_t addr, uint64_t npages, const uint64_t *present);

/* Copies through the space as its program would, kernel-side: faults pages in, checks protection. */
enum vm_err as_copyin(struct as *, vaddr_t from, void *to, uint64_t len);
enum vm_err as_copyout(struct as *, const void *from, vaddr_t to, uint64_t len);

struct as_info { vaddr_t ai_base; uint64_t ai_len; const struct seg_ops *ai_ops; unsigned ai_prot; };
/* The segment at or above addr. VM_NOMAP: none. */
enum vm_err as_query(struct as *, vaddr_t addr, struct as_info *);
struct as_usage { uint64_t au_size, au_rss, au_nsegs, au_swresv; }; /* bytes, pages, count, pages */
void as_usage(struct as *, struct as_usage *);
void as_set_limits(struct as *, uint64_t max_size_bytes, uint64_t max_locked_pages);
#endif
