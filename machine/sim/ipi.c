/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts for TLB shootdowns, from when they are sent until each CPU has seen them. They belong
 * to the hardware: the scheduler takes due interrupts from here, and the sender waits in the
 * scheduler (cpu.c).
 *
 * Interrupts may be lost or late (sim_ipi_fail, ipi_loss). The sender cannot know which of the two
 * happened: if no answer arrives in time, the interrupt is sent again. If both interrupts arrive,
 * the CPU flushes twice, which is harmless. An interrupt that is never answered ends in a panic,
 * because otherwise a frame would be reused that another CPU can still access.
 */
#include "machine/sim/sim_impl.h"

#include <stdlib.h>

static uint64_t ipi_delay(struct mach *m)
{
	uint64_t ns = m->m_cfg.ipi_latency;

	return ns == 0 ? 0 : ns + sim_random(m) % ns;
}

/* Sends one interrupt; returns the time of its arrival. UINT64_MAX: never. */
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

void sim_ipi_send(struct mach *m, struct sim_ipi *i, unsigned cpu)
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
	sim_ipi_send(m, i, cpu);
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
				sim_drop_range(m, cpu, i->i_asid[k], &i->i_range[k]);
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

struct sim_ipi *sim_ipi_make(struct mach *m, const struct mmu_range *r, unsigned n)
{
	struct sim_ipi *ipi = calloc(1, sizeof(*ipi));

	if (ipi == NULL)
		sim_panicf(m, "no host memory for an interrupt");
	ipi->i_n = n;
	ipi->i_nowait = m->m_cfg.no_shootdown_wait;
	for (unsigned k = 0; k < n; k++) {
		ipi->i_range[k] = r[k];
		ipi->i_asid[k] = sim_range_number(m, &r[k]);
	}
	return ipi;
}
