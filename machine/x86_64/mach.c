/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying and zeroing of frames, and the small parts of kernel/core/arch.h: interrupts, clock, console, switching off.
 *
 * The clock is the time stamp counter, whose rate apic.c measures by the APIC's timer.
 */
#include "machine/x86_64/cpu.h"

#include "kernel/core/kernel.h"

extern uint64_t tsc_start, tsc_mult; /* apic.c: ns = ticks * mult >> 32 */

/* ---- frames ---- */
void *memset(void *to, int c, size_t n)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(n) : "a"(c) : "memory");
	return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(n) : : "memory");
	return to;
}

static void words_set(void *to, uint64_t v, size_t n)
{
	__asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(v) : "memory");
}

void mach_frame_zero(struct mach *m, pfn_t pfn)
{
	words_set(mach_frame_kva(m, pfn), 0, VM_PAGESIZE / 8);
}

void mach_frame_copy(struct mach *m, pfn_t dst, pfn_t src)
{
	void *to = mach_frame_kva(m, dst);
	const void *from = mach_frame_kva(m, src);
	size_t n = VM_PAGESIZE / 8;

	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

/* ---- the CPU ---- */
struct thread *arch_cur(void)
{
	struct thread *t;

	__asm__ volatile("mov %%gs:%c1, %0" : "=r"(t) : "i"(offsetof(struct cpu, cpu_k.k_cur)));
	return t;
}

struct kcpu *arch_kcpu(void) { return &this_cpu()->cpu_k; }
struct kcpu *arch_kcpu_of(unsigned id) { return &cpus[id].cpu_k; }

bool arch_irq_off(void)
{
	uint64_t flags;

	__asm__ volatile("pushfq\n\tpop %0\n\tcli" : "=r"(flags) : : "memory");
	return (flags & 0x200) != 0;
}

void arch_irq_restore(bool on)
{
	if (on)
		__asm__ volatile("sti" : : : "memory");
}

void arch_idle(void) { __asm__ volatile("sti\n\thlt" : : : "memory"); }

void arch_relax(void) { __asm__ volatile("pause" : : : "memory"); }

/*
 * A CPU that is a thread of an emulator, and that spins, keeps the CPUs for which it waits from
 * running. So it sleeps, for a tick at most.
 */
#define SPINS 2000u
void arch_relax_long(unsigned *rounds)
{
	uint64_t flags;

	arch_relax();
	if (++*rounds % SPINS != 0)
		return;
	__asm__ volatile("pushfq\n\tpop %0" : "=r"(flags));
	if (flags & 0x200)
		__asm__ volatile("hlt" : : : "memory");
}

void arch_wake_cpu(unsigned id) { apic_ipi(cpus[id].cpu_apic, VEC_WAKE); }

uint64_t arch_time_ns(void)
{
	return (uint64_t)((unsigned __int128)(rdtsc() - tsc_start) * tsc_mult >> 32);
}

static uint8_t read_cmos(uint8_t reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

static unsigned from_bcd(uint8_t v) { return (v >> 4) * 10u + (v & 15); }

uint64_t arch_wall_time(void)
{
	static const uint16_t before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	uint64_t year, month, day, days;

	if (read_cmos(0x0a) == 0xff) /* there is no clock */
		return 0;
	for (unsigned i = 0; (read_cmos(0x0a) & 0x80) && i < 100000; i++)
		arch_relax();
	year = 2000 + from_bcd(read_cmos(9));
	month = from_bcd(read_cmos(8));
	day = from_bcd(read_cmos(7));
	if (month < 1 || month > 12)
		return 0;
	days = (year - 1970) * 365 + (year - 1969) / 4 + before[month - 1] +
	    (year % 4 == 0 && month > 2) + day - 1;
	return days * 86400 + from_bcd(read_cmos(4)) * 3600 + from_bcd(read_cmos(2)) * 60 +
	    from_bcd(read_cmos(0));
}

uint64_t arch_entropy(void)
{
	uint32_t r[4];
	uint64_t v = rdtsc();

	cpuid(1, 0, r);
	if (r[2] & 1u << 30)
		__asm__ volatile("rdrand %0" : "=r"(v) : : "cc");
	return v ^ rdtsc() << 20;
}

/* ---- the console: a 16550 at 0x3f8 ---- */
#define UART 0x3f8

void arch_putc(char c)
{
	while (!(inb(UART + 5) & 0x20))
		arch_relax();
	outb(UART, (uint8_t)c);
}

unsigned arch_console_irq(void) { return UART_IRQ; }

int arch_getc(void) { return inb(UART + 5) & 1 ? inb(UART) : -1; }

/* ---- the end: the debug exit device at 0xf4 makes QEMU exit with status * 2 + 1 ---- */
void arch_poweroff(int status)
{
	(void)arch_irq_off();
	outl(0xf4, (uint32_t)status);
	for (;;)
		__asm__ volatile("cli\n\thlt");
}

void arch_stop(void) { arch_poweroff(0x7f); }

/* ---- threads ---- */
void thread_start(void);
void user_start(void);

uint64_t arch_thread_stack(uint64_t top, void (*fn)(void *), void *arg)
{
	uint64_t *sp = (uint64_t *)(uintptr_t)(top & ~15ull) - 2;

	*--sp = (uint64_t)(uintptr_t)thread_start;
	*--sp = (uint64_t)(uintptr_t)fn;  /* rbx */
	*--sp = 0;                        /* rbp */
	*--sp = (uint64_t)(uintptr_t)arg; /* r12 */
	*--sp = 0;
	*--sp = 0;
	*--sp = 0;
	return (uint64_t)(uintptr_t)sp;
}

uint64_t arch_user_stack(uint64_t top, struct trapframe **tf)
{
	uint64_t *sp;

	*tf = (struct trapframe *)(uintptr_t)(top - sizeof(struct trapframe));
	sp = (uint64_t *)(uintptr_t)*tf;
	*--sp = (uint64_t)(uintptr_t)user_start;
	for (unsigned i = 0; i < 6; i++)
		*--sp = 0;
	return (uint64_t)(uintptr_t)sp;
}

void arch_user_init(struct thread *t)
{
	fpu_reset(t);
	t->t_arch.at_fsbase = t->t_arch.at_gsbase = 0;
	if (t == arch_cur()) {
		wrmsr(MSR_FSBASE, 0);
		wrmsr(MSR_KGSBASE, 0);
	}
}

void arch_user_copy(struct thread *to)
{
	fpu_save(to);
	to->t_arch.at_fsbase = rdmsr(MSR_FSBASE);
	to->t_arch.at_gsbase = rdmsr(MSR_KGSBASE);
}

void arch_switch_out(struct thread *t)
{
	if (t->t_user == NULL)
		return;
	fpu_save(t);
	t->t_arch.at_fsbase = rdmsr(MSR_FSBASE);
	t->t_arch.at_gsbase = rdmsr(MSR_KGSBASE);
}

void arch_switch_in(struct thread *t)
{
	struct cpu *c = this_cpu();

	c->cpu_kstack = t->t_top;
	c->cpu_tss.rsp[0] = t->t_top;
	if (t->t_hat != NULL)
		arch_load_space(t->t_hat);
	else
		mmu_be_lazy();
	if (t->t_user == NULL)
		return;
	fpu_load(t);
	wrmsr(MSR_FSBASE, t->t_arch.at_fsbase);
	wrmsr(MSR_KGSBASE, t->t_arch.at_gsbase);
}

/* ---- devices: QEMU's microvm names its virtio-mmio transports on the command line ---- */
unsigned arch_virtio_devices(struct arch_device *d, unsigned max)
{
	static const char key[] = "virtio_mmio.device=";
	unsigned n = 0;

	for (const char *p = boot_cmdline; *p != '\0' && n < max; p++) {
		if (strncmp(p, key, sizeof(key) - 1) != 0)
			continue;
		p = strchr(p, '@');
		if (p == NULL)
			break;
		d[n].ad_pa = parse_number(p + 1, &p);
		d[n].ad_irq = *p == ':' ? (unsigned)parse_number(p + 1, &p) : 0;
		if (d[n].ad_pa >= MMIO_PHYS && d[n].ad_pa < 1ull << 32)
			d[n].ad_regs =
			    (volatile void *)(uintptr_t)(MMIO_BASE + d[n].ad_pa - MMIO_PHYS);
		n += d[n].ad_regs != NULL;
		if (*p == '\0')
			break;
	}
	return n;
}

void arch_set_thread_pointer(uint64_t v) { wrmsr(MSR_FSBASE, v); }

uint64_t arch_thread_pointer(void) { return rdmsr(MSR_FSBASE); }
