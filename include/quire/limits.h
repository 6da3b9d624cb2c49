/* SPDX-License-Identifier: BSD-2-Clause */
/* Limits of spaces and groups of spaces; memory pressure; the out-of-memory policy; write-back. All amounts are pages. */
#ifndef QUIRE_LIMITS_H
#define QUIRE_LIMITS_H

#include <quire/as.h>
#include <quire/vm.h>

#define LIMIT_NONE (~(uint64_t)0)
struct vm_limits {
	uint64_t l_rss;    /* resident: enforced by trimming (vm_limits_enforce), not by failing */
	uint64_t l_locked; /* by as_lock: VM_LIMIT beyond */
	uint64_t l_resv;   /* reservation of private memory: VM_LIMIT beyond */
};

/* A group: a container, a user, a job. Its limits are for the sum over its spaces. */
struct vm_group;
struct vm_group_usage {
	uint64_t gu_spaces, gu_rss, gu_locked, gu_resv;
};
enum vm_err vm_group_create(
    struct vm *, const struct vm_limits *, struct vm_group **);   /* VM_NOMEM */
void vm_group_destroy(struct vm_group *);                         /* no space is in it */
void vm_group_limit(struct vm_group *, const struct vm_limits *); /* what is in use already stays */
void vm_group_usage(struct vm_group *, struct vm_group_usage *);
/* Puts a space into a group (NULL: into none), with what it uses; forked children follow. VM_LIMIT: it does not fit. */
enum vm_err as_set_group(struct as *, struct vm_group *);
/* The space's own limits. */
void as_limit(struct as *, const struct vm_limits *);
/* Takes up to npages resident pages from the space, round robin; returns how many lost their translation. */
uint64_t as_trim(struct as *, uint64_t npages);
/* Trims every space and group that is over its l_rss; returns pages. To be called now and then, without locks. */
uint64_t vm_limits_enforce(struct vm *);

/* ---- pressure ---- */
enum vm_pressure {
	PRESSURE_NONE,
	PRESSURE_LOW /* < lotsfree */,
	PRESSURE_HIGH /* < desfree */,
	PRESSURE_CRITICAL /* < minfree */
};
enum vm_pressure vm_pressure(struct vm *);
/*
 * Asked to give memory back when page-out alone does not make ends meet: returns frames freed. Called with locks up to
 * RANK_SLOT held: may free kernel memory and take locks of rank > RANK_SLOT + 6, and must not fault or wait.
 */
struct vm_reaper {
	struct vm_reaper *vr_next; /* the system's */
	uint64_t (*vr_reap)(void *arg, enum vm_pressure level, pfn_t want);
	void *vr_arg;
};
void vm_reaper_add(struct vm *, struct vm_reaper *);
void vm_reaper_remove(struct vm *, struct vm_reaper *);
/*
 * The policy for the day when nothing can be reclaimed: asked once for each allocation that is about to fail, with the same
 * locks as a reaper. OOM_RETRY: something was or is about to be freed, try again (at most OOM_TRIES times); OOM_FAIL: the
 * allocation fails, the fault gives VM_NOMEM. Without a policy it fails.
 */
enum vm_oom { OOM_FAIL, OOM_RETRY };
#define OOM_TRIES 16u
typedef enum vm_oom vm_oom_fn(void *arg, struct vm *, pfn_t want);
void vm_oom_policy(struct vm *, vm_oom_fn *, void *arg);
/* The space that holds most (resident and reserved), for a policy's own thread: a reference is taken. NULL: none. */
struct as *vm_oom_victim(struct vm *);

/* ---- write-back ---- */
/*
 * Looks at nframes/laps frames from where it stopped last and writes the files' dirty pages among them, with their dirty
 * neighbours; returns pages written. Called laps times it has seen every page: what is dirty is on disk then.
 */
uint64_t vm_writeback(struct vm *, unsigned laps);
/* A thread that does so every period / laps nanoseconds, and enforces limits. VM_NOTSUP: no threads here. */
enum vm_err vm_writeback_start(struct vm *, uint64_t period_ns, unsigned laps);
void vm_writeback_stop(struct vm *);
#endif
