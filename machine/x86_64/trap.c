/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions and interrupts. Exceptions run with the interrupt state of what they interrupted; interrupts keep interrupts off,
 * take no lock of the core, and may end in another thread (kernel_preempt).
 */
#include "machine/x86_64/cpu.h"

#include "kernel/core/kernel.h"

#define PF_PRESENT 1u
#define PF_WRITE 2u
#define PF_USER 4u
#define PF_EXEC 16u
#define NIRQS 24u

void (*arch_trap_hook)(struct trapframe *);
static struct {
	void (*fn)(void *);
	void *arg;
} irqs[NIRQS];

void arch_irq_attach(unsigned irq, void (*fn)(void *), void *arg)
{
	if (irq >= NIRQS)
		kpanic("no interrupt %u", irq);
	irqs[irq].fn = fn;
	irqs[irq].arg = arg;
	ioapic_route(irq, VEC_IRQ + irq, irq != UART_IRQ);
	if (irq == UART_IRQ)
		outb(0x3f8 + 1, 1); /* the console interrupts when a character was typed */
}

static void handle_interrupt(struct trapframe *tf)
{
	unsigned vec = (unsigned)tf->tf_trap;

	if (vec == VEC_SHOOT) {
		mmu_shoot();
		mmu_leave_dead();
	} else if (vec == VEC_TIMER) {
		mmu_tick();
		kernel_tick();
	} else if (vec == VEC_WAKE) {
		arch_kcpu()->k_resched = true;
	} else if (vec >= VEC_IRQ && vec < VEC_IRQ + NIRQS && irqs[vec - VEC_IRQ].fn != NULL) {
		irqs[vec - VEC_IRQ].fn(irqs[vec - VEC_IRQ].arg);
	}
	if (vec != VEC_SPURIOUS)
		apic_eoi();
	if (!tf_is_user(tf))
		kernel_preempt();
}

static _Noreturn void die_of_trap(const struct trapframe *tf, const char *what)
{
	kprintf("%s at %lx: trap %lu error %lx cr2 %lx\n", what, tf->tf_rip, tf->tf_trap,
	    tf->tf_err, read_cr2());
	kprintf("rax %lx rbx %lx rcx %lx rdx %lx\nrsi %lx rdi %lx rbp %lx rsp %lx\n", tf->tf_rax,
	    tf->tf_rbx, tf->tf_rcx, tf->tf_rdx, tf->tf_rsi, tf->tf_rdi, tf->tf_rbp, tf->tf_rsp);
	for (void **fp = (void **)(uintptr_t)tf->tf_rbp;
	     (uintptr_t)fp > 0xffff800000000000u && fp[1] != NULL; fp = fp[0])
		kprintf("  %p\n", fp[1]);
	kpanic("%s", what);
}

static void page_fault(struct trapframe *tf)
{
	vaddr_t addr = read_cr2();
	bool user = tf_is_user(tf);
	enum seg_rw rw = tf->tf_err & PF_WRITE ? S_WRITE : S_READ;

	if (tf->tf_err & PF_EXEC)
		rw = S_EXEC;
	if (!user && (addr < KAS_MIN || addr >= KAS_MAX))
		die_of_trap(tf, "a fault in the kernel");
	if (tf->tf_rflags & 0x200)
		__asm__ volatile("sti");
	if (!kernel_fault(tf, addr, user, (tf->tf_err & PF_PRESENT) != 0, rw))
		die_of_trap(tf, "a fault in the kernel");
}

void trap(struct trapframe *tf)
{
	/* signal and code of each exception: SIGFPE 8, SIGTRAP 5, SIGILL 4, SIGSEGV 11, SIGBUS 7 */
	static const struct {
		uint8_t sig, code;
	} how[32] = {
		[0] = { 8, 1 },
		[1] = { 5, 2 },
		[3] = { 5, 1 },
		[4] = { 11, 128 },
		[5] = { 11, 128 },
		[6] = { 4, 2 },
		[7] = { 8, 7 },
		[11] = { 7, 128 },
		[12] = { 7, 128 },
		[13] = { 11, 128 },
		[16] = { 8, 7 },
		[17] = { 7, 1 },
		[19] = { 8, 7 },
	};

	if (tf->tf_trap < 32 && arch_trap_hook != NULL)
		arch_trap_hook(tf); /* does not return */
	if (tf->tf_trap >= 32) {
		handle_interrupt(tf);
		return;
	}
	if (tf->tf_trap == 14) {
		page_fault(tf);
		return;
	}
	if (tf->tf_trap == 8)
		die_of_trap(tf, "a double fault: the kernel's stack is at its end");
	if (!tf_is_user(tf) || how[tf->tf_trap].sig == 0)
		die_of_trap(tf, "an exception in the kernel");
	__asm__ volatile("sti");
	kernel_exception(tf, how[tf->tf_trap].sig, how[tf->tf_trap].code);
}
