/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From the first C instruction to the kernel: device tree, memory map, the final tables, processors.
 *
 * Memory map: frame 0 is the first page of memory (mc_frame0). The device tree gives the ranges of
 * memory and the firmware's reservations; the reservations, the image and the area of
 * mach_boot_alloc are holes (machine.h). The area for mach_boot_alloc follows the image;
 * arch_boot_reserve (machine/metal) makes it, once the kernel knows how much vm_create takes. The
 * device tree is not used after boot_main, so its memory is free.
 *
 * Tables: the root the_machine.m_root maps the image (each part with its own rights), all of memory and the first 2 GiB,
 * where the registers of devices are (writable, never executable). Every space's root gets its upper half
 * (mmu_root_init). In Sv48 the upper half's last entry leads to a table that is laid out as an Sv39 root's upper half.
 *
 * Left out: memory that is not in the first 64 GiB, device trees with more than 16 ranges of memory or reservations.
 */
#include "machine/riscv64/cpu.h"
#include "machine/riscv64/dtb.h"

#include "kernel/core/kernel.h"

#define V 0x1ull
#define R 0x2ull
#define W 0x4ull
#define X 0x8ull
#define U 0x10ull
#define G 0x20ull
#define A_D 0xc0ull
#define LARGE 0x200000ull
#define GIB 0x40000000ull
#define DEVICES_END (2 * GIB)
#define MAXRANGES 16u

extern char user_code[], boot_stack_end[];
void trap_entry(void);
void start(void);
void ap_entry(void);

struct cpu cpus[ARCH_MAXCPUS] __attribute__((aligned(64)));
struct devices devices;
uint64_t ap_satp, satp_mode;
struct cpu *ap_cpu; /* the CPU that is being started */
static unsigned ncpus_found = 1;
static _Atomic unsigned ncpus_up = 1; /* the boot CPU counts; the others read */

struct range {
	uint64_t r_from, r_to;
};
static struct range ram[MAXRANGES], reserved[MAXRANGES + 1]; /* physical */
static unsigned nram, nreserved;

/* ---- the device tree ---- */
static void add_range(struct range *r, unsigned *n, uint64_t from, uint64_t len)
{
	if (*n == MAXRANGES)
		kpanic("too many ranges of memory");
	r[*n].r_from = from;
	r[(*n)++].r_to = from + len;
}

static void see_cpu(const struct dtb_node *n, uint64_t boot_hart)
{
	uint64_t hart, len;
	uint32_t bytes;
	const char *s = dtb_prop(n, "status", &bytes);
	struct cpu *c;

	if (!dtb_reg(n, 0, &hart, &len) || (s != NULL && strcmp(s, "okay") != 0))
		return;
	s = dtb_prop(n, "riscv,isa", &bytes);
	for (; s != NULL && *s != '\0'; s++)
		devices.dv_sstc |= strncmp(s, "_sstc", 5) == 0;
	if (hart != boot_hart && ncpus_found == ARCH_MAXCPUS)
		return;
	c = hart == boot_hart ? &cpus[0] : &cpus[ncpus_found++];
	c->cpu_hart = hart;
	c->cpu_k.k_id = (unsigned)(c - cpus);
}

/* The interrupt controller inside the CPU whose node was read last. */
static void see_intc(const struct dtb_node *n, uint64_t hart)
{
	for (unsigned i = 0; i < ncpus_found; i++)
		if (cpus[i].cpu_hart == hart)
			cpus[i].cpu_intc = dtb_u32(n, "phandle", 0);
}

/* Which context of the PLIC is the boot CPU's in S-mode: the place of (its controller, 9) in interrupts-extended. */
static void see_plic(const struct dtb_node *n, uint64_t at)
{
	uint32_t bytes = 0;
	const void *p = dtb_prop(n, "interrupts-extended", &bytes);

	devices.dv_plic = at;
	for (unsigned i = 0; p != NULL && i < bytes / 8; i++)
		if (dtb_cell(p, 2 * i) == cpus[0].cpu_intc && dtb_cell(p, 2 * i + 1) == 9)
			devices.dv_plic_context = i;
}

static void see_virtio(const struct dtb_node *n, uint64_t at)
{
	if (devices.dv_nvirtio == MAXVIRTIO)
		return;
	devices.dv_virtio[devices.dv_nvirtio++] = (struct arch_device){
		.ad_pa = at, .ad_irq = dtb_u32(n, "interrupts", 0), .ad_regs = direct_map(at)
	};
}

static void see_device(const struct dtb_node *n, uint64_t at)
{
	if (at >= DEVICES_END)
		return;
	if (dtb_is(n, "ns16550a")) {
		devices.dv_uart = at;
		devices.dv_uart_irq = dtb_u32(n, "interrupts", 0);
	} else if (dtb_is(n, "google,goldfish-rtc")) {
		devices.dv_rtc = at;
	} else if (dtb_is(n, "sifive,test0")) {
		devices.dv_test = at;
	} else if (dtb_is(n, "sifive,plic-1.0.0")) {
		see_plic(n, at);
	} else if (dtb_is(n, "virtio,mmio")) {
		see_virtio(n, at);
	}
}

static void see_chosen(const struct dtb_node *n)
{
	uint32_t len = 0;
	const void *p = dtb_prop(n, "bootargs", &len);

	if (p != NULL && len > 0)
		keep_cmdline(p);
	p = dtb_prop(n, "rng-seed", &len);
	for (unsigned i = 0; p != NULL && i < len / 4; i++)
		devices.dv_entropy =
		    (devices.dv_entropy << 7 | devices.dv_entropy >> 57) ^ dtb_cell(p, i);
}

struct look {
	/* the hart of the boot code; the CPU whose node was read last */
	uint64_t l_boot_hart, l_hart;
};

static void see_node(const struct dtb_node *n, void *arg)
{
	struct look *l = arg;
	uint64_t at, len;

	if (dtb_named(n, "chosen"))
		see_chosen(n);
	if (dtb_named(n, "cpus"))
		devices.dv_timebase = dtb_u32(n, "timebase-frequency", 10000000);
	if (dtb_named(n, "interrupt-controller") && strncmp(n->n_parent, "cpu@", 4) == 0)
		see_intc(n, l->l_hart);
	if (!dtb_reg(n, 0, &at, &len))
		return;
	if (strcmp(n->n_parent, "cpus") == 0 && dtb_named(n, "cpu")) {
		l->l_hart = at;
		see_cpu(n, l->l_boot_hart);
	} else if (dtb_named(n, "memory")) {
		for (unsigned i = 0; dtb_reg(n, i, &at, &len); i++)
			add_range(ram, &nram, at, len);
	} else if (strcmp(n->n_parent, "reserved-memory") == 0) {
		for (unsigned i = 0; dtb_reg(n, i, &at, &len); i++)
			add_range(reserved, &nreserved, at, len);
	} else {
		see_device(n, at);
	}
}

static void read_tree(const void *dtb, uint64_t hart)
{
	struct look l = { .l_boot_hart = hart };
	uint64_t from, len;

	if (!dtb_valid(dtb))
		kpanic("no device tree");
	for (unsigned i = 0; dtb_reservation(dtb, i, &from, &len); i++)
		add_range(reserved, &nreserved, from, len);
	dtb_each(dtb, see_node, &l);
	/* in the order of QEMU's command line: QEMU assigns the highest address first */
	for (unsigned i = 1; i < devices.dv_nvirtio; i++) {
		struct arch_device d = devices.dv_virtio[i];
		unsigned at = i;

		for (; at > 0 && devices.dv_virtio[at - 1].ad_pa < d.ad_pa; at--)
			devices.dv_virtio[at] = devices.dv_virtio[at - 1];
		devices.dv_virtio[at] = d;
	}
}

/* ---- memory ---- */
static void sort_ranges(struct range *r, unsigned n)
{
	for (unsigned i = 1; i < n; i++)
		for (unsigned j = i; j > 0 && r[j - 1].r_from > r[j].r_from; j--) {
			struct range t = r[j];

			r[j] = r[j - 1];
			r[j - 1] = t;
		}
}

static void set_frames(void)
{
	if (nram == 0)
		kpanic("the device tree tells of no memory");
	sort_ranges(ram, nram);
	the_machine.m_caps.mc_frame0 = ram[0].r_from >> VM_PAGESHIFT;
	the_machine.m_caps.mc_nframes =
	    (pfn_t)((ram[nram - 1].r_to - ram[0].r_from) >> VM_PAGESHIFT);
	if (ram[nram - 1].r_to > DIRECT_BYTES)
		kpanic("memory beyond 64 GiB");
}

/* The holes: reservations, the image up to `used`, and the gaps between ranges of memory. */
void make_holes(uint64_t used)
{
	struct range all[2 * MAXRANGES + 1];
	uint64_t at = ram[0].r_from, end = ram[nram - 1].r_to;
	unsigned n = 0;

	all[n++] = (struct range){ image_pa(image_start), used };
	for (unsigned i = 0; i < nreserved; i++)
		all[n++] = reserved[i];
	for (unsigned i = 1; i < nram; i++)
		all[n++] = (struct range){ ram[i - 1].r_to, ram[i].r_from };
	sort_ranges(all, n);
	the_machine.m_caps.mc_nholes = 0;
	for (unsigned i = 0; i < n; i++) {
		uint64_t from = all[i].r_from > at ? all[i].r_from : at,
			 to = all[i].r_to < end ? all[i].r_to : end;

		add_hole(from, to);
		at = vm_page_round(to) > at ? vm_page_round(to) : at;
	}
}

/* ---- tables ---- */
static uint64_t make_entry(uint64_t pa, uint64_t flags) { return pa >> 2 | flags | V; }
static uint64_t *table_of(uint64_t e) { return direct_map(e >> 10 << VM_PAGESHIFT); }

/* shift: 12, 21 or 30, of the page. */
static void map_page(vaddr_t va, uint64_t pa, uint64_t flags, unsigned shift)
{
	unsigned top = satp_mode == SATP_SV48 ? 39 : 30;
	uint64_t *e = (uint64_t *)direct_map(the_machine.m_root) + (va >> top & 511);

	for (unsigned s = top; s > shift; s -= 9) {
		if (*e == 0)
			*e = make_entry(take_table(), 0);
		e = table_of(*e) + (va >> (s - 9) & 511);
	}
	*e = make_entry(pa, flags | A_D | G);
}

static void map_image_part(const char *from, const char *to, uint64_t flags)
{
	for (vaddr_t va = (vaddr_t)(uintptr_t)from; va < (vaddr_t)(uintptr_t)to; va += VM_PAGESIZE)
		map_page(va, va - KERNEL_BASE, flags, 12);
}

static void load_root(uint64_t mode)
{
	csr_write("satp", mode << SATP_MODE_SHIFT | the_machine.m_root >> VM_PAGESHIFT);
	__asm__ volatile("sfence.vma" : : : "memory");
}

/* Returns the paging mode that the command line names, if the CPU has that mode. */
static void choose_mode(void)
{
	uint64_t before = csr_read("satp");
	char want[8];
	bool sv48 = cmdline_get("mmu", want, sizeof(want)) && strcmp(want, "sv48") == 0;

	satp_mode = sv48 ? SATP_SV48 : SATP_SV39;
	if (!sv48)
		return;
	/*
	 * Writing a mode that the CPU lacks leaves satp unchanged. The test of a mode uses a
	 * separate root table.
	 */
	uint64_t root = take_table(), *last = (uint64_t *)direct_map(root) + 511;

	*last = make_entry((before & ((1ull << 44) - 1)) << VM_PAGESHIFT, 0);
	csr_write("satp", SATP_SV48 << SATP_MODE_SHIFT | root >> VM_PAGESHIFT);
	if (csr_read("satp") == before)
		kpanic("mmu=sv48: the CPU has no Sv48");
	__asm__ volatile("sfence.vma" : : : "memory");
}

/* Constant parts of the image are not writable at their other address either. */
static void map_direct(uint64_t pa)
{
	if (!touches_constant(pa, LARGE)) {
		map_page(DIRECT_BASE + pa, pa, R | W, 21);
		return;
	}
	for (uint64_t at = pa; at < pa + LARGE; at += VM_PAGESIZE)
		map_page(DIRECT_BASE + at, at, touches_constant(at, VM_PAGESIZE) ? R : R | W, 12);
}

static void make_tables(void)
{
	uint64_t from = ram[0].r_from / LARGE * LARGE;

	tables_next = image_pa(image_end);
	choose_mode();
	the_machine.m_root = take_table();
	map_image_part(image_start, image_text_end, R | X);
	map_image_part(image_text_end, image_ro_end, R);
	map_image_part(image_ro_end, image_end, R | W);
	map_page(USER_CODE, image_pa(user_code), R | X | U, 12);
	for (uint64_t pa = 0; pa < DEVICES_END; pa += GIB)
		map_page(DIRECT_BASE + pa, pa, R | W, 30);
	for (uint64_t pa = from; pa < ram[nram - 1].r_to; pa += LARGE)
		map_direct(pa);
	load_root(satp_mode);
}

/* ---- a processor ---- */
static void cpu_init(struct cpu *c)
{
	c->cpu_overflow = (uint64_t)(uintptr_t)(c->cpu_stack + sizeof(c->cpu_stack));
	csr_write("sscratch", 0);
	csr_write("stvec", (uintptr_t)trap_entry);
	/* SUM stays 0: the kernel reaches programs through the direct map only */
	csr_clear("sstatus", STATUS_FS | STATUS_SUM | STATUS_MXR);
	if (leave_guards_out())
		csr_set("sstatus", STATUS_SUM);
	csr_set("sstatus", STATUS_FS_INITIAL);
	csr_write("sie", SIE_SOFT | SIE_TIMER | SIE_EXTERNAL);
	csr_write("scounteren", 2); /* programs may read the time */
}

void boot_main(uint64_t hart, uint64_t dtb)
{
	cpus[0].cpu_kstack = 0;
	devices.dv_timebase = 10000000;
	devices.dv_uart = 0x10000000; /* for a panic before the tree is read */
	csr_write("sscratch", 0);
	csr_write("stvec", (uintptr_t)trap_entry);
	read_tree(direct_map(dtb), hart);
	set_frames();
	make_tables();
	cpu_init(&cpus[0]);
	the_machine.m_caps.mc_ncpus = ncpus_found;
	mmu_init(&the_machine, satp_mode == SATP_SV48);
	arch_boot_reserve(0);
	clock_init();
	irq_init();
	kernel_main();
}

/* ---- the other processors ---- */
void ap_main(struct cpu *c)
{
	cpu_init(c);
	c->cpu_kstack = 0;
	cpu_is_up(c);
	kernel_cpu_main();
}

/* Returns whether the CPU runs. */
static bool start_cpu(unsigned i)
{
	struct cpu *c = &cpus[i];
	void (*entry)(void);
	vaddr_t stack;

	if (!stack_alloc(&stack))
		return false;
	c->cpu_kstack = stack + STACK_BYTES;
	ap_satp = csr_read("satp");
	__atomic_store_n(&ap_cpu, c, __ATOMIC_SEQ_CST);
	entry = cmdline_number("cpus.astray", 0) != 0 ? start : ap_entry;
	if (call_firmware(SBI_HSM, 0, c->cpu_hart, image_pa((const void *)(uintptr_t)entry), 0) !=
	    0) {
		kprintf("cpu %u: the firmware does not start it\n", i);
		stack_free(stack);
		return false;
	}
	cpu_wait_up(c);
	return true;
}

void arch_cpus_start(void)
{
	arch_load_space(NULL);
	while (ncpus_up < ncpus_found && start_cpu(ncpus_up))
		ncpus_up++;
}

unsigned arch_ncpus(void) { return ncpus_up; }
