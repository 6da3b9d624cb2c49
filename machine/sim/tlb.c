/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MMU of the simulated machine: the walk of the tables, and one set-associative TLB per CPU.
 *
 * An entry is tagged with its space, filled by a walk and never looked at again by software: only a flush removes it.
 * So a flush that the HAT forgot stays visible: sim_tlb_check compares every entry with the tables. The rule: an entry
 * may be weaker than the table (rights were raised, bits were set since), never stronger, and never another frame.
 */
#include "machine/sim/sim_impl.h"

#include <stdio.h>
#include <stdlib.h>

#define LEVELS 4u

bool sim_tlb_init(struct mach *m)
{
	unsigned sets = 1;

	while (sets * SIM_TLB_WAYS < m->m_cfg.tlb_entries)
		sets *= 2;
	m->m_tlbsets = sets;
	m->m_tlb = calloc((size_t)m->m_cfg.ncpus * sets * SIM_TLB_WAYS, sizeof(*m->m_tlb));
	return m->m_tlb != NULL;
}

static struct tlb_entry *tlb_set(struct mach *m, unsigned cpu, struct hat *hat, uint64_t vpn)
{
	size_t set = (size_t)((vpn ^ (hat_serial(hat) * 7u)) & (m->m_tlbsets - 1));

	return m->m_tlb + ((size_t)cpu * m->m_tlbsets + set) * SIM_TLB_WAYS;
}

struct tlb_entry *sim_tlb_find(struct mach *m, unsigned cpu, struct hat *hat, uint64_t vpn)
{
	struct tlb_entry *t = tlb_set(m, cpu, hat, vpn);

	for (unsigned i = 0; i < SIM_TLB_WAYS; i++)
		if (t[i].t_hat == hat && t[i].t_vpn == vpn)
			return &t[i];
	return NULL;
}

void sim_tlb_fill(struct mach *m, unsigned cpu, struct hat *hat, uint64_t vpn, uint64_t pte)
{
	struct tlb_entry *t = sim_tlb_find(m, cpu, hat, vpn);

	if (t == NULL)
		t = tlb_set(m, cpu, hat, vpn) + m->m_tlbhand++ % SIM_TLB_WAYS;
	*t = (struct tlb_entry){ .t_hat = hat, .t_vpn = vpn, .t_pte = pte };
}

static void flush_all(struct mach *m, struct hat *hat, uint64_t first, uint64_t n)
{
	size_t entries = (size_t)m->m_cfg.ncpus * m->m_tlbsets * SIM_TLB_WAYS;

	for (size_t i = 0; i < entries; i++) {
		if (m->m_tlb[i].t_hat == hat && m->m_tlb[i].t_vpn - first < n) {
			m->m_tlb[i].t_hat = NULL;
			m->m_stats.ss_flushed++;
		}
	}
}

void mmu_tlb_flush(struct hat *hat, vaddr_t va, uint64_t len)
{
	struct mach *m = hat_mach(hat);
	uint64_t n = len == UINT64_MAX ? UINT64_MAX : len >> VM_PAGESHIFT, first = va >> VM_PAGESHIFT;

	m->m_stats.ss_flush++;
	if (n > m->m_tlbsets) {
		flush_all(m, hat, first, n);
		return;
	}
	for (unsigned cpu = 0; cpu < m->m_cfg.ncpus; cpu++) {
		for (uint64_t i = 0; i < n; i++) {
			struct tlb_entry *t = sim_tlb_find(m, cpu, hat, first + i);

			if (t != NULL) {
				t->t_hat = NULL;
				m->m_stats.ss_flushed++;
			}
		}
	}
}

uint64_t *sim_walk(struct mach *m, struct hat *hat, vaddr_t va)
{
	pfn_t table = hat_root(hat);

	if (va >> 47 != 0 || table == PFN_INVALID)
		return NULL;
	for (unsigned level = LEVELS - 1;; level--) {
		uint64_t *e = (uint64_t *)(void *)(m->m_mem + ((size_t)table << VM_PAGESHIFT)) +
		    ((va >> (VM_PAGESHIFT + 9 * level)) & 511);

		if (level == 0)
			return e;
		if (!(*e & X86_P))
			return NULL;
		table = (pfn_t)((*e & X86_FRAME) >> VM_PAGESHIFT);
		if (table >= m->m_cfg.frames)
			sim_panicf(m, "walk of %llx: level %u points to frame %u", (unsigned long long)va,
			    level, table);
	}
}

unsigned sim_tlb_check(struct mach *m, void (*report)(void *, const char *), void *arg)
{
	size_t entries = (size_t)m->m_cfg.ncpus * m->m_tlbsets * SIM_TLB_WAYS;
	unsigned bad = 0;
	char text[160];

	for (size_t i = 0; i < entries; i++) {
		const struct tlb_entry *t = &m->m_tlb[i];
		const uint64_t *ptep, granted = X86_P | X86_W | X86_A | X86_D;
		uint64_t pte;

		if (t->t_hat == NULL)
			continue;
		ptep = sim_walk(m, t->t_hat, t->t_vpn << VM_PAGESHIFT);
		pte = ptep == NULL ? 0 : *ptep;
		if ((t->t_pte & granted & ~pte) == 0 && ((t->t_pte ^ pte) & X86_FRAME) == 0 &&
		    !(pte & ~t->t_pte & X86_NX))
			continue;
		(void)snprintf(text, sizeof(text), "tlb: cpu %zu va %llx: cached %llx, table %llx",
		    i / ((size_t)m->m_tlbsets * SIM_TLB_WAYS), (unsigned long long)(t->t_vpn << VM_PAGESHIFT),
		    (unsigned long long)t->t_pte, (unsigned long long)pte);
		report(arg, text);
		bad++;
	}
	return bad;
}
