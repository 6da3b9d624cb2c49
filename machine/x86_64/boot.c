/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the first C instruction to the kernel: the memory map, the final tables, descriptor tables, processors.
 *
 * Memory map: PVH gives the ranges of memory. Frame 0 is physical address 0. Addresses that are not
 * memory, the first MiB, the image and the area of mach_boot_alloc are holes (machine.h). The area
 * for mach_boot_alloc follows the image; arch_boot_reserve (machine/metal) makes it, once the
 * kernel knows how much vm_create takes.
 *
 * Tables: the root the_machine.m_root maps the image (each part with its own rights), all of memory (writable, never
 * executable) and the registers of devices. Every space's root gets its upper half (mmu_root_init).
 *
 * Left out: memory above 512 GiB, ACPI, processors whose APIC numbers are not 0, 1, 2, ...
 */
#include "machine/x86_64/cpu.h"

#include "kernel/core/kernel.h"

struct start_info { /* PVH's */
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};
struct memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

#define P 0x1ull
#define W 0x2ull
#define PWT 0x8ull
#define PCD 0x10ull
#define A_D 0x60ull
#define PS 0x80ull
#define G 0x100ull
#define NX (1ull << 63)
#define FRAME 0x000ffffffffff000ull
#define LARGE 0x200000ull

extern char boot_stack_end[];

struct cpu cpus[ARCH_MAXCPUS];
static unsigned ncpus_found = 1;
static _Atomic unsigned ncpus_up = 1; /* the boot CPU counts; the others read */
static struct memmap_entry ram[16];
static unsigned nram;

/* ---- memory ---- */
static void read_map(const struct start_info *si)
{
	const struct memmap_entry *e = direct_map(si->memmap);
	uint64_t top = 0;

	for (uint32_t i = 0; i < si->memmap_entries && nram < 16; i++) {
		if (e[i].type != 1)
			continue;
		ram[nram] = e[i];
		ram[nram].size =
		    ((e[i].addr + e[i].size) & FRAME) - ((e[i].addr + VM_PAGEMASK) & FRAME);
		ram[nram].addr = (e[i].addr + VM_PAGEMASK) & FRAME;
		if (ram[nram].addr + ram[nram].size > top)
			top = ram[nram].addr + ram[nram].size;
		nram++;
	}
	the_machine.m_caps.mc_nframes = (pfn_t)(top >> VM_PAGESHIFT);
}

/* The holes: everything below `used`, and between the ranges of memory. The ranges rise. */
void make_holes(uint64_t used)
{
	uint64_t at = used;

	the_machine.m_caps.mc_nholes = 0;
	add_hole(0, used);
	for (unsigned i = 0; i < nram; i++) {
		uint64_t end = ram[i].addr + ram[i].size;

		if (end <= at)
			continue;
		if (ram[i].addr > at)
			add_hole(at, ram[i].addr);
		at = end;
	}
}

/* ---- tables ---- */
static void map_boot_page(vaddr_t va, uint64_t pa, uint64_t flags, bool large)
{
	uint64_t *e = (uint64_t *)direct_map(the_machine.m_root) + (va >> 39 & 511);

	for (unsigned shift = 30; shift >= (large ? 21u : 12u); shift -= 9) {
		if (*e == 0)
			*e = take_table() | P | W;
		e = (uint64_t *)direct_map(*e & FRAME) + (va >> shift & 511);
	}
	*e = pa | flags | P | A_D | G | (large ? PS : 0);
}

static void map_pages(const char *from, const char *to, uint64_t flags)
{
	for (vaddr_t va = (vaddr_t)(uintptr_t)from; va < (vaddr_t)(uintptr_t)to; va += VM_PAGESIZE)
		map_boot_page(va, va - KERNEL_BASE, flags, false);
}

/* Constant parts of the image are not writable at their other address either. */
static void map_direct(uint64_t pa)
{
	if (!touches_constant(pa, LARGE)) {
		map_boot_page(DIRECT_BASE + pa, pa, W | NX, true);
		return;
	}
	for (uint64_t at = pa; at < pa + LARGE; at += VM_PAGESIZE)
		map_boot_page(
		    DIRECT_BASE + at, at, touches_constant(at, VM_PAGESIZE) ? NX : W | NX, false);
}

static void make_tables(void)
{
	uint64_t top = vm_ptob(the_machine.m_caps.mc_nframes);

	tables_next = vm_page_round(image_pa(image_end));
	the_machine.m_root = take_table();
	map_pages(image_start, image_text_end, 0);
	map_pages(image_text_end, image_ro_end, NX);
	map_pages(image_ro_end, image_end, W | NX);
	for (uint64_t pa = 0; pa < top; pa += LARGE)
		map_direct(pa);
	for (uint64_t pa = MMIO_PHYS; pa < 1ull << 32; pa += LARGE)
		map_boot_page(MMIO_BASE + (pa - MMIO_PHYS), pa, W | NX | PCD | PWT, true);
	write_cr3(the_machine.m_root);
}

/*
 * Maps the page at AP_BASE at its physical address, to read and execute, in the loaded root, while
 * other processors start there. The page is written at its address in the direct map.
 */
static void map_low(bool on)
{
	uint64_t root_pa = read_cr3() & FRAME, *root = direct_map(root_pa);
	static uint64_t table[3][512] __attribute__((aligned(4096)));

	table[2][AP_BASE >> VM_PAGESHIFT] = AP_BASE | P;
	table[1][0] = image_pa((const char *)table[2]) | P | W;
	table[0][0] = image_pa((const char *)table[1]) | P | W;
	root[0] = on ? image_pa((const char *)table[0]) | P | W : 0;
	write_cr3(root_pa);
}

/* Is there a translation that may be written and executed, below the table at pa? Every other table allows both. */
static bool has_writable_code(uint64_t pa, unsigned level)
{
	const uint64_t *table = direct_map(pa);

	for (unsigned i = 0; i < 512; i++) {
		uint64_t e = table[i];

		if ((e & (P | W)) != (P | W) || (e & NX) != 0)
			continue;
		if (level == 0 || (e & PS) != 0 || has_writable_code(e & FRAME, level - 1))
			return true;
	}
	return false;
}

/* ---- a processor ---- */
struct idt_entry {
	uint16_t low, cs;
	uint8_t ist, type;
	uint16_t mid;
	uint32_t high, zero;
};
static struct idt_entry idt[256];
struct __attribute__((packed)) table_register {
	uint16_t limit;
	uint64_t base;
};

static void idt_make(void)
{
	for (unsigned i = 0; i < 256; i++) {
		uint64_t at = trap_stubs[i];

		idt[i] = (struct idt_entry){ .low = (uint16_t)at,
			.cs = KERNEL_CS,
			.ist = i == 8 ? 1 : 0,
			.type = i == 3 ? 0xee : 0x8e,
			.mid = (uint16_t)(at >> 16),
			.high = (uint32_t)(at >> 32) };
	}
}

static void enable_protections(void)
{
	uint32_t r[4];
	uint64_t cr4 = read_cr4();

	cpuid(0, 0, r);
	if (r[0] >= 7) {
		cpuid(7, 0, r);
		if ((r[1] & 1u << 7) && !leave_guards_out())
			cr4 |= 1ull << 20; /* SMEP */
		if ((r[1] & 1u << 20) && !leave_guards_out())
			cr4 |= 1ull
			    << 21; /* SMAP: the kernel reaches programs through the direct map only */
		if (r[2] & 1u << 2)
			cr4 |= 1ull << 11; /* UMIP */
		if (r[1] & 1u)
			cr4 |= 1ull << 16; /* FSGSBASE */
	}
	write_cr4(cr4);
}

void cpu_init(struct cpu *c, uint64_t stack_top)
{
	uint64_t tss = (uint64_t)(uintptr_t)&c->cpu_tss;
	struct table_register gdtr = { sizeof(c->cpu_gdt) - 1, (uint64_t)(uintptr_t)c->cpu_gdt };
	struct table_register idtr = { sizeof(idt) - 1, (uint64_t)(uintptr_t)idt };

	c->cpu_self = c;
	c->cpu_kstack = stack_top;
	c->cpu_gdt[1] = 0x00af9b000000ffff;
	c->cpu_gdt[2] = 0x00cf93000000ffff;
	c->cpu_gdt[3] = 0x00cff3000000ffff;
	c->cpu_gdt[4] = 0x00affb000000ffff;
	c->cpu_gdt[5] = (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56 | 0x0000890000000000 |
	    (sizeof(c->cpu_tss) - 1);
	c->cpu_gdt[6] = tss >> 32;
	c->cpu_tss.rsp[0] = stack_top;
	c->cpu_tss.ist[0] = (uint64_t)(uintptr_t)(c->cpu_ist + sizeof(c->cpu_ist));
	c->cpu_tss.iopb = sizeof(c->cpu_tss);
	__asm__ volatile("lgdt %0\n\tlidt %1\n\tltr %w2"
			 :
			 : "m"(gdtr), "m"(idtr), "r"(5 * 8)
			 : "memory");
	wrmsr(MSR_GSBASE, (uint64_t)(uintptr_t)c);
	wrmsr(MSR_KGSBASE, 0);
	wrmsr(MSR_STAR, (uint64_t)KERNEL_CS << 32);
	wrmsr(MSR_LSTAR, (uint64_t)(uintptr_t)syscall_entry);
	wrmsr(MSR_SFMASK, 0x40700); /* IF, TF, DF, AC off */
	enable_protections();
	fpu_init();
}

static unsigned count_cpus(void)
{
	/* QEMU's configuration device: key 5, the number of processors */
	outw(0x510, 5);
	uint16_t n = inb(0x511);

	n = (uint16_t)(n | inb(0x511) << 8);
	return n >= 1 && n <= 255 ? n : 1;
}

void boot_main(uint32_t info)
{
	const struct start_info *si = direct_map(info);
	struct cpu *c = &cpus[0];

	keep_cmdline(si->cmdline != 0 ? direct_map(si->cmdline) : "");
	read_map(si);
	make_tables();
	idt_make();
	cpu_init(c, (uint64_t)(uintptr_t)boot_stack_end);
	mmu_init(&the_machine);
	arch_boot_reserve(0);
	ncpus_found = count_cpus();
	if (ncpus_found > ARCH_MAXCPUS)
		ncpus_found = ARCH_MAXCPUS;
	the_machine.m_caps.mc_ncpus = ncpus_found;
	apic_init();
	kernel_main();
}

/* ---- the other processors ---- */
void ap_main(struct cpu *c)
{
	cpu_init(c, c->cpu_kstack);
	apic_init_cpu();
	cpu_is_up(c);
	kernel_cpu_main();
}

/* Returns whether the CPU runs. */
static bool start_cpu(unsigned i)
{
	struct cpu *c = &cpus[i];
	vaddr_t stack;

	if (!stack_alloc(&stack))
		return false;
	c->cpu_k.k_id = i;
	c->cpu_apic = i;
	c->cpu_kstack = stack + STACK_BYTES;
	memcpy(direct_map(AP_BASE), ap_start, (size_t)(ap_end - ap_start));
	*(uint64_t *)direct_map(AP_BASE + (uint64_t)((char *)&ap_root - ap_start)) = read_cr3();
	*(uint64_t *)direct_map(AP_BASE + (uint64_t)((char *)&ap_stack - ap_start)) = c->cpu_kstack;
	*(uint64_t *)direct_map(AP_BASE + (uint64_t)((char *)&ap_cpu - ap_start)) =
	    (uint64_t)(uintptr_t)c;
	apic_start_cpu(i, AP_BASE);
	cpu_wait_up(c);
	return true;
}

void arch_cpus_start(void)
{
	if (ncpus_found > 1)
		map_low(true);
	if (has_writable_code(read_cr3() & FRAME, 3))
		kpanic("memory is writable and executable");
	if (ncpus_found == 1)
		return;
	while (ncpus_up < ncpus_found && start_cpu(ncpus_up))
		ncpus_up++;
	map_low(false);
}

unsigned arch_ncpus(void) { return ncpus_up; }
