/* SPDX-License-Identifier: BSD-2-Clause */
/* Limits of spaces and groups of spaces; memory pressure; the out-of-memory policy; write-back. All amounts are pages. */
#ifndef QUIRE_LIMITS_H
#define QUIRE_LIMITS_H

#include <quire/as.h>
#include <quire/vm.h>

#define LIMIT_NONE (~(uint64_t)0)
struct vm_limits {
	uint64_t l_rss;    /* resident: enforced by trimming (vm_limits_enforce), not by failing */
	uint64_t l_locked; /* limits as_lock: VM_LIMIT beyond */
	uint64_t l_resv;   /* limits the reservation of private memory: VM_LIMIT beyond */
};

/* A group: a container, a user, a job. Its limits hold for the sum over its spaces. */
struct vm_group;
struct vm_group_usage {
	uint64_t gu_spaces, gu_rss, gu_locked, gu_resv;
};
/* The functions for groups and spaces may sleep and want no core lock held. */
enum vm_err vm_group_create(
    struct vm *, const struct vm_limits *, struct vm_group **);   /* VM_NOMEM */
void vm_group_destroy(struct vm_group *);                         /* the group must have no space */
void vm_group_limit(struct vm_group *, const struct vm_limits *); /* amounts in use are not
                                                                   * reduced */
/* Counts the group's pages now. Spaces may come and go meanwhile. */
void vm_group_usage(struct vm_group *, struct vm_group_usage *);
/* Puts a space, with its present use, into a group (NULL: into none); forked children follow.
 * VM_LIMIT: the group has no room for it; the space stays where it is. */
enum vm_err as_set_group(struct as *, struct vm_group *);
/* The space's own limits. l_locked is the same limit as as_set_limits' max_locked_pages. */
void as_limit(struct as *, const struct vm_limits *);
/* Takes up to npages resident pages from the space, round robin; returns how many lost their translation. */
uint64_t as_trim(struct as *, uint64_t npages);
/* Trims every space and group that is over its l_rss; returns pages. For callers to call at
 * intervals, without locks. May sleep. */
uint64_t vm_limits_enforce(struct vm *);

/* ---- pressure ---- */
enum vm_pressure {
	PRESSURE_NONE,
	PRESSURE_LOW /* < lotsfree */,
	PRESSURE_HIGH /* < desfree */,
	PRESSURE_CRITICAL /* < minfree */
};
/* The pressure level by the present number of free frames. Takes no lock. */
enum vm_pressure vm_pressure(struct vm *);
/*
 * A reaper is called to give memory back when page-out alone frees too little: vr_reap returns
 * frames freed. It is called with locks up to RANK_SLOT + 6 held: it may free kernel memory and
 * take locks of a higher rank, and must not fault, wait, or add and remove reapers. After
 * vm_reaper_remove returned, the reaper is not called any more. Adding and removing may wait for a
 * reaper.
 */
struct vm_reaper {
	struct vm_reaper *vr_next; /* the system's */
	uint64_t (*vr_reap)(void *arg, enum vm_pressure level, pfn_t want);
	void *vr_arg;
};
void vm_reaper_add(struct vm *, struct vm_reaper *);
void vm_reaper_remove(struct vm *, struct vm_reaper *);
/*
 * The policy for the case that nothing can be reclaimed: called once for each allocation that is
 * about to fail, with the same locks as a reaper. OOM_RETRY: the policy has freed memory or will
 * soon, try again (at most OOM_TRIES times); OOM_FAIL: the allocation fails, and the fault gives
 * VM_NOMEM. Without a policy (NULL) the allocation fails. vm_oom_policy sets the function and arg
 * one after the other, so it must be called while no allocation can fail.
 */
enum vm_oom { OOM_FAIL, OOM_RETRY };
#define OOM_TRIES 16u
typedef enum vm_oom vm_oom_fn(void *arg, struct vm *, pfn_t want);
void vm_oom_policy(struct vm *, vm_oom_fn *, void *arg);
/*
 * The space with the most pages (resident and reserved), for a thread of the policy's: a reference
 * is taken. NULL: no space has any. May sleep; no core lock held, so it is not for a vm_oom_fn
 * itself.
 */
struct as *vm_oom_victim(struct vm *);

/* ---- write-back ---- */
/*
 * Looks at nframes/laps frames (laps 0 counts as 1) from where it stopped last and writes the files' dirty pages among them, with
 * their dirty neighbours. After laps calls it has seen every page: pages that were dirty before the
 * first call are written then, except pages that were busy or wired and pages whose write failed,
 * which stay dirty. Returns the pages of files that any thread wrote meanwhile. May sleep; no core
 * lock held.
 */
uint64_t vm_writeback(struct vm *, unsigned laps);
/*
 * Starts a thread that does so every period_ns / laps nanoseconds, and enforces limits. VM_NOTSUP: no threads here; VM_INVAL: laps is 0,
 * or there is such a thread already; VM_NOMEM: no memory or no thread.
 */
enum vm_err vm_writeback_start(struct vm *, uint64_t period_ns, unsigned laps);
/* Ends that thread, if there is one, and waits for it. */
void vm_writeback_stop(struct vm *);
#endif
