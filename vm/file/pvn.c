/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page cache over a vnode: reading, writing and truncating named pages of files.
 *
 * A page being filled is E-locked and I/O-locked; a page being written is E-locked. Faults on it wait for the lock; no
 * other lock is held across I/O but the space's as reader and the slot's busy bit.
 */
#include "vm/impl.h"

struct waiter {
	_Atomic bool w_done;
};

static void io_done(struct vm_io *io)
{
	__atomic_store_n(
	    (bool *)(void *)&((struct waiter *)io->io_arg)->w_done, true, __ATOMIC_RELEASE);
}

/* A thread that waits for a read reclaims up to so many frames above the reserve. */
#define SPARE 32u
#define AT_ONCE 4u /* pages of one such reclaim: it takes about as long as a disk read */

/* A read is under way: this thread reclaims frames meanwhile, so that the next fault need not do so
 * before its own read. */
static void while_reading(struct vm *vm)
{
	if (vm->vm_nfree < (pfn_t)vm->vm_reserve + SPARE)
		(void)pageout_reclaim(vm, AT_ONCE);
}

static enum vm_err one_io(struct vm *vm, struct vnode *vp, enum vm_iop op, voff_t off,
    struct page **pps, uint32_t n, uint32_t *ok, uint64_t *drop, bool may_reclaim)
{
	struct waiter w = { .w_done = false };
	struct vm_io io = {
		.io_op = op, .io_npages = n, .io_off = off, .io_done = io_done, .io_arg = &w
	};

	VM_ASSERT(n > 0 && n <= VM_IO_PAGES);
	*ok = 0;
	*drop = 0;
	if (vm_inject_fail(vm, op == VM_IO_READ ? VM_INJECT_IO_READ : VM_INJECT_IO_WRITE)) {
		VM_STAT(vm, io_error);
		return VM_IO;
	}
	for (uint32_t i = 0; i < n; i++)
		io.io_buf[i] = op == VM_IO_READ ? page_fillin(vm, pps[i]) : page_mapin(vm, pps[i]);
	vp->v_ops->vo_start(vp, &io);
	if (may_reclaim && !__atomic_load_n((bool *)(void *)&w.w_done, __ATOMIC_ACQUIRE))
		while_reading(vm);
	while (!__atomic_load_n((bool *)(void *)&w.w_done, __ATOMIC_ACQUIRE))
		vp->v_ops->vo_poll(vp, &io);
	*ok = io.io_err == VM_OK ? n : io.io_ok;
	*drop = io.io_drop;
	if (op == VM_IO_READ) {
		VM_STAT(vm, pgin_io);
		VM_STATN(vm, pgin, *ok);
	} else {
		VM_STAT(vm, pgout_io);
		VM_STATN(vm, pgout, *ok);
	}
	if (io.io_err != VM_OK && io.io_err != VM_EOF)
		VM_STAT(vm, io_error);
	return io.io_err;
}

enum vm_err pvn_io(struct vm *vm, struct vnode *vp, enum vm_iop op, voff_t off, struct page **pps,
    uint32_t n, uint32_t *ok)
{
	uint64_t drop;

	return one_io(vm, vp, op, off, pps, n, ok, &drop, false);
}

enum vm_err pvn_swapin(struct vm *vm, struct vnode *vp, voff_t off, struct page **pps, uint32_t n,
    uint32_t *ok, uint64_t *drop)
{
	return one_io(vm, vp, VM_IO_READ, off, pps, n, ok, drop, true);
}

enum vm_err pvn_readahead(struct vm *vm, struct vnode *vp, voff_t off, struct page **pps,
    uint32_t n, uint32_t *ok, uint64_t *drop)
{
	return one_io(vm, vp, VM_IO_READ, off, pps, n, ok, drop, false);
}

void pvn_filled_ahead(struct vm *vm, struct page **pps, uint32_t n, uint32_t ok)
{
	VM_STATN(vm, prefetch, ok);
	for (uint32_t i = 0; i < n; i++) {
		if (i < ok) {
			page_filled(vm, pps[i], true);
			page_unlock(vm, pps[i]);
		} else {
			page_destroy(vm, pps[i]);
		}
	}
}

/* Creates empty pages for the offsets that follow off in the object, up to the first that is in
 * memory. Returns how many in pps. */
static uint32_t gather_ahead(
    struct vm *vm, struct vnode *vp, voff_t off, uint64_t size, uint32_t most, struct page **pps)
{
	uint32_t n = 1;

	while (n < most && off + vm_ptob(n) < size &&
	    page_create(vm, vp, off + vm_ptob(n), 0, &pps[n]) == VM_OK)
		n++;
	return n;
}

/* Creates empty pages for the offsets before off, down to the first that is in memory: pps[-1],
 * pps[-2] ... Returns how many. */
static uint32_t gather_before(
    struct vm *vm, struct vnode *vp, voff_t off, uint32_t most, struct page **pps)
{
	uint32_t n = 0;

	while (n < most && off >= vm_ptob(n + 1) &&
	    page_create(vm, vp, off - vm_ptob(n + 1), 0, pps - n - 1) == VM_OK)
		n++;
	return n;
}

/* pps[before] is the page at off; the others, n in all, are filled with it. One request. Only the
 * page at off must be read: an error of the others is not the caller's. */
static enum vm_err read_kluster(
    struct vm *vm, struct vnode *vp, voff_t off, struct page **pps, uint32_t before, uint32_t n)
{
	uint32_t ok = 0;
	enum vm_err e = pvn_io(vm, vp, VM_IO_READ, off - vm_ptob(before), pps, n, &ok);

	VM_STATN(vm, filein, ok);
	pvn_filled_ahead(vm, pps, before, ok < before ? ok : before);
	pvn_filled_ahead(vm, pps + before + 1, n - before - 1, ok > before ? ok - before - 1 : 0);
	if (ok > before || before == 0)
		return vm_io_result(e, ok > 0, 1);
	e = pvn_io(vm, vp, VM_IO_READ, off, pps + before, 1, &ok);
	VM_STATN(vm, filein, ok);
	return vm_io_result(e, ok, 1);
}

static enum vm_err fill_page(
    struct vm *vm, struct vnode *vp, voff_t off, unsigned before, unsigned hint, struct page *pp)
{
	struct page *pps[VM_IO_PAGES];
	uint64_t size = vp->v_ops->vo_size(vp);
	uint32_t at = before < VM_IO_PAGES ? before : VM_IO_PAGES - 1, most = VM_IO_PAGES - at, n;

	if (off >= size)
		return VM_EOF;
	pps[at] = pp;
	n = gather_ahead(vm, vp, off, size, hint < most ? hint : most, pps + at);
	before = gather_before(vm, vp, off, at, pps + at);
	return read_kluster(vm, vp, off, pps + at - before, before, before + n);
}

/* Reads into consecutive pages from off on, which are being filled; unlocks them. */
static void read_run(struct vm *vm, struct vnode *vp, voff_t off, struct page **pps, uint32_t n)
{
	uint32_t ok = 0;

	if (n == 0)
		return;
	(void)pvn_io(vm, vp, VM_IO_READ, off, pps, n, &ok);
	VM_STATN(vm, filein, ok);
	pvn_filled_ahead(vm, pps, n, ok);
}

void pvn_read_ahead(struct vm *vm, struct vnode *vp, const voff_t *offs, uint32_t noffs)
{
	uint64_t size = vp->v_ops->vo_size(vp);
	struct page *pps[VM_IO_PAGES];
	voff_t first = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < noffs; i++) {
		enum vm_err e;

		if (offs[i] >= size)
			continue;
		if (n == VM_IO_PAGES || (n > 0 && offs[i] != first + vm_ptob(n))) {
			read_run(vm, vp, first, pps, n);
			n = 0;
		}
		e = page_create(vm, vp, offs[i], 0, &pps[n]);
		if (e == VM_EXIST)
			continue;
		if (e != VM_OK)
			break;
		if (n++ == 0)
			first = offs[i];
	}
	read_run(vm, vp, first, pps, n);
}

enum vm_err pvn_getpage(
    struct vm *vm, struct vnode *vp, voff_t off, enum page_se se, unsigned hint, struct page **ppp)
{
	return pvn_getpage_around(vm, vp, off, se, 0, hint, ppp);
}

enum vm_err pvn_getpage_around(struct vm *vm, struct vnode *vp, voff_t off, enum page_se se,
    unsigned before, unsigned hint, struct page **ppp)
{
	struct page *pp;
	enum vm_err e;

	for (;;) {
		if (off >= vp->v_ops->vo_size(vp))
			return VM_EOF;
		pp = page_lookup(vm, vp, off, se);
		if (pp != NULL)
			break;
		e = page_create(vm, vp, off, PG_WAIT, &pp);
		if (e == VM_EXIST)
			continue;
		if (e != VM_OK)
			return e;
		if ((e = fill_page(vm, vp, off, before, hint, pp)) != VM_OK) {
			page_destroy(vm, pp);
			return e;
		}
		page_filled(vm, pp, false);
		if (se == SE_SHARED)
			page_downgrade(vm, pp);
		break;
	}
	*ppp = pp;
	return VM_OK;
}

/*
 * True: the page, E-locked, is modified. From here on a write through a translation sets P_MOD
 * again. On machines that must unmap the page for this, a page in use by a device is left alone,
 * unless a caller waits for the write.
 */
static bool freeze_page(struct vm *vm, struct page *pp, unsigned flags)
{
	if (vm->vm_caps->mc_direct_map) {
		hat_page_clrwrt(pp);
		(void)hat_pagesync(pp, false, true);
	} else if ((flags & (PVN_ASYNC | PVN_FREE)) == 0 || (flags & PVN_INVAL) != 0) {
		hat_pageunload(pp);
	} else if (!hat_page_tryunload(pp)) {
		return false;
	}
	return (page_nrm(pp) & P_MOD) != 0;
}

/* Ends the write-back of a written or clean page: it stays, is freed or is destroyed as the flags
 * say. Unlocks. */
static void settle_page(struct vm *vm, struct page *pp, unsigned flags)
{
	if ((flags & (PVN_FREE | PVN_INVAL)) == 0 || pp->p_lckcnt > 0) {
		page_unlock(vm, pp);
		return;
	}
	if ((flags & PVN_INVAL) != 0)
		hat_pageunload(pp);
	if (!hat_page_tryunload(pp) ||
	    (page_nrm(pp) & P_MOD) != 0) /* in use by a device, or written again meanwhile: keep the
	                                  * page */
		page_unlock(vm, pp);
	else if ((flags & PVN_INVAL) != 0)
		page_destroy(vm, pp);
	else
		page_free(vm, pp, true);
}

static enum vm_err write_run(
    struct vm *vm, struct vnode *vp, struct page **pps, uint32_t n, unsigned flags)
{
	uint32_t ok = 0;
	enum vm_err e;

	if (n == 0)
		return VM_OK;
	for (uint32_t i = 0; i < n; i++)
		page_nrm_clear(pps[i], P_MOD);
	e = pvn_io(vm, vp, VM_IO_WRITE, pps[0]->p_offset, pps, n, &ok);
	VM_STATN(vm, fileout, ok);
	for (uint32_t i = 0; i < n; i++) {
		if (i >= ok)
			page_nrm_set(pps[i], P_MOD);
		settle_page(vm, pps[i], i < ok ? flags : 0);
	}
	return vm_io_result(e, ok, n);
}

#define NEAR 64u

/*
 * The first offset in [at, end) that has a page, or end. Looks nearby by name, then along the
 * vnode's list, so that the cost is bounded both for a large file with few pages and for a full
 * cache.
 */
static voff_t next_page(struct vm *vm, struct vnode *vp, voff_t at, voff_t end)
{
	voff_t best = end;

	for (unsigned i = 0; i < NEAR && at < end; i++, at += VM_PAGESIZE)
		if (page_exists(vm, vp, at))
			return at;
	if (at >= end)
		return end;
	mach_mutex_enter(&vm->vm_listlock);
	for (uint32_t i = vp->v_pages; i != PAGE_NIL; i = vm->vm_pages[i].p_vpnext)
		if (vm->vm_pages[i].p_offset >= at && vm->vm_pages[i].p_offset < best)
			best = vm->vm_pages[i].p_offset;
	mach_mutex_exit(&vm->vm_listlock);
	return best;
}

enum vm_err pvn_putpages(struct vm *vm, struct vnode *vp, voff_t off, uint64_t len, unsigned flags)
{
	struct page *run[VM_IO_PAGES];
	uint64_t size = vm_page_round(vp->v_ops->vo_size(vp)),
		 end = len == 0 || off + len > size ? size : off + len;
	enum vm_err e = VM_OK, r;
	uint32_t n = 0;

	for (voff_t at = next_page(vm, vp, off, end), last = at; at < end;
	     at = next_page(vm, vp, at + VM_PAGESIZE, end)) {
		struct page *pp;
		bool dirty;

		/* The run is written before a page is waited for: no page lock is held while
		 * waiting for another. */
		if (n == VM_IO_PAGES || (n > 0 && at != last + VM_PAGESIZE)) {
			if ((r = write_run(vm, vp, run, n, flags)) != VM_OK)
				e = r;
			n = 0;
		}
		pp = n > 0 ? page_lookup_nowait(vm, vp, at, SE_EXCL) : NULL;
		if (pp == NULL && n > 0) {
			if ((r = write_run(vm, vp, run, n, flags)) != VM_OK)
				e = r;
			n = 0;
		}
		if (pp == NULL && (pp = page_lookup_notouch(vm, vp, at, SE_EXCL)) == NULL)
			continue;
		dirty = freeze_page(vm, pp, flags);
		if (dirty) {
			run[n++] = pp;
			last = at;
		} else {
			settle_page(vm, pp, flags);
		}
	}
	if ((r = write_run(vm, vp, run, n, flags)) != VM_OK)
		e = r;
	if (e != VM_OK && (flags & PVN_ASYNC) != 0)
		vp->v_lost++;
	return e;
}

/* A locked page past the end cannot be destroyed before it is unlocked: it is unmapped and zeroed,
 * in case the object grows again. */
static void empty_wired(struct vm *vm, struct vnode *vp, voff_t from)
{
	voff_t at = from;

	for (;;) {
		voff_t next = UINT64_MAX;
		struct page *pp;

		mach_mutex_enter(&vm->vm_listlock);
		for (uint32_t i = vp->v_pages; i != PAGE_NIL; i = vm->vm_pages[i].p_vpnext)
			if (vm->vm_pages[i].p_offset >= at && vm->vm_pages[i].p_offset < next)
				next = vm->vm_pages[i].p_offset;
		mach_mutex_exit(&vm->vm_listlock);
		if (next == UINT64_MAX)
			return;
		at = next + VM_PAGESIZE;
		if ((pp = page_lookup_notouch(vm, vp, next, SE_EXCL)) == NULL)
			continue;
		hat_pageunload(pp);
		mach_frame_zero(vm->vm_mach, page_pfn(vm, pp));
		page_nrm_clear(pp, P_MOD);
		page_unlock(vm, pp);
	}
}

void pvn_truncate(struct vm *vm, struct vnode *vp, uint64_t size)
{
	struct page *pp;

	page_purge_range(vm, vp, vm_page_round(size), 0, true);
	empty_wired(vm, vp, vm_page_round(size));
	if ((size & VM_PAGEMASK) == 0)
		return;
	pp = page_lookup_notouch(vm, vp, vm_page_trunc(size), SE_EXCL);
	if (pp == NULL)
		return;
	hat_pageunload(pp);
	memset((char *)page_mapin(vm, pp) + (size & VM_PAGEMASK), 0,
	    VM_PAGESIZE - (size & VM_PAGEMASK));
	page_nrm_set(pp, P_MOD);
	page_unlock(vm, pp);
}
