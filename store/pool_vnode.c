/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vnode through which the core swaps to a pool. I/O is done before vo_start returns. Slots are written, read and discarded
 * only by whoever owns them in the core, so the table needs no lock.
 */
#include "store/pool_vnode.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "machine/linux/sys.h"

struct pool_vnode {
	struct vnode v;
	struct pool *pool;
	uint64_t nslots, bytes;
	uint32_t handle[]; /* 0: empty */
};

static void start(struct vnode *vp, struct vm_io *io)
{
	struct pool_vnode *pv = vp->v_data;
	uint32_t *h = &pv->handle[io->io_off >> VM_PAGESHIFT];
	int rc = 0;

	for (io->io_ok = 0; io->io_ok < io->io_npages && rc == 0; h++) {
		if (io->io_op == VM_IO_READ) {
			rc = *h != 0 ? pool_load(pv->pool, *h, io->io_buf[io->io_ok]) : -EIO;
		} else {
			uint32_t old = *h;

			if ((rc = pool_store(pv->pool, io->io_buf[io->io_ok], h)) == 0 && old != 0)
				pool_unref(pv->pool, old);
		}
		if (rc == 0)
			io->io_ok++;
	}
	io->io_err = rc == 0 ? VM_OK : rc == -ENOSPC ? VM_NOSWAP : VM_IO;
	io->io_done(io);
}

static void discard(struct vnode *vp, voff_t off, uint64_t len)
{
	struct pool_vnode *pv = vp->v_data;

	for (uint64_t i = off >> VM_PAGESHIFT; i < (off + len) >> VM_PAGESHIFT; i++)
		if (pv->handle[i] != 0) {
			pool_unref(pv->pool, pv->handle[i]);
			pv->handle[i] = 0;
		}
}

static void no_poll(struct vnode *vp, bool wait)
{
	(void)vp;
	(void)wait;
}

static enum vm_err synced(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp;
	(void)off;
	(void)len;
	return VM_OK; /* swap is not meant to outlive its users */
}

static uint64_t size(struct vnode *vp)
{
	return ((struct pool_vnode *)vp->v_data)->nslots << VM_PAGESHIFT;
}

static void inactive(struct vnode *vp)
{
	struct pool_vnode *pv = vp->v_data;

	discard(vp, 0, pv->nslots << VM_PAGESHIFT);
	(void)sys_call2(SYS_munmap, (long)pv, (long)pv->bytes);
}

static const struct vnode_ops ops = {
	.vo_name = "pool",
	.vo_start = start,
	.vo_poll = no_poll,
	.vo_discard = discard,
	.vo_sync = synced,
	.vo_size = size,
	.vo_inactive = inactive,
};

struct vnode *pool_vnode_create(struct vm *vm, struct pool *pool, uint64_t nslots)
{
	uint64_t bytes = (sizeof(struct pool_vnode) + nslots * 4 + 4095) & ~4095ull;
	long r = sys_call6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (r < 0 && r > -4096)
		return NULL;
	struct pool_vnode *pv = (struct pool_vnode *)r;
	vnode_init(&pv->v, vm, &ops, pv);
	pv->v.v_flags = V_SWAP;
	pv->pool = pool;
	pv->nslots = nslots;
	pv->bytes = bytes;
	return &pv->v;
}

static void each(struct vnode *vp, void (*f)(struct pool *, uint32_t))
{
	struct pool_vnode *pv = vp->v_data;

	for (uint64_t i = 0; i < pv->nslots; i++)
		if (pv->handle[i] != 0)
			f(pv->pool, pv->handle[i]);
}

void pool_vnode_fork_prepare(struct vnode *vp)
{
	if (pool_fork_begin(((struct pool_vnode *)vp->v_data)->pool) != 0)
		each(vp, pool_ref);
}

void pool_vnode_fork_cancel(struct vnode *vp)
{
	struct pool *pool = ((struct pool_vnode *)vp->v_data)->pool;

	if (pool->p_child != ~0u)
		pool_fork_cancel(pool);
	else
		each(vp, pool_unref);
}
