/* SPDX-License-Identifier: BSD-2-Clause */
/* Declarations shared by the conformance programs' ports to bare machines: port_metal.c. */
#ifndef QUIRE_PORT_METAL_H
#define QUIRE_PORT_METAL_H

#include "kernel/core/thread.h"
#include "tests/machine/port_harness.h"

#include <quire/hat.h>

/* Provided by the port; called before the machine's memory is laid out. */
void metal_prepare(void);

struct mach *metal_create(pfn_t frames);
void metal_destroy(struct mach *);
void metal_run(struct mach *, void (*fn)(void *), void *arg);
/*
 * One access of the running CPU, in the kernel; byte: the byte to write. A trap returns through
 * arch_trap_hook.
 */
void metal_access_here(vaddr_t, enum seg_rw, uint8_t byte);
/* The address in the direct map of an object in the image. */
vaddr_t metal_direct(const void *);

/* ---- given by the port, for protect_metal.c, which runs on one CPU ---- */
/*
 * One access while hat's space is loaded. True: the access succeeded. An executed instruction is a
 * breakpoint.
 */
bool metal_access(struct hat *, vaddr_t, enum seg_rw, bool user);
/*
 * A program that has set every flag that it can set enters the kernel, by a system call or by a
 * fault, and the kernel reads at va before it returns. True: the read succeeded.
 */
bool metal_read_after(struct hat *, vaddr_t, bool by_call);
/* Calls `see` for every translation of the root without a program's space. */
void metal_foreach(void (*see)(vaddr_t, unsigned attr, bool user));
void metal_fill_breakpoints(void *page);
extern const char metal_text[]; /* a breakpoint in the image's text */
#endif
