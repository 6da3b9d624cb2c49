/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Declarations shared by the files of the memory engine: pieces.c, track.c, adopt.c, release.c
 * (tracked ranges), protect.c, map.c, mprotect.c, advise.c, remap.c (the calls), marks.c (marks on
 * ranges). Unless stated otherwise, each function runs on a stack of the runtime with h_lock held
 * as reader, and returns what the system call would: the value, or a negative errno.
 */
#ifndef QUIRE_RUN_ENGINE_H
#define QUIRE_RUN_ENGINE_H

#include "run/host_quire.h"

long host_errno(enum vm_err);      /* 0 or -errno */
unsigned host_core_prot(int prot); /* converts PROT_* of the kernel's headers to the core's */

/* ---- tracked ranges: track.c, adopt.c, release.c ---- */
/* Registers [base, end) and adopts the pages present in it. h_lock W, or h_brklock. */
enum vm_err host_adopt_range(struct host *, uint64_t base, uint64_t end);
/*
 * Charges n pages that became read-write, while not managed. On refusal the process becomes
 * managed. May release and retake h_lock.
 */
enum vm_err host_charge(struct host *, uint64_t n);
void host_uncharge(struct host *, uint64_t n);
/*
 * Starts to track [base, base+len), which the kernel has mapped. On failure the caller unmaps the
 * range. A range without access becomes CLOSED.
 */
enum vm_err host_track(struct host *, uint64_t base, uint64_t len, int prot, unsigned sa_flags);
/*
 * Makes a segment, still without access, for each CLOSED part of the range. VM_NOMEM: nothing
 * changed.
 */
enum vm_err host_track_closed(struct host *, uint64_t base, uint64_t end);
/*
 * Stops tracking the range: its contents are dropped, and the kernel's mapping stays until the
 * caller changes it.
 */
enum vm_err host_forget(struct host *, uint64_t base, uint64_t len);
/*
 * Makes [base, end), whose segments are read-write, resident and leaves it to the kernel for good.
 */
enum vm_err host_release_range(struct host *, uint64_t base, uint64_t end);

/* ---- marks: marks.c ---- */
bool host_mark(struct host *, enum mark, uint64_t base, uint64_t end); /* false: no room */
/* false: there was no room and no mark changed; of NOFORK, all marks were removed */
bool host_unmark(struct host *, enum mark, uint64_t base, uint64_t end);
bool host_has_marks(const struct host *, enum mark); /* anything is. A hint without h_marklock */
bool host_marked(
    struct host *, enum mark, uint64_t base, uint64_t end); /* is a part of the range marked? */
/* Is addr marked? *end becomes the address where the answer changes, if that lies before *end. */
bool host_marked_at(struct host *, enum mark, uint64_t addr, uint64_t *end);
/* The first marked part of [addr, end). False: no part is marked. */
bool host_next_marked(struct host *, enum mark, uint64_t addr, uint64_t end, struct range *);
void host_nofork_to_kernel(struct host *, uint64_t base,
    uint64_t end); /* the range is the kernel's from now on, and so are its marks */

/* ---- the calls ---- */
/* Changes the protection of one piece; prot is not executable. h_protlock not held. */
long host_protect_piece(struct host *, struct piece *, int prot);
long call_seal(struct host *, uint64_t addr, uint64_t len, long flags);
long call_shmat(struct host *, long id, long addr, long flags, long size);
void call_brk_moved(struct host *);
enum vm_err host_page_in_steps(struct host *, uint64_t base, uint64_t len, enum advice);
long call_mmap(struct host *, long addr, long len, int prot, int flags, int fd, long off);
long call_munmap(struct host *, long addr, long len);
long call_mprotect(struct host *, long addr, long len, int prot);
long call_madvise(struct host *, long addr, long len, int advice);
long call_mremap(struct host *, long old, long oldlen, long newlen, int flags, long newaddr);
long call_brk(struct host *, long addr);
long call_mlock(struct host *, long nr, long addr, long len, long flags);
long call_mincore(struct host *, long addr, long npages, uint8_t *vec);
/*
 * Locks a new mapping if mlockall(MCL_FUTURE) is in force. -EAGAIN: the mapping cannot be locked;
 * the caller removes it.
 */
long host_lock_new(struct host *, uint64_t base, uint64_t len);
/*
 * Locks in the core the memory that mlock locked earlier: before the process was managed (h_lock
 * W), or before the memory was opened.
 */
enum vm_err host_lock_marked(struct host *, uint64_t base, uint64_t end);
long call_release(struct host *, uint64_t base, uint64_t len);
/* Leaves a piece to the kernel as it is. 0 or -errno. */
long host_leave_piece(struct host *, struct piece *);
#endif
