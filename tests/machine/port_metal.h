/* SPDX-License-Identifier: BSD-2-Clause */
/* What the conformance programs' ports to bare machines share: port_metal.c. */
#ifndef QUIRE_PORT_METAL_H
#define QUIRE_PORT_METAL_H

#include "kernel/core/thread.h"
#include "tests/machine/port_harness.h"

#include <quire/hat.h>

/* Given by the port: before the machine's memory is laid out. */
void metal_prepare(void);

struct mach *metal_create(pfn_t frames);
void metal_destroy(struct mach *);
void metal_run(struct mach *, void (*fn)(void *), void *arg);
/* One access of the running CPU, in the kernel; byte: what is written. What traps comes back by arch_trap_hook. */
void metal_access_here(vaddr_t, enum seg_rw, uint8_t byte);
/* Another address of what lies in the image: in the direct map. */
vaddr_t metal_direct(const void *);

/* ---- given by the port, for protect_metal.c, which runs on one CPU ---- */
/* One access while hat's space is loaded. True: it was made. What is executed is a breakpoint, if it is executed at all. */
bool metal_access(struct hat *, vaddr_t, enum seg_rw, bool user);
/*
 * A program with every flag set that it can set comes into the kernel, by a system call or by a fault, and the kernel reads at
 * va before it returns. True: the read was made.
 */
bool metal_read_after(struct hat *, vaddr_t, bool by_call);
/* Calls see for every translation of the root in which no program's space is. */
void metal_foreach(void (*see)(vaddr_t, unsigned attr, bool user));
void metal_fill_breakpoints(void *page);
extern const char metal_text[]; /* a breakpoint in the image's text */
#endif
