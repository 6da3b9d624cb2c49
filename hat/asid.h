/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers of address spaces in the TLBs: hat/asid.c. The caller serialises all calls of one machine. */
#ifndef QUIRE_ASID_H
#define QUIRE_ASID_H

#include <quire/types.h>

#define ASID_MAX 4096u /* more numbers than this gain nothing: TLBs have fewer entries */
#define ASID_CPUS 64u

enum asid_flush {
	ASID_KEEP,
	ASID_FLUSH_ALL,    /* this CPU must empty its TLB first */
	ASID_FLUSH_NUMBER, /* every CPU must drop the translations of that number before it uses the
	                    * number */
};

struct asids {
	bool
	    as_steal; /* const: a number is taken from another space when none is free; otherwise all are given anew (a generation) */
	unsigned as_n; /* numbers 1 .. n-1 are given out; 0: the TLBs have none */
	unsigned as_ncpus, as_hint;
	uint64_t as_generation;
	uint64_t as_map[ASID_MAX / 64]; /* given out in this generation */
	uint64_t as_active[ASID_CPUS];  /* the context word that each CPU runs with */
	uint64_t as_reserved
	    [ASID_CPUS];          /* the number that each CPU ran with when the generation began */
	bool as_flush[ASID_CPUS]; /* the CPU has not emptied its TLB since the generation began */
	uint64_t *as_owner[ASID_MAX];     /* steal: the context word that holds each number */
	uint64_t as_rollovers, as_steals; /* counters */
};
/* n: how many numbers the hardware has, 0 or more than ncpus + 1. */
void asids_init(struct asids *, unsigned n, unsigned ncpus, bool steal);
/*
 * The CPU is about to run the space whose number is kept in *ctx (0 at first). Returns the number to load; *flush: what
 * must be done before.
 */
unsigned asid_enter(struct asids *, uint64_t *ctx, unsigned cpu, enum asid_flush *flush);
void asid_leave(struct asids *, unsigned cpu);    /* from now on the CPU runs no space */
void asid_release(struct asids *, uint64_t *ctx); /* the space ends; no CPU runs it */
static inline unsigned asid_number(uint64_t ctx) { return (unsigned)(ctx & 0xffff); }
#endif
