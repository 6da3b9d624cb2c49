/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The conformance programs on the bare riscv64 machine: this file replaces the kernel's main. The
 * command line names the program to run: conform=mach or conform=hat; mmu=sv48 chooses Sv48. All
 * CPUs run: threads of mach_conform run on idle CPUs.
 *
 * A program's access (ph_touch) is made in user mode, by instructions of the page that user mode
 * may execute (USER_CODE), which is in every root: the page tables of hat/ alone decide what
 * becomes of it. The program returns by a breakpoint or by the fault itself. A read of the kernel's
 * own space is made in the kernel; its fault returns the same way.
 */
#include "machine/riscv64/cpu.h"

#include "kernel/core/thread.h"
#include "tests/machine/port_metal.h"

extern const char user_code[], touch_code[], call_code[];
__asm__(".section .user_code, \"a\"\n"
	"	.align 2\n"
	"touch_code:\n"
	"	bnez a1, 1f\n"
	"	lb a2, (a0)\n"
	"	ebreak\n"
	"1:	sb a2, (a0)\n"
	"	ebreak\n"
	"call_code:\n"
	"	ecall\n"
	".text\n"
	"	.align 2\n"
	"	.globl metal_text\n"
	"metal_text:\n"
	"	c.ebreak\n"
	"	c.ebreak\n");

#define CAUSE_BREAKPOINT 3u

static void *come_back[5];
static struct trapframe touched;

static void on_trap(struct trapframe *tf)
{
	touched = *tf;
	__builtin_longjmp(come_back, 1);
}

/*
 * The first user mode of this machine: the trap returns on a part of this stack that no other code
 * uses.
 */
static __attribute__((noinline)) void go_user_at(vaddr_t ip, vaddr_t va, bool write, uint8_t byte)
{
	struct cpu *c = this_cpu();
	register uint64_t a0 __asm__("a0") = va;
	register uint64_t a1 __asm__("a1") = write;
	register uint64_t a2 __asm__("a2") = byte;

	__asm__ volatile("addi t0, sp, -1024\n\t"
			 "andi t0, t0, -16\n\t"
			 "sd t0, 0(%0)\n\t" /* CPU_KSTACK */
			 "csrw sscratch, tp\n\t"
			 "csrw sepc, %1\n\t"
			 "li t0, 0x120\n\t" /* to user mode */
			 "csrc sstatus, t0\n\t"
			 "sret"
			 :
			 : "r"(c), "r"(ip), "r"(a0), "r"(a1), "r"(a2)
			 : "memory", "t0");
	__builtin_unreachable();
}

static void go_user(vaddr_t va, bool write, uint8_t byte)
{
	go_user_at(USER_CODE + (uint64_t)(touch_code - user_code), va, write, byte);
}

/* VM_RETRY: the access failed, and is allowed. */
static enum vm_err outcome(struct hat *hat, vaddr_t va, bool write)
{
	bool present, settled;

	if (touched.tf_cause == CAUSE_BREAKPOINT)
		return VM_OK;
	mmu_settle_fault(hat, va, write ? S_WRITE : S_READ, &present, &settled);
	if (settled)
		return VM_RETRY;
	return present ? VM_PROT : VM_NOMAP;
}

static enum vm_err port_touch(
    struct mach *m, struct hat *hat, vaddr_t va, bool write, uint8_t *byte)
{
	bool irq = arch_irq_off();
	struct cpu *c = this_cpu();
	uint64_t stack = c->cpu_kstack, sie = csr_read("sie");
	enum vm_err e;

	(void)m;
	csr_write("sie", 0); /* user mode is interrupted whatever the kernel's flag says */
	arch_load_space(hat);
	do {
		arch_trap_hook = on_trap;
		if (__builtin_setjmp(come_back) == 0)
			go_user(va, write, *byte);
		arch_trap_hook = NULL;
		c->cpu_kstack = stack;
		e = outcome(hat, va, write);
	} while (e == VM_RETRY);
	csr_write("sie", sie);
	arch_irq_restore(irq);
	if (e == VM_OK && !write)
		*byte = (uint8_t)touched.tf_x[X_A2];
	return e;
}

static enum vm_err port_kernel_read(struct mach *m, struct hat *hat, vaddr_t va, uint8_t *byte)
{
	bool irq = arch_irq_off(), present, settled;
	enum vm_err e = VM_OK;

	(void)m;
	arch_load_space(hat);
	do {
		arch_trap_hook = on_trap;
		touched.tf_cause = CAUSE_BREAKPOINT;
		if (__builtin_setjmp(come_back) == 0)
			*byte = *(volatile uint8_t *)(uintptr_t)va;
		arch_trap_hook = NULL;
		e = VM_OK;
		if (touched.tf_cause != CAUSE_BREAKPOINT) {
			mmu_settle_fault(
			    the_machine.m_hat.hs_kernel, va, S_READ, &present, &settled);
			e = settled ? VM_RETRY : present ? VM_PROT : VM_NOMAP;
		}
	} while (e == VM_RETRY);
	arch_irq_restore(irq);
	return e;
}

/* ---- forbidden accesses ---- */
/* Where the access failed only for want of a reference or modification bit, the bit is set now. */
static bool settled_access(struct hat *hat, vaddr_t va, enum seg_rw rw, bool user)
{
	bool present, settled;

	if (touched.tf_cause == CAUSE_BREAKPOINT || user != (va < the_machine.m_caps.mc_user_max))
		return false;
	mmu_settle_fault(user ? hat : the_machine.m_hat.hs_kernel, va, rw, &present, &settled);
	return settled;
}

bool metal_access(struct hat *hat, vaddr_t va, enum seg_rw rw, bool user)
{
	bool irq = arch_irq_off();
	struct cpu *c = this_cpu();
	uint64_t stack = c->cpu_kstack, sie = csr_read("sie");

	csr_write("sie", 0);
	arch_load_space(hat);
	do {
		arch_trap_hook = on_trap;
		touched.tf_cause = CAUSE_BREAKPOINT;
		if (__builtin_setjmp(come_back) == 0) {
			if (user && rw == S_EXEC)
				go_user_at(va, 0, false, 0);
			else if (user)
				go_user(va, rw == S_WRITE, 0x02);
			else
				metal_access_here(va, rw, 0x02);
		}
		arch_trap_hook = NULL;
		c->cpu_kstack = stack;
	} while (settled_access(hat, va, rw, user));
	csr_write("sie", sie);
	arch_irq_restore(irq);
	return touched.tf_cause == CAUSE_BREAKPOINT;
}

static vaddr_t read_next;

/* Runs in the kernel, on behalf of a program that entered it. */
static void on_entry(struct trapframe *tf)
{
	(void)tf;
	arch_trap_hook = on_trap;
	touched.tf_cause = CAUSE_BREAKPOINT;
	metal_access_here(read_next, S_READ, 0);
	__builtin_longjmp(come_back, 1);
}

/* A program of this machine has no flags that outlive its way into the kernel. */
bool metal_read_after(struct hat *hat, vaddr_t va, bool by_call)
{
	bool irq = arch_irq_off();
	struct cpu *c = this_cpu();
	uint64_t stack = c->cpu_kstack, sie = csr_read("sie");

	csr_write("sie", 0);
	arch_load_space(hat);
	read_next = va;
	arch_trap_hook = on_entry;
	if (__builtin_setjmp(come_back) == 0)
		go_user_at(USER_CODE + (uint64_t)((by_call ? call_code : touch_code) - user_code),
		    0, false, 0);
	arch_trap_hook = NULL;
	c->cpu_kstack = stack;
	csr_write("sie", sie);
	arch_irq_restore(irq);
	return touched.tf_cause == CAUSE_BREAKPOINT;
}

static void walk(const uint64_t *table, vaddr_t base, unsigned shift, unsigned top,
    void (*see)(vaddr_t, unsigned, bool))
{
	for (uint64_t i = 0; i < 512; i++) {
		uint64_t e = table[i];
		vaddr_t at = base + (i << shift);
		unsigned attr = (e & 2 ? PROT_R : 0) | (e & 4 ? PROT_W : 0) | (e & 8 ? PROT_X : 0);

		if ((e & 1) == 0)
			continue;
		if (shift == top && i >= 256)
			at |= ~0ull << (top + 9);
		if (attr != 0)
			see(at, attr, e & 0x10);
		else
			walk(direct_map(e >> 10 << VM_PAGESHIFT), at, shift - 9, top, see);
	}
}

void metal_foreach(void (*see)(vaddr_t, unsigned attr, bool user))
{
	unsigned top = satp_mode == SATP_SV48 ? 39 : 30;

	arch_load_space(NULL);
	walk(direct_map((csr_read("satp") & ((1ull << 44) - 1)) << VM_PAGESHIFT), 0, top, top, see);
}

void metal_fill_breakpoints(void *page)
{
	for (uint16_t *p = page; p < (uint16_t *)page + VM_PAGESIZE / 2; p++)
		*p = 0x9002;
}

void metal_prepare(void) {}

const struct port_harness port_harness = {
	.ph_name = "riscv64",
	.ph_create = metal_create,
	.ph_destroy = metal_destroy,
	.ph_run = metal_run,
	.ph_touch = port_touch,
	.ph_kernel_read = port_kernel_read,
};
