/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading and writing files through the page cache.
 *
 * There is one copy of a file's page: what a mapping stores and what vnode_read returns are the same frame. On machines with a
 * direct map a reader shares the page with its mappings; elsewhere the page is taken from them for the moment of the copy
 * (page_mapin) and comes back by a fault. A write that covers a whole page which is not in memory does not read it first.
 *
 * Read-ahead: a read that needs I/O just where the last such read ended is a stream's, and brings twice as many pages as that
 * one, up to 32 (McKusick and others, "A Fast File System for UNIX", 1984; SVR4's i_nextr). A read of the file's beginning
 * brings four, as most files are read from there on.
 *
 * Errors of write-back for which no caller waited (page-out, asynchronous msync) are kept in v_lost; the next sync reports
 * them once. The pages themselves stay dirty and are tried again.
 *
 * Locks: the page's. Left out: making a file longer (its owner's), locks of ranges against other writers.
 */
#include "vm/impl.h"

struct rw {
	struct vm *r_vm;
	struct vnode *r_vp;
	voff_t r_off;
	char *r_buf;
	uint64_t r_n; /* within one page */
	bool r_write;
};

#define READ_AHEAD 32u
#define READ_FIRST 4u

/* How many pages from off one request is to bring, if the page at off is not in memory; the caller
 * asked for `wanted`. */
static unsigned read_window(struct vm *vm, struct vnode *vp, voff_t off, uint64_t wanted)
{
	uint64_t n = wanted, most;

	if (page_exists(vm, vp, off))
		return 1;
	most = page_room(vm, READ_AHEAD) ? READ_AHEAD : READ_FIRST;
	if (off == 0 && n < READ_FIRST)
		n = READ_FIRST;
	if (off != 0 && off == vp->v_readnext && n < 2ull * vp->v_readwindow)
		n = 2ull * vp->v_readwindow;
	n = n < most ? n : most;
	vp->v_readnext = off + vm_ptob(n);
	vp->v_readwindow = (uint32_t)n;
	return (unsigned)n;
}

/* Returns the page at off: filled, or new for a write that covers all of it. Locked. */
static enum vm_err get_page(const struct rw *r, bool whole, uint64_t left, struct page **ppp)
{
	enum page_se se = r->r_write || !r->r_vm->vm_caps->mc_direct_map ? SE_EXCL : SE_SHARED;
	uint64_t pages = vm_btop(vm_page_round(left));
	voff_t off = vm_page_trunc(r->r_off);
	unsigned hint = 1;

	if (whole) {
		enum vm_err e = page_create(r->r_vm, r->r_vp, off, PG_WAIT, ppp);

		if (e == VM_OK)
			page_filled(r->r_vm, *ppp, false); /* E-locked until it is written */
		if (e != VM_EXIST)
			return e;
	}
	if (!r->r_write)
		hint = read_window(r->r_vm, r->r_vp, off, pages);
	return pvn_getpage(r->r_vm, r->r_vp, off, se, hint, ppp);
}

static enum vm_err move_part(const struct rw *r, uint64_t left)
{
	bool whole = r->r_write && (r->r_off & VM_PAGEMASK) == 0 && r->r_n == VM_PAGESIZE;
	struct page *pp;
	enum vm_err e = get_page(r, whole, left, &pp);
	char *at;

	if (e != VM_OK)
		return e;
	at = (char *)page_mapin(r->r_vm, pp) + (r->r_off & VM_PAGEMASK);
	if (r->r_write) {
		memcpy(at, r->r_buf, r->r_n);
		page_nrm_set(pp, P_MOD);
	} else {
		memcpy(r->r_buf, at, r->r_n);
	}
	page_unlock(r->r_vm, pp);
	return VM_OK;
}

static enum vm_err copy_file_bytes(
    struct vnode *vp, voff_t off, char *buf, uint64_t len, bool write, uint64_t *done)
{
	uint64_t size = vp->v_ops->vo_size(vp), at = 0, end = vm_within(size, off, len);
	enum vm_err e = VM_OK;

	while (at < end && e == VM_OK) {
		struct rw r = { vp->v_vm, vp, off + at, buf + at,
			VM_PAGESIZE - ((off + at) & VM_PAGEMASK), write };

		if (r.r_n > end - at)
			r.r_n = end - at;
		if ((e = move_part(&r, end - at)) == VM_OK)
			at += r.r_n;
	}
	if (done != NULL)
		*done = at;
	return e == VM_OK && at < len ? VM_EOF : e;
}

enum vm_err vnode_read(struct vnode *vp, voff_t off, void *buf, uint64_t len, uint64_t *done)
{
	return copy_file_bytes(vp, off, buf, len, false, done);
}

enum vm_err vnode_write(struct vnode *vp, voff_t off, const void *buf, uint64_t len, uint64_t *done)
{
	return copy_file_bytes(vp, off, (char *)(uintptr_t)buf, len, true, done);
}

enum vm_err vnode_sync(struct vnode *vp)
{
	enum vm_err e = pvn_putpages(vp->v_vm, vp, 0, 0, 0), s;

	s = vp->v_ops->vo_sync(vp, 0, vp->v_ops->vo_size(vp));
	if (e == VM_OK)
		e = s;
	if (__atomic_exchange_n((uint32_t *)(void *)&vp->v_lost, 0, __ATOMIC_RELAXED) != 0 &&
	    e == VM_OK)
		e = VM_IO;
	return e;
}
