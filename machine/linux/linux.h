/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Linux machine: address spaces of the core are ranges of this process, translations are real pages moved there.
 *
 * Faults come in one of two ways, chosen for the life of the machine. Served: the program waits in the kernel until some
 * thread that sleeps in poll() on linux_fault_fd() calls linux_serve(). Inline: the faulting thread itself serves the
 * fault in a SIGBUS handler; system calls given a paged-out buffer answer EFAULT then.
 *
 * Calls that can fail answer 0 or -errno. No function here uses the C library's thread state.
 */
#ifndef QUIRE_LINUX_H
#define QUIRE_LINUX_H

#include <quire/machine.h>
#include <quire/types.h>

#include "sys/linux/offer.h"

struct linux_config {
	pfn_t frames; /* number of frame numbers */
	bool inline_faults;
	/*
	 * the hat reports P_REF for written pages, if the kernel tells of writes; then no
	 * translation can keep writers out. See scan.c
	 */
	bool write_bits;
	/*
	 * the caller promises that the kernel holds no plain reference to a page after its unload.
	 * See renew.c
	 */
	bool reuse_held;
	bool forget_on_fork; /* a forked child gets none of the frames */
	/* mach_frames_grant asks this function; NULL: everything is granted */
	pfn_t (*grant)(void *, pfn_t);
	void (*ungrant)(void *, pfn_t);
	void (*lost)(void *,
	    enum vm_err
		why); /* a served fault could not be resolved: its page is poisoned. May be NULL */
	/*
	 * A served fault found no free frame, as most frames are pinned: the function provides
	 * frames beyond the budget. tries: calls for this fault so far. False: no frame could be
	 * provided, and the fault fails. NULL: the fault fails at once.
	 */
	bool (*pinned)(void *, unsigned tries);
	void *arg;
	/* enum sys_offer: features that are not to be used even if the kernel has them */
	uint32_t without;
	/*
	 * /dev/userfaultfd, opened by a privileged process, used where the userfaultfd call is not
	 * permitted; 0: none
	 */
	int device_fd;
	/*
	 * called with each new descriptor: moves it to a number that the program does not use;
	 * NULL: the number stays
	 */
	int (*guard_fd)(int fd);
};

int linux_create(const struct linux_config *, struct mach **);
void linux_destroy(struct mach *);

/*
 * Maps zeroed memory for the machine or its owner. NULL: there is none. The reserve (spare.c)
 * serves the call when the program has used up all mappings.
 */
void *linux_mmap(uint64_t bytes);

/*
 * [addr, +len) is mapped read-write, private and anonymous: from now on the machine serves the
 * faults at its missing pages.
 */
int linux_range_register(struct mach *, struct hat *, uint64_t addr, uint64_t len);
/*
 * Ends linux_range_register for the range. mapping_goes: the caller unmaps or replaces the mapping
 * itself.
 */
void linux_range_unregister(
    struct mach *, struct hat *, uint64_t addr, uint64_t len, bool mapping_goes);
/*
 * Calls mprotect on the range (registered or the kernel's own) while no page of the range is being
 * loaded or unloaded. 0 or -errno.
 */
int linux_range_protect(struct mach *, struct hat *, uint64_t addr, uint64_t len, int prot);
/*
 * Sets bit i of the map if page i is present (a page of zeroes too), clears the bit if not; returns
 * the number of present pages.
 */
uint64_t linux_range_present(struct mach *, uint64_t addr, uint64_t npages, uint64_t *bitmap);
/*
 * Returns how many pages of any range take memory: pages that are present and not the kernel's page
 * of zeroes. 0 if the kernel does not tell.
 */
uint64_t linux_range_resident(struct mach *, uint64_t addr, uint64_t npages);
/* Forgets the translations of the range; contents stay at their addresses, the frames are left empty. */
void linux_range_leave(struct mach *, struct hat *, uint64_t addr, uint64_t len);
/*
 * Called in a forked child before the program's code runs: opens a new fault descriptor and
 * registers every range again.
 */
int linux_after_fork(struct mach *, struct hat *);
/* Closes the descriptors that the forked child inherited. May be called before linux_after_fork. */
void linux_forked(struct mach *);

/*
 * Called shortly before memory is full: protects all pages once, so that the first pages evicted
 * are not pages in use. Does nothing after replacement has begun, or without write bits. The caller
 * holds no lock of the machine; does not sleep.
 */
void linux_expect_replacement(struct mach *);

/* Served faults. */
int linux_fault_fd(struct mach *);
int linux_serve(struct mach *); /* serves the pending faults; returns how many, or -errno */

int linux_fault_tid(struct mach *); /* by the server: the thread whose fault was served last */
/*
 * By the server: total time that threads waited for the faults that linux_serve() served last, from
 * when it read the faults.
 */
uint64_t linux_waited_ns(struct mach *);

/* Inline faults. */
int linux_trap_install(struct mach *);
int linux_space_add(
    struct mach *, struct as *, uint64_t base, uint64_t len); /* -ENOSPC: too many */
void linux_space_remove(struct mach *, struct as *, uint64_t base, uint64_t len);

#endif
