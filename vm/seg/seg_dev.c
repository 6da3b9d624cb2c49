/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segdev: frames that are no memory: a device's registers, a frame buffer.
 *
 * A segment is a run of physical frames from da_frame on, named by physical address. A fault loads its translation by hat_devload; there is no page, so
 * nothing is read, written back, stolen or counted, and locking is a no-op. A child shares the device. Contents cannot be
 * copied for a message or a core dump: reading registers has effects.
 *
 * How accesses are cached is the mapping's attribute, and all mappings of a frame must have the same: the segments of a
 * system are in a list, which a new one is compared with.
 *
 * Locks: a_lock: the data changes with the segment only; vm_devlock: the list and the fields of it
 * that are compared. After SVR4's segdev; left out: callbacks for each access (devmap).
 */
#include "vm/impl.h"

#include <quire/kseg.h>

struct devseg {
	uint64_t d_frame, d_n;      /* a_lock W and vm_devlock: of the segment's base; frames */
	unsigned d_prot, d_maxprot; /* a_lock W */
	unsigned d_caching;         /* const */
	struct devseg *d_next;      /* vm_devlock */
};

static struct devseg *dev_of(const struct seg *s) { return s->s_data; }

/* ---- all mappings of devices ---- */
/* VM_INVAL: some of its frames are mapped with another caching. */
static enum vm_err enlist_device(struct vm *vm, struct devseg *d)
{
	enum vm_err e = VM_OK;

	mach_mutex_enter(&vm->vm_devlock);
	for (const struct devseg *o = vm->vm_devsegs; o != NULL; o = o->d_next)
		if (o->d_caching != d->d_caching && o->d_frame < d->d_frame + d->d_n &&
		    d->d_frame < o->d_frame + o->d_n)
			e = VM_INVAL;
	if (e == VM_OK) {
		d->d_next = vm->vm_devsegs;
		vm->vm_devsegs = d;
	}
	mach_mutex_exit(&vm->vm_devlock);
	return e;
}

static void delist_device(struct vm *vm, struct devseg *d)
{
	struct devseg **p = &vm->vm_devsegs;

	mach_mutex_enter(&vm->vm_devlock);
	while (*p != d)
		p = &(*p)->d_next;
	*p = d->d_next;
	mach_mutex_exit(&vm->vm_devlock);
	kmem_free(vm, d, sizeof(*d));
}

/* ---- the segment ---- */
/* nseg maps the device off bytes from seg's base. */
static enum vm_err make_alike(struct seg *seg, struct seg *nseg, uint64_t off)
{
	struct devseg *d = kmem_alloc(seg->s_as->a_vm, sizeof(*d), KM_SLEEP);

	if (d == NULL)
		return VM_NOMEM;
	*d = *dev_of(seg);
	d->d_frame += vm_btop(off);
	d->d_n = vm_btop(seg_size(nseg));
	nseg->s_ops = seg->s_ops;
	nseg->s_flags = seg->s_flags;
	nseg->s_data = d;
	return enlist_device(seg->s_as->a_vm, d); /* of the same caching: it cannot fail */
}

static enum vm_err segdev_dup(struct seg *seg, struct seg *nseg)
{
	return make_alike(seg, nseg, 0);
}

static enum vm_err segdev_split(struct seg *seg, struct seg *nseg, vaddr_t addr)
{
	enum vm_err e = make_alike(seg, nseg, addr - seg_base(seg));
	struct vm *vm = seg->s_as->a_vm;

	if (e != VM_OK)
		return e;
	mach_mutex_enter(&vm->vm_devlock);
	dev_of(seg)->d_n = vm_btop(addr - seg_base(seg));
	mach_mutex_exit(&vm->vm_devlock);
	return VM_OK;
}

static bool segdev_concat(struct seg *a, struct seg *b)
{
	struct devseg *x = dev_of(a), *y = dev_of(b);
	struct vm *vm = a->s_as->a_vm;

	if (x->d_frame + vm_btop(seg_size(a)) != y->d_frame || x->d_prot != y->d_prot ||
	    x->d_maxprot != y->d_maxprot || x->d_caching != y->d_caching)
		return false;
	mach_mutex_enter(&vm->vm_devlock);
	x->d_n += y->d_n;
	mach_mutex_exit(&vm->vm_devlock);
	delist_device(vm, y);
	return true;
}

static enum vm_err segdev_unmap(struct seg *seg)
{
	hat_unload(seg->s_as->a_hat, seg_base(seg), seg_size(seg), HAT_UNLOAD_UNLOCK);
	delist_device(seg->s_as->a_vm, dev_of(seg));
	return VM_OK;
}

static enum vm_err segdev_fault(
    struct seg *seg, vaddr_t addr, uint64_t len, enum fault_type type, enum seg_rw rw)
{
	const struct devseg *d = dev_of(seg);
	unsigned need = vm_prot_for(rw);

	if (type == F_SOFTUNLOCK)
		return VM_OK;
	if (type == F_SOFTLOCK)
		return VM_NOTSUP;
	if (rw == S_OTHER ? d->d_prot == 0 : (d->d_prot & need) == 0)
		return VM_PROT;
	return hat_devload(seg->s_as->a_hat, addr, len, d->d_frame + vm_btop(addr - seg_base(seg)),
	    d->d_prot | d->d_caching, HAT_LOAD_REF);
}

static enum vm_err segdev_setprot(struct seg *seg, vaddr_t addr, uint64_t len, unsigned prot)
{
	struct devseg *d = dev_of(seg);

	if ((prot & ~d->d_maxprot) != 0)
		return VM_ACCESS;
	hat_clrattr(seg->s_as->a_hat, addr, len, d->d_prot & ~prot);
	d->d_prot = prot;
	return VM_OK;
}

static enum vm_err segdev_checkprot(struct seg *seg, vaddr_t a, uint64_t l, unsigned prot)
{
	return (prot & ~dev_of(seg)->d_prot) == 0 ? VM_OK : VM_PROT;
}

static unsigned segdev_getprot(struct seg *seg, vaddr_t a) { return dev_of(seg)->d_prot; }

static void segdev_incore(struct seg *seg, vaddr_t addr, uint64_t len, uint8_t *vec)
{
	for (vaddr_t va = addr; va < addr + len; va += VM_PAGESIZE)
		*vec++ = hat_probe(seg->s_as->a_hat, va, NULL) != PFN_INVALID
		    ? INCORE_PRESENT | INCORE_MAPPED
		    : INCORE_PRESENT;
}

static enum vm_err segdev_lockop(struct seg *s, vaddr_t a, uint64_t l, enum lock_op op)
{
	return VM_OK;
}

static enum vm_err segdev_advise(struct seg *seg, vaddr_t addr, uint64_t len, enum advice a)
{
	if (a != ADV_POPULATE_READ && a != ADV_POPULATE_WRITE)
		return VM_OK;
	return segdev_fault(seg, addr, len, F_INVAL, a == ADV_POPULATE_READ ? S_READ : S_WRITE);
}

static enum vm_err segdev_move(
    struct seg *seg, vaddr_t addr, uint64_t len, struct seg *nseg, vaddr_t naddr)
{
	if (len != 0)
		hat_unload(seg->s_as->a_hat, addr, len, HAT_UNLOAD);
	return VM_OK;
}

const struct seg_ops segdev_ops = {
	.so_name = "segdev",
	.so_dup = segdev_dup,
	.so_unmap = segdev_unmap,
	.so_split = segdev_split,
	.so_concat = segdev_concat,
	.so_fault = segdev_fault,
	.so_setprot = segdev_setprot,
	.so_checkprot = segdev_checkprot,
	.so_getprot = segdev_getprot,
	.so_shared = seg_is_shared,
	.so_file = seg_no_file,
	.so_swapout = seg_noop_swapout,
	.so_sync = seg_noop_sync,
	.so_incore = segdev_incore,
	.so_lockop = segdev_lockop,
	.so_advise = segdev_advise,
	.so_inherit = seg_nosup_inherit,
	.so_adopt = seg_nosup_adopt,
	.so_move = segdev_move,
	.so_alike = seg_nosup_alike,
	.so_snapshot = seg_nosup_snapshot,
	.so_reserved = seg_noop_reserved,
	.so_populated = seg_unfilled_populated,
	.so_peek = seg_retry_peek,
	.so_poke = seg_retry_poke,
	.so_translation_ok = seg_any_translation_ok,
	.so_check = seg_noop_check,
};

enum vm_err segdev_create(struct seg *seg, const void *args)
{
	const struct segdev_args *a = args;
	struct devseg *d;
	enum vm_err e;

	if ((a->da_prot & ~a->da_maxprot) != 0 || (a->da_caching & ~HAT_CACHING) != 0 ||
	    a->da_caching == HAT_CACHING || a->da_frame > ~(uint64_t)0 - vm_btop(seg_size(seg)))
		return VM_INVAL;
	if ((d = kmem_alloc(seg->s_as->a_vm, sizeof(*d), KM_SLEEP)) == NULL)
		return VM_NOMEM;
	*d = (struct devseg){ .d_frame = a->da_frame,
		.d_n = vm_btop(seg_size(seg)),
		.d_prot = a->da_prot,
		.d_maxprot = a->da_maxprot,
		.d_caching = a->da_caching };
	if ((e = enlist_device(seg->s_as->a_vm, d)) != VM_OK) {
		kmem_free(seg->s_as->a_vm, d, sizeof(*d));
		return e;
	}
	seg->s_ops = &segdev_ops;
	seg->s_data = d;
	return VM_OK;
}
