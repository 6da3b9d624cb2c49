/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The code that machine/x86_64 and machine/riscv64 share. Included by the machine's cpu.h, which
 * has KERNEL_BASE and DIRECT_BASE.
 */
#ifndef QUIRE_METAL_H
#define QUIRE_METAL_H

#include "hat/mmu.h"

#include <quire/machine.h>

struct mach {
	struct mach_caps m_caps;
	struct hat_shared m_hat;
	struct mach_hole m_holes[32];
	/* physical: the next address of mach_boot_alloc, and the end of its area */
	uint64_t m_bootnext, m_bootend;
	uint64_t m_root; /* physical: the root that maps image, memory and devices */
};
extern struct mach the_machine;
extern char image_start[], image_text_end[], image_ro_end[], image_end[]; /* link.ld */
extern char boot_cmdline[ARCH_CMDLINE_MAX];
/* the loader's command line; if it is too long, it is cut: arch_cmdline_is_cut */
void keep_cmdline(const char *);

static inline void *direct_map(uint64_t pa) { return (void *)(uintptr_t)(DIRECT_BASE + pa); }
static inline uint64_t image_pa(const void *p) { return (uint64_t)(uintptr_t)p - KERNEL_BASE; }

/* Physical: frames for the final tables, from behind the image; set by make_tables(). */
extern uint64_t tables_next;
uint64_t take_table(void); /* a table of zeroes; physical */
/* Does the range of physical addresses touch read-only memory: the image's text and constants? */
bool touches_constant(uint64_t pa, uint64_t bytes);
struct cpu;
/*
 * start.c. cpu_is_up: called by a CPU other than the boot CPU when it is ready to run threads; returns when it is counted
 * (arch_ncpus). cpu_wait_up: called by the boot CPU, which then counts that CPU.
 */
void cpu_is_up(struct cpu *);
void cpu_wait_up(struct cpu *);
bool leave_guards_out(void); /* mmu.noguard on the command line: the machine is broken on purpose */
/*
 * Makes holes of the pages that the physical range touches; ranges ascend from call to call. from
 * >= to: no hole.
 */
void add_hole(uint64_t from, uint64_t to);
/*
 * Implemented by the machine: makes all holes again; the image and the memory behind it are in use
 * up to `used`.
 */
void make_holes(uint64_t used);

/* ---- flags that CPUs set for each other, in one total order ---- */
static inline bool flag_get(const _Atomic bool *p)
{
	return __atomic_load_n((const bool *)(const void *)p, __ATOMIC_SEQ_CST);
}

static inline void flag_set(_Atomic bool *p, bool v)
{
	__atomic_store_n((bool *)(void *)p, v, __ATOMIC_SEQ_CST);
}

static inline bool flag_take(_Atomic bool *p)
{
	return flag_get(p) && __atomic_exchange_n((bool *)(void *)p, false, __ATOMIC_SEQ_CST);
}

/* ---- shoot.c ---- */
void shoot_init(void); /* the command line */
/*
 * const after shoot_init; for tests (mmu.lateleave=1): the end of a space asks every other CPU to
 * leave the space, also those that have another space loaded by then
 */
extern bool leave_late;
/*
 * const after shoot_init; for tests (mmu.slowload=1): a CPU that loads a space waits between its
 * store to cpu_hat and the new root (load_delay), and empties its TLB then, so that it walks the old
 * root; the root of a space that has ended maps nothing (spoil_root)
 */
extern bool load_slowly;
void load_delay(void);
void spoil_root(struct hat *); /* only with load_slowly: empties the kernel's half */
/* The CPU has the space's root loaded, or is about to load it. */
bool cpu_has_space(const struct cpu *, const struct hat *);
/* A round begins on the calling CPU, which stays the same until shoot_wait. n 0: instruction caches. hs_lock. Its number. */
unsigned shoot_begin(const struct mmu_range *, unsigned n);
void shoot_ask(unsigned id); /* interrupts that CPU, which must answer */
void shoot_wait(void);       /* for all answers */
/* On an interrupted CPU: must it answer, and what must it flush? */
bool shoot_taken(const struct mmu_range **, unsigned *n);
/* It has flushed. True: this CPU was the last, and the waiting CPU *from may be asleep. */
bool shoot_answered(unsigned *from);
/*
 * Implemented by the machine, for a round: must that other CPU be interrupted for these ranges? A
 * CPU that may drop the ranges later is marked.
 */
bool shoot_must(unsigned id, const struct mmu_range *, unsigned n);
void shoot_interrupt(unsigned id);
void shoot_flush(const struct mmu_range *, unsigned n); /* flushes the running CPU's TLB */
#endif
