/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A family: the program that `quire run` started and every process it forks or executes, sharing one budget of frames and
 * one swap store. The state is one shared memory object (a memfd), mapped by the supervisor (the `quire run` process) and
 * by the runtime in each process. All fields are atomics; there are no locks, so a process killed at any point leaves
 * nothing locked. The supervisor returns what a dead process had been granted when its connection hangs up. Every process may write
 * all of it: no process's memory safety depends on it (docs/security.md).
 *
 * Units: pages of 4 KiB unless a name says otherwise.
 */
#ifndef QUIRE_RUN_FAMILY_H
#define QUIRE_RUN_FAMILY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "run/promise.h"
#include "run/sites.h"

#define FAMILY_MAGIC 0x717569726566616dull
#define FAMILY_PROCS 512u
#define FAMILY_STORES 128u
#define FAMILY_POOL_EXTRA 64u /* pages the pool may hold beyond its limit while it compacts */
/*
 * How a process joins. No socket of the family has a name. The supervisor makes a pair of connected sockets: the door, which it
 * keeps, and the gate, which every process of the family inherits: the descriptor is not closed by execve(), and the program
 * cannot close it. A process that has the gate was given it by a process of the family; the kernel vouches for that. Over the gate a process
 * sends its greeting, with one end of a pair of its own: the connection, on which the supervisor answers.
 *
 * The environment tells a program where the gate is: GATE:COOKIE:TOKEN:PID. GATE is its number; COOKIE (SO_COOKIE, hexadecimal) is
 * that socket's for ever, so a variable that was left over finds out that its gate is gone; TOKEN, 128 random bits in hexadecimal, is
 * part of the greeting; PID is that of the process that the program was executed in. If PID is ours and the gate is not there, the
 * program belongs to a family that it cannot join.
 */
#define FAMILY_ENV "QUIRE_FAMILY"
#define FAMILY_TOKEN 2u /* words */

/* What a process counts about itself; the supervisor adds up the living and the dead. */
/* clang-format off */
#define FAMILY_COUNTERS(X) \
	X(faults) X(faults_zero) X(faults_swap) X(faults_cow) X(faults_rescue) X(pages_in) X(pages_out) X(clean_drop) \
	X(wait_ns) X(forks) X(adopted) X(io_errors) X(lost_pages) \
	X(refaults) X(prefetched) X(prefetch_used) X(prefetch_wasted)
/* clang-format on */
struct family_counters {
#define X(n) _Atomic uint64_t n;
	FAMILY_COUNTERS(X)
#undef X
};

struct family_proc {
	_Atomic int32_t fp_pid;       /* 0: free entry; -1: being set up */
	_Atomic uint32_t fp_shrink;   /* frames this process is asked to give back */
	_Atomic uint64_t fp_granted;  /* frames charged to the process */
	_Atomic uint64_t fp_promised; /* pages promised to the process, of its store's shelf */
	_Atomic uint64_t fp_own;      /* pages that the runtime takes, beside the frames */
	_Atomic uint64_t fp_resident; /* pages of the program in memory, a gauge */
	_Atomic uint64_t
	    fp_need; /* pages the program has in use, in memory or in the store, a gauge */
	_Atomic uint32_t fp_managed; /* 0: still served by the kernel alone because it fits */
	_Atomic uint32_t
	    fp_hears; /* the process has its service thread and may be asked to give frames back */
	struct family_counters fp_count;
};

struct family {
	uint64_t fam_budget;             /* pages; this and the next are const */
	uint64_t fam_pool_max;           /* of them, what the stores may take at most */
	_Atomic uint64_t fam_charged;    /* pages granted to processes and held by the stores */
	_Atomic uint64_t fam_pool_pages; /* of them, by the stores */
	_Atomic uint64_t fam_charged_peak, fam_need_peak;
	_Atomic uint64_t fam_need; /* sum of fp_need */
	uint32_t
	    fam_most; /* const: processes at once, FAMILY_PROCS or as many as the supervisor has descriptors for */
	_Atomic uint32_t
	    fam_procs; /* entries of fam_proc that were ever taken come before this one */
	_Atomic uint32_t
	    fam_watched; /* the supervisor's threads wait for fam_pressure and pack; 0: FAMILY_WATCH makes them */
	_Atomic uint32_t fam_started;  /* the runtime's start succeeded in some process */
	_Atomic uint32_t fam_pressure; /* futex: bumped when some fp_shrink was raised */
	_Atomic uint64_t
	    fam_beyond; /* most pages by which fam_charged was beyond the budget (family_force) */
	_Atomic uint64_t
	    fam_unhosted_peak; /* most pages that a process which has ended had beside what is hosted */
	struct promise fam_promise;
	struct promise_shelf fam_shelf[FAMILY_STORES]; /* by fw_shelf */
	_Atomic uint64_t fam_refused;                  /* calls refused because all is promised */
	_Atomic uint64_t
	    fam_tables; /* calls refused for want of memory for tables, or of mappings */
	_Atomic uint32_t
	    fam_threadless; /* of those, because no thread could be made: the limit of processes is reached */
	_Atomic uint64_t
	    fam_full; /* touches of memory not reserved in full that were answered with SIGBUS: all is promised */
	_Atomic uint64_t
	    fam_no_room; /* of the lost pages, those that no place was at fault for: no frame could be had */
	_Atomic uint32_t fam_ended;      /* processes whose share was given back */
	_Atomic uint32_t fam_asked;      /* FAMILY_SETTLE messages sent; */
	_Atomic uint32_t fam_settled;    /* futex: FAMILY_SETTLE messages answered */
	struct family_counters fam_dead; /* of processes that ended */
	struct family_proc fam_proc[FAMILY_PROCS];
};

/*
 * The greeting, with one descriptor (SCM_RIGHTS): the other end of a pair of sockets. A forked child has the descriptors and a
 * slot: it wants no answer, and the pair is its connection. Otherwise the pair carries the answer and no more: the answer brings
 * the process's end of its connection. The end of a connection kills the process by a signal that the kernel sends for whatever
 * happens on a socket (family_mortal), and the kernel may send it for a message that was received long before. ALONE: the process hides its memory from others of its
 * user, and wants a store of its own. CHANGED: it has joined before, has other credentials now and wants another store; the
 * connection takes the place of the one it has. SILENT excludes the others.
 */
enum { FAMILY_SILENT = 1, FAMILY_ALONE = 2, FAMILY_CHANGED = 4 };
struct family_hello {
	uint64_t fh_magic;
	uint64_t fh_token[FAMILY_TOKEN];
	int32_t
	    fh_slot; /* CHANGED: its own; SILENT: the entry prepared by the parent before the fork; else -1 */
	uint32_t fh_flags;
	uint64_t fh_store; /* FAMILY_SILENT: the store that it has, as fw_store */
};
/*
 * The answer, with the descriptors. What a process relies on for its own safety is in here: the shared memory can
 * be written by all processes of the family.
 */
struct family_welcome {
	uint64_t fw_magic;
	int32_t fw_slot; /* -1: no entry free; -2: no store for its credentials */
	int32_t
	    fw_nfds; /* 4: the family's memory, the store, the swap file, the connection; 5: and the opened /dev/userfaultfd */
	uint64_t fw_store; /* the store's number: no other store of the family ever has the same */
	uint64_t fw_store_size; /* bytes */
	uint64_t fw_shelf;      /* of fam_shelf: what its processes are promised */
	uint64_t fw_budget;     /* pages */
	uint64_t fw_swap_pages; /* slots that the process may use at most */
	char fw_policy[16],
	    fw_prefetch[16]; /* names for policy_find and prefetch_find; empty: the default */
	uint64_t fw_without; /* enum sys_offer: what is not to be used */
	struct sites_note fw_sites; /* of the C library of the first program */
};
/* Single bytes on the connection, from a process to the supervisor; from it: FAMILY_SHRINK, to a process that hears. */
#define FAMILY_WATCH                                                                               \
	'w' /* the supervisor's threads are needed: other processes have to give memory, or pages have to be packed */
#define FAMILY_HEARS 'h' /* this process may be sent bytes from now on */
#define FAMILY_MOVED 'm' /* nothing of the process is in its former store any more */
/*
 * The sender has raised fam_asked: the supervisor gives back the shares of all processes that have ended by now, and raises fam_settled to
 * that. No process judges by a number whether another has ended: numbers differ between PID namespaces (store/pool_lock.c).
 */
#define FAMILY_SETTLE 'e'
#define FAMILY_SHRINK 's' /* fp_shrink is up */

static inline void family_raise(_Atomic uint64_t *peak, uint64_t to)
{
	uint64_t was = atomic_load(peak);

	while (was < to && !atomic_compare_exchange_weak(peak, &was, to))
		;
}

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
	family_raise(&f->fam_charged_peak, have + take);
	return take;
}

/* Charges n pages, beyond the budget if need be: the report says by how much the budget was exceeded at most. */
static inline void family_force(struct family *f, uint64_t n)
{
	uint64_t had = family_charge(f, n), now;

	if (had == n)
		return;
	now = atomic_fetch_add(&f->fam_charged, n - had) + (n - had);
	family_raise(&f->fam_charged_peak, now);
	if (now > f->fam_budget)
		family_raise(&f->fam_beyond, now - f->fam_budget);
}

/*
 * What frames of managed processes may take: all but what the pool has and will have soon. So the pool's share follows its
 * need, up to fam_pool_max; the headroom lets it grow by what a few batches of pages take before processes give frames up
 * (family_frames_over). The pool may overdraw, so more headroom would be unused memory.
 */
#define FAMILY_HEADROOM 32u
static inline uint64_t family_frames_cap(struct family *f)
{
	uint64_t keep = atomic_load(&f->fam_pool_pages) + FAMILY_HEADROOM,
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

/* Is so much of the budget taken that pages will soon have to be replaced? unused: granted pages that hold nothing yet. */
static inline bool family_nearly_full(struct family *f, uint64_t unused)
{
	return atomic_load(&f->fam_charged) >= f->fam_budget - f->fam_budget / 16 + unused;
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
 * segments at once. The pool may overdraw within its limit; frames pay it back at the next fault, and after each step of a call
 * by which many pages leave (family_frames_over, host_balance).
 * 0, or -1: beyond its limit.
 */
static inline int family_pool_charge(struct family *f, long pages)
{
	if (pages < 0) {
		family_uncharge(f, (uint64_t)-pages);
		atomic_fetch_sub(&f->fam_pool_pages, (uint64_t)-pages);
		return 0;
	}
	uint64_t got = family_charge(f, (uint64_t)pages),
		 pool = atomic_fetch_add(&f->fam_pool_pages, (uint64_t)pages);

	if (got == (uint64_t)pages)
		return 0;
	if (pool + (uint64_t)pages > f->fam_pool_max + FAMILY_POOL_EXTRA) {
		family_uncharge(f, got);
		atomic_fetch_sub(&f->fam_pool_pages, (uint64_t)pages);
		return -1;
	}
	family_force(f, (uint64_t)pages - got);
	return 0;
}

/* Entries that were ever taken come before this one. Any process may have written the number: the table ends where it ends. */
static inline unsigned family_entries(const struct family *f)
{
	uint32_t ever = atomic_load(&f->fam_procs);

	return ever < FAMILY_PROCS ? ever : FAMILY_PROCS;
}

/* An entry for a process to be; -1: all taken. The caller sets fp_pid. */
static inline int family_slot(struct family *f)
{
	for (unsigned i = 0; i < f->fam_most && i < FAMILY_PROCS; i++) {
		int32_t none = 0;

		if (atomic_load(&f->fam_proc[i].fp_pid) == 0 &&
		    atomic_compare_exchange_strong(&f->fam_proc[i].fp_pid, &none, -1)) {
			uint32_t most = atomic_load(&f->fam_procs);

			while (
			    most <= i && !atomic_compare_exchange_weak(&f->fam_procs, &most, i + 1))
				;
			return (int)i;
		}
	}
	return -1;
}
#endif
