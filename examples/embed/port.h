/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef EMBED_PORT_H
#define EMBED_PORT_H

#include <quire/machine.h>
#include <quire/vm.h>

#define EMBED_BASE                                                                                 \
	((vaddr_t)0x100000) /* the addresses of every space: EMBED_SPAN bytes from here */
#define EMBED_SPAN ((uint64_t)16 << 20)

/* Makes a machine with that many frames, and names it in the configuration. */
struct mach *embed_create(pfn_t nframes, struct vm_config *);
void embed_destroy(struct mach *);
/* One access of a program in the space to the 8 bytes at va: faults are served until the access
 * succeeds. */
enum vm_err embed_access(struct as *, vaddr_t va, uint64_t *word, bool write);
#endif
