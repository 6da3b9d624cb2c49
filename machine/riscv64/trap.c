/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions and interrupts. Exceptions run with the interrupt state of what they interrupted; interrupts keep interrupts off,
 * take no lock of the core, and may end in another thread (kernel_preempt).
 */
#include "machine/riscv64/cpu.h"

#include "kernel/core/kernel.h"

#define CAUSE_ECALL 8u
#define CAUSE_FETCH_PAGE 12u
#define CAUSE_LOAD_PAGE 13u
#define CAUSE_STORE_PAGE 15u
#define NCAUSES 16u
#define IRQ_SOFT 1u
#define IRQ_TIMER 5u
#define IRQ_EXTERNAL 9u

void (*arch_trap_hook)(struct trapframe *);
void trap(struct trapframe *);
_Noreturn void trap_overflow(struct trapframe *);

static void handle_interrupt(struct trapframe *tf)
{
	unsigned irq = (unsigned)(tf->tf_cause & 63);

	if (irq == IRQ_SOFT) {
		csr_clear("sip", SIE_SOFT);
		mmu_soft_interrupt();
		if (__atomic_exchange_n(
			(bool *)(void *)&this_cpu()->cpu_wake, false, __ATOMIC_SEQ_CST))
			arch_kcpu()->k_resched = true;
	} else if (irq == IRQ_TIMER) {
		timer_next();
		mmu_tick();
		kernel_tick();
	} else if (irq == IRQ_EXTERNAL) {
		irq_external();
	}
	if (!tf_is_user(tf))
		kernel_preempt();
}

static _Noreturn void die_of_trap(const struct trapframe *tf, const char *what)
{
	const uint64_t *x = tf->tf_x;

	kprintf("%s at %lx: cause %lx address %lx status %lx\n", what, tf->tf_pc, tf->tf_cause,
	    tf->tf_addr, tf->tf_status);
	for (unsigned i = 1; i < 32; i++)
		kprintf("x%u %lx%s", i, x[i], i % 4 == 3 ? "\n" : " ");
	kprintf("  %lx\n", x[X_RA]);
	for (const uint64_t *fp = (const uint64_t *)(uintptr_t)x[8];
	     (uintptr_t)fp > DIRECT_BASE && ((uintptr_t)fp & 7) == 0 && fp[-1] != 0;
	     fp = (const uint64_t *)(uintptr_t)fp[-2])
		kprintf("  %lx\n", fp[-1]);
	kpanic("%s", what);
}

void trap_overflow(struct trapframe *tf) { die_of_trap(tf, "the kernel's stack is at its end"); }

static void handle_page_fault(struct trapframe *tf, enum seg_rw rw)
{
	const struct mach_caps *caps = &the_machine.m_caps;
	vaddr_t addr = tf->tf_addr;
	bool user = tf_is_user(tf), present = false, settled = false;

	if (!user && (addr < caps->mc_kernel_min || addr >= caps->mc_kernel_max))
		die_of_trap(tf, "a fault in the kernel");
	if (tf->tf_status & STATUS_SPIE)
		csr_set("sstatus", STATUS_SIE);
	mmu_settle_fault(
	    user ? arch_cur()->t_hat : the_machine.m_hat.hs_kernel, addr, rw, &present, &settled);
	if (!settled && !kernel_fault(tf, addr, user, present, rw))
		die_of_trap(tf, "a fault in the kernel");
}

void trap(struct trapframe *tf)
{
	/* signal and code of each exception: SIGFPE 8, SIGTRAP 5, SIGILL 4, SIGSEGV 11, SIGBUS 7 */
	static const struct {
		uint8_t sig, code;
	} how[NCAUSES] = {
		[0] = { 7, 1 },
		[1] = { 11, 2 },
		[2] = { 4, 1 },
		[3] = { 5, 1 },
		[4] = { 7, 1 },
		[5] = { 11, 2 },
		[6] = { 7, 1 },
		[7] = { 11, 2 },
	};

	if (tf->tf_cause & CAUSE_INTERRUPT) {
		handle_interrupt(tf);
		return;
	}
	if (arch_trap_hook != NULL)
		arch_trap_hook(tf); /* does not return */
	switch (tf->tf_cause) {
	case CAUSE_FETCH_PAGE: handle_page_fault(tf, S_EXEC); return;
	case CAUSE_LOAD_PAGE: handle_page_fault(tf, S_READ); return;
	case CAUSE_STORE_PAGE: handle_page_fault(tf, S_WRITE); return;
	default: break;
	}
	if (!tf_is_user(tf) || tf->tf_cause >= NCAUSES)
		die_of_trap(tf, "an exception in the kernel");
	csr_set("sstatus", STATUS_SIE);
	if (tf->tf_cause == CAUSE_ECALL) {
		tf->tf_pc += 4;
		syscall(tf);
		return;
	}
	if (how[tf->tf_cause].sig == 0)
		die_of_trap(tf, "an exception that is not known");
	kernel_exception(tf, how[tf->tf_cause].sig, how[tf->tf_cause].code);
}
