/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One operation of the HAT: it takes the lock, collects ranges to flush and objects that were taken
 * out, and flushes and frees them at its end.
 *
 * A range is flushed before the lock is dropped, so no caller sees a translation gone that a TLB still has.
 * An object that was taken out (a table, a block of hashed translations) is freed or used again
 * only after that flush. An operation that needs an object or a node of a mapping list drops the
 * lock, gets it, and starts over (op_supply): nothing is allocated under the lock.
 *
 * Locks: hs_lock, from op_enter to op_exit.
 */
#include "hat/hat_impl.h"
#include "hat/pvlist.h"

#include <quire/vm.h>

void op_enter(struct op *op, struct vm *vm)
{
	struct hat_shared *hs = mmu_hat_shared(vm_machine(vm));

	*op = (struct op){ .o_hs = hs, .o_vm = vm, .o_fmt = hs->hs_fmt };
	mach_mutex_enter(&hs->hs_lock);
}

void op_flush(struct op *op)
{
	if (op->o_nranges > 0)
		mmu_tlb_flush(op->o_hs->hs_mach, op->o_range, op->o_nranges);
	op->o_nranges = 0;
}

static void flush_one(
    struct op *op, struct hat *hat, vaddr_t va, uint64_t len, bool tables, bool soon)
{
	hat->h_fmt->f_store->st_stale(hat, va, len);
	for (unsigned i = op->o_nranges; i-- > 0;) {
		struct mmu_range *r = &op->o_range[i];

		if (r->mr_hat != hat || va < r->mr_va || va > r->mr_va + r->mr_len)
			continue;
		if (va + len > r->mr_va + r->mr_len)
			r->mr_len = va + len - r->mr_va;
		r->mr_tables |= tables;
		r->mr_soon &= soon;
		return;
	}
	if (op->o_nranges == MMU_BATCH)
		op_flush(op);
	op->o_range[op->o_nranges++] = (struct mmu_range){
		.mr_hat = hat, .mr_va = va, .mr_len = len, .mr_tables = tables, .mr_soon = soon
	};
}

/* The next space from *s on that shares some of [va, +len): the range under that space's address. NULL: none. */
static struct hat *next_sharer(
    const struct share **s, vaddr_t va, uint64_t len, vaddr_t *at, uint64_t *n)
{
	for (; *s != NULL; *s = (*s)->s_next) {
		vaddr_t lo = va > (*s)->s_fva ? va : (*s)->s_fva;
		vaddr_t hi =
		    va + len < (*s)->s_fva + (*s)->s_len ? va + len : (*s)->s_fva + (*s)->s_len;

		if (lo >= hi)
			continue;
		*at = (*s)->s_va + (lo - (*s)->s_fva);
		*n = hi - lo;
		return (*s)->s_to;
	}
	return NULL;
}

void op_flush_sharers(
    struct op *op, struct hat *hat, vaddr_t va, uint64_t len, bool tables, bool soon)
{
	const struct share *s = hat->h_sharers;
	struct hat *to;
	vaddr_t at;
	uint64_t n;

	flush_one(op, hat, va, len, tables, soon);
	for (; (to = next_sharer(&s, va, len, &at, &n)) != NULL; s = s->s_next)
		flush_one(op, to, at, n, tables, soon);
}

void op_flush_add(struct op *op, struct hat *hat, vaddr_t va, uint64_t len, bool tables)
{
	op_flush_sharers(op, hat, va, len, tables, false);
}

/* An entry grants more than before: no TLB need forget it, but a copy in a TSB must be updated. */
void hat_stale(struct hat *hat, vaddr_t va, uint64_t len)
{
	const struct share *s = hat->h_sharers;
	struct hat *to;
	vaddr_t at;
	uint64_t n;

	hat->h_fmt->f_store->st_stale(hat, va, len);
	for (; (to = next_sharer(&s, va, len, &at, &n)) != NULL; s = s->s_next)
		to->h_fmt->f_store->st_stale(to, at, n);
}

void op_junk(struct op *op, void *object)
{
	*op->o_fmt->f_store->st_link(object) = op->o_junk;
	op->o_junk = object;
}

void *op_spare(struct op *op)
{
	void *object = op->o_spare, **link;

	if (object == NULL)
		mach_panic("hat: an operation has no spare object");
	link = op->o_fmt->f_store->st_link(object);
	op->o_spare = *link;
	*link = NULL;
	op->o_nspare--;
	return object;
}

/* Empty objects that were taken out can be used again, once no CPU can reach them. */
void op_recycle(struct op *op)
{
	void *object;

	op_flush(op);
	while ((object = op->o_junk) != NULL) {
		void **link = op->o_fmt->f_store->st_link(object);

		op->o_junk = *link;
		*link = op->o_spare;
		op->o_spare = object;
		op->o_nspare++;
	}
}

static void free_objects(struct op *op, void *list)
{
	void *object;

	while ((object = list) != NULL) {
		list = *op->o_fmt->f_store->st_link(object);
		op->o_fmt->f_store->st_free(op->o_vm, object);
	}
}

void op_exit(struct op *op)
{
	struct hat_shared *hs = op->o_hs;
	struct pvnode *nodes;

	op_flush(op);
	nodes = pv_trim(hs, hs->hs_nhats == 0 ? 0 : PV_RESERVE);
	mach_mutex_exit(&hs->hs_lock);
	pv_nodes_free(op->o_vm, nodes);
	free_objects(op, op->o_junk);
	free_objects(op, op->o_spare);
}

/* Gets what a load needs, without the lock. False: there is none. Returns with the lock held. */
bool op_supply(struct op *op, enum need need)
{
	bool fail = vm_inject_fail(op->o_vm, VM_INJECT_HAT);
	struct pvnode *node = NULL;
	void *object = NULL;

	op_flush(op);
	mach_mutex_exit(&op->o_hs->hs_lock);
	if (!fail && need == NEED_OBJECT)
		object = op->o_fmt->f_store->st_alloc(op->o_vm);
	else if (!fail && need == NEED_NODE)
		node = pv_node_alloc(op->o_vm);
	mach_mutex_enter(&op->o_hs->hs_lock);
	if (node != NULL)
		pv_node_give(op->o_hs, node);
	if (object != NULL) {
		*op->o_fmt->f_store->st_link(object) = op->o_spare;
		op->o_spare = object;
		op->o_nspare++;
	}
	return node != NULL || object != NULL;
}
