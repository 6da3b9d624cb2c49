/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to machine/sim. One host thread drives a machine, so no host lock is needed. */
#ifndef QUIRE_SIM_IMPL_H
#define QUIRE_SIM_IMPL_H

#include "hat/mmu.h"
#include "machine/sim/fiber_san.h"
#include "machine/sim/sim.h"

#include <ucontext.h>

#define SIM_MAXHELD 32u
#define SIM_TLB_WAYS 4u

enum fiber_state {
	F_RUN,     /* may run */
	F_MUTEX,   /* waits for f_wait, a mutex */
	F_RW_READ, /* waits for f_wait, a rwlock */
	F_RW_WRITE,
	F_CV, /* waits for a signal on f_wait, then for f_mutex; f_deadline != 0: at most until then */
	F_JOIN,    /* waits for the end of fiber f_wait */
	F_IPI,     /* waits until all CPUs have seen the interrupt f_wait */
	F_ALLDONE, /* sim_run: waits for the end of every program */
	F_DISK,    /* waits until its request is due, at f_deadline */
	F_IDLE,    /* the idle fiber: waits until no other fiber can run */
	F_INTR,    /* the disk's interrupt fiber: waits for a request that is due */
	F_DONE
};

struct held {
	const void *h_lock;
	unsigned h_rank;
	const char *h_name;
};

struct mach_thread {
	ucontext_t f_ctx;
	struct mach *f_mach;
	struct mach_thread *f_next;
	const char *f_name;
	void (*f_fn)(void *);
	void *f_arg;
	void *f_stack;
	struct fiber_san f_san;
	enum fiber_state f_state;
	const void *f_wait;
	struct mach_mutex *f_mutex;
	uint64_t f_deadline;
	bool f_timedout, f_program;
	unsigned f_cpu;
	unsigned f_nheld;
	struct held f_held[SIM_MAXHELD];
};

/* The result of a walk. */
struct sim_leaf {
	void *l_entry;
	unsigned l_shift; /* log2 of the page's bytes */
	pfn_t l_frame;    /* its first frame */
	bool l_r, l_w, l_x, l_a, l_d;
	bool l_user; /* user mode may */
	enum sim_caching l_caching;
};

struct tlb_entry {
	bool t_valid;
	unsigned t_asid; /* the tag */
	bool t_user;     /* found by the root of user mode */
	/* for the checks only; NULL: the space no longer exists, and no access may hit the entry */
	struct hat *t_hat;
	vaddr_t t_va; /* first address of the page */
	/* the leaf when the entry was filled; l_d is set only if it was set in memory */
	struct sim_leaf t_leaf;
};

struct sim_cpu {
	struct hat *c_hat; /* loaded; NULL: none */
	unsigned c_asid;   /* loaded: the space's number, or its second number for user mode */
	unsigned c_number; /* the space's */
	bool c_user;       /* the CPU is in user mode; used only if there is a kernel */
	bool c_idle;
	uint64_t c_pdpte[4]; /* PAE */
	/* numbers whose entries must be flushed before their use */
	uint64_t c_stale[ASID_MAX / 64];
};

/* One round of interrupts, until every interrupted CPU has seen it. */
struct sim_ipi {
	struct sim_ipi *i_next;
	unsigned i_left, i_n;
	bool i_nowait;
	unsigned i_asid[MMU_BATCH];
	struct mmu_range i_range[MMU_BATCH];
	uint64_t i_due[ASID_CPUS];   /* 0: not sent to that CPU, or seen; UINT64_MAX: lost */
	uint64_t i_again[ASID_CPUS]; /* time at which the interrupt is sent again */
	unsigned i_tries[ASID_CPUS];
};

struct boot_chunk {
	struct boot_chunk *b_next;
	size_t b_bytes;
};

struct sim_disk;
struct mach {
	struct sim_config m_cfg;
	struct mach_caps m_caps;
	pfn_t m_nodeend[8];
	uint8_t m_cpunode[ASID_CPUS];
	uint8_t *m_mem;     /* frames */
	bool *m_retired;    /* per frame: free, and not renewed since */
	uint16_t *m_loaded; /* per frame: number of translations, as reported by the HAT */
	struct boot_chunk *m_boot;
	pfn_t m_grant;
	struct hat_shared m_hat;  /* the HAT's */
	pfn_t m_kframes, m_kused; /* the kernel's own frames, after the device's; taken so far */
	/* the kernel's half of the roots: of kernel roots, of user mode's roots */
	pfn_t m_kroot[2];
	uint64_t m_now, m_rng;
	struct sim_stats m_stats;
	struct sim_cpu *m_cpu;  /* [ncpus] */
	struct sim_ipi *m_ipis; /* on their way */
	struct ipi_fail {
		uint64_t if_nth, if_times, if_ns, if_seen;
		enum sim_ipi_failure if_how;
	} m_ipifail;
	struct tlb_entry *m_tlb; /* [ncpus][sets][ways] */
	unsigned m_tlbsets, m_tlbhand;
	struct mach_thread m_main, *m_cur, *m_fibers, *m_intr, *m_idler;
	bool (*m_idle)(void *);
	void *m_idlearg;
	bool m_idledone;  /* there was no work, and no fiber has run since */
	unsigned m_nlive; /* fibers that exist besides main and intr */
	unsigned m_nprograms;
	struct sim_disk *m_disks;
};

extern _Thread_local struct mach *sim_current;

/* The machine's random numbers. */
static inline uint64_t sim_random(struct mach *m)
{
	m->m_rng ^= m->m_rng << 13;
	m->m_rng ^= m->m_rng >> 7;
	m->m_rng ^= m->m_rng << 17;
	return m->m_rng * 0x2545f4914f6cdd1dull >> 16;
}

void sim_fibers_init(struct mach *);
void sim_fibers_fini(struct mach *);
void sim_sched_point_slow(struct mach *);
static inline void sim_sched_point(struct mach *m)
{
	if (m->m_nlive != 0)
		sim_sched_point_slow(m);
}
struct mach_thread *sim_fiber_new(struct mach *, void (*fn)(void *), void *arg, const char *name);
_Noreturn void sim_panicf(struct mach *, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* tlb.c */
bool sim_tlb_init(struct mach *);
void sim_tlb_fini(struct mach *);
/* The numbers of the space loaded on the CPU. */
struct tlb_entry *sim_tlb_find(struct mach *, unsigned cpu, vaddr_t);
void sim_tlb_fill(struct mach *, unsigned cpu, vaddr_t, const struct sim_leaf *);
void sim_tlb_empty(struct mach *, unsigned cpu);
/* The number under which the root of user mode is cached. */
unsigned sim_user_number(const struct mach *, unsigned number);
/*
 * The number that a range is cached under; UINT32_MAX (any number) for a range of the kernel's own
 * space, which all spaces share.
 */
unsigned sim_range_number(const struct mach *, const struct mmu_range *);
/* Drops the range of a space on that CPU, under both numbers of the space. */
void sim_drop_range(struct mach *, unsigned cpu, unsigned number, const struct mmu_range *);
/* Marks a number stale: its entries on the CPU are flushed before the CPU uses the number. */
void sim_set_stale(struct sim_cpu *, unsigned asid);
void sim_drop_stale(struct mach *, unsigned cpu); /* called before the loaded number is used */
/* As sim_tlb_check, of one space. */
unsigned sim_tlb_check_space(
    struct mach *, const struct hat *, void (*report)(void *, const char *), void *arg);

/* ipi.c */
struct sim_ipi *sim_ipi_make(struct mach *, const struct mmu_range *, unsigned n);
void sim_ipi_send(struct mach *, struct sim_ipi *, unsigned cpu);
void sim_ipi_deliver(struct mach *);        /* handles due interrupts */
uint64_t sim_ipi_next(const struct mach *); /* time of the next interrupt; UINT64_MAX: none */

/* sched.c */
void sim_wait_ipi(struct mach *, const struct sim_ipi *);
void sim_wait_disk(struct mach *, uint64_t due);

/* cpu.c */
void sim_cpu_enter(
    struct mach *, unsigned cpu, struct hat *); /* the CPU continues in that space, in user mode */
void sim_kernel_enter(struct mach *, unsigned cpu); /* ... traps, unless it is in the kernel */

/* walk.c: the hardware's own walk. False: there is no translation. */
bool sim_walk(struct mach *, struct hat *, bool user, vaddr_t,
    struct sim_leaf *); /* user: by the root of user mode */
bool sim_walk_cpu(struct mach *, unsigned cpu, vaddr_t,
    struct sim_leaf *); /* the same walk by that CPU, from its loaded root */
void sim_mark(struct mach *, struct sim_leaf *, bool a, bool d);
void sim_pae_load(struct mach *, uint64_t root, uint64_t pdpte[4]);
/* Fills in the parts of the configuration that the format determines. */
const struct hat_format *sim_format_setup(struct sim_config *, struct mach_caps *);

/* kernel.c */
pfn_t sim_kernel_frames(const struct mach *); /* number of frames that the kernel needs */
bool sim_kernel_init(struct mach *);
/*
 * Checks the kernel's pages in the root of user mode: 0, or the address of a page that must not be
 * there.
 */
vaddr_t sim_kernel_exposed(struct mach *, struct hat *);
static inline bool sim_is_split(const struct mach *m)
{
	return m->m_cfg.kernel == SIM_KERNEL_SPLIT;
}

/* disk.c */
bool sim_disk_due(
    struct mach *, uint64_t *when); /* is any request due; when = the earliest, UINT64_MAX: none */
#endif
