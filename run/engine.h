/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of the memory engine share: host_quire.c (tracked ranges, adoption), map.c, protect.c, advise.c, remap.c
 * (the calls), share.c (shared anonymous memory), nofork.c (what a child shall not have). Unless said otherwise each function
 * runs on a stack of ours with h_lock held as reader, and answers as the system call would: the value, or a negative errno.
 */
#ifndef QUIRE_RUN_ENGINE_H
#define QUIRE_RUN_ENGINE_H

#include "run/host_quire.h"

long host_errno(enum vm_err); /* 0 or -errno */
unsigned host_core_prot(int prot); /* PROT_* of the kernel's headers as the core's */

/* ---- tracked ranges: host_quire.c ---- */
/* Registers [base, end) and takes over the pages that are there. h_lock W, or h_brklock. */
enum vm_err host_adopt_range(struct host *, uint64_t base, uint64_t end);
/* Charges n pages that became read-write, while not managed. On refusal the process becomes managed. Lets h_lock go meanwhile. */
enum vm_err host_charge(struct host *, uint64_t n);
void host_uncharge(struct host *, uint64_t n);
/* The kernel has mapped [base, base+len): make it ours. The caller unmaps on failure. */
enum vm_err host_track(struct host *, uint64_t base, uint64_t len, int prot, unsigned sa_flags);
/* Forgets what is tracked in the range: contents are dropped, the kernel's mapping stays until the caller changes it. */
enum vm_err host_forget(struct host *, uint64_t base, uint64_t len);
/* Makes [base, end), private and read-write, resident and leaves it to the kernel for good. */
enum vm_err host_release_private(struct host *, uint64_t base, uint64_t end);
/* The same of any piece. Lets h_lock go meanwhile: the piece may be another one afterwards. */
enum vm_err host_release_range(struct host *, const struct piece *);

/* ---- what a child shall not have: nofork.c ---- */
bool host_nofork_add(struct host *, uint64_t base, uint64_t end); /* false: no room in the list */
void host_nofork_remove(struct host *, uint64_t base, uint64_t end);
bool host_nofork_overlaps(struct host *, uint64_t base, uint64_t end);
void host_nofork_to_kernel(struct host *, uint64_t base, uint64_t end); /* the range is the kernel's from now on, and so is this */

/* ---- the calls ---- */
long host_protect_piece(struct host *, const struct piece *, int prot);
long call_mmap(struct host *, long addr, long len, int prot, int flags, int fd, long off);
long call_munmap(struct host *, long addr, long len);
long call_mprotect(struct host *, long addr, long len, int prot);
long call_madvise(struct host *, long addr, long len, int advice);
long call_mremap(struct host *, long old, long oldlen, long newlen, int flags, long newaddr);
long call_brk(struct host *, long addr);
long call_mlock(struct host *, long nr, long addr, long len, long flags);
long call_mincore(struct host *, long addr, long len, long vec);
long call_release(struct host *, uint64_t base, uint64_t len);
#endif
