/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page structures: from a frame number to its structure and back, and queues of pages.
 *
 * A queue is doubly linked by frame numbers through p_next and p_prev, so a page is on one queue at a time: a list of free blocks,
 * the cache list, or a queue of the policy.
 *
 * Locks: the owner's of the queue. The length is written atomically, as it may be read without that lock, as a hint.
 */
#include "vm/impl.h"

struct page *page_of(struct vm *vm, pfn_t pfn)
{
	VM_ASSERT(pfn < vm->vm_nframes);
	return &vm->vm_pages[pfn];
}

pfn_t page_pfn(struct vm *vm, const struct page *pp) { return (pfn_t)(pp - vm->vm_pages); }

/* Named pages only: locked by the caller, so that the name stays. */
struct vm *page_vm(const struct page *pp)
{
	VM_ASSERT(pp->p_vnode != NULL);
	return pp->p_vnode->v_vm;
}

void page_queue_init(struct page_queue *q)
{
	q->q_head = q->q_tail = PAGE_NIL;
	q->q_len = 0;
}

/* Between two neighbours, or at an end (PAGE_NIL). */
static void queue_insert(
    struct vm *vm, struct page_queue *q, struct page *pp, uint32_t prev, uint32_t next)
{
	uint32_t i = page_pfn(vm, pp);

	pp->p_prev = prev;
	pp->p_next = next;
	*(prev == PAGE_NIL ? &q->q_head : &vm->vm_pages[prev].p_next) = i;
	*(next == PAGE_NIL ? &q->q_tail : &vm->vm_pages[next].p_prev) = i;
	__atomic_store_n(
	    &q->q_len, q->q_len + 1, __ATOMIC_RELAXED); /* other threads read the length without the
	                                                 * lock */
}

void page_queue_push_tail(struct vm *vm, struct page_queue *q, struct page *pp)
{
	queue_insert(vm, q, pp, q->q_tail, PAGE_NIL);
}

void page_queue_push_head(struct vm *vm, struct page_queue *q, struct page *pp)
{
	queue_insert(vm, q, pp, PAGE_NIL, q->q_head);
}

void page_queue_remove(struct vm *vm, struct page_queue *q, struct page *pp)
{
	VM_ASSERT(q->q_len > 0);
	if (pp->p_prev == PAGE_NIL)
		q->q_head = pp->p_next;
	else
		vm->vm_pages[pp->p_prev].p_next = pp->p_next;
	if (pp->p_next == PAGE_NIL)
		q->q_tail = pp->p_prev;
	else
		vm->vm_pages[pp->p_next].p_prev = pp->p_prev;
	pp->p_next = pp->p_prev = PAGE_NIL;
	__atomic_store_n(&q->q_len, q->q_len - 1, __ATOMIC_RELAXED);
}

struct page *page_queue_head(struct vm *vm, struct page_queue *q)
{
	return q->q_head == PAGE_NIL ? NULL : &vm->vm_pages[q->q_head];
}
