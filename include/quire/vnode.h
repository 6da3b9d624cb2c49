/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Vnodes: the objects that named pages are read from and written to. A swap device is a vnode too.
 * The core caches pages; a vnode only does I/O.
 */
#ifndef QUIRE_VNODE_H
#define QUIRE_VNODE_H

#include <quire/page.h>
#include <quire/types.h>

#define VM_IO_PAGES 64u /* most pages of one request */

enum vm_iop { VM_IO_READ, VM_IO_WRITE };

struct vm_io {
	enum vm_iop io_op;
	uint32_t io_npages;
	voff_t io_off;             /* page aligned; pages are contiguous in the vnode */
	void *io_buf[VM_IO_PAGES]; /* direct address of each page's contents */
	enum vm_err
	    io_err; /* set by the vnode before done: VM_OK, VM_IO, VM_EOF, VM_NOSWAP (store full) */
	uint32_t io_ok;   /* pages from the start that are valid, also on failure */
	uint64_t io_drop; /* read of swap: bit i: the store's copy of page i takes memory, too, and
	              * should be discarded */
	/*
	 * Called exactly once, perhaps before vo_start returns, perhaps on another thread, never in an interrupt. When it
	 * returns the request may be gone: it lies on the stack of the thread that waits for it.
	 */
	void (*io_done)(struct vm_io *);
	void *io_arg; /* the submitter's */
	uint64_t io_priv
	    [4]; /* 0 and 1: the vnode's; 2 and 3: of a vnode that forwards its requests to another vnode */
};

struct vnode_ops {
	const char *vo_name;
	/* Start an I/O. A read past the end gives VM_EOF; a read that covers the end zeroes the tail of the last page. */
	void (*vo_start)(struct vnode *, struct vm_io *);
	/*
	 * Makes sure that started requests are under way. io: a request of the caller's, started
	 * and perhaps not done: blocks until io_done(io) has been called. It may return early, and
	 * the caller asks again; but it does not block once io is done, so a completion between the
	 * caller's look and this call is not lost. NULL: does not block.
	 */
	void (*vo_poll)(struct vnode *, struct vm_io *io);
	/* Contents of [off, off+len) are not needed any more (swap slots freed; hole). */
	void (*vo_discard)(struct vnode *, voff_t off, uint64_t len);
	/* The page at off has left memory without being written: it was clean. A hint; the member
	 * may be NULL. Must not sleep. */
	void (*vo_dropped)(struct vnode *, voff_t off);
	/* Makes everything written durable. */
	enum vm_err (*vo_sync)(struct vnode *, voff_t off, uint64_t len);
	uint64_t (*vo_size)(struct vnode *); /* bytes now */
	/* The last reference is gone and no page is named any more: frees the vnode. */
	void (*vo_inactive)(struct vnode *);
};
#define V_SWAP 0x1u   /* swap area: anon pages' store */
#define V_SWAPFS 0x2u /* the core's own naming vnode of anonymous pages; does no I/O itself */

struct vnode {
	const struct vnode_ops *v_ops; /* const after init */
	struct vm *v_vm;               /* const after init */
	_Atomic uint32_t v_refcnt;
	uint32_t v_flags;  /* const after init */
	uint32_t v_pages;  /* vm_listlock: first page of the list, PAGE_NIL; swapfs has none */
	uint32_t v_npages; /* vm_listlock */
	_Atomic uint32_t
	    v_lost; /* write-backs by page-out or asynchronous that failed and were not reported yet */
	/* Hints without a lock: where the last read that needed I/O ended, and how many pages it brought. */
	_Atomic voff_t v_readnext;
	_Atomic uint32_t v_readwindow;
	void *v_data; /* the implementor's */
	uint64_t
	    v_id; /* const after init: stable number, the same in every run of the same program */
};
void vnode_init(struct vnode *, struct vm *, const struct vnode_ops *, void *data); /* refcnt 1 */
void vnode_hold(struct vnode *);
/*
 * At 0: purges its pages (dirty ones are written first), then vo_inactive. May sleep. Pages that
 * cannot be written after some tries are lost: vc_lost of the system is called, and lost_page
 * counts them. A swap area's pages are not written. No core lock held.
 */
void vnode_rele(struct vnode *);

/*
 * Makes a vnode over lower (a reference is taken) that remembers a sum of each of the first npages
 * pages written through it and gives VM_IO for a page whose contents do not match: for swap areas
 * on stores that may tear, lose or corrupt writes. 8 bytes a page. The flags are lower's; the new
 * vnode has one reference. VM_NOMEM, VM_INVAL (no pages). May sleep.
 */
enum vm_err vnode_summed(struct vm *, struct vnode *lower, uint64_t npages, struct vnode **);
uint64_t vnode_summed_wrong(struct vnode *); /* pages that did not match so far */

/* ---- the page cache over a vnode (vm/file/pvn.c) ---- */
/*
 * The page at off, filled, locked se. hint_pages >= 1: how many pages from off may be read in the same I/O (prefetch);
 * those beyond the first are left unlocked in the cache. VM_EOF: off is past the end; VM_IO, or the
 * vnode's result; VM_NOMEM. May sleep; the caller holds no other page lock.
 */
enum vm_err pvn_getpage(
    struct vm *, struct vnode *, voff_t off, enum page_se, unsigned hint_pages, struct page **);
#define PVN_FREE 0x1u  /* free the pages once clean */
#define PVN_INVAL 0x2u /* destroy them once clean */
#define PVN_ASYNC 0x4u
/*
 * Writes dirty pages of [off, off+len), len 0 = to the end, clustered, and waits for each write.
 * Every page is tried; a page that could not be written stays dirty, and the last failure is
 * returned: VM_IO, or the vnode's result. Without PVN_ASYNC it waits for a page that a device is
 * using; with PVN_ASYNC or PVN_FREE such a page is left out. With PVN_ASYNC a failure is also kept
 * for the next vnode_sync. Wired pages are written and stay. May sleep; no page lock held.
 */
enum vm_err pvn_putpages(struct vm *, struct vnode *, voff_t off, uint64_t len, unsigned flags);
/* The object shrank to size: pages past it are destroyed (wired ones unmapped and zeroed), the tail of the last one is
 * zeroed. vo_size says the new size already. May sleep; no page lock held. */
void pvn_truncate(struct vm *, struct vnode *, uint64_t size);
/*
 * Reading and writing a file's bytes through its pages: coherent with every mapping. *done (may be NULL) = bytes.
 * VM_EOF past the end (a write does not make the object longer: its owner does), VM_IO or the
 * vnode's result, VM_NOMEM. May sleep; no page lock held. A write dirties pages; it writes nothing
 * to the store.
 */
enum vm_err vnode_read(struct vnode *, voff_t off, void *buf, uint64_t len, uint64_t *done);
enum vm_err vnode_write(struct vnode *, voff_t off, const void *buf, uint64_t len, uint64_t *done);
/*
 * Writes dirty pages and makes them durable (vo_sync, also after a failure). The first failure is
 * returned; VM_IO also for an earlier write-back that failed with no caller to tell, which is
 * reported once. May sleep; no page lock held.
 */
enum vm_err vnode_sync(struct vnode *);
/*
 * One synchronous I/O of up to VM_IO_PAGES pages, E-locked or (write) I/O-locked, contents mapped
 * in. *ok: pages from the start that are valid, also on failure. VM_OK, VM_IO, or the vnode's
 * result: its io_err. Sleeps.
 */
enum vm_err pvn_io(struct vm *, struct vnode *, enum vm_iop, voff_t off, struct page **pps,
    uint32_t n, uint32_t *ok);
/*
 * Page-in from swap for a fault: as pvn_io, but if few frames are free the thread pages out while
 * the read is under way. *drop: io_drop of the request.
 */
enum vm_err pvn_swapin(struct vm *, struct vnode *, voff_t off, struct page **pps, uint32_t n,
    uint32_t *ok, uint64_t *drop);
/* A read of swap that no fault waits for: as pvn_io, with *drop. */
enum vm_err pvn_readahead(struct vm *, struct vnode *, voff_t off, struct page **pps, uint32_t n,
    uint32_t *ok, uint64_t *drop);
#endif
