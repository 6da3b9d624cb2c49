/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vnode through which the core swaps to a pool. I/O is done before vo_start returns, but for reads of the file where loads can
 * be begun (pool_alone): those end in the vo_poll of the thread that started them. Slots are written, read and discarded
 * only by the holder of the page or slot in the core, so the table needs no lock.
 */
#include "store/pool_vnode.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sys/linux/sys.h"

struct pool_vnode {
	struct vnode v;
	struct pool *pool;
	uint64_t nslots, bytes;
	struct {
		struct vm_io *io;
		uint32_t tid;
		/*
	 * by ticket - 1: reads in flight, and the thread that began them and will end them; 0: none
	 */
	} begun[POOL_LOADS];
	uint32_t gone, again, loads; /* see keep_copy() */
	uint64_t top;                /* atomic: all handles ever written lie below this index */
	uint32_t handle[];           /* 0: empty. LOADED: the slot was read since it was written */
};
#define LOADED 0x80000000u /* no handle has that bit */

/*
 * The object of a page that was read is useful only if the page is evicted unmodified. Counts how
 * often that happens: of recent objects that were read, `gone` were dropped unused and `again`
 * served a second read. If hardly any object serves a second read, objects are dropped at the read:
 * the pool gains the room, and modification of the page need not be detected. A few objects are
 * kept to see whether that changes. Used only if the pool is this process's alone; p_exclusive
 * decides for other pools. Guesses: no lock.
 */
#define KNOWN 64u
#define LATE 1024u
#define SAMPLE 16u

static void learn_loads(struct pool_vnode *pv, uint32_t *what)
{
	uint32_t gone, again;

	(void)__atomic_add_fetch(what, 1, __ATOMIC_RELAXED);
	gone = __atomic_load_n(&pv->gone, __ATOMIC_RELAXED);
	again = __atomic_load_n(&pv->again, __ATOMIC_RELAXED);
	if (gone + again >= LATE) {
		__atomic_store_n(&pv->gone, gone / 2, __ATOMIC_RELAXED);
		__atomic_store_n(&pv->again, again / 2, __ATOMIC_RELAXED);
	}
}

static bool keep_copy(struct pool_vnode *pv)
{
	uint32_t gone = __atomic_load_n(&pv->gone, __ATOMIC_RELAXED);

	if (__atomic_load_n(&pv->pool->p_exclusive, __ATOMIC_RELAXED))
		return false;
	return !pv->pool->p_alone || gone < KNOWN ||
	    __atomic_load_n(&pv->again, __ATOMIC_RELAXED) > gone / 8 ||
	    __atomic_add_fetch(&pv->loads, 1, __ATOMIC_RELAXED) % SAMPLE == 0;
}

/* The handles of a request; 0 for slots without an object. */
static uint32_t handles_of(const struct pool_vnode *pv, const struct vm_io *io, uint32_t *h)
{
	const uint32_t *at = &pv->handle[io->io_off >> VM_PAGESHIFT];
	uint32_t n = 0;

	for (; n < io->io_npages && at[n] != 0; n++)
		h[n] = at[n] & ~LOADED;
	return n;
}

static int read_pages(struct pool_vnode *pv, struct vm_io *io)
{
	uint32_t *at = &pv->handle[io->io_off >> VM_PAGESHIFT], h[VM_IO_PAGES],
		 n = handles_of(pv, io, h);
	int rc = pool_load_vec(pv->pool, n, h, io->io_buf, &io->io_ok);

	for (uint32_t i = 0; i < io->io_ok; i++) {
		/* the pages read beside the wanted page are not in use yet */
		if (!pool_takes_memory(pv->pool, h[i])) {
			io->io_drop |= i == 0 && pool_better_anew(pv->pool, h[i]);
			continue;
		}
		if ((at[i] & LOADED) != 0)
			learn_loads(pv, &pv->again);
		at[i] = h[i];
		if (keep_copy(pv))
			at[i] |= LOADED;
		else
			io->io_drop |= 1ull << i;
	}
	return rc != 0 || n == io->io_npages ? rc : -EIO;
}

static void raise_top(struct pool_vnode *pv, uint64_t end)
{
	uint64_t top = __atomic_load_n(&pv->top, __ATOMIC_RELAXED);

	while (top < end &&
	    !__atomic_compare_exchange_n(
		&pv->top, &top, end, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static int write_pages(struct pool_vnode *pv, struct vm_io *io)
{
	uint32_t *h = &pv->handle[io->io_off >> VM_PAGESHIFT], now[VM_IO_PAGES], old = 0;
	int rc = pool_store_vec(
	    pv->pool, io->io_npages, (const void *const *)io->io_buf, now, &io->io_ok);

	raise_top(pv, (io->io_off >> VM_PAGESHIFT) + io->io_ok);
	for (uint32_t i = 0; i < io->io_ok; i++) {
		uint32_t was = h[i];

		if ((was & LOADED) != 0)
			learn_loads(pv, &pv->gone);
		h[i] = now[i];
		now[i] = was & ~LOADED;
		old |= now[i];
	}
	if (old != 0)
		pool_unref_vec(pv->pool, io->io_ok, now);
	return rc;
}

static void end_io(struct vm_io *io, int rc)
{
	switch (rc) {
	case 0: io->io_err = VM_OK; break;
	case -ENOSPC: io->io_err = VM_NOSWAP; break;
	default: io->io_err = VM_IO; break;
	}
	io->io_done(io);
}

static uint32_t my_tid(void) { return (uint32_t)sys_call0(SYS_gettid); }

static void swap_start(struct vnode *vp, struct vm_io *io)
{
	struct pool_vnode *pv = vp->v_data;
	uint32_t h[VM_IO_PAGES], ticket;
	uint32_t n = io->io_op == VM_IO_READ ? handles_of(pv, io, h) : 0;

	if (io->io_op == VM_IO_WRITE) {
		end_io(io, write_pages(pv, io));
		return;
	}
	if (pv->pool->p_aio == NULL || (ticket = pool_load_begin(pv->pool, n, h)) == 0) {
		end_io(io, read_pages(pv, io));
		return;
	}
	pv->begun[ticket - 1].io = io;
	__atomic_store_n(&pv->begun[ticket - 1].tid, my_tid(), __ATOMIC_RELAXED);
}

/*
 * Takes a read that the calling thread began, a finished read if there is one. False: there is no
 * read, or none has finished.
 */
static bool end_one(struct pool_vnode *pv, bool wait)
{
	uint32_t tid = my_tid(), ticket = 0;
	struct vm_io *io;

	for (uint32_t i = 0; i < POOL_LOADS; i++)
		if (__atomic_load_n(&pv->begun[i].tid, __ATOMIC_RELAXED) == tid) {
			bool ready = pool_load_ready(pv->pool, i + 1) != 0;

			if (ready || wait)
				ticket = i + 1;
			if (ready)
				break;
		}
	if (ticket == 0)
		return false;
	io = pv->begun[ticket - 1].io;
	__atomic_store_n(&pv->begun[ticket - 1].tid, 0, __ATOMIC_RELAXED);
	pool_load_end(pv->pool, ticket);
	end_io(io, read_pages(pv, io));
	return true;
}

static void swap_discard(struct vnode *vp, voff_t off, uint64_t len)
{
	struct pool_vnode *pv = vp->v_data;
	uint32_t *h = &pv->handle[off >> VM_PAGESHIFT];

	for (uint64_t n = len >> VM_PAGESHIFT, m; n > 0; n -= m, h += m) {
		uint32_t any = 0;

		m = n < VM_IO_PAGES ? n : VM_IO_PAGES;
		for (uint64_t i = 0; i < m; i++) {
			if ((h[i] & LOADED) != 0)
				learn_loads(pv, &pv->gone);
			any |= h[i] &= ~LOADED;
		}
		if (any == 0) /* the table has memory only where handles were written */
			continue;
		pool_unref_vec(pv->pool, (uint32_t)m, h);
		__builtin_memset(h, 0, m * sizeof *h);
	}
}

static void swap_dropped(struct vnode *vp, voff_t off)
{
	struct pool_vnode *pv = vp->v_data;
	uint32_t h = pv->handle[off >> VM_PAGESHIFT] & ~LOADED;

	if (h != 0)
		pool_dropped(pv->pool, h);
}

static void poll_writes(struct vnode *vp, struct vm_io *io)
{
	bool wait = io != NULL;
	struct pool_vnode *pv = vp->v_data;

	if (pv->pool->p_aio == NULL || !end_one(pv, wait))
		pool_poll(pv->pool, wait);
}

static enum vm_err swap_synced(struct vnode *vp, voff_t off, uint64_t len)
{
	(void)vp;
	(void)off;
	(void)len;
	return VM_OK; /* swapped pages do not outlive their users, so there is nothing to flush */
}

static uint64_t swap_size(struct vnode *vp)
{
	return ((struct pool_vnode *)vp->v_data)->nslots << VM_PAGESHIFT;
}

static void swap_inactive(struct vnode *vp)
{
	struct pool_vnode *pv = vp->v_data;

	swap_discard(vp, 0,
	    pv->top
		<< VM_PAGESHIFT); /* reading the whole table would allocate memory for all of it */
	(void)sys_call2(SYS_munmap, (long)pv, (long)pv->bytes);
}

static const struct vnode_ops ops = {
	.vo_name = "pool",
	.vo_start = swap_start,
	.vo_poll = poll_writes,
	.vo_discard = swap_discard,
	.vo_dropped = swap_dropped,
	.vo_sync = swap_synced,
	.vo_size = swap_size,
	.vo_inactive = swap_inactive,
};

struct vnode *pool_vnode_create(struct vm *vm, struct pool *pool, uint64_t nslots)
{
	uint64_t bytes = (sizeof(struct pool_vnode) + nslots * 4 + 4095) & ~4095ull;
	long r = sys_call6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (sys_failed(r))
		return NULL;
	struct pool_vnode *pv = (struct pool_vnode *)r;
	vnode_init(&pv->v, vm, &ops, pv);
	pv->v.v_flags = V_SWAP;
	pv->pool = pool;
	pv->nslots = nslots;
	pv->bytes = bytes;
	return &pv->v;
}

static void each_handle(struct vnode *vp, void (*f)(struct pool *, uint32_t))
{
	struct pool_vnode *pv = vp->v_data;

	for (uint64_t i = 0; i < pv->top; i++)
		if (pv->handle[i] != 0)
			f(pv->pool, pv->handle[i] & ~LOADED);
}

void pool_vnode_fork_prepare(struct vnode *vp)
{
	if (pool_fork_begin(((struct pool_vnode *)vp->v_data)->pool) != 0)
		each_handle(vp, pool_ref);
}

void pool_vnode_fork_cancel(struct vnode *vp)
{
	struct pool *pool = ((struct pool_vnode *)vp->v_data)->pool;

	if (pool->p_child != ~0u)
		pool_fork_cancel(pool);
	else
		each_handle(vp, pool_unref);
}
