/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the runtime maps its own memory: see own.c. */
#ifndef QUIRE_LINUX_OWN_H
#define QUIRE_LINUX_OWN_H

#include <stdint.h>

/*
 * Reserves bytes of address space for sys_map_own(). One thread; once. Does nothing if there is no
 * address space.
 */
void sys_own_room(uint64_t bytes);
/*
 * As mmap without an address; returns an address or -errno. prot, flags, fd and off as the
 * kernel's. May be called by any thread, in any state.
 */
long sys_map_own(uint64_t bytes, int prot, int flags, int fd, long off);
#endif
