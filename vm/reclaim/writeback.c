/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Write-back: dirty pages of files go to disk after a while although their frames are not needed.
 *
 * As fsflush of SVR4: a hand goes round all frames in `laps` ticks; a dirty page of a file that it meets is written, with
 * the dirty ones of the aligned 64 pages around it in the file. So a page is dirty for at most one round, what was modified
 * again is written again a round later, and the cost of a tick is bounded. Page-out deals with
 * anonymous pages.
 *
 * Locks: none across writes but the pages'. A vnode is kept by a reference taken while one of its pages is locked.
 */
#include "vm/impl.h"

#include <quire/limits.h>

struct writer {
	struct mach_mutex w_lock; /* RANK_LEAF */
	struct mach_cv w_cv;
	bool w_stop;       /* w_lock */
	uint64_t w_period; /* const */
	unsigned w_laps;   /* const */
	struct mach_thread *w_thread;
};

/* The file of a dirty page, held; NULL: not dirty, not a file's, or busy. */
static struct vnode *dirty_file(struct vm *vm, struct page *pp, voff_t *off)
{
	struct vnode *vp = NULL;

	if (__atomic_load_n(&pp->p_vnode, __ATOMIC_RELAXED) == NULL ||
	    !page_trylock(vm, pp, SE_SHARED))
		return NULL;
	if ((pp->p_vnode->v_flags & (V_SWAP | V_SWAPFS)) == 0 && pp->p_lckcnt == 0 &&
	    ((page_nrm(pp) | hat_pagesync(pp, false, false)) & P_MOD) != 0 &&
	    vm_tryhold((uint32_t *)(void *)&pp->p_vnode->v_refcnt)) {
		vp = pp->p_vnode;
		*off = pp->p_offset;
	}
	page_unlock(vm, pp);
	return vp;
}

uint64_t vm_writeback(struct vm *vm, unsigned laps)
{
	pfn_t n = vm->vm_nframes / (laps > 0 ? laps : 1) + 1;
	uint64_t before = vm_statistics(vm)->fileout;

	for (pfn_t i = 0; i < n; i++) {
		pfn_t at =
		    __atomic_fetch_add(&vm->vm_writehand, 1, __ATOMIC_RELAXED) % vm->vm_nframes;
		voff_t off = 0;
		struct vnode *vp = dirty_file(vm, &vm->vm_pages[at], &off);

		if (vp == NULL)
			continue;
		(void)pvn_putpages(
		    vm, vp, off & ~(vm_ptob(VM_IO_PAGES) - 1), vm_ptob(VM_IO_PAGES), PVN_ASYNC);
		vnode_rele(vp);
	}
	VM_STAT(vm, writeback);
	return vm_statistics(vm)->fileout - before;
}

/* ---- the thread ---- */
static void writer_main(void *arg)
{
	struct vm *vm = arg;
	struct writer *w = vm->vm_writer;

	mach_mutex_enter(&w->w_lock);
	while (!w->w_stop) {
		(void)mach_cv_timedwait(&w->w_cv, &w->w_lock, w->w_period / w->w_laps);
		if (w->w_stop)
			break;
		mach_mutex_exit(&w->w_lock);
		(void)vm_writeback(vm, w->w_laps);
		(void)vm_limits_enforce(vm);
		mach_mutex_enter(&w->w_lock);
	}
	mach_mutex_exit(&w->w_lock);
}

enum vm_err vm_writeback_start(struct vm *vm, uint64_t period_ns, unsigned laps)
{
	struct writer *w;

	if (!vm->vm_caps->mc_threads)
		return VM_NOTSUP;
	if (vm->vm_writer != NULL || laps == 0)
		return VM_INVAL;
	if ((w = kmem_zalloc(vm, sizeof(*w), KM_SLEEP)) == NULL)
		return VM_NOMEM;
	mach_mutex_init(&w->w_lock, RANK_LEAF, "write-back");
	mach_cv_init(&w->w_cv);
	w->w_period = period_ns;
	w->w_laps = laps;
	vm->vm_writer = w;
	if ((w->w_thread = mach_thread_create(vm->vm_mach, writer_main, vm, "write-back")) != NULL)
		return VM_OK;
	vm->vm_writer = NULL;
	kmem_free(vm, w, sizeof(*w));
	return VM_NOMEM;
}

void vm_writeback_stop(struct vm *vm)
{
	struct writer *w = vm->vm_writer;

	if (w == NULL)
		return;
	mach_mutex_enter(&w->w_lock);
	w->w_stop = true;
	mach_cv_broadcast(&w->w_cv);
	mach_mutex_exit(&w->w_lock);
	mach_thread_join(w->w_thread);
	vm->vm_writer = NULL;
	mach_cv_fini(&w->w_cv);
	mach_mutex_fini(&w->w_lock);
	kmem_free(vm, w, sizeof(*w));
}
