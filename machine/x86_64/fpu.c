/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The registers of the x87, SSE and AVX units, which belong to programs: the kernel uses none.
 *
 * A thread's registers are saved at each switch from it and loaded at each switch to it (XSAVE,
 * XRSTOR in the standard format; FXSAVE where the CPU has no XSAVE). XCR0 enables x87, SSE and AVX,
 * as far as the CPU has them; what is not enabled programs cannot use, and CPUID says so (OSXSAVE).
 *
 * Vocabulary: the area is the memory image of the registers: 512 bytes as FXSAVE has them, then the
 * header of XSAVE (the set of units that are not in their initial state) and the upper halves of
 * the registers of AVX.
 *
 * Locks: none; a running thread's area is used by its own CPU only.
 * Left out: AVX-512, AMX and protection keys, which stay disabled; saving what has changed only.
 */
#include "machine/x86_64/cpu.h"

#include "kernel/core/kernel.h"

#define XCR0_MASK 7ull /* x87, SSE, AVX */
#define MXCSR 24u      /* in the area */

/* const after the boot CPU's fpu_init: every other CPU finds the same units */
struct fpu_units fpu = { 0, FPU_HEADER };

void fpu_init(void)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	if (!(r[2] & 1u << 26))
		return;
	write_cr4(read_cr4() | 1ull << 18); /* OSXSAVE */
	cpuid(0xd, 0, r);
	fpu.fpu_xcr0 = r[0] & XCR0_MASK;
	__asm__ volatile("xsetbv" : : "a"((uint32_t)fpu.fpu_xcr0), "d"(0), "c"(0));
	cpuid(0xd, 0, r); /* the size for what is enabled now */
	if (r[1] > FPU_BYTES)
		kpanic("the registers of AVX need %u bytes", r[1]);
	fpu.fpu_bytes = r[1];
}

/* struct thread has no such alignment. */
static uint8_t *area_of(struct thread *t)
{
	return (
	    uint8_t *)(((uintptr_t)t->t_arch.at_fpu + FPU_ALIGN - 1) & ~(uintptr_t)(FPU_ALIGN - 1));
}

void fpu_area_init(uint8_t *area)
{
	memset(area, 0, FPU_BYTES);
	area[0] = 0x7f; /* the x87's control word 0x37f: every exception masked */
	area[1] = 0x03;
	area[MXCSR] = 0x80; /* 0x1f80 */
	area[MXCSR + 1] = 0x1f;
}

void fpu_area_save(uint8_t *area)
{
	if (fpu.fpu_xcr0 != 0)
		__asm__ volatile("xsave64 (%0)"
				 :
				 : "r"(area), "a"((uint32_t)fpu.fpu_xcr0), "d"(0)
				 : "memory");
	else
		__asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

void fpu_area_load(const uint8_t *area)
{
	if (fpu.fpu_xcr0 != 0)
		__asm__ volatile("xrstor64 (%0)"
				 :
				 : "r"(area), "a"((uint32_t)fpu.fpu_xcr0), "d"(0)
				 : "memory");
	else
		__asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

void fpu_reset(struct thread *t)
{
	/* not the thread's area, to which a switch may save the old registers at any moment */
	_Alignas(FPU_ALIGN) uint8_t area[FPU_BYTES];

	fpu_area_init(area);
	if (t == arch_cur())
		fpu_area_load(area);
	else
		memcpy(area_of(t), area, FPU_BYTES);
}

void fpu_save(struct thread *t) { fpu_area_save(area_of(t)); }
void fpu_load(struct thread *t) { fpu_area_load(area_of(t)); }
