/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The CPUs' side of translation: which space each has loaded, one TLB per CPU, and interrupts to flush it.
 *
 * A TLB is set-associative with entries of every page size. An entry is tagged with the number of its space (asid.c),
 * filled by a walk and never looked at again by software: only a flush removes it. So a flush that the HAT forgot stays
 * visible: sim_tlb_check compares every entry with the tables. The rule: an entry may be weaker than the table (rights
 * were raised, bits were set since), never stronger, and never another frame.
 *
 * Shootdown. The CPU that takes a translation away flushes its own TLB and interrupts the CPUs that run the space now; they
 * notice after a delay and meanwhile use what they have; he waits for all of them. A CPU that does not run the space,
 * or idles in it, is not interrupted: its number is marked stale there and its entries go before the CPU next uses
 * them. One interrupt carries all ranges of the batch.
 *
 * Two roots a space (SIM_KERNEL_SPLIT): the space has two numbers, so that changing roots empties nothing; the second one
 * is the first with the highest bit set, which the HAT does not give out. A flush drops what is cached under either. Without numbers
 * each change of roots empties the TLB.
 *
 * Interrupts may be lost or late (sim_ipi_fail, ipi_loss). The sender cannot know which: when no answer has come in time
 * it sends again. A second one that arrives after all flushes once more, which is harmless; one that is never answered
 * ends in a panic, because to go on would be to give away a frame that another CPU can still reach.
 *
 * Left out: caches of upper table levels; global pages; flushes of the second number put off until it is next loaded.
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

/* One look for each page size, as a TLB with one array for all of them must. */
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

static void set_stale(struct sim_cpu *c, unsigned asid)
{
	c->c_stale[asid / 64] |= 1ull << (asid % 64);
}

/* The number under which the root of user mode is cached. */
static unsigned user_number(const struct mach *m, unsigned number)
{
	return number + (sim_is_split(m) ? m->m_cfg.asids / 2 : 0);
}

/* The number that a range is cached under; any, if the kernel's own space has it, which all others share. */
static unsigned range_number(const struct mach *m, const struct mmu_range *r)
{
	return r->mr_hat == m->m_hat.hs_kernel ? UINT32_MAX : hat_number(r->mr_hat);
}

/* The range of a space goes on that CPU: what is cached under both of its numbers. */
static void drop_range(struct mach *m, unsigned cpu, unsigned number, const struct mmu_range *r)
{
	tlb_drop(m, cpu, number, r->mr_va, r->mr_len);
	if (number != UINT32_MAX && user_number(m, number) != number && !m->m_cfg.no_user_flush)
		tlb_drop(m, cpu, user_number(m, number), r->mr_va, r->mr_len);
}

static void empty_tlb(struct mach *m, unsigned cpu)
{
	tlb_drop(m, cpu, UINT32_MAX, 0, UINT64_MAX);
	memset(m->m_cpu[cpu].c_stale, 0, sizeof(m->m_cpu[cpu].c_stale));
}

/* The number loaded is about to be used. */
static void drop_stale(struct mach *m, unsigned cpu)
{
	struct sim_cpu *c = &m->m_cpu[cpu];

	if (!is_stale(c, c->c_asid))
		return;
	tlb_drop(m, cpu, c->c_asid, 0, UINT64_MAX);
	c->c_stale[c->c_asid / 64] &= ~(1ull << (c->c_asid % 64));
}

/* In the kernel: the space's root and number are loaded. */
void sim_load_space(struct mach *m, unsigned cpu, struct hat *hat)
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
		set_stale(&m->m_cpu[i], c->c_asid);
	if (flush == ASID_FLUSH_ALL) {
		m->m_stats.ss_load_flush++;
		empty_tlb(m, cpu);
	} else {
		drop_stale(m, cpu);
	}
}

/* The other mode, and the other root if there are two. */
static void set_mode(struct mach *m, unsigned cpu, bool user)
{
	struct sim_cpu *c = &m->m_cpu[cpu];

	c->c_user = user;
	if (!sim_is_split(m))
		return;
	c->c_asid = user ? user_number(m, c->c_number) : c->c_number;
	m->m_stats.ss_root++;
	if (m->m_cfg.asids == 0) {
		m->m_stats.ss_root_flush++;
		empty_tlb(m, cpu);
	} else {
		drop_stale(m, cpu);
	}
}

void sim_kernel_enter(struct mach *m, unsigned cpu)
{
	struct sim_cpu *c = &m->m_cpu[cpu];

	if (!c->c_user)
		return;
	m->m_stats.ss_kernel++;
	sim_kernel_run(m, cpu, true);
	set_mode(m, cpu, false);
	sim_kernel_run(m, cpu, false);
}

void sim_cpu_enter(struct mach *m, unsigned cpu, struct hat *hat)
{
	struct sim_cpu *c = &m->m_cpu[cpu];

	if (m->m_ipis != NULL)
		sim_ipi_deliver(m);
	if (c->c_hat != hat || c->c_idle) {
		sim_kernel_enter(m, cpu);
		sim_load_space(m, cpu, hat);
	}
	if (!c->c_user && m->m_cfg.kernel != SIM_KERNEL_OUTSIDE)
		set_mode(m, cpu, true);
}

void sim_cpu_idle(struct mach *m, unsigned cpu) { m->m_cpu[cpu].c_idle = true; }

/* ---- interrupts ---- */
static uint64_t ipi_delay(struct mach *m)
{
	uint64_t ns = m->m_cfg.ipi_latency;

	return ns == 0 ? 0 : ns + sim_random(m) % ns;
}

/* One interrupt goes off; when it arrives. UINT64_MAX: never. */
static uint64_t ipi_due(struct mach *m)
{
	uint64_t due = m->m_now + ipi_delay(m) + (m->m_now == 0);
	struct ipi_fail *f = &m->m_ipifail;
	bool fails = f->if_nth != 0 && --f->if_nth == 0;

	m->m_stats.ss_ipi++;
	f->if_seen++;
	if (fails)
		f->if_nth = --f->if_times > 0 ? 1 : 0;
	if ((fails && f->if_how == SIM_IPI_LOST) ||
	    (m->m_cfg.ipi_loss != 0 && sim_random(m) % m->m_cfg.ipi_loss == 0)) {
		m->m_stats.ss_ipi_lost++;
		return UINT64_MAX;
	}
	m->m_stats.ss_ipi_late += fails;
	return due + (fails ? f->if_ns : 0);
}

static void ipi_send(struct mach *m, struct sim_ipi *i, unsigned cpu)
{
	uint64_t due = ipi_due(m);

	/* an earlier one may still arrive before it */
	if (i->i_due[cpu] == 0 || due < i->i_due[cpu])
		i->i_due[cpu] = due;
	i->i_again[cpu] = m->m_now + m->m_cfg.ipi_timeout;
}

static void ipi_send_again(struct mach *m, struct sim_ipi *i, unsigned cpu)
{
	if (++i->i_tries[cpu] == SIM_IPI_TRIES)
		sim_panicf(m, "cpu %u does not answer a TLB shootdown", cpu);
	m->m_stats.ss_ipi_again++;
	ipi_send(m, i, cpu);
}

void sim_ipi_fail(
    struct mach *m, enum sim_ipi_failure how, uint64_t nth, uint64_t times, uint64_t ns)
{
	m->m_ipifail =
	    (struct ipi_fail){ .if_nth = nth, .if_times = times, .if_ns = ns, .if_how = how };
}

uint64_t sim_ipi_seen(struct mach *m) { return m->m_ipifail.if_seen; }

void sim_ipi_deliver(struct mach *m)
{
	for (struct sim_ipi **p = &m->m_ipis, *i; (i = *p) != NULL;) {
		for (unsigned cpu = 0; i->i_left > 0 && cpu < m->m_cfg.ncpus; cpu++) {
			if (i->i_due[cpu] != 0 && i->i_due[cpu] > m->m_now &&
			    i->i_again[cpu] <= m->m_now)
				ipi_send_again(m, i, cpu);
			if (i->i_due[cpu] == 0 || i->i_due[cpu] > m->m_now)
				continue;
			for (unsigned k = 0; k < i->i_n; k++)
				drop_range(m, cpu, i->i_asid[k], &i->i_range[k]);
			i->i_due[cpu] = 0;
			i->i_left--;
		}
		if (i->i_left > 0) {
			p = &i->i_next;
			continue;
		}
		*p = i->i_next;
		if (i->i_nowait)
			free(i);
	}
}

uint64_t sim_ipi_next(const struct mach *m)
{
	uint64_t when = UINT64_MAX;

	for (const struct sim_ipi *i = m->m_ipis; i != NULL; i = i->i_next)
		for (unsigned cpu = 0; cpu < m->m_cfg.ncpus; cpu++)
			if (i->i_due[cpu] != 0) {
				when = i->i_due[cpu] < when ? i->i_due[cpu] : when;
				when = i->i_again[cpu] < when ? i->i_again[cpu] : when;
			}
	return when;
}

/* Does the CPU have to be interrupted for that range? If not, it is marked. */
static bool must_interrupt(struct mach *m, unsigned cpu, const struct mmu_range *r)
{
	struct sim_cpu *c = &m->m_cpu[cpu];
	unsigned asid = c->c_hat == r->mr_hat ? c->c_number : hat_number(r->mr_hat);

	if (r->mr_hat == m->m_hat.hs_kernel)
		return true;
	if (c->c_hat == r->mr_hat && !c->c_idle)
		return true;
	set_stale(c, asid);
	if (!m->m_cfg.no_user_flush)
		set_stale(c, user_number(m, asid));
	return false;
}

static struct sim_ipi *ipi_make(struct mach *m, const struct mmu_range *r, unsigned n)
{
	struct sim_ipi *ipi = calloc(1, sizeof(*ipi));

	if (ipi == NULL)
		sim_panicf(m, "no host memory for an interrupt");
	ipi->i_n = n;
	ipi->i_nowait = m->m_cfg.no_shootdown_wait;
	for (unsigned k = 0; k < n; k++) {
		ipi->i_range[k] = r[k];
		ipi->i_asid[k] = range_number(m, &r[k]);
	}
	return ipi;
}

void mmu_tlb_flush(struct mach *m, const struct mmu_range *r, unsigned n)
{
	unsigned self = m->m_cur->f_cpu;
	struct sim_ipi *ipi = NULL;

	m->m_stats.ss_flush++;
	if (m->m_cfg.no_flush)
		return;
	for (unsigned k = 0; k < n; k++)
		drop_range(m, self, range_number(m, &r[k]), &r[k]);
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
			ipi = ipi_make(m, r, n);
		ipi_send(m, ipi, cpu);
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

/* ---- checks ---- */
/* May a CPU act by this entry, given what the tables say of every page it covers? */
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
	    (c->c_number == t->t_asid || user_number(m, c->c_number) == t->t_asid))
		return (c->c_idle || c->c_asid != t->t_asid) && is_stale(c, t->t_asid);
	return is_stale(c, t->t_asid) || m->m_hat.hs_asids.as_flush[cpu] || m->m_cfg.asids == 0;
}

static unsigned check_entries(
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
	return check_entries(m, NULL, report, arg);
}

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
	return check_entries(m, hat, report, arg) + (va != 0);
}
