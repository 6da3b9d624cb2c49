/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The conformance programs on the bare x86-64 machine.
 *
 * A program's access (ph_touch) is made in user mode, by four instructions on a page that user mode may execute at TOUCH, in the
 * machine's half of every root: the page tables of hat/ alone decide what becomes of it. It comes back by a breakpoint or by
 * the fault itself. A read of the kernel's own space is made in the kernel; its fault comes back the same way.
 */
#include "machine/x86_64/cpu.h"

#include "tests/machine/port_metal.h"

#define TOUCH 0xfffffe8000000000ull
#define P_U_A 0x25ull /* present, user, accessed: read and execute */

/* ---- accesses ---- */
__asm__(".section .rodata\n"
	"	.align 4096\n"
	"touch_code:\n"
	"	test %esi, %esi\n"
	"	jnz 1f\n"
	"	mov (%rdi), %al\n"
	"	int3\n"
	"1:	mov %al, (%rdi)\n"
	"	int3\n"
	"	.align 4096\n"
	".text\n");
extern const char touch_code[];

static void *come_back[5];
static enum vm_err touched;
static uint8_t touched_byte;

static void on_trap(struct trapframe *tf)
{
	touched = tf->tf_trap == 3 ? VM_OK : tf->tf_err & 1 ? VM_PROT : VM_NOMAP;
	touched_byte = (uint8_t)tf->tf_rax;
	__builtin_longjmp(come_back, 1);
}

/* The first user mode of this machine: interrupts stay off, so nothing else uses the stack that the trap comes back on. */
static __attribute__((noinline)) void go_user(vaddr_t va, bool write, uint8_t byte)
{
	struct cpu *c = this_cpu();
	uint64_t sp;

	__asm__ volatile("mov %%rsp, %0" : "=r"(sp));
	c->cpu_tss.rsp[0] = (sp - 1024) & ~15ull;
	__asm__ volatile(
	    "push $0x1b\n\tpush $0\n\tpush $2\n\tpush $0x23\n\tpush %0\n\tswapgs\n\tiretq"
	    :
	    : "r"(TOUCH), "D"(va), "S"(write), "a"(byte)
	    : "memory");
	__builtin_unreachable();
}

static enum vm_err port_touch(
    struct mach *m, struct hat *hat, vaddr_t va, bool write, uint8_t *byte)
{
	bool irq = arch_irq_off();

	(void)m;
	arch_load_space(hat);
	arch_trap_hook = on_trap;
	if (__builtin_setjmp(come_back) == 0)
		go_user(va, write, *byte);
	arch_trap_hook = NULL;
	arch_irq_restore(irq);
	if (touched == VM_OK && !write)
		*byte = touched_byte;
	return touched;
}

static enum vm_err port_kernel_read(struct mach *m, struct hat *hat, vaddr_t va, uint8_t *byte)
{
	bool irq = arch_irq_off();

	(void)m;
	arch_load_space(hat);
	arch_trap_hook = on_trap;
	touched = VM_OK;
	if (__builtin_setjmp(come_back) == 0)
		*byte = *(volatile uint8_t *)(uintptr_t)va;
	arch_trap_hook = NULL;
	arch_irq_restore(irq);
	return touched;
}

/* ---- the machine ---- */
void metal_prepare(void)
{
	static uint64_t pdpt[512] __attribute__((aligned(4096))),
	    pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));
	uint64_t *root = mach_frame_kva(&the_machine, (pfn_t)(the_machine.m_root >> VM_PAGESHIFT));

	root[TOUCH >> 39 & 511] = arch_phys(pdpt) | 7;
	pdpt[TOUCH >> 30 & 511] = arch_phys(pd) | 7;
	pd[TOUCH >> 21 & 511] = arch_phys(pt) | 7;
	pt[TOUCH >> 12 & 511] = arch_phys(touch_code) | P_U_A;
}

const struct port_harness port_harness = {
	.ph_name = "x86_64",
	.ph_create = metal_create,
	.ph_destroy = metal_destroy,
	.ph_run = metal_run,
	.ph_touch = port_touch,
	.ph_kernel_read = port_kernel_read,
};
