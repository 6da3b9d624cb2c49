/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page-table formats, bit by bit as the architectures define them.
 *
 * Sources: Intel SDM volume 3, chapter "Paging" (32-bit, PAE, 4-level and 5-level paging); the RISC-V privileged
 * architecture, chapter "Supervisor-Level ISA" (Sv39, Sv48).
 *
 * Each architecture leaves some bits to software. Two of them say "a translation is loaded" and "it is locked". An entry
 * whose translation grants nothing must not be valid for the hardware; then only the software bits tell it from nothing
 * (and on RISC-V from a pointer, which is a valid entry without rights). i386 has no bit against
 * execution: a third software bit records the right that was asked for, and the hardware executes
 * whatever it may read.
 *
 * Left out: protection keys, PSE-36, Svnapot, inverting the frame of an entry
 * without rights (for CPUs that speculate with it).
 */
#include "hat/hat_impl.h"

/* ---- x86 ---- */
#define X86_P 0x1ull
#define X86_W 0x2ull
#define X86_U 0x4ull
#define X86_PWT                                                                                    \
	0x8ull /* with PCD the index of a memory type: 0 write-back, 1 write-combining (by the PAT), 3 uncached */
#define X86_PCD 0x10ull
#define X86_A 0x20ull
#define X86_D 0x40ull
#define X86_G 0x100ull
#define X86_PS 0x80ull /* in an entry above the last level: a page, not a table */
#define X86_SW_LOCKED 0x200ull
#define X86_SW_VALID 0x400ull
#define X86_SW_NX 0x800ull /* 0 where the hardware has no such bit */
#define X86_NX (1ull << 63)
#define X86_FRAME 0x000ffffffffff000ull

static uint64_t x86_caching(unsigned attr)
{
	if (attr & HAT_UNCACHED)
		return X86_PCD | X86_PWT;
	return attr & HAT_COMBINE ? X86_PWT : 0;
}

static uint64_t x86_make(uint64_t frame, unsigned attr, unsigned size)
{
	uint64_t e = frame << VM_PAGESHIFT | X86_U | X86_SW_VALID | (size > 0 ? X86_PS : 0);

	e |= attr & (PROT_R | PROT_W | PROT_X) ? X86_P : 0;
	e |= attr & PROT_W ? X86_W : 0;
	return e | x86_caching(attr) | (attr & PROT_X ? 0 : X86_NX);
}

static unsigned x86_attr(uint64_t e)
{
	unsigned attr = PROT_R;

	if (!(e & X86_P))
		return 0;
	attr |= e & X86_W ? PROT_W : 0;
	attr |= e & X86_NX ? 0 : PROT_X;
	if (e & X86_PCD)
		return attr | HAT_UNCACHED;
	return attr | (e & X86_PWT ? HAT_COMBINE : 0);
}

static uint64_t x86_frame(uint64_t e) { return (e & X86_FRAME) >> VM_PAGESHIFT; }

static uint64_t x86_pointer(uint64_t frame, unsigned level)
{
	(void)level;
	return frame << VM_PAGESHIFT | X86_P | X86_W | X86_U;
}

static bool x86_is_pointer(uint64_t e) { return (e & (X86_P | X86_SW_VALID)) == X86_P; }

/* The four entries of the page-directory-pointer table have no rights: the bits for them are
 * reserved. */
static uint64_t pae_pointer(uint64_t frame, unsigned level)
{
	return frame << VM_PAGESHIFT | X86_P | (level == 2 ? 0 : X86_W | X86_U);
}

static uint64_t i386_make(uint64_t frame, unsigned attr, unsigned size)
{
	uint64_t e = x86_make(frame, attr, size);

	return (e & ~X86_NX) | (e & X86_NX ? X86_SW_NX : 0);
}

static unsigned i386_attr(uint64_t e) { return x86_attr(e) & ~(e & X86_SW_NX ? PROT_X : 0); }

#define X86_BITS                                                                                   \
	.f_store = &hat_radix, .f_valid = X86_SW_VALID, .f_locked = X86_SW_LOCKED, .f_ref = X86_A, \
	.f_mod = X86_D, .f_write = X86_W, .f_user = X86_U, .f_global = X86_G,                      \
	.f_frame = x86_frame, .f_is_pointer = x86_is_pointer

const struct hat_format hat_x86_64 = {
	X86_BITS,
	.f_name = "x86-64",
	.f_noexec = X86_NX,
	.f_nsizes = 3,
	.f_levels = 4,
	.f_entry = 8,
	.f_shift = { 12, 21, 30, 39, 48 },
	.f_frames = 1ull << 40,
	.f_root_frames = 1ull << 40,
	.f_va_end = 1ull << 47,
	.f_kernel_min = 0xffff800000000000ull,
	.f_kernel_end = 0xffffff8000000000ull,
	.f_make = x86_make,
	.f_attr = x86_attr,
	.f_pointer = x86_pointer,
};

const struct hat_format hat_x86_64_la57 = {
	X86_BITS,
	.f_name = "x86-64 5-level",
	.f_noexec = X86_NX,
	.f_nsizes = 3,
	.f_levels = 5,
	.f_entry = 8,
	.f_shift = { 12, 21, 30, 39, 48, 57 },
	.f_frames = 1ull << 40,
	.f_root_frames = 1ull << 40,
	.f_va_end = 1ull << 56,
	.f_kernel_min = 0xff00000000000000ull,
	.f_kernel_end = 0xffff000000000000ull,
	.f_make = x86_make,
	.f_attr = x86_attr,
	.f_pointer = x86_pointer,
};

const struct hat_format hat_i386 = {
	X86_BITS,
	.f_name = "i386",
	.f_nsizes = 2,
	.f_levels = 2,
	.f_entry = 4,
	.f_shift = { 12, 22, 32 },
	.f_frames = 1ull << 20,
	.f_root_frames = 1ull << 20,
	.f_va_end = 1ull << 32,
	.f_make = i386_make,
	.f_attr = i386_attr,
	.f_pointer = x86_pointer,
};

const struct hat_format hat_i386_pae = {
	X86_BITS,
	.f_name = "i386 PAE",
	.f_nsizes = 2,
	.f_levels = 3,
	.f_entry = 8,
	.f_fixed_top = true,
	.f_shift = { 12, 21, 30, 32 },
	.f_frames = 1ull << 24,
	.f_root_frames = 1ull << 20, /* CR3 has 32 bits */
	.f_va_end = 1ull << 32,
	.f_make = x86_make,
	.f_attr = x86_attr,
	.f_pointer = pae_pointer,
};

/* ---- RISC-V ---- */
#define RV_V 0x1ull
#define RV_R 0x2ull
#define RV_W 0x4ull
#define RV_X 0x8ull
#define RV_U 0x10ull
#define RV_G 0x20ull
#define RV_A 0x40ull
#define RV_D 0x80ull
#define RV_NC (1ull << 61) /* Svpbmt: not cached, weakly ordered */
#define RV_IO (2ull << 61) /* not cached, strongly ordered */
#define RV_SW_LOCKED 0x100ull
#define RV_SW_VALID 0x200ull
#define RV_PPN_SHIFT 10u
#define RV_PPN_MASK ((1ull << 44) - 1)

static uint64_t rv_make(uint64_t frame, unsigned attr, unsigned size)
{
	uint64_t e = frame << RV_PPN_SHIFT | RV_U | RV_SW_VALID;

	(void)size;                               /* an entry with rights is a page at any level */
	e |= attr & (PROT_R | PROT_W) ? RV_R : 0; /* W without R is reserved */
	e |= attr & PROT_W ? RV_W : 0;
	e |= attr & PROT_X ? RV_X : 0;
	if (attr & HAT_UNCACHED)
		e |= RV_IO;
	else if (attr & HAT_COMBINE)
		e |= RV_NC;
	return e | (e & (RV_R | RV_X) ? RV_V : 0);
}

static unsigned rv_attr(uint64_t e)
{
	return (e & RV_R ? PROT_R : 0) | (e & RV_W ? PROT_W : 0) | (e & RV_X ? PROT_X : 0) |
	    (e & RV_IO ? HAT_UNCACHED : 0) | (e & RV_NC ? HAT_COMBINE : 0);
}

static uint64_t rv_frame(uint64_t e) { return e >> RV_PPN_SHIFT & RV_PPN_MASK; }

static uint64_t rv_pointer(uint64_t frame, unsigned level)
{
	(void)level;
	return frame << RV_PPN_SHIFT | RV_V;
}

static bool rv_is_pointer(uint64_t e) { return (e & (RV_V | RV_SW_VALID)) == RV_V; }

#define RV_BITS                                                                                    \
	.f_store = &hat_radix, .f_nsizes = 3, .f_entry = 8, .f_frames = 1ull << 44,                \
	.f_root_frames = 1ull << 44, .f_valid = RV_SW_VALID, .f_locked = RV_SW_LOCKED,             \
	.f_ref = RV_A, .f_mod = RV_D, .f_write = RV_W, .f_user = RV_U, .f_global = RV_G,           \
	.f_make = rv_make, .f_attr = rv_attr, .f_frame = rv_frame, .f_pointer = rv_pointer,        \
	.f_is_pointer = rv_is_pointer

const struct hat_format hat_sv39 = {
	RV_BITS,
	.f_name = "Sv39",
	.f_levels = 3,
	.f_shift = { 12, 21, 30, 39 },
	.f_va_end = 1ull << 38,
	.f_kernel_min = 0xffffffc000000000ull,
	.f_kernel_end = 0xffffffffc0000000ull,
};

const struct hat_format hat_sv48 = {
	RV_BITS,
	.f_name = "Sv48",
	.f_levels = 4,
	.f_shift = { 12, 21, 30, 39, 48 },
	.f_va_end = 1ull << 47,
	.f_kernel_min = 0xffff800000000000ull,
	.f_kernel_end = 0xffffff8000000000ull,
};

/* ---- SPARC: a TTE as UltraSPARC has it, with sizes each eight times the one before, from this system's base page on ---- */
#define TTE_V (1ull << 63)
#define TTE_SIZE_SHIFT 61u
#define TTE_SW_LOCKED (1ull << 51)
#define TTE_SW_VALID (1ull << 50)
#define TTE_PA 0x7fffffff000ull
#define TTE_SW_MOD 0x400ull
#define TTE_SW_REF 0x200ull
#define TTE_SW_WRITE 0x100ull /* may be made writable; the W of TLB and TSB comes with TTE_SW_MOD */
#define TTE_SW_EXEC 0x80ull   /* is put in the instruction TLB */
#define TTE_CACHED 0x30ull
#define TTE_EFFECT 0x8ull /* reading has effects: strongly ordered */

static uint64_t tte_make(uint64_t frame, unsigned attr, unsigned size)
{
	uint64_t e = frame << VM_PAGESHIFT | (uint64_t)size << TTE_SIZE_SHIFT | TTE_SW_VALID;

	e |= attr & (PROT_R | PROT_W | PROT_X) ? TTE_V : 0;
	e |= attr & PROT_W ? TTE_SW_WRITE : 0;
	if (attr & HAT_UNCACHED)
		e |= TTE_EFFECT;
	else if (!(attr & HAT_COMBINE))
		e |= TTE_CACHED;
	return e | (attr & PROT_X ? TTE_SW_EXEC : 0);
}

static unsigned tte_attr(uint64_t e)
{
	unsigned attr = PROT_R;

	if (!(e & TTE_V))
		return 0;
	attr |= e & TTE_SW_WRITE ? PROT_W : 0;
	attr |= e & TTE_SW_EXEC ? PROT_X : 0;
	if (e & TTE_CACHED)
		return attr;
	return attr | (e & TTE_EFFECT ? HAT_UNCACHED : HAT_COMBINE);
}

static uint64_t tte_frame(uint64_t e) { return (e & TTE_PA) >> VM_PAGESHIFT; }

static uint64_t tte_pointer(uint64_t frame, unsigned level)
{
	(void)frame;
	(void)level;
	mach_panic("hat: there are no tables in this format");
}

static bool tte_is_pointer(uint64_t e)
{
	(void)e;
	return false;
}

const struct hat_format hat_sun4 = {
	.f_name = "SPARC sfmmu",
	.f_store = &hat_sfmmu,
	.f_nsizes = 4,
	.f_entry = 8,
	.f_shift = { 12, 15, 18, 21 },
	.f_frames = 1ull << 31,
	.f_root_frames = 1ull << 31,
	.f_va_end = 1ull << 43,
	.f_valid = TTE_SW_VALID,
	.f_locked = TTE_SW_LOCKED,
	.f_ref = TTE_SW_REF,
	.f_mod = TTE_SW_MOD,
	.f_write = TTE_SW_WRITE,
	.f_make = tte_make,
	.f_attr = tte_attr,
	.f_frame = tte_frame,
	.f_pointer = tte_pointer,
	.f_is_pointer = tte_is_pointer,
};
