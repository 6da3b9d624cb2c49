/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The store of a process: opened when the process joins, closed when it leaves, changed when its
 * credentials change (creds.c).
 *
 * A process that has given up rights asks the supervisor for the store of its credentials, adds it
 * as a swap area, and removes the former swap area, which moves every page there to the new store
 * or to memory. Then it unmaps the former store and closes its descriptors. leave.c decides when
 * this happens, and what happens if it fails.
 *
 * Locks: h_lock as writer while the stores change: no fault is served and no page is moved.
 */
#include "run/host_quire.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <quire/vnode.h>

#include "run/host.h"
#include "store/pool_vnode.h"
#include "sys/linux/sys.h"

static uint32_t pool_tag(void *arg) { return ((struct host *)arg)->h_child; }

static void check_family(void *arg) { family_check(arg); }

int store_open(struct host *h, const struct family_store *st)
{
	struct pool *p = h->h_pool == &h->h_pools[0] ? &h->h_pools[1] : &h->h_pools[0];
	struct vnode *vn;
	int rc;

	__builtin_memset(p, 0, sizeof *p);
	if ((rc = pool_attach(p, st->f_mem, h->h_told.fw_store_size, st->f_swapfd)) != 0)
		return rc;
	p->p_charge = host_pool_charge;
	p->p_charge_arg = h;
	p->p_tag = pool_tag;
	p->p_waited = check_family;
	p->p_ownfds = true;
	/*
	 * packing clean pages again takes only the supervisor's time, whereas the memory of a kept
	 * copy is the whole family's
	 */
	p->p_exclusive = true;
	/* if joining fails, the references of this process stay until the family ends */
	(void)pool_join(p, (uint32_t)h->h_told.fw_tag);
	vn = pool_vnode_create(h->h_vm, p, h->h_told.fw_swap_pages);
	if (vn == NULL || swap_add(h->h_vm, vn, h->h_told.fw_swap_pages, 0) != VM_OK) {
		if (vn != NULL)
			vnode_rele(vn);
		pool_detach(p);
		return -ENOMEM;
	}
	h->h_pool = p;
	h->h_swapvn = vn;
	h->h_stored = *st;
	return 0;
}

static struct {
	struct family_store store;
	uint64_t size;
} left; /* a former store that still has pages */

static void close_store(const struct family_store *st, uint64_t size)
{
	(void)sys_call2(SYS_munmap, (long)st->f_mem, (long)size);
	(void)sys_call1(SYS_close, st->f_memfd);
	(void)sys_call1(SYS_close, st->f_swapfd);
	hostfd_prune();
}

/* Called after the hosting of the process (h_off) and the service thread have ended. */
void store_leave(struct host *h)
{
	pool_detach(h->h_pool);
	close_store(&h->h_stored, h->h_told.fw_store_size);
	if (left.size > 0)
		close_store(&left.store, left.size);
	/*
	 * a call that has just ended still uses the counters, so the process gets private counters
	 */
	(void)sys_call6(SYS_mmap, (long)h->h_fam, (long)FAMILY_BYTES, RW,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	(void)sys_call1(SYS_close, h->h_memfd);
	if (h->h_device > 0)
		(void)sys_call1(SYS_close, h->h_device);
	hostfd_prune();
}

#define ROOM (1u << 20) /* what a store needs before it can write to its file */

/*
 * All stores share what pools may take, and the store before may have all of it. Then its pages go to its file, as many as the new
 * store needs memory for. Others who use the store before may take that again, so it is tried more than once.
 */
static bool empty_store(struct host *h, struct vnode *vn, struct pool *pool)
{
	enum vm_err e = swap_remove(h->h_vm, vn);

	for (unsigned tries = 0; e == VM_NOMEM && tries < 16 && pool_shrink(pool, ROOM) == 0;
	     tries++)
		e = swap_remove(h->h_vm, vn);
	return e == VM_OK;
}

/* h_lock W. 0, or -errno: the process still has the former store, or both. */
int store_change(struct host *h, bool hidden)
{
	struct family_store now;
	uint64_t before = h->h_told.fw_store_size;
	struct family_store old = h->h_stored;
	struct pool *pool = h->h_pool;
	struct vnode *vn = h->h_swapvn;
	int rc;

	HOST_ASSERT(mach_rw_held(&h->h_lock, true));
	if ((rc = family_change(h, hidden, &now)) != 0)
		return rc;
	atomic_store(&h->h_watched, false);
	if (h->h_managed)
		family_watch(h);
	if ((rc = store_open(h, &now)) != 0)
		return rc;
	if (!empty_store(h, vn, pool)) {
		left.store = old;
		left.size = before;
		return -ENOMEM;
	}
	vnode_rele(vn);
	pool_detach(pool);
	close_store(&old, before);
	family_moved(h);
	return 0;
}
