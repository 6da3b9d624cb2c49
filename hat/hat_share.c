/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared tables: a range of one space translates by the tables of another (hat.h has the contract).
 * A share is on two lists: on that of the space whose tables are used (h_sharers: a change there is
 * flushed for all of them, hat_op.c) and on that of the space that uses them (h_borrowed).
 *
 * Locks: hs_lock guards both lists.
 */
#include "hat/hat_map.h"

#include <quire/hat.h>
#include <quire/kmem.h>
#include <quire/vm.h>

uint64_t hat_share_unit(struct hat *hat)
{
	const struct hat_format *f = hat->h_fmt;

	if (hat->h_shared->hs_caps->mc_max_mappings != 0)
		return 0;
	return size_bytes(f, f->f_levels < 2 ? f->f_nsizes - 1u : 1);
}

/* The highest level whose entries can take over a part of that length, so that few entries are
 * shared. */
static unsigned share_level(const struct hat_format *f, vaddr_t va, vaddr_t fva, uint64_t len)
{
	if (f->f_levels < 2) /* no tables */
		return f->f_nsizes - 1u;
	unsigned level = f->f_levels > 2
	    ? f->f_levels - 2u
	    : 1; /* entries of the root are not shared if there are lower levels */

	while (level > 1 &&
	    (((va | fva) & (size_bytes(f, level) - 1)) != 0 || len < size_bytes(f, level)))
		level--;
	return level;
}

/* Undoes the first done bytes of a sharing; puts the finished share on *gone. */
void hat_undo_sharing(struct op *op, struct share *s, uint64_t done, struct share **gone)
{
	const struct hat_format *f = s->s_to->h_fmt;
	struct share **p;

	for (uint64_t at = 0; at < done;) {
		unsigned level = share_level(f, s->s_va + at, s->s_fva + at, s->s_len - at);

		f->f_store->st_detach(op, s->s_to, s->s_va + at, s->s_from, s->s_fva + at, level);
		at += size_bytes(f, level);
	}
	for (p = &s->s_from->h_sharers; *p != NULL && *p != s; p = &(*p)->s_next)
		;
	if (*p != NULL)
		*p = s->s_next;
	for (p = &s->s_to->h_borrowed; *p != NULL && *p != s; p = &(*p)->s_borrowed)
		;
	if (*p != NULL)
		*p = s->s_borrowed;
	s->s_next = *gone;
	*gone = s;
}

void hat_free_shares(struct vm *vm, struct share *gone)
{
	struct share *next_one;

	for (; gone != NULL; gone = next_one) {
		next_one = gone->s_next;
		kmem_free(vm, gone, sizeof(*gone));
	}
}

/* Attaches part after part; *done: bytes. */
static enum vm_err share_all(struct op *op, struct share *s, uint64_t *done)
{
	const struct hat_format *f = s->s_to->h_fmt;

	for (*done = 0; *done < s->s_len;) {
		unsigned level =
		    share_level(f, s->s_va + *done, s->s_fva + *done, s->s_len - *done);
		enum need need = f->f_store->st_attach(
		    op, s->s_to, s->s_va + *done, s->s_from, s->s_fva + *done, level);

		if (need == NEED_STOP)
			return VM_INVAL;
		if (need == NEED_NOTHING)
			*done += size_bytes(f, level);
		else if (!op_supply(op, need))
			return VM_NOMEM;
	}
	return VM_OK;
}

enum vm_err hat_share(struct hat *to, vaddr_t va, struct hat *from, vaddr_t fva, uint64_t len)
{
	uint64_t unit = hat_share_unit(to), done = 0;
	struct share *s, *gone = NULL;
	enum vm_err err;
	struct op op;

	if (unit == 0)
		return VM_NOTSUP;
	if (len == 0 || ((va | fva | len) & (unit - 1)) != 0 || to == from || to->h_kernel ||
	    from->h_kernel || va + len > to->h_fmt->f_va_end || fva + len > to->h_fmt->f_va_end ||
	    va + len < va || fva + len < fva)
		return VM_INVAL;
	if (vm_inject_fail(to->h_vm, VM_INJECT_HAT) ||
	    (s = kmem_zalloc(to->h_vm, sizeof(*s), KM_NOSLEEP)) == NULL)
		return VM_NOMEM;
	*s = (struct share){ .s_from = from, .s_to = to, .s_fva = fva, .s_va = va, .s_len = len };
	op_enter(&op, to->h_vm);
	(void)hat_make_place(&op, to, va, len, 0);
	if ((err = share_all(&op, s, &done)) == VM_OK) {
		s->s_next = from->h_sharers;
		from->h_sharers = s;
		s->s_borrowed = to->h_borrowed;
		to->h_borrowed = s;
	} else {
		hat_undo_sharing(&op, s, done, &gone);
	}
	op_exit(&op);
	hat_free_shares(to->h_vm, gone);
	to->h_fmt->f_store->st_tune(to);
	return err;
}

void hat_unshare(struct hat *to, vaddr_t va, uint64_t len)
{
	struct share *s, *gone = NULL;
	struct op op;

	op_enter(&op, to->h_vm);
	for (s = to->h_borrowed; s != NULL; s = s->s_borrowed)
		if (s->s_va == va && s->s_len == len)
			break;
	if (s != NULL)
		hat_undo_sharing(&op, s, len, &gone);
	op_exit(&op);
	hat_free_shares(to->h_vm, gone);
	to->h_fmt->f_store->st_tune(to);
}
