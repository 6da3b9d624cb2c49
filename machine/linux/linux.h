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
	pfn_t frames; /* frame numbers there can ever be */
	bool inline_faults;
	bool
	    write_bits; /* P_REF is reported for writes, if the kernel can; then no translation can keep writers out. See scan.c */
	bool
	    reuse_held; /* no page that has left is held by a plain reference of the kernel: the caller's promise. See renew.c */
	bool forget_on_fork;           /* a forked child gets none of the frames */
	pfn_t (*grant)(void *, pfn_t); /* mach_frames_grant asks it; NULL: everything is granted */
	void (*ungrant)(void *, pfn_t);
	void (*lost)(void *,
	    enum vm_err
		why); /* a served fault could not be resolved: its page is poisoned. May be NULL */
	/*
	 * A served fault found no frame, most of memory being pinned: have some beyond what is allowed. tries: how often for this
	 * fault already. False: there is none, and the fault fails. NULL: it fails at once.
	 */
	bool (*pinned)(void *, unsigned tries);
	void *arg;
	uint32_t
	    without;   /* enum sys_offer: what is not to be used, though the kernel may have it */
	int device_fd; /* /dev/userfaultfd, opened by a process that may, for use where the system call is not permitted; 0: none */
	int (*guard_fd)(
	    int fd); /* a descriptor was opened: move it out of the program's way; NULL: keep it */
};

int linux_create(const struct linux_config *, struct mach **);
void linux_destroy(struct mach *);

/* Memory of the machine's own or its owner's, zeroed. NULL: none. There is some also when the program has all mappings. */
void *linux_mmap(uint64_t bytes);

/* [addr, +len) is mapped read-write, private and anonymous: from now on its missing pages fault to us. */
int linux_range_register(struct mach *, struct hat *, uint64_t addr, uint64_t len);
/* No longer. mapping_goes: the caller unmaps or replaces the mapping itself. */
void linux_range_unregister(
    struct mach *, struct hat *, uint64_t addr, uint64_t len, bool mapping_goes);
/* mprotect of the range, which is the kernel's or registered, while no page of it is being loaded or unloaded. 0 or -errno. */
int linux_range_protect(struct mach *, struct hat *, uint64_t addr, uint64_t len, int prot);
/* Sets bit i of the map if page i is there (zero pages too), clears it if not; returns how many are. */
uint64_t linux_range_present(struct mach *, uint64_t addr, uint64_t npages, uint64_t *bitmap);
/* How many pages of any range take memory: are present, and not the kernel's page of zeroes. 0 where the kernel does not tell. */
uint64_t linux_range_resident(struct mach *, uint64_t addr, uint64_t npages);
/* Forgets the translations of the range; contents stay at their addresses, the frames are left empty. */
void linux_range_leave(struct mach *, struct hat *, uint64_t addr, uint64_t len);
/* In a forked child, before anything of the program runs: a fault descriptor of its own, every range registered again. */
int linux_after_fork(struct mach *, struct hat *);
/* Closes the descriptors that the forked child has from its parent. May come before that. */
void linux_forked(struct mach *);

/*
 * Pages will soon have to be replaced: writes are watched from now on, so that the first that go are not in use. Where replacement has
 * begun, or writes are not told, nothing happens. Holds no lock of the machine; does not sleep.
 */
void linux_expect_replacement(struct mach *);

/* Served faults. */
int linux_fault_fd(struct mach *);
int linux_serve(struct mach *); /* serves what is pending; how many faults, or -errno */

int linux_fault_tid(struct mach *); /* by the server: the thread whose fault was served last */
/* By the server: how long the threads waited whose faults linux_serve() served last, from when it heard of them, all together. */
uint64_t linux_waited_ns(struct mach *);

/* Inline faults. */
int linux_trap_install(struct mach *);
int linux_space_add(
    struct mach *, struct as *, uint64_t base, uint64_t len); /* -ENOSPC: too many */
void linux_space_remove(struct mach *, struct as *, uint64_t base, uint64_t len);

#endif
