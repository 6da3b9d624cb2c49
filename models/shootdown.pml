/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLB shootdown against the reuse of a page (machine/sim/tlb.c mmu_tlb_flush, must_interrupt, sim_ipi_deliver,
 * sim_cpu_enter, sim_cpu_idle; callers: hat_unload and hat_pageunload, then page_destroy).
 *
 * One CPU (unloader) takes the translation of a page away and gives its frame to somebody else, later gives another frame
 * to the address. Two CPUs run the space, idle, or leave it, and access the address by TLB entry or walk. An interrupt
 * arrives at any time after it was sent and is taken before the next instruction. A CPU that does not run the space is not interrupted but
 * marked stale, and drops its entries when it loads the space again.
 *
 * Shown: no access ever reaches a frame that is not the address's any more; every shootdown ends.
 *
 * Broken on purpose: BREAK=1 nobody waits for the interrupted CPUs (sim_config.no_shootdown_wait). BREAK=2 a CPU that is not
 * interrupted is not marked stale. BREAK=3 the interrupt is sent before the table entry is cleared.
 */
#ifndef BREAK
#define BREAK 0
#endif
#define CPUS 2
#define NONE 0
#define FREE 0
#define OURS 1

byte pte = NONE;	/* the frame the table says */
byte frames[3];		/* ghost: whose frames 1 and 2 are */
byte tlb[CPUS];		/* the frame cached for the address */
bool runs[CPUS], idle[CPUS], stale[CPUS];
bool sent[CPUS], ipi[CPUS];	/* an interrupt is on its way; it has arrived */
bool shooting = false;
byte next = 0;		/* the CPUs' numbers */

inline send(c)
{
	atomic {	/* must_interrupt */
		if
		:: runs[c] && !idle[c] -> sent[c] = true
#if BREAK == 2
		:: else
#else
		:: else -> stale[c] = true
#endif
		fi
	}
}

inline shoot()
{
	shooting = true;
#if BREAK == 3
	send(0); send(1);
	pte = NONE;
#else
	pte = NONE;
	send(0); send(1);
#endif
#if BREAK != 1
	!sent[0] && !ipi[0]; !sent[1] && !ipi[1];	/* sim_wait_ipi */
#endif
	shooting = false
}

active proctype unloader()
{
	byte f = 1;

	frames[1] = OURS;
	pte = 1;
	do
	:: shoot();
		frames[f] = FREE;	/* page_destroy: anybody may have it from here on */
		f = 3 - f;
		frames[f] = OURS;	/* page_create, hat_memload: loading flushes nothing */
		pte = f
	od
}

/* The delay: as long as it likes. */
active proctype wire()
{
	do
	:: atomic { sent[0] -> sent[0] = false; ipi[0] = true }
	:: atomic { sent[1] -> sent[1] = false; ipi[1] = true }
	od
}

active [CPUS] proctype cpu()
{
	byte me, seen;

	atomic { me = next; next++ };
	do
	:: ipi[me] -> atomic { tlb[me] = NONE; ipi[me] = false }	/* sim_ipi_deliver */
	:: !ipi[me] && (!runs[me] || idle[me]) ->
		atomic {	/* sim_cpu_enter */
			idle[me] = false; runs[me] = true;
			if
			:: stale[me] -> tlb[me] = NONE; stale[me] = false
			:: else
			fi
		}
	:: atomic { runs[me] && !ipi[me] -> idle[me] = true }
	:: atomic { runs[me] && !ipi[me] -> runs[me] = false }	/* loads another space; entries stay, by their number */
	/* one instruction: no interrupt is taken inside, but other CPUs go on between its steps */
	:: runs[me] && !idle[me] && !ipi[me] ->
		if
		:: tlb[me] != NONE -> atomic { assert(frames[tlb[me]] == OURS) }
		:: tlb[me] == NONE ->
			seen = pte;	/* the walk */
			if
			:: seen != NONE -> atomic { tlb[me] = seen; assert(frames[seen] == OURS) }
			:: else		/* a fault: served later */
			fi
		fi
	od
}

#ifdef LIVE
ltl ends { [] (shooting -> <> !shooting) }
#endif
