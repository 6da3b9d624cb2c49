/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vnode over another vnode that remembers a sum of every page written through it and fails a read whose page has
 * another sum. It is for swap: a write that the disk claimed to have made but tore or lost, a sector that rotted, a read from the
 * wrong place, all give VM_IO for that page alone instead of wrong bytes to a program.
 *
 * A torn write that the disk reports needs no sum: the core keeps the pages that were not written
 * dirty in memory, gives their slots back and never reads them.
 *
 * The sums are kept in memory, 8 bytes a page, taken at creation: writing never needs memory. They die with the system,
 * as what is on a swap area does. A page that was never written through here, or was discarded, is not checked.
 *
 * The sum is a polynomial over the page's words modulo 2^64 with an odd multiplier, folded at each step: two pages that
 * differ in one sector have equal sums by accident once in about 2^64. It is no defence against forgery.
 *
 * Locks: none. A page's word is read and written by the I/O on that page, and the core never does two at once.
 */
#include "vm/impl.h"

#define SUMS_PAGE (VM_PAGESIZE / 8u)

struct summed {
	struct vnode sv_vnode;
	struct vnode *sv_lower; /* const; a reference */
	uint64_t sv_npages;     /* const */
	uint64_t **sv_sum; /* const: [npages / SUMS_PAGE], each of SUMS_PAGE words; 0: no sum */
	_Atomic uint64_t sv_wrong;
};

static uint64_t page_sum(const void *page)
{
	const uint64_t *w = page;
	uint64_t h = 0x9e3779b97f4a7c15ull;

	for (unsigned i = 0; i < VM_PAGESIZE / 8; i++) {
		h = (h ^ w[i]) * 0xd6e8feb86659fd93ull;
		h ^= h >> 32;
	}
	return h | 1; /* never 0 */
}

static uint64_t *sum_at(struct summed *sv, voff_t off)
{
	uint64_t i = vm_btop(off);

	return i < sv->sv_npages ? &sv->sv_sum[i / SUMS_PAGE][i % SUMS_PAGE] : NULL;
}

static struct summed *summed_of(struct vnode *vp) { return vp->v_data; }

/* The lower vnode has finished the I/O. Its own words of io_priv are 0 and 1; ours are 2 and 3. */
static void lower_io_done(struct vm_io *io)
{
	struct summed *sv = io->io_arg;

	io->io_done = (void (*)(struct vm_io *))(uintptr_t)io->io_priv[2];
	io->io_arg = (void *)(uintptr_t)io->io_priv[3];
	for (uint32_t i = 0; io->io_op == VM_IO_READ && i < io->io_ok; i++) {
		const uint64_t *sum = sum_at(sv, io->io_off + vm_ptob(i));

		if (sum == NULL || *sum == 0 || *sum == page_sum(io->io_buf[i]))
			continue;
		sv->sv_wrong++;
		io->io_ok = i;
		io->io_err = VM_IO;
	}
	io->io_done(io);
}

static void summed_start(struct vnode *vp, struct vm_io *io)
{
	struct summed *sv = summed_of(vp);

	for (uint32_t i = 0; io->io_op == VM_IO_WRITE && i < io->io_npages; i++) {
		uint64_t *sum = sum_at(sv, io->io_off + vm_ptob(i));

		if (sum != NULL)
			*sum = page_sum(io->io_buf[i]);
	}
	io->io_priv[2] = (uint64_t)(uintptr_t)io->io_done;
	io->io_priv[3] = (uint64_t)(uintptr_t)io->io_arg;
	io->io_done = lower_io_done;
	io->io_arg = sv;
	sv->sv_lower->v_ops->vo_start(sv->sv_lower, io);
}

static void summed_poll(struct vnode *vp, struct vm_io *io)
{
	struct vnode *lower = summed_of(vp)->sv_lower;

	lower->v_ops->vo_poll(lower, io);
}

static void summed_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	struct vnode *lower = summed_of(vp)->sv_lower;

	for (voff_t at = off; at < off + len; at += VM_PAGESIZE) {
		uint64_t *sum = sum_at(summed_of(vp), at);

		if (sum != NULL)
			*sum = 0;
	}
	lower->v_ops->vo_discard(lower, off, len);
}

static enum vm_err summed_sync(struct vnode *vp, voff_t off, uint64_t len)
{
	struct vnode *lower = summed_of(vp)->sv_lower;

	return lower->v_ops->vo_sync(lower, off, len);
}

static uint64_t summed_size(struct vnode *vp)
{
	struct vnode *lower = summed_of(vp)->sv_lower;

	return lower->v_ops->vo_size(lower);
}

static void summed_free(struct vm *vm, struct summed *sv)
{
	uint64_t n = (sv->sv_npages + SUMS_PAGE - 1) / SUMS_PAGE;

	for (uint64_t i = 0; sv->sv_sum != NULL && i < n; i++)
		if (sv->sv_sum[i] != NULL)
			kmem_free(vm, sv->sv_sum[i], VM_PAGESIZE);
	if (sv->sv_sum != NULL)
		kmem_free(vm, sv->sv_sum, n * sizeof(uint64_t *));
	kmem_free(vm, sv, sizeof(*sv));
}

static void summed_inactive(struct vnode *vp)
{
	struct summed *sv = summed_of(vp);
	struct vnode *lower = sv->sv_lower;

	summed_free(vp->v_vm, sv);
	vnode_rele(lower);
}

static const struct vnode_ops summed_ops = {
	.vo_name = "summed",
	.vo_start = summed_start,
	.vo_poll = summed_poll,
	.vo_discard = summed_discard,
	.vo_sync = summed_sync,
	.vo_size = summed_size,
	.vo_inactive = summed_inactive,
};

enum vm_err vnode_summed(struct vm *vm, struct vnode *lower, uint64_t npages, struct vnode **vpp)
{
	uint64_t n = (npages + SUMS_PAGE - 1) / SUMS_PAGE;
	struct summed *sv = npages == 0 ? NULL : kmem_zalloc(vm, sizeof(*sv), KM_SLEEP);

	if (sv == NULL)
		return npages == 0 ? VM_INVAL : VM_NOMEM;
	sv->sv_npages = npages;
	sv->sv_sum = kmem_zalloc(vm, n * sizeof(uint64_t *), KM_SLEEP);
	for (uint64_t i = 0; i < n; i++)
		if (sv->sv_sum == NULL ||
		    (sv->sv_sum[i] = kmem_zalloc(vm, VM_PAGESIZE, KM_SLEEP)) == NULL) {
			summed_free(vm, sv);
			return VM_NOMEM;
		}
	vnode_hold(lower);
	sv->sv_lower = lower;
	vnode_init(&sv->sv_vnode, vm, &summed_ops, sv);
	sv->sv_vnode.v_flags = lower->v_flags;
	*vpp = &sv->sv_vnode;
	return VM_OK;
}

uint64_t vnode_summed_wrong(struct vnode *vp) { return summed_of(vp)->sv_wrong; }
