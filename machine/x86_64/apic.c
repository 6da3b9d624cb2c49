/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupt controllers: each CPU's APIC (timer, interrupts between CPUs), the I/O APIC, and the old pair of 8259s, which is
 * masked. The registers are memory (xAPIC).
 *
 * The APIC's timer counts at 1 GHz in QEMU, so a count is a nanosecond; the time stamp counter is measured by it.
 *
 * Left out: x2APIC, finding the timer's rate on real hardware, the I/O APIC's number other than the first.
 */
#include "machine/x86_64/cpu.h"

#include "kernel/core/kernel.h"

#define LAPIC 0xfee00000ull
#define IOAPIC 0xfec00000ull
#define ID 0x20u
#define EOI 0xb0u
#define SPURIOUS 0xf0u
#define ICR_LOW 0x300u
#define ICR_HIGH 0x310u
#define LVT_TIMER 0x320u
#define LVT_LINT0 0x350u
#define LVT_LINT1 0x360u
#define LVT_ERROR 0x370u
#define TIMER_INIT 0x380u
#define TIMER_NOW 0x390u
#define TIMER_DIV 0x3e0u
#define MASKED 0x10000u
#define PERIODIC 0x20000u
#define CALIBRATE_NS 5000000u

uint64_t tsc_start, tsc_mult;

static volatile uint32_t *lapic_register(unsigned reg)
{
	return (volatile uint32_t *)(uintptr_t)(MMIO_BASE + LAPIC - MMIO_PHYS + reg);
}

static void ioapic_write(unsigned reg, uint32_t v)
{
	volatile uint32_t *io = (volatile uint32_t *)(uintptr_t)(MMIO_BASE + IOAPIC - MMIO_PHYS);

	io[0] = reg;
	io[4] = v;
}

void ioapic_route(unsigned pin, unsigned vec, bool level)
{
	ioapic_write(0x11 + 2 * pin, 0); /* interrupts go to the boot CPU */
	ioapic_write(0x10 + 2 * pin, vec | (level ? 0x8000u : 0));
}

void apic_eoi(void) { *lapic_register(EOI) = 0; }

/* Interrupts are off while the two halves are written. */
static void send_interrupt(unsigned apic, uint32_t low)
{
	bool irq = arch_irq_off();

	while (*lapic_register(ICR_LOW) & 0x1000)
		arch_relax();
	*lapic_register(ICR_HIGH) = apic << 24;
	*lapic_register(ICR_LOW) = low;
	arch_irq_restore(irq);
}

void apic_ipi(unsigned apic, unsigned vec) { send_interrupt(apic, 0x4000u | vec); }

static void delay_ns(uint64_t ns)
{
	uint64_t until = arch_time_ns() + ns;

	while (arch_time_ns() < until)
		arch_relax();
}

void apic_start_cpu(unsigned apic, uint64_t at)
{
	send_interrupt(apic, 0x4500); /* INIT */
	delay_ns(1000000);
	send_interrupt(apic, 0x4600u | (uint32_t)(at >> 12)); /* start up */
	delay_ns(200000);
	send_interrupt(apic, 0x4600u | (uint32_t)(at >> 12));
}

void apic_init_cpu(void)
{
	wrmsr(MSR_APICBASE, rdmsr(MSR_APICBASE) | 0x800);
	*lapic_register(SPURIOUS) = 0x100u | VEC_SPURIOUS;
	*lapic_register(LVT_TIMER) = MASKED;
	*lapic_register(LVT_LINT0) = MASKED;
	*lapic_register(LVT_LINT1) = MASKED;
	*lapic_register(LVT_ERROR) = MASKED;
	*lapic_register(TIMER_DIV) = 0xb; /* by 1 */
}

static void calibrate_timer(void)
{
	uint64_t t0, t1;
	uint32_t n0, n1;

	*lapic_register(TIMER_INIT) = 0xffffffff;
	n0 = *lapic_register(TIMER_NOW);
	t0 = rdtsc();
	do
		n1 = *lapic_register(TIMER_NOW);
	while (n0 - n1 < CALIBRATE_NS);
	t1 = rdtsc();
	*lapic_register(TIMER_INIT) = 0;
	tsc_mult = ((uint64_t)(n0 - n1) << 32) / (t1 - t0);
	tsc_start = t1;
}

void apic_init(void)
{
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	apic_init_cpu();
	for (unsigned pin = 0; pin < 24; pin++)
		ioapic_write(0x10 + 2 * pin, MASKED);
	calibrate_timer();
}

void arch_tick_start(void)
{
	*lapic_register(LVT_TIMER) = PERIODIC | VEC_TIMER;
	*lapic_register(TIMER_INIT) = 1000000000u / KERNEL_HZ;
}
