/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a debugger wants of an address space: to look at and change memory whatever its protection, and to write all of it
 * to a core file.
 *
 * as_peek reads what the program would read, without changing anything: memory that was never
 * touched reads as zeroes and stays untouched. as_poke writes to private memory, also where the
 * program may not (a breakpoint in its text): the page becomes the space's own copy first, as by a
 * write of the program, and its protection stays. Memory that others share is written only where
 * the program itself may write, because others would see the breakpoint, too.
 *
 * as_core writes an ELF64 core file of type ET_CORE: a program header for each segment and behind them the pages that have
 * contents of their own (anonymous and copied ones, in memory or swapped out). Untouched pages are holes of the file; pages of
 * files and devices are left out (p_filesz 0): the files have them. The caller supplies notes
 * (registers, names), because it knows the threads. The space's threads should be stopped; if they
 * run, each page is written as it was at some moment.
 *
 * Locks: a_lock as reader, a segment at a time; page locks and slots within segvn.
 */
#include "vm/impl.h"

/* ---- looking and writing ---- */
/* The part of [va, +len) in va's page. */
static uint64_t in_page(vaddr_t va, uint64_t len)
{
	uint64_t room = VM_PAGESIZE - (va & VM_PAGEMASK);

	return len < room ? len : room;
}

static enum vm_err peek_page(struct as *as, vaddr_t va, void *buf, uint64_t n)
{
	struct seg *s;
	enum vm_err e;

	mach_rw_enter(&as->a_lock, false);
	s = as_segat(as, va);
	e = s == NULL ? VM_NOMAP : s->s_ops->so_peek(s, va, buf, n);
	mach_rw_exit(&as->a_lock);
	return e == VM_RETRY ? as_copyin(as, va, buf, n) : e;
}

static enum vm_err poke_page(struct as *as, vaddr_t va, const void *buf, uint64_t n)
{
	struct seg *s;
	enum vm_err e;

	mach_rw_enter(&as->a_lock, false);
	if ((s = as_segat(as, va)) == NULL)
		e = VM_NOMAP;
	else if ((s->s_flags & S_SEALED) != 0)
		e = VM_ACCESS;
	else
		e = s->s_ops->so_poke(s, va, buf, n);
	mach_rw_exit(&as->a_lock);
	if (e != VM_RETRY)
		return e;
	e = as_copyout(as, buf, va, n); /* through the HAT, with the rights that the program has */
	return e == VM_PROT ? VM_ACCESS : e;
}

enum vm_err as_peek(struct as *as, vaddr_t addr, void *buf, uint64_t len)
{
	enum vm_err e = VM_OK;

	for (uint64_t at = 0, n; at < len && e == VM_OK; at += n) {
		n = in_page(addr + at, len - at);
		e = peek_page(as, addr + at, (char *)buf + at, n);
	}
	return e;
}

enum vm_err as_poke(struct as *as, vaddr_t addr, const void *buf, uint64_t len)
{
	enum vm_err e = VM_OK;

	for (uint64_t at = 0, n; at < len && e == VM_OK; at += n) {
		n = in_page(addr + at, len - at);
		e = poke_page(as, addr + at, (const char *)buf + at, n);
	}
	return e;
}

/* ---- core files ---- */
struct elf_header {
	uint8_t e_ident[16];
	uint16_t e_type, e_machine;
	uint32_t e_version;
	uint64_t e_entry, e_phoff, e_shoff;
	uint32_t e_flags;
	uint16_t e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx;
};
struct elf_program {
	uint32_t p_type, p_flags;
	uint64_t p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
};
_Static_assert(
    sizeof(struct elf_header) == 64 && sizeof(struct elf_program) == 56, "as ELF has them");
#define ET_CORE 4u
#define PT_LOAD 1u
#define PT_NOTE 4u
#define CORE_SEGMENTS 65000u /* e_phnum has 16 bits */

struct core {
	struct as *c_as;
	const struct as_core *c_to;
	uint64_t c_phoff, c_offset; /* of the next header, of the next segment's bytes */
	uint8_t c_vec[64];
	uint64_t c_page[VM_PAGESIZE / 8];
};

static enum vm_err put_bytes(struct core *c, uint64_t off, const void *buf, uint64_t len)
{
	return c->c_to->ac_write(c->c_to->ac_arg, off, buf, len) ? VM_OK : VM_IO;
}

static enum vm_err put_program(struct core *c, const struct elf_program *p)
{
	enum vm_err e = put_bytes(c, c->c_phoff, p, sizeof(*p));

	c->c_phoff += sizeof(*p);
	return e;
}

/* The pages of a run that have contents of their own; the others stay holes. A page lost with its store is a hole, too. */
static enum vm_err put_pages(struct core *c, vaddr_t va, uint64_t npages, uint64_t off)
{
	enum vm_err e = as_incore(c->c_as, va, vm_ptob(npages), c->c_vec);

	for (uint64_t i = 0; i < npages && e == VM_OK; i++) {
		if ((c->c_vec[i] & INCORE_ANON) == 0)
			continue;
		if (as_peek(c->c_as, va + vm_ptob(i), c->c_page, VM_PAGESIZE) == VM_OK)
			e = put_bytes(c, off + vm_ptob(i), c->c_page, VM_PAGESIZE);
	}
	return e;
}

static enum vm_err put_segment(struct core *c, const struct as_info *ai)
{
	bool own = ai->ai_ops->so_core;
	struct elf_program p = { .p_type = PT_LOAD,
		.p_flags = ((ai->ai_prot & PROT_R) != 0 ? 4u : 0) |
		    ((ai->ai_prot & PROT_W) != 0 ? 2u : 0) | ((ai->ai_prot & PROT_X) != 0 ? 1u : 0),
		.p_offset = c->c_offset,
		.p_vaddr = ai->ai_base,
		.p_filesz = own ? ai->ai_len : 0,
		.p_memsz = ai->ai_len,
		.p_align = VM_PAGESIZE };
	enum vm_err e = put_program(c, &p);

	for (uint64_t at = 0, n; own && at < ai->ai_len && e == VM_OK; at += n) {
		n = ai->ai_len - at < sizeof(c->c_vec) * VM_PAGESIZE
		    ? ai->ai_len - at
		    : sizeof(c->c_vec) * VM_PAGESIZE;
		e = put_pages(c, ai->ai_base + at, vm_btop(n), c->c_offset + at);
	}
	c->c_offset += p.p_filesz;
	return e == VM_NOMAP ? VM_OK : e; /* the segment was unmapped meanwhile */
}

static uint64_t count_segments(struct as *as)
{
	struct as_info ai;
	uint64_t n = 0;

	for (vaddr_t va = 0; n < CORE_SEGMENTS && as_query(as, va, &ai) == VM_OK;
	     va = ai.ai_base + ai.ai_len)
		n++;
	return n;
}

enum vm_err as_core(struct as *as, const struct as_core *to)
{
	uint64_t nsegs = count_segments(as),
		 notes = vm_page_round(64 + (nsegs + 1) * sizeof(struct elf_program));
	struct elf_header h = { .e_ident = { 0x7f, 'E', 'L', 'F', 2, 1, 1 },
		.e_type = ET_CORE,
		.e_machine = to->ac_machine,
		.e_version = 1,
		.e_phoff = sizeof(h),
		.e_ehsize = sizeof(h),
		.e_phentsize = sizeof(struct elf_program),
		.e_phnum = (uint16_t)(nsegs + 1) };
	struct elf_program note = {
		.p_type = PT_NOTE, .p_offset = notes, .p_filesz = to->ac_noteslen, .p_align = 4
	};
	struct core *c = kmem_zalloc(as->a_vm, sizeof(*c), KM_SLEEP);
	struct as_info ai;
	enum vm_err e;

	if (c == NULL)
		return VM_NOMEM;
	*c = (struct core){ .c_as = as,
		.c_to = to,
		.c_phoff = sizeof(h),
		.c_offset = vm_page_round(notes + to->ac_noteslen) };
	if ((e = put_bytes(c, 0, &h, sizeof(h))) == VM_OK && (e = put_program(c, &note)) == VM_OK &&
	    to->ac_noteslen > 0)
		e = put_bytes(c, notes, to->ac_notes, to->ac_noteslen);
	for (vaddr_t va = 0; e == VM_OK && nsegs > 0 && as_query(as, va, &ai) == VM_OK;
	     va = ai.ai_base + ai.ai_len, nsegs--)
		e = put_segment(c, &ai);
	kmem_free(as->a_vm, c, sizeof(*c));
	return e;
}
