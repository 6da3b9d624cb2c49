/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine's side of the HAT (hat/mmu.h): roots, TLB flushes, shootdown.
 *
 * No PCIDs yet: loading a root flushes all translations but global ones, which only the kernel has.
 * So a CPU caches translations only of the space in cpu_hat and of the kernel. A CPU that runs a
 * thread without a space keeps its root (cpu_lazy) and need not be interrupted for a flush of that
 * space: the CPU is marked stale, and flushes its TLB when it returns to the space. The flushing
 * CPU sets the mark, then checks whether the other CPU is still lazy; the other CPU stops being
 * lazy, then checks the mark. All four accesses are in one total order, so at least one of the two
 * CPUs sees the other's store.
 *
 * Shootdown (machine/metal/shoot.c): the CPU that flushes interrupts the others that have one of the spaces loaded (all of them for the
 * kernel's), flushes for itself and waits for their answers.
 *
 * A range of which only reference bits were cleared (mr_soon) interrupts no CPU: the CPUs that run the space are marked stale and empty
 * their TLBs with their next tick.
 *
 * A CPU may load a space while the space is flushed. The CPU stores cpu_hat before it loads the
 * root, and the flushing CPU changes the tables before it reads cpu_hat, in one total order. So
 * either the flushing CPU sees the store, or the other CPU's walks see the new tables. The CPU
 * stores cpu_loaded after it has loaded the root: until then, the end of the space before waits.
 *
 * mmu.noflush on the command line breaks the machine on purpose: no flush is done. The conformance program must then fail.
 */
#include "machine/x86_64/cpu.h"

#include "hat/hat_impl.h"
#include "kernel/core/kernel.h"

#define FLUSH_ALL 64u /* for more pages than this, the whole TLB is flushed */

void mmu_init(struct mach *m)
{
	m->m_caps.mc_name = "x86_64";
	m->m_caps.mc_ncpus = 1;
	m->m_caps.mc_direct_map = m->m_caps.mc_ref_bits = m->m_caps.mc_mod_bits =
	    m->m_caps.mc_threads = true;
	m->m_caps.mc_user_min = 0x10000;
	m->m_caps.mc_user_max = 1ull << 47;
	m->m_caps.mc_kernel_min = KAS_MIN;
	m->m_caps.mc_kernel_max = KAS_MAX;
	m->m_caps.mc_npagesizes = 2;
	m->m_caps.mc_pageshift[0] = 12;
	m->m_caps.mc_pageshift[1] = 21;
	shoot_init();
	if (!hat_shared_init(&m->m_hat, m, &hat_x86_64, 0, 0, false))
		kpanic("no memory for the HAT");
}

void mmu_exec_loaded(struct mach *m, pfn_t pfn, pfn_t n)
{
	(void)m, (void)pfn, (void)n; /* instruction caches are coherent */
}

void arch_flush_icache(void) {}

/* ---- loading a space ---- */
static uint64_t root_of(struct hat *hat)
{
	struct hat *kernel = the_machine.m_hat.hs_kernel;

	if (hat != NULL)
		return vm_ptob(hat_root(hat));
	return kernel != NULL ? vm_ptob(hat_root(kernel)) : the_machine.m_root;
}

static void flush_global(void)
{
	uint64_t cr4 = read_cr4();

	write_cr4(cr4 & ~0x80ull);
	write_cr4(cr4);
}

void arch_load_space(struct hat *hat)
{
	bool irq = arch_irq_off();
	struct cpu *c = this_cpu();

	__atomic_store_n((bool *)(void *)&c->cpu_lazy, false, __ATOMIC_SEQ_CST);
	if (c->cpu_hat != hat || hat == NULL) {
		__atomic_store_n(&c->cpu_hat, hat, __ATOMIC_SEQ_CST);
		__atomic_store_n((bool *)(void *)&c->cpu_stale, false, __ATOMIC_SEQ_CST);
		if (load_slowly) {
			load_delay();
			flush_global();
		}
		write_cr3(root_of(hat));
		__atomic_store_n(&c->cpu_loaded, hat, __ATOMIC_SEQ_CST);
		mmu_counters.mc_loads++;
	} else if (__atomic_exchange_n((bool *)(void *)&c->cpu_stale, false, __ATOMIC_SEQ_CST)) {
		write_cr3(root_of(hat));
	}
	arch_irq_restore(irq);
}

void mmu_be_lazy(void)
{
	__atomic_store_n((bool *)(void *)&this_cpu()->cpu_lazy, true, __ATOMIC_SEQ_CST);
}

/* ---- flushing ---- */
void shoot_flush(const struct mmu_range *r, unsigned n)
{
	struct hat *kernel = the_machine.m_hat.hs_kernel;
	struct cpu *c = this_cpu();

	for (unsigned i = 0; i < n; i++) {
		bool global = r[i].mr_hat == kernel;

		if (!global && r[i].mr_hat != c->cpu_hat)
			continue;
		if (global &&
		    (vaddr_t)(uintptr_t)__builtin_frame_address(0) - r[i].mr_va < r[i].mr_len)
			kpanic("the kernel unmaps the stack that it runs on");
		if (vm_btop(r[i].mr_len) > FLUSH_ALL) {
			if (global)
				flush_global();
			else
				write_cr3(read_cr3());
			continue;
		}
		for (uint64_t at = 0; at < r[i].mr_len; at += VM_PAGESIZE)
			invlpg(r[i].mr_va + at);
	}
}

void shoot_interrupt(unsigned id) { apic_ipi(cpus[id].cpu_apic, VEC_SHOOT); }

void mmu_shoot(void)
{
	const struct mmu_range *r;
	unsigned n, from;

	if (!shoot_taken(&r, &n))
		return;
	shoot_flush(r, n);
	if (shoot_answered(&from))
		apic_ipi(cpus[from].cpu_apic, VEC_WAKE);
}

/* If the CPU is lazy, the stale mark is enough. */
bool shoot_must(unsigned id, const struct mmu_range *r, unsigned n)
{
	struct cpu *c = &cpus[id];
	struct hat *loaded = __atomic_load_n(&c->cpu_hat, __ATOMIC_SEQ_CST);
	bool has = false;

	for (unsigned i = 0; i < n; i++) {
		if (r[i].mr_soon) {
			if (r[i].mr_hat == loaded)
				flag_set(&c->cpu_stale, true);
			/* the CPU drops the range at its next tick, which is soon enough */
			continue;
		}
		if (r[i].mr_hat == the_machine.m_hat.hs_kernel)
			return true;
		has |= r[i].mr_hat == loaded;
	}
	if (!has)
		return false;
	if (!flag_get(&c->cpu_lazy))
		return true;
	flag_set(&c->cpu_stale, true);
	mmu_counters.mc_marked++;
	return !flag_get(&c->cpu_lazy);
}

/* Loads the kernel's own root on the CPU. */
static void leave_space(struct hat *hat)
{
	if (this_cpu()->cpu_hat == hat)
		arch_load_space(NULL);
}

void mmu_space_gone(struct hat *hat)
{
	if (hat->h_kernel) {
		write_cr3(the_machine.m_root);
		return;
	}
	leave_space(hat);
	/* another CPU may keep the root lazily: that CPU is made to load the kernel's */
	for (unsigned i = 0; i < arch_ncpus(); i++) {
		while (cpu_has_space(&cpus[i], hat)) {
			__atomic_store_n(
			    (bool *)(void *)&cpus[i].cpu_leave, true, __ATOMIC_SEQ_CST);
			apic_ipi(cpus[i].cpu_apic, VEC_SHOOT);
			arch_relax();
		}
		if (leave_late && &cpus[i] != this_cpu()) {
			flag_set(&cpus[i].cpu_leave, true);
			apic_ipi(cpus[i].cpu_apic, VEC_SHOOT);
		}
	}
	spoil_root(hat);
	hat_forget(hat);
}

/* Called at each tick: does the deferred flushes. */
void mmu_tick(void)
{
	struct cpu *c = this_cpu();

	if (!c->cpu_lazy &&
	    __atomic_exchange_n((bool *)(void *)&c->cpu_stale, false, __ATOMIC_SEQ_CST))
		write_cr3(read_cr3());
}

/*
 * Called in the interrupt: leaves a space that ends. The request may come late, when this CPU runs
 * a thread of another space already: that space stays loaded.
 */
void mmu_leave_dead(void)
{
	if (flag_take(&this_cpu()->cpu_leave))
		arch_load_space(arch_cur()->t_hat);
}
