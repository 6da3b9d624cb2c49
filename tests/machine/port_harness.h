/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interface between a port and the conformance programs (mach_conform.c, hat_conform.c), which
 * are the same for every machine. Each port defines port_harness in one file of its own and links
 * it with the programs.
 */
#ifndef QUIRE_PORT_HARNESS_H
#define QUIRE_PORT_HARNESS_H

#include <quire/machine.h>
#include <quire/types.h>

struct port_harness {
	const char *ph_name;
	/* Takes the program's argument, which says what kind of machine to make. False: unknown. NULL: there is one kind. */
	bool (*ph_option)(const char *);
	/* A machine with that many frames. NULL: cannot. */
	struct mach *(*ph_create)(pfn_t frames);
	void (*ph_destroy)(struct mach *);
	/*
	 * Addresses that belong to this space alone, len bytes, congruent to want modulo 4 GiB.
	 * NULL if every space has all addresses: the programs then use want itself.
	 */
	vaddr_t (*ph_reserve)(struct mach *, struct hat *, vaddr_t want, uint64_t len);
	/* Runs fn(arg) where mach_thread_create works, until it returns. */
	void (*ph_run)(struct mach *, void (*fn)(void *), void *arg);
	/*
	 * One access as the program of the space makes it, without resolving faults: VM_OK with the
	 * byte read or written, VM_NOMAP if there is no translation that the hardware sees, VM_PROT
	 * if it forbids the access. NULL if single accesses cannot be tried; the programs then
	 * check by hat_probe alone.
	 */
	enum vm_err (*ph_touch)(struct mach *, struct hat *, vaddr_t, bool write, uint8_t *byte);
	/*
	 * One read as the machine's kernel makes it while the space is loaded, of an address of the
	 * kernel's own space: as ph_touch. NULL if the machine has no such space.
	 */
	enum vm_err (*ph_kernel_read)(struct mach *, struct hat *, vaddr_t, uint8_t *byte);
	/*
	 * Checks the port's own caches of translations; reports violations to stderr and returns
	 * their number.
	 */
	unsigned (*ph_check)(struct mach *);
};
extern const struct port_harness port_harness;
#endif
