/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TLBs of the simulated machine: one per CPU, set-associative, with entries of every page size.
 *
 * An entry is tagged with its space, filled by a walk and never looked at again by software: only a flush removes it.
 * So a flush that the HAT forgot stays visible: sim_tlb_check compares every entry with the tables. The rule: an entry
 * may be weaker than the table (rights were raised, bits were set since), never stronger, and never another frame.
 */
#include "machine/sim/sim_impl.h"

#include <stdio.h>
#include <stdlib.h>

bool sim_tlb_init(struct mach *m)
{
	unsigned sets = 1;

	while (sets * SIM_TLB_WAYS < m->m_cfg.tlb_entries)
		sets *= 2;
	m->m_tlbsets = sets;
	m->m_tlb = calloc((size_t)m->m_cfg.ncpus * sets * SIM_TLB_WAYS, sizeof(*m->m_tlb));
	return m->m_tlb != NULL;
}

static struct tlb_entry *tlb_set(struct mach *m, unsigned cpu, struct hat *hat, vaddr_t va, unsigned shift)
{
	size_t set = (size_t)((va >> shift ^ (hat_serial(hat) * 7u)) & (m->m_tlbsets - 1));

	return m->m_tlb + ((size_t)cpu * m->m_tlbsets + set) * SIM_TLB_WAYS;
}

/* One look for each page size, as a TLB with one array for all of them must. */
struct tlb_entry *sim_tlb_find(struct mach *m, unsigned cpu, struct hat *hat, vaddr_t va)
{
	for (unsigned s = 0; s < m->m_caps.mc_npagesizes; s++) {
		unsigned shift = m->m_caps.mc_pageshift[s];
		struct tlb_entry *t = tlb_set(m, cpu, hat, va, shift);

		for (unsigned i = 0; i < SIM_TLB_WAYS; i++)
			if (t[i].t_hat == hat && t[i].t_leaf.l_shift == shift && t[i].t_va == va >> shift << shift)
				return &t[i];
	}
	return NULL;
}

void sim_tlb_fill(struct mach *m, unsigned cpu, struct hat *hat, vaddr_t va, const struct sim_leaf *l)
{
	struct tlb_entry *t = sim_tlb_find(m, cpu, hat, va);

	if (t == NULL || t->t_leaf.l_shift != l->l_shift)
		t = tlb_set(m, cpu, hat, va, l->l_shift) + m->m_tlbhand++ % SIM_TLB_WAYS;
	*t = (struct tlb_entry){ .t_hat = hat, .t_va = va >> l->l_shift << l->l_shift, .t_leaf = *l };
}

static bool overlaps(const struct tlb_entry *t, const struct mmu_range *r)
{
	return t->t_hat == r->mr_hat && t->t_va < r->mr_va + r->mr_len &&
	    r->mr_va < t->t_va + (1ull << t->t_leaf.l_shift);
}

void mmu_tlb_flush(struct mach *m, const struct mmu_range *r, unsigned n)
{
	size_t entries = (size_t)m->m_cfg.ncpus * m->m_tlbsets * SIM_TLB_WAYS;

	m->m_stats.ss_flush++;
	for (size_t i = 0; i < entries; i++) {
		for (unsigned k = 0; k < n && m->m_tlb[i].t_hat != NULL; k++) {
			if (overlaps(&m->m_tlb[i], &r[k])) {
				m->m_tlb[i].t_hat = NULL;
				m->m_stats.ss_flushed++;
			}
		}
	}
}

void mmu_space_gone(struct hat *hat)
{
	struct mach *m = hat_mach(hat);
	size_t entries = (size_t)m->m_cfg.ncpus * m->m_tlbsets * SIM_TLB_WAYS;

	for (size_t i = 0; i < entries; i++)
		if (m->m_tlb[i].t_hat == hat)
			m->m_tlb[i].t_hat = NULL;
}

/* May a CPU act by this entry, given what the tables say of every page it covers? */
static bool entry_ok(struct mach *m, const struct tlb_entry *t, vaddr_t *va)
{
	const struct sim_leaf *c = &t->t_leaf;
	vaddr_t end = t->t_va + (1ull << c->l_shift);
	struct sim_leaf l = { 0 };

	for (*va = t->t_va; *va < end; *va = (*va >> l.l_shift << l.l_shift) + (1ull << l.l_shift)) {
		if (!sim_walk(m, t->t_hat, *va, &l))
			return false;
		if (l.l_frame + ((*va & ((1ull << l.l_shift) - 1)) >> VM_PAGESHIFT) !=
		    c->l_frame + ((*va - t->t_va) >> VM_PAGESHIFT))
			return false;
		if ((c->l_r && !l.l_r) || (c->l_w && !l.l_w) || (c->l_x && !l.l_x) || (c->l_a && !l.l_a) ||
		    (c->l_d && !l.l_d))
			return false;
	}
	return true;
}

unsigned sim_tlb_check(struct mach *m, void (*report)(void *, const char *), void *arg)
{
	size_t entries = (size_t)m->m_cfg.ncpus * m->m_tlbsets * SIM_TLB_WAYS;
	unsigned bad = 0;
	char text[160];

	for (size_t i = 0; i < entries; i++) {
		const struct tlb_entry *t = &m->m_tlb[i];
		vaddr_t va;

		if (t->t_hat == NULL || entry_ok(m, t, &va))
			continue;
		(void)snprintf(text, sizeof(text), "tlb: cpu %zu va %llx: a cached translation allows what the tables do not",
		    i / ((size_t)m->m_tlbsets * SIM_TLB_WAYS), (unsigned long long)va);
		report(arg, text);
		bad++;
	}
	return bad;
}
