/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The seam between the kernel (kernel/) and a bare machine (machine/x86_64, machine/riscv64). Down: what the machine gives
 * beside machine.h's frames and mmu.h. Up: what the machine calls. machine.h's locks, threads and clock are kernel/core's,
 * on top of this.
 */
#ifndef QUIRE_KERNEL_ARCH_H
#define QUIRE_KERNEL_ARCH_H

#include "arch_trap.h" /* the machine's: struct trapframe, and reading and changing it */

#include <quire/types.h>

#define ARCH_MAXCPUS 4u

struct thread;
struct vm_io;

/* What the kernel has for each CPU. Its own: written by that CPU with interrupts off. */
struct kcpu {
	struct thread *k_cur;   /* running */
	struct thread *k_idle;  /* runs when nothing else does */
	struct thread *k_prev;  /* during a switch: the one that ran */
	unsigned k_id;          /* const */
	_Atomic bool k_resched; /* another thread should run: at the next chance */
};

/* ---- given by the machine ---- */
struct thread *arch_cur(
    void); /* the running thread, by one instruction: right whatever CPU it is on by then */
struct kcpu *arch_kcpu(void); /* this CPU's; stays so only with interrupts or preemption off */
struct kcpu *arch_kcpu_of(unsigned id);
unsigned arch_ncpus(void); /* that run */
bool arch_irq_off(void);   /* returns whether they were on */
void arch_irq_restore(bool on);
void arch_idle(void);  /* interrupts on, until one comes */
void arch_relax(void); /* in a loop that spins */
/* The same where interrupts are on and the wait may be long: rounds counts; after many the CPU sleeps until an interrupt. */
void arch_relax_long(unsigned *rounds);
void arch_wake_cpu(
    unsigned id);           /* an interrupt for an idle CPU, or one whose thread should yield */
void arch_tick_start(void); /* kernel_tick() from now on, KERNEL_HZ times a second, on this CPU */
void arch_cpus_start(void); /* the other CPUs come up and call kernel_cpu_main */
uint64_t arch_time_ns(void);
uint64_t arch_wall_time(void); /* seconds since 1970 */
uint64_t arch_entropy(void); /* some bits that an attacker does not know, if the machine has any */
void arch_putc(char);
int arch_getc(void);             /* -1: nothing was typed */
unsigned arch_console_irq(void); /* the number of the console's interrupt, for arch_irq_attach */
_Noreturn void arch_poweroff(int status);
_Noreturn void arch_stop(void); /* a panic: other CPUs stop, too */
#define ARCH_CMDLINE_MAX 4096u  /* bytes, with the 0 */
const char *arch_cmdline(void);
bool arch_cmdline_is_cut(void); /* the machine's command line was longer than ARCH_CMDLINE_MAX */
struct mach *arch_machine(void);
uint64_t arch_memory_pages(void); /* usable frames, before vm_create: the holes are known */
void arch_boot_reserve(
    uint64_t bytes); /* mach_boot_alloc gives from now on; these bytes become a hole */

/* Threads: registers that a switch keeps beside the stack pointer. */
void switch_to(uint64_t *save_sp, uint64_t sp);
uint64_t arch_thread_stack(
    uint64_t top, void (*fn)(void *), void *arg); /* the first stack pointer of a kernel thread */
/* ... of a user thread, with its trapframe, that the caller fills, at *tf. */
uint64_t arch_user_stack(uint64_t top, struct trapframe **tf);
void arch_switch_out(struct thread *);
void arch_switch_in(struct thread *);
struct hat;
void arch_load_space(struct hat *); /* on this CPU; NULL: the kernel's own */
void arch_flush_icache(
    void); /* of every CPU that runs a program: it has written instructions itself */
void arch_user_init(struct thread *); /* empty floating point registers, no thread pointer */
void arch_user_copy(struct thread *to, const struct thread *from);

/* ---- devices that the machine found: MMIO registers at physical address ad_pa ---- */
struct arch_device {
	uint64_t ad_pa;
	unsigned ad_irq;
	volatile void *ad_regs;
};
unsigned arch_virtio_devices(struct arch_device *, unsigned max);
void arch_irq_attach(
    unsigned irq, void (*fn)(void *), void *arg); /* fn runs in the interrupt: interrupts are off */
uint64_t arch_phys(const void *kva);              /* of a frame's direct address: for DMA */

/* Of TLBs, about: spaces loaded, flushes, CPUs interrupted for them, CPUs left a mark instead. */
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
void kernel_preempt(
    void); /* after an interrupt in the kernel, interrupts off: maybe another thread runs first */
void console_input(char);
/* A fault at addr: of the user's, or of the kernel's in its own space. Interrupts are on. False: the kernel's, and a bug. */
bool kernel_fault(struct trapframe *, vaddr_t addr, bool user, bool present, enum seg_rw);
/* Another exception of a user program: as signal. */
void kernel_exception(struct trapframe *, int sig, int code);
void syscall(struct trapframe *);
void trap_leave(struct trapframe *);
void thread_begin(void); /* first thing a new thread does: the switch to it is over */
_Noreturn void thread_exit(void);
void kprintf(const char *, ...) __attribute__((format(printf, 1, 2)));
/* The machine stops for a reason that is no fault of the kernel's: one line says it. kpanic: a fault; the frames are printed, too. */
_Noreturn void kstop(const char *, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void kpanic(const char *, ...) __attribute__((format(printf, 1, 2)));
#define KASSERT(e) ((e) ? (void)0 : kpanic("%s:%d: %s", __FILE__, __LINE__, #e))
#endif
