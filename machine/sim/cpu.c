/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The CPUs' part in translation: the space and mode of each CPU, the cost of entering the kernel,
 * and the flushes that the HAT requests.
 *
 * Shootdown. The CPU that removes a translation flushes its own TLB and interrupts the CPUs that
 * run the space now. These CPUs notice the interrupt after a delay and use their cached entries
 * until then; the sender waits for all of them. A CPU that does not run the space, or idles in it,
 * is not interrupted: the space's number is marked stale on that CPU, and its entries are flushed
 * before the CPU next uses them. One interrupt carries all ranges of the batch.
 */
#include "machine/sim/sim_impl.h"

#include "quire/as.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- spaces and modes ---- */
/* Loads the space's root and number; the CPU is in the kernel. */
static void load_space(struct mach *m, unsigned cpu, struct hat *hat)
{
	struct sim_cpu *c = &m->m_cpu[cpu];
	enum asid_flush flush = ASID_KEEP;

	c->c_idle = false;
	if (c->c_hat != hat) {
		c->c_asid = c->c_number = hat_enter(&m->m_hat, hat, cpu, &flush);
		c->c_hat = hat;
		m->m_stats.ss_load++;
		if (m->m_cfg.format == SIM_PAE)
			sim_pae_load(m, hat_root(hat) + m->m_cfg.frame0, c->c_pdpte);
	}
	for (unsigned i = 0; flush == ASID_FLUSH_NUMBER && i < m->m_cfg.ncpus; i++)
		sim_set_stale(&m->m_cpu[i], c->c_asid);
	if (flush == ASID_FLUSH_ALL) {
		m->m_stats.ss_load_flush++;
		sim_tlb_empty(m, cpu);
	} else {
		sim_drop_stale(m, cpu);
	}
}

/* Switches to the other mode, and to the other root if there are two. */
static void set_mode(struct mach *m, unsigned cpu, bool user)
{
	struct sim_cpu *c = &m->m_cpu[cpu];

	c->c_user = user;
	if (!sim_is_split(m))
		return;
	c->c_asid = user ? sim_user_number(m, c->c_number) : c->c_number;
	m->m_stats.ss_root++;
	if (m->m_cfg.asids == 0) {
		m->m_stats.ss_root_flush++;
		sim_tlb_empty(m, cpu);
	} else {
		sim_drop_stale(m, cpu);
	}
}

/*
 * A read in the CPU's present mode, or speculatively, without a check of rights; NULL: no
 * translation.
 */
static uint8_t *read_at(struct mach *m, unsigned cpu, vaddr_t va, bool fill)
{
	struct tlb_entry *t = sim_tlb_find(m, cpu, va);
	struct sim_leaf l;

	if (t != NULL) {
		l = t->t_leaf;
		m->m_stats.ss_tlb_hit++;
	} else {
		m->m_stats.ss_tlb_miss++;
		if (!sim_walk_cpu(m, cpu, va, &l))
			return NULL;
		if (fill) {
			sim_mark(m, &l, true, false);
			sim_tlb_fill(m, cpu, va, &l);
		}
	}
	return m->m_mem + ((size_t)l.l_frame << VM_PAGESHIFT) + (va & ((1ull << l.l_shift) - 1));
}

/* The CPU executes a page of the kernel: of the entry area, or of the kernel's text. */
static void run_kernel(struct mach *m, unsigned cpu, bool entry)
{
	struct sim_kernel_layout l;
	vaddr_t code, stack;

	sim_kernel_layout(m, &l);
	code = entry ? l.kl_entry.kr_va : l.kl_text.kr_va;
	stack = l.kl_entry.kr_va + vm_ptob(1 + cpu);
	if (read_at(m, cpu, code, true) == NULL || read_at(m, cpu, stack, true) == NULL)
		sim_panicf(m, "cpu %u: the kernel is not mapped when it is entered", cpu);
}

void sim_kernel_enter(struct mach *m, unsigned cpu)
{
	struct sim_cpu *c = &m->m_cpu[cpu];

	if (!c->c_user)
		return;
	m->m_stats.ss_kernel++;
	run_kernel(m, cpu, true);
	set_mode(m, cpu, false);
	run_kernel(m, cpu, false);
}

void sim_cpu_enter(struct mach *m, unsigned cpu, struct hat *hat)
{
	struct sim_cpu *c = &m->m_cpu[cpu];

	if (m->m_ipis != NULL)
		sim_ipi_deliver(m);
	if (c->c_hat != hat || c->c_idle) {
		sim_kernel_enter(m, cpu);
		load_space(m, cpu, hat);
	}
	if (!c->c_user && m->m_cfg.kernel != SIM_KERNEL_OUTSIDE)
		set_mode(m, cpu, true);
}

/* ---- flushes ---- */
/*
 * Must the CPU be interrupted for that range? If not, the range's number is marked stale on the
 * CPU.
 */
static bool must_interrupt(struct mach *m, unsigned cpu, const struct mmu_range *r)
{
	struct sim_cpu *c = &m->m_cpu[cpu];
	unsigned asid = c->c_hat == r->mr_hat ? c->c_number : hat_number(r->mr_hat);

	if (r->mr_hat == m->m_hat.hs_kernel)
		return true;
	if (c->c_hat == r->mr_hat && !c->c_idle)
		return true;
	sim_set_stale(c, asid);
	if (!m->m_cfg.no_user_flush)
		sim_set_stale(c, sim_user_number(m, asid));
	return false;
}

void mmu_tlb_flush(struct mach *m, const struct mmu_range *r, unsigned n)
{
	unsigned self = m->m_cur->f_cpu;
	struct sim_ipi *ipi = NULL;

	m->m_stats.ss_flush++;
	if (m->m_cfg.no_flush)
		return;
	for (unsigned k = 0; k < n; k++)
		sim_drop_range(m, self, sim_range_number(m, &r[k]), &r[k]);
	for (unsigned cpu = 0; cpu < m->m_cfg.ncpus; cpu++) {
		bool hit = false;

		for (unsigned k = 0; cpu != self && k < n; k++)
			hit |= must_interrupt(m, cpu, &r[k]);
		if (cpu == self)
			continue;
		if (!hit) {
			m->m_stats.ss_lazy++;
			continue;
		}
		if (ipi == NULL)
			ipi = sim_ipi_make(m, r, n);
		sim_ipi_send(m, ipi, cpu);
		ipi->i_left++;
	}
	if (ipi == NULL)
		return;
	m->m_stats.ss_shootdown++;
	ipi->i_next = m->m_ipis;
	m->m_ipis = ipi;
	if (ipi->i_nowait)
		return;
	if (m->m_cfg.ipi_latency == 0) {
		if (m->m_now == 0)
			m->m_now = 1;
		sim_ipi_deliver(m);
	}
	if (ipi->i_left > 0)
		sim_wait_ipi(m, ipi);
	free(ipi);
}

void mmu_space_gone(struct hat *hat)
{
	struct mach *m = hat_mach(hat);
	size_t entries = (size_t)m->m_cfg.ncpus * m->m_tlbsets * SIM_TLB_WAYS;
	enum asid_flush flush;

	for (unsigned cpu = 0; cpu < m->m_cfg.ncpus; cpu++) {
		if (m->m_cpu[cpu].c_hat != hat)
			continue;
		/* that CPU is made to load the kernel's own tables */
		(void)hat_enter(&m->m_hat, NULL, cpu, &flush);
		m->m_cpu[cpu].c_hat = NULL;
		m->m_cpu[cpu].c_asid = m->m_cpu[cpu].c_number = 0;
		m->m_cpu[cpu].c_user = false;
		m->m_stats.ss_ipi += cpu != m->m_cur->f_cpu;
	}
	hat_forget(hat);
	for (size_t i = 0; i < entries; i++)
		if (m->m_tlb[i].t_hat == hat)
			m->m_tlb[i].t_hat = NULL;
}

/* ---- the kernel's half (sim.h) ---- */
void sim_syscall(struct mach *m, struct as *as, unsigned cpu)
{
	sim_cpu_enter(m, cpu, as_hat(as));
	sim_kernel_enter(m, cpu);
	sim_cpu_enter(m, cpu, as_hat(as));
}

bool sim_kernel_read(struct mach *m, struct hat *hat, unsigned cpu, vaddr_t va, uint8_t *byte)
{
	const uint8_t *at;

	sim_kernel_enter(m, cpu);
	load_space(m, cpu, hat);
	if ((at = read_at(m, cpu, va, true)) != NULL)
		*byte = *at;
	return at != NULL;
}

bool sim_transient_read(struct mach *m, struct hat *hat, unsigned cpu, vaddr_t va, uint8_t *byte)
{
	const uint8_t *at;

	sim_cpu_enter(m, cpu, hat);
	if ((at = read_at(m, cpu, va, false)) != NULL)
		*byte = *at;
	return at != NULL;
}

bool sim_translated(struct mach *m, struct hat *hat, bool user, vaddr_t va, bool *exec)
{
	struct sim_leaf l = { 0 };
	bool found = sim_walk(m, hat, user, va, &l);

	if (exec != NULL)
		*exec = found && l.l_x;
	return found;
}

/* ---- vm_check ---- */
unsigned mmu_check(struct hat *hat, void (*report)(void *, const char *), void *arg)
{
	struct mach *m = hat_mach(hat);
	vaddr_t va = sim_kernel_exposed(m, hat);
	char text[120];

	if (va != 0) {
		(void)snprintf(text, sizeof(text),
		    "mmu: the root of user mode leads to the kernel's %llx",
		    (unsigned long long)va);
		report(arg, text);
	}
	return sim_tlb_check_space(m, hat, report, arg) + (va != 0);
}
