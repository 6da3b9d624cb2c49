/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A family: the program that `quire run` started and every process it forks or executes, sharing one budget of frames and
 * one swap store. The state is one shared memory object (a memfd), mapped by the supervisor (the `quire run` process) and
 * by the runtime in each process. All fields are atomics; there are no locks, so a process killed at any point leaves
 * nothing locked. The supervisor returns what a dead process had been granted when its socket hangs up.
 *
 * Units: pages of 4 KiB unless a name says otherwise.
 */
#ifndef QUIRE_RUN_FAMILY_H
#define QUIRE_RUN_FAMILY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "run/sites.h"

#define FAMILY_MAGIC 0x717569726566616dull
#define FAMILY_PROCS 512u
#define FAMILY_POOL_EXTRA 64u /* pages the pool may hold beyond its limit while it compacts */
/*
 * The environment tells a program of its family: NAME:SPACE:PID. NAME is the abstract socket's, without the leading NUL; SPACE the
 * network name space that it is in (SO_NETNS_COOKIE, hexadecimal; 0: unknown). It ends with the supervisor's number and that of its
 * descriptor of the family's memory, where who sees the same /proc finds all else. PID is that of the process as who executes the
 * program knows it: if it is ours and nobody is at the socket, the family was ended a moment ago; if it is not, the variable is left
 * over from a family of another time.
 */
#define FAMILY_ENV   "QUIRE_FAMILY"
#define FAMILY_NAME  64u /* bytes of NAME at most, the NUL included */

/* What a process counts about itself; the supervisor adds up the living and the dead. */
#define FAMILY_COUNTERS(X) \
	X(faults) X(faults_zero) X(faults_swap) X(faults_cow) X(faults_rescue) X(pages_in) X(pages_out) X(clean_drop) \
	X(wait_ns) X(forks) X(adopted) X(io_errors) X(lost_pages) \
	X(refaults) X(prefetched) X(prefetch_used) X(prefetch_wasted)
struct family_counters {
#define X(n) _Atomic uint64_t n;
	FAMILY_COUNTERS(X)
#undef X
};

struct family_proc {
	_Atomic int32_t fp_pid;	      /* 0: free entry; -1: being set up */
	_Atomic uint32_t fp_shrink;   /* frames this process is asked to give back */
	_Atomic uint64_t fp_granted;  /* frames charged to it */
	_Atomic uint64_t fp_resident; /* pages of the program in memory, a gauge */
	_Atomic uint64_t fp_need;     /* pages the program has in use, in memory or in the store, a gauge */
	_Atomic uint32_t fp_managed;  /* 0: still served by the kernel alone because it fits */
	_Atomic uint32_t fp_hears;    /* may be asked to give frames back: has its service thread */
	struct family_counters fp_count;
};

struct family {
	uint64_t fam_magic;
	char fam_name[FAMILY_NAME];
	int32_t fam_swapfd, fam_device; /* the supervisor's descriptors; -1: none */
	int32_t fam_placefd;	   /* of its socket's place, for who is in another network name space */
	uint32_t fam_most; /* processes at once, FAMILY_PROCS or as many as the supervisor has descriptors for */
	uint32_t fam_swapflags;	   /* with which the first is opened */
	uint64_t fam_size;	   /* bytes of the whole shared object */
	uint64_t fam_pool_off, fam_pool_size; /* where the store's shared state lies */
	uint64_t fam_budget;	   /* pages */
	uint64_t fam_pool_max;	   /* of them, what the pool may take at most */
	_Atomic uint64_t fam_charged; /* pages granted to processes and held by the pool */
	_Atomic uint64_t fam_pool_pages; /* of them, by the pool */
	_Atomic uint64_t fam_charged_peak, fam_need_peak;
	_Atomic uint64_t fam_need;     /* sum of fp_need */
	_Atomic uint32_t fam_procs;    /* entries of fam_proc that were ever taken come before this one */
	_Atomic uint32_t
	    fam_watched; /* the supervisor's threads wait for fam_pressure and pack; 0: a byte on the socket makes them */
	_Atomic uint32_t fam_started;  /* the runtime's start succeeded in some process */
	_Atomic uint32_t fam_pressure; /* futex: bumped when some fp_shrink was raised */
	_Atomic uint64_t fam_forced;   /* pages granted beyond the budget, so that every process has its least */
	_Atomic uint64_t fam_refused;  /* mappings refused for lack of swap */
	uint64_t fam_swap_pages;   /* slots each process may use at most */
	char fam_policy[16], fam_prefetch[16]; /* names for policy_find and prefetch_find; empty: the default */
	struct family_counters fam_dead; /* of processes that ended */
	struct sites_note fam_sites;	 /* of the C library of the first program */
	struct family_proc fam_proc[FAMILY_PROCS];
};

/* Message from the runtime to the supervisor after connecting; the answer carries memfd and swap file as SCM_RIGHTS. */
struct family_hello {
	uint64_t fh_magic;
	int32_t	 fh_slot; /* entry prepared by the parent before fork, or by who asks; -1: none */
	int32_t	 fh_pid;
	uint32_t
	    fh_silent; /* not 0: no answer is wanted; who asks has the descriptors, inherited or opened through /proc, and a slot */
};
struct family_welcome {
	uint64_t fw_magic;
	int32_t	 fw_slot;    /* -1: no entry free */
	int32_t	 fw_nfds;    /* 2: memfd, swap file; 3: and the opened /dev/userfaultfd */
	uint64_t fw_fam_size;
};

/* Charges up to n pages; returns how many were had. */
static inline uint64_t family_charge(struct family *f, uint64_t n)
{
	uint64_t have = atomic_load(&f->fam_charged), take;

	do {
		take = have >= f->fam_budget ? 0 : f->fam_budget - have;
		if (take > n)
			take = n;
		if (take == 0)
			return 0;
	} while (!atomic_compare_exchange_weak(&f->fam_charged, &have, have + take));
	uint64_t peak = atomic_load(&f->fam_charged_peak);
	while (peak < have + take && !atomic_compare_exchange_weak(&f->fam_charged_peak, &peak, have + take))
		;
	return take;
}

/*
 * What frames of managed processes may take: all but what the pool has and will have soon. So the pool's share follows its
 * need, up to fam_pool_max; the headroom lets it grow by a few segments before processes give frames up (family_frames_over).
 */
static inline uint64_t family_frames_cap(struct family *f)
{
	uint64_t keep = atomic_load(&f->fam_pool_pages) + f->fam_budget / 64 + 64,
		 most = f->fam_pool_max + FAMILY_POOL_EXTRA;

	if (keep > most)
		keep = most;
	return keep < f->fam_budget ? f->fam_budget - keep : 0;
}

static inline uint64_t family_frames(struct family *f)
{
	uint64_t pool = atomic_load(&f->fam_pool_pages), charged = atomic_load(&f->fam_charged);

	return charged > pool ? charged - pool : 0;
}

/* As family_charge, for frames of a managed process. */
static inline uint64_t family_charge_frames(struct family *f, uint64_t n)
{
	uint64_t frames = family_frames(f), cap = family_frames_cap(f);

	if (frames >= cap)
		return 0;
	return family_charge(f, n < cap - frames ? n : cap - frames);
}

/* Frames granted beyond that: left from before a process was managed, or the pool has grown. */
static inline uint64_t family_frames_over(struct family *f)
{
	uint64_t frames = family_frames(f), cap = family_frames_cap(f);

	return frames > cap ? frames - cap : 0;
}

static inline void family_uncharge(struct family *f, uint64_t n)
{
	atomic_fetch_sub(&f->fam_charged, n);
}

/*
 * What the store takes (pages > 0) or gives back. Page-out must not fail because frames have all there is: several processes may want
 * segments at once. The pool may overdraw within its limit; frames pay it back at the next fault (family_frames_over).
 * 0, or -1: beyond its limit.
 */
static inline int family_pool_charge(struct family *f, long pages)
{
	if (pages < 0) {
		family_uncharge(f, (uint64_t)-pages);
		atomic_fetch_sub(&f->fam_pool_pages, (uint64_t)-pages);
		return 0;
	}
	uint64_t got = family_charge(f, (uint64_t)pages), pool = atomic_fetch_add(&f->fam_pool_pages, (uint64_t)pages);

	if (got == (uint64_t)pages)
		return 0;
	if (pool + (uint64_t)pages > f->fam_pool_max + FAMILY_POOL_EXTRA) {
		family_uncharge(f, got);
		atomic_fetch_sub(&f->fam_pool_pages, (uint64_t)pages);
		return -1;
	}
	atomic_fetch_add(&f->fam_charged, (uint64_t)pages - got);
	return 0;
}

/* An entry for a process to be; -1: all taken. The caller sets fp_pid. */
static inline int family_slot(struct family *f)
{
	for (unsigned i = 0; i < f->fam_most; i++) {
		int32_t none = 0;

		if (atomic_load(&f->fam_proc[i].fp_pid) == 0 &&
		    atomic_compare_exchange_strong(&f->fam_proc[i].fp_pid, &none, -1)) {
			uint32_t most = atomic_load(&f->fam_procs);

			while (most <= i && !atomic_compare_exchange_weak(&f->fam_procs, &most, i + 1))
				;
			return (int)i;
		}
	}
	return -1;
}
#endif
