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
#endif
