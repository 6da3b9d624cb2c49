/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying and zeroing of frames, and the small parts of kernel/core/arch.h: interrupts, clock, console, switching off, threads.
 *
 * Floating point registers are loaded when a thread of a program is switched to, and saved when the
 * CPU switches from a thread that has changed them (sstatus.FS is dirty).
 */
#include "machine/riscv64/cpu.h"

#include "kernel/core/kernel.h"

static uint64_t time_start, time_mult; /* const after clock_init: ns = ticks * mult >> 32 */
static uint64_t tick_interval;         /* const after clock_init: in ticks of the clock */
static bool has_stimecmp;              /* const after clock_init */

/* ---- frames ---- */
void mach_frame_zero(struct mach *m, pfn_t pfn) { memset(mach_frame_kva(m, pfn), 0, VM_PAGESIZE); }

void mach_frame_copy(struct mach *m, pfn_t dst, pfn_t src)
{
	memcpy(mach_frame_kva(m, dst), mach_frame_kva(m, src), VM_PAGESIZE);
}

/* ---- the CPU ---- */
struct thread *arch_cur(void)
{
	struct thread *t;

	__asm__ volatile("ld %0, %1(tp)" : "=r"(t) : "i"(offsetof(struct cpu, cpu_k.k_cur)));
	return t;
}

struct kcpu *arch_kcpu(void) { return &this_cpu()->cpu_k; }
struct kcpu *arch_kcpu_of(unsigned id) { return &cpus[id].cpu_k; }

bool arch_irq_off(void)
{
	uint64_t status;

	__asm__ volatile("csrrci %0, sstatus, %1" : "=r"(status) : "i"(STATUS_SIE) : "memory");
	return (status & STATUS_SIE) != 0;
}

void arch_irq_restore(bool on)
{
	if (on)
		csr_set("sstatus", STATUS_SIE);
}

/*
 * WFI continues when an interrupt is pending, even if interrupts are off: no interrupt is lost
 * between a check and the sleep.
 */
void arch_idle(void)
{
	__asm__ volatile("wfi" : : : "memory");
	csr_set("sstatus", STATUS_SIE);
}

void arch_relax(void)
{
	__asm__ volatile(".insn i 0x0f, 0, x0, x0, 0x010" : : : "memory"); /* PAUSE */
}

/*
 * A CPU that is a thread of an emulator, and that spins, keeps the CPUs for which it waits from
 * running. So it sleeps, for a tick at most.
 */
#define SPINS 2000u
void arch_relax_long(unsigned *rounds)
{
	arch_relax();
	if (++*rounds % SPINS == 0 && (csr_read("sstatus") & STATUS_SIE))
		__asm__ volatile("wfi" : : : "memory");
}

void arch_wake_cpu(unsigned id)
{
	__atomic_store_n((bool *)(void *)&cpus[id].cpu_wake, true, __ATOMIC_SEQ_CST);
	send_ipi(&cpus[id]);
}

/* ---- time ---- */
void clock_init(void)
{
	time_start = read_time();
	time_mult = (1000000000ull << 32) / devices.dv_timebase;
	tick_interval = devices.dv_timebase / KERNEL_HZ;
	has_stimecmp = devices.dv_sstc && probe_stimecmp();
}

uint64_t arch_time_ns(void)
{
	return (uint64_t)((unsigned __int128)(read_time() - time_start) * time_mult >> 32);
}

static void timer_at(uint64_t when)
{
	if (has_stimecmp)
		csr_write(CSR_STIMECMP, when);
	else
		(void)call_firmware(SBI_TIME, 0, when, 0, 0);
}

/* Sets the next tick; missed ticks are not made up for. */
void timer_next(void)
{
	struct cpu *c = this_cpu();
	uint64_t now = read_time();

	c->cpu_next += tick_interval;
	if (c->cpu_next <= now)
		c->cpu_next = now + tick_interval;
	timer_at(c->cpu_next);
}

void arch_tick_start(void)
{
	this_cpu()->cpu_next = read_time();
	timer_next();
}

uint64_t arch_wall_time(void)
{
	uint64_t low;

	if (devices.dv_rtc == 0)
		return 0;
	low = mmio_get(devices.dv_rtc); /* reading the low half latches the high half */
	return (low | (uint64_t)mmio_get(devices.dv_rtc + 4) << 32) / 1000000000;
}

uint64_t arch_entropy(void) { return devices.dv_entropy ^ read_time() << 20; }

/* ---- devices' interrupts: the PLIC hands them to the boot CPU ---- */
#define NIRQS 128u
#define PLIC_PRIORITY(irq) (devices.dv_plic + 4 * (irq))
#define PLIC_ENABLE(irq)                                                                           \
	(devices.dv_plic + 0x2000 + 0x80 * devices.dv_plic_context + (irq) / 32 * 4)
#define PLIC_THRESHOLD (devices.dv_plic + 0x200000 + 0x1000 * devices.dv_plic_context)
#define PLIC_CLAIM (PLIC_THRESHOLD + 4)

static struct {
	void (*fn)(void *);
	void *arg;
} irqs[NIRQS];

void irq_init(void)
{
	if (devices.dv_plic == 0)
		kpanic("no PLIC");
	for (unsigned irq = 1; irq < NIRQS; irq += 32)
		mmio_set(PLIC_ENABLE(irq), 0);
	mmio_set(PLIC_THRESHOLD, 0);
}

void arch_irq_attach(unsigned irq, void (*fn)(void *), void *arg)
{
	if (irq == 0 || irq >= NIRQS)
		kpanic("no interrupt %u", irq);
	irqs[irq].fn = fn;
	irqs[irq].arg = arg;
	mmio_set(PLIC_PRIORITY(irq), 1);
	mmio_set(PLIC_ENABLE(irq), mmio_get(PLIC_ENABLE(irq)) | 1u << irq % 32);
	if (irq == devices.dv_uart_irq)
		*(volatile uint8_t *)direct_map(devices.dv_uart + 1) =
		    1; /* the UART interrupts when a character has arrived */
}

void irq_external(void)
{
	uint32_t irq;

	while ((irq = mmio_get(PLIC_CLAIM)) != 0) {
		if (irq < NIRQS && irqs[irq].fn != NULL)
			irqs[irq].fn(irqs[irq].arg);
		mmio_set(PLIC_CLAIM, irq);
	}
}

unsigned arch_console_irq(void) { return devices.dv_uart_irq; }

unsigned arch_virtio_devices(struct arch_device *d, unsigned max)
{
	unsigned n = devices.dv_nvirtio < max ? devices.dv_nvirtio : max;

	memcpy(d, devices.dv_virtio, n * sizeof(*d));
	return n;
}

/* ---- the console: a 16550 ---- */
static volatile uint8_t *uart_register(unsigned reg) { return direct_map(devices.dv_uart + reg); }

void arch_putc(char c)
{
	while (!(*uart_register(5) & 0x20))
		arch_relax();
	*uart_register(0) = (uint8_t)c;
}

int arch_getc(void) { return *uart_register(5) & 1 ? *uart_register(0) : -1; }

/*
 * ---- the end: the test device makes QEMU exit with status * 2 + 1, as on x86-64: the kernel never
 * exits with 0. QEMU may need a moment, in which the firmware must not be asked: it writes a status
 * of its own to the same device. Without the device the firmware switches off. ----
 */
void arch_poweroff(int status)
{
	(void)arch_irq_off();
	if (devices.dv_test != 0)
		mmio_set(devices.dv_test, ((uint32_t)status * 2 + 1) << 16 | 0x3333);
	else
		(void)call_firmware(SBI_SRST, 0, 0, status == 0 ? 0 : 1, 0);
	for (;;)
		__asm__ volatile("wfi");
}

void arch_stop(void) { arch_poweroff(0x7f); }

/* ---- threads ---- */
void thread_start(void);
void user_start(void);

/* switch_to's frame: ra, s0 .. s11 and one word to keep the stack aligned. */
static uint64_t *switch_frame(uint64_t top, void (*ra)(void))
{
	uint64_t *sp = (uint64_t *)(uintptr_t)(top & ~15ull) - 14;

	memset(sp, 0, 14 * sizeof(*sp));
	sp[0] = (uint64_t)(uintptr_t)ra;
	return sp;
}

uint64_t arch_thread_stack(uint64_t top, void (*fn)(void *), void *arg)
{
	uint64_t *sp = switch_frame(top, thread_start);

	sp[2] = (uint64_t)(uintptr_t)fn;  /* s1 */
	sp[3] = (uint64_t)(uintptr_t)arg; /* s2 */
	return (uint64_t)(uintptr_t)sp;
}

uint64_t arch_user_stack(uint64_t top, struct trapframe **tf)
{
	*tf = (struct trapframe *)(uintptr_t)(top - sizeof(struct trapframe));
	return (uint64_t)(uintptr_t)switch_frame((uint64_t)(uintptr_t)*tf, user_start);
}

static void fp_note(uint64_t state)
{
	csr_clear("sstatus", STATUS_FS ^ state);
	csr_set("sstatus", state);
}

void arch_user_init(struct thread *t)
{
	memset(&t->t_arch, 0, sizeof(t->t_arch));
	if (t == arch_cur())
		fp_load(&t->t_arch.at_fp);
}

void arch_user_copy(struct thread *to) { fp_save(&to->t_arch.at_fp); }

void arch_switch_out(struct thread *t)
{
	if (t->t_user != NULL && (csr_read("sstatus") & STATUS_FS) == STATUS_FS)
		fp_save(&t->t_arch.at_fp);
}

void arch_switch_in(struct thread *t)
{
	this_cpu()->cpu_kstack = t->t_top;
	if (t->t_hat != NULL)
		arch_load_space(t->t_hat);
	else
		mmu_be_lazy();
	if (t->t_user == NULL)
		return;
	fp_load(&t->t_arch.at_fp);
	fp_note(STATUS_FS_CLEAN);
}
