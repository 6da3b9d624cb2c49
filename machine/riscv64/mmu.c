/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine's side of the HAT (hat/mmu.h): roots, address space numbers, TLB flushes, shootdown, instruction caches.
 *
 * Every space has an ASID (hat/asid.c, by generations), so a CPU keeps its cached translations of a
 * space after it has loaded another space. Each CPU has a bit for each number, cpu_stale: if the
 * bit is set, translations under that number are flushed before the CPU uses the number again.
 *
 * Shootdown: the CPU that flushes sets the bit of the space's number on every other CPU, then finds
 * the CPUs that run the space now: cpu_hat is the space, and the CPU is not lazy (a CPU that runs a
 * thread without a space keeps its root). Only these CPUs are interrupted (software interrupt by
 * SBI; for the kernel's space all CPUs), and their answers are awaited (machine/metal/shoot.c). A
 * CPU that begins to run a space stores cpu_hat, stops being lazy, then checks its bit. All these
 * accesses are in one total order, so at least one of the two CPUs sees the other's store.
 *
 * A range of which only reference bits were cleared (mr_soon) interrupts no CPU: those that run the space find the bit with their
 * next tick.
 *
 * Freed tables: the fence names no address, as walkers cache upper levels. A CPU may have cached a
 * translation as invalid, or with fewer rights, before its rights were raised: mmu_settle_fault
 * fences the address on the CPU that faulted. A kernel stack cannot be settled so, as the fault
 * needs the stack: left out are CPUs that keep the lack of a translation in their TLB, which QEMU's
 * do not.
 *
 * Reference and modification bits are set by the hardware, or by mmu_settle_fault where the
 * hardware faults instead; software cannot find out which of the two applies, and need not know.
 *
 * Instruction caches: after frames became executable, every CPU executes FENCE.I before it runs a
 * program: CPUs that run a program now do so at an interrupt, the others (cpu_fencei) when they
 * load a space.
 *
 * mmu.noflush and mmu.noshoot on the command line break the machine on purpose: no CPU flushes, or
 * only the calling CPU flushes. The conformance program, or the hot thread, must then fail. asids=N
 * leaves fewer numbers, so that they run out; asids=0: none.
 */
#include "machine/riscv64/cpu.h"

#include "hat/hat_impl.h"
#include "kernel/core/kernel.h"

#define FLUSH_ALL 16u /* for more pages than this, all translations of the space are flushed */

static struct spin asid_lock; /* interrupts off: hs_asids, the number of every space */

/* The number of address space numbers of the CPU, by the bits of satp that keep written values. */
static unsigned count_asids(void)
{
	uint64_t satp = csr_read("satp"), all = 0xffffull << SATP_ASID_SHIFT, got;

	csr_write("satp", satp | all);
	got = (csr_read("satp") & all) >> SATP_ASID_SHIFT;
	csr_write("satp", satp);
	return got + 1 < NASIDS ? (unsigned)got + 1 : NASIDS;
}

void mmu_init(struct mach *m, bool sv48)
{
	struct mach_caps *c = &m->m_caps;
	unsigned asids = count_asids();

	c->mc_name = sv48 ? "riscv64 Sv48" : "riscv64 Sv39";
	c->mc_direct_map = c->mc_ref_bits = c->mc_mod_bits = c->mc_threads = true;
	c->mc_user_min = 0x10000;
	c->mc_user_max = sv48 ? 1ull << 47 : 1ull << 38;
	c->mc_kernel_min = sv48 ? 0xffff960000000000ull : 0xffffffe000000000ull;
	c->mc_kernel_max = sv48 ? 0xffff968000000000ull : 0xffffffe080000000ull;
	c->mc_npagesizes = 2;
	c->mc_pageshift[0] = 12;
	c->mc_pageshift[1] = 21;
	shoot_init();
	if (cmdline_number("asids", asids) < asids)
		asids = (unsigned)cmdline_number("asids", asids);
	if (asids <= c->mc_ncpus + 1)
		asids = 0;
	if (!hat_shared_init(
		&m->m_hat, m, sv48 ? &hat_sv48 : &hat_sv39, c->mc_frame0, asids, false))
		kpanic("no memory for the HAT");
}

/* ---- fences ---- */
static void flush_everything(void) { __asm__ volatile("sfence.vma" : : : "memory"); }
static void flush_number(uint64_t asid)
{
	__asm__ volatile("sfence.vma zero, %0" : : "r"(asid) : "memory");
}
static void flush_one(vaddr_t va, uint64_t asid)
{
	__asm__ volatile("sfence.vma %0, %1" : : "r"(va), "r"(asid) : "memory");
}
static void flush_instructions(void) { __asm__ volatile("fence.i" : : : "memory"); }

static void set_stale(struct cpu *c, unsigned number)
{
	__atomic_fetch_or(
	    (uint64_t *)(void *)&c->cpu_stale[number / 64], 1ull << number % 64, __ATOMIC_SEQ_CST);
}

/* Called when this CPU is about to use the number. */
static void flush_stale(struct cpu *c, unsigned number)
{
	uint64_t *word = (uint64_t *)(void *)&c->cpu_stale[number / 64], bit = 1ull << number % 64;

	if ((__atomic_load_n(word, __ATOMIC_SEQ_CST) & bit) == 0)
		return;
	__atomic_fetch_and(word, ~bit, __ATOMIC_SEQ_CST);
	flush_number(number);
}

/* ---- loading a space ---- */
static uint64_t satp_of(struct hat *hat, unsigned number)
{
	struct mach *m = &the_machine;
	struct hat *kernel = m->m_hat.hs_kernel;
	uint64_t ppn = m->m_root >> VM_PAGESHIFT;

	if (hat != NULL || kernel != NULL)
		ppn = m->m_caps.mc_frame0 + hat_root(hat != NULL ? hat : kernel);
	return satp_mode << SATP_MODE_SHIFT | (uint64_t)number << SATP_ASID_SHIFT | ppn;
}

static void load_other(struct cpu *c, struct hat *hat)
{
	enum asid_flush flush;
	bool irq;

	__atomic_store_n(&c->cpu_hat, hat, __ATOMIC_SEQ_CST);
	irq = spin_lock(&asid_lock);
	c->cpu_asid = hat_enter(&the_machine.m_hat, hat, c->cpu_k.k_id, &flush);
	spin_unlock(&asid_lock, irq);
	if (load_slowly) {
		load_delay();
		flush_everything();
	}
	csr_write("satp", satp_of(hat, c->cpu_asid));
	/* until now the end of the space before waits (mmu_space_gone) */
	__atomic_store_n(&c->cpu_loaded, hat, __ATOMIC_SEQ_CST);
	mmu_counters.mc_loads++;
	if (flush == ASID_FLUSH_ALL) {
		for (unsigned i = 0; i < NASIDS / 64; i++)
			__atomic_store_n((uint64_t *)(void *)&c->cpu_stale[i], 0, __ATOMIC_SEQ_CST);
		flush_everything();
	}
}

void arch_load_space(struct hat *hat)
{
	bool irq = arch_irq_off();
	struct cpu *c = this_cpu();

	flag_set(&c->cpu_lazy, false);
	if (c->cpu_hat != hat || hat == NULL)
		load_other(c, hat);
	flush_stale(c, c->cpu_asid);
	if (flag_take(&c->cpu_fencei))
		flush_instructions();
	arch_irq_restore(irq);
}

void mmu_be_lazy(void) { flag_set(&this_cpu()->cpu_lazy, true); }

/* ---- flushing ---- */
static unsigned number_of(struct hat *hat)
{
	bool irq = spin_lock(&asid_lock);
	unsigned n = hat_number(hat);

	spin_unlock(&asid_lock, irq);
	return n;
}

static void flush_kernel(const struct mmu_range *r)
{
	if ((vaddr_t)(uintptr_t)__builtin_frame_address(0) - r->mr_va < r->mr_len)
		kpanic("the kernel unmaps the stack that it runs on");
	if (r->mr_tables || vm_btop(r->mr_len) > FLUSH_ALL) {
		flush_everything();
		return;
	}
	for (uint64_t at = 0; at < r->mr_len; at += VM_PAGESIZE)
		flush_address(r->mr_va + at);
}

/*
 * Flushes even if this CPU does not run the space, as it may have cached translations of the space
 * before.
 */
void shoot_flush(const struct mmu_range *r, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned number;

		if (r[i].mr_hat == the_machine.m_hat.hs_kernel) {
			flush_kernel(&r[i]);
			continue;
		}
		number = number_of(r[i].mr_hat);
		if (the_machine.m_hat.hs_asids.as_n > 0 && number == 0)
			continue; /* no CPU has loaded the space yet */
		if (r[i].mr_tables || vm_btop(r[i].mr_len) > FLUSH_ALL) {
			flush_number(number);
			continue;
		}
		for (uint64_t at = 0; at < r[i].mr_len; at += VM_PAGESIZE)
			flush_one(r[i].mr_va + at, number);
	}
}

void shoot_interrupt(unsigned id) { send_ipi(&cpus[id]); }

static void answer_shootdown(void)
{
	const struct mmu_range *range;
	unsigned n, from;

	if (!shoot_taken(&range, &n))
		return;
	if (n == 0)
		flush_instructions();
	shoot_flush(range, n);
	if (shoot_answered(&from))
		send_ipi(&cpus[from]);
}

/* Does the CPU run a program, in this space if one is named? */
static bool runs_program(struct cpu *c, const struct hat *hat)
{
	const struct hat *loaded = __atomic_load_n(&c->cpu_hat, __ATOMIC_SEQ_CST);

	return loaded != NULL && (hat == NULL || loaded == hat) && !flag_get(&c->cpu_lazy);
}

/* Marks the numbers of the ranges as stale on the CPU. */
bool shoot_must(unsigned id, const struct mmu_range *r, unsigned n)
{
	struct cpu *c = &cpus[id];
	bool now = false;

	for (unsigned i = 0; i < n; i++) {
		if (r[i].mr_hat == the_machine.m_hat.hs_kernel) {
			now |= !r[i].mr_soon;
			continue;
		}
		set_stale(c, number_of(r[i].mr_hat));
		mmu_counters.mc_marked++;
		now |= !r[i].mr_soon && runs_program(c, r[i].mr_hat);
	}
	return now;
}

void mmu_exec_loaded(struct mach *m, pfn_t pfn, pfn_t n)
{
	unsigned self;

	(void)m, (void)pfn, (void)n;
	self = shoot_begin(NULL, 0);
	for (unsigned i = 0; i < arch_ncpus(); i++) {
		if (i == self)
			continue;
		flag_set(&cpus[i].cpu_fencei, true);
		if (runs_program(&cpus[i], NULL))
			shoot_ask(i);
	}
	flush_instructions();
	shoot_wait();
}

/* Called on behalf of a program: hs_lock serialises shootdowns. */
void arch_flush_icache(void)
{
	struct mach_mutex *lock = &the_machine.m_hat.hs_lock;

	mach_mutex_enter(lock);
	mmu_exec_loaded(&the_machine, 0, 0);
	mach_mutex_exit(lock);
}

/* ---- the end of a space ---- */
static void load_bare_root(void)
{
	csr_write("satp", satp_mode << SATP_MODE_SHIFT | the_machine.m_root >> VM_PAGESHIFT);
	flush_everything();
}

/*
 * Makes every CPU that has the space loaded load another root. For the kernel's own space:
 * hs_kernel is NULL by now.
 */
void mmu_space_gone(struct hat *hat)
{
	bool irq;

	if (hat->h_kernel)
		load_bare_root();
	else if (this_cpu()->cpu_hat == hat)
		arch_load_space(NULL);
	for (unsigned i = 0; i < arch_ncpus(); i++) {
		struct cpu *c = &cpus[i];

		if (c == this_cpu() || (!hat->h_kernel && !leave_late && !cpu_has_space(c, hat)))
			continue;
		flag_set(&c->cpu_leave, true);
		send_ipi(c);
		while (flag_get(&c->cpu_leave))
			arch_relax();
	}
	spoil_root(hat);
	irq = spin_lock(&asid_lock);
	hat_forget(hat);
	spin_unlock(&asid_lock, irq);
}

/*
 * A request to leave a space may come late, when this CPU runs a thread of another space already:
 * that space stays loaded.
 */
void mmu_soft_interrupt(void)
{
	struct cpu *c = this_cpu();

	answer_shootdown();
	if (!flag_get(&c->cpu_leave))
		return;
	arch_load_space(arch_cur()->t_hat);
	flag_set(&c->cpu_leave, false);
}

/* Called at each tick: does the deferred flushes. */
void mmu_tick(void)
{
	struct cpu *c = this_cpu();

	if (!flag_get(&c->cpu_lazy))
		flush_stale(c, c->cpu_asid);
}

/* ---- faults ---- */
/*
 * A page fault says only that an access failed. *present: there is a translation. *settled: the
 * translation allows the access. The fault then came from a bit that this CPU wants software to
 * set, or from an older cached translation; the access is to be repeated.
 */
void mmu_settle_fault(struct hat *hat, vaddr_t va, enum seg_rw rw, bool *present, bool *settled)
{
	static const unsigned need[] = { [S_READ] = PROT_R, [S_WRITE] = PROT_W, [S_EXEC] = PROT_X };
	unsigned attr = 0;

	va = vm_page_trunc(va);
	*present = hat_probe(hat, va, &attr) != PFN_INVALID && attr != 0;
	*settled = *present && (attr & need[rw]) != 0;
	if (!*settled)
		return;
	if (hat_trap(hat, va, rw))
		__atomic_add_fetch(&mmu_counters.mc_traps, 1, __ATOMIC_RELAXED);
	flush_address(va);
}
