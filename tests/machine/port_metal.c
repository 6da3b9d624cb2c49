/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The conformance programs on a bare machine: this file replaces the kernel's main. The command
 * line names the program to run: conform=mach, conform=hat or conform=protect. All CPUs run;
 * threads of mach_conform run on idle CPUs, and flushes of hat_conform interrupt all affected CPUs.
 */
#include "tests/machine/port_metal.h"

#include <quire/as.h>
#include <quire/vm.h>

#include "cpu.h"
#include "shim.h"

#define DEVICE_FRAMES 16u

int mach_conform_main(void);
int hat_conform_main(int argc, char **argv);
int protect_main(void);
bool cmdline_get(const char *name, char *value, size_t room);

static struct thread boot_thread[ARCH_MAXCPUS];
static uint8_t cpu_stacks[ARCH_MAXCPUS][STACK_BYTES] __attribute__((aligned(16)));
static unsigned nstacks;

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

/* ---- stubs for parts of the kernel that are missing here ---- */
bool stacks_ready(void) { return false; }
bool stack_alloc(vaddr_t *va) /* of another processor */
{
	*va = (vaddr_t)(uintptr_t)cpu_stacks[nstacks++];
	return true;
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
	if (arch_trap_hook != NULL)
		arch_trap_hook(tf); /* does not return */
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
/* ---- the machine ---- */
struct mach *metal_create(pfn_t frames)
{
	struct mach *m = arch_machine();
	struct vm_config vc = { .vc_frames = frames };

	metal_prepare();
	/* the last frames are a device's from now on */
	((struct mach_caps *)(uintptr_t)mach_caps(m))->mc_nframes -= DEVICE_FRAMES;
	arch_boot_reserve(vm_boot_bytes(&vc, mach_caps(m)) + 65536);
	return arch_memory_pages() >= frames ? m : NULL;
}

void metal_destroy(struct mach *m) { (void)m; }

void metal_run(struct mach *m, void (*fn)(void *), void *arg)
{
	(void)m;
	fn(arg);
}

/* ---- accesses ---- */
__attribute__((noinline)) void metal_access_here(vaddr_t va, enum seg_rw rw, uint8_t byte)
{
	volatile uint8_t *p = (volatile uint8_t *)(uintptr_t)va;

	if (rw == S_EXEC)
		((void (*)(void))(uintptr_t)va)();
	else if (rw == S_WRITE)
		*p = byte;
	else
		(void)*p;
}

vaddr_t metal_direct(const void *p) { return (vaddr_t)(uintptr_t)direct_map(image_pa(p)); }

/* ---- running ---- */
static _Noreturn void idle_loop(void)
{
	struct kcpu *k = arch_kcpu();

	arch_tick_start();
	for (;;) {
		(void)arch_irq_off();
		if (k->k_resched) {
			thread_yield();
			arch_irq_restore(true);
			continue;
		}
		arch_idle();
	}
}

static void become_idle(void)
{
	struct kcpu *k = arch_kcpu();

	thread_boot(&boot_thread[k->k_id], 0, 0);
	k->k_idle = k->k_cur;
}

void kernel_cpu_main(void)
{
	become_idle();
	idle_loop();
}

static int run_named(char *name)
{
	char *args[] = { name, NULL };

	if (strcmp(name, "hat") == 0)
		return hat_conform_main(1, args);
	return strcmp(name, "protect") == 0 ? protect_main() : mach_conform_main();
}

static void run_program(void *arg)
{
	int status;

	arch_cpus_start();
	printf("%s: conform=%s on %u CPUs\n", mach_caps(arch_machine())->mc_name, (char *)arg,
	    arch_ncpus());
	status = run_named(arg);
	printf("reference and modification bits set by trap: %s\n",
	    mmu_counters.mc_traps > 0 ? "yes" : "no");
	arch_poweroff(status);
}

void kernel_main(void)
{
	static char what[16];

	become_idle();
	if (!cmdline_get("conform", what, sizeof(what)))
		kpanic("conform=mach, conform=hat or conform=protect");
	thread_go(thread_new(run_program, what, "conform"));
	idle_loop();
}
