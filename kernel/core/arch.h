/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The seam between the kernel (kernel/) and a bare machine (machine/x86_64, machine/riscv64). First
 * come the machine's functions, in addition to machine.h's frames and mmu.h; then the functions of
 * the kernel that the machine calls. kernel/core implements machine.h's locks, threads and clock on
 * top of these.
 */
#ifndef QUIRE_KERNEL_ARCH_H
#define QUIRE_KERNEL_ARCH_H

/* the machine's header: struct trapframe, with functions to read and change it */
#include "arch_trap.h"

#include <quire/types.h>

#define ARCH_MAXCPUS 4u

struct thread;
struct vm_io;

/* The kernel's data of each CPU, written only by that CPU, with interrupts off. */
struct kcpu {
	struct thread *k_cur;   /* running */
	struct thread *k_idle;  /* runs when no other thread is runnable */
	struct thread *k_prev;  /* during a switch: the previous thread */
	unsigned k_id;          /* const */
	_Atomic bool k_resched; /* another thread should run as soon as possible */
};

/* ---- given by the machine ---- */
/* the running thread, read by one instruction: valid even if the thread moves to another CPU */
struct thread *arch_cur(void);
/* this CPU's data; the thread stays on this CPU only while interrupts or preemption are off */
struct kcpu *arch_kcpu(void);
struct kcpu *arch_kcpu_of(unsigned id);
unsigned arch_ncpus(void); /* that run */
bool arch_irq_off(void);   /* returns whether they were on */
void arch_irq_restore(bool on);
void arch_idle(void);  /* enables interrupts and waits for one */
void arch_relax(void); /* called in each round of a spin loop */
/*
 * The same for a long wait with interrupts on: *rounds counts rounds; after many rounds the CPU
 * sleeps until an interrupt.
 */
void arch_relax_long(unsigned *rounds);
void arch_wake_cpu(unsigned id); /* interrupts an idle CPU, or a CPU whose thread should yield */
/* from now on kernel_tick() is called KERNEL_HZ times a second on this CPU */
void arch_tick_start(void);
void arch_cpus_start(void); /* starts the other CPUs, which call kernel_cpu_main */
uint64_t arch_time_ns(void);
uint64_t arch_wall_time(void); /* seconds since 1970 */
/* random bits that an attacker does not know, if the machine has a source */
uint64_t arch_entropy(void);
void arch_putc(char);
int arch_getc(void);             /* -1: no character was typed */
unsigned arch_console_irq(void); /* the number of the console's interrupt, for arch_irq_attach */
_Noreturn void arch_poweroff(int status);
_Noreturn void arch_stop(void); /* for a panic: stops the other CPUs, too */
#define ARCH_CMDLINE_MAX 4096u  /* bytes, with the terminating 0 */
const char *arch_cmdline(void);
bool arch_cmdline_is_cut(void); /* the machine's command line was longer than ARCH_CMDLINE_MAX */
struct mach *arch_machine(void);
uint64_t arch_memory_pages(void);       /* usable frames, before vm_create: the holes are known */
void arch_boot_reserve(uint64_t bytes); /* enables mach_boot_alloc; its bytes become a hole */

/* Threads: registers that a switch saves in addition to the stack pointer. */
void switch_to(uint64_t *save_sp, uint64_t sp);
uint64_t arch_thread_stack(
    uint64_t top, void (*fn)(void *), void *arg); /* the first stack pointer of a kernel thread */
/* ... of a user thread, with its trapframe, that the caller fills, at *tf. */
uint64_t arch_user_stack(uint64_t top, struct trapframe **tf);
void arch_switch_out(struct thread *);
void arch_switch_in(struct thread *);
struct hat;
void arch_load_space(struct hat *); /* on this CPU; NULL: the kernel's own */
/*
 * flushes the instruction cache of every CPU that runs a program: a program has written
 * instructions
 */
void arch_flush_icache(void);
/* clears the floating point registers and the thread pointer */
void arch_user_init(struct thread *);
/* gives a new thread the running thread's registers of that kind */
void arch_user_copy(struct thread *to);

/* ---- devices that the machine found: MMIO registers at physical address ad_pa ---- */
struct arch_device {
	uint64_t ad_pa;
	unsigned ad_irq;
	volatile void *ad_regs;
};
unsigned arch_virtio_devices(struct arch_device *, unsigned max);
void arch_irq_attach(
    unsigned irq, void (*fn)(void *), void *arg); /* fn runs in the interrupt: interrupts are off */
/* physical address of a frame's direct address, for DMA */
uint64_t arch_phys(const void *kva);

/*
 * Approximate counts for TLBs: spaces loaded, flushes, CPUs interrupted for flushes, CPUs marked
 * stale instead.
 */
extern struct mmu_counters {
	uint64_t mc_loads, mc_flushes, mc_shot, mc_marked;
	uint64_t mc_traps; /* faults in which the kernel set a reference or modification bit */
} mmu_counters;

/* For tests: the hook is called first for every exception and does not return. NULL: no hook. */
extern void (*arch_trap_hook)(struct trapframe *);

/* ---- given by the kernel ---- */
#define KERNEL_HZ 250u
_Noreturn void kernel_main(void);
_Noreturn void kernel_cpu_main(void);
void kernel_tick(void);
/* called after an interrupt in the kernel, with interrupts off: may run another thread first */
void kernel_preempt(void);
void console_input(char);
/* Handles a fault at addr, of a program or of the kernel in its own space. Interrupts are on. False: the fault is a bug of the kernel. */
bool kernel_fault(struct trapframe *, vaddr_t addr, bool user, bool present, enum seg_rw);
/* Turns another exception of a user program into a signal. */
void kernel_exception(struct trapframe *, int sig, int code);
void syscall(struct trapframe *);
void trap_leave(struct trapframe *);
void thread_begin(void); /* called first by a new thread: ends the switch to it */
_Noreturn void thread_exit(void);
void kprintf(const char *, ...) __attribute__((format(printf, 1, 2)));
/*
 * Stops the machine for a reason that is no bug of the kernel, after one line. kpanic: for a bug;
 * also prints the stack frames.
 */
_Noreturn void kstop(const char *, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void kpanic(const char *, ...) __attribute__((format(printf, 1, 2)));
#define KASSERT(e) ((e) ? (void)0 : kpanic("%s:%d: %s", __FILE__, __LINE__, #e))
#endif
