/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A computer in C: frames, page tables in simulated memory, one TLB per CPU, a disk, virtual time and a deterministic
 * scheduler. The same configuration (with its seed) and the same calls give the same run.
 *
 * All state belongs to one struct mach. One host thread drives a machine; several machines may
 * exist, also in one host thread: a lock knows the machine it was initialised on, and the functions
 * of machine.h that have no machine argument mean the one selected by sim_create, sim_select or the
 * last sim_read/sim_write/sim_run.
 */
#ifndef QUIRE_SIM_H
#define QUIRE_SIM_H

#include <quire/machine.h>
#include <quire/types.h>
#include <quire/vnode.h>

/* The format of tables that the MMU walks. */
enum sim_format {
	SIM_X86_64, /* 4 levels */
	SIM_LA57,   /* 5 levels */
	SIM_I386,   /* 2 levels, PSE */
	SIM_PAE,
	SIM_SV39,
	SIM_SV48,
	SIM_SFMMU, /* no tables: software fills the TLB from a TSB */
	SIM_NFORMATS
};
/* x86_64, la57, i386, pae, sv39, sv48, sfmmu. False: no such name. */
bool sim_format_by_name(const char *name, enum sim_format *);

/*
 * The place of the machine's own kernel in the address spaces of programs. OUTSIDE: the kernel is
 * not mapped, and entering it costs nothing. MAPPED: its text and all of memory are in the upper
 * half of every space, forbidden to user mode. SPLIT: user mode has a separate root without the
 * kernel's text and memory; entering and leaving the kernel changes roots. x86_64 and la57 only.
 */
enum sim_kernel { SIM_KERNEL_OUTSIDE, SIM_KERNEL_MAPPED, SIM_KERNEL_SPLIT };

struct sim_config {           /* all zero: a machine with all features */
	pfn_t frames;         /* 0: 1024 */
	unsigned ncpus;       /* 0: 1 */
	uint64_t seed;        /* of the scheduler */
	unsigned tlb_entries; /* per CPU, rounded up to a power of two; 0: 64 */
	enum sim_format format;
	uint64_t frame0; /* physical frame number of frame 0 */
	unsigned
	    asids; /* address space numbers of the TLB; 0: as many as the format's architecture has */
	bool no_asids; /* the TLB tells no spaces apart: it is emptied whenever a root is loaded */
	enum sim_kernel kernel;
	/* broken on purpose: flushes forget entries cached from the root of user mode */
	bool no_user_flush;
	/* nodes of memory, equal parts of the frames and the CPUs; 0: 1; at most 8 */
	unsigned nodes;
	uint64_t
	    ipi_latency; /* ns until another CPU notices an interrupt, up to twice that; 0: at once */
	uint64_t
	    ipi_timeout; /* ns until an unanswered interrupt is sent again; 0: 10 us and 8 latencies */
	unsigned ipi_loss; /* one interrupt in this many is lost, by the seed; 0: none */
	bool no_flush;     /* broken on purpose: no CPU ever drops a translation from its TLB */
	bool
	    no_shootdown_wait; /* broken on purpose: does not wait until the other CPUs have dropped a translation */
	bool
	    ad_by_trap; /* the MMU does not set reference and modification bits itself: it traps (RISC-V Svade) */
	unsigned nholes;               /* frames that are no memory */
	const struct mach_hole *holes; /* kept by the caller */
	pfn_t device_frames;           /* frames mc_nframes, ... of a device: sim_device_data */
	pfn_t
	    grant; /* frames mach_frames_grant gives in all, beyond what was released; 0: any number */
	unsigned max_mappings; /* 0: any number */
	bool no_direct_map, no_ref_bits, no_mod_bits;
	bool threads;               /* mc_threads: the core may make its own threads */
	bool no_poison;             /* do not overwrite discarded frames */
	uint64_t disk_latency;      /* ns of a disk request; 0: requests complete within vo_start */
	unsigned switch_every;      /* a scheduling point switches once in that many; 0: 3 */
	vaddr_t user_min, user_max; /* 0: 64 KiB .. the format's own half of the space */
};
/*
 * Restricts the configuration to the features of the Linux machine: one mapping a frame, no direct
 * map, no reference and modification bits.
 */
void sim_config_linux(struct sim_config *);

/* NULL: no host memory, or no such machine. The new machine is selected. */
struct mach *sim_create(const struct sim_config *);
void sim_destroy(struct mach *);
void *sim_device_data(struct mach *); /* the device's memory */
void sim_select(struct mach *);
void sim_cpu_set(struct mach *,
    unsigned cpu); /* the CPU of the running fiber (TLB used by the core's own accesses) */

/*
 * Accesses as the program of the space would make them on that CPU: TLB, walk, fault, retry. Stops at the first byte
 * that cannot be accessed; *done (may be NULL) = bytes before it. The result is as_fault's: what the port of a real
 * machine would turn into a signal. VM_RETRY: no progress after many faults at one page.
 */
enum vm_err sim_read(
    struct mach *, struct as *, unsigned cpu, vaddr_t, void *buf, uint64_t len, uint64_t *done);
enum vm_err sim_write(struct mach *, struct as *, unsigned cpu, vaddr_t, const void *buf,
    uint64_t len, uint64_t *done);
/* Fetches the instruction at the address. */
enum vm_err sim_exec(struct mach *, struct as *, unsigned cpu, vaddr_t);

/*
 * The hardware's part of one access, without resolving faults. VM_NOMAP: there is no translation;
 * VM_PROT: the translation forbids the access.
 */
enum vm_err sim_touch(
    struct mach *, struct hat *, unsigned cpu, vaddr_t, bool write, uint8_t *byte);

/* ---- the kernel's half (sim_kernel; kernel.c) ---- */
struct sim_kernel_range {
	vaddr_t kr_va;
	uint64_t kr_len;
};
struct sim_kernel_layout {
	struct sim_kernel_range kl_text,
	    kl_direct; /* address of the kernel's text; address of the direct map of all frames */
	struct sim_kernel_range
	    kl_entry;  /* the entry area: one page of code, and a stack for each CPU */
	void *kl_data; /* contents of kl_text */
};
void sim_kernel_layout(struct mach *, struct sim_kernel_layout *);
/* A system call that does nothing: into the kernel and back. */
void sim_syscall(struct mach *, struct as *, unsigned cpu);
/* A read by the kernel, at an address of either half. False: there is no translation. */
bool sim_kernel_read(struct mach *, struct hat *, unsigned cpu, vaddr_t, uint8_t *byte);
/*
 * The byte that a program could learn by a read that the CPU does before it checks rights
 * (Meltdown). False: none, as neither the CPU's TLB nor the tables have a translation.
 */
bool sim_transient_read(struct mach *, struct hat *, unsigned cpu, vaddr_t, uint8_t *byte);
/*
 * Is there a translation, by the root of user mode or the kernel's? *exec (may be NULL): it can be
 * executed.
 */
bool sim_translated(struct mach *, struct hat *, bool user, vaddr_t, bool *exec);

/* The cache mode of an access to that address; SIM_CACHED also where there is no translation. */
enum sim_caching { SIM_CACHED, SIM_UNCACHED, SIM_COMBINING };
enum sim_caching sim_caching_of(struct mach *, struct hat *, vaddr_t);

/*
 * Checks every TLB entry against the page tables: no entry may allow more than its table entry.
 * Returns violations.
 */
unsigned sim_tlb_check(struct mach *, void (*report)(void *arg, const char *text), void *arg);
/* The CPU has nothing to do: it keeps its space loaded, is not interrupted, and flushes when it goes on. */
void sim_cpu_idle(struct mach *, unsigned cpu);
/*
 * Interrupts that fail: the nth next one (1 = next) and the times-1 after it are lost, or arrive ns
 * late (LATE). 0: off. The sender waits for the answer of each CPU and sends again after
 * ipi_timeout. No frame is reused before every CPU has answered, so after SIM_IPI_TRIES without an
 * answer the machine panics and names the CPU.
 */
enum sim_ipi_failure { SIM_IPI_LOST, SIM_IPI_LATE };
#define SIM_IPI_TRIES 8u
void sim_ipi_fail(struct mach *, enum sim_ipi_failure, uint64_t nth, uint64_t times, uint64_t ns);
uint64_t sim_ipi_seen(struct mach *); /* interrupts sent since the last sim_ipi_fail */
struct sim_stats {
	uint64_t ss_access, ss_tlb_hit, ss_tlb_miss, ss_fault, ss_switch, ss_reads, ss_writes;
	uint64_t ss_idle; /* pieces of work done by idle CPUs */
	uint64_t
	    ss_miss[4]; /* misses by the size of the page that was found (index of mc_pageshift) */
	uint64_t ss_flush, ss_flushed; /* calls, entries dropped */
	uint64_t ss_shootdown; /* rounds of IPIs: any number of ranges, each CPU interrupted once */
	uint64_t ss_ipi;       /* CPUs interrupted */
	uint64_t ss_ipi_lost, ss_ipi_late; /* interrupts lost by sim_ipi_fail or ipi_loss */
	uint64_t ss_torn;                  /* writes, by sim_disk_tear */
	uint64_t ss_ipi_again;             /* interrupts sent again, as no answer arrived */
	/* interrupts saved: the CPU flushed when it continued or loaded the space again */
	uint64_t ss_lazy;
	uint64_t ss_load;       /* spaces loaded by a CPU */
	uint64_t ss_load_flush; /* ... which emptied the TLB */
	uint64_t ss_kernel;     /* times a CPU entered the kernel (not with SIM_KERNEL_OUTSIDE) */
	uint64_t ss_root;       /* roots loaded to enter or leave the kernel */
	uint64_t ss_root_flush; /* ... which emptied the TLB */
	uint64_t ss_tsb_hit, ss_tsb_miss; /* of TLB misses */
	uint64_t ss_boot;        /* bytes that mach_boot_alloc gave, each piece rounded up to 64 */
	uint64_t ss_exec_loaded; /* frames that were made executable (mmu_exec_loaded) */
	uint64_t ss_trap;        /* faults that set reference and modification bits in software */
};
void sim_statistics(struct mach *, struct sim_stats *);

/* ---- programs: fibers that sim_run drives until all have returned. The caller of sim_run takes part as the idle loop.
 * When every fiber waits and there is no further event, the machine panics and prints what each fiber waits for. */
void sim_spawn(struct mach *, void (*fn)(void *), void *arg, const char *name);
void sim_run(struct mach *);
/*
 * Sets the work of the CPUs while every fiber waits and no event is due (vm_idle): fn(arg) is
 * called repeatedly, in its own fiber, until it returns false or an event occurs. NULL: ends the
 * idle work; returns when the last call has ended. Call it so before vm_destroy. False: no host
 * memory.
 */
bool sim_idle(struct mach *, bool (*fn)(void *), void *arg);

/* ---- a disk or file: contents in host memory ---- */
/* Reference 1 is the caller's; freed when the last one goes. size in bytes. NULL: no host memory. */
struct vnode *sim_disk_create(
    struct mach *, struct vm *, const char *name, uint64_t size, uint32_t vflags);
void *sim_disk_data(struct vnode *);                 /* the contents; valid until the next resize */
bool sim_disk_resize(struct vnode *, uint64_t size); /* new bytes are zero; false: no host memory */
/* The nth next request of that kind (1 = next) and the times-1 after it fail with VM_IO after ok pages. 0: off. */
void sim_disk_fail(struct vnode *, enum vm_iop, uint64_t nth, uint64_t times, uint32_t ok);
/*
 * Torn writes: the nth next write stores ok pages and SIM_SECTOR-byte sectors of the next page, so that page is half old
 * and half new. told: it ends with VM_IO after ok pages; otherwise the disk claims that all was written.
 */
#define SIM_SECTOR 512u
void sim_disk_tear(struct vnode *, uint64_t nth, uint32_t ok, uint32_t sectors, bool told);
/*
 * The power fails at that virtual time: writes under way are torn at a sector chosen by the seed;
 * these and all later requests give VM_IO until the power is back.
 */
void sim_disk_power_fails(struct vnode *, uint64_t when);
void sim_disk_power_is_back(struct vnode *);
#endif
