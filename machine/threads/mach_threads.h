/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine of host threads: frames are one block of host memory, an MMU is a table that threads
 * search themselves. The rest of the cost of a fault is the core's, so this machine serves to
 * measure the core and to test it for races.
 */
#ifndef TESTS_MACH_THREADS_H
#define TESTS_MACH_THREADS_H

#include <quire/machine.h>

#define MT_BASE ((vaddr_t)1 << 32) /* addresses that can be translated: MT_SPAN bytes from here */
#define MT_SPAN ((uint64_t)4 << 30)

struct mach *mt_create(pfn_t nframes);
void mt_destroy(struct mach *);
/* The calling thread reads or writes a word as a program would: faults are served until it can. */
enum vm_err mt_load(struct as *, vaddr_t, uint64_t *value);
enum vm_err mt_store(struct as *, vaddr_t, uint64_t value);
#endif
