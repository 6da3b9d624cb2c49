/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The RISC-V CPU: instructions, calls of the firmware, the data of each CPU. Private to
 * machine/riscv64.
 */
#ifndef QUIRE_RISCV_CPU_H
#define QUIRE_RISCV_CPU_H

#include "cpu_asm.h"

#include "hat/mmu.h"
#include "kernel/core/arch.h"
#include "kernel/core/thread.h"

#include <quire/types.h>

/*
 * The layout is the same in Sv39 and Sv48: the whole kernel lies in the last entry of an Sv48 root,
 * whose table is laid out as an Sv39 root's upper half.
 */
#define KERNEL_BASE 0xffffffff00000000ull /* where the image is linked, + its physical address */
#define DIRECT_BASE                                                                                \
	0xffffffd000000000ull /* memory and registers of devices, + the physical address */
#define DIRECT_BYTES (1ull << 36)
#define USER_CODE                                                                                  \
	0xffffffffc0000000ull /* user_code of the image, which user mode may read and execute */
#define NASIDS 256u

#include "machine/metal/metal.h"

/* The data of a CPU, which its code reaches by tp. */
struct cpu {
	uint64_t
	    cpu_kstack; /* top of the running thread's kernel stack; 0: the CPU's first stack */
	uint64_t cpu_sp, cpu_t0; /* scratch space of entry.S, for some instructions */
	uint64_t cpu_overflow;   /* top of the stack for the report that a stack is at its end */
	struct kcpu cpu_k;       /* the kernel's part */
	uint64_t cpu_hart;       /* const: the CPU's number for the firmware */
	uint32_t cpu_intc; /* const: phandle of the CPU's interrupt controller in the device tree */
	uint64_t cpu_next; /* when the next tick is due */
	struct hat *cpu_hat; /* mmu.c: the space whose root is loaded; NULL: the kernel's own */
	/* mmu.c: cpu_hat, but until the new root is loaded, the space before */
	struct hat *cpu_loaded;
	unsigned cpu_asid;     /* of the CPU alone: the number that is loaded */
	_Atomic bool cpu_lazy; /* mmu.c: the running thread uses no address of that space */
	_Atomic uint64_t cpu_stale[NASIDS / 64]; /* mmu.c: numbers to be flushed before their use */
	_Atomic bool cpu_fencei;                 /* mmu.c: the instruction cache is stale */
	_Atomic bool cpu_leave;                  /* mmu.c: the space ends: load another root */
	_Atomic bool cpu_wake;                   /* mach.c: an interrupt for the scheduler */
	_Atomic bool cpu_up;
	_Alignas(16) uint8_t cpu_stack[4096];
};
_Static_assert(offsetof(struct cpu, cpu_kstack) == CPU_KSTACK, "entry.S");
_Static_assert(offsetof(struct cpu, cpu_sp) == CPU_SP, "entry.S");
_Static_assert(offsetof(struct cpu, cpu_t0) == CPU_T0, "entry.S");
_Static_assert(offsetof(struct cpu, cpu_overflow) == CPU_OVERFLOW, "entry.S");
_Static_assert(offsetof(struct trapframe, tf_pc) == TF_PC, "entry.S");
_Static_assert(sizeof(struct trapframe) == TF_BYTES, "entry.S");
_Static_assert(STACK_BYTES == 1u << LOG_STACK_BYTES, "entry.S");

extern struct cpu cpus[ARCH_MAXCPUS];

static inline struct cpu *this_cpu(void)
{
	struct cpu *c;

	__asm__ volatile("mv %0, tp" : "=r"(c));
	return c;
}

#define csr_read(name)                                                                             \
	({                                                                                         \
		uint64_t v_;                                                                       \
		__asm__ volatile("csrr %0, " name : "=r"(v_) : : "memory");                        \
		v_;                                                                                \
	})
#define csr_write(name, v) __asm__ volatile("csrw " name ", %0" : : "r"((uint64_t)(v)) : "memory")
#define csr_set(name, v) __asm__ volatile("csrs " name ", %0" : : "r"((uint64_t)(v)) : "memory")
#define csr_clear(name, v) __asm__ volatile("csrc " name ", %0" : : "r"((uint64_t)(v)) : "memory")

#define CSR_STIMECMP "0x14d"
#define SIE_SOFT 0x2ull
#define SIE_TIMER 0x20ull
#define SIE_EXTERNAL 0x200ull
#define STATUS_SUM (1ull << 18) /* the kernel may read and write pages of programs */
#define STATUS_MXR (1ull << 19) /* what can be executed can be read */
#define SATP_SV39 8ull
#define SATP_SV48 9ull
#define SATP_MODE_SHIFT 60u
#define SATP_ASID_SHIFT 44u
#define CAUSE_INTERRUPT (1ull << 63)

static inline uint64_t read_time(void) { return csr_read("time"); }
static inline uint32_t mmio_get(uint64_t pa) { return *(volatile uint32_t *)direct_map(pa); }
static inline void mmio_set(uint64_t pa, uint32_t v) { *(volatile uint32_t *)direct_map(pa) = v; }

/* ---- the firmware ---- */
#define SBI_TIME 0x54494d45u
#define SBI_IPI 0x735049u
#define SBI_HSM 0x48534du
#define SBI_SRST 0x53525354u

static inline int64_t call_firmware(
    uint64_t extension, uint64_t function, uint64_t a, uint64_t b, uint64_t c)
{
	register uint64_t a0 __asm__("a0") = a;
	register uint64_t a1 __asm__("a1") = b;
	register uint64_t a2 __asm__("a2") = c;
	register uint64_t a6 __asm__("a6") = function;
	register uint64_t a7 __asm__("a7") = extension;

	__asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
	return (int64_t)a0;
}
static inline void send_ipi(const struct cpu *c)
{
	(void)call_firmware(SBI_IPI, 0, 1, c->cpu_hart, 0);
}

/* ---- boot.c ---- */
extern uint64_t satp_mode; /* const: SATP_SV39, SATP_SV48 */
void boot_main(uint64_t hart, uint64_t dtb);
void ap_main(struct cpu *);

/* Physical addresses of devices, from the device tree; 0: the device does not exist. */
#define MAXVIRTIO 32u
struct devices {
	uint64_t dv_uart, dv_rtc, dv_test, dv_plic;
	uint32_t dv_uart_irq, dv_plic_context; /* context: the boot CPU's, in S-mode */
	uint64_t dv_timebase;                  /* Hz */
	uint64_t dv_entropy;
	bool dv_sstc; /* the CPUs have a register for the timer */
	unsigned dv_nvirtio;
	struct arch_device dv_virtio[MAXVIRTIO];
};
extern struct devices devices;

/* ---- mmu.c ---- */
void mmu_init(struct mach *, bool sv48);
void mmu_soft_interrupt(void); /* flushes, spaces to be left */
void mmu_tick(void);
void mmu_be_lazy(
    void); /* the CPU keeps its root, and uses no address of that space until arch_load_space */
void mmu_settle_fault(struct hat *, vaddr_t, enum seg_rw, bool *present, bool *settled);
static inline void flush_address(vaddr_t va)
{
	__asm__ volatile("sfence.vma %0" : : "r"(va) : "memory");
}

/* ---- mach.c ---- */
void clock_init(void);
void timer_next(void);
void irq_init(void);
void irq_external(void);
void fp_save(struct fp_state *);
void fp_load(const struct fp_state *);
bool probe_stimecmp(void);
#endif
