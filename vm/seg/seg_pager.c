/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segpager: memory whose pages an object of the user supplies, is asked about, and takes back.
 *
 * A pager is an ops vector with private data behind a vnode, so the page cache, page-out, vnode_read and clustering know it
 * like a file. Three conversations: po_read fills pages, po_write takes dirty ones, po_dirty is asked before a clean page
 * is written (it may refuse, or make a place in its log first). A request is answered by pager_done at any time, on any
 * thread; a thread that needs the page sleeps meanwhile, holding no lock that another fault in the space needs. Detaching fails what
 * is outstanding and everything later, so that a pager that died harms its own mappings only.
 *
 * Dirty trap: a translation is writable only while its page is P_MOD and, with a log, its bit is set; so the first write
 * after each cleaning, and after each reading of the log, faults. Setting the bit (page S) and clearing it (page E, rights
 * taken from all translations) exclude each other.
 *
 * Locks: pg_lock (RANK_VNODE) guards requests and log. Requests are linked through io_priv, so that
 * page-out to a pager allocates nothing. After Mach's memory objects and Zircon's pagers (READ,
 * DIRTY, WRITEBACK, detach). Left out: resizing, copy-on-write of pager memory (a private mapping).
 */
#include "vm/impl.h"

#include <quire/kseg.h>

struct pager {
	struct vnode pg_vnode;
	const struct pager_ops *pg_ops; /* const */
	void *pg_priv;                  /* const */
	uint64_t pg_size;               /* const: bytes */
	struct mach_mutex pg_lock;
	struct mach_cv pg_cv; /* with pg_lock: a request was answered */
	struct vm_io *pg_out; /* pg_lock: outstanding, by io_priv[0], io_priv[1] */
	bool pg_detached;     /* pg_lock */
	uint64_t *pg_log;     /* pg_lock: a bit for each page; NULL: no log */
};

struct pgseg {
	struct pager *ps_pager;       /* const: a reference */
	voff_t ps_off;                /* a_lock W: of the segment's base */
	unsigned ps_prot, ps_maxprot; /* a_lock W */
};

/* ---- requests ---- */
static struct pager *pager_of(struct vnode *vp) { return vp->v_data; }

static struct vm_io *io_at(uint64_t word) { return (struct vm_io *)(uintptr_t)word; }

static void out_add(struct pager *p, struct vm_io *io)
{
	io->io_priv[0] = (uint64_t)(uintptr_t)p->pg_out;
	io->io_priv[1] = 0;
	if (p->pg_out != NULL)
		p->pg_out->io_priv[1] = (uint64_t)(uintptr_t)io;
	p->pg_out = io;
}

static void out_remove(struct pager *p, struct vm_io *io)
{
	struct vm_io *next = io_at(io->io_priv[0]), *prev = io_at(io->io_priv[1]);

	if (prev != NULL)
		prev->io_priv[0] = io->io_priv[0];
	else
		p->pg_out = next;
	if (next != NULL)
		next->io_priv[1] = io->io_priv[1];
}

static void answer_io(struct pager *p, struct vm_io *io, enum vm_err err, uint32_t ok)
{
	io->io_err = err;
	io->io_ok = ok;
	io->io_done(io); /* io may be gone now */
	mach_mutex_enter(&p->pg_lock);
	mach_cv_broadcast(&p->pg_cv);
	mach_mutex_exit(&p->pg_lock);
}

/* An answer that comes after a detach finds its request gone. */
void pager_done(struct pager *p, struct vm_io *io, enum vm_err err, uint32_t ok)
{
	struct vm_io *at;

	mach_mutex_enter(&p->pg_lock);
	for (at = p->pg_out; at != NULL && at != io; at = io_at(at->io_priv[0]))
		;
	if (at != NULL)
		out_remove(p, at);
	mach_mutex_exit(&p->pg_lock);
	if (at != NULL)
		answer_io(p, io, err, err == VM_OK ? io->io_npages : ok);
}

static void pager_start(struct vnode *vp, struct vm_io *io)
{
	struct pager *p = pager_of(vp);

	mach_mutex_enter(&p->pg_lock);
	bool gone = p->pg_detached;
	if (!gone)
		out_add(p, io);
	mach_mutex_exit(&p->pg_lock);
	if (gone)
		answer_io(p, io, VM_IO, 0);
	else if (io->io_op == VM_IO_READ)
		p->pg_ops->po_read(p->pg_priv, p, io);
	else
		p->pg_ops->po_write(p->pg_priv, p, io);
}

static bool is_outstanding(const struct pager *p, const struct vm_io *io)
{
	const struct vm_io *at;

	for (at = p->pg_out; at != NULL && at != io; at = io_at(at->io_priv[0]))
		;
	return at != NULL;
}

static void pager_poll(struct vnode *vp, struct vm_io *io)
{
	struct pager *p = pager_of(vp);

	mach_mutex_enter(&p->pg_lock);
	if (io != NULL && is_outstanding(p, io))
		mach_cv_wait(&p->pg_cv, &p->pg_lock);
	mach_mutex_exit(&p->pg_lock);
	if (io != NULL)
		mach_yield(); /* answered, but not told yet */
}

void pager_detach(struct pager *p)
{
	struct vm_io *io;
	bool first;

	mach_mutex_enter(&p->pg_lock);
	first = !p->pg_detached;
	p->pg_detached = true;
	mach_mutex_exit(&p->pg_lock);
	if (!first)
		return;
	p->pg_ops->po_detach(p->pg_priv);
	for (;;) {
		mach_mutex_enter(&p->pg_lock);
		if ((io = p->pg_out) != NULL)
			out_remove(p, io);
		mach_mutex_exit(&p->pg_lock);
		if (io == NULL)
			return;
		answer_io(p, io, VM_IO, 0);
	}
}

/* ---- the vnode ---- */
static void pager_discard(struct vnode *vp, voff_t off, uint64_t len) {}
static enum vm_err pager_sync(struct vnode *vp, voff_t off, uint64_t len) { return VM_OK; }
static uint64_t pager_size(struct vnode *vp) { return pager_of(vp)->pg_size; }

static void pager_inactive(struct vnode *vp)
{
	struct pager *p = pager_of(vp);

	pager_detach(p);
	pager_log_stop(p);
	mach_cv_fini(&p->pg_cv);
	mach_mutex_fini(&p->pg_lock);
	kmem_free(vp->v_vm, p, sizeof(*p));
}

static const struct vnode_ops pager_vnode_ops = {
	.vo_name = "pager",
	.vo_start = pager_start,
	.vo_poll = pager_poll,
	.vo_discard = pager_discard,
	.vo_sync = pager_sync,
	.vo_size = pager_size,
	.vo_inactive = pager_inactive,
};

enum vm_err pager_create(
    struct vm *vm, const struct pager_ops *ops, void *priv, uint64_t size, struct pager **pp)
{
	struct pager *p = kmem_zalloc(vm, sizeof(*p), KM_SLEEP);

	if (p == NULL)
		return VM_NOMEM;
	vnode_init(&p->pg_vnode, vm, &pager_vnode_ops, p);
	p->pg_ops = ops;
	p->pg_priv = priv;
	p->pg_size = size;
	mach_mutex_init(&p->pg_lock, RANK_VNODE, "pager");
	mach_cv_init(&p->pg_cv);
	*pp = p;
	return VM_OK;
}

void pager_rele(struct pager *p) { vnode_rele(&p->pg_vnode); }

struct vnode *pager_vnode(struct pager *p) { return &p->pg_vnode; }

/* ---- the dirty log ---- */
static uint64_t log_words(const struct pager *p)
{
	return (vm_btop(vm_page_round(p->pg_size)) + 63) / 64;
}

/* The next write of the page faults. Page E: no fault is under way. *was: it had been noted. */
static bool log_clear(struct pager *p, struct page *pp)
{
	uint64_t i = vm_btop(pp->p_offset), bit = (uint64_t)1 << (i % 64);
	bool was = false;

	hat_page_clrwrt(pp);
	mach_mutex_enter(&p->pg_lock);
	if (p->pg_log != NULL) {
		was = (p->pg_log[i / 64] & bit) != 0;
		p->pg_log[i / 64] &= ~bit;
	}
	mach_mutex_exit(&p->pg_lock);
	return was;
}

static bool log_get(struct pager *p, voff_t off)
{
	uint64_t i = vm_btop(off);

	mach_mutex_enter(&p->pg_lock);
	bool set = p->pg_log == NULL || (p->pg_log[i / 64] >> (i % 64) & 1) != 0;
	mach_mutex_exit(&p->pg_lock);
	return set;
}

static void log_set(struct pager *p, voff_t off)
{
	uint64_t i = vm_btop(off), bit = (uint64_t)1 << (i % 64);

	mach_mutex_enter(&p->pg_lock);
	if (p->pg_log != NULL && (p->pg_log[i / 64] & bit) == 0) {
		p->pg_log[i / 64] |= bit;
		VM_STAT(p->pg_vnode.v_vm, dirty_log);
	}
	mach_mutex_exit(&p->pg_lock);
}

enum vm_err pager_log_start(struct pager *p)
{
	struct vm *vm = p->pg_vnode.v_vm;
	uint64_t *log = kmem_zalloc(vm, log_words(p) * 8, KM_SLEEP), *old;

	if (log == NULL)
		return VM_NOMEM;
	mach_mutex_enter(&p->pg_lock);
	if ((old = p->pg_log) == NULL)
		p->pg_log = log;
	mach_mutex_exit(&p->pg_lock);
	if (old != NULL)
		kmem_free(vm, log, log_words(p) * 8);
	for (voff_t off = 0; off < p->pg_size; off += VM_PAGESIZE) {
		struct page *pp = page_lookup_notouch(vm, &p->pg_vnode, off, SE_EXCL);

		if (pp == NULL)
			continue;
		(void)log_clear(p, pp);
		page_unlock(vm, pp);
	}
	return VM_OK;
}

void pager_log_stop(struct pager *p)
{
	mach_mutex_enter(&p->pg_lock);
	uint64_t *log = p->pg_log;
	p->pg_log = NULL;
	mach_mutex_exit(&p->pg_lock);
	if (log != NULL)
		kmem_free(p->pg_vnode.v_vm, log, log_words(p) * 8);
}

/* A page that went out of memory since it was noted has no translations: its bit alone is cleared. */
static bool read_one(struct pager *p, voff_t off, bool clear)
{
	struct vm *vm = p->pg_vnode.v_vm;
	uint64_t i = vm_btop(off), bit = (uint64_t)1 << (i % 64);
	struct page *pp;
	bool was = log_get(p, off);

	if (!was || !clear)
		return was;
	if ((pp = page_lookup_notouch(vm, &p->pg_vnode, off, SE_EXCL)) != NULL) {
		was = log_clear(p, pp);
		page_unlock(vm, pp);
		return was;
	}
	mach_mutex_enter(&p->pg_lock);
	if (p->pg_log != NULL)
		p->pg_log[i / 64] &= ~bit;
	mach_mutex_exit(&p->pg_lock);
	return true;
}

enum vm_err pager_log_read(struct pager *p, voff_t off, uint64_t npages, uint64_t *bits, bool clear)
{
	if (p->pg_log == NULL || (off & VM_PAGEMASK) != 0 || off > p->pg_size ||
	    npages > vm_btop(vm_page_round(p->pg_size) - off))
		return VM_INVAL;
	memset(bits, 0, (npages + 63) / 64 * 8);
	for (uint64_t i = 0; i < npages; i++)
		if (read_one(p, off + vm_ptob(i), clear))
			bits[i / 64] |= (uint64_t)1 << (i % 64);
	return VM_OK;
}

/* ---- the segment ---- */
static struct pgseg *ps_of(const struct seg *s) { return s->s_data; }

static voff_t ps_voff(const struct seg *s, vaddr_t va)
{
	return ps_of(s)->ps_off + (va - seg_base(s));
}

static struct pgseg *ps_copy(struct vm *vm, const struct pgseg *from, uint64_t off)
{
	struct pgseg *ps = kmem_alloc(vm, sizeof(*ps), KM_SLEEP);

	if (ps == NULL)
		return NULL;
	*ps = *from;
	ps->ps_off += off;
	vnode_hold(&ps->ps_pager->pg_vnode);
	return ps;
}

static enum vm_err make_alike(struct seg *seg, struct seg *nseg, uint64_t off)
{
	nseg->s_ops = seg->s_ops;
	nseg->s_flags = seg->s_flags;
	nseg->s_data = ps_copy(seg->s_as->a_vm, ps_of(seg), off);
	return nseg->s_data != NULL ? VM_OK : VM_NOMEM;
}

static enum vm_err segpager_dup(struct seg *seg, struct seg *nseg)
{
	return make_alike(seg, nseg, 0);
}

static enum vm_err segpager_split(struct seg *seg, struct seg *nseg, vaddr_t addr)
{
	return make_alike(seg, nseg, addr - seg_base(seg));
}

/* Does the pager cover the range? */
static bool pager_has(const struct pager *p, voff_t off, uint64_t len)
{
	uint64_t size = vm_page_round(p->pg_size);

	return off <= size && len <= size - off;
}

static enum vm_err segpager_alike(struct seg *seg, struct seg *nseg, int64_t off)
{
	voff_t at = ps_of(seg)->ps_off + (uint64_t)off;

	if ((off < 0 && ps_of(seg)->ps_off < (uint64_t)-off) ||
	    !pager_has(ps_of(seg)->ps_pager, at, seg_size(nseg)))
		return VM_EOF;
	return make_alike(seg, nseg, (uint64_t)off);
}

static void ps_free(struct vm *vm, struct pgseg *ps)
{
	pager_rele(ps->ps_pager);
	kmem_free(vm, ps, sizeof(*ps));
}

static bool segpager_concat(struct seg *a, struct seg *b)
{
	const struct pgseg *x = ps_of(a), *y = ps_of(b);

	if (x->ps_pager != y->ps_pager || x->ps_off + seg_size(a) != y->ps_off ||
	    x->ps_prot != y->ps_prot || x->ps_maxprot != y->ps_maxprot)
		return false;
	ps_free(a->s_as->a_vm, b->s_data);
	return true;
}

/* ---- locks ---- */
static void unlock_page(struct seg *seg, vaddr_t va, bool wired)
{
	struct as *as = seg->s_as;
	struct page *pp;

	if ((aslock_get(as, va) & (wired ? LOCK_WIRED : LOCK_SOFT)) == 0)
		return;
	pp = page_lookup_notouch(
	    as->a_vm, &ps_of(seg)->ps_pager->pg_vnode, ps_voff(seg, va), SE_SHARED);
	VM_ASSERT(pp != NULL);
	if ((aslock_del(as, va, pp, wired) & LOCK_SOFT) == 0 && !wired)
		hat_unlock(as->a_hat, va, VM_PAGESIZE);
	page_unlock(as->a_vm, pp);
}

static void unlock_all(struct seg *seg, vaddr_t addr, uint64_t len)
{
	for (vaddr_t va = addr; aslock_next(seg->s_as, &va, addr + len, LOCK_WIRED);
	     va += VM_PAGESIZE)
		unlock_page(seg, va, true);
}

static enum vm_err segpager_unmap(struct seg *seg)
{
	vaddr_t va = seg_base(seg);

	if (aslock_next(seg->s_as, &va, seg_end(seg), LOCK_SOFT))
		return VM_LOCKED;
	unlock_all(seg, seg_base(seg), seg_size(seg));
	hat_unload(seg->s_as->a_hat, seg_base(seg), seg_size(seg), HAT_UNLOAD);
	ps_free(seg->s_as->a_vm, ps_of(seg));
	return VM_OK;
}

/* ---- faults ---- */
struct pgfault {
	struct seg *f_seg;
	bool f_write, f_soft, f_wire;
};

/* The page is locked S. The page may be written now: the fault is a write, or the page was dirty
 * already. */
static enum vm_err load_page(const struct pgfault *f, vaddr_t va, struct page *pp, bool asked)
{
	struct seg *seg = f->f_seg;
	struct pager *p = ps_of(seg)->ps_pager;
	unsigned attr = ps_of(seg)->ps_prot, flags = HAT_LOAD_REF;
	enum vm_err e;

	if (asked) {
		page_nrm_set(pp, P_MOD);
		log_set(p, pp->p_offset);
	}
	if ((page_nrm(pp) & P_MOD) == 0 || !log_get(p, pp->p_offset))
		attr &= ~PROT_W;
	if ((f->f_soft || f->f_wire) && (e = aslock_add(seg->s_as, va, pp, f->f_wire)) != VM_OK)
		return e;
	if ((aslock_get(seg->s_as, va) & LOCK_SOFT) != 0)
		flags |= HAT_LOAD_LOCK;
	if ((e = seg_load(seg->s_as, va, pp, attr, flags)) != VM_OK && (f->f_soft || f->f_wire))
		(void)aslock_del(seg->s_as, va, pp, f->f_wire);
	return e;
}

static enum vm_err fault_page(const struct pgfault *f, vaddr_t va)
{
	struct seg *seg = f->f_seg;
	struct pager *p = ps_of(seg)->ps_pager;
	struct vm *vm = seg->s_as->a_vm;
	voff_t off = ps_voff(seg, va);
	bool asked = false;
	struct page *pp;
	enum vm_err e;

	if ((f->f_soft || f->f_wire) && !aslock_prepare(seg->s_as, va))
		return VM_NOMEM;
	if ((e = pvn_getpage(vm, &p->pg_vnode, off, SE_SHARED, 1, &pp)) != VM_OK)
		return e;
	if (f->f_write && ((page_nrm(pp) & P_MOD) == 0 || !log_get(p, off))) {
		/* The answer may take long, so the page is not held meanwhile. */
		bool clean = (page_nrm(pp) & P_MOD) == 0;

		page_unlock(vm, pp);
		if (clean &&
		    (p->pg_detached ? (e = VM_IO) : (e = p->pg_ops->po_dirty(p->pg_priv, off))) !=
			VM_OK)
			return e;
		if ((e = pvn_getpage(vm, &p->pg_vnode, off, SE_SHARED, 1, &pp)) != VM_OK)
			return e;
		asked = true;
	}
	e = load_page(f, va, pp, asked);
	page_unlock(vm, pp);
	return e;
}

static enum vm_err fault_range(const struct pgfault *f, vaddr_t addr, uint64_t len)
{
	for (vaddr_t va = addr; va < addr + len; va += VM_PAGESIZE) {
		enum vm_err e = fault_page(f, va);

		if (e == VM_OK)
			continue;
		while (f->f_soft && va > addr) {
			va -= VM_PAGESIZE;
			unlock_page(f->f_seg, va, false);
		}
		return e == VM_LIMIT ? VM_NOMEM : e;
	}
	return VM_OK;
}

static enum vm_err segpager_fault(
    struct seg *seg, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	unsigned prot = ps_of(seg)->ps_prot, need = vm_prot_for(rw);
	struct pgfault f = { .f_seg = seg, .f_write = rw == S_WRITE, .f_soft = type == F_SOFTLOCK };

	if (type == F_SOFTUNLOCK) {
		for (vaddr_t va = addr; va < addr + len; va += VM_PAGESIZE)
			unlock_page(seg, va, false);
		return VM_OK;
	}
	if (rw == S_OTHER ? prot == 0 : (prot & need) == 0)
		return VM_PROT;
	return fault_range(&f, addr, len);
}

static enum vm_err segpager_lockop(struct seg *seg, vaddr_t addr, uint64_t len, enum lock_op op)
{
	struct pgfault f = { .f_seg = seg, .f_wire = true };
	enum vm_err e = VM_OK;

	for (vaddr_t va = addr; va < addr + len && e == VM_OK; va += VM_PAGESIZE) {
		if (op == SEG_UNLOCK)
			unlock_page(seg, va, true);
		else if (ps_of(seg)->ps_prot == 0)
			e = VM_PROT;
		else if ((aslock_get(seg->s_as, va) & LOCK_WIRED) == 0)
			e = fault_page(&f, va);
	}
	return e;
}

/* ---- the rest ---- */
static enum vm_err segpager_setprot(struct seg *seg, vaddr_t addr, uint64_t len, unsigned prot)
{
	struct pgseg *ps = ps_of(seg);

	if ((prot & ~ps->ps_maxprot) != 0)
		return VM_ACCESS;
	if ((ps->ps_prot & ~prot) != 0)
		hat_clrattr(seg->s_as->a_hat, addr, len, ps->ps_prot & ~prot);
	ps->ps_prot = prot;
	return VM_OK;
}

static enum vm_err segpager_checkprot(struct seg *seg, vaddr_t a, uint64_t l, unsigned prot)
{
	return (prot & ~ps_of(seg)->ps_prot) == 0 ? VM_OK : VM_PROT;
}

static unsigned segpager_getprot(struct seg *seg, vaddr_t a) { return ps_of(seg)->ps_prot; }

static uint64_t segpager_swapout(struct seg *seg)
{
	struct pgseg *ps = ps_of(seg);

	(void)pvn_putpages(
	    seg->s_as->a_vm, &ps->ps_pager->pg_vnode, ps->ps_off, seg_size(seg), PVN_FREE);
	return 0;
}

static enum vm_err segpager_sync(struct seg *seg, vaddr_t addr, uint64_t len, unsigned flags)
{
	vaddr_t va = addr;

	if ((flags & SYNC_INVAL) != 0 &&
	    aslock_next(seg->s_as, &va, addr + len, LOCK_WIRED | LOCK_SOFT))
		return VM_LOCKED;
	return pvn_putpages(seg->s_as->a_vm, &ps_of(seg)->ps_pager->pg_vnode, ps_voff(seg, addr),
	    len,
	    ((flags & SYNC_ASYNC) != 0 ? PVN_ASYNC : 0) |
		((flags & SYNC_INVAL) != 0 ? PVN_INVAL : 0));
}

static void segpager_incore(struct seg *seg, vaddr_t addr, uint64_t len, uint8_t *vec)
{
	struct vm *vm = seg->s_as->a_vm;

	for (vaddr_t va = addr; va < addr + len; va += VM_PAGESIZE) {
		unsigned v = page_exists(vm, &ps_of(seg)->ps_pager->pg_vnode, ps_voff(seg, va))
		    ? INCORE_PRESENT
		    : 0;

		v |= hat_probe(seg->s_as->a_hat, va, NULL) != PFN_INVALID ? INCORE_MAPPED : 0;
		v |= aslock_get(seg->s_as, va) != 0 ? INCORE_LOCKED : 0;
		*vec++ = (uint8_t)v;
	}
}

static enum vm_err segpager_advise(struct seg *seg, vaddr_t addr, uint64_t len, enum advice a)
{
	vaddr_t va = addr;

	switch (a) {
	case ADV_DONTNEED:
		if (aslock_next(seg->s_as, &va, addr + len, LOCK_WIRED | LOCK_SOFT))
			return VM_LOCKED;
		hat_unload(seg->s_as->a_hat, addr, len, HAT_UNLOAD);
		return VM_OK;
	case ADV_PAGEOUT:
		return pvn_putpages(seg->s_as->a_vm, &ps_of(seg)->ps_pager->pg_vnode,
		    ps_voff(seg, addr), len, PVN_FREE);
	case ADV_POPULATE_READ: return segpager_fault(seg, addr, len, F_INVAL, S_READ);
	case ADV_POPULATE_WRITE: return segpager_fault(seg, addr, len, F_INVAL, S_WRITE);
	case ADV_REMOVE: return VM_NOTSUP;
	default: return VM_OK;
	}
}

static enum vm_err segpager_move(
    struct seg *seg, vaddr_t addr, uint64_t len, struct seg *nseg, vaddr_t naddr)
{
	if (len != 0)
		hat_unload(seg->s_as->a_hat, addr, len, HAT_UNLOAD);
	return VM_OK;
}

const struct seg_ops segpager_ops = {
	.so_name = "segpager",
	.so_dup = segpager_dup,
	.so_unmap = segpager_unmap,
	.so_split = segpager_split,
	.so_concat = segpager_concat,
	.so_fault = segpager_fault,
	.so_setprot = segpager_setprot,
	.so_checkprot = segpager_checkprot,
	.so_getprot = segpager_getprot,
	.so_shared = seg_is_shared,
	.so_file = seg_no_file,
	.so_swapout = segpager_swapout,
	.so_sync = segpager_sync,
	.so_incore = segpager_incore,
	.so_lockop = segpager_lockop,
	.so_advise = segpager_advise,
	.so_inherit = seg_nosup_inherit,
	.so_adopt = seg_nosup_adopt,
	.so_move = segpager_move,
	.so_alike = segpager_alike,
	.so_snapshot = seg_nosup_snapshot,
	.so_reserved = seg_noop_reserved,
	.so_populated = seg_unfilled_populated,
	.so_peek = seg_retry_peek,
	.so_poke = seg_retry_poke,
	.so_translation_ok = seg_any_translation_ok,
	.so_check = seg_noop_check,
};

enum vm_err segpager_create(struct seg *seg, const void *args)
{
	const struct segpager_args *a = args;
	const struct pgseg ps = { a->pa_pager, a->pa_off, a->pa_prot, a->pa_maxprot };

	if ((a->pa_off & VM_PAGEMASK) != 0 || (a->pa_prot & ~a->pa_maxprot) != 0 ||
	    !pager_has(a->pa_pager, a->pa_off, seg_size(seg)))
		return VM_INVAL;
	seg->s_ops = &segpager_ops;
	seg->s_data = ps_copy(seg->s_as->a_vm, &ps, 0);
	return seg->s_data != NULL ? VM_OK : VM_NOMEM;
}
