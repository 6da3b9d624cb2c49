/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The conformance programs on the bare x86-64 machine: this file stands in the place of the kernel's main. The command line
 * says which one runs: conform=mach or conform=hat.
 *
 * A program's access (ph_touch) is made in user mode, by four instructions on a page that user mode may execute at TOUCH, in the
 * machine's half of every root: the page tables of hat/ alone decide what becomes of it. It comes back by a breakpoint or by
 * the fault itself. A read of the kernel's own space is made in the kernel; its fault comes back the same way.
 */
#include "machine/x86_64/cpu.h"

#include "kernel/core/thread.h"
#include "tests/machine/port_harness.h"

#include <quire/as.h>
#include <quire/hat.h>
#include <quire/vm.h>

#include "shim.h"

#define TOUCH 0xfffffe8000000000ull
#define DEVICE_FRAMES 16u
#define P_U_A 0x25ull /* present, user, accessed: read and execute */

int mach_conform_main(void);
int hat_conform_main(int argc, char **argv);
bool cmdline_get(const char *name, char *value, size_t room);

static struct thread boot_thread[ARCH_MAXCPUS];

/* ---- a little C library ---- */
int kvsnprintf(char *, size_t, const char *, __builtin_va_list);

static int vsay(const char *f, __builtin_va_list ap)
{
	char line[256];
	int n = kvsnprintf(line, sizeof(line), f, ap);

	kprintf("%s", line);
	return n;
}

int fprintf(FILE *to, const char *f, ...)
{
	__builtin_va_list ap;
	int n;

	(void)to;
	__builtin_va_start(ap, f);
	n = vsay(f, ap);
	__builtin_va_end(ap);
	return n;
}

int printf(const char *f, ...)
{
	__builtin_va_list ap;
	int n;

	__builtin_va_start(ap, f);
	n = vsay(f, ap);
	__builtin_va_end(ap);
	return n;
}

void exit(int status) { arch_poweroff(status); }
void abort(void) { arch_poweroff(3); }

/* ---- what this kernel has not ---- */
bool stacks_ready(void) { return false; }
bool stack_alloc(vaddr_t *va)
{
	(void)va;
	return false;
}
void stack_free(vaddr_t va) { (void)va; }
void *kzalloc(size_t n)
{
	(void)n;
	return NULL;
}
void kfree(void *p, size_t n) { (void)p, (void)n; }
bool thread_has_signal(struct thread *t)
{
	(void)t;
	return false;
}
void syscall(struct trapframe *tf)
{
	(void)tf;
	kpanic("a system call");
}
bool kernel_fault(struct trapframe *tf, vaddr_t addr, bool user, bool present, enum seg_rw rw)
{
	(void)tf, (void)addr, (void)user, (void)present, (void)rw;
	return false;
}
void kernel_exception(struct trapframe *tf, int sig, int code)
{
	kpanic("signal %d code %d at %lx", sig, code, tf_ip(tf));
}
void trap_leave(struct trapframe *tf) { (void)tf; }
void kernel_cpu_main(void) { kpanic("another processor"); }

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
static void map_touch(void)
{
	static uint64_t pdpt[512] __attribute__((aligned(4096))),
	    pd[512] __attribute__((aligned(4096))), pt[512] __attribute__((aligned(4096)));
	uint64_t *root = mach_frame_kva(&the_machine, (pfn_t)(the_machine.m_root >> VM_PAGESHIFT));

	root[TOUCH >> 39 & 511] = arch_phys(pdpt) | 7;
	pdpt[TOUCH >> 30 & 511] = arch_phys(pd) | 7;
	pd[TOUCH >> 21 & 511] = arch_phys(pt) | 7;
	pt[TOUCH >> 12 & 511] = arch_phys(touch_code) | P_U_A;
}

static struct mach *port_create(pfn_t frames)
{
	struct vm_config vc = { .vc_frames = frames };

	map_touch();
	the_machine.m_caps.mc_nframes -= DEVICE_FRAMES; /* they are a device's from now on */
	arch_boot_reserve(vm_boot_bytes(&vc, mach_caps(&the_machine)) + 65536);
	return arch_memory_pages() >= frames ? &the_machine : NULL;
}

static void port_destroy(struct mach *m) { (void)m; }

static void port_run(struct mach *m, void (*fn)(void *), void *arg)
{
	(void)m;
	fn(arg);
}

const struct port_harness port_harness = {
	.ph_name = "x86_64",
	.ph_create = port_create,
	.ph_destroy = port_destroy,
	.ph_run = port_run,
	.ph_touch = port_touch,
	.ph_kernel_read = port_kernel_read,
};

static void run(void *arg)
{
	char *args[] = { arg, NULL };

	arch_poweroff(strcmp(arg, "hat") == 0 ? hat_conform_main(1, args) : mach_conform_main());
}

void kernel_main(void)
{
	static char what[16];
	struct kcpu *k = arch_kcpu();

	thread_boot(&boot_thread[0], 0, 0);
	k->k_idle = k->k_cur;
	arch_tick_start();
	if (!cmdline_get("conform", what, sizeof(what)))
		kpanic("conform=mach or conform=hat");
	thread_go(thread_new(run, what, "conform"));
	for (;;) {
		(void)arch_irq_off();
		if (k->k_resched)
			thread_yield();
		else
			arch_idle();
	}
}
