/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine contract: all that vm/ needs of the platform below it, apart from address translation
 * (hat.h). One port is linked into a program; each function below is implemented by the port
 * (machine/linux, machine/sim, ...). No function here allocates memory after its _init or _create
 * call, unless it says so.
 */
#ifndef QUIRE_MACHINE_H
#define QUIRE_MACHINE_H

#include <quire/types.h>

/* ---- capabilities, constant after the machine was made ---- */
struct mach_hole {
	pfn_t mh_first, mh_n;
};
struct mach_caps {
	const char *mc_name;
	pfn_t mc_nframes;         /* frames 0..n-1 can ever exist */
	unsigned mc_ncpus;        /* mach_cpu_id() < this */
	unsigned mc_max_mappings; /* translations one frame may have at a time; 0 = any number */
	/*
	 * The address through which the caller is about to write all of a frame that is renewed,
	 * for a page with a name; its present contents are undefined. mach_frame_kva() gives the
	 * same address until the frame is loaded or retired. NULL: use mach_frame_kva().
	 */
	void *(*mc_frame_fill)(struct mach *, uint32_t pfn);
	bool mc_direct_map; /* mach_frame_kva() is valid even while the frame is loaded in a hat */
	bool
	    mc_ref_bits; /* hat_pagesync() reports P_REF; otherwise references show only as new faults */
	bool mc_ref_writes; /* without mc_ref_bits: hat_pagesync() reports P_REF for writes, but not
	                    * for reads */
	bool mc_mod_bits;   /* unload/pagesync report P_MOD, at least if contents changed; otherwise
	                  * writes fault on clean pages (F_PROT) */
	bool mc_mod_sums;   /* P_MOD is found by comparing contents: a write that changes no byte is
	                  * not seen */
	bool
	    mc_threads; /* mach_thread_create works; otherwise the core reclaims synchronously only */
	vaddr_t mc_user_min, mc_user_max; /* bounds of user address spaces */
	unsigned mc_nnodes;               /* of memory; 0 and 1: all memory is alike */
	const pfn_t *mc_nodeend;          /* [nnodes]: the frame behind the last one of each node,
	                                   * rising */
	const uint8_t *mc_cpunode;        /* [ncpus]: the node beside each CPU */
	/*
	 * Frame 0 lies at physical address mc_frame0 << VM_PAGESHIFT; device frames are named by physical addresses.
	 * Holes are frames below mc_nframes that are no memory, or that the machine keeps for
	 * itself (its image, the memory that mach_boot_alloc gives): the core never brings them on
	 * line. They are known before vm_create.
	 */
	uint64_t mc_frame0;
	unsigned mc_nholes;
	const struct mach_hole *mc_holes; /* [nholes] */
	/* Addresses of the kernel's own space (hat.h), which every other space has above its own. Both 0: there is none. */
	vaddr_t mc_kernel_min, mc_kernel_max;
	unsigned mc_npagesizes;  /* page sizes of the MMU; 0 and 1: the base page only */
	uint8_t mc_pageshift[6]; /* log2 of their bytes, rising; the first is VM_PAGESHIFT */
};
const struct mach_caps *mach_caps(struct mach *m);

/* Is the frame one of the machine's holes? */
static inline bool mach_is_hole(const struct mach_caps *mc, uint64_t pfn)
{
	for (unsigned i = 0; i < mc->mc_nholes; i++)
		if (pfn - mc->mc_holes[i].mh_first < mc->mc_holes[i].mh_n)
			return true;
	return false;
}

/*
 * Mutexes are of two kinds, by rank. A mutex of rank MACH_RANK_SPIN or more is held for a short time, and never while its holder
 * waits for I/O, for memory or for a mutex of lower rank: a machine may spin on it, with preemption off.
 * A mutex of lower rank may be held while its holder waits for these: a machine must put its
 * waiters to sleep. All reader-writer locks are of the second kind. A condition variable goes with
 * a mutex of either kind. The core takes no lock in an interrupt.
 */
#define MACH_RANK_SPIN 60u

/* ---- locks. Storage is opaque to the core; 'rank' orders acquisition (higher rank = taken later = inner) and is
 * checked in debug builds: taking a lock whose rank is <= one already held (other than tryenter) panics. ---- */
struct mach_mutex {
	uint64_t opaque[4];
};
struct mach_rwlock {
	uint64_t opaque[31];
}; /* room for readers' counts by CPU */
struct mach_cv {
	uint64_t opaque[4];
};

/* None of these fails, and the names live as long as the locks. fini: nobody holds the lock or waits for it; a port may panic otherwise. */
void mach_mutex_init(struct mach_mutex *, unsigned rank, const char *name);
void mach_mutex_fini(struct mach_mutex *);
void mach_mutex_enter(struct mach_mutex *); /* not recursive */
bool mach_mutex_tryenter(
    struct mach_mutex *); /* never waits; false: the lock is held, also by the caller */
void mach_mutex_exit(struct mach_mutex *);
bool mach_mutex_held(const struct mach_mutex *); /* by the calling thread; for assertions */

/*
 * Readers never wait indefinitely for a waiting writer (a fault inside a fault's I/O must not
 * deadlock). Not recursive. tryenter never waits.
 */
void mach_rw_init(struct mach_rwlock *, unsigned rank, const char *name);
void mach_rw_fini(struct mach_rwlock *);
void mach_rw_enter(struct mach_rwlock *, bool writer);
bool mach_rw_tryenter(struct mach_rwlock *, bool writer);
void mach_rw_exit(struct mach_rwlock *);
/*
 * For assertions: does the calling thread hold the lock as its writer (writer), or as reader or writer (not writer)? In a build
 * without assertions (NDEBUG) a port may answer true while any thread is a reader.
 */
bool mach_rw_held(const struct mach_rwlock *, bool writer);

void mach_cv_init(struct mach_cv *);
void mach_cv_fini(struct mach_cv *);
void mach_cv_wait(
    struct mach_cv *, struct mach_mutex *); /* drops and retakes the mutex; may wake spuriously */
bool mach_cv_timedwait(
    struct mach_cv *, struct mach_mutex *, uint64_t ns); /* false: the time is over */
void mach_cv_broadcast(struct mach_cv *);

/* ---- CPUs, threads, time ---- */
unsigned mach_cpu_id(void); /* a hint for per-CPU caches: the caller may move at any moment */
uint64_t mach_time_ns(
    void); /* monotonic. The core does not call it: programs on the machine and the conformance
            * suite do */
struct mach_thread;
struct mach_thread *mach_thread_create(
    struct mach *, void (*fn)(void *), void *arg, const char *name); /* NULL: cannot */
void mach_thread_join(struct mach_thread *);
void mach_yield(void);
_Noreturn void mach_panic(const char *msg); /* for an invariant that does not hold */

/* ---- memory ---- */
/*
 * Zeroed memory for a vm's own tables, kept until the machine is destroyed. NULL: none. vm_create
 * calls it, for vm_boot_bytes() in all if each piece is rounded up to 64 bytes; hat/ calls it, too,
 * when a machine with hashed translations (sfmmu) sets up its HAT.
 */
void *mach_boot_alloc(struct mach *, size_t bytes);
/*
 * The address through which the core reads and writes a frame. Without mc_direct_map it may be used only while the
 * frame has no translation loaded (the core calls hat_pageunload first, page locked exclusively). Never NULL.
 * Contiguous frames have contiguous addresses.
 */
void *mach_frame_kva(struct mach *, pfn_t);
/* The frame of an address that mach_frame_kva() gave, or of any byte of that frame. */
pfn_t mach_kva_frame(struct mach *, const void *kva);
/* Neither sleeps nor fails; the rules of mach_frame_kva() hold for each frame. */
void mach_frame_zero(struct mach *, pfn_t);
void mach_frame_copy(struct mach *, pfn_t dst, pfn_t src);
/*
 * The contents of n frames from pfn are not needed any more; the port may give the memory back to its host.
 * Before a frame is used again the core asks for its address again.
 */
void mach_frame_discard(struct mach *, pfn_t, pfn_t n);
/*
 * Reuse of a frame. A port whose host may still read the frame's old contents (a page in a pipe, in
 * a socket) gives the frame other memory between the two calls; other ports do nothing. Retire: the
 * frame is free, its contents are not needed. Renew: the frame is about to get other contents; its
 * contents are undefined from here on. Neither call sleeps for long, and neither fails.
 */
void mach_frame_retire(struct mach *, pfn_t);
void mach_frame_renew(struct mach *, pfn_t);
/* The core wants n more frames on line; returns how many it may use (0..n). The core chooses the
 * numbers of the frames. mach_frames_release gives back that many after discarding them. Never
 * sleeps. */
pfn_t mach_frames_grant(struct mach *, pfn_t n);
void mach_frames_release(struct mach *, pfn_t n);

#endif
