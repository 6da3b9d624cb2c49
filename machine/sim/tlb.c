/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One TLB per CPU, and the flushes that the CPUs still have to do.
 *
 * A TLB is set-associative with entries of every page size. An entry is tagged with the number of its space (asid.c),
 * filled by a walk and never looked at again by software: only a flush removes it. So a flush that the HAT forgot stays
 * visible: sim_tlb_check compares every entry with the tables. The rule: an entry may be weaker than the table (rights
 * were raised, bits were set since), never stronger, and never another frame.
 *
 * Two roots a space (SIM_KERNEL_SPLIT): the space has two numbers, so that changing roots flushes
 * no entry; the second number is the first with the highest bit set, which the HAT does not assign.
 * A flush drops entries of both numbers. Without numbers each change of roots empties the TLB
 * (cpu.c).
 *
 * Left out: caches of upper table levels; global pages; deferring flushes of the second number
 * until it is next loaded.
 */
#include "machine/sim/sim_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool sim_tlb_init(struct mach *m)
{
	unsigned sets = 1;

	while (sets * SIM_TLB_WAYS < m->m_cfg.tlb_entries)
		sets *= 2;
	m->m_tlbsets = sets;
	m->m_tlb = calloc((size_t)m->m_cfg.ncpus * sets * SIM_TLB_WAYS, sizeof(*m->m_tlb));
	m->m_cpu = calloc(m->m_cfg.ncpus, sizeof(*m->m_cpu));
	if (m->m_tlb != NULL && m->m_cpu != NULL && m->m_cfg.ncpus <= ASID_CPUS)
		return true;
	sim_tlb_fini(m);
	return false;
}

void sim_tlb_fini(struct mach *m)
{
	struct sim_ipi *i;

	while ((i = m->m_ipis) != NULL) {
		m->m_ipis = i->i_next;
		free(i);
	}
	free(m->m_tlb);
	free(m->m_cpu);
}

/* ---- one TLB ---- */
static bool on_user_root(const struct mach *m, unsigned cpu)
{
	return sim_is_split(m) && m->m_cpu[cpu].c_user;
}

static struct tlb_entry *tlb_set(struct mach *m, unsigned cpu, vaddr_t va, unsigned shift)
{
	size_t set = (size_t)((va >> shift ^ (m->m_cpu[cpu].c_asid * 7u)) & (m->m_tlbsets - 1));

	return m->m_tlb + ((size_t)cpu * m->m_tlbsets + set) * SIM_TLB_WAYS;
}

/* One lookup for each page size, as in any TLB with one array for all sizes. */
struct tlb_entry *sim_tlb_find(struct mach *m, unsigned cpu, vaddr_t va)
{
	unsigned asid = m->m_cpu[cpu].c_asid;

	for (unsigned s = 0; s < m->m_caps.mc_npagesizes; s++) {
		unsigned shift = m->m_caps.mc_pageshift[s];
		struct tlb_entry *t = tlb_set(m, cpu, va, shift);

		for (unsigned i = 0; i < SIM_TLB_WAYS; i++) {
			if (!t[i].t_valid || t[i].t_asid != asid || t[i].t_leaf.l_shift != shift ||
			    t[i].t_va != va >> shift << shift)
				continue;
			if (t[i].t_hat != m->m_cpu[cpu].c_hat ||
			    t[i].t_user != on_user_root(m, cpu))
				sim_panicf(m,
				    "cpu %u: a TLB entry of another space has number %u too", cpu,
				    asid);
			return &t[i];
		}
	}
	return NULL;
}

void sim_tlb_fill(struct mach *m, unsigned cpu, vaddr_t va, const struct sim_leaf *l)
{
	struct tlb_entry *t = sim_tlb_find(m, cpu, va);

	for (unsigned s = 0; s < m->m_caps.mc_npagesizes; s++)
		if (m->m_caps.mc_pageshift[s] == l->l_shift)
			m->m_stats.ss_miss[s]++;
	if (t == NULL || t->t_leaf.l_shift != l->l_shift)
		t = tlb_set(m, cpu, va, l->l_shift) + m->m_tlbhand++ % SIM_TLB_WAYS;
	*t = (struct tlb_entry){ .t_valid = true,
		.t_asid = m->m_cpu[cpu].c_asid,
		.t_hat = m->m_cpu[cpu].c_hat,
		.t_user = on_user_root(m, cpu),
		.t_va = va >> l->l_shift << l->l_shift,
		.t_leaf = *l };
}

/* Drops entries of a CPU: of one number in one range; asid UINT32_MAX: all. */
static void tlb_drop(struct mach *m, unsigned cpu, unsigned asid, vaddr_t va, uint64_t len)
{
	size_t n = (size_t)m->m_tlbsets * SIM_TLB_WAYS;
	struct tlb_entry *t = m->m_tlb + cpu * n;

	for (; n > 0; n--, t++) {
		if (!t->t_valid || (asid != UINT32_MAX && t->t_asid != asid) ||
		    t->t_va - va >= len) {
			/* the range may begin inside a large page */
			if (!t->t_valid || (asid != UINT32_MAX && t->t_asid != asid) ||
			    va - t->t_va >= 1ull << t->t_leaf.l_shift)
				continue;
		}
		t->t_valid = false;
		m->m_stats.ss_flushed++;
	}
}

/* ---- what a CPU runs ---- */
static bool is_stale(const struct sim_cpu *c, unsigned asid)
{
	return (c->c_stale[asid / 64] >> (asid % 64) & 1) != 0;
}

void sim_set_stale(struct sim_cpu *c, unsigned asid)
{
	c->c_stale[asid / 64] |= 1ull << (asid % 64);
}

/* The number under which the root of user mode is cached. */
unsigned sim_user_number(const struct mach *m, unsigned number)
{
	return number + (sim_is_split(m) ? m->m_cfg.asids / 2 : 0);
}

/*
 * The number that a range is cached under; any number for a range of the kernel's own space, which
 * all spaces share.
 */
unsigned sim_range_number(const struct mach *m, const struct mmu_range *r)
{
	return r->mr_hat == m->m_hat.hs_kernel ? UINT32_MAX : hat_number(r->mr_hat);
}

/* Drops the range of a space on that CPU, under both numbers of the space. */
void sim_drop_range(struct mach *m, unsigned cpu, unsigned number, const struct mmu_range *r)
{
	tlb_drop(m, cpu, number, r->mr_va, r->mr_len);
	if (number != UINT32_MAX && sim_user_number(m, number) != number && !m->m_cfg.no_user_flush)
		tlb_drop(m, cpu, sim_user_number(m, number), r->mr_va, r->mr_len);
}

void sim_tlb_empty(struct mach *m, unsigned cpu)
{
	tlb_drop(m, cpu, UINT32_MAX, 0, UINT64_MAX);
	memset(m->m_cpu[cpu].c_stale, 0, sizeof(m->m_cpu[cpu].c_stale));
}

/* Called before the loaded number is used. */
void sim_drop_stale(struct mach *m, unsigned cpu)
{
	struct sim_cpu *c = &m->m_cpu[cpu];

	if (!is_stale(c, c->c_asid))
		return;
	tlb_drop(m, cpu, c->c_asid, 0, UINT64_MAX);
	c->c_stale[c->c_asid / 64] &= ~(1ull << (c->c_asid % 64));
}

void sim_cpu_idle(struct mach *m, unsigned cpu) { m->m_cpu[cpu].c_idle = true; }

/* ---- checks ---- */
/* May a CPU use this entry, given the table entries of all pages that it covers? */
static bool entry_ok(struct mach *m, const struct tlb_entry *t, vaddr_t *va)
{
	const struct sim_leaf *c = &t->t_leaf;
	vaddr_t end = t->t_va + (1ull << c->l_shift);
	struct sim_leaf l = { 0 };

	for (*va = t->t_va; *va < end;
	     *va = (*va >> l.l_shift << l.l_shift) + (1ull << l.l_shift)) {
		if (!sim_walk(m, t->t_hat, t->t_user, *va, &l))
			return false;
		if (l.l_frame + ((*va & ((1ull << l.l_shift) - 1)) >> VM_PAGESHIFT) !=
		    c->l_frame + ((*va - t->t_va) >> VM_PAGESHIFT))
			return false;
		if (c->l_caching != l.l_caching || (c->l_user && !l.l_user) || (c->l_r && !l.l_r) ||
		    (c->l_w && !l.l_w) || (c->l_x && !l.l_x) || (c->l_a && !l.l_a) ||
		    (c->l_d && !l.l_d))
			return false;
	}
	return true;
}

/* Will the CPU drop the entry before it can use it? */
static bool goes_first(struct mach *m, unsigned cpu, const struct tlb_entry *t)
{
	const struct sim_cpu *c = &m->m_cpu[cpu];

	if (c->c_hat == t->t_hat &&
	    (c->c_number == t->t_asid || sim_user_number(m, c->c_number) == t->t_asid))
		return (c->c_idle || c->c_asid != t->t_asid) && is_stale(c, t->t_asid);
	return is_stale(c, t->t_asid) || m->m_hat.hs_asids.as_flush[cpu] || m->m_cfg.asids == 0;
}

unsigned sim_tlb_check_space(
    struct mach *m, const struct hat *hat, void (*report)(void *, const char *), void *arg)
{
	size_t per = (size_t)m->m_tlbsets * SIM_TLB_WAYS, entries = m->m_cfg.ncpus * per;
	unsigned bad = 0;
	char text[160];

	for (size_t i = 0; i < entries; i++) {
		const struct tlb_entry *t = &m->m_tlb[i];
		vaddr_t va;

		if (!t->t_valid || t->t_hat == NULL || (hat != NULL && t->t_hat != hat) ||
		    goes_first(m, (unsigned)(i / per), t) || entry_ok(m, t, &va))
			continue;
		(void)snprintf(text, sizeof(text),
		    "tlb: cpu %zu va %llx: a cached translation allows what the tables do not",
		    i / per, (unsigned long long)va);
		report(arg, text);
		bad++;
	}
	return bad;
}

unsigned sim_tlb_check(struct mach *m, void (*report)(void *, const char *), void *arg)
{
	return sim_tlb_check_space(m, NULL, report, arg);
}
