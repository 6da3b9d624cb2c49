/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The x86-64 CPU: instructions, registers saved at a trap, the data of each CPU. Private to
 * machine/x86_64.
 */
#ifndef QUIRE_X86_CPU_H
#define QUIRE_X86_CPU_H

#include "cpu_asm.h"

#include "hat/mmu.h"
#include "kernel/core/arch.h"

#include <quire/types.h>

#define KERNEL_BASE 0xffffffff80000000ull /* where the image is linked, + its physical address */
#define DIRECT_BASE 0xffff800000000000ull /* all of memory, + the physical address */
#define MMIO_BASE                                                                                  \
	0xffffff0000000000ull /* registers of devices below 4 GiB, + the physical address - MMIO_PHYS */
#define MMIO_PHYS 0xc0000000ull
#define KAS_MIN 0xffff960000000000ull /* the kernel's own space: one entry of the root */
#define KAS_MAX 0xffff968000000000ull

#define UART_IRQ 4u
#define VEC_TIMER 32u
#define VEC_IRQ 48u /* + the pin of the I/O APIC */
#define VEC_SHOOT 0xf0u
#define VEC_WAKE 0xf1u
#define VEC_SPURIOUS 0xffu

#include "machine/metal/metal.h"

/* The data of a CPU, which its code reaches by GS. */
struct cpu {
	struct cpu *cpu_self;
	uint64_t cpu_kstack; /* top of the running thread's kernel stack */
	uint64_t cpu_scratch;
	struct kcpu cpu_k;   /* the kernel's part */
	unsigned cpu_apic;   /* number of the CPU's APIC */
	struct hat *cpu_hat; /* mmu.c: the space whose root is loaded; NULL: the kernel's own */
	/* mmu.c: cpu_hat, but until the new root is loaded, the space before */
	struct hat *cpu_loaded;
	_Atomic bool cpu_lazy; /* mmu.c: the running thread uses no address of that space */
	/* mmu.c: the TLB is emptied before an address of that space is used again */
	_Atomic bool cpu_stale;
	_Atomic bool cpu_leave; /* mmu.c: the space ends: load another root */
	_Atomic bool cpu_up;
	uint64_t cpu_gdt[8];
	struct {
		uint32_t reserved0;
		uint64_t rsp[3];
		uint64_t reserved1;
		uint64_t ist[7];
		uint64_t reserved2;
		uint16_t reserved3, iopb;
	} __attribute__((packed)) cpu_tss;
	_Alignas(16) uint8_t cpu_ist[4096]; /* double faults: the stack has run into its redzone */
};
_Static_assert(offsetof(struct cpu, cpu_kstack) == CPU_KSTACK, "entry.S");
_Static_assert(offsetof(struct cpu, cpu_scratch) == CPU_SCRATCH, "entry.S");
_Static_assert(offsetof(struct trapframe, tf_cs) == TF_CS, "entry.S");

extern struct cpu cpus[ARCH_MAXCPUS];

static inline struct cpu *this_cpu(void)
{
	struct cpu *c;

	__asm__ volatile("mov %%gs:0, %0" : "=r"(c));
	return c;
}

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}
static inline void outw(uint16_t port, uint16_t v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))
			 : "memory");
}
static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}
static inline uint64_t read_cr2(void)
{
	uint64_t v;

	__asm__ volatile("mov %%cr2, %0" : "=r"(v));
	return v;
}
static inline uint64_t read_cr3(void)
{
	uint64_t v;

	__asm__ volatile("mov %%cr3, %0" : "=r"(v) : : "memory");
	return v;
}
static inline void write_cr3(uint64_t v)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory");
}
static inline uint64_t read_cr4(void)
{
	uint64_t v;

	__asm__ volatile("mov %%cr4, %0" : "=r"(v));
	return v;
}
static inline void write_cr4(uint64_t v)
{
	__asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory");
}
static inline void invlpg(vaddr_t va) { __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory"); }

#define MSR_APICBASE 0x1bu
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_SFMASK 0xc0000084u
#define MSR_FSBASE 0xc0000100u
#define MSR_GSBASE 0xc0000101u
#define MSR_KGSBASE 0xc0000102u

/* boot.c */
extern const uint64_t trap_stubs[256];
extern const char ap_start[], ap_end[];
extern uint64_t ap_root, ap_stack, ap_cpu;
void boot_main(uint32_t info);
void syscall_entry(void);
void cpu_init(struct cpu *, uint64_t stack_top); /* descriptor tables, GS, SYSCALL, protections */
void ap_main(struct cpu *);

/* fpu.c */
#define FPU_HEADER 512u /* in an area: the header of XSAVE */
extern struct fpu_units {
	uint64_t fpu_xcr0;  /* the units that are saved by XSAVE; 0: FXSAVE saves x87 and SSE */
	uint32_t fpu_bytes; /* of an area: at most FPU_BYTES */
} fpu;
void fpu_init(void); /* on each CPU */
void fpu_reset(struct thread *);
void fpu_save(struct thread *); /* the CPU's registers to the area of that thread */
void fpu_load(struct thread *);
/*
 * An area of FPU_BYTES at FPU_ALIGN: the initial registers; the registers of this CPU are saved to the area
 * (which was zeroed), or loaded from it.
 */
void fpu_area_init(uint8_t *area);
void fpu_area_save(uint8_t *area);
void fpu_area_load(const uint8_t *area);

/* apic.c */
void apic_init(void); /* sets up the boot CPU's APIC and the I/O APIC; calibrates the clock */
void apic_init_cpu(void);
void apic_eoi(void);
void apic_ipi(unsigned apic, unsigned vec);
void apic_start_cpu(unsigned apic, uint64_t at);
void ioapic_route(unsigned pin, unsigned vec, bool level);

/* mmu.c */
void mmu_init(struct mach *);
void mmu_shoot(void); /* the interrupt */
void mmu_tick(void);
void mmu_leave_dead(void);
void mmu_be_lazy(
    void); /* the CPU keeps its root, and uses no address of that space until arch_load_space */
#endif
