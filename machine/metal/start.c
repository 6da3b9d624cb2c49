/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The start of the other CPUs: the part that all bare machines share. The machine's boot.c makes a CPU run ap_main, one CPU at a time,
 * in the order of their numbers.
 *
 * A CPU that runs must be counted by arch_ncpus: shootdowns go to the counted CPUs only. So the boot CPU does not give up a CPU that it
 * has started, which might run after that: it waits for the CPU, and stops the machine if the CPU does not come for a minute. The CPU
 * in turn runs no thread before it is counted. If a CPU cannot be started at all, neither are those after it.
 *
 * cpus.slow=MS on the command line: every other CPU needs so many milliseconds to start, as under a
 * busy emulator. Locks: none; only the boot CPU runs programs or threads of the kernel meanwhile.
 */
#include "cpu.h"

#include "kernel/core/kernel.h"

#define MOST_NS 60000000000u

void cpu_is_up(struct cpu *c)
{
	uint64_t until = arch_time_ns() + cmdline_number("cpus.slow", 0) * 1000000;

	while (arch_time_ns() < until)
		arch_relax();
	__atomic_store_n((bool *)(void *)&c->cpu_up, true, __ATOMIC_SEQ_CST);
	while (arch_ncpus() <= c->cpu_k.k_id)
		arch_relax();
}

void cpu_wait_up(struct cpu *c)
{
	uint64_t until = arch_time_ns() + MOST_NS;

	while (!__atomic_load_n((bool *)(void *)&c->cpu_up, __ATOMIC_SEQ_CST)) {
		if (arch_time_ns() > until)
			kpanic("cpu %u does not start", c->cpu_k.k_id);
		arch_relax();
	}
}
