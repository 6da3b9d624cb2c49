/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segkp: pageable kernel memory, made for the stacks of kernel threads.
 *
 * The arena of addresses is a vmem; behind each piece lies an ordinary anonymous segment of the kernel's space, and below a
 * piece with KPD_REDZONE a page of seg_hole, so that a stack that overflows faults instead of running into its neighbour.
 * A thread's stack (KPD_LOCKED) is soft-locked while the thread may run, and so are its
 * translations, because a fault on the stack that serves the fault cannot be served; when the
 * thread sleeps for long its stack is swapped out with it.
 *
 * Solaris keeps one segment with its own anon map and page lists; here segvn does all that already, and the kernel's space
 * finds a segment in O(log n). Neighbours without redzone merge, but release splits them again.
 *
 * Released pieces of the size that was released last are kept for the next thread, mapped, locked,
 * with their contents.
 *
 * At most KP_CACHE pieces are kept; the oldest is freed when there are more.
 */
#include "vm/impl.h"

#include <quire/kseg.h>

#define KP_CACHE 8u

struct segkp {
	struct as *kp_as;      /* const */
	struct vmem *kp_arena; /* const */
	struct mach_mutex kp_lock;
	vaddr_t kp_cache[KP_CACHE]; /* kp_lock: pieces of kp_size, kp_flags */
	unsigned kp_ncache;         /* kp_lock */
	uint64_t kp_size;           /* kp_lock */
	unsigned kp_flags;          /* kp_lock */
};

enum vm_err segkp_create(struct as *kas, vaddr_t base, uint64_t len, struct segkp **kpp)
{
	struct segkp *kp = kmem_zalloc(kas->a_vm, sizeof(*kp), KM_SLEEP);

	if (kp == NULL)
		return VM_NOMEM;
	kp->kp_as = kas;
	if ((kp->kp_arena = vmem_create(kas->a_vm, "segkp", base, len, VM_PAGESIZE)) == NULL) {
		kmem_free(kas->a_vm, kp, sizeof(*kp));
		return VM_NOMEM;
	}
	mach_mutex_init(&kp->kp_lock, RANK_VM + 5, "segkp");
	*kpp = kp;
	return VM_OK;
}

static uint64_t redzone_bytes(unsigned flags)
{
	return (flags & KPD_REDZONE) != 0 ? VM_PAGESIZE : 0;
}

static void unmap_piece(struct segkp *kp, vaddr_t va, uint64_t len, unsigned flags)
{
	vaddr_t base = va - redzone_bytes(flags);
	enum vm_err e;

	if ((aslock_get(kp->kp_as, va) & LOCK_SOFT) != 0)
		(void)as_fault(kp->kp_as, va, len, F_SOFTUNLOCK, S_WRITE);
	e = as_unmap(kp->kp_as, base, len + redzone_bytes(flags));

	/* Cutting merged neighbours may want memory: wait for it, the address range must come free. */
	while (e == VM_NOMEM) {
		mach_yield();
		e = as_unmap(kp->kp_as, base, len + redzone_bytes(flags));
	}
	VM_ASSERT(e == VM_OK);
	vmem_free(kp->kp_arena, base, len + redzone_bytes(flags));
}

/* The pages stay, and so do their translations: a HAT may drop any that is not locked, and a stack cannot fault. */
static enum vm_err hold_piece(struct segkp *kp, vaddr_t va, uint64_t len)
{
	return as_fault(kp->kp_as, va, len, F_SOFTLOCK, S_WRITE);
}

static enum vm_err map_piece(struct segkp *kp, uint64_t len, unsigned flags, vaddr_t *vap)
{
	const struct segvn_args a = { .sa_prot = PROT_R | PROT_W, .sa_maxprot = PROT_R | PROT_W };
	uint64_t red = redzone_bytes(flags);
	vaddr_t base;
	enum vm_err e;

	if (!vmem_alloc(kp->kp_arena, len + red, KM_SLEEP, &base))
		return VM_NOMEM;
	if ((e = as_map(kp->kp_as, base + red, len, segvn_create, &a)) != VM_OK) {
		vmem_free(kp->kp_arena, base, len + red);
		return e;
	}
	*vap = base + red;
	if (red != 0 && (e = as_map(kp->kp_as, base, red, seghole_create, NULL)) != VM_OK)
		unmap_piece(kp, *vap, len, flags);
	else if ((flags & KPD_LOCKED) != 0 && (e = hold_piece(kp, *vap, len)) != VM_OK)
		unmap_piece(kp, *vap, len, flags);
	return e;
}

/* A kept piece of that kind; 0: none. */
static vaddr_t from_cache(struct segkp *kp, uint64_t len, unsigned flags)
{
	vaddr_t va = 0;

	mach_mutex_enter(&kp->kp_lock);
	if (kp->kp_ncache > 0 && kp->kp_size == len && kp->kp_flags == flags)
		va = kp->kp_cache[--kp->kp_ncache];
	mach_mutex_exit(&kp->kp_lock);
	return va;
}

enum vm_err segkp_get(struct segkp *kp, uint64_t len, unsigned flags, vaddr_t *vap)
{
	len = vm_page_round(len);
	if (len == 0)
		return VM_INVAL;
	return (*vap = from_cache(kp, len, flags)) != 0 ? VM_OK : map_piece(kp, len, flags, vap);
}

/* Frees the kept pieces that are not of that kind. */
static void drain_cache(struct segkp *kp, uint64_t len, unsigned flags)
{
	vaddr_t old[KP_CACHE];
	uint64_t size;
	unsigned n = 0, was;

	mach_mutex_enter(&kp->kp_lock);
	size = kp->kp_size;
	was = kp->kp_flags;
	if (size != len || was != flags) {
		for (; n < kp->kp_ncache; n++)
			old[n] = kp->kp_cache[n];
		kp->kp_ncache = 0;
		kp->kp_size = len;
		kp->kp_flags = flags;
	}
	mach_mutex_exit(&kp->kp_lock);
	while (n > 0)
		unmap_piece(kp, old[--n], size, was);
}

void segkp_release(struct segkp *kp, vaddr_t va, uint64_t len, unsigned flags)
{
	bool kept = false;

	len = vm_page_round(len);
	drain_cache(kp, len, flags);
	mach_mutex_enter(&kp->kp_lock);
	if (kp->kp_ncache < KP_CACHE && kp->kp_size == len && kp->kp_flags == flags) {
		kp->kp_cache[kp->kp_ncache++] = va;
		kept = true;
	}
	mach_mutex_exit(&kp->kp_lock);
	if (!kept)
		unmap_piece(kp, va, len, flags);
}

void segkp_destroy(struct segkp *kp)
{
	drain_cache(kp, 0, 0);
	mach_mutex_fini(&kp->kp_lock);
	vmem_destroy(kp->kp_arena);
	kmem_free(kp->kp_as->a_vm, kp, sizeof(*kp));
}

enum vm_err segkp_swapout(struct segkp *kp, vaddr_t va, uint64_t len)
{
	enum vm_err e = as_fault(kp->kp_as, va, len, F_SOFTUNLOCK, S_WRITE);

	return e != VM_OK ? e : as_advise(kp->kp_as, va, len, ADV_PAGEOUT);
}

enum vm_err segkp_swapin(struct segkp *kp, vaddr_t va, uint64_t len, unsigned flags)
{
	if ((flags & KPD_LOCKED) != 0)
		return hold_piece(kp, va, len);
	return as_fault(kp->kp_as, va, len, F_INVAL, S_READ);
}
