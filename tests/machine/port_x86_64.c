/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The conformance programs on the bare x86-64 machine.
 *
 * A program's access (ph_touch) is made in user mode, by four instructions on a page that user mode
 * may execute at TOUCH, in the machine's half of every root: the page tables of hat/ alone decide
 * what becomes of it. The program returns by a breakpoint or by the fault itself. A read of the
 * kernel's own space is made in the kernel; its fault returns the same way.
 */
#include "machine/x86_64/cpu.h"

#include "tests/machine/port_metal.h"

#include <string.h>

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
	"call_code:\n"
	"	syscall\n"
	"	.align 4096\n"
	".text\n"
	"	.globl metal_text\n"
	"metal_text:\n"
	"	int3\n");
extern const char touch_code[], call_code[];
/*
 * all flags that a program can set, except the trap flag: arithmetic, direction, nested task, AC,
 * ID
 */
#define RFLAGS_PROGRAM 0x240cd7ull

static void *come_back[5];
static enum vm_err touched;
static uint8_t touched_byte;

static void on_trap(struct trapframe *tf)
{
	touched = tf->tf_trap == 3 ? VM_OK : tf->tf_err & 1 ? VM_PROT : VM_NOMAP;
	touched_byte = (uint8_t)tf->tf_rax;
	__builtin_longjmp(come_back, 1);
}

/*
 * The first user mode of this machine: interrupts stay off, so no other code uses the stack on
 * which the trap returns.
 */
static __attribute__((noinline)) void go_user_at(
    vaddr_t ip, uint64_t flags, vaddr_t va, bool write, uint8_t byte)
{
	struct cpu *c = this_cpu();
	uint64_t sp;

	__asm__ volatile("mov %%rsp, %0" : "=r"(sp));
	c->cpu_kstack = c->cpu_tss.rsp[0] = (sp - 1024) & ~15ull;
	__asm__ volatile(
	    "push $0x1b\n\tpush $0\n\tpush %1\n\tpush $0x23\n\tpush %0\n\tswapgs\n\tiretq"
	    :
	    : "r"(ip), "r"(flags), "D"(va), "S"(write), "a"(byte)
	    : "memory");
	__builtin_unreachable();
}

static void go_user(vaddr_t va, bool write, uint8_t byte) { go_user_at(TOUCH, 2, va, write, byte); }

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

/* ---- forbidden accesses ---- */
bool metal_access(struct hat *hat, vaddr_t va, enum seg_rw rw, bool user)
{
	bool irq = arch_irq_off();
	uint64_t stack = this_cpu()->cpu_kstack;

	arch_load_space(hat);
	arch_trap_hook = on_trap;
	touched = VM_OK;
	if (__builtin_setjmp(come_back) == 0) {
		if (user && rw == S_EXEC)
			go_user_at(va, 2, 0, false, 0);
		else if (user)
			go_user(va, rw == S_WRITE, 0xcc);
		else
			metal_access_here(va, rw, 0xcc);
	}
	arch_trap_hook = NULL;
	this_cpu()->cpu_kstack = stack;
	arch_irq_restore(irq);
	return touched == VM_OK;
}

static vaddr_t read_next;

/* Runs in the kernel, on behalf of a program that entered it. */
static void on_entry(struct trapframe *tf)
{
	(void)tf;
	(void)arch_irq_off();
	arch_trap_hook = on_trap;
	touched = VM_OK;
	metal_access_here(read_next, S_READ, 0);
	__builtin_longjmp(come_back, 1);
}

bool metal_read_after(struct hat *hat, vaddr_t va, bool by_call)
{
	bool irq = arch_irq_off();
	uint64_t stack = this_cpu()->cpu_kstack;

	arch_load_space(hat);
	read_next = va;
	arch_trap_hook = on_entry;
	if (__builtin_setjmp(come_back) == 0)
		go_user_at(TOUCH + (by_call ? (uint64_t)(call_code - touch_code) : 0),
		    RFLAGS_PROGRAM, 0, false, 0);
	arch_trap_hook = NULL;
	this_cpu()->cpu_kstack = stack;
	__asm__ volatile("cld\n\tpush $2\n\tpopfq"
			 :
			 :
			 : "memory", "cc"); /* the test's exit status does not depend on this */
	arch_irq_restore(irq);
	return touched == VM_OK;
}

/* attr: the rights of the levels above. */
static void walk(const uint64_t *table, vaddr_t base, unsigned shift, unsigned attr, bool user,
    void (*see)(vaddr_t, unsigned, bool))
{
	for (uint64_t i = 0; i < 512; i++) {
		uint64_t e = table[i];
		vaddr_t at = base + (i << shift);
		unsigned here = PROT_R | (e & 2 ? PROT_W : 0) | (e >> 63 ? 0 : PROT_X);

		if ((e & 1) == 0)
			continue;
		if (shift == 39 && i >= 256)
			at |= 0xffff000000000000ull;
		if (shift == 12 || (e & 0x80))
			see(at, attr & here, user && (e & 4));
		else
			walk(mach_frame_kva(&the_machine, (pfn_t)((e & 0xffffffffff000ull) >> 12)),
			    at, shift - 9, attr & here, user && (e & 4), see);
	}
}

void metal_foreach(void (*see)(vaddr_t, unsigned attr, bool user))
{
	arch_load_space(NULL);
	walk(mach_frame_kva(&the_machine, (pfn_t)(read_cr3() >> VM_PAGESHIFT)), 0, 39,
	    PROT_R | PROT_W | PROT_X, true, see);
}

void metal_fill_breakpoints(void *page) { memset(page, 0xcc, VM_PAGESIZE); }

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
