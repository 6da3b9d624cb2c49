/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rounds of TLB shootdown: the part that all bare machines share. The machine's mmu.c decides which
 * CPUs must be interrupted (shoot_must), how to interrupt them (shoot_interrupt), and what a CPU
 * then drops (shoot_flush).
 *
 *   the CPU that flushes: shoot_begin, shoot_ask for each CPU that must, its own flush, shoot_wait
 *   each CPU interrupted: shoot_taken, its flush, shoot_answered, a wake-up for the first if it was the last
 *
 * hs_lock is held by the CPU that flushes, so there is one round at a time. A CPU that waits has interrupts on, unless it is starting
 * up, and so has a CPU that spins for hs_lock: each of them answers.
 *
 * mmu.noflush and mmu.noshoot on the command line break the machine on purpose: no flush is done, or none on other CPUs.
 */
#include "cpu.h"

#include "hat/hat_impl.h"
#include "kernel/core/kernel.h"

#define SLOW_LOAD_NS 1000000u

struct mmu_counters mmu_counters;
static bool no_flush, no_others; /* const after shoot_init */
bool leave_late, load_slowly;

static struct {
	const struct mmu_range *s_range;
	unsigned s_n, s_from;
	_Atomic unsigned s_left; /* CPUs that have not answered */
} round;
static _Atomic bool asked[ARCH_MAXCPUS];

void shoot_init(void)
{
	char value[8];

	no_flush = cmdline_get("mmu.noflush", value, sizeof(value));
	no_others = cmdline_get("mmu.noshoot", value, sizeof(value));
	leave_late = cmdline_get("mmu.lateleave", value, sizeof(value));
	load_slowly = cmdline_get("mmu.slowload", value, sizeof(value));
}

void load_delay(void)
{
	uint64_t until = arch_time_ns() + SLOW_LOAD_NS;

	while (arch_time_ns() < until)
		arch_relax();
}

void spoil_root(struct hat *hat)
{
	if (!load_slowly || hat->h_kernel)
		return;
	char *root = mach_frame_kva(&the_machine, hat_root(hat));

	memset(root + VM_PAGESIZE / 2, 0, VM_PAGESIZE / 2);
}

/*
 * The order of the two reads matters. A CPU that enters the space stores cpu_hat, loads the root,
 * stores cpu_loaded; a CPU that leaves it does the same for another space. While the root is loaded,
 * at least one of the two names the space.
 */
bool cpu_has_space(const struct cpu *c, const struct hat *hat)
{
	return __atomic_load_n(&c->cpu_hat, __ATOMIC_SEQ_CST) == hat ||
	    __atomic_load_n(&c->cpu_loaded, __ATOMIC_SEQ_CST) == hat;
}

unsigned shoot_begin(const struct mmu_range *r, unsigned n)
{
	preempt_off();
	round.s_range = r;
	round.s_n = n;
	return round.s_from = this_cpu()->cpu_k.k_id;
}

void shoot_ask(unsigned id)
{
	__atomic_add_fetch((unsigned *)(void *)&round.s_left, 1, __ATOMIC_SEQ_CST);
	mmu_counters.mc_shot++;
	flag_set(&asked[id], true);
	shoot_interrupt(id);
}

void shoot_wait(void)
{
	unsigned rounds = 0;

	while (__atomic_load_n((unsigned *)(void *)&round.s_left, __ATOMIC_SEQ_CST) != 0)
		arch_relax_long(&rounds);
	preempt_on();
}

void mmu_tlb_flush(struct mach *m, const struct mmu_range *r, unsigned n)
{
	unsigned self;

	(void)m;
	mmu_counters.mc_flushes++;
	if (no_flush)
		return;
	self = shoot_begin(r, n);
	for (unsigned i = 0; i < arch_ncpus() && !no_others; i++)
		if (i != self && shoot_must(i, r, n))
			shoot_ask(i);
	shoot_flush(r, n);
	shoot_wait();
}

bool shoot_taken(const struct mmu_range **r, unsigned *n)
{
	if (!flag_take(&asked[this_cpu()->cpu_k.k_id]))
		return false;
	*r = round.s_range;
	*n = round.s_n;
	return true;
}

bool shoot_answered(unsigned *from)
{
	*from = round.s_from; /* another round may begin after this round is answered */
	return __atomic_sub_fetch((unsigned *)(void *)&round.s_left, 1, __ATOMIC_SEQ_CST) == 0;
}
