/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A family: the program that `quire run` started and every process it forks or executes, sharing
 * one budget of frames and one swap store. The state is one shared memory object (a memfd), mapped
 * by the supervisor (the `quire run` process) and by the runtime in each process. All fields are
 * atomics; there are no locks, so a process killed at any point leaves nothing locked. When a
 * process's connection hangs up, the supervisor takes back the frames granted to the dead process.
 * Every process may write all of the object: no process's memory safety depends on its contents
 * (docs/security.md).
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
/*
 * Why a process that greets gets no place; fw_slot of the answer. NO_SLOT: no entry is free.
 * NO_STORE: there are FAMILY_STORES stores, none of them for its credentials. NO_ROOM: another store
 * cannot be made. NO_TAG: the keeper has not released processes that ended, and their tags are all
 * that the store has. NO_FILES: the supervisor has no descriptor for the connection, or for the
 * files of another store.
 */
enum family_refusal {
	FAMILY_NO_SLOT = -1,
	FAMILY_NO_STORE = -2,
	FAMILY_NO_ROOM = -3,
	FAMILY_NO_TAG = -4,
	FAMILY_NO_FILES = -5,
	FAMILY_REFUSALS = 5
};
#define FAMILY_TRIES 1000u    /* waits of a millisecond for an entry or a tag */
#define FAMILY_POOL_EXTRA 64u /* pages that the pool may hold beyond its limit while it compacts */
/*
 * How a process joins. No socket of the family has a name. The supervisor makes a pair of connected
 * sockets: the door, which the supervisor keeps, and the gate, which every process of the family
 * inherits. execve() does not close the gate, and the program cannot close it. A process can have
 * the gate only from a process of the family; the kernel guarantees this. A process sends its
 * greeting through the gate, together with one end of a new socket pair: the connection, on which
 * the supervisor answers.
 *
 * A variable of the environment names the gate: GATE:COOKIE:TOKEN:PID. GATE is the descriptor's
 * number. COOKIE (SO_COOKIE, hexadecimal) identifies the socket, so a stale variable is recognised
 * when the gate no longer exists. TOKEN, 128 random bits in hexadecimal, is part of the greeting.
 * PID is the process in which the program was executed. If PID is this process and the gate does
 * not exist, the program belongs to a family that it cannot join.
 */
#define FAMILY_ENV "QUIRE_FAMILY"
#define FAMILY_TOKEN 2u /* words */

/* The counters of a process; the supervisor adds up those of living and dead processes. */
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
	_Atomic uint32_t fp_shrink;   /* frames that this process is asked to give back */
	_Atomic uint64_t fp_granted;  /* frames charged to the process */
	_Atomic uint64_t fp_promised; /* pages of its store's shelf promised to the process */
	_Atomic uint64_t fp_own;      /* pages that the runtime takes, in addition to the frames */
	_Atomic uint64_t fp_resident; /* pages of the program in memory, a gauge */
	_Atomic uint64_t
	    fp_need; /* pages that the program has in use, in memory or in the store, a gauge */
	/* 0: the kernel alone still serves the process, because it fits */
	_Atomic uint32_t fp_managed;
	_Atomic uint32_t
	    fp_hears; /* the process has its service thread and may be asked to give frames back */
	struct family_counters fp_count;
};

struct family {
	uint64_t fam_budget;             /* pages; this and the next are const */
	uint64_t fam_pool_max;           /* the most pages of the budget that the stores may take */
	_Atomic uint64_t fam_charged;    /* pages granted to processes and held by the stores */
	_Atomic uint64_t fam_pool_pages; /* pages of fam_charged held by the stores */
	_Atomic uint64_t fam_charged_peak, fam_need_peak;
	_Atomic uint64_t fam_need; /* sum of fp_need */
	/*
	 * const: most processes at a time: FAMILY_PROCS, or fewer if the supervisor lacks
	 * descriptors
	 */
	uint32_t fam_most;
	_Atomic uint32_t
	    fam_procs; /* all entries of fam_proc that were ever taken lie below this index */
	/*
	 * the supervisor's threads that wait for fam_pressure and pack exist; 0: FAMILY_WATCH makes
	 * them
	 */
	_Atomic uint32_t fam_watched;
	_Atomic uint32_t fam_started;  /* the runtime's start succeeded in some process */
	_Atomic uint32_t fam_pressure; /* futex: changed when any fp_shrink was raised */
	_Atomic uint64_t
	    fam_beyond; /* most pages by which fam_charged was beyond the budget (family_force) */
	_Atomic uint64_t
	    fam_unhosted_peak; /* most pages that an ended process had beside its hosted memory */
	struct promise fam_promise;
	struct promise_shelf fam_shelf[FAMILY_STORES]; /* by fw_shelf */
	/* calls refused because all memory and swap is promised */
	_Atomic uint64_t fam_refused;
	_Atomic uint64_t
	    fam_tables; /* calls refused for want of memory for tables, or of mappings */
	/*
	 * calls of fam_tables refused because no thread could be made: the limit of processes is
	 * reached
	 */
	_Atomic uint32_t fam_threadless;
	/*
	 * processes that changed their credentials and got no other store, by family_refusal: the
	 * entry of FAMILY_NO_SLOT is the first
	 */
	_Atomic uint32_t fam_unmoved[FAMILY_REFUSALS];
	/* forks refused because no number was left for the descriptor of the child's connection */
	_Atomic uint32_t fam_fileless;
	/*
	 * touches of memory not reserved in full that raised SIGBUS because all memory and swap is
	 * promised
	 */
	_Atomic uint64_t fam_full;
	/* pages lost because no frame could be had, not because a place of swap failed */
	_Atomic uint64_t fam_no_room;
	_Atomic uint32_t fam_ended;      /* ended processes whose share was taken back */
	_Atomic uint32_t fam_asked;      /* FAMILY_SETTLE messages sent; */
	_Atomic uint32_t fam_settled;    /* futex: FAMILY_SETTLE messages answered */
	struct family_counters fam_dead; /* counters of ended processes */
	struct family_proc fam_proc[FAMILY_PROCS];
};

/*
 * The greeting, with one descriptor (SCM_RIGHTS): the other end of a pair of sockets. EXPECTED: the
 * sender is about to fork, and the pair is the child's connection, which the child inherits; so the
 * connection ends with the child, also if the child is killed before its first instruction. The
 * child has the descriptors and a slot, and needs no answer: it sends a greeting that is SILENT and
 * has no descriptor, from which the supervisor learns which process it is.
 * Otherwise the pair carries only the answer, which brings the process's end of its connection. The
 * kernel kills a process at the end of its connection by a signal for any event on that socket
 * (family_mortal), and may send the signal for a message that was received long before; so the
 * answer does not use the connection. ALONE: the process hides its memory from other processes of
 * its user and asks for a store for itself. CHANGED: the process has joined before, has other
 * credentials now and asks for another store; the new connection replaces its former connection.
 * SILENT and EXPECTED exclude all others.
 */
enum { FAMILY_SILENT = 1, FAMILY_ALONE = 2, FAMILY_CHANGED = 4, FAMILY_EXPECTED = 8 };
struct family_hello {
	uint64_t fh_magic;
	uint64_t fh_token[FAMILY_TOKEN];
	/*
	 * CHANGED: the process's entry; EXPECTED, SILENT: the entry that the parent prepared before
	 * the fork; else -1
	 */
	int32_t fh_slot;
	uint32_t fh_flags;
	/* EXPECTED, SILENT: the store that the child has, and its tag there, as fw_store and fw_tag */
	uint64_t fh_store;
	uint64_t fh_tag;
};
/*
 * The answer, with the descriptors. Values on which a process relies for its safety are part of the
 * answer, as all processes of the family can write the shared memory.
 */
struct family_welcome {
	uint64_t fw_magic;
	int32_t fw_slot; /* below 0: an enum family_refusal */
	/*
	 * 4: the family's memory, the store, the swap file, the connection; 5: also the opened
	 * /dev/userfaultfd
	 */
	int32_t fw_nfds;
	/*
	 * 64 random bits that name the store. Only processes that have the store know them, so no
	 * other process can make the supervisor take it for a process of that store
	 */
	uint64_t fw_store;
	/*
	 * the process's number in the store. Not its entry in the family's state, which processes of
	 * lesser rights can change: what a process holds in the store is given back by this number
	 */
	uint64_t fw_tag;
	uint64_t fw_store_size; /* bytes */
	uint64_t fw_shelf;      /* index in fam_shelf of the promises to the store's processes */
	uint64_t fw_budget;     /* pages */
	uint64_t fw_swap_pages; /* slots that the process may use at most */
	char fw_policy[16],
	    fw_prefetch[16]; /* names for policy_find and prefetch_find; empty: the default */
	uint64_t fw_without; /* enum sys_offer: features that are not to be used */
	struct sites_note fw_sites; /* sites of the C library of the first program */
};
/*
 * Single bytes on the connection, from a process to the supervisor. The supervisor sends
 * FAMILY_SHRINK to a process that has sent FAMILY_HEARS.
 */
/*
 * the supervisor's threads are needed: other processes must give up memory, or pages must be packed
 */
#define FAMILY_WATCH 'w'
#define FAMILY_HEARS 'h' /* this process may be sent bytes from now on */
#define FAMILY_MOVED 'm' /* the process has no page in its former store any more */
/*
 * The sender has raised fam_asked: the supervisor takes back the shares of all processes that have
 * ended by now, and raises fam_settled to the value of fam_asked. No process infers from a process
 * number that another process has ended: numbers differ between PID namespaces (store/pool_lock.c).
 */
#define FAMILY_SETTLE 'e'
#define FAMILY_SHRINK 's' /* fp_shrink is up */

static inline void family_raise(_Atomic uint64_t *peak, uint64_t to)
{
	uint64_t was = atomic_load(peak);

	while (was < to && !atomic_compare_exchange_weak(peak, &was, to))
		;
}

/* Charges up to n pages; returns the number charged. */
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

/*
 * Charges n pages even if that exceeds the budget; the report tells the most by which the budget
 * was exceeded.
 */
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
 * The most pages that frames of managed processes may take: the budget without the pool's pages and
 * a headroom for the pool. So the pool's share follows its need, up to fam_pool_max. The headroom
 * lets the pool grow by a few batches of pages before processes give frames up
 * (family_frames_over). The pool may exceed its share, so a larger headroom would be unused memory.
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

/*
 * Is so much of the budget taken that replacement will begin soon? unused: granted pages without
 * contents yet.
 */
static inline bool family_nearly_full(struct family *f, uint64_t unused)
{
	return atomic_load(&f->fam_charged) >= f->fam_budget - f->fam_budget / 16 + unused;
}

/*
 * Frames granted beyond family_frames_cap: granted before a process was managed, or the pool has
 * grown since.
 */
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
 * Charges pages that the store takes (pages > 0) or returns the charge. Page-out must not fail
 * because frames have the whole budget, as several processes may need segments at once. So the pool
 * may exceed the budget within its limit; processes give up frames for that at the next fault, and
 * after each step of a call that evicts many pages (family_frames_over, host_balance). 0; -1: the
 * pool would exceed its limit.
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

/*
 * All entries that were ever taken lie below this index. Any process may have written the number,
 * so it is cut to the size of the table.
 */
static inline unsigned family_entries(const struct family *f)
{
	uint32_t ever = atomic_load(&f->fam_procs);

	return ever < FAMILY_PROCS ? ever : FAMILY_PROCS;
}

/* Takes an entry for a new process; -1: all are taken. The caller sets fp_pid. */
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
