/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * More operations of the model test: contents that may go (ADV_FREE), messages of pages, ranges
 * that move within a space, files that shrink and grow; and changes that a program does not notice:
 * frames, memory and swap areas that are added and removed.
 *
 * A page whose contents may be dropped is marked freed: until the next write it reads as its old
 * contents or as zeroes, and after the first read of zeroes always as zeroes. The mark belongs to
 * the page, so that forks, which share the page, see the same.
 */
#include "tests/vm/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- contents that may go ---- */
static bool all_zero(const uint8_t *b, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (b[i] != 0)
			return false;
	return true;
}

struct mpage *slot_page(const struct slot *s)
{
	return s->kind == K_SHARED ? s->obj->page[s->idx] : s->priv;
}

void freed_seen(struct mpage *p, uint64_t off, const uint8_t *got, uint64_t n)
{
	if (p == NULL || !p->freed || memcmp(p->b + off, got, n) == 0 || !all_zero(got, n))
		return;
	memset(p->b, 0, VM_PAGESIZE);
	p->freed = false;
}

bool freed_written(struct test *t, struct slot *s, uint64_t off, const uint8_t *from, uint64_t n,
    const uint8_t *page)
{
	uint8_t want[VM_PAGESIZE] = { 0 };
	struct mpage *p;

	memcpy(want + off, from, n);
	p = mpage_own(t, s);
	if (memcmp(want, page, VM_PAGESIZE) == 0)
		memcpy(p->b, want, VM_PAGESIZE);
	p->freed = false;
	return memcmp(p->b, page, VM_PAGESIZE) == 0;
}

void op_advfree(struct test *t)
{
	struct space *sp = pick(t);
	unsigned lo, n;
	enum vm_err err;

	pick_range(t, 16, &lo, &n);
	if (sp == NULL || range_pinned(sp, lo, n))
		return;
	err = as_advise(sp->as, va_of(lo), vm_ptob(n), ADV_FREE);
	if (err != (range_all(sp, lo, n, true) ? VM_OK : VM_NOMAP))
		fail("ADV_FREE: %s", vm_err_name(err));
	for (unsigned i = lo; i < lo + n; i++) {
		struct slot *s = &sp->slot[i];

		if (s->kind == K_PRIVATE && s->priv != NULL)
			mpage_own(t, s)->freed =
			    true; /* of a page shared with a fork only this one's part goes */
	}
}

/* ---- messages ---- */
static void send_slot(
    struct test *t, struct slot *to, struct slot *from, enum transfer how, unsigned prot)
{
	struct mpage *p = slot_page(from);

	*to = (struct slot){ .kind = K_PRIVATE, .prot = prot, .maxprot = prot, .priv = p };
	if (how == TRANSFER_COW)
		to->maxprot |= PROT_R | PROT_W;
	else if (how == TRANSFER_COPY)
		to->maxprot = PROT_R | PROT_W | (prot & PROT_X);
	else
		to->prot = to->maxprot = prot & ~PROT_W;
	if (p != NULL)
		p->ref++;
	if (p != NULL && how == TRANSFER_COPY) {
		p = mpage_own(
		    t, to); /* the contents at the copy, whatever happens to the other page */
		p->freed = slot_page(from)->freed;
	}
}

static bool sendable(const struct space *sp, unsigned lo, unsigned n)
{
	for (unsigned i = lo; i < lo + n; i++)
		if (sp->slot[i].kind != K_PRIVATE && sp->slot[i].kind != K_SHARED)
			return false;
	return true;
}

void op_transfer(struct test *t)
{
	static const enum transfer hows[] = { TRANSFER_COPY, TRANSFER_COW, TRANSFER_COW,
		TRANSFER_LOAN };
	struct space *sp = pick(t), *to = pick(t);
	enum transfer how = hows[below(t, 4)];
	unsigned lo, n, dst, prot = chance(t, 3) ? PROT_R : PROT_R | PROT_W;
	enum vm_err err, want = VM_OK;
	vaddr_t at;

	pick_range(t, 12, &lo, &n);
	dst = below(t, NPAGES - n + 1);
	if (sp == NULL || to == NULL || !sendable(sp, lo, n))
		return;
	at = va_of(dst);
	err = as_transfer(sp->as, va_of(lo), vm_ptob(n), to->as, &at, how, prot);
	for (unsigned i = lo; i < lo + n; i++)
		if ((sp->slot[i].prot & PROT_R) == 0)
			want = VM_PROT;
	if (!range_all(to, dst, n, false))
		want = VM_EXIST;
	if (err != want) {
		if (err == VM_OK || !refused(t, err))
			fail("as_transfer %d: %s, expected %s", (int)how, vm_err_name(err),
			    vm_err_name(want));
		return;
	}
	for (unsigned i = 0; i < n && err == VM_OK; i++)
		send_slot(t, &to->slot[dst + i], &sp->slot[lo + i], how, prot);
}

/* ---- mremap to another place of the same space ---- */
/* Of a target that may have been unmapped before the move failed. */
static void resync_mapped(struct space *sp, unsigned i)
{
	struct as_info ai;

	if (sp->slot[i].kind != K_NONE &&
	    (as_query(sp->as, va_of(i), &ai) != VM_OK || ai.ai_base > va_of(i)))
		slot_clear(&sp->slot[i]);
}

void op_remap(struct test *t)
{
	struct space *sp = pick(t);
	unsigned lo, n, dst;
	enum vm_err err;
	vaddr_t at;

	pick_range(t, 12, &lo, &n);
	dst = below(t, NPAGES - n + 1);
	if (sp == NULL || (dst < lo + n && lo < dst + n) || range_pinned(sp, lo, n) ||
	    range_pinned(sp, dst, n) || !range_all(sp, lo, n, true))
		return;
	at = va_of(dst);
	err = as_remap(sp->as, va_of(lo), vm_ptob(n), vm_ptob(n), REMAP_MAYMOVE | REMAP_FIXED, &at);
	if (err != VM_OK) {
		if (err != VM_NOTSUP && !refused(t, err))
			fail("as_remap: %s", vm_err_name(err));
		for (unsigned i = dst; i < dst + n; i++)
			resync_mapped(sp, i);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		slot_clear(&sp->slot[dst + i]);
		sp->slot[dst + i] = sp->slot[lo + i];
		sp->slot[lo + i] = (struct slot){ 0 };
	}
}

/* ---- files shrink and grow ---- */
/* Copies of the file's pages that a private mapping may have kept, or that are locked, would show what is past the end. */
static bool may_resize(const struct test *t, unsigned file)
{
	for (unsigned k = 0; k < NSPACES; k++)
		for (unsigned i = 0; t->sp[k].as != NULL && i < NPAGES; i++) {
			const struct slot *s = &t->sp[k].slot[i];

			if ((s->kind != K_PRIVFILE && s->kind != K_SHFILE) || s->file != file)
				continue;
			if (s->wired || s->soft ||
			    (s->kind == K_PRIVFILE && (s->maybe || t->opt->linux_like)))
				return false;
		}
	return true;
}

void op_truncate(struct test *t)
{
	unsigned file = below(t, NFILES);
	struct file *f = &t->file[file];
	uint64_t size = vm_ptob(1 + below(t, FILE_PAGES)), was = f->size;

	if (!may_resize(t, file))
		return;
	if (!sim_disk_resize(f->vp, size))
		fail("sim_disk_resize");
	if (size < was) {
		pvn_truncate(t->vm, f->vp, size);
		memset(f->b + size, 0, was - size);
	}
	f->size = size;
}

/* ---- frames, large pages, memory and swap areas that come and go ---- */
/* Pages change frames, which a program cannot notice. */
void op_relocate(struct test *t)
{
	struct space *sp = pick(t);
	unsigned page = below(t, NPAGES);
	pfn_t pfn = sp == NULL ? PFN_INVALID : hat_probe(as_hat(sp->as), va_of(page), NULL);
	struct page *pp = pfn == PFN_INVALID ? NULL : page_of(t->vm, pfn);

	if (pp == NULL || !page_trylock(t->vm, pp, SE_EXCL))
		return;
	(void)page_relocate(t->vm, &pp);
	page_unlock(t->vm, pp);
}

void op_memory(struct test *t)
{
	pfn_t first = below(t, t->opt->frames / 8) * 8;

	if (vm_memory_remove(t->vm, first, 8) == VM_OK && vm_memory_add(t->vm, first, 8) != VM_OK)
		fail("vm_memory_add of what was removed");
}

void op_promote(struct test *t)
{
	struct space *sp = pick(t);
	unsigned lo, n;
	uint64_t done;

	if (sp == NULL)
		return;
	(void)as_promote(sp->as, va_of(0), vm_ptob(NPAGES), 1 + below(t, 2), &done);
	if (chance(t,
		3)) { /* from now on large pages, where the window has room for them, or no more */
		pick_range(t, NPAGES, &lo, &n);
		(void)as_setpagesize(sp->as, va_of(lo), vm_ptob(n), below(t, 2));
	}
}

void op_shrink(struct test *t)
{
	if (chance(t, 16)) {
		(void)vm_shrink(
		    t->vm, 1 + below(t, t->opt->frames / 8)); /* they are granted again on demand */
		return;
	}
	(void)pageout_reclaim(t->vm, 1 + below(t, 8));
}

void op_swapdev(struct test *t)
{
	enum vm_err err;

	if (!chance(t, t->injecting ? 3 : 32))
		return;
	if (t->swap != NULL) {
		err = swap_remove(t->vm, t->swap);
		if (err != VM_OK && !refused(t, err))
			fail("swap_remove: %s", vm_err_name(err));
		if (err != VM_OK)
			return;
		vnode_rele(t->swap);
		t->swap = NULL;
		return;
	}
	if ((t->swap = sim_disk_create(t->mach, t->vm, "swap2", vm_ptob(128), V_SWAP)) == NULL)
		fail("host memory");
	err = swap_add(t->vm, t->swap, 128, 1);
	if (err != VM_OK) {
		if (!refused(t, err))
			fail("swap_add: %s", vm_err_name(err));
		vnode_rele(t->swap);
		t->swap = NULL;
	}
}
