/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segment drivers beside segvn: the kernel's own memory, windows onto files, devices, shared page tables, user pagers.
 * Ranges are page aligned and must be free in the space. All functions may sleep; the caller holds
 * no core lock. Those that create give VM_INVAL for a range that is not aligned or is empty,
 * VM_EXIST for one that is not free, and the creation results of as.h; on failure nothing was
 * created.
 */
#ifndef QUIRE_KSEG_H
#define QUIRE_KSEG_H

#include <quire/as.h>
#include <quire/kmem.h>
#include <quire/vnode.h>

/* ---- segkmem: wired kernel heap. Addresses from a vmem arena, frames that are never stolen ---- */
struct segkmem;
enum vm_err segkmem_create(struct as *kas, vaddr_t base, uint64_t len, struct segkmem **);
void segkmem_destroy(struct segkmem *); /* everything was freed */
/*
 * Whole pages, zeroed, mapped read-write with locked translations. kmflags: KM_SLEEP or KM_NOSLEEP. VM_NOMEM: no addresses or frames, or
 * size is 0; VM_LIMIT: too much is wired. Nothing is allocated then.
 */
enum vm_err segkmem_alloc(struct segkmem *, uint64_t size, unsigned kmflags, vaddr_t *);
void segkmem_free(struct segkmem *, vaddr_t, uint64_t size);
uint64_t segkmem_inuse(struct segkmem *); /* bytes */

/* ---- segkp: pageable kernel memory, for stacks ---- */
struct segkp;
#define KPD_REDZONE 0x1u /* a page that faults lies below */
#define KPD_LOCKED 0x2u  /* resident until segkp_swapout */
/* An arena of addresses. It maps nothing yet: a range that is not free shows as VM_EXIST of
 * segkp_get. VM_NOMEM. */
enum vm_err segkp_create(struct as *kas, vaddr_t base, uint64_t len, struct segkp **);
void segkp_destroy(struct segkp *); /* the caller has released every piece */
/*
 * A piece of len bytes, rounded up to pages. Its contents are zeroes, or the old contents of a
 * released piece of the same kind. VM_INVAL: len is 0; VM_NOMEM, VM_NOSWAP, VM_LIMIT, VM_EXIST;
 * with KPD_LOCKED also the results of as_fault.
 */
enum vm_err segkp_get(struct segkp *, uint64_t len, unsigned flags, vaddr_t *);
void segkp_release(struct segkp *, vaddr_t, uint64_t len, unsigned flags); /* with the arguments of
                                                                            * segkp_get */
/*
 * For a thread that sleeps for long: its stack is paged out. swapin: makes the stack resident and
 * (KPD_LOCKED) locked again. The results of as_fault; if swapin fails, the stack must not be used.
 */
enum vm_err segkp_swapout(struct segkp *, vaddr_t, uint64_t len);
enum vm_err segkp_swapin(struct segkp *, vaddr_t, uint64_t len, unsigned flags);

/* ---- segmap: a window of slots through which files are read and written ---- */
#define SEGMAP_SLOT ((uint64_t)64 << 10) /* bytes of a slot; offsets are aligned to it */
struct segmap;
/* len: a multiple of SEGMAP_SLOT. */
enum vm_err segmap_create(struct as *kas, vaddr_t base, uint64_t len, struct segmap **);
void segmap_destroy(struct segmap *); /* the caller has released every slot */
/* The slot that shows vp from off; held until released. VM_INVAL: off is no multiple of
 * SEGMAP_SLOT; VM_NOMEM: all slots are held. */
enum vm_err segmap_getmap(struct segmap *, struct vnode *vp, voff_t off, vaddr_t *);
#define SM_WRITE 0x1u /* write dirty pages now, and wait */
#define SM_FREE 0x2u  /* the pages are not needed again soon (free-behind) */
/* Releases the slot, whatever the result. flags with SM_WRITE or SM_FREE: the results of pvn_putpages; else VM_OK. */
enum vm_err segmap_release(struct segmap *, vaddr_t, unsigned flags);
/* Reads or writes through slots. *done (may be NULL) = bytes, also on failure; VM_EOF past the end; VM_NOMEM; the results of as_copyin. */
enum vm_err segmap_rw(struct segmap *, struct vnode *vp, voff_t off, void *buf, uint64_t len,
    bool write, uint64_t *done);

/* ---- segpager: memory whose pages an object of the user supplies ---- */
struct pager;
struct pager_ops {
	const char *po_name;
	/* Fills or takes the pages of io; then, at any time and on any thread, the pager calls
	 * pager_done(pager, io, err, ok). */
	void (*po_read)(void *priv, struct pager *, struct vm_io *io);
	void (*po_write)(void *priv, struct pager *, struct vm_io *io);
	/* A clean page is about to be written: VM_OK permits the write; any other result becomes
	 * the result of the writer's fault. May sleep. */
	enum vm_err (*po_dirty)(void *priv, voff_t off);
	/*
	 * The pager is detached, or its last reference is gone. Outstanding requests fail right
	 * after this call: the pager must not touch their buffers any more. Faults that were under
	 * way on other threads may still call the pager once; pager_done for such a request does
	 * nothing. After the last reference is gone there are no calls.
	 */
	void (*po_detach)(void *priv);
};
/* A pager of size bytes with one reference. VM_NOMEM. ops and priv have to live until its last reference is gone. */
enum vm_err pager_create(
    struct vm *, const struct pager_ops *, void *priv, uint64_t size, struct pager **);
void pager_rele(struct pager *);           /* the caller's reference; mappings have their own */
struct vnode *pager_vnode(struct pager *); /* for pvn_putpages, vnode_read, vnode_write */
/* Answers a request: VM_OK, or the error and how many pages from the start are valid. An answer
 * after a detach does nothing. */
void pager_done(struct pager *, struct vm_io *, enum vm_err, uint32_t ok);
void pager_detach(
    struct pager *); /* every later and every outstanding request gives VM_IO; one call is enough */
/*
 * Dirty log: from start on, each page is noted when it is first written through a mapping. read
 * copies npages bits from page off on, bit i for page i. clear resets these bits, each atomically:
 * a write is in this reading or in the next. start: VM_NOMEM; if a log runs already, start clears
 * all its bits. read: VM_INVAL: no log, off is not page aligned, or the range leaves the pager.
 * stop is not called while another thread reads.
 */
enum vm_err pager_log_start(struct pager *);
void pager_log_stop(struct pager *);
enum vm_err pager_log_read(struct pager *, voff_t off, uint64_t npages, uint64_t *bits, bool clear);
struct segpager_args {
	struct pager *pa_pager;
	voff_t pa_off;
	unsigned pa_prot, pa_maxprot;
};
/* VM_INVAL: pa_off is not page aligned, pa_prot is above pa_maxprot, or the pager is smaller than
 * the range; VM_NOMEM. */
seg_create_fn segpager_create;

/* ---- segdev: frames that are no memory ---- */
/*
 * da_frame: as hat_devload's devframe. da_caching: 0, HAT_UNCACHED or HAT_COMBINE. VM_INVAL:
 * da_caching is invalid, da_prot is above da_maxprot, the frames' numbers wrap, or some of the
 * frames are mapped with another caching already, which no CPU defines the outcome of; VM_NOMEM.
 */
struct segdev_args {
	uint64_t da_frame;
	unsigned da_prot, da_maxprot, da_caching;
};
seg_create_fn segdev_create;

/* ---- segspt: shared memory with shared page tables ---- */
struct spt;
/*
 * Memory of len bytes (a multiple of spt_align) that many spaces map with one set of page tables. locked: resident for good,
 * and accesses never fault (intimate shared memory); otherwise it is paged like any other.
 * VM_NOTSUP: the machine has no shared tables: map shared anonymous memory instead. VM_INVAL: len
 * is 0 or not such a multiple. VM_NOMEM, VM_NOSWAP, VM_LIMIT; locked: the results of as_fault.
 */
enum vm_err spt_create(struct vm *, uint64_t len, unsigned prot, bool locked, struct spt **);
void spt_rele(struct spt *);     /* the creator's reference; mappings have their own */
uint64_t spt_align(struct vm *); /* of addresses and lengths; 0: VM_NOTSUP */
struct segspt_args {
	struct spt *pa_spt;
};
/* Maps the whole memory, at an aligned address (VM_INVAL otherwise); it is unmapped as a whole,
 * too. VM_NOTSUP, VM_NOMEM. */
seg_create_fn segspt_create;

extern const struct seg_ops segspt_ops, segkmem_ops, segmap_ops, segpager_ops, segdev_ops;
#endif
